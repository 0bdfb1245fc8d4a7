//! A stream as the API shows it: never with a credential.

use lanecast_protocol::codec::Codec;
use lanecast_protocol::wsc::StreamState;
use lanecast_shard::{RecorderStatistics, RecordingStatus, SlateStatus, StreamId, StreamStatus};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::catalog::Summary;
use crate::control_plane::ControlPlane;
use crate::definition::{InputDefinition, Transport};
use crate::recording::RecorderCounters;
use crate::registry::{Registry, Stream};
use crate::shown_url::shown_url;
use crate::source_id::SourceId;
use crate::tls::TlsTrust;

/// A stream, as wanted and as it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamView {
    /// As it was given.
    pub source_id: SourceId,
    /// The URL of the first input, without user info and secrets.
    pub rtsp_url: String,
    /// All inputs, the one to try first first.
    pub rtsp_inputs: Vec<InputView>,
    /// Whether it is to be recorded.
    pub should_record: bool,
    /// Pause before every new attempt in seconds; `null`: it grows from attempt to attempt.
    pub restart_interval_secs: Option<u64>,
    /// Whether it is connected only while somebody watches, or it is recorded.
    pub on_demand: bool,
    /// How it is.
    pub state: State,
    /// Why, for an operator.
    pub state_reason: Option<String>,
    /// The input in use: that gives pictures, or is being tried.
    pub active_input: Option<ActiveInput>,
    /// Whether viewers get the offline picture.
    pub slate: SlateView,
    /// `H264` or `H265`, once known.
    pub codec: Option<&'static str>,
    /// Picture width in pixels, once known.
    pub width: Option<u32>,
    /// Picture height in pixels, once known.
    pub height: Option<u32>,
    /// Start of the oldest recording in Unix milliseconds; `null` where nothing is recorded.
    pub recording_start_time: Option<i64>,
    /// How its recording goes, and what there is of it.
    pub recording: RecordingView,
    /// Ids of its WebRTC sessions, the oldest first.
    pub webrtc_sessions: Vec<Uuid>,
    /// Viewers now, of all kinds.
    pub viewers: usize,
    /// Index of the media thread that carries it.
    pub shard: usize,
}

/// A way to reach the camera.
#[derive(Debug, Serialize, ToSchema)]
pub struct InputView {
    /// The operator's name for it.
    pub label: String,
    /// Its URL, without user info and secrets.
    pub url: String,
    /// Lower is tried first.
    pub priority: i64,
    /// Which transport is asked for.
    pub transport: Transport,
    /// Who vouches for its certificate; `null`: the authorities that the system trusts, or it speaks no TLS with us.
    pub tls: Option<TlsTrust>,
}

/// Whether viewers get the offline picture.
#[derive(Debug, Serialize, ToSchema)]
pub struct SlateView {
    /// Whether they do.
    pub state: SlateState,
    /// Since when there are no pictures, in Unix milliseconds, while it is shown.
    pub since: Option<i64>,
    /// Why it cannot be shown.
    pub reason: Option<String>,
}

/// Whether viewers get the offline picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlateState {
    /// They get the camera's pictures, or nothing is due yet.
    Off,
    /// They do.
    Shown,
    /// It is due and cannot be made.
    Failed,
}

impl From<&SlateStatus> for SlateView {
    fn from(status: &SlateStatus) -> Self {
        let (state, since, reason) = match status {
            SlateStatus::Off => (SlateState::Off, None, None),
            SlateStatus::Shown { since_unix_ms } => (SlateState::Shown, Some(*since_unix_ms), None),
            SlateStatus::Failed(reason) => (SlateState::Failed, None, Some(reason.clone())),
        };
        Self { state, since, reason }
    }
}

/// The input in use, as `active_source` of the WebSocket's `init` has it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActiveInput {
    /// The operator's name for it.
    pub label: String,
    /// Its URL, without user info and secrets.
    pub url: String,
    /// Lower is tried first.
    pub priority: i64,
}

/// How a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub enum State {
    /// Pictures flow.
    Active,
    /// Stopped on purpose, or waiting for the next try.
    Inactive,
    /// A connection is being made.
    Connecting,
    /// The last try failed; it will be tried again.
    Error,
}

/// How a stream's recording goes, and what there is of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecordingView {
    /// How it goes.
    pub state: RecordingState,
    /// Why it fails.
    pub reason: Option<String>,
    /// Bytes of all files that are done.
    pub bytes: u64,
    /// Number of files.
    pub segments: u64,
    /// GOPs that the disk did not take, since the stream began on its shard; `null`: the shard did not say.
    pub dropped_gops: Option<u64>,
}

