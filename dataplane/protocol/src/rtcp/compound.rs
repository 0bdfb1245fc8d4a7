//! Reads compound packets (RFC 3550 section 6.1): sender reports (6.4.1) and goodbyes (6.6).

use rtcp_types::prelude::*;
use rtcp_types::{Bye, SenderReport as SenderReportPacket};

/// What a sender report says of time (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// Who sends it.
    pub ssrc: u32,
    /// NTP timestamp, 32.32 fixed point, seconds since 1900.
    pub ntp: u64,
    /// The RTP timestamp of the same instant.
    pub rtp_timestamp: u32,
}

/// What of a compound packet concerns a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A sender report.
    SenderReport(SenderReport),
    /// The source leaves.
    Bye {
        /// Who leaves.
        ssrc: u32,
    },
}

/// Reads a compound packet: what concerns us, in order. Garbage gives what came before it.
///
/// It gives at most one item for each four bytes, and allocates nothing.
pub fn parse_compound(bytes: &[u8]) -> impl Iterator<Item = Received> {
    packets(bytes).flat_map(|packet| {
        let report = SenderReportPacket::parse(packet).ok().map(|report| {
            Received::SenderReport(SenderReport {
                ssrc: report.ssrc(),
                ntp: report.ntp_timestamp(),
                rtp_timestamp: report.rtp_timestamp(),
            })
        });
        // A goodbye that was read has its sources right behind the four bytes of its header.
        let leaving = Bye::parse(packet).map_or(&[][..], |bye| &packet[4..4 + 4 * usize::from(bye.count())]);
        let byes = leaving.chunks_exact(4).map(|ssrc| Received::Bye { ssrc: u32_of(ssrc) });
        report.into_iter().chain(byes)
    })
}

/// The packets of a compound, each with its header, as far as their lengths fit.
pub(super) fn packets(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<4>()?;
        if header[0] >> 6 != 2 {
            return None;
        }
        let len = 4 * (usize::from(u16::from_be_bytes([header[2], header[3]])) + 1);
        let (packet, behind) = rest.split_at_checked(len)?;
        rest = behind;
        Some(packet)
    })
}

fn u32_of(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtcp_types::{CompoundBuilder, ReceiverReport, Sdes, SdesChunk, SdesItem};

    use super::*;

    const REPORT: SenderReport =
        SenderReport { ssrc: 0x0102_0304, ntp: 0xe3b5_0000_8000_0000, rtp_timestamp: 0x0a0b_0c0d };

    /// SR, SDES, BYE of two sources, as a camera sends them at its end.
    fn whole() -> Vec<u8> {
        let cname = SdesItem::builder(SdesItem::CNAME, "camera");
        let compound = CompoundBuilder::default()
            .add_packet(
                SenderReportPacket::builder(REPORT.ssrc)
                    .ntp_timestamp(REPORT.ntp)
                    .rtp_timestamp(REPORT.rtp_timestamp),
            )
            .add_packet(Sdes::builder().add_chunk(SdesChunk::builder(REPORT.ssrc).add_item(cname)))
            .add_packet(Bye::builder().add_source(REPORT.ssrc).add_source(9).reason("switched off"));
        written(&compound)
    }

    fn written(packet: &dyn RtcpPacketWriter) -> Vec<u8> {
        let mut bytes = vec![0; packet.calculate_size().unwrap()];
        let len = packet.write_into_unchecked(&mut bytes);
        assert_eq!(len, bytes.len());
        bytes
    }

    fn parsed(bytes: &[u8]) -> Vec<Received> {
        parse_compound(bytes).collect()
    }

    #[test]
    fn sender_reports_and_goodbyes_come_in_order() {
        assert_eq!(
            parsed(&whole()),
            [Received::SenderReport(REPORT), Received::Bye { ssrc: REPORT.ssrc }, Received::Bye { ssrc: 9 }]
        );
    }

    #[test]
    fn a_packet_cut_anywhere_gives_what_came_before() {
        let whole = whole();
        let report_len = 28;
        for len in 0..whole.len() {
            let expected: &[_] = if len < report_len { &[] } else { &[Received::SenderReport(REPORT)] };
            assert_eq!(parsed(&whole[..len]), expected, "at {len}");
        }
    }

    #[test]
    fn garbage_behind_a_report_is_left_alone() {
        let mut bytes = whole();
        bytes.truncate(28);
        bytes.extend([0xff; 64]);
        assert_eq!(parsed(&bytes), [Received::SenderReport(REPORT)]);
    }

    #[test]
    fn a_report_alone_is_read_though_no_compound() {
        assert_eq!(parsed(&whole()[..28]), [Received::SenderReport(REPORT)]);
    }

    #[test]
    fn what_does_not_concern_us_gives_nothing() {
        assert_eq!(parsed(&written(&ReceiverReport::builder(1))), []);
        assert_eq!(parsed(&written(&Bye::builder())), []);
        assert_eq!(parsed(&[]), []);
    }

    #[test]
    fn counts_that_do_not_fit_the_length_are_refused() {
        let mut goodbye = written(&Bye::builder().add_source(1));
        goodbye[0] |= 31;
        assert_eq!(parsed(&goodbye), []);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_the_items_are_bounded(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parsed(&bytes).len() <= bytes.len() / 4);
        }

        #[test]
        fn no_bytes_that_look_like_rtcp_panic(
            packets in prop::collection::vec(
                (0x80..=0xbfu8, 198..208u8, prop::collection::vec(any::<u8>(), 0..64)), 0..8),
            cut in 0..300usize,
        ) {
            let mut bytes = Vec::new();
            for (first, packet_type, mut body) in packets {
                body.resize(body.len().next_multiple_of(4), 0);
                bytes.extend([first, packet_type, 0, (body.len() / 4) as u8]);
                bytes.extend(body);
            }
            bytes.truncate(cut);
            prop_assert!(parsed(&bytes).len() <= bytes.len() / 4);
        }
    }
}
