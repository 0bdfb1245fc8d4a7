//! Real sockets: bounds of the HTTP server, and the WebSocket's way to its shard.

use std::net::SocketAddr;
use std::time::Duration;

use lanecast::config::CorsOrigins;
use lanecast::control_plane::Limits;
use lanecast::http::{ServerLimits, bind, serve};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::harness::{LIMITS, Server};

struct Listening {
    server: Server,
    address: SocketAddr,
    task: JoinHandle<()>,
    _directory: TempDir,
}

async fn listen(bind_to: &str, connections: usize, header_timeout: Duration) -> Listening {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { wsc_sessions: 2, ..LIMITS };
    let server = Server::with(directory.path(), limits, CorsOrigins::Any).await;
    let listener = bind(bind_to.parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ServerLimits { connections, header_timeout };
    let task = tokio::spawn(serve(listener, server.router.clone(), limits, server.control.stopping()));
    Listening { server, address, task, _directory: directory }
}

async fn usual() -> Listening {
    listen("127.0.0.1:0", 16, Duration::from_secs(10)).await
}

/// What comes until the server closes.
async fn rest_of(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is a close too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A response's head.
async fn head_of(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.expect("a whole head"));
    }
    String::from_utf8(bytes).unwrap()
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    rest_of(&mut stream).await
}

