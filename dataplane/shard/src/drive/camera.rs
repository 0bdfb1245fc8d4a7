//! A camera's sockets and inputs ⇄ its `Source`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use lanecast_net::{Ring, Socket, bind_udp_pair};
use lanecast_relay::source::{Lane, Source, SourceConfig};
use lanecast_transcode::input::InputHandle;
use rustls::ClientConfig;

use crate::drive::tls::TlsSession;
use crate::token::{Owner, Token};

/// Receive buffer of a camera: a quarter of a second of 4 Mb/s; grows with one access unit under way, not more.
const RECEIVE_BYTES: usize = 128 << 10;
/// A receive into less than this costs more in calls than a new buffer.
const MIN_RECEIVE_BYTES: usize = 16 << 10;
/// Receive buffer of a camera that speaks TLS: two of its records. What is in it is decrypted at once, into a buffer of
/// [`RECEIVE_BYTES`].
const RECEIVE_BYTES_TLS: usize = 32 << 10;
/// Plaintext of a record that came in pieces (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 16 << 10;
/// What may wait to be written to a camera: a dialogue is a few KB, more is a camera that does not read.
const MAX_WRITE_BACKLOG: usize = 256;

/// A source and the sockets of its lanes.
#[derive(Debug)]
pub(crate) struct Camera {
    pub(crate) source: Source,
    links: [Link; 2],
    bytes_received: u64,
    connects: u64,
}

/// What one lane has open: a connection with or without UDP ports, or a worker's input.
#[derive(Debug)]
struct Link {
    lane: Lane,
    slot: usize,
    /// Even numbers are lane A's, odd ones lane B's.
    epoch: u32,
    connection: Option<Connection>,
    udp: Option<UdpPair>,
    foreign: Option<InputHandle>,
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    tls: Option<Box<Encryption>>,
    received: BytesMut,
    /// The receive buffer before this one: free again once its packets are through.
    previous: BytesMut,
    writes: VecDeque<Bytes>,
    writing: bool,
    closing: bool,
}

/// What is between the socket and the dialogue.
#[derive(Debug)]
struct Encryption {
    session: TlsSession,
    /// Empty between receives.
    ciphertext: BytesMut,
    /// Our end, once TCP is connected.
    local: Option<SocketAddr>,
}

/// How TLS is spoken on a connection.
#[derive(Debug)]
pub(crate) struct TlsTerms {
    /// The name that the certificate must have.
    pub(crate) name: String,
    /// Whom to trust; `None`: the input is not one of RTSPS, but led to one.
    pub(crate) config: Option<Arc<ClientConfig>>,
}

#[derive(Debug)]
struct UdpPair {
    rtp: Socket,
    rtcp: Socket,
    peer: Option<(SocketAddr, SocketAddr)>,
}

impl Camera {
    pub(crate) fn new(now: Instant, slot: usize, config: SourceConfig, seed: u64) -> Self {
        let source = Source::new(now, config, seed);
        let links = Lane::ALL.map(|lane| Link {
            lane,
            slot,
            epoch: (seed as u32) << 1 | lane.index() as u32,
            connection: None,
            udp: None,
            foreign: None,
        });
        Self { source, links, bytes_received: 0, connects: 0 }
    }

    /// Bytes of all its sockets and inputs.
    pub(crate) fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Connects so far.
    pub(crate) fn connects(&self) -> u64 {
        self.connects
    }

    /// The lane of a completion; `None` if it is of a connection before.
    pub(crate) fn lane_of(&self, epoch: u32) -> Option<Lane> {
        self.links.iter().find(|link| link.epoch == epoch).map(|link| link.lane)
    }

    /// Names what a lane has open now.
    pub(crate) fn epoch(&self, lane: Lane) -> u32 {
        self.links[lane.index()].epoch
    }

