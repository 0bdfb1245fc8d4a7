//! Inputs by FFmpeg, end to end: what is not RTSP reaches viewers of both kinds like any camera, goes away and comes
//! back like one, and is refused where it must be.

use serde_json::json;

use crate::harness::{
    AccessUnit, Checker, Clip, Codec, Film, GstServer, HttpFolder, Packet, RtmpServer, Sender, Server,
    Viewer, WhepViewer, access_units, assert_in_real_time, assert_plays, until,
};

/// Of all clips here.
const RATE: usize = 15;

mod playing {
    use super::*;

    #[test]
    fn rtmp() {
        let Some(rtmp) = RtmpServer::start("x") else { return };
        let server = Server::start();
        plays(&server, &rtmp.url(), Codec::H264);
        plays_by_webrtc(&server);
    }

    #[test]
    fn srt_in_h264() {
        let sender = Sender::srt(Codec::H264, None);
        let server = Server::start();
        plays(&server, sender.url(), Codec::H264);
        plays_by_webrtc(&server);
    }

    #[test]
    fn srt_in_h265_with_a_passphrase() {
        let sender = Sender::srt(Codec::H265, Some("a-good-passphrase"));
        plays(&Server::start(), sender.url(), Codec::H265);
    }

    #[test]
    fn hls_that_is_live() {
        let folder = HttpFolder::live_hls(Codec::H264);
        let server = Server::start();
        plays(&server, &folder.list_url(), Codec::H264);
        plays_by_webrtc(&server);
    }

    #[test]
    fn mpeg_ts_by_http() {
        let sender = Sender::http(Codec::H264);
        plays(&Server::start(), sender.url(), Codec::H264);
    }

    #[test]
    fn mpeg_ts_by_udp() {
        for codec in [Codec::H264, Codec::H265] {
            let sender = Sender::udp(codec);
            plays(&Server::start(), sender.url(), codec);
        }
    }

    #[test]
    fn rtsp_by_ffmpeg() {
        for (codec, name) in [(Codec::H264, "h264"), (Codec::H265, "h265")] {
            let camera = GstServer::start(&format!("--codec {name} --fps {RATE}"));
            let server = Server::start();
            plays(&server, &format!("{}?via=ffmpeg", camera.url()), codec);
            assert_eq!(server.threads(THREAD), 1, "it is read by FFmpeg");
        }
    }
}

/// A WSC-RTP viewer's pictures are whole, decode, and come in real time and at the right rate.
fn plays(server: &Server, url: &str, codec: Codec) {
    server.rest.create(7, url);
    server.rest.active("7");
    let mut film = Film::of(server, "7", codec);
    film.watch(6 * RATE);
    assert_in_real_time(&film.assert_whole(), RATE);
}

/// A browser's peer decodes the same stream.
fn plays_by_webrtc(server: &Server) {
    let url = format!("http://{}/streams/7/whep", server.address());
    let watched = WhepViewer::aiortc(&url, 40).finish();
    assert_eq!((watched.frames, watched.width, watched.height), (40, 320, 240), "{watched:?}");
}

mod files {
    use super::*;

    #[test]
    fn h264_with_b_frames_goes_round_without_a_seam() {
        let clip = Clip::encode_with_b_frames(Codec::H264, 3, "mp4");
        let server = server_of(&clip);
        server.rest.create(7, &url_of(&clip));
        server.rest.active("7");
        let units = watch_b_frames(&server);
        let back = units.windows(2).filter(|pair| is_before(pair[1].rtp_timestamp, pair[0].rtp_timestamp));
        assert!(back.count() > 2 * RATE, "the clip has B-frames");
        assert_in_real_time(&units, RATE);
    }

    #[test]
    fn h265_in_matroska_goes_round_without_a_seam() {
        let clip = Clip::encode(Codec::H265, 3, "mkv");
        let server = server_of(&clip);
        server.rest.create(7, &url_of(&clip));
        server.rest.active("7");
        let mut film = Film::of(&server, "7", Codec::H265);
        film.watch(11 * RATE);
        assert_in_real_time(&film.assert_whole(), RATE);
    }

    #[test]
    fn a_webrtc_viewer_sees_a_file() {
        let clip = Clip::encode(Codec::H264, 3, "mp4");
        let server = server_of(&clip);
        server.rest.create(7, &url_of(&clip));
        server.rest.active("7");
        plays_by_webrtc(&server);
    }

