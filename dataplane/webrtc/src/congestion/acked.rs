//! What arrived, and how fast: over half a second, and in trains of packets that left without a pause.

/// The rate at which packets arrived lately, by the receiver's clock.
#[derive(Debug)]
pub(super) struct AckedRate {
    /// Bytes that arrived in each of the last slots; a slot is found by its number's remainder.
    slots: [u32; SLOTS],
    /// First and last slot with something in it.
    started: i64,
    newest: i64,
    last_us: i64,
}

impl AckedRate {
    pub fn new() -> Self {
        Self { slots: [0; SLOTS], started: i64::MAX, newest: i64::MIN, last_us: 0 }
    }

    /// A packet arrived. One that is later than the window is left out.
    pub fn handle_arrival(&mut self, arrival_us: i64, bytes: u32) {
        let slot = arrival_us.div_euclid(SLOT_US);
        let oldest_known = self.newest.saturating_sub(SLOTS as i64 - 1);
        if slot > self.newest.saturating_add(SLOTS as i64 - 1) {
            *self = Self { slots: [0; SLOTS], started: slot, newest: slot, last_us: arrival_us };
        } else if slot < oldest_known {
            return;
        }
        for empty in self.newest + 1..=slot {
            self.slots[index(empty)] = 0;
        }
        self.newest = self.newest.max(slot);
        self.started = self.started.min(slot);
        self.last_us = self.last_us.max(arrival_us);
        let bytes_in_slot = &mut self.slots[index(slot)];
        *bytes_in_slot = bytes_in_slot.saturating_add(bytes);
    }

    /// In bit/s; `None` before a quarter of a second.
    pub fn bps(&self) -> Option<f64> {
        let first = self.started.max(self.newest.saturating_sub(SLOTS as i64 - 1));
        let span_us = self.last_us.saturating_sub(first.saturating_mul(SLOT_US));
        let bytes: u64 = self.slots.iter().map(|bytes| u64::from(*bytes)).sum();
        (span_us >= SPAN_US_MIN).then(|| bytes as f64 * 8e6 / span_us as f64)
    }
}

fn index(slot: i64) -> usize {
    slot.rem_euclid(SLOTS as i64) as usize
}

/// Groups that left one after the other: what arrives of them in a time shows what the path carries.
#[derive(Debug, Default)]
pub(super) struct Train {
    /// Of the first group, whose bytes do not count: they arrived before its last.
    first: Option<Passage>,
    last: Passage,
    bytes: u64,
}

/// When a group left and arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passage {
    /// Its last packet left.
    pub sent_us: u64,
    /// Its last packet arrived, by the receiver's clock.
    pub arrival_us: i64,
}

impl Train {
    /// A group has arrived; the rate that the path has shown to carry, in bit/s, once there is enough of a train.
    ///
    /// It is the slower of sending and arriving: packets that were held up and arrive all at once prove nothing.
    pub fn handle_group(&mut self, group: Passage, bytes: u32) -> Option<f64> {
        let follows = group.sent_us.saturating_sub(self.last.sent_us) <= TRAIN_PAUSE_US;
        self.last = group;
        let first = self.first.filter(|first| {
            follows && group.arrival_us > first.arrival_us && group.sent_us - first.sent_us <= TRAIN_US_MAX
        });
        let Some(first) = first else {
            (self.first, self.bytes) = (Some(group), 0);
            return None;
        };
        self.bytes += u64::from(bytes);
        let arriving_us = (group.arrival_us - first.arrival_us) as u64;
        let span_us = arriving_us.max(group.sent_us - first.sent_us);
        let enough = self.bytes >= TRAIN_BYTES_MIN && span_us >= TRAIN_US_MIN;
        enough.then(|| self.bytes as f64 * 8e6 / span_us as f64)
    }
}

const SLOTS: usize = 8;
/// Eight of them are about half a second.
const SLOT_US: i64 = 64_000;
const SPAN_US_MIN: i64 = 250_000;
/// Longer than a pacer's turn, shorter than the time between pictures of most cameras.
const TRAIN_PAUSE_US: u64 = 20_000;
/// Less is noise of the receiver's clock and of its interrupts.
const TRAIN_US_MIN: u64 = 5_000;
const TRAIN_BYTES_MIN: u64 = 30_000;
/// Then another begins, so that what it says is of now.
const TRAIN_US_MAX: u64 = 500_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_half_second() {
        let mut acked = AckedRate::new();
        assert_eq!(acked.bps(), None);
        let mut at_us = -3_000_000;
        for (bytes, expected) in [(1250, 1e6), (5000, 4e6)] {
            for _ in 0..100 {
                at_us += 10_000;
                acked.handle_arrival(at_us, bytes);
            }
            let bps = acked.bps().unwrap();
            assert!((bps / expected - 1.0).abs() < 0.05, "{bps} for {expected}");
        }
    }

    #[test]
    fn after_a_silence_it_is_learnt_anew() {
        let mut acked = AckedRate::new();
        (0..100).for_each(|index| acked.handle_arrival(10_000 * index, 1250));
        acked.handle_arrival(60_000_000, 1250);
        assert_eq!(acked.bps(), None);
    }

    #[test]
    fn late_arrivals_do_no_harm() {
        let mut acked = AckedRate::new();
        for at_us in [i64::MAX, i64::MIN, 0, i64::MAX / 2, -5] {
            acked.handle_arrival(at_us, u32::MAX);
            assert!(acked.bps().is_none_or(|bps| bps.is_finite() && bps >= 0.0));
        }
    }

    #[test]
    fn a_train_shows_the_slower_of_sending_and_arriving() {
        for (sending_us, arriving_us) in [(5_000, 10_000), (10_000, 5_000)] {
            let mut train = Train::default();
            let rate = (0..20u32).filter_map(|index| {
                let sent_us = 7 + u64::from(index) * sending_us;
                train.handle_group(Passage { sent_us, arrival_us: i64::from(index) * arriving_us }, 12_500)
            });
            let rate = rate.last().unwrap();
            assert!((rate - 10e6).abs() < 1.0, "{rate}");
        }
    }

    #[test]
    fn pictures_one_by_one_are_no_train() {
        let mut train = Train::default();
        for index in 0..100 {
            let passage = Passage { sent_us: index * 40_000, arrival_us: index as i64 * 40_000 };
            assert_eq!(train.handle_group(passage, 20_000), None);
        }
    }
}
