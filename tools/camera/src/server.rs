//! Sockets of a camera process, and the loop that accepts its clients.

use std::future::Future;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use socket2::{Domain, Socket, Type};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::config::CameraConfig;
use crate::connection::{Connection, UdpPair};
use crate::rng::Rng;
use crate::site::Site;

/// Serves `config` until `stop` resolves. Calls `listening` with the mount points' URLs once clients can connect.
/// Needs a tokio runtime with I/O and time.
///
/// # Errors
/// The address cannot be bound, the file cannot be read, or a setting is out of its range.
pub async fn serve(
    config: CameraConfig,
    listening: impl FnOnce(&[String]),
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let server = Server::bind(config)?;
    listening(&server.urls());
    server.run(stop).await
}

/// Bound sockets, nobody served yet.
pub(crate) struct Server {
    site: Arc<Site>,
    listener: TcpListener,
    udp: Option<(UdpSocket, UdpSocket)>,
    address: SocketAddr,
}

impl Server {
    pub fn bind(config: CameraConfig) -> anyhow::Result<Self> {
        let listener = listen(config.bind).with_context(|| format!("cannot listen on {}", config.bind))?;
        let address = listener.local_addr()?;
        let udp = if config.transports.udp() { Some(bind_pair(config.bind)?) } else { None };
        let udp_ports = match &udp {
            Some((rtp, rtcp)) => Some((rtp.local_addr()?.port(), rtcp.local_addr()?.port())),
            None => None,
        };
        let site = Arc::new(Site::new(config, udp_ports)?);
        Ok(Self { site, listener, udp, address })
    }

    pub fn urls(&self) -> Vec<String> {
        self.site.urls(self.address)
    }

    pub async fn run(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let udp = match self.udp {
            Some((rtp, rtcp)) => Some(Arc::new(UdpPair {
                rtp: tokio::net::UdpSocket::from_std(rtp)?,
                rtcp: tokio::net::UdpSocket::from_std(rtcp)?,
            })),
            None => None,
        };
        let mut rng = Rng::new(self.site.config.seed.unwrap_or_else(seed_from_clock));
        let epoch = Instant::now();
        let mut clients = JoinSet::new();
        if let Some(udp) = &udp {
            clients.spawn(ignore_datagrams(Arc::clone(udp)));
        }
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                Some(_) = clients.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let rng = Rng::new(rng.next());
                        let connection =
                            Connection::new(stream, peer, Arc::clone(&self.site), udp.clone(), epoch, rng);
                        clients.spawn(serve_client(connection, peer));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a client");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

async fn serve_client(connection: std::io::Result<Connection>, peer: SocketAddr) {
    tracing::debug!(%peer, "connected");
    let result = match connection {
        Ok(connection) => connection.run().await,
        Err(error) => Err(error),
    };
    match result {
        Ok(end) => tracing::info!(%peer, ?end, "disconnected"),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            tracing::info!(%peer, "the client hung up");
        }
        Err(error) => tracing::warn!(%peer, %error, "disconnected"),
    }
}

/// Receiver reports and hole punches are read so that they do not fill the socket, and ignored.
async fn ignore_datagrams(udp: Arc<UdpPair>) {
    let (mut rtp, mut rtcp) = ([0; 64], [0; 64]);
    loop {
        let result = tokio::select! {
            result = udp.rtp.recv_from(&mut rtp) => result,
            result = udp.rtcp.recv_from(&mut rtcp) => result,
        };
        if let Err(error) = result {
            // A client's closed port, told by ICMP.
            tracing::trace!(%error, "reading a datagram");
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// An even port for RTP and the next one for RTCP (RFC 3550 section 11).
fn bind_pair(address: SocketAddr) -> anyhow::Result<(UdpSocket, UdpSocket)> {
    for _ in 0..PAIR_ATTEMPTS {
        let first = UdpSocket::bind((address.ip(), 0)).context("cannot bind a UDP port")?;
        let port = first.local_addr()?.port();
        let Ok(second) = UdpSocket::bind((address.ip(), port ^ 1)) else { continue };
        let (rtp, rtcp) = if port % 2 == 0 { (first, second) } else { (second, first) };
        for socket in [&rtp, &rtcp] {
            socket.set_nonblocking(true)?;
        }
        socket2::SockRef::from(&rtp).set_send_buffer_size(SEND_BUFFER)?;
        return Ok((rtp, rtcp));
    }
    bail!("no free pair of UDP ports")
}

fn seed_from_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64 ^ u64::from(std::process::id()) << 32
}

/// Hundreds of cameras are dialled at once.
const BACKLOG: i32 = 1024;
/// Neighbours of free ports are free almost always.
const PAIR_ATTEMPTS: usize = 64;
/// The kernel halves it to what `net.core.wmem_max` allows.
const SEND_BUFFER: usize = 4 << 20;
/// Out of file descriptors: somebody has to leave first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
