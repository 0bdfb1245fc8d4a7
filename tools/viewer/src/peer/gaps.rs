//! Which sequence numbers are missing, what of that is to be asked for again, and what came back.
//!
//! What counts as lost is `continuity.rs`; how a request looks on the wire is `feedback.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Moment;

/// The sequence numbers that one stream lacks.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    newest: Option<u64>,
    missing: BTreeMap<u64, Request>,
    due: Option<Moment>,
}

/// How often a packet was asked for, and when again.
#[derive(Clone, Copy, Debug)]
struct Request {
    sent: u8,
    next: Moment,
}

/// What a sequence number was to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Newer than all before.
    New,
    /// It was missing.
    Filled,
    /// It had come, or is too old to know.
    Known,
}

impl Gaps {
    /// Takes note of a packet, whether it came by itself or again.
    pub fn handle_packet(&mut self, now: Moment, sequence_number: u16) -> Arrival {
        let Some(newest) = self.newest else {
            // Not at zero, so that what is before the first has a place.
            self.newest = Some((1 << 16) + u64::from(sequence_number));
            return Arrival::New;
        };
        let step = sequence_number.wrapping_sub(newest as u16).cast_signed();
        if step <= 0 {
            let extended = newest.saturating_add_signed(step.into());
            return if self.missing.remove(&extended).is_some() { Arrival::Filled } else { Arrival::Known };
        }
        let extended = newest + u64::from(step.unsigned_abs());
        self.newest = Some(extended);
        if step > 1 {
            self.add(now, newest + 1..extended);
        }
        Arrival::New
    }

    /// The highest sequence number so far, with its cycles (RFC 3550 section 6.4.1).
    pub fn newest_extended(&self) -> u32 {
        self.newest.map_or(0, |newest| (newest - (1 << 16)) as u32)
    }

    /// When [`Gaps::take_requests`] is next due.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.due
    }

    /// The sequence numbers to ask for now, in their order, and what was given up is forgotten.
    pub fn take_requests(&mut self, now: Moment) -> Vec<u16> {
        let mut wanted = Vec::new();
        self.missing.retain(|extended, request| {
            if request.next > now {
                return true;
            }
            if request.sent == REQUESTS_MAX {
                return false;
            }
            wanted.push(*extended as u16);
            *request = Request { sent: request.sent + 1, next: now + REPEAT_INTERVAL };
            true
        });
        self.due = self.missing.values().map(|request| request.next).min();
        wanted
    }

    fn add(&mut self, now: Moment, lost: std::ops::Range<u64>) {
        let request = Request { sent: 0, next: now + REORDER_PATIENCE };
        for extended in lost.rev().take(MISSING_MAX) {
            self.missing.insert(extended, request);
        }
        while self.missing.len() > MISSING_MAX {
            self.missing.pop_first();
        }
        self.due = Some(self.due.map_or(request.next, |due| due.min(request.next)));
    }
}

/// A packet that is only late is not asked for.
const REORDER_PATIENCE: Duration = Duration::from_millis(5);

/// More than a round trip to most servers.
const REPEAT_INTERVAL: Duration = Duration::from_millis(100);

/// As browsers do (libwebrtc's `kMaxNackRetries`).
const REQUESTS_MAX: u8 = 10;

/// As browsers do (libwebrtc's `kMaxNackPackets`): with more than that missing, a new picture is cheaper.
const MISSING_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_ns(ms * 1_000_000)
    }

    #[test]
    fn a_hole_is_asked_for_until_it_is_filled() {
        let mut gaps = Gaps::default();
        gaps.handle_packet(at(0), 65_534);
        assert_eq!(gaps.handle_packet(at(1), 1), Arrival::New);
        assert_eq!(gaps.poll_timeout(), Some(at(6)));
        assert!(gaps.take_requests(at(5)).is_empty());
        assert_eq!(gaps.take_requests(at(6)), [65_535, 0]);
        assert_eq!(gaps.handle_packet(at(7), 65_535), Arrival::Filled);
        assert_eq!(gaps.handle_packet(at(7), 65_535), Arrival::Known);
        assert_eq!(gaps.take_requests(at(106)), [0]);
        assert_eq!(gaps.newest_extended(), (1 << 16) + 1);
    }

    #[test]
    fn nothing_is_asked_for_forever_and_not_everything_at_once() {
        let mut gaps = Gaps::default();
        gaps.handle_packet(at(0), 0);
        gaps.handle_packet(at(0), 30_000);
        let mut asked = 0;
        while let Some(due) = gaps.poll_timeout() {
            asked += gaps.take_requests(due).len();
        }
        assert_eq!(asked, MISSING_MAX * usize::from(REQUESTS_MAX));
    }

    #[test]
    fn what_is_older_than_the_first_packet_is_known() {
        let mut gaps = Gaps::default();
        gaps.handle_packet(at(0), 3);
        assert_eq!(gaps.handle_packet(at(0), 65_000), Arrival::Known);
    }
}
