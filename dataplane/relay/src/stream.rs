//! One stream, live: packets of the camera in, runs to viewers out.
//!
//! Depacketizer → access unit → timeline → packetizer → GOP cache → fan-out. The source and the sessions are not
//! here: the shard brings the one's packets and takes the other's runs.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use lanecast_packet::WriterConfig;
use lanecast_protocol::codec::{
    Codec, Depacketized, Depacketizer, DepacketizerStatistics, Nal, NalClass, ParameterSets,
};
use lanecast_protocol::rtp::Ordered;

use crate::access_unit::AccessUnit;
use crate::fanout::{Egress, Fanout, Position, Transmit, ViewerId};
use crate::gop::GopCache;
use crate::packetizer::Packetizer;
use crate::timeline::Timeline;

/// Packets of an unfinished access unit leave after this.
const FLUSH_AFTER: Duration = Duration::from_millis(2);
/// NAL units held back until the first slice of a picture: SEI messages, a handful in practice.
const MAX_PREFIX_NALS: usize = 32;
/// RTP payload type of all that we send (wire contract section 5).
const PAYLOAD_TYPE: u8 = 96;

/// Settings of a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamSettings {
    /// Largest UDP payload in bytes, RTP header included.
    pub max_udp_payload: u16,
    /// Bound of the GOP cache in bytes.
    pub gop_cache_bytes: usize,
    /// Feeds SSRC and the first sequence number and timestamp.
    pub seed: u64,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounters {
    /// Access units packetized.
    pub access_units: u64,
    /// Access units of which the camera's network lost a part.
    pub damaged_access_units: u64,
    /// Access units that came before the first random access point.
    pub unstarted_access_units: u64,
    /// Packets made.
    pub packets: u64,
    /// Access units that are shown before one sent earlier: WebRTC viewers go without.
    pub out_of_order_access_units: u64,
    /// Those of them that others refer to: their place is concealed.
    pub out_of_order_references: u64,
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    ssrc: u32,
    depacketizer: Option<Depacketizer>,
    codec: Codec,
    incoming: ParameterSets,
    published: Option<Rc<ParameterSets>>,
    news: bool,
    timeline: Timeline,
    packetizer: Packetizer,
    unit: Unit,
    started: bool,
    flush_at: Option<Instant>,
    /// Newest timestamp of the pictures that WebRTC viewers get.
    newest_90k: Option<u32>,
    cache: GopCache,
    fanout: Fanout,
    counters: StreamCounters,
    depacketized: DepacketizerStatistics,
    /// Somebody takes whole access units.
    recording: bool,
    recorded: Recorded,
}

/// What goes to the recorder. The driver takes it after every packet, so no more waits than one packet can end.
#[derive(Debug, Default)]
struct Recorded {
    open: Option<AccessUnit>,
    whole: VecDeque<AccessUnit>,
}

/// The access unit that is coming in.
#[derive(Debug, Default)]
struct Unit {
    state: UnitState,
    prefix: Vec<Nal>,
    parameter_sets_changed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum UnitState {
    /// No slice of a picture yet.
    #[default]
    Prefix,
    /// Its slices go to viewers.
    Sending,
    /// It came before the first random access point.
    Skipped,
}

impl Stream {
    /// Nothing known of the camera yet.
    pub fn new(settings: StreamSettings) -> Self {
        let seed = settings.seed;
        let config = WriterConfig {
            ssrc: (seed >> 32) as u32 | 1,
            payload_type: PAYLOAD_TYPE,
            first_packet: seed & 0x7fff,
        };
        Self {
            ssrc: config.ssrc,
            depacketizer: None,
            codec: Codec::H264,
            incoming: ParameterSets::new(Codec::H264),
            published: None,
            news: false,
            timeline: Timeline::new((seed >> 16) as u32 & 0x7fff_ffff),
            packetizer: Packetizer::new(Codec::H264, settings.max_udp_payload, config),
            unit: Unit::default(),
            started: false,
            flush_at: None,
            newest_90k: None,
            cache: GopCache::new(settings.gop_cache_bytes),
            fanout: Fanout::default(),
            counters: StreamCounters::default(),
            depacketized: DepacketizerStatistics::default(),
            recording: false,
            recorded: Recorded::default(),
        }
    }

    /// Whether whole access units are given out by [`Stream::poll_access_unit`], from the next one on.
    pub fn set_recording(&mut self, recording: bool) {
        self.recording = recording;
        if !recording {
            self.recorded = Recorded::default();
        }
    }

    /// The next access unit for the recorder, until `None`; after every packet while recording.
    pub fn poll_access_unit(&mut self) -> Option<AccessUnit> {
        self.recorded.whole.pop_front()
    }

