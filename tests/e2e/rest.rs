//! The REST contract from outside: what is created, what is refused, and how.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{GstServer, Server, Viewer};

#[test]
fn both_kinds_of_source_id_come_back_as_they_were_given() {
    let server = Server::start();
    let camera = GstServer::start("--codec h264");
    let ids: [(Value, &str); 3] = [
        (json!(7), "7"),
        (json!("front door/ä %"), "front%20door%2F%C3%A4%20%25"),
        (json!("18446744073709551615"), "18446744073709551615"),
    ];
    for (id, path_id) in ids {
        let created = server.rest.create(id.clone(), &camera.url());
        assert_eq!(created["source_id"], id);
        let stream = server.rest.active(path_id);
        assert_eq!(stream["source_id"], id);
        Viewer::websocket(&server, path_id).rtp(10);
        let list = server.rest.get("/streams").expect(200).json();
        let listed =
            list["streams"].as_array().expect("streams").iter().any(|stream| stream["source_id"] == id);
        assert!(listed, "{id} in {list}");
        server.rest.delete(&format!("/streams/{path_id}")).expect(204);
        server.rest.get(&format!("/streams/{path_id}")).expect(404);
    }
}

#[test]
fn a_stream_is_shown_whole_and_without_credentials() {
    let server = Server::start();
    let camera = GstServer::start("--digest ann:s3cret-word");
    let body = json!({
        "source_id": 7, "username": "ann", "password": "s3cret-word", "should_record": false,
        "rtsp_inputs": [
            { "label": "spare", "url": "rtsp://bob:hush-hush@127.0.0.1:1/spare", "priority": 2 },
            { "label": "main", "url": camera.url(), "priority": 1 },
        ],
        "restart_interval_secs": 3, "something_new": [1, 2],
    });
    let created = server.rest.post("/streams", &body).expect(201).json();
    let stream = server.rest.active("7");
    for view in [&created, &stream] {
        for field in FIELDS {
            assert!(view.get(field).is_some(), "{field} in {view}");
        }
        assert_eq!(view["restart_interval_secs"], 3);
        assert_eq!(view["should_record"], false);
        assert_eq!(view["webrtc_sessions"], json!([]));
        assert_eq!(view["rtsp_inputs"].as_array().map(Vec::len), Some(2));
        let text = view.to_string();
        assert!(
            !text.contains("s3cret-word") && !text.contains("hush-hush") && !text.contains("bob"),
            "{text}"
        );
    }
    assert_eq!((stream["width"].as_u64(), stream["height"].as_u64()), (Some(320), Some(240)));
    assert!(stream["active_input"].to_string().contains("main"), "{stream}");
    assert_eq!(stream["shard"], 0);
}

