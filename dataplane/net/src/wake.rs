//! How a shard sleeps and is woken: one eventfd that the ring signals and that other threads write to.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use glommio::io::BufferedFile;

/// Wakes one shard from any thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker {
    eventfd: Arc<OwnedFd>,
}

impl Waker {
    /// A new eventfd.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd has no memory arguments; the result is checked before it is owned.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is a fresh descriptor that nobody else owns.
        Ok(Self { eventfd: Arc::new(unsafe { OwnedFd::from_raw_fd(fd) }) })
    }

    /// Ends the shard's sleep, or the next one if it is awake.
    pub fn wake(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes of a live local; an eventfd write of 1 blocks only at 2^64 - 2 unread wakes.
        unsafe { libc::write(self.eventfd.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }
}

/// The shard's end of a [`Waker`]. Made on the shard's executor.
#[derive(Debug)]
pub struct Sleeper {
    file: BufferedFile,
}

impl Sleeper {
    /// For the executor that runs this.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated.
    pub fn new(waker: &Waker) -> io::Result<Self> {
        let fd = waker.eventfd.try_clone()?;
        // SAFETY: the descriptor is ours and is handed over; an eventfd is read like a file at offset 0.
        Ok(Self { file: unsafe { BufferedFile::from_raw_fd(fd.into_raw_fd()) } })
    }

    /// Waits until the ring has a completion or somebody wakes the shard.
    ///
    /// # Errors
    /// When the executor's own ring fails: the shard cannot go on.
    pub async fn sleep(&self) -> io::Result<()> {
        self.file.read_at(0, 8).await.map(|_| ()).map_err(io::Error::from)
    }
}

/// CPU time of the calling thread, user and system, in microseconds.
pub fn thread_cpu_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes into a live local of the right type.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

/// The processors that this process may run on, in order.
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: all-zero is a valid cpu_set_t.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes into a live local of the size that is said.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } != 0 {
        return Vec::new();
    }
    // SAFETY: CPU_ISSET reads a live set at indexes below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}
