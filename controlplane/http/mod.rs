//! HTTP itself: connections, routes, what a request may be, and how an error looks.

mod connection;
mod error;
mod extract;
mod lingering;
mod router;
mod server;

pub use connection::Connection;
pub use error::{ApiError, ErrorBody};
pub use extract::{ApiJson, ApiPath, Peer, read_text};
pub use router::{openapi_json, router};
pub use server::{ServerLimits, bind, serve};
pub(crate) use server::{pause_after, told};
