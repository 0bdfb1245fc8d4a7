//! The REST API over a data plane that only answers: every promise of the contract that needs no media.

#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod harness;
mod ice_tcp;
mod inputs;
mod log;
mod offers;
mod openapi;
mod recordings;
mod robustness;
mod server;
mod sessions;
mod streams;
mod utilities;
mod webrtc;
mod whep;
