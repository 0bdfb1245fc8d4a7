//! The run sizes of a stream, read off what one viewer gets.
//!
//! They are those that the packets' sizes allow; whether the server sent them so shows in its count of sends.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Packets that the server sends in one go: all of `segment_bytes`, the last of `last_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RunShape {
    /// Bytes of every packet but the last.
    pub segment_bytes: u16,
    /// Bytes of the last.
    pub last_bytes: u16,
    /// How many packets.
    pub packets: u16,
}

impl RunShape {
    /// Bytes in all.
    pub fn bytes(&self) -> usize {
        usize::from(self.segment_bytes) * (usize::from(self.packets) - 1) + usize::from(self.last_bytes)
    }
}

/// Most packets and bytes of one segmented send.
const MAX_PACKETS: u16 = 64;
const MAX_BYTES: usize = 65_000;

/// Reads RTP datagrams for `seconds` and gives the runs of each access unit (packets of one timestamp).
///
/// # Errors
/// When nothing comes.
pub fn observe(socket: &UdpSocket, seconds: f64) -> anyhow::Result<Vec<Vec<RunShape>>> {
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let start = Instant::now();
    let mut units = Units::default();
    let mut buffer = [0; 2048];
    while start.elapsed().as_secs_f64() < seconds {
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        units.handle_packet(&buffer[..length]);
    }
    units.finish()
}

/// Runs by access unit, as packets come.
#[derive(Debug, Default)]
pub struct Units {
    units: Vec<Vec<RunShape>>,
    rtp_timestamp: Option<[u8; 4]>,
}

impl Units {
    /// Takes an RTP packet, sealed or not.
    pub fn handle_packet(&mut self, packet: &[u8]) {
        let Some(field) = packet.get(4..8).and_then(|field| field.try_into().ok()) else { return };
        if self.rtp_timestamp.replace(field) != Some(field) {
            self.units.push(Vec::new());
        }
        if let Some(unit) = self.units.last_mut() {
            add(unit, packet.len() as u16);
        }
    }

    /// The whole access units.
    ///
    /// # Errors
    /// When there is none.
    pub fn finish(self) -> anyhow::Result<Vec<Vec<RunShape>>> {
        // The first and the last may be cut.
        let whole = self.units.len().saturating_sub(2);
        let units: Vec<_> = self.units.into_iter().skip(1).take(whole).collect();
        anyhow::ensure!(!units.is_empty(), "no access unit came");
        Ok(units)
    }
}

fn add(unit: &mut Vec<RunShape>, bytes: u16) {
    match unit.last_mut() {
        Some(run)
            if run.last_bytes == run.segment_bytes
                && bytes <= run.segment_bytes
                && run.packets < MAX_PACKETS
                && run.bytes() + usize::from(bytes) <= MAX_BYTES =>
        {
            run.last_bytes = bytes;
            run.packets += 1;
        }
        _ => unit.push(RunShape { segment_bytes: bytes, last_bytes: bytes, packets: 1 }),
    }
}
