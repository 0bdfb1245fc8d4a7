//! The server's certificate, and the settings of the library that go with it.

use std::sync::Arc;

use ring::digest;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_dtls::signature_hash_algorithm::SignatureScheme;

use crate::negotiation::Fingerprint;
use crate::srtp::SrtpProfile;

/// The server's certificate: one for all viewers, made at start.
pub struct Certificate {
    fingerprint: Fingerprint,
    provider: Arc<dyn RTCCryptoProvider>,
    /// For clients that offer AEAD_AES_128_GCM, whatever they prefer.
    gcm: Arc<HandshakeConfig>,
    /// For all others.
    cm: Arc<HandshakeConfig>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// No certificate could be made.
#[derive(Debug, thiserror::Error)]
#[error("no DTLS certificate: {0}")]
pub struct CertificateError(String);

impl Certificate {
    /// Self-signed, ECDSA P-256.
    ///
    /// # Errors
    /// When the library cannot make one.
    pub fn generate() -> Result<Self, CertificateError> {
        let provider = rtc_crypto::default_provider().map_err(|error| CertificateError(error.to_string()))?;
        let certificate =
            rtc_dtls::crypto::Certificate::generate_self_signed(["lanecast".to_owned()], provider.crypto())
                .map_err(|error| CertificateError(error.to_string()))?;
        let config = |profile| {
            ConfigBuilder::default()
                .with_crypto_provider(provider.clone())
                .with_certificates(vec![certificate.clone()])
                .with_cipher_suites(CIPHER_SUITES.to_vec())
                .with_signature_schemes(SIGNATURES.to_vec())
                .with_srtp_protection_profiles(vec![profile])
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                // Certificates are known by their fingerprints (RFC 8827 section 6.5), not by who signed them.
                .with_insecure_skip_verify(true)
                .build(false, None)
                .map(Arc::new)
                .map_err(|error| CertificateError(error.to_string()))
        };
        let der =
            certificate.certificate.first().ok_or_else(|| CertificateError("it is empty".to_owned()))?;
        let bytes = digest::digest(&digest::SHA256, der).as_ref().to_vec();
        let fingerprint = Fingerprint { algorithm: "sha-256".to_owned(), bytes };
        let gcm = config(SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm)?;
        let cm = config(SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80)?;
        Ok(Self { fingerprint, provider, gcm, cm })
    }

    /// SHA-256 of its DER, for the answer.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The settings that lead to a profile.
    pub(super) fn config(&self, profile: SrtpProfile) -> &Arc<HandshakeConfig> {
        match profile {
            SrtpProfile::AeadAes128Gcm => &self.gcm,
            SrtpProfile::Aes128CmHmacSha1_80 => &self.cm,
        }
    }

    pub(super) fn provider(&self) -> &Arc<dyn RTCCryptoProvider> {
        &self.provider
    }
}

/// True if a certificate has one of these fingerprints (RFC 8122 section 5, RFC 8827 section 6.5).
pub(super) fn is_one_of(fingerprints: &[Fingerprint], der: &[u8]) -> bool {
    fingerprints.iter().any(|fingerprint| {
        let algorithm = match fingerprint.algorithm.as_str() {
            "sha-256" => &digest::SHA256,
            "sha-384" => &digest::SHA384,
            "sha-512" => &digest::SHA512,
            _ => return false,
        };
        digest::digest(algorithm, der).as_ref() == fingerprint.bytes
    })
}

/// As in [`super::hello`].
const CIPHER_SUITES: [CipherSuiteId; 2] = [
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
];

/// What clients may sign with: browsers have ECDSA P-256, older GStreamer RSA. The library's own list also names pairs
/// of curve and hash that it cannot verify.
const SIGNATURES: [SignatureScheme; 6] = [
    SignatureScheme::EcdsaWithP256AndSha256,
    SignatureScheme::EcdsaWithP384AndSha384,
    SignatureScheme::Pkcs1WithSha256,
    SignatureScheme::Pkcs1WithSha384,
    SignatureScheme::Pkcs1WithSha512,
    SignatureScheme::Ed25519,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_serves_all_threads() {
        fn is_shared<T: Send + Sync>(_: &T) {}
        is_shared(&Certificate::generate().unwrap());
    }

    #[test]
    fn a_certificate_is_known_by_any_fingerprint_of_the_offer() {
        let der = b"certificate";
        let fingerprint = |algorithm: &str, hash: &'static digest::Algorithm| Fingerprint {
            algorithm: algorithm.to_owned(),
            bytes: digest::digest(hash, der).as_ref().to_vec(),
        };
        let good = [
            fingerprint("sha-256", &digest::SHA256),
            fingerprint("sha-384", &digest::SHA384),
            fingerprint("sha-512", &digest::SHA512),
        ];
        let bad = [
            fingerprint("sha-256", &digest::SHA512),
            fingerprint("sha-1", &digest::SHA1_FOR_LEGACY_USE_ONLY),
            Fingerprint { algorithm: "sha-256".to_owned(), bytes: Vec::new() },
        ];
        for good in good {
            assert!(is_one_of(std::slice::from_ref(&good), der));
            assert!(is_one_of(&[bad[0].clone(), good.clone()], der));
            assert!(!is_one_of(&[good], b"another"));
        }
        assert!(!is_one_of(&bad, der) && !is_one_of(&[], der));
    }
}
