//! A WSC-RTP and WebRTC client for tests and measurements: one viewer that writes down what it gets, or thousands in one process,
//! each of which checks it.
//!
//! It shares no code with the server, so that it cannot share its mistakes. From the outside in:
//!
//! - `main.rs` reads the command line; [`watch`] is one viewer, [`load`] is many, [`summary`] is what they say at the end.
//! - [`crowd`] is one thread's viewers around one epoll; [`viewer`] is one of them: a WebSocket, a UDP socket and two machines.
//! - [`session`] is the machine of the signalling, [`reception`] that of the media; neither has a socket or a clock.
//! - [`signalling`] and [`receive`] are the sockets; [`message`], [`punch`], [`rtp`], [`nal`] and [`stamp`] read what comes;
//!   [`continuity`] judges it; [`depacketize`] and [`elementary`] write it out.
//! - [`rewind`] takes viewers back in time.
//! - [`peer`] is a viewer by WebRTC instead; it shares what is behind the transport.
//! - [`process`] and [`drops`] ask the kernel what this process cost and what its sockets lost; [`clock`] is its clock and [`interrupt`] its signals.

pub mod clock;
pub mod continuity;
pub mod crowd;
pub mod depacketize;
pub mod drops;
pub mod elementary;
pub mod interrupt;
pub mod load;
pub mod message;
pub mod nal;
pub mod peer;
pub mod process;
pub mod punch;
pub mod receive;
pub mod reception;
pub mod rewind;
pub mod rtp;
pub mod session;
pub mod signalling;
pub mod stamp;
pub mod summary;
pub mod viewer;
pub mod watch;
