//! Several inputs by priority: another camera takes over, and viewers, recordings and sessions go on.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{
    AccessUnit, Camera, Codec, Decoder, GstServer, Packet, RecordedFile, Server, Stamp, StoppedServer, Udp,
    Viewer, access_units, assert_continuous, assert_on_time, assert_plays, free_udp_port, stamps_of_packets,
    until, with_media_port,
};

/// Short times, so that a test is.
const SILENCE: Duration = Duration::from_secs(2);
const RETURN_AFTER: Duration = Duration::from_secs(3);
/// What a busy machine may take on top.
const BUSY: Duration = Duration::from_secs(5);

#[test]
fn the_second_camera_takes_over_without_a_seam() {
    let server = server();
    let (first, second) = (GstServer::start("--size 320x240"), Camera::start("--gop-seconds 1"));
    server.rest.create_from(7, &[&first.url(), &second.url()], false);
    let stream = server.rest.active_by("7", "input 1");
    assert_eq!((&stream["width"], &stream["height"]), (&320.into(), &240.into()), "{stream}");
    let viewer = Viewer::websocket(&server, "7");
    assert_eq!(viewer.init()["active_source"]["label"], "input 1");
    let first_sdp = viewer.sdp();
    let by_udp = Viewer::revision_1(&server, "7");
    let udp = Udp::open();
    by_udp.punch(&udp, udp.port());
    udp.rtp_at_least(30);
    let mut packets = viewer.rtp(30);

    let _first = first.kill();
    let stream = server.rest.active_by("7", "input 2");
    packets.extend(viewer.rtp(100));

    assert_eq!((&stream["width"], &stream["height"]), (&640.into(), &360.into()), "{stream}");
    assert_ne!(viewer.sdp(), first_sdp, "its parameter sets are others");
    let units = assert_seamless(&packets, Codec::H264, SILENCE);
    let so_far = udp.rtp().len();
    assert_seamless(&udp.rtp_at_least(so_far + 60), Codec::H264, SILENCE);
    assert_decodable(&first_sdp, &packets, &units);
    assert_eq!(Viewer::websocket(&server, "7").init()["active_source"]["label"], "input 2");
    assert_eq!(server.rest.metric("lanecast_stream_failovers_total"), 1.0);
    let metrics = server.rest.get("/metrics").text;
    let active = "lanecast_stream_active_input{source_id=\"7\",label=\"input 2\"} 1";
    assert!(metrics.contains(active), "{metrics}");
    assert!(viewer.is_open() && by_udp.is_open());
}

#[test]
fn a_second_camera_of_another_codec_is_described_anew() {
    let server = server();
    let (first, second) = (Camera::start("--codec h264"), Camera::start("--codec h265 --gop-seconds 1"));
    server.rest.create_from(7, &[&first.url(), &second.url()], false);
    server.rest.active_by("7", "input 1");
    let viewer = Viewer::websocket(&server, "7");
    assert!(viewer.sdp().contains("H264/90000"));
    let mut packets = viewer.rtp(30);

    let _first = first.kill();
    let sdp = viewer.sdp();
    packets.extend(viewer.rtp(200));

    assert!(sdp.contains("H265/90000"), "{sdp}");
    assert_continuous(&packets);
    let seam = packets.iter().position(is_h265_parameter_sets).expect("H.265's parameter sets");
    let tail = &packets[seam..];
    let units = access_units(tail, Codec::H265);
    assert!(units[0].is_random_access(Codec::H265), "{:?}", units[0]);
    assert_decodable(&sdp, tail, &units);
    assert_eq!(server.rest.stream("7")["codec"], "H265");
}

#[test]
fn a_camera_that_falls_silent_is_left_within_the_silence_timeout() {
    let server = server();
    let (first, second) = (GstServer::start("--size 320x240"), Camera::start("--gop-seconds 1"));
    server.rest.create_from(7, &[&first.url(), &second.url()], false);
    server.rest.active_by("7", "input 1");
    let viewer = Viewer::websocket(&server, "7");
    let mut packets = viewer.rtp(30);

    first.freeze();
    server.rest.active_by("7", "input 2");
    packets.extend(viewer.rtp(100));

    assert_seamless(&packets, Codec::H264, SILENCE);
    first.thaw();
}

#[test]
fn the_first_camera_is_returned_to_when_it_has_been_well_for_a_while_and_not_before() {
    let server = server();
    let (first, second) =
        (Camera::start("--gop-seconds 1 --stamp"), Camera::start("--gop-seconds 1 --stamp"));
    server.rest.create_from(7, &[&first.url(), &second.url()], false);
    server.rest.active_by("7", "input 1");
    let viewer = Viewer::websocket(&server, "7");
    let mut packets = viewer.rtp(30);
    let first = first.kill();
    server.rest.active_by("7", "input 2");

    let restarted = Instant::now();
    let _first = first.restart();
    server.rest.active_by("7", "input 1");
    let away = restarted.elapsed();
    packets.extend(viewer.rtp_until("pictures of the first again", |packets| stamps(packets).len() > 250));

    eprintln!("returned to the first camera {away:?} after it came back");
    assert!(away >= RETURN_AFTER, "not before it has been well for a while: {away:?}");
    assert_seamless(&packets, Codec::H264, SILENCE);
    assert_eq!(server.rest.metric("lanecast_stream_failovers_total"), 2.0);
    // Nothing was wrong with the second: the first takes over from it with no picture late.
    let back = packets_of_return(&packets);
    eprintln!("the return took {back:?}");
    assert!(back < BUSY / 5, "nobody waits for the return: {back:?}");
}

