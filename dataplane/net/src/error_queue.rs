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
///
/// Not those whose path only takes shorter packets (`EMSGSIZE`), and nothing that the kernel says of itself: those
/// show at the send.
pub(crate) fn drain(fd: RawFd, mut unreachable: impl FnMut(SocketAddr)) {
    for _ in 0..MAX_ERRORS_PER_READ {
        let mut name = Room([0; 32]);
        let mut control = Room([0; CONTROL_BYTES]);
        // SAFETY: all-zero is a valid msghdr.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = name.0.as_mut_ptr().cast();
        header.msg_namelen = name.0.len() as libc::socklen_t;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len() as _;
        // SAFETY: the header names only live locals with their true sizes; no data is asked for.
        let read = unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
        if read < 0 {
            return;
        }
        if let Some(address) = address_of(&name.0).filter(|_| is_unreachable(&header)) {
            unreachable(address);
        }
    }
}

fn is_unreachable(header: &libc::msghdr) -> bool {
    // SAFETY: the kernel filled the control room that the header names, which is live, and said how much of it.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a whole message header inside the room.
        let (level, kind, length) =
            unsafe { ((*message).cmsg_level, (*message).cmsg_type, (*message).cmsg_len) };
        let is_error = matches!(
            (level, kind),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        );
        // SAFETY: only computes.
        let whole = unsafe { libc::CMSG_LEN(size_of::<libc::sock_extended_err>() as u32) } as usize;
        if is_error && length >= whole {
            // SAFETY: the message is long enough for the structure; it is read wherever it lies.
            let error =
                unsafe { libc::CMSG_DATA(message).cast::<libc::sock_extended_err>().read_unaligned() };
            let from_network = matches!(error.ee_origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6);
            return from_network && error.ee_errno != libc::EMSGSIZE as u32;
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    false
}

/// Room for the error's control message and the address behind it, and for others that the socket may ask for.
const CONTROL_BYTES: usize = 256;

/// Room for a `sockaddr_in6` or a `cmsghdr`, aligned as one.
#[repr(C, align(8))]
struct Room<const BYTES: usize>([u8; BYTES]);
