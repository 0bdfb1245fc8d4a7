//! A viewer that judges: `lanecast-viewer watch --strict`, whose parser and sums are not the server's.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::process::Process;
use super::stamps::{Stamp, stamps};
use super::{PATIENCE, Server, until};

pub struct Checker {
    process: Process,
    directory: TempDir,
    session: String,
}

/// What it saw.
pub struct Checked {
    /// The `session_mode` messages in order: `None` is live, else the time of the switch's first picture.
    pub modes: Vec<Option<i64>>,
    /// Where the camera stamps: its pictures as they came.
    pub stamps: Vec<Stamp>,
    /// The elementary stream.
    pub film: Vec<u8>,
}

impl Checker {
    /// `arguments` as in `lanecast-viewer watch --help`, separated by spaces.
    pub fn start(server: &Server, path_id: &str, arguments: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(binary());
        command.args(["watch", "--strict", "--url", &format!("http://{}", server.address())]);
        command.args(["--stream", path_id, "--json", "summary.json", "--out", "film"]);
        command.args(arguments.split_whitespace()).current_dir(directory.path());
        let mut process = Process::start("lanecast-viewer", &mut command);
        let session = process.line("its session", |line| {
            let event: Value = serde_json::from_str(line).ok()?;
            (event["event"] == "init").then(|| event["session_id"].as_str().map(str::to_owned))?
        });
        process.line("its first packet", |line| line.contains("first_packet").then_some(()));
        Self { process, directory, session }
    }

    pub fn session(&self) -> &str {
        &self.session
    }

    /// The `session_mode` messages so far.
    pub fn modes(&self) -> Vec<Option<i64>> {
        let mode = |line: &str| {
            let event: Value = serde_json::from_str(line).ok()?;
            (event["event"] == "session_mode").then(|| event["dvr"]["timestamp"].as_i64())
        };
        self.process.output().lines().filter_map(mode).collect()
    }

    /// Waits for so many of them.
    #[track_caller]
    pub fn modes_when(&self, count: usize) -> Vec<Option<i64>> {
        until(&format!("{count} session_mode messages"), || {
            let modes = self.modes();
            (modes.len() >= count).then_some(modes)
        })
    }

    /// The pictures so far, where the camera stamps.
    pub fn stamps(&self) -> Vec<Stamp> {
        stamps(&std::fs::read(self.directory.path().join("film")).unwrap_or_default())
    }

    /// Ends it. Nothing was lost, repeated, out of order or against the contract.
    #[track_caller]
    pub fn finish(mut self) -> Checked {
        let modes = self.modes();
        if self.process.wait(Duration::ZERO).is_none() {
            self.process.signal(Signal::SIGINT);
        }
        let status = self.process.wait(PATIENCE).expect("SIGINT ends it");
        let read = |name: &str| std::fs::read(self.directory.path().join(name)).unwrap_or_default();
        let summary: Value = serde_json::from_slice(&read("summary.json")).unwrap_or_default();
        assert!(
            status.success(),
            "{status}: faults {}, breaches {}, errors {}, totals {}, receiver {}\nmodes {modes:?}",
            summary["faults"],
            summary["breaches"],
            summary["errors"],
            summary["totals"],
            summary["receiver"],
        );
        let film = read("film");
        Checked { modes, stamps: stamps(&film), film }
    }
}

fn binary() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_lanecast")).with_file_name("lanecast-viewer");
    assert!(path.exists(), "{} is not built: cargo build -p lanecast-viewer", path.display());
    path
}
