//! How large and how fast the catalogue is with weeks of hundreds of cameras, on generated rows.
//!
//! `cargo test -p lanecast --lib measure -- --ignored --nocapture`; `CAMERAS`, `DAYS` from the environment. Rows are written in
//! the order of time, as cameras do it, so that pages are as full as they would be. Only files that are opened or removed here
//! exist, and they are small: a real removal takes what the file system takes for 30 MB.
//!
//! Two virtual processors at a load of 5 to 9, ext4; 30 keyframes a segment:
//!
//! | | 200 cameras × 30 days, unoptimized | 20 cameras × 30 days, `opt-level=2` |
//! |---|---|---|
//! | rows | 8,640,000 | 864,000 |
//! | size | 1755 MiB, 213 bytes a row | 170 MiB, 206 bytes a row |
//! | open, cold / warm | 114 / 50 ms | 8 / 1 ms |
//! | timeline of a month (43,200 rows), p50 cold / warm | 166 / 136 ms | 48 / 20 ms |
//! | locate, p50 / p99, warm | 50 / 124 µs | 38 / 128 µs |
//! | 2000 segments removed by retention | 0.98 s | 0.71 s |
//! | a request meanwhile, p99 / max | 6.9 / 27 ms | 0.3 / 20 ms |

use std::path::Path;
use std::time::{Duration, Instant};

use lanecast_dvr::keyframes::{self, Keyframe};
use lanecast_protocol::codec::Codec;
use lanecast_shard::Wanted;

use super::database::{Change, Database, Durability, Segment, State};
use super::fixture::{MIDNIGHT, MINUTE, Place};
use super::folder::{self, Folder};
use super::key::Key;
use super::{Catalog, Retention};
use crate::source_id::SourceId;

#[tokio::test]
#[ignore = "takes minutes and gigabytes"]
async fn weeks_of_hundreds_of_cameras() {
    let (cameras, days) = (number("CAMERAS", 200), number("DAYS", 30));
    let mut place = Place::new();
    generate(&place.folder(), cameras, days * 24 * 60);
    let path = place.folder().join("catalog.sqlite");
    let rows = u64::from(cameras) * u64::from(days) * 24 * 60;
    println!("{cameras} cameras, {days} days: {rows} rows");
    println!("size: {} MB, {} bytes a row", mib(&path), path.metadata().unwrap().len() / rows);
    for pass in ["cold", "warm"] {
        if pass == "cold" {
            forget(&path);
        }
        let begin = Instant::now();
        let catalog = Catalog::open(place.settings()).unwrap();
        println!("open, {pass}: {:?}", begin.elapsed());
        timelines(&catalog, cameras, days, pass).await;
        locates(&place, &catalog, cameras, days, pass);
        catalog.close();
    }
    place.retention = Retention { bytes_max: Some((rows - 2000) * FILE_BYTES), ..Default::default() };
    removals(&place, cameras, days).await;
}

fn generate(path: &Path, cameras: u32, minutes: u32) {
    let folder = Folder::open(path).unwrap();
    let mut database = Database::open(&folder.database()).unwrap();
    for camera in 1..=cameras {
        let source_id = SourceId::Number(u64::from(camera));
        assert_eq!(database.add_stream(&source_id, &folder::stream_folder(&source_id)).unwrap(), camera);
    }
    let begin = Instant::now();
    for begin in (0..minutes).step_by(MINUTES_AT_ONCE) {
        let minutes = (begin..minutes).take(MINUTES_AT_ONCE);
        let all = minutes.flat_map(|minute| (1..=cameras).map(move |camera| (camera, i64::from(minute))));
        let rows: Vec<_> = all.map(|(camera, minute)| row(camera, minute)).collect();
        let changes: Vec<_> = rows.iter().map(|(segment, index)| Change::Add(segment, index)).collect();
        database.apply(Durability::Lazy, &changes).unwrap();
    }
    database.finish().unwrap();
    println!("generated in {:?}", begin.elapsed());
    // The oldest, which are removed, and the newest, which are found.
    let removed = 2400u32.div_ceil(cameras);
    for camera in 1..=cameras {
        let source_id = SourceId::Number(u64::from(camera));
        for minute in (0..removed).chain(minutes - 5..minutes) {
            let (segment, _) = row(camera, i64::from(minute));
            let name = folder::stream_folder(&source_id);
            let file = folder.create_segment(&name, &source_id, segment.start_unix_ms()).unwrap();
            file.set_len(FILE_BYTES).unwrap();
        }
    }
}

