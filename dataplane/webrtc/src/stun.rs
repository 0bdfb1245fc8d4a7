//! STUN binding requests and answers (RFC 8489), as ICE uses them (RFC 8445 section 16).
//!
//! Only what a lite agent needs, and what it takes to ask a STUN server for our own public address. Who may talk to
//! whom is [`crate::ice`]'s to say.
//!
//! The parser is our own, not `rtc-stun`'s, which copies the message and then every attribute to the heap before
//! anybody has shown a password, takes more bytes than the header tells, and gives out attributes behind
//! MESSAGE-INTEGRITY, which nobody has signed (RFC 8489 section 14.5). Here reading allocates nothing, and writing one
//! buffer of under 200 bytes. `rtc-stun` is the independent opinion in the tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};
use ring::hmac;

/// A binding request, validated as far as that goes without a password.
#[derive(Clone, Copy, Debug)]
pub struct BindingRequest<'a> {
    /// The whole message.
    pub bytes: &'a [u8],
    /// Transaction id.
    pub transaction: [u8; 12],
    /// `local:remote`.
    pub username: &'a str,
    /// PRIORITY.
    pub priority: u32,
    /// USE-CANDIDATE.
    pub use_candidate: bool,
    /// ICE-CONTROLLED rather than ICE-CONTROLLING.
    pub controlled: bool,
    /// An attribute that must be understood and is not (RFC 8489 section 6.3.1): the request deserves a 420.
    pub unknown: Option<u16>,
    /// Where MESSAGE-INTEGRITY begins.
    integrity_at: usize,
    /// Where FINGERPRINT begins.
    fingerprint_at: Option<usize>,
}

impl<'a> BindingRequest<'a> {
    /// `None`: not a binding request that an ICE agent would send.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let message = Message::parse(bytes).filter(|message| message.kind == BINDING_REQUEST)?;
        let (mut username, mut priority, mut role) = (None, None, None);
        let (mut use_candidate, mut unknown) = (false, None);
        let (mut integrity_at, mut fingerprint_at) = (None, None);
        for attribute in message.attributes() {
            let Attribute { at, kind, value } = attribute?;
            match kind {
                _ if fingerprint_at.is_some() => return None,
                FINGERPRINT => fingerprint_at = Some(at).filter(|_| value.len() == 4),
                // Nobody signed what comes after it.
                _ if integrity_at.is_some() => {}
                MESSAGE_INTEGRITY if value.len() == INTEGRITY_BYTES => integrity_at = Some(at),
                USERNAME if value.len() <= USERNAME_BYTES_MAX => {
                    username = username.or(std::str::from_utf8(value).ok())
                }
                PRIORITY => priority = priority.or(value.try_into().ok().map(u32::from_be_bytes)),
                USE_CANDIDATE if value.is_empty() => use_candidate = true,
                ICE_CONTROLLED if value.len() == 8 => role = role.or(Some(true)),
                ICE_CONTROLLING if value.len() == 8 => role = role.or(Some(false)),
                MESSAGE_INTEGRITY | USERNAME | USE_CANDIDATE | ICE_CONTROLLED | ICE_CONTROLLING => {
                    return None;
                }
                _ if is_understood(kind) => {}
                _ => unknown = unknown.or(Some(kind)),
            }
        }
        Some(Self {
            bytes,
            transaction: message.transaction,
            username: username?,
            priority: priority?,
            use_candidate,
            controlled: role?,
            unknown,
            integrity_at: integrity_at?,
            fingerprint_at,
        })
    }

    /// Part of the username before the colon: the fragment of the agent that is asked.
    pub fn local_ufrag(&self) -> &'a str {
        self.username.split(':').next().unwrap_or_default()
    }

    /// True if MESSAGE-INTEGRITY is by this password, and FINGERPRINT, where there is one, right.
    pub fn is_authentic(&self, password: &str) -> bool {
        if self.fingerprint_at.is_some_and(|at| fingerprint(&self.bytes[..at])[..] != self.bytes[at + 4..]) {
            return false;
        }
        // What was signed has a header that ends with MESSAGE-INTEGRITY.
        let (signed, rest) = self.bytes.split_at(self.integrity_at);
        let mut copy = [0; MESSAGE_BYTES_MAX];
        let signed_copy = &mut copy[..signed.len()];
        signed_copy.copy_from_slice(signed);
        set_length(signed_copy, signed.len() + 4 + INTEGRITY_BYTES);
        hmac::verify(&key(password), signed_copy, &rest[4..4 + INTEGRITY_BYTES]).is_ok()
    }

    /// A success response with XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY and FINGERPRINT.
    pub fn success(&self, mapped: SocketAddr, password: &str) -> Bytes {
        let mut writer = Writer::new(BINDING_SUCCESS, self.transaction);
        writer.address(XOR_MAPPED_ADDRESS, mapped);
        writer.finish(Some(password))
    }

    /// An error response, e.g. 487.
    pub fn error(&self, code: u16, reason: &str, password: &str) -> Bytes {
        let mut writer = Writer::new(BINDING_ERROR, self.transaction);
        writer.error_code(code, reason);
        writer.finish(Some(password))
    }

    /// The 420 that names an unknown attribute.
    pub fn unknown_attribute(&self, kind: u16, password: &str) -> Bytes {
        let mut writer = Writer::new(BINDING_ERROR, self.transaction);
        writer.error_code(420, "Unknown Attribute");
        writer.attribute(UNKNOWN_ATTRIBUTES, &kind.to_be_bytes());
        writer.finish(Some(password))
    }
}

