//! Inputs by FFmpeg that must not be, or that come to nothing: refused by name, given up in time, tried again, silent
//! about their secrets, and never in the way of the server's end.

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};

use serde_json::json;

use crate::harness::{Answer, Clip, Codec, PATIENCE, Server, Viewer, until};

#[test]
fn a_file_is_refused_unless_its_folder_is_allowed() {
    let clip = Clip::encode(Codec::H264, 3, "mp4");
    let url = format!("file://{}", clip.path().display());
    let create = |server: &Server, url: &str| create(server, 7, url);

    let server = Server::start();
    let refused = create(&server, &url).expect(422);
    assert_eq!(refused.error_code(), "file_not_allowed");
    assert!(refused.text.contains("source.file_folders"), "{refused:?}");

    let folder = clip.directory().to_str().expect("UTF-8");
    let server = Server::start_with(&["--source-file-folders", folder]);
    for outside in ["file:///etc/passwd".to_owned(), format!("file://{folder}/../../etc/passwd")] {
        assert_eq!(create(&server, &outside).expect(422).error_code(), "file_not_allowed", "{outside}");
    }
    create(&server, &url).expect(201);
    server.rest.active("7");
    Viewer::websocket(&server, "7").rtp(20);
}

#[test]
fn schemes_that_are_not_allowed_are_refused_by_name() {
    let server = Server::start();
    for url in
        ["ftp://127.0.0.1/a.mp4", "concat:a|b", "data:video/mp4;base64,AAAA", "pipe:0", "rtp://127.0.0.1:5"]
    {
        let refused = create(&server, 7, url).expect(422);
        assert_eq!(refused.error_code(), "unsupported_scheme", "{url}");
        assert!(refused.text.contains("rtsp, rtsps, rtmp"), "{refused:?}");
    }
}

#[test]
fn a_file_that_is_no_video_is_said_to_be_none() {
    let clip = Clip::encode(Codec::H264, 1, "mp4");
    std::fs::write(clip.directory().join("notes.mp4"), "not at all").expect("a file");
    let folder = clip.directory().to_str().expect("UTF-8");
    let server = Server::start_with(&["--source-file-folders", folder]);
    create(&server, 7, &format!("file://{folder}/notes.mp4")).expect(201);
    let reason = server.rest.error_reason("7");
    assert!(reason.contains("the file cannot be opened"), "{reason}");
}

#[test]
fn a_server_that_says_nothing_is_given_up_and_tried_again() {
    for scheme in ["http", "rtmp"] {
        let silent = Silent::listen();
        let server = Server::start_with(IMPATIENT);
        create(&server, 7, &format!("{scheme}://{}/live/x", silent.address)).expect(201);
        for _ in 0..3 {
            silent.called();
        }
        let reason = server.rest.error_reason("7");
        assert!(reason.contains("gave no picture within"), "{reason}");
        assert!(server.threads("input-") <= 1, "the threads of before are gone");
    }
}

#[test]
fn secrets_are_in_no_view_metric_or_log() {
    // The last part of the path is RTMP's key.
    const SECRETS: [&str; 4] = ["hidden-passphrase", "hidden-word", "hidden-key", "hidden-token"];
    let (silent, deaf) = (Silent::listen(), UdpSocket::bind("127.0.0.1:0").expect("a free port"));
    let nobody =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let srt = deaf.local_addr().expect("bound");
    let server = Server::start_with(IMPATIENT);
    let urls = [
        format!("srt://{srt}?passphrase=hidden-passphrase&latency=200"),
        format!("http://ann:hidden-word@{}/a.ts?token=hidden-token", silent.address),
        format!("http://ann:hidden-word@{nobody}/a.m3u8?token=hidden-token"),
        format!("rtmp://{}/live/hidden-key", silent.address),
        format!("rtmp://ann:hidden-word@{nobody}/live/hidden-key"),
        format!("rtsp://ann:hidden-word@{nobody}/live?via=ffmpeg&token=hidden-token"),
    ];
    let mut said = vec![];
    for (number, url) in urls.iter().enumerate() {
        said.push(create(&server, number, url).expect(201).text);
    }
    for number in 0..urls.len() {
        server.rest.error_reason(&number.to_string());
        said.push(server.rest.get(&format!("/streams/{number}")).expect(200).text);
    }
    for path in ["/streams", "/metrics", "/"] {
        said.push(server.rest.get(path).expect(200).text);
    }
    let viewer = Viewer::websocket(&server, "3");
    said.push(viewer.init().to_string());
    said.push(server.log());
    for secret in SECRETS {
        let shown: Vec<&String> = said.iter().filter(|text| text.contains(secret)).collect();
        assert!(shown.is_empty(), "{secret} is in {shown:?}");
    }
}

#[test]
fn inputs_that_are_stuck_do_not_hold_up_the_servers_end() {
    let silent = Silent::listen();
    let deaf = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let server = Server::start_with(&["--source-connect-timeout-seconds", "60"]);
    let srt = deaf.local_addr().expect("bound");
    let tcp = silent.address;
    let urls = [
        format!("rtmp://{tcp}/live/x"),
        format!("http://{tcp}/a.m3u8"),
        format!("rtsp://{tcp}/cam?via=ffmpeg"),
        format!("srt://{srt}"),
        format!("srt://127.0.0.1:{}?mode=listener", crate::harness::free_udp_port()),
        format!("udp://127.0.0.1:{}", crate::harness::free_udp_port()),
    ];
    for (number, url) in urls.iter().enumerate() {
        create(&server, number, url).expect(201);
    }
    for _ in 0..3 {
        silent.called();
    }
    until("all are being opened", || (server.threads("input-") == urls.len()).then_some(()));
    // Fails unless it ends in time and well.
    server.stop();
}

/// A server that accepts and says nothing.
struct Silent {
    address: std::net::SocketAddr,
    calls: Receiver<()>,
}

impl Silent {
    fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (called, calls) = channel();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if called.send(()).is_err() {
                    return;
                }
                std::thread::spawn(move || drain(connection));
            }
        });
        Self { address, calls }
    }

    /// Waits for the next who connects.
    fn called(&self) {
        self.calls.recv_timeout(PATIENCE).expect("somebody connects");
    }
}

fn drain(mut connection: TcpStream) {
    let mut bytes = [0; 4096];
    while connection.read(&mut bytes).is_ok_and(|count| count > 0) {}
}

fn create(server: &Server, number: usize, url: &str) -> Answer {
    server.rest.post("/streams", &json!({ "source_id": number, "rtsp_url": url }))
}

/// What opening an input may take is the sum of these.
const IMPATIENT: &[&str] = &[
    "--source-connect-timeout-seconds",
    "1",
    "--source-reply-timeout-seconds",
    "1",
    "--source-silence-timeout-seconds",
    "2",
];
