//! What goes next, if anything must. The oldest goes first.
//!
//! Everything is decided by sums that are kept, so a decision costs a look at each stream and no walk through segments. Not
//! here: how a segment is removed, and how many at a time.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::Retention;
use super::database::Segment;
use super::streams::{Stream, Streams};

impl Retention {
    /// The stream whose oldest segment must go, but none of those whose files cannot be removed at the moment.
    /// `free_bytes`: of the disk, if that is known.
    pub(super) fn next(
        &self,
        streams: &Streams,
        but: &BTreeSet<u32>,
        now_unix_ms: i64,
        free_bytes: Option<u64>,
    ) -> Option<u32> {
        let oldest = oldest(streams, but)?;
        if self.is_too_old(oldest.oldest.as_ref()?, now_unix_ms) || self.is_too_much(streams, free_bytes) {
            return Some(oldest.row.number);
        }
        let bound = self.stream_bytes_max?;
        let over = |stream: &&Stream| stream.bytes() > bound && can_shrink(stream, but);
        streams.iter().find(over).map(|stream| stream.row.number)
    }

    /// True if there is anything to watch.
    pub(super) fn is_bounded(&self) -> bool {
        *self != Self::default()
    }

    fn is_too_old(&self, segment: &Segment, now_unix_ms: i64) -> bool {
        let Some(age_max) = self.age_max else { return false };
        let age_max_ms = i64::try_from(age_max.as_millis()).unwrap_or(i64::MAX);
        segment.end_unix_ms() < now_unix_ms.saturating_sub(age_max_ms)
    }

    fn is_too_much(&self, streams: &Streams, free_bytes: Option<u64>) -> bool {
        let bytes = || streams.iter().fold(0u64, |sum, stream| sum.saturating_add(stream.bytes()));
        self.bytes_max.is_some_and(|bound| bytes() > bound)
            || self.free_bytes_min.zip(free_bytes).is_some_and(|(bound, free)| free < bound)
    }
}

/// The stream with the oldest segment that is not open.
fn oldest<'a>(streams: &'a Streams, but: &BTreeSet<u32>) -> Option<&'a Stream> {
    let start = |stream: &&Stream| stream.oldest.as_ref().map(Segment::start_unix_ms);
    streams.iter().filter(|stream| can_shrink(stream, but)).min_by_key(start)
}

fn can_shrink(stream: &Stream, but: &BTreeSet<u32>) -> bool {
    stream.oldest.is_some() && !but.contains(&stream.row.number)
}

/// What removed files will free. Some disks say so only later, and a file that is played is freed after that; without this,
/// everything would be removed meanwhile.
#[derive(Debug, Default)]
pub(super) struct DiskSpace {
    promised: VecDeque<(Instant, u64)>,
}

impl DiskSpace {
    /// A file of so many bytes was removed; what was free before and is after.
    pub(super) fn handle_removed(
        &mut self,
        now: Instant,
        bytes: u64,
        before: Option<u64>,
        after: Option<u64>,
    ) {
        let Some((before, after)) = before.zip(after) else { return };
        let before = before.saturating_sub(self.promised(now));
        if after < before.saturating_add(bytes / 2) {
            self.promised.push_back((now + PROMISE, bytes));
        }
    }

