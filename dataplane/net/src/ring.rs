//! The ring: operations in, completions out.
//!
//! Segmented sends are the hot path: one entry per run and viewer, nothing allocated, no completion surfaced
//! when it went well. Everything else (TCP, signalling datagrams, timers, files) is an [`OperationId`]'s business.

mod files;
mod operations;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use slab::Slab;

use self::operations::Operation;
pub use self::operations::OperationId;

use crate::buffers::ProvidedBuffers;
use crate::completion::Completion;
use crate::destinations::{DestinationId, Destinations, sockaddr};
use crate::error_queue;
use crate::file::Closing;
use crate::offload::{self, CONTROL_LEN, ControlMessages, Segmentation, is_refusal, is_refusal_of_all};
use crate::socket::Socket;
use crate::wake::Waker;

/// Entries of the submission queue: a full one is submitted on the way. Small enough for the first-level cache's
/// neighbour, large enough that a system call is shared by hundreds of sends.
const SUBMISSIONS: u32 = 512;
/// Entries of the completion queue: every entry of a submission completing at once, twice over, and the sockets.
const COMPLETIONS: u32 = 4096;
/// Packets of one run, and of one send: what the tag of a completion can name, and the kernel's `UDP_MAX_SEGMENTS`.
const MAX_PACKETS_PER_RUN: usize = 64;
/// How long the end of a ring waits for the kernel to let go of its memory.
const LET_GO: Duration = Duration::from_secs(1);
/// Arena that received datagrams are copied into; a datagram's `Bytes` is a slice of it.
const DATAGRAM_ARENA_BYTES: usize = 256 << 10;
/// The fixed file of the shard's UDP socket.
const UDP: Fixed = Fixed(0);
/// The socket name that a multishot receive asks for.
const NAME_LEN: usize = size_of::<libc::sockaddr_in6>();

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingStatistics {
    /// System calls that submitted or collected.
    pub submissions: u64,
    /// Send entries.
    pub sends: u64,
    /// Send entries that failed.
    pub send_errors: u64,
    /// Datagrams longer than a buffer.
    pub oversize_datagrams: u64,
}

/// One shard's ring with its UDP socket. Lives and dies on the shard's thread.
pub struct Ring {
    ring: IoUring,
    waker: Waker,
    udp: Socket,
    segmentation: Segmentation,
    slots: Box<[SendSlot]>,
    /// Sends pushed so far. An entry uses slot `pushed % SUBMISSIONS`: as many slots as the queue has entries, so a slot
    /// comes round only after the entry that used it was taken, even where a submission stops half-way.
    pushed: usize,
    controls: ControlMessages,
    destinations: Destinations,
    flights: Slab<Flight>,
    operations: Slab<Operation>,
    retries: VecDeque<Retry>,
    /// File operations whose next entry is to be queued.
    unfinished: VecDeque<usize>,
    /// Files that nothing uses any more.
    closing_files: Rc<Closing>,
    /// Reads of files since the last submission that are done on this thread.
    inline_reads: u32,
    /// Why nothing more can be submitted; told by [`Ring::submit`].
    broken: Option<io::Error>,
    /// No receive is started again.
    closing: bool,
    done: VecDeque<Completion>,
    buffers: ProvidedBuffers,
    arena: BytesMut,
    multishot_header: Box<libc::msghdr>,
    statistics: RingStatistics,
}

/// Memory that the kernel copies at submission: one per entry of the submission queue.
struct SendSlot {
    header: libc::msghdr,
    iovec: libc::iovec,
    address: libc::sockaddr_in6,
}

/// A run on its way to many viewers: keeps the bytes until the last send is back.
struct Flight {
    bytes: Bytes,
    segment_bytes: u16,
    under_way: u32,
}

/// A send that is repeated: all of a run packet by packet, or the one packet or whole run that an error of somebody else
/// hit.
#[derive(Clone, Copy, Debug)]
struct Retry {
    flight: usize,
    destination: DestinationId,
    part: Part,
}

/// What one send carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The run in one segmented send (or a run of one packet).
    Whole,
    /// Every packet in a send of its own.
    EachPacket,
    /// This packet.
    Packet(usize),
}

