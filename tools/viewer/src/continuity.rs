//! Whether a session's packets follow each other as they must (wsc-rtp section 5): sequence numbers, SSRC, timestamps, markers.
//!
//! What is inside the packets is not looked at here.

use std::ops::{AddAssign, Sub};

use serde::Serialize;

use crate::rtp::{PAYLOAD_TYPE, Packet};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What was counted of one session, of many, or of a stretch of time.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counts { $($(#[$doc])* pub $name: u64,)* }

        impl AddAssign for Counts {
            fn add_assign(&mut self, other: Self) { $(self.$name += other.$name;)* }
        }

        impl Sub for Counts {
            type Output = Self;
            fn sub(self, earlier: Self) -> Self { Self { $($name: self.$name.saturating_sub(earlier.$name),)* } }
        }
    };
}

counts! {
    /// RTP packets received, duplicates too.
    packets,
    /// Bytes of those, RTP headers included.
    bytes,
    /// Sequence numbers that never came.
    lost,
    /// Runs of them.
    gaps,
    /// Packets that were missing and came back as retransmissions; they are not lost any more.
    recovered,
    /// Packets that came again.
    duplicates,
    /// Packets that came after a later one.
    reordered,
    /// Sequence numbers so far off that the count starts anew.
    sequence_jumps,
    /// Changes of the SSRC.
    ssrc_changes,
    /// Access units begun.
    access_units,
    /// Access units that came whole, up to their marker.
    whole_access_units,
    /// Whole access units with a random access picture.
    random_access_units,
    /// Access units whose timestamp is before that of the one sent before: B-frames, or a fault.
    backward_timestamps,
    /// Timestamps that changed with no marker before, and nothing lost.
    missing_markers,
    /// Packets of an access unit that follow its marker, and nothing lost.
    early_markers,
    /// Packets of another payload type than 96.
    other_payload_types,
    /// Packets with CSRC, extension or padding.
    decorated_headers,
    /// Datagrams or binary frames that are neither RTP nor a handshake.
    not_rtp,
}

impl Counts {
    /// Anything that a strict run must not have: loss, repeats, jumps and breaches of section 5.
    /// Backward timestamps count only where the camera is said to send no B-frames.
    pub fn faults(&self, b_frames: bool) -> u64 {
        let backward = if b_frames { 0 } else { self.backward_timestamps };
        self.lost
            + self.duplicates
            + self.reordered
            + self.sequence_jumps
            + self.ssrc_changes
            + self.missing_markers
            + self.early_markers
            + self.other_payload_types
            + self.decorated_headers
            + self.not_rtp
            + backward
    }
}

/// The state of one session's RTP.
#[derive(Clone, Debug, Default)]
pub struct Continuity {
    /// Fed by everything below; `lost` shrinks again when a late packet fills its gap.
    pub counts: Counts,
    form: Form,
    newest: Option<Newest>,
}

/// What a packet's header may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Payload type 96 and nothing beside the fixed header, as WSC-RTP has it.
    #[default]
    Plain,
    /// Whatever was negotiated.
    Negotiated,
}

/// The newest packet in sending order.
#[derive(Clone, Copy, Debug)]
struct Newest {
    ssrc: u32,
    sequence_number: u16,
    /// Bit n: sequence number `newest − n` has come.
    seen: u128,
    rtp_timestamp: u32,
    marker: bool,
    /// Nothing of the access unit is known to be lost.
    whole: bool,
}

/// What a packet is to its access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Next in sending order.
    InOrder {
        /// The first of its access unit that came.
        begins: bool,
        /// It carries the marker.
        ends: bool,
        /// No packet of the access unit is missing so far.
        whole: bool,
    },
    /// Late or repeated: not for the access unit's checks.
    OutOfOrder,
}

impl Continuity {
    /// Of packets in that form.
    pub fn new(form: Form) -> Self {
        Self { form, ..Self::default() }
    }

    /// Whether a packet is of another access unit than the newest.
    #[inline]
    pub fn begins_unit(&self, packet: &Packet<'_>) -> bool {
        self.newest.is_none_or(|newest| newest.rtp_timestamp != packet.rtp_timestamp())
    }

    /// Takes note that a missing packet came back: it is not for the access units' checks any more.
    pub fn handle_recovered(&mut self) {
        self.counts.recovered += 1;
        self.counts.lost = self.counts.lost.saturating_sub(1);
    }

