//! The program: what the command line says, turned into a watch or a load.

use std::fs::File;
use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use lanecast_viewer::crowd::SHARED_VIEWERS_MAX;
use lanecast_viewer::elementary::Elementary;
use lanecast_viewer::interrupt::Interrupt;
use lanecast_viewer::load::{self, Load, WindowEnd};
use lanecast_viewer::nal::Codec;
use lanecast_viewer::peer;
use lanecast_viewer::peer::checker::CheckerOptions;
use lanecast_viewer::peer::dtls::SrtpOffer;
use lanecast_viewer::peer::light::Conduct;
use lanecast_viewer::peer::load::PeerLoad;
use lanecast_viewer::peer::lossy::Loss;
use lanecast_viewer::peer::watch::PeerWatch;
use lanecast_viewer::peer::whep::Whep;
use lanecast_viewer::process::raise_file_limit;
use lanecast_viewer::punch::Punch;
use lanecast_viewer::receive::SocketOptions;
use lanecast_viewer::rewind::{Rewind, Times};
use lanecast_viewer::session::{self, Revision, Transport};
use lanecast_viewer::summary::{Run, Summary};
use lanecast_viewer::viewer::Plan;
use lanecast_viewer::watch::{self, Watch};
use url::Url;

/// A WSC-RTP or WebRTC viewer, or thousands, that checks what it gets.
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
    /// Viewers by WebRTC, of any server that speaks WHEP.
    Whep {
        #[command(subcommand)]
        mode: WhepMode,
    },
}

#[derive(Subcommand)]
enum WhepMode {
    /// One full peer that shows what it sees, and repairs what is lost.
    Watch(WhepWatchOptions),
    /// Many light peers that add up what they see.
    Load(WhepLoadOptions),
}

/// What every WebRTC viewer is.
#[derive(Args)]
struct PeerOptions {
    /// The WHEP endpoint [default: the stream's, at the server].
    whep: Option<Url>,
    /// Which SRTP profiles to offer: SHA1_80 and then GCM, as browsers do, or one of them.
    #[arg(long, value_enum, default_value = "both")]
    srtp: SrtpOffer,
    /// What to offer to decode, as h264,h265.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "h264,h265")]
    codecs: Vec<Codec>,
    /// A viewer with no packet after so many seconds has failed.
    #[arg(long, default_value_t = 15.0)]
    join_timeout: f64,
}

#[derive(Args)]
struct WhepWatchOptions {
    #[command(flatten)]
    peer: PeerOptions,
    /// Write the elementary stream, Annex B, to this file; `-` is standard output, and events go to standard error.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Lose that many of 100 media packets at random before the peer sees them.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// What decides which.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct WhepLoadOptions {
    #[command(flatten)]
    peer: PeerOptions,
    #[command(flatten)]
    crowd: CrowdOptions,
    /// In how many threads, beside each of the load's own, offers wait for their answers.
    #[arg(long, default_value_t = 8)]
    signalling_threads: usize,
    /// Ask for what is missing.
    #[arg(long)]
    nack: bool,
    /// Report arrivals by transport-wide sequence numbers, where the server has them.
    #[arg(long)]
    twcc: bool,
    /// After the first picture, authenticate and decrypt one packet, and one access unit's head, in so many.
    #[arg(long, default_value_t = 64)]
    open_every: u32,
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
    #[command(flatten)]
    crowd: CrowdOptions,
    /// One UDP socket for each viewer, as real clients have, or a few for all of them:
    /// each viewer then has an address of its own from 127.1.0.0 up (loopback only).
    #[arg(long, value_enum, default_value = "per-viewer")]
    sockets: Sockets,
    /// How many sockets a thread's viewers share.
    #[arg(long, default_value_t = 4)]
    shared_sockets: usize,
    /// A viewer with no packet after so many seconds has failed.
    #[arg(long, default_value_t = 15.0)]
    join_timeout: f64,
    /// Watch these streams in turn, in place of --stream.
    #[arg(long, value_delimiter = ',')]
    streams: Vec<String>,
    #[command(flatten)]
    rewind: RewindOptions,
}

/// Whether viewers leave live.
#[derive(Args)]
struct RewindOptions {
    /// After its first packet each viewer seeks to a time that many seconds ago, at random, as 10..60.
    #[arg(long, value_parser = parse_seconds)]
    rewind_seconds: Option<Range<i64>>,
    /// The same between two times, Unix milliseconds, as 1700000000000..1700000060000.
    #[arg(long, value_parser = parse_range, conflicts_with = "rewind_seconds")]
    seek_between: Option<Range<i64>>,
    /// How many seeks each viewer makes before the window.
    #[arg(long, default_value_t = 1)]
    seeks: u32,
    /// Seconds before each seek.
    #[arg(long, default_value_t = 0.5)]
    seek_pause: f64,
    /// How many seeks of a thread's viewers are under way at once.
    #[arg(long, default_value_t = 4)]
    seek_threads: usize,
    /// A shell command to run before each seek.
    #[arg(long)]
    before_seek: Option<String>,
}

