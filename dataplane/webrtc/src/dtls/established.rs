//! An association after its handshake: the last flight, should it have been lost, and an ear for the goodbye.
//!
//! Nothing is sent through it but what was made at its beginning; so what the library keeps of a connection (every
//! handshake message, fragments, a certificate with its key) goes, and its state stays as bytes, from which it is made
//! again for the one record that may end the session.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rtc_dtls::conn::DTLSConn;
use rtc_dtls::state::State;
use smallvec::SmallVec;

use super::certificate::Certificate;
use super::record::{ALERT, CHANGE_CIPHER_SPEC, HANDSHAKE, RECORD_HEADER_BYTES, Record};
use super::{Output, REPEAT_GAP};
use crate::srtp::SrtpProfile;

/// Answers to a client that repeats its last flight: as many as a path with a loss of one in two may need.
const REPEATS_MAX: u32 = 16;
/// Alerts that are tried: each costs a key schedule, and the right one comes once.
const ALERTS_MAX: u32 = 64;
/// Two bytes under any cipher of ours: explicit nonce and tag.
const ALERT_BYTES_MAX: usize = 8 + 2 + 16;

/// An association after its handshake.
pub(super) struct Established {
    certificate: Arc<Certificate>,
    profile: SrtpProfile,
    /// The library's state, for [`State::unmarshal_binary`].
    state: Box<[u8]>,
    /// ChangeCipherSpec and Finished.
    flight: SmallVec<[Bytes; 1]>,
    sent_at: Instant,
    repeats: u32,
    alerts: u32,
    /// A close_notify under our keys.
    goodbye: Bytes,
}

impl Established {
    pub(super) fn new(
        now: Instant,
        certificate: Arc<Certificate>,
        profile: SrtpProfile,
        state: Vec<u8>,
        flight: SmallVec<[Bytes; 1]>,
        goodbye: Bytes,
    ) -> Self {
        let state = state.into_boxed_slice();
        Self { certificate, profile, state, flight, sent_at: now, repeats: 0, alerts: 0, goodbye }
    }

    /// True if the peer said goodbye.
    pub(super) fn handle_records<'a>(
        &mut self,
        now: Instant,
        records: impl Iterator<Item = Option<Record<'a>>>,
        out: &mut Output,
    ) -> bool {
        let mut is_repeated = false;
        for record in records {
            match record {
                Some(Record { kind: HANDSHAKE, epoch: 0 | 1, .. }) => is_repeated = true,
                Some(Record { kind: CHANGE_CIPHER_SPEC, epoch: 0, .. }) => {}
                Some(record @ Record { kind: ALERT, epoch: 1, .. }) if self.is_goodbye(&record) => {
                    return true;
                }
                _ => out.dropped += 1,
            }
        }
        if is_repeated {
            self.repeat(now, out);
        }
        false
    }

    /// A close_notify; to be sent once.
    pub(super) fn goodbye(self) -> Bytes {
        self.goodbye
    }

    /// Anybody can ask for it, so it is no more than an answer or two to a lost datagram.
    fn repeat(&mut self, now: Instant, out: &mut Output) {
        if self.repeats == REPEATS_MAX || now.saturating_duration_since(self.sent_at) < REPEAT_GAP {
            out.dropped += 1;
            return;
        }
        (self.repeats, self.sent_at) = (self.repeats + 1, now);
        out.datagrams.extend(self.flight.iter().cloned());
    }

    /// True for an alert under the peer's keys: it has nothing to say there but goodbye.
    fn is_goodbye(&mut self, record: &Record<'_>) -> bool {
        if record.bytes.len() > RECORD_HEADER_BYTES + ALERT_BYTES_MAX || self.alerts == ALERTS_MAX {
            return false;
        }
        self.alerts += 1;
        let mut state = State::new(self.certificate.provider().clone(), false);
        if state.unmarshal_binary(&self.state).is_err() {
            return false;
        }
        let config = self.certificate.config(self.profile).clone();
        // The library is silent about what it cannot authenticate, and calls an alert an error.
        DTLSConn::new(config, false, Some(state)).read(record.bytes).is_err()
    }
}
