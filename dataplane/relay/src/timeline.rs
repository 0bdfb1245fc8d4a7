//! One clock for a stream's whole life: the camera's RTP timestamps in, ours out.
//!
//! Ours are 90 kHz, never jump back over a reconnect, and at a break advance by about the real time that passed.

use std::time::{Duration, Instant};

/// The clock of all that we send.
pub const CLOCK_RATE_HZ: u32 = 90_000;
/// A camera's timestamp may run ahead of its arrival by this before it is a jump.
const MAX_FORWARD: Duration = Duration::from_secs(4);
/// And step back by this: B-pictures are sent after what they are shown before.
const MAX_BACKWARD: Duration = Duration::from_secs(1);
/// A break advances by this at least, so that two access units never share a timestamp: one 90 kHz tick is not
/// enough for players that round to milliseconds.
const MIN_STEP_90K: u32 = 90;

/// The mapping of one stream.
#[derive(Debug)]
pub struct Timeline {
    input_rate_hz: u32,
    last: Option<Last>,
    newest_90k: u32,
    restarted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    at: Instant,
    input: u32,
    /// Our time of `input`, in input units since the last break, to add differences without rounding twice.
    offset: i64,
    base_90k: u32,
    /// How far we ran ahead while the camera's clock stood still; taken back when it catches up.
    ahead_90k: u32,
}

impl Timeline {
    /// Our first timestamp will be `first_90k`.
    pub fn new(first_90k: u32) -> Self {
        Self { input_rate_hz: CLOCK_RATE_HZ, last: None, newest_90k: first_90k, restarted: true }
    }

    /// The camera's clock starts anew, at this rate.
    pub fn restart(&mut self, input_rate_hz: u32) {
        self.input_rate_hz = input_rate_hz.max(1);
        self.restarted = true;
    }

    /// Our timestamp for the access unit that came at `now` with the camera's `input`.
    pub fn map(&mut self, now: Instant, input: u32) -> u32 {
        let next = match self.last {
            Some(last) if !self.restarted && input == last.input => self.stand(now, last),
            Some(last) if !self.restarted && self.is_continuous(now, last, input) => {
                self.follow(now, last, input)
            }
            last => self.rebase(now, last, input),
        };
        self.last = Some(next);
        self.restarted = false;
        let mapped = next.base_90k.wrapping_add(self.to_90k(next.offset));
        if (mapped.wrapping_sub(self.newest_90k) as i32) > 0 {
            self.newest_90k = mapped;
        }
        mapped
    }

    /// The newest timestamp given out.
    pub fn newest_90k(&self) -> u32 {
        self.newest_90k
    }

    fn is_continuous(&self, now: Instant, last: Last, input: u32) -> bool {
        let step = i64::from(input.wrapping_sub(last.input) as i32);
        let rate = f64::from(self.input_rate_hz);
        let step_seconds = step as f64 / rate;
        let elapsed = now.saturating_duration_since(last.at);
        let mapped = last.base_90k.wrapping_add(self.to_90k(last.offset + step));
        let behind_90k = i64::from(self.newest_90k.wrapping_sub(mapped) as i32);
        step_seconds > -MAX_BACKWARD.as_secs_f64()
            && step_seconds < (elapsed + MAX_FORWARD).as_secs_f64()
            // Many small steps back are no B-pictures.
            && behind_90k < i64::from(CLOCK_RATE_HZ) * MAX_BACKWARD.as_secs() as i64
    }

    fn follow(&self, now: Instant, last: Last, input: u32) -> Last {
        let step = i64::from(input.wrapping_sub(last.input) as i32);
        let next = Last { at: now, input, offset: last.offset + step, ..last };
        let caught_up = step > 0 && self.to_90k(step) > last.ahead_90k.saturating_add(MIN_STEP_90K);
        if caught_up {
            Last { base_90k: last.base_90k.wrapping_sub(last.ahead_90k), ahead_90k: 0, ..next }
        } else {
            next
        }
    }

    /// Another access unit with the same timestamp: a camera whose clock stands still, or the second field of a picture.
    fn stand(&self, now: Instant, last: Last) -> Last {
        let elapsed = now.saturating_duration_since(last.at).min(MAX_FORWARD);
        let step = ((elapsed.as_micros() * 9 / 100) as u32).max(MIN_STEP_90K);
        let ahead_90k = last.ahead_90k.saturating_add(step);
        Last { at: now, base_90k: last.base_90k.wrapping_add(step), ahead_90k, ..last }
    }

