//! A disk that is slow, full, gone and back; a catalogue that does not answer; the end.

use super::super::*;
use super::rig::{Answer, Rig, START_UNIX_MS, read_back};

fn failed(status: &RecordingStatus) -> bool {
    matches!(status, RecordingStatus::Failed(_))
}

#[test]
fn pictures_wait_for_their_file_and_none_is_lost() {
    let mut rig = Rig::new();
    assert_eq!(*rig.status(), RecordingStatus::Waiting);
    rig.opens = Answer::Later;
    rig.run(6000, 1000);
    assert_eq!(rig.asked.len(), 1);
    assert_eq!(rig.asked[0].2, START_UNIX_MS);
    assert_eq!(*rig.status(), RecordingStatus::Waiting);
    rig.answer_all();
    assert_eq!(*rig.status(), RecordingStatus::Recording);
    rig.stop();
    assert_eq!(rig.numbers().len(), 150);
    assert_eq!(*rig.status(), RecordingStatus::Off);
}

#[test]
fn an_open_that_fails_is_tried_again_after_1_s_and_up_to_10_s() {
    let mut rig = Rig::new();
    rig.opens = Answer::Error;
    rig.run(60_000, 1000);
    let times: Vec<u64> =
        rig.asked.windows(2).map(|pair| (pair[1].1 - pair[0].1).as_millis() as u64).collect();
    assert_eq!(times, [1000, 2000, 4000, 8000, 10_000, 10_000, 10_000, 10_000]);
    assert!(rig.asked.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "a new ticket each");
    assert_eq!(*rig.status(), RecordingStatus::Failed("no such folder".into()));
    assert_eq!(rig.recorder.statistics().errors, 9);
    rig.opens = Answer::Well;
    rig.run(10_000, 1000);
    assert_eq!(*rig.status(), RecordingStatus::Recording);
    rig.stop();
    assert_eq!(rig.numbers().len(), 70 * 25, "it was all in memory");
    rig.assert_sound();
}

#[test]
fn an_open_that_is_never_answered_is_tried_again_and_a_late_file_is_closed_empty() {
    let mut rig = Rig::new();
    rig.opens = Answer::Later;
    rig.run(10_000, 1000);
    assert_eq!(rig.asked.len(), 1);
    assert!(failed(rig.status()));
    rig.run(1000, 1000);
    assert_eq!(rig.asked.len(), 2);
    rig.answer_all();
    assert_eq!(rig.closed.len(), 1);
    assert_eq!((rig.closed[0].bytes, rig.closed[0].keyframes.len()), (0, 0));
    assert_eq!(*rig.status(), RecordingStatus::Recording);
    rig.opens = Answer::Well;
    rig.run(1000, 1000);
    rig.stop();
    assert_eq!(rig.numbers().len(), 12 * 25);
    rig.assert_sound();
}

#[test]
fn a_file_that_fails_is_closed_behind_its_last_whole_fragment_and_what_waits_goes_to_a_new_one() {
    for answer in [Answer::Error, Answer::Short] {
        let mut rig = Rig::new();
        rig.run(5000, 1000);
        rig.writes = answer;
        rig.run(520, 1000);
        assert!(failed(rig.status()));
        assert_eq!(rig.closed.len(), 1);
        assert_eq!(rig.closed[0].keyframes.len(), 4);
        assert_eq!(rig.closed[0].end_unix_ms, START_UNIX_MS + 4000);
        rig.writes = Answer::Well;
        rig.run(5000, 1000);
        assert_eq!(*rig.status(), RecordingStatus::Recording);
        rig.stop();
        assert_eq!(rig.closed[1].start_unix_ms, START_UNIX_MS + 4000);
        assert_eq!(rig.numbers().len() as u64, rig.number, "no picture was lost");
        assert_eq!(rig.recorder.statistics().errors, 1);
        rig.assert_sound();
    }
}

