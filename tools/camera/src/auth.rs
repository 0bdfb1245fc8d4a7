//! Who may watch: Basic (RFC 7617), Digest with MD5 as in RFC 2069, Digest with SHA-256 and `qop=auth` (RFC 7616).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::config::{AuthScheme, Credentials};

const REALM: &str = "Lanecast camera";

/// Asks a client for credentials and checks them.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    credentials: Credentials,
    nonce: String,
}

impl Guard {
    pub fn new(credentials: Credentials, nonce: u64) -> Self {
        Self { credentials, nonce: format!("{nonce:016x}") }
    }

    /// The nonce was used: from now on another one is asked for.
    pub fn renew(&mut self, nonce: u64) {
        self.nonce = format!("{nonce:016x}");
    }

    /// The value of WWW-Authenticate for a client whose nonce was used before.
    pub fn stale_challenge(&self) -> String {
        format!("{}, stale=true", self.challenge())
    }

    /// The value of WWW-Authenticate.
    pub fn challenge(&self) -> String {
        let nonce = &self.nonce;
        match self.credentials.scheme {
            AuthScheme::Basic => format!(r#"Basic realm="{REALM}""#),
            AuthScheme::DigestMd5 => format!(r#"Digest realm="{REALM}", nonce="{nonce}""#),
            AuthScheme::DigestSha256 => {
                format!(r#"Digest realm="{REALM}", nonce="{nonce}", algorithm=SHA-256, qop="auth""#)
            }
        }
    }

    /// Whether `authorization` (the header's value) allows `method` on `uri`.
    pub fn allows(&self, method: &str, uri: &str, authorization: &str) -> bool {
        let Some((scheme, rest)) = authorization.trim().split_once(' ') else { return false };
        match self.credentials.scheme {
            AuthScheme::Basic => scheme.eq_ignore_ascii_case("basic") && self.allows_basic(rest),
            AuthScheme::DigestMd5 => {
                scheme.eq_ignore_ascii_case("digest") && self.allows_digest(method, uri, rest, hex_of::<Md5>)
            }
            AuthScheme::DigestSha256 => {
                scheme.eq_ignore_ascii_case("digest")
                    && self.allows_digest(method, uri, rest, hex_of::<Sha256>)
            }
        }
    }

    fn allows_basic(&self, encoded: &str) -> bool {
        let expected = format!("{}:{}", self.credentials.user, self.credentials.password);
        STANDARD.decode(encoded.trim()).is_ok_and(|decoded| decoded == expected.as_bytes())
    }

    fn allows_digest(&self, method: &str, uri: &str, text: &str, hash: fn(&str) -> String) -> bool {
        let parameters = parameters(text);
        let parameter = |name: &str| -> &str {
            parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
        };
        let Credentials { user, password, scheme } = &self.credentials;
        let told_uri = parameter("uri");
        let is_ours = parameter("username") == user
            && parameter("realm") == REALM
            && parameter("nonce") == self.nonce
            && told_uri.trim_end_matches('/') == uri.trim_end_matches('/');
        let secret = hash(&format!("{user}:{REALM}:{password}"));
        let request = hash(&format!("{method}:{told_uri}"));
        let middle = match scheme {
            AuthScheme::DigestSha256 if parameter("qop") != "auth" => return false,
            AuthScheme::DigestSha256 => {
                format!("{}:{}:{}:auth", self.nonce, parameter("nc"), parameter("cnonce"))
            }
            _ => self.nonce.clone(),
        };
        is_ours && parameter("response").eq_ignore_ascii_case(&hash(&format!("{secret}:{middle}:{request}")))
    }
}

fn hex_of<D: Digest>(text: &str) -> String {
    D::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `name=value, name="quoted value"` as pairs; what is malformed is left out.
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    while let Some((name, rest)) = text.split_once('=') {
        let name = name.trim_start_matches([',', ' ', '\t']).trim_end().to_owned();
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut value = String::new();
            let mut characters = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, character)) = characters.next() {
                match character {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                    _ => value.push(character),
                }
            }
            parameters.push((name, value));
            text = &quoted[end..];
        } else {
            let (value, rest) = rest.split_once(',').unwrap_or((rest, ""));
            parameters.push((name, value.trim().to_owned()));
            text = rest;
        }
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_auth::{PasswordClient, PasswordParams};

    const URI: &str = "rtsp://127.0.0.1/cam0";

    fn guard(scheme: AuthScheme) -> Guard {
        Guard::new(Credentials { user: "viewer".into(), password: "pa\"ss:wörd".into(), scheme }, 99)
    }

    fn answer(guard: &Guard, username: &str, password: &str) -> String {
        PasswordClient::try_from(guard.challenge().as_str())
            .unwrap()
            .respond(&PasswordParams { username, password, uri: URI, method: "DESCRIBE", body: Some(&[]) })
            .unwrap()
    }

    #[test]
    fn the_right_password_opens_every_scheme() {
        for scheme in [AuthScheme::Basic, AuthScheme::DigestMd5, AuthScheme::DigestSha256] {
            let guard = guard(scheme);
            assert!(guard.allows("DESCRIBE", URI, &answer(&guard, "viewer", "pa\"ss:wörd")), "{scheme:?}");
            assert!(!guard.allows("DESCRIBE", URI, &answer(&guard, "viewer", "wrong")), "{scheme:?}");
            assert!(!guard.allows("DESCRIBE", URI, &answer(&guard, "somebody", "pa\"ss:wörd")), "{scheme:?}");
        }
    }

    #[test]
    fn a_digest_is_good_for_its_method_uri_and_nonce_only() {
        let guard = guard(AuthScheme::DigestSha256);
        let authorization = answer(&guard, "viewer", "pa\"ss:wörd");
        assert!(!guard.allows("SETUP", URI, &authorization));
        assert!(!guard.allows("DESCRIBE", "rtsp://127.0.0.1/cam1", &authorization));
        let other = Guard::new(guard.credentials.clone(), 100);
        assert!(!other.allows("DESCRIBE", URI, &authorization));
    }

    #[test]
    fn malformed_credentials_are_refused() {
        let guard = guard(AuthScheme::DigestMd5);
        for authorization in
            ["", "Digest", "Digest ", "Digest =", "Digest a=\"", "Digest a=\"\\", "Basic !!!"]
        {
            assert!(!guard.allows("DESCRIBE", URI, authorization));
        }
    }
}
