//! What goes wrong in TLS, as sentences for an operator.

use rustls::{AlertDescription, CertificateError, Error};

/// Names out of a camera's certificate that a sentence holds, and the characters of all of them: a certificate has as
/// many as it likes.
const NAMES_MAX: usize = 3;
const NAME_CHARS_MAX: usize = 80;
/// Seconds of a day.
const DAY: u64 = 86_400;

/// Why a connection failed. A certificate verifier's own sentence ([`Error::General`]) comes through as it is.
pub(super) fn sentence(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate_sentence(error),
        Error::NoCertificatesPresented => "it showed no certificate".to_owned(),
        Error::InvalidMessage(_) | Error::PeerSentOversizedRecord => {
            format!("what it sent is no TLS (is this its RTSPS port?): {error}")
        }
        Error::PeerIncompatible(cause) => {
            format!("its TLS is too old or too different for a common version and cipher: {cause:?}")
        }
        Error::AlertReceived(
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity,
        ) => format!("it refused our TLS versions and ciphers (1.2 and 1.3, ECDHE with AEAD): {error}"),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a certificate of ours, and there is none to give".to_owned()
        }
        Error::AlertReceived(_) => format!("it ended the TLS connection: {error}"),
        Error::General(sentence) => sentence.clone(),
        _ => format!("TLS failed: {error}"),
    }
}

fn certificate_sentence(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "its certificate is not signed by a known authority: give a CA file, or set insecure".to_owned()
        }
        CertificateError::Expired => "its certificate has expired".to_owned(),
        CertificateError::ExpiredContext { time, not_after } => {
            let days = time.as_secs().saturating_sub(not_after.as_secs()) / DAY;
            format!("its certificate has expired, {days} days ago by this server's clock")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet, by this server's clock".to_owned()
        }
        CertificateError::NotValidForName => "its certificate is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            match presented.as_slice() {
                [] => format!("its certificate names no host, so it is not for {expected}"),
                names => format!("its certificate is not for {expected}, but for {}", listed(names)),
            }
        }
        CertificateError::BadSignature => {
            "the signature of its certificate is wrong: another authority of a known one's name made it"
                .to_owned()
        }
        CertificateError::BadEncoding => "its certificate cannot be read".to_owned(),
        other => match other_cause(other) {
            Some(sentence) => sentence.to_owned(),
            None => format!("its certificate is not accepted: {other}"),
        },
    }
}

/// Causes that the certificate library knows and the TLS library has no name for.
fn other_cause(error: &CertificateError) -> Option<&'static str> {
    let CertificateError::Other(cause) = error else { return None };
    match cause.to_string().as_str() {
        "CaUsedAsEndEntity" => {
            Some("its certificate is an authority's own (self-signed): give it as CA file, or set insecure")
        }
        "UnsupportedCertVersion" => {
            Some("its certificate is of X.509 version 1 or 2, which cannot be checked: set insecure")
        }
        _ => None,
    }
}

fn listed(names: &[String]) -> String {
    let mut text = names.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    let is_cut = names.len() > NAMES_MAX || text.chars().count() > NAME_CHARS_MAX;
    text = text.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    if is_cut {
        text.push_str(", …");
    }
    text
}
