//! What the catalogue is asked: a segment to play, the spans of a time.

use std::fs::File;
use std::io;

use lanecast_dvr::keyframes;
use lanecast_shard::{LocatedExtent, LocatedSegment, SegmentId, Wanted};
use tracing::warn;

use super::{Recordings, now_unix_ms};
use crate::catalog::database::{Change, Durability, Segment, State};
use crate::catalog::folder;
use crate::catalog::key::Key;
use crate::catalog::timeline::Spans;
use crate::source_id::SourceId;

/// How far a search got.
#[derive(Debug)]
pub(in crate::catalog) enum Search {
    Found(Box<LocatedSegment>),
    Nothing,
    /// So many were gone that others should have their turn first; go on from here.
    GoOn(Wanted),
    Failed(String),
}

impl Recordings {
    /// Finds a segment that can be played and opens its file. Those whose files are gone are forgotten.
    pub(in crate::catalog) fn locate(&mut self, source_id: &SourceId, wanted: Wanted) -> Search {
        let Some(number) = self.streams.number(source_id) else { return Search::Nothing };
        let mut wanted = wanted;
        let mut gone = Vec::new();
        let mut search = None;
        for _ in 0..LOCATE_TRIES {
            let segment = match self.candidate(number, wanted) {
                Ok(Some(segment)) => segment,
                Ok(None) => {
                    search = Some(Search::Nothing);
                    break;
                }
                Err(error) => {
                    search = Some(Search::Failed(self.explain(&error).to_string()));
                    break;
                }
            };
            match self.open_for_reading(&segment) {
                Ok(found) => {
                    search = Some(Search::Found(Box::new(found)));
                    break;
                }
                Err(Unreadable::Gone) if segment.state == State::Closed => gone.push(segment.key),
                Err(Unreadable::Gone | Unreadable::Skip) => {}
                Err(Unreadable::Damaged(reason)) => self.damaged(segment.key.segment(), &reason),
                Err(Unreadable::All(reason)) => {
                    search = Some(Search::Failed(reason));
                    break;
                }
            }
            wanted = Wanted::After(segment.start_unix_ms());
        }
        self.forget(&gone);
        search.unwrap_or(Search::GoOn(wanted))
    }

    /// True if there is a row at this time or later.
    pub(in crate::catalog) fn has(&self, source_id: &SourceId, unix_ms: i64) -> rusqlite::Result<bool> {
        let Some(number) = self.streams.number(source_id) else { return Ok(false) };
        Ok(self.candidate(number, Wanted::At(unix_ms))?.is_some())
    }

    fn candidate(&self, number: u32, wanted: Wanted) -> rusqlite::Result<Option<Segment>> {
        match wanted {
            Wanted::At(time) => {
                let before = match time < 0 {
                    true => None,
                    false => self.database.at_or_before(Key::nearest(number, time))?,
                };
                match before {
                    Some(segment) if segment.state == State::Open || time < segment.end_unix_ms() => {
                        Ok(Some(segment))
                    }
                    _ => self.candidate(number, Wanted::After(time)),
                }
            }
            Wanted::After(time) if time < 0 => self.database.from(Key::first(number)),
            Wanted::After(time) => match Key::nearest(number, time).next() {
                Some(key) => self.database.from(key),
                None => Ok(None),
            },
        }
    }

    fn open_for_reading(&self, segment: &Segment) -> Result<LocatedSegment, Unreadable> {
        let stream = self.streams.get(segment.key.stream()).ok_or(Unreadable::Skip)?;
        let path = self.folder.segment(&stream.row.folder, segment.start_unix_ms());
        let shown = path.display();
        let file = match folder::open_regular(&path, false) {
            Ok(file) => file,
            Err(error) if folder::is_gone(&error) && self.folder.has_stream(&stream.row.folder) => {
                warn!(path = %shown, "a recording is gone and is skipped");
                return Err(Unreadable::Gone);
            }
            // The folder of all of them: perhaps a disk that is not mounted.
            Err(error) if folder::is_gone(&error) => {
                let folder = self.folder.stream(&stream.row.folder);
                return Err(Unreadable::All(folder::sentence(&folder, &error)));
            }
            Err(error) if is_of_process(&error) => {
                return Err(Unreadable::All(folder::sentence(&path, &error)));
            }
            Err(error) => {
                warn!(path = %shown, %error, "a recording cannot be read and is skipped");
                return Err(Unreadable::Skip);
            }
        };
        let closed = match segment.state {
            State::Open if self.open.contains_key(&segment.key) => None,
            // It could not be mended at the start.
            State::Open => return Err(Unreadable::Skip),
            State::Closed | State::Damaged => Some(self.extent(segment, &file)?),
        };
        let (start_unix_ms, codec) = (segment.start_unix_ms(), segment.codec);
        Ok(LocatedSegment { segment: segment.key.segment(), start_unix_ms, codec, file, closed })
    }

