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
//!   An SEI is left whole unless what stands before the start code ends as an SEI does: signatures in it
//!   may hold anything (ONVIF Media Signing).
//! - *FU with start and end bit* (OpenIPC, CostarHD): a whole NAL unit. *Empty fragments*: skipped.
//! - *Fragments that disagree on their type* (Tiandy): the first one's holds.
//! - *FU whose end bit never comes*: from a camera that has never set one, a fragmented NAL unit is whole
//!   when something else follows with no packet lost between; once that was seen, at the marker too.

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
    /// Packets whose payload was malformed, or fragments of a NAL unit whose start the camera did not send.
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
    end_bits: EndBits,
    /// The fragment before had a marker, and no end bit.
    marked_open: bool,
    markers: Markers,
    /// Packets just before the one in hand were lost.
    lost_before: bool,
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
            end_bits: EndBits::Unknown,
            marked_open: false,
            lost_before: false,
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
        self.lost_before = lost_before > 0;
        if self.lost_before {
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
        self.marked_open = false;
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
        if annex_b::has_start_code(&bytes) || self.may_be_several(&bytes) {
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
        } else if std::mem::take(&mut self.marked_open) {
            // A NAL unit that goes on behind a marker.
            self.markers = Markers::Distrusted;
        }
        self.collect(body);
        if end {
            self.end_bits = EndBits::Set;
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
            return self.finish_nal(nal);
        }
        let bytes = nal.to_contiguous();
        match self.may_be_several(&bytes) {
            true => self.handle_annex_b(bytes),
            false => self.finish_nal(Nal::from_bytes(bytes)),
        }
    }

    /// Start codes are looked for in all but slices, which are too large to search, and SEI that end elsewhere.
    fn may_be_several(&self, bytes: &Bytes) -> bool {
        let head = self.head(bytes);
        !head.is_slice() && (!head.is_sei() || annex_b::first_ends_with(bytes, SEI_END))
    }

    /// The fragments to come have no start: it was lost, or never sent.
    fn miss_start(&mut self, head: NalHead) {
        self.statistics.broken_nals += 1;
        self.malformed |= !self.lost_before;
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

    /// Something else than a next fragment came. Had a packet been lost, none would be collected any more.
    fn leave_fragmented(&mut self) {
        self.marked_open = false;
        if self.is_collecting() && self.end_bits != EndBits::Set {
            self.end_bits = EndBits::Missing;
            return self.end_fragmented();
        }
        self.break_fragmented();
        self.fragmented = Fragmented::None;
    }

    fn is_collecting(&self) -> bool {
        matches!(self.fragmented, Fragmented::Collecting { .. })
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
        if self.markers == Markers::Distrusted {
            return;
        }
        if fragment_left_open && self.end_bits == EndBits::Missing {
            self.end_fragmented();
        }
        self.marked_open = fragment_left_open && self.fragmented != Fragmented::None;
        if self.has_slice() && !self.is_collecting() {
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

/// Whether the last fragments of the track's NAL units have an end bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndBits {
    /// No fragmented NAL unit is over yet.
    Unknown,
    /// The last one had: one that has none is broken.
    Set,
    /// The last one had none, though all of it had come.
    Missing,
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

/// Last byte of an SEI NAL unit: messages are whole bytes, so the stop bit begins one (H.264 section 7.3.2.3).
const SEI_END: u8 = 0x80;

#[cfg(test)]
mod tests;
