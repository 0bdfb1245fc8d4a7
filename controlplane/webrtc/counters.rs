//! What `/metrics` says of signalling: plain counters, read as they are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Counters {
    answered: AtomicU64,
    /// By the error's code, of which there are a dozen.
    refused: Mutex<BTreeMap<&'static str, u64>>,
    tcp: Mutex<BTreeMap<TcpOutcome, u64>>,
}

/// What became of a connection of ICE-TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TcpOutcome {
    /// A shard has it.
    Attached,
    /// Too many waited for their first frame.
    Full,
    /// The first frame did not come in time, or not whole.
    Incomplete,
    /// The first frame is no binding request.
    NotStun,
    /// Its ufrag names no shard of ours.
    UnknownUfrag,
    /// The shard takes no command.
    Busy,
}

impl TcpOutcome {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Attached, Self::Full, Self::Incomplete, Self::NotStun, Self::UnknownUfrag, Self::Busy];

    /// As a metric's label has it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Full => "full",
            Self::Incomplete => "incomplete",
            Self::NotStun => "not_stun",
            Self::UnknownUfrag => "unknown_ufrag",
            Self::Busy => "busy",
        }
    }
}

impl Counters {
    /// An offer was answered.
    pub fn count_answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// An offer was refused with this code.
    pub fn count_refused(&self, code: &'static str) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    /// A connection of ICE-TCP came to this.
    pub fn count_tcp(&self, outcome: TcpOutcome) {
        *self.tcp.lock().unwrap_or_else(PoisonError::into_inner).entry(outcome).or_default() += 1;
    }

    /// Offers answered.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Offers refused, by code.
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections of ICE-TCP with this outcome.
    pub fn tcp(&self, outcome: TcpOutcome) -> u64 {
        self.tcp.lock().unwrap_or_else(PoisonError::into_inner).get(&outcome).copied().unwrap_or_default()
    }
}
