//! Which viewer gets which run: all that are in step share one, the others are numbers into the GOP cache.
//!
//! A viewer is *in step* (same runs, same bytes as everybody), *behind* (catching up from the GOP cache, with
//! squeezed timestamps) or *waiting* for the next random access point (nothing cached, or it could not take more).
//! Nothing is queued per viewer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use lanecast_packet::{Run, Squeeze};

use crate::gop::GopCache;
use crate::squeeze;

/// What one turn of pacing lets out of a stream, to live viewers together and to each that is behind.
///
/// A receiver with the kernel's default socket buffer (208 KiB) holds about 90 packets of 1200 bytes; a full run, which ends a turn, has 54.
const PACE_BYTES: usize = 60 << 10;
/// An access unit of this many bytes leaves at once whatever a viewer's pace: every path has such a queue.
const BURST_BYTES: usize = 64 << 10;
/// How long a turn of pacing lasts: a full run a millisecond is 518 Mb/s, twenty times a 4K camera.
const PACE_INTERVAL: Duration = Duration::from_millis(1);
/// How far live viewers may fall behind the newest run, in 90 kHz ticks (500 ms), before they go on at a newer random
/// access point: a shard that has not the time for all of it gives its viewers the present.
const MAX_LAG_90K: u32 = 45_000;
/// The least that a pace lets out an interval: 8 Mb/s.
const MIN_PACE_BYTES: u32 = 1000;

/// A viewer's number: small and dense, chosen by the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ViewerId(pub u32);

/// How a viewer takes packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// Datagrams: a run is one segmented send.
    Datagrams,
    /// One WebSocket frame a packet.
    WebSocket,
    /// Sealed packets, each viewer's its own; pictures out of order are left out.
    WebRtc,
    /// As [`Egress::Datagrams`], with the viewer's own numbers and times: it was stitched.
    StitchedDatagrams,
    /// As [`Egress::WebSocket`], with the viewer's own numbers and times.
    StitchedWebSocket,
}

/// Every way, by its place in [`Fanout::in_step`].
const EGRESSES: [Egress; 5] = [
    Egress::Datagrams,
    Egress::WebSocket,
    Egress::WebRtc,
    Egress::StitchedDatagrams,
    Egress::StitchedWebSocket,
];

/// Where a viewer is in the stream, when it leaves the shared numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Number of the first packet that it has not been given.
    pub next_packet: u64,
    /// Newest timestamp that it was given, as it was given.
    pub newest_90k: u32,
    /// When the stream last sent.
    pub sent_at: Instant,
}

/// Something to send.
#[derive(Debug)]
pub enum Transmit<'a> {
    /// The same run to all of these.
    Shared {
        /// The run, as in the GOP cache.
        run: &'a Run,
        /// In no particular order.
        viewers: &'a [ViewerId],
        /// How they take it.
        egress: Egress,
    },
    /// A run for one viewer that gets it later than the others.
    Own {
        /// The run, as in the GOP cache.
        run: &'a Run,
        /// The timestamps that this viewer gets.
        squeeze: Squeeze,
        /// Whose.
        viewer: ViewerId,
        /// How it takes it.
        egress: Egress,
    },
}

/// The viewers of one stream.
#[derive(Debug, Default)]
pub struct Fanout {
    /// Those in step, by egress.
    in_step: [Vec<ViewerId>; EGRESSES.len()],
    apart: Vec<Apart>,
    /// Who wants the GOP once more, at the next access unit; each once.
    refreshing: Vec<ViewerId>,
    places: HashMap<ViewerId, Place>,
    /// Number of the next run for those in step.
    live: u64,
    /// Bytes so far of the access unit that live viewers get.
    unit_bytes: usize,
    pace: Pace,
    skipped_packets: u64,
    sent_at: Option<Instant>,
    /// The last turn had more than pacing let out.
    backlog: bool,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    egress: Egress,
    /// Index in the list of its egress, or in `apart`.
    index: usize,
    in_step: bool,
    /// What an interval of pacing lets out to it alone.
    pace_bytes: u32,
}

/// A viewer that is not in step.
#[derive(Clone, Copy, Debug)]
struct Apart {
    viewer: ViewerId,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Joins in step at the next random access point, but not before this.
    Waiting { not_before: Option<Instant> },
    /// Next run to send, under squeezed timestamps. What pacing lets out is gathered in `credit_bytes`; a run may take it
    /// below zero.
    Behind { next: u64, squeeze: Squeeze, credit_bytes: i64 },
}

impl State {
    fn behind(next: u64, squeeze: Squeeze, pace_bytes: u32) -> Self {
        Self::Behind { next, squeeze, credit_bytes: i64::from(pace_bytes) }
    }
}

