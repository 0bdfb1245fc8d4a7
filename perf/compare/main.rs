//! The same camera and the same viewers before different servers, one after the other: CPU per delivered packet.
//!
//! A server's CPU is that of its whole process. Each is started anew for each measurement, on the same processors.

mod janus;
mod namespace;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use lanecast_perf::peer::{conduct, draft};
use lanecast_perf::programs::{Program, Server, camera};
use lanecast_perf::{machine, runs};
use lanecast_viewer::interrupt::Interrupt;
use lanecast_viewer::load::{Load, WindowEnd};
use lanecast_viewer::peer::dtls::SrtpOffer;
use lanecast_viewer::peer::load::PeerLoad;
use lanecast_viewer::peer::whep::Whep;
use lanecast_viewer::peer::{self, Exchange};
use lanecast_viewer::process::{Usage, raise_file_limit};
use lanecast_viewer::receive::SocketOptions;
use lanecast_viewer::session::Transport;
use lanecast_viewer::summary::{Run, Summary};
use serde::Serialize;

use janus::{Janus, Streaming};

/// Measures WebRTC fan-out of this server, of Janus and of any server that speaks WHEP, side by side
#[derive(Parser)]
struct Arguments {
    /// How many viewers, each in turn
    #[arg(long, value_delimiter = ',', default_value = "100,200")]
    viewers: Vec<u32>,
    /// The camera's bit rate
    #[arg(long, default_value = "2M")]
    bitrate: String,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// How often each is measured; the median is printed
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// 100 viewers, one round of 5 s
    #[arg(long)]
    quick: bool,
    /// Leave Janus out
    #[arg(long)]
    without_janus: bool,
    /// WHEP endpoint of another server, with --pid or --command
    #[arg(long)]
    whep: Option<String>,
    /// Its process, already running; it reads the camera at --camera. Then everything runs in the present network and
    /// without Janus
    #[arg(long, requires = "whep", conflicts_with = "command")]
    pid: Option<u32>,
    /// Or how to start it: one program that stays itself, and its arguments; RTSP_URL in its environment names the camera
    #[arg(long, requires = "whep")]
    command: Option<String>,
    /// What to call it
    #[arg(long, default_value = "other")]
    name: String,
    /// The camera's address; it is rtsp://ADDRESS/cam0
    #[arg(long, default_value = "127.0.0.1:8554")]
    camera: String,
    /// Viewers send transport-wide feedback and NACKs, and not only receiver reports
    #[arg(long)]
    feedback: bool,
    /// Processor of camera and viewers
    #[arg(long, default_value_t = 0)]
    client_cpu: usize,
    /// Processors of the servers
    #[arg(long, default_value = "1")]
    server_cpus: String,
    /// Folder for the raw results
    #[arg(long, default_value = "perf/runs")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Lanecast,
    Janus,
    Other,
}

/// One measurement.
#[derive(Debug, Serialize)]
struct Sample {
    server: String,
    bitrate: String,
    viewers: u32,
    feedback: bool,
    joined: u64,
    seconds: f64,
    packets_delivered: u64,
    packets_lost: u64,
    server_cpu_seconds: f64,
    server_us_per_packet: f64,
    resident_bytes_per_viewer: i64,
    viewer_report: Summary,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.viewers, arguments.seconds, arguments.rounds) = (vec![100], 5, 1);
    }
    let subjects = arguments.subjects()?;
    // Before any thread begins, and any program.
    if arguments.pid.is_none() {
        namespace::enter()?;
    }
    machine::pin(arguments.client_cpu).context("--client-cpu")?;
    raise_file_limit().context("the limit of open files")?;
    let interrupt = Interrupt::arm().context("signals")?;
    println!("{}", machine::describe());
    let mut samples = Vec::new();
    let mut medians = Vec::new();
    for viewers in &arguments.viewers {
        let mut by_subject: Vec<Vec<Sample>> = subjects.iter().map(|_| Vec::new()).collect();
        for round in 1..=arguments.rounds.max(1) {
            for (subject, rounds) in subjects.iter().zip(&mut by_subject) {
                println!("{}, {viewers} viewers, round {round}:", arguments.name_of(*subject));
                rounds.push(sample(&arguments, *subject, *viewers, &interrupt)?);
                if interrupt.came() {
                    bail!("interrupted");
                }
            }
        }
        for rounds in &mut by_subject {
            rounds.sort_by(|a, b| a.server_us_per_packet.total_cmp(&b.server_us_per_packet));
            let median = rounds.remove(rounds.len() / 2);
            medians.push(Row::of(&median));
            samples.push(median);
            samples.append(rounds);
        }
    }
    print(&medians);
    runs::keep(&arguments.out, "compare", &samples)
}

