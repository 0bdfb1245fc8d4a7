//! A request's body that is read to its end even where its handler does not care.
//!
//! A client that still sends when the connection closes gets a reset, which may take the answer with it.
//! So what is left of a body is read and dropped in the background, within bounds.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::timeout;

/// A body that is not left half-read.
#[derive(Debug)]
pub struct Lingering(Option<Incoming>);

impl Lingering {
    /// Around what comes over a connection.
    pub fn new(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        // Without a runtime the server has ended, and its connections with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(timeout(TIME_MAX, Limited::new(body, BYTES_MAX).collect()));
        }
    }
}

/// Who sends longer than this after the answer does not read it anyway.
const TIME_MAX: Duration = Duration::from_secs(2);
/// Bodies that anybody sends by mistake are smaller.
const BYTES_MAX: usize = 16 << 20;
