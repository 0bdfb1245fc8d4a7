//! Whatever a camera sends over its RTSP connection: no panic, and no frame without an end.
#![no_main]

use bytes::BytesMut;
use lanecast_protocol::rtsp::Frames;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut received = BytesMut::from(data);
    let mut frames = Frames::default();
    while let Ok(Some(_)) = frames.next_frame(&mut received) {}
    assert!(received.len() <= data.len());
});
