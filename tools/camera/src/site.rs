//! What all connections of a camera process share: mount points, UDP sockets, the clock grid.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::clip::Clip;
use crate::config::{CameraConfig, Codec, Picture};
use crate::load;
use crate::reel::Reel;
use crate::stream::Cadence;

/// The mount points and what they show.
#[derive(Debug)]
pub(crate) struct Site {
    pub config: CameraConfig,
    pub mounts: Vec<Mount>,
    /// Ports that UDP media and reports leave from.
    pub udp_ports: Option<(u16, u16)>,
}

/// One camera.
#[derive(Debug)]
pub(crate) struct Mount {
    pub name: String,
    /// The picture, and the one of another size.
    pub reels: [Arc<Reel>; 2],
    /// When in the frame interval its pictures are due.
    pub phase: Duration,
}

impl Site {
    /// Checks `config` and packetizes its pictures.
    pub fn new(config: CameraConfig, udp_ports: Option<(u16, u16)>) -> anyhow::Result<Self> {
        check(&config)?;
        let (mut h264, mut h265) = (None, None);
        let mut reels_of = |codec: Codec| -> anyhow::Result<[Arc<Reel>; 2]> {
            let prepared = match codec {
                Codec::H264 => &mut h264,
                Codec::H265 => &mut h265,
            };
            match prepared {
                Some(reels) => Ok(<[Arc<Reel>; 2]>::clone(reels)),
                None => Ok(prepared.insert(reels(&config, codec)?).clone()),
            }
        };
        let interval = Cadence { fps_milli: config.fps_milli }.time(1);
        let count = config.names.len() as u32;
        let mut mounts = Vec::with_capacity(config.names.len());
        for (index, name) in config.names.iter().enumerate() {
            let phase = if config.spread { interval * index as u32 / count } else { Duration::ZERO };
            mounts.push(Mount { name: name.clone(), reels: reels_of(config.codec_of(index))?, phase });
        }
        Ok(Self { config, mounts, udp_ports })
    }

    /// The mount point of a request's path, and the track's part of that path.
    pub fn find<'a>(&self, path: &'a str) -> Option<(usize, Option<&'a str>)> {
        let path = path.trim_matches('/');
        let (name, control) = match path.rsplit_once('/') {
            Some((name, control)) if control.starts_with("trackID=") => (name, Some(control)),
            _ => (path, None),
        };
        self.mounts.iter().position(|mount| mount.name == name).map(|index| (index, control))
    }

    /// What a client on this machine types.
    pub fn urls(&self, listening: SocketAddr) -> Vec<String> {
        let ip = match listening.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let authority = SocketAddr::new(ip, listening.port());
        self.mounts.iter().map(|mount| format!("rtsp://{authority}/{}", mount.name)).collect()
    }
}

fn check(config: &CameraConfig) -> anyhow::Result<()> {
    ensure!(!config.names.is_empty(), "no mount point");
    for (index, name) in config.names.iter().enumerate() {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
        ensure!(
            is_plain && name.trim_matches('/') == name && !name.is_empty(),
            "bad mount point name {name:?}"
        );
        ensure!(!config.names[..index].contains(name), "two mount points are named {name:?}");
    }
    ensure!((1_000..=1_000_000).contains(&config.fps_milli), "pictures per second must be 1 to 1000");
    for bytes in [Some(config.packet_bytes_max), config.faults.oversize_packets].into_iter().flatten() {
        ensure!((64..=65_535).contains(&bytes), "an RTP packet has 64 to 65535 bytes, not {bytes}");
    }
    ensure!((0.0..=100.0).contains(&config.faults.loss_percent), "loss is 0 to 100 per cent");
    ensure!(
        config.load.idr_bytes.is_none_or(|bytes| bytes <= IDR_BYTES_MAX),
        "an IDR picture has at most {IDR_BYTES_MAX} bytes"
    );
    ensure!(
        config.load.bitrate.is_none_or(|bitrate| bitrate <= BITRATE_MAX),
        "a bitrate is at most {BITRATE_MAX} b/s"
    );
    Ok(())
}

/// Both reels of a codec, as the config wants them.
fn reels(config: &CameraConfig, codec: Codec) -> anyhow::Result<[Arc<Reel>; 2]> {
    let clip = match (&config.picture, config.load.gop_seconds) {
        (Picture::File(path), _) => Clip::read(path, config.codecs)?,
        (Picture::BuiltIn, Some(_)) => Clip::built_in_long(codec),
        (Picture::BuiltIn, None) => Clip::built_in(codec),
    };
    let file_codec = clip.codec;
    ensure!(
        file_codec == codec || matches!(config.picture, Picture::File(_)) && config.names.len() == 1,
        "the file is {file_codec:?}, not {codec:?}"
    );
    let clip = load::enlarge(clip, &config.load, config.fps_milli).context("cannot make the wanted load")?;
    let reel = Arc::new(Reel::new(&clip, config));
    let small = match config.faults.change_resolution_every {
        Some(_) => Arc::new(Reel::new(&Clip::built_in_small(file_codec), config)),
        None => Arc::clone(&reel),
    };
    Ok([reel, small])
}

/// More would not fit the memory of a loop of half a minute.
const BITRATE_MAX: u64 = 1_000_000_000;
/// As large as no picture of a camera is.
const IDR_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn site(names: &[&str]) -> anyhow::Result<Site> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Site::new(CameraConfig { names, ..CameraConfig::default() }, None)
    }

    #[test]
    fn a_path_names_a_mount_point_and_maybe_a_track() {
        let site = site(&["cam0", "yard/front"]).unwrap();
        assert_eq!(site.find("/cam0"), Some((0, None)));
        assert_eq!(site.find("/yard/front/"), Some((1, None)));
        assert_eq!(site.find("/yard/front/trackID=1"), Some((1, Some("trackID=1"))));
        assert_eq!(site.find("/cam1"), None);
        assert_eq!(site.find("/"), None);
    }

    #[test]
    fn cameras_share_their_pictures_but_not_their_instants() {
        let site = site(&["a", "b"]).unwrap();
        assert!(Arc::ptr_eq(&site.mounts[0].reels[0], &site.mounts[1].reels[0]));
        assert_eq!(site.mounts[0].phase, Duration::ZERO);
        assert_eq!(site.mounts[1].phase, Duration::from_millis(20));
    }

    #[test]
    fn bad_settings_are_refused() {
        assert!(site(&[]).is_err());
        assert!(site(&["a", "a"]).is_err());
        assert!(site(&["a b"]).is_err());
        assert!(site(&["/a"]).is_err());
        let too_large = CameraConfig { packet_bytes_max: 70_000, ..CameraConfig::default() };
        assert!(Site::new(too_large, None).is_err());
    }

    #[test]
    fn urls_are_for_this_machine() {
        let site = site(&["cam0"]).unwrap();
        assert_eq!(site.urls("0.0.0.0:554".parse().unwrap()), ["rtsp://127.0.0.1:554/cam0"]);
        assert_eq!(site.urls("[::1]:8554".parse().unwrap()), ["rtsp://[::1]:8554/cam0"]);
    }
}
