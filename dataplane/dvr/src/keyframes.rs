//! Where in a file the keyframes are: the index that the catalogue keeps of a closed segment.

/// A fragment that starts with a random access point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyframe {
    /// Time of its picture, UTC.
    pub unix_ms: i64,
    /// Where its fragment begins, bytes from the file's start.
    pub offset: u64,
}

/// The index of a segment, in the few bytes a keyframe that the catalogue stores.
pub fn encode(_keyframes: &[Keyframe]) -> Vec<u8> {
    unimplemented!()
}

/// The index from its bytes; `None` if they are none. Times and offsets grow.
pub fn decode(_bytes: &[u8]) -> Option<Vec<Keyframe>> {
    unimplemented!()
}

/// The last keyframe at or before this time; the first if all are later.
pub fn at_or_before(_keyframes: &[Keyframe], _unix_ms: i64) -> Option<usize> {
    unimplemented!()
}
