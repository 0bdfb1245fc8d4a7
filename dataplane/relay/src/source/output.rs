//! What a source wants of its driver, and in which of its two lanes.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use lanecast_protocol::codec::{Codec, ParameterSets};
use lanecast_protocol::rtcp::SenderReport;
use lanecast_protocol::rtp::Ordered;
use lanecast_protocol::wsc::StreamState;

/// Which of a source's two places an input has: one is on air, the other may be trying a better input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The first.
    A,
    /// The second.
    B,
}

impl Lane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// 0 or 1.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What the driver should do, or know. `Debug` shows no bytes: they may hold credentials.
pub enum SourceOutput {
    /// Look this name up and answer with `handle_resolved`. Literal addresses are never asked for.
    Resolve {
        /// Whose.
        lane: Lane,
        /// Host name.
        host: String,
        /// Port, to come back in the addresses.
        port: u16,
    },
    /// Open a TCP connection and answer with `handle_connected` or `handle_closed`.
    Connect {
        /// Whose.
        lane: Lane,
        /// Where to.
        to: SocketAddr,
        /// Index of the input: with an `rtsps` URL, TLS comes before all else, and only then `handle_connected`.
        input: usize,
        /// The name that a certificate must have, where TLS is spoken.
        tls_name: Option<String>,
    },
    /// Let a worker open this input ([`InputKind::Foreign`](super::InputKind::Foreign)); what it tells comes by
    /// `handle_foreign_playing`, `handle_foreign_unit` and `handle_closed`.
    Open {
        /// Whose.
        lane: Lane,
        /// Index of the input.
        input: usize,
    },
    /// Write to the RTSP connection.
    Write(Lane, Bytes),
    /// Open an even/odd pair of UDP sockets and answer with `handle_udp_opened`.
    OpenUdp(Lane),
    /// Where the camera's RTP comes from and our RTCP goes.
    UdpPeer {
        /// Whose.
        lane: Lane,
        /// RTP.
        rtp: SocketAddr,
        /// RTCP.
        rtcp: SocketAddr,
    },
    /// Send from the RTP socket.
    SendRtp(Lane, Bytes),
    /// Send from the RTCP socket.
    SendRtcp(Lane, Bytes),
    /// Close the TCP connection and the UDP sockets, after what was to be written, or the worker's input. A connect or
    /// a name look-up under way ends, too: of what was asked for before, nothing may be answered any more.
    Disconnect(Lane),
    /// Media of this kind follows; sent before the first packet of every attempt, foreign ones too.
    Playing {
        /// Whose.
        lane: Lane,
        /// The codec.
        codec: Codec,
        /// RTP clock rate in Hz.
        clock_rate_hz: u32,
        /// What the description gave; may be incomplete.
        parameter_sets: Box<ParameterSets>,
    },
    /// The next packet in order.
    Packet(Lane, Ordered),
    /// A sender report of the video's source.
    SenderReport(Lane, SenderReport),
    /// The pictures of this lane are wanted from its next random access point on; those of the other go on until then.
    /// Answer with `handle_on_air` when they are taken.
    Prefer(Lane),
    /// The state or its reason changed.
    State {
        /// The new state.
        state: StreamState,
        /// Why, for an operator; never with credentials.
        reason: Option<String>,
        /// Index into the inputs of the one in use: that gives pictures, or is being tried.
        active_input: Option<usize>,
    },
    /// After [`Source::stop`](super::Source::stop): nothing follows.
    Stopped,
}

impl fmt::Debug for SourceOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { lane, host, port } => write!(f, "Resolve({lane:?}, {host}, {port})"),
            Self::Connect { lane, to, .. } => write!(f, "Connect({lane:?}, {to})"),
            Self::Open { lane, input } => write!(f, "Open({lane:?}, {input})"),
            Self::Write(lane, bytes) => write!(f, "Write({lane:?}, {} bytes)", bytes.len()),
            Self::OpenUdp(lane) => write!(f, "OpenUdp({lane:?})"),
            Self::UdpPeer { lane, rtp, rtcp } => write!(f, "UdpPeer({lane:?}, {rtp}, {rtcp})"),
            Self::SendRtp(lane, bytes) => write!(f, "SendRtp({lane:?}, {} bytes)", bytes.len()),
            Self::SendRtcp(lane, bytes) => write!(f, "SendRtcp({lane:?}, {} bytes)", bytes.len()),
            Self::Disconnect(lane) => write!(f, "Disconnect({lane:?})"),
            Self::Playing { lane, codec, clock_rate_hz, .. } => {
                write!(f, "Playing({lane:?}, {codec:?}, {clock_rate_hz})")
            }
            Self::Packet(lane, ordered) => {
                write!(f, "Packet({lane:?}, {}, {} lost)", ordered.packet.seq, ordered.lost_before)
            }
            Self::SenderReport(lane, report) => write!(f, "SenderReport({lane:?}, {report:?})"),
            Self::Prefer(lane) => write!(f, "Prefer({lane:?})"),
            Self::State { state, reason, active_input } => {
                write!(f, "State({state:?}, {reason:?}, {active_input:?})")
            }
            Self::Stopped => f.write_str("Stopped"),
        }
    }
}
