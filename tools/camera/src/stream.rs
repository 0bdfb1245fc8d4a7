//! What one session sees of a camera: which picture is due at a tick, with which sequence numbers and timestamps. They
//! run on over the reel's end. No socket, no clock: the driver in `connection.rs` has both.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::faults::{Faults, MediaFaults};
use crate::reel::Reel;
use crate::rng::Rng;
use crate::rtp::{Burst, Header, PCMU, SenderReport, VIDEO};
use crate::stamp;

/// The state of one RTP stream, and of the silent audio stream beside it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub cadence: Cadence,
    video: Sender,
    audio: Sender,
    /// The picture, and the one of another size.
    reels: [Arc<Reel>; 2],
    reel: usize,
    position: usize,
    tick: u64,
    access_unit: u64,
    /// Pictures were left out: wait for one that decoding can start at.
    is_waiting: bool,
    /// A picture was sent.
    is_started: bool,
    faults: Faults,
}

/// Sequence numbers and counters of one SSRC.
#[derive(Debug)]
struct Sender {
    ssrc: u32,
    sequence: u16,
    base: u32,
    packets: u32,
    octets: u32,
}

/// Pictures per time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cadence {
    pub fps_milli: u64,
}

/// Interleaved channels (or their stand-ins over UDP) of the tracks that were set up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Channels {
    pub video: Option<(u8, u8)>,
    pub audio: Option<(u8, u8)>,
}

impl Cadence {
    /// How long after tick 0 a tick is.
    pub fn time(self, tick: u64) -> Duration {
        Duration::from_nanos((u128::from(tick) * 1_000_000_000_000 / u128::from(self.fps_milli)) as u64)
    }

    /// The number of ticks in `time`.
    pub fn ticks(self, time: Duration) -> u64 {
        (time.as_nanos() * u128::from(self.fps_milli) / 1_000_000_000_000) as u64
    }

    /// A tick in units of a media clock, modulo 2^32.
    fn units(self, tick: u64, clock_rate: u64) -> u32 {
        (u128::from(tick) * u128::from(clock_rate) * 1000 / u128::from(self.fps_milli)) as u32
    }
}

impl Stream {
    pub fn new(reels: [Arc<Reel>; 2], cadence: Cadence, faults: Faults, rng: &mut Rng) -> Self {
        Self {
            cadence,
            video: Sender::new(rng).before_a_wrap(&faults.media),
            audio: Sender::new(rng),
            reels,
            reel: 0,
            position: 0,
            tick: 0,
            access_unit: 0,
            is_waiting: false,
            is_started: false,
            faults,
        }
    }

    /// The tick of the next picture.
    pub fn tick(&self) -> u64 {
        self.tick
    }

    /// Sequence number and timestamp of the next video packet, for RTP-Info.
    pub fn video_start(&self) -> (u16, u32) {
        (self.video.sequence, self.rtp_timestamp())
    }

    /// Sequence number and timestamp of the next audio packet, for RTP-Info.
    pub fn audio_start(&self) -> (u16, u32) {
        (self.audio.sequence, self.audio.base.wrapping_add(self.cadence.units(self.tick, AUDIO_CLOCK)))
    }

    pub fn ssrc(&self, is_audio: bool) -> u32 {
        if is_audio { self.audio.ssrc } else { self.video.ssrc }
    }

    /// The camera was not run for `ticks`: time passes, no picture is lost.
    pub fn sleep(&mut self, ticks: u64) {
        self.tick += ticks;
    }

    /// Passes the due picture by, and those after it until one that decoding can start at.
    pub fn skip(&mut self) {
        self.is_waiting = true;
        self.advance();
    }

