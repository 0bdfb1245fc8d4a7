//! A source and cameras that follow a script, in virtual time.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// A source, the cameras of its world by address, and the time.
struct World {
    source: Source,
    now: Instant,
    cameras: HashMap<String, Camera>,
    names: HashMap<String, Vec<&'static str>>,
    /// Who the source is connected to, if to anybody.
    connected: Option<String>,
    /// Every state with its reason and input, in order.
    states: Vec<(StreamState, Option<String>, Option<usize>)>,
    connects: Vec<(Duration, String)>,
    requests: Vec<String>,
    packets: Vec<u16>,
    stopped: bool,
    started: Instant,
    seq: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Camera {
    /// Nobody is there: a connect is refused.
    #[default]
    Absent,
    /// A connect is never answered.
    Dead,
    /// Plays over TCP.
    Plays,
    /// Takes every transport, sends nothing over UDP.
    UdpIsFiltered,
    /// Redirects to this address.
    Redirects(&'static str),
    /// Answers DESCRIBE with 404.
    HasNoStream,
    /// Answers everything, and sends no media.
    Mute,
}

const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n";

fn input(url: &str) -> Input {
    Input {
        label: url.to_owned(),
        url: Url::parse(url).unwrap(),
        credentials: None,
        priority: 0,
        transport: TransportPreference::Auto,
    }
}

fn config(urls: &[&str]) -> SourceConfig {
    SourceConfig {
        inputs: urls.iter().map(|url| input(url)).collect(),
        restart_interval: None,
        connect_timeout: Duration::from_secs(5),
        reply_timeout: Duration::from_secs(10),
        silence_timeout: Duration::from_secs(8),
    }
}

impl World {
    fn new(config: SourceConfig, cameras: &[(&str, Camera)]) -> Self {
        let now = Instant::now();
        let mut world = Self {
            source: Source::new(now, config, 1),
            now,
            cameras: cameras.iter().map(|(address, camera)| ((*address).to_owned(), *camera)).collect(),
            names: HashMap::new(),
            connected: None,
            states: Vec::new(),
            connects: Vec::new(),
            requests: Vec::new(),
            packets: Vec::new(),
            stopped: false,
            started: now,
            seq: 0,
        };
        world.turn();
        world
    }

    fn camera(&self, address: &str) -> Camera {
        self.cameras.get(address).copied().unwrap_or_default()
    }

    fn turn(&mut self) {
        while let Some(output) = self.source.poll_output() {
            assert!(!self.stopped, "{output:?} after Stopped");
            match output {
                SourceOutput::Connect(address) => {
                    assert_eq!(self.connected, None, "no second connection without Disconnect");
                    let address = address.to_string();
                    self.connects.push((self.now - self.started, address.clone()));
                    self.connected = Some(address.clone());
                    match self.camera(&address) {
                        Camera::Absent => self.source.handle_closed(self.now, "connection refused"),
                        Camera::Dead => {}
                        _ => self.source.handle_connected(self.now, "192.0.2.1:40000".parse().unwrap()),
                    }
                }
                SourceOutput::Resolve { host, port } => {
                    if let Some(addresses) = self.names.get(&host) {
                        let with_port = |ip: &&str| format!("{ip}:{port}").parse().unwrap();
                        let addresses = addresses.iter().map(with_port).collect();
                        self.source.handle_resolved(self.now, Ok(addresses));
                    } else {
                        self.source.handle_resolved(self.now, Err("no such name".into()));
                    }
                }
                SourceOutput::Disconnect => self.connected = None,
                SourceOutput::Write(bytes) if bytes[0] != b'$' => {
                    self.answer(String::from_utf8(bytes.to_vec()).unwrap());
                }
                SourceOutput::OpenUdp => self.source.handle_udp_opened(self.now, Ok(5000)),
                SourceOutput::State { state, reason, active_input } => {
                    self.states.push((state, reason, active_input));
                }
                SourceOutput::Packet(ordered) => {
                    assert_eq!(self.states.last().unwrap().0, StreamState::Active);
                    self.packets.push(ordered.packet.seq);
                }
                SourceOutput::Stopped => {
                    assert_eq!(self.connected, None, "Disconnect is never left out");
                    self.stopped = true;
                }
                _ => {}
            }
        }
    }

    fn answer(&mut self, request: String) {
        let camera = self.connected.as_deref().map_or(Camera::Absent, |address| self.camera(address));
        let method = request.split(' ').next().unwrap();
        let cseq = request.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap();
        let transport = if request.contains("RTP/AVP/TCP") {
            "RTP/AVP/TCP;unicast;interleaved=0-1"
        } else {
            "RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001"
        };
        let described = format!("Content-Length: {}\r\n\r\n{SDP}", SDP.len());
        let (status, rest) = match (camera, method) {
            (Camera::Redirects(to), "DESCRIBE") => ("302 Found", format!("Location: {to}\r\n\r\n")),
            (Camera::HasNoStream, "DESCRIBE") => ("404 Not Found", "\r\n".to_owned()),
            (_, "DESCRIBE") => ("200 OK", described),
            (_, "SETUP") => ("200 OK", format!("Session: 1\r\nTransport: {transport}\r\n\r\n")),
            _ => ("200 OK", "\r\n".to_owned()),
        };
        let answer = format!("RTSP/1.0 {status}\r\nCSeq: {cseq}\r\n{rest}");
        self.requests.push(request);
        self.source.handle_received(self.now, &mut BytesMut::from(answer.as_bytes()));
    }

    /// Time goes on; cameras that play send a packet every second.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            let next = (self.now + Duration::from_secs(1)).min(end);
            self.timers(next);
            let playing = self.requests.last().is_some_and(|it| it.starts_with("PLAY"))
                || self.requests.last().is_some_and(|it| it.starts_with("OPTIONS") && it.contains("Session"));
            let camera = self.connected.as_deref().map(|address| self.camera(address));
            if playing && matches!(camera, Some(Camera::Plays | Camera::UdpIsFiltered)) {
                self.packet();
            }
        }
    }

