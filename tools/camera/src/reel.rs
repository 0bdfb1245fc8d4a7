//! A reel: a clip packetized once and shared by every session that plays it.

use bytes::Bytes;

use crate::clip::{AccessUnit, Clip};
use crate::config::{CameraConfig, Codec};
use crate::faults::Marker;
use crate::nal::{self, Kind};
use crate::packetizer::{Packet, Packetizer, START_CODE};
use crate::rtp;

/// Packetized access units, to be played in a loop.
#[derive(Debug)]
pub(crate) struct Reel {
    pub codec: Codec,
    /// For the SDP.
    pub parameter_sets: Vec<Bytes>,
    /// What a session begins with, before the first picture.
    pub start: Vec<Packet>,
    pub frames: Vec<Frame>,
}

/// The packets of one access unit.
#[derive(Debug)]
pub(crate) struct Frame {
    pub packets: Vec<Packet>,
    /// Before which packet a stamp belongs: the first with a slice.
    pub stamp_at: usize,
    pub random_access: bool,
    /// How many pictures later, or earlier, it is shown than its place says.
    pub shown_later: i64,
}

impl Reel {
    pub fn new(clip: &Clip, config: &CameraConfig) -> Self {
        let packet_bytes_max = config.faults.oversize_packets.unwrap_or(config.packet_bytes_max);
        let media = config.faults.media;
        let extras = if media.rtp_extras { rtp::EXTRAS_LEN } else { 0 };
        let packetizer = Packetizer {
            codec: clip.codec,
            payload_bytes_max: packet_bytes_max - rtp::HEADER_LEN - extras,
            aggregate: config.aggregate && config.faults.marker != Marker::AlsoOnSei,
            marker: config.faults.marker,
            faults: media,
        };
        let frames = clip
            .access_units
            .iter()
            .enumerate()
            .map(|(index, access_unit)| {
                let mut packetizer = packetizer;
                packetizer.faults.fragments_without_start &= index % 10 == 5;
                let mut frame = Frame::new(&with_parameter_sets(access_unit, clip, config), packetizer);
                frame.shown_later = if media.b_pictures { shown_later(clip, index) } else { 0 };
                frame
            })
            .collect();
        let start = match media.parameter_sets_at_start_only {
            true => packetizer.packetize(&clip.parameter_sets, false),
            false => Vec::new(),
        };
        Self { codec: clip.codec, parameter_sets: clip.parameter_sets.clone(), start, frames }
    }
}

impl Frame {
    fn new(access_unit: &AccessUnit, packetizer: Packetizer) -> Self {
        let faults = packetizer.faults;
        let is_one = faults.aggregate_slices || faults.annex_b && access_unit.random_access;
        let first_slice = if is_one { 0 } else { access_unit.first_slice(packetizer.codec) };
        let (before, picture) = access_unit.nal_units.split_at(first_slice);
        let mut packets = packetizer.packetize(before, false);
        let stamp_at = packets.len();
        packets.extend(packetizer.packetize(picture, true));
        Self { packets, stamp_at, random_access: access_unit.random_access, shown_later: 0 }
    }
}

/// `access_unit` with parameter sets if decoding can start at it, or without any if the fault says so; and with an SEI
/// if there has to be one that a marker can be on.
fn with_parameter_sets(access_unit: &AccessUnit, clip: &Clip, config: &CameraConfig) -> AccessUnit {
    let is_parameter_set = |nal_unit: &Bytes| nal::kind(clip.codec, nal_unit) == Kind::ParameterSet;
    let mut access_unit = access_unit.clone();
    let media = config.faults.media;
    if config.faults.no_inband_parameter_sets || media.parameter_sets_at_start_only {
        access_unit.nal_units.retain(|nal_unit| !is_parameter_set(nal_unit));
    } else if access_unit.random_access && !access_unit.nal_units.iter().any(is_parameter_set) {
        access_unit.nal_units.splice(0..0, clip.parameter_sets.iter().cloned());
    }
    if config.faults.marker == Marker::AlsoOnSei {
        let sei = nal::user_data(clip.codec, b"Lanecast-nothing", &[]);
        access_unit.nal_units.insert(access_unit.first_slice(clip.codec), sei.into());
    }
    if media.start_code_in_sei {
        let mut sei = nal::user_data(clip.codec, b"Lanecast-nothing", &[0x11; 40]);
        let at = sei.len() - 20;
        sei[at..at + START_CODE.len() + 1].copy_from_slice(&[0, 0, 0, 1, 0x65]);
        access_unit.nal_units.insert(access_unit.first_slice(clip.codec), sei.into());
    }
    if media.clutter {
        clutter(&mut access_unit, clip.codec);
    }
    if media.annex_b && access_unit.random_access {
        let one_nal_unit = access_unit.nal_units.join(&START_CODE[..]);
        access_unit.nal_units = vec![one_nal_unit.into()];
    }
    access_unit
}

/// Puts around a picture what tells a receiver of RTP nothing.
fn clutter(access_unit: &mut AccessUnit, codec: Codec) {
    let filler = || Bytes::from(nal::filler(codec, 30));
    access_unit.nal_units.insert(access_unit.first_slice(codec), filler());
    access_unit.nal_units.insert(0, filler());
    access_unit.nal_units.insert(0, nal::delimiter(codec));
    access_unit.nal_units.push(filler());
    access_unit.nal_units.push(nal::user_data(codec, b"Lanecast-nothing", &[]).into());
}

/// B-pictures that no other refers to are shown before the picture that is sent before them.
fn shown_later(clip: &Clip, index: usize) -> i64 {
    let is_b = |access_unit: &AccessUnit| {
        let slice = access_unit.nal_units.get(access_unit.first_slice(clip.codec));
        slice.is_some_and(|slice| nal::is_disposable(clip.codec, slice))
    };
    let pictures = &clip.access_units;
    if is_b(&pictures[index]) {
        return -1;
    }
    pictures[index + 1..].iter().take_while(|picture| is_b(picture)).count() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Faults;

    fn kinds(config: &CameraConfig) -> Vec<u8> {
        let reel = Reel::new(&Clip::built_in(Codec::H264), config);
        reel.frames[0].packets.iter().map(|packet| packet.payload[0] & 0x1f).collect()
    }

    #[test]
    fn parameter_sets_lead_each_random_access_point_unless_told_otherwise() {
        assert_eq!(kinds(&CameraConfig::default())[..2], [24, 28]);
        assert_eq!(kinds(&CameraConfig { aggregate: false, ..CameraConfig::default() })[..3], [7, 8, 28]);
        let faults = Faults { no_inband_parameter_sets: true, ..Faults::default() };
        assert_eq!(kinds(&CameraConfig { faults, ..CameraConfig::default() })[0], 28);
    }

    #[test]
    fn the_marked_sei_is_a_packet_of_its_own() {
        let faults = Faults { marker: Marker::AlsoOnSei, ..Faults::default() };
        let reel =
            Reel::new(&Clip::built_in(Codec::H264), &CameraConfig { faults, ..CameraConfig::default() });
        for frame in &reel.frames {
            let sei = &frame.packets[frame.stamp_at - 1];
            assert_eq!((sei.payload[0], sei.marker), (6, true));
            assert!(frame.packets.last().unwrap().marker);
        }
    }
}