/// How a recording goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// It is not asked for.
    Off,
    /// It waits for pictures, or for its file.
    Waiting,
    /// Pictures are recorded.
    Recording,
    /// The disk does not take it; it is tried again.
    Failed,
}

impl RecordingState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Off, Self::Waiting, Self::Recording, Self::Failed];

    /// As the API has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Waiting => "waiting",
            Self::Recording => "recording",
            Self::Failed => "failed",
        }
    }
}

impl From<&RecordingStatus> for RecordingState {
    fn from(status: &RecordingStatus) -> Self {
        match status {
            RecordingStatus::Off => Self::Off,
            RecordingStatus::Waiting => Self::Waiting,
            RecordingStatus::Recording => Self::Recording,
            RecordingStatus::Failed(_) => Self::Failed,
        }
    }
}

impl RecordingView {
    fn new(status: &RecordingStatus, summary: Summary, counters: Option<&RecorderStatistics>) -> Self {
        Self {
            state: status.into(),
            reason: fault_of(status).map(str::to_owned),
            bytes: summary.bytes,
            segments: summary.segments,
            dropped_gops: counters.map(|counters| counters.dropped_gops),
        }
    }
}

fn fault_of(status: &RecordingStatus) -> Option<&str> {
    match status {
        RecordingStatus::Failed(reason) => Some(reason),
        _ => None,
    }
}

impl From<StreamState> for State {
    fn from(state: StreamState) -> Self {
        match state {
            StreamState::Active => Self::Active,
            StreamState::Inactive => Self::Inactive,
            StreamState::Connecting => Self::Connecting,
            StreamState::Error => Self::Error,
        }
    }
}

impl StreamView {
    /// All streams, the oldest first.
    pub fn all(control: &ControlPlane, counters: &RecorderCounters) -> Vec<Self> {
        let registry = control.registry();
        let view = |(id, stream): (StreamId, &Stream)| {
            let summary = control.catalog().summary(&stream.source_id);
            Self::new(&registry, id, stream, summary, counters.of(id))
        };
        registry.streams().map(view).collect()
    }

    /// A stream of the registry, as it is now.
    pub fn new(
        registry: &Registry,
        id: StreamId,
        stream: &Stream,
        recordings: Summary,
        counters: Option<&RecorderStatistics>,
    ) -> Self {
        let inputs: Vec<InputView> = stream.definition.inputs.iter().map(InputView::from).collect();
        let status = &stream.status;
        let active = status.active_input.and_then(|index| inputs.get(index));
        Self {
            source_id: stream.source_id.clone(),
            rtsp_url: inputs.first().map_or_else(String::new, |input| input.url.clone()),
            should_record: stream.definition.should_record,
            restart_interval_secs: stream.definition.restart_interval_secs,
            on_demand: stream.definition.on_demand,
            state: status.state.into(),
            state_reason: status.reason.clone().or_else(|| fault(status)),
            slate: (&status.slate).into(),
            active_input: active.map(ActiveInput::from),
            codec: status.codec.map(Codec::rtpmap_name),
            width: status.width,
            height: status.height,
            recording_start_time: recordings.first_unix_ms,
            recording: RecordingView::new(&status.recording, recordings, counters),
            webrtc_sessions: registry.webrtc_sessions(id).collect(),
            viewers: stream.viewers,
            shard: stream.shard,
            rtsp_inputs: inputs,
        }
    }
}

/// What else is wrong with a stream, where nothing is with its source.
fn fault(status: &StreamStatus) -> Option<String> {
    if let SlateStatus::Failed(reason) = &status.slate {
        return Some(reason.clone());
    }
    fault_of(&status.recording).map(|reason| format!("the recording fails: {reason}"))
}

impl From<&InputDefinition> for InputView {
    fn from(input: &InputDefinition) -> Self {
        Self {
            label: input.label.clone(),
            url: shown_url(&input.url),
            priority: input.priority,
            transport: input.transport,
            tls: Some(input.tls.clone()).filter(|trust| *trust != TlsTrust::System),
        }
    }
}

impl From<&InputView> for ActiveInput {
    fn from(input: &InputView) -> Self {
        Self { label: input.label.clone(), url: input.url.clone(), priority: input.priority }
    }
}
