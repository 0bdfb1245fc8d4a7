//! RTP packets in order → NAL units and ends of access units (RFC 6184 section 5, RFC 7798 section 4.4).
//!
//! The payload structures of each codec are in `h264` and `h265`; putting packets in order is
//! `rtp::ReorderBuffer`'s. Here is what several packets add up to: fragments, access units, loss.
//!
//! # Where an access unit ends
//!
//! At its marker, or where the timestamp changes, whichever is first. Real cameras need more:
//!
//! - *Marker on SEI, parameter sets or a delimiter* (Ivel LV-IP22IR40DVBL): a marker ends nothing before
//!   the access unit has a slice.
//! - *Marker on every packet or slice*: a marker inside a fragmented NAL unit, or one that another slice of
//!   the same picture follows, shows that markers lie. From then on the track's markers are not looked at.
//! - *Marker never set*: the end comes when the next timestamp does.
//! - *Timestamps that stand still*: a first slice, a delimiter or a parameter set behind a slice begins the
//!   next access unit, whatever its timestamp.
//! - *Parameter sets with a timestamp of their own* make an access unit without a picture.
//!
//! # What else is tolerated
//!
//! - *Annex B start codes* at the front of a packet, or behind a NAL unit that is no slice (V380): split.
//! - *FU with start and end bit*: a whole NAL unit. *Empty fragments*: skipped.
//! - *Fragments that disagree on their type* (Tiandy): the first one's holds.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use super::nal::NalHead;
use super::{Codec, Nal, annex_b, h264, h265};
use crate::rtp::Ordered;

/// What comes out, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Depacketized {
    /// A whole NAL unit of the access unit at `rtp_timestamp`. Parameter sets come as any other.
    Nal {
        /// RTP timestamp as the camera sent it.
        rtp_timestamp: u32,
        /// The NAL unit.
        nal: Nal,
    },
    /// The access unit whose NAL units came since the last end is over. There may be none, if all were
    /// broken, and no slice among them, where a camera gives parameter sets a timestamp of their own.
    AccessUnitEnd {
        /// RTP timestamp as the camera sent it.
        rtp_timestamp: u32,
        /// A packet of it was lost or malformed, so part of the picture is missing.
        damaged: bool,
    },
}

/// Counters, all since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DepacketizerStatistics {
    /// Packets whose payload was malformed.
    pub malformed_packets: u64,
    /// NAL units dropped because a fragment was missing.
    pub broken_nals: u64,
}

/// The depacketizer of one track.
#[derive(Debug)]
pub struct Depacketizer {
    codec: Codec,
    /// Of the packet in hand.
    rtp_timestamp: u32,
    access_unit: Option<AccessUnit>,
    fragmented: Fragmented,
    /// Slices of the NAL unit in `Fragmented::Collecting`, else empty. Kept for its capacity.
    slices: Vec<Bytes>,
    markers: Markers,
    /// Packets were lost since the last access unit ended: they may have been the next one's.
    lost_between: bool,
    /// The packet in hand has something wrong.
    malformed: bool,
    output: VecDeque<Depacketized>,
    statistics: DepacketizerStatistics,
}

