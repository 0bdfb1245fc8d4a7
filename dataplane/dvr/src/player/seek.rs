//! From the wanted time to the first picture at hand: which segment, which keyframe, and how many pictures behind it.
//!
//! Not here: anything that is sent.

use super::clock::{Burst, Clock, STEP_90K};
use super::scan::Scan;
use super::walk::{Position, Reading, Stop};
use super::{Accepted, Asked, Located, Phase, Player, PlayerOutput, missing_keyframe};
use std::time::Instant;

/// Damaged segments in succession that a seek goes past. A quarter of an hour: who wants a time in it had better learn that nothing
/// is there than be taken somewhere else.
const DAMAGED_MAX: u32 = 16;

/// A seek.
#[derive(Debug)]
pub(super) struct Seek {
    wanted_unix_ms: i64,
    state: State,
    damaged: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// No keyframe is chosen yet.
    Located,
    /// From the keyframe here on it is looked which pictures are needed.
    Scanning(Position, Scan),
    /// That is known, and the keyframe is loaded.
    Loading(Position, Scan),
}

impl Seek {
    pub(super) fn new(unix_ms: i64) -> Self {
        Self { wanted_unix_ms: unix_ms, state: State::Located, damaged: 0 }
    }
}

impl Player {
    /// The first segment, or that behind one that cannot be played.
    pub(super) fn begin_at(&mut self, located: Result<Option<Located>, String>) {
        match located.map(|located| self.accept(located, Asked::Late)) {
            Ok(Accepted::Segment(walk)) => {
                self.seek.state = State::Located;
                self.walk = Some(walk);
            }
            Ok(Accepted::AskedAgain) => {}
            Ok(Accepted::None) => self.finish(PlayerOutput::Nothing),
            Err(reason) => self.finish(PlayerOutput::Unreadable(reason)),
        }
    }

    /// True if there may be more to do.
    pub(super) fn step_seek(&mut self) -> bool {
        match self.look_for_start() {
            Ok(()) => self.phase = Phase::Ready,
            Err(Stop::Read { segment, offset, bytes }) => self.wish(segment, offset, bytes),
            // Before anything is recorded, or after it.
            Err(Stop::Edge { .. }) => self.finish(PlayerOutput::Nothing),
            Err(Stop::End) => {
                if let walk @ Some(_) = self.walk.take() {
                    self.release(walk);
                    self.ask(Asked::Late);
                }
            }
            Err(Stop::Damaged { segment, reason }) => {
                self.outputs.push_back(PlayerOutput::Damaged { segment, reason });
                self.seek_behind_damage();
            }
        }
        false
    }

    /// In the next segment, if there are not too many such.
    pub(super) fn seek_behind_damage(&mut self) {
        self.seek.damaged += 1;
        if self.seek.damaged == DAMAGED_MAX {
            return self.finish(PlayerOutput::Nothing);
        }
        let walk = self.walk.take();
        self.release(walk);
        self.ask(Asked::Late);
    }

    fn look_for_start(&mut self) -> Result<(), Stop> {
        let Some(walk) = &mut self.walk else { return Err(Stop::End) };
        let Seek { wanted_unix_ms, state, .. } = &mut self.seek;
        if let State::Located = state {
            walk.begin(*wanted_unix_ms)?;
            *state = State::Scanning(walk.position(), Scan::new(*wanted_unix_ms));
        }
        let parameter_sets = walk.open()?;
        if let State::Scanning(keyframe, scan) = state {
            scan.run(walk)?;
            *state = State::Loading(*keyframe, *scan);
        }
        let State::Loading(keyframe, Scan { ends: Some((first, shown)), .. }) = *state else {
            return Err(Stop::End);
        };
        if !first.sync {
            return Err(missing_keyframe(walk.segment));
        }
        walk.set_reading(Reading::All);
        walk.go(keyframe);
        walk.load()?;
        self.course.shown_unix_ms = shown.unix_ms;
        self.course.parameter_sets = Some(parameter_sets.clone());
        self.outputs.push_back(PlayerOutput::Ready { unix_ms: shown.unix_ms, parameter_sets });
        Ok(())
    }

    /// The keyframe goes first, the wanted picture last, as if no time passed between them.
    pub(super) fn begin_course(&mut self, now: Instant, first_packet: u64, rtp_timestamp: u32) {
        let State::Loading(_, Scan { pictures, ends: Some((first, shown)), .. }) = self.seek.state else {
            return;
        };
        if let Some(walk) = &self.walk {
            self.outbox.begin(now, first_packet, rtp_timestamp, walk.codec);
        }
        let wire_90k = i64::from(rtp_timestamp);
        self.course.clock = Clock::new(now, first.presentation_90k, wire_90k, 0.0);
        self.course.burst = Some(Burst {
            pictures,
            left: pictures,
            first_90k: first.presentation_90k,
            pivot_90k: shown.presentation_90k,
            first_wire_90k: wire_90k,
            step_90k: STEP_90K,
            starts_clock: true,
        });
    }
}
