//! The answer: one section taken, all others rejected, every candidate in it.

use std::net::SocketAddr;

use super::{Fingerprint, Negotiated, Offer};
use crate::ice::IceCredentials;

/// One of our candidates (RFC 8839 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where.
    pub address: SocketAddr,
    /// How it came to be known.
    pub kind: CandidateKind,
}

/// Kinds of candidates, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateKind {
    /// An interface's address, or a public address that the operator configured.
    Host,
    /// What a STUN server saw; the related address is left out (privacy: RFC 8839 section 5.1 allows 0.0.0.0).
    ServerReflexive,
    /// ICE-TCP, passive (RFC 6544).
    TcpPassive,
}

/// What the answer says of us.
#[derive(Clone, Debug)]
pub struct LocalDescription<'a> {
    /// `o=` session number.
    pub session_number: u64,
    /// Our ICE credentials.
    pub ice: &'a IceCredentials,
    /// Our certificate.
    pub fingerprint: &'a Fingerprint,
    /// All of them.
    pub candidates: &'a [Candidate],
    /// SSRC of the media.
    pub ssrc: u32,
    /// SSRC of the retransmissions, used where negotiated.
    pub rtx_ssrc: u32,
    /// CNAME (RFC 7022).
    pub cname: &'a str,
}

/// The answer.
pub fn write_answer(offer: &Offer, negotiated: &Negotiated, local: &LocalDescription<'_>) -> String {
    let _ = (offer, negotiated, local);
    unimplemented!()
}
