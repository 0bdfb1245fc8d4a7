//! Viewers that leave live for what is recorded, move about in it, and come back.
//!
//! A seek makes a second player beside what the viewer has; only when its first picture is there does it take over, so a seek that
//! fails leaves the session as it was. Numbers and times go on by the viewer's stitcher (WSC-RTP) or egress (WebRTC).

use std::io;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use lanecast_dvr::player::{Extent, Located, Player, PlayerConfig, PlayerOutput, Wanted};
use lanecast_dvr::segment::SegmentId;
use lanecast_net::File;
use lanecast_packet::{Run, Squeeze};
use lanecast_protocol::wsc::Mode;
use lanecast_relay::stitcher::Stitcher;
use lanecast_webrtc::egress::LIVE;
use smallvec::SmallVec;

use super::Shard;
use super::egress::{send_sealed, send_stitched};
use crate::Event;
use crate::command::{LocatedExtent, LocatedSegment, Reply, SessionError, SessionId, SessionMode};
use crate::drive::playback::Playback;
use crate::drive::viewer::{Kind, Viewer};
use crate::timers::TimerKey;
use crate::token::{Owner, Token};

/// A segment that is said to be written, but not by us any more, is looked for this often: by then the catalogue knows that it
/// is closed.
const LOCATE_TRIES: u8 = 3;

/// Players wake together at this interval, where their pictures are due at any time: a turn costs some 20 us, and a thousand
/// viewers at scattered places would need 25,000 a second. Pictures are late by that much at the most.
const BEAT: Duration = Duration::from_millis(4);
/// What is due sooner is a part of a picture that is spread over milliseconds.
const OFF_BEAT: Duration = Duration::from_millis(2);

/// What a viewer got before it moved can be asked for again for so long, and that of so many moves: it notices what it lost last
/// only by what comes next. Each has the player's history, no more.
const LEFT_TIME: Duration = Duration::from_secs(2);
const LEFT_MAX: usize = 4;

/// A viewer leaves live with a whole picture, if that comes within this time.
const LEAVE_WITHIN: Duration = Duration::from_millis(40);

/// A question for a segment that is under way.
#[derive(Debug)]
pub(super) struct Locating {
    viewer: usize,
    serial: u32,
    wanted: Wanted,
    tries: u8,
}

type ModeReply = Reply<Result<SessionMode, SessionError>>;

/// The mode of everybody who is not in the past.
pub(super) const LIVE_MODE: SessionMode =
    SessionMode { is_live: true, current_time_unix_ms: None, speed: 1.0 };

impl Shard {
    pub(super) fn seek(&mut self, now: Instant, session: SessionId, unix_ms: i64, reply: ModeReply) {
        match self.sessions.get(&session) {
            Some(&index) => self.start_seeking(now, index, unix_ms, Some(reply)),
            // Who asked may have gone; then nobody wants the answer.
            None => _ = reply.send(Err(SessionError::Unknown)),
        }
    }

    /// Prepares a player beside what the viewer has.
    pub(super) fn start_seeking(
        &mut self,
        now: Instant,
        index: usize,
        unix_ms: i64,
        reply: Option<ModeReply>,
    ) {
        self.stop_seeking(now, index);
        self.playback_serial = self.playback_serial.wrapping_add(1).max(1);
        let viewer = &mut self.viewers[index];
        let speed = viewer.playing.as_ref().map_or(1.0, |playing| playing.player.speed());
        let pace = viewer.webrtc().and_then(|webrtc| webrtc.peer.pace_bytes_per_second());
        let config = PlayerConfig {
            max_udp_payload: self.config.max_udp_payload,
            ssrc: self.streams.get(viewer.stream_slot).map_or(0, |slot| slot.stream.ssrc()),
            codec: viewer.webrtc().map(|webrtc| webrtc.codec),
            history: viewer.webrtc().is_some(),
        };
        let mut player = Player::new(now, config, unix_ms, speed);
        if let Some(pace) = pace {
            player.set_pace(pace);
        }
        viewer.seeking = Some(Box::new(Playback {
            player,
            serial: self.playback_serial,
            files: SmallVec::new(),
            reading: (SegmentId(0), 0),
            reply,
            leave_by: None,
            ready: None,
        }));
        self.run_seeking(now, index);
    }

