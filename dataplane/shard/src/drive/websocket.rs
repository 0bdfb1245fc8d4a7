//! One WebSocket, server side: `tungstenite` over memory, the ring's writes, and a bounded queue.
//!
//! RTP frames are not made here per viewer: [`frame_run`] makes them once for all viewers that are in step.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use bytes::{BufMut, Bytes, BytesMut};
use lanecast_net::{Ring, Socket};
use lanecast_packet::Run;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

/// What a client may say at once: control messages are a few dozen bytes.
const MAX_MESSAGE_BYTES: usize = 4 << 10;
/// Receive buffer of a viewer: a ping is some 30 bytes; longer messages take more receives.
const RECEIVE_BYTES: usize = 256;
/// Room that signalling has beyond the bound of media. A client that reads nothing is told less; its ping timeout or the
/// kernel ends it.
const SIGNALLING_BYTES: usize = 64 << 10;

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A text frame.
    Text(String),
    /// A binary frame.
    Binary,
    /// A ping; its pong is queued.
    Ping,
    /// A close frame; the answer to it is queued.
    Closed,
    /// The client breaks the protocol: how.
    Gone(String),
}

/// The server's end.
#[derive(Debug)]
pub(crate) struct WebSocket {
    context: WebSocketContext,
    socket: Socket,
    token: u64,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    max_media_bytes: usize,
    writing: bool,
    closing: bool,
}

impl WebSocket {
    /// Takes an upgraded connection; `buffered` was read behind the request. Media is refused once `max_media_bytes`
    /// are queued.
    pub(crate) fn new(
        ring: &mut Ring,
        token: u64,
        socket: Socket,
        buffered: &Bytes,
        max_media_bytes: usize,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(RECEIVE_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let context = WebSocketContext::from_partially_read(buffered.to_vec(), Role::Server, Some(config));
        ring.receive(token, &socket, BytesMut::with_capacity(RECEIVE_BYTES));
        Self {
            context,
            socket,
            token,
            queue: VecDeque::new(),
            queued_bytes: 0,
            max_media_bytes,
            writing: false,
            closing: false,
        }
    }

    /// Bytes came: what they say, one call for each until `None`.
    pub(crate) fn hear(&mut self, received: &mut BytesMut) -> Option<Heard> {
        let mut pipe = Pipe { received, sent: Vec::new() };
        let heard = loop {
            break match self.context.read(&mut pipe) {
                Ok(Message::Text(text)) => Some(Heard::Text(text.as_str().to_owned())),
                Ok(Message::Binary(_)) => Some(Heard::Binary),
                Ok(Message::Ping(_)) => Some(Heard::Ping),
                Ok(Message::Pong(_) | Message::Frame(_)) => continue,
                Ok(Message::Close(_)) => Some(Heard::Closed),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
                Err(error) => Some(Heard::Gone(format!("the client's WebSocket broke: {error}"))),
            };
        };
        // Answers that the protocol owes (pong, close) are made while reading or flushing.
        let closed = heard == Some(Heard::Closed);
        if self.context.flush(&mut pipe).is_err() && heard.is_none() {
            return Some(Heard::Gone("the client's WebSocket broke".into()));
        }
        let sent = pipe.sent;
        self.queue_signalling(sent.into());
        self.closing |= closed;
        heard
    }

    /// Receives on into `buffer`.
    pub(crate) fn receive(&mut self, ring: &mut Ring, mut buffer: BytesMut) {
        if buffer.capacity() == buffer.len() {
            buffer.reserve(RECEIVE_BYTES);
        }
        ring.receive(self.token, &self.socket, buffer);
    }

    /// Queues a text frame.
    pub(crate) fn text(&mut self, text: String) {
        self.message(Message::text(text));
    }

    /// Queues a close frame; after it is written the connection ends.
    pub(crate) fn close(&mut self, code: u16, reason: &str) {
        let mut reason = reason.to_owned();
        // A control frame holds 125 bytes (RFC 6455 section 5.5).
        reason.truncate(reason.floor_char_boundary(120));
        self.message(Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: reason.into() })));
        self.closing = true;
    }

    /// Queues media frames; false if the queue is full. An access unit is begun only while a quarter of the queue is free,
    /// so that one that is begun is not cut, unless it is larger than that quarter.
    pub(crate) fn media(&mut self, frames: &Bytes, starts_access_unit: bool) -> bool {
        let room = self.has_room(frames.len(), starts_access_unit);
        if room {
            self.push(frames.clone());
        }
        room
    }

    /// Whether [`WebSocket::media`] takes frames of so many bytes.
    pub(crate) fn has_room(&self, bytes: usize, starts_access_unit: bool) -> bool {
        let kept_free = if starts_access_unit { self.max_media_bytes / 4 } else { 0 };
        self.queued_bytes + bytes + kept_free <= self.max_media_bytes
    }

    /// Starts the next write if none is under way; true once all is written and the connection was to close.
    pub(crate) fn write_on(&mut self, ring: &mut Ring) -> bool {
        if self.writing {
            return false;
        }
        if self.queue.is_empty() {
            return self.closing;
        }
        ring.write(self.token, &self.socket, &mut self.queue);
        self.writing = true;
        false
    }

    /// A write ended.
    pub(crate) fn on_written(&mut self, written: usize) {
        self.writing = false;
        self.queued_bytes = self.queued_bytes.saturating_sub(written);
    }

    /// Ends the connection now.
    pub(crate) fn shut(&self, ring: &mut Ring) {
        self.socket.shutdown();
        ring.cancel_all(&self.socket);
    }

    fn message(&mut self, message: Message) {
        let mut pipe = Pipe { received: &mut BytesMut::new(), sent: Vec::new() };
        // Writing to memory fails only after a close was sent, when nothing more is to be said.
        let _ = self.context.write(&mut pipe, message);
        let _ = self.context.flush(&mut pipe);
        let sent = pipe.sent;
        self.queue_signalling(sent.into());
    }

    fn queue_signalling(&mut self, bytes: Bytes) {
        if !bytes.is_empty() && self.queued_bytes + bytes.len() <= self.max_media_bytes + SIGNALLING_BYTES {
            self.push(bytes);
        }
    }

    fn push(&mut self, bytes: Bytes) {
        self.queued_bytes += bytes.len();
        self.queue.push_back(bytes);
    }
}