    #[test]
    fn hls_in_stock_comes_in_real_time_and_not_at_once() {
        let folder = HttpFolder::hls_in_stock(14);
        let server = Server::start();
        server.rest.create(7, &folder.list_url());
        server.rest.active("7");
        assert_in_real_time(&watch_b_frames(&server), RATE);
    }

    /// More than ten seconds of them by two viewers, by one of which they are decoded.
    fn watch_b_frames(server: &Server) -> Vec<AccessUnit> {
        let checker = Checker::start(server, "7", "--b-frames --transport websocket");
        let mut film = Film::of(server, "7", Codec::H264).with_b_frames();
        film.watch(11 * RATE);
        let file = tempfile::Builder::new().suffix(".h264").tempfile().expect("a file");
        std::fs::write(file.path(), checker.finish().film).expect("a file");
        let decoded = assert_plays(file.path());
        assert!(decoded >= 10 * RATE, "{decoded} pictures");
        film.assert_whole()
    }
}

mod away_and_back {
    use super::*;

    #[test]
    fn viewers_of_rtmp_get_the_slate_while_its_server_is_away() {
        let Some(rtmp) = RtmpServer::start("x") else { return };
        let server = Server::start_with(&["--source-silence-timeout-seconds", "3"]);
        server.rest.create(7, &rtmp.url());
        server.rest.active("7");
        let mut film = Film::of(&server, "7", Codec::H264);
        film.watch(3 * RATE);

        let rtmp = rtmp.kill();
        server.rest.stream_when("7", "not Active", |stream| stream["state"] != "Active");
        if cfg!(feature = "gstreamer") {
            server.rest.stream_when("7", "showing the slate", |stream| stream["slate"]["state"] == "shown");
            film.watch(5);
        }
        let _rtmp = rtmp.restart();
        server.rest.active("7");
        film.watch(4 * RATE);

        assert!(film.viewer.is_open());
        film.assert_whole();
    }

    #[test]
    fn an_srt_sender_that_comes_back_is_found() {
        let server = Server::start_with(&["--source-silence-timeout-seconds", "3"]);
        let sender = Sender::srt(Codec::H264, None);
        server.rest.create(7, sender.url());
        server.rest.active("7");
        let mut film = Film::of(&server, "7", Codec::H264);
        film.watch(2 * RATE);
        let sender = sender.kill();
        server.rest.stream_when("7", "not Active", |stream| stream["state"] != "Active");
        let _sender = sender.restart();
        server.rest.active("7");
        film.watch(4 * RATE);
        film.assert_whole();
    }

    #[test]
    fn a_file_stands_in_for_a_camera() {
        let clip = Clip::encode(Codec::H264, 3, "mp4");
        let folder = clip.directory().to_str().expect("UTF-8");
        let server = Server::start_with(&[
            "--source-file-folders",
            folder,
            "--source-return-after-seconds",
            "2",
            "--source-silence-timeout-seconds",
            "3",
        ]);
        let camera = GstServer::start(&format!("--codec h264 --size 320x240 --fps {RATE}"));
        let inputs = json!([
            { "label": "camera", "url": camera.url(), "priority": 0 },
            { "label": "standby", "url": url_of(&clip), "priority": 1 },
        ]);
        server.rest.post("/streams", &json!({ "source_id": 7, "rtsp_inputs": inputs })).expect(201);
        when_at(&server, "camera");
        let mut film = Film::of(&server, "7", Codec::H264);
        film.watch(2 * RATE);

        let camera = camera.kill();
        when_at(&server, "standby");
        film.watch(4 * RATE);
        let _camera = camera.restart();
        when_at(&server, "camera");
        film.watch(4 * RATE);

        assert!(film.viewer.is_open());
        film.assert_whole();
        until("the file's thread is gone", || (server.threads(THREAD) == 0).then_some(()));
    }

    fn when_at(server: &Server, label: &str) {
        server.rest.stream_when("7", &format!("Active at {label}"), |stream| {
            stream["state"] == "Active" && stream["active_input"]["label"] == label
        });
    }
}

mod like_any_camera {
    use super::*;

