//! The dialogue with one camera over one connection: OPTIONS, DESCRIBE, SETUP, PLAY, keepalive, TEARDOWN
//! (RFC 2326 section 10).
//!
//! One attempt, one `Client`. Who makes the next attempt, and when, is the relay's `Source`.

mod describe;
mod dialogue;
mod error;
mod keepalive;
mod media;
#[cfg(test)]
mod tests;
mod transport;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use rtsp_types::{HeaderName, Message, headers};
use url::Url;

use self::dialogue::{Answer, Dialogue, Method, Request, Response};
pub use self::error::ClientError;
use self::keepalive::Keepalive;
use self::media::Media;
use self::transport::{SESSION_TIMEOUT, SessionReply, Transport, TransportReply, UdpPeer};
use super::auth::Authenticator;
use super::{Frame, Frames, SplitMix64};
use crate::codec::{Codec, Nal, ParameterSets};
use crate::rtcp::{self, Received, SenderReport};
use crate::rtp::{Ordered, PayloadTypes};
use crate::sdp::{Presentation, VideoTrack};

/// User name and password. `Debug` hides both.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Which transport to ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportPreference {
    /// TCP interleaved first, UDP where the camera refuses it.
    #[default]
    Auto,
    /// TCP interleaved only.
    Tcp,
    /// UDP first, TCP where the camera refuses it.
    Udp,
}

impl TransportPreference {
    fn in_order(self) -> &'static [Transport] {
        match self {
            Self::Auto => &[Transport::Tcp, Transport::Udp],
            Self::Tcp => &[Transport::Tcp],
            Self::Udp => &[Transport::Udp, Transport::Tcp],
        }
    }
}

/// What an attempt is made with.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Without user info.
    pub url: Url,
    /// For Basic and Digest.
    pub credentials: Option<Credentials>,
    /// False where the operator did not name the host (a redirect led there): the password is not shown.
    pub basic_allowed: bool,
    /// Which transport to ask for.
    pub transport: TransportPreference,
    /// How long an answer may take.
    pub reply_timeout: Duration,
    /// How long media may be silent once playing.
    pub silence_timeout: Duration,
    /// Seed for SSRC, cnonce and the like.
    pub seed: u64,
}

/// What the driver should do, or know. `Debug` shows no bytes: they may hold credentials.
pub enum ClientOutput {
    /// Write to the RTSP connection.
    Write(Bytes),
    /// Open a pair of UDP sockets (even RTP port, odd RTCP port) and answer with `handle_udp_opened`.
    OpenUdp,
    /// Media comes from there. What opens firewalls follows as `SendRtp` and `SendRtcp`, to these addresses.
    UdpPeer {
        /// Where the camera's RTP comes from.
        rtp: SocketAddr,
        /// Where our RTCP goes.
        rtcp: SocketAddr,
    },
    /// Send from the RTP socket of the pair.
    SendRtp(Bytes),
    /// Send from the RTCP socket of the pair.
    SendRtcp(Bytes),
    /// PLAY was accepted; media follows.
    Playing {
        /// The codec.
        codec: Codec,
        /// RTP clock rate in Hz.
        clock_rate_hz: u32,
        /// What `sprop-*` gave; may be incomplete.
        parameter_sets: Box<ParameterSets>,
    },
    /// The next packet in order.
    Packet(Ordered),
    /// A sender report of the video's source.
    SenderReport(SenderReport),
    /// The attempt is over: close the connection and the sockets. Nothing follows.
    Ended(ClientError),
}

impl fmt::Debug for ClientOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(bytes) => write!(f, "Write({} bytes)", bytes.len()),
            Self::OpenUdp => f.write_str("OpenUdp"),
            Self::UdpPeer { rtp, rtcp } => write!(f, "UdpPeer({rtp}, {rtcp})"),
            Self::SendRtp(bytes) => write!(f, "SendRtp({} bytes)", bytes.len()),
            Self::SendRtcp(bytes) => write!(f, "SendRtcp({} bytes)", bytes.len()),
            Self::Playing { codec, clock_rate_hz, .. } => write!(f, "Playing({codec:?}, {clock_rate_hz})"),
            Self::Packet(ordered) => {
                write!(f, "Packet({}, {} lost)", ordered.packet.seq, ordered.lost_before)
            }
            Self::SenderReport(report) => report.fmt(f),
            Self::Ended(error) => f.debug_tuple("Ended").field(error).finish(),
        }
    }
}

