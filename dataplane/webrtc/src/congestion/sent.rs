//! What was sent, and when: a ring of groups, not of packets, because the packets of a run leave at one instant.
//!
//! Sequence numbers are unwrapped to 32 bits here, which wrap in turn: they are only compared by their differences.

/// Packets that left within [`GROUP_US`] of the first, numbered one after the other; older ones, of several such groups.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    /// Sequence number of the first.
    pub first: u32,
    /// When the first left; the low 32 bits of the microseconds.
    sent_us: u32,
    /// From the first to the last.
    span_us: u32,
    packets: u16,
    /// On average.
    packet_bytes: u16,
}

impl Group {
    /// When a packet of it left, which is less than an hour ago, as if they all left at an even pace.
    pub fn sent_us(&self, now_us: u64, sequence: u32) -> u64 {
        let (behind, steps) = (sequence.wrapping_sub(self.first), u32::from(self.packets).max(2) - 1);
        self.first_us(now_us) + u64::from(self.span_us) * u64::from(behind) / u64::from(steps)
    }

    /// When the last packet left.
    pub fn last_us(&self, now_us: u64) -> u64 {
        self.first_us(now_us) + u64::from(self.span_us)
    }

    fn first_us(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(u64::from((now_us as u32).wrapping_sub(self.sent_us)))
    }

    /// Of one packet, on average.
    pub fn packet_bytes(&self) -> u32 {
        u32::from(self.packet_bytes)
    }

    /// Both, if the other follows at once, and within so long.
    fn joined(&self, other: &Self, span_us_max: u32) -> Option<Self> {
        let packets = self.packets.checked_add(other.packets)?;
        let span_us = other.sent_us.wrapping_add(other.span_us).wrapping_sub(self.sent_us);
        let follows = self.first.wrapping_add(u32::from(self.packets)) == other.first;
        let bytes = self.bytes() + other.bytes();
        let packet_bytes = (bytes / u32::from(packets.max(1))) as u16;
        (follows && span_us <= span_us_max).then_some(Self { span_us, packets, packet_bytes, ..*self })
    }

    fn bytes(&self) -> u32 {
        u32::from(self.packets) * u32::from(self.packet_bytes)
    }
}

/// The last groups sent, oldest first from `newest + 1 - len`.
#[derive(Debug)]
pub(super) struct SentGroups {
    groups: [Group; GROUPS_MAX],
    newest: u8,
    len: u8,
    next: u32,
    last_us: u64,
}

impl SentGroups {
    pub fn new() -> Self {
        Self { groups: [Group::default(); GROUPS_MAX], newest: 0, len: 0, next: 0, last_us: 0 }
    }

    /// The sequence number behind the last one sent.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// The oldest sequence number still known.
    pub fn oldest(&self) -> u32 {
        self.at(0).map_or(self.next, |group| group.first)
    }

    /// When something was sent for the last time.
    pub fn last_us(&self) -> u64 {
        self.last_us
    }

    /// A run left. A gap in the numbers is a gap; numbers never go back. What was `reported` may be forgotten.
    pub fn handle_sent(&mut self, now_us: u64, run: Run, reported: u32) {
        if now_us - self.last_us > FORGOTTEN_US {
            self.len = 0;
        }
        let ahead = run.first_sequence.wrapping_sub(self.next as u16);
        let first = self.next.wrapping_add(u32::from(ahead));
        let Run { packets, packet_bytes, .. } = run;
        self.last_us = now_us;
        self.next = first.wrapping_add(u32::from(packets));
        let group = Group { first, sent_us: now_us as u32, span_us: 0, packets, packet_bytes };
        let newest = self.len.checked_sub(1).and_then(|place| self.at(place));
        if let Some(joined) = newest.and_then(|newest| newest.joined(&group, GROUP_US)) {
            self.groups[usize::from(self.newest)] = joined;
            return;
        }
        if usize::from(self.len) == GROUPS_MAX && !is_before(self.oldest(), reported) {
            self.coarsen();
            // Feedback that is so late is about the oldest first, and must find them.
            if usize::from(self.len) == GROUPS_MAX
                && now_us - self.groups[self.index(0)].first_us(now_us) < KEPT_US
            {
                return;
            }
        }
        self.newest = (self.newest + 1) % GROUPS_MAX as u8;
        self.len = (self.len + 1).min(GROUPS_MAX as u8);
        self.groups[usize::from(self.newest)] = group;
    }

