//! `/streams/{source_id}/whep`.

use axum::body::Body;
use hyper::Method;
use hyper::header::HeaderValue;
use lanecast_shard::SessionId;
use serde_json::json;

use crate::harness::{Answer, Server, request};
use crate::offers::{self, BROWSER};

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

async fn post(server: &Server, path: &str, content_type: &str, body: &str) -> Answer {
    let request = request(Method::POST, path).header("content-type", content_type);
    server.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

/// A session made by WHEP.
struct Watching {
    server: Server,
    _directory: tempfile::TempDir,
    path: String,
    tag: HeaderValue,
    session: SessionId,
}

async fn watch() -> Watching {
    let (server, directory) = Server::start().await;
    server.add(json!("front door")).await;
    let answer = post(&server, "/streams/front%20door/whep", SDP, BROWSER).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let path = answer.headers["location"].to_str().unwrap().to_owned();
    let session = path.rsplit('/').next().unwrap().parse().unwrap();
    Watching { server, _directory: directory, path, tag: answer.headers["etag"].clone(), session }
}

impl Watching {
    async fn patch(&self, tag: Option<&str>, body: &str) -> Answer {
        let mut request = request(Method::PATCH, &self.path).header("content-type", FRAGMENT);
        if let Some(tag) = tag {
            request = request.header("if-match", tag);
        }
        self.server.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    fn tag(&self) -> Option<&str> {
        Some(self.tag.to_str().unwrap())
    }
}

fn fragment(ufrag: &str, password: &str) -> String {
    format!(
        "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
         a=candidate:1 1 udp 2113937151 198.51.100.8 50001 typ host\r\na=end-of-candidates\r\n"
    )
}

fn trickled() -> String {
    fragment("vIeW", "viewersPasswordOf24Chars")
}

fn restarting() -> String {
    fragment("nEwOne", "anotherPasswordOf24Chars")
}

#[tokio::test]
async fn an_offer_becomes_a_session_with_a_url_and_a_tag() {
    let Watching { server, path, tag, session, .. } = watch().await;
    assert_eq!(path, format!("/streams/front%20door/whep/{session}"));
    let ufrag = server.plane().webrtc[&session].local.ufrag.clone();
    assert_eq!(tag, format!("\"{ufrag}\""));
    let again = post(&server, "/streams/front%20door/whep", "Application/SDP; charset=utf-8", BROWSER).await;
    assert_eq!(
        (again.status.as_u16(), &again.headers["content-type"]),
        (201, &HeaderValue::from_static(SDP))
    );
    assert_eq!(again.headers["accept-patch"], FRAGMENT);
    assert_ne!(again.headers["etag"], tag);
    assert!(again.body.starts_with("v=0\r\n") && again.body.contains("a=candidate:"), "{}", again.body);
    let list = server.get("/streams/front%20door/webrtc").await.json();
    assert_eq!(list["sessions"].as_array().unwrap().len(), 2);
    assert_eq!(list["sessions"][0]["session_id"], json!(session));
}

#[tokio::test]
async fn offers_are_refused_as_everywhere_and_leave_nothing() {
    let (server, _directory) = Server::start().await;
    server.add(json!(7)).await;
    for (what, sdp, status, code) in offers::refused() {
        let answer = post(&server, "/streams/7/whep", SDP, &sdp).await;
        assert_eq!(answer.refusal(), (status, code.into()), "{what}: {answer:?}");
    }
    for content_type in ["application/json", "text/plain", "application/sdpx", ""] {
        let answer = post(&server, "/streams/7/whep", content_type, BROWSER).await;
        assert_eq!(answer.refusal(), (415, "unsupported_media_type".into()), "{content_type}");
    }
    let no_text = request(Method::POST, "/streams/7/whep").header("content-type", SDP);
    let answer = server.send(no_text.body(Body::from(vec![b'v', b'=', 0xff])).unwrap()).await;
    assert_eq!(answer.refusal(), (400, "invalid_sdp".into()));
    let answer = post(&server, "/streams/8/whep", SDP, BROWSER).await;
    assert_eq!(answer.refusal(), (404, "unknown_stream".into()));
    assert_eq!(server.get("/streams/7").await.json()["viewers"], 0);
    assert!(server.plane().webrtc.is_empty());
}

#[tokio::test]
async fn candidates_trickle_to_the_shard() {
    let mut watching = watch().await;
    for tag in [watching.tag.to_str().unwrap().to_owned(), "*".to_owned()] {
        let answer = watching.patch(Some(&tag), &trickled()).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (204, ""));
        assert!(!answer.headers.contains_key("etag"));
        watching.server.until_told("candidates").await;
    }
    let plane = watching.server.plane();
    let (session, candidates) = &plane.candidates[0];
    assert_eq!((*session, candidates[0].address), (watching.session, "198.51.100.8:50001".parse().unwrap()));
    assert!(plane.restarts.is_empty());
}

#[tokio::test]
async fn a_request_must_mean_the_ice_session_that_there_is() {
    let watching = watch().await;
    let required = watching.patch(None, &trickled()).await;
    assert_eq!(required.refusal(), (428, "precondition_required".into()));
    let other = watching.patch(Some("\"other\""), &trickled()).await;
    assert_eq!(other.refusal(), (412, "precondition_failed".into()));
    let weak = format!("W/{}", watching.tag().unwrap());
    assert_eq!(watching.patch(Some(&weak), &trickled()).await.status, 412);
    assert_eq!(watching.patch(Some("\"other\""), &restarting()).await.status, 412);
    assert!(watching.server.plane().candidates.is_empty() && watching.server.plane().restarts.is_empty());
}

#[tokio::test]
async fn ice_restarts_with_new_credentials_and_a_new_tag() {
    let watching = watch().await;
    let answer = watching.patch(Some("*"), &restarting()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["content-type"], FRAGMENT);
    {
        let plane = watching.server.plane();
        let (session, local, remote) = &plane.restarts[0];
        assert_eq!((*session, remote.ufrag.as_str()), (watching.session, "nEwOne"));
        assert_eq!(answer.headers["etag"], format!("\"{}\"", local.ufrag));
        let before = &plane.webrtc[&watching.session].local;
        assert!(before.ufrag != local.ufrag && before.password != local.password);
        assert_eq!(before.ufrag[..2], local.ufrag[..2], "the same shard");
        assert!(answer.body.contains(&format!("a=ice-ufrag:{}", local.ufrag)), "{}", answer.body);
        assert!(answer.body.contains(&format!("a=ice-pwd:{}", local.password)), "{}", answer.body);
        assert!(answer.body.contains("a=candidate:"), "{}", answer.body);
    }
    assert_eq!(watching.patch(watching.tag(), &trickled()).await.status, 412, "the old tag is void");
    let tag = answer.headers["etag"].to_str().unwrap();
    assert_eq!(
        watching.patch(Some(tag), &restarting()).await.status,
        204,
        "its own credentials are no restart"
    );
    assert_eq!(watching.server.plane().restarts.len(), 1);
}

#[tokio::test]
async fn a_restart_that_fails_leaves_the_session_as_it_was() {
    let watching = watch().await;
    watching.server.plane().busy = true;
    assert_eq!(watching.patch(Some("*"), &restarting()).await.refusal(), (503, "busy".into()));
    assert_eq!(watching.patch(watching.tag(), &trickled()).await.refusal(), (503, "busy".into()));
    watching.server.plane().busy = false;
    assert_eq!(watching.patch(watching.tag(), &trickled()).await.status, 204);
    assert_eq!(watching.server.get("/streams/front%20door").await.json()["viewers"], 1);
}

#[tokio::test]
async fn a_bad_fragment_is_refused() {
    let watching = watch().await;
    let bad = watching.patch(Some("*"), "a=ice-ufrag:x\r\na=ice-pwd:short\r\n").await;
    assert_eq!(bad.refusal(), (400, "invalid_sdp".into()));
    let large = watching.patch(Some("*"), &trickled().repeat(1000)).await;
    assert_eq!(large.refusal(), (413, "body_too_large".into()));
    let request = request(Method::PATCH, &watching.path).header("if-match", "*").header("content-type", SDP);
    let answer = watching.server.send(request.body(Body::from(trickled())).unwrap()).await;
    assert_eq!(answer.refusal(), (415, "unsupported_media_type".into()));
    let path = format!("/streams/front%20door/whep/{}", SessionId::from_u128(1));
    let gone = Watching { path, ..watching };
    assert_eq!(gone.patch(Some("*"), &trickled()).await.refusal(), (404, "unknown_session".into()));
}

#[tokio::test]
async fn a_session_is_deleted_once_whatever_the_tag() {
    let mut watching = watch().await;
    let request = request(Method::DELETE, &watching.path).header("if-match", "\"other\"");
    let answer = watching.server.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, ""));
    watching.server.until_told("end").await;
    assert!(watching.server.plane().webrtc.is_empty());
    assert_eq!(watching.server.delete(&watching.path).await.refusal(), (404, "unknown_session".into()));
}

