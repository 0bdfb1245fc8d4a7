//! The DTLS 1.2 server of a viewer (RFC 6347, RFC 5764, RFC 8827): the handshake, the SRTP keys, the end.
//!
//! One small interface, so that another implementation can take its place.
//!
//! Keys, signatures and messages are `rtc-dtls`'s (0.21.1). Around it is what a server for thousands on an open port
//! needs besides; each point was found in its source or by a test:
//!
//! - It follows the client's order of SRTP profiles. So `hello` looks first and picks a configuration. It does so by
//!   the first ClientHello, which no signature covers; the second must agree with it.
//! - A repeated ClientHello disarms its retransmission timer, so one lost datagram of its first flight ends a
//!   handshake with a client that repeats itself sooner than after a second, as Chromium does. So flights are kept
//!   and sent again here (`handshake`).
//! - It puts fragments together recursively, up to 2 MB of them, and queues records of the next epoch without bound.
//!   So `messages` gives it whole messages, in order, of known types and lengths.
//! - A plain alert from anybody ends its handshake. Here it is remembered, not obeyed.
//! - Connected, it keeps the whole handshake, and adds to it whatever plain handshake record anybody sends. So it goes
//!   (`established`).
//! - It does not compare the client's Finished. That record opens only under keys that hang on all messages before it,
//!   by the extended master secret (RFC 7627), which is required.
//! - It demands a cookie of everybody, which costs a round trip that ICE has made needless. No setting is against it.
//!
//! `dimpl` 0.9 was the alternative: it prefers AEAD_AES_256_GCM, which Chromium offers, to all others, and has no
//! setting against that; and its buffers, which stay, cannot be let go after the handshake.

mod certificate;
mod established;
mod handshake;
mod hello;
mod messages;
mod record;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::established::Established;
use self::handshake::{Connected, Handshake};
use crate::negotiation::Fingerprint;
use crate::srtp::SrtpKeys;

pub use self::certificate::{Certificate, CertificateError};

/// A datagram of the internet; some stacks on loopback send hellos in one of twice the size.
const DATAGRAM_BYTES_MAX: usize = 4096;
/// The client's last flight has five.
const RECORDS_MAX: usize = 16;
/// A flight is not sent again on demand sooner than this: its fragments come together.
const REPEAT_GAP: Duration = Duration::from_millis(20);

/// What a handshake came to.
#[derive(Debug)]
pub enum DtlsEvent {
    /// The peer is who its offer said; these are the keys.
    Connected(Box<SrtpKeys>),
    /// The peer said goodbye.
    Closed,
    /// It cannot go on. A sentence.
    Failed(String),
}

/// A viewer's DTLS association, in the role of the server.
pub struct Dtls {
    phase: Phase,
    output: Output,
    events: VecDeque<DtlsEvent>,
}

enum Phase {
    /// Until the client's Finished is there and good.
    Handshaking(Box<Handshake>),
    /// Until somebody says goodbye.
    Established(Box<Established>),
    /// Nothing comes, nothing goes.
    Ended,
}

/// What a datagram leads to besides a change of phase.
#[derive(Default)]
struct Output {
    datagrams: VecDeque<Bytes>,
    /// Datagrams or parts of them that were not of this handshake.
    dropped: u64,
}

impl std::fmt::Debug for Dtls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phase = match self.phase {
            Phase::Handshaking(_) => "Handshaking",
            Phase::Established(_) => "Established",
            Phase::Ended => "Ended",
        };
        f.debug_struct("Dtls")
            .field("phase", &phase)
            .field("dropped", &self.output.dropped)
            .finish_non_exhaustive()
    }
}

impl Dtls {
    /// Waits for a ClientHello. The peer's certificate must match one of `fingerprints`.
    pub fn new(certificate: Arc<Certificate>, fingerprints: Vec<Fingerprint>) -> Self {
        let handshake = Handshake::new(certificate, fingerprints);
        let phase = Phase::Handshaking(Box::new(handshake));
        Self { phase, output: Output::default(), events: VecDeque::new() }
    }

    /// A datagram of the peer (first byte 20–63, RFC 7983). Garbage is counted and dropped.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        if datagram.is_empty() || datagram.len() > DATAGRAM_BYTES_MAX {
            self.output.dropped += 1;
            return;
        }
        let records = record::records(datagram).take(RECORDS_MAX);
        match &mut self.phase {
            Phase::Handshaking(handshake) => match handshake.handle_records(now, records, &mut self.output) {
                Ok(None) => {}
                Ok(Some(Connected { keys, established })) => {
                    self.phase = Phase::Established(Box::new(established));
                    self.events.push_back(DtlsEvent::Connected(Box::new(keys)));
                }
                Err(reason) => self.fail(reason),
            },
            Phase::Established(established) => {
                if established.handle_records(now, records, &mut self.output) {
                    self.close();
                    self.events.push_back(DtlsEvent::Closed);
                }
            }
            Phase::Ended => self.output.dropped += 1,
        }
    }

    /// Time passed: flights are sent again.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Phase::Handshaking(handshake) = &mut self.phase
            && let Err(reason) = handshake.handle_timeout(now, &mut self.output)
        {
            self.fail(reason);
        }
    }

    /// When to call [`Dtls::handle_timeout`]. `None` before the first hello: until then the caller's limit counts.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Handshaking(handshake) => handshake.poll_timeout(),
            Phase::Established(_) | Phase::Ended => None,
        }
    }

    /// The next datagram to send, until `None`.
    pub fn poll_datagram(&mut self) -> Option<Bytes> {
        let datagram = self.output.datagrams.pop_front();
        if datagram.is_none() && matches!(self.phase, Phase::Established(_)) {
            self.output.datagrams = VecDeque::new();
        }
        datagram
    }

    /// The next event, until `None`.
    pub fn poll_event(&mut self) -> Option<DtlsEvent> {
        let event = self.events.pop_front();
        if event.is_none() {
            self.events = VecDeque::new();
        }
        event
    }

    /// Says goodbye (close_notify); [`Dtls::poll_datagram`] has it. Before the handshake is done there is nobody to
    /// say it to.
    pub fn close(&mut self) {
        if let Phase::Established(established) = std::mem::replace(&mut self.phase, Phase::Ended) {
            self.output.datagrams.push_back(established.goodbye());
        }
    }

    /// Datagrams that were no DTLS of this peer, and parts of datagrams.
    pub fn dropped(&self) -> u64 {
        self.output.dropped
    }

    fn fail(&mut self, reason: String) {
        self.phase = Phase::Ended;
        self.events.push_back(DtlsEvent::Failed(reason));
    }
}
