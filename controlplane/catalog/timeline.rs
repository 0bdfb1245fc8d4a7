//! Spans of a stream: runs of segments that follow one another in one codec.

use super::Span;
use super::database::{Segment, State};

/// Segments in order of their start in, spans out.
#[derive(Debug, Default)]
pub(super) struct Spans {
    done: Vec<Span>,
}

impl Spans {
    /// The next segment, with its end and bytes as they are now. A damaged one is a gap.
    pub(super) fn push(&mut self, segment: &Segment, end_unix_ms: i64, bytes: u64) {
        if segment.state == State::Damaged {
            return;
        }
        let start_unix_ms = segment.start_unix_ms();
        match self.done.last_mut() {
            Some(span) if continues(span, segment) => {
                span.end_unix_ms = span.end_unix_ms.max(end_unix_ms);
                span.bytes = span.bytes.saturating_add(bytes);
            }
            _ => self.done.push(Span { start_unix_ms, end_unix_ms, bytes, codec: segment.codec }),
        }
    }

    pub(super) fn finish(self) -> Vec<Span> {
        self.done
    }
}

fn continues(span: &Span, segment: &Segment) -> bool {
    span.codec == segment.codec && segment.start_unix_ms().saturating_sub(span.end_unix_ms) <= GAP_MIN_MS
}

/// Less than this between two segments is no gap: a camera's clock is no better.
const GAP_MIN_MS: i64 = 1000;

#[cfg(test)]
mod tests {
    use super::super::key::Key;
    use super::*;
    use lanecast_protocol::codec::Codec;

    fn spans(segments: &[(i64, u64, Codec, State)]) -> Vec<(i64, i64, u64)> {
        let mut spans = Spans::default();
        for &(start, duration_ms, codec, state) in segments {
            let segment = Segment { key: Key::new(1, start).unwrap(), duration_ms, bytes: 10, codec, state };
            spans.push(&segment, segment.end_unix_ms(), segment.bytes);
        }
        spans.finish().iter().map(|span| (span.start_unix_ms, span.end_unix_ms, span.bytes)).collect()
    }

    use Codec::{H264, H265};
    use State::{Closed, Damaged, Open};

    #[test]
    fn segments_up_to_a_second_apart_are_one_span() {
        let near = [(0, 60_000, H264, Closed), (61_000, 60_000, H264, Open)];
        assert_eq!(spans(&near), [(0, 121_000, 20)]);
        let far = [(0, 60_000, H264, Closed), (61_001, 60_000, H264, Closed)];
        assert_eq!(spans(&far), [(0, 60_000, 10), (61_001, 121_001, 10)]);
    }

    #[test]
    fn another_codec_is_another_span() {
        let two = [(0, 60_000, H264, Closed), (60_000, 60_000, H265, Closed)];
        assert_eq!(spans(&two).len(), 2);
    }

    #[test]
    fn a_damaged_segment_is_a_gap() {
        let hole =
            [(0, 60_000, H264, Closed), (60_000, 60_000, H264, Damaged), (120_000, 60_000, H264, Closed)];
        assert_eq!(spans(&hole), [(0, 60_000, 10), (120_000, 180_000, 10)]);
    }

    #[test]
    fn segments_that_overlap_never_shorten_a_span() {
        let overlap = [(0, 60_000, H264, Closed), (10_000, 5_000, H264, Closed)];
        assert_eq!(spans(&overlap), [(0, 60_000, 20)]);
    }
}
