//! Feedback of a receiver: report blocks in SR and RR (RFC 3550 section 6.4), NACK (RFC 4585 section 6.2.1), PLI (6.3.1),
//! FIR (RFC 5104 section 4.3.1), REMB (draft-alvestrand-rmcat-remb-03) and goodbyes (RFC 3550 section 6.6).
//!
//! What to do about any of it is the sender's business. Transport-wide feedback has its own file.

use super::compound::packets;
use super::{ReceptionBlock, TransportFeedback};

/// One thing that a receiver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback<'a> {
    /// A report block of an SR or RR.
    Report(ReceptionBlock),
    /// Sequence numbers that did not come.
    Nack {
        /// Of which source.
        ssrc: u32,
        /// Which.
        lost: Nacked<'a>,
    },
    /// A picture was lost.
    PictureLoss {
        /// Of which source.
        ssrc: u32,
    },
    /// A random access point is wanted.
    FullIntra {
        /// Of which source.
        ssrc: u32,
        /// Command number: the same one again is the same command.
        command: u8,
    },
    /// The receiver's estimate of the path.
    MaxBitrate {
        /// In bit/s.
        bitrate_bps: u64,
    },
    /// When each packet of the transport came.
    Transport(TransportFeedback<'a>),
    /// The receiver leaves.
    Bye {
        /// Who leaves.
        ssrc: u32,
    },
}

/// The pairs of a NACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nacked<'a> {
    pairs: &'a [u8],
}

impl Nacked<'_> {
    /// Sequence numbers, at most 17 a pair; a datagram has room for about 370 pairs.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.pairs.chunks_exact(PAIR_BYTES).flat_map(|pair| {
            let (first, following) = (u16_at(pair, 0), u16_at(pair, 2));
            let others = (0..16u16).filter(move |bit| following >> bit & 1 == 1);
            std::iter::once(first).chain(others.map(move |bit| first.wrapping_add(bit + 1)))
        })
    }
}

/// Reads a compound packet of a receiver: what concerns a sender, in order. Garbage gives what came before it; nothing
/// is allocated. It may begin with any packet (RFC 5506), and gives at most one item for each four bytes.
///
/// A packet whose counts do not fit its length gives nothing: it is not partially believed.
pub fn parse_feedback(bytes: &[u8]) -> impl Iterator<Item = Feedback<'_>> {
    packets(bytes).flat_map(|packet| items(packet).unwrap_or(Items::One(None)))
}

/// What one packet gives.
enum Items<'a> {
    One(Option<Feedback<'a>>),
    Reports(std::slice::ChunksExact<'a, u8>),
    FullIntra(std::slice::ChunksExact<'a, u8>),
    Leaving(std::slice::ChunksExact<'a, u8>),
}

impl<'a> Iterator for Items<'a> {
    type Item = Feedback<'a>;

    fn next(&mut self) -> Option<Feedback<'a>> {
        match self {
            Self::One(one) => one.take(),
            Self::Reports(blocks) => blocks.next().map(|block| Feedback::Report(reception_block(block))),
            Self::FullIntra(entries) => {
                entries.next().map(|entry| Feedback::FullIntra { ssrc: u32_at(entry, 0), command: entry[4] })
            }
            Self::Leaving(sources) => sources.next().map(|ssrc| Feedback::Bye { ssrc: u32_at(ssrc, 0) }),
        }
    }
}

/// `packet` is whole and has its header, as [`packets`] gives it.
fn items(packet: &[u8]) -> Option<Items<'_>> {
    let count = packet[0] & 0x1f;
    let body = without_padding(packet)?;
    match (packet[1], count) {
        (SENDER_REPORT, _) => reports(body, SENDER_INFO_BYTES, count),
        (RECEIVER_REPORT, _) => reports(body, SSRC_BYTES, count),
        (GOODBYE, _) => {
            body.get(..SSRC_BYTES * usize::from(count)).map(|ssrcs| Items::Leaving(ssrcs.chunks_exact(4)))
        }
        (TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK, format) => {
            let (ssrcs, control) = body.split_at_checked(2 * SSRC_BYTES)?;
            control_information(packet[1], format, u32_at(ssrcs, 4), control)
        }
        _ => None,
    }
}

/// Feedback control information (RFC 4585 section 6.1) on the source `ssrc`.
fn control_information(packet_type: u8, format: u8, ssrc: u32, control: &[u8]) -> Option<Items<'_>> {
    let one = match (packet_type, format) {
        (TRANSPORT_FEEDBACK, NACK) if !control.is_empty() => {
            Feedback::Nack { ssrc, lost: Nacked { pairs: control } }
        }
        (TRANSPORT_FEEDBACK, TRANSPORT_WIDE) => Feedback::Transport(TransportFeedback::parse(control)?),
        (PAYLOAD_FEEDBACK, PICTURE_LOSS) => Feedback::PictureLoss { ssrc },
        (PAYLOAD_FEEDBACK, FULL_INTRA) => {
            return Some(Items::FullIntra(control.chunks_exact(FIR_ENTRY_BYTES)));
        }
        (PAYLOAD_FEEDBACK, APPLICATION) => Feedback::MaxBitrate { bitrate_bps: max_bitrate(control)? },
        _ => return None,
    };
    Some(Items::One(Some(one)))
}

