//! The database: which streams there are, over a restart. One SQLite file, one worker thread.
//!
//! Every call returns when the change is on disk. The file holds the cameras' credentials as they are
//! used, so it is readable by its owner only (mode 0600). Recordings are not its business.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot};

use crate::definition::Definition;
use crate::source_id::SourceId;

/// The control plane's end of the worker.
#[derive(Debug)]
pub struct Store {
    queue: mpsc::Sender<Request>,
    worker: JoinHandle<()>,
}

/// A stream as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredStream {
    /// What the operator calls it.
    pub source_id: SourceId,
    /// What the operator wants of it.
    pub definition: Definition,
}

/// The database does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or the file cannot be had.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite refuses.
    #[error("{path}: {reason}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The worker is gone.
    #[error("the database is closed")]
    Closed,
}

struct Request {
    change: Change,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

#[derive(Debug)]
enum Change {
    Put(Box<StoredStream>),
    Delete(SourceId),
}

impl Store {
    /// Opens or makes the database under `data_dir` and reads all streams, oldest first.
    /// An error names the file: the server does not start without its database.
    pub fn open(data_dir: &Path) -> Result<(Self, Vec<StoredStream>), StoreError> {
        let path = data_dir.join(FILE_NAME);
        create_private(data_dir, &path)?;
        let database = Database::open(path)?;
        let streams = database.read_streams()?;
        let (queue, requests) = mpsc::channel(QUEUE_LENGTH);
        let worker = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || database.run(requests))
            .map_err(|source| StoreError::File { path: data_dir.into(), source })?;
        Ok((Self { queue, worker }, streams))
    }

    /// Stores a stream, new or changed.
    pub async fn put(&self, source_id: SourceId, definition: Definition) -> Result<(), StoreError> {
        self.request(Change::Put(Box::new(StoredStream { source_id, definition }))).await
    }

    /// Forgets a stream.
    pub async fn delete(&self, source_id: SourceId) -> Result<(), StoreError> {
        self.request(Change::Delete(source_id)).await
    }

    async fn request(&self, change: Change) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Request { change, reply }).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Ends the worker after what is queued, and closes the file.
    pub fn close(self) {
        drop(self.queue);
        // A worker that panicked has already said so.
        let _ = self.worker.join();
    }
}

struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    fn open(path: PathBuf) -> Result<Self, StoreError> {
        let connection = Connection::open(&path).map_err(|error| explain(&path, &error))?;
        let mut database = Self { connection, path };
        database.prepare().map_err(|error| explain(&database.path, &error))?;
        database.check()?;
        database.migrate()?;
        Ok(database)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        // Exclusive: two servers on one directory would fight over the cameras.
        self.connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        // FULL: a stream that was answered with 201 survives a power cut.
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        self.connection.execute_batch("BEGIN IMMEDIATE; COMMIT")
    }

    fn check(&self) -> Result<(), StoreError> {
        let verdict: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| explain(&self.path, &error))?;
        match verdict.as_str() {
            "ok" => Ok(()),
            fault => Err(self.error(format!("the database is damaged: {fault}"))),
        }
    }

    fn migrate(&mut self) -> Result<(), StoreError> {
        let path = self.path.clone();
        let explain = |error: rusqlite::Error| explain(&path, &error);
        let version: u32 =
            self.connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(explain)?;
        if version as usize > MIGRATIONS.len() {
            return Err(
                self.error(format!("the database is of a newer version ({version}) than this program"))
            );
        }
        let transaction = self.connection.transaction().map_err(explain)?;
        for migration in &MIGRATIONS[version as usize..] {
            transaction.execute_batch(migration).map_err(explain)?;
        }
        transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64).map_err(explain)?;
        transaction.commit().map_err(explain)
    }

    fn read_streams(&self) -> Result<Vec<StoredStream>, StoreError> {
        let explain = |error: rusqlite::Error| explain(&self.path, &error);
        let mut statement = self
            .connection
            .prepare("SELECT source_id, definition FROM streams ORDER BY number")
            .map_err(explain)?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .map_err(explain)?;
        let mut streams = Vec::new();
        for row in rows {
            let (source_id, definition) = row.map_err(explain)?;
            streams.push(self.read_stream(&source_id, &definition)?);
        }
        Ok(streams)
    }

    fn read_stream(&self, source_id: &str, definition: &str) -> Result<StoredStream, StoreError> {
        // The error's text would hold values of the definition, so only the stream is named.
        let fault = |_| self.error(format!("the stream {source_id} cannot be read"));
        let definition: Definition = serde_json::from_str(definition).map_err(fault)?;
        let source_id_read = serde_json::from_str(source_id).map_err(fault)?;
        match definition.inputs.is_empty() {
            true => Err(self.error(format!("the stream {source_id} has no input"))),
            false => Ok(StoredStream { source_id: source_id_read, definition }),
        }
    }

    fn run(self, mut requests: mpsc::Receiver<Request>) {
        while let Some(Request { change, reply }) = requests.blocking_recv() {
            // A caller that went away does not undo the change.
            let _ = reply.send(self.apply(change));
        }
    }

    fn apply(&self, change: Change) -> Result<(), StoreError> {
        let result = match change {
            Change::Put(stream) => self.put(&stream),
            Change::Delete(source_id) => self
                .connection
                .execute("DELETE FROM streams WHERE path_text = ?1", params![source_id.to_string()])
                .map(drop),
        };
        result.map_err(|error| explain(&self.path, &error))
    }

    fn put(&self, stream: &StoredStream) -> rusqlite::Result<()> {
        let json = |text: serde_json::Result<String>| {
            text.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
        };
        let source_id = json(serde_json::to_string(&stream.source_id))?;
        let definition = json(serde_json::to_string(&stream.definition))?;
        self.connection
            .execute(
                "INSERT INTO streams (path_text, source_id, definition, created_unix_ms) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (path_text) DO UPDATE SET definition = excluded.definition",
                params![stream.source_id.to_string(), source_id, definition, now_unix_ms()],
            )
            .map(drop)
    }

    fn error(&self, reason: String) -> StoreError {
        StoreError::Database { path: self.path.clone(), reason }
    }
}

