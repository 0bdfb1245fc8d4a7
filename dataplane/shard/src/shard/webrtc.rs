//! WebRTC viewers: what their machines want, done, over the shard's UDP socket or a connection of ICE-TCP.
//!
//! A datagram is known by its first byte (RFC 7983): a check by the username fragment in it, everything else by the
//! address, which a check has proved. Handshakes cost a hundred times what other datagrams cost, so they wait in a queue
//! of their own, and a turn gives them a share of its time behind all else.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use lanecast_net::{DestinationId, Socket, canonical};
use lanecast_protocol::codec::Codec;
use lanecast_relay::fanout::{Egress, ViewerId};
use lanecast_webrtc::egress::{LIVE, Lost};
use lanecast_webrtc::ice::{IceCredentials, Path};
use lanecast_webrtc::negotiation::RemoteCandidate;
use lanecast_webrtc::peer::{Peer, PeerOutput};
use lanecast_webrtc::stun::{self, BindingRequest};
use smallvec::SmallVec;

use super::{Gate, MAX_VIEWERS, Shard};
use crate::Event;
use crate::command::{AttachIceTcp, AttachWebRtc, SessionError, SessionId, SessionStatistics};
use crate::drive::ice_tcp::{IceTcp, next_frame};
use crate::drive::viewer::{Kind, Viewer, WebRtc};
use crate::timers::{Armed, TimerKey};
use crate::token::{Owner, Token};

/// Viewers that may be on their way at a time: each may hold some 20 KB until its handshake is over, so 80 MB.
const MAX_CONNECTING: usize = 4096;
/// Handshake datagrams that wait: two flights of each of them.
const MAX_WAITING_HANDSHAKES: usize = 2 * MAX_CONNECTING;
/// Those of one viewer: a flight is one to eight datagrams.
const MAX_WAITING_OF_ONE: usize = 16;
/// Connections of one viewer: one an address family, and as many again after a restart.
const MAX_CONNECTIONS: usize = 4;
/// Feedback and the like; longer datagrams of a viewer are none.
const MAX_RTCP_BYTES: usize = 2048;
/// NATs forget a mapping after 30 s at the earliest (RFC 4787 says two minutes, devices say less).
const STUN_INTERVAL: Duration = Duration::from_secs(15);
/// Questions to the STUN server without an answer until its last one counts no more.
const STUN_TRIES: u32 = 3;
/// Seconds from 1900 to 1970.
const NTP_UNIX_SECONDS: u64 = 2_208_988_800;

/// A datagram of a handshake, for when there is time.
#[derive(Debug)]
pub(super) struct Handshake {
    viewer: usize,
    epoch: u32,
    datagram: Bytes,
}

/// What is asked of a STUN server.
#[derive(Debug, Default)]
pub(super) struct StunClient {
    server: Option<SocketAddr>,
    transaction: [u8; 12],
    unanswered: u32,
    mapped: Option<SocketAddr>,
    timer: Armed,
}

/// The slot of an ICE-TCP connection, in the number that the viewer's machine knows it by.
pub(super) fn slot_of(connection: u64) -> usize {
    (connection & u64::from(u32::MAX)) as usize
}

