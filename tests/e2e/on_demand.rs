//! Streams on demand: their cameras are left alone while nobody watches, and come quickly when somebody does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    Camera, Codec, Packet, PlayerPage, Server, Viewer, WhepViewer, access_units, assert_continuous,
    now_unix_ms, stamps_of_packets, until,
};

const IDLE_AFTER: Duration = Duration::from_secs(2);
/// What a busy machine may take.
const BUSY: Duration = Duration::from_secs(8);

#[test]
fn the_camera_is_connected_for_a_viewer_and_left_when_the_last_has_gone() {
    let server = server();
    let camera = Camera::start(CAMERA);
    create(&server, &camera.url());
    inactive(&server);
    // Nothing begins by itself.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((camera.clients(), received(&server)), (0, 0.0));

    let (joined, viewer) = (Instant::now(), Viewer::websocket(&server, "7"));
    let mut packets = viewer.rtp(1);
    let first = joined.elapsed();
    packets.extend(viewer.rtp(60));
    assert_continuous(&packets);
    assert_fresh(&packets);
    let told = server.rest.metric("lanecast_stream_on_demand_start_seconds");
    eprintln!("first picture on demand after {first:?}, {told} s by the metrics");
    assert!(told > 0.0 && told <= first.as_secs_f64() + 0.1, "{told} s, {first:?}");
    assert_eq!((server.rest.stream("7")["state"].clone(), camera.clients()), (json!("Active"), 1));

    // A second viewer costs the camera nothing, and the one's leaving the other nothing.
    let second = Viewer::websocket(&server, "7");
    second.rtp(30);
    drop(viewer);
    std::thread::sleep(2 * IDLE_AFTER);
    assert_eq!((server.rest.stream("7")["state"].clone(), camera.clients()), (json!("Active"), 1));
    second.rtp(30);

    let left = Instant::now();
    drop(second);
    inactive(&server);
    eprintln!("idle after {:?}", left.elapsed());
    assert!(left.elapsed() >= IDLE_AFTER, "not before its idle time: {:?}", left.elapsed());
    until("the camera left alone", || (camera.clients() == 0).then_some(()));
}

#[test]
fn who_comes_after_an_idle_time_gets_pictures_of_now_and_not_of_then() {
    let server = server();
    let camera = Camera::start(CAMERA);
    create(&server, &camera.url());
    drop(watched(&server));
    inactive(&server);
    std::thread::sleep(Duration::from_secs(2));
    let told = server.rest.metric("lanecast_stream_on_demand_start_seconds");

    let viewer = Viewer::websocket(&server, "7");
    let packets = viewer.rtp(60);

    assert_fresh(&packets);
    assert_continuous(&packets);
    assert_ne!(server.rest.metric("lanecast_stream_on_demand_start_seconds"), told, "each start is measured");
    assert_eq!(server.rest.metric("lanecast_stream_slate_access_units_total"), 0.0, "nothing was wrong");
}

#[test]
fn a_first_viewer_by_whep_has_its_answer_and_pictures() {
    let server = server();
    let camera = Camera::start(CAMERA);
    create(&server, &camera.url());
    inactive(&server);
    let whep = format!("http://{}/streams/7/whep", server.address());
    let watched = WhepViewer::aiortc(&whep, 30).finish();
    eprintln!("first picture by WHEP after {} s", watched.first_picture_seconds);
    assert_eq!((watched.width, watched.height), (640, 360), "{watched:?}");
    inactive(&server);
}

#[test]
fn a_first_viewer_in_chromium_has_its_answer_and_pictures() {
    let server = server();
    let camera = Camera::start(CAMERA);
    create(&server, &camera.url());
    inactive(&server);
    let page = PlayerPage::open(&server, "?stream=7&autoplay=1");
    let view = page.when("playing", |view| view["state"] == "playing" && view["stats"]["width"] == 640);
    eprintln!("first picture in Chromium after {} ms", view["firstFrameMs"]);
    assert_eq!(view["attempts"], 1, "{view}");
    page.browser.go("about:blank");
    inactive(&server);
}

#[test]
fn a_first_h265_viewer_by_whep_is_answered_for_what_the_camera_has() {
    let server = server();
    let camera = Camera::start("--codec h265 --gop-seconds 1");
    create(&server, &camera.url());
    inactive(&server);
    let whep = format!("http://{}/streams/7/whep", server.address());
    let watched = WhepViewer::webrtcbin(&whep, "h265", 30).finish();
    eprintln!("first picture by WHEP (H.265) after {} s", watched.first_picture_seconds);
    assert_eq!((watched.width, watched.height), (640, 360), "{watched:?}");
}

