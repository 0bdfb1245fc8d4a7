//! Recording by the real server: what is on the disk after kills, after a camera came and went, and after the changes of
//! every day. Disks in trouble and files that are damaged are in `recording_faults.rs`.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Camera, Checker, Chromium, GstServer, Random, RecordedFile, Rest, Sample, Server, Stamp, assert_all_play,
    assert_plays, now_unix_ms, until,
};

/// Fifty pictures a GOP, so a fragment each half second.
const QUICK_GOPS: &str = "--fps 100 --stamp --seed 4";
const GOP_MS: i64 = 500;
/// What a busy machine may be behind.
const LATE_MS: i64 = 1000;

#[test]
fn a_hundred_kills_cost_the_open_fragment_each_and_nothing_else() {
    let camera = Camera::start(&format!("--count 2 --codec both {QUICK_GOPS}"));
    let mut server = Server::start();
    for number in 0..STREAMS {
        record(&server, number, &camera.url_of(number));
    }
    let mut random = Random::new(0x1d87_2b41);
    let mut kills = vec![];
    for kill in 0..100 {
        // Some come while it mends what the one before left.
        if kill % 10 == 9 {
            std::thread::sleep(Duration::from_millis(random.below(300)));
        } else {
            when_all_record(&server);
            std::thread::sleep(Duration::from_millis(50 + random.below(1150)));
            kills.push(now_unix_ms());
        }
        server = server.crash_and_restart();
    }
    when_all_record(&server);
    for number in 0..STREAMS {
        when_span_is(&server, &number.to_string(), Duration::from_secs(3));
        seek_about(&server, number, &mut random);
    }

    let server = server.stop();
    let recordings = server.recordings();
    for number in 0..STREAMS {
        let files = recordings.files(number);
        recordings.assert_agrees(&number.to_string(), &files);
        let pictures = files.iter().map(assert_nothing_missing).sum::<usize>();
        assert_eq!(assert_all_play(&files), pictures, "every picture that was written");
        assert_lost_at_kills(&files, &kills);
    }
}

const STREAMS: usize = 2;

/// Each picture that the camera sent while the file was written is in it; gives their number.
#[track_caller]
fn assert_nothing_missing(file: &RecordedFile) -> usize {
    let stamps = file.stamps();
    for pair in stamps.windows(2) {
        assert_eq!(pair[1].number, pair[0].number + 1, "a picture is missing in {file:?}: {pair:?}");
    }
    let begin = stamps.first().unwrap_or_else(|| panic!("no picture in {file:?}"));
    let late = file.start_unix_ms - begin.unix_ms;
    assert!((-LATE_MS..LATE_MS).contains(&late), "{file:?} tells its start as it was: {late} ms late");
    stamps.len()
}

/// The newest picture that is there from before each kill is not older than a fragment.
fn assert_lost_at_kills(files: &[RecordedFile], kills: &[i64]) {
    let mut sent: Vec<i64> = files.iter().flat_map(RecordedFile::stamps).map(|stamp| stamp.unix_ms).collect();
    sent.sort_unstable();
    let lost = |kill: &i64| kill - sent[sent.partition_point(|sent| sent < kill) - 1];
    let mut lost: Vec<i64> = kills.iter().map(lost).collect();
    lost.sort_unstable();
    let (median, most) = (lost[lost.len() / 2], lost[lost.len() - 1]);
    eprintln!("lost at {} kills: median {median} ms, at most {most} ms", kills.len());
    assert!(most <= 2000 + LATE_MS, "a kill costs the open fragment at most: {lost:?}");
    assert!(median <= GOP_MS + LATE_MS / 2, "a kill costs the open fragment at most: {lost:?}");
}

/// Plays from a few moments of a stream's recordings, of the last life and any other.
fn seek_about(server: &Server, number: usize, random: &mut Random) {
    let timeline = server.rest.get(&format!("/streams/{number}/recordings")).expect(200).json();
    let spans = timeline["spans"].as_array().expect("spans").clone();
    let checker = Checker::start(server, &number.to_string(), "--transport websocket");
    for seek in 0..5 {
        let index = if seek == 0 { spans.len() - 1 } else { random.below(spans.len() as u64) as usize };
        let time = |name: &str| spans[index][name].as_i64().expect("a time");
        let (start, end) = (time("start"), time("end"));
        let asked = start + random.below((end - start).max(1).cast_unsigned()).cast_signed();
        let seen = checker.stamps().len();
        let landed = seek_to(&server.rest, checker.session(), asked);
        // A span has gaps of up to a second; what is shown there comes after it.
        let near = asked - GOP_MS - 100..=asked + 1000;
        assert!(near.contains(&landed), "asked for {asked}, landed at {landed}");
        until("word of it, and pictures from there", || {
            let near = |stamp: &Stamp| (stamp.unix_ms - landed).abs() < LATE_MS;
            (checker.modes().contains(&Some(landed)) && checker.stamps()[seen..].iter().any(near))
                .then_some(())
        });
    }
    checker.finish();
}

