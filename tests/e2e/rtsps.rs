//! Cameras by RTSPS: who is believed, and what an operator reads of those who are not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Camera, Codec, GstServer, Server};
use crate::servers::Film;

const ANYBODY: &str = "its certificate is not signed by a known authority: give a CA file, or set insecure";

/// Short patience, so that silence shows soon.
fn server() -> Server {
    Server::start_with(&["--source-connect-timeout-seconds", "2", "--source-reply-timeout-seconds", "2"])
}

fn create(server: &Server, url: &str, tls: Value) {
    let input = json!({ "label": "main", "url": url, "priority": 0, "tls": tls });
    server.rest.post("/streams", &json!({ "source_id": 7, "rtsp_inputs": [input] })).expect(201);
}

fn ca_file(path: &Path) -> Value {
    json!({ "ca_file": path })
}

/// An authority, and a folder as GStreamer's server takes it: a certificate for one name, by that authority.
struct Signed {
    folder: TempDir,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Signed {
    fn for_name(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("it signs");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &authority).expect("it signs");
        let folder = tempfile::tempdir().expect("a temporary directory");
        let write = |name, text: String| std::fs::write(folder.path().join(name), text).expect("a file");
        write("certificate.pem", certificate.pem());
        write("key.pem", key.serialize_pem());
        write("authority.pem", authority.pem());
        Self { folder, certificate: certificate.der().clone(), key }
    }

    fn authority(&self) -> Value {
        ca_file(&self.folder.path().join("authority.pem"))
    }
}

#[test]
fn a_camera_whose_own_certificate_is_given_plays() {
    for (name, codec) in [("h264", Codec::H264), ("h265", Codec::H265)] {
        let camera = GstServer::start_tls(&format!("--codec {name}"));
        let server = server();
        create(&server, &camera.url(), ca_file(&camera.certificate()));
        server.rest.active("7");
        let mut film = Film::of(&server, codec);
        film.watch(60);
        film.assert_whole();
    }
}

#[test]
fn a_camera_that_an_authority_vouches_for_plays_behind_digest_and_with_large_pictures() {
    let signed = Signed::for_name("127.0.0.1");
    let authority = signed.authority();
    let camera = GstServer::start_tls_in(
        "--codec h264 --digest ann:s3cret-word --bitrate-kbps 20000 --size 1280x720",
        signed.folder,
    );
    let server = server();
    create(&server, &camera.url_with("ann", "s3cret-word"), authority);
    server.rest.active("7");
    let mut film = Film::of(&server, Codec::H264);
    film.watch(60);
    film.assert_whole();
}

#[test]
fn nobody_is_believed_unasked_and_anybody_when_it_is_set() {
    let camera = GstServer::start_tls("--codec h264");
    let server = server();
    create(&server, &camera.url(), Value::Null);
    let reason = server.rest.error_reason("7");
    assert!(reason.contains(ANYBODY), "{reason}");

    server.rest.patch("/streams/7", &json!({ "tls": { "insecure": true } })).expect(200);
    server.rest.active("7");
    let warnings = server.log().lines().filter(|line| line.contains("insecure: whoever answers")).count();
    assert_eq!(warnings, 1, "an operator is warned, once");
    let mut film = Film::of(&server, Codec::H264);
    film.watch(30);
    film.assert_whole();

    // What nobody vouches for is not kept either.
    server.rest.patch("/streams/7", &json!({ "tls": null })).expect(200);
    let reason = server.rest.error_reason("7");
    assert!(reason.contains(ANYBODY), "{reason}");
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let signed = Signed::for_name("elsewhere.test");
    let authority = signed.authority();
    let camera = GstServer::start_tls_in("--codec h264", signed.folder);
    let server = server();
    create(&server, &camera.url(), authority);
    let reason = server.rest.error_reason("7");
    assert!(reason.contains("its certificate is not for 127.0.0.1, but for "), "{reason}");
    assert!(reason.contains("elsewhere.test"), "{reason}");
}

