//! RTP payloads to an Annex B elementary stream: RFC 6184 (single NAL unit, STAP-A, FU-A) and RFC 7798 (single, AP, FU).
//!
//! Packets are taken in the order they come; a fragmented unit with a hole is left out whole.

use crate::nal::{Codec, aggregated};
use crate::rtp::Packet;

/// Puts NAL units together.
#[derive(Debug)]
pub struct Depacketizer {
    codec: Codec,
    next: Option<u16>,
    /// A fragmented unit so far, header first; empty when none is open.
    fragments: Vec<u8>,
    units: u64,
    dropped: u64,
}

impl Depacketizer {
    /// For one session of that codec.
    pub fn new(codec: Codec) -> Self {
        Self { codec, next: None, fragments: Vec::new(), units: 0, dropped: 0 }
    }

    /// The codec.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// NAL units written.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// Payloads and fragmented units left out: holes, or forms that packetization mode 1 does not have.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Appends each NAL unit that this packet completes to `annex_b`, behind a start code.
    pub fn handle_packet(&mut self, packet: &Packet<'_>, annex_b: &mut Vec<u8>) {
        let sequence_number = packet.sequence_number();
        if self.next.is_some_and(|next| next != sequence_number) {
            self.abandon();
        }
        self.next = Some(sequence_number.wrapping_add(1));
        match self.codec {
            Codec::H264 => self.handle_h264(packet.payload(), annex_b),
            Codec::H265 => self.handle_h265(packet.payload(), annex_b),
        }
    }

    fn handle_h264(&mut self, payload: &[u8], annex_b: &mut Vec<u8>) {
        match payload {
            [first, rest @ ..] if first & 0x1f == 24 => self.write_all(rest, annex_b),
            [indicator, fu, data @ ..] if indicator & 0x1f == 28 => {
                self.handle_fragment(*fu, &[indicator & 0xe0 | fu & 0x1f], data, annex_b);
            }
            [first, ..] if (1..24).contains(&(first & 0x1f)) => self.write(payload, annex_b),
            _ => self.dropped += 1,
        }
    }

    fn handle_h265(&mut self, payload: &[u8], annex_b: &mut Vec<u8>) {
        match payload {
            [first, _, rest @ ..] if (first >> 1) & 0x3f == 48 => self.write_all(rest, annex_b),
            [first, second, fu, data @ ..] if (first >> 1) & 0x3f == 49 => {
                self.handle_fragment(*fu, &[first & 0x81 | (fu & 0x3f) << 1, *second], data, annex_b);
            }
            [first, _, _, ..] if (first >> 1) & 0x3f < 48 => self.write(payload, annex_b),
            _ => self.dropped += 1,
        }
    }

    fn handle_fragment(&mut self, fu: u8, header: &[u8], data: &[u8], annex_b: &mut Vec<u8>) {
        if fu & 0x80 != 0 {
            self.abandon();
            self.fragments.extend_from_slice(header);
        } else if self.fragments.is_empty() {
            self.dropped += 1;
            return;
        }
        if self.fragments.len() + data.len() > UNIT_BYTES_MAX {
            self.abandon();
            return;
        }
        self.fragments.extend_from_slice(data);
        if fu & 0x40 != 0 {
            let unit = std::mem::take(&mut self.fragments);
            self.write(&unit, annex_b);
            self.fragments = unit;
            self.fragments.clear();
        }
    }

    fn abandon(&mut self) {
        self.dropped += u64::from(!self.fragments.is_empty());
        self.fragments.clear();
    }

    fn write_all(&mut self, aggregate: &[u8], annex_b: &mut Vec<u8>) {
        for unit in aggregated(aggregate).filter(|unit| !unit.is_empty()) {
            self.write(unit, annex_b);
        }
    }

    fn write(&mut self, unit: &[u8], annex_b: &mut Vec<u8>) {
        self.abandon();
        annex_b.extend_from_slice(&[0, 0, 0, 1]);
        annex_b.extend_from_slice(unit);
        self.units += 1;
    }
}

/// More than any picture of a camera has; a sender that never ends its fragments must not eat the memory.
const UNIT_BYTES_MAX: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(codec: Codec, payloads: &[(u16, &[u8])]) -> (Vec<u8>, u64) {
        let mut depacketizer = Depacketizer::new(codec);
        let mut annex_b = Vec::new();
        for (sequence_number, payload) in payloads {
            let mut bytes = vec![0x80, 96];
            bytes.extend(sequence_number.to_be_bytes());
            bytes.extend([0; 8]);
            bytes.extend(*payload);
            depacketizer.handle_packet(&Packet::parse(&bytes).expect("a packet"), &mut annex_b);
        }
        (annex_b, depacketizer.dropped())
    }

    #[test]
    fn single_units_aggregates_and_fragments_of_h264_come_out_as_annex_b() {
        let (annex_b, dropped) = run(
            Codec::H264,
            &[
                (65_535, &[0x78, 0, 2, 0x67, 1, 0, 1, 0x68]),
                (0, &[0x7c, 0x85, 2, 3]),
                (1, &[0x7c, 0x05, 4]),
                (2, &[0x7c, 0x45, 5]),
                (3, &[0x41, 6]),
            ],
        );
        let expected = [
            &[0, 0, 0, 1, 0x67, 1][..],
            &[0, 0, 0, 1, 0x68],
            &[0, 0, 0, 1, 0x65, 2, 3, 4, 5],
            &[0, 0, 0, 1, 0x41, 6],
        ];
        assert_eq!(annex_b, expected.concat());
        assert_eq!(dropped, 0);
    }

    #[test]
    fn h265_fragments_get_their_two_byte_header_back() {
        let (annex_b, dropped) = run(
            Codec::H265,
            &[
                (1, &[0x60, 1, 0, 2, 0x40, 1, 0, 3, 0x42, 1, 7]),
                (2, &[0x62, 1, 0x93, 8]),
                (3, &[0x62, 1, 0x53, 9]),
                (4, &[0x02, 1, 5]),
            ],
        );
        let expected = [
            &[0, 0, 0, 1, 0x40, 1][..],
            &[0, 0, 0, 1, 0x42, 1, 7],
            &[0, 0, 0, 1, 0x26, 1, 8, 9],
            &[0, 0, 0, 1, 0x02, 1, 5],
        ];
        assert_eq!(annex_b, expected.concat());
        assert_eq!(dropped, 0);
    }

    #[test]
    fn a_unit_with_a_hole_is_left_out_whole() {
        let hole: &[(u16, &[u8])] =
            &[(1, &[0x7c, 0x85, 2]), (3, &[0x7c, 0x05, 4]), (4, &[0x7c, 0x45, 5]), (5, &[0x41, 6])];
        let (annex_b, dropped) = run(Codec::H264, hole);
        assert_eq!(annex_b, [0, 0, 0, 1, 0x41, 6]);
        assert_eq!(dropped, 3);
    }

    #[test]
    fn garbage_is_survived() {
        for first in 0..=255_u8 {
            for second in [0, 0x45, 0x80, 0xff] {
                for len in 0..6 {
                    let payload = &[first, second, second, first, 0xff][..len.min(5)];
                    run(Codec::H264, &[(1, payload), (2, payload)]);
                    run(Codec::H265, &[(1, payload), (2, payload)]);
                }
            }
        }
    }
}
