//! Records and handshake fragments on the wire (RFC 6347 sections 4.1 and 4.2.2), split and checked, not understood.

use bytes::{BufMut, Bytes, BytesMut};

pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const RECORD_HEADER_BYTES: usize = 13;
pub(super) const FRAGMENT_HEADER_BYTES: usize = 12;

/// A record whose header tells the truth about its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) kind: u8,
    pub(super) epoch: u16,
    pub(super) body: &'a [u8],
    /// Header and body.
    pub(super) bytes: &'a [u8],
}

/// A piece of a handshake message, within the message's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    pub(super) kind: u8,
    pub(super) message_seq: u16,
    /// Of the whole message.
    pub(super) message_bytes: usize,
    pub(super) offset: usize,
    pub(super) body: &'a [u8],
}

/// The records of a datagram; `None`, once, where the rest is none.
pub(super) fn records(datagram: &[u8]) -> impl Iterator<Item = Option<Record<'_>>> {
    pieces(datagram, |rest| {
        let [kind, 0xfe, 0xfd | 0xff, e0, e1, _, _, _, _, _, _, l0, l1, ..] = *rest else { return None };
        let end = RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([l0, l1]));
        let (bytes, rest) = rest.split_at_checked(end)?;
        let epoch = u16::from_be_bytes([e0, e1]);
        Some((Record { kind, epoch, body: &bytes[RECORD_HEADER_BYTES..], bytes }, rest))
    })
}

/// The handshake fragments of a plain record; `None`, once, where the rest is none.
pub(super) fn fragments(body: &[u8]) -> impl Iterator<Item = Option<Fragment<'_>>> {
    pieces(body, |rest| {
        let [kind, m0, m1, m2, s0, s1, o0, o1, o2, l0, l1, l2, ref body @ ..] = *rest else { return None };
        let u24 = |a, b, c| u32::from_be_bytes([0, a, b, c]) as usize;
        let (message_bytes, offset) = (u24(m0, m1, m2), u24(o0, o1, o2));
        let (body, rest) = body.split_at_checked(u24(l0, l1, l2))?;
        let is_within = !body.is_empty() && offset + body.len() <= message_bytes;
        let fragment =
            Fragment { kind, message_seq: u16::from_be_bytes([s0, s1]), message_bytes, offset, body };
        is_within.then_some((fragment, rest))
    })
}

fn pieces<'a, T>(
    bytes: &'a [u8],
    first: impl Fn(&'a [u8]) -> Option<(T, &'a [u8])>,
) -> impl Iterator<Item = Option<T>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let piece = first(rest);
        rest = piece.as_ref().map_or(&[], |(_, rest)| rest);
        Some(piece.map(|(piece, _)| piece))
    })
}

/// A plain record of ours.
pub(super) fn write_record(kind: u8, sequence: u64, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(RECORD_HEADER_BYTES + body.len());
    out.put_slice(&[kind, 0xfe, 0xfd, 0, 0]);
    out.put_uint(sequence, 6);
    out.put_u16(body.len() as u16);
    out.put_slice(body);
    out.freeze()
}

/// A handshake message in one fragment, in one plain record.
pub(super) fn write_message(kind: u8, message_seq: u16, sequence: u64, body: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(FRAGMENT_HEADER_BYTES + body.len());
    message.put_u8(kind);
    message.put_uint(body.len() as u64, 3);
    message.put_u16(message_seq);
    message.put_uint(0, 3);
    message.put_uint(body.len() as u64, 3);
    message.put_slice(body);
    write_record(HANDSHAKE, sequence, &message)
}

/// Gives the plain records of a datagram the numbers from `next` on: a record that is sent again has a new one
/// (RFC 6347 section 4.2.4).
pub(super) fn renumber(datagram: &mut [u8], next: &mut u64) {
    let mut at = 0;
    while let Some(header) = datagram.get_mut(at..at + RECORD_HEADER_BYTES) {
        if header[3..5] == [0, 0] {
            header[5..11].copy_from_slice(&next.to_be_bytes()[2..]);
            *next += 1;
        }
        at += RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([header[11], header[12]]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let datagram =
            [&write_message(11, 2, 5, b"certificate")[..], &write_record(CHANGE_CIPHER_SPEC, 6, &[1])]
                .concat();
        let records: Vec<_> = records(&datagram).map(Option::unwrap).collect();
        assert_eq!(
            records.iter().map(|record| record.kind).collect::<Vec<_>>(),
            [HANDSHAKE, CHANGE_CIPHER_SPEC]
        );
        assert_eq!(records[0].bytes[5..11], [0, 0, 0, 0, 0, 5]);
        let fragments: Vec<_> = fragments(records[0].body).collect();
        let expected =
            Fragment { kind: 11, message_seq: 2, message_bytes: 11, offset: 0, body: b"certificate" };
        assert_eq!(fragments, [Some(expected)]);
    }

    #[test]
    fn a_cut_is_seen_once_and_what_was_before_it_counts() {
        let one = write_record(ALERT, 0, &[1, 0]);
        let two = [&one[..], &one].concat();
        for end in one.len() + 1..two.len() {
            let records: Vec<_> = records(&two[..end]).collect();
            assert_eq!(records.len(), 2);
            assert!(records[0].is_some() && records[1].is_none());
        }
    }

    #[test]
    fn a_fragment_beyond_its_message_is_none() {
        let mut record = write_message(1, 0, 0, b"hello").to_vec();
        record[RECORD_HEADER_BYTES + 8] = 1;
        assert_eq!(fragments(&record[RECORD_HEADER_BYTES..]).collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn only_plain_records_get_new_numbers() {
        let mut datagram =
            [&write_record(HANDSHAKE, 0, b"a")[..], &write_record(HANDSHAKE, 7, b"b")].concat();
        datagram[14 + 4] = 1;
        let mut next = 300;
        renumber(&mut datagram, &mut next);
        assert_eq!((next, &datagram[5..11], datagram[14 + 10]), (301, &[0, 0, 0, 0, 1, 44][..], 7));
    }
}
