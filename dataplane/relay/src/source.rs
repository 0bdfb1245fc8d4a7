//! A camera's inputs: which to try, when to try again, and what state to tell.
//!
//! Drives an `rtsp::Client` for the input on air and, while that is not the best one, another that tries a better one.
//! Owns back-off and failover; knows nothing of streams and viewers.

mod address;
mod backoff;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use lanecast_protocol::codec::{Codec, ParameterSets};
use lanecast_protocol::rtcp::SenderReport;
use lanecast_protocol::rtp::Ordered;
use lanecast_protocol::rtsp::{
    Client, ClientConfig, ClientError, ClientOutput, ClientStatistics, Credentials, SplitMix64,
    TransportPreference,
};
use lanecast_protocol::wsc::StreamState;
use url::Url;

use self::address::Address;
use self::backoff::Backoff;

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
    /// How long a better input must have worked before it takes the place of the one in use.
    pub return_after: Duration,
    /// Connected only while somebody wants pictures, and for so long afterwards; `None`: always.
    pub on_demand: Option<Duration>,
    /// What an input may send, in bits per second over two seconds; more ends the attempt.
    pub bits_per_second_max: u64,
    /// Networks that no input may be in, whatever its name resolves to.
    pub denied: Vec<IpNet>,
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
    /// Let a worker open this input ([`InputKind::Foreign`]); what it tells comes by `handle_foreign_playing`,
    /// `handle_foreign_unit` and `handle_closed`.
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
    /// After [`Source::stop`]: nothing follows.
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

/// What the source is at.
#[derive(Debug)]
enum Phase {
    /// A name is being looked up, until then at most.
    Resolving(Instant),
    /// A TCP connect to this address is under way, until then at most.
    Connecting(SocketAddr, Instant),
    /// A dialogue is under way, or media comes.
    Attempting(Box<Client>),
    /// All inputs failed: the best is tried again then.
    Waiting(Instant),
    /// There is nothing to try.
    Idle,
    /// The last dialogue is being ended.
    Stopping(Box<Client>),
    /// For good.
    Stopped,
}

/// The machine.
#[derive(Debug)]
pub struct Source {
    config: SourceConfig,
    /// The time of the last call.
    now: Instant,
    phase: Phase,
    outputs: VecDeque<SourceOutput>,
    random: SplitMix64,
    backoff: Backoff,
    /// What is known of each input, in the order of the configuration.
    records: Vec<InputRecord>,
    /// Index of the input in use, or tried last.
    input: usize,
    /// Where the attempt goes: the input's URL, or where it redirected to.
    url: Option<Url>,
    redirects: u8,
    /// Addresses still to be tried.
    addresses: VecDeque<SocketAddr>,
    /// When the first and the last packet of this attempt came.
    media: Option<(Instant, Instant)>,
    /// Why the last attempt failed.
    reason: Option<String>,
    /// Counters of the attempts that are over.
    past: ClientStatistics,
}

/// What is known of one input.
#[derive(Clone, Copy, Debug, Default)]
struct InputRecord {
    /// It failed since the last pause.
    failed: bool,
    /// Its UDP packets did not arrive: ask for TCP.
    udp_silent: bool,
}

impl Source {
    /// Starts at `now` with the best input. `seed` feeds jitter, SSRC and nonces.
    pub fn new(now: Instant, config: SourceConfig, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let mut source = Self {
            records: vec![InputRecord::default(); config.inputs.len()],
            config,
            now,
            phase: Phase::Idle,
            outputs: VecDeque::new(),
            backoff: Backoff::new(random.next_u64()),
            random,
            input: 0,
            url: None,
            redirects: 0,
            addresses: VecDeque::new(),
            media: None,
            reason: None,
            past: ClientStatistics::default(),
        };
        source.start_over();
        source
    }

