//! A camera, a catalogue and a disk around a recorder, on virtual time. What the disk has is read back by the MP4 reader.

use std::collections::BTreeMap;

use lanecast_protocol::codec::{Nal, ParameterSets};
use lanecast_protocol::mp4::{FragmentHeader, Parsed, parse_fragment_header, parse_init};

use super::super::*;

pub(super) const START_UNIX_MS: i64 = 1_790_000_000_000;
const SPS_1080P: &[u8] =
    b"\x67\x64\x00\x28\xac\xd9\x40\x78\x02\x27\xe5\xc0\x44\x00\x00\x03\x00\x04\x00\x00\x03\x00\xc8\x3c\
    \x60\xc6\x58";
const SPS_178X100: &[u8] =
    b"\x67\x64\x00\x0a\xac\xb2\x06\x1f\xc4\x4f\x80\x88\x00\x00\x03\x00\x08\x00\x00\x03\x00\xa0\x78\x91\x32\x40";
const PPS: &[u8] = b"\x68\xeb\xc0\x84\xb2\x2c";
const VPS_H265: &[u8] =
    b"\x40\x01\x0c\x01\xff\xff\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x1e\x92\x80\x90";
const SPS_H265: &[u8] =
    b"\x42\x01\x01\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x1e\xa0\x17\x20\x69\xc9\x79\
    \x64\xa9\x24\xca\xf0\x16\x80\x80\x00\x00\x03\x00\x80\x00\x00\x05\x04";
const PPS_H265: &[u8] = b"\x44\x01\xc1\x72\xb4\x62\x40";

/// Parameter sets of three kinds of streams.
pub(super) fn sets(kind: usize) -> Rc<ParameterSets> {
    let (codec, nals): (_, &[&[u8]]) = match kind {
        0 => (Codec::H264, &[SPS_1080P, PPS]),
        1 => (Codec::H264, &[SPS_178X100, PPS]),
        _ => (Codec::H265, &[VPS_H265, SPS_H265, PPS_H265]),
    };
    let mut sets = ParameterSets::new(codec);
    for nal in nals {
        assert!(sets.handle_nal(&Nal::from_bytes(Bytes::copy_from_slice(nal))));
    }
    Rc::new(sets)
}

/// How the disk and the catalogue answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Well,
    Error,
    /// Writes take a part.
    Short,
    /// Not before [`Rig::answer_all`].
    Later,
}

/// A picture as it was read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) number: u64,
    pub(super) time_90k: i64,
    pub(super) unix_ms: i64,
    pub(super) sync: bool,
}

/// A fragment as it was read back.
#[derive(Clone, Debug)]
pub(super) struct SeenFragment {
    pub(super) offset: u64,
    pub(super) header: FragmentHeader,
    pub(super) pictures: Vec<Seen>,
}

impl SeenFragment {
    pub(super) fn end_90k(&self) -> u64 {
        self.header.base_decode_90k + self.header.duration_90k()
    }
}