#[test]
fn malformed_requests_are_refused_by_name_and_create_nothing() {
    let server = Server::start();
    server.rest.create(1, "rtsp://127.0.0.1:1/cam");
    let refused: &[(&str, u16, &str)] = &[
        ("", 400, ""),
        ("{", 400, ""),
        ("[]", 400, ""),
        ("null", 400, ""),
        (r#"{"rtsp_url":"rtsp://127.0.0.1/a"}"#, 400, "source_id"),
        (r#"{"source_id":2}"#, 400, "rtsp_url"),
        (r#"{"source_id":true,"rtsp_url":"rtsp://127.0.0.1/a"}"#, 400, "source_id"),
        (r#"{"source_id":-1,"rtsp_url":"rtsp://127.0.0.1/a"}"#, 400, "source_id"),
        (r#"{"source_id":"","rtsp_url":"rtsp://127.0.0.1/a"}"#, 400, "source_id"),
        (r#"{"source_id":"a\nb","rtsp_url":"rtsp://127.0.0.1/a"}"#, 400, "source_id"),
        (r#"{"source_id":2,"rtsp_url":7}"#, 400, "rtsp_url"),
        (r#"{"source_id":2,"rtsp_url":"not a url"}"#, 400, "rtsp_url"),
        (r#"{"source_id":2,"rtsp_url":"ftp://127.0.0.1/a"}"#, 400, "rtsp_url"),
        (r#"{"source_id":2,"rtsp_url":"rtsp:///a"}"#, 400, "rtsp_url"),
        (r#"{"source_id":2,"rtsp_inputs":[]}"#, 400, "rtsp_inputs"),
        (r#"{"source_id":2,"rtsp_inputs":[{"label":"a","url":"nonsense","priority":1}]}"#, 400, "url"),
        (r#"{"source_id":2,"rtsp_url":"rtsp://127.0.0.1/a","should_record":"yes"}"#, 400, "should_record"),
        (
            r#"{"source_id":2,"rtsp_url":"rtsp://127.0.0.1/a","restart_interval_secs":-3}"#,
            400,
            "restart_interval_secs",
        ),
        (r#"{"source_id":1,"rtsp_url":"rtsp://127.0.0.1/a"}"#, 409, ""),
        (r#"{"source_id":"1","rtsp_url":"rtsp://127.0.0.1/a"}"#, 409, ""),
    ];
    for (body, status, named) in refused {
        let answer = server.rest.post_text("/streams", "application/json", body);
        let right = answer.status == *status || (*status == 400 && answer.status == 422);
        assert!(right, "{body}: {answer:?}");
        answer.error_code();
        let message = answer.json()["message"].to_string();
        assert!(message.contains(named), "{body}: {message}");
    }
    let long = "x".repeat(129);
    let body = json!({ "source_id": long, "rtsp_url": "rtsp://127.0.0.1/a" });
    assert!([400, 422].contains(&server.rest.post("/streams", &body).status));
    let list = server.rest.get("/streams").expect(200).json();
    assert_eq!(list["streams"].as_array().map(Vec::len), Some(1), "{list}");
}

#[test]
fn what_is_not_there_or_not_allowed_is_an_error_of_one_form() {
    let server = Server::start();
    let unknown = "00000000-0000-4000-8000-000000000000";
    let rest = &server.rest;
    let answers = [
        (rest.get("/streams/7"), 404),
        (rest.delete("/streams/7"), 404),
        (rest.patch("/streams/7", &json!({ "should_record": false })), 404),
        (rest.get("/no-such-thing"), 404),
        (rest.patch("/streams", &json!({})), 405),
        (rest.get(&format!("/client-session-control/{unknown}/mode")), 404),
        (rest.delete(&format!("/client-session-control/{unknown}")), 404),
        (rest.delete(&format!("/streams/7/wsc-rtp/{unknown}")), 404),
        (rest.get("/streams/7/wsc-rtp"), 404),
        (rest.post_text("/streams", "text/plain", "{}"), 415),
        (rest.post_text("/streams", "application/json", &"x".repeat(3 << 20)), 413),
    ];
    for (answer, status) in answers {
        let answer = answer.expect(status);
        assert!(answer.content_type.starts_with("application/json"), "{answer:?}");
        let code = answer.error_code();
        assert!(code.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit()), "{code}");
    }
}

#[test]
fn patching_a_streams_input_moves_its_viewers_over() {
    let server = Server::start();
    let (first, second) = (GstServer::start("--size 320x240"), GstServer::start("--size 640x480"));
    server.rest.create(7, &first.url());
    server.rest.active("7");
    let viewer = Viewer::websocket(&server, "7");
    viewer.sdp();
    let mut packets = viewer.rtp(30);
    server.rest.patch("/streams/7", &json!({ "rtsp_url": second.url() })).expect(200);
    viewer.sdp();
    server.rest.stream_when("7", "of the other camera", |stream| stream["width"] == 640);
    packets.extend(viewer.rtp(60));
    crate::harness::assert_continuous(&packets);
}

#[test]
fn the_utilities_answer() {
    let server = Server::start();
    let rest = &server.rest;
    let health = rest.get("/health").expect(200).json();
    assert_eq!(health["status"], "ok");
    assert!(health["version"].is_string());
    rest.get("/livez").expect(200);
    rest.get("/readyz").expect(200);
    let document = rest.get("/api-docs/openapi.json").expect(200).json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{document}");
    for path in ["/streams", "/streams/{source_id}", "/health"] {
        assert!(document["paths"].get(path).is_some(), "{path} is documented");
    }
    let page = rest.get("/swagger-ui/").expect(200);
    assert!(page.content_type.starts_with("text/html"));
    assert!(!page.text.contains("https://"), "nothing is fetched from elsewhere: {}", page.text);
    assert!(rest.get("/metrics").expect(200).text.contains("lanecast_"));
}

#[test]
fn broken_http_costs_only_its_own_connection() {
    let server = Server::start();
    let slow = TcpStream::connect(server.address()).expect("a connection");
    (&slow).write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n").expect("sent");
    for garbage in [&b"\x16\x03\x01\x02\x00\x01"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", &[0; 4096]] {
        let mut stream = TcpStream::connect(server.address()).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let _ = stream.write_all(garbage);
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 4") || text.starts_with("HTTP/1.1 505"),
            "{text}"
        );
    }
    server.rest.get("/health").expect(200);
    // The header that never ends is not waited for for ever.
    slow.set_read_timeout(Some(Duration::from_secs(25))).expect("a timeout");
    let mut answer = vec![];
    (&slow).read_to_end(&mut answer).expect("the server ends it");
}

/// Every view of a stream has these.
const FIELDS: [&str; 15] = [
    "source_id",
    "rtsp_url",
    "rtsp_inputs",
    "should_record",
    "restart_interval_secs",
    "state",
    "state_reason",
    "active_input",
    "codec",
    "width",
    "height",
    "recording_start_time",
    "webrtc_sessions",
    "viewers",
    "shard",
];