    pub(crate) fn connect(
        &mut self,
        now: Instant,
        ring: &mut Ring,
        lane: Lane,
        to: SocketAddr,
        tls: Option<TlsTerms>,
    ) {
        self.disconnect(ring, lane);
        self.connects += 1;
        let link = &mut self.links[lane.index()];
        let opened = Socket::tcp_for(&to).map_err(|error| error.to_string());
        match opened.and_then(|socket| Ok((socket, tls.map(Encryption::new).transpose()?))) {
            Ok((socket, tls)) => {
                ring.connect(link.token(Owner::CameraConnection), &socket, to);
                link.connection = Some(Connection {
                    socket,
                    tls,
                    received: BytesMut::new(),
                    previous: BytesMut::new(),
                    writes: VecDeque::new(),
                    writing: false,
                    closing: false,
                });
            }
            Err(sentence) => self.source.handle_closed(now, lane, &sentence),
        }
    }

    pub(crate) fn on_connected(
        &mut self,
        now: Instant,
        ring: &mut Ring,
        lane: Lane,
        result: std::io::Result<()>,
    ) {
        let link = &mut self.links[lane.index()];
        let token = link.token(Owner::CameraConnection);
        let Some(connection) = &mut link.connection else { return };
        match result.and_then(|()| connection.socket.local_addr()) {
            Ok(local) => match &mut connection.tls {
                // The source hears of it when the handshake is done.
                Some(tls) => {
                    tls.local = Some(local);
                    connection.write_on(ring, token);
                    ring.receive(token, &connection.socket, BytesMut::with_capacity(RECEIVE_BYTES_TLS));
                }
                None => {
                    self.source.handle_connected(now, lane, local);
                    ring.receive(token, &connection.socket, BytesMut::with_capacity(RECEIVE_BYTES));
                }
            },
            Err(error) => {
                link.close(ring);
                // The source says where to.
                self.source.handle_closed(now, lane, &error.to_string());
            }
        }
    }

    pub(crate) fn on_received(
        &mut self,
        now: Instant,
        lane: Lane,
        mut buffer: BytesMut,
        result: std::io::Result<usize>,
    ) {
        let Some(connection) = &mut self.links[lane.index()].connection else { return };
        if connection.closing {
            return;
        }
        match result {
            Ok(0) => {
                let sentence = format!("the camera closed the connection{}", connection.stage());
                self.source.handle_closed(now, lane, &sentence);
            }
            Ok(received) => {
                self.bytes_received += received as u64;
                if connection.tls.is_some() {
                    return self.on_ciphertext(now, lane, buffer);
                }
                self.source.handle_received(now, lane, &mut buffer);
                // The next receive is started once the packets are through, when their memory is free again.
                connection.received = buffer;
            }
            Err(error) => {
                let sentence = format!("the connection broke{}: {error}", connection.stage());
                self.source.handle_closed(now, lane, &sentence);
            }
        }
    }

    fn on_ciphertext(&mut self, now: Instant, lane: Lane, mut ciphertext: BytesMut) {
        let Some(connection) = &mut self.links[lane.index()].connection else { return };
        let mut plaintext = connection.room_for(ciphertext.len() + RECORD_BYTES_MAX);
        let Some(tls) = &mut connection.tls else { return };
        let before = plaintext.len();
        let result = tls.session.handle_received(&ciphertext, &mut plaintext);
        ciphertext.clear();
        tls.ciphertext = ciphertext;
        let progress = match result {
            Ok(progress) => progress,
            Err(sentence) => return self.source.handle_closed(now, lane, &sentence),
        };
        if let Some(local) = tls.local.filter(|_| progress.established) {
            self.source.handle_connected(now, lane, local);
        }
        if plaintext.len() > before {
            self.source.handle_received(now, lane, &mut plaintext);
        }
        connection.received = plaintext;
        if progress.closed {
            self.source.handle_closed(now, lane, "the camera closed the connection");
        }
    }

    /// After the source's outputs were run: receive on.
    pub(crate) fn receive_on(&mut self, ring: &mut Ring, lane: Lane) {
        let link = &mut self.links[lane.index()];
        let token = link.token(Owner::CameraConnection);
        let Some(connection) = &mut link.connection else { return };
        if connection.closing {
            return;
        }
        let buffer = match &mut connection.tls {
            Some(tls) => std::mem::take(&mut tls.ciphertext),
            None => connection.room_for(MIN_RECEIVE_BYTES),
        };
        ring.receive(token, &connection.socket, buffer);
        if connection.tls.is_some() {
            // A handshake's next messages; rustls bounds what a camera can ask for after it.
            connection.write_on(ring, token);
        }
    }

