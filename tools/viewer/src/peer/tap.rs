//! What the `webrtc` package received and sent, seen next to the wire: an interceptor of its chain.
//!
//! It also undoes RTX (RFC 4588) here, in front of the NACK generator, which otherwise goes on asking for what has
//! already come back; and it hands packets on itself, as the package's own queue to a track drops them when it is full.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::rtp;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::shared::marshal::Marshal;

use crate::clock::Moment;
use crate::peer::description::Remote;

/// A packet in the clear.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When the package handed it over.
    pub read: Moment,
    /// The packet, in its own stream also if it came as a retransmission.
    pub bytes: Vec<u8>,
    /// It came as a retransmission.
    pub retransmitted: bool,
}

/// What the tap shares with the one who looks.
#[derive(Debug, Default)]
pub struct Record {
    /// The server's description, once there is one.
    pub remote: Mutex<Option<Remote>>,
    /// RTP packets received.
    pub rtp: AtomicU64,
    /// Of those, retransmissions.
    pub retransmissions: AtomicU64,
    /// RTCP packets received, compound.
    pub rtcp: AtomicU64,
    /// Sequence numbers asked for again.
    pub nacked: AtomicU64,
    /// Picture loss indications sent.
    pub picture_losses: AtomicU64,
    /// Receiver reports sent.
    pub receiver_reports: AtomicU64,
    /// Transport-wide feedback sent.
    pub transport_feedback: AtomicU64,
}

/// The interceptor.
pub struct Tap {
    record: Arc<Record>,
    seen: Sender<Seen>,
    /// SSRCs by payload type.
    streams: HashMap<u8, u32>,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Tap {
    /// Hands packets on to `seen`.
    pub fn new(record: Arc<Record>, seen: Sender<Seen>) -> Self {
        Self { record, seen, streams: HashMap::new(), reads: VecDeque::new(), writes: VecDeque::new() }
    }

    fn look_at(&mut self, packet: &mut rtp::Packet) {
        let record = Arc::clone(&self.record);
        let remote = record.remote.lock().unwrap_or_else(PoisonError::into_inner);
        record.rtp.fetch_add(1, Relaxed);
        let payload_type = packet.header.payload_type;
        let original = remote.as_ref().and_then(|remote| remote.repeats(payload_type));
        match original {
            None => {
                self.streams.insert(payload_type, packet.header.ssrc);
            }
            Some(original) => {
                record.retransmissions.fetch_add(1, Relaxed);
                if !self.restore(packet, original) {
                    return;
                }
            }
        }
        if let Ok(bytes) = packet.marshal() {
            let seen = Seen { read: Moment::now(), bytes: bytes.to_vec(), retransmitted: original.is_some() };
            // Nobody looks any more when the watch is over.
            let _ = self.seen.send(seen);
        }
    }

    /// Makes of a retransmission what it repeats; not of a probe for bandwidth, which repeats nothing.
    fn restore(&self, packet: &mut rtp::Packet, payload_type: u8) -> bool {
        let Some(ssrc) = self.streams.get(&payload_type) else { return false };
        let Some(number) = packet.payload.first_chunk::<2>().copied() else { return false };
        packet.header.ssrc = *ssrc;
        packet.header.payload_type = payload_type;
        packet.header.sequence_number = u16::from_be_bytes(number);
        packet.payload = packet.payload.slice(2..);
        true
    }

    fn count(&self, packet: &dyn rtcp::Packet) {
        let any = packet.as_any();
        let record = &self.record;
        if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            let asked: usize = nack.nacks.iter().map(|pair| pair.packet_list().len()).sum();
            record.nacked.fetch_add(asked as u64, Relaxed);
        }
        for (counter, is_one) in [
            (&record.picture_losses, any.is::<PictureLossIndication>()),
            (&record.receiver_reports, any.is::<ReceiverReport>()),
            (&record.transport_feedback, any.is::<TransportLayerCc>()),
        ] {
            counter.fetch_add(is_one.into(), Relaxed);
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Tap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = std::time::Instant;

    fn handle_read(&mut self, mut message: TaggedPacket) -> Result<(), Error> {
        match &mut message.message.packet {
            Packet::Rtp(packet) => self.look_at(packet),
            Packet::Rtcp(_) => _ = self.record.rtcp.fetch_add(1, Relaxed),
            _ => {}
        }
        self.reads.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &message.message.packet {
            packets.iter().for_each(|packet| self.count(packet.as_ref()));
        }
        self.writes.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }
}

impl Interceptor for Tap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::nal::Codec;
    use std::sync::mpsc;

    fn packet(payload_type: u8, ssrc: u32, sequence_number: u16, payload: &'static [u8]) -> rtp::Packet {
        let header =
            rtp::Header { version: 2, payload_type, ssrc, sequence_number, ..rtp::Header::default() };
        rtp::Packet { header, payload: payload.into() }
    }

    #[test]
    fn a_retransmission_becomes_what_it_repeats() {
        let record = Arc::new(Record::default());
        let remote = Remote {
            payload_types: vec![(96, Codec::H264)],
            retransmissions: vec![(97, 96)],
            ..Remote::default()
        };
        *record.remote.lock().expect("no panic") = Some(remote);
        let (sender, seen) = mpsc::channel();
        let mut tap = Tap::new(Arc::clone(&record), sender);
        tap.look_at(&mut packet(97, 2, 1, &[0, 9, 0x41]));
        tap.look_at(&mut packet(96, 1, 8, &[0x41, 1]));
        let mut again = packet(97, 2, 2, &[0, 9, 0x41, 2]);
        tap.look_at(&mut again);
        assert_eq!((again.header.ssrc, again.header.payload_type, again.header.sequence_number), (1, 96, 9));
        tap.look_at(&mut packet(97, 2, 3, &[]));
        let seen: Vec<_> = seen.try_iter().collect();
        assert_eq!(seen.iter().map(|one| one.retransmitted).collect::<Vec<_>>(), [false, true]);
        assert_eq!(seen[1].bytes[12..], [0x41, 2]);
        assert_eq!(record.retransmissions.load(Relaxed), 3);
    }
}
