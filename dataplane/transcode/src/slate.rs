//! The slate: what viewers get while no input gives pictures. Encoded once for each shape and caption, on one worker.
//!
//! [`SlateWorker`] queues and remembers, `drawing` says what the picture looks like, `encoder` has GStreamer make a
//! clip of it. When a slate is shown, and its way through the packetizer, belong to the shard.

#[cfg(feature = "gstreamer")]
mod cache;
#[cfg(feature = "gstreamer")]
mod drawing;
#[cfg(feature = "gstreamer")]
mod encoder;
#[cfg(feature = "gstreamer")]
mod worker;

use std::sync::Arc;
use std::time::Duration;

use lanecast_protocol::codec::{Codec, Nal, ParameterSets};

/// What a slate should look like.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlateRequest {
    /// The stream's codec.
    pub codec: Codec,
    /// Width of the picture in pixels. The clip's is even: an odd one becomes the next even one.
    pub width: u32,
    /// Height of the picture in pixels. Made even likewise.
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
    /// The slices of each picture in decode order, which is the order of display; no parameter sets.
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
///
/// A request that is still waiting then is forgotten, and its `reply` dropped without a call.
#[derive(Clone, Debug)]
pub struct SlateWorker {
    #[cfg(feature = "gstreamer")]
    worker: Arc<worker::Worker>,
}

impl SlateWorker {
    /// Starts the thread. It runs on the cores that the caller may run on, so start it from no shard's thread.
    #[cfg(feature = "gstreamer")]
    pub fn start() -> Self {
        Self { worker: Arc::new(worker::Worker::start(worker::Limits::default(), encoder::make)) }
    }

    /// Starts nothing: there is no GStreamer.
    #[cfg(not(feature = "gstreamer"))]
    pub fn start() -> Self {
        Self {}
    }

    /// Asks for a slate. It is given at once where it is at hand; else `reply` is called, on the worker's thread.
    ///
    /// Plain slates (no caption) are made before those with one. Who asks for a slate that is being made already gets
    /// the same.
    ///
    /// # Errors
    /// [`SlateError::Busy`], [`SlateError::NotBuilt`], and [`SlateError::Failed`] for a size that no slate can have or
    /// if the thread could not be started; then `reply` is not called.
    #[cfg(feature = "gstreamer")]
    pub fn request(
        &self,
        request: SlateRequest,
        reply: impl FnOnce(Result<Arc<SlateClip>, SlateError>) + Send + 'static,
    ) -> Result<Option<Arc<SlateClip>>, SlateError> {
        self.worker.request(request.with_possible_size()?, Box::new(reply))
    }

    /// Refuses.
    ///
    /// # Errors
    /// [`SlateError::NotBuilt`], always; `reply` is not called.
    #[cfg(not(feature = "gstreamer"))]
    pub fn request(
        &self,
        _request: SlateRequest,
        _reply: impl FnOnce(Result<Arc<SlateClip>, SlateError>) + Send + 'static,
    ) -> Result<Option<Arc<SlateClip>>, SlateError> {
        Err(SlateError::NotBuilt)
    }
}

#[cfg(feature = "gstreamer")]
impl SlateRequest {
    /// With even sides: pictures of 4:2:0 have no odd ones before cropping.
    fn with_possible_size(mut self) -> Result<Self, SlateError> {
        let Self { width, height, .. } = self;
        let possible = SIDE_MIN..=SIDE_MAX;
        if !possible.contains(&width) || !possible.contains(&height) || width * height > AREA_MAX {
            return Err(SlateError::Failed(format!("no picture of {width}x{height} can be made")));
        }
        self.width = width.next_multiple_of(2);
        self.height = height.next_multiple_of(2);
        Ok(self)
    }
}

/// The smallest width and height: what both encoders accept.
#[cfg(feature = "gstreamer")]
const SIDE_MIN: u32 = 16;

/// The greatest width and height: 8K either way up; the levels of both codecs end there, and so should our memory.
#[cfg(feature = "gstreamer")]
const SIDE_MAX: u32 = 8192;

/// The largest picture: 8K. For the seconds it takes, drawing and x264 use 0.3 GB, x265 1.5 GB; one is made at a time.
#[cfg(feature = "gstreamer")]
const AREA_MAX: u32 = 7680 * 4320;

#[cfg(all(test, feature = "gstreamer"))]
mod tests;