    /// Writes the due picture. With `stamped_at` (monotonic nanoseconds) it is stamped.
    pub fn write(&mut self, channels: Channels, stamped_at: Option<u64>, burst: &mut Burst) {
        self.change_resolution();
        let reel = Arc::clone(&self.reels[self.reel]);
        let frame = &reel.frames[self.position];
        self.is_waiting &= !frame.random_access;
        if let (Some((channel, _)), false) = (channels.video, self.is_waiting) {
            let media = self.faults.media;
            self.misnumber(media);
            let rtp_timestamp = self.rtp_timestamp_of(frame.shown_later);
            let is_early = media.early_parameter_sets && frame.random_access;
            let a_picture = if is_early { self.cadence.units(1, VIDEO_CLOCK) } else { 0 };
            let early_timestamp = rtp_timestamp.wrapping_sub(a_picture);
            let payload_type = if media.wrong_payload_type { VIDEO + 1 } else { VIDEO };
            let start = if self.is_started { &[][..] } else { &reel.start };
            self.is_started = true;
            let mut write = |payload: &[u8], marker: bool, rtp_timestamp: u32| {
                let header = self.video.header(payload_type, marker, rtp_timestamp, payload.len());
                let header = Header { with_extras: media.rtp_extras, ..header };
                if media.foreign_payload_type {
                    burst.push_rtp(channel, Header { payload_type: FOREIGN, ..header }, &FOREIGN_PAYLOAD);
                }
                burst.push_rtp(channel, header, payload);
            };
            let (before, picture) = frame.packets.split_at(frame.stamp_at);
            for packet in start.iter().chain(before) {
                write(&packet.payload, packet.marker || is_early, early_timestamp);
            }
            let mut push = |payload: &[u8], marker: bool| write(payload, marker, rtp_timestamp);
            if let Some(now) = stamped_at {
                push(&stamp::nal_unit(reel.codec, self.access_unit, now), self.faults.marker.of_sei());
            }
            picture.iter().for_each(|packet| push(&packet.payload, packet.marker));
        }
        if let Some((channel, _)) = channels.audio {
            self.write_silence(channel, burst);
        }
        self.access_unit += 1;
        self.advance();
    }

    /// Writes sender reports for `now`, which is `since_start` after tick 0.
    pub fn write_reports(
        &self,
        channels: Channels,
        now: SystemTime,
        since_start: Duration,
        burst: &mut Burst,
    ) {
        for (sender, channels, clock_rate) in
            [(&self.video, channels.video, VIDEO_CLOCK), (&self.audio, channels.audio, AUDIO_CLOCK)]
        {
            if let Some((_, channel)) = channels {
                let units = (since_start.as_nanos() * u128::from(clock_rate) / 1_000_000_000) as u32;
                burst.push_sender_report(channel, &sender.report(now, units));
            }
        }
    }

    fn rtp_timestamp(&self) -> u32 {
        self.rtp_timestamp_of(0)
    }

    /// Of the picture so many after the due one.
    fn rtp_timestamp_of(&self, later: i64) -> u32 {
        let (tick, offset) = self.faults.distort(self.tick.saturating_add_signed(later));
        let (tick, more) = self.faults.media.distort(tick, self.cadence);
        let units = self.cadence.units(tick, VIDEO_CLOCK);
        self.video.base.wrapping_add(units).wrapping_add((offset + more) as u32)
    }

    /// Sequence numbers and SSRC are not what they should be from the due picture on.
    fn misnumber(&mut self, faults: MediaFaults) {
        let is_due = |every| MediaFaults::is_due(every, self.tick, self.cadence);
        if is_due(faults.sequence_restarts_every) {
            self.video.sequence = 0;
        }
        let changed = Sender::new(&mut Rng::new(self.video.ssrc.into()));
        if is_due(faults.ssrc_changes_every) {
            self.video.ssrc = changed.ssrc;
        }
        if is_due(faults.source_changes_every) {
            self.video = changed;
        }
    }

    /// The samples of one frame interval: 0xff is silence in µ-law.
    fn write_silence(&mut self, channel: u8, burst: &mut Burst) {
        let start = self.cadence.units(self.tick, AUDIO_CLOCK);
        let len = self.cadence.units(self.tick + 1, AUDIO_CLOCK).wrapping_sub(start).min(AUDIO_CLOCK as u32);
        let silence = [0xff; AUDIO_CLOCK as usize];
        let payload = &silence[..len as usize];
        let rtp_timestamp = self.audio.base.wrapping_add(start);
        burst.push_rtp(
            channel,
            self.audio.header(PCMU, self.tick == 0, rtp_timestamp, payload.len()),
            payload,
        );
    }

    fn change_resolution(&mut self) {
        let Some(every) = self.faults.change_resolution_every else { return };
        let wanted = (self.cadence.time(self.tick).as_nanos() / every.as_nanos().max(1) % 2) as usize;
        if wanted != self.reel {
            (self.reel, self.position) = (wanted, 0);
        }
    }

    fn advance(&mut self) {
        self.tick += 1;
        self.position = (self.position + 1) % self.reels[self.reel].frames.len();
    }
}

impl Sender {
    /// Random everywhere (RFC 3550 section 5.1).
    fn new(rng: &mut Rng) -> Self {
        Self {
            ssrc: rng.next() as u32,
            sequence: rng.next() as u16,
            base: rng.next() as u32,
            packets: 0,
            octets: 0,
        }
    }

    fn before_a_wrap(mut self, faults: &MediaFaults) -> Self {
        if faults.timestamps_wrap_soon {
            self.base = (2 * VIDEO_CLOCK as u32).wrapping_neg();
        }
        if faults.sequence_wraps_soon {
            self.sequence = u16::MAX - 29;
        }
        self
    }