    fn timers(&mut self, until: Instant) {
        while let Some(at) = self.source.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.source.handle_timeout(self.now);
            self.turn();
        }
        self.now = until;
    }

    /// Over TCP.
    fn packet(&mut self) {
        self.seq += 1;
        let mut frame = vec![b'$', 0, 0, 13, 0x80, 96];
        frame.extend_from_slice(&self.seq.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 7, 0x41]);
        self.source.handle_received(self.now, &mut BytesMut::from(&frame[..]));
        self.turn();
    }

    fn lose_connection(&mut self) {
        self.source.handle_closed(self.now, "connection reset by peer");
        self.turn();
    }

    fn state(&self) -> StreamState {
        self.states.last().unwrap().0
    }

    fn reason(&self) -> &str {
        self.states.iter().rev().find_map(|(_, reason, _)| reason.as_deref()).unwrap_or("none")
    }
}

const A: &str = "192.0.2.7:554";
const B: &str = "192.0.2.8:554";
const URL_A: &str = "rtsp://192.0.2.7/live";
const URL_B: &str = "rtsp://192.0.2.8/live";

#[test]
fn is_connecting_then_active_with_the_first_packet_and_inactive_after_stop() {
    let mut world = World::new(config(&[URL_A]), &[(A, Camera::Plays)]);
    assert_eq!(world.states, [(StreamState::Connecting, None, Some(0))]);
    world.packet();
    assert_eq!(world.states[1..], [(StreamState::Active, None, Some(0))]);
    world.source.stop(world.now);
    world.turn();
    assert!(world.requests.last().unwrap().starts_with("TEARDOWN"));
    assert_eq!(world.states[2..], [(StreamState::Inactive, None, None)]);
    assert!(world.stopped && world.connected.is_none());
    assert_eq!(world.source.poll_timeout(), None);
    assert_eq!(world.source.statistics().packets, 1);
}

