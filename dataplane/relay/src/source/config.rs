//! What a source is made from.

use std::time::Duration;

use ipnet::IpNet;
use lanecast_protocol::rtsp::{Credentials, TransportPreference};
use url::Url;

/// Who speaks with an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InputKind {
    /// We do, by RTSP; over TLS where the URL says `rtsps`.
    #[default]
    Rtsp,
    /// A worker does, whatever the protocol: only its access units come to us.
    Foreign,
}

/// One way to reach the camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Who speaks with it.
    pub kind: InputKind,
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
    /// Stands for how its certificate is checked, where TLS is spoken: another number, another attempt.
    pub trust: u64,
}

/// What a source is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// At least one, sorted by priority.
    pub inputs: Vec<Input>,
    /// The operator's `restart_interval_secs`: the pause before every new attempt, in place of the back-off; up to
    /// half a second is added, so that cameras that went together do not come in step.
    pub restart_interval: Option<Duration>,
    /// How long a TCP connect may take.
    pub connect_timeout: Duration,
    /// How long an RTSP answer may take.
    pub reply_timeout: Duration,
    /// How long media may be silent.
    pub silence_timeout: Duration,
    /// How long a better input must have worked before it takes the place of the one in use.
    pub return_after: Duration,
    /// Connected only while somebody wants pictures, and for so long afterwards; `None`: always.
    pub on_demand: Option<Duration>,
    /// What an input may send, in bits per second over two seconds; more ends the attempt.
    pub bits_per_second_max: u64,
    /// Networks that no input may be in, whatever its name resolves to.
    pub denied: Vec<IpNet>,
}

impl Input {
    /// Whether what is under way with this one may go on as with `other`.
    pub(super) fn is_reached_like(&self, other: &Self) -> bool {
        (self.kind, &self.url, &self.credentials, self.transport, self.trust)
            == (other.kind, &other.url, &other.credentials, other.transport, other.trust)
    }
}
