//! Whatever is in a segment file that is played.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| lanecast_fuzz::playback::play(data));
