//! Everything that lives on one core: streams, viewers, their sockets and timers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use lanecast_net::{Completion, DestinationId, Ring, Segmentation, Socket, canonical, thread_cpu_us};
use lanecast_protocol::wsc::{
    ActiveSource, Output, Session, SessionConfig, StreamState, Transport, parse_punch,
};
use lanecast_relay::fanout::{Egress, Transmit, ViewerId};
use lanecast_relay::source::{Input, SourceOutput};
use lanecast_relay::stream::{Stream, StreamSettings};
use slab::Slab;
use tokio::sync::mpsc;

use crate::command::{AttachWebSocket, SessionError, SessionId, SessionMode, StreamConfig, StreamId};
use crate::drive::camera::Camera;
use crate::drive::viewer::Viewer;
use crate::drive::websocket::{Heard, WebSocket, frame_run};
use crate::timers::{Armed, TimerKey, Timers};
use crate::token::{Owner, Token};
use crate::{Command, DataPlaneConfig, Event, ShardStatistics, StreamStatistics, StreamStatus};

/// A graceful shutdown gives sessions and cameras this long to hear of it.
const DRAIN: Duration = Duration::from_secs(2);
/// A close frame that is not taken by then is not waited for.
const LINGER: Duration = Duration::from_secs(2);
/// Viewers of a shard: the ring's completions name them by 24 bits; memory ends far below.
const MAX_VIEWERS: usize = 1 << 20;
/// Events that the control plane has no room for are offered again after this.
const EVENTS_AGAIN: Duration = Duration::from_millis(10);

/// One shard.
pub(crate) struct Shard {
    index: usize,
    udp_port: u16,
    config: DataPlaneConfig,
    ring: Ring,
    events: mpsc::Sender<Event>,
    unsent_events: VecDeque<Event>,
    streams: Slab<StreamSlot>,
    stream_slots: HashMap<StreamId, usize>,
    viewers: Slab<Viewer>,
    sessions: HashMap<SessionId, usize>,
    destinations: HashMap<SocketAddr, usize>,
    touched: Vec<usize>,
    timers: Timers,
    ring_timers: BinaryHeap<Reverse<Instant>>,
    /// Emptied after every use; here so that they are allocated once.
    blocked: Vec<DestinationId>,
    stuck: Vec<ViewerId>,
    written: Vec<usize>,
    gate: Gate,
    gate_timer: Armed,
    hasher: RandomState,
    seeds: u64,
    viewer_epoch: u32,
    turns: u64,
    datagrams_dropped: u64,
    last_drop_log: Option<Instant>,
}

/// A stream and its camera.
struct StreamSlot {
    id: StreamId,
    config: StreamConfig,
    camera: Camera,
    stream: Stream,
    status: StreamStatus,
    announced: Option<StreamStatus>,
    viewers: Vec<usize>,
    touched: bool,
    removed: bool,
    source_timer: Armed,
    stream_timer: Armed,
    question: u64,
    packets_sent: u64,
    bytes_sent: u64,
    packets_skipped: u64,
}

/// Whether the shard takes work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// Ends when all is drained or the time is over.
    Draining(Instant),
    Closed,
}

impl Shard {
    pub(crate) fn new(
        index: usize,
        udp_port: u16,
        config: DataPlaneConfig,
        ring: Ring,
        events: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            index,
            udp_port,
            config,
            ring,
            events,
            unsent_events: VecDeque::new(),
            streams: Slab::new(),
            stream_slots: HashMap::new(),
            viewers: Slab::new(),
            sessions: HashMap::new(),
            destinations: HashMap::new(),
            touched: Vec::new(),
            timers: Timers::default(),
            ring_timers: BinaryHeap::new(),
            blocked: Vec::new(),
            stuck: Vec::new(),
            written: Vec::new(),
            gate: Gate::Open,
            gate_timer: Armed::default(),
            hasher: RandomState::new(),
            seeds: 0,
            viewer_epoch: 0,
            turns: 0,
            datagrams_dropped: 0,
            last_drop_log: None,
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.gate == Gate::Closed
    }

