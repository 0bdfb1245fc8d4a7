//! Whatever comes to the UDP port and begins as STUN may.
#![no_main]

use std::net::SocketAddr;

use lanecast_webrtc::stun::{BindingRequest, is_stun, mapped_address};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let transaction = data.get(8..20).and_then(|id| id.try_into().ok()).unwrap_or_default();
    if mapped_address(data, transaction).is_some() {
        assert!(is_stun(data));
    }
    let Some(request) = BindingRequest::parse(data) else { return };
    assert!(is_stun(data) && request.username.starts_with(request.local_ufrag()));
    request.is_authentic("a password");
    let from = SocketAddr::from(([192, 0, 2, 1], request.priority as u16));
    let success = request.success(from, "a password");
    assert_eq!(mapped_address(&success, request.transaction), Some(from));
    assert!(is_stun(&request.error(487, request.username, "a password")));
});
