//! Follows a source's sequence numbers over their wrap (RFC 3550 appendix A.1).
//!
//! Tells a packet that runs on from one that jumps. What is done about it is the business of
//! [`super::ReorderBuffer`] and [`super::Reception`].

/// Sequence numbers that a source may skip and still be the same run (RFC 3550 appendix A.1).
pub(super) const MAX_DROPOUT: u16 = 3000;

/// How far behind the newest packet another may come, where no deeper window is asked for (RFC 3550 appendix A.1).
pub(super) const MAX_MISORDER: u16 = 100;

/// Extended numbers start here, so that a packet before the first one has a number too.
pub(super) const FIRST_CYCLE: u64 = 1 << 16;

/// What a packet's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The very first, with its extended number.
    First(u64),
    /// Of the same run, with its extended number: new, missing till now, or a duplicate.
    Running(u64),
    /// Far off, or of another source. Not believed until the next packet follows it.
    Stray,
    /// The second in a row that is far off: the run starts anew, the stray before it was its first.
    Restart(u64),
}

/// One run of sequence numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    newest: Option<Newest>,
    /// SSRC and number that would confirm the last stray.
    awaited: Option<(u32, u16)>,
    max_misorder: u16,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    ssrc: u32,
    extended: u64,
}

impl Sequence {
    /// Packets at most `max_misorder` behind the newest are of the same run.
    pub(super) fn new(max_misorder: u16) -> Self {
        Self { newest: None, awaited: None, max_misorder: max_misorder.max(MAX_MISORDER) }
    }

    /// Notes a packet.
    pub(super) fn handle_packet(&mut self, ssrc: u32, seq: u16) -> Arrival {
        let Some(newest) = self.newest else {
            return Arrival::First(self.start(ssrc, seq));
        };
        if let Some(extended) = self.running_on(newest, ssrc, seq) {
            self.awaited = None;
            self.newest = Some(Newest { ssrc, extended: extended.max(newest.extended) });
            return Arrival::Running(extended);
        }
        if self.awaited == Some((ssrc, seq)) {
            return Arrival::Restart(self.start(ssrc, seq));
        }
        self.awaited = Some((ssrc, seq.wrapping_add(1)));
        Arrival::Stray
    }

    /// The source of the newest packet.
    pub(super) fn ssrc(&self) -> Option<u32> {
        self.newest.map(|newest| newest.ssrc)
    }

    fn start(&mut self, ssrc: u32, seq: u16) -> u64 {
        let extended = FIRST_CYCLE + u64::from(seq);
        self.newest = Some(Newest { ssrc, extended });
        self.awaited = None;
        extended
    }

    fn running_on(&self, newest: Newest, ssrc: u32, seq: u16) -> Option<u64> {
        let ahead = seq.wrapping_sub(newest.extended as u16);
        let behind = ahead.wrapping_neg();
        // A camera may change its SSRC and count on; a foreign source hits that narrow a window by rare chance.
        let max_ahead = if ssrc == newest.ssrc { MAX_DROPOUT } else { self.max_misorder };
        if ahead < max_ahead {
            Some(newest.extended + u64::from(ahead))
        } else if behind <= self.max_misorder {
            newest.extended.checked_sub(u64::from(behind))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started_at(seq: u16) -> Sequence {
        let mut sequence = Sequence::new(0);
        assert_eq!(sequence.handle_packet(1, seq), Arrival::First(FIRST_CYCLE + u64::from(seq)));
        sequence
    }

    #[test]
    fn numbers_grow_over_the_wrap() {
        let mut sequence = started_at(65534);
        assert_eq!(sequence.handle_packet(1, 65535), Arrival::Running(FIRST_CYCLE + 65535));
        assert_eq!(sequence.handle_packet(1, 1), Arrival::Running(FIRST_CYCLE + 65537));
        assert_eq!(sequence.handle_packet(1, 0), Arrival::Running(FIRST_CYCLE + 65536));
        assert_eq!(sequence.handle_packet(1, 65535), Arrival::Running(FIRST_CYCLE + 65535));
    }

    #[test]
    fn a_packet_from_before_the_first_has_a_number() {
        let mut sequence = started_at(0);
        assert_eq!(sequence.handle_packet(1, 65535), Arrival::Running(FIRST_CYCLE - 1));
    }

    #[test]
    fn dropout_and_misorder_are_bounded() {
        assert!(matches!(started_at(0).handle_packet(1, MAX_DROPOUT - 1), Arrival::Running(_)));
        assert_eq!(started_at(0).handle_packet(1, MAX_DROPOUT), Arrival::Stray);
        assert!(matches!(started_at(1000).handle_packet(1, 1000 - MAX_MISORDER), Arrival::Running(_)));
        assert_eq!(started_at(1000).handle_packet(1, 999 - MAX_MISORDER), Arrival::Stray);
    }

    #[test]
    fn two_in_a_row_restart_it_and_one_does_not() {
        let mut sequence = started_at(0);
        assert_eq!(sequence.handle_packet(1, 30000), Arrival::Stray);
        assert_eq!(sequence.handle_packet(1, 1), Arrival::Running(FIRST_CYCLE + 1));
        assert_eq!(sequence.handle_packet(1, 30001), Arrival::Stray, "a packet of the run came between");
        assert_eq!(sequence.handle_packet(1, 30002), Arrival::Restart(FIRST_CYCLE + 30002));
        assert_eq!(sequence.handle_packet(1, 30003), Arrival::Running(FIRST_CYCLE + 30003));
    }

    #[test]
    fn another_source_that_counts_on_is_the_same_run() {
        let mut sequence = started_at(10);
        assert_eq!(sequence.handle_packet(2, 11), Arrival::Running(FIRST_CYCLE + 11));
        assert_eq!(sequence.ssrc(), Some(2));
    }

    #[test]
    fn another_source_elsewhere_must_come_twice() {
        let mut sequence = started_at(10);
        assert_eq!(sequence.handle_packet(2, 2000), Arrival::Stray);
        assert_eq!(sequence.handle_packet(3, 2001), Arrival::Stray);
        assert_eq!(sequence.handle_packet(3, 2002), Arrival::Restart(FIRST_CYCLE + 2002));
        assert_eq!(sequence.ssrc(), Some(3));
    }
}
