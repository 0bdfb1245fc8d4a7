//! One segment file while it is written: its keyframes, how much of it is on disk, and its newest fragments in memory, so that
//! a viewer can rewind by a few seconds. Shared by the recorder and the players of one shard.

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use lanecast_protocol::codec::ParameterSets;

use crate::keyframes::Keyframe;

/// The catalogue's number of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub i64);

/// A segment that is written, or was closed lately.
#[derive(Debug)]
pub struct OpenSegment {
    /// Time of its first picture, UTC.
    pub start_unix_ms: i64,
    /// Those of its sample entry.
    pub parameter_sets: Rc<ParameterSets>,
    keyframes: RefCell<Vec<Keyframe>>,
    /// Fragments that are not in the file yet, and the one that is made; oldest first.
    fragments: RefCell<VecDeque<Rc<MemoryFragment>>>,
    /// Bytes from the file's start that can be read from it: whole fragments.
    readable_bytes: Cell<u64>,
    newest_unix_ms: Cell<i64>,
    closed: Cell<bool>,
}

/// A fragment in memory. Grows until it is complete.
#[derive(Debug)]
pub struct MemoryFragment {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its pictures in decode order.
    pub samples: RefCell<Vec<MemorySample>>,
    /// Where the next one begins, once this is complete.
    pub end_offset: Cell<Option<u64>>,
}

/// A picture in memory.
#[derive(Clone, Debug)]
pub struct MemorySample {
    /// Presentation time in 90 kHz ticks from the segment's start.
    pub presentation_90k: i64,
    /// Time of day of the picture, UTC.
    pub unix_ms: i64,
    /// A decoder can start here.
    pub sync: bool,
    /// NAL units, each behind its length in four bytes; no parameter sets.
    pub bytes: Bytes,
}

/// Where a fragment of an open segment is.
#[derive(Clone, Debug)]
pub enum Place {
    /// In the file, which can be read up to this many bytes from its start.
    File {
        /// Bytes from the file's start that can be read.
        readable_bytes: u64,
    },
    /// In memory.
    Memory(Rc<MemoryFragment>),
    /// Not there yet; never, if the segment is closed.
    NotYet,
}

impl MemoryFragment {
    /// Begins at `offset`, with nothing in it yet.
    pub fn new(offset: u64) -> Self {
        Self { offset, samples: RefCell::default(), end_offset: Cell::new(None) }
    }

    /// A picture more, in decode order.
    pub(crate) fn push(&self, sample: MemorySample) {
        self.samples.borrow_mut().push(sample);
    }

    /// Nothing is added any more; the next one begins at `end_offset`.
    pub(crate) fn complete(&self, end_offset: u64) {
        self.end_offset.set(Some(end_offset));
    }
}

impl OpenSegment {
    /// Nothing in it yet.
    pub fn new(start_unix_ms: i64, parameter_sets: Rc<ParameterSets>) -> Self {
        Self {
            start_unix_ms,
            parameter_sets,
            keyframes: RefCell::default(),
            fragments: RefCell::default(),
            readable_bytes: Cell::new(0),
            newest_unix_ms: Cell::new(start_unix_ms),
            closed: Cell::new(false),
        }
    }

    /// Its keyframes so far, that of the fragment in the making included.
    pub fn keyframes(&self) -> Ref<'_, Vec<Keyframe>> {
        self.keyframes.borrow()
    }

    /// Time of its newest picture, UTC.
    pub fn newest_unix_ms(&self) -> i64 {
        self.newest_unix_ms.get()
    }

    /// True once nothing is added any more.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Where the fragment that begins at `offset` is.
    pub fn place(&self, offset: u64) -> Place {
        let readable_bytes = self.readable_bytes.get();
        if offset < readable_bytes {
            return Place::File { readable_bytes };
        }
        let fragments = self.fragments.borrow();
        let found = fragments.iter().find(|fragment| fragment.offset == offset);
        found.map_or(Place::NotYet, |fragment| Place::Memory(Rc::clone(fragment)))
    }

    /// A fragment begins; `keyframe` if with a random access point.
    pub(crate) fn begin(&self, fragment: Rc<MemoryFragment>, keyframe: Option<Keyframe>) {
        self.keyframes.borrow_mut().extend(keyframe);
        self.fragments.borrow_mut().push_back(fragment);
    }

    /// A picture came in.
    pub(crate) fn grow(&self, newest_unix_ms: i64) {
        self.newest_unix_ms.set(newest_unix_ms.max(self.newest_unix_ms.get()));
    }

    /// The file has whole fragments up to here.
    pub(crate) fn set_readable(&self, bytes: u64) {
        self.readable_bytes.set(bytes);
        let in_file =
            |fragment: &Rc<MemoryFragment>| fragment.end_offset.get().is_some_and(|end| end <= bytes);
        let mut fragments = self.fragments.borrow_mut();
        while fragments.front().is_some_and(in_file) {
            fragments.pop_front();
        }
    }

    /// Nothing is added any more; what is in memory is written yet.
    pub(crate) fn close(&self) {
        self.closed.set(true);
    }

    /// Nothing is added any more, and what begins at `offset` or behind will never be in the file: it is forgotten once
    /// nobody plays it. `newest_unix_ms` is the time of the newest picture that is left.
    pub(crate) fn abandon(&self, offset: u64, newest_unix_ms: i64) {
        self.closed.set(true);
        self.keyframes.borrow_mut().retain(|keyframe| keyframe.offset < offset);
        self.fragments.borrow_mut().retain(|fragment| fragment.offset < offset);
        self.newest_unix_ms.set(newest_unix_ms);
    }
}

#[cfg(test)]
mod tests {
    use lanecast_protocol::codec::Codec;

    use super::*;

    fn segment() -> OpenSegment {
        OpenSegment::new(1000, Rc::new(ParameterSets::new(Codec::H264)))
    }

    fn fragment(offset: u64, end_offset: Option<u64>) -> Rc<MemoryFragment> {
        let fragment = MemoryFragment::new(offset);
        fragment.end_offset.set(end_offset);
        Rc::new(fragment)
    }

    #[test]
    fn a_fragment_is_in_memory_until_it_is_whole_in_the_file() {
        let segment = segment();
        segment.begin(fragment(10, Some(20)), Some(Keyframe { unix_ms: 1000, offset: 10 }));
        segment.begin(fragment(20, None), None);
        assert!(matches!(segment.place(10), Place::Memory(_)));
        assert!(matches!(segment.place(20), Place::Memory(_)));
        assert!(matches!(segment.place(30), Place::NotYet));
        segment.set_readable(20);
        assert!(matches!(segment.place(10), Place::File { readable_bytes: 20 }));
        assert!(matches!(segment.place(20), Place::Memory(_)));
    }

    #[test]
    fn what_is_abandoned_is_forgotten_but_for_who_plays_it() {
        let segment = segment();
        segment.begin(fragment(10, Some(20)), Some(Keyframe { unix_ms: 1000, offset: 10 }));
        segment.begin(fragment(20, None), Some(Keyframe { unix_ms: 3000, offset: 20 }));
        segment.grow(3040);
        let Place::Memory(played) = segment.place(20) else { panic!("not in memory") };
        segment.abandon(20, 2960);
        assert!(segment.is_closed());
        assert_eq!(segment.keyframes().len(), 1);
        assert_eq!(segment.newest_unix_ms(), 2960);
        assert!(matches!(segment.place(20), Place::NotYet));
        assert_eq!(Rc::strong_count(&played), 1);
    }
}