    #[test]
    fn rtmp_is_recorded() {
        let Some(rtmp) = RtmpServer::start("x") else { return };
        let server = Server::start();
        let body = json!({ "source_id": 7, "rtsp_url": rtmp.url(), "should_record": true });
        server.rest.post("/streams", &body).expect(201);
        server.rest.active("7");
        let mut film = Film::of(&server, "7", Codec::H264);
        film.watch(5 * RATE);
        let server = server.stop();
        let files = server.recordings().files(7);
        let samples: usize = files.iter().map(|file| file.samples().len()).sum();
        let played: usize = files.iter().map(|file| assert_plays(&file.path)).sum();
        assert_eq!(played, samples);
        assert!(played >= 4 * RATE, "{played} pictures");
    }

    #[test]
    fn on_demand_it_is_open_only_while_somebody_watches() {
        let clip = Clip::encode(Codec::H264, 3, "mp4");
        let rtmp = RtmpServer::start("x");
        let folder = clip.directory().to_str().expect("UTF-8");
        let server =
            Server::start_with(&["--source-file-folders", folder, "--source-on-demand-idle-seconds", "1"]);
        for url in [Some(url_of(&clip)), rtmp.as_ref().map(RtmpServer::url)].into_iter().flatten() {
            let body = json!({ "source_id": 7, "rtsp_url": url, "on_demand": true });
            server.rest.post("/streams", &body).expect(201);
            server.rest.stream_when("7", "waiting", |stream| stream["state"] == "Inactive");
            assert_eq!(server.threads(THREAD), 0);
            for _ in 0..2 {
                let viewer = Viewer::websocket(&server, "7");
                viewer.rtp(20);
                assert_eq!(server.threads(THREAD), 1);
                drop(viewer);
                server.rest.stream_when("7", "waiting again", |stream| stream["state"] == "Inactive");
                until("the thread is gone", || (server.threads(THREAD) == 0).then_some(()));
            }
            server.rest.delete("/streams/7").expect(204);
        }
    }

    #[test]
    fn a_stream_that_is_removed_takes_its_thread_along() {
        let clip = Clip::encode(Codec::H264, 3, "mp4");
        let server = server_of(&clip);
        for number in 1..=3 {
            server.rest.create(number, &url_of(&clip));
            server.rest.active(&number.to_string());
        }
        assert_eq!(server.threads(THREAD), 3);
        server.rest.delete("/streams/2").expect(204);
        until("its thread is gone", || (server.threads(THREAD) == 2).then_some(()));
        for number in [1, 3] {
            Viewer::websocket(&server, &number.to_string()).rtp(5);
            server.rest.delete(&format!("/streams/{number}")).expect(204);
        }
        until("all threads are gone", || (server.threads(THREAD) == 0).then_some(()));
    }

    #[test]
    fn one_more_than_the_bound_is_told_which_setting_it_is() {
        let clip = Clip::encode(Codec::H264, 3, "mp4");
        let folder = clip.directory().to_str().expect("UTF-8");
        let server =
            Server::start_with(&["--source-file-folders", folder, "--source-ffmpeg-inputs-max", "1"]);
        server.rest.create(1, &url_of(&clip));
        server.rest.active("1");
        server.rest.create(2, &url_of(&clip));
        let reason = server.rest.error_reason("2");
        assert!(reason.contains("source.ffmpeg_inputs_max"), "{reason}");
        server.rest.delete("/streams/1").expect(204);
        server.rest.active("2");
    }

    #[test]
    fn viewers_join_a_running_input_at_once() {
        let Some(rtmp) = RtmpServer::start("x") else { return };
        let server = Server::start();
        server.rest.create(7, &rtmp.url());
        server.rest.active("7");
        let first_picture = || {
            let packets = Viewer::websocket(&server, "7")
                .rtp_until("a picture", |packets| packets.last().is_some_and(Packet::marker));
            assert!(access_units(&packets, Codec::H264)[0].is_random_access(Codec::H264));
            packets.iter().map(|packet| packet.payload().to_vec()).collect::<Vec<_>>()
        };
        // Who came after another and begins with the same keyframe did not wait for one. There is one a second.
        let mut before = first_picture();
        until("two viewers of one keyframe", || {
            let picture = first_picture();
            (std::mem::replace(&mut before, picture.clone()) == picture).then_some(())
        });
    }
}

/// A server that may read the clip.
fn server_of(clip: &Clip) -> Server {
    Server::start_with(&["--source-file-folders", clip.directory().to_str().expect("UTF-8")])
}

fn url_of(clip: &Clip) -> String {
    format!("file://{}", clip.path().display())
}

fn is_before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

/// How the threads of inputs are named.
const THREAD: &str = "input-";