impl Shard {
    pub(super) fn attach_webrtc(&mut self, now: Instant, attach: AttachWebRtc) -> Result<(), SessionError> {
        let AttachWebRtc { stream, session: id, codec, peer, start_unix_ms } = attach;
        let &stream_slot = self.stream_slots.get(&stream).ok_or(SessionError::Unknown)?;
        let index = self.viewers.vacant_key();
        if self.gate != Gate::Open || index >= MAX_VIEWERS || self.connecting >= MAX_CONNECTING {
            return Err(SessionError::Full);
        }
        self.viewer_epoch = self.viewer_epoch.wrapping_add(1);
        self.connecting += 1;
        let fragment = peer.local.ufrag.clone();
        self.fragments.insert(fragment.clone(), index);
        let candidates = peer.candidates.clone();
        let peer = Peer::new(now, peer, self.certificate.clone());
        let slot = &mut self.streams[stream_slot];
        slot.viewers.push(index);
        let known = slot.status.codec;
        self.viewers.insert(Viewer {
            id,
            viewer: ViewerId(index as u32),
            stream,
            stream_slot,
            epoch: self.viewer_epoch,
            had_media: false,
            ended: None,
            armed: Armed::default(),
            playing: None,
            left: Vec::new(),
            seeking: None,
            playback_timer: Armed::default(),
            kind: Kind::WebRtc(Box::new(WebRtc {
                peer,
                codec,
                fragments: SmallVec::from_iter([fragment]),
                address: None,
                connections: SmallVec::new(),
                waiting_handshakes: 0,
            })),
        });
        self.sessions.insert(id, index);
        self.tell_peer(now, index, |_| {});
        self.open_nats(&candidates);
        match start_unix_ms {
            Some(unix_ms) => self.start_seeking(now, index, unix_ms, None),
            None => self.end_if_other_codec(now, index, known),
        }
        self.viewer_came(now, stream_slot);
        Ok(())
    }

    pub(super) fn restart_ice(
        &mut self,
        now: Instant,
        session: SessionId,
        local: IceCredentials,
        remote: IceCredentials,
    ) -> Result<(), SessionError> {
        let &index = self.sessions.get(&session).ok_or(SessionError::Unknown)?;
        let webrtc = self.viewers[index].webrtc().ok_or(SessionError::NotWebRtc)?;
        // Checks under the old credentials still come until the new ones are in use; the session's end removes both.
        webrtc.fragments.push(local.ufrag.clone());
        if webrtc.fragments.len() > MAX_FRAGMENTS {
            self.fragments.remove(&webrtc.fragments.remove(0));
        }
        self.fragments.insert(local.ufrag.clone(), index);
        self.tell_peer(now, index, |peer| peer.restart_ice(now, local, remote));
        Ok(())
    }

    pub(super) fn add_candidates(&mut self, session: SessionId, candidates: &[RemoteCandidate]) {
        if self.sessions.contains_key(&session) {
            self.open_nats(candidates);
        }
    }

    /// A viewer behind a NAT that only lets in who was spoken to: its candidates hear from us (DESIGN section 6). Only where
    /// there is a STUN server, because without one we are not behind a NAT of that kind.
    fn open_nats(&mut self, candidates: &[RemoteCandidate]) {
        if self.stun.server.is_none() {
            return;
        }
        for candidate in candidates {
            let transaction = self.random_transaction();
            self.ring.send_datagram(stun::binding_indication(transaction), candidate.address);
        }
    }

    pub(super) fn read_session(&self, session: SessionId) -> Result<SessionStatistics, SessionError> {
        let &index = self.sessions.get(&session).ok_or(SessionError::Unknown)?;
        Ok(match &self.viewers[index].kind {
            Kind::Wsc(_) => SessionStatistics::Wsc,
            Kind::WebRtc(webrtc) => SessionStatistics::WebRtc(Box::new(webrtc.peer.statistics())),
        })
    }

    /// The answer was for another codec than the stream now has.
    pub(super) fn end_if_other_codec(&mut self, now: Instant, index: usize, codec: Option<Codec>) {
        let negotiated = self.viewers.get_mut(index).and_then(Viewer::webrtc).map(|webrtc| webrtc.codec);
        if let (Some(negotiated), Some(codec)) = (negotiated, codec)
            && negotiated != codec
        {
            self.end_viewer(
                now,
                index,
                format!("the stream is {codec:?} now, the session was made for {negotiated:?}"),
            );
        }
    }

