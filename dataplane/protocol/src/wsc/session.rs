//! One WSC-RTP session: what to say over the WebSocket, where RTP may go, and when to give up.
//!
//! The media itself does not pass here: [`Output::Transport`] tells the driver where it goes.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use uuid::Uuid;

use super::{ActiveSource, Punch, StreamState};

/// Which names and which handshake a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// Not yet told by the query or by a punch.
    Unknown,
    /// `t5rtp`, one datagram.
    One,
    /// `ws-rtp`, three-way.
    Two,
}

/// What a session is born with.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// 128 random bits; also the token.
    pub session_id: Uuid,
    /// The WebSocket peer.
    pub peer: SocketAddr,
    /// The query's `force_websocket_transport`; `None` if absent.
    pub force_websocket_transport: Option<bool>,
    /// UDP port of the shard.
    pub udp_port: u16,
    /// Operator's setting `wsc.allow_foreign_destination`.
    pub allow_foreign_destination: bool,
    /// Number in the SDP's `o=`.
    pub source_number: u64,
}

/// Where RTP goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Nowhere yet, or no more.
    None,
    /// To this address, from the shard's UDP socket.
    Udp(SocketAddr),
    /// Each RTP packet in one binary frame.
    WebSocket,
}

/// Why the session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// No ping for 5 s.
    PingTimeout,
    /// By REST or by the server: the sentence goes to the client.
    Ended(String),
}

/// What the driver should do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a text frame.
    Text(String),
    /// Send a datagram from the shard's UDP socket.
    Datagram {
        /// To.
        to: SocketAddr,
        /// What.
        bytes: Bytes,
    },
    /// RTP goes there from now on.
    Transport(Transport),
    /// Send a close frame with this code (RFC 6455 section 7.4) and free the session.
    Close {
        /// 1001 and friends.
        code: u16,
        /// Why.
        reason: CloseReason,
    },
}

/// The machine.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// Starts at `now`; `init` waits in [`Session::poll_output`].
    pub fn new(
        _now: Instant,
        _config: SessionConfig,
        _active: Option<ActiveSource>,
        _state: StreamState,
    ) -> Self {
        Self {}
    }
    /// A text frame came.
    pub fn handle_text(&mut self, _now: Instant, _text: &str) {}
    /// A binary frame came: an `error`.
    pub fn handle_binary(&mut self, _now: Instant) {}
    /// A WebSocket-level ping came (its pong is the WebSocket layer's business).
    pub fn handle_websocket_ping(&mut self, _now: Instant) {}
    /// A punch with this session's token came. False: refused (counted by the driver).
    pub fn handle_punch(&mut self, _now: Instant, _from: SocketAddr, _punch: Punch) -> bool {
        false
    }
    /// The stream's parameter sets are known or changed.
    pub fn handle_parameter_sets(&mut self, _now: Instant, _sets: &std::rc::Rc<crate::codec::ParameterSets>) {
    }
    /// The stream's state changed.
    pub fn handle_stream_state(&mut self, _now: Instant, _state: StreamState) {}
    /// The destination answered port unreachable: UDP stops until the next punch.
    pub fn handle_unreachable(&mut self, _now: Instant, _destination: SocketAddr) {}
    /// Ends it, with a sentence for the client.
    pub fn end(&mut self, _now: Instant, _reason: String) {}
    /// Time passed.
    pub fn handle_timeout(&mut self, _now: Instant) {}
    /// When to call [`Session::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    /// What to do, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }
}
