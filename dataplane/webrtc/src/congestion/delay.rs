//! Whether a queue grows on the path, and how long it is (draft-ietf-rmcat-gcc-02 sections 5.2 to 5.4).
//!
//! The growth is the slope of a line through the delays of the last groups, as public implementations have it in place
//! of the draft's Kalman filter. The length is how much longer than the least lately a packet took.

/// What the path's queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Usage {
    /// It drains.
    Under,
    /// It is level.
    #[default]
    Normal,
    /// It grows.
    Over,
}

/// The slope of the delay, and the threshold that it must pass.
#[derive(Debug)]
pub(super) struct Trendline {
    /// Arrival in microseconds, modulo 2^32, and the smoothed delay in milliseconds.
    points: [(u32, f32); POINTS],
    next: u8,
    len: u8,
    deltas: u8,
    delay_ms: f32,
    smoothed_ms: f32,
    slope: f32,
    threshold: f32,
    /// Time above the threshold, and how many groups.
    over_ms: f32,
    over_groups: u8,
    usage: Usage,
}

impl Trendline {
    pub fn new() -> Self {
        Self {
            points: [(0, 0.0); POINTS],
            next: 0,
            len: 0,
            deltas: 0,
            delay_ms: 0.0,
            smoothed_ms: 0.0,
            slope: 0.0,
            threshold: THRESHOLD_START,
            over_ms: 0.0,
            over_groups: 0,
            usage: Usage::Normal,
        }
    }

    /// What the queue does as of the last group.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// A group arrived so much later than the one before it, and had been sent so much later.
    pub fn handle_group(&mut self, arrival_us: i64, arrival_delta_us: i64, sent_delta_us: i64) {
        let difference_us = arrival_delta_us.saturating_sub(sent_delta_us);
        if difference_us.abs() > JUMP_US || self.delay_ms.abs() > DELAY_MS_MAX {
            *self = Self { threshold: self.threshold, ..Self::new() };
            return;
        }
        self.deltas = self.deltas.saturating_add(1).min(DELTAS_MAX);
        self.delay_ms += difference_us as f32 / 1e3;
        self.smoothed_ms = SMOOTHING * self.smoothed_ms + (1.0 - SMOOTHING) * self.delay_ms;
        self.points[usize::from(self.next)] = (arrival_us as u32, self.smoothed_ms);
        self.next = (self.next + 1) % POINTS as u8;
        self.len = (self.len + 1).min(POINTS as u8);
        let slope = if usize::from(self.len) == POINTS { self.fitted(arrival_us) } else { self.slope };
        self.detect(slope, sent_delta_us as f32 / 1e3);
    }

    /// The slope of the line of least squares.
    fn fitted(&self, arrival_us: i64) -> f32 {
        // Times count from the newest, so that they keep their precision.
        let times = self.points.map(|(at_us, _)| at_us.wrapping_sub(arrival_us as u32) as i32 as f32 / 1e3);
        let time_mean = times.iter().sum::<f32>() / POINTS as f32;
        let delay_mean = self.points.iter().map(|(_, delay)| delay).sum::<f32>() / POINTS as f32;
        let (mut covariance, mut variance) = (0.0, 0.0);
        for (time, (_, delay)) in times.into_iter().zip(self.points) {
            covariance += (time - time_mean) * (delay - delay_mean);
            variance += (time - time_mean) * (time - time_mean);
        }
        if variance > 0.0 { covariance / variance } else { self.slope }
    }

    fn detect(&mut self, slope: f32, sent_delta_ms: f32) {
        let trend = f32::from(self.deltas) * slope * GAIN;
        if trend > self.threshold {
            self.over_ms += if self.over_groups == 0 { sent_delta_ms / 2.0 } else { sent_delta_ms };
            self.over_groups = self.over_groups.saturating_add(1);
            if self.over_ms > OVER_MS && self.over_groups > 1 && slope >= self.slope {
                (self.over_ms, self.over_groups, self.usage) = (0.0, 0, Usage::Over);
            }
        } else {
            (self.over_ms, self.over_groups) = (0.0, 0);
            self.usage = if trend < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        self.slope = slope;
        self.adapt(trend.abs(), sent_delta_ms);
    }

    /// Section 5.4: the threshold follows the slope slowly, so that other traffic does not starve us; not over spikes.
    fn adapt(&mut self, trend: f32, sent_delta_ms: f32) {
        if trend > self.threshold + SPIKE {
            return;
        }
        let gain = if trend < self.threshold { THRESHOLD_DOWN } else { THRESHOLD_UP };
        self.threshold += gain * (trend - self.threshold) * sent_delta_ms.clamp(0.0, 100.0);
        self.threshold = self.threshold.clamp(THRESHOLD_MIN, THRESHOLD_MAX);
    }
}

/// The least delay lately, and what is above it.
#[derive(Debug)]
pub(super) struct BaseDelay {
    least_us: i64,
    least_before_us: i64,
    since_us: u64,
}

impl BaseDelay {
    pub fn new() -> Self {
        Self { least_us: i64::MAX, least_before_us: i64::MAX, since_us: 0 }
    }