    /// Other inputs or settings: a new attempt at once if the input in use changed, else none.
    pub fn update(&mut self, now: Instant, config: SourceConfig) {
        self.now = now;
        let before = std::mem::replace(&mut self.config, config);
        if matches!(self.phase, Phase::Stopping(_) | Phase::Stopped) {
            return;
        }
        let in_use = matches!(self.phase, Phase::Resolving(_) | Phase::Connecting(..) | Phase::Attempting(_));
        let same = |a: &Input, b: &Input| {
            (&a.url, &a.credentials, a.transport) == (&b.url, &b.credentials, b.transport)
        };
        let position = |old: &Input| self.config.inputs.iter().position(|new| same(old, new));
        let kept = before.inputs.get(self.input).and_then(position);
        let unchanged = before.inputs.len() == self.config.inputs.len()
            && before.inputs.iter().zip(&self.config.inputs).all(|(old, new)| same(old, new));
        if unchanged {
            return;
        }
        self.records = vec![InputRecord::default(); self.config.inputs.len()];
        match kept {
            Some(input) if in_use => {
                if std::mem::replace(&mut self.input, input) != input {
                    let state =
                        if self.media.is_some() { StreamState::Active } else { StreamState::Connecting };
                    let reason = self.reason.clone().filter(|_| self.media.is_none());
                    self.tell(state, reason, Some(input));
                }
            }
            _ => {
                self.abandon();
                self.backoff.reset();
                self.start_over();
            }
        }
    }

