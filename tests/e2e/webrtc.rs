//! WebRTC viewers of somebody else's making: Chromium on the player page, aiortc, and GStreamer's webrtcbin.
//! Each offers, decodes and counts for itself; the camera is GStreamer's too.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{AccessUnit, access_units, until};
use crate::harness::{Camera, Codec, GstServer, PlayerPage, Server, Viewer, WhepViewer};

const FRAMES_PER_SECOND: u64 = 15;
/// In pictures: ten seconds.
const KEY_INTERVAL: u64 = 10 * FRAMES_PER_SECOND;
/// A viewer may be this many pictures ahead or behind when it is counted.
const SLACK: u64 = FRAMES_PER_SECOND;
/// A browser calls it a freeze when the next picture comes this much later than usual.
const PAUSE: Duration = Duration::from_millis(150);

#[test]
fn chromium_plays_h264_at_once_and_without_a_freeze() {
    plays_at_once_and_without_a_freeze("json");
}

#[test]
fn chromium_plays_by_whep_at_once_and_without_a_freeze() {
    plays_at_once_and_without_a_freeze("whep");
}

#[test]
fn chromium_plays_over_tcp_where_udp_is_blocked() {
    let (server, _camera) = server_deep_in_a_gop("");
    let page = PlayerPage::open(&server, "?stream=7");
    page.run(
        "const set = RTCPeerConnection.prototype.setRemoteDescription;
        RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
            return set.call(this, { type, sdp: sdp.replace(/a=candidate:\\S+ \\d+ udp .*\\r\\n/gi, '') });
        };",
    );

    page.click_play();
    let view = page.when("playing with figures", |view| {
        view["state"] == "playing" && view["stats"]["server"]["transport"].is_string()
    });

    assert_eq!(view["stats"]["path"]["protocol"], "tcp", "{view}");
    assert_eq!(view["stats"]["server"]["transport"], "tcp", "{view}");
    page.picture("webrtc-tcp").assert_is_test_picture();
}

#[test]
fn a_source_with_b_frames_shows_every_picture_that_comes_in_display_order() {
    // A third of them stays: with fewer a second than ten, Chromium takes the pace after the GOP cache's for freezes.
    let (server, _camera) = server_deep_in_a_gop("--b-frames 2 --fps 30");
    let page = PlayerPage::open(&server, "?stream=7");
    page.click_play();
    page.when("playing", |view| view["state"] == "playing");

    let seen = watched_over(&server, &page, watching_time());

    assert!(3 * seen.in_display_order < 2 * seen.made, "the camera sends B-frames: {seen:?}");
    assert!(seen.decoded + SLACK >= seen.in_display_order, "{seen:?}");
    let view = page.view();
    if is_measured() {
        assert!(number(&view["stats"]["freezeCount"]) <= seen.pauses, "{seen:?} {view}");
    }
    let state = server.rest.stream("7");
    assert!(state["state_reason"].as_str().is_some_and(|reason| reason.contains("B-pictures")), "{state}");
    page.picture("webrtc-b-frames").assert_is_test_picture();
}

#[test]
fn a_4k_stream_with_keyframes_of_a_thousand_packets_loses_none() {
    let server = Server::start();
    let camera = Camera::start("--codec h264 --bitrate 20M --idr-bytes 1100000");
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let page = PlayerPage::open(&server, "?stream=7");
    page.click_play();

    let view = page.when("playing three keyframes", |view| number(&view["stats"]["keyFramesDecoded"]) >= 3);

    assert_eq!(view["stats"]["packetsLost"], 0, "{view}");
}