/// True for what is STUN by its first byte and magic cookie (RFC 7983 section 7).
pub fn is_stun(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_BYTES && bytes[0] < 4 && bytes[4..8] == MAGIC_COOKIE
}

/// A request to a STUN server: which address do you see?
pub fn binding_request(transaction: [u8; 12]) -> Bytes {
    Writer::new(BINDING_REQUEST, transaction).finish(None)
}

/// A binding indication, which keeps a NAT's mapping alive or opens it (RFC 8445 section 11).
pub fn binding_indication(transaction: [u8; 12]) -> Bytes {
    Writer::new(BINDING_INDICATION, transaction).finish(None)
}

/// The mapped address of a STUN server's answer to [`binding_request`].
pub fn mapped_address(response: &[u8], transaction: [u8; 12]) -> Option<SocketAddr> {
    let message = Message::parse(response)
        .filter(|message| message.kind == BINDING_SUCCESS && message.transaction == transaction)?;
    let (mut xored, mut plain) = (None, None);
    for attribute in message.attributes() {
        let Attribute { at, kind, value } = attribute?;
        match kind {
            XOR_MAPPED_ADDRESS => xored = xored.or(read_address(value, Some(transaction))),
            MAPPED_ADDRESS => plain = plain.or(read_address(value, None)),
            MESSAGE_INTEGRITY if value.len() != INTEGRITY_BYTES => return None,
            FINGERPRINT if value != fingerprint(&response[..at]) => return None,
            _ => {}
        }
    }
    xored.or(plain)
}

/// A message whose header tells the truth about its length.
struct Message<'a> {
    bytes: &'a [u8],
    kind: u16,
    transaction: [u8; 12],
}

struct Attribute<'a> {
    /// Where its type begins in the message.
    at: usize,
    kind: u16,
    value: &'a [u8],
}

impl<'a> Message<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if !is_stun(bytes) || bytes.len() > MESSAGE_BYTES_MAX || !bytes.len().is_multiple_of(4) {
            return None;
        }
        let told = HEADER_BYTES + usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        let transaction = bytes[8..HEADER_BYTES].try_into().ok()?;
        (told == bytes.len()).then(|| Self {
            bytes,
            kind: u16::from_be_bytes([bytes[0], bytes[1]]),
            transaction,
        })
    }

    /// Ends with `None` where an attribute is longer than the message, or there are too many.
    fn attributes(&self) -> impl Iterator<Item = Option<Attribute<'a>>> + use<'a> {
        let (bytes, mut at, mut left) = (self.bytes, HEADER_BYTES, ATTRIBUTES_MAX);
        std::iter::from_fn(move || {
            let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
            let [k0, k1, l0, l1, body @ ..] = rest else {
                at = usize::MAX;
                return Some(None);
            };
            let length = usize::from(u16::from_be_bytes([*l0, *l1]));
            let padded = length.next_multiple_of(4);
            if left == 0 || padded > body.len() {
                at = usize::MAX;
                return Some(None);
            }
            let attribute = Attribute { at, kind: u16::from_be_bytes([*k0, *k1]), value: &body[..length] };
            (at, left) = (at + 4 + padded, left - 1);
            Some(Some(attribute))
        })
    }
}

