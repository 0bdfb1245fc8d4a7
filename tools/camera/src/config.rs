//! What a camera is told to be: every setting of [`crate::serve`] that is not a fault (those are in `faults.rs`).
//! Parsing of command lines does not belong here.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::faults::Faults;

/// Everything a camera process serves. `CameraConfig::default()` is one well-behaved H.264 camera on a free port.
#[derive(Clone, Debug)]
pub struct CameraConfig {
    /// Address of the RTSP listener; port 0 takes a free one. UDP media leaves from the same IP address.
    pub bind: SocketAddr,
    /// Mount points without the leading slash, one camera each.
    pub names: Vec<String>,
    /// What the cameras encode. With [`Codecs::Both`] even mount points are H.264, odd ones H.265.
    pub codecs: Codecs,
    /// What the cameras show.
    pub picture: Picture,
    /// Pictures per 1000 seconds, so 25 fps is 25 000. From 1 000 to 1 000 000.
    pub fps_milli: u64,
    /// How the picture is enlarged to a wanted load.
    pub load: Load,
    /// Puts a send-time stamp ([`crate::stamp`]) into each access unit.
    pub stamp: bool,
    /// Spreads the mount points' ticks over the frame interval instead of firing all in one instant.
    pub spread: bool,
    /// Which transports SETUP accepts; the others get 461.
    pub transports: Transports,
    /// Who may watch. `None` asks nobody.
    pub credentials: Option<Credentials>,
    /// Offers a PCMU silence track before the video track.
    pub with_audio: bool,
    /// Largest RTP packet, header included, in bytes.
    pub packet_bytes_max: usize,
    /// Aggregates small leading NAL units (STAP-A, AP); otherwise each goes alone.
    pub aggregate: bool,
    /// What goes wrong.
    pub faults: Faults,
    /// Seed of everything random: SSRC, first sequence number and timestamp, loss. `None` takes the clock.
    pub seed: Option<u64>,
}

impl Default for CameraConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            names: Self::numbered_names(1),
            codecs: Codecs::H264,
            picture: Picture::BuiltIn,
            fps_milli: 25_000,
            load: Load::default(),
            stamp: false,
            spread: true,
            transports: Transports::Both,
            credentials: None,
            with_audio: false,
            packet_bytes_max: 1400,
            aggregate: true,
            faults: Faults::default(),
            seed: None,
        }
    }
}

impl CameraConfig {
    /// `cam0` to `cam{count - 1}`.
    pub fn numbered_names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("cam{index}")).collect()
    }

    /// The codec of the mount point at `index`.
    pub fn codec_of(&self, index: usize) -> Codec {
        match self.codecs {
            Codecs::H264 => Codec::H264,
            Codecs::H265 => Codec::H265,
            Codecs::Both if index.is_multiple_of(2) => Codec::H264,
            Codecs::Both => Codec::H265,
        }
    }
}

/// A video codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264, payload format RFC 6184.
    H264,
    /// H.265, payload format RFC 7798.
    H265,
}

/// What the mount points encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codecs {
    /// All H.264.
    H264,
    /// All H.265.
    H265,
    /// Even mount points H.264, odd ones H.265.
    Both,
}

/// What the cameras show.
#[derive(Clone, Debug)]
pub enum Picture {
    /// The embedded test picture with a running clock.
    BuiltIn,
    /// A file: Annex B (.h264 .264 .h265 .hevc .265), or anything that an installed `ffmpeg` can copy to it.
    File(PathBuf),
}

/// How access units are enlarged. The pictures stay decodable: only SEI or filler NAL units are added.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Wanted bits per second of NAL units, averaged over the loop (RTP headers come on top).
    pub bitrate: Option<u64>,
    /// Wanted seconds between IDR pictures, 1 to 30; takes the embedded long picture.
    pub gop_seconds: Option<u64>,
    /// Least bytes of an access unit with an IDR picture.
    pub idr_bytes: Option<usize>,
    /// What the added bytes are.
    pub filler: Filler,
}

/// The kind of bytes that enlarge an access unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filler {
    /// A `user_data_unregistered` SEI, which a relay has to carry.
    #[default]
    Sei,
    /// Filler data NAL units (H.264 type 12, H.265 type 38), which a relay may drop.
    Nal,
}

/// Which transports SETUP accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transports {
    /// Interleaved in the RTSP connection only.
    Tcp,
    /// UDP unicast only.
    Udp,
    /// Both.
    Both,
}

impl Transports {
    pub(crate) fn tcp(self) -> bool {
        self != Self::Udp
    }

    pub(crate) fn udp(self) -> bool {
        self != Self::Tcp
    }
}

/// A user who may watch, and how the user proves it.
#[derive(Clone)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
    /// What the camera asks for.
    pub scheme: AuthScheme,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

/// RTSP authentication schemes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthScheme {
    /// RFC 7617.
    Basic,
    /// RFC 2069, as most cameras do it: MD5, no `qop`.
    DigestMd5,
    /// RFC 7616: SHA-256, `qop=auth`.
    DigestSha256,
}
