//! From the first picture to the last: which picture is next, when it is due, and under which timestamp it leaves.
//!
//! Not here: the packets, and how media time runs on over segments (`place`).

use std::rc::Rc;
use std::time::{Duration, Instant};

use lanecast_protocol::codec::{Nal, ParameterSets};

use super::clock::{Burst, Clock, STEP_90K};
use super::outbox::Picture;
use super::place::{Last, Place, WAIT_90K_MAX, last_of};
use super::walk::{Entry, Position, Reading, Stop, Walk};
use super::{Accepted, Asked, Located, Player, PlayerOutput, Read, missing_keyframe};
use crate::segment::SegmentId;

/// A picture that comes later than this is not caught up with: what follows is shifted.
const LATE_MAX: Duration = Duration::from_secs(1);
/// The next segment is asked for when so much of this one is left, at normal speed.
const ASK_AHEAD_MS: f64 = 5000.0;
/// From this speed on keyframes only, where all would be more than [`PICTURES_PER_SECOND_MAX`].
const KEYFRAMES_ONLY_SPEED: f64 = 4.0;
/// What every viewer is taken to decode: 60, and a little, as a camera of 15 at four times that is now above and now below it.
const PICTURES_PER_SECOND_MAX: f64 = 63.0;
/// When nobody could tell which segment is next, it is asked again after this, and so many times.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRIES_MAX: u32 = 5;
/// Ticks between two pictures as long as nothing is known: 25 a second.
const FRAME_90K: i64 = 3600;

/// Where a viewer is.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) clock: Clock,
    pub(super) burst: Option<Burst>,
    pub(super) shown_unix_ms: i64,
    /// Those that were given out last.
    pub(super) parameter_sets: Option<Rc<ParameterSets>>,
    /// Loaded, and not due yet.
    next: Option<Next>,
    /// From presentation time in the segment to media time.
    pub(super) offset_90k: i64,
    /// Newest picture in order that was sent, or passed over.
    pub(super) last: Option<Last>,
    newest_wire_90k: Option<i64>,
    gop: Option<Gop>,
    /// Behind the last picture that was sent.
    sent: Position,
    keyframes_only: bool,
    blocked: Option<Blocked>,
    /// The segment was left before its end.
    pub(super) cut_short: bool,
    /// The first picture of the next segment is at hand.
    following_is_loaded: bool,
}

#[derive(Debug)]
struct Next {
    place: Place,
    entry: Entry,
    nals: Vec<Nal>,
    /// It is the first of the next segment.
    joins: bool,
}

/// What was sent since the last keyframe.
#[derive(Clone, Copy, Debug)]
struct Gop {
    keyframe: Position,
    presentation_90k: i64,
    pictures: usize,
}

#[derive(Clone, Copy, Debug)]
struct Blocked {
    not_before: Option<Instant>,
}

impl Course {
    pub(super) fn new(now: Instant, unix_ms: i64) -> Self {
        Self {
            clock: Clock::new(now, 0, 0, 0.0),
            burst: None,
            shown_unix_ms: unix_ms,
            parameter_sets: None,
            next: None,
            offset_90k: 0,
            last: None,
            newest_wire_90k: None,
            gop: None,
            sent: Position::default(),
            keyframes_only: false,
            blocked: None,
            cut_short: false,
            following_is_loaded: false,
        }
    }

    /// What was loaded is not sent any more.
    pub(super) fn stop(&mut self) {
        self.next = None;
    }

    /// Only keyframes are looked at.
    pub(super) fn steps(&self) -> bool {
        self.burst.is_none() && (self.keyframes_only || self.blocked.is_some())
    }
}

impl Player {
    /// True if there may be more to do.
    pub(super) fn step_course(&mut self, now: Instant) -> bool {
        if self.is_held() {
            return false;
        }
        if !self.outbox.is_empty() {
            return self.send_runs(now);
        }
        if self.course.burst.is_some_and(|burst| burst.left == 0) {
            self.end_burst(now);
            return true;
        }
        if let Some(next) = self.course.next.take() {
            return self.send_when_due(now, next);
        }
        match self.find_next(now) {
            Ok(next) => {
                self.course.next = Some(next);
                true
            }
            Err(stop) => self.on_stop(now, stop),
        }
    }

