//! What a viewer's packets are made of: the stream's shared runs, rewritten and sealed one behind the other.
//!
//! Nothing is kept of a packet. What was sent is known by a few spans: from which of our sequence numbers on, which
//! numbers of the stream followed one another. A packet that was lost is made anew from the stream's history, as a
//! retransmission of its own SSRC (RFC 4588). Not here: when to send, and where the history is.

use bytes::{BufMut, BytesMut};
use lanecast_packet::{RTP_HEADER_BYTES, Run, Squeeze};
use smallvec::SmallVec;

use crate::peer::{MediaConfig, RtxConfig};
use crate::srtp::RtpSealer;

/// Bytes of the header extension with the transport-wide sequence number (RFC 8285 section 4.2, one-byte form).
const EXTENSION_BYTES: usize = 8;
/// Spans that are remembered: a span ends when access units are left out, at a join and at a refresh. What is older than
/// eight of those is not in the stream's history any more in practice.
const MAX_SPANS: usize = 8;
/// Retransmissions may take half of what media takes, and this much at once: an eighth of a 4K keyframe.
const RETRANSMISSION_CREDIT_BYTES: i64 = 160 << 10;

/// One viewer's packets.
pub struct Egress {
    config: MediaConfig,
    sealer: RtpSealer,
    /// `ROC << 16 | sequence number` of the next media packet. Never goes back: it is the nonce.
    next_index: u64,
    next_rtx_index: u64,
    next_transport_sequence: u16,
    /// The newest is last.
    spans: SmallVec<[Span; 2]>,
    retransmission_credit_bytes: i64,
    packets: u64,
    payload_bytes: u64,
    bytes: u64,
    skipped_packets: u64,
    newest_rtp_timestamp: u32,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").field("next_index", &self.next_index).finish_non_exhaustive()
    }
}

/// Packets that followed one another here as they did in the stream.
#[derive(Clone, Copy, Debug)]
struct Span {
    first_index: u64,
    first_in_order: u64,
    squeeze: Squeeze,
}

/// A packet that the viewer asks for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    index: u64,
    /// Its number among the stream's packets in order.
    pub in_order: u64,
    squeeze: Squeeze,
}

/// What was appended for one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Bytes of every packet but the last, which may be shorter.
    pub segment_bytes: u16,
    /// Packets.
    pub packets: u16,
    /// Transport-wide sequence number of the first, where negotiated.
    pub transport_sequence: u16,
}

impl Egress {
    /// Nothing sent yet. `first_sequence` below 2^15 (RFC 3711 section 3.3.1 wants room before the first wrap).
    pub fn new(config: MediaConfig, sealer: RtpSealer, first_sequence: u16) -> Self {
        Self {
            config,
            sealer,
            next_index: u64::from(first_sequence & 0x7fff),
            next_rtx_index: u64::from(first_sequence.rotate_left(7) & 0x7fff),
            next_transport_sequence: 1,
            spans: SmallVec::new(),
            retransmission_credit_bytes: RETRANSMISSION_CREDIT_BYTES,
            packets: 0,
            payload_bytes: 0,
            bytes: 0,
            skipped_packets: 0,
            newest_rtp_timestamp: 0,
        }
    }

    /// What was negotiated.
    pub fn config(&self) -> &MediaConfig {
        &self.config
    }

    /// Bytes that the sealed form of `run` takes at the most.
    pub fn sealed_bytes(&self, run: &Run) -> usize {
        run.bytes().len() + usize::from(run.packets()) * self.growth_bytes()
    }

    /// Appends the sealed packets of `run` to `out`, with timestamps by `squeeze`.
    pub fn seal_run(&mut self, run: &Run, squeeze: &Squeeze, out: &mut BytesMut) -> Sealed {
        self.follow(run.first_in_order(), squeeze);
        let transport_sequence = self.next_transport_sequence;
        let rtp_timestamp = squeeze.map(run.rtp_timestamp());
        let config = (self.config.payload_type, self.config.ssrc);
        out.reserve(self.sealed_bytes(run));
        for packet in run.bytes().chunks(usize::from(run.segment_bytes())) {
            let Some((header, payload)) = packet.split_at_checked(RTP_HEADER_BYTES) else { continue };
            let marker = header[1] & 0x80;
            let index = self.next_index;
            self.next_index += 1;
            self.write(out, config.0 | marker, index, rtp_timestamp, config.1, &[], payload);
        }
        let payload_bytes = (run.bytes().len() - RTP_HEADER_BYTES * usize::from(run.packets())) as u64;
        self.packets += u64::from(run.packets());
        self.payload_bytes += payload_bytes;
        self.newest_rtp_timestamp = rtp_timestamp;
        self.retransmission_credit_bytes =
            (self.retransmission_credit_bytes + payload_bytes as i64 / 2).min(RETRANSMISSION_CREDIT_BYTES);
        Sealed {
            segment_bytes: run.segment_bytes() + self.growth_bytes() as u16,
            packets: run.packets(),
            transport_sequence,
        }
    }

