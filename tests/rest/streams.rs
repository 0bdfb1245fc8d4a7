//! `/streams`.

use axum::body::Body;
use hyper::Method;
use lanecast_protocol::codec::Codec;
use lanecast_protocol::wsc::StreamState;
use lanecast_shard::{Event, StreamStatus};
use serde_json::{Value, json};

use crate::harness::{Server, request};

fn status(state: StreamState, reason: Option<&str>) -> StreamStatus {
    StreamStatus {
        state,
        reason: reason.map(str::to_owned),
        active_input: Some(1),
        codec: Some(Codec::H265),
        width: Some(1920),
        height: Some(1080),
        profile_level_id: None,
        recording: lanecast_shard::RecordingStatus::Off,
        slate: lanecast_shard::SlateStatus::Off,
    }
}

#[tokio::test]
async fn revision_1_is_created_and_shown_without_credentials() {
    let (server, _directory) = Server::start().await;
    let body = json!({"source_id": 7, "rtsp_url": "rtsp://admin:s3cret@cam:554/live?token=abcd", "should_record": true,
        "restart_interval_secs": 5, "unknown": {"ignored": true}});
    let answer = server.post("/streams", &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.headers["location"], "/streams/7");
    let expected = json!({
        "source_id": 7, "rtsp_url": "rtsp://cam:554/live",
        "rtsp_inputs": [{"label": "main", "url": "rtsp://cam:554/live", "priority": 0, "transport": "auto", "tls": null}],
        "should_record": true, "restart_interval_secs": 5, "on_demand": false, "state": "Connecting",
        "state_reason": null, "active_input": null, "slate": {"state": "off", "since": null, "reason": null},
        "codec": null, "width": null, "height": null, "recording_start_time": null,
        "recording": {"state": "off", "reason": null, "bytes": 0, "segments": 0, "dropped_gops": 0},
        "webrtc_sessions": [], "viewers": 0, "shard": 0,
    });
    assert_eq!(answer.json(), expected);
    assert_eq!(server.get("/streams/7").await.json(), expected);
    assert_eq!(server.get("/streams").await.json(), json!({"streams": [expected]}));
}

#[tokio::test]
async fn the_shard_gets_what_the_camera_needs() {
    let (mut server, _directory) = Server::start().await;
    let body = json!({"source_id": "front/door", "username": "u", "password": "p", "transport": "udp", "rtsp_inputs": [
        {"label": "spare", "url": "rtsp://b:c%40d@spare/", "priority": 5, "transport": "tcp"},
        {"label": "best", "url": "rtsp://best/?token=abcd", "priority": 1},
    ]});
    assert_eq!(server.post("/streams", &body).await.status, 201);
    server.until_told("add").await;
    let (id, _) = server.control.stream("front/door").unwrap();
    let config = server.plane().streams[&id].1.clone();
    assert_eq!(config.name, "front/door");
    let inputs: Vec<_> = config
        .source
        .inputs
        .iter()
        .map(|input| {
            let credentials = input.credentials.as_ref().unwrap();
            (
                input.label.as_str(),
                input.url.as_str(),
                credentials.username.as_str(),
                credentials.password.as_str(),
            )
        })
        .collect();
    assert_eq!(
        inputs,
        [("best", "rtsp://best/?token=abcd", "u", "p"), ("spare", "rtsp://spare/", "b", "c@d")]
    );
    assert_eq!(format!("{:?}", config.source.inputs[0].transport), "Udp");
    assert_eq!(format!("{:?}", config.source.inputs[1].transport), "Tcp");
}

#[tokio::test]
async fn ids_are_percent_encoded_text_in_a_path() {
    let (server, _directory) = Server::start().await;
    for (id, path) in [
        ("front door", "front%20door"),
        ("a/b?c#d", "a%2Fb%3Fc%23d"),
        ("Tür", "T%C3%BCr"),
        ("100%", "100%25"),
    ] {
        server.add(json!(id)).await;
        let answer = server.get(&format!("/streams/{path}")).await;
        assert_eq!(answer.json()["source_id"], id);
        assert_eq!(server.delete(&format!("/streams/{path}")).await.status, 204);
    }
    assert_eq!(server.get("/streams/%ff").await.refusal(), (400, "invalid_path".into()));
}

#[tokio::test]
async fn the_same_text_is_the_same_id() {
    let (server, _directory) = Server::start().await;
    server.add(json!(7)).await;
    for id in [json!(7), json!("7")] {
        let body = json!({"source_id": id, "rtsp_url": "rtsp://cam/"});
        assert_eq!(server.post("/streams", &body).await.refusal(), (409, "duplicate_source_id".into()));
    }
    server.delete("/streams/7").await;
    let body = json!({"source_id": "7", "rtsp_url": "rtsp://cam/"});
    assert_eq!(server.post("/streams", &body).await.json()["source_id"], "7");
}

