//! Reception statistics of one source (RFC 3550 section 6.4 and appendix A.3, A.8), for receiver reports.

use std::time::Instant;

use super::RtpPacket;

/// Counts what a receiver report tells: extended highest sequence number, loss, interarrival jitter.
#[derive(Debug, Default)]
pub struct Reception {}

impl Reception {
    /// Notes a packet that came at `now`, before any reordering.
    pub fn handle_packet(&mut self, _now: Instant, _clock_rate_hz: u32, _packet: &RtpPacket) {}

    /// Notes a sender report: its NTP timestamp, for LSR and DLSR.
    pub fn handle_sender_report(&mut self, _now: Instant, _ntp: u64) {}

    /// A compound RTCP packet of receiver report and SDES CNAME, from `local_ssrc`; `None` before any packet.
    pub fn receiver_report(&mut self, _now: Instant, _local_ssrc: u32) -> Option<Vec<u8>> {
        None
    }
}
