//! Where packets are sealed: a few arenas that stay in the cache and are used again as soon as their sends are back.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes of an arena: a dozen runs of a usual camera, small enough that two of them stay in a core's second-level cache.
const ARENA_BYTES: usize = 256 << 10;
/// Arenas that may wait for their sends at a time: 64 MiB a shard. Beyond that viewers are skipped, because the network
/// takes nothing.
const MAX_ARENAS: usize = 256;

/// The arenas of a shard.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    arena: BytesMut,
    is_begun: bool,
    /// Oldest first; each is the empty end of an arena, which knows when nobody else holds a part of it.
    others: VecDeque<BytesMut>,
}

impl Scratch {
    /// The arena, with room for `bytes`; `None` if too many wait for their sends.
    pub(crate) fn room(&mut self, bytes: usize) -> Option<&mut BytesMut> {
        if self.arena.capacity() - self.arena.len() < bytes && !self.next_arena(bytes) {
            return None;
        }
        Some(&mut self.arena)
    }

    /// What was written since the last time.
    pub(crate) fn take(&mut self) -> Bytes {
        self.arena.split().freeze()
    }

    fn next_arena(&mut self, bytes: usize) -> bool {
        let wanted = bytes.max(ARENA_BYTES);
        if self.arena.try_reclaim(wanted) {
            return true;
        }
        let free = self.others.front_mut().is_some_and(|oldest| oldest.try_reclaim(wanted));
        let next = match free {
            true => self.others.pop_front(),
            false => (self.others.len() < MAX_ARENAS).then(|| BytesMut::with_capacity(wanted)),
        };
        let Some(next) = next else { return false };
        let full = std::mem::replace(&mut self.arena, next);
        // Before the first arena there is none.
        if std::mem::replace(&mut self.is_begun, true) {
            self.others.push_back(full);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_once_its_sends_are_back() {
        let mut scratch = Scratch::default();
        let mut under_way = VecDeque::new();
        let mut arenas = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let room = scratch.room(20_000).unwrap();
            room.extend_from_slice(&[1; 20_000]);
            let sent = scratch.take();
            arenas.insert(sent.as_ptr() as usize);
            under_way.push_back(sent);
            if under_way.len() > 16 {
                under_way.pop_front();
            }
        }
        assert!(scratch.others.len() <= 4, "{} arenas", scratch.others.len());
        assert!(arenas.len() < 100, "{} places", arenas.len());
    }

    #[test]
    fn a_network_that_takes_nothing_does_not_take_the_memory() {
        let mut scratch = Scratch::default();
        let mut under_way = Vec::new();
        while let Some(room) = scratch.room(ARENA_BYTES) {
            room.resize(ARENA_BYTES, 0);
            under_way.push(scratch.take());
            assert!(under_way.len() <= MAX_ARENAS + 1);
        }
        under_way.clear();
        assert!(scratch.room(ARENA_BYTES).is_some());
    }
}
