//! One viewer: its WebSocket, the place its media comes in, and the two machines that judge both.
//!
//! Waiting for readiness and timers is `crowd.rs`.

use std::collections::BTreeMap;
use std::io;
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::libc;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use tungstenite::Bytes;

use crate::clock::Moment;
use crate::continuity::Counts;
use crate::message::ServerMessage;
use crate::peer::report::PeerOutcome;
use crate::punch;
use crate::receive::{Datagram, SocketOptions};
use crate::reception::{Reception, Start};
use crate::rewind::{self, Answer, Ask, Rewind};
use crate::session::{Conduct, Milestones, Session, Transmit, Transport};
use crate::signalling::{Incoming, Signalling};

/// What all viewers of a run have in common.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the WebSockets go.
    pub server: SocketAddr,
    /// The WebSockets' URLs, query included; viewers take them in turn.
    pub urls: Vec<String>,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// What kind of client a viewer is.
    pub conduct: Conduct,
    /// How media sockets are made.
    pub socket_options: SocketOptions,
    /// Punch from a socket of its own, not from the one that RTP comes to.
    pub separate_punch: bool,
    /// Name this port in the punch and leave it to another program to receive there.
    pub client_port: Option<u16>,
    /// A viewer with no packet after this long has failed.
    pub join_timeout: Option<Duration>,
    /// A viewer reads nothing any more after this long, but pings.
    pub stop_reading_after: Option<Duration>,
    /// Viewers leave live.
    pub rewind: Option<Arc<Rewind>>,
}

/// Sees what a viewer sees. The load has none.
pub trait Observer {
    /// A text frame, before it is acted on.
    fn on_text(&mut self, _now: Moment, _text: &str) {}
    /// Something the viewer sent.
    fn on_transmit(&mut self, _now: Moment, _transmit: &Transmit) {}
    /// A datagram or binary frame that should be RTP.
    fn on_media(&mut self, _bytes: &[u8]) {}
    /// The viewer's end.
    fn on_end(&mut self, _now: Moment, _cause: &str) {}
}

impl Observer for () {}

/// What the viewers of one thread add up to.
#[derive(Debug)]
pub struct Meters {
    /// Datagrams and binary frames of media.
    pub packets: u64,
    /// Viewers that got a first packet.
    pub joined: u64,
    /// Latencies are recorded.
    pub recording: bool,
    /// Camera's stamp to the kernel's receive stamp, ns.
    pub latency_arrived: Histogram<u64>,
    /// Camera's stamp to this program's read, ns.
    pub latency_read: Histogram<u64>,
    /// Ping to pong, ns.
    pub pong_wait: Histogram<u64>,
    /// Seeks.
    pub seeks: SeekMeters,
}

/// What the seeks of one thread's viewers add up to.
#[derive(Debug)]
pub struct SeekMeters {
    /// Viewers that have made all of theirs.
    pub viewers: u64,
    /// Requests.
    pub asked: u64,
    /// Those whose new supply did not come, though the answer did.
    pub unseen: u64,
    /// The others that failed, by cause.
    pub errors: BTreeMap<String, u64>,
    /// Request to answer, ns.
    pub answer: Histogram<u64>,
    /// Request to the first packet of the new supply, as the kernel received it, ns.
    pub first_packet: Histogram<u64>,
}

impl Default for SeekMeters {
    fn default() -> Self {
        let (answer, first_packet) = (new_histogram(), new_histogram());
        Self { viewers: 0, asked: 0, unseen: 0, errors: BTreeMap::new(), answer, first_packet }
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            packets: 0,
            joined: 0,
            recording: false,
            latency_arrived: new_histogram(),
            latency_read: new_histogram(),
            pong_wait: new_histogram(),
            seeks: SeekMeters::default(),
        }
    }
}

/// A histogram of nanoseconds, up to a minute, to three digits.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds that the histogram allows")
}

/// Where a viewer's media comes in.
#[derive(Debug)]
pub enum Media {
    /// At a socket of its own.
    Own(UdpSocket),
    /// At its own address of a socket that viewers share; which one, by index.
    Shared(usize, Ipv4Addr),
    /// At another program.
    Elsewhere,
}

/// What became of a viewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It runs.
    Running,
    /// It ended before it was told to, for that cause.
    Failed(String),
}

