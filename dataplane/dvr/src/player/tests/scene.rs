//! A player, its files and a clock that only the test moves.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use lanecast_packet::Run;
use lanecast_protocol::codec::Codec;

use super::super::{Located, Player, PlayerConfig, PlayerOutput, Wanted};
use super::archive::Recorded;
use crate::segment::SegmentId;

/// A picture that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Milliseconds from the scene's start.
    pub(super) at_ms: u64,
    /// From its bytes.
    pub(super) unix_ms: i64,
    pub(super) rtp_timestamp: u32,
    pub(super) key: bool,
    pub(super) out_of_order: bool,
}

type Answer = Box<dyn FnOnce(&mut Player, Instant)>;

pub(super) struct Scene {
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) player: Player,
    pub(super) archive: Vec<Recorded>,
    /// What a question and a read take.
    pub(super) latency: Duration,
    pub(super) fail_locate: u32,
    pub(super) fail_reads: bool,
    /// Every question is answered with the first segment.
    pub(super) locate_first: bool,
    pub(super) locates: usize,
    pending: VecDeque<(Instant, Answer)>,
    pub(super) seen: Vec<Seen>,
    pub(super) runs: Vec<(Instant, Run)>,
    pub(super) events: Vec<PlayerOutput>,
    pub(super) read_bytes: usize,
    pub(super) reads: usize,
    pub(super) buffered_max: usize,
    rtp_of_key: Option<u32>,
    newest_rtp: Option<u32>,
}

impl Scene {
    /// Wants to begin at `unix_ms`.
    pub(super) fn new(start: Instant, archive: Vec<Recorded>, unix_ms: i64, speed: f64) -> Self {
        Self::with(start, archive, unix_ms, speed, None)
    }

    pub(super) fn with(
        start: Instant,
        archive: Vec<Recorded>,
        unix_ms: i64,
        speed: f64,
        codec: Option<Codec>,
    ) -> Self {
        let config = PlayerConfig { max_udp_payload: 1200, ssrc: 7, codec, history: true };
        Self {
            start,
            now: start,
            player: Player::new(start, config, unix_ms, speed),
            archive,
            latency: Duration::ZERO,
            fail_locate: 0,
            fail_reads: false,
            locate_first: false,
            locates: 0,
            pending: VecDeque::new(),
            seen: Vec::new(),
            runs: Vec::new(),
            events: Vec::new(),
            read_bytes: 0,
            reads: 0,
            buffered_max: 0,
            rtp_of_key: None,
            newest_rtp: None,
        }
    }

    /// Plays from `unix_ms` on, packets from 100 and timestamps from 1000.
    pub(super) fn playing(start: Instant, archive: Vec<Recorded>, unix_ms: i64, speed: f64) -> Self {
        let mut scene = Self::new(start, archive, unix_ms, speed);
        assert!(scene.settle().is_some(), "{:?}", scene.events);
        scene.player.play(start, 100, 1000);
        scene.run(0);
        scene
    }

    /// Goes on until it is ready: the time of its first picture.
    pub(super) fn settle(&mut self) -> Option<i64> {
        self.run(0);
        self.ready()
    }

    pub(super) fn ready(&self) -> Option<i64> {
        self.events.iter().find_map(|event| match event {
            PlayerOutput::Ready { unix_ms, .. } => Some(*unix_ms),
            _ => None,
        })
    }

    /// Lets so many milliseconds pass.
    pub(super) fn run(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        self.serve();
        loop {
            let answer = self.pending.front().map(|(at, _)| *at);
            let Some(next) = [answer, self.player.poll_timeout()].into_iter().flatten().min() else { break };
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            if answer == Some(next) {
                let (_, answer) = self.pending.pop_front().unwrap();
                answer(&mut self.player, self.now);
            } else {
                self.player.handle_timeout(self.now);
            }
            self.serve();
        }
        self.now = until;
    }

    pub(super) fn has(&self, wanted: impl Fn(&PlayerOutput) -> bool) -> bool {
        self.events.iter().any(wanted)
    }

    pub(super) fn is_over(&self) -> bool {
        self.has(|event| {
            matches!(event, PlayerOutput::Live | PlayerOutput::Nothing | PlayerOutput::Unreadable(_))
        })
    }

    /// A question or a read has no answer yet.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Times of the pictures that were sent, from the start of what is recorded.
    pub(super) fn times(&self) -> Vec<i64> {
        self.seen.iter().map(|seen| seen.unix_ms - super::archive::START).collect()
    }