impl Arguments {
    fn subjects(&self) -> anyhow::Result<Vec<Subject>> {
        if self.whep.is_some() && self.pid.is_none() && self.command.is_none() {
            bail!("--whep needs --pid or --command");
        }
        let janus = (!self.without_janus && self.pid.is_none()).then_some(Subject::Janus);
        let other = self.whep.as_ref().map(|_| Subject::Other);
        Ok([Some(Subject::Lanecast), janus, other].into_iter().flatten().collect())
    }

    fn name_of(&self, subject: Subject) -> &str {
        match subject {
            Subject::Lanecast => "lanecast",
            Subject::Janus => "janus",
            Subject::Other => &self.name,
        }
    }

    /// Its packets are of the size that ours are made of: Janus and others pass on what they get.
    fn start_camera(&self) -> anyhow::Result<(Program, String)> {
        let arguments = ["--bind", &self.camera, "--count", "1", "--bitrate", &self.bitrate];
        camera(&self.client_cpu.to_string(), &[&arguments[..], &["--packet-bytes", "1200"]].concat())
    }
}

/// A server with the camera.
struct Running {
    pid: u32,
    url: String,
    exchange: Arc<dyn Exchange>,
    /// Ends it when dropped.
    _started: Started,
}

#[expect(dead_code, reason = "held until it ends")]
enum Started {
    Lanecast(Server),
    Janus(Janus),
    Other(Program),
    ByOthers,
}

impl Running {
    fn start(arguments: &Arguments, subject: Subject, rtsp_url: &str) -> anyhow::Result<Self> {
        match subject {
            Subject::Lanecast => Self::lanecast(arguments, rtsp_url),
            Subject::Janus => {
                let janus = Janus::start(&arguments.server_cpus, rtsp_url)?;
                let url = "janus.plugin.streaming".to_owned();
                let exchange = Arc::new(Streaming::new());
                Ok(Self { pid: janus.pid(), url, exchange, _started: Started::Janus(janus) })
            }
            Subject::Other => Self::other(arguments, rtsp_url),
        }
    }

    fn lanecast(arguments: &Arguments, rtsp_url: &str) -> anyhow::Result<Self> {
        let server = Server::start_on(Some(&arguments.server_cpus))?;
        server.add_stream(1, rtsp_url)?;
        server.wait_active(1)?;
        let url = format!("{}/streams/1/whep", server.url());
        let exchange = Arc::new(Whep::new(url.parse()?, None));
        Ok(Self { pid: server.pid(), url, exchange, _started: Started::Lanecast(server) })
    }

    fn other(arguments: &Arguments, rtsp_url: &str) -> anyhow::Result<Self> {
        let url = arguments.whep.clone().context("--whep")?;
        let exchange = Arc::new(Whep::new(url.parse()?, None));
        if let Some(pid) = arguments.pid {
            return Ok(Self { pid, url, exchange, _started: Started::ByOthers });
        }
        let command = arguments.command.as_deref().context("--command")?;
        let mut shell = Command::new("taskset");
        shell.args(["-c", &arguments.server_cpus, "sh", "-c", &format!("exec {command}")]);
        shell.env("RTSP_URL", rtsp_url);
        let program = Program::spawn(shell)?;
        Ok(Self { pid: program.pid(), url, exchange, _started: Started::Other(program) })
    }

