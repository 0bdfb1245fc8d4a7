//! Segment files for the tests, in memory. Every picture has its time of day in its bytes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use lanecast_protocol::codec::{Codec, Nal, ParameterSets};
use lanecast_protocol::mp4::{self, FragmentHeader, InitSegment, Sample};

use super::super::{Extent, Located};
use crate::keyframes::Keyframe;
use crate::segment::{MemoryFragment, MemorySample, OpenSegment, SegmentId};

/// Start of what the tests record, UTC.
pub(super) const START: i64 = 1_790_000_000_000;

const H264_SETS: [&[u8]; 2] = [
    b"\x67\x64\x00\x28\xac\xd9\x40\x78\x02\x27\xe5\xc0\x44\x00\x00\x03\x00\x04\x00\x00\x03\x00\xc8\x3c\x60\xc6\x58",
    b"\x68\xeb\xc0\x84\xb2\x2c",
];
const H264_OTHER_SETS: [&[u8]; 2] = [
    b"\x67\x64\x00\x0a\xac\xb2\x06\x1f\xc4\x4f\x80\x88\x00\x00\x03\x00\x08\x00\x00\x03\x00\xa0\x78\x91\x32\x40",
    b"\x68\xeb\xc0\x84\xb2\x2c",
];
const H265_SETS: [&[u8]; 3] = [
    b"\x40\x01\x0c\x01\xff\xff\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x1e\x92\x80\x90",
    b"\x42\x01\x01\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x1e\xa0\x17\x20\x69\xc9\x79\x64\xa9\x24\xca\xf0\x16\x80\x80\x00\x00\x03\x00\x80\x00\x00\x05\x04",
    b"\x44\x01\xc1\x72\xb4\x62\x40",
];

/// What a camera sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Camera {
    pub(super) frame_ms: i64,
    /// Pictures of a GOP, and of a fragment at the most.
    pub(super) gop: usize,
    pub(super) fragment: usize,
    pub(super) key_bytes: usize,
    pub(super) picture_bytes: usize,
    /// Between each two pictures that others refer to, so many that none refers to.
    pub(super) b_pictures: usize,
    pub(super) codec: Codec,
    pub(super) other_sets: bool,
}

impl Default for Camera {
    fn default() -> Self {
        Self {
            frame_ms: 40,
            gop: 50,
            fragment: 50,
            key_bytes: 20_000,
            picture_bytes: 3000,
            b_pictures: 0,
            codec: Codec::H264,
            other_sets: false,
        }
    }
}

/// A segment.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) segment: SegmentId,
    pub(super) start_unix_ms: i64,
    pub(super) end_unix_ms: i64,
    pub(super) codec: Codec,
    pub(super) bytes: Vec<u8>,
    pub(super) keyframes: Vec<Keyframe>,
    pub(super) open: Option<Rc<OpenSegment>>,
}

impl Recorded {
    pub(super) fn located(&self) -> Located {
        let extent = match &self.open {
            Some(open) => Extent::Open(Rc::clone(open)),
            None => Extent::Closed {
                end_unix_ms: self.end_unix_ms,
                bytes: self.bytes.len() as u64,
                keyframes: self.keyframes.clone(),
            },
        };
        Located { segment: self.segment, start_unix_ms: self.start_unix_ms, codec: self.codec, extent }
    }
}

/// A picture in decode order: its place in the order of presentation, in frames from the segment's start.
#[derive(Clone, Copy, Debug)]
struct Coded {
    shown: i64,
    sync: bool,
}

impl Camera {
    pub(super) fn parameter_sets(&self) -> ParameterSets {
        let sets: &[&'static [u8]] = match (self.codec, self.other_sets) {
            (Codec::H264, false) => &H264_SETS,
            (Codec::H264, true) => &H264_OTHER_SETS,
            (Codec::H265, _) => &H265_SETS,
        };
        let mut kept = ParameterSets::new(self.codec);
        for set in sets {
            assert!(kept.handle_nal(&Nal::from_bytes(Bytes::from_static(set))));
        }
        kept
    }

