//! The program as its operator sees it: start, restart, end.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::harness::{GstServer, Server, Udp, Viewer, assert_continuous};
use crate::pictures::decode_by_revision_1;

#[test]
fn streams_survive_a_restart_with_their_credentials() {
    let server = Server::start();
    let camera = GstServer::start("--digest ann:s3cret-word");
    server.rest.create("door/1", &camera.url_with("ann", "s3cret-word"));
    server.rest.create(8, "rtsp://127.0.0.1:1/cam");
    server.rest.create(9, "rtsp://127.0.0.1:1/cam");
    server.rest.delete("/streams/9").expect(204);
    let before = server.rest.active("door%2F1");

    let server = server.restart();

    let after = server.rest.active("door%2F1");
    for field in ["source_id", "rtsp_url", "rtsp_inputs", "should_record", "restart_interval_secs"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_continuous(&Viewer::websocket(&server, "door%2F1").rtp(30));
    let list = server.rest.get("/streams").expect(200).json();
    let mut ids: Vec<_> =
        list["streams"].as_array().expect("streams").iter().map(|s| s["source_id"].to_string()).collect();
    ids.sort();
    assert_eq!(ids, ["\"door/1\"", "8"]);
}

#[test]
fn streams_survive_a_crash() {
    let server = Server::start();
    let camera = GstServer::start("--codec h264");
    server.rest.create(7, &camera.url());
    let server = server.crash_and_restart();
    server.rest.active("7");
}

#[test]
fn sigterm_tells_the_sessions_and_ends_within_five_seconds() {
    let mut server = Server::start();
    let camera = GstServer::start("--codec h264");
    server.rest.create(7, &camera.url());
    server.rest.create(8, "rtsp://127.0.0.1:1/cam");
    server.rest.active("7");
    let by_websocket = Viewer::websocket(&server, "7");
    let by_udp = Viewer::revision_1(&server, "7");
    let stuck = Viewer::websocket(&server, "7");
    let udp = Udp::open();
    by_udp.punch(&udp, udp.port());
    udp.rtp_at_least(10);
    by_websocket.rtp(10);
    stuck.stop_reading();

    server.terminate();

    let status = server.exit_status(Duration::from_secs(5)).expect("it ends within 5 s");
    assert!(status.success(), "{status}");
    for viewer in [by_websocket, by_udp] {
        viewer.message("error");
        assert!(viewer.close_code().is_some(), "a close frame with a code");
    }
}

#[test]
fn the_demo_camera_is_decoded_without_complaint() {
    let server = Server::start_with(&["--demo"]);
    server.rest.active("demo");
    decode_by_revision_1(&server, "demo", "demo");
}

#[test]
fn a_bad_setting_stops_the_start_and_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let bad: [(&[&str], &str); 5] = [
        (&["--http-bind", "nonsense"], "--http-bind"),
        (&["--port", "99999"], "--port"),
        (&["--shards", "0"], "--shards"),
        (&["--no-such-setting"], "--no-such-setting"),
        (&["--config", "/no/such/file.toml"], "/no/such/file.toml"),
    ];
    for (arguments, named) in bad {
        let output = Command::new(env!("CARGO_BIN_EXE_lanecast"))
            .current_dir(directory.path())
            .args(arguments)
            .output()
            .expect("it runs");
        assert!(!output.status.success(), "{arguments:?}");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains(named), "{arguments:?}: {message}");
    }
}

#[test]
fn a_port_that_is_taken_stops_the_start_and_is_named() {
    let first = Server::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(env!("CARGO_BIN_EXE_lanecast"))
        .current_dir(directory.path())
        .args(["--http-bind", &first.address().to_string(), "--wsc-udp-port", "0"])
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(message.contains(&first.address().port().to_string()), "{message}");
    first.rest.post("/streams", &json!({ "source_id": 1, "rtsp_url": "rtsp://127.0.0.1:1/a" })).expect(201);
}
