//! What the control plane tells a shard.

use std::fmt;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use bytes::Bytes;
use lanecast_dvr::keyframes::Keyframe;
use lanecast_dvr::segment::SegmentId;
use lanecast_protocol::codec::Codec;
use lanecast_relay::source::{Lane, SourceConfig};
use lanecast_transcode::input::InputEvent;
use lanecast_transcode::slate::{SlateClip, SlateError};
use lanecast_webrtc::ice::IceCredentials;
use lanecast_webrtc::negotiation::RemoteCandidate;
use lanecast_webrtc::peer::{PeerConfig, PeerStatistics};
use tokio::sync::oneshot;
use url::Url;
use uuid::Uuid;

/// The control plane's number of a stream. Never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// A viewer session, of any kind.
pub type SessionId = Uuid;

/// Where the answer to a command goes. The shard always answers.
pub type Reply<T> = oneshot::Sender<T>;

/// A stream as the operator wants it. Its `Debug` shows no URL: one for a worker holds credentials.
#[derive(Clone)]
pub struct StreamConfig {
    /// The camera.
    pub source: SourceConfig,
    /// Number in the SDP's `o=`: the source id where it is a number, else any that stays.
    pub source_number: u64,
    /// How log lines call it (the source id).
    pub name: String,
    /// Whether it is recorded.
    pub record: bool,
    /// How each input's certificate is checked, where it speaks TLS; as many as there are inputs.
    pub tls: Vec<Option<Arc<rustls::ClientConfig>>>,
    /// What a worker is to open for each input that is foreign: the URL with its credentials.
    pub foreign: Vec<Option<Url>>,
}

impl fmt::Debug for StreamConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamConfig")
            .field("name", &self.name)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

/// A segment of a stream's recordings, found in the catalogue.
#[derive(Debug)]
pub struct LocatedSegment {
    /// The catalogue's number.
    pub segment: SegmentId,
    /// Time of its first picture, UTC.
    pub start_unix_ms: i64,
    /// What is in it.
    pub codec: Codec,
    /// To read from.
    pub file: File,
    /// What is known of it; `None` while it is written: the shard that writes it knows more.
    pub closed: Option<LocatedExtent>,
}

/// What the catalogue knows of a segment that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedExtent {
    /// End of its last picture, UTC.
    pub end_unix_ms: i64,
    /// Its length.
    pub bytes: u64,
    /// Its keyframes.
    pub keyframes: Vec<Keyframe>,
}

/// A WebSocket that was upgraded and answered with 101.
#[derive(Debug)]
pub struct AttachWebSocket {
    /// The stream to watch.
    pub stream: StreamId,
    /// 128 random bits.
    pub session: SessionId,
    /// The connection, non-blocking.
    pub socket: TcpStream,
    /// What was already read behind the upgrade request.
    pub buffered: Bytes,
    /// The client.
    pub peer: SocketAddr,
    /// The query's `force_websocket_transport`; `None` if absent.
    pub force_websocket_transport: Option<bool>,
}

/// A WebRTC viewer whose offer is being answered.
#[derive(Debug)]
pub struct AttachWebRtc {
    /// The stream to watch.
    pub stream: StreamId,
    /// 128 random bits.
    pub session: SessionId,
    /// The codec of the answer: the session ends when the stream has another.
    pub codec: Codec,
    /// What was negotiated.
    pub peer: PeerConfig,
    /// Begin with what was recorded at this time (UTC) instead of live.
    pub start_unix_ms: Option<i64>,
}

/// A connection of ICE-TCP (RFC 6544), after its first frame was read (RFC 4571 framing).
#[derive(Debug)]
pub struct AttachIceTcp {
    /// The username fragment that the frame's binding request asks for; names the session.
    pub ufrag: String,
    /// The connection.
    pub socket: TcpStream,
    /// All that was read, the first frame's two bytes of length included.
    pub buffered: Bytes,
    /// The client.
    pub peer: SocketAddr,
}

/// Counters of one session.
#[derive(Clone, Debug)]
pub enum SessionStatistics {
    /// A WSC-RTP viewer: what it has is counted with its stream.
    Wsc,
    /// A WebRTC viewer.
    WebRtc(Box<PeerStatistics>),
}

/// Why a session command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// No such session here.
    #[error("no such session")]
    Unknown,
    /// Nothing is recorded at the wanted time or later; the session plays on as it did.
    #[error("nothing is recorded at that time or later")]
    NotRecorded,
    /// The recordings cannot be read at the moment; the session plays on as it did.
    #[error("the recordings cannot be read")]
    Unreadable,
    /// Not a session of WebRTC.
    #[error("the session is not by WebRTC")]
    NotWebRtc,
    /// The shard takes no more: its bound of viewers or handshakes under way is reached, or it stops.
    #[error("the shard is full")]
    Full,
    /// The verb has no meaning in live mode.
    #[error("the session is live")]
    Live,
}

/// What a session plays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SessionMode {
    /// At the live edge.
    pub is_live: bool,
    /// Wall-clock of the picture, UTC, when not live.
    pub current_time_unix_ms: Option<i64>,
    /// 1 when live.
    pub speed: f64,
}

