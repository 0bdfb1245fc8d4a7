//! Timestamps that go on where they were when a viewer's supply changes (live, recorded).

use std::time::Instant;

/// The clock of all RTP timestamps.
const CLOCK_RATE_HZ: u128 = 90_000;
/// The least that a switch advances the timestamp by: two access units never share one, and players round to milliseconds.
const MIN_STEP_90K: u32 = 90;

/// Timestamps of one viewer over switches of its supply.
#[derive(Clone, Copy, Debug, Default)]
pub struct Splice {
    offset_90k: u32,
    newest: Option<Newest>,
    is_cut: bool,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    rtp_timestamp: u32,
    at: Instant,
}

impl Splice {
    /// Something was sent already, the newest at this time.
    pub fn after(rtp_timestamp: u32, at: Instant) -> Self {
        Self { newest: Some(Newest { rtp_timestamp, at }), ..Self::default() }
    }

    /// What comes now is of another supply.
    pub fn cut(&mut self) {
        self.is_cut = true;
    }

    /// The timestamp that a supply's `rtp_timestamp` gets when it is sent at `now`.
    pub fn map(&mut self, now: Instant, rtp_timestamp: u32) -> u32 {
        if std::mem::take(&mut self.is_cut)
            && let Some(newest) = self.newest
        {
            let elapsed = now.saturating_duration_since(newest.at).as_micros();
            // Wraps after 13 hours without a picture, as RTP timestamps do.
            let elapsed_90k = (elapsed * CLOCK_RATE_HZ / 1_000_000) as u32;
            let wanted = newest.rtp_timestamp.wrapping_add(elapsed_90k.max(MIN_STEP_90K));
            self.offset_90k = wanted.wrapping_sub(rtp_timestamp);
        }
        let mapped = rtp_timestamp.wrapping_add(self.offset_90k);
        if self.newest.is_none_or(|newest| mapped.wrapping_sub(newest.rtp_timestamp) as i32 >= 0) {
            self.newest = Some(Newest { rtp_timestamp: mapped, at: now });
        }
        mapped
    }

    /// Ticks that are added to the supply's timestamps.
    pub fn offset_90k(&self) -> u32 {
        self.offset_90k
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_never_go_back_over_cuts(
            pieces in prop::collection::vec((any::<u32>(), 1usize..20, 0u64..5000), 1..20),
            first in any::<u32>(),
        ) {
            let mut now = Instant::now();
            let mut splice = Splice::default();
            let mut last = splice.map(now, first);
            for (start, count, pause_ms) in pieces {
                now += Duration::from_millis(pause_ms);
                splice.cut();
                for index in 0..count as u32 {
                    let mapped = splice.map(now, start.wrapping_add(index * 3600));
                    prop_assert!((mapped.wrapping_sub(last) as i32) > 0);
                    last = mapped;
                    now += Duration::from_millis(40);
                }
            }
        }
    }
}