    /// How long a packet waited that took `delay_us` between two clocks, in microseconds.
    ///
    /// It cannot have waited longer than since it was sent, `age_us` ago: a receiver whose clock jumps, or that
    /// lies, is begun anew with.
    pub fn handle_delay(&mut self, now_us: u64, delay_us: i64, age_us: u64) -> u64 {
        if now_us - self.since_us > BASE_WINDOW_US {
            *self = Self { least_us: i64::MAX, least_before_us: self.least_us, since_us: now_us };
        }
        self.least_us = self.least_us.min(delay_us);
        let queueing_us = delay_us.saturating_sub(self.least_us.min(self.least_before_us)) as u64;
        if queueing_us > age_us {
            (self.least_us, self.least_before_us) = (delay_us, i64::MAX);
            return 0;
        }
        queueing_us
    }
}

const POINTS: usize = 20;
const SMOOTHING: f32 = 0.9;
const GAIN: f32 = 4.0;
const DELTAS_MAX: u8 = 60;
const OVER_MS: f32 = 10.0;
const THRESHOLD_START: f32 = 12.5;
const THRESHOLD_MIN: f32 = 6.0;
const THRESHOLD_MAX: f32 = 600.0;
const THRESHOLD_UP: f32 = 0.0087;
const THRESHOLD_DOWN: f32 = 0.039;
const SPIKE: f32 = 15.0;
/// More than this between two groups is a clock that jumped, or a path that was gone.
const JUMP_US: i64 = 3_000_000;
/// The sum of all differences is a queue's delay and the clocks' drift; sums of floats stay exact below.
const DELAY_MS_MAX: f32 = 1e6;
/// Two of them make the time in which the least delay counts: clocks drift apart by some milliseconds in it.
const BASE_WINDOW_US: u64 = 30_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups sent every 10 ms, each `growth_us` later than the one before.
    fn usage_after(trendline: &mut Trendline, groups: i64, growth_us: impl Fn(i64) -> i64) -> Usage {
        let mut arrival_us = 0;
        for index in 0..groups {
            let delta_us = 10_000 + growth_us(index);
            arrival_us += delta_us;
            trendline.handle_group(arrival_us, delta_us, 10_000);
        }
        trendline.usage()
    }

    #[test]
    fn a_growing_queue_is_seen_and_a_draining_one_too() {
        let mut trendline = Trendline::new();
        assert_eq!(usage_after(&mut trendline, 50, |_| 0), Usage::Normal);
        assert_eq!(usage_after(&mut trendline, 50, |_| 2_000), Usage::Over);
        assert_eq!(usage_after(&mut trendline, 50, |_| -2_000), Usage::Under);
        assert_eq!(usage_after(&mut trendline, 100, |_| 0), Usage::Normal);
    }

    #[test]
    fn jitter_alone_is_no_growth() {
        let jitter = |index: i64| if index % 2 == 0 { 4_000 } else { -4_000 };
        assert_eq!(usage_after(&mut Trendline::new(), 200, jitter), Usage::Normal);
    }

    #[test]
    fn a_jump_of_the_clock_is_no_growth() {
        let jump = |index| if index == 30 { 10_000_000 } else { 0 };
        assert_eq!(usage_after(&mut Trendline::new(), 40, jump), Usage::Normal);
    }

    #[test]
    fn the_queue_is_what_is_above_the_least_delay() {
        let mut base = BaseDelay::new();
        let delays = [-5_000_000, -4_900_000, -5_010_000, -4_910_000];
        assert_eq!(
            delays.map(|delay_us| base.handle_delay(0, delay_us, 1_000_000)),
            [0, 100_000, 0, 100_000]
        );
    }

    #[test]
    fn the_least_delay_is_forgotten_after_a_minute() {
        let mut base = BaseDelay::new();
        base.handle_delay(0, 0, 1_000_000);
        let seconds = [31u64, 62, 93].map(|second| base.handle_delay(second * 1_000_000, 1_000, 1_000_000));
        assert_eq!(seconds, [1_000, 0, 0]);
    }

    #[test]
    fn a_packet_waits_no_longer_than_since_it_was_sent() {
        let mut base = BaseDelay::new();
        base.handle_delay(0, 0, 50_000);
        assert_eq!([60_000, 70_000].map(|delay_us| base.handle_delay(0, delay_us, 50_000)), [0, 10_000]);
    }
}
