//! The server against two other implementations as clients, over a link in memory, in virtual time.

use ring::digest;
use rtc_dtls::config::{ConfigBuilder, ExtendedMasterSecretType};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;

use super::record::{ALERT, HANDSHAKE, RECORD_HEADER_BYTES};
use super::*;
use crate::srtp::SrtpProfile;

/// A client of somebody else.
trait Client {
    fn start(&mut self, now: Instant);
    fn handle(&mut self, now: Instant, datagram: &[u8]);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_timeout(&self) -> Option<Instant>;
    fn poll(&mut self) -> Option<Vec<u8>>;
    fn close(&mut self, now: Instant);
    /// Exported, once connected.
    fn material(&self) -> Option<&[u8]>;
    fn is_closed(&self) -> bool;
}

/// `rtc-dtls` in the role of the client.
struct RtcClient {
    endpoint: Endpoint,
    config: Arc<rtc_dtls::config::HandshakeConfig>,
    material: Option<Vec<u8>>,
    is_closed: bool,
}

impl RtcClient {
    const SERVER: std::net::SocketAddr =
        std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5);

    fn new(identity: &Identity, profiles: &[SrtpProtectionProfile]) -> Self {
        Self::with(identity, |config| config.with_srtp_protection_profiles(profiles.to_vec()))
    }

    fn with(identity: &Identity, change: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let config = ConfigBuilder::default()
            .with_crypto_provider(rtc_crypto::default_provider().unwrap())
            .with_certificates(vec![identity.certificate.clone()])
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_insecure_skip_verify(true);
        let config = Arc::new(change(config).build(true, None).unwrap());
        let endpoint = Endpoint::new(Self::SERVER, Default::default(), None);
        Self { endpoint, config, material: None, is_closed: false }
    }
}

impl Client for RtcClient {
    fn start(&mut self, now: Instant) {
        self.endpoint.connect(now, Self::SERVER, self.config.clone(), None).unwrap();
    }

    fn handle(&mut self, now: Instant, datagram: &[u8]) {
        for event in self.endpoint.read(now, Self::SERVER, None, datagram.into()).unwrap_or_default() {
            match event {
                EndpointEvent::HandshakeComplete => {
                    let state = self.endpoint.get_connection_state(Self::SERVER).unwrap();
                    let bytes = match state.srtp_protection_profile() {
                        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => 60,
                        _ => 56,
                    };
                    let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], bytes).unwrap();
                    self.material = Some(material.as_ref().to_vec());
                }
                EndpointEvent::PeerClosed => self.is_closed = true,
                _ => {}
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let _ = self.endpoint.handle_timeout(Self::SERVER, now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&Self::SERVER)
    }

    fn poll(&mut self) -> Option<Vec<u8>> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message.to_vec())
    }

    fn close(&mut self, now: Instant) {
        self.endpoint.stop(now, Self::SERVER);
    }

    fn material(&self) -> Option<&[u8]> {
        self.material.as_deref()
    }

    fn is_closed(&self) -> bool {
        self.is_closed
    }
}

/// `dimpl` in the role of the client.
struct DimplClient {
    dtls: dimpl::Dtls,
    datagrams: VecDeque<Vec<u8>>,
    timeout: Option<Instant>,
    material: Option<Vec<u8>>,
    is_closed: bool,
}

impl DimplClient {
    /// `is_hybrid`: it offers DTLS 1.3 as well, as browsers do. `mtu` cuts its hello.
    fn new(now: Instant, identity: &Identity, is_hybrid: bool, mtu: usize) -> Self {
        let provider = dimpl::crypto::rust_crypto::default_provider();
        // What browsers have by default, but for the first timeout: Chromium's.
        let config = dimpl::Config::builder()
            .with_crypto_provider(provider)
            .flight_start_rto(Duration::from_millis(50))
            .flight_retries(12)
            .mtu(mtu)
            .dangerously_set_rng_seed(7)
            .build()
            .unwrap();
        let (certificate, private_key) = (identity.der().to_vec(), identity.key());
        let certificate = dimpl::DtlsCertificate { certificate, private_key };
        let make = if is_hybrid { dimpl::Dtls::new_auto } else { dimpl::Dtls::new_12 };
        let mut dtls = make(Arc::new(config), certificate, now);
        dtls.set_active(true);
        Self { dtls, datagrams: VecDeque::new(), timeout: None, material: None, is_closed: false }
    }