#[test]
fn a_first_camera_that_comes_and_goes_does_not_interrupt_the_second() {
    let server = server();
    let (first, second) = (Camera::start("--drop-every 1"), Camera::start("--stamp --gop-seconds 1"));
    server.rest.create_from(7, &[&first.url(), &second.url()], false);
    server.rest.active_by("7", "input 2");
    server.rest.patch("/streams/7", &json!({ "restart_interval_secs": 1 })).expect(200);
    let viewer = Viewer::websocket(&server, "7");
    let failovers = server.rest.metric("lanecast_stream_failovers_total");
    let reconnects = server.rest.metric("lanecast_stream_reconnects_total");

    let packets = viewer.rtp_until("ten seconds of the second", |packets| stamps(packets).len() > 250);

    assert_continuous(&packets);
    for pair in stamps(&packets).windows(2) {
        assert_eq!(pair[1].number, pair[0].number + 1, "every picture of the second, and no other: {pair:?}");
    }
    assert_eq!(server.rest.metric("lanecast_stream_failovers_total"), failovers);
    let tried = server.rest.metric("lanecast_stream_reconnects_total") - reconnects;
    assert!(tried >= 1.0, "the first was tried meanwhile: {tried}");
    assert_eq!(server.rest.stream("7")["active_input"]["label"], "input 2");
}

#[test]
fn a_recording_goes_on_over_a_failover_to_another_codec() {
    let (first, second) =
        (Camera::start("--codec h264 --stamp"), Camera::start("--codec h265 --gop-seconds 1 --stamp"));
    let (_server, files) = recorded_over_a_failover(&first.url(), &second.url(), || drop(first.kill()));
    assert_shapes(&files, ["h264,640,360", "hevc,640,360"]);
    for file in &files {
        let stamps = file.stamps();
        assert_eq!(assert_plays(&file.path), stamps.len(), "each picture is a camera's: {file:?}");
        for pair in stamps.windows(2) {
            assert_eq!(pair[1].number, pair[0].number + 1, "none is missing in {file:?}: {pair:?}");
        }
    }
}

#[test]
fn a_recording_goes_on_over_a_failover_to_another_size() {
    let (first, second) = (GstServer::start("--size 320x240"), Camera::start("--gop-seconds 1"));
    let (_server, files) = recorded_over_a_failover(&first.url(), &second.url(), || drop(first.kill()));
    assert_shapes(&files, ["h264,320,240", "h264,640,360"]);
    for file in &files {
        assert_eq!(assert_plays(&file.path), file.samples().len(), "each picture is decoded: {file:?}");
    }
}

/// What there is of both cameras, when the server has ended in order, and who keeps it.
fn recorded_over_a_failover(
    first: &str,
    second: &str,
    kill: impl FnOnce(),
) -> (StoppedServer, Vec<RecordedFile>) {
    let server = server();
    server.rest.create_from(7, &[first, second], true);
    let recorded = |pictures: f64| {
        let written = || server.rest.metric("lanecast_recorder_access_units_total");
        let before = written();
        until("pictures in the recording", || (written() > before + pictures).then_some(()));
    };
    recorded(50.0);
    kill();
    server.rest.active_by("7", "input 2");
    recorded(60.0);

    let server = server.stop();
    let recordings = server.recordings();
    let files = recordings.files(7);
    recordings.assert_agrees("7", &files);
    (server, files)
}

/// Files of these shapes in this order, and each is there.
#[track_caller]
fn assert_shapes(files: &[RecordedFile], expected: [&str; 2]) {
    let mut shapes: Vec<String> = files.iter().map(RecordedFile::shape).collect();
    shapes.dedup();
    assert_eq!(shapes, expected, "{files:?}");
}

fn server() -> Server {
    let (silence, return_after) = (SILENCE.as_secs().to_string(), RETURN_AFTER.as_secs().to_string());
    let times =
        ["--source-silence-timeout-seconds", &silence, "--source-return-after-seconds", &return_after];
    // The slate has its own tests.
    Server::start_with(&[&times[..], &["--source-slate-after-seconds", "off"]].concat())
}

/// Continuous, on time, and away no longer than `allowed` and what connecting takes. Pictures come back with a keyframe.
#[track_caller]
fn assert_seamless(packets: &[Packet], codec: Codec, allowed: Duration) -> Vec<AccessUnit> {
    assert_continuous(packets);
    let units = access_units(packets, codec);
    assert_on_time(&units);
    let longest = units.windows(2).max_by_key(|pair| pair[1].at - pair[0].at).expect("two access units");
    let away = longest[1].at - longest[0].at;
    eprintln!("without pictures for {away:?}");
    assert!(away < allowed + BUSY, "without pictures for {away:?}");
    units
}

/// ffmpeg decodes every access unit.
#[track_caller]
fn assert_decodable(sdp: &str, packets: &[Packet], units: &[AccessUnit]) {
    // The last one may not be whole yet, and ffmpeg keeps some back until more come.
    let decoder = Decoder::start(&with_media_port(sdp, free_udp_port()), units.len() - 5);
    decoder.feed(packets);
    decoder.finish();
}

fn stamps(packets: &[Packet]) -> Vec<Stamp> {
    stamps_of_packets(packets)
}

/// From the last picture of a camera that had sent many to the first of another.
fn packets_of_return(packets: &[Packet]) -> Duration {
    let of: Vec<(Instant, u64)> = packets
        .iter()
        .flat_map(|packet| {
            stamps(std::slice::from_ref(packet)).into_iter().map(|stamp| (packet.at, stamp.number))
        })
        .collect();
    let last = of.windows(2).rev().find(|pair| pair[1].1 < pair[0].1).expect("another camera's pictures");
    last[1].0 - last[0].0
}

/// Of an aggregation packet, which H.264 knows no unit type for.
fn is_h265_parameter_sets(packet: &Packet) -> bool {
    packet.payload()[0] & 0x7e == 48 << 1
}
