//! The recordings as one: the database and the files, changed together in an order that a power cut cannot spoil.
//!
//! A segment is noted before it has content and forgotten after its file is gone, so no file is ever without its row for
//! longer than a turn. Not here: queues, turns, when what is done.

mod reading;
mod removing;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::warn;

use self::writing::OpenFile;
pub(super) use self::{reading::Search, writing::Opening};
use super::CatalogError;
use super::database::{Change, Database, Durability};
use super::folder::Folder;
use super::key::Key;
use super::streams::{OpenSums, Streams};

/// The database, the folder, and what is open.
#[derive(Debug)]
pub(super) struct Recordings {
    folder: Folder,
    database: Database,
    streams: Streams,
    open: BTreeMap<Key, OpenFile>,
}

impl Recordings {
    /// All that the database has, with what was being written mended.
    pub(super) fn open(folder: Folder, database: Database) -> Result<Self, CatalogError> {
        let streams = Streams::read(&database).map_err(|error| database.explain(&error))?;
        let mut recordings = Self { folder, database, streams, open: BTreeMap::new() };
        recordings.mend_unfinished().map_err(|error| recordings.database.explain(&error))?;
        Ok(recordings)
    }

    pub(super) fn streams(&self) -> &Streams {
        &self.streams
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The error with the database's name.
    pub(super) fn explain(&self, error: &rusqlite::Error) -> CatalogError {
        if super::database::is_corrupt(error) {
            self.folder.ask_for_rebuild();
        }
        self.database.explain(error)
    }

    fn forget(&mut self, keys: &[Key]) {
        if keys.is_empty() {
            return;
        }
        let changes: Vec<_> = keys.iter().map(|key| Change::Remove(*key)).collect();
        if let Err(error) = self.database.apply(Durability::Lazy, &changes) {
            warn!(error = %self.explain(&error), "what is gone cannot be noted");
        }
        self.refresh_logged(keys.iter().copied());
    }

    fn refresh_logged(&mut self, keys: impl IntoIterator<Item = Key>) {
        if let Err(error) = self.refresh(keys) {
            warn!(error = %self.explain(&error), "the sums of the recordings cannot be read");
        }
    }

    fn refresh(&mut self, keys: impl IntoIterator<Item = Key>) -> rusqlite::Result<()> {
        let numbers: BTreeSet<u32> = keys.into_iter().map(Key::stream).collect();
        for number in numbers {
            let open = self.open_sums(number);
            self.streams.refresh(&self.database, number, &open)?;
        }
        Ok(())
    }

    fn open_sums(&self, number: u32) -> OpenSums {
        let mut sums = OpenSums::default();
        for (key, open) in self.open.range(Key::first(number)..=Key::last(number)) {
            sums.first_unix_ms.get_or_insert(key.start_unix_ms());
            sums.segments += 1;
            sums.bytes += open.bytes_lately();
        }
        sums
    }

    fn path(&self, key: Key) -> Option<PathBuf> {
        let stream = self.streams.get(key.stream())?;
        Some(self.folder.segment(&stream.row.folder, key.start_unix_ms()))
    }

    fn remove_empty_day(&self, key: Key) {
        if let Some(stream) = self.streams.get(key.stream()) {
            self.folder.remove_empty_day(&stream.row.folder, key.start_unix_ms());
        }
    }

    /// Ends it; all of the log goes into the file.
    pub(super) fn close(self) -> Result<(), CatalogError> {
        self.database.finish()
    }
}

/// The system's clock.
pub(super) fn now_unix_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
