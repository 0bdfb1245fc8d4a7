//! Writes packets one behind the other and cuts them into runs.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};

use crate::{RTP_HEADER_BYTES, Run};

/// Segments that one send may have: the kernel's `UDP_MAX_SEGMENTS` of all versions in use.
const MAX_PACKETS: u16 = 64;
/// Bytes that one send may have: 65,507 by UDP over IPv4, rounded down.
const MAX_SEND_BYTES: usize = 65_000;
/// What an encrypted viewer's copy of a packet may have more: a header extension (8), an original sequence number (2)
/// and an SRTP tag (16), rounded up.
const MAX_GROWTH_BYTES: usize = 32;
/// Memory that runs are cut from: some ten access units of a 4 Mb/s camera share an allocation.
const ARENA_BYTES: usize = 256 << 10;

/// Arenas that wait to be written again: one is always enough in the steady state, the rest is for uneven GOPs. New memory
/// costs page faults, so a stream that lets go of what it takes up should take up what it let go of.
const MAX_SPARE: usize = 2;

/// What all packets of a stream have in common.
#[derive(Clone, Copy, Debug)]
pub struct WriterConfig {
    /// Synchronization source.
    pub ssrc: u32,
    /// Payload type.
    pub payload_type: u8,
    /// Number of the first packet; its low 16 bits are the first sequence number.
    pub first_packet: u64,
}

/// The writer. Order: `begin_access_unit`, `packet` for each, `end_access_unit`; runs come out of `poll_run`.
#[derive(Debug)]
pub struct RunWriter {
    config: WriterConfig,
    next_packet: u64,
    arena: BytesMut,
    open: Open,
    rtp_timestamp: u32,
    starts_access_unit: bool,
    random_access: bool,
    out_of_order: bool,
    /// Packets of access units out of order so far.
    out_of_order_packets: u64,
    done: VecDeque<Run>,
    spare: Vec<BytesMut>,
}

/// The run that is being written; its bytes are all of the arena's.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    segment_bytes: usize,
    last_bytes: usize,
    packets: u16,
}

