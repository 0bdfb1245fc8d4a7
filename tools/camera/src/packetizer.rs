//! NAL units to RTP payloads: H.264 by RFC 6184 (single NAL unit, STAP-A, FU-A), H.265 by RFC 7798 (single NAL unit, AP,
//! FU). RTP headers are written in `rtp.rs`.

use bytes::Bytes;

use crate::config::Codec;
use crate::faults::{Marker, MediaFaults};
use crate::nal::{self, Kind};

/// An RTP packet but for what differs from camera to camera: sequence number, timestamp, SSRC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub payload: Bytes,
    pub marker: bool,
}

/// Packetizes the access units of one track.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packetizer {
    pub codec: Codec,
    /// Largest RTP payload in bytes.
    pub payload_bytes_max: usize,
    /// Whether NAL units that are no slices share packets.
    pub aggregate: bool,
    pub marker: Marker,
    pub faults: MediaFaults,
}

impl Packetizer {
    /// The packets of `nal_units`, which are an access unit or a part of one; `is_end` if they end it.
    pub fn packetize(&self, nal_units: &[Bytes], is_end: bool) -> Vec<Packet> {
        let mut packets = Vec::new();
        let mut together: Vec<&Bytes> = Vec::new();
        for nal_unit in nal_units {
            let is_slice = matches!(nal::kind(self.codec, nal_unit), Kind::Slice { .. });
            let is_company = self.faults.aggregate_slices || self.aggregate && !is_slice;
            if is_company && self.fits(&together, nal_unit) {
                together.push(nal_unit);
                continue;
            }
            self.flush(&mut together, &mut packets);
            if is_company && self.fits(&[], nal_unit) {
                together.push(nal_unit);
            } else {
                self.whole_or_fragments(nal_unit, &mut packets);
            }
        }
        self.flush(&mut together, &mut packets);
        if let Some(last) = packets.last_mut() {
            last.marker |= is_end && self.marker != Marker::Never;
        }
        packets
    }

    fn fits(&self, together: &[&Bytes], nal_unit: &Bytes) -> bool {
        let bytes = together.iter().map(|nal_unit| 2 + nal_unit.len()).sum::<usize>() + 2 + nal_unit.len();
        self.codec.nal_header_len() + bytes <= self.payload_bytes_max
            && nal_unit.len() <= usize::from(u16::MAX)
    }

    fn flush(&self, together: &mut Vec<&Bytes>, packets: &mut Vec<Packet>) {
        match together[..] {
            [] => {}
            [nal_unit] => self.whole_or_fragments(nal_unit, packets),
            _ => packets.push(self.packet(self.aggregation(together), false)),
        }
        together.clear();
    }

    /// STAP-A (RFC 6184 section 5.7.1) or AP (RFC 7798 section 4.4.2).
    fn aggregation(&self, nal_units: &[&Bytes]) -> Bytes {
        let mut payload = match self.codec {
            Codec::H264 => vec![24 | nal_units.iter().fold(0, |nri, nal_unit| nri.max(nal_unit[0] & 0x60))],
            Codec::H265 => vec![48 << 1, 1],
        };
        for nal_unit in nal_units {
            payload.extend_from_slice(&(nal_unit.len() as u16).to_be_bytes());
            payload.extend_from_slice(nal_unit);
        }
        payload.into()
    }

    fn whole_or_fragments(&self, nal_unit: &Bytes, packets: &mut Vec<Packet>) {
        let is_slice = matches!(nal::kind(self.codec, nal_unit), Kind::Slice { .. });
        if self.faults.single_fragments && is_slice && nal_unit.len() < self.payload_bytes_max {
            self.fragments(nal_unit, packets);
        } else if self.faults.annex_b && START_CODE.len() + nal_unit.len() <= self.payload_bytes_max {
            let payload = [&START_CODE[..], nal_unit].concat();
            packets.push(self.packet(payload.into(), is_sei(self.codec, nal_unit)));
        } else if nal_unit.len() <= self.payload_bytes_max {
            packets.push(self.packet(nal_unit.clone(), is_sei(self.codec, nal_unit)));
        } else {
            self.fragments(nal_unit, packets);
        }
    }

    /// FU-A (RFC 6184 section 5.8) or FU (RFC 7798 section 4.4.3).
    fn fragments(&self, nal_unit: &Bytes, packets: &mut Vec<Packet>) {
        const START: u8 = 0x80;
        const END: u8 = 0x40;
        let (header, body) = nal_unit.split_at(self.codec.nal_header_len());
        let kind = self.codec.nal_type(header[0]);
        let chunk_len = self.payload_bytes_max - header.len() - 1;
        let chunks = body.chunks(chunk_len);
        let last = chunks.len() - 1;
        for (index, chunk) in chunks.enumerate().skip(usize::from(self.faults.fragments_without_start)) {
            let mut payload = Vec::with_capacity(header.len() + 1 + chunk.len());
            match self.codec {
                Codec::H264 => payload.push((header[0] & 0xe0) | 28),
                Codec::H265 => payload.extend([(header[0] & 0x81) | (49 << 1), header[1]]),
            }
            let start = if index == 0 { START } else { 0 };
            let end = if index == last && !self.faults.fragments_without_end { END } else { 0 };
            payload.push(kind | start | end);
            payload.extend_from_slice(chunk);
            packets.push(self.packet(payload.into(), is_sei(self.codec, nal_unit) && index == last));
        }
    }

