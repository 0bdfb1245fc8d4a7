//! Streams: their cameras' wishes done, their news told, their runs sent.

use std::time::Instant;

use lanecast_dvr::recorder::{RecorderStatistics, RecordingStatus};
use lanecast_net::DestinationId;
use lanecast_packet::Squeeze;
use lanecast_protocol::wsc::StreamState;
use lanecast_relay::fanout::{Egress, Position, Transmit, ViewerId};
use lanecast_relay::source::{Lane, SourceOutput};
use lanecast_relay::stitcher::Stitcher;
use lanecast_relay::stream::{Stream, StreamSettings};

use super::egress::{restamped, send_sealed, send_stitched};
use super::inputs::Demand;
use super::journal::{Journal, Loudness};
use super::recording::unix_ms;
use super::slate::Outage;
use super::{Gate, Shard, StreamSlot};
use crate::command::{StreamConfig, StreamId};
use crate::drive::camera::{Camera, TlsTerms};
use crate::drive::viewer::Viewer;
use crate::drive::websocket::frame_run;
use crate::timers::{Armed, TimerKey};
use crate::{Event, SlateStatus, StreamStatus};

/// Sealed bytes that are handed to the kernel at once: they are still in the cache when it reads them.
const SEALED_PER_SUBMISSION: usize = 128 << 10;

impl Shard {
    pub(super) fn add_stream(&mut self, now: Instant, id: StreamId, config: StreamConfig) {
        if self.gate != Gate::Open || self.stream_slots.contains_key(&id) {
            return;
        }
        let settings = StreamSettings {
            max_udp_payload: self.config.max_udp_payload,
            gop_cache_bytes: self.config.gop_cache_bytes,
            seed: self.seed(),
        };
        let source_seed = self.seed();
        let entry = self.streams.vacant_entry();
        let index = entry.key();
        entry.insert(StreamSlot {
            id,
            camera: Camera::new(now, index, config.source.clone(), source_seed),
            stream: Stream::new(settings),
            config,
            status: StreamStatus {
                state: StreamState::Connecting,
                reason: None,
                active_input: None,
                codec: None,
                width: None,
                height: None,
                profile_level_id: None,
                recording: RecordingStatus::Off,
                slate: SlateStatus::Off,
            },
            announced: None,
            journal: Journal::default(),
            viewers: Vec::new(),
            touched: false,
            removed: false,
            stopped: false,
            recording: None,
            recorded: RecorderStatistics::default(),
            source_timer: Armed::default(),
            stream_timer: Armed::default(),
            questions: [0; 2],
            reports: [None; 2],
            demand: Demand::default(),
            outage: Outage::new(now),
            slate_timer: Armed::default(),
            packets_sent: 0,
            bytes_sent: 0,
            packets_skipped: 0,
        });
        self.stream_slots.insert(id, index);
        self.set_recording(now, index);
        self.set_wanted(now, index);
        self.run_source(now, index);
    }

    pub(super) fn update_stream(&mut self, now: Instant, id: StreamId, config: StreamConfig) {
        self.with_stream(now, id, |slot| {
            slot.camera.source.update(now, config.source.clone());
            slot.config = config;
        });
        if let Some(&index) = self.stream_slots.get(&id) {
            self.set_recording(now, index);
            self.set_wanted(now, index);
        }
    }

    pub(super) fn remove_stream(&mut self, now: Instant, id: StreamId) {
        let Some(&index) = self.stream_slots.get(&id) else { return };
        self.end_viewers(now, index, "the stream was removed");
        self.stream_slots.remove(&id);
        self.streams[index].removed = true;
        self.set_recording(now, index);
        self.streams[index].camera.source.stop(now);
        self.run_source(now, index);
    }

    pub(super) fn with_stream(&mut self, now: Instant, id: StreamId, change: impl FnOnce(&mut StreamSlot)) {
        if let Some(&index) = self.stream_slots.get(&id) {
            change(&mut self.streams[index]);
            self.run_source(now, index);
        }
    }