    /// Nothing will ever happen, although something should.
    pub(super) fn is_stuck(&self) -> bool {
        let waits = self.is_waiting() || self.player.poll_timeout().is_some() || self.is_over();
        !waits && self.player.speed() > 0.0
    }

    /// Does what the player wants now.
    pub(super) fn serve(&mut self) {
        while let Some(output) = self.player.poll_output() {
            self.buffered_max = self.buffered_max.max(self.player.buffered_bytes());
            assert!(!self.is_over(), "{output:?} behind {:?}", self.events.last());
            match output {
                PlayerOutput::Locate(wanted) => self.on_locate(wanted),
                PlayerOutput::Read { segment, offset, bytes } => self.on_read(segment, offset, bytes),
                PlayerOutput::Run(run) => self.on_run(run),
                other => self.events.push(other),
            }
        }
    }

    fn on_locate(&mut self, wanted: Wanted) {
        self.locates += 1;
        let result = if self.fail_locate > 0 {
            self.fail_locate -= 1;
            Err("the catalogue is busy".to_owned())
        } else {
            Ok(self.find(if self.locate_first { Wanted::At(i64::MIN) } else { wanted }))
        };
        let answer: Answer = Box::new(move |player, now| player.handle_located(now, result));
        self.pending.push_back((self.now + self.latency, answer));
    }

    fn find(&self, wanted: Wanted) -> Option<Located> {
        let wanted = |recorded: &&Recorded| match wanted {
            Wanted::At(unix_ms) => recorded.open.is_some() || recorded.end_unix_ms > unix_ms,
            Wanted::After(unix_ms) => recorded.start_unix_ms > unix_ms,
        };
        self.archive.iter().find(wanted).map(Recorded::located)
    }

    fn on_read(&mut self, segment: SegmentId, offset: u64, bytes: usize) {
        assert!(bytes > 0 && bytes <= 256 << 10, "a read of {bytes} bytes");
        let file = self.archive.iter().find(|recorded| recorded.segment == segment).unwrap();
        let start = (offset as usize).min(file.bytes.len());
        let read = BytesMut::from(&file.bytes[start..file.bytes.len().min(start + bytes)]);
        self.read_bytes += read.len();
        self.reads += 1;
        let result = if self.fail_reads { Err("input/output error".to_owned()) } else { Ok(read) };
        let answer: Answer = Box::new(move |player, now| player.handle_read(now, segment, offset, result));
        self.pending.push_back((self.now + self.latency, answer));
    }

    fn on_run(&mut self, run: Run) {
        if let Some((_, last)) = self.runs.last() {
            assert_eq!(run.first_packet(), last.first_packet() + u64::from(last.packets()));
            assert!(run.first_in_order() >= last.first_in_order());
        }
        if !run.is_out_of_order() {
            let ahead = self.newest_rtp.map_or(0, |newest| run.rtp_timestamp().wrapping_sub(newest) as i32);
            assert!(ahead >= 0, "a timestamp goes back by {ahead}");
            self.newest_rtp = Some(run.rtp_timestamp());
        }
        if run.is_random_access() {
            self.rtp_of_key = Some(run.rtp_timestamp());
        }
        for packet in run.iter() {
            if let Some(unix_ms) = time_of(&packet.payload()) {
                self.seen.push(Seen {
                    at_ms: (self.now - self.start).as_millis() as u64,
                    unix_ms,
                    rtp_timestamp: run.rtp_timestamp(),
                    key: self.rtp_of_key == Some(run.rtp_timestamp()),
                    out_of_order: run.is_out_of_order(),
                });
            }
        }
        self.runs.push((self.now, run));
    }
}

/// The time of day in the first packet of a picture.
fn time_of(payload: &[u8]) -> Option<i64> {
    let body = match payload {
        [first, 0x88, body @ ..] if matches!(first & 0x1f, 1 | 5) => body,
        // FU-A with the start bit.
        [first, flags, 0x88, body @ ..] if first & 0x1f == 28 && flags & 0x80 != 0 => body,
        // H.265, and FU of it.
        [0x26 | 0x02, 0x01, 0x88, body @ ..] => body,
        [0x62, 0x01, flags, 0x88, body @ ..] if flags & 0x80 != 0 => body,
        _ => return None,
    };
    Some(i64::from_be_bytes(body.get(..8)?.try_into().ok()?))
}
