//! A session's way: offer → negotiated → counted in → attached to its shard → answer. What fails half-way leaves nothing.

use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use lanecast_shard::{AttachWebRtc, Command, SessionError, SessionId, StreamId};
use lanecast_webrtc::ice::IceCredentials;
use lanecast_webrtc::negotiation::{
    LocalDescription, Negotiated, Offer, RemoteCandidate, StreamMedia, write_answer, write_trickle_fragment,
};
use lanecast_webrtc::peer::{MediaConfig, PeerConfig, RtxConfig};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::identity::{Identity, random_credentials};
use crate::control_plane::{ControlPlane, random_session};
use crate::http::ApiError;
use crate::recording::UNIX_MS_MAX;
use crate::registry::{IceSession, Stream};
use crate::shards::{Shard, Unanswered};
use lanecast_protocol::codec::Codec;
use lanecast_protocol::wsc::StreamState;

/// A session that was opened.
#[derive(Debug)]
pub struct Answered {
    /// Its id.
    pub session: SessionId,
    /// Our SDP.
    pub answer: String,
    /// Names its ICE session.
    pub ufrag: String,
}

/// A session whose ICE was restarted.
#[derive(Debug)]
pub struct Restarted {
    /// Our side, as `application/trickle-ice-sdpfrag`.
    pub fragment: String,
    /// Names the new ICE session.
    pub ufrag: String,
}

/// Reads an offer within our bounds.
///
/// # Errors
/// 400 and 413.
pub fn parse_offer(sdp: &str) -> Result<Offer, ApiError> {
    match sdp.len() <= OFFER_BYTES_MAX {
        true => Offer::parse(sdp).map_err(|error| ApiError::invalid_sdp(&error.to_string())),
        false => Err(ApiError::body_too_large(OFFER_BYTES_MAX)),
    }
}

impl ControlPlane {
    /// Answers an offer to watch the stream that a path calls by this text, from what was recorded at `start_unix_ms`
    /// on, or live.
    ///
    /// # Errors
    /// What is wrong with the offer, that nothing is recorded there or later, or why there is no room. Then there is no
    /// session.
    pub async fn answer_offer(
        &self,
        path_text: &str,
        sdp: &str,
        client: Option<IpAddr>,
        start_unix_ms: Option<i64>,
    ) -> Result<Answered, ApiError> {
        let answered = self.try_answer_offer(path_text, sdp, client, start_unix_ms).await;
        match &answered {
            Ok(_) => self.webrtc().counters().count_answered(),
            Err(error) => self.webrtc().counters().count_refused(error.code()),
        }
        answered
    }

    async fn try_answer_offer(
        &self,
        path_text: &str,
        sdp: &str,
        client: Option<IpAddr>,
        start_unix_ms: Option<i64>,
    ) -> Result<Answered, ApiError> {
        let (id, mut stream) = self.stream(path_text)?;
        let offer = parse_offer(sdp)?;
        if start_unix_ms.is_none() && is_asleep(&stream) {
            self.wake(id, &mut stream).await?;
        }
        let media = match start_unix_ms {
            Some(unix_ms) => self.recorded_media_of(&stream, unix_ms).await?,
            None => media_of(&stream),
        };
        let negotiated = offer.negotiate(media)?;
        let shard = self.shard(stream.shard)?;
        let identity = Identity::random(stream.shard)?;
        let session = random_session()?;
        self.open_session(session, id, Some(Box::new(ice_session(&identity.ice, &negotiated))))?;
        let peer = peer_config(&identity, &negotiated);
        let attach = AttachWebRtc { stream: id, session, codec: media.codec, peer, start_unix_ms };
        if let Err(error) = self.attach_to(shard, attach).await {
            self.registry().close_session(session);
            return Err(error);
        }
        debug!(%session, stream = path_text, shard = shard.index(), "a WebRTC session was opened");
        let candidates = self.webrtc().candidates(shard, client);
        let local = LocalDescription {
            session_number: identity.session_number,
            ice: &identity.ice,
            fingerprint: &self.webrtc().fingerprint,
            candidates: &candidates,
            ssrc: identity.ssrc,
            rtx_ssrc: identity.rtx_ssrc,
            cname: &identity.cname,
        };
        let answer = write_answer(&offer, &negotiated, &local);
        Ok(Answered { session, answer, ufrag: identity.ice.ufrag })
    }