    fn extent(&self, segment: &Segment, file: &File) -> Result<LocatedExtent, Unreadable> {
        if file.metadata().map_or(0, |metadata| metadata.len()) < segment.bytes {
            return Err(Unreadable::Damaged("the file is shorter than it was".into()));
        }
        let index = self
            .database
            .keyframes(segment.key)
            .map_err(|error| Unreadable::All(self.explain(&error).to_string()))?;
        let keyframes =
            index.and_then(|bytes| keyframes::decode(&bytes)).filter(|keyframes| !keyframes.is_empty());
        let keyframes = keyframes.ok_or_else(|| Unreadable::Damaged("its index cannot be read".into()))?;
        Ok(LocatedExtent { end_unix_ms: segment.end_unix_ms(), bytes: segment.bytes, keyframes })
    }

    /// It is skipped from now on.
    pub(in crate::catalog) fn damaged(&mut self, segment: SegmentId, reason: &str) {
        let Some(path) = Key::of(segment).and_then(|key| self.path(key)) else { return };
        let Some(key) = Key::of(segment) else { return };
        warn!(path = %path.display(), reason, "a recording is damaged and is skipped");
        if let Err(error) = self.database.apply(Durability::Lazy, &[Change::Damage(key)]) {
            warn!(error = %self.explain(&error), "it cannot be noted");
        }
    }

    /// The next segments of a timeline: some of them into `spans`, and where to go on, if there are more.
    pub(in crate::catalog) fn timeline(
        &self,
        first: Key,
        last: Key,
        from_unix_ms: i64,
        spans: &mut Spans,
    ) -> rusqlite::Result<Option<Key>> {
        let segments = self.database.range(first, last, TIMELINE_BATCH)?;
        for segment in &segments {
            match self.now(segment) {
                Some((end_unix_ms, bytes)) if end_unix_ms > from_unix_ms => {
                    spans.push(segment, end_unix_ms, bytes);
                }
                _ => {}
            }
        }
        let full = segments.len() == TIMELINE_BATCH;
        Ok(segments
            .last()
            .filter(|_| full)
            .and_then(|segment| segment.key.next())
            .filter(|next| *next <= last))
    }

    /// End and bytes of a segment as they are now; `None` if it is neither closed nor written.
    fn now(&self, segment: &Segment) -> Option<(i64, u64)> {
        match (segment.state, self.open.get(&segment.key)) {
            (State::Open, Some(open)) => Some((now_unix_ms().max(segment.start_unix_ms()), open.bytes())),
            (State::Open, None) => None,
            (State::Closed | State::Damaged, _) => Some((segment.end_unix_ms(), segment.bytes)),
        }
    }

    /// The keys of the segments that may touch a range of times; `None`: there can be none.
    pub(in crate::catalog) fn touching(
        &self,
        source_id: &SourceId,
        from_unix_ms: i64,
        to_unix_ms: i64,
    ) -> rusqlite::Result<Option<(Key, Key)>> {
        let Some(number) = self.streams.number(source_id) else { return Ok(None) };
        if from_unix_ms >= to_unix_ms || to_unix_ms <= 0 {
            return Ok(None);
        }
        let from = Key::nearest(number, from_unix_ms);
        let first = self.database.at_or_before(from)?.map_or(from, |segment| segment.key);
        Ok(Some((first, Key::nearest(number, to_unix_ms - 1))))
    }
}

/// Why a segment cannot be given to a player.
enum Unreadable {
    /// Its file is not there.
    Gone,
    /// This one not now.
    Skip,
    /// This one never.
    Damaged(String),
    /// None at all.
    All(String),
}

/// It would be the same with any file.
fn is_of_process(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM))
}

/// Files that a search may find gone before others have their turn.
const LOCATE_TRIES: u32 = 64;
/// Rows that a timeline reads in a turn: some milliseconds.
const TIMELINE_BATCH: usize = 8192;