    /// TEARDOWN and stop for good.
    pub fn stop(&mut self, now: Instant) {
        self.now = now;
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Attempting(mut client) => {
                client.teardown(now);
                self.phase = Phase::Stopping(client);
            }
            Phase::Resolving(_) | Phase::Connecting(..) => {
                self.outputs.push_back(SourceOutput::Disconnect(Lane::A));
                self.stopped();
            }
            Phase::Waiting(_) | Phase::Idle => self.stopped(),
            over @ (Phase::Stopping(_) | Phase::Stopped) => self.phase = over,
        }
    }

    /// Answer to [`SourceOutput::Resolve`].
    pub fn handle_resolved(&mut self, now: Instant, _lane: Lane, addresses: Result<Vec<SocketAddr>, String>) {
        self.now = now;
        if !matches!(self.phase, Phase::Resolving(_)) {
            return;
        }
        match addresses {
            Ok(addresses) if addresses.is_empty() => self.fail("the camera's name has no address".to_owned()),
            Ok(addresses) => {
                self.addresses = addresses.into_iter().take(ADDRESSES_MAX).collect();
                self.connect_next();
            }
            Err(reason) => self.fail(format!("the camera's name cannot be looked up: {reason}")),
        }
    }

    /// Answer to [`SourceOutput::Connect`].
    pub fn handle_connected(&mut self, now: Instant, _lane: Lane, local: SocketAddr) {
        self.now = now;
        let Phase::Connecting(peer, _) = self.phase else { return };
        let (Some(input), Some(url)) = (self.config.inputs.get(self.input), self.url.clone()) else { return };
        let udp_silent = self.records.get(self.input).is_some_and(|record| record.udp_silent);
        let config = ClientConfig {
            basic_allowed: url.host_str() == input.url.host_str(),
            url,
            credentials: input.credentials.clone(),
            transport: if udp_silent { TransportPreference::Tcp } else { input.transport },
            reply_timeout: self.config.reply_timeout,
            silence_timeout: self.config.silence_timeout,
            seed: self.random.next_u64(),
        };
        self.phase = Phase::Attempting(Box::new(Client::new(now, config, local, peer)));
    }

    /// The connection (or the attempt at one) failed or was closed by the camera.
    pub fn handle_closed(&mut self, now: Instant, _lane: Lane, reason: &str) {
        self.now = now;
        match &mut self.phase {
            Phase::Connecting(address, _) => {
                let reason = format!("cannot connect to {address}: {reason}");
                self.connect_failed(reason);
            }
            Phase::Attempting(client) | Phase::Stopping(client) => client.handle_closed(now, reason),
            _ => {}
        }
    }

    /// Bytes came; whole frames are split off `received`.
    pub fn handle_received(&mut self, now: Instant, _lane: Lane, received: &mut BytesMut) {
        self.now = now;
        match self.client() {
            Some(client) => client.handle_received(now, received),
            None => received.clear(),
        }
    }

    /// Answer to [`SourceOutput::OpenUdp`]: the RTP port.
    pub fn handle_udp_opened(&mut self, now: Instant, _lane: Lane, rtp_port: Result<u16, String>) {
        self.now = now;
        if let Some(client) = self.client() {
            client.handle_udp_opened(now, rtp_port);
        }
    }

    /// A datagram came on the RTP socket.
    pub fn handle_udp_rtp(&mut self, now: Instant, _lane: Lane, from: SocketAddr, datagram: Bytes) {
        self.now = now;
        if let Some(client) = self.client() {
            client.handle_udp_rtp(now, from, datagram);
        }
    }

    /// A datagram came on the RTCP socket.
    pub fn handle_udp_rtcp(&mut self, now: Instant, _lane: Lane, from: SocketAddr, datagram: &[u8]) {
        self.now = now;
        if let Some(client) = self.client() {
            client.handle_udp_rtcp(now, from, datagram);
        }
    }

    /// A worker has opened its input.
    pub fn handle_foreign_playing(
        &mut self,
        now: Instant,
        _lane: Lane,
        _codec: Codec,
        _parameter_sets: Box<ParameterSets>,
    ) {
        self.now = now;
    }

    /// A picture of a worker's input came, which took so many bytes. The picture itself is the stream's.
    pub fn handle_foreign_unit(&mut self, now: Instant, _lane: Lane, _bytes: u64) {
        self.now = now;
    }

    /// The stream took the first picture of this lane.
    pub fn handle_on_air(&mut self, now: Instant, _lane: Lane) {
        self.now = now;
    }

    /// Whether anybody wants pictures; counts where the inputs are on demand.
    pub fn set_wanted(&mut self, now: Instant, _wanted: bool) {
        self.now = now;
    }

    /// How often another input took over, or a better one came back.
    pub fn failovers(&self) -> u64 {
        0
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        match &mut self.phase {
            Phase::Resolving(deadline) if now >= *deadline => {
                self.fail("the camera's name was not looked up in time".to_owned());
            }
            Phase::Connecting(address, deadline) if now >= *deadline => {
                let reason = format!("{address} did not accept the connection in time");
                self.connect_failed(reason);
            }
            Phase::Attempting(client) | Phase::Stopping(client) => client.handle_timeout(now),
            Phase::Waiting(until) if now >= *until => self.start_over(),
            _ => {}
        }
    }

    /// When to call [`Source::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Resolving(at) | Phase::Connecting(_, at) | Phase::Waiting(at) => Some(*at),
            Phase::Attempting(client) | Phase::Stopping(client) => client.poll_timeout(),
            Phase::Idle | Phase::Stopped => None,
        }
    }

    /// What to do, until `None`.
    pub fn poll_output(&mut self) -> Option<SourceOutput> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            let output = self.client()?.poll_output()?;
            if let Some(output) = self.handle_output(output) {
                return Some(output);
            }
        }
    }

    /// Counters over all attempts.
    pub fn statistics(&self) -> ClientStatistics {
        match &self.phase {
            Phase::Attempting(client) | Phase::Stopping(client) => sum(self.past, client.statistics()),
            _ => self.past,
        }
    }
}

/// One attempt after the other.
impl Source {
    fn client(&mut self) -> Option<&mut Client> {
        match &mut self.phase {
            Phase::Attempting(client) | Phase::Stopping(client) => Some(client),
            _ => None,
        }
    }

