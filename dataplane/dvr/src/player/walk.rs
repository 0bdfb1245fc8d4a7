//! The samples of one segment, one after the other: from its file, or from memory where they are not in the file yet.
//!
//! A walk stands before a picture. [`Walk::look`] tells what the fragment's header says of it, [`Walk::load`] has its bytes too,
//! [`Walk::advance`] goes on. It never waits: what is missing comes back as a [`Stop`]. Not here: when a picture is due.

use std::rc::Rc;

use lanecast_protocol::codec::{Codec, Nal, ParameterSets};
use lanecast_protocol::mp4::{self, FragmentHeader, Parsed};

use super::picture;
use super::window::{Missing, READ_BYTES, Rope, Window};
use super::{Extent, Located};
use crate::keyframes::{self, Keyframe};
use crate::segment::{MemorySample, OpenSegment, Place, SegmentId};

/// A sample that is larger is damage. The largest pictures of 8K cameras have some megabytes.
pub(super) const SAMPLE_BYTES_MAX: usize = 16 << 20;

/// A read of an init segment or of a header alone: parameter sets have some hundreds of bytes, the header of a fragment of
/// two seconds at 60 pictures a second 2 KiB.
const HEADER_READ_BYTES: usize = 4 << 10;

/// Ticks between two pictures as long as nothing is known: 25 a second.
const FRAME_90K: i64 = 3600;

/// A segment that is written is played up to this long before the wanted time; later there is nothing yet.
const BEYOND_NEWEST_MS_MAX: i64 = 1000;

/// Pictures that may be decoded before one that is shown first (the largest DPB of H.264 and H.265).
pub(super) const REORDER_MAX: usize = 16;

/// Where a picture is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Where its fragment begins, bytes from the file's start.
    pub(super) fragment: u64,
    /// Which of its samples.
    pub(super) sample: usize,
}

/// What is known of a picture without its bytes. Ticks are of 90 kHz, from the segment's start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) presentation_90k: i64,
    /// When it has to be there, so that neither it nor those behind it are shown late.
    pub(super) send_90k: i64,
    pub(super) unix_ms: i64,
    pub(super) duration_90k: i64,
    pub(super) sync: bool,
    offset: u64,
    bytes: usize,
}

/// Why a walk does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// These bytes have to be read.
    Read { segment: SegmentId, offset: u64, bytes: usize },
    /// The newest picture is behind it, and the segment is still written.
    Edge { newest_unix_ms: i64 },
    /// Nothing more is in it.
    End,
    /// It is not what it should be.
    Damaged { segment: SegmentId, reason: String },
}

/// How the bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// All, ahead.
    All,
    /// Headers, without what is between them.
    Headers,
    /// Keyframes, without what is between them.
    Keyframes,
}

/// The walk.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) segment: SegmentId,
    pub(super) codec: Codec,
    extent: Extent,
    parameter_sets: Option<Rc<ParameterSets>>,
    window: Window,
    position: Position,
    table: Option<Table>,
    reading: Reading,
    /// What the last keyframe took, its fragment's header included.
    keyframe_bytes: usize,
    frame_90k: i64,
}

/// A fragment's header.
#[derive(Debug)]
struct Table {
    offset: u64,
    end: u64,
    entries: Vec<Entry>,
}

impl Walk {
    /// Stands nowhere yet.
    pub(super) fn new(located: Located) -> Self {
        let Located { segment, codec, extent, .. } = located;
        let parameter_sets = match &extent {
            Extent::Open(open) => Some(Rc::clone(&open.parameter_sets)),
            Extent::Closed { .. } => None,
        };
        Self {
            segment,
            codec,
            extent,
            parameter_sets,
            window: Window::default(),
            position: Position::default(),
            table: None,
            reading: Reading::All,
            keyframe_bytes: 0,
            frame_90k: FRAME_90K,
        }
    }

    /// Goes to the keyframe at or before this time, else to the first. The time of it, UTC.
    ///
    /// # Errors
    /// Where there is no keyframe, or this is later than all there is.
    pub(super) fn begin(&mut self, unix_ms: i64) -> Result<i64, Stop> {
        if let Extent::Open(open) = &self.extent
            && open.newest_unix_ms().saturating_add(BEYOND_NEWEST_MS_MAX) < unix_ms
        {
            return Err(self.exhausted());
        }
        let found = self.with_keyframes(|keyframes| {
            keyframes::at_or_before(keyframes, unix_ms).map(|index| keyframes[index])
        });
        let Some(keyframe) = found else {
            return Err(match self.extent {
                Extent::Closed { .. } => self.damaged("no keyframe is in it"),
                Extent::Open(_) => self.exhausted(),
            });
        };
        self.go(Position { fragment: keyframe.offset, sample: 0 });
        Ok(keyframe.unix_ms)
    }

