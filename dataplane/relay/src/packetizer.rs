//! NAL units → RTP packets of at most one size, once per stream (RFC 6184 packetization-mode 1, RFC 7798).
//!
//! Every input, whatever its camera did, leaves as packets of one size, because that is what a segmented send
//! takes. Parameter sets go together in one STAP-A or AP.

use bytes::{BufMut, Bytes, BytesMut};
use lanecast_packet::{RTP_HEADER_BYTES, Run, RunWriter, WriterConfig};
use lanecast_protocol::codec::{Codec, Nal};

const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const AP: u8 = 48;
const FU: u8 = 49;
/// Smallest UDP payload that we packetize to: IPv4's 576 less headers, rounded down.
const MIN_UDP_PAYLOAD: u16 = 256;

/// The packetizer of one stream.
#[derive(Debug)]
pub struct Packetizer {
    codec: Codec,
    max_payload_bytes: usize,
    writer: RunWriter,
}

impl Packetizer {
    /// `max_udp_payload` bytes include the RTP header.
    pub fn new(codec: Codec, max_udp_payload: u16, config: WriterConfig) -> Self {
        let max_payload_bytes = usize::from(max_udp_payload.max(MIN_UDP_PAYLOAD)) - RTP_HEADER_BYTES;
        Self { codec, max_payload_bytes, writer: RunWriter::new(config) }
    }

    /// Another codec from the next access unit on; sequence numbers run on.
    pub fn set_codec(&mut self, codec: Codec) {
        self.codec = codec;
    }

    /// NAL units from now on are of the access unit at `rtp_timestamp` (90 kHz).
    pub fn begin_access_unit(&mut self, rtp_timestamp: u32, random_access: bool) {
        self.writer.begin_access_unit(rtp_timestamp, random_access);
    }

    /// The same for a picture that is shown before one sent earlier.
    pub fn begin_out_of_order(&mut self, rtp_timestamp: u32) {
        self.writer.begin_out_of_order(rtp_timestamp);
    }

    /// All parameter sets in one aggregation packet; one by one if they do not fit.
    pub fn parameter_sets<'a, I: Iterator<Item = &'a Bytes>>(&mut self, sets: impl Fn() -> I) {
        let header_bytes = match self.codec {
            Codec::H264 => 1,
            Codec::H265 => 2,
        };
        let bytes = header_bytes + sets().map(|set| 2 + set.len()).sum::<usize>();
        if bytes > self.max_payload_bytes {
            return sets().for_each(|set| self.nal(&Nal::from_bytes(set.clone())));
        }
        let codec = self.codec;
        self.writer.packet(bytes, |out| {
            match codec {
                // NRI is the highest of the aggregated (RFC 6184 section 5.7); parameter sets are reference.
                Codec::H264 => out.put_u8(3 << 5 | STAP_A),
                // Layer 0, temporal id 1: the lowest of the aggregated (RFC 7798 section 4.4.2).
                Codec::H265 => out.put_slice(&[AP << 1, 1]),
            }
            for set in sets() {
                out.put_u16(set.len() as u16);
                out.put_slice(set);
            }
        });
    }

    /// One NAL unit: alone in a packet if it fits, else in fragments.
    pub fn nal(&mut self, nal: &Nal) {
        let bytes = nal.len();
        if bytes <= self.max_payload_bytes {
            let mut rope = Rope::new(nal);
            return self.writer.packet(bytes, |out| rope.copy(out, bytes));
        }
        match self.codec {
            Codec::H264 => self.fragment::<1>(nal, |header, flags| {
                ([header[0] & 0xe0 | FU_A, flags | header[0] & 0x1f, 0], 2)
            }),
            Codec::H265 => self.fragment::<2>(nal, |header, flags| {
                ([header[0] & 0x81 | FU << 1, header[1], flags | header[0] >> 1 & 0x3f], 3)
            }),
        }
    }

    /// Marks the last packet.
    pub fn end_access_unit(&mut self) {
        self.writer.end_access_unit();
    }

    /// Gives out what can go before the access unit's end.
    pub fn flush(&mut self) {
        self.writer.flush();
    }

    /// Takes memory back that no run uses any more.
    pub fn recycle(&mut self, memory: BytesMut) {
        self.writer.recycle(memory);
    }

    /// Gives memory away that no run uses any more ([`RunWriter::take_memory`]).
    pub fn take_memory(&mut self) -> Option<BytesMut> {
        self.writer.take_memory()
    }

    /// The next run, until `None`.
    pub fn poll_run(&mut self) -> Option<Run> {
        self.writer.poll_run()
    }

    /// FU-A (RFC 6184 section 5.8) or FU (RFC 7798 section 4.4.3): `header` bytes of the NAL unit are replaced by what
    /// `prefix` makes of them and the start and end flags.
    fn fragment<const HEADER: usize>(
        &mut self,
        nal: &Nal,
        prefix: impl Fn([u8; HEADER], u8) -> ([u8; 3], usize),
    ) {
        let mut rope = Rope::new(nal);
        let header = rope.take::<HEADER>();
        let mut left = nal.len() - HEADER;
        let mut start = 0x80;
        while left > 0 {
            let room = self.max_payload_bytes - prefix(header, 0).1;
            let bytes = left.min(room);
            left -= bytes;
            let end = if left == 0 { 0x40 } else { 0 };
            let (prefix, prefix_bytes) = prefix(header, start | end);
            self.writer.packet(prefix_bytes + bytes, |out| {
                out.put_slice(&prefix[..prefix_bytes]);
                rope.copy(out, bytes);
            });
            start = 0;
        }
    }
}