#[test]
fn stops_from_wherever_it_is() {
    for (url, camera) in [
        (URL_A, Camera::Dead),
        (URL_A, Camera::Absent),
        (URL_A, Camera::Mute),
        ("rtsp://name/", Camera::Absent),
        ("rtsps://name/", Camera::Absent),
    ] {
        let mut world = World::new(config(&[url]), &[(A, camera)]);
        world.source.stop(world.now);
        world.turn();
        world.pass(Duration::from_secs(2));
        assert!(world.stopped, "{camera:?}");
        assert_eq!(world.state(), StreamState::Inactive);
        world.source.stop(world.now);
        world.source.update(world.now, config(&[URL_B]));
        world.turn();
    }
}

#[test]
fn a_refused_connect_is_told_and_tried_again_with_growing_pauses() {
    let mut world = World::new(config(&[URL_A]), &[]);
    assert_eq!(world.state(), StreamState::Error);
    assert_eq!(world.reason(), "cannot connect to 192.0.2.7:554: connection refused");
    world.pass(Duration::from_secs(120));
    let times: Vec<f64> = world.connects.iter().map(|(at, _)| at.as_secs_f64()).collect();
    for (pause, expected) in
        times.windows(2).map(|pair| pair[1] - pair[0]).zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0])
    {
        assert!((0.8..=1.2).contains(&(pause / expected)), "{times:?}");
    }
    assert_eq!(world.state(), StreamState::Error);
    world.cameras.insert(A.into(), Camera::Plays);
    world.pass(Duration::from_secs(40));
    assert_eq!(world.state(), StreamState::Active);
}

#[test]
fn the_operators_restart_interval_takes_the_place_of_the_back_off() {
    let restart_interval = Some(Duration::from_secs(3));
    let mut world = World::new(SourceConfig { restart_interval, ..config(&[URL_A]) }, &[]);
    world.pass(Duration::from_secs(9));
    let times: Vec<u64> = world.connects.iter().map(|(at, _)| at.as_secs()).collect();
    assert_eq!(times, [0, 3, 6, 9]);
}

#[test]
fn a_connect_without_answer_ends_in_time() {
    let mut world = World::new(config(&[URL_A]), &[(A, Camera::Dead)]);
    world.pass(Duration::from_millis(4999));
    assert_eq!(world.state(), StreamState::Connecting);
    world.timers(world.now + Duration::from_millis(1));
    assert_eq!(world.reason(), "192.0.2.7:554 did not accept the connection in time");
    assert_eq!(world.connected, None);
}

