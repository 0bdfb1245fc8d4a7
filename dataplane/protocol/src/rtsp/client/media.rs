//! The video track's packets and reports, whichever transport they came over.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::SplitMix64;
use super::ClientStatistics;
use crate::rtcp::Received;
use crate::rtp::{Ordered, PayloadTypes, Reception, ReorderBuffer, RtpPacket};

/// The receiving end of one track.
#[derive(Debug)]
pub(super) struct Media {
    payload_types: PayloadTypes,
    clock_rate_hz: u32,
    local_ssrc: u32,
    /// The newest packet's: it may change mid-stream.
    ssrc: Option<u32>,
    last_packet_at: Option<Instant>,
    reorder: ReorderBuffer,
    reception: Reception,
    next_report_at: Instant,
    random: SplitMix64,
}

impl Media {
    pub(super) fn new(
        now: Instant,
        payload_types: PayloadTypes,
        clock_rate_hz: u32,
        reordering: bool,
        seed: u64,
    ) -> Self {
        let mut random = SplitMix64::new(seed);
        let local_ssrc = random.next_u32();
        let depth = if reordering { REORDER_DEPTH } else { 0 };
        let mut media = Self {
            payload_types,
            clock_rate_hz,
            local_ssrc,
            ssrc: None,
            last_packet_at: None,
            reorder: ReorderBuffer::new(depth, REORDER_HOLD),
            reception: Reception::default(),
            next_report_at: now,
            random,
        };
        media.plan_report(now);
        media
    }

    /// Takes a packet; false if it was of no use so far.
    pub(super) fn handle_rtp(
        &mut self,
        now: Instant,
        datagram: Bytes,
        counters: &mut ClientStatistics,
    ) -> bool {
        let Ok(packet) = RtpPacket::parse(datagram) else {
            counters.dropped += 1;
            return false;
        };
        let taken = self.payload_types.handle_packet(packet, &mut counters.dropped);
        let is_of_use = !taken.is_empty();
        for packet in taken {
            counters.packets += 1;
            self.last_packet_at = Some(now);
            self.ssrc = Some(packet.ssrc);
            self.reception.handle_packet(now, self.clock_rate_hz, &packet);
            self.reorder.handle_packet(now, packet);
        }
        is_of_use
    }

    /// The next packet in order.
    pub(super) fn poll_packet(&mut self, now: Instant, counters: &mut ClientStatistics) -> Option<Ordered> {
        let ordered = self.reorder.poll_packet(now)?;
        counters.lost += u64::from(ordered.lost_before);
        Some(ordered)
    }

    /// Notes what a report of the camera says. True if the video's source leaves.
    pub(super) fn handle_rtcp(&mut self, now: Instant, received: &Received) -> bool {
        match received {
            Received::SenderReport(report) => {
                self.reception.handle_sender_report(now, report.ntp);
                false
            }
            Received::Bye { ssrc } => self.ssrc == Some(*ssrc),
        }
    }

    /// A receiver report, if one is due.
    pub(super) fn poll_report(&mut self, now: Instant) -> Option<Bytes> {
        if now < self.next_report_at {
            return None;
        }
        self.plan_report(now);
        self.reception.receiver_report(now, self.local_ssrc).map(Bytes::from)
    }

    /// RFC 3550 section 6.2: half to one and a half of the interval.
    fn plan_report(&mut self, now: Instant) {
        let jitter = self.random.below(REPORT_INTERVAL.as_millis() as u64);
        self.next_report_at = now + REPORT_INTERVAL / 2 + Duration::from_millis(jitter);
    }

    /// What opens a firewall for RTP: a packet without payload, of a payload type that no video has.
    pub(super) fn opening_rtp(&self) -> Bytes {
        let header = crate::rtp::Header {
            marker: false,
            payload_type: 0,
            seq: 0,
            rtp_timestamp: 0,
            ssrc: self.local_ssrc,
        };
        Bytes::copy_from_slice(&header.to_bytes())
    }

