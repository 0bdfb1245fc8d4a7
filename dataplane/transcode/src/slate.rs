//! The slate: what viewers get while no input gives pictures. Encoded once for each shape and caption, on one worker.

use std::sync::Arc;
use std::time::Duration;

use lanecast_protocol::codec::{Codec, Nal, ParameterSets};

/// What a slate should look like.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlateRequest {
    /// The stream's codec.
    pub codec: Codec,
    /// Width of the picture in pixels.
    pub width: u32,
    /// Height of the picture in pixels.
    pub height: u32,
    /// Beside "No signal"; `None`: only that, which is the same for all streams of a shape.
    pub caption: Option<SlateCaption>,
}

/// The words of one outage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlateCaption {
    /// The stream's id.
    pub stream: String,
    /// Since when there is no picture, UTC.
    pub since_unix_ms: i64,
}

/// A slate, to be looped: its first access unit is a random access point, no other refers to a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlateClip {
    /// The codec.
    pub codec: Codec,
    /// Complete.
    pub parameter_sets: ParameterSets,
    /// Slices and SEI of each picture in decode order, which is the order of display; no parameter sets.
    pub units: Vec<Vec<Nal>>,
    /// From one picture to the next.
    pub interval: Duration,
}

/// Why there is no slate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlateError {
    /// An element of GStreamer is not installed.
    #[error("no offline picture: GStreamer's element {element} is missing, install {package}")]
    Missing {
        /// Its name.
        element: String,
        /// The Debian package that holds it.
        package: String,
    },
    /// GStreamer failed.
    #[error("no offline picture: {0}")]
    Failed(String),
    /// The worker's queue is full; ask again later.
    #[error("no offline picture yet: too many are being made")]
    Busy,
    /// Built without the feature `gstreamer`.
    #[error("no offline picture: this server was built without GStreamer")]
    NotBuilt,
}

/// Makes slates, one at a time. Cheap to clone; the thread ends with the last clone.
#[derive(Clone, Debug)]
pub struct SlateWorker {}

impl SlateWorker {
    /// Starts the thread.
    pub fn start() -> Self {
        Self {}
    }

    /// Asks for a slate. `reply` is called on the worker's thread, or on this one where the slate is at hand.
    ///
    /// # Errors
    /// [`SlateError::Busy`], [`SlateError::NotBuilt`]; then `reply` is not called.
    pub fn request(
        &self,
        _request: SlateRequest,
        _reply: impl FnOnce(Result<Arc<SlateClip>, SlateError>) + Send + 'static,
    ) -> Result<(), SlateError> {
        Err(SlateError::NotBuilt)
    }
}