/// How many viewers, and how they are counted.
#[derive(Args)]
struct CrowdOptions {
    /// How many viewers.
    #[arg(long)]
    viewers: u32,
    /// In how many threads.
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// CPUs for the threads, in turn, as 1,2.
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// The pace of joins.
    #[arg(long, default_value_t = 500.0)]
    joins_per_second: f64,
    /// Seconds from the last join to the window.
    #[arg(long, default_value_t = 1.0)]
    settle: f64,
    /// A process whose CPU time in the window is divided by the packets received.
    #[arg(long, visible_alias = "pid")]
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
        Some(Mode::Whep { mode: WhepMode::Watch(options) }) => {
            (run_whep_watch(&client, options, &interrupt)?, true)
        }
        Some(Mode::Whep { mode: WhepMode::Load(options) }) => {
            (run_whep_load(&client, options, &interrupt)?, true)
        }
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
    if !options.streams.is_empty() {
        let url = |stream| client.websocket_url(plan.conduct.revision, stream);
        plan.urls = options.streams.iter().map(|stream| url(stream)).collect::<Result<_>>()?;
    }
    plan.rewind = options.rewind.rewind(client)?.map(Arc::new);
    let viewers = options.crowd.viewers;
    let shared = options.sockets == Sockets::Shared && client.transport == Transport::Udp;
    if shared && !(plan.server.is_ipv4() && plan.server.ip().is_loopback()) {
        bail!("--sockets shared needs a server on 127.0.0.1");
    }
    if shared && (viewers > SHARED_VIEWERS_MAX || client.separate_punch) {
        bail!("--sockets shared takes {SHARED_VIEWERS_MAX} viewers at most, and no --separate-punch");
    }
    let own_socket = client.transport == Transport::Udp && !shared;
    let a_viewer = 1 + u64::from(own_socket) + u64::from(client.separate_punch);
    let mut run = client.run();
    run.shared_sockets = shared.then_some(options.shared_sockets.max(1));
    let mut load = options.crowd.load(client, run, a_viewer)?;
    load.rewinds = plan.rewind.is_some();
    load::run(load, plan, interrupt)
}

fn run_whep_load(client: &Client, options: WhepLoadOptions, interrupt: &Interrupt) -> Result<Summary> {
    let load = options.crowd.load(client, client.peer_run(&options.peer)?, 1)?;
    let peers = PeerLoad {
        exchange: client.exchange(&options.peer)?,
        signalling_threads: options.signalling_threads,
        srtp: options.peer.srtp,
        conduct: Conduct {
            codecs: options.peer.codecs,
            nacks: options.nack,
            transport_feedback: options.twcc,
            open_every: options.open_every.max(1),
        },
        socket_options: client.socket_options(),
        join_timeout: duration("--join-timeout", options.peer.join_timeout)?,
    };
    peer::load::run(load, peers, interrupt)
}

fn run_whep_watch(client: &Client, options: WhepWatchOptions, interrupt: &Interrupt) -> Result<Summary> {
    if !(0.0..=100.0).contains(&options.loss) {
        bail!("--loss must be from 0 to 100");
    }
    let (out, events) = outputs(options.out.as_deref())?;
    let watch = PeerWatch {
        exchange: client.exchange(&options.peer)?,
        run: client.peer_run(&options.peer)?,
        out,
        events,
        seconds: client.seconds.map(|seconds| duration("--seconds", seconds)).transpose()?,
        packets: client.packets,
        join_timeout: duration("--join-timeout", options.peer.join_timeout)?,
        options: CheckerOptions {
            codecs: options.peer.codecs,
            srtp: options.peer.srtp,
            loss: Arc::new(Loss::new(options.loss / 100.0, options.seed)),
            buffer_bytes: client.receive_buffer,
        },
    };
    peer::watch::run(watch, interrupt)
}

impl CrowdOptions {
    /// The load of viewers that take `files` open files each.
    fn load(self, client: &Client, mut run: Run, files: u64) -> Result<Load> {
        if self.viewers == 0 || !self.joins_per_second.is_normal() || self.joins_per_second < 0.0 {
            bail!("--viewers and --joins-per-second must be above zero");
        }
        let allowed = raise_file_limit().context("the limit of open files")?;
        let needed = u64::from(self.viewers) * files + FILES_BESIDE;
        if needed > allowed {
            bail!("{} viewers need {needed} open files, {allowed} are allowed", self.viewers);
        }
        run.viewers = self.viewers;
        run.threads = self.threads.clamp(1, self.viewers);
        Ok(Load {
            run,
            cpus: self.cpus,
            joins_per_second: self.joins_per_second,
            settle: duration("--settle", self.settle)?,
            window: match client.packets {
                Some(packets) => WindowEnd::Packets(packets),
                None => WindowEnd::Time(duration("--seconds", client.seconds.unwrap_or(10.0))?),
            },
            rewinds: false,
            observed_pid: self.cpu_of,
            on_steady: self.on_steady,
            on_done: self.on_done,
            verbose: self.verbose,
        })
    }
}

