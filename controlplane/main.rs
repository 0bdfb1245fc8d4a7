//! The program: settings → database and catalogue → shards → HTTP → an ordered end.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use lanecast::catalog::Catalog;
use lanecast::config::{Config, ConfigError, Task};
use lanecast::control_plane::{ControlPlane, Limits};
use lanecast::definition::{Definition, InputDefinition, Transport};
use lanecast::http::{ServerLimits, bind, router, serve};
use lanecast::shards::Shard;
use lanecast::source_id::SourceId;
use lanecast::store::Store;
use lanecast::tls::TlsTrust;
use lanecast::webrtc::{Listening, WebRtc, follow_stun_server, serve_ice_tcp};
use lanecast_shard::{DataPlane, Events, StartError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info, warn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config = match Config::from_process() {
        Ok(config) => config,
        Err(ConfigError::CommandLine(error)) => error.exit(),
        Err(error) => {
            eprintln!("lanecast: {error}");
            return ExitCode::from(2);
        }
    };
    lanecast::log::start(&config.log);
    let done = match config.task {
        Task::Serve => run(&config),
        Task::RebuildCatalog => rebuild_catalog(&config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config) -> anyhow::Result<()> {
    raise_file_limit(config);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("blocking")
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .context("cannot start the control thread")?;
    let served = runtime.block_on(serve_until_told(config));
    // A name look-up may block for long; nothing waits for it. What else held the control plane is gone with this.
    runtime.shutdown_background();
    let Ended { control, deadline, failed } = served?;
    close(control, deadline);
    info!("stopped");
    // Whoever supervises the process starts it again.
    anyhow::ensure!(!failed, "all shards have failed");
    Ok(())
}

fn rebuild_catalog(config: &Config) -> anyhow::Result<()> {
    let segments = lanecast::catalog::rebuild(&config.recording).context("cannot rebuild the catalogue")?;
    println!("{segments} segments are in the catalogue of {}", config.recording.folder.display());
    Ok(())
}

/// A server that has ended but for its files.
struct Ended {
    control: Arc<ControlPlane>,
    /// When the process must be gone.
    deadline: Instant,
    /// By itself.
    failed: bool,
}

/// Closes the catalogue and the database. What a disk does not take by the deadline is mended at the next start.
fn close(control: Arc<ControlPlane>, deadline: Instant) {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        match Arc::into_inner(control) {
            Some(control) => control.close(),
            None => error!("a task outlived the runtime; the next start mends the catalogue"),
        }
        // Nobody listens after the deadline.
        let _ = done.send(());
    });
    if is_done.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
        warn!("the catalogue could not be closed in time; the next start mends it");
    }
}

async fn serve_until_told(config: &Config) -> anyhow::Result<Ended> {
    let mut told = StopSignals::new()?;
    let (store, streams) = Store::open(&config.data_dir).context("cannot open the database")?;
    let catalog = Catalog::open(config.recording.clone())
        .context("cannot open the catalogue of the recordings (recording.dir)")?;
    let address = config.http.bind;
    let listener = bind(address).with_context(|| format!("cannot listen on {address} (http.bind)"))?;
    let (data_plane, events, udp_bind) = start_data_plane(config)?;
    let shards: Vec<Shard> = data_plane.shards().iter().map(Shard::from).collect();
    let ice_tcp = bind_ice_tcp(config, udp_bind)?;
    let webrtc = webrtc(config, &data_plane, udp_bind, ice_tcp.as_ref())?;
    let control = ControlPlane::new(limits(config), config.source.clone(), shards, store, catalog, webrtc);
    let mut event_task = tokio::spawn(take_events(control.clone(), events));
    control
        .restore(streams)
        .await
        .map_err(|error| anyhow::anyhow!("cannot restore the streams: {}", error.reason()))?;
    let _demo = if config.demo { Some(start_demo(&control, &listener).await?) } else { None };
    info!(shards = data_plane.shards().len(), "listening on http://{}", listener.local_addr()?);
    let mut servers = JoinSet::new();
    servers.spawn(serve(
        listener,
        router(control.clone(), &config.http.cors_origins),
        ServerLimits { connections: config.http.max_connections, header_timeout: config.http.header_timeout },
        control.stopping(),
    ));
    if let Some(listener) = ice_tcp {
        servers.spawn(serve_ice_tcp(listener, control.clone()));
    }
    if let Some(server) = config.webrtc.stun.clone() {
        servers.spawn(follow_stun_server(control.clone(), server, udp_bind));
    }
    let failed = tokio::select! {
        () = told.wait() => false,
        () = control.all_shards_lost() => true,
    };
    info!("stopping");
    let deadline = Instant::now() + STOP_PATIENCE;
    tokio::spawn(async move {
        told.wait().await;
        std::process::exit(1);
    });
    control.stop();
    match control.stop_shards(SHARDS_PATIENCE).await {
        true => data_plane.join(),
        false => warn!("a shard did not stop in time"),
    }
    // A task that panicked has already said so.
    while servers.join_next().await.is_some() {}
    // The events end with the shards; the last of them close the recordings.
    if timeout(EVENTS_PATIENCE, &mut event_task).await.is_err() {
        event_task.abort();
    }
    Ok(Ended { control, deadline, failed })
}

