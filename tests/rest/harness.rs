//! A server without media: the real control plane over shards that are threads answering commands.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt;
use hyper::{Method, Request, StatusCode};
use lanecast::catalog::{Catalog, CatalogSettings, Retention};
use lanecast::config::{Config, CorsOrigins};
use lanecast::control_plane::{ControlPlane, Limits};
use lanecast::http::router;
use lanecast::shards::Shard;
use lanecast::store::Store;
use lanecast::webrtc::{Listening, WebRtc};
use lanecast_protocol::codec::Codec;
use lanecast_shard::{
    AttachIceTcp, ClosedSegment, Command, Event, Keyframe, LocatedSegment, RecorderStatistics, Reply,
    SegmentId, SessionError, SessionId, SessionMode, SessionStatistics, ShardBusy, ShardStatistics,
    StreamConfig, StreamId, StreamStatistics,
};
use lanecast_webrtc::ice::IceCredentials;
use lanecast_webrtc::negotiation::{Fingerprint, RemoteCandidate};
use lanecast_webrtc::peer::{PeerConfig, PeerStatistics};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tower::ServiceExt;

/// What the shards were told and hold.
#[derive(Debug, Default)]
pub struct Plane {
    pub streams: HashMap<StreamId, (usize, StreamConfig)>,
    pub sessions: HashMap<SessionId, (StreamId, Option<TcpStream>)>,
    pub resolved: Vec<(u64, Result<Vec<SocketAddr>, String>)>,
    pub attached: Vec<Attached>,
    /// Answer no command while true.
    pub busy: bool,
    pub webrtc: HashMap<SessionId, PeerConfig>,
    pub demanded: Vec<StreamId>,
    pub restarts: Vec<(SessionId, IceCredentials, IceCredentials)>,
    pub candidates: Vec<(SessionId, Vec<RemoteCandidate>)>,
    pub ice_tcp: Vec<(usize, AttachIceTcp)>,
    pub stun: Vec<(usize, Option<SocketAddr>)>,
    /// What WebRTC viewers are told in place of being taken.
    pub refuse: Option<SessionError>,
    /// Take WebRTC viewers and never say so.
    pub silent: bool,
    /// What is told of every WebRTC session.
    pub statistics: PeerStatistics,
    /// Where the WebRTC viewers began.
    pub starts: HashMap<SessionId, Option<i64>>,
    /// What the sessions that are not live play.
    pub modes: HashMap<SessionId, SessionMode>,
    /// What sessions were told to play, in order.
    pub played: Vec<(SessionId, Played)>,
    /// What they are told in place of it.
    pub refuse_to_play: Option<SessionError>,
    /// Take what sessions are told to play, and never answer.
    pub mute: bool,
    pub unanswered: Vec<Reply<Result<SessionMode, SessionError>>>,
    pub opened: Vec<Opened>,
    pub located: Vec<Located>,
    /// What is told of every recorder.
    pub recorder: RecorderStatistics,
}

/// The shard, the stream, the ticket, and the file.
pub type Opened = (usize, StreamId, u64, Result<(SegmentId, File), String>);
/// The shard, the request, and the segment.
pub type Located = (usize, u64, Result<Option<Box<LocatedSegment>>, String>);

/// What a session was told to play.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Played {
    Seek(i64),
    Live,
    Speed(f64),
}

impl Plane {
    /// As a shard does it, where everything is recorded.
    fn play(&mut self, session: SessionId, what: Played, reply: Reply<Result<SessionMode, SessionError>>) {
        self.played.push((session, what));
        if self.mute {
            return self.unanswered.push(reply);
        }
        // Nobody listens where a client left.
        let _ = reply.send(self.mode_after(session, what));
    }

    fn mode_after(&mut self, session: SessionId, what: Played) -> Result<SessionMode, SessionError> {
        if !self.sessions.contains_key(&session) {
            return Err(SessionError::Unknown);
        }
        if let Some(error) = self.refuse_to_play {
            return Err(error);
        }
        match what {
            Played::Seek(unix_ms) => {
                let mode = SessionMode { is_live: false, current_time_unix_ms: Some(unix_ms), speed: 1.0 };
                self.modes.insert(session, mode);
            }
            Played::Live => {
                self.modes.remove(&session);
            }
            Played::Speed(speed) => self.modes.get_mut(&session).ok_or(SessionError::Live)?.speed = speed,
        }
        Ok(self.mode(session))
    }

    fn mode(&self, session: SessionId) -> SessionMode {
        let live = SessionMode { is_live: true, current_time_unix_ms: None, speed: 1.0 };
        self.modes.get(&session).copied().unwrap_or(live)
    }
}