    /// Joins the groups of the older half by twos: feedback on all of them is still to come, a queue's length late.
    fn coarsen(&mut self) {
        let (mut read, mut free) = (self.len / 2, self.len / 2);
        while let Some(later) = read.checked_sub(1) {
            let (mut group, earlier) = (self.groups[self.index(later)], later.checked_sub(1));
            read = later;
            if let Some(earlier) = earlier
                && let Some(joined) = self.groups[self.index(earlier)].joined(&group, COARSE_US)
            {
                (group, read) = (joined, earlier);
            }
            free -= 1;
            let index = self.index(free);
            self.groups[index] = group;
        }
        self.len -= free;
    }

    /// A sequence number of the wire as the last one sent that has these 16 bits.
    pub fn unwrap(&self, sequence: u16) -> u32 {
        let last = self.next.wrapping_sub(1);
        last.wrapping_sub(u32::from((last as u16).wrapping_sub(sequence)))
    }

    /// The group of a packet. `cursor` begins at 0 and goes along with rising sequence numbers.
    pub fn find(&self, sequence: u32, cursor: &mut u8) -> Option<Group> {
        while let Some(group) = self.at(*cursor) {
            if is_before(sequence, group.first) {
                return None;
            }
            if sequence.wrapping_sub(group.first) < u32::from(group.packets) {
                return Some(group);
            }
            *cursor += 1;
        }
        None
    }

    /// `place` 0 is the oldest.
    fn at(&self, place: u8) -> Option<Group> {
        (place < self.len).then(|| self.groups[self.index(place)])
    }

    /// `place` is below `len`.
    fn index(&self, place: u8) -> usize {
        let behind = usize::from(self.len - 1 - place);
        (usize::from(self.newest) + GROUPS_MAX - behind) % GROUPS_MAX
    }
}

/// Packets that left at one instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Of the first, as on the wire.
    pub first_sequence: u16,
    pub packets: u16,
    pub packet_bytes: u16,
}

/// In the order of sending.
pub(super) fn is_before(sequence: u32, other: u32) -> bool {
    (sequence.wrapping_sub(other) as i32) < 0
}

/// The rate at which the stream leaves, over some GOPs.
#[derive(Debug)]
pub(super) struct SentRate {
    /// Start of the window, once something left in it.
    since_us: Option<u64>,
    bytes: u64,
    bps: Option<f64>,
    last_us: u64,
}

impl SentRate {
    pub fn new() -> Self {
        Self { since_us: None, bytes: 0, bps: None, last_us: 0 }
    }

    /// `bytes` left.
    pub fn handle_sent(&mut self, now_us: u64, bytes: u64) {
        if now_us - self.last_us > PAUSE_US {
            self.pause();
        }
        self.last_us = now_us;
        let since_us = *self.since_us.get_or_insert(now_us);
        let window_us = now_us - since_us;
        if window_us >= RATE_WINDOW_US {
            let bps = self.bytes as f64 * 8e6 / window_us as f64;
            self.bps = Some(self.bps.map_or(bps, |before| (before + bps) / 2.0));
            (self.since_us, self.bytes) = (Some(now_us), 0);
        }
        self.bytes += bytes;
    }

    /// Nothing leaves for a while, and that says nothing of the stream.
    pub fn pause(&mut self) {
        (self.since_us, self.bytes) = (None, 0);
    }

    /// In bit/s; `None` in the first two seconds.
    pub fn bps(&self) -> Option<f64> {
        self.bps
    }
}