    /// Tells a WebRTC viewer's machine something and does what it wants.
    pub(super) fn tell_peer(&mut self, now: Instant, index: usize, tell: impl FnOnce(&mut Peer)) {
        let Some(webrtc) = self.viewers.get_mut(index).and_then(Viewer::webrtc) else { return };
        let was_connecting = webrtc.peer.is_connecting();
        tell(&mut webrtc.peer);
        let mut ended = None;
        while let Some(output) =
            self.viewers.get_mut(index).and_then(Viewer::webrtc).and_then(|webrtc| webrtc.peer.poll_output())
        {
            match output {
                PeerOutput::Datagram { to, bytes } => self.send_to(to, bytes),
                PeerOutput::Path(path) => self.set_path(index, path),
                PeerOutput::Connected => self.join(now, index),
                PeerOutput::Refresh => self.refresh(now, index),
                PeerOutput::Retransmit(lost) => self.send_again(now, index, &lost),
                PeerOutput::Pace(bytes_per_second) => {
                    let viewer = &mut self.viewers[index];
                    for playback in [&mut viewer.playing, &mut viewer.seeking].into_iter().flatten() {
                        playback.player.set_pace(bytes_per_second);
                    }
                    self.with_viewers_stream(index, |stream, viewer| {
                        stream.set_pace(viewer, bytes_per_second)
                    });
                }
                PeerOutput::Overloaded(until) if self.viewers[index].playing.is_some() => {
                    if let Some(playing) = &mut self.viewers[index].playing {
                        playing.player.block(now, until);
                    }
                    self.run_playing(now, index);
                }
                PeerOutput::Overloaded(until) => {
                    self.with_viewers_stream(index, |stream, viewer| stream.block_until(viewer, until));
                }
                PeerOutput::Closed(reason) => ended = Some(reason),
            }
        }
        let Some(viewer) = self.viewers.get_mut(index) else { return };
        let Some(webrtc) = viewer.webrtc() else { return };
        let connecting = webrtc.peer.is_connecting();
        let wants = webrtc.peer.poll_timeout();
        self.timers.set(TimerKey::Viewer(index), &mut viewer.armed, wants);
        if was_connecting && !connecting {
            self.connecting -= 1;
        }
        if ended.is_some() {
            viewer.ended = ended;
            self.free_viewer(index);
        }
    }

    fn with_viewers_stream(
        &mut self,
        index: usize,
        change: impl FnOnce(&mut lanecast_relay::stream::Stream, ViewerId),
    ) {
        let Some(viewer) = self.viewers.get(index) else { return };
        let (number, stream_slot) = (viewer.viewer, viewer.stream_slot);
        if let Some(slot) = self.streams.get_mut(stream_slot) {
            change(&mut slot.stream, number);
            self.touch(stream_slot);
        }
    }

    fn join(&mut self, now: Instant, index: usize) {
        if self.viewers[index].seeking.is_some() {
            // It begins in the past, as soon as that is there.
            return self.take_over(now, index);
        }
        let fresh = !std::mem::replace(&mut self.viewers[index].had_media, true);
        self.with_viewers_stream(index, |stream, viewer| stream.join(viewer, Egress::WebRtc, fresh));
    }

    fn refresh(&mut self, now: Instant, index: usize) {
        let mut refreshed = false;
        if let Some(playing) = &mut self.viewers[index].playing {
            playing.player.refresh(now);
            refreshed = true;
            self.run_playing(now, index);
        } else {
            self.with_viewers_stream(index, |stream, viewer| refreshed = stream.refresh(viewer));
        }
        if refreshed && let Some(webrtc) = self.viewers.get_mut(index).and_then(Viewer::webrtc) {
            webrtc.peer.refreshed();
        }
    }

    /// Media goes another way from now on.
    fn set_path(&mut self, index: usize, path: Path) {
        self.forget_address(index);
        let viewer = &mut self.viewers[index];
        let number = DestinationId(viewer.viewer.0);
        let Some(webrtc) = viewer.webrtc() else { return };
        match path {
            Path::Udp(address) => {
                webrtc.address = Some(address);
                // An address that another viewer had is this one's: its check is the newer proof.
                self.destinations.insert(address, index);
                self.ring.set_destination(number, address);
            }
            Path::Tcp { .. } => {
                webrtc.address = None;
                self.ring.clear_destination(number);
            }
        }
    }

    fn send_to(&mut self, to: Path, bytes: Bytes) {
        match to {
            Path::Udp(address) => self.ring.send_datagram(bytes, address),
            Path::Tcp { connection, .. } => {
                let length = bytes.len() as u16;
                if let Some(connection) = self.connections.get_mut(slot_of(connection)) {
                    // Signalling that does not fit is lost, as a datagram would be.
                    connection.send(&mut self.ring, &bytes, length);
                }
            }
        }
    }

