//! A WHEP server on str0m, a WebRTC stack that shares nothing with the viewers': a thread a session, a UDP socket each.
//!
//! It plays a clip faster than life, stamps its access units, and has faults by flag.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use lanecast_viewer::clock::Moment;
use lanecast_viewer::stamp;
use str0m::change::{SdpAnswer, SdpOffer};
use str0m::media::{Direction, MediaKind, MediaTime, Mid};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

/// What the server is, and what it gets wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traits {
    /// Plays H.265.
    pub h265: bool,
    /// Does full ICE.
    pub full_ice: bool,
    /// Leaves out every so many media packets.
    pub drop_every: Option<u64>,
    /// Sends nothing again.
    pub deaf: bool,
    /// Sends every media packet twice.
    pub repeats: bool,
}

/// A running server. It lives as long as the test's process.
pub struct FakeWhep {
    http: SocketAddr,
    deleted: Arc<AtomicU64>,
}

impl FakeWhep {
    /// Starts it on ports of its own.
    pub fn start(traits: Traits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let http = listener.local_addr().expect("an address");
        let deleted = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&deleted);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let count = Arc::clone(&count);
                thread::spawn(move || serve(&stream.expect("a connection"), traits, &count));
            }
        });
        Self { http, deleted }
    }

    /// The WHEP endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/cam/whep", self.http)
    }

    /// Sessions that were ended by DELETE.
    pub fn deleted(&self) -> u64 {
        self.deleted.load(Relaxed)
    }
}

fn serve(stream: &TcpStream, traits: Traits, deleted: &AtomicU64) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).expect("a request") == 0 {
            return;
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
    reader.read_exact(&mut body).expect("a body");
    let offer = String::from_utf8(body).expect("text");
    let reply = match head.split(' ').next() {
        Some("POST") if head.starts_with("POST /cam/whep ") && lower.contains("application/sdp") => {
            let answer = begin_session(&offer, traits);
            ("201 Created", "Location: /cam/whep/1\r\nContent-Type: application/sdp\r\n", answer)
        }
        Some("DELETE") if head.starts_with("DELETE /cam/whep/1 ") => {
            deleted.fetch_add(1, Relaxed);
            ("200 OK", "", String::new())
        }
        _ => ("404 Not Found", "", r#"{"error":"unknown_stream"}"#.to_owned()),
    };
    let (status, headers, body) = reply;
    let text = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    (&*stream).write_all(text.as_bytes()).expect("a viewer that listens");
}

fn begin_session(offer: &str, traits: Traits) -> String {
    let (mut rtc, socket) = new_peer(traits);
    let offer = SdpOffer::from_sdp_string(offer).expect("an offer");
    let answer = rtc.sdp_api().accept_offer(offer).expect("an acceptable offer");
    thread::spawn(move || Session::new(rtc, socket, traits, None).run());
    answer.to_sdp_string()
}

/// An offer of the server's, and what takes the answer to it and begins the session.
pub fn offer_session(traits: Traits) -> (String, impl FnOnce(&str)) {
    let (mut rtc, socket) = new_peer(traits);
    let mut changes = rtc.sdp_api();
    let mid = changes.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
    let (offer, pending) = changes.apply().expect("an offer");
    let begin = move |answer: &str| {
        let answer = SdpAnswer::from_sdp_string(answer).expect("an answer");
        rtc.sdp_api().accept_answer(pending, answer).expect("an acceptable answer");
        thread::spawn(move || Session::new(rtc, socket, traits, Some(mid)).run());
    };
    (offer.to_sdp_string(), begin)
}

fn new_peer(traits: Traits) -> (Rtc, UdpSocket) {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| str0m::crypto::from_feature_flags().install_process_default());
    let mut rtc = RtcConfig::new()
        .clear_codecs()
        .enable_h264(!traits.h265)
        .enable_h265(traits.h265)
        .set_ice_lite(!traits.full_ice)
        .set_send_buffer_video(2000)
        .build(Instant::now());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let candidate = Candidate::host(socket.local_addr().expect("an address"), "udp").expect("a candidate");
    rtc.add_local_candidate(candidate);
    (rtc, socket)
}

struct Session {
    rtc: Rtc,
    socket: UdpSocket,
    traits: Traits,
    clip: Vec<Vec<u8>>,
    mid: Option<Mid>,
    next_unit: Option<Instant>,
    /// Units sent, and where in the clip the next is.
    units: u64,
    place: usize,
    media: u64,
}

impl Session {
    fn new(rtc: Rtc, socket: UdpSocket, traits: Traits, mid: Option<Mid>) -> Self {
        let clip = access_units(traits.h265);
        Self { rtc, socket, traits, clip, mid, next_unit: None, units: 0, place: 0, media: 0 }
    }