/// Lets `PACE_BYTES` out an interval.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    since: Option<Instant>,
    sent_bytes: usize,
}

impl Fanout {
    /// Takes a viewer. `fresh`: it never got a packet, so it starts from the GOP cache at once; else it waits for the
    /// next random access point, because it had these packets.
    pub fn join(&mut self, cache: &GopCache, viewer: ViewerId, egress: Egress, fresh: bool) {
        if let Some(place) = self.places.get(&viewer).copied() {
            return self.change_egress(viewer, place, egress);
        }
        let pace_bytes = PACE_BYTES as u32;
        let state = match cache.random_access().filter(|_| fresh) {
            None => State::Waiting { not_before: None },
            Some(next) => State::behind(next, squeeze::for_join(cache, next), pace_bytes),
        };
        let index = self.apart.len();
        self.places.insert(viewer, Place { egress, index, in_step: false, pace_bytes });
        self.apart.push(Apart { viewer, state });
    }

    /// Frees a viewer.
    pub fn leave(&mut self, viewer: ViewerId) {
        let Some(place) = self.places.remove(&viewer) else { return };
        if place.in_step { self.remove_in_step(place) } else { self.remove_apart(place.index) }
    }

    /// A viewer could not take a run: nothing more for it until the next random access point.
    pub fn block(&mut self, viewer: ViewerId) {
        self.set_apart(viewer, State::Waiting { not_before: None });
    }

    /// A viewer's path does not carry the stream: nothing more until a random access point at or after this time.
    pub fn block_until(&mut self, viewer: ViewerId, not_before: Option<Instant>) {
        self.set_apart(viewer, State::Waiting { not_before });
    }

    /// A viewer lost a picture: it gets the current GOP once more from the cache, beginning with the next access unit.
    /// False if it is on its way to a random access point already.
    pub fn refresh(&mut self, viewer: ViewerId) -> bool {
        let in_step = self.places.get(&viewer).is_some_and(|place| place.in_step);
        if in_step && !self.refreshing.contains(&viewer) {
            self.refreshing.push(viewer);
        }
        in_step
    }

    /// Where a viewer is that has the stream's own numbers and times: for one that waits, where all are. `None` before anything
    /// was sent.
    pub fn position(&self, cache: &GopCache, viewer: ViewerId) -> Option<Position> {
        let place = self.places.get(&viewer)?;
        let (next, squeeze) = match place.in_step {
            true => (self.live, Squeeze::default()),
            false => match self.apart[place.index].state {
                State::Behind { next, squeeze, .. } => (next, squeeze),
                State::Waiting { .. } => (self.live, Squeeze::default()),
            },
        };
        let last = cache.run(next.checked_sub(1)?)?;
        let in_order = (cache.first()..next).rev().filter_map(|number| cache.run(number));
        let newest = in_order.into_iter().find(|run| !run.is_out_of_order()).unwrap_or(last);
        Some(Position {
            next_packet: last.first_packet() + u64::from(last.packets()),
            newest_90k: squeeze.map(newest.rtp_timestamp()),
            sent_at: self.sent_at?,
        })
    }

    /// True while a viewer has a part of an access unit, and the rest is still to come or to be sent.
    pub fn is_within_access_unit(&self, cache: &GopCache, viewer: ViewerId) -> bool {
        let Some(place) = self.places.get(&viewer) else { return false };
        let next = match place.in_step {
            true => self.live,
            false => match self.apart[place.index].state {
                State::Behind { next, .. } => next,
                State::Waiting { .. } => return false,
            },
        };
        match cache.run(next) {
            Some(run) => !run.starts_access_unit(),
            None => {
                let last = next.checked_sub(1).and_then(|number| cache.run(number));
                last.is_some_and(|run| !run.ends_access_unit())
            }
        }
    }

    /// What an interval of a millisecond lets out to this viewer where it does not share the others' pace: of an
    /// access unit of more than a run, and of the GOP cache.
    pub fn set_pace(&mut self, viewer: ViewerId, bytes_per_second: u64) {
        if let Some(place) = self.places.get_mut(&viewer) {
            let bytes = bytes_per_second / 1000;
            place.pace_bytes = bytes.clamp(u64::from(MIN_PACE_BYTES), PACE_BYTES as u64) as u32;
        }
    }

    /// Number of viewers.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True without viewers.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Number of the next run that live viewers get.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Packets that viewers did not get because they were waiting, all since the start.
    pub fn skipped_packets(&self) -> u64 {
        self.skipped_packets
    }

