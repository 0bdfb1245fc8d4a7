//! What several packets add up to.

use super::*;
use crate::rtp::RtpPacket;

/// A track fed with single packets, and what came out of it as text: `1:6588` is a NAL unit of the access
/// unit at timestamp 1, `1.` its end, `1!` its end when damaged.
struct Track {
    depacketizer: Depacketizer,
    lost_before: u32,
}

impl Track {
    fn h264() -> Self {
        Self { depacketizer: Depacketizer::new(Codec::H264), lost_before: 0 }
    }

    fn h265() -> Self {
        Self { depacketizer: Depacketizer::new(Codec::H265), lost_before: 0 }
    }

    fn lose(&mut self, packets: u32) -> &mut Self {
        self.lost_before = packets;
        self
    }

    /// A packet without marker.
    fn packet(&mut self, rtp_timestamp: u32, payload: &[u8]) -> String {
        self.feed(rtp_timestamp, false, payload)
    }

    /// A packet with marker.
    fn marked(&mut self, rtp_timestamp: u32, payload: &[u8]) -> String {
        self.feed(rtp_timestamp, true, payload)
    }

    fn feed(&mut self, rtp_timestamp: u32, marker: bool, payload: &[u8]) -> String {
        let payload = Bytes::copy_from_slice(payload);
        let packet = RtpPacket { marker, payload_type: 96, seq: 0, rtp_timestamp, ssrc: 1, payload };
        let lost_before = std::mem::take(&mut self.lost_before);
        self.depacketizer.handle_packet(Ordered { packet, lost_before });
        self.depacketizer.check_invariants();
        let output = std::iter::from_fn(|| self.depacketizer.poll_output());
        output.map(describe).collect::<Vec<_>>().join(" ")
    }

    fn malformed(&self) -> u64 {
        self.depacketizer.statistics().malformed_packets
    }

    fn broken(&self) -> u64 {
        self.depacketizer.statistics().broken_nals
    }
}

fn describe(output: Depacketized) -> String {
    match output {
        Depacketized::Nal { rtp_timestamp, nal } => {
            assert!(!nal.is_empty() && nal.slices.iter().all(|slice| !slice.is_empty()));
            let hex: String = nal.to_contiguous().iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{rtp_timestamp}:{hex}")
        }
        Depacketized::AccessUnitEnd { rtp_timestamp, damaged: false } => format!("{rtp_timestamp}."),
        Depacketized::AccessUnitEnd { rtp_timestamp, damaged: true } => format!("{rtp_timestamp}!"),
    }
}

// H.264: SPS 67, PPS 68, SEI 06, AUD 09; IDR slice 65, other slice 41, the first of a picture where 80
// follows, a later one where 40 does; FU-A 7c with 85 start, 05 middle, 45 end of an IDR slice.

#[test]
fn single_nal_units_end_at_the_marker() {
    let mut track = Track::h264();
    assert_eq!(track.packet(1, &[0x67, 1]), "1:6701");
    assert_eq!(track.packet(1, &[0x68, 2]), "1:6802");
    assert_eq!(track.marked(1, &[0x65, 0x80]), "1:6580 1.");
    assert_eq!(track.marked(2, &[0x41, 0x80]), "2:4180 2.");
    assert_eq!(track.depacketizer.statistics(), DepacketizerStatistics::default());
}

#[test]
fn aggregated_nal_units_come_apart() {
    let mut track = Track::h264();
    assert_eq!(
        track.marked(1, &[0x78, 0, 2, 0x67, 1, 0, 2, 0x68, 2, 0, 2, 0x65, 0x80]),
        "1:6701 1:6802 1:6580 1."
    );
    let mut track = Track::h265();
    assert_eq!(
        track.packet(1, &[0x60, 1, 0, 3, 0x40, 1, 5, 0, 3, 0x42, 1, 6, 0, 3, 0x44, 1, 7]),
        "1:400105 1:420106 1:440107"
    );
}

