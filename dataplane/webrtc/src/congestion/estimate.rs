//! The estimate of what the path carries: additive and multiplicative increase, multiplicative decrease
//! (draft-ietf-rmcat-gcc-02 sections 5.5 and 6).
//!
//! The sender has no more to send than the camera gives, so growth ends at what was carried: at twice the rate of the
//! last half second, or a little above what a train of packets has shown.

use super::delay::Usage;
use super::loss::Window;

/// What has shown that the path ends somewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Limit {
    /// Nothing yet.
    #[default]
    Unknown,
    /// A queue grew: it takes a burst in and gives it out slower.
    Queue,
    /// Packets were lost: bursts find no room.
    Loss,
}

/// What the receiver has shown to be carried.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Carried {
    /// Over the last half second, in bit/s.
    pub acked_bps: Option<f64>,
    /// In a train lately, in bit/s.
    pub train_bps: Option<f64>,
}

impl Carried {
    /// The most of them.
    fn most_bps(self) -> Option<f64> {
        self.acked_bps.into_iter().chain(self.train_bps).reduce(f64::max)
    }
}

/// What the path carries, in bit/s.
#[derive(Debug, Default)]
pub(super) struct Estimate {
    bps: Option<f64>,
    /// What was carried when it last was too much.
    ceiling_bps: Option<f64>,
    limit: Limit,
    limit_us: u64,
    updated_us: u64,
    lossy_before: bool,
}

impl Estimate {
    /// `None` until something was carried.
    pub fn bps(&self) -> Option<f64> {
        self.bps
    }

    /// What is known to end it.
    pub fn limit(&self) -> Limit {
        self.limit
    }

    /// Transport feedback was taken in.
    pub fn handle_feedback(&mut self, now_us: u64, usage: Usage, carried: Carried, round_trip_us: u64) {
        let elapsed_us = std::mem::replace(&mut self.updated_us, now_us);
        let elapsed_s = (now_us - elapsed_us).min(ELAPSED_US_MAX) as f64 / 1e6;
        let Some(most_bps) = carried.most_bps() else { return };
        let bps = self.bps.unwrap_or(most_bps);
        match usage {
            Usage::Over => {
                self.ceiling_bps = Some(most_bps);
                self.set_limit(now_us, Limit::Queue);
                self.set(bps.min(DECREASE * most_bps));
            }
            Usage::Under => self.set(bps),
            Usage::Normal => {
                let cap = most_bps.max(GROWTH_OVER_ACKED * carried.acked_bps.unwrap_or(0.0));
                let cap = cap.max(GROWTH_OVER_TRAIN * carried.train_bps.unwrap_or(0.0));
                let grown = bps + self.increase(bps, elapsed_s, round_trip_us);
                // What is carried without a queue is known; above the cap it is not lowered either.
                self.set(bps.max(most_bps).max(grown.min(cap)));
            }
        }
    }

    /// Eight percent a second; near the ceiling a packet per round trip and feedback.
    fn increase(&mut self, bps: f64, elapsed_s: f64, round_trip_us: u64) -> f64 {
        self.ceiling_bps = self.ceiling_bps.filter(|ceiling| bps < CEILING_LEFT * ceiling);
        let near = self.ceiling_bps.is_some_and(|ceiling| bps > CEILING_NEAR * ceiling);
        let response_s = round_trip_us as f64 / 1e6 + 0.1;
        if near { elapsed_s / response_s * 8.0 * PACKET_BYTES } else { bps * GROWTH * elapsed_s }
    }

    /// A window of transport feedback or a receiver report. Loss lowers the estimate when it lasts, or is of many packets
    /// at once: a burst that was too fast.
    pub fn handle_window(&mut self, window: &Window, carried: Carried) {
        let lossy = window.loss > LOSS_MAX;
        let lasts = lossy && (self.lossy_before || window.lost >= LOST_AT_ONCE);
        self.lossy_before = lossy;
        if !lasts {
            if self.limit == Limit::Loss && window.until_us - self.limit_us > LOSS_FORGOTTEN_US {
                self.limit = Limit::Queue;
            }
            return;
        }
        self.set_limit(window.until_us, Limit::Loss);
        if let (Some(bps), Some(most_bps)) = (self.bps, carried.most_bps()) {
            self.ceiling_bps = Some(most_bps);
            self.set(bps.min(most_bps.max(bps * (1.0 - window.loss / 2.0))));
        }
    }

    /// A receiver report without transport feedback: of what was sent, this share was lost. A path that loses a little is
    /// believed to carry the stream all the same.
    pub fn handle_report(&mut self, now_us: u64, sent_bps: f64, loss: f64) {
        let elapsed_us = std::mem::replace(&mut self.updated_us, now_us);
        let elapsed_s = (now_us - elapsed_us).min(ELAPSED_US_MAX) as f64 / 1e6;
        let bps = self.bps.unwrap_or(sent_bps * (1.0 - loss));
        let growth = if loss < LOSS_MIN { bps * GROWTH * elapsed_s } else { 0.0 };
        let grown = (bps + growth).min(GROWTH_OVER_ACKED * sent_bps);
        self.set(if loss > LOSS_MAX { bps } else { bps.max(sent_bps).max(grown) });
    }

