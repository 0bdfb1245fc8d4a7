//! Pictures from a camera of somebody else's making reach a decoder of somebody else's making, through every
//! way in and every way out. The decoder reads the description that the session hands out and may not complain.

use crate::harness::{Codec, access_units, assert_continuous};
use crate::harness::{Decoder, GstServer, Rest, Server, Udp, Viewer, free_udp_port, with_media_port};

const PICTURES: usize = 40;

#[test]
fn h264_over_tcp_is_decoded_without_complaint() {
    decodes("--codec h264 --transport tcp", "h264-tcp", None);
}

#[test]
fn h264_over_udp_is_decoded_without_complaint() {
    decodes("--codec h264 --transport udp", "h264-udp", None);
}

#[test]
fn h264_behind_digest_is_decoded_without_complaint() {
    decodes("--codec h264 --digest ann:s3cret-word", "h264-digest", Some(("ann", "s3cret-word")));
}

#[test]
fn h265_over_tcp_is_decoded_without_complaint() {
    decodes("--codec h265 --transport tcp", "h265-tcp", None);
}

#[test]
fn h265_over_udp_is_decoded_without_complaint() {
    decodes("--codec h265 --transport udp", "h265-udp", None);
}

#[test]
fn h265_behind_digest_is_decoded_without_complaint() {
    decodes("--codec h265 --digest ann:s3cret-word", "h265-digest", Some(("ann", "s3cret-word")));
}

#[test]
fn h264_behind_basic_is_decoded_without_complaint() {
    decodes("--codec h264 --basic ann:s3cret-word", "h264-basic", Some(("ann", "s3cret-word")));
}

#[test]
fn a_camera_without_sprop_is_decoded_without_complaint() {
    decodes("--codec h264 --no-sprop", "h264-no-sprop", None);
}

#[test]
fn an_h265_camera_without_sprop_is_decoded_without_complaint() {
    decodes("--codec h265 --no-sprop", "h265-no-sprop", None);
}

#[test]
fn a_cameras_audio_track_is_left_alone() {
    decodes("--codec h264 --with-audio", "h264-with-audio", None);
}

#[test]
fn large_pictures_are_decoded_without_complaint() {
    // Noise at 1280x720: hundreds of packets in one access unit.
    decodes("--codec h264 --size 1280x720 --bitrate-kbps 4000 --pattern snow", "h264-720p", None);
}

#[test]
fn the_revision_2_handshake_leads_to_pictures() {
    let (server, _camera) = server_with_camera("--codec h264");
    let learner = Viewer::revision_2(&server, "7");
    let decoder = Decoder::start(&with_media_port(&learner.sdp(), free_udp_port()), PICTURES)
        .keep_picture("h264-revision-2");
    drop(learner);

    let viewer = Viewer::revision_2(&server, "7");
    viewer.sdp();
    let udp = Udp::open();
    udp.forward(decoder.address());
    viewer.shake_hands(&udp);

    decoder.finish();
    assert_continuous(&udp.rtp());
}

#[test]
fn websocket_transport_leads_to_pictures() {
    for codec in ["h264", "h265"] {
        let (server, _camera) = server_with_camera(&format!("--codec {codec}"));
        let viewer = Viewer::websocket(&server, "7");
        let sdp = with_media_port(&viewer.sdp(), free_udp_port());
        let packets = viewer.rtp_until("enough access units", |packets| {
            packets.iter().filter(|packet| packet.marker()).count() >= PICTURES + 15
        });
        assert_continuous(&packets);

        let decoder = Decoder::start(&sdp, PICTURES).keep_picture(&format!("{codec}-websocket"));
        decoder.feed(&packets);
        decoder.finish();
    }
}