pub(super) struct Rig {
    pub(super) recorder: Recorder,
    pub(super) now: Instant,
    /// What the system's clock was set by.
    pub(super) step_ms: i64,
    start: Instant,
    pub(super) parameter_sets: Rc<ParameterSets>,
    pub(super) opens: Answer,
    pub(super) writes: Answer,
    pub(super) syncs: Answer,
    pub(super) files: BTreeMap<SegmentId, Vec<u8>>,
    pub(super) closed: Vec<ClosedSegment>,
    pub(super) statuses: Vec<RecordingStatus>,
    /// Tickets and times of the questions for files.
    pub(super) asked: Vec<(u64, Instant, i64)>,
    pub(super) syncs_seen: Vec<(SegmentId, Instant)>,
    pub(super) writes_seen: Vec<Vec<Bytes>>,
    waiting_opens: Vec<u64>,
    pub(super) waiting: Vec<RecorderOutput>,
    /// Of the next access unit.
    pub(super) number: u64,
    pub(super) picture_len: usize,
    timestamp_first: u32,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(RecorderConfig::default())
    }

    pub(super) fn with(config: RecorderConfig) -> Self {
        let now = Instant::now();
        let mut rig = Self {
            recorder: Recorder::new(config, 7),
            now,
            step_ms: 0,
            start: now,
            parameter_sets: sets(0),
            opens: Answer::Well,
            writes: Answer::Well,
            syncs: Answer::Well,
            files: BTreeMap::new(),
            closed: Vec::new(),
            statuses: Vec::new(),
            asked: Vec::new(),
            syncs_seen: Vec::new(),
            writes_seen: Vec::new(),
            waiting_opens: Vec::new(),
            waiting: Vec::new(),
            number: 0,
            picture_len: 100,
            timestamp_first: u32::MAX - 400_000,
        };
        rig.recorder.handle_playing(now, 90_000);
        rig.settle();
        rig
    }

    pub(super) fn at_ms(&self) -> i64 {
        (self.now - self.start).as_millis() as i64
    }

    pub(super) fn unix_ms(&self) -> i64 {
        START_UNIX_MS + self.at_ms() + self.step_ms
    }

    /// An access unit that comes now, and is shown at this time in ms since the start.
    pub(super) fn unit(&mut self, random_access: bool, shown_ms: i64) {
        let timestamp_90k = self.timestamp_first.wrapping_add((shown_ms * 90) as u32);
        self.unit_at(random_access, timestamp_90k);
    }

    pub(super) fn unit_at(&mut self, random_access: bool, timestamp_90k: u32) {
        let header = if random_access { 0x65 } else { 0x41 };
        let mut nal = vec![header];
        nal.extend(self.number.to_be_bytes());
        nal.resize(self.picture_len.max(9), 0x80);
        self.number += 1;
        let unit = AccessUnit {
            new_clock_rate_hz: None,
            arrived: self.now,
            camera_timestamp: timestamp_90k,
            timestamp_90k,
            random_access,
            damaged: false,
            parameter_sets: Rc::clone(&self.parameter_sets),
            nals: vec![Nal::from_bytes(nal.into())],
        };
        self.recorder.handle_access_unit(self.now, self.unix_ms(), unit);
        self.settle();
    }

    /// Pictures of 25 a second for so long from now on, in decode order that of presentation, a keyframe every `gop_ms`.
    pub(super) fn run(&mut self, ms: i64, gop_ms: i64) {
        let first_ms = self.at_ms();
        for passed_ms in (0..ms).step_by(40) {
            self.unit(passed_ms % gop_ms == 0, first_ms + passed_ms);
            self.pass(40);
        }
    }

    /// Time passes, with all timeouts.
    pub(super) fn pass(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        let mut turns = 0;
        while let Some(at) = self.recorder.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.recorder.handle_timeout(self.now);
            self.settle();
            turns += 1;
            assert!(turns < 1000, "timeouts that change nothing");
        }
        self.now = until;
    }

    pub(super) fn stop(&mut self) {
        self.recorder.stop(self.now);
        self.settle();
    }

    pub(super) fn lose(&mut self, segment: SegmentId) {
        self.recorder.handle_lost(self.now, segment);
        self.settle();
    }

    pub(super) fn restart_camera(&mut self) {
        // What the camera showed meanwhile.
        self.number += 1;
        self.recorder.handle_playing(self.now, 90_000);
        self.settle();
    }

    pub(super) fn answer_all(&mut self) {
        for ticket in std::mem::take(&mut self.waiting_opens) {
            self.open(ticket);
        }
        for output in std::mem::take(&mut self.waiting) {
            self.perform(output);
        }
        self.settle();
    }

    fn open(&mut self, ticket: u64) {
        let segment = SegmentId(ticket as i64 * 10);
        assert!(self.files.insert(segment, Vec::new()).is_none(), "a ticket twice");
        self.recorder.handle_opened(self.now, ticket, Ok(segment));
    }

    fn perform(&mut self, output: RecorderOutput) {
        match output {
            RecorderOutput::Write { segment, offset, chunks } => {
                let file = self.files.get_mut(&segment).expect("an open file");
                assert_eq!(file.len() as u64, offset, "one write behind the other");
                chunks.iter().for_each(|chunk| file.extend_from_slice(chunk));
                let taken = chunks.iter().map(Bytes::len).sum();
                self.recorder.handle_written(self.now, segment, Ok(taken));
            }
            RecorderOutput::Sync { segment } => self.recorder.handle_synced(self.now, segment, Ok(())),
            _ => unreachable!("only these wait"),
        }
    }

    fn fail(&mut self, output: RecorderOutput, short: bool) {
        let full = || "no space left on device".to_owned();
        match output {
            RecorderOutput::Write { segment, chunks, .. } => {
                let wanted: Vec<u8> = chunks.concat();
                let taken = wanted.len() / 2;
                let file = self.files.get_mut(&segment).expect("an open file");
                file.extend_from_slice(&wanted[..taken]);
                let result = if short { Ok(taken) } else { Err(full()) };
                self.recorder.handle_written(self.now, segment, result);
            }
            RecorderOutput::Sync { segment } => self.recorder.handle_synced(self.now, segment, Err(full())),
            _ => unreachable!("only these fail"),
        }
    }

    /// Does what the recorder wants.
    pub(super) fn settle(&mut self) {
        while let Some(output) = self.recorder.poll_output() {
            self.recorder.assert_invariants();
            let answer = match &output {
                RecorderOutput::Open { ticket, start_unix_ms, .. } => {
                    self.asked.push((*ticket, self.now, *start_unix_ms));
                    match self.opens {
                        Answer::Well => self.open(*ticket),
                        Answer::Later => self.waiting_opens.push(*ticket),
                        _ => self.recorder.handle_opened(self.now, *ticket, Err("no such folder".into())),
                    }
                    continue;
                }
                RecorderOutput::Close(closed) => {
                    self.close(closed.clone());
                    continue;
                }
                RecorderOutput::Status(status) => {
                    assert_ne!(self.statuses.last(), Some(status));
                    self.statuses.push(status.clone());
                    continue;
                }
                RecorderOutput::Write { chunks, .. } => {
                    assert!(chunks.len() <= 256 && !chunks.is_empty());
                    self.writes_seen.push(chunks.clone());
                    self.writes
                }
                RecorderOutput::Sync { segment } => {
                    self.syncs_seen.push((*segment, self.now));
                    self.syncs
                }
            };
            assert!(self.waiting.is_empty(), "one at a time");
            match answer {
                Answer::Well => self.perform(output),
                Answer::Error => self.fail(output, false),
                Answer::Short => self.fail(output, true),
                Answer::Later => self.waiting.push(output),
            }
        }
        self.recorder.assert_invariants();
    }

    fn close(&mut self, closed: ClosedSegment) {
        let file = self.files.get_mut(&closed.segment).expect("an open file");
        assert!(closed.bytes <= file.len() as u64);
        file.truncate(closed.bytes as usize);
        let known = self.closed.iter().any(|other| other.segment == closed.segment);
        assert!(!known, "closed twice");
        let fragments = read_back(file);
        assert!(closed.keyframes.windows(2).all(|pair| pair[0].unix_ms < pair[1].unix_ms));
        let mut keyframes = closed.keyframes.iter().peekable();
        let mut newest = i64::MIN;
        for fragment in fragments.iter().filter(|fragment| fragment.pictures[0].sync) {
            let unix_ms = fragment.pictures[0].unix_ms.max(closed.start_unix_ms);
            match keyframes.next_if(|keyframe| keyframe.offset == fragment.offset) {
                Some(keyframe) => assert!((unix_ms - keyframe.unix_ms).abs() <= 1, "{unix_ms}, {keyframe:?}"),
                None => assert!(unix_ms <= newest, "not in the index: {fragment:?}"),
            }
            newest = newest.max(unix_ms);
        }
        assert_eq!(keyframes.next(), None, "no such fragment");
        if let Some(last) = fragments.last() {
            let end = last.offset + last.header_len() + last.header.sample_bytes();
            assert_eq!(end, closed.bytes, "a whole fragment at the end");
        }
        assert!(closed.end_unix_ms >= closed.start_unix_ms);
        self.closed.push(closed);
    }

    pub(super) fn status(&self) -> &RecordingStatus {
        self.statuses.last().expect("a status from the beginning")
    }

    /// The fragments of the file that was opened as the n-th.
    pub(super) fn fragments(&self, n: usize) -> Vec<SeenFragment> {
        read_back(self.files.values().nth(n).expect("so many files"))
    }

    pub(super) fn pictures(&self, n: usize) -> Vec<Seen> {
        self.fragments(n).into_iter().flat_map(|fragment| fragment.pictures).collect()
    }

    /// Numbers of all pictures in files.
    pub(super) fn numbers(&self) -> Vec<u64> {
        (0..self.files.len()).flat_map(|n| self.pictures(n)).map(|picture| picture.number).collect()
    }

    /// What is recorded does not overlap, and no GOP has a hole.
    pub(super) fn assert_sound(&self) {
        let mut closed = self.closed.clone();
        closed.retain(|closed| !closed.keyframes.is_empty());
        closed.sort_by_key(|closed| closed.start_unix_ms);
        for pair in closed.windows(2) {
            assert!(pair[0].end_unix_ms <= pair[1].start_unix_ms, "overlap: {pair:?}");
        }
        for n in 0..self.files.len() {
            let pictures = self.pictures(n);
            assert!(pictures.first().is_none_or(|first| first.sync));
            for pair in pictures.windows(2) {
                assert!(pair[1].sync || pair[1].number == pair[0].number + 1, "a hole: {pair:?}");
            }
        }
    }
}