    /// What to read although nothing waits for it: this segment goes before the next.
    pub(super) fn read_ahead(&mut self, now: Instant) -> Option<Read> {
        if self.phase != super::Phase::Playing || self.is_held() {
            return None;
        }
        let walk = self.walk.as_ref();
        let ahead = walk.and_then(|walk| {
            let (offset, bytes) = walk.read_ahead()?;
            Some(Read { segment: walk.segment, offset, bytes })
        });
        if ahead.is_some() || self.course.following_is_loaded {
            return ahead;
        }
        match self.first_of_following() {
            Ok(_) => self.course.following_is_loaded = true,
            Err(Stop::Read { segment, offset, bytes }) => return Some(Read { segment, offset, bytes }),
            Err(Stop::Damaged { segment, reason }) => self.on_damage(now, segment, reason),
            Err(Stop::Edge { .. } | Stop::End) => {}
        }
        None
    }

    pub(super) fn change_speed(&mut self, now: Instant) {
        if self.course.burst.is_some_and(|burst| burst.starts_clock) {
            return;
        }
        self.course.clock.set_speed(now, self.speed);
        if self.speed == 0.0 || self.course.burst.is_some() {
            return;
        }
        let (was, wants) = (self.course.keyframes_only, self.wants_keyframes_only());
        if was == wants {
            return;
        }
        self.course.keyframes_only = wants;
        self.course.next = None;
        if was && let (Some(walk), Some(last)) = (&mut self.walk, self.course.last) {
            // The viewer has that keyframe, and nothing behind it.
            walk.go(self.course.sent);
            self.course.clock.set_media(now, last.media_90k);
        }
    }

    /// All that was sent since the last keyframe, after what was sent and before what comes.
    pub(super) fn repeat_gop(&mut self) {
        let course = &mut self.course;
        let (Some(gop), Some(last), Some(newest_90k), None, Some(walk)) =
            (course.gop, course.last, course.newest_wire_90k, course.blocked, &mut self.walk)
        else {
            return;
        };
        walk.go(gop.keyframe);
        course.next = None;
        let pictures = course.burst.map_or(gop.pictures, |burst| burst.pictures);
        // They find place before the next picture, if they can.
        let speed = if self.speed > 0.0 { self.speed } else { 1.0 };
        let frame_90k = (walk.frame_90k() as f64 / speed) as i64;
        let step_90k = (frame_90k / (pictures as i64 + 1)).clamp(1, STEP_90K);
        course.burst = Some(Burst {
            pictures,
            left: pictures,
            first_90k: gop.presentation_90k.saturating_add(course.offset_90k),
            pivot_90k: course.burst.map_or(last.media_90k, |burst| burst.pivot_90k),
            first_wire_90k: newest_90k + step_90k,
            step_90k,
            starts_clock: course.burst.is_some_and(|burst| burst.starts_clock),
        });
    }

    pub(super) fn drop_to_keyframe(&mut self, now: Instant, not_before: Option<Instant>) {
        self.outbox.clear();
        if self.course.burst.is_some() {
            self.end_burst(now);
        }
        self.course.next = None;
        self.course.blocked = Some(Blocked { not_before });
    }

    /// The segment that comes next, or that there is none.
    pub(super) fn follow_with(
        &mut self,
        now: Instant,
        asked: Asked,
        located: Result<Option<Located>, String>,
    ) {
        match (located.map(|located| self.accept(located, asked)), asked) {
            (Ok(Accepted::Segment(walk)), _) => {
                let passed = self.following.replace(walk);
                self.release(passed);
                self.course.following_is_loaded = false;
                self.question.failures = 0;
            }
            (Ok(Accepted::AskedAgain), _) => {}
            (Ok(Accepted::None), Asked::Late) => self.finish(PlayerOutput::Live),
            (Ok(Accepted::None) | Err(_), Asked::Early) => self.question.refused = true,
            (Err(_), Asked::Late) => {
                self.question.failures += 1;
                match self.question.failures > RETRIES_MAX {
                    true => self.finish(PlayerOutput::Live),
                    false => self.question.retry_at = Some(now + RETRY_AFTER),
                }
            }
        }
    }

