//! One client's RTSP requests and the camera's replies (RFC 2326). No socket: `connection.rs` has it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rtsp_types::headers::{
    ALLOW, AUTHORIZATION, CONTENT_BASE, CONTENT_TYPE, CSEQ, HeaderName, LOCATION, PUBLIC, RTP_INFO, SERVER,
    SESSION, TRANSPORT, WWW_AUTHENTICATE,
};
use rtsp_types::{Method, Request, Response, StatusCode, Version};

use crate::auth::Guard;
use crate::faults::{
    ContentBase, ControlUrls, DialogueFaults, RtpInfo, SessionHeader, Tracks, TransportReply,
};
use crate::rng::Rng;
use crate::sdp::{AUDIO_CONTROL, Description, USELESS_CONTROL, VIDEO_CONTROL};
use crate::site::Site;
use crate::stream::{Cadence, Channels, Stream};

/// What one client has agreed with the camera.
#[derive(Debug)]
pub(crate) struct Conversation {
    site: Arc<Site>,
    local: SocketAddr,
    guard: Option<Guard>,
    session: Option<Session>,
    /// There was a session, and the camera will not know of it.
    is_forgetful: bool,
    rng: Rng,
}

/// An RTSP session: one mount point, at most two tracks.
#[derive(Debug)]
pub(crate) struct Session {
    id: String,
    pub mount: usize,
    pub delivery: Delivery,
    /// Where the tracks go: interleaved channels, or the channels that `Delivery::Udp` has ports for.
    pub channels: Channels,
    pub stream: Stream,
}

/// How a session's packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// In the RTSP connection.
    Interleaved,
    /// To the client's ports, by channel number; 0 is no port.
    Udp([u16; 4]),
}

/// A reply, and what the connection does with it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub bytes: Vec<u8>,
    pub action: Action,
}

/// What a request asks of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing more.
    None,
    /// Start the media.
    Play,
    /// Stop the media.
    End,
    /// Send this for ever.
    Repeat(&'static [u8]),
}

/// A status, headers, a body.
struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    body: Vec<u8>,
    action: Action,
}

impl Conversation {
    pub fn new(site: Arc<Site>, local: SocketAddr, mut rng: Rng) -> Self {
        let guard = site.config.credentials.clone().map(|credentials| Guard::new(credentials, rng.next()));
        Self { site, local, guard, session: None, is_forgetful: false, rng }
    }

    pub fn session(&mut self) -> Option<&mut Session> {
        self.session.as_mut()
    }

    /// How long a client may be silent.
    pub fn timeout(&self) -> Duration {
        self.site.config.faults.session_timeout.unwrap_or(SESSION_TIMEOUT)
    }

    /// The session is over, and nobody is told.
    pub fn forget_session(&mut self) {
        self.session = None;
        self.is_forgetful = true;
    }

