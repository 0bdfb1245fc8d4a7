//! One session's side of the signalling (wsc-rtp sections 1 to 4): a machine with no socket and no clock.
//!
//! Call `handle_*` with what came and when, then take what is to be sent with [`Session::poll_transmit`] until there is nothing,
//! and call [`Session::handle_timeout`] at the moment [`Session::poll_timeout`] names. RTP is not its business.

use std::collections::VecDeque;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use url::Url;

use crate::clock::Moment;
use crate::message::{Init, PING, ServerMessage};
use crate::nal::Codec;
use crate::punch::{self, Punch};

/// What a client is and how it behaves.
#[derive(Clone, Copy, Debug)]
pub struct Conduct {
    /// The client's revision.
    pub revision: Revision,
    /// How RTP is to come.
    pub transport: Transport,
    /// The punch it sends.
    pub punch: Punch,
    /// Time between what allows the punch (`init`, or the first `sdp`) and the punch.
    pub punch_delay: Duration,
    /// Sends pings.
    pub pings: bool,
    /// Acknowledges dummies.
    pub acks: bool,
    /// Sends garbage every second.
    pub garbage: bool,
}

/// The two revisions of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// Punches once and reads `token` and `server_port`.
    One,
    /// Names its transport in the query, shakes hands, reads `session_id` and `holepunch_port`.
    Two,
}

/// How RTP comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// In datagrams, after a punch.
    Udp,
    /// In binary WebSocket frames.
    Websocket,
    /// In SRTP, to a WebRTC peer.
    #[value(skip)]
    Webrtc,
}

/// What a session wants sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A text frame.
    Text(String),
    /// A binary frame.
    Binary(Vec<u8>),
    /// A datagram to the server's punch port.
    Datagram(Vec<u8>),
}

/// When what happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Milestones {
    /// `init` came.
    pub init: Option<Moment>,
    /// The first `sdp` came.
    pub sdp: Option<Moment>,
    /// The first punch left.
    pub punch: Option<Moment>,
    /// The first ack left.
    pub ack: Option<Moment>,
    /// RTP fell back to the WebSocket.
    pub fallback: Option<Moment>,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    conduct: Conduct,
    client_port: u16,
    token: Option<String>,
    codec: Option<Codec>,
    sdp: String,
    sdp_version: Option<u64>,
    sdp_port: Option<u16>,
    transport: Transport,
    milestones: Milestones,
    media: bool,
    punches: u32,
    punch_at: Option<Moment>,
    ping_at: Option<Moment>,
    pinged: Option<Moment>,
    garbage_at: Option<Moment>,
    garbage_sent: u32,
    pong_wait: Option<Duration>,
    errors: u64,
    breaches: Vec<&'static str>,
    outbox: VecDeque<Transmit>,
}

impl Session {
    /// A session of a client that receives RTP at `client_port`.
    pub fn new(conduct: Conduct, client_port: u16) -> Self {
        Self {
            conduct,
            client_port,
            token: None,
            codec: None,
            sdp: String::new(),
            sdp_version: None,
            sdp_port: None,
            transport: conduct.transport,
            milestones: Milestones::default(),
            media: false,
            punches: 0,
            punch_at: None,
            ping_at: None,
            pinged: None,
            garbage_at: None,
            garbage_sent: 0,
            pong_wait: None,
            errors: 0,
            breaches: Vec::new(),
            outbox: VecDeque::new(),
        }
    }

    /// When what happened.
    pub fn milestones(&self) -> Milestones {
        self.milestones
    }

    /// The session's id, from `init`.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The codec that the newest SDP names.
    pub fn codec(&self) -> Option<Codec> {
        self.codec
    }

    /// How RTP comes at present.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The last wait for a pong.
    pub fn pong_wait(&self) -> Option<Duration> {
        self.pong_wait
    }

