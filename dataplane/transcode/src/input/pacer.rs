//! When a picture may go out: what comes faster than real time (files, HLS with segments in stock) is held back, so that no
//! viewer's clock runs ahead. What comes late goes out at once.

use std::time::{Duration, Instant};

/// Paces by decode time against the monotonic clock, which it is given.
#[derive(Debug)]
pub(super) struct Pacer {
    lead: Duration,
    /// A decode time and when it is due.
    anchor: Option<(i64, Instant)>,
    last_90k: i64,
}

impl Pacer {
    /// Lets pictures go so much earlier than they are due.
    pub(super) fn new(lead: Duration) -> Self {
        Self { lead, anchor: None, last_90k: 0 }
    }

    /// When the next picture may go; a time that is over means at once.
    pub(super) fn due(&mut self, dts_90k: i64, now: Instant) -> Instant {
        let due = self.expected(dts_90k, now).filter(|&due| now.saturating_duration_since(due) <= MAX_LATE);
        let due = due.unwrap_or_else(|| {
            // It jumped, or so much is missing that catching up would be a flood: begin anew.
            let after_the_last = self.expected(self.last_90k, now).map_or(now, |last| last.max(now));
            self.anchor = Some((dts_90k, after_the_last));
            after_the_last
        });
        self.last_90k = dts_90k;
        due.checked_sub(self.lead).unwrap_or(now)
    }

    /// `None` at the start and at jumps.
    fn expected(&self, dts_90k: i64, now: Instant) -> Option<Instant> {
        let (anchor_90k, at) = self.anchor?;
        let step = dts_90k.checked_sub(self.last_90k)?;
        let since = u64::try_from(dts_90k.checked_sub(anchor_90k)?).ok()?;
        let since = Duration::from_micros(since.checked_mul(100)? / 9);
        (0..=MAX_STEP_90K).contains(&step).then(|| at.checked_add(since).unwrap_or(now))
    }
}

/// More behind than this, and it does not catch up any more.
const MAX_LATE: Duration = Duration::from_secs(2);

/// A picture that is so much after the one before it jumped: ten seconds.
const MAX_STEP_90K: i64 = 10 * 90_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pictures_go_at_their_times() {
        let (mut pacer, start) = (Pacer::new(Duration::ZERO), Instant::now());
        for second in 0..100 {
            assert_eq!(pacer.due(i64::from(second) * 90_000, start), start + SECOND * second);
        }
    }

    #[test]
    fn a_stock_of_pictures_runs_ahead_by_the_lead_only() {
        let (mut pacer, start) = (Pacer::new(SECOND / 2), Instant::now());
        assert!(pacer.due(0, start) <= start);
        assert!(pacer.due(45_000, start) <= start);
        assert_eq!(pacer.due(90_000, start), start + SECOND / 2);
    }

    #[test]
    fn a_little_late_is_caught_up_and_much_late_is_not() {
        let (mut pacer, start) = (Pacer::new(Duration::ZERO), Instant::now());
        pacer.due(0, start);
        assert_eq!(pacer.due(90_000, start + SECOND * 2), start + SECOND);
        assert_eq!(pacer.due(180_000, start + SECOND * 10), start + SECOND * 10);
        assert_eq!(pacer.due(270_000, start + SECOND * 10), start + SECOND * 11);
    }

    #[test]
    fn jumps_neither_wait_nor_flood() {
        let (mut pacer, start) = (Pacer::new(Duration::ZERO), Instant::now());
        pacer.due(0, start);
        pacer.due(90_000, start);
        assert_eq!(pacer.due(90_000 * 3600, start), start + SECOND, "hours ahead");
        assert_eq!(pacer.due(90_000 * 3601, start), start + SECOND * 2);
        assert_eq!(pacer.due(-5, start), start + SECOND * 2, "and back");
        assert_eq!(pacer.due(i64::MAX, start), start + SECOND * 2);
        assert_eq!(pacer.due(i64::MIN, start), start + SECOND * 2);
    }
}
