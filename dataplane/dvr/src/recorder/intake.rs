//! The recorder's side to the camera: where files and fragments are cut, and what is not taken.

use std::rc::Rc;
use std::time::{Duration, Instant};

use lanecast_protocol::codec::ParameterSets;
use lanecast_relay::access_unit::AccessUnit;

use super::writer::{Fragment, Next, Picture, SegmentWriter};
use super::{Recorder, sample};
use crate::wall_clock::{Stamp, WallClock};

/// A file is closed after this long without a picture.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The stream's timeline goes forward by more than this only over an outage: five seconds, like the jumps of the clock.
const FORWARD_90K_MAX: i64 = 450_000;
/// And back by more than this never: two seconds, twice what the relay's timeline does for B-pictures.
const BACKWARD_90K_MAX: i64 = 180_000;
/// A fragment is cut when it has this, so that none is as large as the queue.
const FRAGMENT_BYTES: usize = 8 << 20;
/// And ends its GOP's recording at this: pictures out of order never let it be cut.
const FRAGMENT_BYTES_MAX: usize = 16 << 20;
/// A fragment is cut at this many pictures: two seconds have some hundreds at the most.
const FRAGMENT_PICTURES: usize = 1024;
/// And ends its GOP's recording at this many.
const FRAGMENT_PICTURES_MAX: usize = 4096;
/// Segments that wait to be written. Each has a file of its own to make, so a clock that jumps on and on is stopped here.
const SEGMENTS_MAX: usize = 8;

/// What is known of the camera's pictures.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) wall_clock: WallClock,
    /// The newest timestamp, and where it is on a timeline that never wraps.
    unwrapped: Option<(u32, i64)>,
    /// The newest picture since the camera began; taken or not.
    newest: Option<Shown>,
    newest_recorded_unix_ms: Option<i64>,
    /// Where the last segment ended; no other begins before.
    end_unix_ms: i64,
    /// Pictures come in another order than they are shown in.
    reorders: bool,
    /// The clock has jumped by this within a GOP, which is finished by the old clock.
    held_back_ms: i64,
    /// The disk is behind: nothing is taken before a keyframe that finds room.
    dropping: bool,
    last_unit_at: Option<Instant>,
    silent: bool,
}

#[derive(Clone, Copy, Debug)]
struct Shown {
    time_90k: i64,
    unix_ms: i64,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            wall_clock: WallClock::default(),
            unwrapped: None,
            newest: None,
            newest_recorded_unix_ms: None,
            end_unix_ms: i64::MIN,
            reorders: false,
            held_back_ms: 0,
            dropping: false,
            last_unit_at: None,
            silent: true,
        }
    }
}

impl Intake {
    pub(super) fn restart(&mut self, clock_rate_hz: u32) {
        self.wall_clock.restart(clock_rate_hz);
        self.reorders = false;
        self.newest = None;
    }

    /// Another segment begins then at the earliest.
    pub(super) fn is_recorded_until(&mut self, unix_ms: i64) {
        self.end_unix_ms = self.end_unix_ms.max(unix_ms);
    }

    pub(super) fn newest_recorded_unix_ms(&self) -> Option<i64> {
        self.newest_recorded_unix_ms
    }

    pub(super) fn is_dropping(&self) -> bool {
        self.dropping
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    fn unwrap_90k(&mut self, timestamp_90k: u32) -> i64 {
        let time_90k = self
            .unwrapped
            .map_or(0, |(last, time_90k)| time_90k + i64::from(timestamp_90k.wrapping_sub(last) as i32));
        self.unwrapped = Some((timestamp_90k, time_90k));
        time_90k
    }

    fn stamp(&mut self, now: Instant, system_unix_ms: i64, unit: &AccessUnit) -> Stamp {
        // The system's clock when its first slice came.
        let since = now.saturating_duration_since(unit.arrived).as_millis() as i64;
        self.wall_clock.stamp(unit.arrived, system_unix_ms.saturating_sub(since), unit.camera_timestamp)
    }

    fn see(&mut self, shown: Shown) {
        let behind_90k = self.newest.map_or(0, |newest| newest.time_90k - shown.time_90k);
        if (1..=BACKWARD_90K_MAX).contains(&behind_90k) {
            self.reorders = true;
        } else {
            self.newest = Some(shown);
        }
    }
}

impl Recorder {
    pub(super) fn silence_timeout(&self) -> Option<Instant> {
        let last_unit_at = self.intake.last_unit_at?;
        let flush = self.current().and_then(SegmentWriter::making).map(|_| self.config.fragment_max);
        let close = (!self.intake.silent).then_some(SILENCE_MAX);
        [flush, close].into_iter().flatten().min().map(|silence| last_unit_at + silence)
    }

