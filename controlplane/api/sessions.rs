//! The verbs of a viewer session (wire contract section 6), under two prefixes: below its stream
//! (revision 1) and by its id alone (revision 2).
//!
//! Nothing is recorded yet, so every session is live: seek answers `not_recorded`, speed `session_is_live`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lanecast_shard::{Command, Reply, SessionError, SessionId, SessionMode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::control_plane::ControlPlane;
use crate::http::{ApiError, ApiJson, ApiPath, ErrorBody};
use crate::shards::Unanswered;

/// What a session plays.
#[derive(Debug, Serialize, ToSchema)]
pub struct Mode {
    /// At the live edge.
    pub is_live: bool,
    /// Wall-clock of the picture in Unix milliseconds; `null` when live.
    pub current_time_ms: Option<i64>,
    /// 1 when live.
    pub speed: f64,
}

/// Where to.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Seek {
    /// Unix milliseconds UTC.
    pub timestamp: f64,
}

/// How fast.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Speed {
    /// From 0.25 to 16.
    pub speed: f64,
}

/// What the session plays.
#[utoipa::path(get, operation_id = "session_mode", path = "/client-session-control/{session_id}/mode", tag = "sessions",
    params(("session_id" = Uuid, Path)),
    responses((status = 200, body = Mode), (status = 404, description = "unknown_session", body = ErrorBody)))]
pub async fn mode(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(session): ApiPath<String>,
) -> Result<Json<Mode>, ApiError> {
    Session::find(&control, &session)?.mode().await
}

/// Goes back to a recorded moment: the nearest keyframe at or before it.
#[utoipa::path(post, operation_id = "seek_session", path = "/client-session-control/{session_id}/seek", tag = "sessions",
    params(("session_id" = Uuid, Path)), request_body = Seek,
    responses(
        (status = 200, description = "The mode after it", body = Mode),
        (status = 400, description = "malformed_json, missing_field, invalid_field", body = ErrorBody),
        (status = 404, description = "unknown_session", body = ErrorBody),
        (status = 409, description = "not_recorded: the session plays on as it did", body = ErrorBody)))]
pub async fn seek(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(session): ApiPath<String>,
    _to: ApiJson<Seek>,
) -> Result<Json<Mode>, ApiError> {
    Session::find(&control, &session)?.seek().await
}

/// Returns to the live edge. Idempotent.
#[utoipa::path(post, operation_id = "session_to_live", path = "/client-session-control/{session_id}/live", tag = "sessions",
    params(("session_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The mode after it", body = Mode),
        (status = 404, description = "unknown_session", body = ErrorBody)))]
pub async fn live(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(session): ApiPath<String>,
) -> Result<Json<Mode>, ApiError> {
    Session::find(&control, &session)?.mode().await
}

/// Sets the speed of a recorded session.
#[utoipa::path(post, operation_id = "session_speed", path = "/client-session-control/{session_id}/speed", tag = "sessions",
    params(("session_id" = Uuid, Path)), request_body = Speed,
    responses(
        (status = 200, description = "The mode after it", body = Mode),
        (status = 400, description = "malformed_json, missing_field, invalid_field", body = ErrorBody),
        (status = 404, description = "unknown_session", body = ErrorBody),
        (status = 409, description = "session_is_live", body = ErrorBody)))]
pub async fn speed(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(session): ApiPath<String>,
    ApiJson(body): ApiJson<Speed>,
) -> Result<Json<Mode>, ApiError> {
    body.check()?;
    Session::find(&control, &session)?.speed().await
}

/// Closes the session.
#[utoipa::path(delete, operation_id = "close_session", path = "/client-session-control/{session_id}", tag = "sessions",
    params(("session_id" = Uuid, Path)),
    responses(
        (status = 204, description = "It is closed"),
        (status = 404, description = "unknown_session", body = ErrorBody)))]
pub async fn close(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(session): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    Session::find(&control, &session)?.close().await
}

/// What the session plays.
#[utoipa::path(get, operation_id = "session_mode_of_stream", path = "/streams/{source_id}/wsc-rtp/{session_id}/mode", tag = "sessions",
    params(("source_id" = String, Path), ("session_id" = Uuid, Path)),
    responses(
        (status = 200, body = Mode),
        (status = 404, description = "unknown_stream, unknown_session", body = ErrorBody)))]
pub async fn mode_of_stream(
    State(control): State<Arc<ControlPlane>>,
    ApiPath((source_id, session)): ApiPath<(String, String)>,
) -> Result<Json<Mode>, ApiError> {
    Session::find_of(&control, &source_id, &session)?.mode().await
}

/// Goes back to a recorded moment: the nearest keyframe at or before it.
#[utoipa::path(post, operation_id = "seek_session_of_stream", path = "/streams/{source_id}/wsc-rtp/{session_id}/seek", tag = "sessions",
    params(("source_id" = String, Path), ("session_id" = Uuid, Path)), request_body = Seek,
    responses(
        (status = 200, description = "The mode after it", body = Mode),
        (status = 400, description = "malformed_json, missing_field, invalid_field", body = ErrorBody),
        (status = 404, description = "unknown_stream, unknown_session", body = ErrorBody),
        (status = 409, description = "not_recorded: the session plays on as it did", body = ErrorBody)))]
pub async fn seek_of_stream(
    State(control): State<Arc<ControlPlane>>,
    ApiPath((source_id, session)): ApiPath<(String, String)>,
    _to: ApiJson<Seek>,
) -> Result<Json<Mode>, ApiError> {
    Session::find_of(&control, &source_id, &session)?.seek().await
}

