//! The wire contract, sentence by sentence, in virtual time.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::codec::{Codec, Nal};

const SESSION: Uuid = Uuid::from_u128(0x0123_4567_89ab_4cde_8f01_2345_6789_abcd);
const UDP_PORT: u16 = 5003;
const PING: &str = r#"{"type":"ping"}"#;

const PRIVATE_PEER: &str = "192.168.0.9:40000";
const PUBLIC_PEER: &str = "203.0.113.5:40000";
/// The public peer's UDP socket, and another of its sockets.
const HOME: &str = "203.0.113.5:40001";
const MOVED: &str = "203.0.113.5:40002";
const STRANGER: &str = "198.51.100.1:53";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn sets(nals: &[&'static [u8]]) -> Rc<ParameterSets> {
    let mut sets = ParameterSets::new(Codec::H264);
    for nal in nals {
        sets.handle_nal(&Nal::from_bytes(Bytes::from_static(nal)));
    }
    Rc::new(sets)
}

const SPS: &[u8] = b"\x67\x64\x00\x28\xac\xd9";
const PPS: &[u8] = b"\x68\xeb";
const OTHER_PPS: &[u8] = b"\x68\xee\x3c\x80";

fn config(peer: &str) -> SessionConfig {
    SessionConfig {
        session_id: SESSION,
        peer: at(peer),
        force_websocket_transport: None,
        udp_port: UDP_PORT,
        allow_foreign_destination: false,
        source_number: 7,
    }
}

fn revision_2(peer: &str) -> SessionConfig {
    SessionConfig { force_websocket_transport: Some(false), ..config(peer) }
}

fn websocket_only(peer: &str) -> SessionConfig {
    SessionConfig { force_websocket_transport: Some(true), ..config(peer) }
}

/// A session with its clock. Its outputs are kept in few words: `sdp 0 v1` is a description with port 0 and
/// version 1.
struct Bench {
    start: Instant,
    now: Instant,
    session: Session,
    /// Pings come by themselves, every 2 s.
    pings: bool,
    next_ping: Instant,
    said: Vec<String>,
    texts: Vec<Value>,
}

impl Bench {
    /// Without parameter sets, the stream active.
    fn new(config: SessionConfig) -> Self {
        Self::in_state(config, StreamState::Active)
    }

    fn in_state(config: SessionConfig, state: StreamState) -> Self {
        let now = Instant::now();
        let session = Session::new(now, config, None, state);
        Self {
            start: now,
            now,
            session,
            pings: true,
            next_ping: now + ms(2000),
            said: Vec::new(),
            texts: Vec::new(),
        }
    }

    /// With parameter sets, `init` and what follows it already said.
    fn ready(config: SessionConfig) -> Self {
        let mut bench = Self::new(config);
        bench.sets(&[SPS, PPS]);
        bench.said.clear();
        bench
    }

    fn poll(&mut self) {
        while let Some(output) = self.session.poll_output() {
            self.said.push(match output {
                Output::Text(text) => {
                    let value: Value = serde_json::from_str(&text).unwrap();
                    let words = in_few_words(&value);
                    self.texts.push(value);
                    words
                }
                Output::Datagram { to, bytes } => {
                    assert_eq!(bytes, format!("ws-rtp-dummy {SESSION}"));
                    format!("dummy {to}")
                }
                Output::Transport(Transport::None) => "rtp nowhere".to_owned(),
                Output::Transport(Transport::Udp(to)) => format!("rtp {to}"),
                Output::Transport(Transport::WebSocket) => "rtp websocket".to_owned(),
                Output::Close { code, .. } => format!("close {code}"),
            });
        }
    }

    fn take(&mut self) -> Vec<String> {
        self.poll();
        std::mem::take(&mut self.said)
    }

    /// Lets time pass as a driver would: timeouts at their time.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.poll();
        loop {
            let ping = self.pings.then_some(self.next_ping);
            let next = self.session.poll_timeout().into_iter().chain(ping).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            assert!(next >= self.now, "a timeout in the past");
            self.now = next;
            if ping == Some(next) {
                self.session.handle_websocket_ping(next);
                self.next_ping = next + ms(2000);
            }
            self.session.handle_timeout(next);
            assert!(self.session.poll_timeout().is_none_or(|deadline| deadline > next), "would spin");
            self.poll();
        }
        self.now = end;
    }

    fn pass_until(&mut self, since_start: Duration) {
        self.pass(self.start + since_start - self.now);
    }

    fn text(&mut self, text: &str) {
        self.session.handle_text(self.now, text);
        self.poll();
    }

    fn sets(&mut self, nals: &[&'static [u8]]) {
        self.session.handle_parameter_sets(self.now, &sets(nals));
        self.poll();
    }

    fn state(&mut self, state: StreamState) {
        self.session.handle_stream_state(self.now, state);
        self.poll();
    }

    fn punch(&mut self, from: &str, punch: Punch) -> bool {
        let taken = self.session.handle_punch(self.now, at(from), punch);
        self.poll();
        taken
    }

    fn t5rtp(&mut self, from: &str, client_port: impl Into<Option<u16>>) -> bool {
        self.punch(from, Punch::T5Rtp { token: SESSION, client_port: client_port.into() })
    }

    fn ws_rtp(&mut self, from: &str) -> bool {
        self.punch(from, Punch::WsRtp { token: SESSION })
    }

    fn ack(&mut self, from: &str) -> bool {
        self.punch(from, Punch::WsRtpAck { token: SESSION })
    }

    fn unreachable(&mut self, destination: &str) {
        self.session.handle_unreachable(self.now, at(destination));
        self.poll();
    }
}

fn in_few_words(message: &Value) -> String {
    match message["type"].as_str().unwrap() {
        "sdp" => {
            let sdp = message["sdp"].as_str().unwrap();
            let word = |line: &str, place: usize| {
                let line = sdp.lines().find(|candidate| candidate.starts_with(line)).unwrap();
                line.split(' ').nth(place).unwrap().to_owned()
            };
            format!("sdp {} v{}", word("m=", 1), word("o=", 2))
        }
        "stream_state" => format!("state {}", message["state"].as_str().unwrap()),
        "error" => "error".to_owned(),
        other => other.to_owned(),
    }
}

// Section 2: messages

#[test]
fn init_is_first_and_names_session_and_port_for_both_revisions() {
    let mut bench = Bench::new(config(PUBLIC_PEER));
    bench.text("garbage");
    assert_eq!(bench.take(), ["init", "error"]);
    assert_eq!(
        bench.texts[0],
        json!({
            "type": "init",
            "token": SESSION.to_string(),
            "server_port": UDP_PORT,
            "udp_holepunch_required": true,
            "session_id": SESSION.to_string(),
            "holepunch_port": UDP_PORT,
            "active_source": null,
        })
    );
}

#[test]
fn without_udp_no_punch_is_asked_for() {
    let mut bench = Bench::new(websocket_only(PUBLIC_PEER));
    bench.poll();
    assert_eq!(bench.texts[0]["udp_holepunch_required"], false);
    assert_eq!(bench.texts[0]["holepunch_port"], 0);
}

#[test]
fn the_active_source_has_no_credentials() {
    let source = ActiveSource {
        label: "main".into(),
        url: "rtsp://admin:hunter2@camera:554/live?password=hunter2&channel=1".into(),
        priority: 1,
    };
    let mut session = Session::new(Instant::now(), config(PUBLIC_PEER), Some(source), StreamState::Active);
    let Some(Output::Text(init)) = session.poll_output() else { panic!("no init") };
    let init: Value = serde_json::from_str(&init).unwrap();
    let expected = json!({"label": "main", "url": "rtsp://camera:554/live?channel=1", "priority": 1});
    assert_eq!(init["active_source"], expected);
}

#[test]
fn a_ping_gets_a_pong() {
    let mut bench = Bench::new(config(PUBLIC_PEER));
    bench.take();
    bench.text(PING);
    bench.text(PING);
    assert_eq!(bench.take(), ["pong", "pong"]);
}

#[test]
fn anything_else_gets_an_error_and_the_session_lives_on() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    for text in ["", "{", r#"{"type":"seek"}"#, "\0"] {
        bench.text(text);
        assert_eq!(bench.take(), ["error"]);
    }
    bench.session.handle_binary(bench.now);
    assert_eq!(bench.take(), ["error"]);
    bench.text(PING);
    assert_eq!(bench.take(), ["pong"]);
}

