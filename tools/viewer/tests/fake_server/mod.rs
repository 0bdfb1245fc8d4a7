//! A server that speaks the contract of wsc-rtp.md to any number of viewers and plays a canned picture to them.
//!
//! It is as small as the viewer's tests allow: a thread a session, one UDP socket, and faults by flag.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lanecast_viewer::clock::Moment;
use lanecast_viewer::stamp;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::http::StatusCode;
use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tungstenite::{Error, Message, WebSocket};

/// What the server gets wrong, or does quicker than the contract so that tests need not wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Leaves out every so many packets.
    pub drop_every: Option<u16>,
    /// Begins with a picture that is no random access point.
    pub starts_mid_group: bool,
    /// Closes with 1001 when no ping came for so long.
    pub ping_timeout: Option<Duration>,
    /// Says something unknown before the first `sdp`.
    pub speaks_early: bool,
    /// Plays H.265.
    pub h265: bool,
    /// Sends every datagram twice.
    pub repeats: bool,
}

/// A running server. It lives as long as the test's process.
pub struct FakeServer {
    http: SocketAddr,
}

impl FakeServer {
    /// Starts it on ports of its own.
    pub fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let http = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            faults,
            udp: UdpSocket::bind("127.0.0.1:0").expect("a port"),
            peers: Mutex::default(),
            sessions: AtomicU64::new(0),
        });
        let punches = Arc::clone(&shared);
        thread::spawn(move || punches.receive_punches());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || Session::serve(&shared, stream.expect("a connection")));
            }
        });
        Self { http }
    }

    /// For `--url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }
}

struct Shared {
    faults: Faults,
    udp: UdpSocket,
    peers: Mutex<HashMap<String, Peer>>,
    sessions: AtomicU64,
}

/// Where a session punched from, and whether RTP may go there.
#[derive(Clone, Copy, Default)]
struct Peer {
    destination: Option<SocketAddr>,
    confirmed: bool,
}

impl Shared {
    fn receive_punches(&self) {
        let mut buffer = [0; 2000];
        while let Ok((len, from)) = self.udp.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            let words: Vec<_> = text.split(' ').collect();
            let mut peers = self.peers.lock().expect("no test panics with it");
            let Some(peer) = words.get(1).and_then(|token| peers.get_mut(*token)) else { continue };
            match words[..] {
                ["t5rtp", _, port] => {
                    let port = port.parse().expect("the client's port");
                    *peer = Peer { destination: Some(SocketAddr::new(from.ip(), port)), confirmed: true };
                }
                ["ws-rtp", token] => {
                    peer.destination = Some(from);
                    let dummy = format!("ws-rtp-dummy {token}");
                    self.udp.send_to(dummy.as_bytes(), from).expect("sent");
                }
                ["ws-rtp-ack", _] => peer.confirmed = peer.destination == Some(from),
                _ => {}
            }
        }
    }
}

struct Session<'a> {
    shared: &'a Shared,
    socket: WebSocket<TcpStream>,
    token: String,
    query: String,
    camera: Camera,
    sdp_version: u32,
    last_ping: Instant,
}

