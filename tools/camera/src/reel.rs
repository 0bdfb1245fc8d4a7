//! A reel: a clip packetized once and shared by every session that plays it.

use bytes::Bytes;

use crate::clip::{AccessUnit, Clip};
use crate::config::{CameraConfig, Codec};
use crate::faults::Marker;
use crate::nal::{self, Kind};
use crate::packetizer::{Packet, Packetizer};
use crate::rtp;

/// Packetized access units, to be played in a loop.
#[derive(Debug)]
pub(crate) struct Reel {
    pub codec: Codec,
    /// For the SDP.
    pub parameter_sets: Vec<Bytes>,
    pub frames: Vec<Frame>,
}

/// The packets of one access unit.
#[derive(Debug)]
pub(crate) struct Frame {
    pub packets: Vec<Packet>,
    /// Before which packet a stamp belongs: the first with a slice.
    pub stamp_at: usize,
    pub random_access: bool,
}

impl Reel {
    pub fn new(clip: &Clip, config: &CameraConfig) -> Self {
        let packet_bytes_max = config.faults.oversize_packets.unwrap_or(config.packet_bytes_max);
        let packetizer = Packetizer {
            codec: clip.codec,
            payload_bytes_max: packet_bytes_max - rtp::HEADER_LEN,
            aggregate: config.aggregate && config.faults.marker != Marker::AlsoOnSei,
            marker: config.faults.marker,
        };
        let frames = clip
            .access_units
            .iter()
            .map(|access_unit| Frame::new(&with_parameter_sets(access_unit, clip, config), packetizer))
            .collect();
        Self { codec: clip.codec, parameter_sets: clip.parameter_sets.clone(), frames }
    }
}

impl Frame {
    fn new(access_unit: &AccessUnit, packetizer: Packetizer) -> Self {
        let (before, picture) = access_unit.nal_units.split_at(access_unit.first_slice(packetizer.codec));
        let mut packets = packetizer.packetize(before, false);
        let stamp_at = packets.len();
        packets.extend(packetizer.packetize(picture, true));
        Self { packets, stamp_at, random_access: access_unit.random_access }
    }
}

/// `access_unit` with parameter sets if decoding can start at it, or without any if the fault says so; and with an SEI
/// if there has to be one that a marker can be on.
fn with_parameter_sets(access_unit: &AccessUnit, clip: &Clip, config: &CameraConfig) -> AccessUnit {
    let is_parameter_set = |nal_unit: &Bytes| nal::kind(clip.codec, nal_unit) == Kind::ParameterSet;
    let mut access_unit = access_unit.clone();
    if config.faults.no_inband_parameter_sets {
        access_unit.nal_units.retain(|nal_unit| !is_parameter_set(nal_unit));
    } else if access_unit.random_access && !access_unit.nal_units.iter().any(is_parameter_set) {
        access_unit.nal_units.splice(0..0, clip.parameter_sets.iter().cloned());
    }
    if config.faults.marker == Marker::AlsoOnSei {
        let sei = nal::user_data(clip.codec, b"Lanecast-nothing", &[]);
        access_unit.nal_units.insert(access_unit.first_slice(clip.codec), sei.into());
    }
    access_unit
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