/// Reads a NAL unit's slices in order.
struct Rope<'a> {
    slices: std::slice::Iter<'a, Bytes>,
    rest: &'a [u8],
}

impl<'a> Rope<'a> {
    fn new(nal: &'a Nal) -> Self {
        Self { slices: nal.slices.iter(), rest: &[] }
    }

    fn copy(&mut self, out: &mut impl BufMut, mut bytes: usize) {
        while bytes > 0 {
            if self.rest.is_empty() {
                let Some(next) = self.slices.next() else {
                    debug_assert!(false, "a NAL unit is as long as its slices");
                    return out.put_bytes(0, bytes);
                };
                self.rest = next;
            }
            let taken = bytes.min(self.rest.len());
            out.put_slice(&self.rest[..taken]);
            self.rest = &self.rest[taken..];
            bytes -= taken;
        }
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        self.copy(&mut &mut array[..], N);
        array
    }
}

#[cfg(test)]
mod tests {
    use lanecast_protocol::codec::{Depacketized, Depacketizer};
    use lanecast_protocol::rtp::{Ordered, RtpPacket};
    use proptest::prelude::*;

    use super::*;

    fn packetizer(codec: Codec) -> Packetizer {
        Packetizer::new(codec, 1200, WriterConfig { ssrc: 1, payload_type: 96, first_packet: 0 })
    }

    fn packets(packetizer: &mut Packetizer) -> Vec<RtpPacket> {
        std::iter::from_fn(|| packetizer.poll_run())
            .flat_map(|run| run.iter().collect::<Vec<_>>())
            .map(|packet| RtpPacket::parse(packet.bytes).unwrap())
            .collect()
    }

    #[test]
    fn no_packet_is_larger_than_the_limit_and_fragments_fill_it() {
        for codec in [Codec::H264, Codec::H265] {
            let mut packetizer = packetizer(codec);
            packetizer.begin_access_unit(0, true);
            packetizer.nal(&Nal::from_bytes(vec![0x26; 10_000].into()));
            packetizer.end_access_unit();
            let run = packetizer.poll_run().unwrap();
            assert_eq!((run.segment_bytes(), packetizer.poll_run()), (1200, None));
            assert_eq!(run.packets(), 9);
        }
    }

    #[test]
    fn parameter_sets_share_one_packet_with_the_timestamp_of_their_picture() {
        let mut packetizer = packetizer(Codec::H264);
        let sets = [Bytes::from_static(&[0x67, 1, 2]), Bytes::from_static(&[0x68, 3])];
        packetizer.begin_access_unit(77, true);
        packetizer.parameter_sets(|| sets.iter());
        packetizer.nal(&Nal::from_bytes(Bytes::from_static(&[0x65, 9])));
        packetizer.end_access_unit();
        let packets = packets(&mut packetizer);
        assert_eq!(&packets[0].payload[..], [0x78, 0, 3, 0x67, 1, 2, 0, 2, 0x68, 3]);
        assert_eq!((packets[0].rtp_timestamp, packets[1].rtp_timestamp), (77, 77));
        assert_eq!((packets[0].marker, packets[1].marker), (false, true));
    }

    proptest! {
        #[test]
        fn depacketizing_what_was_packetized_gives_the_same_nal_units(
            h265 in any::<bool>(),
            sizes in prop::collection::vec((2usize..6000, 1usize..5), 1..8),
            mtu in 256u16..1500,
        ) {
            let (codec, first) = if h265 { (Codec::H265, [0x02, 0x01]) } else { (Codec::H264, [0x61, 0x80]) };
            let mut packetizer =
                Packetizer::new(codec, mtu, WriterConfig { ssrc: 1, payload_type: 96, first_packet: 65_000 });
            packetizer.begin_access_unit(3000, false);
            let mut sent = Vec::new();
            for (index, &(bytes, pieces)) in sizes.iter().enumerate() {
                let mut body: Vec<u8> = (0..bytes).map(|at| (at * 7 + index) as u8).collect();
                body[..2].copy_from_slice(&first);
                // The first slice of a picture, then others: one access unit.
                if bytes > 2 { body[2] = if index == 0 { 0x80 } else { 0x00 }; }
                let whole = Bytes::from(body);
                let piece = bytes.div_ceil(pieces);
                let slices = (0..bytes).step_by(piece).map(|at| whole.slice(at..bytes.min(at + piece))).collect();
                packetizer.nal(&Nal { slices });
                sent.push(whole);
            }
            packetizer.end_access_unit();
            let mut depacketizer = Depacketizer::new(codec);
            let mut received = Vec::new();
            for packet in packets(&mut packetizer) {
                prop_assert!(packet.payload.len() + RTP_HEADER_BYTES <= usize::from(mtu));
                depacketizer.handle_packet(Ordered { packet, lost_before: 0 });
                while let Some(output) = depacketizer.poll_output() {
                    if let Depacketized::Nal { nal, .. } = output {
                        received.push(nal.to_contiguous());
                    }
                }
            }
            prop_assert_eq!(received, sent);
        }
    }
}
