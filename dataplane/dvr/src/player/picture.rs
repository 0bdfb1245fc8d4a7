//! The bytes of a sample as NAL units (ISO/IEC 14496-15 section 5.3.4.2): each stands behind its length in four bytes.

use bytes::{Buf, Bytes};
use lanecast_protocol::codec::Nal;

use super::window::Rope;

/// NAL units of one picture. Encoders cut it in some dozens of slices at the most; those of a hostile file shall not take
/// more memory than the file.
const NALS_MAX: usize = 1024;

/// The NAL units of a sample; slices of it.
///
/// # Errors
/// Where its lengths do not add up.
pub(super) fn split(rope: Rope) -> Result<Vec<Nal>, &'static str> {
    let mut reader =
        Reader { left: rope.iter().map(Bytes::len).sum(), rest: Bytes::new(), pieces: rope.into_iter() };
    let mut nals = Vec::new();
    while reader.left > 0 {
        let bytes = reader.length().ok_or("a sample ends within a length")?;
        if bytes > reader.left {
            return Err("a NAL unit is longer than its sample");
        }
        if bytes > 0 {
            if nals.len() == NALS_MAX {
                return Err("a sample has too many NAL units");
            }
            nals.push(Nal { slices: reader.take(bytes) });
        }
    }
    Ok(nals)
}

/// Takes bytes off a rope's front.
struct Reader {
    pieces: smallvec::IntoIter<[Bytes; 4]>,
    rest: Bytes,
    left: usize,
}

impl Reader {
    fn length(&mut self) -> Option<usize> {
        if self.left < 4 {
            return None;
        }
        let mut length = 0;
        for _ in 0..4 {
            self.fill();
            length = length << 8 | usize::from(self.rest.get_u8());
        }
        self.left -= 4;
        Some(length)
    }

    /// No more than is left.
    fn take(&mut self, mut bytes: usize) -> Rope {
        let mut slices = Rope::new();
        self.left -= bytes;
        while bytes > 0 {
            self.fill();
            let taken = bytes.min(self.rest.len());
            slices.push(self.rest.split_to(taken));
            bytes -= taken;
        }
        slices
    }

    /// To be called only while bytes are left.
    fn fill(&mut self) {
        while self.rest.is_empty()
            && let Some(next) = self.pieces.next()
        {
            self.rest = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rope(bytes: &[u8], cuts: &[usize]) -> Rope {
        let mut rope = Rope::new();
        let mut start = 0;
        for &cut in cuts.iter().chain([&bytes.len()]) {
            let end = cut.clamp(start, bytes.len());
            rope.push(Bytes::copy_from_slice(&bytes[start..end]));
            start = end;
        }
        rope
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        assert_eq!(split(rope(&[0, 0, 0], &[])), Err("a sample ends within a length"));
        assert_eq!(split(rope(&[0, 0, 0, 3, 1, 2], &[])), Err("a NAL unit is longer than its sample"));
        assert_eq!(split(rope(&[255; 8], &[])), Err("a NAL unit is longer than its sample"));
        assert_eq!(split(rope(&[0, 0, 0, 1, 9].repeat(1025), &[])), Err("a sample has too many NAL units"));
        assert_eq!(split(rope(&[0; 4000], &[])), Ok(vec![]), "empty ones are none");
    }

    proptest! {
        #[test]
        fn whatever_the_cuts_the_nal_units_are_the_same(
            sizes in prop::collection::vec(0usize..40, 0..10),
            mut cuts in prop::collection::vec(0usize..400, 0..6),
        ) {
            cuts.sort_unstable();
            let nals: Vec<Vec<u8>> = sizes.iter().map(|&size| (0..size).map(|at| at as u8).collect()).collect();
            let sample: Vec<u8> = nals.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat()).collect();
            let split: Vec<Vec<u8>> = split(rope(&sample, &cuts)).unwrap().iter().map(|nal| nal.slices.concat()).collect();
            let expected: Vec<_> = nals.into_iter().filter(|nal| !nal.is_empty()).collect();
            prop_assert_eq!(split, expected);
        }
    }
}
