//! Recording on disks in trouble, and from files that are not as they were: the stream says so, whoever watches it live
//! notices nothing, and it goes on by itself when the trouble is over.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{
    Camera, Checker, RecordedFile, Recordings, Rest, Server, assert_plays, now_unix_ms, until,
};

/// A keyframe each half second.
const CAMERA: &str = "--fps 100 --stamp --seed 5";

#[test]
fn a_full_disk_is_said_and_recording_goes_on_when_there_is_room() {
    let no_minimum = ["--recording-min-free-bytes", "off"];
    let Some(server) = Server::start_on_disk(64 << 20, &no_minimum) else { return };
    let camera = Camera::start(&format!("{CAMERA} --bitrate 8M"));
    record(&server.rest, &camera.url());
    when(&server.rest, "recording");
    let watched = Watched::start(&server);
    when_longer(&server.rest, &spans(&server.rest)[0], 2000);

    let filler = server.seen_from_outside(&server.data_dir().join("recordings/filler"));
    fill(&filler);
    let reason = when_failed(&server.rest);
    assert!(reason.contains("full") || reason.contains("No space left"), "{reason}");
    watched.still_live();
    std::fs::remove_file(&filler).expect("our file");
    when(&server.rest, "recording");
    watched.still_live();
    let spans = spans(&server.rest);
    when_longer(&server.rest, &spans[spans.len() - 1], 2000);

    watched.finish();
    let recordings = Recordings::in_folder(server.seen_from_outside(server.recordings().folder()));
    let files = recordings.files(7);
    assert!(files.len() >= 2, "it goes on in a new file: {files:?}");
    files.iter().for_each(assert_whole);
    // It was short, and what waited meanwhile was not lost.
    let stamps: Vec<u64> = files.iter().flat_map(RecordedFile::stamps).map(|stamp| stamp.number).collect();
    assert!(stamps.windows(2).all(|pair| pair[1] == pair[0] + 1), "every picture, in its place: {files:?}");
}

#[test]
fn a_disk_that_turns_read_only_is_said_and_recording_goes_on_afterwards() {
    let settings = ["--recording-segment-seconds", "10", "--recording-min-free-bytes", "off"];
    let Some(server) = Server::start_on_disk(64 << 20, &settings) else { return };
    let camera = Camera::start(CAMERA);
    record(&server.rest, &camera.url());
    when(&server.rest, "recording");
    let watched = Watched::start(&server);
    let folder = server.seen_from_outside(server.recordings().folder());
    let stream = Recordings::in_folder(folder).stream_folder(&json!(7)).expect("it records");
    let stream = format!("\"$0/recordings/{}\"", stream.file_name().expect("a name").to_str().expect("text"));

    server.on_its_disks(&format!("mount --bind {stream} {stream} && mount -o remount,bind,ro {stream}"));
    let reason = when_failed(&server.rest);
    assert!(reason.contains("read-only"), "{reason}");
    watched.still_live();
    server.on_its_disks(&format!("umount {stream}"));
    when(&server.rest, "recording");
    watched.still_live();
    watched.finish();
    let recordings = Recordings::in_folder(server.seen_from_outside(server.recordings().folder()));
    recordings.files(7).iter().for_each(assert_whole);
}

#[test]
fn a_streams_folder_that_is_moved_away_is_made_anew() {
    let server = Server::start();
    let camera = Camera::start(CAMERA);
    record(&server.rest, &camera.url());
    when(&server.rest, "recording");
    let watched = Watched::start(&server);
    let recordings = server.recordings();
    when_longer(&server.rest, &spans(&server.rest)[0], 1000);
    let stream = recordings.stream_folder(&json!(7)).expect("it records");
    let away = server.data_dir().join("away");
    std::fs::create_dir(&away).expect("a folder");
    std::fs::rename(&stream, away.join("7")).expect("it moves");

    let moved_at = now_unix_ms();
    until("another file", || {
        recordings.files(7).first().filter(|file| file.start_unix_ms > moved_at - 2000).cloned()
    });
    when(&server.rest, "recording");
    watched.still_live();
    assert_eq!(lines(&server, "moved or removed"), 1, "said once");
    let spans = spans(&server.rest);
    when_longer(&server.rest, &spans[spans.len() - 1], 2000);
    watched.finish();
    let server = server.stop();
    let (recordings, moved_to) = (server.recordings(), server.data_dir().join("away"));
    let files = recordings.files(7);
    recordings.assert_agrees("7", &files);
    let moved = Recordings::in_folder(moved_to).files(7);
    assert_eq!(moved.len(), 1, "what was written before is where it was moved to");
    moved.iter().chain(&files).for_each(assert_whole);
}

