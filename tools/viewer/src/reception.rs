//! What one session received: its continuity, how it began, and how late its pictures are.
//!
//! Sockets and signalling do not belong here; a packet comes in with the moments it arrived and was read at.

use std::ops::Range;
use std::time::Duration;

use serde::Serialize;

use crate::clock::Moment;
use crate::continuity::{Continuity, Counts, Form, Place};
use crate::nal::{Codec, NalKind};
use crate::rtp::Packet;
use crate::stamp::Stamp;

/// One session's RTP, checked.
#[derive(Clone, Debug, Default)]
pub struct Reception {
    codec: Option<Codec>,
    continuity: Continuity,
    first_packet: Option<Moment>,
    first_picture: Option<Moment>,
    start: Option<Start>,
    unit: Unit,
    rewinding: Rewinding,
}

/// Whether what comes is of the past, and of which.
#[derive(Clone, Debug, Default)]
enum Rewinding {
    /// All of it is live.
    #[default]
    Never,
    /// A random access point that the camera sent then is waited for.
    Awaited(Range<Moment>),
    /// Its first packet arrived then.
    Came(Moment),
}

/// How a session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// The first packet began with parameter sets, and the first access unit was a whole random access point.
    RandomAccess,
    /// The first access unit was a random access picture, but not with its parameter sets in front, or not whole.
    Incomplete,
    /// The first access unit was any other picture.
    MidGroup,
}

/// Whether a packet's payload can be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It can.
    Clear,
    /// It is encrypted: only its header counts.
    Sealed,
}

/// How late an access unit was at its last packet, against the camera's stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Until the kernel had the last packet.
    pub arrived: Duration,
    /// Until this program had read it.
    pub read: Duration,
}

/// What is known of the access unit that is being received.
#[derive(Clone, Copy, Debug, Default)]
struct Unit {
    /// A slice has come: the rest is not looked at.
    sliced: bool,
    led_by_parameter_set: bool,
    vps: bool,
    sps: bool,
    pps: bool,
    random_access: bool,
    stamp: Option<Stamp>,
    arrived: Moment,
}

impl Reception {
    /// Of packets in that form.
    pub fn new(form: Form) -> Self {
        Self { continuity: Continuity::new(form), ..Self::default() }
    }

    /// Takes the codec from the SDP; before that it is guessed from the first packet.
    pub fn set_codec(&mut self, codec: Codec) {
        self.codec = Some(codec);
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.continuity.counts
    }

    /// When the first packet was read.
    pub fn first_packet(&self) -> Option<Moment> {
        self.first_packet
    }

    /// When the first whole random access point with parameter sets was read.
    pub fn first_picture(&self) -> Option<Moment> {
        self.first_picture
    }

    /// How the session began; none until its first access unit ended.
    pub fn start(&self) -> Option<Start> {
        self.start
    }

    /// Counts and checks a datagram or binary frame that is media. `arrived` is the kernel's receive stamp.
    /// Gives the latency at the end of each whole stamped access unit that was sent after the session had begun:
    /// the catch-up from the GOP cache is old on purpose.
    #[inline]
    pub fn handle_packet(&mut self, bytes: &[u8], arrived: Option<Moment>, read: Moment) -> Option<Latency> {
        let Ok(packet) = Packet::parse(bytes) else {
            self.continuity.counts.not_rtp += 1;
            return None;
        };
        self.handle_parsed(&packet, bytes.len(), Sight::Clear, arrived, read)
    }

    /// The same of a packet that is parsed, and that took `len` bytes on the wire.
    #[inline]
    pub fn handle_parsed(
        &mut self,
        packet: &Packet<'_>,
        len: usize,
        sight: Sight,
        arrived: Option<Moment>,
        read: Moment,
    ) -> Option<Latency> {
        let Place::InOrder { begins, ends, whole } = self.continuity.handle_packet(packet, len) else {
            return None;
        };
        if begins {
            self.begin_unit(arrived.unwrap_or(read), read);
        }
        match sight {
            Sight::Clear if !self.unit.sliced => self.read_unit_head(packet.payload()),
            Sight::Clear => {}
            Sight::Sealed => self.unit.sliced = true,
        }
        if ends { self.end_unit(whole, arrived.unwrap_or(read), read) } else { None }
    }

    /// Whether a packet is of another access unit than the newest.
    #[inline]
    pub fn begins_unit(&self, packet: &Packet<'_>) -> bool {
        self.continuity.begins_unit(packet)
    }

    /// Whether the newest access unit has not come to a slice yet.
    #[inline]
    pub fn is_in_unit_head(&self) -> bool {
        !self.unit.sliced
    }

    /// From here on a random access point that the camera sent in that time, by its stamp, is waited for: where the viewer's
    /// new supply begins. Latencies are not given any more.
    pub fn expect_past(&mut self, sent: Range<Moment>) {
        self.rewinding = Rewinding::Awaited(sent);
    }

    /// When the first packet of it arrived.
    pub fn past_came(&self) -> Option<Moment> {
        match self.rewinding {
            Rewinding::Came(moment) => Some(moment),
            Rewinding::Never | Rewinding::Awaited(_) => None,
        }
    }

