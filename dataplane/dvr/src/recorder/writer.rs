//! One segment on its way to its file: fragments with their places, and how far they are written.
//!
//! A fragment's header needs the time at which the next begins. Where pictures are out of order that is known only some
//! pictures into the next one; until then the header has an estimate, of the same length, so that places do not move.
//! Not here: what is cut where, and what happens when the disk fails.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use lanecast_protocol::codec::ParameterSets;
use lanecast_protocol::mp4::{self, FragmentHeader, InitSegment};

use super::{ClosedSegment, timing};
use crate::keyframes::Keyframe;
use crate::segment::{MemoryFragment, MemorySample, OpenSegment, SegmentId};

/// Pieces in a write at most; the kernel takes 1024.
const WRITE_CHUNKS_MAX: usize = 256;
/// Of a picture where nothing tells: 25 a second.
const USUAL_DURATION_90K: i64 = 3600;
/// An estimated duration is not longer than this: a second.
const ESTIMATE_90K_MAX: i64 = 90_000;

/// A picture on the stream's own timeline, which never wraps.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) time_90k: i64,
    pub(super) unix_ms: i64,
    pub(super) random_access: bool,
    pub(super) bytes: Bytes,
}

/// What comes behind a fragment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    /// The first picture of another fragment of this segment, which is the first to be shown.
    Follows {
        /// Its time on the stream's timeline.
        time_90k: i64,
    },
    /// Another fragment of this segment; which of its pictures is shown first will be seen.
    FollowsReordered,
    /// Another segment, without a gap.
    Segment {
        /// Its first picture.
        time_90k: i64,
        /// The time of day of that.
        unix_ms: i64,
    },
    /// Nobody knows, but that it is not before this time of day.
    Unknown {
        /// UTC.
        before_unix_ms: i64,
    },
}

/// One segment.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    pub(super) open: Rc<OpenSegment>,
    pub(super) id: Option<SegmentId>,
    /// Of the question for its file.
    pub(super) ticket: Option<u64>,
    /// Its file is not where it was any more.
    pub(super) lost: bool,
    /// Something was written and not made durable since.
    pub(super) unsynced: bool,
    /// On the stream's timeline.
    start_90k: i64,
    init: Bytes,
    /// Those that are not whole in the file, oldest first; the last may be in the making.
    fragments: VecDeque<Fragment>,
    /// No more pictures come.
    sealed: bool,
    /// Behind the last complete fragment.
    end_offset: u64,
    /// End of the last fragment whose header is final.
    decode_end_90k: i64,
    usual_duration_90k: i64,
    sequence_number: u32,
    /// Bytes that the file has.
    written: u64,
    /// Pieces of the first fragment that the file has.
    written_chunks: usize,
    /// Pieces and bytes that are under way.
    under_way: (usize, u64),
    /// The whole fragments in the file.
    whole: Whole,
}

#[derive(Clone, Copy, Debug)]
struct Whole {
    bytes: u64,
    newest_unix_ms: i64,
    end_unix_ms: i64,
}

/// A fragment that is not in the file yet.
#[derive(Debug)]
pub(super) struct Fragment {
    memory: Rc<MemoryFragment>,
    keyframe: bool,
    bytes: usize,
    oldest_90k: i64,
    newest_90k: i64,
    newest_unix_ms: i64,
    sequence_number: u32,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Pictures come in.
    Making,
    /// No more pictures come; the last one's duration is an estimate.
    Complete { header: Bytes, end_unix_ms: i64 },
    /// It can be written.
    Final { header: Bytes, end_unix_ms: i64, end_90k: i64 },
}

impl Fragment {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_keyframe(&self) -> bool {
        self.keyframe
    }

    pub(super) fn is_making(&self) -> bool {
        matches!(self.stage, Stage::Making)
    }

    pub(super) fn pictures(&self) -> usize {
        self.memory.samples.borrow().len()
    }

    fn chunks(&self) -> usize {
        1 + self.pictures()
    }
}

impl SegmentWriter {
    /// Begins with a picture of this time; nothing in it yet.
    pub(super) fn new(start_90k: i64, start_unix_ms: i64, parameter_sets: Rc<ParameterSets>) -> Self {
        let shape = parameter_sets.shape();
        let side = |side: Option<u32>| side.map_or(0, |side| u16::try_from(side).unwrap_or(u16::MAX));
        let init = mp4::write_init(&InitSegment {
            parameter_sets: ParameterSets::clone(&parameter_sets),
            width: side(shape.as_ref().map(|shape| shape.width)),
            height: side(shape.as_ref().map(|shape| shape.height)),
            creation_unix_ms: start_unix_ms,
        });
        let end_offset = init.len() as u64;
        Self {
            open: Rc::new(OpenSegment::new(start_unix_ms, parameter_sets)),
            id: None,
            ticket: None,
            lost: false,
            unsynced: false,
            start_90k,
            init,
            fragments: VecDeque::new(),
            sealed: false,
            end_offset,
            decode_end_90k: 0,
            usual_duration_90k: USUAL_DURATION_90K,
            sequence_number: 0,
            written: 0,
            written_chunks: 0,
            under_way: (0, 0),
            whole: Whole { bytes: 0, newest_unix_ms: start_unix_ms, end_unix_ms: start_unix_ms },
        }
    }

