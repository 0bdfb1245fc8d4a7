//! Reception statistics of one source (RFC 3550 section 6.4 and appendix A.3, A.8), for receiver reports.
//!
//! When a report is due, and over which socket it goes, is the business of [`crate::rtsp::Client`].

use std::time::Instant;

use super::RtpPacket;
use super::sequence::{Arrival, Sequence};
use crate::rtcp::{ReceptionBlock, receiver_report};

/// Counts what a receiver report tells: extended highest sequence number, loss, interarrival jitter.
#[derive(Debug)]
pub struct Reception {
    sequence: Sequence,
    source: Option<Source>,
}

impl Default for Reception {
    fn default() -> Self {
        Self { sequence: Sequence::new(0), source: None }
    }
}

/// Counters of one run of one source.
#[derive(Clone, Debug)]
struct Source {
    first: u64,
    highest: u64,
    received: u64,
    /// Expected and received at the report before, for the fraction lost.
    prior: (u64, u64),
    jitter: Jitter,
    sender_report: Option<LastSenderReport>,
}

#[derive(Clone, Copy, Debug)]
struct LastSenderReport {
    arrived: Instant,
    /// The middle 32 bits of its NTP timestamp.
    ntp_middle: u32,
}

impl Reception {
    /// Notes a packet that came at `now`, before any reordering.
    pub fn handle_packet(&mut self, now: Instant, clock_rate_hz: u32, packet: &RtpPacket) {
        match self.sequence.handle_packet(packet.ssrc, packet.seq) {
            Arrival::First(extended) => self.source = Some(Source::new(extended, 0)),
            // The packet before this one was of the new run too.
            Arrival::Restart(extended) => self.source = Some(Source::new(extended - 1, 1)),
            Arrival::Running(extended) => {
                if let Some(source) = &mut self.source {
                    source.highest = source.highest.max(extended);
                }
            }
            Arrival::Stray => return,
        }
        if let Some(source) = &mut self.source {
            source.received += 1;
            source.jitter.handle_packet(now, clock_rate_hz, packet.rtp_timestamp);
        }
    }

    /// Notes a sender report: its NTP timestamp, for LSR and DLSR.
    pub fn handle_sender_report(&mut self, now: Instant, ntp: u64) {
        if let Some(source) = &mut self.source {
            source.sender_report = Some(LastSenderReport { arrived: now, ntp_middle: (ntp >> 16) as u32 });
        }
    }

    /// A compound RTCP packet of receiver report and SDES CNAME, from `local_ssrc`; `None` before any packet.
    pub fn receiver_report(&mut self, now: Instant, local_ssrc: u32) -> Option<Vec<u8>> {
        let ssrc = self.sequence.ssrc()?;
        let block = self.source.as_mut()?.report(now, ssrc);
        Some(receiver_report(local_ssrc, &block))
    }
}

impl Source {
    fn new(first: u64, received: u64) -> Self {
        Self {
            first,
            highest: first + received,
            received,
            prior: (0, 0),
            jitter: Jitter::default(),
            sender_report: None,
        }
    }

    fn report(&mut self, now: Instant, ssrc: u32) -> ReceptionBlock {
        let expected = self.highest - self.first + 1;
        let (prior_expected, prior_received) = std::mem::replace(&mut self.prior, (expected, self.received));
        let (last_sender_report, delay_since) = match self.sender_report {
            Some(report) => (report.ntp_middle, in_65536ths(now, report.arrived)),
            None => (0, 0),
        };
        ReceptionBlock {
            ssrc,
            fraction_lost: fraction_lost(expected - prior_expected, self.received - prior_received),
            cumulative_lost: cumulative_lost(expected, self.received),
            // The first cycle is 0 on the wire.
            highest_sequence: (self.highest - super::sequence::FIRST_CYCLE) as u32,
            jitter: self.jitter.estimate(),
            last_sender_report,
            delay_since_last_sender_report: delay_since,
        }
    }
}

/// Lost of expected in one interval as a fraction of 256; 0 where duplicates outnumber the loss.
fn fraction_lost(expected: u64, received: u64) -> u8 {
    match expected.checked_sub(received) {
        Some(lost) if lost > 0 => u8::try_from((lost << 8) / expected).unwrap_or(u8::MAX),
        _ => 0,
    }
}

/// Lost since the start: negative where duplicates outnumber the loss, held within 24 bits with sign.
fn cumulative_lost(expected: u64, received: u64) -> i32 {
    let lost = i128::from(expected) - i128::from(received);
    lost.clamp(-0x80_0000, 0x7f_ffff) as i32
}