    /// Takes note of a packet of nothing but padding, that took `len` bytes on the wire.
    pub fn handle_padding(&mut self, packet: &Packet<'_>, len: usize) {
        self.continuity.handle_padding(packet, len);
    }

    /// Takes note that a missing packet came back.
    pub fn handle_recovered(&mut self) {
        self.continuity.handle_recovered();
    }

    /// Takes note of a datagram that is no packet of this session.
    pub fn handle_foreign(&mut self) {
        self.continuity.counts.not_rtp += 1;
    }

    fn begin_unit(&mut self, arrived: Moment, read: Moment) {
        if self.first_packet.is_none() {
            self.first_packet = Some(read);
        } else if self.start.is_none() {
            self.start = Some(self.unit.start(false));
        }
        self.unit = Unit { arrived, ..Unit::default() };
    }

    fn read_unit_head(&mut self, payload: &[u8]) {
        let codec = *self.codec.get_or_insert_with(|| Codec::guess(payload));
        let unit = &mut self.unit;
        codec.for_each_start(payload, |kind, nal| match kind {
            NalKind::Vps => unit.see_parameter_set(|unit| &mut unit.vps),
            NalKind::Sps => unit.see_parameter_set(|unit| &mut unit.sps),
            NalKind::Pps => unit.see_parameter_set(|unit| &mut unit.pps),
            NalKind::Sei => {
                if let Some(body) = nal.get(codec.header_len()..).filter(|_| unit.stamp.is_none()) {
                    unit.stamp = Stamp::in_sei(body);
                }
            }
            NalKind::RandomAccess => (unit.sliced, unit.random_access) = (true, true),
            NalKind::Slice => unit.sliced = true,
            NalKind::Other => {}
        });
        if let (Rewinding::Awaited(range), Some(stamp)) = (&self.rewinding, unit.stamp)
            && unit.led_by_parameter_set
            && range.contains(&stamp.sent)
        {
            self.rewinding = Rewinding::Came(unit.arrived);
        }
    }

    fn end_unit(&mut self, whole: bool, arrived: Moment, read: Moment) -> Option<Latency> {
        if self.start.is_none() {
            self.start = Some(self.unit.start(whole));
        }
        if !whole {
            return None;
        }
        if self.unit.random_access {
            self.continuity.counts.random_access_units += 1;
            if self.first_picture.is_none() && self.unit.has_parameter_sets(self.codec) {
                self.first_picture = Some(read);
            }
        }
        let sent = self.unit.stamp?.sent;
        let began = self.first_packet?;
        let live = matches!(self.rewinding, Rewinding::Never);
        (live && sent > began).then(|| Latency { arrived: arrived.since(sent), read: read.since(sent) })
    }
}

impl Unit {
    fn see_parameter_set(&mut self, which: impl Fn(&mut Self) -> &mut bool) {
        self.led_by_parameter_set |= !self.sliced;
        *which(self) = true;
    }

    fn has_parameter_sets(&self, codec: Option<Codec>) -> bool {
        self.sps && self.pps && (self.vps || codec != Some(Codec::H265))
    }