fn reports(body: &[u8], before: usize, count: u8) -> Option<Items<'_>> {
    let blocks = body.get(before..)?.get(..REPORT_BLOCK_BYTES * usize::from(count))?;
    Some(Items::Reports(blocks.chunks_exact(REPORT_BLOCK_BYTES)))
}

fn reception_block(block: &[u8]) -> ReceptionBlock {
    let lost = u32_at(block, 4);
    ReceptionBlock {
        ssrc: u32_at(block, 0),
        fraction_lost: (lost >> 24) as u8,
        // The sign of 24 bits, drawn out to 32.
        cumulative_lost: (lost << 8) as i32 >> 8,
        highest_sequence: u32_at(block, 8),
        jitter: u32_at(block, 12),
        last_sender_report: u32_at(block, 16),
        delay_since_last_sender_report: u32_at(block, 20),
    }
}

/// REMB section 2.2: name, number of SSRCs, six bits of exponent, eighteen of mantissa. `None` for what does not fit into
/// 64 bits, as for other application-layer feedback.
fn max_bitrate(control: &[u8]) -> Option<u64> {
    let (fixed, ssrcs) = control.split_first_chunk::<8>()?;
    let value = u32_at(fixed, 4);
    let (count, exponent, mantissa) = (value >> 24, value >> 18 & 0x3f, u64::from(value & 0x3_ffff));
    let fits = mantissa.leading_zeros() >= exponent && ssrcs.len() >= SSRC_BYTES * count as usize;
    (&fixed[..4] == b"REMB" && fits).then(|| mantissa << exponent)
}

/// What is between the header and the padding, whose length is its last byte (RFC 3550 section 6.4.1).
fn without_padding(packet: &[u8]) -> Option<&[u8]> {
    let body = &packet[HEADER_BYTES..];
    if packet[0] & 0x20 == 0 {
        return Some(body);
    }
    let padding = usize::from(*body.last()?);
    (padding > 0).then(|| body.get(..body.len().checked_sub(padding)?))?
}

/// The callers have checked that it is there.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The callers have checked that it is there.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

