//! Inputs that a worker reads.

use super::*;

const URL: &str = "srt://192.0.2.20:9000";
const WORKER: &str = "worker 0";

#[test]
fn a_workers_input_is_active_with_its_first_picture() {
    let mut world = World::new(config(&[URL]), &[(WORKER, Camera::Plays)]);
    assert_eq!(world.state(), StreamState::Connecting);
    world.packet();
    assert_eq!(world.last(), &(StreamState::Active, None, Some(0)));
    assert_eq!(world.on_air(), Some(WORKER), "Prefer came before it");
    world.stop();
    assert!(world.stopped);
}

#[test]
fn playing_says_the_clock_rate_of_workers() {
    let mut source = Source::new(Instant::now(), config(&[URL]), 1);
    while source.poll_output().is_some() {}
    let sets = Box::new(ParameterSets::new(Codec::H265));
    source.handle_foreign_playing(Instant::now(), Lane::A, Codec::H265, sets);
    let output = source.poll_output().unwrap();
    assert_eq!(format!("{output:?}"), "Playing(A, H265, 90000)");
}

#[test]
fn silence_and_ends_are_failures_like_all_others() {
    let mut world = World::new(config(&[URL, URL_B]), &[(WORKER, Camera::Plays), (B, Camera::Plays)]);
    world.pass(seconds(20));
    world.set(WORKER, Camera::Mute);
    world.pass(seconds(9));
    assert_eq!(world.on_air(), Some(B));
    assert_eq!(world.source.input_reason(0), Some("the input sent no media for 8 s"));
    world.set(WORKER, Camera::Plays);
    world.pass(seconds(60));
    assert_eq!(world.on_air(), Some(WORKER));
    world.kill(WORKER);
    world.packet();
    assert_eq!(world.on_air(), Some(B));
    assert_eq!(world.source.input_reason(0), Some("connection reset by peer"));
}

#[test]
fn an_input_that_does_not_open_ends_in_time() {
    let mut world = World::new(config(&[URL]), &[(WORKER, Camera::Dead)]);
    world.pass(seconds(22));
    assert_eq!(world.state(), StreamState::Connecting);
    world.pass(seconds(2));
    assert_eq!(world.reason(), "the input did not open in time");
}

#[test]
fn pictures_that_nobody_asked_for_are_nothing() {
    let mut world = World::new(config(&[URL, URL_B]), &[(WORKER, Camera::Dead)]);
    world.source.handle_foreign_unit(world.now, Lane::A, 100);
    world.source.handle_foreign_unit(world.now, Lane::B, 100);
    let sets = Box::new(ParameterSets::new(Codec::H264));
    world.source.handle_foreign_playing(world.now, Lane::B, Codec::H264, sets);
    world.source.handle_on_air(world.now, Lane::B);
    world.turn();
    assert_eq!(world.state(), StreamState::Connecting);
}
