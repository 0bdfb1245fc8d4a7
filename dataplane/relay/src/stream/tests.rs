use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lanecast_protocol::codec::{Codec, Nal, ParameterSets};
use lanecast_protocol::rtp::RtpPacket;

use super::{Slate, Stream, StreamSettings};
use crate::fanout::{Egress, Transmit, ViewerId};
use crate::source::Lane;

/// A stream, its viewer and what the viewer got.
struct Rig {
    now: Instant,
    stream: Stream,
    got: Vec<RtpPacket>,
}

impl Rig {
    fn new() -> Self {
        let settings = StreamSettings { max_udp_payload: 1200, gop_cache_bytes: 1 << 20, seed: 7 };
        let mut rig = Self { now: Instant::now(), stream: Stream::new(settings), got: Vec::new() };
        rig.stream.join(ViewerId(0), Egress::Datagrams, true);
        rig
    }

    fn play(&mut self, lane: Lane) {
        self.stream.handle_playing(lane, Codec::H264, 90_000, ParameterSets::new(Codec::H264));
    }

    /// A picture of a lane, whose slice tells whose it is.
    fn picture(&mut self, lane: Lane, timestamp: u32, key: bool) {
        let mark = 0xa0 + lane.index() as u8;
        let slice: &[u8] = if key { &[0x65, 0x88, mark] } else { &[0x41, 0x9a, mark] };
        let sets: &[&[u8]] =
            if key { &[&[0x67, 0x42, 0xc0, 0x1e, 0x8c], &[0x68, 0xce, 0x3c, 0x80]] } else { &[] };
        let nals: Vec<Nal> = sets.iter().chain([&slice]).map(|bytes| nal(bytes)).collect();
        self.stream.handle_unit(self.now, lane, timestamp, nals);
        self.transmit();
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.stream.handle_timeout(self.now);
        self.transmit();
    }

    fn transmit(&mut self) {
        let got = &mut self.got;
        self.stream.transmit(self.now, |transmit| {
            let (Transmit::Shared { run, .. } | Transmit::Own { run, .. }) = transmit;
            let packets = run.iter().map(|packet| RtpPacket::parse(packet.bytes).expect("RTP"));
            got.extend(packets);
        });
    }

    /// The last byte of every slice that the viewer got.
    fn marks(&self) -> Vec<u8> {
        let slices = self.got.iter().filter(|packet| [1, 5].contains(&(packet.payload[0] & 31)));
        slices.map(|packet| packet.payload[packet.payload.len() - 1]).collect()
    }

    fn assert_seamless(&self) {
        for pair in self.got.windows(2) {
            assert_eq!(pair[1].seq, pair[0].seq.wrapping_add(1));
            assert_eq!(pair[1].ssrc, pair[0].ssrc);
            let step = pair[1].rtp_timestamp.wrapping_sub(pair[0].rtp_timestamp);
            assert!(step < 90_000 * 20, "{step}");
        }
    }
}

fn nal(bytes: &[u8]) -> Nal {
    Nal::from_bytes(Bytes::copy_from_slice(bytes))
}

fn slate() -> Rc<Slate> {
    let mut parameter_sets = ParameterSets::new(Codec::H264);
    for set in [&[0x67u8, 0x42, 0xc0, 0x0a, 0x8c][..], &[0x68, 0xce, 0x3c, 0x81]] {
        parameter_sets.handle_nal(&nal(set));
    }
    let units = vec![vec![nal(&[0x65, 0x88, 0x50])], vec![nal(&[0x41, 0x9a, 0x51])]];
    Rc::new(Slate {
        codec: Codec::H264,
        parameter_sets: Rc::new(parameter_sets),
        units,
        interval: Duration::from_millis(200),
    })
}

#[test]
fn a_lane_takes_over_with_its_next_keyframe_once_it_is_wanted() {
    let mut rig = Rig::new();
    rig.play(Lane::A);
    rig.picture(Lane::A, 0, true);
    assert_eq!(rig.stream.poll_on_air(), Some(Lane::A));
    rig.play(Lane::B);
    rig.pass(40);
    rig.picture(Lane::B, 5_000_000, true);
    rig.picture(Lane::A, 3600, false);
    assert_eq!(rig.stream.poll_on_air(), None, "nobody asked for it");

    rig.stream.prefer(Lane::B);
    rig.pass(40);
    rig.picture(Lane::B, 5_003_600, false);
    rig.picture(Lane::A, 7200, false);
    rig.pass(40);
    rig.picture(Lane::B, 5_007_200, true);
    assert_eq!(rig.stream.poll_on_air(), Some(Lane::B));
    rig.picture(Lane::A, 10_800, true);
    rig.pass(40);
    rig.picture(Lane::B, 5_010_800, false);

    assert_eq!(rig.marks(), [0xa0, 0xa0, 0xa0, 0xa1, 0xa1]);
    rig.assert_seamless();
}

