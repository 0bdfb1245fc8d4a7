//! Live-rewind as its user has it: the player page in Chromium, and the time of day in the pictures to tell which
//! moment is on the screen.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{ClockReading, GstServer, PlayerPage, Server, until};

/// The camera of the clock: a keyframe a second.
const CLOCK: &str = "--clock --size 640x360 --fps 15 --key-interval 15";
const GOP: Duration = Duration::from_secs(1);
/// How old a live picture may be on a busy machine, and how much the page's clock may be beside the picture's.
const LATE: Duration = Duration::from_secs(3);

#[test]
fn one_session_goes_back_fast_still_and_live_again() {
    let (server, _camera) = recorded_camera();
    let page = playing(&server);
    let mut seen = Seen::of(&page);
    page.clock_when("near now", is_live);
    when_recorded(&server, back() + Duration::from_secs(5));

    // Back.
    let asked = page.go_to(now() - back());
    let reading = page.clock_when("what was asked for", |reading| asked.is_at(reading));
    seen.goes_on(&page, "back in time");
    page.keep("rewind-back");
    assert!(is_near(&page, page.clock_when("at any time", |_| true)), "{reading:?} {}", page.view());

    // Faster.
    page.click("#speeds button[data-speed='4']");
    page.when("four times as fast", |view| view["timeline"]["mode"]["speed"] == 4.0);
    let before = page.clock_when("at any time", |_| true);
    let after = page
        .clock_when("three seconds on", |reading| reading.picture_unix_ms >= before.picture_unix_ms + 3000);
    let speed = speed(before, after);
    assert!((1.5..12.0).contains(&speed), "{speed} times as fast: {before:?} {after:?}");
    seen.goes_on(&page, "four times as fast");

    // Still.
    page.click("#speeds button[data-speed='0']");
    page.when("paused", |view| view["state"] == "paused");
    let still = still(&page);
    assert!(!is_live(still), "the live edge was reached: {still:?}");
    std::thread::sleep(Duration::from_secs(1));
    let later = page.clock().expect("a clock");
    assert_eq!(later.picture_unix_ms, still.picture_unix_ms, "it is paused");
    assert!(is_near(&page, later), "{later:?} {}", page.view());
    page.keep("rewind-paused");

    // On.
    page.click("#speeds button[data-speed='0']");
    let on = page.clock_when("moving", |reading| reading.picture_unix_ms > still.picture_unix_ms);
    assert!(on.picture_unix_ms < still.picture_unix_ms + 5000, "it goes on where it was: {still:?} {on:?}");
    page.when("playing", |view| view["state"] == "playing" && view["timeline"]["mode"]["speed"] == 1.0);
    seen.goes_on(&page, "playing on");

    // Further back, by a button.
    page.click("#jumps button[data-seconds='-10']");
    page.clock_when("ten seconds back", |reading| reading.picture_unix_ms + 5000 < on.picture_unix_ms);
    seen.goes_on(&page, "further back");

    // Live.
    page.click("#live");
    page.clock_when("near now again", is_live);
    page.when("live", |view| view["timeline"]["mode"]["is_live"] == true);
    seen.goes_on(&page, "live again");
    page.keep("rewind-live");
    assert_eq!(server.rest.stream("7")["webrtc_sessions"], json!([page.view()["sessionId"]]));

    // What is live has no speed.
    page.click("#speeds button[data-speed='4']");
    let view = page.when("refused in words", |view| view["timeline"]["problem"].is_string());
    assert!(page.shown("#timeline-problem").contains("session_is_live"), "{view}");
    seen.goes_on(&page, "live as before");
}

#[test]
fn a_session_may_begin_in_the_past() {
    let (server, _camera) = recorded_camera();
    when_recorded(&server, Duration::from_secs(12));
    let page = PlayerPage::open(&server, "?stream=7");
    page.when("a timeline", is_drawn);

    let asked = page.go_to(now() - Duration::from_secs(10));
    page.clock_when("what was asked for", |reading| asked.is_at(reading));
    let view = page.view();
    assert_eq!(
        (&view["attempts"], &view["timeline"]["mode"]["is_live"]),
        (&json!(1), &json!(false)),
        "{view}"
    );

    let mut seen = Seen::of(&page);
    page.click("#live");
    page.clock_when("near now", is_live);
    seen.goes_on(&page, "live");
}

#[test]
fn a_session_that_was_ended_goes_on_where_it_was() {
    let (server, _camera) = recorded_camera();
    let page = playing(&server);
    when_recorded(&server, Duration::from_secs(12));
    let asked = page.go_to(now() - Duration::from_secs(10));
    page.clock_when("what was asked for", |reading| asked.is_at(reading));
    page.click("#speeds button[data-speed='0']");
    page.when("paused", |view| view["state"] == "paused");
    let still = still(&page);

    let session = page.view()["sessionId"].as_str().expect("an id").to_owned();
    server.rest.delete(&format!("/client-session-control/{session}")).expect(204);

    page.when("another session", |view| view["sessionId"].is_string() && view["sessionId"] != *session);
    let again = page.clock_when("moving", |reading| reading.picture_unix_ms > still.picture_unix_ms);
    assert!(again.picture_unix_ms < still.picture_unix_ms + 5000, "{still:?} {again:?}");
    assert_eq!(page.view()["attempts"], 2);
}

#[test]
fn what_is_recorded_can_be_seen_while_the_camera_is_gone() {
    let (server, camera) = recorded_camera();
    let page = playing(&server);
    when_recorded(&server, Duration::from_secs(12));
    let gone_at = now();
    let _camera = camera.kill();
    server.rest.stream_when("7", "not Active", |stream| stream["state"] != "Active");

    let asked = page.go_to(gone_at - Duration::from_secs(10));
    page.clock_when("what was asked for", |reading| asked.is_at(reading));
    page.when("playing", |view| view["state"] == "playing" && view["problem"].is_null());
}