#[test]
fn a_folder_of_all_recordings_that_is_gone_is_said_until_it_is_back() {
    let server = Server::start_with(&["--recording-segment-seconds", "10"]);
    let camera = Camera::start(CAMERA);
    record(&server.rest, &camera.url());
    when(&server.rest, "recording");
    let watched = Watched::start(&server);
    let folder = server.data_dir().join("recordings");
    let away = server.data_dir().join("away");
    when_longer(&server.rest, &spans(&server.rest)[0], 1000);
    std::fs::rename(&folder, &away).expect("it moves");
    // As an empty mount point that may not be written to would: nothing can be made there.
    std::fs::write(&folder, "").expect("a file");

    let reason = when_failed(&server.rest);
    assert!(reason.contains("folder"), "{reason}");
    watched.still_live();
    std::fs::remove_file(&folder).expect("our file");
    std::fs::rename(&away, &folder).expect("it moves back");
    when(&server.rest, "recording");
    watched.still_live();
    let spans = spans(&server.rest);
    when_longer(&server.rest, &spans[spans.len() - 1], 2000);
    watched.finish();
    let server = server.stop();
    let files = server.recordings().files(7);
    assert!(files.len() >= 2, "what was moved is back, too: {files:?}");
    files.iter().for_each(assert_whole);
    // Nobody told the catalogue; it finds out when it is made anew.
    server.rebuild_catalog();
    server.recordings().assert_agrees("7", &files);
}

#[test]
fn files_that_are_not_as_they_were_are_skipped_and_said_once() {
    let server = Server::start();
    let camera = Camera::start(CAMERA);
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    for _ in 0..6 {
        record_a_little(&server.rest);
    }
    switch(&server.rest, true);
    when(&server.rest, "recording");
    let recordings = server.recordings();
    let files = recordings.files(7);
    assert_eq!(files.len(), 7);
    let day = files[0].path.parent().expect("a day").to_owned();
    damage(&files, &day);

    // From before the first on: only the sixth is left, and what is written.
    let watched = Watched::start(&server);
    let session = Checker::start(&server, "7", "--transport websocket");
    let mode = post(&server.rest, &session, "seek", &json!({ "timestamp": 0 }));
    // A truncated file may still give its first pictures.
    let landed = mode["current_time_ms"].as_i64().expect("a time");
    assert!(landed <= files[5].start_unix_ms, "{mode}");
    post(&server.rest, &session, "speed", &json!({ "speed": 16 }));
    until("live by itself", || (session_mode(&server.rest, &session)["is_live"] == true).then_some(()));
    let checked = session.finish();
    assert!(checked.modes.contains(&Some(files[5].start_unix_ms)), "{:?} {files:?}", checked.modes);
    assert_eq!(checked.modes.last(), Some(&None));
    for index in [1, 2, 3] {
        let path = files[index].path.to_str().expect("text");
        let said = server.log().lines().filter(|line| line.contains(" WARN ") && line.contains(path)).count();
        assert_eq!(said, 1, "file {index} is said to be skipped once: {path}");
    }
    // Again: they are known.
    let session = Checker::start(&server, "7", "");
    post(&server.rest, &session, "seek", &json!({ "timestamp": files[1].start_unix_ms }));
    assert_eq!(session.modes_when(1), [Some(files[5].start_unix_ms)]);
    session.finish();
    watched.finish();
}

#[test]
fn a_catalogue_is_made_anew_over_files_of_every_kind() {
    let server = Server::start();
    let camera = Camera::start(CAMERA);
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    for _ in 0..7 {
        record_a_little(&server.rest);
    }
    let server = server.stop();
    let recordings = server.recordings();
    let files = recordings.files(7);
    let rows = recordings.assert_agrees("7", &files);
    // Nothing is damaged yet: what is made anew is what was.
    let said = server.rebuild_catalog();
    assert!(said.contains("7 segments are in the catalogue"), "{said}");
    for (anew, was) in recordings.assert_agrees("7", &files).iter().zip(&rows) {
        // A file's own times are finer than milliseconds.
        assert!(anew.duration_ms.abs_diff(was.duration_ms) <= 1, "{anew:?} was {was:?}");
    }

    let day = files[0].path.parent().expect("a day").to_owned();
    let foreign = damage(&files, &day);
    let said = server.rebuild_catalog();
    for path in foreign {
        let path = path.to_str().expect("text");
        assert_eq!(said.lines().filter(|line| line.contains(path)).count(), 1, "{path}: {said}");
    }
    let server = server.restart();
    let session = Checker::start(&server, "7", "");
    let mode = post(&server.rest, &session, "seek", &json!({ "timestamp": files[5].start_unix_ms }));
    assert_eq!(mode["current_time_ms"], files[5].start_unix_ms);
    until("live by itself", || (session_mode(&server.rest, &session)["is_live"] == true).then_some(()));
    session.finish();
    let server = server.stop();
    // What is left stands in the catalogue as it is, and plays.
    for row in server.recordings().rows("7") {
        assert_eq!(row.state, 0, "{row:?}");
        let file = files.iter().find(|file| file.start_unix_ms == row.start_unix_ms).expect("a file");
        assert_eq!(file.bytes(), row.bytes);
        assert_plays(&file.path);
    }
}

