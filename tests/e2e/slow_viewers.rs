//! A viewer that cannot take its packets loses whole access units, and nobody else does.

use std::time::Duration;

use crate::harness::{
    Camera, Codec, Packet, Server, Udp, Viewer, ViewerOptions, access_units, assert_continuous, until,
};

#[test]
fn a_websocket_viewer_that_stops_reading_loses_frames_and_others_lose_none() {
    let server = Server::start_with(&["--wsc-websocket-queue-bytes", "1000000"]);
    let camera = Camera::start("--codec h264 --bitrate 20M");
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let reader = Viewer::websocket(&server, "7");
    let by_udp = Viewer::revision_1(&server, "7");
    let udp = Udp::open();
    by_udp.punch(&udp, udp.port());
    let slow = Viewer::connect(
        &server,
        "7",
        &ViewerOptions {
            force_websocket_transport: Some(true),
            receive_buffer: Some(65536),
            ..Default::default()
        },
    );
    let mut slow_packets = slow.rtp(100);

    slow.stop_reading();
    until("packets that the slow viewer could not take", || {
        (server.rest.metric(PACKETS_SKIPPED) > 5000.0).then_some(())
    });
    slow.read_again();
    // Over the next keyframe, at which the slow viewer goes on.
    let behind = udp.rtp().len() + 10_000;
    let by_udp_packets = udp.rtp_at_least(behind);
    let end = by_udp_packets[by_udp_packets.len() - 1].at;
    slow_packets
        .extend(slow.rtp_until("the live edge", |packets| packets.last().is_some_and(|p| p.at >= end)));
    let reader_packets =
        reader.rtp_until("the live edge", |packets| packets.last().is_some_and(|p| p.at >= end));

    assert_continuous(&by_udp_packets);
    assert_continuous(&reader_packets);
    assert_lost_whole_access_units(&slow_packets);
    assert!(slow.is_open(), "the slow viewer stays");
}

#[test]
fn a_viewer_that_never_reads_costs_bounded_memory() {
    let server = Server::start_with(&["--wsc-websocket-queue-bytes", "1000000"]);
    let camera = Camera::start("--codec h264 --bitrate 20M");
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let viewers: Vec<_> = (0..4).map(|_| Viewer::websocket(&server, "7")).collect();
    viewers.iter().for_each(|viewer| drop(viewer.rtp(50)));
    let before = server.resident_bytes();
    viewers.iter().for_each(Viewer::stop_reading);
    let start = std::time::Instant::now();
    until("packets that nobody could take", || {
        let skipped = server.rest.metric(PACKETS_SKIPPED) > 5000.0;
        (skipped && start.elapsed() > Duration::from_secs(8)).then_some(())
    });
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 40_000_000, "grew by {grown} bytes");
}

/// Packets of viewers that could not take them, on `/metrics`.
const PACKETS_SKIPPED: &str = "lanecast_stream_packets_skipped_total";

/// What came is made of whole access units, but for one larger than the queue keeps free, and what follows a loss
/// begins as a random access point does.
fn assert_lost_whole_access_units(packets: &[Packet]) {
    let units = access_units(packets, Codec::H264);
    let (_, units) = units.split_last().expect("access units");
    let mut losses = 0;
    for pair in units.windows(2) {
        let pause = f64::from(pair[1].rtp_timestamp.wrapping_sub(pair[0].rtp_timestamp)) / 90_000.0;
        assert!((0.0..60.0).contains(&pause), "timestamps never go back: {pause}");
        if pause > 0.1 || !pair[0].complete {
            assert!(pair[1].nal_types.starts_with(&[7, 8]), "after {pause} s lost: {:?}", pair[1]);
            losses += 1;
        }
    }
    assert!(losses > 0, "the slow viewer lost access units");
    assert!(units[units.len() - 1].complete, "it has whole pictures again");
}
