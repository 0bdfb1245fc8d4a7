//! The recorder of one stream: access units in, fragments out, in files of a minute.
//!
//! It says what to open, write, synchronize and close, and is told how that went. One write is under way at a time; what waits
//! is bounded in bytes, and beyond that whole GOPs are dropped and counted. Not here: files, names, the catalogue.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lanecast_protocol::codec::Codec;
use lanecast_protocol::rtcp::SenderReport;
use lanecast_relay::access_unit::AccessUnit;

use crate::keyframes::Keyframe;
use crate::segment::{OpenSegment, SegmentId};

/// Settings of all recorders.
#[derive(Clone, Copy, Debug)]
pub struct RecorderConfig {
    /// A file is cut at the first keyframe after this.
    pub segment: Duration,
    /// A fragment is cut after this even where no keyframe comes.
    pub fragment_max: Duration,
    /// What is written is made durable this often; zero: after every fragment; `None`: left to the system.
    pub sync_interval: Option<Duration>,
    /// Bytes of fragments that may wait to be written.
    pub queue_bytes_max: usize,
}

impl Default for RecorderConfig {
    fn default() -> Self {
        Self {
            segment: Duration::from_secs(60),
            fragment_max: Duration::from_secs(2),
            sync_interval: Some(Duration::from_secs(2)),
            queue_bytes_max: 32 << 20,
        }
    }
}

/// What the driver should do.
#[derive(Clone, Debug)]
pub enum RecorderOutput {
    /// Have a file made; answer with [`Recorder::handle_opened`].
    Open {
        /// Number of the question, to come back in the answer.
        ticket: u64,
        /// Time of its first picture, UTC.
        start_unix_ms: i64,
        /// What is in it.
        codec: Codec,
    },
    /// Write; answer with [`Recorder::handle_written`].
    Write {
        /// To which file.
        segment: SegmentId,
        /// Where, bytes from its start.
        offset: u64,
        /// What, one piece behind the other; at most 256 pieces.
        chunks: Vec<Bytes>,
    },
    /// Make durable what was written; answer with [`Recorder::handle_synced`].
    Sync {
        /// Which file.
        segment: SegmentId,
    },
    /// The file is done: truncate it to `bytes`, close it, and tell the catalogue.
    Close(ClosedSegment),
    /// The state has changed.
    Status(RecordingStatus),
}

/// A segment that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedSegment {
    /// Which.
    pub segment: SegmentId,
    /// Time of its first picture, UTC.
    pub start_unix_ms: i64,
    /// End of its last picture, UTC.
    pub end_unix_ms: i64,
    /// Bytes of whole fragments; what the file has behind them is torn.
    pub bytes: u64,
    /// Its keyframes. Empty: nothing playable is in it, remove it.
    pub keyframes: Vec<Keyframe>,
}

/// How the recording goes, for an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RecordingStatus {
    /// Nothing was asked for.
    #[default]
    Off,
    /// It waits for pictures, or for its file.
    Waiting,
    /// Pictures are recorded.
    Recording,
    /// The disk does not take it; it is tried again.
    Failed(String),
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecorderStatistics {
    /// Access units taken.
    pub access_units: u64,
    /// Fragments written.
    pub fragments: u64,
    /// Files begun.
    pub segments: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// GOPs dropped because the disk did not keep up or failed.
    pub dropped_gops: u64,
    /// Bytes of them.
    pub dropped_bytes: u64,
    /// Writes, opens and syncs that failed.
    pub errors: u64,
    /// Gauge: bytes in memory that are not in a file.
    pub queued_bytes: u64,
}

/// The recorder.
#[derive(Debug)]
pub struct Recorder {}

impl Recorder {
    /// Nothing recorded yet. Counts its tickets from `first_ticket`.
    pub fn new(_config: RecorderConfig, _first_ticket: u64) -> Self {
        unimplemented!()
    }

    /// The camera plays (anew): its RTP clock begins anew, at this rate.
    pub fn handle_playing(&mut self, _now: Instant, _clock_rate_hz: u32) {
        unimplemented!()
    }

    /// A sender report of the camera.
    pub fn handle_sender_report(&mut self, _now: Instant, _system_unix_ms: i64, _report: SenderReport) {
        unimplemented!()
    }

    /// The next access unit, in decode order.
    pub fn handle_access_unit(&mut self, _now: Instant, _system_unix_ms: i64, _unit: AccessUnit) {
        unimplemented!()
    }

    /// The file of this ticket is there, or why not.
    pub fn handle_opened(&mut self, _now: Instant, _ticket: u64, _result: Result<SegmentId, String>) {
        unimplemented!()
    }

    /// The write under way has ended: bytes taken, or why none.
    pub fn handle_written(&mut self, _now: Instant, _segment: SegmentId, _result: Result<usize, String>) {
        unimplemented!()
    }

    /// The sync under way has ended.
    pub fn handle_synced(&mut self, _now: Instant, _segment: SegmentId, _result: Result<(), String>) {
        unimplemented!()
    }

    /// The file is not where it was any more: go on in a new one.
    pub fn handle_lost(&mut self, _now: Instant, _segment: SegmentId) {
        unimplemented!()
    }

    /// No more pictures come: what is there is written and closed. [`Recorder::is_over`] tells when it is.
    pub fn stop(&mut self, _now: Instant) {
        unimplemented!()
    }

    /// True once all is written and closed after [`Recorder::stop`].
    pub fn is_over(&self) -> bool {
        unimplemented!()
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, _now: Instant) {
        unimplemented!()
    }

    /// When to call [`Recorder::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// What to do next, until `None`.
    pub fn poll_output(&mut self) -> Option<RecorderOutput> {
        unimplemented!()
    }

    /// A segment that is written, or was closed lately (the last four), for the players.
    pub fn segment(&self, _segment: SegmentId) -> Option<Rc<OpenSegment>> {
        unimplemented!()
    }

    /// Time of the newest picture, UTC: where the past ends.
    pub fn newest_unix_ms(&self) -> Option<i64> {
        unimplemented!()
    }

    /// Counters.
    pub fn statistics(&self) -> RecorderStatistics {
        unimplemented!()
    }
}
