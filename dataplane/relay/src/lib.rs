//! Sans-IO: a source, its stream and its viewers.
//!
//! The live walk, in file order: [`source`] drives the camera's dialogue and gives packets in order; [`stream`]
//! depacketizes them, puts them on one [`timeline`], makes packets of one size ([`packetizer`]), keeps the newest
//! ([`gop`]) and says who gets which ([`fanout`]).
//!
//! Nothing here reads a clock or opens a socket: time is an argument, and what should be done comes back
//! as a small enum.

pub mod access_unit;
pub mod fanout;
pub mod gop;
pub mod packetizer;
pub mod source;
mod squeeze;
pub mod stitcher;
pub mod stream;
pub mod timeline;