    /// A segment is damaged: what follows it is played.
    pub(super) fn play_on_without(&mut self, now: Instant, segment: SegmentId) {
        if self.following.as_ref().is_some_and(|following| following.segment == segment) {
            let following = self.following.take();
            return self.release(following);
        }
        if self.walk.as_ref().is_some_and(|walk| walk.segment == segment) {
            let walk = self.walk.take();
            self.release(walk);
            self.course.gop = None;
            self.course.cut_short = true;
            self.course.next = self.course.next.take().filter(|next| next.joins);
            if self.course.burst.is_some() {
                self.end_burst(now);
            }
        }
    }

    /// In a pause, and no GOP is on its way at once.
    fn is_held(&self) -> bool {
        self.speed == 0.0 && self.course.burst.is_none()
    }

    fn send_runs(&mut self, now: Instant) -> bool {
        while let Some(run) = self.outbox.poll(now) {
            self.outputs.push_back(PlayerOutput::Run(run));
        }
        let sent = self.outbox.is_empty();
        if !sent {
            self.wake = Some(self.outbox.due());
        }
        sent
    }

    /// The clock goes on behind the burst's last picture.
    fn end_burst(&mut self, now: Instant) {
        let Some(burst) = self.course.burst.take() else { return };
        let newest_90k = self.course.newest_wire_90k.unwrap_or(burst.first_wire_90k);
        let exceeds = self.course.last.is_none_or(|last| last.media_90k > burst.pivot_90k);
        let wire_90k = if exceeds { burst.pivot_wire_90k() } else { burst.pivot_wire_90k().max(newest_90k) };
        let clock = &mut self.course.clock;
        let at = match burst.starts_clock {
            true => now,
            // In a pause no media time passes, and timestamps wait for nothing.
            false if self.speed == 0.0 => now.max(clock.time_of_wire(wire_90k)),
            false => clock.time_of_wire(wire_90k),
        };
        let wire_90k = if burst.starts_clock { wire_90k } else { clock.wire_at(at) };
        *clock = Clock::new(at, burst.pivot_90k, wire_90k, self.speed);
        self.course.keyframes_only = self.wants_keyframes_only();
    }

    fn wants_keyframes_only(&self) -> bool {
        let pictures_per_second = 90_000.0 / self.frame_90k() as f64;
        self.speed >= KEYFRAMES_ONLY_SPEED && pictures_per_second * self.speed > PICTURES_PER_SECOND_MAX
    }

    pub(super) fn frame_90k(&self) -> i64 {
        self.walk.as_ref().map_or(FRAME_90K, Walk::frame_90k)
    }

    /// The next picture with its bytes.
    fn find_next(&mut self, now: Instant) -> Result<Next, Stop> {
        loop {
            let (entry, joins) = match self.look() {
                Err(Stop::End) if self.course.burst.is_none() => (self.first_of_following()?, true),
                other => (other?, false),
            };
            let place = self.place(now, &entry, joins);
            if self.is_blocked(&place) {
                self.pass_over(&entry, &place, joins);
                continue;
            }
            let walk = if joins { &mut self.following } else { &mut self.walk };
            let Some(walk) = walk else { return Err(Stop::End) };
            let (_, nals) = walk.load()?;
            return Ok(Next { place, entry, nals, joins });
        }
    }

    /// The first picture of the next segment that is later than what was sent; its bytes are there too.
    fn first_of_following(&mut self) -> Result<Entry, Stop> {
        let Some(walk) = &mut self.following else { return Err(Stop::End) };
        if walk.position() == Position::default() {
            walk.begin(i64::MIN)?;
            let sent_unix_ms = self.course.last.map_or(i64::MIN, |last| last.unix_ms);
            walk.step_to_keyframe(sent_unix_ms.saturating_add(1))?;
        }
        walk.open()?;
        let (entry, _) = walk.load()?;
        if entry.sync { Ok(entry) } else { Err(missing_keyframe(walk.segment)) }
    }