#[test]
fn a_stream_that_is_not_recorded_says_so_and_plays() {
    let server = Server::start();
    let camera = GstServer::start(CLOCK);
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let page = playing(&server);
    page.when("explained", |view| view["timeline"]["note"] == "This stream is not recorded.");
    assert_eq!(page.run("return document.getElementById('timeline-body').checkVisibility()"), false);
    page.clock_when("near now", is_live);
    assert_eq!(page.browser.console(), Vec::<String>::new());
}

/// A moment that the page was told to go to.
struct Asked {
    timestamp: Duration,
    at: Duration,
}

impl Asked {
    /// It begins at the keyframe at or before, and plays at its speed.
    fn is_at(&self, reading: ClockReading) -> bool {
        let picture = Duration::from_millis(reading.picture_unix_ms);
        let passed = Duration::from_millis(reading.read_at_unix_ms).saturating_sub(self.at);
        // A frame and a rounding on both sides.
        let slack = Duration::from_millis(500);
        (self.timestamp - GOP - slack..=self.timestamp + passed + slack).contains(&picture)
    }
}

impl PlayerPage {
    /// By the form of the page, which has whole seconds.
    fn go_to(&self, unix_time: Duration) -> Asked {
        let timestamp = Duration::from_secs(unix_time.as_secs());
        let at = now();
        let script =
            "const local = new Date(arguments[0] - new Date(arguments[0]).getTimezoneOffset() * 60_000);
            const input = document.getElementById('go-to-time');
            input.value = local.toISOString().slice(0, 19);
            input.form.requestSubmit();";
        self.browser.run(script, &[json!(timestamp.as_millis() as u64)]);
        Asked { timestamp, at }
    }

    fn click(&self, selector: &str) {
        self.browser.run("document.querySelector(arguments[0]).click()", &[json!(selector)]);
    }
}

/// What must not change however the session jumps: one SSRC, nothing lost, and pictures that keep coming.
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
        Self {
            session: view["sessionId"].clone(),
            ssrc: view["stats"]["ssrc"].clone(),
            decoded: decoded(&view),
        }
    }

    #[track_caller]
    fn goes_on(&mut self, page: &PlayerPage, what: &str) {
        let first = decoded(&page.view()).max(self.decoded);
        let view = page.when(&format!("decoding, {what}"), |view| decoded(view) > first);
        assert_eq!(
            (&view["sessionId"], &view["stats"]["ssrc"]),
            (&self.session, &self.ssrc),
            "{what}: {view}"
        );
        assert_eq!(
            (&view["attempts"], &view["stats"]["packetsLost"]),
            (&json!(1), &json!(0)),
            "{what}: {view}"
        );
        self.decoded = decoded(&view);
    }
}

fn decoded(view: &Value) -> u64 {
    view["stats"]["framesDecoded"].as_u64().unwrap_or(0)
}

/// A server that records the camera of the clock.
fn recorded_camera() -> (Server, GstServer) {
    let server = Server::start();
    let camera = GstServer::start(CLOCK);
    let stream = json!({ "source_id": 7, "rtsp_url": camera.url(), "should_record": true });
    server.rest.post("/streams", &stream).expect(201);
    server.rest.active("7");
    (server, camera)
}

fn playing(server: &Server) -> PlayerPage {
    let page = PlayerPage::open(server, "?stream=7&autoplay=1");
    page.when("playing", |view| view["state"] == "playing");
    page
}

/// Waits while the camera is recorded for so long in one span.
fn when_recorded(server: &Server, time: Duration) {
    for seconds in 1..=time.as_secs() {
        until(&format!("{seconds} s of recording"), || {
            let timeline = server.rest.get("/streams/7/recordings").expect(200).json();
            let span = timeline["spans"].as_array()?.last()?.clone();
            let length = span["end"].as_u64()?.saturating_sub(span["start"].as_u64()?);
            (length >= 1000 * seconds).then_some(())
        });
    }
}

fn is_drawn(view: &Value) -> bool {
    view["timeline"]["spans"].as_array().is_some_and(|spans| !spans.is_empty())
}

/// The picture that a paused page stops at, when those under way have come.
fn still(page: &PlayerPage) -> ClockReading {
    let mut first: Option<ClockReading> = None;
    page.clock_when("still", |reading| {
        let since = first.filter(|first| first.picture_unix_ms == reading.picture_unix_ms);
        let since = *first.insert(since.unwrap_or(reading));
        reading.read_at_unix_ms - since.read_at_unix_ms >= 500
    })
}

fn is_live(reading: ClockReading) -> bool {
    reading.age() < LATE
}

/// Whether the time that the page tells is the picture's.
fn is_near(page: &PlayerPage, reading: ClockReading) -> bool {
    let told = page.view()["timeline"]["positionMs"].as_f64().expect("a time");
    (told - reading.picture_unix_ms as f64).abs() < LATE.as_millis() as f64
}

/// Media time by real time.
fn speed(before: ClockReading, after: ClockReading) -> f64 {
    let media = after.picture_unix_ms - before.picture_unix_ms;
    media as f64 / (after.read_at_unix_ms - before.read_at_unix_ms) as f64
}

/// How far back: a minute in a check by hand, less where every commit is tested.
fn back() -> Duration {
    Duration::from_secs(if std::env::var_os("LANECAST_WATCH_SECONDS").is_some() { 60 } else { 20 })
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}
