//! How often something may be done: a few times at once, then at a rate (a token bucket).

use std::time::{Duration, Instant};

/// `BURST` at once, then one more after each `REFILL_MS`, which is not zero.
#[derive(Debug)]
pub(super) struct Budget<const BURST: u8, const REFILL_MS: u64> {
    left: u8,
    refilled_at: Instant,
}

impl<const BURST: u8, const REFILL_MS: u64> Budget<BURST, REFILL_MS> {
    /// Full at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, refilled_at: now }
    }

    /// Takes one; false if none is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    fn refill(&mut self, now: Instant) {
        let interval = Duration::from_millis(REFILL_MS);
        while self.left < BURST && now.saturating_duration_since(self.refilled_at) >= interval {
            self.left += 1;
            self.refilled_at += interval;
        }
        if self.left == BURST {
            self.refilled_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Three = Budget<3, 1000>;

    fn takes(budget: &mut Three, now: Instant) -> usize {
        std::iter::repeat_with(|| budget.take(now)).take(10).filter(|taken| *taken).count()
    }

    #[test]
    fn a_burst_then_one_each_interval() {
        let start = Instant::now();
        let mut budget = Three::new(start);
        assert_eq!(takes(&mut budget, start), 3);
        assert_eq!(takes(&mut budget, start + Duration::from_millis(999)), 0);
        assert_eq!(takes(&mut budget, start + Duration::from_millis(1000)), 1);
        assert_eq!(takes(&mut budget, start + Duration::from_millis(3000)), 2);
    }

    #[test]
    fn a_long_rest_saves_no_more_than_a_burst() {
        let start = Instant::now();
        let mut budget = Three::new(start);
        assert_eq!(takes(&mut budget, start), 3);
        let rested = start + Duration::from_secs(3600);
        assert_eq!(takes(&mut budget, rested), 3);
        assert_eq!(takes(&mut budget, rested + Duration::from_millis(999)), 0);
        assert_eq!(takes(&mut budget, rested + Duration::from_millis(1000)), 1);
    }
}