#[test]
fn a_flood_of_garbage_gets_few_errors() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    for _ in 0..10_000 {
        bench.text("garbage");
    }
    assert_eq!(bench.take().len(), usize::from(ERROR_BURST));
    for _ in 0..10_000 {
        // Not polled: a driver whose socket is full.
        bench.session.handle_text(bench.now, "garbage");
        bench.session.handle_text(bench.now, PING);
        bench.now += ms(1);
    }
    assert!(bench.take().len() <= 2 * usize::from(u8::MAX));
}

#[test]
fn no_ping_for_five_seconds_closes_it() {
    let mut bench = Bench::new(config(PUBLIC_PEER));
    bench.pings = false;
    bench.pass(ms(4999));
    assert_eq!(bench.take(), ["init"]);
    bench.pass(ms(1));
    assert_eq!(bench.take(), ["close 1001"]);
}

#[test]
fn a_ping_of_either_kind_keeps_it_and_nothing_else_does() {
    let mut bench = Bench::ready(config(PRIVATE_PEER));
    bench.pings = false;
    bench.pass(ms(4000));
    bench.text(PING);
    bench.pass(ms(4000));
    bench.session.handle_websocket_ping(bench.now);
    bench.pass(ms(4000));
    bench.text("garbage");
    assert!(bench.t5rtp("192.168.0.9:40001", 6000));
    assert!(!bench.take().contains(&"close 1001".to_owned()));
    bench.pass(ms(1000));
    assert_eq!(bench.take(), ["close 1001"]);
}