    /// A seek that was overtaken is answered with what the session plays.
    fn stop_seeking(&mut self, now: Instant, index: usize) {
        if let Some(mut seeking) = self.viewers[index].seeking.take() {
            seeking.answer(Ok(self.mode(now, index)));
        }
    }

    pub(super) fn go_live(&mut self, now: Instant, session: SessionId) -> Result<SessionMode, SessionError> {
        let &index = self.sessions.get(&session).ok_or(SessionError::Unknown)?;
        self.return_to_live(now, index);
        self.stop_seeking(now, index);
        self.arm_playback(now, index);
        Ok(LIVE_MODE)
    }

    pub(super) fn set_speed(
        &mut self,
        now: Instant,
        session: SessionId,
        speed: f64,
    ) -> Result<SessionMode, SessionError> {
        let &index = self.sessions.get(&session).ok_or(SessionError::Unknown)?;
        let viewer = &mut self.viewers[index];
        if viewer.recorded().is_none() {
            return Err(SessionError::Live);
        }
        for playback in [&mut viewer.playing, &mut viewer.seeking].into_iter().flatten() {
            playback.player.set_speed(now, speed);
        }
        self.run_playing(now, index);
        self.run_seeking(now, index);
        Ok(self.mode(now, index))
    }

    pub(super) fn read_mode(&self, now: Instant, session: SessionId) -> Result<SessionMode, SessionError> {
        let &index = self.sessions.get(&session).ok_or(SessionError::Unknown)?;
        Ok(self.mode(now, index))
    }

    fn mode(&self, now: Instant, index: usize) -> SessionMode {
        self.viewers.get(index).and_then(Viewer::recorded).map_or(LIVE_MODE, |playback| SessionMode {
            is_live: false,
            current_time_unix_ms: Some(playback.player.position_unix_ms(now)),
            speed: playback.player.speed(),
        })
    }

    pub(super) fn on_playback_timer(&mut self, now: Instant, index: usize) {
        let Self { viewers, playback_memory, .. } = self;
        let Some(viewer) = viewers.get_mut(index) else { return };
        viewer.left.retain(|(until, _)| *until > now);
        if let Some(playing) = &mut viewer.playing {
            playing.player.lend_memory(playback_memory);
        }
        for playback in [&mut viewer.playing, &mut viewer.seeking].into_iter().flatten() {
            playback.player.handle_timeout(now);
        }
        self.run_playing(now, index);
        self.run_seeking(now, index);
    }

    pub(super) fn on_located(
        &mut self,
        now: Instant,
        request: u64,
        result: Result<Option<Box<LocatedSegment>>, String>,
    ) {
        let Some(Locating { viewer: index, serial, wanted, tries }) = self.locating.remove(&request) else {
            return;
        };
        let Some(viewer) = self.viewers.get(index) else { return };
        let stream_slot = viewer.stream_slot;
        let mut file = None;
        let result = match result {
            Ok(Some(found)) => {
                let LocatedSegment { segment, start_unix_ms, codec, file: opened, closed } = *found;
                let slot = self.streams.get(stream_slot);
                let recording = slot.and_then(|slot| slot.recording.as_deref());
                let extent = match closed {
                    Some(LocatedExtent { end_unix_ms, bytes, keyframes }) => {
                        Some(Extent::Closed { end_unix_ms, bytes, keyframes })
                    }
                    None => {
                        recording.and_then(|recording| recording.recorder.segment(segment)).map(Extent::Open)
                    }
                };
                file = Some((segment, File::from(opened)));
                match extent {
                    Some(extent) => Ok(Some(Located { segment, start_unix_ms, codec, extent })),
                    None if tries < LOCATE_TRIES => return self.locate(index, serial, wanted, tries + 1),
                    None => Err("a segment is neither written nor closed".to_owned()),
                }
            }
            Ok(None) => Ok(None),
            Err(reason) => Err(reason),
        };
        let Some(playback) = self.playback(index, serial) else { return };
        playback.files.extend(file);
        playback.player.handle_located(now, result);
        self.run_playing(now, index);
        self.run_seeking(now, index);
    }

