//! From one segment to the next: seams, gaps, other codecs, damage, and where there is nothing.

use std::time::Duration;

use lanecast_protocol::codec::Codec;
use lanecast_protocol::mp4::{self, Parsed};

use super::super::{PlayerOutput, SegmentId};
use super::archive::{Camera, START};
use super::scene::Scene;
use super::{minutes, origin};

fn skips(scene: &Scene) -> Vec<i64> {
    let skipped = |event: &PlayerOutput| match event {
        PlayerOutput::Skipped { unix_ms } => Some(*unix_ms - START),
        _ => None,
    };
    scene.events.iter().filter_map(skipped).collect()
}

fn damaged(scene: &Scene) -> Vec<i64> {
    let damaged = |event: &PlayerOutput| match event {
        PlayerOutput::Damaged { segment, .. } => Some(segment.0),
        _ => None,
    };
    scene.events.iter().filter_map(damaged).collect()
}

fn released(scene: &Scene) -> Vec<i64> {
    let released = |event: &PlayerOutput| match event {
        PlayerOutput::Release(segment) => Some(segment.0),
        _ => None,
    };
    scene.events.iter().filter_map(released).collect()
}

#[test]
fn segments_follow_one_another_without_a_seam() {
    let mut scene = Scene::playing(origin(), minutes(Camera::default(), 3), START + 56_000, 1.0);
    scene.latency = Duration::from_millis(30);
    scene.run(70_000);
    for (n, seen) in (0..).zip(&scene.seen) {
        assert_eq!(seen.unix_ms, START + 56_000 + 40 * n);
        assert_eq!((seen.at_ms, seen.rtp_timestamp), (40 * n as u64, 1000 + 3600 * n as u32));
    }
    assert_eq!(scene.seen.len(), 1 + 70_000 / 40);
    assert_eq!((released(&scene), skips(&scene)), (vec![1, 2], vec![]));
    assert!(!scene.has(|event| matches!(event, PlayerOutput::ParameterSets(_))));
}

#[test]
fn keyframes_alone_follow_one_another_over_segments() {
    let mut scene = Scene::playing(origin(), minutes(Camera::default(), 5), START + 50_000, 16.0);
    scene.run(10_000);
    assert_eq!(scene.times(), (0..=80).map(|n| 50_000 + 2000 * n).collect::<Vec<_>>());
    for (n, seen) in (0..).zip(&scene.seen) {
        assert_eq!((seen.at_ms, seen.rtp_timestamp), (125 * n, 1000 + 11_250 * n as u32));
    }
}

#[test]
fn a_gap_is_skipped_and_the_timestamp_advances_by_a_picture() {
    let mut archive = minutes(Camera::default(), 1);
    archive.push(Camera::default().record(2, START + 3_600_000, 500));
    let mut scene = Scene::playing(origin(), archive, START + 59_000, 1.0);
    scene.run(5000);
    let behind = scene.seen.iter().position(|seen| seen.unix_ms == START + 3_600_000).unwrap();
    let [before, after] = [scene.seen[behind - 1], scene.seen[behind]];
    assert_eq!(before.unix_ms, START + 59_960);
    assert_eq!((after.at_ms - before.at_ms, after.rtp_timestamp - before.rtp_timestamp), (40, 3600));
    assert_eq!(skips(&scene), [3_600_000]);
    assert!(scene.player.position_unix_ms(scene.now) > START + 3_603_000);
}

#[test]
fn a_short_hole_is_waited_for() {
    let mut archive = minutes(Camera::default(), 1);
    archive.push(Camera::default().record(2, START + 60_700, 500));
    let mut scene = Scene::playing(origin(), archive, START + 58_000, 1.0);
    scene.run(4000);
    let behind = scene.seen.iter().position(|seen| seen.unix_ms == START + 60_700).unwrap();
    let [before, after] = [scene.seen[behind - 1], scene.seen[behind]];
    assert_eq!((after.at_ms - before.at_ms, after.rtp_timestamp - before.rtp_timestamp), (740, 740 * 90));
    assert!(skips(&scene).is_empty());
}

#[test]
fn a_wanted_time_in_a_gap_begins_with_the_next_keyframe() {
    let mut archive = minutes(Camera::default(), 1);
    archive.push(Camera::default().record(2, START + 3_600_000, 500));
    let mut scene = Scene::playing(origin(), archive, START + 100_000, 1.0);
    assert_eq!(scene.ready(), Some(START + 3_600_000));
    scene.run(100);
    assert_eq!(scene.times(), [3_600_000, 3_600_040, 3_600_080]);
    assert_eq!(scene.seen[1].rtp_timestamp, 4600);
    assert!(skips(&scene).is_empty());
}

#[test]
fn where_nothing_is_recorded_there_is_nothing() {
    let mut scene = Scene::new(origin(), minutes(Camera::default(), 1), START + 60_000, 1.0);
    assert_eq!(scene.settle(), None);
    assert!(scene.has(|event| matches!(event, PlayerOutput::Nothing)));
    assert_eq!(scene.player.poll_timeout(), None);
    let mut scene = Scene::new(origin(), minutes(Camera::default(), 1), i64::MIN, 1.0);
    assert_eq!(scene.settle(), Some(START), "before the first recording");
    let mut scene = Scene::new(origin(), minutes(Camera::default(), 1), i64::MAX, 1.0);
    assert_eq!(scene.settle(), None);
}

