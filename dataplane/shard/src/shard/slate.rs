//! Outages: when viewers get the offline picture, and where it comes from.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lanecast_protocol::codec::Codec;
use lanecast_protocol::wsc::StreamState;
use lanecast_relay::stream::Slate;
use lanecast_transcode::slate::{SlateCaption, SlateClip, SlateError, SlateRequest};

use super::recording::unix_ms;
use super::{Shard, StreamSlot};
use crate::SlateStatus;
use crate::command::{Command, StreamId};
use crate::timers::TimerKey;

/// What a stream's outage is at.
#[derive(Debug)]
pub(super) struct Outage {
    /// Pictures are wanted since then: those of before do not count.
    wanted_since: Instant,
    /// A slate is being made: the number of the question, and until when its answer is waited for.
    question: Option<(u64, Instant)>,
    /// The slate that is shown has words, or is being given some.
    captioned: bool,
    /// A slate that could not be made is not asked for before then.
    not_before: Option<Instant>,
    /// When it could not be made.
    failed_at: Option<Instant>,
}

impl Outage {
    /// Pictures are wanted from `now` on.
    pub(super) fn new(now: Instant) -> Self {
        Self { wanted_since: now, question: None, captioned: false, not_before: None, failed_at: None }
    }

    /// As [`Outage::new`]; what is under way goes on.
    pub(super) fn begin(&mut self, now: Instant) {
        self.wanted_since = now;
    }
}

impl StreamSlot {
    /// Since when no picture has come, as far as anybody waits for one.
    fn without_pictures_since(&self) -> Instant {
        self.stream.last_picture().map_or(self.outage.wanted_since, |last| last.max(self.outage.wanted_since))
    }

    /// Pictures have come since a slate could not be made: the next outage asks anew.
    fn forget_failure(&mut self) {
        let over = |failed: Instant| self.stream.last_picture().is_some_and(|picture| picture > failed);
        if self.outage.failed_at.is_some_and(over) {
            self.outage.failed_at = None;
            self.outage.not_before = None;
            self.status.slate = SlateStatus::Off;
        }
    }

    /// When the slate is due, if nothing comes until then.
    fn slate_due(&self, slate_after: Duration) -> Option<Instant> {
        let patience = match self.status.state {
            // On demand, and nobody watches.
            StreamState::Inactive => return None,
            // It says that it plays: it may be a camera of one picture in many seconds.
            StreamState::Active => self.config.source.silence_timeout.max(slate_after),
            StreamState::Connecting | StreamState::Error => slate_after,
        };
        let due = self.without_pictures_since() + patience;
        Some(self.outage.not_before.map_or(due, |not_before| due.max(not_before)))
    }
}

impl Shard {
    /// Sets the timer for the slate, or takes note of the slate's end; after every change of a source.
    pub(super) fn watch_outage(&mut self, now: Instant, index: usize) {
        let Some(slate_after) = self.config.slate_after else { return };
        let Some(slot) = self.streams.get_mut(index) else { return };
        if !slot.stream.is_slate() && matches!(slot.status.slate, SlateStatus::Shown { .. }) {
            slot.status.slate = SlateStatus::Off;
            slot.outage.captioned = false;
        }
        slot.forget_failure();
        if slot.removed || slot.stopped {
            return self.timers.set(TimerKey::Slate(index), &mut slot.slate_timer, None);
        }
        if let Some((_, until)) = slot.outage.question {
            return self.timers.set(TimerKey::Slate(index), &mut slot.slate_timer, Some(until));
        }
        if slot.stream.is_slate() {
            let plain = !slot.outage.captioned && !slot.viewers.is_empty();
            if plain && slot.outage.not_before.is_none_or(|at| now >= at) {
                self.ask_for_slate(now, index, true);
            }
            return;
        }
        let due = slot.slate_due(slate_after);
        // While pictures come the timer is not moved by each of them: it looks again when it goes off.
        let sooner = due < slot.slate_timer.at() || slot.slate_timer.at().is_none();
        if sooner || due.is_none() {
            self.timers.set(TimerKey::Slate(index), &mut slot.slate_timer, due);
        }
    }

    pub(super) fn on_slate_timer(&mut self, now: Instant, index: usize) {
        let Some(slate_after) = self.config.slate_after else { return };
        let Some(slot) = self.streams.get_mut(index) else { return };
        self.timers.set(TimerKey::Slate(index), &mut slot.slate_timer, None);
        slot.outage.question = slot.outage.question.filter(|(_, until)| now < *until);
        if !slot.stream.is_slate()
            && slot.outage.question.is_none()
            && slot.slate_due(slate_after).is_some_and(|due| now >= due)
        {
            return self.ask_for_slate(now, index, false);
        }
        self.watch_outage(now, index);
    }

