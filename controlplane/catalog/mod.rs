//! The catalogue: which recordings there are. One SQLite file beside them, one worker thread, which also makes, closes, opens
//! and removes their files, so that no shard waits for a disk.
//!
//! Files are the truth; the catalogue can be rebuilt from them. A segment's file is
//! `<recordings>/<folder of the stream>/<UTC day>/<UTC start>.mp4`.

use std::path::PathBuf;
use std::time::Duration;

use lanecast_shard::{ClosedSegment, SegmentId, StreamId, Wanted};

use crate::shards::Shard;
use crate::source_id::SourceId;

/// Settings of the catalogue.
#[derive(Clone, Debug)]
pub struct CatalogSettings {
    /// The folder of all recordings; the catalogue is in it.
    pub folder: PathBuf,
    /// What is kept.
    pub retention: Retention,
}

/// What is kept; the oldest goes first. `None`: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Nothing older than this.
    pub age_max: Option<Duration>,
    /// Bytes of one stream.
    pub stream_bytes_max: Option<u64>,
    /// Bytes of all streams.
    pub bytes_max: Option<u64>,
    /// Bytes that stay free on the disk.
    pub free_bytes_min: Option<u64>,
}

/// The catalogue cannot do what it should.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogError {
    /// A file or folder.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// SQLite refuses.
    #[error("{path}: {reason}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Too much waits for it, or it is closed.
    #[error("the catalogue is busy")]
    Busy,
}

/// A time without a gap in which a stream was recorded in one codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Begin, UTC.
    pub start_unix_ms: i64,
    /// End, UTC; what is written at the moment ends now.
    pub end_unix_ms: i64,
    /// Bytes in its files, whole files counted.
    pub bytes: u64,
    /// What is in them.
    pub codec: lanecast_protocol::codec::Codec,
}

/// What was freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Files.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// All recordings of a stream in a few numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Time of the oldest picture, UTC.
    pub first_unix_ms: Option<i64>,
    /// Bytes of all files that are done.
    pub bytes: u64,
    /// Number of files.
    pub segments: u64,
}

/// The control plane's end of the worker. Every call returns at once; what answers goes to a shard, or is awaited.
#[derive(Debug)]
pub struct Catalog {}

impl Catalog {
    /// Opens the catalogue and mends what an end without warning left behind, in time proportional to the files that were
    /// being written. Blocks.
    ///
    /// # Errors
    /// When the folder or the database cannot be had.
    pub fn open(_settings: CatalogSettings) -> Result<Self, CatalogError> {
        unimplemented!()
    }

    /// Makes a file; the shard hears of it by `Command::SegmentOpened`.
    pub fn open_segment(
        &self,
        _shard: &Shard,
        _stream: StreamId,
        _source_id: &SourceId,
        _ticket: u64,
        _start_unix_ms: i64,
        _codec: lanecast_protocol::codec::Codec,
    ) {
        unimplemented!()
    }

    /// A file is done.
    pub fn close_segment(&self, _closed: ClosedSegment) {
        unimplemented!()
    }

    /// Finds and opens a segment; the shard hears of it by `Command::Located`.
    pub fn locate(&self, _shard: &Shard, _request: u64, _source_id: &SourceId, _wanted: Wanted) {
        unimplemented!()
    }

    /// Such a segment cannot be played; it is skipped from now on.
    pub fn damaged(&self, _segment: SegmentId, _reason: String) {
        unimplemented!()
    }

    /// The spans that touch `from..to` (UTC ms), oldest first; gaps are what is between them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn timeline(
        &self,
        _source_id: &SourceId,
        _from_unix_ms: i64,
        _to_unix_ms: i64,
    ) -> Result<Vec<Span>, CatalogError> {
        unimplemented!()
    }

    /// Whether anything of a stream is recorded at this time (UTC ms) or later: whether [`Catalog::locate`] would find a
    /// segment.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn has(&self, _source_id: &SourceId, _unix_ms: i64) -> Result<bool, CatalogError> {
        unimplemented!()
    }

    /// Removes whole segments inside `from..to` (UTC ms); never the one that is written.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remove(
        &self,
        _source_id: &SourceId,
        _from_unix_ms: i64,
        _to_unix_ms: i64,
    ) -> Result<Freed, CatalogError> {
        unimplemented!()
    }

    /// What there is of a stream; no waiting.
    pub fn summary(&self, _source_id: &SourceId) -> Summary {
        unimplemented!()
    }

    /// Writes what is under way and ends the worker. Blocks.
    pub fn close(self) {
        unimplemented!()
    }
}

/// Makes the catalogue anew from the files (`lanecast catalog rebuild`). Gives the number of segments. Blocks.
///
/// # Errors
/// When the folder or the database cannot be had.
pub fn rebuild(_settings: &CatalogSettings) -> Result<u64, CatalogError> {
    unimplemented!()
}
