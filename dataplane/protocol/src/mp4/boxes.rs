//! Boxes and the fields in them (ISO/IEC 14496-12 section 4.2): every length is checked where it is read.
//!
//! Only 32-bit sizes are read: nothing that we write is larger. What the boxes mean is in `init` and `fragment`.

use super::Mp4Error;

/// `size` and `type`.
pub(super) const HEADER_LEN: usize = 8;

/// A box at the top of a file, of which only the header may be there yet.
pub(super) struct BoxHeader {
    pub(super) kind: [u8; 4],
    /// Where the box begins.
    at: usize,
    /// Where it ends.
    pub(super) end: usize,
}

impl BoxHeader {
    /// The header at `at`; `None` where it is not all there. A box that ends behind `limit` is an error.
    pub(super) fn read(bytes: &[u8], at: usize, limit: usize) -> Result<Option<Self>, Mp4Error> {
        let Some(&[s0, s1, s2, s3, k0, k1, k2, k3]) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
            return Ok(None);
        };
        let kind = [k0, k1, k2, k3];
        let size = match u32::from_be_bytes([s0, s1, s2, s3]) {
            0 => return Err(Mp4Error { what: "a box without length", offset: at }),
            1 => return Err(Mp4Error { what: "a box with a 64-bit length", offset: at }),
            size => usize::try_from(size).unwrap_or(usize::MAX),
        };
        if size < HEADER_LEN {
            return Err(Mp4Error { what: "a box shorter than its header", offset: at });
        }
        if !kind.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return Err(Mp4Error { what: "no box", offset: at });
        }
        match at.checked_add(size).filter(|&end| end <= limit) {
            Some(end) => Ok(Some(Self { kind, at, end })),
            None => Err(Mp4Error { what: "a box that is too large", offset: at }),
        }
    }

    /// The box; `None` where it is not all there.
    pub(super) fn whole<'a>(&self, bytes: &'a [u8]) -> Option<Mp4Box<'a>> {
        let body_at = self.at + HEADER_LEN;
        Some(Mp4Box { kind: self.kind, body: bytes.get(body_at..self.end)?, body_at })
    }
}

/// A box that is all there.
#[derive(Clone, Copy)]
pub(super) struct Mp4Box<'a> {
    pub(super) kind: [u8; 4],
    pub(super) body: &'a [u8],
    /// Where the body begins, from the part's start.
    pub(super) body_at: usize,
}

impl<'a> Mp4Box<'a> {
    /// The boxes in it.
    pub(super) fn children(&self) -> Boxes<'a> {
        Boxes { rest: self.body, at: self.body_at }
    }

    /// The fields in it.
    pub(super) fn fields(&self) -> Fields<'a> {
        Fields { rest: self.body, at: self.body_at }
    }

    /// The only child of this kind; `what` is missing where there is none.
    pub(super) fn only_child(&self, kind: &[u8; 4], what: &'static str) -> Result<Mp4Box<'a>, Mp4Error> {
        self.children().only(kind, what)
    }
}

/// Boxes behind one another, all there.
#[derive(Clone, Copy)]
pub(super) struct Boxes<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Boxes<'a> {
    /// The next one; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Mp4Box<'a>>, Mp4Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let cut_off = || Mp4Error { what: "a box that is cut off", offset: self.at };
        let header = BoxHeader::read(self.rest, 0, self.rest.len())
            .map_err(|error| Mp4Error { offset: self.at + error.offset, ..error })?
            .ok_or_else(cut_off)?;
        let found = header.whole(self.rest).ok_or_else(cut_off)?;
        let found = Mp4Box { body_at: self.at + found.body_at, ..found };
        self.rest = &self.rest[header.end..];
        self.at += header.end;
        Ok(Some(found))
    }

    /// The next one, which must be of this kind; else `what` is wrong.
    pub(super) fn expect(&mut self, kind: &[u8; 4], what: &'static str) -> Result<Mp4Box<'a>, Mp4Error> {
        let offset = self.at;
        self.next()?.filter(|found| found.kind == *kind).ok_or(Mp4Error { what, offset })
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), Mp4Error> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Mp4Error { what: "a box too many", offset: self.at })
    }

    fn only(mut self, kind: &[u8; 4], what: &'static str) -> Result<Mp4Box<'a>, Mp4Error> {
        let (offset, mut only) = (self.at, None);
        while let Some(found) = self.next()? {
            if found.kind != *kind {
                continue;
            }
            if only.replace(found).is_some() {
                return Err(Mp4Error { what: "a box that is there twice", offset: found.body_at });
            }
        }
        only.ok_or(Mp4Error { what, offset })
    }
}

/// Big-endian fields of a box.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// Where the next field is, from the part's start.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn u32(&mut self) -> Result<u32, Mp4Error> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Mp4Error> {
        self.take().map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Mp4Error> {
        self.take().map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Mp4Error> {
        self.take().map(i64::from_be_bytes)
    }

    /// The next field, which must be `wanted`; else `what` is wrong.
    pub(super) fn expect_u32(&mut self, wanted: u32, what: &'static str) -> Result<(), Mp4Error> {
        let offset = self.at;
        if self.u32()? == wanted { Ok(()) } else { Err(Mp4Error { what, offset }) }
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], Mp4Error> {
        let cut_off = Mp4Error { what: "a box that ends too early", offset: self.at };
        let (field, rest) = self.rest.split_first_chunk().ok_or(cut_off)?;
        self.rest = rest;
        self.at += N;
        Ok(*field)
    }

    /// What is left as boxes.
    pub(super) fn children(self) -> Boxes<'a> {
        Boxes { rest: self.rest, at: self.at }
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), Mp4Error> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Mp4Error { what: "a box that is too long", offset: self.at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> Mp4Error {
        BoxHeader::read(bytes, 0, 100).err().expect("an error")
    }

    #[test]
    fn sizes_that_cannot_be_are_errors() {
        for (size, what) in [
            (0_u32, "a box without length"),
            (1, "a box with a 64-bit length"),
            (7, "a box shorter than its header"),
            (101, "a box that is too large"),
            (u32::MAX, "a box that is too large"),
        ] {
            assert_eq!(error(&[&size.to_be_bytes()[..], b"free"].concat()), Mp4Error { what, offset: 0 });
        }
        assert_eq!(error(b"\0\0\0\x08\0\0\0\0").what, "no box");
    }

    #[test]
    fn a_header_that_is_not_all_there_is_no_error() {
        for len in 0..HEADER_LEN {
            assert!(matches!(BoxHeader::read(&b"\0\0\0\x08free"[..len], 0, 100), Ok(None)));
        }
        assert!(matches!(BoxHeader::read(b"free", 5, 100), Ok(None)));
    }

    #[test]
    fn a_child_that_is_longer_than_its_parent_is_an_error() {
        let mut boxes = Boxes { rest: b"\0\0\0\x08free\0\0\0\x09free", at: 100 };
        assert!(matches!(
            boxes.next(),
            Ok(Some(Mp4Box { kind: [b'f', b'r', b'e', b'e'], body: [], body_at: 108 }))
        ));
        assert_eq!(boxes.next().err().map(|error| error.offset), Some(108));
    }
}
