//! WSC-RTP viewers: what their session machines want, done.

use std::os::fd::OwnedFd;
use std::time::Instant;

use bytes::BytesMut;
use lanecast_net::{DestinationId, Socket, canonical};
use lanecast_protocol::wsc::{CloseReason, Output, Session, SessionConfig, Transport};
use lanecast_relay::fanout::ViewerId;

use super::{Gate, LINGER, MAX_VIEWERS, Shard, active_source};
use crate::command::AttachWebSocket;
use crate::drive::viewer::{Kind, Viewer, Wsc};
use crate::drive::websocket::{Heard, WebSocket};
use crate::timers::{Armed, TimerKey};
use crate::token::{Owner, Token};

impl Shard {
    pub(super) fn attach_websocket(&mut self, now: Instant, attach: AttachWebSocket) {
        let AttachWebSocket { stream, session: id, socket, buffered, peer, force_websocket_transport } =
            attach;
        let Some(&stream_slot) = self.stream_slots.get(&stream).filter(|_| self.gate == Gate::Open) else {
            return self.session_ended(stream, id, "the stream is gone");
        };
        if self.viewers.vacant_key() >= MAX_VIEWERS {
            return self.session_ended(stream, id, "the server is full");
        }
        // The ring waits in the kernel; a non-blocking descriptor would make it answer EAGAIN instead.
        if let Err(error) = socket.set_nonblocking(false).and_then(|()| socket.set_nodelay(true)) {
            return self.session_ended(stream, id, &error.to_string());
        }
        self.viewer_epoch = self.viewer_epoch.wrapping_add(1);
        let epoch = self.viewer_epoch;
        let index = self.viewers.vacant_key();
        let token = Token { owner: Owner::WebSocket, slot: index, epoch }.pack();
        let socket = Socket::from(OwnedFd::from(socket));
        let queue_bytes = self.config.websocket_queue_bytes;
        let websocket = WebSocket::new(&mut self.ring, token, socket, &buffered, queue_bytes);
        let slot = &mut self.streams[stream_slot];
        let config = SessionConfig {
            session_id: id,
            peer: canonical(peer),
            force_websocket_transport,
            udp_port: self.udp_port,
            allow_foreign_destination: self.config.allow_foreign_destination,
            source_number: slot.config.source_number,
        };
        let session = Session::new(now, config, active_source(slot), slot.status.state);
        slot.viewers.push(index);
        let sets = slot.stream.parameter_sets().cloned();
        self.viewers.insert(Viewer {
            id,
            viewer: ViewerId(index as u32),
            stream,
            stream_slot,
            epoch,
            had_media: false,
            ended: None,
            armed: Armed::default(),
            playing: None,
            left: Vec::new(),
            seeking: None,
            playback_timer: Armed::default(),
            kind: Kind::Wsc(Box::new(Wsc {
                session,
                websocket,
                transport: Transport::None,
                linger_until: None,
                stitcher: None,
            })),
        });
        self.sessions.insert(id, index);
        self.tell_session(now, index, |session| {
            if let Some(sets) = &sets {
                session.handle_parameter_sets(now, sets);
            }
        });
        // What was read behind the upgrade request is heard now.
        self.on_websocket_received(now, index, BytesMut::new(), false);
        self.viewer_came(now, stream_slot);
    }

    /// Tells a WSC-RTP session something and does what it wants.
    pub(super) fn tell_session(&mut self, now: Instant, index: usize, tell: impl FnOnce(&mut Session)) {
        let Some(viewer) = self.viewers.get_mut(index) else { return };
        let ended = viewer.ended.is_some();
        let Some(wsc) = viewer.wsc() else { return };
        // Who is only there for its last frame has nothing more to want.
        if !ended {
            tell(&mut wsc.session);
            while let Some(output) = self.viewers[index].wsc().and_then(|wsc| wsc.session.poll_output()) {
                self.do_for_session(index, output);
            }
        }
        let viewer = &mut self.viewers[index];
        let ended = viewer.ended.is_some();
        let Some(wsc) = viewer.wsc() else { return };
        let wants = match &mut wsc.linger_until {
            Some(until) => Some(*until),
            None if ended => Some(*wsc.linger_until.insert(now + LINGER)),
            None => wsc.session.poll_timeout(),
        };
        self.timers.set(TimerKey::Viewer(index), &mut viewer.armed, wants);
        self.write_websocket(index);
    }

