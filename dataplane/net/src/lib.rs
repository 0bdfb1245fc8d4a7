//! The shard's I/O: one io_uring ring, its sockets and files, and segmented sends.
//!
//! A turn of a shard is: [`Ring::reap`] → run what the completions feed → [`Ring::submit`]. Between turns it
//! sleeps in [`Sleeper::sleep`]; completions and [`Waker::wake`] end the sleep.
//!
//! Buffers of an operation under way belong to the ring until its [`Completion`] gives them back, so safe code
//! cannot free what the kernel still reads. All `unsafe` of the data plane's I/O is in this crate.

pub mod bare;
mod buffers;
mod completion;
mod destinations;
mod error_queue;
mod file;
mod offload;
mod ring;
mod socket;
mod wake;

pub use completion::Completion;
pub use destinations::DestinationId;
pub use file::File;
pub use offload::Segmentation;
pub use ring::{OperationId, Ring, RingStatistics};
pub use socket::{Socket, bind_udp, bind_udp_pair, canonical};
pub use wake::{Sleeper, Waker, allowed_cpus, thread_cpu_us};
