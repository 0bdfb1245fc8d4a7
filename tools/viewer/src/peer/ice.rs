//! A minimal controlling ICE agent (RFC 8445): it nominates at once, one remote candidate after the other, answers the
//! other side's checks, and keeps consent fresh (RFC 7675).
//!
//! It has no socket and no clock; what a message looks like is `stun.rs`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Moment;
use crate::peer::stun::{self, Kind, Message, TransactionId};

/// One side's user name fragment and password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub password: String,
}

impl Credentials {
    /// Fresh ones.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn random() -> Result<Self, String> {
        Ok(Self { ufrag: random_text(8)?, password: random_text(24)? })
    }
}

/// The agent of one viewer.
#[derive(Debug)]
pub struct Agent {
    local: Credentials,
    remote: Credentials,
    candidates: Vec<SocketAddr>,
    /// Which candidate is being checked, or was nominated.
    current: usize,
    rejected: usize,
    begun: Moment,
    connected: Option<Moment>,
    /// The last answer to a check.
    heard: Moment,
    transactions: VecDeque<TransactionId>,
    counter: u64,
    tie_breaker: u64,
    wait: Duration,
    next: Option<Moment>,
    failure: Option<&'static str>,
}

impl Agent {
    /// Begins at once with the first of `candidates`.
    pub fn new(local: Credentials, remote: Credentials, candidates: Vec<SocketAddr>, now: Moment) -> Self {
        // The tie breaker only has to differ from the other agent's.
        let tie_breaker =
            local.ufrag.bytes().fold(now.as_ns(), |sum, byte| sum.rotate_left(7) ^ u64::from(byte));
        Self {
            local,
            remote,
            candidates,
            current: 0,
            rejected: 0,
            begun: now,
            connected: None,
            heard: now,
            transactions: VecDeque::new(),
            counter: 0,
            tie_breaker,
            wait: CHECK_WAIT_FIRST,
            next: Some(now),
            failure: None,
        }
    }

    /// Where everything goes; none when there is no candidate at all.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.candidates.get(self.current).copied()
    }

    /// When a check was first answered.
    pub fn connected(&self) -> Option<Moment> {
        self.connected
    }

    /// Why it has given up.
    pub fn failure(&self) -> Option<&'static str> {
        self.failure
    }

    /// The destination cannot be sent to: the next candidate's turn.
    pub fn reject_destination(&mut self, now: Moment) {
        self.rejected += 1;
        if self.rejected >= self.candidates.len() {
            self.failure.get_or_insert("ice: no candidate can be sent to");
        }
        self.take_next_candidate(now);
    }

    /// Takes a STUN message; gives what is to be sent back.
    pub fn handle_datagram(&mut self, now: Moment, bytes: &[u8]) -> Option<Vec<u8>> {
        let message = Message::parse(bytes)?;
        match message.kind() {
            Kind::Request => {
                let from = self.destination()?;
                let authentic = message.is_authentic(&self.local.password);
                authentic.then(|| stun::success(message.transaction(), from, &self.local.password))
            }
            Kind::Success => {
                let ours = self.transactions.contains(&message.transaction());
                if ours && message.is_authentic(&self.remote.password) {
                    self.hear(now);
                }
                None
            }
            Kind::Error if self.transactions.contains(&message.transaction()) => {
                self.failure.get_or_insert(match message.error_code() {
                    400 | 401 => "ice: the check was refused: wrong user name or password",
                    487 => "ice: the server claims to be controlling too",
                    _ => "ice: the check was refused",
                });
                None
            }
            Kind::Error | Kind::Other => None,
        }
    }

    /// Does what is due; gives the check that is to be sent.
    pub fn handle_timeout(&mut self, now: Moment) -> Option<Vec<u8>> {
        if self.failure.is_some() || self.next.is_none_or(|next| next > now) {
            return None;
        }
        if self.connected.is_some() && now.since(self.heard) >= CONSENT_TIMEOUT {
            self.failure = Some("ice: consent lost");
            return None;
        }
        if self.connected.is_some() {
            self.next = Some(now + CONSENT_INTERVAL);
            return Some(self.new_request());
        }
        if now.since(self.begun) >= CANDIDATE_PATIENCE {
            self.take_next_candidate(now);
        }
        self.next = Some((now + self.wait).min(self.begun + CANDIDATE_PATIENCE));
        self.wait = (self.wait * 2).min(CHECK_WAIT_MAX);
        Some(self.new_request())
    }

    /// When [`Agent::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.next.filter(|_| self.failure.is_none())
    }

    fn hear(&mut self, now: Moment) {
        self.heard = now;
        if self.connected.is_none() {
            self.connected = Some(now);
            self.next = Some(now + CONSENT_INTERVAL);
        }
    }

    /// Behind the last comes the first again: how long to try at all is not for the agent to say.
    fn take_next_candidate(&mut self, now: Moment) {
        self.begun = now;
        self.wait = CHECK_WAIT_FIRST;
        self.next = Some(now);
        self.current = (self.current + 1) % self.candidates.len().max(1);
    }

    fn new_request(&mut self) -> Vec<u8> {
        self.counter += 1;
        let mut id = TransactionId::default();
        id[..8].copy_from_slice(&(self.tie_breaker ^ self.counter).to_be_bytes());
        id[8..].copy_from_slice(&(self.counter as u32).to_be_bytes());
        if self.transactions.len() == TRANSACTIONS_MAX {
            self.transactions.pop_front();
        }
        self.transactions.push_back(id);
        let username = format!("{}:{}", self.remote.ufrag, self.local.ufrag);
        stun::request(id, &username, &self.remote.password, self.tie_breaker)
    }
}

