//! A join from the GOP cache: the two seconds in it, copied under squeezed timestamps (`Fanout::join`,
//! `Fanout::transmit`).

mod feed;

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use feed::Slicing;
use lanecast_protocol::codec::Codec;
use lanecast_relay::fanout::{Egress, Fanout, Transmit, ViewerId};
use lanecast_relay::gop::GopCache;

/// One stream's viewers and the time that pacing passes.
struct Scene {
    now: Instant,
    cache: GopCache,
    fanout: Fanout,
}

impl Scene {
    /// All that the cache holds has long been sent.
    fn new() -> Self {
        let runs = feed::runs(Codec::H264, Slicing::Whole, feed::PACKET_BYTES);
        let mut scene = Self { now: feed::start(), cache: feed::cache(&runs), fanout: Fanout::default() };
        scene.settle();
        scene
    }

    fn join(&mut self, joins: u32) {
        for viewer in 0..joins {
            self.fanout.join(&self.cache, ViewerId(viewer), Egress::Datagrams, true);
        }
    }

    fn leave(&mut self, joins: u32) {
        (0..joins).for_each(|viewer| self.fanout.leave(ViewerId(viewer)));
    }

    /// All turns that pacing asks for; packets that they sent.
    fn settle(&mut self) -> u64 {
        let mut packets = 0;
        loop {
            self.fanout.transmit(self.now, &self.cache, |transmit| {
                if let Transmit::Own { run, .. } = black_box(transmit) {
                    packets += u64::from(run.packets());
                }
            });
            let Some(at) = self.fanout.poll_timeout(&self.cache) else { return packets };
            self.now = self.now.max(at);
        }
    }
}

fn join(c: &mut Criterion) {
    let runs = feed::runs(Codec::H264, Slicing::Whole, feed::PACKET_BYTES);
    let packets: u64 = runs.iter().flatten().map(|run| u64::from(run.packets())).sum();
    let bytes: u64 = runs.iter().flatten().map(|run| run.bytes().len() as u64).sum();
    let mut scene = Scene::new();
    let mut group = c.benchmark_group("gop_join");
    for joins in [1, 100] {
        group.throughput(Throughput::ElementsAndBytes {
            elements: packets * u64::from(joins),
            bytes: bytes * u64::from(joins),
        });
        group.bench_function(format!("{joins} at once"), |b| {
            b.iter(|| {
                scene.join(joins);
                assert_eq!(scene.settle(), packets * u64::from(joins));
                scene.leave(joins);
            });
        });
    }
}

criterion_group! { name = benches; config = feed::settings(); targets = join }
criterion_main!(benches);
