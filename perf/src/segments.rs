//! Recorded files as they lie in a folder: what is in them, by a walk over their boxes that shares no code with the server
//! (ISO/IEC 14496-12, 4.2 and 8.8.8), and how much of them is in memory.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde::Serialize;

/// What some files hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// Files.
    pub files: u64,
    /// Their lengths.
    pub bytes: u64,
    /// Fragments.
    pub fragments: u64,
    /// Access units, as their tables tell.
    pub samples: u64,
    /// Bytes of the samples, as their tables tell; the same as what is there to hold them.
    pub sample_bytes: u64,
}

/// The files of a folder and those below it.
///
/// # Errors
/// When it cannot be read.
pub fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.append(&mut files(&path)?),
            false => found.push(path),
        }
    }
    Ok(found)
}

/// Reads the MP4 files of a folder box by box.
///
/// # Errors
/// When one is cut, or its tables tell of other bytes than there are.
pub fn contents(folder: &Path) -> anyhow::Result<Contents> {
    let mut contents = Contents::default();
    for path in files(folder)?.iter().filter(|path| path.extension().is_some_and(|end| end == "mp4")) {
        let length = fs::metadata(path)?.len();
        contents.files += 1;
        contents.bytes += length;
        let file = File::open(path)?;
        walk(file, length, &mut contents).with_context(|| path.display().to_string())?;
    }
    Ok(contents)
}

fn walk(mut file: impl Read + Seek, length: u64, contents: &mut Contents) -> anyhow::Result<()> {
    let (mut at, mut told) = (0, 0);
    while at < length {
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; 8];
        file.read_exact(&mut head).context("the file is cut in a box's head")?;
        let size = u64::from(read_u32(&head, 0)?);
        anyhow::ensure!(size >= 8 && at + size <= length, "a box of {size} bytes at {at}");
        match &head[4..] {
            b"moof" => {
                let mut bytes = vec![0; size as usize - 8];
                file.read_exact(&mut bytes)?;
                let (samples, sample_bytes) = table(&bytes)?;
                contents.fragments += 1;
                contents.samples += samples;
                contents.sample_bytes += sample_bytes;
                told = sample_bytes;
            }
            b"mdat" => anyhow::ensure!(size - 8 == told, "{} bytes of samples, told are {told}", size - 8),
            _ => {}
        }
        at += size;
    }
    Ok(())
}

/// Samples, and their bytes, of the `trun` in a `moof`.
fn table(moof: &[u8]) -> anyhow::Result<(u64, u64)> {
    let traf = child(moof, b"traf").context("no traf")?;
    let trun = child(traf, b"trun").context("no trun")?;
    let flags = read_u32(trun, 0)? & 0x00ff_ffff;
    let samples = u64::from(read_u32(trun, 4)?);
    anyhow::ensure!(flags & SAMPLE_SIZES != 0, "samples without sizes");
    let fixed = 8 + 4 * (flags & 0xff).count_ones() as usize;
    let stride = 4 * (flags >> 8).count_ones() as usize;
    let size_at = 4 * (flags >> 8 & 1) as usize;
    let sizes = (0..samples as usize).map(|sample| read_u32(trun, fixed + sample * stride + size_at));
    let bytes = sizes.map(|size| Ok(u64::from(size?))).sum::<anyhow::Result<u64>>()?;
    Ok((samples, bytes))
}

const SAMPLE_SIZES: u32 = 0x200;

/// The contents of the first box of that name.
fn child<'a>(mut boxes: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    loop {
        let size = read_u32(boxes, 0).ok()? as usize;
        let whole = boxes.get(..size).filter(|whole| whole.len() >= 8)?;
        if &whole[4..8] == name {
            return Some(&whole[8..]);
        }
        boxes = &boxes[size..];
    }
}

fn read_u32(bytes: &[u8], at: usize) -> anyhow::Result<u32> {
    let field = bytes.get(at..at + 4).context("a box is too short")?;
    Ok(u32::from_be_bytes([field[0], field[1], field[2], field[3]]))
}

/// Has the kernel forget what it has of the files in a folder, as far as it is on disk; the folders it keeps.
///
/// # Errors
/// When a file cannot be opened.
pub fn evict(folder: &Path) -> anyhow::Result<()> {
    for path in files(folder)? {
        let file = File::open(&path)?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}

/// Has the kernel read all files of a folder.
///
/// # Errors
/// When one cannot be read.
pub fn warm(folder: &Path) -> anyhow::Result<()> {
    for path in files(folder)? {
        std::io::copy(&mut File::open(path)?, &mut std::io::sink())?;
    }
    Ok(())
}

/// Bytes that are free where a folder is.
///
/// # Errors
/// When it is not there.
pub fn free_bytes(folder: &Path) -> anyhow::Result<u64> {
    let status = nix::sys::statvfs::statvfs(folder)?;
    Ok(status.blocks_available() * status.fragment_size())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn boxed(name: &[u8; 4], contents: &[u8]) -> Vec<u8> {
        let mut bytes = (contents.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend(name);
        bytes.extend(contents);
        bytes
    }

    /// Two samples with duration, size, flags and composition offset, behind a data offset.
    fn fragment(sizes: [u32; 2]) -> Vec<u8> {
        let fields = [0xf01, 2, 100, 3600, sizes[0], 0, 0, 3600, sizes[1], 0, 0];
        let trun: Vec<u8> = fields.iter().flat_map(|field: &u32| field.to_be_bytes()).collect();
        let traf = [boxed(b"tfhd", &[0; 8]), boxed(b"trun", &trun)].concat();
        let moof = [boxed(b"mfhd", &[0; 8]), boxed(b"traf", &traf)].concat();
        [boxed(b"moof", &moof), boxed(b"mdat", &vec![7; (sizes[0] + sizes[1]) as usize])].concat()
    }

    fn walked(bytes: &[u8]) -> anyhow::Result<Contents> {
        let mut contents = Contents::default();
        walk(Cursor::new(bytes), bytes.len() as u64, &mut contents).map(|()| contents)
    }

    #[test]
    fn samples_and_their_bytes_are_counted() {
        let file = [boxed(b"ftyp", &[0; 4]), fragment([10, 20]), fragment([5, 0])].concat();
        let expected = Contents { fragments: 2, samples: 4, sample_bytes: 35, ..Contents::default() };
        assert_eq!(walked(&file).expect("whole"), expected);
    }

    #[test]
    fn a_file_that_is_cut_is_told() {
        let file = fragment([10, 20]);
        assert!(walked(&file[..file.len() - 1]).is_err());
        assert!(walked(&file[..20]).is_err());
        assert!(walked(&file[..4]).is_err());
        assert!(walked(&[fragment([10, 20]), vec![0; 8]].concat()).is_err());
    }
}
