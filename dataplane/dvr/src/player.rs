//! What one viewer sees of the past: samples of segment files, as runs of packets, when they are due.
//!
//! Order: [`Player::new`] asks where to begin ([`PlayerOutput::Locate`]); [`PlayerOutput::Ready`] says that the first
//! picture is there, and the viewer may leave what it plays; [`Player::play`] begins. Until then nothing is sent, so a seek
//! that fails leaves a session as it was. Not here: files, the viewer's numbering, the way back to live.
//!
//! **Exact start by squeezed timestamps.** A decoder starts at a keyframe, and what was wanted lies up to a GOP behind it. To show
//! the keyframe would be wrong by as much; to leave out the pictures between the two is not possible, as later ones refer to
//! them. So all from the keyframe to the wanted picture is sent at once, with timestamps 1 ms apart: the viewer decodes it in
//! no time and sees the wanted picture. From there on timestamps advance by media time / speed.
//!
//! **Bounds.** Files are read in pieces of 256 KiB, about two of them are held (more only for a picture that is larger, which may
//! have 16 MiB), then one picture's packets, and the packets of the last two seconds, 1 MiB at the most.
//!
//! In file order of the walk: `window` holds what was read; `walk` finds the samples in it, or in memory; `picture` makes NAL
//! units of them; `scan` finds the wanted one; `seek` is the way to [`PlayerOutput::Ready`], `course` that from
//! [`Player::play`] on, by `clock` and `place`; `outbox` sends.

mod clock;
mod course;
mod outbox;
mod picture;
mod place;
mod scan;
mod seek;
#[cfg(test)]
mod tests;
mod walk;
mod window;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use bytes::BytesMut;
use lanecast_packet::Run;
use lanecast_protocol::codec::{Codec, ParameterSets};

use self::course::Course;
use self::outbox::Outbox;
use self::seek::Seek;
use self::walk::{Stop, Walk};
use crate::keyframes::Keyframe;
use crate::segment::{OpenSegment, SegmentId};

/// Settings of a player.
#[derive(Clone, Copy, Debug)]
pub struct PlayerConfig {
    /// Largest UDP payload in bytes, RTP header included.
    pub max_udp_payload: u16,
    /// SSRC in the packets' headers.
    pub ssrc: u32,
    /// Only segments of this codec are played; others are skipped like gaps.
    pub codec: Option<Codec>,
    /// Whether packets may be asked for again ([`Player::packet_in_order`]).
    pub history: bool,
}

/// Which segment the player wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// That which has this time (UTC ms), else the first behind it.
    At(i64),
    /// The first that starts after this time (UTC ms).
    After(i64),
}

/// A segment to play.
#[derive(Clone, Debug)]
pub struct Located {
    /// Which.
    pub segment: SegmentId,
    /// Time of its first picture, UTC.
    pub start_unix_ms: i64,
    /// What is in it.
    pub codec: Codec,
    /// What is known of it.
    pub extent: Extent,
}

/// What is known of a segment.
#[derive(Clone, Debug)]
pub enum Extent {
    /// It is done.
    Closed {
        /// End of its last picture, UTC.
        end_unix_ms: i64,
        /// Its length.
        bytes: u64,
        /// Its keyframes.
        keyframes: Vec<Keyframe>,
    },
    /// It is written, or was lately.
    Open(Rc<OpenSegment>),
}

/// What the driver should do.
#[derive(Clone, Debug)]
pub enum PlayerOutput {
    /// Find a segment; answer with [`Player::handle_located`]. One question at a time.
    Locate(Wanted),
    /// Read from a file; answer with [`Player::handle_read`]. One read at a time.
    Read {
        /// Of which segment.
        segment: SegmentId,
        /// Bytes from its start.
        offset: u64,
        /// How many, at most; fewer come only at the file's end.
        bytes: usize,
    },
    /// The first picture is there; its time, UTC.
    Ready {
        /// Of the picture that is shown first.
        unix_ms: i64,
        /// For the viewer's description.
        parameter_sets: Rc<ParameterSets>,
    },
    /// The pictures from now on need these.
    ParameterSets(Rc<ParameterSets>),
    /// Send this now.
    Run(Run),
    /// A gap was skipped: the time of the next picture, UTC.
    Skipped {
        /// Of the next picture.
        unix_ms: i64,
    },
    /// A file is not needed any more.
    Release(SegmentId),
    /// A file is not what it should be; it is skipped.
    Damaged {
        /// Which.
        segment: SegmentId,
        /// A sentence.
        reason: String,
    },
    /// The live edge is reached: join live. Nothing follows.
    Live,
    /// There is nothing at the wanted time or later. Nothing follows.
    Nothing,
    /// What there is cannot be read at the moment: why. Nothing follows.
    Unreadable(String),
}

