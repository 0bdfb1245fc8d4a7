//! A shard as the control plane sees it: where commands go.
//!
//! The only place that knows how a command travels, so that tests can put a thread of their own behind it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lanecast_shard::{Command, Reply, ShardBusy, ShardHandle};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

/// One shard. Cheap to clone.
#[derive(Clone)]
pub struct Shard {
    index: usize,
    udp_port: u16,
    send: Arc<dyn Fn(Command) -> Result<(), ShardBusy> + Send + Sync>,
}

/// The shard took a command and did not answer in time, or did not take it in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard does not answer")]
pub struct Unanswered;

impl Shard {
    /// A shard with this UDP port whose commands go to `send`, which never blocks.
    pub fn new(
        index: usize,
        udp_port: u16,
        send: impl Fn(Command) -> Result<(), ShardBusy> + Send + Sync + 'static,
    ) -> Self {
        Self { index, udp_port, send: Arc::new(send) }
    }

    /// Its index.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its UDP port.
    pub fn udp_port(&self) -> u16 {
        self.udp_port
    }

    /// Queues a command, from any thread. Never blocks.
    ///
    /// # Errors
    /// The command, when the queue is full or the shard is gone.
    pub fn send(&self, command: Command) -> Result<(), ShardBusy> {
        (self.send)(command)
    }

    /// Queues a command; a full queue is tried again for [`DELIVERY_TIMEOUT`].
    pub async fn deliver(&self, mut command: Command) -> Result<(), ShardBusy> {
        let deadline = Instant::now() + DELIVERY_TIMEOUT;
        loop {
            command = match (self.send)(command) {
                Ok(()) => return Ok(()),
                Err(busy) if Instant::now() >= deadline => return Err(busy),
                Err(ShardBusy(command)) => command,
            };
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Queues a command and waits for its answer, as long as one that needs no disk may take.
    pub async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Unanswered> {
        self.ask_for(ANSWER_TIMEOUT, command).await
    }

    /// Queues a command and waits this long for its answer.
    pub async fn ask_for<T>(
        &self,
        patience: Duration,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, Unanswered> {
        let (reply, answer) = oneshot::channel();
        self.deliver(command(reply)).await.map_err(|_| Unanswered)?;
        match timeout(patience, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(Unanswered),
        }
    }
}

impl From<&ShardHandle> for Shard {
    fn from(handle: &ShardHandle) -> Self {
        let handle = handle.clone();
        Self::new(handle.index(), handle.udp_port(), move |command| handle.send(command))
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shard({})", self.index)
    }
}

/// A shard empties its queue every turn; one that does not for this long is in trouble.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than a turn of a loaded shard.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// Answers come within a turn or two.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_is_tried_again() {
        let attempts = Arc::new(AtomicUsize::new(0));
        let counted = attempts.clone();
        let shard = Shard::new(0, 5000, move |command| match counted.fetch_add(1, Ordering::Relaxed) {
            0..10 => Err(ShardBusy(command)),
            _ => Ok(()),
        });
        assert!(shard.deliver(Command::Shutdown).await.is_ok());
        assert_eq!(attempts.load(Ordering::Relaxed), 11);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_stays_full_gives_the_command_back() {
        let shard = Shard::new(0, 5000, |command| Err(ShardBusy(command)));
        assert!(matches!(shard.deliver(Command::Shutdown).await, Err(ShardBusy(Command::Shutdown))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_without_an_answer_ends() {
        let shard = Shard::new(0, 5000, |command| {
            std::mem::forget(command);
            Ok(())
        });
        let answer = shard.ask(|reply| Command::ReadStatistics { reply }).await;
        assert_eq!(answer.err(), Some(Unanswered));
    }
}