    pub(crate) fn prepare_sleep(&mut self) -> bool {
        self.ring.prepare_sleep()
    }

    pub(crate) fn awake(&mut self) {
        self.ring.awake();
    }

    /// One turn: completions, timers, sends.
    pub(crate) fn turn(&mut self, now: Instant) -> io::Result<()> {
        self.turns += 1;
        while let Some(completion) = self.ring.reap() {
            self.on_completion(now, completion);
        }
        for key in self.timers.due(now) {
            self.on_timer(now, key);
        }
        self.transmit(now);
        self.send_events();
        self.check_gate(now);
        self.arm_ring(now);
        self.ring.submit()
    }

    pub(crate) fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::AddStream { stream, config } => self.add_stream(now, stream, *config),
            Command::UpdateStream { stream, config } => self.update_stream(now, stream, *config),
            Command::RemoveStream { stream } => self.remove_stream(now, stream),
            Command::AttachWebSocket(attach) => self.attach_websocket(now, *attach),
            Command::AttachWebRtc { reply, .. } | Command::RestartIce { reply, .. } => {
                let _ = reply.send(Err(SessionError::Full));
            }
            Command::ReadSession { reply, .. } => {
                let _ = reply.send(Err(SessionError::Unknown));
            }
            Command::AttachIceTcp(_) | Command::AddCandidates { .. } | Command::UseStunServer { .. } => {}
            Command::EndSession { session, reason, reply } => {
                let ended = self.end_session(now, session, reason);
                // Who asked may have gone; then nobody wants the answer.
                let _ = reply.send(ended);
            }
            Command::ReadMode { session, reply } => {
                let live = SessionMode { is_live: true, current_time_unix_ms: None, speed: 1.0 };
                let mode = self.sessions.get(&session).map(|_| live).ok_or(SessionError::Unknown);
                // As above.
                let _ = reply.send(mode);
            }
            Command::Resolved { stream, question, addresses } => {
                self.with_stream(now, stream, |slot| {
                    if slot.question == question {
                        slot.camera.source.handle_resolved(now, addresses);
                    }
                });
            }
            Command::ReadStatistics { reply } => {
                // As above.
                let _ = reply.send(self.statistics());
            }
            Command::Shutdown => self.start_draining(now),
        }
    }

    // Streams.

    fn add_stream(&mut self, now: Instant, id: StreamId, config: StreamConfig) {
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
            },
            announced: None,
            viewers: Vec::new(),
            touched: false,
            removed: false,
            source_timer: Armed::default(),
            stream_timer: Armed::default(),
            question: 0,
            packets_sent: 0,
            bytes_sent: 0,
            packets_skipped: 0,
        });
        self.stream_slots.insert(id, index);
        self.run_source(now, index);
    }

    fn update_stream(&mut self, now: Instant, id: StreamId, config: StreamConfig) {
        self.with_stream(now, id, |slot| {
            slot.camera.source.update(now, config.source.clone());
            slot.config = config;
        });
    }

    fn remove_stream(&mut self, now: Instant, id: StreamId) {
        let Some(&index) = self.stream_slots.get(&id) else { return };
        self.end_viewers(now, index, "the stream was removed");
        self.stream_slots.remove(&id);
        self.streams[index].removed = true;
        self.streams[index].camera.source.stop(now);
        self.run_source(now, index);
    }

    fn with_stream(&mut self, now: Instant, id: StreamId, change: impl FnOnce(&mut StreamSlot)) {
        if let Some(&index) = self.stream_slots.get(&id) {
            change(&mut self.streams[index]);
            self.run_source(now, index);
        }
    }

    /// Does what a source wants, until it wants nothing more.
    fn run_source(&mut self, now: Instant, index: usize) {
        let Some(slot) = self.streams.get_mut(index) else { return };
        let mut stopped = false;
        while let Some(output) = slot.camera.source.poll_output() {
            match output {
                SourceOutput::Resolve { host, port } => {
                    slot.question += 1;
                    let question = slot.question;
                    self.unsent_events.push_back(Event::Resolve { stream: slot.id, question, host, port });
                }
                SourceOutput::Connect(to) => slot.camera.connect(now, &mut self.ring, to),
                SourceOutput::Write(bytes) => slot.camera.write(&mut self.ring, bytes),
                SourceOutput::OpenUdp => slot.camera.open_udp(now, &mut self.ring),
                SourceOutput::UdpPeer { rtp, rtcp } => slot.camera.set_udp_peer(rtp, rtcp),
                SourceOutput::SendRtp(bytes) => slot.camera.send_rtp(&self.ring, &bytes),
                SourceOutput::SendRtcp(bytes) => slot.camera.send_rtcp(&self.ring, &bytes),
                SourceOutput::Disconnect => {
                    // An answer to a name asked for before is not wanted any more.
                    slot.question += 1;
                    slot.camera.disconnect(&mut self.ring);
                }
                SourceOutput::Playing { codec, clock_rate_hz, parameter_sets } => {
                    slot.stream.handle_playing(codec, clock_rate_hz, *parameter_sets);
                }
                SourceOutput::Packet(packet) => slot.stream.handle_packet(now, packet),
                // The wall clock of pictures is the recorder's business.
                SourceOutput::SenderReport(_) => {}
                SourceOutput::State { state, reason, active_input } => {
                    slot.status = StreamStatus { state, reason, active_input, ..slot.status.clone() };
                }
                SourceOutput::Stopped => stopped = true,
            }
        }
        let wants = slot.camera.source.poll_timeout();
        self.timers.set(TimerKey::Source(index), &mut slot.source_timer, wants);
        self.announce(now, index);
        self.touch(index);
        if stopped {
            self.free_stream(index);
        }
    }

    /// Tells sessions and the control plane what is new of a stream.
    fn announce(&mut self, now: Instant, index: usize) {
        let slot = &mut self.streams[index];
        let sets = slot.stream.poll_parameter_sets();
        if let Some(sets) = &sets {
            let shape = sets.shape();
            slot.status.codec = Some(sets.codec());
            slot.status.width = shape.as_ref().map(|shape| shape.width);
            slot.status.height = shape.as_ref().map(|shape| shape.height);
            slot.status.profile_level_id = sets.profile_level_id_bytes();
        }
        if slot.announced.as_ref() == Some(&slot.status) && sets.is_none() {
            return;
        }
        let state_changed = slot.announced.as_ref().map(|status| status.state) != Some(slot.status.state);
        slot.announced = Some(slot.status.clone());
        if state_changed {
            let reason = slot.status.reason.as_deref().unwrap_or("");
            tracing::info!(stream = %slot.config.name, state = ?slot.status.state, reason, "stream");
        }
        if !slot.removed {
            self.unsent_events
                .push_back(Event::StreamChanged { stream: slot.id, status: slot.status.clone() });
        }
        let state = slot.status.state;
        for viewer in slot.viewers.clone() {
            self.tell_session(now, viewer, |session| {
                if state_changed {
                    session.handle_stream_state(now, state);
                }
                if let Some(sets) = &sets {
                    session.handle_parameter_sets(now, sets);
                }
            });
        }
    }

    fn free_stream(&mut self, index: usize) {
        let mut slot = self.streams.remove(index);
        self.timers.set(TimerKey::Source(index), &mut slot.source_timer, None);
        self.timers.set(TimerKey::Stream(index), &mut slot.stream_timer, None);
        slot.camera.disconnect(&mut self.ring);
    }

    // Sending.

    fn touch(&mut self, index: usize) {
        let slot = &mut self.streams[index];
        if !std::mem::replace(&mut slot.touched, true) {
            self.touched.push(index);
        }
    }

    /// Sends what is due on every stream that had news this turn.
    fn transmit(&mut self, now: Instant) {
        let mut touched = std::mem::take(&mut self.touched);
        for index in touched.drain(..) {
            self.transmit_stream(now, index);
        }
        // Sending touches no stream, so nothing is lost here.
        self.touched = touched;
    }

    fn transmit_stream(&mut self, now: Instant, index: usize) {
        let Self { streams, viewers, ring, blocked, stuck, written, timers, .. } = self;
        let Some(slot) = streams.get_mut(index) else { return };
        slot.touched = false;
        let (packets_sent, bytes_sent, skipped) =
            (&mut slot.packets_sent, &mut slot.bytes_sent, &mut slot.packets_skipped);
        slot.stream.transmit(now, |transmit| {
            let (run, own);
            let to: &[ViewerId] = match &transmit {
                Transmit::Shared { run: shared, viewers, .. } => {
                    run = *shared;
                    viewers
                }
                Transmit::Own { run: copy, viewer, .. } => {
                    run = copy;
                    own = [*viewer];
                    &own
                }
            };
            // Who could not take a run gets nothing more of this turn: a later, smaller run might fit.
            let (before, full) = (stuck.len(), |viewer: &ViewerId| stuck.binary_search(viewer).is_ok());
            let held_back = if before == 0 { 0 } else { to.iter().filter(|viewer| full(viewer)).count() };
            match transmit {
                Transmit::Shared { egress: Egress::Datagrams, .. }
                | Transmit::Own { egress: Egress::Datagrams, .. } => {
                    let ids = to.iter().filter(|viewer| before == 0 || !full(viewer));
                    let ids = ids.map(|viewer| DestinationId(viewer.0));
                    ring.send_run(run.bytes(), run.segment_bytes(), ids, blocked);
                    stuck.extend(blocked.drain(..).map(|id| ViewerId(id.0)));
                }
                Transmit::Shared { egress: Egress::WebSocket, .. }
                | Transmit::Own { egress: Egress::WebSocket, .. } => {
                    let frames = frame_run(run);
                    for viewer in to {
                        let Some(end) = viewers.get_mut(viewer.0 as usize) else { continue };
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
            }
            let lost = (stuck.len() - before + held_back) as u64;
            if stuck.len() > before {
                stuck.sort_unstable();
            }
            let reached = to.len() as u64 - lost;
            *packets_sent += reached * u64::from(run.packets());
            *bytes_sent += reached * run.bytes().len() as u64;
            *skipped += lost * u64::from(run.packets());
        });
        for viewer in stuck.drain(..) {
            slot.stream.block(viewer);
        }
        for index in written.drain(..) {
            if let Some(viewer) = viewers.get_mut(index) {
                viewer.websocket.write_on(ring);
            }
        }
        let wants = slot.stream.poll_timeout();
        timers.set(TimerKey::Stream(index), &mut slot.stream_timer, wants);
    }

    // Viewers.

    fn attach_websocket(&mut self, now: Instant, attach: AttachWebSocket) {
        let AttachWebSocket { stream, session: id, socket, buffered, peer, force_websocket_transport } =
            attach;
        let Some(&stream_slot) = self.stream_slots.get(&stream).filter(|_| self.gate == Gate::Open) else {
            return self.session_ended(stream, id, "the stream is gone");
        };
        if self.viewers.vacant_key() >= MAX_VIEWERS {
            return self.session_ended(stream, id, "the server is full");
        }
        // The ring waits in the kernel; a non-blocking descriptor would make it answer EAGAIN instead.
        if let Err(error) = socket.set_nonblocking(false).and_then(|()| socket.set_nodelay(true)) {
            return self.session_ended(stream, id, &error.to_string());
        }
        self.viewer_epoch = self.viewer_epoch.wrapping_add(1);
        let epoch = self.viewer_epoch;
        let index = self.viewers.vacant_key();
        let token = Token { owner: Owner::WebSocket, slot: index, epoch }.pack();
        let socket = Socket::from(std::os::fd::OwnedFd::from(socket));
        let queue_bytes = self.config.websocket_queue_bytes;
        let websocket = WebSocket::new(&mut self.ring, token, socket, &buffered, queue_bytes);
        let slot = &mut self.streams[stream_slot];
        let config = SessionConfig {
            session_id: id,
            peer: canonical(peer),
            force_websocket_transport,
            udp_port: self.udp_port,
            allow_foreign_destination: self.config.allow_foreign_destination,
            source_number: slot.config.source_number,
        };
        let session = Box::new(Session::new(now, config, active_source(slot), slot.status.state));
        slot.viewers.push(index);
        let sets = slot.stream.parameter_sets().cloned();
        self.viewers.insert(Viewer {
            id,
            viewer: ViewerId(index as u32),
            stream,
            stream_slot,
            epoch,
            session,
            websocket,
            transport: Transport::None,
            had_media: false,
            ended: None,
            linger_until: None,
            armed: Armed::default(),
        });
        self.sessions.insert(id, index);
        self.tell_session(now, index, |session| {
            if let Some(sets) = &sets {
                session.handle_parameter_sets(now, sets);
            }
        });
        // What was read behind the upgrade request is heard now.
        self.on_websocket_received(now, index, BytesMut::new(), false);
    }

    fn end_session(&mut self, now: Instant, id: SessionId, reason: String) -> Result<(), SessionError> {
        let &index = self.sessions.get(&id).ok_or(SessionError::Unknown)?;
        self.tell_session(now, index, |session| session.end(now, reason));
        Ok(())
    }

    fn end_viewers(&mut self, now: Instant, stream_slot: usize, reason: &str) {
        for index in self.streams[stream_slot].viewers.clone() {
            self.tell_session(now, index, |session| session.end(now, reason.to_owned()));
        }
    }

    /// Tells a session something and does what it wants.
    fn tell_session(&mut self, now: Instant, index: usize, tell: impl FnOnce(&mut Session)) {
        let Some(viewer) = self.viewers.get_mut(index) else { return };
        // Who is only there for its last frame has nothing more to want.
        if viewer.ended.is_none() {
            tell(&mut viewer.session);
            while let Some(output) =
                self.viewers.get_mut(index).and_then(|viewer| viewer.session.poll_output())
            {
                self.do_for_session(index, output);
            }
        }
        let Some(viewer) = self.viewers.get_mut(index) else { return };
        let wants = match &mut viewer.linger_until {
            Some(until) => Some(*until),
            None if viewer.ended.is_some() => Some(*viewer.linger_until.insert(now + LINGER)),
            None => viewer.session.poll_timeout(),
        };
        self.timers.set(TimerKey::Viewer(index), &mut viewer.armed, wants);
        self.write_websocket(index);
    }

    fn do_for_session(&mut self, index: usize, output: Output) {
        let viewer = &mut self.viewers[index];
        match output {
            Output::Text(text) => viewer.websocket.text(text),
            Output::Datagram { to, bytes } => self.ring.send_datagram(bytes, to),
            Output::Transport(transport) => self.set_transport(index, transport),
            Output::Close { code, reason } => {
                let reason = close_text(&reason);
                viewer.websocket.close(code, &reason);
                viewer.ended = Some(reason);
                self.detach(index);
            }
        }
    }

    fn set_transport(&mut self, index: usize, transport: Transport) {
        let viewer = &mut self.viewers[index];
        if let Some(old) = viewer.destination()
            && self.destinations.get(&old) == Some(&index)
        {
            self.destinations.remove(&old);
        }
        viewer.transport = transport;
        let (id, fresh) = (viewer.viewer, !viewer.had_media);
        let egress = match transport {
            Transport::None => None,
            Transport::Udp(address) => {
                self.destinations.insert(address, index);
                self.ring.set_destination(DestinationId(id.0), address);
                Some(Egress::Datagrams)
            }
            Transport::WebSocket => Some(Egress::WebSocket),
        };
        if egress != Some(Egress::Datagrams) {
            self.ring.clear_destination(DestinationId(id.0));
        }
        let stream_slot = viewer.stream_slot;
        viewer.had_media |= egress.is_some();
        let Some(slot) = self.streams.get_mut(stream_slot) else { return };
        match egress {
            Some(egress) => slot.stream.join(id, egress, fresh),
            None => slot.stream.leave(id),
        }
        self.touch(stream_slot);
    }

    /// Takes a viewer out of its stream; its WebSocket lives on until the close frame is written.
    fn detach(&mut self, index: usize) {
        self.set_transport(index, Transport::None);
        let viewer = &mut self.viewers[index];
        let stream_slot = viewer.stream_slot;
        let (id, viewer_id) = (viewer.id, index);
        self.sessions.remove(&id);
        if let Some(slot) = self.streams.get_mut(stream_slot)
            && let Some(at) = slot.viewers.iter().position(|&viewer| viewer == viewer_id)
        {
            slot.viewers.swap_remove(at);
        }
    }

    fn free_viewer(&mut self, index: usize) {
        if self.sessions.contains_key(&self.viewers[index].id) {
            self.detach(index);
        }
        let mut viewer = self.viewers.remove(index);
        viewer.websocket.shut(&mut self.ring);
        self.timers.set(TimerKey::Viewer(index), &mut viewer.armed, None);
        self.session_ended(viewer.stream, viewer.id, viewer.ended.as_deref().unwrap_or("the client is gone"));
    }

    fn session_ended(&mut self, stream: StreamId, session: SessionId, reason: &str) {
        self.unsent_events.push_back(Event::SessionEnded { stream, session, reason: reason.to_owned() });
    }

    fn write_websocket(&mut self, index: usize) {
        if let Some(viewer) = self.viewers.get_mut(index)
            && viewer.websocket.write_on(&mut self.ring)
        {
            self.free_viewer(index);
        }
    }

    fn on_websocket_received(&mut self, now: Instant, index: usize, mut buffer: BytesMut, receive_on: bool) {
        loop {
            let Some(viewer) = self.viewers.get_mut(index) else { return };
            if viewer.ended.is_some() {
                // It may say what it likes while its close frame is on its way.
                buffer.clear();
                break;
            }
            match viewer.websocket.hear(&mut buffer) {
                None => break,
                Some(Heard::Text(text)) => {
                    self.tell_session(now, index, |session| session.handle_text(now, &text))
                }
                Some(Heard::Binary) => self.tell_session(now, index, |session| session.handle_binary(now)),
                Some(Heard::Ping) => {
                    self.tell_session(now, index, |session| session.handle_websocket_ping(now))
                }
                Some(Heard::Closed) => {
                    viewer.ended = Some("the client closed the session".into());
                    self.detach(index);
                    // Lingers until the answer is written.
                    self.tell_session(now, index, |_| {});
                }
                Some(Heard::Gone(reason)) => {
                    viewer.ended = Some(reason);
                    return self.free_viewer(index);
                }
            }
        }
        self.write_websocket(index);
        if let Some(viewer) = self.viewers.get_mut(index).filter(|_| receive_on) {
            viewer.websocket.receive(&mut self.ring, buffer);
        }
    }

    // Completions.

    fn on_completion(&mut self, now: Instant, completion: Completion) {
        match completion {
            Completion::Received { token, buffer, result } => {
                self.on_received(now, Token::unpack(token), buffer, result)
            }
            Completion::Written { token, result } => self.on_written(Token::unpack(token), result),
            Completion::Connected { token, result } => {
                let token = Token::unpack(token);
                if let Some(camera) = self.camera(token) {
                    let Self { ring, streams, .. } = self;
                    streams[camera].camera.on_connected(now, ring, result);
                    self.run_source(now, camera);
                }
            }
            Completion::Datagram { token, from, bytes } => {
                self.on_datagram(now, Token::unpack(token), from, bytes)
            }
            Completion::DatagramsEnded { .. } => {}
            Completion::SendFailed { destination, error } => self.on_send_failed(now, destination, &error),
            Completion::Unreachable { address } => self.on_unreachable(now, address),
            Completion::SegmentationOff { error } => {
                tracing::warn!(shard = self.index, %error, "segmented sends are refused: packets go one by one");
            }
            Completion::Timer => {
                self.ring_timers.pop();
            }
        }
    }

    /// The stream slot of a camera's completion, unless its connection is another by now.
    fn camera(&self, token: Token) -> Option<usize> {
        self.streams.get(token.slot).filter(|slot| slot.camera.owns(token)).map(|_| token.slot)
    }

    fn on_received(&mut self, now: Instant, token: Token, buffer: BytesMut, result: io::Result<usize>) {
        if token.owner == Owner::WebSocket {
            let mine = self.viewers.get_mut(token.slot).filter(|viewer| viewer.epoch == token.epoch);
            let Some(viewer) = mine else { return };
            match result {
                Ok(received) if received > 0 => self.on_websocket_received(now, token.slot, buffer, true),
                Ok(_) | Err(_) => {
                    viewer.ended.get_or_insert_with(|| "the client is gone".into());
                    self.free_viewer(token.slot);
                }
            }
            return;
        }
        let Some(index) = self.camera(token) else { return };
        let alive = matches!(result, Ok(received) if received > 0);
        self.streams[index].camera.on_received(now, buffer, result);
        self.run_source(now, index);
        if alive && self.camera(token).is_some() {
            let Self { ring, streams, .. } = self;
            streams[index].camera.receive_on(ring);
        }
    }

    fn on_written(&mut self, token: Token, result: io::Result<usize>) {
        if token.owner == Owner::WebSocket {
            let mine = self.viewers.get_mut(token.slot).filter(|viewer| viewer.epoch == token.epoch);
            let Some(viewer) = mine else { return };
            match result {
                Ok(written) => {
                    viewer.websocket.on_written(written);
                    self.write_websocket(token.slot);
                }
                Err(error) => {
                    viewer.ended.get_or_insert_with(|| format!("the client's connection broke: {error}"));
                    self.free_viewer(token.slot);
                }
            }
        } else if let Some(index) = self.camera(token) {
            let Self { ring, streams, .. } = self;
            streams[index].camera.on_written(ring, result);
        }
    }

    fn on_datagram(&mut self, now: Instant, token: Token, from: SocketAddr, bytes: Bytes) {
        if token.owner != Owner::Udp {
            if let Some(index) = self.camera(token) {
                self.streams[index].camera.on_datagram(now, token.owner, from, bytes);
                self.run_source(now, index);
            }
            return;
        }
        let punch = parse_punch(&bytes);
        let session = punch.and_then(|punch| Some((punch, *self.sessions.get(&punch.token())?)));
        let Some((punch, index)) = session else { return self.drop_datagram(now, from) };
        let mut taken = false;
        self.tell_session(now, index, |session| taken = session.handle_punch(now, from, punch));
        if !taken {
            self.drop_datagram(now, from);
        }
    }

    /// Nothing is ever sent in answer to what is not a punch of a session.
    fn drop_datagram(&mut self, now: Instant, from: SocketAddr) {
        self.datagrams_dropped += 1;
        if self.last_drop_log.is_none_or(|last| now >= last + Duration::from_secs(1)) {
            self.last_drop_log = Some(now);
            tracing::debug!(shard = self.index, %from, dropped = self.datagrams_dropped, "datagram dropped: no session's punch");
        }
    }

    fn on_send_failed(&mut self, _now: Instant, destination: DestinationId, error: &io::Error) {
        let Some(viewer) = self.viewers.get(destination.0 as usize) else { return };
        // Not the session's id: whoever knows it controls the session.
        tracing::debug!(shard = self.index, viewer = destination.0, %error, "a send failed");
        let (id, stream_slot) = (viewer.viewer, viewer.stream_slot);
        if let Some(slot) = self.streams.get_mut(stream_slot) {
            slot.stream.block(id);
        }
    }

    fn on_unreachable(&mut self, now: Instant, address: SocketAddr) {
        if let Some(&index) = self.destinations.get(&address) {
            self.tell_session(now, index, |session| session.handle_unreachable(now, address));
        }
    }

    // Time.

    fn on_timer(&mut self, now: Instant, key: TimerKey) {
        match key {
            TimerKey::Source(index) => {
                if let Some(slot) = self.streams.get_mut(index) {
                    slot.camera.source.handle_timeout(now);
                    self.run_source(now, index);
                }
            }
            TimerKey::Stream(index) => {
                if let Some(slot) = self.streams.get_mut(index) {
                    slot.stream.handle_timeout(now);
                    self.touch(index);
                }
            }
            TimerKey::Viewer(index)
                if self.viewers.get(index).is_some_and(|viewer| viewer.ended.is_some()) =>
            {
                self.free_viewer(index);
            }
            TimerKey::Viewer(index) => self.tell_session(now, index, |session| session.handle_timeout(now)),
            TimerKey::Gate => self.gate = Gate::Closed,
        }
    }

    /// Lets the ring wake us for the first timer, unless it will already.
    fn arm_ring(&mut self, now: Instant) {
        let again = (!self.unsent_events.is_empty()).then(|| now + EVENTS_AGAIN);
        let Some(next) = self.timers.next().into_iter().chain(again).min() else { return };
        if self.ring_timers.peek().is_none_or(|armed| next < armed.0) {
            self.ring_timers.push(Reverse(next));
            self.ring.start_timer(next.saturating_duration_since(now));
        }
    }

    // The control plane.

    fn send_events(&mut self) {
        while let Some(event) = self.unsent_events.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    // Taken up again at the next turn; bounded by what the control plane itself started.
                    self.unsent_events.push_front(event);
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        }
    }

    fn statistics(&self) -> ShardStatistics {
        let ring = self.ring.statistics();
        ShardStatistics {
            shard: self.index,
            turns: self.turns,
            submissions: ring.submissions,
            sends: ring.sends,
            send_errors: ring.send_errors,
            datagrams_dropped: self.datagrams_dropped + ring.oversize_datagrams,
            cpu_us: thread_cpu_us(),
            gso: self.ring.segmentation() == Segmentation::Kernel,
            streams: self.streams.iter().map(|(_, slot)| (slot.id, slot.statistics())).collect(),
        }
    }

    fn start_draining(&mut self, now: Instant) {
        if self.gate != Gate::Open {
            return;
        }
        self.gate = Gate::Draining(now + DRAIN);
        self.timers.set(TimerKey::Gate, &mut self.gate_timer, Some(now + DRAIN));
        for index in self.streams.iter().map(|(index, _)| index).collect::<Vec<_>>() {
            self.end_viewers(now, index, "the server is shutting down");
            self.streams[index].camera.source.stop(now);
            self.run_source(now, index);
        }
    }

    fn check_gate(&mut self, now: Instant) {
        if let Gate::Draining(until) = self.gate
            && (now >= until || (self.streams.is_empty() && self.viewers.is_empty()))
        {
            self.gate = Gate::Closed;
        }
    }

    /// A number that no other stream of this process was given, and that nobody outside can guess.
    fn seed(&mut self) -> u64 {
        self.seeds += 1;
        self.hasher.hash_one(self.seeds)
    }
}

