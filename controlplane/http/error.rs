//! The one shape of an error: a status, a stable code and a sentence for the client, and where needed
//! a second sentence for the operator, which goes to the log and never to the client.

use std::fmt::Display;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{HeaderName, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::response::{AppendHeaders, IntoResponse, Response};
use lanecast_webrtc::negotiation::NegotiationError;
use serde::{Deserialize, Serialize};
use tracing::error;
use utoipa::ToSchema;

use crate::catalog::CatalogError;
use crate::shards::Unanswered;
use crate::source_id::SourceId;
use crate::store::StoreError;

/// An error as the API answers it.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// For the log only.
    internal: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// An error's body.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// A stable code in snake case.
    #[schema(example = "unknown_stream")]
    pub error: String,
    /// A sentence; it may change.
    #[schema(example = "There is no stream \"7\".")]
    pub message: String,
}

impl ApiError {
    /// An error with this status, code and sentence.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), internal: None, headers: Vec::new() }
    }

    /// 400: the body is no JSON, or a piece of it.
    pub fn malformed_json(reason: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_json", format!("The body is not valid JSON: {reason}."))
    }

    /// 400: a field that must be there is not.
    pub fn missing_field(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "missing_field", message)
    }

    /// 400: a field is of the wrong type.
    pub fn invalid_field(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_field", message)
    }

    /// 422: a field is of the right type, and its value is not acceptable.
    pub fn invalid_value(field: &str, reason: impl Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", format!("{field} {reason}."))
    }

    /// 400: a field holds no usable URL. The URL is not repeated: it may hold a password.
    pub fn invalid_url(field: &str, reason: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_url", format!("{field} is no usable URL: {reason}."))
    }

    /// 422: a URL of a scheme that this server does not speak; it speaks those of `known`.
    pub fn unsupported_scheme(field: &str, scheme: &str, known: &str) -> Self {
        let scheme: String = scheme.chars().take(32).collect();
        let message = format!("{field} has the scheme {scheme}; this server takes {known}.");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unsupported_scheme", message)
    }

    /// 422: an input that needs FFmpeg.
    pub fn built_without_ffmpeg(field: &str, scheme: &str) -> Self {
        let message = format!("{field} ({scheme}) needs FFmpeg, and this server was built without FFmpeg.");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unsupported_scheme", message)
    }

    /// 422: an input that must not be where it is.
    pub fn refused_input(code: &'static str, field: &str, reason: impl Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, format!("{field} {reason}."))
    }

    /// 400: a query parameter has no acceptable value.
    pub fn invalid_query(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_query", message)
    }

    /// 400: the body is no SDP that we can read.
    pub fn invalid_sdp(reason: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_sdp",
            format!("The SDP cannot be read: {}.", reason.trim_end_matches('.')),
        )
    }

    /// 404: no such stream.
    pub fn unknown_stream(path_text: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_stream", format!("There is no stream {path_text:?}."))
    }

    /// 404: no such session (of that stream).
    pub fn unknown_session(session: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_session", format!("There is no session {session}."))
    }

    /// 409: the id is taken.
    pub fn duplicate_source_id(source_id: &SourceId) -> Self {
        let message = format!("source_id {:?} is taken.", source_id.to_string());
        Self::new(StatusCode::CONFLICT, "duplicate_source_id", message)
    }

    /// 404: nothing is recorded at the wanted time or later.
    pub fn not_recorded(source_id: &SourceId) -> Self {
        let name = source_id.to_string();
        let message = format!("Nothing of the stream {name:?} is recorded at that time or later.");
        Self::new(StatusCode::NOT_FOUND, "not_recorded", message)
    }

    /// 409: this version does not do that with recordings yet.
    pub fn not_built(what: &str) -> Self {
        let message = format!("This version cannot make {what} of what is recorded yet.");
        Self::new(StatusCode::CONFLICT, "not_recorded", message)
    }

    /// 503: the recordings cannot be read at the moment.
    pub fn unreadable() -> Self {
        let message = "The recordings cannot be read at the moment; the server's log says why.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "recordings_unreadable", message).with_retry_after()
    }

    /// 400: a range of time that ends before it begins.
    pub fn invalid_range(from: impl Display, to: impl Display) -> Self {
        let message = format!("from ({from}) is after to ({to}).");
        Self::new(StatusCode::BAD_REQUEST, "invalid_range", message)
    }

    /// 422: a speed that players may have one day.
    pub fn speed_not_supported() -> Self {
        let message = "speed is negative; playing backwards is not supported yet.";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "speed_not_supported", message)
    }

    /// 409: the verb has no meaning in live mode.
    pub fn session_is_live() -> Self {
        Self::new(StatusCode::CONFLICT, "session_is_live", "The session is live; speed is for recordings.")
    }

    /// 413: the body is too large.
    pub fn body_too_large(limit_bytes: usize) -> Self {
        let message = format!("The body is larger than {limit_bytes} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }

    /// 412: the ICE session is no longer the one that the request means.
    pub fn precondition_failed() -> Self {
        let message = "If-Match does not hold the entity tag of the session's ICE session.";
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", message)
    }

    /// 428: the request must say which ICE session it means.
    pub fn precondition_required() -> Self {
        let message = "If-Match is missing: send the entity tag of the ICE session, or * to restart ICE.";
        Self::new(StatusCode::PRECONDITION_REQUIRED, "precondition_required", message)
    }

    /// 415: a body of another media type was expected.
    pub fn unsupported_media_type(expected: &str) -> Self {
        let message = format!("The body must come with Content-Type: {expected}.");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    /// 426: the resource is a WebSocket.
    pub fn upgrade_required() -> Self {
        let message = "This is a WebSocket endpoint: send a WebSocket upgrade of version 13.";
        Self::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", message)
            .with_header(UPGRADE, HeaderValue::from_static("websocket"))
            .with_header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
    }

    /// 429: the bound of streams is reached.
    pub fn too_many_streams(limit: usize) -> Self {
        let message = format!("The server takes at most {limit} streams.");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", message).with_retry_after()
    }

    /// 429: a bound of sessions is reached, of `whom` the sentence says.
    pub fn too_many_sessions(whom: &str, limit: usize) -> Self {
        let message = format!("{whom} takes at most {limit} sessions of this kind.");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_sessions", message).with_retry_after()
    }

    /// 503: not now.
    pub fn busy(reason: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", format!("Not now: {reason}.")).with_retry_after()
    }

    /// 500: a fault of ours; the sentence goes to the log only.
    pub fn internal(reason: impl Into<String>) -> Self {
        let message = "The server could not do this; its log says why.";
        let mut error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message);
        error.internal = Some(reason.into());
        error
    }

    /// What a bare status means, for answers that others make.
    pub fn of_status(status: StatusCode) -> Self {
        let (code, message) = match status {
            StatusCode::NOT_FOUND => ("not_found", "There is nothing at this path."),
            StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "This path does not take this method."),
            StatusCode::INTERNAL_SERVER_ERROR => {
                ("internal", "The server could not do this; its log says why.")
            }
            _ => ("refused", status.canonical_reason().unwrap_or("The request was refused.")),
        };
        Self::new(status, code, message)
    }

    /// Adds a header to the answer.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn with_retry_after(self) -> Self {
        self.with_header(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What the operator should know: the sentence for the log, else the client's.
    pub fn reason(&self) -> &str {
        self.internal.as_deref().unwrap_or(&self.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Some(reason) = &self.internal {
            error!(reason, code = self.code, "a request failed");
        }
        let body = ErrorBody { error: self.code.to_owned(), message: self.message };
        (self.status, AppendHeaders(self.headers), Json(body)).into_response()
    }
}

impl From<NegotiationError> for ApiError {
    fn from(error: NegotiationError) -> Self {
        let code = match error {
            NegotiationError::NoVideo => "no_video",
            NegotiationError::CodecNotOffered { .. } => "codec_not_offered",
            NegotiationError::Unsupported(_) => "unsupported_offer",
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, sentence(&error.to_string()))
    }
}

impl From<Unanswered> for ApiError {
    fn from(_: Unanswered) -> Self {
        Self::busy("the shard does not answer")
    }
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Busy => Self::busy("too much waits for the catalogue of the recordings"),
            error => Self { internal: Some(error.to_string()), ..Self::unreadable() },
        }
    }
}

impl From<getrandom::Error> for ApiError {
    fn from(error: getrandom::Error) -> Self {
        Self::internal(format!("no random numbers: {error}"))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self {
            code: "storage_failed",
            message: "The change could not be stored; nothing was changed. The server's log says why.".into(),
            ..Self::internal(error.to_string())
        }
    }
}

/// A reason as a sentence: a capital first, one full stop last.
fn sentence(reason: &str) -> String {
    let reason = reason.trim().trim_end_matches('.');
    let mut chars = reason.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}
