//! The verbs of a viewer session (wire contract section 6), of every kind. One set of handlers stands under three
//! prefixes: by the session's id alone (revision 2), and below its stream by its kind (revision 1).
//!
//! Nothing is recorded yet, so every session is live: seek answers `not_recorded`, speed `session_is_live`.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::{Extension, Json};
use lanecast_shard::{Command, Reply, SessionError, SessionId, SessionMode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, RefOr, Required, Type};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::SessionStatisticsView;
use crate::control_plane::ControlPlane;
use crate::http::{ApiError, ApiJson, ApiPath, ErrorBody};
use crate::registry::SessionKind;
use crate::shards::Shard;
use crate::webrtc::of_session;

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

/// The verbs, for every session.
pub fn verbs() -> OpenApiRouter<Arc<ControlPlane>> {
    OpenApiRouter::new()
        .routes(routes!(close))
        .routes(routes!(mode))
        .routes(routes!(seek))
        .routes(routes!(live))
        .routes(routes!(speed))
        .routes(routes!(statistics))
}

/// The verbs below a stream, for its sessions of this kind; `suffix` makes the operations' ids.
pub fn verbs_of_stream(kind: SessionKind, suffix: &str) -> OpenApiRouter<Arc<ControlPlane>> {
    let mut verbs = verbs();
    for item in verbs.get_openapi_mut().paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten() {
            place_below_stream(operation, suffix);
        }
    }
    verbs.layer(Extension(kind))
}

fn place_below_stream(operation: &mut Operation, suffix: &str) {
    operation.operation_id = operation.operation_id.take().map(|id| id + suffix);
    let source_id = ParameterBuilder::new()
        .name("source_id")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build();
    operation.parameters.get_or_insert_default().insert(0, source_id.into());
    if let Some(RefOr::T(not_found)) = operation.responses.responses.get_mut("404") {
        not_found.description = "unknown_stream, unknown_session".into();
    }
}

/// What the session plays.
#[utoipa::path(get, operation_id = "session_mode", path = "/{session_id}/mode", tag = "sessions",
    params(("session_id" = Uuid, Path)),
    responses((status = 200, body = Mode), (status = 404, description = "unknown_session", body = ErrorBody)))]
async fn mode(session: Session) -> Result<Json<Mode>, ApiError> {
    session.mode().await
}

/// Goes back to a recorded moment: the nearest keyframe at or before it.
#[utoipa::path(post, operation_id = "seek_session", path = "/{session_id}/seek", tag = "sessions",
    params(("session_id" = Uuid, Path)), request_body = Seek,
    responses(
        (status = 200, description = "The mode after it", body = Mode),
        (status = 400, description = "malformed_json, missing_field, invalid_field", body = ErrorBody),
        (status = 404, description = "unknown_session", body = ErrorBody),
        (status = 409, description = "not_recorded: the session plays on as it did", body = ErrorBody)))]
async fn seek(session: Session, _to: ApiJson<Seek>) -> Result<Json<Mode>, ApiError> {
    // Asked first, so that a session that has just ended is told so.
    session.mode().await.map(drop)?;
    Err(ApiError::not_recorded())
}

/// Returns to the live edge. Idempotent.
#[utoipa::path(post, operation_id = "session_to_live", path = "/{session_id}/live", tag = "sessions",
    params(("session_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The mode after it", body = Mode),
        (status = 404, description = "unknown_session", body = ErrorBody)))]
async fn live(session: Session) -> Result<Json<Mode>, ApiError> {
    session.mode().await
}

/// Sets the speed of a recorded session.
#[utoipa::path(post, operation_id = "session_speed", path = "/{session_id}/speed", tag = "sessions",
    params(("session_id" = Uuid, Path)), request_body = Speed,
    responses(
        (status = 200, description = "The mode after it", body = Mode),
        (status = 400, description = "malformed_json, missing_field, invalid_field", body = ErrorBody),
        (status = 404, description = "unknown_session", body = ErrorBody),
        (status = 409, description = "session_is_live", body = ErrorBody)))]
