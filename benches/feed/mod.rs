//! What the stations are fed: two seconds of a camera of 4 Mb/s and 25 pictures a second, one GOP.
//!
//! Made by the stream's own packetizer, outside of what is timed. The allocator is the program's.

#![allow(dead_code, reason = "no bench needs all of it")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use lanecast_packet::{Run, WriterConfig};
use lanecast_protocol::codec::{Codec, Nal, NalClass};
use lanecast_relay::gop::GopCache;
use lanecast_relay::packetizer::Packetizer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Between two pictures.
pub const PICTURE_TIME: Duration = Duration::from_millis(40);
/// The same on the RTP clock.
pub const PICTURE_TIME_90K: u32 = 3600;
/// A camera's RTP packet with its header.
pub const CAMERA_PACKET_BYTES: u16 = 1400;
/// Our RTP packet with its header.
pub const PACKET_BYTES: u16 = 1200;
/// Two GOPs: what a stream of this kind keeps.
pub const GOP_CACHE_BYTES: usize = 2 << 20;

const PICTURES: usize = 50;
const KEY_PICTURE_BYTES: usize = 100_000;
/// What is left of a million bytes for each of the others.
const PICTURE_BYTES: usize = (1_000_000 - KEY_PICTURE_BYTES) / (PICTURES - 1);
/// A slice that fits into a camera's packet.
const SLICE_BYTES: usize = CAMERA_PACKET_BYTES as usize - 12;

const H264_SETS: [&[u8]; 2] = [
    b"\x67\x64\x00\x28\xac\xd9\x40\x78\x02\x27\xe5\xc0\x44\x00\x00\x03\x00\x04\x00\x00\x03\x00\xc8\x3c\x60\xc6\x58",
    b"\x68\xeb\xc0\x84\xb2\x2c",
];
const H265_SETS: [&[u8]; 3] = [
    b"\x40\x01\x0c\x01\xff\xff\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x1e\x92\x80\x90",
    b"\x42\x01\x01\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x1e\xa0\x17\x20\x69\xc9\x79\x64\xa9\x24\xca\xf0\x16\x80\x80\x00\x00\x03\x00\x80\x00\x00\x05\x04",
    b"\x44\x01\xc1\x72\xb4\x62\x40",
];

/// How a camera's encoder cuts a picture.
#[derive(Clone, Copy, Debug)]
pub enum Slicing {
    /// One NAL unit: fragments of a packet's size.
    Whole,
    /// NAL units that fit into a packet each.
    Packets,
}

/// One picture.
#[derive(Debug)]
pub struct Picture {
    /// A decoder can start here.
    pub random_access: bool,
    /// Its slices.
    pub nals: Vec<Nal>,
}

/// The parameter sets of a codec.
pub fn parameter_sets(codec: Codec) -> Vec<Bytes> {
    let sets: &[&'static [u8]] = match codec {
        Codec::H264 => &H264_SETS,
        Codec::H265 => &H265_SETS,
    };
    sets.iter().map(|set| Bytes::from_static(set)).collect()
}

/// The pictures of two seconds; the first is the key picture.
pub fn pictures(codec: Codec, slicing: Slicing) -> Vec<Picture> {
    (0..PICTURES).map(|index| picture(codec, slicing, index == 0)).collect()
}

fn picture(codec: Codec, slicing: Slicing, random_access: bool) -> Picture {
    let bytes = if random_access { KEY_PICTURE_BYTES } else { PICTURE_BYTES };
    let slice_bytes = match slicing {
        Slicing::Whole => bytes,
        Slicing::Packets => SLICE_BYTES,
    };
    let slices = (0..bytes).step_by(slice_bytes).map(|start| (start == 0, slice_bytes.min(bytes - start)));
    let nals = slices.map(|(first, bytes)| nal(codec, random_access, first, bytes)).collect();
    Picture { random_access, nals }
}

fn nal(codec: Codec, random_access: bool, first_slice: bool, bytes: usize) -> Nal {
    let header: &[u8] = match (codec, random_access) {
        (Codec::H264, true) => &[0x65],
        (Codec::H264, false) => &[0x41],
        (Codec::H265, true) => &[0x26, 0x01],
        (Codec::H265, false) => &[0x02, 0x01],
    };
    let mut out = header.to_vec();
    // The bit behind the header says whether the slice is a picture's first.
    out.push(if first_slice { 0x88 } else { 0x48 });
    // No zeros, so no start codes.
    out.extend((out.len()..bytes).map(|at| (at * 31 % 255) as u8 + 1));
    let nal = Nal::from_bytes(out.into());
    let class = if random_access { NalClass::RandomAccess } else { NalClass::Picture };
    assert_eq!((nal.class(codec), nal.is_first_slice(codec)), (class, first_slice));
    nal
}

/// A packetizer of packets of at most `packet_bytes`.
pub fn packetizer(codec: Codec, packet_bytes: u16) -> Packetizer {
    Packetizer::new(codec, packet_bytes, WriterConfig { ssrc: 1, payload_type: 96, first_packet: 0 })
}

/// Each picture's runs, parameter sets before the key picture.
pub fn runs(codec: Codec, slicing: Slicing, packet_bytes: u16) -> Vec<Vec<Run>> {
    let sets = parameter_sets(codec);
    let mut packetizer = packetizer(codec, packet_bytes);
    let pictures = pictures(codec, slicing);
    let runs = pictures.iter().zip(0..).map(|(picture, index)| {
        packetizer.begin_access_unit(index * PICTURE_TIME_90K, picture.random_access);
        if picture.random_access {
            packetizer.parameter_sets(|| sets.iter());
        }
        picture.nals.iter().for_each(|nal| packetizer.nal(nal));
        packetizer.end_access_unit();
        std::iter::from_fn(|| packetizer.poll_run()).collect()
    });
    runs.collect()
}

/// Each picture's RTP packets as the camera sends them.
pub fn camera_packets(codec: Codec, slicing: Slicing) -> Vec<Vec<Bytes>> {
    let runs = runs(codec, slicing, CAMERA_PACKET_BYTES);
    let packets = |runs: &Vec<Run>| runs.iter().flat_map(Run::iter).map(|packet| packet.bytes).collect();
    runs.iter().map(packets).collect()
}

/// A cache that holds the two seconds.
pub fn cache(runs: &[Vec<Run>]) -> GopCache {
    let mut cache = GopCache::new(GOP_CACHE_BYTES);
    runs.iter().flatten().for_each(|run| cache.push(run.clone()));
    cache
}

/// Packets a second and bytes a second of these runs.
pub fn throughput_of_runs(runs: &[Vec<Run>]) -> Throughput {
    let runs = || runs.iter().flatten();
    Throughput::ElementsAndBytes {
        elements: runs().map(|run| u64::from(run.packets())).sum(),
        bytes: runs().map(|run| run.bytes().len() as u64).sum(),
    }
}

/// Packets a second and bytes a second of these packets.
pub fn throughput_of_packets(packets: &[Bytes]) -> Throughput {
    Throughput::ElementsAndBytes {
        elements: packets.len() as u64,
        bytes: packets.iter().map(|packet| packet.len() as u64).sum(),
    }
}

/// Any time: machines only compare times with each other.
pub fn start() -> Instant {
    Instant::now()
}

/// All benches together stay under four minutes.
pub fn settings() -> Criterion {
    Criterion::default()
        .sample_size(40)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}
