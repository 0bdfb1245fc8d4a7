//! NAL units of a container's packets, and the parameter sets of its decoder configuration: `avcC`, `hvcC` (ISO/IEC 14496-15
//! sections 5.3.3.1 and 8.3.3.1) or Annex B. Hostile input: what is not whole is left out.

use bytes::{Buf, Bytes};
use lanecast_protocol::codec::{Codec, Nal, ParameterSets, has_start_code, split_annex_b};

/// How a packet holds its NAL units, and the parameter sets outside of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Configuration {
    /// Bytes of the length before each NAL unit; `None` says start codes.
    length_size: Option<usize>,
    /// Out of band; may be incomplete.
    pub(super) parameter_sets: ParameterSets,
}

impl Configuration {
    /// Reads a decoder configuration: a record, start codes, or nothing.
    pub(super) fn read(codec: Codec, extradata: Bytes) -> Self {
        let record = match codec {
            Codec::H264 => avcc(&extradata),
            Codec::H265 => hvcc(&extradata),
        };
        let (length_size, nals) = match record {
            Some((length_size, nals)) => (Some(length_size), nals),
            None => (None, split_annex_b(extradata).collect()),
        };
        let mut parameter_sets = ParameterSets::new(codec);
        for nal in nals {
            parameter_sets.handle_nal(&Nal::from_bytes(nal));
        }
        Self { length_size, parameter_sets }
    }

    /// Cuts a packet into its NAL units, which are slices of it.
    ///
    /// The packet itself has the last word: some muxers put start codes behind a record, or lengths without one.
    pub(super) fn nals(&self, packet: Bytes) -> Vec<Nal> {
        let length_size = self.length_size.unwrap_or(USUAL_LENGTH_SIZE);
        let has_lengths = if self.length_size.is_some() {
            covers(&packet, length_size) || !has_start_code(&packet)
        } else {
            covers(&packet, length_size)
        };
        if has_lengths {
            split_lengths(packet, length_size).map(Nal::from_bytes).collect()
        } else {
            split_annex_b(packet).map(Nal::from_bytes).collect()
        }
    }
}

/// True if the packet is lengths and NAL units to its last byte. A start code is a length of 0 or 1, and what follows none.
fn covers(packet: &Bytes, length_size: usize) -> bool {
    let nals: usize = split_lengths(packet.clone(), length_size).map(|nal| length_size + nal.len()).sum();
    nals > 0 && nals == packet.len()
}

/// The NAL units behind lengths, as slices of `packet`; the rest is left out where a length is over the end.
fn split_lengths(packet: Bytes, length_size: usize) -> impl Iterator<Item = Bytes> {
    let mut rest = packet;
    std::iter::from_fn(move || {
        loop {
            let len = usize::try_from(rest.try_get_uint(length_size).ok()?).ok()?;
            if len > rest.len() {
                return None;
            }
            if len > 0 {
                return Some(rest.split_to(len));
            }
        }
    })
}

/// Length size and parameter sets of an `avcC`.
fn avcc(record: &Bytes) -> Option<(usize, Vec<Bytes>)> {
    let (version, head) = (*record.first()?, record.get(4..6)?);
    if version != 1 {
        return None;
    }
    let mut rest = record.slice(6..);
    let mut nals = Vec::new();
    let whole = take_nals(&mut rest, usize::from(head[1] & 0x1f), &mut nals);
    if whole.is_some() && rest.has_remaining() {
        let count = usize::from(rest.get_u8());
        take_nals(&mut rest, count, &mut nals);
    }
    Some((usize::from(head[0] & 3) + 1, nals))
}

/// The same of an `hvcC`. FFmpeg also knows records of version 0, from before the standard.
fn hvcc(record: &Bytes) -> Option<(usize, Vec<Bytes>)> {
    if record.len() < HVCC_HEAD_LEN || has_start_code(record) || record[0] > 1 {
        return None;
    }
    let mut rest = record.slice(HVCC_HEAD_LEN..);
    let mut nals = Vec::new();
    for _ in 0..record[HVCC_HEAD_LEN - 1] {
        let whole = rest.try_get_u8().ok().and_then(|_type| {
            let count = rest.try_get_u16().ok()?;
            take_nals(&mut rest, usize::from(count), &mut nals)
        });
        if whole.is_none() {
            break;
        }
    }
    Some((usize::from(record[HVCC_HEAD_LEN - 2] & 3) + 1, nals))
}