#[test]
fn recording_keeps_the_camera_connected_without_a_viewer() {
    let server = server();
    let camera = Camera::start(CAMERA);
    create(&server, &camera.url());
    inactive(&server);

    server.rest.patch("/streams/7", &json!({ "should_record": true })).expect(200);
    let recording = |stream: &Value| stream["recording"]["state"] == "recording";
    server.rest.stream_when("7", "recording", recording);
    std::thread::sleep(2 * IDLE_AFTER);
    assert_eq!((server.rest.stream("7")["state"].clone(), camera.clients()), (json!("Active"), 1));

    server.rest.patch("/streams/7", &json!({ "should_record": false })).expect(200);
    inactive(&server);
    until("the camera left alone", || (camera.clients() == 0).then_some(()));
}

#[test]
fn an_offer_that_comes_to_nothing_wakes_the_camera_for_no_longer_than_the_idle_time() {
    let server = server();
    let camera = Camera::start(CAMERA);
    create(&server, &camera.url());
    inactive(&server);

    let refused = server.rest.post_text("/streams/7/whep", "application/sdp", ONLY_AUDIO).expect(422);

    assert_eq!(refused.error_code(), "no_video");
    inactive(&server);
    until("the camera left alone", || (camera.clients() == 0).then_some(()));
}

#[test]
#[cfg_attr(not(feature = "gstreamer"), ignore = "shows the slate, and this was built without GStreamer")]
fn a_dead_camera_is_told_of_and_its_viewer_sees_the_slate() {
    let server = server();
    let nobody = Camera::start("").kill();
    create(&server, &nobody.url());
    inactive(&server);

    let (joined, viewer) = (Instant::now(), Viewer::websocket(&server, "7"));
    let mut packets = viewer.rtp_until("pictures of the slate", pictures(10));
    eprintln!("the slate of a dead camera after {:?}", packets[0].at - joined);
    assert!(packets[0].at - joined < BUSY, "{:?}", packets[0].at - joined);
    let stream = server.rest.stream_when("7", "in Error", |stream| stream["state"] == "Error");
    assert_eq!(stream["slate"]["state"], "shown", "{stream}");
    assert!(stream["state_reason"].as_str().is_some_and(|reason| reason.contains("refused")), "{stream}");

    // It comes while its viewer waits.
    let _camera = nobody.restart_as(CAMERA);
    packets.extend(viewer.rtp_until("the camera", |packets| stamps_of_packets(packets).len() > 10));
    assert_continuous(&packets);
    drop(viewer);
    let stream = inactive(&server);
    assert_eq!(stream["slate"]["state"], "off", "{stream}");
}

#[test]
#[cfg_attr(not(feature = "gstreamer"), ignore = "shows the slate, and this was built without GStreamer")]
fn the_slate_of_a_stream_that_nobody_watches_ends_with_its_idle_time() {
    let server = server();
    let nobody = Camera::start("").kill();
    create(&server, &nobody.url());
    let viewer = Viewer::websocket(&server, "7");
    viewer.rtp_until("pictures of the slate", pictures(10));
    drop(viewer);

    let stream = inactive(&server);

    assert_eq!(stream["slate"]["state"], "off", "{stream}");
    let made = || server.rest.metric("lanecast_stream_slate_access_units_total");
    let before = made();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(made(), before, "nobody is shown anything");
}

const CAMERA: &str = "--gop-seconds 1 --stamp";

fn server() -> Server {
    let idle = IDLE_AFTER.as_secs().to_string();
    Server::start_with(&["--source-on-demand-idle-seconds", &idle, "--source-slate-after-seconds", "2"])
}

fn create(server: &Server, url: &str) {
    let stream = json!({ "source_id": 7, "rtsp_url": url, "on_demand": true });
    assert_eq!(server.rest.post("/streams", &stream).expect(201).json()["on_demand"], true);
}

fn inactive(server: &Server) -> Value {
    server.rest.stream_when("7", "Inactive", |stream| stream["state"] == "Inactive")
}

fn watched(server: &Server) -> Viewer {
    let viewer = Viewer::websocket(server, "7");
    viewer.rtp(60);
    viewer
}

fn received(server: &Server) -> f64 {
    server.rest.metric("lanecast_stream_packets_received_total")
}

fn pictures(count: usize) -> impl FnMut(&[Packet]) -> bool {
    move |packets| access_units(packets, Codec::H264).len() > count
}

/// The first picture was made when it was asked for, not before.
#[track_caller]
fn assert_fresh(packets: &[Packet]) {
    let stamps = stamps_of_packets(packets);
    let first = stamps.first().expect("a picture");
    let waited = packets[0].at.elapsed().as_millis() as i64;
    let age = now_unix_ms() - waited - first.unix_ms;
    assert!(age < 1500, "the first picture is {age} ms old");
    assert_eq!(first.number, 0, "of a conversation of its own");
}

const ONLY_AUDIO: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:111 opus/48000/2\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=setup:actpass\r\na=mid:0\r\na=rtcp-mux\r\n\
    a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
    a=recvonly\r\n";
