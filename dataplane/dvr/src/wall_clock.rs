//! The time of day of each access unit: by the camera's sender reports where they are sane, else by arrival.
//!
//! The camera's RTP timestamps give the pace, the clocks only an offset to it, so that what jitters on the way does not
//! jitter here:
//!
//! - *Arrival*: the access unit that was the least late in the last [`LAG_WINDOW_US`] tells the offset to the system's clock.
//! - *Sender reports* (RFC 3550 section 6.4.1): a report is believed if the time that it gives for the next access unit is within
//!   [`REPORT_SANE_US`] of the system's clock when that comes. One that was believed stays so, even if the system's clock is
//!   set, as long as its clock keeps within the same bound of where the monotonic clock expects it. After [`REPORT_STALE_US`]
//!   without a believed one, arrival decides again.
//! - *Slewing*: the offset moves towards what they say by at most 1/[`SLEW`] of the time that passes: 5 ms a second. A camera
//!   drifts by a tenth of that at most.
//! - *Forward* by more than [`JUMP_US`] it goes at once (the system's clock was set, the camera was silent); that is a jump.
//!   After [`WallClock::restart`] it goes forward at once by any amount.
//! - *Back* it never goes. When the system's clock is set back, time goes on at the camera's pace, ahead of the system's clock,
//!   and is slewed towards it: a second takes 200 seconds, an hour 200 hours. Nothing recorded overlaps meanwhile.
//!
//! RTP timestamps that stand still, jump, or run at another pace than time are not followed; such access units are as far
//! apart as their arrivals.

use std::collections::VecDeque;
use std::time::Instant;

use lanecast_protocol::rtcp::SenderReport;

/// The clock of one stream's recording.
#[derive(Debug, Default)]
pub struct WallClock {
    /// Zero until the camera plays: then 90 kHz.
    clock_rate_hz: u32,
    /// Where the monotonic time of this clock is 0.
    first: Option<Instant>,
    pace: Pace,
    lags: Lags,
    reports: Reports,
    /// Time of day less position.
    offset_us: i64,
    newest: Option<Newest>,
    /// Nothing is before this any more: what came before it was recorded under another mapping.
    floor_unix_ms: i64,
    restarted: bool,
}

/// The time of an access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Of its picture, UTC.
    pub unix_ms: i64,
    /// It is seconds after the newest before it: what is recorded begins anew here.
    pub jumped: bool,
}

/// The newest picture so far.
#[derive(Clone, Copy, Debug)]
struct Newest {
    position_us: i64,
    unix_ms: i64,
}

impl WallClock {
    /// The camera plays anew: its RTP timestamps have no relation to earlier ones.
    pub fn restart(&mut self, clock_rate_hz: u32) {
        self.clock_rate_hz = clock_rate_hz;
        self.restarted = true;
        self.reports = Reports::default();
    }

    /// A sender report came. It is judged with the next access unit.
    pub fn handle_sender_report(&mut self, _now: Instant, _system_unix_ms: i64, report: SenderReport) {
        self.reports.pending = Some(report);
    }

    /// The time of the access unit with the camera's `rtp_timestamp`, that came at `now`, when the system's clock was
    /// `system_unix_ms`. In decode order; B-pictures may lie before what came earlier.
    ///
    /// Pictures in presentation order get growing milliseconds. B-pictures lie between their neighbours if those are 3 ms away.
    pub fn stamp(&mut self, now: Instant, system_unix_ms: i64, rtp_timestamp: u32) -> Stamp {
        let at_us = now.saturating_duration_since(*self.first.get_or_insert(now)).as_micros() as i64;
        let system_us = system_unix_ms.clamp(-UNIX_MS_MAX, UNIX_MS_MAX) * 1000;
        let rate = if self.clock_rate_hz == 0 { 90_000 } else { self.clock_rate_hz };

        let step = self.pace.advance(at_us, rtp_timestamp, rate, self.restarted);
        if !step.continuous {
            self.lags.clear();
            self.reports.used = None;
            self.raise_floor();
        }
        self.lags.take(at_us, at_us - step.position_us);
        let unit = Unit { at_us, system_us, position_us: step.position_us, rtp_timestamp, rate };
        self.reports.judge(&unit, self.pace.follows_rtp());
        let by_arrival = system_us - at_us + self.lags.least();
        let target_us = self.reports.offset_us(at_us).unwrap_or(by_arrival);
        self.place(step.position_us, target_us)
    }