impl Depacketizer {
    /// For a track of `codec`.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            rtp_timestamp: 0,
            access_unit: None,
            fragmented: Fragmented::None,
            slices: Vec::new(),
            markers: Markers::Trusted { ended: None },
            lost_between: false,
            malformed: false,
            output: VecDeque::new(),
            statistics: DepacketizerStatistics::default(),
        }
    }

    /// Takes the next packet in order.
    pub fn handle_packet(&mut self, packet: Ordered) {
        let Ordered { packet, lost_before } = packet;
        if lost_before > 0 {
            self.handle_loss();
        }
        self.handle_timestamp(packet.rtp_timestamp);
        self.malformed = false;
        let fragment_left_open = self.handle_structure(packet.payload);
        self.statistics.malformed_packets += u64::from(self.malformed);
        if packet.marker {
            self.handle_marker(fragment_left_open);
        }
    }

    /// What it made of it, until `None`.
    pub fn poll_output(&mut self) -> Option<Depacketized> {
        self.output.pop_front()
    }

    /// Counters.
    pub fn statistics(&self) -> DepacketizerStatistics {
        self.statistics
    }

    /// A fuzz and property helper: feeds `payload` as one packet.
    pub fn handle_payload(&mut self, seq: u16, rtp_timestamp: u32, marker: bool, payload: Bytes) {
        let packet = crate::rtp::RtpPacket { marker, payload_type: 96, seq, rtp_timestamp, ssrc: 1, payload };
        self.handle_packet(Ordered { packet, lost_before: 0 });
    }

    /// Panics if the state contradicts itself. For fuzzers.
    pub fn check_invariants(&self) {
        match self.fragmented {
            Fragmented::None | Fragmented::Discarding => assert!(self.slices.is_empty()),
            Fragmented::Collecting { len } => {
                assert!(len <= MAX_NAL_LEN && self.slices.len() <= MAX_NAL_SLICES);
                assert!(self.slices.len() <= len);
            }
        }
        assert!(self.access_unit.is_some() || matches!(self.fragmented, Fragmented::None));
    }

    fn handle_loss(&mut self) {
        self.break_fragmented();
        self.damage();
        self.lost_between = true;
        if let Markers::Trusted { ended } = &mut self.markers {
            *ended = None;
        }
    }

    fn handle_timestamp(&mut self, rtp_timestamp: u32) {
        match &self.access_unit {
            Some(access_unit) if access_unit.rtp_timestamp != rtp_timestamp => self.end_access_unit(false),
            Some(_) => self.lost_between = false,
            None => {}
        }
        self.rtp_timestamp = rtp_timestamp;
    }

    /// True if the packet held a fragment and another must follow.
    fn handle_structure(&mut self, payload: Bytes) -> bool {
        if annex_b::has_start_code(&payload) {
            self.handle_whole(payload);
            return false;
        }
        let structure = match self.codec {
            Codec::H264 => h264::read_payload(payload),
            Codec::H265 => h265::read_payload(payload),
        };
        match structure {
            Payload::Single(nal) => self.handle_whole(nal),
            Payload::Aggregation(nals) => self.handle_aggregation(nals),
            Payload::Fragment(fragment) => return self.handle_fragment(fragment),
            Payload::Empty | Payload::Reserved => self.malformed = true,
            Payload::Malformed => self.refuse(),
        }
        false
    }

    /// STAP-A and AP: a 16-bit length before each NAL unit. Those before a bad length are kept.
    fn handle_aggregation(&mut self, mut nals: Bytes) {
        while !nals.is_empty() {
            let Ok(len) = nals.try_get_u16().map(usize::from) else { return self.refuse() };
            if len > nals.len() {
                return self.refuse();
            }
            if len == 0 {
                self.malformed = true;
                continue;
            }
            self.handle_whole(nals.split_to(len));
        }
    }

    /// Takes what should be one whole NAL unit.
    fn handle_whole(&mut self, bytes: Bytes) {
        self.leave_fragmented();
        if annex_b::has_start_code(&bytes) || !self.head(&bytes).is_slice() {
            self.handle_annex_b(bytes);
        } else {
            self.handle_nal(bytes);
        }
    }

    fn handle_annex_b(&mut self, bytes: Bytes) {
        let mut none = true;
        for nal in annex_b::split(bytes) {
            none = false;
            self.handle_nal(nal);
        }
        self.malformed |= none;
    }

    fn handle_nal(&mut self, bytes: Bytes) {
        let (header_len, forbidden) = match self.codec {
            Codec::H264 => (h264::HEADER_LEN, h264::is_forbidden(bytes[0])),
            Codec::H265 => (h265::HEADER_LEN, h265::is_forbidden(bytes[0])),
        };
        if forbidden || bytes.len() < header_len {
            return self.refuse();
        }
        let head = self.head(&bytes);
        let known = match self.codec {
            Codec::H264 => h264::is_unit_type(head.unit_type),
            Codec::H265 => h265::is_unit_type(head.unit_type),
        };
        if !known {
            self.malformed = true;
            return;
        }
        self.begin_nal(head);
        self.finish_nal(Nal::from_bytes(bytes));
    }

    /// Takes one FU; true if another must follow.
    fn handle_fragment(&mut self, fragment: Fragment) -> bool {
        let Fragment { header, start, end, body } = fragment;
        if start {
            self.leave_fragmented();
            self.begin_nal(NalHead::read(self.codec, header.iter().chain(&body).copied()));
            self.fragmented = Fragmented::Collecting { len: 0 };
            self.collect(header);
        } else if self.fragmented == Fragmented::None {
            self.miss_start(self.head(&header));
        }
        self.collect(body);
        if end {
            self.end_fragmented();
        }
        !end
    }

    /// Adds a slice to the NAL unit under way, if it is still wanted.
    fn collect(&mut self, slice: Bytes) {
        let Fragmented::Collecting { len } = &mut self.fragmented else { return };
        if slice.is_empty() {
            return;
        }
        *len += slice.len();
        if *len > MAX_NAL_LEN || self.slices.len() == MAX_NAL_SLICES {
            self.break_fragmented();
        } else {
            self.slices.push(slice);
        }
    }

    fn end_fragmented(&mut self) {
        let fragmented = std::mem::replace(&mut self.fragmented, Fragmented::None);
        if !matches!(fragmented, Fragmented::Collecting { .. }) {
            return;
        }
        // One allocation of the exact size for a NAL unit of more than four slices, none for others.
        let mut slices = SmallVec::with_capacity(self.slices.len());
        slices.extend(self.slices.drain(..));
        let nal = Nal { slices };
        if nal.head(self.codec).is_slice() {
            self.finish_nal(nal);
        } else {
            self.handle_annex_b(nal.to_contiguous());
        }
    }

    /// The fragments to come have no start: it was lost, or never sent.
    fn miss_start(&mut self, head: NalHead) {
        self.statistics.broken_nals += 1;
        self.fragmented = Fragmented::Discarding;
        let access_unit = self.open_access_unit(false);
        access_unit.damaged = true;
        access_unit.has_slice |= head.is_slice();
    }

    /// Drops what came of the NAL unit under way, if any: a fragment is missing. What may still come of it
    /// is dropped too.
    fn break_fragmented(&mut self) {
        if let Fragmented::Collecting { .. } = self.fragmented {
            self.slices.clear();
            self.fragmented = Fragmented::Discarding;
            self.statistics.broken_nals += 1;
            self.damage();
        }
    }

    /// Something else than a next fragment came.
    fn leave_fragmented(&mut self) {
        self.break_fragmented();
        self.fragmented = Fragmented::None;
    }

    /// A NAL unit starts, whole or fragmented: to which access unit does it belong?
    fn begin_nal(&mut self, head: NalHead) {
        if !self.has_slice() {
            self.doubt_markers(head);
        } else if head.ends_access_unit_before() {
            self.end_access_unit(false);
        }
        self.open_access_unit(head.begins_access_unit()).has_slice |= head.is_slice();
    }

    /// A slice that goes on with the picture that a marker has ended shows that markers lie.
    fn doubt_markers(&mut self, head: NalHead) {
        let same_time = self.markers == Markers::Trusted { ended: Some(self.rtp_timestamp) };
        if same_time && head.is_slice() && !head.first_slice {
            self.markers = Markers::Distrusted;
        }
    }

    fn finish_nal(&mut self, nal: Nal) {
        let rtp_timestamp = self.rtp_timestamp;
        let access_unit = self.open_access_unit(false);
        if access_unit.admit(&nal) {
            self.output.push_back(Depacketized::Nal { rtp_timestamp, nal });
        } else {
            self.refuse();
        }
    }

    fn handle_marker(&mut self, fragment_left_open: bool) {
        if fragment_left_open {
            self.markers = Markers::Distrusted;
        }
        let collecting = matches!(self.fragmented, Fragmented::Collecting { .. });
        if self.has_slice() && self.markers != Markers::Distrusted && !collecting {
            self.end_access_unit(true);
        }
    }

    fn has_slice(&self) -> bool {
        self.access_unit.as_ref().is_some_and(|access_unit| access_unit.has_slice)
    }

    /// The access unit of the packet in hand. `intact` if a new one would start with what is in hand.
    fn open_access_unit(&mut self, intact: bool) -> &mut AccessUnit {
        let lost_between = std::mem::take(&mut self.lost_between);
        self.access_unit.get_or_insert(AccessUnit {
            rtp_timestamp: self.rtp_timestamp,
            has_slice: false,
            damaged: lost_between && !intact,
            nals: 0,
            slices: 0,
            len: 0,
        })
    }

    fn end_access_unit(&mut self, by_marker: bool) {
        self.leave_fragmented();
        let Some(AccessUnit { rtp_timestamp, damaged, .. }) = self.access_unit.take() else { return };
        self.output.push_back(Depacketized::AccessUnitEnd { rtp_timestamp, damaged });
        if let Markers::Trusted { ended } = &mut self.markers {
            *ended = by_marker.then_some(rtp_timestamp);
        }
    }

    /// The packet in hand cannot be read, or not all of it: something of the picture is missing.
    fn refuse(&mut self) {
        self.malformed = true;
        self.break_fragmented();
        self.open_access_unit(false).damaged = true;
    }

    fn damage(&mut self) {
        if let Some(access_unit) = &mut self.access_unit {
            access_unit.damaged = true;
        }
    }

    fn head(&self, bytes: &[u8]) -> NalHead {
        NalHead::read(self.codec, bytes.iter().copied())
    }
}