/// What came with a WebSocket.
#[derive(Clone, Debug)]
pub struct Attached {
    pub session: SessionId,
    pub stream: StreamId,
    pub buffered: Vec<u8>,
    pub peer: SocketAddr,
    pub force_websocket_transport: Option<bool>,
}

/// A running server without media.
pub struct Server {
    pub control: Arc<ControlPlane>,
    pub router: Router,
    pub plane: Arc<Mutex<Plane>>,
    pub events: mpsc::Sender<Event>,
    pub told: mpsc::UnboundedReceiver<&'static str>,
    event_task: tokio::task::JoinHandle<()>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: hyper::HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status and code, after the shape of an error was checked.
    #[track_caller]
    pub fn refusal(&self) -> (u16, String) {
        let json = self.json();
        assert!(!json["message"].as_str().unwrap_or_default().is_empty(), "{self:?}");
        (self.status.as_u16(), json["error"].as_str().unwrap_or_default().to_owned())
    }
}

impl Server {
    pub async fn start() -> (Self, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        (Self::over(directory.path()).await, directory)
    }

    pub async fn over(data_dir: &Path) -> Self {
        Self::with(data_dir, LIMITS, CorsOrigins::Any).await
    }

    /// With settings as the command line has them.
    pub async fn configured(data_dir: &Path, arguments: &[&str]) -> Self {
        Self::made(data_dir, LIMITS, CorsOrigins::Any, arguments).await
    }

    pub async fn with(data_dir: &Path, limits: Limits, cors_origins: CorsOrigins) -> Self {
        Self::made(data_dir, limits, cors_origins, &[]).await
    }

    async fn made(data_dir: &Path, limits: Limits, cors_origins: CorsOrigins, arguments: &[&str]) -> Self {
        let arguments = ["lanecast"].iter().chain(arguments).map(|argument| argument.into());
        let config = Config::load(arguments, &|_| None).unwrap();
        let (store, streams) = Store::open(data_dir).unwrap();
        let folder = data_dir.join("recordings");
        let catalog = Catalog::open(CatalogSettings { folder, retention: Retention::default() }).unwrap();
        let plane = Arc::new(Mutex::new(Plane::default()));
        let (events, mut receiver) = mpsc::channel(64);
        let (tell, told) = mpsc::unbounded_channel();
        let shards = (0..2).map(|index| shard(index, plane.clone(), events.clone(), tell.clone())).collect();
        let control = ControlPlane::new(limits, config.source, shards, store, catalog, webrtc());
        let taking = control.clone();
        let event_task = tokio::spawn(async move {
            while let Some(event) = receiver.recv().await {
                taking.handle_event(event);
            }
        });
        control.restore(streams).await.unwrap();
        let router = router(control.clone(), &cors_origins);
        Self { control, router, plane, events, told, event_task }
    }

