//! Recording and its playback on one shard: what it costs to record many cameras beside not recording them, what a packet
//! of a viewer of the past costs beside a live one, and how long a seek takes, from memory and from disk.

mod recording;
mod seeks;
mod viewers;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use lanecast_perf::programs::{Program, Server};
use lanecast_perf::{machine, runs, segments};
use serde::Serialize;

/// Measures recording, viewers of the past, and seeks
#[derive(Parser)]
struct Arguments {
    /// What is measured
    #[arg(long, value_enum, value_delimiter = ',', default_value = "recording,viewers,seeks")]
    parts: Vec<Part>,
    /// Cameras that are recorded
    #[arg(long, default_value_t = 200)]
    cameras: usize,
    /// Of each camera
    #[arg(long, default_value = "4M")]
    bitrate: String,
    /// Viewers, live and of the past
    #[arg(long, default_value_t = 1000)]
    viewers: usize,
    /// Cameras that they watch
    #[arg(long, default_value_t = 4)]
    watched_cameras: usize,
    /// Of each of those
    #[arg(long, default_value = "4M")]
    watched_bitrate: String,
    /// Seconds that those are recorded; viewers begin in it up to --margin seconds before its end
    #[arg(long, default_value_t = 120)]
    recorded_seconds: u64,
    /// See --recorded-seconds: longer than a measurement with its joins and seeks
    #[arg(long, default_value_t = 50)]
    margin: u64,
    /// Seeks of each kind
    #[arg(long, default_value_t = 200)]
    seeks: usize,
    /// Seconds of each measurement of CPU
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// How often each is measured, in turn with what it is compared to; medians are printed
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Processors of cameras and viewers
    #[arg(long, default_value = "0")]
    client_cpus: String,
    /// A folder on the disk that is to be measured; what is written there is removed at the end
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// Folder for the raw results
    #[arg(long, default_value = "perf/runs")]
    out: PathBuf,
    /// What the result is to be read with, kept beside it
    #[arg(long, default_value = "")]
    note: String,
    /// Have the kernel forget the files of this folder, and do nothing else
    #[arg(long, hide = true)]
    evict: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Recording,
    Viewers,
    Seeks,
}

#[derive(Default, Serialize)]
struct Results {
    note: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    recording: Option<recording::Recording>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    viewers: Vec<viewers::Sample>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    seeks: Vec<seeks::Sample>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(folder) = &arguments.evict {
        return segments::evict(folder);
    }
    let wants = |part| arguments.parts.contains(&part);
    println!("{}", machine::describe());
    let mut results = Results { note: arguments.note.clone(), ..Results::default() };
    if wants(Part::Recording) {
        results.recording = Some(recording::measure(&arguments)?);
    }
    if wants(Part::Viewers) || wants(Part::Seeks) {
        let archive = viewers::Archive::record(&arguments)?;
        if wants(Part::Viewers) {
            results.viewers = viewers::measure(&arguments, &archive)?;
        }
        if wants(Part::Seeks) {
            results.seeks = seeks::measure(&arguments, &archive)?;
        }
    }
    runs::keep(&arguments.out, "dvr", &results)
}

/// Cameras, and a server that has them all, with its data in the folder.
fn start(
    arguments: &Arguments,
    count: usize,
    bitrate: &str,
    more: &[&str],
) -> anyhow::Result<(Program, Server)> {
    let cameras = count.to_string();
    let mut camera_arguments = vec!["--bind", "127.0.0.1:0", "--count", &cameras, "--bitrate", bitrate];
    camera_arguments.extend(more);
    let camera = Program::start("lanecast-camera", Some(&arguments.client_cpus), &camera_arguments)?;
    let server = Server::start_in(&arguments.folder)?;
    for id in 0..count {
        let line = camera.line_with("rtsp://")?;
        let url = line.split_whitespace().find(|word| word.starts_with("rtsp://")).unwrap_or_default();
        server.add_stream(id, url)?;
    }
    server.wait_active(count)?;
    Ok((camera, server))
}

/// Bits a second of `4M` or `500k`.
fn bits(bitrate: &str) -> u64 {
    let (digits, unit) = match bitrate.as_bytes().last() {
        Some(b'k' | b'K') => (&bitrate[..bitrate.len() - 1], 1000),
        Some(b'm' | b'M') => (&bitrate[..bitrate.len() - 1], 1_000_000),
        _ => (bitrate, 1),
    };
    digits.parse::<f64>().map_or(0, |number| (number * f64::from(unit)) as u64)
}

/// Refuses to fill the disk.
fn check_room(arguments: &Arguments, bytes: u64) -> anyhow::Result<()> {
    let free = segments::free_bytes(&arguments.folder)?;
    let folder = arguments.folder.display();
    anyhow::ensure!(
        bytes * 2 < free,
        "{} MB are to be written to {folder}, {} are free",
        bytes >> 20,
        free >> 20
    );
    Ok(())
}

/// The middle one.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