async fn take_events(control: Arc<ControlPlane>, mut events: Events) {
    while let Some(event) = events.recv().await {
        control.handle_event(event);
    }
}

/// On a machine without IPv6 the default address cannot be bound; IPv4 alone is then what was meant.
fn start_data_plane(config: &Config) -> anyhow::Result<(DataPlane, Events, IpAddr)> {
    let mut udp_bind = config.data_plane.udp_bind;
    let started = match DataPlane::start(&config.data_plane) {
        Err(StartError::Bind { source, .. }) if !config.udp_bind_given && is_no_ipv6(&source) => {
            warn!("no IPv6 on this machine: UDP takes IPv4 only");
            udp_bind = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            DataPlane::start(&lanecast_shard::DataPlaneConfig { udp_bind, ..config.data_plane.clone() })
        }
        started => started,
    };
    let (data_plane, events) =
        started.context("cannot start the data plane (wsc.udp_bind, wsc.udp_port, shards)")?;
    Ok((data_plane, events, udp_bind))
}

fn bind_ice_tcp(config: &Config, udp_bind: IpAddr) -> anyhow::Result<Option<TcpListener>> {
    let address = config.webrtc.tcp_bind.address(udp_bind, config.data_plane.udp_port);
    let listen =
        |address| bind(address).with_context(|| format!("cannot listen on {address} (webrtc.tcp_bind)"));
    address.map(listen).transpose()
}

fn webrtc(
    config: &Config,
    data_plane: &DataPlane,
    udp_bind: IpAddr,
    ice_tcp: Option<&TcpListener>,
) -> anyhow::Result<WebRtc> {
    let listening = Listening {
        udp_bind,
        tcp: ice_tcp.map(TcpListener::local_addr).transpose()?,
        public_addresses: config.webrtc.public_addresses.clone(),
    };
    let fingerprint = data_plane.certificate().fingerprint().clone();
    Ok(WebRtc::new(fingerprint, listening, data_plane.shards().len()))
}

fn limits(config: &Config) -> Limits {
    Limits {
        body_bytes: config.http.max_body_bytes,
        wsc_sessions: config.max_sessions,
        webrtc_sessions: config.webrtc.max_sessions,
        webrtc_sessions_per_stream: config.webrtc.max_sessions_per_stream,
    }
}

fn is_no_ipv6(error: &std::io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
        || code == Some(nix::errno::Errno::EADDRNOTAVAIL as i32)
}

/// Starts the built-in camera and shows its streams as long as the process lives.
async fn start_demo(
    control: &ControlPlane,
    listener: &TcpListener,
) -> anyhow::Result<lanecast_camera::DemoCamera> {
    let camera = lanecast_camera::start_demo((Ipv4Addr::LOCALHOST, 0).into())
        .context("cannot start the demo camera")?;
    for (name, url) in DEMO_STREAMS.iter().zip(camera.urls()) {
        let url = url.parse().context("the demo camera has a strange URL")?;
        let input = InputDefinition {
            label: "demo".into(),
            url,
            username: None,
            password: None,
            priority: 0,
            transport: Transport::Auto,
            tls: TlsTrust::System,
        };
        let definition = Definition {
            inputs: vec![input],
            should_record: false,
            restart_interval_secs: None,
            on_demand: false,
        };
        let added = control.add_unstored(SourceId::Text((*name).into()), definition).await;
        match added {
            Ok(true) => {}
            Ok(false) => warn!(stream = name, "the demo leaves a stream of this name as it is"),
            Err(error) => anyhow::bail!("cannot add the demo's streams: {}", error.reason()),
        }
    }
    print_demo(listener.local_addr()?.port());
    Ok(camera)
}

fn print_demo(port: u16) {
    println!("The demo camera runs. Open:");
    println!("  http://localhost:{port}/            the streams");
    println!("  http://localhost:{port}/swagger-ui/ the API");
    for name in DEMO_STREAMS {
        println!("  ws://localhost:{port}/streams/{name}/wsc-rtp");
    }
}

struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Every connection and session is a file descriptor, and the usual soft limit is 1024.
fn raise_file_limit(config: &Config) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        warn!(%error, "the limit of open files stays low");
        return;
    }
    let wanted = (config.http.max_connections + config.max_sessions) as u64 + OTHER_FILES;
    if hard < wanted {
        warn!(limit = hard, wanted, "the limit of open files is lower than the settings allow for");
    }
}

/// The streams of `--demo`, in the order of the demo camera's URLs.
const DEMO_STREAMS: [&str; 2] = ["demo", "demo-h265"];
/// The server ends within five seconds.
const STOP_PATIENCE: Duration = Duration::from_millis(4_800);
/// Of that, for the shards.
const SHARDS_PATIENCE: Duration = Duration::from_secs(4);
/// Of that, for the events of shards that have ended: they are there, and only one that is stuck keeps them open.
const EVENTS_PATIENCE: Duration = Duration::from_millis(100);
/// The system's resolver blocks one each.
const BLOCKING_THREADS_MAX: usize = 8;
/// Cameras, rings, the database, recordings.
const OTHER_FILES: u64 = 1024;
