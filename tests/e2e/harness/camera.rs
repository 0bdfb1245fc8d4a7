//! Our own camera, for what no other camera does on demand: faults, exact sizes, silence.

use std::path::PathBuf;
use std::process::Command;

use super::process::Process;

pub struct Camera {
    /// Lives as long as the camera.
    _process: Process,
    port: u16,
}

impl Camera {
    /// `arguments` as in `lanecast-camera --help`, separated by spaces.
    pub fn start(arguments: &str) -> Self {
        let mut command = Command::new(binary());
        command.args(["--bind", "127.0.0.1:0"]).args(arguments.split_whitespace());
        let mut process = Process::start("lanecast-camera", &mut command);
        let port = process.line("its address", |line| {
            let (_, rest) = line.split_once("rtsp://127.0.0.1:")?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        });
        Self { _process: process, port }
    }

    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam0", self.port)
    }
}

fn binary() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_lanecast")).with_file_name("lanecast-camera");
    assert!(path.exists(), "{} is not built: cargo build -p lanecast-camera", path.display());
    path
}
