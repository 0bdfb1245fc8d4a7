//! Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1): which packets of a transport
//! came, and when.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      base sequence number     |      packet status count      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                 reference time                | fb pkt. count |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  chunks of 16 bits ...        |  deltas of 8 or 16 bits ...   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

/// One transport-wide feedback packet, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportFeedback<'a> {
    /// The eight bytes before the chunks.
    fixed: &'a [u8; FIXED_BYTES],
    chunks: &'a [u8],
    /// As many as the chunks promise.
    deltas: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    /// Reads feedback control information without its padding. `None` if chunks or deltas are missing, if a status is
    /// the reserved one, or if more than [`PACKETS_MAX`] packets are reported: none of it is believed then.
    pub(super) fn parse(control: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = control.split_first_chunk::<FIXED_BYTES>()?;
        let packets = u16::from_be_bytes([fixed[2], fixed[3]]);
        if packets > PACKETS_MAX {
            return None;
        }
        let (mut chunks_bytes, mut deltas_bytes, mut left) = (0, 0, packets);
        while left > 0 {
            let chunk = Chunk(u16::from_be_bytes(*rest.get(chunks_bytes..)?.first_chunk()?));
            let reported = chunk.packets().min(left);
            deltas_bytes += chunk.deltas_bytes(reported)?;
            // An empty run would let a datagram's worth of chunks through for nothing.
            left -= (reported > 0).then_some(reported)?;
            chunks_bytes += 2;
        }
        let (chunks, rest) = rest.split_at_checked(chunks_bytes)?;
        Some(Self { fixed, chunks, deltas: rest.get(..deltas_bytes)? })
    }

    /// Transport-wide sequence number of the first packet reported.
    pub fn base_sequence(&self) -> u16 {
        u16::from_be_bytes([self.fixed[0], self.fixed[1]])
    }

    /// Number of packets reported, received or not; at most 8192.
    pub fn packets(&self) -> u16 {
        u16::from_be_bytes([self.fixed[2], self.fixed[3]])
    }

    /// Each packet reported with its arrival on the receiver's clock in microseconds (from the reference time, which
    /// wraps after 24 bits of 64 ms: [`TransportFeedback::CLOCK_PERIOD_US`]); `None`: it did not come.
    ///
    /// Deltas add up beyond the wrap, and below zero: a time is good for its difference to others, in this feedback or
    /// modulo the period.
    pub fn arrivals(&self) -> impl Iterator<Item = (u16, Option<i64>)> + use<'a> {
        let chunks = self.chunks.chunks_exact(2).map(|chunk| Chunk(u16::from_be_bytes([chunk[0], chunk[1]])));
        let statuses = chunks.flat_map(|chunk| (0..chunk.packets()).map(move |index| chunk.status(index)));
        let mut arrival_us = i64::from(self.reference_time()) * REFERENCE_US;
        let (mut sequence, mut deltas) = (self.base_sequence(), self.deltas);
        statuses.take(usize::from(self.packets())).map(move |status| {
            let delta = take_delta(status, &mut deltas);
            let reported = (
                sequence,
                delta.map(|delta| {
                    arrival_us += i64::from(delta) * DELTA_US;
                    arrival_us
                }),
            );
            sequence = sequence.wrapping_add(1);
            reported
        })
    }

    /// After this the receiver's clock begins again: 24 bits of 64 ms, about twelve days.
    pub const CLOCK_PERIOD_US: i64 = (1 << 24) * REFERENCE_US;

    fn reference_time(&self) -> u32 {
        u32::from_be_bytes([0, self.fixed[4], self.fixed[5], self.fixed[6]])
    }
}

/// A packet status chunk (sections 3.1.3 and 3.1.4).
#[derive(Clone, Copy)]
struct Chunk(u16);

impl Chunk {
    /// How many packets it has room for.
    fn packets(self) -> u16 {
        match self.0 >> 14 {
            0b10 => 14,
            0b11 => 7,
            _ => self.0 & 0x1fff,
        }
    }

    /// `index` is below [`Chunk::packets`].
    fn status(self, index: u16) -> u16 {
        match self.0 >> 14 {
            0b10 => self.0 >> (13 - index) & 1,
            0b11 => self.0 >> (12 - 2 * index) & 3,
            _ => self.0 >> 13,
        }
    }