const HEADER_BYTES: usize = 4;
const SSRC_BYTES: usize = 4;
/// SSRC, NTP and RTP timestamps, packets, octets.
const SENDER_INFO_BYTES: usize = 24;
const REPORT_BLOCK_BYTES: usize = 24;
const PAIR_BYTES: usize = 4;
const FIR_ENTRY_BYTES: usize = 8;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
/// Formats of transport feedback.
const NACK: u8 = 1;
const TRANSPORT_WIDE: u8 = 15;
/// Formats of payload-specific feedback.
const PICTURE_LOSS: u8 = 1;
const FULL_INTRA: u8 = 4;
const APPLICATION: u8 = 15;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtc_rtcp::Packet;
    use rtc_rtcp::goodbye::Goodbye;
    use rtc_rtcp::packet::marshal;
    use rtc_rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
    use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
    use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
    use rtc_rtcp::receiver_report::ReceiverReport;
    use rtc_rtcp::reception_report::ReceptionReport;
    use rtc_rtcp::sender_report::SenderReport;
    use rtc_rtcp::transport_feedbacks::transport_layer_nack::{
        TransportLayerNack, nack_pairs_from_sequence_numbers,
    };

    use super::*;

    const VIEWER: u32 = 1;
    const MEDIA: u32 = 0xa1a2_a3a4;
    const BLOCK: ReceptionBlock = ReceptionBlock {
        ssrc: MEDIA,
        fraction_lost: 0x40,
        cumulative_lost: -2,
        highest_sequence: 0x0001_0203,
        jitter: 0x2122_2324,
        last_sender_report: 0x3132_3334,
        delay_since_last_sender_report: 0x4142_4344,
    };

    fn report() -> ReceptionReport {
        ReceptionReport {
            ssrc: MEDIA,
            fraction_lost: 0x40,
            total_lost: 0xff_fffe,
            last_sequence_number: 0x0001_0203,
            jitter: 0x2122_2324,
            last_sender_report: 0x3132_3334,
            delay: 0x4142_4344,
        }
    }

    fn receiver_report() -> Box<dyn Packet> {
        Box::new(ReceiverReport { ssrc: VIEWER, reports: vec![report()], ..Default::default() })
    }

    fn nack(sequences: &[u16]) -> Box<dyn Packet> {
        let nacks = nack_pairs_from_sequence_numbers(sequences);
        Box::new(TransportLayerNack { sender_ssrc: VIEWER, media_ssrc: MEDIA, nacks })
    }

    fn picture_loss() -> Box<dyn Packet> {
        Box::new(PictureLossIndication { sender_ssrc: VIEWER, media_ssrc: MEDIA })
    }

    fn written(packets: &[Box<dyn Packet>]) -> Vec<u8> {
        marshal(packets).unwrap().to_vec()
    }

    fn parsed(bytes: &[u8]) -> Vec<Feedback<'_>> {
        parse_feedback(bytes).collect()
    }

    #[test]
    fn a_compound_gives_its_feedback_in_order() {
        let bytes = written(&[
            receiver_report(),
            nack(&[7]),
            picture_loss(),
            Box::new(Goodbye { sources: vec![VIEWER, 9], reason: "enough".into() }),
        ]);
        let [Feedback::Report(block), Feedback::Nack { ssrc: MEDIA, lost }, rest @ ..] = &parsed(&bytes)[..]
        else {
            panic!("{:?}", parsed(&bytes))
        };
        assert_eq!((*block, lost.iter().collect::<Vec<_>>()), (BLOCK, vec![7]));
        let bye = |ssrc| Feedback::Bye { ssrc };
        assert_eq!(rest, [Feedback::PictureLoss { ssrc: MEDIA }, bye(VIEWER), bye(9)]);
    }

    #[test]
    fn report_blocks_may_sit_in_a_sender_report() {
        let blocks = vec![report(), ReceptionReport { ssrc: 5, ..report() }];
        let bytes =
            written(&[Box::new(SenderReport { ssrc: VIEWER, reports: blocks, ..Default::default() })]);
        let other = ReceptionBlock { ssrc: 5, ..BLOCK };
        assert_eq!(parsed(&bytes), [Feedback::Report(BLOCK), Feedback::Report(other)]);
    }

    #[test]
    fn a_nack_gives_each_number_also_over_the_wrap() {
        let lost = [65_534, 65_535, 0, 14, 100, 3_000, 3_016, 3_017];
        let bytes = written(&[nack(&lost)]);
        let [Feedback::Nack { lost: nacked, .. }] = parsed(&bytes)[..] else { panic!("one nack") };
        assert_eq!(nacked.iter().collect::<Vec<_>>(), lost);
    }

    #[test]
    fn a_full_intra_request_may_be_for_several_sources() {
        let fir = [(MEDIA, 7), (9, 255)].map(|(ssrc, sequence_number)| FirEntry { ssrc, sequence_number });
        let request = FullIntraRequest { sender_ssrc: VIEWER, media_ssrc: 0, fir: fir.to_vec() };
        let expected = [(MEDIA, 7), (9, 255)].map(|(ssrc, command)| Feedback::FullIntra { ssrc, command });
        assert_eq!(parsed(&written(&[Box::new(request)])), expected);
    }

    #[test]
    fn a_maximum_bitrate_is_that_of_the_receiver() {
        for bitrate in [0.0, 1.0, 300_000.0, 8_927_168.0, 262_143.0 * 1024.0] {
            let remb =
                ReceiverEstimatedMaximumBitrate { sender_ssrc: VIEWER, bitrate, ssrcs: vec![MEDIA, 9] };
            let expected = [Feedback::MaxBitrate { bitrate_bps: bitrate as u64 }];
            assert_eq!(parsed(&written(&[Box::new(remb)])), expected);
        }
    }

    /// REMB of one SSRC with these last three bytes of the first word after the name.
    fn remb(ssrcs: u8, bitrate: [u8; 3]) -> Vec<u8> {
        let mut bytes = vec![0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0];
        bytes.extend(*b"REMB");
        bytes.push(ssrcs);
        bytes.extend(bitrate);
        bytes.extend(MEDIA.to_be_bytes());
        bytes
    }

    #[test]
    fn a_maximum_bitrate_over_64_bits_is_none() {
        let bitrate = |exponent: u8, top: u8| parsed(&remb(1, [exponent << 2 | top, 0, 0])).len();
        assert_eq!(parsed(&remb(1, [46 << 2 | 2, 0, 0])), [Feedback::MaxBitrate { bitrate_bps: 1 << 63 }]);
        assert_eq!((bitrate(46, 2), bitrate(47, 2), bitrate(63, 3)), (1, 0, 0));
        assert_eq!(parsed(&remb(2, [0, 0, 1])), [], "an SSRC is missing");
    }

    #[test]
    fn reduced_size_packets_are_read() {
        assert_eq!(parsed(&written(&[picture_loss()])), [Feedback::PictureLoss { ssrc: MEDIA }]);
    }

    #[test]
    fn padding_is_no_feedback() {
        // One pair, then a word of padding.
        let padded = |last| [0xa1, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 5, 0, 1, 0, 0, 0, last];
        let numbers = |bytes: &[u8]| match parsed(bytes)[..] {
            [Feedback::Nack { ssrc: 2, lost }] => lost.iter().collect::<Vec<_>>(),
            _ => vec![],
        };
        assert_eq!(numbers(&padded(4)), [5, 6]);
        for impossible in [0, 9, 17, 255] {
            assert_eq!(numbers(&padded(impossible)), [0u16; 0], "{impossible}");
        }
    }

    #[test]
    fn a_packet_cut_anywhere_gives_what_came_before() {
        let packets = [receiver_report(), nack(&[1, 2, 3]), picture_loss()];
        let whole = written(&packets);
        let all = parsed(&whole);
        let ends = [32, 48, 60];
        for len in 0..whole.len() {
            let count = ends.iter().filter(|end| **end <= len).count();
            assert_eq!(parsed(&whole[..len]), all[..count], "at {len}");
        }
    }

    #[test]
    fn counts_that_do_not_fit_the_length_are_refused() {
        for mut packet in [receiver_report(), Box::new(Goodbye { sources: vec![1], ..Default::default() })]
            .map(|packet| written(&[packet]))
        {
            packet[0] |= 31;
            assert_eq!(parsed(&packet), []);
        }
    }

    #[test]
    fn what_is_not_feedback_gives_nothing() {
        let short = [0x81, 206, 0, 1, 0, 0, 0, 1];
        let unknown = [0x9e, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        let empty_nack = [0x81, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        assert_eq!(parsed(&[&short[..], &unknown, &empty_nack].concat()), []);
        assert_eq!(parsed(&[]), []);
    }

    proptest! {
        #[test]
        fn no_bytes_that_look_like_rtcp_panic_and_the_items_are_bounded(
            packets in prop::collection::vec(
                (0x80..=0xbfu8, 199..208u8, prop::collection::vec(any::<u8>(), 0..96)), 0..8),
            cut in 0..600usize,
        ) {
            let mut bytes = Vec::new();
            for (first, packet_type, mut body) in packets {
                body.resize(body.len().next_multiple_of(4), 0);
                bytes.extend([first, packet_type, 0, (body.len() / 4) as u8]);
                bytes.extend(body);
            }
            bytes.truncate(cut);
            let items = parsed(&bytes);
            prop_assert!(items.len() <= bytes.len() / 4);
            for item in items {
                match item {
                    Feedback::Nack { lost, .. } => prop_assert!(lost.iter().count() <= bytes.len() / 4 * 17),
                    Feedback::Transport(feedback) => {
                        prop_assert_eq!(feedback.arrivals().count(), usize::from(feedback.packets()));
                    }
                    _ => {}
                }
            }
        }

        #[test]
        fn what_a_public_implementation_writes_is_what_it_said(sequences in prop::collection::btree_set(any::<u16>(), 1..100)) {
            let sequences: Vec<_> = sequences.into_iter().collect();
            let bytes = written(&[receiver_report(), nack(&sequences)]);
            let [Feedback::Report(BLOCK), Feedback::Nack { lost, .. }] = parsed(&bytes)[..] else { panic!("two") };
            prop_assert_eq!(lost.iter().collect::<Vec<_>>(), sequences);
        }
    }
}
