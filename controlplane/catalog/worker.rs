//! The worker's turns: requests first, all that wait at once; then a slice of what takes long; then what is due.
//!
//! Nothing that it does takes longer than some files' worth, so a seek never waits behind a removal of a month. Not here: what
//! is done to rows and files.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use lanecast_shard::{ClosedSegment, Command, SegmentId, Wanted};
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::key::{Key, START_MAX};
use super::outbox::Outbox;
use super::recordings::{Opening, Recordings, Search, now_unix_ms};
use super::retention::DiskSpace;
use super::timeline::Spans;
use super::{CatalogError, Freed, Retention, Span};
use crate::shards::Shard;
use crate::source_id::SourceId;

/// What the control plane asks for.
#[derive(Debug)]
pub(super) enum Request {
    Open(Opening),
    Close(ClosedSegment),
    Locate(Locate),
    Damaged(SegmentId, String),
    Timeline(SourceId, i64, i64, oneshot::Sender<Result<Vec<Span>, CatalogError>>),
    Has(SourceId, i64, oneshot::Sender<Result<bool, CatalogError>>),
    Remove(SourceId, i64, i64, oneshot::Sender<Result<Freed, CatalogError>>),
}

/// A segment that a shard looks for.
#[derive(Debug)]
pub(super) struct Locate {
    pub(super) shard: Shard,
    pub(super) request: u64,
    pub(super) source_id: SourceId,
    pub(super) wanted: Wanted,
}

/// How often what is due is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Whether open files are where they were.
    pub(super) check: Duration,
    /// Whether something must go.
    pub(super) retention: Duration,
    /// The same, while something must.
    pub(super) retention_busy: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            check: Duration::from_secs(5),
            retention: Duration::from_secs(2),
            retention_busy: Duration::from_millis(20),
        }
    }
}

/// Something that takes more than a turn.
#[derive(Debug)]
enum Job {
    Locate(Locate),
    Timeline(TimelineJob),
    Remove(RemoveJob),
}

#[derive(Debug)]
struct TimelineJob {
    next: Key,
    last: Key,
    from_unix_ms: i64,
    spans: Spans,
    reply: oneshot::Sender<Result<Vec<Span>, CatalogError>>,
}

#[derive(Debug)]
struct RemoveJob {
    next: Key,
    to_unix_ms: i64,
    freed: Freed,
    reply: oneshot::Sender<Result<Freed, CatalogError>>,
}

/// The worker.
#[derive(Debug)]
pub(super) struct Worker {
    requests: Receiver<Request>,
    waiting: Arc<AtomicUsize>,
    recordings: Recordings,
    outbox: Outbox,
    jobs: VecDeque<Job>,
    /// Closed segments that could not be noted.
    unnoted: Vec<ClosedSegment>,
    retention: Retention,
    disk: DiskSpace,
    /// Streams whose oldest file could not be removed, and until when they are left alone.
    unremovable: BTreeSet<u32>,
    unremovable_until: Instant,
    pace: Pace,
    next_check: Instant,
    next_retention: Instant,
}

impl Worker {
    pub(super) fn new(
        requests: Receiver<Request>,
        waiting: Arc<AtomicUsize>,
        recordings: Recordings,
        retention: Retention,
        pace: Pace,
    ) -> Self {
        let now = Instant::now();
        Self {
            requests,
            waiting,
            recordings,
            outbox: Outbox::default(),
            jobs: VecDeque::new(),
            unnoted: Vec::new(),
            retention,
            disk: DiskSpace::default(),
            unremovable: BTreeSet::new(),
            unremovable_until: now,
            pace,
            next_check: now + pace.check,
            next_retention: now + pace.retention,
        }
    }

    /// Until nobody asks any more.
    pub(super) fn run(mut self) {
        while let Some(requests) = self.collect() {
            self.take(requests);
            self.work();
            self.do_what_is_due();
            self.deliver();
        }
        self.end();
    }

