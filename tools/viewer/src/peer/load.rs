//! Thousands of light peers: what `load.rs` of the crate does, with WebRTC viewers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::interrupt::Interrupt;
use crate::load::{Load, run_parties};
use crate::peer::Exchange;
use crate::peer::crowd::{PeerCrowd, Plan};
use crate::peer::dtls::{Identity, SrtpOffer};
use crate::peer::light::Conduct;
use crate::receive::SocketOptions;
use crate::summary::Summary;

/// What is asked of the peers of a load.
pub struct PeerLoad {
    /// How descriptions are exchanged: [`crate::peer::whep::Whep`], or another server's way.
    pub exchange: Arc<dyn Exchange>,
    /// In how many threads, beside each of the load's own.
    pub signalling_threads: usize,
    /// Which SRTP profiles they offer.
    pub srtp: SrtpOffer,
    /// How they behave.
    pub conduct: Conduct,
    /// How media sockets are made.
    pub socket_options: SocketOptions,
    /// A viewer with no packet after this long has failed.
    pub join_timeout: Duration,
}

/// Runs it to its end, or to an interrupt.
///
/// # Errors
/// As [`run_parties`], and when no certificate can be made.
pub fn run(load: Load, peers: PeerLoad, interrupt: &Interrupt) -> Result<Summary> {
    let plan = Plan {
        exchange: peers.exchange,
        signalling_threads: peers.signalling_threads,
        identity: Arc::new(Identity::new(peers.srtp).map_err(|cause| anyhow!(cause))?),
        conduct: Arc::new(peers.conduct),
        socket_options: peers.socket_options,
        join_timeout: peers.join_timeout,
    };
    run_parties(load, |roster, progress| PeerCrowd::new(plan.clone(), roster, progress), interrupt)
}
