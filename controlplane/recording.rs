//! Between the shards' recorders and players and the catalogue, and what the API asks of both.
//!
//! What a shard asks goes on to the catalogue's worker with the operator's name of the stream; the worker answers the shard
//! itself. A stream may have been removed in the meantime: its files are still closed, but it gets no new ones. No file is
//! touched and no table read here: that is the business of `catalog`.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, SystemTime};

use lanecast_protocol::codec::Codec;
use lanecast_shard::{Command, RecorderStatistics, SegmentId, ShardStatistics, StreamId, Wanted};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use crate::catalog::{CatalogError, Freed, Span};
use crate::control_plane::ControlPlane;
use crate::http::ApiError;
use crate::shards::Shard;
use crate::source_id::SourceId;

/// A time of the API as the catalogue has it. A time before year -9999 or after year 9999 becomes the end of those years:
/// nothing was recorded there, so the answer is the same. `None`: it is no number.
pub fn unix_ms(time: f64) -> Option<i64> {
    let bound = UNIX_MS_MAX as f64;
    time.is_finite().then(|| time.floor().clamp(-bound, bound) as i64)
}

/// The recorders' counters of some streams.
#[derive(Debug, Default)]
pub struct RecorderCounters(HashMap<StreamId, RecorderStatistics>);

impl RecorderCounters {
    /// Those of a stream; `None`: its shard did not say.
    pub fn of(&self, stream: StreamId) -> Option<&RecorderStatistics> {
        self.0.get(&stream)
    }

    fn add(&mut self, shard: ShardStatistics) {
        self.0.extend(shard.streams.into_iter().map(|(stream, counters)| (stream, counters.recorder)));
    }
}

impl ControlPlane {
    // What shards ask.

    /// A recorder wants a file.
    pub(crate) fn open_segment(&self, stream: StreamId, ticket: u64, start_unix_ms: i64, codec: Codec) {
        match self.whose(stream) {
            Some((source_id, Ok(shard))) => {
                self.catalog().open_segment(shard, stream, &source_id, ticket, start_unix_ms, codec);
            }
            _ => self.refuse_segment(stream, ticket),
        }
    }

    /// A player wants a segment.
    pub(crate) fn locate(&self, shard: usize, request: u64, stream: StreamId, wanted: Wanted) {
        let Ok(shard) = self.shard(shard) else { return };
        match self.whose(stream) {
            Some((source_id, _)) => self.catalog().locate(shard, request, &source_id, wanted),
            None => {
                let result = Err(REMOVED.to_owned());
                tokio::spawn(tell(shard.clone(), Command::Located { request, result }));
            }
        }
    }

    /// A player cannot play a segment. The catalogue says so in the log, with its path.
    pub(crate) fn note_damaged(&self, segment: SegmentId, reason: String) {
        self.catalog().damaged(segment, reason);
    }

    /// A stream's name and shard; `None`: it was removed.
    fn whose(&self, stream: StreamId) -> Option<(SourceId, Result<&Shard, ApiError>)> {
        let registry = self.registry();
        let stream = registry.stream(stream)?;
        Some((stream.source_id.clone(), self.shard(stream.shard)))
    }

    /// The shard of a removed stream is not known any more; the others do not know its number and ignore it.
    fn refuse_segment(&self, stream: StreamId, ticket: u64) {
        for shard in self.living_shards() {
            let result = Err(REMOVED.to_owned());
            tokio::spawn(tell(shard, Command::SegmentOpened { stream, ticket, result }));
        }
    }

    // What the API asks.

    /// Whether anything of a stream is recorded at this time (UTC) or later.
    ///
    /// # Errors
    /// 503.
    pub async fn has_recorded(&self, source_id: &SourceId, unix_ms: i64) -> Result<bool, ApiError> {
        // What is being written has no end in the catalogue: it ends now.
        let to_come = unix_ms > now_unix_ms().saturating_add(FUTURE_MS);
        Ok(!to_come && in_time(self.catalog().has(source_id, unix_ms)).await?)
    }

    /// The spans that touch a range (UTC ms), the oldest first.
    ///
    /// # Errors
    /// 503.
    pub async fn timeline(&self, source_id: &SourceId, from: i64, to: i64) -> Result<Vec<Span>, ApiError> {
        in_time(self.catalog().timeline(source_id, from, to)).await
    }

    /// Removes the segments inside a range (UTC ms). As long as that takes: a month has tens of thousands of files.
    ///
    /// # Errors
    /// 503.
    pub async fn remove_recordings(
        &self,
        source_id: &SourceId,
        from: i64,
        to: i64,
    ) -> Result<Freed, ApiError> {
        self.catalog().remove(source_id, from, to).await.map_err(ApiError::from)
    }

    /// What the recorders of a shard count, or of all shards.
    pub async fn recorder_counters(&self, of: Option<usize>) -> RecorderCounters {
        let mut questions = JoinSet::new();
        for shard in self.living_shards() {
            if of.is_none_or(|of| of == shard.index()) {
                let question = async move { shard.ask(|reply| Command::ReadStatistics { reply }).await.ok() };
                questions.spawn(timeout(COUNTERS_TIMEOUT, question));
            }
        }
        let mut counters = RecorderCounters::default();
        while let Some(answer) = questions.join_next().await {
            if let Ok(Ok(Some(shard))) = answer {
                counters.add(shard);
            }
        }
        counters
    }
}

async fn tell(shard: Shard, command: Command) {
    if shard.deliver(command).await.is_err() {
        warn!(shard = shard.index(), "a shard took no answer about a recording");
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, CatalogError>>) -> Result<T, ApiError> {
    match timeout(CATALOG_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(ApiError::from),
        Err(_) => Err(ApiError::busy("the catalogue of the recordings does not answer")),
    }
}

fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(UNIX_MS_MAX)
}

/// As far behind the newest picture as a player still begins with that picture.
const FUTURE_MS: i64 = 1000;
const REMOVED: &str = "the stream was removed";
/// The end of year 9999.
pub const UNIX_MS_MAX: i64 = 253_402_300_799_999;
/// Queries take milliseconds; a disk that spins up, or a removal before them, takes longer.
const CATALOG_TIMEOUT: Duration = Duration::from_secs(5);
/// A view without these counters is better than one that waits for a shard in trouble.
const COUNTERS_TIMEOUT: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_within_the_years_that_can_be_written() {
        assert_eq!(unix_ms(1_700_000_000_123.9), Some(1_700_000_000_123));
        assert_eq!(unix_ms(-0.5), Some(-1));
        assert_eq!((unix_ms(1e300), unix_ms(-1e300)), (Some(UNIX_MS_MAX), Some(-UNIX_MS_MAX)));
        for none in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(unix_ms(none), None);
        }
    }
}
