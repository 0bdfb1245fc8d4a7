//! A WSC-RTP viewer's WebSocket, both revisions, to the letter of the wire contract. The client is the tests' own.

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tungstenite::{Error, Message, WebSocket};

use super::{PATIENCE, Packet, Server, Udp};

/// What came over the WebSocket.
#[derive(Clone, Debug)]
pub enum Incoming {
    Json(Value),
    Rtp(Packet),
    /// The close code; `None` when the connection broke without one.
    Closed(Option<u16>),
}

pub struct ViewerOptions {
    /// `force_websocket_transport`; `None`: revision 1.
    pub force_websocket_transport: Option<bool>,
    /// Ping every 2 s, as clients do.
    pub pings: bool,
    /// SO_RCVBUF of the WebSocket in bytes.
    pub receive_buffer: Option<usize>,
}

pub struct Viewer {
    init: Value,
    server: SocketAddr,
    incoming: Receiver<Incoming>,
    commands: Sender<Command>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// What was received but not asked for yet, in order.
    pending: std::cell::RefCell<Vec<Incoming>>,
}

enum Command {
    Send(Message),
    Pause,
    Resume,
    Leave,
}

impl Viewer {
    /// Revision 1: no query.
    pub fn revision_1(server: &Server, path_id: &str) -> Self {
        Self::connect(
            server,
            path_id,
            &ViewerOptions { force_websocket_transport: None, ..Default::default() },
        )
    }

    /// Revision 2 that wants UDP.
    pub fn revision_2(server: &Server, path_id: &str) -> Self {
        Self::connect(
            server,
            path_id,
            &ViewerOptions { force_websocket_transport: Some(false), ..Default::default() },
        )
    }

    /// Revision 2 that wants RTP in binary frames from the start.
    pub fn websocket(server: &Server, path_id: &str) -> Self {
        Self::connect(
            server,
            path_id,
            &ViewerOptions { force_websocket_transport: Some(true), ..Default::default() },
        )
    }

    pub fn connect(server: &Server, path_id: &str, options: &ViewerOptions) -> Self {
        let socket =
            upgrade(server.address(), path_id, options).unwrap_or_else(|e| panic!("no WebSocket: {e}"));
        let (incoming_in, incoming) = channel();
        let (commands, commands_out) = channel();
        let pings = options.pings;
        let thread = std::thread::spawn(move || run(socket, pings, &incoming_in, &commands_out));
        let mut viewer = Self {
            init: Value::Null,
            server: server.address(),
            incoming,
            commands,
            thread: Some(thread),
            pending: Default::default(),
        };
        viewer.init = match viewer.next() {
            Incoming::Json(message) if message["type"] == "init" => message,
            other => panic!("init comes first, not {other:?}"),
        };
        viewer
    }

    pub fn init(&self) -> &Value {
        &self.init
    }

    pub fn token(&self) -> &str {
        self.init["token"].as_str().expect("init has a token")
    }

    /// Where punches go.
    pub fn punch_address(&self) -> SocketAddr {
        let port = self.init["server_port"].as_u64().expect("init has a port");
        SocketAddr::new(self.server.ip(), u16::try_from(port).expect("a port"))
    }

    /// Revision 1: one datagram from `socket`, media to `client_port`.
    pub fn punch(&self, socket: &Udp, client_port: u16) {
        socket.send(self.punch_address(), format!("t5rtp {} {client_port}", self.token()));
    }

    /// Revision 2: the first leg.
    pub fn hello(&self, socket: &Udp) {
        socket.send(self.punch_address(), format!("ws-rtp {}", self.token()));
    }

    /// Revision 2: the third leg.
    pub fn acknowledge(&self, socket: &Udp) {
        socket.send(self.punch_address(), format!("ws-rtp-ack {}", self.token()));
    }

    /// Revision 2, all three legs.
    pub fn shake_hands(&self, socket: &Udp) {
        self.hello(socket);
        let dummies = socket.others(1);
        assert_eq!(dummies[0].1, format!("ws-rtp-dummy {}", self.token()).as_bytes());
        self.acknowledge(socket);
    }

    pub fn send_text(&self, text: &str) {
        self.send(Message::text(text));
    }

    pub fn send(&self, message: Message) {
        self.commands.send(Command::Send(message)).expect("the viewer's thread runs");
    }

    /// Reads no more, but goes on pinging.
    pub fn stop_reading(&self) {
        self.commands.send(Command::Pause).expect("the viewer's thread runs");
    }

    pub fn read_again(&self) {
        self.commands.send(Command::Resume).expect("the viewer's thread runs");
    }

    /// Waits for the next message of this type; others stay for later.
    pub fn message(&self, kind: &str) -> Value {
        self.when(&format!("a message of type {kind}"), |incoming| match incoming {
            Incoming::Json(message) if message["type"] == kind => Some(message.clone()),
            _ => None,
        })
    }

    /// Waits for the next session description.
    pub fn sdp(&self) -> String {
        self.message("sdp")["sdp"].as_str().expect("sdp is text").to_owned()
    }

