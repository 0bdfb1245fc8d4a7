//! The client's plain handshake messages, whole and in order, from fragments in any order (RFC 6347 section 4.2.3).
//!
//! A client sends five: ClientHello, ClientHello with our cookie, and then in one flight Certificate,
//! ClientKeyExchange and CertificateVerify. What each may weigh is known, so what anybody can make us keep is too.

use smallvec::SmallVec;

use super::record::Fragment;

pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const CERTIFICATE: u8 = 11;
pub(super) const CERTIFICATE_VERIFY: u8 = 15;
pub(super) const CLIENT_KEY_EXCHANGE: u8 = 16;

/// By message_seq: the type, and how long it may be. A hello has 250–2000 bytes (post-quantum key shares), a
/// certificate 300–1500, a key 33–98, a signature 70–520.
const EXPECTED: [(u8, usize); 5] = [
    (CLIENT_HELLO, 6 << 10),
    (CLIENT_HELLO, 6 << 10),
    (CERTIFICATE, 4 << 10),
    (CLIENT_KEY_EXCHANGE, 256),
    (CERTIFICATE_VERIFY, 1 << 10),
];
/// Separate pieces of one message: a hello of 6 KB in pieces of 500 bytes.
const RANGES_MAX: usize = 12;

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    /// Kept.
    New,
    /// Of a message that was whole before: its flight is sent again.
    Repeated,
    /// Not of this handshake, or too much.
    Refused,
}

/// The messages that are under way.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// message_seq of the next whole message.
    next: u16,
    /// Of `next` and later.
    partial: SmallVec<[Partial; 1]>,
}

#[derive(Debug)]
struct Partial {
    message_seq: u16,
    message_bytes: usize,
    /// As far as the last byte that came.
    body: Vec<u8>,
    /// What of `body` came: in order, apart.
    ranges: SmallVec<[(usize, usize); 2]>,
}

impl Messages {
    /// message_seq of the message that is waited for.
    pub(super) fn next(&self) -> u16 {
        self.next
    }

    /// True if all five came.
    pub(super) fn are_complete(&self) -> bool {
        usize::from(self.next) == EXPECTED.len()
    }

    pub(super) fn insert(&mut self, fragment: &Fragment<'_>) -> Inserted {
        if fragment.message_seq < self.next {
            return Inserted::Repeated;
        }
        // Nobody can know the second flight before the answer to the first, nor the third.
        let is_early = fragment.message_seq > self.next && self.next < 2;
        let expected = EXPECTED.get(usize::from(fragment.message_seq));
        let is_expected =
            expected.is_some_and(|(kind, max)| fragment.kind == *kind && fragment.message_bytes <= *max);
        if is_early || !is_expected {
            return Inserted::Refused;
        }
        let known = self.partial.iter_mut().find(|partial| partial.message_seq == fragment.message_seq);
        match known {
            // One of the two is forged; the true one will be sent again.
            Some(partial) if partial.message_bytes != fragment.message_bytes => {
                *partial = Partial::new(fragment);
                partial.insert(fragment)
            }
            Some(partial) => partial.insert(fragment),
            None => {
                let mut partial = Partial::new(fragment);
                let inserted = partial.insert(fragment);
                self.partial.push(partial);
                inserted
            }
        }
    }

    /// The next message: type, message_seq, body.
    pub(super) fn pop(&mut self) -> Option<(u8, u16, Vec<u8>)> {
        let index =
            self.partial.iter().position(|partial| partial.message_seq == self.next && partial.is_whole())?;
        let partial = self.partial.swap_remove(index);
        self.next += 1;
        let (kind, _) = EXPECTED[usize::from(partial.message_seq)];
        Some((kind, partial.message_seq, partial.body))
    }

    /// The message that [`Messages::pop`] gave last was nothing: another takes its place.
    pub(super) fn refuse(&mut self) {
        self.next -= 1;
    }
}

impl Partial {
    fn new(fragment: &Fragment<'_>) -> Self {
        let Fragment { message_seq, message_bytes, .. } = *fragment;
        Self { message_seq, message_bytes, body: Vec::new(), ranges: SmallVec::new() }
    }

    fn is_whole(&self) -> bool {
        self.ranges[..] == [(0, self.message_bytes)]
    }

