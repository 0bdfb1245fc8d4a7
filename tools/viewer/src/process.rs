//! What this process, or another that is being measured, has used: CPU time, memory; and how many files it may open.

use std::fs;
use std::io;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;
use serde::Serialize;

/// CPU time and memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// CPU time in user mode, seconds.
    pub user_seconds: f64,
    /// CPU time in the kernel, seconds.
    pub system_seconds: f64,
    /// On-CPU time of all threads that live, seconds, to the nanosecond.
    pub cpu_seconds: f64,
    /// Resident memory, bytes; of this process its maximum.
    pub resident_bytes: u64,
}

impl Usage {
    /// Of this process.
    pub fn own() -> Self {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Self::default() };
        let user_seconds = seconds(usage.user_time());
        let system_seconds = seconds(usage.system_time());
        Self {
            user_seconds,
            system_seconds,
            cpu_seconds: user_seconds + system_seconds,
            resident_bytes: u64::try_from(usage.max_rss()).unwrap_or(0) * 1024,
        }
    }

    /// Of another process, from `/proc`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (user_seconds, system_seconds) =
            parse_stat(&stat).ok_or_else(|| io::Error::other("/proc stat is malformed"))?;
        let cpu_seconds = on_cpu(pid).unwrap_or(Duration::from_secs_f64(user_seconds + system_seconds));
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Self {
            user_seconds,
            system_seconds,
            cpu_seconds: cpu_seconds.as_secs_f64(),
            resident_bytes: parse_resident(&status).unwrap_or(0),
        })
    }

    /// What was used since `earlier`; the memory is that of now.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user_seconds: self.user_seconds - earlier.user_seconds,
            system_seconds: self.system_seconds - earlier.system_seconds,
            cpu_seconds: self.cpu_seconds - earlier.cpu_seconds,
            resident_bytes: self.resident_bytes,
        }
    }
}

/// Lets this process open as many files as it may, and gives that number.
///
/// # Errors
/// The kernel's.
pub fn raise_file_limit() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// When there is no such CPU.
pub fn pin_thread(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}

/// The sum over the threads that live, of the scheduler's count.
fn on_cpu(pid: u32) -> Option<Duration> {
    let mut total = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let schedstat = fs::read_to_string(thread.ok()?.path().join("schedstat")).unwrap_or_default();
        let ns = schedstat.split_ascii_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0);
        total += Duration::from_nanos(ns);
    }
    Some(total)
}

/// User and system seconds: fields 14 and 15 (proc_pid_stat(5)), counted behind the name, which may hold anything.
fn parse_stat(stat: &str) -> Option<(f64, f64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? / TICKS_PER_SECOND, ticks()? / TICKS_PER_SECOND))
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn seconds(time: TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}

/// `USER_HZ`, which is 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_brackets() {
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 250 0 0";
        assert_eq!(parse_stat(stat), Some((1.5, 2.5)));
        assert_eq!(parse_stat("42"), None);
    }

    #[test]
    fn this_process_is_seen_the_same_from_both_sides() {
        let other_side = Usage::of(std::process::id()).expect("this process");
        assert!(other_side.resident_bytes > 0);
        assert!(Usage::own().resident_bytes > 0);
        assert!(Usage::of(u32::MAX).is_err());
    }
}
