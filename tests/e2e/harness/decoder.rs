//! ffmpeg as the judge: it reads a session description as it stands and must decode pictures with no
//! complaint at all.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::process::Process;
use super::{PATIENCE, Packet, until};

pub struct Decoder {
    process: Process,
    directory: TempDir,
    port: u16,
    frames: usize,
    keep_picture: Option<PathBuf>,
    /// The share of the pixels at either end that says nothing of a picture.
    outliers: f64,
}

/// What came out.
pub struct Decoded {
    /// One hash per picture.
    pub hashes: Vec<String>,
    pub width: u32,
    pub height: u32,
}

impl Decoder {
    /// For as many pictures as come, until [`Decoder::stop`].
    pub fn endless(sdp: &str) -> Self {
        Self::start(sdp, 1_000_000_000)
    }

    /// Starts ffmpeg on `sdp` for `frames` pictures and returns when it listens on the description's port. Pictures of
    /// another size than the first are scaled to it.
    pub fn start(sdp: &str, frames: usize) -> Self {
        Self::start_with(sdp, frames, &[])
    }

    /// Of few pictures a second: ffmpeg does not wait for twenty of them to know their rate.
    pub fn start_slow(sdp: &str, frames: usize) -> Self {
        Self::start_with(sdp, frames, &["-fpsprobesize", "0"])
    }

    fn start_with(sdp: &str, frames: usize, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port = media_port(sdp);
        std::fs::write(directory.path().join("session.sdp"), sdp).expect("a file");
        let mut process = Process::start("ffmpeg", &mut command(directory.path(), frames, options));
        until("ffmpeg's listening", || {
            if let Some(status) = process.wait(std::time::Duration::ZERO) {
                panic!("ffmpeg ended ({status}): {}\n{sdp}", process.output());
            }
            is_bound(port).then_some(())
        });
        Self { process, directory, port, frames, keep_picture: None, outliers: 0.05 }
    }

