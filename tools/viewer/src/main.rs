//! The program: what the command line says, turned into a watch or a load.

use std::fs::File;
use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use lanecast_viewer::crowd::SHARED_VIEWERS_MAX;
use lanecast_viewer::elementary::Elementary;
use lanecast_viewer::interrupt::Interrupt;
use lanecast_viewer::load::{self, Load, WindowEnd};
use lanecast_viewer::process::raise_file_limit;
use lanecast_viewer::punch::Punch;
use lanecast_viewer::receive::SocketOptions;
use lanecast_viewer::session::{Conduct, Revision, Transport};
use lanecast_viewer::summary::{Run, Summary};
use lanecast_viewer::viewer::Plan;
use lanecast_viewer::watch::{self, Watch};
use url::Url;

/// A WSC-RTP viewer, or thousands, that checks what it gets.
///
/// Ends with 0 when all went well, 1 when a session failed or got no packet, 3 when --strict found a fault,
/// 2 for a bad command line.
#[derive(Parser)]
#[command(version)]
struct CommandLine {
    #[command(flatten)]
    client: Client,
    #[command(subcommand)]
    mode: Option<Mode>,
}

#[derive(Subcommand)]
enum Mode {
    /// One viewer that shows what it sees; the default.
    Watch(WatchOptions),
    /// Many viewers that add up what they see.
    Load(LoadOptions),
}

/// What every viewer is, and how it behaves.
#[derive(Args)]
struct Client {
    /// The server.
    #[arg(long, global = true, default_value = "http://127.0.0.1:8009")]
    url: Url,
    /// The stream's `source_id`.
    #[arg(long, global = true, default_value = "1")]
    stream: String,
    /// The client's revision [default: 1 over UDP, 2 over the WebSocket].
    #[arg(long, global = true, value_parser = clap::value_parser!(u8).range(1..=2))]
    revision: Option<u8>,
    /// How RTP comes.
    #[arg(long, global = true, value_enum, default_value = "udp")]
    transport: Transport,
    /// The punch [default: the revision's own].
    #[arg(long, global = true, value_enum)]
    punch: Option<Punch>,
    /// Wait before the punch, ms.
    #[arg(long, global = true, default_value_t = 0)]
    punch_delay_ms: u64,
    /// Punch from another socket than RTP comes to (t5rtp only).
    #[arg(long, global = true)]
    separate_punch: bool,
    /// Sent as `Authorization: Bearer`.
    #[arg(long, global = true)]
    token: Option<String>,
    /// Length of the watch, or of the load's window.
    #[arg(long, global = true)]
    seconds: Option<f64>,
    /// The same in packets, of all viewers together.
    #[arg(long, global = true, conflicts_with = "seconds")]
    packets: Option<u64>,
    /// Write the summary as JSON to this file; `-` is standard output.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Any loss, repeat, jump or breach of the contract ends with 3.
    #[arg(long, global = true)]
    strict: bool,
    /// The camera sends B-frames: timestamps that go back are no fault.
    #[arg(long, global = true)]
    b_frames: bool,
    /// Receive buffer of a socket, bytes.
    #[arg(long, global = true, default_value_t = 4 << 20)]
    receive_buffer: usize,
    /// Receive without UDP_GRO.
    #[arg(long, global = true)]
    no_gro: bool,
    /// Receive without the kernel's stamps: `latency_arrived` is then that of the read.
    #[arg(long, global = true)]
    no_kernel_stamps: bool,
    /// Send no pings.
    #[arg(long, global = true)]
    no_ping: bool,
    /// Never acknowledge a dummy (revision 2).
    #[arg(long, global = true)]
    no_ack: bool,
    /// Send garbage of every kind, every second.
    #[arg(long, global = true)]
    garbage: bool,
    /// Read nothing any more after so many seconds, but ping.
    #[arg(long, global = true)]
    stop_reading_after: Option<f64>,
}

#[derive(Args, Default)]
struct WatchOptions {
    /// Write each SDP to this file; with --forward or --client-port its m= names that port.
    #[arg(long)]
    sdp_out: Option<PathBuf>,
    /// Write the elementary stream, Annex B, to this file; `-` is standard output, and events go to standard error.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Send every packet on to this port of 127.0.0.1.
    #[arg(long)]
    forward: Option<u16>,
    /// Name this port in the punch, and leave receiving there to another program (revision 1).
    #[arg(long, conflicts_with_all = ["forward", "out"])]
    client_port: Option<u16>,
}

