//! The loop of a shard: reap completions, run what they feed, send what that queued, sleep.
//!
//! The only reader of the monotonic clock: once a turn, and once a handshake. (Sender reports need the wall clock, which
//! `shard::webrtc` reads for each.)

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use lanecast_net::{Ring, Sleeper, Waker};
use lanecast_webrtc::dtls::Certificate;
use tokio::sync::mpsc;

use crate::shard::{Shard, Workers};
use crate::token::{Owner, Token};
use crate::{Command, DataPlaneConfig, Event};

/// Commands taken in one turn, so that a thousand joins do not hold up a burst.
const COMMANDS_PER_TURN: usize = 32;

/// What a shard's thread is given.
pub(crate) struct ShardStart {
    pub(crate) index: usize,
    pub(crate) udp: OwnedFd,
    pub(crate) udp_port: u16,
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) waker: Waker,
    pub(crate) commands: Receiver<Command>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) config: DataPlaneConfig,
    pub(crate) workers: Workers,
}

/// Runs until the shard was told to shut down and has.
pub(crate) async fn run(start: ShardStart, ready: Sender<Result<(), String>>) {
    let udp_token = Token { owner: Owner::Udp, slot: 0, epoch: 0 }.pack();
    let parts = Ring::new(start.waker.clone(), start.udp, udp_token)
        .and_then(|ring| Sleeper::new(&start.waker).map(|sleeper| (ring, sleeper)));
    let (ring, sleeper) = match parts {
        Ok(parts) => parts,
        Err(error) => {
            // The starter waits for this answer.
            let _ = ready.send(Err(format!("io_uring: {error}")));
            return;
        }
    };
    let mut shard = Shard::new(
        start.index,
        start.udp_port,
        start.config,
        ring,
        start.events,
        start.certificate,
        start.workers,
    );
    // As above.
    let _ = ready.send(Ok(()));
    if let Err(error) = turns(&mut shard, &start.commands, &sleeper).await {
        tracing::error!(shard = start.index, %error, "the shard cannot go on");
    }
}

/// Handshakes get a quarter of what the turn took, and one is always done: a storm of joins slows media by that much, and
/// media stops no join.
fn shake_hands(shard: &mut Shard, turn_start: Instant) {
    if !shard.has_handshakes() {
        return;
    }
    let mut now = Instant::now();
    let until = now + now.saturating_duration_since(turn_start) / 4;
    loop {
        shard.shake_hands(now);
        now = Instant::now();
        if now >= until || !shard.has_handshakes() {
            return;
        }
    }
}

async fn turns(shard: &mut Shard, commands: &Receiver<Command>, sleeper: &Sleeper) -> std::io::Result<()> {
    loop {
        let now = Instant::now();
        for command in commands.try_iter().take(COMMANDS_PER_TURN) {
            shard.handle_command(now, command);
        }
        shard.turn(now);
        shake_hands(shard, now);
        shard.submit(now)?;
        if shard.is_stopped() {
            return Ok(());
        }
        if commands.is_empty() && shard.prepare_sleep() {
            // A command queued after the look above has written to the eventfd, so the sleep ends at once.
            sleeper.sleep().await?;
            shard.awake();
        } else {
            glommio::yield_if_needed().await;
        }
    }
}
