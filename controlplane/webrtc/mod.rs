//! WebRTC signalling: an offer in, a session on the stream's shard, an answer out.
//!
//! [`session`] is the walk. What it says of us comes from [`identity`] (drawn at random) and [`candidates`]; SDP itself
//! is `lanecast_webrtc::negotiation`. Viewers without UDP come in by [`serve_ice_tcp`].

mod candidates;
mod counters;
mod ice_tcp;
mod identity;
mod session;
mod stun_server;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use lanecast_webrtc::negotiation::{Candidate, Fingerprint};

use crate::shards::Shard;

use candidates::Candidates;
pub use candidates::Listening;
pub use counters::{Counters, TcpOutcome};
pub use ice_tcp::serve_ice_tcp;
pub use session::{Answered, OFFER_BYTES_MAX, Restarted, parse_offer};
pub use stun_server::follow_stun_server;

/// What all WebRTC sessions share.
#[derive(Debug)]
pub struct WebRtc {
    fingerprint: Fingerprint,
    candidates: Candidates,
    /// Per shard, what a STUN server saw of it.
    reflexive: Mutex<Vec<Option<SocketAddr>>>,
    /// Per shard: one ICE restart at a time, so that it and the registry see restarts in one order.
    restarting: Vec<tokio::sync::Mutex<()>>,
    counters: Counters,
}

impl WebRtc {
    /// For this certificate and these sockets, over this many shards.
    pub fn new(fingerprint: Fingerprint, listening: Listening, shards: usize) -> Self {
        Self {
            fingerprint,
            candidates: Candidates::new(listening),
            reflexive: Mutex::new(vec![None; shards]),
            restarting: (0..shards).map(|_| tokio::sync::Mutex::new(())).collect(),
            counters: Counters::default(),
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A STUN server sees this shard at this address now. True: that is new.
    pub fn set_reflexive(&self, shard: usize, address: Option<SocketAddr>) -> bool {
        let mut reflexive = self.reflexive.lock().unwrap_or_else(PoisonError::into_inner);
        reflexive.get_mut(shard).is_some_and(|known| std::mem::replace(known, address) != address)
    }

    /// Where this client may reach the shard, best first.
    fn candidates(&self, shard: &Shard, client: Option<IpAddr>) -> Vec<Candidate> {
        let reflexive = self.reflexive.lock().unwrap_or_else(PoisonError::into_inner);
        let reflexive = reflexive.get(shard.index()).copied().flatten();
        self.candidates.of_shard(shard.udp_port(), reflexive, client)
    }
}
