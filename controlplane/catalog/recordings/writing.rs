//! Segments on their way into the catalogue: made, closed, and mended where nobody closed them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use lanecast_dvr::keyframes;
use lanecast_protocol::codec::Codec;
use lanecast_shard::{ClosedSegment, SegmentId, StreamId};
use tracing::{info, warn};

use super::Recordings;
use crate::catalog::database::{Change, Durability, Segment, State, StreamRow};
use crate::catalog::folder::{self, Inode};
use crate::catalog::key::Key;
use crate::catalog::recovery::{self, Contents, Found};
use crate::shards::Shard;
use crate::source_id::SourceId;

/// A file that a shard asks for.
#[derive(Debug)]
pub(in crate::catalog) struct Opening {
    pub(in crate::catalog) shard: Shard,
    pub(in crate::catalog) stream: StreamId,
    pub(in crate::catalog) source_id: SourceId,
    pub(in crate::catalog) ticket: u64,
    pub(in crate::catalog) start_unix_ms: i64,
    pub(in crate::catalog) codec: Codec,
}

/// What becomes of it.
pub(in crate::catalog) type Opened = Result<(SegmentId, File), String>;

/// A segment that a shard writes.
#[derive(Debug)]
pub(in crate::catalog) struct OpenFile {
    shard: Shard,
    stream: StreamId,
    codec: Codec,
    file: File,
    inode: Inode,
    path: PathBuf,
    bytes: u64,
    lost: bool,
}

impl Recordings {
    pub(super) fn mend_unfinished(&mut self) -> rusqlite::Result<()> {
        let unfinished = self.database.unfinished()?;
        for some in unfinished.chunks(MEND_BATCH) {
            let mended: Vec<_> = some.iter().filter_map(|segment| self.mend(segment)).collect();
            let changes: Vec<_> = mended.iter().map(Settled::change).collect();
            self.database.apply(Durability::Durable, &changes)?;
            self.refresh(some.iter().map(|segment| segment.key))?;
        }
        if !unfinished.is_empty() {
            info!(
                segments = unfinished.len(),
                "recordings that were being written when the last server ended are mended"
            );
        }
        Ok(())
    }

    /// What a segment is that nobody closed. `None`: its file could not be read; the next start tries again.
    fn mend(&self, segment: &Segment) -> Option<Settled> {
        let Some(path) = self.path(segment.key) else { return Some(Settled::Gone(segment.key)) };
        let path_shown = path.display();
        match recovery::mend(&path) {
            Ok(Found::Playable(contents)) => Some(Settled::closed(segment.key, contents)),
            Ok(Found::Empty) => {
                self.remove_empty_day(segment.key);
                Some(Settled::Gone(segment.key))
            }
            Ok(Found::Foreign(reason)) => {
                warn!(path = %path_shown, reason, "a recording cannot be read and is skipped");
                Some(Settled::Gone(segment.key))
            }
            Ok(Found::Gone) => {
                warn!(path = %path_shown, "a recording is gone");
                Some(Settled::Gone(segment.key))
            }
            Err(error) => {
                warn!(path = %path_shown, %error, "a recording cannot be read");
                None
            }
        }
    }

    /// Makes the files that are asked for, noted durably before. The answers are in the order of the questions.
    pub(in crate::catalog) fn open_segments(&mut self, openings: Vec<Opening>) -> Vec<(Opening, Opened)> {
        let keys = self.note_openings(&openings);
        let noted: Vec<Key> = keys.iter().flatten().copied().collect();
        let files: Vec<_> =
            openings.iter().zip(keys).map(|(opening, key)| self.make_file(opening, key?)).collect();
        let synced = self.sync_days(&files);
        let settle = |result: Result<Made, String>| {
            let made = result?;
            match synced.get(&made.path_of_day) {
                Some(Err(reason)) => Err(reason.clone()),
                _ => Ok(made),
            }
        };
        let results: Vec<_> = files.into_iter().map(settle).collect();
        let answers =
            openings.into_iter().zip(results).map(|(opening, made)| self.begin(opening, made)).collect();
        self.forget_unmade(noted);
        answers
    }

