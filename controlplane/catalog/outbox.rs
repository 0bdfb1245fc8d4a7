//! Answers to shards. A shard whose queue is full is tried again for a while; nobody waits for it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lanecast_shard::{Command, ShardBusy};
use tracing::warn;

use crate::shards::Shard;

/// Answers that wait for their shard.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    shard: Shard,
    command: Command,
    until: Instant,
}

impl Outbox {
    /// Sends, now or soon.
    pub(super) fn send(&mut self, now: Instant, shard: Shard, command: Command) {
        if let Err(ShardBusy(command)) = shard.send(command) {
            self.waiting.push_back(Waiting { shard, command, until: now + PATIENCE });
        }
    }

    /// Tries again. Gives what no shard took in time.
    pub(super) fn flush(&mut self, now: Instant) -> Vec<Command> {
        let mut abandoned = Vec::new();
        for _ in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.pop_front() else { break };
            let Waiting { shard, command, until } = waiting;
            match shard.send(command) {
                Ok(()) => {}
                Err(ShardBusy(command)) if now >= until || self.waiting.len() >= LENGTH_MAX => {
                    warn!(shard = shard.index(), "the shard does not take an answer of the catalogue");
                    abandoned.push(command);
                }
                Err(ShardBusy(command)) => self.waiting.push_back(Waiting { shard, command, until }),
            }
        }
        abandoned
    }

    /// When to try again, if at all.
    pub(super) fn retry_pause(&self) -> Option<Duration> {
        (!self.waiting.is_empty()).then_some(RETRY_PAUSE)
    }
}

/// A shard empties its queue every turn; one that does not for this long is in trouble.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than a turn of a loaded shard.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// Every answer may hold an open file.
const LENGTH_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn shard(busy: &Arc<AtomicBool>) -> Shard {
        let busy = busy.clone();
        Shard::new(0, 5000, move |command| match busy.load(Ordering::Relaxed) {
            true => Err(ShardBusy(command)),
            false => Ok(()),
        })
    }

    #[test]
    fn a_busy_shard_is_tried_again() {
        let busy = Arc::new(AtomicBool::new(true));
        let mut outbox = Outbox::default();
        let now = Instant::now();
        outbox.send(now, shard(&busy), Command::Shutdown);
        assert!(outbox.flush(now).is_empty() && outbox.retry_pause().is_some());
        busy.store(false, Ordering::Relaxed);
        assert!(outbox.flush(now).is_empty() && outbox.retry_pause().is_none());
    }

    #[test]
    fn an_answer_that_is_never_taken_comes_back() {
        let busy = Arc::new(AtomicBool::new(true));
        let mut outbox = Outbox::default();
        let now = Instant::now();
        outbox.send(now, shard(&busy), Command::Shutdown);
        assert_eq!(outbox.flush(now + PATIENCE).len(), 1);
        assert!(outbox.retry_pause().is_none());
    }
}
