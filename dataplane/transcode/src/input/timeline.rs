//! The times of an input's pictures: what is missing is filled in, and a file that begins anew goes on counting.

/// Decode and display time of a picture at 90 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) dts_90k: i64,
    pub(super) pts_90k: i64,
}

/// Gives every picture its times. Jumps within an input pass as they are.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// From the container's times to ours.
    offset_90k: i64,
    last_90k: Option<i64>,
    /// Where the next picture is expected.
    next_90k: i64,
    begins: bool,
    /// In order of display: where the next pass of the file begins.
    end_90k: Option<i64>,
}

impl Timeline {
    /// The container begins anew: its first picture follows the last one.
    pub(super) fn begin_anew(&mut self) {
        self.begins = self.end_90k.is_some();
    }

    /// The times of the next picture; `duration_90k` is 0 where it is not known.
    pub(super) fn place(&mut self, dts_90k: Option<i64>, pts_90k: Option<i64>, duration_90k: i64) -> Times {
        let told = dts_90k.or(pts_90k);
        let mut least_end = None;
        if std::mem::take(&mut self.begins) || self.end_90k.is_none() {
            // By display times: at the start of some containers only these are known.
            let first = pts_90k.or(dts_90k).unwrap_or(0);
            let at = self.end_90k.unwrap_or(first);
            self.offset_90k = at.wrapping_sub(first);
            least_end = Some(at.wrapping_add(USUAL_DURATION_90K));
        }
        let dts_90k = told.map_or(self.next_90k, |told| told.wrapping_add(self.offset_90k));
        let pts_90k = pts_90k.map_or(dts_90k, |told| told.wrapping_add(self.offset_90k));
        let step = self.last_90k.map_or(0, |last| dts_90k.wrapping_sub(last));
        let usual = if (1..=MAX_DURATION_90K).contains(&step) { step } else { USUAL_DURATION_90K };
        let duration = if (1..=MAX_DURATION_90K).contains(&duration_90k) { duration_90k } else { usual };
        self.last_90k = Some(dts_90k);
        let end = pts_90k.wrapping_add(duration);
        self.end_90k = self.end_90k.max(Some(end)).max(least_end);
        self.next_90k = dts_90k.wrapping_add(duration);
        Times { dts_90k, pts_90k }
    }
}

/// 25 pictures a second; a pass of a file takes at least this long, so that a file of one picture does not spin.
const USUAL_DURATION_90K: i64 = 3600;

/// Ten seconds: more is a jump.
const MAX_DURATION_90K: i64 = 10 * 90_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn times(dts_90k: i64, pts_90k: i64) -> Times {
        Times { dts_90k, pts_90k }
    }

    #[test]
    fn the_containers_times_stay() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.place(Some(-3600), Some(0), 0), times(-3600, 0));
        assert_eq!(timeline.place(Some(1 << 33), Some(5), 0), times(1 << 33, 5), "jumps pass");
    }

    #[test]
    fn missing_times_are_filled_in() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.place(None, None, 3000), times(0, 0));
        assert_eq!(timeline.place(None, None, 0), times(3000, 3000));
        assert_eq!(timeline.place(None, Some(9000), 0), times(9000, 9000));
        assert_eq!(timeline.place(Some(12_000), None, 0), times(12_000, 12_000));
        assert_eq!(timeline.place(None, None, 0), times(15_000, 15_000));
    }

    #[test]
    fn a_file_that_begins_anew_goes_on_counting() {
        let mut timeline = Timeline::default();
        timeline.begin_anew();
        timeline.place(Some(-3600), Some(3600), 3600);
        timeline.place(Some(0), Some(0), 3600);
        timeline.begin_anew();
        assert_eq!(timeline.place(Some(-3600), Some(3600), 3600), times(0, 7200));
        assert_eq!(timeline.place(Some(0), Some(0), 3600), times(3600, 3600));
    }

    #[test]
    fn a_pass_takes_some_time() {
        let mut timeline = Timeline::default();
        for pass in 0..10 {
            timeline.begin_anew();
            assert_eq!(timeline.place(Some(0), Some(0), 1).dts_90k, pass * 3600);
        }
    }

    #[test]
    fn no_time_of_a_hostile_container_panics() {
        let mut timeline = Timeline::default();
        for ticks in [i64::MAX, i64::MIN, 0, -1, i64::MAX, i64::MIN] {
            timeline.place(Some(ticks), Some(ticks), ticks);
            timeline.begin_anew();
        }
    }
}
