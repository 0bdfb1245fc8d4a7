//! The wire contract of WSC-RTP, both revisions: messages, punches, transports, and what gets no answer.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use serde_json::json;
use tungstenite::Message;

use crate::harness::{
    Codec, GstServer, Incoming, Server, Udp, Viewer, ViewerOptions, access_units, assert_continuous, until,
};

/// Packets enough to say that media flows.
const FLOW: usize = 30;

#[test]
fn init_speaks_both_revisions_and_tells_no_credential() {
    let server = Server::start();
    let camera = GstServer::start("--digest ann:s3cret-word");
    server.rest.create(7, &format!("{}?token=hush-hush", camera.url_with("ann", "s3cret-word")));
    server.rest.active("7");
    for viewer in [Viewer::revision_1(&server, "7"), Viewer::revision_2(&server, "7")] {
        let init = viewer.init();
        assert_eq!(init["token"], init["session_id"]);
        assert_eq!(init["token"].as_str().map(str::len), Some(36), "a UUID");
        assert_eq!(init["server_port"], init["holepunch_port"]);
        assert!(init["server_port"].as_u64().is_some_and(|port| port > 0));
        assert!(init["udp_holepunch_required"].is_boolean());
        let active = &init["active_source"];
        assert!(active["label"].is_string() && active["priority"].is_number(), "{init}");
        let url = active["url"].as_str().expect("a URL");
        assert!(url.starts_with("rtsp://127.0.0.1"), "{url}");
        assert!(
            !init.to_string().contains("s3cret-word") && !init.to_string().contains("hush-hush"),
            "{init}"
        );
        assert!(!url.contains("ann"), "{url}");
    }
}

#[test]
fn a_revision_1_punch_brings_media_from_the_punched_port_to_the_named_port() {
    let (server, _camera) = server_with_camera();
    let viewer = Viewer::revision_1(&server, "7");
    let (puncher, receiver) = (Udp::open(), Udp::open());

    viewer.punch(&puncher, receiver.port());

    let packets = receiver.rtp_at_least(FLOW);
    assert_continuous(&packets);
    assert!(access_units(&packets, Codec::H264)[0].is_random_access(Codec::H264));
    assert_eq!(receiver.rtp_source().map(|from| from.port()), Some(viewer.punch_address().port()));
    assert!(puncher.nothing_came());
    let sdp = viewer.sdp();
    assert!(sdp.contains(&format!("m=video {} RTP/AVP 96\r\n", receiver.port())), "{sdp}");
}

#[test]
fn a_revision_1_client_that_never_punches_is_described_after_a_second() {
    let (server, _camera) = server_with_camera();
    let start = Instant::now();
    let viewer = Viewer::revision_1(&server, "7");
    let sdp = viewer.sdp();
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    assert_described(&sdp, "H264");
}

#[test]
fn the_revision_2_handshake_starts_media_only_after_the_ack() {
    let (server, _camera) = server_with_camera();
    let viewer = Viewer::revision_2(&server, "7");
    let udp = Udp::open();
    assert_described(&viewer.sdp(), "H264");

    viewer.hello(&udp);
    let dummies = udp.others(2);
    assert!(udp.rtp().is_empty(), "no media before the ack");
    for (from, dummy) in dummies {
        assert_eq!(from, viewer.punch_address());
        assert_eq!(dummy, format!("ws-rtp-dummy {}", viewer.token()).as_bytes());
    }
    viewer.acknowledge(&udp);

    let packets = udp.rtp_at_least(FLOW);
    assert_continuous(&packets);
    assert!(access_units(&packets, Codec::H264)[0].is_random_access(Codec::H264));
    assert_eq!(udp.rtp_source(), Some(viewer.punch_address()));
}

#[test]
fn a_client_that_reads_the_new_names_may_punch_with_the_old_one() {
    let (server, _camera) = server_with_camera();
    let viewer = Viewer::revision_2(&server, "7");
    viewer.sdp();
    let udp = Udp::open();
    viewer.punch(&udp, udp.port());
    assert_continuous(&udp.rtp_at_least(FLOW));
}

#[test]
fn without_an_ack_media_falls_back_to_the_websocket_and_a_late_handshake_brings_it_back() {
    let (server, _camera) = server_with_camera();
    let viewer = Viewer::revision_2(&server, "7");
    viewer.sdp();
    let udp = Udp::open();
    viewer.hello(&udp);
    udp.others(5);

    viewer.message("falling_back_rtp_to_ws");
    let by_websocket = viewer.rtp(FLOW);
    assert_continuous(&by_websocket);
    assert!(access_units(&by_websocket, Codec::H264)[0].is_random_access(Codec::H264));
    assert_eq!(udp.others(5).len(), 5, "at most five dummies before an ack");
    assert!(udp.rtp().is_empty());

    viewer.hello(&udp);
    udp.others(6);
    viewer.acknowledge(&udp);
    let by_udp = udp.rtp_at_least(FLOW);
    assert_continuous(&by_udp);
    assert_eq!(by_udp[0].ssrc(), by_websocket[0].ssrc(), "one SSRC for the session's life");
    let step = by_udp[0].sequence().wrapping_sub(by_websocket[FLOW - 1].sequence()).cast_signed();
    assert!(step > 0, "sequence numbers go on: {step}");
}

