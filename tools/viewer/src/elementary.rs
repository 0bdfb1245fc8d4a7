//! A session's pictures as an Annex B file or pipe.

use std::io::{self, Write};

use crate::depacketize::Depacketizer;
use crate::nal::Codec;
use crate::rtp::Packet;

/// Where the elementary stream goes.
pub struct Elementary {
    sink: Box<dyn Write>,
    depacketizer: Option<Depacketizer>,
    annex_b: Vec<u8>,
}

impl Elementary {
    /// Writes to `sink`, an access unit at a time.
    pub fn new(sink: Box<dyn Write>) -> Self {
        Self { sink, depacketizer: None, annex_b: Vec::new() }
    }

    /// Takes the codec from the SDP; before that it is guessed from the first packet.
    pub fn set_codec(&mut self, codec: Codec) {
        if self.depacketizer.as_ref().is_none_or(|depacketizer| depacketizer.codec() != codec) {
            self.depacketizer = Some(Depacketizer::new(codec));
        }
    }

    /// NAL units written, and what was left out.
    pub fn counts(&self) -> (u64, u64) {
        self.depacketizer.as_ref().map_or((0, 0), |one| (one.units(), one.dropped()))
    }

    /// Takes a packet; writes when it ends an access unit.
    ///
    /// # Errors
    /// The sink's.
    pub fn handle_packet(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Ok(packet) = Packet::parse(bytes) else { return Ok(()) };
        let guess = || Depacketizer::new(Codec::guess(packet.payload()));
        self.depacketizer.get_or_insert_with(guess).handle_packet(&packet, &mut self.annex_b);
        if packet.marker() || self.annex_b.len() > UNWRITTEN_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// The sink's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.sink.write_all(&self.annex_b)?;
        self.annex_b.clear();
        self.sink.flush()
    }
}

/// A stream without markers must not be kept in memory.
const UNWRITTEN_BYTES_MAX: usize = 4 << 20;