    /// Where it listens for RTP.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Gives it packets that came by another way, at a pace that its socket buffer bears.
    pub fn feed(&self, packets: &[Packet]) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        for run in packets.chunks(50) {
            for packet in run {
                // Refused only when ffmpeg has all the pictures it wants.
                let _ = socket.send_to(&packet.bytes, self.address());
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Where `LANECAST_KEEP_PICTURES` names a directory, the last picture is left there under `name`, to look at.
    pub fn keep_picture(mut self, name: &str) -> Self {
        self.keep_picture = std::env::var_os("LANECAST_KEEP_PICTURES")
            .map(|directory| Path::new(&directory).join(format!("{name}.png")));
        self
    }

    /// The last picture is of a few words on a plain ground.
    pub fn showing_words(mut self) -> Self {
        self.outliers = 0.005;
        self
    }

    /// Waits for all pictures; none missing, none the same grey, not one line of complaint.
    #[track_caller]
    pub fn finish(mut self) -> Decoded {
        let status: Option<ExitStatus> = self.process.wait(PATIENCE);
        let complaints = self.process.output();
        let hashes = self.hashes();
        assert!(
            status.is_some(),
            "ffmpeg decoded {} of {} pictures in time; it said:\n{complaints}",
            hashes.len(),
            self.frames
        );
        assert!(status.is_some_and(|status| status.success()), "ffmpeg succeeds: {status:?}");
        assert_eq!(hashes.len(), self.frames, "every picture is decoded");
        self.judge(hashes)
    }

    /// Ends ffmpeg where it is. Not one line of complaint.
    #[track_caller]
    pub fn stop(mut self) -> Decoded {
        self.process.signal(Signal::SIGINT);
        self.process.wait(PATIENCE).expect("SIGINT ends ffmpeg");
        let hashes = self.hashes();
        self.judge(hashes)
    }

    #[track_caller]
    fn judge(self, hashes: Vec<String>) -> Decoded {
        assert_eq!(self.process.output(), "", "ffmpeg has nothing to complain of");
        let (width, height) = self.dimensions();
        let picture = self.last_picture(width, height);
        let luma = &picture[..width as usize * height as usize];
        if let Some(path) = &self.keep_picture {
            keep(path, &picture, width, height);
        }
        let contrast = contrast(luma, self.outliers);
        assert!(contrast > 60, "the picture is not blank: contrast {contrast}");
        Decoded { hashes, width, height }
    }

    /// How many pictures it has decoded and written down by now.
    pub fn decoded(&self) -> usize {
        self.hashes().len()
    }

    fn hashes(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("frames.md5")).unwrap_or_default();
        let hash = |line: &str| line.rsplit(',').next().map(|hash| hash.trim().to_owned());
        text.lines().filter(|line| !line.starts_with('#')).filter_map(hash).collect()
    }

    /// Width and height as the list of hashes tells them.
    fn dimensions(&self) -> (u32, u32) {
        let text = std::fs::read_to_string(self.path("frames.md5")).expect("ffmpeg wrote it");
        let line = text.lines().find_map(|line| line.strip_prefix("#dimensions 0: ")).expect("dimensions");
        let (width, height) = line.split_once('x').expect("WxH");
        (width.parse().expect("a width"), height.parse().expect("a height"))
    }

    /// The last picture as I420.
    fn last_picture(&self, width: u32, height: u32) -> Vec<u8> {
        let length = width as usize * height as usize * 3 / 2;
        let mut bytes = std::fs::read(self.path("pictures.yuv")).expect("ffmpeg wrote it");
        bytes.split_off(bytes.len() - length)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// The description with its media port replaced: for clients that bind their own port (revision 2).
pub fn with_media_port(sdp: &str, port: u16) -> String {
    let line = |line: &str| match line.strip_prefix("m=video ") {
        Some(rest) => format!("m=video {port} {}\r\n", rest.split_once(' ').expect("a port").1),
        None => format!("{line}\r\n"),
    };
    sdp.lines().map(line).collect()
}

fn media_port(sdp: &str) -> u16 {
    let line = sdp.lines().find_map(|line| line.strip_prefix("m=video ")).expect("a video section");
    line.split(' ').next().expect("a port").parse().expect("a port")
}

fn command(directory: &Path, frames: usize, options: &[&str]) -> Command {
    let frames = frames.to_string();
    let mut command = Command::new("ffmpeg");
    command.current_dir(directory).args(["-hide_banner", "-nostats", "-loglevel", "warning"]);
    // A large socket buffer: on a busy machine ffmpeg may be kept waiting for longer than its own would last.
    command.args(options).args([
        "-protocol_whitelist",
        "file,udp,rtp",
        "-buffer_size",
        "4000000",
        "-i",
        "session.sdp",
    ]);
    // Every picture as it is decoded, on the stream's own clock: none dropped or doubled to fit a rate.
    let each = ["-frames:v", &frames, "-fps_mode", "passthrough", "-enc_time_base", "-1"];
    command.args(each).args(["-flush_packets", "1", "-f", "framemd5", "frames.md5"]);
    command.args(each).args(["-f", "rawvideo", "-pix_fmt", "yuv420p", "pictures.yuv"]);
    command
}

/// Writes an I420 picture as a PNG.
fn keep(path: &Path, picture: &[u8], width: u32, height: u32) {
    let raw = path.with_extension("yuv");
    std::fs::write(&raw, picture).expect("a file");
    let mut command = Command::new("ffmpeg");
    command.args(["-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "yuv420p"]);
    command.args(["-s", &format!("{width}x{height}"), "-i"]).arg(&raw).arg(path);
    assert!(command.status().expect("ffmpeg runs").success());
    std::fs::remove_file(&raw).expect("our file");
}

/// Whether any process of this machine has the UDP port.
fn is_bound(port: u16) -> bool {
    let bound = |table: &str| {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        let suffix = format!(":{port:04X}");
        text.lines().skip(1).any(|line| line.split_whitespace().nth(1).is_some_and(|a| a.ends_with(&suffix)))
    };
    bound("/proc/net/udp") || bound("/proc/net/udp6")
}

/// The span of grey values of the pixels but for a share of outliers at either end.
fn contrast(pixels: &[u8], outliers: f64) -> u8 {
    let mut sorted = pixels.to_vec();
    sorted.sort_unstable();
    let left_out = (sorted.len() as f64 * outliers) as usize;
    sorted[sorted.len() - 1 - left_out] - sorted[left_out]
}

/// The judge itself is judged: ffmpeg sends, ffmpeg receives, no server between.
mod tests {
    use super::super::{Codec, Packet, Udp, access_units, assert_continuous, free_udp_port};
    use super::*;

    #[test]
    fn a_whole_stream_is_decoded_without_complaint() {
        let (sdp, packets) = sample();
        let decoder = Decoder::start(&with_media_port(&sdp, free_udp_port()), 30).keep_picture("judge");
        decoder.feed(&packets);
        let decoded = decoder.finish();
        assert_eq!((decoded.width, decoded.height), (320, 240));
    }

    #[test]
    fn one_lost_packet_is_complained_of() {
        let (sdp, mut packets) = sample();
        packets.remove(packets.len() / 3);
        let decoder = Decoder::start(&with_media_port(&sdp, free_udp_port()), 30);
        decoder.feed(&packets);
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| decoder.finish()));
        assert!(judged.is_err(), "the judge sees a lost packet");
    }

    #[test]
    fn a_sample_is_read_as_what_it_is() {
        let (_, packets) = sample();
        assert_continuous(&packets);
        let units = access_units(&packets, Codec::H264);
        assert!(units.iter().all(|unit| unit.complete));
        assert!(units[0].is_random_access(Codec::H264));
        assert!(!units[1].is_random_access(Codec::H264));
    }

    /// Four seconds of a test picture as RTP, and their description.
    fn sample() -> (String, Vec<Packet>) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let udp = Udp::open();
        let mut sender = Command::new("ffmpeg");
        sender.current_dir(directory.path()).args(["-hide_banner", "-loglevel", "error"]);
        sender.args(["-f", "lavfi", "-i", "testsrc=size=320x240:rate=15:duration=4", "-pix_fmt", "yuv420p"]);
        sender.args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-g",
            "15",
            "-bf",
            "0",
            "-payload_type",
            "96",
        ]);
        sender.args(["-f", "rtp", "-sdp_file", "sample.sdp"]);
        sender.arg(format!("rtp://127.0.0.1:{}?pkt_size=1200&rtcpport={}", udp.port(), free_udp_port()));
        let status = sender.status().expect("ffmpeg is installed");
        assert!(status.success(), "{status}");
        let packets = udp.rtp_when("sixty access units", |rtp| {
            (rtp.iter().filter(|packet| packet.marker()).count() == 60).then(|| rtp.to_vec())
        });
        let sdp = std::fs::read_to_string(directory.path().join("sample.sdp")).expect("ffmpeg wrote it");
        (sdp, packets)
    }
}
