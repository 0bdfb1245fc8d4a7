//! RTCP (RFC 3550 section 6): what a sender tells us, and what we tell it.
//!
//! The fields and their bounds are the `rtcp-types` crate's; the walk over a compound packet is ours, because
//! it must neither allocate nor give up on what came before the garbage.

mod compound;
mod feedback;
mod report;

pub use compound::{Received, SenderReport, parse_compound};
pub use feedback::{
    Feedback, Nacked, SenderInfo, TransportFeedback, parse_feedback, write_bye, write_sender_report,
};
pub use report::{ReceptionBlock, receiver_report};