    /// Gives `send` all that is due at `now`. [`Fanout::block`] may be called for what it was given afterwards.
    pub fn transmit(&mut self, now: Instant, cache: &GopCache, mut send: impl FnMut(Transmit<'_>)) {
        // Once an interval, however many turns it has: each viewer's share is of an interval.
        if self.pace.begin(now) {
            self.catch_up(cache, &mut send);
        }
        self.limit_lag(cache);
        while let Some(run) = cache.run(self.live) {
            if !self.pace.admits() {
                self.backlog = true;
                return;
            }
            self.pace.sent_bytes += run.bytes().len();
            self.promote(now, run, &mut send);
            self.refresh_some(cache, run);
            if run.starts_access_unit() {
                self.unit_bytes = 0;
            }
            self.unit_bytes += run.bytes().len();
            if self.unit_bytes > BURST_BYTES {
                self.spread(run);
            }
            self.skipped_packets += u64::from(run.packets()) * self.waiting() as u64;
            self.sent_at = Some(now);
            for (viewers, egress) in self.in_step.iter().zip(EGRESSES) {
                if !viewers.is_empty() && wants(egress, run) {
                    send(Transmit::Shared { run, viewers, egress });
                }
            }
            self.live += 1;
        }
        self.backlog = false;
    }

    /// Who wants the GOP once more leaves the step before a new access unit, unless that is a random access point itself.
    fn refresh_some(&mut self, cache: &GopCache, run: &Run) {
        if !run.starts_access_unit() || run.is_out_of_order() {
            return;
        }
        let mut refreshing = std::mem::take(&mut self.refreshing);
        let start = cache.random_access().filter(|&start| start < self.live && !run.is_random_access());
        for viewer in refreshing.drain(..) {
            let Some(place) = self.places.get(&viewer).filter(|place| place.in_step) else { continue };
            let pace_bytes = place.pace_bytes;
            let squeeze = |start| squeeze::for_refresh(cache, start, self.live, run.rtp_timestamp());
            if let Some((start, squeeze)) = start.and_then(|start| Some((start, squeeze(start)?))) {
                self.set_apart(viewer, State::behind(start, squeeze, pace_bytes));
            }
        }
        self.refreshing = refreshing;
    }

    /// Who has a slower path than the shared pace gets the rest of a large access unit at its own.
    fn spread(&mut self, run: &Run) {
        if run.starts_access_unit() {
            return;
        }
        for index in (0..self.in_step[Egress::WebRtc as usize].len()).rev() {
            let viewer = self.in_step[Egress::WebRtc as usize][index];
            let pace_bytes = self.places.get(&viewer).map_or(u32::MAX, |place| place.pace_bytes);
            if (pace_bytes as usize) < PACE_BYTES {
                let credit_bytes = 0;
                let state = State::Behind { next: self.live, squeeze: Squeeze::default(), credit_bytes };
                self.set_apart(viewer, state);
            }
        }
    }

    fn set_apart(&mut self, viewer: ViewerId, state: State) {
        let Some(place) = self.places.get(&viewer).copied() else { return };
        if place.in_step {
            self.remove_in_step(place);
            let index = self.apart.len();
            self.places.insert(viewer, Place { index, in_step: false, ..place });
            self.apart.push(Apart { viewer, state });
        } else {
            self.apart[place.index].state = state;
        }
    }

    /// When [`Fanout::transmit`] has more to do although nothing new came.
    pub fn poll_timeout(&self, cache: &GopCache) -> Option<Instant> {
        let behind = self
            .apart
            .iter()
            .any(|apart| matches!(apart.state, State::Behind { next, .. } if next < self.live));
        let due = behind || (self.live < cache.end() && !self.pace.admits());
        self.pace.since.filter(|_| due).map(|since| since + PACE_INTERVAL)
    }

    /// Goes on at the newest random access point when live viewers are too far behind it, or when what they were to
    /// get next is not cached any more.
    fn limit_lag(&mut self, cache: &GopCache) {
        if self.live < cache.first() {
            match cache.random_access() {
                Some(start) => self.live = start,
                None => {
                    self.live = cache.first();
                    self.all_wait();
                }
            }
        }
        let mut live = self.live;
        if let (Some(start), Some(next), Some(newest)) =
            (cache.random_access(), cache.run(live), cache.run(cache.end().saturating_sub(1)))
            && start > live
            // What has only just come in, however much at once, is not behind.
            && self.backlog
            // What is begun is finished, so that no picture is cut.
            && next.starts_access_unit()
            && (newest.rtp_timestamp().wrapping_sub(next.rtp_timestamp()) as i32) > MAX_LAG_90K as i32
        {
            let packets: u64 =
                (live..start).filter_map(|run| cache.run(run)).map(|run| u64::from(run.packets())).sum();
            let viewers: usize = self.in_step.iter().map(Vec::len).sum();
            self.skipped_packets += packets * viewers as u64;
            live = start;
        }
        self.live = live;
    }

    fn all_wait(&mut self) {
        while let Some(&viewer) = self.in_step.iter().find_map(|list| list.last()) {
            self.block(viewer);
        }
    }

    /// Each viewer that is behind gets its share of old runs.
    fn catch_up(&mut self, cache: &GopCache, send: &mut impl FnMut(Transmit<'_>)) {
        for index in 0..self.apart.len() {
            let Apart { viewer, state: State::Behind { mut next, squeeze, mut credit_bytes } } =
                self.apart[index]
            else {
                continue;
            };
            let Place { egress, pace_bytes, .. } = self.places[&viewer];
            let pace_bytes = i64::from(pace_bytes);
            credit_bytes = (credit_bytes + pace_bytes).min(pace_bytes);
            while next < self.live && credit_bytes > 0 {
                let Some(run) = cache.run(next) else { break };
                if wants(egress, run) {
                    credit_bytes -= run.bytes().len() as i64;
                    send(Transmit::Own { run, squeeze, viewer, egress });
                }
                next += 1;
            }
            // What it was to get next is not cached any more: it was slower than a whole GOP.
            let lost = next < cache.first();
            self.apart[index].state = if lost {
                State::Waiting { not_before: None }
            } else {
                State::Behind { next, squeeze, credit_bytes }
            };
        }
    }

    /// Before `run` goes to those in step: who has caught up joins them, who nearly has gets its own copy.
    fn promote(&mut self, now: Instant, run: &Run, send: &mut impl FnMut(Transmit<'_>)) {
        let mut index = 0;
        while index < self.apart.len() {
            let Apart { viewer, state } = self.apart[index];
            let in_step = match state {
                State::Waiting { not_before } => {
                    run.is_random_access() && not_before.is_none_or(|not_before| now >= not_before)
                }
                State::Behind { next, squeeze, credit_bytes } if next == self.live => {
                    let in_step = run.starts_access_unit() && squeeze.is_over(run.rtp_timestamp());
                    let Place { egress, .. } = self.places[&viewer];
                    if !in_step && credit_bytes > 0 {
                        let (next, mut credit_bytes) = (next + 1, credit_bytes);
                        if wants(egress, run) {
                            credit_bytes -= run.bytes().len() as i64;
                            send(Transmit::Own { run, squeeze, viewer, egress });
                        }
                        self.apart[index].state = State::Behind { next, squeeze, credit_bytes };
                    }
                    in_step
                }
                State::Behind { .. } => false,
            };
            if in_step {
                self.put_in_step(viewer);
            } else {
                index += 1;
            }
        }
    }

    fn waiting(&self) -> usize {
        self.apart.iter().filter(|apart| matches!(apart.state, State::Waiting { .. })).count()
    }

    fn put_in_step(&mut self, viewer: ViewerId) {
        let Some(place) = self.places.get(&viewer).copied() else { return };
        self.remove_apart(place.index);
        let list = self.list(place.egress);
        let index = list.len();
        list.push(viewer);
        self.places.insert(viewer, Place { index, in_step: true, ..place });
    }

    fn change_egress(&mut self, viewer: ViewerId, place: Place, egress: Egress) {
        if place.egress == egress {
            return;
        }
        let mut place = place;
        if place.in_step {
            self.remove_in_step(place);
            place.index = self.list(egress).len();
            self.list(egress).push(viewer);
        }
        self.places.insert(viewer, Place { egress, ..place });
    }

    fn list(&mut self, egress: Egress) -> &mut Vec<ViewerId> {
        &mut self.in_step[egress as usize]
    }

    fn remove_in_step(&mut self, place: Place) {
        let list = self.list(place.egress);
        list.swap_remove(place.index);
        if let Some(&moved) = list.get(place.index)
            && let Some(moved) = self.places.get_mut(&moved)
        {
            moved.index = place.index;
        }
    }

    fn remove_apart(&mut self, index: usize) {
        self.apart.swap_remove(index);
        if let Some(moved) = self.apart.get(index)
            && let Some(moved) = self.places.get_mut(&moved.viewer)
        {
            moved.index = index;
        }
    }
}

/// Whether a viewer of this kind gets this run at all.
fn wants(egress: Egress, run: &Run) -> bool {
    egress != Egress::WebRtc || !run.is_out_of_order()
}

impl Pace {
    /// Starts an interval if the last one is over; true if so.
    fn begin(&mut self, now: Instant) -> bool {
        let over = self.since.is_none_or(|since| now >= since + PACE_INTERVAL);
        if over {
            *self = Self { since: Some(now), sent_bytes: 0 };
        }
        over
    }

    fn admits(&self) -> bool {
        self.sent_bytes < PACE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use lanecast_packet::{RunWriter, WriterConfig};
    use proptest::prelude::*;

    use super::*;

    /// A stream of access units of one run each, and what its viewers got.
    struct Scene {
        now: Instant,
        writer: RunWriter,
        cache: GopCache,
        fanout: Fanout,
        sent: Vec<(ViewerId, u64, u32)>,
    }

    impl Scene {
        fn new() -> Self {
            let config = WriterConfig { ssrc: 1, payload_type: 96, first_packet: 0 };
            Self {
                now: Instant::now(),
                writer: RunWriter::new(config),
                cache: GopCache::new(64 << 20),
                fanout: Fanout::default(),
                sent: Vec::new(),
            }
        }

        /// One access unit 40 ms after the last, of `packets` packets.
        fn access_unit(&mut self, rtp_timestamp: u32, random_access: bool, packets: usize) {
            self.now += Duration::from_millis(40);
            self.writer.begin_access_unit(rtp_timestamp, random_access);
            for _ in 0..packets {
                self.writer.packet(1188, |out| out.put_bytes(0, 1188));
            }
            self.writer.end_access_unit();
            while let Some(run) = self.writer.poll_run() {
                self.cache.push(run);
            }
            self.turn();
        }

        fn turn(&mut self) {
            let sent = &mut self.sent;
            self.fanout.transmit(self.now, &self.cache, |transmit| match transmit {
                Transmit::Shared { run, viewers, .. } => {
                    sent.extend(
                        viewers.iter().map(|&viewer| (viewer, run.first_packet(), run.rtp_timestamp())),
                    );
                }
                Transmit::Own { run, squeeze, viewer, .. } => {
                    sent.push((viewer, run.first_packet(), squeeze.map(run.rtp_timestamp())))
                }
            });
        }

        fn join(&mut self, viewer: u32) {
            self.join_by(viewer, Egress::Datagrams);
        }

        fn join_by(&mut self, viewer: u32, egress: Egress) {
            self.fanout.join(&self.cache, ViewerId(viewer), egress, true);
            self.turn();
        }

        /// A picture that is shown before the newest one.
        fn out_of_order(&mut self, rtp_timestamp: u32) {
            self.now += Duration::from_millis(40);
            self.writer.begin_out_of_order(rtp_timestamp);
            self.writer.packet(100, |out| out.put_bytes(0, 100));
            self.writer.end_access_unit();
            self.cache.push(self.writer.poll_run().unwrap());
            self.turn();
        }

        /// All turns that pacing asks for.
        fn settle(&mut self) -> usize {
            let mut turns = 0;
            while let Some(at) = self.fanout.poll_timeout(&self.cache) {
                self.now = self.now.max(at);
                self.turn();
                turns += 1;
                assert!(turns < 10_000, "pacing comes to an end");
            }
            turns
        }

        fn got(&self, viewer: u32) -> Vec<(u64, u32)> {
            self.sent.iter().filter(|sent| sent.0 == ViewerId(viewer)).map(|sent| (sent.1, sent.2)).collect()
        }
    }

    #[test]
    fn a_viewer_is_within_an_access_unit_while_it_has_a_part_of_it() {
        let mut scene = Scene::new();
        let within = |scene: &Scene| scene.fanout.is_within_access_unit(&scene.cache, ViewerId(1));
        scene.access_unit(0, true, 3);
        scene.join(1);
        scene.settle();
        assert!(!within(&scene), "it has a whole one");
        scene.writer.begin_access_unit(3600, false);
        (0..60).for_each(|_| scene.writer.packet(1188, |out| out.put_bytes(0, 1188)));
        scene.writer.flush();
        scene.cache.push(scene.writer.poll_run().unwrap());
        scene.turn();
        assert!(within(&scene), "the rest is still to come");
        assert!(
            !scene.fanout.is_within_access_unit(&scene.cache, ViewerId(2)),
            "who is not there has nothing"
        );
        scene.writer.packet(20, |out| out.put_bytes(0, 20));
        scene.writer.end_access_unit();
        while let Some(run) = scene.writer.poll_run() {
            scene.cache.push(run);
        }
        assert!(within(&scene), "the rest is still to be sent");
        scene.turn();
        scene.settle();
        assert!(!within(&scene));
    }

    proptest! {
        /// Joins, leaves, blocks and access units in any order: stitching holds for everybody.
        #[test]
        fn every_viewer_gets_whole_numbers_and_a_clock_that_never_goes_back(
            script in prop::collection::vec((0u8..6, 0u32..5, 1usize..120), 1..120),
        ) {
            let mut scene = Scene::new();
            let mut timestamp = 0u32;
            let mut sets = [None; 5];
            let mut expected: Vec<Option<(u64, u32)>> = vec![None; 5];
            for (action, viewer, amount) in script {
                match action {
                    0 if sets[viewer as usize].is_none() => {
                        sets[viewer as usize] = Some(());
                        scene.join(viewer);
                    }
                    1 => {
                        sets[viewer as usize] = None;
                        expected[viewer as usize] = None;
                        scene.fanout.leave(ViewerId(viewer));
                    }
                    2 => {
                        // Whole access units are lost: the numbers go on higher.
                        scene.fanout.block(ViewerId(viewer));
                        if let Some((next, _)) = &mut expected[viewer as usize] {
                            *next = u64::MAX;
                        }
                    }
                    _ => {
                        timestamp += 3600;
                        scene.access_unit(timestamp, action == 3, amount);
                    }
                }
                scene.settle();
                for (viewer, first, sent_timestamp) in scene.sent.drain(..) {
                    let end = (scene.cache.first()..scene.cache.end())
                        .filter_map(|run| scene.cache.run(run))
                        .find(|run| run.first_packet() == first)
                        .map(|run| first + u64::from(run.packets()));
                    prop_assert!(sets[viewer.0 as usize].is_some(), "nobody gets anything after leaving");
                    let state = &mut expected[viewer.0 as usize];
                    if let Some((next, last)) = *state {
                        prop_assert!(next == u64::MAX || first == next, "{first} where {next} was next");
                        prop_assert!((sent_timestamp.wrapping_sub(last) as i32) >= 0);
                    }
                    *state = Some((end.expect("what is sent is cached"), sent_timestamp));
                }
            }
        }
    }

    #[test]
    fn a_join_starts_at_the_cached_random_access_point_at_once_and_meets_the_live_clock() {
        let mut scene = Scene::new();
        for index in 0..250u32 {
            scene.access_unit(index * 3600, index == 0, 1);
        }
        scene.now += Duration::from_millis(10);
        scene.join(1);
        scene.settle();
        let got = scene.got(1);
        assert_eq!(got.len(), 250, "the whole GOP, before any new picture");
        assert!(got.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0 && pair[0].1 < pair[1].1));
        assert_eq!(got[249].1, 249 * 3600, "the last one meets the live clock");
        assert!(got[249].1 - got[0].1 <= 250 * squeeze::SQUEEZED_STEP_90K, "squeezed");
        scene.access_unit(250 * 3600, false, 1);
        scene.access_unit(251 * 3600, false, 1);
        let got = scene.got(1);
        assert_eq!(got[250..], [(250, 250 * 3600), (251, 251 * 3600)]);
        assert_eq!(scene.fanout.in_step[Egress::Datagrams as usize], [ViewerId(1)], "in step");
    }

    #[test]
    fn without_a_cached_random_access_point_a_viewer_waits_for_the_next() {
        let mut scene = Scene::new();
        scene.access_unit(0, false, 1);
        scene.join(1);
        scene.access_unit(3600, false, 1);
        scene.access_unit(7200, true, 1);
        scene.access_unit(10_800, false, 1);
        assert_eq!(scene.got(1), [(2, 7200), (3, 10_800)]);
        assert_eq!(scene.fanout.skipped_packets(), 1);
    }

    #[test]
    fn a_blocked_viewer_loses_whole_access_units_up_to_the_next_random_access_point_and_nobody_else_does() {
        let mut scene = Scene::new();
        scene.access_unit(0, true, 1);
        scene.join(1);
        scene.join(2);
        scene.access_unit(3600, false, 1);
        scene.fanout.block(ViewerId(1));
        scene.access_unit(7200, false, 1);
        scene.access_unit(10_800, true, 1);
        assert_eq!(scene.got(1).iter().map(|got| got.0).collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(scene.got(2).iter().map(|got| got.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_large_access_unit_is_spread_over_milliseconds() {
        let mut scene = Scene::new();
        scene.access_unit(0, true, 1);
        scene.join(1);
        scene.settle();
        scene.access_unit(3600, true, 950);
        let at_once = scene.got(1).len();
        assert!(at_once <= 4, "{at_once} runs at once");
        let turns = scene.settle();
        assert!((10..40).contains(&turns), "{turns} ms");
        let last = scene.got(1);
        assert_eq!(
            last.iter().map(|got| got.1).filter(|&timestamp| timestamp == 3600).count(),
            last.len() - 1
        );
    }

    /// A second of access units with a keyframe near its end, all there before the next turn.
    fn a_second_at_once(scene: &mut Scene, packets: usize) {
        scene.access_unit(0, true, 1);
        scene.join(1);
        scene.access_unit(3600, false, 1);
        for index in 2..25u32 {
            scene.now += Duration::from_millis(40);
            scene.writer.begin_access_unit(index * 3600, index == 20);
            for _ in 0..packets {
                scene.writer.packet(1188, |out| out.put_bytes(0, 1188));
            }
            scene.writer.end_access_unit();
            scene.cache.push(scene.writer.poll_run().unwrap());
        }
        for _ in 0..20 {
            scene.turn();
            scene.now += PACE_INTERVAL;
        }
    }

    #[test]
    fn live_viewers_that_fall_behind_go_on_at_the_newest_random_access_point() {
        let mut scene = Scene::new();
        a_second_at_once(&mut scene, 20);
        // Three access units are what the first turn lets out.
        let got: Vec<_> = scene.got(1).iter().map(|got| got.1 / 3600).collect();
        assert_eq!(got, [0, 1, 2, 3, 4, 20, 21, 22, 23, 24]);
        assert_eq!(scene.fanout.skipped_packets(), 15 * 20);
    }

    #[test]
    fn what_comes_late_and_all_at_once_is_sent_whole_where_it_can_be_sent() {
        let mut scene = Scene::new();
        a_second_at_once(&mut scene, 2);
        let got: Vec<_> = scene.got(1).iter().map(|got| got.1 / 3600).collect();
        assert_eq!(got, (0..25).collect::<Vec<_>>());
    }

    #[test]
    fn viewers_that_leave_get_nothing_more_and_the_others_stay() {
        let mut scene = Scene::new();
        scene.access_unit(0, true, 1);
        for viewer in 0..10 {
            scene.join(viewer);
        }
        scene.access_unit(3600, false, 1);
        for viewer in [0, 9, 4] {
            scene.fanout.leave(ViewerId(viewer));
        }
        scene.sent.clear();
        scene.access_unit(7200, false, 1);
        let mut viewers: Vec<_> = scene.sent.iter().map(|sent| sent.0.0).collect();
        viewers.sort_unstable();
        assert_eq!(viewers, [1, 2, 3, 5, 6, 7, 8]);
        assert_eq!(scene.fanout.len(), 7);
    }

    #[test]
    fn b_pictures_that_are_shown_before_the_pivot_keep_their_order() {
        let mut scene = Scene::new();
        for (timestamp, random_access) in
            [(0, true), (10_800, false), (3600, false), (7200, false), (21_600, false)]
        {
            scene.access_unit(timestamp, random_access, 1);
        }
        scene.now += Duration::from_millis(5);
        scene.join(1);
        scene.access_unit(14_400, false, 1);
        scene.access_unit(18_000, false, 1);
        scene.access_unit(32_400, false, 1);
        let got: Vec<_> = scene.got(1).iter().map(|got| got.1).collect();
        let shown = [got[0], got[2], got[3], got[1], got[5], got[6], got[4], got[7]];
        assert!(shown.is_sorted(), "{got:?}");
    }

    #[test]
    fn a_viewer_that_catches_up_gets_its_share_once_a_millisecond_however_many_turns_there_are() {
        let mut scene = Scene::new();
        for index in 0..10u32 {
            scene.access_unit(index * 3600, index == 0, 50);
        }
        scene.settle();
        scene.now += Duration::from_millis(5);
        scene.join(1);
        let at_once = scene.got(1).len();
        assert!(at_once >= 1, "at once");
        for _ in 0..5 {
            scene.turn();
        }
        assert_eq!(scene.got(1).len(), at_once);
        scene.now += PACE_INTERVAL;
        scene.turn();
        assert!(scene.got(1).len() > at_once);
        scene.settle();
        assert_eq!(scene.got(1).len() as u64, scene.cache.end());
    }

    #[test]
    fn live_viewers_wait_for_a_picture_to_start_with_when_what_they_were_to_get_is_gone() {
        let mut scene = Scene::new();
        scene.cache = GopCache::new(10_000);
        scene.access_unit(0, true, 1);
        scene.join(1);
        scene.access_unit(3600, false, 1);
        assert_eq!(scene.fanout.in_step[Egress::Datagrams as usize], [ViewerId(1)]);
        // Ten pictures between two turns, of which the cache holds eight.
        for index in 2..12u32 {
            scene.writer.begin_access_unit(index * 3600, false);
            scene.writer.packet(1188, |out| out.put_bytes(0, 1188));
            scene.writer.end_access_unit();
            scene.cache.push(scene.writer.poll_run().unwrap());
        }
        scene.now += Duration::from_millis(40);
        scene.turn();
        scene.access_unit(12 * 3600, true, 1);
        assert_eq!(scene.got(1).iter().map(|got| got.0).collect::<Vec<_>>(), [0, 1, 12]);
    }

    #[test]
    fn a_viewer_that_lost_a_picture_gets_the_gop_once_more_between_two_pictures() {
        let mut scene = Scene::new();
        scene.access_unit(0, true, 1);
        scene.join_by(1, Egress::WebRtc);
        scene.join_by(2, Egress::WebRtc);
        for index in 1..20u32 {
            scene.access_unit(index * 3600, false, 1);
        }
        scene.settle();
        scene.sent.clear();
        assert!(scene.fanout.refresh(ViewerId(1)));
        assert_eq!(scene.got(1), [], "not in the middle of a picture");
        scene.access_unit(20 * 3600, false, 1);
        scene.settle();
        scene.access_unit(21 * 3600, false, 1);
        let got = scene.got(1);
        assert_eq!(got.iter().map(|got| got.0).collect::<Vec<_>>(), (0..22).collect::<Vec<_>>());
        assert!(got[0].1 > 19 * 3600 && got[19].1 < 20 * 3600, "{got:?}");
        assert!(got.windows(2).all(|pair| pair[0].1 < pair[1].1), "{got:?}");
        assert_eq!(got[20..], [(20, 20 * 3600), (21, 21 * 3600)]);
        assert_eq!(scene.got(2), [(20, 20 * 3600), (21, 21 * 3600)], "the others get what they got");
    }

    #[test]
    fn a_random_access_point_on_its_way_answers_a_lost_picture_too() {
        let mut scene = Scene::new();
        scene.access_unit(0, true, 1);
        scene.join_by(1, Egress::WebRtc);
        scene.access_unit(3600, false, 1);
        scene.sent.clear();
        scene.fanout.refresh(ViewerId(1));
        scene.access_unit(7200, true, 1);
        assert_eq!(scene.got(1), [(2, 7200)]);
    }

    #[test]
    fn pictures_out_of_order_go_to_everybody_but_webrtc_viewers() {
        let mut scene = Scene::new();
        scene.access_unit(0, true, 1);
        scene.join(1);
        scene.join_by(2, Egress::WebRtc);
        scene.access_unit(10_800, false, 1);
        scene.out_of_order(3600);
        scene.out_of_order(7200);
        scene.access_unit(21_600, false, 1);
        // A join after them, from the cache.
        scene.join_by(3, Egress::WebRtc);
        scene.settle();
        assert_eq!(scene.got(1).len(), 5);
        assert_eq!(scene.got(2), [(0, 0), (1, 10_800), (4, 21_600)]);
        assert_eq!(scene.got(3).iter().map(|got| got.0).collect::<Vec<_>>(), [0, 1, 4]);
        assert_eq!(scene.cache.run(4).unwrap().first_in_order(), 2);
    }

    #[test]
    fn a_slower_path_gets_large_access_units_at_its_own_pace_and_then_is_in_step_again() {
        let mut scene = Scene::new();
        scene.access_unit(0, true, 1);
        scene.join_by(1, Egress::WebRtc);
        scene.join_by(2, Egress::WebRtc);
        scene.settle();
        scene.fanout.set_pace(ViewerId(1), 10_000_000);
        scene.access_unit(3600, true, 950);
        let turns = scene.settle();
        assert!((100..150).contains(&turns), "1.1 MB at 10 MB/s took {turns} ms");
        scene.access_unit(7200, false, 1);
        scene.access_unit(10_800, false, 1);
        assert_eq!(scene.got(1), scene.got(2), "both got everything");
        assert_eq!(scene.fanout.in_step[Egress::WebRtc as usize].len(), 2, "in step");
    }

    #[test]
    fn who_is_blocked_for_a_while_goes_on_at_a_random_access_point_after_that() {
        let mut scene = Scene::new();
        scene.access_unit(0, true, 1);
        scene.join_by(1, Egress::WebRtc);
        scene.settle();
        scene.fanout.block_until(ViewerId(1), Some(scene.now + Duration::from_millis(100)));
        for index in 1..6u32 {
            scene.access_unit(index * 3600, true, 1);
        }
        assert_eq!(scene.got(1), [(0, 0), (3, 10_800), (4, 14_400), (5, 18_000)]);
    }
}
