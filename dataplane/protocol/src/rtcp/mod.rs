//! RTCP (RFC 3550 section 6): what a sender tells us, and what we tell it.
//!
//! The fields and their bounds are the `rtcp-types` crate's, where it allocates nothing; the walk over a compound
//! packet is ours, because it must neither allocate nor give up on what came before the garbage, and so is what comes
//! from thousands of viewers.

mod compound;
mod feedback;
mod report;
mod transport_feedback;
mod write;

pub use compound::{Received, SenderReport, parse_compound};
pub use feedback::{Feedback, Nacked, parse_feedback};
pub use report::{ReceptionBlock, receiver_report};
pub use transport_feedback::TransportFeedback;
pub use write::{SenderInfo, write_bye, write_sender_report};
