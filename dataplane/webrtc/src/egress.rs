//! What a viewer's packets are made of: the stream's shared runs, rewritten and sealed one behind the other.
//!
//! Nothing is kept of a packet. What was sent is known by a few spans: from which of our sequence numbers on, which
//! numbers of the stream followed one another. A packet that was lost is made anew from the stream's history, as a
//! retransmission of its own SSRC (RFC 4588). The runs may come of another supply from some moment on (recorded instead of
//! live): numbers and times go on. Not here: when to send, and where the history is.

use std::time::Instant;

use bytes::{BufMut, BytesMut};
use lanecast_packet::{RTP_HEADER_BYTES, Run, Splice, Squeeze};
use smallvec::SmallVec;

use crate::peer::{MediaConfig, RtxConfig};
use crate::srtp::RtpSealer;

/// Bytes of the header extension with the transport-wide sequence number (RFC 8285 section 4.2, one-byte form).
const EXTENSION_BYTES: usize = 8;
/// Spans that are remembered: a span ends when access units are left out, at a join, at a refresh and at each move in time. What
/// is older than sixteen of those is in no history any more in practice.
const MAX_SPANS: usize = 16;
/// Retransmissions may take half of what media takes, and this much at once: an eighth of a 4K keyframe.
const RETRANSMISSION_CREDIT_BYTES: i64 = 160 << 10;

/// The supply of what the stream sends to all.
pub const LIVE: u32 = 0;

/// One viewer's packets.
pub struct Egress {
    config: MediaConfig,
    sealer: RtpSealer,
    /// `ROC << 16 | sequence number` of the next media packet. Never goes back: it is the nonce.
    next_index: u64,
    next_rtx_index: u64,
    next_transport_sequence: u16,
    /// The newest is last.
    spans: SmallVec<[Span; 2]>,
    supply: u32,
    splice: Splice,
    retransmission_credit_bytes: i64,
    packets: u64,
    payload_bytes: u64,
    bytes: u64,
    skipped_packets: u64,
    newest_rtp_timestamp: u32,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").field("next_index", &self.next_index).finish_non_exhaustive()
    }
}

/// Packets that followed one another here as they did in the stream.
#[derive(Clone, Copy, Debug)]
struct Span {
    first_index: u64,
    first_in_order: u64,
    squeeze: Squeeze,
    offset_90k: u32,
    supply: u32,
}

/// A packet that the viewer asks for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    index: u64,
    /// Its number among its supply's packets in order.
    pub in_order: u64,
    /// Of which supply it was; see [`Egress::cut`].
    pub supply: u32,
    squeeze: Squeeze,
    offset_90k: u32,
}

/// What was appended for one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Bytes of every packet but the last, which may be shorter.
    pub segment_bytes: u16,
    /// Packets.
    pub packets: u16,
    /// Transport-wide sequence number of the first, where negotiated.
    pub transport_sequence: u16,
}

impl Egress {
    /// Nothing sent yet. `first_sequence` below 2^15 (RFC 3711 section 3.3.1 wants room before the first wrap).
    pub fn new(config: MediaConfig, sealer: RtpSealer, first_sequence: u16) -> Self {
        Self {
            config,
            sealer,
            next_index: u64::from(first_sequence & 0x7fff),
            next_rtx_index: u64::from(first_sequence.rotate_left(7) & 0x7fff),
            next_transport_sequence: 1,
            spans: SmallVec::new(),
            supply: LIVE,
            splice: Splice::default(),
            retransmission_credit_bytes: RETRANSMISSION_CREDIT_BYTES,
            packets: 0,
            payload_bytes: 0,
            bytes: 0,
            skipped_packets: 0,
            newest_rtp_timestamp: 0,
        }
    }

    /// Runs from now on are of this supply: [`LIVE`], or a number of the driver's for something else. The timestamp advances by
    /// the real time that passed.
    pub fn cut(&mut self, supply: u32) {
        self.supply = supply;
        self.splice.cut();
    }

    /// What was negotiated.
    pub fn config(&self) -> &MediaConfig {
        &self.config
    }

    /// Bytes that the sealed form of `run` takes at the most.
    pub fn sealed_bytes(&self, run: &Run) -> usize {
        run.bytes().len() + usize::from(run.packets()) * self.growth_bytes()
    }