    pub(crate) fn write(&mut self, ring: &mut Ring, lane: Lane, bytes: Bytes) {
        let link = &mut self.links[lane.index()];
        let token = link.token(Owner::CameraConnection);
        let Some(connection) = &mut link.connection else { return };
        if connection.writes.len() < MAX_WRITE_BACKLOG {
            match &mut connection.tls {
                Some(tls) => tls.session.write(&bytes),
                None => connection.writes.push_back(bytes),
            }
        }
        connection.write_on(ring, token);
    }

    pub(crate) fn on_written(&mut self, ring: &mut Ring, lane: Lane, result: std::io::Result<usize>) {
        let link = &mut self.links[lane.index()];
        let token = link.token(Owner::CameraConnection);
        let Some(connection) = &mut link.connection else { return };
        connection.writing = false;
        // A broken connection shows at the receive, which says why.
        if result.is_ok() {
            connection.write_on(ring, token);
        }
        if connection.closing && !connection.writing {
            link.close(ring);
        }
    }

    pub(crate) fn open_udp(&mut self, now: Instant, ring: &mut Ring, lane: Lane) {
        let link = &mut self.links[lane.index()];
        link.close_udp(ring);
        let Some(local) = link.connection.as_ref().and_then(|connection| connection.socket.local_addr().ok())
        else {
            return self.source.handle_udp_opened(now, lane, Err("the RTSP connection is gone".into()));
        };
        match bind_udp_pair(local.ip()) {
            Ok((rtp, rtcp, port)) => {
                ring.receive_datagrams(link.token(Owner::CameraRtp), &rtp);
                ring.receive_datagrams(link.token(Owner::CameraRtcp), &rtcp);
                link.udp = Some(UdpPair { rtp, rtcp, peer: None });
                self.source.handle_udp_opened(now, lane, Ok(port));
            }
            Err(error) => {
                self.source.handle_udp_opened(now, lane, Err(format!("cannot open UDP ports: {error}")));
            }
        }
    }

    pub(crate) fn set_udp_peer(&mut self, lane: Lane, rtp: SocketAddr, rtcp: SocketAddr) {
        if let Some(udp) = &mut self.links[lane.index()].udp {
            udp.peer = Some((rtp, rtcp));
        }
    }

    pub(crate) fn send_rtp(&self, ring: &Ring, lane: Lane, bytes: &[u8]) {
        if let Some(UdpPair { rtp, peer: Some((to, _)), .. }) = &self.links[lane.index()].udp {
            // A lost opener or report is repeated by its own timer.
            let _ = ring.send_from(rtp, bytes, *to);
        }
    }

    pub(crate) fn send_rtcp(&self, ring: &Ring, lane: Lane, bytes: &[u8]) {
        if let Some(UdpPair { rtcp, peer: Some((_, to)), .. }) = &self.links[lane.index()].udp {
            // As above.
            let _ = ring.send_from(rtcp, bytes, *to);
        }
    }

    pub(crate) fn on_datagram(
        &mut self,
        now: Instant,
        lane: Lane,
        owner: Owner,
        from: SocketAddr,
        bytes: Bytes,
    ) {
        if self.links[lane.index()].udp.is_none() {
            return;
        }
        self.bytes_received += bytes.len() as u64;
        match owner {
            Owner::CameraRtp => self.source.handle_udp_rtp(now, lane, from, bytes),
            _ => self.source.handle_udp_rtcp(now, lane, from, &bytes),
        }
    }

    /// A worker has opened an input for this lane.
    pub(crate) fn set_foreign(&mut self, lane: Lane, input: InputHandle) {
        self.connects += 1;
        self.links[lane.index()].foreign = Some(input);
    }