    /// A request of the camera's own, of a kind by its number.
    pub fn own_request(&self, number: u32) -> Vec<u8> {
        let Some(session) = &self.session else { return Vec::new() };
        let uri = format!("rtsp://{}/{}", self.local, self.site.mounts[session.mount].name);
        let urls = self.urls(session.mount, &self.local.to_string());
        let sdp = self.description(session.mount, urls);
        let (start, body) = match number % 3 {
            0 => ("OPTIONS *".to_owned(), String::new()),
            1 => (format!("SET_PARAMETER {uri}"), "brightness: 5\r\n".to_owned()),
            _ => (format!("ANNOUNCE {uri}"), sdp),
        };
        let (cseq, id) = (OWN_CSEQ + number, &session.id);
        let length = body.len();
        format!("{start} RTSP/1.0\r\nCSeq: {cseq}\r\nSession: {id}\r\nContent-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    }

    /// The camera's own TEARDOWN.
    pub fn own_teardown(&self) -> Vec<u8> {
        let id = self.session.as_ref().map_or("", |session| &session.id);
        format!("TEARDOWN rtsp://{}/ RTSP/1.0\r\nCSeq: {OWN_CSEQ}\r\nSession: {id}\r\n\r\n", self.local)
            .into_bytes()
    }

    /// The reply to a request that could not be read.
    pub fn malformed(&self) -> Reply {
        self.reply(None, Answer::status(StatusCode::BadRequest))
    }

    pub fn handle(&mut self, request: &Request<&[u8]>) -> Reply {
        let faults = &self.site.config.faults.dialogue;
        if faults.keepalive.is_ignored(request.method().into()) {
            return Reply { bytes: Vec::new(), action: Action::None };
        }
        if let (Some(endless), Method::Describe) = (faults.endless, request.method()) {
            let cseq = request.header(&CSEQ).map_or("", |value| value.as_str());
            return Reply {
                bytes: endless.beginning(cseq).into_bytes(),
                action: Action::Repeat(endless.line()),
            };
        }
        let answer = self.answer(request);
        let method: &str = request.method().into();
        tracing::debug!(method, uri = request.request_uri().map(|uri| uri.path()), status = ?answer.status);
        self.reply(request.header(&CSEQ).map(|value| value.as_str()), answer)
    }

    fn answer(&mut self, request: &Request<&[u8]>) -> Answer {
        if self.site.config.faults.refuse {
            return Answer::status(StatusCode::ServiceUnavailable);
        }
        if request.header(&CSEQ).is_none() {
            return Answer::status(StatusCode::BadRequest);
        }
        if let Some(challenge) = self.challenge(request) {
            return Answer::status(StatusCode::Unauthorized).with(WWW_AUTHENTICATE, challenge);
        }
        if self.is_forgetful && request.header(&SESSION).is_some() {
            return Answer::status(StatusCode::SessionNotFound);
        }
        if let Some(status) = self.faulty_status(request.method().into()) {
            return Answer::status(status);
        }
        match request.method() {
            Method::Options => match self.faults().keepalive.public() {
                Some(methods) => Answer::ok().with(PUBLIC, methods),
                None => Answer::ok(),
            },
            Method::Describe => self.describe(request),
            Method::Setup => self.setup(request),
            Method::Play => self.play(request),
            Method::GetParameter | Method::SetParameter => match self.check_session(request) {
                Err(answer) if self.session.is_some() => answer,
                _ => self.with_session(Answer::ok()),
            },
            Method::Teardown => self.teardown(request),
            _ => Answer::status(StatusCode::MethodNotAllowed).with(ALLOW, METHODS),
        }
    }

    fn faults(&self) -> &DialogueFaults {
        &self.site.config.faults.dialogue
    }

    /// The status that a method is answered with whatever it asks.
    fn faulty_status(&self, method: &str) -> Option<StatusCode> {
        let options = self.faults().options_status.filter(|_| method == "OPTIONS").map(StatusCode::from);
        options.or_else(|| self.faults().keepalive.refusal(method))
    }

    /// What a client that did not prove itself is asked. OPTIONS is free, as with most cameras.
    fn challenge(&mut self, request: &Request<&[u8]>) -> Option<String> {
        let guard = self.guard.as_mut().filter(|_| *request.method() != Method::Options)?;
        let uri = request.request_uri().map_or("", |uri| uri.as_str());
        let authorization = request.header(&AUTHORIZATION).map_or("", |value| value.as_str());
        let is_allowed = guard.allows(request.method().into(), uri, authorization);
        match (self.site.config.faults.dialogue.stale_nonce, is_allowed) {
            (false, true) => None,
            (true, true) => {
                guard.renew(self.rng.next());
                None
            }
            (true, false) if !authorization.is_empty() => Some(guard.stale_challenge()),
            (_, false) => Some(guard.challenge()),
        }
    }

    /// Where requests about a mount point go.
    fn urls(&self, mount: usize, authority: &str) -> ControlUrls {
        self.faults().control.urls(authority, &self.site.mounts[mount].name, VIDEO_CONTROL)
    }

    fn description(&self, mount: usize, control: ControlUrls) -> String {
        let (mount, config) = (&self.site.mounts[mount], &self.site.config);
        let media = &config.faults.media;
        Description {
            name: &mount.name,
            address: self.local.ip(),
            reel: &mount.reels[usize::from(media.wrong_sprop)],
            fps_milli: config.fps_milli,
            with_sprop: !config.faults.no_sprop && !media.parameter_sets_at_start_only,
            with_pps: !media.no_pps_in_sprop,
            with_audio: config.with_audio,
            tracks: config.faults.dialogue.tracks,
            control,
        }
        .to_text()
    }

    fn describe(&self, request: &Request<&[u8]>) -> Answer {
        if let Some(url) = &self.faults().redirect {
            return Answer::status(StatusCode::Found).with(LOCATION, url);
        }
        let Some(uri) = request.request_uri() else { return Answer::status(StatusCode::BadRequest) };
        let Some((mount, None)) = self.site.find(uri.path()) else {
            return Answer::status(StatusCode::NotFound);
        };
        let authority = authority(uri, self.local);
        let urls = self.urls(mount, &authority);
        let content_base = match self.site.config.faults.content_base {
            ContentBase::Absolute => Some(urls.content_base.clone()),
            ContentBase::Relative => Some(format!("/{}/", self.site.mounts[mount].name)),
            ContentBase::Schemeless => Some(format!("{authority}/{}/", self.site.mounts[mount].name)),
            ContentBase::None => None,
        };
        let mut answer = Answer::ok().with_body(self.description(mount, urls));
        if !self.faults().no_content_type {
            answer = answer.with(CONTENT_TYPE, "application/sdp");
        }
        match content_base {
            Some(base) => answer.with(CONTENT_BASE, base),
            None => answer,
        }
    }

    fn setup(&mut self, request: &Request<&[u8]>) -> Answer {
        let Some(uri) = request.request_uri() else { return Answer::status(StatusCode::BadRequest) };
        let Some((mount, control)) = self.site.find(uri.path()) else {
            return Answer::status(StatusCode::NotFound);
        };
        let (tracks, kind) = (self.faults().tracks, self.faults().control);
        if kind.insists() && uri.as_str() != self.urls(mount, &authority(uri, self.local)).setup {
            return Answer::status(StatusCode::NotFound);
        }
        let is_audio = match control {
            None | Some(VIDEO_CONTROL) => false,
            Some(AUDIO_CONTROL) if tracks == Tracks::AudioRefused => {
                return Answer::status(StatusCode::InternalServerError);
            }
            Some(AUDIO_CONTROL) if self.site.config.with_audio || tracks == Tracks::AudioLast => true,
            Some(USELESS_CONTROL) if tracks == Tracks::FirstRefused => {
                return Answer::status(StatusCode::InternalServerError);
            }
            Some(USELESS_CONTROL) if tracks == Tracks::TwoVideos => false,
            Some(_) => return Answer::status(StatusCode::NotFound),
        };
        if let Err(answer) = self.check_session(request)
            && self.session.is_some()
        {
            return answer;
        }
        let offers = request.header(&TRANSPORT).map_or("", |value| value.as_str());
        let Some(offer) = offers.split(',').find_map(|offer| self.acceptable(offer, mount)) else {
            return Answer::status(StatusCode::UnsupportedTransport);
        };
        if is_audio {
            tracing::warn!(mount = self.site.mounts[mount].name, "a client set the audio track up");
        }
        let transport = self.agree(mount, offer, is_audio);
        self.with_session(match self.faults().transport_reply {
            TransportReply::None => Answer::ok(),
            _ => Answer::ok().with(TRANSPORT, transport),
        })
    }

    /// An offer that this camera takes: allowed, and of the same kind and mount point as the session's other track.
    fn acceptable(&self, offer: &str, mount: usize) -> Option<Offer> {
        let offer = Offer::parse(offer)?;
        let is_allowed = match offer {
            Offer::Interleaved(_) => self.site.config.transports.tcp(),
            Offer::Udp(_) => self.site.config.transports.udp() && self.site.udp_ports.is_some(),
        };
        let fits = self.session.as_ref().is_none_or(|session| {
            let is_interleaved = session.delivery == Delivery::Interleaved;
            session.mount == mount && is_interleaved == matches!(offer, Offer::Interleaved(_))
        });
        (is_allowed && fits).then_some(offer)
    }

    /// Takes the offer into the session; the reply's Transport.
    fn agree(&mut self, mount: usize, offer: Offer, is_audio: bool) -> String {
        let site = &self.site;
        let rng = &mut self.rng;
        let session = self.session.get_or_insert_with(|| Session {
            id: format!("{:016x}", rng.next()),
            mount,
            delivery: if matches!(offer, Offer::Udp(_)) {
                Delivery::Udp([0; 4])
            } else {
                Delivery::Interleaved
            },
            channels: Channels::default(),
            stream: Stream::new(
                site.mounts[mount].reels.clone(),
                Cadence { fps_milli: site.config.fps_milli },
                site.config.faults.clone(),
                rng,
            ),
        });
        let default_channels = if is_audio { (2, 3) } else { (0, 1) };
        let reply = site.config.faults.dialogue.transport_reply;
        let asked = match offer {
            Offer::Interleaved(channels) => channels.unwrap_or(default_channels),
            Offer::Udp((rtp, rtcp)) => {
                if let Delivery::Udp(ports) = &mut session.delivery {
                    let at = usize::from(default_channels.0);
                    ports[at..at + 2].copy_from_slice(&[rtp, rtcp]);
                }
                default_channels
            }
        };
        let channels = match (offer, reply) {
            (Offer::Interleaved(_), TransportReply::OtherChannels | TransportReply::UntoldChannels) => (2, 3),
            (Offer::Interleaved(_), TransportReply::SwappedChannels) => (asked.1, asked.0),
            (Offer::Interleaved(_), TransportReply::Foreign) => (6, 7),
            _ => asked,
        };
        let track = if is_audio { &mut session.channels.audio } else { &mut session.channels.video };
        *track = Some(channels);
        let ssrc = session.stream.ssrc(is_audio);
        match (offer, site.udp_ports) {
            (Offer::Udp((rtp, rtcp)), Some(_)) if reply == TransportReply::NoServerPort => {
                format!("RTP/AVP;unicast;client_port={rtp}-{rtcp};ssrc={ssrc:08X}")
            }
            (Offer::Udp((rtp, rtcp)), Some((server_rtp, server_rtcp))) if reply == TransportReply::Comma => {
                format!(
                    "RTP/AVP;unicast;client_port={rtp}-{rtcp};server_port={server_rtp}-{server_rtcp},ssrc={ssrc:08X}"
                )
            }
            _ if reply == TransportReply::NoInterleaved => format!("RTP/AVP/TCP;unicast;ssrc={ssrc:08X}"),
            _ if reply == TransportReply::UntoldChannels => {
                format!("RTP/AVP/TCP;unicast;interleaved={}-{}", asked.0, asked.1)
            }
            (Offer::Interleaved(_), _) if reply == TransportReply::Foreign => format!(
                "rtp/avp/tcp ; unicast;; mode=\"PLAY,RECORD\";x-device; x-path=\"a;b\" ; \
                 INTERLEAVED = {} - {} ; ssrc = {ssrc:08X} ;",
                channels.0, channels.1
            ),
            (Offer::Udp((rtp, rtcp)), Some((server_rtp, server_rtcp))) => format!(
                "RTP/AVP;unicast;client_port={rtp}-{rtcp};server_port={server_rtp}-{server_rtcp};ssrc={ssrc:08X}"
            ),
            _ => format!("RTP/AVP/TCP;unicast;interleaved={}-{};ssrc={ssrc:08X}", channels.0, channels.1),
        }
    }

    fn play(&mut self, request: &Request<&[u8]>) -> Answer {
        if let Err(answer) = self.check_session(request) {
            return answer;
        }
        let (Some(session), Some(uri)) = (&self.session, request.request_uri()) else {
            return Answer::status(StatusCode::MethodNotValidInThisState);
        };
        let authority = authority(uri, self.local);
        let faults = self.faults();
        let urls = self.urls(session.mount, &authority);
        if faults.control.insists() && uri.as_str() != urls.play {
            return Answer::status(StatusCode::NotFound);
        }
        if faults.no_slash_play && (uri.as_str().ends_with('/') || uri.as_str() == urls.setup) {
            return Answer::status(StatusCode::MethodNotAllowed);
        }
        let base = format!("rtsp://{authority}/{}", self.site.mounts[session.mount].name);
        let mut tracks = Vec::new();
        for (is_set_up, control, (sequence, rtp_timestamp)) in [
            (session.channels.video.is_some(), VIDEO_CONTROL, session.stream.video_start()),
            (session.channels.audio.is_some(), AUDIO_CONTROL, session.stream.audio_start()),
        ] {
            if is_set_up {
                let url = format!("{base}/{control}");
                tracks.push(match faults.rtp_info {
                    RtpInfo::Right => format!("url={url};seq={sequence};rtptime={rtp_timestamp}"),
                    RtpInfo::None => String::new(),
                    RtpInfo::Garbage => ";=,,url;seq=;rtptime=\"".to_owned(),
                    RtpInfo::OtherUrl => {
                        format!("url=rtsp://192.0.2.1/other/track9;seq={sequence};rtptime={rtp_timestamp}")
                    }
                    RtpInfo::NoSeq => format!("url={url};rtptime=soon"),
                    RtpInfo::Wrong => {
                        let (sequence, rtp_timestamp) =
                            (sequence.wrapping_add(30_000), rtp_timestamp.wrapping_add(1 << 30));
                        format!("url={url};seq={sequence};rtptime={rtp_timestamp}; , ")
                    }
                });
            }
        }
        let mut answer = Answer::ok().with(rtsp_types::headers::RANGE, "npt=now-");
        if faults.rtp_info != RtpInfo::None {
            answer = answer.with(RTP_INFO, tracks.join(","));
        }
        self.with_session(Answer { action: Action::Play, ..answer })
    }

    fn teardown(&mut self, request: &Request<&[u8]>) -> Answer {
        if let Err(answer) = self.check_session(request) {
            return answer;
        }
        self.session = None;
        Answer { action: Action::End, ..Answer::ok() }
    }

    /// The request names the session that there is.
    fn check_session(&self, request: &Request<&[u8]>) -> Result<(), Answer> {
        let Some(session) = &self.session else {
            return Err(Answer::status(StatusCode::MethodNotValidInThisState));
        };
        let told = request.header(&SESSION).map_or("", |value| value.as_str());
        if told.split(';').next().unwrap_or_default().trim() == session.id {
            Ok(())
        } else {
            Err(Answer::status(StatusCode::SessionNotFound))
        }
    }

    fn with_session(&self, answer: Answer) -> Answer {
        match &self.session {
            Some(session) => {
                let timeout = self.timeout().as_secs().max(1);
                let (id, is_play) = (&session.id, answer.action == Action::Play);
                answer.with(
                    SESSION,
                    match self.faults().session_header {
                        SessionHeader::InPlay if !is_play => id.clone(),
                        SessionHeader::Spaced => format!("{id} ; timeout = {timeout} ; "),
                        SessionHeader::Quoted => format!("{id};timeout=\"{timeout}\""),
                        SessionHeader::Right | SessionHeader::InPlay => format!("{id};timeout={timeout}"),
                    },
                )
            }
            None => answer,
        }
    }

    fn reply(&self, cseq: Option<&str>, answer: Answer) -> Reply {
        let mut response = Response::builder(Version::V1_0, answer.status).header(SERVER, "Lanecast camera");
        if let Some(cseq) = cseq.filter(|_| !self.faults().no_cseq) {
            response = response.header(CSEQ, self.cseq_to_tell(cseq));
        }
        for (name, value) in answer.headers {
            response = response.header(name, value);
        }
        let mut bytes = Vec::new();
        response.build(answer.body).write(&mut bytes).expect("writing to a Vec cannot fail");
        if self.faults().many_challenges {
            bytes = with_more_challenges(bytes);
        }
        Reply { bytes: self.faults().head.rewrite(bytes), action: answer.action }
    }

    fn cseq_to_tell(&self, cseq: &str) -> String {
        match cseq.trim().parse::<u32>() {
            Ok(number) if self.site.config.faults.wrong_cseq => number.wrapping_add(1).to_string(),
            Ok(number) if self.faults().previous_cseq => number.wrapping_sub(1).to_string(),
            _ => cseq.to_owned(),
        }
    }
}

impl Answer {
    fn status(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), action: Action::None }
    }

