//! The recorder of one stream: access units in, fragments out, in files of a minute.
//!
//! Call a `handle_*` with what happened, then [`Recorder::poll_output`] until `None`, then wait until
//! [`Recorder::poll_timeout`]. It says what to open, write, synchronize and close, and is told how that went. One write or sync
//! is under way at a time.
//!
//! A file begins with a random access point; another one begins at the first keyframe after a minute, with other parameter
//! sets, at a jump of the clock and when the camera begins anew. Where the clock jumps within a GOP, the GOP is finished by the
//! old clock.
//!
//! What waits to be written is bounded in bytes. Beyond that the *newest* are dropped, up to a keyframe that comes when half of
//! it is free again: what waits continues what is in the file, so that one gap remains of a time of trouble, and no file of
//! every GOP. A GOP may lose its end, never anything before that. When a file fails it is closed behind its last whole
//! fragment, and what waits for it goes to a new one, from the first keyframe on.
//!
//! Not here: files, names, the catalogue.

mod disk;
mod intake;
mod sample;
mod timing;
mod writer;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lanecast_protocol::codec::Codec;
use lanecast_protocol::rtcp::SenderReport;
use lanecast_relay::access_unit::AccessUnit;

use self::disk::Disk;
use self::intake::Intake;
use self::writer::{Next, SegmentWriter};
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
pub struct Recorder {
    config: RecorderConfig,
    intake: Intake,
    /// Segments that are not closed, oldest first. The first is written; only the last may still take pictures.
    segments: VecDeque<SegmentWriter>,
    /// The last that were closed.
    closed: VecDeque<(SegmentId, Rc<OpenSegment>)>,
    disk: Disk,
    stopping: Option<Stopping>,
    /// The one told last.
    status: Option<RecordingStatus>,
    outputs: VecDeque<RecorderOutput>,
    statistics: RecorderStatistics,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    /// What is there is written until then.
    Until(Instant),
    /// All is closed.
    Over,
}

impl Recorder {
    /// Nothing recorded yet. Counts its tickets from `first_ticket`.
    pub fn new(config: RecorderConfig, first_ticket: u64) -> Self {
        let mut recorder = Self {
            config,
            intake: Intake::default(),
            segments: VecDeque::new(),
            closed: VecDeque::new(),
            disk: Disk::new(first_ticket),
            stopping: None,
            status: None,
            outputs: VecDeque::new(),
            statistics: RecorderStatistics::default(),
        };
        recorder.tell_status();
        recorder
    }

    /// The camera plays (anew): its RTP clock begins anew, at this rate.
    pub fn handle_playing(&mut self, now: Instant, clock_rate_hz: u32) {
        self.end_segment(Next::Unknown { before_unix_ms: i64::MAX });
        self.intake.restart(clock_rate_hz);
        self.go_on(now);
    }

    /// A sender report of the camera.
    pub fn handle_sender_report(&mut self, now: Instant, system_unix_ms: i64, report: SenderReport) {
        self.intake.wall_clock.handle_sender_report(now, system_unix_ms, report);
    }

    /// The next access unit, in decode order.
    pub fn handle_access_unit(&mut self, now: Instant, system_unix_ms: i64, unit: AccessUnit) {
        if self.stopping.is_none() {
            self.take(now, system_unix_ms, &unit);
            self.go_on(now);
        }
    }

    /// The file of this ticket is there, or why not.
    pub fn handle_opened(&mut self, now: Instant, ticket: u64, result: Result<SegmentId, String>) {
        self.take_file(now, ticket, result);
        self.go_on(now);
    }

    /// The write under way has ended: bytes taken, or why none.
    pub fn handle_written(&mut self, now: Instant, segment: SegmentId, result: Result<usize, String>) {
        self.take_written(now, segment, result);
        self.go_on(now);
    }

