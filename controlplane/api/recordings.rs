//! `/streams/{source_id}/recordings`: the timeline of what is recorded of a stream, and how to free it. Export and
//! pictures of it are for a later version; their paths answer 409.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use lanecast_protocol::codec::Codec;
use serde::Serialize;
use url::form_urlencoded;
use utoipa::ToSchema;

use crate::catalog::Span;
use crate::control_plane::{ControlPlane, to_the_end};
use crate::http::{ApiError, ApiPath, ErrorBody};
use crate::recording::{UNIX_MS_MAX, unix_ms};

/// What is recorded of a stream, and what is missing.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct Timeline {
    /// As asked for; else the begin of the oldest recording, `null` if there is none.
    pub from: Option<i64>,
    /// As asked for; else the end of the newest one, `null` if there is none.
    pub to: Option<i64>,
    /// The oldest first; those that touch the range.
    pub spans: Vec<SpanView>,
    /// Between the spans; what is before the first and after the last is none.
    pub gaps: Vec<Gap>,
    /// True: there are more spans than fit into an answer.
    pub truncated: bool,
    /// Where truncated: ask again with this as `from`.
    pub next_from: Option<i64>,
}

/// A time without a gap in which the stream was recorded in one codec.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct SpanView {
    /// Unix milliseconds UTC.
    pub start: i64,
    /// Unix milliseconds UTC; of what is being recorded: now.
    pub end: i64,
    /// Bytes of its files.
    pub bytes: u64,
    /// `H264` or `H265`.
    pub codec: &'static str,
}

/// A time that was not recorded.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Gap {
    /// Unix milliseconds UTC.
    pub start: i64,
    /// Unix milliseconds UTC.
    pub end: i64,
}

/// What was removed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Removed {
    /// Files.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The timeline of a stream.
#[utoipa::path(get, operation_id = "list_recordings", path = "/streams/{source_id}/recordings", tag = "recordings",
    params(
        ("source_id" = String, Path, description = "The id as percent-encoded text"),
        ("from" = Option<f64>, Query, description = "Unix milliseconds UTC; absent: from the first"),
        ("to" = Option<f64>, Query, description = "Unix milliseconds UTC; absent: to the last"),
    ),
    responses(
        (status = 200, description = "Spans and gaps; 10,000 spans at most", body = Timeline),
        (status = 400, description = "invalid_query, invalid_range", body = ErrorBody),
        (status = 404, description = "unknown_stream", body = ErrorBody),
        (status = 503, description = "busy, recordings_unreadable", body = ErrorBody)))]
pub async fn list(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(source_id): ApiPath<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Timeline>, ApiError> {
    let (_, stream) = control.stream(&source_id)?;
    let Range { from, to } = Range::parse(query.as_deref().unwrap_or_default())?;
    let (first, last) = (from.unwrap_or(-UNIX_MS_MAX), to.unwrap_or(UNIX_MS_MAX));
    let spans = control.timeline(&stream.source_id, first, last).await?;
    Ok(Json(Timeline::new(from, to, &spans)))
}

/// Removes the files that are wholly inside the range; never the one that is being written.
#[utoipa::path(delete, operation_id = "remove_recordings", path = "/streams/{source_id}/recordings", tag = "recordings",
    params(
        ("source_id" = String, Path, description = "The id as percent-encoded text"),
        ("from" = f64, Query, description = "Unix milliseconds UTC"),
        ("to" = f64, Query, description = "Unix milliseconds UTC"),
    ),
    responses(
        (status = 200, description = "What was removed", body = Removed),
        (status = 400, description = "invalid_query, invalid_range", body = ErrorBody),
        (status = 404, description = "unknown_stream", body = ErrorBody),
        (status = 503, description = "busy, recordings_unreadable", body = ErrorBody)))]
pub async fn remove(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(source_id): ApiPath<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Removed>, ApiError> {
    let (_, stream) = control.stream(&source_id)?;
    let range = Range::parse(query.as_deref().unwrap_or_default())?;
    let missing = |name| move || ApiError::invalid_query(format!("{name} is missing."));
    let (from, to) = (range.from.ok_or_else(missing("from"))?, range.to.ok_or_else(missing("to"))?);
    let removal = async move { control.remove_recordings(&stream.source_id, from, to).await };
    let freed = to_the_end(removal).await?;
    Ok(Json(Removed { segments: freed.segments, bytes: freed.bytes }))
}

/// A range as an MP4 file.
#[utoipa::path(get, operation_id = "export_recording", path = "/streams/{source_id}/export", tag = "recordings",
    params(("source_id" = String, Path)),
    responses(
        (status = 404, description = "unknown_stream", body = ErrorBody),
        (status = 409, description = "not_recorded: this version exports nothing yet", body = ErrorBody)))]
pub async fn export(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(source_id): ApiPath<String>,
) -> ApiError {
    control.stream(&source_id).err().unwrap_or_else(|| ApiError::not_built("a file"))
}

/// The picture at a time.
#[utoipa::path(get, operation_id = "snapshot", path = "/streams/{source_id}/snapshot.jpg", tag = "recordings",
    params(("source_id" = String, Path)),
    responses(
        (status = 404, description = "unknown_stream", body = ErrorBody),
        (status = 409, description = "not_recorded: this version makes no pictures yet", body = ErrorBody)))]
