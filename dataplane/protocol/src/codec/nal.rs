//! A NAL unit as a rope: slices of the packets that it came in, in order, never copied together.
//!
//! Here is what its first bytes say (H.264 sections 7.3.1 and 7.3.3, H.265 sections 7.3.1.2 and 7.3.6.1).
//! Parameter sets are read in `h264` and `h265`.

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
        self.head(codec).unit_type
    }

    /// What it means to us.
    pub fn class(&self, codec: Codec) -> NalClass {
        self.head(codec).class()
    }

    /// True of a slice that begins a picture: `first_mb_in_slice` is 0 (H.264), or
    /// `first_slice_segment_in_pic_flag` is set (H.265).
    pub fn is_first_slice(&self, codec: Codec) -> bool {
        self.head(codec).first_slice
    }

    /// True of a slice that no other picture needs, so that it can be left out where bits are short.
    ///
    /// H.264: `nal_ref_idc` is 0. H.265: a sub-layer non-reference picture, which pictures of *higher*
    /// temporal sub-layers may still need: leave those out too.
    pub fn is_disposable(&self, codec: Codec) -> bool {
        let head = self.head(codec);
        head.class() == NalClass::Picture
            && match codec {
                Codec::H264 => self.bytes().next().is_some_and(|header| header & 0x60 == 0),
                Codec::H265 => head.unit_type.is_multiple_of(2),
            }
    }

    /// The whole in one piece: a copy when it came in several.
    pub fn to_contiguous(&self) -> Bytes {
        match self.slices.as_slice() {
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }

    /// What its first bytes say.
    pub(super) fn head(&self, codec: Codec) -> NalHead {
        NalHead::read(codec, self.bytes())
    }

    fn bytes(&self) -> impl Iterator<Item = u8> {
        self.slices.iter().flatten().copied()
    }
}

/// The NAL unit header and the first bit of what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NalHead {
    codec: Codec,
    pub(super) unit_type: u8,
    pub(super) first_slice: bool,
}

impl NalHead {
    /// Reads the first bytes of a NAL unit. Missing bytes count as zero.
    pub(super) fn read(codec: Codec, mut bytes: impl Iterator<Item = u8>) -> Self {
        let header = bytes.next().unwrap_or(0);
        let unit_type = unit_type(codec, header);
        if codec == Codec::H265 {
            bytes.next();
        }
        // first_slice_segment_in_pic_flag, or first_mb_in_slice as ue(v), where 0 is the single bit 1.
        let flag = bytes.next().unwrap_or(0) & 0x80 != 0;
        let has_flag = match codec {
            Codec::H264 => matches!(unit_type, 1 | 2 | 5),
            Codec::H265 => unit_type < 32,
        };
        Self { codec, unit_type, first_slice: has_flag && flag }
    }

    /// What the NAL unit means to us.
    pub(super) fn class(self) -> NalClass {
        match (self.codec, self.unit_type) {
            (Codec::H264, 7 | 8) | (Codec::H265, 32..=34) => NalClass::ParameterSet,
            (Codec::H264, 5) | (Codec::H265, 16..=23) => NalClass::RandomAccess,
            (Codec::H264, 1..=4) | (Codec::H265, 0..=9) => NalClass::Picture,
            _ => NalClass::Other,
        }
    }

    /// True of a slice, of whatever picture.
    pub(super) fn is_slice(self) -> bool {
        matches!(self.class(), NalClass::RandomAccess | NalClass::Picture)
    }

    /// True if it ends the access unit before it, when that has a picture: a first slice, an access unit
    /// delimiter, a parameter set.
    ///
    /// H.264 section 7.4.1.2.3 and H.265 section 7.4.2.4.4 say so of a (prefix) SEI too, but cameras put
    /// SEI behind the picture that it belongs to.
    pub(super) fn ends_access_unit_before(self) -> bool {
        self.first_slice || self.is_delimiter() || self.class() == NalClass::ParameterSet
    }

