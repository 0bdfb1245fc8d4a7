//! Which viewer gets which run: all that are in step share one, the others are numbers into the GOP cache.
//!
//! A viewer is *in step* (same runs, same bytes as everybody), *behind* (catching up from the GOP cache, with
//! squeezed timestamps) or *waiting* for the next random access point (nothing cached, or it could not take more).
//! Nothing is queued per viewer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use lanecast_packet::Run;

use crate::gop::GopCache;

/// What one turn of pacing lets out of a stream, to live viewers together and to each that is behind.
///
/// A receiver with the kernel's default socket buffer (208 KiB) holds about 90 packets of 1200 bytes; a full run, which ends a turn, has 54.
const PACE_BYTES: usize = 60 << 10;
/// How long a turn of pacing lasts: a full run a millisecond is 518 Mb/s, twenty times a 4K camera.
const PACE_INTERVAL: Duration = Duration::from_millis(1);
/// How far live viewers may fall behind the newest run, in 90 kHz ticks (500 ms), before they go on at a newer random
/// access point: a shard that has not the time for all of it gives its viewers the present.
const MAX_LAG_90K: u32 = 45_000;
/// Ticks (90 kHz) between squeezed access units: 1 ms, the resolution of common players' clocks.
const SQUEEZED_STEP_90K: u32 = 90;

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
    /// A viewer's own copy.
    Own {
        /// The run, restamped.
        run: Run,
        /// Whose.
        viewer: ViewerId,
        /// How it takes it.
        egress: Egress,
    },
}

/// The viewers of one stream.
#[derive(Debug, Default)]
pub struct Fanout {
    datagrams: Vec<ViewerId>,
    websockets: Vec<ViewerId>,
    apart: Vec<Apart>,
    places: HashMap<ViewerId, Place>,
    /// Number of the next run for those in step.
    live: u64,
    pace: Pace,
    skipped_packets: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    egress: Egress,
    /// Index in `datagrams` or `websockets`, or in `apart`.
    index: usize,
    in_step: bool,
}

/// A viewer that is not in step.
#[derive(Clone, Copy, Debug)]
struct Apart {
    viewer: ViewerId,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Joins in step at the next random access point.
    Waiting,
    /// Next run to send, under squeezed timestamps.
    Behind { next: u64, squeeze: Squeeze },
}

