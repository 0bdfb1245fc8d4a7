//! A network of this process's own, with an address that is not loopback: servers leave loopback out of their candidates.
//! It ends with the last process in it.

use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use nix::sched::{CloneFlags, unshare};

/// Moves this process, and those it starts from here on, into it.
///
/// # Errors
/// When that is not permitted.
pub fn enter() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace needs root, or: unshare -r compare …")?;
    ensure!(ip("link set lo up")?, "ip cannot set lo up");
    // Not every kernel has dummy interfaces.
    if !ip("link add lan0 type dummy")? {
        ensure!(ip("link add lan0 type veth peer name lan1")?, "neither dummy nor veth interfaces");
        ensure!(ip("link set lan1 up")?, "ip cannot set lan1 up");
    }
    ensure!(ip("addr add 192.0.2.1/24 dev lan0")?, "ip cannot add an address");
    ensure!(ip("link set lan0 up")?, "ip cannot set lan0 up");
    Ok(())
}

fn ip(arguments: &str) -> anyhow::Result<bool> {
    let mut command = Command::new("ip");
    let status = command.args(arguments.split(' ')).stderr(Stdio::null()).status().context("ip")?;
    Ok(status.success())
}
