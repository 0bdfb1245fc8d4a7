//! VPS, SPS and PPS of a stream: kept by id, and what they say (picture size, profile).
//!
//! How the bits are read is in `h264` and `h265`.

use bytes::Bytes;

use super::{Codec, Nal, NalClass, annex_b, h264, h265};

/// What the active sequence parameter set says of the pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoShape {
    /// Width after cropping, in pixels.
    pub width: u32,
    /// Height after cropping, in pixels.
    pub height: u32,
    /// H.264: `profile-level-id` as six hex digits. H.265: empty.
    pub profile_level_id: String,
}

/// The newest parameter sets of one stream, as NAL units with header.
///
/// They are copies of their own, so they keep no receive buffer alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSets {
    codec: Codec,
    /// Sorted by kind and id, each pair once.
    sets: Vec<ParameterSet>,
}

impl ParameterSets {
    /// None yet.
    pub fn new(codec: Codec) -> Self {
        Self { codec, sets: Vec::new() }
    }

    /// The codec they are of.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Takes a VPS, SPS or PPS; true if it differs from what was kept under its id. Broken ones are refused (false).
    ///
    /// Start codes and trailing zeros, which some cameras put into `sprop-*`, are taken off.
    pub fn handle_nal(&mut self, nal: &Nal) -> bool {
        if nal.len() > MAX_SET_LEN {
            return false;
        }
        let mut changed = false;
        for bytes in annex_b::split(nal.to_contiguous()) {
            changed |= self.keep(&bytes);
        }
        changed
    }

    /// True when a decoder can start: H.264 SPS and PPS, H.265 VPS, SPS and PPS.
    pub fn is_complete(&self) -> bool {
        let has = |kind| self.of(kind).next().is_some();
        (self.codec == Codec::H264 || has(Kind::Vps)) && has(Kind::Sps) && has(Kind::Pps)
    }

