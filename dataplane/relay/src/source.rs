//! A camera's inputs: which to try, when to try again, and what state to tell.
//!
//! Drives an attempt at the input in use and, while that is not the best one, another at a better one. Owns back-off,
//! failover and the wish for pictures; knows nothing of streams and viewers.

mod address;
mod attempt;
mod backoff;
mod config;
mod failover;
mod output;
mod rate;
mod record;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use lanecast_protocol::codec::{Codec, ParameterSets};
use lanecast_protocol::rtsp::{ClientError, ClientOutput, ClientStatistics, SplitMix64};
use lanecast_protocol::wsc::StreamState;

use self::address::denial;
use self::attempt::{Attempt, Failure, Turn, sum};
use self::backoff::Backoff;
pub use self::config::{Input, InputKind, SourceConfig};
pub use self::output::{Lane, SourceOutput};
use self::record::InputRecord;

/// What the source is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// An input is in use, or being tried.
    Running,
    /// All inputs failed: the best is tried again then.
    Waiting(Instant),
    /// There is nothing to try.
    Idle,
    /// On demand, and nobody wants pictures.
    Unwanted,
    /// The last dialogues are being ended.
    Stopping,
    /// For good.
    Stopped,
}

/// A state with its reason and the input in use.
type Told = (StreamState, Option<String>, Option<usize>);

/// The machine.
#[derive(Debug)]
pub struct Source {
    config: SourceConfig,
    /// The time of the last call.
    now: Instant,
    phase: Phase,
    outputs: VecDeque<SourceOutput>,
    random: SplitMix64,
    backoff: Backoff,
    /// What is known of each input, in the order of the configuration.
    records: Vec<InputRecord>,
    /// By lane.
    attempts: [Option<Attempt>; 2],
    /// The lane of the input in use; the other one is for trials.
    main: Lane,
    /// The stream was told to prefer the trial, and must do so until then.
    handover: Option<Instant>,
    /// What is in use must be on air by then, or another input is tried.
    on_air_by: Option<Instant>,
    /// Index of the input that gave pictures last.
    last_active: Option<usize>,
    failovers: u64,
    /// Since when nobody wants pictures.
    unwanted_since: Option<Instant>,
    /// Why the last attempt failed.
    reason: Option<String>,
    told: Option<Told>,
    /// Counters of the attempts that are over.
    past: ClientStatistics,
}

impl Source {
    /// Starts at `now` with the best input; where they are on demand, once somebody wants pictures. `seed` feeds jitter,
    /// SSRC and nonces.
    pub fn new(now: Instant, config: SourceConfig, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let mut source = Self {
            config,
            now,
            phase: Phase::Idle,
            outputs: VecDeque::new(),
            backoff: Backoff::urgent(random.next_u64()),
            random,
            records: Vec::new(),
            attempts: [None, None],
            main: Lane::A,
            handover: None,
            on_air_by: None,
            last_active: None,
            failovers: 0,
            unwanted_since: Some(now),
            reason: None,
            told: None,
            past: ClientStatistics::default(),
        };
        source.forget_inputs();
        match source.config.on_demand {
            Some(_) => source.rest(),
            None => source.start_over(),
        }
        source
    }

    /// Other inputs or settings: a new attempt at once if the input in use changed, else none. Better inputs that came
    /// with it are tried at once.
    pub fn update(&mut self, now: Instant, config: SourceConfig) {
        self.now = now;
        let before = std::mem::replace(&mut self.config, config);
        if matches!(self.phase, Phase::Stopping | Phase::Stopped) {
            return;
        }
        if before.on_demand.is_none() && self.unwanted_since.is_some() {
            self.unwanted_since = Some(now);
        }
        let position = |old: &Input| self.config.inputs.iter().position(|new| old.is_reached_like(new));
        let goes_on_at = |attempt: &Attempt| {
            let allowed = attempt.is_allowed(&self.config);
            before.inputs.get(attempt.input).filter(|_| allowed).and_then(position)
        };
        let kept = self.attempts.each_ref().map(|attempt| attempt.as_ref().map(goes_on_at));
        let is_same = |(old, new): (&Input, &Input)| old.is_reached_like(new) && old.priority == new.priority;
        let unchanged = before.inputs.len() == self.config.inputs.len()
            && before.inputs.iter().zip(&self.config.inputs).all(is_same);
        if !unchanged {
            self.last_active = self.last_active.and_then(|last| before.inputs.get(last)).and_then(position);
            self.forget_inputs();
        }
        match self.phase {
            Phase::Unwanted if self.config.on_demand.is_some() => {}
            Phase::Unwanted => self.start_over(),
            _ if unchanged && !kept.contains(&Some(None)) => {}
            _ => self.keep(kept.map(Option::flatten)),
        }
    }

