//! One camera, one shard, V WebRTC viewers: the server's CPU per delivered packet beside the bare-kernel limit at the same
//! run sizes plus what sealing the same packets costs, in one run; then what a join costs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use lanecast_perf::limit::{Limit, Setup, measure};
use lanecast_perf::peer::{Sealed, observe};
use lanecast_perf::programs::{Program, Server, camera};
use lanecast_perf::{machine, runs, seal};
use lanecast_viewer::process::Usage;
use serde::Serialize;
use serde_json::Value;

/// Measures WebRTC fan-out against the bare-kernel limit and the cost of sealing
#[derive(Parser)]
struct Arguments {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// How often each point is measured; the median is printed
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Points as BITRATE:VIEWERS
    #[arg(long, value_delimiter = ',', default_value = "4M:10,4M:100,4M:1000")]
    points: Vec<String>,
    /// Viewers that join while 50 others watch, at 100 kb/s; 0 leaves it out
    #[arg(long, default_value_t = 1000)]
    joins: usize,
    /// One round of 5 s
    #[arg(long)]
    quick: bool,
    /// Viewers send transport-wide feedback and NACKs, and not only receiver reports
    #[arg(long)]
    feedback: bool,
    /// Processors of camera and viewers
    #[arg(long, default_value = "0")]
    client_cpus: String,
    /// Processor of the shard (the limit's sender and the sealing run there)
    #[arg(long, default_value_t = 1)]
    shard_cpu: usize,
    /// Folder for the raw results
    #[arg(long, default_value = "perf/runs")]
    out: PathBuf,
    /// Do not stamp access units: no latency, and a send fewer per access unit
    #[arg(long)]
    no_stamp: bool,
}

/// One measurement.
#[derive(Debug, Serialize)]
struct Sample {
    bitrate: String,
    viewers: usize,
    joined: u64,
    srtp_profile: String,
    feedback: bool,
    runs_per_access_unit: f64,
    packets_per_run: f64,
    packets_per_send: f64,
    packets_delivered: u64,
    packets_lost: u64,
    /// The shard's thread.
    server_us_per_packet: f64,
    /// The whole process.
    process_us_per_packet: f64,
    limit: Limit,
    seal_us_per_packet: f64,
    /// The limit and 1.3 times the sealing.
    target_us_per_packet: f64,
    ratio: f64,
    resident_bytes_per_viewer: i64,
    latency_ms: [Option<f64>; 3],
    viewer_report: Value,
}

/// What joins cost.
#[derive(Debug, Serialize)]
struct Joins {
    viewers: usize,
    joined: u64,
    seconds: f64,
    shard_ms_per_join: f64,
    process_ms_per_join: f64,
    /// Of those that watched meanwhile.
    watched_packets: u64,
    watched_lost: u64,
    viewer_report: Value,
    watcher_report: Value,
}

#[derive(Serialize)]
struct Results {
    fanout: Vec<Sample>,
    joins: Option<Joins>,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.seconds, arguments.rounds) = (5, 1);
    }
    println!("{}", machine::describe());
    println!(
        "{:>6} {:>7} {:>8} {:>9} {:>8} {:>7} {:>9} {:>6} {:>9} {:>10} {:>7} {:>8} {:>21}",
        "rate",
        "viewers",
        "pkts/run",
        "µs server",
        "µs limit",
        "µs seal",
        "µs target",
        "ratio",
        "µs proc.",
        "delivered",
        "lost",
        "B/viewer",
        "latency p50/p99/max ms"
    );
    let mut fanout = Vec::new();
    for point in &arguments.points {
        let (bitrate, viewers) = point.split_once(':').context("a point is BITRATE:VIEWERS")?;
        let viewers = viewers.parse()?;
        let mut rounds = Vec::new();
        for _ in 0..arguments.rounds.max(1) {
            rounds.push(sample(&arguments, bitrate, viewers)?);
        }
        rounds.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
        print(&rounds[rounds.len() / 2]);
        fanout.append(&mut rounds);
    }
    let joins = (arguments.joins > 0).then(|| join(&arguments)).transpose()?;
    runs::keep(&arguments.out, "webrtc-fanout", &Results { fanout, joins })
}

