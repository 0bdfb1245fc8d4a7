//! The ring of provided buffers that datagrams land in (`IORING_REGISTER_PBUF_RING`).

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// Buffers of a shard: at most this many datagrams wait between two turns; more wait in the sockets.
const COUNT: u16 = 256;
/// Bytes of each: the kernel's header and a datagram of a network with jumbo frames.
const SIZE: usize = 9216;
/// The group's number on the ring; there is one.
pub(crate) const GROUP: u16 = 0;

/// The buffers and the ring entries that tell the kernel of them.
#[derive(Debug)]
pub(crate) struct ProvidedBuffers {
    entries: *mut BufRingEntry,
    memory: Box<[u8]>,
    tail: u16,
}

impl ProvidedBuffers {
    /// Allocates and registers.
    pub(crate) fn register(submitter: &io_uring::Submitter<'_>) -> io::Result<Self> {
        let bytes = usize::from(COUNT) * size_of::<BufRingEntry>();
        // SAFETY: a fresh anonymous mapping, page-aligned as the registration asks.
        let mapping = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if mapping == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mut buffers = Self {
            entries: mapping.cast(),
            memory: vec![0; usize::from(COUNT) * SIZE].into_boxed_slice(),
            tail: 0,
        };
        // SAFETY: the mapping holds COUNT entries and lives until `drop`, which the ring's owner runs after the ring.
        unsafe { submitter.register_buf_ring_with_flags(mapping as u64, COUNT, GROUP, 0)? };
        for id in 0..COUNT {
            buffers.give_back(id);
        }
        Ok(buffers)
    }

    /// What the kernel wrote into buffer `id`: its first `length` bytes.
    pub(crate) fn filled(&self, id: u16, length: usize) -> &[u8] {
        let start = usize::from(id % COUNT) * SIZE;
        &self.memory[start..start + length.min(SIZE)]
    }

    /// Hands buffer `id` to the kernel again.
    pub(crate) fn give_back(&mut self, id: u16) {
        let id = id % COUNT;
        let address = self.memory[usize::from(id) * SIZE..].as_mut_ptr() as u64;
        let slot = usize::from(self.tail & (COUNT - 1));
        // SAFETY: `slot` is below COUNT, and the kernel reads an entry only once the tail is past it.
        unsafe {
            let entry = &mut *self.entries.add(slot);
            entry.set_addr(address);
            entry.set_len(SIZE as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry of the live mapping; the kernel reads it with acquire.
        unsafe {
            let tail = BufRingEntry::tail(self.entries).cast_mut().cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

impl ProvidedBuffers {
    /// Leaves the memory to the kernel for good.
    pub(crate) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.memory));
    }
}

impl Drop for ProvidedBuffers {
    fn drop(&mut self) {
        // SAFETY: unmaps what `register` mapped, with the same length.
        unsafe { libc::munmap(self.entries.cast(), usize::from(COUNT) * size_of::<BufRingEntry>()) };
    }
}
