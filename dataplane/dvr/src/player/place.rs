//! Where a picture is on the one line of media time, which runs on over segments, gaps and files that go wrong.
//!
//! A segment has its own times, from its start; an offset makes media time of them, chosen when its first picture joins on to what
//! was sent, and anew wherever a file jumps. Not here: what media time is to the clock.

use std::time::Instant;

use super::Player;
use super::walk::{Entry, Walk};

/// Between the end of a segment and the start of the next: more is a gap.
const GAP_MS: i64 = 1000;
/// By how much the times of day may differ from the durations where segments follow one another: rounding, and a clock that is slewed.
const SEAM_90K: i64 = 4500;
/// Who watches waits for the next picture as long as this at the most, in time or in media time; what is more is a gap.
pub(super) const WAIT_90K_MAX: i64 = 900_000;
/// By how much a picture may come before one that is shown earlier: 16 of them at 8 a second.
const REORDER_90K_MAX: i64 = 180_000;

/// A picture on the one line of media time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) offset_90k: i64,
    pub(super) media_90k: i64,
    /// When it goes out.
    pub(super) send_90k: i64,
    /// Something is missing before it.
    pub(super) gap: bool,
}

/// The newest picture on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    pub(super) media_90k: i64,
    pub(super) duration_90k: i64,
    pub(super) unix_ms: i64,
}

impl Place {
    /// Not sent much before it is shown, nor after.
    fn bounded(self) -> Self {
        let earliest_90k = self.media_90k.saturating_sub(REORDER_90K_MAX);
        Self { send_90k: self.send_90k.clamp(earliest_90k, self.media_90k), ..self }
    }
}

impl Player {
    /// Where a picture is on the line of media time. `joins`: it is the first of the next segment.
    pub(super) fn place(&self, now: Instant, entry: &Entry, joins: bool) -> Place {
        let course = &self.course;
        let running_90k = course.clock.media_at(now);
        let on = |offset_90k: i64, gap| {
            let media_90k = offset_90k.saturating_add(entry.presentation_90k);
            Place { offset_90k, media_90k, send_90k: offset_90k.saturating_add(entry.send_90k), gap }
                .bounded()
        };
        let at = |media_90k: i64, gap| on(media_90k.saturating_sub(entry.presentation_90k), gap);
        if let Some(burst) = &course.burst {
            let place = on(course.offset_90k, false);
            // One behind the pivot is there because others before the pivot need it.
            let latest_90k = burst.pivot_90k.saturating_add(REORDER_90K_MAX);
            return Place { media_90k: place.media_90k.min(latest_90k), ..place }.bounded();
        }
        let Some(last) = course.last else { return at(running_90k, false) };
        let resumed_90k = last.media_90k.saturating_add(self.frame_90k()).max(running_90k);
        let mut place = on(course.offset_90k, false);
        if joins {
            let unix_ms = match self.walk.as_ref().and_then(Walk::end_unix_ms) {
                Some(end_unix_ms) if !course.cut_short => end_unix_ms.max(last.unix_ms),
                _ => last.unix_ms.saturating_add(self.frame_90k() / 90),
            };
            if entry.unix_ms.saturating_sub(unix_ms) > GAP_MS {
                return at(resumed_90k, true);
            }
            place = at(joined_90k(&last, entry, course.steps()), false);
        }
        let wait_90k = place.media_90k.saturating_sub(last.media_90k.max(running_90k));
        if wait_90k > (WAIT_90K_MAX as f64 * self.speed.max(1.0)) as i64 {
            return at(resumed_90k, true);
        }
        if entry.sync && place.media_90k <= last.media_90k {
            return at(resumed_90k, false);
        }
        // A picture that is shown earlier than those sent is not shown much earlier.
        place.media_90k = place.media_90k.max(last.media_90k.saturating_sub(REORDER_90K_MAX));
        place.bounded()
    }
}

/// Media time of the first picture of a segment that follows the last one's without a gap: by the last picture's duration, where
/// the times of day agree with that, else by those.
fn joined_90k(last: &Last, entry: &Entry, steps: bool) -> i64 {
    let by_unix_90k =
        last.media_90k.saturating_add(entry.unix_ms.saturating_sub(last.unix_ms).saturating_mul(90));
    let by_duration_90k = last.media_90k.saturating_add(last.duration_90k);
    match !steps && (by_unix_90k - by_duration_90k).abs() <= SEAM_90K {
        true => by_duration_90k,
        false => by_unix_90k,
    }
}

pub(super) fn last_of(entry: &Entry, place: &Place) -> Last {
    Last { media_90k: place.media_90k, duration_90k: entry.duration_90k, unix_ms: entry.unix_ms }
}