#[test]
fn the_rest_of_a_gop_whose_beginning_is_in_the_failed_file_is_dropped() {
    let mut rig = Rig::new();
    rig.run(5000, 10_000);
    rig.writes = Answer::Error;
    rig.run(0, 1);
    for _ in 0..100 {
        rig.unit(false, rig.at_ms());
        rig.pass(40);
    }
    assert_eq!(rig.recorder.statistics().dropped_gops, 1);
    rig.writes = Answer::Well;
    rig.run(5000, 10_000);
    rig.stop();
    assert_eq!(rig.closed[0].end_unix_ms, START_UNIX_MS + 4000);
    assert_eq!(rig.closed[1].start_unix_ms, START_UNIX_MS + 9000);
    rig.assert_sound();
}

#[test]
fn a_sync_that_fails_closes_the_file() {
    let mut rig = Rig::new();
    rig.run(5000, 1000);
    rig.syncs = Answer::Error;
    rig.run(2000, 1000);
    assert_eq!(rig.closed.len(), 1);
    let changes = rig.statuses.len();
    rig.run(60_000, 1000);
    assert!(failed(rig.status()));
    assert_eq!(rig.statuses.len(), changes, "though it takes writes");
    assert!(rig.closed.len() < 12, "it is tried every ten seconds");
    rig.syncs = Answer::Well;
    rig.run(20_000, 1000);
    assert_eq!(*rig.status(), RecordingStatus::Recording);
    rig.stop();
    assert_eq!(rig.numbers().len() as u64, rig.number, "no picture was lost");
    rig.assert_sound();
}

fn small_queue() -> RecorderConfig {
    // A GOP of a second has 25 pictures of 1004 bytes.
    RecorderConfig { queue_bytes_max: 10 * 25_100, ..RecorderConfig::default() }
}

#[test]
fn a_disk_that_hangs_costs_whole_gops_the_newest_and_memory_is_bounded() {
    let mut rig = Rig::with(small_queue());
    rig.picture_len = 1000;
    rig.run(3000, 1000);
    rig.writes = Answer::Later;
    for _ in 0..100 {
        rig.run(1000, 1000);
        assert!(rig.recorder.statistics().queued_bytes <= 11 * 25_100);
    }
    assert!(failed(rig.status()));
    assert_eq!(rig.recorder.statistics().dropped_gops, 103 - 12);
    rig.writes = Answer::Well;
    rig.answer_all();
    rig.run(10_000, 1000);
    assert_eq!(*rig.status(), RecordingStatus::Recording);
    rig.stop();
    assert_eq!(rig.closed.len(), 2, "one gap");
    assert_eq!(rig.closed[0].end_unix_ms, START_UNIX_MS + 12_000);
    assert_eq!(rig.closed[1].start_unix_ms, START_UNIX_MS + 103_000);
    let statistics = rig.recorder.statistics();
    assert_eq!(statistics.dropped_bytes, statistics.dropped_gops * 25_100);
    assert_eq!(statistics.queued_bytes, 0);
    rig.assert_sound();
}

#[test]
fn a_disk_at_half_the_speed_has_few_files_and_no_gop_with_a_hole() {
    let mut rig = Rig::with(small_queue());
    rig.picture_len = 1000;
    rig.writes = Answer::Later;
    rig.syncs = Answer::Later;
    for gop in 0..200 {
        rig.run(1000, 1000);
        if gop % 2 == 0 {
            rig.answer_all();
            rig.answer_all();
        }
    }
    rig.writes = Answer::Well;
    rig.syncs = Answer::Well;
    rig.answer_all();
    rig.stop();
    let statistics = rig.recorder.statistics();
    assert!(statistics.dropped_gops > 50);
    assert!(statistics.segments < 20, "{}", statistics.segments);
    assert_eq!(rig.numbers().len() as u64 + 25 * statistics.dropped_gops, rig.number);
    rig.assert_sound();
}

#[test]
fn a_disk_that_is_gone_for_minutes_is_used_again_by_itself() {
    let mut rig = Rig::with(small_queue());
    rig.picture_len = 1000;
    rig.run(10_000, 2000);
    (rig.opens, rig.writes) = (Answer::Error, Answer::Error);
    rig.run(300_000, 2000);
    assert!(failed(rig.status()));
    (rig.opens, rig.writes) = (Answer::Well, Answer::Well);
    rig.run(20_000, 2000);
    assert_eq!(*rig.status(), RecordingStatus::Recording);
    rig.stop();
    let last = rig.closed.last().expect("files");
    assert!(last.start_unix_ms <= START_UNIX_MS + 320_000);
    assert_eq!(last.end_unix_ms, START_UNIX_MS + 330_000);
    rig.assert_sound();
}

