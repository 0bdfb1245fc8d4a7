//! No secret reaches the log, whatever happens to the stream.

use std::io::Write;
use std::sync::{Arc, Mutex};

use lanecast_protocol::wsc::StreamState;
use lanecast_shard::{Event, StreamStatus};
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::Server;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_failing_stream_leaks_nothing() {
    let lines = Lines::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(lines.clone()).finish();
    // The runtime has one thread, so this is the subscriber of all its tasks.
    let _guard = tracing::subscriber::set_default(subscriber);
    let (server, _directory) = Server::start().await;
    let url = "rtsp://admin:s3cret@cam/user=root_password=qwertz_channel=1?token=abcdef";
    let created = server.post("/streams", json!({"source_id": 7, "rtsp_url": url})).await;
    let body = json!({"username": "operator", "password": "hunter22"});
    let patched = server.patch("/streams/7", &body).await;
    let (stream, _) = server.control.stream("7").unwrap();
    let reason =
        "redirected to rtsp://operator:hunter22@cam/user=root_password=qwertz_channel=1?token=abcdef";
    let status = StreamStatus {
        state: StreamState::Error,
        reason: Some(reason.into()),
        active_input: Some(0),
        codec: None,
        width: None,
        height: None,
        profile_level_id: None,
        recording: lanecast_shard::RecordingStatus::Off,
        slate: lanecast_shard::SlateStatus::Off,
    };
    server.emit(Event::StreamChanged { stream, status }).await;
    let shown = [
        created.body,
        patched.body,
        server.get("/streams").await.body,
        server.get("/streams/7?token=abcdef").await.body,
        server.get("/").await.body,
        server.get("/metrics").await.body,
        format!("{:?}", server.control),
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap(),
    ];
    assert!(
        shown[7].contains("stream changed its state") && shown[7].contains("redirected to"),
        "{}",
        shown[7]
    );
    for (index, text) in shown.iter().enumerate() {
        for secret in ["s3cret", "qwertz", "abcdef", "hunter22"] {
            assert!(!text.contains(secret), "{secret} in {index}: {text}");
        }
    }
}
