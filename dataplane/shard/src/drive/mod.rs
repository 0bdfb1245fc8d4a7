//! Sockets ⇄ sans-IO machines, one driver a kind.

pub(crate) mod camera;
pub(crate) mod viewer;
pub(crate) mod websocket;
