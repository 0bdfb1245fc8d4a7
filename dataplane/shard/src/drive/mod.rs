//! Sockets ⇄ sans-IO machines, one driver a kind.

pub(crate) mod camera;
pub(crate) mod ice_tcp;
pub(crate) mod playback;
pub(crate) mod recording;
pub(crate) mod scratch;
pub(crate) mod tls;
pub(crate) mod viewer;
pub(crate) mod websocket;