    /// The next picture of this segment.
    fn look(&mut self) -> Result<Entry, Stop> {
        let steps = self.course.steps();
        let not_before_unix_ms = self.next_keyframe_unix_ms();
        let Some(walk) = &mut self.walk else { return Err(Stop::End) };
        if !steps {
            walk.set_reading(Reading::All);
            return walk.look();
        }
        walk.set_reading(Reading::Keyframes);
        walk.step_to_keyframe(not_before_unix_ms)?;
        let entry = walk.look()?;
        if entry.sync { Ok(entry) } else { Err(missing_keyframe(walk.segment)) }
    }

    /// Where keyframes alone are more than a viewer decodes, some are left out.
    fn next_keyframe_unix_ms(&self) -> i64 {
        match self.course.last {
            Some(last) if self.course.keyframes_only => {
                let apart_ms = 1000.0 * self.speed / PICTURES_PER_SECOND_MAX;
                last.unix_ms.saturating_add(apart_ms as i64)
            }
            _ => i64::MIN,
        }
    }

    fn is_blocked(&self, place: &Place) -> bool {
        let not_before = self.course.blocked.and_then(|blocked| blocked.not_before);
        not_before.is_some_and(|not_before| self.course.clock.due(place.send_90k) < not_before)
    }

    /// A keyframe that is too early for a viewer that is blocked.
    fn pass_over(&mut self, entry: &Entry, place: &Place, joins: bool) {
        if joins {
            self.enter_following();
        }
        self.course.offset_90k = place.offset_90k;
        self.course.last = Some(last_of(entry, place));
        if let Some(walk) = &mut self.walk {
            walk.advance();
        }
    }

    fn send_when_due(&mut self, now: Instant, next: Next) -> bool {
        if self.course.burst.is_none() {
            let due = self.course.clock.due(next.place.send_90k);
            if due > now {
                self.wake = Some(due);
                self.course.next = Some(next);
                return false;
            }
            // What is shown before a picture that was sent is late anyway.
            let in_order = self.course.last.is_none_or(|last| next.place.media_90k >= last.media_90k);
            if in_order && now - due > LATE_MAX {
                self.course.clock.set_media(now, next.place.send_90k);
            }
        }
        self.send(&next);
        true
    }

    fn send(&mut self, next: &Next) {
        let Next { place, entry, nals, joins } = next;
        if *joins {
            self.enter_following();
        }
        if place.gap {
            self.outputs.push_back(PlayerOutput::Skipped { unix_ms: entry.unix_ms });
        }
        let sets = self.announce_sets();
        let (rtp_timestamp, out_of_order) = self.stamp(entry, place);
        self.outbox.put(&Picture {
            nals,
            rtp_timestamp,
            random_access: sets.as_deref().filter(|_| entry.sync),
            out_of_order,
        });
        self.note_sent(entry, place, out_of_order);
        self.ask_early();
    }

    /// The parameter sets of this segment, given out where they are others than before.
    fn announce_sets(&mut self) -> Option<Rc<ParameterSets>> {
        let walk = self.walk.as_mut()?;
        let sets = walk.open().ok()?;
        let known = self.course.parameter_sets.as_ref();
        if known.is_none_or(|known| !Rc::ptr_eq(known, &sets) && **known != *sets) {
            self.outbox.set_codec(walk.codec);
            self.outputs.push_back(PlayerOutput::ParameterSets(Rc::clone(&sets)));
        }
        self.course.parameter_sets = Some(Rc::clone(&sets));
        Some(sets)
    }

