//! A camera's inputs: which to try, when to try again, and what state to tell.
//!
//! Drives one `rtsp::Client` at a time. Owns back-off and failover; knows nothing of streams and viewers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use lanecast_protocol::codec::{Codec, ParameterSets};
use lanecast_protocol::rtcp::SenderReport;
use lanecast_protocol::rtp::Ordered;
use lanecast_protocol::rtsp::{ClientStatistics, Credentials, TransportPreference};
use lanecast_protocol::wsc::StreamState;
use url::Url;

/// One way to reach the camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The operator's name for it.
    pub label: String,
    /// Without user info.
    pub url: Url,
    /// For Basic and Digest.
    pub credentials: Option<Credentials>,
    /// Lower is tried first.
    pub priority: i64,
    /// Which transport to ask for.
    pub transport: TransportPreference,
}

/// What a source is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// At least one, sorted by priority.
    pub inputs: Vec<Input>,
    /// The operator's `restart_interval_secs`: the pause before every new attempt, in place of the back-off.
    pub restart_interval: Option<Duration>,
    /// How long a TCP connect may take.
    pub connect_timeout: Duration,
    /// How long an RTSP answer may take.
    pub reply_timeout: Duration,
    /// How long media may be silent.
    pub silence_timeout: Duration,
}

/// What the driver should do, or know.
#[derive(Debug)]
pub enum SourceOutput {
    /// Look this name up and answer with `handle_resolved`. Literal addresses are never asked for.
    Resolve {
        /// Host name.
        host: String,
        /// Port, to come back in the addresses.
        port: u16,
    },
    /// Open a TCP connection and answer with `handle_connected` or `handle_closed`.
    Connect(SocketAddr),
    /// Write to the RTSP connection.
    Write(Bytes),
    /// Open an even/odd pair of UDP sockets and answer with `handle_udp_opened`.
    OpenUdp,
    /// Where the camera's RTP comes from and our RTCP goes.
    UdpPeer {
        /// RTP.
        rtp: SocketAddr,
        /// RTCP.
        rtcp: SocketAddr,
    },
    /// Send from the RTP socket.
    SendRtp(Bytes),
    /// Send from the RTCP socket.
    SendRtcp(Bytes),
    /// Close the TCP connection (a connect under way too) and the UDP sockets, after what was to be written.
    Disconnect,
    /// Media of this kind follows; sent before the first packet of every attempt.
    Playing {
        /// The codec.
        codec: Codec,
        /// RTP clock rate in Hz.
        clock_rate_hz: u32,
        /// What the description gave; may be incomplete.
        parameter_sets: Box<ParameterSets>,
    },
    /// The next packet in order.
    Packet(Ordered),
    /// A sender report of the video's source.
    SenderReport(SenderReport),
    /// The state or its reason changed.
    State {
        /// The new state.
        state: StreamState,
        /// Why, for an operator; never with credentials.
        reason: Option<String>,
        /// Index into the inputs of the one in use.
        active_input: Option<usize>,
    },
    /// After [`Source::stop`]: nothing follows.
    Stopped,
}

/// The machine.
#[derive(Debug)]
pub struct Source {}

impl Source {
    /// Starts at `now` with the best input. `seed` feeds jitter, SSRC and nonces.
    pub fn new(_now: Instant, _config: SourceConfig, _seed: u64) -> Self {
        Self {}
    }
    /// Other inputs or settings: a new attempt at once if the input in use changed, else none.
    pub fn update(&mut self, _now: Instant, _config: SourceConfig) {}
    /// TEARDOWN and stop for good.
    pub fn stop(&mut self, _now: Instant) {}
    /// Answer to [`SourceOutput::Resolve`].
    pub fn handle_resolved(&mut self, _now: Instant, _addresses: Result<Vec<SocketAddr>, String>) {}
    /// Answer to [`SourceOutput::Connect`].
    pub fn handle_connected(&mut self, _now: Instant, _local: SocketAddr) {}
    /// The connection (or the attempt at one) failed or was closed by the camera.
    pub fn handle_closed(&mut self, _now: Instant, _reason: &str) {}
    /// Bytes came; whole frames are split off `received`.
    pub fn handle_received(&mut self, _now: Instant, _received: &mut BytesMut) {}
    /// Answer to [`SourceOutput::OpenUdp`]: the RTP port.
    pub fn handle_udp_opened(&mut self, _now: Instant, _rtp_port: Result<u16, String>) {}
    /// A datagram came on the RTP socket.
    pub fn handle_udp_rtp(&mut self, _now: Instant, _from: SocketAddr, _datagram: Bytes) {}
    /// A datagram came on the RTCP socket.
    pub fn handle_udp_rtcp(&mut self, _now: Instant, _from: SocketAddr, _datagram: &[u8]) {}
    /// Time passed.
    pub fn handle_timeout(&mut self, _now: Instant) {}
    /// When to call [`Source::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    /// What to do, until `None`.
    pub fn poll_output(&mut self) -> Option<SourceOutput> {
        None
    }
    /// Counters over all attempts.
    pub fn statistics(&self) -> ClientStatistics {
        ClientStatistics::default()
    }
}
