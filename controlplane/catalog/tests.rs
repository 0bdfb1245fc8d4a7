//! The promises of the catalogue, with real files and a shard that keeps what it is told.

use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};

use lanecast_protocol::codec::Codec;
use lanecast_shard::{Command, Wanted};

use super::fixture::{Film, MIDNIGHT, MINUTE, Place, text, until};
use super::*;

fn spans(spans: &[Span]) -> Vec<(i64, i64)> {
    spans.iter().map(|span| (span.start_unix_ms, span.end_unix_ms)).collect()
}

#[tokio::test]
async fn a_segment_is_made_closed_and_found() {
    let place = Place::new();
    let catalog = place.open();
    let door = text("front door");
    let (segment, file) = place.begin(&catalog, &door, MIDNIGHT);
    let path = place.only_file();
    assert!(path.ends_with("2026-09-22/2026-09-22T00-00-00.000Z.mp4"), "{path:?}");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o137, 0);
    let film = Film::new(MIDNIGHT, 3);
    file.write_all_at(&film.bytes, 0).unwrap();
    file.write_all_at(b"torn", film.bytes.len() as u64).unwrap();
    catalog.close_segment(film.closed(segment));
    let mut found = place.locate(&catalog, &door, Wanted::At(MIDNIGHT + 3000)).unwrap();
    assert_eq!((found.segment, found.start_unix_ms, found.codec), (segment, MIDNIGHT, Codec::H264));
    let closed = found.closed.unwrap();
    assert_eq!(closed.keyframes, film.keyframes);
    assert_eq!((closed.end_unix_ms, closed.bytes), (film.end_unix_ms(), film.bytes.len() as u64));
    let mut bytes = Vec::new();
    found.file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, film.bytes);
    let bytes = film.bytes.len() as u64;
    assert_eq!(catalog.summary(&door), Summary { first_unix_ms: Some(MIDNIGHT), bytes, segments: 1 });
    catalog.close();
}

#[tokio::test]
async fn all_of_it_is_there_after_a_restart() {
    let place = Place::new();
    let catalog = place.open();
    for minute in 0..3 {
        place.record(&catalog, &text("a"), MIDNIGHT + minute * MINUTE, 30);
    }
    let before = catalog.timeline(&text("a"), i64::MIN, i64::MAX).await.unwrap();
    let summary = catalog.summary(&text("a"));
    catalog.close();
    assert!(!place.folder().join("catalog.sqlite-wal").exists());
    let mode = place.folder().join("catalog.sqlite").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o137, 0);
    let catalog = place.open();
    assert_eq!(catalog.timeline(&text("a"), i64::MIN, i64::MAX).await.unwrap(), before);
    assert_eq!(catalog.summary(&text("a")), summary);
    assert_eq!(summary.segments, 3);
}

#[tokio::test]
async fn what_is_written_is_found_as_open() {
    let place = Place::new();
    let catalog = place.open();
    let (segment, _file) = place.begin(&catalog, &text("a"), MIDNIGHT);
    let found = place.locate(&catalog, &text("a"), Wanted::At(MIDNIGHT + MINUTE)).unwrap();
    assert_eq!((found.segment, found.closed), (segment, None));
    assert_eq!(catalog.summary(&text("a")).first_unix_ms, Some(MIDNIGHT));
    let span = catalog.timeline(&text("a"), 0, i64::MAX).await.unwrap()[0];
    assert!(span.end_unix_ms >= MIDNIGHT && span.start_unix_ms == MIDNIGHT);
}

