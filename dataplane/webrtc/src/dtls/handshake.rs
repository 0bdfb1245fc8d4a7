//! A handshake under way (RFC 6347 section 4.2): what the library must not see, and what it does not do.
//!
//! The library gets whole messages in order, each once, in records of our making, and nothing else before the peer has
//! shown keys. It gives flights; that they arrive is our business.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use smallvec::SmallVec;

use super::certificate::{Certificate, is_one_of};
use super::established::Established;
use super::hello::{Hello, first_certificate};
use super::messages::{
    CERTIFICATE, CERTIFICATE_VERIFY, CLIENT_HELLO, CLIENT_KEY_EXCHANGE, Inserted, Messages,
};
use super::record::{
    self, ALERT, CHANGE_CIPHER_SPEC, FRAGMENT_HEADER_BYTES, HANDSHAKE, RECORD_HEADER_BYTES, Record,
};
use super::{Output, REPEAT_GAP};
use crate::negotiation::Fingerprint;
use crate::srtp::{MasterKey, SrtpKeys, SrtpProfile};

/// A handshake takes three round trips; who needs longer than this has gone.
pub(super) const HANDSHAKE_TIME: Duration = Duration::from_secs(30);
/// Our flight is sent again after this, then after twice as long, and so on. Clients ask for it much sooner by sending
/// theirs again (Chromium begins after 50 ms).
const RESEND_AFTER: Duration = Duration::from_millis(500);
/// But not more seldom than every four seconds: it ends with the handshake's time.
const RESEND_DOUBLINGS: u32 = 3;
/// Of one flight, on demand: as many as a path with a loss of one in two may need.
const REPEATS_MAX: u32 = 12;
/// Records under keys that overtook the messages which make the keys: a Finished, and one in reserve.
const EARLY_MAX: usize = 2;
/// A Finished has 61 bytes.
const EARLY_BYTES_MAX: usize = 128;
/// RFC 5246 section 7.2.
const HANDSHAKE_FAILURE: u8 = 40;
const BAD_CERTIFICATE: u8 = 42;

/// A handshake under way.
pub(super) struct Handshake {
    certificate: Arc<Certificate>,
    fingerprints: Vec<Fingerprint>,
    messages: Messages,
    /// From the first whole ClientHello on.
    library: Option<Library>,
    flight: Flight,
    early: SmallVec<[Bytes; 0]>,
    /// What the peer says went wrong. Anybody can say so; but if it goes wrong, that was why.
    alert: Option<u8>,
    /// From the first byte of a ClientHello on.
    ends_at: Option<Instant>,
}

/// What a handshake leads to.
pub(super) struct Connected {
    pub(super) keys: SrtpKeys,
    pub(super) established: Established,
}

/// The library's part.
struct Library {
    endpoint: Endpoint,
    profile: SrtpProfile,
    /// Of the first hello.
    digest: [u8; 32],
    /// That we asked the client to show.
    cookie: Vec<u8>,
    /// Number of the next record that we make for it.
    next_record: u64,
}

/// What we sent last.
struct Flight {
    datagrams: SmallVec<[BytesMut; 1]>,
    next_record: u64,
    sent_at: Option<Instant>,
    resend_at: Option<Instant>,
    /// By the clock.
    resends: u32,
    /// On demand, which anybody may make.
    repeats: u32,
}

impl Handshake {
    pub(super) fn new(certificate: Arc<Certificate>, fingerprints: Vec<Fingerprint>) -> Self {
        Self {
            certificate,
            fingerprints,
            messages: Messages::default(),
            library: None,
            flight: Flight {
                datagrams: SmallVec::new(),
                next_record: 0,
                sent_at: None,
                resend_at: None,
                resends: 0,
                repeats: 0,
            },
            early: SmallVec::new(),
            alert: None,
            ends_at: None,
        }
    }