    /// Packets that a viewer lost, made anew from the stream's history; those of one size leave in one send.
    fn send_again(&mut self, now: Instant, index: usize, lost: &[Lost]) {
        let Self { viewers, streams, scratch, ring, connections, .. } = self;
        let Some(viewer) = viewers.get_mut(index) else { return };
        let (number, stream_slot) = (DestinationId(viewer.viewer.0), viewer.stream_slot);
        let Viewer { kind: Kind::WebRtc(webrtc), playing, left, .. } = viewer else { return };
        let connection = webrtc.media_connection();
        let Some(slot) = streams.get(stream_slot) else { return };
        let mut refused = Vec::new();
        let mut send = |bytes: &Bytes, segment_bytes: u16| match connection {
            None => ring.send_run(bytes, segment_bytes, [number], &mut refused),
            Some(connection) => {
                if let Some(connection) = connections.get_mut(slot_of(connection)) {
                    connection.send(ring, bytes, segment_bytes);
                }
            }
        };
        // What is gathered for one send: bytes, packets, and their size.
        let (mut gathered, mut packets, mut segment_bytes) = (0, 0, 0);
        for packet in lost {
            if gathered + MAX_PACKET_BYTES > MAX_AGAIN_BYTES || packets == MAX_AGAIN_PACKETS {
                send(&scratch.take(), segment_bytes);
                (gathered, packets) = (0, 0);
            }
            let cached = match packet.supply {
                LIVE => slot.stream.packet_in_order(packet.in_order),
                supply => {
                    let mut all = playing.iter().chain(left.iter().map(|(_, playback)| playback));
                    let playback = all.find(|playback| playback.serial == supply);
                    playback.and_then(|playback| playback.player.packet_in_order(packet.in_order))
                }
            };
            // All of a send is in one arena: its room was made with the first packet.
            let wanted = if gathered == 0 { MAX_AGAIN_BYTES } else { MAX_PACKET_BYTES };
            let Some(room) = scratch.room(wanted) else { break };
            let start = room.len();
            let Some(sealed) = webrtc.peer.seal_again(now, packet, cached, room) else { continue };
            let bytes = room.len() - start;
            if gathered > 0 && sealed.segment_bytes != segment_bytes {
                let own = room.split_off(start);
                send(&room.split().freeze(), segment_bytes);
                room.unsplit(own);
                (gathered, packets) = (0, 0);
            }
            (gathered, packets, segment_bytes) = (gathered + bytes, packets + 1, sealed.segment_bytes);
        }
        if gathered > 0 {
            send(&scratch.take(), segment_bytes);
        }
    }

    pub(super) fn free_peer(&mut self, webrtc: &WebRtc) {
        for fragment in &webrtc.fragments {
            self.fragments.remove(fragment);
        }
        if webrtc.peer.is_connecting() {
            self.connecting -= 1;
        }
        for &connection in &webrtc.connections {
            self.connections.remove(connection).shut(&mut self.ring);
        }
    }

    // What comes in.

