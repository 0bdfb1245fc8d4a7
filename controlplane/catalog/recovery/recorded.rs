//! What is mended against what the recorder says it wrote.

use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lanecast_dvr::recorder::{ClosedSegment, Recorder, RecorderConfig, RecorderOutput};
use lanecast_protocol::codec::{Nal, ParameterSets};
use lanecast_relay::access_unit::AccessUnit;
use lanecast_shard::SegmentId;

use super::super::fixture::MIDNIGHT;
use super::*;

/// A recorder, and the file that it writes.
struct Studio {
    recorder: Recorder,
    file: File,
    closed: Option<ClosedSegment>,
}

impl Studio {
    fn new(path: &Path) -> Self {
        let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
        Self { recorder: Recorder::new(RecorderConfig::default(), 1), file, closed: None }
    }

    fn settle(&mut self, now: Instant) {
        while let Some(output) = self.recorder.poll_output() {
            match output {
                RecorderOutput::Open { ticket, .. } => {
                    self.recorder.handle_opened(now, ticket, Ok(SegmentId(1)));
                }
                RecorderOutput::Write { segment, offset, chunks } => {
                    let bytes = chunks.concat();
                    self.file.write_all_at(&bytes, offset).unwrap();
                    self.recorder.handle_written(now, segment, Ok(bytes.len()));
                }
                RecorderOutput::Sync { segment } => self.recorder.handle_synced(now, segment, Ok(())),
                RecorderOutput::Close(closed) => self.closed = Some(closed),
                RecorderOutput::Status(_) => {}
            }
        }
    }

    /// Twenty seconds at 25 pictures a second, a keyframe every two, with B-pictures, at times that are no
    /// whole milliseconds. A GOP lasts a little longer than a fragment may.
    fn record(&mut self) -> ClosedSegment {
        let begin = Instant::now();
        self.recorder.handle_playing(begin, 90_000);
        for number in 0..500u32 {
            let passed_ms = number * 40;
            let now = begin + Duration::from_millis(u64::from(passed_ms));
            let shown = [0, 3, 1, 2][number as usize % 4] + number / 4 * 4;
            self.recorder.handle_access_unit(now, MIDNIGHT + i64::from(passed_ms), unit(now, number, shown));
            self.settle(now);
        }
        let end = begin + Duration::from_secs(20);
        self.recorder.stop(end);
        self.settle(end);
        self.closed.take().unwrap()
    }
}

fn unit(now: Instant, number: u32, shown: u32) -> AccessUnit {
    let random_access = number.is_multiple_of(50);
    let mut nal = vec![if random_access { 0x65 } else { 0x41 }];
    nal.resize(200 + number as usize, 0x80);
    let timestamp_90k = 1_000_000 + shown * 3601;
    AccessUnit {
        new_clock_rate_hz: None,
        arrived: now,
        camera_timestamp: timestamp_90k,
        timestamp_90k,
        random_access,
        damaged: false,
        parameter_sets: parameter_sets(),
        nals: vec![Nal::from_bytes(nal.into())],
    }
}

fn parameter_sets() -> Rc<ParameterSets> {
    let nals: [&'static [u8]; 2] = [
        b"\x67\x64\x00\x28\xac\xd9\x40\x78\x02\x27\xe5\xc0\x44\x00\x00\x03\x00\x04\x00\x00\x03\x00\xc8\x3c\x60\xc6\x58",
        b"\x68\xeb\xc0\x84\xb2\x2c",
    ];
    let mut sets = ParameterSets::new(Codec::H264);
    for nal in nals {
        assert!(sets.handle_nal(&Nal::from_bytes(Bytes::from_static(nal))));
    }
    Rc::new(sets)
}

#[test]
fn what_is_found_in_a_file_is_what_the_recorder_closed() {
    let directory = tempfile::tempdir().unwrap();
    let mut studio = Studio::new(&directory.path().join("x.mp4"));
    let closed = studio.record();
    let Found::Playable(contents) = examine(&studio.file).unwrap() else { panic!("not playable") };
    assert_eq!(contents.keyframes, closed.keyframes);
    assert_eq!(contents.bytes, closed.bytes);
    assert!((contents.end_unix_ms - closed.end_unix_ms).abs() <= 1, "{contents:?} {closed:?}");
    assert_eq!(contents.tail, None);
}

#[test]
fn what_is_left_of_a_torn_file_is_the_beginning_of_what_the_recorder_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let mut studio = Studio::new(&directory.path().join("x.mp4"));
    let closed = studio.record();
    let mut whole = 0;
    for length in (0..closed.bytes).rev().step_by(997) {
        studio.file.set_len(length).unwrap();
        match examine(&studio.file).unwrap() {
            Found::Playable(contents) => {
                let count = contents.keyframes.len();
                assert_eq!(contents.keyframes, closed.keyframes[..count]);
                let next = closed.keyframes.get(count).map_or(closed.bytes, |keyframe| keyframe.offset);
                assert!(contents.bytes <= length.min(next), "{length}");
                assert!(contents.bytes > closed.keyframes[count - 1].offset, "{length}");
                whole = whole.max(count);
            }
            Found::Empty => assert!(length < closed.keyframes[1].offset),
            other => panic!("{length}: {other:?}"),
        }
    }
    assert_eq!(whole, closed.keyframes.len(), "of the last GOP only the end was torn");
}
