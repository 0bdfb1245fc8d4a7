//! One client's TCP connection: its requests, the media that is due, and the faults that are seen on the wire.

use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rtsp_types::{Message, ParseError};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep, sleep_until};

use crate::conversation::{Action, Conversation, Delivery, OWN_CSEQ, Session};
use crate::faults::Faults;
use crate::link::Link;
use crate::rng::Rng;
use crate::rtp::Burst;
use crate::site::Site;
use crate::stamp;

/// The sockets that all UDP sessions share.
#[derive(Debug)]
pub(crate) struct UdpPair {
    pub rtp: UdpSocket,
    pub rtcp: UdpSocket,
}

/// A connection and everything that goes over it.
pub(crate) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    site: Arc<Site>,
    udp: Option<Arc<UdpPair>>,
    conversation: Conversation,
    link: Link,
    rng: Rng,
    received: Vec<u8>,
    /// Bytes that the socket did not take yet.
    unsent: Vec<u8>,
    burst: Burst,
    /// Instant 0 of the process's frame grid.
    epoch: Instant,
    playing: Option<Playing>,
    accepted: Instant,
    last_request: Instant,
    /// What is sent for ever.
    endless: Option<&'static [u8]>,
    own: OwnRequests,
}

/// The camera's requests of its own.
#[derive(Debug, Default)]
struct OwnRequests {
    sent: u32,
    answered: u32,
    last: Option<Instant>,
    /// TEARDOWN was sent, or the session forgotten: there is no more media.
    is_over: bool,
}

/// Media is flowing.
#[derive(Debug)]
struct Playing {
    /// When tick 0 was due.
    start: Instant,
    next_report: Instant,
}

/// Why a connection ends, where it is no I/O error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client closed it.
    Closed,
    /// The client sent what is no RTSP.
    Malformed,
    /// The session timed out.
    Expired,
    /// `--drop-every`.
    Dropped,
    /// `--asks`, and the client did not answer.
    Unanswered,
}

impl Connection {
    pub fn new(
        stream: TcpStream,
        peer: SocketAddr,
        site: Arc<Site>,
        udp: Option<Arc<UdpPair>>,
        epoch: Instant,
        mut rng: Rng,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let now = Instant::now();
        Ok(Self {
            conversation: Conversation::new(Arc::clone(&site), stream.local_addr()?, Rng::new(rng.next())),
            link: Link::new(&site.config.faults, Rng::new(rng.next())),
            stream,
            peer,
            site,
            udp,
            rng,
            received: Vec::new(),
            unsent: Vec::new(),
            burst: Burst::default(),
            epoch,
            playing: None,
            accepted: now,
            last_request: now,
            endless: None,
            own: OwnRequests::default(),
        })
    }

    /// Serves the client until either side has enough.
    pub async fn run(mut self) -> io::Result<End> {
        loop {
            let due = self.due();
            let end_at = self.end_at();
            let freeze_at = self.since_play(self.faults().dialogue.freeze_after);
            let own_at = self.own_at();
            if let Some(line) = self.endless
                && self.unsent.len() < ENDLESS_AT_ONCE
            {
                self.unsent.extend_from_slice(&line.repeat(ENDLESS_AT_ONCE / line.len()));
            }
            tokio::select! {
                result = self.stream.readable() => {
                    result?;
                    if let Some(end) = self.receive().await? {
                        // The last reply, as far as the socket takes it.
                        return self.flush().map(|()| end);
                    }
                }
                result = self.stream.writable(), if !self.unsent.is_empty() => {
                    result?;
                    self.flush()?;
                }
                () = at(due) => self.picture().await?,
                () = at(own_at) => {
                    if self.own.answered < self.own.sent {
                        return Ok(End::Unanswered);
                    }
                    self.ask()?;
                }
                () = at(freeze_at) => pending().await,
                () = at(end_at) => {
                    let is_expired = self.faults().drop_every.is_none_or(|every| self.accepted + every > Instant::now());
                    return Ok(if is_expired { End::Expired } else { End::Dropped });
                }
            }
        }
    }

    fn faults(&self) -> &Faults {
        &self.site.config.faults
    }

    /// When the next picture is due, if one is.
    fn due(&mut self) -> Option<Instant> {
        let start = self.playing.as_ref()?.start;
        let stream = &self.conversation.session()?.stream;
        let since_start = stream.cadence.time(stream.tick());
        let is_silent = self.site.config.faults.silence_after.is_some_and(|after| since_start >= after);
        (!is_silent && !self.own.is_over).then_some(start + since_start)
    }

