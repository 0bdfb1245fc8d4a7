//! `GET /streams/{source_id}/wsc-rtp`: the WebSocket upgrade (RFC 6455 section 4.2). Answers 101 and hands
//! the socket to the stream's shard; what is said over it afterwards is the shard's business.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use axum::http::{HeaderMap, Response, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use lanecast_shard::{AttachWebSocket, Command, SessionId, ShardBusy, StreamId};
use tokio::time::timeout;
use tracing::{debug, warn};
use tungstenite::handshake::derive_accept_key;
use url::form_urlencoded;

use crate::control_plane::{ControlPlane, random_session};
use crate::http::{ApiError, ApiPath, Connection, ErrorBody, Peer};

/// Starts a WSC-RTP session: raw RTP by UDP after a hole punch, or in binary frames.
#[utoipa::path(get, operation_id = "connect_wsc_rtp", path = "/streams/{source_id}/wsc-rtp", tag = "wsc-rtp",
    params(
        ("source_id" = String, Path, description = "The id as percent-encoded text"),
        ("force_websocket_transport" = Option<bool>, Query, description = "Present: the client speaks revision 2. \
            true: RTP goes in binary WebSocket frames from the start"),
    ),
    responses(
        (status = 101, description = "The WebSocket is open; `init` comes first"),
        (status = 400, description = "invalid_query, invalid_upgrade", body = ErrorBody),
        (status = 404, description = "unknown_stream", body = ErrorBody),
        (status = 426, description = "upgrade_required", body = ErrorBody),
        (status = 429, description = "too_many_sessions", body = ErrorBody),
        (status = 503, description = "busy", body = ErrorBody),
))]
pub async fn connect(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(source_id): ApiPath<String>,
    mut request: Request,
) -> Result<Response<Body>, ApiError> {
    let (stream, _) = control.stream(&source_id)?;
    let key = check_upgrade(request.headers())?;
    let force_websocket_transport = force_websocket_transport(request.uri().query().unwrap_or_default())?;
    let (peer, upgrade) = connection(&mut request)?;
    let session = random_session()?;
    control.open_session(session, stream, None)?;
    let viewer = Viewer { stream, session, peer, force_websocket_transport };
    tokio::spawn(viewer.hand_over(control, upgrade));
    Ok(switching_protocols(&key))
}

/// A viewer whose upgrade is under way.
struct Viewer {
    stream: StreamId,
    session: SessionId,
    peer: Peer,
    force_websocket_transport: Option<bool>,
}

impl Viewer {
    /// Waits until the 101 is written, then gives the socket to the shard. A session that does not get there is over.
    async fn hand_over(self, control: Arc<ControlPlane>, upgrade: OnUpgrade) {
        let session = self.session;
        if let Err(reason) = self.try_hand_over(&control, upgrade).await {
            debug!(%session, reason, "a WebSocket was not handed over");
            control.registry().close_session(session);
        }
    }

    async fn try_hand_over(self, control: &ControlPlane, upgrade: OnUpgrade) -> Result<(), String> {
        let upgraded = match timeout(UPGRADE_TIMEOUT, upgrade).await {
            Ok(upgraded) => upgraded.map_err(|error| error.to_string())?,
            Err(_) => return Err("the 101 was not taken in time".into()),
        };
        let shard = control.session_shard(self.session).ok_or("the stream was removed")?;
        let command = self.attach(upgraded)?;
        match shard.deliver(command).await {
            Ok(()) => Ok(()),
            Err(ShardBusy(command)) => {
                say_try_again_later(command);
                Err(format!("shard {} is busy", shard.index()))
            }
        }
    }

    fn attach(self, upgraded: Upgraded) -> Result<Command, String> {
        let parts = upgraded
            .downcast::<TokioIo<Connection>>()
            .map_err(|_| "the connection is not of our server".to_owned())?;
        let socket = parts.io.into_inner().into_stream().into_std().map_err(|error| error.to_string())?;
        Ok(Command::AttachWebSocket(Box::new(AttachWebSocket {
            stream: self.stream,
            session: self.session,
            socket,
            buffered: parts.read_buf,
            peer: self.peer.0,
            force_websocket_transport: self.force_websocket_transport,
        })))
    }
}

