//! NAL units → runs of packets of 1200 bytes (`relay::packetizer::Packetizer`), by how the camera sent them.
//!
//! Runs go to a GOP cache as in a stream, so that the memory they are written to is as cold as there.

mod feed;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use feed::{Picture, Slicing};
use lanecast_protocol::codec::{Codec, Nal};
use lanecast_relay::gop::GopCache;
use lanecast_relay::packetizer::Packetizer;

const FRAGMENT_BYTES: usize = 1400;

/// As a depacketizer gives it: the header, then the body of each fragment.
fn in_fragments(nal: &Nal) -> Nal {
    let whole = nal.to_contiguous();
    let body = whole.slice(1..);
    let slice = |start: usize| body.slice(start..body.len().min(start + FRAGMENT_BYTES));
    let header: Bytes = whole.slice(..1);
    Nal {
        slices: std::iter::once(header).chain((0..body.len()).step_by(FRAGMENT_BYTES).map(slice)).collect(),
    }
}

fn packetize(packetizer: &mut Packetizer, cache: &mut GopCache, pictures: &[Picture]) {
    for (picture, index) in pictures.iter().zip(0..) {
        packetizer.begin_access_unit(index * feed::PICTURE_TIME_90K, picture.random_access);
        picture.nals.iter().for_each(|nal| packetizer.nal(nal));
        packetizer.end_access_unit();
        while let Some(run) = packetizer.poll_run() {
            cache.push(run);
        }
    }
}

fn ropes(c: &mut Criterion) {
    let whole = feed::pictures(Codec::H264, Slicing::Whole);
    let fragments: Vec<_> = whole
        .iter()
        .map(|picture| Picture {
            random_access: picture.random_access,
            nals: picture.nals.iter().map(in_fragments).collect(),
        })
        .collect();
    let single = feed::pictures(Codec::H264, Slicing::Packets);
    let mut group = c.benchmark_group("packetize");
    for (name, slicing, pictures) in [
        ("NAL units in one piece", Slicing::Whole, whole),
        ("NAL units in fragments of 1400 bytes", Slicing::Whole, fragments),
        ("NAL units of 1388 bytes", Slicing::Packets, single),
    ] {
        group.throughput(feed::throughput_of_runs(&feed::runs(Codec::H264, slicing, feed::PACKET_BYTES)));
        let mut packetizer = feed::packetizer(Codec::H264, feed::PACKET_BYTES);
        let mut cache = GopCache::new(feed::GOP_CACHE_BYTES);
        group.bench_function(name, |b| b.iter(|| packetize(&mut packetizer, &mut cache, &pictures)));
    }
}

criterion_group! { name = benches; config = feed::settings(); targets = ropes }
criterion_main!(benches);