/// Counters of one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStatistics {
    /// RTP packets received.
    pub packets: u64,
    /// RTP packets that never came.
    pub lost: u64,
    /// RTP or RTCP that was malformed or of another payload type, and interleaved frames on channels not ours.
    pub dropped: u64,
}

/// Where in the dialogue we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// OPTIONS is under way.
    Options,
    /// DESCRIBE is under way.
    Describe,
    /// The driver opens UDP sockets, until then at most.
    OpeningUdp(Instant),
    /// SETUP is under way, for this transport.
    Setup(Transport),
    /// PLAY is under way. Media may come already.
    Play,
    /// Media comes.
    Playing,
    /// TEARDOWN is under way, until then at most.
    TearingDown(Instant),
    /// Nothing follows.
    Ended,
}

/// The machine. Its RTSP connection is open when it is made.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    peer: SocketAddr,
    step: Step,
    random: SplitMix64,
    frames: Frames,
    dialogue: Dialogue,
    outputs: VecDeque<ClientOutput>,
    statistics: ClientStatistics,
    /// The likelier keepalive is GET_PARAMETER: the camera offers it, or refuses OPTIONS.
    get_parameter_first: bool,
    base: Url,
    presentation: Option<Presentation>,
    /// Transports still to be asked for.
    transports: &'static [Transport],
    /// The status of the first SETUP that was refused for another reason than its transport.
    refusal: Option<u16>,
    udp_port: Option<u16>,
    play: PlayRequest,
    session: Option<Session>,
    /// How many requests of the camera's were answered since then.
    answered: (Instant, u32),
}

/// How PLAY is asked for: cameras refuse now this, now that.
#[derive(Clone, Copy, Debug)]
struct PlayRequest {
    range: bool,
    uri: PlayUri,
}

/// Where PLAY goes, and then keepalives and TEARDOWN, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlayUri {
    /// To the presentation.
    Aggregate,
    /// There, without the slash at its end: it comes from Content-Base, and some know their URL only without.
    Slashless,
    /// To the track.
    Track,
}

/// What SETUP gave.
#[derive(Debug)]
struct Session {
    transport: Transport,
    channels: [u8; 2],
    udp: Option<UdpPeer>,
    media: Media,
    keepalive: Keepalive,
    /// PLAY was accepted, or media came.
    playing_since: Option<Instant>,
}

impl Client {
    /// Starts the dialogue at `now` over a connection from `local` to `peer`.
    pub fn new(now: Instant, config: ClientConfig, _local: SocketAddr, peer: SocketAddr) -> Self {
        let mut random = SplitMix64::new(config.seed);
        let url = crate::sdp::absolute_url(config.url.as_str()).unwrap_or_else(|| config.url.clone());
        let authenticator = config
            .credentials
            .clone()
            .map(|credentials| Authenticator::new(credentials, config.basic_allowed, random.next_u64()));
        let mut client = Self {
            dialogue: Dialogue::new(config.reply_timeout, authenticator),
            transports: config.transport.in_order(),
            base: url.clone(),
            config: ClientConfig { url, ..config },
            peer,
            step: Step::Options,
            random,
            frames: Frames::default(),
            outputs: VecDeque::new(),
            statistics: ClientStatistics::default(),
            get_parameter_first: false,
            presentation: None,
            refusal: None,
            udp_port: None,
            play: PlayRequest { range: true, uri: PlayUri::Aggregate },
            session: None,
            answered: (now, 0),
        };
        // With `rtsps`, the connection is one over TLS: that is the driver's.
        if matches!(client.config.url.scheme(), "rtsp" | "rtsps") {
            let request = Request::new(Method::Options, client.config.url.as_str());
            client.send(now, request);
        } else {
            let scheme = client.config.url.scheme();
            let error = ClientError::Local(format!("{scheme} URLs are not supported, only rtsp and rtsps"));
            client.end(now, error);
        }
        client
    }

