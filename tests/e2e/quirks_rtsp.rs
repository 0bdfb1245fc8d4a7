//! Cameras that err in the RTSP dialogue, one fault a test: what their viewers get. `docs/cameras.md` tells which
//! devices are known for each fault and what is done about it. What is wrong with media is not tested here.

use serde_json::{Value, json};

use crate::harness::{Camera, Packet, Server, Viewer, assert_continuous};

#[test]
fn a_content_base_without_a_scheme_is_understood() {
    plays("--schemeless-content-base");
}

#[test]
fn a_content_base_that_is_a_path_is_understood() {
    plays("--relative-content-base");
}

#[test]
fn a_missing_content_base_is_done_without() {
    plays("--no-content-base");
}

#[test]
fn controls_that_are_whole_urls_are_used_as_they_are() {
    plays("--control absolute");
    plays("--control absolute-slash");
}

#[test]
fn controls_that_are_whole_paths_are_not_appended() {
    plays("--control path");
}

#[test]
fn a_control_is_appended_behind_the_query_of_its_base() {
    plays("--control behind-query");
}

#[test]
fn a_control_that_is_a_query_is_appended_without_a_slash() {
    plays("--control query");
}

#[test]
fn a_track_without_a_url_of_its_own_has_the_presentations() {
    plays("--control star");
    plays("--control none");
}

#[test]
fn play_is_asked_for_again_without_the_slash_at_its_end() {
    plays("--no-slash-play");
}

#[test]
fn a_malformed_rtp_info_does_no_harm() {
    for kind in ["none", "garbage", "other-url", "no-seq", "wrong"] {
        plays(&format!("--rtp-info {kind}"));
    }
}

#[test]
fn a_reply_to_setup_without_a_transport_is_taken_for_what_was_asked() {
    plays("--transport tcp --transport-reply none");
    plays("--transport tcp --transport-reply no-interleaved");
}

#[test]
fn udp_without_a_server_port_is_learnt_from_its_first_packet() {
    plays("--transport udp --transport-reply no-server-port");
    plays("--transport udp --transport-reply none");
}

#[test]
fn a_comma_behind_the_server_port_ends_it() {
    plays("--transport udp --transport-reply comma");
}

#[test]
fn other_channels_than_were_asked_for_are_listened_to() {
    plays("--transport tcp --transport-reply other-channels");
}

#[test]
fn swapped_channels_are_told_apart() {
    plays("--transport tcp --transport-reply swapped-channels");
}

#[test]
fn channels_that_nobody_told_are_found() {
    plays("--transport tcp --transport-reply untold-channels");
}

#[test]
fn a_transport_full_of_strange_parameters_is_read() {
    plays("--transport tcp --transport-reply foreign");
}

#[test]
fn media_that_overtakes_the_reply_to_play_is_taken() {
    plays("--media-before-play-reply");
}

#[test]
fn binary_data_between_replies_is_passed_over() {
    plays("--binary-between-replies");
}

#[test]
fn replies_with_a_wrong_cseq_are_taken() {
    plays("--wrong-cseq");
    plays("--previous-cseq");
}

#[test]
fn replies_without_a_cseq_are_taken() {
    plays("--no-cseq");
}

#[test]
fn a_session_is_kept_by_get_parameter_where_it_is_offered() {
    is_kept("--keepalive any");
}

#[test]
fn a_session_is_kept_by_options_where_nothing_else_is_offered() {
    is_kept("--keepalive options");
}

#[test]
fn a_session_is_kept_where_options_offers_nothing() {
    is_kept("--keepalive no-public");
}

#[test]
fn a_session_is_kept_by_get_parameter_where_options_is_refused() {
    for status in [404, 405, 501] {
        is_kept(&format!("--keepalive get-parameter --options-status {status}"));
    }
}

#[test]
fn a_session_is_kept_where_every_keepalive_is_refused() {
    is_kept("--keepalive unoffered");
}

