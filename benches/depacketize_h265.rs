//! H.265 packets of a camera → NAL units (`RtpPacket::parse` and `codec::Depacketizer`).

mod depacketize;
mod feed;

use criterion::{Criterion, criterion_group, criterion_main};
use lanecast_protocol::codec::Codec;

fn h265(c: &mut Criterion) {
    depacketize::bench(c, "depacketize_h265", Codec::H265);
}

criterion_group! { name = benches; config = feed::settings(); targets = h265 }
criterion_main!(benches);
