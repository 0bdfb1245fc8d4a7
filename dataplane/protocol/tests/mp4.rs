//! Fragmented MP4 as it is stored: round trips, every truncation, every flipped bit, and files that are not ours.
//!
//! The parameter sets are those of x264 and x265.

use bytes::Bytes;
use lanecast_protocol::codec::{Codec, Nal, ParameterSets};
use lanecast_protocol::mp4::{
    FragmentHeader, InitSegment, MAX_BASE_DECODE_90K, MAX_FRAGMENT_BYTES, MAX_FRAGMENT_HEADER_BYTES,
    MAX_FRAGMENT_SAMPLES, MAX_INIT_BYTES, MAX_UNIX_MS, MIN_UNIX_MS, Mp4Error, Parsed, Sample,
    parse_fragment_header, parse_init, write_fragment_header, write_init,
};
use proptest::prelude::*;

struct Stream {
    codec: Codec,
    nals: &'static [&'static [u8]],
    size: (u16, u16),
}

/// Constrained Baseline, 640x360.
const H264_BASELINE: Stream = Stream {
    codec: Codec::H264,
    nals: &[
        b"\x67\x42\xc0\x1e\xd9\x00\xa0\x2f\xf9\x70\x11\x00\x00\x03\x00\x01\x00\x00\x03\x00\x32\x0f\x16\x2e\x48",
        b"\x68\xcb\x83\xcb\x20",
    ],
    size: (640, 360),
};

/// High, 1280x720, with B-frames.
const H264_HIGH: Stream = Stream {
    codec: Codec::H264,
    nals: &[
        b"\x67\x64\x00\x1f\xac\xd9\x40\x50\x05\xbb\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\x20\xf1\x83\x19\x60",
        b"\x68\xeb\xe3\xcb\x22\xc0",
    ],
    size: (1280, 720),
};

/// Main, 640x360.
const H265_MAIN: Stream = Stream {
    codec: Codec::H265,
    nals: &[
        b"\x40\x01\x0c\x01\xff\xff\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x3f\x92\x80\x90",
        b"\x42\x01\x01\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x3f\xa0\x05\x02\x01\x69\x65\x92\
        \xa4\x93\x2b\xc0\x5a\x02\x00\x00\x03\x00\x02\x00\x00\x03\x00\x32\x10",
        b"\x44\x01\xc1\x72\xb4\x62\x40",
    ],
    size: (640, 360),
};

const STREAMS: [&Stream; 3] = [&H264_BASELINE, &H264_HIGH, &H265_MAIN];

fn init_of(stream: &Stream) -> InitSegment {
    let mut parameter_sets = ParameterSets::new(stream.codec);
    for nal in stream.nals {
        assert!(parameter_sets.handle_nal(&Nal::from_bytes(Bytes::from_static(nal))));
    }
    let (width, height) = stream.size;
    InitSegment { parameter_sets, width, height, creation_unix_ms: 1_763_852_821_123 }
}

/// Two seconds at 25 pictures a second, with B-frames.
fn fragment() -> FragmentHeader {
    let sample = |at: u32| Sample {
        bytes: if at == 0 { 60_000 } else { 4000 + 17 * at },
        duration_90k: 3600,
        composition_offset_90k: [0, 7200, -3600, -3600][at as usize % 4],
        sync: at == 0,
    };
    FragmentHeader {
        sequence_number: 7,
        base_decode_90k: 7 * 180_000,
        unix_ms: 1_763_852_835_123,
        samples: (0..50).map(sample).collect(),
    }
}

fn whole<T: std::fmt::Debug>(parsed: Result<Parsed<T>, Mp4Error>) -> (T, usize) {
    match parsed {
        Ok(Parsed::Whole { part, bytes }) => (part, bytes),
        other => panic!("{other:?}"),
    }
}

fn refused<T: std::fmt::Debug>(parsed: Result<Parsed<T>, Mp4Error>) -> Mp4Error {
    parsed.expect_err("not one of ours")
}

/// Reads as a player would: never more than what was said to be wanted.
fn read_in_pieces<T: std::fmt::Debug>(
    bytes: &[u8],
    bound: usize,
    parse: impl Fn(&[u8]) -> Result<Parsed<T>, Mp4Error>,
) -> (T, usize) {
    let mut len = 0;
    loop {
        match parse(&bytes[..len]) {
            Ok(Parsed::Incomplete { bytes_wanted }) => {
                assert!(bytes_wanted > len && bytes_wanted <= bound && bytes_wanted <= bytes.len());
                len = bytes_wanted;
            }
            other => break whole(other),
        }
    }
}

