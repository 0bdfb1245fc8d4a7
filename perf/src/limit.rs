//! The bare-kernel limit: what the same runs to as many receivers cost with nothing around the sends.
//!
//! The sender is a thread of its own on one processor, the receivers are sockets like a viewer's (`UDP_GRO`, `recvmmsg`,
//! `epoll`) in a thread on another, because delivering to a socket and waking its reader is part of a send's cost on
//! loopback. Runs go out at the pace of the stream.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lanecast_net::bare::BareLoop;
use lanecast_viewer::receive::{Receiver, SocketOptions};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde::Serialize;

use crate::machine;
use crate::shape::RunShape;

/// How a limit is measured.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Receivers.
    pub viewers: usize,
    /// How long.
    pub duration: Duration,
    /// Between two access units.
    pub interval: Duration,
    /// Each packet's header and payload as pieces of their own, instead of a run in one piece.
    pub in_pieces: bool,
    /// Processor of the sender.
    pub send_cpu: usize,
    /// Processor of the receivers.
    pub receive_cpu: usize,
}

/// What came out.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limit {
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets that the receivers got.
    pub packets_received: u64,
    /// Sender's CPU time per received packet, in µs.
    pub cpu_us_per_packet: f64,
}

/// Measures it with `units` in turn.
///
/// # Errors
/// When a socket, a thread or the ring is not to be had.
pub fn measure(setup: Setup, units: &[Vec<RunShape>]) -> anyhow::Result<Limit> {
    let options = SocketOptions { buffer_bytes: 4 << 20, gro: true, kernel_stamps: true };
    let sockets = (0..setup.viewers)
        .map(|_| options.open(SocketAddr::from(([127, 0, 0, 1], 0))))
        .collect::<Result<Vec<_>, _>>()?;
    let addresses = sockets.iter().map(UdpSocket::local_addr).collect::<Result<Vec<_>, _>>()?;
    let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| receive(setup.receive_cpu, &sockets, &stop, &received));
        let sent = scope.spawn(|| send(setup, units, &addresses)).join().expect("the sender does not panic");
        // The receivers empty their sockets.
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        let (packets_sent, cpu_seconds) = sent?;
        let packets_received = received.load(Ordering::Relaxed);
        let cpu_us_per_packet = cpu_seconds * 1e6 / packets_received.max(1) as f64;
        Ok(Limit { packets_sent, packets_received, cpu_us_per_packet })
    })
}

fn send(setup: Setup, units: &[Vec<RunShape>], to: &[SocketAddr]) -> anyhow::Result<(u64, f64)> {
    machine::pin(setup.send_cpu)?;
    let mut bare = BareLoop::new(to)?;
    let bytes = vec![0x80; 65_536];
    let start = Instant::now();
    let mut next = start;
    let mut packets = 0;
    let cpu = machine::thread_cpu_seconds();
    for unit in units.iter().cycle() {
        if start.elapsed() >= setup.duration {
            break;
        }
        for run in unit {
            if setup.in_pieces {
                bare.send_in_pieces(&bytes[..run.bytes()], run.segment_bytes)?;
            } else {
                bare.send(&bytes[..run.bytes()], run.segment_bytes)?;
            }
            packets += u64::from(run.packets) * to.len() as u64;
        }
        next += setup.interval;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok((packets, machine::thread_cpu_seconds() - cpu))
}

fn receive(cpu: usize, sockets: &[UdpSocket], stop: &AtomicBool, received: &AtomicU64) {
    // Without its own processor the figures are worse, not wrong.
    let _ = machine::pin(cpu);
    let epoll = Epoll::new(EpollCreateFlags::empty()).expect("an epoll");
    for (index, socket) in sockets.iter().enumerate() {
        epoll
            .add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, index as u64))
            .expect("room in the epoll");
    }
    let mut events = vec![EpollEvent::empty(); 256];
    let mut receiver = Receiver::default();
    while !stop.load(Ordering::Relaxed) {
        let ready = epoll.wait(&mut events, EpollTimeout::from(50u8)).unwrap_or(0);
        for event in &events[..ready] {
            let mut packets = 0;
            // Nothing there is not an error here.
            let _ = receiver.receive(&sockets[event.data() as usize], |_| packets += 1);
            received.fetch_add(packets, Ordering::Relaxed);
        }
    }
}