/// A command. Unknown streams and sessions are answered or ignored, never fatal.
#[derive(Debug)]
pub enum Command {
    /// Start a stream.
    AddStream {
        /// Its number.
        stream: StreamId,
        /// What it is.
        config: Box<StreamConfig>,
    },
    /// Change it without dropping viewers.
    UpdateStream {
        /// Its number.
        stream: StreamId,
        /// What it is now.
        config: Box<StreamConfig>,
    },
    /// End it and its sessions.
    RemoveStream {
        /// Its number.
        stream: StreamId,
    },
    /// A WSC-RTP viewer.
    AttachWebSocket(Box<AttachWebSocket>),
    /// A WebRTC viewer.
    AttachWebRtc {
        /// Who.
        attach: Box<AttachWebRtc>,
        /// Whether it was taken; only then its offer is answered. `Unknown`: the stream is gone.
        reply: Reply<Result<(), SessionError>>,
    },
    /// A connection of a WebRTC viewer that has no UDP. Closed if nobody knows its fragment.
    AttachIceTcp(Box<AttachIceTcp>),
    /// Other ICE credentials for a WebRTC session; media goes on the old way until the new one is checked.
    RestartIce {
        /// Which.
        session: SessionId,
        /// Ours from now on.
        local: IceCredentials,
        /// The viewer's.
        remote: IceCredentials,
        /// Whether it was there.
        reply: Reply<Result<(), SessionError>>,
    },
    /// More candidates of a WebRTC viewer.
    AddCandidates {
        /// Which.
        session: SessionId,
        /// Where it may be.
        candidates: Vec<RemoteCandidate>,
    },
    /// Ask this STUN server for the public address of the shard's UDP port, now and every so often; `None`: no more.
    UseStunServer {
        /// The server.
        address: Option<SocketAddr>,
    },
    /// Counters of a session.
    ReadSession {
        /// Which.
        session: SessionId,
        /// The counters.
        reply: Reply<Result<SessionStatistics, SessionError>>,
    },
    /// End a session; `reason` goes to the client.
    EndSession {
        /// Which.
        session: SessionId,
        /// A sentence.
        reason: String,
        /// Whether it was there.
        reply: Reply<Result<(), SessionError>>,
    },
    /// What does it play?
    ReadMode {
        /// Which.
        session: SessionId,
        /// The mode.
        reply: Reply<Result<SessionMode, SessionError>>,
    },
    /// Play what was recorded at this time. The answer comes when its first picture is at hand.
    Seek {
        /// Which.
        session: SessionId,
        /// UTC.
        unix_ms: i64,
        /// The mode after it.
        reply: Reply<Result<SessionMode, SessionError>>,
    },
    /// Return to the live edge.
    GoLive {
        /// Which.
        session: SessionId,
        /// The mode after it.
        reply: Reply<Result<SessionMode, SessionError>>,
    },
    /// How fast a recorded session plays.
    SetSpeed {
        /// Which.
        session: SessionId,
        /// From 0.25 to 16; 0 is a pause.
        speed: f64,
        /// The mode after it; `Live` where it has no meaning.
        reply: Reply<Result<SessionMode, SessionError>>,
    },
    /// Answer to `Event::OpenSegment`.
    SegmentOpened {
        /// Whose.
        stream: StreamId,
        /// The number of the question.
        ticket: u64,
        /// The catalogue's number and the empty file, or why there is none.
        result: Result<(SegmentId, File), String>,
    },
    /// A segment that is written is not where it was any more, so what is written to it is lost.
    SegmentLost {
        /// Whose.
        stream: StreamId,
        /// Which.
        segment: SegmentId,
    },
    /// Answer to `Event::Locate`.
    Located {
        /// The number of the question.
        request: u64,
        /// The segment, nothing, or why nobody knows.
        result: Result<Option<Box<LocatedSegment>>, String>,
    },
    /// Answer to `Event::Resolve`.
    Resolved {
        /// Whose name it was.
        stream: StreamId,
        /// The number of the question.
        question: u64,
        /// The addresses, best first, or why there are none.
        addresses: Result<Vec<SocketAddr>, String>,
    },
    /// Somebody is about to watch: a stream on demand connects, as if a viewer had come.
    Demand {
        /// Which.
        stream: StreamId,
    },
    /// From a worker: what comes of its input.
    Input {
        /// Whose.
        stream: StreamId,
        /// Which lane.
        lane: Lane,
        /// What the lane had open when it asked.
        epoch: u32,
        /// What came.
        event: Box<InputEvent>,
    },
    /// From the worker that makes slates: the one that was asked for.
    SlateMade {
        /// Whose.
        stream: StreamId,
        /// Number of the question.
        question: u64,
        /// The slate.
        result: Result<Arc<SlateClip>, SlateError>,
    },
    /// Read all counters.
    ReadStatistics {
        /// A snapshot.
        reply: Reply<super::ShardStatistics>,
    },
    /// End all sessions with a reason, TEARDOWN all cameras, then `Event::Stopped`.
    Shutdown,
}
