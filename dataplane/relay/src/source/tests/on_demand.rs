//! Inputs that are connected only while somebody wants pictures.

use super::*;

fn on_demand(urls: &[&str], idle: u64) -> SourceConfig {
    SourceConfig { on_demand: Some(seconds(idle)), ..config(urls) }
}

const NOBODY: &str = "on demand: nobody watches";

fn inactive() -> (StreamState, Option<String>, Option<usize>) {
    (StreamState::Inactive, Some(NOBODY.into()), None)
}

#[test]
fn nothing_is_connected_until_somebody_wants_pictures_and_then_at_once() {
    let mut world = World::new(on_demand(&[URL_A], 10), &[(A, Camera::Plays)]);
    assert_eq!(world.states, [inactive()]);
    world.pass(seconds(600));
    assert_eq!((world.connects.len(), world.source.poll_timeout()), (0, None));
    world.want(true);
    world.packet();
    assert_eq!(world.connects, [(seconds(600), A.to_owned())]);
    assert_eq!(world.state(), StreamState::Active);
    world.pass(seconds(600));
    assert_eq!(world.state(), StreamState::Active);
}

#[test]
fn it_ends_after_an_idle_time_and_not_before() {
    let mut world = World::new(on_demand(&[URL_A], 10), &[(A, Camera::Plays)]);
    world.want(true);
    world.pass(seconds(5));
    world.want(false);
    world.pass(seconds(9));
    world.want(false);
    assert_eq!(world.state(), StreamState::Active);
    world.want(true);
    world.pass(seconds(20));
    assert_eq!(world.state(), StreamState::Active);
    world.want(false);
    world.pass(seconds(10));
    assert_eq!(world.last(), &inactive());
    assert_eq!((world.torn_down(), world.connected()), (1, 0));
    assert_eq!(world.source.poll_timeout(), None);
    // And again.
    world.want(true);
    world.packet();
    assert_eq!(world.state(), StreamState::Active);
    assert_eq!(world.connects.len(), 2);
}

#[test]
fn a_failing_camera_is_left_alone_too_and_tried_at_once_when_wanted() {
    let mut world = World::new(on_demand(&[URL_A], 10), &[]);
    world.want(true);
    world.pass(seconds(60));
    world.want(false);
    world.pass(seconds(60));
    assert_eq!(world.last(), &inactive());
    let connects = world.connects.len();
    world.pass(seconds(600));
    assert_eq!(world.connects.len(), connects);
    world.set(A, Camera::Plays);
    world.want(true);
    world.packet();
    assert_eq!(world.state(), StreamState::Active);
    // A pause ends when somebody comes.
    world.kill(A);
    world.pass(seconds(60));
    world.want(false);
    world.set(A, Camera::Plays);
    world.timers(world.now);
    world.want(true);
    world.packet();
    assert_eq!(world.state(), StreamState::Active);
}

#[test]
fn a_trial_ends_with_it() {
    let mut world = World::new(on_demand(&[URL_A, URL_B], 3), &[(B, Camera::Plays)]);
    world.want(true);
    world.pass(seconds(2));
    world.set(A, Camera::Plays);
    world.pass(seconds(10));
    assert_eq!(world.connected(), 2);
    world.want(false);
    world.pass(seconds(3));
    assert_eq!((world.last(), world.connected(), world.torn_down()), (&inactive(), 0, 2));
    world.want(true);
    world.packet();
    assert_eq!(world.on_air(), Some(A));
}

#[test]
fn an_update_switches_it_on_and_off() {
    let mut world = World::new(config(&[URL_A]), &[(A, Camera::Plays)]);
    world.want(false);
    world.pass(seconds(60));
    assert_eq!(world.state(), StreamState::Active, "without on-demand, wishes count nothing");
    world.update(on_demand(&[URL_A], 10));
    world.pass(seconds(9));
    assert_eq!((world.state(), world.connects.len()), (StreamState::Active, 1));
    world.pass(seconds(2));
    assert_eq!(world.last(), &inactive());
    world.update(on_demand(&[URL_B], 10));
    assert_eq!(world.connected(), 0);
    world.update(config(&[URL_A]));
    world.packet();
    assert_eq!(world.state(), StreamState::Active);
    // Who watched all the time is not forgotten.
    world.want(true);
    world.update(on_demand(&[URL_A], 10));
    world.pass(seconds(60));
    assert_eq!((world.state(), world.connects.len()), (StreamState::Active, 2));
}

#[test]
fn stops_while_nobody_watches() {
    let mut world = World::new(on_demand(&[URL_A], 10), &[]);
    world.stop();
    assert!(world.stopped);
    world.want(true);
    world.pass(seconds(60));
    assert_eq!(world.connects.len(), 0);
}
