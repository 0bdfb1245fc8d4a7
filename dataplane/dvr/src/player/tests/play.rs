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
    let steps: Vec<_> =
        scene.seen.windows(2).map(|two| two[1].rtp_timestamp.wrapping_sub(two[0].rtp_timestamp)).collect();
    assert!(steps.iter().all(|&step| step == 90), "{steps:?}");
    let (_, newest, at) = scene.player.end();
    assert_eq!(newest, 25 * 90 - 501);
    let end_ms = (at - scene.start).as_millis() as u64;
    assert!(end_ms <= 2, "paced, so not all at once: {end_ms} ms");
    scene.run(1000);
    let behind: Vec<_> =
        scene.seen[26..].iter().map(|seen| (seen.at_ms, seen.rtp_timestamp, seen.unix_ms - START)).collect();
    for (n, &seen) in (1..).zip(&behind) {
        assert_eq!(seen, (end_ms + 40 * n, newest + 3600 * n as u32, 5000 + 40 * n as i64));
    }
    assert_eq!(behind.len(), 25);
    assert_eq!(scene.player.position_unix_ms(scene.now), START + 6000);
}

#[test]
fn timestamps_and_sending_advance_by_media_time_over_speed() {
    for (speed, ms) in [(0.25, 160), (0.5, 80), (1.0, 40), (2.0, 20)] {
        let archive = minutes(Camera::default(), 1);
        let mut scene = Scene::playing(origin(), archive, START + 4000, speed);
        scene.run(2000);
        let seen = &scene.seen;
        assert_eq!(seen.len() as u64, 1 + 2000 / ms, "at {speed}");
        for (n, seen) in (0..).zip(seen) {
            assert_eq!((seen.at_ms, seen.rtp_timestamp), (n * ms, 1000 + (n * ms * 90) as u32), "at {speed}");
        }
    }
}

#[test]
fn a_pause_sends_and_reads_nothing_and_timestamps_go_on_by_the_time_that_passed() {
    let mut scene = Scene::playing(origin(), minutes(Camera::default(), 1), START + 4000, 1.0);
    scene.run(1010);
    let (sent, reads) = (scene.seen.len(), scene.reads);
    scene.player.set_speed(scene.now, 0.0);
    assert_eq!(scene.player.poll_timeout(), None);
    scene.run(60_000);
    assert_eq!((scene.seen.len(), scene.reads, scene.player.speed()), (sent, reads, 0.0));
    assert_eq!(scene.player.position_unix_ms(scene.now), START + 5000);
    scene.player.set_speed(scene.now, 1.0);
    scene.run(40);
    let [before, after] = [scene.seen[sent - 1], scene.seen[sent]];
    assert_eq!((after.unix_ms, after.at_ms), (START + 5040, 61_010 + 30));
    assert_eq!(after.rtp_timestamp - before.rtp_timestamp, 60_040 * 90);
}

#[test]
fn a_seek_in_a_pause_shows_the_wanted_picture_and_nothing_more() {
    let mut scene = Scene::playing(origin(), minutes(Camera::default(), 1), START + 5000, 0.0);
    scene.run(10_000);
    assert_eq!(scene.times().last(), Some(&5000));
    assert_eq!(scene.seen.len(), 26);
    scene.player.set_speed(scene.now, 2.0);
    scene.run(100);
    assert_eq!(scene.times()[26..], [5040, 5080, 5120, 5160, 5200]);
}

#[test]
fn from_4x_up_only_keyframes_are_sent_where_all_are_more_than_60_a_second() {
    let mut scene = Scene::playing(origin(), minutes(Camera::default(), 1), START + 4000, 8.0);
    scene.run(2000);
    assert_eq!(scene.times(), [4000, 6000, 8000, 10_000, 12_000, 14_000, 16_000, 18_000, 20_000]);
    let at: Vec<_> = scene.seen.iter().map(|seen| (seen.at_ms, seen.rtp_timestamp)).collect();
    assert_eq!(at, (0..9).map(|n| (250 * n, 1000 + 22_500 * n as u32)).collect::<Vec<_>>());
    assert!(scene.read_bytes < 700_000, "{} bytes for 9 keyframes of 20 kB", scene.read_bytes);

    let slow = Camera { frame_ms: 100, gop: 20, ..Camera::default() };
    let mut scene = Scene::playing(origin(), minutes(slow, 1), START, 4.0);
    scene.run(1000);
    assert_eq!(scene.times(), (0..=40).map(|n| 100 * n).collect::<Vec<_>>(), "40 pictures a second");
}