    /// Bytes came over the RTSP connection; whole frames are split off `received`, the rest stays.
    pub fn handle_received(&mut self, now: Instant, received: &mut BytesMut) {
        while self.step != Step::Ended {
            match self.frames.next_frame(received) {
                Ok(None) => return,
                Ok(Some(Frame::Interleaved { channel, payload })) => {
                    self.handle_interleaved(now, channel, payload);
                }
                Ok(Some(Frame::Message(message))) => match *message {
                    Message::Response(response) => self.handle_response(now, &response),
                    Message::Request(request) => self.handle_request(now, &request),
                    Message::Data(_) => {}
                },
                Err(error) => self.end(now, ClientError::Protocol(error.to_string())),
            }
        }
        received.clear();
    }

    /// The connection was closed or broke.
    pub fn handle_closed(&mut self, now: Instant, reason: &str) {
        let error = match self.step {
            Step::Ended => return,
            Step::TearingDown(_) => ClientError::TornDown,
            Step::Playing if reason.is_empty() => ClientError::EndedByCamera,
            _ if reason.is_empty() => ClientError::Closed("closed by the camera before it played".to_owned()),
            _ => ClientError::Closed(reason.to_owned()),
        };
        self.session = None;
        self.end(now, error);
    }

    /// Answer to [`ClientOutput::OpenUdp`]: the RTP port (the RTCP port is one more), or why not.
    pub fn handle_udp_opened(&mut self, now: Instant, rtp_port: Result<u16, String>) {
        self.udp_port = rtp_port.as_ref().ok().copied();
        if let Step::OpeningUdp(_) = self.step {
            match rtp_port {
                Ok(port) => self.send_setup(now, Transport::Udp, transport::request_udp(port)),
                Err(reason) => self.udp_impossible(now, reason),
            }
        }
    }

    /// A datagram came on the RTP socket.
    pub fn handle_udp_rtp(&mut self, now: Instant, from: SocketAddr, datagram: Bytes) {
        if !self.admits_datagram(from) {
            return;
        }
        if media::is_rtcp(&datagram) {
            return self.handle_rtcp(now, &datagram);
        }
        self.handle_rtp(now, datagram);
        let learnt = self.session.as_mut().and_then(|session| session.udp.as_mut()?.learn(from));
        if let Some((rtp, rtcp)) = learnt {
            self.outputs.push_back(ClientOutput::UdpPeer { rtp, rtcp });
        }
    }

    /// A datagram came on the RTCP socket.
    pub fn handle_udp_rtcp(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        if self.admits_datagram(from) {
            self.handle_rtcp(now, datagram);
        }
    }

    /// Ends the session: TEARDOWN, then `Ended` after its answer or one second.
    pub fn teardown(&mut self, now: Instant) {
        match self.step {
            Step::Ended | Step::TearingDown(_) => {}
            _ if self.session.is_some() => {
                self.write_teardown(now);
                self.step = Step::TearingDown(now + TEARDOWN_TIMEOUT);
            }
            _ => self.end(now, ClientError::TornDown),
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.step {
            Step::Ended => {}
            Step::OpeningUdp(deadline) if now >= deadline => {
                self.udp_impossible(now, "no UDP sockets in time".to_owned());
            }
            Step::TearingDown(deadline) if now >= deadline => self.end(now, ClientError::TornDown),
            Step::OpeningUdp(_) | Step::TearingDown(_) => {}
            Step::Options | Step::Describe | Step::Setup(_) => self.check_reply(now),
            Step::Play => {
                self.deliver(now);
                self.check_reply(now);
            }
            Step::Playing => {
                self.deliver(now);
                self.keep_alive(now);
                self.report(now);
                self.check_silence(now);
            }
        }
    }

    /// When to call [`Client::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let reply = self.dialogue.pending().map(|(_, deadline)| deadline);
        match (self.step, &self.session) {
            (Step::Ended, _) => None,
            (Step::OpeningUdp(deadline) | Step::TearingDown(deadline), _) => Some(deadline),
            (Step::Playing, Some(session)) => {
                let silence = self.silence_end().map(|(at, _)| at);
                let due = session.media.poll_timeout().min(session.keepalive.due());
                Some(silence.map_or(due, |silence| due.min(silence)))
            }
            (Step::Play, Some(session)) => reply.into_iter().chain(session.media.poll_hole_timeout()).min(),
            _ => reply,
        }
    }

