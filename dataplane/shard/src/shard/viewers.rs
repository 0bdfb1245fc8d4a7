//! What viewers of all kinds have in common: how they end, and what the network says of them.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lanecast_net::DestinationId;

use super::Shard;
use crate::Event;
use crate::command::{SessionError, SessionId, StreamId};
use crate::drive::viewer::Kind;
use crate::timers::TimerKey;

/// A WebRTC viewer at whose address nobody listens is not sent to for this long: it may be on its way to another, and if not
/// its consent ends.
const UNREACHABLE: Duration = Duration::from_secs(2);

impl Shard {
    pub(super) fn end_session(
        &mut self,
        now: Instant,
        id: SessionId,
        reason: String,
    ) -> Result<(), SessionError> {
        let &index = self.sessions.get(&id).ok_or(SessionError::Unknown)?;
        self.end_viewer(now, index, reason);
        Ok(())
    }

    pub(super) fn end_viewers(&mut self, now: Instant, stream_slot: usize, reason: &str) {
        for index in self.streams[stream_slot].viewers.clone() {
            self.end_viewer(now, index, reason.to_owned());
        }
    }

    pub(super) fn end_viewer(&mut self, now: Instant, index: usize, reason: String) {
        match self.viewers.get(index).map(|viewer| &viewer.kind) {
            Some(Kind::Wsc(_)) => self.tell_session(now, index, |session| session.end(now, reason)),
            Some(Kind::WebRtc(_)) => self.tell_peer(now, index, |peer| peer.end(reason)),
            None => {}
        }
    }

    /// Takes a viewer out of its stream; a WebSocket lives on until the close frame is written.
    pub(super) fn detach(&mut self, index: usize) {
        self.forget_address(index);
        let viewer = &mut self.viewers[index];
        if let Some(wsc) = viewer.wsc() {
            wsc.transport = lanecast_protocol::wsc::Transport::None;
        }
        let (id, number, stream_slot) = (viewer.id, viewer.viewer, viewer.stream_slot);
        self.ring.clear_destination(DestinationId(number.0));
        self.sessions.remove(&id);
        self.drop_playback(index);
        if let Some(slot) = self.streams.get_mut(stream_slot) {
            slot.stream.leave(number);
            if let Some(at) = slot.viewers.iter().position(|&viewer| viewer == index) {
                slot.viewers.swap_remove(at);
            }
            self.touch(stream_slot);
        }
    }

    pub(super) fn free_viewer(&mut self, index: usize) {
        if self.sessions.contains_key(&self.viewers[index].id) {
            self.detach(index);
        }
        let mut viewer = self.viewers.remove(index);
        self.timers.set(TimerKey::Viewer(index), &mut viewer.armed, None);
        match viewer.kind {
            Kind::Wsc(wsc) => wsc.websocket.shut(&mut self.ring),
            Kind::WebRtc(webrtc) => self.free_peer(&webrtc),
        }
        self.session_ended(viewer.stream, viewer.id, viewer.ended.as_deref().unwrap_or("the client is gone"));
    }

    /// Datagrams from a viewer's address are not its any more.
    pub(super) fn forget_address(&mut self, index: usize) {
        if let Some(old) = self.viewers[index].destination()
            && self.destinations.get(&old) == Some(&index)
        {
            self.destinations.remove(&old);
        }
    }

    pub(super) fn session_ended(&mut self, stream: StreamId, session: SessionId, reason: &str) {
        self.unsent_events.push_back(Event::SessionEnded { stream, session, reason: reason.to_owned() });
    }

    pub(super) fn on_send_failed(&mut self, now: Instant, destination: DestinationId, error: &io::Error) {
        let Some(viewer) = self.viewers.get(destination.0 as usize) else { return };
        // Not the session's id: whoever knows it controls the session.
        tracing::debug!(shard = self.index, viewer = destination.0, %error, "a send failed");
        let (id, stream_slot) = (viewer.viewer, viewer.stream_slot);
        let index = destination.0 as usize;
        // What failed is lost as if the network had lost it; what it goes without from here on makes no gap.
        self.leave_numbering(index);
        let viewer = &mut self.viewers[index];
        if let Some(playing) = &mut viewer.playing {
            playing.player.block(now, None);
            return self.run_playing(now, index);
        }
        let egress = viewer.wsc().and_then(|wsc| wsc.egress());
        if let Some(slot) = self.streams.get_mut(stream_slot) {
            slot.stream.block(id);
            if let Some(egress) = egress {
                slot.stream.join(id, egress, false);
            }
        }
    }

    pub(super) fn on_unreachable(&mut self, now: Instant, address: SocketAddr) {
        let Some(&index) = self.destinations.get(&address) else { return };
        let Some(viewer) = self.viewers.get(index) else { return };
        match viewer.kind {
            Kind::Wsc(_) => self.tell_session(now, index, |session| session.handle_unreachable(now, address)),
            Kind::WebRtc(_) => {
                let (number, stream_slot) = (viewer.viewer, viewer.stream_slot);
                if let Some(playing) = self.viewers.get_mut(index).and_then(|viewer| viewer.playing.as_mut())
                {
                    playing.player.block(now, Some(now + UNREACHABLE));
                    return self.run_playing(now, index);
                }
                if let Some(slot) = self.streams.get_mut(stream_slot) {
                    slot.stream.block_until(number, Some(now + UNREACHABLE));
                }
            }
        }
    }
}
