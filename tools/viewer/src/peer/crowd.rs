//! The light peers of one thread around one epoll: sockets, timers, paced joins; and the threads that exchange their
//! descriptions, as those wait for the server.
//!
//! What a peer does with what it gets is `light.rs`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering, Ordering::Relaxed};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::clock::Moment;
use crate::continuity::Counts;
use crate::crowd::{Progress, Roster};
use crate::load::{Party, Remains};
use crate::peer::Exchange;
use crate::peer::dtls::Identity;
use crate::peer::light::{Conduct, Draft, LightPeer};
use crate::peer::report::PeerOutcome;
use crate::receive::{Receiver, SocketOptions};
use crate::session::{Milestones, Transport};
use crate::viewer::{Fate, Meters, Outcome};

/// What all light peers of a run have in common.
#[derive(Clone)]
pub struct Plan {
    /// How descriptions are exchanged.
    pub exchange: Arc<dyn Exchange>,
    /// In how many threads beside each party's own.
    pub signalling_threads: usize,
    /// The certificate.
    pub identity: Arc<Identity>,
    /// How they behave.
    pub conduct: Arc<Conduct>,
    /// How media sockets are made.
    pub socket_options: SocketOptions,
    /// A viewer with no packet after this long has failed.
    pub join_timeout: Duration,
}

/// One thread's light peers.
pub struct PeerCrowd {
    plan: Plan,
    roster: Roster,
    epoll: Epoll,
    events: Vec<EpollEvent>,
    viewers: Vec<Viewer>,
    timers: BinaryHeap<Reverse<(Moment, usize)>>,
    receiver: Receiver,
    clock_refresh: Moment,
    mailbox: Arc<Mailbox>,
    signallers: Signallers,
    meters: Meters,
    progress: Arc<Progress>,
    failed: u64,
    ended: u64,
}

/// One of them.
struct Viewer {
    number: u32,
    started: Moment,
    state: State,
    socket: Option<UdpSocket>,
    destination: Option<SocketAddr>,
    port: u16,
    scheduled: Option<Moment>,
    session: Option<String>,
    fate: Fate,
    window: (Counts, Option<Counts>),
}

enum State {
    /// Its descriptions are being exchanged.
    Signalling,
    /// It knows the server.
    Peer(Box<LightPeer>),
}

impl PeerCrowd {
    /// A crowd of which nobody has joined yet.
    ///
    /// # Errors
    /// When the kernel refuses an epoll or a thread.
    pub fn new(plan: Plan, roster: Roster, progress: Arc<Progress>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mailbox = Arc::new(Mailbox::new()?);
        epoll.add(&mailbox.wake, EpollEvent::new(EpollFlags::EPOLLIN, MAILBOX))?;
        let signallers = Signallers::start(&plan.exchange, plan.signalling_threads, &mailbox)?;
        Ok(Self {
            plan,
            roster,
            epoll,
            events: vec![EpollEvent::empty(); EVENTS_A_TURN],
            viewers: Vec::with_capacity(roster.count as usize),
            timers: BinaryHeap::new(),
            receiver: Receiver::default(),
            clock_refresh: Moment::now() + CLOCK_REFRESH,
            mailbox,
            signallers,
            meters: Meters::default(),
            progress,
            failed: 0,
            ended: 0,
        })
    }

    fn next_wait(&self, now: Moment) -> Duration {
        let timer = self.timers.peek().map(|Reverse((moment, _))| moment.since(now));
        let join = self.next_join().map(|moment| moment.since(now));
        timer.into_iter().chain(join).min().unwrap_or(Duration::MAX)
    }

    fn next_join(&self) -> Option<Moment> {
        let begun = self.viewers.len() as u32;
        (begun < self.roster.count).then(|| self.roster.begin + self.roster.join_interval * begun)
    }

    fn start_due_viewers(&mut self, now: Moment) {
        while self.next_join().is_some_and(|moment| moment <= now) {
            let index = self.viewers.len();
            let number = self.roster.first + index as u32 * self.roster.stride;
            self.viewers.push(Viewer::new(number, now));
            match Draft::new(Arc::clone(&self.plan.identity), Arc::clone(&self.plan.conduct)) {
                Ok(draft) => self.signallers.send(Job::Begin { index, number, draft: Box::new(draft) }),
                Err(cause) => self.fail(index, cause),
            }
            self.schedule(index, now + self.plan.join_timeout);
        }
    }

