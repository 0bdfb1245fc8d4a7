//! The init segment (ISO/IEC 14496-12 sections 4.3, 8.2 to 8.5, 8.8): `ftyp`, a `uuid` box of ours, `moov` without samples.
//!
//! `mp4-atom` writes it and reads the boxes that have no boxes in them. The walk through those that do is here: that crate's
//! calls itself for each level, so that a file of nested boxes would overflow the stack.

use bytes::{BufMut, Bytes};
use mp4_atom::{
    Atom, Avc1, Decode, Dinf, Dref, Encode, FourCC, Ftyp, Hdlr, Hvc1, Mdhd, Mdia, Minf, Moov, Mvex, Mvhd,
    Stbl, Stco, Stsd, Tkhd, Trak, Trex, Url, Visual, Vmhd,
};

use super::boxes::{BoxHeader, HEADER_LEN, Mp4Box};
use super::{InitSegment, Mp4Error, Parsed, TIMESCALE, TRACK_ID, configuration};
use crate::codec::{Codec, ParameterSets};

/// Bytes of an init segment: twice what parameter sets can have, which are nearly all of it.
pub const MAX_INIT_BYTES: usize = 64 * 1024;

/// The init segment.
///
/// Without complete parameter sets no reader takes it, here or elsewhere.
pub fn write_init(init: &InitSegment) -> Bytes {
    let mut out = Vec::with_capacity(TYPICAL_LEN);
    // mp4-atom refuses numbers that have not the bits that the format has for them. Those here are constants, and
    // those from parameter sets are kept within their bits in `configuration`.
    encode(&ftyp(), &mut out);
    put_creation(&mut out, init.creation_unix_ms);
    encode(&moov(init), &mut out);
    out.into()
}

fn encode(atom: &impl Encode, out: &mut Vec<u8>) {
    atom.encode(out).expect("all numbers within their bits");
}

/// `iso6` has what the fragments need: default-base-is-moof, `tfdt`, signed composition offsets. Older brands than `iso5`
/// promise readers that the first of these is not there. `mp41` is for those that look for a brand of MP4's.
fn ftyp() -> Ftyp {
    Ftyp { major_brand: ISO6, minor_version: 0, compatible_brands: vec![ISO6, FourCC::new(b"mp41")] }
}

/// `mvhd` has whole seconds only, and we want milliseconds.
fn put_creation(out: &mut Vec<u8>, unix_ms: i64) {
    out.put_u32(CREATION_LEN);
    out.put_slice(b"uuid");
    out.put_slice(&CREATION_UUID);
    out.put_i64(unix_ms);
}

fn moov(init: &InitSegment) -> Moov {
    let creation_time = mp4_seconds(init.creation_unix_ms);
    Moov {
        mvhd: Mvhd {
            creation_time,
            modification_time: creation_time,
            timescale: TIMESCALE,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: TRACK_ID + 1,
            ..Mvhd::default()
        },
        mvex: Some(Mvex {
            mehd: None,
            trex: vec![Trex { track_id: TRACK_ID, default_sample_description_index: 1, ..Trex::default() }],
        }),
        trak: vec![trak(init, creation_time)],
        ..Moov::default()
    }
}

fn trak(init: &InitSegment, creation_time: u64) -> Trak {
    Trak {
        tkhd: Tkhd {
            creation_time,
            modification_time: creation_time,
            track_id: TRACK_ID,
            enabled: true,
            in_movie: true,
            width: init.width.into(),
            height: init.height.into(),
            ..Tkhd::default()
        },
        mdia: Mdia {
            mdhd: Mdhd {
                creation_time,
                modification_time: creation_time,
                timescale: TIMESCALE,
                duration: 0,
                language: "und".to_owned(),
            },
            hdlr: Hdlr { handler: FourCC::new(b"vide"), name: "Video".to_owned() },
            minf: Minf {
                vmhd: Some(Vmhd::default()),
                dinf: Dinf { dref: Dref { entries: vec![Url::default().into()] } },
                stbl: Stbl {
                    stsd: Stsd { codecs: vec![sample_entry(init)] },
                    stco: Some(Stco::default()),
                    ..Stbl::default()
                },
                ..Minf::default()
            },
        },
        ..Trak::default()
    }
}

