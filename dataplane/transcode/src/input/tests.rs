//! Inputs against real containers and servers, on loopback. The media are made by the `ffmpeg` command.

mod files;
mod network;
mod refused;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::*;

/// Far more than anything here takes on a loaded machine: a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// An input and what came of it.
struct Opened {
    handle: Option<InputHandle>,
    events: Receiver<InputEvent>,
    inputs: Inputs,
}

impl Drop for Opened {
    /// The libraries below FFmpeg do not bear that a process ends while a thread is in them.
    fn drop(&mut self) {
        self.handle = None;
        let until = Instant::now() + PATIENCE / 10;
        while self.inputs.open_count() > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn config(url: &str) -> InputConfig {
    InputConfig {
        url: Url::parse(url).expect("a URL"),
        open_timeout: PATIENCE / 2,
        silence_timeout: PATIENCE / 2,
    }
}

fn open(url: &str) -> Opened {
    open_with(&Inputs::new(1), config(url))
}

fn open_with(inputs: &Inputs, config: InputConfig) -> Opened {
    let (sender, events) = mpsc::channel();
    let deliver = move |event| {
        // Nobody listens any more: the handle is gone.
        let _ = sender.send(event);
        Ok(())
    };
    let handle = Some(inputs.open(config, deliver).expect("opened"));
    Opened { handle, events, inputs: inputs.clone() }
}

impl Opened {
    fn event(&self) -> InputEvent {
        self.events.recv_timeout(PATIENCE).expect("an event")
    }

    fn playing(&self) -> (Codec, ParameterSets) {
        match self.event() {
            InputEvent::Playing { codec, parameter_sets } => (codec, *parameter_sets),
            other => panic!("not playing: {other:?}"),
        }
    }

    fn units(&self, count: usize) -> Vec<InputUnit> {
        let unit = |_| match self.event() {
            InputEvent::Unit(unit) => unit,
            other => panic!("no picture: {other:?}"),
        };
        (0..count).map(unit).collect()
    }

    /// The sentence of an input that never played.
    fn ended(&self) -> String {
        match self.event() {
            InputEvent::Ended(sentence) => sentence,
            other => panic!("not ended: {other:?}"),
        }
    }
}

/// Opens it again and again while nobody is there yet.
fn open_when_there(url: &str) -> (Opened, Codec, ParameterSets) {
    let until = Instant::now() + PATIENCE;
    loop {
        let opened = open(url);
        match opened.event() {
            InputEvent::Playing { codec, parameter_sets } => return (opened, codec, *parameter_sets),
            other => assert!(Instant::now() < until, "{other:?}"),
        }
    }
}

/// Ends when it is dropped.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program is installed"))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let out = self.0.stdout.as_mut().expect("piped");
        BufReader::with_capacity(1, out).read_line(&mut line).expect("a line");
        line
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ffmpeg(arguments: &str) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]).args(arguments.split_whitespace());
    command
}

/// A folder with media in it.
struct Media(tempfile::TempDir);

/// 25 pictures of one second.
const SOURCE: &str = "-f lavfi -i testsrc=size=320x240:rate=25:duration=1";
const SOUND: &str = "-f lavfi -i sine=duration=1";
const PICTURES: usize = 25;

const H264: &str = "-c:v libx264 -preset ultrafast -g 10 -pix_fmt yuv420p";
const H264_B: &str = "-c:v libx264 -preset veryfast -bf 2 -g 10 -pix_fmt yuv420p";
const H265: &str =
    "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=10:open-gop=0 -pix_fmt yuv420p";

impl Media {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn url(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    fn make(self, arguments: &str, name: &str) -> Self {
        let made = ffmpeg(arguments).arg(self.path(name)).status().expect("ffmpeg is installed");
        assert!(made.success());
        self
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }
}

/// Pictures that a decoder makes of it.
fn decoded(codec: Codec, sets: &ParameterSets, units: &[InputUnit]) -> usize {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let nals = units.iter().flat_map(|unit| unit.nals.iter().map(Nal::to_contiguous));
    for nal in sets.iter().cloned().chain(nals) {
        file.write_all(&[&[0, 0, 0, 1], &nal[..]].concat()).expect("written");
    }
    let format = if codec == Codec::H264 { "h264" } else { "hevc" };
    let told = Command::new("ffprobe")
        .args(["-v", "error", "-f", format, "-count_frames", "-show_entries", "stream=nb_read_frames"])
        .args(["-of", "csv=p=0"])
        .arg(file.path())
        .output()
        .expect("ffprobe is installed");
    assert_eq!(String::from_utf8_lossy(&told.stderr), "", "it decodes without complaint");
    String::from_utf8_lossy(&told.stdout).trim().parse().expect("a number")
}

fn is_random_access(codec: Codec, unit: &InputUnit) -> bool {
    unit.nals.iter().any(|nal| nal.class(codec) == lanecast_protocol::codec::NalClass::RandomAccess)
}

/// Sorted: in order of display.
fn steps(units: &[InputUnit]) -> Vec<u32> {
    let mut times: Vec<u32> = units.iter().map(|unit| unit.timestamp_90k).collect();
    let first = times[0];
    times.sort_unstable_by_key(|time| time.wrapping_sub(first).cast_signed());
    times.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect()
}

fn free_tcp_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

/// Serves a folder by HTTP; its port.
fn serve(folder: &Path) -> (Process, u16) {
    let server = ["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"];
    let mut server =
        Process::start(Command::new("python3").args(server).current_dir(folder).stderr(Stdio::null()));
    // "Serving HTTP on 127.0.0.1 port 12345 (http://…"
    let line = server.line();
    let port = line.split(" port ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    (server, port.expect("a port"))
}

fn wait_until_none_is_open(inputs: &Inputs) {
    let until = Instant::now() + PATIENCE;
    while inputs.open_count() > 0 {
        assert!(Instant::now() < until, "the thread goes on");
        std::thread::yield_now();
    }
}
