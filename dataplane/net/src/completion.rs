//! What the ring tells its shard.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};

use crate::destinations::DestinationId;

/// What came back.
#[derive(Debug)]
pub enum Completion {
    /// A stream socket received: the bytes are at the end of the buffer that was given. 0 bytes: the peer closed.
    Received {
        /// The caller's.
        token: u64,
        /// The caller's buffer.
        buffer: BytesMut,
        /// Bytes added.
        result: io::Result<usize>,
    },
    /// All chunks of a write were taken by the kernel, or the connection broke.
    Written {
        /// The caller's.
        token: u64,
        /// Bytes taken.
        result: io::Result<usize>,
    },
    /// A connect ended.
    Connected {
        /// The caller's.
        token: u64,
        /// How.
        result: io::Result<()>,
    },
    /// A datagram came.
    Datagram {
        /// The caller's.
        token: u64,
        /// The sender, IPv4 as IPv4.
        from: SocketAddr,
        /// The payload; empty if it was longer than a jumbo frame (dropped).
        bytes: Bytes,
    },
    /// A socket gives no more datagrams.
    DatagramsEnded {
        /// The caller's.
        token: u64,
        /// Why.
        error: io::Error,
    },
    /// A segmented send failed: the viewer lost packets.
    SendFailed {
        /// Whose.
        destination: DestinationId,
        /// Why.
        error: io::Error,
    },
    /// An ICMP error of this destination.
    Unreachable {
        /// Where nobody listens.
        address: SocketAddr,
    },
    /// The kernel or a device refused segmented sends: packets go one by one from now on.
    SegmentationOff {
        /// The refusal.
        error: io::Error,
    },
    /// A read of a file ended.
    FileRead {
        /// The caller's.
        token: u64,
        /// The caller's buffer, the bytes at its end.
        buffer: BytesMut,
        /// Bytes added: as many as were wanted, or up to the file's end.
        result: io::Result<usize>,
    },
    /// A write to a file ended.
    FileWritten {
        /// The caller's.
        token: u64,
        /// All bytes, or the error; how many were written before the error is not told.
        result: io::Result<usize>,
    },
    /// A sync of a file ended.
    FileSynced {
        /// The caller's.
        token: u64,
        /// How.
        result: io::Result<()>,
    },
    /// A timer ran out.
    Timer,
}
