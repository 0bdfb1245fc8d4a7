//! Offer in, answer out (RFC 8829, RFC 9429, RFC 8839, RFC 8840, WHEP): what of an offer a stream's viewer can take.
//!
//! [`Offer::parse`] refuses what is not SDP or over a bound, [`Offer::negotiate`] what does not suit the stream, and
//! [`write_answer`] then cannot fail. [`TrickleFragment`] is what a viewer sends later.
//!
//! Text only; nothing here talks to anybody.

mod answer;
mod candidate;
mod fingerprint;
mod format;
mod negotiated;
mod offer;
mod section;
mod transport;
mod trickle;

pub use answer::{LocalDescription, write_answer};
pub use candidate::{Candidate, CandidateKind, RemoteCandidate};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use negotiated::{Negotiated, NegotiationError, Rtx, StreamMedia};
pub use offer::{Offer, OfferError};
pub use trickle::{TrickleFragment, write_trickle_fragment};

/// What of a viewer's word may stand in an error: short and printable.
fn printable(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(PRINTABLE_CHARS_MAX).collect()
}

/// Long enough for any name in SDP, short enough for a log line.
const PRINTABLE_CHARS_MAX: usize = 48;
