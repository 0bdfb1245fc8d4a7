//! A join shows a decodable picture at once, from the GOP cache, whatever the camera's keyframe interval.

use std::time::{Duration, Instant};

use crate::harness::{
    AccessUnit, Codec, Decoder, GstServer, Packet, Server, Udp, Viewer, access_units, assert_continuous,
    free_udp_port, until, with_media_port,
};

const FRAMES_PER_SECOND: usize = 15;
/// Ten seconds at 15 pictures a second.
const CAMERA: &str = "--fps 15 --key-interval 150";

#[test]
fn an_h264_join_in_a_ten_second_gop_shows_a_picture_at_once() {
    joins_at_once("h264", Codec::H264);
}

#[test]
fn an_h265_join_in_a_ten_second_gop_shows_a_picture_at_once() {
    joins_at_once("h265", Codec::H265);
}

#[test]
fn a_join_in_a_ten_second_gop_is_decoded_from_its_first_picture() {
    let (server, _camera) = server_deep_in_a_gop("h264");
    let learner = Viewer::revision_2(&server, "7");
    let decoder = Decoder::start(&with_media_port(&learner.sdp(), free_udp_port()), 30).keep_picture("join");
    let viewer = Viewer::revision_2(&server, "7");
    let udp = Udp::open();
    udp.forward(decoder.address());
    viewer.shake_hands(&udp);
    decoder.finish();
    let units = access_units(&udp.rtp(), Codec::H264);
    assert!(units[0].is_random_access(Codec::H264));
}

#[test]
fn a_websocket_join_shows_a_picture_at_once_too() {
    let (server, _camera) = server_deep_in_a_gop("h264");
    let viewer = Viewer::websocket(&server, "7");
    let packets =
        viewer.rtp_until("the cache and a second more", |packets| span(packets) > Duration::from_secs(1));
    assert_caught_up(&packets, Codec::H264);
}

fn joins_at_once(name: &str, codec: Codec) {
    let (server, _camera) = server_deep_in_a_gop(name);
    let viewer = Viewer::revision_1(&server, "7");
    let udp = Udp::open();
    let punched = Instant::now();
    viewer.punch(&udp, udp.port());
    let first = udp.rtp_at_least(1)[0].at.duration_since(punched);
    // The next keyframe is seconds away; a busy machine may need some of this.
    assert!(first < Duration::from_secs(1), "the first packet came after {first:?}");
    let packets = udp.rtp_when("the cache and a second more", |packets| {
        (span(packets) > Duration::from_secs(1)).then(|| packets.to_vec())
    });
    assert_caught_up(&packets, codec);
}

/// The viewer began with a keyframe that was old already, got everything since, and is at the live edge now.
fn assert_caught_up(packets: &[Packet], codec: Codec) {
    assert_continuous(packets);
    let units = access_units(packets, codec);
    assert!(units[0].is_random_access(codec), "starts with parameter sets and a keyframe: {:?}", units[0]);
    assert!(units[0].complete);
    let keyframes = units.iter().filter(|unit| unit.is_random_access(codec)).count();
    assert_eq!(keyframes, 1, "no other keyframe came yet");
    let burst = units
        .iter()
        .filter(|unit| unit.at.duration_since(packets[0].at) < Duration::from_millis(200))
        .count();
    assert!(burst >= 2 * FRAMES_PER_SECOND, "the cache comes at once: {burst} access units");
    let (first, last) = (&units[0], &units[units.len() - 1]);
    let by_timestamp = f64::from(last.rtp_timestamp.wrapping_sub(first.rtp_timestamp)) / 90_000.0;
    let by_clock = last.at.duration_since(first.at).as_secs_f64();
    assert!((by_timestamp - by_clock).abs() < 0.7, "no lasting delay: {by_timestamp} s in {by_clock} s");
    assert_live_pace(&units);
}

/// The last access units keep the camera's rhythm.
fn assert_live_pace(units: &[AccessUnit]) {
    let tail = &units[units.len() - 6..];
    for pair in tail.windows(2) {
        let step = pair[1].rtp_timestamp.wrapping_sub(pair[0].rtp_timestamp);
        assert!((5_000..7_500).contains(&step), "a step of {step} at 15 pictures a second");
    }
}

fn span(packets: &[Packet]) -> Duration {
    match packets {
        [first, .., last] => last.at.duration_since(first.at),
        _ => Duration::ZERO,
    }
}

/// A stream whose last keyframe was at least three seconds ago and whose next is at least three seconds off.
fn server_deep_in_a_gop(codec: &str) -> (Server, GstServer) {
    let server = Server::start();
    let camera = GstServer::start(&format!("{CAMERA} --codec {codec}"));
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    // The camera begins with a keyframe when its first client plays, which is us; a first viewer's packets
    // tell the age of the GOP.
    let watch = Viewer::websocket(&server, "7");
    let codec = if codec == "h264" { Codec::H264 } else { Codec::H265 };
    let mut packets = vec![];
    until("three seconds since the last keyframe", || {
        packets.extend(watch.rtp(1));
        let units = access_units(&packets, codec);
        let keyframe = units.iter().rposition(|unit| unit.is_random_access(codec))?;
        (units.len() - keyframe > 3 * FRAMES_PER_SECOND && units.len() - keyframe < 7 * FRAMES_PER_SECOND)
            .then_some(())
    });
    (server, camera)
}