#[test]
fn a_session_is_kept_by_options_where_the_offered_get_parameter_is_refused() {
    is_kept("--keepalive refused-get-parameter");
}

#[test]
fn a_session_is_kept_by_options_where_get_parameter_is_never_answered() {
    is_kept("--keepalive silent-get-parameter");
}

#[test]
fn a_timeout_between_blanks_or_in_quotes_is_read() {
    is_kept("--session-header spaced");
    is_kept("--session-header quoted");
}

#[test]
fn a_timeout_that_comes_with_the_reply_to_play_is_read() {
    is_kept("--session-header in-play");
}

#[test]
fn a_nonce_that_is_good_for_one_request_is_asked_for_anew() {
    let (server, _camera, viewer) = watch_as_ann("--stale-nonce --short-session-timeout 3");
    assert_continuous(&seconds_of(&viewer, 6));
    assert_eq!(reconnects(&server), 0.0);
}

#[test]
fn of_several_challenges_the_strongest_that_is_known_is_answered() {
    for scheme in ["digest-md5", "digest-sha256"] {
        let (server, _camera, viewer) = watch_as_ann(&format!("--many-challenges --auth {scheme}"));
        assert_continuous(&viewer.rtp(PACKETS));
        assert_eq!(reconnects(&server), 0.0);
    }
}

#[test]
fn a_camera_that_froze_is_left_and_dialled_again() {
    let server = Server::start_with(&["--source-silence-timeout-seconds", "1"]);
    let (_camera, viewer) = watch_on(&server, "--freeze-after 2", json!({ "restart_interval_secs": 1 }));
    assert_continuous(&seconds_of(&viewer, 8));
    assert!(reconnects(&server) >= 1.0);
}

#[test]
fn a_session_that_the_camera_forgot_is_noticed_by_the_next_keepalive() {
    let server = Server::start_with(&["--source-silence-timeout-seconds", "29"]);
    let flags = "--forget-after 3 --short-session-timeout 2";
    let (_camera, viewer) = watch_on(&server, flags, json!({ "restart_interval_secs": 1 }));
    let packets = seconds_of(&viewer, 10);
    assert_continuous(&packets);
    assert!(longest_pause(&packets) < 15.0, "{}", longest_pause(&packets));
}

#[test]
fn a_teardown_of_the_cameras_own_is_answered_by_a_new_attempt() {
    let server = Server::start_with(&["--source-silence-timeout-seconds", "29"]);
    let (_camera, viewer) = watch_on(&server, "--teardown-after 2", json!({ "restart_interval_secs": 1 }));
    let packets = seconds_of(&viewer, 6);
    assert_continuous(&packets);
    assert!(longest_pause(&packets) < 15.0, "{}", longest_pause(&packets));
}

#[test]
fn a_camera_that_is_elsewhere_is_followed() {
    let elsewhere = Camera::start("");
    let (server, _camera, viewer) = watch(&format!("--redirect {}", elsewhere.url()));
    assert_continuous(&viewer.rtp(PACKETS));
    assert_eq!(server.rest.stream("7")["state_reason"], Value::Null);
}

#[test]
fn requests_of_the_cameras_own_are_answered() {
    let (server, _camera, viewer) = watch("--asks");
    assert_continuous(&seconds_of(&viewer, 6));
    assert_eq!(reconnects(&server), 0.0);
}

#[test]
fn a_camera_that_offers_udp_only_is_received_over_udp() {
    plays("--transport udp");
}

#[test]
fn a_camera_that_offers_tcp_only_is_received_over_tcp_though_udp_was_wanted() {
    let server = Server::start();
    let (_camera, viewer) = watch_on(&server, "--transport tcp", json!({ "transport": "udp" }));
    assert_continuous(&viewer.rtp(PACKETS));
    assert_eq!(reconnects(&server), 0.0);
}

#[test]
fn the_video_is_found_among_other_tracks() {
    plays("--with-audio");
    for tracks in ["audio-last", "metadata-first", "jpeg-first", "two-videos"] {
        plays(&format!("--tracks {tracks}"));
    }
}

