//! The catalogue's database: which segments there are, as rows. One file, one connection, one thread.
//!
//! Segments are in the order of their [`Key`], so one tree answers every question of a stream and a time. The keyframes are in
//! a tree of their own, which only the one who plays reads. Not here: files, and what the rows mean.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lanecast_protocol::codec::Codec;
use lanecast_shard::SegmentId;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::CatalogError;
use super::folder::FILE_MODE;
use super::key::{Key, STREAM_MAX};
use crate::source_id::SourceId;

/// The open database.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
    durability: Durability,
}

/// What a power cut may take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// Nothing that was committed.
    Durable,
    /// What was committed lately; never the order or the whole.
    Lazy,
}

/// How a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Done.
    Closed,
    /// Written at the moment.
    Open,
    /// Done, and cannot be played.
    Damaged,
}

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) key: Key,
    pub(super) duration_ms: u64,
    pub(super) bytes: u64,
    pub(super) codec: Codec,
    pub(super) state: State,
}

/// A stream as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StreamRow {
    pub(super) number: u32,
    pub(super) source_id: SourceId,
    pub(super) folder: String,
}

/// Sums over a stream's segments that are not open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) bytes: u64,
    pub(super) segments: u64,
}

/// One change of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change<'a> {
    /// It will be written.
    Open(Key, Codec),
    /// It is done.
    Close(&'a Segment, &'a [u8]),
    /// It is there, and done. For a new catalogue.
    Add(&'a Segment, &'a [u8]),
    /// It is gone.
    Remove(Key),
    /// It cannot be played.
    Damage(Key),
}

impl Segment {
    pub(super) fn start_unix_ms(&self) -> i64 {
        self.key.start_unix_ms()
    }

    pub(super) fn end_unix_ms(&self) -> i64 {
        self.start_unix_ms().saturating_add_unsigned(self.duration_ms)
    }
}