#[tokio::test]
async fn bad_bodies_are_refused_by_name_and_create_nothing() {
    let (server, _directory) = Server::start().await;
    let url = "rtsp://cam/";
    let input = json!({"label": "a", "url": url, "priority": 0});
    for (body, status, code, named) in [
        (json!({"rtsp_url": url}), 400, "missing_field", "source_id"),
        (json!({"source_id": 7}), 400, "missing_field", "rtsp_url"),
        (json!({"source_id": 7, "rtsp_url": 5}), 400, "invalid_field", "rtsp_url"),
        (json!({"source_id": -7, "rtsp_url": url}), 400, "invalid_field", "source_id"),
        (json!({"source_id": null, "rtsp_url": url}), 400, "invalid_field", "source_id"),
        (
            json!({"source_id": 7, "rtsp_url": url, "should_record": "yes"}),
            400,
            "invalid_field",
            "should_record",
        ),
        (json!({"source_id": 7, "rtsp_url": url, "username": 1}), 400, "invalid_field", "username"),
        (json!({"source_id": 7, "rtsp_url": url, "transport": "http"}), 400, "invalid_field", "transport"),
        (
            json!({"source_id": 7, "rtsp_url": url, "restart_interval_secs": -1}),
            400,
            "invalid_field",
            "restart_interval_secs",
        ),
        (
            json!({"source_id": 7, "rtsp_inputs": [{"label": "a", "url": url}]}),
            400,
            "missing_field",
            "priority",
        ),
        (
            json!({"source_id": 7, "rtsp_inputs": [input, {"label": 1}]}),
            400,
            "invalid_field",
            "rtsp_inputs[1].label",
        ),
        (json!({"source_id": 7, "rtsp_inputs": {}}), 400, "invalid_field", "rtsp_inputs"),
        (json!({"source_id": 7, "rtsp_url": "no url"}), 400, "invalid_url", "rtsp_url"),
        (json!({"source_id": 7, "rtsp_url": "ftp://cam/"}), 422, "unsupported_scheme", "ftp"),
        (json!({"source_id": "", "rtsp_url": url}), 422, "invalid_value", "source_id"),
        (json!({"source_id": "x".repeat(129), "rtsp_url": url}), 422, "invalid_value", "source_id"),
        (
            json!({"source_id": 7, "rtsp_url": url, "restart_interval_secs": 0}),
            422,
            "invalid_value",
            "restart_interval_secs",
        ),
        (json!([7, url]), 400, "invalid_field", "object"),
    ] {
        let answer = server.post("/streams", &body).await;
        assert_eq!(answer.refusal(), (status, code.into()), "{body} {answer:?}");
        assert!(answer.json()["message"].as_str().unwrap().contains(named), "{body} {answer:?}");
    }
    assert_eq!(server.post("/streams", "{\"source_id\":").await.refusal(), (400, "malformed_json".into()));
    assert_eq!(server.get("/streams").await.json(), json!({"streams": []}));
    assert!(server.plane().streams.is_empty());
}

#[tokio::test]
async fn a_refused_url_is_not_repeated() {
    let (server, _directory) = Server::start().await;
    for url in [
        "rtsp://admin:s3cret@",
        "rtsp://admin:s3cret@cam:0/",
        "ftp://admin:s3cret@cam/",
        "rtsp://admin:s3cret#@cam/",
    ] {
        let answer = server.post("/streams", json!({"source_id": 7, "rtsp_url": url})).await;
        assert!(answer.status.is_client_error() && !answer.body.contains("s3cret"), "{answer:?}");
    }
}

#[tokio::test]
async fn only_json_is_taken() {
    let (server, _directory) = Server::start().await;
    let body = json!({"source_id": 7, "rtsp_url": "rtsp://cam/"}).to_string();
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
        let request = request(Method::POST, "/streams").header("content-type", content_type);
        let answer = server.send(request.body(Body::from(body.clone())).unwrap()).await;
        assert_eq!(answer.refusal(), (415, "unsupported_media_type".into()), "{content_type}");
    }
    let request = request(Method::POST, "/streams").header("content-type", "Application/JSON; charset=utf-8");
    assert_eq!(server.send(request.body(Body::from(body)).unwrap()).await.status, 201);
}

