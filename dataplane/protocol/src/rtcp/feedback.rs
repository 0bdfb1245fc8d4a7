//! Feedback of a receiver: report blocks in SR and RR (RFC 3550 section 6.4), NACK (RFC 4585 section 6.2.1), PLI (6.3.1),
//! FIR (RFC 5104 section 4.3.1), REMB (draft-alvestrand-rmcat-remb-03) and transport-wide feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).

use super::ReceptionBlock;

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

/// One transport-wide feedback packet, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportFeedback<'a> {
    packet: &'a [u8],
}

impl Nacked<'_> {
    /// Sequence numbers, at most 17 a pair.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let _ = self.pairs;
        std::iter::empty()
    }
}

impl TransportFeedback<'_> {
    /// Transport-wide sequence number of the first packet reported.
    pub fn base_sequence(&self) -> u16 {
        unimplemented!()
    }

    /// Number of packets reported, received or not.
    pub fn packets(&self) -> u16 {
        let _ = self.packet;
        unimplemented!()
    }

    /// Each packet reported with its arrival on the receiver's clock in microseconds (from the reference time, which
    /// wraps after 24 bits of 64 ms); `None`: it did not come.
    pub fn arrivals(&self) -> impl Iterator<Item = (u16, Option<i64>)> + '_ {
        std::iter::empty()
    }
}

/// Reads a compound packet of a receiver: what concerns a sender, in order. Garbage gives what came before it; nothing
/// is allocated.
pub fn parse_feedback(bytes: &[u8]) -> impl Iterator<Item = Feedback<'_>> {
    let _ = bytes;
    std::iter::empty()
}

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
pub fn write_sender_report(info: &SenderInfo, cname: &str, out: &mut Vec<u8>) {
    let _ = (info, cname, out);
    unimplemented!()
}

/// A goodbye (RFC 3550 section 6.6) behind an empty report, as a compound must have.
pub fn write_bye(ssrc: u32, cname: &str, out: &mut Vec<u8>) {
    let _ = (ssrc, cname, out);
    unimplemented!()
}
