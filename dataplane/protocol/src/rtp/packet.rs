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