    /// The camera plays: all that comes now is of this kind.
    pub fn handle_playing(&mut self, codec: Codec, clock_rate_hz: u32, parameter_sets: ParameterSets) {
        self.finish_unit();
        if let Some(old) = self.depacketizer.replace(Depacketizer::new(codec)) {
            self.depacketized = sum(self.depacketized, old.statistics());
        }
        if codec != self.codec {
            self.cache.clear();
            self.packetizer.set_codec(codec);
            self.codec = codec;
        }
        self.timeline.restart(clock_rate_hz);
        self.incoming = parameter_sets;
        self.started = false;
        self.unit = Unit::default();
        self.publish();
    }

    /// The next packet of the camera.
    pub fn handle_packet(&mut self, now: Instant, packet: Ordered) {
        let Some(depacketizer) = &mut self.depacketizer else { return };
        depacketizer.handle_packet(packet);
        while let Some(output) = self.depacketizer.as_mut().and_then(Depacketizer::poll_output) {
            match output {
                Depacketized::Nal { rtp_timestamp, nal } => self.on_nal(now, rtp_timestamp, nal),
                Depacketized::AccessUnitEnd { damaged, .. } => {
                    self.counters.damaged_access_units += u64::from(damaged);
                    if let Some(open) = &mut self.recorded.open {
                        open.damaged = damaged;
                    }
                    self.finish_unit();
                }
            }
        }
    }

