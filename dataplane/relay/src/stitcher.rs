//! Sequence numbers and timestamps of one WSC-RTP viewer that has left the stream's own: continuous over every switch between
//! live and recorded, and over pictures that it did not get (wire contract section 5).
//!
//! A viewer that never switched and never missed anything has no stitcher and costs nothing. WebRTC viewers have numbers of
//! their own anyway; there the egress does the same.

use std::time::Instant;

use bytes::BytesMut;
use lanecast_packet::{Run, Splice, Squeeze};

use crate::fanout::Position;

/// The numbering of one viewer.
#[derive(Clone, Copy, Debug)]
pub struct Stitcher {
    next_sequence: u16,
    splice: Splice,
}

impl Stitcher {
    /// For a viewer that has had the stream's own numbers up to here.
    pub fn new(position: Position) -> Self {
        Self {
            next_sequence: position.next_packet as u16,
            splice: Splice::after(position.newest_90k, position.sent_at),
        }
    }

    /// For a viewer that has got nothing yet.
    pub fn fresh(first_sequence: u16) -> Self {
        Self { next_sequence: first_sequence, splice: Splice::default() }
    }

    /// What comes now is of another supply: it goes on where the last one ended.
    pub fn cut(&mut self) {
        self.splice.cut();
    }

    /// The run as this viewer gets it: a copy in the memory of `out`, which must be empty and is empty again. Only for what is sent, as it takes the numbers.
    pub fn stitch(&mut self, now: Instant, run: &Run, squeeze: &Squeeze, out: &mut BytesMut) -> Run {
        let rtp_timestamp = self.splice.map(now, squeeze.map(run.rtp_timestamp()));
        let first = self.next_sequence;
        self.next_sequence = first.wrapping_add(run.packets());
        run.renumbered(first, rtp_timestamp, out)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lanecast_packet::{RunWriter, WriterConfig};

    use super::*;

    fn run(writer: &mut RunWriter, rtp_timestamp: u32, packets: usize) -> Run {
        writer.begin_access_unit(rtp_timestamp, false);
        for _ in 0..packets {
            writer.packet(20, |out| out.extend_from_slice(&[7; 20]));
        }
        writer.end_access_unit();
        writer.poll_run().unwrap()
    }

    fn writer(first_packet: u64) -> RunWriter {
        RunWriter::new(WriterConfig { ssrc: 9, payload_type: 96, first_packet })
    }

    #[test]
    fn a_viewer_goes_on_with_the_next_number_and_the_time_that_passed() {
        let start = Instant::now();
        let position = Position { next_packet: 65_535, newest_90k: 1_000_000, sent_at: start };
        let mut stitcher = Stitcher::new(position);
        stitcher.cut();
        let mut out = BytesMut::new();
        let recorded = run(&mut writer(7), 50, 3);
        let sent =
            stitcher.stitch(start + Duration::from_millis(40), &recorded, &Squeeze::default(), &mut out);
        assert_eq!(sent.rtp_timestamp(), 1_003_600);
        let sequence: Vec<_> =
            sent.iter().map(|packet| u16::from_be_bytes([packet.bytes[2], packet.bytes[3]])).collect();
        assert_eq!(sequence, [65_535, 0, 1]);
        assert!(sent.iter().all(|packet| packet.bytes[4..8] == 1_003_600u32.to_be_bytes()));
        assert!(sent.iter().zip(recorded.iter()).all(|(sent, was)| sent.payload() == was.payload()));
    }

    #[test]
    fn without_a_cut_times_stay_and_only_what_is_sent_takes_numbers() {
        let start = Instant::now();
        let mut stitcher = Stitcher::new(Position { next_packet: 10, newest_90k: 3600, sent_at: start });
        let (mut writer, mut out) = (writer(10), BytesMut::new());
        run(&mut writer, 7200, 5);
        let after = run(&mut writer, 10_800, 1);
        let sent = stitcher.stitch(start, &after, &Squeeze::default(), &mut out);
        assert_eq!((sent.rtp_timestamp(), sent.bytes()[3]), (10_800, 10));
    }
}
