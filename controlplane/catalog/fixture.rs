//! What the tests of the catalogue share: a folder, a shard that keeps what it is told, and recordings.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use lanecast_dvr::keyframes::Keyframe;
use lanecast_protocol::codec::{Codec, Nal, ParameterSets};
use lanecast_protocol::mp4::{FragmentHeader, InitSegment, Sample, write_fragment_header, write_init};
use lanecast_shard::{ClosedSegment, Command, LocatedSegment, SegmentId, ShardBusy, StreamId, Wanted};
use tempfile::TempDir;

use super::worker::Pace;
use super::{Catalog, CatalogSettings, Retention};
use crate::shards::Shard;
use crate::source_id::SourceId;

/// 2026-09-22 00:00 UTC.
pub(super) const MIDNIGHT: i64 = 1_790_035_200_000;
pub(super) const MINUTE: i64 = 60_000;

/// A catalogue in a folder of its own, and a shard.
pub(super) struct Place {
    pub(super) directory: TempDir,
    pub(super) retention: Retention,
    pub(super) shard: Shard,
    pub(super) told: Receiver<Command>,
}

impl Place {
    pub(super) fn new() -> Self {
        let (send, told) = channel();
        let shard =
            Shard::new(0, 5000, move |command| send.send(command).map_err(|error| ShardBusy(error.0)));
        Self { directory: tempfile::tempdir().unwrap(), retention: Retention::default(), shard, told }
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.directory.path().join("recordings")
    }

    pub(super) fn settings(&self) -> CatalogSettings {
        CatalogSettings { folder: self.folder(), retention: self.retention }
    }

    pub(super) fn open(&self) -> Catalog {
        Catalog::open_at_pace(&self.settings(), SWIFT).unwrap()
    }

    /// What the shard is told next.
    pub(super) fn told(&self) -> Command {
        self.told.recv_timeout(Duration::from_secs(20)).expect("an answer of the catalogue")
    }

    pub(super) fn try_begin(
        &self,
        catalog: &Catalog,
        source_id: &SourceId,
        start: i64,
    ) -> Result<(SegmentId, File), String> {
        catalog.open_segment(&self.shard, StreamId(1), source_id, 9, start, Codec::H264);
        match self.told() {
            Command::SegmentOpened { stream: StreamId(1), ticket: 9, result } => result,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn begin(&self, catalog: &Catalog, source_id: &SourceId, start: i64) -> (SegmentId, File) {
        self.try_begin(catalog, source_id, start).unwrap()
    }

    /// Records so many fragments of two seconds, and closes.
    pub(super) fn record(
        &self,
        catalog: &Catalog,
        source_id: &SourceId,
        start: i64,
        fragments: u32,
    ) -> SegmentId {
        let (segment, file) = self.begin(catalog, source_id, start);
        let film = Film::new(start, fragments);
        file.write_all_at(&film.bytes, 0).unwrap();
        catalog.close_segment(film.closed(segment));
        segment
    }

    pub(super) fn locate(
        &self,
        catalog: &Catalog,
        source_id: &SourceId,
        wanted: Wanted,
    ) -> Option<LocatedSegment> {
        self.try_locate(catalog, source_id, wanted).unwrap()
    }

    pub(super) fn try_locate(
        &self,
        catalog: &Catalog,
        source_id: &SourceId,
        wanted: Wanted,
    ) -> Result<Option<LocatedSegment>, String> {
        catalog.locate(&self.shard, 5, source_id, wanted);
        loop {
            match self.told() {
                Command::Located { request: 5, result } => {
                    return result.map(|found| found.map(|found| *found));
                }
                Command::SegmentLost { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// All files of segments, by their path in the folder, in order.
    pub(super) fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        collect(&self.folder(), &mut files);
        let shown = |path: PathBuf| path.strip_prefix(self.folder()).unwrap().display().to_string();
        let mut files: Vec<_> = files.into_iter().map(shown).filter(|path| path.ends_with(".mp4")).collect();
        files.sort_unstable();
        files
    }

    pub(super) fn only_file(&self) -> PathBuf {
        let files = self.files();
        assert_eq!(files.len(), 1, "{files:?}");
        self.folder().join(&files[0])
    }
}

/// Due work every few milliseconds.
const SWIFT: Pace = Pace {
    check: Duration::from_millis(2),
    retention: Duration::from_millis(2),
    retention_busy: Duration::from_millis(1),
};

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, files),
            false => files.push(path),
        }
    }
}

/// Asks the worker until it is so: it has turns between two answers.
pub(super) async fn until(catalog: &Catalog, what: &str, is_so: impl Fn(&Catalog) -> bool) {
    let patience = std::time::Instant::now() + Duration::from_secs(20);
    while !is_so(catalog) {
        assert!(std::time::Instant::now() < patience, "never came: {what}");
        catalog.timeline(&SourceId::Number(0), 0, 1).await.unwrap();
    }
}

/// A file of ours.
#[derive(Clone, Debug)]
pub(super) struct Film {
    pub(super) start: i64,
    pub(super) bytes: Vec<u8>,
    pub(super) keyframes: Vec<Keyframe>,
    /// Ends of the init segment and of every fragment.
    pub(super) ends: Vec<usize>,
}

impl Film {
    /// So many fragments of two seconds: a keyframe and three pictures.
    pub(super) fn new(start: i64, fragments: u32) -> Self {
        let init = write_init(&init(start));
        let mut film = Self { start, bytes: init.to_vec(), keyframes: Vec::new(), ends: vec![init.len()] };
        for number in 0..fragments {
            film.add(number);
        }
        film
    }