#[test]
fn before_the_first_sdp_only_what_both_revisions_know_is_said() {
    for state in [StreamState::Inactive, StreamState::Connecting, StreamState::Error, StreamState::Active] {
        let mut bench = Bench::in_state(revision_2(PUBLIC_PEER), state);
        bench.session.handle_mode(bench.now, Mode::Live);
        bench.text(PING);
        bench.text("garbage");
        bench.pass(ms(20_000));
        let said = bench.take();
        let why = format!("state {state:?}");
        let expected = match state {
            StreamState::Active => vec!["init", "pong", "error"],
            _ => vec!["init", "pong", &why, "error"],
        };
        assert_eq!(said, expected);
        bench.sets(&[SPS, PPS]);
        assert_eq!(bench.take()[..2], ["sdp 0 v1", "session_mode"]);
    }
}

#[test]
fn the_state_tells_why_no_sdp_comes_and_later_each_change() {
    let mut bench = Bench::in_state(revision_2(PUBLIC_PEER), StreamState::Connecting);
    assert_eq!(bench.take(), ["init", "state Connecting"]);
    bench.state(StreamState::Error);
    assert_eq!(bench.take(), ["state Error"]);
    bench.state(StreamState::Active);
    assert_eq!(bench.take(), [""; 0], "Active is not said before the sdp");
    bench.sets(&[SPS, PPS]);
    assert_eq!(bench.take(), ["sdp 0 v1", "state Active"]);
    bench.state(StreamState::Active);
    bench.state(StreamState::Inactive);
    assert_eq!(bench.take(), ["state Inactive"]);
}

#[test]
fn no_state_is_said_while_an_sdp_is_sure_to_come() {
    let mut bench = Bench::in_state(config(PUBLIC_PEER), StreamState::Connecting);
    bench.session.handle_parameter_sets(bench.now, &sets(&[SPS, PPS]));
    assert_eq!(bench.take(), ["init"]);
    bench.pass(ms(1000));
    assert_eq!(bench.take(), ["sdp 0 v1", "state Connecting"]);
}

#[test]
fn every_switch_of_the_mode_is_said() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    bench.session.handle_mode(bench.now, Mode::Dvr { timestamp: 5 });
    assert_eq!(bench.take(), ["session_mode"]);
    assert_eq!(bench.texts.last().unwrap()["dvr"]["timestamp"], 5);
    bench.session.handle_mode(bench.now, Mode::Live);
    assert_eq!(bench.take(), ["session_mode"]);
}

#[test]
fn an_end_is_explained_and_nothing_follows_it() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    bench.ws_rtp(HOME);
    bench.take();
    bench.session.end(bench.now, "the stream was removed".to_owned());
    bench.session.end(bench.now, "twice".to_owned());
    bench.text(PING);
    bench.sets(&[SPS, OTHER_PPS]);
    assert!(!bench.ack(HOME));
    assert_eq!(bench.take(), ["error", "close 1000"]);
    assert_eq!(bench.texts.last().unwrap()["message"], "the stream was removed");
    assert_eq!(bench.session.poll_timeout(), None);
    bench.now += ms(60_000);
    bench.session.handle_timeout(bench.now);
    assert_eq!(bench.take(), [""; 0]);
}

#[test]
fn an_end_before_all_else_still_begins_with_init() {
    let mut bench = Bench::new(config(PUBLIC_PEER));
    bench.session.end(bench.now, "shutting down".to_owned());
    assert_eq!(bench.take(), ["init", "error", "close 1000"]);
}

// Section 4: when the description is sent

#[test]
fn revision_2_gets_its_sdp_as_soon_as_parameter_sets_are_known() {
    let mut bench = Bench::new(revision_2(PUBLIC_PEER));
    assert_eq!(bench.take(), ["init"]);
    bench.sets(&[SPS]);
    assert_eq!(bench.take(), [""; 0], "not all that a decoder needs");
    bench.sets(&[SPS, PPS]);
    assert_eq!(bench.take(), ["sdp 0 v1"]);
}

#[test]
fn others_get_it_right_after_the_punch_with_their_port() {
    let mut bench = Bench::ready(config(PRIVATE_PEER));
    bench.pass(ms(300));
    assert!(bench.t5rtp("192.168.0.9:40001", 6000));
    assert_eq!(bench.take(), ["sdp 6000 v1", "rtp 192.168.0.9:6000"]);
    bench.pass(ms(10_000));
    assert_eq!(bench.take(), [""; 0]);
}

