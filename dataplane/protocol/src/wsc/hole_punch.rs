//! The datagrams that open the client's NAT (wire contract section 3).
//!
//! Only their text is read here. Whether a punch is believed is the business of [`super::Session`].

use bytes::Bytes;
use uuid::Uuid;

/// Longest datagram that can be a punch: the longest text is 48 bytes, and a line end or NUL may follow.
const MAX_PUNCH_LEN: usize = 64;

/// Length of a token with its hyphens, the only spelling that `init` gives out.
const TOKEN_LEN: usize = 36;

/// A punch datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Punch {
    /// `t5rtp {token} {client_port}`; the port is optional.
    T5Rtp {
        /// The session.
        token: Uuid,
        /// Where the client listens, when it says so; never 0.
        client_port: Option<u16>,
    },
    /// `ws-rtp {session_id}`.
    WsRtp {
        /// The session.
        token: Uuid,
    },
    /// `ws-rtp-ack {session_id}`.
    WsRtpAck {
        /// The session.
        token: Uuid,
    },
}

impl Punch {
    /// The session it names.
    pub fn token(&self) -> Uuid {
        match *self {
            Self::T5Rtp { token, .. } | Self::WsRtp { token } | Self::WsRtpAck { token } => token,
        }
    }
}

/// Reads a datagram; `None` for anything that is not exactly a punch.
///
/// Words are separated by one space. Line ends and NULs behind the text are tolerated: clients in C send the
/// terminator of their string, and people send punches by `echo`.
pub fn parse_punch(datagram: &[u8]) -> Option<Punch> {
    if datagram.len() > MAX_PUNCH_LEN {
        return None;
    }
    let text = std::str::from_utf8(datagram).ok()?.trim_end_matches(['\r', '\n', '\0']);
    let (header, rest) = text.split_once(' ')?;
    match header {
        "t5rtp" => {
            let (token, client_port) = match rest.split_once(' ') {
                Some((token, port)) => (token, Some(parse_port(port)?)),
                None => (rest, None),
            };
            Some(Punch::T5Rtp { token: parse_token(token)?, client_port })
        }
        "ws-rtp" => Some(Punch::WsRtp { token: parse_token(rest)? }),
        "ws-rtp-ack" => Some(Punch::WsRtpAck { token: parse_token(rest)? }),
        _ => None,
    }
}

/// What the server sends back to a `ws-rtp`.
pub(super) fn write_dummy(token: Uuid) -> Bytes {
    format!("ws-rtp-dummy {token}").into()
}

fn parse_token(text: &str) -> Option<Uuid> {
    if text.len() != TOKEN_LEN {
        return None;
    }
    Uuid::try_parse(text).ok()
}

fn parse_port(text: &str) -> Option<u16> {
    if text.len() > 5 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: Uuid = Uuid::from_u128(0x0123_4567_89ab_4cde_8f01_2345_6789_abcd);
    const TOKEN_TEXT: &str = "01234567-89ab-4cde-8f01-23456789abcd";

    fn parse(text: &str) -> Option<Punch> {
        parse_punch(text.replace("TOKEN", TOKEN_TEXT).as_bytes())
    }

    #[test]
    fn the_punches_of_both_revisions_are_read() {
        assert_eq!(parse("t5rtp TOKEN 50000"), Some(Punch::T5Rtp { token: TOKEN, client_port: Some(50000) }));
        assert_eq!(parse("t5rtp TOKEN"), Some(Punch::T5Rtp { token: TOKEN, client_port: None }));
        assert_eq!(parse("ws-rtp TOKEN"), Some(Punch::WsRtp { token: TOKEN }));
        assert_eq!(parse("ws-rtp-ack TOKEN"), Some(Punch::WsRtpAck { token: TOKEN }));
    }

    #[test]
    fn a_token_may_be_in_capitals() {
        let text = format!("ws-rtp {}", TOKEN_TEXT.to_uppercase());
        assert_eq!(parse(&text), Some(Punch::WsRtp { token: TOKEN }));
    }

    #[test]
    fn line_ends_and_nuls_behind_it_are_tolerated() {
        for end in ["\n", "\r\n", "\0", "\n\0"] {
            assert_eq!(parse(&format!("ws-rtp TOKEN{end}")), Some(Punch::WsRtp { token: TOKEN }));
            assert!(parse(&format!("t5rtp TOKEN 1{end}")).is_some());
        }
    }

    #[test]
    fn ports_are_one_to_65535_in_plain_digits() {
        for port in ["1", "65535", "00080"] {
            assert!(parse(&format!("t5rtp TOKEN {port}")).is_some(), "{port}");
        }
        for port in ["0", "65536", "+80", "-1", "", " 80", "80 ", "0x50", "000080", "٣٣"] {
            assert_eq!(parse(&format!("t5rtp TOKEN {port}")), None, "{port}");
        }
    }

    #[test]
    fn anything_else_is_no_punch() {
        for text in [
            "",
            "t5rtp",
            "t5rtp ",
            "t5rtp  TOKEN 80",
            " t5rtp TOKEN",
            "T5RTP TOKEN",
            "t5rtpTOKEN",
            "t5rtp TOKEN 80 80",
            "ws-rtp TOKEN 80",
            "ws-rtp TOKEN ",
            "ws-rtp\tTOKEN",
            "ws-rtp-dummy TOKEN",
            "ws-rtp {TOKEN}",
            "ws-rtp urn:uuid:TOKEN",
            "ws-rtp 0123456789ab4cde8f0123456789abcd",
            "ws-rtp 01234567-89ab-4cde-8f01-23456789abcg",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse_punch(format!("ws-rtp {TOKEN_TEXT}{}", "\0".repeat(100)).as_bytes()), None);
        assert_eq!(parse_punch(b"ws-rtp \xff\xfe"), None);
    }

    #[test]
    fn the_dummy_names_the_session_and_is_no_punch_itself() {
        let dummy = write_dummy(TOKEN);
        assert_eq!(dummy, format!("ws-rtp-dummy {TOKEN_TEXT}"));
        assert_eq!(parse_punch(&dummy), None);
    }

    proptest! {
        #[test]
        fn no_datagram_panics(datagram in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(parse_punch(&datagram), None);
        }

        #[test]
        fn what_clients_write_is_read_back(token: u128, port in prop::option::of(1..=u16::MAX)) {
            let token = Uuid::from_u128(token);
            let text = match port {
                Some(port) => format!("t5rtp {token} {port}"),
                None => format!("t5rtp {token}"),
            };
            prop_assert_eq!(parse_punch(text.as_bytes()), Some(Punch::T5Rtp { token, client_port: port }));
        }
    }
}
