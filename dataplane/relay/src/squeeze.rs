//! Timestamps of a cached GOP for a viewer that gets it late: moved close together, so that it is shown at once and
//! meets the live clock.

use lanecast_packet::Squeeze;

use crate::gop::GopCache;

/// Ticks (90 kHz) between squeezed access units: 1 ms, the resolution of common players' clocks.
pub(crate) const SQUEEZED_STEP_90K: u32 = 90;

/// For a join that starts at run `start`: all that is cached from there on ends at its own time.
pub(crate) fn for_join(cache: &GopCache, start: u64) -> Squeeze {
    let (first_90k, range_90k, access_units) = extent(cache, start, cache.end());
    let span_90k = range_90k.min(access_units.saturating_mul(SQUEEZED_STEP_90K));
    let pivot_90k = first_90k.wrapping_add(range_90k);
    Squeeze { pivot_90k, range_90k, span_90k, shift_90k: 0 }
}

/// For a viewer that got everything before run `end` and gets the GOP from `start` once more: after all that, and before
/// `next_90k`, the time of run `end`. `None`: there is no room for so many pictures.
pub(crate) fn for_refresh(cache: &GopCache, start: u64, end: u64, next_90k: u32) -> Option<Squeeze> {
    let (first_90k, range_90k, access_units) = extent(cache, start, end);
    let pivot_90k = first_90k.wrapping_add(range_90k);
    let room_90k = next_90k.wrapping_sub(pivot_90k).checked_sub(2).filter(|&room| room < 1 << 30)?;
    let span_90k = range_90k.min(access_units.saturating_mul(SQUEEZED_STEP_90K)).min(room_90k);
    (span_90k >= access_units.saturating_sub(1)).then_some(Squeeze {
        pivot_90k,
        range_90k,
        span_90k,
        shift_90k: span_90k + 1,
    })
}

/// First timestamp, ticks from it to the newest, and access units of runs `start..end`.
fn extent(cache: &GopCache, start: u64, end: u64) -> (u32, u32, u32) {
    let runs = || (start..end).filter_map(|number| cache.run(number));
    let first_90k = runs().next().map_or(0, lanecast_packet::Run::rtp_timestamp);
    let range_90k = runs()
        .map(|run| run.rtp_timestamp().wrapping_sub(first_90k))
        // B-pictures of the first access unit may lie before it.
        .filter(|&ahead| ahead < 1 << 31)
        .max()
        .unwrap_or(0);
    let access_units = runs().filter(|run| run.starts_access_unit()).count() as u32;
    (first_90k, range_90k, access_units)
}
