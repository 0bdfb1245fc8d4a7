//! ICE-TCP, passive (RFC 6544): the one listener for viewers without UDP.
//!
//! A connection shows by its first frame (RFC 4571: two bytes of length) whose it is: a STUN binding request, whose
//! ufrag names the shard. The shard gets the connection and every byte read, and checks the password. All others are
//! closed without a word, and counted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use lanecast_shard::{AttachIceTcp, Command};
use lanecast_webrtc::stun::BindingRequest;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::TcpOutcome;
use super::identity::shard_of;
use crate::control_plane::ControlPlane;
use crate::http::{pause_after, told};

/// Takes connections until the server is told to stop.
pub async fn serve_ice_tcp(listener: TcpListener, control: Arc<ControlPlane>) {
    let mut stopping = control.stopping();
    let waiting = Waiting::default();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = told(&mut stopping) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match waiting.admit(peer.ip()) {
                    Some(place) => {
                        connections.spawn(take(control.clone(), stream, peer, place));
                    }
                    None => control.webrtc().counters().count_tcp(TcpOutcome::Full),
                },
                Err(error) => pause_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    connections.shutdown().await;
}

async fn take(control: Arc<ControlPlane>, stream: TcpStream, peer: SocketAddr, place: Place) {
    let outcome = attach(&control, stream, peer, place).await.err().unwrap_or(TcpOutcome::Attached);
    control.webrtc().counters().count_tcp(outcome);
    debug!(%peer, ?outcome, "a connection of ICE-TCP");
}

async fn attach(
    control: &ControlPlane,
    mut stream: TcpStream,
    peer: SocketAddr,
    place: Place,
) -> Result<(), TcpOutcome> {
    let first = timeout(FIRST_FRAME_TIMEOUT, read_first_frame(&mut stream)).await;
    let buffered = first.map_err(|_| TcpOutcome::Incomplete)??;
    drop(place);
    let request = frame_of(&buffered).and_then(BindingRequest::parse).ok_or(TcpOutcome::NotStun)?;
    let ufrag = request.local_ufrag().to_owned();
    let shard = shard_of(&ufrag).and_then(|index| control.shard(index).ok());
    let shard = shard.ok_or(TcpOutcome::UnknownUfrag)?;
    // Fails on a connection that is already gone, which its shard will see.
    let _ = stream.set_nodelay(true);
    let socket = stream.into_std().map_err(|_| TcpOutcome::Incomplete)?;
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let attach = AttachIceTcp { ufrag, socket, buffered: buffered.freeze(), peer };
    shard.deliver(Command::AttachIceTcp(Box::new(attach))).await.map_err(|_| TcpOutcome::Busy)
}

/// Reads until the first frame is whole; more may come with it.
async fn read_first_frame(stream: &mut TcpStream) -> Result<BytesMut, TcpOutcome> {
    let mut bytes = BytesMut::with_capacity(LENGTH_BYTES + FRAME_BYTES_MAX);
    loop {
        if let Some(length) = frame_bytes(&bytes) {
            if !(STUN_HEADER_BYTES..=FRAME_BYTES_MAX).contains(&length) {
                return Err(TcpOutcome::NotStun);
            }
            if frame_of(&bytes).is_some() {
                return Ok(bytes);
            }
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return Err(TcpOutcome::Incomplete),
            Ok(_) => {}
        }
    }
}

fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let (length, _) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    Some(usize::from(u16::from_be_bytes(*length)))
}

fn frame_of(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(LENGTH_BYTES..LENGTH_BYTES + frame_bytes(bytes)?)
}

/// Connections whose first frame is awaited.
#[derive(Clone)]
struct Waiting {
    places: Arc<Semaphore>,
    by_source: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(WAITING_MAX)), by_source: Arc::default() }
    }
}

impl Waiting {
    fn admit(&self, peer: IpAddr) -> Option<Place> {
        let permit = self.places.clone().try_acquire_owned().ok()?;
        let source = source_of(peer);
        let mut by_source = self.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = by_source.entry(source).or_default();
        if *waiting >= WAITING_PER_SOURCE_MAX {
            return None;
        }
        *waiting += 1;
        Some(Place { source, waiting: self.clone(), _permit: permit })
    }
}

/// The place of one of them, given back when dropped.
struct Place {
    source: IpAddr,
    waiting: Waiting,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_source = self.waiting.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = by_source.get_mut(&self.source) {
            *waiting -= 1;
            if *waiting == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

/// Whoever has one IPv6 address has its /64.
fn source_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

const LENGTH_BYTES: usize = 2;
/// RFC 8489 section 5.
const STUN_HEADER_BYTES: usize = 20;
/// A binding request is far smaller; STUN fits a packet of 1500.
const FRAME_BYTES_MAX: usize = 1500;
/// The frame follows the handshake at once; a bad network may lose it a few times.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(5);
/// A join takes a round trip, so this many are a thousand joins a second from far away.
const WAITING_MAX: usize = 256;
/// Many viewers may share an address, but nobody shall have all places.
const WAITING_PER_SOURCE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_all_places() {
        let waiting = Waiting::default();
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let mut places: Vec<Place> = std::iter::from_fn(|| waiting.admit(one)).collect();
        assert_eq!(places.len(), WAITING_PER_SOURCE_MAX);
        let another = waiting.admit("192.0.2.2".parse().unwrap());
        assert!(another.is_some());
        places.pop();
        assert!(waiting.admit("::ffff:192.0.2.1".parse().unwrap()).is_some());
        drop((places, another));
        assert!(waiting.by_source.lock().unwrap().is_empty());
        assert_eq!(waiting.places.available_permits(), WAITING_MAX);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let text = ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"];
        let [first, second, other] = text.map(|text| source_of(text.parse().unwrap()));
        assert!(first == second && first != other);
    }

    #[test]
    fn there_are_places_for_so_many_only() {
        let waiting = Waiting::default();
        let places: Vec<Place> = (0..=300_u16)
            .filter_map(|host| waiting.admit([10, 0, (host >> 8) as u8, host as u8].into()))
            .collect();
        assert_eq!(places.len(), WAITING_MAX);
    }
}