    fn insert(&mut self, fragment: &Fragment<'_>) -> Inserted {
        let (start, end) = (fragment.offset, fragment.offset + fragment.body.len());
        // The ranges that the new one touches become one with it.
        let first = self.ranges.iter().position(|range| range.1 >= start).unwrap_or(self.ranges.len());
        let touched = self.ranges[first..].iter().take_while(|range| range.0 <= end).count();
        if touched == 0 && self.ranges.len() == RANGES_MAX {
            return Inserted::Refused;
        }
        let merged =
            self.ranges.drain(first..first + touched).fold((start, end), |a, b| (a.0.min(b.0), a.1.max(b.1)));
        self.ranges.insert(first, merged);
        if self.body.len() < end {
            self.body.reserve_exact(end - self.body.len());
            self.body.resize(end, 0);
        }
        self.body[start..end].copy_from_slice(fragment.body);
        Inserted::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment<'a>(
        kind: u8,
        message_seq: u16,
        message: &'a [u8],
        range: std::ops::Range<usize>,
    ) -> Fragment<'a> {
        let offset = range.start;
        Fragment { kind, message_seq, message_bytes: message.len(), offset, body: &message[range] }
    }

    fn past_hellos() -> Messages {
        let mut messages = Messages::default();
        for seq in 0..2 {
            assert_eq!(messages.insert(&fragment(CLIENT_HELLO, seq, b"hello", 0..5)), Inserted::New);
            assert_eq!(messages.pop(), Some((CLIENT_HELLO, seq, b"hello".to_vec())));
        }
        messages
    }

    #[test]
    fn fragments_in_any_order_and_overlapping_make_the_message() {
        let message: Vec<u8> = (0..=255).cycle().take(2000).collect();
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
            let mut messages = Messages::default();
            for piece in order {
                assert_eq!(messages.pop(), None);
                let range = piece * 500..(piece * 500 + 600).min(2000);
                assert_eq!(messages.insert(&fragment(CLIENT_HELLO, 0, &message, range)), Inserted::New);
            }
            assert_eq!(messages.pop(), Some((CLIENT_HELLO, 0, message.clone())));
        }
    }

    #[test]
    fn later_messages_wait_for_earlier_ones() {
        let mut messages = past_hellos();
        messages.insert(&fragment(CERTIFICATE_VERIFY, 4, b"verify", 0..6));
        messages.insert(&fragment(CLIENT_KEY_EXCHANGE, 3, b"key", 0..3));
        assert_eq!(messages.pop(), None);
        messages.insert(&fragment(CERTIFICATE, 2, b"certificate", 0..11));
        let order: Vec<_> = std::iter::from_fn(|| messages.pop()).map(|(kind, ..)| kind).collect();
        assert_eq!(order, [CERTIFICATE, CLIENT_KEY_EXCHANGE, CERTIFICATE_VERIFY]);
        assert!(messages.are_complete());
    }

    #[test]
    fn what_was_whole_is_repeated_and_what_is_not_expected_is_refused() {
        let mut messages = past_hellos();
        assert_eq!(messages.insert(&fragment(CLIENT_HELLO, 1, b"hello", 0..5)), Inserted::Repeated);
        for (kind, seq) in [(CLIENT_HELLO, 2), (CERTIFICATE, 3), (20, 5), (CERTIFICATE, 60_000)] {
            assert_eq!(messages.insert(&fragment(kind, seq, b"?", 0..1)), Inserted::Refused);
        }
        let mut messages = Messages::default();
        assert_eq!(
            messages.insert(&fragment(CLIENT_HELLO, 1, b"?", 0..1)),
            Inserted::Refused,
            "we sent no cookie"
        );
        assert_eq!(messages.insert(&fragment(CLIENT_HELLO, 0, &[0; (6 << 10) + 1], 0..1)), Inserted::Refused);
    }

    #[test]
    fn a_refused_message_makes_room_for_the_true_one() {
        let mut messages = Messages::default();
        messages.insert(&fragment(CLIENT_HELLO, 0, b"false", 0..5));
        messages.pop().unwrap();
        messages.refuse();
        messages.insert(&fragment(CLIENT_HELLO, 0, b"true", 0..4));
        assert_eq!(messages.pop(), Some((CLIENT_HELLO, 0, b"true".to_vec())));
    }

    #[test]
    fn crumbs_and_contradictions_are_bounded() {
        let message = [0; 6 << 10];
        let mut messages = Messages::default();
        let kept = (0..3000).filter(|at| {
            messages.insert(&fragment(CLIENT_HELLO, 0, &message, at * 2..at * 2 + 1)) == Inserted::New
        });
        assert_eq!(kept.count(), RANGES_MAX);
        assert_eq!(messages.insert(&fragment(CLIENT_HELLO, 0, &message, 0..message.len())), Inserted::New);
        assert!(messages.pop().is_some());
    }

    #[test]
    fn of_two_lengths_of_one_message_the_last_counts() {
        let mut messages = Messages::default();
        messages.insert(&fragment(CLIENT_HELLO, 0, b"a forgery", 3..6));
        messages.insert(&fragment(CLIENT_HELLO, 0, b"true", 0..4));
        assert_eq!(messages.pop(), Some((CLIENT_HELLO, 0, b"true".to_vec())));
        assert_eq!(messages.partial.len(), 0);
    }
}
