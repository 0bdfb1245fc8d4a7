//! Packetize, lose, depacketize: what comes out was sent, and what is called whole is whole.

use bytes::Bytes;
use lanecast_protocol::codec::{
    Codec, Depacketized, Depacketizer, DepacketizerStatistics, Nal, NalClass, ParameterSets,
};
use lanecast_protocol::rtp::{Ordered, RtpPacket};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn packetizing_and_depacketizing_gives_the_same(stream in stream(), markers: bool) {
        let (received, statistics) = depacketize(stream.codec, whole(stream.packetize(markers), stream.codec));
        prop_assert_eq!(statistics, DepacketizerStatistics::default());
        prop_assert_eq!(received.len(), stream.access_units.len());
        for (at, (received, sent)) in received.iter().zip(&stream.access_units).enumerate() {
            prop_assert_eq!(received.rtp_timestamp, timestamp(at));
            prop_assert!(!received.damaged);
            prop_assert_eq!(&received.nals, sent);
        }
    }

    #[test]
    fn loss_brings_no_nal_unit_that_was_not_sent(
        stream in stream(),
        markers: bool,
        lost in vec(prop::bool::weighted(0.15), 1..200),
    ) {
        let (received, statistics) = depacketize(stream.codec, lose(stream.packetize(markers), stream.codec, &lost));
        prop_assert_eq!(statistics.malformed_packets, 0);
        for received in &received {
            let sent = &stream.access_units[index(received.rtp_timestamp)];
            prop_assert!(is_subsequence(&received.nals, sent), "{:02x?} of {:02x?}", received.nals, sent);
            if !received.damaged {
                prop_assert_eq!(stream.slices(&received.nals), stream.slices(sent));
            }
        }
    }

    #[test]
    fn a_marker_on_every_packet_loses_nothing(stream in stream()) {
        let mut packets = stream.packetize(true);
        packets.iter_mut().for_each(|packet| packet.marker = true);
        let (received, _) = depacketize(stream.codec, whole(packets, stream.codec));
        let nals: Vec<_> = received.iter().flat_map(|access_unit| &access_unit.nals).collect();
        prop_assert_eq!(nals, stream.access_units.iter().flatten().collect::<Vec<_>>());
        prop_assert!(received.iter().all(|access_unit| !access_unit.damaged));
    }

    #[test]
    fn no_packets_panic(
        codec in codec(),
        packets in vec((0..4_u32, any::<bool>(), 0..3_u32, payload()), 0..60),
    ) {
        let mut depacketizer = Depacketizer::new(codec);
        let mut sets = ParameterSets::new(codec);
        for (rtp_timestamp, marker, lost_before, payload) in packets {
            let packet = RtpPacket {
                marker, payload_type: 96, seq: 0, rtp_timestamp, ssrc: 1, payload: payload.into(),
            };
            depacketizer.handle_packet(Ordered { packet, lost_before });
            depacketizer.check_invariants();
            while let Some(output) = depacketizer.poll_output() {
                if let Depacketized::Nal { nal, .. } = output {
                    prop_assert!(!nal.is_empty() && nal.slices.iter().all(|slice| !slice.is_empty()));
                    sets.handle_nal(&nal);
                }
            }
        }
        sets.shape();
    }

    #[test]
    fn no_parameter_set_panics(codec in codec(), kind in 0..3_u8, body in vec(any::<u8>(), 0..200)) {
        let header = match codec {
            Codec::H264 => vec![0x67 + kind % 2],
            Codec::H265 => vec![(32 + kind) << 1, 1],
        };
        let mut sets = ParameterSets::new(codec);
        sets.handle_nal(&Nal::from_bytes([header, body].concat().into()));
        sets.shape();
    }
}

fn codec() -> impl Strategy<Value = Codec> {
    prop_oneof![Just(Codec::H264), Just(Codec::H265)]
}

/// Payloads that begin as one of the structures more often than chance would have it.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        prop::sample::select(vec![0x78_u8, 0x7c, 0x67, 0x65, 0x41, 0x60, 0x62, 0x42, 0x26, 0x02, 0]),
        any::<u8>(),
    ];
    let rest = prop_oneof![
        vec(any::<u8>(), 0..60),
        vec(prop::sample::select(vec![0_u8, 1, 2, 0x67, 0x80, 0x85, 0xc5, 0x45]), 0..60),
    ];
    (first, rest).prop_map(|(first, rest)| [vec![first], rest].concat())
}