#[test]
fn h264_over_two_camera_restarts_is_played_without_complaint() {
    over_camera_restarts("h264");
}

#[test]
fn h265_over_two_camera_restarts_is_played_without_complaint() {
    over_camera_restarts("h265");
}

/// Ten minutes in a check by hand, with files of a minute; less where every commit is tested.
fn over_camera_restarts(codec: &str) {
    let watched = watched_seconds();
    let part = Duration::from_secs(watched.map_or(12, |seconds| seconds / 3));
    let segment = if watched.is_some() { "60" } else { "10" };
    let server = Server::start_with(&["--recording-segment-seconds", segment]);
    let mut camera = GstServer::start(&format!("--codec {codec} --clock --size 320x240 --fps 15"));
    record(&server, 7, &camera.url());
    for restart in [true, true, false] {
        when_recorded_for(&server, "7", part);
        if restart {
            let gone = camera.kill();
            server.rest.stream_when("7", "waiting", |stream| stream["recording"]["state"] == "waiting");
            camera = gone.restart();
            when_recording(&server.rest, "7");
        }
    }
    let server = server.stop();
    let recordings = server.recordings();
    let files = recordings.files(7);
    assert!(files.len() >= 6, "files of {segment} s and one more a camera: {files:?}");
    let rows = recordings.assert_agrees("7", &files);
    let mut before = i64::MIN;
    for (file, row) in files.iter().zip(rows) {
        assert_monotonic(file, row.duration_ms);
        assert_tells_the_time(file);
        assert!(before <= file.start_unix_ms, "files do not overlap: {before}, {file:?}");
        before = row.start_unix_ms + row.duration_ms;
    }
    let pictures: usize = files.iter().map(|file| assert_plays(&file.path)).sum();
    assert_eq!(assert_all_play(&files), pictures);
}

fn watched_seconds() -> Option<u64> {
    std::env::var("LANECAST_WATCH_SECONDS").ok()?.parse().ok()
}

/// Times rise, and the catalogue tells the whole length.
fn assert_monotonic(file: &RecordedFile, duration_ms: i64) {
    let samples = file.samples();
    assert!(samples[0].keyframe, "a file begins with a keyframe");
    assert!(samples[0].pts.abs() < 0.001, "a file's time begins at 0: {:?}", samples[0]);
    for pair in samples.windows(2) {
        let [one, next] = pair else { unreachable!() };
        assert!(next.dts > one.dts, "decode times rise: {pair:?} in {file:?}");
        assert!((one.pts - one.dts).abs() < 0.001, "no B-frames, no offset: {one:?} in {file:?}");
    }
    let last = samples[samples.len() - 1];
    let last_ms = (last.pts * 1000.0) as i64;
    // The file has the camera's pace, the catalogue the time of day: it is slewed, by so much as the start was wrong.
    assert!(
        (last_ms - 100..last_ms + 500).contains(&duration_ms),
        "the last picture is at {last_ms} ms, the catalogue tells {duration_ms}"
    );
}

/// At its end, a file's start and its media time make the wall clock that the pictures show.
fn assert_tells_the_time(file: &RecordedFile) {
    let samples = file.samples();
    let shown = file.burnt_in_times((320, 240));
    assert_eq!(shown.len(), samples.len(), "every picture of {file:?} shows its time");
    let error =
        |(sample, shown): (&Sample, &i64)| file.start_unix_ms + (sample.pts * 1000.0).round() as i64 - shown;
    let mut errors: Vec<i64> = samples.iter().zip(&shown).map(error).rev().take(15).collect();
    errors.sort_unstable();
    // The machine may be busy while one picture is made; not while all of a second are.
    let median = errors[errors.len() / 2];
    eprintln!("{}: {median} ms beside the wall clock at the end, {errors:?}", file.path.display());
    // A camera's reports take a while to be trusted.
    let bound = if watched_seconds().is_some() { 100 } else { 200 };
    assert!(median.abs() <= bound, "{median} ms beside the wall clock: {errors:?}");
}

