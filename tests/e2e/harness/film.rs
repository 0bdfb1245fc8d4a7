//! What one viewer sees by the WebSocket, all of it, and the judgement of it.

use std::time::Duration;

use super::{
    AccessUnit, Codec, Decoder, Packet, Server, Viewer, access_units, assert_continuous, free_udp_port,
    with_media_port,
};

pub struct Film {
    pub viewer: Viewer,
    codec: Codec,
    sdp: String,
    packets: Vec<Packet>,
    b_frames: bool,
}

impl Film {
    /// From the first picture on.
    pub fn of(server: &Server, path_id: &str, codec: Codec) -> Self {
        let viewer = Viewer::websocket(server, path_id);
        let sdp = viewer.sdp();
        Self { viewer, codec, sdp, packets: vec![], b_frames: false }
    }

    /// Pictures are not sent in the order in which they are shown. Nothing is decoded then: of such pictures by RTP,
    /// ffmpeg 5.1 finds fault with the first ones' times, whoever sends them.
    pub fn with_b_frames(self) -> Self {
        Self { b_frames: true, ..self }
    }

    /// So many more pictures.
    pub fn watch(&mut self, pictures: usize) {
        let more = self.viewer.rtp_until(&format!("{pictures} more pictures"), |packets| {
            packets.iter().filter(|packet| packet.marker()).count() >= pictures
        });
        self.packets.extend(more);
    }

    /// One numbering, whole access units from a random access point on, and `ffmpeg` decodes every one of them
    /// by the description from before the first, without a word. Gives all but the last, which may be cut.
    #[track_caller]
    pub fn assert_whole(&self) -> Vec<AccessUnit> {
        if self.b_frames {
            assert_numbered(&self.packets)
        } else {
            assert_continuous(&self.packets)
        }
        let mut units = access_units(&self.packets, self.codec);
        let frames = units.len() - HELD_BACK;
        let last = units.pop().expect("access units");
        assert!(units.iter().all(|unit| unit.complete), "whole access units but for the last: {last:?}");
        assert!(units[0].is_random_access(self.codec), "{:?}", units[0]);
        if !self.b_frames {
            let decoder = Decoder::start(&with_media_port(&self.sdp, free_udp_port()), frames);
            decoder.feed(&self.packets);
            decoder.finish();
        }
        units
    }
}

/// One SSRC, sequence numbers rising by one, and a marker exactly where a timestamp ends, whichever comes next.
#[track_caller]
fn assert_numbered(packets: &[Packet]) {
    for pair in packets.windows(2) {
        let [before, after] = pair else { unreachable!() };
        assert_eq!(after.ssrc(), before.ssrc(), "one SSRC");
        assert_eq!(after.sequence(), before.sequence().wrapping_add(1), "sequence numbers rise by one");
        let changed = after.rtp_timestamp() != before.rtp_timestamp();
        assert_eq!(changed, before.marker(), "a marker ends a timestamp: {}", before.sequence());
    }
}

/// Timestamps advance as time does, and evenly: within a twentieth, from a second after the first picture on, when the
/// pictures from before the viewer came are behind it. `rate` in pictures a second.
#[track_caller]
pub fn assert_in_real_time(units: &[AccessUnit], rate: usize) {
    let settled = units[0].at + Duration::from_secs(1);
    let units = &units[units.partition_point(|unit| unit.at < settled)..];
    let first = units[0].rtp_timestamp;
    let mut shown: Vec<f64> = units.iter().map(|unit| seconds(unit.rtp_timestamp, first)).collect();
    shown.sort_by(f64::total_cmp);
    let interval = 1.0 / rate as f64;
    // At the edges some are missing that are sent earlier or later than they are shown.
    for pair in shown[REORDERED..shown.len() - REORDERED].windows(2) {
        let step = pair[1] - pair[0];
        assert!((step - interval).abs() < interval / 20.0 + 0.001, "{step} s from picture to picture");
    }
    // How late pictures are, at the beginning and at the end, those left out that the machine kept waiting.
    let late = |units: &[AccessUnit]| {
        let late = |unit: &AccessUnit| (unit.at - settled).as_secs_f64() - seconds(unit.rtp_timestamp, first);
        units.iter().map(late).fold(f64::INFINITY, f64::min)
    };
    let drift = late(&units[units.len() - rate..]) - late(&units[..rate]);
    let span = shown[shown.len() - 1];
    assert!(drift.abs() < span / 20.0, "{drift} s off in {span} s");
}

/// From `first` to there, on the clock of 90 kHz; may be before.
fn seconds(timestamp: u32, first: u32) -> f64 {
    f64::from(timestamp.wrapping_sub(first).cast_signed()) / 90_000.0
}

/// Pictures that one may be sent ahead of.
const REORDERED: usize = 2;
/// A decoder holds a few back until it knows that they are the next.
const HELD_BACK: usize = 10;
