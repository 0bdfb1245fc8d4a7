//! One parameter set behind a byte that tells the codec.
#![no_main]

use bytes::Bytes;
use lanecast_protocol::codec::{Codec, Nal, ParameterSets};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, set)) = data.split_first() else { return };
    let codec = if first % 2 == 0 { Codec::H264 } else { Codec::H265 };
    let mut sets = ParameterSets::new(codec);
    sets.handle_nal(&Nal::from_bytes(Bytes::copy_from_slice(set)));
    assert!(sets.shape().is_none_or(|shape| shape.width > 0 && shape.height > 0));
});
