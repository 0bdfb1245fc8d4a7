//! RTP timestamps moved close together, for packets that a viewer gets late.

/// A map of RTP timestamps (90 kHz): those up to the pivot are squeezed towards it and shifted, later ones stay.
/// The order stays. The default maps each to itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Squeeze {
    /// The newest timestamp that is squeezed.
    pub pivot_90k: u32,
    /// Ticks from the oldest to the pivot; 0: nothing is squeezed.
    pub range_90k: u32,
    /// Ticks that are left of them.
    pub span_90k: u32,
    /// Ticks that all squeezed ones are later.
    pub shift_90k: u32,
}

impl Squeeze {
    /// True for timestamps that stay as they are.
    pub fn is_over(&self, rtp_timestamp: u32) -> bool {
        (rtp_timestamp.wrapping_sub(self.pivot_90k) as i32) > 0 || *self == Self::default()
    }

    /// The timestamp that a packet of `rtp_timestamp` gets.
    pub fn map(&self, rtp_timestamp: u32) -> u32 {
        if self.is_over(rtp_timestamp) {
            return rtp_timestamp;
        }
        let behind = self.pivot_90k.wrapping_sub(rtp_timestamp);
        let squeezed = match self.range_90k {
            0 => behind,
            range => (u64::from(behind) * u64::from(self.span_90k) / u64::from(range)) as u32,
        };
        self.pivot_90k.wrapping_add(self.shift_90k).wrapping_sub(squeezed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_default_changes_nothing() {
        for rtp_timestamp in [0, 1, 1 << 31, u32::MAX] {
            assert_eq!(Squeeze::default().map(rtp_timestamp), rtp_timestamp);
        }
    }

    proptest! {
        #[test]
        fn order_stays_and_what_is_squeezed_ends_where_it_should(
            first in any::<u32>(),
            range in 1u32..1 << 24,
            span_share in 0.0f64..1.0,
            shift in 0u32..3000,
            steps in prop::collection::vec(0.0f64..1.0, 2..20),
        ) {
            let span = (f64::from(range) * span_share) as u32;
            let squeeze = Squeeze { pivot_90k: first.wrapping_add(range), range_90k: range, span_90k: span, shift_90k: shift };
            let mut steps: Vec<u32> = steps.into_iter().map(|at| (at * f64::from(range)) as u32).collect();
            steps.sort_unstable();
            let end = squeeze.pivot_90k.wrapping_add(shift);
            let out: Vec<u32> =
                steps.iter().map(|at| end.wrapping_sub(squeeze.map(first.wrapping_add(*at)))).collect();
            prop_assert!(out.windows(2).all(|pair| pair[0] >= pair[1]));
            prop_assert!(out.iter().all(|behind| *behind <= span));
        }
    }
}