    /// What to do, until `None`.
    pub fn poll_output(&mut self) -> Option<ClientOutput> {
        self.outputs.pop_front()
    }

    /// Counters.
    pub fn statistics(&self) -> ClientStatistics {
        self.statistics
    }
}

/// Requests and their answers.
impl Client {
    fn send(&mut self, now: Instant, request: Request) {
        let bytes = self.dialogue.send(now, request);
        self.outputs.push_back(ClientOutput::Write(bytes));
    }

    fn handle_response(&mut self, now: Instant, response: &Response) {
        match self.dialogue.handle_response(now, response) {
            Answer::None => {}
            Answer::Again(bytes) => self.outputs.push_back(ClientOutput::Write(bytes)),
            Answer::Refused(_) if matches!(self.step, Step::TearingDown(_)) => {
                self.end(now, ClientError::TornDown);
            }
            // A keepalive may be refused as long as media comes.
            Answer::Refused(_) if self.step == Step::Playing => {
                self.handle_keepalive_answer(now, UNAUTHORIZED);
            }
            // Without credentials, what OPTIONS is refused, DESCRIBE may still be given.
            Answer::Refused(ClientError::CredentialsNeeded) if self.step == Step::Options => {
                self.describe(now)
            }
            Answer::Refused(error) => self.end(now, error),
            Answer::To(request) => self.handle_answer(now, &request, response),
        }
    }

    fn handle_answer(&mut self, now: Instant, request: &Request, response: &Response) {
        let status = u16::from(response.status());
        if response.status().is_redirection() && request.method != Method::Teardown {
            let target = describe::redirect(describe::location(response), &self.config.url);
            let error = target.map_or_else(|| refused(request, status), ClientError::Redirect);
            return self.end(now, error);
        }
        let accepted = response.status().is_success();
        match (request.method, self.step) {
            (Method::Options, Step::Options) => {
                self.get_parameter_first = !accepted || offers_get_parameter(response);
                self.describe(now);
            }
            (Method::Describe, Step::Describe) if accepted => self.handle_description(now, response),
            (Method::Setup, Step::Setup(asked)) if accepted => self.handle_setup(now, asked, response),
            (Method::Setup, Step::Setup(_)) => self.handle_setup_refusal(now, status),
            (Method::Play, Step::Play) if accepted => self.handle_play(now, response),
            (Method::Play, Step::Play) => self.handle_play_refusal(now, request, status),
            (Method::GetParameter | Method::Options, Step::Playing) => {
                self.handle_keepalive_answer(now, status);
            }
            (Method::Teardown, Step::TearingDown(_)) => self.end(now, ClientError::TornDown),
            (_, Step::Describe) => self.end(now, refused(request, status)),
            _ => {}
        }
    }

    fn describe(&mut self, now: Instant) {
        self.step = Step::Describe;
        let request = Request::new(Method::Describe, self.config.url.as_str());
        self.send(now, request.with("Accept", "application/sdp"));
    }

    fn handle_description(&mut self, now: Instant, response: &Response) {
        self.base = describe::base_url(response, &self.config.url);
        match Presentation::parse(response.body(), &self.base) {
            Ok(presentation) => {
                self.presentation = Some(presentation);
                self.set_up(now);
            }
            Err(error) => self.end(now, error.into()),
        }
    }

    /// Asks for the next transport in order.
    fn set_up(&mut self, now: Instant) {
        let Some((first, rest)) = self.transports.split_first() else {
            if self.take_next_video() {
                return self.set_up(now);
            }
            let status = self.refusal.unwrap_or(UNSUPPORTED_TRANSPORT);
            return self.end(now, ClientError::Refused { status, method: Method::Setup.name() });
        };
        self.transports = rest;
        match (first, self.udp_port) {
            (Transport::Tcp, _) => self.send_setup(now, Transport::Tcp, transport::REQUEST_TCP.to_owned()),
            (Transport::Udp, Some(port)) => {
                self.send_setup(now, Transport::Udp, transport::request_udp(port))
            }
            (Transport::Udp, None) => {
                self.step = Step::OpeningUdp(now + self.config.reply_timeout);
                self.outputs.push_back(ClientOutput::OpenUdp);
            }
        }
    }

