//! live555's RTSP server of files, which many cameras have inside: each client has a file from its beginning, once.

use std::path::PathBuf;
use std::process::Command;

use super::Clip;
use super::process::Process;

pub struct Live555Server {
    /// Lives as long as the server.
    _process: Process,
    port: u16,
}

impl Live555Server {
    /// Serves one file. `digest` is `user:password`. `None`, with a word why, where it was not built.
    pub fn start(clip: &Clip, digest: Option<&str>) -> Option<Self> {
        let program = program();
        if !program.exists() {
            eprintln!("skipped: {} is not built: tests/e2e/live555/build.sh", program.display());
            return None;
        }
        let mut command = Command::new(program);
        if let Some(digest) = digest {
            command.args(["--digest", digest]);
        }
        let mut process = Process::start("live555's RTSP server", command.arg(clip.path()));
        let port = process.line("its port", |line| line.strip_prefix("port ")?.parse().ok());
        Some(Self { _process: process, port })
    }

    /// `credentials` is empty, or `user:password@`.
    pub fn url(&self, credentials: &str) -> String {
        format!("rtsp://{credentials}127.0.0.1:{}/0", self.port)
    }
}

/// As its build script leaves it.
fn program() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/live555/live555-server"))
}