/// The offset of a box's type.
fn kind_at(bytes: &[u8], kind: &[u8; 4]) -> usize {
    bytes.windows(4).position(|window| window == kind).expect("the box")
}

fn patched(bytes: &[u8], at: usize, patch: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + patch.len()].copy_from_slice(patch);
    bytes
}

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(8 + body.len()).expect("a short box");
    [&len.to_be_bytes()[..], kind, body].concat()
}

#[test]
fn init_segments_of_both_codecs_come_back() {
    for stream in STREAMS {
        let init = init_of(stream);
        let bytes = write_init(&init);
        assert!(bytes.len() < MAX_INIT_BYTES);
        assert_eq!(whole(parse_init(&bytes)), (init, bytes.len()));
    }
}

#[test]
fn a_file_is_hopped_through_from_fragment_to_fragment() {
    let mut file = write_init(&init_of(&H264_HIGH)).to_vec();
    let mut wanted = Vec::new();
    for sequence_number in 1..=3 {
        let header = FragmentHeader { sequence_number, ..fragment() };
        file.extend_from_slice(&write_fragment_header(&header));
        file.resize(file.len() + header.sample_bytes() as usize, 0xa5);
        file.extend(boxed(b"free", &[0; 100]));
        wanted.push(header);
    }
    let (_, mut at) = whole(parse_init(&file));
    for header in wanted {
        let (found, bytes) = whole(parse_fragment_header(&file[at..]));
        assert_eq!(found, header);
        at += bytes + found.sample_bytes() as usize;
    }
    assert!(
        matches!(parse_fragment_header(&file[at..]), Ok(Parsed::Incomplete { .. })),
        "only free space is left"
    );
    assert_eq!(fragment().duration_90k(), 180_000);
}

#[test]
fn every_truncation_is_incomplete_and_then_whole() {
    for stream in STREAMS {
        let bytes = write_init(&init_of(stream));
        for len in 0..bytes.len() {
            let Ok(Parsed::Incomplete { bytes_wanted }) = parse_init(&bytes[..len]) else {
                panic!("at {len}")
            };
            assert!(bytes_wanted > len && bytes_wanted <= bytes.len());
        }
        read_in_pieces(&bytes, MAX_INIT_BYTES, parse_init);
    }
    let unknown = [boxed(b"free", &[0; 300]), boxed(b"uuid", &[9; 16])].concat();
    let header = write_fragment_header(&fragment());
    for bytes in [header.to_vec(), [&unknown[..], &header].concat()] {
        for len in 0..bytes.len() {
            let Ok(Parsed::Incomplete { bytes_wanted }) = parse_fragment_header(&bytes[..len]) else {
                panic!("at {len}")
            };
            assert!(bytes_wanted > len && bytes_wanted <= bytes.len());
        }
        let (found, len) = read_in_pieces(&bytes, MAX_FRAGMENT_HEADER_BYTES, parse_fragment_header);
        assert_eq!((found, len), (fragment(), bytes.len()));
    }
}

#[test]
fn no_flipped_bit_of_an_init_segment_panics() {
    for stream in STREAMS {
        let bytes = write_init(&init_of(stream)).to_vec();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            check_bound(parse_init(&flipped), flipped.len(), MAX_INIT_BYTES);
        }
    }
}

#[test]
fn no_flipped_bit_of_a_fragment_passes_unless_it_is_a_value() {
    let header = FragmentHeader { samples: fragment().samples[..3].to_vec(), ..fragment() };
    let bytes = write_fragment_header(&header).to_vec();
    let values = bytes.len() - 8 - 3 * 16;
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let parsed = parse_fragment_header(&flipped);
        let passed = matches!(parsed, Ok(Parsed::Whole { .. }));
        check_bound(parsed, flipped.len(), MAX_FRAGMENT_HEADER_BYTES);
        // Nothing in the file tells a wrong time of day, sequence number, duration or composition offset.
        let byte = bit / 8;
        let is_value = match byte.checked_sub(values) {
            Some(in_samples) => in_samples < 48 && matches!(in_samples % 16, 0..=3 | 12..=15),
            None => (16..24).contains(&byte) || (kind_at(&bytes, b"mfhd") + 8..).take(4).any(|at| at == byte),
        };
        assert!(!passed || is_value, "bit {bit}");
    }
}

fn check_bound<T>(parsed: Result<Parsed<T>, Mp4Error>, len: usize, bound: usize) {
    match parsed {
        Ok(Parsed::Incomplete { bytes_wanted }) => assert!(bytes_wanted > len && bytes_wanted <= bound),
        Ok(Parsed::Whole { bytes, .. }) => assert!(bytes <= len),
        Err(error) => assert!(error.offset <= len),
    }
}

