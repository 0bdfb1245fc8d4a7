//! RTCP that a light peer sends: receiver reports (RFC 3550 section 6.4.2), NACK and PLI (RFC 4585), transport-wide
//! feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01). And what it reads: sender reports.
//!
//! Sealing is `srtp.rs`.

use std::time::Duration;

use crate::clock::Moment;

/// What a receiver report says of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The stream.
    pub ssrc: u32,
    /// Lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost in all.
    pub lost: u32,
    /// The highest sequence number with its cycles.
    pub newest_extended: u32,
    /// Interarrival jitter in 1/90000 s.
    pub jitter: u32,
    /// The middle of the last sender report's NTP time.
    pub last_report: u32,
    /// Time since that, in 1/65536 s.
    pub delay: u32,
}

/// A receiver report with one block.
pub fn receiver_report(sender: u32, block: &Block) -> Vec<u8> {
    let mut packet = header(1, RECEIVER_REPORT, sender);
    packet.extend(block.ssrc.to_be_bytes());
    packet.extend((u32::from(block.fraction_lost) << 24 | block.lost.min(0x7f_ffff)).to_be_bytes());
    for word in [block.newest_extended, block.jitter, block.last_report, block.delay] {
        packet.extend(word.to_be_bytes());
    }
    finish(packet)
}

/// A request to send these sequence numbers, which are in order, again.
pub fn nack(sender: u32, media: u32, sequence_numbers: &[u16]) -> Vec<u8> {
    let mut packet = header(1, TRANSPORT_FEEDBACK, sender);
    packet.extend(media.to_be_bytes());
    let mut rest = sequence_numbers;
    while let [first, tail @ ..] = rest {
        let distance = |one: &u16| one.wrapping_sub(*first).wrapping_sub(1);
        let covered = tail.iter().take_while(|one| distance(one) < 16).count();
        let bits = tail[..covered].iter().fold(0_u16, |bits, one| bits | 1 << distance(one));
        packet.extend(first.to_be_bytes());
        packet.extend(bits.to_be_bytes());
        rest = &tail[covered..];
    }
    finish(packet)
}

/// A request for a picture that can be decoded by itself.
pub fn picture_loss(sender: u32, media: u32) -> Vec<u8> {
    let mut packet = header(1, PAYLOAD_FEEDBACK, sender);
    packet.extend(media.to_be_bytes());
    finish(packet)
}

/// The middle 32 bits of the NTP time of each sender report in a compound packet, with its SSRC.
pub fn sender_reports(compound: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    packets(compound).filter_map(|packet| {
        let word = |at: usize| packet.get(at..at + 4)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        (packet[1] == SENDER_REPORT).then_some(())?;
        Some((word(4)?, word(8)? << 16 | word(12)? >> 16))
    })
}

/// Whether a compound packet says good-bye for `ssrc`.
pub fn says_goodbye(compound: &[u8], ssrc: u32) -> bool {
    packets(compound).any(|packet| {
        packet[1] == GOODBYE && packet[4..].chunks_exact(4).any(|one| one == ssrc.to_be_bytes())
    })
}

fn packets(compound: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = compound;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<4>()?;
        let len = 4 * (1 + usize::from(u16::from_be_bytes([header[2], header[3]])));
        let packet = rest.get(..len).filter(|_| header[0] >> 6 == 2 && len >= 8)?;
        rest = &rest[len..];
        Some(packet)
    })
}

/// Arrivals by transport-wide sequence number, until they are reported.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// Offset from `base`, and when.
    seen: Vec<(u64, Moment)>,
    newest: Option<u64>,
    /// The next to report.
    next: u64,
    reference: Option<Moment>,
    reports: u8,
}

impl Arrivals {
    /// Takes note of a packet.
    pub fn handle_packet(&mut self, now: Moment, sequence_number: u16) {
        let newest = self.newest.unwrap_or((1 << 16) + u64::from(sequence_number));
        let step = sequence_number.wrapping_sub(newest as u16).cast_signed();
        let extended = newest.saturating_add_signed(step.into());
        if self.newest.is_none() {
            self.next = extended;
            self.reference = Some(now);
        }
        self.newest = Some(newest.max(extended));
        if extended >= self.next && self.seen.len() < ARRIVALS_MAX {
            self.seen.push((extended, now));
        }
    }

