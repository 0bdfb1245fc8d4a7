//! What is recorded: the timeline, its removal, and what shards ask the catalogue.

use lanecast_protocol::codec::Codec;
use lanecast_protocol::wsc::StreamState;
use lanecast_shard::{Event, Keyframe, RecorderStatistics, RecordingStatus, StreamStatus, Wanted};
use serde_json::{Value, json};

use crate::harness::{SEGMENT_BYTES, Server};

const PATH: &str = "/streams/7/recordings";

async fn timeline(server: &Server, query: &str) -> Value {
    let answer = server.get(&format!("{PATH}{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn span(start: i64, end: i64, files: u64) -> Value {
    json!({"start": start, "end": end, "bytes": files * SEGMENT_BYTES, "codec": "H264"})
}

fn status(recording: RecordingStatus, reason: Option<&str>) -> StreamStatus {
    StreamStatus {
        state: StreamState::Active,
        reason: reason.map(str::to_owned),
        active_input: Some(0),
        codec: Some(Codec::H264),
        width: None,
        height: None,
        profile_level_id: None,
        recording,
        slate: lanecast_shard::SlateStatus::Off,
    }
}

#[tokio::test]
async fn spans_and_gaps_are_told() {
    let (mut server, _directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    let nothing =
        json!({"from": null, "to": null, "spans": [], "gaps": [], "truncated": false, "next_from": null});
    assert_eq!(timeline(&server, "").await, nothing);
    for (start, end) in [(1_000_000, 1_060_000), (1_060_000, 1_120_000), (3_000_000, 3_060_000)] {
        server.record(stream, start, end).await;
    }
    server.record_as(stream, 3_060_000, 3_120_000, Codec::H265).await;
    let mut last = span(3_060_000, 3_120_000, 1);
    last["codec"] = json!("H265");
    assert_eq!(
        timeline(&server, "").await,
        json!({
            "from": 1_000_000, "to": 3_120_000, "truncated": false, "next_from": null,
            "spans": [span(1_000_000, 1_120_000, 2), span(3_000_000, 3_060_000, 1), last],
            "gaps": [{"start": 1_120_000, "end": 3_000_000}],
        })
    );
    // Decades in either direction.
    let all = timeline(&server, "?from=-60000000000000&to=60000000000000&token=x").await;
    assert_eq!(all["spans"].as_array().unwrap().len(), 3);
    assert_eq!((&all["from"], &all["to"]), (&json!(-60_000_000_000_000_i64), &json!(60_000_000_000_000_i64)));
    let none = timeline(&server, "?from=2000000&to=2500000").await;
    assert_eq!((&none["spans"], &none["gaps"]), (&json!([]), &json!([])));
    server.add(json!("other")).await;
    assert_eq!(server.get("/streams/other/recordings").await.json(), nothing);
}

#[tokio::test]
async fn a_range_that_is_none_is_refused() {
    let (server, _directory) = Server::start().await;
    server.add(json!(7)).await;
    for (query, code, named) in [
        ("?from=now&to=2", "invalid_query", "from"),
        ("?from=1&to=NaN", "invalid_query", "to"),
        ("?from=1&to=inf", "invalid_query", "to"),
        ("?from=1&to=", "invalid_query", "to"),
        ("?from=2&to=1", "invalid_range", "from (2) is after to (1)"),
        ("?from=1e300&to=1", "invalid_range", "to (1)"),
    ] {
        for answer in
            [server.get(&format!("{PATH}{query}")).await, server.delete(&format!("{PATH}{query}")).await]
        {
            assert_eq!(answer.refusal(), (400, code.into()), "{query}");
            assert!(answer.json()["message"].as_str().unwrap().contains(named), "{query}: {answer:?}");
        }
    }
    for (query, named) in [("", "from"), ("?from=1", "to"), ("?to=1", "from")] {
        let answer = server.delete(&format!("{PATH}{query}")).await;
        assert_eq!(answer.refusal(), (400, "invalid_query".into()), "{query}");
        assert!(answer.json()["message"].as_str().unwrap().starts_with(named), "{query}: {answer:?}");
    }
    let unknown = (404, "unknown_stream".to_owned());
    assert_eq!(server.get("/streams/8/recordings").await.refusal(), unknown);
    assert_eq!(server.delete("/streams/8/recordings?from=1&to=2").await.refusal(), unknown);
}

#[tokio::test]
async fn whole_files_inside_the_range_are_removed_but_the_one_that_is_written() {
    let (mut server, _directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    for start in [1_000_000, 1_060_000, 1_120_000] {
        server.record(stream, start, start + 60_000).await;
    }
    let (written, file) = server.open_segment(stream, 1_180_000, Codec::H264).await;
    let remove =
        async |from: i64, to: i64| server.delete(&format!("{PATH}?from={from}&to={to}")).await.json();
    assert_eq!(remove(1_000_001, 1_119_999).await, json!({"segments": 0, "bytes": 0}));
    assert_eq!(remove(1_030_000, 1_150_000).await, json!({"segments": 1, "bytes": SEGMENT_BYTES}));
    let gaps = timeline(&server, "?to=1180000").await["gaps"].clone();
    assert_eq!(gaps, json!([{"start": 1_060_000, "end": 1_120_000}]));
    assert_eq!(remove(0, i64::MAX).await, json!({"segments": 2, "bytes": 2 * SEGMENT_BYTES}));
    assert_eq!(remove(0, i64::MAX).await, json!({"segments": 0, "bytes": 0}));
    // It is still there to be closed.
    server.close_segment(stream, written, file, 1_180_000, 1_240_000).await;
    let spans = timeline(&server, "").await["spans"].clone();
    assert_eq!(spans, json!([span(1_180_000, 1_240_000, 1)]));
}

#[tokio::test]
async fn a_stream_tells_how_its_recording_goes() {
    let (mut server, _directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    let view = async |server: &Server| server.get("/streams/7").await.json();
    let empty = json!({"state": "off", "reason": null, "bytes": 0, "segments": 0, "dropped_gops": 0});
    assert_eq!(view(&server).await["recording"], empty);
    server.plane().recorder = RecorderStatistics { dropped_gops: 3, ..Default::default() };
    server.record(stream, 1_000_000, 1_060_000).await;
    server.record(stream, 1_060_000, 1_120_000).await;
    // Answered behind what was closed.
    timeline(&server, "").await;
    let full = "No space left on device (os error 28)";
    let failed = RecordingStatus::Failed(full.into());
    server.emit(Event::StreamChanged { stream, status: status(failed.clone(), None) }).await;
    let expected = json!({"state": "failed", "reason": full, "bytes": 2 * SEGMENT_BYTES, "segments": 2, "dropped_gops": 3});
    let now = view(&server).await;
    assert_eq!((&now["recording"], &now["recording_start_time"]), (&expected, &json!(1_000_000)));
    assert_eq!(
        (&now["state"], &now["state_reason"]),
        (&json!("Active"), &json!(format!("the recording fails: {full}")))
    );
    assert_eq!(server.get("/streams").await.json()["streams"][0], now);
    assert!(server.get("/").await.body.contains("the recording fails"));
    // What else there is to say comes first.
    server
        .emit(Event::StreamChanged { stream, status: status(failed, Some("B-pictures are left out")) })
        .await;
    assert_eq!(view(&server).await["state_reason"], "B-pictures are left out");
    for (recording, name) in
        [(RecordingStatus::Waiting, "waiting"), (RecordingStatus::Recording, "recording")]
    {
        server.emit(Event::StreamChanged { stream, status: status(recording, None) }).await;
        let now = view(&server).await;
        assert_eq!((&now["recording"]["state"], &now["state_reason"]), (&json!(name), &Value::Null));
    }
    let metrics = server.get("/metrics").await.body;
    for line in [
        "lanecast_recorder_dropped_gops_total{source_id=\"7\",shard=\"0\"} 3",
        "lanecast_stream_recording_state{source_id=\"7\",state=\"recording\"} 1",
        "lanecast_stream_recordings_bytes{source_id=\"7\"} 2000",
        "lanecast_stream_recordings_start_seconds{source_id=\"7\"} 1000",
        "lanecast_recordings_bytes 2000",
        "lanecast_stream_dvr_viewers{source_id=\"7\",shard=\"0\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    server.plane().busy = true;
    assert_eq!(view(&server).await["recording"]["dropped_gops"], Value::Null);
}

#[tokio::test]
async fn recording_is_switched_without_touching_viewers() {
    let (mut server, _directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    let session = server.open_session(stream);
    for record in [true, false] {
        let view = server.patch("/streams/7", json!({"should_record": record})).await.json();
        assert_eq!((&view["should_record"], &view["viewers"]), (&json!(record), &json!(1)));
        server.until_told("update").await;
        assert_eq!(server.plane().streams[&stream].1.record, record);
        assert!(server.plane().sessions.contains_key(&session));
    }
}

#[tokio::test]
async fn a_shard_is_told_where_a_time_is_recorded() {
    let (mut server, _directory) = Server::start().await;
    server.add(json!("first")).await;
    // On the other shard; whoever asks gets the answer.
    let stream = server.add(json!(7)).await;
    let segment = server.record(stream, 1_000_000, 1_060_000).await;
    let mut request = 0;
    let mut locate = async |wanted, stream| {
        request += 1;
        server.emit(Event::Locate { shard: 1, request, stream, wanted }).await;
        server.until_told("located").await;
        let (shard, answered, result) = server.plane().located.pop().unwrap();
        assert_eq!((shard, answered), (1, request));
        result
    };
    let found = locate(Wanted::At(1_030_000), stream).await.unwrap().unwrap();
    assert_eq!((found.segment, found.start_unix_ms, found.codec), (segment, 1_000_000, Codec::H264));
    let extent = found.closed.unwrap();
    assert_eq!((extent.end_unix_ms, extent.bytes), (1_060_000, SEGMENT_BYTES));
    assert_eq!(extent.keyframes, [Keyframe { unix_ms: 1_000_000, offset: 0 }]);
    assert!(locate(Wanted::After(1_000_000), stream).await.unwrap().is_none());
    server.emit(Event::SegmentDamaged { stream, segment, reason: "it is no MP4".into() }).await;
    server.emit(Event::Locate { shard: 1, request: 99, stream, wanted: Wanted::At(0) }).await;
    server.until_told("located").await;
    assert!(server.plane().located.pop().unwrap().2.unwrap().is_none());
}

#[tokio::test]
async fn a_removed_stream_gets_no_file_but_its_last_one_is_closed() {
    let (mut server, _directory) = Server::start().await;
    let stream = server.add(json!(7)).await;
    let (segment, file) = server.open_segment(stream, 1_000_000, Codec::H264).await;
    assert_eq!(server.delete("/streams/7").await.status, 204);
    server.close_segment(stream, segment, file, 1_000_000, 1_030_000).await;
    server.emit(Event::OpenSegment { stream, ticket: 5, start_unix_ms: 1_030_000, codec: Codec::H264 }).await;
    server.until_told("opened").await;
    let (_, of, ticket, result) = server.plane().opened.pop().unwrap();
    assert!((of, ticket) == (stream, 5) && result.is_err());
    server.emit(Event::Locate { shard: 0, request: 6, stream, wanted: Wanted::At(0) }).await;
    server.until_told("located").await;
    assert!(server.plane().located.pop().unwrap().2.is_err());
    // What was recorded is there for a stream of the same name.
    server.add(json!(7)).await;
    assert_eq!(timeline(&server, "").await["spans"], json!([span(1_000_000, 1_030_000, 1)]));
}

#[tokio::test]
async fn recordings_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::over(directory.path()).await;
    let stream = server.add(json!(7)).await;
    server.record(stream, 1_000_000, 1_060_000).await;
    server.stop().await;
    let server = Server::over(directory.path()).await;
    assert_eq!(timeline(&server, "").await["spans"], json!([span(1_000_000, 1_060_000, 1)]));
    assert_eq!(server.get("/streams/7").await.json()["recording_start_time"], 1_000_000);
}

#[tokio::test]
async fn files_and_pictures_are_for_a_later_version() {
    let (server, _directory) = Server::start().await;
    server.add(json!(7)).await;
    for path in ["export?from=1&to=2", "snapshot.jpg"] {
        let answer = server.get(&format!("/streams/7/{path}")).await;
        assert_eq!(answer.refusal(), (409, "not_recorded".into()));
        assert!(answer.json()["message"].as_str().unwrap().contains("yet"), "{answer:?}");
        let unknown = server.get(&format!("/streams/8/{path}")).await;
        assert_eq!(unknown.refusal(), (404, "unknown_stream".into()));
    }
}