/// Returns to the live edge. Idempotent.
#[utoipa::path(post, operation_id = "session_to_live_of_stream", path = "/streams/{source_id}/wsc-rtp/{session_id}/live", tag = "sessions",
    params(("source_id" = String, Path), ("session_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The mode after it", body = Mode),
        (status = 404, description = "unknown_stream, unknown_session", body = ErrorBody)))]
pub async fn live_of_stream(
    State(control): State<Arc<ControlPlane>>,
    ApiPath((source_id, session)): ApiPath<(String, String)>,
) -> Result<Json<Mode>, ApiError> {
    Session::find_of(&control, &source_id, &session)?.mode().await
}

/// Sets the speed of a recorded session.
#[utoipa::path(post, operation_id = "session_speed_of_stream", path = "/streams/{source_id}/wsc-rtp/{session_id}/speed", tag = "sessions",
    params(("source_id" = String, Path), ("session_id" = Uuid, Path)), request_body = Speed,
    responses(
        (status = 200, description = "The mode after it", body = Mode),
        (status = 400, description = "malformed_json, missing_field, invalid_field", body = ErrorBody),
        (status = 404, description = "unknown_stream, unknown_session", body = ErrorBody),
        (status = 409, description = "session_is_live", body = ErrorBody)))]
pub async fn speed_of_stream(
    State(control): State<Arc<ControlPlane>>,
    ApiPath((source_id, session)): ApiPath<(String, String)>,
    ApiJson(body): ApiJson<Speed>,
) -> Result<Json<Mode>, ApiError> {
    body.check()?;
    Session::find_of(&control, &source_id, &session)?.speed().await
}

/// Closes the session.
#[utoipa::path(delete, operation_id = "close_session_of_stream", path = "/streams/{source_id}/wsc-rtp/{session_id}", tag = "sessions",
    params(("source_id" = String, Path), ("session_id" = Uuid, Path)),
    responses(
        (status = 204, description = "It is closed"),
        (status = 404, description = "unknown_stream, unknown_session", body = ErrorBody)))]
pub async fn close_of_stream(
    State(control): State<Arc<ControlPlane>>,
    ApiPath((source_id, session)): ApiPath<(String, String)>,
) -> Result<StatusCode, ApiError> {
    Session::find_of(&control, &source_id, &session)?.close().await
}

/// A session that was there a moment ago.
struct Session<'a> {
    control: &'a ControlPlane,
    id: SessionId,
    shard: usize,
}

impl<'a> Session<'a> {
    fn find(control: &'a ControlPlane, text: &str) -> Result<Self, ApiError> {
        Self::find_where(control, text, |_| true)
    }

    fn find_of(control: &'a ControlPlane, source_id: &str, text: &str) -> Result<Self, ApiError> {
        control.stream(source_id)?;
        Self::find_where(control, text, |of| of == source_id)
    }

    fn find_where(
        control: &'a ControlPlane,
        text: &str,
        of: impl Fn(&str) -> bool,
    ) -> Result<Self, ApiError> {
        let unknown = || ApiError::unknown_session(format!("{text:?}"));
        let id = Uuid::parse_str(text).map_err(|_| unknown())?;
        let registry = control.registry();
        let (_, stream) = registry.session_stream(id).ok_or_else(unknown)?;
        match of(&stream.source_id.to_string()) {
            true => Ok(Self { control, id, shard: stream.shard }),
            false => Err(unknown()),
        }
    }

    async fn mode(&self) -> Result<Json<Mode>, ApiError> {
        let mode: SessionMode = self.ask(|session, reply| Command::ReadMode { session, reply }).await?;
        Ok(Json(Mode {
            is_live: mode.is_live,
            current_time_ms: mode.current_time_unix_ms,
            speed: mode.speed,
        }))
    }

    async fn seek(&self) -> Result<Json<Mode>, ApiError> {
        // Asked first, so that a session that has just ended is told so.
        self.mode().await.map(drop)?;
        Err(ApiError::not_recorded())
    }

    async fn speed(&self) -> Result<Json<Mode>, ApiError> {
        self.mode().await.map(drop)?;
        Err(ApiError::session_is_live())
    }

    async fn close(&self) -> Result<StatusCode, ApiError> {
        let reason = "the session was closed by a request".to_owned();
        self.ask(|session, reply| Command::EndSession { session, reason, reply }).await?;
        self.control.registry().close_session(self.id);
        Ok(StatusCode::NO_CONTENT)
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(SessionId, Reply<Result<T, SessionError>>) -> Command,
    ) -> Result<T, ApiError> {
        let answer = self.control.shard(self.shard)?.ask(|reply| command(self.id, reply)).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(SessionError::Unknown)) => Err(ApiError::unknown_session(self.id)),
            Ok(Err(SessionError::NotRecorded)) => Err(ApiError::not_recorded()),
            Ok(Err(SessionError::Live)) => Err(ApiError::session_is_live()),
            Ok(Err(SessionError::NotWebRtc)) => Err(ApiError::unknown_session(self.id)),
            Ok(Err(SessionError::Full)) => Err(ApiError::busy("the shard of the session is full")),
            Err(Unanswered) => Err(ApiError::busy("the shard of the session does not answer")),
        }
    }
}

impl Speed {
    fn check(&self) -> Result<(), ApiError> {
        match (SPEED_MIN..=SPEED_MAX).contains(&self.speed) {
            true => Ok(()),
            false => Err(ApiError::invalid_field(format!("speed is not from {SPEED_MIN} to {SPEED_MAX}."))),
        }
    }
}

/// Slower than this no picture moves.
const SPEED_MIN: f64 = 0.25;
/// Faster than this not even keyframes alone can be read and sent.
const SPEED_MAX: f64 = 16.0;