#[test]
fn a_full_disk_does_not_flicker_between_well_and_failed() {
    let mut rig = Rig::with(small_queue());
    rig.run(10_000, 2000);
    rig.writes = Answer::Error;
    let before = rig.statuses.len();
    rig.run(100_000, 2000);
    assert_eq!(rig.statuses.len(), before + 1, "{:?}", rig.statuses);
}

#[test]
fn a_file_that_is_moved_away_is_followed_by_another_at_the_next_keyframe() {
    let mut rig = Rig::new();
    rig.run(5000, 2000);
    let segment = *rig.files.keys().next().expect("a file");
    rig.lose(segment);
    assert_eq!(rig.closed[0].bytes, 0);
    assert!(rig.recorder.segment(segment).is_none());
    rig.run(5000, 2000);
    rig.stop();
    // The fragment in the making had begun with a keyframe.
    assert_eq!(rig.closed[1].start_unix_ms, START_UNIX_MS + 4000);
    assert_eq!(rig.statuses.iter().filter(|status| failed(status)).count(), 0);
    rig.assert_sound();
}

#[test]
fn a_file_that_is_moved_away_within_a_write_is_closed_behind_it() {
    let mut rig = Rig::new();
    rig.run(3000, 1000);
    rig.writes = Answer::Later;
    rig.run(2000, 1000);
    let segment = *rig.files.keys().next().expect("a file");
    rig.lose(segment);
    assert!(rig.closed.is_empty());
    rig.writes = Answer::Well;
    rig.answer_all();
    assert_eq!(rig.closed[0].bytes, 0);
    rig.run(1000, 1000);
    rig.stop();
    assert!(rig.closed[1].start_unix_ms <= START_UNIX_MS + 4000);
    assert_eq!(rig.closed[1].end_unix_ms, START_UNIX_MS + 6000);
    rig.assert_sound();
}

#[test]
fn the_rest_of_a_gop_of_a_lost_file_waits_for_a_keyframe() {
    let mut rig = Rig::new();
    rig.run(5000, 10_000);
    rig.lose(*rig.files.keys().next().expect("a file"));
    rig.unit(false, rig.at_ms());
    rig.pass(40);
    assert_eq!(rig.asked.len(), 1);
    rig.run(5000, 10_000);
    rig.stop();
    assert_eq!(rig.closed[1].start_unix_ms, START_UNIX_MS + 5040);
    rig.assert_sound();
}

#[test]
fn a_sync_comes_every_interval_if_something_was_written_and_before_the_close() {
    let interval = Some(Duration::from_secs(5));
    let mut rig = Rig::with(RecorderConfig { sync_interval: interval, ..RecorderConfig::default() });
    rig.run(61_000, 1000);
    let times: Vec<_> = rig.syncs_seen.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    assert!(times.len() >= 10);
    let regular = times.iter().filter(|time| **time >= Duration::from_secs(5)).count();
    assert_eq!(times.len() - regular, 1, "only that before the close comes early: {times:?}");
    assert_eq!(rig.closed.len(), 1);
    let count = rig.syncs_seen.len();
    rig.pass(3000);
    rig.stop();
    assert_eq!(rig.syncs_seen.len(), count + 1);
}

#[test]
fn no_interval_is_a_sync_after_every_fragment_and_none_is_never() {
    let zero = Some(Duration::ZERO);
    let mut rig = Rig::with(RecorderConfig { sync_interval: zero, ..RecorderConfig::default() });
    rig.run(10_000, 1000);
    rig.stop();
    assert_eq!(rig.syncs_seen.len(), 10);
    let mut rig = Rig::with(RecorderConfig { sync_interval: None, ..RecorderConfig::default() });
    rig.run(70_000, 1000);
    rig.stop();
    assert_eq!(rig.syncs_seen.len(), 0);
    assert_eq!(rig.closed.len(), 2);
}

