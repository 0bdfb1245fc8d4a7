//! Inputs by FFmpeg: whatever it opens, as access units. One thread each, bounded in number, every blocking call with a
//! timeout.
//!
//! [`Inputs::open`] starts a thread that opens the input, gives [`InputEvent::Playing`] once, then a picture after another,
//! and at last [`InputEvent::Ended`]. Whoever has no room for an event hands it back as [`Unready`]. Dropping the
//! [`InputHandle`] ends all of it at once and without a last event. The thread is detached: the process may end while it is
//! inside FFmpeg. It counts against the bound until it is really over.
//!
//! What bounds a hostile sender: the deadline of each picture, 16 MiB a picture, and [`InputUnit::bytes`] for whoever counts.
//! Within one deadline FFmpeg keeps what arrives of an endless playlist or picture; it has no option against that. Its own
//! log is off, but the SRT library writes a line to stderr for a connection that fails.
//!
//! Which URL becomes what is in `origin`, the demultiplexer in `demuxer`, the thread's walk in `reader`. Not here: which
//! input of a stream is used, when a broken one is tried again, whether a URL is allowed (networks, folders).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use lanecast_protocol::codec::{Codec, Nal, ParameterSets};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use url::Url;

use watch::Watch;

#[cfg(feature = "ffmpeg")]
mod bitstream;
#[cfg(feature = "ffmpeg")]
mod demuxer;
#[cfg(feature = "ffmpeg")]
mod extradata;
#[cfg(feature = "ffmpeg")]
mod origin;
#[cfg(feature = "ffmpeg")]
mod pacer;
#[cfg(feature = "ffmpeg")]
mod reader;
#[cfg(feature = "ffmpeg")]
mod timeline;
mod watch;

#[cfg(all(test, feature = "ffmpeg"))]
mod tests;

/// What is to be opened.
#[derive(Clone, PartialEq, Eq)]
pub struct InputConfig {
    /// `rtmp`, `rtmps`, `srt`, `http`, `https`, `file`, `udp`, `rtsp` or `rtsps`; with user info where the server asks for it.
    /// Never shown. A `via` parameter is ours and taken off.
    pub url: Url,
    /// How long opening may take, until the first access unit.
    pub open_timeout: Duration,
    /// How long it may be silent after that.
    pub silence_timeout: Duration,
}

impl fmt::Debug for InputConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    /// Time of display at 90 kHz, as the container has it (wraps). A file that begins anew goes on counting.
    pub timestamp_90k: u32,
    /// All its NAL units in order, parameter sets and delimiters among them.
    pub nals: Vec<Nal>,
    /// Bytes read from the input since the last unit: other tracks among them, the container's own bytes not.
    pub bytes: u64,
}

/// An event that the receiver has no room for now; it is offered again.
#[derive(Debug)]
pub struct Unready(pub InputEvent);

/// Opens inputs. Cheap to clone; clones share the bound.
#[derive(Clone, Debug)]
pub struct Inputs {
    inputs_max: usize,
    open: Arc<AtomicUsize>,
    /// Of all that were ever opened: the next thread's name.
    opened: Arc<AtomicU64>,
    /// The processors of whoever made this; a shard, which opens inputs, has one to itself.
    processors: Option<CpuSet>,
}

/// An open input: it is interrupted when this is dropped, and nothing is delivered any more.
///
/// A call of `deliver` that is under way on the input's thread at that moment still comes to its end.
pub struct InputHandle {
    watch: Arc<Watch>,
    thread: Thread,
}

impl Inputs {
    /// At most so many at a time. Their threads run on the processors of the thread that calls this.
    pub fn new(inputs_max: usize) -> Self {
        let processors = sched_getaffinity(Pid::from_raw(0)).ok();
        Self { inputs_max, open: Arc::default(), opened: Arc::default(), processors }
    }

    /// How many threads there are: inputs that are open, and dropped ones that are not yet over.
    pub fn open_count(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Opens an input on a thread of its own, which calls `deliver`. It never blocks.
    ///
    /// # Errors
    /// A sentence: too many are open, no thread is to be had, or this was built without FFmpeg.
    pub fn open(
        &self,
        config: InputConfig,
        deliver: impl FnMut(InputEvent) -> Result<(), Unready> + Send + 'static,
    ) -> Result<InputHandle, String> {
        if cfg!(not(feature = "ffmpeg")) {
            return Err("this server was built without FFmpeg".to_owned());
        }
        let slot = self.slot()?;
        let watch = Arc::new(Watch::new(config.open_timeout));
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let watched = Arc::clone(&watch);
        let processors = self.processors;
        let thread = std::thread::Builder::new()
            .name(format!("input-{number}"))
            .spawn(move || {
                // Dropped last, so that a slot is free only when nothing of the input is left.
                let _slot = slot;
                if let Some(processors) = processors {
                    // Where that is refused it shares the shard's processor: slower, not wrong.
                    let _ = sched_setaffinity(Pid::from_raw(0), &processors);
                }
                read(config, &watched, deliver);
            })
            .map_err(|error| format!("no thread is to be had for the input: {error}"))?;
        Ok(InputHandle { watch, thread: thread.thread().clone() })
    }

    fn slot(&self) -> Result<Slot, String> {
        let taken = |open: usize| (open < self.inputs_max).then_some(open + 1);
        match self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, taken) {
            Ok(_) => Ok(Slot(Arc::clone(&self.open))),
            Err(open) => Err(format!(
                "{open} inputs by FFmpeg are open, and source.ffmpeg_inputs_max allows {}",
                self.inputs_max
            )),
        }
    }
}

impl fmt::Debug for InputHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InputHandle({})", self.thread.name().unwrap_or_default())
    }
}

impl Drop for InputHandle {
    fn drop(&mut self) {
        self.watch.stop();
        self.thread.unpark();
    }
}

/// One of the threads that may be.
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(feature = "ffmpeg")]
fn read(config: InputConfig, watch: &Arc<Watch>, deliver: impl FnMut(InputEvent) -> Result<(), Unready>) {
    reader::read(&config, watch, deliver);
}

#[cfg(not(feature = "ffmpeg"))]
fn read(_: InputConfig, _: &Arc<Watch>, _: impl FnMut(InputEvent) -> Result<(), Unready>) {}
