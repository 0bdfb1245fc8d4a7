//! Many cameras, one shard, no viewers: what ingest costs.

use std::time::{Duration, Instant};

use clap::Parser;
use lanecast_perf::machine;
use lanecast_perf::programs::{Program, Server};

/// Measures the shard's CPU for many cameras without viewers
#[derive(Parser)]
struct Arguments {
    /// How many
    #[arg(long, default_value_t = 100)]
    cameras: usize,
    /// Of each
    #[arg(long, default_value = "4M")]
    bitrate: String,
    /// Seconds of the measurement
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Processors of the cameras
    #[arg(long, default_value = "0")]
    camera_cpus: String,
    /// tcp, udp or both
    #[arg(long, default_value = "tcp")]
    transport: String,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let count = arguments.cameras.to_string();
    let camera = Program::start(
        "lanecast-camera",
        Some(&arguments.camera_cpus),
        &[
            "--bind",
            "127.0.0.1:0",
            "--count",
            &count,
            "--bitrate",
            &arguments.bitrate,
            "--transport",
            &arguments.transport,
        ],
    )?;
    let server = Server::start()?;
    for id in 0..arguments.cameras {
        let line = camera.line_with("rtsp://")?;
        let url = line.split_whitespace().find(|word| word.starts_with("rtsp://")).unwrap_or_default();
        server.add_stream(id, url)?;
    }
    server.wait_active(arguments.cameras)?;
    let read = |name: &str| server.metric(name);
    let (start, cpu) = (Instant::now(), read("lanecast_shard_cpu_seconds_total")?);
    let (packets, bytes) =
        (read("lanecast_stream_packets_received_total")?, read("lanecast_stream_bytes_received_total")?);
    std::thread::sleep(Duration::from_secs(arguments.seconds));
    let (elapsed, cpu) = (start.elapsed().as_secs_f64(), read("lanecast_shard_cpu_seconds_total")? - cpu);
    let packets = read("lanecast_stream_packets_received_total")? - packets;
    let bytes = read("lanecast_stream_bytes_received_total")? - bytes;
    println!("{}", machine::describe());
    println!(
        "{} cameras by {}: {:.0} Mb/s, {:.0} packets/s, {} lost; shard {:.1} % of a core, {:.2} µs per packet; {} MB resident",
        arguments.cameras,
        arguments.transport,
        bytes * 8.0 / elapsed / 1e6,
        packets / elapsed,
        read("lanecast_stream_packets_lost_total")?,
        cpu / elapsed * 100.0,
        cpu * 1e6 / packets.max(1.0),
        machine::resident_bytes(server.pid()) >> 20,
    );
    Ok(())
}
