//! ICE-TCP: who gets through to a shard.

use std::net::SocketAddr;

use lanecast::http::bind;
use lanecast::webrtc::serve_ice_tcp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::harness::Server;

async fn listen() -> (Server, tempfile::TempDir, SocketAddr, JoinHandle<()>) {
    let (server, directory) = Server::start().await;
    let listener = bind("[::]:0".parse().unwrap()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
    let task = tokio::spawn(serve_ice_tcp(listener, server.control.clone()));
    (server, directory, address, task)
}

/// A binding request for this ufrag (RFC 8489), its MESSAGE-INTEGRITY left to the shard to check.
fn binding_request(ufrag: &str) -> Vec<u8> {
    let mut attributes = Vec::new();
    let mut attribute = |kind: u16, value: &[u8]| {
        attributes.extend(kind.to_be_bytes());
        attributes.extend((value.len() as u16).to_be_bytes());
        attributes.extend(value);
        attributes.resize(attributes.len().next_multiple_of(4), 0);
    };
    attribute(0x0006, format!("{ufrag}:view").as_bytes());
    attribute(0x0024, &1_853_693_695_u32.to_be_bytes());
    attribute(0x802a, &7_u64.to_be_bytes());
    attribute(0x0025, &[]);
    attribute(0x0008, &[9; 20]);
    let mut message = vec![0, 1];
    message.extend((attributes.len() as u16).to_be_bytes());
    message.extend([0x21, 0x12, 0xa4, 0x42]);
    message.extend([5; 12]);
    message.extend(attributes);
    message
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// True when the server closes without a word.
async fn is_closed(mut stream: TcpStream) -> bool {
    matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_))
}

async fn count(server: &Server, outcome: &str) -> String {
    let metrics = server.get("/metrics").await.body;
    let name = format!("lanecast_ice_tcp_connections_total{{outcome=\"{outcome}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().to_owned()
}

#[tokio::test]
async fn a_check_reaches_the_shard_that_its_ufrag_names() {
    let (mut server, _directory, address, _task) = listen().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let sent = [framed(&binding_request("ABcdefghijkl")), b"\0\x01x".to_vec()].concat();
    let (begin, end) = sent.split_at(30);
    stream.write_all(begin).await.unwrap();
    stream.write_all(end).await.unwrap();
    server.until_told("ice-tcp").await;
    let (shard, attached) = server.plane().ice_tcp.pop().unwrap();
    assert_eq!((shard, attached.ufrag.as_str()), (1, "ABcdefghijkl"));
    assert_eq!(attached.peer, stream.local_addr().unwrap());
    assert!(sent.starts_with(&attached.buffered) && attached.buffered.len() >= sent.len() - 3);
    let mut taken = attached.socket;
    std::io::Write::write_all(&mut taken, b"from the shard").unwrap();
    let mut bytes = [0; 14];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"from the shard");
    assert_eq!(count(&server, "attached").await, "1");
}

#[tokio::test]
async fn whatever_else_comes_is_closed_without_a_word_and_counted() {
    let (server, _directory, address, _task) = listen().await;
    for (sent, outcome) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "not_stun"),
        (framed(&[0; 10]), "not_stun"),
        (framed(&[0x16; 100]), "not_stun"),
        (vec![0xff; 4000], "not_stun"),
        (framed(&binding_request("zz0123456789")), "unknown_ufrag"),
        (framed(&binding_request("+/0123456789")), "unknown_ufrag"),
        (framed(&binding_request("A")), "unknown_ufrag"),
    ] {
        let before: u64 = count(&server, outcome).await.parse().unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        assert!(is_closed(stream).await, "{outcome}");
        assert_eq!(count(&server, outcome).await, (before + 1).to_string());
    }
    let mut cut_off = TcpStream::connect(address).await.unwrap();
    cut_off.write_all(&framed(&binding_request("AA0123456789"))[..20]).await.unwrap();
    cut_off.shutdown().await.unwrap();
    assert!(is_closed(cut_off).await);
    assert_eq!(count(&server, "incomplete").await, "1");
    assert!(server.plane().ice_tcp.is_empty());
}

#[tokio::test]
async fn the_listener_ends_with_the_server() {
    let (server, _directory, address, task) = listen().await;
    let waiting = TcpStream::connect(address).await.unwrap();
    server.control.stop();
    task.await.unwrap();
    assert!(is_closed(waiting).await);
    assert!(TcpStream::connect(address).await.is_err());
    server.stop().await;
}
