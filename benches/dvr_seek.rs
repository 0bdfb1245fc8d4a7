//! A viewer of the past: the CPU time from `Player::new` to its first run, and that of each packet while it plays.
//!
//! A minute of the feed's camera in one file in memory; the copy that the kernel makes of what is read is not counted.

mod feed;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use feed::Slicing;
use lanecast_dvr::keyframes::Keyframe;
use lanecast_dvr::player::{Extent, Located, Player, PlayerConfig, PlayerOutput, Wanted};
use lanecast_dvr::segment::SegmentId;
use lanecast_protocol::codec::{Codec, Nal, ParameterSets};
use lanecast_protocol::mp4::{self, FragmentHeader, InitSegment, Sample};

const START_UNIX_MS: i64 = 1_790_000_000_000;
const GOP_MS: i64 = 2000;
const GOPS: i64 = 30;

struct Recording {
    bytes: Vec<u8>,
    keyframes: Vec<Keyframe>,
}

impl Recording {
    fn new() -> Self {
        let mut parameter_sets = ParameterSets::new(Codec::H264);
        for set in feed::parameter_sets(Codec::H264) {
            parameter_sets.handle_nal(&Nal::from_bytes(set));
        }
        let init = InitSegment { parameter_sets, width: 1920, height: 1080, creation_unix_ms: START_UNIX_MS };
        let mut recording = Self { bytes: mp4::write_init(&init).to_vec(), keyframes: Vec::new() };
        (0..GOPS).for_each(|gop| recording.write(gop));
        recording
    }

    fn write(&mut self, gop: i64) {
        let samples: Vec<Vec<u8>> = feed::pictures(Codec::H264, Slicing::Whole)
            .iter()
            .map(|picture| {
                let nals = picture.nals.iter().map(Nal::to_contiguous);
                nals.flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], &nal].concat()).collect()
            })
            .collect();
        let unix_ms = START_UNIX_MS + gop * GOP_MS;
        self.keyframes.push(Keyframe { unix_ms, offset: self.bytes.len() as u64 });
        let header = FragmentHeader {
            sequence_number: 1 + gop as u32,
            base_decode_90k: (gop * GOP_MS * 90) as u64,
            unix_ms,
            samples: samples
                .iter()
                .enumerate()
                .map(|(index, sample)| Sample {
                    bytes: sample.len() as u32,
                    duration_90k: feed::PICTURE_TIME_90K,
                    composition_offset_90k: 0,
                    sync: index == 0,
                })
                .collect(),
        };
        self.bytes.extend_from_slice(&mp4::write_fragment_header(&header));
        self.bytes.extend(samples.concat());
    }

    fn located(&self) -> Located {
        let extent = Extent::Closed {
            end_unix_ms: START_UNIX_MS + GOPS * GOP_MS,
            bytes: self.bytes.len() as u64,
            keyframes: self.keyframes.clone(),
        };
        Located { segment: SegmentId(1), start_unix_ms: START_UNIX_MS, codec: Codec::H264, extent }
    }
}

/// A player, and the time that its calls took.
struct Viewer<'a> {
    recording: &'a Recording,
    player: Player,
    now: Instant,
    took: Duration,
    packets: u64,
    is_over: bool,
}

impl<'a> Viewer<'a> {
    fn new(recording: &'a Recording, now: Instant, unix_ms: i64) -> Self {
        let config =
            PlayerConfig { max_udp_payload: feed::PACKET_BYTES, ssrc: 1, codec: None, history: true };
        let begun = Instant::now();
        let player = Player::new(now, config, unix_ms, 1.0);
        let took = begun.elapsed();
        Self { recording, player, now, took, packets: 0, is_over: false }
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut Player, Instant) -> T) -> T {
        let begun = Instant::now();
        let result = call(&mut self.player, self.now);
        self.took += begun.elapsed();
        result
    }

    /// Until it has nothing to do before its next timeout. Gives up behind the first run where that is enough.
    fn serve(&mut self, first_run: bool) {
        while let Some(output) = self.call(|player, _| player.poll_output()) {
            match output {
                PlayerOutput::Locate(wanted) => {
                    let located = matches!(wanted, Wanted::At(_)).then(|| self.recording.located());
                    self.call(|player, now| player.handle_located(now, Ok(located)));
                }
                PlayerOutput::Read { segment, offset, bytes } => {
                    let start = offset as usize;
                    let end = self.recording.bytes.len().min(start + bytes);
                    let read = BytesMut::from(&self.recording.bytes[start..end]);
                    self.call(|player, now| player.handle_read(now, segment, offset, Ok(read)));
                }
                PlayerOutput::Ready { .. } => self.call(|player, now| player.play(now, 0, 0)),
                PlayerOutput::Run(run) => {
                    self.packets += u64::from(black_box(run).packets());
                    if first_run {
                        return;
                    }
                }
                PlayerOutput::Live => self.is_over = true,
                _ => {}
            }
        }
    }

    fn play_to_end(&mut self) {
        self.serve(false);
        while !self.is_over
            && let Some(at) = self.player.poll_timeout()
        {
            self.now = self.now.max(at);
            self.call(Player::handle_timeout);
            self.serve(false);
        }
    }
}

fn seek(c: &mut Criterion) {
    let recording = Recording::new();
    let mut group = c.benchmark_group("dvr_seek");
    for (name, ahead_ms) in [("to a keyframe", 0), ("a second behind a keyframe", 1000)] {
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                (0..times)
                    .map(|n| {
                        let gop = n as i64 % GOPS;
                        let unix_ms = START_UNIX_MS + gop * GOP_MS + ahead_ms;
                        let mut viewer = Viewer::new(&recording, feed::start(), unix_ms);
                        viewer.serve(true);
                        assert!(viewer.packets > 0);
                        viewer.took
                    })
                    .sum()
            });
        });
    }
    group.finish();
}

fn play(c: &mut Criterion) {
    let recording = Recording::new();
    let mut whole = Viewer::new(&recording, feed::start(), START_UNIX_MS);
    whole.play_to_end();
    assert!(whole.is_over && whole.packets > 25_000);
    let mut group = c.benchmark_group("dvr_play");
    group.throughput(Throughput::Elements(whole.packets));
    group.sample_size(20);
    group.bench_function("a minute", |b| {
        b.iter_custom(|times| {
            (0..times)
                .map(|_| {
                    let mut viewer = Viewer::new(&recording, feed::start(), START_UNIX_MS);
                    viewer.play_to_end();
                    viewer.took
                })
                .sum()
        });
    });
    group.finish();
}

criterion_group! { name = benches; config = feed::settings(); targets = seek, play }
criterion_main!(benches);