#[test]
fn mdat_must_be_as_long_as_its_samples() {
    let bytes = write_fragment_header(&fragment());
    let at = kind_at(&bytes, b"mdat") - 4;
    let longer = (fragment().sample_bytes() as u32 + 9).to_be_bytes();
    for size in [longer, [0; 4], 1_u32.to_be_bytes(), 7_u32.to_be_bytes(), [0xff; 4]] {
        assert_eq!(refused(parse_fragment_header(&patched(&bytes, at, &size))).offset, at);
    }
}

#[test]
fn bounds_of_a_fragment_are_kept() {
    let sample = Sample { bytes: 1, duration_90k: 1, composition_offset_90k: 0, sync: true };
    let largest = FragmentHeader {
        base_decode_90k: MAX_BASE_DECODE_90K,
        samples: vec![sample; MAX_FRAGMENT_SAMPLES],
        ..fragment()
    };
    let bytes = write_fragment_header(&largest);
    assert_eq!(whole(parse_fragment_header(&bytes)).0, largest);

    let at = kind_at(&bytes, b"trun") + 8;
    let count = (MAX_FRAGMENT_SAMPLES as u32 + 1).to_be_bytes();
    assert_eq!(refused(parse_fragment_header(&patched(&bytes, at, &count))).offset, at);
    assert_eq!(refused(parse_fragment_header(&patched(&bytes, at, &[0; 4]))).offset, at, "no samples");

    let late = (MAX_BASE_DECODE_90K + 1).to_be_bytes();
    let at = kind_at(&bytes, b"tfdt") + 8;
    assert_eq!(refused(parse_fragment_header(&patched(&bytes, at, &late))).offset, at);

    let most = Sample { bytes: MAX_FRAGMENT_BYTES as u32, ..sample };
    let bytes = write_fragment_header(&FragmentHeader { samples: vec![most], ..fragment() });
    whole(parse_fragment_header(&bytes));
    let at = kind_at(&bytes, b"trun") + 16;
    let over = [&[0; 4], &(MAX_FRAGMENT_BYTES as u32 + 1).to_be_bytes()[..]].concat();
    assert_eq!(refused(parse_fragment_header(&patched(&bytes, at, &over))).offset, at);
}

#[test]
fn unknown_boxes_are_skipped_up_to_the_bound() {
    let header = write_fragment_header(&fragment());
    let before_moof = kind_at(&header, b"moof") - 4;
    let both =
        [&boxed(b"abcd", &[]), &header[..before_moof], &boxed(b"emsg", &[1; 40]), &header[before_moof..]]
            .concat();
    assert_eq!(whole(parse_fragment_header(&both)), (fragment(), both.len()));

    let room = MAX_FRAGMENT_HEADER_BYTES - header.len();
    let fits = [boxed(b"free", &vec![0; room - 8]), header.to_vec()].concat();
    assert_eq!(whole(parse_fragment_header(&fits)), (fragment(), MAX_FRAGMENT_HEADER_BYTES));
    let over = [boxed(b"free", &vec![0; room - 7]), header.to_vec()].concat();
    refused(parse_fragment_header(&over));
    // Its header alone tells it.
    refused(parse_fragment_header(
        &[&(MAX_FRAGMENT_HEADER_BYTES as u32).to_be_bytes()[..], b"free"].concat(),
    ));
}

#[test]
fn what_stands_in_the_wrong_place_is_refused() {
    let header = write_fragment_header(&fragment());
    let moof = kind_at(&header, b"moof") - 4;
    let mdat = kind_at(&header, b"mdat") - 4;
    let init = write_init(&init_of(&H265_MAIN));
    let cases: [(&str, &[u8], usize); 6] = [
        ("moof without prft", &header[moof..], 0),
        ("no fragment where one should be", &header[mdat..], 0),
        ("no fragment where one should be", &init, 0),
        ("a second prft before moof", &[&header[..moof], &header[..]].concat(), moof),
        ("no mdat behind moof", &[&header[..mdat], &boxed(b"free", &[])].concat(), mdat),
        ("a box without length", &[0; 4096], 0),
    ];
    for (what, bytes, offset) in cases {
        assert_eq!(refused(parse_fragment_header(bytes)), Mp4Error { what, offset });
    }
    let ftyp = boxed(b"ftyp", b"iso6\0\0\0\0iso6");
    for (what, bytes, offset) in [
        ("no ftyp at the start", &init[kind_at(&init, b"uuid") - 4..], 0),
        ("media before moov", &[ftyp.clone(), boxed(b"mdat", &[0; 50])].concat(), 20),
        ("a file of another brand", &boxed(b"ftyp", b"qt  \0\0\0\0qt  "), 8),
        ("no box", &[0x47, 0x40, 0, 0x10, 0, 0, 0xb0, 0x0d], 0),
        ("a file without fragments", &[ftyp.clone(), moov_without(&init, b"mvex")].concat(), 28),
        ("no track", &[ftyp, moov_without(&init, b"trak")].concat(), 28),
    ] {
        assert_eq!(refused(parse_init(bytes)), Mp4Error { what, offset });
    }
    assert_eq!(refused(parse_init(&[0xff; 100])).what, "no box");
    assert!(matches!(parse_init(&[]), Ok(Parsed::Incomplete { bytes_wanted: 8 })), "a file of no bytes");
}

