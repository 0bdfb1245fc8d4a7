//! H.264 packets of a camera → NAL units (`RtpPacket::parse` and `codec::Depacketizer`).

mod depacketize;
mod feed;

use criterion::{Criterion, criterion_group, criterion_main};
use lanecast_protocol::codec::Codec;

fn h264(c: &mut Criterion) {
    depacketize::bench(c, "depacketize_h264", Codec::H264);
}

criterion_group! { name = benches; config = feed::settings(); targets = h264 }
criterion_main!(benches);
