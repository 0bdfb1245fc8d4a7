//! As little of a WebRTC peer as servers accept: ICE, DTLS, the headers of all packets and the inside of a few, reports.
//!
//! It has no socket and no clock: datagrams and moments come in, [`LightPeer::poll_transmit`] and
//! [`LightPeer::destination`] say what to send where, [`LightPeer::poll_timeout`] when to call
//! [`LightPeer::handle_timeout`].

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::continuity::{Counts, Form};
use crate::nal::Codec;
use crate::peer::Descriptions;
use crate::peer::description::{Local, Remote, Setup};
use crate::peer::dtls::{Handshake, Identity, Progress};
use crate::peer::feedback::{self, Arrivals, Block};
use crate::peer::gaps::{Arrival, Gaps};
use crate::peer::ice::{Agent, Credentials};
use crate::peer::report::{PeerCounts, PeerOutcome};
use crate::peer::srtp::Srtp;
use crate::peer::stun;
use crate::receive::Datagram;
use crate::reception::{Latency, Reception, Sight};
use crate::rtp::Packet;

/// How light peers behave.
#[derive(Clone, Debug)]
pub struct Conduct {
    /// What they say they decode.
    pub codecs: Vec<Codec>,
    /// Ask for what is missing.
    pub nacks: bool,
    /// Report arrivals by transport-wide sequence numbers, where the server has them.
    pub transport_feedback: bool,
    /// One packet, and one access unit's head, in so many is opened once a whole picture came.
    pub open_every: u32,
}

/// A peer whose descriptions are being exchanged.
#[derive(Clone, Debug)]
pub struct Draft {
    identity: Arc<Identity>,
    conduct: Arc<Conduct>,
    credentials: Credentials,
    remote: Option<Remote>,
}

impl Draft {
    /// A peer that nobody knows yet.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn new(identity: Arc<Identity>, conduct: Arc<Conduct>) -> Result<Self, String> {
        Ok(Self { identity, conduct, credentials: Credentials::random()?, remote: None })
    }

    fn local(&self) -> Local<'_> {
        Local {
            credentials: &self.credentials,
            fingerprint: self.identity.fingerprint(),
            codecs: &self.conduct.codecs,
        }
    }
}

impl Descriptions for Draft {
    fn offer(&mut self) -> Result<String, String> {
        Ok(self.local().offer())
    }

    fn accept_answer(&mut self, answer: &str) -> Result<(), String> {
        self.remote = Some(Remote::parse(answer)?);
        Ok(())
    }

    fn answer(&mut self, offer: &str) -> Result<String, String> {
        let (answer, remote) = self.local().answer(offer)?;
        self.remote = Some(remote);
        Ok(answer)
    }
}

/// A peer that knows its server.
pub struct LightPeer {
    identity: Arc<Identity>,
    conduct: Arc<Conduct>,
    remote: Remote,
    agent: Agent,
    handshake: Option<Handshake>,
    srtp: Option<Srtp>,
    reception: Reception,
    gaps: Gaps,
    arrivals: Arrivals,
    reports: Reports,
    ssrc: Option<u32>,
    answered: Moment,
    sampling: Sampling,
    outcome: PeerOutcome,
    picture_loss_at: Option<Moment>,
    transport_feedback_at: Option<Moment>,
    outbox: VecDeque<Vec<u8>>,
    failure: Option<String>,
}

/// Which packets are opened.
#[derive(Clone, Copy, Debug, Default)]
struct Sampling {
    packets: u32,
    packets_at_unit: u32,
    /// The head of the present access unit is opened.
    unit: bool,
}

/// What receiver reports are made of.
#[derive(Clone, Copy, Debug, Default)]
struct Reports {
    next: Option<Moment>,
    /// Arrival minus RTP timestamp of the newest packet, in 1/90000 s.
    transit: Option<i64>,
    /// In 1/16 of 1/90000 s.
    jitter: u64,
    last: Option<(u32, Moment)>,
    expected: u64,
    lost: u64,
}

impl LightPeer {
    /// Begins with ICE.
    ///
    /// # Errors
    /// When the draft has no description of the server, or that has no candidate.
    pub fn new(draft: Draft, now: Moment) -> Result<Self, String> {
        let Draft { identity, conduct, credentials, remote } = draft;
        let remote = remote.ok_or("no description from the server")?;
        if remote.candidates.is_empty() {
            return Err("sdp: no UDP candidate".into());
        }
        let agent = Agent::new(credentials, remote.credentials.clone(), remote.candidates.clone(), now);
        let mut peer = Self {
            identity,
            conduct,
            remote,
            agent,
            handshake: None,
            srtp: None,
            reception: Reception::new(Form::Negotiated),
            gaps: Gaps::default(),
            arrivals: Arrivals::default(),
            reports: Reports::default(),
            ssrc: None,
            answered: now,
            sampling: Sampling::default(),
            outcome: PeerOutcome { answered: Some(now), ..PeerOutcome::default() },
            picture_loss_at: None,
            transport_feedback_at: None,
            outbox: VecDeque::new(),
            failure: None,
        };
        peer.handle_timeout(now);
        Ok(peer)
    }