#[tokio::test]
async fn a_time_finds_the_segment_that_has_it_else_the_next() {
    let place = Place::new();
    let catalog = place.open();
    let camera = SourceId::Number(7);
    for start in [0, 10 * MINUTE] {
        place.record(&catalog, &camera, MIDNIGHT + start, 30);
    }
    place.record(&catalog, &SourceId::Number(8), MIDNIGHT + 30 * MINUTE, 30);
    let start = |wanted| place.locate(&catalog, &camera, wanted).map(|found| found.start_unix_ms - MIDNIGHT);
    assert_eq!(start(Wanted::At(MIDNIGHT)), Some(0));
    assert_eq!(start(Wanted::At(MIDNIGHT + MINUTE - 1)), Some(0));
    assert_eq!(start(Wanted::At(MIDNIGHT + MINUTE)), Some(10 * MINUTE));
    assert_eq!(start(Wanted::At(MIDNIGHT + 11 * MINUTE)), None);
    assert_eq!(start(Wanted::After(MIDNIGHT - 1)), Some(0));
    assert_eq!(start(Wanted::After(MIDNIGHT)), Some(10 * MINUTE));
    assert_eq!(start(Wanted::After(MIDNIGHT + 10 * MINUTE)), None);
    for time in [i64::MIN, -1, 0] {
        assert_eq!(start(Wanted::At(time)), Some(0));
        assert_eq!(start(Wanted::After(time)), Some(0));
        assert!(catalog.has(&camera, time).await.unwrap());
    }
    for time in [MIDNIGHT + 11 * MINUTE, i64::MAX] {
        assert_eq!(start(Wanted::At(time)), None);
        assert_eq!(start(Wanted::After(time)), None);
        assert!(!catalog.has(&camera, time).await.unwrap());
    }
    assert!(place.locate(&catalog, &text("unknown"), Wanted::At(MIDNIGHT)).is_none());
}

#[tokio::test]
async fn a_start_that_is_taken_never_overwrites() {
    let place = Place::new();
    let catalog = place.open();
    let first = place.record(&catalog, &text("a"), MIDNIGHT, 1);
    let (second, _file) = place.begin(&catalog, &text("a"), MIDNIGHT);
    assert_ne!(first, second);
    let day = place.only_day();
    std::fs::write(day.join("2026-09-22T00-00-00.002Z.mp4"), "of somebody else").unwrap();
    place.begin(&catalog, &text("a"), MIDNIGHT);
    assert!(day.join("2026-09-22T00-00-00.003Z.mp4").exists());
    assert_eq!(std::fs::read(day.join("2026-09-22T00-00-00.002Z.mp4")).unwrap(), b"of somebody else");
}

impl Place {
    fn only_day(&self) -> PathBuf {
        let mut days: Vec<_> = self.files().iter().map(|file| self.folder().join(file)).collect();
        days.iter_mut().for_each(|path| assert!(path.pop()));
        days.dedup();
        assert_eq!(days.len(), 1);
        days.remove(0)
    }
}

