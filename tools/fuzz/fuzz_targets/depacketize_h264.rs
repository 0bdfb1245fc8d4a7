//! Whatever a camera sends as H.264: packets with loss, timestamps and markers as the input says.
#![no_main]

use lanecast_fuzz::depacketize;
use lanecast_protocol::codec::Codec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| depacketize(Codec::H264, data));
