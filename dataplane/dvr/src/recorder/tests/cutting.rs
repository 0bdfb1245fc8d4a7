//! Where files and fragments begin and end, and the times in them.

use super::super::*;
use super::rig::{Rig, START_UNIX_MS, Seen, SeenFragment, read_back, sets};
use crate::segment::Place;

/// The decode time of each fragment is the end of that before it.
#[track_caller]
fn assert_sums_up(fragments: &[SeenFragment]) {
    assert_eq!(fragments[0].header.base_decode_90k, 0);
    for (n, pair) in fragments.windows(2).enumerate() {
        assert_eq!(pair[0].end_90k(), pair[1].header.base_decode_90k, "fragment {n}");
        assert_eq!(pair[1].header.sequence_number, pair[0].header.sequence_number + 1);
    }
}

fn in_order(mut pictures: Vec<Seen>) -> Vec<Seen> {
    pictures.sort_by_key(|picture| picture.time_90k);
    pictures
}

#[test]
fn each_gop_is_a_fragment_and_durations_sum_up() {
    let mut rig = Rig::new();
    rig.run(10_000, 1000);
    rig.stop();
    let fragments = rig.fragments(0);
    assert_eq!(fragments.len(), 10);
    assert_sums_up(&fragments);
    assert_eq!(fragments[9].end_90k(), 900_000, "the last picture lasts as long as the others");
    for (n, picture) in rig.pictures(0).into_iter().enumerate() {
        let (sync, n) = (n % 25 == 0, n as i64);
        assert_eq!(
            picture,
            Seen { number: n as u64, time_90k: 3600 * n, unix_ms: START_UNIX_MS + 40 * n, sync }
        );
    }
    let closed = &rig.closed[0];
    assert_eq!((closed.start_unix_ms, closed.end_unix_ms), (START_UNIX_MS, START_UNIX_MS + 10_000));
    assert_eq!(closed.keyframes.len(), 10);
}

#[test]
fn short_gops_are_a_fragment_each() {
    let mut rig = Rig::new();
    rig.run(10_000, 200);
    rig.stop();
    assert_eq!(rig.fragments(0).len(), 50);
    assert_sums_up(&rig.fragments(0));
    rig.assert_sound();
}

#[test]
fn long_gops_are_cut_to_two_seconds_and_the_pieces_are_no_keyframes() {
    let mut rig = Rig::new();
    rig.run(30_000, 10_000);
    rig.stop();
    let fragments = rig.fragments(0);
    assert_eq!(fragments.len(), 15);
    assert!(fragments.iter().all(|fragment| fragment.header.duration_90k() == 180_000));
    assert_sums_up(&fragments);
    assert_eq!(rig.closed[0].keyframes.len(), 3);
}

#[test]
fn no_fragment_is_longer_than_two_seconds_at_any_rate_of_pictures() {
    for interval_ms in [7, 40, 333, 700, 1999] {
        let mut rig = Rig::new();
        for n in 0..200 {
            rig.unit(n % 100 == 0, n * interval_ms);
            rig.pass(interval_ms as u64);
        }
        rig.stop();
        for n in 0..rig.files.len() {
            assert_sums_up(&rig.fragments(n));
            assert!(rig.fragments(n).iter().all(|fragment| fragment.header.duration_90k() <= 180_000));
        }
        assert_eq!(rig.numbers().len(), 200);
        rig.assert_sound();
    }
}

/// Pictures of 25 a second, each group in this order (numbers of pictures from the group's first), a keyframe each `groups`.
fn run_reordered(rig: &mut Rig, order: &[i64], groups: i64, count: i64) {
    let len = order.len() as i64;
    let mut shown = 0;
    for group in 0..count {
        let keyframe = group % groups == 0;
        if keyframe {
            rig.unit(true, 40 * shown);
            rig.pass(40);
            shown += 1;
        }
        for picture in order {
            rig.unit(false, 40 * (shown + picture));
            rig.pass(40);
        }
        shown += len;
    }
}

#[test]
fn b_pictures_are_shown_when_the_camera_said() {
    for order in [&[2, 0, 1][..], &[3, 1, 0, 2], &[7, 3, 1, 0, 2, 5, 4, 6]] {
        for groups in [1, 5, 100] {
            let mut rig = Rig::new();
            run_reordered(&mut rig, order, groups, 100);
            rig.stop();
            let fragments = rig.fragments(0);
            assert_sums_up(&fragments);
            assert!(fragments.iter().all(|fragment| fragment.header.duration_90k() <= 180_000));
            let shown = in_order(rig.pictures(0));
            for (n, picture) in shown.iter().enumerate() {
                assert_eq!(picture.time_90k, 3600 * n as i64);
            }
            for pair in shown.windows(2) {
                assert!((25..=55).contains(&(pair[1].unix_ms - pair[0].unix_ms)), "{pair:?}");
            }
            for fragment in &fragments {
                let offsets = fragment.header.samples.iter().map(|sample| sample.composition_offset_90k);
                assert_eq!(offsets.sum::<i32>(), 0, "within the fragment");
            }
            assert_eq!(rig.numbers().len() as u64, rig.number);
            rig.assert_sound();
        }
    }
}