#[test]
fn a_camera_with_b_frames_is_recorded_in_its_order() {
    let server = Server::start();
    let camera = GstServer::start("--b-frames 2 --fps 30 --key-interval 30");
    record(&server, 7, &camera.url());
    when_recorded_for(&server, "7", Duration::from_secs(6));
    let server = server.stop();
    let files = server.recordings().files(7);
    let mut shown_late = 0;
    for file in &files {
        let samples = file.samples();
        assert_eq!(assert_plays(&file.path), samples.len());
        assert!(samples.windows(2).all(|pair| pair[0].dts < pair[1].dts), "decode times rise");
        assert!(
            samples.iter().all(|sample| sample.pts >= sample.dts),
            "nothing is shown before it is decoded"
        );
        shown_late += samples.windows(2).filter(|pair| pair[0].pts > pair[1].pts).count();
        let mut shown: Vec<f64> = samples.iter().map(|sample| sample.pts).collect();
        shown.sort_by(f64::total_cmp);
        assert!(shown.windows(2).all(|pair| pair[1] - pair[0] > 0.001), "one picture at a time: {shown:?}");
    }
    assert!(shown_late > 30, "the camera sends B-frames: {shown_late}");
}

#[test]
fn vlc_and_chromium_play_a_file_that_is_done_and_one_that_is_written() {
    let server = Server::start_with(&["--recording-segment-seconds", "10"]);
    let camera = GstServer::start("--fps 15 --key-interval 15 --size 320x240");
    record(&server, 7, &camera.url());
    let files = until("a second file with pictures", || {
        let files = server.recordings().files(7);
        (files.len() == 2 && files[1].bytes() > 50_000).then_some(files)
    });
    let browser = Chromium::start();
    for file in &files {
        let (frames, complaints) = by_vlc(&file.path);
        assert!(frames >= 15, "VLC decodes {file:?}: {frames} pictures, {complaints}");
        let played = by_chromium(&browser, &file.path);
        assert!(played["error"].is_null(), "{file:?}: {played}");
        assert_eq!((&played["width"], &played["height"]), (&json!(320), &json!(240)), "{played}");
        assert!(played["pictures"].as_u64() >= Some(5), "Chromium shows {file:?}: {played}");
    }
    assert_eq!(browser.console(), Vec::<String>::new());
}