    /// What the client wants, as the driver's; `None` if it was for us.
    fn handle_output(&mut self, output: ClientOutput) -> Option<SourceOutput> {
        Some(match output {
            ClientOutput::Packet(_) | ClientOutput::Playing { .. } | ClientOutput::SenderReport(_)
                if matches!(self.phase, Phase::Stopping(_)) =>
            {
                return None;
            }
            ClientOutput::Packet(ordered) => return self.handle_packet(ordered),
            ClientOutput::Write(bytes) => SourceOutput::Write(Lane::A, bytes),
            ClientOutput::OpenUdp => SourceOutput::OpenUdp(Lane::A),
            ClientOutput::UdpPeer { rtp, rtcp } => SourceOutput::UdpPeer { lane: Lane::A, rtp, rtcp },
            ClientOutput::SendRtp(bytes) => SourceOutput::SendRtp(Lane::A, bytes),
            ClientOutput::SendRtcp(bytes) => SourceOutput::SendRtcp(Lane::A, bytes),
            ClientOutput::Playing { codec, clock_rate_hz, parameter_sets } => {
                SourceOutput::Playing { lane: Lane::A, codec, clock_rate_hz, parameter_sets }
            }
            ClientOutput::SenderReport(report) => SourceOutput::SenderReport(Lane::A, report),
            ClientOutput::Ended(error) => {
                self.handle_ended(error);
                return None;
            }
        })
    }

    fn handle_packet(&mut self, ordered: Ordered) -> Option<SourceOutput> {
        let packet = SourceOutput::Packet(Lane::A, ordered);
        match &mut self.media {
            Some((_, last)) => {
                *last = self.now;
                Some(packet)
            }
            None => {
                self.media = Some((self.now, self.now));
                self.tell(StreamState::Active, None, Some(self.input));
                self.outputs.push_back(packet);
                None
            }
        }
    }

    fn handle_ended(&mut self, error: ClientError) {
        if matches!(self.phase, Phase::Stopping(_)) {
            self.close_client();
            return self.stopped();
        }
        match error {
            ClientError::Redirect(url) => self.redirect(url),
            ClientError::UdpSilent => {
                self.close_client();
                if let Some(record) = self.records.get_mut(self.input) {
                    record.udp_silent = true;
                }
                self.reason = Some(self.named(&error.to_string()));
                self.attempt();
            }
            error => self.fail(error.to_string()),
        }
    }

    fn redirect(&mut self, url: Url) {
        if self.redirects == REDIRECTS_MAX {
            return self.fail(format!("the camera redirects more than {REDIRECTS_MAX} times"));
        }
        self.close_client();
        self.redirects += 1;
        self.url = Some(url);
        self.attempt();
    }

    /// The best input, with a clean slate.
    fn start_over(&mut self) {
        for record in &mut self.records {
            record.failed = false;
        }
        self.use_input(0);
    }

    fn use_input(&mut self, input: usize) {
        self.input = input;
        self.redirects = 0;
        self.url = self.config.inputs.get(input).map(|input| input.url.clone());
        self.attempt();
    }

    /// An attempt at `url`.
    fn attempt(&mut self) {
        self.phase = Phase::Idle;
        self.media = None;
        let Some(url) = self.url.clone() else {
            return self.tell(StreamState::Error, Some("the stream has no inputs".to_owned()), None);
        };
        self.tell(StreamState::Connecting, self.reason.clone(), Some(self.input));
        if url.scheme() != "rtsp" {
            return self.fail(format!("{} URLs are not supported, only rtsp", url.scheme()));
        }
        match Address::of(&url) {
            Some(Address::Literal(address)) => {
                self.addresses = VecDeque::from([address]);
                self.connect_next();
            }
            Some(Address::Name { host, port }) => {
                self.phase = Phase::Resolving(self.now + self.config.connect_timeout);
                self.outputs.push_back(SourceOutput::Resolve { lane: Lane::A, host, port });
            }
            None => self.fail("the URL has no host".to_owned()),
        }
    }