    fn start(&self, whole: bool) -> Start {
        if !self.random_access {
            Start::MidGroup
        } else if whole && self.led_by_parameter_set && self.sps && self.pps {
            Start::RandomAccess
        } else {
            Start::Incomplete
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sender {
        sequence_number: u16,
    }

    impl Sender {
        fn packet(&mut self, rtp_timestamp: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
            let mut bytes = vec![0x80, 96 | u8::from(marker) << 7];
            bytes.extend(self.sequence_number.to_be_bytes());
            bytes.extend(rtp_timestamp.to_be_bytes());
            bytes.extend([0, 0, 0, 7]);
            bytes.extend(payload);
            self.sequence_number = self.sequence_number.wrapping_add(1);
            bytes
        }
    }

    const SETS: [u8; 7] = [0x78, 0, 1, 0x67, 0, 1, 0x68];
    const IDR_START: [u8; 3] = [0x7c, 0x85, 1];
    const IDR_END: [u8; 3] = [0x7c, 0x45, 1];

    fn stamped_slice(sender: &mut Sender, rtp_timestamp: u32, sent: u64) -> [Vec<u8>; 2] {
        let mut sei = vec![0x06, 5, 32];
        sei.extend(crate::stamp::UUID);
        sei.extend(0x0101_0101_0101_0101_u64.to_be_bytes());
        sei.extend(sent.to_be_bytes());
        sei.push(0x80);
        [sender.packet(rtp_timestamp, false, &sei), sender.packet(rtp_timestamp, true, &[0x41, 9])]
    }

    fn at(ms: u64) -> Moment {
        Moment::from_ns(0x0101_0101_0000_0000 + ms * 1_000_000)
    }

    #[test]
    fn a_join_with_parameter_sets_and_a_whole_idr_is_random_access() {
        let mut sender = Sender { sequence_number: 65_534 };
        let mut reception = Reception::default();
        reception.handle_packet(&sender.packet(0, false, &SETS), None, at(1));
        reception.handle_packet(&sender.packet(0, false, &IDR_START), None, at(2));
        assert_eq!(reception.first_picture(), None);
        reception.handle_packet(&sender.packet(0, true, &IDR_END), None, at(3));
        assert_eq!(reception.start(), Some(Start::RandomAccess));
        assert_eq!(reception.first_packet(), Some(at(1)));
        assert_eq!(reception.first_picture(), Some(at(3)));
        assert_eq!(reception.counts().random_access_units, 1);
        assert_eq!(reception.counts().faults(false), 0);
    }

    #[test]
    fn a_join_in_the_middle_of_a_group_waits_for_the_next_random_access_point() {
        let mut sender = Sender { sequence_number: 0 };
        let mut reception = Reception::default();
        reception.handle_packet(&sender.packet(0, true, &[0x41, 1]), None, at(1));
        assert_eq!(reception.start(), Some(Start::MidGroup));
        reception.handle_packet(&sender.packet(9, false, &SETS), None, at(2));
        reception.handle_packet(&sender.packet(9, true, &[0x65, 1]), None, at(3));
        assert_eq!(reception.first_picture(), Some(at(3)));
    }

    #[test]
    fn an_idr_without_parameter_sets_or_with_a_hole_is_incomplete() {
        let mut sender = Sender { sequence_number: 0 };
        let mut reception = Reception::default();
        reception.handle_packet(&sender.packet(0, true, &[0x65, 1]), None, at(1));
        assert_eq!(reception.start(), Some(Start::Incomplete));

        let mut holed = Reception::default();
        holed.handle_packet(&sender.packet(0, false, &SETS), None, at(1));
        holed.handle_packet(&sender.packet(0, false, &IDR_START), None, at(1));
        sender.packet(0, false, &[0x7c, 5, 1]);
        holed.handle_packet(&sender.packet(0, true, &IDR_END), None, at(1));
        assert_eq!(holed.start(), Some(Start::Incomplete));
        assert_eq!(holed.first_picture(), None);
    }

    #[test]
    fn latency_is_that_of_the_last_packet_and_only_of_units_sent_after_the_start() {
        let mut sender = Sender { sequence_number: 0 };
        let mut reception = Reception::default();
        let [sei, slice] = stamped_slice(&mut sender, 0, at(5).as_ns());
        assert_eq!(reception.handle_packet(&sei, None, at(10)), None);
        assert_eq!(reception.handle_packet(&slice, None, at(10)), None, "catch-up from the cache");
        let [sei, slice] = stamped_slice(&mut sender, 3000, at(20).as_ns());
        assert_eq!(reception.handle_packet(&sei, Some(at(21)), at(22)), None);
        let latency = reception.handle_packet(&slice, Some(at(23)), at(26));
        let expected = Latency { arrived: Duration::from_millis(3), read: Duration::from_millis(6) };
        assert_eq!(latency, Some(expected));
    }

    #[test]
    fn a_damaged_unit_gives_no_latency() {
        let mut sender = Sender { sequence_number: 0 };
        let mut reception = Reception::default();
        reception.handle_packet(&sender.packet(0, true, &[0x41]), None, at(0));
        let [sei, slice] = stamped_slice(&mut sender, 3000, at(20).as_ns());
        sender.packet(3000, false, &[0x41]);
        let _lost_in_the_next = slice;
        reception.handle_packet(&sei, None, at(21));
        let late = sender.packet(3000, true, &[0x41]);
        assert_eq!(reception.handle_packet(&late, None, at(22)), None);
    }

    #[test]
    fn the_past_has_come_with_a_random_access_point_that_was_sent_then() {
        let mut sender = Sender { sequence_number: 0 };
        let mut reception = Reception::default();
        let mut unit = |reception: &mut Reception, rtp_timestamp, sets: bool, sent: u64, read| {
            let set = sender.packet(rtp_timestamp, false, &SETS);
            if sets {
                reception.handle_packet(&set, None, at(read));
            } else {
                sender.sequence_number -= 1;
            }
            let packets = stamped_slice(&mut sender, rtp_timestamp, at(sent).as_ns());
            packets.map(|packet| reception.handle_packet(&packet, None, at(read + 1)))[1]
        };
        unit(&mut reception, 0, true, 50, 0);
        assert!(unit(&mut reception, 3600, false, 60, 60).is_some());
        reception.expect_past(at(10)..at(20));
        assert_eq!(unit(&mut reception, 7200, true, 70, 70), None, "no latency any more");
        unit(&mut reception, 9000, false, 15, 80);
        assert_eq!(reception.past_came(), None, "a live one, and one that is no random access point");
        unit(&mut reception, 9090, true, 16, 90);
        assert_eq!(reception.past_came(), Some(at(90)));
        reception.expect_past(at(1)..at(5));
        assert_eq!(reception.past_came(), None);
        assert_eq!(reception.counts().faults(false), 0);
    }

    #[test]
    fn what_is_no_rtp_is_counted() {
        let mut reception = Reception::default();
        reception.handle_packet(b"garbage of some length", None, at(0));
        assert_eq!(reception.counts().not_rtp, 1);
        assert_eq!(reception.first_packet(), None);
    }
}