    /// Appends the sealed packets of `run` to `out`, with timestamps by `squeeze`.
    pub fn seal_run(&mut self, now: Instant, run: &Run, squeeze: &Squeeze, out: &mut BytesMut) -> Sealed {
        let rtp_timestamp = self.splice.map(now, squeeze.map(run.rtp_timestamp()));
        self.follow(run.first_in_order(), squeeze);
        let transport_sequence = self.next_transport_sequence;
        let config = (self.config.payload_type, self.config.ssrc);
        out.reserve(self.sealed_bytes(run));
        for packet in run.bytes().chunks(usize::from(run.segment_bytes())) {
            let Some((header, payload)) = packet.split_at_checked(RTP_HEADER_BYTES) else { continue };
            let marker = header[1] & 0x80;
            let index = self.next_index;
            self.next_index += 1;
            self.write(out, config.0 | marker, index, rtp_timestamp, config.1, &[], payload);
        }
        let payload_bytes = (run.bytes().len() - RTP_HEADER_BYTES * usize::from(run.packets())) as u64;
        self.packets += u64::from(run.packets());
        self.payload_bytes += payload_bytes;
        self.newest_rtp_timestamp = rtp_timestamp;
        self.retransmission_credit_bytes =
            (self.retransmission_credit_bytes + payload_bytes as i64 / 2).min(RETRANSMISSION_CREDIT_BYTES);
        Sealed {
            segment_bytes: run.segment_bytes() + self.growth_bytes() as u16,
            packets: run.packets(),
            transport_sequence,
        }
    }

    /// Sequence number of the newest packet.
    pub fn newest_sequence(&self) -> Option<u16> {
        self.spans.last().map(|_| self.next_index.wrapping_sub(1) as u16)
    }

    /// What a sequence number that the viewer misses was; `None` if it was never sent or is forgotten.
    pub fn lost(&self, sequence: u16) -> Option<Lost> {
        let newest = self.next_index.checked_sub(1)?;
        let behind = (newest as u16).wrapping_sub(sequence);
        let index = newest.checked_sub(u64::from(behind))?;
        let span = self.spans.iter().rev().find(|span| span.first_index <= index)?;
        let in_order = span.first_in_order + (index - span.first_index);
        Some(Lost {
            index,
            in_order,
            supply: span.supply,
            squeeze: span.squeeze,
            offset_90k: span.offset_90k,
        })
    }

    /// Appends `packet`, the stream's packet number `lost.in_order` of this timestamp, once more: as a retransmission (RFC 4588)
    /// where that was negotiated, else as it was, to the byte. `None` where too much was sent again lately.
    pub fn seal_again(
        &mut self,
        lost: &Lost,
        packet: &[u8],
        rtp_timestamp: u32,
        out: &mut BytesMut,
    ) -> Option<Sealed> {
        let (header, payload) = packet.split_at_checked(RTP_HEADER_BYTES)?;
        let credit = self.retransmission_credit_bytes - packet.len() as i64;
        // Other bytes under the same index would give the key away, and a transport-wide number makes them others.
        if credit < 0 || (self.config.rtx.is_none() && self.config.transport_cc.is_some()) {
            return None;
        }
        self.retransmission_credit_bytes = credit;
        let transport_sequence = self.next_transport_sequence;
        let rtp_timestamp = lost.squeeze.map(rtp_timestamp).wrapping_add(lost.offset_90k);
        let marker = header[1] & 0x80;
        let start = out.len();
        match self.config.rtx {
            Some(RtxConfig { payload_type, ssrc }) => {
                let index = self.next_rtx_index;
                self.next_rtx_index += 1;
                let original = (lost.index as u16).to_be_bytes();
                self.write(out, payload_type | marker, index, rtp_timestamp, ssrc, &original, payload);
            }
            None => {
                let (payload_type, ssrc) = (self.config.payload_type, self.config.ssrc);
                self.write(out, payload_type | marker, lost.index, rtp_timestamp, ssrc, &[], payload);
            }
        }
        Some(Sealed { segment_bytes: (out.len() - start) as u16, packets: 1, transport_sequence })
    }

    /// Packets of the stream that were left out.
    pub fn skipped_packets(&self) -> u64 {
        self.skipped_packets
    }