    /// A camera that is silent: its last pictures go to the disk, then its file is closed.
    pub(super) fn watch_silence(&mut self, now: Instant) {
        let Some(last_unit_at) = self.intake.last_unit_at else { return };
        let silence = now.saturating_duration_since(last_unit_at);
        if silence >= self.config.fragment_max {
            self.complete_fragment(Next::Unknown { before_unix_ms: i64::MAX });
        }
        if silence >= SILENCE_MAX && !self.intake.silent {
            (self.intake.silent, self.intake.dropping) = (true, false);
            self.end_segment(Next::Unknown { before_unix_ms: i64::MAX });
        }
    }

    pub(super) fn take(&mut self, now: Instant, system_unix_ms: i64, unit: &AccessUnit) {
        let stamp = self.intake.stamp(now, system_unix_ms, unit);
        let time_90k = self.intake.unwrap_90k(unit.timestamp_90k);
        self.intake.last_unit_at = Some(now);
        self.intake.silent = false;
        let unix_ms = self.cut_segment(unit, time_90k, stamp);
        self.intake.see(Shown { time_90k, unix_ms });
        let bytes = sample::len(&unit.nals);
        if bytes == 0 {
            return;
        }
        self.cut_fragment(unit, time_90k, bytes);
        if !self.is_taken(unit, time_90k, unix_ms, bytes) {
            return;
        }
        let random_access = unit.random_access;
        let bytes = sample::of(&unit.nals);
        self.record(Picture { time_90k, unix_ms, random_access, bytes });
    }

    /// The segment that takes pictures.
    fn current(&self) -> Option<&SegmentWriter> {
        self.segments.back().filter(|writer| !writer.is_sealed())
    }

    fn current_mut(&mut self) -> Option<&mut SegmentWriter> {
        self.segments.back_mut().filter(|writer| !writer.is_sealed())
    }

    /// Ends the segment before this access unit where it must end; gives the time of day of the access unit.
    fn cut_segment(&mut self, unit: &AccessUnit, time_90k: i64, stamp: Stamp) -> i64 {
        let Some(writer) = self.current() else {
            self.intake.held_back_ms = 0;
            return stamp.unix_ms;
        };
        let other_sets = !are_same(&writer.open.parameter_sets, &unit.parameter_sets);
        let is_old = unit.random_access && writer.age_90k(time_90k) >= to_90k(self.config.segment);
        let passed = self.intake.newest.map(|newest| (newest, time_90k - newest.time_90k));
        let passed = passed.filter(|(_, step)| (-BACKWARD_90K_MAX..=FORWARD_90K_MAX).contains(step));
        let held_back_ms = match passed {
            Some((newest, step_90k)) if stamp.jumped => stamp.unix_ms - (newest.unix_ms + step_90k / 90),
            Some(_) => self.intake.held_back_ms,
            None => {
                self.end_segment(Next::Unknown { before_unix_ms: stamp.unix_ms });
                return stamp.unix_ms;
            }
        };
        let unix_ms = stamp.unix_ms - held_back_ms;
        if other_sets || is_old || (held_back_ms != 0 && unit.random_access) {
            self.end_segment(Next::Segment { time_90k, unix_ms });
            return stamp.unix_ms;
        }
        self.intake.held_back_ms = held_back_ms;
        unix_ms
    }

