//! What a server recorded, as it stands on the disk: its files, by somebody else's readers, and the rows of its
//! catalogue. How it is played back by the server does not belong here.

use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use time::{Date, Month, Time};

use super::burnt_in_clock;
use super::stamps::{Stamp, stamps};

/// The folder of all recordings.
pub struct Recordings {
    folder: PathBuf,
}

/// One file.
#[derive(Clone, Debug)]
pub struct RecordedFile {
    pub path: PathBuf,
    /// As its name says.
    pub start_unix_ms: i64,
}

/// One picture as `ffprobe` reads it, in the file's order; seconds.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub pts: f64,
    pub dts: f64,
    pub keyframe: bool,
}

/// A segment as the catalogue has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub start_unix_ms: i64,
    pub duration_ms: i64,
    pub bytes: u64,
    /// 0: closed, 1: open, 2: damaged.
    pub state: i64,
}

impl Recordings {
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a stream, once it has one.
    pub fn stream_folder(&self, source_id: &Value) -> Option<PathBuf> {
        folder_entries(&self.folder).into_iter().find(|path| {
            let text = std::fs::read_to_string(path.join("stream.json")).unwrap_or_default();
            let file: Value = serde_json::from_str(&text).unwrap_or_default();
            file["source_id"] == *source_id
        })
    }

    /// The files of a stream, the oldest first.
    pub fn files(&self, source_id: impl Into<Value>) -> Vec<RecordedFile> {
        let Some(stream) = self.stream_folder(&source_id.into()) else { return vec![] };
        let mut files: Vec<RecordedFile> = folder_entries(&stream)
            .iter()
            .flat_map(|day| folder_entries(day))
            .filter_map(|path| {
                let start_unix_ms = start_of_name(path.file_name()?.to_str()?)?;
                Some(RecordedFile { path, start_unix_ms })
            })
            .collect();
        files.sort_by_key(|file| file.start_unix_ms);
        files
    }

