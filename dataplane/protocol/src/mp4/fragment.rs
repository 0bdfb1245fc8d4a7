//! What stands before the samples of a fragment: `prft`, `moof` and the header of `mdat` (ISO/IEC 14496-12 sections 8.8 and
//! 8.16.5).
//!
//! ```text
//! prft                 version 1, flags 24: the time of day of the media, at the decode time of the first sample
//! moof  mfhd           sequence number
//!       traf  tfhd     default-base-is-moof
//!             tfdt     version 1: 64-bit decode time
//!             trun     version 1: duration, size, flags and signed composition offset of each sample
//! mdat                 its size is the samples' sum
//! ```
//!
//! The reader takes these boxes in this order and no others in them; before `prft` and before `moof` there may be any that
//! it does not know. Not here: the samples' bytes.

use bytes::{BufMut, Bytes};

use super::boxes::{BoxHeader, Fields, HEADER_LEN, Mp4Box};
use super::{FragmentHeader, Mp4Error, Parsed, Sample, TRACK_ID, ntp};

/// Bytes before the samples, with boxes that the reader skips: the longest header of ours is an eighth of it.
pub const MAX_FRAGMENT_HEADER_BYTES: usize = 1 << 20;

/// Samples of a fragment: two seconds, which a fragment has at most, at 4000 pictures a second.
pub const MAX_FRAGMENT_SAMPLES: usize = 8192;

/// Bytes of all samples of a fragment: two seconds at 1 Gb/s.
pub const MAX_FRAGMENT_BYTES: u64 = 256 << 20;

/// The latest decode time of a fragment's first sample: 99 years, so that no sum of times overflows.
pub const MAX_BASE_DECODE_90K: u64 = 1 << 48;

/// `prft`, `moof` and the header of `mdat`; the samples' bytes follow.
///
/// One that has no samples, or is over [`MAX_FRAGMENT_SAMPLES`], [`MAX_FRAGMENT_BYTES`] or [`MAX_BASE_DECODE_90K`], is a
/// bug of the caller: no reader here takes it.
pub fn write_fragment_header(header: &FragmentHeader) -> Bytes {
    debug_assert!((1..=MAX_FRAGMENT_SAMPLES).contains(&header.samples.len()));
    debug_assert!(header.sample_bytes() <= MAX_FRAGMENT_BYTES);
    debug_assert!(header.base_decode_90k <= MAX_BASE_DECODE_90K);
    let trun_len = TRUN_LEN + SAMPLE_LEN * header.samples.len();
    let traf_len = HEADER_LEN + TFHD_LEN + TFDT_LEN + trun_len;
    let moof_len = HEADER_LEN + MFHD_LEN + traf_len;
    let mut out = Vec::with_capacity(PRFT_LEN + moof_len + HEADER_LEN);
    put_prft(&mut out, header);
    put_box(&mut out, moof_len, b"moof");
    put_box(&mut out, MFHD_LEN, b"mfhd");
    out.put_u32(0);
    out.put_u32(header.sequence_number);
    put_box(&mut out, traf_len, b"traf");
    put_box(&mut out, TFHD_LEN, b"tfhd");
    out.put_u32(DEFAULT_BASE_IS_MOOF);
    out.put_u32(TRACK_ID);
    put_box(&mut out, TFDT_LEN, b"tfdt");
    out.put_u32(VERSION_1);
    out.put_u64(header.base_decode_90k);
    put_box(&mut out, trun_len, b"trun");
    out.put_u32(TRUN_FLAGS);
    out.put_u32(saturate(header.samples.len()));
    out.put_u32(saturate(moof_len + HEADER_LEN));
    for sample in &header.samples {
        put_sample(&mut out, sample);
    }
    let sample_bytes = usize::try_from(header.sample_bytes()).unwrap_or(usize::MAX);
    put_box(&mut out, HEADER_LEN.saturating_add(sample_bytes), b"mdat");
    out.into()
}

fn put_box(out: &mut Vec<u8>, len: usize, kind: &[u8; 4]) {
    out.put_u32(saturate(len));
    out.put_slice(kind);
}

fn put_prft(out: &mut Vec<u8>, header: &FragmentHeader) {
    put_box(out, PRFT_LEN, b"prft");
    out.put_u32(PRFT_FLAGS);
    out.put_u32(TRACK_ID);
    out.put_u64(ntp::from_unix_ms(header.unix_ms));
    out.put_u64(header.base_decode_90k);
}

