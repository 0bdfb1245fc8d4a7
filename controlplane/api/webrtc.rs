//! `/streams/{source_id}/webrtc`: offer and answer as JSON, and the list of a stream's sessions. The verbs below a
//! session are in `sessions`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use lanecast_shard::{Command, SessionId};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::control_plane::{ControlPlane, to_the_end};
use crate::http::{ApiError, ApiJson, ApiPath, ErrorBody, Peer};
use crate::recording::unix_ms;
use crate::shards::{Shard, Unanswered};
use crate::source_id::SourceId;

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
    /// Where to start: Unix milliseconds UTC, as `seek` has it.
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
    answer(control, source_id, body.offer, address_of(peer), None).await
}

/// Starts a WebRTC session at a recorded moment.
#[utoipa::path(post, operation_id = "connect_webrtc_dvr", path = "/streams/{source_id}/webrtc/dvr", tag = "webrtc",
    params(("source_id" = String, Path, description = "The id as percent-encoded text")), request_body = DvrOfferBody,
    responses(
        (status = 201, description = "The session waits 30 s for the viewer to connect", body = AnswerBody),
        (status = 400, description = "malformed_json, missing_field, invalid_field, invalid_sdp", body = ErrorBody),
        (status = 404, description = "unknown_stream, not_recorded: nothing is at that time or later", body = ErrorBody),
        (status = 413, description = "body_too_large", body = ErrorBody),
        (status = 415, description = "unsupported_media_type", body = ErrorBody),
        (status = 422, description = "no_video, codec_not_offered, unsupported_offer", body = ErrorBody),
        (status = 429, description = "too_many_sessions", body = ErrorBody),
        (status = 503, description = "busy, recordings_unreadable", body = ErrorBody),
))]
pub async fn connect_dvr(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(source_id): ApiPath<String>,
    peer: Option<Extension<Peer>>,
    ApiJson(body): ApiJson<DvrOfferBody>,
) -> Result<(StatusCode, Json<AnswerBody>), ApiError> {
    let start = unix_ms(body.timestamp).ok_or_else(|| ApiError::invalid_field("timestamp is not finite."))?;
    answer(control, source_id, body.offer, address_of(peer), Some(start)).await
}

async fn answer(
    control: Arc<ControlPlane>,
    source_id: String,
    offer: String,
    client: Option<IpAddr>,
    start_unix_ms: Option<i64>,
) -> Result<(StatusCode, Json<AnswerBody>), ApiError> {
    let answer = async move { control.answer_offer(&source_id, &offer, client, start_unix_ms).await };
    let answered = to_the_end(answer).await?;
    let body = AnswerBody { session_id: answered.session, answer: answered.answer };
    Ok((StatusCode::CREATED, Json(body)))
}

/// The WebRTC sessions of a stream, those of WHEP among them.
#[utoipa::path(get, operation_id = "list_webrtc_sessions", path = "/streams/{source_id}/webrtc", tag = "webrtc",
    params(("source_id" = String, Path, description = "The id as percent-encoded text")),
    responses(
        (status = 200, body = SessionList),
        (status = 404, description = "unknown_stream", body = ErrorBody),
        (status = 503, description = "busy", body = ErrorBody),
))]
pub async fn list(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(source_id): ApiPath<String>,
) -> Result<Json<SessionList>, ApiError> {
    let (id, stream) = control.stream(&source_id)?;
    let shard = control.shard(stream.shard)?.clone();
    let sessions: Vec<SessionId> = control.registry().webrtc_sessions(id).collect();
    let modes = timeout(MODES_TIMEOUT, modes(shard, &sessions)).await.map_err(|_| Unanswered)??;
    // One without a mode has ended since.
    let view = |session_id: SessionId| {
        let is_live = *modes.get(&session_id)?;
        Some(SessionView { session_id, source_id: stream.source_id.clone(), is_live })
    };
    Ok(Json(SessionList { sessions: sessions.into_iter().filter_map(view).collect() }))
}

/// Which of these sessions are at the live edge, of those that are still there. The shard knows.
async fn modes(shard: Shard, sessions: &[SessionId]) -> Result<HashMap<SessionId, bool>, Unanswered> {
    let mut modes = HashMap::with_capacity(sessions.len());
    for some in sessions.chunks(MODES_AT_ONCE) {
        let mut questions = JoinSet::new();
        for session in some.iter().copied() {
            let shard = shard.clone();
            questions.spawn(async move {
                (session, shard.ask(|reply| Command::ReadMode { session, reply }).await)
            });
        }
        for (session, answer) in questions.join_all().await {
            if let Ok(mode) = answer? {
                modes.insert(session, mode.is_live);
            }
        }
    }
    Ok(modes)
}

/// The client's address, where the request came over a connection.
pub(super) fn address_of(peer: Option<Extension<Peer>>) -> Option<IpAddr> {
    peer.map(|Extension(Peer(address))| address.ip())
}

/// Questions to a shard at a time: it takes them all in one turn, and its queue has room for others'.
const MODES_AT_ONCE: usize = 256;
/// For the list of ten thousand sessions, of a shard under load.
const MODES_TIMEOUT: Duration = Duration::from_secs(2);