/// Decodes it as VLC does, as fast as it can; pictures of 320x240 that came out, and what it said.
fn by_vlc(path: &Path) -> (usize, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (film, out) = (directory.path().join("film.mp4"), directory.path().join("pictures.yuv"));
    std::fs::copy(path, &film).expect("a copy");
    // It does not run as root: its wrapper runs it as a user who may do nothing else here.
    let is_root = std::fs::metadata("/proc/self").expect("/proc").uid() == 0;
    let mut command = Command::new(if is_root { "vlc-wrapper" } else { "vlc" });
    if is_root {
        for (path, mode) in [(directory.path(), 0o777), (&film, 0o644)] {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
        }
        command.env("SUDO_UID", NOBODY).env("SUDO_GID", NOBODY);
    }
    command.args(["-I", "dummy", "--no-audio", "--play-and-exit", "-q"]).env("HOME", directory.path());
    command.arg(format!(
        "--sout=#transcode{{vcodec=I420,acodec=none}}:std{{access=file,mux=dummy,dst={}}}",
        out.display()
    ));
    let output = command.arg(film).output().expect("vlc-bin and vlc-plugin-base are installed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let bytes = std::fs::metadata(&out).map_or(0, |out| out.len());
    (bytes as usize / (320 * 240 * 3 / 2), said)
}

const NOBODY: &str = "65534";

/// What a page with nothing but this film shows of it in two seconds.
fn by_chromium(browser: &Chromium, path: &Path) -> Value {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let page = directory.path().join("page.html");
    let film = format!(
        "<!DOCTYPE html><link rel=icon href=data:,><video muted src=\"file://{}\"></video>",
        path.display()
    );
    std::fs::write(&page, film).expect("a file");
    browser.go(&format!("file://{}", page.display()));
    let script = "const [done] = arguments;
        const video = document.querySelector('video');
        let pictures = 0;
        const tell = () => done({
            error: video.error?.message ?? null, pictures,
            width: video.videoWidth, height: video.videoHeight, time: video.currentTime,
        });
        const count = () => { pictures += 1; video.requestVideoFrameCallback(count); };
        video.requestVideoFrameCallback(count);
        video.addEventListener('error', tell);
        video.addEventListener('ended', tell);
        setTimeout(tell, 2000);
        video.play().catch(tell);";
    browser.run_async(script, &[])
}

#[test]
fn recording_is_switched_on_and_off_and_no_viewer_notices() {
    let server = Server::start();
    let camera = Camera::start(QUICK_GOPS);
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let viewers = [Checker::start(&server, "7", ""), Checker::start(&server, "7", "--transport websocket")];
    for _ in 0..3 {
        switch(&server.rest, true);
        when_recording(&server.rest, "7");
        switch(&server.rest, false);
        server.rest.stream_when("7", "off", |stream| stream["recording"]["state"] == "off");
        pause();
    }
    let timeline = timeline(&server.rest);
    assert_eq!((length(&timeline["spans"]), length(&timeline["gaps"])), (3, 2), "{timeline}");
    assert_eq!(server.rest.stream("7")["recording_start_time"], timeline["spans"][0]["start"]);
    for viewer in viewers {
        let checked = viewer.finish();
        assert!(checked.modes.is_empty(), "{:?}", checked.modes);
        let all = checked.stamps.windows(2).all(|pair| pair[1].number == pair[0].number + 1);
        assert!(all, "live viewers got every picture");
    }
    let server = server.stop();
    let files = server.recordings().files(7);
    server.recordings().assert_agrees("7", &files);
    assert_eq!(assert_all_play(&files), files.iter().map(assert_nothing_missing).sum::<usize>());
}

#[test]
fn a_range_is_removed_and_what_is_written_stays() {
    let server = Server::start();
    let camera = Camera::start(QUICK_GOPS);
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    for _ in 0..3 {
        record_a_little(&server.rest);
        pause();
    }
    switch(&server.rest, true);
    when_recording(&server.rest, "7");
    let spans = timeline(&server.rest)["spans"].clone();
    assert_eq!(length(&spans), 4, "{spans}");
    let remove =
        |from: &Value, to: &Value| server.rest.delete(&format!("/streams/7/recordings?from={from}&to={to}"));

    for (from, to) in [("5", "4"), ("NaN", "5"), ("", "5"), ("1e400", "5"), ("1", "x")] {
        let answer = server.rest.delete(&format!("/streams/7/recordings?from={from}&to={to}")).expect(400);
        assert!(["invalid_range", "invalid_query"].contains(&answer.error_code().as_str()), "{answer:?}");
        let answer = server.rest.get(&format!("/streams/7/recordings?from={from}&to={to}")).expect(400);
        assert!(["invalid_range", "invalid_query"].contains(&answer.error_code().as_str()), "{answer:?}");
    }
    assert_eq!(server.rest.delete("/streams/7/recordings").expect(400).error_code(), "invalid_query");

    // The second alone.
    let removed = remove(&json!(spans[1]["start"]), &spans[1]["end"]).expect(200).json();
    assert_eq!((&removed["segments"], &removed["bytes"]), (&json!(1), &spans[1]["bytes"]));
    assert_eq!(starts(&timeline(&server.rest)), starts_of(&spans, &[0, 2, 3]));
    // Not what is only touched.
    let inside = remove(&json!(spans[0]["start"].as_i64().unwrap() + 1), &spans[2]["end"]).expect(200).json();
    assert_eq!(inside["segments"], 1, "the third is inside, the first only touched");
    // All that there is, and years around it.
    let all = remove(&json!(-1e12), &json!(1e14)).expect(200).json();
    assert_eq!(all["segments"], 1, "the first; the one that is written stays");
    assert_eq!(starts(&timeline(&server.rest)), starts_of(&spans, &[3]));
    let years = server.rest.get("/streams/7/recordings?from=-1e300&to=1e300").expect(200).json();
    assert_eq!(starts(&years), starts_of(&spans, &[3]));
    when_span_is(&server, "7", Duration::from_secs(2));

    let server = server.stop();
    let files = server.recordings().files(7);
    assert_eq!(files.len(), 1);
    server.recordings().assert_agrees("7", &files);
    assert_nothing_missing(&files[0]);
}

#[test]
fn the_oldest_is_removed_beyond_the_bytes_of_a_stream() {
    let bound = 16_u64 << 20;
    let server = Server::start_with(&["--recording-max-bytes-per-stream", &bound.to_string()]);
    let camera = Camera::start("--fps 50 --bitrate 24M");
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let mut first = None;
    let (mut written, mut newest_unix_ms) = (0, 0);
    while written < 2 * bound {
        switch(&server.rest, true);
        let newest = until("some megabytes", || {
            let newest = server.recordings().files(7).pop()?;
            (newest.start_unix_ms > newest_unix_ms && newest.bytes() > bound / 4).then_some(newest)
        });
        newest_unix_ms = newest.start_unix_ms;
        switch(&server.rest, false);
        server.rest.stream_when("7", "off", |stream| stream["recording"]["state"] == "off");
        written += newest.bytes();
        first.get_or_insert(newest.start_unix_ms);
    }
    let stream = server.rest.stream_when("7", "within its bound", |stream| {
        stream["recording"]["bytes"].as_u64().is_some_and(|bytes| (bound / 2..=bound).contains(&bytes))
    });
    assert!(stream["recording_start_time"].as_i64() > first, "{stream}");
    let kept = stream["recording"]["bytes"].as_u64().expect("bytes");

    let server = server.stop();
    let recordings = server.recordings();
    let files = recordings.files(7);
    recordings.assert_agrees("7", &files);
    assert_eq!(files.iter().map(RecordedFile::bytes).sum::<u64>(), kept);
    assert_all_play(&files);
}

#[test]
fn an_ordered_end_loses_nothing_and_the_next_start_goes_on() {
    let server = Server::start();
    // Long GOPs: fragments are cut within them, and the end comes within one.
    let camera = Camera::start("--gop-seconds 8 --fps 25 --stamp");
    record(&server, 7, &camera.url());
    when_span_is(&server, "7", Duration::from_secs(5));
    let told = now_unix_ms();
    let server = server.stop();
    let recordings = server.recordings();
    let files = recordings.files(7);
    assert_eq!(files.len(), 1);
    recordings.assert_agrees("7", &files);
    assert_eq!(assert_plays(&files[0].path), assert_nothing_missing(&files[0]));
    let last = files[0].stamps().pop().expect("a picture").unix_ms;
    assert!(told - last < LATE_MS, "it has what came before the end: {} ms", told - last);

    let server = server.restart();
    when_recording(&server.rest, "7");
    assert_eq!(server.rest.stream("7")["recording_start_time"], files[0].start_unix_ms);
    assert_eq!(recordings.files(7).len(), 2);
}

// What the tests here have in common.

/// A stream that is recorded from the start.
fn record(server: &Server, number: usize, url: &str) {
    let body = json!({ "source_id": number, "rtsp_url": url, "should_record": true });
    server.rest.post("/streams", &body).expect(201);
}

fn switch(rest: &Rest, on: bool) {
    rest.patch("/streams/7", &json!({ "should_record": on })).expect(200);
}

/// A file of a fragment or two.
fn record_a_little(rest: &Rest) {
    switch(rest, true);
    when_recording(rest, "7");
    switch(rest, false);
    rest.stream_when("7", "off", |stream| stream["recording"]["state"] == "off");
}

/// Less is no gap in a timeline.
fn pause() {
    std::thread::sleep(Duration::from_millis(1100));
}

fn when_recording(rest: &Rest, path_id: &str) {
    rest.stream_when(path_id, "recording", |stream| stream["recording"]["state"] == "recording");
}

fn when_all_record(server: &Server) {
    until("all recording", || {
        let streams = server.rest.get("/streams").expect(200).json();
        let all = |streams: &Vec<Value>| streams.iter().all(|one| one["recording"]["state"] == "recording");
        streams["streams"].as_array().filter(|streams| all(streams)).map(|_| ())
    });
}

/// Waits until the newest span is so long.
fn when_span_is(server: &Server, path_id: &str, time: Duration) {
    until(&format!("{time:?} in one span"), || {
        let timeline = server.rest.get(&format!("/streams/{path_id}/recordings")).expect(200).json();
        let span = timeline["spans"].as_array()?.last()?.clone();
        let length = span["end"].as_i64()? - span["start"].as_i64()?;
        (length >= time.as_millis() as i64).then_some(())
    });
}

/// The same for a longer time than anything else is waited for.
fn when_recorded_for(server: &Server, path_id: &str, time: Duration) {
    for seconds in 1..=time.as_secs() {
        when_span_is(server, path_id, Duration::from_secs(seconds));
    }
}

fn timeline(rest: &Rest) -> Value {
    rest.get("/streams/7/recordings").expect(200).json()
}

fn starts(timeline: &Value) -> Vec<Value> {
    let spans = timeline["spans"].as_array().expect("spans");
    spans.iter().map(|span| span["start"].clone()).collect()
}

fn starts_of(spans: &Value, which: &[usize]) -> Vec<Value> {
    which.iter().map(|&index| spans[index]["start"].clone()).collect()
}

fn length(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}

/// Gives where it landed.
fn seek_to(rest: &Rest, session: &str, unix_ms: i64) -> i64 {
    let path = format!("/client-session-control/{session}/seek");
    let mode = rest.post(&path, &json!({ "timestamp": unix_ms })).expect(200).json();
    assert_eq!((&mode["is_live"], &mode["speed"]), (&json!(false), &json!(1.0)), "{mode}");
    mode["current_time_ms"].as_i64().expect("a time")
}