    /// What opens a firewall for RTCP: a receiver report about nobody (RFC 3550 section 6.4.2).
    pub(super) fn opening_rtcp(&self) -> Bytes {
        let mut report = vec![0x80, 201, 0, 1];
        report.extend_from_slice(&self.local_ssrc.to_be_bytes());
        Bytes::from(report)
    }

    pub(super) fn last_packet_at(&self) -> Option<Instant> {
        self.last_packet_at
    }

    /// When to poll for packets and reports again though nothing came.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.poll_hole_timeout().map_or(self.next_report_at, |hole| hole.min(self.next_report_at))
    }

    /// When to poll for packets again though nothing came.
    pub(super) fn poll_hole_timeout(&self) -> Option<Instant> {
        self.reorder.poll_timeout()
    }
}

/// Some cameras swap the channels, or send both over one: what it is, its second byte tells (RFC 5761 section 4).
pub(super) fn is_rtcp(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|byte| (192..=223).contains(byte))
}

/// RFC 3550 section 5.1.
const RTP_HEADER_LEN: usize = 12;
/// RTP of version 2 and this payload type.
pub(super) fn is_rtp_of(packet: &[u8], payload_type: u8) -> bool {
    matches!(packet, [first, second, ..] if first >> 6 == 2 && second & 0x7f == payload_type)
        && packet.len() > RTP_HEADER_LEN
        && !is_rtcp(packet)
}

/// RFC 3550 section 6.2.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Over UDP: how long a hole may hold back what came behind it. Reordering in a local network is a matter of
/// milliseconds; a viewer should not wait longer for a packet that is lost.
const REORDER_HOLD: Duration = Duration::from_millis(100);
/// Over UDP: what may come behind a hole within the hold at 12 Mb/s in 1200-byte packets.
const REORDER_DEPTH: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload_type: u8) -> Bytes {
        let header = crate::rtp::Header { marker: true, payload_type, seq: 1, rtp_timestamp: 2, ssrc: 3 };
        Bytes::copy_from_slice(&header.to_bytes())
    }

    #[test]
    fn takes_its_payload_type_and_counts_the_rest_as_dropped() {
        let now = Instant::now();
        let mut media = Media::new(now, PayloadTypes::new(96, true), 90_000, false, 1);
        let mut counters = ClientStatistics::default();
        assert!(media.handle_rtp(now, packet(96), &mut counters));
        assert!(!media.handle_rtp(now, packet(97), &mut counters));
        assert!(!media.handle_rtp(now, Bytes::from_static(b"\x80"), &mut counters));
        assert_eq!((counters.packets, counters.dropped), (1, 2));
        assert_eq!(media.last_packet_at(), Some(now));
    }

    #[test]
    fn believes_a_bye_of_its_own_source_only() {
        let now = Instant::now();
        let mut media = Media::new(now, PayloadTypes::new(96, true), 90_000, false, 1);
        assert!(!media.handle_rtcp(now, &Received::Bye { ssrc: 3 }));
        media.handle_rtp(now, packet(96), &mut ClientStatistics::default());
        assert!(!media.handle_rtcp(now, &Received::Bye { ssrc: 4 }));
        assert!(media.handle_rtcp(now, &Received::Bye { ssrc: 3 }));
    }

    #[test]
    fn plans_reports_about_every_five_seconds_by_its_seed() {
        let now = Instant::now();
        let planned = |seed| {
            let mut media = Media::new(now, PayloadTypes::new(96, true), 90_000, false, seed);
            let mut at = now;
            let mut pauses = Vec::new();
            for _ in 0..20 {
                let due = media.poll_timeout();
                pauses.push(due - at);
                at = due;
                media.poll_report(at);
            }
            pauses
        };
        assert_eq!(planned(1), planned(1));
        assert_ne!(planned(1), planned(2));
        let range = Duration::from_millis(2500)..Duration::from_millis(7500);
        assert!(planned(3).iter().all(|pause| range.contains(pause)));
    }

    #[test]
    fn tells_rtcp_from_rtp() {
        assert!(is_rtcp(&[0x80, 200]) && is_rtcp(&[0x81, 203]));
        assert!(!is_rtcp(&[0x80, 96]) && !is_rtcp(&[0x80, 0x80 | 96]) && !is_rtcp(&[]));
    }
}