    /// A segment of fragments that were to be in another one, and start with a keyframe.
    pub(super) fn resume(other: &Self, fragments: Vec<Fragment>) -> Option<Self> {
        let first = fragments.first()?.memory.samples.borrow().first()?.clone();
        let start_90k = other.start_90k + first.presentation_90k;
        let start_unix_ms = first.unix_ms.max(other.whole.end_unix_ms);
        let mut writer = Self::new(start_90k, start_unix_ms, Rc::clone(&other.open.parameter_sets));
        writer.usual_duration_90k = other.usual_duration_90k;
        for fragment in fragments {
            writer.take_over(fragment, other.start_90k);
        }
        if other.sealed {
            writer.seal();
        }
        Some(writer)
    }

    fn take_over(&mut self, fragment: Fragment, other_start_90k: i64) {
        for sample in fragment.memory.samples.borrow().iter() {
            self.push(Picture {
                time_90k: other_start_90k + sample.presentation_90k,
                unix_ms: sample.unix_ms,
                random_access: sample.sync,
                bytes: sample.bytes.clone(),
            });
        }
        match fragment.stage {
            Stage::Making => {}
            Stage::Complete { .. } => self.complete(Next::FollowsReordered),
            Stage::Final { end_unix_ms, end_90k, .. } => {
                let time_90k = other_start_90k + end_90k;
                self.complete(Next::Segment { time_90k, unix_ms: end_unix_ms });
            }
        }
    }

    /// Behind its first picture by this on the stream's timeline.
    pub(super) fn age_90k(&self, time_90k: i64) -> i64 {
        time_90k - self.start_90k
    }

    /// True once no more pictures come.
    pub(super) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The fragment in the making.
    pub(super) fn making(&self) -> Option<&Fragment> {
        self.fragments.back().filter(|fragment| fragment.is_making())
    }

    /// Time from the oldest picture in the making to `time_90k`, and from the newest.
    pub(super) fn making_span_90k(&self, time_90k: i64) -> Option<(i64, i64)> {
        let time_90k = time_90k - self.start_90k;
        self.making().map(|making| (time_90k - making.oldest_90k, time_90k - making.newest_90k))
    }

    /// How long pictures usually last.
    pub(super) fn usual_duration_90k(&self) -> i64 {
        self.usual_duration_90k
    }

    /// Those that are not whole in the file.
    pub(super) fn fragments(&self) -> impl Iterator<Item = &Fragment> {
        self.fragments.iter()
    }

    /// End of all complete fragments, written or not.
    pub(super) fn end_unix_ms(&self) -> i64 {
        let ends = self.fragments.iter().filter_map(|fragment| match &fragment.stage {
            Stage::Making => None,
            Stage::Complete { end_unix_ms, .. } | Stage::Final { end_unix_ms, .. } => Some(*end_unix_ms),
        });
        ends.fold(self.whole.end_unix_ms, i64::max)
    }

    /// The next picture; begins a fragment where none is in the making.
    pub(super) fn push(&mut self, picture: Picture) {
        // Pictures of an open GOP that are shown before the file begins have no place of their own in it.
        let presentation_90k = (picture.time_90k - self.start_90k).max(0);
        if self.making().is_none() {
            self.begin(presentation_90k, &picture);
        }
        self.open.grow(picture.unix_ms);
        let Some(making) = self.fragments.back_mut() else { return };
        let shows_all_before = making.pictures() > 0 && presentation_90k > making.newest_90k;
        making.bytes += picture.bytes.len();
        making.oldest_90k = making.oldest_90k.min(presentation_90k);
        making.newest_90k = making.newest_90k.max(presentation_90k);
        making.newest_unix_ms = making.newest_unix_ms.max(picture.unix_ms);
        let sample = MemorySample {
            presentation_90k,
            unix_ms: picture.unix_ms,
            sync: picture.random_access,
            bytes: picture.bytes,
        };
        making.memory.push(sample);
        let oldest_90k = making.oldest_90k;
        if shows_all_before {
            self.settle(oldest_90k);
        }
    }

