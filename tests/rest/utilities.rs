//! Health, metrics, pages, and what every path has in common.

use axum::body::Body;
use hyper::Method;
use lanecast::config::CorsOrigins;
use lanecast::control_plane::Limits;
use serde_json::json;

use crate::harness::{LIMITS, Server, request};

#[tokio::test]
async fn health_tells_the_version() {
    let (server, _directory) = Server::start().await;
    let healthy = json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")});
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(server.get(path).await.json(), healthy, "{path}");
    }
    server.control.stop();
    assert_eq!(server.get("/readyz").await.refusal(), (503, "busy".into()));
    assert_eq!(server.get("/livez").await.status, 200);
    let body = json!({"source_id": 7, "rtsp_url": "rtsp://cam/"});
    assert_eq!(server.post("/streams", &body).await.refusal(), (503, "busy".into()));
}

#[tokio::test]
async fn metrics_count_shards_and_streams() {
    let (server, _directory) = Server::start().await;
    server.add(json!("a\"b")).await;
    let answer = server.get("/metrics").await;
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(answer.body.contains("lanecast_shard_up{shard=\"1\"} 1\n"), "{}", answer.body);
    assert!(answer.body.contains("lanecast_stream_packets_sent_total{source_id=\"a\\\"b\",shard=\"0\"} 3\n"));
}

#[tokio::test]
async fn the_page_lists_the_streams() {
    let (server, _directory) = Server::start().await;
    server.add(json!("<b>")).await;
    let answer = server.get("/").await;
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(answer.body.contains("&lt;b&gt;") && !answer.body.contains("<b>"));
    assert!(!answer.body.contains("http://") && !answer.body.contains("https://"));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_json_errors() {
    let (server, _directory) = Server::start().await;
    for path in [
        "/nothing",
        "/streams/",
        "/streams/7/nothing",
        "/swagger-ui/nothing",
        "//",
        "/streams/7/wsc-rtp/x/y/z",
    ] {
        assert_eq!(server.get(path).await.refusal(), (404, "not_found".into()), "{path}");
    }
    for (method, path) in [
        (Method::PUT, "/streams/7"),
        (Method::DELETE, "/streams"),
        (Method::POST, "/health"),
        (Method::GET, "/client-session-control/x/live"),
    ] {
        let answer = server.send(request(method.clone(), path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.refusal(), (405, "method_not_allowed".into()), "{method} {path}");
        assert!(answer.headers.contains_key("allow"), "{method} {path}");
    }
}

#[tokio::test]
async fn any_page_may_call_without_cookies() {
    let (server, _directory) = Server::start().await;
    let answer = server.send(preflight("https://a.example")).await;
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert!(answer.headers["access-control-allow-methods"].to_str().unwrap().contains("PATCH"));
    assert_eq!(answer.headers["access-control-allow-headers"], "content-type,authorization");
    assert!(!answer.headers.contains_key("access-control-allow-credentials"));
}

#[tokio::test]
async fn other_pages_may_not_where_the_operator_named_some() {
    let directory = tempfile::tempdir().unwrap();
    let origins = CorsOrigins::Only(vec!["https://a.example".into()]);
    let server = Server::with(directory.path(), Limits { body_bytes: 1024, ..LIMITS }, origins).await;
    let answer = server.send(preflight("https://a.example")).await;
    assert_eq!(answer.headers["access-control-allow-origin"], "https://a.example");
    let answer = server.send(preflight("https://b.example")).await;
    assert!(!answer.headers.contains_key("access-control-allow-origin"), "{answer:?}");
}

fn preflight(origin: &str) -> hyper::Request<Body> {
    request(Method::OPTIONS, "/streams")
        .header("origin", origin)
        .header("access-control-request-method", "PATCH")
        .header("access-control-request-headers", "content-type,authorization")
        .body(Body::empty())
        .unwrap()
}
