//! Datagrams in batches: `recvmmsg` with `UDP_GRO`, and the kernel's receive stamps.
//!
//! Nothing of a datagram's contents is looked at here.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, recvmmsg, setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

use crate::clock::{Moment, RealtimeOffset};

/// How a receiving socket is made.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// `SO_RCVBUF` in bytes; forced past `net.core.rmem_max` where that is permitted.
    pub buffer_bytes: usize,
    /// `UDP_GRO`: the segments of one send stay together up to here.
    pub gro: bool,
    /// `SO_TIMESTAMPNS`: the kernel's receive stamps.
    pub kernel_stamps: bool,
}

impl SocketOptions {
    /// A non-blocking UDP socket bound to `address`.
    ///
    /// # Errors
    /// When the kernel refuses the socket, the address or an option.
    pub fn open(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        if setsockopt(&socket, sockopt::RcvBufForce, &self.buffer_bytes).is_err() {
            socket.set_recv_buffer_size(self.buffer_bytes)?;
        }
        if self.gro {
            setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
        }
        if self.kernel_stamps {
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        }
        socket.bind(&address.into())?;
        Ok(socket.into())
    }

    /// As [`SocketOptions::open`], on any address and with the destination told with each datagram,
    /// so that many local addresses can share it.
    ///
    /// # Errors
    /// The same.
    pub fn open_shared(&self) -> io::Result<UdpSocket> {
        let socket = self.open(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        Ok(socket)
    }
}

/// One datagram, cut out of what came.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// When the kernel got it.
    pub arrived: Option<Moment>,
    /// When the batch that it is of was read.
    pub read: Moment,
    /// The local address it was sent to, on a shared socket.
    pub destination: Option<Ipv4Addr>,
}

/// The buffers of one thread.
#[derive(Debug)]
pub struct Receiver {
    buffer: Box<[u8]>,
    offset: RealtimeOffset,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            buffer: vec![0; BATCH * DATAGRAM_BYTES_MAX].into_boxed_slice(),
            offset: RealtimeOffset::read(),
        }
    }
}

impl Receiver {
    /// Reads both clocks anew; call it about every second.
    pub fn refresh_clock(&mut self) {
        self.offset = RealtimeOffset::read();
    }

    /// One `recvmmsg`: gives each datagram to `sink` and how many messages the call returned.
    /// Less than [`BATCH`] says that the socket was emptied.
    ///
    /// # Errors
    /// The kernel's: `EAGAIN` for nothing there, `ECONNREFUSED` for a port that is closed.
    pub fn receive(
        &mut self,
        socket: &UdpSocket,
        mut sink: impl FnMut(Datagram<'_>),
    ) -> Result<usize, Errno> {
        // Made anew for each call: the kernel shortens the room for control messages to what it used,
        // and nix does not set it back.
        let room = nix::cmsg_space!(libc::timespec, libc::c_int, libc::in_pktinfo);
        let mut headers = MultiHeaders::<()>::preallocate(BATCH, Some(room));
        let mut chunks = self.buffer.chunks_exact_mut(DATAGRAM_BYTES_MAX);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let batch =
            recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
        let read = Moment::now();
        let mut messages = 0;
        for message in batch {
            messages += 1;
            let attached = Attached::read(&message, self.offset);
            let Some(bytes) = message.iovs().next() else {
                sink(Datagram {
                    bytes: &[],
                    arrived: attached.arrived,
                    read,
                    destination: attached.destination,
                });
                continue;
            };
            for bytes in bytes.chunks(attached.segment_bytes.unwrap_or(bytes.len())) {
                sink(Datagram { bytes, arrived: attached.arrived, read, destination: attached.destination });
            }
        }
        Ok(messages)
    }
}

/// The control messages of one message.
#[derive(Default)]
struct Attached {
    arrived: Option<Moment>,
    segment_bytes: Option<usize>,
    destination: Option<Ipv4Addr>,
}

impl Attached {
    fn read(message: &RecvMsg<'_, '_, ()>, offset: RealtimeOffset) -> Self {
        let mut attached = Self::default();
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::ScmTimestampns(time) => {
                    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
                    let ns = seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0);
                    attached.arrived = Some(offset.moment(ns));
                }
                ControlMessageOwned::UdpGroSegments(size) => {
                    attached.segment_bytes = usize::try_from(size).ok().filter(|size| *size > 0);
                }
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    attached.destination = Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()));
                }
                _ => {}
            }
        }
        attached
    }
}

/// Messages a call: enough for an IDR's runs to come in few calls, few enough for the buffers to stay in the cache.
pub const BATCH: usize = 8;

/// The most that one message holds: 64 KiB, many segments.
const DATAGRAM_BYTES_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::io::IoSlice;
    use std::time::Duration;

    const OPTIONS: SocketOptions = SocketOptions { buffer_bytes: 1 << 20, gro: true, kernel_stamps: true };

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    fn pair() -> (UdpSocket, UdpSocket) {
        let receiving = OPTIONS.open(loopback()).expect("a socket");
        let sending = UdpSocket::bind(loopback()).expect("a socket");
        sending.connect(receiving.local_addr().expect("an address")).expect("a destination");
        (sending, receiving)
    }

    fn collect(receiver: &mut Receiver, socket: &UdpSocket) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        while let Ok(messages) = receiver.receive(socket, |datagram| {
            let arrived = datagram.arrived.expect("a kernel stamp");
            assert!(datagram.read.since(arrived) < Duration::from_secs(60) && arrived <= datagram.read);
            datagrams.push(datagram.bytes.to_vec());
        }) && messages == BATCH
        {}
        datagrams
    }

    #[test]
    fn datagrams_come_whole_and_in_order_over_many_calls() {
        let (sending, receiving) = pair();
        let mut receiver = Receiver::default();
        let sent: Vec<Vec<u8>> = (0..3 * BATCH + 1).map(|index| vec![index as u8; index]).collect();
        for datagram in &sent {
            sending.send(datagram).expect("sent");
        }
        assert_eq!(collect(&mut receiver, &receiving), sent);
        assert_eq!(receiver.receive(&receiving, |_| ()), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_segmented_send_is_cut_at_its_segments_also_after_a_plain_one() {
        let (sending, receiving) = pair();
        let mut receiver = Receiver::default();
        for _ in 0..2 {
            sending.send(&[9; 50]).expect("sent");
            let bytes: Vec<u8> = (0..2500_u16).map(|index| (index / 1000) as u8).collect();
            let size = 1000;
            let control = [ControlMessage::UdpGsoSegments(&size)];
            sendmsg::<()>(sending.as_raw_fd(), &[IoSlice::new(&bytes)], &control, MsgFlags::empty(), None)
                .expect("a kernel with UDP_SEGMENT");
            let expected = [vec![9; 50], vec![0; 1000], vec![1; 1000], vec![2; 500]];
            assert_eq!(collect(&mut receiver, &receiving), expected);
        }
    }

    #[test]
    fn a_shared_socket_tells_the_address_that_a_datagram_was_for() {
        let receiving = OPTIONS.open_shared().expect("a socket");
        let port = receiving.local_addr().expect("an address").port();
        let sending = UdpSocket::bind(loopback()).expect("a socket");
        sending.send_to(b"a", ("127.1.2.3", port)).expect("sent");
        let mut destination = None;
        Receiver::default().receive(&receiving, |datagram| destination = datagram.destination).expect("one");
        assert_eq!(destination, Some(Ipv4Addr::new(127, 1, 2, 3)));
    }
}