    /// Bytes that are to come.
    pub(super) fn promised(&mut self, now: Instant) -> u64 {
        while self.promised.front().is_some_and(|(until, _)| *until <= now) {
            self.promised.pop_front();
        }
        self.promised.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Longer than a file system keeps a transaction.
const PROMISE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::super::database::{Database, State, StreamRow, Totals};
    use super::super::key::Key;
    use super::*;
    use crate::source_id::SourceId;
    use lanecast_protocol::codec::Codec;

    /// Streams by number with the start of their oldest segment, which lasts a minute, and their bytes.
    fn streams(all: &[(u32, i64, u64)]) -> Streams {
        let directory = tempfile::tempdir().unwrap();
        let mut database = Database::open(&directory.path().join("x")).unwrap();
        let mut streams = Streams::default();
        for &(number, start, bytes) in all {
            let source_id = SourceId::Number(u64::from(number));
            assert_eq!(database.add_stream(&source_id, &number.to_string()).unwrap(), number);
            let segment = Segment {
                key: Key::new(number, start).unwrap(),
                duration_ms: 60_000,
                bytes,
                codec: Codec::H264,
                state: State::Closed,
            };
            let change = super::super::database::Change::Add(&segment, b"");
            database.apply(super::super::database::Durability::Lazy, &[change]).unwrap();
            streams.add(StreamRow { number, source_id, folder: number.to_string() });
            streams.refresh(&database, number, &Default::default()).unwrap();
            assert_eq!(streams.get(number).unwrap().totals, Totals { bytes, segments: 1 });
        }
        streams
    }

    const DAY: u64 = 86_400;
    const NONE: BTreeSet<u32> = BTreeSet::new();

    #[test]
    fn without_a_bound_everything_stays() {
        let streams = streams(&[(1, 0, u64::MAX >> 1)]);
        assert_eq!(Retention::default().next(&streams, &NONE, i64::MAX, Some(0)), None);
        assert!(!Retention::default().is_bounded());
    }

    #[test]
    fn what_ended_too_long_ago_goes() {
        let streams = streams(&[(1, 100_000, 1), (2, 0, 1)]);
        let retention = Retention { age_max: Some(Duration::from_secs(DAY)), ..Default::default() };
        let day_ms = DAY as i64 * 1000;
        assert_eq!(retention.next(&streams, &NONE, day_ms + 60_000, None), None);
        assert_eq!(retention.next(&streams, &NONE, day_ms + 60_001, None), Some(2));
        assert_eq!(retention.next(&streams, &NONE, i64::MIN, None), None);
    }

    #[test]
    fn too_much_of_one_stream_goes_from_that_stream() {
        let streams = streams(&[(1, 0, 10), (2, 5, 100)]);
        let retention = Retention { stream_bytes_max: Some(99), ..Default::default() };
        assert_eq!(retention.next(&streams, &NONE, 0, None), Some(2));
        let retention = Retention { stream_bytes_max: Some(100), ..Default::default() };
        assert_eq!(retention.next(&streams, &NONE, 0, None), None);
    }

    #[test]
    fn too_much_in_all_goes_from_the_oldest() {
        let streams = streams(&[(1, 7, 10), (2, 5, 100), (3, 6, 1000)]);
        let retention = Retention { bytes_max: Some(1109), ..Default::default() };
        assert_eq!(retention.next(&streams, &NONE, 0, None), Some(2));
        let retention = Retention { bytes_max: Some(1110), ..Default::default() };
        assert_eq!(retention.next(&streams, &NONE, 0, None), None);
    }

    #[test]
    fn too_little_free_disk_takes_the_oldest() {
        let streams = streams(&[(1, 7, 10), (2, 5, 100)]);
        let retention = Retention { free_bytes_min: Some(1000), ..Default::default() };
        assert_eq!(retention.next(&streams, &NONE, 0, Some(999)), Some(2));
        assert_eq!(retention.next(&streams, &NONE, 0, Some(1000)), None);
        assert_eq!(retention.next(&streams, &NONE, 0, None), None);
    }

    #[test]
    fn a_stream_that_cannot_be_removed_from_does_not_keep_the_others() {
        let streams = streams(&[(1, 7, 10), (2, 5, 100)]);
        let retention = Retention { bytes_max: Some(0), stream_bytes_max: Some(0), ..Default::default() };
        assert_eq!(retention.next(&streams, &BTreeSet::from([2]), 0, None), Some(1));
        assert_eq!(retention.next(&streams, &BTreeSet::from([1, 2]), 0, None), None);
    }

    #[test]
    fn bytes_that_the_disk_frees_later_are_counted_until_it_has() {
        let now = Instant::now();
        let mut disk = DiskSpace::default();
        disk.handle_removed(now, 100, Some(1000), Some(1100));
        assert_eq!(disk.promised(now), 0);
        disk.handle_removed(now, 100, Some(1000), Some(1000));
        disk.handle_removed(now, 100, Some(1100), Some(1000));
        assert_eq!(disk.promised(now), 200);
        assert_eq!(disk.promised(now + PROMISE), 0);
    }
}