    /// TEARDOWN and stop for good.
    pub fn stop(&mut self, now: Instant) {
        self.now = now;
        if matches!(self.phase, Phase::Stopping | Phase::Stopped) {
            return;
        }
        self.phase = Phase::Stopping;
        (self.handover, self.on_air_by) = (None, None);
        for lane in Lane::ALL {
            let attempt = self.attempts[lane.index()].as_mut();
            if attempt.is_some_and(|attempt| !attempt.teardown(now)) {
                self.end(lane);
            }
        }
        self.stop_if_over();
    }

    /// Answer to [`SourceOutput::Resolve`].
    pub fn handle_resolved(&mut self, now: Instant, lane: Lane, addresses: Result<Vec<SocketAddr>, String>) {
        self.run(now, lane, |attempt, turn| attempt.handle_resolved(turn, addresses));
    }

    /// Answer to [`SourceOutput::Connect`].
    pub fn handle_connected(&mut self, now: Instant, lane: Lane, local: SocketAddr) {
        self.run(now, lane, |attempt, turn| {
            attempt.handle_connected(turn, local);
            Ok(())
        });
    }

    /// The connection (or the attempt at one) failed or was closed by the camera, or a worker's input ended.
    pub fn handle_closed(&mut self, now: Instant, lane: Lane, reason: &str) {
        self.run(now, lane, |attempt, turn| attempt.handle_closed(turn, reason));
    }

    /// Bytes came; whole frames are split off `received`.
    pub fn handle_received(&mut self, now: Instant, lane: Lane, received: &mut BytesMut) {
        if self.attempts[lane.index()].is_none() {
            received.clear();
        }
        self.run(now, lane, |attempt, turn| attempt.handle_received(turn, received));
    }

    /// Answer to [`SourceOutput::OpenUdp`]: the RTP port.
    pub fn handle_udp_opened(&mut self, now: Instant, lane: Lane, rtp_port: Result<u16, String>) {
        self.run(now, lane, |attempt, _| {
            if let Some(client) = attempt.client() {
                client.handle_udp_opened(now, rtp_port);
            }
            Ok(())
        });
    }

    /// A datagram came on the RTP socket.
    pub fn handle_udp_rtp(&mut self, now: Instant, lane: Lane, from: SocketAddr, datagram: Bytes) {
        self.run(now, lane, |attempt, turn| attempt.handle_udp_rtp(turn, from, datagram));
    }

    /// A datagram came on the RTCP socket.
    pub fn handle_udp_rtcp(&mut self, now: Instant, lane: Lane, from: SocketAddr, datagram: &[u8]) {
        self.run(now, lane, |attempt, turn| attempt.handle_udp_rtcp(turn, from, datagram));
    }

    /// A worker has opened its input.
    pub fn handle_foreign_playing(
        &mut self,
        now: Instant,
        lane: Lane,
        codec: Codec,
        parameter_sets: Box<ParameterSets>,
    ) {
        self.run(now, lane, |attempt, turn| {
            attempt.handle_foreign_playing(turn, codec, parameter_sets);
            Ok(())
        });
    }

    /// A picture of a worker's input came, which took so many bytes. The picture itself is the stream's, after what this
    /// gives out was done: the first one is not taken before `Prefer`.
    pub fn handle_foreign_unit(&mut self, now: Instant, lane: Lane, bytes: u64) {
        let mut expected = false;
        self.run(now, lane, |attempt, turn| {
            expected = attempt.handle_foreign_unit(turn, bytes)?;
            Ok(())
        });
        if expected {
            self.handle_media(lane);
        }
    }

    /// The stream took the first picture of this lane.
    pub fn handle_on_air(&mut self, now: Instant, lane: Lane) {
        self.now = now;
        self.note_on_air(lane);
    }

