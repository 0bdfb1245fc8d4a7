//! `/streams/{source_id}/webrtc`: offer and answer as JSON, and the sessions that come of it.

use std::net::SocketAddr;

use std::time::Duration;

use axum::body::Body;
use hyper::Method;
use lanecast::config::{CorsOrigins, StunServer};
use lanecast::control_plane::Limits;
use lanecast::webrtc::follow_stun_server;
use lanecast_protocol::codec::Codec;
use lanecast_protocol::wsc::StreamState;
use lanecast_shard::{Event, SessionError, SessionId, StreamId, StreamStatus};
use lanecast_webrtc::congestion::CongestionStatistics;
use lanecast_webrtc::peer::{PeerState, PeerStatistics};
use lanecast_webrtc::srtp::SrtpProfile;
use serde_json::{Value, json};

use crate::harness::{Answer, LIMITS, Server, request};
use crate::offers::{self, BROWSER};

async fn offer(server: &Server, sdp: &str) -> Answer {
    server.post("/streams/7/webrtc", json!({ "offer": sdp })).await
}

/// A server with stream 7, its number, and a session of it.
async fn with_session() -> (Server, tempfile::TempDir, StreamId, SessionId) {
    let (server, directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    let answer = offer(&server, BROWSER).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let session = answer.json()["session_id"].as_str().unwrap().parse().unwrap();
    (server, directory, stream, session)
}

/// Nothing is left of a refused offer.
async fn assert_no_session(server: &Server) {
    let view = server.get("/streams/7").await.json();
    assert_eq!((&view["viewers"], &view["webrtc_sessions"]), (&json!(0), &json!([])));
    assert!(server.plane().webrtc.is_empty());
}

fn status(codec: Codec) -> StreamStatus {
    StreamStatus {
        state: StreamState::Active,
        reason: None,
        active_input: Some(0),
        codec: Some(codec),
        width: None,
        height: None,
        profile_level_id: Some([0x64, 0, 0x1f]),
        recording: lanecast_shard::RecordingStatus::Off,
        slate: lanecast_shard::SlateStatus::Off,
    }
}

#[tokio::test]
async fn an_offer_is_answered_and_its_session_is_with_the_shard() {
    let (server, _directory) = Server::start().await;
    server.add(json!(6)).await;
    let stream = server.add(json!(7)).await;
    let answer = offer(&server, BROWSER).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let body = answer.json();
    let session: SessionId = body["session_id"].as_str().unwrap().parse().unwrap();
    let sdp = body["answer"].as_str().unwrap();
    let plane = server.plane();
    assert_eq!(plane.sessions[&session].0, stream);
    let peer = &plane.webrtc[&session];
    let rtx = peer.media.rtx.expect("retransmission was offered");
    assert_eq!((peer.media.payload_type, rtx.payload_type, peer.media.transport_cc), (102, 103, Some(3)));
    assert!(peer.media.ssrc != 0 && rtx.ssrc != 0 && peer.media.ssrc != rtx.ssrc);
    assert_eq!((peer.remote.ufrag.as_str(), peer.remote.password.len()), ("vIeW", 24));
    assert_eq!(peer.fingerprints[0].bytes, (0..32).collect::<Vec<u8>>());
    assert_eq!(peer.candidates[0].address, "198.51.100.7:50000".parse::<SocketAddr>().unwrap());
    for line in [
        "a=ice-lite".to_owned(),
        format!("a=ice-ufrag:{}", peer.local.ufrag),
        format!("a=ice-pwd:{}", peer.local.password),
        format!("a=fingerprint:sha-256 {}", ["07"; 32].join(":")),
    ] {
        assert!(sdp.lines().any(|found| found == line), "{line}\n{sdp}");
    }
    assert!(sdp.contains(&format!("a=ssrc:{} cname:{}", peer.media.ssrc, peer.media.cname)), "{sdp}");
}

#[tokio::test]
async fn the_answer_has_every_candidate_of_the_streams_shard() {
    let (server, _directory) = Server::start().await;
    server.add(json!(6)).await;
    server.add(json!(7)).await;
    let address = Some("198.51.100.1:777".parse().unwrap());
    server.emit(Event::Reflexive { shard: 0, address: None }).await;
    server.emit(Event::Reflexive { shard: 1, address }).await;
    let candidates = async || {
        let answer = offer(&server, BROWSER).await.json();
        let sdp = answer["answer"].as_str().unwrap().to_owned();
        let lines = sdp.lines().filter(|line| line.starts_with("a=candidate:"));
        let shown = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            format!("{} {} {} {}", words[2].to_lowercase(), words[4], words[5], words[7])
        };
        lines.map(shown).collect::<Vec<_>>()
    };
    // The machine's only other address is loopback, which is for clients of this machine.
    let mut expected =
        vec!["udp 203.0.113.9 5001 host", "udp 198.51.100.1 777 srflx", "tcp 203.0.113.9 5000 host"];
    assert_eq!(candidates().await, expected);
    server.emit(Event::Reflexive { shard: 1, address: None }).await;
    expected.retain(|line| !line.contains("srflx"));
    assert_eq!(candidates().await, expected);
}

