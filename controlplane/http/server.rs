//! hyper connections on the control thread: how many, how long, and how they end.
//!
//! At most `connections` are open at a time. One more gets a 503 and is closed, and if many more come
//! at once they are closed without a word. A connection that was upgraded leaves the count when its
//! socket is handed over.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;
use tracing::{debug, warn};

use super::lingering::Lingering;
use super::{Connection, Peer};

/// Bounds of the server.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Open connections.
    pub connections: usize,
    /// From a connection's first idle moment to the end of a request's header.
    pub header_timeout: Duration,
}

/// Listens on `address`; `[::]` takes IPv4 too.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Serves until `stopping` is true; then takes no new connection and gives open requests a moment to end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ServerLimits,
    mut stopping: watch::Receiver<bool>,
) {
    let server = Server {
        router,
        limits,
        places: Arc::new(Semaphore::new(limits.connections)),
        refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        stopping: stopping.clone(),
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = told(&mut stopping) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => server.accept(stream, peer, &mut connections),
                Err(error) => pause_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        debug!(connections = connections.len(), "connections were cut off");
    }
}

struct Server {
    router: Router,
    limits: ServerLimits,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

impl Server {
    fn accept(&self, stream: TcpStream, peer: SocketAddr, connections: &mut JoinSet<()>) {
        let peer = Peer(SocketAddr::new(peer.ip().to_canonical(), peer.port()));
        // Fails on a connection that is already gone, which the first read tells.
        let _ = stream.set_nodelay(true);
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            let router = self.router.clone();
            connections.spawn(run(
                stream,
                peer,
                router,
                self.limits.header_timeout,
                self.stopping.clone(),
                place,
            ));
        } else if let Ok(refusal) = self.refusals.clone().try_acquire_owned() {
            connections.spawn(refuse(stream, refusal));
        }
    }
}

async fn run(
    stream: TcpStream,
    peer: Peer,
    router: Router,
    header_timeout: Duration,
    mut stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(|body| Body::new(Lingering::new(body)));
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(Connection::new(stream)), service)
        .with_upgrades();
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = told(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(peer = %peer.0, %error, "a connection broke");
    }
}

/// Returns when the server is told to stop, or its sender is gone.
pub(crate) async fn told(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Says that there is no room, and waits until the peer has read it: a close with unread input would cut it off.
async fn refuse(mut stream: TcpStream, _refusal: OwnedSemaphorePermit) {
    let talk = async {
        stream.write_all(NO_ROOM.as_bytes()).await?;
        stream.shutdown().await?;
        let mut scratch = [0; 1024];
        while stream.read(&mut scratch).await? > 0 {}
        io::Result::Ok(())
    };
    // Its outcome changes nothing: the connection ends.
    let _ = timeout(REFUSAL_TIMEOUT, talk).await;
}

/// Out of file descriptors or memory: trying at once again would only burn the core.
pub(crate) async fn pause_after(error: &io::Error) {
    match error.kind() {
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset => {}
        _ => {
            warn!(%error, "no connection can be accepted");
            sleep(ACCEPT_PAUSE).await;
        }
    }
}

const NO_ROOM: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\n",
    "Content-Type: application/json\r\n",
    "Content-Length: 76\r\n",
    "Retry-After: 1\r\n",
    "Connection: close\r\n\r\n",
    "{\"error\":\"too_many_connections\",\"message\":\"The server has no room for you.\"}",
);
/// Connections that wait to be accepted; a join storm comes in one burst.
const BACKLOG: i32 = 1024;
/// Header and first bytes of a body; browsers send a few KiB.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Connections that are being told that there is no room.
const REFUSALS_MAX: usize = 64;
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Part of the five seconds in which the server must end.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_tells_its_own_length() {
        let (_, body) = NO_ROOM.split_once("\r\n\r\n").unwrap();
        assert!(NO_ROOM.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
