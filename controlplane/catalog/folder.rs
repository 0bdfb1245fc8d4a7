//! The folder of the recordings: what files are called, and how they are made so that a power cut does not lose them.
//!
//! `<recordings>/<folder of the stream>/<UTC day>/<UTC start>.mp4`. What an operator calls a stream never becomes a path as it
//! stands: its folder is a few harmless characters of it and a hash of all of it; `stream.json` there has it as it was given.
//! Not here: what is in the files, and which of them the catalogue knows.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::{Date, Month, OffsetDateTime, Time};

use super::CatalogError;
use crate::source_id::SourceId;

/// The folder of all recordings. One server, or one rebuild, has it at a time.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

/// Which file a path led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inode {
    device: u64,
    number: u64,
}

/// What `stream.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct StreamFile {
    source_id: SourceId,
}

impl Folder {
    /// Makes it if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, CatalogError> {
        make_folder(path).map_err(|error| file_error(path, &error))?;
        Ok(Self { path: path.into(), _lock: lock(&path.join(LOCK))? })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The database of the catalogue.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// A file beside it.
    pub(super) fn beside_database(&self, suffix: &str) -> PathBuf {
        self.path.join(format!("{DATABASE}{suffix}"))
    }

    /// The next start makes the catalogue anew.
    pub(super) fn ask_for_rebuild(&self) {
        // Where this cannot be written, the next start finds out by itself.
        let _ = File::create(self.beside_database(REBUILD));
    }

    /// True if that was asked for.
    pub(super) fn rebuild_is_asked_for(&self) -> bool {
        self.beside_database(REBUILD).exists()
    }

    /// That was done.
    pub(super) fn rebuild_is_done(&self) {
        // If it stays, the next start is slow and nothing worse.
        let _ = std::fs::remove_file(self.beside_database(REBUILD));
    }

    /// Folders of streams, by name: those with a [`STREAM_FILE`].
    pub(super) fn stream_folders(&self) -> io::Result<Vec<String>> {
        let names = folder_names(&self.path)?;
        Ok(names.into_iter().filter(|name| self.has_stream(name)).collect())
    }

    pub(super) fn stream(&self, stream_folder: &str) -> PathBuf {
        self.path.join(stream_folder)
    }

    pub(super) fn day(&self, stream_folder: &str, start_unix_ms: i64) -> PathBuf {
        self.stream(stream_folder).join(day_name(start_unix_ms))
    }

    pub(super) fn segment(&self, stream_folder: &str, start_unix_ms: i64) -> PathBuf {
        self.day(stream_folder, start_unix_ms).join(segment_name(start_unix_ms))
    }

    /// Makes an empty file, and the folders that it needs. Its entry is durable only after [`sync`] of its day's folder.
    pub(super) fn create_segment(
        &self,
        stream_folder: &str,
        source_id: &SourceId,
        start_unix_ms: i64,
    ) -> io::Result<File> {
        let path = self.segment(stream_folder, start_unix_ms);
        let stream = self.stream(stream_folder);
        make_folder(&self.day(stream_folder, start_unix_ms))?;
        if !stream.join(STREAM_FILE).try_exists()? {
            write_durably(
                &stream.join(STREAM_FILE),
                &serde_json::to_vec(&StreamFile { source_id: source_id.clone() })?,
            )?;
        }
        OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)
    }

    /// Removes the file; one that is gone already is no error. True if it was there.
    pub(super) fn remove_segment(&self, stream_folder: &str, start_unix_ms: i64) -> io::Result<bool> {
        match std::fs::remove_file(self.segment(stream_folder, start_unix_ms)) {
            Ok(()) => Ok(true),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a day's folder if nothing is in it.
    pub(super) fn remove_empty_day(&self, stream_folder: &str, start_unix_ms: i64) {
        // One that is in use is the rule, not an error.
        let _ = std::fs::remove_dir(self.day(stream_folder, start_unix_ms));
    }

    /// True while the stream's folder is there, so that a file that is not in it is truly gone.
    pub(super) fn has_stream(&self, stream_folder: &str) -> bool {
        self.stream(stream_folder).join(STREAM_FILE).exists()
    }

    /// True if the disk takes nothing, be it by an operator or after an error.
    pub(super) fn is_read_only(&self) -> bool {
        let disk = nix::sys::statvfs::statvfs(&self.path);
        disk.is_ok_and(|disk| disk.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY))
    }

    /// Bytes that this process may still write to the disk.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let disk = nix::sys::statvfs::statvfs(&self.path)?;
        Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
    }
}

