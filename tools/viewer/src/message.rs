//! The JSON messages of the WebSocket (wsc-rtp section 2), as a client reads them.

use serde::Deserialize;

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The first message of a session.
    Init(Init),
    /// The session description.
    Sdp {
        /// The description.
        sdp: String,
    },
    /// The stream began or stopped to give pictures.
    StreamState {
        /// `Active`, `Inactive`, `Connecting` or `Error`.
        state: String,
    },
    /// Live or DVR.
    SessionMode,
    /// RTP moves to binary frames.
    FallingBackRtpToWs,
    /// The answer to a ping.
    Pong,
    /// A bad message, or the end.
    Error {
        /// Why.
        #[serde(default)]
        message: String,
    },
    /// A type that no revision knows.
    #[serde(other)]
    Unknown,
}

/// The fields of `init`, of both revisions; each client reads its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Init {
    /// Revision 1: the session.
    pub token: Option<String>,
    /// Revision 1: where to punch.
    pub server_port: Option<u16>,
    /// Revision 2: the session.
    pub session_id: Option<String>,
    /// Revision 2: where to punch; 0 when UDP is off.
    pub holepunch_port: Option<u16>,
    /// Whether a punch is needed.
    pub udp_holepunch_required: Option<bool>,
    /// The input that is played.
    pub active_source: Option<ActiveSource>,
}

/// The input that is played, as `init` names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ActiveSource {
    /// Its URL, which must not hold a credential.
    #[serde(default)]
    pub url: String,
}

impl ServerMessage {
    /// Reads a text frame.
    ///
    /// # Errors
    /// When it is no JSON object with a `type`, or a field is missing.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// What a client says to stay alive.
pub const PING: &str = r#"{"type":"ping"}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_the_contract_is_read() {
        let init = r#"{"type":"init","token":"t","server_port":5000,"udp_holepunch_required":true,
            "session_id":"t","holepunch_port":5000,"active_source":{"label":"a","url":"rtsp://h/","priority":0}}"#;
        let Ok(ServerMessage::Init(init)) = ServerMessage::parse(init) else { panic!("an init") };
        assert_eq!(init.token, init.session_id);
        assert_eq!(init.active_source.map(|source| source.url).as_deref(), Some("rtsp://h/"));
        for (text, expected) in [
            (r#"{"type":"sdp","sdp":"v=0"}"#, ServerMessage::Sdp { sdp: "v=0".into() }),
            (
                r#"{"type":"stream_state","state":"Active"}"#,
                ServerMessage::StreamState { state: "Active".into() },
            ),
            (r#"{"type":"session_mode","live":null}"#, ServerMessage::SessionMode),
            (r#"{"type":"session_mode","dvr":{"timestamp":1}}"#, ServerMessage::SessionMode),
            (r#"{"type":"falling_back_rtp_to_ws"}"#, ServerMessage::FallingBackRtpToWs),
            (r#"{"type":"pong"}"#, ServerMessage::Pong),
            (r#"{"type":"error","message":"no"}"#, ServerMessage::Error { message: "no".into() }),
            (r#"{"type":"novelty","x":1}"#, ServerMessage::Unknown),
        ] {
            assert_eq!(ServerMessage::parse(text).expect(text), expected);
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for text in ["", "[]", "{}", r#"{"type":"sdp"}"#, r#"{"type":5}"#] {
            assert!(ServerMessage::parse(text).is_err(), "{text}");
        }
    }
}
