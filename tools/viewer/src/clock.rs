//! Time as this program measures it: nanoseconds of `CLOCK_MONOTONIC`, the clock that the camera's stamp is written in.
//!
//! Timers and waits do not belong here.

use std::ops::Add;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A moment of `CLOCK_MONOTONIC`, in nanoseconds since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// The present moment.
    pub fn now() -> Self {
        Self(read_ns(ClockId::CLOCK_MONOTONIC))
    }

    /// The moment that many nanoseconds after boot.
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since boot.
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Turns the kernel's receive stamps, which are `CLOCK_REALTIME`, into moments of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug)]
pub struct RealtimeOffset(i128);

impl RealtimeOffset {
    /// Reads both clocks. Good until somebody steps the system clock, so read it anew about every second.
    pub fn read() -> Self {
        let monotonic = read_ns(ClockId::CLOCK_MONOTONIC);
        let realtime = read_ns(ClockId::CLOCK_REALTIME);
        Self(i128::from(monotonic) - i128::from(realtime))
    }

    /// The moment of a `CLOCK_REALTIME` reading, given in nanoseconds since 1970.
    pub fn moment(self, realtime_ns: u64) -> Moment {
        Moment(u64::try_from(i128::from(realtime_ns) + self.0).unwrap_or(0))
    }
}

fn read_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("Linux always has the monotonic and the realtime clock");
    u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realtime_reading_becomes_the_monotonic_moment_it_was_taken_at() {
        let offset = RealtimeOffset(-1_000);
        assert_eq!(offset.moment(5_000), Moment::from_ns(4_000));
        assert_eq!(offset.moment(10), Moment::from_ns(0));
    }

    #[test]
    fn a_later_moment_is_never_negative_time_away() {
        let early = Moment::from_ns(5);
        assert_eq!((early + Duration::from_nanos(7)).since(early), Duration::from_nanos(7));
        assert_eq!(early.since(early + Duration::from_secs(1)), Duration::ZERO);
    }
}