    fn ask_for_slate(&mut self, now: Instant, index: usize, with_caption: bool) {
        let Self { streams, slates, own, questions, .. } = self;
        let slot = &mut streams[index];
        let (codec, width, height) = match (slot.status.codec, slot.status.width, slot.status.height) {
            (Some(codec), Some(width), Some(height)) => (codec, width, height),
            (codec, ..) => (codec.unwrap_or(Codec::H264), 1280, 720),
        };
        let caption = with_caption.then(|| SlateCaption {
            stream: slot.config.name.clone(),
            since_unix_ms: since_unix_ms(now, slot.without_pictures_since()),
        });
        *questions += 1;
        let (own, stream, question) = (own.clone(), slot.id, *questions);
        slot.outage.question = Some((question, now + ANSWER_PATIENCE));
        let reply = move |result| {
            let mut command = Command::SlateMade { stream, question, result };
            // On the worker's thread, which nobody waits for; a shard that stays full has other troubles.
            for _ in 0..REPLY_ATTEMPTS {
                match own.send(command) {
                    Ok(()) => return,
                    Err(busy) => command = busy.0,
                }
                std::thread::sleep(REPLY_PAUSE);
            }
        };
        match slates.request(SlateRequest { codec, width, height, caption }, reply) {
            Ok(Some(clip)) => self.on_slate_made(now, stream, question, Ok(clip)),
            Ok(None) => self.watch_outage(now, index),
            Err(error) => self.slate_failed(now, index, &error),
        }
    }

    /// The worker's answer.
    pub(super) fn on_slate_made(
        &mut self,
        now: Instant,
        stream: StreamId,
        question: u64,
        result: Result<Arc<SlateClip>, SlateError>,
    ) {
        let Some(&index) = self.stream_slots.get(&stream) else { return };
        let Some(slate_after) = self.config.slate_after else { return };
        let slot = &mut self.streams[index];
        if slot.outage.question.is_none_or(|(asked, _)| asked != question) {
            return;
        }
        slot.outage.question = None;
        let is_shown = slot.stream.is_slate();
        let is_due = slot.slate_due(slate_after).is_some_and(|due| now >= due);
        match result {
            Ok(clip) if is_shown || is_due => {
                let since_unix_ms = since_unix_ms(now, slot.without_pictures_since());
                slot.outage.captioned = is_shown;
                slot.outage.not_before = None;
                slot.status.slate = SlateStatus::Shown { since_unix_ms };
                slot.stream.show_slate(now, Rc::new(slate_of(&clip)));
                Self::feed_recorder(now, slot);
                self.touch(index);
                self.announce(now, index);
                self.run_recorder(now, index);
                self.watch_outage(now, index);
            }
            // Pictures came meanwhile.
            Ok(_) => self.watch_outage(now, index),
            Err(error) => self.slate_failed(now, index, &error),
        }
    }

    fn slate_failed(&mut self, now: Instant, index: usize, error: &SlateError) {
        let slot = &mut self.streams[index];
        slot.outage.question = None;
        let (pause, is_final) = match error {
            SlateError::Busy => (BUSY_PAUSE, false),
            SlateError::Failed(_) => (FAILED_PAUSE, true),
            SlateError::Missing { .. } | SlateError::NotBuilt => (MISSING_PAUSE, true),
        };
        slot.outage.not_before = Some(now + pause);
        if is_final && !slot.stream.is_slate() {
            slot.outage.failed_at = Some(now);
            slot.status.slate = SlateStatus::Failed(error.to_string());
            self.announce(now, index);
        }
        self.watch_outage(now, index);
    }
}

fn since_unix_ms(now: Instant, since: Instant) -> i64 {
    unix_ms() - now.saturating_duration_since(since).as_millis() as i64
}

fn slate_of(clip: &SlateClip) -> Slate {
    Slate {
        codec: clip.codec,
        parameter_sets: Rc::new(clip.parameter_sets.clone()),
        units: clip.units.clone(),
        interval: clip.interval,
    }
}

/// The queue of the worker is minutes long at worst; an answer that it could not deliver is asked for again after this.
const ANSWER_PATIENCE: Duration = Duration::from_secs(300);
/// The worker makes some twenty slates a second.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// What failed may have been short of memory.
const FAILED_PAUSE: Duration = Duration::from_secs(60);
/// What is not installed may be, until the server is restarted.
const MISSING_PAUSE: Duration = Duration::from_secs(600);
/// A shard empties its queue many times in this.
const REPLY_ATTEMPTS: u32 = 100;
const REPLY_PAUSE: Duration = Duration::from_millis(10);