    fn drain(&mut self) {
        let mut buffer = [0; 2048];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                dimpl::Output::Packet(packet) => self.datagrams.push_back(packet.to_vec()),
                dimpl::Output::Timeout(at) => break self.timeout = Some(at),
                dimpl::Output::KeyingMaterial(material, _) => self.material = Some(material.to_vec()),
                dimpl::Output::CloseNotify => self.is_closed = true,
                _ => {}
            }
        }
    }
}

impl Client for DimplClient {
    fn start(&mut self, now: Instant) {
        self.handle_timeout(now);
    }

    fn handle(&mut self, now: Instant, datagram: &[u8]) {
        self.handle_timeout(now);
        self.dtls.handle_packet(datagram).unwrap();
        self.drain();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.dtls.handle_timeout(now).unwrap();
        self.drain();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    fn poll(&mut self) -> Option<Vec<u8>> {
        self.datagrams.pop_front()
    }

    fn close(&mut self, _now: Instant) {
        self.dtls.close().unwrap();
        self.drain();
    }

    fn material(&self) -> Option<&[u8]> {
        self.material.as_deref()
    }

    fn is_closed(&self) -> bool {
        self.is_closed
    }
}

/// A client's certificate.
struct Identity {
    certificate: rtc_dtls::crypto::Certificate,
}

impl Identity {
    fn new() -> Self {
        let provider = rtc_crypto::default_provider().unwrap();
        let names = vec!["viewer".to_owned()];
        Self {
            certificate: rtc_dtls::crypto::Certificate::generate_self_signed(names, provider.crypto())
                .unwrap(),
        }
    }

    fn der(&self) -> &[u8] {
        &self.certificate.certificate[0]
    }

    fn key(&self) -> Vec<u8> {
        self.certificate.private_key.signing_key.to_pkcs8_der().unwrap().unwrap().as_ref().to_vec()
    }

    fn fingerprint(&self) -> Fingerprint {
        let bytes = digest::digest(&digest::SHA256, self.der()).as_ref().to_vec();
        Fingerprint { algorithm: "sha-256".to_owned(), bytes }
    }
}

/// A path that loses, doubles and delays, each in `1/256` of the datagrams, by a seed.
struct Link {
    seed: u64,
    loss: u8,
    double: u8,
    delay: u8,
}

impl Link {
    const PERFECT: Self = Self { seed: 1, loss: 0, double: 0, delay: 0 };

    /// xorshift64*.
    fn random(&mut self) -> u8 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        (self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    }

    /// When the copies of a datagram arrive.
    fn arrivals(&mut self, now: Instant) -> Vec<Instant> {
        if self.random() < self.loss {
            return Vec::new();
        }
        let copies = 1 + u64::from(self.random() < self.double);
        let late = u64::from(self.random() < self.delay) * u64::from(self.random());
        (1..=copies).map(|copy| now + Duration::from_millis(10 * copy + late)).collect()
    }
}

/// Server, client, what is between them, and what they said.
struct Scene {
    server: Dtls,
    client: Box<dyn Client>,
    link: Link,
    now: Instant,
    /// Arrival, to the server, datagram.
    in_flight: Vec<(Instant, bool, Vec<u8>)>,
    keys: Option<Box<SrtpKeys>>,
    is_closed: bool,
    failure: Option<String>,
    /// Datagrams that the server sent.
    sent: usize,
}

fn certificate() -> Arc<Certificate> {
    Arc::new(Certificate::generate().unwrap())
}

impl Scene {
    fn new(link: Link, fingerprint: Fingerprint, client: impl FnOnce(Instant) -> Box<dyn Client>) -> Self {
        let now = Instant::now();
        let (server, mut client) = (Dtls::new(certificate(), vec![fingerprint]), client(now));
        client.start(now);
        let mut scene = Self {
            server,
            client,
            link,
            now,
            in_flight: Vec::new(),
            keys: None,
            is_closed: false,
            failure: None,
            sent: 0,
        };
        scene.collect();
        scene
    }