#[test]
fn another_picture_size_brings_a_new_description_and_pictures_of_that_size() {
    let (server, mut camera) = server_with_camera("--codec h264 --size 320x240");
    let viewer = Viewer::websocket(&server, "7");
    let before = viewer.sdp();
    let mut packets = viewer.rtp(20);

    camera.resize("640x480");
    let after = viewer.sdp();
    packets.extend(viewer.rtp_until("enough access units", |packets| {
        packets.iter().filter(|packet| packet.marker()).count() >= 60
    }));

    assert_ne!(parameter_sets(&before), parameter_sets(&after));
    assert!(version(&after) > version(&before), "{before}\n{after}");
    server
        .rest
        .stream_when("7", "of the new size", |stream| stream["width"] == 640 && stream["height"] == 480);
    assert_continuous(&packets);
    let large = access_units(&packets, Codec::H264);
    let resized = large.iter().rposition(|unit| unit.is_random_access(Codec::H264)).expect("a keyframe");
    assert!(resized > 0, "keyframes follow the change");
}

/// A camera with these arguments, through the server, to revision-1 viewers: every picture is decoded.
fn decodes(camera: &str, name: &str, credentials: Option<(&str, &str)>) {
    let server = Server::start();
    let camera = GstServer::start(camera);
    match credentials {
        Some((user, password)) => server.rest.create(7, &camera.url_with(user, password)),
        None => server.rest.create(7, &camera.url()),
    };
    server.rest.active("7");
    decode_by_revision_1(&server, "7", name);
}

/// One session tells the description, ffmpeg starts to listen as it says, a second session is then punched
/// towards ffmpeg's port: so ffmpeg has the first packet too, and the description is used as it stands.
pub fn decode_by_revision_1(server: &Server, path_id: &str, name: &str) {
    let port = free_udp_port();
    let sdp = learn_description(server, path_id, port);
    let decoder = Decoder::start(&sdp, PICTURES).keep_picture(name);

    let viewer = Viewer::revision_1(server, path_id);
    let puncher = Udp::open();
    viewer.punch(&puncher, port);
    let again = described_at(&viewer, port);
    assert_eq!(without_origin(&sdp), without_origin(&again), "both sessions are described alike");

    let decoded = decoder.finish();
    let mut distinct = decoded.hashes.clone();
    distinct.sort();
    distinct.dedup();
    assert!(distinct.len() > PICTURES / 2, "the picture moves");
    assert!(puncher.rtp().is_empty(), "media goes to the port that the punch named");
    let stream = server.rest.stream(path_id);
    assert_eq!(
        (stream["width"].as_u64(), stream["height"].as_u64()),
        (Some(decoded.width.into()), Some(decoded.height.into()))
    );
}

/// The description of a session whose punch named `port`; the session is over when this returns.
fn learn_description(server: &Server, path_id: &str, port: u16) -> String {
    let viewer = Viewer::revision_1(server, path_id);
    viewer.punch(&Udp::open(), port);
    let sdp = described_at(&viewer, port);
    end_session(&server.rest, &viewer);
    sdp
}

fn described_at(viewer: &Viewer, port: u16) -> String {
    loop {
        let sdp = viewer.sdp();
        if sdp.contains(&format!("m=video {port} RTP/AVP 96\r\n")) {
            return sdp;
        }
    }
}

fn end_session(rest: &Rest, viewer: &Viewer) {
    rest.delete(&format!("/client-session-control/{}", viewer.token())).expect(204);
    viewer.close_code();
}

fn server_with_camera(camera: &str) -> (Server, GstServer) {
    let server = Server::start();
    let camera = GstServer::start(camera);
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    (server, camera)
}

fn without_origin(sdp: &str) -> Vec<&str> {
    sdp.lines().filter(|line| !line.starts_with("o=")).collect()
}

fn parameter_sets(sdp: &str) -> &str {
    sdp.lines().find(|line| line.starts_with("a=fmtp:")).expect("parameter sets")
}

fn version(sdp: &str) -> u64 {
    let origin = sdp.lines().find(|line| line.starts_with("o=")).expect("an origin");
    origin.split(' ').nth(2).expect("a version").parse().expect("a number")
}
