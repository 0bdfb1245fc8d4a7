//! Segments on their way out: first the file, then the row, so that no file is left that nobody knows.

use super::Recordings;
use crate::catalog::database::{Change, Durability, Segment, State};
use crate::catalog::folder;
use crate::catalog::key::Key;
use crate::catalog::{CatalogError, Freed};

/// Some segments to remove, and where the next ones begin.
#[derive(Debug)]
pub(in crate::catalog) struct Inside {
    pub(in crate::catalog) segments: Vec<Segment>,
    pub(in crate::catalog) next: Option<Key>,
}

impl Recordings {
    /// Some whole closed segments inside a range of times, from this key on.
    pub(in crate::catalog) fn inside(&self, first: Key, to_unix_ms: i64) -> rusqlite::Result<Inside> {
        let last = Key::nearest(first.stream(), to_unix_ms.saturating_sub(1));
        let segments = self.database.range(first, last, REMOVE_BATCH)?;
        let full = segments.len() == REMOVE_BATCH;
        let next = segments.last().filter(|_| full).and_then(|segment| segment.key.next());
        let whole = |segment: &Segment| segment.state != State::Open && segment.end_unix_ms() <= to_unix_ms;
        Ok(Inside { segments: segments.into_iter().filter(whole).collect(), next })
    }

    /// Removes files, and then their rows.
    pub(in crate::catalog) fn remove(&mut self, segments: &[Segment]) -> Result<Freed, CatalogError> {
        let mut freed = Freed::default();
        let mut gone = Vec::new();
        let mut failed = None;
        for segment in segments {
            match self.remove_file(segment.key) {
                Ok(was_there) => {
                    freed.segments += 1;
                    freed.bytes += if was_there { segment.bytes } else { 0 };
                    gone.push(segment.key);
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        for day in days(&gone) {
            self.remove_empty_day(day);
        }
        let changes: Vec<_> = gone.iter().map(|key| Change::Remove(*key)).collect();
        self.database.apply(Durability::Lazy, &changes).map_err(|error| self.explain(&error))?;
        self.refresh(gone).map_err(|error| self.explain(&error))?;
        failed.map_or(Ok(freed), Err)
    }

    fn remove_file(&self, key: Key) -> Result<bool, CatalogError> {
        let Some(stream) = self.streams.get(key.stream()) else { return Ok(false) };
        let removed = self.folder.remove_segment(&stream.row.folder, key.start_unix_ms());
        removed.map_err(|error| {
            folder::file_error(&self.folder.segment(&stream.row.folder, key.start_unix_ms()), &error)
        })
    }
}

/// One key of each day.
fn days(keys: &[Key]) -> Vec<Key> {
    let mut days: Vec<Key> = keys.to_vec();
    days.dedup_by_key(|key| (key.stream(), key.start_unix_ms().div_euclid(DAY_MS)));
    days
}

const DAY_MS: i64 = 86_400_000;
/// Files removed in a turn: each takes some milliseconds on a slow disk, and a seek waits behind them.
pub(in crate::catalog) const REMOVE_BATCH: usize = 8;