    /// Does what a source wants, until it wants nothing more.
    pub(super) fn run_source(&mut self, now: Instant, index: usize) {
        let Some(mut slot) = self.streams.get_mut(index) else { return };
        let mut stopped = false;
        while let Some(output) = slot.camera.source.poll_output() {
            match output {
                SourceOutput::Resolve { lane, host, port } => {
                    self.questions += 1;
                    let question = self.questions;
                    slot.questions[lane.index()] = question;
                    self.unsent_events.push_back(Event::Resolve { stream: slot.id, question, host, port });
                }
                SourceOutput::Connect { lane, to, input, tls_name } => {
                    let config = || slot.config.tls.get(input).cloned().flatten();
                    let tls = tls_name.map(|name| TlsTerms { name, config: config() });
                    slot.camera.connect(now, &mut self.ring, lane, to, tls);
                }
                SourceOutput::Open { lane, input } => {
                    self.open_foreign(now, index, lane, input);
                    // Nothing but the slot was borrowed from.
                    let Some(again) = self.streams.get_mut(index) else { return };
                    slot = again;
                }
                SourceOutput::Write(lane, bytes) => slot.camera.write(&mut self.ring, lane, bytes),
                SourceOutput::OpenUdp(lane) => slot.camera.open_udp(now, &mut self.ring, lane),
                SourceOutput::UdpPeer { lane, rtp, rtcp } => slot.camera.set_udp_peer(lane, rtp, rtcp),
                SourceOutput::SendRtp(lane, bytes) => slot.camera.send_rtp(&self.ring, lane, &bytes),
                SourceOutput::SendRtcp(lane, bytes) => slot.camera.send_rtcp(&self.ring, lane, &bytes),
                SourceOutput::Disconnect(lane) => {
                    // An answer to a name asked for before is not wanted any more.
                    slot.questions[lane.index()] = 0;
                    slot.camera.disconnect(&mut self.ring, lane);
                }
                SourceOutput::Playing { lane, codec, clock_rate_hz, parameter_sets } => {
                    slot.reports[lane.index()] = None;
                    slot.stream.handle_playing(lane, codec, clock_rate_hz, *parameter_sets);
                    // The last access unit of what played before ends with it.
                    Self::feed_recorder(now, slot);
                }
                SourceOutput::Prefer(lane) => slot.stream.prefer(lane),
                SourceOutput::Packet(lane, packet) => {
                    slot.stream.handle_packet(now, lane, packet);
                    Self::after_media(now, slot);
                }
                SourceOutput::SenderReport(lane, report) => {
                    slot.reports[lane.index()] = Some(report);
                    if slot.stream.on_air() == Some(lane)
                        && let Some(recording) = slot.recording.as_deref_mut()
                    {
                        recording.recorder.handle_sender_report(now, unix_ms(), report);
                    }
                }
                SourceOutput::State { state, reason, active_input } => {
                    slot.status = StreamStatus { state, reason, active_input, ..slot.status.clone() };
                    let is_on_demand = slot.config.source.on_demand.is_some();
                    if state == StreamState::Inactive && is_on_demand && !slot.removed {
                        slot.stream.rest();
                        Self::feed_recorder(now, slot);
                    }
                }
                SourceOutput::Stopped => stopped = true,
            }
        }
        let wants = slot.camera.source.poll_timeout();
        self.timers.set(TimerKey::Source(index), &mut slot.source_timer, wants);
        self.watch_outage(now, index);
        self.announce(now, index);
        self.touch(index);
        self.run_recorder(now, index);
        if stopped && let Some(slot) = self.streams.get_mut(index) {
            slot.stopped = true;
            if slot.recording.is_none() {
                self.free_stream(index);
            }
        }
    }

    /// What came may have put its lane on air, and may be an access unit for the recorder.
    pub(super) fn after_media(now: Instant, slot: &mut StreamSlot) {
        if let Some(lane) = slot.stream.poll_on_air() {
            slot.camera.source.handle_on_air(now, lane);
        }
        slot.note_start();
        Self::feed_recorder(now, slot);
    }

