//! Splits what comes over the RTSP connection into messages and interleaved frames (RFC 2326 section 10.12).

use bytes::{Bytes, BytesMut};

/// One whole thing of the connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Interleaved binary data.
    Interleaved {
        /// Channel id.
        channel: u8,
        /// The RTP or RTCP packet, a slice of the receive buffer.
        payload: Bytes,
    },
    /// A response or a request of the camera.
    Message(Box<rtsp_types::Message<Bytes>>),
}

/// Why the connection cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Neither a frame nor a message starts here and none was found within the bound.
    #[error("lost the framing of the RTSP connection")]
    Unsynchronized,
    /// A message's header or body is longer than we take.
    #[error("RTSP message is larger than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
}

/// The splitter. Holds no bytes of its own: what is incomplete stays in the caller's buffer.
#[derive(Debug, Default)]
pub struct Frames {}

impl Frames {
    /// Splits the next frame off the front of `received`; `None` when more bytes are needed.
    pub fn next_frame(&mut self, _received: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        Ok(None)
    }
}
