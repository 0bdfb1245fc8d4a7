//! Reads certificate authorities: the system's, and those of a PEM file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tracing::warn;

use super::TlsError;

/// The certificates of all the world's authorities are some 250 KB.
const CA_FILE_BYTES_MAX: u64 = 1 << 20;

/// The system's authorities; those that cannot be used are left out.
pub(super) fn of_system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        warn!(%error, "a certificate authority of the system cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    match roots.is_empty() {
        true => Err(TlsError::NoSystemRoots),
        false => Ok(roots),
    }
}

/// The certificates of a PEM file, at least one, and those of them that can sign others.
pub(super) fn of_file(path: &Path) -> Result<(Vec<CertificateDer<'static>>, RootCertStore), TlsError> {
    let text = read(path)?;
    let mut certificates = Vec::new();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| malformed(path, &error))?;
        roots.add(certificate.clone()).map_err(|error| malformed(path, &error))?;
        certificates.push(certificate);
    }
    match certificates.is_empty() {
        true => Err(TlsError::Empty { path: path.to_owned() }),
        false => Ok((certificates, roots)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |reason: String| TlsError::Unreadable { path: path.to_owned(), reason };
    let metadata = path.metadata().map_err(|error| unreadable(error.to_string()))?;
    // Another kind of file may block for ever.
    if !metadata.is_file() {
        return Err(unreadable("it is not a regular file".into()));
    }
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(CA_FILE_BYTES_MAX + 1).read_to_end(&mut text))
        .map_err(|error| unreadable(error.to_string()))?;
    match text.len() as u64 > CA_FILE_BYTES_MAX {
        true => Err(unreadable(format!("it is larger than {CA_FILE_BYTES_MAX} bytes"))),
        false => Ok(text),
    }
}

fn malformed(path: &Path, error: &dyn std::fmt::Display) -> TlsError {
    TlsError::Malformed { path: path.to_owned(), reason: error.to_string() }
}
