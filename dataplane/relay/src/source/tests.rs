//! A source and cameras that follow a script, in virtual time: one input after the other.

mod failover;
mod foreign;
mod limits;
mod on_demand;
mod storm;
mod world;

use std::time::Duration;

use lanecast_protocol::rtsp::{Credentials, TransportPreference};
use url::Url;

use self::world::*;
use super::*;

#[test]
fn is_connecting_then_active_with_the_first_packet_and_inactive_after_stop() {
    let mut world = World::new(config(&[URL_A]), &[(A, Camera::Plays)]);
    assert_eq!(world.states, [(StreamState::Connecting, None, Some(0))]);
    world.packet();
    assert_eq!(world.states[1..], [(StreamState::Active, None, Some(0))]);
    world.stop();
    assert!(world.requests.last().unwrap().starts_with("TEARDOWN"));
    assert_eq!(world.states[2..], [(StreamState::Inactive, None, None)]);
    assert!(world.stopped && world.connected() == 0);
    assert_eq!(world.source.poll_timeout(), None);
    assert_eq!(world.source.statistics().packets, 1);
}

#[test]
fn stops_from_wherever_it_is() {
    for (url, camera) in [
        (URL_A, Camera::Dead),
        (URL_A, Camera::Absent),
        (URL_A, Camera::Mute),
        ("rtsp://name/", Camera::Absent),
        ("rtsps://name/", Camera::Absent),
    ] {
        let mut world = World::new(config(&[url]), &[(A, camera)]);
        world.stop();
        world.pass(seconds(2));
        assert!(world.stopped, "{camera:?}");
        assert_eq!(world.state(), StreamState::Inactive);
        world.source.stop(world.now);
        world.source.update(world.now, config(&[URL_B]));
        world.turn();
    }
}

#[test]
fn a_refused_connect_is_told_and_tried_again_with_growing_pauses() {
    let mut world = World::new(config(&[URL_A]), &[]);
    assert_eq!(world.state(), StreamState::Error);
    assert_eq!(world.reason(), "cannot connect to 192.0.2.7:554: connection refused");
    world.pass(seconds(120));
    let times: Vec<f64> = world.connects.iter().map(|(at, _)| at.as_secs_f64()).collect();
    for (pause, expected) in
        times.windows(2).map(|pair| pair[1] - pair[0]).zip([1.0, 2.0, 4.0, 5.0, 5.0, 5.0])
    {
        assert!((0.8..=1.2).contains(&(pause / expected)), "{times:?}");
    }
    assert_eq!(world.state(), StreamState::Error);
    world.set(A, Camera::Plays);
    world.pass(seconds(7));
    assert_eq!(world.state(), StreamState::Active);
}

#[test]
fn a_wrong_password_is_not_shown_every_few_seconds() {
    let mut config = config(&[URL_A]);
    config.inputs[0].credentials = Some(Credentials { username: "admin".into(), password: "wrong".into() });
    let mut world = World::new(config, &[(A, Camera::RefusesPasswords)]);
    world.pass(seconds(600));
    assert_eq!(world.reason(), "the camera refuses the user name or password");
    assert!((20..32).contains(&world.connects.len()), "{}", world.connects.len());
}

#[test]
fn the_operators_restart_interval_takes_the_place_of_the_back_off() {
    let restart_interval = Some(seconds(3));
    let mut world = World::new(SourceConfig { restart_interval, ..config(&[URL_A]) }, &[]);
    world.pass(seconds(30));
    let times: Vec<Duration> = world.connects.iter().map(|(at, _)| *at).collect();
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.len() >= 8, "{pauses:?}");
    assert!(pauses.iter().all(|pause| (3000..=3500).contains(&pause.as_millis())), "{pauses:?}");
}

#[test]
fn a_connect_without_answer_ends_in_time() {
    let mut world = World::new(config(&[URL_A]), &[(A, Camera::Dead)]);
    world.pass(Duration::from_millis(4999));
    assert_eq!(world.state(), StreamState::Connecting);
    world.timers(world.now + Duration::from_millis(1));
    assert_eq!(world.reason(), "192.0.2.7:554 did not accept the connection in time");
    assert_eq!(world.connected(), 0);
}

