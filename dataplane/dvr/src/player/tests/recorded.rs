//! What the recorder writes, and has in memory, is what the player plays.

use std::rc::Rc;
use std::time::{Duration, Instant};

use lanecast_protocol::codec::Nal;
use lanecast_relay::access_unit::AccessUnit;

use super::super::PlayerOutput;
use super::archive::{Camera, Recorded, START};
use super::origin;
use super::scene::Scene;
use crate::recorder::{Recorder, RecorderConfig, RecorderOutput};
use crate::segment::SegmentId;

/// A recorder of segments of ten seconds, and its files.
struct Recording {
    recorder: Recorder,
    camera: Camera,
    coded: Vec<(i64, bool)>,
    came: usize,
    files: Vec<Recorded>,
    /// Writes that the disk has not done yet.
    waiting: Vec<RecorderOutput>,
    start: Instant,
}

impl Recording {
    fn new(camera: Camera, start: Instant, pictures: usize) -> Self {
        let config = RecorderConfig { segment: Duration::from_secs(10), ..RecorderConfig::default() };
        let mut recorder = Recorder::new(config, 1);
        recorder.handle_playing(start, 90_000);
        let coded = camera.decode_order(pictures);
        Self { recorder, camera, coded, came: 0, files: Vec::new(), waiting: Vec::new(), start }
    }

    /// Time of the newest picture that came, from the start.
    fn newest_ms(&self) -> i64 {
        self.recorder.newest_unix_ms().unwrap() - START
    }

    /// The next picture comes in, when it does.
    fn grow(&mut self) {
        let (shown, random_access) = self.coded[self.came];
        let ms = self.came as i64 * self.camera.frame_ms;
        let now = self.start + Duration::from_millis(ms as u64);
        let timestamp_90k = (u32::MAX - 50_000).wrapping_add((shown * self.camera.frame_ms * 90) as u32);
        self.came += 1;
        let unit = AccessUnit {
            new_clock_rate_hz: None,
            arrived: now,
            camera_timestamp: timestamp_90k,
            timestamp_90k,
            random_access,
            damaged: false,
            parameter_sets: Rc::new(self.camera.parameter_sets()),
            nals: vec![Nal::from_bytes(self.camera.nal(START, shown, random_access).into())],
        };
        self.recorder.handle_access_unit(now, START + ms, unit);
        self.recorder.handle_timeout(now);
        self.settle(now);
    }

    fn settle(&mut self, now: Instant) {
        while let Some(output) = self.recorder.poll_output() {
            match output {
                RecorderOutput::Open { ticket, start_unix_ms, codec } => {
                    let segment = SegmentId(ticket as i64);
                    self.recorder.handle_opened(now, ticket, Ok(segment));
                    self.files.push(Recorded {
                        segment,
                        start_unix_ms,
                        end_unix_ms: i64::MAX,
                        codec,
                        bytes: Vec::new(),
                        keyframes: Vec::new(),
                        open: self.recorder.segment(segment),
                    });
                }
                RecorderOutput::Sync { segment } => self.recorder.handle_synced(now, segment, Ok(())),
                RecorderOutput::Close(closed) => {
                    let file = self.files.iter_mut().find(|file| file.segment == closed.segment).unwrap();
                    file.bytes.truncate(closed.bytes as usize);
                    (file.end_unix_ms, file.keyframes) = (closed.end_unix_ms, closed.keyframes);
                    file.open = None;
                }
                RecorderOutput::Status(_) => {}
                write @ RecorderOutput::Write { .. } => self.waiting.push(write),
            }
        }
    }

    /// The disk does what it was asked for.
    fn write(&mut self, now: Instant) {
        while let Some(RecorderOutput::Write { segment, offset, chunks }) = self.waiting.pop() {
            let file = self.files.iter_mut().find(|file| file.segment == segment).unwrap();
            assert_eq!(file.bytes.len() as u64, offset);
            file.bytes.extend(chunks.concat());
            let bytes = chunks.iter().map(bytes::Bytes::len).sum();
            self.recorder.handle_written(now, segment, Ok(bytes));
            self.settle(now);
        }
    }
}

/// Each picture once and none missing; the newest ones may still wait for those that are shown before them.
fn assert_whole(scene: &Scene, frame_ms: i64) {
    let mut times = scene.times();
    times.sort_unstable();
    times.truncate(times.len() - 4);
    let holes: Vec<_> = times.windows(2).filter(|two| two[1] - two[0] != frame_ms).collect();
    assert!(holes.is_empty(), "{holes:?}");
}

#[test]
fn behind_a_recorder_every_picture_is_played_once_over_files_memory_and_segments() {
    for (b_pictures, gop, disk_ms) in [(0, 50, 0), (0, 50, 3000), (2, 49, 400), (0, 500, 400), (3, 120, 0)] {
        let camera = Camera { b_pictures, gop, ..Camera::default() };
        let start = origin();
        let mut recording = Recording::new(camera, start, 3000);
        let mut scene = None::<Scene>;
        for n in 0..2000u64 {
            recording.grow();
            let now = start + Duration::from_millis(40 * n);
            if disk_ms == 0 || n % (disk_ms / 40) == 0 {
                recording.write(now);
            }
            if n == 600 {
                let wanted = START + recording.newest_ms() - 12_000;
                let mut begun = Scene::new(now, recording.files.clone(), wanted, 1.0);
                assert!(begun.settle().is_some_and(|shown| (wanted - 200..=wanted).contains(&shown)));
                begun.player.play(now, 0, 0);
                scene = Some(begun);
            }
            if let Some(scene) = &mut scene {
                scene.archive.clone_from(&recording.files);
                scene.run(40);
            }
        }
        let scene = scene.unwrap();
        let context = format!("{b_pictures} B-pictures, GOP of {gop}, {disk_ms} ms");
        assert!(!scene.is_over(), "{context}: {:?}", scene.events.last());
        assert_whole(&scene, 40);
        let lag_ms = recording.newest_ms() - scene.times().last().unwrap();
        assert!((11_500..12_500).contains(&lag_ms), "{context}: {lag_ms} ms behind");
        let strange =
            |event: &&PlayerOutput| !matches!(event, PlayerOutput::Release(_) | PlayerOutput::Ready { .. });
        assert_eq!(scene.events.iter().filter(strange).count(), 0, "{context}");
        // By the time that passes, but for what is sent at once.
        for two in scene.seen.windows(2).filter(|two| two[0].at_ms > 100) {
            assert!(two[1].at_ms - two[0].at_ms <= 40 * (1 + b_pictures as u64) + 5, "{context}: {two:?}");
        }
    }
}

#[test]
fn from_the_past_a_faster_viewer_reaches_the_recorder() {
    let start = origin();
    let mut recording = Recording::new(Camera::default(), start, 3000);
    let mut scene = None::<Scene>;
    for n in 0..1500u64 {
        recording.grow();
        let now = start + Duration::from_millis(40 * n);
        recording.write(now);
        if n == 500 {
            let mut begun = Scene::new(now, recording.files.clone(), START + 5000, 2.0);
            begun.settle();
            begun.player.play(now, 0, 0);
            scene = Some(begun);
        }
        if let Some(scene) = &mut scene {
            scene.archive.clone_from(&recording.files);
            scene.run(40);
            if scene.is_over() {
                break;
            }
        }
    }
    let scene = scene.unwrap();
    assert!(matches!(scene.events.last(), Some(PlayerOutput::Live)));
    assert_whole(&scene, 40);
    assert!(recording.newest_ms() - scene.times().last().unwrap() < 200);
}