fn sample_entry(init: &InitSegment) -> mp4_atom::Codec {
    let sets = &init.parameter_sets;
    let visual =
        Visual { data_reference_index: 1, width: init.width, height: init.height, ..Visual::default() };
    match sets.codec() {
        Codec::H264 => Avc1 { visual, avcc: configuration::avcc(sets), ..Avc1::default() }.into(),
        Codec::H265 => Hvc1 { visual, hvcc: configuration::hvcc(sets), ..Hvc1::default() }.into(),
    }
}

/// Whole seconds since 1904.
fn mp4_seconds(unix_ms: i64) -> u64 {
    u64::try_from(unix_ms.div_euclid(1000).saturating_add(UNIX_EPOCH_MP4)).unwrap_or(0)
}

fn unix_ms(mp4_seconds: u64) -> Option<i64> {
    i64::try_from(mp4_seconds).ok()?.checked_sub(UNIX_EPOCH_MP4)?.checked_mul(1000)
}

/// The init segment at the start of `bytes`.
///
/// # Errors
/// Where it is none of ours, or over [`MAX_INIT_BYTES`].
pub fn parse_init(bytes: &[u8]) -> Result<Parsed<InitSegment>, Mp4Error> {
    let (mut at, mut creation_unix_ms) = (0, None);
    loop {
        let Some(header) = BoxHeader::read(bytes, at, MAX_INIT_BYTES)? else {
            return incomplete(at, HEADER_LEN);
        };
        let known = match &header.kind {
            b"ftyp" => at == 0,
            _ if at == 0 => return Err(Mp4Error { what: "no ftyp at the start", offset: 0 }),
            b"mdat" | b"moof" | b"prft" => return Err(Mp4Error { what: "media before moov", offset: at }),
            b"moov" | b"uuid" => true,
            _ => false,
        };
        if known {
            let Some(found) = header.whole(bytes) else { return incomplete(at, header.end - at) };
            match &header.kind {
                b"ftyp" => read_ftyp(&found)?,
                b"moov" => {
                    return Ok(Parsed::Whole {
                        part: read_moov(&found, creation_unix_ms)?,
                        bytes: header.end,
                    });
                }
                _ => creation_unix_ms = read_creation(&found)?.or(creation_unix_ms),
            }
        }
        at = header.end;
    }
}

/// Of something at `at` that has `len` bytes.
fn incomplete(at: usize, len: usize) -> Result<Parsed<InitSegment>, Mp4Error> {
    let bytes_wanted = at + len;
    if bytes_wanted > MAX_INIT_BYTES {
        return Err(Mp4Error { what: "an init segment that is too large", offset: at });
    }
    Ok(Parsed::Incomplete { bytes_wanted })
}

fn read_ftyp(ftyp: &Mp4Box<'_>) -> Result<(), Mp4Error> {
    let brands = leaf::<Ftyp>(ftyp, "ftyp")?.compatible_brands;
    if brands.contains(&ISO6) {
        return Ok(());
    }
    Err(Mp4Error { what: "a file of another brand", offset: ftyp.body_at })
}

/// `None` of a `uuid` box that is not ours.
fn read_creation(found: &Mp4Box<'_>) -> Result<Option<i64>, Mp4Error> {
    let mut fields = found.fields();
    if fields.take()? != CREATION_UUID {
        return Ok(None);
    }
    let unix_ms = fields.i64()?;
    fields.end()?;
    Ok(Some(unix_ms))
}

fn read_moov(moov: &Mp4Box<'_>, creation_unix_ms: Option<i64>) -> Result<InitSegment, Mp4Error> {
    let mvhd_box = moov.only_child(b"mvhd", "no mvhd in moov")?;
    let mvhd: Mvhd = leaf(&mvhd_box, "mvhd")?;
    let mvex = moov.only_child(b"mvex", "a file without fragments")?;
    let trak = moov.only_child(b"trak", "no track")?;

    let trex_box = mvex.only_child(b"trex", "no trex in mvex")?;
    let trex: Trex = leaf(&trex_box, "trex")?;
    if trex.track_id != TRACK_ID || trex.default_sample_description_index != 1 {
        return Err(Mp4Error { what: "trex of another track", offset: trex_box.body_at });
    }
    let (visual, parameter_sets) = read_trak(&trak)?;
    Ok(InitSegment {
        parameter_sets,
        width: visual.width,
        height: visual.height,
        creation_unix_ms: creation_unix_ms
            .or_else(|| unix_ms(mvhd.creation_time))
            .ok_or(Mp4Error { what: "a creation time that is too late", offset: mvhd_box.body_at })?,
    })
}

