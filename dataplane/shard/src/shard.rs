//! Everything that lives on one core: streams, viewers, their sockets and timers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod egress;
mod inputs;
mod journal;
mod playback;
mod recording;
mod slate;
mod streams;
mod viewers;
mod webrtc;
mod wsc;

use bytes::{Bytes, BytesMut};
use lanecast_dvr::recorder::RecorderStatistics;
use lanecast_net::{Completion, DestinationId, Ring, Segmentation, thread_cpu_us};
use lanecast_protocol::rtcp::SenderReport;
use lanecast_protocol::wsc::{ActiveSource, parse_punch};
use lanecast_relay::fanout::ViewerId;
use lanecast_relay::source::{Input, Lane};
use lanecast_relay::stream::Stream;
use lanecast_transcode::input::Inputs;
use lanecast_transcode::slate::SlateWorker;
use lanecast_webrtc::dtls::Certificate;
use slab::Slab;
use tokio::sync::mpsc;

use self::inputs::Demand;
use self::journal::Journal;
use self::playback::Locating;
use self::slate::Outage;
use self::webrtc::{Handshake, StunClient};
use crate::command::{SessionId, StreamConfig, StreamId};
use crate::data_plane::ShardHandle;
use crate::drive::camera::Camera;
use crate::drive::ice_tcp::IceTcp;
use crate::drive::recording::Recording;
use crate::drive::scratch::Scratch;
use crate::drive::viewer::{Kind, Viewer};
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
    certificate: Arc<Certificate>,
    /// Username fragments of WebRTC viewers.
    fragments: HashMap<String, usize>,
    connections: Slab<IceTcp>,
    /// WebRTC viewers that are not connected yet.
    connecting: usize,
    handshakes: VecDeque<Handshake>,
    stun: StunClient,
    scratch: Scratch,
    touched: Vec<usize>,
    timers: Timers,
    ring_timers: BinaryHeap<Reverse<Instant>>,
    /// Emptied after every use; here so that they are allocated once.
    blocked: Vec<DestinationId>,
    stuck: Vec<ViewerId>,
    written: Vec<usize>,
    /// Viewers that leave live as soon as they have a whole picture.
    leaving: Vec<usize>,
    /// For workers, who answer by commands.
    own: ShardHandle,
    inputs: Inputs,
    slates: SlateWorker,
    questions: u64,
    started: Instant,
    gate: Gate,
    gate_timer: Armed,
    hasher: RandomState,
    seeds: u64,
    viewer_epoch: u32,
    recording_epoch: u32,
    playback_serial: u32,
    playback_memory: Option<BytesMut>,
    locating: HashMap<u64, Locating>,
    locate_requests: u64,
    turns: u64,
    datagrams_dropped: u64,
    last_drop_log: Option<Instant>,
}

/// Who does for a shard what would block it.
pub(crate) struct Workers {
    pub(crate) own: ShardHandle,
    pub(crate) inputs: Inputs,
    pub(crate) slates: SlateWorker,
}

