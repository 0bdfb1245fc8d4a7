//! One attempt at one input, in one lane: the look-up of its name, the connection, the RTSP dialogue; or a worker's input.
//!
//! Says what the driver should do, and why it failed. Which input is tried, and when again, is the source's.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use lanecast_protocol::codec::{Codec, ParameterSets};
use lanecast_protocol::rtsp::{
    Client, ClientConfig, ClientError, ClientOutput, ClientStatistics, SplitMix64, TransportPreference,
};
use url::Url;

use super::address::{Address, bare_host, denial};
use super::rate::ByteRate;
use super::{Input, InputKind, Lane, SourceConfig, SourceOutput};

/// What every call brings with it.
pub(super) struct Turn<'a> {
    pub(super) now: Instant,
    pub(super) config: &'a SourceConfig,
    pub(super) outputs: &'a mut VecDeque<SourceOutput>,
}

/// Why an attempt cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// For an operator.
    pub(super) reason: String,
    /// The user name or password was wrong: cameras lock out who tries that often.
    pub(super) unauthorized: bool,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { reason, unauthorized: false }
    }
}

impl From<&str> for Failure {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

/// What an attempt is at.
#[derive(Debug)]
enum Phase {
    /// Nothing is open.
    Closed,
    /// A name is being looked up, until then at most.
    Resolving(Instant),
    /// A TCP connect to this address is under way, until then at most.
    Connecting(SocketAddr, Instant),
    /// A dialogue is under way with this address, or media comes.
    Dialogue(SocketAddr, Box<Client>),
    /// A worker opens the input, until then at most.
    Opening(Instant),
    /// A worker reads the input, which must send something until then.
    Reading(Instant),
}

/// The machine.
#[derive(Debug)]
pub(super) struct Attempt {
    lane: Lane,
    /// Index into the inputs of the configuration.
    pub(super) input: usize,
    /// The input's URL, or where it redirected to.
    url: Url,
    redirects: u8,
    /// Addresses still to be tried.
    addresses: VecDeque<SocketAddr>,
    phase: Phase,
    /// Its UDP packets did not arrive: ask for TCP.
    pub(super) udp_silent: bool,
    /// When the first and the last packet came.
    media: Option<(Instant, Instant)>,
    rate: ByteRate,
    /// Bytes at the head of the receive buffer that were counted already.
    counted: usize,
    /// Counters of the dialogues before this one.
    past: ClientStatistics,
    random: SplitMix64,
}

impl Attempt {
    /// Begins.
    ///
    /// # Errors
    /// It cannot: the URL, or its address. Nothing was asked of the driver then.
    pub(super) fn start(
        turn: &mut Turn<'_>,
        lane: Lane,
        input: usize,
        udp_silent: bool,
        seed: u64,
    ) -> Result<Self, Failure> {
        let url = turn.config.inputs.get(input).map(|input| input.url.clone());
        let mut attempt = Self {
            lane,
            input,
            url: url.ok_or("there is no such input")?,
            redirects: 0,
            addresses: VecDeque::new(),
            phase: Phase::Closed,
            udp_silent,
            media: None,
            rate: ByteRate::default(),
            counted: 0,
            past: ClientStatistics::default(),
            random: SplitMix64::new(seed),
        };
        attempt.go(turn)?;
        Ok(attempt)
    }

    /// Answer to [`SourceOutput::Resolve`].
    pub(super) fn handle_resolved(
        &mut self,
        turn: &mut Turn<'_>,
        addresses: Result<Vec<SocketAddr>, String>,
    ) -> Result<(), Failure> {
        if !matches!(self.phase, Phase::Resolving(_)) {
            return Ok(());
        }
        let addresses =
            addresses.map_err(|reason| format!("the camera's name cannot be looked up: {reason}"))?;
        self.addresses = addresses.into_iter().take(ADDRESSES_MAX).collect();
        match self.kind(turn) {
            InputKind::Rtsp => self.connect_next(turn, None),
            InputKind::Foreign => self.open_resolved(turn),
        }
    }

    /// Answer to [`SourceOutput::Connect`].
    pub(super) fn handle_connected(&mut self, turn: &mut Turn<'_>, local: SocketAddr) {
        let Phase::Connecting(peer, _) = self.phase else { return };
        let Some(input) = turn.config.inputs.get(self.input) else { return };
        let config = ClientConfig {
            url: self.url.clone(),
            credentials: input.credentials.clone(),
            basic_allowed: self.url.host_str() == input.url.host_str(),
            transport: self.transport(input),
            reply_timeout: turn.config.reply_timeout,
            silence_timeout: turn.config.silence_timeout,
            seed: self.random.next_u64(),
        };
        self.counted = 0;
        self.phase = Phase::Dialogue(peer, Box::new(Client::new(turn.now, config, local, peer)));
    }

