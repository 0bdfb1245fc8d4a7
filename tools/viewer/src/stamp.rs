//! The camera's stamp: an SEI message `user_data_unregistered` (H.264 D.1.7, H.265 D.2.7) that says when an access unit left the camera.
//!
//! Payload: the UUID, 8 bytes of access-unit number, 8 bytes of `CLOCK_MONOTONIC` in nanoseconds, both big-endian.

use crate::clock::Moment;

/// The UUID of a stamp.
pub const UUID: [u8; 16] = *b"Lanecast-stamp-1";

/// What the camera wrote into an access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The access unit's number at the camera.
    pub unit_number: u64,
    /// When the camera sent it.
    pub sent: Moment,
}

impl Stamp {
    /// Finds the stamp among the messages of an SEI NAL unit, given without its header.
    pub fn in_sei(body: &[u8]) -> Option<Self> {
        let mut raw = [0; SEI_BYTES_MAX];
        let len = unescape(body, &mut raw);
        let mut rest = &raw[..len];
        while rest.len() > 2 {
            let kind = take_ff_coded(&mut rest)?;
            let size = take_ff_coded(&mut rest)?;
            let message = rest.get(..size)?;
            if kind == USER_DATA_UNREGISTERED && message.starts_with(&UUID) {
                return Self::from_message(&message[UUID.len()..]);
            }
            rest = &rest[size..];
        }
        None
    }

    fn from_message(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk::<8>()?;
        let sent = rest.first_chunk::<8>()?;
        Some(Self {
            unit_number: u64::from_be_bytes(*number),
            sent: Moment::from_ns(u64::from_be_bytes(*sent)),
        })
    }
}

/// Removes emulation prevention bytes (00 00 03) and gives the length written; what does not fit is left out.
fn unescape(body: &[u8], raw: &mut [u8]) -> usize {
    let mut len = 0;
    let mut zeros = 0;
    for &byte in body {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        if len == raw.len() {
            break;
        }
        raw[len] = byte;
        len += 1;
        zeros = if byte == 0 { zeros + 1 } else { 0 };
    }
    len
}

fn take_ff_coded(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    loop {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value += usize::from(byte);
        if byte != 0xff {
            return Some(value);
        }
    }
}

const USER_DATA_UNREGISTERED: usize = 5;

/// Enough for a stamp (34 bytes) behind a buffering period and a picture timing message.
const SEI_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn escape(raw: &[u8]) -> Vec<u8> {
        let mut escaped = Vec::new();
        let mut zeros = 0;
        for &byte in raw {
            if zeros >= 2 && byte <= 3 {
                escaped.push(3);
                zeros = 0;
            }
            escaped.push(byte);
            zeros = if byte == 0 { zeros + 1 } else { 0 };
        }
        escaped
    }

    fn sei(unit_number: u64, ns: u64) -> Vec<u8> {
        let mut raw = vec![5, 32];
        raw.extend(UUID);
        raw.extend(unit_number.to_be_bytes());
        raw.extend(ns.to_be_bytes());
        raw.push(0x80);
        raw
    }

    #[test]
    fn a_stamp_full_of_zeros_survives_emulation_prevention() {
        for (number, ns) in [(0, 0), (3, 0x0003_0000_0000_0301), (u64::MAX, 1), (1 << 40, 1 << 41)] {
            let stamp = Stamp::in_sei(&escape(&sei(number, ns)));
            assert_eq!(stamp, Some(Stamp { unit_number: number, sent: Moment::from_ns(ns) }));
        }
    }

    #[test]
    fn a_stamp_is_found_behind_other_messages() {
        let mut raw = vec![0, 1, 0x77, 5, 17];
        raw.extend([0x11; 17]);
        raw.extend(sei(7, 8));
        assert_eq!(Stamp::in_sei(&escape(&raw)).map(|stamp| stamp.unit_number), Some(7));
    }

    #[test]
    fn cut_or_foreign_messages_give_no_stamp() {
        let whole = sei(7, 8);
        for end in 0..34 {
            assert_eq!(Stamp::in_sei(&whole[..end]), None);
        }
        assert_eq!(Stamp::in_sei(&[0xff; 600]), None);
        assert_eq!(Stamp::in_sei(&[5, 3, 1, 2, 3, 0x80]), None);
    }
}
