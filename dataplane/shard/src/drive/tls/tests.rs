use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion, crypto::CryptoProvider,
};

use super::*;

const NAME: &str = "camera.test";
const BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf() -> CertificateParams {
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

fn trusting(root: &CertificateDer<'static>, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Every handshake of a test is to be a whole one.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn serving(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

/// A camera's side, by rustls.
struct Server(ServerConnection);

impl Server {
    fn new(config: &Arc<ServerConfig>) -> Self {
        Self(ServerConnection::new(config.clone()).unwrap())
    }

    /// Takes what the session has to write; gives what it says in plaintext.
    fn take(&mut self, session: &mut TlsSession) -> Vec<u8> {
        let mut said = Vec::new();
        while let Some(bytes) = session.poll_ciphertext() {
            let mut rest = &bytes[..];
            while !rest.is_empty() && self.0.read_tls(&mut rest).unwrap() > 0 {
                self.0.process_new_packets().unwrap();
                let _ = std::io::Read::read_to_end(&mut self.0.reader(), &mut said);
            }
        }
        said
    }

    fn flight(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut bytes).unwrap();
        }
        bytes
    }
}

/// A camera with a good certificate, and who trusts it.
struct Scene {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Scene {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let authority = authority("a known one");
        let key = KeyPair::generate().unwrap();
        let certificate = leaf().signed_by(&key, &authority).unwrap();
        let client = trusting(authority.der(), version);
        Self { client, server: serving(vec![certificate.der().clone()], &key) }
    }

    fn pair(&self) -> (TlsSession, Server) {
        (TlsSession::new(self.client.clone(), NAME).unwrap(), Server::new(&self.server))
    }

    fn connected(&self) -> (TlsSession, Server) {
        let (mut session, mut server) = self.pair();
        let (handshakes, plaintext) =
            converse(&mut session, &mut server, |flight| vec![flight.len()]).unwrap();
        assert_eq!((handshakes, plaintext.len()), (1, 0));
        (session, server)
    }
}

/// Runs both until neither has more to say, the server's flights cut into pieces that end at `cuts`. Gives how often
/// the handshake was told done, and the plaintext.
fn converse(
    session: &mut TlsSession,
    server: &mut Server,
    cuts: impl Fn(&[u8]) -> Vec<usize>,
) -> Result<(usize, BytesMut), String> {
    let mut plaintext = BytesMut::new();
    let mut handshakes = 0;
    loop {
        server.take(session);
        let flight = server.flight();
        if flight.is_empty() {
            return Ok((handshakes, plaintext));
        }
        let mut from = 0;
        for to in cuts(&flight).into_iter().chain([flight.len()]) {
            let to = to.clamp(from, flight.len());
            let progress = session.handle_received(&flight[from..to], &mut plaintext)?;
            assert!(!progress.closed);
            handshakes += usize::from(progress.established);
            from = to;
        }
    }
}

/// What goes wrong with a server that has this certificate.
fn refusal(client: Arc<ClientConfig>, server: &Arc<ServerConfig>) -> String {
    let mut session = TlsSession::new(client, NAME).unwrap();
    let mut server = Server::new(server);
    let sentence = converse(&mut session, &mut server, |_| Vec::new()).unwrap_err();
    assert!(!session.is_established());
    let mut told = false;
    while let Some(bytes) = session.poll_ciphertext() {
        server.0.read_tls(&mut &bytes[..]).unwrap();
        told |= server.0.process_new_packets().is_err();
    }
    assert!(told, "the camera hears of it");
    sentence
}

#[test]
fn text_passes_both_ways_once_the_handshake_is_told() {
    for version in BOTH {
        let (mut session, mut server) = Scene::new(version).connected();
        assert!(session.is_established());
        session.write(b"OPTIONS * RTSP/1.0\r\n\r\n");
        assert_eq!(server.take(&mut session), b"OPTIONS * RTSP/1.0\r\n\r\n");
        server.0.writer().write_all(b"RTSP/1.0 200 OK\r\n\r\n").unwrap();
        let mut plaintext = BytesMut::from(&b"before "[..]);
        let progress = session.handle_received(&server.flight(), &mut plaintext).unwrap();
        assert_eq!(progress, Progress::default());
        assert_eq!(&plaintext[..], b"before RTSP/1.0 200 OK\r\n\r\n");
    }
}

#[test]
fn every_split_of_the_servers_bytes_gives_the_same() {
    for version in BOTH {
        let scene = Scene::new(version);
        let mut cut = 0;
        loop {
            let (mut session, mut server) = scene.pair();
            let longest = std::cell::Cell::new(0);
            let told = converse(&mut session, &mut server, |flight| {
                longest.set(longest.get().max(flight.len()));
                vec![cut]
            });
            assert_eq!(told.unwrap().0, 1, "cut at {cut}");
            if cut > longest.get() {
                break;
            }
            cut += 1;
        }
        assert!(cut > 300, "{cut}");
    }
}

