//! What a shard tells the control plane.

use std::net::SocketAddr;

use lanecast_dvr::player::Wanted;
use lanecast_dvr::recorder::{ClosedSegment, RecorderStatistics, RecordingStatus};
use lanecast_dvr::segment::SegmentId;
use lanecast_protocol::codec::Codec;
use lanecast_protocol::wsc::StreamState;

use super::{SessionId, StreamId};

/// A stream as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    /// The state.
    pub state: StreamState,
    /// Why, for an operator; no credentials.
    pub reason: Option<String>,
    /// Index into the inputs of the one in use.
    pub active_input: Option<usize>,
    /// Known once described.
    pub codec: Option<Codec>,
    /// Picture width in pixels.
    pub width: Option<u32>,
    /// Picture height in pixels.
    pub height: Option<u32>,
    /// H.264's profile_idc, constraint flags and level_idc.
    pub profile_level_id: Option<[u8; 3]>,
    /// How its recording goes.
    pub recording: RecordingStatus,
    /// What viewers get while no input gives pictures.
    pub slate: SlateStatus,
}

/// Whether viewers get the offline picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SlateStatus {
    /// They get the camera's pictures, or nothing is due yet.
    #[default]
    Off,
    /// They get the offline picture since then (UTC).
    Shown {
        /// When the last picture of an input came, or the stream was wanted first.
        since_unix_ms: i64,
    },
    /// It is due and cannot be made; a sentence.
    Failed(String),
}

/// What happened on a shard.
#[derive(Debug)]
pub enum Event {
    /// A stream's status changed (the newest wins).
    StreamChanged {
        /// Which.
        stream: StreamId,
        /// How it is.
        status: StreamStatus,
    },
    /// A session ended, for whatever reason.
    SessionEnded {
        /// Of which stream.
        stream: StreamId,
        /// Which.
        session: SessionId,
        /// Why.
        reason: String,
    },
    /// Look a camera's name up; answer with `Command::Resolved`.
    Resolve {
        /// Who asks.
        stream: StreamId,
        /// Number of the question, to come back in the answer.
        question: u64,
        /// Host name.
        host: String,
        /// Port, to come back in the addresses.
        port: u16,
    },
    /// A STUN server saw the shard's UDP port at this address; `None`: it has stopped answering.
    Reflexive {
        /// The shard.
        shard: usize,
        /// Its public address.
        address: Option<SocketAddr>,
    },
    /// Make a file for a stream's recording; answer with `Command::SegmentOpened`.
    OpenSegment {
        /// Whose.
        stream: StreamId,
        /// Number of the question, to come back in the answer.
        ticket: u64,
        /// Time of its first picture, UTC.
        start_unix_ms: i64,
        /// What will be in it.
        codec: Codec,
    },
    /// A segment is done: truncate its file to `bytes` and note it.
    SegmentClosed {
        /// Whose.
        stream: StreamId,
        /// What is in it.
        closed: ClosedSegment,
    },
    /// Find a segment of a stream; answer with `Command::Located`.
    Locate {
        /// Who asks.
        shard: usize,
        /// Number of the question, to come back in the answer.
        request: u64,
        /// Whose recordings.
        stream: StreamId,
        /// Which.
        wanted: Wanted,
    },
    /// A segment cannot be played: skip it from now on.
    SegmentDamaged {
        /// Whose.
        stream: StreamId,
        /// Which.
        segment: SegmentId,
        /// A sentence.
        reason: String,
    },
    /// The shard has shut down, or died.
    Stopped {
        /// Which.
        shard: usize,
    },
}

/// Counters of one stream, all since its start but for the gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamStatistics {
    /// RTP packets from the camera.
    pub packets_received: u64,
    /// RTP packets of the camera that never came.
    pub packets_lost: u64,
    /// Packets of the camera that were malformed or not ours.
    pub packets_dropped: u64,
    /// Bytes from the camera's sockets.
    pub bytes_received: u64,
    /// Access units packetized.
    pub access_units: u64,
    /// Packets made for viewers, before fan-out.
    pub packets_packetized: u64,
    /// Packets handed to the kernel for viewers.
    pub packets_sent: u64,
    /// Bytes of them.
    pub bytes_sent: u64,
    /// Packets not sent because a viewer could not take them.
    pub packets_skipped: u64,
    /// Connection attempts after the first.
    pub reconnects: u64,
    /// How often another input took over, or a better one came back.
    pub failovers: u64,
    /// Access units of the offline picture.
    pub slate_access_units: u64,
    /// From the wish of a first viewer to its first picture, of a stream on demand that was not connected, the last time.
    pub on_demand_start_ms: Option<u64>,
    /// Gauge: viewers now.
    pub viewers: u64,
    /// Gauge: bytes in the GOP cache.
    pub gop_cache_bytes: u64,
    /// Gauge: viewers that play recordings.
    pub dvr_viewers: u64,
    /// The recorder's.
    pub recorder: RecorderStatistics,
}

/// Counters of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardStatistics {
    /// Index.
    pub shard: usize,
    /// Turns of the loop.
    pub turns: u64,
    /// Ring submissions.
    pub submissions: u64,
    /// Segmented sends.
    pub sends: u64,
    /// Sends refused by the kernel.
    pub send_errors: u64,
    /// Datagrams on the shard's port that were no punch of a known session.
    pub datagrams_dropped: u64,
    /// Gauge: operations under way in the ring, but for sends of datagrams.
    pub ring_operations: u64,
    /// Gauge: timers that are set.
    pub timers: u64,
    /// CPU time of the shard's thread, in microseconds.
    pub cpu_us: u64,
    /// True while segmented sends work.
    pub gso: bool,
    /// Its streams.
    pub streams: Vec<(StreamId, StreamStatistics)>,
}
