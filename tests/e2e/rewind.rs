//! Live-rewind by WSC-RTP, judged by `lanecast-viewer`: whatever a session is told, its sequence numbers and timestamps go
//! on as if nothing were. In the browser: `rewind_browser.rs`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Camera, Checker, Random, Rest, Server, Stamp, now_unix_ms, until};

/// A keyframe a second.
const CAMERA: &str = "--fps 50 --stamp --seed 9";
const GOP_MS: i64 = 1000;
const GOP: u64 = 50;
/// How far the time that the server tells of a picture may be from when it was sent, on a busy machine.
const LATE_MS: i64 = 500;
const SPEEDS: [f64; 5] = [0.0, 0.25, 1.0, 4.0, 16.0];
/// How old a live picture may be.
const LIVE_MS: i64 = 3000;

#[test]
fn sessions_of_both_codecs_and_transports_go_back_fast_still_and_live_again() {
    let server = Server::start_with(&["--recording-segment-seconds", "10"]);
    let camera = Camera::start(&format!("--count 2 --codec both {CAMERA}"));
    for number in 0..2 {
        record(&server.rest, number, &camera.url_of(number));
    }
    // Where a file ends and the next begins.
    let boundaries = [0, 1].map(|number| {
        until("a second file", || Some(server.recordings().files(number).get(1)?.start_unix_ms))
    });
    for (number, boundary) in boundaries.into_iter().enumerate() {
        when_recorded_up_to(&server.rest, number, boundary + 8000);
    }
    let sessions: Vec<(Session, i64)> = [(0, "udp"), (0, "websocket"), (1, "udp"), (1, "websocket")]
        .into_iter()
        .map(|(number, transport)| (Session::start(&server, number, transport), boundaries[number]))
        .collect();
    let each =
        |step: &dyn Fn(&Session, i64)| sessions.iter().for_each(|(one, boundary)| step(one, *boundary));

    each(&|session, boundary| {
        let landed = session.seeks(boundary - 3000);
        assert!(landed < boundary);
    });
    each(&|session, boundary| session.when_past(boundary - 2500));
    each(&|session, _| session.set_speed(4.0));
    each(&|session, boundary| session.when_past(boundary + 1000));
    each(&|session, _| {
        session.set_speed(0.0);
        let still = session.position();
        assert_eq!(session.mode()["speed"], 0.0);
        assert_eq!(session.position(), still, "it is paused");
    });
    each(&|session, _| {
        session.set_speed(1.0);
        session.when_past(session.position() + 500);
    });
    each(&|session, boundary| {
        session.seeks(boundary - 500);
    });
    each(&|session, boundary| session.when_past(boundary + 500));
    each(&|session, _| session.live());
    each(&|session, _| session.when_pictures_are_live());

    for (session, boundary) in sessions {
        let (first, second) = (session.landed()[0], session.landed()[1]);
        let checked = session.checker.finish();
        assert_eq!(checked.modes, [Some(first), Some(second), None]);
        let [live, back, again] = parts(&checked.stamps)[..] else {
            panic!("two jumps back: {:?}", parts(&checked.stamps));
        };
        assert!(no_hole(live), "nothing is missing live");
        for (part, landed) in [(back, first), (again, second)] {
            let off = part[0].unix_ms - landed;
            // From the keyframe of the promised picture on.
            assert!(
                (-GOP_MS - 100..LATE_MS).contains(&off),
                "it begins with the promised picture's GOP: {off} ms"
            );
            let to_boundary = part.iter().take_while(|stamp| stamp.unix_ms < boundary - LATE_MS).count();
            assert!(to_boundary > 0 && part.len() > to_boundary, "it goes over the boundary of files");
        }
        // Four times as fast: keyframes alone.
        assert!(holes(back).iter().all(|(_, next)| next.number % GOP == 0), "{:?}", holes(back));
        assert!(holes(back).len() <= 8, "as long as it was fast: {:?}", holes(back));
        assert_eq!(holes(again).len(), 1, "one leap, to live: {:?}", holes(again));
    }
}