#[test]
fn a_catalogue_that_cannot_answer_ends_a_seek_and_is_asked_again_in_mid_play() {
    let mut scene = Scene::new(origin(), minutes(Camera::default(), 1), START, 1.0);
    scene.fail_locate = 1;
    assert_eq!(scene.settle(), None);
    assert!(scene.has(|event| matches!(event, PlayerOutput::Unreadable(_))));

    let mut scene = Scene::playing(origin(), minutes(Camera::default(), 2), START + 50_000, 1.0);
    scene.fail_locate = 3;
    scene.run(16_000);
    assert!(scene.times().contains(&60_000));

    let mut scene = Scene::playing(origin(), minutes(Camera::default(), 2), START + 50_000, 1.0);
    scene.fail_locate = 100;
    scene.run(20_000);
    assert!(
        scene.has(|event| matches!(event, PlayerOutput::Live)),
        "rather than a picture that stands still"
    );
}

#[test]
fn behind_the_last_segment_there_is_live() {
    let mut scene = Scene::playing(origin(), minutes(Camera::default(), 2), START + 118_000, 1.0);
    scene.run(3000);
    assert_eq!(scene.times().last(), Some(&119_960));
    assert!(matches!(scene.events.last(), Some(PlayerOutput::Live)));
    assert_eq!(released(&scene), [2], "all is given back");
    assert_eq!(scene.player.poll_timeout(), None);
    for _ in 0..3 {
        scene.player.set_speed(scene.now, 3.0);
        scene.player.refresh(scene.now);
        scene.player.block(scene.now, None);
        scene.player.handle_timeout(scene.now);
        assert!(scene.player.poll_output().is_none());
    }
}

#[test]
fn another_codec_is_skipped_where_the_viewer_has_one() {
    let mut archive = minutes(Camera::default(), 1);
    let h265 = Camera { codec: Codec::H265, ..Camera::default() };
    archive.push(h265.record(2, START + 60_000, 500));
    archive.push(Camera::default().record(3, START + 80_000, 500));
    let mut scene = Scene::with(origin(), archive.clone(), START + 58_000, 1.0, Some(Codec::H264));
    scene.settle();
    scene.player.play(scene.now, 0, 0);
    scene.run(3000);
    assert!(scene.times().contains(&80_000) && !scene.times().contains(&60_000));
    assert_eq!((skips(&scene), released(&scene)), (vec![80_000], vec![2, 1]));
    let mut scene = Scene::with(origin(), archive, START + 65_000, 1.0, Some(Codec::H264));
    assert_eq!(scene.settle(), Some(START + 80_000));
}

#[test]
fn other_parameter_sets_are_told_before_the_first_run_that_needs_them() {
    let h265 = Camera { codec: Codec::H265, ..Camera::default() };
    let other = Camera { other_sets: true, ..Camera::default() };
    for camera in [h265, other] {
        let mut archive = minutes(Camera::default(), 1);
        archive.push(camera.record(2, START + 60_000, 500));
        let mut scene = Scene::new(origin(), archive, START + 59_000, 1.0);
        scene.settle();
        scene.player.play(scene.now, 0, 0);
        let mut told = None;
        while scene.now < scene.start + Duration::from_secs(2) {
            scene.now += Duration::from_millis(1);
            scene.player.handle_timeout(scene.now);
            while let Some(output) = scene.player.poll_output() {
                match output {
                    PlayerOutput::ParameterSets(sets) => {
                        assert_eq!(*sets, camera.parameter_sets());
                        told = Some(0);
                    }
                    PlayerOutput::Run(run) => {
                        if let Some(runs) = &mut told {
                            assert_eq!(run.is_random_access(), *runs == 0);
                            if *runs == 0 {
                                let first = run.packet(0).unwrap();
                                assert!(first.windows(8).any(|bytes| {
                                    camera.parameter_sets().iter().any(|set| set.starts_with(bytes))
                                }));
                            }
                            *runs += 1;
                        }
                    }
                    PlayerOutput::Read { segment, offset, bytes } => {
                        let file = scene.archive.iter().find(|file| file.segment == segment).unwrap();
                        let start = offset as usize;
                        let read = &file.bytes[start..file.bytes.len().min(start + bytes)];
                        scene.player.handle_read(scene.now, segment, offset, Ok(read.into()));
                    }
                    PlayerOutput::Locate(_) => {
                        let next = scene.archive[1].located();
                        scene.player.handle_located(scene.now, Ok(Some(next)));
                    }
                    _ => {}
                }
            }
        }
        assert!(told.is_some_and(|runs| runs > 20), "{told:?}");
    }
}