    /// Media packets sent.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Their payload bytes (RFC 3550 section 6.4.1, sender's octet count).
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Bytes of all packets, sealed, retransmissions among them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// RTP timestamp of the newest packet.
    pub fn newest_rtp_timestamp(&self) -> u32 {
        self.newest_rtp_timestamp
    }

    /// Notes where a run begins another span than the newest.
    fn follow(&mut self, first_in_order: u64, squeeze: &Squeeze) {
        let (supply, offset_90k) = (self.supply, self.splice.offset_90k());
        let same = |span: &&Span| span.supply == supply && span.offset_90k == offset_90k;
        let newest = self.spans.last().filter(same);
        let expected = newest.map(|span| span.first_in_order + (self.next_index - span.first_index));
        let follows = expected == Some(first_in_order) && newest.is_some_and(|span| span.squeeze == *squeeze);
        if !follows {
            self.skipped_packets += expected.map_or(0, |expected| first_in_order.saturating_sub(expected));
            if self.spans.len() == MAX_SPANS {
                self.spans.remove(0);
            }
            let squeeze = *squeeze;
            self.spans.push(Span {
                first_index: self.next_index,
                first_in_order,
                squeeze,
                offset_90k,
                supply,
            });
        }
    }

    fn growth_bytes(&self) -> usize {
        let extension = if self.config.transport_cc.is_some() { EXTENSION_BYTES } else { 0 };
        extension + self.sealer.profile().tag_bytes()
    }

    /// One sealed packet; `prefix` stands before the payload (RFC 4588's original sequence number).
    #[allow(clippy::too_many_arguments)]
    fn write(
        &mut self,
        out: &mut BytesMut,
        marker_and_type: u8,
        index: u64,
        rtp_timestamp: u32,
        ssrc: u32,
        prefix: &[u8],
        payload: &[u8],
    ) {
        let start = out.len();
        let mut header = [0; RTP_HEADER_BYTES + EXTENSION_BYTES];
        header[0] = 0x80;
        header[1] = marker_and_type;
        header[2..4].copy_from_slice(&(index as u16).to_be_bytes());
        header[4..8].copy_from_slice(&rtp_timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let header_bytes = match self.config.transport_cc {
            None => RTP_HEADER_BYTES,
            Some(id) => {
                let [high, low] = self.next_transport_sequence.to_be_bytes();
                self.next_transport_sequence = self.next_transport_sequence.wrapping_add(1);
                header[0] |= 0x10;
                header[12..].copy_from_slice(&[0xbe, 0xde, 0, 1, id << 4 | 1, high, low, 0]);
                header.len()
            }
        };
        out.extend_from_slice(&header[..header_bytes]);
        out.extend_from_slice(prefix);
        out.extend_from_slice(payload);
        out.put_bytes(0, self.sealer.profile().tag_bytes());
        self.sealer.seal(&mut out[start..], header_bytes, index);
        self.bytes += (out.len() - start) as u64;
    }
}

#[cfg(test)]
mod tests {
    use lanecast_packet::{RunWriter, WriterConfig};
    use lanecast_protocol::rtp::RtpPacket;
    use rtc_srtp::context::Context;
    use rtc_srtp::crypto::RTCCryptoProvider as _;
    use rtc_srtp::crypto::providers::RingProvider;
    use rtc_srtp::protection_profile::ProtectionProfile;

    use super::*;
    use crate::srtp::{self, MasterKey, SrtpKeys, SrtpProfile};

    const KEY: [u8; 16] = [7; 16];
    const SALT: [u8; 14] = [9; 14];

    /// A stream and one viewer, with an independent stack at the viewer's end.
    struct Scene {
        writer: RunWriter,
        runs: Vec<Run>,
        egress: Egress,
        receiver: Context,
        now: Instant,
    }

