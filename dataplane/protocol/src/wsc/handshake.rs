//! The server's side of one `ws-rtp` handshake: dummies to an address until it acks (wire contract section 3).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Dummies before an ack, to whatever addresses. Anyone who knows the session can name any address by a spoofed
/// punch; this bounds what such an address gets.
pub(super) const MAX_DUMMIES: u8 = 5;

/// Time from one dummy to the next.
pub(super) const DUMMY_INTERVAL: Duration = Duration::from_millis(100);

/// How long an ack may take. Only after that there are dummies anew.
pub(super) const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// A handshake that waits for its ack.
#[derive(Debug)]
pub(super) struct Handshake {
    /// Where the latest punch came from, and the ack must come from.
    to: SocketAddr,
    deadline: Instant,
    next_dummy_at: Instant,
    dummies_left: u8,
    dummy_due: bool,
    /// Another punch has told where RTP goes: no ack is needed any more.
    settled: bool,
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
            settled: false,
        };
        handshake.handle_timeout(now);
        handshake
    }

    /// Where its ack must come from.
    pub(super) fn to(&self) -> SocketAddr {
        self.to
    }

    /// True once the time for an ack is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// True while RTP depends on its ack.
    pub(super) fn is_awaited(&self) -> bool {
        !self.settled
    }

    /// A punch came while it waits. Another address takes over what is left of dummies and time.
    pub(super) fn handle_punch(&mut self, now: Instant, from: SocketAddr) {
        if self.to != from {
            self.to = from;
            // What was due to the old address is spent.
            self.dummy_due = false;
        }
        self.settled = false;
        self.handle_timeout(now);
    }

    /// RTP goes elsewhere by the word of another punch.
    pub(super) fn settle(&mut self) {
        self.settled = true;
        self.dummy_due = false;
    }

    /// Nobody listens at its address: no more dummies. An ack is still waited for until the deadline.
    pub(super) fn handle_unreachable(&mut self) {
        self.dummies_left = 0;
        self.dummy_due = false;
    }

    /// Time passed. A late call gives one dummy, not those that were missed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.has_dummies() && now >= self.next_dummy_at {
            self.dummies_left -= 1;
            self.dummy_due = true;
            self.next_dummy_at = now + DUMMY_INTERVAL;
        }
    }

    /// When time matters to it.
    pub(super) fn poll_timeout(&self) -> Instant {
        if self.has_dummies() { self.next_dummy_at.min(self.deadline) } else { self.deadline }
    }

    /// True once for each dummy to be sent.
    pub(super) fn take_dummy(&mut self) -> bool {
        std::mem::take(&mut self.dummy_due)
    }

    fn has_dummies(&self) -> bool {
        self.dummies_left > 0 && !self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: [&str; 2] = ["203.0.113.5:1", "198.51.100.1:2"];

    /// The dummies that each of `ADDRESSES` gets in 5 s, where punches come at these times in ms.
    fn dummies(punches: &[(u64, usize)]) -> [usize; 2] {
        let start = Instant::now();
        let at = |place: usize| ADDRESSES[place].parse().unwrap();
        let mut handshake = Handshake::new(start, at(0));
        let mut dummies = [0; 2];
        for now_ms in 0..5000 {
            let now = start + Duration::from_millis(now_ms);
            for (_, place) in punches.iter().filter(|(punch_ms, _)| *punch_ms == now_ms) {
                handshake.handle_punch(now, at(*place));
            }
            if now >= handshake.poll_timeout() {
                handshake.handle_timeout(now);
            }
            if handshake.take_dummy() {
                dummies[usize::from(handshake.to() == at(1))] += 1;
            }
        }
        dummies
    }

    #[test]
    fn there_are_five_dummies_whatever_punches_come() {
        assert_eq!(dummies(&[]), [5, 0]);
        assert_eq!(dummies(&[(1, 0), (50, 0), (4000, 0)]), [5, 0]);
        assert_eq!(dummies(&[(150, 1)]), [2, 3]);
        assert_eq!(dummies(&[(150, 1), (250, 0), (350, 1), (450, 0), (1000, 1)]), [3, 2]);
    }

    #[test]
    fn a_settled_handshake_is_silent_until_it_is_punched_again() {
        let start = Instant::now();
        let to = ADDRESSES[0].parse().unwrap();
        let mut handshake = Handshake::new(start, to);
        handshake.settle();
        assert!(!handshake.take_dummy() && !handshake.is_awaited());
        assert_eq!(handshake.poll_timeout(), start + ACK_TIMEOUT);
        handshake.handle_punch(start + DUMMY_INTERVAL, to);
        assert!(handshake.take_dummy() && handshake.is_awaited());
    }
}