/// What [`frame_run`] makes of a run takes at the most.
pub(crate) fn framed_bytes(run: &Run) -> usize {
    const MAX_HEADER: usize = 4;
    run.bytes().len() + MAX_HEADER * usize::from(run.packets())
}

/// Each packet of a run in one binary frame, unmasked as a server's are (RFC 6455 section 5.2), in one piece.
pub(crate) fn frame_run(run: &Run) -> Bytes {
    let mut frames = BytesMut::with_capacity(framed_bytes(run));
    for packet in run.bytes().chunks(usize::from(run.segment_bytes())) {
        frames.put_u8(0x82);
        if packet.len() < 126 {
            frames.put_u8(packet.len() as u8);
        } else {
            frames.put_u8(126);
            frames.put_u16(packet.len() as u16);
        }
        frames.put_slice(packet);
    }
    frames.freeze()
}

/// Memory that `tungstenite` reads from and writes to.
struct Pipe<'a> {
    received: &'a mut BytesMut,
    sent: Vec<u8>,
}

impl Read for Pipe<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.received.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes = into.len().min(self.received.len());
        into[..bytes].copy_from_slice(&self.received.split_to(bytes));
        Ok(bytes)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.sent.extend_from_slice(from);
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    use lanecast_net::{Waker, bind_udp};

    use super::*;

    const MEDIA_BYTES: usize = 10_000;

    fn websocket() -> (Ring, WebSocket, TcpStream) {
        let udp = bind_udp("[::]:0".parse().unwrap()).unwrap();
        let mut ring = Ring::new(Waker::new().unwrap(), udp, 0).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let socket = Socket::from(OwnedFd::from(server));
        let websocket = WebSocket::new(&mut ring, 1, socket, &Bytes::new(), MEDIA_BYTES);
        (ring, websocket, client)
    }

    /// A client's frame, masked with zeros.
    fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        [&[0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
    }

    #[test]
    fn an_access_unit_that_is_begun_finds_room_for_the_rest_of_it() {
        let (_ring, mut websocket, _client) = websocket();
        let frames = Bytes::from(vec![0; MEDIA_BYTES / 8]);
        let mut begun = 0;
        while websocket.media(&frames, true) {
            begun += 1;
            assert!(websocket.media(&frames, false), "the rest of access unit {begun}");
        }
        assert_eq!(begun, 3);
    }

    #[test]
    fn what_a_client_that_reads_nothing_makes_wait_is_bounded() {
        let (_ring, mut websocket, _client) = websocket();
        let frames = Bytes::from(vec![0; 3000]);
        let taken = (0..100).filter(|_| websocket.media(&frames, false)).count();
        assert_eq!(taken, 3);
        for _ in 0..100_000 {
            let mut pings = BytesMut::from(&frame(9, b"are you there?")[..]);
            assert_eq!(websocket.hear(&mut pings), Some(Heard::Ping));
            websocket.text("a state".into());
        }
        assert!(websocket.queued_bytes <= MEDIA_BYTES + SIGNALLING_BYTES);
        assert_eq!(websocket.queued_bytes, websocket.queue.iter().map(Bytes::len).sum::<usize>());
    }

    #[test]
    fn what_stands_behind_a_pong_is_heard_and_a_close_is_answered_before_the_end() {
        let (mut ring, mut websocket, _client) = websocket();
        let mut received = BytesMut::from(&[frame(10, b""), frame(1, b"hello"), frame(8, b"")].concat()[..]);
        assert_eq!(websocket.hear(&mut received), Some(Heard::Text("hello".into())));
        assert_eq!(websocket.hear(&mut received), Some(Heard::Closed));
        assert_eq!(websocket.queue.iter().map(|bytes| bytes[0]).collect::<Vec<_>>(), [0x88]);
        assert!(!websocket.write_on(&mut ring), "the answer first");
        websocket.on_written(websocket.queued_bytes);
        assert!(websocket.write_on(&mut ring), "then the end");
    }
}
