//! How often something may be done: a few times at once, then at a rate (a token bucket).

use std::time::{Duration, Instant};

/// The two numbers of a budget.
#[derive(Debug)]
pub(super) struct Limit {
    /// As many at once.
    pub(super) burst: u8,
    /// One more after each of these; not zero.
    pub(super) refill: Duration,
}

/// What is left of a [`Limit`].
#[derive(Debug)]
pub(super) struct Budget {
    limit: &'static Limit,
    left: u8,
    refilled_at: Instant,
}

impl Budget {
    /// Full at `now`.
    pub(super) fn new(now: Instant, limit: &'static Limit) -> Self {
        Self { limit, left: limit.burst, refilled_at: now }
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
        while self.left < self.limit.burst
            && now.saturating_duration_since(self.refilled_at) >= self.limit.refill
        {
            self.left += 1;
            self.refilled_at += self.limit.refill;
        }
        if self.left == self.limit.burst {
            self.refilled_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static LIMIT: Limit = Limit { burst: 3, refill: Duration::from_secs(1) };

    fn takes(budget: &mut Budget, now: Instant) -> usize {
        std::iter::repeat_with(|| budget.take(now)).take(10).filter(|taken| *taken).count()
    }

    #[test]
    fn a_burst_then_one_each_interval() {
        let start = Instant::now();
        let mut budget = Budget::new(start, &LIMIT);
        assert_eq!(takes(&mut budget, start), 3);
        assert_eq!(takes(&mut budget, start + Duration::from_millis(999)), 0);
        assert_eq!(takes(&mut budget, start + Duration::from_millis(1000)), 1);
        assert_eq!(takes(&mut budget, start + Duration::from_millis(3000)), 2);
    }

    #[test]
    fn a_long_rest_saves_no_more_than_a_burst() {
        let start = Instant::now();
        let mut budget = Budget::new(start, &LIMIT);
        assert_eq!(takes(&mut budget, start), 3);
        let rested = start + Duration::from_secs(3600);
        assert_eq!(takes(&mut budget, rested), 3);
        assert_eq!(takes(&mut budget, rested + Duration::from_millis(999)), 0);
        assert_eq!(takes(&mut budget, rested + Duration::from_millis(1000)), 1);
    }
}
