//! How much an input sends, over windows of two seconds.

use std::time::{Duration, Instant};

/// Counts one attempt's bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByteRate {
    window: Option<Instant>,
    bytes: u64,
}

impl ByteRate {
    /// Counts bytes that came; true if they are more than `bits_per_second_max` allows. 0 allows all.
    pub(super) fn exceeds(&mut self, now: Instant, bytes: u64, bits_per_second_max: u64) -> bool {
        if bits_per_second_max == 0 {
            return false;
        }
        if self.window.is_none_or(|start| now >= start + WINDOW) {
            *self = Self { window: Some(now), bytes: 0 };
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.bytes.saturating_mul(8) > bits_per_second_max.saturating_mul(WINDOW.as_secs())
    }
}

/// A key picture, or what a camera has stored when it is asked to play, must not look like a rate.
const WINDOW: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_within_two_seconds_worth_passes_and_more_does_not() {
        let now = Instant::now();
        let mut rate = ByteRate::default();
        assert!(!rate.exceeds(now, 250, 1000));
        assert!(rate.exceeds(now, 1, 1000));
        assert!(!rate.exceeds(now + WINDOW, 250, 1000));
        assert!(!ByteRate::default().exceeds(now, u64::MAX, 0));
        assert!(ByteRate::default().exceeds(now, u64::MAX, 1000));
    }

    #[test]
    fn a_steady_rate_is_judged_within_two_seconds() {
        let now = Instant::now();
        let over = |bytes_per_second: u64| {
            let mut rate = ByteRate::default();
            (0..100).find(|tenth| {
                rate.exceeds(now + Duration::from_millis(100 * tenth), bytes_per_second / 10, 8_000_000)
            })
        };
        assert_eq!(over(1_000_000), None);
        assert!(over(1_200_000).is_some_and(|tenth| tenth < 20));
    }
}