/// `None` where the record ends within.
fn take_nals(rest: &mut Bytes, count: usize, nals: &mut Vec<Bytes>) -> Option<()> {
    for _ in 0..count {
        let len = usize::from(rest.try_get_u16().ok()?);
        if len > rest.len() {
            return None;
        }
        let nal = rest.split_to(len);
        if !nal.is_empty() {
            nals.push(nal);
        }
    }
    Some(())
}

/// What every muxer of today writes.
const USUAL_LENGTH_SIZE: usize = 4;

/// Up to and with `numOfArrays`.
const HVCC_HEAD_LEN: usize = 23;

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of x264's and x265's parameter sets as ffmpeg writes them.
    const AVCC: &[u8] =
        b"\x01\x64\x00\x1f\xff\xe1\x00\x1a\x67\x64\x00\x1f\xac\xd9\x40\x50\x05\xbb\x01\x10\x00\x00\x03\x00\
        \x10\x00\x00\x03\x03\x20\xf1\x83\x19\x60\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0\xfd\xf8\xf8\x00";
    const HVCC: &[u8] =
        b"\x01\x01\x60\x00\x00\x00\x90\x00\x00\x00\x00\x00\x3f\xf0\x00\xfc\xfd\xf8\xf8\x00\x00\x0f\x03\xa0\
        \x00\x01\x00\x18\x40\x01\x0c\x01\xff\xff\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\
        \x3f\x92\x80\x90\xa1\x00\x01\x00\x2a\x42\x01\x01\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\
        \x03\x00\x3f\xa0\x05\x02\x01\x69\x65\x92\xa4\x93\x2b\xc0\x5a\x02\x00\x00\x03\x00\x02\x00\x00\x03\
        \x00\x32\x10\xa2\x00\x01\x00\x07\x44\x01\xc1\x72\xb4\x62\x40";

    fn read(codec: Codec, extradata: &[u8]) -> Configuration {
        Configuration::read(codec, Bytes::copy_from_slice(extradata))
    }

    fn pieces(configuration: &Configuration, packet: &'static [u8]) -> Vec<Vec<u8>> {
        let nals = configuration.nals(Bytes::from_static(packet));
        nals.iter().map(|nal| nal.to_contiguous().to_vec()).collect()
    }

    #[test]
    fn records_give_parameter_sets_and_the_length_size() {
        for (codec, record) in [(Codec::H264, AVCC), (Codec::H265, HVCC)] {
            let read = read(codec, record);
            assert!(read.parameter_sets.is_complete());
            assert_eq!(read.length_size, Some(4));
        }
        let mut short = AVCC.to_vec();
        short[4] = 0xfd;
        let read = read(Codec::H264, &short);
        assert_eq!(pieces(&read, b"\0\x02\x65\x88\0\x01\x06"), [vec![0x65, 0x88], vec![6]]);
    }

    #[test]
    fn start_codes_give_parameter_sets_too() {
        let sets = read(Codec::H264, AVCC).parameter_sets;
        let annex_b: Vec<u8> = sets.iter().flat_map(|nal| [&[0, 0, 0, 1], &nal[..]].concat()).collect();
        let read = read(Codec::H264, &annex_b);
        assert_eq!((read.length_size, read.parameter_sets), (None, sets));
    }

    #[test]
    fn a_cut_record_gives_what_is_whole_and_never_panics() {
        for (codec, record) in [(Codec::H264, AVCC), (Codec::H265, HVCC)] {
            for len in 0..record.len() {
                let cut = read(codec, &record[..len]);
                assert!(cut.parameter_sets.iter().count() <= 3);
                cut.nals(Bytes::copy_from_slice(&record[..len]));
            }
        }
    }

    #[test]
    fn a_length_over_the_end_ends_the_packet() {
        let read = read(Codec::H264, AVCC);
        assert_eq!(pieces(&read, b"\0\0\0\x02\x65\x88\0\0\0\0\0\0\0\x09\x41"), [vec![0x65, 0x88]]);
        assert!(pieces(&read, b"\0\0\0").is_empty());
        assert!(pieces(&read, b"").is_empty());
    }

    #[test]
    fn start_codes_are_seen_where_a_record_said_lengths() {
        let read = read(Codec::H264, AVCC);
        assert_eq!(pieces(&read, b"\0\0\0\x01\x65\x88\0\0\x01\x06\x05"), [vec![0x65, 0x88], vec![6, 5]]);
    }

    #[test]
    fn without_a_configuration_the_packet_itself_tells() {
        let read = read(Codec::H264, b"");
        assert_eq!(pieces(&read, b"\0\0\x01\x65\x88"), [vec![0x65, 0x88]]);
        assert_eq!(pieces(&read, b"\0\0\0\x02\x65\x88"), [vec![0x65, 0x88]]);
    }
}
