//! Outages as people have them on the wall: the player page in Chromium, and an ffmpeg that plays, over a camera that is
//! away and another that stands in for it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    Camera, Decoder, GstServer, PlayerPage, Server, Udp, Viewer, free_udp_port, until, with_media_port,
};

const TIMES: [&str; 6] = [
    "--source-silence-timeout-seconds",
    "2",
    "--source-return-after-seconds",
    "3",
    "--source-slate-after-seconds",
    "1",
];
/// What a busy machine may take before the next picture is shown.
const BUSY: Duration = Duration::from_secs(8);

#[test]
fn chromium_and_ffmpeg_play_on_through_an_outage_a_failover_and_the_return() {
    let server = Server::start_with(&TIMES);
    let (first, second) = (GstServer::start("--size 320x240"), GstServer::start("--size 640x360"));
    let second = second.kill();
    server.rest.create_from("wall 7", &[&first.url(), &second.url()], false);
    // By default a better camera that was away for long is tried twice a minute.
    server.rest.patch(&format!("/streams/{PATH_ID}"), &json!({ "restart_interval_secs": 1 })).expect(200);
    server.rest.active_by(PATH_ID, "input 1");
    let ffmpeg = Ffmpeg::start(&server);
    let page = PlayerPage::open(&server, &format!("?stream={PATH_ID}&autoplay=1"));
    let mut seen = Seen::of(&page);
    seen.goes_on(&page, &ffmpeg, "before the outage", (320, 240));
    page.picture("outage-1-before").assert_is_test_picture();

    // Both away.
    let killed = Instant::now();
    let first = first.kill();
    server.rest.stream_when(PATH_ID, "with a slate", |stream| stream["slate"]["state"] == "shown");
    let pictures = seen.decoded;
    page.when("decoding the slate", |view| decoded(view) > pictures + 10);
    eprintln!("the slate is on the screen {:?} after the camera went, at the latest", killed.elapsed());
    seen.goes_on(&page, &ffmpeg, "by the slate", (320, 240));
    assert_eq!(page.picture("outage-2-slate").bars(0.45), "", "no test picture");
    page.keep("outage-2-slate-page");
    while killed.elapsed() < outage() {
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(page.view()["state"], "playing", "{:#}", page.view());
    }
    seen.goes_on(&page, &ffmpeg, "by the slate to its end", (320, 240));

    // The second comes.
    let second = second.restart();
    server.rest.active_by(PATH_ID, "input 2");
    seen.goes_on(&page, &ffmpeg, "by the second", (640, 360));
    page.picture("outage-3-second").assert_is_test_picture();

    // The first comes back, and takes over from the second.
    let first = first.restart();
    server.rest.active_by(PATH_ID, "input 1");
    seen.goes_on(&page, &ffmpeg, "back at the first", (320, 240));
    page.picture("outage-4-first").assert_is_test_picture();

    // The first goes while the second is there.
    let _first = first.kill();
    server.rest.active_by(PATH_ID, "input 2");
    seen.goes_on(&page, &ffmpeg, "at the second again", (640, 360));
    page.picture("outage-5-second").assert_is_test_picture();

    let longest = seen.longest_wait(&page);
    eprintln!(
        "{} pictures in Chromium, {} in ffmpeg; {longest:?} at most from one to the next",
        seen.decoded,
        ffmpeg.decoder.decoded()
    );
    assert!(longest < BUSY, "frozen for {longest:?}");
    ffmpeg.decoder.keep_picture("outage-ffmpeg").stop();
    assert_eq!(server.rest.stream(PATH_ID)["webrtc_sessions"], json!([seen.session]));
    drop(second);
}