fn read_trak(trak: &Mp4Box<'_>) -> Result<(Visual, ParameterSets), Mp4Error> {
    let tkhd = trak.only_child(b"tkhd", "no tkhd in trak")?;
    if leaf::<Tkhd>(&tkhd, "tkhd")?.track_id != TRACK_ID {
        return Err(Mp4Error { what: "another track", offset: tkhd.body_at });
    }
    let mdia = trak.only_child(b"mdia", "no mdia in trak")?;
    let mdhd = mdia.only_child(b"mdhd", "no mdhd in mdia")?;
    if leaf::<Mdhd>(&mdhd, "mdhd")?.timescale != TIMESCALE {
        return Err(Mp4Error { what: "another timescale", offset: mdhd.body_at });
    }
    let mut hdlr = mdia.only_child(b"hdlr", "no hdlr in mdia")?.fields();
    hdlr.expect_u32(0, "version or flags of hdlr")?;
    hdlr.u32()?;
    hdlr.expect_u32(u32::from_be_bytes(*b"vide"), "no video track")?;

    let minf = mdia.only_child(b"minf", "no minf in mdia")?;
    let stbl = minf.only_child(b"stbl", "no stbl in minf")?;
    let mut stsz = stbl.only_child(b"stsz", "no stsz in stbl")?.fields();
    stsz.expect_u32(0, "version or flags of stsz")?;
    stsz.u32()?;
    stsz.expect_u32(0, "samples outside of fragments")?;
    read_stsd(&stbl.only_child(b"stsd", "no stsd in stbl")?)
}

fn read_stsd(stsd: &Mp4Box<'_>) -> Result<(Visual, ParameterSets), Mp4Error> {
    let mut fields = stsd.fields();
    fields.expect_u32(0, "version or flags of stsd")?;
    fields.expect_u32(1, "more than one sample description, or none")?;
    let mut entries = fields.children();
    let offset = stsd.body_at;
    let entry = entries.next()?.ok_or(Mp4Error { what: "no sample description", offset })?;
    entries.end()?;

    let Some((visual_bytes, _)) = entry.body.split_at_checked(VISUAL_LEN) else {
        return Err(Mp4Error { what: "a sample description that ends too early", offset: entry.body_at });
    };
    let visual = Visual::decode(&mut &visual_bytes[..])
        .map_err(|_| Mp4Error { what: "a sample description that cannot be read", offset: entry.body_at })?;
    let rest = Mp4Box { body: &entry.body[VISUAL_LEN..], body_at: entry.body_at + VISUAL_LEN, ..entry };
    let (record, sets) = match &entry.kind {
        b"avc1" => {
            let record = rest.only_child(b"avcC", "no avcC in avc1")?;
            (record, configuration::sets_of_avcc(leaf(&record, "avcC")?))
        }
        b"hvc1" => {
            let record = rest.only_child(b"hvcC", "no hvcC in hvc1")?;
            (record, configuration::sets_of_hvcc(leaf(&record, "hvcC")?))
        }
        _ => return Err(Mp4Error { what: "another codec than H.264 or H.265", offset: entry.body_at }),
    };
    let sets = sets.ok_or(Mp4Error { what: "parameter sets that cannot be used", offset: record.body_at })?;
    Ok((visual, sets))
}

/// A box without boxes in it.
fn leaf<T: Atom>(found: &Mp4Box<'_>, what: &'static str) -> Result<T, Mp4Error> {
    let error = Mp4Error { what, offset: found.body_at };
    let mut rest = found.body;
    match T::decode_body(&mut rest) {
        Ok(atom) if rest.is_empty() => Ok(atom),
        _ => Err(error),
    }
}

const ISO6: FourCC = FourCC::new(b"iso6");

/// What `VisualSampleEntry` has before its boxes (section 12.1.3.2).
const VISUAL_LEN: usize = 78;

/// Room for an init segment of one SPS and PPS.
const TYPICAL_LEN: usize = 1024;

/// Seconds from 1904 to 1970.
const UNIX_EPOCH_MP4: i64 = 2_082_844_800;

/// Our `uuid` box: the file's creation in milliseconds since 1970, 64 bits, signed.
const CREATION_UUID: [u8; 16] =
    [0x6b, 0x1f, 0x0c, 0x5e, 0x97, 0x3a, 0x4d, 0x0e, 0x8e, 0x52, 0x2c, 0xc4, 0x11, 0xd9, 0x7a, 0x60];

const CREATION_LEN: u32 = 8 + 16 + 8;
