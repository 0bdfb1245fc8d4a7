//! Puts a stream's packets in order, and waits a while for those that are missing: what comes out is what is left to
//! play after retransmission.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Moment;

/// The packets of one SSRC.
#[derive(Clone, Debug, Default)]
pub struct Reorder<T> {
    /// The next sequence number to give out, extended.
    next: Option<u64>,
    newest: u64,
    waiting: BTreeMap<u64, (Moment, T)>,
    recovered: u64,
    given_up: u64,
}

/// What a packet was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is, or will be, given out.
    Taken,
    /// It came already, or after it had been given up.
    Stale,
}

impl<T> Reorder<T> {
    /// Takes a packet.
    pub fn push(&mut self, now: Moment, sequence_number: u16, packet: T) -> Admission {
        let first = (1 << 16) + u64::from(sequence_number);
        if self.next.is_none() {
            (self.next, self.newest) = (Some(first), first);
        }
        let next = self.next.unwrap_or(first);
        let step = sequence_number.wrapping_sub(self.newest as u16).cast_signed();
        let extended = self.newest.saturating_add_signed(step.into());
        if extended < next || self.waiting.contains_key(&extended) {
            return Admission::Stale;
        }
        self.recovered += u64::from(extended < self.newest);
        self.newest = self.newest.max(extended);
        self.waiting.insert(extended, (now, packet));
        Admission::Taken
    }

    /// The next packet in order, with when it came; over a gap once it has been waited for.
    pub fn pop(&mut self, now: Moment) -> Option<(Moment, T)> {
        let entry = self.waiting.first_entry()?;
        let next = self.next.unwrap_or(*entry.key());
        let missing = entry.key() - next;
        let full = self.newest - next >= WAITING_MAX;
        if missing > 0 && entry.get().0 + PATIENCE > now && !full {
            return None;
        }
        self.given_up += missing;
        self.next = Some(entry.key() + 1);
        Some(entry.remove())
    }

    /// When [`Reorder::pop`] gives up a gap.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.waiting.first_key_value().map(|(_, (came, _))| *came + PATIENCE)
    }

    /// Packets that filled a gap.
    pub fn recovered(&self) -> u64 {
        self.recovered
    }

    /// Packets that were waited for in vain.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Nothing is waited for any more: all that is left, in order.
    pub fn finish(&mut self) -> impl Iterator<Item = (Moment, T)> {
        std::mem::take(&mut self.waiting).into_values()
    }
}

/// Ten retransmission requests of the peer's stack, which asks each 100 ms.
const PATIENCE: Duration = Duration::from_secs(1);

/// More than a second of 4K; a quarter of the sequence numbers.
const WAITING_MAX: u64 = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_ns(ms * 1_000_000)
    }

    fn drain(reorder: &mut Reorder<u16>, now: Moment) -> Vec<u16> {
        std::iter::from_fn(|| reorder.pop(now)).map(|(_, packet)| packet).collect()
    }

    #[test]
    fn a_late_packet_takes_its_place_over_the_wrap() {
        let mut reorder = Reorder::default();
        for number in [65_534, 0, 1] {
            assert_eq!(reorder.push(at(0), number, number), Admission::Taken);
        }
        assert_eq!(drain(&mut reorder, at(0)), [65_534]);
        assert_eq!(reorder.push(at(500), 65_535, 65_535), Admission::Taken);
        assert_eq!(drain(&mut reorder, at(500)), [65_535, 0, 1]);
        assert_eq!(reorder.push(at(500), 0, 0), Admission::Stale);
        assert_eq!((reorder.recovered(), reorder.given_up()), (1, 0));
    }

    #[test]
    fn a_gap_is_given_up_after_a_while() {
        let mut reorder = Reorder::default();
        reorder.push(at(0), 5, 5);
        reorder.push(at(10), 8, 8);
        assert_eq!(drain(&mut reorder, at(10)), [5]);
        assert_eq!(reorder.poll_timeout(), Some(at(1010)));
        assert!(drain(&mut reorder, at(1009)).is_empty());
        assert_eq!(drain(&mut reorder, at(1010)), [8]);
        assert_eq!(reorder.given_up(), 2);
        assert_eq!(reorder.push(at(1010), 6, 6), Admission::Stale);
    }

    #[test]
    fn the_end_gives_all_that_is_left() {
        let mut reorder = Reorder::default();
        for number in [5, 9, 7] {
            reorder.push(at(0), number, number);
        }
        assert_eq!(reorder.finish().map(|(_, packet)| packet).collect::<Vec<_>>(), [5, 7, 9]);
    }
}
