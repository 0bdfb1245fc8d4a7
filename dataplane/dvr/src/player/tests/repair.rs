//! What a viewer gets that lost something: a GOP once more, packets once more, nothing before a keyframe.

use std::time::Duration;

use super::archive::{Camera, START};
use super::scene::Scene;
use super::{minutes, origin};

fn assert_rising(scene: &Scene) {
    let in_order: Vec<_> = scene.seen.iter().filter(|seen| !seen.out_of_order).collect();
    assert!(in_order.windows(2).all(|two| two[0].rtp_timestamp < two[1].rtp_timestamp));
}

#[test]
fn a_refresh_sends_the_gop_once_more_at_once_and_goes_on_where_it_was() {
    let mut scene = Scene::playing(origin(), minutes(Camera::default(), 1), START + 4000, 1.0);
    scene.run(1010);
    let sent = scene.seen.len();
    scene.player.refresh(scene.now);
    scene.run(10);
    assert_eq!(scene.times()[sent..], scene.times()[..sent], "the same pictures");
    let again = &scene.seen[sent..];
    assert!(again[0].key && again.last().unwrap().at_ms <= 1013);
    assert_eq!(scene.player.position_unix_ms(scene.now), START + 5000);
    scene.run(1000);
    assert_eq!(scene.times()[2 * sent..][..3], [5040, 5080, 5120]);
    let next = scene.seen[2 * sent];
    assert!((1040..1080).contains(&next.at_ms), "within a picture: {}", next.at_ms);
    assert_eq!(next.rtp_timestamp - 1000, next.at_ms as u32 * 90, "by the same clock");
    assert_rising(&scene);
}

#[test]
fn a_refresh_works_at_every_speed_and_in_a_pause() {
    for speed in [0.25, 3.0, 16.0, 0.0] {
        let mut scene = Scene::playing(origin(), minutes(Camera::default(), 2), START + 5000, 1.0);
        scene.run(1500);
        scene.player.set_speed(scene.now, speed);
        scene.run(300);
        let position = scene.player.position_unix_ms(scene.now);
        let sent = scene.seen.len();
        scene.player.refresh(scene.now);
        scene.run(5);
        let again = scene.times()[sent..].to_vec();
        assert!(scene.seen[sent].key, "at {speed}");
        assert!(again.contains(&(position - START)), "at {speed}: {again:?}");
        scene.player.set_speed(scene.now, 1.0);
        let sent = scene.seen.len();
        scene.run(1000);
        assert_eq!(scene.times()[sent], scene.times()[sent - 1] + 40, "at {speed}");
        assert_rising(&scene);
    }
}

#[test]
fn refreshes_in_succession_do_not_confuse() {
    let mut scene = Scene::playing(
        origin(),
        minutes(Camera { key_bytes: 300_000, ..Camera::default() }, 1),
        START + 5000,
        1.0,
    );
    for _ in 0..40 {
        scene.player.refresh(scene.now);
        scene.run(3);
        scene.player.set_pace(1_000_000);
        scene.player.set_pace(u64::MAX);
    }
    scene.run(1000);
    assert_rising(&scene);
    assert_eq!(scene.times().last().map(|at| at % 40), Some(0));
    assert!(scene.player.position_unix_ms(scene.now) > START + 5500);
}

#[test]
fn times_that_jump_in_a_file_do_not_move_the_clock() {
    // Found by fuzzing: a picture's duration of six hours, and then a fragment that begins where it would without.
    let camera = Camera { gop: 150, fragment: 10, ..Camera::default() };
    let mut archive = minutes(camera, 1);
    let bytes = &mut archive[0].bytes;
    let durations = bytes.windows(4).enumerate().filter(|(_, window)| *window == 3600u32.to_be_bytes());
    let at = durations.map(|(at, _)| at).nth(6).unwrap();
    bytes[at] = 0x80;
    let mut scene = Scene::playing(origin(), archive, START, 1.0);
    for _ in 0..20 {
        scene.run(1000);
        scene.player.refresh(scene.now);
    }
    scene.run(100);
    assert_rising(&scene);
    let newest = scene.player.end().1;
    assert!(newest / 90 < 25_000, "{newest} after 20 s");
    assert!(scene.player.position_unix_ms(scene.now) > START + 15_000);
}

#[test]
fn a_picture_that_is_to_be_shown_hours_later_does_not_move_the_clock_either() {
    // Found by fuzzing: a composition offset of five hours before the wanted picture.
    let mut archive = minutes(Camera::default(), 1);
    let bytes = &mut archive[0].bytes;
    let durations = bytes.windows(4).enumerate().filter(|(_, window)| *window == 3600u32.to_be_bytes());
    let at = durations.map(|(at, _)| at).nth(4).unwrap();
    bytes[at + 12] = 0x68;
    let mut scene = Scene::playing(origin(), archive, START + 400, 1.0);
    assert_eq!(scene.ready(), Some(START + 400));
    scene.run(10_000);
    assert_rising(&scene);
    assert!(scene.player.end().1 / 90 < 13_000);
    assert!(scene.player.position_unix_ms(scene.now) > START + 8000);
}

#[test]
fn a_blocked_viewer_gets_nothing_before_a_keyframe_and_packet_numbers_stay() {
    let camera = Camera { key_bytes: 300_000, ..Camera::default() };
    let mut scene = Scene::playing(origin(), minutes(camera, 1), START + 2000, 1.0);
    scene.run(2006);
    let (sent, runs) = (scene.seen.len(), scene.runs.len());
    assert_eq!(scene.times()[sent - 1], 4000, "in the middle of a keyframe");
    scene.player.block(scene.now, None);
    scene.run(1990);
    assert_eq!((scene.seen.len(), scene.runs.len()), (sent, runs));
    assert_eq!(scene.player.position_unix_ms(scene.now), START + 4000);
    scene.run(100);
    assert_eq!(scene.times()[sent..], [6000, 6040, 6080]);
    assert_eq!(scene.seen[sent].rtp_timestamp - scene.seen[sent - 1].rtp_timestamp, 180_000);
    let (before, after) = (&scene.runs[runs - 1].1, &scene.runs[runs].1);
    assert_eq!(after.first_packet(), before.first_packet() + u64::from(before.packets()));
}

