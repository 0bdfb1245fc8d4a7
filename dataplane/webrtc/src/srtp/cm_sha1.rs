//! AES_CM_128_HMAC_SHA1_80 for SRTP and SRTCP (RFC 3711 sections 4.1.1 and 4.2.1), by RustCrypto.
//!
//! Everything is authenticated after it was encrypted, header included, with the rollover counter (RTCP: the index
//! word) at its end.

use aes::Aes128Enc;
use ctr::cipher::{InnerIvInit, StreamCipherCore};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::OpenError;
use super::keys::{SALT_BYTES, SessionKeys};
use super::rtcp::{HEADER_BYTES, INDEX_BYTES};

/// Bytes of the authentication tag: 80 bits of the HMAC's 160.
pub(super) const TAG_BYTES: usize = 10;

/// An expanded key: AES round keys, and an HMAC that has hashed its key already.
pub(super) struct Key {
    cipher: Aes128Enc,
    salt: [u8; SALT_BYTES],
    mac: Hmac<Sha1>,
}

impl Key {
    /// Expands it.
    pub fn new(keys: &SessionKeys) -> Self {
        let mac = Hmac::new_from_slice(&keys.authentication).expect("HMAC takes keys of any length");
        Self { cipher: Aes128Enc::new(&keys.key.into()), salt: keys.salt, mac }
    }

    /// `packet`: header, payload, room for the tag.
    pub fn seal_rtp(&self, packet: &mut [u8], header_bytes: usize, index: u64) {
        let (packet, tag) = packet.split_at_mut(packet.len() - TAG_BYTES);
        let (header, payload) = packet.split_at_mut(header_bytes);
        self.encrypt([header[8], header[9], header[10], header[11]], index, payload);
        let rollover_counter = (index >> 16) as u32;
        let mac = self.mac(packet, rollover_counter.to_be_bytes());
        tag.copy_from_slice(&mac.finalize().into_bytes()[..TAG_BYTES]);
    }

    /// `packet`: a compound packet, room for index word and tag. `word` is the index with its E flag.
    pub fn seal_rtcp(&self, packet: &mut [u8], word: [u8; INDEX_BYTES], index: u32) {
        let (packet, tag) = packet.split_at_mut(packet.len() - TAG_BYTES);
        let (compound, trailer) = packet.split_at_mut(packet.len() - INDEX_BYTES);
        trailer.copy_from_slice(&word);
        self.encrypt_rtcp(compound, index);
        tag.copy_from_slice(&self.mac(compound, word).finalize().into_bytes()[..TAG_BYTES]);
    }

    /// `packet`: what [`Key::seal_rtcp`] made, no shorter than header and trailer. Left as it is when it is not
    /// authentic.
    pub fn open_rtcp(&self, packet: &mut [u8], word: [u8; INDEX_BYTES], index: u32) -> Result<(), OpenError> {
        let (packet, tag) = packet.split_at_mut(packet.len() - TAG_BYTES);
        let (compound, _) = packet.split_at_mut(packet.len() - INDEX_BYTES);
        self.mac(compound, word).verify_truncated_left(tag).map_err(|_| OpenError::Authentication)?;
        // Counter mode is its own inverse.
        self.encrypt_rtcp(compound, index);
        Ok(())
    }

    fn encrypt_rtcp(&self, compound: &mut [u8], index: u32) {
        let (header, body) = compound.split_at_mut(HEADER_BYTES);
        self.encrypt([header[4], header[5], header[6], header[7]], u64::from(index), body);
    }

    /// RFC 3711 section 4.1.1: salt, SSRC and 48 bits of index XORed, then 16 bits that count blocks.
    fn encrypt(&self, ssrc: [u8; 4], index: u64, data: &mut [u8]) {
        let mut iv = [0; 16];
        iv[4..8].copy_from_slice(&ssrc);
        iv[8..SALT_BYTES].copy_from_slice(&index.to_be_bytes()[2..]);
        iv.iter_mut().zip(self.salt).for_each(|(byte, salt)| *byte ^= salt);
        counter_mode(&self.cipher, &iv, data);
    }

    fn mac(&self, packet: &[u8], end: [u8; 4]) -> Hmac<Sha1> {
        self.mac.clone().chain_update(packet).chain_update(end)
    }
}

/// AES-CM: `data` XOR the key stream that starts at `iv`, whose last 16 bits are 0. They never overflow: a packet is
/// shorter than 1 MiB.
pub(super) fn counter_mode(cipher: &Aes128Enc, iv: &[u8; 16], data: &mut [u8]) {
    let core = ctr::CtrCore::<_, ctr::flavors::Ctr32BE>::inner_iv_init(cipher, iv.into());
    core.apply_keystream_partial(data.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3711 appendix B.2: the first three blocks of key stream, and three around block 0xFF00.
    #[test]
    fn the_key_stream_of_the_rfc_comes_out() {
        let cipher = Aes128Enc::new(&0x2B7E151628AED2A6ABF7158809CF4F3C_u128.to_be_bytes().into());
        let mut stream = vec![0; 0xFF02 * 16];
        counter_mode(&cipher, &0xF0F1F2F3F4F5F6F7F8F9FAFBFCFD0000_u128.to_be_bytes(), &mut stream);
        let block = |at: usize| u128::from_be_bytes(stream.as_chunks().0[at]);
        assert_eq!(block(0), 0xE03EAD0935C95E80E166B16DD92B4EB4);
        assert_eq!(block(1), 0xD23513162B02D0F72A43A2FE4A5F97AB);
        assert_eq!(block(2), 0x41E95B3BB0A2E8DD477901E4FCA894C0);
        assert_eq!(block(0xFEFF), 0xEC8CDF7398607CB0F2D21675EA9EA1E4);
        assert_eq!(block(0xFF00), 0x362B7C3C6773516318A077D7FC5073AE);
        assert_eq!(block(0xFF01), 0x6A2CC3787889374FBEB4C81B17BA6C44);
    }
}
