//! The decoder configuration records `avcC` and `hvcC` (ISO/IEC 14496-15 sections 5.3.3.1 and 8.3.3.1): parameter sets out of
//! band, and what the first SPS says of profile, level and sample format.
//!
//! NAL units in samples have lengths of four bytes. Where the records stand is in `init`.

use std::num::NonZeroUsize;

use bytes::Bytes;
use h264_reader::rbsp::{BitRead, BitReader, BitReaderError, ByteReader};
use mp4_atom::{Avcc, AvccExt, HvcCArray, Hvcc};

use crate::codec::{Codec, Nal, ParameterSets};

/// `avcC` of these sets.
pub(super) fn avcc(sets: &ParameterSets) -> Avcc {
    let [profile, constraints, level] = sets.profile_level_id_bytes().unwrap_or_default();
    Avcc {
        configuration_version: 1,
        avc_profile_indication: profile,
        profile_compatibility: constraints,
        avc_level_indication: level,
        length_size: LENGTH_SIZE,
        sequence_parameter_sets: sets.sps().take(MAX_AVCC_SPS).map(|nal| nal.to_vec()).collect(),
        picture_parameter_sets: sets.pps().take(MAX_AVCC_PPS).map(|nal| nal.to_vec()).collect(),
        ext: sets.sps().next().filter(|_| has_sample_format(profile)).map(|sps| {
            let format = h264_sample_format(sps).unwrap_or_default();
            AvccExt {
                chroma_format: format.chroma_format_idc,
                bit_depth_luma: 8 + format.bit_depth_luma_minus8,
                bit_depth_chroma: 8 + format.bit_depth_chroma_minus8,
                sequence_parameter_sets_ext: Vec::new(),
            }
        }),
    }
}

/// `hvcC` of these sets.
pub(super) fn hvcc(sets: &ParameterSets) -> Hvcc {
    let of_sps = sets.sps().next().and_then(|sps| hvcc_of_sps(sps).ok());
    Hvcc {
        configuration_version: 1,
        length_size_minus_one: LENGTH_SIZE - 1,
        arrays: vec![
            array(H265_VPS, &mut sets.vps()),
            array(H265_SPS, &mut sets.sps()),
            array(H265_PPS, &mut sets.pps()),
        ],
        ..of_sps.unwrap_or_default()
    }
}

/// `array_completeness`: none of these is in the samples only.
fn array(nal_unit_type: u8, nals: &mut dyn Iterator<Item = &Bytes>) -> HvcCArray {
    HvcCArray { completeness: true, nal_unit_type, nalus: nals.map(|nal| nal.to_vec()).collect() }
}

/// The parameter sets of `avcC`; `None` where they are not whole or it is not one of ours.
pub(super) fn sets_of_avcc(record: Avcc) -> Option<ParameterSets> {
    let nals = [(7, record.sequence_parameter_sets), (8, record.picture_parameter_sets)];
    (record.length_size == LENGTH_SIZE).then(|| sets_of(Codec::H264, nals))?
}

/// The same of `hvcC`.
pub(super) fn sets_of_hvcc(record: Hvcc) -> Option<ParameterSets> {
    let ours = record.configuration_version == 1 && record.length_size_minus_one == LENGTH_SIZE - 1;
    let arrays = record.arrays.into_iter().map(|array| (array.nal_unit_type, array.nalus));
    ours.then(|| sets_of(Codec::H265, arrays))?
}

/// Every NAL unit must be a set of its array's type, and none may be there twice.
fn sets_of(codec: Codec, arrays: impl IntoIterator<Item = (u8, Vec<Vec<u8>>)>) -> Option<ParameterSets> {
    let (mut sets, mut count) = (ParameterSets::new(codec), 0);
    for (unit_type, nals) in arrays {
        for nal in nals.into_iter().map(|nal| Nal::from_bytes(nal.into())) {
            count += 1;
            let taken = nal.unit_type(codec) == unit_type && sets.handle_nal(&nal);
            if !taken || sets.iter().count() != count {
                return None;
            }
        }
    }
    sets.is_complete().then_some(sets)
}

