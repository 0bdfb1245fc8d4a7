//! The bare-kernel limit by itself: `limit --viewers 1000 --packets 14`.

use std::time::Duration;

use clap::Parser;
use lanecast_perf::limit::{Setup, measure};
use lanecast_perf::machine;
use lanecast_perf::shape::RunShape;

/// Sends runs of equal packets to many receivers by io_uring and UDP_SEGMENT, and prints the sender's CPU per packet
#[derive(Parser)]
struct Arguments {
    /// Receivers
    #[arg(long, default_value_t = 1000)]
    viewers: usize,
    /// Packets of a run
    #[arg(long, default_value_t = 14)]
    packets: u16,
    /// Bytes of a packet, RTP header included
    #[arg(long, default_value_t = 1200)]
    bytes: u16,
    /// Milliseconds between runs
    #[arg(long, default_value_t = 40)]
    interval_ms: u64,
    /// Headers and payloads as separate pieces of memory
    #[arg(long)]
    in_pieces: bool,
    /// How long
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Processor of the sender
    #[arg(long, default_value_t = 1)]
    send_cpu: usize,
    /// Processor of the receivers
    #[arg(long, default_value_t = 0)]
    receive_cpu: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let setup = Setup {
        viewers: arguments.viewers,
        duration: Duration::from_secs(arguments.seconds),
        interval: Duration::from_millis(arguments.interval_ms),
        in_pieces: arguments.in_pieces,
        send_cpu: arguments.send_cpu,
        receive_cpu: arguments.receive_cpu,
    };
    let packets = arguments.packets.clamp(1, 54);
    let run = RunShape { segment_bytes: arguments.bytes, last_bytes: arguments.bytes, packets };
    let limit = measure(setup, &[vec![run]])?;
    println!("{}: {}", machine::describe(), serde_json::to_string(&limit)?);
    Ok(())
}
