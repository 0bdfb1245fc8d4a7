//! Sealing of our RTP packets (RFC 3711 section 3.3). Sequence numbers and rollover counters are the egress's.

use super::keys::SessionKeys;
use super::{SrtpProfile, cm_sha1, gcm};

/// Seals our RTP packets: one session key for all our SSRCs, media and retransmissions.
///
/// The key stays expanded, for it is used per packet: under GCM 560 bytes on x86-64, the most that a viewer's SRTP
/// costs.
pub struct RtpSealer {
    cipher: Cipher,
}

#[expect(clippy::large_enum_variant, reason = "GCM is the usual one, and not to be behind another pointer")]
enum Cipher {
    Gcm(gcm::Key),
    CmSha1(cm_sha1::Key),
}

impl std::fmt::Debug for RtpSealer {
    /// Keys stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RtpSealer").field("profile", &self.profile()).finish_non_exhaustive()
    }
}

impl RtpSealer {
    pub(super) fn new(keys: &SessionKeys) -> Self {
        let cipher = match keys.profile {
            SrtpProfile::AeadAes128Gcm => Cipher::Gcm(gcm::Key::new(keys)),
            SrtpProfile::Aes128CmHmacSha1_80 => Cipher::CmSha1(cm_sha1::Key::new(keys)),
        };
        Self { cipher }
    }

    /// The profile.
    pub fn profile(&self) -> SrtpProfile {
        match self.cipher {
            Cipher::Gcm(_) => SrtpProfile::AeadAes128Gcm,
            Cipher::CmSha1(_) => SrtpProfile::Aes128CmHmacSha1_80,
        }
    }

    /// Seals one packet in place: `packet` is the header (`header_bytes`, extensions included), the plain payload and
    /// room for the tag ([`SrtpProfile::tag_bytes`]). `index` is `ROC << 16 | sequence number`; the low 16 bits and
    /// the SSRC must be those of the header. An index is used once per SSRC, so it ends at 2^48.
    ///
    /// # Panics
    /// When `packet` is shorter than its header and tag, or the header than 12 bytes: that is a bug.
    pub fn seal(&self, packet: &mut [u8], header_bytes: usize, index: u64) {
        debug_assert_eq!(index >> 48, 0, "an index has 48 bits");
        debug_assert_eq!(packet[2..4], index.to_be_bytes()[6..], "the index ends with the sequence number");
        match &self.cipher {
            Cipher::Gcm(key) => key.seal_rtp(packet, header_bytes, index),
            Cipher::CmSha1(key) => key.seal_rtp(packet, header_bytes, index),
        }
    }
}