    fn begin(&mut self, presentation_90k: i64, picture: &Picture) {
        self.sequence_number += 1;
        let memory = Rc::new(MemoryFragment::new(self.end_offset));
        // The times of the index grow, whatever a camera says.
        let unix_ms = picture.unix_ms.max(self.open.start_unix_ms);
        let is_later = self.open.keyframes().last().is_none_or(|last| last.unix_ms < unix_ms);
        let keyframe = Keyframe { unix_ms, offset: self.end_offset };
        let keyframe = (picture.random_access && is_later).then_some(keyframe);
        self.open.begin(Rc::clone(&memory), keyframe);
        self.fragments.push_back(Fragment {
            memory,
            keyframe: picture.random_access,
            bytes: 0,
            oldest_90k: presentation_90k,
            newest_90k: presentation_90k,
            newest_unix_ms: picture.unix_ms,
            sequence_number: self.sequence_number,
            stage: Stage::Making,
        });
    }

    /// The fragment in the making takes no more pictures.
    pub(super) fn complete(&mut self, next: Next) {
        let Some(making) = self.making() else { return };
        let (oldest_90k, newest_90k, newest_unix_ms) =
            (making.oldest_90k, making.newest_90k, making.newest_unix_ms);
        let interval_90k = timing::last_interval_90k(&making.memory.samples.borrow());
        if let Some(interval_90k) = interval_90k {
            self.usual_duration_90k = interval_90k.clamp(1, ESTIMATE_90K_MAX);
        }
        self.settle(oldest_90k);
        let estimate_90k = newest_90k + self.usual_duration_90k;
        let end_90k = match next {
            Next::Follows { time_90k } | Next::Segment { time_90k, .. } => time_90k - self.start_90k,
            Next::FollowsReordered | Next::Unknown { .. } => estimate_90k,
        };
        let end_unix_ms = newest_unix_ms + ((end_90k - newest_90k) / 90).max(1);
        let end_unix_ms = match next {
            Next::Segment { unix_ms, .. } => unix_ms,
            Next::Unknown { before_unix_ms } => end_unix_ms.min(before_unix_ms),
            Next::Follows { .. } | Next::FollowsReordered => end_unix_ms,
        };
        let end_unix_ms = end_unix_ms.max(self.open.newest_unix_ms());
        let index = self.fragments.len() - 1;
        let (header, end_90k) = self.header(index, end_90k);
        let fragment = &mut self.fragments[index];
        self.end_offset += header.len() as u64 + fragment.bytes as u64;
        fragment.memory.complete(self.end_offset);
        if matches!(next, Next::FollowsReordered) {
            fragment.stage = Stage::Complete { header, end_unix_ms };
        } else {
            fragment.stage = Stage::Final { header, end_unix_ms, end_90k };
            self.decode_end_90k = end_90k;
        }
    }

    /// The time is known at which what is behind the last complete fragment begins.
    fn settle(&mut self, next_90k: i64) {
        let estimated = |fragment: &Fragment| matches!(fragment.stage, Stage::Complete { .. });
        let Some(index) = self.fragments.iter().rposition(estimated) else { return };
        let (exact, end_90k) = self.header(index, next_90k);
        let fragment = &mut self.fragments[index];
        let Stage::Complete { header, .. } = &fragment.stage else { return };
        debug_assert_eq!(
            exact.len(),
            header.len(),
            "a header's length depends on the number of samples alone"
        );
        let header = if exact.len() == header.len() { exact } else { header.clone() };
        let end_unix_ms = fragment.newest_unix_ms + ((end_90k - fragment.newest_90k) / 90).max(1);
        fragment.stage = Stage::Final { header, end_unix_ms, end_90k };
        self.decode_end_90k = end_90k;
    }

    /// The header of a fragment that ends then, and when it really ends.
    fn header(&self, index: usize, end_90k: i64) -> (Bytes, i64) {
        let fragment = &self.fragments[index];
        let pictures = fragment.memory.samples.borrow();
        let timing = timing::of(&pictures, self.decode_end_90k, end_90k);
        // The first that is decoded was never moved to the beginning of the file, unlike B-pictures before it.
        let unix_ms = pictures.first().map_or(0, |first| {
            first.unix_ms + (timing.base_decode_90k - first.presentation_90k).div_euclid(90)
        });
        let header = mp4::write_fragment_header(&FragmentHeader {
            sequence_number: fragment.sequence_number,
            base_decode_90k: timing.base_decode_90k.unsigned_abs(),
            unix_ms,
            samples: timing.samples,
        });
        (header, timing.end_90k)
    }

    /// No more pictures come, and none is in the making.
    pub(super) fn seal(&mut self) {
        let last = self.fragments.back();
        if let Some(end_90k) = last.map(|last| last.newest_90k + self.usual_duration_90k) {
            self.settle(end_90k);
        }
        self.sealed = true;
        self.open.close();
    }