#[test]
fn others_get_it_after_one_second_without_a_punch_and_again_after_it() {
    let mut bench = Bench::ready(config(PRIVATE_PEER));
    bench.pass(ms(999));
    assert_eq!(bench.take(), [""; 0]);
    bench.pass(ms(1));
    assert_eq!(bench.take(), ["sdp 0 v1"]);
    assert!(bench.t5rtp("192.168.0.9:40001", 6000));
    assert_eq!(bench.take(), ["sdp 6000 v2", "rtp 192.168.0.9:6000"]);
}

#[test]
fn parameter_sets_that_come_late_bring_the_sdp_with_them() {
    let mut bench = Bench::new(config(PRIVATE_PEER));
    bench.pass(ms(3000));
    assert_eq!(bench.take(), ["init"]);
    bench.sets(&[SPS, PPS]);
    assert_eq!(bench.take(), ["sdp 0 v1"]);

    let mut punched = Bench::new(config(PRIVATE_PEER));
    assert!(punched.t5rtp("192.168.0.9:40001", 6000));
    punched.pass(ms(3000));
    assert_eq!(punched.take(), ["init"]);
    punched.sets(&[SPS, PPS]);
    assert_eq!(punched.take(), ["sdp 6000 v1", "rtp 192.168.0.9:6000"]);
}

#[test]
fn it_is_sent_again_when_parameter_sets_or_the_port_change_and_only_then() {
    let mut bench = Bench::ready(config(PRIVATE_PEER));
    assert!(bench.t5rtp("192.168.0.9:40001", 6000));
    bench.take();
    bench.sets(&[SPS, PPS]);
    assert!(bench.t5rtp("192.168.0.9:40001", 6000));
    assert_eq!(bench.take(), [""; 0]);
    bench.sets(&[SPS, OTHER_PPS]);
    assert_eq!(bench.take(), ["sdp 6000 v2"]);
    assert!(bench.t5rtp("192.168.0.9:40001", 6002));
    assert_eq!(bench.take(), ["sdp 6002 v3", "rtp 192.168.0.9:6002"]);
}

#[test]
fn the_sdp_has_the_peers_address_family() {
    for (peer, family) in
        [("[2001:db8::5]:1", "IP6"), (PUBLIC_PEER, "IP4"), ("[::ffff:203.0.113.5]:1", "IP4")]
    {
        let mut bench = Bench::ready(revision_2(peer));
        bench.poll();
        let sdp = bench.texts.last().unwrap()["sdp"].as_str().unwrap();
        assert!(sdp.contains(&format!("c=IN {family} ")), "{sdp}");
    }
}

// Section 3: revision 1

#[test]
fn a_public_peer_is_sent_to_where_it_punched_from() {
    let mut bench = Bench::ready(config(PUBLIC_PEER));
    assert!(bench.t5rtp(HOME, 6000));
    assert_eq!(bench.take(), ["sdp 6000 v1", "rtp 203.0.113.5:40001"]);
    assert_eq!(bench.session.revision(), Revision::One);
}

#[test]
fn a_public_peer_need_not_name_a_port() {
    let mut bench = Bench::ready(config(PUBLIC_PEER));
    assert!(bench.t5rtp(HOME, None));
    assert_eq!(bench.take(), ["sdp 40001 v1", "rtp 203.0.113.5:40001"]);
}

#[test]
fn a_private_peer_must_name_a_port() {
    let mut bench = Bench::ready(config(PRIVATE_PEER));
    assert!(!bench.t5rtp("192.168.0.9:40001", None));
    assert_eq!(bench.take(), [""; 0]);
    assert_eq!(bench.session.revision(), Revision::Unknown);
}

#[test]
fn the_latest_punch_wins() {
    let mut bench = Bench::ready(config(PUBLIC_PEER));
    assert!(bench.t5rtp(HOME, 6000));
    bench.take();
    assert!(bench.t5rtp(MOVED, 6000));
    assert_eq!(bench.take(), ["rtp 203.0.113.5:40002"]);
}

#[test]
fn a_foreign_address_is_refused_and_changes_nothing() {
    let mut bench = Bench::ready(config(PUBLIC_PEER));
    assert!(bench.t5rtp(HOME, 6000));
    bench.take();
    assert!(!bench.t5rtp(STRANGER, 6000));
    assert_eq!(bench.take(), [""; 0]);
    assert_eq!(bench.session.transport(), Transport::Udp(at(HOME)));
}

#[test]
fn a_foreign_address_is_taken_where_the_operator_allows_it() {
    let mut bench = Bench::ready(SessionConfig { allow_foreign_destination: true, ..config(PUBLIC_PEER) });
    assert!(bench.t5rtp(STRANGER, 6000));
    assert_eq!(bench.take(), ["sdp 6000 v1", "rtp 198.51.100.1:53"]);
}

