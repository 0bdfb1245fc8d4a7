//! The recorder's side to the disk: which file is asked for, what is under way, and what happens when that fails.

use std::time::{Duration, Instant};

use super::writer::{Fragment, SegmentWriter};
use super::{ClosedSegment, Recorder, RecorderOutput, Stopping};
use crate::segment::SegmentId;

/// A catalogue that has not answered by then has lost the question.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// After a failure, that is waited for the next attempt; twice as long each time.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Up to this.
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Closed segments that players may still ask for: more than they are behind at the live edge.
const CLOSED_KEPT: usize = 4;

/// What is under way, and how it went lately.
#[derive(Debug)]
pub(super) struct Disk {
    next_ticket: u64,
    opening: Option<Opening>,
    operation: Option<Operation>,
    /// Why it fails; `None` once it has taken something again.
    failure: Option<String>,
    /// It takes writes, but a sync failed: only a sync tells that it is well again.
    sync_failed: bool,
    /// Nothing is tried before.
    retry_at: Option<Instant>,
    retry_delay: Duration,
    synced_at: Option<Instant>,
    /// It gave a file, once.
    taken: bool,
}

#[derive(Clone, Copy, Debug)]
struct Opening {
    ticket: u64,
    deadline: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operation {
    segment: SegmentId,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Write,
    Sync,
}

impl Disk {
    pub(super) fn new(next_ticket: u64) -> Self {
        Self {
            next_ticket,
            opening: None,
            operation: None,
            failure: None,
            sync_failed: false,
            retry_at: None,
            retry_delay: RETRY_MIN,
            synced_at: None,
            taken: false,
        }
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(super) fn has_taken(&self) -> bool {
        self.taken
    }

    /// Nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.opening.is_none() && self.operation.is_none()
    }

    pub(super) fn retry_now(&mut self) {
        self.retry_at = None;
    }

    fn is_blocked(&self, now: Instant) -> bool {
        self.operation.is_some() || self.retry_at.is_some_and(|at| now < at)
    }

    fn works(&mut self) {
        self.failure = None;
        self.sync_failed = false;
        self.retry_delay = RETRY_MIN;
    }
}

impl Recorder {
    pub(super) fn disk_timeout(&self) -> Option<Instant> {
        let answer = self.disk.opening.map(|opening| opening.deadline);
        let idle = self.disk.operation.is_none();
        let retry = self.disk.retry_at.filter(|_| idle && !self.segments.is_empty());
        let sync = self.segments.front().filter(|first| idle && first.unsynced && first.is_at_fragment_end());
        let sync = sync.and(self.config.sync_interval).zip(self.disk.synced_at);
        let sync = sync.map(|(interval, synced_at)| synced_at + interval);
        // Nothing is tried before the retry, a sync neither.
        let sync = sync.map(|at| retry.map_or(at, |retry| retry.max(at)));
        [answer, retry, sync].into_iter().flatten().min()
    }

    pub(super) fn watch_disk(&mut self, now: Instant) {
        let late = self.disk.opening.filter(|opening| now >= opening.deadline);
        if let Some(opening) = late {
            self.fail_open(now, opening.ticket, format!("no file within {} s", OPEN_MAX.as_secs()));
        }
    }

    /// Starts what can be started.
    pub(super) fn drive_disk(&mut self, now: Instant) {
        while self.step_disk(now) {}
    }

    /// True: there may be more.
    fn step_disk(&mut self, now: Instant) -> bool {
        if self.disk.operation.is_none()
            && let Some(lost) = self.segments.iter().position(|writer| writer.lost)
        {
            self.abandon(lost);
            return true;
        }
        if self.disk.is_blocked(now) {
            return false;
        }
        self.disk.retry_at = None;
        self.ask_for_file(now);
        let sync_due = self.is_sync_due(now);
        let Some(first) = self.segments.front_mut() else { return false };
        let Some(segment) = first.id else { return false };
        if sync_due {
            first.unsynced = false;
            self.disk.synced_at = Some(now);
            self.disk.operation = Some(Operation { segment, kind: Kind::Sync });
            self.outputs.push_back(RecorderOutput::Sync { segment });
            return false;
        }
        if let Some((offset, chunks)) = first.next_write() {
            self.disk.operation = Some(Operation { segment, kind: Kind::Write });
            self.outputs.push_back(RecorderOutput::Write { segment, offset, chunks });
            return false;
        }
        if !first.is_written() {
            return false;
        }
        let closed = first.closed(segment);
        self.forget_first(segment, closed);
        true
    }