    /// All in sending order: VPS, SPS, PPS, each kind by id.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.sets.iter().map(|set| &set.nal)
    }

    /// The VPSs by id; none of H.264.
    pub fn vps(&self) -> impl Iterator<Item = &Bytes> {
        self.of(Kind::Vps)
    }

    /// The SPSs by id.
    pub fn sps(&self) -> impl Iterator<Item = &Bytes> {
        self.of(Kind::Sps)
    }

    /// The PPSs by id.
    pub fn pps(&self) -> impl Iterator<Item = &Bytes> {
        self.of(Kind::Pps)
    }

    /// What the first SPS says; `None` without one that can be read.
    pub fn shape(&self) -> Option<VideoShape> {
        let sps = self.sps().next()?;
        let (width, height) = match self.codec {
            Codec::H264 => h264::sps_dimensions(sps)?,
            Codec::H265 => h265::sps_dimensions(sps)?,
        };
        Some(VideoShape { width, height, profile_level_id: self.profile_level_id().unwrap_or_default() })
    }

    /// H.264: `profile-level-id` of the first SPS as six hex digits (RFC 6184 section 8.1). H.265: `None`.
    pub fn profile_level_id(&self) -> Option<String> {
        let [profile, constraints, level] = self.profile_level_id_bytes()?;
        Some(format!("{profile:02x}{constraints:02x}{level:02x}"))
    }

    /// The same as bytes: profile_idc, constraint flags, level_idc.
    pub fn profile_level_id_bytes(&self) -> Option<[u8; 3]> {
        let sps = self.sps().next().filter(|_| self.codec == Codec::H264)?;
        let &[_, profile, constraints, level, ..] = &sps[..] else { return None };
        Some([profile, constraints, level])
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Bytes> {
        self.sets.iter().filter(move |set| set.kind == kind).map(|set| &set.nal)
    }

    fn keep(&mut self, nal: &Bytes) -> bool {
        let Some((kind, id)) = identify(self.codec, nal) else { return false };
        let place = self.sets.binary_search_by_key(&(kind, id), |set| (set.kind, set.id));
        let replaced = place.ok().map(|at| &self.sets[at].nal);
        if replaced == Some(nal) {
            return false;
        }
        let others: usize = self.iter().map(Bytes::len).sum::<usize>() - replaced.map_or(0, Bytes::len);
        if others + nal.len() > MAX_SETS_LEN {
            return false;
        }
        let set = ParameterSet { kind, id, nal: Bytes::copy_from_slice(nal) };
        match place {
            Ok(at) => self.sets[at] = set,
            Err(at) => self.sets.insert(at, set),
        }
        true
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ParameterSet {
    kind: Kind,
    id: u8,
    nal: Bytes,
}

/// In sending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Vps,
    Sps,
    Pps,
}

/// Kind and id of a parameter set; `None` of anything else, and where the id cannot be read.
fn identify(codec: Codec, nal: &Bytes) -> Option<(Kind, u8)> {
    let whole = Nal::from_bytes(nal.clone());
    if nal[0] & 0x80 != 0 || whole.class(codec) != NalClass::ParameterSet {
        return None;
    }
    match (codec, whole.unit_type(codec)) {
        (Codec::H264, 7) => Some((Kind::Sps, h264::sps_id(nal)?)),
        (Codec::H264, _) => Some((Kind::Pps, h264::pps_id(nal)?)),
        (Codec::H265, 32) => Some((Kind::Vps, h265::vps_id(nal)?)),
        (Codec::H265, 33) => Some((Kind::Sps, h265::sps_id(nal)?)),
        (Codec::H265, _) => Some((Kind::Pps, h265::pps_id(nal)?)),
    }
}

/// Bytes of one parameter set. Real ones have under 100, with scaling lists under 1000.
const MAX_SET_LEN: usize = 4096;

/// Bytes of all: they go out before every random access point and into every session description.
const MAX_SETS_LEN: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const SPS_1080P: &[u8] =
        b"\x67\x64\x00\x28\xac\xd9\x40\x78\x02\x27\xe5\xc0\x44\x00\x00\x03\x00\x04\x00\x00\
        \x03\x00\xc8\x3c\x60\xc6\x58";
    /// 178x100, cropped from 192x112.
    const SPS_178X100: &[u8] =
        b"\x67\x64\x00\x0a\xac\xb2\x06\x1f\xc4\x4f\x80\x88\x00\x00\x03\x00\x08\x00\x00\x03\
        \x00\xa0\x78\x91\x32\x40";
    const PPS: &[u8] = b"\x68\xeb\xc0\x84\xb2\x2c";

    const VPS_H265: &[u8] =
        b"\x40\x01\x0c\x01\xff\xff\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x1e\
        \x92\x80\x90";
    /// 178x100, cropped from 184x104.
    const SPS_H265: &[u8] =
        b"\x42\x01\x01\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x1e\xa0\x17\x20\
        \x69\xc9\x79\x64\xa9\x24\xca\xf0\x16\x80\x80\x00\x00\x03\x00\x80\x00\x00\x05\x04";
    const PPS_H265: &[u8] = b"\x44\x01\xc1\x72\xb4\x62\x40";

    fn nal(bytes: &[u8]) -> Nal {
        Nal::from_bytes(Bytes::copy_from_slice(bytes))
    }

    fn kept(codec: Codec, sets: &[&[u8]]) -> ParameterSets {
        let mut kept = ParameterSets::new(codec);
        for set in sets {
            assert!(kept.handle_nal(&nal(set)));
        }
        kept
    }

    #[test]
    fn h264_is_complete_with_sps_and_pps() {
        let mut sets = kept(Codec::H264, &[PPS]);
        assert!(!sets.is_complete());
        assert!(sets.handle_nal(&nal(SPS_1080P)));
        assert!(sets.is_complete());
        assert!(sets.iter().eq([SPS_1080P, PPS]), "in sending order");
        let shape = sets.shape().expect("an SPS that can be read");
        assert_eq!(shape, VideoShape { width: 1920, height: 1080, profile_level_id: "640028".to_owned() });
    }

    #[test]
    fn h265_is_complete_with_vps_sps_and_pps() {
        let mut sets = kept(Codec::H265, &[PPS_H265, SPS_H265]);
        assert!(!sets.is_complete());
        assert!(sets.handle_nal(&nal(VPS_H265)));
        assert!(sets.is_complete());
        assert!(sets.iter().eq([VPS_H265, SPS_H265, PPS_H265]));
        assert!(sets.vps().eq([VPS_H265]) && sets.sps().eq([SPS_H265]) && sets.pps().eq([PPS_H265]));
        assert_eq!(
            sets.shape(),
            Some(VideoShape { width: 178, height: 100, profile_level_id: String::new() })
        );
    }

    #[test]
    fn the_same_again_is_no_change() {
        let mut sets = kept(Codec::H264, &[SPS_1080P, PPS]);
        let before = sets.clone();
        assert!(!sets.handle_nal(&nal(SPS_1080P)));
        let rope = Nal {
            slices: [&SPS_1080P[..1], &SPS_1080P[1..]].map(Bytes::copy_from_slice).into_iter().collect(),
        };
        assert!(!sets.handle_nal(&rope));
        assert_eq!(sets, before);
    }

    #[test]
    fn a_new_resolution_under_the_same_id_is_seen() {
        let mut sets = kept(Codec::H264, &[SPS_1080P, PPS]);
        assert!(sets.handle_nal(&nal(SPS_178X100)));
        assert_eq!(sets.iter().count(), 2);
        let shape = sets.shape().expect("an SPS that can be read");
        assert_eq!((shape.width, shape.height), (178, 100));
        assert_eq!(shape.profile_level_id, "64000a");
    }

    #[test]
    fn sets_of_several_ids_are_kept_by_id() {
        let pps_1: &[u8] = &[0x68, 0x4e, 0xbc];
        let sets = kept(Codec::H264, &[pps_1, PPS]);
        assert!(sets.pps().eq([PPS, pps_1]));
    }

    #[test]
    fn sets_of_sprop_may_have_start_codes_and_trailing_zeros() {
        let mut sets = ParameterSets::new(Codec::H264);
        assert!(sets.handle_nal(&nal(&[b"\0\0\0\x01", SPS_1080P, b"\0\0\0\x01", PPS, b"\0\0"].concat())));
        assert!(sets.iter().eq([SPS_1080P, PPS]));
    }

    #[test]
    fn they_keep_no_receive_buffer_alive() {
        let received = Bytes::copy_from_slice(SPS_1080P);
        let mut sets = ParameterSets::new(Codec::H264);
        sets.handle_nal(&Nal::from_bytes(received.clone()));
        assert!(received.is_unique());
    }

    #[test]
    fn what_is_no_parameter_set_is_refused() {
        let mut sets = ParameterSets::new(Codec::H264);
        for refused in [&b"\x65\x88"[..], b"\x67", b"\x67\x64\x00", b"\xe7\x64\x00\x28\xac", b"\x68", b""] {
            assert!(!sets.handle_nal(&nal(refused)), "{refused:02x?}");
        }
        let mut too_long = PPS.to_vec();
        too_long.resize(MAX_SET_LEN + 1, 1);
        assert!(!sets.handle_nal(&nal(&too_long)));
        assert!(!sets.handle_nal(&Nal { slices: Default::default() }));
        assert_eq!(sets.iter().count(), 0);
        assert_eq!(sets.shape(), None);

        let mut sets = ParameterSets::new(Codec::H265);
        let other_layer = [&[SPS_H265[0], SPS_H265[1] | 1 << 3][..], &SPS_H265[2..]].concat();
        for refused in [&other_layer[..], b"\x42", b"\x42\x01", b"\x40\x01", b"\x44\x01", b"\x02\x01\xff"] {
            assert!(!sets.handle_nal(&nal(refused)), "{refused:02x?}");
        }
    }

    #[test]
    fn all_together_have_a_largest_size() {
        let mut sets = ParameterSets::new(Codec::H264);
        // PPS ids as ue(v): 1 to 30 in up to nine bits.
        let taken = (1..=30_u32)
            .filter(|id| {
                let bits = (id + 1) << (16 - (2 * (id + 1).ilog2() + 1));
                let mut pps = vec![0x68, (bits >> 8) as u8, bits as u8];
                pps.resize(MAX_SET_LEN, 0xff);
                sets.handle_nal(&nal(&pps))
            })
            .count();
        assert_eq!(taken, MAX_SETS_LEN / MAX_SET_LEN);
    }

    #[test]
    fn no_truncated_set_panics() {
        for (codec, set) in [(Codec::H264, SPS_1080P), (Codec::H265, SPS_H265), (Codec::H265, VPS_H265)] {
            for len in 0..set.len() {
                let mut sets = ParameterSets::new(codec);
                sets.handle_nal(&nal(&set[..len]));
                sets.shape();
            }
        }
    }
}