#[derive(Args)]
struct LoadOptions {
    /// How many viewers.
    #[arg(long)]
    viewers: u32,
    /// In how many threads.
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// CPUs for the threads, in turn, as 1,2.
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// One UDP socket for each viewer, as real clients have, or a few for all of them:
    /// each viewer then has an address of its own from 127.1.0.0 up (loopback only).
    #[arg(long, value_enum, default_value = "per-viewer")]
    sockets: Sockets,
    /// How many sockets a thread's viewers share.
    #[arg(long, default_value_t = 4)]
    shared_sockets: usize,
    /// The pace of joins.
    #[arg(long, default_value_t = 500.0)]
    joins_per_second: f64,
    /// A viewer with no packet after so many seconds has failed.
    #[arg(long, default_value_t = 15.0)]
    join_timeout: f64,
    /// Seconds from the last join to the window.
    #[arg(long, default_value_t = 1.0)]
    settle: f64,
    /// A process whose CPU time in the window is divided by the packets received.
    #[arg(long)]
    cpu_of: Option<u32>,
    /// A shell command to run before the window opens.
    #[arg(long)]
    on_steady: Option<String>,
    /// A shell command to run after it closed.
    #[arg(long)]
    on_done: Option<String>,
    /// Print a line a second on standard error.
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sockets {
    PerViewer,
    Shared,
}

fn main() -> ExitCode {
    match run(CommandLine::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lanecast-viewer: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn run(command_line: CommandLine) -> Result<ExitCode> {
    let CommandLine { client, mode } = command_line;
    let interrupt = Interrupt::arm().context("signals")?;
    let (summary, media_is_ours) = match mode {
        Some(Mode::Load(options)) => (run_load(&client, options, &interrupt)?, true),
        Some(Mode::Watch(options)) => run_watch(&client, options, &interrupt)?,
        None => run_watch(&client, WatchOptions::default(), &interrupt)?,
    };
    eprint!("{summary}");
    if let Some(path) = &client.json {
        write_json(path, &summary)?;
    }
    let complete = if media_is_ours { summary.is_complete() } else { summary.sessions.failed == 0 };
    Ok(match (complete, client.strict && summary.faults > 0) {
        (false, _) => ExitCode::from(1),
        (true, true) => ExitCode::from(3),
        (true, false) => ExitCode::SUCCESS,
    })
}

fn run_load(client: &Client, options: LoadOptions, interrupt: &Interrupt) -> Result<Summary> {
    let mut plan = client.plan()?;
    plan.join_timeout = Some(duration("--join-timeout", options.join_timeout)?);
    let shared = options.sockets == Sockets::Shared && client.transport == Transport::Udp;
    if shared && !(plan.server.is_ipv4() && plan.server.ip().is_loopback()) {
        bail!("--sockets shared needs a server on 127.0.0.1");
    }
    if shared && (options.viewers > SHARED_VIEWERS_MAX || client.separate_punch) {
        bail!("--sockets shared takes {SHARED_VIEWERS_MAX} viewers at most, and no --separate-punch");
    }
    if options.viewers == 0 || !options.joins_per_second.is_normal() || options.joins_per_second < 0.0 {
        bail!("--viewers and --joins-per-second must be above zero");
    }
    let files = raise_file_limit().context("the limit of open files")?;
    let own_socket = client.transport == Transport::Udp && !shared;
    let a_viewer = 1 + u64::from(own_socket) + u64::from(client.separate_punch);
    let needed = u64::from(options.viewers) * a_viewer + FILES_BESIDE;
    if needed > files {
        bail!("{} viewers need {needed} open files, {files} are allowed", options.viewers);
    }
    let threads = options.threads.clamp(1, options.viewers);
    let window = match client.packets {
        Some(packets) => WindowEnd::Packets(packets),
        None => WindowEnd::Time(duration("--seconds", client.seconds.unwrap_or(10.0))?),
    };
    let mut run = client.run();
    run.viewers = options.viewers;
    run.threads = threads;
    run.shared_sockets = shared.then_some(options.shared_sockets.max(1));
    let load = Load {
        plan,
        run,
        cpus: options.cpus,
        joins_per_second: options.joins_per_second,
        settle: duration("--settle", options.settle)?,
        window,
        observed_pid: options.cpu_of,
        on_steady: options.on_steady,
        on_done: options.on_done,
        verbose: options.verbose,
    };
    load::run(load, interrupt)
}

/// The summary, and whether media was to come to this process.
fn run_watch(client: &Client, options: WatchOptions, interrupt: &Interrupt) -> Result<(Summary, bool)> {
    let mut plan = client.plan()?;
    if options.client_port.is_some() && plan.conduct.punch != Punch::OneWay {
        bail!("--client-port needs the t5rtp punch");
    }
    plan.client_port = options.client_port;
    let piped = options.out.as_deref() == Some("-".as_ref());
    let out: Option<Box<dyn Write>> = match &options.out {
        None => None,
        Some(_) if piped => Some(Box::new(io::stdout())),
        Some(path) => Some(Box::new(File::create(path).with_context(|| path.display().to_string())?)),
    };
    let watch = Watch {
        plan,
        run: client.run(),
        sdp_out: options.sdp_out,
        out: out.map(Elementary::new),
        forward: options.forward,
        events: if piped { Box::new(io::stderr()) } else { Box::new(io::stdout()) },
        seconds: client.seconds.map(|seconds| duration("--seconds", seconds)).transpose()?,
        packets: client.packets,
    };
    Ok((watch::run(watch, interrupt)?, options.client_port.is_none()))
}

impl Client {
    fn plan(&self) -> Result<Plan> {
        let conduct = self.conduct()?;
        let host = self.url.host_str().context("--url has no host")?;
        if self.url.scheme() != "http" {
            bail!("--url must be http");
        }
        let port = self.url.port_or_known_default().unwrap_or(80);
        let server = (host.trim_matches(['[', ']']), port)
            .to_socket_addrs()
            .with_context(|| format!("no address for {host}"))?
            .next()
            .with_context(|| format!("no address for {host}"))?;
        Ok(Plan {
            server,
            url: self.websocket_url(conduct.revision)?,
            authorization: self.token.as_ref().map(|token| format!("Bearer {token}")),
            conduct,
            socket_options: SocketOptions {
                buffer_bytes: self.receive_buffer,
                gro: !self.no_gro,
                kernel_stamps: !self.no_kernel_stamps,
            },
            separate_punch: self.separate_punch,
            client_port: None,
            join_timeout: None,
            stop_reading_after: self
                .stop_reading_after
                .map(|seconds| duration("--stop-reading-after", seconds))
                .transpose()?,
        })
    }

    fn conduct(&self) -> Result<Conduct> {
        let revision = self.revision();
        if self.transport == Transport::Websocket && revision == Revision::One {
            bail!("--transport websocket is of revision 2");
        }
        let own = if revision == Revision::One { Punch::OneWay } else { Punch::Handshake };
        let punch = self.punch.unwrap_or(own);
        if self.separate_punch && punch != Punch::OneWay {
            bail!("--separate-punch needs the t5rtp punch");
        }
        Ok(Conduct {
            revision,
            transport: self.transport,
            punch,
            punch_delay: Duration::from_millis(self.punch_delay_ms),
            pings: !self.no_ping,
            acks: !self.no_ack,
            garbage: self.garbage,
        })
    }

    fn revision(&self) -> Revision {
        match (self.revision, self.transport) {
            (Some(2), _) | (None, Transport::Websocket) => Revision::Two,
            _ => Revision::One,
        }
    }

    fn websocket_url(&self, revision: Revision) -> Result<String> {
        let mut url = self.url.clone();
        let base = "--url cannot have a path under it";
        url.set_scheme("ws").ok().context(base)?;
        url.path_segments_mut().ok().context(base)?.pop_if_empty().extend([
            "streams",
            &self.stream,
            "wsc-rtp",
        ]);
        if revision == Revision::Two {
            let forced = if self.transport == Transport::Websocket { "true" } else { "false" };
            url.query_pairs_mut().append_pair("force_websocket_transport", forced);
        }
        Ok(url.into())
    }

    fn run(&self) -> Run {
        Run {
            url: self.url.to_string(),
            stream: self.stream.clone(),
            revision: if self.revision() == Revision::One { 1 } else { 2 },
            transport: self.transport,
            viewers: 1,
            threads: 1,
            shared_sockets: None,
            b_frames: self.b_frames,
        }
    }
}

fn write_json(path: &PathBuf, summary: &Summary) -> Result<()> {
    let mut text = serde_json::to_string_pretty(summary)?;
    text.push('\n');
    if path.as_os_str() == "-" {
        io::stdout().write_all(text.as_bytes())?;
    } else {
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn duration(name: &str, seconds: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(seconds).with_context(|| format!("{name} is no length of time"))
}

/// Standard streams, epolls, shared sockets, files written.
const FILES_BESIDE: u64 = 64;
