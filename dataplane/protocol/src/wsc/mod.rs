//! WSC-RTP: RTP over UDP after a hole punch, with a WebSocket for signalling.
//!
//! [`parse_punch`] reads what comes to the shard's UDP port, [`Session`] is one viewer's dialogue. The
//! WebSocket's own frames, and the RTP that flows once it is told where, belong to the driver.

mod budget;
mod destination;
mod handshake;
mod hole_punch;
mod message;
mod public_url;
mod session;

pub use hole_punch::{Punch, parse_punch};
pub use message::{ActiveSource, ClientMessage, Mode, ServerMessage, StreamState};
pub use public_url::public_url;
pub use session::{CloseReason, Output, Revision, Session, SessionConfig, Transport};
