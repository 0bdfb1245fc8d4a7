//! `/metrics`: the counters as Prometheus text (exposition format 0.0.4), read from the shards when asked.

use std::fmt::{Display, Write};
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use lanecast_shard::{ShardStatistics, SlateStatus, StreamId, StreamStatistics};

use crate::api::{RecordingState, State as StreamState};
use crate::catalog::Summary;
use crate::control_plane::ControlPlane;
use crate::registry::Registry;
use crate::source_id::SourceId;
use crate::webrtc::{Counters, TcpOutcome};

/// Counters and gauges, per shard and per stream.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, description = "Prometheus text", body = String, content_type = "text/plain")))]
pub async fn metrics(State(control): State<Arc<ControlPlane>>) -> ([(HeaderName, &'static str); 1], String) {
    let statistics = control.statistics().await;
    let recordings = |source_id: &SourceId| control.catalog().summary(source_id);
    let text = render(&control.registry(), &statistics, control.webrtc().counters(), &recordings);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

fn render(
    registry: &Registry,
    statistics: &[(usize, Option<ShardStatistics>)],
    counters: &Counters,
    recordings: &dyn Fn(&SourceId) -> Summary,
) -> String {
    let mut page = Page(String::new());
    page.one("lanecast_build_info", "gauge", "The program.", &label("version", env!("CARGO_PKG_VERSION")), 1);
    page.one("lanecast_streams", "gauge", "Streams.", "", registry.stream_count());
    page.one("lanecast_sessions", "gauge", "Viewer sessions.", "", registry.session_count());
    page.webrtc(registry, counters);
    page.shards(statistics);
    page.states(registry);
    page.inputs(registry);
    page.streams(registry, statistics);
    page.recordings(registry, recordings);
    page.0
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, labels: &str, value: impl Display) {
        self.head(name, kind, help);
        self.sample(name, labels, value);
    }

    fn webrtc(&mut self, registry: &Registry, counters: &Counters) {
        let sessions = registry.webrtc_session_count();
        self.one("lanecast_webrtc_sessions", "gauge", "Viewer sessions by WebRTC.", "", sessions);
        let help = "WebRTC offers that were answered.";
        self.one("lanecast_webrtc_offers_answered_total", "counter", help, "", counters.answered());
        self.head("lanecast_webrtc_offers_refused_total", "counter", "WebRTC offers that were refused.");
        for (cause, count) in counters.refused() {
            self.sample("lanecast_webrtc_offers_refused_total", &label("cause", cause), count);
        }
        let help = "Connections of ICE-TCP, by what they came to.";
        self.head("lanecast_ice_tcp_connections_total", "counter", help);
        for outcome in TcpOutcome::ALL {
            let labels = label("outcome", outcome.label());
            self.sample("lanecast_ice_tcp_connections_total", &labels, counters.tcp(outcome));
        }
    }

    fn shards(&mut self, statistics: &[(usize, Option<ShardStatistics>)]) {
        self.head("lanecast_shard_up", "gauge", "1 where the shard answers.");
        for (index, answer) in statistics {
            self.sample("lanecast_shard_up", &label("shard", index), u8::from(answer.is_some()));
        }
        for (name, kind, help, read) in SHARD_METRICS {
            self.head(name, kind, help);
            for shard in statistics.iter().filter_map(|(_, answer)| answer.as_ref()) {
                self.sample(name, &label("shard", shard.shard), read(shard));
            }
        }
    }

    fn states(&mut self, registry: &Registry) {
        self.head("lanecast_stream_state", "gauge", "1 for the state that the stream is in.");
        for (_, stream) in registry.streams() {
            let now = StreamState::from(stream.status.state);
            for state in
                [StreamState::Active, StreamState::Inactive, StreamState::Connecting, StreamState::Error]
            {
                let labels = format!(
                    "{},{}",
                    label("source_id", &stream.source_id),
                    label("state", format!("{state:?}"))
                );
                self.sample("lanecast_stream_state", &labels, u8::from(state == now));
            }
        }
    }

    fn inputs(&mut self, registry: &Registry) {
        let name = "lanecast_stream_active_input";
        self.head(name, "gauge", "1 for the input in use: that gives pictures, or is being tried.");
        for (_, stream) in registry.streams() {
            let inputs = &stream.definition.inputs;
            if let Some(input) = stream.status.active_input.and_then(|index| inputs.get(index)) {
                let labels = [label("source_id", &stream.source_id), label("label", &input.label)];
                self.sample(name, &labels.join(","), 1);
            }
        }
        let name = "lanecast_stream_slate_shown";
        self.head(name, "gauge", "1 while viewers get the offline picture.");
        for (_, stream) in registry.streams() {
            let shown = matches!(stream.status.slate, SlateStatus::Shown { .. });
            self.sample(name, &label("source_id", &stream.source_id), u8::from(shown));
        }
    }

    fn streams(&mut self, registry: &Registry, statistics: &[(usize, Option<ShardStatistics>)]) {
        let named: Vec<(String, &StreamStatistics)> = statistics
            .iter()
            .filter_map(|(_, answer)| answer.as_ref())
            .flat_map(|shard| shard.streams.iter().map(move |(id, counters)| (shard.shard, *id, counters)))
            .filter_map(|(shard, id, counters)| Some((stream_labels(registry, shard, id)?, counters)))
            .collect();
        for (name, kind, help, read) in STREAM_METRICS {
            self.head(name, kind, help);
            for (labels, counters) in &named {
                self.sample(name, labels, read(counters));
            }
        }
    }

    fn recordings(&mut self, registry: &Registry, recordings: &dyn Fn(&SourceId) -> Summary) {
        let name = "lanecast_stream_recording_state";
        self.head(name, "gauge", "1 for the state that the recording of the stream is in.");
        for (_, stream) in registry.streams() {
            let now = RecordingState::from(&stream.status.recording);
            for state in RecordingState::ALL {
                let labels =
                    format!("{},{}", label("source_id", &stream.source_id), label("state", state.name()));
                self.sample(name, &labels, u8::from(state == now));
            }
        }
        let summaries: Vec<(String, Summary)> = registry
            .streams()
            .map(|(_, stream)| (label("source_id", &stream.source_id), recordings(&stream.source_id)))
            .collect();
        for (name, kind, help, read) in RECORDINGS_METRICS {
            self.head(name, kind, help);
            for (labels, summary) in &summaries {
                self.sample(name, labels, read(summary));
            }
        }
        let bytes: u64 = summaries.iter().map(|(_, summary)| summary.bytes).sum();
        self.one(
            "lanecast_recordings_bytes",
            "gauge",
            "Bytes of the recordings of all these streams.",
            "",
            bytes,
        );
    }
}

/// `None`: the stream was removed while its shard counted.
fn stream_labels(registry: &Registry, shard: usize, id: StreamId) -> Option<String> {
    let stream = registry.stream(id)?;
    Some(format!("{},{}", label("source_id", &stream.source_id), label("shard", shard)))
}

fn label(name: &str, value: impl Display) -> String {
    let value = value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

type Metric<T> = (&'static str, &'static str, &'static str, fn(&T) -> f64);

#[allow(clippy::cast_precision_loss, reason = "Prometheus counts in doubles")]
const SHARD_METRICS: &[Metric<ShardStatistics>] = &[
    ("lanecast_shard_turns_total", "counter", "Turns of the loop.", |s| s.turns as f64),
    ("lanecast_shard_submissions_total", "counter", "Submissions to the ring.", |s| s.submissions as f64),
    ("lanecast_shard_sends_total", "counter", "Segmented sends.", |s| s.sends as f64),
    ("lanecast_shard_send_errors_total", "counter", "Sends that the kernel refused.", |s| {
        s.send_errors as f64
    }),
    ("lanecast_shard_datagrams_dropped_total", "counter", "Datagrams of no known session.", |s| {
        s.datagrams_dropped as f64
    }),
    ("lanecast_shard_ring_operations", "gauge", "Operations under way in the ring, but for sends.", |s| {
        s.ring_operations as f64
    }),
    ("lanecast_shard_timers", "gauge", "Timers that are set.", |s| s.timers as f64),
    ("lanecast_shard_cpu_seconds_total", "counter", "CPU time of the thread.", |s| s.cpu_us as f64 / 1e6),
    ("lanecast_shard_gso", "gauge", "1 while segmented sends work.", |s| f64::from(u8::from(s.gso))),
];

#[allow(clippy::cast_precision_loss, reason = "Prometheus counts in doubles")]
const STREAM_METRICS: &[Metric<StreamStatistics>] = &[
    ("lanecast_stream_packets_received_total", "counter", "RTP packets from the camera.", |s| {
        s.packets_received as f64
    }),
    ("lanecast_stream_packets_lost_total", "counter", "RTP packets of the camera that never came.", |s| {
        s.packets_lost as f64
    }),
    (
        "lanecast_stream_packets_dropped_total",
        "counter",
        "Packets of the camera that could not be used.",
        |s| s.packets_dropped as f64,
    ),
    ("lanecast_stream_bytes_received_total", "counter", "Bytes from the camera.", |s| {
        s.bytes_received as f64
    }),
    ("lanecast_stream_access_units_total", "counter", "Access units packetized.", |s| s.access_units as f64),
    ("lanecast_stream_packets_packetized_total", "counter", "Packets made, before fan-out.", |s| {
        s.packets_packetized as f64
    }),
    ("lanecast_stream_packets_sent_total", "counter", "Packets handed to the kernel for viewers.", |s| {
        s.packets_sent as f64
    }),
    ("lanecast_stream_bytes_sent_total", "counter", "Bytes handed to the kernel for viewers.", |s| {
        s.bytes_sent as f64
    }),
    ("lanecast_stream_packets_skipped_total", "counter", "Packets that a viewer could not take.", |s| {
        s.packets_skipped as f64
    }),
    ("lanecast_stream_reconnects_total", "counter", "Connection attempts after the first.", |s| {
        s.reconnects as f64
    }),
    ("lanecast_stream_failovers_total", "counter", "Changes from one input to another.", |s| {
        s.failovers as f64
    }),
    ("lanecast_stream_slate_access_units_total", "counter", "Access units of the offline picture.", |s| {
        s.slate_access_units as f64
    }),
    (
        "lanecast_stream_on_demand_start_seconds",
        "gauge",
        "From a first viewer's wish to its first picture, the last time; NaN where there was none.",
        |s| s.on_demand_start_ms.map_or(f64::NAN, |ms| ms as f64 / 1e3),
    ),
    ("lanecast_stream_viewers", "gauge", "Viewers now.", |s| s.viewers as f64),
    ("lanecast_stream_gop_cache_bytes", "gauge", "Bytes in the GOP cache.", |s| s.gop_cache_bytes as f64),
    ("lanecast_stream_dvr_viewers", "gauge", "Viewers that play recordings.", |s| s.dvr_viewers as f64),
    ("lanecast_recorder_access_units_total", "counter", "Access units that the recorder took.", |s| {
        s.recorder.access_units as f64
    }),
    ("lanecast_recorder_bytes_written_total", "counter", "Bytes written to recordings.", |s| {
        s.recorder.bytes_written as f64
    }),
    ("lanecast_recorder_fragments_total", "counter", "Fragments written to recordings.", |s| {
        s.recorder.fragments as f64
    }),
    ("lanecast_recorder_segments_total", "counter", "Files of recordings begun.", |s| {
        s.recorder.segments as f64
    }),
    ("lanecast_recorder_dropped_gops_total", "counter", "GOPs that the disk did not take.", |s| {
        s.recorder.dropped_gops as f64
    }),
    ("lanecast_recorder_dropped_bytes_total", "counter", "Bytes of GOPs that the disk did not take.", |s| {
        s.recorder.dropped_bytes as f64
    }),
    ("lanecast_recorder_errors_total", "counter", "Opens, writes and syncs that failed.", |s| {
        s.recorder.errors as f64
    }),
    ("lanecast_recorder_queued_bytes", "gauge", "Bytes that wait for the disk.", |s| {
        s.recorder.queued_bytes as f64
    }),
];

#[allow(clippy::cast_precision_loss, reason = "Prometheus counts in doubles")]
const RECORDINGS_METRICS: &[Metric<Summary>] = &[
    ("lanecast_stream_recordings_bytes", "gauge", "Bytes of the stream's recordings.", |s| s.bytes as f64),
    ("lanecast_stream_recordings_segments", "gauge", "Files of the stream's recordings.", |s| {
        s.segments as f64
    }),
    (
        "lanecast_stream_recordings_start_seconds",
        "gauge",
        "Unix time of the stream's oldest picture; NaN where nothing is recorded.",
        |s| s.first_unix_ms.map_or(f64::NAN, |unix_ms| unix_ms as f64 / 1e3),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::tests::definition;
    use lanecast_shard::RecorderStatistics;

    fn page() -> String {
        let mut registry = Registry::new(2);
        let source_id = SourceId::Text("front \"door\" \\1".into());
        let id = registry.insert(source_id, definition("rtsp://cam/?token=abcd"), true).unwrap();
        let recorder = RecorderStatistics { bytes_written: 5000, dropped_gops: 2, ..Default::default() };
        let counters = StreamStatistics {
            packets_sent: 12,
            viewers: 3,
            failovers: 4,
            slate_access_units: 50,
            on_demand_start_ms: Some(250),
            recorder,
            ..Default::default()
        };
        let mut status = registry.stream(id).unwrap().status.clone();
        (status.active_input, status.slate) = (Some(0), SlateStatus::Shown { since_unix_ms: 1 });
        registry.set_status(id, status);
        let gone = (StreamId(99), StreamStatistics::default());
        let shard = ShardStatistics {
            cpu_us: 1_500_000,
            gso: true,
            streams: vec![(id, counters), gone],
            ..Default::default()
        };
        let webrtc = Counters::default();
        webrtc.count_refused("no_video");
        let recordings = |_: &SourceId| Summary { first_unix_ms: Some(1_500), bytes: 77, segments: 3 };
        render(&registry, &[(0, Some(shard)), (1, None)], &webrtc, &recordings)
    }

    #[test]
    fn shards_and_streams_have_their_samples() {
        let page = page();
        for line in [
            "lanecast_streams 1",
            "lanecast_webrtc_sessions 0",
            "lanecast_webrtc_offers_refused_total{cause=\"no_video\"} 1",
            "lanecast_ice_tcp_connections_total{outcome=\"attached\"} 0",
            "lanecast_shard_up{shard=\"0\"} 1",
            "lanecast_shard_up{shard=\"1\"} 0",
            "lanecast_shard_cpu_seconds_total{shard=\"0\"} 1.5",
            "lanecast_shard_gso{shard=\"0\"} 1",
            "lanecast_stream_packets_sent_total{source_id=\"front \\\"door\\\" \\\\1\",shard=\"0\"} 12",
            "lanecast_stream_failovers_total{source_id=\"front \\\"door\\\" \\\\1\",shard=\"0\"} 4",
            "lanecast_stream_slate_access_units_total{source_id=\"front \\\"door\\\" \\\\1\",shard=\"0\"} 50",
            "lanecast_stream_on_demand_start_seconds{source_id=\"front \\\"door\\\" \\\\1\",shard=\"0\"} 0.25",
            "lanecast_stream_active_input{source_id=\"front \\\"door\\\" \\\\1\",label=\"main\"} 1",
            "lanecast_stream_slate_shown{source_id=\"front \\\"door\\\" \\\\1\"} 1",
            "lanecast_recorder_bytes_written_total{source_id=\"front \\\"door\\\" \\\\1\",shard=\"0\"} 5000",
            "lanecast_recorder_dropped_gops_total{source_id=\"front \\\"door\\\" \\\\1\",shard=\"0\"} 2",
            "lanecast_stream_recording_state{source_id=\"front \\\"door\\\" \\\\1\",state=\"off\"} 1",
            "lanecast_stream_recordings_start_seconds{source_id=\"front \\\"door\\\" \\\\1\"} 1.5",
            "lanecast_recordings_bytes 77",
            "lanecast_stream_state{source_id=\"front \\\"door\\\" \\\\1\",state=\"Connecting\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }

    #[test]
    fn every_sample_stands_below_its_type() {
        let mut current = String::new();
        for line in page().lines() {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => current = rest.split(' ').next().unwrap().to_owned(),
                None if line.starts_with('#') => {}
                None => assert_eq!(line.split(['{', ' ']).next().unwrap(), current),
            }
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let page = page();
        assert!(!page.contains("s3cret") && !page.contains("abcd"));
    }
}
