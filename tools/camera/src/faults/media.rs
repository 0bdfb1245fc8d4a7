//! What a camera gets wrong in its media, one flag each: parameter sets, timestamps, numbering, packets. Where each is
//! acted on is written beside it. What devices are known for it is in `docs/cameras.md`.

use clap::Args;

use crate::stream::Cadence;

/// The faults of the media. `MediaFaults::default()` has none. They are flags of the command line as they stand.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Faults of the media")]
pub struct MediaFaults {
    /// Sends the parameter sets before the first picture of each session, and nowhere else: not in the SDP either.
    // `reel.rs`, `stream.rs`, `conversation.rs`
    #[arg(long)]
    pub parameter_sets_at_start_only: bool,
    /// Describes a picture of 320x180 in the SDP; the right parameter sets are in the media.
    // `conversation.rs`
    #[arg(long)]
    pub wrong_sprop: bool,
    /// Leaves the PPS out of the SDP, but not the comma before it.
    // `sdp.rs`
    #[arg(long)]
    pub no_pps_in_sprop: bool,
    /// Sends parameter sets with the timestamp of the picture before, and with a marker.
    // `stream.rs`
    #[arg(long)]
    pub early_parameter_sets: bool,
    /// Gives every two pictures one RTP timestamp.
    // `stream.rs`
    #[arg(long)]
    pub paired_timestamps: bool,
    /// RTP timestamps leap HOURS ahead after 2 s, and back after 4 s, and so on.
    // `stream.rs`
    #[arg(long, value_name = "HOURS", allow_negative_numbers = true)]
    pub timestamps_leap: Option<f64>,
    /// One picture in 10 has an RTP timestamp 3 hours ahead, or 3 hours behind, in turn.
    // `stream.rs`
    #[arg(long)]
    pub stray_timestamps: bool,
    /// RTP timestamps stand still for S seconds, then are right for S seconds, and so on.
    // `stream.rs`
    #[arg(long, value_name = "S")]
    pub timestamps_stand_still: Option<f64>,
    /// RTP timestamps run FACTOR times as fast as they should.
    // `stream.rs`
    #[arg(long, value_name = "FACTOR")]
    pub timestamps_run: Option<f64>,
    /// The first RTP timestamp is 2 s before the wrap.
    // `stream.rs`
    #[arg(long)]
    pub timestamps_wrap_soon: bool,
    /// The first sequence number is 30 before the wrap.
    // `stream.rs`
    #[arg(long)]
    pub sequence_wraps_soon: bool,
    /// Sequence numbers start at 0 again every S seconds.
    // `stream.rs`
    #[arg(long, value_name = "S")]
    pub sequence_restarts_every: Option<f64>,
    /// The SSRC is another one every S seconds; sequence numbers and timestamps run on.
    // `stream.rs`
    #[arg(long, value_name = "S")]
    pub ssrc_changes_every: Option<f64>,
    /// SSRC, sequence numbers and timestamps are other ones every S seconds.
    // `stream.rs`
    #[arg(long, value_name = "S")]
    pub source_changes_every: Option<f64>,
    /// Never sets the end bit of a FU-A or FU.
    // `packetizer.rs`
    #[arg(long)]
    pub fragments_without_end: bool,
    /// Leaves out the first fragment of one picture in 10, but no sequence number.
    // `packetizer.rs`, `reel.rs`
    #[arg(long)]
    pub fragments_without_start: bool,
    /// Sends slices that fit a packet as a FU-A or FU with both start and end bit.
    // `packetizer.rs`
    #[arg(long)]
    pub single_fragments: bool,
    /// Sends slices in STAP-As or APs too, together with parameter sets, as many as fit a packet.
    // `packetizer.rs`, `reel.rs`
    #[arg(long)]
    pub aggregate_slices: bool,
    /// Sends what begins a random access point as one NAL unit with Annex B start codes in it, and a start code before
    /// each NAL unit that fits a packet.
    // `packetizer.rs`, `reel.rs`
    #[arg(long)]
    pub annex_b: bool,
    /// Puts an SEI before each picture that has an Annex B start code in it.
    // `reel.rs`
    #[arg(long)]
    pub start_code_in_sei: bool,
    /// Puts a delimiter before each picture, filler data before and behind it, and an SEI behind it.
    // `reel.rs`
    #[arg(long)]
    pub clutter: bool,
    /// RTP timestamps say when pictures are shown, not in which order they are sent: for files with B-pictures that no
    /// other picture refers to.
    // `reel.rs`, `stream.rs`
    #[arg(long)]
    pub b_pictures: bool,
    /// The payload type is 97, the SDP says 96.
    // `stream.rs`
    #[arg(long)]
    pub wrong_payload_type: bool,
    /// Puts a packet of payload type 50 before each one, with that one's sequence number.
    // `stream.rs`
    #[arg(long)]
    pub foreign_payload_type: bool,
    /// RTP packets have two CSRCs, a header extension and padding.
    // `rtp.rs`
    #[arg(long)]
    pub rtp_extras: bool,
    /// Sends PERCENT of the RTP packets twice over UDP.
    // `link.rs`
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    pub duplicates: f64,
}

