//! `SIGINT` and `SIGTERM` as something to ask about, so that a run that is cut short still sums up.

use std::cell::Cell;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The two signals, held back from their default.
#[derive(Debug)]
pub struct Interrupt {
    signals: SignalFd,
    came: Cell<bool>,
}

impl Interrupt {
    /// Holds them back in this thread and those it starts from here on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn arm() -> nix::Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block()?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { signals, came: Cell::new(false) })
    }

    /// Whether one has come; from then on always.
    pub fn came(&self) -> bool {
        if matches!(self.signals.read_signal(), Ok(Some(_))) {
            self.came.set(true);
        }
        self.came.get()
    }
}
