//! The verbs of a session, under all prefixes.

use std::time::Duration;

use lanecast_shard::{Event, SessionError, SessionId};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Answer, Played, Server};
use crate::offers::BROWSER;

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

/// A session of each kind, under every prefix that it has.
async fn under_every_prefix() -> (Server, tempfile::TempDir, [(SessionId, String); 4]) {
    let (server, directory, prefixes) = with_session().await;
    let wsc = *server.plane().sessions.keys().next().unwrap();
    let offered = server.post("/streams/other/webrtc", json!({ "offer": BROWSER })).await.json();
    let webrtc: SessionId = offered["session_id"].as_str().unwrap().parse().unwrap();
    let [below, alone] = prefixes;
    let paths = [
        (wsc, below),
        (wsc, alone),
        (webrtc, format!("/streams/other/webrtc/{webrtc}")),
        (webrtc, format!("/client-session-control/{webrtc}")),
    ];
    (server, directory, paths)
}

async fn seek(server: &Server, prefix: &str, timestamp: impl Into<Value>) -> Answer {
    server.post(&format!("{prefix}/seek"), json!({"timestamp": timestamp.into()})).await
}

async fn set_speed(server: &Server, prefix: &str, speed: impl Into<Value>) -> Answer {
    server.post(&format!("{prefix}/speed"), json!({"speed": speed.into()})).await
}

#[tokio::test]
async fn every_session_seeks_pauses_hurries_and_returns_under_every_prefix() {
    let (server, _directory, paths) = under_every_prefix().await;
    for (session, prefix) in paths {
        let mode = async || server.get(&format!("{prefix}/mode")).await.json();
        let recorded =
            |speed: f64| json!({"is_live": false, "current_time_ms": 1_700_000_000_123_i64, "speed": speed});
        let live = json!({"is_live": true, "current_time_ms": null, "speed": 1.0});
        assert_eq!(mode().await, live);
        assert_eq!(seek(&server, &prefix, 1_700_000_000_123.75).await.json(), recorded(1.0));
        for speed in [0.0, 0.25, 16.0, 1.5] {
            assert_eq!(set_speed(&server, &prefix, speed).await.json(), recorded(speed));
            assert_eq!(mode().await, recorded(speed));
        }
        assert_eq!(server.post(&format!("{prefix}/live"), "").await.json(), live);
        assert_eq!(mode().await, live);
        let played = std::mem::take(&mut server.plane().played);
        let expected = [
            Played::Seek(1_700_000_000_123),
            Played::Speed(0.0),
            Played::Speed(0.25),
            Played::Speed(16.0),
            Played::Speed(1.5),
            Played::Live,
        ];
        assert_eq!(played, expected.map(|what| (session, what)), "{prefix}");
    }
}

#[tokio::test]
async fn a_timestamp_is_a_number_and_any_number_is_a_time() {
    let (server, _directory, prefixes) = with_session().await;
    let prefix = &prefixes[1];
    for (body, code) in [
        ("{\"timestamp\":\"now\"}", "invalid_field"),
        ("{\"timestamp\":null}", "invalid_field"),
        ("{\"timestamp\":[1]}", "invalid_field"),
        ("{\"timestamp\":1e999}", "invalid_field"),
        ("{\"timestamp\":-1e999}", "invalid_field"),
        ("{\"timestamp\":NaN}", "malformed_json"),
        ("{}", "missing_field"),
    ] {
        let answer = server.post(&format!("{prefix}/seek"), body).await;
        assert_eq!(answer.refusal(), (400, code.into()), "{body}");
    }
    assert_eq!(server.plane().played, []);
    let year_9999 = 253_402_300_799_999;
    for (timestamp, unix_ms) in
        [(json!(-1), -1), (json!(-0.5), -1), (json!(1e300), year_9999), (json!(-1e300), -year_9999)]
    {
        assert_eq!(seek(&server, prefix, timestamp).await.status, 200);
        let (_, played) = server.plane().played.pop().unwrap();
        assert_eq!(played, Played::Seek(unix_ms));
    }
}

