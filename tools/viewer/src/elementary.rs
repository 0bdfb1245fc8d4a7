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
    /// Writes to `sink`, an access unit at a time; one that is cut off by the end is left out.
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
        if packet.marker() || self.annex_b.len() > UNWRITTEN_BYTES_MAX { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        self.sink.write_all(&self.annex_b)?;
        self.annex_b.clear();
        self.sink.flush()
    }
}

/// A stream without markers must not be kept in memory.
const UNWRITTEN_BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    use std::cell::RefCell;
    use std::rc::Rc;

    #[derive(Clone, Default)]
    struct Sink(Rc<RefCell<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_access_unit_is_written_when_it_is_whole_and_else_not_at_all() {
        let sink = Sink::default();
        let mut elementary = Elementary::new(Box::new(sink.clone()));
        let header = [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        elementary.handle_packet(&[&header[..], &[0x06, 5]].concat()).expect("a sink that takes all");
        assert!(sink.0.borrow().is_empty());
        let mut last = [&header[..], &[0x41, 9]].concat();
        (last[1], last[3]) = (0xe0, 2);
        elementary.handle_packet(&last).expect("a sink that takes all");
        assert_eq!(*sink.0.borrow(), [0, 0, 0, 1, 0x06, 5, 0, 0, 0, 1, 0x41, 9]);
    }
}
