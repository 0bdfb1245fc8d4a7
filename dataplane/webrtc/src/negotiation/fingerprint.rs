//! `a=fingerprint` (RFC 8122 section 5).

/// The hash of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Lower case: `sha-256`, `sha-384` or `sha-512`; weaker ones are not taken.
    pub algorithm: String,
    /// The hash.
    pub bytes: Vec<u8>,
}
