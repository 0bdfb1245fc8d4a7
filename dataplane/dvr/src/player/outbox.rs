//! What a player sends: pictures as runs of packets, let out at a pace, and kept for a while in case that they get lost.
//!
//! Not here: when a picture is due, which timestamp it has.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use lanecast_packet::{Run, WriterConfig};
use lanecast_protocol::codec::{Codec, Nal, ParameterSets};
use lanecast_relay::packetizer::Packetizer;

use super::PlayerConfig;

/// RTP payload type of all that we send (wire contract section 5).
const PAYLOAD_TYPE: u8 = 96;
/// What a millisecond lets out where nothing else is said: a full run, as live (a receiver with the kernel's default socket
/// buffer holds about 90 packets).
const PACE_BYTES: u64 = 60 << 10;
/// The least that a pace lets out a millisecond, as live: 8 Mb/s.
const PACE_BYTES_MIN: u64 = 1000;
/// How long a turn of pacing lasts.
const PACE_INTERVAL: Duration = Duration::from_millis(1);
/// Bytes of runs that can be sent again: two seconds of a 4 Mb/s camera.
pub(super) const HISTORY_BYTES: usize = 1 << 20;
/// What was sent before this is not asked for any more.
const HISTORY_TIME: Duration = Duration::from_secs(2);

/// What goes out.
#[derive(Debug)]
pub(super) struct Outbox {
    config: WriterConfig,
    max_udp_payload: u16,
    codec: Codec,
    packetizer: Packetizer,
    /// Of the picture that is on its way.
    waiting: VecDeque<Run>,
    waiting_bytes: usize,
    pace_bytes: i64,
    credit_bytes: i64,
    /// When the credit was counted last.
    counted: Instant,
    next_packet: u64,
    /// Newest timestamp given out, and when.
    newest: (u32, Instant),
    sent: VecDeque<(Instant, Run)>,
    sent_bytes: usize,
    history: bool,
}

/// A picture to send.
pub(super) struct Picture<'a> {
    pub(super) nals: &'a [Nal],
    pub(super) rtp_timestamp: u32,
    /// Parameter sets go before it.
    pub(super) random_access: Option<&'a ParameterSets>,
    pub(super) out_of_order: bool,
}

impl Outbox {
    /// Nothing sent yet.
    pub(super) fn new(now: Instant, player: PlayerConfig, codec: Codec) -> Self {
        let PlayerConfig { max_udp_payload, ssrc, history, .. } = player;
        let config = WriterConfig { ssrc, payload_type: PAYLOAD_TYPE, first_packet: 0 };
        Self {
            config,
            max_udp_payload,
            codec,
            packetizer: Packetizer::new(codec, max_udp_payload, config),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            pace_bytes: PACE_BYTES as i64,
            credit_bytes: PACE_BYTES as i64,
            counted: now,
            next_packet: 0,
            newest: (0, now),
            sent: VecDeque::new(),
            sent_bytes: 0,
            history,
        }
    }

    /// Numbers begin here.
    pub(super) fn begin(&mut self, now: Instant, first_packet: u64, rtp_timestamp: u32, codec: Codec) {
        self.next_packet = first_packet;
        self.newest = (rtp_timestamp, now);
        self.codec = codec;
        self.packetizer = self.new_packetizer();
    }

    pub(super) fn set_pace(&mut self, bytes_per_second: u64) {
        self.pace_bytes = (bytes_per_second / 1000).clamp(PACE_BYTES_MIN, PACE_BYTES) as i64;
    }

    pub(super) fn set_codec(&mut self, codec: Codec) {
        self.codec = codec;
        self.packetizer.set_codec(codec);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a picture, after the last one has left.
    pub(super) fn put(&mut self, picture: &Picture<'_>) {
        let packetizer = &mut self.packetizer;
        match picture.out_of_order {
            true => packetizer.begin_out_of_order(picture.rtp_timestamp),
            false => packetizer.begin_access_unit(picture.rtp_timestamp, picture.random_access.is_some()),
        }
        if let Some(sets) = picture.random_access {
            packetizer.parameter_sets(|| sets.iter());
        }
        for nal in picture.nals {
            packetizer.nal(nal);
        }
        packetizer.end_access_unit();
        while let Some(run) = packetizer.poll_run() {
            self.waiting_bytes += run.bytes().len();
            self.waiting.push_back(run);
        }
    }

    /// The next run that may leave now.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Run> {
        self.count(now);
        if self.credit_bytes <= 0 {
            return None;
        }
        self.take(now)
    }

