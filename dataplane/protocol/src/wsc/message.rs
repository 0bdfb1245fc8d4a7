//! The JSON messages of the WebSocket (wire contract section 2).
//!
//! Only their form. When they are sent is the business of [`super::Session`].

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

/// What a session plays, as `session_mode` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The live edge: `"live": null`.
    Live,
    /// What was recorded: `"dvr": {"timestamp": …}`.
    Dvr {
        /// Wall-clock of the picture, Unix time in ms.
        timestamp: i64,
    },
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
    /// The session switched between live and DVR.
    SessionMode {
        /// What it plays now; its name is a key beside `type`.
        #[serde(flatten)]
        mode: Mode,
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

impl ServerMessage {
    /// The text frame.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("text, numbers and maps with text keys always serialize")
    }
}

/// Client to server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// The client lives.
    Ping,
}

/// Longest text frame that is looked into; a ping is 15 bytes.
const MAX_CLIENT_TEXT_LEN: usize = 1024;

impl ClientMessage {
    /// Reads a text frame; `None` for anything that is no message of ours. Unknown fields are ignored.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_CLIENT_TEXT_LEN {
            return None;
        }
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const SESSION: Uuid = Uuid::from_u128(0x0123_4567_89ab_4cde_8f01_2345_6789_abcd);

    fn json(message: &ServerMessage) -> Value {
        serde_json::from_str(&message.to_json()).unwrap()
    }

    #[test]
    fn the_messages_are_spelled_as_in_the_contract() {
        let init = |active_source| ServerMessage::Init {
            token: SESSION,
            server_port: 5000,
            udp_holepunch_required: true,
            session_id: SESSION,
            holepunch_port: 5000,
            active_source,
        };
        assert_eq!(
            json(&init(None)),
            json!({
                "type": "init",
                "token": "01234567-89ab-4cde-8f01-23456789abcd",
                "server_port": 5000,
                "udp_holepunch_required": true,
                "session_id": "01234567-89ab-4cde-8f01-23456789abcd",
                "holepunch_port": 5000,
                "active_source": null,
            })
        );
        let source = ActiveSource { label: "main".into(), url: "rtsp://c/1".into(), priority: -1 };
        assert_eq!(
            json(&init(Some(source)))["active_source"],
            json!({"label": "main", "url": "rtsp://c/1", "priority": -1})
        );
        let sdp = ServerMessage::Sdp { sdp: "v=0\r\n".into() };
        assert_eq!(json(&sdp), json!({"type": "sdp", "sdp": "v=0\r\n"}));
        for (state, name) in [
            (StreamState::Active, "Active"),
            (StreamState::Inactive, "Inactive"),
            (StreamState::Connecting, "Connecting"),
            (StreamState::Error, "Error"),
        ] {
            let message = ServerMessage::StreamState { state };
            assert_eq!(json(&message), json!({"type": "stream_state", "state": name}));
        }
        assert_eq!(json(&ServerMessage::FallingBackRtpToWs), json!({"type": "falling_back_rtp_to_ws"}));
        assert_eq!(json(&ServerMessage::Pong), json!({"type": "pong"}));
        let error = ServerMessage::Error { message: "no".into() };
        assert_eq!(json(&error), json!({"type": "error", "message": "no"}));
    }

    #[test]
    fn the_mode_is_a_key_beside_the_type() {
        let live = ServerMessage::SessionMode { mode: Mode::Live };
        assert_eq!(json(&live), json!({"type": "session_mode", "live": null}));
        let dvr = ServerMessage::SessionMode { mode: Mode::Dvr { timestamp: 1_700_000_000_123 } };
        assert_eq!(json(&dvr), json!({"type": "session_mode", "dvr": {"timestamp": 1_700_000_000_123_i64}}));
    }

    #[test]
    fn ping_is_the_only_thing_a_client_can_say() {
        for text in [r#"{"type":"ping"}"#, r#" { "type" : "ping" } "#, r#"{"seq":7,"type":"ping"}"#] {
            assert_eq!(ClientMessage::parse(text), Some(ClientMessage::Ping), "{text}");
        }
        for text in
            ["", "ping", "{}", r#"{"type":"pong"}"#, r#"{"type":"PING"}"#, r#"{"type":7}"#, "null", "[]"]
        {
            assert_eq!(ClientMessage::parse(text), None, "{text}");
        }
    }

    #[test]
    fn long_and_deep_text_is_not_looked_into() {
        let padded = format!(r#"{{"type":"ping"{}}}"#, " ".repeat(MAX_CLIENT_TEXT_LEN));
        assert_eq!(ClientMessage::parse(&padded), None);
        let deep = format!(r#"{{"a":{},"type":"ping"}}"#, "[".repeat(900));
        assert_eq!(ClientMessage::parse(&deep), None);
    }

    fn server_message() -> impl Strategy<Value = ServerMessage> {
        let state = prop_oneof![
            Just(StreamState::Active),
            Just(StreamState::Inactive),
            Just(StreamState::Connecting),
            Just(StreamState::Error),
        ];
        let source = ("\\PC{0,9}", "\\PC{0,9}", any::<i64>())
            .prop_map(|(label, url, priority)| ActiveSource { label, url, priority });
        prop_oneof![
            (any::<u128>(), any::<u16>(), any::<bool>(), prop::option::of(source)).prop_map(
                |(session, port, required, active_source)| ServerMessage::Init {
                    token: Uuid::from_u128(session),
                    server_port: port,
                    udp_holepunch_required: required,
                    session_id: Uuid::from_u128(session),
                    holepunch_port: port,
                    active_source,
                }
            ),
            any::<String>().prop_map(|sdp| ServerMessage::Sdp { sdp }),
            state.prop_map(|state| ServerMessage::StreamState { state }),
            Just(ServerMessage::SessionMode { mode: Mode::Live }),
            any::<i64>().prop_map(|timestamp| ServerMessage::SessionMode { mode: Mode::Dvr { timestamp } }),
            Just(ServerMessage::FallingBackRtpToWs),
            Just(ServerMessage::Pong),
            any::<String>().prop_map(|message| ServerMessage::Error { message }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(message in server_message()) {
            let read: ServerMessage = serde_json::from_str(&message.to_json()).unwrap();
            prop_assert_eq!(read, message);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            ClientMessage::parse(&text);
        }
    }
}