impl Inode {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|metadata| Self::of_metadata(&metadata))
    }

    /// Of what is at this path, if anything is.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(Self::of_metadata(&metadata))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn of_metadata(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino() }
    }
}

/// The folder of a stream: two ids with the same text are the same stream.
pub(super) fn stream_folder(source_id: &SourceId) -> String {
    let text = source_id.to_string();
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let slug: String = text.chars().take(SLUG_LENGTH).map(|c| if harmless(c) { c } else { '_' }).collect();
    let hash = Sha256::digest(text.as_bytes());
    let hash: String = hash.iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
    format!("{slug}.{hash}")
}

/// The id in the `stream.json` of a stream's folder.
pub(super) fn read_source_id(stream_folder: &Path) -> Result<SourceId, String> {
    let bytes =
        std::fs::read(stream_folder.join(STREAM_FILE)).map_err(|error| format!("{STREAM_FILE}: {error}"))?;
    let file: StreamFile =
        serde_json::from_slice(&bytes).map_err(|error| format!("{STREAM_FILE}: {error}"))?;
    match file.source_id.fault() {
        Some(fault) => Err(format!("{STREAM_FILE}: source_id {fault}")),
        None => Ok(file.source_id),
    }
}

/// The name of a UTC day.
pub(super) fn day_name(start_unix_ms: i64) -> String {
    let time = utc(start_unix_ms);
    format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day())
}

fn segment_name(start_unix_ms: i64) -> String {
    let time = utc(start_unix_ms);
    format!(
        "{}T{:02}-{:02}-{:02}.{:03}Z{EXTENSION}",
        day_name(start_unix_ms),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// The start in the name of a segment's file; `None`: it is none of ours.
pub(super) fn start_of_name(name: &str) -> Option<i64> {
    let text = name.strip_suffix(EXTENSION).filter(|text| text.is_ascii())?;
    let number = |range: Range<usize>| text.get(range)?.parse::<u16>().ok();
    let small = |range: Range<usize>| u8::try_from(number(range)?).ok();
    let month = Month::try_from(small(5..7)?).ok()?;
    let date = Date::from_calendar_date(i32::from(number(0..4)?), month, small(8..10)?).ok()?;
    let time = Time::from_hms_milli(small(11..13)?, small(14..16)?, small(17..19)?, number(20..23)?).ok()?;
    let start = date.with_time(time).assume_utc().unix_timestamp_nanos() / 1_000_000;
    let start = i64::try_from(start).ok()?;
    // Whatever is not spelled as we spell it is not ours.
    (start >= 0 && segment_name(start) == name).then_some(start)
}

/// Names of the folders in a folder, in order.
pub(super) fn folder_names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        // A name that is no text is none of ours.
        if let (true, Ok(name)) = (entry.path().is_dir(), entry.file_name().into_string()) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Opens a regular file; anything else that stands there (a pipe would block) is an error.
pub(super) fn open_regular(path: &Path, write: bool) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).write(write).custom_flags(flags.bits()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// Makes the entries of a folder durable.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Nothing is there under that name.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// The error as an operator should read it.
pub(super) fn sentence(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::StorageFull => format!("the disk is full: {path}"),
        ErrorKind::QuotaExceeded => format!("the disk quota is used up: {path}"),
        ErrorKind::ReadOnlyFilesystem => format!("the disk is read-only: {path}"),
        ErrorKind::PermissionDenied => format!("the server may not write here: {path}"),
        ErrorKind::NotFound => format!("it is not there any more: {path}"),
        ErrorKind::NotADirectory => format!("a file stands where a folder should be: {path}"),
        _ => format!("{path}: {error}"),
    }
}

pub(super) fn file_error(path: &Path, error: &io::Error) -> CatalogError {
    CatalogError::File { path: path.into(), reason: error.to_string() }
}

fn lock(path: &Path) -> Result<File, CatalogError> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(path);
    let file = file.map_err(|error| file_error(path, &error))?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => {
                let reason = "another server uses this folder of recordings".into();
                return Err(CatalogError::File { path: path.into(), reason });
            }
            Err(TryLockError::Error(error)) => return Err(file_error(path, &error)),
        }
    }
}

