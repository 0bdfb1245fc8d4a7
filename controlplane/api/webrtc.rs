//! `/streams/{source_id}/webrtc`: offer and answer as JSON, and the list of a stream's sessions. The verbs below a
//! session are in `sessions`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::control_plane::{ControlPlane, to_the_end};
use crate::http::{ApiError, ApiJson, ApiPath, ErrorBody, Peer};
use crate::source_id::SourceId;
use crate::webrtc::parse_offer;

/// A viewer's offer.
#[derive(Debug, Deserialize, ToSchema)]
pub struct OfferBody {
    /// SDP, at most 64 KiB.
    pub offer: String,
}

/// A viewer's offer to watch what is recorded.
#[derive(Debug, Deserialize, ToSchema)]
pub struct DvrOfferBody {
    /// SDP, at most 64 KiB.
    pub offer: String,
    /// Where to start: Unix milliseconds UTC.
    pub timestamp: f64,
}

/// A session that was opened.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnswerBody {
    /// Its id.
    pub session_id: Uuid,
    /// SDP with all candidates; the viewer's need not be told.
    pub answer: String,
}

/// The WebRTC sessions of a stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionList {
    /// The oldest first.
    pub sessions: Vec<SessionView>,
}

/// A WebRTC session.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionView {
    /// Its id.
    pub session_id: Uuid,
    /// Its stream's id, as it was given.
    pub source_id: SourceId,
    /// At the live edge.
    pub is_live: bool,
}

/// Starts a WebRTC session.
#[utoipa::path(post, operation_id = "connect_webrtc", path = "/streams/{source_id}/webrtc", tag = "webrtc",
    params(("source_id" = String, Path, description = "The id as percent-encoded text")), request_body = OfferBody,
    responses(
        (status = 201, description = "The session waits 30 s for the viewer to connect", body = AnswerBody),
        (status = 400, description = "malformed_json, missing_field, invalid_field, invalid_sdp", body = ErrorBody),
        (status = 404, description = "unknown_stream", body = ErrorBody),
        (status = 413, description = "body_too_large", body = ErrorBody),
        (status = 415, description = "unsupported_media_type", body = ErrorBody),
        (status = 422, description = "no_video, codec_not_offered, unsupported_offer", body = ErrorBody),
        (status = 429, description = "too_many_sessions", body = ErrorBody),
        (status = 503, description = "busy", body = ErrorBody),
))]
pub async fn connect(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(source_id): ApiPath<String>,
    peer: Option<Extension<Peer>>,
    ApiJson(body): ApiJson<OfferBody>,
) -> Result<(StatusCode, Json<AnswerBody>), ApiError> {
    let client = address_of(peer);
    let answer = async move { control.answer_offer(&source_id, &body.offer, client).await };
    let answered = to_the_end(answer).await?;
    let body = AnswerBody { session_id: answered.session, answer: answered.answer };
    Ok((StatusCode::CREATED, Json(body)))
}

/// Starts a WebRTC session at a recorded moment.
#[utoipa::path(post, operation_id = "connect_webrtc_dvr", path = "/streams/{source_id}/webrtc/dvr", tag = "webrtc",
    params(("source_id" = String, Path, description = "The id as percent-encoded text")), request_body = DvrOfferBody,
    responses(
        (status = 400, description = "malformed_json, missing_field, invalid_field, invalid_sdp", body = ErrorBody),
        (status = 404, description = "unknown_stream", body = ErrorBody),
        (status = 409, description = "not_recorded", body = ErrorBody),
        (status = 413, description = "body_too_large", body = ErrorBody),
        (status = 415, description = "unsupported_media_type", body = ErrorBody),
))]
pub async fn connect_dvr(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(source_id): ApiPath<String>,
    ApiJson(body): ApiJson<DvrOfferBody>,
) -> Result<(StatusCode, Json<AnswerBody>), ApiError> {
    control.stream(&source_id)?;
    parse_offer(&body.offer)?;
    Err(ApiError::not_recorded())
}

/// The WebRTC sessions of a stream, those of WHEP among them.
#[utoipa::path(get, operation_id = "list_webrtc_sessions", path = "/streams/{source_id}/webrtc", tag = "webrtc",
    params(("source_id" = String, Path, description = "The id as percent-encoded text")),
    responses(
        (status = 200, body = SessionList),
        (status = 404, description = "unknown_stream", body = ErrorBody),
))]
pub async fn list(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(source_id): ApiPath<String>,
) -> Result<Json<SessionList>, ApiError> {
    let registry = control.registry();
    let (id, stream) = registry.find(&source_id).ok_or_else(|| ApiError::unknown_stream(&source_id))?;
    let view = |session_id| SessionView { session_id, source_id: stream.source_id.clone(), is_live: true };
    Ok(Json(SessionList { sessions: registry.webrtc_sessions(id).map(view).collect() }))
}

/// The client's address, where the request came over a connection.
pub(super) fn address_of(peer: Option<Extension<Peer>>) -> Option<IpAddr> {
    peer.map(|Extension(Peer(address))| address.ip())
}
