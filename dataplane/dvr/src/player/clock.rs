//! When a picture is due, and which timestamp it has: media time, the wire's timestamps and the time that passes, on one line.
//!
//! All ticks are of 90 kHz. Timestamps run with the time that passes, whatever the speed; media time runs `speed` times as fast.
//! A [`Burst`] is the exception: a GOP that is sent at once, under timestamps close together.

use std::time::{Duration, Instant};

/// Ticks between two pictures of a burst: 1 ms, the resolution of common players' clocks.
pub(super) const STEP_90K: i64 = 90;

/// The line: at this time, this media time has this timestamp.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    at: Instant,
    media_90k: i64,
    wire_90k: i64,
    /// 0: media time stands still.
    speed: f64,
}

impl Clock {
    pub(super) fn new(at: Instant, media_90k: i64, wire_90k: i64, speed: f64) -> Self {
        Self { at, media_90k, wire_90k, speed }
    }

    /// From `now` on media time goes on as fast as this; timestamps go on as before.
    pub(super) fn set_speed(&mut self, now: Instant, speed: f64) {
        *self = Self::new(now, self.media_at(now), self.wire_at(now), speed);
    }

    /// From `now` on media time goes on from here; timestamps go on as before.
    pub(super) fn set_media(&mut self, now: Instant, media_90k: i64) {
        *self = Self::new(now, media_90k, self.wire_at(now), self.speed);
    }

    pub(super) fn media_at(&self, now: Instant) -> i64 {
        self.media_90k.saturating_add((ticks(self.at, now) as f64 * self.speed) as i64)
    }

    pub(super) fn wire_at(&self, now: Instant) -> i64 {
        self.wire_90k.saturating_add(ticks(self.at, now))
    }

    /// The timestamp of a picture at this media time.
    pub(super) fn wire(&self, media_90k: i64) -> i64 {
        self.wire_90k.saturating_add(self.stretched(media_90k))
    }

    /// When a picture of this media time is due.
    pub(super) fn due(&self, media_90k: i64) -> Instant {
        after(self.at, self.stretched(media_90k))
    }

    /// When the timestamps reach this one.
    pub(super) fn time_of_wire(&self, wire_90k: i64) -> Instant {
        after(self.at, wire_90k.saturating_sub(self.wire_90k))
    }

    fn stretched(&self, media_90k: i64) -> i64 {
        stretch(media_90k.saturating_sub(self.media_90k), self.speed)
    }
}

/// A GOP, or the start of it, that goes out at once.
///
/// Timestamps up to the pivot's are pressed together, from `first_wire_90k` on, in the order in which the pictures are shown.
/// Pictures that are shown after the pivot, and are in the burst because others before it need them, keep their distance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burst {
    /// Pictures in it.
    pub(super) pictures: usize,
    /// Those that are not sent yet.
    pub(super) left: usize,
    pub(super) first_90k: i64,
    /// Of the picture that is seen when it is over.
    pub(super) pivot_90k: i64,
    pub(super) first_wire_90k: i64,
    /// Between two pictures.
    pub(super) step_90k: i64,
    /// The clock goes on when it is over (it begins then), not as if nothing had been.
    pub(super) starts_clock: bool,
}

impl Burst {
    /// The timestamp of a picture at this media time.
    pub(super) fn wire(&self, media_90k: i64, speed: f64) -> i64 {
        let range_90k = self.pivot_90k.saturating_sub(self.first_90k);
        if media_90k > self.pivot_90k {
            let speed = if speed > 0.0 { speed } else { 1.0 };
            return self.pivot_wire_90k() + stretch(media_90k.saturating_sub(self.pivot_90k), speed);
        }
        if range_90k <= 0 {
            return self.first_wire_90k;
        }
        let ahead = i128::from(media_90k.saturating_sub(self.first_90k)) * i128::from(self.span_90k());
        self.first_wire_90k.saturating_add((ahead / i128::from(range_90k)) as i64)
    }

    /// The timestamp of the picture that is seen when it is over.
    pub(super) fn pivot_wire_90k(&self) -> i64 {
        let span_90k = if self.pivot_90k > self.first_90k { self.span_90k() } else { 0 };
        self.first_wire_90k.saturating_add(span_90k)
    }

    fn span_90k(&self) -> i64 {
        self.pictures.saturating_sub(1) as i64 * self.step_90k
    }
}

/// Ticks that so much media takes. None, where it stands still.
fn stretch(media_90k: i64, speed: f64) -> i64 {
    if speed > 0.0 { (media_90k as f64 / speed).round() as i64 } else { 0 }
}

/// Ticks from `start` to `end`; negative if that is earlier.
fn ticks(start: Instant, end: Instant) -> i64 {
    let of = |time: Duration| i64::try_from(time.as_nanos() * 9 / 100_000).unwrap_or(i64::MAX);
    if end >= start { of(end - start) } else { -of(start - end) }
}

/// So many ticks after `start`, or before; `start` where no clock goes so far. Never early by a part of a tick.
fn after(start: Instant, ticks: i64) -> Instant {
    let nanos = u64::try_from((u128::from(ticks.unsigned_abs()) * 100_000).div_ceil(9)).unwrap_or(u64::MAX);
    let time = Duration::from_nanos(nanos);
    let moved = if ticks >= 0 { start.checked_add(time) } else { start.checked_sub(time) };
    moved.unwrap_or(start)
}
