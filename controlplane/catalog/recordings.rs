//! The recordings as one: the database and the files, changed together in an order that a power cut cannot spoil.
//!
//! A segment is noted before it has content and forgotten after its file is gone, so no file is ever without its row for
//! longer than a turn. Not here: queues, turns, when what is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use lanecast_dvr::keyframes;
use lanecast_protocol::codec::Codec;
use lanecast_shard::{ClosedSegment, LocatedExtent, LocatedSegment, SegmentId, StreamId, Wanted};
use tracing::{info, warn};

use super::database::{Change, Database, Durability, Segment, State};
use super::folder::{self, Folder, Inode};
use super::key::Key;
use super::recovery::{self, Contents, Found};
use super::streams::{OpenSums, Streams};
use super::timeline::Spans;
use super::{CatalogError, Freed};
use crate::shards::Shard;
use crate::source_id::SourceId;

/// The database, the folder, and what is open.
#[derive(Debug)]
pub(super) struct Recordings {
    folder: Folder,
    database: Database,
    streams: Streams,
    open: BTreeMap<Key, OpenFile>,
}

/// A segment that a shard writes.
#[derive(Debug)]
pub(super) struct OpenFile {
    shard: Shard,
    stream: StreamId,
    codec: Codec,
    file: File,
    inode: Inode,
    path: PathBuf,
    bytes: u64,
    lost: bool,
}

/// A file that a shard asks for.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) shard: Shard,
    pub(super) stream: StreamId,
    pub(super) source_id: SourceId,
    pub(super) ticket: u64,
    pub(super) start_unix_ms: i64,
    pub(super) codec: Codec,
}

/// How far a search got.
#[derive(Debug)]
pub(super) enum Search {
    Found(Box<LocatedSegment>),
    Nothing,
    /// So many were gone that others should have their turn first; go on from here.
    GoOn(Wanted),
    Failed(String),
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