#[test]
fn a_camera_without_tls_is_told_apart() {
    let server = server();
    let gstreamer = GstServer::start("--codec h264");
    create(&server, &gstreamer.url().replace("rtsp:", "rtsps:"), json!({ "insecure": true }));
    let reason = server.rest.error_reason("7");
    assert!(reason.contains("TLS"), "{reason}");

    let camera = Camera::start("--codec h264");
    let url = camera.url().replace("rtsp:", "rtsps:");
    server.rest.patch("/streams/7", &json!({ "rtsp_url": url, "tls": { "insecure": true } })).expect(200);
    let port = url.rsplit(':').next().and_then(|rest| rest.split('/').next()).expect("a port").to_owned();
    let reason = server.rest.stream_when("7", "in Error by the other camera", |stream| {
        stream["state"] == "Error"
            && stream["state_reason"].as_str().is_some_and(|reason| reason.contains(&port))
    });
    assert!(reason["state_reason"].to_string().contains("TLS"), "{reason}");
}

#[test]
fn a_camera_that_comes_back_is_connected_to_again() {
    let camera = GstServer::start_tls("--codec h264");
    let server = server();
    create(&server, &camera.url(), ca_file(&camera.certificate()));
    server.rest.active("7");
    let mut film = Film::of(&server, Codec::H264);
    film.watch(20);
    let dead = camera.kill();
    server.rest.stream_when("7", "not Active", |stream| stream["state"] != "Active");
    let _camera = dead.restart();
    server.rest.active("7");
    film.watch(40);
    film.assert_whole();
}

#[test]
fn a_ca_file_that_is_gone_is_told_at_once_or_after_a_restart() {
    let camera = GstServer::start_tls("--codec h264");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("ca.pem");
    let server = server();
    let input = json!({ "label": "main", "url": camera.url(), "priority": 0, "tls": ca_file(&file) });
    let body = json!({ "source_id": 7, "rtsp_inputs": [input] });
    let refused = server.rest.post("/streams", &body).expect(422).text;
    assert!(refused.contains("rtsp_inputs[0].tls") && refused.contains("ca.pem"), "{refused}");
    std::fs::write(&file, "").expect("a file");
    let refused = server.rest.post("/streams", &body).expect(422).text;
    assert!(refused.contains("holds no certificate in PEM"), "{refused}");

    std::fs::copy(camera.certificate(), &file).expect("a file");
    server.rest.post("/streams", &body).expect(201);
    server.rest.active("7");
    std::fs::remove_file(&file).expect("it is there");
    let server = server.restart();
    let reason = server.rest.error_reason("7");
    assert!(reason.contains("its certificate cannot be checked: cannot read"), "{reason}");
    assert!(reason.contains("ca.pem"), "{reason}");

    std::fs::copy(camera.certificate(), &file).expect("a file");
    server.rest.patch("/streams/7", &json!({ "tls": ca_file(&file) })).expect(200);
    server.rest.active("7");
}

/// Who answers in the place of a camera; what it does with a connection is its own.
struct Impostor {
    port: u16,
    _thread: JoinHandle<()>,
}

impl Impostor {
    /// Its thread ends with the process: it waits for a connection, or for the end of one.
    fn start(answer: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let _thread = std::thread::spawn(move || listener.incoming().flatten().for_each(&answer));
        Self { port, _thread }
    }

    /// After a handshake with this certificate.
    fn behind_tls(signed: &Signed, answer: impl Fn(Tls) + Send + 'static) -> Self {
        let key = PrivateKeyDer::try_from(signed.key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![signed.certificate.clone()], key)
            .expect("a certificate");
        let config = Arc::new(config);
        Self::start(move |socket| {
            let connection = ServerConnection::new(config.clone()).expect("a connection");
            let mut tls = StreamOwned::new(connection, socket);
            while tls.conn.is_handshaking() {
                if tls.conn.complete_io(&mut tls.sock).is_err() {
                    return;
                }
            }
            answer(tls);
        })
    }

    fn url(&self) -> String {
        format!("rtsps://127.0.0.1:{}/cam", self.port)
    }
}

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// Until the other side has closed.
fn swallow(stream: &mut impl Read) {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
}