#[test]
fn a_track_that_is_refused_is_not_needed() {
    plays("--tracks audio-refused");
}

#[test]
fn the_second_video_is_taken_where_the_first_is_refused() {
    plays("--tracks first-refused");
}

#[test]
fn an_answer_without_end_is_an_error_with_its_limit_and_costs_no_memory() {
    let server = Server::start();
    let cameras = ["head", "body"].map(|kind| (kind, Camera::start(&format!("--endless {kind}"))));
    let before = server.resident_bytes();
    for (kind, camera) in &cameras {
        server.rest.create(*kind, &camera.url());
    }
    for (kind, _) in &cameras {
        let reason = server.rest.error_reason(kind);
        assert!(reason.contains("larger than 65536 bytes"), "{kind}: {reason}");
    }
    let growth = server.resident_bytes().saturating_sub(before);
    assert!(growth < 32 << 20, "{growth} bytes more");
}

#[test]
fn header_names_in_lower_case_are_read() {
    is_kept("--head lower-case");
}

#[test]
fn lines_that_end_with_lf_only_are_read() {
    is_kept("--head lf");
}

#[test]
fn a_status_line_without_a_reason_is_read() {
    plays("--head no-reason");
}

#[test]
fn a_line_of_blanks_does_not_end_a_head() {
    is_kept("--head blank-line");
}

#[test]
fn blanks_before_colons_and_lines_without_are_read() {
    is_kept("--head sloppy");
}

#[test]
fn a_description_without_a_content_type_is_read() {
    plays("--no-content-type");
}

/// Enough that a keyframe and many pictures are among them.
const PACKETS: usize = 80;

/// A viewer gets pictures of a camera with these flags, at the first attempt and without a seam.
#[track_caller]
fn plays(flags: &str) {
    let (server, _camera, viewer) = watch(flags);
    assert_continuous(&viewer.rtp(PACKETS));
    assert_eq!(reconnects(&server), 0.0, "{flags}");
}

/// The same for longer than the camera's sessions last when nothing keeps them.
#[track_caller]
fn is_kept(flags: &str) {
    let (server, _camera, viewer) = watch(&format!("{flags} --short-session-timeout 3"));
    assert_continuous(&seconds_of(&viewer, 7));
    assert_eq!(reconnects(&server), 0.0, "{flags}");
}

fn watch(flags: &str) -> (Server, Camera, Viewer) {
    let server = Server::start();
    let (camera, viewer) = watch_on(&server, flags, json!({}));
    (server, camera, viewer)
}

fn watch_as_ann(flags: &str) -> (Server, Camera, Viewer) {
    let server = Server::start();
    let flags = format!("--user ann --password s3cret-word {flags}");
    let body = json!({ "username": "ann", "password": "s3cret-word" });
    let (camera, viewer) = watch_on(&server, &flags, body);
    (server, camera, viewer)
}

/// With these members in the stream's body, too.
fn watch_on(server: &Server, flags: &str, mut body: Value) -> (Camera, Viewer) {
    let camera = Camera::start(flags);
    body["source_id"] = json!(7);
    body["rtsp_url"] = json!(camera.url());
    server.rest.post("/streams", &body).expect(201);
    server.rest.active("7");
    let viewer = Viewer::websocket(server, "7");
    (camera, viewer)
}

fn reconnects(server: &Server) -> f64 {
    server.rest.metric("lanecast_stream_reconnects_total")
}

fn seconds_of(viewer: &Viewer, seconds: u64) -> Vec<Packet> {
    viewer.rtp_until(&format!("{seconds} seconds"), |packets| match packets {
        [first, .., last] => last.at.duration_since(first.at).as_secs() >= seconds,
        _ => false,
    })
}

fn longest_pause(packets: &[Packet]) -> f64 {
    let pauses = packets.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at).as_secs_f64());
    pauses.fold(0.0, f64::max)
}
