//! `/streams/{source_id}/whep` (draft-ietf-wish-whep; what it shares with WHIP is said in RFC 9725).
//!
//! The session's entity tag names its ICE session (RFC 9725 section 4.3.1): our ufrag, which an ICE restart changes.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use lanecast_webrtc::negotiation::TrickleFragment;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::sessions::Session;
use super::webrtc::address_of;
use crate::control_plane::{ControlPlane, to_the_end};
use crate::http::{ApiError, ApiPath, ErrorBody, Peer, read_text};
use crate::webrtc::{OFFER_BYTES_MAX, Restarted};

/// What the resource takes.
#[utoipa::path(options, operation_id = "whep_options", path = "/streams/{source_id}/whep", tag = "webrtc",
    params(("source_id" = String, Path, description = "The id as percent-encoded text")),
    responses((status = 200, description = "With Accept-Post: application/sdp")))]
pub async fn options() -> Response {
    [(ACCEPT_POST, SDP), (ALLOW, "POST, OPTIONS")].into_response()
}

/// Starts a WebRTC session as WHEP has it.
#[utoipa::path(post, operation_id = "connect_whep", path = "/streams/{source_id}/whep", tag = "webrtc",
    params(("source_id" = String, Path, description = "The id as percent-encoded text")),
    request_body(content = String, content_type = "application/sdp", description = "The offer, at most 64 KiB"),
    responses(
        (status = 201, description = "The answer, with all candidates. The session waits 30 s for the viewer to connect",
            body = String, content_type = "application/sdp", headers(
                ("Location" = String, description = "Path of the session"),
                ("ETag" = String, description = "Names the ICE session"),
                ("Accept-Patch" = String, description = "application/trickle-ice-sdpfrag"))),
        (status = 400, description = "invalid_sdp", body = ErrorBody),
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
    SdpText(offer): SdpText,
) -> Result<Response, ApiError> {
    let client = address_of(peer);
    let stream = utf8_percent_encode(&source_id, NON_ALPHANUMERIC).to_string();
    let answer = async move { control.answer_offer(&source_id, &offer, client, None).await };
    let answered = to_the_end(answer).await?;
    let headers = [
        (CONTENT_TYPE, SDP.to_owned()),
        (LOCATION, format!("/streams/{stream}/whep/{}", answered.session)),
        (ETAG, entity_tag(&answered.ufrag)),
        (ACCEPT_PATCH, FRAGMENT.to_owned()),
    ];
    Ok((StatusCode::CREATED, headers, answered.answer).into_response())
}

/// Adds candidates of the viewer, or restarts ICE where the fragment has other credentials.
#[utoipa::path(patch, operation_id = "trickle_whep", path = "/streams/{source_id}/whep/{session_id}", tag = "webrtc",
    params(
        ("source_id" = String, Path, description = "The id as percent-encoded text"),
        ("session_id" = uuid::Uuid, Path),
        ("If-Match" = String, Header, description = "The entity tag of the ICE session, or * for a restart"),
    ),
    request_body(content = String, content_type = "application/trickle-ice-sdpfrag"),
    responses(
        (status = 200, description = "ICE restarts: our new credentials and candidates", body = String,
            content_type = "application/trickle-ice-sdpfrag",
            headers(("ETag" = String, description = "Names the new ICE session"))),
        (status = 204, description = "The candidates were taken"),
        (status = 400, description = "invalid_sdp", body = ErrorBody),
        (status = 404, description = "unknown_stream, unknown_session", body = ErrorBody),
        (status = 412, description = "precondition_failed", body = ErrorBody),
        (status = 413, description = "body_too_large", body = ErrorBody),
        (status = 415, description = "unsupported_media_type", body = ErrorBody),
        (status = 428, description = "precondition_required", body = ErrorBody),
        (status = 503, description = "busy", body = ErrorBody),
))]
pub async fn trickle(
    session: Session,
    expected: Expected,
    peer: Option<Extension<Peer>>,
    FragmentText(text): FragmentText,
) -> Result<Response, ApiError> {
    let agreed = session.control.ice_session(session.id)?;
    expected.check(&agreed.ufrag)?;
    let fragment =
        TrickleFragment::parse(&text).map_err(|error| ApiError::invalid_sdp(&error.to_string()))?;
    if fragment.ice.as_ref().is_none_or(|ice| *ice == agreed.remote) {
        session.control.add_candidates(session.id, &session.shard, fragment.candidates).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let client = address_of(peer);
    let restarted = to_the_end(restart(session, expected, fragment, client)).await?;
    let headers = [(CONTENT_TYPE, FRAGMENT.to_owned()), (ETAG, entity_tag(&restarted.ufrag))];
    Ok((headers, restarted.fragment).into_response())
}

async fn restart(
    session: Session,
    expected: Expected,
    fragment: TrickleFragment,
    client: Option<IpAddr>,
) -> Result<Restarted, ApiError> {
    let Session { control, id, shard } = session;
    let remote = fragment.ice.ok_or_else(|| ApiError::internal("a restart without credentials"))?;
    let restarted =
        control.restart_ice(id, &shard, remote, client, |agreed| expected.check(&agreed.ufrag)).await?;
    control.add_candidates(id, &shard, fragment.candidates).await?;
    Ok(restarted)
}

/// Closes the session.
#[utoipa::path(delete, operation_id = "close_whep", path = "/streams/{source_id}/whep/{session_id}", tag = "webrtc",
    params(("source_id" = String, Path, description = "The id as percent-encoded text"), ("session_id" = uuid::Uuid, Path)),
    responses(
        (status = 200, description = "It is closed"),
        (status = 404, description = "unknown_stream, unknown_session", body = ErrorBody)))]
