//! Puts packets in order and counts what is lost (sequence numbers of RFC 3550 section 5.1).
//!
//! It does not delay what is in order, so it is no jitter buffer. The order of calls is always: one
//! [`ReorderBuffer::handle_packet`], then [`ReorderBuffer::poll_packet`] until `None`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::RtpPacket;
use super::sequence::{Arrival, Sequence};

/// Deepest window that can be asked for: 4096 packets are a 5 MB access unit, and the ring stays under 400 KB.
pub const MAX_REORDER_DEPTH: usize = 4096;

/// A packet in its place, with how many before it never came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// The packet.
    pub packet: RtpPacket,
    /// Packets missing between the one given before and this one. 0 after a restart of the sequence.
    pub lost_before: u32,
}

/// Counters since the start. What came in is what was given out, what waits, and the last three of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReorderStatistics {
    /// Packets given up on: the sum of all `lost_before`.
    pub lost: u64,
    /// Times the sequence started anew.
    pub restarts: u64,
    /// Packets that were there already.
    pub duplicate: u64,
    /// Packets that came after they were given up on, or from before the first.
    pub late: u64,
    /// Single packets far off the sequence, or of another source.
    pub stray: u64,
}

/// A bounded buffer that holds back packets behind a hole until it is filled, too old, or too many wait.
#[derive(Debug)]
pub struct ReorderBuffer {
    hold: Duration,
    sequence: Sequence,
    window: Window,
    /// A packet far off, until the next one tells whether the sequence restarted there.
    stray: Option<RtpPacket>,
    /// In order, to be polled.
    ready: VecDeque<Ordered>,
    /// Since when the oldest packet behind the hole waits; `None` when none waits.
    waiting_since: Option<Instant>,
    statistics: ReorderStatistics,
}

impl ReorderBuffer {
    /// A hole is waited for while the packets behind it span at most `depth` sequence numbers (at most
    /// [`MAX_REORDER_DEPTH`]), and for `hold` at most. `depth` 0 waits for none and only counts (TCP).
    pub fn new(depth: usize, hold: Duration) -> Self {
        let depth = depth.min(MAX_REORDER_DEPTH);
        Self {
            hold,
            sequence: Sequence::new(depth as u16),
            window: Window::new(depth),
            stray: None,
            ready: VecDeque::with_capacity(depth + 2),
            waiting_since: None,
            statistics: ReorderStatistics::default(),
        }
    }

    /// Takes a packet that came at `now`.
    pub fn handle_packet(&mut self, now: Instant, packet: RtpPacket) {
        match self.sequence.handle_packet(packet.ssrc, packet.seq) {
            Arrival::First(extended) => {
                self.window.restart(extended);
                self.place(now, extended, packet);
            }
            Arrival::Running(extended) => {
                self.drop_stray();
                self.place(now, extended, packet);
            }
            Arrival::Stray => {
                self.drop_stray();
                self.stray = Some(packet);
            }
            Arrival::Restart(extended) => self.restart(now, extended, packet),
        }
    }

    /// The next packet in order, until `None`. Gives up on a hole whose wait is over at `now`.
    pub fn poll_packet(&mut self, now: Instant) -> Option<Ordered> {
        if self.ready.is_empty() && self.poll_timeout().is_some_and(|deadline| deadline <= now) {
            self.give_up_hole();
        }
        self.ready.pop_front()
    }

