//! The program against a server that speaks the contract, one promise a test.

mod fake_server;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use fake_server::{FakeServer, Faults};
use serde_json::Value;

struct Ran {
    code: i32,
    stdout: String,
    summary: Value,
}

impl Ran {
    fn events(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    fn event(&self, name: &str) -> Value {
        let found = self.events().into_iter().find(|event| event["event"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {}", self.stdout))
    }

    fn count(&self, pointer: &str) -> u64 {
        self.summary.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer}"))
    }
}

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Runs the program; `name` keeps the tests' files apart.
fn run(name: &str, server: &FakeServer, arguments: &[&str]) -> Ran {
    let json = scratch(&format!("{name}.json"));
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_lanecast-viewer"))
        .args(["--url", &server.url(), "--json"])
        .arg(&json)
        .args(if arguments.contains(&"--stream") { &[][..] } else { &["--stream", "7"] })
        .args(arguments)
        .output()
        .expect("the program");
    let text = fs::read_to_string(&json)
        .unwrap_or_else(|_| panic!("no summary, but {}", String::from_utf8_lossy(&stderr)));
    Ran {
        code: status.code().expect("no signal"),
        stdout: String::from_utf8(stdout).expect("text"),
        summary: serde_json::from_str(&text).expect("JSON"),
    }
}

fn is_flawless(ran: &Ran) {
    assert_eq!(ran.code, 0, "{:#}\n{}", ran.summary, ran.stdout);
    assert_eq!(ran.count("/faults"), 0);
    assert_eq!(ran.count("/sessions/failed"), 0);
    assert_eq!(ran.count("/sessions/started_otherwise"), 0);
    assert!(ran.count("/timings/latency_arrived/count") > 0);
    assert!(ran.count("/totals/random_access_units") > 0);
}

#[test]
fn revision_1_punches_and_gets_an_unbroken_stream_from_a_random_access_point() {
    let server = FakeServer::start(Faults::default());
    let ran = run("revision_1", &server, &["--strict", "--packets", "300"]);
    is_flawless(&ran);
    assert!(ran.event("sent")["datagram"].as_str().is_some_and(|punch| punch.starts_with("t5rtp 0000")));
    assert_eq!(ran.count("/timings/punch_to_first_picture/count"), 1);
    assert_eq!(ran.count("/per_viewer/packets/min"), ran.count("/totals/packets"));
}

#[test]
fn revision_2_shakes_hands_and_gets_the_same() {
    let server = FakeServer::start(Faults::default());
    let ran = run("revision_2", &server, &["--revision", "2", "--strict", "--packets", "300"]);
    is_flawless(&ran);
    assert!(ran.stdout.contains("ws-rtp-ack 0000"));
    assert_eq!(ran.count("/sessions/fell_back"), 0);
}

#[test]
fn revision_2_may_punch_as_revision_1() {
    let server = FakeServer::start(Faults::default());
    let ran = run("mixed", &server, &["--revision", "2", "--punch", "t5rtp", "--strict", "--packets", "100"]);
    is_flawless(&ran);
}

#[test]
fn a_punch_from_another_socket_brings_media_to_the_port_it_names() {
    let server = FakeServer::start(Faults::default());
    let ran = run("separate", &server, &["--separate-punch", "--strict", "--packets", "100"]);
    is_flawless(&ran);
}

#[test]
fn the_websocket_transport_gets_the_same_in_binary_frames() {
    let server = FakeServer::start(Faults::default());
    let ran = run("websocket", &server, &["--transport", "websocket", "--strict", "--packets", "300"]);
    is_flawless(&ran);
    assert_eq!(ran.count("/timings/punch_to_first_packet/count"), 0);
}

#[test]
fn without_an_ack_it_falls_back_to_binary_frames() {
    let server = FakeServer::start(Faults::default());
    let ran = run("fallback", &server, &["--revision", "2", "--no-ack", "--strict", "--packets", "100"]);
    is_flawless(&ran);
    assert_eq!(ran.count("/sessions/fell_back"), 1);
    ran.event("falling_back_rtp_to_ws");
}

#[test]
fn packets_that_were_not_sent_are_told_from_those_that_the_receiver_dropped() {
    let server = FakeServer::start(Faults { drop_every: Some(50), ..Faults::default() });
    let ran = run("loss", &server, &["--strict", "--packets", "300"]);
    assert_eq!(ran.code, 3);
    assert!((5..=7).contains(&ran.count("/totals/lost")), "{}", ran.count("/totals/lost"));
    assert_eq!(ran.count("/totals/lost"), ran.count("/receiver/lost_otherwise"));
    assert_eq!(ran.count("/receiver/socket_drops"), 0);
    let lenient = run("loss_lenient", &server, &["--packets", "300"]);
    assert_eq!(lenient.code, 0);
}

#[test]
fn repeated_packets_are_counted_and_not_taken_for_loss() {
    let server = FakeServer::start(Faults { repeats: true, ..Faults::default() });
    let ran = run("repeats", &server, &["--strict", "--packets", "100"]);
    assert_eq!(ran.code, 3);
    assert_eq!(ran.count("/totals/lost"), 0);
    assert!(ran.count("/totals/duplicates") >= 49);
}

#[test]
fn a_start_in_the_middle_of_a_group_is_noticed() {
    let server = FakeServer::start(Faults { starts_mid_group: true, ..Faults::default() });
    let ran = run("mid_group", &server, &["--packets", "200"]);
    assert_eq!(ran.count("/sessions/started_otherwise"), 1);
    assert_eq!(ran.count("/timings/init_to_first_picture/count"), 1);
}

#[test]
fn a_message_that_clients_stop_on_is_a_breach() {
    let server = FakeServer::start(Faults { speaks_early: true, ..Faults::default() });
    let ran = run("early", &server, &["--strict", "--packets", "100"]);
    assert_eq!(ran.code, 3);
    assert_eq!(ran.summary["breaches"].as_object().map(serde_json::Map::len), Some(1));
}

#[test]
fn an_unknown_stream_is_the_answers_status() {
    let server = FakeServer::start(Faults::default());
    let ran = run("unknown", &server, &["--stream", "nobody"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.count("/errors/upgrade: HTTP status 404"), 1);
}

#[test]
fn a_stream_may_have_any_name() {
    let server = FakeServer::start(Faults::default());
    is_flawless(&run("any_name", &server, &["--stream", "cam 1", "--packets", "100"]));
}

#[test]
fn a_session_that_the_server_closes_has_failed_with_its_code() {
    let faults = Faults { ping_timeout: Some(Duration::from_millis(400)), ..Faults::default() };
    let ran = run("no_ping", &FakeServer::start(faults), &["--no-ping"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.count("/errors/websocket: closed by the server with code 1001"), 1);
    ran.event("end");
}

#[test]
fn garbage_gets_errors_and_the_session_lives_on() {
    let server = FakeServer::start(Faults::default());
    let ran = run("garbage", &server, &["--garbage", "--seconds", "3.5"]);
    is_flawless(&ran);
    assert!(ran.count("/sessions/error_messages") > 0);
    assert!(ran.events().iter().any(|event| event["binary_bytes"] == 300));
}

#[test]
fn pictures_are_written_as_annex_b_of_either_codec() {
    for (name, h265, head) in
        [("h264", false, &[0, 0, 0, 1, 0x67, 0x42][..]), ("h265", true, &[0, 0, 0, 1, 0x40, 1])]
    {
        let server = FakeServer::start(Faults { h265, ..Faults::default() });
        let out = scratch(&format!("out.{name}"));
        let path = out.to_str().expect("a plain path");
        let ran = run(name, &server, &["--strict", "--packets", "200", "watch", "--out", path]);
        is_flawless(&ran);
        let written = ran.event("written");
        assert_eq!(written["left_out"], 0);
        let annex_b = fs::read(&out).expect("the stream");
        assert!(annex_b.starts_with(head), "{:x?}", &annex_b[..16]);
        let starts = annex_b.windows(4).filter(|window| *window == [0, 0, 0, 1]).count();
        // The units of an access unit that the end cut off are not in the file.
        let units = written["nal_units"].as_u64().expect("a number");
        assert!((starts as u64..starts as u64 + 5).contains(&units), "{starts} of {units}");
    }
}

#[test]
fn every_packet_goes_on_to_the_port_that_the_sdp_then_names() {
    let server = FakeServer::start(Faults::default());
    let listener = UdpSocket::bind("127.0.0.1:0").expect("a port");
    listener.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let port = listener.local_addr().expect("an address").port().to_string();
    let sdp = scratch("forward.sdp");
    let path = sdp.to_str().expect("a plain path");
    let ran = run("forward", &server, &["--packets", "50", "watch", "--forward", &port, "--sdp-out", path]);
    is_flawless(&ran);
    let mut packet = [0; 2000];
    for _ in 0..50 {
        let len = listener.recv(&mut packet).expect("a packet");
        assert!(len > 12 && packet[0] == 0x80);
    }
    assert!(fs::read_to_string(&sdp).expect("an SDP").contains(&format!("m=video {port} RTP/AVP 96\r\n")));
}

#[test]
fn media_can_go_straight_to_another_programs_port() {
    let server = FakeServer::start(Faults::default());
    let listener = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let ran = run("elsewhere", &server, &["--seconds", "1", "watch", "--client-port", &port.to_string()]);
    assert_eq!(ran.code, 0);
    assert_eq!(ran.count("/totals/packets"), 0);
    assert!(ran.event("sdp")["sdp"].as_str().is_some_and(|sdp| sdp.contains(&format!("m=video {port} "))));
    listener.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    listener.recv(&mut [0; 2000]).expect("a packet");
}

#[test]
fn a_load_joins_everybody_and_counts_in_its_window() {
    let server = FakeServer::start(Faults::default());
    let this = std::process::id().to_string();
    for (name, client, sockets) in [
        ("load_1", &["--revision", "1"][..], "per-viewer"),
        ("load_2", &["--revision", "2"], "per-viewer"),
        ("load_ws", &["--transport", "websocket"], "per-viewer"),
        ("load_shared_1", &["--revision", "1"], "shared"),
        ("load_shared_2", &["--revision", "2"], "shared"),
    ] {
        let load = ["--strict", "--packets", "2000", "load", "--viewers", "20", "--threads", "2"];
        let more = ["--settle", "0.1", "--sockets", sockets, "--cpu-of", &this];
        let ran = run(name, &server, &[client, &load, &more].concat());
        is_flawless(&ran);
        assert_eq!(ran.stdout, "joined\nsteady\ndone\n", "{name}");
        assert_eq!(ran.count("/sessions/joined"), 20, "{name}");
        assert_eq!(ran.count("/sessions/started_at_random_access"), 20, "{name}");
        assert!(ran.count("/window/counts/packets") >= 2000, "{name}");
        assert!(ran.count("/window/counts/packets") < ran.count("/totals/packets"), "{name}");
        assert!(ran.count("/per_viewer/window_packets/min") > 0, "{name}");
        assert!(ran.summary.pointer("/window/observed/usage").is_some(), "{name}");
        assert_eq!(ran.count("/timings/connect_to_init/count"), 20, "{name}");
    }
}

#[test]
fn a_load_that_is_interrupted_sums_up_what_it_had() {
    let server = FakeServer::start(Faults::default());
    let json = scratch("interrupted.json");
    let mut program = Command::new(env!("CARGO_BIN_EXE_lanecast-viewer"))
        .args(["--url", &server.url(), "--stream", "7", "--seconds", "600", "--json"])
        .arg(&json)
        .args(["load", "--viewers", "3", "--settle", "0.1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program");
    let mut lines = BufReader::new(program.stdout.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line == "steady")));
    let pid = nix::unistd::Pid::from_raw(program.id().try_into().expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a signal");
    assert!(program.wait().expect("an end").success());
    let summary: Value = serde_json::from_str(&fs::read_to_string(&json).expect("a summary")).expect("JSON");
    assert_eq!(summary["sessions"]["joined"], 3);
}

#[test]
fn a_load_whose_every_viewer_fails_ends_by_itself() {
    let server = FakeServer::start(Faults::default());
    let ran =
        run("load_unknown", &server, &["--stream", "nobody", "--seconds", "60", "load", "--viewers", "5"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.count("/sessions/failed"), 5);
    assert_eq!(ran.count("/sessions/never_got_a_packet"), 5);
}

#[test]
fn a_viewer_that_stops_reading_stays_until_the_end_or_the_servers_patience() {
    let server = FakeServer::start(Faults::default());
    let slow = ["--transport", "websocket", "--stop-reading-after", "0.3", "--seconds", "1.5"];
    let ran = run("slow", &server, &slow);
    let swift = run("swift", &server, &["--transport", "websocket", "--seconds", "1.5"]);
    assert_eq!(ran.code, 0, "{:#}", ran.summary);
    assert!(ran.count("/totals/packets") < swift.count("/totals/packets"));
}
