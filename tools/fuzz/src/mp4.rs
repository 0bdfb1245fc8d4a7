//! What must hold of every file that is read, whoever wrote it.

use std::fmt::Debug;

use lanecast_protocol::codec::{Codec, Nal, ParameterSets};
use lanecast_protocol::mp4::{
    InitSegment, MAX_FRAGMENT_HEADER_BYTES, MAX_INIT_BYTES, Mp4Error, Parsed, parse_fragment_header,
    parse_init, write_fragment_header, write_init,
};

/// Reads from the front: the init segment where one is, then fragment after fragment. Samples need not be there.
pub fn check(file: &[u8]) {
    check_written(file);
    let mut at = 0;
    if let Some((init, bytes)) = checked(file, MAX_INIT_BYTES, parse_init) {
        assert_eq!(parse_init(&write_init(&init)).map(part), Ok(Some(init)));
        at = bytes;
    }
    while let Some(rest) = file.get(at..) {
        let Some((header, bytes)) = checked(rest, MAX_FRAGMENT_HEADER_BYTES, parse_fragment_header) else {
            return;
        };
        assert_eq!(
            parse_fragment_header(&write_fragment_header(&header)).map(part),
            Ok(Some(header.clone()))
        );
        let sample_bytes = usize::try_from(header.sample_bytes()).expect("within the bound");
        // Without the samples too: their place in the input may have another fragment.
        check_next(&rest[bytes..]);
        at += bytes + sample_bytes;
    }
}

fn check_next(bytes: &[u8]) {
    checked(bytes, MAX_FRAGMENT_HEADER_BYTES, parse_fragment_header);
}

/// What is whole is incomplete without its last byte, and what is wanted is more than there is and within the bound.
fn checked<T: Debug + PartialEq>(
    bytes: &[u8],
    bound: usize,
    parse: impl Fn(&[u8]) -> Result<Parsed<T>, Mp4Error>,
) -> Option<(T, usize)> {
    match parse(bytes) {
        Ok(Parsed::Whole { part, bytes: len }) => {
            assert!(len <= bytes.len() && len <= bound);
            let Ok(Parsed::Incomplete { bytes_wanted }) = parse(&bytes[..len - 1]) else {
                panic!("not incomplete")
            };
            assert_eq!(bytes_wanted, len);
            Some((part, len))
        }
        Ok(Parsed::Incomplete { bytes_wanted }) => {
            assert!(bytes_wanted > bytes.len() && bytes_wanted <= bound);
            None
        }
        Err(error) => {
            assert!(error.offset <= bytes.len());
            None
        }
    }
}

fn part<T>(parsed: Parsed<T>) -> Option<T> {
    match parsed {
        Parsed::Whole { part, .. } => Some(part),
        Parsed::Incomplete { .. } => None,
    }
}

/// Whatever parameter sets are kept can be written, and read where they are complete.
fn check_written(data: &[u8]) {
    for codec in [Codec::H264, Codec::H265] {
        let mut parameter_sets = ParameterSets::new(codec);
        parameter_sets.handle_nal(&Nal::from_bytes(data.to_vec().into()));
        let complete = parameter_sets.is_complete();
        let init = InitSegment { parameter_sets, width: 640, height: 360, creation_unix_ms: -1 };
        let written = write_init(&init);
        assert_eq!(parse_init(&written).ok().and_then(part), complete.then_some(init));
    }
}
