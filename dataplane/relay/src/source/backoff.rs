//! How long to wait before the inputs are tried again.

use std::time::Duration;

use lanecast_protocol::rtsp::SplitMix64;

/// Exponential, from one second to half a minute, or as the operator says.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    random: SplitMix64,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { failures: 0, random: SplitMix64::new(seed) }
    }

    /// The pause after one more failure; `fixed` takes the place of the back-off.
    pub(super) fn next_pause(&mut self, fixed: Option<Duration>) -> Duration {
        let exponential = PAUSE_MIN.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        fixed.unwrap_or_else(|| self.jittered(exponential))
    }

    /// A healthy period forgives what was before it.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// 80 to 120 %: cameras that went away together do not come back in step.
    fn jittered(&mut self, pause: Duration) -> Duration {
        let per_mille = 800 + self.random.below(401) as u32;
        pause * per_mille / 1000
    }
}

const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// 2^5 s is above the longest pause.
const DOUBLINGS_MAX: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_from_a_second_to_half_a_minute_with_a_fifth_of_jitter() {
        let mut backoff = Backoff::new(1);
        for expected in [1, 2, 4, 8, 16, 30, 30, 30] {
            let pause = backoff.next_pause(None).as_secs_f64() / f64::from(expected);
            assert!((0.8..=1.2).contains(&pause), "{expected}: {pause}");
        }
        backoff.reset();
        assert!(backoff.next_pause(None) < Duration::from_millis(1201));
    }

    #[test]
    fn differs_by_seed_and_never_without() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(seed);
            [backoff.next_pause(None), backoff.next_pause(None)]
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
    }

    #[test]
    fn the_operators_interval_takes_its_place() {
        let mut backoff = Backoff::new(1);
        for _ in 0..3 {
            assert_eq!(backoff.next_pause(Some(Duration::from_secs(7))), Duration::from_secs(7));
        }
    }
}