    /// Ends the fragment before this access unit where it must or may end.
    fn cut_fragment(&mut self, unit: &AccessUnit, time_90k: i64, bytes: usize) {
        if bytes > FRAGMENT_BYTES_MAX {
            return self.break_off();
        }
        let Some(writer) = self.current() else { return };
        let Some((making, (age_90k, ahead_90k))) = writer.making().zip(writer.making_span_90k(time_90k))
        else {
            return;
        };
        let overfull =
            making.bytes() + bytes > FRAGMENT_BYTES_MAX || making.pictures() >= FRAGMENT_PICTURES_MAX;
        // It lasts as long as it was since the one before, or less where B-pictures come between.
        let usual_90k = if self.intake.reorders { writer.usual_duration_90k() } else { i64::MAX };
        let full = age_90k + ahead_90k.min(usual_90k) > to_90k(self.config.fragment_max)
            || making.bytes() + bytes > FRAGMENT_BYTES
            || making.pictures() >= FRAGMENT_PICTURES;
        if unit.random_access || (ahead_90k > 0 && full) {
            let reorders = self.intake.reorders;
            let next = if reorders { Next::FollowsReordered } else { Next::Follows { time_90k } };
            self.complete_fragment(next);
        } else if overfull {
            self.break_off();
        }
    }

    /// What follows in the GOP is not taken.
    fn break_off(&mut self) {
        if self.current().is_some() {
            self.end_segment(Next::Unknown { before_unix_ms: i64::MAX });
            self.begin_dropping();
        }
    }

    /// Whether there is a segment for it; begins one where it can.
    fn is_taken(&mut self, unit: &AccessUnit, time_90k: i64, unix_ms: i64, bytes: usize) -> bool {
        if self.current().is_some() {
            return true;
        }
        if unit.random_access && unit.parameter_sets.is_complete() {
            self.intake.held_back_ms = 0;
            let mark = self.config.queue_bytes_max / if self.intake.dropping { 2 } else { 1 };
            if self.queued_bytes() <= mark
                && self.segments.len() < SEGMENTS_MAX
                && bytes <= FRAGMENT_BYTES_MAX
            {
                self.intake.dropping = false;
                let start_unix_ms = unix_ms.max(self.intake.end_unix_ms);
                let sets = Rc::clone(&unit.parameter_sets);
                self.segments.push_back(SegmentWriter::new(time_90k, start_unix_ms, sets));
                return true;
            }
            self.begin_dropping();
        }
        if self.intake.dropping {
            self.statistics.dropped_bytes += bytes as u64;
        }
        false
    }

    fn record(&mut self, picture: Picture) {
        let newest = &mut self.intake.newest_recorded_unix_ms;
        *newest = Some(picture.unix_ms).max(*newest);
        self.statistics.access_units += 1;
        if let Some(writer) = self.current_mut() {
            writer.push(picture);
        }
    }

    /// The fragment in the making takes no more pictures. Where that finds no room it is dropped, and its segment ends.
    fn complete_fragment(&mut self, next: Next) {
        let Some(writer) = self.current_mut().filter(|writer| writer.making().is_some()) else { return };
        writer.complete(next);
        if self.queued_bytes() <= self.config.queue_bytes_max {
            return;
        }
        let Some(writer) = self.segments.back_mut() else { return };
        let dropped = writer.drop_newest();
        let end_unix_ms = writer.end_unix_ms();
        self.intake.is_recorded_until(end_unix_ms);
        let dropped_bytes = dropped.map_or(0, |fragment| fragment.bytes());
        self.statistics.dropped_bytes += dropped_bytes as u64;
        self.begin_dropping();
        self.forget_empty();
    }

    fn begin_dropping(&mut self) {
        self.intake.dropping = true;
        self.statistics.dropped_gops += 1;
    }

    /// No more pictures come into the segment.
    pub(super) fn end_segment(&mut self, next: Next) {
        self.complete_fragment(next);
        if let Some(writer) = self.current_mut() {
            writer.seal();
            let end_unix_ms = writer.end_unix_ms();
            self.intake.is_recorded_until(end_unix_ms);
        }
        self.intake.held_back_ms = 0;
    }

    /// A segment of which nothing is left needs no file.
    fn forget_empty(&mut self) {
        let empty = |writer: &SegmentWriter| writer.is_written() && writer.id.is_none();
        if self.segments.back().is_some_and(empty) {
            self.segments.pop_back();
        }
    }

    /// Bytes of complete fragments that wait.
    fn queued_bytes(&self) -> usize {
        let fragments = self.segments.iter().flat_map(SegmentWriter::fragments);
        fragments.filter(|fragment| !fragment.is_making()).map(Fragment::bytes).sum()
    }
}

fn are_same(a: &Rc<ParameterSets>, b: &Rc<ParameterSets>) -> bool {
    Rc::ptr_eq(a, b) || a == b
}

fn to_90k(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros() * 9 / 100).unwrap_or(i64::MAX)
}