    /// No transport is left for this video track: with the next one all are tried again.
    fn take_next_video(&mut self) -> bool {
        let next = self.presentation.as_mut().and_then(Presentation::take_next_video);
        if next.is_some() {
            self.transports = self.config.transport.in_order();
        }
        next.is_some()
    }

    fn send_setup(&mut self, now: Instant, transport: Transport, value: String) {
        let Some(presentation) = &self.presentation else { return };
        self.step = Step::Setup(transport);
        let request = Request::new(Method::Setup, presentation.video.control.as_str());
        self.send(now, request.with("Transport", value));
    }

    fn udp_impossible(&mut self, now: Instant, reason: String) {
        if self.transports.is_empty() {
            self.end(now, ClientError::Local(format!("cannot receive over UDP: {reason}")));
        } else {
            self.set_up(now);
        }
    }

    fn handle_setup_refusal(&mut self, now: Instant, status: u16) {
        if status != UNSUPPORTED_TRANSPORT {
            self.refusal.get_or_insert(status);
        }
        self.dialogue.set_session(None);
        self.set_up(now);
    }

    fn handle_setup(&mut self, now: Instant, asked: Transport, response: &Response) {
        let Some(video) = self.presentation.as_ref().map(|presentation| &presentation.video) else { return };
        let reply = TransportReply::parse(header(response, &headers::TRANSPORT));
        let transport = reply.agreed(asked);
        if transport == Transport::Udp && self.udp_port.is_none() {
            // It insists on UDP, for which it was given no ports.
            return self.handle_setup_refusal(now, UNSUPPORTED_TRANSPORT);
        }
        let session = SessionReply::parse(header(response, &headers::SESSION));
        let timeout = session.as_ref().and_then(|session| session.timeout).unwrap_or(SESSION_TIMEOUT);
        let reordering = transport == Transport::Udp;
        let seed = self.random.next_u64();
        self.session = Some(Session {
            transport,
            channels: reply.interleaved.unwrap_or([0, 1]),
            udp: reordering.then(|| UdpPeer::new(self.peer.ip(), &reply)),
            media: Media::new(
                now,
                PayloadTypes::new(video.payload_type, video.is_only_payload_type),
                video.clock_rate_hz,
                reordering,
                seed,
            ),
            keepalive: Keepalive::new(now, timeout, self.get_parameter_first),
            playing_since: None,
        });
        self.dialogue.set_session(session.map(|session| session.id));
        self.announce_udp_peer();
        self.send_play(now);
    }

    fn send_play(&mut self, now: Instant) {
        let Some(uri) = self.play_uri() else { return };
        let mut request = Request::new(Method::Play, uri);
        if self.play.range {
            request = request.with("Range", "npt=0.000-");
        }
        self.step = Step::Play;
        self.send(now, request);
    }

    fn play_uri(&self) -> Option<&str> {
        let presentation = self.presentation.as_ref()?;
        Some(match self.play.uri {
            PlayUri::Aggregate => presentation.control.as_str(),
            PlayUri::Slashless => presentation.control.as_str().trim_end_matches('/'),
            PlayUri::Track => presentation.video.control.as_str(),
        })
    }

    fn handle_play(&mut self, now: Instant, response: &Response) {
        self.step = Step::Playing;
        // Some tell the timeout only here.
        let reply = SessionReply::parse(header(response, &headers::SESSION));
        if let (Some(session), Some(timeout)) = (&mut self.session, reply.and_then(|reply| reply.timeout)) {
            session.keepalive.set_timeout(now, timeout);
        }
        self.open_firewalls();
        self.announce_playing(now);
    }