    /// `error` messages received.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// What the server did against the contract, each once.
    pub fn breaches(&self) -> impl Iterator<Item = &'static str> {
        let port_is_wrong = self.media
            && self.conduct.revision == Revision::One
            && self.conduct.punch == Punch::OneWay
            && self.transport == Transport::Udp
            && self.sdp_port.is_some_and(|port| port != self.client_port);
        self.breaches
            .iter()
            .copied()
            .chain(port_is_wrong.then_some("sdp: m= has another port than the punch"))
    }

    /// Takes a message. For `init`, gives the port to punch at; none when UDP is off or a field is missing.
    ///
    /// # Errors
    /// When the session cannot go on.
    pub fn handle_message(
        &mut self,
        now: Moment,
        message: &ServerMessage,
    ) -> Result<Option<u16>, &'static str> {
        self.check_order(message);
        match message {
            ServerMessage::Init(init) => return self.handle_init(now, init),
            ServerMessage::Sdp { sdp } => self.handle_sdp(now, sdp),
            ServerMessage::FallingBackRtpToWs => self.handle_fallback(now),
            ServerMessage::Pong => {
                self.pong_wait = self.pinged.take().map(|pinged| now.since(pinged)).or(self.pong_wait);
            }
            ServerMessage::Error { .. } => self.errors += 1,
            ServerMessage::StreamState { state } => {
                if !matches!(state.as_str(), "Active" | "Inactive" | "Connecting" | "Error") {
                    self.breach("stream_state: unknown state");
                }
            }
            ServerMessage::SessionMode => {}
            ServerMessage::Unknown => self.breach("a message of unknown type"),
        }
        Ok(None)
    }

    /// Takes a datagram that is not media.
    pub fn handle_datagram(&mut self, now: Moment, datagram: &[u8]) {
        let Some(session) = punch::session_of_dummy(datagram) else {
            return self.breach("a datagram that is neither media nor a dummy");
        };
        if Some(session) != self.token.as_deref() {
            return self.breach("a dummy of another session");
        }
        if self.conduct.punch == Punch::OneWay {
            return self.breach("a dummy in answer to t5rtp");
        }
        self.punch_at = None;
        if self.conduct.acks {
            self.milestones.ack.get_or_insert(now);
            self.transport = Transport::Udp;
            self.outbox.push_back(Transmit::Datagram(punch::ack(session)));
        }
    }

    /// Takes note that media comes: punches need not be repeated.
    pub fn handle_media(&mut self) {
        self.media = true;
        self.punch_at = None;
    }

    /// Takes note that RTP came in a binary frame.
    pub fn handle_binary_media(&mut self) {
        if self.transport == Transport::Udp && self.milestones.ack.is_none() {
            self.breach("binary frames with no word of it");
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Moment) {
        if due(self.punch_at, now) {
            self.send_punch(now);
        }
        if due(self.ping_at, now) {
            self.outbox.push_back(Transmit::Text(PING.to_owned()));
            self.pinged = Some(now);
            self.ping_at = Some(now + PING_INTERVAL);
        }
        if due(self.garbage_at, now) {
            self.send_garbage();
            self.garbage_at = Some(now + GARBAGE_INTERVAL);
        }
    }

    /// When [`Session::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Moment> {
        [self.punch_at, self.ping_at, self.garbage_at].into_iter().flatten().min()
    }

    /// Whether there is something to send.
    pub fn has_transmit(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The next thing to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outbox.pop_front()
    }

    fn handle_init(&mut self, now: Moment, init: &Init) -> Result<Option<u16>, &'static str> {
        self.check_init(init);
        let (token, port) = match self.conduct.revision {
            Revision::One => (&init.token, init.server_port),
            Revision::Two => (&init.session_id, init.holepunch_port),
        };
        let token = token.clone().ok_or("init names no session")?;
        let port = port.ok_or("init names no port")?;
        self.token = Some(token);
        self.milestones.init = Some(now);
        self.ping_at = self.conduct.pings.then_some(now + PING_INTERVAL);
        self.garbage_at = self.conduct.garbage.then_some(now + GARBAGE_INTERVAL);
        if port == 0 || self.conduct.transport == Transport::Websocket {
            return Ok(None);
        }
        if self.conduct.revision == Revision::One {
            self.schedule_punch(now);
        }
        Ok(Some(port))
    }

    fn handle_sdp(&mut self, now: Moment, sdp: &str) {
        let first = self.milestones.sdp.is_none();
        self.milestones.sdp.get_or_insert(now);
        self.codec = Codec::of_sdp(sdp).or(self.codec);
        self.check_sdp(sdp);
        let punches = self.conduct.transport == Transport::Udp && self.token.is_some();
        if first && punches && self.conduct.revision == Revision::Two {
            self.schedule_punch(now);
        }
    }

    fn handle_fallback(&mut self, now: Moment) {
        if self.conduct.revision == Revision::One {
            self.breach("falling_back_rtp_to_ws to a client of revision 1");
        }
        self.milestones.fallback.get_or_insert(now);
        self.transport = Transport::Websocket;
        self.punch_at = None;
    }

    /// Punches at once when there is no delay, so that no turn of the loop is lost.
    fn schedule_punch(&mut self, now: Moment) {
        if self.conduct.punch_delay.is_zero() {
            self.send_punch(now);
        } else {
            self.punch_at = Some(now + self.conduct.punch_delay);
        }
    }

    fn send_punch(&mut self, now: Moment) {
        let Some(token) = self.token.as_deref() else { return };
        self.outbox.push_back(Transmit::Datagram(self.conduct.punch.datagram(token, self.client_port)));
        self.milestones.punch.get_or_insert(now);
        self.punch_at =
            (self.punches < PUNCH_REPEATS_MAX).then(|| now + PUNCH_INTERVAL * 2_u32.pow(self.punches));
        self.punches += 1;
    }

    fn send_garbage(&mut self) {
        self.garbage_sent = self.garbage_sent.wrapping_add(1);
        let token = self.token.as_deref().unwrap_or_default();
        let round = self.garbage_sent as usize;
        self.outbox.push_back(match round % 3 {
            0 => Transmit::Text(GARBAGE_TEXTS[round / 3 % GARBAGE_TEXTS.len()].to_owned()),
            1 => Transmit::Binary(noise(self.garbage_sent, 300)),
            _ => Transmit::Datagram(match round / 3 % 5 {
                0 => b"t5rtp 00000000-0000-4000-8000-000000000000 4000".to_vec(),
                1 => format!("ws-rtp {token} and more {token}").into_bytes(),
                2 => Vec::new(),
                3 => b"ws-rtp-ack nobody".to_vec(),
                _ => noise(self.garbage_sent, 1400),
            }),
        });
    }

    /// Section 2: clients stop on a type that they do not know while they wait for the first `sdp`.
    fn check_order(&mut self, message: &ServerMessage) {
        match message {
            ServerMessage::Init(_) if self.token.is_some() => self.breach("a second init"),
            ServerMessage::Init(_) => {}
            _ if self.token.is_none() => self.breach("a message before init"),
            ServerMessage::Sdp { .. } | ServerMessage::Error { .. } | ServerMessage::Pong => {}
            ServerMessage::StreamState { state } if state != "Active" => {}
            _ if self.milestones.sdp.is_none() => {
                self.breach("a message that no client waits for before the first sdp")
            }
            _ => {}
        }
    }

    fn check_init(&mut self, init: &Init) {
        if init.token != init.session_id
            || init.server_port.is_none()
            || init.udp_holepunch_required.is_none()
        {
            self.breach("init: the fields of one revision are missing or differ");
        }
        let leaks = |url: Url| !url.username().is_empty() || url.password().is_some();
        if init.active_source.as_ref().is_some_and(|source| Url::parse(&source.url).is_ok_and(leaks)) {
            self.breach("init: active_source.url has user info");
        }
    }

    /// The same description may come again as it was; another one has a higher version.
    fn check_sdp(&mut self, sdp: &str) {
        if sdp == self.sdp {
            return;
        }
        sdp.clone_into(&mut self.sdp);
        let version = sdp_field(sdp, "o=", 2).and_then(|field| field.parse::<u64>().ok());
        if version.is_none() || self.sdp_version >= version {
            self.breach("sdp: the version does not grow");
        }
        self.sdp_version = version;
        self.sdp_port = sdp_field(sdp, "m=video ", 0).and_then(|field| field.parse().ok());
        if self.codec.is_none() || self.sdp_port.is_none() {
            self.breach("sdp: no video of a known codec");
        }
    }

    fn breach(&mut self, what: &'static str) {
        if !self.breaches.contains(&what) {
            self.breaches.push(what);
        }
    }
}