    fn since_play(&self, after: Option<Duration>) -> Option<Instant> {
        Some(self.playing.as_ref()?.start + after?)
    }

    /// When the camera does something of its own: the next request, or the end of the session.
    fn own_at(&self) -> Option<Instant> {
        let faults = &self.faults().dialogue;
        if self.own.is_over {
            return None;
        }
        let wait = if self.own.answered < self.own.sent { OWN_PATIENCE } else { OWN_INTERVAL };
        let start = self.playing.as_ref()?.start;
        let ask = faults.asks.then(|| self.own.last.unwrap_or(start) + wait);
        let end = self.since_play(faults.forget_after.or(faults.teardown_after));
        [ask, end].into_iter().flatten().min()
    }

    /// The next request of its own, or the end of the session.
    fn ask(&mut self) -> io::Result<()> {
        let faults = self.faults().dialogue.clone();
        if faults.asks {
            let request = self.conversation.own_request(self.own.sent);
            self.unsent.extend_from_slice(&request);
            self.own.sent += 1;
            self.own.last = Some(Instant::now());
        } else {
            self.own.is_over = true;
            if faults.teardown_after.is_some() {
                self.unsent.extend_from_slice(&self.conversation.own_teardown());
            }
            self.conversation.forget_session();
        }
        self.flush()
    }

    /// When the camera closes the connection: the session expires, or the fault strikes.
    fn end_at(&mut self) -> Option<Instant> {
        let dropped = self.faults().drop_every.map(|every| self.accepted + every);
        let timeout = self.conversation.timeout();
        let expired = self.conversation.session().map(|_| self.last_request + timeout);
        [dropped, expired].into_iter().flatten().min()
    }

