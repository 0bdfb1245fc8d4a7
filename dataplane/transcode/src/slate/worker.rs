//! The worker's queue and thread: who waits for which slate, which is made next, and what happens if that never ends.
//!
//! How a slate is made is a function that it is given.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use super::cache::Cache;
use super::{SlateClip, SlateError, SlateRequest};

/// Called once with what became of a request.
pub(super) type Reply = Box<dyn FnOnce(Result<Arc<SlateClip>, SlateError>) + Send>;

/// How a slate is made. It may block.
type Make = dyn Fn(&SlateRequest) -> Result<SlateClip, SlateError> + Send + Sync;

/// The bounds of a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Slates with a caption that wait or are being made.
    pub captioned_queue_max: usize,
    /// Slates without.
    pub plain_queue_max: usize,
    /// Who waits for one slate.
    pub replies_max: usize,
    /// Slates with a caption that are kept.
    pub captioned_cache_max: usize,
    /// Slates without.
    pub plain_cache_max: usize,
    /// How long one may take before it is given up.
    pub timeout: Duration,
    /// Attempts that were given up and still run; while there are so many, no other is made.
    pub stuck_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            captioned_queue_max: CAPTIONED_QUEUE_MAX,
            plain_queue_max: PLAIN_QUEUE_MAX,
            replies_max: REPLIES_MAX,
            captioned_cache_max: CAPTIONED_CACHE_MAX,
            plain_cache_max: PLAIN_CACHE_MAX,
            timeout: MAKE_TIMEOUT,
            stuck_max: STUCK_MAX,
        }
    }
}

/// A thread that makes slates. It ends, after the slate at hand, when this is dropped.
pub(super) struct Worker {
    shared: Arc<Shared>,
}

