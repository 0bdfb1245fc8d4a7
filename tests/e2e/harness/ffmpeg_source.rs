//! Servers and senders of what is not RTSP: nginx, Python's HTTP server and ffmpeg itself, with a clip sent again and
//! again in real time.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::process::Process;
use super::{Clip, Codec, free_udp_port, until};

/// nginx with its RTMP module, and an `ffmpeg` that publishes to it.
pub struct RtmpServer {
    _nginx: Process,
    _publisher: Process,
    folder: TempDir,
    port: u16,
    key: String,
}

/// One that was killed and may come back.
pub struct DeadRtmpServer {
    port: u16,
    key: String,
}

impl RtmpServer {
    /// Publishes H.264 and AAC as `live/<key>`. `None`, with a word why, where there is no such nginx.
    pub fn start(key: &str) -> Option<Self> {
        if !Path::new(RTMP_MODULE).exists() {
            eprintln!("skipped: no {RTMP_MODULE} (Debian's libnginx-mod-rtmp)");
            return None;
        }
        Some(Self::start_on(free_tcp_port(), key.to_owned()))
    }

    fn start_on(port: u16, key: String) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().display();
        let configuration = format!(
            "daemon off; master_process off; pid {path}/pid; error_log /dev/null; load_module {RTMP_MODULE};
            events {{}}
            rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}"
        );
        std::fs::write(folder.path().join("nginx.conf"), configuration).expect("a file");
        let mut nginx = Command::new("/usr/sbin/nginx");
        nginx.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
        let nginx = Process::start("nginx", &mut nginx);
        until("nginx listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        let url = url_of(port, &key);
        let publisher = send_again_and_again(Codec::H264, folder.path(), "-f flv", &url);
        Self { _nginx: nginx, _publisher: publisher, folder, port, key }
    }

    pub fn url(&self) -> String {
        url_of(self.port, &self.key)
    }

    /// Ends it and its publisher at once.
    pub fn kill(self) -> DeadRtmpServer {
        let Self { port, key, folder, .. } = self;
        drop(folder);
        DeadRtmpServer { port, key }
    }
}

impl DeadRtmpServer {
    /// At the same place.
    pub fn restart(self) -> RtmpServer {
        RtmpServer::start_on(self.port, self.key)
    }
}

fn url_of(port: u16, key: &str) -> String {
    format!("rtmp://127.0.0.1:{port}/live/{key}")
}

/// `ffmpeg` that sends one way, to one receiver.
pub struct Sender {
    _process: Process,
    folder: TempDir,
    url: String,
    how: How,
}

/// One that was killed and may come back.
pub struct LostSender {
    url: String,
    how: How,
}

struct How {
    codec: Codec,
    format: &'static str,
    to: String,
}

impl Sender {
    /// Waits for an SRT caller, who may have to know a passphrase.
    pub fn srt(codec: Codec, passphrase: Option<&str>) -> Self {
        let url = format!("srt://127.0.0.1:{}", free_udp_port());
        let passphrase = passphrase.map(|words| format!("passphrase={words}"));
        let listening: Vec<&str> = ["mode=listener"].into_iter().chain(passphrase.as_deref()).collect();
        let listener = format!("{url}?{}", listening.join("&"));
        let url = passphrase.as_ref().map_or(url.clone(), |words| format!("{url}?{words}"));
        Self::start(codec, "-f mpegts", &listener, url)
    }

    /// Waits for a GET, and answers with an endless MPEG-TS.
    pub fn http(codec: Codec) -> Self {
        let url = format!("http://127.0.0.1:{}/live.ts", free_tcp_port());
        let sender = Self::start(codec, "-f mpegts -listen 1", &url, url.clone());
        until("ffmpeg listens", || is_listening(port_of(&url)).then_some(()));
        sender
    }