/// Time since `then` in units of 1/65536 s, as much as 32 bits hold (18 h).
fn in_65536ths(now: Instant, then: Instant) -> u32 {
    let nanos = now.saturating_duration_since(then).as_nanos();
    u32::try_from(nanos * 65536 / 1_000_000_000).unwrap_or(u32::MAX)
}

/// Interarrival jitter (RFC 3550 appendix A.8), in units of the clock rate.
#[derive(Clone, Copy, Debug, Default)]
struct Jitter {
    /// Sixteen times the estimate, as the RFC keeps it.
    scaled: u64,
    last: Option<Transit>,
}

#[derive(Clone, Copy, Debug)]
struct Transit {
    epoch: Instant,
    /// Arrival in units of the clock rate since the epoch, less the RTP timestamp.
    relative: u32,
}

impl Jitter {
    fn handle_packet(&mut self, now: Instant, clock_rate_hz: u32, rtp_timestamp: u32) {
        let epoch = self.last.map_or(now, |last| last.epoch);
        let nanos = now.saturating_duration_since(epoch).as_nanos();
        let arrival = (nanos * u128::from(clock_rate_hz) / 1_000_000_000) as u32;
        let relative = arrival.wrapping_sub(rtp_timestamp);
        if let Some(last) = self.last {
            let difference = (relative.wrapping_sub(last.relative) as i32).unsigned_abs();
            self.scaled = self.scaled + u64::from(difference) - ((self.scaled + 8) >> 4);
        }
        self.last = Some(Transit { epoch, relative });
    }