#[test]
fn what_a_camera_did_not_send_is_skipped_and_said() {
    let server = Server::start();
    let mut camera = Camera::start(CAMERA);
    record(&server.rest, 7, &camera.url());
    let first = when_recording(&server.rest, 7);
    when_recorded_up_to(&server.rest, 7, first + 4000);
    let gone = camera.kill();
    server.rest.stream_when("7", "waiting", |stream| stream["recording"]["state"] == "waiting");
    let in_the_gap = now_unix_ms();
    std::thread::sleep(Duration::from_secs(1));
    camera = gone.restart();
    let gap = until("a gap", || {
        let timeline = server.rest.get("/streams/7/recordings").expect(200).json();
        let gap = &timeline["gaps"][0];
        Some((gap["start"].as_i64()?, gap["end"].as_i64()?))
    });
    assert!(gap.0 < in_the_gap && in_the_gap < gap.1, "{gap:?} {in_the_gap}");
    when_recorded_up_to(&server.rest, 7, gap.1 + 6000);

    let session = Session::start(&server, 7, "udp");
    // Over it, at its pace.
    let landed = session.seeks(gap.0 - 1500);
    session.when_past(gap.1 + 500);
    assert_eq!(session.checker.modes_when(2), [Some(landed), Some(gap.1)]);
    // Into it, and before all there is.
    assert_eq!(session.seek(in_the_gap), gap.1);
    assert_eq!(session.seek(first - 100_000), first);
    assert_eq!(session.seek(-5), first);
    // Up to the live edge, as fast as can be.
    session.set_speed(16.0);
    until("live by itself", || (session.mode()["is_live"] == true).then_some(()));
    let modes = session.checker.modes_when(7);
    assert_eq!(modes[2..], [Some(gap.1), Some(first), Some(first), Some(gap.1), None]);
    session.when_pictures_are_live();
    session.checker.finish();
    drop(camera);
}

#[test]
fn another_codec_begins_another_span_and_is_played_across() {
    let server = Server::start();
    let camera = Camera::start(&format!("--codec h264 {CAMERA}"));
    record(&server.rest, 7, &camera.url());
    let first = when_recording(&server.rest, 7);
    when_recorded_up_to(&server.rest, 7, first + 3000);
    let _camera = camera.kill().restart_as(&format!("--codec h265 {CAMERA}"));
    let spans = until("two spans", || {
        let timeline = server.rest.get("/streams/7/recordings").expect(200).json();
        timeline["spans"].as_array().filter(|spans| spans.len() == 2).cloned()
    });
    assert_eq!((&spans[0]["codec"], &spans[1]["codec"]), (&json!("H264"), &json!("H265")));
    let second = spans[1]["start"].as_i64().expect("a time");
    when_recorded_up_to(&server.rest, 7, second + 5000);

    let session = Session::start(&server, 7, "websocket");
    session.seeks(spans[0]["end"].as_i64().expect("a time") - 1500);
    session.when_past(second + 500);
    session.live();
    session.when_pictures_are_live();
    let checked = session.checker.finish();
    let past = parts(&checked.stamps)[1];
    let (before, after): (Vec<Stamp>, Vec<Stamp>) =
        past.iter().partition(|stamp| stamp.unix_ms < second - LATE_MS);
    assert!(
        before.len() > 50 && after.len() > 25,
        "pictures of both codecs: {} {}",
        before.len(),
        after.len()
    );
}

