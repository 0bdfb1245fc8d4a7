//! Failover to the next input, and return to a better one.

use super::*;

/// The best is away, and the second gives pictures.
fn on_the_second() -> World {
    let mut world = World::new(config(&[URL_A, URL_B]), &[(B, Camera::Plays)]);
    world.pass(seconds(2));
    assert_eq!(world.on_air(), Some(B));
    world
}

/// As above, and the best delivers again, but not for long enough yet.
fn during_a_trial() -> World {
    let mut world = on_the_second();
    world.set(A, Camera::Plays);
    world.pass(seconds(13));
    assert_eq!((world.lane_of(B), world.lane_of(A)), (Some(Lane::A), Some(Lane::B)));
    assert_eq!(world.on_air(), Some(B));
    world
}

#[test]
fn a_dead_camera_is_replaced_within_the_silence_timeout() {
    let cameras = [(A, Camera::Plays), (B, Camera::Plays)];
    let mut world = World::new(config(&[URL_A, URL_B]), &cameras);
    world.pass(seconds(20));
    world.set(A, Camera::Dead);
    let died = world.elapsed();
    world.pass(seconds(9));
    assert_eq!(world.last(), &(StreamState::Active, None, Some(1)));
    let (at, who) = world.shows.last().unwrap();
    assert_eq!(who, B);
    assert!(*at - died <= seconds(8), "{at:?} {died:?}");
    assert_eq!(world.source.failovers(), 1);
    let reason = "rtsp://192.0.2.7/live: the camera sent no media for 8 s";
    assert!(world.states.contains(&(StreamState::Error, Some(reason.into()), None)));
    assert_eq!(world.source.input_reason(0), Some("the camera sent no media for 8 s"));
    assert_eq!(world.source.input_reason(1), None);
}

#[test]
fn a_lost_connection_is_replaced_at_once() {
    let cameras = [(A, Camera::Plays), (B, Camera::Plays)];
    let mut world = World::new(config(&[URL_A, URL_B]), &cameras);
    world.pass(seconds(20));
    world.kill(A);
    world.packet();
    assert_eq!(world.on_air(), Some(B));
    assert_eq!(world.shows.last().unwrap().0, world.elapsed());
}

#[test]
fn returns_to_the_better_input_when_it_has_been_healthy_for_a_while() {
    let mut world = on_the_second();
    let states = world.states.len();
    world.set(A, Camera::Plays);
    world.pass(seconds(30));
    assert_eq!(world.on_air(), Some(A));
    assert_eq!(world.states[states..], [(StreamState::Active, None, Some(0))], "nobody is told of the trial");
    assert_eq!((world.lane_of(A), world.lane_of(B)), (Some(Lane::B), None));
    assert_eq!(world.torn_down(), 1, "what was in use is ended properly");
    let tried = world.connects.last().unwrap().0;
    assert!(world.shows.last().unwrap().0 - tried >= seconds(10));
    assert_eq!(world.source.failovers(), 1);
    assert_eq!(world.prefers.iter().map(|(_, lane)| *lane).collect::<Vec<_>>(), [Lane::A, Lane::B]);
    // And again, the other way round: lanes have no favourites.
    world.kill(A);
    world.packet();
    assert_eq!(world.on_air(), Some(B));
    world.set(A, Camera::Plays);
    world.pass(seconds(45));
    assert_eq!((world.on_air(), world.lane_of(A)), (Some(A), Some(Lane::A)));
    assert_eq!(world.source.failovers(), 3);
}

#[test]
fn what_is_on_air_is_not_disturbed_by_a_dead_better_input_and_that_one_is_not_hammered() {
    let mut world = on_the_second();
    world.set(A, Camera::Dead);
    let (states, shows) = (world.states.len(), world.shows.len());
    world.pass(seconds(3600));
    assert_eq!((world.states.len(), world.shows.len()), (states, shows));
    let times: Vec<f64> =
        world.connects.iter().filter(|(_, to)| to == A).map(|(at, _)| at.as_secs_f64()).collect();
    let pauses: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] >= 4.0 && pauses[0] < 7.0, "{pauses:?}");
    assert!(pauses[5..].iter().all(|pause| (24.0..=42.0).contains(pause)), "{pauses:?}");
    assert_eq!(world.prefers.len(), 1);
}

