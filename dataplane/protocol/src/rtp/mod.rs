//! RTP (RFC 3550 section 5.1): packets, their order, and how they are received.

mod packet;
mod payload_type;
mod reception;
mod reorder;
mod sequence;

pub use packet::{HEADER_LEN, Header, RtpError, RtpPacket};
pub use payload_type::{PayloadTypes, Taken};
pub use reception::Reception;
pub use reorder::{MAX_REORDER_DEPTH, Ordered, ReorderBuffer, ReorderStatistics};