    /// `Err`: why it cannot go on; the peer has been told.
    pub(super) fn handle_records<'a>(
        &mut self,
        now: Instant,
        records: impl Iterator<Item = Option<Record<'a>>>,
        out: &mut Output,
    ) -> Result<Option<Connected>, String> {
        let mut is_repeated = false;
        for record in records {
            match record {
                Some(Record { kind: HANDSHAKE, epoch: 0, body, .. }) => {
                    is_repeated |= self.handle_fragments(now, body, out);
                }
                Some(record @ Record { kind: HANDSHAKE, epoch: 1, .. }) => self.keep_early(record, out),
                // The messages before it tell as much.
                Some(Record { kind: CHANGE_CIPHER_SPEC, epoch: 0, body: [1], .. }) => {}
                Some(Record { kind: ALERT, epoch: 0, body: [_, description], .. }) => {
                    self.alert = Some(*description)
                }
                _ => out.dropped += 1,
            }
        }
        while let Some((kind, message_seq, body)) = self.messages.pop() {
            self.handle_message(now, kind, message_seq, &body, out)?;
        }
        let connected = self.handle_early(now, out)?;
        if is_repeated && connected.is_none() {
            self.flight.repeat(now, out);
        }
        Ok(connected)
    }

    /// `Err`: why it cannot go on.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Output) -> Result<(), String> {
        if self.ends_at.is_some_and(|at| at <= now) {
            return Err(match self.alert {
                Some(alert) => format!("the peer gave up with alert {alert}"),
                None => format!("not done within {} s", HANDSHAKE_TIME.as_secs()),
            });
        }
        self.flight.handle_timeout(now, out);
        Ok(())
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.ends_at.into_iter().chain(self.flight.resend_at).min()
    }

    /// True if one of them was of a message that came before.
    fn handle_fragments(&mut self, now: Instant, body: &[u8], out: &mut Output) -> bool {
        let mut is_repeated = false;
        for fragment in record::fragments(body) {
            match fragment.map_or(Inserted::Refused, |fragment| self.messages.insert(&fragment)) {
                Inserted::New => self.ends_at = self.ends_at.or(Some(now + HANDSHAKE_TIME)),
                Inserted::Repeated => is_repeated = true,
                Inserted::Refused => out.dropped += 1,
            }
        }
        is_repeated
    }

    fn keep_early(&mut self, record: Record<'_>, out: &mut Output) {
        if record.bytes.len() > EARLY_BYTES_MAX || self.messages.next() < 2 {
            out.dropped += 1;
            return;
        }
        // The latest is the likeliest.
        if self.early.len() == EARLY_MAX {
            self.early.remove(0);
            out.dropped += 1;
        }
        self.early.push(Bytes::copy_from_slice(record.bytes));
    }

    fn handle_message(
        &mut self,
        now: Instant,
        kind: u8,
        seq: u16,
        body: &[u8],
        out: &mut Output,
    ) -> Result<(), String> {
        match kind {
            CLIENT_HELLO => return self.handle_hello(now, seq, body, out),
            CERTIFICATE => match first_certificate(body) {
                Some(der) if is_one_of(&self.fingerprints, der) => {}
                Some(_) => {
                    return self.fail(
                        BAD_CERTIFICATE,
                        "the peer's certificate is not the one of its offer",
                        out,
                    );
                }
                None => return self.fail(BAD_CERTIFICATE, "the peer has no certificate", out),
            },
            _ => {}
        }
        self.feed_message(now, kind, seq, body, out)?;
        if kind == CERTIFICATE_VERIFY {
            // The signature is good: records under keys can be read.
            self.feed(now, |sequence| record::write_record(CHANGE_CIPHER_SPEC, sequence, &[1]), out)?;
        }
        Ok(())
    }

    fn handle_hello(&mut self, now: Instant, seq: u16, body: &[u8], out: &mut Output) -> Result<(), String> {
        let hello = Hello::parse(body);
        let known = self.library.as_ref();
        let cookie = known.map_or(&[][..], |library| &library.cookie);
        let Some(hello) = hello.filter(|hello| known.is_none() || hello.cookie == cookie) else {
            out.dropped += 1;
            self.messages.refuse();
            return Ok(());
        };
        let profile = match hello.profile {
            Ok(profile) => profile,
            Err(reason) => return self.fail(HANDSHAKE_FAILURE, reason, out),
        };
        if known.is_some_and(|library| library.digest != hello.digest) {
            return self.fail(HANDSHAKE_FAILURE, "the peer's second hello is not like its first", out);
        }
        if known.is_none() {
            let config = self.certificate.config(profile).clone();
            let endpoint = Endpoint::new(NOWHERE, Default::default(), Some(config));
            let digest = hello.digest;
            self.library = Some(Library { endpoint, profile, digest, cookie: Vec::new(), next_record: 0 });
        }
        self.feed_message(now, CLIENT_HELLO, seq, body, out)?;
        match seq {
            0 => self.keep_cookie(),
            _ => self.flight.resend_at = Some(now + RESEND_AFTER),
        }
        Ok(())
    }

    /// Of the HelloVerifyRequest: record, fragment header, version, cookie.
    fn keep_cookie(&mut self) {
        const AT: usize = RECORD_HEADER_BYTES + FRAGMENT_HEADER_BYTES + 2;
        let request = self.flight.datagrams.first().map_or(&[][..], |datagram| datagram);
        let cookie = request.get(AT).and_then(|length| request.get(AT + 1..AT + 1 + usize::from(*length)));
        if let (Some(library), Some(cookie)) = (&mut self.library, cookie) {
            library.cookie = cookie.to_vec();
        }
    }

    /// What came under keys, once there are keys.
    fn handle_early(&mut self, now: Instant, out: &mut Output) -> Result<Option<Connected>, String> {
        if !self.messages.are_complete() {
            return Ok(None);
        }
        for record in std::mem::take(&mut self.early) {
            if self.feed(now, |_| record, out)? {
                return self.connected(now, out).map(Some);
            }
            // Not under the right keys, or it says nothing.
            out.dropped += 1;
        }
        Ok(None)
    }

    fn feed_message(
        &mut self,
        now: Instant,
        kind: u8,
        seq: u16,
        body: &[u8],
        out: &mut Output,
    ) -> Result<bool, String> {
        debug_assert!([CLIENT_HELLO, CERTIFICATE, CLIENT_KEY_EXCHANGE, CERTIFICATE_VERIFY].contains(&kind));
        self.feed(now, |sequence| record::write_message(kind, seq, sequence, body), out)
    }

    /// Gives the library a record, and what it answers to the peer. True if the handshake is done.
    fn feed(
        &mut self,
        now: Instant,
        record: impl FnOnce(u64) -> Bytes,
        out: &mut Output,
    ) -> Result<bool, String> {
        let Some(library) = &mut self.library else { return Ok(false) };
        let record = record(library.next_record);
        library.next_record += 1;
        let result = library.endpoint.read(now, NOWHERE, None, BytesMut::from(record));
        let datagrams = library.take_datagrams();
        if !datagrams.is_empty() {
            self.flight.begin(now, datagrams, out);
        }
        match result {
            Ok(events) => Ok(events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete))),
            Err(error) => Err(format!("the handshake failed: {error}")),
        }
    }

    /// All that is worth keeping.
    fn connected(&mut self, now: Instant, out: &mut Output) -> Result<Connected, String> {
        let Some(library) = &mut self.library else { return Err("there was no handshake".to_owned()) };
        let state =
            library.endpoint.get_connection_state(NOWHERE).ok_or("the library forgot the association")?;
        // This was seen before the library saw it; but it is what all rests on.
        let is_theirs = state.peer_certificates.first().is_some_and(|der| is_one_of(&self.fingerprints, der));
        let length = 2 * (KEY_BYTES + library.profile.salt_bytes());
        let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], length);
        let (state, material) = match (state.marshal_binary(), material) {
            (Ok(state), Ok(material)) if is_theirs => (state, material),
            (Err(error), _) | (_, Err(error)) => return Err(format!("no keys: {error}")),
            _ => {
                return self.fail(BAD_CERTIFICATE, "the peer's certificate is not the one of its offer", out);
            }
        };
        let keys = srtp_keys(library.profile, material.as_ref()).ok_or("no keys: too few bytes")?;
        let _ = library.endpoint.stop(now, NOWHERE);
        let goodbye = library.take_datagrams().into_iter().next().map(BytesMut::freeze).unwrap_or_default();
        let flight = std::mem::take(&mut self.flight.datagrams).into_iter().map(BytesMut::freeze).collect();
        let established =
            Established::new(now, self.certificate.clone(), library.profile, state, flight, goodbye);
        Ok(Connected { keys, established })
    }

    fn fail<T>(&mut self, alert: u8, reason: &str, out: &mut Output) -> Result<T, String> {
        out.datagrams.push_back(record::write_record(ALERT, self.flight.next_record, &[2, alert]));
        Err(reason.to_owned())
    }
}