impl MediaFaults {
    /// Distorts a picture's tick: the tick that its timestamp is made of, and 90 kHz units to add.
    pub(crate) fn distort(&self, tick: u64, cadence: Cadence) -> (u64, i64) {
        let seconds = cadence.time(tick).as_secs_f64();
        if self.paired_timestamps {
            return (tick & !1, 0);
        }
        if let Some(hours) = self.timestamps_leap {
            return (tick, if seconds as u64 % 4 < 2 { 0 } else { units_90k(hours * 3600.0) });
        }
        if self.stray_timestamps && tick % 10 == 9 {
            return (tick, if tick % 20 == 9 { STRAY_90K } else { -STRAY_90K });
        }
        if let Some(still) = self.timestamps_stand_still {
            let period = cadence.ticks(std::time::Duration::from_secs_f64(still)).max(1);
            return (if (tick / period).is_multiple_of(2) { tick } else { tick / period * period }, 0);
        }
        if let Some(factor) = self.timestamps_run {
            return (tick, units_90k(seconds * (factor - 1.0)));
        }
        (tick, 0)
    }

    /// Whether something that happens `every` so many seconds does at `tick`.
    pub(crate) fn is_due(every: Option<f64>, tick: u64, cadence: Cadence) -> bool {
        let Some(every) = every else { return false };
        let turn = |tick| (cadence.time(tick).as_secs_f64() / every) as u64;
        tick > 0 && turn(tick) != turn(tick - 1)
    }

    /// What of it makes no sense.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let times = [
            self.timestamps_stand_still,
            self.timestamps_run,
            self.sequence_restarts_every,
            self.ssrc_changes_every,
            self.source_changes_every,
        ];
        let is_positive = |number: &f64| number.is_finite() && (0.001..1e6).contains(number);
        anyhow::ensure!(times.iter().flatten().all(is_positive), "a time or factor is positive");
        anyhow::ensure!(
            self.timestamps_leap.is_none_or(|hours| hours.abs() < 1e6),
            "a leap is a number of hours"
        );
        anyhow::ensure!((0.0..=100.0).contains(&self.duplicates), "duplicates are 0 to 100 per cent");
        Ok(())
    }
}

fn units_90k(seconds: f64) -> i64 {
    (seconds * 90_000.0).round() as i64
}

const STRAY_90K: i64 = 3 * 3600 * 90_000;

#[cfg(test)]
mod tests {
    use super::*;

    const CADENCE: Cadence = Cadence { fps_milli: 25_000 };

    #[test]
    fn timestamps_are_left_alone_unless_asked() {
        assert_eq!(MediaFaults::default().distort(123, CADENCE), (123, 0));
    }

    #[test]
    fn timestamps_leap_and_come_back() {
        let faults = MediaFaults { timestamps_leap: Some(2.0), ..MediaFaults::default() };
        assert_eq!(faults.distort(49, CADENCE), (49, 0));
        assert_eq!(faults.distort(50, CADENCE), (50, 648_000_000));
        assert_eq!(faults.distort(100, CADENCE), (100, 0));
    }

    #[test]
    fn timestamps_stand_still_and_are_right_again() {
        let faults = MediaFaults { timestamps_stand_still: Some(2.0), ..MediaFaults::default() };
        let ticks: Vec<u64> = [0, 49, 50, 99, 100].map(|tick| faults.distort(tick, CADENCE).0).to_vec();
        assert_eq!(ticks, [0, 49, 50, 50, 100]);
    }

    #[test]
    fn timestamps_run_at_another_rate() {
        let faults = MediaFaults { timestamps_run: Some(0.5), ..MediaFaults::default() };
        assert_eq!(faults.distort(50, CADENCE), (50, -90_000));
    }

    #[test]
    fn what_happens_now_and_then_happens_once_each_time() {
        let due: Vec<u64> = (0..200).filter(|&tick| MediaFaults::is_due(Some(2.0), tick, CADENCE)).collect();
        assert_eq!(due, [50, 100, 150]);
        assert!(!(0..200).any(|tick| MediaFaults::is_due(None, tick, CADENCE)));
    }

    #[test]
    fn senseless_numbers_are_refused() {
        assert!(MediaFaults::default().check().is_ok());
        assert!(MediaFaults { timestamps_run: Some(0.0), ..MediaFaults::default() }.check().is_err());
        assert!(
            MediaFaults { ssrc_changes_every: Some(f64::NAN), ..MediaFaults::default() }.check().is_err()
        );
        assert!(MediaFaults { duplicates: 101.0, ..MediaFaults::default() }.check().is_err());
    }
}
