//! VLC as an RTSP server of a file in a loop: UDP only, and its sessions end with every turn of the loop.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::process::Process;
use super::{Clip, Codec, until};

pub struct VlcServer {
    /// Lives as long as the server.
    _process: Process,
    _clip: Clip,
    port: u16,
}

/// Nobody's user and group: VLC does not run as root.
const NOBODY: &str = "65534";

impl VlcServer {
    /// `None`, with a word why, where there is no VLC that may run.
    pub fn start(codec: Codec, seconds: usize) -> Option<Self> {
        let runs = vlc().args(["-I", "dummy", "--version"]).output();
        if !runs.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: no VLC runs here (vlc-bin, vlc-plugin-base)");
            return None;
        }
        let clip = Clip::encode(codec, seconds, "mp4");
        let port = free_tcp_port();
        let mut command = vlc();
        command.args(["-I", "dummy", "--no-audio", "--loop", "--sout-keep"]).env("HOME", clip.directory());
        command.arg(format!("--sout=#rtp{{sdp=rtsp://127.0.0.1:{port}/loop}}")).arg(clip.path());
        let mut process = Process::start("VLC", &mut command);
        until("VLC's listening", || {
            if let Some(status) = process.wait(std::time::Duration::ZERO) {
                panic!("VLC ended ({status}): {}", process.output());
            }
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(())
        });
        Some(Self { _process: process, _clip: clip, port })
    }

    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/loop", self.port)
    }
}

/// It, or its wrapper that runs it as nobody where we are root.
fn vlc() -> Command {
    let is_root = std::fs::metadata("/proc/self").expect("/proc").uid() == 0;
    let mut command = Command::new(if is_root { "vlc-wrapper" } else { "vlc" });
    if is_root {
        command.env("SUDO_UID", NOBODY).env("SUDO_GID", NOBODY);
    }
    command
}

/// A port that nobody has at the moment: VLC cannot be asked for one.
fn free_tcp_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("bound").port()
}