    /// A worker's input gave a picture.
    pub(crate) fn on_foreign_unit(&mut self, now: Instant, lane: Lane, bytes: u64) {
        self.bytes_received += bytes;
        self.source.handle_foreign_unit(now, lane, bytes);
    }

    /// Closes the connection once what waits is written, and the UDP sockets at once.
    pub(crate) fn disconnect(&mut self, ring: &mut Ring, lane: Lane) {
        let link = &mut self.links[lane.index()];
        link.close_udp(ring);
        if link.foreign.take().is_some() {
            link.next_epoch();
        }
        let token = link.token(Owner::CameraConnection);
        if let Some(connection) = &mut link.connection {
            connection.say_last(ring, token);
        }
        match &mut link.connection {
            Some(connection) if connection.writing && !connection.closing => connection.closing = true,
            Some(_) => link.close(ring),
            None => {}
        }
    }
}

impl Link {
    fn close_udp(&mut self, ring: &mut Ring) {
        if let Some(udp) = self.udp.take() {
            ring.cancel_all(&udp.rtp);
            ring.cancel_all(&udp.rtcp);
        }
    }

    fn close(&mut self, ring: &mut Ring) {
        if let Some(connection) = self.connection.take() {
            if connection.writing {
                // A TEARDOWN that is only queued yet: the kernel is to have it before the end. A broken ring shows at
                // the turn's own submit.
                let _ = ring.submit();
            }
            connection.socket.shutdown();
            ring.cancel_all(&connection.socket);
        }
        self.next_epoch();
    }

    fn next_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(2);
    }

    fn token(&self, owner: Owner) -> u64 {
        Token { owner, slot: self.slot, epoch: self.epoch }.pack()
    }
}

impl Encryption {
    fn new(terms: TlsTerms) -> Result<Box<Self>, String> {
        let config = terms.config.ok_or_else(|| NOT_AN_INPUT_OF_RTSPS.to_owned())?;
        let session = TlsSession::new(config, &terms.name)?;
        Ok(Box::new(Self { session, ciphertext: BytesMut::new(), local: None }))
    }
}

impl Connection {
    /// The receive buffer with what is left in it, and at least so much room.
    fn room_for(&mut self, bytes: usize) -> BytesMut {
        let buffer = std::mem::take(&mut self.received);
        match buffer.capacity() - buffer.len() < bytes {
            true => self.next_buffer(buffer),
            false => buffer,
        }
    }

    /// A buffer with room that begins with what is left in the full one: the one before it, if its packets are through.
    fn next_buffer(&mut self, mut full: BytesMut) -> BytesMut {
        let mut next = std::mem::take(&mut self.previous);
        next.clear();
        let wanted = full.len() + RECEIVE_BYTES;
        if !next.try_reclaim(wanted) {
            next = BytesMut::with_capacity(wanted);
        }
        next.extend_from_slice(&full);
        full.clear();
        self.previous = full;
        next
    }

    /// Where in its life the connection is, to stand behind what happened to it.
    fn stage(&self) -> &'static str {
        match &self.tls {
            Some(tls) if !tls.session.is_established() => " in the TLS handshake (is this its RTSPS port?)",
            _ => "",
        }
    }

    /// Says in TLS that nothing follows: an alert that is due, or that we close.
    fn say_last(&mut self, ring: &mut Ring, token: u64) {
        if let Some(tls) = self.tls.as_mut().filter(|tls| tls.local.is_some() && !self.closing) {
            tls.session.close();
            self.write_on(ring, token);
        }
    }

    fn write_on(&mut self, ring: &mut Ring, token: u64) {
        if let Some(tls) = &mut self.tls {
            self.writes.extend(std::iter::from_fn(|| tls.session.poll_ciphertext()));
        }
        if !self.writing && !self.writes.is_empty() {
            ring.write(token, &self.socket, &mut self.writes);
            self.writing = true;
        }
    }
}

/// Only a redirect leads to RTSPS from an input that is not of it.
const NOT_AN_INPUT_OF_RTSPS: &str =
    "it is reached by a redirect to RTSPS, where nothing says whom to trust: give its rtsps URL";
