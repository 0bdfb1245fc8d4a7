//! A clip: the access units of an elementary stream in Annex B form (ITU-T H.264 and H.265, annex B), and where clips
//! come from. Enlarging them is in `load.rs`, packetizing in `packetizer.rs`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;

use crate::config::{Codec, Codecs};
use crate::nal::{self, Kind};

/// A run of access units that starts at a random access point, so it can be played in a loop.
#[derive(Clone, Debug)]
pub(crate) struct Clip {
    pub codec: Codec,
    /// VPS, SPS and PPS of the first access unit.
    pub parameter_sets: Vec<Bytes>,
    pub access_units: Vec<AccessUnit>,
}

/// The NAL units of one picture, without start codes.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccessUnit {
    pub nal_units: Vec<Bytes>,
    pub random_access: bool,
}

impl Clip {
    /// The picture that cameras show by default: 640x360, 10 s, an IDR every 2 s.
    pub fn built_in(codec: Codec) -> Self {
        Self::embedded(
            codec,
            match codec {
                Codec::H264 => include_bytes!("../assets/picture.h264"),
                Codec::H265 => include_bytes!("../assets/picture.h265"),
            },
        )
    }

    /// A picture of another size: 320x180, 4 s.
    pub fn built_in_small(codec: Codec) -> Self {
        Self::embedded(
            codec,
            match codec {
                Codec::H264 => include_bytes!("../assets/small.h264"),
                Codec::H265 => include_bytes!("../assets/small.h265"),
            },
        )
    }

    /// A calm picture with one IDR in 30 s.
    pub fn built_in_long(codec: Codec) -> Self {
        Self::embedded(
            codec,
            match codec {
                Codec::H264 => include_bytes!("../assets/long.h264"),
                Codec::H265 => include_bytes!("../assets/long.h265"),
            },
        )
    }

    fn embedded(codec: Codec, annex_b: &'static [u8]) -> Self {
        Self::parse(codec, &Bytes::from_static(annex_b)).expect("a unit test parses every embedded clip")
    }

    /// Reads a file; one that is not Annex B by its name goes through `ffmpeg`.
    pub fn read(path: &Path, codecs: Codecs) -> anyhow::Result<Self> {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let codec = match extension.as_str() {
            "h264" | "264" => Codec::H264,
            "h265" | "265" | "hevc" => Codec::H265,
            _ => return Self::extract(path, codecs),
        };
        let annex_b = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(codec, &annex_b.into()).with_context(|| path.display().to_string())
    }

    /// Copies the first video track of any container to Annex B by running `ffmpeg`.
    fn extract(path: &Path, codecs: Codecs) -> anyhow::Result<Self> {
        ensure!(path.exists(), "{} does not exist", path.display());
        let candidates: &[Codec] = match codecs {
            Codecs::H264 => &[Codec::H264],
            Codecs::H265 => &[Codec::H265],
            Codecs::Both => &[Codec::H264, Codec::H265],
        };
        let mut refusals = String::new();
        for &codec in candidates {
            let (filter, muxer) = match codec {
                Codec::H264 => ("h264_mp4toannexb", "h264"),
                Codec::H265 => ("hevc_mp4toannexb", "hevc"),
            };
            let output = Command::new("ffmpeg")
                .args(["-nostdin", "-v", "error", "-i"])
                .arg(path)
                .args(["-map", "0:v:0", "-c", "copy", "-bsf:v", filter, "-f", muxer, "pipe:1"])
                .output()
                .context(
                    "only Annex B files can be played without ffmpeg, and ffmpeg could not be started",
                )?;
            if output.status.success() && !output.stdout.is_empty() {
                return Self::parse(codec, &output.stdout.into()).with_context(|| path.display().to_string());
            }
            let refusal = String::from_utf8_lossy(&output.stderr);
            refusals.push_str(&format!("; as {codec:?}: {}", refusal.lines().next().unwrap_or_default()));
        }
        bail!("ffmpeg finds no H.264 or H.265 video in {}{refusals}", path.display())
    }

