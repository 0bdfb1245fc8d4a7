//! Writes receiver reports (RFC 3550 section 6.4.2), each with the SDES CNAME that a compound must have (6.1).

use rtcp_types::prelude::*;
use rtcp_types::{CompoundBuilder, ReceiverReport, ReportBlock, Sdes, SdesChunk, SdesItem};

/// The reception of one source (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceptionBlock {
    /// The source.
    pub ssrc: u32,
    /// Lost since the report before, in 1/256 of what was expected.
    pub fraction_lost: u8,
    /// Lost since the start; 24 bits with sign on the wire.
    pub cumulative_lost: i32,
    /// Highest sequence number, its cycles in the upper half.
    pub highest_sequence: u32,
    /// Interarrival jitter, in units of the clock rate.
    pub jitter: u32,
    /// The middle 32 bits of the last sender report's NTP timestamp; 0 before one came.
    pub last_sender_report: u32,
    /// Time since it came, in 1/65536 s; 0 before one came.
    pub delay_since_last_sender_report: u32,
}

/// The compound packet of receiver report and CNAME, from `local_ssrc`.
pub fn receiver_report(local_ssrc: u32, block: &ReceptionBlock) -> Vec<u8> {
    let block = ReportBlock::builder(block.ssrc)
        .fraction_lost(block.fraction_lost)
        .cumulative_lost(block.cumulative_lost as u32 & 0xff_ffff)
        .extended_sequence_number(block.highest_sequence)
        .interarrival_jitter(block.jitter)
        .last_sender_report_timestamp(block.last_sender_report)
        .delay_since_last_sender_report_timestamp(block.delay_since_last_sender_report);
    // Random for each session, as RFC 7022 section 4.2 would have it: it says nothing of who we are.
    let cname = format!("{local_ssrc:08x}@lanecast");
    let chunk = SdesChunk::builder(local_ssrc).add_item(SdesItem::builder(SdesItem::CNAME, &cname));
    let compound = CompoundBuilder::default()
        .add_packet(ReceiverReport::builder(local_ssrc).add_report_block(block))
        .add_packet(Sdes::builder().add_chunk(chunk));
    let len = compound.calculate_size().expect("one block, a loss of 24 bits and a short name fit");
    let mut bytes = vec![0; len];
    compound.write_into_unchecked(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_rfc() {
        let block = ReceptionBlock {
            ssrc: 0x1112_1314,
            fraction_lost: 0x40,
            cumulative_lost: -2,
            highest_sequence: 0x0001_0203,
            jitter: 0x2122_2324,
            last_sender_report: 0x3132_3334,
            delay_since_last_sender_report: 0x4142_4344,
        };
        let mut expected = vec![0x81, 201, 0, 7, 0xa1, 0xa2, 0xa3, 0xa4];
        expected.extend([0x11, 0x12, 0x13, 0x14, 0x40, 0xff, 0xff, 0xfe, 0, 1, 2, 3]);
        expected.extend([0x21, 0x22, 0x23, 0x24, 0x31, 0x32, 0x33, 0x34, 0x41, 0x42, 0x43, 0x44]);
        // Two bytes of item header, 17 of name, at least one zero, up to a word's end.
        expected.extend([0x81, 202, 0, 6, 0xa1, 0xa2, 0xa3, 0xa4, 1, 17]);
        expected.extend(*b"a1a2a3a4@lanecast\0");
        assert_eq!(receiver_report(0xa1a2_a3a4, &block), expected);
    }
}
