//! Recorders: what they want written, done; their files come from the control plane.

use std::fs::File as StdFile;
use std::io;
use std::time::{Instant, SystemTime};

use lanecast_dvr::recorder::{ClosedSegment, Recorder, RecorderOutput, RecorderStatistics, RecordingStatus};
use lanecast_dvr::segment::SegmentId;
use lanecast_net::File;
use smallvec::SmallVec;

use super::{Gate, Shard, StreamSlot};
use crate::Event;
use crate::command::StreamId;
use crate::drive::recording::Recording;
use crate::timers::{Armed, TimerKey};
use crate::token::{Owner, Token};

impl Shard {
    /// Begins or ends a stream's recording, as its configuration says.
    pub(super) fn set_recording(&mut self, now: Instant, index: usize) {
        let wanted = self.gate == Gate::Open && {
            let slot = &self.streams[index];
            slot.config.record && !slot.removed
        };
        match (&mut self.streams[index].recording, wanted) {
            (None, true) => self.start_recorder(index),
            (Some(recording), false) if !recording.stopping => {
                recording.stopping = true;
                recording.recorder.stop(now);
                self.streams[index].stream.set_recording(false);
            }
            // One that ends is begun anew when it has.
            (Some(_), _) | (None, false) => {}
        }
        self.run_recorder(now, index);
    }

    fn start_recorder(&mut self, index: usize) {
        // Answers to an earlier recorder's questions are not this one's.
        let first_ticket = self.seed() >> 1;
        self.recording_epoch = self.recording_epoch.wrapping_add(1);
        let slot = &mut self.streams[index];
        let recorder = Recorder::new(self.config.recorder, first_ticket);
        slot.stream.set_recording(true);
        slot.recording = Some(Box::new(Recording {
            recorder,
            epoch: self.recording_epoch,
            files: SmallVec::new(),
            writing: None,
            syncing: None,
            timer: Armed::default(),
            stopping: false,
        }));
    }

    /// Does what a recorder wants, until it wants nothing more.
    pub(super) fn run_recorder(&mut self, now: Instant, index: usize) {
        let Self { streams, ring, unsent_events, timers, .. } = self;
        let Some(slot) = streams.get_mut(index) else { return };
        let Some(recording) = slot.recording.as_deref_mut() else { return };
        let mut changed = None;
        let token = Token { owner: Owner::Recording, slot: index, epoch: recording.epoch }.pack();
        while let Some(output) = recording.recorder.poll_output() {
            match output {
                RecorderOutput::Open { ticket, start_unix_ms, codec } => {
                    unsent_events.push_back(Event::OpenSegment {
                        stream: slot.id,
                        ticket,
                        start_unix_ms,
                        codec,
                    });
                }
                RecorderOutput::Write { segment, offset, chunks } => match recording.file(segment) {
                    Some(file) => {
                        ring.write_file(token, file, offset, chunks);
                        recording.writing = Some(segment);
                    }
                    None => recording.recorder.handle_written(now, segment, Err(CLOSED.into())),
                },
                RecorderOutput::Sync { segment } => match recording.file(segment) {
                    Some(file) => {
                        ring.sync_file(token, file);
                        recording.syncing = Some(segment);
                    }
                    None => recording.recorder.handle_synced(now, segment, Err(CLOSED.into())),
                },
                RecorderOutput::Close(closed) => {
                    recording.files.retain(|(id, _)| *id != closed.segment);
                    unsent_events.push_back(Event::SegmentClosed { stream: slot.id, closed });
                }
                RecorderOutput::Status(status) => changed = Some(status),
            }
        }
        timers.set(TimerKey::Recording(index), &mut recording.timer, recording.recorder.poll_timeout());
        let over = recording.stopping && recording.recorder.is_over();
        if over {
            timers.set(TimerKey::Recording(index), &mut recording.timer, None);
            slot.recorded = sum(slot.recorded, recording.recorder.statistics());
            slot.recording = None;
            changed = Some(RecordingStatus::Off);
        }
        if let Some(status) = changed {
            slot.status.recording = status;
            self.announce(now, index);
        }
        if over {
            self.after_recorder(now, index);
        }
    }

    fn after_recorder(&mut self, now: Instant, index: usize) {
        if self.streams[index].stopped {
            self.free_stream(index);
        } else {
            // It may be wanted again by now.
            self.set_recording(now, index);
        }
    }