pub async fn snapshot(
    State(control): State<Arc<ControlPlane>>,
    ApiPath(source_id): ApiPath<String>,
) -> ApiError {
    control.stream(&source_id).err().unwrap_or_else(|| ApiError::not_built("a picture"))
}

impl Timeline {
    fn new(from: Option<i64>, to: Option<i64>, spans: &[Span]) -> Self {
        let next = spans.get(SPANS_MAX);
        let shown = &spans[..spans.len().min(SPANS_MAX)];
        // The gap before what did not fit is told now: the next answer begins behind it.
        let gaps = spans.windows(2).take(shown.len()).filter_map(Gap::between).collect();
        Self {
            from: from.or_else(|| spans.first().map(|span| span.start_unix_ms)),
            to: to.or_else(|| spans.last().map(|span| span.end_unix_ms)),
            spans: shown.iter().map(SpanView::from).collect(),
            gaps,
            truncated: next.is_some(),
            next_from: next.map(|span| span.start_unix_ms),
        }
    }
}

impl Gap {
    /// Of two neighbours; `None`: only the codec changes.
    fn between(spans: &[Span]) -> Option<Self> {
        let [before, after] = spans else { return None };
        let (start, end) = (before.end_unix_ms, after.start_unix_ms);
        (start < end).then_some(Self { start, end })
    }
}

impl From<&Span> for SpanView {
    fn from(span: &Span) -> Self {
        Self {
            start: span.start_unix_ms,
            end: span.end_unix_ms,
            bytes: span.bytes,
            codec: Codec::rtpmap_name(span.codec),
        }
    }
}

/// A range of time as a query has it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Range {
    from: Option<i64>,
    to: Option<i64>,
}

impl Range {
    /// Other parameters are ignored; tokens are among them.
    fn parse(query: &str) -> Result<Self, ApiError> {
        let mut range = Self::default();
        for (name, text) in form_urlencoded::parse(query.as_bytes()) {
            let bound = match name.as_ref() {
                "from" => &mut range.from,
                "to" => &mut range.to,
                _ => continue,
            };
            let time = text.trim().parse().ok().and_then(unix_ms);
            let time =
                time.ok_or_else(|| ApiError::invalid_query(format!("{name} is no number of milliseconds.")))?;
            if bound.replace(time).is_some_and(|before| before != time) {
                return Err(ApiError::invalid_query(format!("{name} is given twice.")));
            }
        }
        match (range.from, range.to) {
            (Some(from), Some(to)) if from > to => Err(ApiError::invalid_range(from, to)),
            _ => Ok(range),
        }
    }
}

/// About a megabyte of JSON.
const SPANS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start_unix_ms: i64, end_unix_ms: i64) -> Span {
        Span { start_unix_ms, end_unix_ms, bytes: 9, codec: Codec::H264 }
    }

    #[test]
    fn gaps_are_between_spans() {
        let spans = [span(0, 10), Span { codec: Codec::H265, ..span(10, 20) }, span(50, 60)];
        let timeline = Timeline::new(None, Some(100), &spans);
        assert_eq!((timeline.from, timeline.to), (Some(0), Some(100)));
        assert_eq!(timeline.gaps, [Gap { start: 20, end: 50 }]);
        assert_eq!(timeline.spans[1], SpanView { start: 10, end: 20, bytes: 9, codec: "H265" });
        assert!(!timeline.truncated && timeline.next_from.is_none());
    }

    #[test]
    fn nothing_recorded_is_an_empty_timeline() {
        let timeline = Timeline::new(None, None, &[]);
        assert_eq!((timeline.from, timeline.to), (None, None));
        assert!(timeline.spans.is_empty() && timeline.gaps.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_told_and_no_gap_is_lost() {
        let spans: Vec<Span> = (0..SPANS_MAX as i64 + 5).map(|n| span(n * 10, n * 10 + 5)).collect();
        let first = Timeline::new(None, None, &spans);
        assert_eq!((first.spans.len(), first.gaps.len(), first.truncated), (SPANS_MAX, SPANS_MAX, true));
        let next = first.next_from.unwrap();
        let rest: Vec<Span> = spans.iter().copied().filter(|span| span.start_unix_ms >= next).collect();
        let rest = Timeline::new(Some(next), None, &rest);
        assert_eq!((rest.spans.len(), rest.gaps.len(), rest.truncated), (5, 4, false));
    }

    #[test]
    fn a_range_is_two_numbers_in_order() {
        let range = |query| Range::parse(query).map(|range| (range.from, range.to));
        assert_eq!(range("").unwrap(), (None, None));
        assert_eq!(range("token=x&from=1&to=2.5e3").unwrap(), (Some(1), Some(2500)));
        assert_eq!(range("from=-1&from=-1").unwrap(), (Some(-1), None));
        assert_eq!(range("to=1e300").unwrap(), (None, Some(UNIX_MS_MAX)));
        assert_eq!(range("from=7&to=7").unwrap(), (Some(7), Some(7)));
        for (query, code, named) in [
            ("from=now", "invalid_query", "from"),
            ("to=", "invalid_query", "to"),
            ("to=NaN", "invalid_query", "to"),
            ("from=inf", "invalid_query", "from"),
            ("from=1&from=2", "invalid_query", "from"),
            ("from=3&to=2", "invalid_range", "from (3) is after to (2)"),
        ] {
            let error = range(query).unwrap_err();
            assert_eq!(error.code(), code, "{query}");
            assert!(error.reason().contains(named), "{query}: {}", error.reason());
        }
    }
}