#[test]
fn a_client_that_never_says_hello_by_udp_gets_media_by_websocket() {
    let (server, _camera) = server_with_camera();
    let viewer = Viewer::revision_2(&server, "7");
    viewer.message("falling_back_rtp_to_ws");
    assert_continuous(&viewer.rtp(FLOW));
}

#[test]
fn forced_websocket_transport_starts_at_once_and_says_nothing_of_falling_back() {
    let (server, _camera) = server_with_camera();
    let viewer = Viewer::websocket(&server, "7");
    assert_described(&viewer.sdp(), "H264");
    let packets = viewer.rtp(FLOW);
    assert_continuous(&packets);
    assert!(access_units(&packets, Codec::H264)[0].is_random_access(Codec::H264));
    assert!(!kinds(&viewer).contains(&"falling_back_rtp_to_ws".to_owned()));
}

#[test]
fn h265_is_described_with_its_three_parameter_sets() {
    let server = Server::start();
    let camera = GstServer::start("--codec h265");
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    let viewer = Viewer::websocket(&server, "7");
    assert_described(&viewer.sdp(), "H265");
    let packets = viewer.rtp(FLOW);
    assert_continuous(&packets);
    assert!(access_units(&packets, Codec::H265)[0].is_random_access(Codec::H265));
    assert_eq!(server.rest.stream("7")["codec"].as_str().map(str::to_uppercase).as_deref(), Some("H265"));
}

#[test]
fn before_the_description_only_init_errors_pongs_and_the_reason_are_said() {
    let server = Server::start();
    // Nobody listens on a port that was just closed.
    let nobody = GstServer::start("").kill();
    server.rest.create(7, &nobody.url());
    let viewer = Viewer::revision_2(&server, "7");
    viewer.send_text("nonsense");
    viewer.message("error");
    server.rest.error_reason("7");
    until("the stream's state", || {
        let states = viewer.seen().into_iter().filter_map(|incoming| match incoming {
            Incoming::Json(message) if message["type"] == "stream_state" => Some(message["state"].clone()),
            _ => None,
        });
        states.into_iter().any(|state| state == "Error").then_some(())
    });
    for kind in kinds(&viewer) {
        assert!(["error", "pong", "stream_state"].contains(&kind.as_str()), "{kind} before the description");
    }
    let camera = nobody.restart();
    server.rest.active("7");
    assert_described(&viewer.sdp(), "H264");
    drop(camera);
}

