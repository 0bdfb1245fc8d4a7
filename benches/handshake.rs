//! Handshakes of viewers (`dtls::Dtls`).
//!
//! Only the server's calls are timed, by the CPU time of the thread; the client between them is another library. An
//! element is a join: its inverse is joins per core-second, but for what the rest of the server does for one.

mod feed;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lanecast_webrtc::dtls::{Certificate, Dtls, DtlsEvent};
use lanecast_webrtc::negotiation::Fingerprint;
use nix::time::{ClockId, clock_gettime};
use rtc_dtls::config::{ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::endpoint::Endpoint;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;

const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5);

/// A viewer's side.
struct Client {
    config: Arc<HandshakeConfig>,
    fingerprint: Fingerprint,
}

impl Client {
    fn new(profile: SrtpProtectionProfile) -> Self {
        let Ok(provider) = rtc_crypto::default_provider() else { panic!("there is a provider") };
        let names = vec!["viewer".to_owned()];
        let certificate = rtc_dtls::crypto::Certificate::generate_self_signed(names, provider.crypto());
        let Ok(certificate) = certificate else { panic!("there is a certificate") };
        let hash = ring::digest::digest(&ring::digest::SHA256, &certificate.certificate[0]);
        let fingerprint = Fingerprint { algorithm: "sha-256".to_owned(), bytes: hash.as_ref().to_vec() };
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![profile])
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_insecure_skip_verify(true)
            .build(true, None);
        let Ok(config) = config else { panic!("the settings are good") };
        Self { config: Arc::new(config), fingerprint }
    }
}

/// CPU time of this thread.
fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// What the server's part of one join takes, or of its first `datagrams`.
fn join(certificate: &Arc<Certificate>, viewer: &Client, datagrams: usize) -> Duration {
    let (now, mut taken, mut left) = (Instant::now(), Duration::ZERO, datagrams);
    let mut client = Endpoint::new(PEER, Default::default(), None);
    assert!(client.connect(now, PEER, viewer.config.clone(), None).is_ok());
    let mut server = Dtls::new(certificate.clone(), vec![viewer.fingerprint.clone()]);
    loop {
        let sent: Vec<_> =
            std::iter::from_fn(|| client.poll_transmit()).map(|transmit| transmit.message).collect();
        left = left.saturating_sub(sent.len());
        let start = cpu();
        sent.iter().for_each(|datagram| server.handle_datagram(now, datagram));
        let answers: Vec<_> = std::iter::from_fn(|| server.poll_datagram()).collect();
        let event = server.poll_event();
        taken += cpu() - start;
        match event {
            None if left == 0 => return taken,
            None => answers.iter().for_each(|answer| {
                assert!(client.read(now, PEER, None, (&answer[..]).into()).is_ok());
            }),
            Some(DtlsEvent::Connected(keys)) => {
                black_box(keys);
                return taken;
            }
            Some(event) => panic!("{event:?}"),
        }
    }
}

fn handshake(c: &mut Criterion) {
    let Ok(certificate) = Certificate::generate() else { panic!("there is a certificate") };
    let certificate = Arc::new(certificate);
    let mut group = c.benchmark_group("handshake");
    group.throughput(Throughput::Elements(1));
    for (name, profile, datagrams) in [
        ("whole, GCM", SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, usize::MAX),
        ("whole, CM SHA1", SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80, usize::MAX),
        ("a first hello", SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, 1),
        ("as far as our first flight", SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, 2),
    ] {
        let viewer = Client::new(profile);
        group.bench_function(name, |b| {
            b.iter_custom(|joins| (0..joins).map(|_| join(&certificate, &viewer, datagrams)).sum());
        });
    }
}

criterion_group! { name = benches; config = feed::settings(); targets = handshake }
criterion_main!(benches);
