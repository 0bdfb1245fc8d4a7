//! Everything of the ring that is not a segmented send: stream sockets, datagrams that come in, timers.
//!
//! Files are in `files`.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use io_uring::types::{CancelBuilder, Fd, RecvMsgOut, Timespec};
use io_uring::{opcode, squeue};

use super::files::FileOperation;
use super::{DATAGRAM_ARENA_BYTES, NAME_LEN, Ring, TAG_IGNORED, TAG_OPERATION, UDP};
use crate::buffers;
use crate::completion::Completion;
use crate::destinations::sockaddr;
use crate::socket::{Socket, address_of};

/// Buffers of one write: `IOV_MAX` is 1024.
const MAX_CHUNKS_PER_WRITE: usize = 256;

/// Names an operation under way, to cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationId(pub(super) u32);

/// Everything else, with what the kernel may still touch.
pub(super) enum Operation {
    Receive {
        token: u64,
        _socket: Socket,
        buffer: BytesMut,
    },
    Write {
        token: u64,
        bytes: usize,
        _socket: Socket,
        _chunks: Vec<Bytes>,
        _vectors: Box<[libc::iovec]>,
        _header: Box<libc::msghdr>,
    },
    Connect {
        token: u64,
        _socket: Socket,
        _address: Box<libc::sockaddr_in6>,
        _address4: Box<libc::sockaddr_in>,
    },
    Datagrams {
        token: u64,
        socket: Option<Socket>,
    },
    Errors,
    Timer {
        _at: Box<Timespec>,
    },
    File(FileOperation),
    Close(OwnedFd),
}

impl Ring {
    /// Receives into the spare room of `buffer` (at least one byte).
    pub fn receive(&mut self, token: u64, socket: &Socket, mut buffer: BytesMut) -> OperationId {
        let room = buffer.spare_capacity_mut();
        let (pointer, length) = (room.as_mut_ptr().cast(), room.len().min(i32::MAX as usize) as u32);
        let entry = opcode::Recv::new(Fd(socket.raw()), pointer, length).build();
        self.start(entry, Operation::Receive { token, _socket: socket.clone(), buffer })
    }

    /// Writes all of `chunks` in order (at most 256 of them are taken; the rest stays in the queue).
    pub fn write(&mut self, token: u64, socket: &Socket, chunks: &mut VecDeque<Bytes>) -> OperationId {
        let chunks: Vec<Bytes> = chunks.drain(..chunks.len().min(MAX_CHUNKS_PER_WRITE)).collect();
        let mut vectors: Box<[libc::iovec]> = chunks
            .iter()
            .map(|chunk| libc::iovec { iov_base: chunk.as_ptr().cast_mut().cast(), iov_len: chunk.len() })
            .collect();
        // SAFETY: all-zero is a valid msghdr.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        header.msg_iov = vectors.as_mut_ptr();
        header.msg_iovlen = vectors.len();
        let entry = opcode::SendMsg::new(Fd(socket.raw()), &raw const *header)
            .flags((libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32)
            .build();
        self.start(
            entry,
            Operation::Write {
                token,
                bytes: chunks.iter().map(Bytes::len).sum(),
                _socket: socket.clone(),
                _chunks: chunks,
                _vectors: vectors,
                _header: header,
            },
        )
    }

    /// Connects a stream socket made by [`Socket::tcp_for`] the same address.
    pub fn connect(&mut self, token: u64, socket: &Socket, to: SocketAddr) -> OperationId {
        let address = Box::new(sockaddr(to));
        // SAFETY: all-zero is a valid sockaddr_in.
        let mut address4: Box<libc::sockaddr_in> = Box::new(unsafe { std::mem::zeroed() });
        let entry = match to {
            SocketAddr::V4(to) => {
                address4.sin_family = libc::AF_INET as libc::sa_family_t;
                address4.sin_port = to.port().to_be();
                address4.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
                let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
                opcode::Connect::new(Fd(socket.raw()), (&raw const *address4).cast(), length).build()
            }
            SocketAddr::V6(_) => {
                opcode::Connect::new(Fd(socket.raw()), (&raw const *address).cast(), NAME_LEN as u32).build()
            }
        };
        let operation =
            Operation::Connect { token, _socket: socket.clone(), _address: address, _address4: address4 };
        self.start(entry, operation)
    }

    /// Receives datagrams of `socket` until it is cancelled.
    pub fn receive_datagrams(&mut self, token: u64, socket: &Socket) -> OperationId {
        self.start_datagrams(token, Some(socket.clone()))
    }

    /// Sends one datagram of another socket than the shard's, without waiting: control traffic that may be lost.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn send_from(&self, socket: &Socket, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        socket.send_to(bytes, to)
    }

    /// A [`Completion::Timer`] after `delay`.
    pub fn start_timer(&mut self, delay: Duration) -> OperationId {
        let at = Box::new(Timespec::from(delay));
        let entry = opcode::Timeout::new(&raw const *at).build();
        self.start(entry, Operation::Timer { _at: at })
    }