    /// Rows for all of them, in one transaction.
    fn note_openings(&mut self, openings: &[Opening]) -> Vec<Result<Key, String>> {
        let mut taken = BTreeSet::new();
        let mut keys = Vec::with_capacity(openings.len());
        for opening in openings {
            let key = self.free_key(opening, &taken);
            taken.extend(key.as_ref().ok().copied());
            keys.push(key);
        }
        let known = openings.iter().zip(&keys);
        let changes: Vec<_> = known
            .filter_map(|(opening, key)| Some(Change::Open(*key.as_ref().ok()?, opening.codec)))
            .collect();
        if changes.is_empty() {
            return keys;
        }
        if let Err(error) = self.database.apply(Durability::Durable, &changes) {
            let reason = match self.folder.is_read_only() {
                true => format!("the disk is read-only: {}", self.folder.path().display()),
                false => self.explain(&error).to_string(),
            };
            return keys.into_iter().map(|key| key.and(Err(reason.clone()))).collect();
        }
        keys
    }

    /// The start that was asked for, or the first after it at which neither a row nor a file is.
    fn free_key(&mut self, opening: &Opening, taken: &BTreeSet<Key>) -> Result<Key, String> {
        let number = self.stream_number(&opening.source_id)?;
        let range = || format!("the time of the pictures, {} ms, is out of range", opening.start_unix_ms);
        let mut key = Key::new(number, opening.start_unix_ms).ok_or_else(range)?;
        for _ in 0..START_TRIES {
            if !taken.contains(&key) && self.is_free(key)? {
                return Ok(key);
            }
            key = key.next().ok_or_else(range)?;
        }
        Err(format!(
            "{START_TRIES} recordings begin at the time of the pictures, {} ms",
            opening.start_unix_ms
        ))
    }

    fn is_free(&self, key: Key) -> Result<bool, String> {
        let Some(path) = self.path(key) else { return Ok(false) };
        let has_file = match Inode::at(&path) {
            Ok(found) => found.is_some(),
            Err(error) => return Err(folder::sentence(&path, &error)),
        };
        let has_row = self.database.has(key).map_err(|error| self.explain(&error).to_string())?;
        Ok(!has_file && !has_row && !self.open.contains_key(&key))
    }

    fn stream_number(&mut self, source_id: &SourceId) -> Result<u32, String> {
        if let Some(number) = self.streams.number(source_id) {
            return Ok(number);
        }
        let name = folder::stream_folder(source_id);
        let added = self.database.add_stream(source_id, &name);
        let number = added.map_err(|error| self.explain(&error).to_string())?;
        self.streams.add(StreamRow { number, source_id: source_id.clone(), folder: name });
        Ok(number)
    }

    fn make_file(&self, opening: &Opening, key: Key) -> Result<Made, String> {
        let stream = self.streams.get(key.stream()).ok_or("the stream is unknown")?;
        let folder = &stream.row.folder;
        let path = self.folder.segment(folder, key.start_unix_ms());
        let told = |error: io::Error| folder::sentence(&path, &error);
        let file = self.folder.create_segment(folder, &opening.source_id, key.start_unix_ms());
        let file = file.map_err(told)?;
        let inode = Inode::of(&file).map_err(told)?;
        Ok(Made { key, file, inode, path_of_day: self.folder.day(folder, key.start_unix_ms()), path })
    }

    /// The day's folders after all files are made: mostly the first takes the others with it.
    fn sync_days(&self, files: &[Result<Made, String>]) -> BTreeMap<PathBuf, Result<(), String>> {
        let days: BTreeSet<_> = files.iter().flatten().map(|made| made.path_of_day.clone()).collect();
        let sync = |day: PathBuf| {
            let synced = folder::sync(&day).map_err(|error| folder::sentence(&day, &error));
            (day, synced)
        };
        days.into_iter().map(sync).collect()
    }

