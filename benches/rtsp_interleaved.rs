//! Splitting an RTSP connection into interleaved frames (`rtsp::Frames`), by the size of a receive.

mod feed;

use std::hint::black_box;

use bytes::{BufMut, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use feed::Slicing;
use lanecast_protocol::codec::Codec;
use lanecast_protocol::rtsp::{Frame, Frames};

const CONNECTION_BYTES: usize = 256 << 10;

/// Whole frames only.
fn connection() -> (BytesMut, u64) {
    let mut out = BytesMut::with_capacity(CONNECTION_BYTES);
    let mut frames = 0;
    for packet in feed::camera_packets(Codec::H264, Slicing::Whole).iter().flatten() {
        if out.len() + 4 + packet.len() > CONNECTION_BYTES {
            break;
        }
        out.put_slice(b"$\0");
        out.put_u16(packet.len() as u16);
        out.put_slice(packet);
        frames += 1;
    }
    (out, frames)
}

/// What the kernel's copies into one receive buffer look like: each adjoins the one before.
fn receives(connection: &BytesMut, receive_bytes: usize) -> Vec<BytesMut> {
    let mut rest = connection.clone();
    let mut out = Vec::new();
    while !rest.is_empty() {
        out.push(rest.split_to(receive_bytes.min(rest.len())));
    }
    out
}

fn interleaved(c: &mut Criterion) {
    let (connection, frames) = connection();
    let mut group = c.benchmark_group("rtsp_interleaved");
    group.throughput(Throughput::ElementsAndBytes { elements: frames, bytes: connection.len() as u64 });
    for receive_bytes in [1448, 16 << 10, 64 << 10] {
        group.bench_function(format!("receives of {receive_bytes} bytes"), |b| {
            b.iter_batched(
                || receives(&connection, receive_bytes),
                |receives| {
                    let (mut splitter, mut received, mut split) = (Frames::default(), BytesMut::new(), 0);
                    for receive in receives {
                        // No copy: they are neighbours in one allocation.
                        received.unsplit(receive);
                        while let Ok(Some(frame)) = splitter.next_frame(&mut received) {
                            let Frame::Interleaved { payload, .. } = black_box(frame) else { continue };
                            split += u64::from(!payload.is_empty());
                        }
                    }
                    assert_eq!(split, frames);
                    received
                },
                BatchSize::LargeInput,
            );
        });
    }
}

criterion_group! { name = benches; config = feed::settings(); targets = interleaved }
criterion_main!(benches);
