//! One clock for a stream's whole life: the camera's RTP timestamps in, ours out.
//!
//! Ours are 90 kHz, never jump back over a reconnect, and at a break advance by about the real time that passed. They
//! follow the camera's clock, not the arrivals: but where that runs at another rate than it was described with, the
//! rate is measured, and where it drifts away from real time for long, ours is slewed back.

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
/// What a camera's rate is measured over; shorter, and the jitter of arrivals would tell.
const PACE_WINDOW: Duration = Duration::from_secs(1);
/// So many windows in a row must agree, within a tenth: a burst or a stall of the network spoils one or two.
const PACE_WINDOWS: u32 = 3;
/// A rate is wrong if it is off by a quarter; what is off by less is drift.
const WRONG_PACE: f64 = 1.25;
/// Clock rates that a camera may mean when it says another; a measured one within 3 per cent of them is theirs.
const USUAL_RATES_HZ: [u32; 12] =
    [1_000, 8_000, 10_000, 16_000, 30_000, 44_100, 45_000, 48_000, 90_000, 100_000, 180_000, 1_000_000];
/// Drift is slewed when ours has been off by more than a jump for so long: the network's delays are shorter.
const DRIFT_TIME: Duration = Duration::from_secs(5);
/// And until it is off by no more than this.
const SLEWED_90K: i64 = CLOCK_RATE_HZ as i64;

/// The mapping of one stream.
#[derive(Debug)]
pub struct Timeline {
    input_rate_hz: u32,
    last: Option<Last>,
    newest_90k: u32,
    restarted: bool,
    pace: Pace,
    drift: Drift,
}

/// At what rate the camera's clock has run since the last break.
#[derive(Debug, Default)]
struct Pace {
    window: Option<(Instant, u32)>,
    /// What the last windows have agreed upon, in Hz, and how many they were.
    agreed: Option<(f64, u32)>,
}

/// How far ours is from real time.
#[derive(Debug, Default)]
struct Drift {
    /// Real time and ours at the start.
    anchor: Option<(Instant, u32)>,
    off_since: Option<Instant>,
    slew: Slew,
}