/// One viewer.
pub struct Viewer {
    pub(crate) number: u32,
    pub(crate) started: Moment,
    pub(crate) signalling: Signalling,
    pub(crate) media: Media,
    pub(crate) fate: Fate,
    pub(crate) intake: Intake,
    pub(crate) reading: bool,
    pub(crate) registered: EpollFlags,
    pub(crate) scheduled: Option<Moment>,
    pub(crate) media_port: u16,
    seeking: Seeking,
    seeks: u32,
    puncher: Option<UdpSocket>,
    punch_destination: Option<SocketAddr>,
    window: (Counts, Option<Counts>),
}

/// Where a viewer is between two seeks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seeking {
    /// It has made all that it is to make, or none is wanted.
    Idle,
    /// It asks then.
    At(Moment),
    /// The answer is not there yet.
    Asked,
    /// It was asked for then and agreed to; given up at the second moment.
    Agreed(Moment, Moment),
}

/// The two machines that judge what came.
pub(crate) struct Intake {
    pub(crate) session: Session,
    pub(crate) reception: Reception,
}

/// What is left of a viewer.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its number in the run.
    pub number: u32,
    /// When it began to connect.
    pub started: Moment,
    /// What became of it.
    pub fate: Fate,
    /// All it counted.
    pub counts: Counts,
    /// What it counted in the window.
    pub window: Counts,
    /// How it began.
    pub start: Option<Start>,
    /// When what happened.
    pub milestones: Milestones,
    /// When the first packet was read.
    pub first_packet: Option<Moment>,
    /// When the first whole random access point was read.
    pub first_picture: Option<Moment>,
    /// How RTP came at the end.
    pub transport: Transport,
    /// What the server did against the contract.
    pub breaches: Vec<&'static str>,
    /// `error` messages.
    pub server_errors: u64,
    /// The port that media came to; 0 for none.
    pub media_port: u16,
    /// What only a WebRTC viewer has.
    pub peer: Option<PeerOutcome>,
}