/// Writes one message; its length is kept right all along, because the signatures cover it.
struct Writer(BytesMut);

impl Writer {
    fn new(kind: u16, transaction: [u8; 12]) -> Self {
        let mut out = BytesMut::with_capacity(WRITTEN_BYTES_MAX);
        out.put_u16(kind);
        out.put_u16(0);
        out.put_slice(&MAGIC_COOKIE);
        out.put_slice(&transaction);
        Self(out)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.0.put_u16(kind);
        self.0.put_u16(value.len() as u16);
        self.0.put_slice(value);
        self.0.put_bytes(0, value.len().next_multiple_of(4) - value.len());
        let end = self.0.len();
        set_length(&mut self.0, end);
    }

    fn address(&mut self, kind: u16, address: SocketAddr) {
        let (mut value, transaction) = ([0; 20], &self.0[8..HEADER_BYTES]);
        let bytes = match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                value[1] = 1;
                value[4..8].copy_from_slice(&ip.octets());
                8
            }
            IpAddr::V6(ip) => {
                value[1] = 2;
                value[4..].copy_from_slice(&ip.octets());
                20
            }
        };
        value[2..4].copy_from_slice(&address.port().to_be_bytes());
        xor(&mut value[2..4], MAGIC_COOKIE.iter());
        xor(&mut value[4..], MAGIC_COOKIE.iter().chain(transaction));
        self.attribute(kind, &value[..bytes]);
    }

    fn error_code(&mut self, code: u16, reason: &str) {
        let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
        let mut value = [0; 4 + REASON_BYTES_MAX];
        (value[2], value[3]) = ((code / 100) as u8, (code % 100) as u8);
        value[4..4 + reason.len()].copy_from_slice(reason.as_bytes());
        self.attribute(ERROR_CODE, &value[..4 + reason.len()]);
    }

    /// MESSAGE-INTEGRITY under a password, then FINGERPRINT.
    fn finish(mut self, password: Option<&str>) -> Bytes {
        let end = self.0.len();
        if let Some(password) = password {
            set_length(&mut self.0, end + 4 + INTEGRITY_BYTES);
            let tag = hmac::sign(&key(password), &self.0);
            self.attribute(MESSAGE_INTEGRITY, tag.as_ref());
        }
        let crc = fingerprint(&self.0);
        self.attribute(FINGERPRINT, &crc);
        self.0.freeze()
    }
}

/// The header's length for a message that ends at `end`.
fn set_length(message: &mut [u8], end: usize) {
    message[2..4].copy_from_slice(&((end - HEADER_BYTES) as u16).to_be_bytes());
}

/// The short-term key (RFC 8489 section 9.1.1). ICE passwords are ASCII, which needs no preparation.
fn key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
}

/// FINGERPRINT of a message up to that attribute (RFC 8489 section 14.7), whatever length its header tells now.
fn fingerprint(before: &[u8]) -> [u8; 4] {
    let length = (before.len() + 8 - HEADER_BYTES) as u16;
    let crc = crc32(crc32(crc32(!0, &before[..2]), &length.to_be_bytes()), &before[4..]);
    (!crc ^ 0x5354_554e).to_be_bytes()
}

/// CRC-32 of ISO 3309, without the last complement.
fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

