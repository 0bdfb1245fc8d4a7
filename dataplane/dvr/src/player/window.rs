//! A piece of a file in memory: what was read and is not walked over yet, and what to read next.
//!
//! The pieces of separate reads stay apart; a picture over several of them is a rope. Not here: what the bytes mean.

use std::collections::VecDeque;

use bytes::Bytes;
use smallvec::SmallVec;

/// Bytes in a few pieces, in order.
pub(super) type Rope = SmallVec<[Bytes; 4]>;

/// One read. A second of a 2 Mb/s camera; what a spinning disk reads in the time of a seek.
pub(super) const READ_BYTES: usize = 256 << 10;

/// Another read is asked for when less than this is ahead, so two reads are in memory at the most, unless one picture is larger.
const READ_AHEAD_BYTES: usize = 128 << 10;

/// Bytes of a file from `start` on.
#[derive(Debug)]
pub(super) struct Window {
    start: u64,
    chunks: VecDeque<Bytes>,
    len: usize,
    /// The file has no bytes from here on, whatever is said of it: a read came short.
    ends_at: u64,
}

/// Why bytes are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// They have to be read.
    Read {
        /// From where.
        offset: u64,
        /// How many.
        bytes: usize,
    },
    /// The file does not have them.
    BeyondEnd,
}

impl Default for Window {
    fn default() -> Self {
        Self { start: 0, chunks: VecDeque::new(), len: 0, ends_at: u64::MAX }
    }
}

impl Window {
    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Nothing before `offset` is needed any more. Where it is outside of what is held, all is read anew.
    pub(super) fn seek(&mut self, offset: u64) {
        match offset.checked_sub(self.start).and_then(|ahead| usize::try_from(ahead).ok()) {
            Some(ahead) if ahead <= self.len => self.drop_front(ahead),
            _ => {
                self.chunks.clear();
                self.len = 0;
            }
        }
        self.start = offset;
    }