/// Of six or more files the first is cut, the second empty, the third overwritten, the fourth somebody else's, the fifth gone;
/// and there are more that do not belong there. Gives those that are no recording any more.
fn damage(files: &[RecordedFile], day: &Path) -> Vec<PathBuf> {
    let open = |index: usize| {
        let path: &Path = &files[index].path;
        std::fs::OpenOptions::new().write(true).open(path).expect("the file is there")
    };
    open(0).set_len(files[0].bytes() * 2 / 3).expect("it is cut");
    open(1).set_len(0).expect("it is emptied");
    // Its begin, as when a disk gives back zeros.
    open(2).write_all(&[0; 4096]).expect("it is written to");
    std::fs::write(&files[3].path, "no film\n".repeat(4000)).expect("it is written");
    std::fs::remove_file(&files[4].path).expect("it is removed");
    let notes = day.join("notes.txt");
    std::fs::write(&notes, "not a recording").expect("it is written");
    let elsewhere = day.join("2020-01-01T00-00-00.000Z.mp4");
    std::fs::write(&elsewhere, "not of this day").expect("it is written");
    vec![files[2].path.clone(), files[3].path.clone(), notes, elsewhere]
}

/// Plays, and no picture is missing in it.
fn assert_whole(file: &RecordedFile) {
    let stamps = file.stamps();
    assert!(stamps.windows(2).all(|pair| pair[1].number == pair[0].number + 1), "{file:?} has all pictures");
    assert_plays(&file.path);
}

/// One who watches live meanwhile.
struct Watched {
    checker: Checker,
}

impl Watched {
    fn start(server: &Server) -> Self {
        Self { checker: Checker::start(server, "7", "") }
    }

    /// Pictures of now come.
    #[track_caller]
    fn still_live(&self) {
        let asked = now_unix_ms();
        until("a live picture", || {
            self.checker.stamps().last().filter(|stamp| stamp.unix_ms > asked).map(|_| ())
        });
    }

    /// Not one was missing.
    #[track_caller]
    fn finish(self) {
        let checked = self.checker.finish();
        assert!(checked.modes.is_empty(), "{:?}", checked.modes);
        let all = checked.stamps.windows(2).all(|pair| pair[1].number == pair[0].number + 1);
        assert!(all, "whoever watched live got every picture");
    }
}

/// Leaves no byte of a disk.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).expect("a file");
    let bytes = vec![0x55; 64 << 10];
    while file.write_all(&bytes).is_ok() {}
}

/// Lines of its log with these words.
fn lines(server: &Server, words: &str) -> usize {
    server.log().lines().filter(|line| line.contains(" WARN ") && line.contains(words)).count()
}

fn record(rest: &Rest, url: &str) {
    rest.post("/streams", &json!({ "source_id": 7, "rtsp_url": url, "should_record": true })).expect(201);
}

fn switch(rest: &Rest, on: bool) {
    rest.patch("/streams/7", &json!({ "should_record": on })).expect(200);
}

/// A file of a fragment or two.
fn record_a_little(rest: &Rest) {
    switch(rest, true);
    when(rest, "recording");
    switch(rest, false);
    when(rest, "off");
}

/// Waits for a state of the recording.
fn when(rest: &Rest, state: &str) {
    rest.stream_when("7", state, |stream| stream["recording"]["state"] == state);
}

/// Waits for trouble, and gives its reason.
fn when_failed(rest: &Rest) -> String {
    let stream = rest.stream_when("7", "failed", |stream| stream["recording"]["state"] == "failed");
    assert_eq!(stream["state"], "Active", "live goes on: {stream}");
    stream["recording"]["reason"].as_str().expect("a reason").to_owned()
}

fn spans(rest: &Rest) -> Vec<Value> {
    let timeline = rest.get("/streams/7/recordings").expect(200).json();
    timeline["spans"].as_array().expect("spans").clone()
}

/// Waits until this span, which is written, is so much longer.
fn when_longer(rest: &Rest, span: &Value, ms: i64) {
    let end = span["end"].as_i64().expect("a time") + ms;
    until("more of it", || {
        let spans = spans(rest);
        let now = spans.iter().find(|one| one["start"] == span["start"])?;
        now["end"].as_i64().filter(|now| *now >= end).map(|_| ())
    });
}

fn post(rest: &Rest, session: &Checker, verb: &str, body: &Value) -> Value {
    rest.post(&format!("/client-session-control/{}/{verb}", session.session()), body).expect(200).json()
}

fn session_mode(rest: &Rest, session: &Checker) -> Value {
    rest.get(&format!("/client-session-control/{}/mode", session.session())).expect(200).json()
}
