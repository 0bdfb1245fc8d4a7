//! How long to wait before an input is tried again.

use std::time::Duration;

use lanecast_protocol::rtsp::SplitMix64;

/// Exponential between two bounds, or as the operator says.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    /// What works was lost, and nothing was tried since.
    fresh_loss: bool,
    random: SplitMix64,
}

impl Backoff {
    /// From one second to five: for a stream that has nothing to show.
    pub(super) fn urgent(seed: u64) -> Self {
        Self::between(PAUSE_MIN, PAUSE_MAX, seed)
    }

    /// From five seconds to half a minute: for a better input, while another gives pictures.
    pub(super) fn leisurely(seed: u64) -> Self {
        Self::between(LEISURELY_PAUSE_MIN, LEISURELY_PAUSE_MAX, seed)
    }

    fn between(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, failures: 0, fresh_loss: false, random: SplitMix64::new(seed) }
    }

    /// The pause after one more failure; `fixed`, and a little for the spread, takes the place of the back-off. One that would not be healed by asking
    /// again is not `hopeful`.
    pub(super) fn next_pause(&mut self, fixed: Option<Duration>, hopeful: bool) -> Duration {
        if let Some(fixed) = fixed {
            return fixed.max(FIXED_PAUSE_MIN) + self.spread();
        }
        if std::mem::take(&mut self.fresh_loss) {
            return self.spread();
        }
        let max = if hopeful { self.max } else { HOPELESS_PAUSE_MAX };
        let exponential = self.min.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX)).min(max);
        self.failures = self.failures.saturating_add(1);
        self.jittered(exponential)
    }

    /// What was before does not count any more.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
        self.fresh_loss = false;
    }

    /// As [`Backoff::reset`], because something worked and was just lost: the next pause only keeps cameras that went
    /// away together from being asked in one instant.
    pub(super) fn lose(&mut self) {
        self.failures = 0;
        self.fresh_loss = true;
    }

    fn spread(&mut self) -> Duration {
        Duration::from_millis(self.random.below(SPREAD.as_millis() as u64 + 1))
    }

    /// 80 to 120 %: cameras that went away together do not come back in step.
    fn jittered(&mut self, pause: Duration) -> Duration {
        let per_mille = 800 + self.random.below(401) as u32;
        pause * per_mille / 1000
    }
}

const PAUSE_MIN: Duration = Duration::from_secs(1);
/// A camera that is back gives pictures within seconds.
const PAUSE_MAX: Duration = Duration::from_secs(5);
const LEISURELY_PAUSE_MIN: Duration = Duration::from_secs(5);
const LEISURELY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A camera that locks out who tries a wrong password often is not to be kept locked.
const HOPELESS_PAUSE_MAX: Duration = Duration::from_secs(30);
/// An operator's pause of nothing would ask a camera without end.
const FIXED_PAUSE_MIN: Duration = Duration::from_millis(500);
/// Over so long are the first attempts spread after a loss, and all where an operator says how long to wait.
const SPREAD: Duration = Duration::from_millis(500);
/// 2^5 times the shortest pause is above the longest.
const DOUBLINGS_MAX: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_pauses(mut backoff: Backoff, expected: &[u32]) {
        for expected in expected {
            let pause = backoff.next_pause(None, true).as_secs_f64() / f64::from(*expected);
            assert!((0.8..=1.2).contains(&pause), "{expected}: {pause}");
        }
        backoff.reset();
        assert!(backoff.next_pause(None, true).as_secs_f64() <= 1.2 * f64::from(expected[0]));
    }

    #[test]
    fn grows_to_its_bound_with_a_fifth_of_jitter() {
        assert_pauses(Backoff::urgent(1), &[1, 2, 4, 5, 5, 5, 5]);
        assert_pauses(Backoff::leisurely(1), &[5, 10, 20, 30, 30, 30]);
    }

    #[test]
    fn the_first_pause_after_a_loss_is_only_a_spread() {
        let mut backoff = Backoff::urgent(1);
        for _ in 0..100 {
            backoff.lose();
            assert!(backoff.next_pause(None, true) <= SPREAD);
            assert!(backoff.next_pause(None, true) > SPREAD);
        }
    }

    #[test]
    fn grows_further_where_asking_again_does_not_help() {
        let mut backoff = Backoff::urgent(1);
        let pauses = [(); 8].map(|()| backoff.next_pause(None, false).as_secs());
        assert!(pauses[4] >= 12 && pauses[7] >= 24, "{pauses:?}");
    }

    #[test]
    fn differs_by_seed_and_never_without() {
        let pauses = |seed| {
            let mut backoff = Backoff::urgent(seed);
            [backoff.next_pause(None, true), backoff.next_pause(None, true)]
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
    }

    #[test]
    fn the_operators_interval_takes_its_place_and_is_spread() {
        let mut backoff = Backoff::urgent(1);
        let mut pauses = |fixed| [(); 100].map(|()| backoff.next_pause(Some(fixed), true));
        let interval = Duration::from_secs(7);
        let seven = pauses(interval);
        assert!(seven.iter().all(|pause| (interval..=interval + SPREAD).contains(pause)), "{seven:?}");
        assert!(seven.iter().max() > seven.iter().min().map(|least| *least + SPREAD / 2).as_ref());
        assert!(pauses(Duration::ZERO).iter().all(|pause| *pause >= FIXED_PAUSE_MIN));
    }
}
