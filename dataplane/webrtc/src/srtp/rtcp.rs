//! Sealing of our RTCP packets, and opening of the peer's (RFC 3711 section 3.4, RFC 7714 section 9).
//!
//! Control packets are few, so a key is kept as it was derived and expanded for each: 51 bytes instead of 560. What is
//! in a packet is judged by its parser.

use bytes::BytesMut;

use super::keys::SessionKeys;
use super::replay::ReplayWindows;
use super::{OpenError, SrtpProfile, cm_sha1, gcm};

/// Bytes at the start of a compound packet that stay readable: the first header and its SSRC.
pub(super) const HEADER_BYTES: usize = 8;
/// Bytes of the index word: the E flag and 31 bits of index.
pub(super) const INDEX_BYTES: usize = 4;

const ENCRYPTED: u32 = 1 << 31;

/// Seals our RTCP packets.
///
/// The index counts up from 0 over all our SSRCs. When 2^31 packets were sealed the key may not be used any more
/// (RFC 3711 section 9.2): nothing is sealed then, and the session must end. At 20 packets a second that is after
/// three years.
pub struct RtcpSealer {
    keys: SessionKeys,
    next_index: u32,
}

/// Opens the peer's RTCP packets, each index once.
///
/// The peer may send from eight SSRCs in a session; packets of a ninth are dropped ([`OpenError::Sources`]), because
/// giving up what was seen of another would let that be replayed. Only authentic packets take a place.
pub struct RtcpOpener {
    keys: SessionKeys,
    windows: ReplayWindows,
}

impl std::fmt::Debug for RtcpSealer {
    /// Keys stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RtcpSealer").field("next_index", &self.next_index).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RtcpOpener {
    /// Keys stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RtcpOpener").field("profile", &self.keys.profile).finish_non_exhaustive()
    }
}

impl RtcpSealer {
    pub(super) fn new(keys: SessionKeys) -> Self {
        Self { keys, next_index: 0 }
    }

    /// Whether all indices are used: the session must end.
    pub fn is_exhausted(&self) -> bool {
        self.next_index >= ENCRYPTED
    }

    /// Appends the sealed form of a compound packet to `out`: [`SrtpProfile::rtcp_trailer_bytes`] more than its plain
    /// form. Appends nothing when [`RtcpSealer::is_exhausted`].
    ///
    /// # Panics
    /// When `compound` is shorter than 8 bytes: that is a bug.
    pub fn seal(&mut self, compound: &[u8], out: &mut BytesMut) {
        if self.is_exhausted() {
            return;
        }
        let index = self.next_index;
        self.next_index += 1;
        let start = out.len();
        out.extend_from_slice(compound);
        out.resize(out.len() + self.keys.profile.rtcp_trailer_bytes(), 0);
        let (packet, word) = (&mut out[start..], (ENCRYPTED | index).to_be_bytes());
        match self.keys.profile {
            SrtpProfile::AeadAes128Gcm => gcm::Key::new(&self.keys).seal_rtcp(packet, word, index),
            SrtpProfile::Aes128CmHmacSha1_80 => cm_sha1::Key::new(&self.keys).seal_rtcp(packet, word, index),
        }
    }
}

impl RtcpOpener {
    pub(super) fn new(keys: SessionKeys) -> Self {
        Self { keys, windows: ReplayWindows::default() }
    }

    /// Opens in place; gives the compound packet.
    ///
    /// # Errors
    /// When it is not authentic, not encrypted, or not new. Its bytes are of no use then.
    pub fn open<'a>(&mut self, packet: &'a mut [u8]) -> Result<&'a [u8], OpenError> {
        let profile = self.keys.profile;
        let compound_bytes =
            packet.len().checked_sub(profile.rtcp_trailer_bytes()).ok_or(OpenError::Short)?;
        let (_, ssrc) =
            packet[..compound_bytes].first_chunk::<HEADER_BYTES>().ok_or(OpenError::Short)?.split_at(4);
        let ssrc = u32::from_be_bytes([ssrc[0], ssrc[1], ssrc[2], ssrc[3]]);
        let word = index_word(profile, packet).ok_or(OpenError::Short)?;
        let index = u32::from_be_bytes(word) & !ENCRYPTED;
        if u32::from_be_bytes(word) & ENCRYPTED == 0 {
            return Err(OpenError::Authentication);
        }
        self.windows.check(ssrc, index)?;
        match profile {
            SrtpProfile::AeadAes128Gcm => gcm::Key::new(&self.keys).open_rtcp(packet, word, index)?,
            SrtpProfile::Aes128CmHmacSha1_80 => {
                cm_sha1::Key::new(&self.keys).open_rtcp(packet, word, index)?;
            }
        }
        self.windows.accept(ssrc, index);
        Ok(&packet[..compound_bytes])
    }
}

/// The index word is the last under GCM (RFC 7714 section 9.3), before the tag otherwise (RFC 3711 section 3.4).
fn index_word(profile: SrtpProfile, packet: &[u8]) -> Option<[u8; INDEX_BYTES]> {
    let after = match profile {
        SrtpProfile::AeadAes128Gcm => 0,
        SrtpProfile::Aes128CmHmacSha1_80 => cm_sha1::TAG_BYTES,
    };
    packet.get(..packet.len().checked_sub(after)?)?.last_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::keys::Direction;
    use crate::srtp::{MasterKey, SrtpKeys, session};

    #[test]
    fn the_last_index_is_sealed_and_none_after_it() {
        for profile in [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80] {
            let master = MasterKey { key: [1; 16], salt: smallvec::smallvec![2; profile.salt_bytes()] };
            let mut sealer = RtcpSealer::new(SessionKeys::derive(profile, &master, Direction::Rtcp));
            sealer.next_index = ENCRYPTED - 1;
            let mut out = BytesMut::new();
            assert!(!sealer.is_exhausted());
            sealer.seal(&[0x80, 201, 0, 1, 0, 0, 0, 1], &mut out);
            let keys = SrtpKeys { profile, local: master.clone(), remote: master };
            assert!(session(&keys).2.open(&mut out).is_ok());
            assert!(sealer.is_exhausted());
            out.clear();
            sealer.seal(&[0x80, 201, 0, 1, 0, 0, 0, 1], &mut out);
            assert!(out.is_empty());
        }
    }
}
