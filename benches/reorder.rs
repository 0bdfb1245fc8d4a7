//! Putting packets in order (`rtp::ReorderBuffer`), as the RTSP client does for UDP.

mod feed;

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use feed::Slicing;
use lanecast_protocol::codec::Codec;
use lanecast_protocol::rtp::{ReorderBuffer, RtpPacket};

const DEPTH: usize = 128;
const HOLD: Duration = Duration::from_millis(100);
/// A packet that is overtaken is so by this many.
const OVERTAKEN_BY: usize = 3;

/// Packets numbered on from `first`, every hundredth overtaken if `reordered`.
fn packets(datagrams: &[Bytes], first: u16, reordered: bool) -> Vec<RtpPacket> {
    let number = |(datagram, seq): (&Bytes, u16)| {
        let Ok(packet) = RtpPacket::parse(datagram.clone()) else { panic!("the feed is well formed") };
        RtpPacket { seq: first.wrapping_add(seq), ..packet }
    };
    let mut packets: Vec<_> = datagrams.iter().zip(0..).map(number).collect();
    if reordered {
        packets.chunks_exact_mut(100).for_each(|hundred| hundred[50..=50 + OVERTAKEN_BY].rotate_left(1));
    }
    packets
}

fn reorder(c: &mut Criterion) {
    let datagrams = feed::camera_packets(Codec::H264, Slicing::Whole).concat();
    let mut group = c.benchmark_group("reorder");
    group.throughput(feed::throughput_of_packets(&datagrams));
    for (name, reordered) in [("in order", false), ("1 in 100 overtaken", true)] {
        let now = feed::start();
        let (mut buffer, mut first) = (ReorderBuffer::new(DEPTH, HOLD), 0u16);
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let packets = packets(&datagrams, first, reordered);
                    first = first.wrapping_add(packets.len() as u16);
                    packets
                },
                |packets| {
                    let mut given = 0;
                    for packet in packets {
                        buffer.handle_packet(now, packet);
                        while let Some(ordered) = buffer.poll_packet(now) {
                            drop(black_box(ordered));
                            given += 1;
                        }
                    }
                    assert_eq!(given, datagrams.len());
                },
                BatchSize::LargeInput,
            );
        });
        assert_eq!(buffer.statistics(), Default::default());
    }
}

criterion_group! { name = benches; config = feed::settings(); targets = reorder }
criterion_main!(benches);
