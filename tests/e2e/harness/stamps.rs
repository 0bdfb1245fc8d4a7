//! The send times that `lanecast-camera --stamp` puts into its pictures, found in whatever holds them.

use std::time::{SystemTime, UNIX_EPOCH};

use lanecast_camera::stamp::{UUID, monotonic_ns};

use super::Packet;

/// One picture's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Of the picture since PLAY, from 0.
    pub number: u64,
    /// When it was sent.
    pub unix_ms: i64,
}

/// All stamps in a file, in its order.
pub fn stamps(bytes: &[u8]) -> Vec<Stamp> {
    let mut stamps = vec![];
    let mut rest = bytes;
    // What a process of this machine calls now, by both clocks.
    let monotonic_to_unix_ms = now_unix_ms() - (monotonic_ns() / 1_000_000).cast_signed();
    while let Some(at) = find(rest, &UUID) {
        rest = &rest[at + UUID.len()..];
        if let Some(payload) = unescaped(rest) {
            let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("8 bytes"));
            let sent_ms = (number(&payload[8..]) / 1_000_000).cast_signed();
            stamps.push(Stamp { number: number(&payload[..8]), unix_ms: sent_ms + monotonic_to_unix_ms });
        }
    }
    stamps
}

/// Of the pictures that began in these packets, where each stamp is in one packet.
pub fn stamps_of_packets(packets: &[Packet]) -> Vec<Stamp> {
    packets.iter().flat_map(|packet| stamps(packet.payload())).collect()
}

/// The wall clock.
pub fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292 million")
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let first = what[0];
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|&byte| byte == first) {
        if bytes[from + at..].starts_with(what) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// The next 16 bytes without emulation prevention.
fn unescaped(bytes: &[u8]) -> Option<[u8; 16]> {
    let mut payload = [0; 16];
    let (mut length, mut zeros) = (0, 0);
    for &byte in bytes {
        if length == payload.len() {
            break;
        }
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        payload[length] = byte;
        length += 1;
    }
    (length == payload.len()).then_some(payload)
}