    /// Makes sure that `bytes` bytes from `offset` on are here, and forgets what is before. `limit`: the file's length.
    /// A read is of `preferred` bytes where that is more, but of [`READ_BYTES`] at the most.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn need(
        &mut self,
        offset: u64,
        bytes: usize,
        preferred: usize,
        limit: u64,
    ) -> Result<(), Missing> {
        self.seek(offset);
        if self.len >= bytes {
            return Ok(());
        }
        let limit = limit.min(self.ends_at);
        if offset.checked_add(bytes as u64).is_none_or(|end| end > limit) {
            return Err(Missing::BeyondEnd);
        }
        let read = (bytes - self.len).max(preferred).min(READ_BYTES) as u64;
        Err(Missing::Read { offset: self.end(), bytes: read.min(limit - self.end()) as usize })
    }

    /// What to read although nothing waits for it.
    pub(super) fn read_ahead(&self, limit: u64) -> Option<(u64, usize)> {
        let limit = limit.min(self.ends_at);
        (self.len < READ_AHEAD_BYTES && self.end() < limit)
            .then(|| (self.end(), (limit - self.end()).min(READ_BYTES as u64) as usize))
    }

    /// What was read at `offset`, when `wanted` bytes were asked for. Ignored if it does not go on where this ends.
    pub(super) fn fill(&mut self, offset: u64, wanted: usize, mut bytes: Bytes) {
        bytes.truncate(wanted);
        if bytes.len() < wanted {
            self.ends_at = self.ends_at.min(offset.saturating_add(bytes.len() as u64));
        }
        if offset == self.end() && !bytes.is_empty() {
            self.len += bytes.len();
            self.chunks.push_back(bytes);
        }
    }

    /// At least the first `bytes` bytes in one piece; they are here.
    pub(super) fn contiguous(&mut self, bytes: usize) -> &[u8] {
        if self.chunks.front().is_none_or(|first| first.len() < bytes) {
            let mut whole = Vec::with_capacity(bytes);
            while whole.len() < bytes
                && let Some(chunk) = self.chunks.pop_front()
            {
                whole.extend_from_slice(&chunk);
            }
            self.chunks.push_front(whole.into());
        }
        self.chunks.front().map_or(&[], |first| &first[..])
    }

    /// The first `bytes` bytes; they are here.
    pub(super) fn rope(&self, bytes: usize) -> Rope {
        let mut left = bytes;
        let mut rope = Rope::new();
        for chunk in &self.chunks {
            if left == 0 {
                break;
            }
            let taken = left.min(chunk.len());
            rope.push(chunk.slice(..taken));
            left -= taken;
        }
        rope
    }

    fn end(&self) -> u64 {
        self.start.saturating_add(self.len as u64)
    }

    fn drop_front(&mut self, mut bytes: usize) {
        self.len -= bytes;
        while bytes > 0
            && let Some(first) = self.chunks.front_mut()
        {
            if first.len() > bytes {
                *first = first.slice(bytes..);
                return;
            }
            bytes -= first.len();
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file whose byte at `n` is `n % 251`.
    fn piece(offset: u64, bytes: usize) -> Bytes {
        (offset..offset + bytes as u64).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn what_is_needed_is_read_and_what_is_behind_is_forgotten() {
        let mut window = Window::default();
        assert_eq!(window.need(10, 4, 100, 1000), Err(Missing::Read { offset: 10, bytes: 100 }));
        window.fill(10, 100, piece(10, 100));
        assert_eq!(window.need(60, 40, 100, 1000), Ok(()));
        assert_eq!((window.len(), window.rope(40).concat()), (50, piece(60, 40).to_vec()));
        assert_eq!(window.need(60, 80, 10, 1000), Err(Missing::Read { offset: 110, bytes: 30 }));
        window.fill(110, 30, piece(110, 30));
        assert_eq!(window.need(60, 80, 10, 1000), Ok(()));
        assert_eq!((window.rope(80).len(), window.rope(80).concat()), (2, piece(60, 80).to_vec()));
        assert_eq!(window.contiguous(60)[..60], piece(60, 60));
        assert_eq!(window.len(), 80);
    }

    #[test]
    fn a_jump_reads_anew_and_what_comes_late_for_it_is_ignored() {
        let mut window = Window::default();
        assert!(window.need(0, 10, 50, 1000).is_err());
        assert_eq!(window.need(500, 10, 50, 1000), Err(Missing::Read { offset: 500, bytes: 50 }));
        window.fill(0, 50, piece(0, 50));
        assert_eq!(window.len(), 0);
        window.fill(500, 50, piece(500, 50));
        assert_eq!(window.need(500, 50, 50, 1000), Ok(()));
    }

    #[test]
    fn what_the_file_does_not_have_is_never_read() {
        let mut window = Window::default();
        assert_eq!(window.need(90, 11, 50, 100), Err(Missing::BeyondEnd));
        assert_eq!(window.need(90, 5, 50, 100), Err(Missing::Read { offset: 90, bytes: 10 }));
        window.fill(90, 10, piece(90, 3));
        assert_eq!(window.need(90, 5, 50, 100), Err(Missing::BeyondEnd), "the read came short");
        assert_eq!(window.read_ahead(100), None);
        assert_eq!(window.need(u64::MAX - 2, 5, 50, u64::MAX), Err(Missing::BeyondEnd));
    }

    #[test]
    fn two_reads_are_held_at_the_most() {
        let mut window = Window::default();
        let limit = 100 << 20;
        let mut at = 0;
        for _ in 0..2000 {
            if let Some((offset, bytes)) = window.read_ahead(limit) {
                window.fill(offset, bytes, piece(offset, bytes));
            }
            assert!(window.len() <= 2 * READ_BYTES);
            at += 10_000;
            assert_eq!(window.need(at, 10_000, READ_BYTES, limit), Ok(()));
        }
    }
}