    fn handle_mail(&mut self) {
        for letter in self.mailbox.take() {
            let Letter { index, result } = letter;
            let now = Moment::now();
            let viewer = &mut self.viewers[index];
            let (draft, session) = match result {
                Ok(negotiated) => negotiated,
                Err(cause) => {
                    self.fail(index, cause);
                    continue;
                }
            };
            viewer.session = session;
            if viewer.fate != Fate::Running {
                continue;
            }
            match LightPeer::new(draft, now) {
                Ok(peer) => {
                    viewer.state = State::Peer(Box::new(peer));
                    self.settle(index, now);
                }
                Err(cause) => self.fail(index, cause),
            }
        }
    }

    fn handle_media(&mut self, index: usize) {
        let Self { viewers, receiver, meters, .. } = self;
        let Viewer { socket: Some(socket), state: State::Peer(peer), .. } = &mut viewers[index] else {
            return;
        };
        let joining = peer.reception().first_packet().is_none();
        let before = packets(peer);
        // An error here is a closed port of the server's: ICE tells how that ends.
        // What a full batch left behind, the epoll reports again.
        let _ = receiver.receive(socket, |datagram| {
            if let Some(latency) = peer.handle_datagram(datagram).filter(|_| meters.recording) {
                meters.latency_arrived.saturating_record(nanoseconds(latency.arrived));
                meters.latency_read.saturating_record(nanoseconds(latency.read));
            }
        });
        meters.packets += packets(peer) - before;
        meters.joined += u64::from(joining && peer.reception().first_packet().is_some());
        if peer.has_transmit()
            || peer.failure().is_some()
            || self.viewers[index].scheduled.is_none()
            || joining
        {
            self.settle(index, Moment::now());
        } else {
            self.reschedule(index);
        }
    }

    fn handle_timers(&mut self, now: Moment) {
        while let Some(&Reverse((moment, index))) = self.timers.peek() {
            if moment > now {
                break;
            }
            self.timers.pop();
            if self.viewers[index].scheduled == Some(moment) {
                self.viewers[index].scheduled = None;
                self.handle_timer(index, now);
            }
        }
    }

    fn handle_timer(&mut self, index: usize, now: Moment) {
        let viewer = &mut self.viewers[index];
        if viewer.fate != Fate::Running {
            return;
        }
        let deadline = viewer.started + self.plan.join_timeout;
        if viewer.is_joining() && deadline <= now {
            let cause = viewer.stage().to_owned();
            return self.fail(index, cause);
        }
        if let State::Peer(peer) = &mut viewer.state {
            peer.handle_timeout(now);
        }
        self.settle(index, now);
    }

    /// Sends what a viewer wants sent, and sees to its destination, its end and its next timer.
    fn settle(&mut self, index: usize, now: Moment) {
        let viewer = &mut self.viewers[index];
        let State::Peer(peer) = &mut viewer.state else { return self.reschedule(index) };
        if viewer.fate != Fate::Running {
            return;
        }
        if peer.failure().is_none() && viewer.destination != peer.destination() {
            viewer.destination = peer.destination();
            if viewer.aim(&self.plan.socket_options, &self.epoll, index).is_err()
                && let State::Peer(peer) = &mut viewer.state
            {
                peer.reject_destination(now);
                viewer.destination = None;
                return self.schedule(index, now + REJECTED_PAUSE);
            }
        }
        viewer.flush();
        if let State::Peer(peer) = &viewer.state
            && let Some(cause) = peer.failure()
        {
            let cause = cause.to_owned();
            return self.fail(index, cause);
        }
        self.reschedule(index);
    }

    fn reschedule(&mut self, index: usize) {
        let viewer = &self.viewers[index];
        let next = match &viewer.state {
            State::Signalling => None,
            State::Peer(peer) => peer.poll_timeout(),
        };
        let deadline = viewer.is_joining().then(|| viewer.started + self.plan.join_timeout);
        if let Some(next) = [next, deadline].into_iter().flatten().min() {
            self.schedule(index, next);
        }
    }