#[tokio::test]
async fn what_the_shard_refuses_is_told_and_the_session_plays_on() {
    let (server, _directory, paths) = under_every_prefix().await;
    for ((_, prefix), name) in paths.into_iter().zip(["a b", "a b", "other", "other"]) {
        let mode = async || server.get(&format!("{prefix}/mode")).await.json();
        assert_eq!(seek(&server, &prefix, 5000).await.status, 200);
        let before = mode().await;
        for (error, status, code) in [
            (SessionError::NotRecorded, 404, "not_recorded"),
            (SessionError::Unreadable, 503, "recordings_unreadable"),
            (SessionError::Full, 503, "busy"),
            (SessionError::Unknown, 404, "unknown_session"),
        ] {
            server.plane().refuse_to_play = Some(error);
            let answer = seek(&server, &prefix, 9000).await;
            assert_eq!(answer.refusal(), (status, code.into()), "{prefix}");
            assert_eq!(answer.headers.contains_key("retry-after"), status == 503);
            if error == SessionError::NotRecorded {
                let message = answer.json()["message"].as_str().unwrap().to_owned();
                assert!(message.contains(&format!("{name:?}")), "{prefix}: {message}");
            }
            server.plane().refuse_to_play = None;
            assert_eq!(mode().await, before);
        }
    }
}

#[tokio::test]
async fn speed_is_for_recordings_and_within_bounds() {
    let (server, _directory, prefixes) = with_session().await;
    for prefix in prefixes {
        for speed in [0.0, 0.25, 2.0, 16.0] {
            let refusal = set_speed(&server, &prefix, speed).await.refusal();
            assert_eq!(refusal, (409, "session_is_live".into()));
        }
        server.plane().played.clear();
        for speed in [-1.0, -0.25, -1e300] {
            let refusal = set_speed(&server, &prefix, speed).await.refusal();
            assert_eq!(refusal, (422, "speed_not_supported".into()), "{speed}");
        }
        for speed in [0.1, 0.249, 16.1, 1e300, 5e-324] {
            let refusal = set_speed(&server, &prefix, speed).await.refusal();
            assert_eq!(refusal, (400, "invalid_field".into()), "{speed}");
        }
        for body in ["{\"speed\":1e999}", "{\"speed\":-1e999}", "{\"speed\":\"fast\"}", "{\"speed\":null}"] {
            let answer = server.post(&format!("{prefix}/speed"), body).await;
            assert_eq!(answer.refusal(), (400, "invalid_field".into()), "{body}");
        }
        assert_eq!(server.plane().played, []);
        assert_eq!(seek(&server, &prefix, 5000).await.status, 200);
        assert_eq!(set_speed(&server, &prefix, -0.0).await.json()["speed"], 0.0);
        assert_eq!(server.post(&format!("{prefix}/live"), "").await.status, 200);
    }
}

#[tokio::test]
async fn a_shard_that_does_not_answer_a_seek_is_given_up_after_five_seconds() {
    let (server, _directory, prefixes) = with_session().await;
    server.plane().mute = true;
    tokio::time::pause();
    for (verb, body, seconds) in
        [("seek", json!({"timestamp": 1}), 5), ("speed", json!({"speed": 1}), 2), ("live", json!({}), 2)]
    {
        let start = Instant::now();
        let answer = server.post(&format!("{}/{verb}", prefixes[1]), body).await;
        assert_eq!(answer.refusal(), (503, "busy".into()), "{verb}");
        assert_eq!(answer.headers["retry-after"], "1");
        let waited = start.elapsed();
        assert!(
            waited >= Duration::from_secs(seconds) && waited < Duration::from_secs(seconds + 1),
            "{waited:?}"
        );
    }
    assert_eq!(server.plane().sessions.len(), 1);
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