#[test]
fn a_fragment_of_b_pictures_is_cut_in_front_of_none_of_them() {
    let mut rig = Rig::new();
    run_reordered(&mut rig, &[2, 0, 1], 1000, 100);
    rig.stop();
    let fragments = rig.fragments(0);
    assert!(fragments.len() > 5);
    for pair in fragments.windows(2) {
        let newest = pair[0].pictures.iter().map(|picture| picture.time_90k).max();
        let oldest = pair[1].pictures.iter().map(|picture| picture.time_90k).min();
        assert!(newest < oldest);
    }
}

#[test]
fn two_second_gops_with_b_pictures_are_a_fragment_each() {
    let mut rig = Rig::new();
    // A keyframe and 49 others.
    run_reordered(&mut rig, &[6, 2, 0, 1, 4, 3, 5], 7, 70);
    rig.stop();
    assert_eq!(rig.fragments(0).len(), 10);
}

#[test]
fn pictures_of_an_open_gop_that_are_shown_before_the_file_begins_are_shown_at_its_beginning() {
    let mut rig = Rig::new();
    rig.pass(200);
    for (random_access, shown_ms) in [(true, 80), (false, 0), (false, 40), (false, 120), (false, 160)] {
        rig.unit(random_access, shown_ms);
        rig.pass(40);
    }
    rig.stop();
    let times: Vec<i64> = rig.pictures(0).iter().map(|picture| picture.time_90k).collect();
    assert_eq!(times, [0, 0, 0, 3600, 7200]);
    assert_eq!(rig.fragments(0)[0].end_90k(), 10_800);
    rig.assert_sound();
}

#[test]
fn a_new_file_begins_at_the_first_keyframe_after_a_minute_without_a_gap() {
    let mut rig = Rig::new();
    rig.run(200_000, 1600);
    rig.stop();
    let starts: Vec<i64> = rig.closed.iter().map(|closed| closed.start_unix_ms - START_UNIX_MS).collect();
    assert_eq!(starts, [0, 60_800, 121_600, 182_400]);
    for pair in rig.closed.windows(2) {
        assert_eq!(pair[0].end_unix_ms, pair[1].start_unix_ms);
    }
    assert!((0..4).all(|n| rig.pictures(n)[0].time_90k == 0));
    assert_eq!(rig.numbers(), (0..5000).collect::<Vec<_>>());
    assert_eq!(rig.recorder.statistics().segments, 4);
    assert_eq!(rig.recorder.statistics().access_units, 5000);
    let bytes: usize = rig.files.values().map(Vec::len).sum();
    assert_eq!(rig.recorder.statistics().bytes_written, bytes as u64);
}

#[test]
fn a_recording_begins_with_a_random_access_point() {
    let mut rig = Rig::new();
    for n in 0..10 {
        rig.unit(n == 7, 40 * n);
        rig.pass(40);
    }
    rig.stop();
    assert_eq!(rig.numbers(), [7, 8, 9]);
    assert_eq!(rig.recorder.statistics().dropped_gops, 0);
}

#[test]
fn other_parameter_sets_begin_a_new_file() {
    let mut rig = Rig::new();
    for kind in [0, 1, 2, 0] {
        rig.parameter_sets = sets(kind);
        rig.run(3000, 1000);
    }
    rig.stop();
    assert_eq!(rig.closed.len(), 4);
    for pair in rig.closed.windows(2) {
        assert_eq!(pair[0].end_unix_ms, pair[1].start_unix_ms);
    }
    assert_eq!(rig.numbers().len(), 300);
    // The same sets, sent again, are no change.
    let mut rig = Rig::new();
    for _ in 0..4 {
        rig.parameter_sets = sets(0);
        rig.run(3000, 1000);
    }
    rig.stop();
    assert_eq!(rig.closed.len(), 1);
}

#[test]
fn other_parameter_sets_within_a_gop_end_it() {
    let mut rig = Rig::new();
    rig.run(1000, 2000);
    rig.parameter_sets = sets(1);
    rig.unit(false, 1000);
    rig.unit(false, 1040);
    rig.pass(1000);
    rig.run(1000, 2000);
    rig.stop();
    assert_eq!(rig.closed.len(), 2);
    assert!(!rig.numbers().contains(&25) && !rig.numbers().contains(&26));
    rig.assert_sound();
}