#[test]
fn every_split_of_a_packet_gives_the_same() {
    for version in BOTH {
        let (mut session, mut server) = Scene::new(version).connected();
        for cut in 0..330 {
            let packet = [cut as u8; 300];
            server.0.writer().write_all(&packet).unwrap();
            let flight = server.flight();
            let (first, second) = flight.split_at(cut.min(flight.len()));
            let mut plaintext = BytesMut::new();
            session.handle_received(first, &mut plaintext).unwrap();
            session.handle_received(second, &mut plaintext).unwrap();
            assert_eq!(&plaintext[..], packet, "cut at {cut}");
        }
    }
}

#[test]
fn bytes_one_by_one_give_the_same() {
    for version in BOTH {
        let (mut session, mut server) = Scene::new(version).pair();
        let told = converse(&mut session, &mut server, |flight| (1..=flight.len()).collect()).unwrap();
        assert_eq!(told.0, 1);
    }
}

#[test]
fn a_megabyte_at_once_passes() {
    for version in BOTH {
        let (mut session, mut server) = Scene::new(version).connected();
        server.0.set_buffer_limit(None);
        let media: Vec<u8> = (0..1 << 20).map(|at| (at / 7) as u8).collect();
        server.0.writer().write_all(&media).unwrap();
        let mut plaintext = BytesMut::new();
        for chunk in server.flight().chunks(32 << 10) {
            session.handle_received(chunk, &mut plaintext).unwrap();
        }
        assert!(plaintext[..] == media[..]);
        session.write(&media[..100_000]);
        assert!(server.take(&mut session) == media[..100_000]);
    }
}

#[test]
fn what_the_camera_says_before_it_closes_is_heard() {
    for version in BOTH {
        let (mut session, mut server) = Scene::new(version).connected();
        server.0.writer().write_all(b"last words").unwrap();
        server.0.send_close_notify();
        let mut bytes = server.flight();
        bytes.extend_from_slice(b"and what follows is nothing");
        let mut plaintext = BytesMut::new();
        let progress = session.handle_received(&bytes, &mut plaintext).unwrap();
        assert!(progress.closed && !progress.established);
        assert_eq!(&plaintext[..], b"last words");
    }
}

#[test]
fn a_close_is_told_behind_the_last_request() {
    for version in BOTH {
        let (mut session, mut server) = Scene::new(version).connected();
        session.write(b"TEARDOWN");
        session.close();
        assert_eq!(server.take(&mut session), b"TEARDOWN");
        assert!(server.0.process_new_packets().unwrap().peer_has_closed());
    }
}

#[test]
fn what_is_written_before_the_handshake_is_bounded() {
    let (mut session, mut server) = Scene::new(BOTH[1]).pair();
    session.write(&vec![7; 1 << 20]);
    session.write(&vec![7; 1 << 20]);
    let mut said = Vec::new();
    loop {
        said.extend(server.take(&mut session));
        let flight = server.flight();
        if flight.is_empty() {
            break;
        }
        session.handle_received(&flight, &mut BytesMut::new()).unwrap();
    }
    assert_eq!(said, vec![7; BUFFER_BYTES_MAX]);
}

#[test]
fn an_unknown_authority_is_named_with_what_to_do() {
    let scene = Scene::new(BOTH[1]);
    let sentence = refusal(trusting(authority("another one").der(), BOTH[1]), &scene.server);
    assert_eq!(
        sentence,
        "its certificate is not signed by a known authority: give a CA file, or set insecure"
    );
}

#[test]
fn an_authority_that_only_has_a_known_ones_name_is_told_apart() {
    let scene = Scene::new(BOTH[1]);
    let sentence = refusal(trusting(authority("a known one").der(), BOTH[1]), &scene.server);
    assert!(sentence.starts_with("the signature of its certificate is wrong"), "{sentence}");
}