    fn do_for_session(&mut self, index: usize, output: Output) {
        let viewer = &mut self.viewers[index];
        let Some(wsc) = viewer.wsc() else { return };
        match output {
            Output::Text(text) => wsc.websocket.text(text),
            Output::Datagram { to, bytes } => self.ring.send_datagram(bytes, to),
            Output::Transport(transport) => self.set_transport(index, transport),
            Output::Close { code, reason } => {
                let reason = close_text(&reason);
                wsc.websocket.close(code, &reason);
                viewer.ended = Some(reason);
                self.detach(index);
            }
        }
    }

    fn set_transport(&mut self, index: usize, transport: Transport) {
        self.forget_address(index);
        if transport == Transport::None {
            // What it goes without until it is back makes no gap in its numbers.
            self.leave_numbering(index);
        }
        let viewer = &mut self.viewers[index];
        let (id, fresh, stream_slot) = (viewer.viewer, !viewer.had_media, viewer.stream_slot);
        let in_the_past = viewer.playing.is_some();
        let Some(wsc) = viewer.wsc() else { return };
        wsc.transport = transport;
        let egress = wsc.egress();
        viewer.had_media |= egress.is_some();
        match transport {
            Transport::Udp(address) => {
                self.destinations.insert(address, index);
                self.ring.set_destination(DestinationId(id.0), address);
            }
            Transport::None | Transport::WebSocket => self.ring.clear_destination(DestinationId(id.0)),
        }
        let Some(slot) = self.streams.get_mut(stream_slot).filter(|_| !in_the_past) else { return };
        match egress {
            Some(egress) => slot.stream.join(id, egress, fresh),
            None => slot.stream.leave(id),
        }
        self.touch(stream_slot);
    }

    pub(super) fn write_websocket(&mut self, index: usize) {
        if let Some(wsc) = self.viewers.get_mut(index).and_then(Viewer::wsc)
            && wsc.websocket.write_on(&mut self.ring)
        {
            self.free_viewer(index);
        }
    }

    pub(super) fn on_websocket_received(
        &mut self,
        now: Instant,
        index: usize,
        mut buffer: BytesMut,
        receive_on: bool,
    ) {
        loop {
            let Some(viewer) = self.viewers.get_mut(index) else { return };
            if viewer.ended.is_some() {
                // It may say what it likes while its close frame is on its way.
                buffer.clear();
                break;
            }
            let Some(wsc) = viewer.wsc() else { return };
            match wsc.websocket.hear(&mut buffer) {
                None => break,
                Some(Heard::Text(text)) => {
                    self.tell_session(now, index, |session| session.handle_text(now, &text))
                }
                Some(Heard::Binary) => self.tell_session(now, index, |session| session.handle_binary(now)),
                Some(Heard::Ping) => {
                    self.tell_session(now, index, |session| session.handle_websocket_ping(now))
                }
                Some(Heard::Closed) => {
                    viewer.ended = Some("the client closed the session".into());
                    self.detach(index);
                    // Lingers until the answer is written.
                    self.tell_session(now, index, |_| {});
                }
                Some(Heard::Gone(reason)) => {
                    viewer.ended = Some(reason);
                    return self.free_viewer(index);
                }
            }
        }
        self.write_websocket(index);
        if let Some(wsc) = self.viewers.get_mut(index).and_then(Viewer::wsc).filter(|_| receive_on) {
            wsc.websocket.receive(&mut self.ring, buffer);
        }
    }
}

fn close_text(reason: &CloseReason) -> String {
    match reason {
        CloseReason::PingTimeout => "no ping for 5 s".to_owned(),
        CloseReason::Ended(reason) => reason.clone(),
    }
}