impl Worker {
    pub(super) fn start(
        limits: Limits,
        make: impl Fn(&SlateRequest) -> Result<SlateClip, SlateError> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::new(limits));
        let maker = Maker { limits, make: Arc::new(make), stuck: Vec::new() };
        let thread = std::thread::Builder::new().name("slate".to_owned()).spawn({
            let shared = shared.clone();
            move || shared.run(maker)
        });
        if let Err(error) = thread {
            shared.lock().refusal =
                Some(SlateError::Failed(format!("its thread cannot be started: {error}")));
        }
        Self { shared }
    }

    pub(super) fn request(
        &self,
        request: SlateRequest,
        reply: Reply,
    ) -> Result<Option<Arc<SlateClip>>, SlateError> {
        let mut state = self.shared.lock();
        if let Some(clip) = state.cache.find(&request) {
            return Ok(Some(clip));
        }
        state.enqueue(&self.shared.limits, request, reply)?;
        self.shared.changed.notify_one();
        Ok(None)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

/// What the askers and the thread share. Locked for moments only, never while a slate is made or a reply called.
struct Shared {
    limits: Limits,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    cache: Cache,
    /// Not begun, in order; each is in `replies`.
    plain: VecDeque<SlateRequest>,
    captioned: VecDeque<SlateRequest>,
    /// Who waits for what is queued or being made.
    replies: HashMap<SlateRequest, Vec<Reply>>,
    /// Why nothing can be asked for.
    refusal: Option<SlateError>,
    closed: bool,
}

impl Shared {
    fn new(limits: Limits) -> Self {
        let state = State {
            cache: Cache::new(limits.plain_cache_max, limits.captioned_cache_max),
            plain: VecDeque::new(),
            captioned: VecDeque::new(),
            replies: HashMap::new(),
            refusal: None,
            closed: false,
        };
        Self { limits, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn run(&self, mut maker: Maker) {
        let mut told = None;
        while let Some(request) = self.next() {
            let made = maker.make(&request).map(Arc::new);
            let failure = made.as_ref().err().cloned();
            if let Some(error) = &failure
                && failure != told
            {
                tracing::warn!(codec = ?request.codec, width = request.width, height = request.height, "{error}");
            }
            told = failure;
            for reply in self.finish(request, &made) {
                // One asker's bug (the panic hook tells it) is not to take the slates from all others.
                let _ = catch_unwind(AssertUnwindSafe(|| reply(made.clone())));
            }
        }
    }

    /// Blocks until there is something to make; `None` when nobody can ask any more.
    fn next(&self) -> Option<SlateRequest> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(request) = state.take_next() {
                return Some(request);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Keeps what was made, and gives those who wait for it.
    fn finish(&self, request: SlateRequest, made: &Result<Arc<SlateClip>, SlateError>) -> Vec<Reply> {
        let mut state = self.lock();
        let replies = state.replies.remove(&request).unwrap_or_default();
        if let Ok(clip) = made {
            state.cache.insert(request, clip.clone());
        }
        replies
    }

    /// A lock is poisoned only by a panic in one of the short methods of [`State`]; none leaves it half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enqueue(&mut self, limits: &Limits, request: SlateRequest, reply: Reply) -> Result<(), SlateError> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        if let Some(replies) = self.replies.get_mut(&request) {
            if replies.len() >= limits.replies_max {
                return Err(SlateError::Busy);
            }
            replies.push(reply);
            return Ok(());
        }
        let (queue, max) = match request.caption {
            None => (&mut self.plain, limits.plain_queue_max),
            Some(_) => (&mut self.captioned, limits.captioned_queue_max),
        };
        if queue.len() >= max {
            return Err(SlateError::Busy);
        }
        queue.push_back(request.clone());
        self.replies.insert(request, vec![reply]);
        Ok(())
    }

    /// Plain ones first: what is on the screen of many before the words for a few.
    fn take_next(&mut self) -> Option<SlateRequest> {
        self.plain.pop_front().or_else(|| self.captioned.pop_front())
    }
}

/// Makes each slate on a thread of its own, which is left behind when it takes too long: there is no way to end a thread
/// from outside, but neither the worker nor the end of the process waits for it.
struct Maker {
    limits: Limits,
    make: Arc<Make>,
    /// Left behind.
    stuck: Vec<JoinHandle<()>>,
}

impl Maker {
    fn make(&mut self, request: &SlateRequest) -> Result<SlateClip, SlateError> {
        self.stuck.retain(|thread| !thread.is_finished());
        if self.stuck.len() >= self.limits.stuck_max {
            return Err(SlateError::Failed(format!(
                "{} earlier attempts hang in GStreamer",
                self.stuck.len()
            )));
        }
        let (made_tx, made_rx) = crossbeam_channel::bounded(1);
        let thread = std::thread::Builder::new()
            .name("slate-make".to_owned())
            .spawn({
                let (make, request) = (self.make.clone(), request.clone());
                move || {
                    // Nobody may listen any more.
                    let _ = made_tx.send(make(&request));
                }
            })
            .map_err(|error| SlateError::Failed(format!("a thread cannot be started: {error}")))?;
        match made_rx.recv_timeout(self.limits.timeout) {
            Ok(made) => made,
            Err(RecvTimeoutError::Timeout) => {
                self.stuck.push(thread);
                Err(SlateError::Failed(format!(
                    "GStreamer took more than {:?}, given up",
                    self.limits.timeout
                )))
            }
            Err(RecvTimeoutError::Disconnected) => Err(SlateError::Failed("making it panicked".to_owned())),
        }
    }
}

/// As many outages as one box has cameras, say, at once. A request is some hundred bytes; those beyond keep the plain
/// slate and ask again.
const CAPTIONED_QUEUE_MAX: usize = 1024;

/// Shapes at once: each takes up to seconds at 4K, so more would wait for minutes.
const PLAIN_QUEUE_MAX: usize = 64;

/// As many streams as one box can have, all of one shape, that lose their inputs in the same moment.
const REPLIES_MAX: usize = 4096;

/// A stream keeps its clip itself: these are for who asks again soon. 10 to 100 KB each.
const CAPTIONED_CACHE_MAX: usize = 64;

/// Shapes that cameras of one box have between them. 10 to 100 KB each.
const PLAIN_CACHE_MAX: usize = 64;

/// A slate of 8K takes some seconds on a busy core, and GStreamer's first start some more: beyond this it hangs.
const MAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// One that hangs may be bad luck, two are a habit: each holds a thread and a pipeline for ever.
const STUCK_MAX: usize = 2;

#[cfg(test)]
mod tests;