/// Slowest and fastest that is played.
pub const SPEED_MIN: f64 = 0.25;
/// See [`SPEED_MIN`].
pub const SPEED_MAX: f64 = 16.0;

/// The player of one viewer.
#[derive(Debug)]
pub struct Player {
    config: PlayerConfig,
    phase: Phase,
    speed: f64,
    outputs: VecDeque<PlayerOutput>,
    /// The segment that is played, and the one that comes next.
    walk: Option<Walk>,
    following: Option<Walk>,
    question: Question,
    /// The read under way.
    reading: Option<Read>,
    /// What has to be read so that it goes on.
    wish: Option<Read>,
    wake: Option<Instant>,
    seek: Seek,
    course: Course,
    outbox: Outbox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Looks for the first picture.
    Seeking,
    /// Has it, and waits for [`Player::play`].
    Ready,
    /// Sends.
    Playing,
    /// Nothing follows.
    Over,
}

/// The question for a segment.
#[derive(Debug)]
struct Question {
    /// Under way; nothing is left to play before it is answered.
    asked: Option<Asked>,
    /// Start of the newest segment that came as an answer, UTC.
    newest_unix_ms: i64,
    /// There was no answer while there was time: asked again when that is over.
    refused: bool,
    failures: u32,
    retry_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// While something is left to play.
    Early,
    /// Nothing is left.
    Late,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Read {
    segment: SegmentId,
    offset: u64,
    bytes: usize,
}

impl Player {
    /// Wants to begin at this time, UTC. `speed` as in [`Player::set_speed`].
    pub fn new(now: Instant, config: PlayerConfig, unix_ms: i64, speed: f64) -> Self {
        let question = Question {
            asked: Some(Asked::Late),
            newest_unix_ms: i64::MIN,
            refused: false,
            failures: 0,
            retry_at: None,
        };
        Self {
            config,
            phase: Phase::Seeking,
            speed: playable(speed).unwrap_or(1.0),
            outputs: VecDeque::from([PlayerOutput::Locate(Wanted::At(unix_ms))]),
            walk: None,
            following: None,
            question,
            reading: None,
            wish: None,
            wake: None,
            seek: Seek::new(unix_ms),
            course: Course::new(now, unix_ms),
            outbox: Outbox::new(now, config, Codec::H264),
        }
    }

    /// The segment that was wanted; `None`: there is none. Or why nobody knows.
    pub fn handle_located(&mut self, now: Instant, located: Result<Option<Located>, String>) {
        let Some(asked) = self.question.asked.take() else { return };
        match self.phase {
            Phase::Seeking => self.begin_at(located),
            Phase::Playing => self.follow_with(now, asked, located),
            Phase::Ready | Phase::Over => {}
        }
        self.advance(now);
    }

    /// What was read. Short: the file ends there. An answer that nothing asked for, or not any more, is ignored.
    pub fn handle_read(
        &mut self,
        now: Instant,
        segment: SegmentId,
        offset: u64,
        result: Result<BytesMut, String>,
    ) {
        let asked = |read: &mut Read| read.segment == segment && read.offset == offset;
        let Some(read) = self.reading.take_if(asked) else { return };
        match (self.walk_of(segment), result) {
            (Some(walk), Ok(bytes)) => walk.fill(offset, read.bytes, bytes.freeze()),
            (Some(_), Err(reason)) => self.on_damage(now, segment, reason),
            (None, _) => {}
        }
        self.advance(now);
    }

