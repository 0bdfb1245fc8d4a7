//! The resources: one file each, its bodies, its checks and its handlers.

pub mod health;
pub mod metrics;
pub mod page;
pub mod recordings;
mod session_statistics;
pub mod sessions;
mod stream_body;
mod stream_view;
pub mod streams;
pub mod webrtc;
pub mod webrtc_client;
pub mod whep;
pub mod wsc_rtp;

pub use session_statistics::{SessionStatisticsView, WebRtcStatisticsView};
pub use stream_body::{ChangedInput, CreateStream, Draft, InputBody, PatchStream};
pub use stream_view::{
    ActiveInput, InputView, RecordingState, RecordingView, SlateState, SlateView, State, StreamView,
};
