//! A file shared with the operations under way on it. What the ring does with it is in `ring/files.rs`.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

/// A file that the ring reads and writes, through the page cache. Cheap to clone; closed when nothing uses it.
#[derive(Clone, Debug)]
pub struct File(Rc<OwnedFd>);

impl File {
    pub(crate) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> Self {
        Self(Rc::new(file.into()))
    }
}