    fn header(&mut self, payload_type: u8, marker: bool, rtp_timestamp: u32, payload_len: usize) -> Header {
        let (sequence, ssrc) = (self.sequence, self.ssrc);
        let header = Header { payload_type, marker, sequence, rtp_timestamp, ssrc, with_extras: false };
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload_len as u32);
        header
    }

    fn report(&self, now: SystemTime, units: u32) -> SenderReport {
        SenderReport {
            ssrc: self.ssrc,
            now,
            rtp_timestamp: self.base.wrapping_add(units),
            packets: self.packets,
            octets: self.octets,
        }
    }
}

const VIDEO_CLOCK: u64 = 90_000;
const AUDIO_CLOCK: u64 = 8_000;
/// Payload type of packets that are no video: what Uniview's devices mix in.
const FOREIGN: u8 = 50;
const FOREIGN_PAYLOAD: [u8; 16] = [0x5a; 16];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Clip;
    use crate::config::{CameraConfig, Codec};

    const VIDEO_ONLY: Channels = Channels { video: Some((0, 1)), audio: None };

    fn stream(faults: Faults) -> Stream {
        let config = CameraConfig { faults: faults.clone(), ..CameraConfig::default() };
        let reels = [Clip::built_in(Codec::H264), Clip::built_in_small(Codec::H264)];
        let reels = reels.map(|clip| Arc::new(Reel::new(&clip, &config)));
        Stream::new(reels, Cadence { fps_milli: 25_000 }, faults, &mut Rng::new(7))
    }

    fn headers(burst: &Burst) -> Vec<(u16, u32)> {
        burst
            .packets()
            .map(|(_, packet)| {
                let sequence = u16::from_be_bytes([packet[2], packet[3]]);
                (sequence, u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]))
            })
            .collect()
    }

    #[test]
    fn sequence_numbers_and_timestamps_run_on_over_the_end_of_the_reel() {
        let mut stream = stream(Faults::default());
        let (mut sequence, mut timestamp) = stream.video_start();
        for _ in 0..600 {
            let mut burst = Burst::default();
            stream.write(VIDEO_ONLY, Some(1), &mut burst);
            for header in headers(&burst) {
                assert_eq!(header, (sequence, timestamp));
                sequence = sequence.wrapping_add(1);
            }
            timestamp = timestamp.wrapping_add(3600);
        }
    }

    #[test]
    fn after_a_skip_the_next_picture_is_a_random_access_point() {
        let mut stream = stream(Faults::default());
        let mut burst = Burst::default();
        stream.skip();
        for _ in 1..50 {
            stream.write(VIDEO_ONLY, None, &mut burst);
            assert!(burst.is_empty());
        }
        stream.write(VIDEO_ONLY, None, &mut burst);
        assert!(!burst.is_empty());
    }

    #[test]
    fn the_resolution_changes_when_asked_and_changes_back() {
        let every = Some(Duration::from_secs(1));
        let mut stream = stream(Faults { change_resolution_every: every, ..Faults::default() });
        let mut reels = Vec::new();
        for _ in 0..75 {
            stream.write(VIDEO_ONLY, None, &mut Burst::default());
            reels.push(stream.reel);
        }
        assert_eq!(reels, [[0; 25], [1; 25], [0; 25]].concat());
    }

    #[test]
    fn a_report_relates_wall_clock_and_media_clock() {
        let stream = stream(Faults::default());
        let mut burst = Burst::default();
        stream.write_reports(VIDEO_ONLY, SystemTime::now(), Duration::from_secs(2), &mut burst);
        let (channel, packet) = burst.packets().next().unwrap();
        assert_eq!(channel, 1);
        assert_eq!(packet[16..20], stream.video.base.wrapping_add(180_000).to_be_bytes());
    }

    #[test]
    fn ticks_do_not_drift_at_odd_rates() {
        let cadence = Cadence { fps_milli: 29_970 };
        assert_eq!(cadence.time(29_970), Duration::from_secs(1000));
        assert_eq!(cadence.units(29_970, VIDEO_CLOCK), 90_000_000);
        assert_eq!(cadence.ticks(Duration::from_secs(1000)), 29_970);
    }

    #[test]
    fn silence_lasts_as_long_as_the_pictures() {
        let mut stream = stream(Faults::default());
        let mut burst = Burst::default();
        stream.write(Channels { video: None, audio: Some((2, 3)) }, None, &mut burst);
        stream.write(Channels { video: None, audio: Some((2, 3)) }, None, &mut burst);
        let headers = headers(&burst);
        assert_eq!(headers[1].1.wrapping_sub(headers[0].1), 320);
        assert!(burst.packets().all(|(channel, packet)| channel == 2 && packet.len() == 332));
    }
}
