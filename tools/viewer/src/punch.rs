//! The datagrams that are not media: the punches of both revisions and the revision-2 handshake (wsc-rtp section 3).
//!
//! When they are sent is decided in `session.rs`.

use clap::ValueEnum;
use serde::Serialize;

/// Which punch a client sends. Servers take either from either revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
pub enum Punch {
    /// `t5rtp {token} {client_port}`, of revision 1.
    #[value(name = "t5rtp")]
    #[serde(rename = "t5rtp")]
    OneWay,
    /// `ws-rtp {session_id}`, which starts the handshake of revision 2.
    #[value(name = "ws-rtp")]
    #[serde(rename = "ws-rtp")]
    Handshake,
}

impl Punch {
    /// The datagram.
    pub fn datagram(self, token: &str, client_port: u16) -> Vec<u8> {
        match self {
            Self::OneWay => format!("t5rtp {token} {client_port}").into_bytes(),
            Self::Handshake => format!("ws-rtp {token}").into_bytes(),
        }
    }
}

/// The client's answer to a dummy.
pub fn ack(token: &str) -> Vec<u8> {
    format!("ws-rtp-ack {token}").into_bytes()
}

/// Whether a datagram is a handshake's and not media: media begins with a byte from 128 to 191.
#[inline]
pub fn is_handshake(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(b'w' | b't'))
}

/// The session that a dummy names.
pub fn session_of_dummy(datagram: &[u8]) -> Option<&str> {
    std::str::from_utf8(datagram).ok()?.strip_prefix("ws-rtp-dummy ").map(str::trim_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punches_are_spelled_as_the_contract_has_them() {
        assert_eq!(Punch::OneWay.datagram("abc", 4000), b"t5rtp abc 4000");
        assert_eq!(Punch::Handshake.datagram("abc", 4000), b"ws-rtp abc");
        assert_eq!(ack("abc"), b"ws-rtp-ack abc");
    }

    #[test]
    fn a_dummy_names_its_session() {
        assert_eq!(session_of_dummy(b"ws-rtp-dummy abc"), Some("abc"));
        assert_eq!(session_of_dummy(b"ws-rtp-ack abc"), None);
        assert_eq!(session_of_dummy(&[0xff, 0xfe]), None);
        assert!(is_handshake(b"ws-rtp-dummy abc") && !is_handshake(&[0x80, 0x60]) && !is_handshake(&[]));
    }
}