    fn handle_play_refusal(&mut self, now: Instant, request: &Request, status: u16) {
        match status {
            INVALID_RANGE | BAD_REQUEST if self.play.range => self.play.range = false,
            AGGREGATE_NOT_ALLOWED if self.play.uri != PlayUri::Track => self.play.uri = PlayUri::Track,
            BAD_REQUEST | NOT_FOUND | METHOD_NOT_ALLOWED if self.play.uri != PlayUri::Track => {
                let has_slash = self.presentation.as_ref().is_some_and(|presentation| {
                    presentation.control.as_str().ends_with('/') && presentation.control.path().len() > 1
                });
                self.play.uri = match self.play.uri {
                    PlayUri::Aggregate if has_slash => PlayUri::Slashless,
                    _ => PlayUri::Track,
                };
            }
            _ => return self.end(now, refused(request, status)),
        }
        self.send_play(now);
    }

    fn keep_alive(&mut self, now: Instant) {
        let Some(method) = self.session.as_mut().and_then(|session| session.keepalive.poll(now)) else {
            return;
        };
        let Some(uri) = self.play_uri() else { return };
        let request = Request::new(method, uri);
        self.send(now, request);
    }

    /// A refused keepalive is no harm as long as media comes. Where none does, and the camera does not know our
    /// session, it has ended it and said nothing.
    fn handle_keepalive_answer(&mut self, now: Instant, status: u16) {
        let Some(session) = &mut self.session else { return };
        let last = session.media.last_packet_at().or(session.playing_since);
        if status == SESSION_NOT_FOUND && last.is_none_or(|last| now >= last + FORGOTTEN_SILENCE) {
            return self.end(now, ClientError::EndedByCamera);
        }
        session.keepalive.handle_answer(now, (200..300).contains(&status));
        self.keep_alive(now);
    }

    fn write_teardown(&mut self, now: Instant) {
        let Some(uri) = self.play_uri() else { return };
        let request = Request::new(Method::Teardown, uri);
        self.send(now, request);
    }

    fn check_reply(&mut self, now: Instant) {
        let Some((method, _)) = self.dialogue.pending().filter(|(_, deadline)| now >= *deadline) else {
            return;
        };
        let media_came = self.session.as_ref().is_some_and(|session| session.playing_since.is_some());
        if self.step == Step::Play && media_came {
            // It plays, and forgot to say so.
            self.step = Step::Playing;
        } else {
            self.end(now, ClientError::ReplyTimeout { method: method.name() });
        }
    }

    /// Answers what the camera asks (RFC 2326 section 10: OPTIONS, ANNOUNCE, REDIRECT and so on may come from it).
    fn handle_request(&mut self, now: Instant, request: &rtsp_types::Request<Bytes>) {
        use rtsp_types::Method as Asked;
        if self.asks_too_much(now) {
            return self.end(now, ClientError::Protocol("it sends one request after the other".to_owned()));
        }
        let cseq = request.header(&headers::CSEQ).map_or("", |value| value.as_str());
        let location = request.header(&headers::LOCATION).map(|value| value.as_str());
        let status = match request.method() {
            Asked::Options | Asked::GetParameter | Asked::Announce | Asked::Redirect | Asked::Teardown => {
                "200 OK"
            }
            Asked::SetParameter => "451 Parameter Not Understood",
            _ => "501 Not Implemented",
        };
        let public =
            if *request.method() == Asked::Options { "Public: OPTIONS, GET_PARAMETER\r\n" } else { "" };
        let answer = format!("RTSP/1.0 {status}\r\nCSeq: {cseq}\r\n{public}\r\n");
        self.outputs.push_back(ClientOutput::Write(Bytes::from(answer)));
        match request.method() {
            Asked::Teardown => {
                self.session = None;
                self.end(now, ClientError::EndedByCamera);
            }
            Asked::Redirect => {
                let target = describe::redirect(location, &self.config.url);
                self.end(now, target.map_or(ClientError::EndedByCamera, ClientError::Redirect));
            }
            Asked::Announce if self.describes_other_media(request.body()) => {
                self.end(now, ClientError::EndedByCamera);
            }
            _ => {}
        }
    }

    /// Our answers wait to be written: there must not be any number of them.
    fn asks_too_much(&mut self, now: Instant) -> bool {
        if now >= self.answered.0 + REQUESTS_PERIOD {
            self.answered = (now, 0);
        }
        self.answered.1 += 1;
        self.answered.1 > REQUESTS_MAX
    }

