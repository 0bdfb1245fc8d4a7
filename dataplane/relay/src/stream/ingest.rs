//! What one lane brings, up to the question whether viewers get it.

use lanecast_protocol::codec::{
    Codec, Depacketized, Depacketizer, DepacketizerStatistics, Nal, ParameterSets,
};

use super::{MAX_PREFIX_NALS, sum};
use crate::timeline::CLOCK_RATE_HZ;

/// One lane.
#[derive(Debug)]
pub(super) struct Ingest {
    pub(super) depacketizer: Option<Depacketizer>,
    pub(super) codec: Codec,
    pub(super) clock_rate_hz: u32,
    /// The newest, complete or not.
    pub(super) parameter_sets: ParameterSets,
    /// They changed in the access unit that is coming in.
    pub(super) parameter_sets_changed: bool,
    pub(super) unit: UnitState,
    /// What came of it before its first slice.
    pub(super) prefix: Vec<Nal>,
    /// Of the depacketizers before this one.
    past: DepacketizerStatistics,
}

/// How far the access unit is that is coming in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum UnitState {
    /// No slice of a picture yet.
    #[default]
    Prefix,
    /// Its slices go to viewers.
    Sending,
    /// They do not: it came before the lane's first random access point, or another lane is wanted.
    Skipped,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            depacketizer: None,
            codec: Codec::H264,
            clock_rate_hz: CLOCK_RATE_HZ,
            parameter_sets: ParameterSets::new(Codec::H264),
            parameter_sets_changed: false,
            unit: UnitState::Prefix,
            prefix: Vec::new(),
            past: DepacketizerStatistics::default(),
        }
    }
}

impl Ingest {
    /// All that comes now is of this kind.
    pub(super) fn restart(&mut self, codec: Codec, clock_rate_hz: u32, parameter_sets: ParameterSets) {
        *self = Self {
            depacketizer: Some(Depacketizer::new(codec)),
            codec,
            clock_rate_hz,
            parameter_sets,
            past: self.statistics(),
            ..Self::default()
        };
    }

    pub(super) fn poll_depacketized(&mut self) -> Option<Depacketized> {
        self.depacketizer.as_mut()?.poll_output()
    }

    pub(super) fn handle_parameter_set(&mut self, nal: &Nal) {
        self.parameter_sets_changed |= self.parameter_sets.handle_nal(nal);
    }

    pub(super) fn push_prefix(&mut self, nal: Nal) {
        if self.prefix.len() < MAX_PREFIX_NALS {
            self.prefix.push(nal);
        }
    }

    /// The next access unit.
    pub(super) fn begin_unit(&mut self) {
        self.unit = UnitState::Prefix;
        self.parameter_sets_changed = false;
        self.prefix.clear();
    }

    /// Of all depacketizers so far.
    pub(super) fn statistics(&self) -> DepacketizerStatistics {
        self.depacketizer.as_ref().map_or(self.past, |now| sum(self.past, now.statistics()))
    }
}