fn read_address(value: &[u8], xored_by: Option<[u8; 12]>) -> Option<SocketAddr> {
    let (head, mut ip) = (value.first_chunk::<4>()?, [0; 16]);
    let (mut port, body) = ([head[2], head[3]], &value[4..]);
    ip.get_mut(..body.len())?.copy_from_slice(body);
    if let Some(transaction) = xored_by {
        xor(&mut port, MAGIC_COOKIE.iter());
        xor(&mut ip, MAGIC_COOKIE.iter().chain(&transaction));
    }
    let ip = match (head[1], body.len()) {
        (1, 4) => IpAddr::V4(Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3])),
        (2, 16) => IpAddr::V6(Ipv6Addr::from(ip)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(port)))
}

fn xor<'a>(bytes: &mut [u8], with: impl Iterator<Item = &'a u8>) {
    bytes.iter_mut().zip(with).for_each(|(byte, with)| *byte ^= with);
}

/// True for attributes that we know, or may ignore without knowing them.
fn is_understood(kind: u16) -> bool {
    const REALM: u16 = 0x0014;
    const NONCE: u16 = 0x0015;
    const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    kind >= 0x8000
        || matches!(
            kind,
            MAPPED_ADDRESS
                | ERROR_CODE
                | UNKNOWN_ATTRIBUTES
                | REALM
                | NONCE
                | MESSAGE_INTEGRITY_SHA256
                | XOR_MAPPED_ADDRESS
        )
}

/// A datagram of the internet; an ICE check has about 100 bytes.
const MESSAGE_BYTES_MAX: usize = 1500;
/// An ICE check has about eight.
const ATTRIBUTES_MAX: usize = 32;
/// RFC 8489 section 14.3.
const USERNAME_BYTES_MAX: usize = 513;
/// Enough for the reasons that RFCs suggest.
const REASON_BYTES_MAX: usize = 64;
/// The longest that we write: header, error with a reason, unknown attribute, integrity, fingerprint.
const WRITTEN_BYTES_MAX: usize = HEADER_BYTES + 8 + REASON_BYTES_MAX + 8 + 4 + INTEGRITY_BYTES + 8;
const HEADER_BYTES: usize = 20;
const INTEGRITY_BYTES: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_INDICATION: u16 = 0x0011;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const MAPPED_ADDRESS: u16 = 0x0001;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;

const CRC_TABLE: [u32; 256] = {
    let (mut table, mut byte) = ([0; 256], 0);
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// Checks as a full agent writes them, for tests here and in [`crate::ice`].
#[cfg(test)]
pub(crate) mod check {
    use super::*;

    /// What a check says. `unknown` is an attribute to add.
    #[derive(Clone, Copy)]
    pub(crate) struct Check<'a> {
        pub(crate) username: &'a str,
        pub(crate) password: &'a str,
        pub(crate) priority: u32,
        pub(crate) use_candidate: bool,
        pub(crate) controlled: bool,
        pub(crate) unknown: Option<u16>,
    }

    impl<'a> Check<'a> {
        pub(crate) fn new(username: &'a str, password: &'a str, priority: u32) -> Self {
            Self { username, password, priority, use_candidate: false, controlled: false, unknown: None }
        }

        pub(crate) fn write(&self) -> Bytes {
            let mut writer = Writer::new(BINDING_REQUEST, [7; 12]);
            writer.attribute(USERNAME, self.username.as_bytes());
            writer.attribute(PRIORITY, &self.priority.to_be_bytes());
            writer.attribute(if self.controlled { ICE_CONTROLLED } else { ICE_CONTROLLING }, &[1; 8]);
            if self.use_candidate {
                writer.attribute(USE_CANDIDATE, &[]);
            }
            self.unknown.into_iter().for_each(|kind| writer.attribute(kind, &[1, 2, 3]));
            writer.finish(Some(self.password))
        }
    }
}

#[cfg(test)]
mod tests {
    use rtc_stun::attributes::{ATTR_ERROR_CODE, ATTR_UNKNOWN_ATTRIBUTES, ATTR_USERNAME};
    use rtc_stun::error_code::ErrorCodeAttribute;
    use rtc_stun::fingerprint::FingerprintAttr;
    use rtc_stun::integrity::MessageIntegrity;
    use rtc_stun::message::{BINDING_REQUEST as RTC_BINDING_REQUEST, Getter, Message as RtcMessage, Setter};
    use rtc_stun::textattrs::TextAttribute;
    use rtc_stun::xoraddr::XorMappedAddress;

