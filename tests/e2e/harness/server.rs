//! The server: the real binary with its own data directory, on ports that nobody else has.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::process::Process;
use super::{Recordings, Rest};

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

    /// With these variables in its environment.
    pub fn start_in_environment(variables: &[(&str, &Path)], arguments: &[&str]) -> Self {
        let data_dir = tempfile::tempdir().expect("a temporary directory");
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let mut command = command(data_dir.path(), &arguments);
        command.envs(variables.iter().copied());
        Self::start_by(&mut command, data_dir, arguments)
    }

    /// With the folder of the recordings on a disk of its own (of memory), so large. `None`, with a word why, where that
    /// cannot be had: it takes root, and a kernel that lets it.
    pub fn start_on_disk(bytes: u64, arguments: &[&str]) -> Option<Self> {
        let data_dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(data_dir.path().join("recordings")).expect("a folder");
        let mount = format!("mount -t tmpfs -o size={bytes} tmpfs \"$0/recordings\"");
        let may = unshared(&format!("{mount} && true"), data_dir.path()).output().expect("util-linux");
        if !may.status.success() {
            eprintln!("skipped: no disk can be mounted here: {}", String::from_utf8_lossy(&may.stderr));
            return None;
        }
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let plain = command(data_dir.path(), &arguments);
        // It stays one process: the shell becomes the server.
        let mut command = unshared(&format!("{mount} && exec \"$@\""), data_dir.path());
        command.arg(plain.get_program()).args(plain.get_args()).current_dir(data_dir.path());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Some(Self::start_by(&mut command, data_dir, arguments))
    }

    /// A path as a server of [`Server::start_on_disk`] has it, for those who do not have its disk.
    pub fn seen_from_outside(&self, path: &Path) -> PathBuf {
        let path = path.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.process.id().to_string()).join("root").join(path)
    }

    /// Runs a shell's words where the server's disks are; `$0` is its data directory.
    pub fn on_its_disks(&self, words: &str) {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.process.id().to_string(), "sh", "-c", words]);
        let output = command.arg(self.data_dir.path()).output().expect("util-linux");
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn start_in(data_dir: TempDir, arguments: Vec<String>) -> Self {
        let mut command = command(data_dir.path(), &arguments);
        Self::start_by(&mut command, data_dir, arguments)
    }

    fn start_by(command: &mut Command, data_dir: TempDir, arguments: Vec<String>) -> Self {
        let mut process = Process::start("lanecast", command);
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

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Memory in use (VmRSS).
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes * 1024
    }

    /// How many of its threads have such a name.
    pub fn threads(&self, name_prefix: &str) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("it runs");
        // A thread may end while it is looked at.
        let name = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
        };
        tasks.filter_map(name).filter(|name| name.starts_with(name_prefix)).count()
    }

    /// Where it keeps everything.
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// What it recorded, where it is not told to record elsewhere.
    pub fn recordings(&self) -> Recordings {
        Recordings::in_folder(self.data_dir.path().join("recordings"))
    }

    pub fn terminate(&self) {
        self.process.signal(Signal::SIGTERM);
    }

    /// Its exit status, or `None` when it still runs after `time`.
    pub fn exit_status(&mut self, time: Duration) -> Option<ExitStatus> {
        self.process.wait(time)
    }

    /// Ends it in order and starts it again over the same data.
    pub fn restart(self) -> Self {
        self.stop().restart()
    }

    /// Ends it in order.
    pub fn stop(mut self) -> StoppedServer {
        self.terminate();
        let status = self.exit_status(Duration::from_secs(5)).expect("SIGTERM ends it within 5 s");
        assert!(status.success(), "SIGTERM is a normal end: {status}");
        StoppedServer { data_dir: self.data_dir, arguments: self.arguments }
    }

    /// Kills it with no chance to tidy up, and starts it again over the same data.
    pub fn crash_and_restart(self) -> Self {
        self.crash().restart()
    }

    /// Kills it with no chance to tidy up.
    pub fn crash(mut self) -> StoppedServer {
        self.process.signal(Signal::SIGKILL);
        self.exit_status(Duration::from_secs(5)).expect("SIGKILL ends it");
        StoppedServer { data_dir: self.data_dir, arguments: self.arguments }
    }
}

/// A server that has ended and may come back.
pub struct StoppedServer {
    data_dir: TempDir,
    arguments: Vec<String>,
}

impl StoppedServer {
    /// Over the same data.
    pub fn restart(self) -> Server {
        Server::start_in(self.data_dir, self.arguments)
    }

    /// Where it kept everything.
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// What it recorded, where it was not told to record elsewhere.
    pub fn recordings(&self) -> Recordings {
        Recordings::in_folder(self.data_dir.path().join("recordings"))
    }

    /// Runs `lanecast catalog rebuild` over its data; everything that it printed and logged.
    pub fn rebuild_catalog(&self) -> String {
        let mut command = command(self.data_dir.path(), &self.arguments);
        let output = command.args(["catalog", "rebuild"]).output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{}: {said}", output.status);
        said
    }
}

/// A shell with mounts of its own, to run these words; `$0` is the data directory.
fn unshared(words: &str, data_dir: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", words]).arg(data_dir);
    command
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
