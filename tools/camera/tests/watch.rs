//! Watches real cameras on loopback: by a small client that looks at every byte, and by ffmpeg where it is installed.

#![allow(clippy::unwrap_used, reason = "the functions here are tests, too")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use lanecast_camera::{CameraConfig, Codecs, DemoCamera, Faults, Load, stamp, start, start_demo};
use rtsp_types::{Message, ParseError};

/// Long enough for any machine; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of one camera.
struct Client {
    connection: TcpStream,
    received: Vec<u8>,
    url: String,
    session: String,
    cseq: u32,
}

impl Client {
    fn new(camera: &DemoCamera) -> Self {
        let url = camera.urls()[0].clone();
        let authority = url.strip_prefix("rtsp://").unwrap().split('/').next().unwrap();
        let connection = TcpStream::connect(authority).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { connection, received: Vec::new(), url, session: String::new(), cseq: 0 }
    }

    fn send(&mut self, method: &str, headers: &str) {
        self.cseq += 1;
        let track = if method == "SETUP" { "/trackID=1" } else { "" };
        let (url, cseq, session) = (&self.url, self.cseq, &self.session);
        let request = format!("{method} {url}{track} RTSP/1.0\r\nCSeq: {cseq}\r\n{session}{headers}\r\n");
        self.connection.write_all(request.as_bytes()).unwrap();
    }

    /// The next message, or none if the camera closed the connection.
    fn next(&mut self) -> Option<Message<Vec<u8>>> {
        loop {
            match Message::parse(&self.received) {
                Ok((message, len)) => {
                    self.received.drain(..len);
                    return Some(message);
                }
                Err(ParseError::Incomplete(_)) => {}
                Err(error) => panic!("{error:?}: {:?}", &self.received[..self.received.len().min(200)]),
            }
            let mut buffer = [0; 65_536];
            match self.connection.read(&mut buffer) {
                Ok(0) => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                result => self.received.extend_from_slice(&buffer[..result.unwrap()]),
            }
        }
    }

    /// The reply to a request, media left out.
    fn ask(&mut self, method: &str, headers: &str) -> rtsp_types::Response<Vec<u8>> {
        self.send(method, headers);
        loop {
            if let Message::Response(response) = self.next().unwrap() {
                return response;
            }
        }
    }

    fn set_up(&mut self, transport: &str) -> String {
        let reply = self.ask("SETUP", &format!("Transport: {transport}\r\n"));
        assert_eq!(u16::from(reply.status()), 200);
        let session = reply.header(&rtsp_types::headers::SESSION).unwrap().as_str();
        self.session = format!("Session: {}\r\n", session.split(';').next().unwrap());
        reply.header(&rtsp_types::headers::TRANSPORT).unwrap().as_str().to_owned()
    }

    /// First sequence number and timestamp, as PLAY's reply tells them.
    fn play(&mut self) -> (u16, u32) {
        let reply = self.ask("PLAY", "");
        assert_eq!(u16::from(reply.status()), 200);
        let told = reply.header(&rtsp_types::headers::RTP_INFO).unwrap().as_str();
        let of = |name: &str| told.split(';').find_map(|part| part.strip_prefix(name)).unwrap();
        (of("seq=").parse().unwrap(), of("rtptime=").parse().unwrap())
    }
}

/// 1000 pictures a second, so that the loop's end is near.
fn fast(faults: Faults) -> CameraConfig {
    CameraConfig { fps_milli: 1_000_000, stamp: true, faults, ..CameraConfig::default() }
}

/// Follows RTP packets from what RTP-Info told.
struct Follower {
    sequence: u16,
    rtp_timestamp: u32,
    step: u32,
    access_units: u64,
    stamped_ns: u64,
}

impl Follower {
    /// `step` is the frame interval in 90 kHz units.
    fn new((sequence, rtp_timestamp): (u16, u32), step: u32) -> Self {
        Self { sequence, rtp_timestamp, step, access_units: 0, stamped_ns: 0 }
    }

