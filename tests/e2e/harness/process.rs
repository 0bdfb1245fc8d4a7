//! A child process: its lines can be awaited, it is killed by its id when dropped, and its output is shown
//! when the test fails.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PATIENCE;

pub struct Process {
    name: String,
    child: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Process {
    /// Starts it with both outputs captured line by line. Standard input is a pipe of ours.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name} ({command:?}): {e}"));
        let log = Arc::new(Log::default());
        log.read(child.stdout.take().expect("piped"));
        log.read(child.stderr.take().expect("piped"));
        Self { name: name.to_owned(), child, log }
    }

    /// The first line that `pick` makes something of, among those said and those still to come.
    pub fn line<T>(&mut self, what: &str, pick: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        loop {
            let lines = self.log.grown_beyond(seen, Duration::from_millis(100));
            if let Some(found) = lines[seen..].iter().find_map(|line| pick(line)) {
                return found;
            }
            seen = lines.len();
            let ended = self.child.try_wait().expect("our child");
            assert!(ended.is_none(), "{} ended ({ended:?}) before: {what}\n{}", self.name, self.output());
            assert!(Instant::now() < deadline, "{} never said: {what}\n{}", self.name, self.output());
        }
    }

    /// Everything said so far.
    pub fn output(&self) -> String {
        self.log.lines.lock().expect("no panic while held").join("\n")
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("our child");
    }

    /// Waits for its end; `None` when it did not come in time.
    pub fn wait(&mut self, time: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn stdin(&mut self) -> &mut impl std::io::Write {
        self.child.stdin.as_mut().expect("piped")
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Never waited for when this runs, or its end was seen by `wait`, which remembers it: no other
        // process can have its id.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- {} said ----\n{}\n----", self.name, self.output());
        }
    }
}

impl Log {
    fn read(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                log.lines.lock().expect("no panic while held").push(line);
                log.grown.notify_all();
            }
        });
    }

    fn grown_beyond(&self, seen: usize, time: Duration) -> Vec<String> {
        let lines = self.lines.lock().expect("no panic while held");
        self.grown
            .wait_timeout_while(lines, time, |lines| lines.len() <= seen)
            .expect("no panic while held")
            .0
            .clone()
    }
}