#[test]
fn what_cannot_be_played_is_refused_and_the_session_plays_on() {
    let server = Server::start();
    let camera = Camera::start(CAMERA);
    record(&server.rest, 7, &camera.url());
    let first = when_recording(&server.rest, 7);
    when_recorded_up_to(&server.rest, 7, first + 3000);
    let session = Session::start(&server, 7, "websocket");

    let refused = |verb: &str, body: Value, status: u16, code: &str| {
        let answer = session.post(verb, &body).expect(status);
        assert_eq!(answer.error_code(), code, "{verb} {body}: {answer:?}");
    };
    for times in [json!(now_unix_ms() + 3_600_000), json!(1e300), json!(i64::MAX), json!(u64::MAX)] {
        refused("seek", json!({ "timestamp": times }), 404, "not_recorded");
    }
    for times in [json!("NaN"), json!(null), json!([1]), json!({}), json!(true), json!("-Infinity")] {
        refused("seek", json!({ "timestamp": times }), 400, "invalid_field");
    }
    refused("seek", json!({}), 400, "missing_field");
    refused("seek", json!([]), 400, "invalid_field");
    refused("speed", json!({ "speed": 4 }), 409, "session_is_live");
    let path = format!("/client-session-control/{}/seek", session.checker.session());
    for text in ["", "{", "{\"timestamp\": NaN}", "{\"timestamp\": 1e999}", "\u{0}"] {
        let code = server.rest.post_text(&path, "application/json", text).expect(400).error_code();
        assert!(["malformed_json", "invalid_field"].contains(&code.as_str()), "{text}: {code}");
    }
    assert_eq!(session.mode(), json!({ "is_live": true, "current_time_ms": null, "speed": 1.0 }));
    assert_eq!(session.checker.modes(), [], "it was never told of a switch");
    session.when_pictures_are_live();

    // In the past as well.
    let landed = session.seeks(first + 1000);
    refused("seek", json!({ "timestamp": now_unix_ms() + 3_600_000 }), 404, "not_recorded");
    refused("speed", json!({ "speed": -1 }), 422, "speed_not_supported");
    for speed in [json!(0.1), json!(17), json!(1e9), json!(1e-9), json!("NaN"), json!(null), json!("1")] {
        refused("speed", json!({ "speed": speed }), 400, "invalid_field");
    }
    assert_eq!(session.mode()["speed"], 1.0);
    session.when_past(landed + 500);
    assert_eq!(session.checker.modes(), [Some(landed)]);
    // Twice is once.
    session.live();
    session.live();
    session.when_pictures_are_live();
    let checked = session.checker.finish();
    assert_eq!(checked.modes, [Some(landed), None]);
    let [live, back] = parts(&checked.stamps)[..] else { panic!("one jump back: {:?}", checked.modes) };
    assert!(no_hole(live), "nothing that was refused cost a live picture");
    assert_eq!(holes(back).len(), 1, "one leap, to live: {:?}", holes(back));
}

#[test]
fn a_stream_that_is_not_recorded_cannot_be_rewound() {
    let server = Server::start();
    let camera = Camera::start(CAMERA);
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let session = Session::start(&server, 7, "udp");
    let answer = session.post("seek", &json!({ "timestamp": now_unix_ms() - 1000 })).expect(404);
    assert_eq!(answer.error_code(), "not_recorded");
    session.when_pictures_are_live();
    assert!(session.checker.finish().modes.is_empty());
}

#[test]
fn a_viewer_that_cannot_decide_breaks_nothing() {
    let server = Server::start_with(&["--recording-segment-seconds", "10"]);
    let camera = Camera::start(CAMERA);
    record(&server.rest, 7, &camera.url());
    let first = when_recording(&server.rest, 7);
    when_recorded_up_to(&server.rest, 7, first + 12_000);
    let sessions = [Session::start(&server, 7, "udp"), Session::start(&server, 7, "websocket")];
    let quiet = Checker::start(&server, "7", "");
    let mut random = Random::new(0x5eed);
    for _ in 0..150 {
        let session = &sessions[random.below(2) as usize];
        let answer = match random.below(6) {
            0 => session.post("live", &json!({})),
            1 => session.post("speed", &json!({ "speed": SPEEDS[random.below(5) as usize] })),
            2 => session
                .post("seek", &json!({ "timestamp": now_unix_ms() - random.below(1500).cast_signed() })),
            _ => {
                let back = random.below((now_unix_ms() - first).cast_unsigned());
                session.post("seek", &json!({ "timestamp": first + back.cast_signed() }))
            }
        };
        assert!([200, 409].contains(&answer.status), "{answer:?}");
        std::thread::sleep(Duration::from_millis(random.below(120)));
    }
    for session in sessions {
        session.live();
        session.when_pictures_are_live();
        assert_eq!(session.checker.finish().modes.last().copied().flatten(), None, "live is the last word");
    }
    assert!(no_hole(&quiet.finish().stamps), "another viewer notices nothing");
}

/// A viewer and what it was told.
struct Session {
    checker: Checker,
    rest: Rest,
    landed: std::cell::RefCell<Vec<i64>>,
}

