//! A NAL unit as a rope: slices of the packets that it came in, in order, never copied together.

use bytes::Bytes;
use smallvec::SmallVec;

use super::Codec;

/// One NAL unit with its header, without start code or length. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nal {
    /// The bytes, in order; no slice is empty. A fragmented NAL unit's header is a slice of its own.
    pub slices: SmallVec<[Bytes; 4]>,
}

/// What a NAL unit means to a server that does not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NalClass {
    /// VPS, SPS or PPS.
    ParameterSet,
    /// A slice of a random access picture: IDR (H.264), IRAP (H.265).
    RandomAccess,
    /// A slice of any other picture.
    Picture,
    /// SEI, access unit delimiter, filler, end of sequence and the rest.
    Other,
}

impl Nal {
    /// A NAL unit in one piece.
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self { slices: SmallVec::from_iter([bytes]) }
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.slices.iter().map(Bytes::len).sum()
    }

    /// Never true of a NAL unit that a depacketizer gave.
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// The NAL unit type (H.264: 5 bits, H.265: 6 bits of the header).
    pub fn unit_type(&self, codec: Codec) -> u8 {
        let first = self.slices.first().and_then(|slice| slice.first()).copied().unwrap_or(0);
        match codec {
            Codec::H264 => first & 0x1f,
            Codec::H265 => first >> 1 & 0x3f,
        }
    }

    /// What it means to us.
    pub fn class(&self, codec: Codec) -> NalClass {
        match (codec, self.unit_type(codec)) {
            (Codec::H264, 7 | 8) | (Codec::H265, 32..=34) => NalClass::ParameterSet,
            (Codec::H264, 5) | (Codec::H265, 16..=23) => NalClass::RandomAccess,
            (Codec::H264, 1..=4) | (Codec::H265, 0..=9) => NalClass::Picture,
            _ => NalClass::Other,
        }
    }

    /// The whole in one piece: a copy when it came in several.
    pub fn to_contiguous(&self) -> Bytes {
        match self.slices.as_slice() {
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }
}
