//! One stream, live: packets of the camera in, runs to viewers out.
//!
//! Depacketizer → access unit → timeline → packetizer → GOP cache → fan-out. Two lanes of a source may give pictures, and
//! the slate; one of them is on air, and another takes over with a random access point. The source and the sessions are
//! not here: the shard brings the one's packets and takes the other's runs.

mod ingest;
mod slate;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use lanecast_packet::WriterConfig;
use lanecast_protocol::codec::{Codec, Depacketized, DepacketizerStatistics, Nal, NalClass, ParameterSets};
use lanecast_protocol::rtp::Ordered;

use crate::access_unit::AccessUnit;
use crate::fanout::{Egress, Fanout, Position, Transmit, ViewerId};
use crate::gop::GopCache;
use crate::packetizer::Packetizer;
use crate::source::Lane;
use crate::timeline::Timeline;

use self::ingest::{Ingest, UnitState};
pub use self::slate::Slate;
use self::slate::SlateLoop;

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
    /// Access units of the slate.
    pub slate_access_units: u64,
}

/// Whose pictures viewers get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnAir {
    /// None yet, or those of a lane that has begun anew.
    Nobody,
    /// A lane's.
    Lane(Lane),
    /// The slate's.
    Slate,
}

/// Parameter sets for viewers' descriptions.
#[derive(Clone, Debug)]
pub struct Description {
    /// Complete.
    pub parameter_sets: Rc<ParameterSets>,
    /// Of the slate, not of a camera.
    pub is_slate: bool,
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    ssrc: u32,
    ingests: [Ingest; 2],
    /// Whose pictures are wanted.
    preferred: Lane,
    on_air: OnAir,
    /// A lane took over, and nobody has asked yet.
    taken_over: Option<Lane>,
    slate: Option<SlateLoop>,
    /// Of what viewers get.
    codec: Codec,
    published: Option<Description>,
    news: bool,
    timeline: Timeline,
    packetizer: Packetizer,
    flush_at: Option<Instant>,
    /// When the last picture of a camera came.
    last_picture: Option<Instant>,
    /// Newest timestamp of the pictures that WebRTC viewers get.
    newest_90k: Option<u32>,
    cache: GopCache,
    fanout: Fanout,
    counters: StreamCounters,
    /// Somebody takes whole access units.
    recording: bool,
    recorded: Recorded,
}