    fn with_dimpl(link: Link, is_hybrid: bool, mtu: usize) -> Self {
        let identity = Identity::new();
        let fingerprint = identity.fingerprint();
        Self::new(link, fingerprint, |now| Box::new(DimplClient::new(now, &identity, is_hybrid, mtu)))
    }

    fn with_rtc(profiles: &[SrtpProtectionProfile]) -> Self {
        let identity = Identity::new();
        Self::new(Link::PERFECT, identity.fingerprint(), |_| Box::new(RtcClient::new(&identity, profiles)))
    }

    /// What both have to send goes on its way; what the server tells is kept.
    fn collect(&mut self) {
        while let Some(datagram) = self.client.poll() {
            self.carry(true, &datagram);
        }
        while let Some(datagram) = self.server.poll_datagram() {
            self.sent += 1;
            self.carry(false, &datagram);
        }
        while let Some(event) = self.server.poll_event() {
            match event {
                DtlsEvent::Connected(keys) => assert!(self.keys.replace(keys).is_none(), "connected once"),
                DtlsEvent::Closed => self.is_closed = true,
                DtlsEvent::Failed(reason) => self.failure = Some(reason),
            }
        }
    }

    fn carry(&mut self, to_server: bool, datagram: &[u8]) {
        let arrivals = self.link.arrivals(self.now);
        self.in_flight.extend(arrivals.into_iter().map(|at| (at, to_server, datagram.to_vec())));
    }

    /// The next thing that happens; false if nothing will.
    fn step(&mut self) -> bool {
        let timers = [self.server.poll_timeout(), self.client.poll_timeout()];
        let arrival = self.in_flight.iter().map(|(at, ..)| *at).min();
        let Some(next) = timers.into_iter().flatten().chain(arrival).min() else { return false };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let index = self.in_flight.iter().position(|(at, ..)| *at == next).unwrap();
            let (_, to_server, datagram) = self.in_flight.remove(index);
            match to_server {
                true => self.server.handle_datagram(self.now, &datagram),
                false => self.client.handle(self.now, &datagram),
            }
        }
        if self.server.poll_timeout().is_some_and(|at| at <= self.now) {
            self.server.handle_timeout(self.now);
        }
        if self.client.poll_timeout().is_some_and(|at| at <= self.now) {
            self.client.handle_timeout(self.now);
        }
        self.collect();
        true
    }

    fn run_while(&mut self, go_on: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(60);
        while go_on(self) && self.now < end && self.step() {}
    }

    fn connect(&mut self) -> &mut Self {
        self.run_while(|scene| {
            scene.failure.is_none() && (scene.keys.is_none() || scene.client.material().is_none())
        });
        assert_eq!(self.failure, None);
        self
    }

    /// Both sides have the same keys, each the other way round.
    fn assert_same_keys(&self, profile: SrtpProfile, salt: usize) {
        let (keys, material) = (self.keys.as_ref().unwrap(), self.client.material().unwrap());
        assert_eq!(keys.profile, profile);
        let ours = [&keys.remote.key[..], &keys.local.key, &keys.remote.salt, &keys.local.salt].concat();
        assert_eq!((&ours[..], material.len()), (material, 32 + 2 * salt));
    }
}

const CM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80;
const GCM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
const GCM_256: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm;

#[test]
fn gcm_is_chosen_though_the_client_prefers_another() {
    // The order of Chromium.
    let mut scene = Scene::with_rtc(&[CM, GCM_256, GCM]);
    scene.connect().assert_same_keys(SrtpProfile::AeadAes128Gcm, 12);
    assert_eq!((scene.server.dropped(), scene.sent), (0, 3));
}

#[test]
fn a_client_without_gcm_gets_sha1() {
    let mut scene = Scene::with_rtc(&[GCM_256, CM]);
    scene.connect().assert_same_keys(SrtpProfile::Aes128CmHmacSha1_80, 14);
}