/// `moov` of an init segment with one of its boxes renamed, which is as if it were not there.
fn moov_without(init: &[u8], kind: &[u8; 4]) -> Vec<u8> {
    let moov = &init[kind_at(init, b"moov") - 4..];
    patched(moov, kind_at(moov, kind), b"free")
}

#[test]
fn nested_boxes_take_no_stack() {
    let mut nested = Vec::new();
    while nested.len() < 60_000 {
        nested.extend(u32::to_be_bytes(60_000 - nested.len() as u32));
        nested.extend(b"moov");
    }
    refused(parse_init(&[boxed(b"ftyp", b"iso6\0\0\0\0iso6"), nested].concat()));
}

#[test]
fn an_init_segment_has_a_largest_size() {
    let ftyp = boxed(b"ftyp", b"iso6\0\0\0\0iso6");
    refused(parse_init(&[&ftyp[..], &(MAX_INIT_BYTES as u32).to_be_bytes(), b"moov"].concat()));
    let filled = [ftyp.clone(), boxed(b"free", &vec![0; MAX_INIT_BYTES - ftyp.len() - 8])].concat();
    assert_eq!(refused(parse_init(&filled)).what, "an init segment that is too large");
}

#[test]
fn parameter_sets_are_needed() {
    let none = InitSegment { parameter_sets: ParameterSets::new(Codec::H265), ..init_of(&H265_MAIN) };
    assert_eq!(refused(parse_init(&write_init(&none))).what, "parameter sets that cannot be used");
}

#[test]
fn as_many_parameter_sets_as_are_kept_fit() {
    let mut init = init_of(&H264_HIGH);
    // PPS ids as ue(v): 1 to 200 in up to 15 bits.
    for id in 1..=200_u32 {
        let bits = (id + 1) << (16 - (2 * (id + 1).ilog2() + 1));
        let mut pps = vec![0x68, (bits >> 8) as u8, bits as u8];
        pps.resize(150, 0xff);
        assert!(init.parameter_sets.handle_nal(&Nal::from_bytes(pps.into())));
    }
    let bytes = write_init(&init);
    assert_eq!(whole(parse_init(&bytes)).0, init);
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let bytes = 0..=(MAX_FRAGMENT_BYTES as u32 / 300);
    (bytes, any::<u32>(), any::<i32>(), any::<bool>()).prop_map(
        |(bytes, duration_90k, composition_offset_90k, sync)| Sample {
            bytes,
            duration_90k,
            composition_offset_90k,
            sync,
        },
    )
}

proptest! {
    #[test]
    fn fragment_headers_come_back(
        sequence_number in any::<u32>(),
        base_decode_90k in 0..=MAX_BASE_DECODE_90K,
        unix_ms in MIN_UNIX_MS..=MAX_UNIX_MS,
        samples in proptest::collection::vec(any_sample(), 1..300),
    ) {
        let header = FragmentHeader { sequence_number, base_decode_90k, unix_ms, samples };
        let bytes = write_fragment_header(&header);
        prop_assert_eq!(whole(parse_fragment_header(&bytes)), (header, bytes.len()));
    }

    #[test]
    fn creation_and_size_come_back(
        stream in 0..STREAMS.len(),
        creation_unix_ms in any::<i64>(),
        width in any::<u16>(),
        height in any::<u16>(),
    ) {
        let init = InitSegment { creation_unix_ms, width, height, ..init_of(STREAMS[stream]) };
        prop_assert_eq!(whole(parse_init(&write_init(&init))).0, init);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check_bound(parse_init(&bytes), bytes.len(), MAX_INIT_BYTES);
        check_bound(parse_fragment_header(&bytes), bytes.len(), MAX_FRAGMENT_HEADER_BYTES);
    }
}