    pub(super) fn on_file_read(
        &mut self,
        now: Instant,
        token: Token,
        buffer: BytesMut,
        result: io::Result<usize>,
    ) {
        let Some(playback) = self.playback(token.slot, token.epoch) else { return };
        let result = result.map(|_| buffer).map_err(|error| error.to_string());
        let (segment, offset) = playback.reading;
        playback.player.handle_read(now, segment, offset, result);
        self.run_playing(now, token.slot);
        self.run_seeking(now, token.slot);
    }

    /// The viewer's player of this serial, whether it plays or is to play.
    fn playback(&mut self, index: usize, serial: u32) -> Option<&mut Playback> {
        let viewer = self.viewers.get_mut(index)?;
        let both = [&mut viewer.playing, &mut viewer.seeking].into_iter().flatten();
        both.map(|playback| &mut **playback).find(|playback| playback.serial == serial)
    }

    fn locate(&mut self, index: usize, serial: u32, wanted: Wanted, tries: u8) {
        self.locate_requests += 1;
        let request = self.locate_requests;
        self.locating.insert(request, Locating { viewer: index, serial, wanted, tries });
        let stream = self.viewers[index].stream;
        self.unsent_events.push_back(Event::Locate { shard: self.index, request, stream, wanted });
    }

    /// Does what is common to players that play and that are to play. `None`: not one of those.
    fn serve(
        &mut self,
        now: Instant,
        index: usize,
        playback: &mut Playback,
        output: PlayerOutput,
    ) -> Option<PlayerOutput> {
        match output {
            PlayerOutput::Locate(wanted) => self.locate(index, playback.serial, wanted, 0),
            PlayerOutput::Read { segment, offset, bytes } => match playback.file(segment).cloned() {
                Some(file) => {
                    let token = Token { owner: Owner::Playback, slot: index, epoch: playback.serial }.pack();
                    playback.reading = (segment, offset);
                    self.ring.read_file(token, &file, offset, bytes, BytesMut::new());
                }
                None => {
                    playback.player.handle_read(now, segment, offset, Err("the file is closed".to_owned()));
                }
            },
            PlayerOutput::Release(segment) => playback.files.retain(|(id, _)| *id != segment),
            PlayerOutput::Damaged { segment, reason } => {
                let stream = self.viewers[index].stream;
                self.unsent_events.push_back(Event::SegmentDamaged { stream, segment, reason });
            }
            other => return Some(other),
        }
        None
    }

    /// Does what the player of a viewer wants that is to leave for the past.
    fn run_seeking(&mut self, now: Instant, index: usize) {
        let Some(mut seeking) = self.viewers.get_mut(index).and_then(|viewer| viewer.seeking.take()) else {
            return self.arm_playback(now, index);
        };
        let mut end = None;
        while let Some(output) = seeking.player.poll_output() {
            match self.serve(now, index, &mut seeking, output) {
                Some(PlayerOutput::Ready { unix_ms, parameter_sets }) => {
                    seeking.ready = Some((unix_ms, parameter_sets));
                }
                Some(PlayerOutput::Live) => end = Some(Ok(())),
                Some(PlayerOutput::Nothing) => end = Some(Err(SessionError::NotRecorded)),
                Some(PlayerOutput::Unreadable(reason)) => {
                    tracing::warn!(shard = self.index, reason, "recordings cannot be read");
                    end = Some(Err(SessionError::Unreadable));
                }
                // Before it plays there is nothing else.
                Some(_) | None => {}
            }
        }
        match end {
            None => {
                let viewer = &mut self.viewers[index];
                let connected = viewer.webrtc().is_none_or(|webrtc| webrtc.peer.takes_media());
                let ready = seeking.ready.is_some() && connected;
                viewer.seeking = Some(seeking);
                if ready {
                    return self.take_over(now, index);
                }
            }
            Some(Ok(())) => {
                self.return_to_live(now, index);
                self.join_live_if_idle(index);
                seeking.answer(Ok(LIVE_MODE));
            }
            Some(Err(error)) => {
                self.join_live_if_idle(index);
                seeking.answer(Err(error));
            }
        }
        self.arm_playback(now, index);
    }