/// The key of a well-formed upgrade. 426 where the client wants no WebSocket or another version of it.
fn check_upgrade(headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    let is_websocket =
        has_token(headers, &UPGRADE, "websocket") && has_token(headers, &CONNECTION, "upgrade");
    let version = headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    if !is_websocket || version.is_some_and(|version| version != b"13") {
        return Err(ApiError::upgrade_required());
    }
    let invalid = |message| Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_upgrade", message));
    if version.is_none() {
        return invalid("Sec-WebSocket-Version is missing.");
    }
    match headers.get(SEC_WEBSOCKET_KEY) {
        Some(key) if BASE64_STANDARD.decode(key.as_bytes()).is_ok_and(|key| key.len() == 16) => {
            Ok(key.clone())
        }
        Some(_) => invalid("Sec-WebSocket-Key is not the base64 of 16 bytes."),
        None => invalid("Sec-WebSocket-Key is missing."),
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// The query's `force_websocket_transport`. Other parameters are ignored; tokens are among them.
fn force_websocket_transport(query: &str) -> Result<Option<bool>, ApiError> {
    let mut found = None;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if key != "force_websocket_transport" {
            continue;
        }
        let value = match value.as_ref() {
            "true" => true,
            "false" => false,
            _ => return Err(ApiError::invalid_query("force_websocket_transport is neither true nor false.")),
        };
        if found.replace(value).is_some_and(|before| before != value) {
            return Err(ApiError::invalid_query("force_websocket_transport is given twice."));
        }
    }
    Ok(found)
}

fn connection(request: &mut Request) -> Result<(Peer, OnUpgrade), ApiError> {
    let peer = request.extensions().get::<Peer>().copied();
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    // HTTP/1.0 knows no upgrade, and hyper then offers none.
    peer.zip(upgrade).ok_or_else(ApiError::upgrade_required)
}

fn switching_protocols(key: &HeaderValue) -> Response<Body> {
    let accept = derive_accept_key(key.as_bytes());
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// A close frame with code 1013 (IANA: try again later), as far as the socket takes it.
fn say_try_again_later(command: Command) {
    use std::io::Write;
    if let Command::AttachWebSocket(mut viewer) = command {
        warn!(session = %viewer.session, "a viewer was sent away: the shard is busy");
        // The connection ends either way.
        let _ = viewer.socket.write(&CLOSE_TRY_AGAIN_LATER);
    }
}

const CLOSE_TRY_AGAIN_LATER: [u8; 4] = [0x88, 2, 0x03, 0xf5];
/// Writing a 101 takes no time; a client that does not take it is gone.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    const GOOD: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn without(name: &str) -> HeaderMap {
        let mut headers = headers(&GOOD);
        headers.remove(name);
        headers
    }

    #[test]
    fn the_example_of_rfc_6455_section_1_3() {
        let key = check_upgrade(&headers(&GOOD)).unwrap();
        let response = switching_protocols(&key);
        assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_no_websocket_is_told_to_upgrade() {
        for headers in [without("upgrade"), without("connection"), headers(&[])] {
            assert_eq!(check_upgrade(&headers).unwrap_err().code(), "upgrade_required");
        }
        let mut old = headers(&GOOD);
        old.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
        assert_eq!(check_upgrade(&old).unwrap_err().code(), "upgrade_required");
    }

    #[test]
    fn a_broken_upgrade_is_a_bad_request() {
        for headers in [without("sec-websocket-version"), without("sec-websocket-key")] {
            assert_eq!(check_upgrade(&headers).unwrap_err().code(), "invalid_upgrade");
        }
        let mut short = headers(&GOOD);
        short.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("c2hvcnQ="));
        assert_eq!(check_upgrade(&short).unwrap_err().code(), "invalid_upgrade");
    }

    #[test]
    fn the_query_says_true_false_or_nothing() {
        assert_eq!(force_websocket_transport("").unwrap(), None);
        assert_eq!(force_websocket_transport("token=x&force_websocket_transport=true").unwrap(), Some(true));
        assert_eq!(force_websocket_transport("force_websocket_transport=false").unwrap(), Some(false));
        for query in [
            "force_websocket_transport",
            "force_websocket_transport=1",
            "force_websocket_transport=true&force_websocket_transport=false",
        ] {
            let error = force_websocket_transport(query).unwrap_err();
            assert!(error.reason().contains("force_websocket_transport"), "{query}");
        }
    }
}
