//! Which streams and sessions there are: stream id → shard, wanted and actual state.
//!
//! Plain data; it sends nothing and stores nothing. `control_plane` keeps it, the shards and the database in step.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;

use lanecast_protocol::wsc::StreamState;
use lanecast_shard::{SessionId, StreamId, StreamStatus};
use lanecast_webrtc::ice::IceCredentials;
use tokio::sync::Notify;

use crate::definition::Definition;
use crate::source_id::SourceId;

/// All streams and sessions.
#[derive(Debug)]
pub struct Registry {
    streams: BTreeMap<StreamId, Stream>,
    by_path_text: HashMap<String, StreamId>,
    sessions: HashMap<SessionId, Session>,
    /// Those of WebRTC by stream, the oldest first.
    webrtc: BTreeMap<(StreamId, u64), SessionId>,
    next_stream: u64,
    next_session: u64,
    shards_alive: Vec<bool>,
}

/// A stream, as wanted and as it is.
#[derive(Clone, Debug)]
pub struct Stream {
    /// What the operator calls it.
    pub source_id: SourceId,
    /// What the operator wants of it.
    pub definition: Definition,
    /// How it is.
    pub status: StreamStatus,
    /// Index of its shard.
    pub shard: usize,
    /// Whether it is in the database.
    pub stored: bool,
    /// Its sessions now.
    pub viewers: usize,
    /// Those of them that are by WebRTC.
    pub webrtc_viewers: usize,
    /// Told whenever `status` changes, and when the stream is gone.
    pub changed: Arc<Notify>,
}

/// How a viewer is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// Raw RTP beside a WebSocket.
    WscRtp,
    /// WebRTC.
    WebRtc,
}

/// What both sides of a WebRTC session agreed on last: a trickled candidate or an ICE restart is held against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceSession {
    /// Our ufrag; no other ICE session has it, so it is the entity tag too.
    pub ufrag: String,
    /// The viewer's credentials.
    pub remote: IceCredentials,
    /// The mid of the section that carries media.
    pub mid: String,
}

/// A viewer's session.
#[derive(Debug)]
struct Session {
    stream: StreamId,
    number: u64,
    /// Of WebRTC.
    ice: Option<Box<IceSession>>,
}

impl Session {
    fn kind(&self) -> SessionKind {
        match self.ice {
            Some(_) => SessionKind::WebRtc,
            None => SessionKind::WscRtp,
        }
    }
}

impl Registry {
    /// Without streams, over this many living shards.
    pub fn new(shards: usize) -> Self {
        Self {
            streams: BTreeMap::new(),
            by_path_text: HashMap::new(),
            sessions: HashMap::new(),
            webrtc: BTreeMap::new(),
            next_stream: 0,
            next_session: 0,
            shards_alive: vec![true; shards],
        }
    }

    /// All streams, oldest first.
    pub fn streams(&self) -> impl Iterator<Item = (StreamId, &Stream)> {
        self.streams.iter().map(|(id, stream)| (*id, stream))
    }

    /// How many streams there are.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// How many sessions there are, of all kinds.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// How many of them are by WebRTC.
    pub fn webrtc_session_count(&self) -> usize {
        self.webrtc.len()
    }

    /// The stream that a path calls by this text.
    pub fn find(&self, path_text: &str) -> Option<(StreamId, &Stream)> {
        let id = *self.by_path_text.get(path_text)?;
        Some((id, self.streams.get(&id)?))
    }

