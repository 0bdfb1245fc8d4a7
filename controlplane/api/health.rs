//! Is the server there, and does it take work?

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::control_plane::ControlPlane;
use crate::http::{ApiError, ErrorBody};

/// The server lives.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
    /// Version of the program.
    pub version: &'static str,
}

/// The server lives.
#[utoipa::path(get, path = "/health", tag = "health", responses((status = 200, body = Health)))]
pub async fn health() -> Json<Health> {
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// The server lives: restart it where this does not answer.
#[utoipa::path(get, operation_id = "livez", path = "/livez", tag = "health", responses((status = 200, body = Health)))]
pub async fn live() -> Json<Health> {
    health().await
}

/// The server takes work: send it none where this is not 200.
#[utoipa::path(get, operation_id = "readyz", path = "/readyz", tag = "health", responses(
    (status = 200, body = Health),
    (status = 503, description = "busy: it is stopping, or a shard has failed", body = ErrorBody)))]
pub async fn ready(State(control): State<Arc<ControlPlane>>) -> Result<Json<Health>, ApiError> {
    if control.is_stopping() {
        return Err(ApiError::busy("the server is stopping"));
    }
    match control.all_shards_alive() {
        true => Ok(health().await),
        false => Err(ApiError::busy("a shard has failed")),
    }
}
