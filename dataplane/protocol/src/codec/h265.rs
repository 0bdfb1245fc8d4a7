//! H.265: its RTP payload structures (RFC 7798 section 4.4) and the sequence parameter set as far as the
//! picture size (H.265 section 7.3.2.2).
//!
//! Without DONL fields: we never ask for `sprop-max-don-diff`. What packets add up to is in `depacketizer`.

use std::num::NonZeroUsize;

use bytes::{Buf, Bytes};
use h264_reader::rbsp::{BitRead, BitReader, BitReaderError, ByteReader};

use super::depacketizer::{Fragment, Payload};

/// Bytes of a NAL unit header.
pub(super) const HEADER_LEN: usize = 2;

/// Reads the structure of one RTP payload by its first two bytes.
///
/// ```text
/// |F|   Type    |  LayerId  | TID |   0-47 single NAL unit   48 AP   49 FU   50 PACI
/// ```
pub(super) fn read_payload(mut payload: Bytes) -> Payload {
    let Some(&first) = payload.first() else { return Payload::Empty };
    if is_forbidden(first) || payload.len() < HEADER_LEN {
        return Payload::Malformed;
    }
    match first >> 1 & 0x3f {
        0..=47 => Payload::Single(payload),
        48 => {
            payload.advance(HEADER_LEN);
            Payload::Aggregation(payload)
        }
        49 => read_fragment(payload),
        50 => Payload::Malformed,
        _ => Payload::Reserved,
    }
}

/// FU (section 4.4.3): payload header, then `|S|E|  FuType   |`, then the fragment.
fn read_fragment(mut payload: Bytes) -> Payload {
    let &[first, second, fu_header, ..] = &payload[..] else { return Payload::Malformed };
    let unit_type = fu_header & 0x3f;
    if !is_unit_type(unit_type) {
        return Payload::Malformed;
    }
    payload.advance(HEADER_LEN + 1);
    Payload::Fragment(Fragment {
        header: header_slice([first & 0x81 | unit_type << 1, second]),
        start: fu_header & 0x80 != 0,
        end: fu_header & 0x40 != 0,
        body: payload,
    })
}

/// True if the forbidden bit of a header's first byte is set.
pub(super) fn is_forbidden(first: u8) -> bool {
    first & 0x80 != 0
}

/// True of the types of NAL units proper, not of RTP's own structures and the unspecified.
pub(super) fn is_unit_type(unit_type: u8) -> bool {
    unit_type <= 47
}

/// A header as a slice that allocates nothing where `nuh_layer_id` is 0, as it is without the multilayer
/// extensions.
fn header_slice(header: [u8; HEADER_LEN]) -> Bytes {
    static HEADERS: [[u8; HEADER_LEN]; 64 * 8] = {
        let mut headers = [[0; HEADER_LEN]; 64 * 8];
        let mut at = 0;
        while at < headers.len() {
            headers[at] = [((at / 8) as u8) << 1, (at % 8) as u8];
            at += 1;
        }
        headers
    };
    let [first, second] = header;
    let at = usize::from(first >> 1) * 8 + usize::from(second & 7);
    match HEADERS.get(at) {
        Some(kept) if *kept == header => Bytes::from_static(kept),
        _ => Bytes::copy_from_slice(&header),
    }
}

/// `vps_video_parameter_set_id` of a VPS, `None` if it cannot be read.
pub(super) fn vps_id(vps: &[u8]) -> Option<u8> {
    base_layer_bits(vps)?.read::<4, u8>("vps_video_parameter_set_id").ok()
}

/// `sps_seq_parameter_set_id` of an SPS, `None` if it cannot be read.
pub(super) fn sps_id(sps: &[u8]) -> Option<u8> {
    let mut bits = base_layer_bits(sps)?;
    skip_to_sps_id(&mut bits).ok()?;
    id(&mut bits, 15)
}

/// `pps_pic_parameter_set_id` of a PPS, `None` if it cannot be read.
pub(super) fn pps_id(pps: &[u8]) -> Option<u8> {
    id(&mut base_layer_bits(pps)?, 63)
}

/// Width and height inside the conformance window, in pixels; `None` if the SPS cannot be read so far.
pub(super) fn sps_dimensions(sps: &[u8]) -> Option<(u32, u32)> {
    let mut bits = base_layer_bits(sps)?;
    skip_to_sps_id(&mut bits).ok()?;
    id(&mut bits, 15)?;
    let (coded, window) = read_dimensions(&mut bits).ok()?;
    let width = coded.width.checked_sub(window.left.checked_add(window.right)?)?;
    let height = coded.height.checked_sub(window.top.checked_add(window.bottom)?)?;
    (width > 0 && height > 0).then_some((width, height))
}

/// What follows the header, if the NAL unit is of the base layer: parameter sets of others read differently.
fn base_layer_bits(nal: &[u8]) -> Option<BitReader<ByteReader<&[u8]>>> {
    let &[first, second, ..] = nal else { return None };
    let layer_id = (first & 1) << 5 | second >> 3;
    (layer_id == 0).then(|| BitReader::new(ByteReader::skipping_bytes(nal, SKIP_HEADER)))
}