    /// The connection, the attempt at one, or the worker's input ended.
    pub(super) fn handle_closed(&mut self, turn: &mut Turn<'_>, reason: &str) -> Result<(), Failure> {
        match &mut self.phase {
            Phase::Connecting(address, _) => {
                let reason = format!("cannot connect to {address}: {reason}");
                self.connect_failed(turn, reason.into())
            }
            Phase::Dialogue(_, client) => {
                client.handle_closed(turn.now, reason);
                Ok(())
            }
            Phase::Opening(_) | Phase::Reading(_) => Err(reason.into()),
            Phase::Closed | Phase::Resolving(_) => Ok(()),
        }
    }

    /// Bytes came over the RTSP connection; whole frames are split off `received`.
    pub(super) fn handle_received(
        &mut self,
        turn: &mut Turn<'_>,
        received: &mut BytesMut,
    ) -> Result<(), Failure> {
        let bytes = received.len().saturating_sub(self.counted);
        let Phase::Dialogue(_, client) = &mut self.phase else {
            received.clear();
            return Ok(());
        };
        client.handle_received(turn.now, received);
        self.counted = received.len();
        self.count(turn, bytes)
    }

    /// A datagram came on the RTP socket.
    pub(super) fn handle_udp_rtp(
        &mut self,
        turn: &mut Turn<'_>,
        from: SocketAddr,
        datagram: Bytes,
    ) -> Result<(), Failure> {
        let Phase::Dialogue(_, client) = &mut self.phase else { return Ok(()) };
        let bytes = datagram.len();
        client.handle_udp_rtp(turn.now, from, datagram);
        self.count(turn, bytes)
    }

    /// A datagram came on the RTCP socket.
    pub(super) fn handle_udp_rtcp(
        &mut self,
        turn: &mut Turn<'_>,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), Failure> {
        let Phase::Dialogue(_, client) = &mut self.phase else { return Ok(()) };
        client.handle_udp_rtcp(turn.now, from, datagram);
        self.count(turn, datagram.len())
    }

    /// A worker has opened its input.
    pub(super) fn handle_foreign_playing(
        &mut self,
        turn: &mut Turn<'_>,
        codec: Codec,
        parameter_sets: Box<ParameterSets>,
    ) {
        if let Phase::Opening(_) | Phase::Reading(_) = self.phase {
            self.phase = Phase::Reading(turn.now + turn.config.silence_timeout);
            turn.outputs.push_back(SourceOutput::Playing {
                lane: self.lane,
                codec,
                clock_rate_hz: FOREIGN_CLOCK_RATE_HZ,
                parameter_sets,
            });
        }
    }

    /// A picture of a worker's input came; false if none was expected.
    pub(super) fn handle_foreign_unit(&mut self, turn: &mut Turn<'_>, bytes: u64) -> Result<bool, Failure> {
        let Phase::Reading(silent_at) = &mut self.phase else { return Ok(false) };
        *silent_at = turn.now + turn.config.silence_timeout;
        self.count(turn, usize::try_from(bytes).unwrap_or(usize::MAX))?;
        Ok(true)
    }

