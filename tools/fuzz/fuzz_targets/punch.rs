//! Whatever comes to the UDP port and begins as a punch may.
#![no_main]

use lanecast_protocol::wsc::parse_punch;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(punch) = parse_punch(data) {
        let token = punch.token().to_string();
        let text = std::str::from_utf8(data).expect("a punch is ASCII");
        assert!(text.to_ascii_lowercase().contains(&token), "{text}");
    }
});
