//! Which NAL units begin in an RTP payload (RFC 6184 and RFC 7798), read in place and cheaply.
//!
//! Putting fragments together again is `depacketize.rs`.

use clap::ValueEnum;
use serde::Serialize;

/// The two codecs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// AVC.
    H264,
    /// HEVC.
    H265,
}

/// What a NAL unit is, as far as a viewer's checks need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NalKind {
    /// Video parameter set (H.265).
    Vps,
    /// Sequence parameter set.
    Sps,
    /// Picture parameter set.
    Pps,
    /// Supplemental enhancement information.
    Sei,
    /// A slice of a random access picture: IDR, or any IRAP.
    RandomAccess,
    /// A slice of another picture.
    Slice,
    /// Delimiters and all else.
    Other,
}

impl NalKind {
    /// A slice: nothing that matters to us follows it in its access unit.
    pub fn is_slice(self) -> bool {
        matches!(self, Self::RandomAccess | Self::Slice)
    }
}

impl Codec {
    /// The codec that `a=rtpmap` of an SDP names.
    pub fn of_sdp(sdp: &str) -> Option<Self> {
        let encoding = sdp.lines().find_map(|line| line.strip_prefix("a=rtpmap:96 "))?;
        match encoding.split('/').next()?.to_ascii_uppercase().as_str() {
            "H264" => Some(Self::H264),
            "H265" => Some(Self::H265),
            _ => None,
        }
    }

    /// The codec that a session's first payload looks like, for packets that come before the SDP does.
    pub fn guess(payload: &[u8]) -> Self {
        let looks_h265 = matches!(payload, [first, 1, ..] if first & 0x81 == 0
            && matches!(first >> 1, 0..=9 | 16..=21 | 32..=40 | 48 | 49));
        if looks_h265 { Self::H265 } else { Self::H264 }
    }

    /// Length of a NAL unit's header in bytes.
    pub fn header_len(self) -> usize {
        match self {
            Self::H264 => 1,
            Self::H265 => 2,
        }
    }

    /// Calls `visit` for every NAL unit that begins in `payload`: with the whole unit, header included,
    /// or with nothing but its kind for one that begins as a fragment.
    #[inline]
    pub fn for_each_start<'a>(self, payload: &'a [u8], mut visit: impl FnMut(NalKind, &'a [u8])) {
        match self {
            Self::H264 => h264_starts(payload, &mut visit),
            Self::H265 => h265_starts(payload, &mut visit),
        }
    }
}

fn h264_starts<'a>(payload: &'a [u8], visit: &mut impl FnMut(NalKind, &'a [u8])) {
    let Some(first) = payload.first() else { return };
    match first & 0x1f {
        24 => {
            for unit in aggregated(&payload[1..]) {
                if let Some(header) = unit.first() {
                    visit(h264_kind(header & 0x1f), unit);
                }
            }
        }
        28 => {
            if let Some(fragment) = payload.get(1).filter(|fragment| *fragment & 0x80 != 0) {
                visit(h264_kind(fragment & 0x1f), &[]);
            }
        }
        kind => visit(h264_kind(kind), payload),
    }
}

fn h265_starts<'a>(payload: &'a [u8], visit: &mut impl FnMut(NalKind, &'a [u8])) {
    let [first, _, rest @ ..] = payload else { return };
    match (first >> 1) & 0x3f {
        48 => {
            for unit in aggregated(rest) {
                if let Some(header) = unit.first() {
                    visit(h265_kind((header >> 1) & 0x3f), unit);
                }
            }
        }
        49 => {
            if let Some(fragment) = rest.first().filter(|fragment| *fragment & 0x80 != 0) {
                visit(h265_kind(fragment & 0x3f), &[]);
            }
        }
        kind => visit(h265_kind(kind), payload),
    }
}

/// The units of a STAP-A (RFC 6184 section 5.7.1) or AP (RFC 7798 section 4.4.2), each behind a 16-bit length;
/// ends at the first length that does not fit.
pub fn aggregated(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let unit = after.get(..usize::from(u16::from_be_bytes(*length)))?;
        rest = &after[unit.len()..];
        Some(unit)
    })
}

fn h264_kind(nal_unit_type: u8) -> NalKind {
    match nal_unit_type {
        5 => NalKind::RandomAccess,
        1..=4 => NalKind::Slice,
        6 => NalKind::Sei,
        7 => NalKind::Sps,
        8 => NalKind::Pps,
        _ => NalKind::Other,
    }
}

fn h265_kind(nal_unit_type: u8) -> NalKind {
    match nal_unit_type {
        16..=23 => NalKind::RandomAccess,
        0..=15 | 24..=31 => NalKind::Slice,
        32 => NalKind::Vps,
        33 => NalKind::Sps,
        34 => NalKind::Pps,
        39 | 40 => NalKind::Sei,
        _ => NalKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(codec: Codec, payload: &[u8]) -> Vec<(NalKind, usize)> {
        let mut found = Vec::new();
        codec.for_each_start(payload, |kind, unit| found.push((kind, unit.len())));
        found
    }

    #[test]
    fn the_units_of_an_aggregate_are_each_seen() {
        let stap = [0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68];
        assert_eq!(starts(Codec::H264, &stap), [(NalKind::Sps, 2), (NalKind::Pps, 1)]);
        let ap = [0x60, 1, 0, 2, 0x40, 1, 0, 2, 0x42, 1, 0, 2, 0x44, 1];
        assert_eq!(starts(Codec::H265, &ap), [(NalKind::Vps, 2), (NalKind::Sps, 2), (NalKind::Pps, 2)]);
    }

    #[test]
    fn only_the_first_fragment_begins_a_unit() {
        assert_eq!(starts(Codec::H264, &[0x7c, 0x85, 1, 2]), [(NalKind::RandomAccess, 0)]);
        assert_eq!(starts(Codec::H264, &[0x7c, 0x05, 1, 2]), []);
        assert_eq!(starts(Codec::H265, &[0x62, 1, 0x93, 1, 2]), [(NalKind::RandomAccess, 0)]);
        assert_eq!(starts(Codec::H265, &[0x62, 1, 0x13, 1, 2]), []);
    }

    #[test]
    fn lengths_that_do_not_fit_end_the_walk() {
        assert_eq!(starts(Codec::H264, &[0x78, 0, 1, 0x67, 0xff, 0xff, 1]), [(NalKind::Sps, 1)]);
        assert_eq!(starts(Codec::H264, &[0x78]), []);
        assert_eq!(starts(Codec::H264, &[]), []);
        assert_eq!(starts(Codec::H265, &[0x62]), []);
    }

    #[test]
    fn the_sdp_names_the_codec_and_a_first_payload_gives_it_away() {
        assert_eq!(Codec::of_sdp("v=0\r\na=rtpmap:96 H265/90000\r\n"), Some(Codec::H265));
        assert_eq!(Codec::of_sdp("a=rtpmap:96 h264/90000"), Some(Codec::H264));
        assert_eq!(Codec::of_sdp("a=rtpmap:96 VP9/90000"), None);
        for h264 in
            [&[0x78, 0, 2][..], &[0x67, 0x42], &[0x06, 5], &[0x7c, 0x85], &[0x3c, 1], &[0x09, 0xf0], &[]]
        {
            assert_eq!(Codec::guess(h264), Codec::H264, "{h264:x?}");
        }
        for h265 in [&[0x60, 1, 0][..], &[0x40, 1], &[0x26, 1], &[0x62, 1, 0x93], &[0x4e, 1]] {
            assert_eq!(Codec::guess(h265), Codec::H265, "{h265:x?}");
        }
    }
}
