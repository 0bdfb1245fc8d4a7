//! An access unit as a sample of an MP4 track: each NAL unit behind its length (ISO/IEC 14496-15 section 5.3.4.2).

use bytes::{Bytes, BytesMut};
use lanecast_protocol::codec::Nal;

/// Bytes of the length before each NAL unit.
const LENGTH_LEN: usize = 4;

/// Length of the sample.
pub(super) fn len(nals: &[Nal]) -> usize {
    nals.iter().map(|nal| LENGTH_LEN + nal.len()).sum()
}

/// The sample in one piece, by one allocation.
pub(super) fn of(nals: &[Nal]) -> Bytes {
    let mut sample = BytesMut::with_capacity(len(nals));
    for nal in nals {
        // A sample of 4 GB is refused before.
        sample.extend_from_slice(&(nal.len() as u32).to_be_bytes());
        nal.slices.iter().for_each(|slice| sample.extend_from_slice(slice));
    }
    sample.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nal_unit_stands_behind_its_length() {
        let rope = Nal { slices: [&b"\x65"[..], b"\x88\x01"].map(Bytes::from_static).into_iter().collect() };
        let nals = [Nal::from_bytes(Bytes::from_static(b"\x06\x05")), rope];
        assert_eq!(of(&nals), &b"\0\0\0\x02\x06\x05\0\0\0\x03\x65\x88\x01"[..]);
        assert_eq!(len(&nals), 13);
        assert_eq!(len(&[]), 0);
    }
}
