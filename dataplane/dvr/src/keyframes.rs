//! Where in a file the keyframes are: the index that the catalogue keeps of a closed segment.
//!
//! As bytes: a version, then for each keyframe what its time (ms) and its offset (bytes) are more than those of the one
//! before, as LEB128 variable-length integers; the first one's time and offset count from zero. A GOP of two seconds takes five
//! bytes. Not here: what the offsets point to.

/// A fragment that starts with a random access point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyframe {
    /// Time of its picture, UTC.
    pub unix_ms: i64,
    /// Where its fragment begins, bytes from the file's start.
    pub offset: u64,
}

/// The index of a segment, in the few bytes a keyframe that the catalogue stores.
///
/// A keyframe that is not later and farther than the one before it could never be found: it is left out. So are those behind the
/// first `KEYFRAMES_MAX`.
pub fn encode(keyframes: &[Keyframe]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + 6 * keyframes.len().min(KEYFRAMES_MAX));
    bytes.push(VERSION);
    let mut last: Option<Keyframe> = None;
    let mut count = 0;
    for &keyframe in keyframes {
        let Some((ms, offset)) = distance(last, keyframe).filter(|_| count < KEYFRAMES_MAX) else { continue };
        put_varint(&mut bytes, ms);
        put_varint(&mut bytes, offset);
        last = Some(keyframe);
        count += 1;
    }
    bytes
}

/// The index from its bytes; `None` if they are none. Times and offsets grow.
pub fn decode(bytes: &[u8]) -> Option<Vec<Keyframe>> {
    let (&VERSION, mut rest) = bytes.split_first()? else { return None };
    let mut keyframes: Vec<Keyframe> = Vec::with_capacity((rest.len() / 4).min(KEYFRAMES_MAX));
    while !rest.is_empty() {
        let ms = i64::try_from(take_varint(&mut rest)?).ok()?;
        let offset = take_varint(&mut rest)?;
        let next = match keyframes.last() {
            None => Keyframe { unix_ms: ms, offset },
            Some(last) => {
                Keyframe { unix_ms: last.unix_ms.checked_add(ms)?, offset: last.offset.checked_add(offset)? }
            }
        };
        if keyframes.len() == KEYFRAMES_MAX || distance(keyframes.last().copied(), next).is_none() {
            return None;
        }
        keyframes.push(next);
    }
    Some(keyframes)
}

/// The last keyframe at or before this time; the first if all are later; `None` without any.
pub fn at_or_before(keyframes: &[Keyframe], unix_ms: i64) -> Option<usize> {
    let later = keyframes.partition_point(|keyframe| keyframe.unix_ms <= unix_ms);
    (!keyframes.is_empty()).then(|| later.saturating_sub(1))
}

/// What is between two keyframes; `None` if the second is not later and farther.
fn distance(last: Option<Keyframe>, next: Keyframe) -> Option<(u64, u64)> {
    let Some(last) = last else { return Some((u64::try_from(next.unix_ms).ok()?, next.offset)) };
    let ms = u64::try_from(next.unix_ms.checked_sub(last.unix_ms)?).ok()?;
    let offset = next.offset.checked_sub(last.offset)?;
    (ms > 0 && offset > 0).then_some((ms, offset))
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// `None` if it does not end, is longer than it need be, or has more than 64 bits.
fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for index in 0..VARINT_BYTES_MAX {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if index == VARINT_BYTES_MAX - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            return (byte != 0 || index == 0).then_some(value);
        }
    }
    None
}

/// Of the layout; another one gets another number.
const VERSION: u8 = 1;

/// What 64 bits take, seven a byte.
const VARINT_BYTES_MAX: u32 = 10;

