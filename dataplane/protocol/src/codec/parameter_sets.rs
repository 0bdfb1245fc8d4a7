//! VPS, SPS and PPS of a stream: kept by id, and what they say (picture size, profile).

use bytes::Bytes;

use super::{Codec, Nal};

/// What the active sequence parameter set says of the pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoShape {
    /// Width after cropping, in pixels.
    pub width: u32,
    /// Height after cropping, in pixels.
    pub height: u32,
    /// H.264: `profile-level-id` as six hex digits. H.265: empty.
    pub profile_level_id: String,
}

/// The newest parameter sets of one stream, as NAL units with header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSets {
    codec: Codec,
}

impl ParameterSets {
    /// None yet.
    pub fn new(codec: Codec) -> Self {
        Self { codec }
    }

    /// The codec they are of.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Takes a VPS, SPS or PPS; true if it differs from what was kept under its id. Broken ones are refused (false).
    pub fn handle_nal(&mut self, _nal: &Nal) -> bool {
        false
    }

    /// True when a decoder can start: H.264 SPS and PPS, H.265 VPS, SPS and PPS.
    pub fn is_complete(&self) -> bool {
        false
    }

    /// All in sending order: VPS, SPS, PPS, each kind by id.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::empty()
    }

    /// What the first SPS says; `None` without one that can be read.
    pub fn shape(&self) -> Option<VideoShape> {
        None
    }
}
