//! One WebRTC viewer: what the shard feeds with its datagrams, and what it wants done.

use std::time::Duration;

use crate::congestion::CongestionStatistics;
use crate::ice::IceCredentials;
use crate::negotiation::{Fingerprint, RemoteCandidate};
use crate::srtp::SrtpProfile;

/// What was negotiated, and what the control plane drew at random for it.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Our ICE credentials; the fragment is unique on the shard.
    pub local: IceCredentials,
    /// The viewer's.
    pub remote: IceCredentials,
    /// The viewer's certificate is one of these.
    pub fingerprints: Vec<Fingerprint>,
    /// Where the viewer may be: they get binding indications, which open NATs, where the driver wants that.
    pub candidates: Vec<RemoteCandidate>,
    /// What it takes.
    pub media: MediaConfig,
}

/// How our packets look to one viewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaConfig {
    /// Payload type of the media.
    pub payload_type: u8,
    /// SSRC of the media.
    pub ssrc: u32,
    /// Retransmissions, where negotiated.
    pub rtx: Option<RtxConfig>,
    /// Header extension id of the transport-wide sequence number, where negotiated.
    pub transport_cc: Option<u8>,
    /// CNAME of our RTCP.
    pub cname: String,
}

/// Retransmissions (RFC 4588).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtxConfig {
    /// Payload type.
    pub payload_type: u8,
    /// SSRC, another than the media's.
    pub ssrc: u32,
}

/// How far a viewer has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerState {
    /// No authenticated check yet.
    #[default]
    Checking,
    /// The DTLS handshake is under way.
    Handshaking,
    /// Media flows.
    Connected,
}

/// A viewer's counters, all since its start but for the gauges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerStatistics {
    /// How far it has come.
    pub state: PeerState,
    /// The SRTP profile, once connected.
    pub srtp_profile: Option<SrtpProfile>,
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
    /// Packets of the stream that it did not get: access units left out.
    pub packets_skipped: u64,
    /// Packets that the receiver says it lost.
    pub packets_lost: u64,
    /// Interarrival jitter that the receiver says.
    pub jitter: Duration,
    /// What its path carries.
    pub congestion: CongestionStatistics,
    /// Its datagrams that were dropped: not authentic, replayed, malformed, or for foreign SSRCs.
    pub dropped: u64,
}