#[test]
fn another_implementation_agrees() {
    for is_hybrid in [false, true] {
        let mut scene = Scene::with_dimpl(Link::PERFECT, is_hybrid, 1200);
        scene.connect().assert_same_keys(SrtpProfile::AeadAes128Gcm, 12);
    }
}

#[test]
fn hellos_in_many_datagrams_are_put_together() {
    for mtu in [100, 150, 300] {
        let mut scene = Scene::with_dimpl(Link::PERFECT, true, mtu);
        scene.connect().assert_same_keys(SrtpProfile::AeadAes128Gcm, 12);
    }
}

#[test]
fn lost_doubled_and_late_datagrams_do_no_harm() {
    let mut slowest = Duration::ZERO;
    for seed in 1..=150 {
        let link = Link { seed, loss: 50, double: 25, delay: 50 };
        let mut scene = Scene::with_dimpl(link, seed % 2 == 0, if seed % 3 == 0 { 400 } else { 1200 });
        let start = scene.now;
        scene.connect().assert_same_keys(SrtpProfile::AeadAes128Gcm, 12);
        slowest = slowest.max(scene.now - start);
    }
    assert!(slowest < Duration::from_secs(20), "{slowest:?}");
}

/// Each single datagram of a handshake, lost once.
#[test]
fn any_one_lost_datagram_costs_one_repetition() {
    for lost in 0..6 {
        let mut scene = Scene::with_dimpl(Link::PERFECT, false, 1200);
        let start = scene.now;
        for _ in 0..lost {
            scene.step();
        }
        if !scene.in_flight.is_empty() {
            scene.in_flight.remove(0);
        }
        scene.connect();
        assert!(scene.now - start < Duration::from_millis(700), "{lost}: {:?}", scene.now - start);
    }
}

#[test]
fn the_clock_sends_a_flight_again_and_gives_up() {
    let mut scene = Scene::with_dimpl(Link::PERFECT, false, 1200);
    // The server's first flight goes out; nobody is there any more.
    scene.run_while(|scene| scene.sent < 2);
    let mut datagrams = Vec::new();
    while let Some(at) = scene.server.poll_timeout() {
        scene.server.handle_timeout(at);
        datagrams.extend(std::iter::from_fn(|| scene.server.poll_datagram()));
        scene.now = at;
    }
    assert!((4..=12).contains(&datagrams.len()), "{}", datagrams.len());
    let number = |datagram: &Bytes| datagram[5..11].to_vec();
    assert!(datagrams.windows(2).all(|pair| number(&pair[0]) < number(&pair[1])), "records have new numbers");
    assert!(matches!(scene.server.poll_event(), Some(DtlsEvent::Failed(reason)) if reason.contains("30 s")));
    assert_eq!(scene.server.poll_timeout(), None);
}

#[test]
fn whoever_asks_for_a_flight_again_and_again_is_answered_but_not_without_end() {
    let mut scene = Scene::with_dimpl(Link::PERFECT, false, 1200);
    scene.run_while(|scene| !scene.in_flight.iter().any(|(_, to_server, _)| *to_server) || scene.sent == 0);
    let (_, _, hello) = scene.in_flight.iter().find(|(_, to_server, _)| *to_server).unwrap().clone();
    let mut answers = 0;
    for _ in 0..1000 {
        scene.now += Duration::from_millis(25);
        scene.server.handle_datagram(scene.now, &hello);
        answers += std::iter::from_fn(|| scene.server.poll_datagram()).count();
    }
    assert_eq!(answers, 1 + 12);
    assert!(scene.server.poll_timeout().is_some(), "the clock goes on");
}

#[test]
fn a_client_of_another_certificate_fails_and_is_told() {
    let (identity, other) = (Identity::new(), Identity::new());
    let client = |_| -> Box<dyn Client> { Box::new(RtcClient::new(&identity, &[GCM])) };
    let mut scene = Scene::new(Link::PERFECT, other.fingerprint(), client);
    scene.run_while(|scene| scene.failure.is_none());
    assert!(scene.failure.as_ref().unwrap().contains("certificate"), "{:?}", scene.failure);
    let (_, _, last) = scene.in_flight.last().unwrap();
    assert_eq!((last[0], &last[RECORD_HEADER_BYTES..]), (ALERT, &[2, 42][..]));
    assert!(scene.keys.is_none() && scene.client.material().is_none());
}

