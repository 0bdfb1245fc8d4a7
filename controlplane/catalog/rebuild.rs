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
        let days = folder::folder_names(&path).unwrap_or_else(|error| {
            skip(&path, &error.to_string());
            Vec::new()
        });
        days.iter().try_for_each(|day| self.walk_day(number, &path.join(day)))
    }

    fn walk_day(&mut self, number: u32, day: &Path) -> Result<(), CatalogError> {
        let mut keys = match keys_in(number, day) {
            Ok(keys) => keys,
            Err(error) => {
                skip(day, &error.to_string());
                return Ok(());
            }
        };
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

/// The files of a day that may be ours.
fn keys_in(number: u32, day: &Path) -> io::Result<Vec<(Key, PathBuf)>> {
    let mut keys = Vec::new();
    for entry in std::fs::read_dir(day)? {
        let path = entry?.path();
        match key_of(number, day, &path) {
            Some(key) => keys.push((key, path)),
            None => skip(&path, "its name and place are not those of a recording"),
        }
    }
    Ok(keys)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use lanecast_shard::Wanted;

    use super::super::fixture::{Film, MIDNIGHT, MINUTE, Place, text};
    use super::super::{Catalog, Span, Summary};
    use super::*;
    use crate::source_id::SourceId;

    const DAY: i64 = 24 * 60 * MINUTE;

    /// Two streams over two days, with a gap; one file was being written.
    fn recorded(place: &Place) {
        let catalog = place.open();
        for minute in [0, 1, 2, 10] {
            place.record(&catalog, &text("front door"), MIDNIGHT + minute * MINUTE, 30);
            place.record(&catalog, &SourceId::Number(7), MIDNIGHT + DAY - 2 * MINUTE + minute * MINUTE, 30);
        }
        let film = Film::new(MIDNIGHT + 11 * MINUTE, 9);
        let (_, file) = place.begin(&catalog, &text("front door"), film.start);
        file.write_all_at(&film.bytes[..film.bytes.len() - 7], 0).unwrap();
        place.begin(&catalog, &text("front door"), MIDNIGHT + 12 * MINUTE);
        catalog.close();
    }

    async fn seen(catalog: &Catalog) -> Vec<(Vec<Span>, Summary)> {
        let mut seen = Vec::new();
        for source_id in [text("front door"), SourceId::Number(7), text("7")] {
            let timeline = catalog.timeline(&source_id, i64::MIN, i64::MAX).await.unwrap();
            seen.push((timeline, catalog.summary(&source_id)));
        }
        seen
    }

    #[tokio::test]
    async fn a_rebuild_finds_what_the_catalogue_had_and_another_the_same() {
        let (mended, place) = (Place::new(), Place::new());
        for place in [&mended, &place] {
            recorded(place);
        }
        let expected = seen(&mended.open()).await;
        for _ in 0..2 {
            assert_eq!(super::super::rebuild(&place.settings()).unwrap(), 9);
            let catalog = place.open();
            assert_eq!(seen(&catalog).await, expected);
            let found = place.locate(&catalog, &text("front door"), Wanted::At(MIDNIGHT + MINUTE)).unwrap();
            assert_eq!(found.closed.unwrap().keyframes, Film::new(MIDNIGHT + MINUTE, 30).keyframes);
            catalog.close();
        }
        let strays: Vec<_> = names(&place).into_iter().filter(|name| name.starts_with("catalog")).collect();
        assert_eq!(strays, ["catalog.lock", "catalog.sqlite"]);
    }

    fn names(place: &Place) -> Vec<String> {
        let entries = std::fs::read_dir(place.folder()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[tokio::test]
    async fn what_is_not_ours_is_skipped_and_stays() {
        let place = Place::new();
        recorded(&place);
        let day = place.folder().join(&place.files()[0]).parent().unwrap().to_owned();
        let stream = day.parent().unwrap().to_owned();
        let foreign = [
            place.folder().join("readme.txt"),
            stream.join("notes.mp4"),
            day.join("holiday.mp4"),
            day.join("2026-09-22T05-00-00.000Z.mp4"),
            // Ours, but of another day.
            day.join("2026-09-23T05-00-00.000Z.mp4"),
        ];
        for path in &foreign {
            std::fs::write(path, "of somebody else").unwrap();
        }
        std::fs::create_dir(day.join("2026-09-22T06-00-00.000Z.mp4")).unwrap();
        nix::unistd::mkfifo(&day.join("2026-09-22T07-00-00.000Z.mp4"), nix::sys::stat::Mode::S_IRWXU)
            .unwrap();
        std::fs::create_dir_all(place.folder().join("lost+found/2026-09-22")).unwrap();
        std::fs::create_dir(place.folder().join("broken")).unwrap();
        std::fs::write(place.folder().join("broken/stream.json"), "{").unwrap();
        assert_eq!(super::super::rebuild(&place.settings()).unwrap(), 9);
        for path in &foreign {
            assert_eq!(std::fs::read(path).unwrap(), b"of somebody else");
        }
    }

    #[tokio::test]
    async fn a_folder_that_was_copied_is_not_a_second_stream() {
        let place = Place::new();
        recorded(&place);
        let front = names(&place).into_iter().find(|name| name.starts_with("front")).unwrap();
        let copy = place.folder().join("zz copy");
        std::fs::create_dir(&copy).unwrap();
        let original = place.folder().join(front).join("stream.json");
        std::fs::copy(original, copy.join("stream.json")).unwrap();
        assert_eq!(super::super::rebuild(&place.settings()).unwrap(), 9);
    }

    #[tokio::test]
    async fn a_catalogue_that_cannot_be_used_is_set_aside_and_made_anew() {
        let expected = {
            let place = Place::new();
            recorded(&place);
            seen(&place.open()).await
        };
        let page = 4096;
        let spoil = |index: u32, bytes: &mut Vec<u8>| match index {
            0 => *bytes = b"no database at all, ".repeat(1000),
            1 => bytes.truncate(page * 2),
            2 => bytes.truncate(100),
            3 => bytes.clear(),
            4 => bytes[page..].fill(0xff),
            _ => bytes[..20].fill(0),
        };
        for index in 0..6 {
            let place = Place::new();
            recorded(&place);
            let path = place.folder().join("catalog.sqlite");
            let mut bytes = std::fs::read(&path).unwrap();
            spoil(index, &mut bytes);
            std::fs::write(&path, &bytes).unwrap();
            let catalog = place.open();
            assert_eq!(seen(&catalog).await, expected, "{index}");
            if !bytes.is_empty() {
                assert!(names(&place).contains(&"catalog.sqlite.damaged".into()), "{index}");
            }
        }
    }

    #[tokio::test]
    async fn a_database_with_other_tables_is_not_ours() {
        let place = Place::new();
        std::fs::create_dir(place.folder()).unwrap();
        let connection = rusqlite::Connection::open(place.folder().join("catalog.sqlite")).unwrap();
        connection.execute_batch("CREATE TABLE streams (x); PRAGMA user_version = 1").unwrap();
        drop(connection);
        let catalog = place.open();
        place.record(&catalog, &text("a"), MIDNIGHT, 1);
        assert!(place.locate(&catalog, &text("a"), Wanted::At(MIDNIGHT)).is_some());
    }

    #[tokio::test]
    async fn a_catalogue_that_is_not_there_is_made_anew() {
        let place = Place::new();
        recorded(&place);
        let path = place.folder().join("catalog.sqlite");
        let before = seen(&place.open()).await;
        std::fs::remove_file(&path).unwrap();
        assert_eq!(seen(&place.open()).await, before);
    }

    #[tokio::test]
    async fn damage_that_is_met_while_it_is_used_is_mended_by_the_next_start() {
        let place = Place::new();
        recorded(&place);
        let folder = Folder::open(&place.folder()).unwrap();
        folder.ask_for_rebuild();
        drop(folder);
        drop(place.open());
        let asides: Vec<_> = names(&place).into_iter().filter(|name| name.ends_with(".damaged")).collect();
        assert_eq!(asides.len(), 1);
        assert!(!names(&place).contains(&"catalog.sqlite.rebuild".into()));
    }
}
