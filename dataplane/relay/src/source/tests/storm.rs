//! Many cameras at once, an hour of flapping, and whatever may happen.

use proptest::prelude::*;

use super::*;

#[test]
fn cameras_that_go_away_together_are_not_asked_in_one_instant_and_are_back_within_seconds() {
    let worlds = (0..500).map(|seed| World::seeded(config(&[URL_A]), &[(A, Camera::Plays)], seed));
    let mut worlds: Vec<World> = worlds.collect();
    let mut asked = vec![0; 25];
    for world in &mut worlds {
        world.pass(seconds(30));
        let lost = world.elapsed();
        world.kill(A);
        world.pass(seconds(1));
        let first = world.connects[1].0 - lost;
        assert!(first <= Duration::from_millis(500));
        asked[first.as_millis() as usize / 20 % 25] += 1;
        world.pass(seconds(60));
    }
    assert!(asked.iter().all(|asked| (1..60).contains(asked)), "{asked:?}");

    let mut back = vec![0; 13];
    for world in &mut worlds {
        world.set(A, Camera::Plays);
        let (since, connects) = (world.elapsed(), world.connects.len());
        world.pass(seconds(7));
        assert_eq!(world.state(), StreamState::Active);
        back[(world.connects[connects].0 - since).as_millis() as usize / 500] += 1;
    }
    assert!(back.iter().all(|back| *back < 120), "{back:?}");
}

#[test]
fn an_hour_of_flapping_leaves_no_growth() {
    let mut world = World::new(config(&[URL_A, URL_B]), &[]);
    for turn in 0..720 {
        world.set(if turn % 2 == 0 { A } else { B }, Camera::Plays);
        world.pass(seconds(3));
        world.lose_connections();
        world.kill(A);
        world.kill(B);
        world.pass(seconds(2));
        let source = &world.source;
        assert!(source.outputs.is_empty() && source.outputs.capacity() <= 64);
        assert_eq!(source.records.len(), 2);
        assert!(source.attempts.iter().flatten().count() <= 2);
    }
    assert!(world.connects.len() > 700 && world.connects.len() < 3600, "{}", world.connects.len());
    world.set(A, Camera::Plays);
    world.pass(seconds(7));
    assert_eq!(world.on_air(), Some(A));
    let packets = world.packets.len() as u64;
    assert_eq!(world.source.statistics().packets, packets);
}

const CAMERAS: [Camera; 8] = [
    Camera::Absent,
    Camera::Dead,
    Camera::Plays,
    Camera::NoKeyframes,
    Camera::Mute,
    Camera::HasNoStream,
    Camera::Redirects(URL_B),
    Camera::UdpIsFiltered,
];

const FOREIGN: &str = "srt://192.0.2.20:9000";

fn any_config(number: u64) -> SourceConfig {
    let inputs = [URL_A, FOREIGN, URL_B, "rtsp://cam.example/", "rtsps://192.0.2.9/"];
    let mut config = config(&inputs[..(number % 6) as usize]);
    if number & 16 != 0 {
        config.inputs.reverse();
    }
    config.on_demand = (number & 32 != 0).then(|| seconds(number % 20));
    config.bits_per_second_max = if number & 64 != 0 { 100 } else { 0 };
    if number & 128 != 0 {
        config.denied = vec!["192.0.2.8/31".parse().unwrap()];
    }
    config
}

proptest! {
    /// `World::turn` looks for stuck states, and for media of lanes that are closed, after every event.
    #[test]
    fn whatever_happens_it_goes_on_comes_back_and_stops(
        seed in any::<u64>(),
        start in 0_u64..256,
        events in proptest::collection::vec((0_u8..14, any::<bool>(), 0_u64..20_000), 0..80),
    ) {
        let cameras = [(A, Camera::Plays), (B, Camera::Mute), ("worker 1", Camera::Plays)];
        let mut world = World::seeded(any_config(start), &cameras, seed);
        for (event, second, number) in events {
            let lane = if second { Lane::B } else { Lane::A };
            let now = world.now;
            match event {
                0 => world.lose_connections(),
                1 => world.set(A, CAMERAS[number as usize % 8]),
                2 => world.set(B, CAMERAS[number as usize % 8]),
                3 => world.set(["worker 0", "worker 1"][usize::from(second)], CAMERAS[number as usize % 5]),
                4 => world.update(any_config(number)),
                5 => world.source.handle_received(now, lane, &mut BytesMut::from(&number.to_be_bytes()[..])),
                6 => world.source.handle_resolved(now, lane, Ok(vec![A.parse().unwrap(); number as usize % 3])),
                7 => world.source.handle_on_air(now, lane),
                8 => world.source.set_wanted(now, second),
                9 => world.source.handle_foreign_unit(now, lane, number),
                10 => world.source.handle_closed(now, lane, "whatever"),
                11 => drop(world.names.insert("cam.example".into(), vec!["192.0.2.7", "192.0.2.8"])),
                _ => world.pass(Duration::from_millis(number)),
            }
            world.turn();
        }
        world.set(A, Camera::Plays);
        world.set(B, Camera::Plays);
        world.update(config(&[URL_A]));
        world.pass(seconds(30));
        prop_assert_eq!(world.state(), StreamState::Active);
        // Where an earlier redirect led, or there.
        prop_assert!(world.on_air().is_some());
        prop_assert!(world.source.outputs.is_empty());
        world.stop();
        world.pass(seconds(2));
        prop_assert!(world.stopped);
    }

    /// The best input that works is on air in the end, whatever was before.
    #[test]
    fn the_best_input_that_works_wins(
        seed in any::<u64>(),
        changes in proptest::collection::vec((0_usize..3, 0_usize..8, 0_u64..40), 0..30),
        works in 1_u8..8,
    ) {
        let mut world = World::seeded(config(&[URL_A, URL_B, URL_C]), &[], seed);
        for (which, camera, pause) in changes {
            world.set([A, B, C][which], CAMERAS[camera]);
            world.pass(seconds(pause));
        }
        for (bit, address) in [A, B, C].into_iter().enumerate() {
            let camera = if works & 1 << bit != 0 { Camera::Plays } else { Camera::Dead };
            world.set(address, camera);
        }
        world.lose_connections();
        world.pass(seconds(180));
        let best = [A, B, C][works.trailing_zeros() as usize];
        prop_assert_eq!(world.on_air(), Some(best));
        prop_assert_eq!(world.last(), &(StreamState::Active, None, Some(works.trailing_zeros() as usize)));
    }
}
