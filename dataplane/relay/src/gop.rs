//! The GOP cache: a stream's newest runs, from a random access point on.
//!
//! It serves joins and viewers that are behind. One per stream, none per viewer. Runs are numbered; a viewer is a
//! number into it.

use std::collections::VecDeque;

use bytes::BytesMut;
use lanecast_packet::Run;

/// The newest runs of a stream, bounded in bytes.
///
/// Holds the current GOP and the one before it, so that a viewer that is catching up when a keyframe comes is not
/// cut off; the older is dropped first when the bound is met.
#[derive(Debug)]
pub struct GopCache {
    runs: VecDeque<Run>,
    first: u64,
    bytes: usize,
    max_bytes: usize,
    random_access: Option<u64>,
    /// Live viewers still have to get the runs from here on.
    unsent: u64,
    freed: Vec<BytesMut>,
}

/// Memory that waits to be asked for: what one push can free at the most, in practice one or two arenas.
const MAX_FREED: usize = 4;

impl GopCache {
    /// Empty; holds `max_bytes` at most.
    pub fn new(max_bytes: usize) -> Self {
        let (runs, freed) = (VecDeque::new(), Vec::new());
        Self { runs, first: 0, bytes: 0, max_bytes, random_access: None, unsent: u64::MAX, freed }
    }

    /// Adds the newest run.
    pub fn push(&mut self, run: Run) {
        if run.is_random_access() {
            if let Some(previous) = self.random_access {
                self.drop_before(previous.min(self.unsent));
            }
            self.random_access = Some(self.end());
        }
        self.bytes += run.bytes().len();
        self.runs.push_back(run);
        while self.bytes > self.max_bytes && self.runs.len() > 1 {
            self.drop_before(self.first + 1);
        }
    }

    /// Runs from `number` on are still to be sent to live viewers: they stay, within the bound of bytes, even where
    /// every picture is a random access point and many come at once.
    pub fn keep_from(&mut self, number: u64) {
        self.unsent = number;
    }

    /// Forgets that anybody can start here: the codec changed.
    pub fn clear(&mut self) {
        self.drop_before(self.end());
    }

    /// The run of this number; `None` if it is not here any more, or not yet.
    pub fn run(&self, number: u64) -> Option<&Run> {
        self.runs.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// The run that has this packet, by its number among the packets in order, and its place in the run.
    pub fn packet_in_order(&self, number: u64) -> Option<(&Run, usize)> {
        let behind = self.runs.partition_point(|run| run.first_in_order() <= number);
        let run = self.runs.iter().take(behind).rev().find(|run| !run.is_out_of_order())?;
        let place = usize::try_from(number - run.first_in_order()).ok()?;
        (place < usize::from(run.packets())).then_some((run, place))
    }

    /// Number of the oldest run.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Number that the next run will have.
    pub fn end(&self) -> u64 {
        self.first + self.runs.len() as u64
    }

    /// Where a join starts: the newest random access point, if all of it is still here.
    pub fn random_access(&self) -> Option<u64> {
        self.random_access
    }

    /// Memory that nothing uses any more, until `None`.
    pub fn poll_freed(&mut self) -> Option<BytesMut> {
        self.freed.pop()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn drop_before(&mut self, number: u64) {
        while self.first < number
            && let Some(run) = self.runs.pop_front()
        {
            self.bytes -= run.bytes().len();
            self.first += 1;
            if self.freed.len() < MAX_FREED
                && let Some(memory) = run.into_memory()
            {
                self.freed.push(memory);
            }
        }
        self.random_access = self.random_access.filter(|&start| start >= self.first && start < self.end());
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use lanecast_packet::{RunWriter, WriterConfig};

    use super::*;

    fn run(random_access: bool, bytes: usize) -> Run {
        let mut writer = RunWriter::new(WriterConfig { ssrc: 1, payload_type: 96, first_packet: 0 });
        writer.begin_access_unit(0, random_access);
        writer.packet(bytes - 12, |out| out.put_bytes(0, bytes - 12));
        writer.end_access_unit();
        writer.poll_run().unwrap()
    }

    #[test]
    fn a_join_starts_at_the_newest_random_access_point() {
        let mut cache = GopCache::new(1 << 20);
        assert_eq!(cache.random_access(), None);
        for random_access in [false, true, false, false, true, false] {
            cache.push(run(random_access, 100));
        }
        assert_eq!(cache.random_access(), Some(4));
        assert_eq!((cache.first(), cache.end()), (1, 6));
    }

    #[test]
    fn a_gop_over_the_bound_is_dropped_from_its_start_and_nobody_can_join_in_it() {
        let mut cache = GopCache::new(250);
        cache.push(run(true, 100));
        cache.push(run(false, 100));
        assert_eq!(cache.random_access(), Some(0));
        cache.push(run(false, 100));
        assert_eq!((cache.random_access(), cache.first(), cache.bytes()), (None, 1, 200));
        assert!(cache.run(0).is_none() && cache.run(1).is_some() && cache.run(3).is_none());
    }

    #[test]
    fn what_live_viewers_still_have_to_get_outlives_newer_random_access_points() {
        let mut cache = GopCache::new(1 << 20);
        cache.keep_from(0);
        for _ in 0..6 {
            cache.push(run(true, 100));
        }
        assert_eq!((cache.first(), cache.random_access()), (0, Some(5)));
        cache.keep_from(6);
        cache.push(run(true, 100));
        assert_eq!((cache.first(), cache.random_access()), (5, Some(6)));
    }
}