    fn schedule(&mut self, index: usize, moment: Moment) {
        let viewer = &mut self.viewers[index];
        if viewer.fate == Fate::Running && viewer.scheduled.is_none_or(|scheduled| moment < scheduled) {
            viewer.scheduled = Some(moment);
            self.timers.push(Reverse((moment, index)));
        }
    }

    fn fail(&mut self, index: usize, cause: String) {
        let viewer = &mut self.viewers[index];
        if viewer.fate != Fate::Running {
            return;
        }
        self.failed += 1;
        self.ended += u64::from(!viewer.is_joining());
        viewer.fate = Fate::Failed(cause);
        viewer.socket = None;
    }

    fn publish(&self) {
        self.progress.started.store(self.viewers.len() as u64, Relaxed);
        self.progress.joined.store(self.meters.joined, Relaxed);
        self.progress.failed.store(self.failed, Relaxed);
        self.progress.ended.store(self.ended, Relaxed);
        self.progress.packets.store(self.meters.packets, Relaxed);
    }
}

impl Party for PeerCrowd {
    fn turn(&mut self, wait: Duration) -> io::Result<()> {
        let timeout = self.next_wait(Moment::now()).min(wait);
        let ready = match self.epoll.wait(&mut self.events, ceil_ms(timeout)) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for index in 0..ready {
            match self.events[index].data() {
                MAILBOX => self.handle_mail(),
                viewer => self.handle_media(viewer as usize),
            }
        }
        let now = Moment::now();
        if now >= self.clock_refresh {
            self.receiver.refresh_clock();
            self.clock_refresh = now + CLOCK_REFRESH;
        }
        self.start_due_viewers(now);
        self.handle_timers(now);
        self.publish();
        Ok(())
    }

    fn open_window(&mut self) {
        self.meters.recording = true;
        self.viewers.iter_mut().for_each(|viewer| viewer.window = (viewer.counts(), None));
    }

    fn close_window(&mut self) {
        self.meters.recording = false;
        self.viewers.iter_mut().for_each(|viewer| viewer.window.1 = Some(viewer.counts()));
    }

    fn finish(mut self) -> Remains {
        let outcomes = self.viewers.iter().map(Viewer::outcome).collect();
        for viewer in &mut self.viewers {
            if let Some(session) = viewer.session.take() {
                self.signallers.send(Job::End(session));
            }
        }
        self.signallers.finish();
        // After the DELETE, which finds no session that its peer has closed.
        let now = Moment::now();
        for viewer in &mut self.viewers {
            if let State::Peer(peer) = &mut viewer.state {
                peer.close(now);
            }
            viewer.flush();
        }
        // Sessions that came up too late for their viewers.
        for letter in self.mailbox.take() {
            if let Ok((_, Some(session))) = letter.result {
                let _ = self.plan.exchange.end(&session);
            }
        }
        (outcomes, Vec::new(), self.meters)
    }
}

impl Viewer {
    fn new(number: u32, started: Moment) -> Self {
        Self {
            number,
            started,
            state: State::Signalling,
            socket: None,
            destination: None,
            port: 0,
            scheduled: None,
            session: None,
            fate: Fate::Running,
            window: (Counts::default(), None),
        }
    }

    fn peer(&self) -> Option<&LightPeer> {
        match &self.state {
            State::Signalling => None,
            State::Peer(peer) => Some(peer),
        }
    }

    fn is_joining(&self) -> bool {
        self.peer().is_none_or(|peer| peer.reception().first_packet().is_none())
    }

