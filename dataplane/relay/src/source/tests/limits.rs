//! What an input may not do: networks, rates, encryption that ends half-way.

use super::*;

fn denying(urls: &[&str], denied: &[&str]) -> SourceConfig {
    SourceConfig { denied: denied.iter().map(|net| net.parse().unwrap()).collect(), ..config(urls) }
}

const DENIED: &str = "the address 192.0.2.7 is in 192.0.2.0/24, which source.deny_networks forbids";

#[test]
fn no_input_is_in_a_denied_network() {
    for url in [URL_A, "rtsps://192.0.2.7/", "srt://192.0.2.7:9000", "http://192.0.2.7/x.m3u8"] {
        let mut world = World::new(denying(&[url], &["192.0.2.0/24"]), &[(A, Camera::Plays)]);
        assert_eq!(world.last(), &(StreamState::Error, Some(DENIED.into()), None), "{url}");
        world.pass(seconds(20));
        assert_eq!((world.connects.len(), world.connected()), (0, 0));
        world.stop();
        assert!(world.stopped);
    }
    let world = World::new(denying(&["rtsp://[::ffff:192.0.2.7]/"], &["192.0.2.0/24"]), &[]);
    assert_eq!(world.reason(), DENIED);
}

#[test]
fn a_name_is_judged_by_its_addresses() {
    let mut world = World::new(denying(&["rtsp://cam.example/"], &["10.0.0.0/8"]), &[(A, Camera::Plays)]);
    world.names.insert("cam.example".into(), vec!["10.1.2.3", "192.0.2.7", "10.1.2.4"]);
    world.pass(seconds(3));
    assert_eq!(world.connects.iter().map(|(_, to)| to.as_str()).collect::<Vec<_>>(), [A]);
    world.kill(A);
    world.names.insert("cam.example".into(), vec!["10.1.2.3"]);
    world.pass(seconds(10));
    assert_eq!(world.reason(), "the address 10.1.2.3 is in 10.0.0.0/8, which source.deny_networks forbids");
    assert_eq!(world.connects.iter().filter(|(_, to)| to.starts_with("10.")).count(), 0);
}

#[test]
fn a_workers_name_is_looked_up_before_it_is_opened() {
    let url = "http://tv.example/live.m3u8";
    let mut world = World::new(denying(&[url], &["10.0.0.0/8"]), &[("worker 0", Camera::Plays)]);
    assert_eq!(world.reason(), "the camera's name cannot be looked up: no such name");
    world.names.insert("tv.example".into(), vec!["192.0.2.7", "10.1.2.3"]);
    world.pass(seconds(3));
    assert_eq!(world.connects.len(), 0, "the worker might take the one that is denied");
    world.names.insert("tv.example".into(), vec!["192.0.2.7"]);
    world.pass(seconds(10));
    assert_eq!(world.on_air(), Some("worker 0"));
    // What has no host is nowhere.
    let world = World::new(denying(&["file:///srv/x.mp4"], &["0.0.0.0/0", "::/0"]), &[]);
    assert_eq!(world.connects.len(), 1);
    let world = World::new(denying(&["udp://0.0.0.0:5000"], &["127.0.0.0/8"]), &[]);
    assert_eq!(world.connects.len(), 1);
}

#[test]
fn a_redirect_does_not_lead_into_a_denied_network() {
    let cameras = [(A, Camera::Redirects("rtsp://10.0.0.9/")), ("10.0.0.9:554", Camera::Plays)];
    let world = World::new(denying(&[URL_A], &["10.0.0.0/8"]), &cameras);
    assert_eq!(world.reason(), "the address 10.0.0.9 is in 10.0.0.0/8, which source.deny_networks forbids");
    assert_eq!((world.connects.len(), world.connected()), (1, 0));
}

#[test]
fn nor_does_a_cameras_transport() {
    let mut config = denying(&[URL_A], &["10.0.0.0/8"]);
    config.inputs[0].transport = TransportPreference::Udp;
    let world = World::new(config, &[(A, Camera::NamesAnotherHost)]);
    assert_eq!(world.reason(), "the address 10.9.9.9 is in 10.0.0.0/8, which source.deny_networks forbids");
    assert_eq!((world.torn_down(), world.connected()), (1, 0));
}

#[test]
fn a_network_that_is_denied_later_ends_what_plays_there() {
    for (url, who) in [(URL_A, A), ("srt://192.0.2.7:9000", "worker 0"), ("srt://cam.example:1", "worker 0")]
    {
        let mut world = World::new(config(&[url]), &[(who, Camera::Plays)]);
        world.names.insert("cam.example".into(), vec!["192.0.2.7"]);
        world.pass(seconds(2));
        assert_eq!(world.on_air(), Some(who));
        world.update(denying(&[url], &["192.0.2.0/24"]));
        assert_eq!(world.last(), &(StreamState::Error, Some(DENIED.into()), None));
        assert_eq!(world.connected(), 0);
        world.update(denying(&[url], &["198.51.100.0/24"]));
        world.pass(seconds(10));
        assert_eq!(world.on_air(), Some(who));
    }
}

