//! A camera's sockets ⇄ its `Source`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use lanecast_net::{Ring, Socket, bind_udp_pair};
use lanecast_relay::source::{Source, SourceConfig};

use crate::token::{Owner, Token};

/// Receive buffer of a camera: a quarter of a second of 4 Mb/s; grows with one access unit under way, not more.
const RECEIVE_BYTES: usize = 128 << 10;
/// A receive into less than this costs more in calls than a new buffer.
const MIN_RECEIVE_BYTES: usize = 16 << 10;
/// What may wait to be written to a camera: a dialogue is a few KB, more is a camera that does not read.
const MAX_WRITE_BACKLOG: usize = 256;

/// A source and its sockets.
#[derive(Debug)]
pub(crate) struct Camera {
    pub(crate) source: Source,
    slot: usize,
    epoch: u32,
    connection: Option<Connection>,
    udp: Option<UdpPair>,
    bytes_received: u64,
    connects: u64,
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    received: BytesMut,
    /// The receive buffer before this one: free again once its packets are through.
    previous: BytesMut,
    writes: VecDeque<Bytes>,
    writing: bool,
    closing: bool,
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
        Self { source, slot, epoch: seed as u32, connection: None, udp: None, bytes_received: 0, connects: 0 }
    }

    /// Bytes of all its sockets.
    pub(crate) fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Connects so far.
    pub(crate) fn connects(&self) -> u64 {
        self.connects
    }

    /// True if a completion is of the connection in use and not of one before.
    pub(crate) fn owns(&self, token: Token) -> bool {
        token.epoch == self.epoch
    }

    pub(crate) fn connect(&mut self, now: Instant, ring: &mut Ring, to: SocketAddr) {
        self.disconnect(ring);
        self.connects += 1;
        match Socket::tcp_for(&to) {
            Ok(socket) => {
                ring.connect(self.token(Owner::CameraConnection), &socket, to);
                self.connection = Some(Connection {
                    socket,
                    received: BytesMut::new(),
                    previous: BytesMut::new(),
                    writes: VecDeque::new(),
                    writing: false,
                    closing: false,
                });
            }
            Err(error) => self.source.handle_closed(now, &error.to_string()),
        }
    }

    pub(crate) fn on_connected(&mut self, now: Instant, ring: &mut Ring, result: std::io::Result<()>) {
        let token = self.token(Owner::CameraConnection);
        let Some(connection) = &mut self.connection else { return };
        match result.and_then(|()| connection.socket.local_addr()) {
            Ok(local) => {
                self.source.handle_connected(now, local);
                ring.receive(token, &connection.socket, BytesMut::with_capacity(RECEIVE_BYTES));
            }
            Err(error) => {
                self.close(ring);
                // The source says where to.
                self.source.handle_closed(now, &error.to_string());
            }
        }
    }

    pub(crate) fn on_received(&mut self, now: Instant, mut buffer: BytesMut, result: std::io::Result<usize>) {
        let Some(connection) = &mut self.connection else { return };
        if connection.closing {
            return;
        }
        match result {
            Ok(0) => self.source.handle_closed(now, "the camera closed the connection"),
            Ok(received) => {
                self.bytes_received += received as u64;
                self.source.handle_received(now, &mut buffer);
                // The next receive is started once the packets are through, when their memory is free again.
                connection.received = buffer;
            }
            Err(error) => self.source.handle_closed(now, &format!("the connection broke: {error}")),
        }
    }

    /// After the source's outputs were run: receive on.
    pub(crate) fn receive_on(&mut self, ring: &mut Ring) {
        let token = self.token(Owner::CameraConnection);
        let Some(connection) = &mut self.connection else { return };
        if connection.closing {
            return;
        }
        let mut buffer = std::mem::take(&mut connection.received);
        if buffer.capacity() - buffer.len() < MIN_RECEIVE_BYTES {
            buffer = connection.next_buffer(buffer);
        }
        ring.receive(token, &connection.socket, buffer);
    }

    pub(crate) fn write(&mut self, ring: &mut Ring, bytes: Bytes) {
        let token = self.token(Owner::CameraConnection);
        let Some(connection) = &mut self.connection else { return };
        if connection.writes.len() < MAX_WRITE_BACKLOG {
            connection.writes.push_back(bytes);
        }
        connection.write_on(ring, token);
    }

    pub(crate) fn on_written(&mut self, ring: &mut Ring, result: std::io::Result<usize>) {
        let token = self.token(Owner::CameraConnection);
        let Some(connection) = &mut self.connection else { return };
        connection.writing = false;
        // A broken connection shows at the receive, which says why.
        if result.is_ok() {
            connection.write_on(ring, token);
        }
        if connection.closing && !connection.writing {
            self.close(ring);
        }
    }

    pub(crate) fn open_udp(&mut self, now: Instant, ring: &mut Ring) {
        self.close_udp(ring);
        let Some(local) = self.connection.as_ref().and_then(|connection| connection.socket.local_addr().ok())
        else {
            return self.source.handle_udp_opened(now, Err("the RTSP connection is gone".into()));
        };
        match bind_udp_pair(local.ip()) {
            Ok((rtp, rtcp, port)) => {
                ring.receive_datagrams(self.token(Owner::CameraRtp), &rtp);
                ring.receive_datagrams(self.token(Owner::CameraRtcp), &rtcp);
                self.udp = Some(UdpPair { rtp, rtcp, peer: None });
                self.source.handle_udp_opened(now, Ok(port));
            }
            Err(error) => self.source.handle_udp_opened(now, Err(format!("cannot open UDP ports: {error}"))),
        }
    }

    pub(crate) fn set_udp_peer(&mut self, rtp: SocketAddr, rtcp: SocketAddr) {
        if let Some(udp) = &mut self.udp {
            udp.peer = Some((rtp, rtcp));
        }
    }

    pub(crate) fn send_rtp(&self, ring: &Ring, bytes: &[u8]) {
        if let Some(UdpPair { rtp, peer: Some((to, _)), .. }) = &self.udp {
            // A lost opener or report is repeated by its own timer.
            let _ = ring.send_from(rtp, bytes, *to);
        }
    }

    pub(crate) fn send_rtcp(&self, ring: &Ring, bytes: &[u8]) {
        if let Some(UdpPair { rtcp, peer: Some((_, to)), .. }) = &self.udp {
            // As above.
            let _ = ring.send_from(rtcp, bytes, *to);
        }
    }

    pub(crate) fn on_datagram(&mut self, now: Instant, owner: Owner, from: SocketAddr, bytes: Bytes) {
        if self.udp.is_none() {
            return;
        }
        self.bytes_received += bytes.len() as u64;
        match owner {
            Owner::CameraRtp => self.source.handle_udp_rtp(now, from, bytes),
            _ => self.source.handle_udp_rtcp(now, from, &bytes),
        }
    }

    /// Closes the connection once what waits is written, and the UDP sockets at once.
    pub(crate) fn disconnect(&mut self, ring: &mut Ring) {
        self.close_udp(ring);
        match &mut self.connection {
            Some(connection) if connection.writing && !connection.closing => connection.closing = true,
            Some(_) => self.close(ring),
            None => {}
        }
    }

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
        self.epoch = self.epoch.wrapping_add(1);
    }

    fn token(&self, owner: Owner) -> u64 {
        Token { owner, slot: self.slot, epoch: self.epoch }.pack()
    }
}

impl Connection {
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

    fn write_on(&mut self, ring: &mut Ring, token: u64) {
        if !self.writing && !self.writes.is_empty() {
            ring.write(token, &self.socket, &mut self.writes);
            self.writing = true;
        }
    }
}