    fn stage(&self) -> &'static str {
        self.peer().map_or("join: no answer to the offer in time", LightPeer::stage)
    }

    fn counts(&self) -> Counts {
        self.peer().map(LightPeer::counts).unwrap_or_default()
    }

    /// Everything goes to the destination, and nothing is taken from elsewhere.
    fn aim(&mut self, options: &SocketOptions, epoll: &Epoll, index: usize) -> io::Result<()> {
        let Some(destination) = self.destination else { return Ok(()) };
        let any: IpAddr = match destination {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // A new one for each, as a socket that was refused once keeps the error.
        let socket = options.open(SocketAddr::new(any, 0))?;
        socket.connect(destination)?;
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        self.port = socket.local_addr()?.port();
        self.socket = Some(socket);
        Ok(())
    }

    /// A datagram that the kernel refuses is lost, as on the way.
    fn flush(&mut self) {
        let State::Peer(peer) = &mut self.state else { return };
        while let Some(datagram) = peer.poll_transmit() {
            if let Some(socket) = &self.socket {
                let _ = socket.send(&datagram);
            }
        }
    }

    fn outcome(&self) -> Outcome {
        let (opened, closed) = self.window;
        let reception = self.peer().map(LightPeer::reception);
        Outcome {
            number: self.number,
            started: self.started,
            fate: self.fate.clone(),
            counts: self.counts(),
            window: closed.unwrap_or_else(|| self.counts()) - opened,
            start: reception.and_then(|reception| reception.start()),
            milestones: Milestones::default(),
            first_packet: reception.and_then(|reception| reception.first_packet()),
            first_picture: reception.and_then(|reception| reception.first_picture()),
            transport: Transport::Webrtc,
            breaches: Vec::new(),
            server_errors: 0,
            media_port: self.port,
            peer: Some(self.peer().map_or_else(PeerOutcome::default, LightPeer::outcome)),
        }
    }
}

/// What the signalling threads have brought about.
struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    wake: EventFd,
}

struct Letter {
    index: usize,
    result: Result<(Draft, Option<String>), String>,
}

impl Mailbox {
    fn new() -> io::Result<Self> {
        let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { letters: Mutex::default(), wake })
    }

    fn put(&self, letter: Letter) {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
        // It can only be full, and then it wakes as well.
        let _ = self.wake.write(1);
    }

    fn take(&self) -> Vec<Letter> {
        let _ = self.wake.read();
        std::mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

enum Job {
    Begin { index: usize, number: u32, draft: Box<Draft> },
    End(String),
}

/// The threads that wait for the server's descriptions.
struct Signallers {
    jobs: Option<Sender<Job>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Signallers {
    fn start(exchange: &Arc<dyn Exchange>, count: usize, mailbox: &Arc<Mailbox>) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for number in 0..count.max(1) {
            let (exchange, mailbox) = (Arc::clone(exchange), Arc::clone(mailbox));
            let (queue, over) = (Arc::clone(&queue), Arc::clone(&over));
            let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
            let work = move || {
                while let Some(job) = next() {
                    match job {
                        Job::Begin { .. } if over.load(Ordering::Acquire) => {}
                        Job::Begin { index, number, mut draft } => {
                            let result =
                                exchange.begin(number, draft.as_mut()).map(|session| (*draft, session));
                            mailbox.put(Letter { index, result });
                        }
                        // Whether a server that is going to be left anyway heard it is no matter.
                        Job::End(session) => drop(exchange.end(&session)),
                    }
                }
            };
            threads.push(thread::Builder::new().name(format!("signalling-{number}")).spawn(work)?);
        }
        Ok(Self { jobs: Some(jobs), over, threads })
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The queue's end lives as long as its threads.
            let _ = jobs.send(job);
        }
    }

    /// Begins nothing any more and waits for what has begun.
    fn finish(&mut self) {
        self.over.store(true, Ordering::Release);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panic there has cost sessions, and they are counted as failed.
            let _ = thread.join();
        }
    }
}

fn packets(peer: &LightPeer) -> u64 {
    peer.counts().packets + peer.peer_counts().retransmissions + peer.peer_counts().repeats
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Rounded up, so that a timer is due when the wait is over.
fn ceil_ms(duration: Duration) -> EpollTimeout {
    u16::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u16::MAX).into()
}

/// The mailbox's token; viewers have their index.
const MAILBOX: u64 = u64::MAX;

const EVENTS_A_TURN: usize = 1024;

const CLOCK_REFRESH: Duration = Duration::from_secs(1);

/// So that candidates which are all refused at once do not spin.
const REJECTED_PAUSE: Duration = Duration::from_millis(1);
