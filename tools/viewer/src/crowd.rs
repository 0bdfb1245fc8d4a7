//! The viewers of one thread around one epoll: readiness, timers and paced joins.
//!
//! Call [`Crowd::turn`] again and again. What a viewer does with what it gets is `viewer.rs`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::clock::Moment;
use crate::receive::{BATCH, Receiver};
use crate::rewind::Seekers;
use crate::viewer::{Fate, Media, Meters, Observer, Outcome, Plan, Viewer};

/// Which viewers a thread has, and when they join.
#[derive(Clone, Copy, Debug)]
pub struct Roster {
    /// The number of its first viewer.
    pub first: u32,
    /// Every so many, one is its own.
    pub stride: u32,
    /// How many are its own.
    pub count: u32,
    /// When its first viewer joins.
    pub begin: Moment,
    /// Time from one join to the next.
    pub join_interval: Duration,
    /// Sockets that its viewers share; none for one socket each.
    pub shared_sockets: Option<usize>,
}

/// How far a thread's viewers are, for others to look at.
#[derive(Debug, Default)]
pub struct Progress {
    /// Began to connect.
    pub started: AtomicU64,
    /// Got a first packet.
    pub joined: AtomicU64,
    /// Ended before they were told to.
    pub failed: AtomicU64,
    /// Those of them that had got a packet before.
    pub ended: AtomicU64,
    /// Media packets received.
    pub packets: AtomicU64,
    /// Made all their seeks.
    pub rewound: AtomicU64,
}

/// One thread's viewers.
pub struct Crowd<O> {
    plan: Arc<Plan>,
    roster: Roster,
    epoll: Epoll,
    events: Vec<EpollEvent>,
    viewers: Vec<Viewer>,
    /// Viewers that could not even begin.
    stillborn: Vec<String>,
    shared: Vec<UdpSocket>,
    shared_ports: Vec<u16>,
    timers: BinaryHeap<Reverse<(Moment, usize)>>,
    receiver: Receiver,
    seekers: Option<Seekers>,
    clock_refresh: Moment,
    meters: Meters,
    progress: Arc<Progress>,
    failed: u64,
    ended: u64,
    observer: O,
}