    async fn receive(&mut self) -> io::Result<Option<End>> {
        let mut buffer = [0; 4096];
        match self.stream.try_read(&mut buffer) {
            Ok(0) => return Ok(Some(End::Closed)),
            Ok(len) => self.received.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let received = std::mem::take(&mut self.received);
        let mut rest = &received[..];
        let end = loop {
            match Message::<&[u8]>::parse(rest) {
                Ok((message, len)) => {
                    rest = &rest[len..];
                    match message {
                        Message::Request(request) => self.request(&request).await?,
                        Message::Response(response) => self.answered(&response),
                        // Interleaved data from a client is RTCP, which a camera may ignore.
                        Message::Data(_) => {}
                    }
                }
                Err(ParseError::Incomplete(_)) if rest.len() < REQUEST_BYTES_MAX => break None,
                Err(_) => {
                    let reply = self.conversation.malformed();
                    self.unsent.extend_from_slice(&reply.bytes);
                    break Some(End::Malformed);
                }
            }
        };
        self.received.extend_from_slice(rest);
        Ok(end)
    }

    /// The client answers a request of the camera's.
    fn answered(&mut self, response: &rtsp_types::Response<&[u8]>) {
        let cseq =
            response.header(&rtsp_types::headers::CSEQ).and_then(|value| value.as_str().trim().parse().ok());
        if cseq == Some(OWN_CSEQ + self.own.answered) {
            self.own.answered += 1;
        }
    }

    async fn request(&mut self, request: &rtsp_types::Request<&[u8]>) -> io::Result<()> {
        if self.faults().dialogue.keepalive.is_kept_by(request.method().into()) {
            self.last_request = Instant::now();
        }
        if self.faults().dialogue.binary_between_replies {
            self.unsent.extend_from_slice(b"$\x09\x00\x04\x80\xc9\x00\x00\x00\x00\x01\xff\xfe");
        }
        let reply = self.conversation.handle(request);
        match reply.action {
            Action::Play if self.playing.is_none() => {
                self.start();
                if self.faults().media_before_play_reply {
                    self.picture().await?;
                }
            }
            Action::End => self.playing = None,
            Action::Repeat(line) => self.endless = Some(line),
            Action::Play | Action::None => {}
        }
        self.unsent.extend_from_slice(&reply.bytes);
        self.flush()
    }

    /// Puts tick 0 on the next point of the mount's frame grid.
    fn start(&mut self) {
        let now = Instant::now();
        let Some(session) = self.conversation.session() else { return };
        let cadence = session.stream.cadence;
        let grid = self.epoch + self.site.mounts[session.mount].phase;
        let passed = cadence.ticks(now.saturating_duration_since(grid)) + 1;
        self.playing = Some(Playing { start: grid + cadence.time(passed), next_report: now });
    }

    /// Sends the due picture, and a report if one is due.
    async fn picture(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let is_stamped = self.site.config.stamp;
        self.burst.clear();
        let (Some(playing), Some(session)) = (&mut self.playing, self.conversation.session()) else {
            return Ok(());
        };
        let Session { stream, channels, delivery, .. } = session;
        let (channels, delivery) = (*channels, *delivery);
        let late = now.saturating_duration_since(playing.start + stream.cadence.time(stream.tick()));
        if late > LATE_MAX {
            tracing::warn!(late_ms = late.as_millis(), "the camera was not run");
            stream.sleep(stream.cadence.ticks(late));
        }
        if self.unsent.len() > UNSENT_BYTES_MAX {
            tracing::debug!(peer = %self.peer, "the client reads too slowly: a picture is left out");
            stream.skip();
            return Ok(());
        }
        stream.write(channels, is_stamped.then(stamp::monotonic_ns), &mut self.burst);
        if now >= playing.next_report {
            playing.next_report = now + REPORT_INTERVAL;
            let since_start = now.saturating_duration_since(playing.start);
            stream.write_reports(channels, SystemTime::now(), since_start, &mut self.burst);
        }
        match delivery {
            Delivery::Interleaved => self.send_interleaved(),
            Delivery::Udp(ports) => self.send_datagrams(ports).await,
        }
    }

    /// One write for the whole burst; what the socket does not take waits.
    fn send_interleaved(&mut self) -> io::Result<()> {
        let mut taken = 0;
        if self.unsent.is_empty() && !self.burst.is_empty() {
            taken = written(self.stream.try_write(self.burst.bytes()))?;
        }
        self.unsent.extend_from_slice(&self.burst.bytes()[taken..]);
        if self.faults().garbage_between_frames {
            let garbage = self.garbage();
            self.unsent.extend_from_slice(&garbage);
            self.flush()?;
        }
        Ok(())
    }

    async fn send_datagrams(&mut self, ports: [u16; 4]) -> io::Result<()> {
        let Some(udp) = &self.udp else { return Ok(()) };
        let ip = self.peer.ip();
        for (index, (channel, packet)) in self.burst.packets().enumerate() {
            if index % DATAGRAMS_AT_ONCE == DATAGRAMS_AT_ONCE - 1 {
                sleep(Duration::from_millis(1)).await;
            }
            let port = ports[usize::from(channel & 3)];
            if channel % 2 == 1 {
                send_to(&udp.rtcp, packet, ip, port).await;
                continue;
            }
            let mut leaving = [None, None, None];
            let mut free = leaving.iter_mut();
            self.link.pass(packet, |packet| {
                if let Some(slot) = free.next() {
                    *slot = Some(packet);
                }
            });
            for packet in leaving.into_iter().flatten() {
                send_to(&udp.rtp, &packet, ip, port).await;
            }
        }
        if self.site.config.faults.garbage_between_frames {
            let udp = Arc::clone(udp);
            send_to(&udp.rtp, &self.garbage(), ip, ports[0]).await;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.unsent.is_empty() {
            let taken = written(self.stream.try_write(&self.unsent))?;
            self.unsent.drain(..taken);
        }
        Ok(())
    }

    /// 1 to 64 lower-case letters: no `$`, no `RTSP`, no RTP version 2.
    fn garbage(&mut self) -> Vec<u8> {
        let len = 1 + self.rng.next() % 64;
        (0..len).map(|_| b'a' + (self.rng.next() % 26) as u8).collect()
    }
}

/// How many bytes a write took; a full socket takes none.
fn written(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

/// Sends a datagram; a client that is not there is not this camera's trouble.
async fn send_to(socket: &UdpSocket, packet: &[u8], ip: IpAddr, port: u16) {
    if port != 0
        && let Err(error) = socket.send_to(packet, (ip, port)).await
    {
        tracing::debug!(%error, port, "a datagram was not sent");
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}

/// More than any client's request has.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// A client that is this far behind (several pictures of the largest kind) loses pictures.
const UNSENT_BYTES_MAX: usize = 8 << 20;
/// Pictures are not made up for when the process was stopped for longer than this.
const LATE_MAX: Duration = Duration::from_secs(2);
/// Requests of the camera's own come this often.
const OWN_INTERVAL: Duration = Duration::from_millis(400);
/// How long their answers may take.
const OWN_PATIENCE: Duration = Duration::from_secs(3);
/// What is written at once of what never ends.
const ENDLESS_AT_ONCE: usize = 64 << 10;
/// RFC 3550 section 6.2.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// A large picture would overrun a receiver's socket buffer if it left in one instant.
const DATAGRAMS_AT_ONCE: usize = 64;