    /// Media came; true for the first.
    pub(super) fn handle_media(&mut self, now: Instant) -> bool {
        match &mut self.media {
            Some((_, last)) => {
                *last = now;
                false
            }
            None => {
                self.media = Some((now, now));
                true
            }
        }
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, turn: &mut Turn<'_>) -> Result<(), Failure> {
        match &mut self.phase {
            Phase::Resolving(deadline) if turn.now >= *deadline => {
                Err("the camera's name was not looked up in time".into())
            }
            Phase::Connecting(address, deadline) if turn.now >= *deadline => {
                let what = match self.url.scheme() {
                    "rtsps" => "accept the connection and end the TLS handshake",
                    _ => "accept the connection",
                };
                let reason = format!("{address} did not {what} in time");
                self.connect_failed(turn, reason.into())
            }
            Phase::Opening(deadline) if turn.now >= *deadline => Err("the input did not open in time".into()),
            Phase::Reading(deadline) if turn.now >= *deadline => {
                Err(format!("the input sent no media for {} s", turn.config.silence_timeout.as_secs()).into())
            }
            Phase::Dialogue(_, client) => {
                client.handle_timeout(turn.now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// When to call [`Attempt::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Resolving(at) | Phase::Connecting(_, at) | Phase::Opening(at) | Phase::Reading(at) => {
                Some(*at)
            }
            Phase::Dialogue(_, client) => client.poll_timeout(),
            Phase::Closed => None,
        }
    }

    /// Whom the connection is with.
    pub(super) fn client(&mut self) -> Option<&mut Client> {
        match &mut self.phase {
            Phase::Dialogue(_, client) => Some(client),
            _ => None,
        }
    }

    /// The dialogue ended. Where it goes on elsewhere or otherwise, `Ok` says why, for an operator, if there is a reason.
    pub(super) fn handle_ended(
        &mut self,
        turn: &mut Turn<'_>,
        error: ClientError,
    ) -> Result<Option<String>, Failure> {
        match error {
            ClientError::Redirect(url) => self.redirect(turn, url).map(|()| None),
            ClientError::UdpSilent => {
                self.close(turn);
                self.udp_silent = true;
                self.go(turn).map(|()| Some(ClientError::UdpSilent.to_string()))
            }
            error => {
                let unauthorized = error == ClientError::Unauthorized;
                Err(Failure { reason: error.to_string(), unauthorized })
            }
        }
    }

    /// Asks the camera to end; true if an answer is waited for.
    pub(super) fn teardown(&mut self, now: Instant) -> bool {
        let client = self.client();
        let under_way = client.is_some();
        if let Some(client) = client {
            client.teardown(now);
        }
        under_way
    }

    /// Ends what is under way, with a TEARDOWN if there is a session. No connection, look-up or socket outlives it.
    pub(super) fn end(&mut self, turn: &mut Turn<'_>) {
        let (now, lane) = (turn.now, self.lane);
        if let Some(client) = self.client() {
            client.teardown(now);
            while let Some(output) = client.poll_output() {
                // What only concerns media is of no use any more.
                if let ClientOutput::Write(bytes) = output {
                    turn.outputs.push_back(SourceOutput::Write(lane, bytes));
                }
            }
        }
        self.close(turn);
    }

    /// For how long media has come; `None` before the first.
    pub(super) fn delivered(&self) -> Option<Duration> {
        self.media.map(|(first, last)| last - first)
    }

    /// Whether these networks leave it where it is. A worker's input does not say where that is.
    pub(super) fn is_allowed(&self, config: &SourceConfig) -> bool {
        let peer = match (&self.phase, Address::of(&self.url)) {
            (Phase::Connecting(peer, _) | Phase::Dialogue(peer, _), _) => *peer,
            (Phase::Opening(_) | Phase::Reading(_), Some(Address::Literal(peer))) => peer,
            (Phase::Opening(_) | Phase::Reading(_), Some(Address::Name { .. })) => {
                return config.denied.is_empty();
            }
            _ => return true,
        };
        denial(&config.denied, peer.ip()).is_none()
    }

    /// Counters.
    pub(super) fn statistics(&self) -> ClientStatistics {
        match &self.phase {
            Phase::Dialogue(_, client) => sum(self.past, client.statistics()),
            _ => self.past,
        }
    }
}

/// From the URL to the dialogue.
impl Attempt {
    fn kind(&self, turn: &Turn<'_>) -> InputKind {
        turn.config.inputs.get(self.input).map_or(InputKind::Rtsp, |input| input.kind)
    }

    fn transport(&self, input: &Input) -> TransportPreference {
        // Datagrams beside a TLS connection would not be encrypted.
        match self.udp_silent || self.url.scheme() == "rtsps" {
            true => TransportPreference::Tcp,
            false => input.transport,
        }
    }

    /// To `url`.
    fn go(&mut self, turn: &mut Turn<'_>) -> Result<(), Failure> {
        self.media = None;
        let foreign = self.kind(turn) == InputKind::Foreign;
        if !foreign && !matches!(self.url.scheme(), "rtsp" | "rtsps") {
            return Err(format!("{} URLs are not supported, only rtsp and rtsps", self.url.scheme()).into());
        }
        match Address::of(&self.url) {
            _ if foreign && turn.config.denied.is_empty() => self.open(turn),
            None if foreign => self.open(turn),
            None => return Err("the URL has no host".into()),
            Some(Address::Literal(address)) => {
                self.addresses = VecDeque::from([address]);
                return if foreign { self.open_resolved(turn) } else { self.connect_next(turn, None) };
            }
            Some(Address::Name { host, port }) => {
                self.phase = Phase::Resolving(turn.now + turn.config.connect_timeout);
                turn.outputs.push_back(SourceOutput::Resolve { lane: self.lane, host, port });
            }
        }
        Ok(())
    }

