//! STUN binding messages (RFC 8489) as ICE connectivity checks carry them (RFC 8445 section 7), written and read.
//!
//! When to send one is `ice.rs`.

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// What pairs a response with its request.
pub type TransactionId = [u8; 12];

/// Whether a datagram is STUN (RFC 7983): its first byte is 0 to 3.
pub fn is_stun(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| *first < 4)
}

/// A message whose lengths were checked.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
}

/// The messages that a check is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A binding request.
    Request,
    /// A binding success response.
    Success,
    /// A binding error response.
    Error,
    /// A binding indication, or something else.
    Other,
}

impl<'a> Message<'a> {
    /// Checks header, cookie and length.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let whole = is_stun(bytes) && header[4..8] == COOKIE && HEADER_BYTES + len == bytes.len();
        whole.then_some(Self { bytes })
    }

    /// Which message it is.
    pub fn kind(&self) -> Kind {
        match u16::from_be_bytes([self.bytes[0], self.bytes[1]]) {
            REQUEST => Kind::Request,
            SUCCESS => Kind::Success,
            ERROR => Kind::Error,
            _ => Kind::Other,
        }
    }

    /// The transaction.
    pub fn transaction(&self) -> TransactionId {
        let mut id = TransactionId::default();
        id.copy_from_slice(&self.bytes[8..HEADER_BYTES]);
        id
    }

    /// Whether MESSAGE-INTEGRITY is there and made with this password.
    pub fn is_authentic(&self, password: &str) -> bool {
        let found = self.attributes().find(|(_, kind, _)| *kind == MESSAGE_INTEGRITY);
        let Some((offset, _, value)) = found.filter(|(.., value)| value.len() == INTEGRITY_BYTES) else {
            return false;
        };
        let mut mac = new_mac(password);
        let covered = (offset + ATTRIBUTE_HEADER_BYTES + INTEGRITY_BYTES - HEADER_BYTES) as u16;
        mac.update(&self.bytes[..2]);
        mac.update(&covered.to_be_bytes());
        mac.update(&self.bytes[4..offset]);
        mac.verify_slice(value).is_ok()
    }

    /// The code of an error response, as 487; 0 for none.
    pub fn error_code(&self) -> u16 {
        let found = self.attributes().find(|(_, kind, value)| *kind == ERROR_CODE && value.len() >= 4);
        found.map_or(0, |(.., value)| u16::from(value[2] & 7) * 100 + u16::from(value[3]))
    }

    /// Offset, type and value of each attribute that fits.
    fn attributes(&self) -> impl Iterator<Item = (usize, u16, &'a [u8])> {
        let bytes = self.bytes;
        let mut offset = HEADER_BYTES;
        std::iter::from_fn(move || {
            let header = bytes.get(offset..offset + ATTRIBUTE_HEADER_BYTES)?;
            let kind = u16::from_be_bytes([header[0], header[1]]);
            let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let begin = offset + ATTRIBUTE_HEADER_BYTES;
            let value = bytes.get(begin..begin + len)?;
            let at = offset;
            offset = begin + len.next_multiple_of(4);
            Some((at, kind, value))
        })
    }
}

/// A controlling agent's check that nominates its pair (RFC 8445 section 7.1).
pub fn request(id: TransactionId, username: &str, password: &str, tie_breaker: u64) -> Vec<u8> {
    let mut message = begin(REQUEST, id);
    push(&mut message, USERNAME, username.as_bytes());
    push(&mut message, PRIORITY, &PEER_REFLEXIVE_PRIORITY.to_be_bytes());
    push(&mut message, ICE_CONTROLLING, &tie_breaker.to_be_bytes());
    push(&mut message, USE_CANDIDATE, &[]);
    finish(message, password)
}

/// The answer to a check that came from `from`.
pub fn success(id: TransactionId, from: SocketAddr, password: &str) -> Vec<u8> {
    let mut message = begin(SUCCESS, id);
    push(&mut message, XOR_MAPPED_ADDRESS, &xor_address(from, id));
    finish(message, password)
}

fn begin(kind: u16, id: TransactionId) -> Vec<u8> {
    let mut message = Vec::with_capacity(128);
    message.extend(kind.to_be_bytes());
    message.extend([0, 0]);
    message.extend(COOKIE);
    message.extend(id);
    message
}