#[test]
fn parameter_sets_that_are_not_complete_are_waited_for() {
    let mut rig = Rig::new();
    rig.parameter_sets = Rc::new(lanecast_protocol::codec::ParameterSets::new(Codec::H264));
    rig.run(3000, 1000);
    assert_eq!(rig.asked.len(), 0);
    rig.parameter_sets = sets(2);
    rig.run(3000, 1000);
    assert_eq!(rig.asked.len(), 1);
}

#[test]
fn a_camera_that_begins_anew_begins_a_new_file() {
    let mut rig = Rig::new();
    rig.run(5000, 2000);
    rig.pass(3000);
    rig.restart_camera();
    // It comes in the midst of a GOP.
    rig.unit(false, rig.at_ms());
    rig.pass(40);
    rig.run(5000, 2000);
    rig.stop();
    assert_eq!(rig.closed.len(), 2);
    assert_eq!(rig.closed[0].end_unix_ms, START_UNIX_MS + 5000);
    assert_eq!(rig.closed[1].start_unix_ms, START_UNIX_MS + 8040);
    assert_eq!(rig.numbers().len(), 250);
    rig.assert_sound();
}

#[test]
fn the_clock_an_hour_forward_finishes_the_gop_by_the_old_clock_and_loses_nothing() {
    let mut rig = Rig::new();
    rig.run(5000, 10_000);
    rig.step_ms = 3_600_000;
    let keyframe = rig.number;
    for n in 0..125 {
        rig.unit(n == 100, rig.at_ms());
        rig.pass(40);
    }
    rig.stop();
    assert_eq!(rig.closed.len(), 2);
    assert_eq!(rig.closed[0].end_unix_ms, START_UNIX_MS + 9000);
    assert_eq!(rig.closed[1].start_unix_ms, START_UNIX_MS + 3_609_000);
    assert_eq!(rig.pictures(1)[0].number, keyframe + 100);
    assert_eq!(rig.numbers(), (0..250).collect::<Vec<_>>());
    assert_sums_up(&rig.fragments(0));
    rig.assert_sound();
}

#[test]
fn the_clock_an_hour_back_overlaps_nothing_and_loses_nothing() {
    let mut rig = Rig::new();
    rig.run(90_000, 2000);
    rig.step_ms = -3_600_000;
    rig.run(90_000, 2000);
    rig.restart_camera();
    rig.run(90_000, 2000);
    rig.stop();
    assert_eq!(rig.numbers().len(), 3 * 2250);
    rig.assert_sound();
    for pair in rig.closed.windows(2) {
        assert!(pair[1].start_unix_ms - pair[0].end_unix_ms < 50);
    }
}

#[test]
fn an_outage_without_a_restart_is_a_gap_and_what_follows_begins_with_a_keyframe() {
    let mut rig = Rig::new();
    rig.run(5000, 10_000);
    rig.number += 1;
    rig.pass(7000);
    for n in 0..50 {
        rig.unit(n == 25, rig.at_ms());
        rig.pass(40);
    }
    rig.stop();
    assert_eq!(rig.closed[0].end_unix_ms, START_UNIX_MS + 5000);
    assert_eq!(rig.closed[1].start_unix_ms, START_UNIX_MS + 13_000);
    rig.assert_sound();
}

#[test]
fn a_timeline_that_goes_back_begins_anew() {
    let mut rig = Rig::new();
    rig.run(5000, 1000);
    for n in 0..50 {
        rig.unit(n % 25 == 0, 40 * n);
        rig.pass(40);
    }
    rig.stop();
    assert_eq!(rig.numbers().len(), 175);
    assert_eq!(rig.closed.len(), 2);
    rig.assert_sound();
}

#[test]
fn the_last_pictures_of_a_dead_camera_are_written_and_its_file_is_closed() {
    let mut rig = Rig::new();
    rig.run(5000, 10_000);
    assert_eq!(rig.pictures(0).len(), 100);
    rig.pass(1900);
    assert_eq!(rig.pictures(0).len(), 100);
    rig.pass(100);
    assert_eq!(rig.pictures(0).len(), 125, "after two seconds of silence");
    assert_eq!(*rig.status(), RecordingStatus::Recording);
    rig.pass(7000);
    assert!(rig.closed.is_empty());
    rig.pass(2000);
    assert_eq!(rig.closed.len(), 1);
    assert_eq!(rig.closed[0].end_unix_ms, START_UNIX_MS + 5000);
    assert_eq!(*rig.status(), RecordingStatus::Waiting);
    assert_eq!(rig.recorder.poll_timeout(), None, "nothing to do");
    rig.run(1000, 1000);
    assert_eq!(*rig.status(), RecordingStatus::Recording);
}

