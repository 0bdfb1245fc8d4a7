//! Cameras that err as real ones do: their viewers see a clean stream all the same. What errs in the RTSP dialogue alone
//! is in `quirks_rtsp.rs`.

use serde_json::json;

use crate::harness::{Camera, Codec, Decoder, Packet, Server, Viewer, access_units, assert_continuous};
use crate::harness::{free_udp_port, with_media_port};

const PICTURES: usize = 40;

#[test]
fn a_camera_that_does_everything_right_is_decoded() {
    is_decoded("--codec h264");
    is_decoded("--codec h265");
}

#[test]
fn a_camera_without_sprop_is_decoded() {
    is_decoded("--codec h264 --no-sprop");
    is_decoded("--codec h265 --no-sprop");
}

#[test]
fn a_camera_with_parameter_sets_in_its_description_only_is_decoded() {
    is_decoded("--codec h264 --no-inband-parameter-sets");
    is_decoded("--codec h265 --no-inband-parameter-sets");
}

#[test]
fn a_camera_with_single_parameter_set_packets_is_decoded() {
    is_decoded("--codec h265 --no-aggregation");
}

#[test]
fn a_camera_with_markers_on_sei_is_decoded() {
    is_decoded("--codec h264 --marker-on-sei");
}

#[test]
fn a_camera_with_markers_everywhere_is_decoded() {
    is_decoded("--codec h264 --marker-every-packet");
}

#[test]
fn a_camera_without_markers_is_decoded() {
    is_decoded("--codec h264 --no-marker");
}

#[test]
fn a_camera_with_oversize_packets_is_decoded() {
    is_decoded("--codec h264 --bitrate 4M --oversize-packets 20000");
}

#[test]
fn a_camera_with_garbage_between_its_frames_is_decoded() {
    is_decoded("--codec h264 --garbage-between-frames --transport tcp");
}

#[test]
fn a_camera_that_reorders_its_datagrams_is_decoded() {
    is_decoded("--codec h264 --bitrate 2M --transport udp --reorder");
}

#[test]
fn timestamps_that_jump_do_not_reach_viewers() {
    let (_server, _camera, viewer) = watch("--codec h264 --jumpy-timestamps");
    let packets = seconds_of(&viewer, 8);
    assert_continuous(&packets);
    let (first, last) = (&packets[0], &packets[packets.len() - 1]);
    let by_timestamp = f64::from(last.rtp_timestamp().wrapping_sub(first.rtp_timestamp())) / 90_000.0;
    let by_clock = last.at.duration_since(first.at).as_secs_f64();
    assert!((by_timestamp - by_clock).abs() < 2.0, "{by_timestamp} s in {by_clock} s");
}

#[test]
fn lost_datagrams_of_the_camera_leave_whole_numbers_for_viewers() {
    let (_server, _camera, viewer) = watch("--codec h264 --bitrate 2M --transport udp --loss 2");
    let packets = seconds_of(&viewer, 6);
    assert_continuous(&packets);
    assert!(keyframes(&packets) >= 2);
}

#[test]
fn a_camera_with_digest_sha_256_is_watched() {
    let server = Server::start();
    let camera = Camera::start("--codec h264 --user ann --password s3cret-word --auth digest-sha256");
    server.rest.create(7, &camera.url().replace("rtsp://", "rtsp://ann:s3cret-word@"));
    server.rest.active("7");
    assert_continuous(&Viewer::websocket(&server, "7").rtp(30));
}

#[test]
fn a_camera_that_drops_its_connection_again_and_again_is_watched_without_a_seam() {
    let server = Server::start();
    let camera = Camera::start("--codec h264 --drop-every 3");
    let body = json!({ "source_id": 7, "rtsp_url": camera.url(), "restart_interval_secs": 1 });
    server.rest.post("/streams", &body).expect(201);
    server.rest.active("7");
    let viewer = Viewer::websocket(&server, "7");
    assert_continuous(&seconds_of(&viewer, 8));
    assert!(viewer.is_open());
}

#[test]
fn a_camera_that_goes_silent_is_left_and_tried_again() {
    let server = Server::start_with(&["--source-silence-timeout-seconds", "1"]);
    let camera = Camera::start("--codec h264 --silence-after 2");
    let body = json!({ "source_id": 7, "rtsp_url": camera.url(), "restart_interval_secs": 1 });
    server.rest.post("/streams", &body).expect(201);
    server.rest.active("7");
    assert_continuous(&seconds_of(&Viewer::websocket(&server, "7"), 8));
}

#[test]
fn a_camera_that_refuses_everything_is_an_error_with_its_answer() {
    let server = Server::start();
    let camera = Camera::start("--codec h264 --refuse");
    server.rest.create(7, &camera.url());
    let reason = server.rest.error_reason("7");
    assert!(reason.contains("503"), "{reason}");
}

#[test]
fn a_camera_that_changes_its_size_in_passing_is_described_anew_each_time() {
    let (_server, _camera, viewer) = watch("--codec h264 --change-resolution-every 2");
    let descriptions: Vec<_> = (0..3).map(|_| viewer.sdp()).collect();
    let sets = |sdp: &str| sdp.lines().find(|line| line.starts_with("a=fmtp:")).map(str::to_owned);
    assert_ne!(sets(&descriptions[0]), sets(&descriptions[1]));
    assert_ne!(sets(&descriptions[1]), sets(&descriptions[2]));
    assert_continuous(&seconds_of(&viewer, 3));
}

/// ffmpeg decodes what a viewer of a camera with these flags gets, without a line of complaint.
fn is_decoded(flags: &str) {
    let (_server, _camera, viewer) = watch(flags);
    let sdp = with_media_port(&viewer.sdp(), free_udp_port());
    let packets = viewer.rtp_until("enough access units", |packets| {
        packets.iter().filter(|packet| packet.marker()).count() >= PICTURES + 20
    });
    assert_continuous(&packets);
    let decoder = Decoder::start(&sdp, PICTURES);
    decoder.feed(&packets);
    decoder.finish();
}

fn watch(flags: &str) -> (Server, Camera, Viewer) {
    let server = Server::start();
    let camera = Camera::start(flags);
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let viewer = Viewer::websocket(&server, "7");
    (server, camera, viewer)
}

fn seconds_of(viewer: &Viewer, seconds: u64) -> Vec<Packet> {
    viewer.rtp_until(&format!("{seconds} seconds"), |packets| match packets {
        [first, .., last] => last.at.duration_since(first.at).as_secs() >= seconds,
        _ => false,
    })
}

fn keyframes(packets: &[Packet]) -> usize {
    access_units(packets, Codec::H264).iter().filter(|unit| unit.is_random_access(Codec::H264)).count()
}
