//! The catalogue: which recordings there are. One SQLite file beside them, one worker thread, which also makes, closes, opens
//! and removes their files, so that no shard waits for a disk.
//!
//! Files are the truth; the catalogue can be rebuilt from them. A segment's file is
//! `<recordings>/<folder of the stream>/<UTC day>/<UTC start>.mp4`.
//!
//! Inwards: [`worker`] takes requests and has turns; [`recordings`] changes the [`database`] and the [`folder`] together, with
//! [`streams`] as its memory; [`recovery`] reads what a file really has, for a start after a crash and for [`rebuild`].

mod database;
#[cfg(test)]
mod fixture;
mod folder;
mod key;
#[cfg(test)]
mod measure;
mod outbox;
mod rebuild;
mod recordings;
mod recovery;
mod retention;
mod streams;
#[cfg(test)]
mod tests;
mod timeline;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use lanecast_shard::{ClosedSegment, Command, SegmentId, ShardBusy, StreamId, Wanted};
use tokio::sync::oneshot;
use tracing::warn;

use self::database::Database;
use self::folder::Folder;
use self::recordings::{Opening, Recordings};
use self::streams::Summaries;
use self::worker::{Locate, Pace, Request, Worker};
use crate::shards::Shard;
use crate::source_id::SourceId;

/// Settings of the catalogue.
#[derive(Clone, Debug)]
pub struct CatalogSettings {
    /// The folder of all recordings; the catalogue is in it.
    pub folder: PathBuf,
    /// What is kept.
    pub retention: Retention,
}

/// What is kept; the oldest goes first. `None`: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Nothing older than this.
    pub age_max: Option<Duration>,
    /// Bytes of one stream.
    pub stream_bytes_max: Option<u64>,
    /// Bytes of all streams.
    pub bytes_max: Option<u64>,
    /// Bytes that stay free on the disk.
    pub free_bytes_min: Option<u64>,
}

/// The catalogue cannot do what it should.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogError {
    /// A file or folder.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// SQLite refuses.
    #[error("{path}: {reason}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Too much waits for it, or it is closed.
    #[error("the catalogue is busy")]
    Busy,
}

/// A time without a gap in which a stream was recorded in one codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Begin, UTC.
    pub start_unix_ms: i64,
    /// End, UTC; what is written at the moment ends now.
    pub end_unix_ms: i64,
    /// Bytes in its files, whole files counted.
    pub bytes: u64,
    /// What is in them.
    pub codec: lanecast_protocol::codec::Codec,
}

/// What was freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Files.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// All recordings of a stream in a few numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Time of the oldest picture, UTC.
    pub first_unix_ms: Option<i64>,
    /// Bytes of all files that are done.
    pub bytes: u64,
    /// Number of files, that which is written included.
    pub segments: u64,
}

/// The control plane's end of the worker. Every call returns at once; what answers goes to a shard, or is awaited.
#[derive(Debug)]
pub struct Catalog {
    requests: Sender<Request>,
    waiting: Arc<AtomicUsize>,
    summaries: Summaries,
    worker: JoinHandle<()>,
}

impl Catalog {
    /// Opens the catalogue and mends what an end without warning left behind, in time proportional to the files that were
    /// being written. One that is damaged or not there is made anew from the files, which takes longer. Blocks.
    ///
    /// # Errors
    /// When the folder or the database cannot be had.
    pub fn open(settings: CatalogSettings) -> Result<Self, CatalogError> {
        Self::open_at_pace(&settings, Pace::default())
    }

    fn open_at_pace(settings: &CatalogSettings, pace: Pace) -> Result<Self, CatalogError> {
        let folder = Folder::open(&settings.folder)?;
        let database = open_database(&folder)?;
        let recordings = Recordings::open(folder, database)?;
        let summaries = recordings.streams().summaries();
        let (requests, receiver) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let worker = Worker::new(receiver, waiting.clone(), recordings, settings.retention, pace);
        let worker = std::thread::Builder::new()
            .name("catalog".into())
            .spawn(move || worker.run())
            .map_err(|error| folder::file_error(&settings.folder, &error))?;
        Ok(Self { requests, waiting, summaries, worker })
    }

    /// Makes a file; the shard hears of it by `Command::SegmentOpened`.
    pub fn open_segment(
        &self,
        shard: &Shard,
        stream: StreamId,
        source_id: &SourceId,
        ticket: u64,
        start_unix_ms: i64,
        codec: lanecast_protocol::codec::Codec,
    ) {
        let (shard_asking, source_id) = (shard.clone(), source_id.clone());
        let opening = Opening { shard: shard_asking, stream, source_id, ticket, start_unix_ms, codec };
        if let Err(error) = self.request(Request::Open(opening)) {
            refuse(shard, Command::SegmentOpened { stream, ticket, result: Err(error.to_string()) });
        }
    }