    fn estimate(&self) -> u32 {
        u32::try_from(self.scaled >> 4).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;
    use rtcp_types::{Compound, Packet};

    use super::*;

    const CLOCK_RATE_HZ: u32 = 90_000;
    const LOCAL_SSRC: u32 = 0x1a2b_3c4d;

    fn packet(ssrc: u32, seq: u16, rtp_timestamp: u32) -> RtpPacket {
        RtpPacket { marker: false, payload_type: 96, seq, rtp_timestamp, ssrc, payload: Bytes::new() }
    }

    fn handle_all(reception: &mut Reception, now: Instant, seqs: impl IntoIterator<Item = u16>) {
        for seq in seqs {
            reception.handle_packet(now, CLOCK_RATE_HZ, &packet(7, seq, 0));
        }
    }

    fn block(reception: &mut Reception, now: Instant) -> ReceptionBlock {
        let compound = reception.receiver_report(now, LOCAL_SSRC).unwrap();
        let Some(Ok(Packet::Rr(report))) = Compound::parse(&compound).unwrap().next() else {
            panic!("no receiver report first");
        };
        assert_eq!(report.ssrc(), LOCAL_SSRC);
        let block = report.report_blocks().next().unwrap();
        ReceptionBlock {
            ssrc: block.ssrc(),
            fraction_lost: block.fraction_lost(),
            // Sign extension of 24 bits.
            cumulative_lost: ((block.cumulative_lost() << 8) as i32) >> 8,
            highest_sequence: block.extended_sequence_number(),
            jitter: block.interarrival_jitter(),
            last_sender_report: block.last_sender_report_timestamp(),
            delay_since_last_sender_report: block.delay_since_last_sender_report_timestamp(),
        }
    }

    #[test]
    fn before_any_packet_there_is_nothing_to_report() {
        let now = Instant::now();
        let mut reception = Reception::default();
        reception.handle_sender_report(now, 1);
        assert_eq!(reception.receiver_report(now, LOCAL_SSRC), None);
    }

    #[test]
    fn a_clean_run_reports_its_highest_number_over_the_wrap() {
        let now = Instant::now();
        let mut reception = Reception::default();
        handle_all(&mut reception, now, (65000..=65535).chain(0..=99));
        let block = block(&mut reception, now);
        assert_eq!((block.ssrc, block.highest_sequence), (7, (1 << 16) + 99));
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 0));
    }

    #[test]
    fn loss_is_a_fraction_of_the_interval_and_a_sum_over_all() {
        let now = Instant::now();
        let mut reception = Reception::default();
        handle_all(&mut reception, now, (0..100).filter(|seq| seq % 4 != 1));
        let first = block(&mut reception, now);
        assert_eq!((first.fraction_lost, first.cumulative_lost), (64, 25));
        handle_all(&mut reception, now, 100..200);
        let second = block(&mut reception, now);
        assert_eq!((second.fraction_lost, second.cumulative_lost), (0, 25));
    }

    #[test]
    fn duplicates_make_the_loss_negative() {
        let now = Instant::now();
        let mut reception = Reception::default();
        handle_all(&mut reception, now, [1, 2, 2, 2, 3]);
        let block = block(&mut reception, now);
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, -2));
    }

    #[test]
    fn a_silent_interval_loses_nothing() {
        let now = Instant::now();
        let mut reception = Reception::default();
        handle_all(&mut reception, now, [1]);
        block(&mut reception, now);
        assert_eq!(block(&mut reception, now).fraction_lost, 0);
    }

    #[test]
    fn fraction_and_sum_stay_in_their_fields() {
        assert_eq!(fraction_lost(10, 0), 255);
        assert_eq!(fraction_lost(0, 0), 0);
        assert_eq!(fraction_lost(1, 5), 0);
        assert_eq!(cumulative_lost(u64::MAX, 0), 0x7f_ffff);
        assert_eq!(cumulative_lost(0, u64::MAX), -0x80_0000);
    }

    #[test]
    fn jitter_follows_the_rfc() {
        let start = Instant::now();
        let mut jitter = Jitter::default();
        // 40 ms apart by timestamp; the third comes 10 ms (900 units) late, the fourth in time again.
        for (index, arrival_ms) in [0, 40, 90, 120].into_iter().enumerate() {
            let timestamp = u32::MAX.wrapping_add(3600 * index as u32);
            jitter.handle_packet(start + Duration::from_millis(arrival_ms), CLOCK_RATE_HZ, timestamp);
        }
        // A.8: J += D - ((J + 8) >> 4), scaled by 16: 900, then 900 + 900 - 56.
        assert_eq!(jitter.scaled, 1744);
        assert_eq!(jitter.estimate(), 109);
    }

    #[test]
    fn jitter_of_timestamps_that_jump_does_not_overflow() {
        let start = Instant::now();
        let mut jitter = Jitter::default();
        for index in 0..100_000u32 {
            jitter.handle_packet(start, u32::MAX, (index % 2) << 31);
        }
        assert!(jitter.estimate() <= 1 << 31);
    }

    #[test]
    fn the_last_sender_report_is_told_with_the_time_since() {
        let now = Instant::now();
        let mut reception = Reception::default();
        handle_all(&mut reception, now, [1]);
        assert_eq!(block(&mut reception, now).last_sender_report, 0);
        // The example of RFC 3550 section 6.4.1, figure 2: n = 0xb44db705:20000000, DLSR 5.25 s.
        reception.handle_sender_report(now, 0xb44d_b705_2000_0000);
        let block = block(&mut reception, now + Duration::from_millis(5250));
        assert_eq!(block.last_sender_report, 0xb705_2000);
        assert_eq!(block.delay_since_last_sender_report, 0x0005_4000);
    }

    #[test]
    fn a_restart_or_a_new_source_starts_counting_anew() {
        let now = Instant::now();
        let mut reception = Reception::default();
        handle_all(&mut reception, now, [1, 5, 9]);
        reception.handle_sender_report(now, 1 << 32);
        for seq in [40000, 40001, 40002] {
            reception.handle_packet(now, CLOCK_RATE_HZ, &packet(8, seq, 0));
        }
        let block = block(&mut reception, now);
        assert_eq!((block.ssrc, block.highest_sequence), (8, 40002));
        assert_eq!((block.cumulative_lost, block.last_sender_report), (0, 0));
    }

    proptest! {
        #[test]
        fn hostile_packets_never_panic(
            packets in prop::collection::vec((0..3u32, any::<u16>(), any::<u32>(), 0..3000u64), 0..200),
            clock_rate_hz: u32,
        ) {
            let mut now = Instant::now();
            let mut reception = Reception::default();
            for (ssrc, seq, rtp_timestamp, pause_ms) in packets {
                now += Duration::from_millis(pause_ms);
                reception.handle_packet(now, clock_rate_hz, &packet(ssrc, seq % 4 + seq / 4 % 9 * 7000, rtp_timestamp));
                if pause_ms % 7 == 0 {
                    reception.handle_sender_report(now, u64::from(rtp_timestamp) << 20);
                }
                if pause_ms % 5 == 0 {
                    block(&mut reception, now);
                }
            }
        }
    }
}
