//! The datagrams that open the client's NAT (wire contract section 3).

use uuid::Uuid;

/// A punch datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Punch {
    /// `t5rtp {token} {client_port}`; the port is optional.
    T5Rtp {
        /// The session.
        token: Uuid,
        /// Where the client listens, when it says so.
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
pub fn parse_punch(_datagram: &[u8]) -> Option<Punch> {
    None
}