/// Chroma format and bit depths, within what the records have bits for.
struct SampleFormat {
    chroma_format_idc: u8,
    bit_depth_luma_minus8: u8,
    bit_depth_chroma_minus8: u8,
}

impl Default for SampleFormat {
    /// 4:2:0, 8 bits.
    fn default() -> Self {
        Self { chroma_format_idc: 1, bit_depth_luma_minus8: 0, bit_depth_chroma_minus8: 0 }
    }
}

impl SampleFormat {
    /// `None` where the records have no bits for it.
    fn new(chroma_format_idc: u32, luma_minus8: u32, chroma_minus8: u32) -> Option<Self> {
        let narrow = |value: u32, max| u8::try_from(value).ok().filter(|&value| value <= max);
        Some(Self {
            chroma_format_idc: narrow(chroma_format_idc, 3)?,
            bit_depth_luma_minus8: narrow(luma_minus8, 7)?,
            bit_depth_chroma_minus8: narrow(chroma_minus8, 7)?,
        })
    }
}

/// True of the profiles whose `avcC` has chroma format and bit depths: all but Baseline, Main and Extended, whose
/// SPS has none (H.264 section 7.3.2.1.1).
fn has_sample_format(profile_idc: u8) -> bool {
    matches!(profile_idc, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

/// H.264 section 7.3.2.1.1, of an SPS that has it.
fn h264_sample_format(sps: &[u8]) -> Option<SampleFormat> {
    let mut bits = BitReader::new(ByteReader::skipping_h264_header(sps));
    bits.skip(24, "profile_idc, constraint flags, level_idc").ok()?;
    bits.read_ue("seq_parameter_set_id").ok()?;
    let chroma_format_idc = bits.read_ue("chroma_format_idc").ok()?;
    if chroma_format_idc == 3 {
        bits.skip(1, "separate_colour_plane_flag").ok()?;
    }
    let luma_minus8 = bits.read_ue("bit_depth_luma_minus8").ok()?;
    let chroma_minus8 = bits.read_ue("bit_depth_chroma_minus8").ok()?;
    SampleFormat::new(chroma_format_idc, luma_minus8, chroma_minus8)
}

/// All that an SPS says (H.265 section 7.3.2.2.1); without parameter sets.
fn hvcc_of_sps(sps: &[u8]) -> Result<Hvcc, BitReaderError> {
    let mut bits = BitReader::new(ByteReader::skipping_bytes(sps, H265_NAL_HEADER_LEN));
    bits.skip(4, "sps_video_parameter_set_id")?;
    let max_sub_layers_minus1 = bits.read::<3, u8>("sps_max_sub_layers_minus1")?;
    let mut record = Hvcc {
        // 0 is "unknown": the value 7 is reserved.
        num_temporal_layers: if max_sub_layers_minus1 < 7 { max_sub_layers_minus1 + 1 } else { 0 },
        temporal_id_nested: bits.read_bit("sps_temporal_id_nesting_flag")?,
        general_profile_space: bits.read::<2, u8>("general_profile_space")?,
        general_tier_flag: bits.read_bit("general_tier_flag")?,
        general_profile_idc: bits.read::<5, u8>("general_profile_idc")?,
        general_profile_compatibility_flags: bits.read_to("general_profile_compatibility_flag")?,
        general_constraint_indicator_flags: bits.read_to("general constraint flags")?,
        general_level_idc: bits.read::<8, u8>("general_level_idc")?,
        ..Hvcc::default()
    };
    let format = h265_sample_format(&mut bits, max_sub_layers_minus1).ok().flatten().unwrap_or_default();
    record.chroma_format_idc = format.chroma_format_idc;
    record.bit_depth_luma_minus8 = format.bit_depth_luma_minus8;
    record.bit_depth_chroma_minus8 = format.bit_depth_chroma_minus8;
    Ok(record)
}

/// From behind `general_level_idc`.
fn h265_sample_format(
    bits: &mut impl BitRead,
    max_sub_layers_minus1: u8,
) -> Result<Option<SampleFormat>, BitReaderError> {
    let mut sub_layer_bits = 0;
    for _ in 0..max_sub_layers_minus1 {
        let profile = bits.read_bit("sub_layer_profile_present_flag")?;
        let level = bits.read_bit("sub_layer_level_present_flag")?;
        sub_layer_bits += if profile { 88 } else { 0 } + if level { 8 } else { 0 };
    }
    if max_sub_layers_minus1 > 0 {
        bits.skip(2 * u32::from(8 - max_sub_layers_minus1), "reserved_zero_2bits")?;
    }
    bits.skip(sub_layer_bits, "sub_layer_profile, sub_layer_level_idc")?;
    bits.read_ue("sps_seq_parameter_set_id")?;
    let chroma_format_idc = bits.read_ue("chroma_format_idc")?;
    if chroma_format_idc == 3 {
        bits.skip(1, "separate_colour_plane_flag")?;
    }
    bits.read_ue("pic_width_in_luma_samples")?;
    bits.read_ue("pic_height_in_luma_samples")?;
    if bits.read_bit("conformance_window_flag")? {
        for offset in
            ["conf_win_left_offset", "conf_win_right_offset", "conf_win_top_offset", "conf_win_bottom_offset"]
        {
            bits.read_ue(offset)?;
        }
    }
    let luma_minus8 = bits.read_ue("bit_depth_luma_minus8")?;
    let chroma_minus8 = bits.read_ue("bit_depth_chroma_minus8")?;
    Ok(SampleFormat::new(chroma_format_idc, luma_minus8, chroma_minus8))
}

/// Bytes of the length before each NAL unit in a sample.
const LENGTH_SIZE: u8 = 4;

/// `numOfSequenceParameterSets` has five bits, `numOfPictureParameterSets` eight.
const MAX_AVCC_SPS: usize = 31;
const MAX_AVCC_PPS: usize = 255;

const H265_NAL_HEADER_LEN: NonZeroUsize = NonZeroUsize::new(2).expect("a header has two bytes");

const H265_VPS: u8 = 32;
const H265_SPS: u8 = 33;
const H265_PPS: u8 = 34;

#[cfg(test)]
mod tests {
    use super::*;
    use mp4_atom::Atom;

    /// Records of x264's and x265's parameter sets as ffmpeg writes them.
    const H264_BASE: &[u8] =
        b"\x01\x42\xc0\x1e\xff\xe1\x00\x19\x67\x42\xc0\x1e\xd9\x00\xa0\x2f\xf9\x70\x11\x00\x00\x03\x00\x01\
        \x00\x00\x03\x00\x32\x0f\x16\x2e\x48\x01\x00\x05\x68\xcb\x83\xcb\x20";
    const H264_HIGH: &[u8] =
        b"\x01\x64\x00\x1f\xff\xe1\x00\x1a\x67\x64\x00\x1f\xac\xd9\x40\x50\x05\xbb\x01\x10\x00\x00\x03\x00\
        \x10\x00\x00\x03\x03\x20\xf1\x83\x19\x60\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0\xfd\xf8\xf8\x00";
    const H264_HIGH_422_10: &[u8] =
        b"\x01\x7a\x00\x0d\xff\xe1\x00\x19\x67\x7a\x00\x0d\xb6\xcd\x94\x14\x1f\xb0\x11\x00\x00\x03\x00\x01\
        \x00\x00\x03\x00\x32\x0f\x14\x29\x96\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0\xfe\xfa\xfa\x00";
    const H265_MAIN: &[u8] =
        b"\x01\x01\x60\x00\x00\x00\x90\x00\x00\x00\x00\x00\x3f\xf0\x00\xfc\xfd\xf8\xf8\x00\x00\x0f\x03\xa0\
        \x00\x01\x00\x18\x40\x01\x0c\x01\xff\xff\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\
        \x3f\x92\x80\x90\xa1\x00\x01\x00\x2a\x42\x01\x01\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\
        \x03\x00\x3f\xa0\x05\x02\x01\x69\x65\x92\xa4\x93\x2b\xc0\x5a\x02\x00\x00\x03\x00\x02\x00\x00\x03\
        \x00\x32\x10\xa2\x00\x01\x00\x07\x44\x01\xc1\x72\xb4\x62\x40";
    const H265_MAIN_422_10: &[u8] =
        b"\x01\x04\x08\x00\x00\x00\x9d\x08\x00\x00\x00\x00\x3c\xf0\x00\xfc\xfe\xfa\xfa\x00\x00\x0f\x03\xa0\
        \x00\x01\x00\x17\x40\x01\x0c\x01\xff\xff\x04\x08\x00\x00\x03\x00\x9d\x08\x00\x00\x03\x00\x00\x3c\
        \x95\x98\x09\xa1\x00\x01\x00\x29\x42\x01\x01\x04\x08\x00\x00\x03\x00\x9d\x08\x00\x00\x03\x00\x00\
        \x3c\xb0\x0a\x08\x0f\x13\x65\x95\x9a\x49\x32\xbc\x05\xa0\x20\x00\x00\x03\x00\x20\x00\x00\x03\x03\
        \x21\xa2\x00\x01\x00\x07\x44\x01\xc1\x72\xb4\x62\x40";

    fn read_avcc(record: &[u8]) -> Option<ParameterSets> {
        sets_of_avcc(Avcc::decode_body(&mut &record[..]).ok()?)
    }

    fn read_hvcc(record: &[u8]) -> Option<ParameterSets> {
        sets_of_hvcc(Hvcc::decode_body(&mut &record[..]).ok()?)
    }

    fn written(record: &impl Atom) -> Vec<u8> {
        let mut out = Vec::new();
        record.encode_body(&mut out).expect("numbers within their bits");
        out
    }

    #[test]
    fn avcc_is_what_others_write() {
        for record in [H264_BASE, H264_HIGH, H264_HIGH_422_10] {
            let sets = read_avcc(record).expect("complete sets");
            assert_eq!(written(&avcc(&sets)), record);
        }
    }

    #[test]
    fn hvcc_is_what_others_write() {
        for record in [H265_MAIN, H265_MAIN_422_10] {
            let sets = read_hvcc(record).expect("complete sets");
            assert_eq!(written(&hvcc(&sets)), record);
        }
    }

    #[test]
    fn a_record_without_complete_sets_is_refused() {
        for len in 0..H264_HIGH.len() - 4 {
            assert_eq!(read_avcc(&H264_HIGH[..len]), None, "{len}");
        }
        for len in 0..H265_MAIN.len() {
            assert_eq!(read_hvcc(&H265_MAIN[..len]), None, "{len}");
        }
    }

    #[test]
    fn a_set_in_the_array_of_another_type_is_refused() {
        let mut record = hvcc(&read_hvcc(H265_MAIN).expect("complete sets"));
        record.arrays[0].nal_unit_type = H265_PPS;
        assert_eq!(sets_of_hvcc(record), None);
    }

    #[test]
    fn a_set_that_is_there_twice_is_refused() {
        let mut record = avcc(&read_avcc(H264_BASE).expect("complete sets"));
        record.picture_parameter_sets.push(record.picture_parameter_sets[0].clone());
        assert_eq!(sets_of_avcc(record), None);
    }

    #[test]
    fn other_lengths_of_nal_units_are_refused() {
        let mut record = hvcc(&read_hvcc(H265_MAIN).expect("complete sets"));
        record.length_size_minus_one = 1;
        assert_eq!(sets_of_hvcc(record), None);
        let mut record = avcc(&read_avcc(H264_BASE).expect("complete sets"));
        record.length_size = 2;
        assert_eq!(sets_of_avcc(record), None);
    }

    #[test]
    fn every_set_that_is_kept_can_be_written() {
        for (codec, record) in [(Codec::H264, H264_HIGH), (Codec::H265, H265_MAIN)] {
            let sets = if codec == Codec::H264 { read_avcc(record) } else { read_hvcc(record) };
            let sps = sets.expect("complete sets").sps().next().expect("an SPS").to_vec();
            for bit in 0..sps.len() * 8 {
                let mut flipped = sps.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let mut sets = ParameterSets::new(codec);
                sets.handle_nal(&Nal::from_bytes(flipped.into()));
                match codec {
                    Codec::H264 => written(&avcc(&sets)),
                    Codec::H265 => written(&hvcc(&sets)),
                };
            }
        }
    }
}
