//! Segments that are written: from their file, from memory, and up to the live edge.

use super::super::PlayerOutput;
use super::archive::{Camera, START, Writing};
use super::origin;
use super::scene::Scene;

fn seeking(writing: &Writing, unix_ms: i64, speed: f64) -> Scene {
    Scene::new(origin(), vec![writing.recorded.clone()], unix_ms, speed)
}

fn playing(writing: &Writing, unix_ms: i64, speed: f64) -> Scene {
    Scene::playing(origin(), vec![writing.recorded.clone()], unix_ms, speed)
}

#[test]
fn a_few_seconds_ago_is_played_from_memory() {
    let mut writing = Writing::new(Camera::default(), 1, START, 1000);
    writing.grow(130);
    let mut scene = playing(&writing, START + 3000, 1.0);
    assert_eq!((scene.ready(), scene.reads), (Some(START + 3000), 0));
    for _ in 0..100 {
        writing.grow(1);
        scene.run(40);
    }
    scene.run(5);
    assert_eq!(scene.times(), (50..=175).map(|n| 40 * n).collect::<Vec<_>>());
    assert!(scene.seen[26..].windows(2).all(|two| two[1].rtp_timestamp - two[0].rtp_timestamp == 3600));
    assert_eq!(scene.reads, 0);
}

#[test]
fn what_is_in_the_file_is_read_and_the_rest_is_taken_from_memory_as_it_grows() {
    let mut writing = Writing::new(Camera::default(), 1, START, 1000);
    writing.grow(260);
    writing.write(3);
    let mut scene = playing(&writing, START + 1000, 1.0);
    assert!(scene.reads > 0);
    for n in 0..250 {
        writing.grow(1);
        if n % 50 == 20 {
            writing.write((writing.pictures / 50) - 1);
        }
        scene.run(40);
    }
    scene.run(5);
    assert_eq!(scene.times(), (0..=275).map(|n| 40 * n).collect::<Vec<_>>());
    assert!(scene.seen[26..].windows(2).all(|two| two[1].rtp_timestamp - two[0].rtp_timestamp == 3600));
    assert!(!scene.is_over());
}

#[test]
fn at_the_newest_picture_there_is_live() {
    let mut writing = Writing::new(Camera::default(), 1, START, 1000);
    writing.grow(130);
    writing.write(2);
    let mut scene = playing(&writing, START + 3000, 2.0);
    scene.run(2000);
    assert_eq!(scene.times().last(), Some(&(129 * 40)));
    assert!(matches!(scene.events.last(), Some(PlayerOutput::Live)));
    let end_ms = scene.seen.last().unwrap().at_ms;
    assert!((1080..1083).contains(&end_ms), "not before it is due: {end_ms}");
}

#[test]
fn keyframes_alone_reach_live_when_the_newest_picture_is_due() {
    let mut writing = Writing::new(Camera::default(), 1, START, 1000);
    writing.grow(149);
    let mut scene = playing(&writing, START + 2000, 8.0);
    scene.run(200);
    assert!(!scene.is_over());
    writing.grow(10);
    scene.run(310);
    assert_eq!(scene.times(), [2000, 4000, 6000]);
    assert!(!scene.is_over());
    scene.run(50);
    assert!(scene.is_over());
}

#[test]
fn a_wanted_time_behind_the_newest_picture_is_nothing_but_for_a_second() {
    let mut writing = Writing::new(Camera::default(), 1, START, 1000);
    writing.grow(130);
    assert_eq!(seeking(&writing, START + 129 * 40 + 1001, 1.0).settle(), None);
    let mut scene = seeking(&writing, START + 129 * 40 + 1000, 1.0);
    assert_eq!(scene.settle(), Some(START + 129 * 40));
    scene.player.play(scene.now, 0, 0);
    scene.run(100);
    assert_eq!(scene.times(), (100..130).map(|n| 40 * n).collect::<Vec<_>>());
    assert!(scene.is_over());
}

#[test]
fn before_the_first_picture_there_is_nothing() {
    let writing = Writing::new(Camera::default(), 1, START, 1000);
    let mut scene = seeking(&writing, START - 5000, 1.0);
    assert_eq!(scene.settle(), None);
    assert!(scene.has(|event| matches!(event, PlayerOutput::Nothing)));
}

#[test]
fn a_segment_that_was_closed_meanwhile_is_played_to_its_end_and_beyond() {
    let mut writing = Writing::new(Camera::default(), 1, START, 150);
    writing.grow(140);
    writing.write(1);
    let mut scene = playing(&writing, START + 1000, 1.0);
    scene.run(500);
    writing.grow(10);
    writing.close();
    writing.write(3);
    scene.archive.push(Camera::default().record(2, START + 6000, 500));
    scene.run(10_000);
    let times = scene.times();
    assert_eq!(times, (0..times.len() as i64).map(|n| 40 * n).collect::<Vec<_>>());
    assert!(times.len() > 280);
    assert!(scene.seen[26..].windows(2).all(|two| two[1].rtp_timestamp - two[0].rtp_timestamp == 3600));
}

#[test]
fn from_a_closed_segment_into_one_that_is_written() {
    let mut writing = Writing::new(Camera::default(), 2, START + 60_000, 1500);
    writing.grow(160);
    writing.write(2);
    let mut archive = super::minutes(Camera::default(), 1);
    archive.push(writing.recorded.clone());
    let mut scene = Scene::playing(origin(), archive, START + 58_000, 1.0);
    for n in 0..400 {
        if n == 100 {
            writing.write(3);
        }
        writing.grow(1);
        scene.run(40);
    }
    let times = scene.times();
    assert_eq!(times, (0..=400).map(|n| 58_000 + 40 * n).collect::<Vec<_>>());
    assert!(scene.seen.windows(2).all(|two| two[1].rtp_timestamp - two[0].rtp_timestamp == 3600));
}

#[test]
fn b_pictures_in_memory_are_sent_in_time() {
    let camera = Camera { b_pictures: 2, gop: 49, fragment: 49, ..Camera::default() };
    let mut writing = Writing::new(camera, 1, START, 490);
    writing.grow(120);
    let mut scene = playing(&writing, START + 1960, 1.0);
    scene.run(1000);
    let times: Vec<_> = scene.times().iter().map(|at| (at - 1960) / 40).collect();
    assert_eq!(times[..10], [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]);
    assert!(scene.seen.iter().all(|seen| seen.at_ms <= (seen.unix_ms - START - 1960) as u64));
}

#[test]
fn a_pause_outlives_the_memory_of_the_recorder() {
    let mut writing = Writing::new(Camera::default(), 1, START, 1000);
    writing.grow(130);
    let mut scene = playing(&writing, START + 4400, 1.0);
    scene.run(200);
    scene.player.set_speed(scene.now, 0.0);
    writing.grow(300);
    writing.write(8);
    scene.run(10_000);
    scene.player.set_speed(scene.now, 1.0);
    scene.run(2000);
    assert_eq!(scene.times(), (100..=165).map(|n| 40 * n).collect::<Vec<_>>());
    assert!(scene.reads > 0);
}
