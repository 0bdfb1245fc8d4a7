//! What holds whatever is recorded, however it is damaged, and whatever the viewer does.

use std::time::Duration;

use proptest::prelude::*;

use super::archive::{Camera, Recorded, START, Writing};
use super::origin;
use super::scene::Scene;

/// Windows of two segments, a picture's packets and what is kept of those that were sent.
const BUFFERED_MAX: usize = 3 << 20;

#[derive(Clone, Copy, Debug)]
enum Act {
    Wait(u64),
    Speed(f64),
    Refresh,
    Block(Option<u64>),
    Pace(u64),
}

#[derive(Clone, Debug)]
struct Plan {
    camera: Camera,
    /// Of each segment: what is not recorded before it, its pictures, and what is damaged in it.
    segments: Vec<(i64, usize, Damage)>,
    writing: Option<usize>,
    latency_ms: u64,
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    None,
    Flip(usize, u8),
    Cut(usize),
    Index(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1u64..4000).prop_map(Act::Wait),
        3 => prop_oneof![Just(0.0), Just(0.25), Just(1.0), Just(3.0), Just(5.0), Just(16.0)].prop_map(Act::Speed),
        2 => Just(Act::Refresh),
        2 => prop::option::of(0u64..5000).prop_map(Act::Block),
        1 => (500_000u64..70_000_000).prop_map(Act::Pace),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        5 => Just(Damage::None),
        2 => (any::<prop::sample::Index>(), 1u8..).prop_map(|(at, bits)| Damage::Flip(at.index(1 << 20), bits)),
        1 => (0usize..1 << 20).prop_map(Damage::Cut),
        1 => (1u64..5000).prop_map(Damage::Index),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let camera = (20i64..200, 1usize..30, 1usize..30, 30usize..60_000, 30usize..8000, 0usize..4).prop_map(
        |(frame_ms, gop, fragment, key_bytes, picture_bytes, b_pictures)| Camera {
            frame_ms,
            gop,
            fragment,
            key_bytes,
            picture_bytes,
            b_pictures,
            ..Camera::default()
        },
    );
    let gap = prop_oneof![Just(0i64), 0i64..2000, 5000i64..100_000];
    let segments = prop::collection::vec((gap, 1usize..120, damage()), 1..6);
    (camera, segments, prop::option::of(1usize..100), 0u64..300)
        .prop_map(|(camera, segments, writing, latency_ms)| Plan { camera, segments, writing, latency_ms })
}

fn record(plan: &Plan) -> Vec<Recorded> {
    let mut start_unix_ms = START;
    let mut archive = Vec::new();
    for (number, &(gap_ms, pictures, damage)) in (1..).zip(&plan.segments) {
        start_unix_ms += gap_ms;
        let mut recorded = plan.camera.record(number, start_unix_ms, pictures);
        start_unix_ms = recorded.end_unix_ms;
        let length = recorded.bytes.len();
        match damage {
            Damage::None => {}
            Damage::Flip(at, bits) => recorded.bytes[at % length] ^= bits,
            Damage::Cut(at) => recorded.bytes.truncate(at % length),
            Damage::Index(by) => recorded.keyframes.iter_mut().for_each(|keyframe| keyframe.offset += by),
        }
        archive.push(recorded);
    }
    if let Some(pictures) = plan.writing {
        let mut writing = Writing::new(plan.camera, 100, start_unix_ms, pictures);
        writing.grow(pictures);
        archive.push(writing.recorded);
    }
    archive
}

fn is_whole(plan: &Plan) -> bool {
    plan.segments.iter().all(|(_, _, damage)| matches!(damage, Damage::None))
}

/// The time that is shown, by what is recorded: the latest picture that is not later, else the next.
fn expected(plan: &Plan, archive: &[Recorded], wanted_unix_ms: i64) -> Option<i64> {
    let found = archive.iter().find(|recorded| recorded.end_unix_ms > wanted_unix_ms)?;
    if found.start_unix_ms > wanted_unix_ms {
        return Some(found.start_unix_ms);
    }
    let frames = (wanted_unix_ms - found.start_unix_ms) / plan.camera.frame_ms;
    Some(found.start_unix_ms + frames * plan.camera.frame_ms)
}