#[tokio::test]
async fn a_body_over_the_bound_is_refused_whatever_its_framing() {
    let (server, _directory) = Server::start().await;
    let large = format!("{{\"source_id\":\"{}\"}}", "x".repeat(1 << 20));
    assert_eq!(server.post("/streams", &large).await.refusal(), (413, "body_too_large".into()));
    let request = request(Method::POST, "/streams").header("content-type", "application/json");
    let chunks = futures_of(large);
    assert_eq!(server.send(request.body(chunks).unwrap()).await.refusal(), (413, "body_too_large".into()));
}

/// A body of unknown length.
fn futures_of(text: String) -> Body {
    use http_body_util::{BodyExt, Full};
    Body::new(Full::new(axum::body::Bytes::from(text)).map_frame(|frame| frame).boxed())
}

#[tokio::test]
async fn unknown_streams_are_404() {
    let (server, _directory) = Server::start().await;
    let unknown = (404, "unknown_stream".to_owned());
    assert_eq!(server.get("/streams/7").await.refusal(), unknown);
    assert_eq!(server.delete("/streams/7").await.refusal(), unknown);
    assert_eq!(server.patch("/streams/7", "{}").await.refusal(), unknown);
    assert_eq!(server.get("/streams/7/wsc-rtp").await.refusal(), unknown);
    assert_eq!(server.get("/streams/7/recordings").await.refusal(), unknown);
}

#[tokio::test]
async fn a_view_follows_the_shard() {
    let (server, _directory) = Server::start().await;
    let inputs = json!([{"label": "a", "url": "rtsp://u:p@a/", "priority": 0}, {"label": "b", "url": "rtsp://u:p@b/", "priority": 1}]);
    server.post("/streams", json!({"source_id": "x", "rtsp_inputs": inputs})).await;
    let (stream, _) = server.control.stream("x").unwrap();
    server.emit(Event::StreamChanged { stream, status: status(StreamState::Active, None) }).await;
    let view = server.get("/streams/x").await.json();
    assert_eq!(
        (&view["state"], &view["codec"], &view["width"], &view["height"]),
        (&json!("Active"), &json!("H265"), &json!(1920), &json!(1080))
    );
    assert_eq!(view["active_input"], json!({"label": "b", "url": "rtsp://b/", "priority": 1}));
    let status = status(StreamState::Error, Some("cannot read rtsp://u:pass@b/"));
    server.emit(Event::StreamChanged { stream, status }).await;
    let view = server.get("/streams/x").await.json();
    assert_eq!(
        (&view["state"], &view["state_reason"]),
        (&json!("Error"), &json!("cannot read rtsp://u:pass@b/"))
    );
}

#[tokio::test]
async fn a_patch_reaches_the_shard_and_keeps_the_sessions() {
    let (mut server, _directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    let session = server.open_session(stream);
    let answer = server
        .patch("/streams/7", json!({"rtsp_url": "rtsp://new/", "username": "u", "should_record": true}))
        .await;
    assert_eq!(answer.status, 200);
    let view = answer.json();
    assert_eq!(
        (&view["rtsp_url"], &view["should_record"], &view["viewers"]),
        (&json!("rtsp://new/"), &json!(true), &json!(1))
    );
    server.until_told("update").await;
    let input = server.plane().streams[&stream].1.source.inputs[0].clone();
    assert_eq!((input.url.as_str(), input.credentials.unwrap().username.as_str()), ("rtsp://new/", "u"));
    assert!(server.plane().sessions.contains_key(&session));
    assert_eq!(server.patch("/streams/7", json!({"rtsp_url": "ftp://x/"})).await.refusal().0, 422);
    assert_eq!(server.get("/streams/7").await.json()["rtsp_url"], "rtsp://new/");
}

#[tokio::test]
async fn a_removed_stream_takes_its_sessions_along() {
    let (mut server, _directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    let session = server.open_session(stream);
    assert_eq!(server.get("/streams/7").await.json()["viewers"], 1);
    assert_eq!(server.delete("/streams/7").await.status, 204);
    server.until_told("remove").await;
    assert!(server.plane().streams.is_empty());
    let path = format!("/client-session-control/{session}/mode");
    assert_eq!(server.get(&path).await.refusal(), (404, "unknown_session".into()));
}

#[tokio::test]
async fn streams_survive_a_restart_as_they_were_left() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::over(directory.path()).await;
    let body =
        json!({"source_id": 7, "rtsp_url": "rtsp://admin:s3cret@cam/live?token=abcd", "should_record": true});
    server.post("/streams", &body).await;
    server.add(json!("7b")).await;
    server.add(json!("gone")).await;
    server.patch("/streams/7b", json!({"restart_interval_secs": 9})).await;
    server.delete("/streams/gone").await;
    server.stop().await;

    let mut server = Server::over(directory.path()).await;
    server.until_told("add").await;
    server.until_told("add").await;
    let list = server.get("/streams").await.json();
    let ids: Vec<&Value> =
        list["streams"].as_array().unwrap().iter().map(|view| &view["source_id"]).collect();
    assert_eq!(ids, [&json!(7), &json!("7b")]);
    assert_eq!(list["streams"][0]["should_record"], true);
    assert_eq!(list["streams"][1]["restart_interval_secs"], 9);
    let (id, _) = server.control.stream("7").unwrap();
    let input = server.plane().streams[&id].1.source.inputs[0].clone();
    assert_eq!(
        (input.url.as_str(), input.credentials.unwrap().password.as_str()),
        ("rtsp://cam/live?token=abcd", "s3cret")
    );
}

#[tokio::test]
async fn two_servers_do_not_share_a_directory() {
    let (server, directory) = Server::start().await;
    let path = directory.path().to_owned();
    let error =
        tokio::task::spawn_blocking(move || lanecast::store::Store::open(&path).unwrap_err().to_string());
    assert!(error.await.unwrap().contains("another server uses this data directory"));
    server.stop().await;
}

#[tokio::test]
async fn a_busy_shard_leaves_everything_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::over(directory.path()).await;
    server.add(json!(7)).await;
    server.plane().busy = true;
    let create = server.post("/streams", json!({"source_id": 8, "rtsp_url": "rtsp://cam/"})).await;
    assert_eq!(create.refusal(), (503, "busy".into()));
    assert_eq!(create.headers["retry-after"], "1");
    assert_eq!(
        server.patch("/streams/7", json!({"should_record": true})).await.refusal(),
        (503, "busy".into())
    );
    assert_eq!(server.delete("/streams/7").await.refusal(), (503, "busy".into()));
    server.plane().busy = false;
    let before = server.get("/streams").await.json();
    assert_eq!(before["streams"].as_array().unwrap().len(), 1);
    assert_eq!(before["streams"][0]["should_record"], false);
    server.stop().await;
    let server = Server::over(directory.path()).await;
    assert_eq!(server.get("/streams").await.json(), before);
}