    /// An ANNOUNCE that repeats the description changes nothing; any other asks for a new attempt.
    fn describes_other_media(&self, sdp: &[u8]) -> bool {
        let track = |video: &VideoTrack| (video.codec, video.payload_type, video.clock_rate_hz);
        let ours = self.presentation.as_ref().map(|presentation| track(&presentation.video));
        let announced = Presentation::parse(sdp, &self.base).ok();
        !announced.is_some_and(|announced| announced.videos().any(|video| Some(track(video)) == ours))
    }

    /// The attempt is over; the camera is told if it has a session of ours.
    fn end(&mut self, now: Instant, error: ClientError) {
        if self.session.is_some() && !matches!(self.step, Step::TearingDown(_)) {
            self.write_teardown(now);
        }
        self.session = None;
        self.step = Step::Ended;
        self.outputs.push_back(ClientOutput::Ended(error));
    }
}

/// Media and reports.
impl Client {
    fn handle_interleaved(&mut self, now: Instant, channel: u8, payload: Bytes) {
        self.adopt_channel(channel, &payload);
        let ours = self.session.as_ref().is_some_and(|session| {
            session.transport == Transport::Tcp && session.channels.contains(&channel)
        });
        if !ours {
            self.statistics.dropped += 1;
        } else if media::is_rtcp(&payload) {
            self.handle_rtcp(now, &payload);
        } else {
            self.handle_rtp(now, payload);
        }
    }

    /// Some cameras send over other channels than they told. Our one track is known by its payload type.
    fn adopt_channel(&mut self, channel: u8, payload: &[u8]) {
        let Some(presentation) = &self.presentation else { return };
        if let (Step::Play | Step::Playing, Some(session)) = (self.step, &mut self.session)
            && session.transport == Transport::Tcp
            && !session.channels.contains(&channel)
            && session.media.last_packet_at().is_none()
            && media::is_rtp_of(payload, presentation.video.payload_type)
        {
            session.channels = [channel, channel.wrapping_add(1)];
        }
    }

    fn admits_datagram(&mut self, from: SocketAddr) -> bool {
        let udp = self.session.as_ref().and_then(|session| session.udp.as_ref());
        let admitted = udp.is_some_and(|udp| udp.admits(from));
        self.statistics.dropped += u64::from(!admitted);
        admitted
    }

    fn handle_rtp(&mut self, now: Instant, datagram: Bytes) {
        if let (Step::Play | Step::Playing, Some(session)) = (self.step, &mut self.session)
            && session.media.handle_rtp(now, datagram, &mut self.statistics)
        {
            self.deliver(now);
        }
    }

    fn handle_rtcp(&mut self, now: Instant, compound: &[u8]) {
        for received in rtcp::parse_compound(compound) {
            let (Step::Play | Step::Playing, Some(session)) = (self.step, &mut self.session) else { return };
            if session.media.handle_rtcp(now, &received) {
                return self.end(now, ClientError::EndedByCamera);
            }
            if let Received::SenderReport(report) = received
                && session.playing_since.is_some()
            {
                self.outputs.push_back(ClientOutput::SenderReport(report));
            }
        }
    }

    /// Gives on what is in order. Some cameras send media before they answer PLAY: that is playing, too.
    fn deliver(&mut self, now: Instant) {
        while let Some(session) = &mut self.session
            && let Some(ordered) = session.media.poll_packet(now, &mut self.statistics)
        {
            self.announce_playing(now);
            self.outputs.push_back(ClientOutput::Packet(ordered));
        }
    }

    fn announce_playing(&mut self, now: Instant) {
        let (Some(session), Some(presentation)) = (&mut self.session, &self.presentation) else { return };
        if session.playing_since.is_some() {
            return;
        }
        session.playing_since = Some(now);
        let video = &presentation.video;
        let mut parameter_sets = Box::new(ParameterSets::new(video.codec));
        for nal in &video.parameter_sets {
            parameter_sets.handle_nal(&Nal::from_bytes(nal.clone()));
        }
        let (codec, clock_rate_hz) = (video.codec, video.clock_rate_hz);
        self.outputs.push_back(ClientOutput::Playing { codec, clock_rate_hz, parameter_sets });
    }