    /// A file is done.
    pub fn close_segment(&self, closed: ClosedSegment) {
        // Not bounded by the queue: there are no more of them than files that were opened.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.requests.send(Request::Close(closed)).is_err() {
            warn!("the catalogue has ended; a recording is noted at the next start");
        }
    }

    /// Finds and opens a segment; the shard hears of it by `Command::Located`.
    pub fn locate(&self, shard: &Shard, request: u64, source_id: &SourceId, wanted: Wanted) {
        let locate = Locate { shard: shard.clone(), request, source_id: source_id.clone(), wanted };
        if let Err(error) = self.request(Request::Locate(locate)) {
            refuse(shard, Command::Located { request, result: Err(error.to_string()) });
        }
    }

    /// Such a segment cannot be played; it is skipped from now on.
    pub fn damaged(&self, segment: SegmentId, reason: String) {
        if self.request(Request::Damaged(segment, reason)).is_err() {
            warn!(segment = segment.0, "the catalogue is busy; the next viewer finds the damage again");
        }
    }

    /// The spans that touch `from..to` (UTC ms), oldest first; gaps are what is between them. A span here is made of the
    /// segments that touch the range: it begins and ends with whole segments, and goes on outside only so far.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn timeline(
        &self,
        source_id: &SourceId,
        from_unix_ms: i64,
        to_unix_ms: i64,
    ) -> Result<Vec<Span>, CatalogError> {
        let (reply, answer) = oneshot::channel();
        self.request(Request::Timeline(source_id.clone(), from_unix_ms, to_unix_ms, reply))?;
        answer.await.map_err(|_| CatalogError::Busy)?
    }

    /// Whether anything of a stream is recorded at this time (UTC ms) or later: whether [`Catalog::locate`] would find a
    /// segment.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn has(&self, source_id: &SourceId, unix_ms: i64) -> Result<bool, CatalogError> {
        let (reply, answer) = oneshot::channel();
        self.request(Request::Has(source_id.clone(), unix_ms, reply))?;
        answer.await.map_err(|_| CatalogError::Busy)?
    }

    /// Removes whole segments inside `from..to` (UTC ms); never the one that is written.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remove(
        &self,
        source_id: &SourceId,
        from_unix_ms: i64,
        to_unix_ms: i64,
    ) -> Result<Freed, CatalogError> {
        let (reply, answer) = oneshot::channel();
        self.request(Request::Remove(source_id.clone(), from_unix_ms, to_unix_ms, reply))?;
        answer.await.map_err(|_| CatalogError::Busy)?
    }

    /// What there is of a stream; no waiting.
    pub fn summary(&self, source_id: &SourceId) -> Summary {
        self.summaries.get(source_id)
    }

    /// Writes what is under way and ends the worker. Blocks.
    pub fn close(self) {
        drop(self.requests);
        // A worker that panicked has already said so.
        let _ = self.worker.join();
    }

    fn request(&self, request: Request) -> Result<(), CatalogError> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE_LENGTH {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(CatalogError::Busy);
        }
        self.requests.send(request).map_err(|_| CatalogError::Busy)
    }
}

/// Makes the catalogue anew from the files (`lanecast catalog rebuild`). Gives the number of segments. Blocks.
///
/// # Errors
/// When the folder or the database cannot be had, or a server uses them.
pub fn rebuild(settings: &CatalogSettings) -> Result<u64, CatalogError> {
    rebuild::rebuild(&Folder::open(&settings.folder)?)
}

/// The database, made anew if there is none that can be used.
fn open_database(folder: &Folder) -> Result<Database, CatalogError> {
    let path = folder.database();
    if folder.rebuild_is_asked_for() {
        return replace_damaged(folder, "it was found damaged while it was used");
    }
    if is_empty(&path) {
        return make_database(folder);
    }
    let opened = Database::open(&path).and_then(|database| database.probe().map(|()| database));
    match opened {
        Ok(database) => check_version(database, &path),
        Err(error) if database::is_corrupt(&error) => replace_damaged(folder, &error.to_string()),
        Err(error) => Err(database::database_error(&path, &error)),
    }
}

fn make_database(folder: &Folder) -> Result<Database, CatalogError> {
    let path = folder.database();
    rebuild::remove_stray_logs(folder)?;
    let streams = folder.stream_folders().map_err(|error| folder::file_error(folder.path(), &error))?;
    if !streams.is_empty() {
        warn!(path = %path.display(), streams = streams.len(), "recordings without a catalogue: it is made anew");
        rebuild::rebuild(folder)?;
    }
    Database::open(&path).map_err(|error| database::database_error(&path, &error))
}

fn replace_damaged(folder: &Folder, reason: &str) -> Result<Database, CatalogError> {
    let path = folder.database();
    let aside = rebuild::set_aside(folder)?;
    warn!(path = %path.display(), aside = %aside.display(), reason, "the catalogue is damaged: it is set aside and made anew");
    rebuild::rebuild(folder)?;
    Database::open(&path).map_err(|error| database::database_error(&path, &error))
}

fn check_version(database: Database, path: &Path) -> Result<Database, CatalogError> {
    match database.is_known() {
        Ok(true) => Ok(database),
        Ok(false) => {
            let reason = "the catalogue is of a newer version than this program".into();
            Err(CatalogError::Database { path: path.into(), reason })
        }
        Err(error) => Err(database::database_error(path, &error)),
    }
}

/// An empty file is a catalogue that was never written.
fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |metadata| metadata.len() == 0)
}

/// An answer from the control plane's own thread, which may not block: a busy shard is tried again beside it.
fn refuse(shard: &Shard, command: Command) {
    let Err(ShardBusy(command)) = shard.send(command) else { return };
    let shard = shard.clone();
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(async move { shard.deliver(command).await })),
        Err(_) => warn!(shard = shard.index(), "the shard does not take an answer of the catalogue"),
    }
}

/// Requests that wait for the worker. A shard's thousand viewers may seek in the same second, and a start opens a file for
/// every camera.
const QUEUE_LENGTH: usize = 8192;