#[test]
fn a_browser_that_has_no_codec_for_the_second_camera_is_told_why() {
    let server = Server::start_with(&TIMES);
    let (first, second) = (Camera::start("--codec h264"), Camera::start("--codec h265 --gop-seconds 1"));
    server.rest.create_from("wall 7", &[&first.url(), &second.url()], false);
    server.rest.active_by(PATH_ID, "input 1");
    let page = PlayerPage::open(&server, &format!("?stream={PATH_ID}&autoplay=1"));
    let session = page.when("playing", |view| view["state"] == "playing")["sessionId"].clone();

    let _first = first.kill();
    server.rest.active_by(PATH_ID, "input 2");

    let view = page.when("failed", |view| view["state"] == "failed");
    let problem = view["problem"].as_str().expect("words");
    assert!(problem.contains("codec_not_offered") && problem.contains("265"), "{problem}");
    assert!(page.shown("#log").contains("The server ended the session."), "{}", page.shown("#log"));
    let id = session.as_str().expect("an id");
    let reason = "the stream is H265 now, the session was made for H264";
    until("word of why", || {
        server.log().lines().any(|line| line.contains(id) && line.contains(reason)).then_some(())
    });
    assert_eq!(server.rest.stream(PATH_ID)["webrtc_sessions"], json!([]));
}

/// The stream of the id "wall 7".
const PATH_ID: &str = "wall%207";

/// ffmpeg as a viewer by WSC-RTP.
struct Ffmpeg {
    decoder: Decoder,
    viewer: Viewer,
    /// Takes the packets and passes them on.
    _udp: Udp,
}

impl Ffmpeg {
    fn start(server: &Server) -> Self {
        let viewer = Viewer::revision_1(server, PATH_ID);
        let udp = Udp::open();
        let decoder = Decoder::endless(&with_media_port(&viewer.sdp(), free_udp_port()));
        udp.forward(decoder.address());
        viewer.punch(&udp, udp.port());
        Self { decoder, viewer, _udp: udp }
    }

    #[track_caller]
    fn goes_on(&self, what: &str) {
        let before = self.decoder.decoded();
        until(&format!("ffmpeg decodes, {what}"), || (self.decoder.decoded() > before + 10).then_some(()));
        assert!(self.viewer.is_open(), "{what}");
    }
}

/// What must not change in the browser.
struct Seen {
    session: Value,
    ssrc: Value,
    decoded: u64,
}

impl Seen {
    fn of(page: &PlayerPage) -> Self {
        let view = page.when("playing with figures", |view| {
            view["state"] == "playing" && decoded(view) > 0 && view["stats"]["ssrc"].is_u64()
        });
        page.run(
            "window.waited = { longest: 0 };
            const shown = (now) => {
                if (waited.last) waited.longest = Math.max(waited.longest, now - waited.last);
                waited.last = now;
                document.getElementById('video').requestVideoFrameCallback(shown);
            };
            document.getElementById('video').requestVideoFrameCallback(shown);",
        );
        Self {
            session: view["sessionId"].clone(),
            ssrc: view["stats"]["ssrc"].clone(),
            decoded: decoded(&view),
        }
    }

    #[track_caller]
    fn goes_on(&mut self, page: &PlayerPage, ffmpeg: &Ffmpeg, what: &str, size: (u64, u64)) {
        let view = page.when(&format!("decoding at {size:?}, {what}"), |view| {
            let stats = &view["stats"];
            decoded(view) > self.decoded + 10
                && (&stats["width"], &stats["height"]) == (&json!(size.0), &json!(size.1))
        });
        assert_eq!(
            (&view["sessionId"], &view["stats"]["ssrc"]),
            (&self.session, &self.ssrc),
            "{what}: {view}"
        );
        assert_eq!(
            (&view["attempts"], &view["stats"]["packetsLost"], &view["state"]),
            (&json!(1), &json!(0), &json!("playing")),
            "{what}: {view}"
        );
        self.decoded = decoded(&view);
        ffmpeg.goes_on(what);
    }

    /// From one picture on the screen to the next.
    fn longest_wait(&self, page: &PlayerPage) -> Duration {
        Duration::from_secs_f64(page.run("return waited.longest").as_f64().expect("ms") / 1e3)
    }
}

fn decoded(view: &Value) -> u64 {
    view["stats"]["framesDecoded"].as_u64().unwrap_or(0)
}

/// A minute or so in a check by hand, less where every commit is tested.
fn outage() -> Duration {
    let seconds = std::env::var("LANECAST_WATCH_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(6))
}
