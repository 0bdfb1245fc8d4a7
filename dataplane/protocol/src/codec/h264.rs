//! H.264: its RTP payload structures (RFC 6184 section 5) and the sequence parameter set as far as the
//! picture size (H.264 section 7.3.2.1.1).
//!
//! What packets add up to (fragments, access units, loss) is in `depacketizer`.

use bytes::{Buf, Bytes};
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::rbsp::{BitRead, BitReader, BitReaderError, ByteReader, Integer, Primitive};

use super::depacketizer::{Fragment, Payload};

/// Bytes of a NAL unit header.
pub(super) const HEADER_LEN: usize = 1;

/// Reads the structure of one RTP payload by its first byte.
///
/// ```text
/// |F|NRI|  Type   |   1-23 single NAL unit   24 STAP-A   28 FU-A
/// ```
///
/// STAP-B, MTAP16, MTAP24 and FU-B (25-27, 29) belong to the interleaved mode, which we never ask for.
pub(super) fn read_payload(mut payload: Bytes) -> Payload {
    let Some(&indicator) = payload.first() else { return Payload::Empty };
    if is_forbidden(indicator) {
        return Payload::Malformed;
    }
    match indicator & 0x1f {
        1..=23 => Payload::Single(payload),
        24 => {
            payload.advance(1);
            Payload::Aggregation(payload)
        }
        28 => read_fragment(indicator, payload),
        25..=27 | 29 => Payload::Malformed,
        _ => Payload::Reserved,
    }
}

/// FU-A (section 5.8): indicator, then `|S|E|R|  Type   |`, then the fragment.
fn read_fragment(indicator: u8, mut payload: Bytes) -> Payload {
    let Some(&fu_header) = payload.get(1) else { return Payload::Malformed };
    let unit_type = fu_header & 0x1f;
    if !is_unit_type(unit_type) {
        return Payload::Malformed;
    }
    payload.advance(2);
    Payload::Fragment(Fragment {
        header: header_slice(indicator & 0x60 | unit_type),
        start: fu_header & 0x80 != 0,
        end: fu_header & 0x40 != 0,
        body: payload,
    })
}

/// True if the forbidden bit of a header is set: the bytes are no NAL unit, or one known to be broken.
pub(super) fn is_forbidden(header: u8) -> bool {
    header & 0x80 != 0
}

/// True of the types of NAL units proper, not of RTP's own structures and the undefined.
pub(super) fn is_unit_type(unit_type: u8) -> bool {
    (1..=23).contains(&unit_type)
}

/// A header as a slice that allocates nothing.
fn header_slice(header: u8) -> Bytes {
    static HEADERS: [u8; 256] = {
        let mut headers = [0; 256];
        let mut header = 0;
        while header < 256 {
            headers[header] = header as u8;
            header += 1;
        }
        headers
    };
    let at = usize::from(header);
    Bytes::from_static(&HEADERS[at..=at])
}

/// `seq_parameter_set_id` of an SPS, `None` if it cannot be read.
pub(super) fn sps_id(sps: &[u8]) -> Option<u8> {
    let mut bits = bits(sps);
    bits.skip(24, "profile_idc, constraint flags, level_idc").ok()?;
    id(&mut bits, 31)
}

/// `pic_parameter_set_id` of a PPS, `None` if it cannot be read.
pub(super) fn pps_id(pps: &[u8]) -> Option<u8> {
    id(&mut bits(pps), 255)
}

/// Width and height after cropping, in pixels; `None` if the SPS cannot be read so far.
pub(super) fn sps_dimensions(sps: &[u8]) -> Option<(u32, u32)> {
    let mut sps = sps.to_vec();
    // Level and picture size that do not fit together are the decoder's business: cameras get it wrong.
    *sps.get_mut(LEVEL_IDC_AT)? = HIGHEST_LEVEL_IDC;
    let parsed = SeqParameterSet::from_bits(UpToVui(bits(&sps))).ok()?;
    let (width, height) = parsed.pixel_dimensions().ok()?;
    (width > 0 && height > 0).then_some((width, height))
}

fn bits(nal: &[u8]) -> BitReader<ByteReader<&[u8]>> {
    BitReader::new(ByteReader::skipping_h264_header(nal))
}

fn id(bits: &mut impl BitRead, max: u32) -> Option<u8> {
    bits.read_ue("id").ok().filter(|&id| id <= max).and_then(|id| u8::try_from(id).ok())
}

/// Where `level_idc` is in an SPS NAL unit: after header, `profile_idc` and the constraint flags.
const LEVEL_IDC_AT: usize = 3;

/// Level 6.2, the highest that there is.
const HIGHEST_LEVEL_IDC: u8 = 62;