    fn ok() -> Self {
        Self::status(StatusCode::Ok)
    }

    fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn with_body(mut self, body: String) -> Self {
        self.body = body.into_bytes();
        self
    }
}

/// A unicast transport that a client offers (RFC 2326 section 12.39).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    /// The channels that the client wants, if it says so.
    Interleaved(Option<(u8, u8)>),
    /// The client's ports.
    Udp((u16, u16)),
}

impl Offer {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let profile = parts.next()?;
        let (mut is_multicast, mut interleaved, mut client_port) = (false, None, None);
        for part in parts {
            match part.split_once('=') {
                None => is_multicast |= part.eq_ignore_ascii_case("multicast"),
                Some((name, value)) if name.eq_ignore_ascii_case("interleaved") => {
                    interleaved = Some(pair::<u8>(value)?)
                }
                Some((name, value)) if name.eq_ignore_ascii_case("client_port") => {
                    client_port = Some(pair::<u16>(value)?)
                }
                Some(_) => {}
            }
        }
        match profile.to_ascii_uppercase().as_str() {
            _ if is_multicast => None,
            "RTP/AVP/TCP" => Some(Self::Interleaved(interleaved)),
            "RTP/AVP" | "RTP/AVP/UDP" => client_port.map(Self::Udp),
            _ => None,
        }
    }
}

