//! What handlers take out of a request, with our errors in place of axum's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use bytes::BytesMut;
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;
use tokio::time::timeout;

use super::ApiError;
use crate::control_plane::ControlPlane;

/// The other end of the connection, IPv4-mapped IPv6 addresses as plain IPv4.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Path parameters.
#[derive(Debug)]
pub struct ApiPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for ApiPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(_) => {
                let message = "The path cannot be read: it is not percent-encoded UTF-8.";
                Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_path", message))
            }
        }
    }
}

/// A JSON object as the body, at most as long as the operator allows.
#[derive(Debug)]
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<ControlPlane>> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, control: &Arc<ControlPlane>) -> Result<Self, ApiError> {
        check_media_type(request.headers())?;
        let bytes = read_body(request, control.limits().body_bytes).await?;
        parse(&bytes).map(Self)
    }
}

/// A text of exactly this media type as the body, at most this long.
///
/// # Errors
/// 415, 413, 408, and 400 where it is no UTF-8.
pub async fn read_text(
    request: Request,
    media_type: &'static str,
    limit_bytes: usize,
) -> Result<String, ApiError> {
    if essence(request.headers()) != media_type {
        return Err(ApiError::unsupported_media_type(media_type));
    }
    let bytes = read_body(request, limit_bytes).await?;
    String::from_utf8(bytes.into()).map_err(|_| ApiError::invalid_sdp("it is not UTF-8"))
}

/// The media type without its parameters, in lower case.
fn essence(headers: &HeaderMap) -> String {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Only `application/json` (or `+json`): a page of another origin cannot send it without asking first.
fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let essence = essence(headers);
    let is_json =
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    match is_json {
        true => Ok(()),
        false => Err(ApiError::unsupported_media_type("application/json")),
    }
}

async fn read_body(request: Request, limit_bytes: usize) -> Result<BytesMut, ApiError> {
    let length = request.headers().get(CONTENT_LENGTH).and_then(content_length);
    if length.is_some_and(|length| length > limit_bytes) {
        return Err(ApiError::body_too_large(limit_bytes));
    }
    match timeout(BODY_TIMEOUT, collect(request.into_body(), limit_bytes)).await {
        Ok(body) => body,
        Err(_) => {
            let message = format!("The body did not come in {} s.", BODY_TIMEOUT.as_secs());
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message))
        }
    }
}

async fn collect(mut body: Body, limit_bytes: usize) -> Result<BytesMut, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "incomplete_body",
                "The body ended too early.",
            ));
        };
        let data = frame.into_data().unwrap_or_default();
        if bytes.len() + data.len() > limit_bytes {
            return Err(ApiError::body_too_large(limit_bytes));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn content_length(value: &HeaderValue) -> Option<usize> {
    value.to_str().ok()?.trim().parse().ok()
}

/// A JSON object as a `T`; what does not fit is named.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| explain(bytes, &error));
    match value {
        // serde would read a struct out of an array too.
        Ok(_) if first_byte(bytes) != Some(b'{') => Err(not_an_object()),
        Ok(value) => json.end().map_err(ApiError::malformed_json).map(|()| value),
        Err(error) => Err(error),
    }
}

fn explain(bytes: &[u8], error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    let inner = error.inner();
    // A field that does not fit stops the reader; the rest may not even be JSON. And what is JSON may not fit for the
    // reader alone: a number that no double holds.
    if let Err(malformed) = serde_json::from_slice::<IgnoredAny>(bytes) {
        return match inner.classify() {
            Category::Data => ApiError::malformed_json(malformed),
            _ => ApiError::malformed_json(inner),
        };
    }
    if first_byte(bytes) != Some(b'{') {
        return not_an_object();
    }
    let path = error.path().to_string();
    let place = if path == "." { String::new() } else { format!("{path}: ") };
    let reason: String = inner.to_string().chars().take(REASON_CHARS_MAX).collect();
    match reason.starts_with("missing field") {
        true => ApiError::missing_field(format!("{place}{reason}.")),
        false => ApiError::invalid_field(format!("{place}{reason}.")),
    }
}

fn not_an_object() -> ApiError {
    ApiError::invalid_field("The body must be a JSON object.")
}

fn first_byte(bytes: &[u8]) -> Option<u8> {
    bytes.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// From the header's end to the body's.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// serde repeats the value that does not fit; the client need not get all of it back.
const REASON_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only whether it parses counts")]
    struct Outer {
        name: String,
        items: Vec<Inner>,
    }
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only whether it parses counts")]
    struct Inner {
        size: u8,
    }

    fn refusal(json: &str) -> (&'static str, String) {
        let error = parse::<Outer>(json.as_bytes()).unwrap_err();
        (error.code(), error.reason().to_owned())
    }

    #[test]
    fn names_the_field_that_is_missing_or_mistyped() {
        let (code, message) = refusal(r#"{"name":"x"}"#);
        assert_eq!(code, "missing_field");
        assert!(message.starts_with("missing field `items`"), "{message}");
        let (code, message) = refusal(r#"{"name":"x","items":[{"size":1},{}]}"#);
        assert_eq!(code, "missing_field");
        assert!(message.starts_with("items[1]: missing field `size`"), "{message}");
        let (code, message) = refusal(r#"{"name":7}"#);
        assert_eq!(code, "invalid_field");
        assert!(message.starts_with("name: invalid type"), "{message}");
    }

    #[test]
    fn tells_bad_json_from_a_bad_body() {
        for json in ["", "{", "{\"name\":}", "{\"name\":\"x\",\"items\":[]} x", "nope", "[1,"] {
            assert_eq!(refusal(json).0, "malformed_json", "{json}");
        }
        for json in ["[]", "7", "null", "\"x\"", r#"["x",[]]"#] {
            let (code, message) = refusal(json);
            assert_eq!(
                (code, message.as_str()),
                ("invalid_field", "The body must be a JSON object."),
                "{json}"
            );
        }
    }

    #[test]
    fn a_number_beyond_all_numbers_is_a_bad_field_of_good_json() {
        #[derive(Debug, Deserialize)]
        struct Time {
            #[allow(dead_code, reason = "only whether it parses counts")]
            timestamp: f64,
        }
        for json in ["{\"timestamp\":1e999}", "{\"timestamp\":-1e999}", "{\"timestamp\":\"NaN\"}"] {
            let error = parse::<Time>(json.as_bytes()).unwrap_err();
            assert_eq!(error.code(), "invalid_field", "{json}");
            assert!(error.reason().starts_with("timestamp: "), "{}", error.reason());
        }
        for json in ["{\"timestamp\":NaN}", "{\"timestamp\":Infinity}", "{\"timestamp\":1e999"] {
            assert_eq!(parse::<Time>(json.as_bytes()).unwrap_err().code(), "malformed_json", "{json}");
        }
    }

    #[test]
    fn ignores_what_it_does_not_know() {
        parse::<Outer>(br#"{"name":"x","items":[],"more":{"deep":[1,2]}}"#).unwrap();
    }
}