fn sample(arguments: &Arguments, bitrate: &str, viewers: usize) -> anyhow::Result<Sample> {
    let mut camera_arguments = vec!["--bind", "127.0.0.1:0", "--count", "1", "--bitrate", bitrate];
    if !arguments.no_stamp {
        camera_arguments.push("--stamp");
    }
    let (camera, server) = camera_and_server(arguments, &camera_arguments)?;
    let Sealed { units, profile } = observe(&format!("{}/streams/1/whep", server.url()), 3.0)?;

    let before = machine::resident_bytes(server.pid());
    let load = Load::start(arguments, &server, viewers, arguments.seconds, &["--settle", "3"])?;
    load.program.line_with("steady")?;
    let opened = Reading::take(&server)?;
    let resident = machine::resident_bytes(server.pid());
    load.program.line_with("done")?;
    let used = Reading::take(&server)?.since(&opened);
    let viewer_report = load.report()?;
    drop((server, camera));

    let counts = &viewer_report["window"]["counts"];
    let packets_delivered = counts["packets"].as_u64().context("the viewers' packets")?;
    let limit = measure(
        Setup {
            viewers,
            duration: Duration::from_secs(arguments.seconds),
            interval: Duration::from_millis(40),
            in_pieces: false,
            send_cpu: arguments.shard_cpu,
            receive_cpu: arguments.client_cpus.parse().unwrap_or(0),
        },
        &units,
    )?;
    let seal_us_per_packet =
        seal::measure(profile, viewers, &units, Duration::from_secs(1), arguments.shard_cpu)?;
    let target_us_per_packet = limit.cpu_us_per_packet + SEAL_FACTOR * seal_us_per_packet;
    let us_per_packet = |seconds: f64| seconds * 1e6 / packets_delivered.max(1) as f64;
    let server_us_per_packet = us_per_packet(used.shard_seconds);
    let run_count: usize = units.iter().map(Vec::len).sum();
    let packets: usize = units.iter().flatten().map(|run| usize::from(run.packets)).sum();
    let latency = |key: &str| viewer_report["timings"]["latency_arrived"][key].as_f64().map(|us| us / 1000.0);
    Ok(Sample {
        bitrate: bitrate.to_owned(),
        viewers,
        joined: viewer_report["sessions"]["joined"].as_u64().unwrap_or(0),
        srtp_profile: format!("{profile:?}"),
        feedback: arguments.feedback,
        runs_per_access_unit: run_count as f64 / units.len() as f64,
        packets_per_run: packets as f64 / run_count as f64,
        packets_per_send: packets_delivered as f64 / used.sends.max(1.0),
        packets_delivered,
        packets_lost: counts["lost"].as_u64().unwrap_or(0),
        server_us_per_packet,
        process_us_per_packet: us_per_packet(used.process_seconds),
        limit,
        seal_us_per_packet,
        target_us_per_packet,
        ratio: server_us_per_packet / target_us_per_packet,
        resident_bytes_per_viewer: (resident as i64 - before as i64) / viewers as i64,
        latency_ms: [latency("p50_us"), latency("p99_us"), latency("max_us")],
        viewer_report,
    })
}

fn join(arguments: &Arguments) -> anyhow::Result<Joins> {
    let (_camera, server) =
        camera_and_server(arguments, &["--bind", "127.0.0.1:0", "--count", "1", "--bitrate", "100k"])?;
    let watchers = Load::start(arguments, &server, WATCHERS, WATCH_SECONDS, &["--settle", "1"])?;
    watchers.program.line_with("steady")?;
    let before = Reading::take(&server)?;
    let start = Instant::now();
    let pace = ["--settle", "0", "--joins-per-second", "5000", "--signalling-threads", "32"];
    let load = Load::start(arguments, &server, arguments.joins, 1, &pace)?;
    load.program.line_with("joined")?;
    let seconds = start.elapsed().as_secs_f64();
    let used = Reading::take(&server)?.since(&before);
    let viewer_report = load.report()?;
    watchers.program.line_with("done")?;
    let watcher_report = watchers.report()?;
    let joined = viewer_report["sessions"]["joined"].as_u64().context("how many joined")?;
    let per_join = |seconds: f64| seconds * 1e3 / joined.max(1) as f64;
    let watched = |key: &str| watcher_report["window"]["counts"][key].as_u64().unwrap_or(0);
    let joins = Joins {
        viewers: arguments.joins,
        joined,
        seconds,
        shard_ms_per_join: per_join(used.shard_seconds),
        process_ms_per_join: per_join(used.process_seconds),
        watched_packets: watched("packets"),
        watched_lost: watched("lost"),
        viewer_report,
        watcher_report,
    };
    println!(
        "joins: {joined} of {} in {seconds:.1} s ({:.0}/s, with the viewers' side on {}); {:.2} ms of the shard each \
         ({:.0} joins per core-second), {:.2} ms of the process ({:.0}); {WATCHERS} watchers lost {} of {} packets",
        joins.viewers,
        joined as f64 / seconds,
        arguments.client_cpus,
        joins.shard_ms_per_join,
        1e3 / joins.shard_ms_per_join,
        joins.process_ms_per_join,
        1e3 / joins.process_ms_per_join,
        joins.watched_lost,
        joins.watched_packets,
    );
    Ok(joins)
}

