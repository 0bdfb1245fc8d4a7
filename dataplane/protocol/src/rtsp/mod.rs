//! RTSP 1.0 client side (RFC 2326): text, interleaved framing, authentication, and the dialogue.

mod auth;
mod client;
mod interleaved;
mod random;

pub use client::{
    Client, ClientConfig, ClientError, ClientOutput, ClientStatistics, Credentials, TransportPreference,
};
pub use interleaved::{Frame, FrameError, Frames};
pub use random::SplitMix64;