    /// Has the parameter sets.
    ///
    /// # Errors
    /// What is missing for that.
    pub(super) fn open(&mut self) -> Result<Rc<ParameterSets>, Stop> {
        if let Some(sets) = &self.parameter_sets {
            return Ok(Rc::clone(sets));
        }
        // One read is enough where the first fragment is wanted.
        let near = self.position.fragment < READ_BYTES as u64 / 2;
        let preferred = if near { READ_BYTES } else { HEADER_READ_BYTES };
        let init = self.read_part(0, preferred, mp4::MAX_INIT_BYTES, mp4::parse_init)?.0;
        if init.parameter_sets.codec() != self.codec {
            return Err(self.damaged("it has another codec than the catalogue says"));
        }
        if !init.parameter_sets.is_complete() {
            return Err(self.damaged("its parameter sets are not complete"));
        }
        Ok(Rc::clone(self.parameter_sets.insert(Rc::new(init.parameter_sets))))
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Stands before another picture.
    pub(super) fn go(&mut self, position: Position) {
        self.position = position;
    }

    /// Stands before the picture after this one.
    pub(super) fn advance(&mut self) {
        self.position.sample += 1;
    }

    pub(super) fn set_reading(&mut self, reading: Reading) {
        self.reading = reading;
    }

    /// Stands before the next keyframe that is not earlier than `unix_ms`, where it does not stand before one already.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) fn step_to_keyframe(&mut self, unix_ms: i64) -> Result<(), Stop> {
        let Position { fragment, sample } = self.position;
        let behind = fragment.saturating_add(u64::from(sample > 0));
        let next = self.with_keyframes(|keyframes| {
            let farther = keyframes.partition_point(|keyframe| keyframe.offset < behind);
            let later = keyframes.partition_point(|keyframe| keyframe.unix_ms < unix_ms);
            keyframes.get(farther.max(later)).copied().filter(|next| next.offset >= behind)
        });
        let next = next.ok_or_else(|| self.exhausted())?;
        self.go(Position { fragment: next.offset, sample: 0 });
        Ok(())
    }

    /// True where a fragment of the file is behind it: what is next is in another one.
    pub(super) fn is_at_end_of_fragment(&self) -> bool {
        self.finished_table().is_some()
    }

    /// True where moreover that begins with a keyframe.
    pub(super) fn is_at_end_of_gop(&self) -> bool {
        self.finished_table().is_some_and(|table| {
            self.with_keyframes(|keyframes| {
                keyframes.binary_search_by_key(&table.end, |keyframe| keyframe.offset).is_ok()
            })
        })
    }

    /// The picture that it stands before.
    ///
    /// # Errors
    /// What is missing for that.
    pub(super) fn look(&mut self) -> Result<Entry, Stop> {
        Ok(self.find()?.0)
    }

    /// The same with its NAL units.
    ///
    /// # Errors
    /// What is missing for that.
    pub(super) fn load(&mut self) -> Result<(Entry, Vec<Nal>), Stop> {
        let (entry, memory) = self.find()?;
        if entry.bytes > SAMPLE_BYTES_MAX {
            return Err(self.damaged("a picture is too large"));
        }
        let rope = match memory {
            Some(sample) => Rope::from_iter([sample.bytes]),
            None => self.read_sample(&entry)?,
        };
        let nals = picture::split(rope).map_err(|reason| self.damaged(reason))?;
        Ok((entry, nals))
    }

    /// What to read although nothing waits for it.
    pub(super) fn read_ahead(&self) -> Option<(u64, usize)> {
        // Only behind a picture of the file.
        let in_file = self.table.as_ref().is_some_and(|table| table.offset == self.position.fragment);
        self.window.read_ahead(self.limit()).filter(|_| self.reading == Reading::All && in_file)
    }

    /// What was read.
    pub(super) fn fill(&mut self, offset: u64, wanted: usize, bytes: bytes::Bytes) {
        self.window.fill(offset, wanted, bytes);
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.window.len()
    }

    /// Ticks between two pictures, by the newest fragment.
    pub(super) fn frame_90k(&self) -> i64 {
        self.frame_90k
    }