    /// What a sequence number that the viewer misses was; `None` if it was never sent or is forgotten.
    pub fn lost(&self, sequence: u16) -> Option<Lost> {
        let newest = self.next_index.checked_sub(1)?;
        let behind = (newest as u16).wrapping_sub(sequence);
        let index = newest.checked_sub(u64::from(behind))?;
        let span = self.spans.iter().rev().find(|span| span.first_index <= index)?;
        let in_order = span.first_in_order + (index - span.first_index);
        Some(Lost { index, in_order, squeeze: span.squeeze })
    }

    /// Appends `packet`, the stream's packet number `lost.in_order` of this timestamp, once more: as a retransmission (RFC 4588)
    /// where that was negotiated, else as it was, to the byte. `None` where too much was sent again lately.
    pub fn seal_again(
        &mut self,
        lost: &Lost,
        packet: &[u8],
        rtp_timestamp: u32,
        out: &mut BytesMut,
    ) -> Option<Sealed> {
        let (header, payload) = packet.split_at_checked(RTP_HEADER_BYTES)?;
        let credit = self.retransmission_credit_bytes - packet.len() as i64;
        // Other bytes under the same index would give the key away, and a transport-wide number makes them others.
        if credit < 0 || (self.config.rtx.is_none() && self.config.transport_cc.is_some()) {
            return None;
        }
        self.retransmission_credit_bytes = credit;
        let transport_sequence = self.next_transport_sequence;
        let rtp_timestamp = lost.squeeze.map(rtp_timestamp);
        let marker = header[1] & 0x80;
        let start = out.len();
        match self.config.rtx {
            Some(RtxConfig { payload_type, ssrc }) => {
                let index = self.next_rtx_index;
                self.next_rtx_index += 1;
                let original = (lost.index as u16).to_be_bytes();
                self.write(out, payload_type | marker, index, rtp_timestamp, ssrc, &original, payload);
            }
            None => {
                let (payload_type, ssrc) = (self.config.payload_type, self.config.ssrc);
                self.write(out, payload_type | marker, lost.index, rtp_timestamp, ssrc, &[], payload);
            }
        }
        Some(Sealed { segment_bytes: (out.len() - start) as u16, packets: 1, transport_sequence })
    }

    /// Packets of the stream that were left out.
    pub fn skipped_packets(&self) -> u64 {
        self.skipped_packets
    }

    /// Media packets sent.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Their payload bytes (RFC 3550 section 6.4.1, sender's octet count).
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Bytes of all packets, sealed, retransmissions among them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// RTP timestamp of the newest packet.
    pub fn newest_rtp_timestamp(&self) -> u32 {
        self.newest_rtp_timestamp
    }

    /// Notes where a run begins another span than the newest.
    fn follow(&mut self, first_in_order: u64, squeeze: &Squeeze) {
        let newest = self.spans.last();
        let expected = newest.map(|span| span.first_in_order + (self.next_index - span.first_index));
        let follows = expected == Some(first_in_order) && newest.is_some_and(|span| span.squeeze == *squeeze);
        if !follows {
            self.skipped_packets += expected.map_or(0, |expected| first_in_order.saturating_sub(expected));
            if self.spans.len() == MAX_SPANS {
                self.spans.remove(0);
            }
            self.spans.push(Span { first_index: self.next_index, first_in_order, squeeze: *squeeze });
        }
    }

    fn growth_bytes(&self) -> usize {
        let extension = if self.config.transport_cc.is_some() { EXTENSION_BYTES } else { 0 };
        extension + self.sealer.profile().tag_bytes()
    }

    /// One sealed packet; `prefix` stands before the payload (RFC 4588's original sequence number).
    #[allow(clippy::too_many_arguments)]
    fn write(
        &mut self,
        out: &mut BytesMut,
        marker_and_type: u8,
        index: u64,
        rtp_timestamp: u32,
        ssrc: u32,
        prefix: &[u8],
        payload: &[u8],
    ) {
        let start = out.len();
        let mut header = [0; RTP_HEADER_BYTES + EXTENSION_BYTES];
        header[0] = 0x80;
        header[1] = marker_and_type;
        header[2..4].copy_from_slice(&(index as u16).to_be_bytes());
        header[4..8].copy_from_slice(&rtp_timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let header_bytes = match self.config.transport_cc {
            None => RTP_HEADER_BYTES,
            Some(id) => {
                let [high, low] = self.next_transport_sequence.to_be_bytes();
                self.next_transport_sequence = self.next_transport_sequence.wrapping_add(1);
                header[0] |= 0x10;
                header[12..].copy_from_slice(&[0xbe, 0xde, 0, 1, id << 4 | 1, high, low, 0]);
                header.len()
            }
        };
        out.extend_from_slice(&header[..header_bytes]);
        out.extend_from_slice(prefix);
        out.extend_from_slice(payload);
        out.put_bytes(0, self.sealer.profile().tag_bytes());
        self.sealer.seal(&mut out[start..], header_bytes, index);
        self.bytes += (out.len() - start) as u64;
    }
}