fn due(moment: Option<Moment>, now: Moment) -> bool {
    moment.is_some_and(|moment| moment <= now)
}

fn sdp_field<'a>(sdp: &'a str, prefix: &str, index: usize) -> Option<&'a str> {
    sdp.lines().find_map(|line| line.strip_prefix(prefix))?.split_ascii_whitespace().nth(index)
}

/// Bytes that look like nothing, the same for the same seed.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

const GARBAGE_TEXTS: [&str; 5] =
    ["garbage", "{", r#"{"type":"nonsense"}"#, r#"[{"type":"ping"}]"#, r#"{"type":["ping"],"x":null}"#];

/// Clients ping every 2 to 3 s; the server waits 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// The first wait for an answer to a punch; each next is twice as long.
const PUNCH_INTERVAL: Duration = Duration::from_millis(500);

/// A server that has not answered for half a minute will not.
const PUNCH_REPEATS_MAX: u32 = 6;

const GARBAGE_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str =
        "v=0\r\no=- 7 1 IN IP4 0.0.0.0\r\nm=video 4000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n";

    fn session(revision: Revision) -> Session {
        let punch = if revision == Revision::One { Punch::OneWay } else { Punch::Handshake };
        let conduct = Conduct {
            revision,
            transport: Transport::Udp,
            punch,
            punch_delay: Duration::ZERO,
            pings: true,
            acks: true,
            garbage: false,
        };
        Session::new(conduct, 4000)
    }

    fn init() -> ServerMessage {
        ServerMessage::Init(Init {
            token: Some("abc".into()),
            server_port: Some(5000),
            session_id: Some("abc".into()),
            holepunch_port: Some(5000),
            udp_holepunch_required: Some(true),
            active_source: None,
        })
    }

    fn sdp() -> ServerMessage {
        ServerMessage::Sdp { sdp: SDP.into() }
    }

    fn datagram(session: &mut Session) -> Option<String> {
        match session.poll_transmit()? {
            Transmit::Datagram(bytes) => String::from_utf8(bytes).ok(),
            other => panic!("{other:?}"),
        }
    }

    fn at(ms: u64) -> Moment {
        Moment::from_ns(ms * 1_000_000)
    }

    #[test]
    fn revision_1_punches_at_init_and_again_until_media_comes() {
        let mut session = session(Revision::One);
        assert_eq!(session.handle_message(at(0), &init()), Ok(Some(5000)));
        assert_eq!(datagram(&mut session).as_deref(), Some("t5rtp abc 4000"));
        assert_eq!(session.poll_timeout(), Some(at(500)));
        session.handle_timeout(at(500));
        assert_eq!(datagram(&mut session).as_deref(), Some("t5rtp abc 4000"));
        assert_eq!(session.poll_timeout(), Some(at(1500)));
        session.handle_media();
        assert_eq!(session.poll_timeout(), Some(at(2000)), "only the ping is left");
        assert_eq!(session.milestones().punch, Some(at(0)));
    }

    #[test]
    fn revision_2_punches_after_the_sdp_and_acks_every_dummy() {
        let mut session = session(Revision::Two);
        assert_eq!(session.handle_message(at(0), &init()), Ok(Some(5000)));
        assert_eq!(session.poll_transmit(), None);
        assert_eq!(session.handle_message(at(3), &sdp()), Ok(None));
        assert_eq!(datagram(&mut session).as_deref(), Some("ws-rtp abc"));
        for _ in 0..2 {
            session.handle_datagram(at(4), b"ws-rtp-dummy abc");
            assert_eq!(datagram(&mut session).as_deref(), Some("ws-rtp-ack abc"));
        }
        assert_eq!(session.codec(), Some(Codec::H264));
        assert_eq!(session.breaches().count(), 0);
    }

    #[test]
    fn punches_end_after_a_while_and_pings_do_not() {
        let mut session = session(Revision::One);
        session.handle_message(at(0), &init()).expect("an init");
        let mut punches = 0;
        let mut pings = 0;
        for _ in 0..1000 {
            let Some(next) = session.poll_timeout() else { panic!("pings never end") };
            session.handle_timeout(next);
            while let Some(transmit) = session.poll_transmit() {
                match transmit {
                    Transmit::Datagram(_) => punches += 1,
                    Transmit::Text(text) if text == PING => pings += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(punches, PUNCH_REPEATS_MAX + 1);
        assert!(pings > 900);
    }

    #[test]
    fn without_an_ack_the_server_may_fall_back() {
        let mut session = session(Revision::Two);
        session.conduct.acks = false;
        session.handle_message(at(0), &init()).expect("an init");
        session.handle_message(at(0), &sdp()).expect("an sdp");
        datagram(&mut session);
        session.handle_datagram(at(1), b"ws-rtp-dummy abc");
        assert_eq!(session.poll_transmit(), None);
        session.handle_message(at(5000), &ServerMessage::FallingBackRtpToWs).expect("a fallback");
        session.handle_binary_media();
        assert_eq!(session.transport(), Transport::Websocket);
        assert_eq!(session.breaches().count(), 0);
    }

    #[test]
    fn the_websocket_transport_never_punches() {
        let mut session = session(Revision::Two);
        session.conduct.transport = Transport::Websocket;
        assert_eq!(session.handle_message(at(0), &init()), Ok(None));
        session.handle_message(at(0), &sdp()).expect("an sdp");
        assert_eq!(session.poll_transmit(), None);
    }

    #[test]
    fn what_breaks_the_contract_is_named() {
        let mut session = session(Revision::One);
        session.handle_message(at(0), &ServerMessage::Pong).expect("early");
        session.handle_message(at(0), &init()).expect("an init");
        session.handle_message(at(0), &ServerMessage::SessionMode).expect("early");
        session.handle_message(at(0), &sdp()).expect("an sdp");
        session.handle_message(at(0), &sdp()).expect("the same again is allowed");
        let changed = ServerMessage::Sdp { sdp: SDP.replace("4000", "4002") };
        session.handle_message(at(0), &changed).expect("an sdp");
        session.handle_message(at(0), &ServerMessage::FallingBackRtpToWs).expect("a fallback");
        session.handle_datagram(at(0), b"ws-rtp-dummy xyz");
        assert_eq!(session.breaches().count(), 5, "{:?}", session.breaches().collect::<Vec<_>>());
    }

    #[test]
    fn an_init_without_the_revisions_own_fields_ends_the_session() {
        let missing = ServerMessage::Init(Init { token: Some("abc".into()), ..Init::default() });
        assert!(session(Revision::One).handle_message(at(0), &missing).is_err());
        assert!(session(Revision::Two).handle_message(at(0), &missing).is_err());
    }

    #[test]
    fn garbage_is_of_every_kind() {
        let mut session = session(Revision::Two);
        session.conduct.garbage = true;
        session.handle_message(at(0), &init()).expect("an init");
        for _ in 0..15 {
            session.send_garbage();
        }
        let sent: Vec<_> = std::iter::from_fn(|| session.poll_transmit()).collect();
        assert!(sent.iter().any(|transmit| matches!(transmit, Transmit::Text(_))));
        assert!(sent.iter().any(|transmit| matches!(transmit, Transmit::Binary(_))));
        assert!(
            sent.iter().any(|transmit| matches!(transmit, Transmit::Datagram(bytes) if bytes.is_empty()))
        );
    }
}