/// Letters and digits, as ICE allows (RFC 8839 section 5.4).
fn random_text(len: usize) -> Result<String, String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = vec![0; len];
    getrandom::fill(&mut bytes).map_err(|error| format!("random bytes: {error}"))?;
    Ok(bytes.into_iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect())
}

const CHECK_WAIT_FIRST: Duration = Duration::from_millis(100);
const CHECK_WAIT_MAX: Duration = Duration::from_millis(800);

/// A candidate that has not answered for so long may not be reachable.
const CANDIDATE_PATIENCE: Duration = Duration::from_secs(3);

/// RFC 7675 section 5.1 says 4 to 6 s.
const CONSENT_INTERVAL: Duration = Duration::from_secs(4);

/// RFC 7675 section 5.1.
const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Later answers than to these are not waited for.
const TRANSACTIONS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(name: &str) -> Credentials {
        Credentials { ufrag: name.into(), password: format!("{name}-password") }
    }

    fn agent(candidates: usize) -> Agent {
        let candidates = (0..candidates).map(|port| ([127, 0, 0, 1], 1 + port as u16).into()).collect();
        Agent::new(credentials("us"), credentials("them"), candidates, at(0))
    }

    fn at(ms: u64) -> Moment {
        Moment::from_ns(ms * 1_000_000)
    }

    fn answer(check: &[u8], password: &str) -> Vec<u8> {
        let id = Message::parse(check).expect("a check").transaction();
        stun::success(id, ([127, 0, 0, 1], 9).into(), password)
    }

    #[test]
    fn an_answered_check_connects_and_consent_is_kept_fresh() {
        let mut agent = agent(1);
        let check = agent.handle_timeout(at(0)).expect("a check");
        assert!(Message::parse(&check).expect("a check").is_authentic("them-password"));
        agent.handle_datagram(at(5), &answer(&check, "wrong"));
        assert_eq!(agent.connected(), None);
        agent.handle_datagram(at(9), &answer(&check, "them-password"));
        assert_eq!(agent.connected(), Some(at(9)));
        assert_eq!(agent.poll_timeout(), Some(at(4009)));
        assert!(agent.handle_timeout(at(4009)).is_some());
        assert_eq!(agent.handle_timeout(at(31_000)), None);
        assert_eq!(agent.failure(), Some("ice: consent lost"));
    }

    #[test]
    fn a_candidate_that_does_not_answer_gives_way_to_the_next() {
        let mut agent = agent(2);
        let mut now = at(0);
        while now < at(10_000) {
            assert!(agent.handle_timeout(now).is_some());
            let expected = if (at(3000)..at(6000)).contains(&now) || now >= at(9000) { 2 } else { 1 };
            assert_eq!(agent.destination().map(|to| to.port()), Some(expected), "{now:?}");
            now = agent.poll_timeout().expect("it never gives up by itself");
        }
        agent.reject_destination(now);
        assert_eq!(agent.failure(), None);
        agent.reject_destination(now);
        assert!(agent.failure().is_some());
    }

    #[test]
    fn the_other_sides_checks_are_answered_if_they_are_authentic() {
        let mut agent = agent(1);
        let check = stun::request([3; 12], "us:them", "us-password", 5);
        let reply = agent.handle_datagram(at(1), &check).expect("an answer");
        assert!(Message::parse(&reply).expect("a message").is_authentic("us-password"));
        let forged = stun::request([3; 12], "us:them", "guess", 5);
        assert_eq!(agent.handle_datagram(at(1), &forged), None);
    }
}
