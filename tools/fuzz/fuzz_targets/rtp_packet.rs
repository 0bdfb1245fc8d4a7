//! RTP packets in any order: what comes out of the reorder buffer came in, and none of it twice.
#![no_main]

use std::time::{Duration, Instant};

use lanecast_fuzz::datagrams;
use lanecast_protocol::rtp::{ReorderBuffer, RtpPacket};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut buffer = ReorderBuffer::new(16, Duration::from_millis(50));
    let (mut now, mut inside) = (Instant::now(), Vec::new());
    for packet in datagrams(data).filter_map(|datagram| RtpPacket::parse(datagram).ok()) {
        now += Duration::from_millis(u64::from(packet.rtp_timestamp % 64));
        inside.push(packet.clone());
        buffer.handle_packet(now, packet);
        while let Some(ordered) = buffer.poll_packet(now) {
            let at = inside.iter().position(|packet| *packet == ordered.packet).expect("it came in");
            inside.swap_remove(at);
        }
    }
});
