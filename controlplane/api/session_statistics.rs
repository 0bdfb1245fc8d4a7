//! A session's counters as the API shows them: units in the names.

use std::time::Duration;

use lanecast_shard::SessionStatistics;
use lanecast_webrtc::peer::{PeerState, PeerStatistics};
use lanecast_webrtc::srtp::SrtpProfile;
use serde::Serialize;
use utoipa::ToSchema;

/// How a session goes, by its kind.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind")]
pub enum SessionStatisticsView {
    /// WSC-RTP: its packets are counted with its stream.
    #[serde(rename = "wsc-rtp")]
    WscRtp,
    /// WebRTC.
    #[serde(rename = "webrtc")]
    WebRtc(Box<WebRtcStatisticsView>),
}

/// A WebRTC session's counters, all since its start but for the gauges.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebRtcStatisticsView {
    /// How far it has come.
    pub state: ConnectionState,
    /// `AEAD_AES_128_GCM` or `AES_CM_128_HMAC_SHA1_80`, once connected.
    pub srtp_profile: Option<&'static str>,
    /// `udp` or `tcp`, once there is a path.
    pub transport: Option<&'static str>,
    /// Media packets sent.
    pub packets_sent: u64,
    /// Bytes of all packets sent, sealed.
    pub bytes_sent: u64,
    /// Packets sent again.
    pub packets_retransmitted: u64,
    /// Packets asked for that were not sent again: too old, too many, unknown.
    pub retransmissions_refused: u64,
    /// NACK messages.
    pub nacks: u64,
    /// PLI and FIR messages.
    pub picture_requests: u64,
    /// Those that were answered from the GOP cache.
    pub refreshes: u64,
    /// Times that the path did not carry the stream, so that access units were left out.
    pub overloads: u64,
    /// Packets of the stream that were left out.
    pub packets_skipped: u64,
    /// Packets that the viewer says it lost.
    pub packets_lost: u64,
    /// Interarrival jitter that the viewer says, in milliseconds.
    pub jitter_ms: f64,
    /// Gauge: what the path carries in bit/s, once known.
    pub estimate_bps: Option<u64>,
    /// Gauge: smoothed round trip in milliseconds, once known.
    pub round_trip_ms: Option<f64>,
    /// Gauge: share of packets lost on the way lately, 0 to 1.
    pub loss: f64,
    /// Gauge: how long packets wait in the path's queue, in milliseconds.
    pub queueing_ms: f64,
    /// The viewer's datagrams that were dropped: not authentic, replayed, malformed, or for others.
    pub datagrams_dropped: u64,
}

/// How far a WebRTC session has come.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// No authenticated connectivity check yet.
    Checking,
    /// The DTLS handshake is under way.
    Handshaking,
    /// Media flows.
    Connected,
}

impl From<SessionStatistics> for SessionStatisticsView {
    fn from(statistics: SessionStatistics) -> Self {
        match statistics {
            SessionStatistics::Wsc => Self::WscRtp,
            SessionStatistics::WebRtc(peer) => Self::WebRtc(Box::new((*peer).into())),
        }
    }
}

impl From<PeerStatistics> for WebRtcStatisticsView {
    fn from(peer: PeerStatistics) -> Self {
        Self {
            state: peer.state.into(),
            srtp_profile: peer.srtp_profile.map(profile_name),
            transport: peer.transport,
            packets_sent: peer.packets_sent,
            bytes_sent: peer.bytes_sent,
            packets_retransmitted: peer.packets_retransmitted,
            retransmissions_refused: peer.retransmissions_refused,
            nacks: peer.nacks,
            picture_requests: peer.picture_requests,
            refreshes: peer.refreshes,
            overloads: peer.overloads,
            packets_skipped: peer.packets_skipped,
            packets_lost: peer.packets_lost,
            jitter_ms: milliseconds(peer.jitter),
            estimate_bps: peer.congestion.estimate_bps,
            round_trip_ms: peer.congestion.round_trip.map(milliseconds),
            loss: peer.congestion.loss,
            queueing_ms: milliseconds(peer.congestion.queueing),
            datagrams_dropped: peer.dropped,
        }
    }
}

impl From<PeerState> for ConnectionState {
    fn from(state: PeerState) -> Self {
        match state {
            PeerState::Checking => Self::Checking,
            PeerState::Handshaking => Self::Handshaking,
            PeerState::Connected => Self::Connected,
        }
    }
}

/// As IANA's registry of DTLS-SRTP profiles has it, without the prefix.
fn profile_name(profile: SrtpProfile) -> &'static str {
    match profile {
        SrtpProfile::AeadAes128Gcm => "AEAD_AES_128_GCM",
        SrtpProfile::Aes128CmHmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