    /// Whether anybody wants pictures; counts where the inputs are on demand.
    pub fn set_wanted(&mut self, now: Instant, wanted: bool) {
        self.now = now;
        if !wanted {
            self.unwanted_since.get_or_insert(now);
        } else if self.unwanted_since.take().is_some()
            && self.config.on_demand.is_some()
            && matches!(self.phase, Phase::Unwanted | Phase::Waiting(_))
        {
            self.backoff.reset();
            self.start_over();
        }
    }

    /// How often another input took over, or a better one came back.
    pub fn failovers(&self) -> u64 {
        self.failovers
    }

    /// Why the attempt at this input failed last, for an operator; `None` if it did not since the inputs changed.
    pub fn input_reason(&self, input: usize) -> Option<&str> {
        Some(&self.records.get(input)?.failure.as_ref()?.reason)
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if self.rest_at().is_some_and(|at| now >= at) {
            return self.rest();
        }
        for lane in Lane::ALL {
            self.run(now, lane, Attempt::handle_timeout);
        }
        match self.phase {
            Phase::Waiting(until) if now >= until => self.start_over(),
            _ => self.check_lanes(),
        }
    }

    /// When to call [`Source::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let pause = match self.phase {
            Phase::Waiting(until) => Some(until),
            _ => None,
        };
        let attempts = self.attempts.iter().flatten().filter_map(Attempt::poll_timeout);
        let others = [pause, self.rest_at(), self.handover, self.on_air_by, self.next_trial_at()];
        attempts.chain(others.into_iter().flatten()).min()
    }

    /// What to do, until `None`.
    pub fn poll_output(&mut self) -> Option<SourceOutput> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            let (lane, output) = Lane::ALL.into_iter().find_map(|lane| {
                let client = self.attempts[lane.index()].as_mut()?.client()?;
                Some((lane, client.poll_output()?))
            })?;
            if let Some(output) = self.handle_output(lane, output) {
                return Some(output);
            }
        }
    }

    /// Counters over all attempts.
    pub fn statistics(&self) -> ClientStatistics {
        self.attempts.iter().flatten().fold(self.past, |past, attempt| sum(past, attempt.statistics()))
    }
}