#[test]
fn a_revision_2_client_may_punch_with_t5rtp() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    assert!(bench.t5rtp(HOME, 6000));
    assert_eq!(bench.take(), ["sdp 6000 v2", "rtp 203.0.113.5:40001"]);
    bench.pass(ms(20_000));
    assert_eq!(bench.take(), [""; 0], "no ack is waited for");
}

#[test]
fn a_punch_of_another_session_is_refused() {
    let mut bench = Bench::ready(config(PUBLIC_PEER));
    let token = Uuid::from_u128(1);
    for punch in
        [Punch::T5Rtp { token, client_port: Some(1) }, Punch::WsRtp { token }, Punch::WsRtpAck { token }]
    {
        assert!(!bench.punch(HOME, punch));
    }
    assert_eq!(bench.take(), [""; 0]);
}

#[test]
fn without_a_punch_a_client_of_unknown_revision_gets_no_rtp() {
    let mut bench = Bench::ready(config(PUBLIC_PEER));
    bench.pass(ms(60_000));
    assert_eq!(bench.take(), ["sdp 0 v1"]);
    assert_eq!(bench.session.transport(), Transport::None);
}

// Section 3: revision 2

#[test]
fn an_acked_handshake_confirms_udp() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    bench.pass(ms(500));
    assert!(bench.ws_rtp(HOME));
    assert_eq!(bench.take(), ["dummy 203.0.113.5:40001"]);
    bench.pass(ms(150));
    assert_eq!(bench.take(), ["dummy 203.0.113.5:40001"]);
    assert!(bench.ack(HOME));
    assert_eq!(bench.take(), ["rtp 203.0.113.5:40001"]);
    bench.pass(ms(20_000));
    assert_eq!(bench.take(), [""; 0], "no more dummies, no fallback");
}

#[test]
fn a_client_without_the_query_parameter_may_shake_hands_too() {
    let mut bench = Bench::ready(config(PUBLIC_PEER));
    assert!(bench.ws_rtp(HOME));
    assert_eq!(bench.take(), ["sdp 0 v1", "dummy 203.0.113.5:40001"]);
    assert_eq!(bench.session.revision(), Revision::Two);
    assert!(bench.ack(HOME));
    assert_eq!(bench.take(), ["rtp 203.0.113.5:40001"]);
}

#[test]
fn five_dummies_a_hundred_milliseconds_apart_and_no_more() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    assert!(bench.ws_rtp(HOME));
    for round in 1..=5 {
        assert_eq!(bench.take().len(), 1, "round {round}");
        bench.pass(ms(99));
        assert_eq!(bench.take().len(), 0);
        assert!(bench.ws_rtp(HOME), "a repeated punch is no news");
        bench.pass(ms(1));
    }
    bench.pass(ms(4000));
    assert_eq!(bench.take(), [""; 0]);
}

#[test]
fn an_ack_counts_only_from_where_the_dummies_went() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    assert!(!bench.ack(HOME), "nothing to ack");
    assert!(bench.ws_rtp(HOME));
    bench.take();
    assert!(!bench.ack(MOVED));
    assert!(!bench.ack(STRANGER));
    assert_eq!(bench.take(), [""; 0]);
    assert!(bench.ack(HOME));
    assert!(bench.ack(HOME), "a second ack is no news");
    assert_eq!(bench.take(), ["rtp 203.0.113.5:40001"]);
}

#[test]
fn a_foreign_address_must_ack_itself() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    assert!(bench.ws_rtp(STRANGER));
    assert!(!bench.ack(HOME));
    bench.pass(ms(1000));
    assert_eq!(bench.take(), ["dummy 198.51.100.1:53"; 5]);
    assert!(bench.ack(STRANGER));
    assert_eq!(bench.take(), ["rtp 198.51.100.1:53"]);
}

#[test]
fn spoofed_punches_draw_few_dummies() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    let mut dummies = 0;
    for second in 0..100u8 {
        for host in 0..100u8 {
            bench.ws_rtp(&format!("198.51.{second}.{host}:53"));
            bench.pass(ms(10));
        }
        dummies += bench.take().iter().filter(|said| said.starts_with("dummy")).count();
    }
    assert!(dummies <= 5 * 100 / 5, "{dummies}");
}

#[test]
fn punches_of_both_kinds_draw_no_more_dummies() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    for _ in 0..100 {
        assert!(bench.ws_rtp(STRANGER) && bench.t5rtp(HOME, 6000));
        bench.pass(ms(49));
    }
    let dummies = bench.take().iter().filter(|said| said.starts_with("dummy")).count();
    assert_eq!(dummies, 5);
    bench.pass(ms(10_000));
    assert_eq!(bench.take(), [""; 0], "RTP goes where the last punch said");
}

