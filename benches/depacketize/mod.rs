//! One codec's packets → NAL units: pictures of one NAL unit in fragments, and pictures of single NAL units.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion};
use lanecast_protocol::codec::{Codec, Depacketized, Depacketizer};
use lanecast_protocol::rtp::{Ordered, RtpPacket};

use crate::feed::{self, Slicing};

/// Both ways to cut a picture, as one group of benches.
pub fn bench(c: &mut Criterion, name: &str, codec: Codec) {
    let mut group = c.benchmark_group(name);
    for (cut, slicing) in [("fragments", Slicing::Whole), ("single NAL units", Slicing::Packets)] {
        let packets = feed::camera_packets(codec, slicing).concat();
        group.throughput(feed::throughput_of_packets(&packets));
        let mut depacketizer = Depacketizer::new(codec);
        group.bench_function(cut, |b| {
            b.iter_batched(
                || packets.clone(),
                |packets| depacketize(&mut depacketizer, packets),
                BatchSize::LargeInput,
            );
        });
        let statistics = depacketizer.statistics();
        assert_eq!((statistics.malformed_packets, statistics.broken_nals), (0, 0));
    }
}

fn depacketize(depacketizer: &mut Depacketizer, packets: Vec<Bytes>) {
    for datagram in packets {
        let Ok(packet) = RtpPacket::parse(datagram) else { panic!("the feed is well formed") };
        depacketizer.handle_packet(Ordered { packet, lost_before: 0 });
        while let Some(output) = depacketizer.poll_output() {
            if let Depacketized::Nal { nal, .. } = output {
                drop(black_box(nal));
            }
        }
    }
}