    /// Cuts Annex B bytes into access units. What precedes the first random access point is left out.
    pub fn parse(codec: Codec, annex_b: &Bytes) -> anyhow::Result<Self> {
        let mut access_units: Vec<AccessUnit> = Vec::new();
        let mut current = AccessUnit::default();
        let mut has_slice = false;
        for nal_unit in nal_units(annex_b) {
            let kind = nal::kind(codec, &nal_unit);
            let starts_picture =
                matches!(kind, Kind::ParameterSet | Kind::Prefix | Kind::Slice { first: true, .. });
            if has_slice && starts_picture {
                access_units.push(std::mem::take(&mut current));
                has_slice = false;
            }
            if let Kind::Slice { random_access, .. } = kind {
                has_slice = true;
                current.random_access |= random_access;
            }
            current.nal_units.push(nal_unit);
        }
        if has_slice {
            access_units.push(current);
        }
        let start = access_units.iter().position(|access_unit| access_unit.random_access);
        access_units.drain(..start.context("no random access point: not an Annex B stream of this codec?")?);
        let parameter_sets: Vec<Bytes> = access_units[0]
            .nal_units
            .iter()
            .filter(|nal_unit| nal::kind(codec, nal_unit) == Kind::ParameterSet)
            .cloned()
            .collect();
        ensure!(!parameter_sets.is_empty(), "no parameter sets before the first random access point");
        Ok(Self { codec, parameter_sets, access_units })
    }
}

/// Cuts Annex B bytes at start codes. The slices share `annex_b`.
fn nal_units(annex_b: &Bytes) -> Vec<Bytes> {
    let mut starts: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    while at + 3 <= annex_b.len() {
        if annex_b[at..at + 3] == [0, 0, 1] {
            starts.push((at, at + 3));
            at += 3;
        } else {
            at += 1;
        }
    }
    let ends = starts.iter().skip(1).map(|&(code, _)| code).chain([annex_b.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&(_, start), end)| {
            let zeros = annex_b[start..end].iter().rev().take_while(|&&byte| byte == 0).count();
            annex_b.slice(start..end - zeros)
        })
        .filter(|nal_unit| !nal_unit.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_clips_have_the_pictures_that_they_promise() {
        for codec in [Codec::H264, Codec::H265] {
            let parameter_sets = if codec == Codec::H264 { 2 } else { 3 };
            for (clip, pictures, gop) in [
                (Clip::built_in(codec), 250, 50),
                (Clip::built_in_small(codec), 100, 50),
                (Clip::built_in_long(codec), 750, 750),
            ] {
                assert_eq!(clip.access_units.len(), pictures);
                assert_eq!(clip.parameter_sets.len(), parameter_sets);
                for (index, access_unit) in clip.access_units.iter().enumerate() {
                    assert_eq!(access_unit.random_access, index % gop == 0, "{codec:?} picture {index}");
                }
            }
        }
    }

    #[test]
    fn start_codes_of_three_and_four_bytes_and_trailing_zeros_are_cut_away() {
        let annex_b =
            Bytes::from_static(&[9, 0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 0, 0, 1, 0x65, 0x80]);
        assert_eq!(nal_units(&annex_b), [&[0x67, 1][..], &[0x68, 2], &[0x65, 0x80]]);
        assert!(nal_units(&Bytes::from_static(&[0, 0])).is_empty());
    }

    #[test]
    fn slices_of_one_picture_stay_together() {
        let annex_b = Bytes::from_static(&[
            0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 0x80, 0, 0, 1, 0x65, 0x40, 0, 0, 1, 0x41,
            0x80, 0, 0, 1, 0x06, 5, 0, 0, 1, 0x41, 0x80,
        ]);
        let clip = Clip::parse(Codec::H264, &annex_b).unwrap();
        let sizes: Vec<usize> = clip.access_units.iter().map(|a| a.nal_units.len()).collect();
        assert_eq!(sizes, [4, 1, 2]);
    }

    #[test]
    fn what_is_no_video_is_refused() {
        assert!(Clip::parse(Codec::H264, &Bytes::from_static(b"no start code")).is_err());
        assert!(
            Clip::parse(Codec::H265, &Bytes::from_static(include_bytes!("../assets/small.h264"))).is_err()
        );
    }
}
