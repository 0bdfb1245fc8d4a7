//! Keeps the registry, the shards and the database in step.
//!
//! One change at a time: it is stored, then sent to the shard; a shard that does not take it has it
//! undone in the database. Handlers run changes by [`to_the_end`], so a client that leaves half-way
//! leaves nothing half-done. Everything here runs on the control thread; its locks are never waited for
//! across an `await` but for the one that orders changes.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lanecast_shard::{
    Command, Event, RecordingStatus, SessionError, SessionId, ShardStatistics, SlateStatus, StreamConfig,
    StreamId, StreamStatus,
};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use crate::catalog::Catalog;
use crate::config::SourceSettings;
use crate::definition::Definition;
use crate::http::ApiError;
use crate::registry::{IceSession, Registry, Stream};
use crate::shards::Shard;
use crate::source_id::SourceId;
use crate::store::{Store, StoredStream};
use crate::webrtc::WebRtc;

/// The state behind the API.
#[derive(Debug)]
pub struct ControlPlane {
    limits: Limits,
    source_settings: SourceSettings,
    shards: Vec<Shard>,
    registry: Mutex<Registry>,
    store: Store,
    catalog: Catalog,
    webrtc: WebRtc,
    /// Held over a change, so that the database, the registry and the shards see changes in one order.
    changing: tokio::sync::Mutex<()>,
    look_ups: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
    shards_alive: watch::Sender<usize>,
}

/// Bounds that the operator set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of a request's body in bytes.
    pub body_bytes: usize,
    /// Of WSC-RTP sessions at a time.
    pub wsc_sessions: usize,
    /// Of WebRTC sessions at a time.
    pub webrtc_sessions: usize,
    /// Of WebRTC sessions of one stream.
    pub webrtc_sessions_per_stream: usize,
}

impl Limits {
    fn check_wsc(self, registry: &Registry) -> Result<(), ApiError> {
        match registry.session_count() - registry.webrtc_session_count() < self.wsc_sessions {
            true => Ok(()),
            false => Err(ApiError::too_many_sessions("The server", self.wsc_sessions)),
        }
    }

    fn check_webrtc(self, registry: &Registry, stream: StreamId) -> Result<(), ApiError> {
        if registry.webrtc_session_count() >= self.webrtc_sessions {
            return Err(ApiError::too_many_sessions("The server", self.webrtc_sessions));
        }
        let of_stream = registry.stream(stream).map_or(0, |stream| stream.webrtc_viewers);
        match of_stream < self.webrtc_sessions_per_stream {
            true => Ok(()),
            false => Err(ApiError::too_many_sessions("A stream", self.webrtc_sessions_per_stream)),
        }
    }
}

impl ControlPlane {
    /// Over these shards, this database and this catalogue, with no streams yet; see [`ControlPlane::restore`].
    pub fn new(
        limits: Limits,
        source_settings: SourceSettings,
        shards: Vec<Shard>,
        store: Store,
        catalog: Catalog,
        webrtc: WebRtc,
    ) -> Arc<Self> {
        Arc::new(Self {
            limits,
            source_settings,
            registry: Mutex::new(Registry::new(shards.len())),
            shards_alive: watch::Sender::new(shards.len()),
            shards,
            store,
            catalog,
            webrtc,
            changing: tokio::sync::Mutex::new(()),
            look_ups: Arc::new(Semaphore::new(LOOK_UPS_MAX)),
            stopping: watch::Sender::new(false),
        })
    }

    /// Bounds that the operator set.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What all sources have in common.
    pub fn source_settings(&self) -> &SourceSettings {
        &self.source_settings
    }

    /// Whoever looks a name up holds one of these meanwhile.
    pub(crate) fn look_ups(&self) -> Arc<Semaphore> {
        self.look_ups.clone()
    }

    /// What all WebRTC sessions share.
    pub fn webrtc(&self) -> &WebRtc {
        &self.webrtc
    }

    /// What is recorded.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The registry. Never hold it over an `await`.
    pub fn registry(&self) -> MutexGuard<'_, Registry> {
        // A panic of another request left plain data behind, which is still the best there is.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True from the moment the server is told to stop.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Becomes true when the server is told to stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    // Streams.

    /// Starts the streams of the database.
    pub async fn restore(&self, streams: Vec<StoredStream>) -> Result<(), ApiError> {
        let _changing = self.changing.lock().await;
        for StoredStream { source_id, definition } in streams {
            self.start(source_id, definition, true).await?;
        }
        Ok(())
    }

