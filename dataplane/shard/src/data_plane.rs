//! Starts the shards and gives the control plane its ends of the channels.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use glommio::{LocalExecutorBuilder, Placement};
use lanecast_dvr::recorder::RecorderConfig;
use lanecast_net::{Waker, allowed_cpus, bind_udp};
use lanecast_transcode::input::Inputs;
use lanecast_transcode::slate::SlateWorker;
use lanecast_webrtc::dtls::Certificate;
use tokio::sync::mpsc;

use crate::executor::{self, ShardStart};
use crate::shard::Workers;
use crate::{Command, Event};

/// Commands that wait for a shard. A shard takes them between two bursts, so hundreds wait only when thousands of
/// viewers come in the same millisecond; then the control plane answers 503.
const COMMAND_QUEUE: usize = 4096;
/// Events that wait for the control plane; what does not fit waits on the shard, one entry a stream and session.
const EVENT_QUEUE: usize = 4096;
/// Memory that glommio registers for its own file I/O; media does not pass there, and locked memory is scarce.
const EXECUTOR_IO_MEMORY: usize = 64 << 10;
/// Depth of glommio's own rings.
const EXECUTOR_RING_DEPTH: usize = 32;
/// How long inputs may take to let go at the end, looked at this often.
const INPUTS_LET_GO: Duration = Duration::from_secs(1);
const INPUTS_POLL: Duration = Duration::from_millis(5);
/// When glommio takes the processor away from a task: never, for a shard is the only one. At the default of 100 ms an
/// executor whose thread the kernel had set aside for so long before it ran a task took "preempted" for "nothing to do",
/// and slept for ever (glommio 0.9.0; glommio/glommio pull request 53 tells it).
const EXECUTOR_PREEMPTION: Duration = Duration::from_secs(24 * 3600);

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
    /// Settings of all recorders.
    pub recorder: RecorderConfig,
    /// Inputs that workers may have open at a time, each with a thread.
    pub foreign_inputs_max: usize,
    /// Viewers get the offline picture after so long without a picture; `None`: never.
    pub slate_after: Option<Duration>,
}

