//! Files: reads, writes and syncs, each gone on with until all of it is done; and closing.
//!
//! Nothing may hold the shard for long. Writes, syncs and closes are done by workers of the kernel: to write 1 MB takes
//! the shard 22 µs so, and 370 µs (5 ms at worst) if it copies the bytes itself; the processor time of all is the same.
//! Reads but a file's first are begun on the shard, as a read from the page cache is cheaper than asking a worker
//! (256 KiB: 15–20 µs against 30–36) and a read from the device does not wait there; but only in pieces, and some a
//! submission.
//!
//! Opening, naming, truncating and deleting files is the control plane's.

use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

use bytes::{Bytes, BytesMut};
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};

use super::Ring;
use super::operations::{Operation, OperationId};
use crate::completion::Completion;
use crate::file::File;

/// Buffers of one entry of a write: `IOV_MAX` is 1024.
const MAX_CHUNKS_PER_ENTRY: usize = 256;
/// Bytes of one entry: what its result can count.
const MAX_BYTES_PER_ENTRY: usize = i32::MAX as usize;
/// Workers of the kernel that a shard's files may keep busy: so many writes, syncs and closes wait for the device at once.
/// With one, writes wait behind every sync (100 writes and syncs a second: 99% of the writes within 6–28 ms, against
/// 3–7 ms); eight are enough that a few slow syncs do not hold the rest. The kernel's own bound, four a processor for
/// every shard, would be hundreds of threads. Idle ones end.
const MAX_WORKERS: u32 = 8;
/// Bytes of a read that the shard itself copies at once: 20 µs where they are cached, 70 µs where pages are to be found
/// first.
const MAX_INLINE_READ_BYTES: usize = 256 << 10;
/// Such reads of one submission; others are a worker's. Half a millisecond if all go to the device.
const MAX_INLINE_READS: u32 = 8;
/// How often in a row an interrupted operation is begun again, which the kernel may ask for now and then but not for ever.
const MAX_INTERRUPTIONS: u8 = 100;

/// One operation, with what the kernel may still touch.
pub(super) struct FileOperation {
    token: u64,
    file: File,
    offset: u64,
    /// Bytes wanted.
    bytes: usize,
    /// Bytes done.
    done: usize,
    /// In a row.
    interruptions: u8,
    memory: Memory,
}

/// What bytes come from or go to.
enum Memory {
    Read {
        buffer: BytesMut,
    },
    Write {
        _chunks: Vec<Bytes>,
        /// What is left of each chunk.
        vectors: Box<[libc::iovec]>,
        /// The first of `vectors` that is not written.
        first: usize,
    },
    Sync,
}

impl Ring {
    /// Reads up to `bytes` at `offset` to the end of `buffer`, which gets the room. Short only at the file's end.
    ///
    /// After an error, the buffer holds what came before it.
    pub fn read_file(
        &mut self,
        token: u64,
        file: &File,
        offset: u64,
        bytes: usize,
        mut buffer: BytesMut,
    ) -> OperationId {
        buffer.reserve(bytes);
        self.start_file(FileOperation::new(token, file, offset, bytes, Memory::Read { buffer }))
    }

    /// Writes all of `chunks` at `offset`, one behind the other, and goes on after short writes until all is written or
    /// there is an error.
    ///
    /// Two writes under way at once come in no order; wait for the first where that matters.
    pub fn write_file(&mut self, token: u64, file: &File, offset: u64, chunks: Vec<Bytes>) -> OperationId {
        let bytes = chunks.iter().map(Bytes::len).sum();
        let vectors = chunks
            .iter()
            .map(|chunk| libc::iovec { iov_base: chunk.as_ptr().cast_mut().cast(), iov_len: chunk.len() })
            .collect();
        let memory = Memory::Write { _chunks: chunks, vectors, first: 0 };
        self.start_file(FileOperation::new(token, file, offset, bytes, memory))
    }

    /// Puts on the device what writes that are complete have written (fdatasync).
    pub fn sync_file(&mut self, token: u64, file: &File) -> OperationId {
        self.start_file(FileOperation::new(token, file, 0, 0, Memory::Sync))
    }

    fn start_file(&mut self, mut operation: FileOperation) -> OperationId {
        let entry = operation.entry(operation.file.raw(&self.closing_files), &mut self.inline_reads);
        self.start(entry, Operation::File(operation))
    }

    /// Queues the next entries of operations that are not done.
    pub(super) fn continue_files(&mut self) {
        for _ in 0..self.unfinished.len() {
            let Some(key) = self.unfinished.pop_front() else { return };
            if let Some(Operation::File(operation)) = self.operations.get_mut(key) {
                let fd = operation.file.raw(&self.closing_files);
                let entry = operation.entry(fd, &mut self.inline_reads);
                self.push_operation(key, entry);
            }
        }
    }