    /// The segments of a stream in the catalogue, the oldest first. Only where no server has it.
    pub fn rows(&self, source_id: &str) -> Vec<Row> {
        let database = self.folder.join("catalog.sqlite");
        let catalog = Connection::open_with_flags(&database, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .unwrap_or_else(|e| panic!("{}: {e}", database.display()));
        let mut rows = catalog
            .prepare(
                "SELECT id & ((1 << 44) - 1), duration_ms, bytes, state FROM segments
                 WHERE id >> 44 = (SELECT number FROM streams WHERE path_text = ?1) ORDER BY id",
            )
            .expect("the catalogue's tables");
        let rows = rows.query_map([source_id], |row| {
            Ok(Row {
                start_unix_ms: row.get(0)?,
                duration_ms: row.get(1)?,
                bytes: row.get::<_, i64>(2)?.cast_unsigned(),
                state: row.get(3)?,
            })
        });
        rows.expect("rows").map(|row| row.expect("a row")).collect()
    }

    /// Catalogue and files tell the same: nothing is open or damaged, every row has its file, whole, and every file
    /// its row. Gives the rows.
    #[track_caller]
    pub fn assert_agrees(&self, source_id: &str, files: &[RecordedFile]) -> Vec<Row> {
        let rows = self.rows(source_id);
        let told: Vec<_> = rows.iter().map(|row| (row.start_unix_ms, row.bytes, row.state)).collect();
        let found: Vec<_> = files.iter().map(|file| (file.start_unix_ms, file.bytes(), 0)).collect();
        assert_eq!(told, found, "stream {source_id}: rows and files (start, bytes, state)");
        rows
    }
}

impl RecordedFile {
    pub fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).expect("the file is there").len()
    }

    /// The stamps of its pictures, where its camera stamps.
    pub fn stamps(&self) -> Vec<Stamp> {
        stamps(&std::fs::read(&self.path).expect("the file is there"))
    }

    /// Its pictures. Fails when `ffprobe` has anything to say.
    #[track_caller]
    pub fn samples(&self) -> Vec<Sample> {
        let mut command = Command::new("ffprobe");
        command.args(["-v", "warning", "-select_streams", "v:0", "-of", "json"]);
        command.args(["-show_entries", "packet=pts_time,dts_time,flags"]).arg(&self.path);
        let output = command.output().expect("ffprobe runs");
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert_eq!(complaints, "", "ffprobe has nothing to say of {}", self.path.display());
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let packets = told["packets"].as_array().expect("packets");
        packets.iter().map(Sample::read).collect()
    }

    /// Codec, width and height with commas between, as `ffprobe` tells them.
    pub fn shape(&self) -> String {
        let mut command = Command::new("ffprobe");
        command.args([
            "-v",
            "error",
            "-select_streams",
            "v:0",
            "-show_entries",
            "stream=codec_name,width,height",
        ]);
        let output = command.args(["-of", "csv=p=0"]).arg(&self.path).output().expect("ffprobe runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The times of day that are burnt into its pictures, as far as they can be read. `size` is theirs.
    pub fn burnt_in_times(&self, size: (usize, usize)) -> Vec<i64> {
        let (width, height) = size;
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-i"]).arg(&self.path);
        command.args(["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"]);
        let pixels = command.output().expect("ffmpeg runs").stdout;
        let block = width / burnt_in_clock::BLOCKS_ACROSS;
        let time = |picture: &[u8]| {
            let at = |(x, y): (f64, f64)| {
                picture[(y * block as f64) as usize * width + (x * block as f64) as usize]
            };
            let brightness: Vec<u8> = burnt_in_clock::middles().map(at).collect();
            burnt_in_clock::unix_ms(&brightness).map(u64::cast_signed)
        };
        pixels.chunks_exact(width * height).filter_map(time).collect()
    }
}

impl Sample {
    fn read(packet: &Value) -> Self {
        let seconds = |name: &str| {
            let text = packet[name].as_str().unwrap_or_else(|| panic!("no {name} in {packet}"));
            text.parse().expect("seconds")
        };
        Self {
            pts: seconds("pts_time"),
            dts: seconds("dts_time"),
            keyframe: packet["flags"].as_str().is_some_and(|flags| flags.starts_with('K')),
        }
    }
}

/// Decodes all of a file. Fails when ffmpeg has one word to say. Gives the number of pictures.
#[track_caller]
pub fn assert_plays(path: &Path) -> usize {
    decode(|command| {
        command.arg("-i").arg(path);
    })
}

/// The same for many files of one codec and size, one after the other.
#[track_caller]
pub fn assert_all_play(files: &[RecordedFile]) -> usize {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let list = directory.path().join("files");
    let line = |file: &RecordedFile| format!("file '{}'\n", file.path.display());
    std::fs::write(&list, files.iter().map(line).collect::<String>()).expect("a file");
    decode(|command| {
        command.args(["-f", "concat", "-safe", "0", "-i"]).arg(&list);
    })
}

#[track_caller]
fn decode(input: impl FnOnce(&mut Command)) -> usize {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-v", "error", "-xerror"]);
    input(&mut command);
    // On the file's own clock: none dropped or doubled to fit a rate.
    command.args(["-map", "0:v", "-fps_mode", "passthrough", "-enc_time_base", "-1"]);
    command.args(["-f", "null", "-progress", "pipe:1", "-"]);
    let output = command.output().expect("ffmpeg runs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(complaints, "", "ffmpeg has nothing to complain of: {command:?}");
    assert!(output.status.success(), "{}: {command:?}", output.status);
    let progress = String::from_utf8_lossy(&output.stdout);
    let frames = progress.lines().rev().find_map(|line| line.strip_prefix("frame="));
    frames.expect("a number of frames").trim().parse().expect("a number")
}

/// Sorted; a folder that is not there has none.
fn folder_entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Of `2026-11-23T05-06-07.089Z.mp4`.
fn start_of_name(name: &str) -> Option<i64> {
    let (date, time) = name.strip_suffix("Z.mp4")?.split_once('T')?;
    let mut date = date.split('-');
    let mut time = time.split(['-', '.']);
    let year = date.next()?.parse().ok()?;
    let month = Month::try_from(date.next()?.parse::<u8>().ok()?).ok()?;
    let date = Date::from_calendar_date(year, month, date.next()?.parse().ok()?).ok()?;
    let mut number = || time.next()?.parse::<u16>().ok();
    let (hour, minute, second, milli) = (number()?, number()?, number()?, number()?);
    let time = Time::from_hms_milli(hour as u8, minute as u8, second as u8, milli).ok()?;
    i64::try_from(date.with_time(time).assume_utc().unix_timestamp_nanos() / 1_000_000).ok()
}
