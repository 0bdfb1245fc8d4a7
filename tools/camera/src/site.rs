//! What all connections of a camera process share: mount points, UDP sockets, the clock grid.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::clip::Clip;
use crate::config::{CameraConfig, Codec, Codecs, Picture};
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
        let pictures = Pictures::new(&config)?;
        let interval = Cadence { fps_milli: config.fps_milli }.time(1);
        let count = config.names.len() as u32;
        let mounts = (0..)
            .zip(&config.names)
            .map(|(index, name)| Mount {
                name: name.clone(),
                reels: pictures.of(config.codec_of(index as usize)).clone(),
                phase: if config.spread { interval * index / count } else { Duration::ZERO },
            })
            .collect();
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
    config.faults.media.check()?;
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

/// What each codec's cameras show: a picture, and one of another size.
enum Pictures {
    /// All cameras show the same; a file is of one codec, whatever was asked for.
    One([Arc<Reel>; 2]),
    PerCodec {
        h264: [Arc<Reel>; 2],
        h265: [Arc<Reel>; 2],
    },
}

impl Pictures {
    fn new(config: &CameraConfig) -> anyhow::Result<Self> {
        if let Picture::File(path) = &config.picture {
            let clip = Clip::read(path, config.codecs)?;
            let codec = clip.codec;
            let is_wanted = match config.codecs {
                Codecs::H264 => codec == Codec::H264,
                Codecs::H265 => codec == Codec::H265,
                Codecs::Both => true,
            };
            ensure!(is_wanted, "{} is {codec:?}, which is not what was asked for", path.display());
            return Ok(Self::One(reels(config, clip)?));
        }
        let built_in = |codec| match config.load.gop_seconds {
            Some(_) => reels(config, Clip::built_in_long(codec)),
            None => reels(config, Clip::built_in(codec)),
        };
        Ok(match config.codecs {
            Codecs::H264 => Self::One(built_in(Codec::H264)?),
            Codecs::H265 => Self::One(built_in(Codec::H265)?),
            Codecs::Both => Self::PerCodec { h264: built_in(Codec::H264)?, h265: built_in(Codec::H265)? },
        })
    }

    fn of(&self, codec: Codec) -> &[Arc<Reel>; 2] {
        match (self, codec) {
            (Self::One(reels), _) => reels,
            (Self::PerCodec { h264, .. }, Codec::H264) => h264,
            (Self::PerCodec { h265, .. }, Codec::H265) => h265,
        }
    }
}

/// `clip` as a reel, and the reel to switch to.
fn reels(config: &CameraConfig, clip: Clip) -> anyhow::Result<[Arc<Reel>; 2]> {
    let codec = clip.codec;
    let clip = load::enlarge(clip, &config.load, config.fps_milli).context("cannot make the wanted load")?;
    let reel = Arc::new(Reel::new(&clip, config));
    let is_small_wanted = config.faults.change_resolution_every.is_some() || config.faults.media.wrong_sprop;
    let other = match is_small_wanted {
        true => Arc::new(Reel::new(&Clip::built_in_small(codec), config)),
        false => Arc::clone(&reel),
    };
    Ok([reel, other])
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
