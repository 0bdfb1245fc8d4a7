//! Viewers that leave live for what is recorded: which time each wants, and the threads that ask the server for it.
//!
//! A seek is a POST to `/client-session-control/{session}/seek` (wsc-rtp section 6), and waits for its answer, so it has a
//! thread of its own: as many seeks are under way as there are threads. When the first packet of the new supply comes is seen by
//! [`crate::reception`].

use std::io;
use std::ops::Range;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::eventfd::{EfdFlags, EventFd};
use ureq::Agent;
use ureq::config::Config;
use url::Url;

use crate::clock::{Moment, RealtimeOffset};

/// What the seeks of a run have in common.
#[derive(Clone, Debug)]
pub struct Rewind {
    /// The server's base URL.
    pub url: Url,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// Which times are sought.
    pub times: Times,
    /// How many seeks each viewer makes.
    pub seeks: u32,
    /// From a viewer's first packet to its first seek, and from the end of one to the next.
    pub pause: Duration,
    /// How many seeks of a thread's viewers are under way at once.
    pub threads: usize,
    /// A shell command that is run, and waited for, before each request leaves.
    pub before: Option<String>,
}

/// Which times are sought, at random.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Times {
    /// So many milliseconds ago.
    Ago(Range<i64>),
    /// Between these, UTC ms.
    Between(Range<i64>),
}

impl Times {
    /// The time that a viewer's seek wants, UTC ms; the same for the same numbers, if the range is.
    pub fn pick(&self, now_unix_ms: i64, viewer: u32, seek: u32) -> i64 {
        let number = scatter(u64::from(viewer) << 32 | u64::from(seek));
        let within = |range: &Range<i64>| {
            let length = u64::try_from(range.end.saturating_sub(range.start)).unwrap_or(0).max(1);
            range.start.saturating_add((number % length) as i64)
        };
        match self {
            Self::Ago(range) => now_unix_ms.saturating_sub(within(range)),
            Self::Between(range) => within(range),
        }
    }
}

/// The moments in which the pictures were sent, by the camera's stamp, with which a player begins that is to show `unix_ms`.
pub fn expected(unix_ms: i64) -> Range<Moment> {
    let offset = RealtimeOffset::read();
    let moment = |unix_ms: i64| offset.moment(u64::try_from(unix_ms).unwrap_or(0).saturating_mul(1_000_000));
    moment(unix_ms.saturating_sub(GOP_MS_MAX))..moment(unix_ms.saturating_add(STAMP_MS))
}

/// The present time, UTC ms.
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A seek to be made.
#[derive(Debug)]
pub struct Ask {
    /// Whose, as its thread counts them.
    pub viewer: usize,
    /// The session.
    pub session: String,
    /// The wanted time, UTC ms.
    pub unix_ms: i64,
}

/// What came of it.
#[derive(Debug)]
pub struct Answer {
    /// Whose, as its thread counts them.
    pub viewer: usize,
    /// When the request left.
    pub sent: Moment,
    /// When the answer was there.
    pub answered: Moment,
    /// Why it was refused.
    pub result: Result<(), String>,
}

/// The threads that ask.
#[derive(Debug)]
pub struct Seekers {
    /// Is readable when there are answers.
    pub wake: Arc<EventFd>,
    asks: Sender<Ask>,
    answers: Receiver<Answer>,
}

