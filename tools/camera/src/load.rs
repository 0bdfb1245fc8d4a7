//! Enlarges a clip to a wanted load: bitrate, GOP length, size of IDR pictures. Only bytes that decoders skip are added,
//! so the result decodes like the clip. Pacing is not here.

use anyhow::ensure;
use bytes::Bytes;

use crate::clip::{AccessUnit, Clip};
use crate::config::{Filler, Load};
use crate::nal;

/// `clip` cut to one GOP and enlarged as `load` says, for a camera of `fps_milli` / 1000 pictures a second.
pub(crate) fn enlarge(mut clip: Clip, load: &Load, fps_milli: u64) -> anyhow::Result<Clip> {
    if let Some(gop_seconds) = load.gop_seconds {
        cut(&mut clip, gop_seconds, fps_milli)?;
    }
    let wanted = wanted_sizes(&clip, load, fps_milli);
    for (access_unit, wanted) in clip.access_units.iter_mut().zip(wanted) {
        add(&mut *access_unit, clip.codec, wanted, load.filler);
    }
    Ok(clip)
}

/// Keeps the pictures of the first `gop_seconds`, none of which but the first may be a random access point.
fn cut(clip: &mut Clip, gop_seconds: u64, fps_milli: u64) -> anyhow::Result<()> {
    let pictures = gop_seconds.saturating_mul(fps_milli) / 1000;
    let longest = 1 + clip.access_units.iter().skip(1).take_while(|a| !a.random_access).count() as u64;
    ensure!(
        (2..=longest).contains(&pictures),
        "a GOP of {gop_seconds} s is {pictures} pictures; this picture allows 2 to {longest}"
    );
    clip.access_units.truncate(pictures as usize);
    Ok(())
}

/// The size in bytes that each access unit should have, at least its own.
fn wanted_sizes(clip: &Clip, load: &Load, fps_milli: u64) -> Vec<u64> {
    let least: Vec<u64> = clip
        .access_units
        .iter()
        .map(|access_unit| match load.idr_bytes {
            Some(bytes) if access_unit.random_access => access_unit.bytes().max(bytes as u64),
            _ => access_unit.bytes(),
        })
        .collect();
    let Some(bitrate) = load.bitrate else {
        return least;
    };
    let total = bitrate.saturating_mul(clip.access_units.len() as u64).saturating_mul(1000) / 8 / fps_milli;
    let at_level = |level: u64| -> Vec<u64> {
        let weighted = clip.access_units.iter().map(|access_unit| match load.idr_bytes {
            Some(_) if access_unit.random_access => 0,
            None if access_unit.random_access => level * IDR_WEIGHT,
            _ => level,
        });
        least.iter().zip(weighted).map(|(&least, weighted)| least.max(weighted)).collect()
    };
    let (mut low, mut high) = (0, total);
    while low < high {
        let level = (low + high).div_ceil(2);
        if at_level(level).iter().sum::<u64>() <= total { low = level } else { high = level - 1 }
    }
    let sizes = at_level(low);
    let reached = sizes.iter().sum::<u64>();
    if reached > total {
        let least_kbps = reached * 8 * fps_milli / 1000 / clip.access_units.len() as u64 / 1000;
        tracing::warn!(least_kbps, "the picture itself needs more than the wanted bitrate");
    }
    sizes
}

/// Adds filler to `access_unit` until it has `wanted` bytes, give or take a NAL unit header.
fn add(access_unit: &mut AccessUnit, codec: crate::config::Codec, wanted: u64, filler: Filler) {
    let missing = wanted.saturating_sub(access_unit.bytes()) as usize;
    if missing < FILLER_LEAST {
        return;
    }
    match filler {
        Filler::Sei => {
            let before_picture = access_unit.first_slice(codec);
            let overhead = FILLER_LEAST + missing / 256;
            let payload = vec![FILLER_BYTE; missing.saturating_sub(overhead)];
            let sei = nal::user_data(codec, &FILLER_UUID, &payload);
            access_unit.nal_units.insert(before_picture, Bytes::from(sei));
        }
        // Filler data must not precede the picture's first slice (H.264 section 7.4.1.2.3).
        Filler::Nal => access_unit.nal_units.push(Bytes::from(nal::filler(codec, missing))),
    }
}

impl AccessUnit {
    fn bytes(&self) -> u64 {
        self.nal_units.iter().map(|nal_unit| nal_unit.len() as u64).sum()
    }

    /// Where the first slice is; the end if there is none.
    pub fn first_slice(&self, codec: crate::config::Codec) -> usize {
        self.nal_units
            .iter()
            .position(|nal_unit| matches!(nal::kind(codec, nal_unit), nal::Kind::Slice { .. }))
            .unwrap_or(self.nal_units.len())
    }
}

/// How many times larger an IDR picture is than another, where nobody says it: as with common camera settings.
const IDR_WEIGHT: u64 = 6;
/// An SEI message with a UUID and no payload.
const FILLER_LEAST: usize = 2 + 2 + 16 + 1;
const FILLER_BYTE: u8 = 0xa5;
const FILLER_UUID: [u8; 16] = *b"Lanecast-filler1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Codec;

    fn bytes(clip: &Clip) -> u64 {
        clip.access_units.iter().map(AccessUnit::bytes).sum()
    }

    #[test]
    fn the_bitrate_is_met_within_one_per_cent() {
        for codec in [Codec::H264, Codec::H265] {
            for filler in [Filler::Sei, Filler::Nal] {
                let load = Load { bitrate: Some(4_000_000), filler, ..Load::default() };
                let clip = enlarge(Clip::built_in(codec), &load, 25_000).unwrap();
                let bitrate = bytes(&clip) * 8 / 10;
                assert!((3_960_000..=4_040_000).contains(&bitrate), "{codec:?} {filler:?} {bitrate}");
            }
        }
    }

    #[test]
    fn idr_pictures_are_at_least_as_large_as_asked() {
        let load = Load {
            bitrate: Some(20_000_000),
            gop_seconds: Some(4),
            idr_bytes: Some(1_100_000),
            ..Load::default()
        };
        let clip = enlarge(Clip::built_in_long(Codec::H264), &load, 25_000).unwrap();
        assert_eq!(clip.access_units.len(), 100);
        let idr = clip.access_units[0].bytes();
        assert!((1_099_900..=1_100_100).contains(&idr), "{idr}");
        assert!((9_900_000..=10_100_000).contains(&bytes(&clip)));
    }

    #[test]
    fn a_gop_longer_than_the_picture_is_refused() {
        let load = Load { gop_seconds: Some(31), ..Load::default() };
        assert!(enlarge(Clip::built_in_long(Codec::H265), &load, 25_000).is_err());
    }

    #[test]
    fn without_a_wish_the_clip_stays_as_it_is() {
        let clip = enlarge(Clip::built_in(Codec::H264), &Load::default(), 25_000).unwrap();
        assert_eq!(bytes(&clip), bytes(&Clip::built_in(Codec::H264)));
    }

    #[test]
    fn filler_sei_stands_before_and_filler_data_behind_the_picture() {
        let load = Load { bitrate: Some(2_000_000), ..Load::default() };
        let clip = enlarge(Clip::built_in(Codec::H264), &load, 25_000).unwrap();
        assert_eq!(clip.access_units[1].nal_units[0][0], 6);
        let clip =
            enlarge(Clip::built_in(Codec::H264), &Load { filler: Filler::Nal, ..load }, 25_000).unwrap();
        assert_eq!(clip.access_units[1].nal_units.last().unwrap()[0], 12);
    }
}
