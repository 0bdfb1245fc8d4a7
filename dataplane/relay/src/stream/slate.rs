//! The offline picture, looped from memory while no input gives pictures.

use std::rc::Rc;
use std::time::{Duration, Instant};

use lanecast_protocol::codec::{Codec, Nal, ParameterSets};

/// A clip of a still picture, begun by a random access point; whoever makes it promises that no picture is shown before
/// one sent earlier.
#[derive(Debug)]
pub struct Slate {
    /// Its codec.
    pub codec: Codec,
    /// Complete.
    pub parameter_sets: Rc<ParameterSets>,
    /// The NAL units of each picture. At least one picture.
    pub units: Vec<Vec<Nal>>,
    /// From one picture to the next.
    pub interval: Duration,
}

/// Where in the loop a stream is.
#[derive(Debug)]
pub(super) struct SlateLoop {
    slate: Rc<Slate>,
    next: usize,
    due: Instant,
    timestamp_90k: u32,
}

/// The picture that is due.
pub(super) struct Picture {
    pub(super) slate: Rc<Slate>,
    index: usize,
    /// Of the slate's own clock.
    pub(super) timestamp_90k: u32,
    pub(super) random_access: bool,
}

impl SlateLoop {
    /// The first picture is due at `now`.
    pub(super) fn new(now: Instant, slate: Rc<Slate>) -> Self {
        Self { slate, next: 0, due: now, timestamp_90k: 0 }
    }

    /// When the next picture is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The picture that is due. Where nobody watches (`idle`), only random access points are: who joins begins with the
    /// newest.
    pub(super) fn next(&mut self, now: Instant, idle: bool) -> Option<Picture> {
        if now < self.due || self.slate.units.is_empty() {
            return None;
        }
        let count = self.slate.units.len();
        let index = if idle { 0 } else { self.next };
        let steps = if idle { count } else { 1 };
        let step = self.slate.interval * steps as u32;
        let timestamp_90k = self.timestamp_90k;
        self.next = (index + steps) % count;
        self.timestamp_90k = timestamp_90k.wrapping_add((step.as_micros() * 9 / 100) as u32);
        // A shard that was late does not send what it missed.
        self.due = (self.due + step).max(now);
        Some(Picture { slate: self.slate.clone(), index, timestamp_90k, random_access: index == 0 })
    }
}

impl Picture {
    pub(super) fn nals(&self) -> &[Nal] {
        &self.slate.units[self.index]
    }
}