    fn begin(&mut self, opening: Opening, made: Result<Made, String>) -> (Opening, Opened) {
        let begun = made.and_then(|made| {
            let file = made.file.try_clone().map_err(|error| folder::sentence(&made.path, &error))?;
            let open = OpenFile {
                shard: opening.shard.clone(),
                stream: opening.stream,
                codec: opening.codec,
                file: made.file,
                inode: made.inode,
                path: made.path,
                bytes: 0,
                lost: false,
            };
            self.open.insert(made.key, open);
            self.refresh_logged([made.key]);
            Ok((made.key.segment(), file))
        });
        (opening, begun)
    }

    /// Rows that were noted and got no file.
    fn forget_unmade(&mut self, noted: Vec<Key>) {
        let unmade: Vec<Key> = noted.into_iter().filter(|key| !self.open.contains_key(key)).collect();
        for path in unmade.iter().filter_map(|key| self.path(*key)).filter(|path| is_empty_file(path)) {
            // What cannot be removed is found at the next start.
            let _ = std::fs::remove_file(path);
        }
        self.forget(&unmade);
    }

    /// Nobody took the file: as if it had not been made.
    pub(in crate::catalog) fn abandon(&mut self, segment: SegmentId) {
        let nothing =
            ClosedSegment { segment, start_unix_ms: 0, end_unix_ms: 0, bytes: 0, keyframes: Vec::new() };
        // What stays noted is mended at the next start.
        let _ = self.close_segments(vec![nothing]);
    }

    /// Files are done. Gives those back that could not be noted.
    pub(in crate::catalog) fn close_segments(&mut self, closed: Vec<ClosedSegment>) -> Vec<ClosedSegment> {
        let known =
            |closed: &ClosedSegment| Key::of(closed.segment).filter(|key| self.open.contains_key(key));
        let closed: Vec<_> =
            closed.into_iter().filter_map(|closed| Some((known(&closed)?, closed))).collect();
        if closed.is_empty() {
            return Vec::new();
        }
        let settled: Vec<_> = closed.iter().map(|(key, closed)| self.settle(*key, closed)).collect();
        let changes: Vec<_> = settled.iter().map(Settled::change).collect();
        // A row that is lost in a power cut is still open, and mended.
        if let Err(error) = self.database.apply(Durability::Lazy, &changes) {
            let error = self.explain(&error);
            warn!(%error, segments = closed.len(), "recordings cannot be noted as done; they are tried again");
            return closed.into_iter().map(|(_, closed)| closed).collect();
        }
        for (key, _) in &closed {
            self.open.remove(key);
        }
        self.refresh_logged(closed.iter().map(|(key, _)| *key));
        Vec::new()
    }

    /// Brings the file to its end.
    fn settle(&self, key: Key, closed: &ClosedSegment) -> Settled {
        let Some(open) = self.open.get(&key) else { return Settled::Gone(key) };
        let path = open.path.display();
        if !open.is_in_place() {
            // It may live on elsewhere, then with all that was written.
            let _ = open.finish(if closed.bytes > 0 { closed.bytes } else { u64::MAX });
            if !open.lost {
                warn!(%path, "a recording was moved or removed while it was written");
            }
            return Settled::Gone(key);
        }
        if open.lost {
            // It is back, but its recorder has forgotten it.
            return self.mend_closed(key, &open.path);
        }
        if closed.keyframes.is_empty() || closed.bytes == 0 {
            if let Err(error) = std::fs::remove_file(&open.path) {
                warn!(%path, %error, "an empty recording cannot be removed");
            }
            self.remove_empty_day(key);
            return Settled::Gone(key);
        }
        match open.finish(closed.bytes) {
            Ok(true) => Settled::of_closed(key, open.codec, closed),
            Ok(false) => {
                warn!(%path, "a recording is shorter than it should be");
                self.mend_closed(key, &open.path)
            }
            Err(error) => {
                warn!(%path, %error, "a recording cannot be cut to its length");
                Settled::of_closed(key, open.codec, closed)
            }
        }
    }