    impl Scene {
        fn new(profile: SrtpProfile, rtx: bool, transport_cc: bool) -> Self {
            let (theirs, salt_bytes) = match profile {
                SrtpProfile::AeadAes128Gcm => (ProtectionProfile::AeadAes128Gcm, 12),
                SrtpProfile::Aes128CmHmacSha1_80 => (ProtectionProfile::Aes128CmHmacSha1_80, 14),
            };
            let master = MasterKey { key: KEY, salt: SmallVec::from_slice(&SALT[..salt_bytes]) };
            let keys = SrtpKeys { profile, local: master.clone(), remote: master };
            let config = MediaConfig {
                payload_type: 102,
                ssrc: 0x1111_1111,
                rtx: rtx.then_some(RtxConfig { payload_type: 103, ssrc: 0x2222_2222 }),
                transport_cc: transport_cc.then_some(3),
                cname: "cname".to_owned(),
            };
            let (sealer, ..) = srtp::session(&keys);
            Self {
                writer: RunWriter::new(WriterConfig { ssrc: 1, payload_type: 96, first_packet: 500 }),
                runs: Vec::new(),
                egress: Egress::new(config, sealer, 0x7ff0),
                receiver: Context::new(
                    &KEY,
                    &SALT[..salt_bytes],
                    theirs,
                    None,
                    None,
                    RingProvider::new().crypto(),
                )
                .unwrap(),
                now: Instant::now(),
            }
        }

        /// An access unit of `packets` packets, whose payloads say which they are.
        fn access_unit(&mut self, rtp_timestamp: u32, packets: u8) -> usize {
            self.writer.begin_access_unit(rtp_timestamp, false);
            for number in 0..packets {
                self.writer.packet(100, |out| {
                    out.put_u32(rtp_timestamp);
                    out.put_bytes(number, 96);
                });
            }
            self.writer.end_access_unit();
            self.runs.push(self.writer.poll_run().unwrap());
            self.runs.len() - 1
        }

        fn send(&mut self, run: usize, squeeze: &Squeeze) -> Vec<RtpPacket> {
            let mut out = BytesMut::new();
            let sealed = self.egress.seal_run(self.now, &self.runs[run], squeeze, &mut out);
            assert_eq!(out.len(), self.egress.sealed_bytes(&self.runs[run]));
            let packets = out.chunks(usize::from(sealed.segment_bytes));
            packets.map(|packet| Self::open(&mut self.receiver, packet)).collect()
        }

        fn open(receiver: &mut Context, packet: &[u8]) -> RtpPacket {
            RtpPacket::parse(receiver.decrypt_rtp(packet).unwrap().freeze()).unwrap()
        }

        fn again(&mut self, sequence: u16) -> Option<RtpPacket> {
            let lost = self.egress.lost(sequence)?;
            let run = self.runs.iter().rev().find(|run| run.first_in_order() <= lost.in_order)?;
            let packet = run.packet((lost.in_order - run.first_in_order()) as usize)?.to_vec();
            let mut out = BytesMut::new();
            self.egress.seal_again(&lost, &packet, run.rtp_timestamp(), &mut out)?;
            Some(Self::open(&mut self.receiver, &out))
        }
    }

    #[test]
    fn another_stack_opens_what_is_sealed_and_finds_the_streams_payloads_in_order() {
        for profile in [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80] {
            for transport_cc in [false, true] {
                let mut scene = Scene::new(profile, true, transport_cc);
                let mut sequence = 0x7ff0u16;
                // Over the half of the sequence numbers and over their wrap.
                for access_unit in 0..1200u32 {
                    let run = scene.access_unit(access_unit * 3600, 60);
                    for (number, packet) in scene.send(run, &Squeeze::default()).into_iter().enumerate() {
                        assert_eq!((packet.ssrc, packet.payload_type), (0x1111_1111, 102));
                        assert_eq!(packet.seq, sequence);
                        assert_eq!(packet.rtp_timestamp, access_unit * 3600);
                        assert_eq!(packet.marker, number == 59);
                        assert_eq!(
                            packet.payload[..5],
                            [&(access_unit * 3600).to_be_bytes()[..], &[number as u8]].concat()[..]
                        );
                        sequence = sequence.wrapping_add(1);
                    }
                    scene.runs.clear();
                }
            }
        }
    }

    #[test]
    fn sequence_numbers_go_on_without_a_gap_over_access_units_that_were_left_out() {
        let mut scene = Scene::new(SrtpProfile::AeadAes128Gcm, true, true);
        let runs: Vec<_> = (0..4).map(|index| scene.access_unit(index * 3600, 3)).collect();
        let mut got = scene.send(runs[0], &Squeeze::default());
        got.extend(scene.send(runs[3], &Squeeze::default()));
        let sequence: Vec<_> = got.iter().map(|packet| packet.seq - 0x7ff0).collect();
        assert_eq!(sequence, [0, 1, 2, 3, 4, 5]);
        assert_eq!(scene.egress.skipped_packets(), 6);
    }