/// `a-b`, or `a` for a and a + 1.
fn pair<T: std::str::FromStr + TryFrom<u32> + Copy + Into<u32>>(text: &str) -> Option<(T, T)> {
    match text.split_once('-') {
        Some((first, second)) => Some((first.trim().parse().ok()?, second.trim().parse().ok()?)),
        None => {
            let first: T = text.trim().parse().ok()?;
            Some((first, T::try_from(first.into() + 1).ok()?))
        }
    }
}

/// A reply whose challenge stands behind others, in header lines of their own.
fn with_more_challenges(reply: Vec<u8>) -> Vec<u8> {
    const NAME: &str = "WWW-Authenticate: ";
    const OTHERS: &str = "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: Basic realm=\"another, one\"\r\n";
    let at = reply.windows(NAME.len()).position(|window| window == NAME.as_bytes());
    match at {
        Some(at) => [&reply[..at], OTHERS.as_bytes(), &reply[at..]].concat(),
        None => reply,
    }
}

/// Host and port as the client knows them.
fn authority(uri: &rtsp_types::Url, local: SocketAddr) -> String {
    match (uri.host_str(), uri.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => local.to_string(),
    }
}

const METHODS: &str = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, SET_PARAMETER, TEARDOWN";
const SESSION_TIMEOUT: Duration = Duration::from_secs(60);
/// The CSeq of the first request of the camera's own.
pub(crate) const OWN_CSEQ: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CameraConfig, Transports};
    use crate::faults::Faults;

    const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=4-5";
    const UDP: &str = "RTP/AVP;unicast;client_port=5000-5001";

    fn conversation(config: CameraConfig) -> Conversation {
        let site = Site::new(config, Some((6970, 6971))).unwrap();
        Conversation::new(Arc::new(site), "127.0.0.1:554".parse().unwrap(), Rng::new(1))
    }

    /// Asks and gives the reply's text and action.
    fn ask(conversation: &mut Conversation, method: &str, path: &str, headers: &str) -> (String, Action) {
        let text = format!("{method} rtsp://camera.example:554{path} RTSP/1.0\r\nCSeq: 7\r\n{headers}\r\n");
        let (message, _) = rtsp_types::Message::<&[u8]>::parse(text.as_bytes()).unwrap();
        let rtsp_types::Message::Request(request) = message else { panic!("a request") };
        let reply = conversation.handle(&request);
        (String::from_utf8(reply.bytes).unwrap(), reply.action)
    }

    fn header<'a>(reply: &'a str, name: &str) -> &'a str {
        reply.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or("none")
    }

    fn set_up(conversation: &mut Conversation, transport: &str) -> String {
        let (reply, _) =
            ask(conversation, "SETUP", "/cam0/trackID=1", &format!("Transport: {transport}\r\n"));
        reply
    }

    #[test]
    fn a_client_gets_from_options_to_teardown() {
        let mut conversation = conversation(CameraConfig::default());
        assert!(ask(&mut conversation, "OPTIONS", "/cam0", "").0.contains("GET_PARAMETER"));
        let (reply, _) = ask(&mut conversation, "DESCRIBE", "/cam0", "");
        assert_eq!(header(&reply, "Content-Base"), "rtsp://camera.example:554/cam0/");
        assert_eq!(header(&reply, "CSeq"), "7");
        let reply = set_up(&mut conversation, TCP);
        assert!(header(&reply, "Transport").starts_with("RTP/AVP/TCP;unicast;interleaved=4-5;ssrc="));
        let session = header(&reply, "Session").strip_suffix(";timeout=60").unwrap().to_owned();
        let named = format!("Session: {session}\r\n");
        let (reply, action) = ask(&mut conversation, "PLAY", "/cam0/", &named);
        assert!(header(&reply, "RTP-Info").starts_with("url=rtsp://camera.example:554/cam0/trackID=1;seq="));
        assert_eq!(action, Action::Play);
        assert!(ask(&mut conversation, "GET_PARAMETER", "/cam0/", &named).0.starts_with("RTSP/1.0 200"));
        assert!(ask(&mut conversation, "PAUSE", "/cam0/", &named).0.starts_with("RTSP/1.0 405"));
        let (reply, action) = ask(&mut conversation, "TEARDOWN", "/cam0/", &named);
        assert!(reply.starts_with("RTSP/1.0 200"));
        assert_eq!(action, Action::End);
    }

    #[test]
    fn udp_ports_are_agreed() {
        let mut conversation = conversation(CameraConfig::default());
        let reply = set_up(&mut conversation, UDP);
        assert!(header(&reply, "Transport").contains("client_port=5000-5001;server_port=6970-6971"));
        assert_eq!(conversation.session().unwrap().delivery, Delivery::Udp([5000, 5001, 0, 0]));
    }

    #[test]
    fn a_refused_transport_gets_461_and_the_next_offer_is_tried() {
        let config = CameraConfig { transports: Transports::Tcp, ..CameraConfig::default() };
        let mut conversation = conversation(config);
        assert!(set_up(&mut conversation, UDP).starts_with("RTSP/1.0 461"));
        assert!(set_up(&mut conversation, "RTP/AVP;multicast;port=1-2").starts_with("RTSP/1.0 461"));
        assert!(set_up(&mut conversation, &format!("{UDP},{TCP}")).starts_with("RTSP/1.0 200"));
    }

    #[test]
    fn requests_out_of_order_or_for_others_are_refused() {
        let mut conversation = conversation(CameraConfig::default());
        assert!(ask(&mut conversation, "PLAY", "/cam0", "").0.starts_with("RTSP/1.0 455"));
        assert!(ask(&mut conversation, "DESCRIBE", "/cam1", "").0.starts_with("RTSP/1.0 404"));
        assert!(
            ask(&mut conversation, "SETUP", "/cam0/trackID=0", &format!("Transport: {TCP}\r\n"))
                .0
                .contains(" 404")
        );
        set_up(&mut conversation, TCP);
        assert!(ask(&mut conversation, "PLAY", "/cam0", "Session: other\r\n").0.starts_with("RTSP/1.0 454"));
    }

    #[test]
    fn faults_show_in_replies() {
        let with = |faults| conversation(CameraConfig { faults, ..CameraConfig::default() });
        let mut wrong = with(Faults { wrong_cseq: true, ..Faults::default() });
        assert_eq!(header(&ask(&mut wrong, "OPTIONS", "/cam0", "").0, "CSeq"), "8");
        let mut refusing = with(Faults { refuse: true, ..Faults::default() });
        assert!(ask(&mut refusing, "OPTIONS", "/cam0", "").0.starts_with("RTSP/1.0 503"));
        let mut relative = with(Faults { content_base: ContentBase::Relative, ..Faults::default() });
        assert_eq!(header(&ask(&mut relative, "DESCRIBE", "/cam0", "").0, "Content-Base"), "/cam0/");
        let mut without = with(Faults { content_base: ContentBase::None, ..Faults::default() });
        assert_eq!(header(&ask(&mut without, "DESCRIBE", "/cam0", "").0, "Content-Base"), "none");
        let mut short = with(Faults { session_timeout: Some(Duration::from_secs(4)), ..Faults::default() });
        assert!(header(&set_up(&mut short, TCP), "Session").ends_with(";timeout=4"));
    }

    #[test]
    fn offers_are_read_leniently_but_not_wrongly() {
        assert_eq!(Offer::parse("rtp/avp/tcp;interleaved=2"), Some(Offer::Interleaved(Some((2, 3)))));
        assert_eq!(Offer::parse("RTP/AVP/UDP; client_port=7000"), Some(Offer::Udp((7000, 7001))));
        assert_eq!(Offer::parse("RTP/AVP/TCP;interleaved=255"), None);
        assert_eq!(Offer::parse("RTP/AVP;client_port=99999-1"), None);
        assert_eq!(Offer::parse("RTP/SAVP;client_port=1-2"), None);
        assert_eq!(Offer::parse(""), None);
    }
}
