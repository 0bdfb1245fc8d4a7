//! Whatever a viewer posts as its offer or patches as a fragment.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| lanecast_fuzz::negotiation::check(&String::from_utf8_lossy(data)));