    /// Starts a stream that lives as long as the process; false if the id is taken.
    pub async fn add_unstored(&self, source_id: SourceId, definition: Definition) -> Result<bool, ApiError> {
        let _changing = self.changing.lock().await;
        if self.registry().find(&source_id.to_string()).is_some() {
            return Ok(false);
        }
        self.start(source_id, definition, false).await.map(|_| true)
    }

    /// Stores and starts a new stream.
    pub async fn create(&self, source_id: SourceId, definition: Definition) -> Result<StreamId, ApiError> {
        let _changing = self.changing.lock().await;
        self.check_room_for(&source_id)?;
        self.store.put(source_id.clone(), definition.clone()).await?;
        let started = self.start(source_id.clone(), definition, true).await;
        if started.is_err() {
            self.store.delete(source_id).await?;
        }
        started
    }

    /// Stores and applies what is wanted of a stream now; `change` makes it from what was wanted.
    pub async fn update(
        &self,
        path_text: &str,
        change: impl FnOnce(&Stream) -> Result<Definition, ApiError>,
    ) -> Result<StreamId, ApiError> {
        let _changing = self.changing.lock().await;
        let (id, before) = self.stream(path_text)?;
        let definition = change(&before)?;
        if before.stored {
            self.store.put(before.source_id.clone(), definition.clone()).await?;
        }
        self.registry().redefine(id, definition.clone());
        let config = self.stream_config(&before.source_id, &definition).await;
        let command = Command::UpdateStream { stream: id, config };
        if self.shard(before.shard)?.deliver(command).await.is_err() {
            self.registry().redefine(id, before.definition.clone());
            if before.stored {
                self.store.put(before.source_id, before.definition).await?;
            }
            return Err(ApiError::busy("the shard of the stream is busy"));
        }
        info!(stream = %before.source_id, "stream changed");
        Ok(id)
    }

    /// Ends a stream and its sessions, and forgets it.
    pub async fn remove(&self, path_text: &str) -> Result<(), ApiError> {
        let _changing = self.changing.lock().await;
        let (id, stream) = self.stream(path_text)?;
        if stream.stored {
            self.store.delete(stream.source_id.clone()).await?;
        }
        let command = Command::RemoveStream { stream: id };
        if self.shard(stream.shard)?.deliver(command).await.is_err() && self.registry().shards_alive() > 0 {
            if stream.stored {
                self.store.put(stream.source_id, stream.definition).await?;
            }
            return Err(ApiError::busy("the shard of the stream is busy"));
        }
        self.registry().remove(id);
        info!(stream = %stream.source_id, "stream removed");
        Ok(())
    }

    /// A copy of the stream that a path calls by this text.
    pub fn stream(&self, path_text: &str) -> Result<(StreamId, Stream), ApiError> {
        let registry = self.registry();
        let (id, stream) = registry.find(path_text).ok_or_else(|| ApiError::unknown_stream(path_text))?;
        Ok((id, stream.clone()))
    }

    fn check_room_for(&self, source_id: &SourceId) -> Result<(), ApiError> {
        if self.is_stopping() {
            return Err(ApiError::busy("the server is stopping"));
        }
        let registry = self.registry();
        if registry.find(&source_id.to_string()).is_some() {
            return Err(ApiError::duplicate_source_id(source_id));
        }
        match registry.stream_count() < STREAMS_MAX {
            true => Ok(()),
            false => Err(ApiError::too_many_streams(STREAMS_MAX)),
        }
    }

    async fn start(
        &self,
        source_id: SourceId,
        definition: Definition,
        stored: bool,
    ) -> Result<StreamId, ApiError> {
        let config = self.stream_config(&source_id, &definition).await;
        let placed = self.registry().insert(source_id.clone(), definition, stored);
        let id = placed.ok_or_else(|| ApiError::busy("no shard runs"))?;
        let shard = self.registry().stream(id).map_or(0, |stream| stream.shard);
        if self.shard(shard)?.deliver(Command::AddStream { stream: id, config }).await.is_err() {
            self.registry().remove(id);
            return Err(ApiError::busy("the shard of the stream is busy"));
        }
        info!(stream = %source_id, shard, "stream added");
        Ok(id)
    }

    async fn stream_config(&self, source_id: &SourceId, definition: &Definition) -> Box<StreamConfig> {
        let prepared = self.prepare(source_id, definition).await;
        Box::new(StreamConfig {
            source: definition.source_config(&self.source_settings),
            source_number: source_id.source_number(),
            name: source_id.to_string(),
            record: definition.should_record,
            tls: prepared.tls,
            foreign: prepared.foreign,
        })
    }

    /// A shard by index.
    pub fn shard(&self, index: usize) -> Result<&Shard, ApiError> {
        self.shards.get(index).ok_or_else(|| ApiError::internal(format!("there is no shard {index}")))
    }