    /// Of the deltas of its first `packets` packets; `None` if one has the reserved status.
    fn deltas_bytes(self, packets: u16) -> Option<usize> {
        // A run is all alike; a vector is short.
        let (looked_at, times) = if self.0 >> 15 == 0 { (packets.min(1), packets) } else { (packets, 1) };
        let bytes = (0..looked_at).try_fold(0, |bytes, index| match self.status(index) {
            NOT_RECEIVED => Some(bytes),
            SMALL_DELTA => Some(bytes + 1),
            LARGE_DELTA => Some(bytes + 2),
            _ => None,
        })?;
        Some(bytes * usize::from(times))
    }
}

/// The delta of a packet with this status, taken from the front; there are as many as were promised.
fn take_delta(status: u16, deltas: &mut &[u8]) -> Option<i16> {
    match status {
        SMALL_DELTA => {
            let (delta, rest) = deltas.split_first()?;
            *deltas = rest;
            Some(i16::from(*delta))
        }
        LARGE_DELTA => {
            let (delta, rest) = deltas.split_first_chunk()?;
            *deltas = rest;
            Some(i16::from_be_bytes(*delta))
        }
        _ => None,
    }
}

const FIXED_BYTES: usize = 8;
/// Reported at once. A run-length chunk of two bytes can claim 8191 packets, so that a few bytes would make work for
/// 65535; this is 80 Mb/s for a second, where feedback comes ten times a second.
const PACKETS_MAX: u16 = 8192;
const REFERENCE_US: i64 = 64_000;
const DELTA_US: i64 = 250;
const NOT_RECEIVED: u16 = 0;
const SMALL_DELTA: u16 = 1;
const LARGE_DELTA: u16 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtc_rtcp::packet::marshal;
    use rtc_rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk,
        SymbolSizeTypeTcc, SymbolTypeTcc, TransportLayerCc,
    };
    use rtcp_types::prelude::*;
    use rtcp_types::{Twcc, TwccPacketStatus};

    use super::super::{Feedback, parse_feedback};
    use super::*;

    const NONE: SymbolTypeTcc = SymbolTypeTcc::PacketNotReceived;
    const SMALL: SymbolTypeTcc = SymbolTypeTcc::PacketReceivedSmallDelta;
    const LARGE: SymbolTypeTcc = SymbolTypeTcc::PacketReceivedLargeDelta;

    fn run(status: SymbolTypeTcc, run_length: u16) -> PacketStatusChunk {
        let type_tcc = StatusChunkTypeTcc::RunLengthChunk;
        PacketStatusChunk::RunLengthChunk(RunLengthChunk {
            type_tcc,
            packet_status_symbol: status,
            run_length,
        })
    }

    fn vector(symbol_size: SymbolSizeTypeTcc, symbol_list: Vec<SymbolTypeTcc>) -> PacketStatusChunk {
        let type_tcc = StatusChunkTypeTcc::StatusVectorChunk;
        PacketStatusChunk::StatusVectorChunk(StatusVectorChunk { type_tcc, symbol_size, symbol_list })
    }

    /// As `rtc-rtcp` writes it, with its padding.
    fn written(
        base: u16,
        packets: u16,
        chunks: Vec<PacketStatusChunk>,
        deltas: &[(SymbolTypeTcc, i64)],
    ) -> Vec<u8> {
        let delta = |(type_tcc_packet, delta): &(SymbolTypeTcc, i64)| RecvDelta {
            type_tcc_packet: *type_tcc_packet,
            delta: *delta,
        };
        let feedback = TransportLayerCc {
            sender_ssrc: 1,
            media_ssrc: 2,
            base_sequence_number: base,
            packet_status_count: packets,
            reference_time: 10,
            fb_pkt_count: 3,
            packet_chunks: chunks,
            recv_deltas: deltas.iter().map(delta).collect(),
        };
        marshal(&[Box::new(feedback)]).unwrap().to_vec()
    }

    fn parsed(bytes: &[u8]) -> Option<TransportFeedback<'_>> {
        parse_feedback(bytes).find_map(|feedback| match feedback {
            Feedback::Transport(feedback) => Some(feedback),
            _ => None,
        })
    }

    fn arrivals(bytes: &[u8]) -> Vec<(u16, Option<i64>)> {
        parsed(bytes).map(|feedback| feedback.arrivals().collect()).unwrap_or_default()
    }

    #[test]
    fn runs_and_vectors_give_each_packet_its_arrival() {
        let two_bits = vec![LARGE, NONE, SMALL, NONE, NONE, NONE, NONE];
        let one_bit = [vec![SMALL], vec![NONE; 12], vec![SMALL]].concat();
        let chunks = vec![
            run(SMALL, 2),
            run(NONE, 3),
            vector(SymbolSizeTypeTcc::TwoBit, two_bits),
            vector(SymbolSizeTypeTcc::OneBit, one_bit),
        ];
        let deltas = [(SMALL, 250), (SMALL, 63_750), (LARGE, -1_000), (SMALL, 0), (SMALL, 500), (SMALL, 250)];
        let bytes = written(65_533, 26, chunks, &deltas);
        let came: Vec<_> =
            arrivals(&bytes).into_iter().filter_map(|(seq, at)| Some((seq, at? - 640_000))).collect();
        assert_eq!(
            came,
            [(65_533, 250), (65_534, 64_000), (2, 63_000), (4, 63_000), (9, 63_500), (22, 63_750)]
        );
        assert_eq!(
            parsed(&bytes).map(|feedback| (feedback.base_sequence(), feedback.packets())),
            Some((65_533, 26))
        );
        assert_eq!(arrivals(&bytes).len(), 26);
    }

    #[test]
    fn what_is_cut_is_not_believed_at_all() {
        let bytes = written(0, 9, vec![run(LARGE, 2), run(SMALL, 7)], &{
            let mut deltas = vec![(LARGE, 1_000); 2];
            deltas.extend([(SMALL, 250); 7]);
            deltas
        });
        let control = &bytes[12..];
        let padding = usize::from(control[control.len() - 1]);
        assert_eq!((bytes[0] & 0x20, padding), (0x20, 1));
        let whole = control.len() - padding;
        for len in 0..whole {
            assert_eq!(TransportFeedback::parse(&control[..len]), None, "at {len}");
        }
        assert!(TransportFeedback::parse(&control[..whole]).is_some());
    }

    #[test]
    fn a_reserved_status_and_an_empty_run_are_refused() {
        assert_eq!(
            arrivals(&written(0, 2, vec![run(SymbolTypeTcc::PacketReceivedWithoutDelta, 2)], &[])),
            []
        );
        assert_eq!(arrivals(&written(0, 2, vec![run(NONE, 0), run(NONE, 2)], &[])), []);
        assert_eq!(arrivals(&written(0, 2, vec![run(NONE, 2)], &[])), [(0, None), (1, None)]);
    }

    #[test]
    fn a_few_bytes_cannot_claim_more_than_the_bound() {
        let runs = || vec![run(NONE, 8191), run(NONE, 8191)];
        assert_eq!(arrivals(&written(0, PACKETS_MAX, runs(), &[])).len(), usize::from(PACKETS_MAX));
        assert_eq!(arrivals(&written(0, PACKETS_MAX + 1, runs(), &[])), []);
    }

    proptest! {
        #[test]
        fn what_another_public_implementation_writes_is_what_it_said(
            base: u16,
            reference in 0..1u32 << 24,
            mut statuses in prop::collection::vec(prop_oneof![
                Just(None), (0..256i16).prop_map(Some), any::<i16>().prop_map(Some)
            ], 1..200),
        ) {
            // It ends with a packet that came, as its builder would have it.
            statuses.push(Some(1));
            let list: Vec<_> = statuses.iter().map(|status| match status {
                Some(delta) => TwccPacketStatus::Received { delta: *delta },
                None => TwccPacketStatus::NotReceived,
            }).collect();
            let control = Twcc::builder(base, reference, 0, &list, None);
            let feedback = rtcp_types::TransportFeedback::builder(&control).sender_ssrc(1).media_ssrc(2);
            let mut bytes = vec![0; feedback.calculate_size().unwrap()];
            feedback.write_into_unchecked(&mut bytes);
            let mut at = i64::from(reference) * REFERENCE_US;
            let expected: Vec<_> = (0u16..).zip(&statuses).map(|(index, status)| {
                (base.wrapping_add(index), status.map(|delta| {
                    at += i64::from(delta) * DELTA_US;
                    at
                }))
            }).collect();
            prop_assert_eq!(arrivals(&bytes), expected);
        }

        #[test]
        fn no_bytes_panic(control in prop::collection::vec(any::<u8>(), 0..100), packets in 0..300u16) {
            let mut control = control;
            if let Some(count) = control.get_mut(2..4) {
                count.copy_from_slice(&packets.to_be_bytes());
            }
            if let Some(feedback) = TransportFeedback::parse(&control) {
                prop_assert_eq!(feedback.arrivals().count(), usize::from(packets));
            }
        }
    }
}