impl StreamSlot {
    fn statistics(&self) -> StreamStatistics {
        let (source, made) = (self.camera.source.statistics(), self.stream.counters());
        StreamStatistics {
            packets_received: source.packets,
            packets_lost: source.lost,
            packets_dropped: source.dropped + self.stream.depacketizer_statistics().malformed_packets,
            bytes_received: self.camera.bytes_received(),
            access_units: made.access_units,
            packets_packetized: made.packets,
            packets_sent: self.packets_sent,
            bytes_sent: self.bytes_sent,
            packets_skipped: self.packets_skipped + self.stream.skipped_packets(),
            reconnects: self.camera.connects().saturating_sub(1),
            viewers: self.viewers.len() as u64,
            gop_cache_bytes: self.stream.gop_cache_bytes() as u64,
        }
    }
}

fn active_source(slot: &StreamSlot) -> Option<ActiveSource> {
    let input: &Input = slot.config.source.inputs.get(slot.status.active_input?)?;
    Some(ActiveSource { label: input.label.clone(), url: input.url.to_string(), priority: input.priority })
}

fn close_text(reason: &lanecast_protocol::wsc::CloseReason) -> String {
    match reason {
        lanecast_protocol::wsc::CloseReason::PingTimeout => "no ping for 5 s".to_owned(),
        lanecast_protocol::wsc::CloseReason::Ended(reason) => reason.clone(),
    }
}
