//! The `webrtc` package's runtime with sockets that lose some of what they receive, and that hold more.
//!
//! Only media (RTP and RTCP) is lost: what is tested is its repair, not that of ICE and DTLS. Media that comes before the
//! package has its keys is kept for it: it would drop it in silence, and nobody knows what to ask for again.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    TokioRuntime, Transmit,
};

/// Which datagrams are lost: the same for the same seed.
///
/// Never the first packet of the media: nobody can ask again for what came before the first that it knows of.
#[derive(Debug)]
pub struct Loss {
    /// Of 2^32.
    share: u64,
    keyed: AtomicBool,
    begun: AtomicBool,
    state: AtomicU64,
    dropped: AtomicU64,
}

impl Loss {
    /// Loses that share of datagrams, from 0 to 1.
    pub fn new(share: f64, seed: u64) -> Self {
        let share = (share.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u64;
        Self {
            share,
            keyed: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            state: AtomicU64::new(seed),
            dropped: AtomicU64::new(0),
        }
    }

    /// The package has its keys: media may come.
    pub fn release(&self) {
        self.keyed.store(true, Relaxed);
    }

    /// How many were lost.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn takes(&self, datagram: &[u8]) -> bool {
        let [128..=191, kind, ..] = *datagram else { return false };
        // RTCP shares the first byte (RFC 5761 section 4).
        let is_first = !(192..=223).contains(&kind) && !self.begun.swap(true, Relaxed);
        let taken = !is_first && self.share > 0 && self.next() < self.share;
        self.dropped.fetch_add(taken.into(), Relaxed);
        taken
    }

    /// SplitMix64, its upper half.
    fn next(&self) -> u64 {
        let state = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) >> 32
    }

    /// Leaves out the lost ones of `filled` bytes in segments of `stride`, and gives what is left.
    fn thin_out(&self, buffer: &mut [u8], filled: usize, stride: usize) -> usize {
        let mut kept = 0;
        let mut at = 0;
        while at < filled {
            let end = (at + stride.max(1)).min(filled);
            if !self.takes(&buffer[at..end]) {
                buffer.copy_within(at..end, kept);
                kept += end - at;
            }
            at = end;
        }
        kept
    }
}

/// The runtime.
pub struct LossyRuntime {
    inner: TokioRuntime,
    loss: Arc<Loss>,
    buffer_bytes: usize,
}

impl LossyRuntime {
    /// Sockets have receive buffers of so many bytes.
    pub fn new(loss: Arc<Loss>, buffer_bytes: usize) -> Self {
        Self { inner: TokioRuntime, loss, buffer_bytes }
    }
}

impl fmt::Debug for LossyRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LossyRuntime").field("loss", &self.loss).finish_non_exhaustive()
    }
}

type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Runtime for LossyRuntime {
    fn spawn(&self, future: Pending<'static, ()>) -> Box<dyn JoinHandle> {
        self.inner.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        if setsockopt(&socket, sockopt::RcvBufForce, &self.buffer_bytes).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &self.buffer_bytes)?;
        }
        let inner = self.inner.wrap_udp_socket(socket)?;
        Ok(Arc::new(LossySocket { inner, loss: Arc::clone(&self.loss), early: Mutex::default() }))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.inner.wrap_tcp_listener(listener)
    }

    fn connect_tcp(&self, remote: SocketAddr) -> Pending<'_, io::Result<Arc<dyn AsyncTcpStream>>> {
        self.inner.connect_tcp(remote)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Pending<'a, io::Result<Vec<SocketAddr>>> {
        self.inner.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Pending<'static, ()> {
        self.inner.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.inner.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.inner.block_on(future);
    }

    fn yield_now(&self) -> Pending<'static, ()> {
        self.inner.yield_now()
    }
}

struct LossySocket {
    inner: Arc<dyn AsyncUdpSocket>,
    loss: Arc<Loss>,
    /// Media that came before the keys.
    early: Mutex<VecDeque<(Vec<u8>, RecvMeta)>>,
}

impl fmt::Debug for LossySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LossySocket").field("loss", &self.loss).finish_non_exhaustive()
    }
}

impl LossySocket {
    /// Keeps the media of what was received for later; gives what is left.
    fn keep_media(&self, buffer: &mut [u8], meta: RecvMeta) -> usize {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = 0;
        let mut at = 0;
        while at < meta.len {
            let end = (at + meta.stride.max(1)).min(meta.len);
            if matches!(buffer[at], 128..=191) && early.len() < EARLY_MAX {
                let mut one = meta;
                (one.len, one.stride) = (end - at, end - at);
                early.push_back((buffer[at..end].to_vec(), one));
            } else {
                buffer.copy_within(at..end, kept);
                kept += end - at;
            }
            at = end;
        }
        kept
    }

    /// The next of what was kept, now that there are keys.
    fn give_early(&self, buffers: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> bool {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((bytes, one)) = early.pop_front() {
            let (Some(buffer), Some(meta)) = (buffers.first_mut(), meta.first_mut()) else { return false };
            let Some(room) = buffer.get_mut(..bytes.len()) else { continue };
            if !self.loss.takes(&bytes) {
                room.copy_from_slice(&bytes);
                *meta = one;
                return true;
            }
        }
        false
    }
}

impl AsyncUdpSocket for LossySocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, context: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.inner.poll_send(context, transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let keyed = self.loss.keyed.load(Relaxed);
        if keyed && self.give_early(buffers, meta) {
            return Poll::Ready(Ok(1));
        }
        loop {
            let Poll::Ready(messages) = self.inner.poll_recv(context, buffers, meta)? else {
                return Poll::Pending;
            };
            let mut left = 0;
            for (buffer, meta) in buffers.iter_mut().zip(meta.iter_mut()).take(messages) {
                meta.len = match keyed {
                    true => self.loss.thin_out(buffer, meta.len, meta.stride),
                    false => self.keep_media(buffer, *meta),
                };
                left += meta.len;
            }
            if left > 0 {
                return Poll::Ready(Ok(messages));
            }
        }
    }

    fn max_gso_segments(&self) -> usize {
        self.inner.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}

/// A burst from a GOP cache has a few thousand packets; they wait for milliseconds.
const EARLY_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_kept_and_the_seed_decides() {
        let run = |seed| {
            let loss = Loss::new(0.05, seed);
            (0..20_000).map(|_| loss.takes(&[0x80, 96])).collect::<Vec<_>>()
        };
        let lost = run(7).iter().filter(|lost| **lost).count();
        assert!((800..1200).contains(&lost), "{lost}");
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn what_is_not_media_is_never_lost() {
        let loss = Loss::new(1.0, 1);
        assert!(!loss.takes(&[0, 1]) && !loss.takes(&[22, 1]) && !loss.takes(&[]));
        assert!(loss.takes(&[0x80, 200]));
        assert!(!loss.takes(&[0x90, 96]), "the first packet of the media");
        assert!(loss.takes(&[0x90, 96]));
        assert_eq!(loss.dropped(), 2);
    }

    #[test]
    fn the_segments_that_are_left_close_up() {
        let loss = Loss::new(1.0, 1);
        assert!(!loss.takes(&[0x80, 96]));
        // Media in the first and the third, something else in the second and the short last.
        let mut buffer = [0x80, 1, 1, 20, 2, 2, 0x80, 3, 3, 21, 4];
        assert_eq!(loss.thin_out(&mut buffer, 11, 3), 5);
        assert_eq!(buffer[..5], [20, 2, 2, 21, 4]);
    }
}