impl Seekers {
    /// Starts the threads; they end when this is dropped.
    ///
    /// # Errors
    /// When the kernel refuses a thread or the eventfd.
    pub fn start(rewind: &Arc<Rewind>) -> io::Result<Self> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        let (asks, to_ask) = mpsc::channel();
        let (answered, answers) = mpsc::channel();
        let to_ask = Arc::new(Mutex::new(to_ask));
        for _ in 0..rewind.threads.max(1) {
            let seeker = Seeker { rewind: Arc::clone(rewind), agent: agent() };
            let (to_ask, answered, wake) = (Arc::clone(&to_ask), answered.clone(), Arc::clone(&wake));
            thread::Builder::new().name("seeker".to_owned()).spawn(move || {
                while let Some(ask) = next(&to_ask) {
                    // Whoever wanted the answer may be gone.
                    let _ = answered.send(seeker.seek(&ask));
                    let _ = wake.write(1);
                }
            })?;
        }
        Ok(Self { wake, asks, answers })
    }

    /// Asks as soon as a thread is free.
    pub fn ask(&self, ask: Ask) {
        // The threads end only with this.
        let _ = self.asks.send(ask);
    }

    /// The answers that came.
    pub fn take(&self) -> impl Iterator<Item = Answer> + use<'_> {
        // Nothing to read: somebody else was told.
        let _ = self.wake.read();
        self.answers.try_iter()
    }
}

struct Seeker {
    rewind: Arc<Rewind>,
    agent: Agent,
}

impl Seeker {
    fn seek(&self, ask: &Ask) -> Answer {
        let prepared = self.prepare();
        let sent = Moment::now();
        let result = prepared.and_then(|()| self.post(ask));
        Answer { viewer: ask.viewer, sent, answered: Moment::now(), result }
    }

    fn prepare(&self) -> Result<(), String> {
        let Some(command) = &self.rewind.before else { return Ok(()) };
        let status = Command::new("sh").args(["-c", command]).status().map_err(|error| error.to_string())?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("seek: the command before it ended with {status}"))
        }
    }

    fn post(&self, ask: &Ask) -> Result<(), String> {
        let mut url = self.rewind.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["client-session-control", &ask.session, "seek"]);
        }
        let mut request = self.agent.post(url.as_str()).header("Content-Type", "application/json");
        if let Some(authorization) = &self.rewind.authorization {
            request = request.header("Authorization", authorization);
        }
        let body = format!(r#"{{"timestamp":{}}}"#, ask.unix_ms);
        let mut response = request.send(body).map_err(|error| format!("seek: {error}"))?;
        let text = response.body_mut().read_to_string().map_err(|error| format!("seek: {error}"))?;
        match response.status().as_u16() {
            200 if text.contains(r#""is_live":false"#) => Ok(()),
            200 => Err("seek: it is live".to_owned()),
            status => Err(format!("seek: {status}")),
        }
    }
}

fn agent() -> Agent {
    let config = Config::builder().http_status_as_error(false).timeout_global(Some(REQUEST_TIMEOUT));
    config.build().new_agent()
}

fn next(asks: &Mutex<Receiver<Ask>>) -> Option<Ask> {
    asks.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// A number that looks like nothing, the same for the same seed (splitmix64).
fn scatter(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// A player begins with the keyframe before the wanted picture: a GOP of ours is 2 s.
const GOP_MS_MAX: i64 = 3000;

/// The time that a recorder gives to a picture and the camera's stamp differ by the way between them.
const STAMP_MS: i64 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_scattered_over_their_range_and_stay_in_it() {
        let between = Times::Between(1000..2000);
        let picked: Vec<_> = (0..500).map(|viewer| between.pick(9, viewer, 0)).collect();
        assert!(picked.iter().all(|time| (1000..2000).contains(time)));
        for quarter in [1000..1250, 1250..1500, 1500..1750, 1750..2000] {
            assert!(picked.iter().filter(|&time| quarter.contains(time)).count() > 80, "{quarter:?}");
        }
        assert_eq!(between.pick(0, 7, 3), between.pick(5, 7, 3));
        assert_ne!(between.pick(0, 7, 3), between.pick(0, 7, 4));
        assert!((4000..=9000).contains(&Times::Ago(1000..6000).pick(10_000, 1, 1)));
        assert_eq!(Times::Between(5..5).pick(0, 1, 1), 5);
    }

    #[test]
    fn pictures_from_a_gop_before_the_wanted_time_on_are_expected() {
        let now = unix_ms();
        let Range { start, end } = expected(now);
        let present = Moment::now();
        assert!(start < present && present < end);
        assert!(!(expected(now - 60_000).contains(&present)));
    }
}