    /// The time of day at this position, where `target_us` would be the right offset.
    fn place(&mut self, position_us: i64, target_us: i64) -> Stamp {
        let Some(newest) = self.newest else {
            self.restarted = false;
            self.offset_us = target_us;
            let unix_ms = (position_us + target_us).div_euclid(1000);
            (self.newest, self.floor_unix_ms) = (Some(Newest { position_us, unix_ms }), i64::MIN);
            return Stamp { unix_ms, jumped: false };
        };
        if position_us <= newest.position_us {
            return Stamp { unix_ms: self.place_earlier(position_us), jumped: false };
        }
        self.correct(position_us - newest.position_us, target_us);
        let unix_ms = (position_us + self.offset_us).div_euclid(1000).max(newest.unix_ms + 1);
        let jumped = unix_ms - newest.unix_ms > JUMP_US / 1000;
        if jumped {
            self.raise_floor();
        }
        self.newest = Some(Newest { position_us, unix_ms });
        Stamp { unix_ms, jumped }
    }

    /// A picture that is shown before one that came earlier.
    fn place_earlier(&mut self, position_us: i64) -> i64 {
        let unix_ms = (position_us + self.offset_us).div_euclid(1000);
        if unix_ms >= self.floor_unix_ms {
            return unix_ms;
        }
        // Each of them still has a millisecond of its own, while there are some before the newest.
        let floor = self.floor_unix_ms;
        self.floor_unix_ms = floor.saturating_add(1).min(self.newest.map_or(floor, |newest| newest.unix_ms));
        floor
    }

    fn correct(&mut self, passed_us: i64, target_us: i64) {
        let error_us = target_us - self.offset_us;
        if error_us > JUMP_US || (self.restarted && error_us > 0) {
            self.offset_us = target_us;
        } else {
            let most = passed_us.min(SLEWED_STEP_US_MAX) / SLEW;
            self.offset_us += error_us.clamp(-most, most);
        }
        self.restarted = false;
    }

    fn raise_floor(&mut self) {
        self.floor_unix_ms = self.newest.map_or(i64::MIN, |newest| newest.unix_ms + 1);
    }
}

/// An access unit as it came.
#[derive(Clone, Copy, Debug)]
struct Unit {
    at_us: i64,
    system_us: i64,
    position_us: i64,
    rtp_timestamp: u32,
    rate: u32,
}

/// The camera's time as a line without jumps (its *position*): by the RTP timestamps where they keep pace, else by arrival.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Last>,
    newest_us: i64,
    window: PaceWindow,
    /// Windows in a row in which the timestamps were too slow.
    slow_windows: u32,
    by_arrival: bool,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    at_us: i64,
    rtp_timestamp: u32,
    /// Position of the picture `ticks` ago; so that differences are not rounded twice.
    base_us: i64,
    ticks: i64,
    /// How far the position ran ahead while the timestamp stood still; taken back when it catches up.
    ahead_us: i64,
}

/// What the timestamps said passed, against what did.
#[derive(Clone, Copy, Debug, Default)]
struct PaceWindow {
    elapsed_us: i64,
    rtp_us: i64,
    broken: bool,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    position_us: i64,
    /// The position goes on by the same measure as before.
    continuous: bool,
}

impl Pace {
    /// True while positions are those of the RTP timestamps.
    fn follows_rtp(&self) -> bool {
        !self.by_arrival && self.last.is_some_and(|last| last.ahead_us == 0)
    }

