//! A WebRTC session that is moved about in time while its network loses packets: everything comes again, also what was lost
//! just before a move. The peer is our own tool, which shares no code with the server.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Camera, Process, Server, until};

#[test]
fn an_h264_session_that_loses_packets_is_repaired_wherever_it_goes() {
    loses_nothing_wherever_it_goes("h264");
}

#[test]
fn an_h265_session_that_loses_packets_is_repaired_wherever_it_goes() {
    loses_nothing_wherever_it_goes("h265");
}

fn loses_nothing_wherever_it_goes(codec: &str) {
    // Every move brings a GOP at once, and the peer's stack misses nothing that lies more than 512 packets back.
    let camera = Camera::start(&format!("--bitrate 500k --gop-seconds 2 --codec {codec}"));
    let server = Server::start();
    let stream = json!({ "source_id": 7, "rtsp_url": camera.url(), "should_record": true });
    server.rest.post("/streams", &stream).expect(201);
    let start = recorded_from(&server, Duration::from_secs(7));
    let peer = Peer::start(&server, codec);

    // From live into the past, then about in it.
    for back in [4, 5, 3, 6, 2, 4] {
        let asked = now_ms() - 1000 * back;
        let mode = peer.control(&server, "seek", &json!({ "timestamp": asked }));
        let at = mode["current_time_ms"].as_u64().expect("a time");
        assert!(at >= start && at.abs_diff(asked) < 200, "{asked} in {mode}");
        peer.when(&server, "on its way", |mode| mode["current_time_ms"].as_u64() > Some(at + 400));
    }
    // Faster, still, and on.
    for speed in [4.0, 0.0, 1.0] {
        assert_eq!(peer.control(&server, "speed", &json!({ "speed": speed }))["speed"], speed);
    }
    // Live, and there and back again.
    for back in [4, 3] {
        assert_eq!(peer.control(&server, "live", &json!({}))["is_live"], true);
        peer.control(&server, "seek", &json!({ "timestamp": now_ms() - 1000 * back }));
    }
    // The live edge is reached by itself.
    peer.control(&server, "speed", &json!({ "speed": 2 }));
    peer.when(&server, "live", |mode| mode["is_live"] == true);
    let sent = server.rest.metric("lanecast_stream_access_units_total");
    until("live pictures", || {
        (server.rest.metric("lanecast_stream_access_units_total") > sent + 30.0).then_some(())
    });

    let (seen, video) = peer.finish();
    let count = |name: &str| seen["totals"][name].as_u64().expect(name);
    assert!(count("recovered") > 20, "{seen}");
    assert_eq!((count("lost"), count("backward_timestamps"), count("ssrc_changes")), (0, 0, 0), "{seen}");
    assert!(count("access_units") > 200, "{seen}");
    // All but the one that was coming in at the end.
    assert!(video.decoded_frames() + 1 >= count("whole_access_units"), "{seen}");
}

/// A full peer that drops packets on purpose.
struct Peer {
    process: Process,
    session: String,
    folder: tempfile::TempDir,
    video: PathBuf,
}

/// What it wrote.
struct Video {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Peer {
    fn start(server: &Server, codec: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let video = folder.path().join(format!("received.{codec}"));
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_lanecast")).with_file_name("lanecast-viewer");
        assert!(binary.exists(), "{} is not built: cargo build -p lanecast-viewer", binary.display());
        let mut command = Command::new(binary);
        command.args(["whep", "watch", "--seconds", "60", "--loss", "5", "--strict", "--out"]).arg(&video);
        command.arg("--json").arg(folder.path().join("summary.json"));
        command.arg(format!("http://{}/streams/7/whep", server.address()));
        let mut process = Process::start("lanecast-viewer", &mut command);
        let location = process.line("where its session is", |line| {
            let event: Value = serde_json::from_str(line).ok()?;
            event["location"].as_str().map(str::to_owned)
        });
        process.line("its first picture", |line| line.contains("\"first_picture\"").then_some(()));
        let session = location.rsplit('/').next().expect("an id").to_owned();
        Self { process, session, folder, video }
    }

    /// The mode after it.
    #[track_caller]
    fn control(&self, server: &Server, verb: &str, body: &Value) -> Value {
        let path = format!("/client-session-control/{}/{verb}", self.session);
        server.rest.post(&path, body).expect(200).json()
    }

    fn when(&self, server: &Server, what: &str, pleases: impl Fn(&Value) -> bool) {
        let path = format!("/client-session-control/{}/mode", self.session);
        until(what, || pleases(&server.rest.get(&path).expect(200).json()).then_some(()));
    }

    /// Ends it; it must have found no fault.
    fn finish(mut self) -> (Value, Video) {
        self.process.signal(Signal::SIGINT);
        let status = self.process.wait(Duration::from_secs(20));
        let summary = std::fs::read(self.folder.path().join("summary.json")).unwrap_or_default();
        let summary = serde_json::from_slice(&summary).unwrap_or(Value::Null);
        assert!(status.is_some_and(|status| status.success()), "{status:?}\n{summary}");
        (summary, Video { path: self.video, _folder: self.folder })
    }
}

impl Video {
    /// As many as decode without a complaint.
    fn decoded_frames(&self) -> u64 {
        let arguments =
            ["-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"];
        let output = Command::new("ffprobe").args(arguments).arg(&self.path).output().expect("ffprobe runs");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let frames = String::from_utf8_lossy(&output.stdout);
        frames.trim().trim_end_matches(',').parse().expect("a number of frames")
    }
}

/// Waits for so much of a recording; its start.
fn recorded_from(server: &Server, time: Duration) -> u64 {
    until("a recording", || {
        let timeline = server.rest.get("/streams/7/recordings").expect(200).json();
        let span = timeline["spans"].as_array()?.last()?.clone();
        let (start, end) = (span["start"].as_u64()?, span["end"].as_u64()?);
        (end - start >= time.as_millis() as u64).then_some(start)
    })
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}