    /// When the oldest hole will be given up.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + self.hold)
    }

    /// Counters.
    pub fn statistics(&self) -> ReorderStatistics {
        self.statistics
    }

    fn place(&mut self, now: Instant, extended: u64, packet: RtpPacket) {
        if extended < self.window.next {
            match self.window.was_given(extended) {
                true => self.statistics.duplicate += 1,
                false => self.statistics.late += 1,
            }
            return;
        }
        self.make_room_for(extended);
        if extended == self.window.next {
            // The common case never touches the ring.
            self.window.skip_given();
            self.give(packet);
        } else if self.window.put(now, extended, packet) {
            self.waiting_since.get_or_insert(now);
            return;
        } else {
            self.statistics.duplicate += 1;
            return;
        }
        if self.waiting_since.is_some() {
            self.give_run();
            self.waiting_since = self.window.oldest_arrival();
        }
    }

    /// Gives up on as many of the oldest numbers as it takes for `extended` to fit.
    fn make_room_for(&mut self, extended: u64) {
        let first = (extended + 1).saturating_sub(self.window.depth() as u64).min(extended);
        let mut moved = false;
        while self.window.next < first {
            moved = true;
            if self.window.waiting == 0 {
                self.window.skip_lost(first - self.window.next);
            } else {
                match self.window.take_next() {
                    Some(packet) => self.give(packet),
                    None => self.window.skip_lost(1),
                }
            }
        }
        if moved {
            self.give_run();
            self.waiting_since = self.window.oldest_arrival();
        }
    }

    fn give_up_hole(&mut self) {
        while self.window.waiting > 0 && !self.window.has_next() {
            self.window.skip_lost(1);
        }
        self.give_run();
        self.waiting_since = self.window.oldest_arrival();
    }

    fn give_run(&mut self) {
        while let Some(packet) = self.window.take_next() {
            self.give(packet);
        }
    }

    fn give(&mut self, packet: RtpPacket) {
        let lost_before = std::mem::take(&mut self.window.lost);
        self.statistics.lost += u64::from(lost_before);
        self.ready.push_back(Ordered { packet, lost_before });
    }

    fn restart(&mut self, now: Instant, extended: u64, packet: RtpPacket) {
        while self.window.waiting > 0 {
            self.give_up_hole();
        }
        self.statistics.restarts += 1;
        let first = self.stray.take();
        self.window.restart(extended - u64::from(first.is_some()));
        if let Some(first) = first {
            self.place(now, extended - 1, first);
        }
        self.place(now, extended, packet);
    }

    fn drop_stray(&mut self) {
        self.statistics.stray += u64::from(self.stray.take().is_some());
    }
}

/// The packets that wait, by extended sequence number, and what became of those before them.
#[derive(Debug)]
struct Window {
    /// Number of the packet to be given next.
    next: u64,
    /// Slot of a number: the number modulo the length. Length: a power of two of at least the depth.
    slots: Box<[Option<Waiting>]>,
    depth: usize,
    /// Slots that are filled; all of numbers from `next` to `next + depth - 1`.
    waiting: usize,
    /// Numbers given up on since the last packet that was given.
    lost: u32,
    /// Bit n: the packet `next - 1 - n` was given.
    given: u128,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    packet: RtpPacket,
}

impl Window {
    fn new(depth: usize) -> Self {
        let slots = if depth == 0 { 0 } else { depth.next_power_of_two() };
        Self {
            next: 0,
            slots: std::iter::repeat_with(|| None).take(slots).collect(),
            depth,
            waiting: 0,
            lost: 0,
            given: 0,
        }
    }

    fn depth(&self) -> usize {
        self.depth
    }

    /// Goes on at `next`. Nothing waits at that time.
    fn restart(&mut self, next: u64) {
        debug_assert_eq!((self.waiting, self.lost), (0, 0));
        self.next = next;
        self.given = 0;
    }

    fn slot(&mut self, extended: u64) -> Option<&mut Option<Waiting>> {
        let mask = self.slots.len().checked_sub(1)?;
        self.slots.get_mut(extended as usize & mask)
    }

    /// False if it is there already. `extended` lies in the window.
    fn put(&mut self, since: Instant, extended: u64, packet: RtpPacket) -> bool {
        match self.slot(extended) {
            Some(slot @ None) => *slot = Some(Waiting { since, packet }),
            _ => return false,
        }
        self.waiting += 1;
        true
    }

    fn has_next(&mut self) -> bool {
        self.waiting > 0 && self.slot(self.next).is_some_and(|slot| slot.is_some())
    }

    fn take_next(&mut self) -> Option<RtpPacket> {
        if self.waiting == 0 {
            return None;
        }
        let packet = self.slot(self.next)?.take()?.packet;
        self.waiting -= 1;
        self.skip_given();
        Some(packet)
    }

    fn skip_given(&mut self) {
        self.next += 1;
        self.given = self.given << 1 | 1;
    }

    fn skip_lost(&mut self, count: u64) {
        self.next += count;
        self.lost = self.lost.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        self.given = u32::try_from(count).ok().and_then(|count| self.given.checked_shl(count)).unwrap_or(0);
    }