    /// Waits until it takes a viewer, and sends that one away.
    fn wait_ready(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            match self.exchange.begin(0, &mut draft()?) {
                Ok(session) => {
                    // Whether it heard it is no matter.
                    let _ = session.map(|session| self.exchange.end(&session));
                    return Ok(());
                }
                Err(cause) if start.elapsed() > READY => return Err(anyhow!("{}: {cause}", self.url)),
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }
}

fn sample(
    arguments: &Arguments,
    subject: Subject,
    viewers: u32,
    interrupt: &Interrupt,
) -> anyhow::Result<Sample> {
    // A new one, as it goes on sending for a while to a server that was killed.
    let (_camera, rtsp_url) = arguments.start_camera()?;
    let running = Running::start(arguments, subject, &rtsp_url)?;
    running.wait_ready()?;
    let before = Usage::of(running.pid)?.resident_bytes;
    let load = Load {
        run: Run {
            url: running.url.clone(),
            stream: "1".into(),
            revision: 1,
            transport: Transport::Webrtc,
            viewers,
            threads: 1,
            shared_sockets: None,
            b_frames: false,
        },
        cpus: vec![arguments.client_cpu],
        joins_per_second: JOINS_PER_SECOND,
        settle: SETTLE,
        window: WindowEnd::Time(Duration::from_secs(arguments.seconds)),
        rewinds: false,
        observed_pid: Some(running.pid),
        on_steady: None,
        on_done: None,
        verbose: false,
    };
    let peers = PeerLoad {
        exchange: Arc::clone(&running.exchange),
        signalling_threads: 8,
        srtp: SrtpOffer::Both,
        conduct: conduct(arguments.feedback),
        socket_options: SocketOptions { buffer_bytes: 4 << 20, gro: true, kernel_stamps: true },
        join_timeout: JOIN_TIMEOUT,
    };
    let report = peer::load::run(load, peers, interrupt)?;
    let observed = report.window.observed.context("the server's usage")?;
    if observed.usage.cpu_seconds == 0.0 && report.window.counts.packets > 0 {
        bail!("process {} did not send those packets; --command must not fork", running.pid);
    }
    Ok(Sample {
        server: arguments.name_of(subject).to_owned(),
        bitrate: arguments.bitrate.clone(),
        viewers,
        feedback: arguments.feedback,
        joined: report.sessions.joined,
        seconds: report.window.seconds,
        packets_delivered: report.window.counts.packets,
        packets_lost: report.window.counts.lost,
        server_cpu_seconds: observed.usage.cpu_seconds,
        server_us_per_packet: observed.cpu_us_per_packet,
        resident_bytes_per_viewer: (observed.usage.resident_bytes as i64 - before as i64)
            / i64::from(viewers),
        viewer_report: report,
    })
}

/// A line of the table.
struct Row {
    viewers: u32,
    us: f64,
    text: String,
}

impl Row {
    fn of(sample: &Sample) -> Self {
        let text = format!(
            "{:>12} {:>7} {:>7} {:>10} {:>8} {:>9.2} {:>6.0} {:>9}",
            sample.server,
            sample.viewers,
            sample.joined,
            sample.packets_delivered,
            sample.packets_lost,
            sample.server_us_per_packet,
            sample.server_cpu_seconds / sample.seconds * 100.0,
            sample.resident_bytes_per_viewer / 1000,
        );
        Self { viewers: sample.viewers, us: sample.server_us_per_packet, text }
    }
}

fn print(rows: &[Row]) {
    println!(
        "{:>12} {:>7} {:>7} {:>10} {:>8} {:>9} {:>6} {:>9} {:>8}",
        "server", "viewers", "joined", "delivered", "lost", "µs/packet", "CPU %", "KB/viewer", "× ours"
    );
    let mut ours = rows.first();
    for row in rows {
        if ours.is_none_or(|ours| ours.viewers != row.viewers) {
            ours = Some(row);
        }
        println!("{} {:>8.1}", row.text, row.us / ours.map_or(row.us, |ours| ours.us));
    }
}

/// Servers may wait before they try the camera again.
const READY: Duration = Duration::from_secs(30);

/// What the slowest takes.
const JOINS_PER_SECOND: f64 = 50.0;

/// The joins' keyframes and probing are over.
const SETTLE: Duration = Duration::from_secs(3);

const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