    /// Tells sessions and the control plane what is new of a stream.
    pub(super) fn announce(&mut self, now: Instant, index: usize) {
        let slot = &mut self.streams[index];
        let description = slot.stream.poll_description();
        // Of the slate, viewers are told; the stream stays what its camera is.
        if let Some(sets) = description.as_ref().filter(|new| !new.is_slate).map(|new| &new.parameter_sets) {
            let shape = sets.shape();
            slot.status.codec = Some(sets.codec());
            slot.status.width = shape.as_ref().map(|shape| shape.width);
            slot.status.height = shape.as_ref().map(|shape| shape.height);
            slot.status.profile_level_id = sets.profile_level_id_bytes();
        }
        let sets = description.map(|new| new.parameter_sets);
        if slot.status.state == StreamState::Active && slot.status.reason.is_none() {
            slot.status.reason = order_note(&slot.stream);
        }
        if slot.announced.as_ref() == Some(&slot.status) && sets.is_none() {
            return;
        }
        let state_changed = slot.announced.as_ref().map(|status| status.state) != Some(slot.status.state);
        slot.announced = Some(slot.status.clone());
        slot.log_status(now, state_changed);
        if !slot.removed {
            self.unsent_events
                .push_back(Event::StreamChanged { stream: slot.id, status: slot.status.clone() });
        }
        let state = slot.status.state;
        let codec = sets.as_ref().map(|sets| sets.codec());
        for viewer in slot.viewers.clone() {
            // Who plays what was recorded has other parameter sets; it gets these when it returns.
            let in_the_past = self.viewers.get(viewer).is_some_and(|viewer| viewer.playing.is_some());
            let sets = sets.as_ref().filter(|_| !in_the_past);
            if !in_the_past {
                self.end_if_other_codec(now, viewer, codec);
            }
            self.tell_session(now, viewer, |session| {
                if state_changed {
                    session.handle_stream_state(now, state);
                }
                if let Some(sets) = sets {
                    session.handle_parameter_sets(now, sets);
                }
            });
        }
    }

    pub(super) fn free_stream(&mut self, index: usize) {
        let mut slot = self.streams.remove(index);
        self.timers.set(TimerKey::Source(index), &mut slot.source_timer, None);
        self.timers.set(TimerKey::Stream(index), &mut slot.stream_timer, None);
        self.timers.set(TimerKey::Slate(index), &mut slot.slate_timer, None);
        for lane in Lane::ALL {
            slot.camera.disconnect(&mut self.ring, lane);
        }
    }

    pub(super) fn touch(&mut self, index: usize) {
        let slot = &mut self.streams[index];
        if !std::mem::replace(&mut slot.touched, true) {
            self.touched.push(index);
        }
    }

    /// Sends what is due on every stream that had news this turn.
    pub(super) fn transmit(&mut self, now: Instant) {
        let mut touched = std::mem::take(&mut self.touched);
        for &index in &touched {
            // Its last viewer may have left.
            self.set_wanted(now, index);
        }
        for index in touched.drain(..) {
            self.transmit_stream(now, index);
        }
        // Sending touches no stream, so nothing is lost here.
        self.touched = touched;
        self.leave_live_with_whole_pictures(now);
    }

