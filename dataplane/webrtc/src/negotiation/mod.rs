//! Offer in, answer out (RFC 8829, RFC 9429, RFC 8839, RFC 8840, WHEP): what of an offer a stream's viewer can take.
//!
//! Text only; nothing here talks to anybody.

mod answer;
mod fingerprint;
mod offer;

pub use answer::{Candidate, CandidateKind, LocalDescription, write_answer};
pub use fingerprint::Fingerprint;
pub use offer::{
    Negotiated, NegotiationError, Offer, OfferError, RemoteCandidate, Rtx, StreamMedia, TrickleFragment,
    write_trickle_fragment,
};