    // Sessions.

    /// Counts a session in, one of WebRTC where it comes with `ice`. It is there from now on, whether or not its shard
    /// has it yet.
    pub fn open_session(
        &self,
        session: SessionId,
        stream: StreamId,
        ice: Option<Box<IceSession>>,
    ) -> Result<(), ApiError> {
        let mut registry = self.registry();
        if self.is_stopping() {
            return Err(ApiError::busy("the server is stopping"));
        }
        if registry.shards_alive() == 0 {
            return Err(ApiError::busy("no shard runs"));
        }
        match ice {
            Some(_) => self.limits.check_webrtc(&registry, stream)?,
            None => self.limits.check_wsc(&registry)?,
        }
        match registry.open_session(session, stream, ice) {
            true => Ok(()),
            false => Err(ApiError::busy("the stream has just been removed")),
        }
    }

    /// What a session's shard says of it, as the API says it.
    pub fn session_error(&self, session: SessionId, error: SessionError) -> ApiError {
        match error {
            SessionError::Unknown | SessionError::NotWebRtc => ApiError::unknown_session(session),
            SessionError::NotRecorded => match self.registry().session_stream(session) {
                Some((_, stream)) => ApiError::not_recorded(&stream.source_id),
                None => ApiError::unknown_session(session),
            },
            SessionError::Unreadable => ApiError::unreadable(),
            SessionError::Live => ApiError::session_is_live(),
            SessionError::Full => ApiError::busy("the shard of the session is full"),
        }
    }

    /// The shard of a session, if the session is still there.
    pub fn session_shard(&self, session: SessionId) -> Option<Shard> {
        let registry = self.registry();
        let (_, stream) = registry.session_stream(session)?;
        self.shards.get(stream.shard).cloned()
    }

    // Shards.

    /// The shards that have not ended.
    pub fn living_shards(&self) -> Vec<Shard> {
        let registry = self.registry();
        self.shards.iter().filter(|shard| registry.is_shard_alive(shard.index())).cloned().collect()
    }

    /// False once a shard has failed.
    pub fn all_shards_alive(&self) -> bool {
        !self.shards.is_empty() && self.registry().shards_alive() == self.shards.len()
    }

    /// The counters of every shard; `None` from one that does not answer.
    pub async fn statistics(&self) -> Vec<(usize, Option<ShardStatistics>)> {
        let questions: Vec<_> = self
            .shards
            .iter()
            .cloned()
            .map(|shard| {
                tokio::spawn(async move { shard.ask(|reply| Command::ReadStatistics { reply }).await.ok() })
            })
            .collect();
        let mut answers = Vec::with_capacity(questions.len());
        for (index, question) in questions.into_iter().enumerate() {
            answers.push((index, question.await.ok().flatten()));
        }
        answers
    }

    /// Takes one event of a shard. Never blocks: name look-ups run on their own.
    pub fn handle_event(self: &Arc<Self>, event: Event) {
        match event {
            Event::StreamChanged { stream, status } => self.handle_status(stream, status),
            Event::SessionEnded { session, reason, .. } => {
                self.registry().close_session(session);
                debug!(%session, reason, "session ended");
            }
            Event::Resolve { stream, question, host, port } => {
                tokio::spawn(self.clone().resolve(stream, question, host, port));
            }
            Event::Reflexive { shard, address } => {
                if self.webrtc.set_reflexive(shard, address) {
                    info!(shard, ?address, "the STUN server sees the shard at another address");
                }
            }
            Event::OpenSegment { stream, ticket, start_unix_ms, codec } => {
                self.open_segment(stream, ticket, start_unix_ms, codec);
            }
            Event::SegmentClosed { closed, .. } => self.catalog.close_segment(closed),
            Event::Locate { shard, request, stream, wanted } => self.locate(shard, request, stream, wanted),
            Event::SegmentDamaged { segment, reason, .. } => {
                self.note_damaged(segment, reason);
            }
            Event::Stopped { shard } => self.handle_stopped(shard),
        }
    }

    fn handle_status(&self, id: StreamId, mut status: StreamStatus) {
        let mut registry = self.registry();
        let Some(stream) = registry.stream(id) else { return };
        status.reason = status.reason.map(|reason| stream.definition.without_secrets(&reason));
        if let RecordingStatus::Failed(reason) = &mut status.recording {
            *reason = stream.definition.without_secrets(reason);
        }
        if let SlateStatus::Failed(reason) = &mut status.slate {
            *reason = stream.definition.without_secrets(reason);
        }
        let name = stream.source_id.to_string();
        // The shard has logged it; this line tells when the API began to show it.
        let (state, recording) = (status.state, &status.recording);
        debug!(stream = name, ?state, reason = status.reason, ?recording, "stream changed its state");
        registry.set_status(id, status);
    }