const TAG_SEND: u64 = 1 << 60;
const TAG_RETRIED: u64 = 1 << 61;
const TAG_OPERATION: u64 = 1 << 62;
const TAG_IGNORED: u64 = 1 << 63;
/// The packet that a send carries, or [`WHOLE`].
const PART_SHIFT: u32 = 53;
const PART_MASK: u64 = (1 << 7) - 1;
const WHOLE: u64 = PART_MASK;
const FLIGHT_SHIFT: u32 = 32;
const FLIGHT_MASK: u64 = (1 << 21) - 1;
const GENERATION_SHIFT: u32 = 24;
const DESTINATION_MASK: u64 = (1 << 24) - 1;
/// Not a viewer: a signalling datagram.
const NO_DESTINATION: DestinationId = DestinationId(DESTINATION_MASK as u32);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("segmentation", &self.segmentation).finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes the ring on the thread that will use it, with `udp` as the shard's socket; its datagrams come with
    /// `udp_token`.
    ///
    /// # Errors
    /// When io_uring is not to be had or locked memory does not suffice.
    pub fn new(waker: Waker, udp: OwnedFd, udp_token: u64) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(SUBMISSIONS)?;
        ring.submitter().register_eventfd(waker.fd())?;
        ring.submitter().register_files(&[udp.as_raw_fd()])?;
        let buffers = ProvidedBuffers::register(&ring.submitter())?;
        let segmentation = offload::probe(&udp);
        // SAFETY: all-zero is a valid msghdr.
        let mut multishot_header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        multishot_header.msg_namelen = NAME_LEN as libc::socklen_t;
        let slots = (0..SUBMISSIONS).map(|_| SendSlot::empty()).collect();
        let mut ring = Self {
            ring,
            waker,
            udp: udp.into(),
            segmentation,
            slots,
            pushed: 0,
            controls: ControlMessages::new(),
            destinations: Destinations::default(),
            flights: Slab::new(),
            operations: Slab::new(),
            retries: VecDeque::new(),
            unfinished: VecDeque::new(),
            closing_files: Rc::default(),
            inline_reads: 0,
            broken: None,
            closing: false,
            done: VecDeque::new(),
            buffers,
            arena: BytesMut::with_capacity(DATAGRAM_ARENA_BYTES),
            multishot_header,
            statistics: RingStatistics::default(),
        };
        ring.limit_workers()?;
        ring.start_datagrams(udp_token, None);
        ring.start_errors();
        Ok(ring)
    }

    /// Whether runs leave in one send.
    pub fn segmentation(&self) -> Segmentation {
        self.segmentation
    }

    /// Sends packets one by one from now on.
    pub fn turn_segmentation_off(&mut self) {
        self.segmentation = Segmentation::Off;
    }

    /// The waker that ends this ring's shard's sleep.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Counters.
    pub fn statistics(&self) -> RingStatistics {
        self.statistics
    }

    /// Operations that were started and have not given their last completion: connects, receives, writes, timers, files.
    /// Sends of datagrams are not among them.
    pub fn operations_under_way(&self) -> usize {
        self.operations.len()
    }

    /// Sets (or changes) where a viewer's packets go. Ids are small and dense: they index a table.
    pub fn set_destination(&mut self, id: DestinationId, address: SocketAddr) {
        self.destinations.set(id, address);
    }

    /// Frees a viewer's slot; sends under way finish on their own.
    pub fn clear_destination(&mut self, id: DestinationId) {
        self.destinations.clear(id);
    }

    /// True if [`Ring::send_run`] would take a run for this viewer.
    pub fn can_send(&self, id: DestinationId) -> bool {
        self.destinations.has_room(id) && self.flights.vacant_key() as u64 <= FLIGHT_MASK
    }

    /// Hands to the kernel what is queued so far, within a turn: what was written a moment ago is still in the cache.
    pub fn flush(&mut self) {
        if let Err(error) = self.submit() {
            self.broken = Some(error);
        }
    }

    /// Queues one run to many viewers: `bytes` are packets of `segment_bytes` each, the last may be shorter.
    /// Viewers that have too much in flight get nothing and are added to `blocked`; so are all of them when the run has
    /// more than 64 packets or two million runs are under way.
    pub fn send_run(
        &mut self,
        bytes: &Bytes,
        segment_bytes: u16,
        to: impl IntoIterator<Item = DestinationId>,
        blocked: &mut Vec<DestinationId>,
    ) {
        let key = self.flights.vacant_key();
        let packets = bytes.len().div_ceil(usize::from(segment_bytes.max(1)));
        if key as u64 > FLIGHT_MASK || packets > MAX_PACKETS_PER_RUN {
            return blocked.extend(to);
        }
        self.flights.insert(Flight { bytes: bytes.clone(), segment_bytes, under_way: 1 });
        for destination in to {
            if !self.send_flight(key, destination, Part::Whole, 0) {
                blocked.push(destination);
            }
        }
        self.end_of_one(key);
    }

    /// Queues one datagram of the shard's socket to any address.
    /// It is lost like any datagram when the socket or the ring is full.
    pub fn send_datagram(&mut self, bytes: Bytes, to: SocketAddr) {
        let length = bytes.len();
        if self.flights.vacant_key() as u64 > FLIGHT_MASK {
            return;
        }
        let key = self.flights.insert(Flight { bytes, segment_bytes: 0, under_way: 1 });
        let address = sockaddr(to);
        self.push_send(key, 0..length, None, &address, TAG_SEND | pack(key, NO_DESTINATION, 0, WHOLE));
    }

    /// Hands what was queued to the kernel and collects what is done.
    ///
    /// # Errors
    /// When the ring is broken: the shard cannot go on.
    pub fn submit(&mut self) -> io::Result<()> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        self.close_files();
        self.enter()?;
        self.collect();
        Ok(())
    }

    fn enter(&mut self) -> io::Result<()> {
        let queued = self.ring.submission().len() as u32;
        self.statistics.submissions += 1;
        self.inline_reads = 0;
        loop {
            // SAFETY: no argument memory is passed; the entries were checked when they were pushed.
            let result = unsafe {
                self.ring.submitter().enter::<libc::sigset_t>(queued, 0, sys::IORING_ENTER_GETEVENTS, None)
            };
            match result {
                // What a submission that stopped half-way left is submitted by the next.
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The completion queue is full or memory is short for a moment: collect, then go on.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN)) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for a completion, at most so long.
    fn wait(&self, at_most: Duration) -> io::Result<()> {
        let at_most = Timespec::from(at_most);
        let arguments = SubmitArgs::new().timespec(&at_most);
        match self.ring.submitter().submit_with_args(1, &arguments) {
            Err(error) if error.raw_os_error() != Some(libc::EINTR) => Err(error),
            _ => Ok(()),
        }
    }

    /// Collects at the end of the ring: what would be gone on with ends.
    fn let_go(&mut self) {
        self.collect_completions();
        while let Some(retry) = self.retries.pop_front() {
            self.end_of_one(retry.flight);
        }
        while let Some(key) = self.unfinished.pop_front() {
            self.operations.try_remove(key);
        }
    }

    /// True while the kernel may touch memory of operations under way.
    fn holds_memory(&self) -> bool {
        !self.operations.is_empty() || !self.flights.is_empty()
    }

    /// The next completion, until `None`.
    pub fn reap(&mut self) -> Option<Completion> {
        if self.done.is_empty() {
            self.collect();
        }
        self.done.pop_front()
    }

    /// True when the shard may sleep: nothing queued, nothing to reap. From then on completions wake it, until
    /// [`Ring::awake`].
    pub fn prepare_sleep(&mut self) -> bool {
        self.ring.completion().enable_eventfd();
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        let nothing_left =
            self.retries.is_empty() && self.unfinished.is_empty() && self.closing_files.borrow().is_empty();
        let idle = self.done.is_empty() && nothing_left && self.ring.completion().is_empty() && {
            let queue = self.ring.submission();
            // Completions that did not fit wait in the kernel for the next enter, which nothing else would call for.
            queue.is_empty() && !queue.taskrun() && !queue.cq_overflow()
        };
        if !idle {
            self.awake();
        }
        idle
    }

    /// The shard is awake: completions need not wake it.
    pub fn awake(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    /// Queues a run, or a part of it, to one destination; false if that cannot take it.
    fn send_flight(&mut self, key: usize, destination: DestinationId, part: Part, tags: u64) -> bool {
        let flight = &self.flights[key];
        let (length, segment_bytes) = (flight.bytes.len(), flight.segment_bytes);
        let segment = usize::from(segment_bytes).max(1);
        let kernel = self.segmentation == Segmentation::Kernel && self.destinations.is_segmented(destination);
        let part = if part == Part::Whole && !kernel && length > segment { Part::EachPacket } else { part };
        let packets = match part {
            Part::Whole => 0..1,
            Part::EachPacket => 0..length.div_ceil(segment),
            Part::Packet(packet) => packet..packet + 1,
        };
        let Some((&address, generation)) = self.destinations.take(destination, packets.len() as u16) else {
            return false;
        };
        self.flights[key].under_way += packets.len() as u32;
        let tags = TAG_SEND | tags;
        if part == Part::Whole {
            let user_data = tags | pack(key, destination, generation, WHOLE);
            self.push_send(key, 0..length, (length > segment).then_some(segment_bytes), &address, user_data);
            return true;
        }
        for packet in packets {
            let start = packet * segment;
            let user_data = tags | pack(key, destination, generation, packet as u64);
            self.push_send(key, start..length.min(start + segment), None, &address, user_data);
        }
        true
    }

    fn push_send(
        &mut self,
        key: usize,
        range: std::ops::Range<usize>,
        segment_bytes: Option<u16>,
        address: &libc::sockaddr_in6,
        user_data: u64,
    ) {
        // Before the slot is written: a full queue still refers to all of them.
        if !self.make_room() {
            return self.end_of_one(key);
        }
        let (control, control_len) = match segment_bytes {
            Some(size) => (self.controls.segment(size), CONTROL_LEN),
            None => (std::ptr::null_mut(), 0),
        };
        let bytes = &self.flights[key].bytes[range];
        let slot = &mut self.slots[self.pushed % SUBMISSIONS as usize];
        self.pushed = self.pushed.wrapping_add(1);
        slot.address = *address;
        slot.iovec = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        slot.header.msg_name = (&raw mut slot.address).cast();
        slot.header.msg_namelen = NAME_LEN as libc::socklen_t;
        slot.header.msg_iov = &raw mut slot.iovec;
        slot.header.msg_iovlen = 1;
        slot.header.msg_control = control;
        slot.header.msg_controllen = control_len as _;
        let entry = opcode::SendMsg::new(UDP, &raw const slot.header)
            .flags(libc::MSG_NOSIGNAL as u32)
            .build()
            .user_data(user_data);
        self.statistics.sends += 1;
        self.push(&entry);
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) {
        if self.make_room() {
            // SAFETY: what the entry points to lives in `slots` until the submission, which is when the kernel copies
            // it (IORING_FEAT_SUBMIT_STABLE), or in `operations`, `flights` and `controls` until the completion.
            // There is room, so the push cannot fail.
            let _ = unsafe { self.ring.submission().push(entry) };
        }
    }

    /// Submits in the middle of a turn if the queue is full; false when that cannot be done any more.
    ///
    /// It only takes completions off the queue: what they lead to is queued by [`Ring::collect`], in its turn.
    fn make_room(&mut self) -> bool {
        while self.ring.submission().is_full() {
            if self.broken.is_some() {
                return false;
            }
            // A broken ring shows at the turn's own submit, which ends the shard.
            if let Err(error) = self.enter() {
                self.broken = Some(error);
            }
            self.collect_completions();
        }
        true
    }

    fn collect(&mut self) {
        self.collect_completions();
        self.continue_files();
        // Empty but after an ICMP error hit an innocent viewer's send, or a segmented send was refused. What was
        // found out meanwhile is told first, so that nothing is sent again to who is known to be gone.
        if self.done.is_empty() && !self.retries.is_empty() {
            self.drain_errors();
            if self.done.is_empty() {
                self.retry();
            }
        }
    }

    fn retry(&mut self) {
        for _ in 0..self.retries.len() {
            let Some(Retry { flight, destination, part }) = self.retries.pop_front() else { return };
            if !self.send_flight(flight, destination, part, TAG_RETRIED) {
                let error = io::ErrorKind::WouldBlock.into();
                self.done.push_back(Completion::SendFailed { destination, error });
            }
            self.end_of_one(flight);
        }
    }

    fn drain_errors(&mut self) {
        let done = &mut self.done;
        error_queue::drain(self.udp.raw(), |address| done.push_back(Completion::Unreachable { address }));
    }

    fn collect_completions(&mut self) {
        loop {
            let Some(entry) = self.ring.completion().next() else { return };
            let (user_data, result, flags) = (entry.user_data(), entry.result(), entry.flags());
            if user_data & TAG_SEND != 0 {
                self.on_send(user_data, result);
            } else if user_data & TAG_OPERATION != 0 {
                self.on_operation((user_data & 0xffff_ffff) as usize, result, flags);
            }
        }
    }

    fn on_send(&mut self, user_data: u64, result: i32) {
        let key = (user_data >> FLIGHT_SHIFT & FLIGHT_MASK) as usize;
        let destination = DestinationId((user_data & DESTINATION_MASK) as u32);
        let generation = (user_data >> GENERATION_SHIFT & 0xff) as u8;
        let mine = self.destinations.give_back(destination, generation);
        if result < 0 && mine {
            self.on_send_error(key, destination, user_data, io::Error::from_raw_os_error(-result));
        }
        self.end_of_one(key);
    }

    fn on_send_error(&mut self, key: usize, destination: DestinationId, user_data: u64, error: io::Error) {
        self.statistics.send_errors += 1;
        let flight = &mut self.flights[key];
        let part = match user_data >> PART_SHIFT & PART_MASK {
            WHOLE => Part::Whole,
            packet => Part::Packet(packet as usize),
        };
        let segmented = part == Part::Whole && flight.bytes.len() > usize::from(flight.segment_bytes);
        if segmented && is_refusal(&error) {
            flight.under_way += 1;
            self.retries.push_back(Retry { flight: key, destination, part: Part::EachPacket });
            // A path with a small MTU is one viewer's; a device that cannot is everybody's.
            self.destinations.turn_segmentation_off(destination);
            if is_refusal_of_all(&error) && self.segmentation == Segmentation::Kernel {
                self.segmentation = Segmentation::Off;
                self.done.push_back(Completion::SegmentationOff { error });
            }
            return;
        }
        // A pending ICMP error of somebody else's destination is reported to whoever sends next.
        let foreign = matches!(
            error.raw_os_error(),
            Some(
                libc::ECONNREFUSED
                    | libc::EHOSTUNREACH
                    | libc::ENETUNREACH
                    | libc::EPROTO
                    | libc::ENOPROTOOPT
            )
        );
        if foreign && user_data & TAG_RETRIED == 0 {
            flight.under_way += 1;
            self.retries.push_back(Retry { flight: key, destination, part });
            return;
        }
        self.done.push_back(Completion::SendFailed { destination, error });
    }

    fn end_of_one(&mut self, key: usize) {
        let flight = &mut self.flights[key];
        flight.under_way -= 1;
        if flight.under_way == 0 {
            self.flights.remove(key);
        }
    }
}

impl SendSlot {
    fn empty() -> Self {
        // SAFETY: all-zero is valid for these three C structures.
        unsafe { std::mem::zeroed() }
    }
}

impl Drop for Ring {
    /// The kernel may write into receive buffers until their operations have ended: end them, and leave to it for
    /// good what it does not let go of.
    fn drop(&mut self) {
        self.closing = true;
        self.broken = None;
        let ends = Instant::now() + LET_GO;
        // What fails here shows in what is still under way.
        let _ = self.enter();
        let _ =
            self.ring.submitter().register_sync_cancel(Some(Timespec::from(LET_GO)), CancelBuilder::any());
        let _ = self.enter();
        self.let_go();
        // A write that a worker of the kernel is at cannot be cancelled; the cancel does not wait for it.
        while self.holds_memory() {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() || self.wait(left).is_err() {
                break;
            }
            self.let_go();
        }
        if self.holds_memory() {
            std::mem::forget(std::mem::take(&mut self.operations));
            std::mem::forget(std::mem::take(&mut self.flights));
            self.buffers.leak();
        }
    }
}

fn pack(flight: usize, destination: DestinationId, generation: u8, part: u64) -> u64 {
    part << PART_SHIFT
        | (flight as u64 & FLIGHT_MASK) << FLIGHT_SHIFT
        | u64::from(generation) << GENERATION_SHIFT
        | u64::from(destination.0) & DESTINATION_MASK
}

mod sys {
    /// `linux/io_uring.h`; the crate keeps it private.
    pub(super) const IORING_ENTER_GETEVENTS: u32 = 1;
}
