//! Basic and Digest (MD5, SHA-256) answers to `WWW-Authenticate` (RFC 7616, RFC 7617), by the `http-auth` crate.
//!
//! When to ask and when to give up belongs to the dialogue.

use http_auth::basic::BasicClient;
use http_auth::digest::{Algorithm, DigestClient};
use http_auth::{ChallengeParser, ChallengeRef, ParamValue, PasswordParams};

use super::{Credentials, SplitMix64};

/// Answers challenges with one user's credentials. Gives nothing away before it was asked.
#[derive(Debug)]
pub(super) struct Authenticator {
    credentials: Credentials,
    basic_allowed: bool,
    scheme: Option<Scheme>,
    random: SplitMix64,
}

#[derive(Debug)]
enum Scheme {
    Basic(BasicClient),
    Digest(DigestClient),
}

/// What a challenge meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Challenged {
    /// It can be answered now.
    Answerable {
        /// Only the nonce was too old: the credentials may still be right.
        stale: bool,
    },
    /// No scheme that we speak, or may speak, was offered.
    Unknown,
}

impl Authenticator {
    pub(super) fn new(credentials: Credentials, basic_allowed: bool, seed: u64) -> Self {
        Self { credentials, basic_allowed, scheme: None, random: SplitMix64::new(seed) }
    }

    /// Takes the strongest of the challenges in the value of `WWW-Authenticate`.
    pub(super) fn handle_challenges(&mut self, value: &str) -> Challenged {
        // What stands before a syntax error counts.
        let challenges = ChallengeParser::new(value).map_while(Result::ok);
        let best = challenges
            .filter_map(|challenge| Scheme::of(&challenge))
            .filter(|scheme| self.basic_allowed || matches!(scheme, Scheme::Digest(_)))
            .reduce(|best, next| if next.strength() > best.strength() { next } else { best });
        let Some(scheme) = best else { return Challenged::Unknown };
        let stale = matches!(&scheme, Scheme::Digest(client) if client.stale());
        self.scheme = Some(scheme);
        Challenged::Answerable { stale }
    }

    /// The value of `Authorization` for a request, `None` before any challenge. `uri` as in the request line.
    pub(super) fn authorization(&mut self, method: &str, uri: &str) -> Option<String> {
        let Credentials { username, password } = &self.credentials;
        match self.scheme.as_mut()? {
            Scheme::Basic(client) => Some(client.respond(username, password)),
            Scheme::Digest(client) => {
                let cnonce = format!("{:016x}{:016x}", self.random.next_u64(), self.random.next_u64());
                let parameters = PasswordParams { username, password, uri, method, body: None };
                // The crate's own nonce would come from the system; ours follows from the seed.
                let mut answer = client.respond_with_testing_cnonce(&parameters, &cnonce).ok()?;
                if client.rfc2069_compat() && client.algorithm() == Algorithm::Sha256 {
                    // Without qop the crate leaves the algorithm out, and a camera would take MD5 for meant.
                    answer.push_str(", algorithm=SHA-256");
                }
                Some(answer)
            }
        }
    }
}

impl Scheme {
    fn of(challenge: &ChallengeRef<'_>) -> Option<Self> {
        if challenge.scheme.eq_ignore_ascii_case("Digest") {
            return DigestClient::try_from(&with_algorithm_in_capitals(challenge)).ok().map(Self::Digest);
        }
        BasicClient::try_from(challenge).ok().map(Self::Basic)
    }

    fn strength(&self) -> u8 {
        match self {
            Self::Basic(_) => 0,
            Self::Digest(client) if client.algorithm() == Algorithm::Md5 => 1,
            Self::Digest(_) => 2,
        }
    }
}

/// The crate knows algorithms only as RFC 7616 spells them; cameras write `md5` too.
fn with_algorithm_in_capitals<'a>(challenge: &ChallengeRef<'a>) -> ChallengeRef<'a> {
    let mut challenge = challenge.clone();
    for (name, value) in &mut challenge.params {
        if name.eq_ignore_ascii_case("algorithm")
            && let Some(known) =
                ALGORITHMS.iter().find(|known| known.eq_ignore_ascii_case(value.as_escaped()))
            && let Ok(known) = ParamValue::try_from_escaped(known)
        {
            *value = known;
        }
    }
    challenge
}