#[test]
fn a_client_without_a_certificate_or_srtp_or_master_secret_fails() {
    let identity = Identity::new();
    type Change = fn(ConfigBuilder) -> ConfigBuilder;
    let changes: [(&str, Change); 3] = [
        ("certificate", |config| config.with_certificates(vec![]).with_srtp_protection_profiles(vec![GCM])),
        ("SRTP", |config| config.with_srtp_protection_profiles(vec![GCM_256])),
        ("master secret", |config| {
            config
                .with_srtp_protection_profiles(vec![GCM])
                .with_extended_master_secret(ExtendedMasterSecretType::Disable)
        }),
    ];
    for (what, change) in changes {
        let client = |_| -> Box<dyn Client> { Box::new(RtcClient::with(&identity, change)) };
        let mut scene = Scene::new(Link::PERFECT, identity.fingerprint(), client);
        scene.run_while(|scene| scene.failure.is_none());
        assert!(scene.failure.as_ref().unwrap().contains(what), "{what}: {:?}", scene.failure);
    }
}

/// What strangers may send while a handshake is under way.
fn garbage() -> Vec<Vec<u8>> {
    let alert = [&[ALERT, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 9, 9, 0, 2][..], &[2, 40]].concat();
    let sealed = [&[ALERT, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 9, 9, 0, 26][..], &[7; 26]].concat();
    let finished = [&[HANDSHAKE, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 9, 9, 0, 48][..], &[7; 48]].concat();
    let data = [&[23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 9, 9, 0, 48][..], &[7; 48]].concat();
    let hello = record::write_message(1, 0, 5, &[0xfe; 300]).to_vec();
    let far = record::write_message(11, 9, 5, &[0; 300]).to_vec();
    let unknown = [&[99, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 9, 9, 0, 3][..], &[7; 3]].concat();
    let cut = hello[..100].to_vec();
    vec![alert, sealed, finished, data, hello, far, unknown, cut, vec![22; 1400], vec![20], vec![0; 5000]]
}

#[test]
fn garbage_between_is_harmless_and_counted() {
    let mut scene = Scene::with_dimpl(Link::PERFECT, true, 300);
    let mut steps = 0;
    while scene.keys.is_none() {
        for datagram in garbage() {
            scene.server.handle_datagram(scene.now, &datagram);
        }
        scene.collect();
        scene.step();
        steps += 1;
        assert!(steps < 100);
    }
    scene.connect().assert_same_keys(SrtpProfile::AeadAes128Gcm, 12);
    let before = scene.server.dropped();
    garbage().iter().for_each(|datagram| scene.server.handle_datagram(scene.now, datagram));
    scene.collect();
    assert!(before > 10 && scene.server.dropped() > before && !scene.is_closed && scene.failure.is_none());
}

#[test]
fn every_cut_and_flipped_byte_of_a_first_hello_is_harmless() {
    let mut scene = Scene::with_dimpl(Link::PERFECT, true, 1200);
    let (_, _, hello) = scene.in_flight.remove(0);
    for end in 0..hello.len() {
        let mut server = Dtls::new(certificate_of_all(), Vec::new());
        server.handle_datagram(scene.now, &hello[..end]);
        assert_eq!(server.poll_datagram(), None);
        // Then the whole one.
        server.handle_datagram(scene.now, &hello);
        assert!(server.poll_datagram().is_some(), "{end}");
    }
    for at in 0..hello.len() {
        let mut flipped = hello.clone();
        flipped[at] ^= 0xff;
        let mut server = Dtls::new(certificate_of_all(), Vec::new());
        server.handle_datagram(scene.now, &flipped);
    }
}