    /// Gives a session other ICE credentials; `remote` are the viewer's. `agreed` tells whether the request still fits
    /// what the session has agreed on last.
    ///
    /// # Errors
    /// When it does not, or the session or its shard is gone. Then all stays as it was.
    pub async fn restart_ice(
        &self,
        session: SessionId,
        shard: &Shard,
        remote: IceCredentials,
        client: Option<IpAddr>,
        agreed: impl FnOnce(&IceSession) -> Result<(), ApiError> + Send,
    ) -> Result<Restarted, ApiError> {
        let restarting = self.webrtc().restarting.get(shard.index());
        let restarting = restarting.ok_or_else(|| ApiError::internal("a shard without a lock"))?;
        let _restarting = restarting.lock().await;
        let before = self.ice_session(session)?;
        agreed(&before)?;
        let local = random_credentials(shard.index())?;
        let restart =
            |reply| Command::RestartIce { session, local: local.clone(), remote: remote.clone(), reply };
        shard
            .ask(restart)
            .await
            .map_err(ApiError::from)?
            .map_err(|error| self.session_error(session, error))?;
        let fragment = write_trickle_fragment(&before.mid, &local, &self.webrtc().candidates(shard, client));
        let ice = IceSession { ufrag: local.ufrag.clone(), remote, mid: before.mid };
        self.registry().set_ice_session(session, ice);
        Ok(Restarted { fragment, ufrag: local.ufrag })
    }

    /// Tells a session's shard where else the viewer may be.
    ///
    /// # Errors
    /// When the shard takes no command.
    pub async fn add_candidates(
        &self,
        session: SessionId,
        shard: &Shard,
        candidates: Vec<RemoteCandidate>,
    ) -> Result<(), ApiError> {
        if candidates.is_empty() {
            return Ok(());
        }
        let command = Command::AddCandidates { session, candidates };
        shard.deliver(command).await.map_err(|_| ApiError::from(Unanswered))
    }

    /// Has a stream on demand connect, and waits for its codec, which an answer must name. Without one in time the answer is
    /// that of a camera that has not been up yet.
    async fn wake(&self, id: StreamId, stream: &mut Stream) -> Result<(), ApiError> {
        let deadline = Instant::now() + WAKE_TIMEOUT;
        let changed = stream.changed.clone();
        let mut stopping = self.stopping();
        // Nobody may be there to keep it connected for longer than its idle time, so it is asked again meanwhile.
        let pause = self.source_settings().on_demand_idle / 2;
        let mut ask_at = Instant::now();
        loop {
            let mut next_change = pin!(changed.notified());
            // Before a look at the stream, so that no change is missed in between.
            next_change.as_mut().enable();
            *stream = self.registry().stream(id).cloned().ok_or_else(|| removed(id))?;
            if Instant::now() >= ask_at {
                let command = Command::Demand { stream: id };
                self.shard(stream.shard)?.deliver(command).await.map_err(|_| Unanswered)?;
                ask_at = Instant::now() + pause;
            }
            if stream.status.codec.is_some() || is_settled(stream) {
                return Ok(());
            }
            tokio::select! {
                () = next_change => {}
                () = sleep_until(ask_at) => {}
                () = told_to_stop(&mut stopping) => return Err(ApiError::busy("the server is stopping")),
                () = sleep_until(deadline) => return Ok(()),
            }
        }
    }