    /// The viewer leaves what it had for the player that is ready.
    pub(super) fn take_over(&mut self, now: Instant, index: usize) {
        let Some(mut seeking) = self.viewers[index].seeking.take() else { return };
        let Some((unix_ms, parameter_sets)) = seeking.ready.take() else {
            self.viewers[index].seeking = Some(seeking);
            return;
        };
        if seeking.reply.as_ref().is_some_and(Reply::is_closed) {
            // Who asked was told that it did not happen.
            return self.arm_playback(now, index);
        }
        if self.is_within_live_picture(index) && now < *seeking.leave_by.get_or_insert(now + LEAVE_WITHIN) {
            seeking.ready = Some((unix_ms, parameter_sets));
            self.viewers[index].seeking = Some(seeking);
            self.leaving.push(index);
            return self.arm_playback(now, index);
        }
        match self.viewers[index].playing.take() {
            Some(left) => self.leave_playback(now, index, left),
            None => self.leave_live(index),
        }
        self.cut(index, seeking.serial);
        seeking.player.play(now, 0, 0);
        let speed = seeking.player.speed();
        seeking.answer(Ok(SessionMode { is_live: false, current_time_unix_ms: Some(unix_ms), speed }));
        self.viewers[index].playing = Some(seeking);
        self.tell_session(now, index, |session| {
            session.handle_parameter_sets(now, &parameter_sets);
            session.handle_mode(now, Mode::Dvr { timestamp: unix_ms });
        });
        self.run_playing(now, index);
        self.arm_playback(now, index);
    }

    fn is_within_live_picture(&self, index: usize) -> bool {
        let viewer = &self.viewers[index];
        let slot = self.streams.get(viewer.stream_slot).filter(|_| viewer.playing.is_none());
        slot.is_some_and(|slot| slot.stream.is_within_access_unit(viewer.viewer))
    }

    pub(super) fn leave_live_with_whole_pictures(&mut self, now: Instant) {
        for index in std::mem::take(&mut self.leaving) {
            self.run_seeking(now, index);
        }
    }

    /// Does what the player of a viewer wants.
    pub(super) fn run_playing(&mut self, now: Instant, index: usize) {
        let Some(mut playing) = self.viewers.get_mut(index).and_then(|viewer| viewer.playing.take()) else {
            return;
        };
        let (mut over, mut new_sets, mut skipped_to) = (false, None, None);
        while let Some(output) = playing.player.poll_output() {
            match self.serve(now, index, &mut playing, output) {
                Some(PlayerOutput::Run(run)) => {
                    if !self.send_recorded(now, index, &run) {
                        playing.player.block(now, None);
                    }
                }
                Some(PlayerOutput::ParameterSets(sets)) => new_sets = Some(sets),
                Some(PlayerOutput::Skipped { unix_ms }) => skipped_to = Some(unix_ms),
                Some(PlayerOutput::Live | PlayerOutput::Nothing | PlayerOutput::Unreadable(_)) => over = true,
                Some(_) | None => {}
            }
        }
        // The next one writes where this one has, in the processor's cache.
        while let Some(memory) = playing.player.take_memory() {
            self.playback_memory = Some(memory);
        }
        self.viewers[index].playing = Some(playing);
        if new_sets.is_some() || skipped_to.is_some() {
            self.tell_session(now, index, |session| {
                if let Some(sets) = &new_sets {
                    session.handle_parameter_sets(now, sets);
                }
                if let Some(timestamp) = skipped_to {
                    session.handle_mode(now, Mode::Dvr { timestamp });
                }
            });
        }
        if over {
            self.return_to_live(now, index);
        }
        self.arm_playback(now, index);
    }

