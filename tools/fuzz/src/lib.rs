//! What several targets share, and the bodies that are longer than a target.

pub mod mp4;
pub mod negotiation;
pub mod playback;

use bytes::{Buf, Bytes};
use lanecast_protocol::codec::{Codec, Depacketized, Depacketizer, ParameterSets};
use lanecast_protocol::rtp::{Ordered, RtpPacket};

/// Cuts `data` into datagrams, each behind its length in 16 bits (RFC 4571, as the captures of the tests are).
pub fn datagrams(data: &[u8]) -> impl Iterator<Item = Bytes> {
    let mut data = Bytes::copy_from_slice(data);
    std::iter::from_fn(move || {
        let len = usize::from(data.try_get_u16().ok()?);
        Some(data.split_to(data.len().min(len)))
    })
}

/// Depacketizes; a datagram that is no RTP packet counts as a lost one.
pub fn depacketize(codec: Codec, data: &[u8]) {
    let mut depacketizer = Depacketizer::new(codec);
    let mut sets = ParameterSets::new(codec);
    let mut lost_before = 0;
    for datagram in datagrams(data) {
        match RtpPacket::parse(datagram) {
            Ok(packet) => {
                depacketizer.handle_packet(Ordered { packet, lost_before: std::mem::take(&mut lost_before) });
                depacketizer.check_invariants();
            }
            Err(_) => lost_before += 1,
        }
        while let Some(output) = depacketizer.poll_output() {
            if let Depacketized::Nal { nal, .. } = output {
                assert!(!nal.is_empty() && nal.slices.iter().all(|slice| !slice.is_empty()));
                sets.handle_nal(&nal);
            }
        }
    }
    sets.shape();
}
