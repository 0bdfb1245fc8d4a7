//! A stream's recorder and the files that it writes.

use lanecast_dvr::recorder::Recorder;
use lanecast_dvr::segment::SegmentId;
use lanecast_net::File;
use smallvec::SmallVec;

use crate::timers::Armed;

/// The recorder of one stream.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) recorder: Recorder,
    /// Completions of another recorder of the same stream are not its.
    pub(crate) epoch: u32,
    /// Open to be written: the newest, and the one that is being closed.
    pub(crate) files: SmallVec<[(SegmentId, File); 2]>,
    /// Of the write under way.
    pub(crate) writing: Option<SegmentId>,
    /// Of the sync under way.
    pub(crate) syncing: Option<SegmentId>,
    pub(crate) timer: Armed,
    /// It was told to stop.
    pub(crate) stopping: bool,
}

impl Recording {
    pub(crate) fn file(&self, segment: SegmentId) -> Option<&File> {
        self.files.iter().find(|(id, _)| *id == segment).map(|(_, file)| file)
    }
}