    /// The sync under way has ended.
    pub fn handle_synced(&mut self, now: Instant, segment: SegmentId, result: Result<(), String>) {
        self.take_synced(now, segment, result);
        self.go_on(now);
    }

    /// The file is not where it was any more: go on in a new one.
    pub fn handle_lost(&mut self, now: Instant, segment: SegmentId) {
        for writer in self.segments.iter_mut().filter(|writer| writer.id == Some(segment)) {
            writer.lost = true;
        }
        self.go_on(now);
    }

    /// No more pictures come: what is there is written and closed. [`Recorder::is_over`] tells when it is, 5 s later at most.
    pub fn stop(&mut self, now: Instant) {
        if self.stopping.is_none() {
            self.end_segment(Next::Unknown { before_unix_ms: i64::MAX });
            self.stopping = Some(Stopping::Until(now + STOP_MAX));
            self.disk.retry_now();
            self.go_on(now);
        }
    }

    /// True once all is written and closed after [`Recorder::stop`].
    pub fn is_over(&self) -> bool {
        self.stopping == Some(Stopping::Over)
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(Stopping::Until(deadline)) = self.stopping
            && now >= deadline
        {
            self.end();
        }
        self.watch_silence(now);
        self.watch_disk(now);
        self.go_on(now);
    }

    /// When to call [`Recorder::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stop = match self.stopping {
            None => None,
            Some(Stopping::Until(deadline)) => Some(deadline),
            Some(Stopping::Over) => return None,
        };
        [stop, self.silence_timeout(), self.disk_timeout()].into_iter().flatten().min()
    }

    /// What to do next, until `None`.
    pub fn poll_output(&mut self) -> Option<RecorderOutput> {
        self.outputs.pop_front()
    }

    /// A segment that is written, or was closed lately (the last four), for the players.
    pub fn segment(&self, segment: SegmentId) -> Option<Rc<OpenSegment>> {
        let written =
            self.segments.iter().find(|writer| writer.id == Some(segment)).map(|writer| &writer.open);
        let closed = || self.closed.iter().find(|(id, _)| *id == segment).map(|(_, open)| open);
        written.or_else(closed).map(Rc::clone)
    }

    /// Time of the newest picture, UTC: where the past ends.
    pub fn newest_unix_ms(&self) -> Option<i64> {
        self.intake.newest_recorded_unix_ms()
    }

    /// Counters.
    pub fn statistics(&self) -> RecorderStatistics {
        let fragments = self.segments.iter().flat_map(SegmentWriter::fragments);
        let queued_bytes = fragments.map(|fragment| fragment.bytes() as u64).sum();
        RecorderStatistics { queued_bytes, ..self.statistics }
    }

    /// What follows from what just happened.
    fn go_on(&mut self, now: Instant) {
        self.drive_disk(now);
        if let Some(Stopping::Until(_)) = self.stopping
            && self.segments.is_empty()
            && self.disk.is_idle()
        {
            self.stopping = Some(Stopping::Over);
        }
        self.tell_status();
    }

    fn tell_status(&mut self) {
        let status = if self.is_over() {
            RecordingStatus::Off
        } else if let Some(reason) = self.disk.failure() {
            RecordingStatus::Failed(reason.to_owned())
        } else if self.intake.is_dropping() {
            RecordingStatus::Failed(TOO_SLOW.to_owned())
        } else if self.intake.is_silent() || !self.disk.has_taken() {
            RecordingStatus::Waiting
        } else {
            RecordingStatus::Recording
        };
        if self.status.as_ref() != Some(&status) {
            self.status = Some(status.clone());
            self.outputs.push_back(RecorderOutput::Status(status));
        }
    }
}

/// A server that stops has this long.
const STOP_MAX: Duration = Duration::from_secs(5);
/// What an operator reads when pictures are dropped though nothing fails.
const TOO_SLOW: &str = "the disk does not keep up: pictures are dropped";

#[cfg(test)]
mod tests;