/// A stream and its camera.
struct StreamSlot {
    id: StreamId,
    config: StreamConfig,
    camera: Camera,
    stream: Stream,
    status: StreamStatus,
    announced: Option<StreamStatus>,
    journal: Journal,
    viewers: Vec<usize>,
    touched: bool,
    removed: bool,
    /// The camera's dialogue is over for good; the slot lives until its recording is closed.
    stopped: bool,
    recording: Option<Box<Recording>>,
    /// Counters of recorders that are over.
    recorded: RecorderStatistics,
    source_timer: Armed,
    stream_timer: Armed,
    /// Of each lane, the question for a name that it waits for.
    questions: [u64; 2],
    /// The newest sender report of each lane: a recorder that begins with a lane's first picture may come after it.
    reports: [Option<SenderReport>; 2],
    demand: Demand,
    outage: Outage,
    slate_timer: Armed,
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
        certificate: Arc<Certificate>,
        workers: Workers,
    ) -> Self {
        Self {
            own: workers.own,
            inputs: workers.inputs,
            slates: workers.slates,
            questions: 0,
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
            certificate,
            fragments: HashMap::new(),
            connections: Slab::new(),
            connecting: 0,
            handshakes: VecDeque::new(),
            stun: StunClient::default(),
            scratch: Scratch::default(),
            touched: Vec::new(),
            timers: Timers::default(),
            ring_timers: BinaryHeap::new(),
            blocked: Vec::new(),
            stuck: Vec::new(),
            written: Vec::new(),
            leaving: Vec::new(),
            started: Instant::now(),
            gate: Gate::Open,
            gate_timer: Armed::default(),
            hasher: RandomState::new(),
            seeds: 0,
            viewer_epoch: 0,
            recording_epoch: 0,
            playback_serial: 0,
            playback_memory: None,
            locating: HashMap::new(),
            locate_requests: 0,
            turns: 0,
            datagrams_dropped: 0,
            last_drop_log: None,
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.gate == Gate::Closed
    }

    pub(crate) fn prepare_sleep(&mut self) -> bool {
        // A handshake that ended behind the sends of this turn has made a viewer that waits for its first packet.
        self.touched.is_empty() && !self.has_handshakes() && self.ring.prepare_sleep()
    }

    pub(crate) fn awake(&mut self) {
        self.ring.awake();
    }

    /// One turn: completions, timers, sends. [`Shard::submit`] ends it.
    pub(crate) fn turn(&mut self, now: Instant) {
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
    }

    /// Hands to the kernel what the turn has queued.
    pub(crate) fn submit(&mut self, now: Instant) -> io::Result<()> {
        self.arm_ring(now);
        self.ring.submit()
    }

    pub(crate) fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::AddStream { stream, config } => self.add_stream(now, stream, *config),
            Command::UpdateStream { stream, config } => self.update_stream(now, stream, *config),
            Command::RemoveStream { stream } => self.remove_stream(now, stream),
            Command::AttachWebSocket(attach) => self.attach_websocket(now, *attach),
            Command::AttachWebRtc { attach, reply } => {
                // Who asked may have gone; then nobody wants the answer.
                let _ = reply.send(self.attach_webrtc(now, *attach));
            }
            Command::AttachIceTcp(attach) => self.attach_ice_tcp(now, *attach),
            Command::RestartIce { session, local, remote, reply } => {
                // As above.
                let _ = reply.send(self.restart_ice(now, session, local, remote));
            }
            Command::AddCandidates { session, candidates } => self.add_candidates(session, &candidates),
            Command::UseStunServer { address } => self.use_stun_server(now, address),
            Command::ReadSession { session, reply } => {
                // As above.
                let _ = reply.send(self.read_session(session));
            }
            Command::EndSession { session, reason, reply } => {
                let ended = self.end_session(now, session, reason);
                // As above.
                let _ = reply.send(ended);
            }
            Command::ReadMode { session, reply } => {
                // As above.
                let _ = reply.send(self.read_mode(now, session));
            }
            Command::Seek { session, unix_ms, reply } => self.seek(now, session, unix_ms, reply),
            Command::GoLive { session, reply } => {
                let mode = self.go_live(now, session);
                // As above.
                let _ = reply.send(mode);
            }
            Command::SetSpeed { session, speed, reply } => {
                let mode = self.set_speed(now, session, speed);
                // As above.
                let _ = reply.send(mode);
            }
            Command::SegmentOpened { stream, ticket, result } => {
                self.on_segment_opened(now, stream, ticket, result);
            }
            Command::SegmentLost { stream, segment } => self.on_segment_lost(now, stream, segment),
            Command::Located { request, result } => self.on_located(now, request, result),
            Command::Resolved { stream, question, addresses } => {
                self.with_stream(now, stream, |slot| {
                    if let Some(lane) = slot.asks(question) {
                        slot.camera.source.handle_resolved(now, lane, addresses);
                    }
                });
            }
            Command::Demand { stream } => self.demand(now, stream),
            Command::Input { stream, lane, epoch, event } => {
                self.on_foreign(now, stream, lane, epoch, *event)
            }
            Command::SlateMade { stream, question, result } => {
                self.on_slate_made(now, stream, question, result)
            }
            Command::ReadStatistics { reply } => {
                // As above.
                let _ = reply.send(self.statistics());
            }
            Command::Shutdown => self.start_draining(now),
        }
    }

    fn on_completion(&mut self, now: Instant, completion: Completion) {
        match completion {
            Completion::Received { token, buffer, result } => {
                self.on_received(now, Token::unpack(token), buffer, result)
            }
            Completion::Written { token, result } => self.on_written(Token::unpack(token), result),
            Completion::Connected { token, result } => {
                let token = Token::unpack(token);
                if let Some((index, lane)) = self.camera(token) {
                    let Self { ring, streams, .. } = self;
                    streams[index].camera.on_connected(now, ring, lane, result);
                    self.run_source(now, index);
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
            Completion::FileRead { token, buffer, result } => {
                self.on_file_read(now, Token::unpack(token), buffer, result);
            }
            Completion::FileWritten { token, result } => {
                self.on_file_written(now, Token::unpack(token), result);
            }
            Completion::FileSynced { token, result } => {
                self.on_file_synced(now, Token::unpack(token), result);
            }
            Completion::Timer => {
                self.ring_timers.pop();
            }
        }
    }

    /// The stream slot and the lane of a camera's completion, unless its connection is another by now.
    fn camera(&self, token: Token) -> Option<(usize, Lane)> {
        let lane = self.streams.get(token.slot)?.camera.lane_of(token.epoch)?;
        Some((token.slot, lane))
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
        if token.owner == Owner::IceTcp {
            let alive = matches!(result, Ok(received) if received > 0);
            return self.on_ice_tcp_received(now, token, buffer, alive);
        }
        let Some((index, lane)) = self.camera(token) else { return };
        let alive = matches!(result, Ok(received) if received > 0);
        self.streams[index].camera.on_received(now, lane, buffer, result);
        self.run_source(now, index);
        if alive && self.camera(token).is_some() {
            let Self { ring, streams, .. } = self;
            streams[index].camera.receive_on(ring, lane);
        }
    }

    fn on_written(&mut self, token: Token, result: io::Result<usize>) {
        if token.owner == Owner::IceTcp {
            return self.on_ice_tcp_written(token, result.ok());
        }
        if token.owner == Owner::WebSocket {
            let mine = self.viewers.get_mut(token.slot).filter(|viewer| viewer.epoch == token.epoch);
            let Some(viewer) = mine else { return };
            match result {
                Ok(written) => {
                    if let Some(wsc) = viewer.wsc() {
                        wsc.websocket.on_written(written);
                    }
                    self.write_websocket(token.slot);
                }
                Err(error) => {
                    viewer.ended.get_or_insert_with(|| format!("the client's connection broke: {error}"));
                    self.free_viewer(token.slot);
                }
            }
        } else if let Some((index, lane)) = self.camera(token) {
            let Self { ring, streams, .. } = self;
            streams[index].camera.on_written(ring, lane, result);
        }
    }

    fn on_datagram(&mut self, now: Instant, token: Token, from: SocketAddr, bytes: Bytes) {
        if token.owner != Owner::Udp {
            if let Some((index, lane)) = self.camera(token) {
                self.streams[index].camera.on_datagram(now, lane, token.owner, from, bytes);
                self.run_source(now, index);
            }
            return;
        }
        // ASCII: a punch of WSC-RTP; all that WebRTC sends begins otherwise (RFC 7983).
        if bytes.first().is_some_and(|first| matches!(first, 0..=63 | 128..)) {
            if !self.on_webrtc_datagram(now, from, &bytes) {
                self.drop_datagram(now, from);
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

    /// Nothing is ever sent in answer to what is of no session.
    fn drop_datagram(&mut self, now: Instant, from: SocketAddr) {
        self.datagrams_dropped += 1;
        if self.last_drop_log.is_none_or(|last| now >= last + Duration::from_secs(1)) {
            self.last_drop_log = Some(now);
            tracing::debug!(shard = self.index, %from, dropped = self.datagrams_dropped, "datagram dropped: of no session");
        }
    }

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
            TimerKey::Viewer(index) => match self.viewers.get(index) {
                Some(viewer) if viewer.ended.is_some() => self.free_viewer(index),
                Some(Viewer { kind: Kind::Wsc(_), .. }) => {
                    self.tell_session(now, index, |session| session.handle_timeout(now));
                }
                Some(Viewer { kind: Kind::WebRtc(_), .. }) => {
                    self.tell_peer(now, index, |peer| peer.handle_timeout(now, webrtc::ntp()));
                }
                None => {}
            },
            TimerKey::Slate(index) => self.on_slate_timer(now, index),
            TimerKey::Recording(index) => self.on_recording_timer(now, index),
            TimerKey::Playback(index) => self.on_playback_timer(now, index),
            TimerKey::Stun => self.ask_stun_server(now),
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
            ring_operations: self.ring.operations_under_way() as u64,
            timers: self.timers.len() as u64,
            cpu_us: thread_cpu_us(),
            gso: self.ring.segmentation() == Segmentation::Kernel,
            streams: self.streams.iter().map(|(_, slot)| (slot.id, self.stream_statistics(slot))).collect(),
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
            if self.streams.contains(index) {
                self.set_recording(now, index);
            }
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

impl Shard {
    fn stream_statistics(&self, slot: &StreamSlot) -> StreamStatistics {
        let in_the_past =
            |&&viewer: &&usize| self.viewers.get(viewer).is_some_and(|one| one.playing.is_some());
        let (source, made) = (slot.camera.source.statistics(), slot.stream.counters());
        StreamStatistics {
            packets_received: source.packets,
            packets_lost: source.lost,
            packets_dropped: source.dropped + slot.stream.depacketizer_statistics().malformed_packets,
            bytes_received: slot.camera.bytes_received(),
            access_units: made.access_units,
            packets_packetized: made.packets,
            packets_sent: slot.packets_sent,
            bytes_sent: slot.bytes_sent,
            packets_skipped: slot.packets_skipped + slot.stream.skipped_packets(),
            reconnects: slot.camera.connects().saturating_sub(1),
            failovers: slot.camera.source.failovers(),
            slate_access_units: made.slate_access_units,
            on_demand_start_ms: slot.demand.start_ms,
            viewers: slot.viewers.len() as u64,
            gop_cache_bytes: slot.stream.gop_cache_bytes() as u64,
            dvr_viewers: slot.viewers.iter().filter(in_the_past).count() as u64,
            recorder: recording::recorder_statistics(slot),
        }
    }
}

fn active_source(slot: &StreamSlot) -> Option<ActiveSource> {
    let input: &Input = slot.config.source.inputs.get(slot.status.active_input?)?;
    Some(ActiveSource { label: input.label.clone(), url: input.url.to_string(), priority: input.priority })
}
