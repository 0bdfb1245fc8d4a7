//! What a viewer's path carries: one estimate, and whether it carries the stream.
//!
//! The camera's rate cannot change, so the estimate has two uses: how fast bursts leave, and when whole access units
//! are left out up to the next random access point. Transport-wide feedback where there is any
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01), else receiver reports and REMB.
//!
//! `sent` knows what left when, `acked` what of it arrived how fast, `delay` whether a queue grows, `loss` what did not
//! arrive. `estimate` follows Google Congestion Control (draft-ietf-rmcat-gcc-02) with them, `overload` gives the verdict.
//! Who is to be believed: a receiver that lies harms its own picture, and every figure stays within its bounds.

mod acked;
mod delay;
mod estimate;
mod loss;
mod overload;
mod sent;

use std::time::{Duration, Instant};

use lanecast_protocol::rtcp::{ReceptionBlock, TransportFeedback};

use acked::{AckedRate, Passage, Train};
use delay::{BaseDelay, Trendline};
use estimate::{Carried, Estimate, Limit};
use loss::{LossWindow, Window};
use overload::Overload;
use sent::{Group, Run, SentGroups, SentRate, is_before};

/// What the path does with the stream, in the viewer's statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CongestionStatistics {
    /// What the path carries, in bit/s; `None` until something is known.
    pub estimate_bps: Option<u64>,
    /// Smoothed round trip; `None` until a receiver report tells it.
    pub round_trip: Option<Duration>,
    /// Share of packets lost on the way lately, 0–1.
    pub loss: f64,
    /// How long packets wait in the path's queue beyond the least seen, smoothed.
    pub queueing: Duration,
}

/// The estimate of one viewer. About a kilobyte and a half: send times are kept a group, not a packet.
#[derive(Debug)]
pub struct Congestion {
    epoch: Instant,
    now_us: u64,
    sent: SentGroups,
    sent_rate: SentRate,
    arrivals: Arrivals,
    loss: LossWindow,
    estimate: Estimate,
    overload: Overload,
    reports: Reports,
    loss_smoothed: f64,
    queueing_us: f64,
}