impl Viewer {
    /// Begins to connect. `source` is the viewer's own address where viewers share sockets.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub fn start(plan: &Plan, number: u32, shared: Option<(usize, Ipv4Addr, u16)>) -> io::Result<Self> {
        let any = SocketAddr::new(unspecified(plan.server.ip()), 0);
        let udp = plan.conduct.transport == Transport::Udp;
        let (media, media_port) = match (shared, plan.client_port) {
            (_, Some(port)) => (Media::Elsewhere, port),
            (Some((index, address, port)), None) => (Media::Shared(index, address), port),
            (None, None) if udp => {
                let socket = plan.socket_options.open(any)?;
                let port = socket.local_addr()?.port();
                (Media::Own(socket), port)
            }
            (None, None) => (Media::Elsewhere, 0),
        };
        let separate = udp && (plan.separate_punch || plan.client_port.is_some());
        let puncher = if separate { Some(UdpSocket::bind(any)?) } else { None };
        let source = shared.map(|(_, address, _)| IpAddr::V4(address));
        let url = plan.urls.get(number as usize % plan.urls.len().max(1));
        let url = url.ok_or_else(|| io::Error::other("no stream to watch"))?;
        let signalling = Signalling::connect(plan.server, source, url, plan.authorization.as_deref())?;
        Ok(Self {
            number,
            started: Moment::now(),
            signalling,
            media,
            fate: Fate::Running,
            intake: Intake {
                session: Session::new(plan.conduct, media_port),
                reception: Reception::default(),
            },
            reading: true,
            registered: EpollFlags::empty(),
            scheduled: None,
            media_port,
            seeking: Seeking::Idle,
            seeks: 0,
            puncher,
            punch_destination: None,
            window: (Counts::default(), None),
        })
    }

    /// Goes on with the WebSocket.
    ///
    /// # Errors
    /// The cause of the session's end.
    pub fn handle_signalling<O: Observer>(
        &mut self,
        now: Moment,
        meters: &mut Meters,
        observer: &mut O,
    ) -> Result<(), String> {
        let intake = &mut self.intake;
        let mut port = None;
        let mut failure = None;
        let result = self.signalling.handle_ready(|incoming| match incoming {
            Incoming::Text(text) => match intake.handle_text(now, &text, meters, observer) {
                Ok(named) => port = named.or(port),
                Err(cause) => failure = Some(cause),
            },
            Incoming::Binary(bytes) => intake.handle_binary(now, &bytes, meters, observer),
        });
        if let Some(port) = port {
            self.aim(port).map_err(|error| format!("udp connect: {}", error.kind()))?;
        }
        failure.map_or(result, Err)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.intake.session.handle_timeout(now);
    }

    /// When the viewer is next due.
    pub fn poll_timeout(&self, plan: &Plan) -> Option<Moment> {
        let joining = self.intake.reception.first_packet().is_none();
        let join = plan.join_timeout.filter(|_| joining).map(|timeout| self.started + timeout);
        let stop = plan.stop_reading_after.filter(|_| self.reading).map(|after| self.started + after);
        let seek = match self.seeking {
            Seeking::At(moment) | Seeking::Agreed(_, moment) => Some(moment),
            Seeking::Idle | Seeking::Asked => None,
        };
        [self.intake.session.poll_timeout(), join, stop, seek].into_iter().flatten().min()
    }

    /// Goes on with its seeks. Gives the question that is to be asked now; `index`: as its thread counts viewers.
    pub fn seek(&mut self, now: Moment, index: usize, rewind: &Rewind, meters: &mut Meters) -> Option<Ask> {
        let seeks = &mut meters.seeks;
        match self.seeking {
            Seeking::Idle if self.seeks == 0 && self.intake.reception.first_packet().is_some() => {
                self.seeking = Seeking::At(now + rewind.pause);
            }
            Seeking::At(moment) if moment <= now => {
                let unix_ms = rewind.times.pick(rewind::unix_ms(), self.number, self.seeks);
                let session = self.intake.session.token()?.to_owned();
                self.intake.reception.expect_past(rewind::expected(unix_ms));
                self.seeking = Seeking::Asked;
                self.seeks += 1;
                seeks.asked += 1;
                return Some(Ask { viewer: index, session, unix_ms });
            }
            Seeking::Agreed(asked, until) => match self.intake.reception.past_came() {
                Some(came) => {
                    seeks.first_packet.saturating_record(nanoseconds(came.since(asked)));
                    self.end_seek(now, rewind, seeks);
                }
                None if until <= now => {
                    seeks.unseen += 1;
                    self.end_seek(now, rewind, seeks);
                }
                None => {}
            },
            Seeking::Idle | Seeking::At(_) | Seeking::Asked => {}
        }
        None
    }

    /// Whether the media that comes may be what a seek waits for.
    pub fn waits_for_past(&self) -> bool {
        matches!(self.seeking, Seeking::Agreed(..))
    }

    /// Takes the answer to its question.
    pub fn handle_seek_answer(&mut self, now: Moment, answer: Answer, rewind: &Rewind, meters: &mut Meters) {
        let seeks = &mut meters.seeks;
        match answer.result {
            Ok(()) => {
                seeks.answer.saturating_record(nanoseconds(answer.answered.since(answer.sent)));
                self.seeking = Seeking::Agreed(answer.sent, now + UNSEEN_AFTER);
            }
            Err(cause) => {
                *seeks.errors.entry(cause).or_default() += 1;
                self.end_seek(now, rewind, seeks);
            }
        }
    }

    fn end_seek(&mut self, now: Moment, rewind: &Rewind, meters: &mut SeekMeters) {
        let done = self.seeks >= rewind.seeks;
        meters.viewers += u64::from(done);
        self.seeking = if done { Seeking::Idle } else { Seeking::At(now + rewind.pause) };
    }

    /// Sends what the session wants sent. A datagram that the kernel refuses is lost, as on the way.
    pub fn flush<O: Observer>(&mut self, now: Moment, shared: &[UdpSocket], observer: &mut O) {
        while let Some(transmit) = self.intake.session.poll_transmit() {
            observer.on_transmit(now, &transmit);
            match transmit {
                Transmit::Text(text) => self.signalling.send_text(text),
                Transmit::Binary(bytes) => self.signalling.send_binary(bytes),
                Transmit::Datagram(bytes) => {
                    let _ = self.send_datagram(&bytes, shared);
                }
            }
        }
    }

    /// The end of the viewer, on its own side.
    pub fn fail(&mut self, cause: String) {
        self.fate = Fate::Failed(cause);
        self.signalling.close();
        self.media = Media::Elsewhere;
    }

    /// Why there is no packet yet.
    pub fn stage(&self) -> &'static str {
        let milestones = self.intake.session.milestones();
        match (milestones.init, milestones.sdp) {
            (None, _) => "join: no init in time",
            (Some(_), None) => "join: no sdp in time",
            (Some(_), Some(_)) => "join: no packet in time",
        }
    }

    /// From here on counts are the window's.
    pub fn open_window(&mut self) {
        self.window = (self.intake.reception.counts(), None);
    }

    /// To here counts were the window's.
    pub fn close_window(&mut self) {
        self.window.1 = Some(self.intake.reception.counts());
    }

    /// What is left of it.
    pub fn outcome(&self) -> Outcome {
        let Intake { session, reception } = &self.intake;
        let (opened, closed) = self.window;
        Outcome {
            number: self.number,
            started: self.started,
            fate: self.fate.clone(),
            counts: reception.counts(),
            window: closed.unwrap_or_else(|| reception.counts()) - opened,
            start: reception.start(),
            milestones: session.milestones(),
            first_packet: reception.first_packet(),
            first_picture: reception.first_picture(),
            transport: session.transport(),
            breaches: session.breaches().collect(),
            server_errors: session.errors(),
            media_port: self.media_port,
            peer: None,
        }
    }

    /// Fixes where punches go; RTP must come from there too, so an own socket takes it from nowhere else.
    fn aim(&mut self, port: u16) -> io::Result<()> {
        let server = SocketAddr::new(self.signalling.peer().ip(), port);
        self.punch_destination = Some(server);
        match &self.media {
            Media::Own(socket) => socket.connect(server),
            Media::Shared(..) | Media::Elsewhere => Ok(()),
        }
    }

    fn send_datagram(&self, bytes: &[u8], shared: &[UdpSocket]) -> io::Result<()> {
        let Some(server) = self.punch_destination else { return Ok(()) };
        match (&self.puncher, &self.media, server) {
            (Some(puncher), ..) => puncher.send_to(bytes, server).map(drop),
            (None, Media::Own(socket), _) => socket.send(bytes).map(drop),
            (None, Media::Shared(index, source), SocketAddr::V4(server)) => {
                send_from(&shared[*index], *source, server, bytes)
            }
            _ => Ok(()),
        }
    }
}

