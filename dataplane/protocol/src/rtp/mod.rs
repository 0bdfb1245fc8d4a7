//! RTP (RFC 3550 section 5.1).

mod packet;
mod reception;
mod reorder;

pub use packet::{HEADER_LEN, Header, RtpError, RtpPacket};
pub use reception::Reception;
pub use reorder::{Ordered, ReorderBuffer};