impl Database {
    /// Opens or makes it.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = connect(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Exclusive: nobody else reads it, and no shared memory is needed for the log.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
        Self::over(connection, path)
    }

    /// Makes one that is of no use before [`Database::finish`].
    pub(super) fn create(path: &Path) -> rusqlite::Result<Self> {
        let connection = connect(path)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "OFF")?;
        Self::over(connection, path)
    }

    fn over(connection: Connection, path: &Path) -> rusqlite::Result<Self> {
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let mut database = Self { connection, path: path.into(), durability: Durability::Lazy };
        database.migrate()?;
        Ok(database)
    }

    fn migrate(&mut self) -> rusqlite::Result<()> {
        let version = self.version()?;
        let transaction = self.connection.transaction()?;
        for migration in MIGRATIONS.iter().skip(version) {
            transaction.execute_batch(migration)?;
        }
        if version < MIGRATIONS.len() {
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
        }
        transaction.commit()
    }

    fn version(&self) -> rusqlite::Result<usize> {
        let version: u32 = self.connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok(version as usize)
    }

    /// True if it is of a version that this program knows.
    pub(super) fn is_known(&self) -> rusqlite::Result<bool> {
        Ok(self.version()? == MIGRATIONS.len())
    }

    /// Puts all of it into the file.
    pub(super) fn finish(self) -> Result<(), CatalogError> {
        let path = self.path.clone();
        let closed = self.connection.close().map_err(|(_, error)| error);
        closed.map_err(|error| database_error(&path, &error))?;
        let synced = std::fs::File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(|error| super::folder::file_error(&path, &error))
    }

    /// The error with the file's name.
    pub(super) fn explain(&self, error: &rusqlite::Error) -> CatalogError {
        database_error(&self.path, error)
    }

    /// All streams.
    pub(super) fn streams(&self) -> rusqlite::Result<Vec<StreamRow>> {
        let mut statement =
            self.connection.prepare("SELECT number, source_id, folder FROM streams ORDER BY number")?;
        let rows = statement.query_map([], |row| {
            let source_id: String = row.get(1)?;
            let source_id = serde_json::from_str(&source_id).map_err(|_| damaged_row())?;
            Ok(StreamRow { number: row.get(0)?, source_id, folder: row.get(2)? })
        })?;
        rows.collect()
    }

    /// True if this stream was added.
    pub(super) fn has_stream(&self, source_id: &SourceId) -> rusqlite::Result<bool> {
        let mut statement = self.connection.prepare_cached("SELECT 1 FROM streams WHERE path_text = ?1")?;
        statement.exists([source_id.to_string()])
    }

    /// Reads here and there, so that damage shows before anybody relies on it.
    pub(super) fn probe(&self) -> rusqlite::Result<()> {
        for stream in self.streams()? {
            self.totals(stream.number)?;
            self.oldest(stream.number)?;
            if let Some(newest) = self.at_or_before(Key::last(stream.number))? {
                self.keyframes(newest.key)?;
            }
        }
        self.unfinished().map(drop)
    }

    /// Adds a stream and gives its number.
    pub(super) fn add_stream(&mut self, source_id: &SourceId, folder: &str) -> rusqlite::Result<u32> {
        let json = serde_json::to_string(source_id)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let transaction = self.connection.transaction()?;
        let number: i64 =
            transaction
                .query_row("SELECT coalesce(max(number), 0) + 1 FROM streams", [], |row| row.get(0))?;
        let number =
            u32::try_from(number).ok().filter(|number| *number <= STREAM_MAX).ok_or_else(damaged_row)?;
        transaction.execute(
            "INSERT INTO streams (number, path_text, source_id, folder) VALUES (?1, ?2, ?3, ?4)",
            params![number, source_id.to_string(), json, folder],
        )?;
        transaction.commit()?;
        Ok(number)
    }

    /// Sums of a stream.
    pub(super) fn totals(&self, stream: u32) -> rusqlite::Result<Totals> {
        let mut statement =
            self.connection.prepare_cached("SELECT bytes, segments FROM streams WHERE number = ?1")?;
        let totals = statement.query_row([stream], |row| {
            Ok(Totals { bytes: unsigned(row.get(0)?), segments: unsigned(row.get(1)?) })
        });
        totals.optional().map(Option::unwrap_or_default)
    }

    /// All of these changes or none.
    pub(super) fn apply(&mut self, durability: Durability, changes: &[Change<'_>]) -> rusqlite::Result<()> {
        self.set_durability(durability)?;
        let transaction = self.connection.transaction()?;
        for change in changes {
            apply(&transaction, change)?;
        }
        transaction.commit()
    }

    fn set_durability(&mut self, durability: Durability) -> rusqlite::Result<()> {
        if self.durability != durability {
            let level = match durability {
                Durability::Durable => "FULL",
                Durability::Lazy => "NORMAL",
            };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.durability = durability;
        }
        Ok(())
    }

    /// True if there is a segment of this key.
    pub(super) fn has(&self, key: Key) -> rusqlite::Result<bool> {
        self.connection.prepare_cached("SELECT 1 FROM segments WHERE id = ?1")?.exists([key.segment().0])
    }

    /// The last playable segment that starts at or before this.
    pub(super) fn at_or_before(&self, key: Key) -> rusqlite::Result<Option<Segment>> {
        let sql = "SELECT id, duration_ms, bytes, codec, state FROM segments
            WHERE id BETWEEN ?1 AND ?2 AND state <> 2 ORDER BY id DESC LIMIT 1";
        self.one(sql, Key::first(key.stream()), key)
    }

    /// The first playable segment from this on.
    pub(super) fn from(&self, key: Key) -> rusqlite::Result<Option<Segment>> {
        let sql = "SELECT id, duration_ms, bytes, codec, state FROM segments
            WHERE id BETWEEN ?1 AND ?2 AND state <> 2 ORDER BY id LIMIT 1";
        self.one(sql, key, Key::last(key.stream()))
    }

    /// The oldest segment of a stream that is not open.
    pub(super) fn oldest(&self, stream: u32) -> rusqlite::Result<Option<Segment>> {
        let sql = "SELECT id, duration_ms, bytes, codec, state FROM segments
            WHERE id BETWEEN ?1 AND ?2 AND state <> 1 ORDER BY id LIMIT 1";
        self.one(sql, Key::first(stream), Key::last(stream))
    }

    /// Some segments in order, of any state: at most `limit` that start in `first..=last`.
    pub(super) fn range(&self, first: Key, last: Key, limit: usize) -> rusqlite::Result<Vec<Segment>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, duration_ms, bytes, codec, state FROM segments
            WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        statement.query_map(params![first.segment().0, last.segment().0, limit], segment)?.collect()
    }

    /// The segments that were being written when the last server ended.
    pub(super) fn unfinished(&self) -> rusqlite::Result<Vec<Segment>> {
        let mut statement = self.connection.prepare(
            "SELECT id, duration_ms, bytes, codec, state FROM segments WHERE state = 1 ORDER BY id",
        )?;
        statement.query_map([], segment)?.collect()
    }

    /// The index of a segment, as it was stored.
    pub(super) fn keyframes(&self, key: Key) -> rusqlite::Result<Option<Vec<u8>>> {
        let mut statement =
            self.connection.prepare_cached("SELECT keyframes FROM keyframes WHERE id = ?1")?;
        statement.query_row([key.segment().0], |row| row.get(0)).optional()
    }

    fn one(&self, sql: &str, first: Key, last: Key) -> rusqlite::Result<Option<Segment>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.query_row([first.segment().0, last.segment().0], segment).optional()
    }
}

