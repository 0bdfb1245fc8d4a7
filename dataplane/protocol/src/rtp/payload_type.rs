//! Which packets are the track's, by their payload type (RFC 3550 section 5.1).
//!
//! Some cameras send another type than they describe; others mix packets of a type of their own in (50 from Uniview's
//! devices), with numbers that belong to nothing. So the described type holds, and as long as it has never come,
//! another one is learnt if several packets of it in a row count up.

use smallvec::SmallVec;

use super::RtpPacket;

/// Tells a track's packets from others.
#[derive(Debug)]
pub struct PayloadTypes {
    described: u8,
    /// Another type may be learnt: the described one has not come, and is the only one in the description.
    may_learn: bool,
    learnt: Option<u8>,
    /// Packets of another type that counted up so far.
    unsure: Vec<RtpPacket>,
}

/// Packets that are to be taken, in order. One as a rule.
pub type Taken = SmallVec<[RtpPacket; 1]>;

impl PayloadTypes {
    /// A track is described with this type, and if `is_only_one`, with no other.
    pub fn new(described: u8, is_only_one: bool) -> Self {
        Self { described, may_learn: is_only_one, learnt: None, unsure: Vec::new() }
    }

    /// Takes a packet that came. Those that prove not to be the track's are added to `dropped`.
    pub fn handle_packet(&mut self, packet: RtpPacket, dropped: &mut u64) -> Taken {
        if packet.payload_type == self.described {
            self.may_learn = false;
            self.learnt = None;
            *dropped += self.unsure.drain(..).len() as u64;
            return Taken::from_iter([packet]);
        }
        if self.learnt == Some(packet.payload_type) {
            return Taken::from_iter([packet]);
        }
        if !self.may_learn || self.learnt.is_some() {
            *dropped += 1;
            return Taken::new();
        }
        if self.unsure.last().is_some_and(|last| !is_next(last, &packet)) {
            *dropped += self.unsure.drain(..).len() as u64;
        }
        let payload_type = packet.payload_type;
        self.unsure.push(packet);
        if self.unsure.len() < LEARNT_AFTER {
            return Taken::new();
        }
        self.learnt = Some(payload_type);
        Taken::from_iter(self.unsure.drain(..))
    }
}

fn is_next(last: &RtpPacket, packet: &RtpPacket) -> bool {
    (packet.payload_type, packet.ssrc, packet.seq) == (last.payload_type, last.ssrc, last.seq.wrapping_add(1))
}

/// Packets that make a type the track's: more than strays happen to count up, few enough to wait for.
const LEARNT_AFTER: usize = 4;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Gives packets of (payload type, sequence number) and tells the numbers that were taken, and how many were dropped.
    fn feed(types: &mut PayloadTypes, packets: &[(u8, u16)]) -> (Vec<u16>, u64) {
        let (mut taken, mut dropped) = (Vec::new(), 0);
        for &(payload_type, seq) in packets {
            let payload = Bytes::from_static(&[0x41, 0x9a]);
            let packet = RtpPacket { marker: false, payload_type, seq, rtp_timestamp: 0, ssrc: 7, payload };
            taken.extend(types.handle_packet(packet, &mut dropped).into_iter().map(|packet| packet.seq));
            assert!(types.unsure.len() < LEARNT_AFTER);
        }
        (taken, dropped)
    }

    #[test]
    fn the_described_type_is_taken_and_others_beside_it_are_dropped() {
        let mut types = PayloadTypes::new(105, true);
        let packets = [(105, 1), (50, 1), (105, 2), (50, 2), (50, 3), (50, 4), (50, 5), (105, 3)];
        assert_eq!(feed(&mut types, &packets), (vec![1, 2, 3], 5));
    }

    #[test]
    fn another_type_is_learnt_with_all_its_packets_if_the_described_one_never_comes() {
        let mut types = PayloadTypes::new(96, true);
        assert_eq!(feed(&mut types, &[(97, 65534), (97, 65535), (97, 0)]), (vec![], 0));
        assert_eq!(feed(&mut types, &[(97, 1), (97, 2), (98, 3)]), (vec![65534, 65535, 0, 1, 2], 1));
    }

    #[test]
    fn strays_before_the_described_type_teach_nothing() {
        let mut types = PayloadTypes::new(105, true);
        assert_eq!(feed(&mut types, &[(50, 1), (50, 1), (50, 1), (50, 1), (105, 2)]), (vec![2], 4));
    }

    #[test]
    fn the_described_type_is_believed_as_soon_as_it_comes() {
        let mut types = PayloadTypes::new(96, true);
        feed(&mut types, &[(97, 1), (97, 2), (97, 3), (97, 4)]);
        assert_eq!(feed(&mut types, &[(96, 5), (97, 6), (96, 6)]), (vec![5, 6], 1));
    }

    #[test]
    fn where_two_types_are_described_none_is_learnt() {
        let mut types = PayloadTypes::new(96, false);
        let packets: Vec<_> = (0..10).map(|seq| (97, seq)).collect();
        assert_eq!(feed(&mut types, &packets), (vec![], 10));
    }
}
