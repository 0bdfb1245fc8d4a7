//! A look into a ClientHello (RFC 6347 section 4.2.1, RFC 5246 section 7.4.1.2): which SRTP profile can we have?
//!
//! The handshake itself is `rtc-dtls`'s. It follows the client's order of profiles, and a browser's begins with the
//! slowest, so what it may choose from must be known before.

use ring::digest;

use crate::srtp::SrtpProfile;

/// What decides about a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// Empty in the first hello, ours in the second.
    pub(super) cookie: Vec<u8>,
    /// Why we cannot go on with it, or the profile for it.
    pub(super) profile: Result<SrtpProfile, &'static str>,
    /// Of all that the library may choose by. Only the second hello is under the handshake's signatures, but the
    /// library chooses by the first: whoever changes that one must not get away with it.
    pub(super) digest: [u8; 32],
}

impl Hello {
    /// `None`: not a ClientHello of DTLS 1.2 or later.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut rest = Reader(body);
        // A client of DTLS 1.3 says 1.2 here (RFC 9147 section 5.3).
        let (version, random) = (rest.take(2)?, rest.take(32)?);
        let (session, cookie) = (rest.vector_u8()?, rest.vector_u8()?);
        let (suites, _compression) = (rest.vector_u16()?, rest.vector_u8()?);
        let mut extensions = Reader(if rest.0.is_empty() { &[] } else { rest.vector_u16()? });
        if version != [0xfe, 0xfd] || !rest.0.is_empty() {
            return None;
        }
        let (mut use_srtp, mut groups, mut master_secret): (&[u8], &[u8], &[u8]) = (&[], &[], b"plain");
        while !extensions.0.is_empty() {
            let (kind, body) = (extensions.take(2)?, extensions.vector_u16()?);
            match u16::from_be_bytes([kind[0], kind[1]]) {
                USE_SRTP => use_srtp = Reader(body).vector_u16()?,
                SUPPORTED_GROUPS => groups = Reader(body).vector_u16()?,
                EXTENDED_MASTER_SECRET => master_secret = b"extended",
                _ => {}
            }
        }
        let has = |list: &[u8], wanted: &[u16]| {
            list.chunks_exact(2).any(|item| wanted.contains(&u16::from_be_bytes([item[0], item[1]])))
        };
        let profile = if !session.is_empty() {
            Err("the peer wants to resume a session")
        } else if !has(suites, &CIPHER_SUITES) {
            Err("the peer offers no cipher suite of ours")
        } else if master_secret != b"extended" {
            Err("the peer has no extended master secret")
        } else if !groups.is_empty() && !has(groups, &GROUPS) {
            Err("the peer offers no curve of ours")
        } else if has(use_srtp, &[AEAD_AES_128_GCM]) {
            Ok(SrtpProfile::AeadAes128Gcm)
        } else if has(use_srtp, &[AES128_CM_HMAC_SHA1_80]) {
            Ok(SrtpProfile::Aes128CmHmacSha1_80)
        } else {
            Err("the peer offers no SRTP profile of ours")
        };
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [random, suites, use_srtp, groups, master_secret] {
            context.update(&(part.len() as u32).to_be_bytes());
            context.update(part);
        }
        let digest = context.finish().as_ref().try_into().ok()?;
        Some(Self { cookie: cookie.to_vec(), profile, digest })
    }
}

/// The certificate in a Certificate message (RFC 5246 section 7.4.2); all others in it count for nothing.
/// `None`: malformed, or there is none.
pub(super) fn first_certificate(body: &[u8]) -> Option<&[u8]> {
    let (mut outer, mut first) = (Reader(body), None);
    let mut list = Reader(outer.vector_u24()?);
    while !list.0.is_empty() {
        let certificate = list.vector_u24()?;
        first = first.or(Some(certificate));
    }
    first.filter(|certificate| outer.0.is_empty() && !certificate.is_empty())
}

/// Takes a message apart from its front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn vector(&mut self, length_bytes: usize) -> Option<&'a [u8]> {
        let length = self.take(length_bytes)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        self.take(length)
    }

    fn vector_u8(&mut self) -> Option<&'a [u8]> {
        self.vector(1)
    }

    fn vector_u16(&mut self) -> Option<&'a [u8]> {
        self.vector(2)
    }

    fn vector_u24(&mut self) -> Option<&'a [u8]> {
        self.vector(3)
    }
}

/// TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, which RFC 8827 section 6.5 asks of all, and its ChaCha20-Poly1305 sister.
const CIPHER_SUITES: [u16; 2] = [0xc02b, 0xcca9];
/// P-256, P-384, X25519.
const GROUPS: [u16; 3] = [23, 24, 29];
const USE_SRTP: u16 = 14;
const SUPPORTED_GROUPS: u16 = 10;
const EXTENDED_MASTER_SECRET: u16 = 23;
const AES128_CM_HMAC_SHA1_80: u16 = 1;
const AEAD_AES_128_GCM: u16 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    /// An extension.
    fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &(body.len() as u16).to_be_bytes(), body].concat()
    }

    fn use_srtp(profiles: &[u16]) -> Vec<u8> {
        let list: Vec<u8> = profiles.iter().flat_map(|profile| profile.to_be_bytes()).collect();
        extension(USE_SRTP, &[&(list.len() as u16).to_be_bytes()[..], &list, &[0]].concat())
    }

    fn hello(cookie: &[u8], suites: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
        let extensions = extensions.concat();
        let mut out = vec![0xfe, 0xfd];
        out.extend([7; 32]);
        out.extend([0, cookie.len() as u8]);
        out.extend(cookie);
        out.extend((suites.len() as u16).to_be_bytes());
        out.extend(suites);
        out.extend([1, 0]);
        out.extend((extensions.len() as u16).to_be_bytes());
        out.extend(extensions);
        out
    }

    fn profile(profiles: &[u16]) -> Result<SrtpProfile, &'static str> {
        let extensions = [use_srtp(profiles), extension(EXTENDED_MASTER_SECRET, &[])];
        Hello::parse(&hello(&[], &[0xc0, 0x2b], &extensions)).unwrap().profile
    }

    #[test]
    fn gcm_is_taken_wherever_it_stands() {
        // The order of Chromium.
        assert_eq!(profile(&[1, 8, 7]), Ok(SrtpProfile::AeadAes128Gcm));
        assert_eq!(profile(&[7]), Ok(SrtpProfile::AeadAes128Gcm));
        assert_eq!(profile(&[8, 2, 1]), Ok(SrtpProfile::Aes128CmHmacSha1_80));
        assert!(profile(&[8, 2]).is_err() && profile(&[]).is_err());
    }

    #[test]
    fn what_cannot_work_is_told() {
        let good = [use_srtp(&[7]), extension(EXTENDED_MASTER_SECRET, &[])];
        let reason = |suites: &[u8], extensions: &[Vec<u8>]| {
            Hello::parse(&hello(&[], suites, extensions)).unwrap().profile.unwrap_err()
        };
        assert!(reason(&[0xc0, 0x2c], &good).contains("cipher suite"));
        assert!(reason(&[0xc0, 0x2b], &good[..1]).contains("master secret"));
        let groups = extension(SUPPORTED_GROUPS, &[0, 2, 0x11, 0xec]);
        assert!(reason(&[0xc0, 0x2b], &[good.concat(), groups]).contains("curve"));
    }

    #[test]
    fn the_second_hello_differs_by_its_cookie_only() {
        let extensions = [use_srtp(&[1, 7]), extension(EXTENDED_MASTER_SECRET, &[])];
        let first = Hello::parse(&hello(&[], &[0xc0, 0x2b], &extensions)).unwrap();
        let second = Hello::parse(&hello(&[9; 20], &[0xc0, 0x2b], &extensions)).unwrap();
        assert_eq!((&second.cookie[..], first.digest), (&[9; 20][..], second.digest));
        let weaker = [use_srtp(&[1]), extension(EXTENDED_MASTER_SECRET, &[])];
        assert_ne!(Hello::parse(&hello(&[], &[0xc0, 0x2b], &weaker)).unwrap().digest, first.digest);
    }

    #[test]
    fn every_cut_is_none() {
        let extensions = [use_srtp(&[1, 7]), extension(EXTENDED_MASTER_SECRET, &[])];
        let whole = hello(&[], &[0xc0, 0x2b], &extensions);
        let extensions_at = whole.len() - 2 - extensions.concat().len();
        for end in 0..whole.len() {
            // A hello without extensions is one (RFC 5246), if a useless one.
            let parsed = Hello::parse(&whole[..end]);
            assert!(parsed.is_none() || end == extensions_at && parsed.unwrap().profile.is_err(), "{end}");
        }
    }

    #[test]
    fn a_certificate_list_is_walked_to_its_end() {
        let list = [0, 0, 9, 0, 0, 3, 1, 2, 3, 0, 0, 0];
        assert_eq!(first_certificate(&list), Some(&[1, 2, 3][..]));
        assert_eq!(first_certificate(&list[..11]), None);
        assert_eq!(first_certificate(&[&list[..], &[0]].concat()), None);
        assert_eq!(first_certificate(&[0, 0, 0]), None, "an empty list");
        assert_eq!(first_certificate(&[0, 0, 6, 0xff, 0xff, 0xff, 1, 2, 3]), None);
    }
}
