//! One WSC-RTP session: what to say over the WebSocket, where RTP may go, and when to give up
//! (wire contract sections 2 to 4).
//!
//! The media itself does not pass here: [`Output::Transport`] tells the driver where it goes. What waits to be
//! said is kept as what it is about (a state, a description, a destination), not as a queue of messages, so
//! nothing that a client sends can make it grow: the newest state is told, once.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use uuid::Uuid;

use super::budget::Budget;
use super::destination::{Destination, canonical, is_unicast};
use super::handshake::{ACK_TIMEOUT, Handshake};
use super::hole_punch::write_dummy;
use super::{ActiveSource, ClientMessage, Mode, Punch, ServerMessage, StreamState, public_url};
use crate::codec::ParameterSets;
use crate::sdp::{SessionDescription, write_session};

/// Which names and which handshake a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// Not yet told by the query or by a punch.
    Unknown,
    /// `t5rtp`, one datagram.
    One,
    /// `ws-rtp`, three-way.
    Two,
}

/// What a session is born with.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// 128 random bits; also the token.
    pub session_id: Uuid,
    /// The WebSocket peer.
    pub peer: SocketAddr,
    /// The query's `force_websocket_transport`; `None` if absent.
    pub force_websocket_transport: Option<bool>,
    /// UDP port of the shard.
    pub udp_port: u16,
    /// Operator's setting `wsc.allow_foreign_destination`.
    pub allow_foreign_destination: bool,
    /// Number in the SDP's `o=`.
    pub source_number: u64,
}

/// Where RTP goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Nowhere yet, or no more.
    None,
    /// To this address, from the shard's UDP socket. An IPv4 address is given as such, never inside IPv6.
    Udp(SocketAddr),
    /// Each RTP packet in one binary frame.
    WebSocket,
}

/// Why the session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// No ping for 5 s.
    PingTimeout,
    /// By REST or by the server: the sentence goes to the client.
    Ended(String),
}

/// What the driver should do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a text frame.
    Text(String),
    /// Send a datagram from the shard's UDP socket.
    Datagram {
        /// To.
        to: SocketAddr,
        /// What.
        bytes: Bytes,
    },
    /// RTP goes there from now on. Said only after the first `sdp`. From one address to another it is the same
    /// RTP that goes on.
    Transport(Transport),
    /// Send a close frame with this code (RFC 6455 section 7.4) and free the session. Nothing follows.
    Close {
        /// 1001 where the client is silent, 1000 where the session was ended.
        code: u16,
        /// Why.
        reason: CloseReason,
    },
}

/// The machine.
///
/// Call [`Session::handle_parameter_sets`] before the first [`Session::poll_output`] where they are known, so
/// that no `stream_state` goes out to explain a missing `sdp`.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    revision: Revision,
    /// `init`, until it is polled.
    init: Option<String>,
    ending: Ending,
    ping_deadline: Instant,
    pongs_due: u8,
    pong_budget: PongBudget,
    errors_due: u8,
    error_budget: ErrorBudget,
    state: StreamState,
    /// What the client believes: it takes a stream for active until told.
    state_told: StreamState,
    mode_due: Option<Mode>,
    sdp: Sdp,
    /// Where RTP should go, and where the driver was told that it goes.
    transport_wanted: Transport,
    transport: Transport,
    falling_back_told: bool,
    handshake: Option<Handshake>,
    /// When a session that needs a handshake goes on without, though none has begun.
    punch_deadline: Option<Instant>,
}

/// How far the end has come.
#[derive(Debug)]
enum Ending {
    /// Not at all.
    Open,
    /// The client is to be told why.
    Explain(String),
    /// The close frame is to be sent.
    Close(CloseReason),
    /// Nothing follows.
    Over,
}

/// The description that the client has, and what has changed since.
#[derive(Debug)]
struct Sdp {
    parameter_sets: Option<Rc<ParameterSets>>,
    client_port: u16,
    /// Version of the last one told; 0 before the first.
    version: u64,
    /// One more is to be told, once parameter sets are known and the client may have it.
    due: bool,
    /// When a client of unknown revision gets it without a punch; `None` once that is past or no question.
    grace_deadline: Option<Instant>,
}

