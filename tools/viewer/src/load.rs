//! Thousands of viewers: join at a pace, settle, count in a window, sum up.
//!
//! On standard output it says `joined` when every viewer got a packet or failed, `steady` when the window opens and `done`
//! when it closes, each on a line, so that a script can look at the server at those moments.

use std::io::{self, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::clock::Moment;
use crate::crowd::{Crowd, Progress, Roster};
use crate::drops::{self, HostDrops};
use crate::interrupt::Interrupt;
use crate::process::{Usage, pin_thread};
use crate::summary::{Findings, Observed, Run, Summary, Window};
use crate::viewer::{Meters, Outcome, Plan};

/// What is asked of a load, of whatever kind its viewers are.
#[derive(Clone, Debug)]
pub struct Load {
    /// What the summary says of it; viewers and threads are taken from here.
    pub run: Run,
    /// CPUs that the threads keep to, in turn; empty for any.
    pub cpus: Vec<usize>,
    /// The pace of joins, of all threads together.
    pub joins_per_second: f64,
    /// Time from the last join to the window.
    pub settle: Duration,
    /// Length of the window.
    pub window: WindowEnd,
    /// The window waits for all viewers' seeks.
    pub rewinds: bool,
    /// A process that is looked at in the window.
    pub observed_pid: Option<u32>,
    /// A shell command that is run, and waited for, before the window opens.
    pub on_steady: Option<String>,
    /// The same after it closed.
    pub on_done: Option<String>,
    /// Print a line a second on standard error.
    pub verbose: bool,
}

/// When a window closes.
#[derive(Clone, Copy, Debug)]
pub enum WindowEnd {
    /// After so long.
    Time(Duration),
    /// After so many packets of all viewers.
    Packets(u64),
}

/// One thread's viewers.
pub trait Party: Send + 'static {
    /// Waits for something to do, at most `wait`, and does it.
    ///
    /// # Errors
    /// When the party as a whole cannot go on.
    fn turn(&mut self, wait: Duration) -> io::Result<()>;

    /// From here on counts and latencies are the window's.
    fn open_window(&mut self);

    /// To here counts and latencies were the window's.
    fn close_window(&mut self);

    /// Ends all sessions and gives what is left.
    fn finish(self) -> Remains;
}

/// What is left of a party: the viewers' outcomes, why others could not begin, the meters.
pub type Remains = (Vec<Outcome>, Vec<String>, Meters);

impl Party for Crowd<()> {
    fn turn(&mut self, wait: Duration) -> io::Result<()> {
        Crowd::turn(self, wait)
    }

    fn open_window(&mut self) {
        Crowd::open_window(self);
    }

    fn close_window(&mut self) {
        Crowd::close_window(self);
    }

    fn finish(self) -> Remains {
        Crowd::finish(self)
    }
}

/// Runs a load of WSC-RTP viewers to its end, or to an interrupt.
///
/// # Errors
/// As [`run_parties`].
pub fn run(load: Load, plan: Plan, interrupt: &Interrupt) -> Result<Summary> {
    let plan = Arc::new(plan);
    run_parties(load, |roster, progress| Crowd::new(Arc::clone(&plan), roster, progress, ()), interrupt)
}

/// Runs a load to its end, or to an interrupt; `gather` makes each thread's party.
///
/// # Errors
/// When a thread or its epoll cannot be had, or the observed process is not there. Failed viewers are in the summary.
pub fn run_parties<P: Party>(
    load: Load,
    gather: impl Fn(Roster, Arc<Progress>) -> io::Result<P>,
    interrupt: &Interrupt,
) -> Result<Summary> {
    let threads = start_threads(&load, gather)?;
    let host_before = HostDrops::read();
    let director = Director { load: &load, interrupt, threads };
    director.wait_for_joins()?;
    say("joined");
    director.sleep(load.settle)?;
    run_hook(load.on_steady.as_deref())?;
    let window = director.window()?;
    run_hook(load.on_done.as_deref())?;
    let drops = drops::by_port();
    let mut findings = Findings {
        run: load.run.clone(),
        outcomes: Vec::new(),
        stillborn: Vec::new(),
        meters: Vec::new(),
        drops,
        host_drops: HostDrops::read().since(host_before),
        window,
    };
    for thread in director.finish() {
        let (outcomes, stillborn, meters) = thread?;
        findings.outcomes.extend(outcomes);
        findings.stillborn.extend(stillborn);
        findings.meters.push(meters);
    }
    Ok(Summary::new(findings))
}