    /// Back to the live edge, if the viewer is in the past.
    fn return_to_live(&mut self, now: Instant, index: usize) {
        let Some(left) = self.viewers.get_mut(index).and_then(|viewer| viewer.playing.take()) else { return };
        self.leave_playback(now, index, left);
        self.cut(index, LIVE);
        let Some(slot) = self.streams.get(self.viewers[index].stream_slot) else { return };
        let (sets, codec) = (slot.stream.parameter_sets().cloned(), slot.status.codec);
        self.tell_session(now, index, |session| {
            if let Some(sets) = &sets {
                session.handle_parameter_sets(now, sets);
            }
            session.handle_mode(now, Mode::Live);
        });
        self.join_live(index);
        self.end_if_other_codec(now, index, codec);
    }

    /// The picture that is on its way is sent to its end, and what was sent last may be asked for once more.
    fn leave_playback(&mut self, now: Instant, index: usize, mut left: Box<Playback>) {
        left.player.stop(now);
        left.files.clear();
        while let Some(output) = left.player.poll_output() {
            if let PlayerOutput::Run(run) = output {
                self.send_recorded(now, index, &run);
            }
        }
        let viewer = &mut self.viewers[index];
        if viewer.webrtc().is_none() {
            return;
        }
        if viewer.left.len() == LEFT_MAX {
            viewer.left.remove(0);
        }
        viewer.left.push((now + LEFT_TIME, left));
    }

    /// A viewer that was to begin in the past, and cannot, begins live.
    fn join_live_if_idle(&mut self, index: usize) {
        let Some(viewer) = self.viewers.get_mut(index) else { return };
        let waits = !viewer.had_media && viewer.playing.is_none();
        if waits && viewer.webrtc().is_some_and(|webrtc| webrtc.peer.takes_media()) {
            self.join_live(index);
        }
    }

    /// From the stream's GOP cache on, at once.
    fn join_live(&mut self, index: usize) {
        let Some(viewer) = self.viewers.get_mut(index) else { return };
        let (id, stream_slot) = (viewer.viewer, viewer.stream_slot);
        let (egress, pace) = match &mut viewer.kind {
            Kind::Wsc(wsc) => (wsc.egress(), None),
            Kind::WebRtc(webrtc) => {
                (Some(lanecast_relay::fanout::Egress::WebRtc), webrtc.peer.pace_bytes_per_second())
            }
        };
        viewer.had_media |= egress.is_some();
        let Some(slot) = self.streams.get_mut(stream_slot) else { return };
        if let Some(egress) = egress {
            slot.stream.join(id, egress, true);
        }
        if let Some(pace) = pace {
            slot.stream.set_pace(id, pace);
        }
        self.touch(stream_slot);
    }

    fn leave_live(&mut self, index: usize) {
        self.leave_numbering(index);
        let viewer = &mut self.viewers[index];
        viewer.had_media = true;
        let (id, stream_slot) = (viewer.viewer, viewer.stream_slot);
        if let Some(slot) = self.streams.get_mut(stream_slot) {
            slot.stream.leave(id);
        }
    }

