//! A join shows a decodable picture at once, from the GOP cache, whatever the camera's keyframe interval.

use std::time::{Duration, Instant};

use crate::harness::{
    Codec, Decoder, GstServer, Packet, Server, Udp, Viewer, access_units, assert_continuous, free_udp_port,
    until, with_media_port,
};

const FRAMES_PER_SECOND: usize = 15;
/// In pictures: ten seconds.
const KEY_INTERVAL: usize = 10 * FRAMES_PER_SECOND;

#[test]
fn an_h264_join_in_a_ten_second_gop_shows_a_picture_at_once() {
    joins_at_once(Codec::H264);
}

#[test]
fn an_h265_join_in_a_ten_second_gop_shows_a_picture_at_once() {
    joins_at_once(Codec::H265);
}

#[test]
fn a_join_in_a_ten_second_gop_is_decoded_from_its_first_picture() {
    let (server, _camera, _watcher) = server_deep_in_a_gop(Codec::H264);
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
    let (server, _camera, watcher) = server_deep_in_a_gop(Codec::H264);
    let viewer = Viewer::websocket(&server, "7");
    let packets =
        viewer.rtp_until("the cache and a second more", |packets| span(packets) > Duration::from_secs(1));
    assert_caught_up(&packets, &watcher, Codec::H264);
}

fn joins_at_once(codec: Codec) {
    let (server, _camera, watcher) = server_deep_in_a_gop(codec);
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
    assert_caught_up(&packets, &watcher, codec);
}

/// The viewer began with a keyframe that was old already, got everything since, and is at the live edge now.
fn assert_caught_up(packets: &[Packet], watcher: &Viewer, codec: Codec) {
    assert_continuous(packets);
    let units = access_units(packets, codec);
    assert!(units[0].is_random_access(codec), "starts with parameter sets and a keyframe: {:?}", units[0]);
    assert!(units[0].complete);
    let keyframes = units.iter().filter(|unit| unit.is_random_access(codec)).count();
    assert_eq!(keyframes, 1, "no other keyframe came yet");
    let in_a_second = units.iter().filter(|unit| unit.at.duration_since(packets[0].at).as_secs() < 1).count();
    assert!(in_a_second >= 3 * FRAMES_PER_SECOND, "the cache comes at once: {in_a_second} access units");
    assert_in_step(packets, watcher);
}

/// The newest packets come when a viewer who was there all the time gets them, and their timestamps move alike.
fn assert_in_step(packets: &[Packet], watcher: &Viewer) {
    let tail = &packets[packets.len() - 6..];
    let same = |one: &Packet, other: &Packet| one.payload() == other.payload();
    let live = watcher.rtp_until("what the join got", |live| {
        live.last().is_some_and(|last| same(last, &tail[tail.len() - 1]))
    });
    let live = &live[live.len() - tail.len()..];
    for (joined, live) in tail.iter().zip(live) {
        assert!(same(joined, live), "the same packets in the same order");
        let late = joined.at.saturating_duration_since(live.at);
        assert!(late < Duration::from_millis(500), "no lasting delay: {late:?}");
    }
    let steps = |packets: &[Packet]| -> Vec<u32> {
        packets.windows(2).map(|pair| pair[1].rtp_timestamp().wrapping_sub(pair[0].rtp_timestamp())).collect()
    };
    assert_eq!(steps(tail), steps(live));
}

fn span(packets: &[Packet]) -> Duration {
    match packets {
        [first, .., last] => last.at.duration_since(first.at),
        _ => Duration::ZERO,
    }
}

/// A stream whose last keyframe was at least three seconds ago and whose next is at least three seconds off, and
/// a viewer who has watched it from the start.
fn server_deep_in_a_gop(codec: Codec) -> (Server, GstServer, Viewer) {
    let server = Server::start();
    let name = if codec == Codec::H264 { "h264" } else { "h265" };
    let camera =
        GstServer::start(&format!("--fps {FRAMES_PER_SECOND} --key-interval {KEY_INTERVAL} --codec {name}"));
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let watcher = Viewer::websocket(&server, "7");
    let mut packets = vec![];
    until("three seconds since the last keyframe", || {
        packets.extend(watcher.rtp(1));
        let units = access_units(&packets, codec);
        let keyframe = units.iter().rposition(|unit| unit.is_random_access(codec))?;
        let age = units.len() - keyframe;
        (age > 3 * FRAMES_PER_SECOND && age < KEY_INTERVAL - 3 * FRAMES_PER_SECOND).then_some(())
    });
    (server, camera, watcher)
}