    /// Where everything goes.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.agent.destination()
    }

    /// The destination cannot be sent to: the next candidate's turn.
    pub fn reject_destination(&mut self, now: Moment) {
        self.agent.reject_destination(now);
    }

    /// What it received.
    pub fn reception(&self) -> &Reception {
        &self.reception
    }

    /// What it has counted of its packets.
    pub fn counts(&self) -> Counts {
        self.reception.counts()
    }

    /// What else it leaves.
    pub fn outcome(&self) -> PeerOutcome {
        self.outcome
    }

    /// Why it is over.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref().or(self.agent.failure())
    }

    /// How far it is, for one that gets no packet.
    pub fn stage(&self) -> &'static str {
        match (self.outcome.connected, self.outcome.keyed) {
            (None, _) => "join: no answer to ICE in time",
            (Some(_), None) => "join: no end of the DTLS handshake in time",
            (Some(_), Some(_)) => "join: no packet in time",
        }
    }

    /// Takes a datagram. Gives the latency at the end of an access unit that was looked at.
    #[inline]
    pub fn handle_datagram(&mut self, datagram: Datagram<'_>) -> Option<Latency> {
        match datagram.bytes.first()? {
            128..=191 => return self.handle_media(datagram),
            0..=3 => self.handle_stun(datagram.read, datagram.bytes),
            20..=63 => self.handle_dtls(datagram.read, datagram.bytes),
            _ => self.reception.handle_foreign(),
        }
        None
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Moment) {
        if let Some(check) = self.agent.handle_timeout(now) {
            self.outbox.push_back(check);
        }
        self.drive_handshake(now, |handshake| handshake.handle_timeout(now).map(|()| Progress::Waiting));
        let Some(ssrc) = self.ssrc else { return };
        if due(self.reports.next, now) {
            self.reports.next = Some(now + REPORT_INTERVAL);
            let block = self.reports.block(ssrc, self.gaps.newest_extended(), &self.reception.counts(), now);
            self.send_rtcp(&feedback::receiver_report(SENDER_SSRC, &block));
            self.outcome.counts.receiver_reports += 1;
        }
        if due(self.picture_loss_at, now) {
            let wanted = self.reception.first_picture().is_none();
            self.picture_loss_at = wanted.then_some(now + PICTURE_LOSS_INTERVAL);
            if wanted {
                self.send_rtcp(&feedback::picture_loss(SENDER_SSRC, ssrc));
                self.outcome.counts.picture_losses += 1;
            }
        }
        if self.conduct.nacks && self.remote.nack && due(self.gaps.poll_timeout(), now) {
            let wanted = self.gaps.take_requests(now);
            for some in wanted.chunks(NACKED_AT_ONCE_MAX) {
                self.send_rtcp(&feedback::nack(SENDER_SSRC, ssrc, some));
            }
            self.outcome.counts.nacked += wanted.len() as u64;
        }
        if due(self.transport_feedback_at, now) {
            self.transport_feedback_at = None;
            while let Some(report) = self.arrivals.take_report(SENDER_SSRC, ssrc) {
                self.send_rtcp(&report);
                self.outcome.counts.transport_feedback += 1;
            }
        }
    }

    /// When [`LightPeer::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let nacks = self.gaps.poll_timeout().filter(|_| self.conduct.nacks && self.remote.nack);
        [
            self.agent.poll_timeout(),
            self.handshake.as_ref().and_then(Handshake::poll_timeout),
            self.reports.next,
            self.picture_loss_at,
            self.transport_feedback_at,
            nacks,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether there is something to send.
    pub fn has_transmit(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outbox.pop_front()
    }

    /// Says good-bye.
    pub fn close(&mut self, now: Moment) {
        if let Some(handshake) = &mut self.handshake {
            handshake.close(now);
            self.outbox.extend(std::iter::from_fn(|| handshake.poll_transmit()));
        }
    }

    fn handle_stun(&mut self, now: Moment, bytes: &[u8]) {
        if !stun::is_stun(bytes) {
            return;
        }
        self.outbox.extend(self.agent.handle_datagram(now, bytes));
        if self.outcome.connected.is_none() && self.agent.connected().is_some() {
            self.outcome.connected = Some(now);
            self.begin_handshake(now);
        }
    }

    fn begin_handshake(&mut self, now: Moment) {
        let Some(destination) = self.destination() else { return };
        let is_client = self.remote.setup != Setup::Active;
        let identity = Arc::clone(&self.identity);
        match Handshake::new(identity, is_client, destination, &self.remote.fingerprint, now) {
            Ok(handshake) => self.handshake = Some(handshake),
            Err(cause) => self.failure = Some(cause),
        }
        self.drive_handshake(now, |_| Ok(Progress::Waiting));
    }

    fn handle_dtls(&mut self, now: Moment, bytes: &[u8]) {
        self.drive_handshake(now, |handshake| handshake.handle_datagram(now, bytes));
    }

    fn drive_handshake(
        &mut self,
        now: Moment,
        step: impl FnOnce(&mut Handshake) -> Result<Progress, String>,
    ) {
        let Some(handshake) = &mut self.handshake else { return };
        let progress = step(handshake);
        self.outbox.extend(std::iter::from_fn(|| handshake.poll_transmit()));
        match progress {
            Ok(Progress::Waiting) => {}
            Ok(Progress::Connected(keying)) => {
                self.outcome.keyed = Some(now);
                self.outcome.profile = Some(keying.profile);
                match Srtp::new(&keying, self.identity.provider().crypto()) {
                    Ok(srtp) => self.srtp = Some(srtp),
                    Err(cause) => self.failure = Some(cause),
                }
            }
            Ok(Progress::Closed) => self.failure = Some("dtls: closed by the server".into()),
            Err(cause) => self.failure = Some(cause),
        }
    }

    #[inline]
    fn handle_media(&mut self, datagram: Datagram<'_>) -> Option<Latency> {
        if datagram.bytes.get(1).is_some_and(|kind| (192..=223).contains(kind)) {
            self.handle_rtcp(datagram.read, datagram.bytes);
            return None;
        }
        let Ok(packet) = Packet::parse_sealed(datagram.bytes) else {
            self.reception.handle_foreign();
            return None;
        };
        let arrived = datagram.arrived.unwrap_or(datagram.read);
        if self.conduct.transport_feedback
            && let Some(id) = self.remote.transport_cc
            && let Some(number) = feedback::extension_u16(datagram.bytes, id)
        {
            self.arrivals.handle_packet(arrived, number);
            self.transport_feedback_at.get_or_insert(datagram.read + TRANSPORT_FEEDBACK_INTERVAL);
        }
        if self.remote.repeats(packet.payload_type()).is_some() {
            self.handle_retransmission(datagram);
            return None;
        }
        let Some(codec) = self.remote.codec(packet.payload_type()) else {
            self.reception.handle_foreign();
            return None;
        };
        if self.ssrc != Some(packet.ssrc()) {
            self.begin_stream(packet.ssrc(), codec, datagram.read);
        }
        match self.gaps.handle_packet(datagram.read, packet.sequence_number()) {
            Arrival::New => self.reports.handle_packet(arrived, packet.rtp_timestamp()),
            Arrival::Filled if self.conduct.nacks => {
                self.reception.handle_recovered();
                self.outcome.counts.repeats += 1;
                return None;
            }
            Arrival::Known if self.conduct.nacks => {
                // It came by itself when it had been asked for already.
                self.outcome.counts.repeats += 1;
                return None;
            }
            Arrival::Filled | Arrival::Known => {}
        }
        self.look_at(&packet, datagram)
    }

    /// The first packet of another SSRC than before.
    fn begin_stream(&mut self, ssrc: u32, codec: Codec, now: Moment) {
        self.ssrc = Some(ssrc);
        self.gaps = Gaps::default();
        self.reports = Reports { next: Some(now + REPORT_INTERVAL), ..Reports::default() };
        self.picture_loss_at.get_or_insert(now + PICTURE_PATIENCE);
        self.reception.set_codec(codec);
    }

    #[inline]
    fn look_at(&mut self, packet: &Packet<'_>, datagram: Datagram<'_>) -> Option<Latency> {
        let Datagram { bytes, arrived, read, .. } = datagram;
        let joining = self.reception.first_picture().is_none();
        let sampling = &mut self.sampling;
        sampling.packets += 1;
        sampling.packets_at_unit += 1;
        if self.reception.begins_unit(packet) {
            sampling.unit = joining || sampling.packets_at_unit >= self.conduct.open_every;
            if sampling.unit {
                sampling.packets_at_unit = 0;
            }
        }
        let head = sampling.unit && (self.reception.begins_unit(packet) || self.reception.is_in_unit_head());
        let wanted = joining || head || packet.is_padded() || sampling.packets >= self.conduct.open_every;
        let opened = wanted.then(|| self.open(bytes));
        match opened.flatten().as_deref().map(Packet::parse) {
            Some(Ok(clear)) if clear.payload().is_empty() => {
                self.reception.handle_padding(packet, bytes.len());
                None
            }
            Some(Ok(clear)) if joining || head => {
                self.reception.handle_parsed(&clear, bytes.len(), Sight::Clear, arrived, read)
            }
            _ => self.reception.handle_parsed(packet, bytes.len(), Sight::Sealed, arrived, read),
        }
    }

    fn handle_retransmission(&mut self, datagram: Datagram<'_>) {
        self.outcome.counts.retransmissions += 1;
        let opened = self.open(datagram.bytes);
        let Some(Ok(packet)) = opened.as_deref().map(Packet::parse) else { return };
        // A packet without is a probe for bandwidth.
        let Some(original) = packet.payload().first_chunk() else { return };
        if self.gaps.handle_packet(datagram.read, u16::from_be_bytes(*original)) == Arrival::Filled {
            self.reception.handle_recovered();
        }
    }

    fn open(&mut self, sealed: &[u8]) -> Option<bytes::BytesMut> {
        let srtp = self.srtp.as_mut()?;
        self.sampling.packets = 0;
        let clear = srtp.open_rtp(sealed);
        let counts = &mut self.outcome.counts;
        *(if clear.is_some() { &mut counts.opened } else { &mut counts.forged }) += 1;
        clear
    }

    fn handle_rtcp(&mut self, now: Moment, sealed: &[u8]) {
        self.outcome.counts.rtcp_received += 1;
        let Some(srtp) = &mut self.srtp else { return };
        let Some(clear) = srtp.open_rtcp(sealed) else {
            self.outcome.counts.forged += 1;
            return;
        };
        for (ssrc, ntp) in feedback::sender_reports(&clear) {
            if self.ssrc == Some(ssrc) {
                self.reports.last = Some((ntp, now));
            }
        }
        if self.ssrc.is_some_and(|ssrc| feedback::says_goodbye(&clear, ssrc)) {
            self.failure = Some("rtcp: the server said good-bye".into());
        }
    }

    fn send_rtcp(&mut self, plain: &[u8]) {
        if let Some(sealed) = self.srtp.as_mut().and_then(|srtp| srtp.seal_rtcp(plain)) {
            self.outbox.push_back(sealed.to_vec());
        }
    }

    /// When the server's description was there.
    pub fn answered(&self) -> Moment {
        self.answered
    }

    /// What it has counted beside its packets.
    pub fn peer_counts(&self) -> PeerCounts {
        self.outcome.counts
    }
}