#[test]
fn a_better_input_that_flaps_for_an_hour_never_interrupts() {
    let mut world = on_the_second();
    let shows = world.shows.len();
    let packets = world.packets.len();
    for _ in 0..600 {
        world.set(A, Camera::Plays);
        world.pass(seconds(4));
        world.kill(A);
        world.pass(seconds(2));
    }
    assert_eq!(world.shows.len(), shows);
    assert_eq!(world.prefers.len(), 1);
    assert_eq!(world.source.failovers(), 0);
    assert!(world.packets.len() > packets + 3500, "the one on air sends a packet a second");
    let trials = world.connects.iter().filter(|(_, to)| to == A).count();
    assert!((90..400).contains(&trials), "{trials}");
}

#[test]
fn the_trial_takes_over_at_once_when_the_one_on_air_dies() {
    let mut world = during_a_trial();
    let states = world.states.len();
    world.kill(B);
    assert_eq!(world.prefers.last(), Some(&(world.elapsed(), Lane::B)));
    assert_eq!(world.states[states..], [(StreamState::Active, None, Some(0))]);
    world.packet();
    assert_eq!(world.on_air(), Some(A));
    assert_eq!(world.source.failovers(), 1);
}

#[test]
fn a_trial_that_fails_is_nobodys_news() {
    let mut world = during_a_trial();
    let (states, prefers) = (world.states.len(), world.prefers.len());
    world.kill(A);
    world.pass(seconds(60));
    assert_eq!((world.states.len(), world.prefers.len()), (states, prefers));
    assert_eq!(world.on_air(), Some(B));
    assert_eq!(world.source.input_reason(0), Some("cannot connect to 192.0.2.7:554: connection refused"));
}

#[test]
fn a_trial_without_a_keyframe_is_given_up() {
    let mut world = on_the_second();
    world.set(A, Camera::NoKeyframes);
    world.pass(seconds(60));
    let prefers: Vec<Lane> = world.prefers.iter().map(|(_, lane)| *lane).collect();
    assert_eq!(prefers, [Lane::A, Lane::B, Lane::A]);
    let pause = world.prefers[2].0 - world.prefers[1].0;
    assert_eq!(pause.as_secs(), 30);
    assert_eq!(world.on_air(), Some(B));
    assert_eq!(world.last(), &(StreamState::Active, None, Some(1)));
    let reason = "no picture to begin with came within 30 s";
    assert_eq!(world.source.input_reason(0), Some(reason));
}

#[test]
fn an_input_without_a_keyframe_is_no_input_where_there_is_another() {
    let cameras = [(A, Camera::NoKeyframes), (B, Camera::Plays)];
    let mut world = World::new(config(&[URL_A, URL_B]), &cameras);
    world.pass(seconds(33));
    assert_eq!((world.on_air(), world.last()), (Some(B), &(StreamState::Active, None, Some(1))));
    world.pass(seconds(600));
    assert_eq!(world.on_air(), Some(B));
    // A lone one may take its time.
    let mut world = World::new(config(&[URL_A]), &cameras);
    world.pass(seconds(600));
    assert_eq!((world.state(), world.connects.len()), (StreamState::Active, 1));
}

#[test]
fn a_preferred_trial_that_fails_before_its_first_picture_is_taken_back() {
    let mut world = on_the_second();
    world.set(A, Camera::NoKeyframes);
    while world.prefers.len() < 2 {
        world.pass(seconds(1));
    }
    world.kill(A);
    assert_eq!(world.prefers.last(), Some(&(world.elapsed(), Lane::A)));
    // The one on air may have died instead: then the trial stays preferred.
    let mut world = on_the_second();
    world.set(A, Camera::NoKeyframes);
    while world.prefers.len() < 2 {
        world.pass(seconds(1));
    }
    world.kill(B);
    assert_eq!(world.prefers.len(), 2);
    assert_eq!(world.last(), &(StreamState::Active, None, Some(0)));
}

#[test]
fn equals_do_not_take_turns() {
    let mut equals = config(&[URL_A, URL_B]);
    equals.inputs[1].priority = 0;
    let mut world = World::new(equals, &[(B, Camera::Plays)]);
    world.pass(seconds(2));
    world.set(A, Camera::Plays);
    world.pass(seconds(600));
    assert_eq!(world.on_air(), Some(B));
    assert_eq!(world.connects.len(), 2);
    world.kill(B);
    world.packet();
    assert_eq!(world.on_air(), Some(A));
}

