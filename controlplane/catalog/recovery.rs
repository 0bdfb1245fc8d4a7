//! What a segment's file really has in it, read by hopping from fragment to fragment, and what is done with a file that was
//! not closed.
//!
//! Only headers are read, never pictures, but for the last fragment: its pictures must be chains of NAL units, because
//! after a power cut a file may be longer than what was written to it. Not here: the database.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use lanecast_dvr::keyframes::Keyframe;
use lanecast_protocol::codec::Codec;
use lanecast_protocol::mp4::{self, FragmentHeader, Mp4Error, Parsed, Sample, TIMESCALE};

use super::folder;

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) codec: Codec,
    /// End of the last picture, UTC.
    pub(super) end_unix_ms: i64,
    /// Whole fragments, with what is before them.
    pub(super) bytes: u64,
    pub(super) keyframes: Vec<Keyframe>,
    /// Why there is more in the file than that, if there is.
    pub(super) tail: Option<Tail>,
    largest_fragment: u64,
}

/// What stands behind the last whole fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// The begin of a fragment.
    Torn,
    /// Something else.
    Damaged(String),
}

/// How a file was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It can be played.
    Playable(Contents),
    /// A file of ours without a whole fragment.
    Empty,
    /// Not a file of ours, or one that is damaged from its start.
    Foreign(String),
    /// There is none.
    Gone,
}

/// Finds out what a file has that was being written, and cuts off what is not whole. An empty one is removed.
pub(super) fn mend(path: &Path) -> io::Result<Found> {
    let Some(file) = open(path)? else { return Ok(Found::Gone) };
    let found = examine(&file)?;
    match &found {
        Found::Playable(contents) if contents.tail.is_some() => cut(&file, contents)?,
        // It may have been finished by nobody: what is there must stay.
        Found::Playable(_) => file.sync_data()?,
        Found::Empty => std::fs::remove_file(path)?,
        Found::Foreign(_) | Found::Gone => {}
    }
    Ok(found)
}