impl Reports {
    /// Interarrival jitter, RFC 3550 section 6.4.1.
    #[inline]
    fn handle_packet(&mut self, arrived: Moment, rtp_timestamp: u32) {
        let arrived = (arrived.as_ns() / 1000 * 9 / 100) as i64;
        let transit = i64::from((arrived as u32).wrapping_sub(rtp_timestamp).cast_signed());
        if let Some(before) = self.transit.replace(transit) {
            let distance = (transit - before).unsigned_abs().min(u32::MAX.into());
            self.jitter = self.jitter + distance - (self.jitter + 8) / 16;
        }
    }

    fn block(&mut self, ssrc: u32, newest_extended: u32, counts: &Counts, now: Moment) -> Block {
        let expected = counts.packets + counts.recovered + counts.lost;
        let expected_since = expected.saturating_sub(self.expected);
        let lost_since = counts.lost.saturating_sub(self.lost);
        (self.expected, self.lost) = (expected, counts.lost);
        let fraction_lost = (lost_since * 256).checked_div(expected_since).unwrap_or(0).min(255) as u8;
        let (last_report, delay) = self.last.map_or((0, 0), |(ntp, came)| {
            (ntp, (now.since(came).as_nanos() * 65_536 / 1_000_000_000) as u32)
        });
        Block {
            ssrc,
            fraction_lost,
            lost: u32::try_from(counts.lost).unwrap_or(u32::MAX),
            newest_extended,
            jitter: (self.jitter / 16) as u32,
            last_report,
            delay,
        }
    }
}

fn due(moment: Option<Moment>, now: Moment) -> bool {
    moment.is_some_and(|moment| moment <= now)
}

/// Browsers receive with SSRC 1 where they send nothing.
const SENDER_SSRC: u32 = 1;

/// libwebrtc's interval for video.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// As libwebrtc at middling rates.
const TRANSPORT_FEEDBACK_INTERVAL: Duration = Duration::from_millis(100);

/// A picture that has not come after so long has to be asked for.
const PICTURE_PATIENCE: Duration = Duration::from_millis(500);

const PICTURE_LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// Far below a packet even if each takes four bytes.
const NACKED_AT_ONCE_MAX: usize = 250;