    /// After [`PlayerOutput::Ready`]: begin, with packets from number `first_packet` on (its low 16 bits are the first
    /// sequence number). `rtp_timestamp` (90 kHz) is that of the keyframe, the first that is sent; the timestamps of the pictures
    /// behind it rise by 90 each up to the one that is shown first, which has them all decoded.
    ///
    /// That much is sent even at speed 0, so that a viewer that paused sees where it is.
    pub fn play(&mut self, now: Instant, first_packet: u64, rtp_timestamp: u32) {
        if self.phase == Phase::Ready {
            self.phase = Phase::Playing;
            self.begin_course(now, first_packet, rtp_timestamp);
            self.advance(now);
        }
    }

    /// From [`SPEED_MIN`] to [`SPEED_MAX`], others become the nearest of these; 0 and less is a pause: nothing is sent or read
    /// but for a GOP that is on its way at once ([`Player::play`], [`Player::refresh`]). What is no number changes nothing.
    ///
    /// At 4 and more only keyframes are sent where otherwise the viewer would get more than 60 pictures a second.
    pub fn set_speed(&mut self, now: Instant, speed: f64) {
        let Some(speed) = playable(speed).filter(|&speed| speed != self.speed) else { return };
        self.speed = speed;
        if self.phase == Phase::Playing {
            self.change_speed(now);
            self.advance(now);
        }
    }

    /// The speed.
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// What an interval of a millisecond may let out, times 1000. At least 1 MB/s, at most 60 KiB an interval.
    pub fn set_pace(&mut self, bytes_per_second: u64) {
        self.outbox.set_pace(bytes_per_second);
    }

    /// The viewer lost a picture: the last keyframe and all that was sent since, once more and at once. The caller sees to it that
    /// this does not happen too often.
    pub fn refresh(&mut self, now: Instant) {
        if self.phase == Phase::Playing {
            self.repeat_gop();
            self.advance(now);
        }
    }

    /// The viewer could not take a run: nothing more before the next keyframe, and not before this time. What is given out next
    /// has the number behind the last run that was given out.
    pub fn block(&mut self, now: Instant, not_before: Option<Instant>) {
        if self.phase == Phase::Playing {
            self.drop_to_keyframe(now, not_before);
            self.advance(now);
        }
    }

    /// Time of the picture that is shown now, UTC: of the newest that was sent when it was due. In a pause, in a gap and while
    /// pictures are sent once more that is the last one before; until something is sent it is the one that will be shown first.
    pub fn position_unix_ms(&self, _now: Instant) -> i64 {
        self.course.shown_unix_ms
    }

    /// The viewer is to play something else. Of a picture that is on its way the rest is given out at once, nothing follows, and
    /// all is given back but what was sent lately ([`Player::packet_in_order`]). Files need no [`PlayerOutput::Release`] any more.
    pub fn stop(&mut self, now: Instant) {
        self.outputs.retain(|output| matches!(output, PlayerOutput::Run(_)));
        while let Some(run) = self.outbox.poll_rest(now) {
            self.outputs.push_back(PlayerOutput::Run(run));
        }
        (self.walk, self.following) = (None, None);
        (self.wish, self.wake) = (None, None);
        self.course.stop();
        self.outbox.clear();
        self.phase = Phase::Over;
    }

    /// Number that the next packet will have, and the newest timestamp given out with the time when it was: where whatever
    /// the viewer plays next goes on.
    pub fn end(&self) -> (u64, u32, Instant) {
        self.outbox.end()
    }

    /// A packet to send again, by its number among those in order ([`Run::first_in_order`]), and its timestamp. Those of the
    /// last 2 s are kept, 1 MiB at the most.
    pub fn packet_in_order(&self, number: u64) -> Option<(&[u8], u32)> {
        self.outbox.packet_in_order(number)
    }

    /// Takes memory to write runs to, if there is some and it is of use: a player that keeps nothing of what it sent
    /// ([`PlayerConfig::history`]) needs none of its own between two pictures.
    pub fn lend_memory(&mut self, memory: &mut Option<BytesMut>) {
        if !self.config.history
            && let Some(memory) = memory.take()
        {
            self.outbox.lend_memory(memory);
        }
    }