    /// The stream's codec, else that of the recording: a camera that has not been up yet may have been up before.
    async fn recorded_media_of(&self, stream: &Stream, unix_ms: i64) -> Result<StreamMedia, ApiError> {
        if !self.has_recorded(&stream.source_id, unix_ms).await? {
            return Err(ApiError::not_recorded(&stream.source_id));
        }
        let media = media_of(stream);
        if stream.status.codec.is_some() {
            return Ok(media);
        }
        let spans = self.timeline(&stream.source_id, unix_ms, UNIX_MS_MAX).await?;
        Ok(StreamMedia { codec: spans.first().map_or(media.codec, |span| span.codec), ..media })
    }

    async fn attach_to(&self, shard: &Shard, attach: AttachWebRtc) -> Result<(), ApiError> {
        let (session, stream) = (attach.session, attach.stream);
        match shard.ask(|reply| Command::AttachWebRtc { attach: Box::new(attach), reply }).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(SessionError::Unknown)) => Err(removed(stream)),
            Ok(Err(SessionError::Full)) => Err(ApiError::busy("the shard of the stream is full")),
            Ok(Err(error)) => Err(self.session_error(session, error)),
            Err(Unanswered) => {
                tokio::spawn(end_late(shard.clone(), session));
                Err(ApiError::busy("the shard of the stream does not answer"))
            }
        }
    }

    /// What a WebRTC session agreed on last.
    ///
    /// # Errors
    /// When it is over.
    pub fn ice_session(&self, session: SessionId) -> Result<IceSession, ApiError> {
        let registry = self.registry();
        registry.ice_session(session).cloned().ok_or_else(|| ApiError::unknown_session(session))
    }
}

async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    // Closed never: the sender is the control plane's.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Whether a stream is on demand and nobody has asked for it, or its codec has not come yet.
fn is_asleep(stream: &Stream) -> bool {
    let status = &stream.status;
    stream.definition.on_demand && (status.codec.is_none() || status.state == StreamState::Inactive)
}

/// Whether more of its codec is hardly to come.
fn is_settled(stream: &Stream) -> bool {
    matches!(stream.status.state, StreamState::Active | StreamState::Error)
}

/// A camera that has not been up yet is most likely H.264.
fn media_of(stream: &Stream) -> StreamMedia {
    let codec = stream.status.codec.unwrap_or(Codec::H264);
    StreamMedia { codec, profile_level_id: stream.status.profile_level_id }
}

fn ice_session(local: &IceCredentials, negotiated: &Negotiated) -> IceSession {
    IceSession { ufrag: local.ufrag.clone(), remote: negotiated.ice.clone(), mid: negotiated.mid.clone() }
}

fn peer_config(identity: &Identity, negotiated: &Negotiated) -> PeerConfig {
    let rtx = negotiated.rtx.map(|rtx| RtxConfig { payload_type: rtx.payload_type, ssrc: identity.rtx_ssrc });
    PeerConfig {
        local: identity.ice.clone(),
        remote: negotiated.ice.clone(),
        fingerprints: negotiated.fingerprints.clone(),
        candidates: negotiated.candidates.clone(),
        media: MediaConfig {
            payload_type: negotiated.payload_type,
            ssrc: identity.ssrc,
            rtx,
            transport_cc: negotiated.transport_cc,
            cname: identity.cname.clone(),
        },
    }
}

fn removed(stream: StreamId) -> ApiError {
    debug!(?stream, "an offer came as its stream went");
    ApiError::busy("the stream has just been removed")
}

/// A shard that did not answer in time may yet take the session, which nobody would know of.
async fn end_late(shard: Shard, session: SessionId) {
    let reason = "its offer was not answered in time".to_owned();
    // One that is gone has no sessions either; a new one ends by itself when no check comes.
    let _ = shard.ask(|reply| Command::EndSession { session, reason, reply }).await;
}

/// A camera that is there is described and plays within it; a client that gets no answer at all helps nobody.
const WAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A browser's offer has 3 to 10 KiB.
pub const OFFER_BYTES_MAX: usize = 64 << 10;
