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

    /// How many are connected to it now.
    pub fn clients(&self) -> usize {
        established(self.port)
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
    /// Where nobody listens now.
    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam0", self.port)
    }

    /// At the same place.
    pub fn restart(self) -> Camera {
        Camera::start_on(self.port, self.arguments)
    }

    /// Another one at the same place.
    pub fn restart_as(self, arguments: &str) -> Camera {
        Camera::start_on(self.port, arguments.to_owned())
    }
}

/// TCP connections of this machine that have the port on their own side.
fn established(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string("/proc/net/tcp").expect("a table");
    let suffix = format!(":{port:04X}");
    let is_ours = |row: &&str| {
        let mut fields = row.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&suffix)) && fields.nth(1) == Some(ESTABLISHED)
    };
    table.lines().skip(1).filter(is_ours).count()
}

fn binary() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_lanecast")).with_file_name("lanecast-camera");
    assert!(path.exists(), "{} is not built: cargo build -p lanecast-camera", path.display());
    path
}
