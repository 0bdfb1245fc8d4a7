//! Sans-IO wire formats: bytes to meaning and back, one RFC a file.
//!
//! Nothing here reads a clock or opens a socket or file. Machines take the time as an argument
//! (`handle_*`), give what they want done as a small enum (`poll_output`) and say when they want to be
//! called again (`poll_timeout`). The order is always: `handle_*` once, then `poll_output` until `None`.
//!
//! Input is hostile: every length is checked where it is read, every buffer is bounded, and what is wrong
//! comes back as an error value, never as a panic.

pub mod codec;
pub mod mp4;
pub mod rtcp;
pub mod rtp;
pub mod rtsp;
pub mod sdp;
pub mod wsc;