    /// Whether there is something to report.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// A report of all that arrived since the last, or of as much as fits one packet.
    pub fn take_report(&mut self, sender: u32, media: u32) -> Option<Vec<u8>> {
        let origin = self.reference?;
        self.seen.sort_unstable_by_key(|(extended, _)| *extended);
        self.seen.dedup_by_key(|(extended, _)| *extended);
        let base = self.seen.first().map(|_| self.next)?;
        let limit = base + REPORTED_MAX;
        let split = self.seen.partition_point(|(extended, _)| *extended < limit);
        if split == 0 {
            // A hole longer than a report: it is not worth one.
            self.next = self.seen[0].0;
            return self.take_report(sender, media);
        }
        let later = self.seen.split_off(split);
        let reported = std::mem::replace(&mut self.seen, later);
        let (last, _) = *reported.last()?;
        self.next = last + 1;
        let reference = ticks_of(reported[0].1.since(origin), REFERENCE_TICK);
        let mut before = reference * (REFERENCE_TICK.as_nanos() / DELTA_TICK.as_nanos()) as i64;
        let mut symbols = Vec::with_capacity((last + 1 - base) as usize);
        let mut deltas = Vec::new();
        for (extended, arrived) in &reported {
            symbols.resize((extended - base) as usize, NOT_RECEIVED);
            let ticks = ticks_of(arrived.since(origin), DELTA_TICK);
            let delta = (ticks - before).clamp(i16::MIN.into(), i16::MAX.into());
            before += delta;
            if let Ok(small) = u8::try_from(delta) {
                symbols.push(SMALL_DELTA);
                deltas.push(small);
            } else {
                symbols.push(LARGE_DELTA);
                deltas.extend((delta as i16).to_be_bytes());
            }
        }
        let mut packet = header(15, TRANSPORT_FEEDBACK, sender);
        packet.extend(media.to_be_bytes());
        packet.extend((base as u16).to_be_bytes());
        packet.extend((symbols.len() as u16).to_be_bytes());
        packet.extend(((reference as u32) << 8 | u32::from(self.reports)).to_be_bytes());
        self.reports = self.reports.wrapping_add(1);
        for chunk in symbols.chunks(7) {
            let bits =
                (0..7).fold(0_u16, |bits, at| bits << 2 | u16::from(chunk.get(at).copied().unwrap_or(0)));
            packet.extend((TWO_BIT_VECTOR | bits).to_be_bytes());
        }
        packet.extend(deltas);
        Some(finish(packet))
    }
}

fn ticks_of(duration: Duration, tick: Duration) -> i64 {
    i64::try_from(duration.as_nanos() / tick.as_nanos()).unwrap_or(i64::MAX)
}

/// The value of a one-byte header extension (RFC 8285) of 2 bytes, as the transport-wide sequence number is.
pub fn extension_u16(packet: &[u8], id: u8) -> Option<u16> {
    let start = 12 + 4 * usize::from(packet.first()? & 0x0f);
    (packet[0] & 0x10 != 0).then_some(())?;
    let header = packet.get(start..start + 4)?;
    let len = 4 * usize::from(u16::from_be_bytes([header[2], header[3]]));
    let mut rest = packet.get(start + 4..start + 4 + len)?;
    (header[..2] == [0xbe, 0xde]).then_some(())?;
    while let [first, tail @ ..] = rest {
        if *first == 0 {
            rest = tail;
            continue;
        }
        let len = 1 + usize::from(first & 0x0f);
        let value = tail.get(..len)?;
        if first >> 4 == id && len == 2 {
            return Some(u16::from_be_bytes([value[0], value[1]]));
        }
        rest = &tail[len..];
    }
    None
}

fn header(count: u8, kind: u8, sender: u32) -> Vec<u8> {
    let mut packet = vec![0x80 | count, kind, 0, 0];
    packet.extend(sender.to_be_bytes());
    packet
}

/// Pads to words and writes the length.
fn finish(mut packet: Vec<u8>) -> Vec<u8> {
    packet.resize(packet.len().next_multiple_of(4), 0);
    let words = (packet.len() / 4 - 1) as u16;
    packet[2..4].copy_from_slice(&words.to_be_bytes());
    packet
}

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

const NOT_RECEIVED: u8 = 0;
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;
const TWO_BIT_VECTOR: u16 = 0xc000;
const DELTA_TICK: Duration = Duration::from_micros(250);
const REFERENCE_TICK: Duration = Duration::from_millis(64);

/// A report stays well below a packet's 1200 bytes: 2/7 and at most 2 bytes each.
const REPORTED_MAX: u64 = 400;

/// More than arrive between two reports; what is beyond is not reported.
const ARRIVALS_MAX: usize = 4000;

