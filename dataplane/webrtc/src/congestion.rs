//! What a viewer's path carries: one estimate, and whether it carries the stream.
//!
//! The camera's rate cannot change, so the estimate has two uses: how fast bursts leave, and when whole access units
//! are left out up to the next random access point. Transport-wide feedback where there is any
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01), else receiver reports and REMB.

use std::time::{Duration, Instant};

use lanecast_protocol::rtcp::{ReceptionBlock, TransportFeedback};

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

/// The estimate of one viewer. At most about a kilobyte: send times are kept a run, not a packet.
#[derive(Debug)]
pub struct Congestion {}

impl Congestion {
    /// Nothing known yet.
    pub fn new(now: Instant) -> Self {
        unimplemented!("{now:?}")
    }

    /// `packets` packets of `packet_bytes` each left in one run; the first had this transport-wide sequence number.
    pub fn handle_sent(&mut self, now: Instant, first_sequence: u16, packets: u16, packet_bytes: u16) {
        unimplemented!("{now:?} {first_sequence} {packets} {packet_bytes}")
    }

    /// Transport-wide feedback came.
    pub fn handle_transport_feedback(&mut self, now: Instant, feedback: &TransportFeedback<'_>) {
        unimplemented!("{now:?} {feedback:?}")
    }

    /// A report block on our media came. `round_trip` as computed from its LSR and DLSR.
    pub fn handle_report(&mut self, now: Instant, block: &ReceptionBlock, round_trip: Option<Duration>) {
        unimplemented!("{now:?} {block:?} {round_trip:?}")
    }

    /// The receiver's own estimate came (REMB).
    pub fn handle_remb(&mut self, now: Instant, bitrate_bps: u64) {
        unimplemented!("{now:?} {bitrate_bps}")
    }

    /// True when the path does not carry the stream: leave out everything up to the next random access point that
    /// comes at or after [`Congestion::resume_at`]. Reading it takes it: the caller does so.
    pub fn poll_overload(&mut self, now: Instant) -> bool {
        unimplemented!("{now:?}")
    }

    /// After an overload: not before this. Grows with repeated overloads, shrinks when all goes well.
    pub fn resume_at(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// How fast bursts may leave, in bit/s: above the estimate, so that a burst is spread and not throttled.
    pub fn pacing_rate_bps(&self) -> u64 {
        unimplemented!()
    }

    /// Smoothed round trip; 100 ms where nothing is known.
    pub fn round_trip(&self) -> Duration {
        unimplemented!()
    }

    /// For the session's statistics.
    pub fn statistics(&self) -> CongestionStatistics {
        unimplemented!()
    }
}
