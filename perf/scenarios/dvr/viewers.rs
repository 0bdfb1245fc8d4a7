//! Viewers of what is recorded, at scattered times, in turn with as many live ones of the same cameras.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use lanecast_perf::machine;
use lanecast_perf::programs::{Program, Server};
use lanecast_viewer::process::Usage;
use serde::Serialize;
use serde_json::Value;

use crate::{Arguments, bits, check_room, median, start};

/// A server whose streams were recorded, and are not any more.
pub struct Archive {
    _camera: Program,
    pub server: Server,
    /// Unix ms in which all streams are recorded, and have the margin behind.
    pub times: (i64, i64),
}

impl Archive {
    pub fn record(arguments: &Arguments) -> anyhow::Result<Self> {
        let count = arguments.watched_cameras;
        let rate = bits(&arguments.watched_bitrate) / 8 * count as u64;
        check_room(arguments, rate * arguments.recorded_seconds)?;
        let (camera, server) = start(arguments, count, &arguments.watched_bitrate, &["--stamp"])?;
        for id in 0..count {
            server.set_recording(id, true)?;
        }
        std::thread::sleep(Duration::from_secs(arguments.recorded_seconds));
        for id in 0..count {
            server.set_recording(id, false)?;
        }
        server.wait_metric("lanecast_recorder_queued_bytes", |bytes| bytes == 0.0)?;
        std::thread::sleep(Duration::from_secs(1));
        let mut times = (i64::MIN, i64::MAX);
        for id in 0..count {
            let (from, to) = server.recorded(id)?;
            times = (times.0.max(from), times.1.min(to));
        }
        times.1 -= arguments.margin as i64 * 1000;
        anyhow::ensure!(times.0 < times.1, "--recorded-seconds leaves nothing before --margin");
        Ok(Self { _camera: camera, server, times })
    }

    /// Numbers of all streams, as the viewers' program takes them.
    pub fn streams(arguments: &Arguments) -> String {
        (0..arguments.watched_cameras).map(|id| id.to_string()).collect::<Vec<_>>().join(",")
    }

    /// The times, as the viewers' program takes them.
    pub fn range(&self) -> String {
        format!("{}..{}", self.times.0, self.times.1)
    }

    /// Runs viewers, and has `look` look at the server as the window opens and closes. Gives both, and their report.
    pub fn load<T>(
        &self,
        arguments: &Arguments,
        seconds: u64,
        options: &[&str],
        look: impl Fn(&Server) -> anyhow::Result<T>,
    ) -> anyhow::Result<(T, T, Value)> {
        let report = tempfile::NamedTempFile::new()?;
        let path: PathBuf = report.path().to_owned();
        let (seconds, streams) = (seconds.to_string(), Self::streams(arguments));
        let mut all = vec!["--url", self.server.url(), "--seconds", &seconds, "load", "--streams", &streams];
        all.extend(["--json", path.to_str().context("a UTF-8 path")?]);
        all.extend(options);
        let load = Program::start("lanecast-viewer", Some(&arguments.client_cpus), &all)?;
        load.line_with("steady")?;
        let opened = look(&self.server)?;
        load.line_with("done")?;
        let closed = look(&self.server)?;
        load.wait()?;
        Ok((opened, closed, serde_json::from_slice(&std::fs::read(path)?)?))
    }
}

/// One measurement.
#[derive(Debug, Serialize)]
pub struct Sample {
    dvr: bool,
    viewers: usize,
    /// That played what is recorded as the window opened.
    dvr_viewers: f64,
    packets_delivered: u64,
    packets_lost: u64,
    sends: f64,
    shard_us_per_packet: f64,
    process_us_per_packet: f64,
    shard_cpu_percent: f64,
    resident_bytes_per_viewer: i64,
    viewer_report: Value,
}

pub fn measure(arguments: &Arguments, archive: &Archive) -> anyhow::Result<Vec<Sample>> {
    println!(
        "{} viewers of {} cameras of {}:",
        arguments.viewers, arguments.watched_cameras, arguments.watched_bitrate
    );
    let mut samples = Vec::new();
    for _ in 0..arguments.rounds.max(1) {
        for dvr in [false, true] {
            let sample = sample(arguments, archive, dvr)?;
            print(&sample);
            samples.push(sample);
        }
    }
    let middle = |dvr: bool, value: fn(&Sample) -> f64| {
        median(samples.iter().filter(|sample| sample.dvr == dvr).map(value))
    };
    let ratio = |value| middle(true, value) / middle(false, value);
    println!(
        "  a packet of the past / a live one: {:.2} of the shard's CPU, {:.2} of the process's",
        ratio(|sample| sample.shard_us_per_packet),
        ratio(|sample| sample.process_us_per_packet)
    );
    Ok(samples)
}

fn sample(arguments: &Arguments, archive: &Archive, dvr: bool) -> anyhow::Result<Sample> {
    let (viewers, range) = (arguments.viewers.to_string(), archive.range());
    let mut options = vec!["--viewers", &viewers, "--settle", "3"];
    if dvr {
        options.extend(["--seek-between", &range]);
    }
    let before = machine::resident_bytes(archive.server.pid());
    let look = |server: &Server| -> anyhow::Result<_> {
        Ok((
            server.metric("lanecast_shard_cpu_seconds_total")?,
            Usage::of(server.pid())?.cpu_seconds,
            server.metric("lanecast_shard_sends_total")?,
            server.metric("lanecast_stream_dvr_viewers")?,
            machine::resident_bytes(server.pid()),
        ))
    };
    let (opened, closed, viewer_report) = archive.load(arguments, arguments.seconds, &options, look)?;
    let counts = &viewer_report["window"]["counts"];
    let packets_delivered = counts["packets"].as_u64().context("the viewers' packets")?;
    let shard = closed.0 - opened.0;
    let seconds = viewer_report["window"]["seconds"].as_f64().unwrap_or(f64::NAN);
    Ok(Sample {
        dvr,
        viewers: arguments.viewers,
        dvr_viewers: opened.3,
        packets_delivered,
        packets_lost: counts["lost"].as_u64().unwrap_or(0),
        sends: closed.2 - opened.2,
        shard_us_per_packet: shard * 1e6 / packets_delivered.max(1) as f64,
        process_us_per_packet: (closed.1 - opened.1) * 1e6 / packets_delivered.max(1) as f64,
        shard_cpu_percent: shard / seconds * 100.0,
        resident_bytes_per_viewer: (opened.4 as i64 - before as i64) / arguments.viewers.max(1) as i64,
        viewer_report,
    })
}

fn print(sample: &Sample) {
    println!(
        "  {:<4} {:.3} µs of the shard a packet, {:.3} of the process; {} delivered, {} lost, {:.1} a send; shard {:.0} %; {} B a viewer",
        if sample.dvr { "dvr" } else { "live" },
        sample.shard_us_per_packet,
        sample.process_us_per_packet,
        sample.packets_delivered,
        sample.packets_lost,
        sample.packets_delivered as f64 / sample.sends,
        sample.shard_cpu_percent,
        sample.resident_bytes_per_viewer,
    );
    if sample.dvr {
        let seeks = &sample.viewer_report["seeks"];
        println!(
            "       {} of {} viewers in the past; their seeks: {}",
            sample.dvr_viewers,
            sample.viewers,
            crate::seeks::describe(seeks)
        );
    }
}