    fn was_given(&self, extended: u64) -> bool {
        let back = self.next.saturating_sub(extended + 1);
        back < 128 && self.given >> back & 1 == 1
    }

    fn oldest_arrival(&self) -> Option<Instant> {
        if self.waiting == 0 {
            return None;
        }
        self.slots.iter().flatten().map(|waiting| waiting.since).min()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const HOLD: Duration = Duration::from_millis(50);

    fn packet(seq: u16) -> RtpPacket {
        packet_of(1, seq)
    }

    fn packet_of(ssrc: u32, seq: u16) -> RtpPacket {
        RtpPacket {
            marker: false,
            payload_type: 96,
            seq,
            rtp_timestamp: 0,
            ssrc,
            payload: Bytes::from_static(b"x"),
        }
    }

    /// A buffer with its own clock; what it gives is kept as (sequence number, lost before).
    struct Bench {
        now: Instant,
        buffer: ReorderBuffer,
        given: Vec<(u16, u32)>,
    }

    impl Bench {
        fn new(depth: usize) -> Self {
            Self { now: Instant::now(), buffer: ReorderBuffer::new(depth, HOLD), given: Vec::new() }
        }

        fn handle(&mut self, packet: RtpPacket) {
            self.buffer.handle_packet(self.now, packet);
            self.poll();
        }

        fn handle_all(&mut self, seqs: impl IntoIterator<Item = u16>) {
            seqs.into_iter().for_each(|seq| self.handle(packet(seq)));
        }

        fn poll(&mut self) {
            while let Some(ordered) = self.buffer.poll_packet(self.now) {
                self.given.push((ordered.packet.seq, ordered.lost_before));
            }
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            self.poll();
        }

        fn take(&mut self) -> Vec<(u16, u32)> {
            std::mem::take(&mut self.given)
        }
    }

    #[test]
    fn packets_in_order_pass_at_once() {
        let mut bench = Bench::new(16);
        bench.handle_all([65534, 65535, 0, 1]);
        assert_eq!(bench.take(), [(65534, 0), (65535, 0), (0, 0), (1, 0)]);
        assert_eq!(bench.buffer.poll_timeout(), None);
        assert_eq!(bench.buffer.statistics(), ReorderStatistics::default());
    }

    #[test]
    fn packets_behind_a_hole_wait_until_it_is_filled() {
        let mut bench = Bench::new(16);
        bench.handle_all([1, 3, 4]);
        assert_eq!(bench.take(), [(1, 0)]);
        bench.handle_all([2]);
        assert_eq!(bench.take(), [(2, 0), (3, 0), (4, 0)]);
        assert_eq!(bench.buffer.poll_timeout(), None);
    }

    #[test]
    fn a_hole_is_given_up_when_its_hold_is_over() {
        let mut bench = Bench::new(16);
        bench.handle_all([1, 4]);
        let hole_seen = bench.now;
        bench.pass(HOLD / 2);
        bench.handle_all([5, 7]);
        assert_eq!(bench.take(), [(1, 0)]);
        assert_eq!(bench.buffer.poll_timeout(), Some(hole_seen + HOLD));
        bench.pass(HOLD / 2);
        assert_eq!(bench.take(), [(4, 2), (5, 0)]);
        assert_eq!(
            bench.buffer.poll_timeout(),
            Some(hole_seen + HOLD / 2 + HOLD),
            "the next hole has its own wait"
        );
        bench.pass(HOLD / 2);
        assert_eq!(bench.take(), [(7, 1)]);
        assert_eq!(bench.buffer.poll_timeout(), None);
        assert_eq!(bench.buffer.statistics().lost, 3);
    }

    #[test]
    fn a_hole_is_given_up_when_depth_is_reached() {
        let mut bench = Bench::new(4);
        bench.handle_all([1, 3, 4, 5]);
        assert_eq!(bench.take(), [(1, 0)]);
        bench.handle_all([6]);
        assert_eq!(bench.take(), [(3, 1), (4, 0), (5, 0), (6, 0)]);
    }

    #[test]
    fn a_long_loss_gives_up_only_what_no_longer_fits() {
        let mut bench = Bench::new(4);
        bench.handle_all([1, 3, 100]);
        assert_eq!(bench.take(), [(1, 0), (3, 1)]);
        bench.handle_all([97, 99, 98]);
        assert_eq!(bench.take(), [(97, 93), (98, 0), (99, 0), (100, 0)]);
    }

    #[test]
    fn duplicates_and_late_packets_are_dropped_and_told_apart() {
        let mut bench = Bench::new(4);
        bench.handle_all([1, 1, 3, 3]);
        bench.pass(HOLD);
        bench.handle_all([2, 1]);
        assert_eq!(bench.take(), [(1, 0), (3, 1)]);
        let statistics = bench.buffer.statistics();
        assert_eq!((statistics.duplicate, statistics.late, statistics.lost), (3, 1, 1));
    }

    #[test]
    fn without_depth_all_pass_at_once_and_loss_is_counted() {
        let mut bench = Bench::new(0);
        bench.handle_all([7, 8, 11, 10, 12, 12]);
        assert_eq!(bench.take(), [(7, 0), (8, 0), (11, 2), (12, 0)]);
        assert_eq!(bench.buffer.poll_timeout(), None);
        let statistics = bench.buffer.statistics();
        assert_eq!((statistics.lost, statistics.late, statistics.duplicate), (2, 1, 1));
    }

    #[test]
    fn a_jump_is_a_restart_once_a_second_packet_follows_it() {
        for depth in [0, 16] {
            let mut bench = Bench::new(depth);
            bench.handle_all([1, 2, 30000]);
            assert_eq!(bench.take(), [(1, 0), (2, 0)]);
            bench.handle_all([30001, 30002]);
            assert_eq!(bench.take(), [(30000, 0), (30001, 0), (30002, 0)]);
            assert_eq!(bench.buffer.statistics().restarts, 1);
            assert_eq!(bench.buffer.statistics().lost, 0);
        }
    }

    #[test]
    fn a_restart_first_gives_what_waits() {
        let mut bench = Bench::new(16);
        bench.handle_all([1, 3, 6, 40000, 40001]);
        assert_eq!(bench.take(), [(1, 0), (3, 1), (6, 2), (40000, 0), (40001, 0)]);
        assert_eq!(bench.buffer.poll_timeout(), None);
    }

    #[test]
    fn a_single_stray_changes_nothing() {
        let mut bench = Bench::new(16);
        bench.handle_all([1, 2, 30000, 3, 50000, 4]);
        assert_eq!(bench.take(), [(1, 0), (2, 0), (3, 0), (4, 0)]);
        assert_eq!(bench.buffer.statistics(), ReorderStatistics { stray: 2, ..Default::default() });
    }

    #[test]
    fn a_new_source_restarts_unless_it_counts_on() {
        let mut bench = Bench::new(16);
        bench.handle_all([1, 2]);
        bench.handle(packet_of(2, 3));
        bench.handle(packet_of(2, 5));
        assert_eq!(bench.take(), [(1, 0), (2, 0), (3, 0)]);
        bench.handle(packet_of(3, 1000));
        bench.handle(packet_of(3, 1001));
        assert_eq!(bench.take(), [(5, 1), (1000, 0), (1001, 0)]);
        assert_eq!(bench.buffer.statistics().restarts, 1);
    }

    #[test]
    fn the_steady_state_allocates_nothing() {
        let mut bench = Bench::new(64);
        let (ready, slots) = (bench.buffer.ready.capacity(), bench.buffer.window.slots.len());
        for round in 0..2000u16 {
            let base = round * 10;
            bench.handle_all([base, base + 3, base + 2, base + 1, base + 5, base + 9, base + 8]);
            bench.pass(HOLD);
        }
        assert_eq!((bench.buffer.ready.capacity(), bench.buffer.window.slots.len()), (ready, slots));
    }

    #[test]
    fn an_absurd_depth_is_clamped() {
        assert_eq!(ReorderBuffer::new(usize::MAX, HOLD).window.slots.len(), MAX_REORDER_DEPTH);
    }

    /// What a link does with one packet.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Arrives { delay_ms: u64 },
        Twice { delay_ms: u64 },
        Lost,
    }