impl Session {
    /// Starts at `now`; `init` waits in [`Session::poll_output`].
    pub fn new(
        now: Instant,
        mut config: SessionConfig,
        active: Option<ActiveSource>,
        state: StreamState,
    ) -> Self {
        config.peer = canonical(config.peer);
        let udp = config.force_websocket_transport != Some(true);
        let revision = match config.force_websocket_transport {
            Some(_) => Revision::Two,
            None => Revision::Unknown,
        };
        Self {
            revision,
            init: Some(init(&config, udp, active)),
            ending: Ending::Open,
            ping_deadline: now + PING_TIMEOUT,
            pongs_due: 0,
            pong_budget: PongBudget::new(now),
            errors_due: 0,
            error_budget: ErrorBudget::new(now),
            state,
            state_told: StreamState::Active,
            mode_due: None,
            sdp: Sdp {
                parameter_sets: None,
                client_port: 0,
                version: 0,
                due: true,
                grace_deadline: (revision == Revision::Unknown).then_some(now + PUNCH_GRACE),
            },
            transport_wanted: if udp { Transport::None } else { Transport::WebSocket },
            transport: Transport::None,
            falling_back_told: false,
            handshake: None,
            punch_deadline: None,
            config,
        }
    }

    /// What the client was found to speak.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Where RTP goes, as last said by [`Output::Transport`].
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// A text frame came.
    pub fn handle_text(&mut self, now: Instant, text: &str) {
        match ClientMessage::parse(text) {
            Some(ClientMessage::Ping) => {
                self.ping_deadline = now + PING_TIMEOUT;
                self.pongs_due = self.pongs_due.saturating_add(u8::from(self.pong_budget.take(now)));
            }
            None => self.complain(now),
        }
    }

    /// A binary frame came: an `error`.
    pub fn handle_binary(&mut self, now: Instant) {
        self.complain(now);
    }

    /// A WebSocket-level ping came (its pong is the WebSocket layer's business).
    pub fn handle_websocket_ping(&mut self, now: Instant) {
        self.ping_deadline = now + PING_TIMEOUT;
    }

    /// A punch with this session's token came. False: refused (counted by the driver).
    pub fn handle_punch(&mut self, now: Instant, from: SocketAddr, punch: Punch) -> bool {
        if !self.is_open() || !self.has_udp() || punch.token() != self.config.session_id {
            return false;
        }
        let from = canonical(from);
        match punch {
            Punch::T5Rtp { client_port, .. } => self.handle_t5rtp(from, client_port),
            Punch::WsRtp { .. } => self.handle_ws_rtp(now, from),
            Punch::WsRtpAck { .. } => self.handle_ack(from),
        }
    }

    /// The stream's parameter sets are known or changed. Without all that a decoder needs they are not known.
    pub fn handle_parameter_sets(&mut self, now: Instant, sets: &Rc<ParameterSets>) {
        if !sets.is_complete() {
            return;
        }
        self.sdp.handle_parameter_sets(sets);
        // Clients wait for the description before they punch, so the wait for the punch starts with it.
        if self.revision == Revision::Two && self.has_udp() && self.sdp.version == 0 && self.is_unpunched() {
            self.punch_deadline.get_or_insert(now + ACK_TIMEOUT);
        }
    }

    /// The stream's state changed.
    pub fn handle_stream_state(&mut self, _now: Instant, state: StreamState) {
        self.state = state;
    }

    /// The session switched between live and DVR, or to another time of DVR.
    pub fn handle_mode(&mut self, _now: Instant, mode: Mode) {
        self.mode_due = Some(mode);
    }

    /// The destination answered port unreachable: UDP stops until the next punch. News of a destination that is
    /// no longer in use changes nothing.
    pub fn handle_unreachable(&mut self, _now: Instant, destination: SocketAddr) {
        let destination = canonical(destination);
        if self.transport_wanted == Transport::Udp(destination) {
            self.transport_wanted = Transport::None;
        }
        if let Some(handshake) = self.handshake.as_mut().filter(|handshake| handshake.to() == destination) {
            handshake.handle_unreachable();
        }
    }