#[tokio::test]
async fn other_methods_are_named_those_that_are_allowed() {
    let watching = watch().await;
    for (path, methods, allowed) in [
        (watching.path.as_str(), &["GET", "HEAD", "POST", "PUT"][..], ["PATCH", "DELETE"]),
        ("/streams/front%20door/whep", &["GET", "HEAD", "PUT", "PATCH", "DELETE"][..], ["POST", "OPTIONS"]),
    ] {
        for method in methods {
            let request = request(method.parse().unwrap(), path);
            let answer = watching.server.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, 405, "{method} {path}");
            let allow = answer.headers["allow"].to_str().unwrap();
            assert!(allowed.iter().all(|name| allow.contains(name)), "{allow}");
        }
    }
}

#[tokio::test]
async fn options_tell_what_can_be_posted_with_and_without_an_origin() {
    let (server, _directory) = Server::start().await;
    server.add(json!(7)).await;
    let plain = request(Method::OPTIONS, "/streams/7/whep").body(Body::empty()).unwrap();
    let answer = server.send(plain).await;
    assert!(answer.status.is_success());
    let asterisk = request(Method::OPTIONS, "*").body(Body::empty()).unwrap();
    assert!(server.send(asterisk).await.status.is_success());
    assert_eq!(
        (&answer.headers["accept-post"], &answer.headers["allow"]),
        (&HeaderValue::from_static(SDP), &HeaderValue::from_static("POST, OPTIONS"))
    );
    for (path, method) in
        [("/streams/7/whep", "POST"), ("/streams/7/whep/x", "PATCH"), ("/streams/7/whep/x", "DELETE")]
    {
        let preflight = request(Method::OPTIONS, path)
            .header("origin", "https://a.example")
            .header("access-control-request-method", method)
            .header("access-control-request-headers", "content-type,if-match,authorization");
        let answer = server.send(preflight.body(Body::empty()).unwrap()).await;
        assert!(answer.status.is_success(), "{answer:?}");
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        assert!(answer.headers["access-control-allow-methods"].to_str().unwrap().contains(method));
        assert!(answer.headers["access-control-allow-headers"].to_str().unwrap().contains("if-match"));
    }
}

#[tokio::test]
async fn a_page_of_another_origin_may_read_what_it_needs() {
    let (server, _directory) = Server::start().await;
    server.add(json!(7)).await;
    let request = request(Method::POST, "/streams/7/whep")
        .header("origin", "https://a.example")
        .header("content-type", SDP);
    let answer = server.send(request.body(Body::from(BROWSER)).unwrap()).await;
    let exposed = answer.headers["access-control-expose-headers"].to_str().unwrap().to_ascii_lowercase();
    for name in ["location", "etag", "link", "accept-patch", "allow"] {
        assert!(exposed.split(',').any(|exposed| exposed.trim() == name), "{name}: {exposed}");
    }
}
