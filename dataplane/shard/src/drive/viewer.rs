//! A WSC-RTP viewer: its session machine, its WebSocket, and where its packets go.

use std::net::SocketAddr;
use std::time::Instant;

use lanecast_protocol::wsc::{Session, Transport};
use lanecast_relay::fanout::ViewerId;

use super::websocket::WebSocket;
use crate::command::{SessionId, StreamId};
use crate::timers::Armed;

/// One viewer's slot.
#[derive(Debug)]
pub(crate) struct Viewer {
    pub(crate) id: SessionId,
    pub(crate) viewer: ViewerId,
    pub(crate) stream: StreamId,
    pub(crate) stream_slot: usize,
    pub(crate) epoch: u32,
    pub(crate) session: Box<Session>,
    pub(crate) websocket: WebSocket,
    pub(crate) transport: Transport,
    pub(crate) had_media: bool,
    pub(crate) ended: Option<String>,
    /// Set once it ended: until then its close frame may be on its way.
    pub(crate) linger_until: Option<Instant>,
    pub(crate) armed: Armed,
}

impl Viewer {
    /// Where its datagrams go.
    pub(crate) fn destination(&self) -> Option<SocketAddr> {
        match self.transport {
            Transport::Udp(address) => Some(address),
            Transport::None | Transport::WebSocket => None,
        }
    }
}