    /// Gives it back, unless a run that was given out, or waits, is in it.
    pub fn take_memory(&mut self) -> Option<BytesMut> {
        if self.config.history { None } else { self.outbox.take_memory() }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// When to call [`Player::handle_timeout`]. `None` while it waits for an answer or for [`Player::play`], pauses, or is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// What to do next, until `None`.
    pub fn poll_output(&mut self) -> Option<PlayerOutput> {
        self.outputs.pop_front()
    }

    /// Bytes that wait in memory: read, on their way, and sent but kept. What the recorder has in memory is not counted.
    pub fn buffered_bytes(&self) -> usize {
        let walks = [&self.walk, &self.following].into_iter().flatten();
        walks.map(Walk::buffered_bytes).sum::<usize>() + self.outbox.buffered_bytes()
    }

    /// Does all that can be done now.
    fn advance(&mut self, now: Instant) {
        self.wake = None;
        self.wish = None;
        while match self.phase {
            Phase::Seeking => self.step_seek(),
            Phase::Playing => self.step_course(now),
            Phase::Ready | Phase::Over => false,
        } {}
        self.read(now);
    }

    /// Asks for a read, unless one is under way.
    fn read(&mut self, now: Instant) {
        if self.reading.is_none() && self.phase != Phase::Over {
            self.reading = self.wish.take().or_else(|| self.read_ahead(now));
            let read = self.reading.filter(|_| self.phase != Phase::Over);
            self.outputs.extend(read.map(|Read { segment, offset, bytes }| PlayerOutput::Read {
                segment,
                offset,
                bytes,
            }));
        }
    }

    fn ask(&mut self, asked: Asked) {
        self.question.asked = Some(asked);
        self.question.retry_at = None;
        self.outputs.push_back(PlayerOutput::Locate(Wanted::After(self.question.newest_unix_ms)));
    }

    /// The answer as it can be used: never a segment twice, and none of another codec than is wanted.
    fn accept(&mut self, located: Option<Located>, asked: Asked) -> Accepted {
        let Some(located) = located else { return Accepted::None };
        if located.start_unix_ms <= self.question.newest_unix_ms {
            if self.walk_of(located.segment).is_none() {
                self.outputs.push_back(PlayerOutput::Release(located.segment));
            }
            return Accepted::None;
        }
        self.question.newest_unix_ms = located.start_unix_ms;
        if self.config.codec.is_some_and(|codec| codec != located.codec) {
            self.outputs.push_back(PlayerOutput::Release(located.segment));
            self.ask(asked);
            return Accepted::AskedAgain;
        }
        Accepted::Segment(Walk::new(located))
    }

    fn walk_of(&mut self, segment: SegmentId) -> Option<&mut Walk> {
        let walks = [&mut self.walk, &mut self.following];
        walks.into_iter().flatten().find(|walk| walk.segment == segment)
    }

    fn release(&mut self, walk: Option<Walk>) {
        self.outputs.extend(walk.map(|walk| PlayerOutput::Release(walk.segment)));
    }

    /// Gives all back and says why.
    fn finish(&mut self, why: PlayerOutput) {
        let walks = [self.walk.take(), self.following.take()];
        walks.into_iter().for_each(|walk| self.release(walk));
        self.outputs.push_back(why);
        self.phase = Phase::Over;
        self.wish = None;
    }

    fn on_damage(&mut self, now: Instant, segment: SegmentId, reason: String) {
        self.outputs.push_back(PlayerOutput::Damaged { segment, reason });
        match self.phase {
            Phase::Seeking => self.seek_behind_damage(),
            Phase::Playing => self.play_on_without(now, segment),
            Phase::Ready | Phase::Over => {}
        }
    }

    fn wish(&mut self, segment: SegmentId, offset: u64, bytes: usize) {
        self.wish = Some(Read { segment, offset, bytes });
    }
}

enum Accepted {
    Segment(Walk),
    AskedAgain,
    None,
}

/// The nearest speed that can be played; `None` of what is no number.
fn playable(speed: f64) -> Option<f64> {
    if speed.is_nan() {
        return None;
    }
    Some(if speed <= 0.0 { 0.0 } else { speed.clamp(SPEED_MIN, SPEED_MAX) })
}

/// Why a walk does not go on, where that is damage.
fn missing_keyframe(segment: SegmentId) -> Stop {
    Stop::Damaged { segment, reason: "no keyframe where the index has one".to_owned() }
}