#[test]
fn the_best_that_works_is_used_and_the_better_ones_still_tried() {
    let mut world = World::new(config(&[URL_A, URL_B, URL_C]), &[(A, Camera::Dead), (C, Camera::Plays)]);
    world.pass(seconds(8));
    assert_eq!(world.on_air(), Some(C));
    world.set(B, Camera::Plays);
    world.pass(seconds(60));
    assert_eq!(world.on_air(), Some(B));
    world.set(A, Camera::Plays);
    world.pass(seconds(60));
    assert_eq!(world.on_air(), Some(A));
    let shown: Vec<&str> = world.shows.iter().map(|(_, who)| who.as_str()).collect();
    assert_eq!(shown, [C, B, A]);
}

#[test]
fn what_just_failed_a_trial_does_not_delay_a_failover() {
    let cameras = [(A, Camera::Dead), (B, Camera::Plays), (C, Camera::Plays)];
    let mut world = World::new(config(&[URL_A, URL_B, URL_C]), &cameras);
    world.pass(seconds(120));
    assert_eq!(world.on_air(), Some(B));
    // Whatever the trial of A is at.
    for _ in 0..40 {
        world.kill(B);
        world.packet();
        assert_eq!(world.on_air(), Some(C));
        world.set(B, Camera::Plays);
        world.pass(seconds(60));
        assert_eq!(world.on_air(), Some(B));
        world.pass(Duration::from_millis(500));
    }
}

#[test]
fn an_attempt_at_the_best_that_is_under_way_is_all_that_is_left_when_the_last_fails() {
    let mut world = on_the_second();
    world.set(A, Camera::Dead);
    while world.lane_of(A).is_none() {
        world.pass(seconds(1));
    }
    let connects = world.connects.len();
    world.kill(B);
    assert_eq!(world.state(), StreamState::Connecting);
    assert_eq!(world.connects.len(), connects, "it goes on");
    world.source.handle_connected(world.now, Lane::B, "192.0.2.1:40000".parse().unwrap());
    world.set(A, Camera::Plays);
    world.turn();
    world.packet();
    assert_eq!(world.on_air(), Some(A));
    assert_eq!(world.connected(), 1);
}

#[test]
fn an_update_during_a_trial_keeps_what_is_on_air() {
    let mut world = during_a_trial();
    let connects = world.connects.len();
    world.update(config(&[URL_C, URL_A, URL_B]));
    assert_eq!(world.last(), &(StreamState::Active, None, Some(2)));
    assert_eq!(world.lane_of(B), Some(Lane::A));
    world.pass(seconds(1));
    assert_eq!(world.connects[connects].1, C, "the new best is tried at once");
    world.pass(seconds(40));
    assert_eq!(world.on_air(), Some(A));
    // And settings alone change nothing.
    let connects = world.connects.len();
    world.update(SourceConfig { return_after: seconds(1), ..config(&[URL_C, URL_A, URL_B]) });
    assert_eq!((world.connects.len(), world.on_air()), (connects, Some(A)));
}

#[test]
fn an_update_that_takes_the_input_in_use_away_leaves_a_trial_that_plays() {
    let mut world = during_a_trial();
    let connects = world.connects.len();
    world.update(config(&[URL_A]));
    assert_eq!(world.last(), &(StreamState::Active, None, Some(0)));
    world.packet();
    assert_eq!((world.on_air(), world.connected()), (Some(A), 1));
    assert_eq!(world.connects.len(), connects);
}

#[test]
fn an_update_takes_a_preference_back() {
    let mut world = on_the_second();
    world.set(A, Camera::NoKeyframes);
    while world.prefers.len() < 2 {
        world.pass(seconds(1));
    }
    world.update(config(&[URL_B]));
    assert_eq!(world.prefers.last().unwrap().1, Lane::A);
    assert_eq!(world.connected(), 1);
}

#[test]
fn both_lanes_are_torn_down_and_stopped_once() {
    let mut world = during_a_trial();
    world.stop();
    assert!(world.stopped);
    assert_eq!(world.torn_down(), 2);
    assert_eq!(world.source.poll_timeout(), None);
    assert_eq!(world.state(), StreamState::Inactive);
}

#[test]
fn a_camera_that_does_not_answer_teardown_is_left_after_a_second() {
    let mut world = during_a_trial();
    world.source.stop(world.now);
    // Neither answers.
    let mut stopped = 0;
    for _ in 0..100 {
        while let Some(output) = world.source.poll_output() {
            stopped += u32::from(matches!(output, SourceOutput::Stopped));
            assert!(!matches!(output, SourceOutput::Packet(..) | SourceOutput::Playing { .. }));
        }
        world.now += Duration::from_millis(100);
        world.source.handle_timeout(world.now);
    }
    assert_eq!(stopped, 1);
}