async fn speed(session: Session, ApiJson(body): ApiJson<Speed>) -> Result<Json<Mode>, ApiError> {
    body.check()?;
    session.mode().await.map(drop)?;
    Err(ApiError::session_is_live())
}

/// How the session goes.
#[utoipa::path(get, operation_id = "session_statistics", path = "/{session_id}/statistics", tag = "sessions",
    params(("session_id" = Uuid, Path)),
    responses(
        (status = 200, description = "Counters since its start", body = SessionStatisticsView),
        (status = 404, description = "unknown_session", body = ErrorBody)))]
async fn statistics(session: Session) -> Result<Json<SessionStatisticsView>, ApiError> {
    let statistics = session.ask(|session, reply| Command::ReadSession { session, reply }).await?;
    Ok(Json(statistics.into()))
}

/// Closes the session.
#[utoipa::path(delete, operation_id = "close_session", path = "/{session_id}", tag = "sessions",
    params(("session_id" = Uuid, Path)),
    responses(
        (status = 204, description = "It is closed"),
        (status = 404, description = "unknown_session", body = ErrorBody)))]
async fn close(session: Session) -> Result<StatusCode, ApiError> {
    session.close().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The session of the path, which was there a moment ago: of the path's stream, where it names one, and of the kind that
/// the route is for.
#[derive(Debug)]
pub struct Session {
    /// The rest of the server.
    pub control: Arc<ControlPlane>,
    /// Which.
    pub id: SessionId,
    /// Where it lives.
    pub shard: Shard,
}

#[derive(Debug, Deserialize)]
struct SessionPath {
    source_id: Option<String>,
    session_id: String,
}

impl FromRequestParts<Arc<ControlPlane>> for Session {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, control: &Arc<ControlPlane>) -> Result<Self, ApiError> {
        let ApiPath(path): ApiPath<SessionPath> = ApiPath::from_request_parts(parts, control).await?;
        let kind = parts.extensions.get::<SessionKind>().copied();
        Self::find(control, &path, kind)
    }
}

impl Session {
    fn find(
        control: &Arc<ControlPlane>,
        path: &SessionPath,
        kind: Option<SessionKind>,
    ) -> Result<Self, ApiError> {
        let unknown = || ApiError::unknown_session(format!("{:?}", path.session_id));
        let registry = control.registry();
        let below = match &path.source_id {
            Some(source_id) => {
                Some(registry.find(source_id).ok_or_else(|| ApiError::unknown_stream(source_id))?.0)
            }
            None => None,
        };
        let id = Uuid::parse_str(&path.session_id).map_err(|_| unknown())?;
        let (stream_id, stream) = registry.session_stream(id).ok_or_else(unknown)?;
        let is_of_stream = below.is_none_or(|below| below == stream_id);
        if !is_of_stream || kind.is_some_and(|kind| registry.session_kind(id) != Some(kind)) {
            return Err(unknown());
        }
        Ok(Self { control: control.clone(), id, shard: control.shard(stream.shard)?.clone() })
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it has just ended, or its shard does not answer.
    pub async fn close(&self) -> Result<(), ApiError> {
        let reason = "the session was closed by a request".to_owned();
        self.ask(|session, reply| Command::EndSession { session, reason, reply }).await?;
        self.control.registry().close_session(self.id);
        Ok(())
    }

    async fn mode(&self) -> Result<Json<Mode>, ApiError> {
        let mode: SessionMode = self.ask(|session, reply| Command::ReadMode { session, reply }).await?;
        Ok(Json(Mode {
            is_live: mode.is_live,
            current_time_ms: mode.current_time_unix_ms,
            speed: mode.speed,
        }))
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(SessionId, Reply<Result<T, SessionError>>) -> Command,
    ) -> Result<T, ApiError> {
        let answer = self.shard.ask(|reply| command(self.id, reply)).await?;
        answer.map_err(|error| of_session(self.id, error))
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
