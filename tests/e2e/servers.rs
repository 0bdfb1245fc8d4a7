//! RTSP servers that nobody here wrote, each with the ways of its own: pictures reach a viewer whole, under one
//! numbering, and go on over whatever the server does to its sessions. `docs/cameras.md` lists what was seen.

use serde_json::json;

use crate::harness::{
    Clip, Codec, Decoder, GstServer, Live555Server, Packet, RtspStreamingServer, Server, Viewer, VlcServer,
    access_units, assert_continuous, free_udp_port, with_media_port,
};

/// Of all servers here.
const PICTURES_A_SECOND: usize = 15;

/// The server under test; it gives a source up after two seconds, which is what these servers' pauses take.
fn server() -> Server {
    Server::start_with(&["--source-silence-timeout-seconds", "2"])
}

// GStreamer: what is only its own. TCP, UDP, Digest and in-band parameter sets are with the pictures.

#[test]
fn gstreamer_with_parameter_sets_and_slices_in_one_packet() {
    plays_from_gstreamer("--codec h264 --aggregate zero-latency", Codec::H264);
}

#[test]
fn gstreamer_with_whole_access_units_in_one_packet() {
    plays_from_gstreamer("--codec h264 --aggregate max --bitrate-kbps 60 --transport udp", Codec::H264);
}

#[test]
fn gstreamer_with_h265_parameter_sets_and_slices_in_one_packet() {
    plays_from_gstreamer("--codec h265 --aggregate zero-latency", Codec::H265);
}

#[test]
fn gstreamer_with_whole_h265_access_units_in_one_packet() {
    plays_from_gstreamer("--codec h265 --aggregate max --bitrate-kbps 60 --transport udp", Codec::H265);
}

#[test]
fn gstreamer_with_aggregates_and_no_parameter_sets_in_the_description() {
    plays_from_gstreamer("--codec h264 --aggregate zero-latency --no-sprop", Codec::H264);
    plays_from_gstreamer("--codec h265 --aggregate zero-latency --no-sprop", Codec::H265);
}

#[test]
fn gstreamer_with_parameter_sets_in_the_description_only() {
    plays_from_gstreamer("--codec h264 --sprop-only", Codec::H264);
}

#[test]
fn gstreamer_whose_ssrc_changes_while_numbers_run_on() {
    for (transport, codec) in [("udp", Codec::H264), ("tcp", Codec::H265)] {
        let name = format!("{codec:?}").to_lowercase();
        let server = server();
        let mut camera = GstServer::start(&format!("--codec {name} --transport {transport}"));
        server.rest.create(7, &camera.url());
        server.rest.active("7");
        let mut film = Film::of(&server, codec);
        film.watch(3 * PICTURES_A_SECOND);

        let first = camera.change_ssrc();
        film.watch(5 * PICTURES_A_SECOND);
        let second = camera.change_ssrc();
        film.watch(5 * PICTURES_A_SECOND);

        assert_ne!(first, second);
        assert!(!server.log().contains("state=Error"), "the source was never given up");
        film.assert_whole();
    }
}

// VLC: a file in a loop, each turn of which is a session of its own.

#[test]
fn vlc_goes_on_from_loop_to_loop_in_h264() {
    goes_on_from_vlc(Codec::H264);
}

#[test]
fn vlc_goes_on_from_loop_to_loop_in_h265() {
    goes_on_from_vlc(Codec::H265);
}

// live555: a file from its beginning for each client, once; a BYE ends it.

#[test]
fn live555_goes_on_from_file_to_file_in_h264_over_tcp() {
    goes_on_from_live555(Codec::H264, "264", "tcp");
}

#[test]
fn live555_goes_on_from_file_to_file_in_h264_over_udp() {
    goes_on_from_live555(Codec::H264, "264", "udp");
}

#[test]
fn live555_goes_on_from_file_to_file_in_h265_over_tcp() {
    goes_on_from_live555(Codec::H265, "265", "tcp");
}

#[test]
fn live555_goes_on_from_file_to_file_in_h265_over_udp() {
    goes_on_from_live555(Codec::H265, "265", "udp");
}