#[test]
fn a_self_signed_certificate_is_named_with_what_to_do() {
    let camera = {
        let mut params = leaf();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let server = serving(vec![camera.der().clone()], camera.key());
    for root in [authority("another one").der(), camera.der()] {
        let sentence = refusal(trusting(root, BOTH[1]), &server);
        assert!(sentence.contains("CA file, or set insecure"), "{sentence}");
    }
}

#[test]
fn an_expired_certificate_is_named() {
    let authority = authority("a known one");
    let key = KeyPair::generate().unwrap();
    let dated = |from, to| {
        let mut params = leaf();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let certificate = params.signed_by(&key, &authority).unwrap();
        refusal(trusting(authority.der(), BOTH[1]), &serving(vec![certificate.der().clone()], &key))
    };
    let expired = dated(2001, 2002);
    assert!(
        expired.starts_with("its certificate has expired, ") && expired.contains(" days ago"),
        "{expired}"
    );
    assert_eq!(dated(4001, 4002), "its certificate is not valid yet, by this server's clock");
}

#[test]
fn another_name_is_named_and_not_at_any_length() {
    let authority = authority("a known one");
    let key = KeyPair::generate().unwrap();
    let named = |names: Vec<String>| {
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        refusal(trusting(authority.der(), BOTH[1]), &serving(vec![certificate.der().clone()], &key))
    };
    let other = named(vec!["other.test".into()]);
    assert!(other.starts_with("its certificate is not for camera.test, but for "), "{other}");
    assert!(other.contains("other.test"), "{other}");
    let many = named((0..200).map(|number| format!("number-{number}.{}.test", "long".repeat(9))).collect());
    assert!(many.ends_with('…') && many.len() < 200, "{many}");
    let none = named(Vec::new());
    assert!(none.contains("camera.test"), "{none}");
}

#[test]
fn an_address_is_a_name_too() {
    let authority = authority("a known one");
    let key = KeyPair::generate().unwrap();
    let names = ["127.0.0.1".to_owned(), "::1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let server = serving(vec![certificate.der().clone()], &key);
    let client = trusting(authority.der(), BOTH[1]);
    for name in ["127.0.0.1", "[::1]", "::1"] {
        let mut session = TlsSession::new(client.clone(), name).unwrap();
        converse(&mut session, &mut Server::new(&server), |_| Vec::new()).unwrap();
        assert!(session.is_established(), "{name}");
    }
    let mut session = TlsSession::new(client.clone(), "127.0.0.2").unwrap();
    assert!(converse(&mut session, &mut Server::new(&server), |_| Vec::new()).is_err());
    assert!(TlsSession::new(client, "no name").unwrap_err().contains("no name"));
}

#[test]
fn a_server_without_tls_is_told_apart() {
    let scene = Scene::new(BOTH[1]);
    for text in [
        &b"RTSP/1.0 400 Bad Request\r\nCSeq: 1\r\n\r\n"[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$$$$$$$$",
    ] {
        let (mut session, _) = scene.pair();
        let sentence = session.handle_received(text, &mut BytesMut::new()).unwrap_err();
        assert!(sentence.starts_with("what it sent is no TLS (is this its RTSPS port?)"), "{sentence}");
    }
}

#[test]
fn a_version_that_is_too_old_is_told() {
    let scene = Scene::new(BOTH[1]);
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(scene.server.cert_resolver.clone());
    let mut session = TlsSession::new(scene.client.clone(), NAME).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while let Some(bytes) = session.poll_ciphertext() {
        server.read_tls(&mut &bytes[..]).unwrap();
    }
    assert!(server.process_new_packets().is_err());
    let mut alert = Vec::new();
    server.write_tls(&mut alert).unwrap();
    let sentence = session.handle_received(&alert, &mut BytesMut::new()).unwrap_err();
    assert!(sentence.starts_with("it refused our TLS versions and ciphers"), "{sentence}");
}

#[test]
fn hostile_bytes_never_panic_and_never_pass() {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for version in BOTH {
        let scene = Scene::new(version);
        // One byte of the first flight changed.
        let length = {
            let (mut session, mut server) = scene.pair();
            server.take(&mut session);
            server.flight().len()
        };
        for at in (0..length).step_by(3) {
            let (mut session, mut server) = scene.pair();
            server.take(&mut session);
            let mut flight = server.flight();
            if let Some(byte) = flight.get_mut(at) {
                *byte ^= 1 << (next() % 8);
            }
            let mut plaintext = BytesMut::new();
            // Either it is seen, or more is waited for; a record's own version number is nothing.
            let _ = session.handle_received(&flight, &mut plaintext);
            assert!(plaintext.is_empty());
        }
        // Changed packets, and noise that looks like records.
        for _ in 0..200 {
            let (mut session, mut server) = scene.connected();
            server.0.writer().write_all(&[1; 100]).unwrap();
            let mut flight = server.flight();
            let at = 5 + (next() as usize) % (flight.len() - 5);
            flight[at] ^= 1 << (next() % 8);
            let mut plaintext = BytesMut::new();
            assert!(session.handle_received(&flight, &mut plaintext).is_err());
            assert!(plaintext.is_empty());
            // It is over, however much more comes.
            assert!(session.handle_received(&[0x17; 64], &mut plaintext).is_err());
        }
        for _ in 0..100 {
            let (mut session, _) = scene.pair();
            let mut failed = false;
            for _ in 0..16 {
                let length = (next() % 20_000) as usize;
                let mut record = vec![20 + (next() % 5) as u8, 3, 3, (length >> 8) as u8, length as u8];
                record.extend((0..length).map(|_| next() as u8));
                failed |= session.handle_received(&record, &mut BytesMut::new()).is_err();
            }
            assert!(failed && !session.is_established());
        }
    }
}

#[test]
fn what_never_becomes_a_record_is_bounded() {
    let (mut session, _) = Scene::new(BOTH[1]).pair();
    // A handshake message that says it has 16 MB, in records of 16 KB.
    let mut record = vec![22, 3, 3, 0x40, 0x00, 2, 0xFF, 0xFF, 0xFF];
    record.resize(5 + 0x4000, 0);
    let sentence = session.handle_received(&record, &mut BytesMut::new()).unwrap_err();
    assert!(sentence.contains("no TLS"), "{sentence}");
}
