//! Start codes (H.264 and H.265 Annex B): RTP has none, but some cameras put them into packets and `sprop-*`. MPEG-TS has.

use bytes::{Buf, Bytes};

/// True if `bytes` begin with `00 00 01` or `00 00 00 01`: never so of a NAL unit.
pub fn has_start_code(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0, 0, 1]) || bytes.starts_with(&[0, 0, 0, 1])
}

/// The NAL units between start codes, as slices of `bytes`. The first may come without a start code.
///
/// Zeros before a start code and at the end belong to no NAL unit (H.264 section 7.4.1: its last byte is
/// not zero), and none is empty.
pub fn split(bytes: Bytes) -> impl Iterator<Item = Bytes> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = next_start_code(&rest).unwrap_or(rest.len());
            let nal = without_trailing_zeros(rest.split_to(end));
            rest.advance(rest.len().min(START_CODE_LEN));
            if !nal.is_empty() {
                return Some(nal);
            }
        }
        None
    })
}

/// True if what stands before the first start code, or all where there is none, ends with `byte`, but for zeros.
pub(super) fn first_ends_with(bytes: &[u8], byte: u8) -> bool {
    let first = &bytes[..next_start_code(bytes).unwrap_or(bytes.len())];
    first.iter().rev().find(|&&byte| byte != 0) == Some(&byte)
}

fn next_start_code(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, &[0, 0, 1])
}

fn without_trailing_zeros(mut nal: Bytes) -> Bytes {
    let len = nal.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    nal.truncate(len);
    nal
}

/// `00 00 01`; a fourth zero before it is a trailing zero of what precedes.
const START_CODE_LEN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &'static [u8]) -> Vec<Vec<u8>> {
        split(Bytes::from_static(bytes)).map(|nal| nal.to_vec()).collect()
    }

    #[test]
    fn splits_at_short_and_long_start_codes() {
        let stream = b"\0\0\0\x01\x67\x01\0\0\x01\x68\x02\0\0\0\x01\x65\x88";
        assert_eq!(pieces(stream), [vec![0x67, 1], vec![0x68, 2], vec![0x65, 0x88]]);
    }

    #[test]
    fn a_nal_unit_without_start_code_stays_whole() {
        assert_eq!(pieces(b"\x67\x01\0\0\x03\x01"), [vec![0x67, 1, 0, 0, 3, 1]]);
    }

    #[test]
    fn trailing_zeros_and_empty_units_vanish() {
        assert_eq!(pieces(b"\x67\x01\0\0\0"), [vec![0x67, 1]]);
        assert_eq!(pieces(b"\0\0\x01\0\0\x01\x68"), [vec![0x68]]);
        assert!(pieces(b"\0\0\x01").is_empty());
        assert!(pieces(b"\0").is_empty());
        assert!(pieces(b"").is_empty());
    }

    #[test]
    fn a_start_code_is_seen_only_at_the_front() {
        assert!(has_start_code(&[0, 0, 1]));
        assert!(has_start_code(&[0, 0, 0, 1, 0x67]));
        assert!(!has_start_code(&[0x67, 0, 0, 1]));
        assert!(!has_start_code(&[0, 0]));
    }
}