fn id(bits: &mut impl BitRead, max: u32) -> Option<u8> {
    bits.read_ue("id").ok().filter(|&id| id <= max).and_then(|id| u8::try_from(id).ok())
}

fn skip_to_sps_id(bits: &mut impl BitRead) -> Result<(), BitReaderError> {
    bits.skip(4, "sps_video_parameter_set_id")?;
    let max_sub_layers_minus1 = bits.read::<3, u8>("sps_max_sub_layers_minus1")?;
    bits.skip(1, "sps_temporal_id_nesting_flag")?;
    skip_profile_tier_level(bits, max_sub_layers_minus1)
}

/// Section 7.3.3.
fn skip_profile_tier_level(bits: &mut impl BitRead, max_sub_layers_minus1: u8) -> Result<(), BitReaderError> {
    bits.skip(PROFILE_BITS + LEVEL_BITS, "general_profile, general_level_idc")?;
    let mut present_bits = 0;
    for _ in 0..max_sub_layers_minus1 {
        if bits.read_bit("sub_layer_profile_present_flag")? {
            present_bits += PROFILE_BITS;
        }
        if bits.read_bit("sub_layer_level_present_flag")? {
            present_bits += LEVEL_BITS;
        }
    }
    if max_sub_layers_minus1 > 0 {
        bits.skip(2 * u32::from(8 - max_sub_layers_minus1), "reserved_zero_2bits")?;
    }
    bits.skip(present_bits, "sub_layer_profile, sub_layer_level_idc")
}

/// Width and height, in luma samples.
struct Coded {
    width: u32,
    height: u32,
}

/// What is cut off at each edge, in luma samples.
#[derive(Default)]
struct ConformanceWindow {
    left: u32,
    right: u32,
    top: u32,
    bottom: u32,
}

fn read_dimensions(bits: &mut impl BitRead) -> Result<(Coded, ConformanceWindow), BitReaderError> {
    let chroma_format_idc = bits.read_ue("chroma_format_idc")?;
    if chroma_format_idc == 3 {
        bits.skip(1, "separate_colour_plane_flag")?;
    }
    // SubWidthC and SubHeightC, table 6-1.
    let (unit_x, unit_y) = match chroma_format_idc {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let coded = Coded {
        width: bits.read_ue("pic_width_in_luma_samples")?,
        height: bits.read_ue("pic_height_in_luma_samples")?,
    };
    if !bits.read_bit("conformance_window_flag")? {
        return Ok((coded, ConformanceWindow::default()));
    }
    // A window that saturates is larger than any picture, and so refused.
    let window = ConformanceWindow {
        left: bits.read_ue("conf_win_left_offset")?.saturating_mul(unit_x),
        right: bits.read_ue("conf_win_right_offset")?.saturating_mul(unit_x),
        top: bits.read_ue("conf_win_top_offset")?.saturating_mul(unit_y),
        bottom: bits.read_ue("conf_win_bottom_offset")?.saturating_mul(unit_y),
    };
    Ok((coded, window))
}

const SKIP_HEADER: NonZeroUsize = NonZeroUsize::new(HEADER_LEN).expect("a header has two bytes");

/// Profile space, tier, profile, compatibility and constraint flags.
const PROFILE_BITS: u32 = 2 + 1 + 5 + 32 + 48;

const LEVEL_BITS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_aggregated_and_fragmented_payloads_are_told_apart() {
        let read = |bytes: &'static [u8]| read_payload(Bytes::from_static(bytes));
        assert_eq!(read(b"\x02\x01\xd0"), Payload::Single(Bytes::from_static(b"\x02\x01\xd0")));
        assert_eq!(
            read(b"\x60\x01\x00\x02\x46\x01"),
            Payload::Aggregation(Bytes::from_static(b"\x00\x02\x46\x01"))
        );
        let Payload::Fragment(fragment) = read(b"\x62\x01\x93\xaf\x01") else { panic!("a FU") };
        assert!(fragment.start && !fragment.end);
        assert_eq!(fragment.header, b"\x26\x01"[..]);
        assert_eq!(fragment.body, b"\xaf\x01"[..]);
    }

    #[test]
    fn what_we_do_not_ask_for_is_malformed() {
        let read = |bytes: &'static [u8]| read_payload(Bytes::from_static(bytes));
        assert_eq!(read(b"\x64\x01\x00\x00"), Payload::Malformed, "PACI");
        assert_eq!(read(b"\x82\x01\xd0"), Payload::Malformed, "forbidden bit");
        assert_eq!(read(b"\x02"), Payload::Malformed, "half a header");
        assert_eq!(read(b"\x62\x01"), Payload::Malformed, "FU without its header");
        assert_eq!(read(b"\x62\x01\xb0\x00"), Payload::Malformed, "an AP in a FU");
        assert_eq!(read(b"\x7e\x01"), Payload::Reserved);
        assert_eq!(read(b""), Payload::Empty);
    }

    #[test]
    fn every_header_of_a_fragment_comes_back() {
        for first in 0..=0x7f_u8 {
            for second in 0..=0xff_u8 {
                assert_eq!(header_slice([first, second]), [first, second][..]);
            }
        }
    }
}
