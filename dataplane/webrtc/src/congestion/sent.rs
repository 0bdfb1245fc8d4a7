//! What was sent, and when: a ring of groups, not of packets, because the packets of a run leave at one instant.
//!
//! Sequence numbers are unwrapped to 32 bits here, which wrap in turn: they are only compared by their differences.

/// Packets that left within [`GROUP_US`] of the first, numbered one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    /// Sequence number of the first.
    pub first: u32,
    /// When the first left; the low 32 bits of the microseconds.
    sent_us: u32,
    bytes: u32,
    packets: u16,
    /// From the first to the last.
    span_us: u16,
}

impl Group {
    /// When the first left, which is less than an hour ago.
    pub fn sent_us(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(u64::from((now_us as u32).wrapping_sub(self.sent_us)))
    }

    /// From the first to the last packet.
    pub fn span_us(&self) -> u64 {
        u64::from(self.span_us)
    }

    /// Of one packet, on average.
    pub fn packet_bytes(&self) -> u32 {
        self.bytes / u32::from(self.packets.max(1))
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

    /// A run left. A gap in the numbers is a gap; numbers never go back.
    pub fn handle_sent(&mut self, now_us: u64, first_sequence: u16, packets: u16, packet_bytes: u16) {
        if now_us - self.last_us > FORGOTTEN_US {
            self.len = 0;
        }
        let ahead = first_sequence.wrapping_sub(self.next as u16);
        let first = self.next.wrapping_add(u32::from(ahead));
        let bytes = u32::from(packets) * u32::from(packet_bytes);
        self.last_us = now_us;
        self.next = first.wrapping_add(u32::from(packets));
        if ahead > 0 || !self.joined(now_us, packets, bytes) {
            self.newest = (self.newest + 1) % GROUPS_MAX as u8;
            self.len = (self.len + 1).min(GROUPS_MAX as u8);
            self.groups[usize::from(self.newest)] =
                Group { first, sent_us: now_us as u32, bytes, packets, span_us: 0 };
        }
    }

    /// True if it became part of the newest group.
    fn joined(&mut self, now_us: u64, packets: u16, bytes: u32) -> bool {
        let group = &mut self.groups[usize::from(self.newest)];
        let span_us = (now_us as u32).wrapping_sub(group.sent_us);
        let (Ok(span_us), Some(packets), Some(bytes)) =
            (u16::try_from(span_us), group.packets.checked_add(packets), group.bytes.checked_add(bytes))
        else {
            return false;
        };
        let joined = self.len > 0 && span_us <= GROUP_US;
        if joined {
            *group = Group { span_us, packets, bytes, ..*group };
        }
        joined
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

    /// `age` 0 is the oldest.
    fn at(&self, age: u8) -> Option<Group> {
        let behind = self.len.checked_sub(age + 1)?;
        let index = (usize::from(self.newest) + GROUPS_MAX - usize::from(behind)) % GROUPS_MAX;
        Some(self.groups[index])
    }
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

/// At 25 pictures a second and a group each, two and a half seconds; while a large access unit leaves without a pause,
/// a third of one, which is feedback's interval and a round trip.
const GROUPS_MAX: usize = 64;
/// As in draft-ietf-rmcat-gcc-02 section 5.2: what leaves within this is taken as one burst.
const GROUP_US: u16 = 5_000;
/// Feedback on what was sent this long ago is worth nothing, and times of 32 bits of microseconds must not wrap.
const FORGOTTEN_US: u64 = 30_000_000;
const RATE_WINDOW_US: u64 = 2_000_000;
/// A camera that sends nothing for so long is not a slow stream.
const PAUSE_US: u64 = 3_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_by_their_number_over_the_wrap() {
        let mut sent = SentGroups::new();
        for run in 0..5u16 {
            sent.handle_sent(40_000 * u64::from(run) + 7, 65_530u16.wrapping_add(run * 4), 4, 1000 + run);
        }
        let mut cursor = 0;
        for run in 0..5u16 {
            for packet in 0..4 {
                let sequence = sent.unwrap(65_530u16.wrapping_add(run * 4 + packet));
                let group = sent.find(sequence, &mut cursor).unwrap();
                assert_eq!(group.sent_us(1_000_000), 40_000 * u64::from(run) + 7);
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
            sent.handle_sent(at_us, first, 10, 1200);
        }
        assert_eq!(
            (sent.len, sent.find(19, &mut 0).unwrap().span_us(), sent.find(20, &mut 0).unwrap().first),
            (2, 4_000, 20)
        );
    }

    #[test]
    fn a_gap_in_the_numbers_belongs_to_no_group() {
        let mut sent = SentGroups::new();
        sent.handle_sent(0, 0, 10, 1200);
        sent.handle_sent(0, 20, 10, 1200);
        let mut cursor = 0;
        assert_eq!(
            (sent.find(15, &mut cursor).is_none(), sent.find(20, &mut cursor).unwrap().first),
            (true, 20)
        );
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let mut sent = SentGroups::new();
        (0..100u16).for_each(|run| sent.handle_sent(10_000 * u64::from(run), run * 2, 2, 1200));
        assert_eq!((sent.oldest(), sent.next()), (72, 200));
        assert!(sent.find(71, &mut 0).is_none() && sent.find(72, &mut 0).is_some());
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