    /// A segment of so many pictures.
    pub(super) fn record(&self, segment: i64, start_unix_ms: i64, pictures: usize) -> Recorded {
        let mut bytes = self.init(start_unix_ms);
        let mut keyframes = Vec::new();
        let coded = self.coded(pictures);
        let mut decoded = 0;
        for fragment in self.fragments(&coded) {
            if fragment[0].sync {
                let unix_ms = start_unix_ms + fragment[0].shown * self.frame_ms;
                keyframes.push(Keyframe { unix_ms, offset: bytes.len() as u64 });
            }
            self.write_fragment(&mut bytes, start_unix_ms, decoded, fragment);
            decoded += fragment.len() as i64;
        }
        let end_unix_ms = start_unix_ms + pictures as i64 * self.frame_ms;
        let segment = SegmentId(segment);
        Recorded { segment, start_unix_ms, end_unix_ms, codec: self.codec, bytes, keyframes, open: None }
    }

    fn init(&self, creation_unix_ms: i64) -> Vec<u8> {
        let parameter_sets = self.parameter_sets();
        mp4::write_init(&InitSegment { parameter_sets, width: 1920, height: 1080, creation_unix_ms }).to_vec()
    }

    fn write_fragment(&self, bytes: &mut Vec<u8>, start_unix_ms: i64, decoded: i64, fragment: &[Coded]) {
        let data: Vec<_> = fragment.iter().map(|&coded| self.sample(start_unix_ms, coded)).collect();
        let samples = fragment.iter().zip(&data).enumerate().map(|(index, (coded, data))| Sample {
            bytes: data.len() as u32,
            duration_90k: self.frame_ms as u32 * 90,
            composition_offset_90k: ((coded.shown - decoded - index as i64) * self.frame_ms * 90) as i32,
            sync: coded.sync,
        });
        bytes.extend_from_slice(&mp4::write_fragment_header(&FragmentHeader {
            sequence_number: 1 + decoded as u32,
            base_decode_90k: (decoded * self.frame_ms * 90) as u64,
            unix_ms: start_unix_ms + decoded * self.frame_ms,
            samples: samples.collect(),
        }));
        bytes.extend(data.concat());
    }

    /// In decode order. A GOP ends with a picture that others refer to.
    fn coded(&self, pictures: usize) -> Vec<Coded> {
        let mut coded = Vec::new();
        for gop in (0..pictures).step_by(self.gop) {
            let end = pictures.min(gop + self.gop);
            coded.push(Coded { shown: gop as i64, sync: true });
            let mut at = gop + 1;
            while at < end {
                let anchor = (at + self.b_pictures).min(end - 1);
                coded.push(Coded { shown: anchor as i64, sync: false });
                coded.extend((at..anchor).map(|shown| Coded { shown: shown as i64, sync: false }));
                at = anchor + 1;
            }
        }
        coded
    }

    fn fragments<'a>(&self, coded: &'a [Coded]) -> Vec<&'a [Coded]> {
        coded.chunks(self.gop).flat_map(|gop| gop.chunks(self.fragment)).collect()
    }

    /// Each picture's place in the order of presentation, and whether a decoder can start there.
    pub(super) fn decode_order(&self, pictures: usize) -> Vec<(i64, bool)> {
        self.coded(pictures).into_iter().map(|coded| (coded.shown, coded.sync)).collect()
    }

    /// One NAL unit with its length.
    fn sample(&self, start_unix_ms: i64, coded: Coded) -> Vec<u8> {
        let nal = self.nal(start_unix_ms, coded.shown, coded.sync);
        [&(nal.len() as u32).to_be_bytes()[..], &nal].concat()
    }

    /// The picture that is shown as so manieth.
    pub(super) fn nal(&self, start_unix_ms: i64, shown: i64, sync: bool) -> Vec<u8> {
        let unix_ms = start_unix_ms + shown * self.frame_ms;
        let mut out: Vec<u8> = match (self.codec, sync) {
            (Codec::H264, true) => vec![0x65],
            (Codec::H264, false) => vec![0x41],
            (Codec::H265, true) => vec![0x26, 0x01],
            (Codec::H265, false) => vec![0x02, 0x01],
        };
        out.push(0x88);
        out.extend(unix_ms.to_be_bytes());
        out.resize(if sync { self.key_bytes } else { self.picture_bytes }, 0x55);
        out
    }
}

