//! WebRTC viewers of our own tools, which share no code with the server: one full peer that repairs what is lost on
//! purpose, and many light ones that count everything.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Camera, Process, Server};

#[test]
fn five_percent_loss_is_repaired_and_every_picture_decodes() {
    for codec in ["h264", "h265"] {
        let (server, _camera) = server_with(&format!("--bitrate 2M --gop-seconds 2 --codec {codec}"));
        let folder = tempfile::tempdir().expect("a folder");
        let video = folder.path().join(format!("received.{codec}"));

        let arguments = ["watch", "--seconds", "6", "--loss", "5", "--strict", "--out"];
        let seen = viewer(&server, folder.path(), &arguments, Some(&video));

        let count = |name: &str| seen["totals"][name].as_u64().expect(name);
        assert!(count("recovered") > 20, "{seen}");
        assert_eq!((count("lost"), count("backward_timestamps"), count("ssrc_changes")), (0, 0, 0), "{seen}");
        assert!(count("access_units") > 100, "{seen}");
        // All but the one that was coming in at the end.
        assert!(decoded_frames(&video) + 1 >= count("whole_access_units"), "{seen}");
    }
}

#[test]
fn every_one_of_many_viewers_gets_every_packet_under_either_cipher() {
    let (server, _camera) = server_with("--bitrate 1M --gop-seconds 2");
    let folder = tempfile::tempdir().expect("a folder");
    for (srtp, profile) in [("both", "AEAD_AES_128_GCM"), ("sha1", "AES128_CM_HMAC_SHA1_80")] {
        let arguments = ["load", "--viewers", "60", "--seconds", "3", "--strict", "--srtp", srtp];
        let seen = viewer(&server, folder.path(), &arguments, None);
        assert_eq!(seen["sessions"]["joined"], 60, "{seen}");
        assert_eq!(seen["totals"]["lost"], 0, "{seen}");
        assert!(seen["totals"]["packets"].as_u64().is_some_and(|packets| packets > 60 * 200), "{seen}");
        assert_eq!(seen["peers"]["srtp_profiles"][profile], 60, "{seen}");
    }
    server.rest.stream_when("7", "without sessions", |stream| stream["webrtc_sessions"] == json!([]));
}

fn server_with(camera: &str) -> (Server, Camera) {
    let camera = Camera::start(camera);
    let server = Server::start();
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    (server, camera)
}

/// Runs the viewer to its end, which must be a good one, and gives its summary.
fn viewer(server: &Server, folder: &Path, arguments: &[&str], out: Option<&PathBuf>) -> Value {
    let summary = folder.join("summary.json");
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_lanecast")).with_file_name("lanecast-viewer");
    assert!(binary.exists(), "{} is not built: cargo build -p lanecast-viewer", binary.display());
    let mut command = Command::new(binary);
    command.arg("whep").args(arguments).args(out);
    command.arg("--json").arg(&summary).arg(format!("http://{}/streams/7/whep", server.address()));
    let mut process = Process::start("lanecast-viewer", &mut command);
    let status = process.wait(Duration::from_secs(60));
    assert!(status.is_some_and(|status| status.success()), "{status:?}\n{}", process.output());
    serde_json::from_slice(&std::fs::read(summary).expect("a summary")).expect("JSON")
}

fn decoded_frames(video: &Path) -> u64 {
    let arguments =
        ["-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"];
    let output = Command::new("ffprobe").args(arguments).arg(video).output().expect("ffprobe runs");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().trim_end_matches(',').parse().expect("a number of frames")
}
