//! Session descriptions: what a camera says of itself, and what we hand to a viewer.

mod parse;
mod write;

pub(crate) use parse::absolute_url;
pub use parse::{Presentation, SdpError, VideoTrack};
pub use write::{SessionDescription, write_session};
