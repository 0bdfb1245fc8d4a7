//! What one viewer sees of the past: samples of segment files, as runs of packets, when they are due.
//!
//! Order: [`Player::new`] asks where to begin ([`PlayerOutput::Locate`]); [`PlayerOutput::Ready`] says that the first
//! picture is there, and the viewer may leave what it plays; [`Player::play`] begins. Until then nothing is sent, so a seek
//! that fails leaves a session as it was. Not here: files, the viewer's numbering, the way back to live.

use std::rc::Rc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use lanecast_packet::Run;
use lanecast_protocol::codec::{Codec, ParameterSets};

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

/// The player of one viewer.
#[derive(Debug)]
pub struct Player {}

impl Player {
    /// Wants to begin at this time, UTC.
    pub fn new(_now: Instant, _config: PlayerConfig, _unix_ms: i64, _speed: f64) -> Self {
        unimplemented!()
    }

    /// The segment that was wanted; `None`: there is none. Or why nobody knows.
    pub fn handle_located(&mut self, _now: Instant, _located: Result<Option<Located>, String>) {
        unimplemented!()
    }

    /// What was read. Short: the file ends there.
    pub fn handle_read(
        &mut self,
        _now: Instant,
        _segment: SegmentId,
        _offset: u64,
        _result: Result<BytesMut, String>,
    ) {
        unimplemented!()
    }

    /// After [`PlayerOutput::Ready`]: begin, with packets from number `first_packet` on (its low 16 bits are the first
    /// sequence number) and `rtp_timestamp` (90 kHz) for the picture that is shown first.
    pub fn play(&mut self, _now: Instant, _first_packet: u64, _rtp_timestamp: u32) {
        unimplemented!()
    }

    /// From 0.25 to 16; 0 is a pause.
    pub fn set_speed(&mut self, _now: Instant, _speed: f64) {
        unimplemented!()
    }

    /// The speed.
    pub fn speed(&self) -> f64 {
        unimplemented!()
    }

    /// What an interval of a millisecond may let out, times 1000.
    pub fn set_pace(&mut self, _bytes_per_second: u64) {
        unimplemented!()
    }

    /// The viewer lost a picture: begin again with the last keyframe, close together.
    pub fn refresh(&mut self, _now: Instant) {
        unimplemented!()
    }

    /// The viewer could not take a run: nothing more before the next keyframe, and not before this time.
    pub fn block(&mut self, _now: Instant, _not_before: Option<Instant>) {
        unimplemented!()
    }

    /// Time of the picture that is shown now, UTC.
    pub fn position_unix_ms(&self, _now: Instant) -> i64 {
        unimplemented!()
    }

    /// Number that the next packet will have, and the newest timestamp given out with the time when it was: where whatever
    /// the viewer plays next goes on.
    pub fn end(&self) -> (u64, u32, Instant) {
        unimplemented!()
    }

    /// A packet to send again, by its number among those in order ([`Run::first_in_order`]), and its timestamp.
    pub fn packet_in_order(&self, _number: u64) -> Option<(&[u8], u32)> {
        unimplemented!()
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, _now: Instant) {
        unimplemented!()
    }

    /// When to call [`Player::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// What to do next, until `None`.
    pub fn poll_output(&mut self) -> Option<PlayerOutput> {
        unimplemented!()
    }

    /// Bytes that wait in memory.
    pub fn buffered_bytes(&self) -> usize {
        let _: Option<Bytes> = None;
        unimplemented!()
    }
}
