//! The JSON messages of the WebSocket (wire contract section 2).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The state of a stream as clients know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StreamState {
    /// Pictures flow.
    Active,
    /// Stopped on purpose, or waiting for the next try.
    Inactive,
    /// A connection is being made.
    Connecting,
    /// The last try failed; it will be tried again.
    Error,
}

/// The input that gives the pictures. Its URL has no credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveSource {
    /// The operator's name for it.
    pub label: String,
    /// Without user info and query secrets.
    pub url: String,
    /// Lower is tried first.
    pub priority: i64,
}

/// Server to client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// First, always.
    Init {
        /// Session id, as revision 1 calls it.
        token: Uuid,
        /// UDP port for the punch, as revision 1 calls it.
        server_port: u16,
        /// A client that sees `true` must punch.
        udp_holepunch_required: bool,
        /// Session id, as revision 2 calls it.
        session_id: Uuid,
        /// UDP port for the punch; 0 when UDP is off.
        holepunch_port: u16,
        /// The input in use.
        active_source: Option<ActiveSource>,
    },
    /// The session description.
    Sdp {
        /// Its text.
        sdp: String,
    },
    /// The stream's state changed.
    StreamState {
        /// The new state.
        state: StreamState,
    },
    /// Revision 2: RTP moves to binary WebSocket frames.
    FallingBackRtpToWs,
    /// Answer to `ping`.
    Pong,
    /// Something the client should know.
    Error {
        /// A sentence.
        message: String,
    },
}

/// Client to server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// The client lives.
    Ping,
}