/// Made once: it costs a key.
fn certificate_of_all() -> Arc<Certificate> {
    static CERTIFICATE: std::sync::OnceLock<Arc<Certificate>> = std::sync::OnceLock::new();
    CERTIFICATE.get_or_init(certificate).clone()
}

#[test]
fn the_clients_goodbye_closes_and_is_answered() {
    for is_hybrid in [false, true] {
        let mut scene = Scene::with_dimpl(Link::PERFECT, is_hybrid, 1200);
        scene.connect();
        let sent = scene.sent;
        scene.client.close(scene.now);
        scene.collect();
        scene.run_while(|scene| !scene.is_closed);
        assert!(scene.is_closed && scene.failure.is_none());
        assert_eq!(scene.sent, sent + 1, "close_notify for close_notify");
        scene.server.close();
        assert_eq!(scene.server.poll_datagram(), None);
    }
    let mut scene = Scene::with_rtc(&[CM]);
    scene.connect();
    scene.client.close(scene.now);
    scene.collect();
    scene.run_while(|scene| !scene.is_closed);
    assert!(scene.is_closed);
}

#[test]
fn our_goodbye_is_understood() {
    let dimpl = Scene::with_dimpl(Link::PERFECT, false, 1200);
    for mut scene in [dimpl, Scene::with_rtc(&[GCM])] {
        scene.connect();
        scene.server.close();
        scene.collect();
        scene.run_while(|scene| !scene.client.is_closed());
        assert!(scene.client.is_closed());
        assert!(!scene.is_closed, "we know");
    }
}

#[test]
fn a_repeated_last_flight_is_answered_but_not_without_end() {
    let mut scene = Scene::with_dimpl(Link::PERFECT, false, 1200);
    let mut last = Vec::new();
    while scene.keys.is_none() {
        if let Some((_, true, datagram)) = scene.in_flight.first() {
            last = datagram.clone();
        }
        scene.step();
    }
    scene.in_flight.clear();
    scene.server.handle_datagram(scene.now, &last);
    assert_eq!(scene.server.poll_datagram(), None, "too soon");
    let mut answers = 0;
    for _ in 0..1000 {
        scene.now += Duration::from_millis(50);
        scene.server.handle_datagram(scene.now, &last);
        answers += std::iter::from_fn(|| scene.server.poll_datagram()).count();
    }
    assert_eq!(answers, 16);
    assert!(scene.client.material().is_none(), "it did not have our Finished");
}

#[test]
fn a_second_hello_unlike_the_first_is_refused() {
    // Somebody on the path takes GCM out of the first hello, which no signature covers.
    let mut scene = Scene::with_rtc(&[CM, GCM]);
    let (_, _, hello) = &mut scene.in_flight[0];
    let at = hello.windows(6).position(|window| window == [0, 4, 0, 1, 0, 7]).unwrap();
    hello[at + 5] = 8;
    scene.run_while(|scene| scene.failure.is_none() && scene.keys.is_none());
    assert!(scene.failure.as_ref().unwrap().contains("second hello"), "{:?}", scene.failure);
}

#[test]
fn a_second_hello_with_a_guessed_cookie_is_no_hello() {
    let mut scene = Scene::with_rtc(&[GCM]);
    scene.run_while(|scene| {
        !scene.in_flight.iter().any(|(_, to_server, datagram)| *to_server && datagram[18] == 1)
    });
    let (_, _, hello) = scene.in_flight.first().unwrap();
    let mut guessed = hello.clone();
    // Record, fragment header, version, random, session id, length.
    guessed[13 + 12 + 2 + 32 + 1 + 1] ^= 1;
    scene.server.handle_datagram(scene.now, &guessed);
    assert_eq!(scene.server.dropped(), 1);
    scene.connect().assert_same_keys(SrtpProfile::AeadAes128Gcm, 12);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn any_datagrams_are_harmless(
        datagrams in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..300), 0..20),
    ) {
        let mut server = Dtls::new(certificate_of_all(), Vec::new());
        for datagram in datagrams {
            server.handle_datagram(Instant::now(), &datagram);
        }
        assert!(server.poll_event().is_none());
    }
}