#[test]
fn a_blocked_viewer_gets_nothing_before_the_time_that_was_said() {
    let mut scene = Scene::playing(origin(), minutes(Camera::default(), 3), START + 2000, 1.0);
    scene.run(500);
    let sent = scene.seen.len();
    scene.player.block(scene.now, Some(scene.now + Duration::from_secs(90)));
    scene.run(95_000);
    let next = scene.seen[sent];
    assert_eq!((next.unix_ms - START, next.at_ms), (94_000, 92_000));
    assert_eq!(next.rtp_timestamp, 1000 + 92_000 * 90);
    assert_eq!(scene.times()[sent + 1], 94_040);
}

#[test]
fn a_block_in_a_squeezed_start_does_not_confuse() {
    let camera = Camera { key_bytes: 300_000, ..Camera::default() };
    let mut scene = Scene::new(origin(), minutes(camera, 1), START + 5000, 1.0);
    scene.settle();
    scene.player.play(scene.now, 0, 0);
    scene.run(1);
    scene.player.block(scene.now, None);
    scene.run(3000);
    let key = scene.seen.iter().find(|seen| seen.unix_ms == START + 6000).unwrap();
    assert_eq!(scene.seen[1].unix_ms, key.unix_ms);
    assert!((1001..1070).contains(&key.at_ms), "{}", key.at_ms);
    assert_rising(&scene);
}

#[test]
fn packets_of_the_last_two_seconds_can_be_sent_again() {
    let mut scene = Scene::playing(origin(), minutes(Camera::default(), 1), START, 1.0);
    scene.run(10_000);
    let (_, last) = scene.runs.last().unwrap();
    let newest = last.first_in_order() + u64::from(last.packets()) - 1;
    let (bytes, rtp_timestamp) = scene.player.packet_in_order(newest).unwrap();
    assert_eq!(
        (bytes, rtp_timestamp),
        (last.packet(usize::from(last.packets()) - 1).unwrap(), last.rtp_timestamp())
    );
    assert!(scene.player.packet_in_order(newest + 1).is_none());
    for (at, run) in &scene.runs {
        let age = scene.now - *at;
        let found = scene.player.packet_in_order(run.first_in_order());
        if age < Duration::from_millis(1960) {
            assert_eq!(found, Some((run.packet(0).unwrap(), run.rtp_timestamp())));
        } else if age > Duration::from_millis(2050) {
            assert_eq!(found, None);
        }
    }
}

#[test]
fn what_is_kept_to_be_sent_again_is_bounded_in_bytes() {
    let camera = Camera { picture_bytes: 60_000, ..Camera::default() };
    let mut scene = Scene::playing(origin(), minutes(camera, 1), START, 1.0);
    scene.run(5000);
    let kept =
        scene.runs.iter().filter(|(_, run)| scene.player.packet_in_order(run.first_in_order()).is_some());
    let bytes: usize = kept.map(|(_, run)| run.bytes().len()).sum();
    assert!((400_000..=super::super::outbox::HISTORY_BYTES).contains(&bytes), "{bytes}");
}

#[test]
fn pictures_out_of_order_have_no_number_among_those_in_order() {
    let camera = Camera { b_pictures: 2, gop: 49, fragment: 49, ..Camera::default() };
    let mut scene = Scene::playing(origin(), vec![camera.record(1, START, 490)], START, 1.0);
    scene.run(1500);
    for (_, run) in scene.runs.iter().rev().take(20).filter(|(_, run)| !run.is_out_of_order()) {
        assert_eq!(
            scene.player.packet_in_order(run.first_in_order()),
            Some((run.packet(0).unwrap(), run.rtp_timestamp()))
        );
    }
}

#[test]
fn who_is_stopped_ends_with_a_whole_picture_and_can_send_it_again() {
    let camera = Camera { key_bytes: 600_000, ..Camera::default() };
    let mut scene = Scene::playing(origin(), minutes(camera, 1), START + 2000, 1.0);
    // In the middle of the keyframe.
    scene.run(4);
    let sent = scene.runs.len();
    assert!(!scene.runs[sent - 1].1.ends_access_unit());
    scene.player.stop(scene.now);
    scene.serve();
    let rest = &scene.runs[sent..];
    assert!(rest.last().unwrap().1.ends_access_unit());
    assert!(!rest.iter().any(|(_, run)| run.starts_access_unit()));
    for (_, run) in rest.iter().rev().take(3) {
        let found = scene.player.packet_in_order(run.first_in_order());
        assert_eq!(found, Some((run.packet(0).unwrap(), run.rtp_timestamp())));
    }
    let all = scene.runs.len();
    scene.run(5000);
    assert_eq!((scene.runs.len(), scene.player.poll_timeout()), (all, None));
}

#[test]
fn the_end_is_where_something_else_can_go_on() {
    let mut scene = Scene::new(origin(), minutes(Camera::default(), 1), START + 1000, 1.0);
    scene.settle();
    scene.player.play(scene.now, 70_000, 5);
    scene.run(1000);
    let (at, last) = scene.runs.last().unwrap();
    let next = last.first_packet() + u64::from(last.packets());
    assert_eq!(scene.player.end(), (next, last.rtp_timestamp(), *at));
}
