//! RTP headers and RTCP sender reports (RFC 3550 sections 5.1, 6.4.1, 6.5), and the buffer that a burst of them is
//! written to. When to send is not decided here.

use std::time::{SystemTime, UNIX_EPOCH};

/// Dynamic payload type of the video track.
pub(crate) const VIDEO: u8 = 96;
/// PCMU (RFC 3551 table 4).
pub(crate) const PCMU: u8 = 0;
/// Bytes of an RTP header without extension.
pub(crate) const HEADER_LEN: usize = 12;
/// Bytes before a packet in an RTSP connection (RFC 2326 section 10.12).
pub(crate) const INTERLEAVED_LEN: usize = 4;

/// Packets as interleaved frames in one run of bytes, so that one write sends them all. A UDP sender takes them one by one.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    bytes: Vec<u8>,
    /// Where each frame starts.
    starts: Vec<usize>,
}

/// What an RTP header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub payload_type: u8,
    pub marker: bool,
    pub sequence: u16,
    pub rtp_timestamp: u32,
    pub ssrc: u32,
    /// With two CSRCs, a header extension and padding.
    pub with_extras: bool,
}

impl Burst {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All frames with their interleaved headers.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Each packet with its channel, without the interleaved header.
    pub fn packets(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let ends = self.starts.iter().skip(1).copied().chain([self.bytes.len()]);
        self.starts
            .iter()
            .zip(ends)
            .map(|(&start, end)| (self.bytes[start + 1], &self.bytes[start + INTERLEAVED_LEN..end]))
    }

    pub fn push_rtp(&mut self, channel: u8, header: Header, payload: &[u8]) {
        const CSRC_COUNT_EXTENSION_PADDING: u8 = 2 | 0x10 | 0x20;
        let (before, behind): (&[u8], &[u8]) = match header.with_extras {
            true => (&EXTRAS_BEFORE, &EXTRAS_BEHIND),
            false => (&[], &[]),
        };
        self.frame(channel, HEADER_LEN + before.len() + payload.len() + behind.len());
        self.bytes.push(0x80 | if header.with_extras { CSRC_COUNT_EXTENSION_PADDING } else { 0 });
        self.bytes.push(header.payload_type | if header.marker { 0x80 } else { 0 });
        self.bytes.extend_from_slice(&header.sequence.to_be_bytes());
        self.bytes.extend_from_slice(&header.rtp_timestamp.to_be_bytes());
        self.bytes.extend_from_slice(&header.ssrc.to_be_bytes());
        self.bytes.extend_from_slice(before);
        self.bytes.extend_from_slice(payload);
        self.bytes.extend_from_slice(behind);
    }

    /// A sender report with a CNAME.
    pub fn push_sender_report(&mut self, channel: u8, report: &SenderReport) {
        const CNAME: &[u8; 8] = b"lanecast";
        self.frame(channel, 28 + 20);
        self.bytes.extend_from_slice(&[0x80, 200, 0, 6]);
        self.bytes.extend_from_slice(&report.ssrc.to_be_bytes());
        self.bytes.extend_from_slice(&ntp(report.now).to_be_bytes());
        self.bytes.extend_from_slice(&report.rtp_timestamp.to_be_bytes());
        self.bytes.extend_from_slice(&report.packets.to_be_bytes());
        self.bytes.extend_from_slice(&report.octets.to_be_bytes());
        self.bytes.extend_from_slice(&[0x81, 202, 0, 4]);
        self.bytes.extend_from_slice(&report.ssrc.to_be_bytes());
        self.bytes.extend_from_slice(&[1, CNAME.len() as u8]);
        self.bytes.extend_from_slice(CNAME);
        self.bytes.extend_from_slice(&[0, 0]);
    }

    /// `len` is at most 65 535: `packet_bytes_max` is checked when the camera opens.
    fn frame(&mut self, channel: u8, len: usize) {
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(&[b'$', channel]);
        self.bytes.extend_from_slice(&(len as u16).to_be_bytes());
    }
}

/// Two CSRCs, and the header extension of ONVIF streaming (section 6.3: 0xabac, three words).
const EXTRAS_BEFORE: [u8; 24] =
    [0, 0, 0, 1, 0, 0, 0, 2, 0xab, 0xac, 0, 3, 0x65, 0x65, 0x65, 0x65, 0x65, 0x65, 0x65, 0x65, 0x80, 0, 0, 0];
/// Padding, the last byte of which counts it.
const EXTRAS_BEHIND: [u8; 4] = [0x65, 0x88, 0x80, 4];
/// Bytes that extras add to a packet.
pub(crate) const EXTRAS_LEN: usize = EXTRAS_BEFORE.len() + EXTRAS_BEHIND.len();

/// What a sender report says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SenderReport {
    pub ssrc: u32,
    pub now: SystemTime,
    /// The RTP timestamp that a picture taken at `now` would have.
    pub rtp_timestamp: u32,
    pub packets: u32,
    pub octets: u32,
}

/// Seconds since 1900 in 32.32 fixed point (RFC 3550 section 4).
fn ntp(time: SystemTime) -> u64 {
    const UNIX_EPOCH_IN_1900: u64 = 2_208_988_800;
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (since.as_secs().wrapping_add(UNIX_EPOCH_IN_1900) << 32) | fraction
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_packet_is_framed_for_tcp_and_bare_for_udp() {
        let mut burst = Burst::default();
        let header = Header {
            payload_type: VIDEO,
            marker: true,
            sequence: 0x0102,
            rtp_timestamp: 0x03040506,
            ssrc: 0x0708090a,
            with_extras: false,
        };
        burst.push_rtp(2, header, &[0x65, 0x66]);
        burst.push_rtp(3, Header { marker: false, ..header }, &[]);
        assert_eq!(
            burst.bytes()[..18],
            [b'$', 2, 0, 14, 0x80, 0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x65, 0x66]
        );
        let packets: Vec<(u8, usize)> =
            burst.packets().map(|(channel, packet)| (channel, packet.len())).collect();
        assert_eq!(packets, [(2, 14), (3, 12)]);
    }

    #[test]
    fn extras_stand_around_the_payload() {
        let mut burst = Burst::default();
        let header = Header {
            payload_type: VIDEO,
            marker: false,
            sequence: 1,
            rtp_timestamp: 2,
            ssrc: 3,
            with_extras: true,
        };
        burst.push_rtp(0, header, &[0x41, 0x9a]);
        let (_, packet) = burst.packets().next().unwrap();
        assert_eq!((packet.len(), packet[0]), (HEADER_LEN + EXTRAS_LEN + 2, 0xb2));
        assert_eq!(packet[36..38], [0x41, 0x9a]);
        assert_eq!(packet.last(), Some(&4));
    }

    #[test]
    fn ntp_time_counts_from_1900_in_fractions_of_two_to_the_32() {
        assert_eq!(ntp(UNIX_EPOCH + Duration::from_millis(1500)), (2_208_988_801 << 32) | 0x8000_0000);
    }

    #[test]
    fn a_sender_report_is_a_whole_compound_packet() {
        let mut burst = Burst::default();
        let report = SenderReport { ssrc: 1, now: UNIX_EPOCH, rtp_timestamp: 2, packets: 3, octets: 4 };
        burst.push_sender_report(1, &report);
        let (channel, packet) = burst.packets().next().unwrap();
        assert_eq!((channel, packet.len()), (1, 48));
        let words = |at: usize| usize::from(u16::from_be_bytes([packet[at + 2], packet[at + 3]]));
        assert_eq!((words(0) + 1) * 4 + (words(28) + 1) * 4, packet.len());
    }
}