/// The main thread's side.
struct Director<'a> {
    load: &'a Load,
    interrupt: &'a Interrupt,
    threads: Threads,
}

struct Threads {
    control: Arc<Control>,
    progress: Vec<Arc<Progress>>,
    handles: Vec<JoinHandle<io::Result<Remains>>>,
}

/// Where the threads are to be, and how many have got there.
#[derive(Debug, Default)]
struct Control {
    stage: AtomicU8,
    reached: AtomicU32,
}

const JOINING: u8 = 0;
const WINDOW: u8 = 1;
const CLOSED: u8 = 2;
const OVER: u8 = 3;

impl Director<'_> {
    fn wait_for_joins(&self) -> Result<()> {
        let viewers = u64::from(self.load.run.viewers);
        self.wait_until(None, || {
            let joined = self.sum(|progress| &progress.joined);
            let failed = self.sum(|progress| &progress.failed) - self.sum(|progress| &progress.ended);
            let moved = !self.load.rewinds
                || self.sum(|progress| &progress.rewound) + self.sum(|progress| &progress.failed) >= viewers;
            joined + failed >= viewers && moved
        })
    }

    fn sleep(&self, duration: Duration) -> Result<()> {
        self.wait_until(Some(Moment::now() + duration), || false)
    }

    fn window(&self) -> Result<Window> {
        self.advance(WINDOW)?;
        let opened = Sample::take(self.load.observed_pid)?;
        say("steady");
        match self.load.window {
            WindowEnd::Time(duration) => self.wait_until(Some(opened.moment + duration), || false)?,
            WindowEnd::Packets(packets) => {
                let before = self.sum(|progress| &progress.packets);
                self.wait_until(None, || self.sum(|progress| &progress.packets) - before >= packets)?;
            }
        }
        self.advance(CLOSED)?;
        let window = Sample::take(self.load.observed_pid)?.window_since(&opened, self.load.observed_pid);
        say("done");
        Ok(window)
    }

    fn finish(self) -> impl Iterator<Item = Result<Remains>> {
        self.threads.control.stage.store(OVER, Ordering::Release);
        self.threads.handles.into_iter().map(|handle| match handle.join() {
            Ok(remains) => remains.context("a thread's epoll"),
            Err(_) => bail!("a thread panicked"),
        })
    }

    fn advance(&self, stage: u8) -> Result<()> {
        let control = &self.threads.control;
        control.reached.store(0, Ordering::Relaxed);
        control.stage.store(stage, Ordering::Release);
        while control.reached.load(Ordering::Acquire) < self.load.run.threads {
            self.check_threads()?;
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Until it is so, or then, or an interrupt, or every viewer has failed.
    fn wait_until(&self, then: Option<Moment>, mut is_so: impl FnMut() -> bool) -> Result<()> {
        let mut report_at = Moment::now() + REPORT_INTERVAL;
        loop {
            let now = Moment::now();
            let all_failed = self.sum(|progress| &progress.failed) >= u64::from(self.load.run.viewers);
            if is_so() || all_failed || then.is_some_and(|then| then <= now) || self.interrupt.came() {
                return Ok(());
            }
            self.check_threads()?;
            if self.load.verbose && report_at <= now {
                report_at = now + REPORT_INTERVAL;
                self.report();
            }
            thread::sleep(then.map_or(LOOK_INTERVAL, |then| then.since(now).min(LOOK_INTERVAL)));
        }
    }

    fn report(&self) {
        eprintln!(
            "{} started, {} joined, {} failed, {} packets",
            self.sum(|progress| &progress.started),
            self.sum(|progress| &progress.joined),
            self.sum(|progress| &progress.failed),
            self.sum(|progress| &progress.packets)
        );
    }

    fn sum(&self, which: impl Fn(&Progress) -> &AtomicU64) -> u64 {
        self.threads.progress.iter().map(|progress| which(progress).load(Ordering::Relaxed)).sum()
    }

    fn check_threads(&self) -> Result<()> {
        if self.threads.handles.iter().any(JoinHandle::is_finished) {
            bail!("a thread ended before its time");
        }
        Ok(())
    }
}

fn start_threads<P: Party>(
    load: &Load,
    gather: impl Fn(Roster, Arc<Progress>) -> io::Result<P>,
) -> Result<Threads> {
    let control = Arc::new(Control::default());
    let begin = Moment::now();
    let count = load.run.threads.max(1);
    let mut threads = Threads { control: Arc::clone(&control), progress: Vec::new(), handles: Vec::new() };
    for thread in 0..count {
        let roster = Roster {
            first: thread,
            stride: count,
            count: (load.run.viewers + count - 1 - thread) / count,
            begin: begin + Duration::from_secs_f64(f64::from(thread) / load.joins_per_second),
            join_interval: Duration::from_secs_f64(f64::from(count) / load.joins_per_second),
            shared_sockets: load.run.shared_sockets,
        };
        let progress = Arc::new(Progress::default());
        threads.progress.push(Arc::clone(&progress));
        let party = gather(roster, progress).context("no epoll or shared socket")?;
        let control = Arc::clone(&control);
        let cpu = (!load.cpus.is_empty()).then(|| load.cpus[thread as usize % load.cpus.len()]);
        let handle = thread::Builder::new().name(format!("viewers-{thread}"));
        threads.handles.push(handle.spawn(move || drive(party, &control, cpu)).context("no thread")?);
    }
    Ok(threads)
}

fn drive<P: Party>(mut party: P, control: &Control, cpu: Option<usize>) -> io::Result<Remains> {
    if let Some(cpu) = cpu {
        pin_thread(cpu)?;
    }
    let mut stage = JOINING;
    loop {
        party.turn(TURN_WAIT_MAX)?;
        let wanted = control.stage.load(Ordering::Acquire);
        if wanted == OVER {
            return Ok(party.finish());
        }
        if wanted != stage {
            stage = wanted;
            match stage {
                WINDOW => party.open_window(),
                _ => party.close_window(),
            }
            control.reached.fetch_add(1, Ordering::Release);
        }
    }
}

/// What is looked at when the window opens and closes.
struct Sample {
    moment: Moment,
    process: Usage,
    observed: Option<Usage>,
    host: HostDrops,
}

impl Sample {
    fn take(pid: Option<u32>) -> Result<Self> {
        let observed = pid.map(|pid| Usage::of(pid).with_context(|| format!("process {pid}"))).transpose()?;
        Ok(Self { moment: Moment::now(), process: Usage::own(), observed, host: HostDrops::read() })
    }

    fn window_since(self, opened: &Self, pid: Option<u32>) -> Window {
        let observed = pid.zip(self.observed).zip(opened.observed);
        Window {
            seconds: self.moment.since(opened.moment).as_secs_f64(),
            process: self.process.since(opened.process),
            observed: observed.map(|((pid, now), before)| Observed {
                pid,
                usage: now.since(before),
                cpu_us_per_packet: 0.0,
            }),
            host_drops: self.host.since(opened.host),
            ..Window::default()
        }
    }
}

/// A script that has gone away must not stop the run.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

fn run_hook(command: Option<&str>) -> Result<()> {
    let Some(command) = command else { return Ok(()) };
    let status = Command::new("sh").args(["-c", command]).status().context("no shell")?;
    if !status.success() {
        bail!("`{command}` ended with {status}");
    }
    Ok(())
}

/// How long a thread may not look at what is wanted of it.
const TURN_WAIT_MAX: Duration = Duration::from_millis(10);

const LOOK_INTERVAL: Duration = Duration::from_millis(10);

const REPORT_INTERVAL: Duration = Duration::from_secs(1);