    /// The receiver's own estimate, which nothing of ours exceeds by then.
    pub fn handle_remb(&mut self, bitrate_bps: f64) {
        self.set(bitrate_bps);
    }

    fn set(&mut self, bps: f64) {
        self.bps = Some(bps.clamp(BPS_MIN, BPS_MAX));
    }

    fn set_limit(&mut self, now_us: u64, limit: Limit) {
        if limit == Limit::Loss || self.limit != Limit::Loss {
            self.limit = limit;
            self.limit_us = now_us;
        }
    }
}

/// Less cannot carry a picture, more is no camera.
pub(super) const BPS_MIN: f64 = 50e3;
pub(super) const BPS_MAX: f64 = 10e9;
/// Section 5.5: of what was carried when the queue grew.
const DECREASE: f64 = 0.85;
/// A second.
const GROWTH: f64 = 0.08;
const GROWTH_OVER_ACKED: f64 = 2.0;
const GROWTH_OVER_TRAIN: f64 = 1.25;
/// About three standard deviations of what is carried at the ceiling.
const CEILING_NEAR: f64 = 0.85;
const CEILING_LEFT: f64 = 1.5;
const ELAPSED_US_MAX: u64 = 1_000_000;
const PACKET_BYTES: f64 = 1200.0;
/// Section 6: above it the estimate falls.
pub(super) const LOSS_MAX: f64 = 0.1;
/// Section 6: below it the estimate rises.
const LOSS_MIN: f64 = 0.02;
/// With [`LOSS_MAX`]: out of 300 packets, where 5 % of random loss takes 15.
const LOST_AT_ONCE: u32 = 30;
/// Before bursts are tried faster again than the path has carried: each try costs a picture.
const LOSS_FORGOTTEN_US: u64 = 120_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(acked_bps: f64) -> Carried {
        Carried { acked_bps: Some(acked_bps), train_bps: None }
    }

    /// Feedback every 50 ms for so many seconds.
    fn feed(estimate: &mut Estimate, seconds: u64, usage: Usage, carried: Carried) -> f64 {
        for _ in 0..seconds * 20 {
            let now_us = estimate.updated_us + 50_000;
            estimate.handle_feedback(now_us, usage, carried, 50_000);
        }
        estimate.bps().unwrap()
    }

    #[test]
    fn it_grows_to_twice_what_is_carried_and_no_further() {
        let mut estimate = Estimate::default();
        assert_eq!(feed(&mut estimate, 60, Usage::Normal, carried(4e6)), 8e6);
        assert_eq!(estimate.limit(), Limit::Unknown);
    }

    #[test]
    fn a_train_shows_more() {
        let mut estimate = Estimate::default();
        let train = Carried { acked_bps: Some(4e6), train_bps: Some(50e6) };
        assert!(feed(&mut estimate, 1, Usage::Normal, train) >= 50e6);
        assert!(feed(&mut estimate, 60, Usage::Normal, train) <= 62.5e6);
    }

    #[test]
    fn a_growing_queue_takes_it_below_what_is_carried() {
        let mut estimate = Estimate::default();
        feed(&mut estimate, 60, Usage::Normal, carried(4e6));
        assert_eq!(feed(&mut estimate, 1, Usage::Over, carried(3e6)), 0.85 * 3e6);
        assert_eq!(estimate.limit(), Limit::Queue);
        assert!(feed(&mut estimate, 1, Usage::Normal, carried(3e6)) >= 3e6);
    }

    fn window(loss: f64, lost: u32) -> Window {
        Window { since_us: 0, until_us: 250_000, loss, lost, queueing_us: 0 }
    }

    #[test]
    fn loss_lowers_it_when_it_lasts_or_is_of_many_packets() {
        for (windows, lowered) in [
            (&[window(0.05, 5); 9][..], false),
            (&[window(0.2, 9)], false),
            (&[window(0.2, 9); 2], true),
            (&[window(0.2, 90)], true),
        ] {
            let mut estimate = Estimate::default();
            let before = feed(&mut estimate, 60, Usage::Normal, carried(4e6));
            windows.iter().for_each(|window| estimate.handle_window(window, carried(4e6)));
            assert_eq!(estimate.bps().unwrap() < before, lowered, "{windows:?}");
            assert_eq!(estimate.limit() == Limit::Loss, lowered, "{windows:?}");
        }
    }

    #[test]
    fn loss_does_not_take_it_below_what_is_carried() {
        let mut estimate = Estimate::default();
        feed(&mut estimate, 1, Usage::Normal, carried(4e6));
        (0..100).for_each(|_| estimate.handle_window(&window(0.5, 90), carried(4e6)));
        assert_eq!(estimate.bps(), Some(4e6));
    }
}