/// Not for everyone to read, as the recordings are not; SQLite gives its side files the same mode.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // Where this fails, SQLite says why.
    let _ = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(path);
    Connection::open(path)
}

fn apply(connection: &Connection, change: &Change<'_>) -> rusqlite::Result<()> {
    match *change {
        Change::Open(key, codec) => connection
            .prepare_cached(
                "INSERT INTO segments (id, duration_ms, bytes, codec, state) VALUES (?1, 0, 0, ?2, 1)",
            )?
            .execute(params![key.segment().0, codec_number(codec)])
            .map(drop),
        Change::Close(segment, keyframes) => {
            connection
                .prepare_cached("DELETE FROM segments WHERE id = ?1 AND state = 1")?
                .execute([segment.key.segment().0])?;
            add(connection, segment, keyframes)
        }
        Change::Add(segment, keyframes) => add(connection, segment, keyframes),
        Change::Remove(key) => remove(connection, key),
        Change::Damage(key) => connection
            .prepare_cached("UPDATE segments SET state = 2 WHERE id = ?1 AND state = 0")?
            .execute([key.segment().0])
            .map(drop),
    }
}

fn add(connection: &Connection, segment: &Segment, keyframes: &[u8]) -> rusqlite::Result<()> {
    let id = segment.key.segment().0;
    let (duration, bytes) = (signed(segment.duration_ms), signed(segment.bytes));
    connection
        .prepare_cached(
            "INSERT INTO segments (id, duration_ms, bytes, codec, state) VALUES (?1, ?2, ?3, ?4, 0)",
        )?
        .execute(params![id, duration, bytes, codec_number(segment.codec)])?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO keyframes (id, keyframes) VALUES (?1, ?2)")?
        .execute(params![id, keyframes])?;
    count(connection, segment.key.stream(), bytes, 1)
}

