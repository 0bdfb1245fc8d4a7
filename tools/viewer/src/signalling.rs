//! One WebSocket to the server, non-blocking: TCP connect, upgrade, frames. What the messages mean is `message.rs` and `session.rs`.
//!
//! Register [`Signalling::fd`] for [`Signalling::interest`], call [`Signalling::handle_ready`] when it is ready.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use socket2::{Domain, Socket, Type};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::MidHandshake;
use tungstenite::handshake::client::{ClientHandshake, Request};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Bytes, Error, HandshakeError, Message, Utf8Bytes, WebSocket};

/// A WebSocket on its way from connecting to closed.
pub struct Signalling {
    state: State,
    server: SocketAddr,
    /// The socket did not take all that was written.
    unsent: bool,
}

/// What came.
#[derive(Debug)]
pub enum Incoming {
    /// A text frame.
    Text(Utf8Bytes),
    /// A binary frame.
    Binary(Bytes),
}

enum State {
    /// The TCP connection is not made yet.
    Connecting(TcpStream, Box<Request>),
    /// The upgrade is under way.
    Upgrading(Box<MidHandshake<ClientHandshake<TcpStream>>>),
    /// Frames flow.
    Open(Box<WebSocket<TcpStream>>),
    /// Over.
    Closed,
}

impl Signalling {
    /// Begins to connect, from `source` if given. `url` is `ws://…`.
    ///
    /// # Errors
    /// When no socket can be had or the URL or authorization is malformed.
    pub fn connect(
        server: SocketAddr,
        source: Option<IpAddr>,
        url: &str,
        authorization: Option<&str>,
    ) -> io::Result<Self> {
        let mut request = url.into_client_request().map_err(io::Error::other)?;
        if let Some(value) = authorization {
            request.headers_mut().insert("authorization", value.parse().map_err(io::Error::other)?);
        }
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => return Err(error),
            _ => {}
        }
        let state = State::Connecting(socket.into(), Box::new(request));
        Ok(Self { state, server, unsent: false })
    }

    /// The server's address.
    pub fn peer(&self) -> SocketAddr {
        self.server
    }

    /// The socket; the same one until it is closed.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Connecting(stream, _) => Some(stream.as_fd()),
            State::Upgrading(handshake) => Some(handshake.get_ref().get_ref().as_fd()),
            State::Open(socket) => Some(socket.get_ref().as_fd()),
            State::Closed => None,
        }
    }

    /// What to wait for.
    pub fn interest(&self) -> EpollFlags {
        match self.state {
            State::Connecting(..) => EpollFlags::EPOLLOUT,
            State::Closed => EpollFlags::empty(),
            _ if self.unsent => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
            _ => EpollFlags::EPOLLIN,
        }
    }

    /// Goes on with whatever was waiting, and gives what came to `sink`.
    ///
    /// # Errors
    /// The end of the connection, as a short cause that is the same for all connections that end so.
    pub fn handle_ready(&mut self, sink: impl FnMut(Incoming)) -> Result<(), String> {
        let result = self.advance(sink);
        if result.is_err() {
            self.state = State::Closed;
        }
        result
    }

    /// Sends a text frame; dropped when the WebSocket is not open.
    pub fn send_text(&mut self, text: String) {
        self.send(Message::text(text));
    }

    /// Sends a binary frame; dropped when the WebSocket is not open.
    pub fn send_binary(&mut self, bytes: Vec<u8>) {
        self.send(Message::binary(bytes));
    }

    /// Sends a close frame.
    pub fn close(&mut self) {
        if let State::Open(socket) = &mut self.state {
            // The connection is dropped next: whether the server got the frame shows on its side.
            let _ = socket.close(None).and_then(|()| socket.flush());
        }
        self.state = State::Closed;
    }

    fn send(&mut self, message: Message) {
        if let State::Open(socket) = &mut self.state {
            // An error shows again at the next read, where it ends the session.
            self.unsent = match socket.send(message) {
                Err(Error::Io(error)) => error.kind() == ErrorKind::WouldBlock,
                _ => false,
            };
        }
    }

    fn advance(&mut self, sink: impl FnMut(Incoming)) -> Result<(), String> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Connecting(stream, request) => {
                connected(&stream)?;
                let handshake = ClientHandshake::start(stream, *request, Some(frame_limits()))
                    .map_err(|error| cause("upgrade", &error))?;
                self.upgrade(handshake, sink)
            }
            State::Upgrading(handshake) => self.upgrade(*handshake, sink),
            State::Open(mut socket) => {
                let result = read_all(&mut socket, sink);
                if self.unsent {
                    self.unsent = matches!(socket.flush(), Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock);
                }
                self.state = State::Open(socket);
                result
            }
            State::Closed => Ok(()),
        }
    }

    fn upgrade(
        &mut self,
        handshake: MidHandshake<ClientHandshake<TcpStream>>,
        sink: impl FnMut(Incoming),
    ) -> Result<(), String> {
        match handshake.handshake() {
            Ok((mut socket, _)) => {
                let result = read_all(&mut socket, sink);
                self.state = State::Open(Box::new(socket));
                result
            }
            Err(HandshakeError::Interrupted(handshake)) => {
                self.state = State::Upgrading(Box::new(handshake));
                Ok(())
            }
            Err(HandshakeError::Failure(error)) => Err(cause("upgrade", &error)),
        }
    }
}

fn connected(stream: &TcpStream) -> Result<(), String> {
    match stream.take_error() {
        Ok(None) => Ok(()),
        Ok(Some(error)) | Err(error) => Err(io_cause("connect", &error)),
    }
}

/// Reads until nothing is left: what the WebSocket has buffered, no poll would tell of.
fn read_all(socket: &mut WebSocket<TcpStream>, mut sink: impl FnMut(Incoming)) -> Result<(), String> {
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => sink(Incoming::Text(text)),
            Ok(Message::Binary(bytes)) => sink(Incoming::Binary(bytes)),
            Ok(Message::Close(frame)) => {
                // The answer to the close frame was queued by the read; a peer that is gone needs none.
                let _ = socket.flush();
                let code = frame.map_or(1005, |frame| u16::from(frame.code));
                return Err(format!("websocket: closed by the server with code {code}"));
            }
            Ok(_) => {}
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(cause("websocket", &error)),
        }
    }
}

fn cause(stage: &str, error: &Error) -> String {
    match error {
        Error::Http(response) => format!("{stage}: HTTP status {}", response.status().as_u16()),
        Error::Io(error) => io_cause(stage, error),
        error => format!("{stage}: {error}"),
    }
}

fn io_cause(stage: &str, error: &io::Error) -> String {
    format!("{stage}: {}", error.kind())
}

/// Small buffers, for there are thousands; no frame of the contract is near the limit.
fn frame_limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
}

const READ_BUFFER_BYTES: usize = 8 << 10;

const FRAME_BYTES_MAX: usize = 1 << 20;