/// What becomes of a step of the camera's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Slew {
    #[default]
    None,
    /// Ours is ahead: half of it.
    Slower,
    /// Ours is behind: half as much again.
    Faster,
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
        Self {
            input_rate_hz: CLOCK_RATE_HZ,
            last: None,
            newest_90k: first_90k,
            restarted: true,
            pace: Pace::default(),
            drift: Drift::default(),
        }
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
            last => {
                self.pace = Pace::default();
                self.rebase(now, last, input)
            }
        };
        let next = self.measure_pace(now, next);
        self.last = Some(next);
        self.restarted = false;
        let mapped = next.base_90k.wrapping_add(self.to_90k(next.offset));
        if (mapped.wrapping_sub(self.newest_90k) as i32) > 0 {
            self.newest_90k = mapped;
        }
        self.drift.handle(now, self.newest_90k);
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
        let base_90k = last.base_90k.wrapping_add(self.slewed_90k(step));
        let mapped = base_90k.wrapping_add(self.to_90k(last.offset + step));
        let behind_90k = i64::from(self.newest_90k.wrapping_sub(mapped) as i32);
        step_seconds > -MAX_BACKWARD.as_secs_f64()
            && step_seconds < (elapsed + MAX_FORWARD).as_secs_f64()
            // Many small steps back are no B-pictures.
            && behind_90k < i64::from(CLOCK_RATE_HZ) * MAX_BACKWARD.as_secs() as i64
    }

    fn follow(&self, now: Instant, last: Last, input: u32) -> Last {
        let step = i64::from(input.wrapping_sub(last.input) as i32);
        let base_90k = last.base_90k.wrapping_add(self.slewed_90k(step));
        let next = Last { at: now, input, offset: last.offset + step, base_90k, ..last };
        let caught_up = step > 0 && self.to_90k(step) > last.ahead_90k.saturating_add(MIN_STEP_90K);
        // A slewed step may be too short to take anything back.
        if caught_up && self.drift.slew == Slew::None {
            Last { base_90k: base_90k.wrapping_sub(last.ahead_90k), ahead_90k: 0, ..next }
        } else {
            next
        }
    }

    /// What slewing adds to a step of the camera's clock.
    fn slewed_90k(&self, step: i64) -> u32 {
        match self.drift.slew {
            Slew::None => 0,
            Slew::Slower => self.to_90k(step / 2).wrapping_neg(),
            Slew::Faster => self.to_90k(step / 2),
        }
    }

    /// Goes on at the rate that the camera's clock turns out to have.
    fn measure_pace(&mut self, now: Instant, last: Last) -> Last {
        let Some(rate_hz) = self.pace.handle(now, last.input, self.input_rate_hz) else { return last };
        let base_90k = last.base_90k.wrapping_add(self.to_90k(last.offset));
        self.input_rate_hz = rate_hz;
        Last { base_90k, offset: 0, ..last }
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

impl Pace {
    /// The rate, if it turns out to be another than `rate_hz`.
    fn handle(&mut self, now: Instant, input: u32, rate_hz: u32) -> Option<u32> {
        let (since, first) = *self.window.get_or_insert((now, input));
        let elapsed = now.saturating_duration_since(since);
        if elapsed < PACE_WINDOW {
            return None;
        }
        self.window = Some((now, input));
        let measured = f64::from(input.wrapping_sub(first).cast_signed()) / elapsed.as_secs_f64();
        let is_within = |a: f64, b: f64, factor: f64| a < b * factor && b < a * factor;
        if measured <= 0.0 || is_within(measured, f64::from(rate_hz), WRONG_PACE) {
            self.agreed = None;
            return None;
        }
        let (mean, count) = match self.agreed {
            Some((mean, count)) if is_within(measured, mean, 1.1) => {
                (mean + (measured - mean) / f64::from(count + 1), count + 1)
            }
            _ => (measured, 1),
        };
        self.agreed = Some((mean, count));
        if count < PACE_WINDOWS {
            return None;
        }
        self.agreed = None;
        let usual = USUAL_RATES_HZ.into_iter().find(|&usual| is_within(mean, f64::from(usual), 1.03));
        Some(usual.unwrap_or((mean.round() as u32).max(1)))
    }
}

impl Drift {
    fn handle(&mut self, now: Instant, ours_90k: u32) {
        let (start, start_90k) = *self.anchor.get_or_insert((now, ours_90k));
        let elapsed_90k = (now.saturating_duration_since(start).as_micros() * 9 / 100) as u32;
        let ahead_90k = i64::from(ours_90k.wrapping_sub(start_90k).wrapping_sub(elapsed_90k).cast_signed());
        if self.slew != Slew::None {
            let is_back = match self.slew {
                Slew::Slower => ahead_90k < SLEWED_90K,
                _ => ahead_90k > -SLEWED_90K,
            };
            if is_back {
                *self = Self { anchor: self.anchor, ..Self::default() };
            }
        } else if ahead_90k.abs() <= MAX_FORWARD.as_secs() as i64 * i64::from(CLOCK_RATE_HZ) {
            self.off_since = None;
        } else if now.saturating_duration_since(*self.off_since.get_or_insert(now)) >= DRIFT_TIME {
            self.slew = if ahead_90k > 0 { Slew::Slower } else { Slew::Faster };
        }
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

    /// A camera of 25 pictures a second, `step` units each: where ours is ahead of real time after each, in seconds.
    fn run(timeline: &mut Timeline, start: Instant, pictures: u32, step: impl Fn(u32) -> u32) -> Vec<f64> {
        let (mut input, mut ahead) = (77_u32, Vec::new());
        for picture in 0..pictures {
            let at = f64::from(timeline.map(after(start, u64::from(picture) * 40), input)) / 90_000.0;
            ahead.push(at - f64::from(picture) * 0.04);
            input = input.wrapping_add(step(picture));
        }
        ahead
    }

    #[test]
    fn a_clock_at_another_rate_than_described_is_measured() {
        for step in [40, 360, 1800, 7200, 36_000] {
            let mut timeline = Timeline::new(0);
            let ahead = run(&mut timeline, Instant::now(), 3000, |_| step);
            let rates: Vec<f64> = ahead[2500..].windows(25).map(|second| second[24] - second[0]).collect();
            assert!(rates.iter().all(|rate| rate.abs() < 0.03), "{step}: {rates:?}");
            assert!(ahead[2999].abs() < 4.1, "{step}: {} s off", ahead[2999]);
        }
    }

    #[test]
    fn the_right_rate_is_kept_over_a_burst_and_over_stalls() {
        let start = Instant::now();
        let mut timeline = Timeline::new(0);
        for picture in 0..1000u64 {
            // Two seconds at once when it begins, and nothing for three seconds now and then.
            let due = 40 * picture.saturating_sub(50);
            let at = if picture % 250 > 175 { due.max(40 * (picture / 250 * 250 + 200)) } else { due };
            assert_eq!(timeline.map(after(start, at), picture as u32 * 3600), picture as u32 * 3600);
        }
    }

    #[test]
    fn a_clock_that_drifts_is_slewed_back() {
        for step in [3200, 4100] {
            let mut timeline = Timeline::new(0);
            let ahead = run(&mut timeline, Instant::now(), 10_000, |_| step);
            assert!(ahead.iter().all(|ahead| ahead.abs() < 6.0), "{step}");
            assert!(ahead.windows(2).all(|pair| pair[1] - pair[0] > -0.04), "{step}: time goes on");
        }
    }

    #[test]
    fn b_pictures_are_no_other_rate() {
        let start = Instant::now();
        let mut timeline = Timeline::new(0);
        for picture in 0..900u64 {
            let shown = picture as u32 / 3 * 3 + [2, 0, 1][picture as usize % 3];
            let mapped = timeline.map(after(start, 40 * picture), (shown + 2) * 3600);
            assert_eq!(mapped.wrapping_add(2 * 3600), shown * 3600);
        }
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