    /// A segment is done.
    fn forget_first(&mut self, segment: SegmentId, closed: ClosedSegment) {
        let Some(writer) = self.segments.pop_front() else { return };
        self.remember(segment, &writer);
        self.outputs.push_back(RecorderOutput::Close(closed));
    }

    fn remember(&mut self, segment: SegmentId, writer: &SegmentWriter) {
        if self.closed.len() >= CLOSED_KEPT {
            self.closed.pop_front();
        }
        self.closed.push_back((segment, std::rc::Rc::clone(&writer.open)));
    }

    fn is_sync_due(&self, now: Instant) -> bool {
        let Some((interval, first)) = self.config.sync_interval.zip(self.segments.front()) else {
            return false;
        };
        let elapsed = self.disk.synced_at.is_none_or(|synced_at| now >= synced_at + interval);
        first.unsynced && first.is_at_fragment_end() && (elapsed || first.is_written())
    }

    /// The first segment without a file asks for one.
    fn ask_for_file(&mut self, now: Instant) {
        if self.disk.opening.is_some() {
            return;
        }
        let Some(writer) = self.segments.iter_mut().find(|writer| writer.id.is_none()) else { return };
        let ticket = self.disk.next_ticket;
        self.disk.next_ticket += 1;
        self.disk.opening = Some(Opening { ticket, deadline: now + OPEN_MAX });
        writer.ticket = Some(ticket);
        self.outputs.push_back(RecorderOutput::Open {
            ticket,
            start_unix_ms: writer.open.start_unix_ms,
            codec: writer.open.parameter_sets.codec(),
        });
    }

    pub(super) fn take_file(&mut self, now: Instant, ticket: u64, result: Result<SegmentId, String>) {
        let awaited = self.disk.opening.is_some_and(|opening| opening.ticket == ticket);
        match result {
            Ok(segment) => {
                if awaited {
                    self.disk.opening = None;
                }
                let writer = self.segments.iter_mut().find(|writer| writer.ticket == Some(ticket));
                let Some(writer) = writer else { return self.refuse_file(segment) };
                (writer.id, writer.ticket) = (Some(segment), None);
                self.disk.taken = true;
                self.statistics.segments += 1;
            }
            Err(reason) if awaited => self.fail_open(now, ticket, reason),
            Err(_) => {}
        }
    }

    /// A file that comes too late: nothing is in it.
    fn refuse_file(&mut self, segment: SegmentId) {
        let keyframes = Vec::new();
        let closed = ClosedSegment { segment, start_unix_ms: 0, end_unix_ms: 0, bytes: 0, keyframes };
        self.outputs.push_back(RecorderOutput::Close(closed));
    }

    fn fail_open(&mut self, now: Instant, ticket: u64, reason: String) {
        self.disk.opening = None;
        for writer in self.segments.iter_mut().filter(|writer| writer.ticket == Some(ticket)) {
            writer.ticket = None;
        }
        self.fail(now, reason);
    }

    pub(super) fn take_written(&mut self, now: Instant, segment: SegmentId, result: Result<usize, String>) {
        if !self.ends(segment, Kind::Write) {
            return;
        }
        let Some(first) = self.segments.front_mut().filter(|first| first.id == Some(segment)) else { return };
        let wanted = first.under_way_bytes();
        match result {
            Ok(taken) if taken as u64 >= wanted => {
                self.statistics.bytes_written += wanted;
                self.statistics.fragments += u64::from(first.handle_written());
                if !self.disk.sync_failed {
                    self.disk.works();
                }
            }
            Ok(taken) => self.fail_file(now, format!("{taken} of {wanted} bytes were written")),
            Err(reason) => self.fail_file(now, reason),
        }
    }

