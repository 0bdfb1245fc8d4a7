//! What the log says of a stream: that it works, or why not, each cause once; the attempts in between are for debugging.
//!
//! Who changes all the time is bounded in lines, so that cameras that flap by the hundred do not push everything else
//! out of the log.

use std::time::{Duration, Instant};

use lanecast_protocol::wsc::StreamState;

use crate::StreamStatus;

/// What was said of one stream.
#[derive(Debug, Default)]
pub(super) struct Journal {
    said: Option<Said>,
    /// When the minute began in which lines are counted.
    since: Option<Instant>,
    lines: u32,
}

/// A stream as the log has it.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// By this input, with a remark.
    Works(Option<usize>, Option<String>),
    /// For these causes, in this outage.
    Fails(Vec<String>),
    /// Nobody wants it.
    Rests,
}

/// How loud to say how a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loudness {
    /// For everybody.
    Info,
    /// As well, and for the rest of a minute nothing more.
    LastInfo,
    /// For who looks for a fault.
    Debug,
}

impl Journal {
    /// How loud to say that a stream is so now.
    pub(super) fn note(&mut self, now: Instant, status: &StreamStatus) -> Loudness {
        let Some(news) = self.news(status) else { return Loudness::Debug };
        if self.since.is_none_or(|since| now >= since + MINUTE) {
            self.since = Some(now);
            self.lines = 0;
        }
        if self.lines >= LINES_A_MINUTE_MAX {
            return Loudness::Debug;
        }
        self.lines += 1;
        self.said = Some(news);
        if self.lines == LINES_A_MINUTE_MAX { Loudness::LastInfo } else { Loudness::Info }
    }

    /// What is to be said, unless it was or is only an attempt.
    fn news(&self, status: &StreamStatus) -> Option<Said> {
        let reason = status.reason.clone();
        let news = match (status.state, reason) {
            (StreamState::Active, remark) => Said::Works(status.active_input, remark),
            (StreamState::Inactive, _) => Said::Rests,
            // An attempt, which tells why it is needed; at its end it says what came of it.
            (StreamState::Connecting | StreamState::Error, Some(cause)) => Said::Fails(self.with(cause)?),
            (StreamState::Connecting | StreamState::Error, None) => return None,
        };
        (self.said.as_ref() != Some(&news)).then_some(news)
    }

    /// The causes of this outage with a new one; `None` if it is known, or one too many.
    fn with(&self, cause: String) -> Option<Vec<String>> {
        let mut causes = match &self.said {
            Some(Said::Fails(causes)) if causes.len() >= CAUSES_MAX || causes.contains(&cause) => {
                return None;
            }
            Some(Said::Fails(causes)) => causes.clone(),
            Some(Said::Works(..) | Said::Rests) | None => Vec::new(),
        };
        causes.push(cause);
        Some(causes)
    }
}

const MINUTE: Duration = Duration::from_secs(60);
/// A camera that is lost and comes back is four lines as a rule: the loss, what the attempts meet, that it is back, and a
/// remark on its pictures.
const LINES_A_MINUTE_MAX: u32 = 6;
/// Several inputs fail in turn, each for a cause of its own; a reason with a number in it is not to be new for ever.
const CAUSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use lanecast_dvr::recorder::RecordingStatus;

    use super::*;
    use crate::SlateStatus;

    #[test]
    fn an_outage_is_said_once_for_each_cause_and_so_is_its_end() {
        let mut journal = Journal::default();
        let now = Instant::now();
        let mut note = |status| journal.note(now, &status);
        assert_eq!(note(connecting(None)), Loudness::Debug);
        assert_eq!(note(active(0)), Loudness::Info);
        assert_eq!(note(error("the camera closed the connection")), Loudness::Info);
        assert_eq!(note(connecting(Some("the camera closed the connection"))), Loudness::Debug);
        assert_eq!(note(error("connection refused")), Loudness::Info, "another cause is news");
        for _ in 0..100 {
            assert_eq!(note(connecting(Some("connection refused"))), Loudness::Debug);
            assert_eq!(note(error("connection refused")), Loudness::Debug);
        }
        assert_eq!(note(active(0)), Loudness::Info);
        assert_eq!(note(error("connection refused")), Loudness::Info, "another outage");
    }

    #[test]
    fn another_input_is_said_with_the_cause() {
        let mut journal = Journal::default();
        let now = Instant::now();
        let mut note = |status| journal.note(now, &status);
        assert_eq!(note(active(0)), Loudness::Info);
        assert_eq!(note(connecting(Some("main: the camera closed the connection"))), Loudness::Info);
        assert_eq!(note(active(1)), Loudness::Info);
        assert_eq!(note(active(0)), Loudness::Info, "back at the first");
    }

    #[test]
    fn inputs_that_fail_in_turn_are_said_once_each() {
        let mut journal = Journal::default();
        let now = Instant::now();
        let mut lines = 0;
        for attempt in 0..100 {
            let status = error(["a: refused", "b: 401 Unauthorized"][attempt % 2]);
            lines += u32::from(journal.note(now, &status) != Loudness::Debug);
        }
        assert_eq!(lines, 2);
    }

    #[test]
    fn a_stream_that_changes_all_the_time_is_bounded_in_its_lines_and_says_so() {
        let mut journal = Journal::default();
        let start = Instant::now();
        let mut lines = vec![];
        for second in 0..600 {
            let status = if second % 2 == 0 { active(0) } else { error("gone") };
            lines.push(journal.note(start + Duration::from_secs(second), &status));
        }
        let count = |loudness| lines.iter().filter(|line| **line == loudness).count() as u32;
        assert_eq!(count(Loudness::LastInfo), 10);
        assert_eq!(count(Loudness::Info), 10 * (LINES_A_MINUTE_MAX - 1));
    }

    #[test]
    fn causes_that_are_never_the_same_are_bounded() {
        let mut journal = Journal::default();
        let start = Instant::now();
        let mut lines = 0;
        for second in 0..600 {
            let status = error(&format!("CSeq {second} was not asked for"));
            lines +=
                usize::from(journal.note(start + Duration::from_secs(second), &status) != Loudness::Debug);
        }
        assert_eq!(lines, CAUSES_MAX);
    }

    fn active(input: usize) -> StreamStatus {
        status(StreamState::Active, None, Some(input))
    }

    fn connecting(reason: Option<&str>) -> StreamStatus {
        status(StreamState::Connecting, reason, Some(0))
    }

    fn error(reason: &str) -> StreamStatus {
        status(StreamState::Error, Some(reason), None)
    }

    fn status(state: StreamState, reason: Option<&str>, active_input: Option<usize>) -> StreamStatus {
        StreamStatus {
            state,
            reason: reason.map(str::to_owned),
            active_input,
            codec: None,
            width: None,
            height: None,
            profile_level_id: None,
            recording: RecordingStatus::Off,
            slate: SlateStatus::Off,
        }
    }
}
