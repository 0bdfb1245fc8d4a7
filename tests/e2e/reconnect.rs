//! A camera that dies and comes back: its viewers stay, and see a stream without a seam.

use std::time::Duration;

use crate::harness::{Codec, GstServer, Packet, Server, Udp, Viewer, access_units, assert_continuous};

#[test]
fn viewers_stay_while_the_camera_is_away_and_see_no_seam() {
    let server = Server::start();
    let camera = GstServer::start("--codec h264");
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let by_websocket = Viewer::websocket(&server, "7");
    let by_udp = Viewer::revision_1(&server, "7");
    let udp = Udp::open();
    by_udp.punch(&udp, udp.port());
    udp.rtp_at_least(30);
    let mut packets = by_websocket.rtp(30);

    let camera = camera.kill();
    server.rest.stream_when("7", "not Active", |stream| stream["state"] != "Active");
    by_websocket.message("stream_state");
    let _camera = camera.restart();
    server.rest.active("7");
    packets.extend(by_websocket.rtp_until("five seconds of both cameras", |packets| keyframes(packets) >= 3));

    assert!(by_websocket.is_open() && by_udp.is_open());
    assert_seamless(&packets);
    let so_far = udp.rtp().len();
    assert_seamless(&udp.rtp_at_least(so_far + 30));
}

#[test]
fn a_camera_that_comes_back_with_another_codec_is_described_anew() {
    let server = Server::start();
    let camera = GstServer::start("--codec h264");
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let viewer = Viewer::websocket(&server, "7");
    assert!(viewer.sdp().contains("H264/90000"));
    let mut packets = viewer.rtp(30);

    let _camera = camera.kill().restart_as("--codec h265");

    assert!(viewer.sdp().contains("H265/90000"));
    // Where one codec ends is for the description to say; the header's rules hold over the change.
    packets.extend(viewer.rtp(100));
    assert_continuous(&packets);
    let tail = access_units(&packets[packets.len() - 60..], Codec::H265);
    assert!(tail.iter().any(|unit| unit.is_random_access(Codec::H265)), "{tail:?}");
}

#[test]
fn a_silent_camera_is_left_and_tried_again() {
    let server = Server::start_with(&["--source-silence-timeout-seconds", "2"]);
    let camera = GstServer::start("--codec h264");
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let viewer = Viewer::websocket(&server, "7");
    let mut packets = viewer.rtp(30);

    camera.freeze();
    let stream = server.rest.stream_when("7", "not Active", |stream| stream["state"] != "Active");
    camera.thaw();
    server.rest.active("7");

    packets.extend(viewer.rtp(60));
    assert_continuous(&packets);
    assert!(stream["state_reason"].is_string(), "{stream}");
}

fn keyframes(packets: &[Packet]) -> usize {
    access_units(packets, Codec::H264).iter().filter(|unit| unit.is_random_access(Codec::H264)).count()
}

/// Continuous, and at the seam the timestamp advanced by about the time that passed.
fn assert_seamless(packets: &[Packet]) {
    assert_continuous(packets);
    let units = access_units(packets, Codec::H264);
    let seam =
        units.windows(2).max_by_key(|pair| pair[1].at.duration_since(pair[0].at)).expect("two access units");
    let by_clock = seam[1].at.duration_since(seam[0].at);
    let by_timestamp = f64::from(seam[1].rtp_timestamp.wrapping_sub(seam[0].rtp_timestamp)) / 90_000.0;
    assert!(by_clock > Duration::from_millis(300), "the camera was away: {by_clock:?}");
    let difference = (by_timestamp - by_clock.as_secs_f64()).abs();
    assert!(difference < 1.5, "the timestamp advanced by {by_timestamp} s in {by_clock:?}");
    assert!(seam[1].is_random_access(Codec::H264), "pictures come back with a keyframe");
}
