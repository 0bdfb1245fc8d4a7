//! Puts packets in order and counts what is lost. It does not delay what is in order.

use std::time::{Duration, Instant};

use super::RtpPacket;

/// A packet in its place, with how many before it never came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// The packet.
    pub packet: RtpPacket,
    /// Packets missing between the one given before and this one. 0 after a restart of the sequence.
    pub lost_before: u32,
}

/// A bounded buffer that holds back packets behind a hole until it is filled, too old, or too many wait.
#[derive(Debug)]
pub struct ReorderBuffer {
    _depth: usize,
    _hold: Duration,
}

impl ReorderBuffer {
    /// `depth` packets at most wait, each for `hold` at most. `depth` 0 passes all on and only counts (TCP).
    pub fn new(depth: usize, hold: Duration) -> Self {
        Self { _depth: depth, _hold: hold }
    }

    /// Takes a packet that came at `now`.
    pub fn handle_packet(&mut self, _now: Instant, _packet: RtpPacket) {}

    /// The next packet in order, until `None`. Gives up on a hole whose wait is over at `now`.
    pub fn poll_packet(&mut self, _now: Instant) -> Option<Ordered> {
        None
    }

    /// When the oldest hole will be given up.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