    /// Gives the recorder what came of the stream.
    pub(super) fn feed_recorder(now: Instant, slot: &mut StreamSlot) {
        let Some(recording) = slot.recording.as_deref_mut() else { return };
        while let Some(unit) = slot.stream.poll_access_unit() {
            if let Some(clock_rate_hz) = unit.new_clock_rate_hz {
                recording.recorder.handle_playing(now, clock_rate_hz);
                if let Some(report) = slot.stream.on_air().and_then(|lane| slot.reports[lane.index()]) {
                    recording.recorder.handle_sender_report(now, unix_ms(), report);
                }
            }
            recording.recorder.handle_access_unit(now, unix_ms(), unit);
        }
    }

    pub(super) fn on_segment_opened(
        &mut self,
        now: Instant,
        stream: StreamId,
        ticket: u64,
        result: Result<(SegmentId, StdFile), String>,
    ) {
        // One that is removed may still be writing its last file.
        let slot = self.streams.iter_mut().find(|(_, slot)| slot.id == stream);
        let Some((index, recording)) =
            slot.and_then(|(index, slot)| Some((index, slot.recording.as_deref_mut()?)))
        else {
            if let Ok((segment, _)) = result {
                let closed = ClosedSegment {
                    segment,
                    start_unix_ms: 0,
                    end_unix_ms: 0,
                    bytes: 0,
                    keyframes: Vec::new(),
                };
                self.unsent_events.push_back(Event::SegmentClosed { stream, closed });
            }
            return;
        };
        let result = result.map(|(segment, file)| {
            recording.files.push((segment, File::from(file)));
            segment
        });
        recording.recorder.handle_opened(now, ticket, result);
        self.run_recorder(now, index);
    }

    pub(super) fn on_segment_lost(&mut self, now: Instant, stream: StreamId, segment: SegmentId) {
        let Some(&index) = self.stream_slots.get(&stream) else { return };
        let slot = &mut self.streams[index];
        if let Some(recording) = slot.recording.as_deref_mut() {
            // The catalogue, which found out, has told the operator.
            tracing::debug!(stream = %slot.config.name, "the file that is recorded to is not where it was any more");
            recording.recorder.handle_lost(now, segment);
            self.run_recorder(now, index);
        }
    }

    pub(super) fn on_file_written(&mut self, now: Instant, token: Token, result: io::Result<usize>) {
        if let Some(recording) = self.recording(token)
            && let Some(segment) = recording.writing.take()
        {
            recording.recorder.handle_written(now, segment, result.map_err(|error| error.to_string()));
            self.run_recorder(now, token.slot);
        }
    }

    pub(super) fn on_file_synced(&mut self, now: Instant, token: Token, result: io::Result<()>) {
        if let Some(recording) = self.recording(token)
            && let Some(segment) = recording.syncing.take()
        {
            recording.recorder.handle_synced(now, segment, result.map_err(|error| error.to_string()));
            self.run_recorder(now, token.slot);
        }
    }

    pub(super) fn on_recording_timer(&mut self, now: Instant, index: usize) {
        if let Some(recording) = self.streams.get_mut(index).and_then(|slot| slot.recording.as_deref_mut()) {
            recording.recorder.handle_timeout(now);
            self.run_recorder(now, index);
        }
    }

    fn recording(&mut self, token: Token) -> Option<&mut Recording> {
        let recording = self.streams.get_mut(token.slot)?.recording.as_deref_mut()?;
        (recording.epoch == token.epoch).then_some(recording)
    }
}

/// Counters of all of a stream's recorders.
pub(super) fn recorder_statistics(slot: &StreamSlot) -> RecorderStatistics {
    let now = slot.recording.as_ref().map(|recording| recording.recorder.statistics());
    sum(slot.recorded, now.unwrap_or_default())
}

fn sum(a: RecorderStatistics, b: RecorderStatistics) -> RecorderStatistics {
    RecorderStatistics {
        access_units: a.access_units + b.access_units,
        fragments: a.fragments + b.fragments,
        segments: a.segments + b.segments,
        bytes_written: a.bytes_written + b.bytes_written,
        dropped_gops: a.dropped_gops + b.dropped_gops,
        dropped_bytes: a.dropped_bytes + b.dropped_bytes,
        errors: a.errors + b.errors,
        queued_bytes: b.queued_bytes,
    }
}

/// The wall clock, UTC; once an access unit that is recorded.
pub(super) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What a recorder is told of a file that is not open.
const CLOSED: &str = "the file is closed";