impl Congestion {
    /// Nothing known yet.
    pub fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            now_us: 0,
            sent: SentGroups::new(),
            sent_rate: SentRate::new(),
            arrivals: Arrivals::new(),
            loss: LossWindow::new(),
            estimate: Estimate::default(),
            overload: Overload::default(),
            reports: Reports::new(),
            loss_smoothed: 0.0,
            queueing_us: 0.0,
        }
    }

    /// `packets` packets of `packet_bytes` each left in one run; the first had this transport-wide sequence number.
    ///
    /// Without transport-wide sequence numbers any number does.
    pub fn handle_sent(&mut self, now: Instant, first_sequence: u16, packets: u16, packet_bytes: u16) {
        if packets == 0 {
            return;
        }
        let now_us = self.advance(now);
        // Without feedback nothing waits for it.
        let awaits_feedback = now_us - self.arrivals.feedback_us.unwrap_or(0) < FEEDBACK_US_MAX;
        let reported = if awaits_feedback { self.arrivals.reported } else { self.sent.next() };
        self.sent.handle_sent(now_us, Run { first_sequence, packets, packet_bytes }, reported);
        self.sent_rate.handle_sent(now_us, u64::from(packets) * u64::from(packet_bytes));
    }

    /// Transport-wide feedback came.
    pub fn handle_transport_feedback(&mut self, now: Instant, feedback: &TransportFeedback<'_>) {
        let now_us = self.advance(now);
        if now_us - self.sent.last_us() > FEEDBACK_US_MAX {
            return;
        }
        self.arrivals.feedback_us = Some(now_us);
        self.arrivals.forget_before(&self.sent);
        let (mut sequence, mut cursor) = (self.sent.unwrap(feedback.base_sequence()), 0);
        for (_, arrival_us) in feedback.arrivals() {
            // What was never sent is a lie, and what was reported already is said again after a reordering.
            if !is_before(sequence, self.sent.next()) {
                break;
            }
            if !is_before(sequence, self.arrivals.reported) {
                self.arrivals.reported = sequence.wrapping_add(1);
                if let Some(group) = self.sent.find(sequence, &mut cursor) {
                    self.handle_reported(now_us, sequence, group, arrival_us);
                }
            }
            sequence = sequence.wrapping_add(1);
        }
        self.queueing_us += SMOOTHING * (self.arrivals.queueing_us as f64 - self.queueing_us);
        let (usage, carried) = (self.arrivals.trendline.usage(), self.arrivals.carried(now_us));
        self.estimate.handle_feedback(now_us, usage, carried, self.round_trip_us());
        if let Some(window) = self.loss.poll(now_us) {
            self.handle_window(&window, carried);
        }
    }

    /// One packet of a feedback.
    fn handle_reported(&mut self, now_us: u64, sequence: u32, group: Group, arrival_us: Option<i64>) {
        let sent_us = group.sent_us(now_us, sequence);
        let judged = sent_us >= self.overload.judged_from_us();
        match arrival_us {
            Some(arrival_us) => {
                let queueing_us = self.arrivals.handle_arrival(now_us, sent_us, group, arrival_us);
                if judged {
                    self.loss.handle_arrival(queueing_us);
                }
            }
            None if judged => self.loss.handle_lost(),
            None => {}
        }
    }

    fn handle_window(&mut self, window: &Window, carried: Carried) {
        self.loss_smoothed += LOSS_SMOOTHING * (window.loss - self.loss_smoothed);
        self.estimate.handle_window(window, carried);
        self.overload.handle_window(window);
    }

    /// A report block on our media came. `round_trip` as computed from its LSR and DLSR.
    ///
    /// While there is transport feedback, it only tells the round trip.
    pub fn handle_report(&mut self, now: Instant, block: &ReceptionBlock, round_trip: Option<Duration>) {
        let now_us = self.advance(now);
        if let Some(round_trip) = round_trip {
            self.reports.handle_round_trip(now_us, round_trip);
        }
        let since_us = std::mem::replace(&mut self.reports.report_us, now_us);
        if now_us - since_us < REPORT_US_MIN {
            self.reports.report_us = since_us;
            return;
        }
        if self.has_transport_feedback(now_us) || self.sent.last_us() < since_us {
            return;
        }
        let queueing_us = self.reports.queueing_us;
        let loss = f64::from(block.fraction_lost) / 256.0;
        self.queueing_us += SMOOTHING * (queueing_us as f64 - self.queueing_us);
        let window = Window { since_us, until_us: now_us, loss, lost: 0, queueing_us };
        let sent_bps = self.sent_rate.bps();
        if let Some(sent_bps) = sent_bps {
            self.estimate.handle_report(now_us, sent_bps, loss);
        }
        if since_us >= self.overload.judged_from_us() {
            self.handle_window(
                &window,
                Carried { acked_bps: sent_bps.map(|bps| bps * (1.0 - loss)), train_bps: None },
            );
        }
    }

    /// The receiver's own estimate came (REMB). While there is transport feedback, ours is better.
    pub fn handle_remb(&mut self, now: Instant, bitrate_bps: u64) {
        let now_us = self.advance(now);
        if self.has_transport_feedback(now_us) {
            return;
        }
        self.estimate.handle_remb(bitrate_bps as f64);
        // At first its own is a guess, and a camera's rate is known only after some seconds: a while proves something.
        let sends = now_us - self.sent.last_us() < REMB_US;
        let low = self.sent_rate.bps().is_some_and(|bps| (bitrate_bps as f64) < REMB_LOW * bps);
        self.reports.remb_low_us = (low && sends).then(|| self.reports.remb_low_us.unwrap_or(now_us));
        if self.reports.remb_low_us.is_some_and(|since_us| now_us - since_us >= REMB_US) {
            self.overload.set_pending();
        }
    }

    /// True when the path does not carry the stream: leave out everything up to the next random access point that
    /// comes at or after [`Congestion::resume_at`]. Reading it takes it: the caller does so.
    pub fn poll_overload(&mut self, now: Instant) -> bool {
        let now_us = self.advance(now);
        let overloaded = self.overload.poll(now_us);
        if overloaded {
            self.loss = LossWindow::new();
            self.reports.remb_low_us = None;
            self.sent_rate.pause();
        }
        overloaded
    }

    /// After an overload: not before this. Grows with repeated overloads (at once, then 1 s up to 16 s), shrinks when all
    /// goes well.
    pub fn resume_at(&self) -> Option<Instant> {
        self.overload.resume_us().map(|resume_us| self.epoch + Duration::from_micros(resume_us))
    }

    /// How fast bursts may leave, in bit/s: above the estimate, so that a burst is spread and not throttled.
    ///
    /// Until the path has shown an end, 100 Mb/s: viewers of an edge server are mostly on a LAN, where a 4K IDR of
    /// 1.1 MB takes 88 ms then, and what is slower takes it into its queue and tells. Once a queue has grown, two and a
    /// half times the estimate, as in public implementations: the queue takes in what the path does not carry at once.
    /// Where packets were lost there is no such queue: no faster than is carried. Never below 20 Mb/s, because what a quiet
    /// stream carries says little, and never below one and a half times what leaves: a pace slower than the stream would
    /// hide an overload in the pacer, where nobody looks for it.
    pub fn pacing_rate_bps(&self) -> u64 {
        let estimate_bps = self.estimate.bps().unwrap_or(0.0);
        let bps = match self.estimate.limit() {
            Limit::Unknown => PACING_BPS_UNKNOWN,
            Limit::Queue => (PACING_FACTOR * estimate_bps).min(estimate_bps.max(PACING_BPS_UNKNOWN)),
            Limit::Loss => estimate_bps,
        };
        let stream_bps = PACING_OVER_STREAM * self.sent_rate.bps().unwrap_or(0.0);
        bps.max(stream_bps).clamp(PACING_BPS_MIN, PACING_BPS_MAX) as u64
    }

    /// Smoothed round trip; 100 ms where nothing is known.
    pub fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip_us())
    }

    fn round_trip_us(&self) -> u64 {
        self.reports.round_trip_us.unwrap_or(ROUND_TRIP_US_UNKNOWN)
    }

    /// For the session's statistics.
    pub fn statistics(&self) -> CongestionStatistics {
        CongestionStatistics {
            estimate_bps: self.estimate.bps().map(|bps| bps as u64),
            round_trip: self.reports.round_trip_us.map(Duration::from_micros),
            loss: self.loss_smoothed,
            queueing: Duration::from_micros(self.queueing_us as u64),
        }
    }

    fn has_transport_feedback(&self, now_us: u64) -> bool {
        self.arrivals.feedback_us.is_some_and(|feedback_us| now_us - feedback_us < TRANSPORT_FEEDBACK_US)
    }

    /// Time never goes back here, whatever is passed in.
    fn advance(&mut self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        self.now_us = self.now_us.max(u64::try_from(since.as_micros()).unwrap_or(u64::MAX));
        self.now_us
    }
}