    fn mend_closed(&self, key: Key, path: &Path) -> Settled {
        match recovery::mend(path) {
            Ok(Found::Playable(contents)) => Settled::closed(key, contents),
            Ok(_) => Settled::Gone(key),
            Err(error) => {
                warn!(path = %path.display(), %error, "a recording cannot be read");
                Settled::Gone(key)
            }
        }
    }

    /// Looks whether open files are where they were, and how large. Gives each that is not, once.
    pub(in crate::catalog) fn check_open(&mut self) -> Vec<(Shard, StreamId, SegmentId)> {
        let mut lost = Vec::new();
        let mut bytes: BTreeMap<u32, u64> = BTreeMap::new();
        for (key, open) in &mut self.open {
            open.bytes = open.bytes();
            *bytes.entry(key.stream()).or_default() += open.bytes;
            if !open.lost && !open.is_in_place() {
                open.lost = true;
                warn!(path = %open.path.display(), "a recording that is written was moved or removed");
                lost.push((open.shard.clone(), open.stream, key.segment()));
            }
        }
        for (number, bytes) in bytes {
            self.streams.set_open_bytes(number, bytes);
        }
        lost
    }
}

/// A file that was just made.
#[derive(Debug)]
struct Made {
    key: Key,
    file: File,
    inode: Inode,
    path: PathBuf,
    path_of_day: PathBuf,
}

impl OpenFile {
    /// Its length now.
    pub(super) fn bytes(&self) -> u64 {
        self.file.metadata().map_or(self.bytes, |metadata| metadata.len())
    }

    /// Its length when it was looked at last.
    pub(super) fn bytes_lately(&self) -> u64 {
        self.bytes
    }

    fn is_in_place(&self) -> bool {
        // What cannot be looked at is not known to be lost.
        Inode::at(&self.path).map_or(true, |found| found == Some(self.inode))
    }

    /// Cuts it to its length, durably. False if it is shorter.
    fn finish(&self, bytes: u64) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        if length > bytes {
            self.file.set_len(bytes)?;
        }
        self.file.sync_data()?;
        Ok(length >= bytes)
    }
}

/// What became of a segment that was open.
#[derive(Debug)]
enum Settled {
    Closed(Segment, Vec<u8>),
    Gone(Key),
}

impl Settled {
    fn closed(key: Key, contents: Contents) -> Self {
        let index = keyframes::encode(&contents.keyframes);
        Self::Closed(contents.segment(key), index)
    }

    fn of_closed(key: Key, codec: Codec, closed: &ClosedSegment) -> Self {
        let duration_ms = duration_ms(key, closed.end_unix_ms);
        let segment = Segment { key, duration_ms, bytes: closed.bytes, codec, state: State::Closed };
        Self::Closed(segment, keyframes::encode(&closed.keyframes))
    }

    fn change(&self) -> Change<'_> {
        match self {
            Self::Closed(segment, index) => Change::Close(segment, index),
            Self::Gone(key) => Change::Remove(*key),
        }
    }
}

impl Contents {
    /// As a row.
    pub(in crate::catalog) fn segment(&self, key: Key) -> Segment {
        let duration_ms = duration_ms(key, self.end_unix_ms);
        Segment { key, duration_ms, bytes: self.bytes, codec: self.codec, state: State::Closed }
    }
}

/// Never nothing, or its start would not be in it.
fn duration_ms(key: Key, end_unix_ms: i64) -> u64 {
    u64::try_from(end_unix_ms.saturating_sub(key.start_unix_ms())).unwrap_or(0).max(1)
}

fn is_empty_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
}

/// Milliseconds that are tried when a start is taken: a clock that stands still for longer is broken.
const START_TRIES: u32 = 1000;
/// Files mended in one transaction.
const MEND_BATCH: usize = 256;
