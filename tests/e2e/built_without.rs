//! A server that was built without FFmpeg or GStreamer says what it cannot do, and does all else. What needs them is
//! left out of this build's tests, and that is said here.

use crate::harness::Server;
#[cfg(not(feature = "gstreamer"))]
use crate::harness::{Codec, Film, GstServer};

#[cfg(not(feature = "ffmpeg"))]
#[test]
fn inputs_by_ffmpeg_are_refused_with_the_reason() {
    eprintln!("skipped: foreign_inputs and foreign_inputs_refused: built without FFmpeg");
    let server = Server::start();
    for url in [
        "rtmp://127.0.0.1/live/x",
        "srt://127.0.0.1:9",
        "http://127.0.0.1/a.m3u8",
        "udp://127.0.0.1:9",
        "file:///etc/passwd",
        "rtsp://127.0.0.1/cam?via=ffmpeg",
    ] {
        let body = serde_json::json!({ "source_id": 7, "rtsp_url": url });
        let refused = server.rest.post("/streams", &body).expect(422);
        assert_eq!(refused.error_code(), "unsupported_scheme", "{url}");
        assert!(refused.text.contains("built without FFmpeg"), "{refused:?}");
    }
    assert_eq!(server.rest.get("/streams").expect(200).json()["streams"], serde_json::json!([]));
}

#[cfg(not(feature = "gstreamer"))]
#[test]
fn without_gstreamer_an_outage_has_no_picture_and_the_stream_says_why() {
    eprintln!("skipped: slate and outage_browser: built without GStreamer");
    let server = Server::start_with(&["--source-slate-after-seconds", "1"]);
    let camera = GstServer::start("--codec h264");
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let mut film = Film::of(&server, "7", Codec::H264);
    film.watch(20);

    let camera = camera.kill();
    let stream =
        server.rest.stream_when("7", "without a slate", |stream| stream["slate"]["state"] == "failed");
    let reason = stream["slate"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("built without GStreamer"), "{stream}");
    let _camera = camera.restart();
    server.rest.stream_when("7", "without a fault again", |stream| {
        stream["state"] == "Active" && stream["slate"]["state"] == "off" && stream["state_reason"].is_null()
    });
    film.watch(20);

    assert!(film.viewer.is_open());
    film.assert_whole();
}