    /// A stream by number.
    pub fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(&id)
    }

    /// Puts a new stream on the least loaded shard. `None`: no shard lives, or the id is taken.
    pub fn insert(&mut self, source_id: SourceId, definition: Definition, stored: bool) -> Option<StreamId> {
        let path_text = source_id.to_string();
        if self.by_path_text.contains_key(&path_text) {
            return None;
        }
        let shard = self.least_loaded()?;
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        let stream = Stream {
            status: beginning(&definition),
            source_id,
            definition,
            shard,
            stored,
            viewers: 0,
            webrtc_viewers: 0,
            changed: Arc::default(),
        };
        self.streams.insert(id, stream);
        self.by_path_text.insert(path_text, id);
        Some(id)
    }

    /// Replaces what is wanted of a stream; gives what was wanted before.
    pub fn redefine(&mut self, id: StreamId, definition: Definition) -> Option<Definition> {
        let stream = self.streams.get_mut(&id)?;
        Some(std::mem::replace(&mut stream.definition, definition))
    }

    /// Takes a stream and its sessions out.
    pub fn remove(&mut self, id: StreamId) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        self.by_path_text.remove(&stream.source_id.to_string());
        self.forget_sessions(id);
        stream.changed.notify_waiters();
        Some(stream)
    }

    /// How a stream is now.
    pub fn set_status(&mut self, id: StreamId, status: StreamStatus) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.status = status;
            stream.changed.notify_waiters();
        }
    }

    /// A session begins, by WebRTC where it comes with `ice`. False: its stream is gone.
    pub fn open_session(&mut self, session: SessionId, id: StreamId, ice: Option<Box<IceSession>>) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let number = self.next_session;
        self.next_session += 1;
        stream.viewers += 1;
        if ice.is_some() {
            stream.webrtc_viewers += 1;
            self.webrtc.insert((id, number), session);
        }
        self.sessions.insert(session, Session { stream: id, number, ice });
        true
    }

    /// A session is over. False: it was already.
    pub fn close_session(&mut self, session: SessionId) -> bool {
        let Some(ended) = self.sessions.remove(&session) else { return false };
        let was_webrtc = self.webrtc.remove(&(ended.stream, ended.number)).is_some();
        if let Some(stream) = self.streams.get_mut(&ended.stream) {
            stream.viewers -= 1;
            stream.webrtc_viewers -= usize::from(was_webrtc);
        }
        true
    }

    /// The WebRTC sessions of a stream, the oldest first.
    pub fn webrtc_sessions(&self, id: StreamId) -> impl Iterator<Item = SessionId> {
        self.webrtc.range(all_of(id)).map(|(_, session)| *session)
    }

    /// How a session is served.
    pub fn session_kind(&self, session: SessionId) -> Option<SessionKind> {
        self.sessions.get(&session).map(Session::kind)
    }

    /// What a WebRTC session agreed on last.
    pub fn ice_session(&self, session: SessionId) -> Option<&IceSession> {
        self.sessions.get(&session)?.ice.as_deref()
    }

    /// A WebRTC session has restarted ICE.
    pub fn set_ice_session(&mut self, session: SessionId, ice: IceSession) {
        if let Some(agreed) = self.sessions.get_mut(&session).and_then(|session| session.ice.as_mut()) {
            **agreed = ice;
        }
    }

    /// The stream that a session watches.
    pub fn session_stream(&self, session: SessionId) -> Option<(StreamId, &Stream)> {
        let id = self.sessions.get(&session)?.stream;
        Some((id, self.streams.get(&id)?))
    }

    /// False once the shard has ended.
    pub fn is_shard_alive(&self, shard: usize) -> bool {
        self.shards_alive.get(shard).is_some_and(|alive| *alive)
    }

    /// How many shards live.
    pub fn shards_alive(&self) -> usize {
        self.shards_alive.iter().filter(|alive| **alive).count()
    }

    /// A shard is gone: its sessions are over, and its streams move to others. Gives the streams that moved;
    /// with no shard left none does.
    pub fn lose_shard(&mut self, shard: usize) -> Vec<StreamId> {
        match self.shards_alive.get_mut(shard) {
            Some(alive) => *alive = false,
            None => return Vec::new(),
        }
        let lost: Vec<StreamId> =
            self.streams.iter().filter(|(_, stream)| stream.shard == shard).map(|(id, _)| *id).collect();
        for id in &lost {
            self.forget_sessions(*id);
        }
        lost.into_iter().filter(|id| self.replace(*id)).collect()
    }

    fn forget_sessions(&mut self, id: StreamId) {
        self.sessions.retain(|_, session| session.stream != id);
        let webrtc: Vec<_> = self.webrtc.range(all_of(id)).map(|(key, _)| *key).collect();
        for key in webrtc {
            self.webrtc.remove(&key);
        }
    }

    fn replace(&mut self, id: StreamId) -> bool {
        let shard = self.least_loaded();
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        (stream.viewers, stream.webrtc_viewers) = (0, 0);
        stream.status = beginning(&stream.definition);
        stream.changed.notify_waiters();
        match shard {
            Some(shard) => stream.shard = shard,
            None => {
                stream.status.state = StreamState::Error;
                stream.status.reason = Some("the server's media threads have failed".into());
            }
        }
        shard.is_some()
    }

    /// The living shard with the fewest streams, then viewers.
    fn least_loaded(&self) -> Option<usize> {
        let mut loads = vec![(0_usize, 0_usize); self.shards_alive.len()];
        for stream in self.streams.values() {
            loads[stream.shard].0 += 1;
            loads[stream.shard].1 += stream.viewers;
        }
        (0..loads.len()).filter(|shard| self.shards_alive[*shard]).min_by_key(|shard| loads[*shard])
    }
}

fn all_of(id: StreamId) -> RangeInclusive<(StreamId, u64)> {
    (id, 0)..=(id, u64::MAX)
}

