//! The ring against the kernel, on loopback.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use glommio::LocalExecutorBuilder;
use lanecast_net::{Completion, DestinationId, Ring, Segmentation, Sleeper, Socket, Waker, bind_udp};

/// Longer than anything here takes: only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(10);
const UDP_TOKEN: u64 = 77;

struct Scene {
    ring: Ring,
    port: u16,
}

impl Scene {
    fn new() -> Self {
        let udp = bind_udp("[::]:0".parse().unwrap()).unwrap();
        let port = Socket::from(udp.try_clone().unwrap()).local_addr().unwrap().port();
        Self { ring: Ring::new(Waker::new().unwrap(), udp, UDP_TOKEN).unwrap(), port }
    }

    /// Turns until `take` has what it wants.
    fn until<T>(&mut self, mut take: impl FnMut(Completion) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            self.ring.submit().unwrap();
            while let Some(completion) = self.ring.reap() {
                if let Some(wanted) = take(completion) {
                    return wanted;
                }
            }
            assert!(start.elapsed() < PATIENCE, "nothing came");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Turns until there is nothing left to do.
    fn settle(&mut self) -> Vec<Completion> {
        let mut all = Vec::new();
        for _ in 0..1000 {
            self.ring.submit().unwrap();
            all.extend(std::iter::from_fn(|| self.ring.reap()));
            if self.ring.prepare_sleep() {
                self.ring.awake();
                return all;
            }
        }
        panic!("the ring does not come to rest");
    }

    fn send(&mut self, bytes: &Bytes, segment_bytes: u16, to: &[u32]) -> Vec<DestinationId> {
        let mut blocked = Vec::new();
        self.ring.send_run(bytes, segment_bytes, to.iter().map(|&id| DestinationId(id)), &mut blocked);
        blocked
    }
}

fn receiver() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn datagram(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 9000];
    let length = socket.recv(&mut buffer).unwrap();
    buffer[..length].to_vec()
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    receiver().1
}

/// Packets of 100 bytes, the last of 60; each says its number.
fn run(packets: u8) -> Bytes {
    let mut bytes: Vec<u8> = (0..packets).flat_map(|packet| [packet; 100]).collect();
    bytes.truncate(bytes.len() - 40);
    bytes.into()
}

#[test]
fn runs_arrive_whole_and_in_order_with_and_without_segmentation() {
    for segmented in [true, false] {
        let mut scene = Scene::new();
        if !segmented {
            scene.ring.turn_segmentation_off();
        }
        let (viewer, address) = receiver();
        scene.ring.set_destination(DestinationId(0), address);
        assert_eq!(scene.send(&run(5), 100, &[0]), []);
        assert_eq!(scene.send(&Bytes::from_static(b"alone"), 100, &[0]), []);
        scene.settle();
        for packet in 0..5u8 {
            assert_eq!(datagram(&viewer), vec![packet; if packet < 4 { 100 } else { 60 }]);
        }
        assert_eq!(datagram(&viewer), b"alone");
    }
}

#[test]
fn more_sends_than_the_queue_holds_arrive_as_they_were_given() {
    let mut scene = Scene::new();
    let viewers: Vec<_> = (0..40).map(|_| receiver()).collect();
    for (id, viewer) in (0..).zip(&viewers) {
        scene.ring.set_destination(DestinationId(id), viewer.1);
    }
    let all: Vec<u32> = (0..40).collect();
    // 1600 sends before the first turn's submit.
    for number in 0..40u32 {
        assert_eq!(scene.send(&Bytes::from(number.to_be_bytes().to_vec()), 100, &all), []);
    }
    scene.settle();
    for (viewer, _) in &viewers {
        for number in 0..40u32 {
            assert_eq!(datagram(viewer), number.to_be_bytes());
        }
    }
}

#[test]
fn datagrams_come_with_their_sender() {
    let mut scene = Scene::new();
    let (client, address) = receiver();
    for text in ["one", "two"] {
        client.send_to(text.as_bytes(), ("127.0.0.1", scene.port)).unwrap();
        let got = scene.until(|completion| match completion {
            Completion::Datagram { token, from, bytes } => Some((token, from, bytes)),
            _ => None,
        });
        assert_eq!(got, (UDP_TOKEN, address, Bytes::from(text)));
    }
    scene.ring.send_datagram(Bytes::from_static(b"answer"), address);
    scene.settle();
    assert_eq!(datagram(&client), b"answer");
}