#[test]
fn tries_every_address_of_a_name_in_order() {
    let mut world =
        World::new(config(&["rtsp://cam.example:8554/live"]), &[("192.0.2.3:8554", Camera::Plays)]);
    assert_eq!(world.reason(), "the camera's name cannot be looked up: no such name");
    world.names.insert("cam.example".into(), vec!["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    world.cameras.insert("192.0.2.2:8554".into(), Camera::Dead);
    world.pass(Duration::from_secs(9));
    let order: Vec<&str> = world.connects.iter().map(|(_, address)| address.as_str()).collect();
    assert_eq!(order, ["192.0.2.1:8554", "192.0.2.2:8554", "192.0.2.3:8554"]);
    assert_eq!(world.state(), StreamState::Active);
}

#[test]
fn a_camera_that_comes_back_is_taken_back_at_once_after_a_healthy_period() {
    let mut world = World::new(config(&[URL_A]), &[]);
    world.pass(Duration::from_secs(100));
    world.cameras.insert(A.into(), Camera::Plays);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.state(), StreamState::Active);
    let packets = world.packets.len();
    world.lose_connection();
    assert_eq!(world.state(), StreamState::Error);
    assert_eq!(world.reason(), "the connection to the camera was lost: connection reset by peer");
    world.pass(Duration::from_secs(3));
    assert_eq!(world.state(), StreamState::Active);
    assert!(world.packets.len() > packets);
}

#[test]
fn silence_ends_an_attempt() {
    let mut world = World::new(config(&[URL_A]), &[(A, Camera::Mute)]);
    world.pass(Duration::from_secs(8));
    assert_eq!(world.reason(), "the camera sent no media for 8 s");
    assert!(world.requests.iter().any(|request| request.starts_with("TEARDOWN")));
}

#[test]
fn fails_over_to_the_next_input_at_once_and_back_to_the_best_after_the_pause() {
    let mut world = World::new(config(&[URL_A, URL_B]), &[(A, Camera::HasNoStream), (B, Camera::Plays)]);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.states.last(), Some(&(StreamState::Active, None, Some(1))));
    assert_eq!(world.connects.len(), 2);
    let error = world.states.iter().find(|(state, ..)| *state == StreamState::Error).unwrap();
    assert_eq!(
        error.1.as_deref(),
        Some("rtsp://192.0.2.7/live: the camera answered 404 Not Found to DESCRIBE")
    );

    // Both fail: a pause, then the best again.
    world.cameras.insert(A.into(), Camera::Plays);
    world.cameras.insert(B.into(), Camera::Absent);
    world.lose_connection();
    assert_eq!(world.state(), StreamState::Error);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.states.last(), Some(&(StreamState::Active, None, Some(0))));
}

#[test]
fn after_a_healthy_period_the_other_inputs_are_tried_before_any_pause() {
    let mut world = World::new(config(&[URL_A, URL_B]), &[(B, Camera::Plays)]);
    world.pass(Duration::from_secs(30));
    assert_eq!(world.states.last(), Some(&(StreamState::Active, None, Some(1))));
    world.cameras.insert(A.into(), Camera::Plays);
    world.lose_connection();
    world.packet();
    assert_eq!(world.states.last(), Some(&(StreamState::Active, None, Some(0))));
}

#[test]
fn follows_redirects_but_not_for_ever() {
    let cameras = [(A, Camera::Redirects(URL_B)), (B, Camera::Plays)];
    let mut world = World::new(config(&[URL_A]), &cameras);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.state(), StreamState::Active);
    assert_eq!(world.connects.len(), 2);

    let loops = [(A, Camera::Redirects(URL_B)), (B, Camera::Redirects(URL_A))];
    let world = World::new(config(&[URL_A]), &loops);
    assert_eq!(world.reason(), "the camera redirects more than 5 times");
    assert_eq!(world.connects.len(), 6);
}