/// What goes to the recorder. The driver takes it after every packet, so no more waits than one packet can end.
#[derive(Debug, Default)]
struct Recorded {
    open: Option<AccessUnit>,
    whole: VecDeque<AccessUnit>,
    /// The clock rate in Hz of the lane that the next one is the first of.
    restart: Option<u32>,
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
            ingests: [Ingest::default(), Ingest::default()],
            preferred: Lane::A,
            on_air: OnAir::Nobody,
            taken_over: None,
            slate: None,
            codec: Codec::H264,
            published: None,
            news: false,
            timeline: Timeline::new((seed >> 16) as u32 & 0x7fff_ffff),
            packetizer: Packetizer::new(Codec::H264, settings.max_udp_payload, config),
            flush_at: None,
            last_picture: None,
            newest_90k: None,
            cache: GopCache::new(settings.gop_cache_bytes),
            fanout: Fanout::default(),
            counters: StreamCounters::default(),
            recording: false,
            recorded: Recorded::default(),
        }
    }

    /// Whether whole access units are given out by [`Stream::poll_access_unit`], from the next one on.
    pub fn set_recording(&mut self, recording: bool) {
        self.recording = recording;
        self.recorded = Recorded::default();
        if let OnAir::Lane(lane) = self.on_air {
            self.recorded.restart = Some(self.ingests[lane.index()].clock_rate_hz);
        }
    }

    /// The next access unit for the recorder, until `None`; after every packet while recording.
    pub fn poll_access_unit(&mut self) -> Option<AccessUnit> {
        self.recorded.whole.pop_front()
    }

    /// A lane plays: all that comes of it now is of this kind.
    pub fn handle_playing(
        &mut self,
        lane: Lane,
        codec: Codec,
        clock_rate_hz: u32,
        parameter_sets: ParameterSets,
    ) {
        self.finish_unit(lane);
        if self.on_air == OnAir::Lane(lane) {
            self.on_air = OnAir::Nobody;
        }
        self.ingests[lane.index()].restart(codec, clock_rate_hz, parameter_sets);
        // Viewers may prepare themselves before the first picture is here, unless they are shown something else.
        let early = self.published.is_none() || (self.on_air == OnAir::Nobody && codec == self.codec);
        if early && lane == self.preferred {
            self.set_codec(codec);
            self.publish(lane);
        }
    }

    /// The pictures of this lane are wanted, from its next random access point on.
    pub fn prefer(&mut self, lane: Lane) {
        self.preferred = lane;
    }

    /// The lane whose pictures viewers get.
    pub fn on_air(&self) -> Option<Lane> {
        match self.on_air {
            OnAir::Lane(lane) => Some(lane),
            OnAir::Nobody | OnAir::Slate => None,
        }
    }

    /// The lane that has taken over, once each time.
    pub fn poll_on_air(&mut self) -> Option<Lane> {
        self.taken_over.take()
    }

    /// When the last picture of a camera came.
    pub fn last_picture(&self) -> Option<Instant> {
        self.last_picture
    }

    /// The next packet of a lane.
    pub fn handle_packet(&mut self, now: Instant, lane: Lane, packet: Ordered) {
        let Some(depacketizer) = &mut self.ingests[lane.index()].depacketizer else { return };
        depacketizer.handle_packet(packet);
        while let Some(output) = self.ingests[lane.index()].poll_depacketized() {
            match output {
                Depacketized::Nal { rtp_timestamp, nal } => self.on_nal(now, lane, rtp_timestamp, nal),
                Depacketized::AccessUnitEnd { damaged, .. } => {
                    self.counters.damaged_access_units += u64::from(damaged);
                    if self.on_air == OnAir::Lane(lane)
                        && let Some(open) = &mut self.recorded.open
                    {
                        open.damaged = damaged;
                    }
                    self.finish_unit(lane);
                }
            }
        }
    }

    /// The next picture of a lane that a worker reads: its NAL units in order.
    pub fn handle_unit(
        &mut self,
        now: Instant,
        lane: Lane,
        timestamp: u32,
        nals: impl IntoIterator<Item = Nal>,
    ) {
        for nal in nals {
            self.on_nal(now, lane, timestamp, nal);
        }
        self.finish_unit(lane);
    }

    /// Viewers get this in a loop, from now on until a lane has a random access point. Another slate takes the place of
    /// the first.
    pub fn show_slate(&mut self, now: Instant, slate: Rc<Slate>) {
        if let OnAir::Lane(lane) = self.on_air {
            self.cut_unit(lane);
        }
        self.on_air = OnAir::Slate;
        self.set_codec(slate.codec);
        self.timeline.restart(crate::timeline::CLOCK_RATE_HZ);
        let description = Description { parameter_sets: slate.parameter_sets.clone(), is_slate: true };
        self.news |=
            self.published.as_ref().is_none_or(|old| old.parameter_sets != description.parameter_sets);
        self.published = Some(description);
        self.slate = Some(SlateLoop::new(now, slate));
        self.play_slate(now);
    }

    /// Nobody watches, and the source rests: who comes next gets nothing of what was, neither its pictures nor the slate.
    pub fn rest(&mut self) {
        if let OnAir::Lane(lane) = self.on_air {
            self.cut_unit(lane);
        }
        self.on_air = OnAir::Nobody;
        self.slate = None;
        self.cache.clear();
    }

    /// Whether viewers get the slate.
    pub fn is_slate(&self) -> bool {
        self.on_air == OnAir::Slate
    }

    /// Time passed: packets that wait for their access unit's end go out.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.flush_at.is_some_and(|at| now >= at) {
            self.flush_at = None;
            self.packetizer.flush();
            self.cache_runs();
        }
        self.play_slate(now);
    }

    /// When to call [`Stream::handle_timeout`] and [`Stream::transmit`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let pacing = self.fanout.poll_timeout(&self.cache);
        let slate = self.slate.as_ref().map(SlateLoop::due);
        [self.flush_at, pacing, slate].into_iter().flatten().min()
    }

    /// New parameter sets for all viewers' descriptions, once per change.
    pub fn poll_description(&mut self) -> Option<Description> {
        std::mem::take(&mut self.news).then(|| self.published.clone()).flatten()
    }

    /// The newest complete parameter sets.
    pub fn parameter_sets(&self) -> Option<&Rc<ParameterSets>> {
        self.published.as_ref().map(|description| &description.parameter_sets)
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
        sum(self.ingests[0].statistics(), self.ingests[1].statistics())
    }

    /// Packets that viewers did not get because they could not take them or waited for a picture to start with.
    pub fn skipped_packets(&self) -> u64 {
        self.fanout.skipped_packets()
    }

    /// Bytes in the GOP cache.
    pub fn gop_cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    fn on_nal(&mut self, now: Instant, lane: Lane, rtp_timestamp: u32, nal: Nal) {
        let ingest = &mut self.ingests[lane.index()];
        match nal.class(ingest.codec) {
            NalClass::ParameterSet => ingest.handle_parameter_set(&nal),
            NalClass::Other if is_padding(ingest.codec, &nal) => {}
            NalClass::Other if ingest.unit == UnitState::Prefix => ingest.push_prefix(nal),
            class => {
                if ingest.unit == UnitState::Prefix {
                    let disposable = nal.is_disposable(ingest.codec);
                    let random_access = class == NalClass::RandomAccess;
                    self.start_unit(now, lane, rtp_timestamp, random_access, disposable);
                }
                if self.ingests[lane.index()].unit == UnitState::Sending {
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
    fn start_unit(
        &mut self,
        now: Instant,
        lane: Lane,
        rtp_timestamp: u32,
        random_access: bool,
        disposable: bool,
    ) {
        if self.on_air != OnAir::Lane(lane) {
            let ingest = &mut self.ingests[lane.index()];
            if !(random_access && lane == self.preferred && ingest.parameter_sets.is_complete()) {
                ingest.unit = UnitState::Skipped;
                return;
            }
            self.take_over(lane);
        }
        let ingest = &mut self.ingests[lane.index()];
        ingest.unit = UnitState::Sending;
        let new_sets = ingest.parameter_sets_changed;
        self.last_picture = Some(now);
        if new_sets || random_access {
            self.publish(lane);
        }
        let timestamp = self.timeline.map(now, rtp_timestamp);
        match self.is_out_of_order(timestamp, random_access, disposable) {
            true => self.packetizer.begin_out_of_order(timestamp),
            false => self.packetizer.begin_access_unit(timestamp, random_access),
        }
        if random_access || new_sets {
            self.packetizer.parameter_sets(|| self.ingests[lane.index()].parameter_sets.iter());
        }
        self.begin_recorded(now, rtp_timestamp, timestamp, random_access);
        for nal in self.ingests[lane.index()].prefix.drain(..) {
            self.packetizer.nal(&nal);
            if let Some(open) = &mut self.recorded.open {
                open.nals.push(nal);
            }
        }
        self.flush_at = Some(now + FLUSH_AFTER);
    }

    /// What viewers get is this lane's from here on.
    fn take_over(&mut self, lane: Lane) {
        if let OnAir::Lane(other) = self.on_air {
            self.cut_unit(other);
        }
        self.slate = None;
        self.on_air = OnAir::Lane(lane);
        self.taken_over = Some(lane);
        let ingest = &self.ingests[lane.index()];
        let (codec, clock_rate_hz) = (ingest.codec, ingest.clock_rate_hz);
        self.set_codec(codec);
        self.timeline.restart(clock_rate_hz);
        self.recorded.restart = Some(clock_rate_hz);
    }

    fn set_codec(&mut self, codec: Codec) {
        if codec != self.codec {
            self.cache.clear();
            self.packetizer.set_codec(codec);
            self.codec = codec;
        }
    }

    fn begin_recorded(
        &mut self,
        now: Instant,
        camera_timestamp: u32,
        timestamp_90k: u32,
        random_access: bool,
    ) {
        let Some(published) = self.published.as_ref().filter(|_| self.recording) else { return };
        self.recorded.open = Some(AccessUnit {
            arrived: now,
            camera_timestamp,
            timestamp_90k,
            random_access,
            damaged: false,
            new_clock_rate_hz: self.recorded.restart.take(),
            parameter_sets: published.parameter_sets.clone(),
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

    /// What a lane has begun and will not end.
    fn cut_unit(&mut self, lane: Lane) {
        if let Some(open) = &mut self.recorded.open {
            open.damaged = true;
        }
        self.finish_unit(lane);
    }

    fn finish_unit(&mut self, lane: Lane) {
        let ingest = &mut self.ingests[lane.index()];
        match ingest.unit {
            UnitState::Prefix => return,
            UnitState::Skipped => self.counters.unstarted_access_units += 1,
            UnitState::Sending => {
                self.packetizer.end_access_unit();
                self.cache_runs();
                self.counters.access_units += 1;
                self.recorded.whole.extend(self.recorded.open.take());
                self.flush_at = None;
            }
        }
        self.ingests[lane.index()].begin_unit();
    }

    /// Sends the pictures of the slate that are due.
    fn play_slate(&mut self, now: Instant) {
        let idle = self.fanout.is_empty();
        let Some(picture) = self.slate.as_mut().and_then(|slate| slate.next(now, idle)) else { return };
        let timestamp = self.timeline.map(now, picture.timestamp_90k);
        self.newest_90k = Some(timestamp);
        self.packetizer.begin_access_unit(timestamp, picture.random_access);
        if picture.random_access {
            self.packetizer.parameter_sets(|| picture.slate.parameter_sets.iter());
        }
        for nal in picture.nals() {
            self.packetizer.nal(nal);
        }
        self.packetizer.end_access_unit();
        self.cache_runs();
        self.counters.slate_access_units += 1;
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

    fn publish(&mut self, lane: Lane) {
        let sets = &self.ingests[lane.index()].parameter_sets;
        let known = self.published.as_ref();
        if sets.is_complete() && known.is_none_or(|old| old.is_slate || *old.parameter_sets != *sets) {
            self.published = Some(Description { parameter_sets: Rc::new(sets.clone()), is_slate: false });
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
