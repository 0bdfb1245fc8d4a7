//! Which input is tried, and in which lane: failover to the next, and return to a better one.
//!
//! One lane has the input in use, or the attempt at one. While that gives pictures and is not the best, the other lane
//! tries the better ones, best first, each with its own growing pause. Such a trial takes over when it has delivered
//! media for `return_after`, or at once where the input in use has nothing to show.

use std::time::{Duration, Instant};

use lanecast_protocol::wsc::StreamState;

use super::attempt::{Attempt, Failure, Turn};
use super::record::InputRecord;
use super::{Lane, Phase, Source, SourceOutput};

/// The input in use.
impl Source {
    /// The best input, with a clean slate.
    pub(super) fn start_over(&mut self) {
        self.records.iter_mut().for_each(|record| record.start_over());
        if self.config.inputs.is_empty() {
            self.phase = Phase::Idle;
            return self.tell(StreamState::Error, Some("the stream has no inputs".to_owned()), None);
        }
        self.phase = Phase::Running;
        self.go_on();
    }

    /// The next input at once; after the last the best one, after a pause.
    fn go_on(&mut self) {
        while let Some(input) = self.next_input() {
            if self.begin(self.main, input) {
                return;
            }
        }
        match self.trial().map(|trial| trial.input) {
            // Nothing else is left to try.
            Some(input) => {
                self.main = self.main.other();
                self.tell(StreamState::Connecting, self.reason.clone(), Some(input));
            }
            None => {
                let unauthorized = |record: &InputRecord| {
                    record.failure.as_ref().is_some_and(|failure| failure.unauthorized)
                };
                let hopeful = !self.records.iter().all(unauthorized);
                let pause = self.backoff.next_pause(self.config.restart_interval, hopeful);
                self.phase = Phase::Waiting(self.now + pause);
            }
        }
    }

    /// By priority, but those that just failed a trial after the others.
    fn next_input(&self) -> Option<usize> {
        let trial = self.trial().map(|trial| trial.input);
        let untried = |input: &usize| !self.records[*input].failed && Some(*input) != trial;
        let rank = |input: &usize| {
            (!self.records[*input].is_due(self.now), self.config.inputs[*input].priority, *input)
        };
        (0..self.records.len()).filter(untried).min_by_key(rank)
    }

    /// False if the attempt cannot even begin.
    fn begin(&mut self, lane: Lane, input: usize) -> bool {
        if lane == self.main {
            self.tell(StreamState::Connecting, self.reason.clone(), Some(input));
        }
        let udp_silent = self.records[input].udp_silent;
        let seed = self.random.next_u64();
        let mut turn = Turn { now: self.now, config: &self.config, outputs: &mut self.outputs };
        match Attempt::start(&mut turn, lane, input, udp_silent, seed) {
            Ok(attempt) => {
                self.attempts[lane.index()] = Some(attempt);
                true
            }
            Err(failure) => {
                let reason = self.note_failure(input, None, failure);
                if lane == self.main {
                    self.tell_failure(reason);
                }
                false
            }
        }
    }

    /// Media of a lane came, which has an attempt.
    pub(super) fn handle_media(&mut self, lane: Lane) {
        let Some(attempt) = &mut self.attempts[lane.index()] else { return };
        let first = attempt.handle_media(self.now);
        let delivered = attempt.delivered().unwrap_or_default();
        if lane != self.main {
            self.handle_trial_media(delivered);
        } else if first {
            self.outputs.push_back(SourceOutput::Prefer(lane));
            self.begin_active();
        }
    }

    /// An attempt cannot go on.
    pub(super) fn handle_failure(&mut self, lane: Lane, failure: Failure) {
        let Some(attempt) = self.end(lane) else { return };
        if self.phase == Phase::Stopping {
            return self.stop_if_over();
        }
        let input = attempt.input;
        let healthy = attempt.delivered().is_some_and(|delivered| delivered >= HEALTHY_PERIOD);
        let reason = self.note_failure(input, Some(&attempt), failure);
        if lane != self.main {
            return self.handle_trial_over();
        }
        self.on_air_by = None;
        if healthy {
            self.backoff.lose();
            let others = self.records.iter_mut().enumerate().filter(|(index, _)| *index != input);
            others.for_each(|(_, record)| record.failed = false);
        }
        if self.trial().is_some_and(|trial| trial.delivered().is_some()) {
            self.reason = Some(reason);
            return self.promote_trial();
        }
        self.tell_failure(reason);
        self.go_on();
    }

    /// Its first media is here, or it was a trial's.
    fn begin_active(&mut self) {
        let Some(input) = self.attempt().map(|attempt| attempt.input) else { return };
        self.failovers += u64::from(self.last_active.replace(input).is_some_and(|last| last != input));
        self.tell(StreamState::Active, None, Some(input));
        // A lone one may take its time.
        let others = self.config.inputs.len() > 1;
        self.on_air_by = others.then(|| self.now + ON_AIR_TIMEOUT);
        if self.trial().is_some_and(|trial| !self.is_better(trial.input, input)) {
            self.drop_trial();
        }
        self.try_better();
    }

