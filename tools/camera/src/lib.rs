//! A camera for tests and demonstrations: an RTSP server that plays a built-in picture or a file as any number of
//! mount points, in H.264 (RFC 6184) and H.265 (RFC 7798), interleaved in TCP or over UDP unicast, and that gets things
//! wrong when told to.
//!
//! **Run contract.** [`serve`] is a future: it binds, tells the URLs, serves until its `stop` resolves. [`start`] does the
//! same on a thread of its own and stops when its [`DemoCamera`] is dropped. [`start_demo`] is `start` with an H.264 camera
//! at `/cam0` and an H.265 camera at `/cam1`.
//!
//! **What a client sees.** Each RTSP session is its own RTP stream (own SSRC, sequence numbers, timestamps) that starts
//! with the picture's first IDR at the next tick of the mount point. Pictures are stamped in decoding order, so files with
//! B-frames keep their order but not their exact times, unless told to (`b_pictures`). The loop's end is not visible in sequence numbers and timestamps.
//! A session lives as long as its connection, over UDP too, and expires if 60 s pass without an RTSP request: receiver
//! reports are read and do not count.
//!
//! **Load.** A reel is packetized once and shared. A tick copies one access unit into a buffer, with headers, and hands it
//! to the socket in one write. Everything runs on one thread.
//!
//! **Stamps** for latency measurements are described in [`stamp`], faults in [`Faults`].
//!
//! This crate uses nothing of the server's data plane, so that it cannot share its mistakes.

mod auth;
mod clip;
mod config;
mod connection;
mod conversation;
mod demo;
mod faults;
mod link;
mod load;
mod nal;
mod packetizer;
mod reel;
mod rng;
mod rtp;
mod sdp;
mod server;
mod site;
pub mod stamp;
mod stream;

pub use config::{AuthScheme, CameraConfig, Codec, Codecs, Credentials, Filler, Load, Picture, Transports};
pub use demo::{DemoCamera, start, start_demo};
pub use faults::{
    ContentBase, Control, DialogueFaults, Endless, Faults, Head, Keepalive, Marker, MediaFaults, RtpInfo,
    SessionHeader, Tracks, TransportReply, seconds,
};
pub use server::serve;