#[test]
fn a_sync_is_not_put_off_by_what_waits() {
    let mut rig = Rig::new();
    rig.writes = Answer::Later;
    rig.run(20_000, 1000);
    rig.answer_all();
    assert!(matches!(rig.waiting[0], RecorderOutput::Write { .. }));
    assert_eq!(rig.syncs_seen.len(), 1, "behind the first fragment, though others wait");
}

#[test]
fn stop_writes_what_is_there() {
    let mut rig = Rig::new();
    rig.run(1520, 1000);
    assert!(!rig.recorder.is_over());
    rig.stop();
    assert!(rig.recorder.is_over());
    assert_eq!(rig.numbers().len(), 38);
    assert_eq!(rig.recorder.poll_timeout(), None);
    assert_eq!(*rig.status(), RecordingStatus::Off);
    rig.unit(true, rig.at_ms());
    assert_eq!(rig.closed.len(), 1);
}

#[test]
fn stop_of_a_recorder_without_pictures_is_over_at_once() {
    let mut rig = Rig::new();
    rig.stop();
    assert!(rig.recorder.is_over());
    assert!(rig.closed.is_empty() && rig.asked.is_empty());
}

#[test]
fn stop_with_a_disk_that_hangs_is_over_after_5_s() {
    for (opens, writes, syncs) in [
        (Answer::Well, Answer::Later, Answer::Well),
        (Answer::Well, Answer::Well, Answer::Later),
        (Answer::Later, Answer::Well, Answer::Well),
    ] {
        let mut rig = Rig::new();
        (rig.opens, rig.writes, rig.syncs) = (opens, writes, syncs);
        rig.run(5000, 1000);
        rig.stop();
        assert!(!rig.recorder.is_over());
        rig.pass(4999);
        assert!(!rig.recorder.is_over());
        rig.pass(1);
        assert!(rig.recorder.is_over());
        assert_eq!(rig.closed.len(), rig.files.len());
        rig.waiting.clear();
        rig.answer_all();
        assert_eq!(rig.closed.len(), rig.files.len(), "a file that comes even later is closed too");
    }
}

#[test]
fn stop_with_a_disk_that_fails_is_over() {
    for opens in [Answer::Error, Answer::Well] {
        let mut rig = Rig::new();
        rig.run(5000, 1000);
        (rig.opens, rig.writes) = (opens, Answer::Error);
        rig.run(2500, 1000);
        rig.stop();
        rig.pass(5000);
        assert!(rig.recorder.is_over());
        assert_eq!(rig.closed.len(), rig.files.len());
        rig.assert_sound();
    }
}

#[test]
fn a_kill_between_any_two_outputs_costs_the_open_fragment_alone() {
    // The file of a recorder that was killed, as it was after every write.
    let mut rig = Rig::new();
    for n in 0..250 {
        rig.unit(n % 25 == 0, 40 * n);
        rig.pass(40);
        let file = rig.files.values().next().expect("a file");
        let in_file: usize = read_back(file).iter().map(|fragment| fragment.pictures.len()).sum();
        assert_eq!(in_file as i64, n / 25 * 25);
    }
}

#[test]
fn a_picture_that_is_too_large_ends_its_gop() {
    let mut rig = Rig::new();
    rig.run(2520, 1000);
    rig.picture_len = 17 << 20;
    rig.unit(false, rig.at_ms());
    rig.picture_len = 100;
    rig.pass(40);
    rig.unit(false, rig.at_ms());
    rig.pass(40);
    rig.run(1000, 1000);
    rig.stop();
    assert_eq!(rig.recorder.statistics().dropped_gops, 1);
    assert_eq!(rig.numbers().len(), 88);
    rig.assert_sound();
}

#[test]
fn pictures_out_of_order_without_end_do_not_fill_the_memory() {
    let mut rig = Rig::new();
    rig.unit(true, 1000);
    for n in 0..10_000 {
        rig.unit(false, 999 - n % 900);
    }
    rig.stop();
    assert!(rig.numbers().len() <= 4096);
    rig.assert_sound();
}