    fn announce_udp_peer(&mut self) {
        let udp = self.session.as_ref().and_then(|session| session.udp.as_ref());
        if let Some((rtp, rtcp)) = udp.and_then(UdpPeer::addresses) {
            self.outputs.push_back(ClientOutput::UdpPeer { rtp, rtcp });
            self.open_firewalls();
        }
    }

    /// A datagram to each of the camera's ports lets its datagrams in where only answers may pass.
    fn open_firewalls(&mut self) {
        let Some(session) = &self.session else { return };
        if session.udp.as_ref().and_then(UdpPeer::addresses).is_some() {
            self.outputs.push_back(ClientOutput::SendRtp(session.media.opening_rtp()));
            self.outputs.push_back(ClientOutput::SendRtcp(session.media.opening_rtcp()));
        }
    }

    fn report(&mut self, now: Instant) {
        let Some(session) = &mut self.session else { return };
        let Some(report) = session.media.poll_report(now) else { return };
        match session.transport {
            Transport::Tcp => {
                let frame = interleaved(session.channels[1], &report);
                self.outputs.push_back(ClientOutput::Write(frame));
            }
            Transport::Udp if session.udp.as_ref().and_then(UdpPeer::addresses).is_some() => {
                self.outputs.push_back(ClientOutput::SendRtcp(report));
            }
            Transport::Udp => {}
        }
    }

    fn check_silence(&mut self, now: Instant) {
        if let Some((_, error)) = self.silence_end().filter(|(at, _)| now >= *at) {
            self.end(now, error);
        }
    }

    /// When silence is too long, and what it then means.
    fn silence_end(&self) -> Option<(Instant, ClientError)> {
        let session = self.session.as_ref()?;
        let timeout = self.config.silence_timeout;
        let silence = ClientError::Silence { seconds: timeout.as_secs() };
        let tcp_is_left = session.transport == Transport::Udp && self.transports.contains(&Transport::Tcp);
        match session.media.last_packet_at() {
            Some(last) => Some((last + timeout, silence)),
            None if tcp_is_left => {
                Some((session.playing_since? + UDP_SILENCE_TIMEOUT.min(timeout), ClientError::UdpSilent))
            }
            None => Some((session.playing_since? + timeout, silence)),
        }
    }
}

fn refused(request: &Request, status: u16) -> ClientError {
    ClientError::Refused { status, method: request.method.name() }
}

fn header<'a>(response: &'a Response, name: &HeaderName) -> &'a str {
    response.header(name).map_or("", |value| value.as_str())
}

fn offers_get_parameter(response: &Response) -> bool {
    let offered = header(response, &headers::PUBLIC).split(',');
    response.status().is_success()
        && offered.map(str::trim).any(|method| method.eq_ignore_ascii_case("GET_PARAMETER"))
}

/// An interleaved frame (RFC 2326 section 10.12).
fn interleaved(channel: u8, packet: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(4 + packet.len());
    frame.put_u8(b'$');
    frame.put_u8(channel);
    frame.put_u16(u16::try_from(packet.len()).unwrap_or(u16::MAX));
    frame.extend_from_slice(packet);
    frame.freeze()
}

const BAD_REQUEST: u16 = 400;
const UNAUTHORIZED: u16 = 401;
const NOT_FOUND: u16 = 404;
const INVALID_RANGE: u16 = 457;
const METHOD_NOT_ALLOWED: u16 = 405;
const SESSION_NOT_FOUND: u16 = 454;
const AGGREGATE_NOT_ALLOWED: u16 = 459;
const UNSUPPORTED_TRANSPORT: u16 = 461;
/// Cameras that ask at all do so every few seconds.
const REQUESTS_MAX: u32 = 50;
const REQUESTS_PERIOD: Duration = Duration::from_secs(10);
/// A camera that does not answer TEARDOWN is left without.
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// Without media for so long, a session that the camera does not know is over: its answer may overtake none.
const FORGOTTEN_SILENCE: Duration = Duration::from_secs(2);
/// Datagrams that a firewall drops never come: do not wait for the whole silence timeout where TCP is left.
const UDP_SILENCE_TIMEOUT: Duration = Duration::from_secs(3);