    /// Sends MPEG-TS, whoever listens.
    pub fn udp(codec: Codec) -> Self {
        let url = format!("udp://127.0.0.1:{}", free_udp_port());
        Self::start(codec, "-f mpegts", &format!("{url}?pkt_size=1316"), url.clone())
    }

    fn start(codec: Codec, format: &'static str, to: &str, url: String) -> Self {
        Self::start_as(How { codec, format, to: to.to_owned() }, url)
    }

    fn start_as(how: How, url: String) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let process = send_again_and_again(how.codec, folder.path(), how.format, &how.to);
        Self { _process: process, folder, url, how }
    }

    /// Ends it at once.
    pub fn kill(self) -> LostSender {
        let Self { url, how, folder, .. } = self;
        drop(folder);
        LostSender { url, how }
    }

    /// What the server under test opens.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl LostSender {
    /// At the same place.
    pub fn restart(self) -> Sender {
        Sender::start_as(self.how, self.url)
    }
}

/// A folder behind HTTP.
pub struct HttpFolder {
    _server: Process,
    _segmenter: Option<Process>,
    _folder: TempDir,
    port: u16,
}

impl HttpFolder {
    /// HLS that is live: the list has three segments of a second, and goes on.
    pub fn live_hls(codec: Codec) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let list = folder.path().join(LIST);
        let format = "-f hls -hls_time 1 -hls_list_size 3 -hls_flags delete_segments";
        let segmenter = send_again_and_again(codec, folder.path(), format, list.to_str().expect("UTF-8"));
        until("a list", || list.exists().then_some(()));
        Self::serve(folder, Some(segmenter))
    }

    /// HLS that is all there, with B-frames: so many seconds in segments of two.
    pub fn hls_in_stock(seconds: usize) -> Self {
        let clip = Clip::encode_with_b_frames(Codec::H264, seconds, "mp4");
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut command = ffmpeg("-i");
        command
            .arg(clip.path())
            .args(words("-c copy -f hls -hls_time 2 -hls_list_size 0 -hls_playlist_type vod"));
        assert!(command.arg(folder.path().join(LIST)).status().expect("ffmpeg is installed").success());
        Self::serve(folder, None)
    }

    fn serve(folder: TempDir, segmenter: Option<Process>) -> Self {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]).current_dir(folder.path());
        let mut server = Process::start("Python's HTTP server", &mut command);
        // "Serving HTTP on 127.0.0.1 port 12345 (http://…"
        let port =
            server.line("its port", |line| line.split_once(" port ")?.1.split(' ').next()?.parse().ok());
        Self { _server: server, _segmenter: segmenter, _folder: folder, port }
    }

    pub fn list_url(&self) -> String {
        format!("http://127.0.0.1:{}/{LIST}", self.port)
    }
}

/// A clip with sound in real time, without end.
fn send_again_and_again(codec: Codec, folder: &Path, format: &str, to: &str) -> Process {
    let clip = Clip::encode(codec, 4, "mp4");
    let path: PathBuf = folder.join("clip.mp4");
    std::fs::copy(clip.path(), &path).expect("a file");
    let mut command = ffmpeg("-re -stream_loop -1 -i");
    command.arg(path).args(words("-re -f lavfi -i sine -map 0:v -map 1:a -c:v copy -c:a aac"));
    command.args(words(format)).arg(to);
    Process::start("ffmpeg, sending", &mut command)
}

fn ffmpeg(arguments: &str) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]).args(words(arguments));
    command
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

fn port_of(url: &str) -> u16 {
    let port = url.rsplit(':').next().and_then(|rest| rest.split('/').next()?.parse().ok());
    port.expect("a port")
}

fn free_tcp_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("bound").port()
}

/// Whether any process of this machine listens there; asked without a connection, which it would take for its viewer.
fn is_listening(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let (suffix, listens) = (format!(":{port:04X}"), "0A");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&suffix)) && fields.nth(1) == Some(listens)
    })
}

const RTMP_MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
const LIST: &str = "list.m3u8";