    /// Time passed: packets that wait for their access unit's end go out.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.flush_at.is_some_and(|at| now >= at) {
            self.flush_at = None;
            self.packetizer.flush();
            self.cache_runs();
        }
    }

    /// When to call [`Stream::handle_timeout`] and [`Stream::transmit`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let pacing = self.fanout.poll_timeout(&self.cache);
        [self.flush_at, pacing].into_iter().flatten().min()
    }

    /// New parameter sets for all viewers' descriptions, once per change.
    pub fn poll_parameter_sets(&mut self) -> Option<Rc<ParameterSets>> {
        std::mem::take(&mut self.news).then(|| self.published.clone()).flatten()
    }

    /// The newest complete parameter sets.
    pub fn parameter_sets(&self) -> Option<&Rc<ParameterSets>> {
        self.published.as_ref()
    }

    /// Takes a viewer; see [`Fanout::join`].
    pub fn join(&mut self, viewer: ViewerId, egress: Egress, fresh: bool) {
        self.fanout.join(&self.cache, viewer, egress, fresh);
    }

    /// Where a viewer is in the stream; see [`Fanout::position`].
    pub fn position(&self, viewer: ViewerId) -> Option<Position> {
        self.fanout.position(&self.cache, viewer)
    }

    /// SSRC of all its packets.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Frees a viewer.
    pub fn leave(&mut self, viewer: ViewerId) {
        self.fanout.leave(viewer);
    }

    /// A viewer could not take a run.
    pub fn block(&mut self, viewer: ViewerId) {
        self.fanout.block(viewer);
    }

    /// See [`Fanout::is_within_access_unit`].
    pub fn is_within_access_unit(&self, viewer: ViewerId) -> bool {
        self.fanout.is_within_access_unit(&self.cache, viewer)
    }

    /// See [`Fanout::block_until`].
    pub fn block_until(&mut self, viewer: ViewerId, not_before: Option<Instant>) {
        self.fanout.block_until(viewer, not_before);
    }

    /// See [`Fanout::refresh`].
    pub fn refresh(&mut self, viewer: ViewerId) -> bool {
        self.fanout.refresh(viewer)
    }

    /// See [`Fanout::set_pace`].
    pub fn set_pace(&mut self, viewer: ViewerId, bytes_per_second: u64) {
        self.fanout.set_pace(viewer, bytes_per_second);
    }

    /// A packet to send again, by its number among the packets in order, and its timestamp; `None` if it is not cached.
    pub fn packet_in_order(&self, number: u64) -> Option<(&[u8], u32)> {
        let (run, place) = self.cache.packet_in_order(number)?;
        Some((run.packet(place)?, run.rtp_timestamp()))
    }

    /// Gives `send` all that is due at `now`.
    pub fn transmit(&mut self, now: Instant, send: impl FnMut(Transmit<'_>)) {
        self.fanout.transmit(now, &self.cache, send);
        self.cache.keep_from(self.fanout.live());
    }

    /// Counters.
    pub fn counters(&self) -> StreamCounters {
        self.counters
    }

    /// Counters of all depacketizers so far.
    pub fn depacketizer_statistics(&self) -> DepacketizerStatistics {
        self.depacketizer.as_ref().map_or(self.depacketized, |now| sum(self.depacketized, now.statistics()))
    }

    /// Packets that viewers did not get because they could not take them or waited for a picture to start with.
    pub fn skipped_packets(&self) -> u64 {
        self.fanout.skipped_packets()
    }

    /// Bytes in the GOP cache.
    pub fn gop_cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    fn on_nal(&mut self, now: Instant, rtp_timestamp: u32, nal: Nal) {
        match nal.class(self.codec) {
            NalClass::ParameterSet => self.unit.parameter_sets_changed |= self.incoming.handle_nal(&nal),
            NalClass::Other if is_padding(self.codec, &nal) => {}
            NalClass::Other if self.unit.state == UnitState::Prefix => {
                if self.unit.prefix.len() < MAX_PREFIX_NALS {
                    self.unit.prefix.push(nal);
                }
            }
            class => {
                if self.unit.state == UnitState::Prefix {
                    let disposable = nal.is_disposable(self.codec);
                    self.start_unit(now, rtp_timestamp, class == NalClass::RandomAccess, disposable);
                }
                if self.unit.state == UnitState::Sending {
                    self.packetizer.nal(&nal);
                    if let Some(open) = &mut self.recorded.open {
                        open.nals.push(nal);
                    }
                    self.cache_runs();
                }
            }
        }
    }

    /// The first slice of a picture is here: what stands before it is known.
    fn start_unit(&mut self, now: Instant, rtp_timestamp: u32, random_access: bool, disposable: bool) {
        self.started |= random_access && self.incoming.is_complete();
        if !self.started {
            self.unit.state = UnitState::Skipped;
            return;
        }
        self.unit.state = UnitState::Sending;
        if self.unit.parameter_sets_changed || random_access {
            self.publish();
        }
        let timestamp = self.timeline.map(now, rtp_timestamp);
        match self.is_out_of_order(timestamp, random_access, disposable) {
            true => self.packetizer.begin_out_of_order(timestamp),
            false => self.packetizer.begin_access_unit(timestamp, random_access),
        }
        if random_access || self.unit.parameter_sets_changed {
            self.packetizer.parameter_sets(|| self.incoming.iter());
        }
        self.begin_recorded(now, rtp_timestamp, timestamp, random_access);
        for nal in self.unit.prefix.drain(..) {
            self.packetizer.nal(&nal);
            if let Some(open) = &mut self.recorded.open {
                open.nals.push(nal);
            }
        }
        self.flush_at = Some(now + FLUSH_AFTER);
    }

    fn begin_recorded(
        &mut self,
        now: Instant,
        camera_timestamp: u32,
        timestamp_90k: u32,
        random_access: bool,
    ) {
        let Some(parameter_sets) = self.published.clone().filter(|_| self.recording) else { return };
        self.recorded.open = Some(AccessUnit {
            arrived: now,
            camera_timestamp,
            timestamp_90k,
            random_access,
            damaged: false,
            parameter_sets,
            nals: Vec::new(),
        });
    }

    /// Counts pictures that are shown before one sent earlier; true for those.
    ///
    /// Those that others refer to are left out too: with them Chromium 156 decoded 2 pictures a second of an x264 stream with
    /// a B-pyramid, without them 18, and its concealment left no trace to be seen.
    fn is_out_of_order(&mut self, timestamp_90k: u32, random_access: bool, disposable: bool) -> bool {
        let late = self.newest_90k.is_some_and(|newest| (timestamp_90k.wrapping_sub(newest) as i32) < 0);
        if random_access || !late {
            self.newest_90k = Some(timestamp_90k);
            return false;
        }
        self.counters.out_of_order_access_units += 1;
        self.counters.out_of_order_references += u64::from(!disposable);
        true
    }

    fn finish_unit(&mut self) {
        match self.unit.state {
            UnitState::Prefix => return,
            UnitState::Skipped => self.counters.unstarted_access_units += 1,
            UnitState::Sending => {
                self.packetizer.end_access_unit();
                self.cache_runs();
                self.counters.access_units += 1;
                self.recorded.whole.extend(self.recorded.open.take());
            }
        }
        self.unit.state = UnitState::Prefix;
        self.unit.parameter_sets_changed = false;
        self.unit.prefix.clear();
        self.flush_at = None;
    }

    fn cache_runs(&mut self) {
        while let Some(run) = self.packetizer.poll_run() {
            self.counters.packets += u64::from(run.packets());
            self.cache.push(run);
        }
        while let Some(memory) = self.cache.poll_freed() {
            self.packetizer.recycle(memory);
        }
    }

    fn publish(&mut self) {
        if self.incoming.is_complete() && self.published.as_deref() != Some(&self.incoming) {
            self.published = Some(Rc::new(self.incoming.clone()));
            self.news = true;
        }
    }
}

/// Access unit delimiters and filler: they tell a receiver of RTP nothing.
fn is_padding(codec: Codec, nal: &Nal) -> bool {
    matches!((codec, nal.unit_type(codec)), (Codec::H264, 9 | 12) | (Codec::H265, 35 | 38))
}

fn sum(a: DepacketizerStatistics, b: DepacketizerStatistics) -> DepacketizerStatistics {
    DepacketizerStatistics {
        malformed_packets: a.malformed_packets + b.malformed_packets,
        broken_nals: a.broken_nals + b.broken_nals,
    }
}
