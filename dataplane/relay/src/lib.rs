//! Sans-IO: a source, its stream and its viewers.
//!
//! The live walk, in file order: [`source`] drives the camera's dialogue and gives packets in order.
//! Nothing here reads a clock or opens a socket: time is an argument, and what should be done comes back
//! as a small enum.

pub mod source;
