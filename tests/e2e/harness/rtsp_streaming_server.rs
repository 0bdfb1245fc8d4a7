//! The npm package rtsp-streaming-server, which hands on to viewers, UDP only, what ffmpeg publishes to it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use super::process::Process;
use super::{Clip, Codec, free_udp_port};

pub struct RtspStreamingServer {
    /// Lives as long as the server, and so does what it serves.
    _process: Process,
    publishers: Vec<(Process, Clip)>,
    publishers_port: u16,
    viewers_port: u16,
}

impl RtspStreamingServer {
    /// `None`, with a word why, where it is not installed.
    pub fn start() -> Option<Self> {
        let modules = modules();
        if !modules.exists() {
            eprintln!("skipped: no {}: tests/e2e/rtsp_streaming_server/install.sh", modules.display());
            return None;
        }
        let [publishers_port, viewers_port] = free_tcp_ports();
        let mut command = Command::new("node");
        command.env("NODE_PATH", modules);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/rtsp_streaming_server/server.js"));
        // Pairs of ports, upwards of what is free: one pair for each publisher and each viewer.
        command
            .args([publishers_port, viewers_port, free_udp_port(), UDP_PORTS].map(|port| port.to_string()));
        let mut process = Process::start("rtsp-streaming-server", &mut command);
        process.line("that it listens", |line| (line == "listening").then_some(()));
        Some(Self { _process: process, publishers: vec![], publishers_port, viewers_port })
    }

    /// Lets ffmpeg publish a film of two seconds to it, again and again, and gives the viewers' URL.
    pub fn publish(&mut self, codec: Codec) -> String {
        let clip = Clip::encode(codec, 2, "mp4");
        let mount = format!("{codec:?}");
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-nostats", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i"]);
        command.arg(clip.path()).args(["-c", "copy", "-f", "rtsp", "-rtsp_transport", "udp"]);
        command.arg(format!("rtsp://127.0.0.1:{}/{mount}", self.publishers_port));
        self.publishers.push((Process::start("ffmpeg", &mut command), clip));
        format!("rtsp://127.0.0.1:{}/{mount}", self.viewers_port)
    }
}

/// How many it may use.
const UDP_PORTS: u16 = 16;

/// As the install script leaves them.
fn modules() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/rtsp-streaming-server/node_modules"))
}

/// Two ports that nobody has at the moment: it cannot be asked for any.
fn free_tcp_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("bound").port())
}
