//! Writes what a sender says: sender reports (RFC 3550 section 6.4.1) and goodbyes (6.6), each a compound with the SDES
//! CNAME (6.5.1), into a buffer that is used again and again.

/// What a sender report says (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// The source.
    pub ssrc: u32,
    /// NTP timestamp, 32.32 fixed point, seconds since 1900.
    pub ntp: u64,
    /// The RTP timestamp of the same instant.
    pub rtp_timestamp: u32,
    /// Packets sent, modulo 2^32.
    pub packets: u32,
    /// Payload bytes sent, modulo 2^32.
    pub octets: u32,
}

/// The compound packet of sender report and CNAME; `out` is cleared first, so that nothing is allocated in the long run.
/// Of a CNAME over 255 bytes the first 255 count.
pub fn write_sender_report(info: &SenderInfo, cname: &str, out: &mut Vec<u8>) {
    out.clear();
    header(0, SENDER_REPORT, 6, out);
    out.extend(info.ssrc.to_be_bytes());
    out.extend(info.ntp.to_be_bytes());
    for word in [info.rtp_timestamp, info.packets, info.octets] {
        out.extend(word.to_be_bytes());
    }
    description(info.ssrc, cname, out);
}

/// A goodbye (RFC 3550 section 6.6) behind an empty report, as a compound must have; `out` is cleared first.
/// Of a CNAME over 255 bytes the first 255 count.
pub fn write_bye(ssrc: u32, cname: &str, out: &mut Vec<u8>) {
    out.clear();
    header(0, RECEIVER_REPORT, 1, out);
    out.extend(ssrc.to_be_bytes());
    description(ssrc, cname, out);
    header(1, GOODBYE, 1, out);
    out.extend(ssrc.to_be_bytes());
}

/// One SDES chunk with one item, ended by at least one zero, up to the end of a word.
fn description(ssrc: u32, cname: &str, out: &mut Vec<u8>) {
    let name = cname.as_bytes();
    let name = &name[..name.len().min(ITEM_BYTES_MAX)];
    // SSRC, type and length of the item, the item, its end.
    let chunk_bytes = (4 + 2 + name.len() + 1).next_multiple_of(4);
    let end = out.len() + 4 + chunk_bytes;
    header(1, SOURCE_DESCRIPTION, (chunk_bytes / 4) as u16, out);
    out.extend(ssrc.to_be_bytes());
    out.extend([CNAME, name.len() as u8]);
    out.extend(name);
    out.resize(end, 0);
}

/// `words` of four bytes follow it.
fn header(count: u8, packet_type: u8, words: u16, out: &mut Vec<u8>) {
    out.extend([0x80 | count, packet_type]);
    out.extend(words.to_be_bytes());
}

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const CNAME: u8 = 1;
/// Its length is a byte.
const ITEM_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use rtc_rtcp::packet::unmarshal;
    use rtc_rtcp::sender_report::SenderReport;
    use rtcp_types::prelude::*;
    use rtcp_types::{Bye, CompoundBuilder, ReceiverReport, Sdes, SdesBuilder, SdesChunk, SdesItem};

    use super::*;

    const INFO: SenderInfo =
        SenderInfo { ssrc: 0xa1a2_a3a4, ntp: 0xe3b5_0000_8000_0001, rtp_timestamp: 7, packets: 8, octets: 9 };

    fn description_of(name: &str) -> SdesBuilder<'_> {
        let item = SdesItem::builder(SdesItem::CNAME, name);
        Sdes::builder().add_chunk(SdesChunk::builder(INFO.ssrc).add_item(item))
    }

    /// What a public implementation writes.
    fn written(packet: &CompoundBuilder<'_>) -> Vec<u8> {
        let mut bytes = vec![0; packet.calculate_size().unwrap()];
        packet.write_into_unchecked(&mut bytes);
        bytes
    }

    #[test]
    fn a_sender_report_is_that_of_a_public_implementation() {
        let mut out = vec![0xff; 3];
        for name in ["l", "la", "lan", "lane", "lanecast"] {
            write_sender_report(&INFO, name, &mut out);
            let report = rtcp_types::SenderReport::builder(INFO.ssrc)
                .ntp_timestamp(INFO.ntp)
                .rtp_timestamp(INFO.rtp_timestamp)
                .packet_count(INFO.packets)
                .octet_count(INFO.octets);
            let expected = CompoundBuilder::default().add_packet(report).add_packet(description_of(name));
            assert_eq!(out, written(&expected), "{name}");
        }
    }

    #[test]
    fn another_public_implementation_reads_it() {
        let mut out = vec![];
        write_sender_report(&INFO, "lanecast", &mut out);
        let packets = unmarshal(&mut &out[..]).unwrap();
        let report = packets[0].as_any().downcast_ref::<SenderReport>().unwrap();
        assert_eq!(
            (report.ssrc, report.ntp_time, report.rtp_time),
            (INFO.ssrc, INFO.ntp, INFO.rtp_timestamp)
        );
        assert_eq!((report.packet_count, report.octet_count, packets.len()), (INFO.packets, INFO.octets, 2));
    }

    #[test]
    fn a_goodbye_is_that_of_a_public_implementation() {
        let mut out = vec![0xff; 3];
        write_bye(INFO.ssrc, "lanecast", &mut out);
        let expected = CompoundBuilder::default()
            .add_packet(ReceiverReport::builder(INFO.ssrc))
            .add_packet(description_of("lanecast"))
            .add_packet(Bye::builder().add_source(INFO.ssrc));
        assert_eq!(out, written(&expected));
        assert_eq!(unmarshal(&mut &out[..]).unwrap().len(), 3);
    }

    #[test]
    fn a_name_too_long_is_cut_and_an_empty_one_is_written() {
        let (mut out, mut cut) = (vec![], vec![]);
        write_sender_report(&INFO, &"n".repeat(300), &mut out);
        write_sender_report(&INFO, &"n".repeat(255), &mut cut);
        assert_eq!(out, cut);
        assert_eq!(unmarshal(&mut &out[..]).unwrap().len(), 2);
        write_sender_report(&INFO, "", &mut out);
        assert_eq!(unmarshal(&mut &out[..]).unwrap().len(), 2);
    }

    #[test]
    fn a_buffer_that_is_used_again_does_not_grow() {
        let mut out = vec![];
        write_sender_report(&INFO, "lanecast", &mut out);
        let capacity = out.capacity();
        write_sender_report(&INFO, "lanecast", &mut out);
        assert_eq!(out.capacity(), capacity);
    }
}
