//! Reading what a viewer got, to the letter of the wire contract's section 5. The parser is the tests' own.

use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    H264,
    H265,
}

/// One RTP packet as it came.
#[derive(Clone, Debug)]
pub struct Packet {
    pub at: Instant,
    pub bytes: Vec<u8>,
}

/// The packets of one timestamp.
#[derive(Clone, Debug)]
pub struct AccessUnit {
    pub at: Instant,
    pub rtp_timestamp: u32,
    /// NAL unit types in order; a fragmented unit counts once.
    pub nal_types: Vec<u8>,
    pub packets: usize,
    pub bytes: usize,
    pub complete: bool,
}

impl Packet {
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }
    pub fn rtp_timestamp(&self) -> u32 {
        u32::from_be_bytes(self.bytes[4..8].try_into().expect("4 bytes"))
    }
    pub fn ssrc(&self) -> u32 {
        u32::from_be_bytes(self.bytes[8..12].try_into().expect("4 bytes"))
    }
    pub fn marker(&self) -> bool {
        self.bytes[1] & 0x80 != 0
    }
    pub fn payload(&self) -> &[u8] {
        &self.bytes[12..]
    }

    /// Types of the NAL units that begin in this packet.
    fn nal_types(&self, codec: Codec) -> Vec<u8> {
        let payload = self.payload();
        match codec {
            Codec::H264 => match payload[0] & 0x1f {
                24 => units(&payload[1..]).iter().map(|unit| unit[0] & 0x1f).collect(),
                28 if payload[1] & 0x80 != 0 => vec![payload[1] & 0x1f],
                28 => vec![],
                kind => vec![kind],
            },
            Codec::H265 => match (payload[0] >> 1) & 0x3f {
                48 => units(&payload[2..]).iter().map(|unit| (unit[0] >> 1) & 0x3f).collect(),
                49 if payload[2] & 0x80 != 0 => vec![payload[2] & 0x3f],
                49 => vec![],
                kind => vec![kind],
            },
        }
    }

    #[track_caller]
    fn assert_form(&self) {
        assert!(self.bytes.len() > 12, "a packet has a header and a payload");
        assert!(self.bytes.len() <= 1200, "a packet is at most 1200 bytes, this one {}", self.bytes.len());
        assert_eq!(self.bytes[0], 0x80, "version 2, no padding, extension or CSRC");
        assert_eq!(self.bytes[1] & 0x7f, 96, "payload type 96");
    }
}

impl AccessUnit {
    /// Parameter sets and a random access point: decodable with nothing before it.
    pub fn is_random_access(&self, codec: Codec) -> bool {
        let has = |kind| self.nal_types.contains(&kind);
        match codec {
            Codec::H264 => has(7) && has(8) && has(5),
            Codec::H265 => {
                has(32) && has(33) && has(34) && self.nal_types.iter().any(|t| (16..=21).contains(t))
            }
        }
    }
}

/// Checks each packet's form, one SSRC, sequence numbers rising by one, timestamps that never go back, and a
/// marker exactly where a timestamp ends.
#[track_caller]
pub fn assert_continuous(packets: &[Packet]) {
    assert!(!packets.is_empty(), "there are packets");
    packets[0].assert_form();
    for pair in packets.windows(2) {
        let [before, after] = pair else { unreachable!() };
        after.assert_form();
        assert_eq!(after.ssrc(), before.ssrc(), "one SSRC");
        assert_eq!(after.sequence(), before.sequence().wrapping_add(1), "sequence numbers rise by one");
        let step = after.rtp_timestamp().wrapping_sub(before.rtp_timestamp()).cast_signed();
        assert!(step >= 0, "timestamps never go back: {step} at {}", after.sequence());
        assert_eq!(step > 0, before.marker(), "a marker ends a timestamp: {}", before.sequence());
    }
}

/// Timestamps run on with the clock: from any access unit to any other they are apart as their arrivals are, but for what
/// came at once when the viewer joined and what a busy machine does.
#[track_caller]
pub fn assert_on_time(units: &[AccessUnit]) {
    let Some(first) = units.first() else { return };
    let mut span = [0.0_f64; 2];
    for unit in units {
        let by_clock = unit.at.duration_since(first.at).as_secs_f64();
        let by_timestamp = f64::from(unit.rtp_timestamp.wrapping_sub(first.rtp_timestamp)) / 90_000.0;
        let ahead = by_timestamp - by_clock;
        span = [span[0].min(ahead), span[1].max(ahead)];
    }
    assert!(span[1] - span[0] < 2.5, "timestamps run ahead of the clock by {span:?} s");
}

/// How many packets are missing between those that came.
fn gaps(packets: &[Packet]) -> usize {
    let missing =
        |pair: &[Packet]| usize::from(pair[1].sequence().wrapping_sub(pair[0].sequence())).saturating_sub(1);
    packets.windows(2).map(missing).sum()
}

/// Groups packets by timestamp.
pub fn access_units(packets: &[Packet], codec: Codec) -> Vec<AccessUnit> {
    packets
        .chunk_by(|a, b| a.rtp_timestamp() == b.rtp_timestamp())
        .map(|unit| AccessUnit {
            at: unit[unit.len() - 1].at,
            rtp_timestamp: unit[0].rtp_timestamp(),
            nal_types: unit.iter().flat_map(|packet| packet.nal_types(codec)).collect(),
            packets: unit.len(),
            bytes: unit.iter().map(|packet| packet.bytes.len()).sum(),
            complete: unit[unit.len() - 1].marker() && gaps(unit) == 0,
        })
        .collect()
}

/// The length-prefixed units of an aggregation packet.
fn units(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut units = vec![];
    while let [high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        assert!(length > 0 && length <= tail.len(), "an aggregation packet's lengths hold");
        let (unit, next) = tail.split_at(length);
        units.push(unit);
        rest = next;
    }
    units
}
