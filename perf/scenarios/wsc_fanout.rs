//! One camera, one shard, V WSC-RTP viewers over UDP: the server's CPU per delivered packet beside the bare-kernel limit at
//! the same run sizes, in one run.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use lanecast_perf::limit::{Limit, Setup, measure};
use lanecast_perf::machine;
use lanecast_perf::programs::{Program, Server, camera};
use lanecast_perf::runs;
use lanecast_perf::shape::{RunShape, observe};
use serde::Serialize;
use serde_json::Value;

/// Measures WSC-RTP fan-out against the bare-kernel limit
#[derive(Parser)]
struct Arguments {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// How often each point is measured; the median is printed
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Points as BITRATE:VIEWERS
    #[arg(long, value_delimiter = ',', default_value = "4M:10,4M:100,4M:1000,500k:10,500k:1000,500k:5000")]
    points: Vec<String>,
    /// Processors of camera and viewers
    #[arg(long, default_value = "0")]
    client_cpus: String,
    /// Processor of the shard (the limit's sender runs there)
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
    runs_per_access_unit: f64,
    packets_per_run: f64,
    packets_delivered: u64,
    packets_lost: u64,
    server_us_per_packet: f64,
    limit: Limit,
    ratio: f64,
    resident_bytes_per_viewer: i64,
    latency_ms: [Option<f64>; 3],
    viewer_report: Value,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    println!("{}", machine::describe());
    println!(
        "{:>6} {:>7} {:>8} {:>9} {:>10} {:>6} {:>10} {:>7} {:>10} {:>21}",
        "rate",
        "viewers",
        "pkts/run",
        "µs server",
        "µs limit",
        "ratio",
        "delivered",
        "lost",
        "B/viewer",
        "latency p50/p99/max ms"
    );
    let mut samples = Vec::new();
    for point in &arguments.points {
        let (bitrate, viewers) = point.split_once(':').context("a point is BITRATE:VIEWERS")?;
        let viewers = viewers.parse()?;
        let mut rounds = Vec::new();
        for _ in 0..arguments.rounds.max(1) {
            rounds.push(sample(&arguments, bitrate, viewers)?);
        }
        rounds.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
        print(&rounds[rounds.len() / 2]);
        samples.append(&mut rounds);
    }
    runs::keep(&arguments.out, "wsc-fanout", &samples)
}

fn sample(arguments: &Arguments, bitrate: &str, viewers: usize) -> anyhow::Result<Sample> {
    let mut camera_arguments = vec!["--bind", "127.0.0.1:0", "--count", "1", "--bitrate", bitrate];
    if !arguments.no_stamp {
        camera_arguments.push("--stamp");
    }
    let (camera, url) = camera(&arguments.client_cpus, &camera_arguments)?;
    let server = Server::start()?;
    server.add_stream(1, &url)?;
    server.wait_active(1)?;
    let units = shape_of(arguments, &server)?;

    let before = machine::resident_bytes(server.pid());
    let report = tempfile::NamedTempFile::new()?;
    let load = Program::start(
        "lanecast-viewer",
        Some(&arguments.client_cpus),
        &[
            "--url",
            server.url(),
            "--stream",
            "1",
            "--seconds",
            &arguments.seconds.to_string(),
            "load",
            "--viewers",
            &viewers.to_string(),
            "--settle",
            "3",
            "--json",
            report.path().to_str().context("a UTF-8 path")?,
        ],
    )?;
    load.line_with("steady")?;
    let cpu = server.metric("lanecast_shard_cpu_seconds_total")?;
    let resident = machine::resident_bytes(server.pid());
    load.line_with("done")?;
    let cpu = server.metric("lanecast_shard_cpu_seconds_total")? - cpu;
    load.wait()?;
    drop((server, camera));

    let viewer_report: Value = serde_json::from_slice(&std::fs::read(report.path())?)?;
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
    let server_us_per_packet = cpu * 1e6 / packets_delivered.max(1) as f64;
    let runs: usize = units.iter().map(Vec::len).sum();
    let packets: usize = units.iter().flatten().map(|run| usize::from(run.packets)).sum();
    let latency = |key: &str| viewer_report["timings"]["latency_arrived"][key].as_f64().map(|us| us / 1000.0);
    Ok(Sample {
        bitrate: bitrate.to_owned(),
        viewers,
        runs_per_access_unit: runs as f64 / units.len() as f64,
        packets_per_run: packets as f64 / runs as f64,
        packets_delivered,
        packets_lost: counts["lost"].as_u64().unwrap_or(0),
        server_us_per_packet,
        limit,
        ratio: server_us_per_packet / limit.cpu_us_per_packet,
        resident_bytes_per_viewer: (resident as i64 - before as i64) / viewers as i64,
        latency_ms: [latency("p50_us"), latency("p99_us"), latency("max_us")],
        viewer_report,
    })
}

/// Watches with one viewer that forwards its packets here.
fn shape_of(arguments: &Arguments, server: &Server) -> anyhow::Result<Vec<Vec<RunShape>>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let port = socket.local_addr()?.port().to_string();
    let watch = Program::start(
        "lanecast-viewer",
        Some(&arguments.client_cpus),
        &["--url", server.url(), "--stream", "1", "--seconds", "6", "watch", "--forward", &port],
    )?;
    let units = observe(&socket, 5.0)?;
    drop(watch);
    Ok(units)
}

fn print(sample: &Sample) {
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.1}"));
    let [p50, p99, max] = sample.latency_ms;
    println!(
        "{:>6} {:>7} {:>8.1} {:>9.3} {:>10.3} {:>6.2} {:>10} {:>7} {:>10} {:>21}",
        sample.bitrate,
        sample.viewers,
        sample.packets_per_run,
        sample.server_us_per_packet,
        sample.limit.cpu_us_per_packet,
        sample.ratio,
        sample.packets_delivered,
        sample.packets_lost,
        sample.resident_bytes_per_viewer,
        format!("{}/{}/{}", ms(p50), ms(p99), ms(max)),
    );
}
