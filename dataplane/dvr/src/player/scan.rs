//! Which pictures a decoder needs so that the one of a wanted time is seen: from a keyframe on, by the fragments' headers alone.

use super::walk::{Entry, REORDER_MAX, Reading, Stop, Walk};

/// Pictures in the order in which they are decoded, up to the last that is not later than the wanted time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan {
    wanted_unix_ms: i64,
    /// Pictures that are needed.
    pub(super) pictures: usize,
    /// Pictures behind them, all later than wanted.
    later: usize,
    /// The latest of those.
    latest_90k: i64,
    /// The first picture, and the one that is shown of those that are needed: the last in the order of presentation.
    pub(super) ends: Option<(Entry, Entry)>,
}

/// A GOP that has more is not looked through to its end: over half an hour at 25 a second.
const PICTURES_MAX: usize = 1 << 16;

impl Scan {
    pub(super) fn new(wanted_unix_ms: i64) -> Self {
        Self { wanted_unix_ms, pictures: 0, later: 0, latest_90k: i64::MIN, ends: None }
    }

    /// Goes on from where `walk` stands.
    ///
    /// # Errors
    /// What is missing for that.
    pub(super) fn run(&mut self, walk: &mut Walk) -> Result<(), Stop> {
        loop {
            // Pictures that are shown earlier than the last ones of their fragment are not looked for in the next one.
            let between = walk.is_at_end_of_gop() || (self.later > 0 && walk.is_at_end_of_fragment());
            if self.pictures > 0 && between {
                return Ok(());
            }
            let entry = match walk.look() {
                Err(Stop::Edge { .. } | Stop::End) if self.pictures > 0 => return Ok(()),
                other => other?,
            };
            if !self.take(entry) {
                return Ok(());
            }
            walk.advance();
            walk.set_reading(Reading::Headers);
        }
    }

    /// False if nothing behind this one is needed, nor this one.
    fn take(&mut self, entry: Entry) -> bool {
        let Some((first, shown)) = self.ends else {
            self.ends = Some((entry, entry));
            self.pictures = 1;
            return true;
        };
        if entry.sync || self.pictures + self.later >= PICTURES_MAX {
            return false;
        }
        if entry.unix_ms <= self.wanted_unix_ms {
            self.pictures += 1 + std::mem::take(&mut self.later);
            let latest = entry.presentation_90k >= shown.presentation_90k;
            self.ends = Some((first, if latest { entry } else { shown }));
            return true;
        }
        // Two later ones in the order of presentation: all before the first of them is decoded.
        let done = entry.presentation_90k > self.latest_90k && self.later > 0;
        self.latest_90k = self.latest_90k.max(entry.presentation_90k);
        self.later += 1;
        !done && self.later <= REORDER_MAX
    }
}