/// Reads an SPS as if it ended before its VUI: some cameras (Reolink among them) send bytes there that do
/// not add up, and we want the picture size only.
struct UpToVui<R>(R);

impl<R: BitRead> BitRead for UpToVui<R> {
    fn read_ue(&mut self, name: &'static str) -> Result<u32, BitReaderError> {
        self.0.read_ue(name)
    }
    fn read_se(&mut self, name: &'static str) -> Result<i32, BitReaderError> {
        self.0.read_se(name)
    }
    fn read_bit(&mut self, name: &'static str) -> Result<bool, BitReaderError> {
        if name == "vui_parameters_present_flag" { Ok(false) } else { self.0.read_bit(name) }
    }
    fn read<const BITS: u32, I: Integer>(&mut self, name: &'static str) -> Result<I, BitReaderError> {
        self.0.read::<BITS, I>(name)
    }
    fn read_var<I: Integer>(&mut self, bit_count: u32, name: &'static str) -> Result<I, BitReaderError> {
        self.0.read_var(bit_count, name)
    }
    fn read_to<V: Primitive>(&mut self, name: &'static str) -> Result<V, BitReaderError> {
        self.0.read_to(name)
    }
    fn skip(&mut self, bit_count: u32, name: &'static str) -> Result<(), BitReaderError> {
        self.0.skip(bit_count, name)
    }
    fn byte_aligned(&self) -> bool {
        self.0.byte_aligned()
    }
    fn has_more_rbsp_data(&mut self, name: &'static str) -> Result<bool, BitReaderError> {
        self.0.has_more_rbsp_data(name)
    }
    fn finish_rbsp(self) -> Result<(), BitReaderError> {
        Ok(())
    }
    fn finish_sei_payload(self) -> Result<(), BitReaderError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_aggregated_and_fragmented_payloads_are_told_apart() {
        let read = |bytes: &'static [u8]| read_payload(Bytes::from_static(bytes));
        assert_eq!(read(b"\x65\x88"), Payload::Single(Bytes::from_static(b"\x65\x88")));
        assert_eq!(read(b"\x18\x00\x01\x09"), Payload::Aggregation(Bytes::from_static(b"\x00\x01\x09")));
        let Payload::Fragment(fragment) = read(b"\x7c\x85\x88\x80") else { panic!("a FU-A") };
        assert!(fragment.start && !fragment.end);
        assert_eq!(fragment.header, b"\x65"[..]);
        assert_eq!(fragment.body, b"\x88\x80"[..]);
    }

    #[test]
    fn what_packetization_mode_1_does_not_have_is_malformed() {
        for indicator in [25_u8, 26, 27, 29] {
            assert_eq!(read_payload(vec![indicator, 0, 0, 0].into()), Payload::Malformed);
        }
        assert_eq!(read_payload(Bytes::from_static(b"\xe5\x88")), Payload::Malformed, "forbidden bit");
        assert_eq!(read_payload(Bytes::from_static(b"\x7c")), Payload::Malformed, "FU-A without its header");
        assert_eq!(
            read_payload(Bytes::from_static(b"\x7c\x98\x00")),
            Payload::Malformed,
            "a STAP-A in a FU-A"
        );
        for indicator in [0_u8, 30, 31] {
            assert_eq!(read_payload(vec![indicator, 0].into()), Payload::Reserved);
        }
        assert_eq!(read_payload(Bytes::new()), Payload::Empty);
    }

    /// 1920x1080, High 4.0, by libx264; cropped from 1088.
    const SPS_1080P: &[u8] = &[
        0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00,
        0x04, 0x00, 0x00, 0x03, 0x00, 0xc8, 0x3c, 0x60, 0xc6, 0x58,
    ];

    #[test]
    fn reads_the_cropped_size() {
        assert_eq!(sps_id(SPS_1080P), Some(0));
        assert_eq!(sps_dimensions(SPS_1080P), Some((1920, 1080)));
    }

    #[test]
    fn a_level_that_is_too_low_does_not_hide_the_size() {
        let mut sps = SPS_1080P.to_vec();
        sps[3] = 10;
        assert_eq!(sps_dimensions(&sps), Some((1920, 1080)));
    }

    #[test]
    fn a_broken_vui_does_not_hide_the_size() {
        let mut sps = SPS_1080P.to_vec();
        sps.truncate(14);
        assert_eq!(sps_dimensions(&sps), Some((1920, 1080)), "cut off");
        sps.extend([0xff; 20]);
        assert_eq!(sps_dimensions(&sps), Some((1920, 1080)), "garbage");
    }

    #[test]
    fn no_truncated_sps_panics() {
        for len in 0..SPS_1080P.len() {
            let _ = (sps_id(&SPS_1080P[..len]), sps_dimensions(&SPS_1080P[..len]), pps_id(&SPS_1080P[..len]));
        }
    }
}