#[test]
fn of_a_camera_that_sends_keyframes_alone_some_are_left_out() {
    let camera = Camera { gop: 1, key_bytes: 5000, ..Camera::default() };
    let mut scene = Scene::playing(origin(), minutes(camera, 1), START, 16.0);
    scene.run(2000);
    assert!((60..=121).contains(&scene.seen.len()), "{} in two seconds", scene.seen.len());
    assert!((31_000..=32_500).contains(scene.times().last().unwrap()));
}

#[test]
fn speed_changes_keep_position_and_timestamps() {
    let mut scene = Scene::playing(origin(), minutes(Camera::default(), 1), START + 4000, 1.0);
    scene.run(1000);
    scene.player.set_speed(scene.now, 8.0);
    assert_eq!(scene.player.position_unix_ms(scene.now), START + 5000);
    scene.run(400);
    assert_eq!(scene.times()[25..], [5000, 6000, 8000], "then keyframes");
    scene.player.set_speed(scene.now, 0.5);
    assert_eq!(scene.player.position_unix_ms(scene.now), START + 8000);
    scene.run(400);
    assert_eq!(scene.times()[27..], [8000, 8040, 8080, 8120, 8160, 8200], "behind the last keyframe");
    let wire: Vec<_> = scene.seen[25..].iter().map(|seen| (seen.at_ms, seen.rtp_timestamp)).collect();
    let expected = [1000, 1125, 1375, 1480, 1560, 1640, 1720, 1800].map(|ms| (ms, 1000 + ms as u32 * 90));
    assert_eq!(wire, expected);
}

#[test]
fn a_speed_that_nobody_can_play_becomes_one_that_somebody_can() {
    let mut scene = Scene::playing(origin(), minutes(Camera::default(), 1), START, 1.0);
    for (asked, got) in [
        (100.0, 16.0),
        (f64::INFINITY, 16.0),
        (0.1, 0.25),
        (-3.0, 0.0),
        (f64::NAN, 0.0),
        (2.0, 2.0),
        (f64::NAN, 2.0),
    ] {
        scene.player.set_speed(scene.now, asked);
        assert_eq!(scene.player.speed(), got);
    }
}

#[test]
fn b_pictures_are_sent_behind_what_they_need_and_do_not_make_timestamps_go_back() {
    let camera = Camera { b_pictures: 2, gop: 49, ..Camera::default() };
    let archive = vec![camera.record(1, START, 490)];
    // The wanted one is a B-picture: the picture behind it is needed for it.
    let mut scene = Scene::playing(origin(), archive, START + 1960 + 160, 1.0);
    assert_eq!(scene.ready(), Some(START + 1960 + 160));
    scene.run(1000);
    let times: Vec<_> = scene.times().iter().map(|at| (at - 1960) / 40).collect();
    assert_eq!(times[..9], [0, 3, 1, 2, 6, 4, 5, 9, 7]);
    let wire = |n: i64| scene.seen.iter().find(|seen| seen.unix_ms == START + 1960 + 40 * n).unwrap();
    // In the order of presentation timestamps rise as squeezed, and 6 is as far behind 4 as it is.
    let squeezed: Vec<_> = (0..=4).map(|n| wire(n).rtp_timestamp - 1000).collect();
    assert!(squeezed.windows(2).all(|two| (90..=130).contains(&(two[1] - two[0]))), "{squeezed:?}");
    assert_eq!(wire(6).rtp_timestamp - wire(4).rtp_timestamp, 7200);
    assert_eq!((wire(5).rtp_timestamp - wire(4).rtp_timestamp, wire(5).at_ms), (3600, 40));
    assert!(wire(5).out_of_order && wire(4).out_of_order && !wire(6).out_of_order);
    let in_order: Vec<_> = scene.seen.iter().filter(|seen| !seen.out_of_order).collect();
    assert!(in_order.windows(2).all(|two| two[0].rtp_timestamp < two[1].rtp_timestamp));
    // None is later than its time.
    assert!(scene.seen.iter().skip(6).all(|seen| seen.at_ms <= (seen.unix_ms - START - 1960 - 160) as u64));
}

#[test]
fn a_gop_over_many_fragments_is_looked_through_by_its_headers() {
    let camera = Camera { gop: 750, fragment: 50, picture_bytes: 20_000, ..Camera::default() };
    let mut scene = Scene::new(origin(), minutes(camera, 1), START + 25_000, 1.0);
    assert_eq!(scene.settle(), Some(START + 25_000));
    assert!(scene.read_bytes < 1 << 20, "{} of {} bytes", scene.read_bytes, scene.archive[0].bytes.len());
    scene.player.play(scene.now, 0, 0);
    scene.run(400);
    assert_eq!(scene.times()[..626], (0..626).map(|n| 40 * n).collect::<Vec<_>>());
    assert_eq!(scene.seen[625].rtp_timestamp, 625 * 90);
}