const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[tokio::test]
async fn ipv4_and_ipv6_reach_a_dual_stack_address() {
    let listening = listen("[::]:0", 16, Duration::from_secs(10)).await;
    let port = listening.address.port();
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        assert!(exchange(address.parse().unwrap(), HEALTH).await.starts_with("HTTP/1.1 200"), "{address}");
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let listening = listen("127.0.0.1:0", 2, Duration::from_secs(10)).await;
    let mut first = TcpStream::connect(listening.address).await.unwrap();
    let mut second = TcpStream::connect(listening.address).await.unwrap();
    for stream in [&mut first, &mut second] {
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(head_of(stream).await.starts_with("HTTP/1.1 200"));
    }
    let refused = exchange(listening.address, HEALTH).await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("too_many_connections"), "{refused}");
    drop(first);
    while !exchange(listening.address, HEALTH).await.starts_with("HTTP/1.1 200") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_slow_header_costs_the_connection() {
    let listening = listen("127.0.0.1:0", 16, Duration::from_millis(100)).await;
    for begin in ["", "GET /health HTTP/1.1\r\nHost:"] {
        let answer = exchange(listening.address, begin).await;
        assert!(!answer.contains("200"), "{answer}");
    }
    assert!(exchange(listening.address, HEALTH).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_idle_connection_is_closed_too() {
    let listening = listen("127.0.0.1:0", 16, Duration::from_millis(100)).await;
    let answer = exchange(listening.address, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_large_body_is_refused_before_it_comes() {
    let listening = usual().await;
    let mut stream = TcpStream::connect(listening.address).await.unwrap();
    let head = "POST /streams HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = rest_of(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");
}

#[tokio::test]
async fn garbage_is_answered_and_closed() {
    let listening = usual().await;
    let answer = exchange(listening.address, "\x16\x03\x01 no HTTP\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let long = format!("GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    let answer = exchange(listening.address, &long).await;
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
    assert!(exchange(listening.address, HEALTH).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_websocket_goes_to_its_shard_with_all_that_was_read() {
    let mut listening = usual().await;
    let stream = listening.server.add(json!("front door")).await;
    let mut socket = TcpStream::connect(listening.address).await.unwrap();
    let request = upgrade("/streams/front%20door/wsc-rtp?force_websocket_transport=true&token=x");
    socket.write_all(format!("{request}early bytes").as_bytes()).await.unwrap();
    let head = head_of(&mut socket).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    listening.server.until_told("attach").await;
    let (attached, mut taken) = {
        let mut plane = listening.server.plane();
        let attached = plane.attached.pop().unwrap();
        let taken = plane.sessions.get_mut(&attached.session).unwrap().1.take().unwrap();
        (attached, taken)
    };
    assert_eq!((attached.stream, attached.force_websocket_transport), (stream, Some(true)));
    assert_eq!(
        (attached.peer, attached.buffered.as_slice()),
        (socket.local_addr().unwrap(), b"early bytes".as_slice())
    );
    std::io::Write::write_all(&mut taken, b"from the shard").unwrap();
    let mut bytes = [0; 14];
    socket.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"from the shard");
    assert_eq!(listening.server.get("/streams/front%20door").await.json()["viewers"], 1);
    let mode = format!("/streams/front%20door/wsc-rtp/{}/mode", attached.session);
    assert_eq!(listening.server.get(&mode).await.json()["is_live"], true);
}

#[tokio::test]
async fn a_mapped_address_is_told_as_ipv4() {
    let mut listening = listen("[::]:0", 16, Duration::from_secs(10)).await;
    listening.server.add(json!(7)).await;
    let mut socket = TcpStream::connect(("127.0.0.1", listening.address.port())).await.unwrap();
    socket.write_all(upgrade("/streams/7/wsc-rtp").as_bytes()).await.unwrap();
    head_of(&mut socket).await;
    listening.server.until_told("attach").await;
    let attached = listening.server.plane().attached[0].clone();
    assert_eq!((attached.peer, attached.force_websocket_transport), (socket.local_addr().unwrap(), None));
}

#[tokio::test]
async fn a_handed_over_websocket_leaves_its_place_to_others() {
    let mut listening = listen("127.0.0.1:0", 1, Duration::from_secs(10)).await;
    listening.server.add(json!(7)).await;
    let mut socket = TcpStream::connect(listening.address).await.unwrap();
    socket.write_all(upgrade("/streams/7/wsc-rtp").as_bytes()).await.unwrap();
    head_of(&mut socket).await;
    listening.server.until_told("attach").await;
    while !exchange(listening.address, HEALTH).await.starts_with("HTTP/1.1 200") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn refused_upgrades_are_plain_errors_and_count_nothing() {
    let listening = usual().await;
    listening.server.add(json!(7)).await;
    let close = |request: String| request.replace("\r\nHost: x", "\r\nHost: x\r\nX-Unused: 1");
    for (request, status, code) in [
        (upgrade("/streams/8/wsc-rtp"), 404, "unknown_stream"),
        (upgrade("/streams/7/wsc-rtp?force_websocket_transport=maybe"), 400, "invalid_query"),
        (upgrade("/streams/7/wsc-rtp").replace("Version: 13", "Version: 8"), 426, "upgrade_required"),
        (upgrade("/streams/7/wsc-rtp").replace("Upgrade: websocket\r\n", ""), 426, "upgrade_required"),
        (upgrade("/streams/7/wsc-rtp").replace("dGhlIHNhbXBsZSBub25jZQ==", "x"), 400, "invalid_upgrade"),
    ] {
        let mut stream = TcpStream::connect(listening.address).await.unwrap();
        stream.write_all(close(request.clone()).as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest_of(&mut stream).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(code),
            "{request} {answer}"
        );
    }
    assert_eq!(listening.server.get("/streams/7").await.json()["viewers"], 0);
}

#[tokio::test]
async fn sessions_are_bounded() {
    let mut listening = usual().await;
    listening.server.add(json!(7)).await;
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(listening.address).await.unwrap();
        socket.write_all(upgrade("/streams/7/wsc-rtp").as_bytes()).await.unwrap();
        assert!(head_of(&mut socket).await.starts_with("HTTP/1.1 101"));
        sockets.push(socket);
        listening.server.until_told("attach").await;
    }
    let mut socket = TcpStream::connect(listening.address).await.unwrap();
    socket.write_all(upgrade("/streams/7/wsc-rtp").as_bytes()).await.unwrap();
    assert!(head_of(&mut socket).await.starts_with("HTTP/1.1 429"));
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_the_listener() {
    let Listening { server, address, task, _directory } = usual().await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    head_of(&mut idle).await;
    let started = tokio::time::Instant::now();
    server.control.stop();
    task.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2));
    rest_of(&mut idle).await;
    assert!(TcpStream::connect(address).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_before_it_reads_gets_its_answer() {
    let listening = usual().await;
    for (head, status) in [
        ("POST /streams HTTP/1.1\r\nContent-Type: application/json", 413),
        ("POST /streams HTTP/1.1\r\nContent-Type: text/plain", 415),
        ("PUT /streams HTTP/1.1\r\nContent-Type: application/json", 405),
        ("POST /nothing HTTP/1.1\r\nContent-Type: application/json", 404),
    ] {
        let mut stream = TcpStream::connect(listening.address).await.unwrap();
        let body = vec![b' '; 8 << 20];
        let head = format!("{head}\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.expect("the whole body is taken");
        let answer = head_of(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}
