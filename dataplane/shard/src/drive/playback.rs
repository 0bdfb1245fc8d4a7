//! A viewer's player and the files that it reads.

use std::rc::Rc;
use std::time::Instant;

use lanecast_dvr::player::Player;
use lanecast_dvr::segment::SegmentId;
use lanecast_net::File;
use lanecast_protocol::codec::ParameterSets;
use smallvec::SmallVec;

use crate::command::{Reply, SessionError, SessionMode};

/// A player of one viewer.
#[derive(Debug)]
pub(crate) struct Playback {
    pub(crate) player: Player,
    /// Of no other playback of the shard that is not long over; never 0, which is live.
    pub(crate) serial: u32,
    /// Open to be read: the one that is played, and the next.
    pub(crate) files: SmallVec<[(SegmentId, File); 2]>,
    /// What is read at the moment: segment and offset.
    pub(crate) reading: (SegmentId, u64),
    /// Who asked for it, until it plays.
    pub(crate) reply: Option<Reply<Result<SessionMode, SessionError>>>,
    /// The viewer's live picture is waited for until then.
    pub(crate) leave_by: Option<Instant>,
    /// Time of its first picture (UTC ms) and what it needs, once it is there.
    pub(crate) ready: Option<(i64, Rc<ParameterSets>)>,
}

impl Playback {
    /// Answers who asked for it; nobody may be listening any more.
    pub(crate) fn answer(&mut self, mode: Result<SessionMode, SessionError>) {
        if let Some(reply) = self.reply.take() {
            // Who asked may have gone; then nobody wants the answer.
            let _ = reply.send(mode);
        }
    }

    pub(crate) fn file(&self, segment: SegmentId) -> Option<&File> {
        self.files.iter().find(|(id, _)| *id == segment).map(|(_, file)| file)
    }
}