#[tokio::test]
async fn many_that_wait_get_a_file_each() {
    let place = Place::new();
    let catalog = place.open();
    for number in 0..300 {
        let source_id = SourceId::Number(number);
        catalog.open_segment(&place.shard, StreamId(number), &source_id, number, MIDNIGHT, Codec::H265);
    }
    let mut segments = std::collections::HashSet::new();
    for _ in 0..300 {
        match place.told() {
            Command::SegmentOpened { stream, ticket, result: Ok((segment, _)) } => {
                assert_eq!(stream.0, ticket);
                assert!(segments.insert(segment));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(place.files().len(), 300);
}

#[tokio::test]
async fn an_id_that_looks_like_a_path_stays_inside() {
    let place = Place::new();
    let catalog = place.open();
    for id in ["../../../escape", "/etc/passwd", "..", "a\\..\\b"] {
        place.record(&catalog, &text(id), MIDNIGHT, 1);
        assert!(place.locate(&catalog, &text(id), Wanted::At(MIDNIGHT)).is_some());
    }
    assert_eq!(place.files().len(), 4);
    let beside: Vec<_> = std::fs::read_dir(place.directory.path()).unwrap().collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
}

#[tokio::test]
async fn a_time_that_is_no_time_is_refused() {
    let place = Place::new();
    let catalog = place.open();
    for start in [-1, i64::MIN, i64::MAX] {
        let refused = place.try_begin(&catalog, &text("a"), start).unwrap_err();
        assert!(refused.contains("out of range"), "{refused}");
    }
    assert!(place.files().is_empty());
}

#[tokio::test]
async fn a_file_with_nothing_to_play_is_removed() {
    let place = Place::new();
    let catalog = place.open();
    let (segment, file) = place.begin(&catalog, &text("a"), MIDNIGHT);
    file.write_all_at(b"ftyp", 0).unwrap();
    let mut closed = Film::new(MIDNIGHT, 0).closed(segment);
    closed.bytes = 4;
    catalog.close_segment(closed);
    assert_eq!(catalog.timeline(&text("a"), 0, i64::MAX).await.unwrap(), []);
    assert!(place.files().is_empty());
    assert_eq!(catalog.summary(&text("a")), Summary::default());
}

#[tokio::test]
async fn files_that_were_moved_away_are_skipped_and_forgotten() {
    let place = Place::new();
    let catalog = place.open();
    for minute in 0..200 {
        place.record(&catalog, &text("a"), MIDNIGHT + minute * MINUTE, 30);
    }
    let files = place.files();
    for file in &files[..150] {
        std::fs::remove_file(place.folder().join(file)).unwrap();
    }
    let found = place.locate(&catalog, &text("a"), Wanted::At(MIDNIGHT)).unwrap();
    assert_eq!(found.start_unix_ms, MIDNIGHT + 150 * MINUTE);
    let left = catalog.timeline(&text("a"), i64::MIN, i64::MAX).await.unwrap();
    assert_eq!(spans(&left), [(MIDNIGHT + 150 * MINUTE, MIDNIGHT + 200 * MINUTE)]);
    assert_eq!(catalog.summary(&text("a")).segments, 50);
}

#[tokio::test]
async fn the_folder_of_a_stream_that_is_gone_loses_no_rows() {
    let place = Place::new();
    let catalog = place.open();
    place.record(&catalog, &text("a"), MIDNIGHT, 1);
    catalog.timeline(&text("a"), 0, 1).await.unwrap();
    let stream = place.only_day().parent().unwrap().to_owned();
    let away = place.directory.path().join("unmounted");
    std::fs::rename(&stream, &away).unwrap();
    let refused = place.try_locate(&catalog, &text("a"), Wanted::At(MIDNIGHT)).unwrap_err();
    assert!(refused.contains("not there any more"), "{refused}");
    std::fs::rename(&away, &stream).unwrap();
    assert!(place.locate(&catalog, &text("a"), Wanted::At(MIDNIGHT)).is_some());
}

#[tokio::test]
async fn the_damaged_are_skipped_over_a_restart_too() {
    let place = Place::new();
    let catalog = place.open();
    let first = place.record(&catalog, &text("a"), MIDNIGHT, 30);
    let second = place.record(&catalog, &text("a"), MIDNIGHT + MINUTE, 30);
    catalog.damaged(first, "a bit was flipped".into());
    catalog.damaged(SegmentId(-1), "no such".into());
    catalog.close();
    let catalog = place.open();
    let found = place.locate(&catalog, &text("a"), Wanted::At(MIDNIGHT)).unwrap();
    assert_eq!(found.segment, second);
    assert_eq!(place.files().len(), 2);
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_skipped() {
    let place = Place::new();
    let catalog = place.open();
    place.record(&catalog, &text("a"), MIDNIGHT, 30);
    catalog.timeline(&text("a"), 0, 1).await.unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(place.only_file()).unwrap();
    file.set_len(1000).unwrap();
    assert!(place.locate(&catalog, &text("a"), Wanted::At(MIDNIGHT)).is_none());
}

#[tokio::test]
async fn spans_and_gaps_of_a_range() {
    let place = Place::new();
    let catalog = place.open();
    for minute in [0, 1, 2, 10, 11] {
        place.record(&catalog, &text("a"), MIDNIGHT + minute * MINUTE, 30);
    }
    let of = async |from, to| {
        let found = catalog.timeline(&text("a"), from, to).await.unwrap();
        let minutes = |(from, to)| ((from - MIDNIGHT) / MINUTE, (to - MIDNIGHT) / MINUTE);
        spans(&found).into_iter().map(minutes).collect::<Vec<_>>()
    };
    assert_eq!(of(i64::MIN, i64::MAX).await, [(0, 3), (10, 12)]);
    assert_eq!(of(MIDNIGHT + MINUTE + 1, MIDNIGHT + 11 * MINUTE).await, [(1, 3), (10, 11)]);
    assert_eq!(of(MIDNIGHT + MINUTE - 1, MIDNIGHT + MINUTE).await, [(0, 1)]);
    assert_eq!(of(MIDNIGHT + 3 * MINUTE, MIDNIGHT + 10 * MINUTE).await, []);
    for (from, to) in [(i64::MAX, i64::MIN), (5, 5), (i64::MIN, 0), (i64::MAX - 1, i64::MAX)] {
        assert_eq!(of(from, to).await, []);
    }
    assert_eq!(catalog.timeline(&text("b"), i64::MIN, i64::MAX).await.unwrap(), []);
    let whole = catalog.timeline(&text("a"), i64::MIN, i64::MAX).await.unwrap();
    assert_eq!(whole.iter().map(|span| span.bytes).sum::<u64>(), catalog.summary(&text("a")).bytes);
}

#[tokio::test]
async fn a_range_is_removed_by_whole_segments_and_never_the_open_one() {
    let place = Place::new();
    let catalog = place.open();
    for minute in 0..30 {
        place.record(&catalog, &text("a"), MIDNIGHT + minute * MINUTE, 30);
    }
    place.record(&catalog, &text("b"), MIDNIGHT, 30);
    let (open, _file) = place.begin(&catalog, &text("a"), MIDNIGHT + 30 * MINUTE);
    let film = Film::new(MIDNIGHT, 30).bytes.len() as u64;
    let removed = |freed: Freed| (freed.segments, freed.bytes);
    let one = catalog.remove(&text("a"), MIDNIGHT + 1, MIDNIGHT + 3 * MINUTE - 1).await.unwrap();
    assert_eq!(removed(one), (1, film));
    assert_eq!(removed(catalog.remove(&text("a"), i64::MAX, i64::MIN).await.unwrap()), (0, 0));
    assert_eq!(removed(catalog.remove(&text("c"), i64::MIN, i64::MAX).await.unwrap()), (0, 0));
    let rest = catalog.remove(&text("a"), i64::MIN, i64::MAX).await.unwrap();
    assert_eq!(removed(rest), (29, 29 * film));
    assert_eq!(place.files().len(), 2);
    let found = place.locate(&catalog, &text("a"), Wanted::At(MIDNIGHT)).unwrap();
    assert_eq!(found.segment, open);
    assert_eq!(catalog.summary(&text("a")).segments, 1);
    assert_eq!(catalog.summary(&text("b")).bytes, film);
}

#[tokio::test]
async fn a_day_that_is_empty_leaves_no_folder() {
    let place = Place::new();
    let catalog = place.open();
    for day in 0..3 {
        place.record(&catalog, &text("a"), MIDNIGHT + day * 24 * 60 * MINUTE, 30);
    }
    catalog.remove(&text("a"), i64::MIN, MIDNIGHT + 25 * 60 * MINUTE).await.unwrap();
    let stream = place.only_day().parent().unwrap().to_owned();
    let days: Vec<_> =
        std::fs::read_dir(stream).unwrap().filter(|day| day.as_ref().unwrap().path().is_dir()).collect();
    assert_eq!(days.len(), 1);
}

#[tokio::test]
async fn what_is_too_old_goes_and_what_is_written_stays() {
    let mut place = Place::new();
    place.retention.age_max = Some(Duration::from_secs(3600));
    let now = recordings::now_unix_ms();
    let catalog = place.open();
    let (_open, _file) = place.begin(&catalog, &text("a"), now - 300 * MINUTE);
    for minute in [200, 199, 198, 20, 10] {
        place.record(&catalog, &text("a"), now - minute * MINUTE, 30);
    }
    until(&catalog, "three go", |catalog| catalog.summary(&text("a")).segments == 3).await;
    assert_eq!(place.files().len(), 3);
}

#[tokio::test]
async fn the_oldest_go_where_bytes_are_too_many() {
    let mut place = Place::new();
    let film = Film::new(MIDNIGHT, 30).bytes.len() as u64;
    place.retention =
        Retention { stream_bytes_max: Some(3 * film), bytes_max: Some(5 * film), ..Default::default() };
    let catalog = place.open();
    for minute in 0..8 {
        place.record(&catalog, &text("a"), MIDNIGHT + minute * MINUTE, 30);
    }
    until(&catalog, "three of a", |catalog| catalog.summary(&text("a")).segments == 3).await;
    assert_eq!(catalog.summary(&text("a")).first_unix_ms, Some(MIDNIGHT + 5 * MINUTE));
    for minute in 10..13 {
        place.record(&catalog, &text("b"), MIDNIGHT + minute * MINUTE, 30);
    }
    until(&catalog, "five in all", |catalog| catalog.summary(&text("a")).segments == 2).await;
    assert_eq!(catalog.summary(&text("b")).segments, 3);
    assert_eq!(place.files().len(), 5);
}

#[tokio::test]
async fn too_little_free_disk_takes_all_but_what_is_written() {
    let mut place = Place::new();
    place.retention.free_bytes_min = Some(u64::MAX);
    let catalog = place.open();
    let (_open, _file) = place.begin(&catalog, &text("a"), MIDNIGHT);
    for minute in 1..4 {
        place.record(&catalog, &text("a"), MIDNIGHT + minute * MINUTE, 30);
    }
    until(&catalog, "only the open one", |catalog| catalog.summary(&text("a")).segments == 1).await;
    assert_eq!(catalog.summary(&text("a")).bytes, 0);
    place.only_file();
}

#[tokio::test]
async fn a_file_that_cannot_be_removed_keeps_no_other_one() {
    let mut place = Place::new();
    place.retention.bytes_max = Some(0);
    let catalog = place.open();
    let (segment, file) = place.begin(&catalog, &text("a"), MIDNIGHT);
    let path = place.only_file();
    let film = Film::new(MIDNIGHT, 1);
    file.write_all_at(&film.bytes, 0).unwrap();
    // A folder in its place cannot be unlinked, whoever asks.
    catalog.timeline(&text("a"), 0, 1).await.unwrap();
    place.retention = Retention::default();
    catalog.close();
    let catalog = place.open();
    assert_eq!(place.locate(&catalog, &text("a"), Wanted::At(MIDNIGHT)).unwrap().segment, segment);
    catalog.close();
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    place.retention.bytes_max = Some(0);
    let catalog = place.open();
    place.record(&catalog, &text("b"), MIDNIGHT + MINUTE, 1);
    until(&catalog, "the other one goes", |catalog| catalog.summary(&text("b")).segments == 0).await;
    assert_eq!(catalog.summary(&text("a")).segments, 1);
}

#[tokio::test]
async fn a_file_that_is_moved_while_it_is_written_is_told_once() {
    let place = Place::new();
    let catalog = place.open();
    let (segment, _file) = place.begin(&catalog, &text("a"), MIDNIGHT);
    let away = place.directory.path().join("away.mp4");
    std::fs::rename(place.only_file(), away).unwrap();
    match place.told() {
        Command::SegmentLost { stream: StreamId(1), segment: lost } => assert_eq!(lost, segment),
        other => panic!("{other:?}"),
    }
    catalog.close_segment(Film::new(MIDNIGHT, 3).closed(segment));
    assert_eq!(catalog.timeline(&text("a"), 0, i64::MAX).await.unwrap(), []);
    assert!(place.told.try_recv().is_err());
    place.begin(&catalog, &text("a"), MIDNIGHT);
}

#[tokio::test]
async fn another_file_in_its_place_is_not_taken_for_it() {
    let place = Place::new();
    let catalog = place.open();
    let (_segment, _file) = place.begin(&catalog, &text("a"), MIDNIGHT);
    let path = place.only_file();
    std::fs::write(path.with_extension("x"), "other").unwrap();
    std::fs::rename(path.with_extension("x"), path).unwrap();
    assert!(matches!(place.told(), Command::SegmentLost { .. }));
}

#[tokio::test]
async fn recording_goes_on_after_the_folder_was_removed() {
    let place = Place::new();
    let catalog = place.open();
    let (segment, _file) = place.begin(&catalog, &text("a"), MIDNIGHT);
    std::fs::remove_dir_all(place.folder()).unwrap();
    assert!(matches!(place.told(), Command::SegmentLost { .. }));
    catalog.close_segment(Film::new(MIDNIGHT, 1).closed(segment));
    place.record(&catalog, &text("a"), MIDNIGHT + MINUTE, 30);
    assert!(place.locate(&catalog, &text("a"), Wanted::At(MIDNIGHT)).is_some());
    catalog.close();
    let catalog = place.open();
    assert!(place.locate(&catalog, &text("a"), Wanted::At(MIDNIGHT)).is_some());
}

#[tokio::test]
async fn what_cannot_be_made_is_told_in_a_sentence_and_leaves_nothing() {
    let place = Place::new();
    let catalog = place.open();
    place.record(&catalog, &text("a"), MIDNIGHT, 1);
    catalog.timeline(&text("a"), 0, 1).await.unwrap();
    let stream = place.only_day().parent().unwrap().to_owned();
    std::fs::write(stream.join("2026-09-23"), "a file").unwrap();
    let refused = place.try_begin(&catalog, &text("a"), MIDNIGHT + 24 * 60 * MINUTE).unwrap_err();
    assert!(refused.starts_with("a file stands where a folder should be: "), "{refused}");
    assert_eq!(catalog.summary(&text("a")).segments, 1);
    std::fs::remove_file(stream.join("2026-09-23")).unwrap();
    place.begin(&catalog, &text("a"), MIDNIGHT + 24 * 60 * MINUTE);
}

#[tokio::test]
async fn where_too_much_waits_the_shard_is_told() {
    let place = Place::new();
    let catalog = place.open();
    catalog.waiting.store(QUEUE_LENGTH, Ordering::Relaxed);
    assert_eq!(place.try_begin(&catalog, &text("a"), MIDNIGHT).unwrap_err(), "the catalogue is busy");
    assert!(place.try_locate(&catalog, &text("a"), Wanted::At(MIDNIGHT)).is_err());
    assert!(matches!(catalog.timeline(&text("a"), 0, 1).await, Err(CatalogError::Busy)));
    catalog.waiting.store(0, Ordering::Relaxed);
    place.begin(&catalog, &text("a"), MIDNIGHT);
}

#[tokio::test]
async fn what_was_asked_before_the_end_is_done() {
    let place = Place::new();
    let catalog = place.open();
    let files: Vec<_> = (0..50).map(|n| (n, place.begin(&catalog, &SourceId::Number(n), MIDNIGHT))).collect();
    for (_, (segment, file)) in &files {
        let film = Film::new(MIDNIGHT, 2);
        file.write_all_at(&film.bytes, 0).unwrap();
        catalog.close_segment(film.closed(*segment));
    }
    catalog.close();
    let catalog = place.open();
    for (number, _) in files {
        assert_eq!(catalog.summary(&SourceId::Number(number)).segments, 1);
    }
}

#[test]
fn a_folder_that_cannot_be_had_is_an_error_that_names_it() {
    let place = Place::new();
    std::fs::write(place.folder(), "a file").unwrap();
    let error = Catalog::open(place.settings()).unwrap_err().to_string();
    assert!(error.starts_with(place.folder().to_str().unwrap()), "{error}");
}

#[test]
fn a_catalogue_of_the_future_is_left_alone() {
    let place = Place::new();
    place.open().close();
    let path = place.folder().join("catalog.sqlite");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = Catalog::open(place.settings()).unwrap_err().to_string();
    assert!(error.contains("newer version"), "{error}");
    assert!(path.exists());
}

/// `SMALL_DISK`: an empty file system of a few megabytes, for this test alone (`mount -t tmpfs -o size=4m`).
#[tokio::test]
#[ignore = "needs a disk that it can fill"]
async fn a_full_disk_is_told_and_recording_resumes_when_there_is_room() {
    let disk = PathBuf::from(std::env::var("SMALL_DISK").unwrap());
    let place = Place::new();
    let settings = CatalogSettings { folder: disk.join("recordings"), retention: Retention::default() };
    let catalog = Catalog::open(settings.clone()).unwrap();
    place.record(&catalog, &text("a"), MIDNIGHT, 30);
    let (open, file) = place.begin(&catalog, &text("a"), MIDNIGHT + MINUTE);
    catalog.timeline(&text("a"), 0, 1).await.unwrap();
    let filler = disk.join("filler");
    let fill = || {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&filler).unwrap();
        for bytes in [vec![1; 4096], vec![1; 1]] {
            while std::io::Write::write(&mut &file, &bytes).is_ok() {}
        }
    };
    fill();
    let mut told = Vec::new();
    for minute in 2..200 {
        told.extend(place.try_begin(&catalog, &text("a"), MIDNIGHT + minute * MINUTE).err());
    }
    println!("{:?}", told.iter().collect::<std::collections::BTreeSet<_>>());
    assert!(told.iter().any(|reason| reason.contains("the disk is full")));
    // What is closed on a full disk is noted as soon as it can be.
    catalog.close_segment(Film::new(MIDNIGHT + MINUTE, 0).closed(open));
    drop(file);
    catalog.timeline(&text("a"), 0, 1).await.unwrap();
    std::fs::remove_file(&filler).unwrap();
    place.record(&catalog, &text("a"), MIDNIGHT + 300 * MINUTE, 30);
    catalog.close();
    let catalog = Catalog::open(settings).unwrap();
    let spans = spans(&catalog.timeline(&text("a"), i64::MIN, i64::MAX).await.unwrap());
    let minute = |n| (MIDNIGHT + n * MINUTE, MIDNIGHT + (n + 1) * MINUTE);
    assert_eq!(spans, [minute(0), minute(300)]);
    catalog.close();
}
