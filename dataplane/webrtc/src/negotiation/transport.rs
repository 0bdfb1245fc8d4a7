//! What a session or a section says of its transport: ICE credentials and candidates (RFC 8839), certificate hashes
//! (RFC 8122) and DTLS role (RFC 4145). Whether that is enough is not asked here.

use sdp_types::Attribute;

use super::fingerprint::{Fingerprint, FingerprintError};
use super::{RemoteCandidate, printable};
use crate::ice::IceCredentials;

/// Transport attributes of one level.
#[derive(Clone, Debug, Default)]
pub(super) struct Transport {
    pub(super) ice: Option<IceCredentials>,
    pub(super) fingerprints: Vec<Fingerprint>,
    /// Algorithms that were not taken.
    pub(super) refused_algorithms: Vec<String>,
    /// `a=setup`, as it stands.
    pub(super) setup: Option<String>,
    /// `a=rtcp-mux` is there.
    pub(super) rtcp_mux: bool,
    /// Those that we can use, without doubles.
    pub(super) candidates: Vec<RemoteCandidate>,
    /// `a=end-of-candidates` is there.
    pub(super) ended: bool,
}

impl Transport {
    /// Reads the attributes of one level; a sentence where one of them is malformed.
    pub(super) fn parse(attributes: &[Attribute]) -> Result<Self, String> {
        let mut transport = Self { ice: ice_credentials(attributes)?, ..Self::default() };
        for attribute in attributes {
            let value = attribute.value.as_deref().unwrap_or_default();
            match attribute.attribute.as_str() {
                "fingerprint" => transport.add_fingerprint(value)?,
                "candidate" => transport.add_candidate(value),
                "setup" => transport.setup = Some(printable(value.trim())),
                "rtcp-mux" => transport.rtcp_mux = true,
                "end-of-candidates" => transport.ended = true,
                _ => {}
            }
        }
        Ok(transport)
    }

    fn add_fingerprint(&mut self, value: &str) -> Result<(), String> {
        match value.parse::<Fingerprint>() {
            Ok(fingerprint) if self.fingerprints.len() < FINGERPRINTS_MAX => {
                self.fingerprints.push(fingerprint)
            }
            Ok(_) => {}
            Err(FingerprintError::Algorithm(name)) if self.refused_algorithms.len() < FINGERPRINTS_MAX => {
                self.refused_algorithms.push(name);
            }
            Err(FingerprintError::Algorithm(_)) => {}
            Err(error @ FingerprintError::Hash(_)) => return Err(format!("a=fingerprint is {error}")),
        }
        Ok(())
    }

    fn add_candidate(&mut self, value: &str) {
        if let Some(candidate) = RemoteCandidate::parse(value)
            && self.candidates.len() < CANDIDATES_MAX
            && !self.candidates.contains(&candidate)
        {
            self.candidates.push(candidate);
        }
    }
}

/// `a=ice-ufrag` and `a=ice-pwd`, which come together (RFC 8839 section 5.4).
fn ice_credentials(attributes: &[Attribute]) -> Result<Option<IceCredentials>, String> {
    let ufrag = ice_text(attributes, "ice-ufrag", 4)?;
    let password = ice_text(attributes, "ice-pwd", 22)?;
    match (ufrag, password) {
        (Some(ufrag), Some(password)) => Ok(Some(IceCredentials { ufrag, password })),
        (None, None) => Ok(None),
        (Some(_), None) => Err("a=ice-ufrag without a=ice-pwd".to_owned()),
        (None, Some(_)) => Err("a=ice-pwd without a=ice-ufrag".to_owned()),
    }
}

/// The value of `name`, of the length that RFC 8839 section 5.4 asks for. More characters are taken than it allows,
/// but no colon: that ends a fragment in a STUN username.
fn ice_text(attributes: &[Attribute], name: &str, len_min: usize) -> Result<Option<String>, String> {
    let Some(attribute) = attributes.iter().find(|it| it.attribute == name) else { return Ok(None) };
    let value = attribute.value.as_deref().unwrap_or_default().trim();
    if !(len_min..=ICE_TEXT_LEN_MAX).contains(&value.len()) {
        return Err(format!("a={name} has {} characters, not {len_min} to {ICE_TEXT_LEN_MAX}", value.len()));
    }
    if !value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
        return Err(format!("a={name} has characters that it must not have"));
    }
    Ok(Some(value.to_owned()))
}

/// RFC 8839 section 5.4.
const ICE_TEXT_LEN_MAX: usize = 256;
/// One a hash function is usual; a viewer with several certificates has a few.
const FINGERPRINTS_MAX: usize = 8;
/// A machine with many interfaces has some dozen; each costs the server a few packets at most.
pub(super) const CANDIDATES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Result<Transport, String> {
        let attributes: Vec<Attribute> = lines
            .iter()
            .map(|line| match line.split_once(':') {
                Some((name, value)) => {
                    Attribute { attribute: name.to_owned(), value: Some(value.to_owned()) }
                }
                None => Attribute { attribute: (*line).to_owned(), value: None },
            })
            .collect();
        Transport::parse(&attributes)
    }

    #[test]
    fn checks_the_length_of_ice_credentials() {
        let of = |ufrag: usize, password: usize| {
            parse(&[
                &format!("ice-ufrag:{}", "u".repeat(ufrag)),
                &format!("ice-pwd:{}", "p".repeat(password)),
            ])
            .map(|it| it.ice.is_some())
        };
        assert_eq!(of(4, 22), Ok(true));
        assert_eq!(of(256, 256), Ok(true));
        assert_eq!(of(3, 22), Err("a=ice-ufrag has 3 characters, not 4 to 256".to_owned()));
        assert_eq!(of(4, 21), Err("a=ice-pwd has 21 characters, not 22 to 256".to_owned()));
        assert!(of(257, 22).is_err() && of(4, 257).is_err());
        assert_eq!(parse(&["ice-ufrag:abcd"]).unwrap_err(), "a=ice-ufrag without a=ice-pwd");
        assert_eq!(parse(&["ice-pwd:0123456789012345678901"]).unwrap_err(), "a=ice-pwd without a=ice-ufrag");
        assert!(parse(&["ice-ufrag:ab:d", "ice-pwd:0123456789012345678901"]).is_err());
    }

    #[test]
    fn the_password_stays_out_of_debug_output() {
        let transport = parse(&["ice-ufrag:abcd", "ice-pwd:secretsecretsecretsecret"]).unwrap();
        assert!(!format!("{transport:?}").contains("secret"));
    }

    #[test]
    fn keeps_a_bounded_number_of_candidates_once_each() {
        let lines: Vec<String> = (0..200)
            .map(|port| format!("candidate:1 1 udp 1 192.0.2.1 {} typ host", 4000 + port / 2))
            .collect();
        let transport = parse(&lines.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        assert_eq!(transport.candidates.len(), CANDIDATES_MAX);
        assert_eq!(transport.candidates[63].address.port(), 4063);
    }

    #[test]
    fn weak_hashes_are_skipped_and_broken_ones_refused() {
        let strong = format!("fingerprint:sha-256 {}", ["AB"; 32].join(":"));
        let transport = parse(&["fingerprint:sha-1 AB:CD", &strong]).unwrap();
        assert_eq!(transport.fingerprints.len(), 1);
        assert_eq!(transport.refused_algorithms, ["sha-1"]);
        assert_eq!(
            parse(&["fingerprint:sha-256 AB:CD"]).unwrap_err(),
            "a=fingerprint is not a hash of sha-256"
        );
    }
}