/// What a stream is until its shard says more.
fn beginning(definition: &Definition) -> StreamStatus {
    let waits = definition.on_demand && !definition.should_record;
    StreamStatus {
        state: if waits { StreamState::Inactive } else { StreamState::Connecting },
        reason: None,
        active_input: None,
        codec: None,
        width: None,
        height: None,
        profile_level_id: None,
        recording: lanecast_shard::RecordingStatus::Off,
        slate: lanecast_shard::SlateStatus::Off,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::tests::definition;
    use uuid::Uuid;

    fn insert(registry: &mut Registry, source_id: u64) -> StreamId {
        registry.insert(SourceId::Number(source_id), definition("rtsp://cam/"), true).unwrap()
    }

    fn shard_of(registry: &Registry, id: StreamId) -> usize {
        registry.stream(id).unwrap().shard
    }

    #[test]
    fn streams_spread_over_the_shards() {
        let mut registry = Registry::new(2);
        let ids: Vec<StreamId> = (0..4).map(|id| insert(&mut registry, id)).collect();
        assert_eq!(ids.iter().map(|id| shard_of(&registry, *id)).collect::<Vec<_>>(), [0, 1, 0, 1]);
        registry.remove(ids[1]).unwrap();
        let next = insert(&mut registry, 9);
        assert_eq!(shard_of(&registry, next), 1);
    }

    #[test]
    fn viewers_decide_between_equal_shards() {
        let mut registry = Registry::new(2);
        let first = insert(&mut registry, 0);
        insert(&mut registry, 1);
        registry.open_session(Uuid::from_u128(1), first, None);
        let third = insert(&mut registry, 2);
        assert_eq!(shard_of(&registry, third), 1);
    }

    #[test]
    fn a_number_is_never_used_twice_and_a_text_is_free_again() {
        let mut registry = Registry::new(1);
        let first = insert(&mut registry, 7);
        assert_eq!(registry.insert(SourceId::Text("7".into()), definition("rtsp://cam/"), true), None);
        registry.remove(first).unwrap();
        assert!(registry.find("7").is_none());
        assert_ne!(insert(&mut registry, 7), first);
    }

    #[test]
    fn a_removed_stream_takes_its_sessions_along() {
        let mut registry = Registry::new(1);
        let id = insert(&mut registry, 7);
        let session = Uuid::from_u128(1);
        assert!(registry.open_session(session, id, None));
        assert_eq!(registry.session_stream(session).unwrap().1.viewers, 1);
        registry.remove(id).unwrap();
        assert!(registry.session_stream(session).is_none() && !registry.close_session(session));
        assert!(!registry.open_session(session, id, None));
    }

    #[test]
    fn a_session_is_closed_once() {
        let mut registry = Registry::new(1);
        let id = insert(&mut registry, 7);
        registry.open_session(Uuid::from_u128(1), id, None);
        assert!(registry.close_session(Uuid::from_u128(1)));
        assert!(!registry.close_session(Uuid::from_u128(1)));
        assert_eq!(registry.stream(id).unwrap().viewers, 0);
    }

    fn ice() -> Option<Box<IceSession>> {
        let remote = IceCredentials { ufrag: "abcd".into(), password: "p".repeat(24) };
        Some(Box::new(IceSession { ufrag: "AA0123456789".into(), remote, mid: "0".into() }))
    }

    #[test]
    fn sessions_of_webrtc_are_listed_by_stream_in_their_order() {
        let mut registry = Registry::new(1);
        let (first, second) = (insert(&mut registry, 7), insert(&mut registry, 8));
        for (number, id, ice) in
            [(5, first, ice()), (4, second, ice()), (3, first, None), (2, first, ice()), (1, first, ice())]
        {
            assert!(registry.open_session(Uuid::from_u128(number), id, ice));
        }
        let of = |registry: &Registry, id| {
            registry.webrtc_sessions(id).map(|session| session.as_u128()).collect::<Vec<_>>()
        };
        assert_eq!((of(&registry, first), of(&registry, second)), (vec![5, 2, 1], vec![4]));
        assert_eq!(registry.session_kind(Uuid::from_u128(3)), Some(SessionKind::WscRtp));
        assert_eq!(registry.session_kind(Uuid::from_u128(2)), Some(SessionKind::WebRtc));
        assert!(registry.close_session(Uuid::from_u128(2)) && registry.close_session(Uuid::from_u128(3)));
        let stream = registry.stream(first).unwrap();
        assert_eq!((stream.viewers, stream.webrtc_viewers, of(&registry, first)), (2, 2, vec![5, 1]));
        registry.remove(first).unwrap();
        assert_eq!((registry.session_count(), registry.webrtc_session_count()), (1, 1));
        registry.lose_shard(0);
        assert_eq!((registry.session_count(), registry.webrtc_session_count()), (0, 0));
    }

    #[test]
    fn streams_of_a_lost_shard_move() {
        let mut registry = Registry::new(2);
        let first = insert(&mut registry, 0);
        let second = insert(&mut registry, 1);
        registry.open_session(Uuid::from_u128(1), first, None);
        registry.open_session(Uuid::from_u128(2), second, None);
        assert_eq!(registry.lose_shard(0), [first]);
        assert_eq!((shard_of(&registry, first), registry.session_count()), (1, 1));
        assert_eq!(registry.lose_shard(1), []);
        assert_eq!(registry.shards_alive(), 0);
        assert_eq!(registry.stream(second).unwrap().status.state, StreamState::Error);
        assert_eq!(registry.insert(SourceId::Number(5), definition("rtsp://cam/"), true), None);
    }
}