    pub(super) fn transmit_stream(&mut self, now: Instant, index: usize) {
        let Self { streams, viewers, ring, blocked, stuck, written, timers, scratch, connections, .. } = self;
        let Some(slot) = streams.get_mut(index) else { return };
        slot.touched = false;
        let (packets_sent, bytes_sent, skipped) =
            (&mut slot.packets_sent, &mut slot.bytes_sent, &mut slot.packets_skipped);
        let mut sealed_bytes = 0;
        slot.stream.transmit(now, |transmit| {
            let (run, egress, squeeze, own);
            let to: &[ViewerId] = match transmit {
                Transmit::Shared { run: shared, viewers, egress: by } => {
                    (run, egress, squeeze) = (shared, by, Squeeze::default());
                    viewers
                }
                Transmit::Own { run: late, squeeze: by_time, viewer, egress: by } => {
                    (run, egress, squeeze) = (late, by, by_time);
                    own = [viewer];
                    &own
                }
            };
            // Who could not take a run gets nothing more of this turn: a later, smaller run might fit.
            let (before, full) = (stuck.len(), |viewer: &ViewerId| stuck.binary_search(viewer).is_ok());
            let held_back = if before == 0 { 0 } else { to.iter().filter(|viewer| full(viewer)).count() };
            match egress {
                Egress::Datagrams => {
                    let run = restamped(run, &squeeze);
                    let ids = to.iter().filter(|viewer| before == 0 || !full(viewer));
                    let ids = ids.map(|viewer| DestinationId(viewer.0));
                    ring.send_run(run.bytes(), run.segment_bytes(), ids, blocked);
                    stuck.extend(blocked.drain(..).map(|id| ViewerId(id.0)));
                }
                Egress::WebSocket => {
                    let frames = frame_run(&restamped(run, &squeeze));
                    for viewer in to {
                        let Some(end) = viewers.get_mut(viewer.0 as usize).and_then(Viewer::wsc) else {
                            continue;
                        };
                        if stuck[..before].binary_search(viewer).is_ok() {
                            continue;
                        }
                        if end.websocket.media(&frames, run.starts_access_unit()) {
                            written.push(viewer.0 as usize);
                        } else {
                            stuck.push(*viewer);
                        }
                    }
                }
                Egress::StitchedDatagrams | Egress::StitchedWebSocket => {
                    for viewer in to {
                        if before > 0 && stuck[..before].binary_search(viewer).is_ok() {
                            continue;
                        }
                        let Some(end) = viewers.get_mut(viewer.0 as usize).and_then(Viewer::wsc) else {
                            continue;
                        };
                        match send_stitched(now, end, *viewer, run, &squeeze, ring, scratch) {
                            true if egress == Egress::StitchedWebSocket => written.push(viewer.0 as usize),
                            true => {}
                            false => stuck.push(*viewer),
                        }
                    }
                }
                Egress::WebRtc => {
                    for viewer in to {
                        if before > 0 && stuck[..before].binary_search(viewer).is_ok() {
                            continue;
                        }
                        let Some(end) = viewers.get_mut(viewer.0 as usize).and_then(Viewer::webrtc) else {
                            continue;
                        };
                        let sent = send_sealed(now, end, *viewer, run, &squeeze, ring, scratch, connections);
                        match sent {
                            Some(bytes) => sealed_bytes += bytes,
                            None => stuck.push(*viewer),
                        }
                        if sealed_bytes >= SEALED_PER_SUBMISSION {
                            sealed_bytes = 0;
                            ring.flush();
                        }
                    }
                }
            }
            let lost = (stuck.len() - before + held_back) as u64;
            if stuck.len() > before {
                for viewer in &stuck[before..] {
                    let end = viewers.get_mut(viewer.0 as usize).and_then(Viewer::wsc);
                    if let Some(wsc) = end.filter(|wsc| wsc.stitcher.is_none()) {
                        // What it gets next follows what it got last.
                        wsc.stitcher = Some(Stitcher::new(Position {
                            next_packet: run.first_packet(),
                            newest_90k: squeeze.map(run.rtp_timestamp()),
                            sent_at: now,
                        }));
                    }
                }
                stuck.sort_unstable();
            }
            let reached = to.len() as u64 - lost;
            *packets_sent += reached * u64::from(run.packets());
            *bytes_sent += reached * run.bytes().len() as u64;
            *skipped += lost * u64::from(run.packets());
        });
        for viewer in stuck.drain(..) {
            slot.stream.block(viewer);
            let end = viewers.get_mut(viewer.0 as usize).and_then(Viewer::wsc);
            if let Some(egress) = end.and_then(|wsc| wsc.egress()) {
                slot.stream.join(viewer, egress, false);
            }
        }
        for index in written.drain(..) {
            if let Some(wsc) = viewers.get_mut(index).and_then(Viewer::wsc) {
                wsc.websocket.write_on(ring);
            }
        }
        let wants = slot.stream.poll_timeout();
        timers.set(TimerKey::Stream(index), &mut slot.stream_timer, wants);
    }
}

impl StreamSlot {
    fn log_status(&mut self, now: Instant, state_changed: bool) {
        let (stream, state) = (&self.config.name, self.status.state);
        let reason = self.status.reason.as_deref().unwrap_or("");
        match self.journal.note(now, &self.status) {
            Loudness::Info => tracing::info!(%stream, ?state, reason, "stream"),
            Loudness::LastInfo => {
                tracing::info!(%stream, ?state, reason, "stream, which changes often: for a minute it is logged at debug");
            }
            Loudness::Debug if state_changed => tracing::debug!(%stream, ?state, reason, "stream"),
            Loudness::Debug => {}
        }
    }
}

/// What an operator should know of the order of a stream's pictures.
fn order_note(stream: &Stream) -> Option<String> {
    let counters = stream.counters();
    let note =
        "the camera sends B-pictures, which WebRTC viewers go without: browsers do not reorder pictures";
    match (counters.out_of_order_access_units, counters.out_of_order_references) {
        (0, _) => None,
        (_, 0) => Some(note.to_owned()),
        (..) => Some(format!("{note}; others refer to some of them, so traces may show: switch them off")),
    }
}
