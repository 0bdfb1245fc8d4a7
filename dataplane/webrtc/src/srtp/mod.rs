//! SRTP and SRTCP (RFC 3711) under the two protection profiles that browsers offer: AEAD_AES_128_GCM (RFC 7714) and
//! AES_CM_128_HMAC_SHA1_80.
//!
//! `keys` derives session keys, `gcm` and `cm_sha1` are the two ciphers, `rtp` seals media, `rtcp` seals
//! and opens control packets, `replay` remembers which of the peer's were seen. What is in the packets, and who
//! counts their indices, belongs to the peer. Media of the peer is never opened: viewers send none.
//!
//! Nonces are safe as long as a packet index is never used for two plaintexts: the callers count up and never back,
//! and a sealer cannot be cloned.

mod cm_sha1;
mod gcm;
mod keys;
mod replay;
mod rtcp;
mod rtp;

use keys::{Direction, SessionKeys};
pub use rtcp::{RtcpOpener, RtcpSealer};
pub use rtp::RtpSealer;

/// A protection profile (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// 16-byte tag, about 0.3 µs a packet.
    AeadAes128Gcm,
    /// 10-byte tag, about four times that.
    Aes128CmHmacSha1_80,
}

impl SrtpProfile {
    /// Bytes that sealing adds to an RTP packet.
    pub const fn tag_bytes(self) -> usize {
        match self {
            Self::AeadAes128Gcm => gcm::TAG_BYTES,
            Self::Aes128CmHmacSha1_80 => cm_sha1::TAG_BYTES,
        }
    }

    /// Bytes that sealing adds to an RTCP packet: the tag, and the index with its E flag.
    pub const fn rtcp_trailer_bytes(self) -> usize {
        self.tag_bytes() + rtcp::INDEX_BYTES
    }

    /// Bytes of a [`MasterKey`]'s salt.
    pub const fn salt_bytes(self) -> usize {
        match self {
            Self::AeadAes128Gcm => gcm::SALT_BYTES,
            Self::Aes128CmHmacSha1_80 => keys::SALT_BYTES,
        }
    }
}

/// What DTLS exported (RFC 5764 section 4.2), split by direction. The server writes with `local`.
pub struct SrtpKeys {
    /// The profile that both sides chose.
    pub profile: SrtpProfile,
    /// We seal with this.
    pub local: MasterKey,
    /// The peer seals with this.
    pub remote: MasterKey,
}

/// A master key and salt ([`SrtpProfile::salt_bytes`] of it).
#[derive(Clone)]
pub struct MasterKey {
    /// AES-128 key.
    pub key: [u8; 16],
    /// Salt.
    pub salt: smallvec::SmallVec<[u8; 14]>,
}

impl std::fmt::Debug for SrtpKeys {
    /// Keys stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SrtpKeys").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// Why a packet of the peer was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than its header and trailer.
    #[error("too short")]
    Short,
    /// The tag is wrong, or it is not encrypted.
    #[error("not authentic")]
    Authentication,
    /// Its index was seen, or is older than the window.
    #[error("replayed")]
    Replayed,
    /// The peer used up its number of SSRCs ([`RtcpOpener`]), and this is another.
    #[error("from one SSRC too many")]
    Sources,
}

/// All three of a session. To be made once of a pair of keys: a second sealer would use each index again.
pub fn session(keys: &SrtpKeys) -> (RtpSealer, RtcpSealer, RtcpOpener) {
    let derive = |master, direction| SessionKeys::derive(keys.profile, master, direction);
    (
        RtpSealer::new(&derive(&keys.local, Direction::Rtp)),
        RtcpSealer::new(derive(&keys.local, Direction::Rtcp)),
        RtcpOpener::new(derive(&keys.remote, Direction::Rtcp)),
    )
}

#[cfg(test)]
mod tests;