/// At 25 pictures a second and a group each, two seconds; coarsened, some more.
const GROUPS_MAX: usize = 48;
/// As in draft-ietf-rmcat-gcc-02 section 5.2: what leaves within this is taken as one burst.
const GROUP_US: u32 = 5_000;
/// A coarse group still tells a queue of half a second from none.
const COARSE_US: u32 = 250_000;
/// A queue that is longer than this has been seen by then.
const KEPT_US: u64 = 10_000_000;
/// Feedback on what was sent this long ago is worth nothing, and times of 32 bits of microseconds must not wrap.
const FORGOTTEN_US: u64 = 30_000_000;
const RATE_WINDOW_US: u64 = 2_000_000;
/// A camera that sends nothing for so long is not a slow stream.
const PAUSE_US: u64 = 3_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn send(sent: &mut SentGroups, now_us: u64, first_sequence: u16, packets: u16, packet_bytes: u16) {
        let reported = sent.next();
        sent.handle_sent(now_us, Run { first_sequence, packets, packet_bytes }, reported);
    }

    #[test]
    fn packets_are_found_by_their_number_over_the_wrap() {
        let mut sent = SentGroups::new();
        for run in 0..5u16 {
            send(&mut sent, 40_000 * u64::from(run) + 7, 65_530u16.wrapping_add(run * 4), 4, 1000 + run);
        }
        let mut cursor = 0;
        for run in 0..5u16 {
            for packet in 0..4 {
                let sequence = sent.unwrap(65_530u16.wrapping_add(run * 4 + packet));
                let group = sent.find(sequence, &mut cursor).unwrap();
                assert_eq!(group.sent_us(1_000_000, sequence), 40_000 * u64::from(run) + 7);
                assert_eq!(group.packet_bytes(), 1000 + u32::from(run));
            }
        }
        assert!(sent.find(sent.next(), &mut cursor).is_none());
        assert!(sent.find(sent.oldest().wrapping_sub(1), &mut 0).is_none());
    }

    #[test]
    fn what_leaves_within_five_milliseconds_is_one_group() {
        let mut sent = SentGroups::new();
        for (at_us, first) in [(0, 0), (4_000, 10), (8_000, 20)] {
            send(&mut sent, at_us, first, 10, 1200);
        }
        let group = sent.find(19, &mut 0).unwrap();
        assert_eq!((sent.len, group.first, group.last_us(9_000)), (2, 0, 4_000));
        assert_eq!(sent.find(20, &mut 0).unwrap().first, 20);
    }

    #[test]
    fn a_gap_in_the_numbers_belongs_to_no_group() {
        let mut sent = SentGroups::new();
        send(&mut sent, 0, 0, 10, 1200);
        send(&mut sent, 0, 20, 10, 1200);
        let mut cursor = 0;
        assert!(sent.find(15, &mut cursor).is_none());
        assert_eq!(sent.find(20, &mut cursor).unwrap().first, 20);
    }

    #[test]
    fn what_was_reported_is_forgotten_first() {
        let mut sent = SentGroups::new();
        (0..100u16).for_each(|run| send(&mut sent, 10_000 * u64::from(run), run * 2, 2, 1200));
        assert_eq!((sent.oldest(), sent.next()), (104, 200));
        assert!(sent.find(103, &mut 0).is_none() && sent.find(104, &mut 0).is_some());
    }

    #[test]
    fn what_waits_for_feedback_is_kept_for_seconds_though_coarser() {
        let mut sent = SentGroups::new();
        let run = |index: u16| Run { first_sequence: index * 2, packets: 2, packet_bytes: 1000 + index };
        let now_us = |index: u16| 10_000 * u64::from(index);
        for index in 0..300 {
            sent.handle_sent(now_us(index), run(index), 0);
            let mut cursor = 0;
            for sequence in 0..sent.next() {
                let group = sent.find(sequence, &mut cursor).unwrap();
                let (at_us, exact_us) = (group.sent_us(now_us(index), sequence), now_us(sequence as u16 / 2));
                assert!(at_us.abs_diff(exact_us) <= 10_000, "{sequence} at {index}: {at_us}, not {exact_us}");
            }
        }
        // Then the newest are left out, until the oldest are too old.
        for (from, until, oldest_at_most) in [(300, 1000, 0), (1000, 2000, 2000)] {
            (from..until).for_each(|index| sent.handle_sent(now_us(index), run(index), 0));
            assert!(sent.oldest() <= oldest_at_most && sent.next() == 2 * u32::from(until));
        }
        assert!(sent.oldest() > 0);
    }

    #[test]
    fn a_pause_does_not_lower_the_stream_s_rate() {
        let mut rate = SentRate::new();
        let mut now_us = 0;
        for second in [0, 60] {
            now_us += second * 1_000_000;
            for _ in 0..100 {
                now_us += 40_000;
                rate.handle_sent(now_us, 20_000);
            }
        }
        assert!((rate.bps().unwrap() - 4e6).abs() < 1e5, "{rate:?}");
    }
}
