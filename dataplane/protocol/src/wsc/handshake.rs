//! The server's side of one `ws-rtp` handshake: dummies to an address until it acks (wire contract section 3).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Dummies that an address gets before it acks. What they add to a punch is bounded by this.
pub(super) const MAX_DUMMIES: u8 = 5;

/// Time from one dummy to the next.
pub(super) const DUMMY_INTERVAL: Duration = Duration::from_millis(100);

/// How long an ack may take.
pub(super) const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// A handshake that waits for its ack.
#[derive(Debug)]
pub(super) struct Handshake {
    /// Where the punch came from, and the ack must come from.
    pub(super) to: SocketAddr,
    /// When it is over without an ack.
    pub(super) deadline: Instant,
    next_dummy_at: Instant,
    dummies_left: u8,
    dummy_due: bool,
}

impl Handshake {
    /// The first dummy is due at once.
    pub(super) fn new(now: Instant, to: SocketAddr) -> Self {
        let mut handshake = Self {
            to,
            deadline: now + ACK_TIMEOUT,
            next_dummy_at: now,
            dummies_left: MAX_DUMMIES,
            dummy_due: false,
        };
        handshake.handle_timeout(now);
        handshake
    }

    /// Time passed. A late call gives one dummy, not those that were missed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.dummies_left > 0 && now >= self.next_dummy_at {
            self.dummies_left -= 1;
            self.dummy_due = true;
            self.next_dummy_at = now + DUMMY_INTERVAL;
        }
    }

    /// When time matters to it.
    pub(super) fn poll_timeout(&self) -> Instant {
        if self.dummies_left > 0 { self.next_dummy_at.min(self.deadline) } else { self.deadline }
    }

    /// True once for each dummy to be sent.
    pub(super) fn take_dummy(&mut self) -> bool {
        std::mem::take(&mut self.dummy_due)
    }

    /// Nobody listens there: no more dummies. An ack is still waited for until the deadline.
    pub(super) fn handle_unreachable(&mut self) {
        self.dummies_left = 0;
        self.dummy_due = false;
    }
}