#[test]
fn a_damaged_file_is_told_and_left_for_the_next() {
    let whole = minutes(Camera::default(), 3);
    let fragment = whole[1].keyframes[2].offset as usize;
    for damage in ["header", "short", "length", "init"] {
        let mut archive = whole.clone();
        let bytes = &mut archive[1].bytes;
        match damage {
            "header" => bytes[fragment + 4..fragment + 40].fill(0xee),
            "short" => bytes.truncate(fragment + 5000),
            // The length of the first NAL unit: its time is unique.
            "length" => {
                let time = (START + 64_000).to_be_bytes();
                let at = bytes.windows(8).position(|window| window == time).unwrap();
                bytes[at - 6] = 0xff;
            }
            _ => bytes[..200].fill(0x11),
        }
        let mut scene = Scene::playing(origin(), archive.clone(), START + 59_000, 1.0);
        // What the catalogue says stays as it was.
        scene.run(10_000);
        let times = scene.times();
        assert_eq!(damaged(&scene), [2], "{damage}");
        assert!(times.contains(&120_000) && times.contains(&59_960), "{damage}: {times:?}");
        let after = scene.seen.iter().position(|seen| seen.unix_ms == START + 120_000).unwrap();
        assert_eq!(scene.seen[after].rtp_timestamp - scene.seen[after - 1].rtp_timestamp, 3600, "{damage}");
        assert_eq!(skips(&scene), [120_000], "{damage}");
        assert!(!released(&scene).is_empty());
    }
}

#[test]
fn a_read_that_fails_is_damage_before_and_in_play() {
    let mut scene = Scene::new(origin(), minutes(Camera::default(), 3), START, 1.0);
    scene.fail_reads = true;
    assert_eq!(scene.settle(), None);
    assert_eq!((damaged(&scene), released(&scene)), (vec![1, 2, 3], vec![1, 2, 3]));
    assert!(scene.has(|event| matches!(event, PlayerOutput::Nothing)));

    let mut scene = Scene::playing(
        origin(),
        minutes(Camera { picture_bytes: 20_000, ..Camera::default() }, 2),
        START,
        1.0,
    );
    scene.fail_reads = true;
    scene.run(10_000);
    assert_eq!(damaged(&scene), [1, 2]);
    assert!(matches!(scene.events.last(), Some(PlayerOutput::Live)));
}

#[test]
fn a_seek_goes_past_damage_but_not_without_end() {
    let mut archive = minutes(Camera::default(), 30);
    for recorded in &mut archive[..10] {
        recorded.bytes.fill(7);
    }
    let mut scene = Scene::new(origin(), archive.clone(), START, 1.0);
    assert_eq!(scene.settle(), Some(START + 600_000));
    for recorded in &mut archive[10..20] {
        recorded.keyframes.clear();
    }
    let mut scene = Scene::new(origin(), archive, START, 1.0);
    assert_eq!(scene.settle(), None);
    assert_eq!(damaged(&scene).len(), 16);
    assert!(scene.has(|event| matches!(event, PlayerOutput::Nothing)));
}

#[test]
fn an_index_that_lies_is_damage() {
    let mut archive = minutes(Camera::default(), 2);
    for keyframe in &mut archive[0].keyframes {
        keyframe.offset += 1000;
    }
    let mut scene = Scene::new(origin(), archive, START + 5000, 1.0);
    assert_eq!(scene.settle(), Some(START + 60_000));
    assert_eq!(damaged(&scene), [1]);

    let mut archive = minutes(Camera { gop: 100, fragment: 50, ..Camera::default() }, 2);
    let lying = &mut archive[0];
    let fragment = &lying.bytes[lying.keyframes[0].offset as usize..];
    let Ok(Parsed::Whole { part, bytes }) = mp4::parse_fragment_header(fragment) else { unreachable!() };
    // A fragment without a keyframe.
    lying.keyframes[0].offset += bytes as u64 + part.sample_bytes();
    lying.keyframes.truncate(1);
    let mut scene = Scene::new(origin(), archive, START + 5000, 1.0);
    assert_eq!(scene.settle(), Some(START + 60_000));
}

#[test]
fn a_catalogue_that_repeats_itself_does_not_make_the_player_go_round() {
    let mut scene = Scene::playing(origin(), minutes(Camera::default(), 1), START + 50_000, 1.0);
    scene.locate_first = true;
    scene.run(20_000);
    assert!(matches!(scene.events.last(), Some(PlayerOutput::Live)));
    assert!(scene.locates <= 3, "{}", scene.locates);
}

#[test]
fn answers_that_nobody_asked_for_are_ignored() {
    let mut scene = Scene::playing(origin(), minutes(Camera::default(), 1), START, 1.0);
    let located = scene.archive[0].located();
    scene.player.handle_located(scene.now, Ok(Some(located)));
    scene.player.handle_located(scene.now, Err("no".to_owned()));
    scene.player.handle_read(scene.now, SegmentId(1), 5, Err("no".to_owned()));
    scene.player.handle_read(scene.now, SegmentId(9), 0, Ok(bytes::BytesMut::zeroed(100)));
    scene.run(1000);
    assert_eq!((scene.seen.len(), damaged(&scene)), (26, vec![]));
}