/// The same for a file of which nobody knows whether it was being written: only a torn last fragment is cut off.
pub(super) fn mend_unknown(path: &Path) -> io::Result<Found> {
    let Some(file) = open(path)? else { return Ok(Found::Gone) };
    let found = examine(&file)?;
    match &found {
        Found::Playable(contents) if contents.has_torn_end(file.metadata()?.len()) => cut(&file, contents)?,
        Found::Empty => std::fs::remove_file(path)?,
        Found::Playable(_) | Found::Foreign(_) | Found::Gone => {}
    }
    Ok(found)
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match folder::open_regular(path, true) {
        Ok(file) => Ok(Some(file)),
        Err(error) if folder::is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn cut(file: &File, contents: &Contents) -> io::Result<()> {
    file.set_len(contents.bytes)?;
    file.sync_data()
}

impl Contents {
    /// A flipped bit in a length looks like a torn end too, but mostly leaves more behind it than one fragment.
    fn has_torn_end(&self, file_bytes: u64) -> bool {
        let bound = self.largest_fragment.saturating_mul(2).saturating_add(TORN_SLACK);
        self.tail == Some(Tail::Torn) && file_bytes.saturating_sub(self.bytes) <= bound
    }
}

/// Reads what is in a file. Errors are those of the disk; what is wrong with the file is in the answer.
pub(super) fn examine(file: &File) -> io::Result<Found> {
    let file_bytes = file.metadata()?.len();
    let (codec, start) = match read_part(file, 0, file_bytes, mp4::parse_init)? {
        Part::Whole { part, bytes } => (part.parameter_sets.codec(), bytes),
        // Only what we began ends within its first box.
        Part::Torn if file_bytes <= INIT_BYTES_MAX && begins_like_ours(file, file_bytes)? => {
            return Ok(Found::Empty);
        }
        Part::Torn => return Ok(Found::Foreign("it has no init segment".into())),
        Part::Wrong(error) => return Ok(Found::Foreign(error.to_string())),
    };
    let mut walk = Walk::new(codec, start);
    walk.run(file, file_bytes)?;
    Ok(walk.found())
}

/// The walk through a file's fragments.
struct Walk {
    codec: Codec,
    offset: u64,
    fragments: Vec<Fragment>,
    tail: Option<Tail>,
}

struct Fragment {
    offset: u64,
    header_bytes: u64,
    bytes: u64,
    end_unix_ms: i64,
    keyframe_unix_ms: Option<i64>,
    samples: Vec<Sample>,
}

impl Walk {
    fn new(codec: Codec, offset: u64) -> Self {
        Self { codec, offset, fragments: Vec::new(), tail: None }
    }

    fn run(&mut self, file: &File, file_bytes: u64) -> io::Result<()> {
        while self.offset < file_bytes && self.tail.is_none() {
            match read_part(file, self.offset, file_bytes, mp4::parse_fragment_header)? {
                Part::Whole { part, bytes } => self.take(&part, bytes, file_bytes),
                Part::Torn => self.tail = Some(Tail::Torn),
                Part::Wrong(error) => self.tail = Some(Tail::Damaged(error.to_string())),
            }
        }
        self.drop_unwritten(file)
    }

    fn take(&mut self, header: &FragmentHeader, header_bytes: u64, file_bytes: u64) {
        let fragment = Fragment::new(self.offset, header, header_bytes);
        match fragment.end_offset() {
            Some(end) if end <= file_bytes => {
                self.offset = end;
                if let Some(before) = self.fragments.last_mut() {
                    before.samples = Vec::new();
                }
                self.fragments.push(fragment);
            }
            _ => self.tail = Some(Tail::Torn),
        }
    }

    /// The last fragment, if what it says is there was never written.
    fn drop_unwritten(&mut self, file: &File) -> io::Result<()> {
        let Some(last) = self.fragments.last() else { return Ok(()) };
        if !last.is_written(file)? {
            self.offset = last.offset;
            self.tail = Some(Tail::Torn);
            self.fragments.pop();
        }
        Ok(())
    }

    fn found(self) -> Found {
        let Some(last) = self.fragments.last() else {
            return match self.tail {
                Some(Tail::Damaged(reason)) => Found::Foreign(reason),
                Some(Tail::Torn) | None => Found::Empty,
            };
        };
        let end_unix_ms = last.end_unix_ms;
        let keyframes = self.fragments.iter().filter_map(Fragment::keyframe);
        let mut increasing: Vec<Keyframe> = Vec::new();
        for keyframe in keyframes {
            // A file whose times go back is played from those that do not.
            if increasing.last().is_none_or(|before| before.unix_ms < keyframe.unix_ms) {
                increasing.push(keyframe);
            }
        }
        if increasing.is_empty() {
            return Found::Foreign("no fragment begins with a keyframe".into());
        }
        Found::Playable(Contents {
            codec: self.codec,
            end_unix_ms,
            bytes: self.offset,
            keyframes: increasing,
            tail: self.tail,
            largest_fragment: self.fragments.iter().map(|fragment| fragment.bytes).max().unwrap_or_default(),
        })
    }
}

impl Fragment {
    fn new(offset: u64, header: &FragmentHeader, header_bytes: u64) -> Self {
        let payload: u64 = header.samples.iter().map(|sample| u64::from(sample.bytes)).sum();
        let first = header.samples.first().filter(|sample| sample.sync);
        // The recorder takes the offset from the picture's time and rounds down.
        let shown = |sample: &Sample| {
            let offset_ms = -(-i64::from(sample.composition_offset_90k)).div_euclid(TICKS_PER_MS);
            header.unix_ms.saturating_add(offset_ms)
        };
        Self {
            offset,
            header_bytes,
            bytes: header_bytes.saturating_add(payload),
            end_unix_ms: end_unix_ms(header),
            keyframe_unix_ms: first.map(shown),
            samples: header.samples.clone(),
        }
    }

    fn end_offset(&self) -> Option<u64> {
        self.offset.checked_add(self.bytes)
    }

    fn keyframe(&self) -> Option<Keyframe> {
        self.keyframe_unix_ms.map(|unix_ms| Keyframe { unix_ms, offset: self.offset })
    }

    /// Every picture is a chain of NAL units that ends where the picture does, and none of them ends in nothing.
    fn is_written(&self, file: &File) -> io::Result<bool> {
        let mut offset = self.offset + self.header_bytes;
        for sample in &self.samples {
            let end = offset + u64::from(sample.bytes);
            while offset < end {
                match nal_end(file, offset, end)? {
                    Some(nal_end) => offset = nal_end,
                    None => return Ok(false),
                }
            }
        }
        Ok(true)
    }
}

/// The end of the NAL unit at `offset`, if it has one at or before `end` and was written up to there.
fn nal_end(file: &File, offset: u64, end: u64) -> io::Result<Option<u64>> {
    let mut length = [0; 4];
    if end - offset < 4 {
        return Ok(None);
    }
    file.read_exact_at(&mut length, offset)?;
    let length = u64::from(u32::from_be_bytes(length));
    let nal_end = offset + 4 + length;
    if length == 0 || nal_end > end {
        return Ok(None);
    }
    let mut last = [0; ZEROS_MAX];
    let last = &mut last[..ZEROS_MAX.min(usize::try_from(length).unwrap_or(ZEROS_MAX))];
    file.read_exact_at(last, nal_end - last.len() as u64)?;
    Ok(last.iter().any(|byte| *byte != 0).then_some(nal_end))
}

/// The end of the picture that is shown last.
fn end_unix_ms(header: &FragmentHeader) -> i64 {
    let mut decoded_90k = 0i64;
    let mut end_90k = 0i64;
    for sample in &header.samples {
        let shown_90k = decoded_90k.saturating_add(i64::from(sample.composition_offset_90k));
        end_90k = end_90k.max(shown_90k.saturating_add(i64::from(sample.duration_90k)));
        decoded_90k = decoded_90k.saturating_add(i64::from(sample.duration_90k));
    }
    header.unix_ms.saturating_add(end_90k.div_euclid(TICKS_PER_MS))
}

/// A part of a file.
enum Part<T> {
    Whole {
        part: T,
        bytes: u64,
    },
    /// The file ends within it.
    Torn,
    Wrong(Mp4Error),
}

/// Reads as much as the part needs, within a bound.
fn read_part<T>(
    file: &File,
    offset: u64,
    file_bytes: u64,
    parse: impl Fn(&[u8]) -> Result<Parsed<T>, Mp4Error>,
) -> io::Result<Part<T>> {
    let left = usize::try_from(file_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut wanted = FIRST_READ;
    loop {
        let mut bytes = vec![0; wanted.min(left)];
        if let Err(error) = file.read_exact_at(&mut bytes, offset) {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof => Ok(Part::Torn),
                _ => Err(error),
            };
        }
        match parse(&bytes) {
            Ok(Parsed::Whole { part, bytes }) => return Ok(Part::Whole { part, bytes: bytes as u64 }),
            Ok(Parsed::Incomplete { .. }) if bytes.len() == left => return Ok(Part::Torn),
            Ok(Parsed::Incomplete { bytes_wanted }) if bytes_wanted > HEADER_BYTES_MAX => {
                return Ok(Part::Wrong(Mp4Error { what: "a header that is too large", offset: 0 }));
            }
            // Never less than double, so that the number of reads is bounded.
            Ok(Parsed::Incomplete { bytes_wanted }) => {
                wanted = bytes_wanted.max(wanted * 2).min(HEADER_BYTES_MAX * 2)
            }
            Err(error) => return Ok(Part::Wrong(error)),
        }
    }
}

/// The first box is the `ftyp` that all our files begin with, or nothing is there at all.
fn begins_like_ours(file: &File, file_bytes: u64) -> io::Result<bool> {
    let mut head = [0; 8];
    let bytes = usize::try_from(file_bytes).unwrap_or(usize::MAX).min(head.len());
    file.read_exact_at(&mut head[..bytes], 0)?;
    Ok(bytes == 0 || (bytes == head.len() && &head[4..] == b"ftyp"))
}

const TICKS_PER_MS: i64 = TIMESCALE as i64 / 1000;
/// The headers of most fragments.
const FIRST_READ: usize = 4096;
/// The larger of the two.
const HEADER_BYTES_MAX: usize = mp4::MAX_FRAGMENT_HEADER_BYTES;
/// What may be of an init segment.
const INIT_BYTES_MAX: u64 = mp4::MAX_INIT_BYTES as u64;
/// A NAL unit ends in a byte that is not zero (H.264 and H.265, section 7.4.1 and 7.4.2.1); some cameras pad. What was not
/// written is zero by the page.
const ZEROS_MAX: usize = 64;
/// Keyframes of quiet scenes differ much.
const TORN_SLACK: u64 = 1 << 20;

#[cfg(test)]
mod recorded;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::path::PathBuf;

    use lanecast_shard::Wanted;
    use tempfile::TempDir;

    use super::super::fixture::{Film, MIDNIGHT, MINUTE, Place, text};
    use super::*;

    fn stored(bytes: &[u8]) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.mp4");
        std::fs::write(&path, bytes).unwrap();
        (directory, path)
    }

    fn playable(found: Found) -> Contents {
        match found {
            Found::Playable(contents) => contents,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_whole_file_stays_as_it_is() {
        let film = Film::new(MIDNIGHT, 5);
        let (_directory, path) = stored(&film.bytes);
        let contents = playable(mend(&path).unwrap());
        assert_eq!(contents.keyframes, film.keyframes);
        assert_eq!((contents.end_unix_ms, contents.bytes), (film.end_unix_ms(), film.bytes.len() as u64));
        assert_eq!((contents.codec, contents.tail), (Codec::H264, None));
        assert_eq!(std::fs::read(path).unwrap(), film.bytes);
    }

    #[test]
    fn wherever_a_file_is_torn_its_whole_fragments_stay() {
        let film = Film::new(MIDNIGHT, 2);
        for length in 0..=film.bytes.len() {
            let (_directory, path) = stored(&film.bytes[..length]);
            let whole = film.ends[1..].iter().filter(|end| **end <= length).count();
            match mend(&path).unwrap() {
                Found::Playable(contents) => {
                    assert_eq!(contents.keyframes, film.keyframes[..whole], "{length}");
                    assert_eq!(contents.bytes, film.ends[whole] as u64, "{length}");
                    assert_eq!(path.metadata().unwrap().len(), contents.bytes);
                }
                Found::Empty => assert!(whole == 0 && !path.exists(), "{length}"),
                // A few bytes that might be anybody's.
                Found::Foreign(_) => assert!((1..8).contains(&length) && path.exists(), "{length}"),
                Found::Gone => panic!("{length}"),
            }
        }
    }

    #[test]
    fn a_fragment_that_was_never_written_is_not_whole() {
        let film = Film::new(MIDNIGHT, 3);
        for (zeros, whole) in [(1, 3), (66, 2), (140, 2), (220, 2)] {
            let mut bytes = film.bytes.clone();
            let length = bytes.len();
            bytes[length - zeros..].fill(0);
            let (_directory, path) = stored(&bytes);
            assert_eq!(playable(mend(&path).unwrap()).bytes, film.ends[whole] as u64, "{zeros}");
        }
    }

    #[test]
    fn zeros_behind_the_last_fragment_are_cut_off() {
        let film = Film::new(MIDNIGHT, 3);
        let mut bytes = film.bytes.clone();
        bytes.resize(bytes.len() + 5000, 0);
        let (_directory, path) = stored(&bytes);
        playable(mend(&path).unwrap());
        assert_eq!(std::fs::read(path).unwrap(), film.bytes);
    }

    #[test]
    fn no_flipped_bit_is_a_panic_or_a_loop() {
        let film = Film::new(MIDNIGHT, 2);
        let (_directory, path) = stored(&film.bytes);
        let file = folder::open_regular(&path, true).unwrap();
        for bit in 0..film.bytes.len() * 8 {
            let (at, byte) = (bit / 8, film.bytes[bit / 8]);
            file.write_all_at(&[byte ^ 1 << (bit % 8)], at as u64).unwrap();
            if let Found::Playable(contents) = examine(&file).unwrap() {
                assert!(contents.bytes <= film.bytes.len() as u64 && !contents.keyframes.is_empty());
            }
            file.write_all_at(&[byte], at as u64).unwrap();
        }
    }

    #[test]
    fn foreign_files_stay_where_they_are() {
        let film = Film::new(MIDNIGHT, 2);
        let foreign: [&[u8]; 5] =
            [b"x", b"not a film at all", &[0; 10_000], &[0xff; 10_000], &film.bytes[film.ends[0]..]];
        for bytes in foreign {
            let (_directory, path) = stored(bytes);
            assert!(matches!(mend(&path).unwrap(), Found::Foreign(_)));
            assert!(matches!(mend_unknown(&path).unwrap(), Found::Foreign(_)));
            assert_eq!(std::fs::read(path).unwrap(), bytes);
        }
    }

    #[test]
    fn a_damaged_middle_of_a_file_that_nobody_wrote_to_is_not_cut() {
        let film = Film::new(MIDNIGHT, 5);
        let mut bytes = film.bytes.clone();
        bytes[film.ends[2] + 4] ^= 0x20;
        let (_directory, path) = stored(&bytes);
        let contents = playable(mend_unknown(&path).unwrap());
        assert_eq!(contents.bytes, film.ends[2] as u64);
        assert_eq!(std::fs::read(path).unwrap(), bytes);
    }

    #[tokio::test]
    async fn a_start_mends_what_was_being_written_and_touches_nothing_else() {
        let place = Place::new();
        let catalog = place.open();
        place.record(&catalog, &text("a"), MIDNIGHT, 30);
        let film = Film::new(MIDNIGHT + MINUTE, 9);
        let (torn, file) = place.begin(&catalog, &text("a"), film.start);
        file.write_all_at(&film.bytes[..film.bytes.len() - 7], 0).unwrap();
        // Of these nothing reached the disk, or something that is not ours.
        place.begin(&catalog, &text("empty"), MIDNIGHT);
        let (_, foreign) = place.begin(&catalog, &text("foreign"), MIDNIGHT);
        foreign.write_all_at(&[7; 100], 0).unwrap();
        let (_, gone) = place.begin(&catalog, &text("gone"), MIDNIGHT);
        drop(gone);
        catalog.close();
        let files = place.files();
        let of = |name: &str| place.folder().join(files.iter().find(|file| file.starts_with(name)).unwrap());
        std::fs::remove_file(of("gone")).unwrap();
        // A closed file is not read, so what is in it does not matter here.
        let closed = place.folder().join(&files[0]);
        let length = closed.metadata().unwrap().len();
        std::fs::write(&closed, vec![b'x'; length as usize]).unwrap();

        let catalog = place.open();
        let found = place.locate(&catalog, &text("a"), Wanted::At(film.start)).unwrap();
        let extent = found.closed.unwrap();
        assert_eq!((found.segment, extent.bytes), (torn, film.ends[8] as u64));
        assert_eq!(extent.keyframes, film.keyframes[..8]);
        assert_eq!(extent.end_unix_ms, film.start + 16_000);
        assert_eq!(catalog.summary(&text("a")).segments, 2);
        for name in ["empty", "foreign", "gone"] {
            assert_eq!(catalog.summary(&text(name)), super::super::Summary::default());
        }
        assert_eq!(std::fs::read(of("foreign")).unwrap(), [7; 100]);
        assert_eq!(std::fs::read(closed).unwrap(), vec![b'x'; length as usize]);
        assert_eq!(place.files().len(), 3);
    }
}
