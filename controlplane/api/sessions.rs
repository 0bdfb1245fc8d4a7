//! The verbs of a viewer session (wire contract section 6), of every kind. One set of handlers stands under three
//! prefixes: by the session's id alone (revision 2), and below its stream by its kind (revision 1).
//!
//! The shard has the session and knows what it plays; here is what a request may ask for, and how long it may take.

use std::sync::Arc;
use std::time::Duration;

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
use crate::recording::unix_ms;
use crate::registry::SessionKind;
use crate::shards::{Shard, Unanswered};

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

impl From<SessionMode> for Mode {
    fn from(mode: SessionMode) -> Self {
        Self { is_live: mode.is_live, current_time_ms: mode.current_time_unix_ms, speed: mode.speed }
    }
}

/// Where to.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Seek {
    /// Unix milliseconds UTC. Before the first recording (negative, too): its begin.
    pub timestamp: f64,
}

/// How fast.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Speed {
    /// From 0.25 to 16; 0 is a pause.
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
    responses((status = 200, body = Mode), (status = 404, description = "unknown_session", body = ErrorBody),
        (status = 503, description = "busy", body = ErrorBody)))]
async fn mode(session: Session) -> Result<Json<Mode>, ApiError> {
    session.ask(|session, reply| Command::ReadMode { session, reply }).await.map(mode_body)
}

/// Goes to a recorded moment: the nearest keyframe at or before it; in a gap, or before the first recording, the next
/// recorded keyframe.
#[utoipa::path(post, operation_id = "seek_session", path = "/{session_id}/seek", tag = "sessions",
    params(("session_id" = Uuid, Path)), request_body = Seek,
    responses(
        (status = 200, description = "The mode after it", body = Mode),
        (status = 400, description = "malformed_json, missing_field, invalid_field", body = ErrorBody),
        (status = 404, description = "unknown_session, not_recorded: nothing is at that time or later, and the session \
            plays on as it did", body = ErrorBody),
        (status = 503, description = "busy, recordings_unreadable: the session plays on as it did", body = ErrorBody)))]
async fn seek(session: Session, ApiJson(to): ApiJson<Seek>) -> Result<Json<Mode>, ApiError> {
    let unix_ms = unix_ms(to.timestamp).ok_or_else(|| ApiError::invalid_field("timestamp is not finite."))?;
    session
        .ask_for(SEEK_TIMEOUT, |session, reply| Command::Seek { session, unix_ms, reply })
        .await
        .map(mode_body)
}

/// Returns to the live edge. Idempotent.
#[utoipa::path(post, operation_id = "session_to_live", path = "/{session_id}/live", tag = "sessions",
    params(("session_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The mode after it", body = Mode),
        (status = 404, description = "unknown_session", body = ErrorBody),
        (status = 503, description = "busy", body = ErrorBody)))]
async fn live(session: Session) -> Result<Json<Mode>, ApiError> {
    session.ask(|session, reply| Command::GoLive { session, reply }).await.map(mode_body)
}

/// Sets the speed of a recorded session; 0 is a pause.
#[utoipa::path(post, operation_id = "session_speed", path = "/{session_id}/speed", tag = "sessions",
    params(("session_id" = Uuid, Path)), request_body = Speed,
    responses(
        (status = 200, description = "The mode after it", body = Mode),
        (status = 400, description = "malformed_json, missing_field, invalid_field", body = ErrorBody),
        (status = 404, description = "unknown_session", body = ErrorBody),
        (status = 409, description = "session_is_live", body = ErrorBody),
        (status = 422, description = "speed_not_supported: it is negative", body = ErrorBody),
        (status = 503, description = "busy", body = ErrorBody)))]
async fn speed(session: Session, ApiJson(body): ApiJson<Speed>) -> Result<Json<Mode>, ApiError> {
    let speed = body.checked()?;
    session.ask(|session, reply| Command::SetSpeed { session, speed, reply }).await.map(mode_body)
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

    async fn ask<T>(
        &self,
        command: impl FnOnce(SessionId, Reply<Result<T, SessionError>>) -> Command,
    ) -> Result<T, ApiError> {
        self.understand(self.shard.ask(|reply| command(self.id, reply)).await)
    }

    async fn ask_for<T>(
        &self,
        patience: Duration,
        command: impl FnOnce(SessionId, Reply<Result<T, SessionError>>) -> Command,
    ) -> Result<T, ApiError> {
        self.understand(self.shard.ask_for(patience, |reply| command(self.id, reply)).await)
    }

    fn understand<T>(&self, answer: Result<Result<T, SessionError>, Unanswered>) -> Result<T, ApiError> {
        answer?.map_err(|error| self.control.session_error(self.id, error))
    }
}

fn mode_body(mode: SessionMode) -> Json<Mode> {
    Json(mode.into())
}

impl Speed {
    /// The speed, if a player can have it.
    fn checked(&self) -> Result<f64, ApiError> {
        match self.speed {
            speed if speed < 0.0 => Err(ApiError::speed_not_supported()),
            // -0, too.
            0.0 => Ok(0.0),
            speed if (SPEED_MIN..=SPEED_MAX).contains(&speed) => Ok(speed),
            _ => Err(ApiError::invalid_field(format!(
                "speed is neither 0 (a pause) nor from {SPEED_MIN} to {SPEED_MAX}."
            ))),
        }
    }
}

/// Slower than this no picture moves.
const SPEED_MIN: f64 = 0.25;
/// Faster than this not even keyframes alone can be read and sent.
const SPEED_MAX: f64 = 16.0;
/// A seek reads an index and a keyframe from a disk; one that spins up takes longer, and then the session stays as it is.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);
