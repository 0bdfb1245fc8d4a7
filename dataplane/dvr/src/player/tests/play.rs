//! Start, speed, pause.

use super::archive::{Camera, START};
use super::scene::Scene;
use super::{minutes, origin};

#[test]
fn a_seek_into_a_gop_sends_all_from_the_keyframe_at_once_and_shows_the_wanted_picture() {
    let archive = minutes(Camera::default(), 1);
    let mut scene = Scene::new(origin(), archive, START + 5010, 1.0);
    assert_eq!(scene.settle(), Some(START + 5000));
    assert_eq!(scene.player.position_unix_ms(scene.now), START + 5000);
    assert!(scene.runs.is_empty(), "nothing is sent before it plays");
    scene.player.play(scene.now, 100, u32::MAX - 500);
    scene.run(3);
    assert_eq!(scene.times(), (0..26).map(|n| 4000 + 40 * n).collect::<Vec<_>>());
    let first = &scene.runs[0].1;
    assert_eq!((first.first_packet(), first.rtp_timestamp()), (100, u32::MAX - 500));
    assert!(first.is_random_access());
    let steps: Vec<_> = scene.seen.windows(2).map(|two| two[1].rtp_timestamp.wrapping_sub(two[0].rtp_timestamp)).collect();
    assert!(steps.iter().all(|&step| step == 90), "{steps:?}");
    let (_, newest, at) = scene.player.end();
    assert_eq!(newest, 25 * 90 - 501);
    let end_ms = (at - scene.start).as_millis() as u64;
    assert!(end_ms <= 2, "paced, so not all at once: {end_ms} ms");
    scene.run(1000);
    let behind: Vec<_> = scene.seen[26..].iter().map(|seen| (seen.at_ms, seen.rtp_timestamp, seen.unix_ms - START)).collect();
    for (n, &seen) in (1..).zip(&behind) {
        assert_eq!(seen, (end_ms + 40 * n, newest + 3600 * n as u32, 5000 + 40 * n as i64));
    }
    assert_eq!(behind.len(), 25);
    assert_eq!(scene.player.position_unix_ms(scene.now), START + 6000);
}