#[test]
fn fragments_come_together_without_a_copy() {
    let mut track = Track::h264();
    assert_eq!(track.packet(1, &[0x7c, 0x85, 0x80, 1]), "");
    assert_eq!(track.packet(1, &[0x7c, 0x05, 2, 3]), "");
    assert_eq!(track.marked(1, &[0x7c, 0x45, 4]), "1:658001020304 1.");

    let mut depacketizer = Depacketizer::new(Codec::H265);
    let body = Bytes::from(vec![0x62, 1, 0x93, 0xaf, 1]);
    depacketizer.handle_payload(0, 1, false, body.clone());
    depacketizer.handle_payload(1, 1, true, Bytes::from_static(&[0x62, 1, 0x53, 2]));
    let Some(Depacketized::Nal { nal, .. }) = depacketizer.poll_output() else { panic!("a NAL unit") };
    assert_eq!(nal.to_contiguous(), [0x26, 1, 0xaf, 1, 2][..]);
    assert_eq!(nal.slices.len(), 3);
    assert_eq!(nal.slices[1].as_ptr(), body[3..].as_ptr());
}

#[test]
fn the_scratch_of_fragments_is_kept() {
    let mut track = Track::h264();
    for rtp_timestamp in 0..3 {
        track.packet(rtp_timestamp, &[0x7c, 0x85, 0x80]);
        for _ in 0..100 {
            track.packet(rtp_timestamp, &[0x7c, 0x05, 1]);
        }
        track.marked(rtp_timestamp, &[0x7c, 0x45, 1]);
    }
    assert!(track.depacketizer.slices.is_empty() && track.depacketizer.slices.capacity() >= 103);
}

#[test]
fn without_markers_the_next_timestamp_ends_it() {
    let mut track = Track::h264();
    assert_eq!(track.packet(1, &[0x65, 0x80]), "1:6580");
    assert_eq!(track.packet(1, &[0x65, 0x40]), "1:6540");
    assert_eq!(track.packet(2, &[0x41, 0x80]), "1. 2:4180");
}

/// Ivel LV-IP22IR40DVBL marks SEI.
#[test]
fn a_marker_on_what_comes_before_the_picture_ends_nothing() {
    let mut track = Track::h264();
    assert_eq!(track.marked(1, &[0x09, 0xf0]), "1:09f0");
    assert_eq!(track.marked(1, &[0x67, 1]), "1:6701");
    assert_eq!(track.marked(1, &[0x68, 1]), "1:6801");
    assert_eq!(track.marked(1, &[0x06, 1]), "1:0601");
    assert_eq!(track.marked(1, &[0x65, 0x80]), "1:6580 1.");
    assert_eq!(track.marked(2, &[0x06, 1]), "2:0601");
    assert_eq!(track.marked(2, &[0x41, 0x80]), "2:4180 2.", "the markers are still trusted");
}

#[test]
fn a_marker_on_an_sei_behind_the_picture_ends_it() {
    let mut track = Track::h264();
    assert_eq!(track.packet(1, &[0x65, 0x80]), "1:6580");
    assert_eq!(track.marked(1, &[0x06, 1]), "1:0601 1.");
    let mut track = Track::h265();
    assert_eq!(track.packet(1, &[0x26, 1, 0x80]), "1:260180");
    assert_eq!(track.marked(1, &[0x50, 1, 9]), "1:500109 1.");
}

#[test]
fn a_marker_on_every_slice_is_no_longer_believed() {
    let mut track = Track::h264();
    assert_eq!(track.marked(1, &[0x65, 0x80]), "1:6580 1.");
    assert_eq!(track.marked(1, &[0x65, 0x40]), "1:6540", "shows that markers lie");
    assert_eq!(track.marked(1, &[0x65, 0x41]), "1:6541");
    assert_eq!(track.marked(2, &[0x41, 0x80]), "1. 2:4180");
    assert_eq!(track.marked(2, &[0x41, 0x40]), "2:4140");
    assert_eq!(track.marked(3, &[0x41, 0x80]), "2. 3:4180");

    let mut track = Track::h265();
    assert_eq!(track.marked(1, &[0x26, 1, 0x80]), "1:260180 1.");
    assert_eq!(track.marked(1, &[0x26, 1, 0x40]), "1:260140");
    assert_eq!(track.marked(2, &[0x02, 1, 0x80]), "1. 2:020180");
}