#[test]
fn tries_every_address_of_a_name_in_order() {
    let mut world =
        World::new(config(&["rtsp://cam.example:8554/live"]), &[("192.0.2.3:8554", Camera::Plays)]);
    assert_eq!(world.reason(), "the camera's name cannot be looked up: no such name");
    world.names.insert("cam.example".into(), vec!["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    world.set("192.0.2.2:8554", Camera::Dead);
    world.pass(seconds(9));
    let order: Vec<&str> = world.connects.iter().map(|(_, address)| address.as_str()).collect();
    assert_eq!(order, ["192.0.2.1:8554", "192.0.2.2:8554", "192.0.2.3:8554"]);
    assert_eq!(world.state(), StreamState::Active);
}

#[test]
fn a_camera_that_comes_back_is_taken_back_at_once_after_a_healthy_period() {
    let mut world = World::new(config(&[URL_A]), &[]);
    world.pass(seconds(100));
    world.set(A, Camera::Plays);
    world.pass(seconds(60));
    assert_eq!(world.state(), StreamState::Active);
    let packets = world.packets.len();
    world.lose_connections();
    assert_eq!(world.state(), StreamState::Error);
    assert_eq!(world.reason(), "the connection to the camera was lost: connection reset by peer");
    world.pass(seconds(3));
    assert_eq!(world.state(), StreamState::Active);
    assert!(world.packets.len() > packets);
}

#[test]
fn silence_ends_an_attempt() {
    let mut world = World::new(config(&[URL_A]), &[(A, Camera::Mute)]);
    world.pass(seconds(8));
    assert_eq!(world.reason(), "the camera sent no media for 8 s");
    assert!(world.requests.iter().any(|request| request.starts_with("TEARDOWN")));
}

#[test]
fn fails_over_to_the_next_input_at_once_and_back_to_the_best_after_the_pause() {
    let mut world = World::new(config(&[URL_A, URL_B]), &[(A, Camera::HasNoStream), (B, Camera::Plays)]);
    world.pass(seconds(2));
    assert_eq!(world.last(), &(StreamState::Active, None, Some(1)));
    assert_eq!(world.connects.len(), 2);
    let error = world.states.iter().find(|(state, ..)| *state == StreamState::Error).unwrap();
    assert_eq!(
        error.1.as_deref(),
        Some("rtsp://192.0.2.7/live: the camera answered 404 Not Found to DESCRIBE")
    );

    // Both fail: a pause, then the best again.
    world.set(A, Camera::Plays);
    world.set(B, Camera::Absent);
    world.lose_connections();
    assert_eq!(world.state(), StreamState::Error);
    world.pass(seconds(3));
    assert_eq!(world.last(), &(StreamState::Active, None, Some(0)));
}

#[test]
fn after_a_healthy_period_the_other_inputs_are_tried_before_any_pause() {
    let mut world = World::new(config(&[URL_A, URL_B]), &[(B, Camera::Plays)]);
    world.pass(seconds(30));
    assert_eq!(world.last(), &(StreamState::Active, None, Some(1)));
    world.set(A, Camera::Plays);
    world.lose_connections();
    world.packet();
    assert_eq!(world.last(), &(StreamState::Active, None, Some(0)));
}

#[test]
fn follows_redirects_but_not_for_ever() {
    let cameras = [(A, Camera::Redirects(URL_B)), (B, Camera::Plays)];
    let mut world = World::new(config(&[URL_A]), &cameras);
    world.pass(seconds(1));
    assert_eq!(world.state(), StreamState::Active);
    assert_eq!(world.connects.len(), 2);

    let loops = [(A, Camera::Redirects(URL_B)), (B, Camera::Redirects(URL_A))];
    let world = World::new(config(&[URL_A]), &loops);
    assert_eq!(world.reason(), "the camera redirects more than 5 times");
    assert_eq!(world.connects.len(), 6);
}

#[test]
fn the_password_is_not_shown_to_a_host_that_the_operator_did_not_name() {
    let cameras = [(A, Camera::Redirects(URL_B)), (B, Camera::Dead)];
    let mut config = config(&[URL_A]);
    config.inputs[0].credentials = Some(Credentials { username: "admin".into(), password: "s3cret".into() });
    let mut world = World::new(config, &cameras);
    world.source.handle_connected(world.now, Lane::A, "192.0.2.1:40000".parse().unwrap());
    let challenge = b"RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n";
    world.source.handle_received(world.now, Lane::A, &mut BytesMut::from(&challenge[..]));
    let mut written = String::new();
    while let Some(output) = world.source.poll_output() {
        if let SourceOutput::Write(_, bytes) = output {
            written.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    assert!(written.starts_with("OPTIONS ") && !written.contains("Authorization"), "{written}");
}

#[test]
fn takes_tcp_at_once_when_udp_is_filtered() {
    let mut config = config(&[URL_A]);
    config.inputs[0].transport = TransportPreference::Udp;
    let mut world = World::new(config, &[(A, Camera::UdpIsFiltered)]);
    world.timers(world.now + seconds(3));
    assert_eq!(world.connects.len(), 2);
    assert!(world.requests.iter().rev().find(|it| it.starts_with("SETUP")).unwrap().contains("RTP/AVP/TCP"));
    world.packet();
    assert_eq!(world.state(), StreamState::Active);
    assert!(world.states.iter().all(|(state, ..)| *state != StreamState::Error));
}

#[test]
fn an_update_that_keeps_the_input_in_use_keeps_the_connection() {
    let mut world = World::new(config(&[URL_A]), &[(A, Camera::Plays), (B, Camera::Plays)]);
    world.packet();
    let mut equals = config(&[URL_B, URL_A]);
    equals.inputs[1].priority = 0;
    world.update(equals.clone());
    assert_eq!(world.last(), &(StreamState::Active, None, Some(1)));
    world.update(SourceConfig { silence_timeout: seconds(1), ..equals });
    assert_eq!(world.connects.len(), 1);

    world.update(config(&[URL_B]));
    assert!(world.requests.iter().any(|request| request.starts_with("TEARDOWN")));
    assert_eq!(world.connects.len(), 2);
    world.packet();
    assert_eq!(world.last(), &(StreamState::Active, None, Some(0)));
}

#[test]
fn an_update_ends_a_pause_only_if_it_changes_the_inputs() {
    let mut world = World::new(config(&[URL_A]), &[(B, Camera::Plays)]);
    world.update(config(&[URL_A]));
    assert_eq!(world.connects.len(), 1);
    world.update(config(&[URL_B]));
    assert_eq!(world.connects.len(), 2);
    world.update(config(&[]));
    assert_eq!(world.reason(), "the stream has no inputs");
    assert_eq!(world.connected(), 0);
}

#[test]
fn what_is_not_supported_is_told() {
    let world = World::new(config(&["rtspu://192.0.2.7/live"]), &[]);
    assert_eq!(world.reason(), "rtspu URLs are not supported, only rtsp and rtsps");
    let world = World::new(config(&["rtsp:///live"]), &[]);
    assert_eq!(world.reason(), "the URL has no host");
}