    #[test]
    fn a_lost_packet_comes_again_by_its_own_ssrc_as_it_was() {
        let mut scene = Scene::new(SrtpProfile::AeadAes128Gcm, true, true);
        let runs: Vec<_> = (0..4).map(|index| scene.access_unit(index * 3600, 3)).collect();
        let squeeze = Squeeze { pivot_90k: 3600, range_90k: 3600, span_90k: 90, shift_90k: 0 };
        let mut sent = scene.send(runs[0], &squeeze);
        sent.extend(scene.send(runs[3], &squeeze));
        for packet in &sent {
            let again = scene.again(packet.seq).unwrap();
            assert_eq!((again.ssrc, again.payload_type), (0x2222_2222, 103));
            assert_eq!(again.rtp_timestamp, packet.rtp_timestamp, "squeezed or not, as it was");
            assert_eq!(again.marker, packet.marker);
            assert_eq!(again.payload[..2], packet.seq.to_be_bytes());
            assert_eq!(again.payload[2..], packet.payload[..]);
        }
        assert_eq!(sent[0].rtp_timestamp, 3510);
    }

    #[test]
    fn without_rtx_a_lost_packet_comes_again_to_the_byte() {
        let mut scene = Scene::new(SrtpProfile::AeadAes128Gcm, false, false);
        let run = scene.access_unit(0, 3);
        let mut first = BytesMut::new();
        let sealed = scene.egress.seal_run(scene.now, &scene.runs[run], &Squeeze::default(), &mut first);
        let lost = scene.egress.lost(0x7ff1).unwrap();
        let mut again = BytesMut::new();
        let packet = scene.runs[run].packet(1).unwrap().to_vec();
        scene.egress.seal_again(&lost, &packet, 0, &mut again).unwrap();
        let segment = usize::from(sealed.segment_bytes);
        assert_eq!(again[..], first[segment..2 * segment]);
    }

    #[test]
    fn another_supply_goes_on_where_the_last_one_was_and_its_lost_packets_come_from_it() {
        let mut scene = Scene::new(SrtpProfile::AeadAes128Gcm, true, true);
        let live = scene.access_unit(90_000, 2);
        let first = scene.send(live, &Squeeze::default());
        scene.egress.cut(7);
        scene.now += std::time::Duration::from_secs(1);
        let recorded = scene.access_unit(500, 2);
        let second = scene.send(recorded, &Squeeze::default());
        assert_eq!(second[0].seq, first[1].seq.wrapping_add(1));
        assert_eq!(second[0].rtp_timestamp, 180_000);
        let lost = scene.egress.lost(second[0].seq).unwrap();
        assert_eq!((lost.supply, scene.egress.lost(first[0].seq).unwrap().supply), (7, LIVE));
        assert_eq!(scene.again(second[0].seq).unwrap().rtp_timestamp, 180_000, "the time as it was sent");
        assert_eq!(scene.again(first[1].seq).unwrap().rtp_timestamp, 90_000);
        assert_eq!(scene.egress.skipped_packets(), 0);
    }

    #[test]
    fn what_was_never_sent_is_not_sent_again() {
        let mut scene = Scene::new(SrtpProfile::AeadAes128Gcm, true, true);
        assert_eq!(scene.egress.lost(0x7ff0), None);
        let run = scene.access_unit(0, 3);
        scene.send(run, &Squeeze::default());
        assert!(scene.egress.lost(0x7ff2).is_some());
        assert_eq!(scene.egress.lost(0x7ff3), None);
        assert_eq!(scene.egress.lost(0x7fef), None);
    }

    #[test]
    fn asking_for_everything_again_and_again_gets_half_as_much_as_media_at_the_most() {
        let mut scene = Scene::new(SrtpProfile::AeadAes128Gcm, true, true);
        let mut again = 0;
        for access_unit in 0..200 {
            let run = scene.access_unit(access_unit * 3600, 50);
            for packet in scene.send(run, &Squeeze::default()) {
                again += usize::from(scene.again(packet.seq).is_some());
                again += usize::from(scene.again(packet.seq).is_some());
            }
        }
        let allowed = 200 * 50 / 2 + RETRANSMISSION_CREDIT_BYTES as usize / 100;
        assert!(again > 4000 && again <= allowed, "{again} of at most {allowed}");
    }
}