    use super::*;

    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    fn unhex(text: &str) -> Vec<u8> {
        text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    /// RFC 5769 section 2.1.
    fn sample_request() -> Vec<u8> {
        unhex(
            "00 01 00 58 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae 80 22 00 10 53 54 55 4e 20 74 65 73 74 20 63 \
             6c 69 65 6e 74 00 24 00 04 6e 00 01 ff 80 29 00 08 93 2f f9 b1 51 26 3b 36 00 06 00 09 65 76 74 6a 3a 68 \
             36 76 59 20 20 20 00 08 00 14 9a ea a7 0c bf d8 cb 56 78 1e f2 b5 b2 d3 f2 49 c1 b5 71 a2 80 28 00 04 e5 \
             7a 3b cf",
        )
    }

    /// RFC 5769 section 2.2.
    fn sample_ipv4_response() -> Vec<u8> {
        unhex(
            "01 01 00 3c 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae 80 22 00 0b 74 65 73 74 20 76 65 63 74 6f 72 \
             20 00 20 00 08 00 01 a1 47 e1 12 a6 43 00 08 00 14 2b 91 f5 99 fd 9e 90 c3 8c 74 89 f9 2a f9 ba 53 f0 6b \
             e7 d7 80 28 00 04 c0 7d 4c 96",
        )
    }

    /// RFC 5769 section 2.3.
    fn sample_ipv6_response() -> Vec<u8> {
        unhex(
            "01 01 00 48 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae 80 22 00 0b 74 65 73 74 20 76 65 63 74 6f 72 \
             20 00 20 00 14 00 02 a1 47 01 13 a9 fa a5 d3 f1 79 bc 25 f4 b5 be d2 b9 d9 00 08 00 14 a3 82 95 4e 4b e6 \
             7b f1 17 84 c9 7c 82 92 c2 75 bf e3 ed 41 80 28 00 04 c8 fb 0b 4c",
        )
    }

    fn sample_transaction() -> [u8; 12] {
        sample_request()[8..20].try_into().unwrap()
    }

    /// A check as an agent writes it; `more` goes before MESSAGE-INTEGRITY.
    fn check(more: impl FnOnce(&mut Writer)) -> Bytes {
        let mut writer = Writer::new(BINDING_REQUEST, [7; 12]);
        writer.attribute(USERNAME, b"ours:theirs");
        writer.attribute(PRIORITY, &0x6e00_01ff_u32.to_be_bytes());
        writer.attribute(ICE_CONTROLLING, &[1; 8]);
        more(&mut writer);
        writer.finish(Some(PASSWORD))
    }

    fn rtc_decode(bytes: &[u8]) -> RtcMessage {
        let mut message = RtcMessage::new();
        message.unmarshal_binary(bytes).unwrap();
        message
    }

    fn rtc_verifies(message: &mut RtcMessage) -> bool {
        let provider = rtc_crypto::default_provider().unwrap();
        MessageIntegrity::check(message, PASSWORD.as_bytes(), provider.crypto()).is_ok()
            && FingerprintAttr.check(message).is_ok()
    }

    #[test]
    fn the_request_of_rfc_5769_is_read_and_authentic() {
        let bytes = sample_request();
        let request = BindingRequest::parse(&bytes).unwrap();
        assert_eq!((request.username, request.local_ufrag()), ("evtj:h6vY", "evtj"));
        assert_eq!((request.priority, request.controlled, request.use_candidate), (0x6e00_01ff, true, false));
        assert_eq!((request.transaction, request.unknown), (sample_transaction(), None));
        assert!(request.is_authentic(PASSWORD));
        assert!(!request.is_authentic("VOkJxbRl1RmTxUk/WvJxBu"));
    }

    #[test]
    fn the_responses_of_rfc_5769_give_their_addresses() {
        let transaction = sample_transaction();
        let (v4, v6) = (sample_ipv4_response(), sample_ipv6_response());
        assert_eq!(mapped_address(&v4, transaction), Some("192.0.2.1:32853".parse().unwrap()));
        let expected = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        assert_eq!(mapped_address(&v6, transaction), Some(expected));
        assert_eq!(mapped_address(&v4, [0; 12]), None, "an answer to somebody else");
    }

    #[test]
    fn every_truncation_is_refused() {
        for bytes in [sample_request(), sample_ipv4_response(), sample_ipv6_response()] {
            for end in 0..bytes.len() {
                assert!(BindingRequest::parse(&bytes[..end]).is_none());
                assert!(mapped_address(&bytes[..end], sample_transaction()).is_none());
                // The same with a header that fits.
                let mut cut = bytes[..end].to_vec();
                if end >= HEADER_BYTES {
                    set_length(&mut cut, end);
                    assert!(BindingRequest::parse(&cut).is_none_or(
                        |request| !request.is_authentic(PASSWORD) || request.fingerprint_at.is_none()
                    ));
                }
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = sample_request();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // FINGERPRINT's own type may become another's: then nobody claims a fingerprint.
            let in_its_type = (bytes.len() - 8..bytes.len() - 6).contains(&(bit / 8));
            let request = BindingRequest::parse(&flipped);
            assert!(
                in_its_type || request.is_none_or(|request| !request.is_authentic(PASSWORD)),
                "bit {bit}"
            );
        }
        let bytes = sample_ipv4_response();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let in_its_type = (bytes.len() - 8..bytes.len() - 6).contains(&(bit / 8));
            assert!(in_its_type || mapped_address(&flipped, sample_transaction()).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn attributes_behind_the_integrity_count_for_nothing() {
        let mut writer = Writer::new(BINDING_REQUEST, [7; 12]);
        writer.attribute(USERNAME, b"ours:theirs");
        writer.attribute(PRIORITY, &[0; 4]);
        writer.attribute(ICE_CONTROLLING, &[1; 8]);
        set_length(&mut writer.0, 20 + 16 + 8 + 12 + 24);
        let tag = hmac::sign(&key(PASSWORD), &writer.0);
        writer.attribute(MESSAGE_INTEGRITY, tag.as_ref());
        writer.attribute(USE_CANDIDATE, &[]);
        let bytes = writer.finish(None);
        let request = BindingRequest::parse(&bytes).unwrap();
        assert!(request.is_authentic(PASSWORD));
        assert!(!request.use_candidate);
    }

    #[test]
    fn a_request_without_what_ice_asks_for_is_none() {
        for left_out in [USERNAME, PRIORITY, ICE_CONTROLLING, MESSAGE_INTEGRITY] {
            let mut writer = Writer::new(BINDING_REQUEST, [7; 12]);
            let attributes: [(u16, &[u8]); 3] =
                [(USERNAME, b"ours:theirs"), (PRIORITY, &[0; 4]), (ICE_CONTROLLING, &[1; 8])];
            for (kind, value) in attributes.into_iter().filter(|(kind, _)| *kind != left_out) {
                writer.attribute(kind, value);
            }
            let bytes = writer.finish((left_out != MESSAGE_INTEGRITY).then_some(PASSWORD));
            assert!(BindingRequest::parse(&bytes).is_none(), "{left_out:#x}");
        }
        assert!(BindingRequest::parse(&check(|_| {})).is_some());
    }

    #[test]
    fn what_must_be_understood_and_is_not_is_named() {
        let bytes = check(|writer| {
            writer.attribute(0x8fff, &[1, 2, 3]);
            writer.attribute(0x7ffe, &[1, 2, 3]);
        });
        let request = BindingRequest::parse(&bytes).unwrap();
        assert!(request.is_authentic(PASSWORD));
        assert_eq!(request.unknown, Some(0x7ffe));
        let mut answer = rtc_decode(&request.unknown_attribute(0x7ffe, PASSWORD));
        assert!(rtc_verifies(&mut answer));
        assert_eq!(answer.get(ATTR_UNKNOWN_ATTRIBUTES).unwrap(), [0x7f, 0xfe]);
    }

    #[test]
    fn too_many_attributes_are_refused() {
        let bytes = check(|writer| (0..ATTRIBUTES_MAX).for_each(|_| writer.attribute(0x8fff, &[])));
        assert!(BindingRequest::parse(&bytes).is_none());
    }

    #[test]
    fn an_independent_decoder_reads_our_success() {
        let bytes = sample_request();
        let request = BindingRequest::parse(&bytes).unwrap();
        for mapped in ["192.0.2.1:32853", "[2001:db8::1]:9", "[::ffff:10.1.2.3]:65535"] {
            let mapped: SocketAddr = mapped.parse().unwrap();
            let response = request.success(mapped, PASSWORD);
            let mut message = rtc_decode(&response);
            assert!(rtc_verifies(&mut message));
            let mut address = XorMappedAddress::default();
            address.get_from(&message).unwrap();
            assert_eq!((address.ip, address.port), (mapped.ip().to_canonical(), mapped.port()));
            assert_eq!(message.transaction_id.0, request.transaction);
            let canonical = SocketAddr::new(mapped.ip().to_canonical(), mapped.port());
            assert_eq!(mapped_address(&response, request.transaction), Some(canonical));
        }
    }

    #[test]
    fn an_independent_decoder_reads_our_errors_and_indications() {
        let bytes = sample_request();
        let request = BindingRequest::parse(&bytes).unwrap();
        let mut message = rtc_decode(&request.error(487, "Role Conflict", PASSWORD));
        assert!(rtc_verifies(&mut message));
        assert!(message.contains(ATTR_ERROR_CODE));
        let mut error = ErrorCodeAttribute::default();
        error.get_from(&message).unwrap();
        assert_eq!((error.code.0, &error.reason[..]), (487, &b"Role Conflict"[..]));
        let long = request.error(400, &"ä".repeat(300), PASSWORD);
        assert!(rtc_verifies(&mut rtc_decode(&long)) && long.len() <= WRITTEN_BYTES_MAX);
        for bytes in [binding_request([3; 12]), binding_indication([3; 12])] {
            let message = rtc_decode(&bytes);
            assert!(FingerprintAttr.check(&message).is_ok());
            assert_eq!(message.transaction_id.0, [3; 12]);
            assert!(BindingRequest::parse(&bytes).is_none());
        }
    }

    #[test]
    fn a_check_by_an_independent_encoder_is_authentic() {
        let mut message = RtcMessage::new();
        let username = TextAttribute { attr: ATTR_USERNAME, text: "ours:theirs".to_owned() };
        let provider = rtc_crypto::default_provider().unwrap();
        let integrity =
            MessageIntegrity::new_short_term_integrity_with_provider(PASSWORD.to_owned(), provider.crypto());
        message.build(&[Box::new(RTC_BINDING_REQUEST), Box::new(username)]).unwrap();
        message.add(rtc_stun::attributes::ATTR_PRIORITY, &[0, 0, 0, 9]);
        message.add(rtc_stun::attributes::ATTR_ICE_CONTROLLING, &[0; 8]);
        message.add(rtc_stun::attributes::ATTR_USE_CANDIDATE, &[]);
        integrity.add_to(&mut message).unwrap();
        FingerprintAttr.add_to(&mut message).unwrap();
        let request = BindingRequest::parse(&message.raw).unwrap();
        assert_eq!((request.username, request.priority, request.use_candidate), ("ours:theirs", 9, true));
        assert!(request.is_authentic(PASSWORD));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_harmless(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), frame: bool) {
            if frame && bytes.len() >= HEADER_BYTES {
                bytes.truncate(bytes.len() / 4 * 4);
                let end = bytes.len();
                set_length(&mut bytes, end);
                bytes[..2].copy_from_slice(&BINDING_REQUEST.to_be_bytes());
                bytes[4..8].copy_from_slice(&MAGIC_COOKIE);
            }
            assert!(BindingRequest::parse(&bytes).is_none_or(|request| !request.is_authentic(PASSWORD)));
            mapped_address(&bytes, [0; 12]);
        }
    }
}
