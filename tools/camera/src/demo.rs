//! Cameras on a thread of their own, for programs that are not built on tokio and for tests.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use anyhow::Context;
use tokio::sync::oneshot;

use crate::config::{CameraConfig, Codecs};
use crate::server::Server;

/// Running cameras. They stop when this is dropped.
#[derive(Debug)]
pub struct DemoCamera {
    urls: Vec<String>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl DemoCamera {
    /// The mount points' RTSP URLs.
    pub fn urls(&self) -> Vec<String> {
        self.urls.clone()
    }
}

impl Drop for DemoCamera {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the camera's thread panicked");
        }
    }
}

/// Serves the embedded picture on `bind`: H.264 at `/cam0`, H.265 at `/cam1`. Clients can connect when this returns.
///
/// # Errors
/// The address cannot be bound, or no thread can be started.
pub fn start_demo(bind: SocketAddr) -> anyhow::Result<DemoCamera> {
    start(CameraConfig {
        bind,
        names: CameraConfig::numbered_names(2),
        codecs: Codecs::Both,
        ..CameraConfig::default()
    })
}

/// Serves `config` on a thread of its own. Clients can connect when this returns.
///
/// # Errors
/// Those of [`crate::serve`], or no thread can be started.
pub fn start(config: CameraConfig) -> anyhow::Result<DemoCamera> {
    let server = Server::bind(config)?;
    let urls = server.urls();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serve = move || {
        let stopped = async {
            // Nothing is ever sent: the sender is dropped.
            let _ = stopped.await;
        };
        if let Err(error) = runtime.block_on(server.run(stopped)) {
            tracing::error!(%error, "the camera stopped");
        }
    };
    let thread =
        std::thread::Builder::new().name("camera".into()).spawn(serve).context("cannot start a thread")?;
    Ok(DemoCamera { urls, stop: Some(stop), thread: Some(thread) })
}