#[test]
fn a_picture_of_a_megabyte_leaves_run_by_run() {
    let camera = Camera { key_bytes: 1_100_000, ..Camera::default() };
    let mut scene = Scene::playing(origin(), minutes(camera, 1), START + 2000, 1.0);
    scene.run(500);
    let sizes = scene.runs.iter().map(|(at, run)| ((*at - scene.start).as_millis(), run.bytes().len()));
    let mut by_ms = std::collections::BTreeMap::new();
    sizes.for_each(|(ms, bytes)| *by_ms.entry(ms).or_insert(0) += bytes);
    assert!(by_ms.values().all(|&bytes| bytes <= 2 * 65_000), "{by_ms:?}");
    let last = by_ms.iter().take_while(|(_, bytes)| **bytes > 10_000).last().unwrap();
    assert!((17..25).contains(last.0), "{last:?}");
    assert_eq!(scene.times(), (0..=12).map(|n| 2000 + 40 * n).collect::<Vec<_>>());
    assert!(scene.buffered_max < 3 << 20, "{}", scene.buffered_max);
}

#[test]
fn a_slow_path_gets_a_picture_over_a_longer_time() {
    let camera = Camera { key_bytes: 200_000, ..Camera::default() };
    let mut scene = Scene::new(origin(), minutes(camera, 1), START + 2000, 1.0);
    scene.settle();
    scene.player.set_pace(2_000_000);
    scene.player.play(scene.now, 0, 0);
    scene.run(500);
    let last_of_key = scene.runs.iter().rfind(|(_, run)| run.rtp_timestamp() == 0).unwrap().0 - scene.start;
    assert!((60..105).contains(&last_of_key.as_millis()), "{last_of_key:?}");
    // The clock begins when the wanted picture is out.
    assert_eq!(scene.seen[1].at_ms, last_of_key.as_millis() as u64 + 40);
}

#[test]
fn a_path_that_is_slower_than_the_pictures_gets_them_later_and_never_in_a_burst_of_more_than_a_second() {
    let camera = Camera { picture_bytes: 80_000, key_bytes: 80_000, ..Camera::default() };
    let mut scene = Scene::new(origin(), minutes(camera, 1), START + 2000, 1.0);
    scene.settle();
    scene.player.set_pace(1_000_000);
    scene.player.play(scene.now, 0, 0);
    scene.run(20_000);
    scene.player.set_pace(u64::MAX);
    let before = scene.seen.len();
    let position = scene.player.position_unix_ms(scene.now);
    assert!((START + 10_000..START + 15_000).contains(&position), "as much as went through: {position}");
    scene.run(40);
    assert!(scene.seen.len() - before <= 27, "{}", scene.seen.len() - before);
}

#[test]
fn a_late_read_is_caught_up_with_but_by_no_more_than_a_second() {
    for (late_ms, burst) in [(500, 15), (5000, 2)] {
        let camera = Camera { picture_bytes: 20_000, ..Camera::default() };
        let mut scene = Scene::playing(origin(), minutes(camera, 1), START, 1.0);
        scene.run(2000);
        scene.latency = std::time::Duration::from_millis(late_ms);
        let mut gap = None;
        while gap.is_none() && scene.now - scene.start < std::time::Duration::from_secs(20) {
            scene.run(1);
            gap = scene.seen.windows(2).position(|two| two[1].at_ms - two[0].at_ms > 60).map(|at| at + 1);
        }
        scene.latency = std::time::Duration::ZERO;
        scene.run(late_ms);
        let gap = gap.expect("the read was waited for");
        let [before, after] = [scene.seen[gap - 1], scene.seen[gap]];
        assert_eq!(after.unix_ms, before.unix_ms + 40, "nothing is lost");
        let at_once = scene.seen[gap..].iter().filter(|seen| seen.at_ms < after.at_ms + 20).count();
        assert!(at_once <= burst, "{at_once} pictures after {late_ms} ms");
        let ahead = (after.rtp_timestamp - before.rtp_timestamp) / 90;
        match late_ms {
            5000 => assert_eq!(u64::from(ahead), after.at_ms - before.at_ms, "the clock is shifted"),
            _ => assert_eq!(ahead, 40),
        }
    }
}

#[test]
fn memory_is_bounded_whatever_the_speed() {
    let camera = Camera { key_bytes: 400_000, picture_bytes: 20_000, ..Camera::default() };
    for speed in [0.25, 1.0, 3.9, 16.0] {
        let mut scene = Scene::playing(origin(), minutes(camera, 3), START, speed);
        scene.run(10_000);
        assert!(scene.buffered_max < 3 << 20, "{} at {speed}", scene.buffered_max);
        assert!(scene.seen.len() > 50);
    }
}