#[test]
fn a_camera_that_hesitates_goes_on_in_its_file() {
    let mut rig = Rig::new();
    rig.run(5000, 10_000);
    rig.pass(4000);
    for _ in 0..50 {
        rig.unit(false, rig.at_ms());
        rig.pass(40);
    }
    rig.stop();
    assert_eq!(rig.closed.len(), 1);
    let pictures = rig.pictures(0);
    assert_eq!(pictures.len(), 175);
    assert_eq!(pictures[125].time_90k, 9000 * 90);
    assert_eq!(pictures[125].unix_ms, START_UNIX_MS + 9000);
}

#[test]
fn a_write_has_the_header_and_each_picture_in_one_piece_and_256_at_most() {
    let mut rig = Rig::new();
    for n in 0..1500 {
        rig.unit(n % 500 == 0, 2 * n);
        rig.pass(2);
    }
    rig.stop();
    let chunks: Vec<usize> = rig.writes_seen.iter().map(Vec::len).collect();
    assert_eq!(chunks, [256, 246, 256, 245, 256, 245]);
    assert_eq!(rig.numbers().len(), 1500);
}

#[test]
fn what_is_not_in_the_file_is_in_memory() {
    let mut rig = Rig::new();
    rig.run(5000, 2000);
    let (&segment, file) = rig.files.first_key_value().expect("a file");
    let open = rig.recorder.segment(segment).expect("an open segment");
    let offsets: Vec<u64> = open.keyframes().iter().map(|keyframe| keyframe.offset).collect();
    assert_eq!(offsets.len(), 3);
    assert_eq!(open.newest_unix_ms(), START_UNIX_MS + 4960);
    assert_eq!(rig.recorder.newest_unix_ms(), Some(START_UNIX_MS + 4960));
    for offset in &offsets[..2] {
        assert!(
            matches!(open.place(*offset), Place::File { readable_bytes } if readable_bytes == offsets[2])
        );
    }
    assert_eq!(file.len() as u64, offsets[2]);
    let Place::Memory(making) = open.place(offsets[2]) else { panic!("not in memory") };
    assert_eq!(making.samples.borrow().len(), 25);
    assert_eq!(making.end_offset.get(), None);
    assert_eq!(rig.recorder.statistics().queued_bytes, 25 * 104);
    rig.stop();
    let end = making.end_offset.get().expect("it is complete");
    assert_eq!(end, rig.closed[0].bytes);
    assert!(open.is_closed());
    assert!(rig.recorder.segment(segment).is_some(), "for players that are close behind");
}

#[test]
fn only_the_last_four_closed_segments_are_kept() {
    let mut rig = Rig::new();
    for n in 0..8 {
        rig.parameter_sets = sets(n % 2);
        rig.run(1000, 1000);
    }
    let kept = rig.files.keys().map(|segment| rig.recorder.segment(*segment).is_some());
    assert_eq!(kept.collect::<Vec<_>>(), [false, false, false, true, true, true, true, true]);
}

#[test]
fn a_file_cut_at_any_byte_has_all_fragments_before_the_cut() {
    let mut rig =
        Rig::with(RecorderConfig { fragment_max: Duration::from_millis(200), ..RecorderConfig::default() });
    rig.picture_len = 20;
    run_reordered(&mut rig, &[2, 0, 1], 4, 10);
    rig.stop();
    let file = rig.files.values().next().expect("a file");
    let whole = rig.fragments(0);
    assert!(whole.len() > 5);
    for len in 0..file.len() {
        let count = read_back(&file[..len]).len();
        let ends = whole.iter().skip(1).map(|fragment| fragment.offset).chain([file.len() as u64]);
        assert_eq!(count, ends.filter(|end| *end <= len as u64).count(), "cut at {len}");
    }
}

#[test]
fn a_picture_without_nal_units_is_no_sample() {
    let mut rig = Rig::new();
    rig.run(1000, 1000);
    let unit = AccessUnit {
        new_clock_rate_hz: None,
        arrived: rig.now,
        camera_timestamp: 0,
        timestamp_90k: 0,
        random_access: true,
        damaged: true,
        parameter_sets: sets(0),
        nals: Vec::new(),
    };
    rig.recorder.handle_access_unit(rig.now, rig.unix_ms(), unit);
    rig.settle();
    rig.stop();
    assert_eq!(rig.numbers().len(), 25);
}