    /// End of its last picture, UTC; `None` while that is open.
    pub(super) fn end_unix_ms(&self) -> Option<i64> {
        match &self.extent {
            Extent::Closed { end_unix_ms, .. } => Some(*end_unix_ms),
            Extent::Open(open) => {
                open.is_closed().then(|| open.newest_unix_ms().saturating_add(self.frame_90k / 90))
            }
        }
    }

    fn finished_table(&self) -> Option<&Table> {
        let Position { fragment, sample } = self.position;
        self.table.as_ref().filter(|table| table.offset == fragment && sample >= table.entries.len())
    }

    fn find(&mut self) -> Result<(Entry, Option<MemorySample>), Stop> {
        loop {
            let Position { fragment, sample } = self.position;
            let next = match self.place(fragment) {
                Place::NotYet => return Err(self.exhausted()),
                Place::Memory(memory) => {
                    let samples = memory.samples.borrow();
                    if let Some(found) = samples.get(sample) {
                        self.frame_90k = frame_of_memory(&samples).unwrap_or(self.frame_90k);
                        return Ok((
                            entry_of_memory(&samples[sample..], self.frame_90k),
                            Some(found.clone()),
                        ));
                    }
                    memory.end_offset.get().ok_or_else(|| self.exhausted())?
                }
                Place::File { .. } => {
                    let table = self.table()?;
                    if let Some(entry) = table.entries.get(sample) {
                        return Ok((*entry, None));
                    }
                    table.end
                }
            };
            if next <= fragment {
                return Err(self.damaged("a fragment does not end behind its start"));
            }
            self.go(Position { fragment: next, sample: 0 });
        }
    }

    fn place(&self, offset: u64) -> Place {
        match &self.extent {
            Extent::Open(open) => open.place(offset),
            Extent::Closed { bytes, .. } if offset < *bytes => Place::File { readable_bytes: *bytes },
            Extent::Closed { .. } => Place::NotYet,
        }
    }

    /// Bytes from the file's start that can be read.
    fn limit(&self) -> u64 {
        match &self.extent {
            Extent::Closed { bytes, .. } => *bytes,
            Extent::Open(open) => match open.place(0) {
                Place::File { readable_bytes } => readable_bytes,
                Place::Memory(_) | Place::NotYet => 0,
            },
        }
    }

    fn table(&mut self) -> Result<&Table, Stop> {
        let offset = self.position.fragment;
        let known = self.table.take().filter(|table| table.offset == offset);
        let table = match known {
            Some(known) => known,
            None => self.read_table(offset)?,
        };
        Ok(self.table.insert(table))
    }

    fn read_table(&mut self, offset: u64) -> Result<Table, Stop> {
        let preferred = match self.reading {
            Reading::All => READ_BYTES,
            Reading::Headers => HEADER_READ_BYTES,
            // The next one is about as large.
            Reading::Keyframes => self.keyframe_bytes + self.keyframe_bytes / 8 + HEADER_READ_BYTES,
        };
        let (header, bytes) =
            self.read_part(offset, preferred, mp4::MAX_FRAGMENT_HEADER_BYTES, mp4::parse_fragment_header)?;
        if bytes == 0 || !(0..=UNIX_MS_MAX).contains(&header.unix_ms) || header.base_decode_90k > TICKS_MAX {
            return Err(self.damaged("a fragment has no time"));
        }
        let table = table_of(offset, bytes as u64, &header);
        self.frame_90k = frame_of_table(&table.entries).unwrap_or(self.frame_90k);
        if self.reading == Reading::Keyframes {
            self.keyframe_bytes = bytes + table.entries.first().map_or(0, |entry| entry.bytes);
        }
        Ok(table)
    }

    /// A part of the file that tells its length itself, and that length.
    fn read_part<T>(
        &mut self,
        offset: u64,
        preferred: usize,
        bytes_max: usize,
        parse: impl Fn(&[u8]) -> Result<Parsed<T>, mp4::Mp4Error>,
    ) -> Result<(T, usize), Stop> {
        let mut wanted = 1;
        loop {
            self.need(offset, wanted, preferred)?;
            let bytes = self.window.contiguous(wanted);
            let held = bytes.len();
            match parse(bytes) {
                Ok(Parsed::Whole { part, bytes }) => return Ok((part, bytes)),
                // Never the same again.
                Ok(Parsed::Incomplete { bytes_wanted }) => wanted = bytes_wanted.max(held + 1),
                Err(error) => return Err(self.damaged(&format!("{error} from {offset} on"))),
            }
            if wanted > bytes_max {
                return Err(self.damaged("a header is too large"));
            }
        }
    }