    /// Until the viewer leaves.
    fn run(mut self) {
        let mut buffer = vec![0; 2000];
        let begin = Instant::now();
        while self.rtc.is_alive() && begin.elapsed() < SESSION_MAX {
            let Some(timeout) = self.drain() else { return };
            let now = Instant::now();
            if self.next_unit.is_some_and(|next| next <= now) {
                self.send_unit(now);
                continue;
            }
            let until = self.next_unit.map_or(timeout, |next| next.min(timeout));
            let wait = until.saturating_duration_since(now).max(Duration::from_micros(100));
            self.socket.set_read_timeout(Some(wait)).expect("a timeout");
            let input = match self.socket.recv_from(&mut buffer) {
                Ok((len, source)) => {
                    let destination = self.socket.local_addr().expect("an address");
                    let Ok(contents) = buffer[..len].try_into() else { continue };
                    Input::Receive(
                        Instant::now(),
                        Receive { proto: Protocol::Udp, source, destination, contents },
                    )
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    Input::Timeout(Instant::now())
                }
                // The viewer's port is closed.
                Err(_) => return,
            };
            if self.rtc.handle_input(input).is_err() {
                return;
            }
        }
    }

    fn drain(&mut self) -> Option<Instant> {
        loop {
            match self.rtc.poll_output().ok()? {
                Output::Timeout(timeout) => return Some(timeout),
                Output::Transmit(transmit) => self.transmit(&transmit.contents, transmit.destination),
                Output::Event(Event::MediaAdded(media)) => {
                    assert_eq!(media.direction, Direction::SendOnly);
                    self.mid = Some(media.mid);
                }
                Output::Event(Event::Connected) => self.next_unit = Some(Instant::now()),
                Output::Event(Event::KeyframeRequest(_)) => self.place = 0,
                Output::Event(_) => {}
            }
        }
    }

    fn transmit(&mut self, datagram: &[u8], destination: SocketAddr) {
        let is_rtp = (128..=191).contains(&datagram[0]) && !(192..=223).contains(&datagram[1]);
        self.media += u64::from(is_rtp);
        let again = is_rtp && RETRANSMISSIONS.contains(&(datagram[1] & 0x7f));
        let dropped = is_rtp && self.traits.drop_every.is_some_and(|every| self.media.is_multiple_of(every));
        if dropped || again && self.traits.deaf {
            return;
        }
        for _ in 0..=u8::from(is_rtp && self.traits.repeats) {
            // Who has left is noticed elsewhere.
            let _ = self.socket.send_to(datagram, destination);
        }
    }

    fn send_unit(&mut self, now: Instant) {
        self.next_unit = Some(now + UNIT_INTERVAL);
        let Some(writer) = self.mid.and_then(|mid| self.rtc.writer(mid)) else { return };
        let payload_type = writer.payload_params().next().expect("a codec").pt();
        let mut unit = stamp(self.units, self.traits.h265);
        unit.extend(&self.clip[self.place]);
        let time = MediaTime::from_90khz(self.units * 3600);
        writer.write(payload_type, now, time, unit).expect("a unit");
        self.units += 1;
        self.place = (self.place + 1) % self.clip.len();
    }
}

/// The access units of the camera's small picture, by their slices, as each is one slice.
fn access_units(h265: bool) -> Vec<Vec<u8>> {
    let clip: &[u8] = if h265 {
        include_bytes!("../../../camera/assets/small.h265")
    } else {
        include_bytes!("../../../camera/assets/small.h264")
    };
    let is_slice = |header: u8| if h265 { (header >> 1) & 0x3f < 32 } else { matches!(header & 0x1f, 1 | 5) };
    let starts: Vec<_> =
        clip.windows(3).enumerate().filter(|(_, three)| *three == [0, 0, 1]).map(|(at, _)| at).collect();
    let mut units = vec![Vec::new()];
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).map_or(clip.len(), |next| *next);
        let mut nal = &clip[start + 3..end];
        while let [rest @ .., 0] = nal {
            nal = rest;
        }
        let unit = units.last_mut().expect("one at least");
        unit.extend([0, 0, 0, 1]);
        unit.extend(nal);
        if is_slice(nal[0]) {
            units.push(Vec::new());
        }
    }
    units.pop();
    units
}

/// The camera's stamp, as a NAL unit behind a start code.
fn stamp(unit: u64, h265: bool) -> Vec<u8> {
    let mut raw = vec![5, 32];
    raw.extend(stamp::UUID);
    raw.extend(unit.to_be_bytes());
    raw.extend(Moment::now().as_ns().to_be_bytes());
    raw.push(0x80);
    let mut nal = vec![0, 0, 0, 1];
    nal.extend(if h265 { &[0x4e, 1][..] } else { &[0x06] });
    let head = nal.len();
    for byte in raw {
        if byte <= 3 && nal[head..].ends_with(&[0, 0]) {
            nal.push(3);
        }
        nal.push(byte);
    }
    nal
}

/// The payload types that the viewers offer for retransmissions.
const RETRANSMISSIONS: [u8; 4] = [104, 114, 40, 50];

/// Five times as fast as life.
const UNIT_INTERVAL: Duration = Duration::from_millis(8);

/// No test is longer.
const SESSION_MAX: Duration = Duration::from_secs(60);