/// The structure of one RTP payload.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// One NAL unit.
    Single(Bytes),
    /// Several, each behind a 16-bit length (STAP-A, AP).
    Aggregation(Bytes),
    /// A part of one (FU-A, FU).
    Fragment(Fragment),
    /// No bytes at all. Nothing is missing.
    Empty,
    /// A type that RFC and codec leave undefined: to be ignored. Nothing is missing.
    Reserved,
    /// Cannot be read. Something of the picture is missing.
    Malformed,
}

/// One FU.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    /// The NAL unit's header, put together again.
    pub(super) header: Bytes,
    pub(super) start: bool,
    pub(super) end: bool,
    /// May be empty.
    pub(super) body: Bytes,
}

/// The access unit under way.
#[derive(Debug)]
struct AccessUnit {
    rtp_timestamp: u32,
    /// A slice came, whole or broken.
    has_slice: bool,
    damaged: bool,
    nals: usize,
    slices: usize,
    len: usize,
}

impl AccessUnit {
    /// Counts `nal`; false if that is too much for one access unit.
    fn admit(&mut self, nal: &Nal) -> bool {
        let nals = self.nals + 1;
        let slices = self.slices + nal.slices.len();
        let len = self.len + nal.len();
        if nals > MAX_ACCESS_UNIT_NALS || slices > MAX_ACCESS_UNIT_SLICES || len > MAX_ACCESS_UNIT_LEN {
            return false;
        }
        (self.nals, self.slices, self.len) = (nals, slices, len);
        true
    }
}