#[tokio::test]
async fn sessions_are_listed_by_stream_and_by_kind() {
    let (server, _directory, stream, session) = with_session().await;
    server.add(json!("other")).await;
    let wsc = server.open_session(stream);
    let second = offer(&server, BROWSER).await.json()["session_id"].clone();
    let entry = |id: Value| json!({"session_id": id, "source_id": 7, "is_live": true});
    let list = server.get("/streams/7/webrtc").await.json();
    assert_eq!(list, json!({"sessions": [entry(json!(session)), entry(second.clone())]}));
    let view = server.get("/streams/7").await.json();
    assert_eq!(
        (&view["webrtc_sessions"], &view["viewers"]),
        (&json!([session, second]), &json!(3)),
        "without {wsc}"
    );
    assert_eq!(server.get("/streams/other/webrtc").await.json(), json!({"sessions": []}));
    assert_eq!(server.get("/streams/none/webrtc").await.refusal(), (404, "unknown_stream".into()));
}

#[tokio::test]
async fn a_session_is_found_under_its_own_kind_only() {
    let (server, _directory, stream, session) = with_session().await;
    let wsc = server.open_session(stream);
    let live = json!({"is_live": true, "current_time_ms": null, "speed": 1.0});
    let unknown = (404, "unknown_session".to_owned());
    for (id, own, other) in [(session, "webrtc", "wsc-rtp"), (wsc, "wsc-rtp", "webrtc")] {
        assert_eq!(server.get(&format!("/streams/7/{own}/{id}/mode")).await.json(), live);
        assert_eq!(server.post(&format!("/streams/7/{own}/{id}/live"), "").await.json(), live);
        assert_eq!(server.get(&format!("/client-session-control/{id}/mode")).await.json(), live);
        let seek = server.post(&format!("/streams/7/{other}/{id}/seek"), json!({"timestamp": 1})).await;
        assert_eq!(seek.refusal(), unknown);
        let speed = server.post(&format!("/streams/7/{own}/{id}/speed"), json!({"speed": 2})).await;
        assert_eq!(speed.refusal(), (409, "session_is_live".into()));
        assert_eq!(server.get(&format!("/streams/7/{other}/{id}/mode")).await.refusal(), unknown);
        assert_eq!(server.delete(&format!("/streams/7/{other}/{id}")).await.refusal(), unknown);
    }
    assert_eq!(server.delete(&format!("/streams/7/whep/{wsc}")).await.refusal(), unknown);
}

