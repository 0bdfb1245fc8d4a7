//! The time of day of each access unit: by the camera's sender reports where they are sane, else by arrival. Drift is slewed,
//! jumps forward begin anew, and a step back of the system's clock never makes the time of media go back.

use std::time::Instant;

use lanecast_protocol::rtcp::SenderReport;

/// The clock of one stream's recording.
#[derive(Debug, Default)]
pub struct WallClock {}

/// The time of an access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Of its picture, UTC.
    pub unix_ms: i64,
    /// It does not follow from the one before: what is recorded begins anew here.
    pub jumped: bool,
}

impl WallClock {
    /// The camera plays anew: its RTP timestamps have no relation to earlier ones.
    pub fn restart(&mut self, _clock_rate_hz: u32) {}

    /// A sender report came.
    pub fn handle_sender_report(&mut self, _now: Instant, _system_unix_ms: i64, _report: SenderReport) {}

    /// The time of the access unit with the camera's `rtp_timestamp`, that came at `now`, when the system's clock was
    /// `system_unix_ms`. In decode order; B-pictures may lie before what came earlier.
    pub fn stamp(&mut self, _now: Instant, _system_unix_ms: i64, _rtp_timestamp: u32) -> Stamp {
        unimplemented!()
    }
}