/// What a camera has to send, and how.
#[derive(Debug)]
struct Stream {
    codec: Codec,
    /// NAL units of each.
    access_units: Vec<Vec<Vec<u8>>>,
    /// Bytes of a payload at most.
    max_payload: usize,
}

fn stream() -> impl Strategy<Value = Stream> {
    (codec(), vec(access_unit(), 1..12), 8..200_usize).prop_map(|(codec, access_units, max_payload)| {
        let access_units = access_units.into_iter().map(|access_unit| access_unit.nals(codec)).collect();
        Stream { codec, access_units, max_payload }
    })
}

#[derive(Debug)]
struct AccessUnit {
    delimiter: bool,
    /// Bodies of the parameter sets, for a random access picture.
    sets: Option<[Vec<u8>; 3]>,
    sei: Option<Vec<u8>>,
    slices: Vec<Vec<u8>>,
}

fn access_unit() -> impl Strategy<Value = AccessUnit> {
    // Without zeros nothing looks like a start code, as in any NAL unit of an encoder.
    let body = || vec(1..=255_u8, 1..30);
    let slice = vec(any::<u8>(), 1..600);
    (any::<bool>(), prop::option::of([body(), body(), body()]), prop::option::of(body()), vec(slice, 1..5))
        .prop_map(|(delimiter, sets, sei, slices)| AccessUnit { delimiter, sets, sei, slices })
}

impl AccessUnit {
    fn nals(self, codec: Codec) -> Vec<Vec<u8>> {
        let header = |h264: u8, h265: u8| match codec {
            Codec::H264 => vec![h264],
            Codec::H265 => vec![h265 << 1, 1],
        };
        let slice_header = if self.sets.is_some() { header(0x65, 19) } else { header(0x41, 1) };
        let mut nals = vec![];
        if self.delimiter {
            nals.push([header(0x09, 35), vec![0xf0]].concat());
        }
        if let Some([vps, sps, pps]) = self.sets {
            if codec == Codec::H265 {
                nals.push([header(0, 32), vps].concat());
            }
            nals.push([header(0x67, 33), sps].concat());
            nals.push([header(0x68, 34), pps].concat());
        }
        nals.extend(self.sei.map(|body| [header(0x06, 39), body].concat()));
        for (at, mut slice) in self.slices.into_iter().enumerate() {
            slice[0] = slice[0] & 0x7f | u8::from(at == 0) << 7;
            nals.push([&slice_header[..], &slice].concat());
        }
        nals
    }
}

impl Stream {
    /// RFC 6184 packetization mode 1 and RFC 7798, as simple as can be.
    fn packetize(&self, markers: bool) -> Vec<RtpPacket> {
        let mut packets = vec![];
        for (at, nals) in self.access_units.iter().enumerate() {
            let mut payloads = vec![];
            for group in self.group(nals) {
                match group {
                    [nal] if nal.len() > self.max_payload => payloads.extend(self.fragment(nal)),
                    [nal] => payloads.push(nal.clone()),
                    nals => payloads.push(self.aggregate(nals)),
                }
            }
            let last = payloads.len() - 1;
            packets.extend(payloads.into_iter().enumerate().map(|(index, payload)| RtpPacket {
                marker: markers && index == last,
                payload_type: 96,
                seq: 0,
                rtp_timestamp: timestamp(at),
                ssrc: 1,
                payload: payload.into(),
            }));
        }
        packets
    }

