//! The offline picture: what viewers of every kind get while no input gives pictures, and what must not notice.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    AccessUnit, Camera, Checker, Codec, Decoder, Packet, Server, Udp, Viewer, WhepViewer, access_units,
    assert_continuous, assert_on_time, assert_plays, free_udp_port, now_unix_ms, stamps_of_packets, until,
    with_media_port,
};

const SLATE_AFTER: Duration = Duration::from_secs(1);
/// What a busy machine may take on top, the slate's making among it.
const BUSY: Duration = Duration::from_secs(8);
/// More pictures than this a second are no slate's.
const SLATE_PACE: usize = 8;

#[test]
fn h264_viewers_see_the_slate_and_the_cameras_return_without_a_seam() {
    viewers_see_the_slate_and_the_cameras_return("h264", Codec::H264);
}

#[test]
fn h265_viewers_see_the_slate_and_the_cameras_return_without_a_seam() {
    viewers_see_the_slate_and_the_cameras_return("h265", Codec::H265);
}

fn viewers_see_the_slate_and_the_cameras_return(name: &str, codec: Codec) {
    let server = server();
    let camera = Camera::start(&format!("--codec {name} --gop-seconds 1"));
    server.rest.create("front door", &camera.url());
    server.rest.active(PATH_ID);
    let by_websocket = Viewer::websocket(&server, PATH_ID);
    let by_udp = Viewer::revision_1(&server, PATH_ID);
    let udp = Udp::open();
    let port = free_udp_port();
    let decoder = Decoder::endless(&with_media_port(&by_udp.sdp(), port));
    udp.forward(decoder.address());
    by_udp.punch(&udp, udp.port());
    // What ffmpeg learns of a stream in its first second is not to hold an outage.
    until("pictures in ffmpeg", || (decoder.decoded() > 10).then_some(()));
    let mut packets = by_websocket.rtp(60);

    let killed_at = now_unix_ms();
    let camera = camera.kill();
    let stream = slate_shown(&server, PATH_ID);
    let since = stream["slate"]["since"].as_i64().expect("a time");
    assert!((since - killed_at).abs() < BUSY.as_millis() as i64, "since {since}, killed at {killed_at}");
    assert_eq!((&stream["width"], &stream["height"]), (&json!(640), &json!(360)), "{stream}");
    assert_eq!(server.rest.metric("lanecast_stream_slate_shown"), 1.0);
    let mid_outage = joins_the_slate(&server, codec, (640, 360), &format!("slate-{name}"));
    // Nobody who watches gets more of it than a still picture needs.
    packets.extend(by_websocket.rtp_until("a few pictures a second", |packets| {
        let units = access_units(packets, codec);
        let newest = &units[units.len().saturating_sub(SLATE_PACE)..];
        newest.len() == SLATE_PACE && newest[SLATE_PACE - 1].at - newest[0].at > Duration::from_secs(1)
    }));

    let _camera = camera.restart();
    let gone = json!({ "state": "off", "since": null, "reason": null });
    server.rest.stream_when(PATH_ID, "without a slate", |stream| {
        stream["state"] == "Active" && stream["slate"] == gone
    });
    packets.extend(by_websocket.rtp(100));

    let away = assert_seamless(&packets, codec);
    eprintln!("{name}: the slate came after {away:?}");
    let so_far = udp.rtp().len();
    assert_seamless(&udp.rtp_at_least(so_far + 100), codec);
    let decoded = decoder.decoded();
    until("more decoded", || (decoder.decoded() > decoded + 15).then_some(()));
    decoder.keep_picture(&format!("slate-{name}-return")).stop();
    assert_eq!(server.rest.metric("lanecast_stream_slate_shown"), 0.0);
    assert!(by_websocket.is_open() && by_udp.is_open() && mid_outage.is_open());
}

#[test]
fn a_stream_that_was_never_up_has_a_slate_of_720p() {
    let server = server();
    let nobody = Camera::start("").kill().url();
    server.rest.create("front door", &nobody);
    slate_shown(&server, PATH_ID);

    joins_the_slate(&server, Codec::H264, (1280, 720), "slate-never-up");
    let whep = format!("http://{}/streams/{PATH_ID}/whep", server.address());
    let watched = WhepViewer::aiortc(&whep, 10).finish();

    eprintln!("the slate came by WebRTC after {} s", watched.first_picture_seconds);
    assert_eq!((watched.width, watched.height), (1280, 720), "{watched:?}");
    assert!(watched.first_picture_seconds < BUSY.as_secs_f64(), "{watched:?}");
}

