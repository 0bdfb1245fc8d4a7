//! Inputs by workers, and streams on demand.

use std::time::{Duration, Instant};

use lanecast_relay::source::Lane;
use lanecast_transcode::input::{InputConfig, InputEvent, Unready};

use super::{Shard, StreamSlot};
use crate::command::{Command, StreamId};
use crate::data_plane::ShardBusy;

/// Who wants a stream's pictures, and how long the first viewer waited for them.
#[derive(Debug, Default)]
pub(super) struct Demand {
    wanted: bool,
    /// When a viewer came to a stream that was not connected.
    asked: Option<Instant>,
    /// From there to the first picture, the last time.
    pub(super) start_ms: Option<u64>,
}

impl StreamSlot {
    /// The lane that waits for the answer to this question.
    pub(super) fn asks(&self, question: u64) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| self.questions[lane.index()] == question)
    }

    /// After pictures came: the first since somebody asked for them?
    pub(super) fn note_start(&mut self) {
        if let (Some(asked), Some(picture)) = (self.demand.asked, self.stream.last_picture())
            && picture >= asked
        {
            let took = picture.saturating_duration_since(asked);
            self.demand.asked = None;
            self.demand.start_ms = Some(took.as_millis() as u64);
            tracing::debug!(stream = %self.config.name, ?took, "connected on demand");
        }
    }
}

impl Shard {
    /// Tells a stream's source whether anybody wants pictures.
    pub(super) fn set_wanted(&mut self, now: Instant, index: usize) {
        let Some(slot) = self.streams.get_mut(index) else { return };
        let wanted = !slot.viewers.is_empty() || slot.config.record;
        if wanted != slot.demand.wanted && !slot.removed {
            self.change_demand(now, index, wanted);
        }
    }

    /// Somebody watches: a stream on demand connects, a slate gets its words.
    pub(super) fn viewer_came(&mut self, now: Instant, index: usize) {
        self.set_wanted(now, index);
        self.watch_outage(now, index);
    }

    /// Somebody is about to watch: if nobody does after all, the stream's idle time begins.
    pub(super) fn demand(&mut self, now: Instant, stream: StreamId) {
        let Some(&index) = self.stream_slots.get(&stream) else { return };
        if !self.streams[index].demand.wanted {
            self.change_demand(now, index, true);
            self.set_wanted(now, index);
        }
    }

    fn change_demand(&mut self, now: Instant, index: usize, wanted: bool) {
        let slot = &mut self.streams[index];
        slot.demand.wanted = wanted;
        let is_on_demand = slot.config.source.on_demand.is_some();
        if wanted && is_on_demand && slot.stream.on_air().is_none() && slot.demand.asked.is_none() {
            slot.demand.asked = Some(now);
            slot.outage.begin(now);
        }
        slot.camera.source.set_wanted(now, wanted);
        self.run_source(now, index);
    }

    /// Lets a worker open an input.
    pub(super) fn open_foreign(&mut self, now: Instant, index: usize, lane: Lane, input: usize) {
        let slot = &mut self.streams[index];
        slot.camera.disconnect(&mut self.ring, lane);
        let Some(url) = slot.config.foreign.get(input).cloned().flatten() else {
            return slot.camera.source.handle_closed(
                now,
                lane,
                "this server cannot open inputs of this kind",
            );
        };
        let source = &slot.config.source;
        let config = InputConfig {
            url,
            open_timeout: source.connect_timeout
                + source.reply_timeout
                + OPEN_SLACK.min(source.silence_timeout / 2),
            silence_timeout: source.silence_timeout,
        };
        let (own, stream, epoch) = (self.own.clone(), slot.id, slot.camera.epoch(lane));
        let deliver =
            move |event| match own.send(Command::Input { stream, lane, epoch, event: Box::new(event) }) {
                Err(ShardBusy(Command::Input { event, .. })) => Err(Unready(*event)),
                Ok(()) | Err(_) => Ok(()),
            };
        match self.inputs.open(config, deliver) {
            Ok(handle) => slot.camera.set_foreign(lane, handle),
            Err(reason) => slot.camera.source.handle_closed(now, lane, &reason),
        }
    }

    /// A worker tells of its input.
    pub(super) fn on_foreign(
        &mut self,
        now: Instant,
        stream: StreamId,
        lane: Lane,
        epoch: u32,
        event: InputEvent,
    ) {
        let Some(&index) = self.stream_slots.get(&stream) else { return };
        let slot = &mut self.streams[index];
        if slot.camera.epoch(lane) != epoch {
            return;
        }
        match event {
            InputEvent::Playing { codec, parameter_sets } => {
                slot.camera.source.handle_foreign_playing(now, lane, codec, parameter_sets);
            }
            InputEvent::Unit(unit) => {
                slot.camera.on_foreign_unit(now, lane, unit.bytes);
                // The source's word which lane is wanted comes before the picture.
                self.run_source(now, index);
                let Some(slot) = self.streams.get_mut(index) else { return };
                slot.stream.handle_unit(now, lane, unit.timestamp_90k, unit.nals);
                Self::after_media(now, slot);
            }
            InputEvent::Ended(reason) => slot.camera.source.handle_closed(now, lane, &reason),
        }
        self.run_source(now, index);
    }
}

/// What the first picture may take beyond that. A worker gives up by itself before the source does, which waits for the
/// silence timeout: its reason is the better one.
const OPEN_SLACK: Duration = Duration::from_secs(2);
