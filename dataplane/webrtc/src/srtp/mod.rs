//! SRTP and SRTCP (RFC 3711) under the two protection profiles that browsers offer: AEAD_AES_128_GCM (RFC 7714) and
//! AES_CM_128_HMAC_SHA1_80.
//!
//! Nonces are safe as long as a packet index is never used for two plaintexts: the callers count up and never back.

use bytes::BytesMut;

/// A protection profile (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// 16-byte tag, about 0.3 µs a packet.
    AeadAes128Gcm,
    /// 10-byte tag, about three times that.
    Aes128CmHmacSha1_80,
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

/// A master key and salt (12 bytes of it under GCM, 14 under CM).
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

impl SrtpProfile {
    /// Bytes that sealing adds to an RTP packet.
    pub const fn tag_bytes(self) -> usize {
        match self {
            Self::AeadAes128Gcm => 16,
            Self::Aes128CmHmacSha1_80 => 10,
        }
    }
}

/// Seals our RTP packets: one session key for all our SSRCs.
pub struct RtpSealer {}

/// Seals our RTCP packets.
pub struct RtcpSealer {}

/// Opens the peer's RTCP packets, each index once.
pub struct RtcpOpener {}

/// Why a packet of the peer was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than its trailer.
    #[error("too short")]
    Short,
    /// The tag is wrong, or it is not encrypted.
    #[error("not authentic")]
    Authentication,
    /// Its index was seen, or is older than the window.
    #[error("replayed")]
    Replayed,
}

/// All three of a session.
pub fn session(keys: &SrtpKeys) -> (RtpSealer, RtcpSealer, RtcpOpener) {
    let _ = keys;
    unimplemented!()
}

impl RtpSealer {
    /// The profile.
    pub fn profile(&self) -> SrtpProfile {
        unimplemented!()
    }

    /// Seals one packet in place: `packet` is the header (`header_bytes`, extensions included), the plain payload and
    /// room for the tag. `index` is `ROC << 16 | sequence number`; the low 16 bits and the SSRC must be those of the
    /// header. An index is used once per SSRC.
    ///
    /// # Panics
    /// When `packet` is shorter than its header and tag: that is a bug.
    pub fn seal(&self, packet: &mut [u8], header_bytes: usize, index: u64) {
        let _ = (packet, header_bytes, index);
        unimplemented!()
    }
}

impl RtcpSealer {
    /// Appends the sealed form of a compound packet to `out`.
    pub fn seal(&mut self, compound: &[u8], out: &mut BytesMut) {
        let _ = (compound, out);
        unimplemented!()
    }
}

impl RtcpOpener {
    /// Opens in place; gives the compound packet.
    ///
    /// # Errors
    /// When it is not authentic, or not new.
    pub fn open<'a>(&mut self, packet: &'a mut [u8]) -> Result<&'a [u8], OpenError> {
        let _ = packet;
        unimplemented!()
    }
}
