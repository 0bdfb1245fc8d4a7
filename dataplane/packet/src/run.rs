//! A run: consecutive RTP packets of one access unit, equal in size but for the last, in one piece of memory.
//!
//! That is what one segmented send takes (`UDP_SEGMENT`, udp(7)), so a viewer costs one send a run.

use bytes::{Bytes, BytesMut};

use crate::RTP_HEADER_BYTES;

/// Consecutive packets of one access unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub(crate) bytes: Bytes,
    pub(crate) segment_bytes: u16,
    pub(crate) packets: u16,
    pub(crate) first_packet: u64,
    pub(crate) first_in_order: u64,
    pub(crate) rtp_timestamp: u32,
    pub(crate) starts_access_unit: bool,
    pub(crate) ends_access_unit: bool,
    pub(crate) random_access: bool,
    pub(crate) out_of_order: bool,
}

/// One packet of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Header and payload.
    pub bytes: Bytes,
}

impl Run {
    /// All packets, one behind the other.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Bytes of every packet but the last, which may be shorter.
    pub fn segment_bytes(&self) -> u16 {
        self.segment_bytes
    }

    /// Number of packets, at least 1.
    pub fn packets(&self) -> u16 {
        self.packets
    }

    /// Number of the first packet in its stream; the low 16 bits are its sequence number.
    pub fn first_packet(&self) -> u64 {
        self.first_packet
    }

    /// Number of the first packet among those that are not [`Run::is_out_of_order`].
    pub fn first_in_order(&self) -> u64 {
        self.first_in_order
    }

    /// RTP timestamp of all its packets, 90 kHz.
    pub fn rtp_timestamp(&self) -> u32 {
        self.rtp_timestamp
    }

    /// True for the first run of an access unit.
    pub fn starts_access_unit(&self) -> bool {
        self.starts_access_unit
    }

    /// True for the last run of an access unit, if that was known when the run was cut.
    pub fn ends_access_unit(&self) -> bool {
        self.ends_access_unit
    }

    /// True for the first run of a random access point: a decoder can start here.
    pub fn is_random_access(&self) -> bool {
        self.random_access
    }

    /// True for a picture that is shown before one sent earlier (a B-picture): viewers that show pictures in the order of
    /// arrival go without.
    pub fn is_out_of_order(&self) -> bool {
        self.out_of_order
    }

    /// One packet by its place in the run, without a copy.
    pub fn packet(&self, place: usize) -> Option<&[u8]> {
        self.bytes.chunks(usize::from(self.segment_bytes)).nth(place)
    }

    /// The packets one by one; slices, no copies.
    pub fn iter(&self) -> impl Iterator<Item = Packet> + '_ {
        let segment = usize::from(self.segment_bytes);
        (0..usize::from(self.packets)).map(move |index| {
            let start = index * segment;
            Packet { bytes: self.bytes.slice(start..self.bytes.len().min(start + segment)) }
        })
    }

    /// The memory behind the run, if nothing else uses any of it: for [`RunWriter::recycle`](crate::RunWriter::recycle).
    pub fn into_memory(self) -> Option<BytesMut> {
        self.bytes.try_into_mut().ok()
    }

    /// The same packets under another timestamp: a copy, for a viewer that is catching up.
    pub fn with_timestamp(&self, rtp_timestamp: u32) -> Self {
        let mut copy = BytesMut::from(&self.bytes[..]);
        for packet in copy.chunks_mut(usize::from(self.segment_bytes)) {
            if let Some(field) = packet.get_mut(4..8) {
                field.copy_from_slice(&rtp_timestamp.to_be_bytes());
            }
        }
        Self { bytes: copy.freeze(), rtp_timestamp, ..self.clone() }
    }

    /// The same packets under another timestamp and other sequence numbers, from `first_sequence` on: a copy in the memory of
    /// `out`, which must be empty and is empty again.
    pub fn renumbered(&self, first_sequence: u16, rtp_timestamp: u32, out: &mut BytesMut) -> Self {
        debug_assert!(out.is_empty(), "what is in it would be lost");
        out.clear();
        out.extend_from_slice(&self.bytes);
        let mut sequence = first_sequence;
        for packet in out.chunks_mut(usize::from(self.segment_bytes)) {
            if let Some(fields) = packet.get_mut(2..8) {
                fields[..2].copy_from_slice(&sequence.to_be_bytes());
                fields[2..].copy_from_slice(&rtp_timestamp.to_be_bytes());
            }
            sequence = sequence.wrapping_add(1);
        }
        Self { bytes: out.split().freeze(), rtp_timestamp, ..self.clone() }
    }
}

impl Packet {
    /// The payload behind the RTP header.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(RTP_HEADER_BYTES.min(self.bytes.len())..)
    }
}
