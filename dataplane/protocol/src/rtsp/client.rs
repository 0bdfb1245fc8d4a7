//! The dialogue with one camera over one connection: OPTIONS, DESCRIBE, SETUP, PLAY, keepalive, TEARDOWN.
//!
//! One attempt, one `Client`. Who makes the next attempt, and when, is the relay's `Source`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use url::Url;

use crate::codec::{Codec, ParameterSets};
use crate::rtcp::SenderReport;
use crate::rtp::Ordered;

/// User name and password. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Which transport to ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportPreference {
    /// TCP interleaved first, UDP where the camera refuses it.
    #[default]
    Auto,
    /// TCP interleaved only.
    Tcp,
    /// UDP first, TCP where the camera refuses it.
    Udp,
}

/// What an attempt is made with.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Without user info.
    pub url: Url,
    /// For Basic and Digest.
    pub credentials: Option<Credentials>,
    /// Which transport to ask for.
    pub transport: TransportPreference,
    /// How long an answer may take.
    pub reply_timeout: Duration,
    /// How long media may be silent once playing.
    pub silence_timeout: Duration,
    /// Seed for SSRC, cnonce and the like.
    pub seed: u64,
}

/// Why an attempt ended. The text is for the operator and holds no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// 401 after credentials were given, or none were.
    #[error("the camera refuses the user name or password")]
    Unauthorized,
    /// Another refusal.
    #[error("the camera answered {status} to {method}")]
    Refused {
        /// RTSP status code.
        status: u16,
        /// RTSP method.
        method: &'static str,
    },
    /// No answer in time.
    #[error("the camera did not answer {method} in time")]
    ReplyTimeout {
        /// RTSP method.
        method: &'static str,
    },
    /// No media in time.
    #[error("the camera sent no media for {seconds} s")]
    Silence {
        /// The bound.
        seconds: u64,
    },
    /// The framing or a message could not be read.
    #[error("the camera's RTSP cannot be read: {0}")]
    Protocol(String),
    /// No usable video.
    #[error(transparent)]
    Description(#[from] crate::sdp::SdpError),
    /// The camera wants us elsewhere: make a new attempt there.
    #[error("the camera redirects")]
    Redirect(Url),
    /// The camera ended it (EOF, RTCP BYE, TEARDOWN or ANNOUNCE).
    #[error("the camera ended the session")]
    EndedByCamera,
    /// Something of ours: a socket could not be opened.
    #[error("{0}")]
    Local(String),
}

/// What the driver should do, or know.
#[derive(Debug)]
pub enum ClientOutput {
    /// Write to the RTSP connection.
    Write(Bytes),
    /// Open a pair of UDP sockets (even RTP port, odd RTCP port) and answer with `handle_udp_opened`.
    OpenUdp,
    /// Media comes from there: send a small datagram to open firewalls, and RTCP from now on.
    UdpPeer {
        /// Where the camera's RTP comes from.
        rtp: SocketAddr,
        /// Where our RTCP goes.
        rtcp: SocketAddr,
    },
    /// Send from the RTP socket of the pair.
    SendRtp(Bytes),
    /// Send from the RTCP socket of the pair.
    SendRtcp(Bytes),
    /// PLAY was accepted; media follows.
    Playing {
        /// The codec.
        codec: Codec,
        /// RTP clock rate in Hz.
        clock_rate_hz: u32,
        /// What `sprop-*` gave; may be incomplete.
        parameter_sets: Box<ParameterSets>,
    },
    /// The next packet in order.
    Packet(Ordered),
    /// A sender report of the video's source.
    SenderReport(SenderReport),
    /// The attempt is over: close the connection and the sockets. Nothing follows.
    Ended(ClientError),
}

/// Counters of one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStatistics {
    /// RTP packets received.
    pub packets: u64,
    /// RTP packets that never came.
    pub lost: u64,
    /// RTP or RTCP that was malformed or of another payload type, and interleaved frames on channels not ours.
    pub dropped: u64,
}

/// The machine. Its RTSP connection is open when it is made.
#[derive(Debug)]
pub struct Client {}

impl Client {
    /// Starts the dialogue at `now` over a connection from `local` to `peer`.
    pub fn new(_now: Instant, _config: ClientConfig, _local: SocketAddr, _peer: SocketAddr) -> Self {
        Self {}
    }
    /// Bytes came over the RTSP connection; whole frames are split off `received`, the rest stays.
    pub fn handle_received(&mut self, _now: Instant, _received: &mut BytesMut) {}
    /// The connection was closed or broke.
    pub fn handle_closed(&mut self, _now: Instant, _reason: &str) {}
    /// Answer to [`ClientOutput::OpenUdp`]: the RTP port (the RTCP port is one more), or why not.
    pub fn handle_udp_opened(&mut self, _now: Instant, _rtp_port: Result<u16, String>) {}
    /// A datagram came on the RTP socket.
    pub fn handle_udp_rtp(&mut self, _now: Instant, _from: SocketAddr, _datagram: Bytes) {}
    /// A datagram came on the RTCP socket.
    pub fn handle_udp_rtcp(&mut self, _now: Instant, _from: SocketAddr, _datagram: &[u8]) {}
    /// Ends the session: TEARDOWN, then `Ended` after its answer or one second.
    pub fn teardown(&mut self, _now: Instant) {}
    /// Time passed.
    pub fn handle_timeout(&mut self, _now: Instant) {}
    /// When to call [`Client::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    /// What to do, until `None`.
    pub fn poll_output(&mut self) -> Option<ClientOutput> {
        None
    }
    /// Counters.
    pub fn statistics(&self) -> ClientStatistics {
        ClientStatistics::default()
    }
}