    /// Ends it, with a sentence for the client.
    pub fn end(&mut self, _now: Instant, reason: String) {
        if self.is_open() {
            self.ending = Ending::Explain(reason);
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.is_open() {
            return;
        }
        if now >= self.ping_deadline {
            self.ending = Ending::Close(CloseReason::PingTimeout);
            return;
        }
        if self.sdp.grace_deadline.is_some_and(|deadline| now >= deadline) {
            self.sdp.grace_deadline = None;
        }
        if self.punch_deadline.is_some_and(|deadline| now >= deadline) {
            self.punch_deadline = None;
            self.transport_wanted = Transport::WebSocket;
        }
        if let Some(handshake) = &mut self.handshake {
            handshake.handle_timeout(now);
            if handshake.is_over(now) {
                self.give_up_handshake();
            }
        }
    }

    /// When to call [`Session::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.is_open() {
            return None;
        }
        let handshake = self.handshake.as_ref().map(Handshake::poll_timeout);
        let deadlines = [Some(self.ping_deadline), self.sdp.grace_deadline, self.punch_deadline, handshake];
        deadlines.into_iter().flatten().min()
    }

    /// What to do, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(init) = self.init.take() {
            return Some(Output::Text(init));
        }
        if !self.is_open() {
            return self.poll_ending();
        }
        self.poll_reply()
            .or_else(|| self.poll_news())
            .or_else(|| self.poll_transport())
            .or_else(|| self.poll_dummy())
    }
}

impl Session {
    fn handle_t5rtp(&mut self, from: SocketAddr, client_port: Option<u16>) -> bool {
        let allow_foreign = self.config.allow_foreign_destination;
        let Some(destination) = Destination::of_punch(self.config.peer, from, client_port, allow_foreign)
        else {
            return false;
        };
        if self.revision == Revision::Unknown {
            self.revision = Revision::One;
        }
        self.sdp.handle_client_port(destination.client_port);
        self.confirm(destination.address);
        if let Some(handshake) = &mut self.handshake {
            handshake.settle();
        }
        true
    }

    fn handle_ws_rtp(&mut self, now: Instant, from: SocketAddr) -> bool {
        if !is_unicast(from) {
            return false;
        }
        self.revision = Revision::Two;
        self.sdp.grace_deadline = None;
        self.punch_deadline = None;
        match &mut self.handshake {
            Some(handshake) if !handshake.is_over(now) => handshake.handle_punch(now, from),
            _ => self.handshake = Some(Handshake::new(now, from)),
        }
        true
    }

    fn handle_ack(&mut self, from: SocketAddr) -> bool {
        if self.handshake.as_ref().is_some_and(|handshake| handshake.to() == from) {
            self.handshake = None;
            self.confirm(from);
        }
        // An ack that comes twice confirms nothing new.
        self.transport_wanted == Transport::Udp(from)
    }

    fn confirm(&mut self, destination: SocketAddr) {
        self.transport_wanted = Transport::Udp(destination);
        self.punch_deadline = None;
        self.sdp.grace_deadline = None;
    }

    /// No ack came. Where RTP already goes to that very address, it goes on.
    fn give_up_handshake(&mut self) {
        if let Some(handshake) = self.handshake.take()
            && handshake.is_awaited()
            && self.transport_wanted != Transport::Udp(handshake.to())
        {
            self.transport_wanted = Transport::WebSocket;
        }
    }

    fn complain(&mut self, now: Instant) {
        self.errors_due = self.errors_due.saturating_add(u8::from(self.error_budget.take(now)));
    }

    fn poll_ending(&mut self) -> Option<Output> {
        match std::mem::replace(&mut self.ending, Ending::Over) {
            Ending::Explain(message) => {
                self.ending = Ending::Close(CloseReason::Ended(message.clone()));
                Some(text(&ServerMessage::Error { message }))
            }
            Ending::Close(reason) => Some(Output::Close { code: reason.code(), reason }),
            Ending::Open | Ending::Over => None,
        }
    }

    fn poll_reply(&mut self) -> Option<Output> {
        if self.pongs_due > 0 {
            self.pongs_due -= 1;
            return Some(text(&ServerMessage::Pong));
        }
        if self.errors_due > 0 {
            self.errors_due -= 1;
            return Some(text(&ServerMessage::Error { message: NOT_UNDERSTOOD.to_owned() }));
        }
        None
    }

