//! A network of this process's own, with an address that is not loopback: servers leave loopback out of their candidates.
//! It ends with the last process in it.

use std::process::Command;

use anyhow::{Context, ensure};
use nix::sched::{CloneFlags, unshare};

/// Moves this process, and those it starts from here on, into it.
///
/// # Errors
/// When that is not permitted.
pub fn enter() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace needs root, or: unshare -r compare …")?;
    for step in [
        "link set lo up",
        "link add dummy0 type dummy",
        "addr add 192.0.2.1/24 dev dummy0",
        "link set dummy0 up",
    ] {
        let status = Command::new("ip").args(step.split(' ')).status().context("ip")?;
        ensure!(status.success(), "ip {step}: {status}");
    }
    Ok(())
}
