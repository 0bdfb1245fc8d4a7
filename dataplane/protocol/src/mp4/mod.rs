//! Fragmented MP4 with one video track (ISO/IEC 14496-12, 14496-15): what the recorder writes and the player reads.
//!
//! A file is an init segment (`ftyp`, `uuid`, `moov`) and fragments (`prft`, `moof`, `mdat`) behind one another. No durations
//! and no index of the file are in it, so it can be played at every moment while it grows. `prft` has the time of day of the
//! fragment. Not here: files, where fragments are cut, what the times mean.
//!
//! To read a file: [`parse_init`] at its start, then [`parse_fragment_header`] behind it, and again behind
//! [`Parsed::Whole::bytes`] + [`FragmentHeader::sample_bytes`], to the file's end. `Incomplete` at the end of a file is a
//! fragment that was never finished.

mod boxes;
mod configuration;
mod fragment;
mod init;
mod ntp;

pub use fragment::{
    MAX_BASE_DECODE_90K, MAX_FRAGMENT_BYTES, MAX_FRAGMENT_HEADER_BYTES, MAX_FRAGMENT_SAMPLES,
    parse_fragment_header, write_fragment_header,
};
pub use init::{MAX_INIT_BYTES, parse_init, write_init};
pub use ntp::{MAX_UNIX_MS, MIN_UNIX_MS};

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
    /// When the file was begun, UTC. Comes back exactly.
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
    /// Time of day at `base_decode_90k`, UTC. Comes back exactly from [`MIN_UNIX_MS`] to [`MAX_UNIX_MS`].
    pub unix_ms: i64,
    /// Its samples in decode order.
    pub samples: Vec<Sample>,
}

impl FragmentHeader {
    /// Bytes of all samples: what follows the header, up to the next fragment.
    pub fn sample_bytes(&self) -> u64 {
        self.samples.iter().map(|sample| u64::from(sample.bytes)).sum()
    }

    /// Ticks from the first sample's decode time to the next fragment's.
    pub fn duration_90k(&self) -> u64 {
        self.samples.iter().map(|sample| u64::from(sample.duration_90k)).sum()
    }
}

/// A part of a file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// More is needed: this many bytes from the part's start at the least.
    Incomplete {
        /// From the part's start; more than there were, and never over the part's bound ([`MAX_INIT_BYTES`],
        /// [`MAX_FRAGMENT_HEADER_BYTES`]).
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

/// The one track of a file.
const TRACK_ID: u32 = 1;