    /// A datagram of the shard's socket, if its first byte says that it is of a WebRTC viewer; false if nobody took it.
    pub(super) fn on_webrtc_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &Bytes) -> bool {
        match bytes[0] {
            0..=3 => self.on_stun(now, Path::Udp(from), bytes),
            20..=63 | 128..=191 => match self.destinations.get(&from) {
                Some(&index) => self.on_peer_datagram(now, index, bytes),
                None => false,
            },
            _ => false,
        }
    }

    fn on_stun(&mut self, now: Instant, from: Path, bytes: &[u8]) -> bool {
        let Some(request) = BindingRequest::parse(bytes) else {
            return matches!(from, Path::Udp(address) if self.on_stun_answer(address, bytes));
        };
        let Some(&index) = self.fragments.get(request.local_ufrag()) else { return false };
        self.tell_peer(now, index, |peer| peer.handle_check(now, from, &request));
        true
    }

    fn on_peer_datagram(&mut self, now: Instant, index: usize, bytes: &Bytes) -> bool {
        let Some(viewer) = self.viewers.get_mut(index) else { return false };
        let epoch = viewer.epoch;
        let Some(webrtc) = viewer.webrtc() else { return false };
        if bytes[0] >= 128 {
            let mut packet: SmallVec<[u8; 512]> =
                SmallVec::from_slice(&bytes[..bytes.len().min(MAX_RTCP_BYTES)]);
            self.tell_peer(now, index, |peer| peer.handle_rtcp(now, &mut packet));
        } else if !webrtc.peer.is_connecting() {
            self.tell_peer(now, index, |peer| peer.handle_dtls(now, bytes));
        } else if webrtc.waiting_handshakes < MAX_WAITING_OF_ONE
            && self.handshakes.len() < MAX_WAITING_HANDSHAKES
        {
            webrtc.waiting_handshakes += 1;
            self.handshakes.push_back(Handshake { viewer: index, epoch, datagram: bytes.clone() });
        } else {
            // Its flight is sent again.
            return false;
        }
        true
    }

    /// One datagram of a handshake, behind all that media has to do.
    pub(crate) fn shake_hands(&mut self, now: Instant) {
        let Some(Handshake { viewer: index, epoch, datagram }) = self.handshakes.pop_front() else { return };
        let viewer = self.viewers.get_mut(index).filter(|viewer| viewer.epoch == epoch);
        if let Some(webrtc) = viewer.and_then(Viewer::webrtc) {
            webrtc.waiting_handshakes -= 1;
            self.tell_peer(now, index, |peer| peer.handle_dtls(now, &datagram));
        }
    }

    /// True while datagrams of handshakes wait.
    pub(crate) fn has_handshakes(&self) -> bool {
        !self.handshakes.is_empty()
    }

    // Connections of ICE-TCP.

    pub(super) fn attach_ice_tcp(&mut self, now: Instant, attach: AttachIceTcp) {
        let AttachIceTcp { ufrag, socket, buffered, peer } = attach;
        let Some(&index) = self.fragments.get(&ufrag) else { return };
        if socket.set_nonblocking(false).and_then(|()| socket.set_nodelay(true)).is_err() {
            return;
        }
        let Some(webrtc) = self.viewers[index].webrtc() else { return };
        if webrtc.connections.len() >= MAX_CONNECTIONS {
            return;
        }
        self.viewer_epoch = self.viewer_epoch.wrapping_add(1);
        let (epoch, slot) = (self.viewer_epoch, self.connections.vacant_key());
        webrtc.connections.push(slot);
        let token = Token { owner: Owner::IceTcp, slot, epoch }.pack();
        let socket = Socket::from(OwnedFd::from(socket));
        let mut connection = IceTcp::new(index, epoch, canonical(peer), socket, token);
        connection.received = BytesMut::from(&buffered[..]);
        self.connections.insert(connection);
        self.hear_ice_tcp(now, slot, epoch);
    }

    pub(super) fn on_ice_tcp_received(&mut self, now: Instant, token: Token, buffer: BytesMut, alive: bool) {
        let Some(connection) = self.ice_tcp(token) else { return };
        if !alive {
            return self.drop_ice_tcp(token.slot);
        }
        connection.received = buffer;
        self.hear_ice_tcp(now, token.slot, token.epoch);
    }

    pub(super) fn on_ice_tcp_written(&mut self, token: Token, written: Option<usize>) {
        let Self { connections, ring, .. } = self;
        let connection = connections.get_mut(token.slot).filter(|connection| connection.epoch == token.epoch);
        match (connection, written) {
            (Some(connection), Some(written)) => connection.on_written(ring, written),
            (Some(_), None) => self.drop_ice_tcp(token.slot),
            (None, _) => {}
        }
    }

    /// Hears all whole frames of a connection, then receives on.
    fn hear_ice_tcp(&mut self, now: Instant, slot: usize, epoch: u32) {
        loop {
            let Some(connection) = self.connections.get_mut(slot).filter(|other| other.epoch == epoch) else {
                return;
            };
            let frame = match next_frame(&mut connection.received) {
                Ok(Some(frame)) => frame.freeze(),
                Ok(None) => break,
                Err(()) => return self.drop_ice_tcp(slot),
            };
            let (viewer, from) = (connection.viewer, connection.from);
            let path = Path::Tcp { connection: u64::from(epoch) << 32 | slot as u64, from };
            let taken = match frame.first() {
                Some(0..=3) => self.on_stun(now, path, &frame),
                // Only the way that a check has proved.
                Some(20..=63 | 128..=191) if self.peer_path(viewer) == Some(path) => {
                    self.on_peer_datagram(now, viewer, &frame)
                }
                _ => false,
            };
            if !taken {
                self.drop_datagram(now, from);
            }
        }
        if let Some(connection) = self.connections.get_mut(slot).filter(|other| other.epoch == epoch) {
            connection.receive(&mut self.ring);
        }
    }

    fn peer_path(&mut self, index: usize) -> Option<Path> {
        self.viewers.get_mut(index).and_then(Viewer::webrtc).and_then(|webrtc| webrtc.peer.path())
    }

    fn ice_tcp(&mut self, token: Token) -> Option<&mut IceTcp> {
        self.connections.get_mut(token.slot).filter(|connection| connection.epoch == token.epoch)
    }

    /// A connection is gone; its viewer may make another until its consent ends.
    fn drop_ice_tcp(&mut self, slot: usize) {
        let connection = self.connections.remove(slot);
        connection.shut(&mut self.ring);
        if let Some(webrtc) = self.viewers.get_mut(connection.viewer).and_then(Viewer::webrtc) {
            webrtc.connections.retain(|&mut other| other != slot);
        }
    }

    // The STUN server.

    pub(super) fn use_stun_server(&mut self, now: Instant, server: Option<SocketAddr>) {
        if self.stun.server == server {
            return;
        }
        self.stun.server = server;
        self.stun.unanswered = 0;
        self.ask_stun_server(now);
    }

    pub(super) fn ask_stun_server(&mut self, now: Instant) {
        let next = self.stun.server.map(|_| now + STUN_INTERVAL);
        self.timers.set(TimerKey::Stun, &mut self.stun.timer, next);
        let Some(server) = self.stun.server else { return self.set_mapped(None) };
        if self.stun.unanswered >= STUN_TRIES {
            self.set_mapped(None);
        }
        self.stun.unanswered += 1;
        self.stun.transaction = self.random_transaction();
        self.ring.send_datagram(stun::binding_request(self.stun.transaction), server);
    }

    fn on_stun_answer(&mut self, from: SocketAddr, bytes: &[u8]) -> bool {
        if self.stun.server.map(canonical) != Some(from) {
            return false;
        }
        let Some(mapped) = stun::mapped_address(bytes, self.stun.transaction) else { return false };
        self.stun.unanswered = 0;
        self.set_mapped(Some(mapped));
        true
    }

    fn set_mapped(&mut self, mapped: Option<SocketAddr>) {
        if self.stun.mapped != mapped {
            self.stun.mapped = mapped;
            self.unsent_events.push_back(Event::Reflexive { shard: self.index, address: mapped });
        }
    }

    fn random_transaction(&mut self) -> [u8; 12] {
        let (high, low) = (self.seed(), self.seed());
        let mut transaction = [0; 12];
        transaction[..8].copy_from_slice(&high.to_be_bytes());
        transaction[8..].copy_from_slice(&low.to_be_bytes()[..4]);
        transaction
    }
}

/// The wall clock for sender reports: 32.32 fixed point, seconds since 1900.
pub(super) fn ntp() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (since.as_secs() + NTP_UNIX_SECONDS) << 32 | fraction
}

/// Bytes that are gathered for one send of lost packets.
const MAX_AGAIN_BYTES: usize = 32 << 10;
/// Packets of one send: the kernel's `UDP_MAX_SEGMENTS`.
const MAX_AGAIN_PACKETS: usize = 64;
/// No packet of ours is longer: `max_udp_payload` and what sealing adds.
const MAX_PACKET_BYTES: usize = 2 << 10;
/// Fragments of one viewer: the one in use and the one before it.
const MAX_FRAGMENTS: usize = 2;