    /// Runs that fit into one payload together.
    fn group<'a>(&self, nals: &'a [Vec<u8>]) -> Vec<&'a [Vec<u8>]> {
        let mut groups = vec![];
        let mut rest = nals;
        while !rest.is_empty() {
            let mut taken = 1;
            while taken < rest.len() && self.aggregate(&rest[..=taken]).len() <= self.max_payload {
                taken += 1;
            }
            let (group, others) = rest.split_at(taken);
            groups.push(group);
            rest = others;
        }
        groups
    }

    fn aggregate(&self, nals: &[Vec<u8>]) -> Vec<u8> {
        let mut payload = match self.codec {
            Codec::H264 => vec![0x78],
            Codec::H265 => vec![48 << 1, 1],
        };
        for nal in nals {
            payload.extend(u16::try_from(nal.len()).expect("small").to_be_bytes());
            payload.extend(nal);
        }
        payload
    }

    fn fragment(&self, nal: &[u8]) -> Vec<Vec<u8>> {
        let (indicator, unit_type, body) = match self.codec {
            Codec::H264 => (vec![nal[0] & 0xe0 | 28], nal[0] & 0x1f, &nal[1..]),
            Codec::H265 => (vec![nal[0] & 0x81 | 49 << 1, nal[1]], nal[0] >> 1, &nal[2..]),
        };
        let chunks: Vec<&[u8]> = body.chunks(self.max_payload - indicator.len() - 1).collect();
        let last = chunks.len() - 1;
        let fu_header = |at: usize| u8::from(at == 0) << 7 | u8::from(at == last) << 6 | unit_type;
        chunks
            .iter()
            .enumerate()
            .map(|(at, chunk)| [&indicator[..], &[fu_header(at)], chunk].concat())
            .collect()
    }

    fn slices<'a>(&self, nals: &'a [Vec<u8>]) -> Vec<&'a Vec<u8>> {
        let is_slice = |nal: &&Vec<u8>| {
            let class = Nal::from_bytes(Bytes::copy_from_slice(nal)).class(self.codec);
            matches!(class, NalClass::RandomAccess | NalClass::Picture)
        };
        nals.iter().filter(is_slice).collect()
    }
}

/// Close to the end of its range, so that it wraps.
fn timestamp(at: usize) -> u32 {
    u32::try_from(at).expect("few").wrapping_mul(3000).wrapping_sub(9000)
}

fn index(rtp_timestamp: u32) -> usize {
    rtp_timestamp.wrapping_add(9000) as usize / 3000
}

fn whole(packets: Vec<RtpPacket>, codec: Codec) -> Vec<Ordered> {
    lose(packets, codec, &[false])
}

/// The packets that are left, and one more: without markers the last end shows only when something begins.
fn lose(packets: Vec<RtpPacket>, codec: Codec, lost: &[bool]) -> Vec<Ordered> {
    let mut lost_before = 0;
    let mut left = vec![];
    for (packet, &lost) in packets.into_iter().zip(lost.iter().cycle()) {
        if lost {
            lost_before += 1;
        } else {
            left.push(Ordered { packet, lost_before: std::mem::take(&mut lost_before) });
        }
    }
    left.push(Ordered { packet: one_more(codec), lost_before });
    left
}

fn one_more(codec: Codec) -> RtpPacket {
    let slice = if codec == Codec::H264 { &[0x41, 0x80][..] } else { &[0x02, 1, 0x80] };
    let payload = Bytes::from_static(slice);
    RtpPacket { marker: false, payload_type: 96, seq: 0, rtp_timestamp: 0x5555_5555, ssrc: 1, payload }
}

/// What came out between two ends.
#[derive(Debug)]
struct Received {
    rtp_timestamp: u32,
    nals: Vec<Vec<u8>>,
    damaged: bool,
}

fn depacketize(codec: Codec, packets: Vec<Ordered>) -> (Vec<Received>, DepacketizerStatistics) {
    let mut depacketizer = Depacketizer::new(codec);
    let (mut received, mut nals) = (vec![], vec![]);
    for packet in packets {
        depacketizer.handle_packet(packet);
        depacketizer.check_invariants();
        drain(&mut depacketizer, &mut received, &mut nals);
    }
    (received, depacketizer.statistics())
}

fn drain(depacketizer: &mut Depacketizer, received: &mut Vec<Received>, nals: &mut Vec<Vec<u8>>) {
    while let Some(output) = depacketizer.poll_output() {
        match output {
            Depacketized::Nal { nal, .. } => nals.push(nal.to_contiguous().to_vec()),
            Depacketized::AccessUnitEnd { rtp_timestamp, damaged } => {
                received.push(Received { rtp_timestamp, nals: std::mem::take(nals), damaged });
            }
        }
    }
}

fn is_subsequence(part: &[Vec<u8>], of: &[Vec<u8>]) -> bool {
    let mut of = of.iter();
    part.iter().all(|nal| of.any(|sent| sent == nal))
}