#[test]
fn nothing_of_the_slate_is_recorded_and_the_timeline_has_its_gap() {
    let server = server();
    let camera = Camera::start("--gop-seconds 1 --stamp");
    server.rest.create_from(7, &[&camera.url()], true);
    recorded(&server, 1, 3000);
    let killed_at = now_unix_ms();
    let camera = camera.kill();
    slate_shown(&server, "7");
    // The outage is longer than what a span passes over.
    std::thread::sleep(Duration::from_secs(3));
    let _camera = camera.restart();
    let back_at = now_unix_ms();
    let spans = recorded(&server, 2, 3000);

    let (end, start) = (spans[0]["end"].as_i64().expect("ms"), spans[1]["start"].as_i64().expect("ms"));
    assert!((end - killed_at).abs() < 1500, "the first ends with the camera: {spans:?}, {killed_at}");
    assert!(start > back_at - 1500, "the second begins with the camera: {spans:?}, {back_at}");
    let server = server.stop();
    let files = server.recordings().files(7);
    for file in &files {
        assert_eq!(assert_plays(&file.path), file.stamps().len(), "each picture is the camera's: {file:?}");
    }
    assert!(files.len() >= 2, "{files:?}");
}

#[test]
fn a_viewer_in_the_past_does_not_see_the_slate_until_it_is_live_again() {
    let server = server();
    let camera = Camera::start("--gop-seconds 1 --stamp");
    server.rest.create_from(7, &[&camera.url()], true);
    recorded(&server, 1, 8000);
    let checker = Checker::start(&server, "7", "");
    let control = format!("/client-session-control/{}", checker.session());
    let asked = now_unix_ms() - 7000;
    server.rest.post(&format!("{control}/seek"), &json!({ "timestamp": asked })).expect(200);
    checker.modes_when(1);
    let seen = checker.stamps().len();

    let killed_at = now_unix_ms();
    let _camera = camera.kill();
    slate_shown(&server, "7");
    let live_again = until("live again, by itself", || {
        let modes = checker.modes();
        (modes.last() == Some(&None)).then_some(modes)
    });
    let checked = checker.finish();

    assert_eq!(live_again.len(), 2, "{live_again:?}");
    let past = &checked.stamps[seen..];
    let from =
        past.iter().position(|stamp| (stamp.unix_ms - asked).abs() < 1500).expect("what was asked for");
    let past = &past[from..];
    for pair in past.windows(2) {
        assert_eq!(pair[1].number, pair[0].number + 1, "every recorded picture: {pair:?}");
    }
    let last = past.last().expect("pictures").unix_ms;
    assert!((last - killed_at).abs() < 1500, "up to the camera's last: {last}, {killed_at}");
}

#[test]
fn where_it_is_off_no_slate_is_shown() {
    let server = Server::start_with(&["--source-slate-after-seconds", "off"]);
    let camera = Camera::start("--stamp");
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let viewer = Viewer::websocket(&server, "7");
    let mut packets = viewer.rtp(30);
    let camera = camera.kill();
    server.rest.stream_when("7", "not Active", |stream| stream["state"] != "Active");
    std::thread::sleep(3 * SLATE_AFTER);

    assert_eq!(server.rest.stream("7")["slate"]["state"], "off");
    let _camera = camera.restart();
    server.rest.active("7");
    packets.extend(viewer.rtp(60));
    let units = access_units(&packets, Codec::H264);
    assert_eq!(server.rest.metric("lanecast_stream_slate_access_units_total"), 0.0);
    let stamped = stamps_of_packets(&packets).len();
    // The last one's stamp may have come without its end, and an SEI message may be its first packet alone.
    assert!(units.len().abs_diff(stamped) <= 1, "each picture is the camera's: {stamped} of {}", units.len());
}

