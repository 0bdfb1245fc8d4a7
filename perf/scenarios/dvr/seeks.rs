//! One viewer that seeks about in what is recorded: from memory, and after the kernel had to forget the files.

use anyhow::Context;
use lanecast_perf::segments;
use serde::Serialize;
use serde_json::Value;

use crate::Arguments;
use crate::viewers::Archive;

/// The seeks of one kind.
#[derive(Debug, Serialize)]
pub struct Sample {
    cold: bool,
    /// What the viewers' program says of them.
    seeks: Value,
}

pub fn measure(arguments: &Arguments, archive: &Archive) -> anyhow::Result<Vec<Sample>> {
    println!("{} seeks of one viewer:", arguments.seeks);
    let mut samples = Vec::new();
    for cold in [false, true] {
        let sample = sample(arguments, archive, cold)?;
        println!("  {} {}", if sample.cold { "cold" } else { "warm" }, describe(&sample.seeks));
        samples.push(sample);
    }
    Ok(samples)
}

fn sample(arguments: &Arguments, archive: &Archive, cold: bool) -> anyhow::Result<Sample> {
    let recordings = archive.server.recordings();
    segments::warm(&recordings)?;
    let program = std::env::current_exe()?;
    let forget = format!("'{}' --evict '{}'", program.display(), recordings.display());
    let (seeks, range) = (arguments.seeks.to_string(), archive.range());
    let mut options = vec!["--viewers", "1", "--settle", "0", "--seek-threads", "1", "--seek-pause", "0.1"];
    options.extend(["--seeks", &seeks, "--seek-between", &range]);
    if cold {
        options.extend(["--before-seek", &forget]);
    }
    let ((), (), mut report) = archive.load(arguments, 1, &options, |_| Ok(()))?;
    let seeks = report.get_mut("seeks").context("the viewer did not seek")?.take();
    Ok(Sample { cold, seeks })
}

/// In a line.
pub fn describe(seeks: &Value) -> String {
    let of = |name: &str| {
        let ms = |key: &str| seeks[name][key].as_f64().unwrap_or(f64::NAN) / 1e3;
        format!("{:.1} / {:.1} / {:.1}", ms("p50_us"), ms("p99_us"), ms("max_us"))
    };
    format!(
        "{} of {} seen; to the first packet {}, to the answer {} ms (p50 / p99 / max); failed: {}",
        seeks["request_to_first_packet"]["count"],
        seeks["asked"],
        of("request_to_first_packet"),
        of("request_to_answer"),
        seeks["errors"]
    )
}
