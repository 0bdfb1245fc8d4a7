//! The server: the real binary with its own data directory, on ports that nobody else has.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::Rest;
use super::process::Process;

pub struct Server {
    pub rest: Rest,
    process: Process,
    address: SocketAddr,
    data_dir: TempDir,
    arguments: Vec<String>,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments on its command line.
    pub fn start_with(arguments: &[&str]) -> Self {
        let data_dir = tempfile::tempdir().expect("a temporary directory");
        Self::start_in(data_dir, arguments.iter().map(|&a| a.to_owned()).collect())
    }

    fn start_in(data_dir: TempDir, arguments: Vec<String>) -> Self {
        let mut process = Process::start("lanecast", &mut command(data_dir.path(), &arguments));
        let address: SocketAddr = process.line("the address that it listens on", |line| {
            let (_, address) = line.split_once("listening on http://")?;
            address.split_whitespace().next()?.trim_end_matches('/').parse().ok()
        });
        Self { rest: Rest::new(&format!("http://{address}")), process, address, data_dir, arguments }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that it printed and logged.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Memory in use (VmRSS).
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes * 1024
    }

    pub fn terminate(&self) {
        self.process.signal(Signal::SIGTERM);
    }

    /// Its exit status, or `None` when it still runs after `time`.
    pub fn exit_status(&mut self, time: Duration) -> Option<ExitStatus> {
        self.process.wait(time)
    }

    /// Ends it in order and starts it again over the same data.
    pub fn restart(mut self) -> Self {
        self.terminate();
        let status = self.exit_status(Duration::from_secs(5)).expect("SIGTERM ends it within 5 s");
        assert!(status.success(), "SIGTERM is a normal end: {status}");
        Self::start_in(self.data_dir, self.arguments)
    }

    /// Kills it with no chance to tidy up, and starts it again over the same data.
    pub fn crash_and_restart(self) -> Self {
        self.crash().restart()
    }

    /// Kills it with no chance to tidy up.
    pub fn crash(mut self) -> CrashedServer {
        self.process.signal(Signal::SIGKILL);
        self.exit_status(Duration::from_secs(5)).expect("SIGKILL ends it");
        CrashedServer { data_dir: self.data_dir, arguments: self.arguments }
    }
}

/// A server that was killed and may come back.
pub struct CrashedServer {
    data_dir: TempDir,
    arguments: Vec<String>,
}

impl CrashedServer {
    /// Over the same data.
    pub fn restart(self) -> Server {
        Server::start_in(self.data_dir, self.arguments)
    }
}

fn command(data_dir: &Path, arguments: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanecast"));
    command
        .env("LANECAST_HTTP_BIND", "127.0.0.1:0")
        .env("LANECAST_WSC_UDP_PORT", "0")
        .env("LANECAST_SHARDS", "1")
        .env("LANECAST_LOG_FILTER", "info,lanecast=debug,lanecast_shard=debug,lanecast::http::router=info")
        .env_remove("BIND_ADDRESS")
        .env_remove("WSC_HOLEPUNCH_PORT")
        .arg("--data-dir")
        .arg(data_dir)
        .args(arguments)
        .current_dir(data_dir);
    command
}
