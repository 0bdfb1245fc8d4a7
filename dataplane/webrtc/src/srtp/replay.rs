//! Which SRTCP indices were seen (RFC 3711 section 3.3.2), per SSRC of the peer.
//!
//! Authenticity is not judged here: only what is authentic may be accepted.

use smallvec::SmallVec;

use super::OpenError;

/// SSRCs of one peer. A viewer has one that it sends reports with, or one per received source: more are none that we
/// know of.
pub(super) const SOURCES: usize = 8;

/// Indices that may still come after a later one: the least that RFC 3711 allows, and more than a second of
/// feedback.
const WINDOW: u32 = u64::BITS;

/// A window per SSRC, [`SOURCES`] at most. None is ever given up: what it has seen could be replayed then.
#[derive(Default)]
pub(super) struct ReplayWindows {
    /// Usually one; two cost no allocation.
    windows: SmallVec<[Window; 2]>,
}

impl ReplayWindows {
    /// Whether a packet would be new. Changes nothing, so it may be asked before authentication.
    pub fn check(&self, ssrc: u32, index: u32) -> Result<(), OpenError> {
        match self.windows.iter().find(|window| window.ssrc == ssrc) {
            Some(window) if window.is_new(index) => Ok(()),
            Some(_) => Err(OpenError::Replayed),
            None if self.windows.len() < SOURCES => Ok(()),
            None => Err(OpenError::Sources),
        }
    }

    /// An authentic packet that [`ReplayWindows::check`] let pass was seen.
    pub fn accept(&mut self, ssrc: u32, index: u32) {
        match self.windows.iter_mut().find(|window| window.ssrc == ssrc) {
            Some(window) => window.accept(index),
            None => self.windows.push(Window { ssrc, highest: index, seen: 1 }),
        }
    }
}

/// The last 64 indices of an SSRC.
struct Window {
    ssrc: u32,
    highest: u32,
    /// Bit n: `highest - n` was seen.
    seen: u64,
}

impl Window {
    fn is_new(&self, index: u32) -> bool {
        match self.highest.checked_sub(index) {
            None => true,
            Some(age) => age < WINDOW && self.seen & (1 << age) == 0,
        }
    }

    fn accept(&mut self, index: u32) {
        match index.checked_sub(self.highest) {
            None | Some(0) => self.seen |= 1_u64.checked_shl(self.highest - index).unwrap_or(0),
            Some(ahead) => {
                self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
                self.highest = index;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn accept(windows: &mut ReplayWindows, ssrc: u32, index: u32) -> Result<(), OpenError> {
        windows.check(ssrc, index)?;
        windows.accept(ssrc, index);
        Ok(())
    }

    #[test]
    fn late_ones_are_new_within_the_window_and_once() {
        let mut windows = ReplayWindows::default();
        assert_eq!(accept(&mut windows, 1, 100), Ok(()));
        assert_eq!(accept(&mut windows, 1, 37), Ok(()));
        assert_eq!(accept(&mut windows, 1, 37), Err(OpenError::Replayed));
        assert_eq!(accept(&mut windows, 1, 36), Err(OpenError::Replayed));
        assert_eq!(accept(&mut windows, 1, 101), Ok(()));
        assert_eq!(accept(&mut windows, 1, 100), Err(OpenError::Replayed));
        assert_eq!(accept(&mut windows, 1, 38), Ok(()));
    }

    #[test]
    fn a_jump_to_the_last_index_forgets_nothing() {
        let mut windows = ReplayWindows::default();
        let last = (1 << 31) - 1;
        assert_eq!(accept(&mut windows, 1, 0), Ok(()));
        assert_eq!(accept(&mut windows, 1, last), Ok(()));
        for seen in [0, 1, last] {
            assert_eq!(accept(&mut windows, 1, seen), Err(OpenError::Replayed));
        }
        assert_eq!(accept(&mut windows, 1, last - 1), Ok(()));
    }

    #[test]
    fn a_check_changes_nothing() {
        let mut windows = ReplayWindows::default();
        windows.accept(1, 5);
        for (ssrc, index) in [(1, 1000), (2, 7), (1, 6)] {
            assert_eq!(windows.check(ssrc, index), Ok(()));
        }
        assert_eq!(accept(&mut windows, 1, 4), Ok(()));
        assert_eq!(windows.windows.len(), 1);
    }

    #[test]
    fn sources_have_windows_of_their_own_and_an_end() {
        let mut windows = ReplayWindows::default();
        for ssrc in 0..SOURCES as u32 {
            assert_eq!(accept(&mut windows, ssrc, 9), Ok(()));
        }
        assert_eq!(accept(&mut windows, SOURCES as u32, 9), Err(OpenError::Sources));
        for ssrc in 0..SOURCES as u32 {
            assert_eq!(accept(&mut windows, ssrc, 9), Err(OpenError::Replayed));
            assert_eq!(accept(&mut windows, ssrc, 10), Ok(()));
        }
    }

    proptest! {
        #[test]
        fn an_index_passes_once_and_a_fresh_one_always(indices in prop::collection::vec(0_u32..300, 1..300)) {
            let (mut windows, mut seen) = (ReplayWindows::default(), BTreeSet::new());
            for index in indices {
                let old = seen.last().is_some_and(|highest| index + WINDOW <= *highest);
                let new = !old && !seen.contains(&index);
                prop_assert_eq!(accept(&mut windows, 1, index).is_ok(), new);
                if new {
                    seen.insert(index);
                }
            }
        }
    }
}
