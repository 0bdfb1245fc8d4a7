//! Between what a client says of a stream's inputs and what a shard gets: where they lead is checked, and what only the
//! control plane can make of them is made.
//!
//! A client is told what is wrong with the inputs that it names. A stream that was accepted once starts in any case: what
//! is wrong with an input by then (a file that is outside by now, a CA file that is gone) is that input's fault only.

use std::net::SocketAddr;
use std::sync::Arc;

use lanecast_shard::InputKind;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout_at};
use tracing::warn;
use url::Url;

use crate::api::Draft;
use crate::control_plane::{ControlPlane, LOOK_UP_TIMEOUT, look_up};
use crate::definition::{Definition, InputDefinition};
use crate::http::ApiError;
use crate::reach::{Reach, Refusal};
use crate::source_id::SourceId;
use crate::source_url::foreign;
use crate::tls::{TlsTrust, client_config, refusing_config};

/// What a shard gets beside the source's configuration, as many as there are inputs.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) tls: Vec<Option<Arc<rustls::ClientConfig>>>,
    pub(crate) foreign: Vec<Option<Url>>,
}

impl ControlPlane {
    /// Checks where the inputs lead that a body names, as far as that can be known now: a name that does not resolve is no
    /// fault, and is checked when it does.
    ///
    /// # Errors
    /// 422, naming the field and the rule.
    pub async fn check_inputs(&self, draft: &Draft) -> Result<(), ApiError> {
        let reach = &self.source_settings().reach;
        let mut names = Vec::new();
        for changed in &draft.changed {
            let Some(input) = draft.definition.inputs.get(changed.index) else { continue };
            let name =
                reach.check_host(&input.url).map_err(|refusal| refusal.of_field(&changed.url_field))?;
            names.extend(name.map(|name| (changed.url_field.clone(), name.to_owned())));
        }
        let (files, reach) = (draft.clone(), reach.clone());
        to_its_end(move || check_files(&files, &reach)).await??;
        self.check_names(names).await
    }

    /// Looks all names up at once, for [`LOOK_UP_TIMEOUT`] at most.
    async fn check_names(&self, names: Vec<(String, String)>) -> Result<(), ApiError> {
        let deadline = Instant::now() + LOOK_UP_TIMEOUT;
        let mut look_ups = JoinSet::new();
        for (field, name) in names {
            let permits = self.look_ups();
            look_ups.spawn(async move {
                let looked_up = async {
                    // Closed never: the semaphore lives as long as the control plane.
                    let _permit = permits.acquire_owned().await;
                    look_up(&name, ANY_PORT).await.unwrap_or_default()
                };
                (field, timeout_at(deadline, looked_up).await.unwrap_or_default())
            });
        }
        while let Some(answer) = look_ups.join_next().await {
            let (field, addresses): (String, Vec<SocketAddr>) =
                answer.map_err(|fault| ApiError::internal(format!("a look-up broke: {fault}")))?;
            let checked = self.source_settings().reach.check_addresses(&addresses);
            checked.map_err(|refusal| refusal.of_field(&field))?;
        }
        Ok(())
    }

    /// What a shard needs for these inputs. Of an input that cannot be used the log says why; one
    /// of RTSPS gets what lets its state say it, too.
    pub(crate) async fn prepare(&self, source_id: &SourceId, definition: &Definition) -> Prepared {
        let inputs = &definition.inputs;
        if inputs.iter().all(|input| input.kind() == InputKind::Rtsp && !input.speaks_tls()) {
            return Prepared { tls: vec![None; inputs.len()], foreign: vec![None; inputs.len()] };
        }
        let (name, inputs, reach) =
            (source_id.to_string(), inputs.clone(), self.source_settings().reach.clone());
        let count = inputs.len();
        let prepared = to_its_end(move || prepare_all(&name, &inputs, &reach)).await;
        prepared.unwrap_or_else(|_| Prepared { tls: vec![None; count], foreign: vec![None; count] })
    }
}

/// Runs what blocks for as long as a file system does.
async fn to_its_end<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    spawn_blocking(work).await.map_err(|fault| ApiError::internal(format!("a check broke: {fault}")))
}

fn check_files(draft: &Draft, reach: &Reach) -> Result<(), ApiError> {
    for changed in &draft.changed {
        let Some(input) = draft.definition.inputs.get(changed.index) else { continue };
        if input.url.scheme() == "file" {
            reach.check_file(&input.url).map_err(|refusal| refusal.of_field(&changed.url_field))?;
        }
        if input.speaks_tls() {
            let fault = |error| ApiError::refused_input("invalid_value", &changed.tls_field, error);
            client_config(Some(&input.tls)).map_err(|error| fault(format!("cannot be used: {error}")))?;
        }
    }
    Ok(())
}

fn prepare_all(stream: &str, inputs: &[InputDefinition], reach: &Reach) -> Prepared {
    let mut prepared = Prepared::default();
    for input in inputs {
        let says = |reason: String| warn!(stream, input = input.label, reason, "an input cannot be used");
        let tls = input.speaks_tls().then(|| {
            client_config(Some(&input.tls)).or_else(|error| {
                says(error.to_string());
                refusing_config(&error)
            })
        });
        prepared.tls.push(tls.and_then(Result::ok));
        let foreign = (input.kind() == InputKind::Foreign).then(|| foreign_url(input, reach));
        prepared.foreign.push(foreign.and_then(|url| url.map_err(|error| says(error.to_string())).ok()));
    }
    if inputs.iter().any(|input| input.speaks_tls() && input.tls == TlsTrust::Insecure) {
        warn!(
            stream,
            "insecure: whoever answers in the place of the camera is believed, and gets its password"
        );
    }
    prepared
}

/// What a worker opens. A file goes by its true path, so that a link that changes later leads nowhere else.
fn foreign_url(input: &InputDefinition, reach: &Reach) -> Result<Url, Refusal> {
    reach.check_host(&input.url)?;
    if input.url.scheme() == "file" {
        let path = reach.check_file_again(&input.url)?;
        return Url::from_file_path(path).map_err(|()| Refusal::NoFile);
    }
    Ok(foreign(&input.url, input.credentials().as_ref()))
}

/// Only the address counts.
const ANY_PORT: u16 = 0;
