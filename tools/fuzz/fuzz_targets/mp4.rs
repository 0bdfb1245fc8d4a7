//! A file of recordings, read from the front as a player and the start-up recovery do.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| lanecast_fuzz::mp4::check(data));