    /// Waits for the close frame and gives its code.
    pub fn close_code(&self) -> Option<u16> {
        self.when("the close", |incoming| match incoming {
            Incoming::Closed(code) => Some(*code),
            _ => None,
        })
    }

    /// Takes the next `count` RTP packets that came in binary frames.
    pub fn rtp(&self, count: usize) -> Vec<Packet> {
        (0..count).map(|n| self.when(&format!("RTP packet {n} of {count} in a binary frame"), rtp)).collect()
    }

    /// Takes the RTP packets up to the one that `enough` says of all so far.
    pub fn rtp_until(&self, what: &str, mut enough: impl FnMut(&[Packet]) -> bool) -> Vec<Packet> {
        let deadline = Instant::now() + PATIENCE;
        let mut packets = vec![];
        while !enough(&packets) {
            assert!(Instant::now() < deadline, "never came in binary frames: {what}");
            packets.push(self.when(what, rtp));
        }
        packets
    }

    /// Whatever has come by now and was not taken yet.
    pub fn seen(&self) -> Vec<Incoming> {
        let mut pending = self.pending.borrow_mut();
        pending.extend(self.incoming.try_iter());
        pending.clone()
    }

    pub fn is_open(&self) -> bool {
        !self.seen().iter().any(|incoming| matches!(incoming, Incoming::Closed(_)))
    }

    fn next(&self) -> Incoming {
        self.when("any message", |incoming| Some(incoming.clone()))
    }

    fn when<T>(&self, what: &str, pick: impl Fn(&Incoming) -> Option<T>) -> T {
        let mut pending = self.pending.borrow_mut();
        if let Some((index, found)) = pending.iter().enumerate().find_map(|(i, one)| Some((i, pick(one)?))) {
            pending.remove(index);
            return found;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.incoming.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(one) => match pick(&one) {
                    Some(found) => return found,
                    None => pending.push(one),
                },
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("never came over the WebSocket: {what}; came: {}", summary(&pending));
                }
            }
        }
    }
}

impl Default for ViewerOptions {
    fn default() -> Self {
        Self { force_websocket_transport: Some(false), pings: true, receive_buffer: None }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Leave);
        let _ = self.thread.take().expect("joined once").join();
    }
}

fn rtp(incoming: &Incoming) -> Option<Packet> {
    match incoming {
        Incoming::Rtp(packet) => Some(packet.clone()),
        _ => None,
    }
}

fn summary(pending: &[Incoming]) -> String {
    let rtp = pending.iter().filter(|one| matches!(one, Incoming::Rtp(_))).count();
    let rest: Vec<_> = pending.iter().filter(|one| !matches!(one, Incoming::Rtp(_))).collect();
    format!("{rtp} RTP packets and {rest:?}")
}

fn upgrade(
    server: SocketAddr,
    path_id: &str,
    options: &ViewerOptions,
) -> Result<WebSocket<TcpStream>, String> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).expect("a socket");
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(bytes).expect("a receive buffer");
    }
    socket.connect(&server.into()).map_err(|e| e.to_string())?;
    let query = match options.force_websocket_transport {
        Some(forced) => format!("?force_websocket_transport={forced}"),
        None => String::new(),
    };
    let url = format!("ws://{server}/streams/{path_id}/wsc-rtp{query}");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (socket, _) = tungstenite::client(url, stream).map_err(|e| e.to_string())?;
    Ok(socket)
}

/// How long one read may hold up a command to the viewer.
const TURN: Duration = Duration::from_millis(20);
/// Clients ping every 2–3 s.
const PING_INTERVAL: Duration = Duration::from_secs(2);

fn run(
    mut socket: WebSocket<TcpStream>,
    pings: bool,
    incoming: &Sender<Incoming>,
    commands: &Receiver<Command>,
) {
    socket.get_ref().set_read_timeout(Some(TURN)).expect("a timeout");
    let mut next_ping = Instant::now() + PING_INTERVAL;
    let mut reading = true;
    loop {
        match commands.try_recv() {
            Ok(Command::Send(message)) => drop(socket.send(message)),
            Ok(Command::Pause) => reading = false,
            Ok(Command::Resume) => reading = true,
            Err(TryRecvError::Empty) => {}
            Ok(Command::Leave) | Err(TryRecvError::Disconnected) => return,
        }
        if pings && Instant::now() >= next_ping {
            next_ping += PING_INTERVAL;
            let _ = socket.send(Message::text(r#"{"type":"ping"}"#));
        }
        if !reading {
            std::thread::sleep(TURN);
            continue;
        }
        let one = match socket.read() {
            Ok(Message::Text(text)) => {
                Incoming::Json(serde_json::from_str(&text).expect("text frames are JSON"))
            }
            Ok(Message::Binary(bytes)) => Incoming::Rtp(Packet { at: Instant::now(), bytes: bytes.to_vec() }),
            Ok(Message::Close(frame)) => Incoming::Closed(frame.map(|frame| frame.code.into())),
            Ok(_) => continue,
            Err(Error::Io(e))
                if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                continue;
            }
            Err(_) => Incoming::Closed(None),
        };
        let closed = matches!(one, Incoming::Closed(_));
        if incoming.send(one).is_err() || closed {
            let _ = socket.flush();
            return;
        }
    }
}