impl Library {
    fn take_datagrams(&mut self) -> SmallVec<[BytesMut; 1]> {
        std::iter::from_fn(|| self.endpoint.poll_transmit()).map(|transmit| transmit.message).collect()
    }
}

impl Flight {
    fn begin(&mut self, now: Instant, datagrams: SmallVec<[BytesMut; 1]>, out: &mut Output) {
        (self.datagrams, self.resend_at, self.resends, self.repeats) = (datagrams, None, 0, 0);
        self.send(now, out);
    }

    fn send(&mut self, now: Instant, out: &mut Output) {
        self.sent_at = Some(now);
        for datagram in &mut self.datagrams {
            record::renumber(datagram, &mut self.next_record);
            out.datagrams.push_back(Bytes::copy_from_slice(datagram));
        }
    }

    /// The peer sent its flight again.
    fn repeat(&mut self, now: Instant, out: &mut Output) {
        let is_early = self.sent_at.is_some_and(|at| now.saturating_duration_since(at) < REPEAT_GAP);
        if !is_early && self.repeats < REPEATS_MAX {
            self.repeats += 1;
            self.send(now, out);
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Output) {
        if self.resend_at.is_some_and(|at| at <= now) {
            self.resends += 1;
            self.resend_at = Some(now + RESEND_AFTER * (1 << self.resends.min(RESEND_DOUBLINGS)));
            self.send(now, out);
        }
    }
}

/// The client's key, the server's, the client's salt, the server's (RFC 5764 section 4.2).
fn srtp_keys(profile: SrtpProfile, material: &[u8]) -> Option<SrtpKeys> {
    let (client_key, rest) = material.split_first_chunk::<KEY_BYTES>()?;
    let (server_key, salts) = rest.split_first_chunk::<KEY_BYTES>()?;
    let (client_salt, server_salt) = salts.split_at_checked(profile.salt_bytes())?;
    let master =
        |key: &[u8; KEY_BYTES], salt: &[u8]| MasterKey { key: *key, salt: SmallVec::from_slice(salt) };
    Some(SrtpKeys {
        profile,
        local: master(server_key, server_salt),
        remote: master(client_key, client_salt),
    })
}

const KEY_BYTES: usize = 16;
/// The library tells peers apart by address; here each has its own.
const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9));