    /// Bounds what the kernel starts for this thread's rings.
    pub(super) fn limit_workers(&self) -> io::Result<()> {
        // The second number, for what is no file, stays as it is.
        self.ring.submitter().register_iowq_max_workers(&mut [MAX_WORKERS, 0])
    }

    /// Queues the closing of files that nothing uses any more.
    pub(super) fn close_files(&mut self) {
        for fd in self.closing_files.take() {
            let entry = opcode::Close::new(Fd(fd.as_raw_fd())).build().flags(squeue::Flags::ASYNC);
            self.start(entry, Operation::Close(fd));
        }
    }

    pub(super) fn on_close(&mut self, key: usize, result: i32) {
        let Operation::Close(fd) = self.operations.remove(key) else { return };
        // Whatever else the result says, the kernel has taken the descriptor away.
        if result != -libc::ECANCELED {
            let _ = fd.into_raw_fd();
        }
    }

    pub(super) fn on_file(&mut self, key: usize, result: i32) {
        let Some(Operation::File(operation)) = self.operations.get_mut(key) else { return };
        match operation.advance(result) {
            Some(outcome) => {
                if let Operation::File(operation) = self.operations.remove(key) {
                    self.done.push_back(operation.completion(outcome));
                }
            }
            // The kernel has let go of it, and nobody asks for the rest.
            None if self.closing => drop(self.operations.remove(key)),
            None => self.unfinished.push_back(key),
        }
    }
}

impl FileOperation {
    fn new(token: u64, file: &File, offset: u64, bytes: usize, memory: Memory) -> Self {
        // To the kernel, the offset -1 is the descriptor's own position.
        let offset = offset.min(i64::MAX as u64);
        Self { token, file: file.clone(), offset, bytes, done: 0, interruptions: 0, memory }
    }

    /// For what is left.
    fn entry(&mut self, fd: RawFd, inline_reads: &mut u32) -> squeue::Entry {
        let fd = Fd(fd);
        let offset = self.offset.saturating_add(self.done as u64).min(i64::MAX as u64);
        let entry = match &mut self.memory {
            Memory::Read { buffer } => {
                let left = self.bytes - self.done;
                let inline =
                    *inline_reads < MAX_INLINE_READS && self.interruptions == 0 && self.file.is_mapped();
                let length = left.min(if inline { MAX_INLINE_READ_BYTES } else { MAX_BYTES_PER_ENTRY });
                let room = buffer.spare_capacity_mut().as_mut_ptr().cast();
                let entry = opcode::Read::new(fd, room, length as u32).offset(offset).build();
                if inline {
                    *inline_reads += 1;
                    return entry;
                }
                entry
            }
            Memory::Write { vectors, first, .. } => {
                let left = &vectors[*first..];
                let count = left.len().min(MAX_CHUNKS_PER_ENTRY) as u32;
                opcode::Writev::new(fd, left.as_ptr(), count).offset(offset).build()
            }
            Memory::Sync => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
        };
        entry.flags(squeue::Flags::ASYNC)
    }

    /// What an entry's result leads to: the end of the operation, or nothing as there is more to do.
    fn advance(&mut self, result: i32) -> Option<io::Result<usize>> {
        if result < 0 {
            let error = io::Error::from_raw_os_error(-result);
            let again = matches!(-result, libc::EINTR | libc::EAGAIN);
            if again && self.interruptions < MAX_INTERRUPTIONS {
                self.interruptions += 1;
                return None;
            }
            return Some(Err(error));
        }
        self.interruptions = 0;
        let moved = result as usize;
        self.done += moved;
        match &mut self.memory {
            Memory::Read { buffer } => {
                let length = buffer.len() + moved;
                // SAFETY: the kernel wrote `moved` bytes into the spare room behind `len`.
                unsafe { buffer.set_len(length) };
                self.file.set_mapped();
            }
            Memory::Write { vectors, first, .. } => skip(vectors, first, moved),
            Memory::Sync => {}
        }
        let ended = moved == 0 && matches!(self.memory, Memory::Read { .. });
        if self.done == self.bytes || ended {
            Some(Ok(self.done))
        } else if moved == 0 {
            Some(Err(io::ErrorKind::WriteZero.into()))
        } else {
            None
        }
    }

    fn completion(self, result: io::Result<usize>) -> Completion {
        let token = self.token;
        match self.memory {
            Memory::Read { buffer } => Completion::FileRead { token, buffer, result },
            Memory::Write { .. } => Completion::FileWritten { token, result },
            Memory::Sync => Completion::FileSynced { token, result: result.map(drop) },
        }
    }
}

/// Takes `bytes` away from the front, and what is empty then.
fn skip(vectors: &mut [libc::iovec], first: &mut usize, mut bytes: usize) {
    while let Some(vector) = vectors.get_mut(*first) {
        if bytes < vector.iov_len {
            vector.iov_base = vector.iov_base.wrapping_byte_add(bytes);
            vector.iov_len -= bytes;
            return;
        }
        bytes -= vector.iov_len;
        *first += 1;
    }
}