impl<O: Observer> Crowd<O> {
    /// A crowd of which nobody has joined yet.
    ///
    /// # Errors
    /// When the kernel refuses an epoll or a shared socket.
    pub fn new(plan: Arc<Plan>, roster: Roster, progress: Arc<Progress>, observer: O) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let shared: Vec<_> = (0..roster.shared_sockets.unwrap_or(0))
            .map(|_| plan.socket_options.open_shared())
            .collect::<io::Result<_>>()?;
        for (index, socket) in shared.iter().enumerate() {
            epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, token(index, Kind::Shared)))?;
        }
        let seekers = plan.rewind.as_ref().map(Seekers::start).transpose()?;
        if let Some(seekers) = &seekers {
            epoll.add(&*seekers.wake, EpollEvent::new(EpollFlags::EPOLLIN, token(0, Kind::Answers)))?;
        }
        let shared_ports =
            shared.iter().map(|socket| Ok(socket.local_addr()?.port())).collect::<io::Result<_>>()?;
        Ok(Self {
            plan,
            roster,
            epoll,
            events: vec![EpollEvent::empty(); EVENTS_A_TURN],
            viewers: Vec::with_capacity(roster.count as usize),
            stillborn: Vec::new(),
            shared,
            shared_ports,
            timers: BinaryHeap::new(),
            receiver: Receiver::default(),
            seekers,
            clock_refresh: Moment::now() + CLOCK_REFRESH,
            meters: Meters::default(),
            progress,
            failed: 0,
            ended: 0,
            observer,
        })
    }

    /// Waits for something to do, at most `wait`, and does it.
    ///
    /// # Errors
    /// When the epoll itself fails.
    pub fn turn(&mut self, wait: Duration) -> io::Result<()> {
        let now = Moment::now();
        let timeout = self.next_wait(now).min(wait);
        let ready = match self.epoll.wait(&mut self.events, ceil_ms(timeout)) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for index in 0..ready {
            let event = self.events[index];
            self.handle_event(event.data(), event.events());
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

    /// The observer.
    pub fn observer(&mut self) -> &mut O {
        &mut self.observer
    }

    /// What the viewers add up to.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// From here on counts and latencies are the window's.
    pub fn open_window(&mut self) {
        self.meters.recording = true;
        self.viewers.iter_mut().for_each(Viewer::open_window);
    }

    /// To here counts and latencies were the window's.
    pub fn close_window(&mut self) {
        self.meters.recording = false;
        self.viewers.iter_mut().for_each(Viewer::close_window);
    }

    /// Closes all WebSockets and gives what is left: the viewers' outcomes, why others could not begin, the meters.
    pub fn finish(mut self) -> (Vec<Outcome>, Vec<String>, Meters) {
        let outcomes = self.viewers.iter().map(Viewer::outcome).collect();
        for viewer in &mut self.viewers {
            viewer.signalling.close();
        }
        (outcomes, self.stillborn, self.meters)
    }

    fn next_wait(&self, now: Moment) -> Duration {
        let timer = self.timers.peek().map(|Reverse((moment, _))| moment.since(now));
        let join = self.next_join().map(|moment| moment.since(now));
        timer.into_iter().chain(join).min().unwrap_or(Duration::MAX)
    }

    fn next_join(&self) -> Option<Moment> {
        let begun = self.begun();
        (begun < self.roster.count).then(|| self.roster.begin + self.roster.join_interval * begun)
    }

    fn begun(&self) -> u32 {
        u32::try_from(self.viewers.len() + self.stillborn.len()).unwrap_or(u32::MAX)
    }

    fn start_due_viewers(&mut self, now: Moment) {
        while self.next_join().is_some_and(|moment| moment <= now) {
            let number = self.roster.first + self.begun() * self.roster.stride;
            if let Err(error) = self.start_viewer(number) {
                self.stillborn.push(format!("start: {}", error.kind()));
                self.failed += 1;
            }
        }
    }

    fn start_viewer(&mut self, number: u32) -> io::Result<()> {
        let index = self.viewers.len();
        let shared = (!self.shared.is_empty()).then(|| {
            let socket = index % self.shared.len();
            (socket, shared_address(number), self.shared_ports[socket])
        });
        let mut viewer = Viewer::start(&self.plan, number, shared)?;
        viewer.registered = viewer.signalling.interest();
        let event = EpollEvent::new(viewer.registered, token(index, Kind::Signalling));
        if let Some(fd) = viewer.signalling.fd() {
            self.epoll.add(fd, event)?;
        }
        if let Media::Own(socket) = &viewer.media {
            self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, token(index, Kind::Media)))?;
        }
        self.viewers.push(viewer);
        self.settle(index, Moment::now());
        Ok(())
    }

    fn handle_event(&mut self, token: u64, events: EpollFlags) {
        let (index, kind) = untoken(token);
        match kind {
            Kind::Media => self.handle_media(index),
            Kind::Shared => self.handle_shared(index),
            Kind::Signalling => self.handle_signalling(index, events),
            Kind::Answers => self.handle_answers(),
        }
    }

    fn handle_media(&mut self, index: usize) {
        let Self { viewers, receiver, meters, observer, .. } = self;
        let Viewer { media: Media::Own(socket), intake, .. } = &mut viewers[index] else { return };
        // An error here is a closed port of the server's: the WebSocket tells how that ends.
        // What a full batch left behind, the epoll reports again.
        let _ = receiver.receive(socket, |datagram| intake.handle_datagram(datagram, meters, observer));
        self.settle_cheaply(index);
    }

    fn handle_shared(&mut self, index: usize) {
        let mut touched = Vec::new();
        let Self { viewers, receiver, meters, observer, roster, shared, .. } = self;
        for _ in 0..SHARED_BATCHES_A_TURN {
            let result = receiver.receive(&shared[index], |datagram| {
                let Some(number) = datagram.destination.and_then(shared_number) else { return };
                let place = (number.wrapping_sub(roster.first) / roster.stride) as usize;
                let Some(viewer) = viewers.get_mut(place).filter(|viewer| viewer.number == number) else {
                    return;
                };
                if viewer.fate != Fate::Running {
                    return;
                }
                viewer.intake.handle_datagram(datagram, meters, observer);
                if touched.last() != Some(&place) {
                    touched.push(place);
                }
            });
            if result != Ok(BATCH) {
                break;
            }
        }
        for index in touched {
            self.settle_cheaply(index);
        }
    }

    fn handle_signalling(&mut self, index: usize, events: EpollFlags) {
        let now = Moment::now();
        let viewer = &mut self.viewers[index];
        if viewer.fate != Fate::Running {
            return;
        }
        if !viewer.reading && events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
            return self.fail(index, now, "websocket: closed by the server while not read".to_owned());
        }
        match viewer.handle_signalling(now, &mut self.meters, &mut self.observer) {
            Ok(()) => self.settle(index, now),
            Err(cause) => self.fail(index, now, cause),
        }
    }

    fn handle_answers(&mut self) {
        let Self { seekers: Some(seekers), plan, viewers, meters, .. } = self else { return };
        let Some(rewind) = &plan.rewind else { return };
        let now = Moment::now();
        let mut touched = Vec::new();
        for answer in seekers.take() {
            let index = answer.viewer;
            viewers[index].handle_seek_answer(now, answer, rewind, meters);
            touched.push(index);
        }
        for index in touched {
            self.settle(index, now);
        }
    }

    /// Goes on with a viewer's seeks, where seeks are wanted.
    fn seek(&mut self, index: usize, now: Moment) {
        let Self { seekers: Some(seekers), plan, viewers, meters, .. } = self else { return };
        let Some(rewind) = &plan.rewind else { return };
        if viewers[index].fate == Fate::Running
            && let Some(ask) = viewers[index].seek(now, index, rewind, meters)
        {
            seekers.ask(ask);
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
        let joining = viewer.intake.reception.first_packet().is_none();
        if joining && self.plan.join_timeout.is_some_and(|timeout| viewer.started + timeout <= now) {
            let cause = viewer.stage().to_owned();
            return self.fail(index, now, cause);
        }
        if viewer.reading && self.plan.stop_reading_after.is_some_and(|after| viewer.started + after <= now) {
            viewer.reading = false;
            if let Media::Own(socket) = &viewer.media {
                // Its removal can only fail for a socket that is not there.
                let _ = self.epoll.delete(socket);
            }
        }
        viewer.handle_timeout(now);
        self.settle(index, now);
    }

    /// After media: mostly there is nothing to send and no earlier timer.
    fn settle_cheaply(&mut self, index: usize) {
        let viewer = &self.viewers[index];
        if viewer.intake.session.has_transmit() || viewer.scheduled.is_none() || viewer.waits_for_past() {
            self.settle(index, Moment::now());
        }
    }

    /// Sends what a viewer wants sent, and sees to its next timer and readiness.
    fn settle(&mut self, index: usize, now: Moment) {
        self.seek(index, now);
        let viewer = &mut self.viewers[index];
        viewer.flush(now, &self.shared, &mut self.observer);
        if let Some(next) = viewer.poll_timeout(&self.plan)
            && viewer.scheduled.is_none_or(|scheduled| next < scheduled)
        {
            viewer.scheduled = Some(next);
            self.timers.push(Reverse((next, index)));
        }
        let mut interest = viewer.signalling.interest();
        interest.set(EpollFlags::EPOLLIN, interest.contains(EpollFlags::EPOLLIN) && viewer.reading);
        if interest != viewer.registered
            && let Some(fd) = viewer.signalling.fd()
        {
            let mut event = EpollEvent::new(interest, token(index, Kind::Signalling));
            if let Err(error) = self.epoll.modify(fd, &mut event) {
                return self.fail(index, now, format!("epoll: {error}"));
            }
            viewer.registered = interest;
        }
    }

    fn fail(&mut self, index: usize, now: Moment, cause: String) {
        self.observer.on_end(now, &cause);
        let viewer = &mut self.viewers[index];
        self.failed += 1;
        self.ended += u64::from(viewer.intake.reception.first_packet().is_some());
        viewer.fail(cause);
    }

    fn publish(&self) {
        self.progress.started.store(self.begun().into(), Relaxed);
        self.progress.joined.store(self.meters.joined, Relaxed);
        self.progress.failed.store(self.failed, Relaxed);
        self.progress.ended.store(self.ended, Relaxed);
        self.progress.packets.store(self.meters.packets, Relaxed);
        self.progress.rewound.store(self.meters.seeks.viewers, Relaxed);
    }
}

