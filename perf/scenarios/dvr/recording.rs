//! Many cameras, recorded and not in turn.

use std::time::{Duration, Instant};

use lanecast_perf::programs::Server;
use lanecast_perf::segments::{self, Contents};
use lanecast_viewer::process::Usage;
use serde::Serialize;

use crate::{Arguments, bits, check_room, median, start};

/// What it came to.
#[derive(Debug, Serialize)]
pub struct Recording {
    samples: Vec<Sample>,
    /// By the server's own counters, over all of it.
    written_bytes: f64,
    access_units: f64,
    fragments: f64,
    dropped_gops: f64,
    dropped_bytes: f64,
    errors: f64,
    /// In the files.
    files: Contents,
}

/// One measurement.
#[derive(Debug, Serialize)]
struct Sample {
    recorded: bool,
    seconds: f64,
    shard_cpu_seconds: f64,
    process_cpu_seconds: f64,
    packets_received: f64,
    bytes_received: f64,
    packets_lost: f64,
    written_bytes: f64,
}

/// From switching to what is measured: every camera has come to a keyframe, and what waited is written.
const SETTLE: Duration = Duration::from_secs(5);

pub fn measure(arguments: &Arguments) -> anyhow::Result<Recording> {
    let seconds = arguments.seconds + 2 * SETTLE.as_secs();
    let bytes = bits(&arguments.bitrate) / 8 * arguments.cameras as u64 * seconds * arguments.rounds as u64;
    check_room(arguments, bytes)?;
    let (camera, server) = start(arguments, arguments.cameras, &arguments.bitrate, &["--transport", "tcp"])?;
    let mut samples = Vec::new();
    for _ in 0..arguments.rounds.max(1) {
        samples.push(sample(arguments, &server, false)?);
        switch(arguments, &server, true)?;
        samples.push(sample(arguments, &server, true)?);
        switch(arguments, &server, false)?;
    }
    server.wait_metric("lanecast_recorder_queued_bytes", |bytes| bytes == 0.0)?;
    std::thread::sleep(SETTLE);
    let read = |name: &str| server.metric(&format!("lanecast_recorder_{name}"));
    let recording = Recording {
        samples,
        written_bytes: read("bytes_written_total")?,
        access_units: read("access_units_total")?,
        fragments: read("fragments_total")?,
        dropped_gops: read("dropped_gops_total")?,
        dropped_bytes: read("dropped_bytes_total")?,
        errors: read("errors_total")?,
        files: segments::contents(&server.recordings())?,
    };
    drop((camera, server));
    print(arguments, &recording);
    Ok(recording)
}

fn switch(arguments: &Arguments, server: &Server, on: bool) -> anyhow::Result<()> {
    for id in 0..arguments.cameras {
        server.set_recording(id, on)?;
    }
    std::thread::sleep(SETTLE);
    Ok(())
}

fn sample(arguments: &Arguments, server: &Server, recorded: bool) -> anyhow::Result<Sample> {
    const COUNTERS: [&str; 5] = [
        "lanecast_shard_cpu_seconds_total",
        "lanecast_stream_packets_received_total",
        "lanecast_stream_bytes_received_total",
        "lanecast_stream_packets_lost_total",
        "lanecast_recorder_bytes_written_total",
    ];
    let read = || -> anyhow::Result<[f64; 5]> {
        let mut values = [0.0; 5];
        for (value, name) in values.iter_mut().zip(COUNTERS) {
            *value = server.metric(name)?;
        }
        Ok(values)
    };
    let (start, usage, before) = (Instant::now(), Usage::of(server.pid())?, read()?);
    std::thread::sleep(Duration::from_secs(arguments.seconds));
    let (seconds, usage) = (start.elapsed().as_secs_f64(), Usage::of(server.pid())?.since(usage));
    let after = read()?;
    let [shard_cpu_seconds, packets_received, bytes_received, packets_lost, written_bytes] =
        std::array::from_fn(|index| after[index] - before[index]);
    // Threads of the kernel's ring that ended count here, and not in the sum of those that live.
    let process_cpu_seconds = usage.user_seconds + usage.system_seconds;
    Ok(Sample {
        recorded,
        seconds,
        shard_cpu_seconds,
        process_cpu_seconds,
        packets_received,
        bytes_received,
        packets_lost,
        written_bytes,
    })
}

fn print(arguments: &Arguments, recording: &Recording) {
    let of = |recorded: bool, value: &dyn Fn(&Sample) -> f64| {
        median(recording.samples.iter().filter(|sample| sample.recorded == recorded).map(value))
    };
    println!("{} cameras of {}:", arguments.cameras, arguments.bitrate);
    for recorded in [false, true] {
        println!(
            "  {:<12} shard {:>5.1} % of a core, process {:>5.1} %; {:.1} MB/s received, {:.1} written, {} packets lost",
            if recorded { "recorded" } else { "not recorded" },
            of(recorded, &|sample| sample.shard_cpu_seconds / sample.seconds * 100.0),
            of(recorded, &|sample| sample.process_cpu_seconds / sample.seconds * 100.0),
            of(recorded, &|sample| sample.bytes_received / sample.seconds / 1e6),
            of(recorded, &|sample| sample.written_bytes / sample.seconds / 1e6),
            of(recorded, &|sample| sample.packets_lost),
        );
    }
    let on_top = |cpu: &dyn Fn(&Sample) -> f64| {
        let a_second = |sample: &Sample| cpu(sample) / sample.seconds;
        of(true, &a_second) - of(false, &a_second)
    };
    // Whole GOPs are written at once, so what is written in a window is uneven; what is received is not.
    let recorded = of(true, &|sample| sample.bytes_received / sample.seconds / 1e6);
    let (shard, process) =
        (on_top(&|sample| sample.shard_cpu_seconds), on_top(&|sample| sample.process_cpu_seconds));
    println!(
        "  recording    shard {:>5.1} % on top, process {:>5.1} %; {:.2} and {:.2} ms per MB received",
        shard * 100.0,
        process * 100.0,
        shard * 1e3 / recorded,
        process * 1e3 / recorded
    );
    let Contents { files, bytes, fragments, samples, sample_bytes } = recording.files;
    println!(
        "  written      {:.0} bytes, {:.0} access units, {:.0} fragments; {} GOPs dropped, {} errors",
        recording.written_bytes,
        recording.access_units,
        recording.fragments,
        recording.dropped_gops,
        recording.errors
    );
    println!(
        "  in {files} files {bytes} bytes, {samples} access units, {fragments} fragments; samples {sample_bytes} bytes"
    );
}
