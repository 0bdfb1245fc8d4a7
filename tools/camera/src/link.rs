//! A UDP path that loses and reorders RTP packets, the same way for the same seed.

use crate::faults::Faults;
use crate::rng::Rng;

/// Decides what becomes of each RTP packet.
#[derive(Debug)]
pub(crate) struct Link {
    loss_percent: f64,
    reorder: bool,
    duplicates_percent: f64,
    rng: Rng,
    /// A packet that is sent late, and how many go before it.
    late: Option<(Vec<u8>, u32)>,
}

impl Link {
    pub fn new(faults: &Faults, rng: Rng) -> Self {
        Self {
            loss_percent: faults.loss_percent,
            reorder: faults.reorder,
            duplicates_percent: faults.media.duplicates,
            rng,
            late: None,
        }
    }

    /// Calls `send` with the packets that leave now that `packet` was handed over: three at most.
    pub fn pass<'a>(&mut self, packet: &'a [u8], mut send: impl FnMut(std::borrow::Cow<'a, [u8]>)) {
        if self.loss_percent > 0.0 && self.rng.percent(self.loss_percent) {
            return;
        }
        if self.reorder && self.late.is_none() && self.rng.percent(LATE_PERCENT) {
            let overtaken_by = 1 + (self.rng.next() % OVERTAKEN_MAX) as u32;
            self.late = Some((packet.to_vec(), overtaken_by));
            return;
        }
        send(packet.into());
        if self.duplicates_percent > 0.0 && self.rng.percent(self.duplicates_percent) {
            send(packet.into());
        }
        if let Some((_, overtaken_by)) = &mut self.late {
            *overtaken_by -= 1;
        }
        if let Some((late, _)) = self.late.take_if(|(_, overtaken_by)| *overtaken_by == 0) {
            send(late.into());
        }
    }
}

/// One packet in 20 is late, by at most 4 others: what a reorder buffer should mend.
const LATE_PERCENT: f64 = 5.0;
const OVERTAKEN_MAX: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(faults: &Faults, seed: u64) -> Vec<u16> {
        let mut link = Link::new(faults, Rng::new(seed));
        let mut sent = Vec::new();
        for number in 0..10_000u16 {
            link.pass(&number.to_be_bytes(), |packet| sent.push(u16::from_be_bytes([packet[0], packet[1]])));
        }
        sent
    }

    #[test]
    fn without_faults_nothing_changes() {
        assert!(pass(&Faults::default(), 1).into_iter().eq(0..10_000));
    }

    #[test]
    fn loss_is_as_asked_and_repeatable() {
        let faults = Faults { loss_percent: 10.0, ..Faults::default() };
        let sent = pass(&faults, 1);
        assert!((8_850..9_150).contains(&sent.len()), "{}", sent.len());
        assert_eq!(sent, pass(&faults, 1));
        assert_ne!(sent, pass(&faults, 2));
    }

    #[test]
    fn duplicates_come_behind_their_originals() {
        let media = crate::faults::MediaFaults { duplicates: 10.0, ..Default::default() };
        let sent = pass(&Faults { media, ..Faults::default() }, 1);
        assert!((10_850..11_150).contains(&sent.len()), "{}", sent.len());
        assert!(sent.windows(2).all(|pair| pair[0] == pair[1] || pair[0] + 1 == pair[1]));
    }

    #[test]
    fn reordering_loses_nothing_and_moves_packets_a_little() {
        let sent = pass(&Faults { reorder: true, ..Faults::default() }, 3);
        assert!(sent.len() >= 9_999);
        let moved = sent.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!((300..700).contains(&moved), "{moved}");
        let mut highest = 0;
        for &number in &sent {
            assert!(highest <= number + 4);
            highest = highest.max(number);
        }
    }
}