impl<'a> Session<'a> {
    fn serve(shared: &'a Shared, stream: TcpStream) {
        let mut path = String::new();
        let mut query = String::new();
        #[expect(clippy::result_large_err, reason = "the signature is tungstenite's")]
        let route = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            path = request.uri().path().to_owned();
            query = request.uri().query().unwrap_or_default().to_owned();
            if path == "/streams/cam%201/wsc-rtp" || path == "/streams/7/wsc-rtp" {
                return Ok(response);
            }
            let mut refusal = ErrorResponse::new(Some(r#"{"error":"unknown_stream"}"#.to_owned()));
            *refusal.status_mut() = StatusCode::NOT_FOUND;
            Err(refusal)
        };
        let Ok(socket) = tungstenite::accept_hdr(stream, route) else { return };
        socket.get_ref().set_read_timeout(Some(Duration::from_millis(2))).expect("a timeout");
        let number = shared.sessions.fetch_add(1, Ordering::Relaxed);
        let token = format!("00000000-0000-4000-8000-{number:012}");
        shared.peers.lock().expect("no test panics with it").insert(token.clone(), Peer::default());
        let camera = Camera::new(shared.faults);
        let mut session =
            Self { shared, socket, token, query, camera, sdp_version: 0, last_ping: Instant::now() };
        // The viewer's leaving is the end of it.
        let _ = session.run();
    }

    fn run(&mut self) -> Result<(), Error> {
        let port = self.shared.udp.local_addr()?.port();
        let token = &self.token;
        self.say(&format!(
            r#"{{"type":"init","token":"{token}","server_port":{port},"udp_holepunch_required":true,
            "session_id":"{token}","holepunch_port":{port},"active_source":null}}"#
        ))?;
        if self.shared.faults.speaks_early {
            self.say(r#"{"type":"session_mode","live":null}"#)?;
        }
        let revision_2 = self.query.contains("force_websocket_transport=");
        let websocket = self.query.contains("force_websocket_transport=true");
        if revision_2 {
            self.say_sdp(0)?;
        }
        let begin = Instant::now();
        let mut fell_back = websocket;
        loop {
            self.read()?;
            if self.shared.faults.ping_timeout.is_some_and(|timeout| self.last_ping.elapsed() > timeout) {
                let frame = CloseFrame { code: CloseCode::Away, reason: "no ping".into() };
                self.socket.close(Some(frame))?;
                return self.socket.flush();
            }
            let peer = self.shared.peers.lock().expect("no test panics with it")[&self.token];
            match peer.destination.filter(|_| peer.confirmed && !websocket) {
                Some(destination) => {
                    if self.sdp_version == 0 {
                        self.say_sdp(destination.port())?;
                    }
                    self.send_unit(Some(destination))?;
                }
                None if fell_back => self.send_unit(None)?,
                None if revision_2 && begin.elapsed() > NO_ACK_TIMEOUT => {
                    self.say(r#"{"type":"falling_back_rtp_to_ws"}"#)?;
                    fell_back = true;
                }
                None => {}
            }
        }
    }

    fn read(&mut self) -> Result<(), Error> {
        match self.socket.read() {
            Ok(Message::Text(text)) if text.as_str() == r#"{"type":"ping"}"# => {
                self.last_ping = Instant::now();
                self.say(r#"{"type":"pong"}"#)
            }
            Ok(Message::Text(_) | Message::Binary(_)) => self.say(r#"{"type":"error","message":"what?"}"#),
            Ok(_) => Ok(()),
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn say(&mut self, text: &str) -> Result<(), Error> {
        self.socket.send(Message::text(text))
    }

    fn say_sdp(&mut self, port: u16) -> Result<(), Error> {
        self.sdp_version += 1;
        let (version, codec) = (self.sdp_version, if self.shared.faults.h265 { "H265" } else { "H264" });
        let sdp = format!(
            "v=0\r\no=- 7 {version} IN IP4 0.0.0.0\r\ns=lanecast\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
             m=video {port} RTP/AVP 96\r\na=rtpmap:96 {codec}/90000\r\na=sendonly\r\n"
        );
        self.say(&serde_json::json!({"type": "sdp", "sdp": sdp}).to_string())
    }

    fn send_unit(&mut self, destination: Option<SocketAddr>) -> Result<(), Error> {
        for packet in self.camera.next_unit() {
            match destination {
                None => self.socket.send(Message::binary(packet))?,
                Some(destination) => {
                    for _ in 0..=u8::from(self.shared.faults.repeats) {
                        self.shared.udp.send_to(&packet, destination)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A picture that is a random access point every 25 access units.
struct Camera {
    faults: Faults,
    unit: u64,
    sequence_number: u16,
    packets: u16,
}

impl Camera {
    fn new(faults: Faults) -> Self {
        Self { faults, unit: u64::from(faults.starts_mid_group), sequence_number: 65_500, packets: 0 }
    }

    fn next_unit(&mut self) -> Vec<Vec<u8>> {
        let payloads = if self.faults.h265 { self.h265_payloads() } else { self.h264_payloads() };
        let last = payloads.len() - 1;
        let rtp_timestamp = (self.unit as u32).wrapping_mul(3600).wrapping_sub(7200);
        self.unit += 1;
        let mut packets = Vec::new();
        for (index, payload) in payloads.into_iter().enumerate() {
            let mut packet = vec![0x80, 96 | u8::from(index == last) << 7];
            packet.extend(self.sequence_number.to_be_bytes());
            packet.extend(rtp_timestamp.to_be_bytes());
            packet.extend([1, 2, 3, 4]);
            packet.extend(payload);
            self.sequence_number = self.sequence_number.wrapping_add(1);
            self.packets = self.packets.wrapping_add(1);
            if self.faults.drop_every.is_none_or(|every| !self.packets.is_multiple_of(every)) {
                packets.push(packet);
            }
        }
        packets
    }

    fn h264_payloads(&self) -> Vec<Vec<u8>> {
        let sei = [&[0x06][..], &self.stamp()].concat();
        if self.unit.is_multiple_of(25) {
            let sets = vec![0x78, 0, 4, 0x67, 0x42, 0, 0x1e, 0, 2, 0x68, 0xce];
            let [first, middle, end] = [0x85, 0x05, 0x45].map(|fu| [&[0x7c, fu][..], &[0xaa; 1100]].concat());
            vec![sets, sei, first, middle, end]
        } else {
            vec![sei, [&[0x41][..], &[0xbb; 700]].concat()]
        }
    }

    fn h265_payloads(&self) -> Vec<Vec<u8>> {
        let sei = [&[0x4e, 1][..], &self.stamp()].concat();
        if self.unit.is_multiple_of(25) {
            let sets = vec![0x60, 1, 0, 3, 0x40, 1, 0xc, 0, 3, 0x42, 1, 1, 0, 3, 0x44, 1, 0xc1];
            let [first, end] = [0x93, 0x53].map(|fu| [&[0x62, 1, fu][..], &[0xaa; 1100]].concat());
            vec![sets, sei, first, end]
        } else {
            vec![sei, [&[0x02, 1][..], &[0xbb; 700]].concat()]
        }
    }

    fn stamp(&self) -> Vec<u8> {
        let mut raw = vec![5, 32];
        raw.extend(stamp::UUID);
        raw.extend(self.unit.to_be_bytes());
        raw.extend(Moment::now().as_ns().to_be_bytes());
        raw.push(0x80);
        let mut escaped = Vec::new();
        for byte in raw {
            if byte <= 3 && escaped.ends_with(&[0, 0]) {
                escaped.push(3);
            }
            escaped.push(byte);
        }
        escaped
    }
}

/// 5 s in the contract; the viewer does not care.
const NO_ACK_TIMEOUT: Duration = Duration::from_millis(300);
