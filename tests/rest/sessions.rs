//! The verbs of a session, under both prefixes.

use lanecast_shard::Event;
use serde_json::{Value, json};

use crate::harness::Server;

async fn with_session() -> (Server, tempfile::TempDir, [String; 2]) {
    let (server, directory) = Server::start().await;
    let stream = server.add(json!("a b")).await;
    server.add(json!("other")).await;
    let session = server.open_session(stream);
    let prefixes =
        [format!("/streams/a%20b/wsc-rtp/{session}"), format!("/client-session-control/{session}")];
    (server, directory, prefixes)
}

#[tokio::test]
async fn a_session_is_live() {
    let (server, _directory, prefixes) = with_session().await;
    let live = json!({"is_live": true, "current_time_ms": null, "speed": 1.0});
    for prefix in prefixes {
        assert_eq!(server.get(&format!("{prefix}/mode")).await.json(), live);
        assert_eq!(server.post(&format!("{prefix}/live"), "").await.json(), live);
        assert_eq!(server.post(&format!("{prefix}/live"), "{}").await.json(), live);
    }
}

#[tokio::test]
async fn nothing_is_recorded_yet() {
    let (server, _directory, prefixes) = with_session().await;
    for prefix in prefixes {
        let seek = async |body: Value| server.post(&format!("{prefix}/seek"), body).await.refusal();
        assert_eq!(seek(json!({"timestamp": 1_700_000_000_000_i64})).await, (409, "not_recorded".into()));
        assert_eq!(seek(json!({"timestamp": "now"})).await, (400, "invalid_field".into()));
        assert_eq!(seek(json!({})).await, (400, "missing_field".into()));
        let speed = async |body: Value| server.post(&format!("{prefix}/speed"), body).await.refusal();
        assert_eq!(speed(json!({"speed": 2})).await, (409, "session_is_live".into()));
        for out_of_range in [0.0, -1.0, 0.2, 16.1, 1e300] {
            assert_eq!(speed(json!({"speed": out_of_range})).await, (400, "invalid_field".into()));
        }
        let infinite = server.post(&format!("{prefix}/speed"), "{\"speed\":1e999}").await;
        assert_eq!(infinite.status, 400);
    }
    for path in ["recordings", "export?from=1&to=2", "snapshot.jpg"] {
        assert_eq!(
            server.get(&format!("/streams/other/{path}")).await.refusal(),
            (409, "not_recorded".into())
        );
    }
}

#[tokio::test]
async fn a_session_can_be_closed_once() {
    for prefix in [0, 1] {
        let (mut server, _directory, prefixes) = with_session().await;
        assert_eq!(server.delete(&prefixes[prefix]).await.status, 204);
        assert_eq!(server.delete(&prefixes[prefix]).await.refusal(), (404, "unknown_session".into()));
        server.until_told("end").await;
        assert!(server.plane().sessions.is_empty());
        assert_eq!(server.get("/streams/a%20b").await.json()["viewers"], 0);
    }
}

#[tokio::test]
async fn unknown_sessions_are_404() {
    let (server, _directory, prefixes) = with_session().await;
    let unknown = (404, "unknown_session".to_owned());
    for session in ["00000000-0000-0000-0000-0000000000ff", "nonsense", "%20"] {
        for prefix in ["/streams/other/wsc-rtp", "/client-session-control"] {
            assert_eq!(server.get(&format!("{prefix}/{session}/mode")).await.refusal(), unknown);
            assert_eq!(server.post(&format!("{prefix}/{session}/live"), "").await.refusal(), unknown);
            assert_eq!(
                server.post(&format!("{prefix}/{session}/seek"), json!({"timestamp": 1})).await.refusal(),
                unknown
            );
            assert_eq!(server.delete(&format!("{prefix}/{session}")).await.refusal(), unknown);
        }
    }
    let of_another = prefixes[0].replace("a%20b", "other");
    assert_eq!(server.get(&format!("{of_another}/mode")).await.refusal(), unknown);
    let of_none = prefixes[0].replace("a%20b", "nowhere");
    assert_eq!(server.get(&format!("{of_none}/mode")).await.refusal(), (404, "unknown_stream".into()));
}

#[tokio::test]
async fn a_session_that_ended_is_forgotten() {
    let (server, _directory, prefixes) = with_session().await;
    let (stream, _) = server.control.stream("a b").unwrap();
    let session = *server.plane().sessions.keys().next().unwrap();
    server.emit(Event::SessionEnded { stream, session, reason: "no ping for 5 s".into() }).await;
    assert_eq!(server.get(&format!("{}/mode", prefixes[1])).await.refusal(), (404, "unknown_session".into()));
    assert_eq!(server.get("/streams/a%20b").await.json()["viewers"], 0);
}