/// A segment that is being written. `Recorded::bytes` is what the file has in the end.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) recorded: Recorded,
    open: Rc<OpenSegment>,
    camera: Camera,
    coded: Vec<Coded>,
    /// Pictures that came in.
    pub(super) pictures: usize,
    fragment: Option<Rc<MemoryFragment>>,
    /// Ends of fragments in the file.
    ends: Vec<u64>,
}

impl Writing {
    /// Nothing has come in yet; at the most so many pictures will.
    pub(super) fn new(camera: Camera, segment: i64, start_unix_ms: i64, pictures: usize) -> Self {
        let mut recorded = camera.record(segment, start_unix_ms, pictures);
        let open = Rc::new(OpenSegment::new(start_unix_ms, Rc::new(camera.parameter_sets())));
        recorded.open = Some(Rc::clone(&open));
        let coded = camera.coded(pictures);
        let mut bytes = camera.init(start_unix_ms);
        let mut decoded = 0;
        let mut ends = vec![bytes.len() as u64];
        for fragment in camera.fragments(&coded) {
            camera.write_fragment(&mut bytes, start_unix_ms, decoded, fragment);
            decoded += fragment.len() as i64;
            ends.push(bytes.len() as u64);
        }
        Self { recorded, open, camera, coded, pictures: 0, fragment: None, ends }
    }

    /// The next pictures come in.
    pub(super) fn grow(&mut self, pictures: usize) {
        for _ in 0..pictures {
            let coded = self.coded[self.pictures];
            let index = self.pictures % self.camera.gop;
            let start_unix_ms = self.recorded.start_unix_ms;
            let unix_ms = start_unix_ms + coded.shown * self.camera.frame_ms;
            if index.is_multiple_of(self.camera.fragment) {
                self.end_fragment();
                let offset = self.ends[self.fragments_begun()];
                let fragment = Rc::new(MemoryFragment {
                    offset,
                    samples: RefCell::default(),
                    end_offset: Cell::new(None),
                });
                self.open.begin(Rc::clone(&fragment), coded.sync.then_some(Keyframe { unix_ms, offset }));
                self.fragment = Some(fragment);
            }
            if let Some(fragment) = &self.fragment {
                fragment.samples.borrow_mut().push(MemorySample {
                    presentation_90k: coded.shown * self.camera.frame_ms * 90,
                    unix_ms,
                    sync: coded.sync,
                    bytes: self.camera.sample(start_unix_ms, coded).into(),
                });
            }
            self.open.grow(unix_ms);
            self.pictures += 1;
        }
    }

    /// So many fragments are in the file.
    pub(super) fn write(&mut self, fragments: usize) {
        self.open.set_readable(self.ends[fragments]);
    }

    /// Nothing more comes; what came is in the file.
    pub(super) fn close(&mut self) {
        self.end_fragment();
        self.open.close();
    }

    fn fragments_begun(&self) -> usize {
        let per_gop = self.camera.gop.div_ceil(self.camera.fragment);
        self.pictures / self.camera.gop * per_gop + self.pictures % self.camera.gop / self.camera.fragment
    }

    fn end_fragment(&mut self) {
        let Some(fragment) = self.fragment.take() else { return };
        let at = self.ends.iter().position(|&end| end == fragment.offset).unwrap();
        fragment.end_offset.set(Some(self.ends[at + 1]));
    }
}