#[test]
fn a_slate_that_cannot_be_made_says_which_package_is_missing_and_nothing_else_suffers() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (nothing, registry) = (folder.path().join("plugins"), folder.path().join("registry"));
    std::fs::create_dir(&nothing).expect("a folder");
    let server = Server::start_in_environment(
        &[
            ("GST_PLUGIN_PATH", &nothing),
            ("GST_PLUGIN_PATH_1_0", &nothing),
            ("GST_PLUGIN_SYSTEM_PATH", &nothing),
            ("GST_PLUGIN_SYSTEM_PATH_1_0", &nothing),
            ("GST_REGISTRY", &registry),
            ("GST_REGISTRY_1_0", &registry),
        ],
        &["--source-slate-after-seconds", "1"],
    );
    let (camera, other) = (Camera::start("--stamp"), Camera::start("--stamp --gop-seconds 1"));
    server.rest.create(7, &camera.url());
    server.rest.create_from(8, &[&other.url()], true);
    server.rest.active("7");
    server.rest.active("8");
    let (viewer, others) = (Viewer::websocket(&server, "7"), Viewer::websocket(&server, "8"));
    let mut packets = viewer.rtp(30);
    let camera = camera.kill();

    let stream =
        server.rest.stream_when("7", "without a slate", |stream| stream["slate"]["state"] == "failed");

    let reason = stream["slate"]["reason"].as_str().expect("words");
    assert!(reason.contains("missing, install gstreamer1.0-"), "{reason}");
    eprintln!("{reason}");
    let watched = others.rtp_until("the other stream goes on", |rtp| stamps_of_packets(rtp).len() > 60);
    assert_continuous(&watched);
    let _camera = camera.restart();
    server.rest.stream_when("7", "well again", |stream| {
        stream["state"] == "Active" && stream["slate"]["state"] == "off" && stream["state_reason"].is_null()
    });
    packets.extend(viewer.rtp(60));
    assert_continuous(&packets);
    assert_eq!(server.rest.metric("lanecast_stream_slate_access_units_total"), 0.0);
}

/// The stream of the id "front door".
const PATH_ID: &str = "front%20door";

fn server() -> Server {
    Server::start_with(&["--source-slate-after-seconds", &SLATE_AFTER.as_secs().to_string()])
}

fn slate_shown(server: &Server, path_id: &str) -> Value {
    server.rest.stream_when(path_id, "with a slate", |stream| stream["slate"]["state"] == "shown")
}

/// Who joins during the outage gets the slate at once, from its keyframe on, and can decode it.
#[track_caller]
fn joins_the_slate(server: &Server, codec: Codec, size: (u32, u32), name: &str) -> Viewer {
    let joined = Instant::now();
    let viewer = Viewer::websocket(server, PATH_ID);
    let sdp = viewer.sdp();
    let enough = |packets: &[Packet]| access_units(packets, codec).len() > 15;
    let packets = viewer.rtp_until("fifteen pictures of the slate", enough);
    assert_continuous(&packets);
    let units = access_units(&packets, codec);
    eprintln!("{name}: who joins has its first picture after {:?}", units[0].at - joined);
    assert!(units[0].at - joined < BUSY / 2, "at once: {:?}", units[0].at - joined);
    assert!(units[0].is_random_access(codec), "{:?}", units[0]);
    let decoder = Decoder::start_slow(&with_media_port(&sdp, free_udp_port()), 10);
    let decoder = decoder.showing_words().keep_picture(name);
    decoder.feed(&packets);
    let decoded = decoder.finish();
    assert_eq!((decoded.width, decoded.height), size);
    viewer
}

/// Continuous and on time; gives the longest time without a picture.
#[track_caller]
fn assert_seamless(packets: &[Packet], codec: Codec) -> Duration {
    assert_continuous(packets);
    let units = access_units(packets, codec);
    assert_on_time(&units);
    let away = |pair: &[AccessUnit]| pair[1].at - pair[0].at;
    let longest = units.windows(2).map(away).max().expect("two access units");
    assert!(longest < SLATE_AFTER + BUSY, "without a picture for {longest:?}");
    longest
}

/// Waits until so many spans are recorded, the last so long.
fn recorded(server: &Server, count: usize, ms: i64) -> Vec<Value> {
    until(&format!("{count} spans, the last of {ms} ms"), || {
        let timeline = server.rest.get("/streams/7/recordings").expect(200).json();
        let spans = timeline["spans"].as_array()?.clone();
        let last = spans.last()?;
        let length = last["end"].as_i64()? - last["start"].as_i64()?;
        (spans.len() == count && length >= ms).then_some(spans)
    })
}