    /// The next run of a picture that has left in part, at whatever pace.
    pub(super) fn poll_rest(&mut self, now: Instant) -> Option<Run> {
        self.waiting.front().filter(|run| !run.starts_access_unit())?;
        self.take(now)
    }

    fn take(&mut self, now: Instant) -> Option<Run> {
        let run = self.waiting.pop_front()?;
        let bytes = run.bytes().len();
        self.waiting_bytes -= bytes;
        self.credit_bytes -= bytes as i64;
        self.next_packet = run.first_packet() + u64::from(run.packets());
        if !run.is_out_of_order() {
            self.newest = (run.rtp_timestamp(), now);
            if self.history {
                self.keep(now, run.clone());
            }
        }
        Some(run)
    }

    /// Takes memory to write runs to.
    pub(super) fn lend_memory(&mut self, memory: BytesMut) {
        self.packetizer.recycle(memory);
    }

    /// Gives it back, unless runs are in it.
    pub(super) fn take_memory(&mut self) -> Option<BytesMut> {
        self.packetizer.take_memory()
    }

    /// When the next run may leave.
    pub(super) fn due(&self) -> Instant {
        let intervals = (-self.credit_bytes).max(0) / self.pace_bytes + 1;
        self.counted + PACE_INTERVAL * u32::try_from(intervals).unwrap_or(u32::MAX)
    }

    /// What has not left is forgotten; its packets' numbers go to what comes instead.
    pub(super) fn clear(&mut self) {
        if !self.waiting.is_empty() {
            self.waiting.clear();
            self.waiting_bytes = 0;
            self.packetizer = self.new_packetizer();
        }
    }

    /// Number of the next packet, the newest timestamp given out, and when.
    pub(super) fn end(&self) -> (u64, u32, Instant) {
        (self.next_packet, self.newest.0, self.newest.1)
    }

    /// A packet that was sent, by its number among those in order, and its timestamp.
    pub(super) fn packet_in_order(&self, number: u64) -> Option<(&[u8], u32)> {
        let behind = self.sent.partition_point(|(_, run)| run.first_in_order() <= number);
        let (_, run) = self.sent.get(behind.checked_sub(1)?)?;
        let place = usize::try_from(number - run.first_in_order()).ok()?;
        Some((run.packet(place)?, run.rtp_timestamp()))
    }

    /// Bytes of runs that wait, and of those that were sent.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.waiting_bytes + self.sent_bytes
    }

    /// Numbers among the packets in order count from the first packet's anew, so they skip those of pictures out of order so
    /// far; they never go back.
    fn new_packetizer(&self) -> Packetizer {
        let config = WriterConfig { first_packet: self.next_packet, ..self.config };
        Packetizer::new(self.codec, self.max_udp_payload, config)
    }

    fn count(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.counted).as_millis();
        if let Ok(intervals) = u32::try_from(passed) {
            let gained = self.pace_bytes.saturating_mul(i64::from(intervals));
            self.credit_bytes = self.credit_bytes.saturating_add(gained).min(self.pace_bytes);
            self.counted += PACE_INTERVAL * intervals;
        } else {
            self.credit_bytes = self.pace_bytes;
            self.counted = now;
        }
    }

    fn keep(&mut self, now: Instant, run: Run) {
        self.sent_bytes += run.bytes().len();
        self.sent.push_back((now, run));
        while let Some((at, first)) = self.sent.front()
            && (self.sent_bytes > HISTORY_BYTES || now.saturating_duration_since(*at) > HISTORY_TIME)
        {
            self.sent_bytes -= first.bytes().len();
            if let Some((_, run)) = self.sent.pop_front()
                && let Some(memory) = run.into_memory()
            {
                self.packetizer.recycle(memory);
            }
        }
    }
}
