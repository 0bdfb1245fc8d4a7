//! Fragmented MP4 with one video track (ISO/IEC 14496-12, 14496-15): what the recorder writes and the player reads.
//!
//! A file is an init segment (`ftyp`, `moov`) and fragments (`prft`, `moof`, `mdat`) behind one another. `prft` has the time of
//! day of the fragment. Not here: files, where fragments are cut, what the times mean.

use bytes::Bytes;

use crate::codec::ParameterSets;

/// Ticks per second of all media times.
pub const TIMESCALE: u32 = 90_000;

/// What an init segment says.
#[derive(Clone, Debug, PartialEq)]
pub struct InitSegment {
    /// The codec and its parameter sets (`avc1`/`hvc1`: out of band).
    pub parameter_sets: ParameterSets,
    /// Picture width in pixels.
    pub width: u16,
    /// Picture height in pixels.
    pub height: u16,
    /// When the file was begun, UTC.
    pub creation_unix_ms: i64,
}

/// A picture in a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Length.
    pub bytes: u32,
    /// Ticks until the next one is decoded.
    pub duration_90k: u32,
    /// Ticks from its decode time to its presentation; may be negative.
    pub composition_offset_90k: i32,
    /// A decoder can start here.
    pub sync: bool,
}

/// What stands before the samples of a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentHeader {
    /// Counts from 1 in a file.
    pub sequence_number: u32,
    /// Decode time of the first sample, from the file's start.
    pub base_decode_90k: u64,
    /// Time of day at `base_decode_90k`, UTC.
    pub unix_ms: i64,
    /// Its samples in decode order.
    pub samples: Vec<Sample>,
}

/// A part of a file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// More is needed: this many bytes from the part's start at the least.
    Incomplete {
        /// From the part's start.
        bytes_wanted: usize,
    },
    /// It is whole.
    Whole {
        /// What it says.
        part: T,
        /// Its bytes: the samples of a fragment follow.
        bytes: usize,
    },
}

/// It is no file of ours, or a damaged one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct Mp4Error {
    /// What is wrong.
    pub what: &'static str,
    /// Bytes from the part's start.
    pub offset: usize,
}

/// The init segment.
pub fn write_init(_init: &InitSegment) -> Bytes {
    unimplemented!()
}

/// `prft`, `moof` and the header of `mdat`; the samples' bytes follow.
pub fn write_fragment_header(_header: &FragmentHeader) -> Bytes {
    unimplemented!()
}

/// The init segment at the start of `bytes`.
///
/// # Errors
/// Where it is none.
pub fn parse_init(_bytes: &[u8]) -> Result<Parsed<InitSegment>, Mp4Error> {
    unimplemented!()
}

/// The header of the fragment at the start of `bytes`.
///
/// # Errors
/// Where it is none.
pub fn parse_fragment_header(_bytes: &[u8]) -> Result<Parsed<FragmentHeader>, Mp4Error> {
    unimplemented!()
}