/// The directory (0700 if it is new) and the file (0600 always; SQLite gives its side files the same mode).
fn create_private(data_dir: &Path, path: &Path) -> Result<(), StoreError> {
    let fault = |path: &Path| {
        let path = path.to_path_buf();
        move |source| StoreError::File { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(fault(data_dir))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(fault(path))?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(fault(path))
}

fn explain(path: &Path, error: &rusqlite::Error) -> StoreError {
    let reason = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy) => "another server uses this data directory".into(),
        Some(rusqlite::ErrorCode::NotADatabase) => "this is no database of ours (or it is damaged)".into(),
        _ => error.to_string(),
    };
    StoreError::Database { path: path.into(), reason }
}

fn now_unix_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

const FILE_NAME: &str = "lanecast.db";
/// Writes are serialized by their caller; the rest is slack.
const QUEUE_LENGTH: usize = 16;
/// A predecessor that is just ending may hold the file for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Migration n brings a database from version n to n + 1. Never change one; add one.
const MIGRATIONS: &[&str] = &["CREATE TABLE streams (
    number INTEGER PRIMARY KEY,
    path_text TEXT NOT NULL UNIQUE,
    source_id TEXT NOT NULL,
    definition TEXT NOT NULL,
    created_unix_ms INTEGER NOT NULL
) STRICT"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::tests::definition;

    fn text(id: &str) -> SourceId {
        SourceId::Text(id.into())
    }

    #[tokio::test]
    async fn streams_come_back_in_their_order() {
        let directory = tempfile::tempdir().unwrap();
        let (store, streams) = Store::open(directory.path()).unwrap();
        assert_eq!(streams, []);
        store.put(text("b"), definition("rtsp://b/")).await.unwrap();
        store.put(SourceId::Number(7), definition("rtsp://seven/")).await.unwrap();
        store.put(text("a"), definition("rtsp://a/")).await.unwrap();
        store.put(text("b"), definition("rtsp://b/changed")).await.unwrap();
        store.delete(text("a")).await.unwrap();
        store.close();
        let (_store, streams) = Store::open(directory.path()).unwrap();
        let expected = [
            StoredStream { source_id: text("b"), definition: definition("rtsp://b/changed") },
            StoredStream { source_id: SourceId::Number(7), definition: definition("rtsp://seven/") },
        ];
        assert_eq!(streams, expected);
    }

    #[test]
    fn only_its_owner_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        let (store, _) = Store::open(&data_dir).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data_dir), 0o700);
        assert_eq!(mode(&data_dir.join(FILE_NAME)), 0o600);
        assert_eq!(mode(&data_dir.join("lanecast.db-wal")), 0o600);
        store.close();
    }

    #[test]
    fn garbage_in_place_of_the_database_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE_NAME), "no database at all, ".repeat(100)).unwrap();
        let error = Store::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("lanecast.db: this is no database of ours"), "{error}");
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        std::fs::write(&data_dir, "").unwrap();
        let error = Store::open(&data_dir).unwrap_err().to_string();
        assert!(error.starts_with(data_dir.to_str().unwrap()), "{error}");
    }

    #[test]
    fn a_database_of_the_future_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join(FILE_NAME)).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        let error = Store::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("newer version (99)"), "{error}");
    }
}