/// What transport feedback tells of the receiver's side.
#[derive(Debug)]
struct Arrivals {
    feedback_us: Option<u64>,
    /// The sequence number behind the last one that was reported.
    reported: u32,
    /// The receiver's clock, unwrapped, and what it was unwrapped from.
    clock_us: i64,
    clock_raw_us: Option<i64>,
    /// The group whose packets arrive, and the one before it.
    open: Option<Arriving>,
    before: Option<Passage>,
    acked: AckedRate,
    train: Train,
    train_bps: f64,
    train_us: Option<u64>,
    trendline: Trendline,
    base: BaseDelay,
    queueing_us: u64,
}

/// A group of which packets have arrived.
#[derive(Clone, Copy, Debug)]
struct Arriving {
    first: u32,
    passage: Passage,
    bytes: u32,
}

impl Arrivals {
    fn new() -> Self {
        Self {
            feedback_us: None,
            reported: 0,
            clock_us: 0,
            clock_raw_us: None,
            open: None,
            before: None,
            acked: AckedRate::new(),
            train: Train::default(),
            train_bps: 0.0,
            train_us: None,
            trendline: Trendline::new(),
            base: BaseDelay::new(),
            queueing_us: 0,
        }
    }

    /// What is no longer known cannot be reported any more; so numbers also stay close enough to be compared.
    fn forget_before(&mut self, sent: &SentGroups) {
        let (oldest, known) = (sent.oldest(), sent.next().wrapping_sub(sent.oldest()));
        if sent.next().wrapping_sub(self.reported) > known {
            self.reported = oldest;
        }
    }

    /// A packet of a group came; how long it waited, in microseconds.
    fn handle_arrival(&mut self, now_us: u64, sent_us: u64, group: Group, raw_us: i64) -> u64 {
        let (arrival_us, bytes) = (self.unwrap(raw_us), group.packet_bytes());
        self.acked.handle_arrival(arrival_us, bytes);
        self.queueing_us =
            self.base.handle_delay(now_us, arrival_us - sent_us as i64, now_us.saturating_sub(sent_us));
        match &mut self.open {
            Some(open) if open.first == group.first => {
                open.passage.arrival_us = open.passage.arrival_us.max(arrival_us);
                open.bytes = open.bytes.saturating_add(bytes);
            }
            _ => {
                let passage = Passage { sent_us: group.last_us(now_us), arrival_us };
                let whole = self.open.replace(Arriving { first: group.first, passage, bytes });
                whole.into_iter().for_each(|whole| self.handle_group(now_us, whole));
            }
        }
        self.queueing_us
    }

