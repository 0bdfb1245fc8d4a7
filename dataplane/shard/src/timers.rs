//! Who wants to be called when: one ordered set a shard, one entry a holder.

use std::collections::BTreeSet;
use std::time::Instant;

/// Whose timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    /// A stream slot's source.
    Source(usize),
    /// A stream slot's stream.
    Stream(usize),
    /// A viewer slot's session.
    Viewer(usize),
    /// A stream slot's slate.
    Slate(usize),
    /// A stream slot's recorder.
    Recording(usize),
    /// A viewer slot's players.
    Playback(usize),
    /// The next question to the STUN server.
    Stun,
    /// The end of a graceful shutdown.
    Gate,
}

/// A holder's entry, to be kept beside the holder.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Armed(Option<Instant>);

impl Armed {
    /// When it goes off.
    pub(crate) fn at(self) -> Option<Instant> {
        self.0
    }
}

/// All timers of a shard.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(Instant, TimerKey)>,
}

impl Timers {
    /// Sets, moves or (by `None`) removes a holder's timer.
    pub(crate) fn set(&mut self, key: TimerKey, armed: &mut Armed, at: Option<Instant>) {
        if armed.0 == at {
            return;
        }
        if let Some(old) = armed.0 {
            self.due.remove(&(old, key));
        }
        if let Some(new) = at {
            self.due.insert((new, key));
        }
        armed.0 = at;
    }

    /// The next timer that is due at `now`. It stays until its holder sets it anew.
    pub(crate) fn due(&self, now: Instant) -> Vec<TimerKey> {
        self.due.range(..=(now, TimerKey::Gate)).map(|&(_, key)| key).collect()
    }

    /// How many are set.
    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }

    /// When the first timer is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_holder_has_one_timer_and_it_moves() {
        let start = Instant::now();
        let (mut timers, mut armed) = (Timers::default(), Armed::default());
        timers.set(TimerKey::Source(1), &mut armed, Some(start + Duration::from_secs(1)));
        timers.set(TimerKey::Source(1), &mut armed, Some(start + Duration::from_secs(2)));
        assert_eq!(timers.due(start + Duration::from_secs(1)), []);
        assert_eq!(timers.due(start + Duration::from_secs(2)), [TimerKey::Source(1)]);
        timers.set(TimerKey::Source(1), &mut armed, None);
        assert_eq!(timers.next(), None);
    }
}
