//! Whatever a viewer, or somebody at its address, sends as DTLS.
//!
//! The first datagram is the viewer's certificate. Of each later one the first byte tells how it is sent: as it is, or
//! as a message of the handshake, so that the library behind our checks is reached as well.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use lanecast_fuzz::datagrams;
use lanecast_webrtc::dtls::{Certificate, Dtls};
use lanecast_webrtc::negotiation::Fingerprint;
use libfuzzer_sys::fuzz_target;
use ring::digest;

static CERTIFICATE: LazyLock<Arc<Certificate>> =
    LazyLock::new(|| Arc::new(Certificate::generate().expect("a certificate")));

fuzz_target!(|data: &[u8]| {
    let mut pieces = datagrams(data);
    let der = pieces.next().unwrap_or_default();
    let bytes = digest::digest(&digest::SHA256, &der).as_ref().to_vec();
    let mut server =
        Dtls::new(CERTIFICATE.clone(), vec![Fingerprint { algorithm: "sha-256".to_owned(), bytes }]);
    let (mut now, mut cookie) = (Instant::now(), Vec::new());
    for piece in pieces {
        let Some((how, body)) = piece.split_first() else { continue };
        let datagram = match how % 8 {
            0 => body.to_vec(),
            1 => message(1, 0, &hello(&[], body)),
            2 => message(1, 1, &hello(&cookie, body)),
            3 => message(11, 2, &[u24(der.len() + 3), u24(der.len()), der.to_vec()].concat()),
            4 => message(16, 3, body),
            5 => message(15, 4, body),
            6 => record(1, *how, body),
            _ => message(1, 0, body),
        };
        now = server.poll_timeout().filter(|_| how & 8 != 0).unwrap_or(now).max(now);
        server.handle_timeout(now);
        server.handle_datagram(now, &datagram);
        let mut sent = 0;
        while let Some(datagram) = server.poll_datagram() {
            // A HelloVerifyRequest.
            if datagram.get(13) == Some(&3) {
                cookie = datagram[13 + 12 + 3..].to_vec();
            }
            sent += datagram.len();
        }
        assert!(sent <= 4096, "an answer of {sent} bytes");
        while server.poll_event().is_some() {}
    }
});

fn u24(value: usize) -> Vec<u8> {
    (value as u32).to_be_bytes()[1..].to_vec()
}

fn record(epoch: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let header = [20 + kind / 8 % 4, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 0];
    [&header[..], &(body.len() as u16).to_be_bytes(), body].concat()
}

fn message(kind: u8, seq: u8, body: &[u8]) -> Vec<u8> {
    let header = [&[kind][..], &u24(body.len()), &[0, seq], &u24(0), &u24(body.len())].concat();
    record(0, 16, &[&header, body].concat())
}

/// A hello that we can go on with, and more extensions.
fn hello(cookie: &[u8], more: &[u8]) -> Vec<u8> {
    let extensions = [&[0, 14, 0, 5, 0, 2, 0, 7, 0, 0, 23, 0, 0][..], more].concat();
    let head =
        [&[0xfe, 0xfd][..], &[7; 32], &[0, cookie.len() as u8], cookie, &[0, 2, 0xc0, 0x2b, 1, 0]].concat();
    [&head[..], &(extensions.len() as u16).to_be_bytes(), &extensions].concat()
}
