//! What ends a blocking call: the handle was dropped, or a deadline is over. FFmpeg asks it every 100 ms at the latest.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shared by an input's handle, its thread and FFmpeg's interrupt callback. Wait-free and without panics: a panic in the
/// callback would end the process.
#[derive(Debug)]
pub(super) struct Watch {
    stopped: AtomicBool,
    began: Instant,
    /// Microseconds from `began`.
    deadline_us: AtomicU64,
    /// A call was interrupted by the deadline. FFmpeg gives what it still has and fails after that, so it stays.
    expired: AtomicBool,
}

impl Watch {
    /// With a deadline from now.
    pub(super) fn new(timeout: Duration) -> Self {
        let [stopped, expired] = [AtomicBool::new(false), AtomicBool::new(false)];
        let watch = Self { stopped, began: Instant::now(), deadline_us: AtomicU64::new(0), expired };
        watch.allow(timeout);
        watch
    }

    /// From now on everything is interrupted.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// True after [`Self::stop`].
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

#[cfg_attr(not(feature = "ffmpeg"), allow(dead_code, reason = "without FFmpeg nothing is read"))]
impl Watch {
    /// Sets a new deadline from now.
    pub(super) fn allow(&self, timeout: Duration) {
        let deadline = self.began.elapsed().saturating_add(timeout);
        self.deadline_us.store(u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// True when the deadline is over, or something was interrupted by an earlier one.
    pub(super) fn is_late(&self) -> bool {
        let late = self.began.elapsed().as_micros() >= u128::from(self.deadline_us.load(Ordering::Acquire));
        if late {
            self.expired.store(true, Ordering::Release);
        }
        self.expired.load(Ordering::Acquire)
    }

    /// What FFmpeg asks.
    pub(super) fn interrupts(&self) -> bool {
        self.is_stopped() || self.is_late()
    }

    /// Sleeps until `due`; false when it was stopped meanwhile. The handle unparks the thread.
    pub(super) fn sleep_until(&self, due: Instant) -> bool {
        while !self.is_stopped() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::park_timeout(left);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_interrupts_and_wakes() {
        let watch = Watch::new(Duration::from_secs(3600));
        assert!(!watch.interrupts());
        watch.stop();
        assert!(watch.interrupts());
        assert!(!watch.sleep_until(Instant::now() + Duration::from_secs(3600)));
    }

    #[test]
    fn a_deadline_is_moved_until_it_has_interrupted() {
        let watch = Watch::new(Duration::ZERO);
        watch.allow(Duration::MAX);
        assert!(!watch.interrupts());
        assert!(watch.sleep_until(Instant::now()));
        watch.allow(Duration::ZERO);
        assert!(watch.interrupts() && !watch.is_stopped());
        watch.allow(Duration::MAX);
        assert!(watch.interrupts());
    }
}