#[test]
fn the_password_is_not_shown_to_a_host_that_the_operator_did_not_name() {
    let cameras = [(A, Camera::Redirects(URL_B)), (B, Camera::Dead)];
    let mut config = config(&[URL_A]);
    config.inputs[0].credentials = Some(Credentials { username: "admin".into(), password: "s3cret".into() });
    let mut world = World::new(config, &cameras);
    world.source.handle_connected(world.now, "192.0.2.1:40000".parse().unwrap());
    let challenge = b"RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n";
    world.source.handle_received(world.now, &mut BytesMut::from(&challenge[..]));
    let mut written = String::new();
    while let Some(output) = world.source.poll_output() {
        if let SourceOutput::Write(bytes) = output {
            written.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    assert!(written.starts_with("OPTIONS ") && !written.contains("Authorization"), "{written}");
}

#[test]
fn takes_tcp_at_once_when_udp_is_filtered() {
    let mut config = config(&[URL_A]);
    config.inputs[0].transport = TransportPreference::Udp;
    let mut world = World::new(config, &[(A, Camera::UdpIsFiltered)]);
    world.timers(world.now + Duration::from_secs(3));
    assert_eq!(world.connects.len(), 2);
    assert!(world.requests.iter().rev().find(|it| it.starts_with("SETUP")).unwrap().contains("RTP/AVP/TCP"));
    world.packet();
    assert_eq!(world.state(), StreamState::Active);
    assert!(world.states.iter().all(|(state, ..)| *state != StreamState::Error));
}

#[test]
fn an_update_that_keeps_the_input_in_use_keeps_the_connection() {
    let mut world = World::new(config(&[URL_A]), &[(A, Camera::Plays), (B, Camera::Plays)]);
    world.packet();
    world.source.update(world.now, config(&[URL_B, URL_A]));
    world.turn();
    assert_eq!(world.states.last(), Some(&(StreamState::Active, None, Some(1))));
    world.source.update(
        world.now,
        SourceConfig { silence_timeout: Duration::from_secs(1), ..config(&[URL_B, URL_A]) },
    );
    world.turn();
    assert_eq!(world.connects.len(), 1);

    world.source.update(world.now, config(&[URL_B]));
    world.turn();
    assert!(world.requests.iter().any(|request| request.starts_with("TEARDOWN")));
    assert_eq!(world.connects.len(), 2);
    world.packet();
    assert_eq!(world.states.last(), Some(&(StreamState::Active, None, Some(0))));
}

#[test]
fn an_update_ends_a_pause_only_if_it_changes_the_inputs() {
    let mut world = World::new(config(&[URL_A]), &[(B, Camera::Plays)]);
    world.source.update(world.now, config(&[URL_A]));
    world.turn();
    assert_eq!(world.connects.len(), 1);
    world.source.update(world.now, config(&[URL_B]));
    world.turn();
    assert_eq!(world.connects.len(), 2);
    world.source.update(world.now, config(&[]));
    world.turn();
    assert_eq!(world.reason(), "the stream has no inputs");
    assert_eq!(world.connected, None);
}

#[test]
fn what_is_not_supported_is_told() {
    let world = World::new(config(&["rtsps://192.0.2.7/live"]), &[]);
    assert_eq!(world.reason(), "rtsps URLs are not supported, only rtsp");
    let world = World::new(config(&["rtsp:///live"]), &[]);
    assert_eq!(world.reason(), "the URL has no host");
}

proptest! {
    #[test]
    fn whatever_cameras_do_it_comes_back_and_stops(
        seed in any::<u64>(),
        events in proptest::collection::vec((0_u8..8, 0_u64..20_000), 0..40),
    ) {
        let now = Instant::now();
        let mut world = World::new(config(&[URL_A, URL_B]), &[(A, Camera::Plays), (B, Camera::Mute)]);
        world.source = Source::new(now, config(&[URL_A, URL_B]), seed);
        world.connected = None;
        for (event, number) in events {
            match event {
                0 => world.lose_connection(),
                1 => drop(world.cameras.insert(A.into(), Camera::Absent)),
                2 => drop(world.cameras.insert(A.into(), Camera::Dead)),
                3 => drop(world.cameras.insert(B.into(), Camera::Redirects(URL_A))),
                4 => world.source.update(world.now, config(&[URL_B, URL_A][..(number % 3) as usize])),
                5 => world.source.handle_received(world.now, &mut BytesMut::from(&number.to_be_bytes()[..])),
                6 => world.source.handle_resolved(world.now, Ok(Vec::new())),
                _ => world.pass(Duration::from_millis(number)),
            }
            world.turn();
        }
        world.cameras.insert(A.into(), Camera::Plays);
        world.source.update(world.now, config(&[URL_A]));
        world.turn();
        world.pass(Duration::from_secs(90));
        prop_assert_eq!(world.state(), StreamState::Active);
        world.source.stop(world.now);
        world.turn();
        world.pass(Duration::from_secs(2));
        prop_assert!(world.stopped);
    }
}
