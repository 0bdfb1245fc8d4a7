//! The DTLS 1.2 server of a viewer (RFC 6347, RFC 5764, RFC 8827): the handshake, the SRTP keys, the end.
//!
//! One small interface, so that another implementation can take its place.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::negotiation::Fingerprint;
use crate::srtp::SrtpKeys;

/// The server's certificate: one for all viewers, made at start.
#[derive(Debug)]
pub struct Certificate {}

/// No certificate could be made.
#[derive(Debug, thiserror::Error)]
#[error("no DTLS certificate: {0}")]
pub struct CertificateError(String);

impl Certificate {
    /// Self-signed, ECDSA P-256.
    ///
    /// # Errors
    /// When the library cannot make one.
    pub fn generate() -> Result<Self, CertificateError> {
        Ok(Self {})
    }

    /// SHA-256 of its DER, for the answer.
    pub fn fingerprint(&self) -> &Fingerprint {
        unimplemented!()
    }
}

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
pub struct Dtls {}

impl std::fmt::Debug for Dtls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dtls").finish_non_exhaustive()
    }
}

impl Dtls {
    /// Waits for a ClientHello. The peer's certificate must match one of `fingerprints`.
    pub fn new(certificate: Arc<Certificate>, fingerprints: Vec<Fingerprint>) -> Self {
        let _ = (certificate, fingerprints);
        Self {}
    }

    /// A datagram of the peer (first byte 20–63, RFC 7983). Garbage is counted and dropped.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        let _ = (now, datagram);
        unimplemented!()
    }

    /// Time passed: flights are sent again.
    pub fn handle_timeout(&mut self, now: Instant) {
        unimplemented!("{now:?}")
    }

    /// When to call [`Dtls::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// The next datagram to send, until `None`.
    pub fn poll_datagram(&mut self) -> Option<Bytes> {
        unimplemented!()
    }

    /// The next event, until `None`.
    pub fn poll_event(&mut self) -> Option<DtlsEvent> {
        unimplemented!()
    }

    /// Says goodbye (close_notify); [`Dtls::poll_datagram`] has it.
    pub fn close(&mut self) {
        unimplemented!()
    }

    /// Datagrams that were no DTLS of this peer.
    pub fn dropped(&self) -> u64 {
        unimplemented!()
    }
}
