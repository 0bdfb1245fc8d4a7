//! The send-time stamp that `--stamp` puts into each access unit, so that a viewer can measure latency.
//!
//! A stamp is one SEI NAL unit (H.264 type 6, H.265 type 39) of its own, right before the access unit's first VCL NAL
//! unit. It holds one `user_data_unregistered` message (payload type 5) of 32 bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 16 | UUID: [`UUID`], the ASCII text `Lanecast-stamp-1` |
//! | 8 | number of the access unit since PLAY, from 0, big-endian |
//! | 8 | `CLOCK_MONOTONIC` of the camera's machine in nanoseconds, big-endian |
//!
//! Emulation prevention applies: undo it before reading. The time is read once for an access unit, right before its
//! first byte is handed to the socket. Over TCP the whole access unit is handed over in that same write, so first and
//! last byte share the moment; over UDP its datagrams follow one by one, with a pause of 1 ms after each 64.
//! The monotonic clock is one clock for all processes of a machine and means nothing on another machine.

use nix::time::{ClockId, clock_gettime};

use crate::config::Codec;
use crate::nal;

/// `Lanecast-stamp-1`.
pub const UUID: [u8; 16] = *b"Lanecast-stamp-1";

/// A stamp as a NAL unit without start code.
pub fn nal_unit(codec: Codec, access_unit: u64, monotonic_ns: u64) -> Vec<u8> {
    let mut payload = [0; 16];
    payload[..8].copy_from_slice(&access_unit.to_be_bytes());
    payload[8..].copy_from_slice(&monotonic_ns.to_be_bytes());
    nal::user_data(codec, &UUID, &payload)
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux always has CLOCK_MONOTONIC");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_laid_out_as_documented() {
        let ns = 0x1122_3344_5566_7788;
        let nal_unit = nal_unit(Codec::H264, 0x0a0b_0c0d_0e0f_1011, ns);
        assert_eq!(nal_unit[..3], [6, 5, 32]);
        assert_eq!(nal_unit[3..19], UUID);
        assert_eq!(nal_unit[19..27], 0x0a0b_0c0d_0e0f_1011_u64.to_be_bytes());
        assert_eq!(nal_unit[27..35], ns.to_be_bytes());
        assert_eq!(nal_unit[35..], [0x80]);
    }

    #[test]
    fn a_small_number_is_escaped() {
        let nal_unit = nal_unit(Codec::H265, 1, 2);
        assert_eq!(nal_unit[20..], [0, 0, 3, 0, 0, 3, 0, 0, 3, 0, 1, 0, 0, 3, 0, 0, 3, 0, 0, 3, 0, 2, 0x80]);
    }

    #[test]
    fn the_clock_does_not_go_back() {
        let earlier = monotonic_ns();
        assert!(monotonic_ns() >= earlier && earlier > 0);
    }
}