#[test]
fn a_camera_that_sends_too_much_is_left() {
    let limited = SourceConfig { bits_per_second_max: 1_500_000, ..config(&[URL_A]) };
    let mut world = World::new(limited, &[(A, Camera::Plays)]);
    world.pass(seconds(30));
    assert_eq!(world.state(), StreamState::Active);
    let frame = [&[b'$', 9, 0x27, 0x10][..], &[0; 10_000]].concat();
    for _ in 0..37 {
        world.source.handle_received(world.now, Lane::A, &mut BytesMut::from(&frame[..]));
    }
    world.turn();
    assert_eq!(world.state(), StreamState::Active);
    world.source.handle_received(world.now, Lane::A, &mut BytesMut::from(&frame[..]));
    world.turn();
    let reason = "the camera sends more than source.max_bits_per_second (1.5 Mb/s)";
    assert_eq!(world.last(), &(StreamState::Error, Some(reason.into()), None));
    assert_eq!((world.torn_down(), world.connected()), (1, 0));
}

#[test]
fn what_waits_in_the_receive_buffer_counts_once() {
    let limited = SourceConfig { bits_per_second_max: 1_000_000, ..config(&[URL_A]) };
    let mut world = World::new(limited, &[(A, Camera::Plays)]);
    world.pass(seconds(3));
    // A frame of 60 KB that comes in small pieces: the buffer grows, and is handed over each time.
    let frame = [&[b'$', 9, 0xea, 0x60][..], &[0; 60_000]].concat();
    let mut received = BytesMut::new();
    for piece in frame.chunks(1000) {
        received.extend_from_slice(piece);
        world.source.handle_received(world.now, Lane::A, &mut received);
    }
    assert!(received.is_empty());
    world.turn();
    assert_eq!(world.state(), StreamState::Active);
}

#[test]
fn a_workers_input_that_sends_too_much_is_left() {
    let limited = SourceConfig { bits_per_second_max: 100_000_000, ..config(&["udp://239.0.0.1:5000"]) };
    let mut world = World::new(limited, &[("worker 0", Camera::Plays)]);
    world.pass(seconds(3));
    world.source.handle_foreign_unit(world.now, Lane::A, 30 << 20);
    world.turn();
    assert_eq!(world.reason(), "the camera sends more than source.max_bits_per_second (100 Mb/s)");
    assert_eq!(world.connected(), 0);
}

#[test]
fn rtsps_names_its_host_and_stays_on_its_connection() {
    for (url, name) in [
        ("rtsps://192.0.2.7/live", "192.0.2.7"),
        ("rtsps://[2001:db8::7]/live", "2001:db8::7"),
        ("rtsps://cam.example/live", "cam.example"),
    ] {
        let mut config = config(&[url]);
        config.inputs[0].transport = TransportPreference::Udp;
        let cameras = [("192.0.2.7:322", Camera::Plays), ("[2001:db8::7]:322", Camera::Plays)];
        let mut world = World::new(config, &cameras);
        world.names.insert("cam.example".into(), vec!["192.0.2.7"]);
        world.pass(seconds(3));
        assert_eq!(world.state(), StreamState::Active, "{url}");
        assert_eq!(world.tls_names.last().unwrap().as_deref(), Some(name));
        let setups = world.requests.iter().filter(|request| request.starts_with("SETUP"));
        assert!(setups.clone().count() == 1 && setups.clone().all(|setup| setup.contains("RTP/AVP/TCP")));
    }
    let world = World::new(config(&[URL_A]), &[(A, Camera::Plays)]);
    assert_eq!(world.tls_names, [None]);
}

#[test]
fn a_redirect_out_of_tls_is_refused_and_one_into_it_followed() {
    let world = World::new(config(&["rtsps://192.0.2.7/"]), &[("192.0.2.7:322", Camera::Redirects(URL_B))]);
    assert_eq!(world.reason(), "the camera redirects from rtsps to rtsp, where the password could be read");
    assert_eq!(world.connected(), 0);
    let cameras = [(A, Camera::Redirects("rtsps://192.0.2.8/")), ("192.0.2.8:322", Camera::Plays)];
    let mut world = World::new(config(&[URL_A]), &cameras);
    world.packet();
    assert_eq!(world.state(), StreamState::Active);
}