    /// All of a group that arrives has arrived.
    fn handle_group(&mut self, now_us: u64, group: Arriving) {
        let passage = group.passage;
        if let Some(bps) = self.train.handle_group(passage, group.bytes) {
            (self.train_bps, self.train_us) = (bps, Some(now_us));
        }
        if let Some(before) = self.before.replace(passage) {
            let arrival_delta_us = passage.arrival_us - before.arrival_us;
            let sent_delta_us = passage.sent_us as i64 - before.sent_us as i64;
            self.trendline.handle_group(passage.arrival_us, arrival_delta_us, sent_delta_us);
        }
    }

    /// The receiver's clock without its wraps. When it jumps, all that was learnt by it is forgotten.
    fn unwrap(&mut self, raw_us: i64) -> i64 {
        let period_us = TransportFeedback::CLOCK_PERIOD_US;
        let ahead_us = (raw_us - self.clock_raw_us.unwrap_or(raw_us)).rem_euclid(period_us);
        let ahead_us = if ahead_us > period_us / 2 { ahead_us - period_us } else { ahead_us };
        self.clock_raw_us = Some(raw_us);
        if ahead_us.abs() > CLOCK_JUMP_US {
            let (feedback_us, reported) = (self.feedback_us, self.reported);
            *self = Self { feedback_us, reported, clock_raw_us: Some(raw_us), ..Self::new() };
            return self.clock_us;
        }
        self.clock_us += ahead_us;
        self.clock_us
    }

    fn carried(&self, now_us: u64) -> Carried {
        let fresh = self.train_us.is_some_and(|train_us| now_us - train_us < TRAIN_FRESH_US);
        Carried { acked_bps: self.acked.bps(), train_bps: fresh.then_some(self.train_bps) }
    }
}

/// What receiver reports tell.
#[derive(Debug)]
struct Reports {
    report_us: u64,
    round_trip_us: Option<u64>,
    base: BaseDelay,
    queueing_us: u64,
    remb_low_us: Option<u64>,
}

impl Reports {
    fn new() -> Self {
        Self { report_us: 0, round_trip_us: None, base: BaseDelay::new(), queueing_us: 0, remb_low_us: None }
    }

    fn handle_round_trip(&mut self, now_us: u64, round_trip: Duration) {
        let round_trip = round_trip.min(ROUND_TRIP_MAX).as_micros() as u64;
        self.round_trip_us =
            Some(self.round_trip_us.map_or(round_trip, |smoothed| (7 * smoothed + round_trip) / 8));
        self.queueing_us = self.base.handle_delay(now_us, round_trip as i64, u64::MAX);
    }
}

/// Of the queue's length, a feedback.
const SMOOTHING: f64 = 0.25;
const LOSS_SMOOTHING: f64 = 0.5;
/// After this much silence of ours, feedback speaks of nothing that is remembered.
const FEEDBACK_US_MAX: u64 = 30_000_000;
/// Receivers give feedback each 50 to 250 ms; without any for so long, their reports are what there is.
const TRANSPORT_FEEDBACK_US: u64 = 2_000_000;
/// The jump of a receiver's clock, or the silence, after which its times do not compare with those before.
const CLOCK_JUMP_US: i64 = 10_000_000;
/// So long what a train has shown counts as carried now.
const TRAIN_FRESH_US: u64 = 500_000;
/// Two blocks of one compound are one report.
const REPORT_US_MIN: u64 = 20_000;
const ROUND_TRIP_US_UNKNOWN: u64 = 100_000;
const ROUND_TRIP_MAX: Duration = Duration::from_secs(10);
const REMB_LOW: f64 = 0.9;
const REMB_US: u64 = 5_000_000;
const PACING_FACTOR: f64 = 2.5;
const PACING_BPS_UNKNOWN: f64 = 100e6;
const PACING_BPS_MIN: f64 = 20e6;
const PACING_OVER_STREAM: f64 = 1.5;
/// No path of a viewer is faster; a receiver that lies gets no more.
const PACING_BPS_MAX: f64 = 1e9;

#[cfg(test)]
mod tests;