#[test]
fn a_marker_on_every_packet_is_no_longer_believed() {
    let mut track = Track::h264();
    assert_eq!(track.marked(1, &[0x7c, 0x85, 0x80]), "");
    assert_eq!(track.marked(1, &[0x7c, 0x45, 1]), "1:658001");
    assert_eq!(track.marked(2, &[0x41, 0x80]), "1. 2:4180");
}

#[test]
fn a_lost_first_slice_does_not_make_markers_lie() {
    let mut track = Track::h264();
    assert_eq!(track.marked(1, &[0x65, 0x80]), "1:6580 1.");
    assert_eq!(track.lose(1).marked(1, &[0x65, 0x40]), "1:6540 1!");
    assert_eq!(track.marked(2, &[0x41, 0x80]), "2:4180 2.");
}

#[test]
fn two_access_units_may_share_a_timestamp() {
    let mut track = Track::h264();
    assert_eq!(track.packet(1, &[0x65, 0x80]), "1:6580");
    assert_eq!(track.packet(1, &[0x41, 0x81]), "1. 1:4181");
    assert_eq!(track.packet(1, &[0x41, 0x40]), "1:4140");
    assert_eq!(track.packet(1, &[0x7c, 0x81, 0x80]), "1.", "a first slice in fragments");
    assert_eq!(track.packet(1, &[0x7c, 0x41, 0x01]), "1:618001");

    let mut track = Track::h264();
    assert_eq!(track.marked(1, &[0x65, 0x80]), "1:6580 1.");
    assert_eq!(track.packet(1, &[0x41, 0x80]), "1:4180");
    assert_eq!(track.marked(1, &[0x41, 0x40]), "1:4140 1.", "the markers are still trusted");
}

#[test]
fn parameter_sets_and_delimiters_begin_an_access_unit() {
    for begin in [&[0x67_u8, 1], &[0x68, 1], &[0x09, 0xf0]] {
        let mut track = Track::h264();
        assert_eq!(track.packet(1, &[0x41, 0x80]), "1:4180");
        let hex: String = begin.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(track.packet(1, begin), format!("1. 1:{hex}"));
        assert_eq!(track.packet(1, &[0x65, 0x80]), "1:6580");
    }
    for unit_type in [32_u8, 33, 34, 35] {
        let mut track = Track::h265();
        assert_eq!(track.packet(1, &[0x02, 1, 0x80]), "1:020180");
        assert_eq!(track.packet(1, &[unit_type << 1, 1, 2]), format!("1. 1:{:02x}0102", unit_type << 1));
    }
}

#[test]
fn parameter_sets_with_their_own_timestamp_are_an_access_unit_without_picture() {
    let mut track = Track::h264();
    assert_eq!(track.marked(1, &[0x67, 1]), "1:6701");
    assert_eq!(track.marked(2, &[0x65, 0x80]), "1. 2:6580 2.");
}

#[test]
fn loss_inside_a_fragmented_nal_unit_drops_it() {
    let mut track = Track::h264();
    assert_eq!(track.packet(1, &[0x67, 1]), "1:6701");
    assert_eq!(track.packet(1, &[0x7c, 0x85, 0x80]), "");
    assert_eq!(track.lose(2).packet(1, &[0x7c, 0x05, 2]), "");
    assert_eq!(track.marked(1, &[0x7c, 0x45, 3]), "1!");
    assert_eq!(track.broken(), 1);
    assert_eq!(track.marked(2, &[0x41, 0x40]), "2:4140 2.", "the loss is spent");
}

#[test]
fn a_fragment_without_start_is_dropped() {
    let mut track = Track::h264();
    assert_eq!(track.lose(1).packet(1, &[0x7c, 0x05, 2]), "");
    assert_eq!(track.marked(1, &[0x7c, 0x45, 3]), "1!");
    assert_eq!(track.broken(), 1);
}