    /// What waits, or nothing when it is time for something else. `None` at the end.
    fn collect(&mut self) -> Option<Vec<Request>> {
        let first = match self.requests.recv_timeout(self.pause()) {
            Ok(request) => request,
            Err(RecvTimeoutError::Timeout) => return Some(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => return None,
        };
        let mut requests = vec![first];
        requests.extend(self.requests.try_iter().take(BATCH - 1));
        self.waiting.fetch_sub(requests.len(), Ordering::Relaxed);
        Some(requests)
    }

    fn pause(&self) -> Duration {
        if !self.jobs.is_empty() {
            return Duration::ZERO;
        }
        let due = match self.retention.is_bounded() {
            true => self.next_check.min(self.next_retention),
            false => self.next_check,
        };
        let pause = due.saturating_duration_since(Instant::now());
        self.outbox.retry_pause().map_or(pause, |retry| retry.min(pause))
    }

    fn take(&mut self, requests: Vec<Request>) {
        let mut openings = Vec::new();
        let mut closed = Vec::new();
        let mut others = Vec::new();
        for request in requests {
            match request {
                Request::Open(opening) => openings.push(opening),
                Request::Close(segment) => closed.push(segment),
                other => others.push(other),
            }
        }
        self.close(closed);
        self.open(openings);
        for other in others {
            self.take_other(other);
        }
    }

    fn take_other(&mut self, request: Request) {
        match request {
            Request::Open(opening) => self.open(vec![opening]),
            Request::Close(closed) => self.close(vec![closed]),
            Request::Locate(locate) => self.locate(locate),
            Request::Damaged(segment, reason) => self.recordings.damaged(segment, &reason),
            Request::Timeline(source_id, from, to, reply) => self.begin_timeline(&source_id, from, to, reply),
            Request::Has(source_id, time, reply) => {
                let has =
                    self.recordings.has(&source_id, time).map_err(|error| self.recordings.explain(&error));
                answer(reply, has);
            }
            Request::Remove(source_id, from, to, reply) => self.begin_removal(&source_id, from, to, reply),
        }
    }

    fn open(&mut self, openings: Vec<Opening>) {
        if openings.is_empty() {
            return;
        }
        let now = Instant::now();
        for (opening, result) in self.recordings.open_segments(openings) {
            if let Err(reason) = &result {
                warn!(stream = %opening.source_id, reason, "no file for a recording");
            }
            let Opening { shard, stream, ticket, .. } = opening;
            self.outbox.send(now, shard, Command::SegmentOpened { stream, ticket, result });
        }
    }

    fn close(&mut self, closed: Vec<ClosedSegment>) {
        if !closed.is_empty() {
            let unnoted = self.recordings.close_segments(closed);
            self.unnoted.extend(unnoted);
        }
    }

    fn locate(&mut self, locate: Locate) {
        let result = match self.recordings.locate(&locate.source_id, locate.wanted) {
            Search::Found(segment) => Ok(Some(segment)),
            Search::Nothing => Ok(None),
            Search::Failed(reason) => {
                warn!(stream = %locate.source_id, reason, "the recordings cannot be read");
                Err(reason)
            }
            Search::GoOn(wanted) => {
                self.begin(Job::Locate(Locate { wanted, ..locate }));
                return;
            }
        };
        let command = Command::Located { request: locate.request, result };
        self.outbox.send(Instant::now(), locate.shard, command);
    }

    fn begin_timeline(
        &mut self,
        source_id: &SourceId,
        from_unix_ms: i64,
        to_unix_ms: i64,
        reply: oneshot::Sender<Result<Vec<Span>, CatalogError>>,
    ) {
        let spans = Spans::default();
        match self.recordings.touching(source_id, from_unix_ms, to_unix_ms) {
            Ok(Some((next, last))) => {
                self.timeline(TimelineJob { next, last, from_unix_ms, spans, reply });
            }
            Ok(None) => answer(reply, Ok(spans.finish())),
            Err(error) => answer(reply, Err(self.recordings.explain(&error))),
        }
    }

    fn timeline(&mut self, mut job: TimelineJob) {
        match self.recordings.timeline(job.next, job.last, job.from_unix_ms, &mut job.spans) {
            Ok(Some(next)) => {
                job.next = next;
                self.begin(Job::Timeline(job));
            }
            Ok(None) => answer(job.reply, Ok(job.spans.finish())),
            Err(error) => answer(job.reply, Err(self.recordings.explain(&error))),
        }
    }

    fn begin_removal(
        &mut self,
        source_id: &SourceId,
        from_unix_ms: i64,
        to_unix_ms: i64,
        reply: oneshot::Sender<Result<Freed, CatalogError>>,
    ) {
        let number = self.recordings.streams().number(source_id);
        match number.filter(|_| from_unix_ms < to_unix_ms && from_unix_ms <= START_MAX && to_unix_ms > 0) {
            None => answer(reply, Ok(Freed::default())),
            Some(number) => {
                let next = Key::nearest(number, from_unix_ms);
                self.begin(Job::Remove(RemoveJob { next, to_unix_ms, freed: Freed::default(), reply }));
            }
        }
    }

    fn remove(&mut self, mut job: RemoveJob) {
        let inside = match self.recordings.inside(job.next, job.to_unix_ms) {
            Ok(inside) => inside,
            Err(error) => return answer(job.reply, Err(self.recordings.explain(&error))),
        };
        match self.recordings.remove(&inside.segments) {
            Ok(freed) => {
                job.freed.segments += freed.segments;
                job.freed.bytes += freed.bytes;
            }
            Err(error) => return answer(job.reply, Err(error)),
        }
        match inside.next {
            Some(next) => {
                job.next = next;
                self.begin(Job::Remove(job));
            }
            None => answer(job.reply, Ok(job.freed)),
        }
    }

    fn begin(&mut self, job: Job) {
        if self.jobs.len() < JOBS_MAX {
            self.jobs.push_back(job);
            return;
        }
        match job {
            Job::Locate(Locate { shard, request, .. }) => {
                let result = Err(CatalogError::Busy.to_string());
                self.outbox.send(Instant::now(), shard, Command::Located { request, result });
            }
            Job::Timeline(job) => answer(job.reply, Err(CatalogError::Busy)),
            Job::Remove(job) => answer(job.reply, Err(CatalogError::Busy)),
        }
    }

    /// A slice of the job that waited longest.
    fn work(&mut self) {
        match self.jobs.pop_front() {
            Some(Job::Locate(locate)) => self.locate(locate),
            Some(Job::Timeline(job)) => self.timeline(job),
            Some(Job::Remove(job)) => self.remove(job),
            None => {}
        }
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        if now >= self.next_check {
            self.next_check = now + self.pace.check;
            self.check(now);
        }
        if self.retention.is_bounded() && now >= self.next_retention {
            let more = self.retain(now);
            self.next_retention = now + if more { self.pace.retention_busy } else { self.pace.retention };
        }
    }

    fn check(&mut self, now: Instant) {
        let unnoted = std::mem::take(&mut self.unnoted);
        self.close(unnoted);
        for (shard, stream, segment) in self.recordings.check_open() {
            self.outbox.send(now, shard, Command::SegmentLost { stream, segment });
        }
    }

    /// Removes what must go, a few files. True if there is more.
    fn retain(&mut self, now: Instant) -> bool {
        if now >= self.unremovable_until {
            self.unremovable.clear();
        }
        for _ in 0..RETENTION_BATCH {
            let free_bytes = self.free_bytes(now);
            let streams = self.recordings.streams();
            let next = self.retention.next(streams, &self.unremovable, now_unix_ms(), free_bytes);
            let oldest = next.and_then(|number| streams.get(number)?.oldest);
            let Some(segment) = oldest else { return false };
            match self.recordings.remove(&[segment]) {
                Ok(freed) => {
                    let after = self.recordings.folder().free_bytes().ok();
                    self.disk.handle_removed(now, freed.bytes, free_bytes, after);
                }
                Err(error @ CatalogError::File { .. }) => self.leave_alone(now, segment.key.stream(), &error),
                // The files may be gone; their rows go later.
                Err(error) => {
                    warn!(%error, "the removal of old recordings cannot be noted");
                    return false;
                }
            }
        }
        true
    }

    fn free_bytes(&mut self, now: Instant) -> Option<u64> {
        self.retention.free_bytes_min?;
        let free_bytes = self.recordings.folder().free_bytes().ok()?;
        Some(free_bytes.saturating_add(self.disk.promised(now)))
    }

    /// A file that cannot be removed keeps no other one; one line tells of them all.
    fn leave_alone(&mut self, now: Instant, stream: u32, error: &CatalogError) {
        if self.unremovable.is_empty() {
            error!(%error, "old recordings cannot be removed");
            self.unremovable_until = now + UNREMOVABLE_PAUSE;
        }
        self.unremovable.insert(stream);
    }

    fn deliver(&mut self) {
        for command in self.outbox.flush(Instant::now()) {
            if let Command::SegmentOpened { result: Ok((segment, _)), .. } = command {
                self.recordings.abandon(segment);
            }
        }
    }

    /// What is not closed is mended at the next start.
    fn end(mut self) {
        let unnoted = std::mem::take(&mut self.unnoted);
        self.close(unnoted);
        self.deliver();
        if let Err(error) = self.recordings.close() {
            error!(%error, "the catalogue did not close cleanly");
        }
    }
}

fn answer<T>(reply: oneshot::Sender<T>, answer: T) {
    // Who asked may have gone.
    let _ = reply.send(answer);
}

/// Requests taken in one turn.
const BATCH: usize = 256;
/// Jobs of several turns that are under way: the last one would wait for seconds.
const JOBS_MAX: usize = 256;
/// How long streams whose files cannot be removed are left alone.
const UNREMOVABLE_PAUSE: Duration = Duration::from_secs(60);
/// Files that retention removes in a turn.
const RETENTION_BATCH: usize = 4;