/// The fragmented NAL unit under way.
#[derive(Debug, PartialEq, Eq)]
enum Fragmented {
    /// None.
    None,
    /// Its start came; what follows is added.
    Collecting {
        /// Bytes so far.
        len: usize,
    },
    /// A fragment of it is missing, or it is too large; what follows is dropped.
    Discarding,
}

/// Whether the track's marker bits tell the truth.
#[derive(Debug, PartialEq, Eq)]
enum Markers {
    /// So far they do.
    Trusted {
        /// Timestamp of the access unit that ended last, if a marker ended it and nothing was lost since.
        ended: Option<u32>,
    },
    /// A marker was seen inside a picture.
    Distrusted,
}

/// Bytes of a NAL unit: seven times the 1.1 MB IDR of a 20 Mb/s 4K camera. A camera that never ends one
/// makes us hold no more.
const MAX_NAL_LEN: usize = 8 << 20;

/// Slices of a NAL unit: `MAX_NAL_LEN` in fragments of 1 KiB. A `Bytes` is 32 bytes and may keep a whole
/// receive buffer alive, so their number needs a bound of its own.
const MAX_NAL_SLICES: usize = 8192;

/// NAL units of an access unit: a picture has 600 slices at most (H.265 table A.8, level 6.2), and SEI and
/// the like are few.
const MAX_ACCESS_UNIT_NALS: usize = 1024;

/// Slices of an access unit: a largest NAL unit and as much again.
const MAX_ACCESS_UNIT_SLICES: usize = 2 * MAX_NAL_SLICES;

/// Bytes of an access unit: a largest NAL unit and as much again.
const MAX_ACCESS_UNIT_LEN: usize = 2 * MAX_NAL_LEN;

#[cfg(test)]
mod tests {
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
        assert_eq!(track.packet(1, &[0x7c, 0x85, 0x80]), "");
        assert_eq!(track.packet(1, &[0x7c, 0x85, 0x40]), "");
        assert_eq!(track.packet(1, &[0x41, 0x40]), "1:4140");
        assert_eq!(track.packet(1, &[0x7c, 0x85, 0x41]), "");
        assert_eq!(track.packet(2, &[0x41, 0x80]), "1! 2:4180");
        assert_eq!(track.broken(), 3);
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
}
