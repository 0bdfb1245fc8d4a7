//! A viewer's offer, validated, and what of it suits a stream.

use std::net::SocketAddr;

use lanecast_protocol::codec::Codec;

use super::Fingerprint;
use crate::ice::IceCredentials;

/// An offer that could be answered, whatever the stream.
#[derive(Clone, Debug)]
pub struct Offer {}

/// Why an offer cannot be answered at all: malformed (400).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Not SDP, or over a bound; a sentence naming what and where.
    #[error("{0}")]
    Malformed(String),
}

/// Why a well-formed offer does not suit (422).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// No video section that wants to receive.
    #[error("the offer has no video section that receives")]
    NoVideo,
    /// The stream's codec is not among those offered.
    #[error("the stream is {stream}, the offer has {offered}")]
    CodecNotOffered {
        /// E.g. `H.265`.
        stream: String,
        /// E.g. `VP8, H.264`.
        offered: String,
    },
    /// Anything else that we need: a sentence naming it (rtcp-mux, fingerprint, setup role, ICE credentials, profile).
    #[error("{0}")]
    Unsupported(String),
}

/// What a stream sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamMedia {
    /// The codec.
    pub codec: Codec,
    /// The first three bytes of an H.264 SPS behind its header (profile_idc, constraint flags, level_idc), where known.
    pub profile_level_id: Option<[u8; 3]>,
}

/// What both sides take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Which section of the offer is answered; the others are rejected.
    pub section: usize,
    /// Its mid.
    pub mid: String,
    /// Payload type of the media.
    pub payload_type: u8,
    /// Retransmission (RFC 4588), where offered.
    pub rtx: Option<Rtx>,
    /// NACK was offered.
    pub nack: bool,
    /// PLI was offered.
    pub pli: bool,
    /// FIR was offered.
    pub fir: bool,
    /// REMB was offered.
    pub remb: bool,
    /// Header extension id of the transport-wide sequence number, where the extension and its feedback are offered.
    /// Only together with `rtx`: a packet sent again under its own sequence number must be the same to the byte.
    pub transport_cc: Option<u8>,
    /// The viewer's ICE credentials.
    pub ice: IceCredentials,
    /// Its certificate's hashes, at least one.
    pub fingerprints: Vec<Fingerprint>,
    /// Its candidates so far, bounded.
    pub candidates: Vec<RemoteCandidate>,
}

/// Retransmission (RFC 4588), where negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtx {
    /// Its payload type.
    pub payload_type: u8,
}

/// A viewer's candidate; only UDP with an address counts (mDNS names are skipped).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteCandidate {
    /// Where.
    pub address: SocketAddr,
}

/// A `PATCH` body (`application/trickle-ice-sdpfrag`, RFC 8840).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrickleFragment {
    /// Credentials, where given: others than the session's mean an ICE restart.
    pub ice: Option<IceCredentials>,
    /// Candidates, bounded.
    pub candidates: Vec<RemoteCandidate>,
    /// `a=end-of-candidates`.
    pub ended: bool,
}

impl Offer {
    /// Parses and checks an offer.
    ///
    /// # Errors
    /// When it is not a well-formed offer within our bounds.
    pub fn parse(sdp: &str) -> Result<Self, OfferError> {
        let _ = sdp;
        unimplemented!()
    }

    /// What of it suits this stream.
    ///
    /// # Errors
    /// When nothing does.
    pub fn negotiate(&self, media: StreamMedia) -> Result<Negotiated, NegotiationError> {
        let _ = media;
        unimplemented!()
    }
}

impl TrickleFragment {
    /// Parses a fragment.
    ///
    /// # Errors
    /// When it is not one within our bounds.
    pub fn parse(body: &str) -> Result<Self, OfferError> {
        let _ = body;
        unimplemented!()
    }
}

/// Our side's fragment, the answer to an ICE restart.
pub fn write_trickle_fragment(mid: &str, ice: &IceCredentials, candidates: &[super::Candidate]) -> String {
    let _ = (mid, ice, candidates);
    unimplemented!()
}