const ALGORITHMS: [&str; 6] =
    ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256", "SHA-512-256-sess"];

#[cfg(test)]
mod tests {
    use super::*;

    fn authenticator() -> Authenticator {
        let credentials = Credentials { username: "admin".into(), password: "s3cret".into() };
        Authenticator::new(credentials, true, 7)
    }

    fn answer(challenges: &str) -> String {
        let mut authenticator = authenticator();
        assert!(matches!(authenticator.handle_challenges(challenges), Challenged::Answerable { .. }));
        authenticator.authorization("DESCRIBE", "rtsp://192.0.2.7/live").unwrap()
    }

    #[test]
    fn says_nothing_before_it_is_asked() {
        assert_eq!(authenticator().authorization("OPTIONS", "rtsp://192.0.2.7/"), None);
    }

    #[test]
    fn answers_basic() {
        assert_eq!(answer("Basic realm=\"cam\""), "Basic YWRtaW46czNjcmV0");
    }

    #[test]
    fn answers_digest_without_qop_as_rfc_2069() {
        // MD5(MD5("admin:cam:s3cret"):"abc":MD5("DESCRIBE:rtsp://192.0.2.7/live")).
        let answer = answer("Digest realm=\"cam\", nonce=\"abc\", algorithm=\"md5\", stale=\"FALSE\"");
        assert!(answer.contains("response=\"2b4b1533034b4a2833b84b9e150a58b7\""), "{answer}");
        assert!(answer.contains("uri=\"rtsp://192.0.2.7/live\""));
        assert!(!answer.contains("qop"));
    }

    #[test]
    fn prefers_the_strongest_challenge_whatever_the_order() {
        for challenges in [
            "Basic realm=\"a\", Digest realm=\"a\", nonce=\"n\", qop=\"auth\", algorithm=MD5, \
             Digest realm=\"a\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256",
            "Digest realm=\"a\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256, \
             Digest realm=\"a\", nonce=\"n\", qop=\"auth\", algorithm=MD5, Basic realm=\"a\"",
        ] {
            let answer = answer(challenges);
            assert!(answer.contains("algorithm=SHA-256"), "{answer}");
            assert!(answer.contains("qop=auth") && answer.contains("nc=00000001"), "{answer}");
        }
        assert!(answer("Basic realm=\"a\", Digest realm=\"a\", nonce=\"n\"").starts_with("Digest "));
        assert!(answer("Digest realm=\"a\", nonce=\"n\", algorithm=SHA-256").contains("algorithm=SHA-256"));
    }

    #[test]
    fn tells_stale_from_wrong_and_counts_the_uses_of_a_nonce() {
        let mut authenticator = authenticator();
        let challenge = "Digest realm=\"a\", nonce=\"n\", qop=\"auth\", stale=true";
        assert_eq!(authenticator.handle_challenges(challenge), Challenged::Answerable { stale: true });
        let first = authenticator.authorization("PLAY", "rtsp://h/").unwrap();
        let second = authenticator.authorization("PLAY", "rtsp://h/").unwrap();
        assert!(first.contains("nc=00000001") && second.contains("nc=00000002"));
    }

    #[test]
    fn gives_no_basic_where_it_may_not_and_knows_what_it_does_not_speak() {
        let credentials = Credentials { username: "admin".into(), password: "s3cret".into() };
        let mut authenticator = Authenticator::new(credentials, false, 7);
        assert_eq!(authenticator.handle_challenges("Basic realm=\"a\""), Challenged::Unknown);
        assert_eq!(authenticator.handle_challenges("Bearer realm=\"a\""), Challenged::Unknown);
        assert_eq!(authenticator.handle_challenges(""), Challenged::Unknown);
        assert!(!format!("{authenticator:?}").contains("s3cret"));
    }
}