#[test]
fn an_unreachable_destination_is_told_and_disturbs_nobody_else() {
    let mut scene = Scene::new();
    let gone: Vec<_> = (0..8).map(|_| nobody()).collect();
    let (viewer, address) = receiver();
    scene.ring.set_destination(DestinationId(100), address);
    for (id, &address) in (0..).zip(&gone) {
        scene.ring.set_destination(DestinationId(id), address);
    }
    let mut told = Vec::new();
    for round in 0..20u8 {
        // Everybody who is gone stands before the one who is there.
        scene.send(&Bytes::from(vec![round; 10]), 100, &[0, 1, 2, 3, 4, 5, 6, 7, 100]);
        scene.ring.submit().unwrap();
        while let Some(completion) = scene.ring.reap() {
            match completion {
                Completion::Unreachable { address } => {
                    let id = gone.iter().position(|&gone| gone == address).expect("only who is gone");
                    scene.ring.clear_destination(DestinationId(id as u32));
                    told.push(id);
                }
                Completion::SendFailed { destination, .. } => assert_ne!(destination, DestinationId(100)),
                _ => {}
            }
        }
    }
    for completion in scene.settle() {
        if let Completion::Unreachable { address } = completion {
            told.extend(gone.iter().position(|&gone| gone == address));
        }
    }
    told.sort_unstable();
    told.dedup();
    assert_eq!(told, [0, 1, 2, 3, 4, 5, 6, 7]);
    let mut rounds: Vec<_> = (0..20).map(|_| datagram(&viewer)[0]).collect();
    rounds.sort_unstable();
    assert_eq!(rounds, (0..20).collect::<Vec<u8>>(), "each once");
}

#[test]
fn a_destination_that_the_kernel_refuses_is_tried_packet_by_packet_once_and_is_nobody_elses_matter() {
    let mut scene = Scene::new();
    let (viewer, address) = receiver();
    // Port 0: EINVAL, however it is cut.
    scene.ring.set_destination(DestinationId(0), "127.0.0.1:0".parse().unwrap());
    scene.ring.set_destination(DestinationId(1), address);
    scene.send(&run(5), 100, &[0, 1]);
    let failed = scene
        .settle()
        .iter()
        .filter(|completion| {
            matches!(completion, Completion::SendFailed { destination: DestinationId(0), .. })
        })
        .count();
    assert_eq!(failed, 5, "one a packet");
    assert_eq!(scene.ring.statistics().sends, 2 + 5);
    assert_eq!(scene.ring.segmentation(), Segmentation::Kernel);
    for packet in 0..5u8 {
        assert_eq!(datagram(&viewer)[0], packet);
    }
    // From now on nothing is tried twice.
    scene.send(&run(5), 100, &[0]);
    scene.settle();
    assert_eq!(scene.ring.statistics().sends, 2 + 5 + 5);
}

#[test]
fn a_stream_socket_connects_writes_and_receives() {
    let mut scene = Scene::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = vec![0; 600_000];
        stream.read_exact(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let socket = Socket::tcp_for(&address).unwrap();
    scene.ring.connect(1, &socket, address);
    scene.until(|completion| match completion {
        Completion::Connected { token: 1, result } => result.ok(),
        _ => None,
    });
    let mut chunks: VecDeque<_> = (0..6u8).map(|chunk| Bytes::from(vec![chunk; 100_000])).collect();
    let sent: Vec<u8> = chunks.iter().flatten().copied().collect();
    scene.ring.write(2, &socket, &mut chunks);
    let written = scene.until(|completion| match completion {
        Completion::Written { token: 2, result } => Some(result.unwrap()),
        _ => None,
    });
    assert_eq!(written, 600_000);
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(50_000);
        scene.ring.receive(3, &socket, std::mem::take(&mut buffer));
        let (back, received) = scene.until(|completion| match completion {
            Completion::Received { token: 3, buffer, result } => Some((buffer, result.unwrap())),
            _ => None,
        });
        buffer = back;
        if received == 0 {
            break;
        }
    }
    assert!(buffer == sent);
    echo.join().unwrap();
}