/// The attempts.
impl Source {
    /// Lets an attempt do something, or fail.
    fn run(
        &mut self,
        now: Instant,
        lane: Lane,
        act: impl FnOnce(&mut Attempt, &mut Turn<'_>) -> Result<(), Failure>,
    ) {
        self.now = now;
        let Some(attempt) = &mut self.attempts[lane.index()] else { return };
        let mut turn = Turn { now, config: &self.config, outputs: &mut self.outputs };
        if let Err(failure) = act(attempt, &mut turn) {
            self.handle_failure(lane, failure);
        }
    }

    /// What a client wants, as the driver's; `None` if it was for us.
    fn handle_output(&mut self, lane: Lane, output: ClientOutput) -> Option<SourceOutput> {
        Some(match output {
            ClientOutput::Packet(_) | ClientOutput::Playing { .. } | ClientOutput::SenderReport(_)
                if self.phase == Phase::Stopping =>
            {
                return None;
            }
            ClientOutput::Packet(ordered) => {
                self.handle_media(lane);
                let packet = SourceOutput::Packet(lane, ordered);
                if self.outputs.is_empty() {
                    return Some(packet);
                }
                self.outputs.push_back(packet);
                return None;
            }
            ClientOutput::Write(bytes) => SourceOutput::Write(lane, bytes),
            ClientOutput::OpenUdp => SourceOutput::OpenUdp(lane),
            ClientOutput::UdpPeer { rtp, rtcp } => {
                let denied = [rtp, rtcp].iter().find_map(|peer| denial(&self.config.denied, peer.ip()));
                if let Some(reason) = denied {
                    self.handle_failure(lane, reason.into());
                    return None;
                }
                SourceOutput::UdpPeer { lane, rtp, rtcp }
            }
            ClientOutput::SendRtp(bytes) => SourceOutput::SendRtp(lane, bytes),
            ClientOutput::SendRtcp(bytes) => SourceOutput::SendRtcp(lane, bytes),
            ClientOutput::Playing { codec, clock_rate_hz, parameter_sets } => {
                SourceOutput::Playing { lane, codec, clock_rate_hz, parameter_sets }
            }
            ClientOutput::SenderReport(report) => SourceOutput::SenderReport(lane, report),
            ClientOutput::Ended(error) => {
                self.handle_ended(lane, error);
                return None;
            }
        })
    }

    fn handle_ended(&mut self, lane: Lane, error: ClientError) {
        if self.phase == Phase::Stopping {
            self.end(lane);
            return self.stop_if_over();
        }
        let Some(attempt) = &mut self.attempts[lane.index()] else { return };
        let input = attempt.input;
        let mut turn = Turn { now: self.now, config: &self.config, outputs: &mut self.outputs };
        match attempt.handle_ended(&mut turn, error) {
            Err(failure) => self.handle_failure(lane, failure),
            Ok(reason) if lane == self.main => {
                self.on_air_by = None;
                self.reason = reason.map(|reason| self.named(input, &reason)).or(self.reason.take());
                self.tell(StreamState::Connecting, self.reason.clone(), Some(input));
            }
            Ok(_) => {}
        }
    }

    /// Ends a lane's attempt, with a TEARDOWN if there is a session.
    fn end(&mut self, lane: Lane) -> Option<Attempt> {
        let mut attempt = self.attempts[lane.index()].take()?;
        attempt.end(&mut Turn { now: self.now, config: &self.config, outputs: &mut self.outputs });
        self.past = sum(self.past, attempt.statistics());
        Some(attempt)
    }

    fn end_all(&mut self) {
        Lane::ALL.into_iter().for_each(|lane| drop(self.end(lane)));
        (self.handover, self.on_air_by) = (None, None);
        self.reason = None;
    }

    /// Inputs changed: what is left of the attempts by lane goes on at this index.
    fn keep(&mut self, kept: [Option<usize>; 2]) {
        let trial = self.main.other();
        for (attempt, input) in self.attempts.iter_mut().zip(kept) {
            if let (Some(attempt), Some(input)) = (attempt, input) {
                attempt.input = input;
            }
        }
        let (main_input, trial_input) = (kept[self.main.index()], kept[trial.index()]);
        let trial_plays = self.trial().is_some_and(|trial| trial.delivered().is_some());
        match main_input {
            Some(input) => {
                self.drop_trial();
                self.on_air_by = self.on_air_by.filter(|_| self.config.inputs.len() > 1);
                let state = match self.attempt().and_then(Attempt::delivered) {
                    Some(_) => StreamState::Active,
                    None => StreamState::Connecting,
                };
                let reason = self.reason.clone().filter(|_| state == StreamState::Connecting);
                self.tell(state, reason, Some(input));
                self.try_better();
            }
            None if trial_input.is_some() && trial_plays => self.promote_trial(),
            None => {
                self.end_all();
                self.backoff.reset();
                self.start_over();
            }
        }
    }

    fn forget_inputs(&mut self) {
        let random = &mut self.random;
        self.records = self.config.inputs.iter().map(|_| InputRecord::new(random.next_u64())).collect();
    }

    /// When nobody has wanted pictures for long enough.
    fn rest_at(&self) -> Option<Instant> {
        let busy = matches!(self.phase, Phase::Running | Phase::Waiting(_) | Phase::Idle);
        Some(self.unwanted_since? + self.config.on_demand.filter(|_| busy)?)
    }

    fn rest(&mut self) {
        self.end_all();
        self.phase = Phase::Unwanted;
        self.tell(StreamState::Inactive, Some("on demand: nobody watches".to_owned()), None);
    }

    fn stop_if_over(&mut self) {
        if self.attempts.iter().all(Option::is_none) {
            self.phase = Phase::Stopped;
            self.tell(StreamState::Inactive, None, None);
            self.outputs.push_back(SourceOutput::Stopped);
        }
    }

    fn tell(&mut self, state: StreamState, reason: Option<String>, active_input: Option<usize>) {
        let told = (state, reason.clone(), active_input);
        if self.told.as_ref() != Some(&told) {
            self.told = Some(told);
            self.outputs.push_back(SourceOutput::State { state, reason, active_input });
        }
    }
}