    /// Cancels all operations on `socket`; each still gives its completion.
    pub fn cancel_all(&mut self, socket: &Socket) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::fd(Fd(socket.raw())).all())
            .build()
            .user_data(TAG_IGNORED);
        self.push(&entry);
    }

    pub(super) fn start(&mut self, entry: squeue::Entry, operation: Operation) -> OperationId {
        let key = self.operations.insert(operation);
        self.push_operation(key, entry);
        OperationId(key as u32)
    }

    pub(super) fn push_operation(&mut self, key: usize, entry: squeue::Entry) {
        self.push(&entry.user_data(TAG_OPERATION | key as u64));
    }

    pub(super) fn start_datagrams(&mut self, token: u64, socket: Option<Socket>) -> OperationId {
        let header = &raw const *self.multishot_header;
        let entry = match &socket {
            Some(socket) => opcode::RecvMsgMulti::new(Fd(socket.raw()), header, buffers::GROUP).build(),
            None => opcode::RecvMsgMulti::new(UDP, header, buffers::GROUP).build(),
        };
        self.start(entry, Operation::Datagrams { token, socket })
    }

    pub(super) fn start_errors(&mut self) {
        let entry = opcode::PollAdd::new(UDP, libc::POLLERR as u32).multi(true).build();
        self.start(entry, Operation::Errors);
    }

    pub(super) fn on_operation(&mut self, key: usize, result: i32, flags: u32) {
        match self.operations.get(key) {
            Some(Operation::Datagrams { .. } | Operation::Errors) => {
                return self.on_multishot(key, result, flags);
            }
            Some(Operation::File(_)) => return self.on_file(key, result),
            Some(Operation::Close(_)) => return self.on_close(key, result),
            _ => {}
        }
        let Some(operation) = self.operations.try_remove(key) else { return };
        let outcome =
            if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result as usize) };
        self.done.push_back(match operation {
            Operation::Receive { token, mut buffer, .. } => {
                if let Ok(received) = outcome {
                    let length = buffer.len() + received;
                    // SAFETY: the kernel wrote `received` bytes into the spare room behind `len`.
                    unsafe { buffer.set_len(length) };
                }
                Completion::Received { token, buffer, result: outcome }
            }
            Operation::Write { token, bytes, .. } => {
                // MSG_WAITALL stops short only where the connection ended in the middle.
                let result = outcome.and_then(|written| match written {
                    all if all == bytes => Ok(all),
                    _ => Err(io::ErrorKind::ConnectionAborted.into()),
                });
                Completion::Written { token, result }
            }
            Operation::Connect { token, .. } => Completion::Connected { token, result: outcome.map(|_| ()) },
            Operation::Timer { .. } => Completion::Timer,
            // Handled above.
            Operation::Datagrams { .. } | Operation::Errors | Operation::File(_) | Operation::Close(_) => {
                return;
            }
        });
    }

    fn on_multishot(&mut self, key: usize, result: i32, flags: u32) {
        let more = io_uring::cqueue::more(flags);
        match &self.operations[key] {
            Operation::Errors => {
                self.drain_errors();
                if !more {
                    self.operations.remove(key);
                    if !self.closing {
                        self.start_errors();
                    }
                }
            }
            Operation::Datagrams { token, .. } => {
                let token = *token;
                if let Some(id) = io_uring::cqueue::buffer_select(flags) {
                    if result >= 0 {
                        self.on_datagram(token, id, result as usize);
                    }
                    self.buffers.give_back(id);
                }
                if !more {
                    self.on_datagrams_end(key, token, result);
                }
            }
            _ => {}
        }
    }

    fn on_datagram(&mut self, token: u64, id: u16, length: usize) {
        let Ok(out) = RecvMsgOut::parse(self.buffers.filled(id, length), &self.multishot_header) else {
            return;
        };
        let Some(from) = address_of(out.name_data()) else { return };
        let payload = out.payload_data();
        let bytes = if out.is_payload_truncated() {
            self.statistics.oversize_datagrams += 1;
            Bytes::new()
        } else {
            if self.arena.capacity() < payload.len() {
                self.arena.reserve(DATAGRAM_ARENA_BYTES);
            }
            self.arena.extend_from_slice(payload);
            self.arena.split().freeze()
        };
        self.done.push_back(Completion::Datagram { token, from, bytes });
    }

    fn on_datagrams_end(&mut self, key: usize, token: u64, result: i32) {
        let Operation::Datagrams { socket, .. } = self.operations.remove(key) else { return };
        let error = io::Error::from_raw_os_error(-result.min(0));
        let passing = matches!(
            error.raw_os_error(),
            Some(
                0 | libc::ENOBUFS
                    | libc::EAGAIN
                    | libc::ECONNREFUSED
                    | libc::EHOSTUNREACH
                    | libc::ENETUNREACH
            )
        );
        if self.closing {
        } else if passing || socket.is_none() {
            self.start_datagrams(token, socket);
        } else {
            self.done.push_back(Completion::DatagramsEnded { token, error });
        }
    }
}
