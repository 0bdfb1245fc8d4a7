//! One received RTP packet: validated once, its payload a refcounted slice of what came in.

use bytes::Bytes;

/// Bytes of a header without CSRCs and extensions, the only kind that we send.
pub const HEADER_LEN: usize = 12;

/// Why a datagram is not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// Shorter than its own header says.
    #[error("RTP packet is truncated")]
    Truncated,
    /// The version field is not 2.
    #[error("RTP version is not 2")]
    Version,
    /// The padding count is zero or more than the payload.
    #[error("RTP padding is longer than the payload")]
    Padding,
}

/// A received packet: header fields by value, payload shared with the buffer it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpPacket {
    /// Last packet of an access unit, if the camera tells the truth.
    pub marker: bool,
    /// Payload type, 0–127.
    pub payload_type: u8,
    /// Sequence number as on the wire.
    pub seq: u16,
    /// RTP timestamp as on the wire, in units of the track's clock rate.
    pub rtp_timestamp: u32,
    /// Synchronization source.
    pub ssrc: u32,
    /// What follows header, CSRCs and extension, without padding. May be empty.
    pub payload: Bytes,
}

impl RtpPacket {
    /// Reads one packet. Takes the buffer because the payload is a slice of it.
    pub fn parse(datagram: Bytes) -> Result<Self, RtpError> {
        let (fixed, _) = datagram.split_first_chunk::<HEADER_LEN>().ok_or(RtpError::Truncated)?;
        if fixed[0] >> 6 != 2 {
            return Err(RtpError::Version);
        }
        let csrc_count = usize::from(fixed[0] & 0x0f);
        let mut start = HEADER_LEN + 4 * csrc_count;
        if fixed[0] & 0x10 != 0 {
            let extension =
                datagram.get(start..).and_then(|rest| rest.first_chunk::<4>()).ok_or(RtpError::Truncated)?;
            start += 4 + 4 * usize::from(u16::from_be_bytes([extension[2], extension[3]]));
        }
        if start > datagram.len() {
            return Err(RtpError::Truncated);
        }
        let mut end = datagram.len();
        if fixed[0] & 0x20 != 0 {
            let padding = usize::from(datagram[end - 1]);
            if padding == 0 || padding > end - start {
                return Err(RtpError::Padding);
            }
            end -= padding;
        }
        Ok(Self {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            seq: u16::from_be_bytes([fixed[2], fixed[3]]),
            rtp_timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            payload: datagram.slice(start..end),
        })
    }
}

/// The fields of a packet that we send: version 2, no CSRC, no extension, no padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Last packet of an access unit.
    pub marker: bool,
    /// Payload type, 0–127.
    pub payload_type: u8,
    /// Sequence number.
    pub seq: u16,
    /// RTP timestamp.
    pub rtp_timestamp: u32,
    /// Synchronization source.
    pub ssrc: u32,
}

impl Header {
    /// The twelve bytes on the wire.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0] = 0x80;
        out[1] = u8::from(self.marker) << 7 | self.payload_type & 0x7f;
        out[2..4].copy_from_slice(&self.seq.to_be_bytes());
        out[4..8].copy_from_slice(&self.rtp_timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: Header =
        Header { marker: true, payload_type: 96, seq: 0x1234, rtp_timestamp: 0x5678_9abc, ssrc: 0xdead_beef };

    /// Two CSRCs, an extension of one word, three bytes of payload and two of padding.
    fn with_everything() -> Vec<u8> {
        let mut datagram = HEADER.to_bytes().to_vec();
        datagram[0] |= 0x20 | 0x10 | 2;
        datagram.extend([1; 8]);
        datagram.extend([0xbe, 0xde, 0, 1, 2, 2, 2, 2]);
        datagram.extend(*b"abc");
        datagram.extend([0, 2]);
        datagram
    }

    #[test]
    fn the_bytes_are_those_of_the_rfc() {
        assert_eq!(
            HEADER.to_bytes(),
            [0x80, 0xe0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xad, 0xbe, 0xef]
        );
    }

    #[test]
    fn the_payload_is_what_is_left_of_csrcs_extension_and_padding() {
        let packet = RtpPacket::parse(with_everything().into()).unwrap();
        assert_eq!(packet.payload, Bytes::from_static(b"abc"));
        assert_eq!((packet.seq, packet.ssrc, packet.marker), (0x1234, 0xdead_beef, true));
    }

    #[test]
    fn the_payload_is_a_slice_of_the_datagram() {
        let datagram = Bytes::from(with_everything());
        let packet = RtpPacket::parse(datagram.clone()).unwrap();
        assert_eq!(packet.payload.as_ptr(), datagram[28..].as_ptr());
    }

    #[test]
    fn a_header_cut_anywhere_is_refused() {
        let mut whole = with_everything();
        whole[0] &= !0x20;
        let header_len = HEADER_LEN + 8 + 8;
        for len in 0..header_len {
            let cut = Bytes::copy_from_slice(&whole[..len]);
            assert_eq!(RtpPacket::parse(cut), Err(RtpError::Truncated), "at {len}");
        }
        assert!(RtpPacket::parse(Bytes::copy_from_slice(&whole[..header_len])).unwrap().payload.is_empty());
    }

    #[test]
    fn an_extension_longer_than_the_datagram_is_refused() {
        let mut datagram = with_everything();
        datagram[22..24].copy_from_slice(&u16::MAX.to_be_bytes());
        assert_eq!(RtpPacket::parse(datagram.into()), Err(RtpError::Truncated));
    }

    #[test]
    fn padding_is_at_least_itself_and_at_most_the_payload() {
        let padded = |count: u8| {
            let mut datagram = with_everything();
            *datagram.last_mut().unwrap() = count;
            RtpPacket::parse(datagram.into())
        };
        assert_eq!(padded(0), Err(RtpError::Padding));
        assert!(padded(5).unwrap().payload.is_empty());
        assert_eq!(padded(6), Err(RtpError::Padding));
        assert_eq!(padded(255), Err(RtpError::Padding));
    }

    #[test]
    fn padding_in_an_empty_packet_is_refused() {
        let mut datagram = HEADER.to_bytes().to_vec();
        datagram[0] |= 0x20;
        assert_eq!(RtpPacket::parse(datagram.into()), Err(RtpError::Padding));
    }

    #[test]
    fn other_versions_are_refused() {
        for version in [0u8, 1, 3] {
            let mut datagram = HEADER.to_bytes().to_vec();
            datagram[0] = version << 6;
            assert_eq!(RtpPacket::parse(datagram.into()), Err(RtpError::Version));
        }
    }

    proptest! {
        #[test]
        fn no_datagram_panics(datagram in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = RtpPacket::parse(datagram.into());
        }

        #[test]
        fn no_datagram_that_looks_like_rtp_panics(
            first in 0x80..=0xbfu8,
            rest in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let datagram: Vec<u8> = std::iter::once(first).chain(rest).collect();
            let _ = RtpPacket::parse(datagram.into());
        }

        #[test]
        fn what_is_written_is_read_back(
            marker: bool,
            payload_type in 0..128u8,
            seq: u16,
            rtp_timestamp: u32,
            ssrc: u32,
            payload in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let header = Header { marker, payload_type, seq, rtp_timestamp, ssrc };
            let datagram = [&header.to_bytes()[..], &payload].concat();
            let packet = RtpPacket::parse(datagram.into()).unwrap();
            let expected = RtpPacket { marker, payload_type, seq, rtp_timestamp, ssrc, payload: payload.into() };
            prop_assert_eq!(packet, expected);
        }
    }
}
