//! The catalogue's number of a segment: its stream and its start in one integer, so that the table of segments is in the
//! order in which everything is looked up, without an index beside it.

use lanecast_shard::SegmentId;

/// A stream and a time in it. Orders by stream, then by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    stream: u32,
    start_unix_ms: i64,
}

impl Key {
    /// `None` where one of them is out of range.
    pub(super) fn new(stream: u32, start_unix_ms: i64) -> Option<Self> {
        let fits = stream <= STREAM_MAX && (0..=START_MAX).contains(&start_unix_ms);
        fits.then_some(Self { stream, start_unix_ms })
    }

    /// The key of this time, or of the nearest that there can be.
    pub(super) fn nearest(stream: u32, start_unix_ms: i64) -> Self {
        Self { stream: stream.min(STREAM_MAX), start_unix_ms: start_unix_ms.clamp(0, START_MAX) }
    }

    /// The first of a stream.
    pub(super) fn first(stream: u32) -> Self {
        Self::nearest(stream, 0)
    }

    /// The last of a stream.
    pub(super) fn last(stream: u32) -> Self {
        Self::nearest(stream, START_MAX)
    }

    /// `None`: no number that was ever given out.
    pub(super) fn of(segment: SegmentId) -> Option<Self> {
        let stream = u32::try_from(segment.0 >> START_BITS).ok()?;
        Self::new(stream, segment.0 & START_MAX)
    }

    pub(super) fn segment(self) -> SegmentId {
        SegmentId(i64::from(self.stream) << START_BITS | self.start_unix_ms)
    }

    pub(super) fn stream(self) -> u32 {
        self.stream
    }

    pub(super) fn start_unix_ms(self) -> i64 {
        self.start_unix_ms
    }

    /// A millisecond later.
    pub(super) fn next(self) -> Option<Self> {
        Self::new(self.stream, self.start_unix_ms + 1)
    }
}

/// Milliseconds up to the year 2527.
const START_BITS: u32 = 44;
pub(super) const START_MAX: i64 = (1 << START_BITS) - 1;
/// What is left of 63 bits: half a million streams in the life of a catalogue.
pub(super) const STREAM_MAX: u32 = (1 << (63 - START_BITS)) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_from_its_number() {
        for (stream, start) in [(0, 0), (1, 1_790_000_000_123), (STREAM_MAX, START_MAX)] {
            let key = Key::new(stream, start).unwrap();
            assert!(key.segment().0 >= 0);
            assert_eq!(Key::of(key.segment()), Some(key));
        }
    }

    #[test]
    fn numbers_are_in_the_order_of_stream_and_time() {
        let keys = [(1, 0), (1, 5), (1, START_MAX), (2, 0), (2, 7)];
        let numbers = keys.map(|(stream, start)| Key::new(stream, start).unwrap().segment());
        assert!(numbers.is_sorted());
    }

    #[test]
    fn what_is_out_of_range_has_no_key() {
        for (stream, start) in [(1, -1), (1, START_MAX + 1), (STREAM_MAX + 1, 0), (0, i64::MIN)] {
            assert_eq!(Key::new(stream, start), None);
        }
        assert_eq!(Key::of(SegmentId(-1)), None);
        assert_eq!(Key::last(3).next(), None);
    }
}
