//! The RTP fixed header (RFC 3550 section 5.1), read in place.
//!
//! What the sequence numbers and timestamps mean for a session is `continuity.rs`.

/// The payload type of every session (wsc-rtp section 5).
pub const PAYLOAD_TYPE: u8 = 96;

/// A datagram that is RTP version 2 with a whole header.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    bytes: &'a [u8],
    payload: &'a [u8],
}

/// Why a datagram is not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRtp {
    /// Shorter than its own header, or its padding is longer than it.
    Truncated,
    /// Another version than 2.
    Version,
    /// RTCP (RFC 5761 section 4): a second byte of 192 to 223.
    Rtcp,
}

impl<'a> Packet<'a> {
    /// Checks all lengths once; the accessors read freely.
    ///
    /// # Errors
    /// [`NotRtp`] when it is no RTP packet.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotRtp> {
        Self::parse_padded(bytes, bytes.first().is_some_and(|first| first & 0x20 != 0))
    }

    /// The same of an SRTP packet: its payload is sealed, how long its padding is too, and both are one here.
    ///
    /// # Errors
    /// [`NotRtp`] when it is no RTP packet.
    #[inline]
    pub fn parse_sealed(bytes: &'a [u8]) -> Result<Self, NotRtp> {
        Self::parse_padded(bytes, false)
    }

    #[inline]
    fn parse_padded(bytes: &'a [u8], padded: bool) -> Result<Self, NotRtp> {
        if bytes.len() < 12 {
            return Err(NotRtp::Truncated);
        }
        if bytes[0] >> 6 != 2 {
            return Err(NotRtp::Version);
        }
        if (192..=223).contains(&bytes[1]) {
            return Err(NotRtp::Rtcp);
        }
        let payload = if bytes[0] == 0x80 { &bytes[12..] } else { payload_of_long_header(bytes, padded)? };
        Ok(Self { bytes, payload })
    }

    /// Padding follows the payload.
    #[inline]
    pub fn is_padded(&self) -> bool {
        self.bytes[0] & 0x20 != 0
    }

    /// No CSRC, no extension, no padding: as every session must send it.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.bytes[0] == 0x80
    }

    /// The marker bit: the last packet of an access unit.
    #[inline]
    pub fn marker(&self) -> bool {
        self.bytes[1] & 0x80 != 0
    }

    /// The payload type.
    #[inline]
    pub fn payload_type(&self) -> u8 {
        self.bytes[1] & 0x7f
    }

    /// The sequence number, 16 bit.
    #[inline]
    pub fn sequence_number(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    /// The RTP timestamp, in 1/90000 s, wrapping.
    #[inline]
    pub fn rtp_timestamp(&self) -> u32 {
        u32::from_be_bytes([self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]])
    }

    /// The SSRC.
    #[inline]
    pub fn ssrc(&self) -> u32 {
        u32::from_be_bytes([self.bytes[8], self.bytes[9], self.bytes[10], self.bytes[11]])
    }

    /// What follows the header, without padding.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

fn payload_of_long_header(bytes: &[u8], padded: bool) -> Result<&[u8], NotRtp> {
    let mut start = 12 + 4 * usize::from(bytes[0] & 0x0f);
    if bytes[0] & 0x10 != 0 {
        let header = bytes.get(start..start + 4).ok_or(NotRtp::Truncated)?;
        start += 4 + 4 * usize::from(u16::from_be_bytes([header[2], header[3]]));
    }
    let padding = if padded { usize::from(bytes[bytes.len() - 1]) } else { 0 };
    let end = bytes.len().checked_sub(padding).ok_or(NotRtp::Truncated)?;
    bytes.get(start..end).ok_or(NotRtp::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [u8; 14] = [0x80, 0xe0, 0x12, 0x34, 0, 0, 0, 9, 1, 2, 3, 4, 0x65, 0x88];

    #[test]
    fn a_plain_packet_reads_back() {
        let packet = Packet::parse(&PLAIN).expect("a packet");
        assert!(packet.is_plain() && packet.marker());
        assert_eq!(packet.payload_type(), PAYLOAD_TYPE);
        assert_eq!(packet.sequence_number(), 0x1234);
        assert_eq!(packet.rtp_timestamp(), 9);
        assert_eq!(packet.ssrc(), 0x0102_0304);
        assert_eq!(packet.payload(), [0x65, 0x88]);
    }

    #[test]
    fn csrc_extension_and_padding_are_skipped() {
        let mut bytes = vec![0xb1, 0x60, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4];
        bytes.extend([9, 9, 9, 9, 0xbe, 0xde, 0, 1, 1, 1, 1, 1, 0x41, 0x42, 0, 2]);
        let packet = Packet::parse(&bytes).expect("a packet");
        assert!(!packet.is_plain());
        assert_eq!(packet.payload(), [0x41, 0x42]);
    }

    #[test]
    fn what_is_no_rtp_is_said_to_be_none() {
        assert_eq!(Packet::parse(&PLAIN[..11]).err(), Some(NotRtp::Truncated));
        assert_eq!(Packet::parse(b"ws-rtp-dummy").err(), Some(NotRtp::Version));
        let mut rtcp = PLAIN;
        rtcp[1] = 200;
        assert_eq!(Packet::parse(&rtcp).err(), Some(NotRtp::Rtcp));
        let mut padded = PLAIN;
        padded[0] = 0xa0;
        padded[13] = 200;
        assert_eq!(Packet::parse(&padded).err(), Some(NotRtp::Truncated));
        assert!(Packet::parse_sealed(&padded).expect("a sealed packet").is_padded());
    }

    #[test]
    fn every_cut_and_every_first_byte_is_survived() {
        for first in 0..=255 {
            let mut bytes = [0xff_u8; 40];
            bytes[0] = first;
            for end in 0..bytes.len() {
                let _ = Packet::parse(&bytes[..end]);
            }
        }
    }
}
