//! Packets and runs: who owns the bytes of the data plane, and for how long.
//!
//! ```text
//! receive buffer ──slices──▶ NAL rope ──one copy a stream──▶ run ──▶ GOP cache, every viewer's send, WebSocket queues
//! ```
//!
//! A receive buffer is free again as soon as the NAL units in it are packetized. A [`Run`] lives as long as
//! the GOP cache or a send under way holds it; all viewers share its bytes.

mod run;
mod splice;
mod squeeze;
mod writer;

pub use run::{Packet, Run};
pub use splice::Splice;
pub use squeeze::Squeeze;
pub use writer::{RunWriter, WriterConfig};

/// Bytes of an RTP header without CSRCs and extensions.
pub const RTP_HEADER_BYTES: usize = 12;
