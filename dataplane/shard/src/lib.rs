//! One core, one loop: drives the sans-IO machines over the ring.
//!
//! [`DataPlane::start`] starts the shards, each a pinned thread. The whole contract with the control plane
//! is two enums: [`Command`] to a shard, [`Event`] back.

mod command;
mod data_plane;
mod drive;
mod event;
mod executor;
mod shard;
mod timers;
mod token;

pub use command::{
    AttachIceTcp, AttachWebRtc, AttachWebSocket, Command, LocatedExtent, LocatedSegment, Reply, SessionError,
    SessionId, SessionMode, SessionStatistics, StreamConfig, StreamId,
};
pub use data_plane::{DataPlane, DataPlaneConfig, Events, ShardBusy, ShardHandle, StartError};
pub use event::{Event, ShardStatistics, SlateStatus, StreamStatistics, StreamStatus};
pub use lanecast_dvr::keyframes::Keyframe;
pub use lanecast_dvr::player::Wanted;
pub use lanecast_dvr::recorder::{ClosedSegment, RecorderConfig, RecorderStatistics, RecordingStatus};
pub use lanecast_dvr::segment::SegmentId;
pub use lanecast_relay::source::{Input, InputKind, SourceConfig};