#[test]
fn without_a_punch_rtp_moves_to_the_websocket_after_five_seconds() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    bench.pass(ms(4999));
    assert_eq!(bench.take(), [""; 0]);
    bench.pass(ms(1));
    assert_eq!(bench.take(), ["falling_back_rtp_to_ws", "rtp websocket"]);
    bench.pass(ms(60_000));
    assert_eq!(bench.take(), [""; 0]);
}

#[test]
fn a_client_that_waits_for_a_late_sdp_has_five_seconds_from_there() {
    let mut bench = Bench::new(revision_2(PUBLIC_PEER));
    bench.pass(ms(30_000));
    assert_eq!(bench.take(), ["init"]);
    bench.sets(&[SPS, PPS]);
    bench.pass(ms(4999));
    assert_eq!(bench.take(), ["sdp 0 v1"]);
    bench.pass(ms(1));
    assert_eq!(bench.take(), ["falling_back_rtp_to_ws", "rtp websocket"]);
}

#[test]
fn a_handshake_has_five_seconds_of_its_own() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    bench.pass_until(ms(4000));
    assert!(bench.ws_rtp(HOME));
    bench.pass_until(ms(8999));
    bench.take();
    bench.pass_until(ms(9000));
    assert_eq!(bench.take(), ["falling_back_rtp_to_ws", "rtp websocket"]);
    assert!(!bench.ack(HOME), "too late");
}

#[test]
fn a_later_handshake_moves_it_back_to_udp() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    bench.pass(ms(6000));
    bench.take();
    assert!(bench.ws_rtp(HOME));
    bench.pass(ms(50));
    assert!(bench.ack(HOME));
    assert_eq!(bench.take(), ["dummy 203.0.113.5:40001", "rtp 203.0.113.5:40001"]);
}

#[test]
fn the_fallback_waits_for_the_first_sdp() {
    let mut bench = Bench::new(revision_2(PUBLIC_PEER));
    assert!(bench.ws_rtp(HOME));
    bench.pass(ms(6000));
    assert!(!bench.take().contains(&"falling_back_rtp_to_ws".to_owned()));
    bench.sets(&[SPS, PPS]);
    assert_eq!(bench.take(), ["sdp 0 v1", "falling_back_rtp_to_ws", "rtp websocket"]);
}

#[test]
fn rtp_starts_only_after_the_first_sdp() {
    let mut bench = Bench::new(revision_2(PUBLIC_PEER));
    assert!(bench.ws_rtp(HOME));
    assert!(bench.ack(HOME));
    bench.take();
    bench.sets(&[SPS, PPS]);
    assert_eq!(bench.take(), ["sdp 0 v1", "rtp 203.0.113.5:40001"]);
}

#[test]
fn a_nat_that_rebinds_moves_rtp_after_an_ack_and_not_before() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    assert!(bench.ws_rtp(HOME) && bench.ack(HOME));
    bench.take();
    assert!(bench.ws_rtp(MOVED));
    assert_eq!(bench.take(), ["dummy 203.0.113.5:40002"]);
    assert!(bench.ack(MOVED));
    assert_eq!(bench.take(), ["rtp 203.0.113.5:40002"]);
}

#[test]
fn a_rebinding_that_is_not_acked_falls_back() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    assert!(bench.ws_rtp(HOME) && bench.ack(HOME));
    assert!(bench.ws_rtp(MOVED));
    bench.take();
    bench.pass(ms(5000));
    assert_eq!(bench.take().split_off(4), ["falling_back_rtp_to_ws", "rtp websocket"]);
}

#[test]
fn a_stray_punch_from_the_confirmed_address_does_not_end_udp() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    assert!(bench.ws_rtp(HOME) && bench.ack(HOME));
    bench.take();
    assert!(bench.ws_rtp(HOME));
    bench.pass(ms(20_000));
    assert_eq!(bench.take(), ["dummy 203.0.113.5:40001"; 5]);
    assert_eq!(bench.session.transport(), Transport::Udp(at(HOME)));
}

#[test]
fn a_handshake_survives_the_five_seconds_of_the_session() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    bench.pass_until(ms(4900));
    assert!(bench.ws_rtp(HOME));
    bench.pass_until(ms(5200));
    assert!(bench.ack(HOME));
    assert_eq!(bench.take().last().unwrap(), "rtp 203.0.113.5:40001");
}

#[test]
fn with_udp_off_rtp_goes_over_the_websocket_from_the_start() {
    let mut bench = Bench::new(websocket_only(PUBLIC_PEER));
    bench.sets(&[SPS, PPS]);
    assert_eq!(bench.take(), ["init", "sdp 0 v1", "rtp websocket"]);
    assert!(!bench.ws_rtp(HOME) && !bench.ack(HOME) && !bench.t5rtp(HOME, 6000));
    bench.pass(ms(20_000));
    assert_eq!(bench.take(), [""; 0]);
}

