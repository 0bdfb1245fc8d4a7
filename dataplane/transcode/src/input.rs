//! Inputs by FFmpeg: whatever it opens, as access units. One thread each, bounded in number, every blocking call with a
//! timeout.

use std::time::Duration;

use lanecast_protocol::codec::{Codec, Nal, ParameterSets};
use url::Url;

/// What is to be opened.
#[derive(Clone, PartialEq, Eq)]
pub struct InputConfig {
    /// `rtmp`, `srt`, `http`, `https`, `file`, `udp` or `rtsp`; with user info where the server asks for it. Never shown.
    pub url: Url,
    /// How long opening may take, until the first access unit.
    pub open_timeout: Duration,
    /// How long it may be silent after that.
    pub silence_timeout: Duration,
}

impl std::fmt::Debug for InputConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InputConfig({}://…)", self.url.scheme())
    }
}

/// What comes of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputEvent {
    /// It is open: video of this kind follows.
    Playing {
        /// The codec.
        codec: Codec,
        /// What the container tells; may be incomplete.
        parameter_sets: Box<ParameterSets>,
    },
    /// The next picture, in decode order.
    Unit(InputUnit),
    /// It is over, at its end or by a fault; a sentence without secrets. Nothing follows.
    Ended(String),
}

/// A picture of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputUnit {
    /// Time of display at 90 kHz, as the container has it (wraps).
    pub timestamp_90k: u32,
    /// All its NAL units in order, parameter sets and delimiters among them.
    pub nals: Vec<Nal>,
    /// Bytes read from the input since the last unit: other tracks and container included.
    pub bytes: u64,
}

/// An event that the receiver has no room for now; it is offered again.
#[derive(Debug)]
pub struct Unready(pub InputEvent);

/// Opens inputs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inputs {}

/// An open input: it is interrupted when this is dropped, and nothing is delivered any more.
#[derive(Debug)]
pub struct InputHandle {}

impl Inputs {
    /// At most so many at a time.
    pub fn new(_inputs_max: usize) -> Self {
        Self {}
    }

    /// Opens an input on a thread of its own, which calls `deliver`.
    ///
    /// # Errors
    /// A sentence: too many are open, no thread is to be had, or this was built without FFmpeg.
    pub fn open(
        &self,
        _config: InputConfig,
        _deliver: impl FnMut(InputEvent) -> Result<(), Unready> + Send + 'static,
    ) -> Result<InputHandle, String> {
        Err("this server was built without FFmpeg".to_owned())
    }
}
