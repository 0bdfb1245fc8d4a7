//! What is known of each input.

use std::time::{Duration, Instant};

use super::attempt::{Attempt, Failure};
use super::backoff::Backoff;

/// What is known of one input.
#[derive(Debug)]
pub(super) struct InputRecord {
    /// It failed since the last pause.
    pub(super) failed: bool,
    /// Its UDP packets did not arrive: ask for TCP.
    pub(super) udp_silent: bool,
    /// It failed, and is not disturbed until then while another gives pictures.
    pub(super) retry_at: Option<Instant>,
    /// Why it failed last.
    pub(super) failure: Option<Failure>,
    backoff: Backoff,
}

impl InputRecord {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            failed: false,
            udp_silent: false,
            retry_at: None,
            failure: None,
            backoff: Backoff::leisurely(seed),
        }
    }

    /// It may be tried while another gives pictures.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| now >= at)
    }

    /// An attempt failed; one that never began is `None`.
    pub(super) fn fail(
        &mut self,
        now: Instant,
        attempt: Option<&Attempt>,
        interval: Option<Duration>,
        failure: Failure,
    ) {
        let delivered = attempt.and_then(Attempt::delivered);
        if delivered.is_some_and(|delivered| delivered >= FORGIVING_PERIOD) {
            self.backoff.reset();
        }
        self.failed = true;
        // What was learnt of UDP may have been the network's fault.
        self.udp_silent = attempt.is_some_and(|attempt| attempt.udp_silent) && delivered.is_some();
        self.retry_at = Some(now + self.backoff.next_pause(interval, !failure.unauthorized));
        self.failure = Some(failure);
    }

    /// All inputs failed, and are tried again from the best.
    pub(super) fn start_over(&mut self) {
        self.failed = false;
        self.retry_at = None;
    }
}

/// An input that comes and goes within this is tried again less and less often.
const FORGIVING_PERIOD: Duration = Duration::from_secs(60);