#[test]
fn an_offer_without_video_is_explained() {
    let (server, _camera) = server_deep_in_a_gop("");
    let page = PlayerPage::open(&server, "?stream=7");
    page.run("const add = RTCPeerConnection.prototype.addTransceiver;
        RTCPeerConnection.prototype.addTransceiver = function (_, how) { return add.call(this, 'audio', how); };");

    page.click_play();
    let view = page.when("failed", |view| view["state"] == "failed");

    let problem = view["problem"].as_str().expect("words");
    assert!(
        problem.contains("video") && problem.contains("no_video") && problem.contains("422"),
        "{problem}"
    );
    assert_eq!(page.shown("#problem"), problem);
    assert_eq!(server.rest.stream("7")["webrtc_sessions"], json!([]));
}

#[test]
fn a_stream_that_is_not_there_is_explained() {
    let server = Server::start();
    let page = PlayerPage::open(&server, "?stream=front%20door&autoplay=1");
    let view = page.when("failed", |view| view["state"] == "failed");
    let problem = view["problem"].as_str().expect("words");
    assert!(problem.contains("front door") && problem.contains("404"), "{problem}");
    assert_eq!(page.shown("#problem"), problem);
}

#[test]
fn a_camera_that_goes_is_explained_and_its_return_shown() {
    // With an offline picture there is always something to play.
    let server = Server::start_with(&["--source-slate-after-seconds", "off"]);
    let camera = GstServer::start("--codec h264");
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let page = PlayerPage::open(&server, "?stream=7&autoplay=1");
    page.when("playing", |view| view["state"] == "playing");

    let camera = camera.kill();
    let view = page.when("stalled, with the stream's state", |view| {
        view["state"] == "stalled"
            && view["problem"].as_str().is_some_and(|text| text.contains("The stream is "))
    });
    assert_eq!(view["attempts"], 1, "the session stays: {view}");
    let _camera = camera.restart();
    page.when("playing again", |view| view["state"] == "playing" && view["problem"].is_null());
}

#[test]
fn a_session_that_the_server_ends_is_made_anew_until_the_stream_is_gone() {
    let (server, _camera) = server_deep_in_a_gop("");
    let page = PlayerPage::open(&server, "?stream=7&autoplay=1");
    let first = page.when("playing", |view| view["state"] == "playing")["sessionId"].clone();

    let session = first.as_str().expect("an id");
    server.rest.delete(&format!("/client-session-control/{session}")).expect(204);
    let again = page.when("playing anew", |view| view["state"] == "playing" && view["sessionId"] != first);
    assert_eq!(again["attempts"], 2, "{again}");
    assert!(page.shown("#log").contains("The server ended the session."), "{}", page.shown("#log"));

    server.rest.delete("/streams/7").expect(204);
    let view = page.when("failed", |view| view["state"] == "failed");
    assert!(view["problem"].as_str().is_some_and(|text| text.contains("unknown_stream")), "{view}");
}

#[test]
fn a_server_that_is_killed_is_noticed_and_found_again() {
    let port = free_tcp_port();
    let server = Server::start_with(&["--http-bind", &format!("127.0.0.1:{port}")]);
    let camera = GstServer::start("--codec h264");
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let page = PlayerPage::open(&server, "?stream=7&autoplay=1");
    page.when("playing", |view| view["state"] == "playing");

    let server = server.crash();
    page.when("waiting for the server", |view| {
        view["state"] == "waiting" && view["problem"] == "The server cannot be reached."
    });
    let server = server.restart();
    let view = page.when("playing again", |view| view["state"] == "playing");

    assert!(number(&view["attempts"]) > 1, "{view}");
    assert_eq!(view["problem"], Value::Null);
    assert_eq!(server.rest.stream("7")["webrtc_sessions"], json!([view["sessionId"]]));
}

#[test]
fn the_stop_button_and_leaving_the_page_end_the_session() {
    let (server, _camera) = server_deep_in_a_gop("");
    let page = PlayerPage::open(&server, "?stream=7&autoplay=1");
    page.when("playing", |view| view["state"] == "playing");
    page.run("document.getElementById('stop').click()");
    assert_eq!(page.view()["state"], "idle");
    no_sessions(&server);

    page.click_play();
    page.when("playing", |view| view["state"] == "playing");
    page.browser.go("about:blank");
    no_sessions(&server);
}

#[test]
fn the_page_takes_nothing_from_elsewhere_and_its_browser_has_nothing_to_complain_of() {
    let (server, _camera) = server_deep_in_a_gop("");
    let page = PlayerPage::open(&server, "?stream=7&autoplay=1");
    page.when("playing with figures", |view| {
        view["state"] == "playing" && view["stats"]["server"]["state"] == "connected"
    });
    let loaded = page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)");
    let own = format!("http://{}/", server.address());
    let loaded = loaded.as_array().expect("a list");
    assert!(loaded.iter().all(|name| name.as_str().is_some_and(|name| name.starts_with(&own))), "{loaded:?}");
    assert_eq!(page.browser.console(), Vec::<String>::new());
    page.keep("webrtc-page");
}

#[test]
fn aiortc_decodes_h264() {
    let (server, _camera) = server_deep_in_a_gop("");
    let watched = WhepViewer::aiortc(&whep(&server), 60).finish();
    assert!(watched.frames >= 60, "{watched:?}");
    assert_eq!((watched.width, watched.height), (320, 240));
    assert!(watched.first_picture_seconds < at_once().as_secs_f64(), "{watched:?}");
    no_sessions(&server);
}

#[test]
fn webrtcbin_decodes_h264() {
    webrtcbin_decodes("h264");
}

#[test]
fn webrtcbin_decodes_h265() {
    webrtcbin_decodes("h265");
}

#[test]
fn chromium_is_told_when_it_has_no_codec_for_the_stream() {
    let (server, _camera) = server_deep_in_a_gop("--codec h265");
    let page = PlayerPage::open(&server, "?stream=7&autoplay=1");
    let view = page.when("failed", |view| view["state"] == "failed");
    let problem = view["problem"].as_str().expect("words");
    assert!(problem.contains("codec_not_offered") && problem.contains("265"), "{problem}");
}

