//! `SIGINT` and `SIGTERM` as something to ask about, so that a run that is cut short still sums up.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The two signals, held back from their default.
#[derive(Debug)]
pub struct Interrupt(SignalFd);

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
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// Whether one came since this was last asked.
    pub fn came(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }
}