    fn advance(&mut self, at_us: i64, rtp_timestamp: u32, rate: u32, restarted: bool) -> Step {
        let Some(last) = self.last else {
            self.last = Some(Last { at_us, rtp_timestamp, base_us: 0, ticks: 0, ahead_us: 0 });
            return Step { position_us: 0, continuous: true };
        };
        let elapsed_us = (at_us - last.at_us).max(0);
        let ticks = i64::from(rtp_timestamp.wrapping_sub(last.rtp_timestamp) as i32);
        let step_us = to_us(ticks, rate);
        let plausible = !restarted && self.is_plausible(&last, elapsed_us, step_us, rate);
        let was_by_arrival = self.by_arrival;
        if restarted {
            (self.by_arrival, self.slow_windows, self.window) = (false, 0, PaceWindow::default());
        } else {
            self.judge(elapsed_us, if plausible { Some(step_us) } else { None });
        }
        let next = if !plausible || self.by_arrival || was_by_arrival {
            let base_us = self.newest_us + elapsed_us.max(STEP_US_MIN);
            Last { at_us, rtp_timestamp, base_us, ticks: 0, ahead_us: 0 }
        } else if ticks == 0 {
            let step_us = elapsed_us.max(STEP_US_MIN);
            Last { at_us, base_us: last.base_us + step_us, ahead_us: last.ahead_us + step_us, ..last }
        } else {
            let caught_up = last.ahead_us > 0 && step_us > last.ahead_us + STEP_US_MIN;
            let (back_us, ahead_us) = if caught_up { (last.ahead_us, 0) } else { (0, last.ahead_us) };
            Last {
                at_us,
                rtp_timestamp,
                base_us: last.base_us - back_us,
                ticks: last.ticks + ticks,
                ahead_us,
            }
        };
        self.last = Some(next);
        let position_us = next.base_us + to_us(next.ticks, rate);
        self.newest_us = self.newest_us.max(position_us);
        let continuous = if self.by_arrival { was_by_arrival } else { plausible && !was_by_arrival };
        Step { position_us, continuous }
    }

    fn is_plausible(&self, last: &Last, elapsed_us: i64, step_us: i64, rate: u32) -> bool {
        let position_us = last.base_us + to_us(last.ticks, rate) + step_us;
        step_us > -BACKWARD_US_MAX
            && step_us < elapsed_us + FORWARD_US_MAX
            // Many small steps back are no B-pictures.
            && position_us > self.newest_us - BACKWARD_US_MAX
    }

    /// Whether the timestamps can be followed; `None`: they have jumped.
    fn judge(&mut self, elapsed_us: i64, step_us: Option<i64>) {
        let window = &mut self.window;
        window.elapsed_us += elapsed_us;
        window.rtp_us += step_us.unwrap_or(elapsed_us);
        window.broken |= step_us.is_none();
        let lead_us = window.rtp_us - window.elapsed_us;
        if lead_us > LEAD_US_MAX {
            self.by_arrival = true;
        } else if window.elapsed_us < PACE_WINDOW_US {
            return;
        } else if -lead_us > window.elapsed_us / PACE_TOLERANCE {
            self.slow_windows += 1;
            self.by_arrival |= self.slow_windows >= SLOW_WINDOWS_MAX;
        } else {
            self.slow_windows = 0;
            self.by_arrival &= window.broken || lead_us > window.elapsed_us / PACE_TOLERANCE;
        }
        self.window = PaceWindow::default();
    }
}

/// How much later than its position each access unit came; the least of the last half minute.
#[derive(Debug, Default)]
struct Lags {
    /// The least of each stretch, by the number of the stretch; oldest first.
    least: VecDeque<(i64, i64)>,
}

impl Lags {
    fn clear(&mut self) {
        self.least.clear();
    }

    fn take(&mut self, at_us: i64, lag_us: i64) {
        let stretch = at_us / (LAG_WINDOW_US / LAG_STRETCHES);
        while self.least.front().is_some_and(|&(first, _)| first <= stretch - LAG_STRETCHES) {
            self.least.pop_front();
        }
        match self.least.back_mut() {
            Some((last, least)) if *last >= stretch => *least = lag_us.min(*least),
            _ => self.least.push_back((stretch, lag_us)),
        }
    }

    /// Zero if nothing was taken.
    fn least(&self) -> i64 {
        self.least.iter().map(|&(_, lag_us)| lag_us).min().unwrap_or(0)
    }
}

/// What the camera's sender reports say.
#[derive(Debug, Default)]
struct Reports {
    pending: Option<SenderReport>,
    used: Option<UsedReport>,
}

