//! NAL units of H.264 (ITU-T H.264 section 7.3.1, table 7-1) and H.265 (ITU-T H.265 section 7.3.1, table 7-1): what kind
//! one is, how SEI messages are written, emulation prevention. Cutting streams into NAL units is in `clip.rs`.

use crate::config::Codec;

/// What a NAL unit is to a packetizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// VPS, SPS or PPS.
    ParameterSet,
    /// A coded slice; `first` of its picture, `random_access` if decoding can start there.
    Slice { first: bool, random_access: bool },
    /// Anything that can only stand before the first slice of a picture.
    Prefix,
    /// Anything else.
    Other,
}

/// The kind of `nal_unit`; `Other` for one that is too short to tell.
pub(crate) fn kind(codec: Codec, nal_unit: &[u8]) -> Kind {
    let header_len = codec.nal_header_len();
    let (Some(&first), Some(&after_header)) = (nal_unit.first(), nal_unit.get(header_len)) else {
        return Kind::Other;
    };
    match (codec, codec.nal_type(first)) {
        // first_mb_in_slice is 0 exactly when its Exp-Golomb code starts with a 1.
        (Codec::H264, kind @ (1 | 2 | 5)) => {
            Kind::Slice { first: after_header & 0x80 != 0, random_access: kind == 5 }
        }
        (Codec::H264, 7 | 8 | 13 | 15) => Kind::ParameterSet,
        (Codec::H264, 6 | 9 | 14 | 16..=18) => Kind::Prefix,
        // first_slice_segment_in_pic_flag.
        (Codec::H265, kind @ 0..=31) => {
            Kind::Slice { first: after_header & 0x80 != 0, random_access: (16..=23).contains(&kind) }
        }
        (Codec::H265, 32..=34) => Kind::ParameterSet,
        (Codec::H265, 35 | 39 | 41..=44 | 48..=55) => Kind::Prefix,
        _ => Kind::Other,
    }
}

impl Codec {
    /// Bytes of a NAL unit header.
    pub(crate) fn nal_header_len(self) -> usize {
        match self {
            Self::H264 => 1,
            Self::H265 => 2,
        }
    }

    /// `nal_unit_type` of a header's first byte.
    pub(crate) fn nal_type(self, first: u8) -> u8 {
        match self {
            Self::H264 => first & 0x1f,
            Self::H265 => (first >> 1) & 0x3f,
        }
    }

    /// The header of a prefix SEI NAL unit.
    fn sei_header(self) -> &'static [u8] {
        match self {
            Self::H264 => &[6],
            Self::H265 => &[39 << 1, 1],
        }
    }

    /// The header of a filler data NAL unit.
    fn filler_header(self) -> &'static [u8] {
        match self {
            Self::H264 => &[12],
            Self::H265 => &[38 << 1, 1],
        }
    }
}

/// An access unit delimiter that allows all kinds of slices.
pub(crate) fn delimiter(codec: Codec) -> bytes::Bytes {
    bytes::Bytes::from_static(match codec {
        Codec::H264 => &[9, 0xf0],
        Codec::H265 => &[35 << 1, 1, 0x50],
    })
}

/// Whether no other picture refers to a slice's: `nal_ref_idc` 0, or a sub-layer non-reference picture.
pub(crate) fn is_disposable(codec: Codec, slice: &[u8]) -> bool {
    match codec {
        Codec::H264 => slice[0] & 0x60 == 0,
        Codec::H265 => codec.nal_type(slice[0]) < 16 && codec.nal_type(slice[0]).is_multiple_of(2),
    }
}

/// A NAL unit with one `user_data_unregistered` SEI message (H.264 section D.1.7, H.265 section D.2.7).
pub(crate) fn user_data(codec: Codec, uuid: &[u8; 16], payload: &[u8]) -> Vec<u8> {
    const USER_DATA_UNREGISTERED: u8 = 5;
    let mut size = uuid.len() + payload.len();
    let mut rbsp = Vec::with_capacity(size + size / 255 + 4);
    rbsp.push(USER_DATA_UNREGISTERED);
    while size >= 255 {
        rbsp.push(255);
        size -= 255;
    }
    rbsp.push(size as u8);
    rbsp.extend_from_slice(uuid);
    rbsp.extend_from_slice(payload);
    rbsp.push(0x80);
    with_header(codec.sei_header(), &rbsp)
}

/// A filler data NAL unit of `len` bytes, or the shortest there is.
pub(crate) fn filler(codec: Codec, len: usize) -> Vec<u8> {
    let header = codec.filler_header();
    let mut nal_unit = header.to_vec();
    nal_unit.resize(len.saturating_sub(1).max(header.len()), 0xff);
    nal_unit.push(0x80);
    nal_unit
}

/// `header` and `rbsp` as a NAL unit: emulation prevention bytes put in (H.264 section 7.4.1).
fn with_header(header: &[u8], rbsp: &[u8]) -> Vec<u8> {
    let mut nal_unit = Vec::with_capacity(header.len() + rbsp.len() + 8);
    nal_unit.extend_from_slice(header);
    let mut zeros = 0;
    for &byte in rbsp {
        if zeros >= 2 && byte <= 3 {
            nal_unit.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        nal_unit.push(byte);
    }
    nal_unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulation_prevention_breaks_every_start_code() {
        assert_eq!(
            with_header(&[6], &[0, 0, 0, 0, 1, 0, 0, 3, 0, 0, 4]),
            [6, 0, 0, 3, 0, 0, 3, 1, 0, 0, 3, 3, 0, 0, 4]
        );
    }

    #[test]
    fn user_data_has_its_size_in_255s() {
        let nal_unit = user_data(Codec::H265, &[7; 16], &[9; 500]);
        assert_eq!(nal_unit[..7], [0x4e, 1, 5, 255, 255, 6, 7]);
        assert_eq!(nal_unit.len(), 2 + 1 + 3 + 516 + 1);
        assert_eq!(nal_unit.last(), Some(&0x80));
    }

    #[test]
    fn filler_has_the_wanted_length() {
        assert_eq!(filler(Codec::H264, 100).len(), 100);
        assert_eq!(filler(Codec::H265, 0), [0x4c, 1, 0x80]);
    }

    #[test]
    fn kinds_are_told_by_type_and_first_slice_bit() {
        assert_eq!(kind(Codec::H264, &[0x65, 0x88]), Kind::Slice { first: true, random_access: true });
        assert_eq!(kind(Codec::H264, &[0x41, 0x08]), Kind::Slice { first: false, random_access: false });
        assert_eq!(kind(Codec::H264, &[0x67, 66]), Kind::ParameterSet);
        assert_eq!(kind(Codec::H265, &[19 << 1, 1, 0x80]), Kind::Slice { first: true, random_access: true });
        assert_eq!(kind(Codec::H265, &[33 << 1, 1, 1]), Kind::ParameterSet);
        assert_eq!(kind(Codec::H265, &[]), Kind::Other);
    }
}
