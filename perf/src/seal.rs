//! What sealing a stream's packets for many viewers costs, with nothing around it: each packet is copied behind a header
//! and sealed with its viewer's key, a viewer's whole run before the next viewer's, as a send is made.

use std::hint::black_box;
use std::time::{Duration, Instant};

use lanecast_webrtc::srtp::{MasterKey, RtpSealer, SrtpKeys, SrtpProfile, session};

use crate::machine;
use crate::shape::RunShape;

/// An RTP header, and an extension with the transport-wide sequence number.
const HEADER_BYTES: usize = 20;

/// Seals `units`, whose sizes are those on the wire, for `viewers` keys on processor `cpu`; CPU time per packet in µs.
///
/// # Errors
/// When the processor is not to be had.
pub fn measure(
    profile: SrtpProfile,
    viewers: usize,
    units: &[Vec<RunShape>],
    duration: Duration,
    cpu: usize,
) -> anyhow::Result<f64> {
    std::thread::scope(|scope| {
        let seal = || -> anyhow::Result<f64> {
            machine::pin(cpu)?;
            Ok(seal(profile, viewers, units, duration))
        };
        scope.spawn(seal).join().expect("the sealer does not panic")
    })
}

fn seal(profile: SrtpProfile, viewers: usize, units: &[Vec<RunShape>], duration: Duration) -> f64 {
    // Each apart from the others, as viewers are.
    let sealers: Vec<Box<RtpSealer>> =
        (0..viewers).map(|viewer| Box::new(session(&keys(profile, viewer)).0)).collect();
    let payload = vec![0x55; 65_536];
    let mut scratch = vec![0; 65_536];
    let (mut index, mut packets) = (0, 0);
    let start = Instant::now();
    let cpu = machine::thread_cpu_seconds();
    for run in units.iter().cycle().flatten() {
        if start.elapsed() >= duration {
            break;
        }
        for sealer in &sealers {
            seal_run(sealer, run, index, &payload, &mut scratch);
        }
        index += u64::from(run.packets);
        packets += u64::from(run.packets) * viewers as u64;
    }
    (machine::thread_cpu_seconds() - cpu) * 1e6 / packets.max(1) as f64
}

fn seal_run(sealer: &RtpSealer, run: &RunShape, index: u64, payload: &[u8], scratch: &mut [u8]) {
    let segment_bytes = usize::from(run.segment_bytes).max(HEADER_BYTES + sealer.profile().tag_bytes());
    let slots = scratch.chunks_exact_mut(segment_bytes).zip(payload.chunks_exact(segment_bytes));
    for (number, (slot, payload)) in slots.take(run.packets.into()).enumerate() {
        let index = index + number as u64;
        let is_last = number + 1 == usize::from(run.packets);
        let bytes = if is_last { usize::from(run.last_bytes) } else { segment_bytes };
        let bytes = bytes.clamp(HEADER_BYTES + sealer.profile().tag_bytes(), segment_bytes);
        let clear = bytes - sealer.profile().tag_bytes();
        slot[..HEADER_BYTES].copy_from_slice(&header(index));
        slot[HEADER_BYTES..clear].copy_from_slice(&payload[HEADER_BYTES..clear]);
        sealer.seal(&mut slot[..bytes], HEADER_BYTES, index);
    }
    black_box(scratch);
}

fn header(index: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..2].copy_from_slice(&[0x90, 96]);
    header[2..4].copy_from_slice(&(index as u16).to_be_bytes());
    header[8..12].copy_from_slice(&0x1234_5678_u32.to_be_bytes());
    header[12..17].copy_from_slice(&[0xBE, 0xDE, 0, 1, 0x31]);
    header[17..19].copy_from_slice(&(index as u16).to_be_bytes());
    header
}

fn keys(profile: SrtpProfile, viewer: usize) -> SrtpKeys {
    let mut key = [0x55; 16];
    key[..8].copy_from_slice(&viewer.to_be_bytes());
    let master = MasterKey { key, salt: (0..profile.salt_bytes() as u8).collect() };
    SrtpKeys { profile, local: master.clone(), remote: master }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_every_shape_are_sealed() {
        let shapes = [(1200, 1200, 54), (1200, 30, 2), (40, 40, 1), (20, 20, 64)];
        let runs = shapes.map(|(segment_bytes, last_bytes, packets)| RunShape {
            segment_bytes,
            last_bytes,
            packets,
        });
        for profile in [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80] {
            assert!(seal(profile, 3, &[runs.to_vec()], Duration::from_millis(1)) >= 0.0);
        }
    }
}