    fn add(&mut self, number: u32) {
        let unix_ms = self.start + i64::from(number) * 2000;
        let sample = |index: u32| Sample {
            bytes: 40 + 10 * index,
            duration_90k: 45_000,
            composition_offset_90k: 0,
            sync: index == 0,
        };
        let samples: Vec<_> = (0..4).map(sample).collect();
        self.keyframes.push(Keyframe { unix_ms, offset: self.bytes.len() as u64 });
        let base_decode_90k = u64::from(number) * 180_000;
        let header = FragmentHeader { sequence_number: number + 1, base_decode_90k, unix_ms, samples };
        self.bytes.extend_from_slice(&write_fragment_header(&header));
        for sample in &header.samples {
            self.bytes.extend_from_slice(&(sample.bytes - 4).to_be_bytes());
            self.bytes.extend((4..sample.bytes).map(|byte| byte as u8));
        }
        self.ends.push(self.bytes.len());
    }

    pub(super) fn end_unix_ms(&self) -> i64 {
        self.start + 2000 * self.keyframes.len() as i64
    }

    pub(super) fn closed(&self, segment: SegmentId) -> ClosedSegment {
        ClosedSegment {
            segment,
            start_unix_ms: self.start,
            end_unix_ms: self.end_unix_ms(),
            bytes: self.bytes.len() as u64,
            keyframes: self.keyframes.clone(),
        }
    }
}

fn init(start: i64) -> InitSegment {
    let nals: [&[u8]; 2] = [
        b"\x67\x42\xc0\x1e\xd9\x00\xa0\x2f\xf9\x70\x11\x00\x00\x03\x00\x01\x00\x00\x03\x00\x32\x0f\x16\x2e\x48",
        b"\x68\xcb\x83\xcb\x20",
    ];
    let mut parameter_sets = ParameterSets::new(Codec::H264);
    for nal in nals {
        assert!(parameter_sets.handle_nal(&Nal::from_bytes(Bytes::from_static(nal))));
    }
    InitSegment { parameter_sets, width: 640, height: 360, creation_unix_ms: start }
}

pub(super) fn text(id: &str) -> SourceId {
    SourceId::Text(id.into())
}
