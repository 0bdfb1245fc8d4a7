//! Muxing: the header of a fragment of 50 samples written and read back (`mp4::{write,parse}_fragment_header`), and an init
//! segment, which a file has once. An element is an access unit.

mod feed;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lanecast_protocol::codec::{Codec, Nal, ParameterSets};
use lanecast_protocol::mp4::{
    FragmentHeader, InitSegment, Parsed, Sample, parse_fragment_header, parse_init, write_fragment_header,
    write_init,
};

/// Two seconds, as the camera of `feed` sends them.
const SAMPLES: u32 = 50;

fn header() -> FragmentHeader {
    let sample = |at| Sample {
        bytes: if at == 0 { 100_000 } else { 18_367 },
        duration_90k: feed::PICTURE_TIME_90K,
        composition_offset_90k: 0,
        sync: at == 0,
    };
    FragmentHeader {
        sequence_number: 7,
        base_decode_90k: 6 * u64::from(SAMPLES * feed::PICTURE_TIME_90K),
        unix_ms: 1_763_852_835_123,
        samples: (0..SAMPLES).map(sample).collect(),
    }
}

fn init() -> InitSegment {
    let mut parameter_sets = ParameterSets::new(Codec::H265);
    for nal in feed::parameter_sets(Codec::H265) {
        parameter_sets.handle_nal(&Nal::from_bytes(nal));
    }
    InitSegment { parameter_sets, width: 1920, height: 1080, creation_unix_ms: 1_763_852_821_123 }
}

fn fragment(c: &mut Criterion) {
    let header = header();
    let written = write_fragment_header(&header);
    let mut group = c.benchmark_group("mp4_fragment");
    group.throughput(Throughput::Elements(u64::from(SAMPLES)));
    group.bench_function("written", |b| b.iter(|| write_fragment_header(black_box(&header))));
    group.bench_function("read", |b| b.iter(|| whole(parse_fragment_header(black_box(&written)).ok())));
    group.finish();

    let init = init();
    let written: Bytes = write_init(&init);
    let mut group = c.benchmark_group("mp4_init");
    group.bench_function("written", |b| b.iter(|| write_init(black_box(&init))));
    group.bench_function("read", |b| b.iter(|| whole(parse_init(black_box(&written)).ok())));
}

fn whole<T>(parsed: Option<Parsed<T>>) -> T {
    match parsed {
        Some(Parsed::Whole { part, .. }) => part,
        _ => panic!("it was written here"),
    }
}

criterion_group! { name = benches; config = feed::settings(); targets = fragment }
criterion_main!(benches);