    fn packet(&self, payload: Bytes, ends_sei: bool) -> Packet {
        let marker = match self.marker {
            Marker::LastPacket | Marker::Never => false,
            Marker::AlsoOnSei => ends_sei,
            Marker::EveryPacket => true,
        };
        Packet { payload, marker }
    }
}

/// Annex B of H.264 and H.265.
pub(crate) const START_CODE: [u8; 4] = [0, 0, 0, 1];

fn is_sei(codec: Codec, nal_unit: &[u8]) -> bool {
    match codec {
        Codec::H264 => codec.nal_type(nal_unit[0]) == 6,
        Codec::H265 => codec.nal_type(nal_unit[0]) == 39,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Clip;

    fn packetizer(codec: Codec) -> Packetizer {
        Packetizer {
            codec,
            payload_bytes_max: 1388,
            aggregate: true,
            marker: Marker::LastPacket,
            faults: MediaFaults::default(),
        }
    }

    /// What RFC 6184 section 5 and RFC 7798 section 4.4 tell a receiver to do.
    fn depacketize(codec: Codec, packets: &[Packet]) -> Vec<Vec<u8>> {
        let header_len = codec.nal_header_len();
        let (aggregation, fragment) = if codec == Codec::H264 { (24, 28) } else { (48, 49) };
        let mut nal_units: Vec<Vec<u8>> = Vec::new();
        let mut is_open = false;
        for Packet { payload, .. } in packets {
            let kind = codec.nal_type(payload[0]);
            if kind == aggregation {
                let mut rest = &payload[header_len..];
                while !rest.is_empty() {
                    let len = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                    nal_units.push(rest[2..2 + len].to_vec());
                    rest = &rest[2 + len..];
                }
            } else if kind == fragment {
                let fu = payload[header_len];
                assert_eq!(fu & 0x80 == 0, is_open, "a fragment starts exactly where none is open");
                if fu & 0x80 != 0 {
                    nal_units.push(match codec {
                        Codec::H264 => vec![(payload[0] & 0xe0) | (fu & 0x1f)],
                        Codec::H265 => vec![(payload[0] & 0x81) | ((fu & 0x3f) << 1), payload[1]],
                    });
                }
                is_open = fu & 0x40 == 0;
                nal_units.last_mut().unwrap().extend_from_slice(&payload[header_len + 1..]);
            } else {
                nal_units.push(payload.to_vec());
            }
        }
        assert!(!is_open);
        nal_units
    }

    #[test]
    fn every_picture_comes_back_from_its_packets() {
        for codec in [Codec::H264, Codec::H265] {
            for payload_bytes_max in [20, 100, 1388, 60_000] {
                for aggregate in [true, false] {
                    let packetizer = Packetizer { payload_bytes_max, aggregate, ..packetizer(codec) };
                    for access_unit in Clip::built_in(codec).access_units {
                        let packets = packetizer.packetize(&access_unit.nal_units, true);
                        assert!(packets.iter().all(|p| p.payload.len() <= payload_bytes_max));
                        assert_eq!(depacketize(codec, &packets), access_unit.nal_units);
                        let markers: Vec<bool> = packets.iter().map(|packet| packet.marker).collect();
                        assert_eq!(markers.iter().position(|&marker| marker), Some(markers.len() - 1));
                    }
                }
            }
        }
    }

    #[test]
    fn parameter_sets_share_one_packet() {
        let clip = Clip::built_in(Codec::H265);
        let packets = packetizer(Codec::H265).packetize(&clip.access_units[0].nal_units, true);
        assert_eq!(packets[0].payload[..2], [48 << 1, 1]);
    }

    #[test]
    fn no_fragmented_unit_has_start_and_end_in_one_packet() {
        let nal_unit = Bytes::from([&[0x65][..], &[7; 1388]].concat());
        let packets = packetizer(Codec::H264).packetize(&[nal_unit], true);
        assert_eq!(packets.iter().map(|p| p.payload[1] & 0xc0).collect::<Vec<_>>(), [0x80, 0x40]);
    }

    #[test]
    fn markers_are_where_the_fault_puts_them() {
        let nal_units = [
            Bytes::from_static(&[6, 5, 0x80]),
            Bytes::from_static(&[0x65, 0x80]),
            Bytes::from_static(&[0x65, 1]),
        ];
        let markers = |marker| -> Vec<bool> {
            let packetizer = Packetizer { marker, ..packetizer(Codec::H264) };
            packetizer.packetize(&nal_units, true).iter().map(|packet| packet.marker).collect()
        };
        assert_eq!(markers(Marker::LastPacket), [false, false, true]);
        assert_eq!(markers(Marker::AlsoOnSei), [true, false, true]);
        assert_eq!(markers(Marker::EveryPacket), [true; 3]);
        assert_eq!(markers(Marker::Never), [false; 3]);
    }
}
