//! Which destination answered with an ICMP error (`IP_RECVERR`, ip(7)).
//!
//! On a socket with many destinations a plain `ECONNREFUSED` does not say whose fault it is; the error queue does.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use crate::socket::address_of;

/// Errors read in one go; more wait for the next.
const MAX_ERRORS_PER_READ: usize = 64;

/// Asks the kernel to keep errors with their destination. Without it ICMP errors are simply not seen.
pub(crate) fn enable(socket: &socket2::Socket) {
    for (level, name) in [(libc::IPPROTO_IPV6, libc::IPV6_RECVERR), (libc::IPPROTO_IP, libc::IP_RECVERR)] {
        let on: libc::c_int = 1;
        // SAFETY: passes four bytes of a live local to setsockopt.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                name,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
    }
}

/// Reads the queue: the destinations that cannot be reached.
pub(crate) fn drain(fd: RawFd, mut unreachable: impl FnMut(SocketAddr)) {
    for _ in 0..MAX_ERRORS_PER_READ {
        let mut name = Name([0; 32]);
        // SAFETY: all-zero is a valid msghdr.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = name.0.as_mut_ptr().cast();
        header.msg_namelen = name.0.len() as libc::socklen_t;
        // SAFETY: the header names only live locals with their true sizes; no data and no control are asked for.
        let read = unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
        if read < 0 {
            return;
        }
        if let Some(address) = address_of(&name.0) {
            unreachable(address);
        }
    }
}

/// Room for a `sockaddr_in6`, aligned as one.
#[repr(C, align(8))]
struct Name([u8; 32]);