    fn mend_unfinished(&mut self) -> rusqlite::Result<()> {
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
    pub(super) fn open_segments(
        &mut self,
        openings: Vec<Opening>,
    ) -> Vec<(Opening, Result<(SegmentId, File), String>)> {
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
            let reason = self.explain(&error).to_string();
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
        self.streams.add(super::database::StreamRow { number, source_id: source_id.clone(), folder: name });
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

    fn begin(
        &mut self,
        opening: Opening,
        made: Result<Made, String>,
    ) -> (Opening, Result<(SegmentId, File), String>) {
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
    pub(super) fn abandon(&mut self, segment: SegmentId) {
        let nothing =
            ClosedSegment { segment, start_unix_ms: 0, end_unix_ms: 0, bytes: 0, keyframes: Vec::new() };
        // What stays noted is mended at the next start.
        let _ = self.close_segments(vec![nothing]);
    }

    /// Files are done. Gives those back that could not be noted.
    pub(super) fn close_segments(&mut self, closed: Vec<ClosedSegment>) -> Vec<ClosedSegment> {
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
            // It may live on elsewhere, then as it should be.
            let _ = open.finish(closed.bytes);
            warn!(%path, "a recording was moved or removed while it was written");
            return Settled::Gone(key);
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
    pub(super) fn check_open(&mut self) -> Vec<(Shard, StreamId, SegmentId)> {
        let mut lost = Vec::new();
        let mut bytes: BTreeMap<u32, u64> = BTreeMap::new();
        for (key, open) in &mut self.open {
            open.bytes = open.file.metadata().map_or(open.bytes, |metadata| metadata.len());
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

    /// Finds a segment that can be played and opens its file. Those whose files are gone are forgotten.
    pub(super) fn locate(&mut self, source_id: &SourceId, wanted: Wanted) -> Search {
        let Some(number) = self.streams.number(source_id) else { return Search::Nothing };
        let mut wanted = wanted;
        let mut gone = Vec::new();
        let mut search = None;
        for _ in 0..LOCATE_TRIES {
            let segment = match self.candidate(number, wanted) {
                Ok(Some(segment)) => segment,
                Ok(None) => {
                    search = Some(Search::Nothing);
                    break;
                }
                Err(error) => {
                    search = Some(Search::Failed(self.explain(&error).to_string()));
                    break;
                }
            };
            match self.open_for_reading(&segment) {
                Ok(found) => {
                    search = Some(Search::Found(Box::new(found)));
                    break;
                }
                Err(Unreadable::Gone) if segment.state == State::Closed => gone.push(segment.key),
                Err(Unreadable::Gone | Unreadable::Skip) => {}
                Err(Unreadable::Damaged(reason)) => self.damaged(segment.key.segment(), &reason),
                Err(Unreadable::All(reason)) => {
                    search = Some(Search::Failed(reason));
                    break;
                }
            }
            wanted = Wanted::After(segment.start_unix_ms());
        }
        self.forget(&gone);
        search.unwrap_or(Search::GoOn(wanted))
    }

    /// True if there is a row at this time or later.
    pub(super) fn has(&self, source_id: &SourceId, unix_ms: i64) -> rusqlite::Result<bool> {
        let Some(number) = self.streams.number(source_id) else { return Ok(false) };
        Ok(self.candidate(number, Wanted::At(unix_ms))?.is_some())
    }

    fn candidate(&self, number: u32, wanted: Wanted) -> rusqlite::Result<Option<Segment>> {
        match wanted {
            Wanted::At(time) => {
                let before = match time < 0 {
                    true => None,
                    false => self.database.at_or_before(Key::nearest(number, time))?,
                };
                match before {
                    Some(segment) if segment.state == State::Open || time < segment.end_unix_ms() => {
                        Ok(Some(segment))
                    }
                    _ => self.candidate(number, Wanted::After(time)),
                }
            }
            Wanted::After(time) if time < 0 => self.database.from(Key::first(number)),
            Wanted::After(time) => match Key::nearest(number, time).next() {
                Some(key) => self.database.from(key),
                None => Ok(None),
            },
        }
    }

    fn open_for_reading(&self, segment: &Segment) -> Result<LocatedSegment, Unreadable> {
        let stream = self.streams.get(segment.key.stream()).ok_or(Unreadable::Skip)?;
        let path = self.folder.segment(&stream.row.folder, segment.start_unix_ms());
        let shown = path.display();
        let file = match folder::open_regular(&path, false) {
            Ok(file) => file,
            Err(error) if folder::is_gone(&error) && self.folder.has_stream(&stream.row.folder) => {
                warn!(path = %shown, "a recording is gone and is skipped");
                return Err(Unreadable::Gone);
            }
            // The folder of all of them: perhaps a disk that is not mounted.
            Err(error) if folder::is_gone(&error) => {
                let folder = self.folder.stream(&stream.row.folder);
                return Err(Unreadable::All(folder::sentence(&folder, &error)));
            }
            Err(error) if is_of_process(&error) => {
                return Err(Unreadable::All(folder::sentence(&path, &error)));
            }
            Err(error) => {
                warn!(path = %shown, %error, "a recording cannot be read and is skipped");
                return Err(Unreadable::Skip);
            }
        };
        let closed = match segment.state {
            State::Open if self.open.contains_key(&segment.key) => None,
            // It could not be mended at the start.
            State::Open => return Err(Unreadable::Skip),
            State::Closed | State::Damaged => Some(self.extent(segment, &file)?),
        };
        let (start_unix_ms, codec) = (segment.start_unix_ms(), segment.codec);
        Ok(LocatedSegment { segment: segment.key.segment(), start_unix_ms, codec, file, closed })
    }

    fn extent(&self, segment: &Segment, file: &File) -> Result<LocatedExtent, Unreadable> {
        if file.metadata().map_or(0, |metadata| metadata.len()) < segment.bytes {
            return Err(Unreadable::Damaged("the file is shorter than it was".into()));
        }
        let index = self
            .database
            .keyframes(segment.key)
            .map_err(|error| Unreadable::All(self.explain(&error).to_string()))?;
        let keyframes =
            index.and_then(|bytes| keyframes::decode(&bytes)).filter(|keyframes| !keyframes.is_empty());
        let keyframes = keyframes.ok_or_else(|| Unreadable::Damaged("its index cannot be read".into()))?;
        Ok(LocatedExtent { end_unix_ms: segment.end_unix_ms(), bytes: segment.bytes, keyframes })
    }

    /// It is skipped from now on.
    pub(super) fn damaged(&mut self, segment: SegmentId, reason: &str) {
        let Some(path) = Key::of(segment).and_then(|key| self.path(key)) else { return };
        let Some(key) = Key::of(segment) else { return };
        warn!(path = %path.display(), reason, "a recording is damaged and is skipped");
        if let Err(error) = self.database.apply(Durability::Lazy, &[Change::Damage(key)]) {
            warn!(error = %self.explain(&error), "it cannot be noted");
        }
    }

    /// The next segments of a timeline: some of them into `spans`, and where to go on, if there are more.
    pub(super) fn timeline(
        &self,
        first: Key,
        last: Key,
        from_unix_ms: i64,
        spans: &mut Spans,
    ) -> rusqlite::Result<Option<Key>> {
        let segments = self.database.range(first, last, TIMELINE_BATCH)?;
        for segment in &segments {
            let (end_unix_ms, bytes) = self.now(segment);
            if end_unix_ms > from_unix_ms {
                spans.push(segment, end_unix_ms, bytes);
            }
        }
        let full = segments.len() == TIMELINE_BATCH;
        Ok(segments
            .last()
            .filter(|_| full)
            .and_then(|segment| segment.key.next())
            .filter(|next| *next <= last))
    }

    /// End and bytes of a segment as they are now.
    fn now(&self, segment: &Segment) -> (i64, u64) {
        match self.open.get(&segment.key) {
            Some(open) => {
                let bytes = open.file.metadata().map_or(open.bytes, |metadata| metadata.len());
                (now_unix_ms().max(segment.start_unix_ms()), bytes)
            }
            None => (segment.end_unix_ms(), segment.bytes),
        }
    }

    /// The keys of the segments that may touch a range of times; `None`: there can be none.
    pub(super) fn touching(
        &self,
        source_id: &SourceId,
        from_unix_ms: i64,
        to_unix_ms: i64,
    ) -> rusqlite::Result<Option<(Key, Key)>> {
        let Some(number) = self.streams.number(source_id) else { return Ok(None) };
        if from_unix_ms >= to_unix_ms || to_unix_ms <= 0 {
            return Ok(None);
        }
        let from = Key::nearest(number, from_unix_ms);
        let first = self.database.at_or_before(from)?.map_or(from, |segment| segment.key);
        Ok(Some((first, Key::nearest(number, to_unix_ms - 1))))
    }

    /// Some whole closed segments inside a range of times, from this key on.
    pub(super) fn inside(&self, first: Key, to_unix_ms: i64) -> rusqlite::Result<Inside> {
        let last = Key::nearest(first.stream(), to_unix_ms.saturating_sub(1));
        let segments = self.database.range(first, last, REMOVE_BATCH)?;
        let full = segments.len() == REMOVE_BATCH;
        let next = segments.last().filter(|_| full).and_then(|segment| segment.key.next());
        let whole = |segment: &Segment| segment.state != State::Open && segment.end_unix_ms() <= to_unix_ms;
        Ok(Inside { segments: segments.into_iter().filter(whole).collect(), next })
    }

    /// Removes files, and then their rows.
    pub(super) fn remove(&mut self, segments: &[Segment]) -> Result<Freed, CatalogError> {
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
            sums.bytes += open.bytes;
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

/// Some segments to remove, and where the next ones begin.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) segments: Vec<Segment>,
    pub(super) next: Option<Key>,
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
    pub(super) fn segment(&self, key: Key) -> Segment {
        let duration_ms = duration_ms(key, self.end_unix_ms);
        Segment { key, duration_ms, bytes: self.bytes, codec: self.codec, state: State::Closed }
    }
}

/// Why a segment cannot be given to a player.
enum Unreadable {
    /// Its file is not there.
    Gone,
    /// This one not now.
    Skip,
    /// This one never.
    Damaged(String),
    /// None at all.
    All(String),
}

fn duration_ms(key: Key, end_unix_ms: i64) -> u64 {
    u64::try_from(end_unix_ms.saturating_sub(key.start_unix_ms())).unwrap_or(0)
}

fn is_empty_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
}

/// It would be the same with any file.
fn is_of_process(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM))
}

/// One key of each day.
fn days(keys: &[Key]) -> Vec<Key> {
    let mut days: Vec<Key> = keys.to_vec();
    days.dedup_by_key(|key| (key.stream(), key.start_unix_ms().div_euclid(DAY_MS)));
    days
}

/// The system's clock.
pub(super) fn now_unix_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

const DAY_MS: i64 = 86_400_000;
/// Milliseconds that are tried when a start is taken: a clock that stands still for longer is broken.
const START_TRIES: u32 = 1000;
/// Files that a search may find gone before others have their turn.
const LOCATE_TRIES: u32 = 64;
/// Rows that a timeline reads in a turn: some milliseconds.
const TIMELINE_BATCH: usize = 8192;
/// Files removed in a turn: each takes some milliseconds on a slow disk, and a seek waits behind them.
pub(super) const REMOVE_BATCH: usize = 8;
/// Files mended in one transaction.
const MEND_BATCH: usize = 256;