pub async fn close(session: Session) -> Result<StatusCode, ApiError> {
    session.close().await?;
    Ok(StatusCode::OK)
}

/// The ICE sessions that a request may mean: its `If-Match` (RFC 9110 section 13.1.1, RFC 6585 section 3).
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    /// `*`.
    Any,
    /// Those with these entity tags; weak ones match nothing.
    Tags(Vec<String>),
}

impl<S: Send + Sync> FromRequestParts<S> for Expected {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::read(&parts.headers).ok_or_else(ApiError::precondition_required)
    }
}

impl Expected {
    fn read(headers: &HeaderMap) -> Option<Self> {
        let values: Vec<&str> =
            headers.get_all(IF_MATCH).into_iter().filter_map(|value| value.to_str().ok()).collect();
        // Our tags hold no comma.
        let tags: Vec<String> =
            values.iter().flat_map(|value| value.split(',')).map(|tag| tag.trim().to_owned()).collect();
        match tags.as_slice() {
            [] => None,
            [any] if any == "*" => Some(Self::Any),
            _ => Some(Self::Tags(tags)),
        }
    }

    fn check(&self, ufrag: &str) -> Result<(), ApiError> {
        match self {
            Self::Any => Ok(()),
            Self::Tags(tags) if tags.contains(&entity_tag(ufrag)) => Ok(()),
            Self::Tags(_) => Err(ApiError::precondition_failed()),
        }
    }
}

fn entity_tag(ufrag: &str) -> String {
    format!("\"{ufrag}\"")
}

/// A body of `application/sdp`.
#[derive(Debug)]
pub struct SdpText(String);

impl FromRequest<Arc<ControlPlane>> for SdpText {
    type Rejection = ApiError;

    async fn from_request(request: Request, control: &Arc<ControlPlane>) -> Result<Self, ApiError> {
        read_text(request, SDP, OFFER_BYTES_MAX.min(control.limits().body_bytes)).await.map(Self)
    }
}

/// A body of `application/trickle-ice-sdpfrag`.
#[derive(Debug)]
pub struct FragmentText(String);

impl FromRequest<Arc<ControlPlane>> for FragmentText {
    type Rejection = ApiError;

    async fn from_request(request: Request, control: &Arc<ControlPlane>) -> Result<Self, ApiError> {
        read_text(request, FRAGMENT, OFFER_BYTES_MAX.min(control.limits().body_bytes)).await.map(Self)
    }
}

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// RFC 9725 section 4.2; W3C's LDP has it first.
pub const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// RFC 5789 section 3.1.
pub const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&'static str]) -> Option<Expected> {
        let headers = values.iter().map(|value| (IF_MATCH, axum::http::HeaderValue::from_static(value)));
        Expected::read(&headers.collect())
    }

    #[test]
    fn a_strong_tag_in_a_list_matches_and_a_weak_one_does_not() {
        for matching in [&["*"][..], &["\"AA1\""], &["\"x\", \"AA1\""], &["\"x\"", "\"AA1\""]] {
            assert!(read(matching).unwrap().check("AA1").is_ok(), "{matching:?}");
        }
        for other in [&["W/\"AA1\""][..], &["AA1"], &["\"AA2\""], &[""], &["*, \"x\""]] {
            let error = read(other).unwrap().check("AA1").unwrap_err();
            assert_eq!(error.code(), "precondition_failed", "{other:?}");
        }
        assert_eq!(read(&[]), None);
    }
}