    fn read_sample(&mut self, entry: &Entry) -> Result<Rope, Stop> {
        let preferred = match self.reading {
            Reading::All => READ_BYTES,
            Reading::Headers | Reading::Keyframes => 0,
        };
        self.need(entry.offset, entry.bytes, preferred)?;
        Ok(self.window.rope(entry.bytes))
    }

    fn need(&mut self, offset: u64, bytes: usize, preferred: usize) -> Result<(), Stop> {
        let limit = self.limit();
        self.window.need(offset, bytes, preferred, limit).map_err(|missing| match missing {
            Missing::Read { offset, bytes } => Stop::Read { segment: self.segment, offset, bytes },
            Missing::BeyondEnd => self.damaged("the file ends before what it should hold"),
        })
    }

    fn exhausted(&self) -> Stop {
        match &self.extent {
            Extent::Open(open) if !open.is_closed() => Stop::Edge { newest_unix_ms: open.newest_unix_ms() },
            _ => Stop::End,
        }
    }

    fn damaged(&self, reason: &str) -> Stop {
        Stop::Damaged { segment: self.segment, reason: reason.to_owned() }
    }

    fn with_keyframes<T>(&self, read: impl FnOnce(&[Keyframe]) -> T) -> T {
        match &self.extent {
            Extent::Closed { keyframes, .. } => read(keyframes),
            Extent::Open(open) => read(&OpenSegment::keyframes(open)),
        }
    }
}

fn table_of(offset: u64, header_bytes: u64, header: &FragmentHeader) -> Table {
    let mut at = offset.saturating_add(header_bytes);
    let mut decode_90k = 0i64;
    let base_90k = header.base_decode_90k as i64;
    let mut entries = Vec::with_capacity(header.samples.len());
    for sample in &header.samples {
        let shown_90k = decode_90k + i64::from(sample.composition_offset_90k);
        entries.push(Entry {
            presentation_90k: base_90k + shown_90k,
            send_90k: 0,
            unix_ms: header.unix_ms + shown_90k.div_euclid(90),
            duration_90k: i64::from(sample.duration_90k),
            sync: sample.sync,
            offset: at,
            bytes: sample.bytes as usize,
        });
        at = at.saturating_add(u64::from(sample.bytes));
        decode_90k += i64::from(sample.duration_90k);
    }
    let mut send_90k = i64::MAX;
    for entry in entries.iter_mut().rev() {
        send_90k = send_90k.min(entry.presentation_90k);
        entry.send_90k = send_90k;
        if entry.sync {
            send_90k = i64::MAX;
        }
    }
    Table { offset, end: at, entries }
}

/// Of the first of these, as far as those behind it are known.
fn entry_of_memory(samples: &[MemorySample], frame_90k: i64) -> Entry {
    let sample = &samples[0];
    let behind = samples[1..].iter().take(REORDER_MAX).take_while(|behind| !behind.sync);
    let presentation_90k = sample.presentation_90k;
    Entry {
        presentation_90k,
        send_90k: behind.map(|behind| behind.presentation_90k).fold(presentation_90k, i64::min),
        unix_ms: sample.unix_ms,
        duration_90k: frame_90k,
        sync: sample.sync,
        offset: 0,
        bytes: sample.bytes.len(),
    }
}

fn frame_of_table(entries: &[Entry]) -> Option<i64> {
    let sum: i64 = entries.iter().map(|entry| entry.duration_90k).sum();
    frame(sum, entries.len())
}

fn frame_of_memory(samples: &[MemorySample]) -> Option<i64> {
    let times = || samples.iter().map(|sample| sample.presentation_90k);
    frame(times().max()? - times().min()?, samples.len() - 1)
}

fn frame(sum_90k: i64, pictures: usize) -> Option<i64> {
    let mean = sum_90k.checked_div(pictures as i64)?;
    (mean > 0).then(|| mean.min(FRAME_90K_MAX))
}

/// The year 9999: times of day beyond are none.
const UNIX_MS_MAX: i64 = 253_402_300_799_999;

/// A thousand years: decode times beyond are none, so that no sum of times overflows.
const TICKS_MAX: u64 = 1 << 52;

/// A picture in ten seconds: what is slower tells nothing of the pictures to come.
const FRAME_90K_MAX: i64 = 900_000;