    /// Counts a packet of nothing but padding: it has a sequence number, and is of no access unit.
    pub fn handle_padding(&mut self, packet: &Packet<'_>, len: usize) {
        let Some(newest) = self.newest.filter(|newest| newest.ssrc == packet.ssrc()) else { return };
        let step = packet.sequence_number().wrapping_sub(newest.sequence_number).cast_signed();
        if step < 1 {
            self.look_back(packet, newest, step.unsigned_abs());
            return;
        }
        self.counts.packets += 1;
        self.counts.bytes += len as u64;
        self.counts.lost += u64::from(step.unsigned_abs()) - 1;
        self.counts.gaps += u64::from(step > 1);
        self.newest = Some(Newest {
            sequence_number: packet.sequence_number(),
            seen: newest.seen.checked_shl(step.unsigned_abs().into()).unwrap_or(0) | 1,
            whole: newest.whole && step == 1,
            ..newest
        });
    }

    /// Counts a packet and places it.
    #[inline]
    pub fn handle_packet(&mut self, packet: &Packet<'_>, len: usize) -> Place {
        self.counts.packets += 1;
        self.counts.bytes += len as u64;
        if self.form == Form::Plain {
            self.counts.other_payload_types += u64::from(packet.payload_type() != PAYLOAD_TYPE);
            self.counts.decorated_headers += u64::from(!packet.is_plain());
        }
        let Some(newest) = self.newest else { return self.start(packet, true) };
        if packet.ssrc() != newest.ssrc {
            self.counts.ssrc_changes += 1;
            return self.start(packet, false);
        }
        let step = packet.sequence_number().wrapping_sub(newest.sequence_number).cast_signed();
        match step {
            1 => self.advance(packet, newest, 1),
            2.. => {
                self.counts.lost += u64::from(step.unsigned_abs()) - 1;
                self.counts.gaps += 1;
                self.advance(packet, newest, step.unsigned_abs())
            }
            _ => self.look_back(packet, newest, step.unsigned_abs()),
        }
    }

    fn start(&mut self, packet: &Packet<'_>, whole: bool) -> Place {
        self.newest = Some(Newest {
            ssrc: packet.ssrc(),
            sequence_number: packet.sequence_number(),
            seen: 1,
            rtp_timestamp: packet.rtp_timestamp(),
            marker: packet.marker(),
            whole,
        });
        self.count_unit(true, packet.marker(), whole)
    }

    #[inline]
    fn advance(&mut self, packet: &Packet<'_>, before: Newest, step: u16) -> Place {
        let timestamp_step = packet.rtp_timestamp().wrapping_sub(before.rtp_timestamp).cast_signed();
        let begins = timestamp_step != 0;
        let lossless = step == 1;
        if lossless {
            self.counts.missing_markers += u64::from(begins && !before.marker);
            self.counts.early_markers += u64::from(!begins && before.marker);
        }
        self.counts.backward_timestamps += u64::from(timestamp_step < 0);
        let whole = lossless && (begins || before.whole);
        self.newest = Some(Newest {
            ssrc: before.ssrc,
            sequence_number: packet.sequence_number(),
            seen: before.seen.checked_shl(step.into()).unwrap_or(0) | 1,
            rtp_timestamp: packet.rtp_timestamp(),
            marker: packet.marker(),
            whole,
        });
        self.count_unit(begins, packet.marker(), whole)
    }

    #[inline]
    fn count_unit(&mut self, begins: bool, ends: bool, whole: bool) -> Place {
        self.counts.access_units += u64::from(begins);
        self.counts.whole_access_units += u64::from(ends && whole);
        Place::InOrder { begins, ends, whole }
    }