#[test]
fn a_fragment_without_end_is_dropped_when_another_nal_unit_starts() {
    let mut track = Track::h264();
    assert_eq!(track.packet(0, &[0x7c, 0xc5, 0x80]), "0:6580", "the camera sets end bits");
    track.packet(1, &[]);
    assert_eq!(track.packet(1, &[0x7c, 0x85, 0x80]), "");
    assert_eq!(track.packet(1, &[0x7c, 0x85, 0x40]), "");
    assert_eq!(track.packet(1, &[0x41, 0x40]), "1:4140");
    assert_eq!(track.packet(1, &[0x7c, 0x85, 0x41]), "");
    assert_eq!(track.packet(2, &[0x41, 0x80]), "1! 2:4180");
    assert_eq!(track.broken(), 3);
}

#[test]
fn a_camera_that_never_sets_an_end_bit_is_understood() {
    let mut track = Track::h264();
    assert_eq!(track.packet(1, &[0x7c, 0x85, 0x80]), "");
    assert_eq!(track.marked(1, &[0x7c, 0x05, 1]), "", "more may come");
    assert_eq!(track.packet(2, &[0x7c, 0x81, 0x80]), "1:658001 1.");
    assert_eq!(track.marked(2, &[0x7c, 0x01, 2]), "2:618002 2.", "now markers are enough");
    assert_eq!(track.packet(3, &[0x7c, 0x81, 0x80]), "");
    assert_eq!(track.packet(3, &[0x7c, 0x81, 0x40]), "3:6180");
    assert_eq!(track.packet(4, &[0x41, 0x80]), "3:6140 3. 4:4180");
    assert_eq!(track.broken() + track.malformed(), 0);

    let mut track = Track::h265();
    assert_eq!(track.packet(1, &[0x62, 1, 0x93, 0x80]), "");
    assert_eq!(track.marked(1, &[0x62, 1, 0x13, 1]), "");
    assert_eq!(track.packet(2, &[0x62, 1, 0x81, 0x80]), "1:26018001 1.");
    assert_eq!(track.marked(2, &[0x62, 1, 0x01, 2]), "2:02018002 2.");
}

#[test]
fn what_a_camera_without_end_bits_loses_is_dropped() {
    let mut track = Track::h264();
    assert_eq!(track.packet(1, &[0x7c, 0x85, 0x80]), "");
    assert_eq!(track.lose(1).packet(2, &[0x7c, 0x81, 0x80]), "1!");
    assert_eq!(track.packet(2, &[0x7c, 0x01, 1]), "");
    assert_eq!(track.packet(3, &[0x41, 0x80]), "2:618001 2. 3:4180");
    assert_eq!(track.broken(), 1);
}

#[test]
fn markers_on_every_packet_are_seen_through_without_end_bits_too() {
    let mut track = Track::h264();
    assert_eq!(track.marked(1, &[0x7c, 0x85, 0x80]), "");
    assert_eq!(track.marked(1, &[0x7c, 0x05, 1]), "");
    assert_eq!(track.marked(1, &[0x7c, 0x05, 2]), "");
    assert_eq!(track.marked(2, &[0x7c, 0x81, 0x80]), "1:65800102 1.");
    assert_eq!(track.marked(2, &[0x7c, 0x01, 1]), "");
    assert_eq!(track.marked(3, &[0x41, 0x80]), "2:618001 2. 3:4180");
}

#[test]
fn a_start_that_the_camera_did_not_send_is_counted_as_malformed() {
    let mut track = Track::h264();
    assert_eq!(track.marked(1, &[0x41, 0x80]), "1:4180 1.");
    assert_eq!(track.packet(2, &[0x7c, 0x01, 0x80]), "");
    assert_eq!(track.marked(2, &[0x7c, 0x41, 1]), "2!");
    assert_eq!((track.malformed(), track.broken()), (1, 1));
    assert_eq!(track.lose(1).marked(3, &[0x7c, 0x41, 1]), "3!");
    assert_eq!((track.malformed(), track.broken()), (1, 2), "a lost one is not");
}

/// ONVIF Media Signing.
#[test]
fn a_start_code_within_an_sei_is_part_of_it() {
    let mut track = Track::h264();
    assert_eq!(track.packet(1, b"\x06\x05\x07\x11\0\0\0\x01\x65\x88\x80"), "1:0605071100000001658880");
    assert_eq!(
        track.packet(1, b"\x06\x05\x01\x11\x80\0\0\0\x01\x65\x80"),
        "1:0605011180 1:6580",
        "behind it"
    );
    let mut track = Track::h265();
    assert_eq!(track.packet(1, b"\x62\x01\xa7\x05\x07\x11\0\0\0\x01"), "");
    assert_eq!(track.packet(1, b"\x62\x01\x67\x26\x01\x80"), "1:4e0105071100000001260180");
}

