//! WebRTC viewers of somebody else's making that are no browser: they offer by WHEP, decode, and say what they got.

use std::process::Command;

use serde_json::Value;

use super::process::Process;

pub struct WhepViewer {
    process: Process,
}

/// What was decoded.
#[derive(Debug)]
pub struct Watched {
    pub frames: u64,
    pub width: u64,
    pub height: u64,
    /// From the offer's sending.
    pub first_picture_seconds: f64,
}

impl WhepViewer {
    /// aiortc (Python), H.264.
    pub fn aiortc(url: &str, frames: u32) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/aiortc_viewer.py");
        Self::start("aiortc", script, &[url, "--frames", &frames.to_string()])
    }

    /// GStreamer's webrtcbin. `codec` is `h264` or `h265`.
    pub fn webrtcbin(url: &str, codec: &str, frames: u32) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/webrtcbin_viewer.py");
        Self::start("webrtcbin", script, &[url, "--codec", codec, "--frames", &frames.to_string()])
    }

    fn start(name: &str, script: &str, arguments: &[&str]) -> Self {
        // Debian's own Python: the one that the packages are installed for.
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).args(arguments);
        Self { process: Process::start(name, &mut command) }
    }

    /// Waits until it has its pictures; fails with what it said when it gives up.
    #[track_caller]
    pub fn finish(mut self) -> Watched {
        let seen: Value = self.process.line("what it decoded", |line| serde_json::from_str(line).ok());
        let number = |name: &str| seen[name].as_u64().unwrap_or_else(|| panic!("no {name} in {seen}"));
        Watched {
            frames: number("frames"),
            width: number("width"),
            height: number("height"),
            first_picture_seconds: seen["first_picture_seconds"].as_f64().expect("a time"),
        }
    }
}