fn remove(connection: &Connection, key: Key) -> rusqlite::Result<()> {
    let removed: Option<(i64, i64)> = connection
        .prepare_cached("DELETE FROM segments WHERE id = ?1 RETURNING bytes, state")?
        .query_row([key.segment().0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match removed {
        None | Some((_, OPEN)) => Ok(()),
        Some((bytes, _)) => {
            connection.prepare_cached("DELETE FROM keyframes WHERE id = ?1")?.execute([key.segment().0])?;
            count(connection, key.stream(), -bytes, -1)
        }
    }
}

fn count(connection: &Connection, stream: u32, bytes: i64, segments: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE streams SET bytes = bytes + ?2, segments = segments + ?3 WHERE number = ?1")?
        .execute(params![stream, bytes, segments])
        .map(drop)
}

fn segment(row: &Row<'_>) -> rusqlite::Result<Segment> {
    Ok(Segment {
        key: Key::of(SegmentId(row.get(0)?)).ok_or_else(damaged_row)?,
        duration_ms: unsigned(row.get(1)?),
        bytes: unsigned(row.get(2)?),
        codec: match row.get::<_, i64>(3)? {
            H264 => Codec::H264,
            _ => Codec::H265,
        },
        state: match row.get::<_, i64>(4)? {
            CLOSED => State::Closed,
            OPEN => State::Open,
            _ => State::Damaged,
        },
    })
}

fn codec_number(codec: Codec) -> i64 {
    match codec {
        Codec::H264 => H264,
        Codec::H265 => H265,
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// As if SQLite had found it.
fn damaged_row() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None)
}

/// True where only a new catalogue helps.
pub(super) fn is_corrupt(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => {
            matches!(failure.code, DatabaseCorrupt | NotADatabase)
                // A whole database, but not with our tables.
                || message.as_deref().is_some_and(|text| text.contains("no such table") || text.contains("already exists"))
        }
        rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::FromSqlConversionFailure(..) => true,
        rusqlite::Error::SqlInputError { msg, .. } => {
            msg.contains("no such") || msg.contains("already exists")
        }
        _ => false,
    }
}

/// The error as an operator should read it.
pub(super) fn database_error(path: &Path, error: &rusqlite::Error) -> CatalogError {
    use rusqlite::ErrorCode;
    let reason = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full".into(),
        Some(ErrorCode::ReadOnly) => "the disk is read-only, or the file was moved".into(),
        Some(ErrorCode::CannotOpen) => "it cannot be opened or made".into(),
        Some(ErrorCode::DatabaseBusy) => "another program uses it".into(),
        _ => error.to_string(),
    };
    CatalogError::Database { path: path.into(), reason }
}

const CLOSED: i64 = 0;
const OPEN: i64 = 1;
const H264: i64 = 0;
const H265: i64 = 1;
/// "Lcst".
const APPLICATION_ID: i64 = 0x4c63_7374;
/// A predecessor that is just ending may hold the file for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The inner pages of both trees and the pages at which a thousand streams grow.
const CACHE_KIB: i64 = 32 << 10;
/// After a burst (a removal of a month) the log shrinks to this.
const WAL_BYTES_KEPT: i64 = 16 << 20;
/// More than there are statements here.
const STATEMENTS: usize = 32;