    fn look_back(&mut self, packet: &Packet<'_>, newest: Newest, back: u16) -> Place {
        let Some(bit) = 1_u128.checked_shl(back.into()) else {
            self.counts.sequence_jumps += 1;
            return self.start(packet, false);
        };
        if newest.seen & bit != 0 {
            self.counts.duplicates += 1;
        } else {
            self.counts.reordered += 1;
            self.counts.lost = self.counts.lost.saturating_sub(1);
            self.newest = Some(Newest { seen: newest.seen | bit, ..newest });
        }
        Place::OutOfOrder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(continuity: &mut Continuity, sequence_number: u16, rtp_timestamp: u32, marker: bool) -> Place {
        feed_ssrc(continuity, sequence_number, rtp_timestamp, marker, 7)
    }

    fn feed_ssrc(continuity: &mut Continuity, seq: u16, time: u32, marker: bool, ssrc: u32) -> Place {
        let mut bytes = vec![0x80, 96 | u8::from(marker) << 7];
        bytes.extend(seq.to_be_bytes());
        bytes.extend(time.to_be_bytes());
        bytes.extend(ssrc.to_be_bytes());
        bytes.push(0x41);
        continuity.handle_packet(&Packet::parse(&bytes).expect("a packet"), bytes.len())
    }

    #[test]
    fn an_unbroken_run_over_the_wrap_has_no_faults() {
        let mut continuity = Continuity::default();
        for index in 0..70_000_u32 {
            let sequence_number = (65_000 + index) as u16;
            let time = (index / 2).wrapping_mul(3000).wrapping_add(u32::MAX - 9);
            feed(&mut continuity, sequence_number, time, index % 2 == 1);
        }
        assert_eq!(continuity.counts.faults(false), 0);
        assert_eq!(continuity.counts.packets, 70_000);
        assert_eq!(continuity.counts.whole_access_units, 35_000);
    }

    #[test]
    fn a_hole_is_lost_until_a_late_packet_fills_it() {
        let mut continuity = Continuity::default();
        feed(&mut continuity, 65_534, 0, true);
        feed(&mut continuity, 2, 3000, true);
        assert_eq!((continuity.counts.lost, continuity.counts.gaps), (3, 1));
        assert_eq!(feed(&mut continuity, 0, 3000, false), Place::OutOfOrder);
        assert_eq!((continuity.counts.lost, continuity.counts.reordered), (2, 1));
        feed(&mut continuity, 0, 3000, false);
        assert_eq!((continuity.counts.lost, continuity.counts.duplicates), (2, 1));
    }

    #[test]
    fn the_newest_packet_again_is_a_duplicate() {
        let mut continuity = Continuity::default();
        feed(&mut continuity, 5, 0, true);
        feed(&mut continuity, 5, 0, true);
        assert_eq!(continuity.counts.duplicates, 1);
        assert_eq!(continuity.counts.lost, 0);
    }

    #[test]
    fn an_access_unit_with_a_hole_is_not_whole_nor_is_one_behind_a_hole() {
        let mut continuity = Continuity::default();
        feed(&mut continuity, 1, 0, false);
        assert_eq!(
            feed(&mut continuity, 3, 0, true),
            Place::InOrder { begins: false, ends: true, whole: false }
        );
        let behind = feed(&mut continuity, 5, 3000, true);
        assert_eq!(behind, Place::InOrder { begins: true, ends: true, whole: false });
        let next = feed(&mut continuity, 6, 6000, true);
        assert_eq!(next, Place::InOrder { begins: true, ends: true, whole: true });
        assert_eq!(continuity.counts.whole_access_units, 1);
    }

    #[test]
    fn markers_that_come_early_or_not_are_counted() {
        let mut continuity = Continuity::default();
        feed(&mut continuity, 1, 0, true);
        feed(&mut continuity, 2, 0, true);
        assert_eq!(continuity.counts.early_markers, 1);
        feed(&mut continuity, 3, 3000, false);
        feed(&mut continuity, 4, 6000, true);
        assert_eq!(continuity.counts.missing_markers, 1);
    }

    #[test]
    fn timestamps_that_go_back_are_counted_but_not_over_the_wrap() {
        let mut continuity = Continuity::default();
        feed(&mut continuity, 1, u32::MAX, true);
        feed(&mut continuity, 2, 5, true);
        assert_eq!(continuity.counts.backward_timestamps, 0);
        feed(&mut continuity, 3, 4, true);
        assert_eq!(continuity.counts.backward_timestamps, 1);
        assert_eq!(continuity.counts.faults(true), 0);
        assert_eq!(continuity.counts.faults(false), 1);
    }

    #[test]
    fn padding_takes_a_sequence_number_and_is_of_no_access_unit() {
        let mut continuity = Continuity::default();
        feed(&mut continuity, 1, 0, true);
        let padding = [0xa0, 96, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 4];
        let packet = Packet::parse(&padding).expect("a packet");
        assert!(packet.payload().is_empty());
        continuity.handle_padding(&packet, padding.len());
        feed(&mut continuity, 3, 3000, true);
        assert_eq!(continuity.counts.faults(false), 0);
        assert_eq!((continuity.counts.packets, continuity.counts.whole_access_units), (3, 2));
        continuity.handle_padding(&packet, padding.len());
        assert_eq!(continuity.counts.duplicates, 1);
    }

    #[test]
    fn what_is_recovered_is_not_lost() {
        let mut continuity = Continuity::new(Form::Negotiated);
        feed(&mut continuity, 1, 0, true);
        feed(&mut continuity, 3, 0, true);
        continuity.handle_recovered();
        assert_eq!((continuity.counts.lost, continuity.counts.recovered), (0, 1));
    }

    #[test]
    fn another_ssrc_or_a_far_sequence_number_starts_anew() {
        let mut continuity = Continuity::default();
        feed(&mut continuity, 1, 0, true);
        feed_ssrc(&mut continuity, 900, 9, true, 8);
        assert_eq!((continuity.counts.ssrc_changes, continuity.counts.lost), (1, 0));
        feed_ssrc(&mut continuity, 100, 12, true, 8);
        assert_eq!((continuity.counts.sequence_jumps, continuity.counts.lost), (1, 0));
        feed_ssrc(&mut continuity, 101, 15, true, 8);
        assert_eq!((continuity.counts.sequence_jumps, continuity.counts.lost), (1, 0));
    }
}