#[cfg(test)]
mod tests {
    use super::*;

    use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
    use rtc::rtcp::receiver_report::ReceiverReport;
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
    use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
    use rtc::shared::marshal::Unmarshal;

    fn at(us: u64) -> Moment {
        Moment::from_ns(1_000_000_000 + us * 1000)
    }

    #[test]
    fn another_implementation_reads_the_reports() {
        let block = Block {
            ssrc: 9,
            fraction_lost: 3,
            lost: 70_000,
            newest_extended: 65_540,
            jitter: 5,
            last_report: 6,
            delay: 7,
        };
        let report = ReceiverReport::unmarshal(&mut &receiver_report(1, &block)[..]).expect("a report");
        assert_eq!((report.ssrc, report.reports[0].total_lost), (1, 70_000));
        assert_eq!((report.reports[0].last_sequence_number, report.reports[0].delay), (65_540, 7));
        let wanted = [65_530, 65_535, 3, 9, 4000];
        let request = TransportLayerNack::unmarshal(&mut &nack(1, 9, &wanted)[..]).expect("a request");
        let read: Vec<u16> = request.nacks.iter().flat_map(|pair| pair.packet_list()).collect();
        assert_eq!((request.media_ssrc, read.as_slice()), (9, &wanted[..]));
        let loss = PictureLossIndication::unmarshal(&mut &picture_loss(1, 9)[..]).expect("a request");
        assert_eq!(loss.media_ssrc, 9);
    }

    #[test]
    fn another_implementation_reads_the_arrivals() {
        let mut arrivals = Arrivals::default();
        for (us, number) in [(0, 65_534), (500, 65_535), (900, 2), (70_000, 1), (71_000, 5)] {
            arrivals.handle_packet(at(us), number);
        }
        let packet = arrivals.take_report(1, 9).expect("a report");
        let report = TransportLayerCc::unmarshal(&mut &packet[..]).expect("a report");
        assert_eq!((report.base_sequence_number, report.packet_status_count), (65_534, 8));
        let deltas: Vec<i64> = report.recv_deltas.iter().map(|delta| delta.delta).collect();
        // 65534, 65535, 1, 2, 5, in µs.
        assert_eq!(deltas, [0, 500, 69_500, -69_250, 70_250]);
        assert!(arrivals.is_empty());
        arrivals.handle_packet(at(200_000), 7);
        let packet = arrivals.take_report(1, 9).expect("a report");
        let report = TransportLayerCc::unmarshal(&mut &packet[..]).expect("a report");
        assert_eq!((report.base_sequence_number, report.packet_status_count, report.fb_pkt_count), (6, 2, 1));
        assert_eq!(report.reference_time, 3);
    }

    #[test]
    fn a_burst_is_reported_in_pieces() {
        let mut arrivals = Arrivals::default();
        (0..1000).for_each(|number| arrivals.handle_packet(at(number.into()), number));
        let mut reported = 0;
        while let Some(packet) = arrivals.take_report(1, 9) {
            assert!(packet.len() < 1200);
            reported += TransportLayerCc::unmarshal(&mut &packet[..]).expect("a report").recv_deltas.len();
        }
        assert_eq!(reported, 1000);
    }

    #[test]
    fn sender_reports_and_goodbyes_are_found_in_a_compound_packet() {
        let mut compound = vec![0x80, 200, 0, 6, 0, 0, 0, 9, 0, 0, 0x12, 0x34, 0x56, 0x78, 0, 0];
        compound.extend([0; 12]);
        compound.extend([0x81, 203, 0, 1, 0, 0, 0, 9]);
        assert_eq!(sender_reports(&compound).collect::<Vec<_>>(), [(9, 0x1234_5678)]);
        assert!(says_goodbye(&compound, 9) && !says_goodbye(&compound, 8));
        for end in 0..compound.len() {
            let _ = (sender_reports(&compound[..end]).count(), says_goodbye(&compound[..end], 9));
        }
    }

    #[test]
    fn the_transport_sequence_number_is_found_among_extensions() {
        let mut packet = vec![
            0x90, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0xbe, 0xde, 0, 2, 0x22, 1, 2, 3, 0, 0x41, 0x12, 0x34,
        ];
        packet.push(0xff);
        assert_eq!(extension_u16(&packet, 4), Some(0x1234));
        assert_eq!(extension_u16(&packet, 5), None);
        for end in 0..packet.len() {
            let _ = extension_u16(&packet[..end], 4);
        }
    }
}
