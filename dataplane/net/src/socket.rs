//! Sockets: made here with the options that the data plane wants, closed when the last operation is back.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use socket2::{Domain, Protocol, SockAddr, Type};

use crate::error_queue;

/// Kernel buffer of the shard's UDP socket: a thousand viewers' access unit of 16 KB wait here when the device is slower.
const UDP_SEND_BUFFER_BYTES: usize = 32 << 20;
/// Kernel buffer of UDP sockets that receive: 50 ms of 1 Gb/s.
const UDP_RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// A socket shared with the operations under way on it.
#[derive(Clone, Debug)]
pub struct Socket {
    fd: Rc<OwnedFd>,
}

impl Socket {
    /// A TCP socket ready for `Ring::connect` to an address of `peer`'s family.
    ///
    /// # Errors
    /// When the process has no descriptor left or the family is not there.
    pub fn tcp_for(peer: &SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(*peer), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        Ok(Self::from(OwnedFd::from(socket)))
    }

    /// The local address.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket2::SockRef::from(&*self.fd)
            .local_addr()?
            .as_socket()
            .map(canonical)
            .ok_or_else(|| io::Error::other("not an IP socket"))
    }

    /// Ends both directions; the peer sees it at once, even while operations are under way.
    pub fn shutdown(&self) {
        // A socket that is not connected any more has nothing to shut down.
        let _ = socket2::SockRef::from(&*self.fd).shutdown(std::net::Shutdown::Both);
    }

    /// Sends one datagram without waiting.
    pub(crate) fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        socket2::SockRef::from(&*self.fd).send_to_with_flags(bytes, &to.into(), flags).map(|_| ())
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Self { fd: Rc::new(fd) }
    }
}

/// The shard's UDP socket: dual-stack where `address` is `::`, with big buffers and an error queue.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind_udp(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = socket2::Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(false)?;
    set_buffers(&socket);
    error_queue::enable(&socket);
    socket.bind(&SockAddr::from(mapped(address)))?;
    Ok(socket.into())
}

/// A pair of UDP sockets on neighbouring ports, the first even (RFC 3550 section 11), on the address of `local`.
///
/// # Errors
/// When no free pair is found in 64 tries.
pub fn bind_udp_pair(local: IpAddr) -> io::Result<(Socket, Socket, u16)> {
    let mut last = io::Error::other("no free pair of UDP ports");
    for _ in 0..64 {
        let first = plain_udp(SocketAddr::new(local, 0))?;
        let Some(first_addr) = first.local_addr()?.as_socket() else { continue };
        let port = first_addr.port();
        if port % 2 != 0 || port == u16::MAX - 1 {
            continue;
        }
        match plain_udp(SocketAddr::new(local, port + 1)) {
            Ok(second) => {
                return Ok((OwnedFd::from(first).into(), OwnedFd::from(second).into(), port));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn plain_udp(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    set_buffers(&socket);
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// As large as the system lets us: a smaller buffer is no reason not to start.
fn set_buffers(socket: &socket2::Socket) {
    let _ = socket.set_send_buffer_size(UDP_SEND_BUFFER_BYTES);
    let _ = socket.set_recv_buffer_size(UDP_RECEIVE_BUFFER_BYTES);
}

/// An IPv4 address in an IPv6 socket's spelling; others as they are.
pub(crate) fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => {
            SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port())
        }
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// The reverse: an IPv4-mapped address as plain IPv4. A link-local address keeps its scope, without which nothing can be
/// sent to it; others have none, so that equal destinations are equal.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match (address, address.ip().to_canonical()) {
        (SocketAddr::V6(v6), IpAddr::V6(ip)) => {
            let scope_id = if ip.is_unicast_link_local() { v6.scope_id() } else { 0 };
            SocketAddrV6::new(ip, v6.port(), 0, scope_id).into()
        }
        (_, ip) => SocketAddr::new(ip, address.port()),
    }
}

/// A `sockaddr_in` or `sockaddr_in6` as the kernel wrote it.
pub(crate) fn address_of(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*name.first_chunk::<2>()?);
    let port = u16::from_be_bytes([*name.get(2)?, *name.get(3)?]);
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = name.get(4..8)?.try_into().ok()?;
            Some(SocketAddr::new(ip.into(), port))
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = name.get(8..24)?.try_into().ok()?;
            let scope_id = u32::from_ne_bytes(name.get(24..28)?.try_into().ok()?);
            Some(canonical(SocketAddrV6::new(ip.into(), port, 0, scope_id).into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_udp_pair_has_an_even_port_and_its_neighbour() {
        let (rtp, rtcp, port) = bind_udp_pair(IpAddr::from([127, 0, 0, 1])).unwrap();
        assert_eq!(port % 2, 0);
        assert_eq!(rtp.local_addr().unwrap().port(), port);
        assert_eq!(rtcp.local_addr().unwrap().port(), port + 1);
    }

    #[test]
    fn mapped_and_canonical_are_each_others_reverse() {
        let v4: SocketAddr = "192.0.2.7:5000".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::7]:5000".parse().unwrap();
        assert_eq!(canonical(mapped(v4)), v4);
        assert_eq!(canonical(mapped(v6)), v6);
    }

    #[test]
    fn a_link_local_address_comes_back_with_its_scope() {
        let link_local = SocketAddr::from(SocketAddrV6::new("fe80::7".parse().unwrap(), 5000, 0, 3));
        let raw = crate::destinations::sockaddr(link_local);
        // SAFETY: reads the bytes of a live C structure without padding.
        let name = unsafe {
            std::slice::from_raw_parts((&raw const raw).cast::<u8>(), size_of::<libc::sockaddr_in6>())
        };
        assert_eq!(address_of(name), Some(link_local));
        assert_eq!(canonical(link_local), link_local);
    }
}
