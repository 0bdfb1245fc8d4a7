//! The program against a WHEP server of another make, one promise a test.

#[expect(dead_code, reason = "its own offers are for the library's tests")]
mod fake_whep;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use fake_whep::{FakeWhep, Traits};
use serde_json::Value;

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
    summary: Value,
}

impl Ran {
    fn event(&self, name: &str) -> Option<Value> {
        let events = self.stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON line"));
        events.into_iter().find(|event: &Value| event["event"] == name)
    }

    fn count(&self, pointer: &str) -> u64 {
        self.summary.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer}"))
    }
}

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Runs the program; `name` keeps the tests' files apart.
fn run(name: &str, kind: &str, url: &str, arguments: &[&str]) -> Ran {
    let json = scratch(&format!("{name}.json"));
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_lanecast-viewer"))
        .args(["whep", kind, url, "--json"])
        .arg(&json)
        .args(arguments)
        .output()
        .expect("the program");
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    let text = fs::read_to_string(&json).unwrap_or_else(|_| panic!("no summary, but {stderr}"));
    Ran {
        code: status.code().expect("no signal"),
        stdout: String::from_utf8(stdout).expect("text"),
        stderr,
        summary: serde_json::from_str(&text).expect("JSON"),
    }
}

fn is_flawless(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    assert_eq!(ran.count("/faults"), 0);
    assert_eq!(ran.count("/sessions/failed"), 0);
    assert_eq!(ran.count("/sessions/started_otherwise"), 0);
    assert_eq!(ran.count("/totals/lost"), 0);
    assert!(ran.count("/timings/latency_read/count") > 0);
    assert!(ran.count("/peers/counts/opened") > 0);
}

/// How many pictures `ffmpeg` decodes, if there is one.
fn decoded(file: &PathBuf) -> Option<u64> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"])
        .arg(file)
        .output()
        .ok()?;
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8_lossy(&output.stdout).trim().trim_end_matches(',').parse().ok()
}

#[test]
fn a_full_peer_gets_an_unbroken_stream_and_writes_it() {
    for (name, codec, traits) in [
        ("watch_h264", "h264", Traits::default()),
        ("watch_h265", "h265", Traits { h265: true, full_ice: true, ..Traits::default() }),
    ] {
        let server = FakeWhep::start(traits);
        let out = scratch(&format!("{name}.{codec}"));
        let path = out.to_str().expect("a path");
        let ran = run(name, "watch", &server.url(), &["--strict", "--packets", "600", "--out", path]);
        is_flawless(&ran);
        assert!(ran.event("connected").is_some_and(|event| event["srtp"].is_string()), "{}", ran.stdout);
        assert!(ran.count("/peers/counts/receiver_reports") > 0);
        assert_eq!(server.deleted(), 1);
        if let Some(pictures) = decoded(&out) {
            assert_eq!(pictures, ran.count("/totals/whole_access_units"));
        }
    }
}

#[test]
fn what_a_full_peer_loses_comes_back_as_retransmissions() {
    let server = FakeWhep::start(Traits::default());
    let out = scratch("repaired.h264");
    let path = out.to_str().expect("a path");
    let ran = run(
        "repaired",
        "watch",
        &server.url(),
        &["--strict", "--packets", "2000", "--loss", "5", "--out", path],
    );
    is_flawless(&ran);
    assert!(ran.count("/peers/counts/dropped") > 50);
    assert!(ran.count("/peers/counts/retransmissions") > 50);
    assert!(ran.count("/totals/recovered") > 50);
    assert!(ran.count("/peers/counts/nacked") > 50);
    if let Some(pictures) = decoded(&out) {
        assert_eq!(pictures, ran.count("/totals/whole_access_units"));
    }
}