    fn fate() -> impl Strategy<Value = Fate> {
        prop_oneof![
            6 => (0..5u64).prop_map(|delay_ms| Fate::Arrives { delay_ms }),
            2 => (0..80u64).prop_map(|delay_ms| Fate::Arrives { delay_ms }),
            1 => (0..80u64).prop_map(|delay_ms| Fate::Twice { delay_ms }),
            1 => Just(Fate::Lost),
        ]
    }

    /// One packet a millisecond over a link with these fates: (arrival in ms, place in the run), by arrival.
    fn arrivals(fates: &[Fate]) -> Vec<(u64, usize)> {
        let mut arrivals = Vec::new();
        for (index, fate) in fates.iter().enumerate() {
            let sent_ms = index as u64;
            match *fate {
                Fate::Arrives { delay_ms } => arrivals.push((sent_ms + delay_ms, index)),
                Fate::Twice { delay_ms } => {
                    arrivals.push((sent_ms, index));
                    arrivals.push((sent_ms + delay_ms, index));
                }
                Fate::Lost => {}
            }
        }
        arrivals.sort_by_key(|(arrival, _)| *arrival);
        arrivals
    }

    proptest! {
        #[test]
        fn over_any_link_the_output_is_in_order_and_adds_up(
            first_seq: u16,
            depth in 0..100usize,
            fates in prop::collection::vec(fate(), 1..400),
        ) {
            let mut bench = Bench::new(depth);
            let start = bench.now;
            let arrivals = arrivals(&fates);
            for (arrival_ms, index) in &arrivals {
                bench.now = start + Duration::from_millis(*arrival_ms);
                bench.poll();
                bench.handle(packet(first_seq.wrapping_add(*index as u16)));
                prop_assert!(bench.buffer.window.waiting <= depth);
                prop_assert_eq!(bench.buffer.poll_timeout().is_some(), bench.buffer.window.waiting > 0);
            }
            bench.pass(HOLD);
            prop_assert_eq!(bench.buffer.poll_timeout(), None);

            let given = bench.take();
            let Some((first, _)) = given.first().copied() else { return Ok(()); };
            let mut place = u64::from(first.wrapping_sub(first_seq));
            for (seq, lost_before) in &given[1..] {
                place += u64::from(*lost_before) + 1;
                prop_assert_eq!(*seq, first_seq.wrapping_add(place as u16), "in order, and loss adds up");
            }
            let statistics = bench.buffer.statistics();
            prop_assert_eq!(statistics.lost, given.iter().map(|(_, lost)| u64::from(*lost)).sum::<u64>());
            prop_assert_eq!(
                arrivals.len() as u64,
                given.len() as u64 + statistics.duplicate + statistics.late + statistics.stray
            );
            prop_assert_eq!(statistics.restarts, 0);
        }

        #[test]
        fn what_the_depth_and_hold_can_mend_is_mended(
            first_seq: u16,
            delays_ms in prop::collection::vec(0..20u64, 2..300),
        ) {
            let mut fates: Vec<_> = delays_ms.iter().map(|&delay_ms| Fate::Arrives { delay_ms }).collect();
            fates[0] = Fate::Arrives { delay_ms: 0 };
            let mut bench = Bench::new(32);
            let start = bench.now;
            for (arrival_ms, index) in arrivals(&fates) {
                bench.now = start + Duration::from_millis(arrival_ms);
                bench.handle(packet(first_seq.wrapping_add(index as u16)));
            }
            let all: Vec<_> = (0..fates.len()).map(|index| (first_seq.wrapping_add(index as u16), 0)).collect();
            prop_assert_eq!(bench.take(), all);
        }

        #[test]
        fn hostile_numbers_neither_panic_nor_pile_up(
            depth in 0..40usize,
            packets in prop::collection::vec((0..3u32, any::<u16>(), 0..30u64), 0..300),
        ) {
            let mut bench = Bench::new(depth);
            for (ssrc, seq, pause_ms) in packets {
                // Few distinct numbers, so that jumps are confirmed and undone all the time.
                bench.handle(packet_of(ssrc, seq % 8 + seq / 8 % 8 * 8000));
                bench.pass(Duration::from_millis(pause_ms));
                prop_assert!(bench.buffer.window.waiting <= depth);
                let slots = bench.buffer.window.slots.iter().flatten().count();
                prop_assert_eq!(slots, bench.buffer.window.waiting);
            }
        }
    }
}