impl RewindOptions {
    fn rewind(self, client: &Client) -> Result<Option<Rewind>> {
        let between = self.seek_between.map(Times::Between);
        let Some(times) = between.or(self.rewind_seconds.map(Times::Ago)) else { return Ok(None) };
        Ok(Some(Rewind {
            url: client.url.clone(),
            authorization: client.token.as_ref().map(|token| format!("Bearer {token}")),
            times,
            seeks: self.seeks.max(1),
            pause: duration("--seek-pause", self.seek_pause)?,
            threads: self.seek_threads,
            before: self.before_seek,
        }))
    }
}

/// Where the elementary stream goes, and where events go.
fn outputs(out: Option<&Path>) -> Result<(Option<Elementary>, Box<dyn Write>)> {
    Ok(match out {
        None => (None, Box::new(io::stdout())),
        Some(path) if path == "-" => (Some(Elementary::new(Box::new(io::stdout()))), Box::new(io::stderr())),
        Some(path) => {
            let file = File::create(path).with_context(|| path.display().to_string())?;
            (Some(Elementary::new(Box::new(file))), Box::new(io::stdout()))
        }
    })
}

/// The summary, and whether media was to come to this process.
fn run_watch(client: &Client, options: WatchOptions, interrupt: &Interrupt) -> Result<(Summary, bool)> {
    let mut plan = client.plan()?;
    if options.client_port.is_some() && plan.conduct.punch != Punch::OneWay {
        bail!("--client-port needs the t5rtp punch");
    }
    plan.client_port = options.client_port;
    let (out, events) = outputs(options.out.as_deref())?;
    let watch = Watch {
        plan,
        run: client.run(),
        sdp_out: options.sdp_out,
        out,
        forward: options.forward,
        events,
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
            urls: vec![self.websocket_url(conduct.revision, &self.stream)?],
            authorization: self.token.as_ref().map(|token| format!("Bearer {token}")),
            conduct,
            socket_options: self.socket_options(),
            separate_punch: self.separate_punch,
            client_port: None,
            join_timeout: None,
            rewind: None,
            stop_reading_after: self
                .stop_reading_after
                .map(|seconds| duration("--stop-reading-after", seconds))
                .transpose()?,
        })
    }

    fn socket_options(&self) -> SocketOptions {
        SocketOptions {
            buffer_bytes: self.receive_buffer,
            gro: !self.no_gro,
            kernel_stamps: !self.no_kernel_stamps,
        }
    }

    fn whep_url(&self, options: &PeerOptions) -> Result<Url> {
        if let Some(url) = &options.whep {
            return Ok(url.clone());
        }
        let mut url = self.url.clone();
        let base = "--url cannot have a path under it";
        let mut path = url.path_segments_mut().ok().context(base)?;
        path.pop_if_empty().extend(["streams", &self.stream, "whep"]);
        drop(path);
        Ok(url)
    }

    fn exchange(&self, options: &PeerOptions) -> Result<Arc<Whep>> {
        let authorization = self.token.as_ref().map(|token| format!("Bearer {token}"));
        Ok(Arc::new(Whep::new(self.whep_url(options)?, authorization)))
    }

    fn peer_run(&self, options: &PeerOptions) -> Result<Run> {
        Ok(Run { url: self.whep_url(options)?.into(), transport: Transport::Webrtc, ..self.run() })
    }

    fn conduct(&self) -> Result<session::Conduct> {
        let revision = self.revision();
        if self.transport == Transport::Websocket && revision == Revision::One {
            bail!("--transport websocket is of revision 2");
        }
        let own = if revision == Revision::One { Punch::OneWay } else { Punch::Handshake };
        let punch = self.punch.unwrap_or(own);
        if self.separate_punch && punch != Punch::OneWay {
            bail!("--separate-punch needs the t5rtp punch");
        }
        Ok(session::Conduct {
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

    fn websocket_url(&self, revision: Revision, stream: &str) -> Result<String> {
        let mut url = self.url.clone();
        let base = "--url cannot have a path under it";
        url.set_scheme("ws").ok().context(base)?;
        url.path_segments_mut().ok().context(base)?.pop_if_empty().extend(["streams", stream, "wsc-rtp"]);
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

fn parse_range(text: &str) -> Result<Range<i64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.filter(|range: &Range<i64>| range.start < range.end).ok_or_else(|| "it is not FROM..TO".to_owned())
}

fn parse_seconds(text: &str) -> Result<Range<i64>, String> {
    parse_range(text).map(|range| range.start.saturating_mul(1000)..range.end.saturating_mul(1000))
}

fn duration(name: &str, seconds: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(seconds).with_context(|| format!("{name} is no length of time"))
}

/// Standard streams, epolls, shared sockets, files written.
const FILES_BESIDE: u64 = 64;