#[test]
fn a_lane_that_begins_anew_waits_for_its_keyframe() {
    let mut rig = Rig::new();
    rig.play(Lane::A);
    rig.picture(Lane::A, 0, true);
    rig.play(Lane::A);
    rig.pass(500);
    rig.picture(Lane::A, 77, false);
    rig.picture(Lane::A, 3677, true);
    assert_eq!(rig.marks(), [0xa0, 0xa0]);
    rig.assert_seamless();
}

#[test]
fn the_slate_loops_until_a_keyframe_comes_and_is_never_recorded() {
    let mut rig = Rig::new();
    rig.stream.set_recording(true);
    rig.play(Lane::A);
    rig.picture(Lane::A, 0, true);
    assert!(!rig.stream.poll_description().expect("parameter sets").is_slate);
    rig.pass(2000);
    rig.stream.show_slate(rig.now, slate());
    rig.transmit();
    assert!(rig.stream.poll_description().expect("its parameter sets").is_slate);
    assert!(rig.stream.is_slate() && rig.stream.on_air().is_none());
    for _ in 0..4 {
        rig.pass(200);
    }
    rig.picture(Lane::A, 900_000, false);
    rig.picture(Lane::A, 903_600, true);
    assert!(!rig.stream.is_slate());
    assert!(!rig.stream.poll_description().expect("the camera's").is_slate);
    rig.pass(1000);

    assert_eq!(rig.marks(), [0xa0, 0x50, 0x51, 0x50, 0x51, 0x50, 0xa0]);
    rig.assert_seamless();
    let recorded: Vec<_> = std::iter::from_fn(|| rig.stream.poll_access_unit()).collect();
    assert_eq!(recorded.len(), 2);
    assert_eq!(recorded[1].new_clock_rate_hz, Some(90_000));
    assert_eq!(rig.stream.counters().slate_access_units, 5);
}

#[test]
fn who_joins_during_an_outage_gets_the_slate_at_once() {
    let mut rig = Rig::new();
    rig.stream.leave(ViewerId(0));
    rig.stream.show_slate(rig.now, slate());
    rig.transmit();
    for _ in 0..10 {
        rig.pass(200);
    }
    // Nobody watched: only keyframes were made, each for a whole loop.
    assert_eq!(rig.stream.counters().slate_access_units, 6);
    rig.stream.join(ViewerId(1), Egress::Datagrams, true);
    rig.pass(5);
    assert_eq!(rig.marks().last(), Some(&0x50));
}

#[test]
fn who_comes_after_a_rest_gets_nothing_of_before_it() {
    let mut rig = Rig::new();
    rig.play(Lane::A);
    rig.picture(Lane::A, 0, true);
    rig.stream.leave(ViewerId(0));
    rig.stream.show_slate(rig.now, slate());
    rig.stream.rest();
    assert!(!rig.stream.is_slate() && rig.stream.on_air().is_none());

    rig.stream.join(ViewerId(1), Egress::Datagrams, true);
    rig.pass(60_000);
    rig.play(Lane::A);
    rig.picture(Lane::A, 77, true);

    assert_eq!(rig.marks(), [0xa0, 0xa0], "one for each viewer");
    assert_eq!(rig.stream.counters().slate_access_units, 1);
}

#[test]
fn a_slate_after_the_clock_was_late_sends_one_picture_not_all_that_it_missed() {
    let mut rig = Rig::new();
    rig.stream.show_slate(rig.now, slate());
    rig.pass(60_000);
    rig.transmit();
    assert_eq!(rig.stream.counters().slate_access_units, 2);
}

#[test]
fn a_picture_that_the_slate_cuts_off_is_damaged_in_the_recording() {
    let mut rig = Rig::new();
    rig.stream.set_recording(true);
    rig.play(Lane::A);
    rig.picture(Lane::A, 0, true);
    // The first half of a picture, then silence.
    let packet = RtpPacket {
        marker: false,
        payload_type: 96,
        seq: 1,
        rtp_timestamp: 3600,
        ssrc: 1,
        payload: Bytes::from_static(&[0x41, 0x9a, 0xa0]),
    };
    let ordered = lanecast_protocol::rtp::Ordered { packet, lost_before: 0 };
    rig.stream.handle_packet(rig.now, Lane::A, ordered);
    rig.stream.show_slate(rig.now, slate());
    let recorded: Vec<_> = std::iter::from_fn(|| rig.stream.poll_access_unit()).collect();
    assert_eq!(recorded.iter().map(|unit| unit.damaged).collect::<Vec<_>>(), [false, true]);
}