#[test]
fn a_full_peer_tells_what_never_came() {
    let server = FakeWhep::start(Traits { drop_every: Some(50), deaf: true, ..Traits::default() });
    let ran = run("never_came", "watch", &server.url(), &["--strict", "--packets", "800"]);
    assert_eq!(ran.code, 3, "{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.count("/totals/lost") > 0);
    assert!(ran.event("lost").is_some());
    assert!(ran.count("/peers/counts/picture_losses") > 0);
}

#[test]
fn a_packet_that_comes_twice_unasked_is_a_fault() {
    let server = FakeWhep::start(Traits { repeats: true, ..Traits::default() });
    let load = run("repeats_load", "load", &server.url(), &["--strict", "--viewers", "1", "--seconds", "1"]);
    assert_eq!(load.code, 3, "{}", load.stderr);
    assert!(load.count("/totals/duplicates") > 0);
}

#[test]
fn light_peers_count_every_packet_and_open_some() {
    for (srtp, profile) in [("both", ""), ("gcm", "AEAD_AES_128_GCM"), ("sha1", "AES128_CM_HMAC_SHA1_80")] {
        let server = FakeWhep::start(Traits { full_ice: srtp == "gcm", ..Traits::default() });
        let name = format!("load_{srtp}");
        let arguments =
            ["--strict", "--viewers", "5", "--settle", "0.2", "--seconds", "1", "--srtp", srtp, "--twcc"];
        let ran = run(&name, "load", &server.url(), &arguments);
        is_flawless(&ran);
        assert_eq!(ran.count("/sessions/joined"), 5);
        assert!(ran.count("/timings/latency_arrived/count") > 0);
        let profiles = ran.summary["peers"]["srtp_profiles"].as_object().expect("profiles");
        assert!(profiles.iter().all(|(name, count)| name.contains(profile) && count == 5), "{profiles:?}");
        assert!(ran.count("/peers/counts/receiver_reports") >= 5);
        assert!(ran.count("/peers/counts/transport_feedback") > 0);
        assert!(ran.count("/window/counts/packets") > 0);
        let [opened, packets] = ["/peers/counts/opened", "/totals/packets"].map(|pointer| ran.count(pointer));
        assert!(opened < packets / 2, "{opened} of {packets}");
        assert_eq!(server.deleted(), 5);
        let lines: Vec<_> = ran.stdout.lines().collect();
        assert_eq!(lines, ["joined", "steady", "done"]);
    }
}

#[test]
fn light_peers_tell_what_was_lost_and_get_it_back_if_they_ask() {
    let server = FakeWhep::start(Traits { drop_every: Some(40), ..Traits::default() });
    let silent = run("load_loss", "load", &server.url(), &["--strict", "--viewers", "2", "--seconds", "1"]);
    assert_eq!(silent.code, 3);
    assert!(silent.count("/totals/lost") > 0);
    assert_eq!(silent.count("/totals/lost"), silent.count("/receiver/lost_otherwise"));
    let asking = run("load_nack", "load", &server.url(), &["--viewers", "2", "--seconds", "1", "--nack"]);
    assert!(asking.count("/totals/recovered") > 0, "{}", asking.stderr);
    assert!(asking.count("/peers/counts/retransmissions") > 0);
    assert!(asking.count("/totals/lost") < asking.count("/totals/recovered"));
}

#[test]
fn a_refused_offer_is_a_failed_session_with_its_reason() {
    let server = FakeWhep::start(Traits::default());
    let url = server.url().replace("/cam/", "/nobody/");
    for kind in ["watch", "load"] {
        let arguments: &[&str] = if kind == "load" { &["--viewers", "3", "--seconds", "60"] } else { &[] };
        let ran = run(&format!("refused_{kind}"), kind, &url, arguments);
        assert_eq!(ran.code, 1);
        let errors = ran.summary["errors"].as_object().expect("errors");
        assert!(
            errors.keys().all(|cause| cause.contains("404") && cause.contains("unknown_stream")),
            "{errors:?}"
        );
    }
}
