//! Routes and what surrounds every one of them; and the OpenAPI document that the routes make.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{ALLOW, CONTENT_TYPE, ETAG, LINK, LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use tokio::time::Instant;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};
use tracing::debug;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use super::ApiError;
use crate::api::{
    health, metrics, page, recordings, sessions, streams, webrtc, webrtc_client, whep, wsc_rtp,
};
use crate::config::CorsOrigins;
use crate::control_plane::ControlPlane;
use crate::registry::SessionKind;

/// All of the API, ready to serve.
pub fn router(control: Arc<ControlPlane>, cors_origins: &CorsOrigins) -> Router {
    let (api, document) = api().split_for_parts();
    let router: Router = api.with_state(control);
    let router = router
        .merge(SwaggerUi::new("/swagger-ui").url("/api-docs/openapi.json", document))
        .fallback(async || ApiError::of_status(hyper::StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(async || ApiError::of_status(hyper::StatusCode::METHOD_NOT_ALLOWED))
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(from_fn(as_json))
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(log));
    let plain = router.clone();
    router
        .layer(cors(cors_origins))
        .layer(from_fn(move |request, next| answer_options(plain.clone(), request, next)))
}

/// The OpenAPI document as it is checked in.
pub fn openapi_json() -> String {
    let (_, document) = api().split_for_parts();
    // Serializing cannot fail: the document is a tree of maps with text keys.
    let mut json = document.to_pretty_json().expect("the document is JSON");
    json.push('\n');
    json
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Lanecast",
    description = "Cameras in, viewers out. Every error is `{\"error\": code, \"message\": sentence}`. \
        400: malformed (`malformed_json`, `missing_field`, `invalid_field`, `invalid_url`, `invalid_query`, `invalid_range`, `invalid_path`, `invalid_sdp`), \
        404: unknown (`unknown_stream`, `unknown_session`, `not_recorded`, `not_found`), 405: `method_not_allowed`, \
        408: `request_timeout`, 409: conflict (`duplicate_source_id`, `session_is_live`; `not_recorded` of what this version cannot make yet), \
        412: `precondition_failed`, 413: `body_too_large`, 415: `unsupported_media_type`, 422: well-formed but not acceptable \
        (`invalid_value`, `unsupported_scheme`, `no_video`, `codec_not_offered`, `unsupported_offer`, `speed_not_supported`), \
        426: `upgrade_required`, 428: `precondition_required`, 429: a bound (`too_many_streams`, \
        `too_many_sessions`), 500: `internal`, `storage_failed`, 503 with `Retry-After`: `busy`, `recordings_unreadable`. \
        Unknown fields are ignored. Times are Unix milliseconds UTC unless the name says otherwise.",
))]
struct Document;

fn api() -> OpenApiRouter<Arc<ControlPlane>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(streams::list, streams::create))
        .routes(routes!(streams::read, streams::change, streams::remove))
        .routes(routes!(wsc_rtp::connect))
        .routes(routes!(webrtc::list, webrtc::connect))
        .routes(routes!(webrtc::connect_dvr))
        .routes(routes!(whep::options, whep::connect))
        .merge(whep_sessions())
        .nest("/streams/{source_id}/wsc-rtp", sessions::verbs_of_stream(SessionKind::WscRtp, "_of_stream"))
        .nest("/streams/{source_id}/webrtc", sessions::verbs_of_stream(SessionKind::WebRtc, "_of_webrtc"))
        .nest("/client-session-control", sessions::verbs())
        .routes(routes!(recordings::list, recordings::remove))
        .routes(routes!(recordings::export))
        .routes(routes!(recordings::snapshot))
        .routes(routes!(health::health))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::metrics))
        .routes(routes!(page::page))
        .routes(routes!(webrtc_client::page))
        .routes(routes!(webrtc_client::asset))
}

fn whep_sessions() -> OpenApiRouter<Arc<ControlPlane>> {
    OpenApiRouter::new().routes(routes!(whep::trickle, whep::close)).layer(Extension(SessionKind::WebRtc))
}

fn cors(origins: &CorsOrigins) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE, Method::OPTIONS])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([LOCATION, ETAG, LINK, ALLOW, whep::ACCEPT_PATCH, RETRY_AFTER]);
    match origins {
        CorsOrigins::Any => layer.allow_origin(Any),
        CorsOrigins::Only(origins) => {
            let values = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
            layer.allow_origin(values.collect::<Vec<_>>())
        }
    }
}

/// To OPTIONS the CORS layer answers before any resource does; what the resource says of itself is added to that.
async fn answer_options(plain: Router, request: Request, next: Next) -> Response {
    if request.method() != Method::OPTIONS {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let own = plain.oneshot(Request::from_parts(parts.clone(), Body::empty())).await;
    let mut response = next.run(Request::from_parts(parts, body)).await;
    let Ok(own) = own;
    for name in [ALLOW, whep::ACCEPT_POST] {
        if let Some(value) = own.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// Every error has our shape, whoever made it.
async fn as_json(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || is_json(response.headers()) {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let (error, body) = ApiError::of_status(status).into_response().into_parts();
    parts.headers.extend(error.headers);
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    Response::from_parts(parts, body)
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}

/// One line a request. The query stays out: it may hold a token.
async fn log(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let start = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    debug!(%method, path, status, duration_us = start.elapsed().as_micros(), "request");
    response
}

fn answer_panic(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text");
    ApiError::internal(format!("a handler panicked: {text}")).into_response()
}
