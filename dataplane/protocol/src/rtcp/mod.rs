//! RTCP (RFC 3550 section 6): what a sender tells us, and what we tell it.
//!
//! The fields and their bounds are the `rtcp-types` crate's; the walk over a compound packet is ours, because
//! it must neither allocate nor give up on what came before the garbage.

mod compound;
mod report;

pub use compound::{Received, SenderReport, parse_compound};
pub use report::{ReceptionBlock, receiver_report};
