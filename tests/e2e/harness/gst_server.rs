//! A camera by GStreamer's RTSP server: somebody else's RTSP, payloader and encoder.

use std::io::Write;
use std::process::Command;

use nix::sys::signal::Signal;

use super::process::Process;

pub struct GstServer {
    process: Process,
    port: u16,
    arguments: Vec<String>,
}

impl GstServer {
    /// `arguments` as in `gst_rtsp_server.py --help`, separated by spaces.
    pub fn start(arguments: &str) -> Self {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        Self::start_on(0, arguments)
    }

    fn start_on(port: u16, arguments: Vec<String>) -> Self {
        // Debian's own Python: the one that python3-gi is installed for.
        let mut command = Command::new("/usr/bin/python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/gst_rtsp_server.py"));
        command.args(&arguments).args(["--port", &port.to_string()]);
        let mut process = Process::start("GStreamer's RTSP server", &mut command);
        let port = process.line("its port", |line| line.strip_prefix("port ")?.parse().ok());
        Self { process, port, arguments }
    }

    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam", self.port)
    }

    /// With user info.
    pub fn url_with(&self, user: &str, password: &str) -> String {
        format!("rtsp://{user}:{password}@127.0.0.1:{}/cam", self.port)
    }

    /// Ends it at once, as a power cut does; the port stays ours for [`DeadCamera::restart`].
    pub fn kill(self) -> DeadCamera {
        DeadCamera { port: self.port, arguments: self.arguments }
    }

    /// Stops the whole process where it is: connections stay open and nothing comes any more.
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
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
}

impl DeadCamera {
    /// Where nobody listens now.
    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam", self.port)
    }

    pub fn restart(self) -> GstServer {
        GstServer::start_on(self.port, self.arguments)
    }

    /// The same place, another camera.
    pub fn restart_as(self, arguments: &str) -> GstServer {
        GstServer::start_on(self.port, arguments.split_whitespace().map(str::to_owned).collect())
    }
}