#[test]
fn what_comes_between_fragments_breaks_them_unless_it_is_empty() {
    for between in [&[0x41_u8, 0x40][..], &[0x7c], &[0x79, 0, 0]] {
        let mut track = Track::h264();
        assert_eq!(track.packet(1, &[0x7c, 0x85, 0x80]), "");
        track.packet(1, between);
        assert_eq!(track.marked(1, &[0x7c, 0x45, 3]), "1!", "{between:02x?}");
    }
    let mut track = Track::h264();
    assert_eq!(track.packet(1, &[0x7c, 0x85, 0x80]), "");
    assert_eq!(track.marked(1, &[]), "");
    assert_eq!(track.marked(1, &[0x7c, 0x45, 3]), "1:658003 1.");
}

#[test]
fn loss_between_access_units_damages_those_that_it_may_have_hit() {
    let mut track = Track::h264();
    assert_eq!(track.marked(1, &[0x65, 0x80]), "1:6580 1.");
    assert_eq!(track.lose(1).marked(2, &[0x41, 0x80]), "2:4180 2.", "its first slice is there");
    assert_eq!(track.lose(1).marked(3, &[0x41, 0x40]), "3:4140 3!", "its first slice is not");
    assert_eq!(track.lose(1).packet(4, &[0x06, 1]), "4:0601", "an SEI comes before the slices");
    assert_eq!(track.marked(4, &[0x41, 0x80]), "4:4180 4.");

    let mut track = Track::h264();
    assert_eq!(track.packet(1, &[0x65, 0x80]), "1:6580");
    assert_eq!(track.lose(1).packet(2, &[0x41, 0x80]), "1! 2:4180", "the end may be lost");
    assert_eq!(track.packet(3, &[0x41, 0x80]), "2. 3:4180");
    assert_eq!(track.lose(1).packet(3, &[0x41, 0x40]), "3:4140");
    assert_eq!(track.packet(4, &[0x41, 0x40]), "3! 4:4140", "what came after the loss is spent");
    assert_eq!(track.packet(5, &[0x41, 0x80]), "4. 5:4180");
}

#[test]
fn an_aggregation_with_a_bad_length_gives_what_comes_before() {
    for bad in [&[0x78, 0, 2, 0x67, 1, 0, 9, 0x68][..], &[0x78, 0, 2, 0x67, 1, 0][..]] {
        let mut track = Track::h264();
        assert_eq!(track.packet(1, bad), "1:6701");
        assert_eq!(track.malformed(), 1);
        assert_eq!(track.marked(1, &[0x65, 0x80]), "1:6580 1!");
    }
}

#[test]
fn empty_nal_units_are_skipped() {
    let mut track = Track::h264();
    assert_eq!(track.packet(1, &[0x78, 0, 0, 0, 2, 0x67, 1]), "1:6701");
    assert_eq!(track.packet(7, &[]), "1.", "an empty packet has a timestamp all the same");
    assert_eq!(track.malformed(), 2);
    assert_eq!(track.marked(7, &[0x65, 0x80]), "7:6580 7.", "nothing is missing");
}

#[test]
fn what_has_the_forbidden_bit_is_dropped() {
    let mut track = Track::h264();
    assert_eq!(track.packet(1, &[0xe5, 0x80]), "");
    assert_eq!(track.packet(1, &[0x78, 0, 2, 0xe5, 0x80, 0, 2, 0x65, 0x40]), "1:6540");
    assert_eq!(track.packet(2, &[0x41, 0x80]), "1! 2:4180");
    assert_eq!(track.malformed(), 2);
}

#[test]
fn the_interleaved_mode_is_counted_as_malformed() {
    for indicator in [0x79_u8, 0x7a, 0x7b, 0x7d] {
        let mut track = Track::h264();
        assert_eq!(track.packet(1, &[indicator, 0x85, 0, 1, 0, 2, 0x65, 0x80]), "");
        assert_eq!(track.packet(2, &[0x41, 0x80]), "1! 2:4180");
        assert_eq!(track.malformed(), 1);
    }
}