/// Migration n brings a database from version n to n + 1. Never change one; add one.
const MIGRATIONS: &[&str] = &["
CREATE TABLE streams (
    number INTEGER PRIMARY KEY,
    path_text TEXT NOT NULL UNIQUE,
    source_id TEXT NOT NULL,
    folder TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL DEFAULT 0,
    segments INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    duration_ms INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    codec INTEGER NOT NULL,
    state INTEGER NOT NULL
) STRICT;
CREATE INDEX open_segments ON segments (id) WHERE state = 1;
CREATE TABLE keyframes (
    id INTEGER PRIMARY KEY,
    keyframes BLOB NOT NULL
) STRICT;
"];

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Database {
        Database::over(Connection::open_in_memory().unwrap(), Path::new("memory")).unwrap()
    }

    fn key(stream: u32, start: i64) -> Key {
        Key::new(stream, start).unwrap()
    }

    fn closed(stream: u32, start: i64) -> Segment {
        Segment {
            key: key(stream, start),
            duration_ms: 60_000,
            bytes: 100,
            codec: Codec::H265,
            state: State::Closed,
        }
    }

    #[test]
    fn a_segment_is_open_then_closed_then_gone_and_the_sums_follow() {
        let mut database = database();
        let stream = database.add_stream(&SourceId::Number(7), "7").unwrap();
        let segment = closed(stream, 1000);
        database.apply(Durability::Durable, &[Change::Open(segment.key, Codec::H264)]).unwrap();
        assert_eq!(database.unfinished().unwrap().len(), 1);
        assert_eq!(database.totals(stream).unwrap(), Totals::default());
        database.apply(Durability::Lazy, &[Change::Close(&segment, b"index")]).unwrap();
        assert_eq!(database.unfinished().unwrap(), []);
        assert_eq!(database.totals(stream).unwrap(), Totals { bytes: 100, segments: 1 });
        assert_eq!(database.keyframes(segment.key).unwrap().as_deref(), Some(&b"index"[..]));
        assert_eq!(database.oldest(stream).unwrap(), Some(segment));
        database
            .apply(Durability::Lazy, &[Change::Remove(segment.key), Change::Remove(segment.key)])
            .unwrap();
        assert_eq!(database.totals(stream).unwrap(), Totals::default());
        assert_eq!(database.keyframes(segment.key).unwrap(), None);
    }

    #[test]
    fn the_damaged_are_found_no_more_and_count_as_bytes() {
        let mut database = database();
        let stream = database.add_stream(&SourceId::Number(7), "7").unwrap();
        let (first, second) = (closed(stream, 1000), closed(stream, 61_000));
        database.apply(Durability::Lazy, &[Change::Add(&first, b""), Change::Add(&second, b"")]).unwrap();
        database.apply(Durability::Lazy, &[Change::Damage(first.key)]).unwrap();
        assert_eq!(database.at_or_before(key(stream, 2000)).unwrap(), None);
        assert_eq!(database.from(key(stream, 0)).unwrap(), Some(second));
        assert_eq!(database.totals(stream).unwrap().segments, 2);
    }

    #[test]
    fn a_change_that_fails_undoes_those_before_it() {
        let mut database = database();
        let stream = database.add_stream(&SourceId::Number(7), "7").unwrap();
        let changes = [Change::Open(key(stream, 1), Codec::H264), Change::Open(key(stream, 1), Codec::H264)];
        assert!(database.apply(Durability::Lazy, &changes).is_err());
        assert!(!database.has(key(stream, 1)).unwrap());
    }

    #[test]
    fn streams_do_not_see_each_other() {
        let mut database = database();
        for stream in 1..=3 {
            let segment = closed(stream, 1000);
            database.apply(Durability::Lazy, &[Change::Add(&segment, b"")]).unwrap();
        }
        assert_eq!(database.at_or_before(key(2, 999)).unwrap(), None);
        assert_eq!(database.from(key(2, 1001)).unwrap(), None);
        assert_eq!(database.range(Key::first(2), Key::last(2), 9).unwrap().len(), 1);
    }

    #[test]
    fn every_question_goes_by_a_tree_and_walks_no_table() {
        let database = database();
        let questions = [
            "SELECT * FROM segments WHERE id BETWEEN 1 AND 2 AND state <> 2 ORDER BY id DESC LIMIT 1",
            "SELECT * FROM segments WHERE id BETWEEN 1 AND 2 ORDER BY id LIMIT 3",
            "SELECT id, duration_ms FROM segments WHERE state = 1 ORDER BY id",
            "SELECT keyframes FROM keyframes WHERE id = 1",
        ];
        for question in questions {
            let plan: String = database
                .connection
                .query_row(&format!("EXPLAIN QUERY PLAN {question}"), [], |row| row.get("detail"))
                .unwrap();
            assert!(plan.contains("SEARCH") || plan.contains("open_segments"), "{question}: {plan}");
        }
    }
}