#[tokio::test]
async fn a_session_ends_on_request_with_its_stream_and_by_itself() {
    let (mut server, _directory, stream, session) = with_session().await;
    assert_eq!(server.delete(&format!("/streams/7/webrtc/{session}")).await.status, 204);
    server.until_told("end").await;
    assert_no_session(&server).await;
    let again = server.delete(&format!("/streams/7/webrtc/{session}")).await;
    assert_eq!(again.refusal(), (404, "unknown_session".into()));

    let session: SessionId =
        offer(&server, BROWSER).await.json()["session_id"].as_str().unwrap().parse().unwrap();
    server.emit(Event::SessionEnded { stream, session, reason: "no consent for 30 s".into() }).await;
    assert_eq!(server.get("/streams/7/webrtc").await.json(), json!({"sessions": []}));

    let session = offer(&server, BROWSER).await.json()["session_id"].clone();
    assert_eq!(server.delete("/streams/7").await.status, 204);
    let path = format!("/client-session-control/{}/mode", session.as_str().unwrap());
    assert_eq!(server.get(&path).await.refusal(), (404, "unknown_session".into()));
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_by_name_and_leaves_nothing() {
    let (server, _directory) = Server::start().await;
    server.add(json!(7)).await;
    for (what, sdp, status, code) in offers::refused() {
        let answer = offer(&server, &sdp).await;
        assert_eq!(answer.refusal(), (status, code.into()), "{what}: {answer:?}");
    }
    for (body, status, code) in [
        (json!({}), 400, "missing_field"),
        (json!({"offer": {"type": "offer", "sdp": BROWSER}}), 400, "invalid_field"),
        (json!([BROWSER]), 400, "invalid_field"),
    ] {
        assert_eq!(server.post("/streams/7/webrtc", body).await.refusal(), (status, code.into()));
    }
    let plain = request(Method::POST, "/streams/7/webrtc").header("content-type", "application/sdp");
    let answer = server.send(plain.body(Body::from(BROWSER)).unwrap()).await;
    assert_eq!(answer.refusal(), (415, "unsupported_media_type".into()));
    let answer = server.post("/streams/8/webrtc", json!({"offer": BROWSER})).await;
    assert_eq!(answer.refusal(), (404, "unknown_stream".into()));
    assert_no_session(&server).await;
    let metrics = server.get("/metrics").await.body;
    for line in [
        "lanecast_webrtc_sessions 0",
        "lanecast_webrtc_offers_answered_total 0",
        "lanecast_webrtc_offers_refused_total{cause=\"no_video\"} 1",
        "lanecast_webrtc_offers_refused_total{cause=\"codec_not_offered\"} 1",
        "lanecast_webrtc_offers_refused_total{cause=\"unknown_stream\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn a_codec_that_is_not_offered_is_named_with_those_that_are() {
    let (server, _directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    server.emit(Event::StreamChanged { stream, status: status(Codec::H265) }).await;
    let answer = offer(&server, BROWSER).await;
    assert_eq!(answer.refusal(), (422, "codec_not_offered".into()));
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("265") && message.contains("VP8") && message.contains("264"), "{message}");
    server.emit(Event::StreamChanged { stream, status: status(Codec::H264) }).await;
    assert_eq!(offer(&server, BROWSER).await.status, 201);
}

#[tokio::test]
async fn a_dvr_session_begins_at_its_time() {
    let (mut server, _directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    server.record(stream, 1_000_000, 1_060_000).await;
    server.record(stream, 2_000_000, 2_060_000).await;
    let dvr = async |timestamp: Value| {
        server.post("/streams/7/webrtc/dvr", json!({"offer": BROWSER, "timestamp": timestamp})).await
    };
    // Within a recording, in the gap, before the first: there is something at that time or later.
    for (timestamp, start) in
        [(json!(1_030_000.5), 1_030_000), (json!(1_500_000), 1_500_000), (json!(-7), -7), (json!(0), 0)]
    {
        let answer = dvr(timestamp).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let body = answer.json();
        let session: SessionId = body["session_id"].as_str().unwrap().parse().unwrap();
        assert!(body["answer"].as_str().unwrap().contains("a=ice-lite"));
        assert_eq!(server.plane().starts[&session], Some(start));
        let deleted = server.delete(&format!("/streams/7/webrtc/{session}")).await;
        assert_eq!(deleted.status, 204);
    }
    // At the end of the last one, and in the future.
    for timestamp in [json!(2_060_001), json!(1e300)] {
        let answer = dvr(timestamp).await;
        assert_eq!(answer.refusal(), (404, "not_recorded".into()));
        assert!(answer.json()["message"].as_str().unwrap().contains("\"7\""));
    }
    assert_no_session(&server).await;
}

#[tokio::test]
async fn a_dvr_session_needs_a_time_that_is_recorded_and_leaves_nothing_otherwise() {
    let (mut server, _directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    let dvr = async |server: &Server, body: Value| server.post("/streams/7/webrtc/dvr", body).await.refusal();
    let body = json!({"offer": BROWSER, "timestamp": 1});
    assert_eq!(dvr(&server, body.clone()).await, (404, "not_recorded".into()));
    server.record(stream, 1_000_000, 1_060_000).await;
    for (body, status, code) in [
        (json!({"offer": BROWSER}), 400, "missing_field"),
        (json!({"timestamp": 1}), 400, "missing_field"),
        (json!({"offer": BROWSER, "timestamp": "now"}), 400, "invalid_field"),
        (json!({"offer": BROWSER, "timestamp": null}), 400, "invalid_field"),
        (json!({"offer": "x", "timestamp": 1}), 400, "invalid_sdp"),
        (json!({"offer": offers::vp8_only(), "timestamp": 1}), 422, "codec_not_offered"),
        (json!({"offer": offers::audio_only(), "timestamp": 1}), 422, "no_video"),
    ] {
        assert_eq!(dvr(&server, body.clone()).await, (status, code.into()), "{body}");
    }
    let answer = server.post("/streams/8/webrtc/dvr", body.clone()).await;
    assert_eq!(answer.refusal(), (404, "unknown_stream".into()));
    // Removed between the question and the answer.
    server.plane().refuse = Some(SessionError::NotRecorded);
    assert_eq!(dvr(&server, body.clone()).await, (404, "not_recorded".into()));
    server.plane().refuse = Some(SessionError::Unreadable);
    assert_eq!(dvr(&server, body).await, (503, "recordings_unreadable".into()));
    assert_no_session(&server).await;
    let metrics = server.get("/metrics").await.body;
    assert!(
        metrics.contains("lanecast_webrtc_offers_refused_total{cause=\"not_recorded\"} 2\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_camera_that_was_not_up_yet_is_answered_in_its_recordings_codec() {
    let (mut server, _directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    server.record_as(stream, 1_000_000, 1_060_000, Codec::H265).await;
    let body = json!({"offer": BROWSER, "timestamp": 1_000_000});
    let answer = server.post("/streams/7/webrtc/dvr", body.clone()).await;
    assert_eq!(answer.refusal(), (422, "codec_not_offered".into()));
    // Up, it is the stream's that counts: the session will return to it.
    server.emit(Event::StreamChanged { stream, status: status(Codec::H264) }).await;
    assert_eq!(server.post("/streams/7/webrtc/dvr", body).await.status, 201);
}

#[tokio::test]
async fn the_list_tells_who_is_live() {
    let (mut server, _directory, stream, session) = with_session().await;
    server.record(stream, 1_000_000, 1_060_000).await;
    let body = json!({"offer": BROWSER, "timestamp": 1_000_000});
    let rewound = server.post("/streams/7/webrtc/dvr", body).await.json()["session_id"].clone();
    let list = async || {
        let list = server.get("/streams/7/webrtc").await.json();
        let entries = list["sessions"].as_array().unwrap().iter();
        entries.map(|entry| (entry["session_id"].clone(), entry["is_live"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(list().await, [(json!(session), json!(true)), (rewound.clone(), json!(false))]);
    let control = format!("/client-session-control/{}", rewound.as_str().unwrap());
    server.post(&format!("{control}/live"), "").await;
    server.post(&format!("/client-session-control/{session}/seek"), json!({"timestamp": 1_000_000})).await;
    assert_eq!(list().await, [(json!(session), json!(false)), (rewound.clone(), json!(true))]);
    // Ended on its shard, which the control plane has not heard yet.
    server.plane().sessions.remove(&session);
    assert_eq!(list().await, [(rewound, json!(true))]);
    server.plane().busy = true;
    assert_eq!(server.get("/streams/7/webrtc").await.refusal(), (503, "busy".into()));
}

#[tokio::test]
async fn a_list_of_many_sessions_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { webrtc_sessions: 1000, webrtc_sessions_per_stream: 1000, ..LIMITS };
    let server = Server::with(directory.path(), limits, CorsOrigins::Any).await;
    server.add(json!(7)).await;
    for _ in 0..600 {
        assert_eq!(offer(&server, BROWSER).await.status, 201);
    }
    let list = server.get("/streams/7/webrtc").await.json();
    let sessions = list["sessions"].as_array().unwrap();
    assert!(sessions.len() == 600 && sessions.iter().all(|session| session["is_live"] == true));
}

#[tokio::test]
async fn sessions_are_bounded_for_a_stream_and_in_all() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { webrtc_sessions: 3, webrtc_sessions_per_stream: 2, ..LIMITS };
    let server = Server::with(directory.path(), limits, CorsOrigins::Any).await;
    let stream = server.add(json!(7)).await;
    server.add(json!(8)).await;
    // Those of the other kind do not count.
    for _ in 0..5 {
        server.open_session(stream);
    }
    let to = async |id: u8| server.post(&format!("/streams/{id}/webrtc"), json!({"offer": BROWSER})).await;
    let first = to(7).await.json()["session_id"].as_str().unwrap().to_owned();
    assert_eq!(to(7).await.status, 201);
    let refused = to(7).await;
    assert_eq!(refused.refusal(), (429, "too_many_sessions".into()));
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(to(8).await.status, 201);
    assert_eq!(to(8).await.refusal(), (429, "too_many_sessions".into()));
    assert_eq!(server.delete(&format!("/streams/7/webrtc/{first}")).await.status, 204);
    assert_eq!(to(8).await.status, 201);
    assert!(server.get("/metrics").await.body.contains("lanecast_webrtc_sessions 3\n"));
}

#[tokio::test]
async fn a_shard_that_takes_nobody_leaves_no_session() {
    let (mut server, _directory) = Server::start().await;
    server.add(json!(7)).await;
    for refuse in [SessionError::Full, SessionError::Unknown] {
        server.plane().refuse = Some(refuse);
        let answer = offer(&server, BROWSER).await;
        assert_eq!(answer.refusal(), (503, "busy".into()));
        assert_eq!(answer.headers["retry-after"], "1");
        assert_no_session(&server).await;
    }
    server.plane().refuse = None;
    server.plane().busy = true;
    assert_eq!(offer(&server, BROWSER).await.refusal(), (503, "busy".into()));
    server.plane().busy = false;
    assert_no_session(&server).await;
    // Taken, but not said so: the shard is told to end what nobody knows of.
    server.plane().silent = true;
    assert_eq!(offer(&server, BROWSER).await.refusal(), (503, "busy".into()));
    server.until_told("end").await;
    assert_no_session(&server).await;
    server.control.stop();
    assert_eq!(offer(&server, BROWSER).await.refusal(), (503, "busy".into()));
}

#[tokio::test]
async fn a_client_that_leaves_half_way_leaves_a_whole_session_or_none() {
    let (mut server, _directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    let body = json!({"offer": BROWSER}).to_string();
    let request = request(Method::POST, "/streams/7/webrtc").header("content-type", "application/json");
    let left = server.send(request.body(Body::from(body)).unwrap());
    tokio::select! {
        biased;
        answer = left => panic!("too fast to leave: {answer:?}"),
        () = std::future::ready(()) => {}
    }
    server.until_told("attach").await;
    let list = server.get("/streams/7").await.json()["webrtc_sessions"].clone();
    let held: Vec<SessionId> = server.plane().webrtc.keys().copied().collect();
    assert_eq!(list, json!(held));
    // The shard ends it when no viewer comes.
    let reason = "nobody connected in 30 s".to_owned();
    server.emit(Event::SessionEnded { stream, session: held[0], reason }).await;
    assert_eq!(server.get("/streams/7").await.json()["viewers"], 0);
}

#[tokio::test]
async fn statistics_tell_the_kind_and_units() {
    let (server, _directory, stream, session) = with_session().await;
    let congestion = CongestionStatistics {
        estimate_bps: Some(5_000_000),
        round_trip: Some(Duration::from_micros(12_500)),
        loss: 0.25,
        queueing: Duration::from_millis(3),
    };
    server.plane().statistics = PeerStatistics {
        state: PeerState::Connected,
        srtp_profile: Some(SrtpProfile::AeadAes128Gcm),
        transport: Some("udp"),
        packets_sent: 9,
        jitter: Duration::from_micros(500),
        congestion,
        ..Default::default()
    };
    let of = async |id| server.get(&format!("/client-session-control/{id}/statistics")).await.json();
    assert_eq!(
        of(session).await,
        json!({
            "kind": "webrtc", "state": "connected", "srtp_profile": "AEAD_AES_128_GCM", "transport": "udp",
            "packets_sent": 9, "bytes_sent": 0, "packets_retransmitted": 0, "retransmissions_refused": 0, "nacks": 0,
            "picture_requests": 0, "refreshes": 0, "overloads": 0, "packets_skipped": 0, "packets_lost": 0,
            "jitter_ms": 0.5, "estimate_bps": 5_000_000, "round_trip_ms": 12.5, "loss": 0.25, "queueing_ms": 3.0,
            "datagrams_dropped": 0,
        })
    );
    server.plane().statistics =
        PeerStatistics { srtp_profile: Some(SrtpProfile::Aes128CmHmacSha1_80), ..Default::default() };
    let early = of(session).await;
    assert_eq!(
        (&early["srtp_profile"], &early["state"], &early["transport"], &early["round_trip_ms"]),
        (&json!("AES_CM_128_HMAC_SHA1_80"), &json!("checking"), &Value::Null, &Value::Null)
    );
    let wsc = server.open_session(stream);
    assert_eq!(of(wsc).await, json!({"kind": "wsc-rtp"}));
    let below = server.get(&format!("/streams/7/webrtc/{session}/statistics")).await;
    assert_eq!(below.json()["kind"], "webrtc");
}

#[tokio::test]
async fn a_stun_server_is_looked_up_and_told_to_every_shard() {
    let (mut server, _directory) = Server::start().await;
    let stun = StunServer { host: "localhost".into(), port: 3478 };
    let task = tokio::spawn(follow_stun_server(server.control.clone(), stun, [0, 0, 0, 0].into()));
    server.until_told("stun").await;
    server.until_told("stun").await;
    server.control.stop();
    task.await.unwrap();
    let mut told = std::mem::take(&mut server.plane().stun);
    told.sort();
    let address = Some("127.0.0.1:3478".parse().unwrap());
    assert_eq!(told, [(0, address), (1, address)]);
}
