//! Streams packetized by ffmpeg come out of the depacketizer as ffmpeg writes them to a file.
//! `data/make.py` says how they were made.

use bytes::{Buf, Bytes};
use lanecast_protocol::codec::{Codec, Depacketized, Depacketizer, NalClass, ParameterSets};
use lanecast_protocol::rtp::{Ordered, RtpPacket};

const PICTURES: usize = 12;

#[test]
fn h264_plain() {
    check(Codec::H264, include_bytes!("data/h264_plain.rtp"), include_bytes!("data/h264_plain.h264"), 1);
}

#[test]
fn h264_with_b_frames_and_delimiters() {
    let (rtp, file) =
        (include_bytes!("data/h264_bframes_aud.rtp"), include_bytes!("data/h264_bframes_aud.h264"));
    check(Codec::H264, rtp, file, 1);
}

#[test]
fn h264_with_four_slices() {
    check(Codec::H264, include_bytes!("data/h264_slices.rtp"), include_bytes!("data/h264_slices.h264"), 4);
}

#[test]
fn h265_plain() {
    check(Codec::H265, include_bytes!("data/h265_plain.rtp"), include_bytes!("data/h265_plain.h265"), 1);
}

#[test]
fn h265_with_b_frames_and_delimiters() {
    let (rtp, file) =
        (include_bytes!("data/h265_bframes_aud.rtp"), include_bytes!("data/h265_bframes_aud.h265"));
    check(Codec::H265, rtp, file, 1);
}

#[test]
fn h265_with_slices() {
    check(Codec::H265, include_bytes!("data/h265_slices.rtp"), include_bytes!("data/h265_slices.h265"), 2);
}

/// What the cameras do with markers, each gives the same NAL units and the same pictures.
fn check(codec: Codec, rtp: &'static [u8], file: &'static [u8], slices_per_picture: usize) {
    let sent = packets(rtp);
    let mut without_markers = sent.clone();
    without_markers.iter_mut().for_each(|packet| packet.marker = false);
    for packets in [sent, without_markers] {
        let received = Received::of(codec, packets);
        assert_eq!(received.nals, annex_b(file));
        assert_eq!(received.pictures, PICTURES);
        assert!(received.slices >= PICTURES * slices_per_picture);
        assert!(received.sets.is_complete());
        let shape = received.sets.shape().expect("an SPS that can be read");
        assert_eq!((shape.width, shape.height), (178, 100));
    }
}

struct Received {
    nals: Vec<Vec<u8>>,
    pictures: usize,
    slices: usize,
    sets: ParameterSets,
}

impl Received {
    fn of(codec: Codec, packets: Vec<RtpPacket>) -> Self {
        let mut depacketizer = Depacketizer::new(codec);
        let mut received = Self { nals: vec![], pictures: 0, slices: 0, sets: ParameterSets::new(codec) };
        let mut output = vec![];
        for packet in packets {
            depacketizer.handle_packet(Ordered { packet, lost_before: 0 });
            depacketizer.check_invariants();
            output.extend(std::iter::from_fn(|| depacketizer.poll_output()));
        }
        if !matches!(output.last(), Some(Depacketized::AccessUnitEnd { .. })) {
            // Without markers only a next packet can tell that the last access unit is over.
            depacketizer.handle_payload(0, 0x5555_5555, true, Bytes::new());
            output.extend(std::iter::from_fn(|| depacketizer.poll_output()));
        } else {
            assert_eq!(depacketizer.statistics(), Default::default());
        }
        let mut first_slices = 0;
        for event in output {
            match event {
                Depacketized::AccessUnitEnd { damaged, .. } => {
                    assert!(!damaged);
                    assert_eq!(std::mem::take(&mut first_slices), 1);
                    received.pictures += 1;
                }
                Depacketized::Nal { nal, .. } => {
                    first_slices += usize::from(nal.is_first_slice(codec));
                    match nal.class(codec) {
                        NalClass::ParameterSet => _ = received.sets.handle_nal(&nal),
                        NalClass::RandomAccess | NalClass::Picture => received.slices += 1,
                        NalClass::Other => {}
                    }
                    received.nals.push(nal.to_contiguous().to_vec());
                }
            }
        }
        received
    }
}

fn packets(capture: &'static [u8]) -> Vec<RtpPacket> {
    let mut rest = Bytes::from_static(capture);
    let mut packets = vec![];
    while !rest.is_empty() {
        let len = usize::from(rest.get_u16());
        packets.push(RtpPacket::parse(rest.split_to(len)).expect("an RTP packet"));
    }
    packets
}

/// The NAL units of a file, found without the crate's own splitter.
fn annex_b(file: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> =
        (0..file.len().saturating_sub(2)).filter(|&at| file[at..at + 3] == [0, 0, 1]).collect();
    let ends = starts.iter().skip(1).copied().chain([file.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| {
            let nal = &file[start + 3..end];
            nal[..nal.iter().rposition(|&byte| byte != 0).expect("a byte") + 1].to_vec()
        })
        .collect()
}
