//! `/streams`: create, list, read, change, remove.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{HeaderName, LOCATION};
use lanecast_shard::StreamId;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{CreateStream, PatchStream, StreamView};
use crate::control_plane::{ControlPlane, to_the_end};
use crate::http::{ApiError, ApiJson, ApiPath, ErrorBody};
use crate::registry::Stream;

/// All streams.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamList {
    /// The oldest first.
    pub streams: Vec<StreamView>,
}

/// Adds a stream; it is stored and starts at once.
#[utoipa::path(post, operation_id = "create_stream", path = "/streams", tag = "streams", request_body = CreateStream, responses(
    (status = 201, description = "The stream; Location is its path", body = StreamView),
    (status = 400, description = "malformed_json, missing_field, invalid_field, invalid_url", body = ErrorBody),
    (status = 409, description = "duplicate_source_id", body = ErrorBody),
    (status = 413, description = "body_too_large", body = ErrorBody),
    (status = 415, description = "unsupported_media_type", body = ErrorBody),
    (status = 422, description = "invalid_value, unsupported_scheme, denied_network, file_not_allowed, file_not_found", body = ErrorBody),
    (status = 429, description = "too_many_streams", body = ErrorBody),
    (status = 503, description = "busy", body = ErrorBody),
))]
pub async fn create(
    State(control): State<Arc<ControlPlane>>,
    ApiJson(body): ApiJson<CreateStream>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<StreamView>), ApiError> {
    let (source_id, draft) = body.into_draft()?;
    control.check_inputs(&draft).await?;
    let definition = draft.definition;
    let location = format!("/streams/{}", utf8_percent_encode(&source_id.to_string(), NON_ALPHANUMERIC));
    let changed = control.clone();
    let id = to_the_end(async move { changed.create(source_id, definition).await }).await?;
    Ok((StatusCode::CREATED, [(LOCATION, location)], view(&control, id).await?))
}

/// All streams, the oldest first.
#[utoipa::path(get, operation_id = "list_streams", path = "/streams", tag = "streams", responses((status = 200, body = StreamList)))]
pub async fn list(State(control): State<Arc<ControlPlane>>) -> Json<StreamList> {
    let counters = control.recorder_counters(None).await;
    Json(StreamList { streams: StreamView::all(&control, &counters) })
}

/// One stream.
#[utoipa::path(get, operation_id = "read_stream", path = "/streams/{source_id}", tag = "streams",
    params(("source_id" = String, Path, description = "The id as percent-encoded text")),
    responses(
        (status = 200, body = StreamView),
        (status = 404, description = "unknown_stream", body = ErrorBody),
))]
pub async fn read(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(source_id): ApiPath<String>,
) -> Result<Json<StreamView>, ApiError> {
    let (id, _) = control.stream(&source_id)?;
    match view(&control, id).await {
        Err(_) => Err(ApiError::unknown_stream(&source_id)),
        view => view,
    }
}

/// Changes a stream without dropping its viewers; what is absent stays.
#[utoipa::path(patch, operation_id = "change_stream", path = "/streams/{source_id}", tag = "streams", request_body = PatchStream,
    params(("source_id" = String, Path, description = "The id as percent-encoded text")),
    responses(
        (status = 200, body = StreamView),
        (status = 400, description = "malformed_json, invalid_field, invalid_url", body = ErrorBody),
        (status = 404, description = "unknown_stream", body = ErrorBody),
        (status = 413, description = "body_too_large", body = ErrorBody),
        (status = 415, description = "unsupported_media_type", body = ErrorBody),
        (status = 422, description = "invalid_value, unsupported_scheme, denied_network, file_not_allowed, file_not_found", body = ErrorBody),
        (status = 503, description = "busy", body = ErrorBody),
))]
pub async fn change(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(source_id): ApiPath<String>,
    ApiJson(body): ApiJson<PatchStream>,
) -> Result<Json<StreamView>, ApiError> {
    let (_, stream) = control.stream(&source_id)?;
    control.check_inputs(&body.apply(&stream.source_id, &stream.definition)?).await?;
    let changed = control.clone();
    let change = async move {
        let apply =
            |stream: &Stream| body.apply(&stream.source_id, &stream.definition).map(|draft| draft.definition);
        changed.update(&source_id, apply).await
    };
    view(&control, to_the_end(change).await?).await
}

/// Ends a stream and its sessions, and forgets it.
#[utoipa::path(delete, operation_id = "remove_stream", path = "/streams/{source_id}", tag = "streams",
    params(("source_id" = String, Path, description = "The id as percent-encoded text")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "unknown_stream", body = ErrorBody),
        (status = 503, description = "busy", body = ErrorBody),
))]
pub async fn remove(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(source_id): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    to_the_end(async move { control.remove(&source_id).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The stream as it is now; a removal may have come in between.
async fn view(control: &ControlPlane, id: StreamId) -> Result<Json<StreamView>, ApiError> {
    let shard = control.registry().stream(id).map(|stream| stream.shard);
    let counters = control.recorder_counters(shard).await;
    let registry = control.registry();
    let stream = registry.stream(id).ok_or_else(|| ApiError::busy("the stream has just been removed"))?;
    let recordings = control.catalog().summary(&stream.source_id);
    Ok(Json(StreamView::new(&registry, id, stream, recordings, counters.of(id))))
}