/// A camera's segment: 30 keyframes, begun at a time of its own.
fn row(camera: u32, minute: i64) -> (Segment, Vec<u8>) {
    let key = Key::new(camera, MIDNIGHT + minute * MINUTE + i64::from(camera) * 211).unwrap();
    let jitter = |n: i64| (n * 7919 + minute * 31 + i64::from(camera)) % 50_000;
    let keyframe = |n: i64| Keyframe {
        unix_ms: key.start_unix_ms() + 2000 * n,
        offset: u64::try_from(1000 + n * 1_000_000 + jitter(n)).unwrap(),
    };
    let index = keyframes::encode(&(0..30).map(keyframe).collect::<Vec<_>>());
    let segment =
        Segment { key, duration_ms: 60_000, bytes: FILE_BYTES, codec: Codec::H264, state: State::Closed };
    (segment, index)
}

async fn timelines(catalog: &Catalog, cameras: u32, days: u32, pass: &str) {
    let mut times = Vec::new();
    for camera in (1..=cameras).step_by(usize::try_from(cameras.div_ceil(20)).unwrap()) {
        let begin = Instant::now();
        let spans = catalog.timeline(&SourceId::Number(u64::from(camera)), i64::MIN, i64::MAX).await.unwrap();
        times.push(begin.elapsed());
        assert_eq!(spans.len(), 1);
    }
    print(&format!("timeline of {} rows, {pass}", days * 24 * 60), times);
}

fn locates(place: &Place, catalog: &Catalog, cameras: u32, days: u32, pass: &str) {
    let last = MIDNIGHT + i64::from(days) * 24 * 60 * MINUTE - 2 * MINUTE;
    let mut times = Vec::new();
    for round in 0..5 {
        for camera in 1..=cameras {
            let begin = Instant::now();
            let wanted = Wanted::At(last - round * MINUTE / 2);
            let found = place.locate(catalog, &SourceId::Number(u64::from(camera)), wanted);
            times.push(begin.elapsed());
            assert_eq!(found.unwrap().closed.unwrap().keyframes.len(), 30);
        }
    }
    print(&format!("locate, {pass}, two changes of thread included"), times);
}

async fn removals(place: &Place, cameras: u32, days: u32) {
    let begin = Instant::now();
    let catalog = place.open();
    let total = u64::from(cameras) * u64::from(days) * 24 * 60;
    let mut latencies = Vec::new();
    loop {
        let begin = Instant::now();
        catalog.timeline(&SourceId::Number(0), 0, 1).await.unwrap();
        latencies.push(begin.elapsed());
        let segments: u64 =
            (1..=cameras).map(|n| catalog.summary(&SourceId::Number(u64::from(n))).segments).sum();
        if segments <= total - 2000 {
            break;
        }
    }
    println!("2000 segments removed by retention at full pace in {:?}", begin.elapsed());
    print("a request meanwhile", latencies);
    catalog.close();
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!("{what}: p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), at(100));
}

/// Out of the page cache.
fn forget(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED;
    nix::fcntl::posix_fadvise(&file, 0, 0, advice).unwrap();
}

fn mib(path: &Path) -> u64 {
    path.metadata().unwrap().len() >> 20
}

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Written in one transaction, so that it does not take hours.
const MINUTES_AT_ONCE: usize = 60;
/// 4 Mb/s for a minute; the files here are holes.
const FILE_BYTES: u64 = 30_000_000;