impl RunWriter {
    /// Nothing written yet.
    pub fn new(config: WriterConfig) -> Self {
        Self {
            config,
            next_packet: config.first_packet,
            arena: BytesMut::new(),
            open: Open::default(),
            rtp_timestamp: 0,
            starts_access_unit: false,
            random_access: false,
            out_of_order: false,
            out_of_order_packets: 0,
            done: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// Takes memory back that no run uses any more; small pieces are left to the allocator.
    pub fn recycle(&mut self, mut memory: BytesMut) {
        if self.spare.len() < MAX_SPARE {
            memory.clear();
            if memory.try_reclaim(ARENA_BYTES) {
                self.spare.push(memory);
            }
        }
    }

    /// Gives memory away that no run uses any more, where nothing waits to be cut: for another writer's
    /// [`recycle`](Self::recycle). Writers that take turns with the same memory write where the processor's cache is.
    pub fn take_memory(&mut self) -> Option<BytesMut> {
        if self.is_open() {
            return None;
        }
        if self.arena.try_reclaim(ARENA_BYTES) {
            return Some(std::mem::take(&mut self.arena));
        }
        self.spare.pop()
    }

    /// Packets from now on belong to the access unit of this timestamp (90 kHz).
    pub fn begin_access_unit(&mut self, rtp_timestamp: u32, random_access: bool) {
        self.cut(false);
        self.rtp_timestamp = rtp_timestamp;
        self.starts_access_unit = true;
        self.random_access = random_access;
        self.out_of_order = false;
    }

    /// The same for a picture that is shown before one sent earlier.
    pub fn begin_out_of_order(&mut self, rtp_timestamp: u32) {
        self.begin_access_unit(rtp_timestamp, false);
        self.out_of_order = true;
    }

    /// Writes one packet: the header is ours, `write` appends exactly `payload_bytes` bytes.
    pub fn packet(&mut self, payload_bytes: usize, write: impl FnOnce(&mut BytesMut)) {
        let bytes = RTP_HEADER_BYTES + payload_bytes;
        let full = self.open.packets > 0
            && (self.open.last_bytes < self.open.segment_bytes
                || bytes > self.open.segment_bytes
                || self.open.packets == MAX_PACKETS
                || self.arena.len() + bytes + MAX_GROWTH_BYTES * (usize::from(self.open.packets) + 1)
                    > MAX_SEND_BYTES);
        if full {
            self.cut(false);
        }
        if self.arena.capacity() - self.arena.len() < bytes {
            self.next_arena();
        }
        let start = self.arena.len();
        self.write_header();
        write(&mut self.arena);
        debug_assert_eq!(self.arena.len() - start, bytes, "a packet is as long as was said");
        if self.open.packets == 0 {
            self.open.segment_bytes = bytes;
        }
        self.open.packets += 1;
        self.open.last_bytes = bytes;
        self.next_packet += 1;
    }

    /// Sets the marker on the last packet and cuts.
    pub fn end_access_unit(&mut self) {
        if self.open.packets > 0 {
            let last = self.arena.len() - self.open.last_bytes;
            self.arena[last + 1] |= 0x80;
        }
        self.cut(true);
    }

    /// Gives out what is written but for the last packet, which may yet get the marker.
    pub fn flush(&mut self) {
        if self.open.packets < 2 {
            return;
        }
        let last = Open { packets: 1, segment_bytes: self.open.last_bytes, last_bytes: self.open.last_bytes };
        let tail = self.arena.split_off(self.arena.len() - last.last_bytes);
        self.open.packets -= 1;
        self.next_packet -= 1;
        self.cut(false);
        self.next_packet += 1;
        self.arena = tail;
        self.open = last;
    }

    /// True while packets wait for the run to be full or the access unit to end.
    pub fn is_open(&self) -> bool {
        self.open.packets > 0
    }

    /// The next run, until `None`.
    pub fn poll_run(&mut self) -> Option<Run> {
        self.done.pop_front()
    }

    /// The open run moves on into another arena: one copy of at most a run in 256 KiB costs less than a send more for
    /// every viewer.
    fn next_arena(&mut self) {
        let mut next = self.spare.pop().unwrap_or_else(|| BytesMut::with_capacity(ARENA_BYTES));
        next.extend_from_slice(&self.arena);
        self.arena = next;
    }

    fn write_header(&mut self) {
        self.arena.put_u8(0x80);
        self.arena.put_u8(self.config.payload_type & 0x7f);
        self.arena.put_u16(self.next_packet as u16);
        self.arena.put_u32(self.rtp_timestamp);
        self.arena.put_u32(self.config.ssrc);
    }

    fn cut(&mut self, ends_access_unit: bool) {
        let open = std::mem::take(&mut self.open);
        if open.packets == 0 {
            return;
        }
        let first_packet = self.next_packet - u64::from(open.packets);
        let first_in_order = first_packet - self.out_of_order_packets;
        if self.out_of_order {
            self.out_of_order_packets += u64::from(open.packets);
        }
        self.done.push_back(Run {
            bytes: self.arena.split().freeze(),
            segment_bytes: open.segment_bytes as u16,
            packets: open.packets,
            first_packet,
            first_in_order,
            rtp_timestamp: self.rtp_timestamp,
            starts_access_unit: std::mem::take(&mut self.starts_access_unit),
            ends_access_unit,
            random_access: std::mem::take(&mut self.random_access),
            out_of_order: self.out_of_order,
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn writer() -> RunWriter {
        RunWriter::new(WriterConfig { ssrc: 0x0102_0304, payload_type: 96, first_packet: 65_534 })
    }

    fn write(writer: &mut RunWriter, payload_bytes: usize) {
        writer.packet(payload_bytes, |out| out.put_bytes(7, payload_bytes));
    }

    fn runs(writer: &mut RunWriter) -> Vec<Run> {
        std::iter::from_fn(|| writer.poll_run()).collect()
    }

    #[test]
    fn equal_packets_and_a_shorter_last_one_are_one_run_with_the_marker_at_its_end() {
        let mut writer = writer();
        writer.begin_access_unit(900, true);
        for bytes in [1188, 1188, 1188, 40] {
            write(&mut writer, bytes);
        }
        writer.end_access_unit();
        let runs = runs(&mut writer);
        assert_eq!(runs.len(), 1);
        let run = &runs[0];
        assert_eq!((run.packets(), run.segment_bytes(), run.first_packet()), (4, 1200, 65_534));
        assert!(run.is_random_access() && run.starts_access_unit() && run.ends_access_unit());
        let packets: Vec<_> = run.iter().collect();
        let markers: Vec<_> = packets.iter().map(|packet| packet.bytes[1] >> 7).collect();
        assert_eq!(markers, [0, 0, 0, 1]);
        let sequence: Vec<_> =
            packets.iter().map(|packet| u16::from_be_bytes([packet.bytes[2], packet.bytes[3]])).collect();
        assert_eq!(sequence, [65_534, 65_535, 0, 1]);
        assert_eq!(packets[3].payload().len(), 40);
    }

    #[test]
    fn a_longer_packet_after_a_shorter_one_starts_a_run() {
        let mut writer = writer();
        writer.begin_access_unit(1, false);
        for bytes in [40, 1188, 1188] {
            write(&mut writer, bytes);
        }
        writer.end_access_unit();
        let shapes: Vec<_> =
            runs(&mut writer).iter().map(|run| (run.packets(), run.segment_bytes())).collect();
        assert_eq!(shapes, [(1, 52), (2, 1200)]);
    }

    #[test]
    fn a_flush_keeps_the_last_packet_for_the_marker() {
        let mut writer = writer();
        writer.begin_access_unit(1, false);
        for _ in 0..3 {
            write(&mut writer, 1188);
        }
        writer.flush();
        assert_eq!(runs(&mut writer).iter().map(Run::packets).collect::<Vec<_>>(), [2]);
        writer.end_access_unit();
        let last = runs(&mut writer);
        assert_eq!((last[0].packets(), last[0].first_packet()), (1, 65_536));
        assert!(last[0].ends_access_unit() && last[0].bytes()[1] & 0x80 != 0);
        assert!(!last[0].starts_access_unit());
    }

    #[test]
    fn another_timestamp_leaves_the_rest_of_the_packets_alone() {
        let mut writer = writer();
        writer.begin_access_unit(1, true);
        write(&mut writer, 100);
        write(&mut writer, 60);
        writer.end_access_unit();
        let run = writer.poll_run().unwrap();
        let other = run.with_timestamp(0xaabb_ccdd);
        for (was, is) in run.iter().zip(other.iter()) {
            assert_eq!(is.bytes[4..8], [0xaa, 0xbb, 0xcc, 0xdd]);
            assert_eq!((&was.bytes[..4], &was.bytes[8..]), (&is.bytes[..4], &is.bytes[8..]));
        }
    }

    #[test]
    fn memory_that_no_run_uses_any_more_is_written_again() {
        let mut writer = writer();
        let mut cached = VecDeque::new();
        let mut arenas = std::collections::HashSet::new();
        for unit in 0..400 {
            writer.begin_access_unit(unit, false);
            for _ in 0..14 {
                write(&mut writer, 1188);
            }
            writer.end_access_unit();
            while let Some(run) = writer.poll_run() {
                cached.push_back(run);
            }
            while cached.len() > 40 {
                if let Some(mut memory) = cached.pop_front().and_then(Run::into_memory) {
                    memory.clear();
                    assert!(memory.try_reclaim(ARENA_BYTES), "all of an arena comes back");
                    arenas.insert(memory.as_ptr() as usize);
                    writer.recycle(memory);
                }
            }
        }
        assert!((1..=5).contains(&arenas.len()), "{} arenas for 400 access units", arenas.len());
    }

    #[test]
    fn writers_that_take_turns_need_one_memory() {
        let mut writers = [writer(), writer(), writer()];
        let mut memory = None;
        let mut places = std::collections::HashSet::new();
        for unit in 0..100 {
            for writer in &mut writers {
                memory.take().into_iter().for_each(|memory| writer.recycle(memory));
                writer.begin_access_unit(unit, false);
                write(writer, 1188);
                assert_eq!(writer.take_memory(), None, "a run is open");
                writer.end_access_unit();
                let run = writer.poll_run().unwrap();
                assert_eq!(writer.take_memory(), None, "a run uses it");
                places.insert(run.bytes().as_ptr() as usize);
                drop(run);
                memory = writer.take_memory();
                assert_eq!(writer.take_memory(), None);
            }
        }
        assert_eq!(places.len(), 1);
    }

    proptest! {
        #[test]
        fn whatever_is_written_comes_out_in_order_in_runs_that_one_send_can_carry(
            units in prop::collection::vec(prop::collection::vec(1usize..1400, 1..200), 1..6),
            flush_every in 1usize..50,
        ) {
            let mut writer = writer();
            let mut expected = 65_534u64;
            let mut sizes = Vec::new();
            for unit in &units {
                writer.begin_access_unit(5, false);
                for (index, &bytes) in unit.iter().enumerate() {
                    write(&mut writer, bytes);
                    sizes.push(bytes + RTP_HEADER_BYTES);
                    if index % flush_every == 0 {
                        writer.flush();
                    }
                }
                writer.end_access_unit();
            }
            let mut seen = Vec::new();
            for run in std::iter::from_fn(|| writer.poll_run()) {
                prop_assert_eq!(run.first_packet(), expected);
                prop_assert!(run.packets() <= MAX_PACKETS && run.bytes().len() + MAX_GROWTH_BYTES * usize::from(run.packets()) <= MAX_SEND_BYTES);
                for packet in run.iter() {
                    prop_assert_eq!(u16::from_be_bytes([packet.bytes[2], packet.bytes[3]]), expected as u16);
                    expected += 1;
                    seen.push(packet.bytes.len());
                }
            }
            prop_assert_eq!(seen, sizes);
        }
    }
}