/// Squeezes the timestamps of a cached GOP so that its last one meets the live clock.
#[derive(Clone, Copy, Debug)]
struct Squeeze {
    pivot_90k: u32,
    range_90k: u32,
    span_90k: u32,
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
        let start = cache.random_access().filter(|_| fresh);
        let state =
            start.map_or(State::Waiting, |next| State::Behind { next, squeeze: Squeeze::new(cache, next) });
        self.places.insert(viewer, Place { egress, index: self.apart.len(), in_step: false });
        self.apart.push(Apart { viewer, state });
    }

    /// Frees a viewer.
    pub fn leave(&mut self, viewer: ViewerId) {
        let Some(place) = self.places.remove(&viewer) else { return };
        if place.in_step { self.remove_in_step(place) } else { self.remove_apart(place.index) }
    }

    /// A viewer could not take a run: nothing more for it until the next random access point.
    pub fn block(&mut self, viewer: ViewerId) {
        let Some(place) = self.places.get(&viewer).copied() else { return };
        if place.in_step {
            self.remove_in_step(place);
            self.places.insert(viewer, Place { index: self.apart.len(), in_step: false, ..place });
            self.apart.push(Apart { viewer, state: State::Waiting });
        } else {
            self.apart[place.index].state = State::Waiting;
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
                return;
            }
            self.pace.sent_bytes += run.bytes().len();
            self.promote(run, &mut send);
            self.skipped_packets += u64::from(run.packets()) * self.waiting() as u64;
            for (viewers, egress) in
                [(&self.datagrams, Egress::Datagrams), (&self.websockets, Egress::WebSocket)]
            {
                if !viewers.is_empty() {
                    send(Transmit::Shared { run, viewers, egress });
                }
            }
            self.live += 1;
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
            && (newest.rtp_timestamp().wrapping_sub(next.rtp_timestamp()) as i32) > MAX_LAG_90K as i32
        {
            let packets: u64 =
                (live..start).filter_map(|run| cache.run(run)).map(|run| u64::from(run.packets())).sum();
            self.skipped_packets += packets * (self.datagrams.len() + self.websockets.len()) as u64;
            live = start;
        }
        self.live = live;
    }

    fn all_wait(&mut self) {
        while let Some(&viewer) = self.datagrams.last().or(self.websockets.last()) {
            self.block(viewer);
        }
    }

    /// Each viewer that is behind gets its share of old runs.
    fn catch_up(&mut self, cache: &GopCache, send: &mut impl FnMut(Transmit<'_>)) {
        for index in 0..self.apart.len() {
            let Apart { viewer, state: State::Behind { mut next, squeeze } } = self.apart[index] else {
                continue;
            };
            let egress = self.places[&viewer].egress;
            let mut sent = 0;
            while next < self.live && sent < PACE_BYTES {
                let Some(run) = cache.run(next) else { break };
                sent += run.bytes().len();
                send(Transmit::Own { run: squeeze.apply(run), viewer, egress });
                next += 1;
            }
            // What it was to get next is not cached any more: it was slower than a whole GOP.
            let lost = next < cache.first();
            self.apart[index].state = if lost { State::Waiting } else { State::Behind { next, squeeze } };
        }
    }

    /// Before `run` goes to those in step: who has caught up joins them, who nearly has gets its own copy.
    fn promote(&mut self, run: &Run, send: &mut impl FnMut(Transmit<'_>)) {
        let mut index = 0;
        while index < self.apart.len() {
            let Apart { viewer, state } = self.apart[index];
            let in_step = match state {
                State::Waiting => run.is_random_access(),
                State::Behind { next, squeeze } if next == self.live => {
                    let in_step = run.starts_access_unit() && squeeze.is_over(run.rtp_timestamp());
                    if !in_step {
                        self.apart[index].state = State::Behind { next: next + 1, squeeze };
                        let egress = self.places[&viewer].egress;
                        send(Transmit::Own { run: squeeze.apply(run), viewer, egress });
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
        self.apart.iter().filter(|apart| matches!(apart.state, State::Waiting)).count()
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
        match egress {
            Egress::Datagrams => &mut self.datagrams,
            Egress::WebSocket => &mut self.websockets,
        }
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

impl Squeeze {
    /// For a join that starts at run `start`: all that is cached from there on.
    fn new(cache: &GopCache, start: u64) -> Self {
        let runs = || (start..cache.end()).filter_map(|number| cache.run(number));
        let first_90k = runs().next().map_or(0, Run::rtp_timestamp);
        let range_90k = runs()
            .map(|run| run.rtp_timestamp().wrapping_sub(first_90k))
            // B-pictures of the first access unit may lie before it.
            .filter(|&ahead| ahead < 1 << 31)
            .max()
            .unwrap_or(0);
        let access_units = runs().filter(|run| run.starts_access_unit()).count() as u32;
        let span_90k = range_90k.min(access_units.saturating_mul(SQUEEZED_STEP_90K));
        Self { pivot_90k: first_90k.wrapping_add(range_90k), range_90k, span_90k }
    }

    /// True for timestamps that are not squeezed.
    fn is_over(&self, rtp_timestamp: u32) -> bool {
        (rtp_timestamp.wrapping_sub(self.pivot_90k) as i32) > 0
    }

    fn apply(&self, run: &Run) -> Run {
        let mapped = self.map(run.rtp_timestamp());
        if mapped == run.rtp_timestamp() { run.clone() } else { run.with_timestamp(mapped) }
    }

    fn map(&self, rtp_timestamp: u32) -> u32 {
        let behind = self.pivot_90k.wrapping_sub(rtp_timestamp);
        if behind >= 1 << 31 || self.range_90k == 0 {
            return rtp_timestamp;
        }
        let squeezed = u64::from(behind) * u64::from(self.span_90k) / u64::from(self.range_90k);
        self.pivot_90k.wrapping_sub(squeezed as u32)
    }
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
                Transmit::Own { run, viewer, .. } => {
                    sent.push((viewer, run.first_packet(), run.rtp_timestamp()))
                }
            });
        }

        fn join(&mut self, viewer: u32) {
            self.fanout.join(&self.cache, ViewerId(viewer), Egress::Datagrams, true);
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
        assert!(got[249].1 - got[0].1 <= 250 * SQUEEZED_STEP_90K, "squeezed");
        scene.access_unit(250 * 3600, false, 1);
        scene.access_unit(251 * 3600, false, 1);
        let got = scene.got(1);
        assert_eq!(got[250..], [(250, 250 * 3600), (251, 251 * 3600)]);
        assert_eq!(scene.fanout.datagrams, [ViewerId(1)], "in step");
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

    #[test]
    fn live_viewers_that_fall_behind_go_on_at_the_newest_random_access_point() {
        let mut scene = Scene::new();
        scene.access_unit(0, true, 1);
        scene.join(1);
        scene.access_unit(3600, false, 1);
        // Nothing is sent for a second, in which a keyframe comes.
        for index in 2..25u32 {
            scene.now += Duration::from_millis(40);
            scene.writer.begin_access_unit(index * 3600, index == 20);
            scene.writer.packet(100, |out| out.put_bytes(0, 100));
            scene.writer.end_access_unit();
            scene.cache.push(scene.writer.poll_run().unwrap());
        }
        scene.turn();
        assert_eq!(scene.got(1).iter().map(|got| got.0).collect::<Vec<_>>(), [0, 1, 20, 21, 22, 23, 24]);
        assert_eq!(scene.fanout.skipped_packets(), 18);
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
        assert_eq!(scene.fanout.datagrams, [ViewerId(1)]);
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
}