#[test]
fn undefined_types_are_ignored() {
    let mut track = Track::h264();
    assert_eq!(track.packet(1, &[0x65, 0x80]), "1:6580");
    assert_eq!(track.packet(1, &[0x1f, 1, 2]), "");
    assert_eq!(track.marked(1, &[0x65, 0x40]), "1:6540 1.");
    assert_eq!(track.malformed(), 1);
}

#[test]
fn a_packet_of_annex_b_is_split() {
    let mut track = Track::h264();
    assert_eq!(
        track.marked(1, b"\0\0\0\x01\x67\x01\0\0\0\x01\x68\x02\0\0\x01\x65\x80"),
        "1:6701 1:6802 1:6580 1."
    );
    assert_eq!(track.marked(2, b"\x67\x01\0\0\0\x01\x68\x02\0\0\x01\x65\x80"), "2:6701 2:6802 2:6580 2.");
    assert_eq!(track.malformed(), 0);
    assert_eq!(track.marked(3, b"\0\0\x01"), "");
    assert_eq!(track.malformed(), 1);
    let mut track = Track::h265();
    assert_eq!(track.marked(1, b"\0\0\x01\x40\x01\x05\0\0\x01\x26\x01\x80"), "1:400105 1:260180 1.");
}

/// V380 cameras.
#[test]
fn annex_b_in_fragments_behind_a_parameter_set_is_split() {
    let mut track = Track::h264();
    assert_eq!(track.packet(1, b"\x7c\x87\x01\0\0"), "");
    assert_eq!(track.packet(1, b"\x7c\x07\x01\x68\x02\0\0\0\x01"), "");
    assert_eq!(track.marked(1, b"\x7c\x47\x65\x80\x03"), "1:6701 1:6802 1:658003 1.");
}

/// Tiandy cameras set the type of the first fragment only.
#[test]
fn odd_fragments_are_tolerated() {
    let mut track = Track::h264();
    assert_eq!(track.marked(1, &[0x7c, 0xc5, 0x80, 1]), "1:658001 1.", "start and end in one");
    assert_eq!(track.packet(2, &[0x7c, 0x85]), "", "empty");
    assert_eq!(track.packet(2, &[0x7c, 0x01, 0x80]), "", "another type");
    assert_eq!(track.marked(2, &[0x7c, 0x45]), "2:6580 2.");
    assert_eq!(track.malformed() + track.broken(), 0);
}

#[test]
fn a_nal_unit_has_a_largest_size() {
    let mut track = Track::h264();
    let mut fragment = vec![1; 60_000];
    fragment[..3].copy_from_slice(&[0x7c, 0x85, 0x80]);
    track.packet(1, &fragment);
    fragment[1] = 0x05;
    for _ in 0..MAX_NAL_LEN / fragment.len() {
        track.packet(1, &fragment);
    }
    assert_eq!(track.broken(), 1);
    assert_eq!(track.marked(1, &[0x7c, 0x45, 1]), "1!");
}

#[test]
fn a_nal_unit_has_a_largest_number_of_slices() {
    let mut track = Track::h264();
    track.packet(1, &[0x7c, 0x85, 0x80]);
    for _ in 0..MAX_NAL_SLICES {
        assert_eq!(track.packet(1, &[0x7c, 0x05, 1]), "");
    }
    assert_eq!(track.marked(1, &[0x7c, 0x45, 1]), "1!");
    assert_eq!(track.broken(), 1);
}

#[test]
fn an_access_unit_has_a_largest_number_of_nal_units() {
    let mut track = Track::h264();
    for _ in 0..MAX_ACCESS_UNIT_NALS {
        assert_eq!(track.packet(1, &[0x06, 1]), "1:0601");
    }
    assert_eq!(track.packet(1, &[0x65, 0x80]), "");
    assert_eq!(track.malformed(), 1);
    assert_eq!(track.packet(2, &[0x65, 0x80]), "1! 2:6580");
}
