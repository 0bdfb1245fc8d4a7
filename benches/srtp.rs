//! What a viewer's own cipher costs (`srtp::RtpSealer`): a shared packet of 1200 bytes is copied behind a new header into
//! a slot of a send's scratch, and sealed there. And control packets (`srtp::{RtcpSealer, RtcpOpener}`).
//!
//! A viewer alone has its key at hand; of 2000 viewers' keys, 1.1 MB, the next is in no near cache. The egress seals
//! packets of a run one after another, so there are turns of one packet (the worst) and of ten.

mod feed;

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lanecast_webrtc::srtp::{MasterKey, RtcpOpener, RtcpSealer, RtpSealer, SrtpKeys, SrtpProfile, session};

const PROFILES: [(&str, SrtpProfile); 2] =
    [("GCM", SrtpProfile::AeadAes128Gcm), ("CM SHA1", SrtpProfile::Aes128CmHmacSha1_80)];
/// Packets of an iteration: a segmented send takes 64 KiB at most.
const PACKETS: usize = 50;
/// An RTP header, and an extension with the transport-wide sequence number.
const HEADER_BYTES: usize = 20;
const PACKET_BYTES: usize = feed::PACKET_BYTES as usize;
const SSRC: u32 = 0x1234_5678;

fn keys(profile: SrtpProfile, viewer: usize) -> SrtpKeys {
    let mut key = [0x55; 16];
    key[..8].copy_from_slice(&viewer.to_be_bytes());
    let master = MasterKey { key, salt: (0..profile.salt_bytes() as u8).collect() };
    SrtpKeys { profile, local: master.clone(), remote: master }
}

/// Viewers that all get the same packets, and the scratch of the shard.
struct Scene {
    /// Each apart from the others, as viewers are.
    #[expect(clippy::vec_box, reason = "a vector would put one behind another")]
    viewers: Vec<Box<RtpSealer>>,
    /// Packets in a row under one key.
    turn: usize,
    payload: Vec<u8>,
    scratch: Vec<u8>,
    index: u64,
}

impl Scene {
    fn new(profile: SrtpProfile, viewers: usize, turn: usize) -> Self {
        let sealers = (0..viewers).map(|viewer| Box::new(session(&keys(profile, viewer)).0));
        Self {
            viewers: sealers.collect(),
            turn,
            payload: (0..PACKETS * (PACKET_BYTES - HEADER_BYTES)).map(|at| at as u8).collect(),
            scratch: vec![0; PACKETS * (PACKET_BYTES + profile.tag_bytes())],
            index: 0,
        }
    }

    fn seal(&mut self) {
        let slot_bytes = self.scratch.len() / PACKETS;
        let slots = self.scratch.chunks_exact_mut(slot_bytes);
        for (slot, payload) in slots.zip(self.payload.chunks_exact(PACKET_BYTES - HEADER_BYTES)) {
            // No neighbour in memory is next.
            let viewer = (self.index as usize / self.turn).wrapping_mul(773) % self.viewers.len();
            slot[..HEADER_BYTES].copy_from_slice(&header(self.index));
            slot[HEADER_BYTES..PACKET_BYTES].copy_from_slice(payload);
            self.viewers[viewer].seal(slot, HEADER_BYTES, self.index);
            self.index += 1;
        }
        black_box(&self.scratch);
    }
}

fn header(index: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..2].copy_from_slice(&[0x90, 96]);
    header[2..4].copy_from_slice(&(index as u16).to_be_bytes());
    header[8..12].copy_from_slice(&SSRC.to_be_bytes());
    header[12..17].copy_from_slice(&[0xBE, 0xDE, 0, 1, 0x31]);
    header[17..19].copy_from_slice(&(index as u16).to_be_bytes());
    header
}

fn seal(c: &mut Criterion) {
    let mut group = c.benchmark_group("srtp");
    group.throughput(Throughput::Elements(PACKETS as u64));
    for (name, profile) in PROFILES {
        for (viewers, turn) in [(1, 1), (2000, 1), (2000, 10)] {
            let mut scene = Scene::new(profile, viewers, turn);
            let name = match viewers {
                1 => format!("{name}, 1 key"),
                _ => format!("{name}, {viewers} keys in turns of {turn}"),
            };
            group.bench_function(name, |b| b.iter(|| scene.seal()));
        }
    }
}

/// Transport-wide feedback of a usual size.
const FEEDBACK_BYTES: usize = 100;

fn sealed(sealer: &mut RtcpSealer, out: &mut BytesMut) {
    out.clear();
    sealer.seal(&[0x80; FEEDBACK_BYTES], out);
}

fn rtcp(c: &mut Criterion) {
    let mut group = c.benchmark_group("srtcp");
    group.throughput(Throughput::Elements(1));
    for (name, profile) in PROFILES {
        let (_, mut sealer, mut opener): (_, _, RtcpOpener) = session(&keys(profile, 0));
        let mut out = BytesMut::with_capacity(feed::PACKET_BYTES.into());
        group.bench_function(format!("{name}, seal"), |b| b.iter(|| sealed(&mut sealer, &mut out)));
        group.bench_function(format!("{name}, seal and open"), |b| {
            b.iter(|| {
                sealed(&mut sealer, &mut out);
                assert!(opener.open(&mut out).is_ok());
            });
        });
        group.bench_function(format!("{name}, drop a forgery"), |b| {
            let mut forgery = [0xFF; FEEDBACK_BYTES];
            b.iter(|| assert!(opener.open(&mut forgery).is_err()));
        });
    }
}

criterion_group! { name = benches; config = feed::settings(); targets = seal, rtcp }
criterion_main!(benches);
