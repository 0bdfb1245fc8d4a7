//! Video payload formats: NAL units out of RTP packets, and what parameter sets say.

mod annex_b;
mod depacketizer;
mod h264;
mod h265;
mod nal;
mod parameter_sets;

pub use annex_b::{has_start_code, split as split_annex_b};
pub use depacketizer::{Depacketized, Depacketizer, DepacketizerStatistics};
pub use nal::{Nal, NalClass};
pub use parameter_sets::{ParameterSets, VideoShape};

/// The video codecs that we carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264 (RFC 6184).
    H264,
    /// H.265 (RFC 7798).
    H265,
}

impl Codec {
    /// The name as `a=rtpmap` spells it.
    pub fn rtpmap_name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::H265 => "H265",
        }
    }
}
