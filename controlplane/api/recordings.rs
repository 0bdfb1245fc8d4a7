//! What is recorded of a stream. This version records nothing: an unknown stream is a 404 as everywhere,
//! a known one is answered with 409 `not_recorded`.

use std::sync::Arc;

use axum::extract::State;

use crate::control_plane::ControlPlane;
use crate::http::{ApiError, ApiPath, ErrorBody};

/// The timeline of a stream.
#[utoipa::path(get, operation_id = "list_recordings", path = "/streams/{source_id}/recordings", tag = "recordings",
    params(("source_id" = String, Path)),
    responses(
        (status = 404, description = "unknown_stream", body = ErrorBody),
        (status = 409, description = "not_recorded", body = ErrorBody)))]
pub async fn list(control: State<Arc<ControlPlane>>, source_id: ApiPath<String>) -> ApiError {
    not_recorded(control, source_id)
}

/// Frees what is recorded.
#[utoipa::path(delete, operation_id = "remove_recordings", path = "/streams/{source_id}/recordings", tag = "recordings",
    params(("source_id" = String, Path)),
    responses(
        (status = 404, description = "unknown_stream", body = ErrorBody),
        (status = 409, description = "not_recorded", body = ErrorBody)))]
pub async fn remove(control: State<Arc<ControlPlane>>, source_id: ApiPath<String>) -> ApiError {
    not_recorded(control, source_id)
}

/// A range as an MP4 file.
#[utoipa::path(get, operation_id = "export_recording", path = "/streams/{source_id}/export", tag = "recordings",
    params(("source_id" = String, Path)),
    responses(
        (status = 404, description = "unknown_stream", body = ErrorBody),
        (status = 409, description = "not_recorded", body = ErrorBody)))]
pub async fn export(control: State<Arc<ControlPlane>>, source_id: ApiPath<String>) -> ApiError {
    not_recorded(control, source_id)
}

/// The picture at a time.
#[utoipa::path(get, operation_id = "snapshot", path = "/streams/{source_id}/snapshot.jpg", tag = "recordings",
    params(("source_id" = String, Path)),
    responses(
        (status = 404, description = "unknown_stream", body = ErrorBody),
        (status = 409, description = "not_recorded", body = ErrorBody)))]
pub async fn snapshot(control: State<Arc<ControlPlane>>, source_id: ApiPath<String>) -> ApiError {
    not_recorded(control, source_id)
}

fn not_recorded(State(control): State<Arc<ControlPlane>>, ApiPath(source_id): ApiPath<String>) -> ApiError {
    control.stream(&source_id).err().unwrap_or_else(ApiError::not_recorded)
}
