//! The floor: the barest loop that sends runs to many destinations by io_uring and `UDP_SEGMENT`.
//!
//! No streams, no viewers, no reference counts, nothing prepared twice. `perf` measures it beside the server, at the same
//! run sizes, because the server's cost per packet means something only as a ratio to this.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::types::Fixed;
use io_uring::{IoUring, opcode};

use lanecast_packet::RTP_HEADER_BYTES;

use crate::destinations::sockaddr;
use crate::offload::{CONTROL_LEN, ControlMessages};
use crate::socket::bind_udp;

const ENTRIES: u32 = 512;

/// A socket, a ring, and a message header for each destination.
pub struct BareLoop {
    ring: IoUring,
    _socket: OwnedFd,
    controls: ControlMessages,
    addresses: Box<[libc::sockaddr_in6]>,
    headers: Box<[libc::msghdr]>,
    iovecs: Vec<libc::iovec>,
}

impl std::fmt::Debug for BareLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BareLoop").field("destinations", &self.addresses.len()).finish_non_exhaustive()
    }
}

impl BareLoop {
    /// # Errors
    /// When the socket or the ring is not to be had.
    pub fn new(destinations: &[SocketAddr]) -> io::Result<Self> {
        let socket = bind_udp("[::]:0".parse().map_err(io::Error::other)?)?;
        let ring = IoUring::builder()
            .setup_cqsize(ENTRIES * 4)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(ENTRIES)?;
        ring.submitter().register_files(&[socket.as_raw_fd()])?;
        let mut addresses: Box<[_]> = destinations.iter().map(|&address| sockaddr(address)).collect();
        let headers = addresses
            .iter_mut()
            .map(|address| {
                // SAFETY: all-zero is a valid msghdr.
                let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
                header.msg_name = std::ptr::from_mut(address).cast();
                header.msg_namelen = size_of_val(address) as libc::socklen_t;
                header
            })
            .collect();
        Ok(Self {
            ring,
            _socket: socket,
            controls: ControlMessages::new(),
            addresses,
            headers,
            iovecs: Vec::new(),
        })
    }

    /// Sends one run to every destination and waits until the kernel has taken them all.
    ///
    /// # Errors
    /// The first send's that failed.
    pub fn send(&mut self, run: &[u8], segment_bytes: u16) -> io::Result<()> {
        self.iovecs.clear();
        self.iovecs.push(iovec(run));
        self.send_iovecs(run.len(), segment_bytes)
    }

    /// The same with each packet's header and payload as pieces of their own: what sharing payloads where they were
    /// received would cost each viewer's send.
    ///
    /// # Errors
    /// The first send's that failed.
    pub fn send_in_pieces(&mut self, run: &[u8], segment_bytes: u16) -> io::Result<()> {
        self.iovecs.clear();
        for packet in run.chunks(usize::from(segment_bytes)) {
            let (header, payload) = packet.split_at(packet.len().min(RTP_HEADER_BYTES));
            self.iovecs.extend([iovec(header), iovec(payload)]);
        }
        self.send_iovecs(run.len(), segment_bytes)
    }

    fn send_iovecs(&mut self, bytes: usize, segment_bytes: u16) -> io::Result<()> {
        let segmented = bytes > usize::from(segment_bytes);
        let control = if segmented { self.controls.segment(segment_bytes) } else { std::ptr::null_mut() };
        let mut under_way = 0;
        for at in 0..self.headers.len() {
            let header = &mut self.headers[at];
            header.msg_iov = self.iovecs.as_mut_ptr();
            header.msg_iovlen = self.iovecs.len();
            header.msg_control = control;
            header.msg_controllen = if segmented { CONTROL_LEN as _ } else { 0 };
            let entry = opcode::SendMsg::new(Fixed(0), std::ptr::from_ref(header)).build();
            // SAFETY: header, address, iovecs, control and run outlive the call, which waits for the completions.
            while unsafe { self.ring.submission().push(&entry) }.is_err() {
                under_way -= self.complete(0)?;
            }
            under_way += 1;
        }
        while under_way > 0 {
            under_way -= self.complete(1)?;
        }
        Ok(())
    }

    fn complete(&mut self, want: usize) -> io::Result<usize> {
        self.ring.submit_and_wait(want)?;
        let mut done = 0;
        let mut first_error = None;
        for entry in self.ring.completion() {
            done += 1;
            if entry.result() < 0 {
                first_error.get_or_insert(entry.result());
            }
        }
        first_error.map_or(Ok(done), |error| Err(io::Error::from_raw_os_error(-error)))
    }
}

fn iovec(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}