    /// The timestamp of a picture, and whether it is shown before one sent earlier. Of those that are not, timestamps rise.
    fn stamp(&mut self, entry: &Entry, place: &Place) -> (u32, bool) {
        let course = &mut self.course;
        let wire_90k = match &course.burst {
            Some(burst) => burst.wire(place.media_90k, self.speed),
            None => course.clock.wire(place.media_90k),
        };
        let out_of_order = !entry.sync && course.last.is_some_and(|last| place.media_90k < last.media_90k);
        if out_of_order {
            return (wire_90k as u32, true);
        }
        let wire_90k = course.newest_wire_90k.map_or(wire_90k, |newest| wire_90k.max(newest + 1));
        course.newest_wire_90k = Some(wire_90k);
        (wire_90k as u32, false)
    }

    fn note_sent(&mut self, entry: &Entry, place: &Place, out_of_order: bool) {
        let course = &mut self.course;
        course.offset_90k = place.offset_90k;
        let Some(walk) = &mut self.walk else { return };
        let position = walk.position();
        walk.advance();
        course.sent = walk.position();
        if !out_of_order {
            course.last = Some(last_of(entry, place));
            if course.burst.is_none() {
                course.shown_unix_ms = entry.unix_ms;
            }
        }
        if let Some(burst) = &mut course.burst {
            burst.left = burst.left.saturating_sub(1);
        }
        match &mut course.gop {
            Some(gop) if !entry.sync => gop.pictures += 1,
            gop => {
                let presentation_90k = entry.presentation_90k;
                *gop = Some(Gop { keyframe: position, presentation_90k, pictures: 1 });
                course.blocked = None;
                if course.burst.is_none() {
                    self.course.keyframes_only = self.wants_keyframes_only();
                }
            }
        }
    }

    /// What is left of this segment is played while the next one is looked for.
    fn ask_early(&mut self) {
        let Some(left_ms) = self.left_ms() else { return };
        let Self { question, following, .. } = self;
        let free = question.asked.is_none() && question.retry_at.is_none() && !question.refused;
        if free && following.is_none() && (left_ms as f64) < ASK_AHEAD_MS * self.speed.max(1.0) {
            self.ask(Asked::Early);
        }
    }

    /// Of this segment; `None` while it is open.
    fn left_ms(&self) -> Option<i64> {
        let end_unix_ms = self.walk.as_ref()?.end_unix_ms()?;
        Some(end_unix_ms.saturating_sub(self.course.last?.unix_ms))
    }

    fn enter_following(&mut self) {
        let following = self.following.take();
        let walk = std::mem::replace(&mut self.walk, following);
        self.release(walk);
        self.course.gop = None;
        self.course.cut_short = false;
        self.course.following_is_loaded = false;
        self.question.refused = false;
    }

    /// Nothing can be sent now. True if there may be more to do.
    fn on_stop(&mut self, now: Instant, stop: Stop) -> bool {
        match stop {
            Stop::Read { segment, offset, bytes } => self.wish(segment, offset, bytes),
            Stop::Damaged { segment, reason } => {
                self.on_damage(now, segment, reason);
                return true;
            }
            // What was there is not there any more, or was never all there.
            Stop::Edge { .. } | Stop::End if self.course.burst.is_some() => {
                self.end_burst(now);
                return true;
            }
            Stop::Edge { newest_unix_ms } => self.wait_at_edge(now, newest_unix_ms),
            Stop::End => return self.wait_for_following(now),
        }
        false
    }

    /// Live, once the newest picture is seen. Keyframes alone end before it.
    fn wait_at_edge(&mut self, now: Instant, newest_unix_ms: i64) {
        let due = self.course.last.map(|last| {
            let ahead_ms = newest_unix_ms.saturating_sub(last.unix_ms).clamp(0, WAIT_90K_MAX / 90);
            self.course.clock.due(last.media_90k.saturating_add(ahead_ms * 90))
        });
        match due.filter(|&due| due > now) {
            Some(due) => self.wake = Some(due),
            None => self.finish(PlayerOutput::Live),
        }
    }

    fn wait_for_following(&mut self, now: Instant) -> bool {
        match self.question.retry_at {
            _ if self.question.asked.is_some() => {}
            Some(at) if at > now => self.wake = Some(at),
            _ => self.ask(Asked::Late),
        }
        false
    }
}
