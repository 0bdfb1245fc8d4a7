//! A viewer's slot: what all kinds have in common, and what its kind has.

use std::net::SocketAddr;
use std::time::Instant;

use lanecast_protocol::codec::Codec;
use lanecast_protocol::wsc::{Session, Transport};
use lanecast_relay::fanout::{Egress, ViewerId};
use lanecast_relay::stitcher::Stitcher;
use lanecast_webrtc::ice::Path;
use lanecast_webrtc::peer::Peer;
use smallvec::SmallVec;

use super::playback::Playback;
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
    pub(crate) had_media: bool,
    pub(crate) ended: Option<String>,
    pub(crate) armed: Armed,
    pub(crate) kind: Kind,
    /// What it plays instead of live.
    pub(crate) playing: Option<Box<Playback>>,
    /// What it will play as soon as its first picture is there.
    pub(crate) seeking: Option<Box<Playback>>,
    /// What it played until lately, and until when that is kept: packets of it may have got lost.
    pub(crate) left: Vec<(Instant, Box<Playback>)>,
    pub(crate) playback_timer: Armed,
}

/// What a viewer has by its kind.
#[derive(Debug)]
pub(crate) enum Kind {
    /// WSC-RTP.
    Wsc(Box<Wsc>),
    /// WebRTC.
    WebRtc(Box<WebRtc>),
}

/// A WSC-RTP viewer: its session machine, its WebSocket, and where its packets go.
#[derive(Debug)]
pub(crate) struct Wsc {
    pub(crate) session: Session,
    pub(crate) websocket: WebSocket,
    pub(crate) transport: Transport,
    /// Set once it ended: until then its close frame may be on its way.
    pub(crate) linger_until: Option<Instant>,
    /// Its own numbers, once it has left the stream's.
    pub(crate) stitcher: Option<Stitcher>,
}

/// A WebRTC viewer: its machine, and the connections that it made where it has no UDP.
#[derive(Debug)]
pub(crate) struct WebRtc {
    pub(crate) peer: Peer,
    /// What was negotiated.
    pub(crate) codec: Codec,
    /// Username fragments that are its, newest last.
    pub(crate) fragments: SmallVec<[String; 1]>,
    /// Its datagrams come from here, as far as the shard's table says so.
    pub(crate) address: Option<SocketAddr>,
    /// Slots of its connections.
    pub(crate) connections: SmallVec<[usize; 1]>,
    /// Datagrams of its handshake that wait.
    pub(crate) waiting_handshakes: usize,
}

impl Viewer {
    pub(crate) fn wsc(&mut self) -> Option<&mut Wsc> {
        match &mut self.kind {
            Kind::Wsc(wsc) => Some(wsc),
            Kind::WebRtc(_) => None,
        }
    }

    pub(crate) fn webrtc(&mut self) -> Option<&mut WebRtc> {
        match &mut self.kind {
            Kind::WebRtc(webrtc) => Some(webrtc),
            Kind::Wsc(_) => None,
        }
    }

    /// What it plays, or is to begin with, if that is not live.
    pub(crate) fn recorded(&self) -> Option<&Playback> {
        let first = self.seeking.as_deref().filter(|_| !self.had_media);
        self.playing.as_deref().or(first)
    }

    /// Where its datagrams go.
    pub(crate) fn destination(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Wsc(wsc) => match wsc.transport {
                Transport::Udp(address) => Some(address),
                Transport::None | Transport::WebSocket => None,
            },
            Kind::WebRtc(webrtc) => webrtc.address,
        }
    }
}

impl Wsc {
    /// How it takes packets of the stream, if it takes any.
    pub(crate) fn egress(&self) -> Option<Egress> {
        match (self.transport, self.stitcher.is_some()) {
            (Transport::None, _) => None,
            (Transport::Udp(_), false) => Some(Egress::Datagrams),
            (Transport::Udp(_), true) => Some(Egress::StitchedDatagrams),
            (Transport::WebSocket, false) => Some(Egress::WebSocket),
            (Transport::WebSocket, true) => Some(Egress::StitchedWebSocket),
        }
    }
}

impl WebRtc {
    /// The slot of the connection that its media goes by, if it goes by one.
    pub(crate) fn media_connection(&self) -> Option<u64> {
        match self.peer.path() {
            Some(Path::Tcp { connection, .. }) => Some(connection),
            Some(Path::Udp(_)) | None => None,
        }
    }
}