impl Default for DataPlaneConfig {
    fn default() -> Self {
        Self {
            shards: 1,
            udp_bind: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            udp_port: 5000,
            max_udp_payload: 1200,
            gop_cache_bytes: 32 << 20,
            websocket_queue_bytes: 4 << 20,
            allow_foreign_destination: false,
            recorder: RecorderConfig::default(),
            foreign_inputs_max: 64,
            slate_after: Some(Duration::from_secs(2)),
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
    /// No DTLS certificate could be made.
    #[error(transparent)]
    Certificate(#[from] lanecast_webrtc::dtls::CertificateError),
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
    commands: Sender<Command>,
    waker: Waker,
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
    ///
    /// # Errors
    /// The command, when the queue is full or the shard is gone.
    pub fn send(&self, command: Command) -> Result<(), ShardBusy> {
        match self.commands.try_send(command) {
            Ok(()) => {
                self.waker.wake();
                Ok(())
            }
            Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => Err(ShardBusy(command)),
        }
    }
}

/// The running shards.
#[derive(Debug)]
pub struct DataPlane {
    certificate: Arc<Certificate>,
    shards: Vec<ShardHandle>,
    threads: Vec<JoinHandle<()>>,
    inputs: Inputs,
    slates: SlateWorker,
}

impl DataPlane {
    /// Starts all shards; they run when this returns.
    ///
    /// # Errors
    /// When a port cannot be bound or a shard does not come up; shards that did end again.
    pub fn start(config: &DataPlaneConfig) -> Result<(Self, Events), StartError> {
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let cpus = allowed_cpus();
        let certificate = Arc::new(Certificate::generate()?);
        let mut plane = Self {
            certificate,
            shards: Vec::new(),
            threads: Vec::new(),
            inputs: Inputs::new(config.foreign_inputs_max),
            slates: SlateWorker::start(),
        };
        for index in 0..config.shards.max(1) {
            let started =
                plane.start_shard(config, index, cpu_of(&cpus, config.shards, index), events.clone());
            if let Err(error) = started {
                plane.stop();
                return Err(error);
            }
        }
        Ok((plane, Events { receiver }))
    }

    /// The shards by index.
    pub fn shards(&self) -> &[ShardHandle] {
        &self.shards
    }

    /// The DTLS certificate of all shards.
    pub fn certificate(&self) -> &Arc<Certificate> {
        &self.certificate
    }

    /// Waits for the shards' threads, after `Command::Shutdown` and all `Event::Stopped`.
    pub fn join(self) {
        for thread in self.threads {
            // A shard that panicked has said so on its own thread.
            let _ = thread.join();
        }
        // What FFmpeg stands on, libsrt for one, crashes when the process ends while a thread is in it. An input lets go
        // within a tenth of a second as a rule; one that does not is not waited for.
        let ends = Instant::now() + INPUTS_LET_GO;
        while self.inputs.open_count() > 0 && Instant::now() < ends {
            std::thread::sleep(INPUTS_POLL);
        }
    }

    fn start_shard(
        &mut self,
        config: &DataPlaneConfig,
        index: usize,
        cpu: Option<usize>,
        events: mpsc::Sender<Event>,
    ) -> Result<(), StartError> {
        let port = if config.udp_port == 0 { 0 } else { config.udp_port.saturating_add(index as u16) };
        let udp = bind_udp(SocketAddr::new(config.udp_bind, port))
            .map_err(|source| StartError::Bind { port, source })?;
        let failed = |reason: String| StartError::Shard { shard: index, reason };
        let udp_port = port_of(&udp).map_err(|error| failed(error.to_string()))?;
        let waker = Waker::new().map_err(|error| failed(error.to_string()))?;
        let (sender, commands) = crossbeam_channel::bounded(COMMAND_QUEUE);
        let handle = ShardHandle { index, udp_port, commands: sender, waker: waker.clone() };
        let start = ShardStart {
            index,
            udp,
            udp_port,
            certificate: self.certificate.clone(),
            waker,
            commands,
            events,
            config: config.clone(),
            workers: Workers {
                own: handle.clone(),
                inputs: self.inputs.clone(),
                slates: self.slates.clone(),
            },
        };
        let (ready, is_ready) = crossbeam_channel::bounded(1);
        let thread = std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || run_thread(start, cpu, &ready))
            .map_err(|error| failed(error.to_string()))?;
        self.threads.push(thread);
        wait_ready(&is_ready).map_err(failed)?;
        self.shards.push(handle);
        Ok(())
    }

    fn stop(self) {
        for shard in &self.shards {
            // A shard that is gone needs no order to go.
            let _ = shard.send(Command::Shutdown);
        }
        self.join();
    }
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

/// Shard 0 takes the second processor where there is one to spare: the first is the control plane's.
fn cpu_of(cpus: &[usize], shards: usize, index: usize) -> Option<usize> {
    let spare = usize::from(shards < cpus.len());
    (!cpus.is_empty()).then(|| cpus[(index + spare) % cpus.len()])
}

fn port_of(udp: &OwnedFd) -> std::io::Result<u16> {
    let socket = lanecast_net::Socket::from(udp.try_clone()?);
    Ok(socket.local_addr()?.port())
}

fn wait_ready(ready: &Receiver<Result<(), String>>) -> Result<(), String> {
    ready.recv().unwrap_or_else(|_| Err("its thread died".into()))
}

fn run_thread(start: ShardStart, cpu: Option<usize>, ready: &Sender<Result<(), String>>) {
    let index = start.index;
    let _farewell = Farewell { shard: index, events: start.events.clone() };
    let builder = |placement| {
        LocalExecutorBuilder::new(placement)
            .name(&format!("shard-{index}"))
            .io_memory(EXECUTOR_IO_MEMORY)
            .ring_depth(EXECUTOR_RING_DEPTH)
            .preempt_timer(EXECUTOR_PREEMPTION)
            .make()
    };
    let executor = match cpu.map(|cpu| builder(Placement::Fixed(cpu))) {
        Some(Ok(executor)) => Ok(executor),
        refused => {
            if let Some(Err(error)) = refused {
                tracing::warn!(shard = index, %error, "cannot pin the shard to its processor");
            }
            builder(Placement::Unbound)
        }
    };
    match executor {
        Ok(executor) => executor.run(executor::run(start, ready.clone())),
        Err(error) => {
            // The starter waits for this answer.
            let _ = ready.send(Err(error.to_string()));
        }
    }
}

/// Tells the control plane that a shard is gone, however it went.
struct Farewell {
    shard: usize,
    events: mpsc::Sender<Event>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        // The control plane may have stopped listening.
        let _ = self.events.blocking_send(Event::Stopped { shard: self.shard });
    }
}