/// Makes a folder and those above it, each durably.
fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Ok(()) => path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_folder(path.parent().filter(|parent| !parent.as_os_str().is_empty()).ok_or(error)?)?;
            make_folder(path)
        }
        Err(error) => Err(error),
    }
}

/// A whole file under this name, or none.
fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), sync)
}

/// Times are in the range of a [`super::key::Key`], which is within that of a date.
fn utc(unix_ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

const DATABASE: &str = "catalog.sqlite";
const LOCK: &str = "catalog.lock";
const REBUILD: &str = ".rebuild";
/// A predecessor that is just ending may hold it for a moment.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(20);
const STREAM_FILE: &str = "stream.json";
const EXTENSION: &str = ".mp4";
pub(super) const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;
/// Enough to know a camera by; the hash tells those apart that begin alike.
const SLUG_LENGTH: usize = 40;
/// 64 bits: two of a million streams meet with a chance of one in forty million.
const HASH_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn text(id: &str) -> SourceId {
        SourceId::Text(id.into())
    }

    #[test]
    fn a_name_says_the_start_in_utc() {
        assert_eq!(segment_name(1_790_121_599_007), "2026-09-22T23-59-59.007Z.mp4");
        assert_eq!(day_name(1_790_121_599_007), "2026-09-22");
        for start in [0, 951_782_400_000, 1_790_121_599_999, super::super::key::START_MAX] {
            assert_eq!(start_of_name(&segment_name(start)), Some(start));
        }
    }

    #[test]
    fn foreign_names_are_not_taken_for_ours() {
        let names = [
            "",
            ".mp4",
            "holiday.mp4",
            "2026-09-22T23-59-59.007Z.mkv",
            "2026-09-22T23-59-59.007Z",
            "2026-09-22T23:59:59.007Z.mp4",
            "2026-13-22T23-59-59.007Z.mp4",
            "2026-02-30T23-59-59.007Z.mp4",
            "2026-09-22T24-00-00.000Z.mp4",
            "+026-09-22T23-59-59.007Z.mp4",
            "1969-12-31T23-59-59.999Z.mp4",
            "2026-09-22T23-59-59.007Z.mp4.mp4",
            "2026-09-22T23-59-5ü.007Z.mp4",
        ];
        for name in names {
            assert_eq!(start_of_name(name), None, "{name}");
        }
    }

    #[test]
    fn an_id_never_becomes_a_path_as_it_stands() {
        let ids =
            ["../../etc/passwd", "/", "..", ".", "a/b", "a\\b", "Tür 3", "CON", "x y", "~", "-rf", ".hidden"];
        let mut seen = std::collections::HashSet::new();
        for id in ids {
            let folder = stream_folder(&text(id));
            assert!(folder.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)), "{folder}");
            assert!(!folder.starts_with('.') && folder.len() <= SLUG_LENGTH + 1 + 2 * HASH_BYTES, "{folder}");
            assert!(seen.insert(folder));
        }
        assert_ne!(stream_folder(&text("a/b")), stream_folder(&text("a_b")));
        assert_eq!(stream_folder(&text("7")), stream_folder(&SourceId::Number(7)));
    }

    #[test]
    fn the_longest_id_fits_in_a_name() {
        let folder = stream_folder(&text(&"ü".repeat(64)));
        assert!(folder.len() < 255, "{folder}");
    }

    #[test]
    fn a_file_is_made_once_with_its_folders_and_is_not_for_everyone() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::open(&directory.path().join("a/b")).unwrap();
        let name = stream_folder(&SourceId::Number(7));
        folder.create_segment(&name, &SourceId::Number(7), 1000).unwrap();
        let path = folder.segment(&name, 1000);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !0o640, 0);
        let again = folder.create_segment(&name, &SourceId::Number(7), 1000).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        assert_eq!(read_source_id(&folder.stream(&name)), Ok(SourceId::Number(7)));
    }

    #[test]
    fn a_file_in_place_of_a_folder_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::open(directory.path()).unwrap();
        std::fs::write(directory.path().join("x.0"), "").unwrap();
        let error = folder.create_segment("x.0", &text("x"), 0).unwrap_err();
        let told = sentence(&folder.segment("x.0", 0), &error);
        assert!(told.starts_with("a file stands where a folder should be: "), "{told}");
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(open_regular(&path, false).is_err());
        assert!(open_regular(directory.path(), false).is_err());
    }
}