    /// What clients know how to take only after the first description, and the description.
    fn poll_news(&mut self) -> Option<Output> {
        if let Some(sdp) = self.poll_sdp() {
            return Some(text(&ServerMessage::Sdp { sdp }));
        }
        let may_tell_state =
            self.sdp.version > 0 || self.sdp.is_unknown() && self.state != StreamState::Active;
        if may_tell_state && self.state != self.state_told {
            self.state_told = self.state;
            return Some(text(&ServerMessage::StreamState { state: self.state }));
        }
        if self.sdp.version > 0
            && let Some(mode) = self.mode_due.take()
        {
            return Some(text(&ServerMessage::SessionMode { mode }));
        }
        None
    }

    fn poll_sdp(&mut self) -> Option<String> {
        if !self.sdp.due || self.sdp.grace_deadline.is_some() {
            return None;
        }
        let parameter_sets = self.sdp.parameter_sets.as_deref()?;
        self.sdp.due = false;
        self.sdp.version += 1;
        Some(write_session(&SessionDescription {
            source_number: self.config.source_number,
            version: self.sdp.version,
            ipv6: self.config.peer.is_ipv6(),
            client_port: self.sdp.client_port,
            parameter_sets,
        }))
    }

    fn poll_transport(&mut self) -> Option<Output> {
        if self.sdp.version == 0 || self.transport_wanted == self.transport {
            return None;
        }
        let falls_back = self.transport_wanted == Transport::WebSocket && self.has_udp();
        if falls_back && !self.falling_back_told {
            self.falling_back_told = true;
            return Some(text(&ServerMessage::FallingBackRtpToWs));
        }
        self.falling_back_told = false;
        self.transport = self.transport_wanted;
        Some(Output::Transport(self.transport_wanted))
    }

    fn poll_dummy(&mut self) -> Option<Output> {
        let handshake = self.handshake.as_mut()?;
        handshake
            .take_dummy()
            .then(|| Output::Datagram { to: handshake.to(), bytes: write_dummy(self.config.session_id) })
    }

    fn is_open(&self) -> bool {
        matches!(self.ending, Ending::Open)
    }

    fn has_udp(&self) -> bool {
        self.config.force_websocket_transport != Some(true)
    }

    fn is_unpunched(&self) -> bool {
        self.transport_wanted == Transport::None && self.handshake.is_none()
    }
}

impl Sdp {
    fn handle_parameter_sets(&mut self, sets: &Rc<ParameterSets>) {
        let same = self.parameter_sets.as_ref().is_some_and(|had| Rc::ptr_eq(had, sets) || had == sets);
        if !same {
            self.parameter_sets = Some(Rc::clone(sets));
            self.due = true;
        }
    }

    fn handle_client_port(&mut self, client_port: u16) {
        if self.client_port != client_port {
            self.client_port = client_port;
            self.due = true;
        }
    }

    /// There is nothing that a description could be written from.
    fn is_unknown(&self) -> bool {
        self.parameter_sets.is_none()
    }
}

impl CloseReason {
    fn code(&self) -> u16 {
        match self {
            Self::PingTimeout => CLOSE_GOING_AWAY,
            Self::Ended(_) => CLOSE_NORMAL,
        }
    }
}

fn init(config: &SessionConfig, udp: bool, active: Option<ActiveSource>) -> String {
    let message = ServerMessage::Init {
        token: config.session_id,
        server_port: config.udp_port,
        udp_holepunch_required: udp,
        session_id: config.session_id,
        holepunch_port: if udp { config.udp_port } else { 0 },
        active_source: active.map(|source| ActiveSource { url: public_url(&source.url), ..source }),
    };
    message.to_json()
}

fn text(message: &ServerMessage) -> Output {
    Output::Text(message.to_json())
}

/// How long a client may be silent (wire contract section 2).
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client of unknown revision may take to punch before it gets its description (section 4).
const PUNCH_GRACE: Duration = Duration::from_secs(1);

/// RFC 6455 section 7.4.1.
const CLOSE_NORMAL: u16 = 1000;
const CLOSE_GOING_AWAY: u16 = 1001;

/// The answer to whatever is no ping. It does not repeat what came.
const NOT_UNDERSTOOD: &str = r#"not understood: the only message of a client is the text {"type":"ping"}"#;

/// Clients ping every 2–3 s. A flood is not answered one by one, but it counts as being alive.
type PongBudget = Budget<8, 100>;

/// Enough to see what one does wrong; a flood of garbage gets no flood of errors.
type ErrorBudget = Budget<ERROR_BURST, 250>;
const ERROR_BURST: u8 = 8;

#[cfg(test)]
mod tests;
