//! Our own camera, for what no other camera does on demand: faults, exact sizes, silence.

use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;

use super::process::Process;

pub struct Camera {
    process: Process,
    port: u16,
    arguments: String,
}

/// A camera that was killed and may come back.
pub struct LostCamera {
    port: u16,
    arguments: String,
}

impl Camera {
    /// `arguments` as in `lanecast-camera --help`, separated by spaces.
    pub fn start(arguments: &str) -> Self {
        Self::start_on(0, arguments.to_owned())
    }

    fn start_on(port: u16, arguments: String) -> Self {
        let mut command = Command::new(binary());
        command.args(["--bind", &format!("127.0.0.1:{port}")]).args(arguments.split_whitespace());
        let mut process = Process::start("lanecast-camera", &mut command);
        let port = process.line("its address", |line| {
            let (_, rest) = line.split_once("rtsp://127.0.0.1:")?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        });
        Self { process, port, arguments }
    }

    pub fn url(&self) -> String {
        self.url_of(0)
    }

    /// Of one of several.
    pub fn url_of(&self, number: usize) -> String {
        format!("rtsp://127.0.0.1:{}/cam{number}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops the whole process where it is: connections stay open and nothing comes any more.
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Ends it at once, as a power cut does.
    pub fn kill(self) -> LostCamera {
        LostCamera { port: self.port, arguments: self.arguments }
    }
}

impl LostCamera {
    /// At the same place.
    pub fn restart(self) -> Camera {
        Camera::start_on(self.port, self.arguments)
    }

    /// Another one at the same place.
    pub fn restart_as(self, arguments: &str) -> Camera {
        Camera::start_on(self.port, arguments.to_owned())
    }
}

fn binary() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_lanecast")).with_file_name("lanecast-camera");
    assert!(path.exists(), "{} is not built: cargo build -p lanecast-camera", path.display());
    path
}
