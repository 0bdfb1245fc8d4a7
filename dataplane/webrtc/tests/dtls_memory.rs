//! What a DTLS association costs in heap bytes: connected, half open, and with a peer that wants it to cost much.
//!
//! One test in one binary, because the allocator counts for all threads.

#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::alloc::System;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use lanecast_webrtc::dtls::{Certificate, Dtls, DtlsEvent};
use lanecast_webrtc::negotiation::Fingerprint;
use rtc_dtls::config::{ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::endpoint::Endpoint;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5);
const ASSOCIATIONS: usize = 100;
const CONNECTED_BYTES_MAX: usize = 2 << 10;
const HALF_OPEN_BYTES_MAX: usize = 16 << 10;
const HOSTILE_BYTES_MAX: usize = 40 << 10;

/// Heap bytes of one of the associations that `make` makes.
fn bytes_each(make: impl Fn() -> Dtls) -> usize {
    let associations: Vec<_> = (0..ASSOCIATIONS).map(|_| make()).collect();
    let before = ALLOCATOR.stats();
    drop(associations);
    let after = ALLOCATOR.stats();
    let vec = ASSOCIATIONS * size_of::<Dtls>();
    (after.bytes_deallocated
        - before.bytes_deallocated
        - (after.bytes_allocated - before.bytes_allocated)
        - vec)
        / ASSOCIATIONS
}

struct Client {
    config: Arc<HandshakeConfig>,
    fingerprint: Fingerprint,
}

impl Client {
    fn new() -> Self {
        let provider = rtc_crypto::default_provider().unwrap();
        let names = vec!["viewer".to_owned()];
        let certificate =
            rtc_dtls::crypto::Certificate::generate_self_signed(names, provider.crypto()).unwrap();
        let hash = ring::digest::digest(&ring::digest::SHA256, &certificate.certificate[0]);
        let fingerprint = Fingerprint { algorithm: "sha-256".to_owned(), bytes: hash.as_ref().to_vec() };
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_insecure_skip_verify(true)
            .build(true, None)
            .unwrap();
        Self { config: Arc::new(config), fingerprint }
    }

    fn connect(&self, certificate: &Arc<Certificate>) -> Dtls {
        let now = Instant::now();
        let mut server = Dtls::new(certificate.clone(), vec![self.fingerprint.clone()]);
        let mut client = Endpoint::new(PEER, Default::default(), None);
        client.connect(now, PEER, self.config.clone(), None).unwrap();
        loop {
            while let Some(transmit) = client.poll_transmit() {
                server.handle_datagram(now, &transmit.message);
            }
            while let Some(datagram) = server.poll_datagram() {
                client.read(now, PEER, None, (&datagram[..]).into()).unwrap();
            }
            match server.poll_event() {
                Some(DtlsEvent::Connected(_)) => break,
                Some(event) => panic!("{event:?}"),
                None => {}
            }
        }
        assert!(server.poll_event().is_none() && server.poll_datagram().is_none());
        server
    }
}

/// A handshake message in one record.
fn record(kind: u8, message_seq: u16, message_bytes: usize, offset: usize, body: &[u8]) -> Vec<u8> {
    let u24 = |value: usize| (value as u32).to_be_bytes()[1..].to_vec();
    let fragment =
        [&[kind][..], &u24(message_bytes), &message_seq.to_be_bytes(), &u24(offset), &u24(body.len()), body];
    let fragment = fragment.concat();
    let header = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0];
    [&header[..], &(fragment.len() as u16).to_be_bytes(), &fragment].concat()
}

/// A hello with so many bytes of padding.
fn hello(cookie: &[u8], padding: usize) -> Vec<u8> {
    let mut extensions = vec![0, 14, 0, 5, 0, 2, 0, 7, 0, 0, 23, 0, 0, 0, 10, 0, 4, 0, 2, 0, 29, 0, 21];
    extensions.extend((padding as u16).to_be_bytes());
    extensions.extend(vec![0; padding]);
    let mut out = vec![0xfe, 0xfd];
    out.extend([7; 32]);
    out.extend([0, cookie.len() as u8]);
    out.extend(cookie);
    out.extend([0, 2, 0xc0, 0x2b, 1, 0]);
    out.extend((extensions.len() as u16).to_be_bytes());
    out.extend(extensions);
    out
}

/// Sends a message in fragments of 1000 bytes.
fn send(server: &mut Dtls, kind: u8, message_seq: u16, body: &[u8]) {
    for (index, piece) in body.chunks(1000).enumerate() {
        server.handle_datagram(Instant::now(), &record(kind, message_seq, body.len(), index * 1000, piece));
    }
}

/// As far as our first flight.
fn half_open(certificate: &Arc<Certificate>, padding: usize) -> Dtls {
    let mut server = Dtls::new(certificate.clone(), Vec::new());
    send(&mut server, 1, 0, &hello(&[], padding));
    let request = server.poll_datagram().expect("a HelloVerifyRequest");
    send(&mut server, 1, 1, &hello(&request[13 + 12 + 3..], padding));
    let flight: usize = std::iter::from_fn(|| server.poll_datagram()).map(|datagram| datagram.len()).sum();
    assert!(flight > 400, "a ServerHello with all that follows");
    server
}

#[test]
fn an_association_costs_little_memory() {
    let (certificate, client) = (Arc::new(Certificate::generate().unwrap()), Client::new());
    drop(client.connect(&certificate));

    let idle = bytes_each(|| Dtls::new(certificate.clone(), vec![client.fingerprint.clone()]));
    let half = bytes_each(|| half_open(&certificate, 1500));
    let hostile = bytes_each(|| {
        let mut server = half_open(&certificate, 5900);
        send(&mut server, 15, 4, &[0; 1 << 10]);
        send(&mut server, 16, 3, &[0; 256]);
        (1..1000).for_each(|at| {
            server.handle_datagram(Instant::now(), &record(11, 2, 4 << 10, 4095 - at * 2, &[0]));
            server.handle_datagram(
                Instant::now(),
                &[&[22, 0xfe, 0xfd, 0, 1][..], &[0; 6], &[0, 48], &[7; 48]].concat(),
            );
        });
        while server.poll_datagram().is_some() {}
        server
    });
    let connected = bytes_each(|| client.connect(&certificate));
    println!("heap bytes: idle {idle}, half open {half}, hostile {hostile}, connected {connected}");
    println!("of its own: {}", size_of::<Dtls>());
    assert!(connected <= CONNECTED_BYTES_MAX, "connected {connected}");
    assert!(half <= HALF_OPEN_BYTES_MAX, "half open {half}");
    assert!(hostile <= HOSTILE_BYTES_MAX, "hostile {hostile}");
}