    /// Answers a shard's question for the addresses of a name, in the order of the system's resolver; where one of them is
    /// denied, there are none.
    async fn resolve(self: Arc<Self>, stream: StreamId, question: u64, host: String, port: u16) {
        // Closed never: the semaphore lives as long as the control plane.
        let Ok(_permit) = self.look_ups.acquire().await else { return };
        let addresses = match timeout(LOOK_UP_TIMEOUT, look_up(&host, port)).await {
            Ok(addresses) => addresses.and_then(|addresses| {
                let checked = self.source_settings.reach.check_addresses(&addresses);
                checked.map(|()| addresses).map_err(|refusal| format!("the name {host} {refusal}"))
            }),
            Err(_) => Err(format!("the name {host} was not resolved in {} s", LOOK_UP_TIMEOUT.as_secs())),
        };
        let shard = self.registry().stream(stream).map(|stream| stream.shard);
        let Some(Ok(shard)) = shard.map(|shard| self.shard(shard)) else { return };
        if shard.deliver(Command::Resolved { stream, question, addresses }).await.is_err() {
            warn!(shard = shard.index(), "a shard took no answer to its look-up");
        }
    }

    /// A shard ended: as told, or by a fault. Its streams then go on elsewhere.
    fn handle_stopped(self: &Arc<Self>, shard: usize) {
        let moved = self.registry().lose_shard(shard);
        self.webrtc.set_reflexive(shard, None);
        self.shards_alive.send_replace(self.registry().shards_alive());
        if self.is_stopping() {
            debug!(shard, "shard stopped");
            return;
        }
        error!(shard, streams = moved.len(), "a shard failed; its streams move");
        tokio::spawn(self.clone().restart(moved));
    }

    async fn restart(self: Arc<Self>, streams: Vec<StreamId>) {
        let _changing = self.changing.lock().await;
        for id in streams {
            let Some(stream) = self.registry().stream(id).cloned() else { continue };
            let config = self.stream_config(&stream.source_id, &stream.definition).await;
            let Ok(shard) = self.shard(stream.shard) else { continue };
            if shard.deliver(Command::AddStream { stream: id, config }).await.is_err() {
                error!(stream = %stream.source_id, shard = stream.shard, "a stream could not be moved");
            }
        }
    }

    /// Returns when no shard is left.
    pub async fn all_shards_lost(&self) {
        // Closed never: the sender is ours.
        let _ = self.shards_alive.subscribe().wait_for(|alive| *alive == 0).await;
    }

    // The end.

    /// Refuses what is new from now on.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Tells every shard to end its sessions and cameras and waits until they have. False: not in time.
    pub async fn stop_shards(&self, patience: Duration) -> bool {
        let stopped = async {
            for shard in &self.shards {
                // One that takes no command is either gone or stuck: the wait below tells.
                let _ = shard.deliver(Command::Shutdown).await;
            }
            self.all_shards_lost().await;
        };
        timeout(patience, stopped).await.is_ok()
    }

    /// Closes the catalogue and the database after their last writes. Blocks. Nothing else may hold the control plane.
    pub fn close(self) {
        self.catalog.close();
        self.store.close();
    }
}

/// All 128 bits are random: it is a token first, and only written as a UUID.
pub(crate) fn random_session() -> Result<SessionId, ApiError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(SessionId::from_bytes(bytes))
}

/// Runs a change to its end even if the client that asked for it leaves.
pub async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(change)
        .await
        .unwrap_or_else(|fault| Err(ApiError::internal(format!("a change broke: {fault}"))))
}

/// The addresses of a name, in the order of the system's resolver, or why there are none.
pub(crate) async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    // Url keeps the brackets of an IPv6 literal, the resolver wants none.
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(|error| error.to_string())?;
    let addresses: Vec<SocketAddr> = addresses.take(ADDRESSES_MAX).collect();
    match addresses.is_empty() {
        true => Err(format!("the name {host} has no address")),
        false => Ok(addresses),
    }
}

/// Each has a source, a GOP cache and a connection; far beyond what a machine can carry.
const STREAMS_MAX: usize = 10_000;
/// Look-ups under way; the system's resolver blocks a thread for each.
const LOOK_UPS_MAX: usize = 8;
/// The resolver's own patience is longer than a camera's operator has.
pub(crate) const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// A name with more addresses is no camera.
const ADDRESSES_MAX: usize = 16;