#[derive(Clone, Copy, Debug)]
struct UsedReport {
    /// Time of day less position.
    offset_us: i64,
    at_us: i64,
    /// The camera's clock less the monotonic one, when it last agreed with the system's.
    reference_us: i64,
}

impl Reports {
    fn judge(&mut self, unit: &Unit, follows_rtp: bool) {
        let Some(report) = self.pending.take() else { return };
        if !follows_rtp {
            return;
        }
        let ticks = i64::from(unit.rtp_timestamp.wrapping_sub(report.rtp_timestamp) as i32);
        let unix_us = ntp_to_unix_us(report.ntp, unit.system_us) + to_us(ticks, unit.rate);
        let lead_us = unix_us - unit.at_us;
        let sane = (unix_us - unit.system_us).abs() <= REPORT_SANE_US;
        let kept_pace = self.used.filter(|used| (lead_us - used.reference_us).abs() <= REPORT_SANE_US);
        let reference_us = if sane { Some(lead_us) } else { kept_pace.map(|used| used.reference_us) };
        if let Some(reference_us) = reference_us {
            let offset_us = unix_us - unit.position_us;
            self.used = Some(UsedReport { offset_us, at_us: unit.at_us, reference_us });
        }
    }

    fn offset_us(&mut self, at_us: i64) -> Option<i64> {
        self.used = self.used.filter(|used| at_us - used.at_us <= REPORT_STALE_US);
        self.used.map(|used| used.offset_us)
    }
}

fn to_us(ticks: i64, rate: u32) -> i64 {
    (i128::from(ticks) * 1_000_000 / i128::from(rate.max(1))) as i64
}

/// An NTP timestamp (32.32 fixed point, since 1900) in the era that is next to `near_us`, as UTC.
fn ntp_to_unix_us(ntp: u64, near_us: i64) -> i64 {
    let near_seconds = near_us.div_euclid(1_000_000);
    let near_ntp_seconds = (near_seconds + NTP_TO_UNIX_SECONDS) as u32;
    let ahead_seconds = ((ntp >> 32) as u32).wrapping_sub(near_ntp_seconds) as i32;
    let fraction_us = ((ntp & 0xffff_ffff) * 1_000_000) >> 32;
    (near_seconds + i64::from(ahead_seconds)) * 1_000_000 + fraction_us as i64
}

/// From 1900 to 1970.
const NTP_TO_UNIX_SECONDS: i64 = 2_208_988_800;
/// Far more than any system's clock says, and a thousand times it is still no overflow.
const UNIX_MS_MAX: i64 = 1 << 50;
/// Time is slewed by one part in this many.
const SLEW: i64 = 200;
/// So the offset moves by 2 ms from one picture to the next at the most, and B-pictures stay in order.
const SLEWED_STEP_US_MAX: i64 = 400_000;
/// More than a network holds up and then delivers, and few enough that nobody waits for slewing.
const JUMP_US: i64 = 5_000_000;
/// Longer than a connection is held up and lives; drift in it is a few milliseconds.
const LAG_WINDOW_US: i64 = 32_000_000;
/// The window moves by an eighth of it.
const LAG_STRETCHES: i64 = 8;
/// Cameras that set their clock are right by better than this; others are off by hours.
const REPORT_SANE_US: i64 = 10_000_000;
/// Cameras report every few seconds, some every minute.
const REPORT_STALE_US: i64 = 120_000_000;
/// A timestamp may run ahead of its arrival by this before it is a jump, as in the relay's timeline.
const FORWARD_US_MAX: i64 = 4_000_000;
/// And step back by this: B-pictures are sent after what they are shown before.
const BACKWARD_US_MAX: i64 = 1_000_000;
/// Where arrival decides, two access units are apart by this at least.
const STEP_US_MIN: i64 = 1000;
/// Over this the timestamps' pace is measured.
const PACE_WINDOW_US: i64 = 60_000_000;
/// It may be wrong by one part in this many; no oscillator is, but a camera held up for seconds looks so.
const PACE_TOLERANCE: i64 = 10;
/// A camera that was held up is slow in one window, and fast in the next.
const SLOW_WINDOWS_MAX: u32 = 2;
/// A camera may begin with what it has kept of the last seconds.
const LEAD_US_MAX: i64 = 10_000_000;

#[cfg(test)]
mod tests;
