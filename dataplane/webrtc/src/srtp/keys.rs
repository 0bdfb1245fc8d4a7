//! Session keys from a master key (RFC 3711 section 4.3; RFC 7714 section 11 for GCM, whose salt is shorter).
//!
//! The key derivation rate is 0: each key is derived once.

use aes::Aes128Enc;
use hmac::KeyInit;

use super::{MasterKey, SrtpProfile, cm_sha1};

/// Bytes of a session salt, and of a master salt that is filled up for the derivation.
pub(super) const SALT_BYTES: usize = 14;
/// Bytes of an HMAC-SHA1 key.
pub(super) const AUTHENTICATION_KEY_BYTES: usize = 20;

/// What a master key yields for one kind of packet. Not expanded: this is what a cipher is made of.
pub(super) struct SessionKeys {
    /// Which cipher it is for.
    pub profile: SrtpProfile,
    /// AES-128 key.
    pub key: [u8; 16],
    /// Salt; GCM takes its first 12 bytes.
    pub salt: [u8; SALT_BYTES],
    /// HMAC key; zeros under GCM, which needs none.
    pub authentication: [u8; AUTHENTICATION_KEY_BYTES],
}

/// The two kinds of packet, by their first label (RFC 3711 section 4.3.2): key, authentication, salt follow each other.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    /// Media.
    Rtp = 0,
    /// Control.
    Rtcp = 3,
}

impl SessionKeys {
    /// A salt that is too long is cut and one that is too short filled with zeros; the profile decides.
    pub fn derive(profile: SrtpProfile, master: &MasterKey, direction: Direction) -> Self {
        debug_assert_eq!(master.salt.len(), profile.salt_bytes());
        let mut salt = [0; SALT_BYTES];
        salt.iter_mut().zip(master.salt.iter().take(profile.salt_bytes())).for_each(|(to, from)| *to = *from);
        let derivation = Derivation { cipher: Aes128Enc::new(&master.key.into()), salt };
        let first = direction as u8;
        Self {
            profile,
            key: derivation.derive(first),
            salt: derivation.derive(first + 2),
            authentication: match profile {
                SrtpProfile::Aes128CmHmacSha1_80 => derivation.derive(first + 1),
                SrtpProfile::AeadAes128Gcm => [0; AUTHENTICATION_KEY_BYTES],
            },
        }
    }
}

/// The pseudo-random function: AES in counter mode under the master key.
struct Derivation {
    cipher: Aes128Enc,
    salt: [u8; SALT_BYTES],
}

impl Derivation {
    fn derive<const N: usize>(&self, label: u8) -> [u8; N] {
        let mut iv = [0; 16];
        iv[..SALT_BYTES].copy_from_slice(&self.salt);
        // The label stands before 48 bits of index, which is 0.
        iv[SALT_BYTES - 7] ^= label;
        let mut derived = [0; N];
        cm_sha1::counter_mode(&self.cipher, &iv, &mut derived);
        derived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3711 appendix B.3.
    #[test]
    fn the_keys_of_the_rfc_come_out() {
        let master = MasterKey {
            key: 0xE1F97A0D3E018BE0D64FA32C06DE4139_u128.to_be_bytes(),
            salt: 0x0EC675AD498AFEEBB6960B3AABE6_u128.to_be_bytes()[2..].into(),
        };
        let keys = SessionKeys::derive(SrtpProfile::Aes128CmHmacSha1_80, &master, Direction::Rtp);
        assert_eq!(keys.key, 0xC61E7A93744F39EE10734AFE3FF7A087_u128.to_be_bytes());
        assert_eq!(keys.salt, 0x30CBBC08863D8C85D49DB34A9AE1_u128.to_be_bytes()[2..]);
        assert_eq!(keys.authentication[..16], 0xCEBE321F6FF7716B6FD4AB49AF256A15_u128.to_be_bytes());
        assert_eq!(keys.authentication[16..], 0x6D38BAA4_u32.to_be_bytes());
    }

    /// The same appendix: all 94 bytes of the authentication key, over block boundaries.
    #[test]
    fn a_long_key_comes_out_whole() {
        let derivation = Derivation {
            cipher: Aes128Enc::new(&0xE1F97A0D3E018BE0D64FA32C06DE4139_u128.to_be_bytes().into()),
            salt: [0x0E, 0xC6, 0x75, 0xAD, 0x49, 0x8A, 0xFE, 0xEB, 0xB6, 0x96, 0x0B, 0x3A, 0xAB, 0xE6],
        };
        let expected: [u128; 5] = [
            0xCEBE321F6FF7716B6FD4AB49AF256A15,
            0x6D38BAA48F0A0ACF3C34E2359E6CDBCE,
            0xE049646C43D9327AD175578EF7227098,
            0x6371C10C9A369AC2F94A8C5FBCDDDC25,
            0x6D6E919A48B610EF17C2041E47403576,
        ];
        let derived: [u8; 94] = derivation.derive(1);
        let blocks: Vec<u128> =
            derived.as_chunks().0.iter().map(|block| u128::from_be_bytes(*block)).collect();
        assert_eq!(blocks, expected);
        assert_eq!(derived[80..], 0x6B68642C59BBFC2F34DB60DBDFB2_u128.to_be_bytes()[2..]);
    }
}