fn put_sample(out: &mut Vec<u8>, sample: &Sample) {
    let mut entry = [0; SAMPLE_LEN];
    entry[..4].copy_from_slice(&sample.duration_90k.to_be_bytes());
    entry[4..8].copy_from_slice(&sample.bytes.to_be_bytes());
    let flags = if sample.sync { SYNC_SAMPLE } else { OTHER_SAMPLE };
    entry[8..12].copy_from_slice(&flags.to_be_bytes());
    entry[12..].copy_from_slice(&sample.composition_offset_90k.to_be_bytes());
    out.put_slice(&entry);
}

/// Lengths within the bounds fit.
fn saturate(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// The header of the fragment at the start of `bytes`.
///
/// `bytes` of [`Parsed::Whole`] reaches from there to the first sample: boxes before the fragment that are not known here
/// are in it. The next fragment follows the samples, [`FragmentHeader::sample_bytes`] further.
///
/// # Errors
/// Where it is none, or over one of the bounds.
pub fn parse_fragment_header(bytes: &[u8]) -> Result<Parsed<FragmentHeader>, Mp4Error> {
    let (mut at, mut time) = (0, None);
    loop {
        // At least one box header follows whatever precedes the samples.
        let limit = MAX_FRAGMENT_HEADER_BYTES - HEADER_LEN;
        let Some(header) = BoxHeader::read(bytes, at, limit)? else { return Ok(incomplete(at)) };
        match (&header.kind, time) {
            (b"prft", None) | (b"moof", Some(_)) => {}
            (b"prft", Some(_)) => return Err(Mp4Error { what: "a second prft before moof", offset: at }),
            (b"moof", None) => return Err(Mp4Error { what: "moof without prft", offset: at }),
            (b"mdat" | b"moov" | b"ftyp", _) => {
                return Err(Mp4Error { what: "no fragment where one should be", offset: at });
            }
            _ => {
                at = header.end;
                continue;
            }
        }
        let Some(found) = header.whole(bytes) else { return Ok(incomplete(header.end)) };
        match time {
            None => time = Some(ReferenceTime::read(&found)?),
            Some(time) => return read_fragment(bytes, at, &found, time),
        }
        at = header.end;
    }
}

/// Of a box header at `at`.
fn incomplete(at: usize) -> Parsed<FragmentHeader> {
    Parsed::Incomplete { bytes_wanted: (at + HEADER_LEN).max(MIN_LEN) }
}

/// From `moof`, which begins at `moof_at`.
fn read_fragment(
    bytes: &[u8],
    moof_at: usize,
    moof: &Mp4Box<'_>,
    time: ReferenceTime,
) -> Result<Parsed<FragmentHeader>, Mp4Error> {
    let mdat_at = moof.body_at + moof.body.len();
    let Some(mdat) = BoxHeader::read(bytes, mdat_at, usize::MAX)? else { return Ok(incomplete(mdat_at)) };
    if mdat.kind != *b"mdat" {
        return Err(Mp4Error { what: "no mdat behind moof", offset: mdat_at });
    }
    let samples_at = mdat_at + HEADER_LEN;
    let header = read_moof(moof, samples_at - moof_at, time)?;
    if u64::try_from(mdat.end - samples_at) != Ok(header.sample_bytes()) {
        return Err(Mp4Error { what: "mdat is not as long as its samples", offset: mdat_at });
    }
    Ok(Parsed::Whole { part: header, bytes: samples_at })
}

/// `data_offset` is where the samples must be, from the start of `moof`.
fn read_moof(moof: &Mp4Box<'_>, data_offset: usize, time: ReferenceTime) -> Result<FragmentHeader, Mp4Error> {
    let mut boxes = moof.children();
    let mut mfhd = boxes.expect(b"mfhd", "no mfhd in moof")?.fields();
    let traf = boxes.expect(b"traf", "no traf in moof")?;
    boxes.end()?;
    mfhd.expect_u32(0, "version or flags of mfhd")?;
    let sequence_number = mfhd.u32()?;
    mfhd.end()?;

    let mut boxes = traf.children();
    let mut tfhd = boxes.expect(b"tfhd", "no tfhd in traf")?.fields();
    let mut tfdt = boxes.expect(b"tfdt", "no tfdt in traf")?.fields();
    let trun = boxes.expect(b"trun", "no trun in traf")?;
    boxes.end()?;
    tfhd.expect_u32(DEFAULT_BASE_IS_MOOF, "version or flags of tfhd")?;
    tfhd.expect_u32(TRACK_ID, "a fragment of another track")?;
    tfhd.end()?;
    tfdt.expect_u32(VERSION_1, "version or flags of tfdt")?;
    let at = tfdt.at();
    let base_decode_90k = tfdt.u64()?;
    tfdt.end()?;
    if base_decode_90k > MAX_BASE_DECODE_90K {
        return Err(Mp4Error { what: "a decode time that is too late", offset: at });
    }
    if base_decode_90k != time.media_90k {
        return Err(Mp4Error { what: "prft of another decode time", offset: at });
    }
    let samples = read_trun(&trun, data_offset)?;
    Ok(FragmentHeader { sequence_number, base_decode_90k, unix_ms: time.unix_ms, samples })
}

fn read_trun(trun: &Mp4Box<'_>, data_offset: usize) -> Result<Vec<Sample>, Mp4Error> {
    let mut fields = trun.fields();
    fields.expect_u32(TRUN_FLAGS, "version or flags of trun")?;
    let (count_at, count) = (fields.at(), usize::try_from(fields.u32()?).unwrap_or(usize::MAX));
    fields.expect_u32(saturate(data_offset), "samples that are elsewhere")?;
    if !(1..=MAX_FRAGMENT_SAMPLES).contains(&count) {
        return Err(Mp4Error { what: "no samples, or too many", offset: count_at });
    }
    if fields.left() != count * SAMPLE_LEN {
        return Err(Mp4Error { what: "trun is not as long as its samples say", offset: count_at });
    }
    let mut samples = Vec::with_capacity(count);
    let mut sample_bytes = 0;
    for _ in 0..count {
        let at = fields.at();
        let sample = read_sample(&mut fields)?;
        sample_bytes += u64::from(sample.bytes);
        if sample_bytes > MAX_FRAGMENT_BYTES {
            return Err(Mp4Error { what: "too many bytes in the samples", offset: at });
        }
        samples.push(sample);
    }
    Ok(samples)
}

fn read_sample(fields: &mut Fields<'_>) -> Result<Sample, Mp4Error> {
    let duration_90k = fields.u32()?;
    let bytes = fields.u32()?;
    let at = fields.at();
    let sync = match fields.u32()? {
        SYNC_SAMPLE => true,
        OTHER_SAMPLE => false,
        _ => return Err(Mp4Error { what: "flags of a sample", offset: at }),
    };
    Ok(Sample { bytes, duration_90k, composition_offset_90k: fields.i32()?, sync })
}

/// What `prft` says.
#[derive(Clone, Copy)]
struct ReferenceTime {
    unix_ms: i64,
    media_90k: u64,
}

impl ReferenceTime {
    fn read(prft: &Mp4Box<'_>) -> Result<Self, Mp4Error> {
        let mut fields = prft.fields();
        fields.expect_u32(PRFT_FLAGS, "version or flags of prft")?;
        fields.expect_u32(TRACK_ID, "prft of another track")?;
        let unix_ms = ntp::to_unix_ms(fields.u64()?);
        let media_90k = fields.u64()?;
        fields.end()?;
        Ok(Self { unix_ms, media_90k })
    }
}

/// Version and flags are one field of 32 bits.
const VERSION_1: u32 = 1 << 24;

/// Version 1; consistent and real-time: the time of day at which what is seen happened.
const PRFT_FLAGS: u32 = VERSION_1 | 0x18;

const DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;

/// Version 1; data offset, and duration, size, flags and composition offset of each sample.
const TRUN_FLAGS: u32 = VERSION_1 | 0x0f01;

/// Needs no other sample.
const SYNC_SAMPLE: u32 = 0x0200_0000;

/// Needs others, is no sync sample.
const OTHER_SAMPLE: u32 = 0x0101_0000;

const PRFT_LEN: usize = HEADER_LEN + 24;
const MFHD_LEN: usize = HEADER_LEN + 8;
const TFHD_LEN: usize = HEADER_LEN + 8;
const TFDT_LEN: usize = HEADER_LEN + 12;
const TRUN_LEN: usize = HEADER_LEN + 12;
const SAMPLE_LEN: usize = 16;

/// The shortest header: one sample.
const MIN_LEN: usize =
    PRFT_LEN + HEADER_LEN + MFHD_LEN + HEADER_LEN + TFHD_LEN + TFDT_LEN + TRUN_LEN + SAMPLE_LEN + HEADER_LEN;
