//! A viewer's UDP socket: records what comes from the first packet on, and may pass it on to a decoder.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::{PATIENCE, Packet};

pub struct Udp {
    socket: UdpSocket,
    shared: Arc<Shared>,
    arriving: Receiver<Datagram>,
    received: RefCell<Received>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What the receiving thread reads; nothing here may hold it up.
#[derive(Default)]
struct Shared {
    forward: Mutex<Option<SocketAddr>>,
    stop: AtomicBool,
}

struct Datagram {
    from: SocketAddr,
    packet: Packet,
}

#[derive(Default)]
struct Received {
    rtp: Vec<Packet>,
    other: Vec<(SocketAddr, Vec<u8>)>,
    from: Option<SocketAddr>,
}

/// Of a socket, in bytes. A busy machine may keep this process waiting; what is tested is the server.
const RECEIVE_BUFFER: usize = 4_000_000;

impl Udp {
    /// On 127.0.0.1, any free port.
    pub fn open() -> Self {
        Self::open_on(Ipv4Addr::LOCALHOST.into())
    }

    pub fn open_on(ip: IpAddr) -> Self {
        let socket = Socket::new(Domain::for_address((ip, 0).into()), Type::DGRAM, None).expect("a socket");
        socket.set_recv_buffer_size(RECEIVE_BUFFER).expect("a receive buffer");
        socket.bind(&SocketAddr::from((ip, 0)).into()).expect("a free port");
        let socket = UdpSocket::from(socket);
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let shared = Arc::new(Shared::default());
        let (arrived, arriving) = channel();
        let thread = std::thread::spawn({
            let (socket, shared) = (socket.try_clone().expect("a clone"), Arc::clone(&shared));
            move || receive(&socket, &shared, &arrived)
        });
        Self { socket, shared, arriving, received: RefCell::default(), thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.socket.local_addr().expect("bound").port()
    }

    pub fn send(&self, to: SocketAddr, datagram: impl AsRef<[u8]>) {
        self.socket.send_to(datagram.as_ref(), to).expect("loopback takes it");
    }

    /// Passes every RTP packet that comes from now on to `to`.
    pub fn forward(&self, to: SocketAddr) {
        assert!(self.rtp().is_empty(), "forward before the first packet comes");
        *self.shared.forward.lock().expect("no panic while held") = Some(to);
    }

    /// Waits for what `pick` finds among the RTP packets so far.
    pub fn rtp_when<T>(&self, what: &str, pick: impl Fn(&[Packet]) -> Option<T>) -> T {
        self.when(what, |received| pick(&received.rtp))
    }

    pub fn rtp_at_least(&self, count: usize) -> Vec<Packet> {
        self.rtp_when(&format!("{count} RTP packets"), |rtp| (rtp.len() >= count).then(|| rtp.to_vec()))
    }

    pub fn rtp(&self) -> Vec<Packet> {
        self.take_arrived();
        self.received.borrow().rtp.clone()
    }

    /// Where the RTP came from.
    pub fn rtp_source(&self) -> Option<SocketAddr> {
        self.take_arrived();
        self.received.borrow().from
    }

    /// Waits for `count` datagrams that are not RTP.
    pub fn others(&self, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let enough = |received: &Received| (received.other.len() >= count).then(|| received.other.clone());
        self.when(&format!("{count} datagrams that are not RTP"), enough)
    }

    pub fn nothing_came(&self) -> bool {
        self.take_arrived();
        let received = self.received.borrow();
        received.rtp.is_empty() && received.other.is_empty()
    }

    /// Datagrams that the kernel dropped because this process did not read them in time.
    pub fn kernel_drops(&self) -> u64 {
        let table = std::fs::read_to_string("/proc/net/udp").expect("a table");
        let address = format!("0100007F:{:04X}", self.port());
        let row =
            table.lines().find(|row| row.split_whitespace().nth(1) == Some(&address)).expect("our socket");
        row.split_whitespace().last().and_then(|drops| drops.parse().ok()).expect("a number")
    }

    fn when<T>(&self, what: &str, pick: impl Fn(&Received) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.take_arrived();
            if let Some(found) = pick(&self.received.borrow()) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let count = self.received.borrow().rtp.len();
            assert!(!left.is_zero(), "never came by UDP: {what} (got {count} RTP packets)");
            if let Ok(datagram) = self.arriving.recv_timeout(left) {
                self.received.borrow_mut().take(datagram);
            }
        }
    }

    fn take_arrived(&self) {
        let mut received = self.received.borrow_mut();
        self.arriving.try_iter().for_each(|datagram| received.take(datagram));
    }
}

impl Received {
    fn take(&mut self, Datagram { from, packet }: Datagram) {
        if is_rtp(&packet.bytes) {
            self.from = Some(from);
            self.rtp.push(packet);
        } else {
            self.other.push((from, packet.bytes));
        }
    }
}

/// RFC 7983.
fn is_rtp(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first >> 6 == 2)
}

impl Drop for Udp {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().expect("joined once").join();
    }
}

/// A free port, even, with its odd neighbour free too: what ffmpeg binds for RTP and RTCP. Below the ports that
/// the kernel gives to sockets that ask for any, and by the process's id, so that no other test gets it meanwhile.
pub fn free_udp_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    super::until("an even free port with a free neighbour", || {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pair = (std::process::id() % 600 * 10) as u16 + number % 10;
        let port = 20_000 + 2 * pair;
        let _rtp = UdpSocket::bind(("0.0.0.0", port)).ok()?;
        let _rtcp = UdpSocket::bind(("0.0.0.0", port + 1)).ok()?;
        Some(port)
    })
}

fn receive(socket: &UdpSocket, shared: &Shared, arrived: &Sender<Datagram>) {
    let mut buffer = vec![0; 65536];
    while !shared.stop.load(Ordering::Relaxed) {
        // A refused forward shows up here as an error too; neither ends the recording.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let packet = Packet { at: Instant::now(), bytes: buffer[..length].to_vec() };
        if let Some(to) = *shared.forward.lock().expect("no panic while held")
            && is_rtp(&packet.bytes)
        {
            let _ = socket.send_to(&packet.bytes, to);
        }
        if arrived.send(Datagram { from, packet }).is_err() {
            return;
        }
    }
}
