//! The control plane: REST, signalling and the program.
//!
//! One thread holds all of it. `main` reads a [`config::Config`], opens the [`store::Store`] and the [`catalog::Catalog`],
//! starts the shards and makes a [`control_plane::ControlPlane`] over them; [`http::router`] is the API on top and
//! [`http::serve`] runs it. Resources and verbs are in [`api`], one file each. Media never passes here: a
//! viewer's socket, or what was negotiated with it ([`webrtc`]), is handed to its shard by one `Command`, and what happens there comes back as an `Event`.

pub mod api;
pub mod catalog;
pub mod config;
pub mod control_plane;
pub mod definition;
pub mod http;
pub mod log;
pub mod recording;
pub mod registry;
pub mod shards;
pub mod shown_url;
pub mod source_id;
pub mod store;
pub mod tls;
pub mod webrtc;
