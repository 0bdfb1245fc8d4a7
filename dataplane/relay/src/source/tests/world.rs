//! A source, cameras that follow a script, a stream that takes what it is told to prefer, and virtual time.

use std::collections::HashMap;

use super::*;

/// A source, the cameras of its world by address, and the time.
pub(super) struct World {
    pub(super) source: Source,
    pub(super) now: Instant,
    pub(super) cameras: HashMap<String, Camera>,
    pub(super) names: HashMap<String, Vec<&'static str>>,
    links: [Link; 2],
    preferred: Lane,
    on_air: Option<Lane>,
    /// Every state with its reason and input, in order.
    pub(super) states: Vec<(StreamState, Option<String>, Option<usize>)>,
    /// Every `Prefer`, and when.
    pub(super) prefers: Vec<(Duration, Lane)>,
    /// Who came on air, and when.
    pub(super) shows: Vec<(Duration, String)>,
    /// Who was connected to, and when.
    pub(super) connects: Vec<(Duration, String)>,
    pub(super) tls_names: Vec<Option<String>>,
    pub(super) requests: Vec<String>,
    pub(super) packets: Vec<u16>,
    pub(super) stopped: bool,
    started: Instant,
    seq: u16,
}

/// What the driver has open for a lane.
#[derive(Debug, Default)]
struct Link {
    /// Who it is connected to, or the worker.
    to: Option<String>,
    /// PLAY was answered, or the worker's input is open.
    playing: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Camera {
    /// Nobody is there: a connect is refused.
    #[default]
    Absent,
    /// A connect is never answered.
    Dead,
    /// Plays over TCP.
    Plays,
    /// Plays, but never sends a random access point.
    NoKeyframes,
    /// Takes every transport, sends nothing over UDP.
    UdpIsFiltered,
    /// Redirects to this address.
    Redirects(&'static str),
    /// Answers DESCRIBE with 404.
    HasNoStream,
    /// Answers DESCRIBE with 401.
    RefusesPasswords,
    /// Answers everything, and sends no media.
    Mute,
    /// Wants its media to come from another host.
    NamesAnotherHost,
}

const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n";

pub(super) const A: &str = "192.0.2.7:554";
pub(super) const B: &str = "192.0.2.8:554";
pub(super) const C: &str = "192.0.2.9:554";
pub(super) const URL_A: &str = "rtsp://192.0.2.7/live";
pub(super) const URL_B: &str = "rtsp://192.0.2.8/live";
pub(super) const URL_C: &str = "rtsp://192.0.2.9/live";

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn input(url: &str, priority: i64) -> Input {
    Input {
        kind: if url.starts_with("rtsp") { InputKind::Rtsp } else { InputKind::Foreign },
        label: url.to_owned(),
        url: Url::parse(url).unwrap(),
        credentials: None,
        priority,
        transport: TransportPreference::Auto,
        trust: 0,
    }
}

/// Inputs by falling priority.
pub(super) fn config(urls: &[&str]) -> SourceConfig {
    SourceConfig {
        inputs: urls.iter().zip(0..).map(|(url, priority)| input(url, priority)).collect(),
        restart_interval: None,
        connect_timeout: seconds(5),
        reply_timeout: seconds(10),
        silence_timeout: seconds(8),
        return_after: seconds(10),
        on_demand: None,
        bits_per_second_max: 0,
        denied: Vec::new(),
    }
}

impl World {
    pub(super) fn new(config: SourceConfig, cameras: &[(&str, Camera)]) -> Self {
        Self::seeded(config, cameras, 1)
    }

    pub(super) fn seeded(config: SourceConfig, cameras: &[(&str, Camera)], seed: u64) -> Self {
        let now = Instant::now();
        let mut world = Self {
            source: Source::new(now, config, seed),
            now,
            cameras: cameras.iter().map(|(address, camera)| ((*address).to_owned(), *camera)).collect(),
            names: HashMap::new(),
            links: Default::default(),
            preferred: Lane::A,
            on_air: None,
            states: Vec::new(),
            prefers: Vec::new(),
            shows: Vec::new(),
            connects: Vec::new(),
            tls_names: Vec::new(),
            requests: Vec::new(),
            packets: Vec::new(),
            stopped: false,
            started: now,
            seq: 0,
        };
        world.turn();
        world
    }

    pub(super) fn set(&mut self, address: &str, camera: Camera) {
        self.cameras.insert(address.into(), camera);
    }

    fn camera(&self, address: &str) -> Camera {
        self.cameras.get(address).copied().unwrap_or_default()
    }

    fn camera_of(&self, lane: Lane) -> Camera {
        self.links[lane.index()].to.as_deref().map_or(Camera::Absent, |address| self.camera(address))
    }

    /// The lane that is connected to this address.
    pub(super) fn lane_of(&self, address: &str) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| self.links[lane.index()].to.as_deref() == Some(address))
    }