    fn connect_next(&mut self) {
        if let Some(address) = self.addresses.pop_front() {
            self.phase = Phase::Connecting(address, self.now + self.config.connect_timeout);
            self.outputs.push_back(SourceOutput::Connect {
                lane: Lane::A,
                to: address,
                input: self.input,
                tls_name: None,
            });
        }
    }

    fn connect_failed(&mut self, reason: String) {
        if self.addresses.is_empty() {
            self.fail(reason);
        } else {
            self.outputs.push_back(SourceOutput::Disconnect(Lane::A));
            self.connect_next();
        }
    }

    /// The attempt failed: the next input at once, or the best one after a pause.
    fn fail(&mut self, reason: String) {
        self.close_client();
        if self.media.is_some_and(|(first, last)| last - first >= HEALTHY_PERIOD) {
            self.backoff.reset();
            self.records.iter_mut().for_each(|record| record.failed = false);
        }
        let reason = self.named(&reason);
        self.tell(StreamState::Error, Some(reason.clone()), None);
        self.reason = Some(reason);
        if let Some(record) = self.records.get_mut(self.input) {
            // What was learnt of UDP may have been the network's fault.
            *record = InputRecord { failed: true, udp_silent: record.udp_silent && self.media.is_some() };
        }
        self.media = None;
        match self.records.iter().position(|record| !record.failed) {
            Some(next) => self.use_input(next),
            None => {
                let pause = self.backoff.next_pause(self.config.restart_interval);
                self.phase = Phase::Waiting(self.now + pause);
            }
        }
    }

    /// With several inputs, a reason names its own.
    fn named(&self, reason: &str) -> String {
        match self.config.inputs.get(self.input) {
            Some(input) if self.config.inputs.len() > 1 => format!("{}: {reason}", input.label),
            _ => reason.to_owned(),
        }
    }

    /// Ends what is under way, with a TEARDOWN if there is a session.
    fn abandon(&mut self) {
        if let Phase::Attempting(client) = &mut self.phase {
            client.teardown(self.now);
            while let Some(output) = client.poll_output() {
                // What only concerns media is of no use any more.
                if let ClientOutput::Write(bytes) = output {
                    self.outputs.push_back(SourceOutput::Write(Lane::A, bytes));
                }
            }
        }
        self.close_client();
        self.media = None;
        self.reason = None;
    }

    /// No connection, look-up or socket outlives its attempt.
    fn close_client(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Attempting(client) | Phase::Stopping(client) => {
                self.past = sum(self.past, client.statistics());
                self.outputs.push_back(SourceOutput::Disconnect(Lane::A));
            }
            Phase::Resolving(_) | Phase::Connecting(..) => {
                self.outputs.push_back(SourceOutput::Disconnect(Lane::A))
            }
            Phase::Waiting(_) | Phase::Idle | Phase::Stopped => {}
        }
    }

    fn stopped(&mut self) {
        self.phase = Phase::Stopped;
        self.tell(StreamState::Inactive, None, None);
        self.outputs.push_back(SourceOutput::Stopped);
    }

    fn tell(&mut self, state: StreamState, reason: Option<String>, active_input: Option<usize>) {
        self.outputs.push_back(SourceOutput::State { state, reason, active_input });
    }
}

fn sum(a: ClientStatistics, b: ClientStatistics) -> ClientStatistics {
    ClientStatistics { packets: a.packets + b.packets, lost: a.lost + b.lost, dropped: a.dropped + b.dropped }
}

/// A chain longer than this is a loop.
const REDIRECTS_MAX: u8 = 5;
/// A name with more addresses than this is tried by its first ones.
const ADDRESSES_MAX: usize = 8;
/// Media for so long means that the input works, and that its next failure is a first one.
const HEALTHY_PERIOD: Duration = Duration::from_secs(10);
