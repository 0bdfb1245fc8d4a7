//! RTP packets in order → NAL units and ends of access units.

use bytes::Bytes;

use super::{Codec, Nal};
use crate::rtp::Ordered;

/// What comes out, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Depacketized {
    /// A whole NAL unit of the access unit at `rtp_timestamp`. Parameter sets come as any other.
    Nal {
        /// RTP timestamp as the camera sent it.
        rtp_timestamp: u32,
        /// The NAL unit.
        nal: Nal,
    },
    /// The access unit whose NAL units came since the last end is over.
    AccessUnitEnd {
        /// RTP timestamp as the camera sent it.
        rtp_timestamp: u32,
        /// A packet of it was lost or malformed, so part of the picture is missing.
        damaged: bool,
    },
}

/// Counters, all since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DepacketizerStatistics {
    /// Packets whose payload was malformed.
    pub malformed_packets: u64,
    /// NAL units dropped because a fragment was missing.
    pub broken_nals: u64,
}

/// The depacketizer of one track.
#[derive(Debug)]
pub struct Depacketizer {
    _codec: Codec,
}

impl Depacketizer {
    /// For a track of `codec`.
    pub fn new(codec: Codec) -> Self {
        Self { _codec: codec }
    }

    /// Takes the next packet in order.
    pub fn handle_packet(&mut self, _packet: Ordered) {}

    /// What it made of it, until `None`.
    pub fn poll_output(&mut self) -> Option<Depacketized> {
        None
    }

    /// Counters.
    pub fn statistics(&self) -> DepacketizerStatistics {
        DepacketizerStatistics::default()
    }

    /// A fuzz and property helper: feeds `payload` as one packet. (Kept here so targets stay eight lines.)
    pub fn handle_payload(&mut self, seq: u16, rtp_timestamp: u32, marker: bool, payload: Bytes) {
        let packet = crate::rtp::RtpPacket { marker, payload_type: 96, seq, rtp_timestamp, ssrc: 1, payload };
        self.handle_packet(Ordered { packet, lost_before: 0 });
    }
}
