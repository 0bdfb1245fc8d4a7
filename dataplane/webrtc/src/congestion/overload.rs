//! The verdict that a path does not carry the stream, and how long the viewer waits after it.
//!
//! Loss alone is met by retransmission; a path is overloaded when much is lost for half a second, or less of it with a
//! queue, or when the queue stays long and does not drain. A large access unit that takes its time is none of that.

use super::loss::Window;

/// Windows of feedback, one after the other, and what they add up to.
#[derive(Debug, Default)]
pub(super) struct Overload {
    lossy: Lasting,
    late: Lasting,
    queueing_before_us: u64,
    pending: bool,
    /// What was sent before is not judged again.
    judged_from_us: u64,
    level: u8,
    clean_us: u64,
    resume_us: Option<u64>,
}

/// Something that was seen in windows one after the other.
#[derive(Debug, Default)]
struct Lasting {
    windows: u8,
    since_us: u64,
}

impl Lasting {
    /// True once it was seen in two windows and for so long.
    fn handle_window(&mut self, window: &Window, seen: bool, long_enough_us: u64) -> bool {
        if !seen {
            self.windows = 0;
            return false;
        }
        if self.windows == 0 {
            self.since_us = window.since_us;
        }
        self.windows = self.windows.saturating_add(1);
        self.windows > 1 && window.until_us - self.since_us >= long_enough_us
    }
}

impl Overload {
    /// Only what was sent at or after this counts.
    pub fn judged_from_us(&self) -> u64 {
        self.judged_from_us
    }

    /// After an overload: not before this.
    pub fn resume_us(&self) -> Option<u64> {
        self.resume_us
    }

    /// A time of feedback on what was sent since [`Overload::judged_from_us`].
    pub fn handle_window(&mut self, window: &Window) {
        let lossy = window.loss > LOSS_HEAVY || window.loss > LOSS_MAX && window.queueing_us > QUEUEING_US;
        let grows = window.queueing_us + DRAINS_US > self.queueing_before_us;
        let late = window.queueing_us > LATE_US && grows;
        self.queueing_before_us = window.queueing_us;
        self.pending |= self.lossy.handle_window(window, lossy, LOSSY_US);
        self.pending |= self.late.handle_window(window, late, LATE_LASTS_US);
        if !lossy && window.queueing_us < LATE_US {
            self.handle_clean(window.until_us - window.since_us);
        }
    }

    fn handle_clean(&mut self, elapsed_us: u64) {
        self.clean_us += elapsed_us.min(CLEAN_WINDOW_US_MAX);
        if self.clean_us >= CLEAN_US {
            self.clean_us = 0;
            self.level = self.level.saturating_sub(1);
        }
    }

    /// The path is overloaded for another reason.
    pub fn set_pending(&mut self) {
        self.pending = true;
    }

    /// True once an overload; then the next one's wait is longer.
    pub fn poll(&mut self, now_us: u64) -> bool {
        if !self.pending {
            return false;
        }
        let wait_us = WAITS_S[usize::from(self.level)] * 1_000_000;
        let level = (self.level + 1).min(WAITS_S.len() as u8 - 1);
        *self = Self { level, judged_from_us: now_us, resume_us: Some(now_us + wait_us), ..Self::default() };
        true
    }
}

/// One overload after the other: at the next random access point at first, then with time for the queue to drain and for
/// others to get through.
const WAITS_S: [u64; 6] = [0, 1, 2, 4, 8, 16];
/// Of going well, before the next wait is one step shorter.
const CLEAN_US: u64 = 10_000_000;
/// A report after a silence does not speak for all of it.
const CLEAN_WINDOW_US_MAX: u64 = 2_000_000;
/// Beyond this, retransmissions are lost as well.
const LOSS_HEAVY: f64 = 0.2;
const LOSS_MAX: f64 = super::estimate::LOSS_MAX;
const LOSSY_US: u64 = 500_000;
/// A queue that is more than jitter.
const QUEUEING_US: u64 = 100_000;
/// No longer live; beyond what a large access unit makes on a path that carries the stream.
const LATE_US: u64 = 400_000;
const LATE_LASTS_US: u64 = 750_000;
/// A queue that is shorter by this than a window ago drains.
const DRAINS_US: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of a quarter of a second from `at` on; when it was overloaded.
    fn overload_after(overload: &mut Overload, windows: &[(f64, u64)]) -> Option<usize> {
        windows.iter().enumerate().find_map(|(index, (loss, queueing_ms))| {
            let since_us = 250_000 * index as u64;
            let window = Window {
                since_us,
                until_us: since_us + 250_000,
                loss: *loss,
                lost: 10,
                queueing_us: queueing_ms * 1000,
            };
            overload.handle_window(&window);
            overload.poll(window.until_us).then_some(index)
        })
    }

    #[test]
    fn much_loss_for_half_a_second_is_one() {
        assert_eq!(overload_after(&mut Overload::default(), &[(0.3, 0); 4]), Some(1));
        assert_eq!(overload_after(&mut Overload::default(), &[(0.3, 0), (0.1, 0), (0.3, 0), (0.0, 0)]), None);
    }

    #[test]
    fn some_loss_is_one_only_with_a_queue() {
        assert_eq!(overload_after(&mut Overload::default(), &[(0.15, 0); 9]), None);
        assert_eq!(overload_after(&mut Overload::default(), &[(0.15, 150); 9]), Some(1));
        assert_eq!(overload_after(&mut Overload::default(), &[(0.05, 150); 9]), None);
    }

    #[test]
    fn a_long_queue_is_one_unless_it_drains() {
        assert_eq!(overload_after(&mut Overload::default(), &[(0.0, 600); 9]), Some(2));
        let growing: Vec<_> = (0..9).map(|index| (0.0, 100 * index)).collect();
        assert_eq!(overload_after(&mut Overload::default(), &growing), Some(7));
        let draining: Vec<_> = (0..9).map(|index| (0.0, 900 - 50 * index)).collect();
        assert_eq!(overload_after(&mut Overload::default(), &draining), None);
    }

    #[test]
    fn each_wait_is_longer_until_all_goes_well() {
        let mut overload = Overload::default();
        let mut wait = || {
            overload.set_pending();
            assert!(overload.poll(7) && !overload.poll(7));
            (overload.resume_us().unwrap() - 7) / 1_000_000
        };
        assert_eq!([0; 8].map(|_| wait()), [0, 1, 2, 4, 8, 16, 16, 16]);
        assert_eq!(overload_after(&mut overload, &[(0.0, 0); 120]), None);
        overload.set_pending();
        assert!(overload.poll(7));
        assert_eq!(overload.resume_us(), Some(7 + 2_000_000), "three steps in half a minute");
    }
}