    fn rebase(&self, now: Instant, last: Option<Last>, input: u32) -> Last {
        let elapsed = last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last.at));
        // Wraps after 13 hours without a picture, as RTP timestamps do.
        let elapsed_90k = (elapsed.as_micros() * 9 / 100) as u32;
        let step = if last.is_some() { elapsed_90k.max(MIN_STEP_90K) } else { 0 };
        Last { at: now, input, offset: 0, base_90k: self.newest_90k.wrapping_add(step), ahead_90k: 0 }
    }

    fn to_90k(&self, units: i64) -> u32 {
        (i128::from(units) * i128::from(CLOCK_RATE_HZ) / i128::from(self.input_rate_hz)) as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_a_camera_says_our_clock_steps_back_by_a_b_picture_at_most_and_not_over_a_restart(
            steps in prop::collection::vec((0u64..3000, any::<u32>(), 0u8..4), 1..200),
        ) {
            let mut now = Instant::now();
            let mut timeline = Timeline::new(u32::MAX - 100_000);
            let mut input = 0u32;
            let mut newest: Option<u32> = None;
            for (elapsed_ms, value, kind) in steps {
                now += Duration::from_millis(elapsed_ms);
                input = match kind {
                    0 => value,
                    1 => input,
                    _ => input.wrapping_add(value % 20_000),
                };
                let restart = kind == 3 && value % 16 == 0;
                if restart {
                    timeline.restart(90_000);
                }
                let mapped = timeline.map(now, input);
                if let Some(newest) = newest {
                    let step = mapped.wrapping_sub(newest) as i32;
                    prop_assert!(step > -90_000 - 1, "back by {step}");
                    prop_assert!(!restart || step > 0, "{step} at a restart");
                }
                newest = Some(timeline.newest_90k());
            }
        }
    }

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_steady_camera_keeps_its_steps_over_the_wrap() {
        let start = Instant::now();
        let mut timeline = Timeline::new(1000);
        let inputs = [u32::MAX - 3599, 0u32.wrapping_sub(0), 3600];
        let mapped: Vec<_> =
            (0u64..).zip(inputs).map(|(i, input)| timeline.map(after(start, 40 * i), input)).collect();
        assert_eq!(mapped, [1000, 4600, 8200]);
    }

    #[test]
    fn b_pictures_may_step_back() {
        let start = Instant::now();
        let mut timeline = Timeline::new(0);
        assert_eq!(timeline.map(start, 9000), 0);
        assert_eq!(timeline.map(after(start, 40), 9000 + 10_800), 10_800);
        assert_eq!(timeline.map(after(start, 80), 9000 + 3600), 3600);
        assert_eq!(timeline.newest_90k(), 10_800);
    }

    #[test]
    fn a_reconnect_advances_by_the_real_time_that_passed() {
        let start = Instant::now();
        let mut timeline = Timeline::new(0);
        timeline.map(start, 5);
        timeline.restart(90_000);
        assert_eq!(timeline.map(after(start, 2000), 4_000_000_000), 180_000);
    }

    #[test]
    fn jumps_of_hours_in_either_direction_are_restamped() {
        let start = Instant::now();
        let mut timeline = Timeline::new(0);
        timeline.map(start, 0);
        assert_eq!(timeline.map(after(start, 40), 90_000 * 3600), 3600);
        assert_eq!(timeline.map(after(start, 80), 90_000 * 60), 7200);
    }

    #[test]
    fn a_clock_that_stands_still_goes_on_by_real_time_and_may_catch_up() {
        let start = Instant::now();
        let mut timeline = Timeline::new(0);
        timeline.map(start, 9000);
        assert_eq!(timeline.map(after(start, 40), 9000), 3600);
        assert_eq!(timeline.map(after(start, 80), 9000), 7200);
        assert_eq!(timeline.map(after(start, 120), 9000 + 10_800), 10_800);
        assert_eq!(timeline.map(after(start, 160), 9000 + 14_400), 14_400);
    }

    #[test]
    fn two_fields_of_one_picture_have_two_timestamps_and_do_not_drift() {
        let start = Instant::now();
        let mut timeline = Timeline::new(0);
        for picture in 0..100u32 {
            let at = after(start, u64::from(picture) * 40);
            assert_eq!(timeline.map(at, picture * 3600), picture * 3600);
            assert_eq!(timeline.map(at, picture * 3600), picture * 3600 + MIN_STEP_90K);
        }
    }

    #[test]
    fn another_clock_rate_is_converted() {
        let start = Instant::now();
        let mut timeline = Timeline::new(0);
        timeline.restart(1000);
        timeline.map(start, 100);
        assert_eq!(timeline.map(after(start, 40), 140), 3600);
    }

    #[test]
    fn a_clock_that_runs_backwards_does_not_take_ours_with_it() {
        let start = Instant::now();
        let mut timeline = Timeline::new(0);
        for step in 0..100u32 {
            let mapped = timeline.map(after(start, 40 * u64::from(step)), (45_000 * step).wrapping_neg());
            let behind = timeline.newest_90k().wrapping_sub(mapped);
            assert!(behind < 90_000, "{behind} ticks behind at step {step}");
        }
        assert!(timeline.newest_90k() > 90_000);
    }
}