fn push(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Adds MESSAGE-INTEGRITY and FINGERPRINT; each covers the length up to and with itself.
fn finish(mut message: Vec<u8>, password: &str) -> Vec<u8> {
    set_len(&mut message, ATTRIBUTE_HEADER_BYTES + INTEGRITY_BYTES);
    let mut mac = new_mac(password);
    mac.update(&message);
    let integrity = mac.finalize().into_bytes();
    push(&mut message, MESSAGE_INTEGRITY, &integrity);
    set_len(&mut message, ATTRIBUTE_HEADER_BYTES + 4);
    let fingerprint = crc32(&message) ^ FINGERPRINT_XOR;
    push(&mut message, FINGERPRINT, &fingerprint.to_be_bytes());
    message
}

fn set_len(message: &mut [u8], to_come: usize) {
    let len = (message.len() + to_come - HEADER_BYTES) as u16;
    message[2..4].copy_from_slice(&len.to_be_bytes());
}

fn xor_address(address: SocketAddr, id: TransactionId) -> Vec<u8> {
    let mask: Vec<u8> = COOKIE.into_iter().chain(id).collect();
    let port = address.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mut value = vec![0, family];
    value.extend(port.to_be_bytes());
    value.extend(ip.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    value
}

fn new_mac(password: &str) -> Hmac<Sha1> {
    Hmac::new_from_slice(password.as_bytes()).expect("HMAC takes keys of every length")
}

/// CRC-32 of ISO 3309, a bit at a time: checks are rare.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0xedb8_8320 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

const HEADER_BYTES: usize = 20;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
const INTEGRITY_BYTES: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const ERROR: u16 = 0x0111;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLING: u16 = 0x802a;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Type preference 110, local preference 65535, component 1 (RFC 8445 section 5.1.2.1).
const PEER_REFLEXIVE_PRIORITY: u32 = 110 << 24 | 65_535 << 8 | 255;

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TransactionId = *b"abcdefghijkl";

    #[test]
    fn a_request_is_authentic_to_its_password_alone() {
        let bytes = request(ID, "them:us", "secret", 7);
        let message = Message::parse(&bytes).expect("a message");
        assert_eq!((message.kind(), message.transaction()), (Kind::Request, ID));
        assert!(message.is_authentic("secret"));
        assert!(!message.is_authentic("other"));
        for index in 8..bytes.len() - 8 {
            let mut bent = bytes.clone();
            bent[index] ^= 1;
            assert!(!Message::parse(&bent).is_some_and(|message| message.is_authentic("secret")), "{index}");
        }
    }

    #[test]
    fn another_implementation_reads_what_is_written() {
        use rtc::stun::fingerprint::FINGERPRINT;
        use rtc::stun::integrity::MessageIntegrity;
        use rtc::stun::message::{Getter, Message as Other};
        use rtc::stun::xoraddr::XorMappedAddress;

        let from = SocketAddr::from(([192, 0, 2, 9], 40_000));
        for bytes in [request(ID, "them:us", "secret", 7), success(ID, from, "secret")] {
            let mut other = Other::new();
            other.unmarshal_binary(&bytes).expect("a message");
            FINGERPRINT.check(&other).expect("its fingerprint");
            let crypto = rtc::crypto::default_provider().expect("a provider");
            MessageIntegrity::check(&mut other, b"secret", crypto.crypto()).expect("its integrity");
        }
        let mut other = Other::new();
        other.unmarshal_binary(&success(ID, from, "secret")).expect("a message");
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&other).expect("an address");
        assert_eq!(SocketAddr::new(mapped.ip, mapped.port), from);
    }

    #[test]
    fn every_cut_and_every_length_is_survived() {
        let whole = request(ID, "them:us", "secret", 7);
        for end in 0..whole.len() {
            assert!(Message::parse(&whole[..end]).is_none());
        }
        for len in 0..=255 {
            let mut bytes = whole.clone();
            bytes[23] = len;
            let message = Message::parse(&bytes).expect("a message");
            let _ = (message.is_authentic("secret"), message.error_code());
        }
    }
}