    /// A WSC-RTP viewer has numbers of its own from here on.
    pub(super) fn leave_numbering(&mut self, index: usize) {
        let Self { viewers, streams, .. } = self;
        let Some(viewer) = viewers.get_mut(index) else { return };
        let (id, stream_slot) = (viewer.viewer, viewer.stream_slot);
        let Some(wsc) = viewer.wsc().filter(|wsc| wsc.stitcher.is_none()) else { return };
        let position = streams.get(stream_slot).and_then(|slot| slot.stream.position(id));
        wsc.stitcher = Some(match position {
            Some(position) => Stitcher::new(position),
            None => Stitcher::fresh(self.playback_serial as u16),
        });
    }

    /// What comes now is of another supply.
    fn cut(&mut self, index: usize, supply: u32) {
        match &mut self.viewers[index].kind {
            Kind::Wsc(wsc) => {
                if let Some(stitcher) = &mut wsc.stitcher {
                    stitcher.cut();
                }
            }
            Kind::WebRtc(webrtc) => webrtc.peer.cut(supply),
        }
    }

    fn send_recorded(&mut self, now: Instant, index: usize, run: &Run) -> bool {
        let Self { viewers, streams, ring, scratch, connections, .. } = self;
        let Some(viewer) = viewers.get_mut(index) else { return false };
        let (id, stream_slot) = (viewer.viewer, viewer.stream_slot);
        let sent = match &mut viewer.kind {
            Kind::Wsc(wsc) => {
                let sent = send_stitched(now, wsc, id, run, &Squeeze::default(), ring, scratch);
                wsc.websocket.write_on(ring);
                sent
            }
            // Browsers do not reorder pictures.
            Kind::WebRtc(_) if run.is_out_of_order() => return true,
            Kind::WebRtc(webrtc) => {
                let squeeze = Squeeze::default();
                send_sealed(now, webrtc, id, run, &squeeze, ring, scratch, connections).is_some()
            }
        };
        if let Some(slot) = streams.get_mut(stream_slot) {
            let packets = u64::from(run.packets());
            match sent {
                true => {
                    slot.packets_sent += packets;
                    slot.bytes_sent += run.bytes().len() as u64;
                }
                false => slot.packets_skipped += packets,
            }
        }
        sent
    }

    pub(super) fn arm_playback(&mut self, now: Instant, index: usize) {
        let Some(viewer) = self.viewers.get_mut(index) else { return };
        let both = [&viewer.playing, &viewer.seeking].into_iter().flatten();
        let left = viewer.left.first().map(|(until, _)| *until);
        let leave_by = viewer.seeking.as_ref().and_then(|seeking| seeking.leave_by);
        let wants =
            both.filter_map(|playback| playback.player.poll_timeout()).chain(left).chain(leave_by).min();
        let wants = wants.map(|at| on_beat(self.started, now, at));
        self.timers.set(TimerKey::Playback(index), &mut viewer.playback_timer, wants);
    }

    /// The viewer is gone, and what it played with it.
    pub(super) fn drop_playback(&mut self, index: usize) {
        let viewer: &mut Viewer = &mut self.viewers[index];
        viewer.playing = None;
        viewer.left = Vec::new();
        if let Some(mut seeking) = viewer.seeking.take() {
            seeking.answer(Err(SessionError::Unknown));
        }
        self.timers.set(TimerKey::Playback(index), &mut viewer.playback_timer, None);
    }
}

/// When a player that wants to be woken at `at` is woken.
fn on_beat(started: Instant, now: Instant, at: Instant) -> Instant {
    if at <= now + OFF_BEAT {
        return at;
    }
    let past = at.saturating_duration_since(started).as_micros() % BEAT.as_micros();
    at + Duration::from_micros((BEAT.as_micros() - past) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn players_wake_together_but_for_parts_of_a_picture() {
        let started = Instant::now();
        let at = |us| started + Duration::from_micros(us);
        assert_eq!(on_beat(started, at(100), at(9_500)), at(12_000));
        assert_eq!(on_beat(started, at(100), at(11_999)), at(12_000));
        assert_eq!(on_beat(started, at(9_000), at(10_000)), at(10_000));
    }
}