    fn tell_failure(&mut self, reason: String) {
        self.tell(StreamState::Error, Some(reason.clone()), None);
        self.reason = Some(reason);
    }

    /// The reason, as it is told.
    fn note_failure(&mut self, input: usize, attempt: Option<&Attempt>, failure: Failure) -> String {
        let reason = self.named(input, &failure.reason);
        if let Some(record) = self.records.get_mut(input) {
            record.fail(self.now, attempt, self.config.restart_interval, failure);
        }
        reason
    }

    /// With several inputs, a reason names its own.
    pub(super) fn named(&self, input: usize, reason: &str) -> String {
        match self.config.inputs.get(input) {
            Some(input) if self.config.inputs.len() > 1 => format!("{}: {reason}", input.label),
            _ => reason.to_owned(),
        }
    }

    /// The attempt in use.
    pub(super) fn attempt(&self) -> Option<&Attempt> {
        self.attempts[self.main.index()].as_ref()
    }
}

/// The trial.
impl Source {
    pub(super) fn trial(&self) -> Option<&Attempt> {
        self.attempts[self.main.other().index()].as_ref()
    }

    /// Begins a trial of the best input that is better than the one in use and due, if there is time for one.
    pub(super) fn try_better(&mut self) {
        while self.next_trial_at().is_some_and(|at| self.now >= at) {
            let due = self.better_inputs().filter(|input| self.records[*input].is_due(self.now));
            let best = due.min_by_key(|input| (self.config.inputs[*input].priority, *input));
            if best.is_none_or(|input| self.begin(self.main.other(), input)) {
                return;
            }
        }
    }

    /// When the next trial begins; `None` while there is nothing to be tried, or no time for it.
    pub(super) fn next_trial_at(&self) -> Option<Instant> {
        let idle = self.phase == Phase::Running && self.trial().is_none();
        let playing = self.attempt().is_some_and(|attempt| attempt.delivered().is_some());
        let due = |input: usize| self.records[input].retry_at.unwrap_or(self.now);
        self.better_inputs().map(due).min().filter(|_| idle && playing)
    }

    fn better_inputs(&self) -> impl Iterator<Item = usize> {
        let used = self.attempt().map(|attempt| attempt.input);
        (0..self.records.len()).filter(move |input| used.is_some_and(|used| self.is_better(*input, used)))
    }

    /// Those with the same number are as good as each other: nobody goes back and forth between them.
    fn is_better(&self, input: usize, than: usize) -> bool {
        let priority = |input: usize| self.config.inputs.get(input).map(|input| input.priority);
        matches!((priority(input), priority(than)), (Some(input), Some(than)) if input < than)
    }

    fn handle_trial_media(&mut self, delivered: Duration) {
        let playing = self.attempt().is_some_and(|attempt| attempt.delivered().is_some());
        if !playing {
            self.promote_trial();
        } else if self.handover.is_none() && delivered >= self.config.return_after {
            self.handover = Some(self.now + ON_AIR_TIMEOUT);
            self.outputs.push_back(SourceOutput::Prefer(self.main.other()));
        }
    }

    /// The stream took the first picture of this lane.
    pub(super) fn note_on_air(&mut self, lane: Lane) {
        if lane != self.main && self.handover.is_some() {
            self.promote_trial();
        }
        if lane == self.main {
            self.on_air_by = None;
        }
    }

    /// What the trial has is what counts from here on; what was in use is ended.
    pub(super) fn promote_trial(&mut self) {
        self.end(self.main);
        self.main = self.main.other();
        if self.handover.take().is_none() {
            self.outputs.push_back(SourceOutput::Prefer(self.main));
        }
        self.begin_active();
    }

    /// The trial failed and is ended: nobody notices.
    fn handle_trial_over(&mut self) {
        self.take_back();
        self.try_better();
    }

    /// The trial is ended without blame.
    pub(super) fn drop_trial(&mut self) {
        self.end(self.main.other());
        self.take_back();
    }

    /// The stream need not wait for the trial's first picture any more.
    fn take_back(&mut self) {
        if self.handover.take().is_some() {
            self.outputs.push_back(SourceOutput::Prefer(self.main));
        }
    }

    /// Time passed.
    pub(super) fn check_lanes(&mut self) {
        for (lane, by) in [(self.main.other(), self.handover), (self.main, self.on_air_by)] {
            if by.is_some_and(|by| self.now >= by) {
                let seconds = ON_AIR_TIMEOUT.as_secs();
                let reason = format!("no picture to begin with came within {seconds} s");
                self.handle_failure(lane, reason.into());
            }
        }
        self.try_better();
    }
}

/// Media for so long means that the input works, and that its next failure is a first one.
const HEALTHY_PERIOD: Duration = Duration::from_secs(10);
/// An input that has no random access point for so long is of no use to viewers.
const ON_AIR_TIMEOUT: Duration = Duration::from_secs(30);