    pub(super) fn connected(&self) -> usize {
        self.links.iter().filter(|link| link.to.is_some()).count()
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.started
    }

    /// Who is on air.
    pub(super) fn on_air(&self) -> Option<&str> {
        self.links[self.on_air?.index()].to.as_deref()
    }

    pub(super) fn turn(&mut self) {
        while let Some(output) = self.source.poll_output() {
            assert!(!self.stopped, "{output:?} after Stopped");
            self.run(output);
        }
        let nothing_to_do = self.stopped || self.source.poll_timeout().is_some() || self.rests();
        assert!(nothing_to_do, "stuck: {:?}", self.source);
    }

    fn rests(&self) -> bool {
        let reason = self.states.last().and_then(|(_, reason, _)| reason.as_deref());
        reason.is_some_and(|reason| reason.starts_with("on demand") || reason == "the stream has no inputs")
    }

    fn run(&mut self, output: SourceOutput) {
        let now = self.now;
        match output {
            SourceOutput::Connect { lane, to, tls_name, .. } => {
                self.tls_names.push(tls_name);
                self.link(lane, to.to_string());
                match self.camera(&to.to_string()) {
                    Camera::Absent => self.source.handle_closed(now, lane, "connection refused"),
                    Camera::Dead => {}
                    _ => self.source.handle_connected(now, lane, "192.0.2.1:40000".parse().unwrap()),
                }
            }
            SourceOutput::Open { lane, input } => {
                let worker = format!("worker {input}");
                self.link(lane, worker.clone());
                match self.camera(&worker) {
                    Camera::Absent => self.source.handle_closed(now, lane, "the server refuses"),
                    Camera::Dead => {}
                    _ => {
                        self.links[lane.index()].playing = true;
                        let sets = Box::new(ParameterSets::new(Codec::H264));
                        self.source.handle_foreign_playing(now, lane, Codec::H264, sets);
                    }
                }
            }
            SourceOutput::Resolve { lane, host, port } => {
                let with_port = |ip: &&str| SocketAddr::new(ip.parse().unwrap(), port);
                let addresses = self.names.get(&host).map(|ips| ips.iter().map(with_port).collect());
                self.source.handle_resolved(now, lane, addresses.ok_or("no such name".into()));
            }
            SourceOutput::Disconnect(lane) => self.links[lane.index()] = Link::default(),
            SourceOutput::Write(lane, bytes) => {
                assert!(self.links[lane.index()].to.is_some(), "written to nobody");
                if bytes[0] != b'$' {
                    self.answer(lane, String::from_utf8(bytes.to_vec()).unwrap());
                }
            }
            SourceOutput::OpenUdp(lane) => self.source.handle_udp_opened(now, lane, Ok(5000)),
            SourceOutput::State { state, reason, active_input } => {
                self.states.push((state, reason, active_input));
            }
            SourceOutput::Prefer(lane) => {
                self.prefers.push((self.elapsed(), lane));
                self.preferred = lane;
            }
            SourceOutput::Playing { lane, .. } => {
                assert!(self.links[lane.index()].to.is_some(), "Playing after Disconnect");
                self.on_air = self.on_air.filter(|on_air| *on_air != lane);
            }
            SourceOutput::Packet(lane, ordered) => {
                assert!(self.links[lane.index()].to.is_some(), "a packet after Disconnect");
                self.packets.push(ordered.packet.seq);
                self.picture(lane);
            }
            SourceOutput::Stopped => {
                assert_eq!(self.connected(), 0, "Disconnect is never left out");
                self.stopped = true;
            }
            SourceOutput::SenderReport(..)
            | SourceOutput::UdpPeer { .. }
            | SourceOutput::SendRtp(..)
            | SourceOutput::SendRtcp(..) => {}
        }
    }

    fn link(&mut self, lane: Lane, to: String) {
        let link = &mut self.links[lane.index()];
        assert!(link.to.is_none(), "no second connection without Disconnect");
        self.connects.push((self.now - self.started, to.clone()));
        *link = Link { to: Some(to), playing: false };
    }

    /// The stream got one.
    fn picture(&mut self, lane: Lane) {
        let is_new = self.on_air != Some(lane) && self.preferred == lane;
        let Some(to) = self.links[lane.index()].to.clone() else { return };
        if is_new && self.camera_of(lane) != Camera::NoKeyframes {
            self.on_air = Some(lane);
            self.shows.push((self.elapsed(), to));
            self.source.handle_on_air(self.now, lane);
        }
    }

