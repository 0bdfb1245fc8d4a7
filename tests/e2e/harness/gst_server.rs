//! A camera by GStreamer's RTSP server: somebody else's RTSP, payloader and encoder.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::process::Process;
use super::until;

pub struct GstServer {
    process: Process,
    port: u16,
    arguments: Vec<String>,
    tls: Option<Arc<TempDir>>,
}

impl GstServer {
    /// `arguments` as in `gst_rtsp_server.py --help`, separated by spaces.
    pub fn start(arguments: &str) -> Self {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        Self::start_on(0, arguments, None)
    }

    /// One that speaks RTSPS and nothing else, by a certificate of its own making ([`GstServer::certificate`]).
    pub fn start_tls(arguments: &str) -> Self {
        Self::start_tls_in(arguments, tempfile::tempdir().expect("a temporary directory"))
    }

    /// The same, by the folder's `certificate.pem` and `key.pem`.
    pub fn start_tls_in(arguments: &str, folder: TempDir) -> Self {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        Self::start_on(0, arguments, Some(Arc::new(folder)))
    }

    fn start_on(port: u16, arguments: Vec<String>, tls: Option<Arc<TempDir>>) -> Self {
        // Debian's own Python: the one that python3-gi is installed for.
        let mut command = Command::new("/usr/bin/python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/gst_rtsp_server.py"));
        command.args(&arguments).args(["--port", &port.to_string()]);
        if let Some(folder) = &tls {
            command.arg("--tls").arg(folder.path());
        }
        let mut process = Process::start("GStreamer's RTSP server", &mut command);
        let port = process.line("its port", |line| line.strip_prefix("port ")?.parse().ok());
        Self { process, port, arguments, tls }
    }

    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}/cam", self.scheme(), self.port)
    }

    /// With user info.
    pub fn url_with(&self, user: &str, password: &str) -> String {
        format!("{}://{user}:{password}@127.0.0.1:{}/cam", self.scheme(), self.port)
    }

    /// Of one that speaks RTSPS: the PEM that a client must trust, for 127.0.0.1, ::1 and localhost.
    pub fn certificate(&self) -> PathBuf {
        self.tls.as_ref().expect("started by start_tls").path().join("certificate.pem")
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "rtsps" } else { "rtsp" }
    }

    /// Ends it at once, as a power cut does; the port stays ours for [`DeadCamera::restart`].
    pub fn kill(self) -> DeadCamera {
        DeadCamera { port: self.port, arguments: self.arguments, tls: self.tls }
    }

    /// Stops the whole process where it is: connections stay open and nothing comes any more.
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// Lets it take another SSRC under the running session, as after a collision: numbers run on. Gives the one
    /// that it had.
    pub fn change_ssrc(&mut self) -> u32 {
        let answered = |process: &Process| process.output().matches("ssrc ").count();
        let before = answered(&self.process);
        writeln!(self.process.stdin(), "ssrc").expect("it reads");
        until("the old SSRC", || (answered(&self.process) > before).then_some(()));
        let said = self.process.output();
        let last = said.lines().rev().find_map(|line| line.strip_prefix("ssrc ")).expect("it answered");
        last.parse().expect("a number")
    }

    /// Changes the picture's size under the running session.
    pub fn resize(&mut self, size: &str) {
        writeln!(self.process.stdin(), "size {size}").expect("it reads");
        self.process.line("the new size", |line| (line == format!("size {size}")).then_some(()));
    }
}

/// A camera that was killed and may come back.
pub struct DeadCamera {
    port: u16,
    arguments: Vec<String>,
    tls: Option<Arc<TempDir>>,
}

impl DeadCamera {
    /// Where nobody listens now.
    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam", self.port)
    }

    pub fn restart(self) -> GstServer {
        GstServer::start_on(self.port, self.arguments, self.tls)
    }

    /// The same place, another camera.
    pub fn restart_as(self, arguments: &str) -> GstServer {
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        GstServer::start_on(self.port, arguments, self.tls)
    }
}