#[test]
fn websocket_garbage_gets_an_error_and_the_session_lives_on() {
    let (server, _camera) = server_with_camera();
    let viewer = Viewer::websocket(&server, "7");
    viewer.sdp();
    let garbage = [
        Message::text(""),
        Message::text("not json"),
        Message::text("[]"),
        Message::text(r#"{"type":"reboot"}"#),
        Message::text(r#"{"type":7}"#),
        Message::text(format!(r#"{{"type":"{}"}}"#, "x".repeat(4000))),
        Message::text("[".repeat(4000)),
        Message::binary(vec![0x80; 100]),
    ];
    for message in garbage {
        viewer.send(message);
        assert!(viewer.message("error")["message"].is_string());
    }
    viewer.send_text(r#"{"type":"ping"}"#);
    viewer.message("pong");
    assert_continuous(&viewer.rtp(2 * FLOW));
}

#[test]
fn a_monstrous_message_costs_only_its_own_session() {
    let (server, _camera) = server_with_camera();
    let other = Viewer::websocket(&server, "7");
    let viewer = Viewer::websocket(&server, "7");
    viewer.send(Message::text("x".repeat(20 << 20)));
    until("the end of the session or an error", || {
        let said = |one: &Incoming| match one {
            Incoming::Json(message) => message["type"] == "error",
            Incoming::Closed(_) => true,
            Incoming::Rtp(_) => false,
        };
        viewer.seen().iter().any(said).then_some(())
    });
    assert_continuous(&other.rtp(2 * FLOW));
}

#[test]
fn a_client_that_stops_pinging_is_closed_with_1001_after_five_seconds() {
    let (server, _camera) = server_with_camera();
    let options = ViewerOptions { pings: false, ..Default::default() };
    let viewer = Viewer::connect(&server, "7", &options);
    let start = Instant::now();
    assert_eq!(viewer.close_code(), Some(1001));
    let elapsed = start.elapsed();
    assert!(elapsed > Duration::from_millis(4500) && elapsed < Duration::from_secs(10), "{elapsed:?}");
    server.rest.stream_when("7", "without viewers", |stream| stream["viewers"] == 0);
}

#[test]
fn a_websocket_ping_counts_as_a_ping() {
    let (server, _camera) = server_with_camera();
    let viewer = Viewer::connect(&server, "7", &ViewerOptions { pings: false, ..Default::default() });
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        viewer.send(Message::Ping("still here".into()));
        // The client's rhythm is what is tested here.
        std::thread::sleep(Duration::from_secs(2));
    }
    assert!(viewer.is_open());
}

#[test]
fn garbage_and_unknown_tokens_on_the_udp_port_get_no_answer_and_disturb_nobody() {
    let (server, _camera) = server_with_camera();
    let viewer = Viewer::revision_2(&server, "7");
    let (udp, stranger) = (Udp::open(), Udp::open());
    viewer.shake_hands(&udp);
    let port = viewer.punch_address();
    let before = udp.rtp_at_least(FLOW).len();

    let unknown = "00000000-0000-4000-8000-000000000000";
    let token = viewer.token();
    let datagrams = [
        String::new(),
        "t".into(),
        format!("t5rtp {unknown} {}", stranger.port()),
        format!("ws-rtp {unknown}"),
        format!("ws-rtp-ack {unknown}"),
        format!("t5rtp {token} 0"),
        format!("t5rtp {token} 99999"),
        format!("t5rtp {token} {} more", stranger.port()),
        format!("ws-rtp {token}x"),
        format!("ws-rtp-dummy {token}"),
        "w".repeat(60000),
    ];
    for datagram in &datagrams {
        stranger.send(port, datagram);
    }
    for first in 0..=255u8 {
        stranger.send(port, [first, 0, 1, 2, 3]);
        stranger.send(port, [first; 1400]);
    }

    let packets = udp.rtp_at_least(before + 2 * FLOW);
    assert_continuous(&packets);
    assert!(stranger.nothing_came(), "nothing is sent in answer");
    assert!(viewer.is_open());
}

#[test]
fn a_known_token_from_another_address_gets_media_only_after_its_ack() {
    let (server, _camera) = server_with_camera();
    let elsewhere = Udp::open_on(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
    let viewer = Viewer::revision_1(&server, "7");
    let home = Udp::open();
    viewer.punch(&home, home.port());
    home.rtp_at_least(FLOW);
    viewer.punch(&elsewhere, home.port());
    let so_far = home.rtp().len();
    assert_continuous(&home.rtp_at_least(so_far + FLOW));
    viewer.punch(&elsewhere, elsewhere.port());
    viewer.send_text(r#"{"type":"ping"}"#);
    viewer.message("pong");
    assert!(elsewhere.nothing_came(), "no reflection: {} packets", elsewhere.rtp().len());

    let viewer = Viewer::revision_2(&server, "7");
    viewer.shake_hands(&elsewhere);
    assert_continuous(&elsewhere.rtp_at_least(FLOW));
}

#[test]
fn the_latest_punch_wins() {
    let (server, _camera) = server_with_camera();
    let viewer = Viewer::revision_1(&server, "7");
    let (first, second) = (Udp::open(), Udp::open());
    viewer.punch(&first, first.port());
    first.rtp_at_least(FLOW);
    viewer.punch(&second, second.port());
    let after = second.rtp_at_least(FLOW);
    assert_continuous(&after);
    let before = first.rtp();
    assert_continuous(&before);
    assert_eq!(before[0].ssrc(), after[0].ssrc());
    let step = after[0].sequence().wrapping_sub(before[before.len() - 1].sequence());
    assert_eq!(step, 1, "sequence numbers go on over the move");
}

#[test]
fn a_port_that_nobody_listens_on_costs_nobody_else_anything() {
    let (server, _camera) = server_with_camera();
    let other = Viewer::revision_1(&server, "7");
    let other_udp = Udp::open();
    other.punch(&other_udp, other_udp.port());
    other_udp.rtp_at_least(FLOW);

    let viewer = Viewer::revision_1(&server, "7");
    let closed = Udp::open().port();
    let puncher = Udp::open();
    viewer.punch(&puncher, closed);
    viewer.sdp();
    let so_far = other_udp.rtp().len();
    assert_continuous(&other_udp.rtp_at_least(so_far + FLOW));

    let receiver = Udp::open();
    viewer.punch(&puncher, receiver.port());
    assert_continuous(&receiver.rtp_at_least(FLOW));
    assert!(viewer.is_open());
}

#[test]
fn a_session_ended_by_rest_is_told_why_and_is_gone() {
    let (server, _camera) = server_with_camera();
    for prefix in ["/client-session-control", "/streams/7/wsc-rtp"] {
        let viewer = Viewer::websocket(&server, "7");
        viewer.rtp(FLOW);
        let path = format!("{prefix}/{}", viewer.token());
        let mode = server.rest.get(&format!("{path}/mode")).expect(200).json();
        assert_eq!(mode, json!({ "is_live": true, "current_time_ms": null, "speed": 1.0 }));
        server.rest.delete(&path).expect(204);
        viewer.message("error");
        assert!(viewer.close_code().is_some(), "a close frame with a code");
        server.rest.delete(&path).expect(404);
        server.rest.get(&format!("{path}/mode")).expect(404);
    }
}

#[test]
fn playback_verbs_of_a_stream_without_recordings_leave_the_session_playing() {
    let (server, _camera) = server_with_camera();
    let viewer = Viewer::websocket(&server, "7");
    viewer.rtp(FLOW);
    for prefix in ["/client-session-control", "/streams/7/wsc-rtp"] {
        let path = format!("{prefix}/{}", viewer.token());
        let answer =
            server.rest.post(&format!("{path}/seek"), &json!({ "timestamp": 1_700_000_000_000_u64 }));
        assert!([404, 409].contains(&answer.status), "{answer:?}");
        answer.error_code();
        let answer = server.rest.post(&format!("{path}/speed"), &json!({ "speed": 2.0 })).expect(409);
        answer.error_code();
    }
    assert_continuous(&viewer.rtp(FLOW));
}

#[test]
fn deleting_a_stream_tells_its_viewers_and_ends_their_sessions() {
    let (server, _camera) = server_with_camera();
    let by_websocket = Viewer::websocket(&server, "7");
    let by_udp = Viewer::revision_2(&server, "7");
    let udp = Udp::open();
    by_udp.shake_hands(&udp);
    udp.rtp_at_least(FLOW);
    by_websocket.rtp(FLOW);

    server.rest.delete("/streams/7").expect(204);

    for viewer in [by_websocket, by_udp] {
        viewer.message("error");
        viewer.close_code();
        server.rest.delete(&format!("/client-session-control/{}", viewer.token())).expect(404);
    }
    server.rest.get("/streams/7").expect(404);
}

#[test]
fn viewers_are_counted_while_they_are_there() {
    let (server, _camera) = server_with_camera();
    let viewers: Vec<_> = (0..3).map(|_| Viewer::websocket(&server, "7")).collect();
    server.rest.stream_when("7", "with three viewers", |stream| stream["viewers"] == 3);
    drop(viewers);
    server.rest.stream_when("7", "without viewers", |stream| stream["viewers"] == 0);
}

fn server_with_camera() -> (Server, GstServer) {
    let server = Server::start();
    let camera = GstServer::start("--codec h264");
    server.rest.create(7, &camera.url());
    server.rest.active("7");
    (server, camera)
}

/// The form of section 4.
#[track_caller]
fn assert_described(sdp: &str, codec: &str) {
    let lines: Vec<&str> = sdp.split_terminator("\r\n").collect();
    assert!(
        sdp.ends_with("\r\n") && lines.iter().all(|line| !line.contains('\n')),
        "lines end in CRLF: {sdp:?}"
    );
    assert_eq!(lines[0], "v=0");
    assert!(lines[1].starts_with("o=- 7 ") && lines[1].ends_with(" IN IP4 0.0.0.0"), "{}", lines[1]);
    assert!(lines.contains(&"s=lanecast") && lines.contains(&"c=IN IP4 0.0.0.0") && lines.contains(&"t=0 0"));
    assert_eq!(lines.iter().filter(|line| line.starts_with("m=")).count(), 1);
    assert!(lines.contains(&format!("a=rtpmap:96 {codec}/90000").as_str()), "{sdp}");
    assert!(lines.contains(&"a=sendonly"));
    let fmtp = lines.iter().find(|line| line.starts_with("a=fmtp:96 ")).expect("parameter sets");
    let named: &[&str] = match codec {
        "H264" => &["packetization-mode=1", "profile-level-id=", "sprop-parameter-sets="],
        _ => &["sprop-vps=", "sprop-sps=", "sprop-pps="],
    };
    for name in named {
        assert!(fmtp.contains(name), "{name} in {fmtp}");
    }
}

/// The types of the messages that nobody asked for yet.
fn kinds(viewer: &Viewer) -> Vec<String> {
    let kind = |incoming: &Incoming| match incoming {
        Incoming::Json(message) => message["type"].as_str().map(str::to_owned),
        _ => None,
    };
    viewer.seen().iter().filter_map(kind).collect()
}