    fn open(&mut self, turn: &mut Turn<'_>) {
        let config = turn.config;
        let patience = config.connect_timeout + config.reply_timeout + config.silence_timeout;
        self.phase = Phase::Opening(turn.now + patience);
        turn.outputs.push_back(SourceOutput::Open { lane: self.lane, input: self.input });
    }

    /// None of its addresses may be denied, for the worker looks the name up again by itself and takes any. A name that
    /// changes between the two look-ups is not caught: only a firewall does that.
    fn open_resolved(&mut self, turn: &mut Turn<'_>) -> Result<(), Failure> {
        // These receive at this address, and connect nowhere.
        let receives = matches!(self.url.scheme(), "udp" | "srt");
        let is_anywhere = |ip: std::net::IpAddr| ip.is_unspecified() && receives;
        let mut addresses = self.addresses.iter().map(SocketAddr::ip).filter(|ip| !is_anywhere(*ip));
        if let Some(reason) = addresses.find_map(|ip| denial(&turn.config.denied, ip)) {
            return Err(reason.into());
        }
        if self.addresses.is_empty() {
            return Err(NO_ADDRESS.into());
        }
        self.open(turn);
        Ok(())
    }

    /// To the next address that is not denied; `failure` is why the one before it did not do.
    fn connect_next(&mut self, turn: &mut Turn<'_>, mut failure: Option<Failure>) -> Result<(), Failure> {
        while let Some(to) = self.addresses.pop_front() {
            if let Some(reason) = denial(&turn.config.denied, to.ip()) {
                failure.get_or_insert(reason.into());
                continue;
            }
            self.phase = Phase::Connecting(to, turn.now + turn.config.connect_timeout);
            let encrypted = self.url.scheme() == "rtsps";
            turn.outputs.push_back(SourceOutput::Connect {
                lane: self.lane,
                to,
                input: self.input,
                tls_name: bare_host(&self.url).filter(|_| encrypted).map(str::to_owned),
            });
            return Ok(());
        }
        Err(failure.unwrap_or_else(|| NO_ADDRESS.into()))
    }

    fn connect_failed(&mut self, turn: &mut Turn<'_>, failure: Failure) -> Result<(), Failure> {
        self.close(turn);
        self.connect_next(turn, Some(failure))
    }

    fn redirect(&mut self, turn: &mut Turn<'_>, url: Url) -> Result<(), Failure> {
        if self.redirects == REDIRECTS_MAX {
            return Err(format!("the camera redirects more than {REDIRECTS_MAX} times").into());
        }
        if self.url.scheme() == "rtsps" && url.scheme() != "rtsps" {
            return Err("the camera redirects from rtsps to rtsp, where the password could be read".into());
        }
        self.close(turn);
        self.redirects += 1;
        self.url = url;
        self.go(turn)
    }

    fn count(&mut self, turn: &Turn<'_>, bytes: usize) -> Result<(), Failure> {
        let bits_per_second_max = turn.config.bits_per_second_max;
        if !self.rate.exceeds(turn.now, bytes as u64, bits_per_second_max) {
            return Ok(());
        }
        let megabits = bits_per_second_max as f64 / 1e6;
        Err(format!("the camera sends more than source.max_bits_per_second ({megabits} Mb/s)").into())
    }

    fn close(&mut self, turn: &mut Turn<'_>) {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Closed => return,
            Phase::Dialogue(_, client) => self.past = sum(self.past, client.statistics()),
            Phase::Resolving(_) | Phase::Connecting(..) | Phase::Opening(_) | Phase::Reading(_) => {}
        }
        turn.outputs.push_back(SourceOutput::Disconnect(self.lane));
    }
}

/// Both together.
pub(super) fn sum(a: ClientStatistics, b: ClientStatistics) -> ClientStatistics {
    ClientStatistics { packets: a.packets + b.packets, lost: a.lost + b.lost, dropped: a.dropped + b.dropped }
}

const NO_ADDRESS: &str = "the camera's name has no address";
/// A chain longer than this is a loop.
const REDIRECTS_MAX: u8 = 5;
/// A name with more addresses than this is tried by its first ones.
const ADDRESSES_MAX: usize = 8;
/// Workers tell times of display at the rate of viewers' timestamps.
const FOREIGN_CLOCK_RATE_HZ: u32 = 90_000;
