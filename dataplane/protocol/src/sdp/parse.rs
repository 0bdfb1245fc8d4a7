//! A camera's answer to DESCRIBE: its first video track that we can carry.

use url::Url;

use crate::codec::Codec;

/// Why a description is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Not SDP at all.
    #[error("the camera's SDP cannot be read: {0}")]
    Malformed(String),
    /// No `m=video`.
    #[error("the camera offers no video")]
    NoVideo,
    /// Video, but no codec of ours.
    #[error("the camera's video codec {0} is not supported")]
    UnsupportedCodec(String),
}

/// The video track that we will set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoTrack {
    /// The codec.
    pub codec: Codec,
    /// Payload type of its packets.
    pub payload_type: u8,
    /// Clock rate in Hz; 90000 but for cameras that err.
    pub clock_rate_hz: u32,
    /// Where SETUP goes.
    pub control: Url,
    /// Parameter sets of `sprop-*`, as NAL units; broken ones are left out.
    pub parameter_sets: Vec<bytes::Bytes>,
}

/// What we need of a presentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presentation {
    /// Where PLAY, keepalive and TEARDOWN go (aggregate control).
    pub control: Url,
    /// The video track.
    pub video: VideoTrack,
}

impl Presentation {
    /// Reads `sdp`; relative controls are resolved against `base` (Content-Base, Content-Location or request URL).
    pub fn parse(_sdp: &[u8], _base: &Url) -> Result<Self, SdpError> {
        Err(SdpError::NoVideo)
    }
}
