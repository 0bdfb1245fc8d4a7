//! How the certificate of an RTSPS camera is checked: by the system's authorities, by a file's, or not at all.
//!
//! Makes the configuration; the shards speak TLS with it.

mod authorities;
mod trust;
mod verifier;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;

pub use self::trust::{TlsError, TlsTrust};
use self::verifier::{AnyCertificate, NoCertificate, PinnedOr};

/// What a shard speaks TLS with to an input of this trust; `None` is [`TlsTrust::System`]. Reads a CA file each time it
/// is called, the system's authorities once; blocks for as long as that takes.
pub fn client_config(trust: Option<&TlsTrust>) -> Result<Arc<ClientConfig>, TlsError> {
    match trust.unwrap_or(&TlsTrust::System) {
        TlsTrust::System => by_system(),
        TlsTrust::Insecure => insecure(),
        TlsTrust::CaFile(path) => by_file(path),
    }
}

/// What a stream of the database gets whose configuration cannot be made any more: every handshake fails with the
/// reason, so that the stream's state tells it and its other inputs are tried.
pub fn refusing_config(error: &TlsError) -> Result<Arc<ClientConfig>, TlsError> {
    configured(provider(), Arc::new(NoCertificate::new(error)))
}

/// Kept, as they are some hundred certificates. A failure is not kept: it may be mended.
fn by_system() -> Result<Arc<ClientConfig>, TlsError> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let provider = provider();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(authorities::of_system()?), provider.clone())
            .build()
            .map_err(|error| TlsError::Setup(error.to_string()))?;
    let config = configured(provider, verifier)?;
    Ok(CONFIG.get_or_init(|| config).clone())
}

/// A file's configuration is kept as long as a stream has it: a hundred cameras may have one authority.
fn by_file(path: &Path) -> Result<Arc<ClientConfig>, TlsError> {
    static KEPT: Mutex<Vec<KeptFile>> = Mutex::new(Vec::new());
    let (certificates, roots) = authorities::of_file(path)?;
    // A panic elsewhere left a plain list behind.
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.retain(|file| file.config.strong_count() > 0);
    let same = kept.iter().find(|file| file.path == path && file.certificates == certificates);
    if let Some(config) = same.and_then(|file| file.config.upgrade()) {
        return Ok(config);
    }
    let provider = provider();
    let verifier = PinnedOr::new(certificates.clone(), roots, &provider)?;
    let config = configured(provider, Arc::new(verifier))?;
    kept.push(KeptFile { path: path.to_owned(), certificates, config: Arc::downgrade(&config) });
    Ok(config)
}

struct KeptFile {
    path: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
    config: Weak<ClientConfig>,
}

fn insecure() -> Result<Arc<ClientConfig>, TlsError> {
    configured(provider(), Arc::new(AnyCertificate))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

fn configured(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    // A camera is connected to once in a long while, and its tickets would be behind a lock that shards share.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