#[test]
fn ipv4_in_ipv6_is_the_same_client() {
    let mut bench = Bench::ready(revision_2("[::ffff:203.0.113.5]:40000"));
    assert!(bench.ws_rtp("[::ffff:203.0.113.5]:40001"));
    assert!(bench.ack(HOME));
    bench.unreachable("[::ffff:203.0.113.5]:40001");
    assert_eq!(bench.take(), ["dummy 203.0.113.5:40001", "rtp 203.0.113.5:40001", "rtp nowhere"]);
}

// Section 3: ICMP

#[test]
fn an_unreachable_destination_stops_rtp_until_the_next_punch() {
    let mut bench = Bench::ready(config(PUBLIC_PEER));
    assert!(bench.t5rtp(HOME, 6000));
    bench.take();
    bench.unreachable(HOME);
    assert_eq!(bench.take(), ["rtp nowhere"]);
    bench.pass(ms(20_000));
    bench.text(PING);
    assert_eq!(bench.take(), ["pong"], "the WebSocket lives on");
    assert!(bench.t5rtp(HOME, 6000));
    assert_eq!(bench.take(), ["rtp 203.0.113.5:40001"]);
}

#[test]
fn late_news_of_an_old_destination_changes_nothing() {
    let mut bench = Bench::ready(config(PUBLIC_PEER));
    assert!(bench.t5rtp(HOME, 6000) && bench.t5rtp(MOVED, 6000));
    bench.take();
    bench.unreachable(HOME);
    bench.unreachable(STRANGER);
    assert_eq!(bench.take(), [""; 0]);
}

#[test]
fn no_dummies_go_to_where_nobody_listens() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    assert!(bench.ws_rtp(HOME));
    bench.unreachable(HOME);
    bench.pass(ms(5000));
    assert_eq!(bench.take(), ["dummy 203.0.113.5:40001", "falling_back_rtp_to_ws", "rtp websocket"]);
}

#[test]
fn after_unreachable_a_revision_2_client_shakes_hands_again() {
    let mut bench = Bench::ready(revision_2(PUBLIC_PEER));
    assert!(bench.ws_rtp(HOME) && bench.ack(HOME));
    bench.unreachable(HOME);
    bench.take();
    assert!(!bench.ack(HOME), "an old ack opens nothing");
    assert!(bench.ws_rtp(HOME) && bench.ack(HOME));
    assert_eq!(bench.take(), ["dummy 203.0.113.5:40001", "rtp 203.0.113.5:40001"]);
}

// What it costs

#[test]
fn a_session_is_small() {
    // A viewer may take 2 KB in all; this leaves room for its queue, its socket and its place in the maps.
    assert!(size_of::<Session>() <= 400, "{}", size_of::<Session>());
}

// Any client, any order

#[derive(Clone, Debug)]
enum Step {
    Text(String),
    Binary,
    WebSocketPing,
    T5Rtp(usize, Option<u16>),
    WsRtp(usize),
    WsRtpAck(usize),
    Sets(bool),
    State(StreamState),
    Mode(Mode),
    Unreachable(usize),
    End,
    Pass(u64),
}

const ADDRESSES: [&str; 6] =
    [HOME, MOVED, STRANGER, "[::ffff:203.0.113.5]:40001", "192.168.0.9:7", "0.0.0.0:0"];

fn step() -> impl Strategy<Value = Step> {
    let address = 0..ADDRESSES.len();
    prop_oneof![
        2 => Just(Step::Text(PING.to_owned())),
        1 => "\\PC{0,20}".prop_map(Step::Text),
        1 => Just(Step::Binary),
        2 => Just(Step::WebSocketPing),
        2 => (address.clone(), prop::option::of(1..=u16::MAX)).prop_map(|(from, port)| Step::T5Rtp(from, port)),
        3 => address.clone().prop_map(Step::WsRtp),
        3 => address.clone().prop_map(Step::WsRtpAck),
        1 => any::<bool>().prop_map(Step::Sets),
        1 => prop_oneof![
            Just(StreamState::Active), Just(StreamState::Connecting), Just(StreamState::Error)
        ].prop_map(Step::State),
        1 => prop_oneof![Just(Mode::Live), Just(Mode::Dvr { timestamp: 1 })].prop_map(Step::Mode),
        1 => address.prop_map(Step::Unreachable),
        8 => (0..700u64).prop_map(Step::Pass),
        1 => (4900..5100u64).prop_map(Step::Pass),
    ]
}

/// Checks what is said against what may be.
#[derive(Default)]
struct Judge {
    told_sdp: bool,
    version: u64,
    begun: bool,
    closed: bool,
    /// When the first dummy was sent after an ack or long enough, and how many since.
    dummies: Option<(Instant, usize)>,
    acked: Vec<SocketAddr>,
    shook_hands: bool,
    replies: usize,
    /// Outputs are polled late, so their times say little.
    lazy_driver: bool,
}