    fn answer(&mut self, lane: Lane, request: String) {
        let camera = self.camera_of(lane);
        let method = request.split(' ').next().unwrap();
        let cseq = request.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap();
        let transport = match (camera, request.contains("RTP/AVP/TCP")) {
            (_, true) => "RTP/AVP/TCP;unicast;interleaved=0-1",
            (Camera::NamesAnotherHost, _) => {
                "RTP/AVP;unicast;source=10.9.9.9;client_port=5000-5001;server_port=6000-6001"
            }
            _ => "RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001",
        };
        let described = format!("Content-Length: {}\r\n\r\n{SDP}", SDP.len());
        let (status, rest) = match (camera, method) {
            (Camera::Redirects(to), "DESCRIBE") => ("302 Found", format!("Location: {to}\r\n\r\n")),
            (Camera::HasNoStream, "DESCRIBE") => ("404 Not Found", "\r\n".to_owned()),
            (Camera::RefusesPasswords, "DESCRIBE") => {
                ("401 Unauthorized", "WWW-Authenticate: Digest realm=\"x\", nonce=\"1\"\r\n\r\n".to_owned())
            }
            (_, "DESCRIBE") => ("200 OK", described),
            (_, "SETUP") => ("200 OK", format!("Session: 1\r\nTransport: {transport}\r\n\r\n")),
            _ => ("200 OK", "\r\n".to_owned()),
        };
        match method {
            "PLAY" => self.links[lane.index()].playing = true,
            "TEARDOWN" => self.links[lane.index()].playing = false,
            _ => {}
        }
        let answer = format!("RTSP/1.0 {status}\r\nCSeq: {cseq}\r\n{rest}");
        self.requests.push(request);
        self.source.handle_received(self.now, lane, &mut BytesMut::from(answer.as_bytes()));
    }

    /// Time goes on; cameras that play send a packet every second.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.timers((self.now + seconds(1)).min(end));
            self.packet();
        }
    }

    pub(super) fn timers(&mut self, until: Instant) {
        while let Some(at) = self.source.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.source.handle_timeout(self.now);
            self.turn();
        }
        self.now = until;
    }

    /// From every camera that plays.
    pub(super) fn packet(&mut self) {
        for lane in Lane::ALL {
            let plays = [Camera::Plays, Camera::UdpIsFiltered, Camera::NoKeyframes];
            if !self.links[lane.index()].playing || !plays.contains(&self.camera_of(lane)) {
                continue;
            }
            let worker = self.links[lane.index()].to.as_ref().is_some_and(|to| to.starts_with("worker"));
            if worker {
                self.source.handle_foreign_unit(self.now, lane, 1000);
                self.turn();
                self.picture(lane);
            } else {
                self.seq = self.seq.wrapping_add(1);
                let mut frame = vec![b'$', 0, 0, 13, 0x80, 96];
                frame.extend_from_slice(&self.seq.to_be_bytes());
                frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 7, 0x41]);
                self.source.handle_received(self.now, lane, &mut BytesMut::from(&frame[..]));
            }
            self.turn();
        }
    }

    /// Every connection breaks.
    pub(super) fn lose_connections(&mut self) {
        for lane in Lane::ALL {
            if self.links[lane.index()].to.is_some() {
                self.source.handle_closed(self.now, lane, "connection reset by peer");
            }
        }
        self.turn();
    }

    /// The camera goes away with its connection.
    pub(super) fn kill(&mut self, address: &str) {
        self.set(address, Camera::Absent);
        if let Some(lane) = self.lane_of(address) {
            self.source.handle_closed(self.now, lane, "connection reset by peer");
        }
        self.turn();
    }

    pub(super) fn update(&mut self, config: SourceConfig) {
        self.source.update(self.now, config);
        self.turn();
    }

    pub(super) fn stop(&mut self) {
        self.source.stop(self.now);
        self.turn();
    }

    pub(super) fn want(&mut self, wanted: bool) {
        self.source.set_wanted(self.now, wanted);
        self.turn();
    }

    pub(super) fn last(&self) -> &(StreamState, Option<String>, Option<usize>) {
        self.states.last().unwrap()
    }

    pub(super) fn state(&self) -> StreamState {
        self.last().0
    }

    pub(super) fn reason(&self) -> &str {
        self.states.iter().rev().find_map(|(_, reason, _)| reason.as_deref()).unwrap_or("none")
    }

    pub(super) fn torn_down(&self) -> usize {
        self.requests.iter().filter(|request| request.starts_with("TEARDOWN")).count()
    }
}