    /// True if no part of its picture comes before it.
    pub(super) fn begins_access_unit(self) -> bool {
        self.ends_access_unit_before() || self.is_prefix_sei()
    }

    fn is_delimiter(self) -> bool {
        matches!((self.codec, self.unit_type), (Codec::H264, 9) | (Codec::H265, 35))
    }

    /// True of an SEI, before or behind a picture.
    pub(super) fn is_sei(self) -> bool {
        matches!((self.codec, self.unit_type), (Codec::H264, 6) | (Codec::H265, 39 | 40))
    }

    fn is_prefix_sei(self) -> bool {
        matches!((self.codec, self.unit_type), (Codec::H264, 6) | (Codec::H265, 39))
    }
}

fn unit_type(codec: Codec, header: u8) -> u8 {
    match codec {
        Codec::H264 => header & 0x1f,
        Codec::H265 => header >> 1 & 0x3f,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nal(slices: &[&'static [u8]]) -> Nal {
        Nal { slices: slices.iter().map(|slice| Bytes::from_static(slice)).collect() }
    }

    #[test]
    fn classes_of_h264() {
        for (header, class) in [
            (0x67, NalClass::ParameterSet),
            (0x68, NalClass::ParameterSet),
            (0x65, NalClass::RandomAccess),
            (0x41, NalClass::Picture),
            (0x06, NalClass::Other),
            (0x09, NalClass::Other),
        ] {
            assert_eq!(Nal::from_bytes(vec![header, 0x80].into()).class(Codec::H264), class);
        }
    }

    #[test]
    fn classes_of_h265() {
        for (unit_type, class) in [
            (32, NalClass::ParameterSet),
            (34, NalClass::ParameterSet),
            (19, NalClass::RandomAccess),
            (21, NalClass::RandomAccess),
            (1, NalClass::Picture),
            (35, NalClass::Other),
            (39, NalClass::Other),
        ] {
            assert_eq!(Nal::from_bytes(vec![unit_type << 1, 1].into()).class(Codec::H265), class);
        }
    }

    #[test]
    fn the_first_slice_is_seen_through_the_rope() {
        assert!(nal(&[b"\x65", b"\x88"]).is_first_slice(Codec::H264));
        assert!(!nal(&[b"\x65", b"\x40"]).is_first_slice(Codec::H264));
        assert!(nal(&[b"\x26\x01", b"\xaf"]).is_first_slice(Codec::H265));
        assert!(nal(&[b"\x26", b"\x01", b"\xaf"]).is_first_slice(Codec::H265));
        assert!(!nal(&[b"\x26\x01", b"\x2f"]).is_first_slice(Codec::H265));
    }

    #[test]
    fn only_slices_are_first_slices() {
        assert!(!nal(&[b"\x67\xff"]).is_first_slice(Codec::H264));
        assert!(
            !nal(&[b"\x63\xff"]).is_first_slice(Codec::H264),
            "data partition B has no first_mb_in_slice"
        );
        assert!(!nal(&[b"\x42\x01\xff"]).is_first_slice(Codec::H265));
        assert!(!nal(&[b"\x65"]).is_first_slice(Codec::H264));
    }

    #[test]
    fn pictures_that_none_refers_to_are_disposable() {
        assert!(nal(&[b"\x01\x9e"]).is_disposable(Codec::H264));
        assert!(!nal(&[b"\x41\x9e"]).is_disposable(Codec::H264));
        assert!(!nal(&[b"\x06\x05"]).is_disposable(Codec::H264), "an SEI is no picture");
        assert!(nal(&[b"\x00\x01\x9e"]).is_disposable(Codec::H265), "TRAIL_N");
        assert!(!nal(&[b"\x02\x01\x9e"]).is_disposable(Codec::H265), "TRAIL_R");
        assert!(!nal(&[b"\x28\x01\x9e"]).is_disposable(Codec::H265), "IDR_N_LP");
    }
}