    fn follow(&mut self, packet: &[u8]) {
        assert_eq!(packet[0], 0x80);
        assert_eq!(packet[2..4], self.sequence.to_be_bytes());
        assert_eq!(packet[4..8], self.rtp_timestamp.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        if let Some(at) = packet.windows(16).position(|window| window == stamp::UUID) {
            let (number, ns) = read_stamp(&packet[at + 16..]);
            assert_eq!(number, self.access_units);
            assert!(ns > self.stamped_ns && ns <= stamp::monotonic_ns());
            self.stamped_ns = ns;
        }
        if packet[1] & 0x80 != 0 {
            assert!(self.stamped_ns > 0, "every access unit has its stamp before its end");
            self.rtp_timestamp = self.rtp_timestamp.wrapping_add(self.step);
            self.access_units += 1;
        }
    }
}

/// Undoes emulation prevention and reads both numbers.
fn read_stamp(escaped: &[u8]) -> (u64, u64) {
    let mut payload = Vec::new();
    let mut zeros = 0;
    for &byte in escaped {
        if zeros == 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        payload.push(byte);
    }
    let number = |at: usize| u64::from_be_bytes(payload[at..at + 8].try_into().unwrap());
    (number(0), number(8))
}

#[test]
fn over_tcp_the_loop_has_no_seam() {
    let camera = start(fast(Faults::default())).unwrap();
    let mut client = Client::new(&camera);
    assert!(client.set_up("RTP/AVP/TCP;unicast;interleaved=0-1").contains("interleaved=0-1"));
    let mut follower = Follower::new(client.play(), 90);
    let mut reports = 0;
    while follower.access_units < 600 {
        let Some(Message::Data(data)) = client.next() else { panic!("only media is due") };
        match data.channel_id() {
            0 => follower.follow(data.as_slice()),
            _ => reports += 1,
        }
    }
    assert!(reports >= 1);
    assert_eq!(u16::from(client.ask("TEARDOWN", "").status()), 200);
}

#[test]
fn over_udp_the_loop_has_no_seam() {
    // Slower than over TCP: nothing waits for a receiver that is not run for a while.
    let camera = start(CameraConfig { fps_milli: 250_000, ..fast(Faults::default()) }).unwrap();
    let mut client = Client::new(&camera);
    let media = UdpSocket::bind("127.0.0.1:0").unwrap();
    media.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = media.local_addr().unwrap().port();
    let transport = client.set_up(&format!("RTP/AVP;unicast;client_port={port}-{}", u32::from(port) + 1));
    let server_port = transport.split("server_port=").nth(1).unwrap().split('-').next().unwrap();
    let mut follower = Follower::new(client.play(), 360);
    let mut packet = [0; 2048];
    while follower.access_units < 300 {
        let (len, from) = media.recv_from(&mut packet).unwrap();
        assert_eq!(from.port().to_string(), server_port);
        follower.follow(&packet[..len]);
    }
}

#[test]
fn media_may_come_before_the_reply_to_play() {
    let camera = start(fast(Faults { media_before_play_reply: true, ..Faults::default() })).unwrap();
    let mut client = Client::new(&camera);
    client.set_up("RTP/AVP/TCP;unicast;interleaved=0-1");
    client.send("PLAY", "");
    assert!(matches!(client.next(), Some(Message::Data(_))));
}

#[test]
fn a_session_without_requests_expires() {
    let session_timeout = Some(Duration::from_millis(300));
    let camera = start(fast(Faults { session_timeout, ..Faults::default() })).unwrap();
    let mut client = Client::new(&camera);
    client.set_up("RTP/AVP/TCP;unicast;interleaved=0-1");
    client.play();
    while client.next().is_some() {}
}

#[test]
fn a_camera_that_drops_its_connections_takes_new_ones() {
    let drop_every = Some(Duration::from_millis(100));
    let camera = start(fast(Faults { drop_every, ..Faults::default() })).unwrap();
    for _ in 0..2 {
        let mut client = Client::new(&camera);
        while client.next().is_some() {}
    }
}

#[test]
fn a_silent_camera_still_answers() {
    let silence_after = Some(Duration::from_millis(50));
    let camera = start(fast(Faults { silence_after, ..Faults::default() })).unwrap();
    let mut client = Client::new(&camera);
    client.set_up("RTP/AVP/TCP;unicast;interleaved=0-1");
    let mut follower = Follower::new(client.play(), 90);
    while follower.access_units < 50 {
        let Some(Message::Data(data)) = client.next() else { panic!("50 pictures are due") };
        if data.channel_id() == 0 {
            follower.follow(data.as_slice());
        }
    }
    client.send("GET_PARAMETER", "");
    assert!(matches!(client.next(), Some(Message::Response(_))), "no 51st picture");
}

#[test]
fn what_is_no_rtsp_ends_only_its_connection() {
    let camera = start(CameraConfig::default()).unwrap();
    let mut hostile = Client::new(&camera);
    hostile.connection.write_all(b"\x16\x03\x01 hello\r\n\r\n").unwrap();
    hostile.connection.shutdown(Shutdown::Write).unwrap();
    while hostile.next().is_some() {}
    assert_eq!(u16::from(Client::new(&camera).ask("OPTIONS", "").status()), 200);
}

#[test]
fn the_demo_serves_both_codecs_and_stops_when_dropped() {
    let camera = start_demo("127.0.0.1:0".parse().unwrap()).unwrap();
    let urls = camera.urls();
    assert!(urls[0].ends_with("/cam0") && urls[1].ends_with("/cam1"));
    let sdp = |url: &str| -> String {
        let mut client = Client::new(&camera);
        client.url = url.to_owned();
        String::from_utf8(client.ask("DESCRIBE", "").into_body()).unwrap()
    };
    assert!(sdp(&urls[0]).contains("H264/90000"));
    assert!(sdp(&urls[1]).contains("H265/90000"));
    let mut client = Client::new(&camera);
    drop(camera);
    assert!(client.next().is_none());
}

/// Plays `pictures` of every mount point with ffmpeg; its complaints.
fn ffmpeg(config: CameraConfig, transport: &str, pictures: u32) -> String {
    let camera = start(config).unwrap();
    let mut complaints = String::new();
    for url in camera.urls() {
        let output = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "warning", "-rtsp_transport", transport, "-i", &url])
            .args([
                "-frames:v",
                &pictures.to_string(),
                "-fps_mode",
                "passthrough",
                "-enc_time_base",
                "1:90000",
                "-f",
                "null",
                "-",
            ])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        complaints.push_str(&String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            complaints.push_str("ffmpeg failed");
        }
    }
    complaints
}

#[test]
fn ffmpeg_decodes_every_kind_of_camera_without_a_word() {
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        eprintln!("ffmpeg is not installed: nothing tested");
        return;
    }
    let both = CameraConfig {
        names: CameraConfig::numbered_names(2),
        codecs: Codecs::Both,
        fps_milli: 250_000,
        ..CameraConfig::default()
    };
    let heavy = Load {
        bitrate: Some(100_000_000),
        gop_seconds: Some(1),
        idr_bytes: Some(300_000),
        ..Load::default()
    };
    let resizing = Faults { change_resolution_every: Some(Duration::from_secs(1)), ..Faults::default() };
    for (config, transport, pictures) in [
        (both.clone(), "tcp", 260),
        (both.clone(), "udp", 260),
        (CameraConfig { stamp: true, aggregate: false, ..both.clone() }, "tcp", 120),
        (CameraConfig { load: heavy, stamp: true, ..both.clone() }, "tcp", 260),
        (CameraConfig { faults: resizing, ..both.clone() }, "tcp", 260),
    ] {
        assert_eq!(ffmpeg(config.clone(), transport, pictures), "", "{transport} {config:?}");
    }
}