/// Keyframes of one file. A minute of a camera that sends nothing else has some thousands; a damaged index shall not take
/// memory without a bound.
const KEYFRAMES_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keyframe(unix_ms: i64, offset: u64) -> Keyframe {
        Keyframe { unix_ms, offset }
    }

    #[test]
    fn a_minute_of_gops_takes_five_bytes_a_keyframe() {
        let keyframes: Vec<_> =
            (0..30).map(|n| keyframe(1_790_000_000_000 + 2000 * n, 900 + 1_000_000 * n as u64)).collect();
        let bytes = encode(&keyframes);
        assert!(bytes.len() <= 30 * 5 + 5, "{} bytes", bytes.len());
        assert_eq!(decode(&bytes), Some(keyframes));
    }

    #[test]
    fn the_last_at_or_before_is_found_and_the_first_where_all_are_later() {
        let keyframes = [keyframe(1000, 1), keyframe(3000, 2), keyframe(5000, 3)];
        for (unix_ms, found) in [(0, 0), (1000, 0), (2999, 0), (3000, 1), (4999, 1), (5000, 2), (9999, 2)] {
            assert_eq!(at_or_before(&keyframes, unix_ms), Some(found), "at {unix_ms}");
        }
        assert_eq!(at_or_before(&[], 5), None);
    }

    #[test]
    fn what_does_not_grow_is_left_out_and_never_read() {
        let kept = [keyframe(10, 100), keyframe(20, 200)];
        let odd = [kept[0], keyframe(10, 150), keyframe(15, 100), keyframe(5, 170), kept[1]];
        assert_eq!(decode(&encode(&odd)), Some(kept.to_vec()));
        assert_eq!(decode(&[VERSION, 10, 100, 0, 5]), None, "the same time twice");
        assert_eq!(decode(&[VERSION, 10, 100, 5, 0]), None, "the same place twice");
        assert_eq!(decode(&encode(&[keyframe(-1, 0)])), Some(vec![]), "before 1970");
    }

    #[test]
    fn what_is_no_index_is_none() {
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[VERSION]), Some(vec![]));
        assert_eq!(decode(&[VERSION + 1, 1, 1]), None, "another version");
        assert_eq!(decode(&[VERSION, 1]), None, "no offset");
        assert_eq!(decode(&[VERSION, 0x80, 1, 1]), Some(vec![keyframe(128, 1)]));
        assert_eq!(decode(&[VERSION, 0x80, 0x80]), None, "no end");
        assert_eq!(decode(&[VERSION, 0x81, 0, 1]), None, "longer than it need be");
        let overflow = [vec![VERSION], vec![0xff; 9], vec![0x02, 1]].concat();
        assert_eq!(decode(&overflow), None, "65 bits");
    }

    #[test]
    fn an_index_is_bounded() {
        let many: Vec<_> = (0..KEYFRAMES_MAX as i64 + 5).map(|n| keyframe(n, n as u64)).collect();
        let mut bytes = encode(&many);
        assert_eq!(decode(&bytes).map(|kept| kept.len()), Some(KEYFRAMES_MAX));
        bytes.extend([1, 1]);
        assert_eq!(decode(&bytes), None);
    }

    proptest! {
        #[test]
        fn whatever_grows_comes_back(steps in prop::collection::vec((1u64..1 << 40, 1u64..1 << 40), 0..200)) {
            let (mut unix_ms, mut offset) = (0, 0);
            let keyframes: Vec<_> = steps.into_iter().map(|(ms, bytes)| {
                unix_ms += ms as i64;
                offset += bytes;
                keyframe(unix_ms, offset)
            }).collect();
            prop_assert_eq!(decode(&encode(&keyframes)), Some(keyframes));
        }

        #[test]
        fn bytes_have_one_meaning_at_the_most(bytes in prop::collection::vec(any::<u8>(), 0..64), version in any::<bool>()) {
            let mut bytes = bytes;
            if version {
                bytes.insert(0, VERSION);
            }
            if let Some(keyframes) = decode(&bytes) {
                prop_assert!(keyframes.windows(2).all(|pair| pair[0].unix_ms < pair[1].unix_ms && pair[0].offset < pair[1].offset));
                prop_assert_eq!(encode(&keyframes), bytes);
            }
        }
    }
}