impl SeenFragment {
    fn header_len(&self) -> u64 {
        lanecast_protocol::mp4::write_fragment_header(&self.header).len() as u64
    }
}

/// The whole fragments of a file, which may be torn behind them.
pub(super) fn read_back(file: &[u8]) -> Vec<SeenFragment> {
    let Parsed::Whole { bytes: mut at, .. } = parse_init(file).expect("a file of ours") else {
        return Vec::new();
    };
    let mut fragments = Vec::new();
    while let Parsed::Whole { part: header, bytes } = parse_fragment_header(&file[at..]).expect("a fragment")
    {
        let samples_at = at + bytes;
        if (file.len() - samples_at) < header.sample_bytes() as usize {
            break;
        }
        fragments.push(read_fragment(at as u64, header, &file[samples_at..]));
        let sample_bytes = fragments.last().map_or(0, |fragment| fragment.header.sample_bytes());
        at = samples_at + sample_bytes as usize;
    }
    fragments
}

fn read_fragment(offset: u64, header: FragmentHeader, mut bytes: &[u8]) -> SeenFragment {
    let mut decode_90k = header.base_decode_90k as i64;
    let mut pictures = Vec::new();
    for sample in &header.samples {
        let (nal, rest) = bytes.split_at(sample.bytes as usize);
        bytes = rest;
        assert_eq!(nal[..4], (nal.len() as u32 - 4).to_be_bytes());
        let time_90k = decode_90k + i64::from(sample.composition_offset_90k);
        let unix_ms = header.unix_ms + (time_90k - header.base_decode_90k as i64).div_euclid(90);
        let number = u64::from_be_bytes(nal[5..13].try_into().expect("eight bytes"));
        pictures.push(Seen { number, time_90k, unix_ms, sync: sample.sync });
        decode_90k += i64::from(sample.duration_90k);
    }
    SeenFragment { offset, header, pictures }
}