fn camera_and_server(arguments: &Arguments, camera_arguments: &[&str]) -> anyhow::Result<(Program, Server)> {
    let (camera, url) = camera(&arguments.client_cpus, camera_arguments)?;
    let server = Server::start()?;
    server.add_stream(1, &url)?;
    server.wait_active(1)?;
    Ok((camera, server))
}

/// Viewers in a process of their own.
struct Load {
    program: Program,
    report: tempfile::NamedTempFile,
}

impl Load {
    fn start(
        arguments: &Arguments,
        server: &Server,
        viewers: usize,
        seconds: u64,
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let report = tempfile::NamedTempFile::new()?;
        let path = report.path().to_str().context("a UTF-8 path")?;
        let (seconds, viewers) = (seconds.to_string(), viewers.to_string());
        let mut list = vec!["--url", server.url(), "--stream", "1", "--seconds", &seconds, "--json", path];
        list.extend(["whep", "load", "--viewers", &viewers, "--join-timeout", "30"]);
        list.extend(more);
        if arguments.feedback {
            list.extend(["--nack", "--twcc"]);
        }
        let program = Program::start("lanecast-viewer", Some(&arguments.client_cpus), &list)?;
        Ok(Self { program, report })
    }

    fn report(self) -> anyhow::Result<Value> {
        // Failed viewers show in the report.
        self.program.wait()?;
        Ok(serde_json::from_slice(&std::fs::read(self.report.path())?)?)
    }
}

/// What the server has used.
struct Reading {
    shard_seconds: f64,
    process_seconds: f64,
    sends: f64,
}

impl Reading {
    fn take(server: &Server) -> anyhow::Result<Self> {
        Ok(Self {
            shard_seconds: server.metric("lanecast_shard_cpu_seconds_total")?,
            process_seconds: Usage::of(server.pid())?.cpu_seconds,
            sends: server.metric("lanecast_shard_sends_total")?,
        })
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            shard_seconds: self.shard_seconds - earlier.shard_seconds,
            process_seconds: self.process_seconds - earlier.process_seconds,
            sends: self.sends - earlier.sends,
        }
    }
}

fn print(sample: &Sample) {
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.1}"));
    let [p50, p99, max] = sample.latency_ms;
    println!(
        "{:>6} {:>7} {:>8.1} {:>9.3} {:>8.3} {:>7.3} {:>9.3} {:>6.2} {:>9.3} {:>10} {:>7} {:>8} {:>21}",
        sample.bitrate,
        sample.joined,
        sample.packets_per_run,
        sample.server_us_per_packet,
        sample.limit.cpu_us_per_packet,
        sample.seal_us_per_packet,
        sample.target_us_per_packet,
        sample.ratio,
        sample.process_us_per_packet,
        sample.packets_delivered,
        sample.packets_lost,
        sample.resident_bytes_per_viewer,
        format!("{}/{}/{}", ms(p50), ms(p99), ms(max)),
    );
}

/// What the target allows for sealing.
const SEAL_FACTOR: f64 = 1.3;

/// Viewers that watch while others join.
const WATCHERS: usize = 50;

/// Longer than the joins take.
const WATCH_SECONDS: u64 = 15;