    /// Ends it as the program does.
    pub async fn stop(self) {
        self.control.stop();
        assert!(self.control.stop_shards(std::time::Duration::from_secs(4)).await);
        self.event_task.abort();
        let _ = self.event_task.await;
        drop(self.router);
        Arc::into_inner(self.control).expect("nothing else holds it").close();
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        answer(self.router.clone(), request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path).body(Body::empty()).unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(request(Method::DELETE, path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: impl ToString) -> Answer {
        self.with_body(Method::POST, path, body).await
    }

    pub async fn patch(&self, path: &str, body: impl ToString) -> Answer {
        self.with_body(Method::PATCH, path, body).await
    }

    async fn with_body(&self, method: Method, path: &str, body: impl ToString) -> Answer {
        let request = request(method, path).header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Adds a stream and gives its number.
    pub async fn add(&self, source_id: Value) -> StreamId {
        let body = serde_json::json!({"source_id": source_id, "rtsp_url": "rtsp://127.0.0.1:1/x"});
        let answer = self.post("/streams", &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let text = source_id.as_str().map_or_else(|| source_id.to_string(), str::to_owned);
        self.control.stream(&text).unwrap().0
    }

    /// Puts a session into the registry and the shard, as an upgrade does.
    pub fn open_session(&self, stream: StreamId) -> SessionId {
        let session = SessionId::from_u128(self.plane().sessions.len() as u128 + 1);
        self.control.open_session(session, stream, None).unwrap();
        self.plane().sessions.insert(session, (stream, None));
        session
    }

    /// Has a file made for a stream, as its recorder does.
    pub async fn open_segment(
        &mut self,
        stream: StreamId,
        start_unix_ms: i64,
        codec: Codec,
    ) -> (SegmentId, File) {
        let ticket = start_unix_ms as u64;
        self.emit(Event::OpenSegment { stream, ticket, start_unix_ms, codec }).await;
        self.until_told("opened").await;
        let (_, of, answered, result) = self.plane().opened.pop().unwrap();
        assert_eq!((of, answered), (stream, ticket));
        result.unwrap()
    }

    /// Records a stream from here to there, as far as the catalogue can tell: the file has bytes, but no picture.
    pub async fn record(&mut self, stream: StreamId, start_unix_ms: i64, end_unix_ms: i64) -> SegmentId {
        self.record_as(stream, start_unix_ms, end_unix_ms, Codec::H264).await
    }

    /// The same in another codec.
    pub async fn record_as(
        &mut self,
        stream: StreamId,
        start_unix_ms: i64,
        end_unix_ms: i64,
        codec: Codec,
    ) -> SegmentId {
        let (segment, file) = self.open_segment(stream, start_unix_ms, codec).await;
        self.close_segment(stream, segment, file, start_unix_ms, end_unix_ms).await;
        segment
    }

    /// Ends the file of a recording.
    pub async fn close_segment(
        &self,
        stream: StreamId,
        segment: SegmentId,
        mut file: File,
        start_unix_ms: i64,
        end_unix_ms: i64,
    ) {
        file.write_all(&[0; SEGMENT_BYTES as usize]).unwrap();
        let keyframes = vec![Keyframe { unix_ms: start_unix_ms, offset: 0 }];
        let closed = ClosedSegment { segment, start_unix_ms, end_unix_ms, bytes: SEGMENT_BYTES, keyframes };
        self.emit(Event::SegmentClosed { stream, closed }).await;
    }

    pub fn plane(&self) -> std::sync::MutexGuard<'_, Plane> {
        self.plane.lock().unwrap()
    }

    /// Waits until the shards have taken a command of this name.
    pub async fn until_told(&mut self, name: &str) {
        while self.told.recv().await.expect("the shards run") != name {}
    }

    /// Sends an event and waits until it is taken.
    pub async fn emit(&self, event: Event) {
        self.events.send(event).await.unwrap();
        while self.events.capacity() < self.events.max_capacity() {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
    }
}

/// The answer of a server's router.
pub async fn answer(router: Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// Length of a file that [`Server::record`] makes.
pub const SEGMENT_BYTES: u64 = 1000;

/// More than a test needs, unless it is about them.
pub const LIMITS: Limits =
    Limits { body_bytes: 1 << 20, wsc_sessions: 100, webrtc_sessions: 100, webrtc_sessions_per_stream: 100 };

/// A machine with one private and one public address.
fn webrtc() -> WebRtc {
    let fingerprint = Fingerprint { algorithm: "sha-256".into(), bytes: vec![7; 32] };
    let listening = Listening {
        udp_bind: [127, 0, 0, 1].into(),
        tcp: Some(([127, 0, 0, 1], 5000).into()),
        public_addresses: vec![[203, 0, 113, 9].into()],
    };
    WebRtc::new(fingerprint, listening, 2)
}

pub fn request(method: Method, path: &str) -> hyper::http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "test")
}

fn shard(
    index: usize,
    plane: Arc<Mutex<Plane>>,
    events: mpsc::Sender<Event>,
    tell: mpsc::UnboundedSender<&'static str>,
) -> Shard {
    let (send, commands): (Sender<Command>, Receiver<Command>) = channel();
    let state = plane.clone();
    std::thread::spawn(move || {
        while let Ok(command) = commands.recv() {
            let (name, ended) = take(index, command, &mut state.lock().unwrap());
            for event in ended {
                // The test may be over.
                let _ = events.blocking_send(event);
            }
            let _ = tell.send(name);
        }
    });
    Shard::new(index, 5000 + index as u16, move |command| match plane.lock().unwrap().busy {
        true => Err(ShardBusy(command)),
        false => send.send(command).map_err(|error| ShardBusy(error.0)),
    })
}

fn take(index: usize, command: Command, plane: &mut Plane) -> (&'static str, Vec<Event>) {
    match command {
        Command::AddStream { stream, config } => {
            plane.streams.insert(stream, (index, *config));
            ("add", Vec::new())
        }
        Command::UpdateStream { stream, config } => {
            plane.streams.insert(stream, (index, *config));
            ("update", Vec::new())
        }
        Command::RemoveStream { stream } => {
            plane.streams.remove(&stream);
            let ended: Vec<SessionId> =
                plane.sessions.iter().filter(|(_, (of, _))| *of == stream).map(|(id, _)| *id).collect();
            plane.sessions.retain(|_, (of, _)| *of != stream);
            let event = |session| Event::SessionEnded { stream, session, reason: "removed".into() };
            ("remove", ended.into_iter().map(event).collect())
        }
        Command::AttachWebSocket(attach) => {
            plane.sessions.insert(attach.session, (attach.stream, Some(attach.socket)));
            plane.attached.push(Attached {
                session: attach.session,
                stream: attach.stream,
                buffered: attach.buffered.to_vec(),
                peer: attach.peer,
                force_websocket_transport: attach.force_websocket_transport,
            });
            ("attach", Vec::new())
        }
        Command::AttachWebRtc { attach, reply } => {
            if let Some(error) = plane.refuse {
                let _ = reply.send(Err(error));
                return ("attach", Vec::new());
            }
            plane.sessions.insert(attach.session, (attach.stream, None));
            plane.starts.insert(attach.session, attach.start_unix_ms);
            if let Some(unix_ms) = attach.start_unix_ms {
                let mode = SessionMode { is_live: false, current_time_unix_ms: Some(unix_ms), speed: 1.0 };
                plane.modes.insert(attach.session, mode);
            }
            plane.webrtc.insert(attach.session, attach.peer);
            if !plane.silent {
                // Nobody listens where a test leaves half-way.
                let _ = reply.send(Ok(()));
            }
            ("attach", Vec::new())
        }
        Command::AttachIceTcp(attach) => {
            plane.ice_tcp.push((index, *attach));
            ("ice-tcp", Vec::new())
        }
        Command::RestartIce { session, local, remote, reply } => {
            let known = plane.webrtc.contains_key(&session);
            plane.restarts.push((session, local, remote));
            let _ = reply.send(if known { Ok(()) } else { Err(SessionError::Unknown) });
            ("restart", Vec::new())
        }
        Command::AddCandidates { session, candidates } => {
            plane.candidates.push((session, candidates));
            ("candidates", Vec::new())
        }
        Command::UseStunServer { address } => {
            plane.stun.push((index, address));
            ("stun", Vec::new())
        }
        Command::ReadSession { session, reply } => {
            let statistics = match plane.webrtc.contains_key(&session) {
                true => Some(SessionStatistics::WebRtc(Box::new(plane.statistics.clone()))),
                false => plane.sessions.get(&session).map(|_| SessionStatistics::Wsc),
            };
            let _ = reply.send(statistics.ok_or(SessionError::Unknown));
            ("read", Vec::new())
        }
        Command::EndSession { session, reason, reply } => {
            let ended = plane.sessions.remove(&session);
            plane.webrtc.remove(&session);
            let _ = reply.send(ended.as_ref().map(drop).ok_or(SessionError::Unknown));
            let event = |(stream, _)| Event::SessionEnded { stream, session, reason };
            ("end", ended.map(event).into_iter().collect())
        }
        Command::ReadMode { session, reply } => {
            let known = plane.sessions.contains_key(&session);
            let _ = reply.send(if known { Ok(plane.mode(session)) } else { Err(SessionError::Unknown) });
            ("mode", Vec::new())
        }
        Command::Seek { session, unix_ms, reply } => {
            plane.play(session, Played::Seek(unix_ms), reply);
            ("seek", Vec::new())
        }
        Command::GoLive { session, reply } => {
            plane.play(session, Played::Live, reply);
            ("live", Vec::new())
        }
        Command::SetSpeed { session, speed, reply } => {
            plane.play(session, Played::Speed(speed), reply);
            ("speed", Vec::new())
        }
        Command::SegmentOpened { stream, ticket, result } => {
            plane.opened.push((index, stream, ticket, result));
            ("opened", Vec::new())
        }
        Command::SegmentLost { .. } => ("lost", Vec::new()),
        Command::Located { request, result } => {
            plane.located.push((index, request, result));
            ("located", Vec::new())
        }
        Command::Resolved { question, addresses, .. } => {
            plane.resolved.push((question, addresses));
            ("resolved", Vec::new())
        }
        Command::Demand { stream } => {
            plane.demanded.push(stream);
            ("demand", Vec::new())
        }
        // Of a shard's own workers.
        Command::Input { .. } | Command::SlateMade { .. } => ("worker", Vec::new()),
        Command::ReadStatistics { reply } => {
            let recorder = plane.recorder;
            let counters = StreamStatistics { packets_sent: 3, recorder, ..Default::default() };
            let streams = plane.streams.iter().filter(|(_, (shard, _))| *shard == index);
            let streams = streams.map(|(id, _)| (*id, counters.clone())).collect();
            let _ = reply.send(ShardStatistics { shard: index, streams, ..Default::default() });
            ("statistics", Vec::new())
        }
        Command::Shutdown => ("shutdown", vec![Event::Stopped { shard: index }]),
    }
}