#[test]
fn live555_plays_matroska_behind_digest() {
    for codec in [Codec::H264, Codec::H265] {
        let clip = Clip::encode(codec, 10, "mkv");
        let Some(live555) = Live555Server::start(&clip, Some("ann:s3cret-word")) else { return };
        let server = server();
        server.rest.create(7, &live555.url("ann:s3cret-word@"));
        server.rest.active("7");
        let mut film = Film::of(&server, codec);
        film.watch(4 * PICTURES_A_SECOND);
        film.assert_whole();
    }
}

// rtsp-streaming-server: ffmpeg's packets handed on, UDP only, no Content-Base, answers line by line.

#[test]
fn rtsp_streaming_server_hands_on_what_ffmpeg_publishes() {
    let Some(mut other) = RtspStreamingServer::start() else { return };
    for codec in [Codec::H264, Codec::H265] {
        let server = server();
        server.rest.create(7, &other.publish(codec));
        server.rest.active("7");
        let mut film = Film::of(&server, codec);
        film.watch(6 * PICTURES_A_SECOND);
        film.assert_whole();
    }
}

fn goes_on_from_live555(codec: Codec, extension: &str, transport: &str) {
    let clip = Clip::encode(codec, 6, extension);
    let Some(live555) = Live555Server::start(&clip, None) else { return };
    goes_on_over_two_ends(&live555.url(""), transport, codec);
}

fn goes_on_from_vlc(codec: Codec) {
    let Some(vlc) = VlcServer::start(codec, 6) else { return };
    goes_on_over_two_ends(&vlc.url(), "auto", codec);
}

fn plays_from_gstreamer(arguments: &str, codec: Codec) {
    let server = server();
    let camera = GstServer::start(arguments);
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let mut film = Film::of(&server, codec);
    film.watch(4 * PICTURES_A_SECOND);
    film.assert_whole();
}

/// The server's sessions end by themselves: one viewer stays over two ends.
fn goes_on_over_two_ends(url: &str, transport: &str, codec: Codec) {
    let server = server();
    let input = json!({ "label": "main", "url": url, "priority": 0, "transport": transport });
    server.rest.post("/streams", &json!({ "source_id": 7, "rtsp_inputs": [input] })).expect(201);
    server.rest.active("7");
    let mut film = Film::of(&server, codec);
    for _ in 0..2 {
        film.watch(5);
        server.rest.stream_when("7", "not Active", |stream| stream["state"] != "Active");
        server.rest.active("7");
    }
    film.watch(2 * PICTURES_A_SECOND);
    film.assert_whole();
}

/// What one viewer saw by the WebSocket, all of it.
pub(crate) struct Film {
    viewer: Viewer,
    codec: Codec,
    sdp: String,
    packets: Vec<Packet>,
}

impl Film {
    pub(crate) fn of(server: &Server, codec: Codec) -> Self {
        let viewer = Viewer::websocket(server, "7");
        let sdp = viewer.sdp();
        Self { viewer, codec, sdp, packets: vec![] }
    }

    /// So many more pictures.
    pub(crate) fn watch(&mut self, pictures: usize) {
        let more = self.viewer.rtp_until(&format!("{pictures} more pictures"), |packets| {
            packets.iter().filter(|packet| packet.marker()).count() >= pictures
        });
        self.packets.extend(more);
    }

    /// One numbering, whole access units from a random access point on, and `ffmpeg` decodes every one of them
    /// by the description from before the first, without a word.
    pub(crate) fn assert_whole(self) {
        assert_continuous(&self.packets);
        let units = access_units(&self.packets, self.codec);
        let (last, whole) = units.split_last().expect("access units");
        assert!(whole.iter().all(|unit| unit.complete), "whole access units but for the last: {last:?}");
        assert!(units[0].is_random_access(self.codec), "{:?}", units[0]);
        // It holds a few back until it knows that they are the next.
        let decoder = Decoder::start(&with_media_port(&self.sdp, free_udp_port()), units.len() - 10);
        decoder.feed(&self.packets);
        decoder.finish();
    }
}