#[tokio::test]
async fn streams_are_spread_over_the_shards() {
    let (server, _directory) = Server::start().await;
    for id in 0..4 {
        server.add(json!(id)).await;
    }
    let list = server.get("/streams").await.json();
    let shards: Vec<&Value> = list["streams"].as_array().unwrap().iter().map(|view| &view["shard"]).collect();
    assert_eq!(shards, [0, 1, 0, 1]);
}

#[tokio::test]
async fn streams_of_a_failed_shard_go_on_elsewhere() {
    let (mut server, _directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    server.until_told("add").await;
    server.emit(Event::Stopped { shard: 0 }).await;
    server.until_told("add").await;
    assert_eq!(server.plane().streams[&stream].0, 1);
    assert_eq!(server.get("/streams/7").await.json()["shard"], 1);
    assert_eq!(server.get("/readyz").await.refusal(), (503, "busy".into()));
}

#[tokio::test]
async fn a_clients_departure_leaves_nothing_half_done() {
    let (mut server, _directory) = Server::start().await;
    let body = json!({"source_id": 7, "rtsp_url": "rtsp://cam/"}).to_string();
    let request = request(Method::POST, "/streams").header("content-type", "application/json");
    let left = server.send(request.body(Body::from(body)).unwrap());
    let _ = tokio::time::timeout(std::time::Duration::ZERO, left).await;
    // Changes come one after the other, so this one waits for the first.
    server.add(json!(8)).await;
    let answer = server.get("/streams").await.json();
    let count = answer["streams"].as_array().unwrap().len();
    for _ in 0..count {
        server.until_told("add").await;
    }
    assert_eq!(server.plane().streams.len(), count);
}

#[tokio::test]
async fn names_are_looked_up_for_the_shard() {
    let (mut server, _directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    server.emit(Event::Resolve { stream, question: 5, host: "localhost".into(), port: 554 }).await;
    server.until_told("resolved").await;
    server.emit(Event::Resolve { stream, question: 6, host: "[::1]".into(), port: 554 }).await;
    server.until_told("resolved").await;
    server.emit(Event::Resolve { stream, question: 7, host: "no such name".into(), port: 554 }).await;
    server.until_told("resolved").await;
    let resolved = std::mem::take(&mut server.plane().resolved);
    let [(5, Ok(local)), (6, Ok(literal)), (7, Err(_))] = resolved.as_slice() else { panic!("{resolved:?}") };
    assert!(local.iter().all(|address| address.ip().is_loopback() && address.port() == 554));
    assert_eq!(literal[0].to_string(), "[::1]:554");
}