impl Intake {
    /// Takes a datagram.
    #[inline]
    pub(crate) fn handle_datagram<O: Observer>(
        &mut self,
        datagram: Datagram<'_>,
        meters: &mut Meters,
        observer: &mut O,
    ) {
        if punch::is_handshake(datagram.bytes) {
            self.session.handle_datagram(datagram.read, datagram.bytes);
        } else {
            self.handle_media(datagram.bytes, datagram.arrived, datagram.read, meters, observer);
        }
    }

    #[inline]
    fn handle_media<O: Observer>(
        &mut self,
        bytes: &[u8],
        arrived: Option<Moment>,
        read: Moment,
        meters: &mut Meters,
        observer: &mut O,
    ) {
        meters.packets += 1;
        let joining = self.reception.first_packet().is_none();
        if let Some(latency) = self.reception.handle_packet(bytes, arrived, read).filter(|_| meters.recording)
        {
            meters.latency_arrived.saturating_record(nanoseconds(latency.arrived));
            meters.latency_read.saturating_record(nanoseconds(latency.read));
        }
        if joining && self.reception.first_packet().is_some() {
            self.session.handle_media();
            meters.joined += 1;
        }
        observer.on_media(bytes);
    }

    fn handle_binary<O: Observer>(
        &mut self,
        now: Moment,
        bytes: &Bytes,
        meters: &mut Meters,
        observer: &mut O,
    ) {
        self.session.handle_binary_media();
        self.handle_media(bytes, None, now, meters, observer);
    }

    fn handle_text<O: Observer>(
        &mut self,
        now: Moment,
        text: &str,
        meters: &mut Meters,
        observer: &mut O,
    ) -> Result<Option<u16>, String> {
        observer.on_text(now, text);
        let message = ServerMessage::parse(text).map_err(|_| "a text frame that is no message".to_owned())?;
        let port = self.session.handle_message(now, &message)?;
        match message {
            ServerMessage::Sdp { .. } => {
                if let Some(codec) = self.session.codec() {
                    self.reception.set_codec(codec);
                }
            }
            ServerMessage::Pong => {
                if let Some(wait) = self.session.pong_wait() {
                    meters.pong_wait.saturating_record(nanoseconds(wait));
                }
            }
            _ => {}
        }
        Ok(port)
    }
}

fn unspecified(family_of: IpAddr) -> IpAddr {
    match family_of {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Sends from a shared socket with the viewer's own address as the source (`IP_PKTINFO`).
fn send_from(socket: &UdpSocket, source: Ipv4Addr, server: SocketAddrV4, bytes: &[u8]) -> io::Result<()> {
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(source.octets()) },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let control = [ControlMessage::Ipv4PacketInfo(&info)];
    let slices = [IoSlice::new(bytes)];
    sendmsg(socket.as_raw_fd(), &slices, &control, MsgFlags::empty(), Some(&SockaddrIn::from(server)))?;
    Ok(())
}

/// A new supply that was agreed to is not waited for any longer.
const UNSEEN_AFTER: Duration = Duration::from_secs(5);

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
