//! Time of day as `prft` has it (ISO/IEC 14496-12 section 8.16.5): NTP's 64 bits (RFC 5905 section 6), seconds since 1900 and
//! parts of 2^32 of a second.
//!
//! A millisecond becomes the largest part not behind it, and a part the nearest millisecond: so each millisecond comes
//! back exactly, as a part is far shorter than one. The seconds wrap in 2036: those under 2^31 are of the second era.

/// The earliest time of day that comes back exactly, 1968-01-20T03:14:08Z; earlier ones become this one.
pub const MIN_UNIX_MS: i64 = ((1 << 31) - UNIX_EPOCH_NTP) * 1000;

/// The latest, 2104-02-26T09:42:23.999Z; later ones become this one.
pub const MAX_UNIX_MS: i64 = ((1 << 32) + (1 << 31) - UNIX_EPOCH_NTP) * 1000 - 1;

/// Seconds from 1900 to 1970.
const UNIX_EPOCH_NTP: i64 = 2_208_988_800;

pub(super) fn from_unix_ms(unix_ms: i64) -> u64 {
    let ms = (unix_ms.clamp(MIN_UNIX_MS, MAX_UNIX_MS) + UNIX_EPOCH_NTP * 1000).cast_unsigned();
    let (seconds, rest) = (ms / 1000, ms % 1000);
    (seconds << 32) | ((rest << 32) / 1000)
}

pub(super) fn to_unix_ms(ntp: u64) -> i64 {
    let (seconds, parts) = (ntp >> 32, ntp & 0xffff_ffff);
    let era = if seconds < 1 << 31 { 1 << 32 } else { 0 };
    let ms = (seconds + era) * 1000 + ((parts * 1000 + (1 << 31)) >> 32);
    ms.cast_signed() - UNIX_EPOCH_NTP * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_millisecond_comes_back() {
        for second in
            [MIN_UNIX_MS / 1000, -1, 0, 1_700_000_000, 2_085_978_495, 2_085_978_496, MAX_UNIX_MS / 1000]
        {
            for ms in 0..1000 {
                let unix_ms = second * 1000 + ms;
                assert_eq!(to_unix_ms(from_unix_ms(unix_ms)), unix_ms);
            }
        }
    }

    #[test]
    fn known_times() {
        assert_eq!(from_unix_ms(0), 2_208_988_800 << 32);
        assert_eq!(from_unix_ms(500), (2_208_988_800 << 32) | (1 << 31));
        assert_eq!(from_unix_ms(2_085_978_496_000), 0, "2036-02-07T06:28:16Z, the second era");
        assert_eq!(MIN_UNIX_MS, -61_505_152_000);
        assert_eq!(MAX_UNIX_MS, 4_233_462_143_999);
    }

    #[test]
    fn times_that_ntp_does_not_have_become_the_nearest() {
        assert_eq!(to_unix_ms(from_unix_ms(i64::MIN)), MIN_UNIX_MS);
        assert_eq!(to_unix_ms(from_unix_ms(i64::MAX)), MAX_UNIX_MS);
        assert_eq!(to_unix_ms(u64::MAX), 2_085_978_496_000, "rounds up into the next second");
    }
}
