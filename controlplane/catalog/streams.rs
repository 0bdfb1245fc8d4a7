//! The streams that have recordings, with their sums; what of it anybody may know without asking the worker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Summary;
use super::database::{Database, Segment, StreamRow, Totals};
use crate::source_id::SourceId;

/// All streams, by number and by name.
#[derive(Debug, Default)]
pub(super) struct Streams {
    by_number: HashMap<u32, Stream>,
    numbers: HashMap<String, u32>,
    summaries: Summaries,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) row: StreamRow,
    /// Of what is not open.
    pub(super) totals: Totals,
    /// Of what is not open.
    pub(super) oldest: Option<Segment>,
    /// Bytes of what is open, as they were lately.
    pub(super) open_bytes: u64,
}

/// What the control plane reads.
#[derive(Clone, Debug, Default)]
pub(super) struct Summaries(Arc<Mutex<HashMap<String, Summary>>>);

impl Streams {
    /// As they are in the database.
    pub(super) fn read(database: &Database) -> rusqlite::Result<Self> {
        let mut streams = Self::default();
        for row in database.streams()? {
            let number = row.number;
            streams.add(row);
            streams.refresh(database, number, &OpenSums::default())?;
        }
        Ok(streams)
    }

    pub(super) fn add(&mut self, row: StreamRow) {
        self.numbers.insert(row.source_id.to_string(), row.number);
        let stream = Stream { totals: Totals::default(), oldest: None, open_bytes: 0, row };
        self.by_number.insert(stream.row.number, stream);
    }

    pub(super) fn number(&self, source_id: &SourceId) -> Option<u32> {
        self.numbers.get(&source_id.to_string()).copied()
    }

    pub(super) fn get(&self, number: u32) -> Option<&Stream> {
        self.by_number.get(&number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.by_number.values()
    }

    pub(super) fn summaries(&self) -> Summaries {
        self.summaries.clone()
    }

    /// Reads a stream's sums after a change.
    pub(super) fn refresh(
        &mut self,
        database: &Database,
        number: u32,
        open: &OpenSums,
    ) -> rusqlite::Result<()> {
        let Some(stream) = self.by_number.get_mut(&number) else { return Ok(()) };
        stream.totals = database.totals(number)?;
        stream.oldest = database.oldest(number)?;
        stream.open_bytes = open.bytes;
        let oldest = stream.oldest.as_ref().map(Segment::start_unix_ms);
        let summary = Summary {
            first_unix_ms: oldest.into_iter().chain(open.first_unix_ms).min(),
            bytes: stream.totals.bytes,
            segments: stream.totals.segments + open.segments,
        };
        self.summaries.set(stream.row.source_id.to_string(), summary);
        Ok(())
    }

    /// Bytes of what is open, as they are now.
    pub(super) fn set_open_bytes(&mut self, number: u32, bytes: u64) {
        if let Some(stream) = self.by_number.get_mut(&number) {
            stream.open_bytes = bytes;
        }
    }
}

/// What a stream has that is open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OpenSums {
    pub(super) first_unix_ms: Option<i64>,
    pub(super) segments: u64,
    pub(super) bytes: u64,
}

impl Stream {
    /// All that it takes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.totals.bytes.saturating_add(self.open_bytes)
    }
}

impl Summaries {
    pub(super) fn get(&self, source_id: &SourceId) -> Summary {
        let summaries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        summaries.get(&source_id.to_string()).copied().unwrap_or_default()
    }

    fn set(&self, stream: String, summary: Summary) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(stream, summary);
    }
}
