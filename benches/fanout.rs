//! Who gets a run (`Fanout::transmit`), and the whole stream with it: a camera's packets in, runs out.
//!
//! The element is one viewer's send of one run (`fanout`), or one packet of the camera (`stream`). Sends are only
//! counted: what the kernel takes for them is `perf`'s to measure.

mod feed;

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use feed::Slicing;
use lanecast_packet::Run;
use lanecast_protocol::codec::{Codec, Nal, ParameterSets};
use lanecast_protocol::rtp::{Ordered, RtpPacket};
use lanecast_relay::fanout::{Egress, Fanout, Transmit, ViewerId};
use lanecast_relay::gop::GopCache;
use lanecast_relay::source::Lane;
use lanecast_relay::stream::{Stream, StreamSettings};

/// Looks at each viewer, as a driver must; the number of sends.
fn sends(transmit: &Transmit<'_>) -> u64 {
    match transmit {
        Transmit::Shared { viewers, .. } => {
            viewers.iter().for_each(|viewer| {
                black_box(viewer);
            });
            viewers.len() as u64
        }
        Transmit::Own { .. } => 1,
    }
}

/// Viewers of one stream, and a picture that comes again and again.
struct Scene {
    now: Instant,
    cache: GopCache,
    fanout: Fanout,
    picture: Vec<Run>,
}

impl Scene {
    /// `in_step` viewers that get every run, and `waiting` ones that will get none before the next key picture.
    fn new(in_step: u32, waiting: u32) -> Self {
        let mut runs = feed::runs(Codec::H264, Slicing::Whole, feed::PACKET_BYTES);
        let (cache, fanout) = (GopCache::new(feed::GOP_CACHE_BYTES), Fanout::default());
        let mut scene = Self { now: feed::start(), cache, fanout, picture: runs.swap_remove(0) };
        scene.join(0..in_step);
        // The key picture is more than one turn of pacing lets out.
        while scene.fanout.poll_timeout(&scene.cache).is_some() || scene.cache.end() == 0 {
            scene.turn();
            scene.picture.clear();
        }
        scene.picture = runs.swap_remove(1);
        scene.join(in_step..in_step + waiting);
        assert_eq!(scene.turn(), u64::from(in_step), "all viewers, one run");
        scene
    }

    fn join(&mut self, viewers: std::ops::Range<u32>) {
        viewers.for_each(|viewer| self.fanout.join(&self.cache, ViewerId(viewer), Egress::Datagrams, false));
    }

    fn turn(&mut self) -> u64 {
        self.now += feed::PICTURE_TIME;
        self.picture.iter().for_each(|run| self.cache.push(run.clone()));
        let mut sent = 0;
        self.fanout.transmit(self.now, &self.cache, |transmit| sent += sends(&transmit));
        sent
    }
}

fn fanout(c: &mut Criterion) {
    let mut group = c.benchmark_group("fanout");
    for (in_step, waiting) in [(10, 0), (100, 0), (1000, 0), (1000, 100), (5000, 0)] {
        let mut scene = Scene::new(in_step, waiting);
        let name = match waiting {
            0 => format!("{in_step} viewers"),
            _ => format!("{in_step} viewers and {waiting} waiting"),
        };
        group.throughput(Throughput::Elements(in_step.into()));
        group.bench_function(name, |b| b.iter(|| scene.turn()));
    }
}

/// A camera's pictures, each at its time.
struct Camera {
    now: Instant,
    rtp_timestamp: u32,
}

impl Camera {
    /// `datagrams` as the packets of the next picture, parsed and in order.
    fn picture(&mut self, datagrams: &[Bytes]) -> (Instant, Vec<Ordered>) {
        self.now += feed::PICTURE_TIME;
        self.rtp_timestamp = self.rtp_timestamp.wrapping_add(feed::PICTURE_TIME_90K);
        let packets = datagrams.iter().map(|datagram| {
            let Ok(packet) = RtpPacket::parse(datagram.clone()) else { panic!("the feed is well formed") };
            let packet = RtpPacket { rtp_timestamp: self.rtp_timestamp, ..packet };
            Ordered { packet, lost_before: 0 }
        });
        (self.now, packets.collect())
    }
}

/// One picture's packets through the stream; sends to viewers.
fn relay(stream: &mut Stream, now: Instant, packets: Vec<Ordered>) -> u64 {
    packets.into_iter().for_each(|packet| stream.handle_packet(now, Lane::A, packet));
    let mut sent = 0;
    stream.transmit(now, |transmit| sent += sends(&transmit));
    sent
}

/// A stream with viewers in step.
fn started(camera: &mut Camera, codec: Codec, key_picture: &[Bytes], viewers: u32) -> Stream {
    let settings = StreamSettings {
        max_udp_payload: feed::PACKET_BYTES,
        gop_cache_bytes: feed::GOP_CACHE_BYTES,
        seed: 1 << 32,
    };
    let mut stream = Stream::new(settings);
    let mut sets = ParameterSets::new(codec);
    feed::parameter_sets(codec).into_iter().for_each(|set| assert!(sets.handle_nal(&Nal::from_bytes(set))));
    stream.handle_playing(Lane::A, codec, 90_000, sets);
    (0..viewers).for_each(|viewer| stream.join(ViewerId(viewer), Egress::Datagrams, true));
    let (now, packets) = camera.picture(key_picture);
    relay(&mut stream, now, packets);
    // The key picture is more than one turn of pacing lets out.
    while let Some(at) = stream.poll_timeout() {
        stream.transmit(at, |transmit| {
            black_box(transmit);
        });
    }
    stream
}

fn stream(c: &mut Criterion) {
    let mut group = c.benchmark_group("stream");
    for (name, codec) in [("H.264", Codec::H264), ("H.265", Codec::H265)] {
        let pictures = feed::camera_packets(codec, Slicing::Whole);
        group.throughput(feed::throughput_of_packets(&pictures[1]));
        for viewers in [1, 1000] {
            let mut camera = Camera { now: feed::start(), rtp_timestamp: 0 };
            let mut stream = started(&mut camera, codec, &pictures[0], viewers);
            group.bench_function(format!("a picture of {name} to {viewers} viewers"), |b| {
                b.iter_batched(
                    || camera.picture(&pictures[1]),
                    |(now, packets)| assert!(relay(&mut stream, now, packets) >= u64::from(viewers)),
                    BatchSize::LargeInput,
                );
            });
        }
    }
}

criterion_group! { name = benches; config = feed::settings(); targets = fanout, stream }
criterion_main!(benches);