impl Judge {
    fn hear(&mut self, now: Instant, config: &SessionConfig, output: &Output) {
        assert!(!self.closed, "nothing follows the close frame");
        match output {
            Output::Text(text) => self.hear_text(text),
            Output::Datagram { to, .. } => {
                assert!(is_unicast(*to));
                self.shook_hands = true;
                let (since, count) = self.dummies.unwrap_or((now, 0));
                let (since, count) = if now >= since + ACK_TIMEOUT { (now, 1) } else { (since, count + 1) };
                self.dummies = Some((since, count));
                assert!(self.lazy_driver || count <= 5, "six dummies");
            }
            Output::Transport(transport) => {
                assert!(self.told_sdp, "rtp before the sdp");
                if let Transport::Udp(to) = transport {
                    let home = canonical(config.peer).ip() == to.ip();
                    let acked = self.acked.contains(to);
                    assert!(home || acked || config.allow_foreign_destination, "rtp to {to}");
                    assert!(is_unicast(*to));
                }
                if *transport == Transport::WebSocket {
                    assert!(config.force_websocket_transport.is_some() || self.shook_hands);
                }
            }
            Output::Close { .. } => self.closed = true,
        }
    }

    fn hear_text(&mut self, text: &str) {
        let words = in_few_words(&serde_json::from_str(text).unwrap());
        assert_eq!(self.begun, words != "init", "init first, and once");
        self.begun = true;
        match words.split(' ').collect::<Vec<_>>()[..] {
            ["sdp", _, version] => {
                let version = version[1..].parse().unwrap();
                assert!(version > self.version);
                (self.told_sdp, self.version) = (true, version);
            }
            ["pong" | "error"] => self.replies += 1,
            ["state", "Active"] | ["session_mode"] | ["falling_back_rtp_to_ws"] => assert!(self.told_sdp),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn no_client_can_make_it_break_its_word(
        force in prop::option::of(any::<bool>()),
        private: bool,
        allow_foreign_destination: bool,
        lazy_driver: bool,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let peer = if private { PRIVATE_PEER } else { PUBLIC_PEER };
        let config = SessionConfig {
            force_websocket_transport: force, allow_foreign_destination, ..config(peer)
        };
        let mut now = Instant::now();
        let mut session = Session::new(now, config.clone(), None, StreamState::Connecting);
        let mut judge = Judge { lazy_driver, ..Judge::default() };
        let mut asked = 0;
        for step in steps.into_iter().chain([Step::End]) {
            match step {
                Step::Text(text) => {
                    asked += 1;
                    session.handle_text(now, &text);
                }
                Step::Binary => {
                    asked += 1;
                    session.handle_binary(now);
                }
                Step::WebSocketPing => session.handle_websocket_ping(now),
                Step::T5Rtp(from, client_port) => {
                    session.handle_punch(now, at(ADDRESSES[from]), Punch::T5Rtp { token: SESSION, client_port });
                }
                Step::WsRtp(from) => {
                    session.handle_punch(now, at(ADDRESSES[from]), Punch::WsRtp { token: SESSION });
                }
                Step::WsRtpAck(from) => {
                    if session.handle_punch(now, at(ADDRESSES[from]), Punch::WsRtpAck { token: SESSION }) {
                        judge.acked.push(canonical(at(ADDRESSES[from])));
                        if session.handshake.is_none() {
                            judge.dummies = None;
                        }
                    }
                }
                Step::Sets(other) => {
                    session.handle_parameter_sets(now, &sets(&[SPS, if other { OTHER_PPS } else { PPS }]));
                }
                Step::State(state) => session.handle_stream_state(now, state),
                Step::Mode(mode) => session.handle_mode(now, mode),
                Step::Unreachable(to) => session.handle_unreachable(now, at(ADDRESSES[to])),
                Step::End => session.end(now, "over".to_owned()),
                Step::Pass(time_ms) => {
                    let end = now + ms(time_ms);
                    while let Some(deadline) = session.poll_timeout().filter(|deadline| *deadline <= end) {
                        now = now.max(deadline);
                        session.handle_timeout(now);
                        prop_assert!(session.poll_timeout().is_none_or(|deadline| deadline > now), "would spin");
                        if !lazy_driver {
                            while let Some(output) = session.poll_output() {
                                judge.hear(now, &config, &output);
                            }
                        }
                    }
                    now = end;
                }
            }
            let mut outputs = 0;
            while let Some(output) = session.poll_output() {
                judge.hear(now, &config, &output);
                outputs += 1;
                prop_assert!(outputs < 20, "unbounded output");
            }
            prop_assert!(judge.replies <= asked + 1);
        }
        prop_assert!(judge.closed);
    }
}