fn plays_at_once_and_without_a_freeze(protocol: &str) {
    let (server, _camera) = server_deep_in_a_gop("");
    let page = PlayerPage::open(&server, &format!("?stream=7&protocol={protocol}"));

    let first_picture = page.click_play();
    // The next keyframe is seconds away.
    assert!(first_picture < at_once(), "the first picture came after {first_picture:?}");
    let seen = watched_over(&server, &page, watching_time());

    assert!(seen.made.abs_diff(seen.decoded) <= SLACK, "{seen:?}");
    let view = page.view();
    let stats = &view["stats"];
    if is_measured() {
        assert!(number(&stats["freezeCount"]) <= seen.pauses, "{seen:?} {view}");
    }
    assert_eq!(stats["packetsLost"], 0, "{view}");
    assert_eq!((&stats["width"], &stats["height"]), (&json!(320), &json!(240)), "{view}");
    assert_eq!(
        (&view["state"], &view["problem"], &view["attempts"]),
        (&json!("playing"), &Value::Null, &json!(1))
    );
    let first_frame = Duration::from_millis(number(&view["firstFrameMs"]));
    assert!(first_frame < at_once(), "the page measures it too: {view}");
    let (ours, theirs) = (&stats["server"]["srtp_profile"], stats["srtpCipher"].as_str().expect("a cipher"));
    assert!(ours.as_str().is_some_and(|name| theirs.contains("GCM") == name.contains("GCM")), "{view}");
    page.picture(&format!("webrtc-{protocol}")).assert_is_test_picture();
}

fn webrtcbin_decodes(codec: &str) {
    let (server, _camera) = server_deep_in_a_gop(&format!("--codec {codec}"));
    let watched = WhepViewer::webrtcbin(&whep(&server), codec, 60).finish();
    assert!(watched.frames >= 60, "{watched:?}");
    assert_eq!((watched.width, watched.height), (320, 240));
    assert!(watched.first_picture_seconds < at_once().as_secs_f64(), "{watched:?}");
    no_sessions(&server);
}

/// A server whose camera sent a keyframe some seconds ago and sends the next one only seconds from now.
fn server_deep_in_a_gop(camera: &str) -> (Server, GstServer) {
    let server = Server::start();
    let camera =
        GstServer::start(&format!("--key-interval {KEY_INTERVAL} --fps {FRAMES_PER_SECOND} {camera}"));
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    until("the middle of a GOP", || (access_units_of(&server) >= KEY_INTERVAL / 4).then_some(()));
    (server, camera)
}

/// What a source made and a browser decoded of it within the same time, and what a viewer by WSC-RTP saw of the
/// source meanwhile.
#[derive(Debug)]
struct Seen {
    made: u64,
    decoded: u64,
    /// Pictures that are shown later than all that were sent before them.
    in_display_order: u64,
    /// Times that the source itself, or this machine, paused for so long that a browser calls it a freeze.
    pauses: u64,
}

fn watched_over(server: &Server, page: &PlayerPage, time: Duration) -> Seen {
    let decoded = || number(&page.view()["stats"]["framesDecoded"]);
    page.when("counting", |view| number(&view["stats"]["framesDecoded"]) > 0);
    let witness = Viewer::websocket(server, "7");
    let started = Instant::now();
    let before = (access_units_of(server), decoded());
    let mut packets = vec![];
    while started.elapsed() < time {
        packets.extend(witness.rtp(1));
    }
    let (made, decoded) = (access_units_of(server) - before.0, decoded() - before.1);
    let units = access_units(&packets, Codec::H264);
    let mut latest = units[0].rtp_timestamp;
    let mut is_later = |unit: &&AccessUnit| {
        let later = unit.rtp_timestamp.wrapping_sub(latest).cast_signed() > 0;
        latest = if later { unit.rtp_timestamp } else { latest };
        later
    };
    // The witness got the GOP cache too: only the share is counted.
    let later = units[1..].iter().filter(|unit| is_later(unit)).count() as u64;
    let in_display_order = made * later / (units.len() as u64 - 1);
    let pauses = units.windows(2).filter(|pair| pair[1].at - pair[0].at > PAUSE).count() as u64;
    Seen { made, decoded, in_display_order, pauses }
}

fn access_units_of(server: &Server) -> u64 {
    server.rest.metric("lanecast_stream_access_units_total") as u64
}

/// Ended sessions are gone from the stream's view.
fn no_sessions(server: &Server) {
    server.rest.stream_when("7", "without sessions", |stream| stream["webrtc_sessions"] == json!([]));
}

fn whep(server: &Server) -> String {
    format!("http://{}/streams/7/whep", server.address())
}

/// How long a browser is watched: long in a check by hand, short where every commit is tested.
fn watching_time() -> Duration {
    let seconds = std::env::var("LANECAST_WATCH_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(15))
}

/// With the variable set the machine is this test's alone: freezes count, and so does a second.
fn is_measured() -> bool {
    std::env::var_os("LANECAST_WATCH_SECONDS").is_some()
}

/// The next keyframe is later than this; a busy machine may take longer than a measured one.
fn at_once() -> Duration {
    Duration::from_secs(if is_measured() { 1 } else { 5 })
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn free_tcp_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}