impl Session {
    fn start(server: &Server, number: usize, transport: &str) -> Self {
        let checker = Checker::start(server, &number.to_string(), &format!("--transport {transport}"));
        Self { checker, rest: server.rest.clone(), landed: Default::default() }
    }

    fn post(&self, verb: &str, body: &Value) -> Answer {
        self.rest.post(&format!("/client-session-control/{}/{verb}", self.checker.session()), body)
    }

    fn mode(&self) -> Value {
        self.rest.get(&format!("/client-session-control/{}/mode", self.checker.session())).expect(200).json()
    }

    /// Where it is in the past.
    fn position(&self) -> i64 {
        let mode = self.mode();
        mode["current_time_ms"].as_i64().unwrap_or_else(|| panic!("not in the past: {mode}"))
    }

    /// Gives where it landed.
    fn seek(&self, unix_ms: i64) -> i64 {
        let mode = self.post("seek", &json!({ "timestamp": unix_ms })).expect(200).json();
        assert_eq!(mode["is_live"], false, "{mode}");
        let landed = mode["current_time_ms"].as_i64().expect("a time");
        self.landed.borrow_mut().push(landed);
        landed
    }

    /// To a time that is recorded: the nearest keyframe at or before.
    fn seeks(&self, unix_ms: i64) -> i64 {
        let landed = self.seek(unix_ms);
        assert!(
            (unix_ms - GOP_MS - 100..=unix_ms).contains(&landed),
            "asked for {unix_ms}, landed at {landed}"
        );
        landed
    }

    fn landed(&self) -> Vec<i64> {
        self.landed.borrow().clone()
    }

    fn set_speed(&self, speed: f64) {
        let mode = self.post("speed", &json!({ "speed": speed })).expect(200).json();
        assert_eq!((&mode["is_live"], mode["speed"].as_f64()), (&json!(false), Some(speed)), "{mode}");
    }

    fn live(&self) {
        let mode = self.post("live", &json!({})).expect(200).json();
        assert_eq!(mode, json!({ "is_live": true, "current_time_ms": null, "speed": 1.0 }));
    }

    #[track_caller]
    fn when_past(&self, unix_ms: i64) {
        until(&format!("{unix_ms} on the screen"), || (self.position() >= unix_ms).then_some(()));
    }

    /// Waits for another picture that was just sent.
    #[track_caller]
    fn when_pictures_are_live(&self) {
        let asked = now_unix_ms();
        until("a live picture", || {
            let newest = self.checker.stamps().last()?.unix_ms;
            (newest > asked && newest > now_unix_ms() - LIVE_MS).then_some(())
        });
    }
}

/// What was seen between jumps back.
fn parts(stamps: &[Stamp]) -> Vec<&[Stamp]> {
    stamps.chunk_by(|one, next| next.unix_ms >= one.unix_ms).collect()
}

/// Neighbours between which pictures are missing.
fn holes(stamps: &[Stamp]) -> Vec<(Stamp, Stamp)> {
    let pairs = stamps.windows(2).filter(|pair| pair[1].number != pair[0].number + 1);
    pairs.map(|pair| (pair[0], pair[1])).collect()
}

fn no_hole(stamps: &[Stamp]) -> bool {
    holes(stamps).is_empty()
}

fn record(rest: &Rest, number: usize, url: &str) {
    let body = json!({ "source_id": number, "rtsp_url": url, "should_record": true });
    rest.post("/streams", &body).expect(201);
}

/// Gives the time of the first picture.
fn when_recording(rest: &Rest, number: usize) -> i64 {
    let is_recording = |stream: &Value| stream["recording"]["state"] == "recording";
    let stream = rest.stream_when(&number.to_string(), "recording", is_recording);
    stream["recording_start_time"].as_i64().expect("a time")
}

fn when_recorded_up_to(rest: &Rest, number: usize, unix_ms: i64) {
    until(&format!("a recording up to {unix_ms}"), || {
        let timeline = rest.get(&format!("/streams/{number}/recordings")).expect(200).json();
        let end = timeline["spans"].as_array()?.last()?["end"].as_i64()?;
        (end >= unix_ms).then_some(())
    });
}