fn check(scene: &Scene) -> Result<(), TestCaseError> {
    prop_assert!(!scene.is_stuck(), "stuck at {:?}", scene.player);
    prop_assert!(scene.buffered_max < BUFFERED_MAX, "{} bytes", scene.buffered_max);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn numbers_and_times_never_go_back_memory_is_bounded_and_nothing_gets_stuck(
        plan in plan(),
        wanted in 0.0f64..1.1,
        speed in prop_oneof![Just(0.0), Just(1.0), Just(2.0), Just(8.0)],
        acts in prop::collection::vec(act(), 0..25),
    ) {
        let archive = record(&plan);
        let (first, last) = (&archive[0], &archive[archive.len() - 1]);
        let range_ms = last.end_unix_ms - first.start_unix_ms;
        let wanted_unix_ms = first.start_unix_ms + (range_ms as f64 * wanted) as i64;
        let shown = expected(&plan, &archive, wanted_unix_ms);
        let mut scene = Scene::new(origin(), archive, wanted_unix_ms, speed);
        scene.latency = Duration::from_millis(plan.latency_ms);
        scene.run(60_000);
        prop_assert!(scene.ready().is_some() || scene.is_over());
        if let (true, Some(shown)) = (is_whole(&plan), shown) {
            // What is shown before the last picture of a fragment may be in the next one.
            let reordered = plan.camera.fragment < plan.camera.gop;
            let early_ms = if reordered { plan.camera.b_pictures as i64 * plan.camera.frame_ms } else { 0 };
            let ready = scene.ready().unwrap();
            prop_assert!((shown - early_ms..=shown).contains(&ready), "{ready} for {shown}");
        }
        scene.player.play(scene.now, 65_000, u32::MAX - 10_000);
        scene.run(0);
        check(&scene)?;
        for act in acts {
            match act {
                Act::Wait(ms) => scene.run(ms),
                Act::Speed(speed) => scene.player.set_speed(scene.now, speed),
                Act::Refresh => scene.player.refresh(scene.now),
                Act::Block(ms) => {
                    let not_before = ms.map(|ms| scene.now + Duration::from_millis(ms));
                    scene.player.block(scene.now, not_before);
                }
                Act::Pace(bytes) => scene.player.set_pace(bytes),
            }
            let paused = scene.player.speed() == 0.0 && !matches!(act, Act::Wait(_));
            scene.serve();
            check(&scene)?;
            if paused {
                // What is sent once more is sent in a pause, too; then nothing.
                scene.run(2000);
                let sent = scene.runs.len();
                scene.run(1000);
                prop_assert_eq!(scene.runs.len(), sent);
            }
        }
        // Whatever it was, it ends.
        scene.player.set_speed(scene.now, 16.0);
        scene.player.set_pace(u64::MAX);
        for _ in 0..100 {
            scene.run(10_000);
        }
        prop_assert!(scene.is_over());
    }

    #[test]
    fn all_that_is_recorded_is_sent_once_and_in_time(
        mut plan in plan(),
        speed in prop_oneof![Just(0.5), Just(1.0), Just(2.0)],
    ) {
        plan.segments.iter_mut().for_each(|(_, _, damage)| *damage = Damage::None);
        let archive = record(&plan);
        let pictures: usize = plan.segments.iter().map(|&(_, pictures, _)| pictures).sum();
        let mut scene = Scene::new(origin(), archive, START, speed);
        scene.settle();
        scene.player.play(scene.now, 0, 0);
        scene.run(1_000_000);
        prop_assert!(scene.is_over());
        prop_assert_eq!(scene.seen.len(), pictures + plan.writing.unwrap_or(0));
        let mut times = scene.times();
        times.sort_unstable();
        times.dedup();
        prop_assert_eq!(times.len(), scene.seen.len());
        // Timestamps and time run together.
        for seen in scene.seen.iter().filter(|seen| !seen.out_of_order) {
            let late_ms = seen.at_ms as i64 - i64::from(seen.rtp_timestamp) / 90;
            prop_assert!(late_ms < 50, "{} ms late", late_ms);
        }
    }
}