/// What a readiness is of.
#[derive(Clone, Copy)]
enum Kind {
    Signalling,
    Media,
    Shared,
    Answers,
}

fn token(index: usize, kind: Kind) -> u64 {
    (index as u64) << 2 | kind as u64
}

fn untoken(token: u64) -> (usize, Kind) {
    let kind = match token & 3 {
        0 => Kind::Signalling,
        1 => Kind::Media,
        2 => Kind::Shared,
        _ => Kind::Answers,
    };
    ((token >> 2) as usize, kind)
}

/// The address on loopback that viewer `number` of a shared socket has for itself: 127.1.0.0 and up.
pub fn shared_address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(SHARED_BASE + number)
}

fn shared_number(address: Ipv4Addr) -> Option<u32> {
    address.to_bits().checked_sub(SHARED_BASE)
}

/// Rounded up, so that a timer is due when the wait is over.
fn ceil_ms(duration: Duration) -> EpollTimeout {
    u16::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u16::MAX).into()
}

/// 127.1.0.0, clear of the loopback addresses that programs use.
const SHARED_BASE: u32 = 0x7f01_0000;

/// The most viewers that fit behind one another into 127.1.0.0 to 127.254.255.255.
pub const SHARED_VIEWERS_MAX: u32 = 254 << 16;

const EVENTS_A_TURN: usize = 1024;

/// A shared socket is full of many viewers' packets; others wait for no more than this.
const SHARED_BATCHES_A_TURN: usize = 64;

const CLOCK_REFRESH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_viewers_address_leads_back_to_it() {
        for number in [0, 1, 255, 256, 70_000, SHARED_VIEWERS_MAX - 1] {
            assert_eq!(shared_number(shared_address(number)), Some(number));
            assert!(shared_address(number).is_loopback());
        }
        assert_eq!(shared_number(Ipv4Addr::LOCALHOST), None);
    }

    #[test]
    fn tokens_lead_back_to_what_they_were_made_of() {
        assert!(matches!(untoken(token(70_000, Kind::Media)), (70_000, Kind::Media)));
        assert!(matches!(untoken(token(0, Kind::Signalling)), (0, Kind::Signalling)));
        assert!(matches!(untoken(token(3, Kind::Shared)), (3, Kind::Shared)));
    }

    #[test]
    fn waits_are_rounded_up() {
        assert_eq!(ceil_ms(Duration::from_micros(1)), EpollTimeout::from(1_u16));
        assert_eq!(ceil_ms(Duration::ZERO), EpollTimeout::from(0_u16));
    }
}
