//! WSC-RTP: RTP over UDP after a hole punch, with a WebSocket for signalling.

mod hole_punch;
mod message;
mod session;

pub use hole_punch::{Punch, parse_punch};
pub use message::{ActiveSource, ClientMessage, ServerMessage, StreamState};
pub use session::{CloseReason, Output, Revision, Session, SessionConfig, Transport};