/// The reason that a stream by this impostor is in Error for.
fn reason_by(impostor: &Impostor, tls: Value) -> String {
    let server = server();
    create(&server, &impostor.url(), tls);
    let reason = server.rest.error_reason("7");
    assert!(server.rest.metric("lanecast_shard_up") > 0.0);
    reason
}

#[test]
fn silence_in_the_handshake_ends_with_the_connect_timeout() {
    let impostor = Impostor::start(|mut socket| swallow(&mut socket));
    let reason = reason_by(&impostor, json!({ "insecure": true }));
    assert!(reason.contains("TLS handshake in time"), "{reason}");
}

#[test]
fn silence_after_the_handshake_ends_with_the_reply_timeout() {
    let signed = Signed::for_name("127.0.0.1");
    let impostor = Impostor::behind_tls(&signed, |mut tls| swallow(&mut tls));
    let reason = reason_by(&impostor, signed.authority());
    assert!(reason.contains("OPTIONS"), "{reason}");
}

#[test]
fn an_end_in_the_handshake_is_told() {
    let impostor = Impostor::start(|mut socket| {
        // It has seen the ClientHello.
        let _ = socket.read(&mut [0; 4096]);
    });
    let reason = reason_by(&impostor, json!({ "insecure": true }));
    assert!(reason.contains("in the TLS handshake (is this its RTSPS port?)"), "{reason}");
}

#[test]
fn noise_in_the_place_of_tls_is_refused() {
    for noise in [vec![0; 1 << 20], vec![0x16; 1 << 20], b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n".to_vec()] {
        let impostor = Impostor::start(move |mut socket| {
            // It may not want all of it.
            let _ = socket.write_all(&noise);
            swallow(&mut socket);
        });
        let reason = reason_by(&impostor, json!({ "insecure": true }));
        assert!(reason.contains("what it sent is no TLS"), "{reason}");
    }
}

#[test]
fn noise_below_and_in_tls_after_the_handshake_ends_the_attempt() {
    let signed = Signed::for_name("127.0.0.1");
    let below = Impostor::behind_tls(&signed, |mut tls| {
        let mut record = vec![0x17, 3, 3, 0x10, 0x00];
        record.resize(5 + 0x1000, 7);
        let _ = tls.sock.write_all(&record);
        swallow(&mut tls.sock);
    });
    let reason = reason_by(&below, signed.authority());
    assert!(reason.contains("TLS failed: cannot decrypt"), "{reason}");

    let within = Impostor::behind_tls(&signed, |mut tls| {
        // Endless, until it is hung up on.
        while tls.write_all(&[0xA5; 16 << 10]).is_ok() {}
    });
    let reason = reason_by(&within, signed.authority());
    assert!(!reason.is_empty() && !reason.contains("TLS"), "{reason}");
}

#[test]
fn a_camera_that_closes_in_tls_is_heard() {
    let signed = Signed::for_name("127.0.0.1");
    let impostor = Impostor::behind_tls(&signed, |mut tls| {
        let _ = tls.read(&mut [0; 4096]);
        tls.conn.send_close_notify();
        let _ = tls.flush();
        // The connection itself stays open.
        swallow(&mut tls.sock);
    });
    let reason = reason_by(&impostor, signed.authority());
    assert!(reason.contains("closed the connection"), "{reason}");
}

#[test]
fn a_redirect_to_rtsps_from_an_input_that_says_nothing_of_trust_is_told() {
    let signed = Signed::for_name("127.0.0.1");
    let target = Impostor::behind_tls(&signed, |mut tls| swallow(&mut tls)).url();
    let redirecting = Impostor::start(move |mut socket| {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = socket.read(&mut bytes) {
            let request = String::from_utf8_lossy(&bytes[..count]);
            let number = request.lines().find_map(|line| line.strip_prefix("CSeq:")).unwrap_or("1").trim();
            let answer = format!("RTSP/1.0 302 Found\r\nCSeq: {number}\r\nLocation: {target}\r\n\r\n");
            // It may have gone there already.
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    let server = server();
    server.rest.create(7, &redirecting.url().replace("rtsps:", "rtsp:"));
    let reason = server.rest.error_reason("7");
    assert!(reason.contains("a redirect to RTSPS"), "{reason}");
}
