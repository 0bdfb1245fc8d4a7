//! Several cameras at once, and one that is very large.

use serde_json::json;

use crate::harness::{Camera, Codec, GstServer, Server, Udp, Viewer, access_units, assert_continuous};

#[test]
fn two_cameras_do_not_disturb_each_other() {
    let server = Server::start();
    let first = GstServer::start("--codec h264");
    let second = GstServer::start("--codec h265");
    server.rest.create("first", &first.url());
    server.rest.create("second", &second.url());
    let broken =
        json!({ "source_id": "broken", "rtsp_url": "rtsp://127.0.0.1:1/cam", "restart_interval_secs": 1 });
    server.rest.post("/streams", &broken).expect(201);
    server.rest.active("first");
    server.rest.active("second");
    let (a, b) = (Viewer::revision_1(&server, "first"), Viewer::revision_2(&server, "second"));
    let (a_udp, b_udp) = (Udp::open(), Udp::open());
    a.punch(&a_udp, a_udp.port());
    b.shake_hands(&b_udp);
    a_udp.rtp_at_least(30);
    b_udp.rtp_at_least(30);

    let first = first.kill();
    server.rest.stream_when("first", "not Active", |stream| stream["state"] != "Active");
    let so_far = b_udp.rtp().len();
    let undisturbed = b_udp.rtp_at_least(so_far + 60);
    let _first = first.restart();
    server.rest.active("first");
    let so_far = a_udp.rtp().len();
    let back = a_udp.rtp_at_least(so_far + 30);

    assert_continuous(&undisturbed);
    assert_continuous(&back);
    let largest_pause = undisturbed.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at)).max();
    assert!(largest_pause.is_some_and(|pause| pause.as_secs() < 2), "{largest_pause:?}");
    assert!(access_units(&back, Codec::H264)[0].is_random_access(Codec::H264));
    assert!(access_units(&undisturbed, Codec::H265)[0].is_random_access(Codec::H265));
}

#[test]
fn a_4k_cameras_keyframe_of_a_thousand_packets_reaches_a_viewer_whole() {
    let server = Server::start();
    let camera = Camera::start("--codec h264 --bitrate 20M --idr-bytes 1100000");
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let viewer = Viewer::revision_1(&server, "7");
    let udp = Udp::open();
    viewer.punch(&udp, udp.port());

    let keyframes = 4;
    let packets = udp.rtp_when("keyframes of 1.1 MB", |packets| {
        let large = access_units(packets, Codec::H264).iter().filter(|unit| is_large(unit.bytes)).count();
        (large > keyframes).then(|| packets.to_vec())
    });

    assert_eq!(udp.kernel_drops(), 0, "the receiver's socket overflowed");
    assert_continuous(&packets);
    let units = access_units(&packets, Codec::H264);
    let (_, whole) = units.split_last().expect("access units");
    assert!(whole.iter().all(|unit| unit.complete));
    let largest = whole.iter().map(|unit| unit.packets).max().expect("access units");
    assert!(largest >= 900, "the largest access unit has {largest} packets");
}

fn is_large(bytes: usize) -> bool {
    bytes > 1_000_000
}
