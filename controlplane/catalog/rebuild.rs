//! The catalogue made anew from the files.
//!
//! It is made beside the old one and takes its place when it is whole. If the way there is cut, there is either the old one or
//! none, and none is made anew at the next start. Not here: when that is needed.

use std::io;
use std::path::{Path, PathBuf};

use lanecast_dvr::keyframes;
use tracing::{info, warn};

use super::CatalogError;
use super::database::{Change, Database, Durability, Segment};
use super::folder::{self, Folder};
use super::key::Key;
use super::recovery::{self, Found};

/// Makes it and puts it in its place. Gives the number of segments.
pub(super) fn rebuild(folder: &Folder) -> Result<u64, CatalogError> {
    let path = folder.beside_database(NEW);
    remove_if_there(&path)?;
    let database = Database::create(&path).map_err(|error| super::database::database_error(&path, &error))?;
    let mut rebuild = Rebuild { folder, database, pending: Vec::new(), segments: 0 };
    rebuild.walk()?;
    let segments = rebuild.segments;
    rebuild.database.finish()?;
    put_in_place(folder, &path)?;
    info!(path = %folder.database().display(), segments, "the catalogue was made anew from the files");
    Ok(segments)
}

/// Moves a catalogue away that cannot be used; the one before that is forgotten.
pub(super) fn set_aside(folder: &Folder) -> Result<PathBuf, CatalogError> {
    let aside = folder.beside_database(ASIDE);
    remove_if_there(&folder.beside_database(ASIDE_LOG))?;
    rename_if_there(&folder.database(), &aside)?;
    rename_if_there(&folder.beside_database(LOG), &folder.beside_database(ASIDE_LOG))?;
    remove_if_there(&folder.beside_database(SHARED_MEMORY))?;
    Ok(aside)
}

/// A log without its database would spoil the next one.
pub(super) fn remove_stray_logs(folder: &Folder) -> Result<(), CatalogError> {
    remove_if_there(&folder.beside_database(LOG))?;
    remove_if_there(&folder.beside_database(SHARED_MEMORY))
}

fn put_in_place(folder: &Folder, new: &Path) -> Result<(), CatalogError> {
    let old = folder.beside_database(OLD);
    rename_if_there(&folder.database(), &old)?;
    remove_stray_logs(folder)?;
    rename_if_there(new, &folder.database())?;
    remove_if_there(&old)?;
    folder.rebuild_is_done();
    folder::sync(folder.path()).map_err(|error| folder::file_error(folder.path(), &error))
}

struct Rebuild<'a> {
    folder: &'a Folder,
    database: Database,
    pending: Vec<(Segment, Vec<u8>)>,
    segments: u64,
}

impl Rebuild<'_> {
    fn walk(&mut self) -> Result<(), CatalogError> {
        let root = self.folder.path();
        for name in folder::folder_names(root).map_err(|error| folder::file_error(root, &error))? {
            self.walk_stream(&name)?;
        }
        self.write()
    }

    fn walk_stream(&mut self, stream_folder: &str) -> Result<(), CatalogError> {
        let path = self.folder.stream(stream_folder);
        let source_id = match folder::read_source_id(&path) {
            Ok(source_id) => source_id,
            Err(reason) => {
                skip(&path, &reason);
                return Ok(());
            }
        };
        if self.database.has_stream(&source_id).map_err(|error| self.database.explain(&error))? {
            skip(&path, "another folder has the recordings of this stream");
            return Ok(());
        }
        let number = self.database.add_stream(&source_id, stream_folder);
        let number = number.map_err(|error| self.database.explain(&error))?;
        for day in folder::folder_names(&path).map_err(|error| folder::file_error(&path, &error))? {
            self.walk_day(number, &path.join(day))?;
        }
        Ok(())
    }

    fn walk_day(&mut self, number: u32, day: &Path) -> Result<(), CatalogError> {
        let mut keys = Vec::new();
        for entry in std::fs::read_dir(day).map_err(|error| folder::file_error(day, &error))? {
            let path = entry.map_err(|error| folder::file_error(day, &error))?.path();
            match key_of(number, day, &path) {
                Some(key) => keys.push((key, path)),
                None => skip(&path, "its name and place are not those of a recording"),
            }
        }
        keys.sort_unstable();
        for (key, path) in keys {
            self.take(key, &path)?;
        }
        // Its files may all have been empty; one that is in use is the rule, not an error.
        let _ = std::fs::remove_dir(day);
        Ok(())
    }

    fn take(&mut self, key: Key, path: &Path) -> Result<(), CatalogError> {
        match recovery::mend_unknown(path) {
            Ok(Found::Playable(contents)) => {
                if let Some(recovery::Tail::Damaged(reason)) = &contents.tail {
                    warn!(path = %path.display(), reason, "a recording is damaged; what is before that is kept");
                }
                self.pending.push((contents.segment(key), keyframes::encode(&contents.keyframes)));
            }
            Ok(Found::Empty | Found::Gone) => {}
            Ok(Found::Foreign(reason)) => skip(path, &reason),
            Err(error) => skip(path, &error.to_string()),
        }
        match self.pending.len() >= BATCH {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Result<(), CatalogError> {
        let changes: Vec<_> =
            self.pending.iter().map(|(segment, index)| Change::Add(segment, index)).collect();
        self.database.apply(Durability::Lazy, &changes).map_err(|error| self.database.explain(&error))?;
        self.segments += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

/// The key of a file by its name, if that stands in the folder of its day.
fn key_of(number: u32, day: &Path, path: &Path) -> Option<Key> {
    let start_unix_ms = folder::start_of_name(path.file_name()?.to_str()?)?;
    let in_its_day = day.file_name()?.to_str()? == folder::day_name(start_unix_ms);
    Key::new(number, start_unix_ms).filter(|_| in_its_day)
}

fn skip(path: &Path, reason: &str) {
    warn!(path = %path.display(), reason, "skipped: not a recording that can be read");
}

fn remove_if_there(path: &Path) -> Result<(), CatalogError> {
    unless_gone(path, std::fs::remove_file(path))
}

fn rename_if_there(from: &Path, to: &Path) -> Result<(), CatalogError> {
    unless_gone(from, std::fs::rename(from, to))
}

fn unless_gone(path: &Path, result: io::Result<()>) -> Result<(), CatalogError> {
    match result {
        Err(error) if !folder::is_gone(&error) => Err(folder::file_error(path, &error)),
        _ => Ok(()),
    }
}

const NEW: &str = ".new";
const OLD: &str = ".old";
const LOG: &str = "-wal";
const SHARED_MEMORY: &str = "-shm";
const ASIDE: &str = ".damaged";
const ASIDE_LOG: &str = ".damaged-wal";
/// Segments written in one transaction.
const BATCH: usize = 4096;
