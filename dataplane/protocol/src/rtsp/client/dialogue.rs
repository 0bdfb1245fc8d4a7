//! One request at a time and its answer: CSeq, session id, authentication, time limit.
//!
//! Which request comes next belongs to the client.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtsp_types::headers;

use super::super::auth::{Authenticator, Challenged};
use super::ClientError;

/// A camera's answer.
pub(super) type Response = rtsp_types::Response<Bytes>;

/// The methods that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Options,
    Describe,
    Setup,
    Play,
    GetParameter,
    Teardown,
}

impl Method {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Options => "OPTIONS",
            Self::Describe => "DESCRIBE",
            Self::Setup => "SETUP",
            Self::Play => "PLAY",
            Self::GetParameter => "GET_PARAMETER",
            Self::Teardown => "TEARDOWN",
        }
    }
}

/// A request before CSeq, Session and Authorization are put to it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) uri: String,
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Request {
    pub(super) fn new(method: Method, uri: &str) -> Self {
        Self { method, uri: uri.to_owned(), headers: Vec::new() }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What an answer means to the dialogue.
#[derive(Debug)]
pub(super) enum Answer {
    /// It answers nothing that we wait for.
    None,
    /// The request goes out once more, now with an answer to the challenge.
    Again(Bytes),
    /// It is the answer to this request.
    To(Request),
    /// It is a refusal of our credentials.
    Refused(ClientError),
}

/// The request under way.
#[derive(Debug)]
struct Pending {
    request: Request,
    cseq: u32,
    deadline: Instant,
    /// 401s of this request so far.
    challenges: u8,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Dialogue {
    reply_timeout: Duration,
    authenticator: Option<Authenticator>,
    cseq: u32,
    session: Option<String>,
    pending: Option<Pending>,
    /// Requests whose answers no longer matter.
    abandoned: Vec<u32>,
}

impl Dialogue {
    pub(super) fn new(reply_timeout: Duration, authenticator: Option<Authenticator>) -> Self {
        Self { reply_timeout, authenticator, cseq: 0, session: None, pending: None, abandoned: Vec::new() }
    }

    pub(super) fn set_session(&mut self, session: Option<String>) {
        self.session = session;
    }

    /// The method that waits for its answer, and until when.
    pub(super) fn pending(&self) -> Option<(Method, Instant)> {
        self.pending.as_ref().map(|pending| (pending.request.method, pending.deadline))
    }

    /// No longer waits; a late answer is ignored.
    pub(super) fn abandon(&mut self) {
        if let Some(pending) = self.pending.take() {
            if self.abandoned.len() == ABANDONED_MAX {
                self.abandoned.remove(0);
            }
            self.abandoned.push(pending.cseq);
        }
    }

    /// The bytes of `request`, whose answer is waited for from now on.
    pub(super) fn send(&mut self, now: Instant, request: Request) -> Bytes {
        self.abandon();
        self.send_again(now, request, 0)
    }

    fn send_again(&mut self, now: Instant, request: Request, challenges: u8) -> Bytes {
        self.cseq = self.cseq.wrapping_add(1);
        let bytes = self.write(&request);
        let deadline = now + self.reply_timeout;
        self.pending = Some(Pending { request, cseq: self.cseq, deadline, challenges });
        bytes
    }

    /// By hand, because some cameras want CSeq to come first, and the URI as it is in the digest.
    fn write(&mut self, request: &Request) -> Bytes {
        let (method, uri) = (request.method.name(), request.uri.as_str());
        let mut out =
            format!("{method} {uri} RTSP/1.0\r\nCSeq: {}\r\nUser-Agent: {USER_AGENT}\r\n", self.cseq);
        let authorization = self.authenticator.as_mut().and_then(|it| it.authorization(method, uri));
        let session = self.session.as_deref().filter(|_| request.method != Method::Describe);
        let optional = [("Authorization", authorization.as_deref()), ("Session", session)];
        let given = request.headers.iter().map(|(name, value)| (*name, value.as_str()));
        for (name, value) in optional.iter().filter_map(|(name, value)| Some((*name, (*value)?))).chain(given)
        {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        out.push_str("\r\n");
        Bytes::from(out)
    }

    /// Finds what `response` answers, and answers challenges.
    pub(super) fn handle_response(&mut self, now: Instant, response: &Response) -> Answer {
        if response.status().is_informational() || self.is_late(response) {
            return Answer::None;
        }
        // Whatever its CSeq: only one request is under way, and cameras send the one before or none.
        let Some(pending) = self.pending.take() else { return Answer::None };
        if u16::from(response.status()) != UNAUTHORIZED {
            return Answer::To(pending.request);
        }
        let Some(authenticator) = &mut self.authenticator else {
            return Answer::Refused(ClientError::CredentialsNeeded);
        };
        let value = response.header(&headers::WWW_AUTHENTICATE).map_or("", |value| value.as_str());
        match authenticator.handle_challenges(value) {
            Challenged::Unknown => Answer::Refused(ClientError::Protocol(
                "it asks for a kind of authentication that is not supported".to_owned(),
            )),
            // One more after a stale nonce: the first challenge may have come with an old one.
            Challenged::Answerable { stale } if pending.challenges < 1 + u8::from(stale) => {
                Answer::Again(self.send_again(now, pending.request, pending.challenges + 1))
            }
            Challenged::Answerable { .. } => Answer::Refused(ClientError::Unauthorized),
        }
    }

    /// The answer to a request that we gave up.
    fn is_late(&mut self, response: &Response) -> bool {
        let Some(cseq) =
            response.header(&headers::CSEQ).and_then(|value| value.as_str().trim().parse::<u32>().ok())
        else {
            return false;
        };
        if self.pending.as_ref().is_some_and(|pending| pending.cseq == cseq) {
            return false;
        }
        let place = self.abandoned.iter().position(|abandoned| *abandoned == cseq);
        place.map(|place| self.abandoned.remove(place)).is_some()
    }
}

const UNAUTHORIZED: u16 = 401;
/// Keepalives that never got an answer, and whatever a TEARDOWN overtook.
const ABANDONED_MAX: usize = 8;
const USER_AGENT: &str = concat!("lanecast/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use rtsp_types::{StatusCode, Version};

    use super::*;
    use crate::rtsp::Credentials;

    fn dialogue() -> Dialogue {
        let credentials = Credentials { username: "admin".into(), password: "s3cret".into() };
        Dialogue::new(Duration::from_secs(10), Some(Authenticator::new(credentials, true, 1)))
    }

    fn response(status: u16, cseq: Option<&str>, challenge: Option<&str>) -> Response {
        let mut response =
            rtsp_types::Response::builder(Version::V1_0, StatusCode::from(status)).build(Bytes::new());
        for (name, value) in [(headers::CSEQ, cseq), (headers::WWW_AUTHENTICATE, challenge)] {
            if let Some(value) = value {
                response.insert_header(name, value);
            }
        }
        response
    }

    fn options() -> Request {
        Request::new(Method::Options, "rtsp://h/x")
    }

    #[test]
    fn a_request_has_its_cseq_first_and_its_session() {
        let (now, mut dialogue) = (Instant::now(), dialogue());
        dialogue.set_session(Some("abc".into()));
        let text = dialogue.send(now, options().with("X", "y"));
        let expected = format!(
            "OPTIONS rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: {USER_AGENT}\r\nSession: abc\r\nX: y\r\n\r\n"
        );
        assert_eq!(text, expected);
        assert_eq!(dialogue.pending(), Some((Method::Options, now + Duration::from_secs(10))));
    }

    #[test]
    fn an_answer_counts_whatever_its_cseq() {
        for cseq in [Some("1"), Some("0"), Some("77"), Some("one"), None] {
            let (now, mut dialogue) = (Instant::now(), dialogue());
            dialogue.send(now, options());
            let answer = dialogue.handle_response(now, &response(200, cseq, None));
            assert!(matches!(answer, Answer::To(request) if request.method == Method::Options), "{cseq:?}");
            assert!(matches!(dialogue.handle_response(now, &response(200, cseq, None)), Answer::None));
        }
    }

    #[test]
    fn a_late_answer_to_what_was_given_up_does_not_count() {
        let (now, mut dialogue) = (Instant::now(), dialogue());
        dialogue.send(now, options());
        dialogue.send(now, Request::new(Method::Teardown, "rtsp://h/x"));
        assert!(matches!(dialogue.handle_response(now, &response(200, Some("1"), None)), Answer::None));
        assert!(matches!(dialogue.handle_response(now, &response(100, Some("2"), None)), Answer::None));
        let answer = dialogue.handle_response(now, &response(200, Some("2"), None));
        assert!(matches!(answer, Answer::To(request) if request.method == Method::Teardown));
    }

    #[test]
    fn a_challenge_is_answered_once_and_a_stale_nonce_once_more() {
        const WRONG: &str = "Digest realm=\"a\", nonce=\"n\", qop=\"auth\"";
        const STALE: &str = "Digest realm=\"a\", nonce=\"m\", qop=\"auth\", stale=true";
        for (challenges, answered) in
            [(&[WRONG, WRONG][..], 1), (&[WRONG, STALE, STALE], 2), (&[STALE, WRONG], 1)]
        {
            let (now, mut dialogue) = (Instant::now(), dialogue());
            dialogue.send(now, options());
            let mut again = 0;
            for challenge in challenges {
                match dialogue.handle_response(now, &response(401, None, Some(challenge))) {
                    Answer::Again(bytes) => {
                        again += 1;
                        assert!(String::from_utf8_lossy(&bytes).contains("Authorization: Digest "));
                    }
                    Answer::Refused(error) => assert_eq!(error, ClientError::Unauthorized),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(again, answered);
        }
    }

    #[test]
    fn a_fresh_nonce_on_every_request_is_no_refusal() {
        let (now, mut dialogue) = (Instant::now(), dialogue());
        for number in 0..5 {
            dialogue.send(now, options());
            let challenge = format!("Digest realm=\"a\", nonce=\"{number}\", qop=\"auth\"");
            let Answer::Again(bytes) = dialogue.handle_response(now, &response(401, None, Some(&challenge)))
            else {
                panic!("no second try")
            };
            assert!(String::from_utf8_lossy(&bytes).contains(&format!("nonce=\"{number}\"")));
            assert!(matches!(dialogue.handle_response(now, &response(200, None, None)), Answer::To(_)));
        }
    }

    #[test]
    fn without_credentials_it_says_that_they_are_needed() {
        let (now, mut dialogue) = (Instant::now(), Dialogue::new(Duration::from_secs(1), None));
        dialogue.send(now, options());
        let answer = dialogue.handle_response(now, &response(401, None, Some("Basic realm=\"a\"")));
        assert!(matches!(answer, Answer::Refused(ClientError::CredentialsNeeded)));
    }
}