    pub(super) fn take_synced(&mut self, now: Instant, segment: SegmentId, result: Result<(), String>) {
        if !self.ends(segment, Kind::Sync) {
            return;
        }
        match result {
            Ok(()) => self.disk.works(),
            Err(reason) => {
                self.disk.sync_failed = true;
                self.fail_file(now, reason);
            }
        }
    }

    /// True if that was under way; it is no more.
    fn ends(&mut self, segment: SegmentId, kind: Kind) -> bool {
        let ends = self.disk.operation == Some(Operation { segment, kind });
        if ends {
            self.disk.operation = None;
        }
        ends
    }

    /// The first file does not take what it should.
    fn fail_file(&mut self, now: Instant, reason: String) {
        self.abandon(0);
        self.fail(now, reason);
    }

    fn fail(&mut self, now: Instant, reason: String) {
        self.statistics.errors += 1;
        self.disk.failure = Some(reason);
        self.disk.retry_at = Some(now + self.disk.retry_delay);
        self.disk.retry_delay = (self.disk.retry_delay * 2).min(RETRY_MAX);
        if let Some(Stopping::Until(_)) = self.stopping {
            self.end();
        }
    }

    /// Closes a file behind its last whole fragment. What is not in it goes to another, from the first keyframe on.
    fn abandon(&mut self, index: usize) {
        let Some(mut writer) = self.segments.remove(index) else { return };
        let mut tail = writer.abandon();
        self.intake.is_recorded_until(writer.end_unix_ms());
        let from = tail.iter().position(Fragment::is_keyframe).unwrap_or(tail.len());
        let rest = tail.split_off(from);
        self.count_dropped(&tail);
        if let Some(resumed) = SegmentWriter::resume(&writer, rest) {
            self.segments.insert(index, resumed);
        }
        if let Some(segment) = writer.id {
            if !writer.lost {
                self.remember(segment, &writer);
            }
            self.outputs.push_back(RecorderOutput::Close(writer.closed(segment)));
        }
    }

    /// Drops what is not written.
    pub(super) fn end(&mut self) {
        while let Some(mut writer) = self.segments.pop_front() {
            let dropped = writer.abandon();
            self.count_dropped(&dropped);
            if let Some(segment) = writer.id {
                self.outputs.push_back(RecorderOutput::Close(writer.closed(segment)));
            }
        }
        (self.disk.opening, self.disk.operation, self.disk.retry_at) = (None, None, None);
        self.stopping = Some(Stopping::Over);
    }

    /// A GOP whose end alone is dropped counts as one, too.
    pub(super) fn count_dropped(&mut self, fragments: &[Fragment]) {
        let begun = fragments.iter().skip(1).filter(|fragment| fragment.is_keyframe()).count();
        self.statistics.dropped_gops += u64::from(!fragments.is_empty()) + begun as u64;
        self.statistics.dropped_bytes +=
            fragments.iter().map(|fragment| fragment.bytes() as u64).sum::<u64>();
    }
}

#[cfg(test)]
impl Recorder {
    /// What holds between any two calls.
    pub(super) fn assert_invariants(&self) {
        for (n, writer) in self.segments.iter().enumerate() {
            writer.assert_invariants();
            assert!(writer.is_sealed() || n + 1 == self.segments.len(), "only the last one takes pictures");
            assert!(writer.id.is_none() || writer.ticket.is_none());
        }
        let asked: Vec<u64> = self.segments.iter().filter_map(|writer| writer.ticket).collect();
        assert!(
            asked.len() <= 1
                && asked.iter().all(|ticket| Some(*ticket) == self.disk.opening.map(|o| o.ticket))
        );
        if let Some(operation) = self.disk.operation {
            let first = self.segments.front().and_then(|writer| writer.id);
            assert_eq!(Some(operation.segment), first, "what is under way is of the first");
        }
        assert!(self.closed.len() <= CLOSED_KEPT);
        assert!(!self.is_over() || (self.segments.is_empty() && self.disk.is_idle()));
    }
}
