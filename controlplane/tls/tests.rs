use std::io::Write;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConnection, Error, ServerConfig, ServerConnection};
use tempfile::NamedTempFile;

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn trusting(text: &str) -> Result<Arc<ClientConfig>, TlsError> {
    client_config(Some(&TlsTrust::CaFile(file(text).path().to_owned())))
}

/// A camera.
struct Camera(Arc<ServerConfig>);

impl Camera {
    fn new(certificate: &CertificateDer<'static>, key: &KeyPair) -> Self {
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        Self(Arc::new(config))
    }

    fn signed_by(authority: &Authority, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
        Self::new(certificate.der(), &key)
    }

    /// A handshake with it by this name.
    fn meet(&self, client: &Arc<ClientConfig>, name: &str) -> Result<(), Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(client.clone(), name).unwrap();
        let mut server = ServerConnection::new(self.0.clone()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets()?;
            }
            bytes.clear();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(())
    }
}

#[test]
fn a_ca_file_vouches_for_what_its_authorities_signed_and_nothing_else() {
    let (ours, other) = (authority("ours"), authority("other"));
    let client = trusting(&format!("# both\n{}{}", authority("spare").pem(), ours.pem())).unwrap();
    assert_eq!(Camera::signed_by(&ours, "camera.test").meet(&client, "camera.test"), Ok(()));
    assert_eq!(Camera::signed_by(&ours, "127.0.0.1").meet(&client, "127.0.0.1"), Ok(()));
    assert_eq!(
        Camera::signed_by(&other, "camera.test").meet(&client, "camera.test"),
        Err(CertificateError::UnknownIssuer.into())
    );
    assert!(matches!(
        Camera::signed_by(&ours, "camera.test").meet(&client, "other.test"),
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))
    ));
}

#[test]
fn a_cameras_own_certificate_in_the_file_is_taken_by_any_name_and_date() {
    for is_ca in [IsCa::Ca(BasicConstraints::Unconstrained), IsCa::ExplicitNoCa, IsCa::NoCa] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["factory.test".to_owned()]).unwrap();
        params.is_ca = is_ca;
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        let certificate = params.self_signed(&key).unwrap();
        let client = trusting(&certificate.pem()).unwrap();
        assert_eq!(Camera::new(certificate.der(), &key).meet(&client, "192.0.2.1"), Ok(()));
        // The same certificate is of no use to who has not its key.
        let thief = KeyPair::generate().unwrap();
        assert_ne!(thief.der_bytes(), key.der_bytes());
        let provider = provider();
        let key = PrivateKeyDer::try_from(thief.serialize_der()).unwrap();
        let stolen = rustls::sign::CertifiedKey::new(
            vec![certificate.der().clone()],
            provider.key_provider.load_private_key(key).unwrap(),
        );
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(stolen)));
        let met = Camera(Arc::new(config)).meet(&client, "192.0.2.1");
        assert_eq!(met, Err(CertificateError::BadSignature.into()));
    }
}

#[test]
fn a_file_is_parsed_once_for_all_and_again_when_it_is_another() {
    let mut file = file(&authority("first").pem());
    let trust = TlsTrust::CaFile(file.path().to_owned());
    let first = client_config(Some(&trust)).unwrap();
    assert!(Arc::ptr_eq(&first, &client_config(Some(&trust)).unwrap()));
    let second = authority("second");
    file.write_all(second.pem().as_bytes()).unwrap();
    let both = client_config(Some(&trust)).unwrap();
    assert_eq!(Camera::signed_by(&second, "camera.test").meet(&both, "camera.test"), Ok(()));
    assert!(Camera::signed_by(&second, "camera.test").meet(&first, "camera.test").is_err());
}

#[test]
fn insecure_takes_anybody() {
    let client = client_config(Some(&TlsTrust::Insecure)).unwrap();
    assert_eq!(Camera::signed_by(&authority("any"), "camera.test").meet(&client, "other.test"), Ok(()));
    let own = authority("own");
    assert_eq!(Camera::new(own.der(), own.key()).meet(&client, "127.0.0.1"), Ok(()));
}

#[test]
fn the_systems_authorities_do_not_know_ours() {
    let client = match client_config(None) {
        Ok(client) => client,
        // A system may have none; then it says so.
        Err(error) => return assert_eq!(error, TlsError::NoSystemRoots),
    };
    assert!(Arc::ptr_eq(&client, &client_config(Some(&TlsTrust::System)).unwrap()));
    assert_eq!(
        Camera::signed_by(&authority("ours"), "camera.test").meet(&client, "camera.test"),
        Err(CertificateError::UnknownIssuer.into())
    );
}

#[test]
fn a_stream_without_its_file_refuses_with_the_reason() {
    let error = client_config(Some(&TlsTrust::CaFile("/nowhere/ca.pem".into()))).unwrap_err();
    let client = refusing_config(&error).unwrap();
    let met = Camera::signed_by(&authority("ours"), "camera.test").meet(&client, "camera.test");
    let Err(Error::General(sentence)) = met else { panic!("{met:?}") };
    assert!(sentence.contains("/nowhere/ca.pem") && sentence.contains("No such file"), "{sentence}");
}

#[test]
fn a_file_without_a_usable_certificate_is_refused() {
    let missing = client_config(Some(&TlsTrust::CaFile("/nowhere/ca.pem".into()))).unwrap_err();
    assert!(matches!(missing, TlsError::Unreadable { .. }), "{missing}");
    let folder = client_config(Some(&TlsTrust::CaFile("/dev".into()))).unwrap_err();
    assert!(folder.to_string().contains("not a regular file"), "{folder}");
    let device = client_config(Some(&TlsTrust::CaFile("/dev/zero".into()))).unwrap_err();
    assert!(device.to_string().contains("not a regular file"), "{device}");
    let key = KeyPair::generate().unwrap().serialize_pem();
    for empty in ["", "no PEM at all\n", key.as_str()] {
        assert!(matches!(trusting(empty), Err(TlsError::Empty { .. })), "{empty}");
    }
    let noise = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(trusting(noise), Err(TlsError::Malformed { .. })));
    let cut = authority("cut").pem();
    assert!(trusting(&cut[..cut.len() / 2]).is_err());
    let long = trusting(&"#\n".repeat(1 << 20)).unwrap_err();
    assert!(long.to_string().contains("larger than 1048576 bytes"), "{long}");
}

#[test]
fn trust_is_written_as_it_is_read() {
    let read = serde_json::from_str::<TlsTrust>;
    for (text, trust) in [
        (r#"{"insecure":true}"#, TlsTrust::Insecure),
        (r#"{"ca_file":"/etc/cameras.pem"}"#, TlsTrust::CaFile("/etc/cameras.pem".into())),
        ("{}", TlsTrust::System),
    ] {
        assert_eq!(read(text).unwrap(), trust);
        assert_eq!(serde_json::to_string(&trust).unwrap(), text);
    }
    assert_eq!(read(r#"{"insecure":false}"#).unwrap(), TlsTrust::System);
    for wrong in [
        r#"{"insecure":true,"ca_file":"/a"}"#,
        r#"{"ca_file":"a"}"#,
        r#"{"cafile":"/a"}"#,
        r#"{"insecure":1}"#,
        "1",
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}