#[test]
fn a_write_that_the_peer_cuts_short_is_an_error() {
    let mut scene = Scene::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let socket = Socket::tcp_for(&address).unwrap();
    scene.ring.connect(1, &socket, address);
    scene.until(|completion| matches!(completion, Completion::Connected { .. }).then_some(()));
    let (peer, _) = listener.accept().unwrap();
    // More than two sockets' buffers hold, to somebody who reads nothing.
    scene.ring.write(2, &socket, &mut VecDeque::from([Bytes::from(vec![0; 64 << 20])]));
    scene.settle();
    drop(peer);
    let result = scene.until(|completion| match completion {
        Completion::Written { token: 2, result } => Some(result),
        _ => None,
    });
    assert!(result.is_err());
}

#[test]
fn cancelled_operations_give_their_buffers_back() {
    let mut scene = Scene::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let socket = Socket::tcp_for(&address).unwrap();
    scene.ring.connect(1, &socket, address);
    scene.until(|completion| matches!(completion, Completion::Connected { .. }).then_some(()));
    scene.ring.receive(2, &socket, BytesMut::with_capacity(4321));
    scene.settle();
    scene.ring.cancel_all(&socket);
    drop(socket);
    let (buffer, result) = scene.until(|completion| match completion {
        Completion::Received { token: 2, buffer, result } => Some((buffer, result)),
        _ => None,
    });
    assert!(result.is_err() && buffer.is_empty() && buffer.capacity() >= 4321);
    let (mut peer, _) = listener.accept().unwrap();
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0, "closed with the last operation");
}

#[test]
fn a_cancelled_socket_gives_no_more_datagrams() {
    let mut scene = Scene::new();
    let socket = Socket::from(std::os::fd::OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap()));
    let to = socket.local_addr().unwrap();
    scene.ring.receive_datagrams(5, &socket);
    let (client, _) = receiver();
    client.send_to(b"x", to).unwrap();
    scene.until(|completion| matches!(completion, Completion::Datagram { token: 5, .. }).then_some(()));
    scene.ring.cancel_all(&socket);
    drop(socket);
    scene.until(|completion| matches!(completion, Completion::DatagramsEnded { token: 5, .. }).then_some(()));
}

#[test]
fn a_ring_may_end_in_the_middle_of_everything() {
    let mut scene = Scene::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let socket = Socket::tcp_for(&address).unwrap();
    scene.ring.connect(1, &socket, address);
    scene.until(|completion| matches!(completion, Completion::Connected { .. }).then_some(()));
    scene.ring.receive(2, &socket, BytesMut::with_capacity(100));
    scene.ring.start_timer(Duration::from_secs(3600));
    scene.ring.submit().unwrap();
    drop(scene);
    drop(socket);
    let (mut peer, _) = listener.accept().unwrap();
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0, "nothing holds the socket any more");
}

#[test]
fn completions_and_wakes_end_a_sleep() {
    let udp = bind_udp("[::]:0".parse().unwrap()).unwrap();
    let executor = LocalExecutorBuilder::default().io_memory(64 << 10).ring_depth(32).make().unwrap();
    executor.run(async move {
        let waker = Waker::new().unwrap();
        let mut ring = Ring::new(waker.clone(), udp, UDP_TOKEN).unwrap();
        let sleeper = Sleeper::new(&waker).unwrap();
        ring.start_timer(Duration::from_millis(20));
        // A timer.
        'timer: loop {
            ring.submit().unwrap();
            while let Some(completion) = ring.reap() {
                if matches!(completion, Completion::Timer) {
                    break 'timer;
                }
            }
            if ring.prepare_sleep() {
                sleeper.sleep().await.unwrap();
                ring.awake();
            }
        }
        // Another thread; and a wake that came before the sleep is not lost.
        for early in [false, true] {
            let wakes = waker.clone();
            let thread = std::thread::spawn(move || wakes.wake());
            if early {
                thread.join().unwrap();
                sleeper.sleep().await.unwrap();
            } else {
                sleeper.sleep().await.unwrap();
                thread.join().unwrap();
            }
        }
    });
}
