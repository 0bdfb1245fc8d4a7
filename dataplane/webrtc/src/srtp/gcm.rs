//! AEAD_AES_128_GCM for SRTP and SRTCP (RFC 7714), by `ring`.
//!
//! The header (RTCP: the first 8 bytes and the index word) is authenticated, the rest encrypted as well.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};

use super::OpenError;
use super::keys::SessionKeys;
use super::rtcp::{HEADER_BYTES, INDEX_BYTES};

/// Bytes of the authentication tag.
pub(super) const TAG_BYTES: usize = 16;
/// Bytes of the salt, and of a nonce.
pub(super) const SALT_BYTES: usize = 12;

/// An expanded key: 560 bytes on x86-64, most of it AES round keys and powers of the hash key.
pub(super) struct Key {
    key: LessSafeKey,
    salt: [u8; SALT_BYTES],
}

impl Key {
    /// Expands it.
    pub fn new(keys: &SessionKeys) -> Self {
        // The only error is a wrong length.
        let key = UnboundKey::new(&AES_128_GCM, &keys.key).expect("an AES-128 key has 16 bytes");
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&keys.salt[..SALT_BYTES]);
        Self { key: LessSafeKey::new(key), salt }
    }

    /// `packet`: header, payload, room for the tag.
    pub fn seal_rtp(&self, packet: &mut [u8], header_bytes: usize, index: u64) {
        let (header, rest) = packet.split_at_mut(header_bytes);
        let (payload, tag) = rest.split_at_mut(rest.len() - TAG_BYTES);
        let nonce = self.nonce([header[8], header[9], header[10], header[11]], index);
        tag.copy_from_slice(self.seal(nonce, header, payload).as_ref());
    }

    /// `packet`: a compound packet, room for tag and index word. `word` is the index with its E flag.
    pub fn seal_rtcp(&self, packet: &mut [u8], word: [u8; INDEX_BYTES], index: u32) {
        let (packet, trailer) = packet.split_at_mut(packet.len() - INDEX_BYTES);
        trailer.copy_from_slice(&word);
        let (compound, tag) = packet.split_at_mut(packet.len() - TAG_BYTES);
        let (header, body) = compound.split_at_mut(HEADER_BYTES);
        let nonce = self.nonce([header[4], header[5], header[6], header[7]], u64::from(index));
        tag.copy_from_slice(self.seal(nonce, &rtcp_associated(header, word), body).as_ref());
    }

    /// `packet`: what [`Key::seal_rtcp`] made, no shorter than header and trailer. What it leaves of a packet that
    /// is not authentic is of no use.
    pub fn open_rtcp(&self, packet: &mut [u8], word: [u8; INDEX_BYTES], index: u32) -> Result<(), OpenError> {
        let (packet, _) = packet.split_at_mut(packet.len() - INDEX_BYTES);
        let (compound, tag) = packet.split_at_mut(packet.len() - TAG_BYTES);
        let (header, body) = compound.split_at_mut(HEADER_BYTES);
        let tag = Tag::try_from(&*tag).map_err(|_| OpenError::Short)?;
        let nonce = self.nonce([header[4], header[5], header[6], header[7]], u64::from(index));
        let associated = Aad::from(rtcp_associated(header, word));
        match self.key.open_in_place_separate_tag(nonce, associated, tag, body, 0..) {
            Ok(_) => Ok(()),
            Err(_) => Err(OpenError::Authentication),
        }
    }

    fn seal(&self, nonce: Nonce, associated: &[u8], plain: &mut [u8]) -> Tag {
        // The only error is a plaintext beyond 64 GiB.
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::from(associated), plain);
        sealed.expect("a packet is no file")
    }

    /// RFC 7714 sections 8.1 and 9.1: two zeros, the SSRC, 48 bits of index (of SRTCP: 31), all XOR the salt.
    fn nonce(&self, ssrc: [u8; 4], index: u64) -> Nonce {
        let mut nonce = [0; SALT_BYTES];
        nonce[2..6].copy_from_slice(&ssrc);
        nonce[6..].copy_from_slice(&index.to_be_bytes()[2..]);
        nonce.iter_mut().zip(self.salt).for_each(|(byte, salt)| *byte ^= salt);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// RFC 7714 section 9.2: what an encrypted RTCP packet shows to everyone.
fn rtcp_associated(header: &[u8], word: [u8; INDEX_BYTES]) -> [u8; HEADER_BYTES + INDEX_BYTES] {
    let mut associated = [0; HEADER_BYTES + INDEX_BYTES];
    associated[..HEADER_BYTES].copy_from_slice(header);
    associated[HEADER_BYTES..].copy_from_slice(&word);
    associated
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::SrtpProfile;
    use crate::srtp::tests::bytes;

    /// The session key of RFC 7714 section 16.
    fn key() -> Key {
        let mut salt = [0; 14];
        salt[..SALT_BYTES].copy_from_slice(b"Quid pro quo");
        Key::new(&SessionKeys {
            profile: SrtpProfile::AeadAes128Gcm,
            key: std::array::from_fn(|at| at as u8),
            salt,
            authentication: [0; 20],
        })
    }

    /// RFC 7714 section 16.1.1.
    #[test]
    fn the_srtp_packet_of_the_rfc_comes_out() {
        let mut packet = bytes(
            "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070
             61727465 73207472 6573",
        );
        packet.extend([0; TAG_BYTES]);
        key().seal_rtp(&mut packet, 12, 0xf17b);
        let sealed = bytes(
            "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a
             51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
        );
        assert_eq!(packet, sealed);
    }

    /// RFC 7714 section 17.1.
    #[test]
    fn the_srtcp_packet_of_the_rfc_comes_out_and_opens() {
        let plain = bytes(
            "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef
             deadbeef deadbeef deadbeef",
        );
        let sealed = bytes(
            "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda
             4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
        );
        let word = 0x8000_05d4_u32.to_be_bytes();
        let mut packet = plain.clone();
        packet.extend([0; TAG_BYTES + INDEX_BYTES]);
        key().seal_rtcp(&mut packet, word, 0x5d4);
        assert_eq!(packet, sealed);
        assert_eq!(key().open_rtcp(&mut packet, word, 0x5d4), Ok(()));
        assert_eq!(packet[..plain.len()], plain);
    }
}
