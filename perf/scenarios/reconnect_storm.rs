//! Many cameras on one shard that go away and come back together, again and again: what viewers of another camera feel,
//! and how long all of them take to be back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use lanecast_perf::machine;
use lanecast_perf::programs::{Program, Server, camera};
use lanecast_perf::runs;
use serde::Serialize;
use serde_json::Value;

/// Measures the latency of one camera's viewers while many other cameras reconnect
#[derive(Parser)]
struct Arguments {
    /// How many go and come
    #[arg(long, default_value_t = 500)]
    cameras: usize,
    /// Of the camera that stays
    #[arg(long, default_value_t = 100)]
    viewers: usize,
    /// Of the camera that stays
    #[arg(long, default_value = "2M")]
    bitrate: String,
    /// How often the others go and come
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Seconds that they are away
    #[arg(long, default_value_t = 3)]
    away: u64,
    /// Processors of cameras and viewers
    #[arg(long, default_value = "0")]
    client_cpus: String,
    /// Folder for the raw results
    #[arg(long, default_value = "perf/runs")]
    out: PathBuf,
}

/// One window of the viewers.
#[derive(Debug, Serialize)]
struct Sample {
    window: &'static str,
    /// From the cameras' return to the last one's pictures, of each round.
    back_seconds: Vec<f64>,
    shard_cpu_seconds: f64,
    packets_delivered: u64,
    packets_lost: u64,
    latency_ms: [Option<f64>; 3],
    resident_bytes: u64,
    viewer_report: Value,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    println!("{}", machine::describe());
    let (_camera, url) = camera(
        &arguments.client_cpus,
        &["--bind", "127.0.0.1:0", "--stamp", "--bitrate", &arguments.bitrate],
    )?;
    let server = Server::start()?;
    server.add_stream(0, &url)?;
    let mut site = Site::start(&arguments)?;
    for number in 0..arguments.cameras {
        server.add_stream(1 + number, &format!("rtsp://127.0.0.1:{}/cam{number}", site.port))?;
    }
    server.wait_active(1 + arguments.cameras)?;

    let quiet = sample(&arguments, &server, "quiet", |_| Ok(Vec::new()))?;
    print(&arguments, &quiet);
    let storm = sample(&arguments, &server, "storm", |server| {
        (0..arguments.rounds).map(|_| site.goes_and_comes(&arguments, server)).collect()
    })?;
    print(&arguments, &storm);
    runs::keep(&arguments.out, "reconnect-storm", &[quiet, storm])
}

/// The cameras that go and come.
struct Site {
    program: Option<Program>,
    port: u16,
}

impl Site {
    fn start(arguments: &Arguments) -> anyhow::Result<Self> {
        let mut site = Self { program: None, port: 0 };
        site.come(arguments)?;
        Ok(site)
    }

    fn come(&mut self, arguments: &Arguments) -> anyhow::Result<()> {
        let (bind, count) = (format!("127.0.0.1:{}", self.port), arguments.cameras.to_string());
        let flags = ["--bind", &bind, "--count", &count, "--fps", "5", "--gop-seconds", "1"];
        let (program, url) = camera(&arguments.client_cpus, &flags)?;
        self.port = url::Url::parse(&url)?.port().context("the cameras' port")?;
        self.program = Some(program);
        Ok(())
    }

    /// How many seconds all took to be back.
    fn goes_and_comes(&mut self, arguments: &Arguments, server: &Server) -> anyhow::Result<f64> {
        std::thread::sleep(CALM);
        self.program = None;
        std::thread::sleep(Duration::from_secs(arguments.away));
        self.come(arguments)?;
        let back = Instant::now();
        server.wait_active(1 + arguments.cameras)?;
        Ok(back.elapsed().as_secs_f64())
    }
}

/// What viewers of the camera that stays get while `meanwhile` runs, and a little longer.
fn sample(
    arguments: &Arguments,
    server: &Server,
    window: &'static str,
    meanwhile: impl FnOnce(&Server) -> anyhow::Result<Vec<f64>>,
) -> anyhow::Result<Sample> {
    let report = tempfile::NamedTempFile::new()?;
    let seconds = arguments.rounds * (CALM.as_secs() + arguments.away + BACK.as_secs());
    let load = Program::start(
        "lanecast-viewer",
        Some(&arguments.client_cpus),
        &[
            "--url",
            server.url(),
            "--stream",
            "0",
            "--seconds",
            &seconds.to_string(),
            "load",
            "--viewers",
            &arguments.viewers.to_string(),
            "--settle",
            "3",
            "--json",
            report.path().to_str().context("a UTF-8 path")?,
        ],
    )?;
    load.line_with("steady")?;
    let cpu = server.metric("lanecast_shard_cpu_seconds_total")?;
    let back_seconds = meanwhile(server)?;
    load.line_with("done")?;
    let shard_cpu_seconds = server.metric("lanecast_shard_cpu_seconds_total")? - cpu;
    load.wait()?;
    let viewer_report: Value = serde_json::from_slice(&std::fs::read(report.path())?)?;
    let counts = &viewer_report["window"]["counts"];
    let latency = |key: &str| viewer_report["timings"]["latency_arrived"][key].as_f64().map(|us| us / 1000.0);
    Ok(Sample {
        window,
        back_seconds,
        shard_cpu_seconds,
        packets_delivered: counts["packets"].as_u64().context("the viewers' packets")?,
        packets_lost: counts["lost"].as_u64().unwrap_or(0),
        latency_ms: [latency("p50_us"), latency("p99_us"), latency("max_us")],
        resident_bytes: machine::resident_bytes(server.pid()),
        viewer_report,
    })
}

fn print(arguments: &Arguments, sample: &Sample) {
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.1}"));
    let [p50, p99, max] = sample.latency_ms;
    println!(
        "{}: {} viewers, {} packets, {} lost, latency p50/p99/max {}/{}/{} ms, shard {:.2} s of CPU, {} MB resident",
        sample.window,
        arguments.viewers,
        sample.packets_delivered,
        sample.packets_lost,
        ms(p50),
        ms(p99),
        ms(max),
        sample.shard_cpu_seconds,
        sample.resident_bytes >> 20,
    );
    if !sample.back_seconds.is_empty() {
        println!("{} cameras back after {:.1?} s", arguments.cameras, sample.back_seconds);
    }
}

/// Before each round.
const CALM: Duration = Duration::from_secs(1);
/// All are back in this, as a rule.
const BACK: Duration = Duration::from_secs(8);
