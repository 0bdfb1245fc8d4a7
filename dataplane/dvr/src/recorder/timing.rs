//! Decode times, durations and composition offsets of a fragment, from the presentation times of its pictures
//! (ISO/IEC 14496-12 section 8.8.8).
//!
//! The camera tells presentation times alone. The i-th smallest of a fragment is the decode time of its i-th sample, so decode
//! times grow evenly, and the composition offsets are signed.

use lanecast_protocol::mp4::Sample;

use crate::segment::MemorySample;

/// The times of a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    /// Decode time of the first sample.
    pub(super) base_decode_90k: i64,
    /// Decode time of what follows.
    pub(super) end_90k: i64,
    pub(super) samples: Vec<Sample>,
}

/// The times of the pictures of a fragment, in decode order, the first of which is decoded at `floor_90k` at the earliest,
/// where the next fragment begins at `next_90k`.
pub(super) fn of(pictures: &[MemorySample], floor_90k: i64, next_90k: i64) -> Timing {
    let mut decode_90k: Vec<i64> = pictures.iter().map(|picture| picture.presentation_90k).collect();
    decode_90k.sort_unstable();
    // Two pictures of one time, or some from before the fragment: decode times grow all the same.
    let mut floor_90k = floor_90k.max(0);
    for decode_90k in &mut decode_90k {
        *decode_90k = (*decode_90k).max(floor_90k);
        floor_90k = *decode_90k + 1;
    }
    let base_decode_90k = decode_90k.first().copied().unwrap_or(floor_90k);
    let end_90k = next_90k.max(floor_90k);
    let ends = decode_90k.iter().skip(1).chain([&end_90k]);
    let samples =
        pictures.iter().zip(decode_90k.iter().zip(ends)).map(|(picture, (&decode_90k, &end_90k))| {
            let offset_90k = picture.presentation_90k - decode_90k;
            Sample {
                bytes: u32::try_from(picture.bytes.len()).unwrap_or(u32::MAX),
                duration_90k: u32::try_from(end_90k - decode_90k).unwrap_or(u32::MAX),
                composition_offset_90k: offset_90k.clamp(i32::MIN.into(), i32::MAX.into()) as i32,
                sync: picture.sync,
            }
        });
    Timing { base_decode_90k, end_90k, samples: samples.collect() }
}

/// Time between the last two pictures in presentation order; `None` of one picture alone.
pub(super) fn last_interval_90k(pictures: &[MemorySample]) -> Option<i64> {
    let (mut newest, mut second) = (i64::MIN, i64::MIN);
    for picture in pictures {
        let time = picture.presentation_90k;
        if time > newest {
            (newest, second) = (time, newest);
        } else if time < newest {
            second = second.max(time);
        }
    }
    (second > i64::MIN).then(|| newest - second)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn pictures(times: &[i64]) -> Vec<MemorySample> {
        let picture = |&presentation_90k: &i64| MemorySample {
            presentation_90k,
            unix_ms: 0,
            sync: false,
            bytes: Bytes::from_static(b"12345"),
        };
        times.iter().map(picture).collect()
    }

    fn durations_and_offsets(timing: &Timing) -> (Vec<u32>, Vec<i32>) {
        let samples = timing.samples.iter();
        samples.map(|sample| (sample.duration_90k, sample.composition_offset_90k)).unzip()
    }

    #[test]
    fn without_b_pictures_decode_time_is_presentation_time() {
        let timing = of(&pictures(&[0, 3600, 7300]), 0, 10_800);
        assert_eq!((timing.base_decode_90k, timing.end_90k), (0, 10_800));
        assert_eq!(durations_and_offsets(&timing), (vec![3600, 3700, 3500], vec![0, 0, 0]));
        assert!(timing.samples.iter().all(|sample| sample.bytes == 5));
    }

    #[test]
    fn b_pictures_get_signed_offsets() {
        let timing = of(&pictures(&[0, 30, 10, 20, 60, 40, 50]), 0, 70);
        assert_eq!(durations_and_offsets(&timing), (vec![10; 7], vec![0, 20, -10, -10, 20, -10, -10]));
    }

    #[test]
    fn pictures_of_one_time_are_decoded_one_behind_the_other() {
        let timing = of(&pictures(&[0, 0, 0, 3600]), 0, 7200);
        assert_eq!(durations_and_offsets(&timing), (vec![1, 1, 3598, 3600], vec![0, -1, -2, 0]));
    }

    #[test]
    fn a_fragment_is_never_decoded_before_the_end_of_that_before_it() {
        let timing = of(&pictures(&[3600, 7200]), 7000, 3000);
        assert_eq!((timing.base_decode_90k, timing.end_90k), (7000, 7201));
        assert_eq!(durations_and_offsets(&timing), (vec![200, 1], vec![-3400, 0]));
    }

    #[test]
    fn the_last_interval_is_in_presentation_order() {
        assert_eq!(last_interval_90k(&pictures(&[0, 30, 10, 25])), Some(5));
        assert_eq!(last_interval_90k(&pictures(&[7, 7])), None);
        assert_eq!(last_interval_90k(&pictures(&[])), None);
    }
}
