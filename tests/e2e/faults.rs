//! Cameras that fail: the state says `Error` with a reason that an operator can act on, no credential shows
//! anywhere, the camera is tried again, and nobody else notices.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::json;

use crate::harness::{GstServer, Server, Viewer, assert_continuous};

#[test]
fn an_unreachable_camera_is_an_error_with_its_reason() {
    let server = Server::start();
    let nobody = GstServer::start("").kill();
    server.rest.create(7, &nobody.url());
    let reason = server.rest.error_reason("7").to_lowercase();
    assert!(reason.contains("refused") || reason.contains("connect"), "{reason}");
    let _camera = nobody.restart();
    server.rest.active("7");
}

#[test]
fn a_name_that_does_not_resolve_is_an_error_with_its_reason() {
    let server = Server::start();
    server.rest.create(7, "rtsp://no-such-host.invalid/cam");
    let reason = server.rest.error_reason("7").to_lowercase();
    assert!(
        reason.contains("no-such-host.invalid") || reason.contains("resol") || reason.contains("name"),
        "{reason}"
    );
}

#[test]
fn a_camera_that_refuses_is_an_error_with_its_answer() {
    let server = Server::start();
    let camera = GstServer::start("--codec h264");
    server.rest.create(7, &camera.url().replace("/cam", "/no-such-mount"));
    let reason = server.rest.error_reason("7");
    assert!(reason.contains("404"), "{reason}");
}

#[test]
fn a_camera_without_video_is_an_error_that_says_so() {
    let server = Server::start();
    let camera = GstServer::start("--codec audio");
    server.rest.create(7, &camera.url());
    let reason = server.rest.error_reason("7");
    assert!(reason.contains("no video"), "{reason}");
}

#[test]
fn a_camera_of_another_codec_is_an_error_that_names_it() {
    let server = Server::start();
    let camera = GstServer::start("--codec mjpeg");
    server.rest.create(7, &camera.url());
    let reason = server.rest.error_reason("7");
    assert!(reason.to_uppercase().contains("JPEG") && reason.contains("not supported"), "{reason}");
}

#[test]
fn a_wrong_password_is_an_error_and_no_secret_shows_anywhere() {
    let server = Server::start();
    let camera = GstServer::start("--digest ann:s3cret-word");
    let by_fields = json!({
        "source_id": "by-fields", "rtsp_url": camera.url(), "username": "ann", "password": "wr0ng-word",
        "restart_interval_secs": 1,
    });
    server.rest.post("/streams", &by_fields).expect(201);
    server.rest.create("by-url", &camera.url_with("ann", "wr0ng-in-url"));
    server.rest.create("none", &camera.url());
    for id in ["by-fields", "by-url", "none"] {
        let reason = server.rest.error_reason(id);
        assert!(reason.contains("password") || reason.contains("401"), "{id}: {reason}");
    }
    let viewer = Viewer::revision_2(&server, "by-url");
    let right = json!({ "rtsp_url": camera.url(), "username": "ann", "password": "s3cret-word" });
    server.rest.patch("/streams/by-fields", &right).expect(200);
    server.rest.active("by-fields");

    let views = [
        server.rest.get("/streams").expect(200).text,
        server.rest.get("/streams/by-url").expect(200).text,
        server.rest.get("/metrics").expect(200).text,
        viewer.init().to_string(),
        format!("{:?}", viewer.seen()),
        server.log(),
    ];
    for view in views {
        for secret in ["wr0ng-word", "wr0ng-in-url", "s3cret-word"] {
            assert!(!view.contains(secret), "{secret} shows in: {view}");
        }
    }
}

#[test]
fn a_camera_that_talks_nonsense_is_an_error_and_others_play_on() {
    let server = Server::start();
    let camera = GstServer::start("--codec h264");
    server.rest.create("good", &camera.url());
    server.rest.active("good");
    let viewer = Viewer::websocket(&server, "good");
    let long_header = format!("RTSP/1.0 200 OK\r\nCSeq: 1\r\nX: {}", "x".repeat(3 << 20));
    let endless_body =
        format!("RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 99999999999\r\n\r\n{}", "v".repeat(1 << 20));
    let nonsense: Vec<(&str, Vec<u8>)> = vec![
        ("http", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("binary", (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
        ("interleaved", [b"$\x00\xff\xff".as_slice(), &[0x80; 70_000]].concat()),
        ("long", long_header.into_bytes()),
        ("endless", endless_body.into_bytes()),
        ("hangs-up", vec![]),
    ];
    for (name, answer) in nonsense {
        let address = nonsense_camera(answer);
        let body = json!({ "source_id": name, "rtsp_url": format!("rtsp://{address}/cam") });
        server.rest.post("/streams", &body).expect(201);
        server.rest.error_reason(name);
    }
    assert_continuous(&viewer.rtp_until("pictures of the good camera", |packets| packets.len() > 100));
}

#[test]
fn a_camera_that_says_nothing_is_an_error_after_the_reply_timeout() {
    let server = Server::start_with(&["--source-reply-timeout-seconds", "1"]);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("bound");
    server.rest.create(7, &format!("rtsp://{address}/cam"));
    let reason = server.rest.error_reason("7");
    assert!(reason.contains("did not answer"), "{reason}");
}

/// Answers the first bytes of every connection with `answer` and hangs up.
fn nonsense_camera(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || talk_nonsense(stream, &answer));
        }
    });
    address
}

fn talk_nonsense(stream: TcpStream, answer: &[u8]) {
    let mut line = String::new();
    let _ = BufReader::new(&stream).read_line(&mut line);
    let _ = (&stream).write_all(answer);
}