    /// The newest fragment will not be written, and no more pictures come.
    pub(super) fn drop_newest(&mut self) -> Option<Fragment> {
        let dropped = self.fragments.pop_back()?;
        self.end_offset = dropped.memory.offset;
        let before = self.fragments.back().map(|fragment| fragment.newest_unix_ms);
        self.open.abandon(self.end_offset, before.unwrap_or(self.whole.newest_unix_ms));
        self.seal();
        Some(dropped)
    }

    /// What is to be written next, and where.
    pub(super) fn next_write(&mut self) -> Option<(u64, Vec<Bytes>)> {
        let fragment = self.fragments.front()?;
        let Stage::Final { header, .. } = &fragment.stage else { return None };
        let samples = fragment.memory.samples.borrow();
        let pieces = [header.clone()].into_iter().chain(samples.iter().map(|sample| sample.bytes.clone()));
        let init = (self.written == 0).then(|| self.init.clone());
        let room = WRITE_CHUNKS_MAX - usize::from(init.is_some());
        let pieces = pieces.skip(self.written_chunks).take(room);
        let chunks: Vec<Bytes> = init.iter().cloned().chain(pieces).collect();
        let bytes = chunks.iter().map(Bytes::len).sum::<usize>() as u64;
        self.under_way = (chunks.len() - usize::from(init.is_some()), bytes);
        Some((self.written, chunks))
    }

    /// Bytes of the write under way.
    pub(super) fn under_way_bytes(&self) -> u64 {
        self.under_way.1
    }

    /// The write under way is in the file. True if that made a fragment whole.
    pub(super) fn handle_written(&mut self) -> bool {
        let (chunks, bytes) = std::mem::take(&mut self.under_way);
        self.written += bytes;
        self.written_chunks += chunks;
        self.unsynced = true;
        let whole = self.fragments.front().is_some_and(|front| self.written_chunks >= front.chunks());
        if whole && let Some(front) = self.fragments.pop_front() {
            self.written_chunks = 0;
            let end_unix_ms = match front.stage {
                Stage::Final { end_unix_ms, .. } => end_unix_ms,
                _ => front.newest_unix_ms,
            };
            self.whole = Whole {
                bytes: self.written,
                newest_unix_ms: front.newest_unix_ms.max(self.whole.newest_unix_ms),
                end_unix_ms: end_unix_ms.max(self.whole.end_unix_ms),
            };
            self.open.set_readable(self.written);
        }
        whole
    }

    /// True where the file ends with a whole fragment.
    pub(super) fn is_at_fragment_end(&self) -> bool {
        self.written_chunks == 0
    }

    /// True once all that will ever be in it is written.
    pub(super) fn is_written(&self) -> bool {
        self.sealed && self.fragments.is_empty()
    }

    /// Nothing more is written: what is not in the file, oldest first.
    pub(super) fn abandon(&mut self) -> Vec<Fragment> {
        if let Some(making) = self.making() {
            // Who plays it should not wait for more.
            making.memory.complete(self.end_offset + making.bytes as u64);
        }
        self.open.abandon(self.whole.bytes, self.whole.newest_unix_ms);
        self.fragments.drain(..).collect()
    }

    /// What the catalogue should know at the end; nothing that could be played, if the file is lost.
    pub(super) fn closed(&self, segment: SegmentId) -> ClosedSegment {
        let bytes = if self.lost { 0 } else { self.whole.bytes };
        let in_file = |keyframe: &&Keyframe| keyframe.offset < bytes;
        ClosedSegment {
            segment,
            start_unix_ms: self.open.start_unix_ms,
            end_unix_ms: self.whole.end_unix_ms.max(self.open.start_unix_ms),
            bytes,
            keyframes: self.open.keyframes().iter().filter(in_file).copied().collect(),
        }
    }
}

#[cfg(test)]
impl SegmentWriter {
    /// Places are one behind the other, and only the last fragment may be in the making.
    pub(super) fn assert_invariants(&self) {
        let mut offset = self.whole.bytes.max(self.init.len() as u64);
        let count = self.fragments.len();
        for (n, fragment) in self.fragments.iter().enumerate() {
            assert_eq!(fragment.memory.offset, offset);
            assert!(fragment.pictures() > 0);
            assert_eq!(fragment.memory.end_offset.get().is_none(), fragment.is_making());
            if offset == self.init.len() as u64 {
                assert!(fragment.keyframe, "a file begins with a random access point");
            }
            match &fragment.stage {
                Stage::Making => assert!(n + 1 == count && !self.sealed),
                Stage::Complete { header, .. } => {
                    assert!(n + 2 == count && !self.sealed);
                    offset += header.len() as u64 + fragment.bytes as u64;
                }
                Stage::Final { header, .. } => offset += header.len() as u64 + fragment.bytes as u64,
            }
        }
        assert_eq!(self.end_offset, offset);
        assert!(self.written >= self.whole.bytes);
        assert!(self.open.keyframes().windows(2).all(|pair| pair[0].offset < pair[1].offset));
    }
}
