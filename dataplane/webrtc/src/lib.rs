//! Sans-IO: a WebRTC viewer, from its offer to its sealed packets.
//!
//! The control plane parses an offer and writes the answer ([`negotiation`]). The shard makes a [`peer::Peer`] of
//! what was negotiated and feeds it the viewer's datagrams: [`ice`] answers the checks ([`stun`]), [`dtls`] agrees on
//! keys, [`srtp`] seals what [`egress`] makes of the stream's shared runs, [`congestion`] judges what comes back.
//!
//! No clock and no socket: time is an argument, bytes go in, a small output enum comes out. Randomness of sessions
//! (ICE credentials, SSRCs) comes in with the configuration; only the DTLS handshake draws its own.

pub mod congestion;
pub mod dtls;
pub mod egress;
pub mod ice;
pub mod negotiation;
pub mod peer;
pub mod srtp;
pub mod stun;
