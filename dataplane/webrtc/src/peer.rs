//! One WebRTC viewer: what the shard feeds with its datagrams, and what it wants done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use lanecast_packet::{Run, Squeeze};
use lanecast_protocol::rtcp::{
    Feedback, Nacked, ReceptionBlock, SenderInfo, parse_feedback, write_bye, write_sender_report,
};

use crate::congestion::{Congestion, CongestionStatistics};
use crate::dtls::{Certificate, Dtls, DtlsEvent};
use crate::egress::{Egress, Lost, Sealed};
use crate::ice::{CheckError, IceCredentials, IceLite, Path};
use crate::negotiation::{Fingerprint, RemoteCandidate};
use crate::srtp::{self, RtcpOpener, RtcpSealer, SrtpProfile};
use crate::stun::BindingRequest;

/// A viewer that is not connected by then has gone, or cannot.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// The first media follows the end of the handshake by this: a receiver that makes its keys after the handshake drops what
/// comes on the heels of it (the `webrtc` package 0.21 lost the first packets of every other join, and with them the keyframe).
const SETTLE: Duration = Duration::from_millis(20);
/// Sender reports leave at this interval; receivers need them for the round trip and the clock.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);
/// A lost picture is answered from the GOP cache once in this time: what is on its way must have had a chance.
const REFRESH_INTERVAL: Duration = Duration::from_millis(500);
/// A viewer that could not decode a picture has said so by then.
const SILENCE: Duration = Duration::from_secs(2);
/// Packets sent again for one compound packet; more than two keyframes of a usual camera. What is missing is asked for
/// again.
const MAX_RETRANSMISSIONS: usize = 256;
/// Told again when it changes by more than this share.
const PACE_CHANGE: f64 = 0.1;

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

/// What a viewer wants done.
#[derive(Debug)]
pub enum PeerOutput {
    /// Send this.
    Datagram {
        /// Where to.
        to: Path,
        /// What.
        bytes: Bytes,
    },
    /// Its media goes here from now on, and what comes from there is its.
    Path(Path),
    /// It can take media.
    Connected,
    /// It lost a picture: the GOP once more.
    Refresh,
    /// It lost packets: give each to [`Peer::seal_again`].
    Retransmit(Vec<Lost>),
    /// What a second may let out to it, in bytes, where a burst is to be spread.
    Pace(u64),
    /// Its path does not carry the stream: nothing more up to a random access point at or after this time.
    Overloaded(Option<Instant>),
    /// It is over. Why, as a sentence.
    Closed(String),
}

/// A WebRTC viewer.
///
/// Feed it what comes from it and the time, then take [`Peer::poll_output`] until `None` and arm
/// [`Peer::poll_timeout`].
#[derive(Debug)]
pub struct Peer {
    ice: IceLite,
    dtls: Box<Dtls>,
    config: Option<MediaConfig>,
    first_sequence: u16,
    media: Option<Box<Media>>,
    connect_by: Instant,
    outputs: VecDeque<PeerOutput>,
    handshaking: bool,
    /// When it takes media, after its handshake.
    media_from: Option<Instant>,
    closed: bool,
    dropped: u64,
}

/// What a viewer has once it is connected.
struct Media {
    egress: Egress,
    rtcp_sealer: RtcpSealer,
    rtcp_opener: RtcpOpener,
    profile: SrtpProfile,
    congestion: Congestion,
    next_report: Instant,
    /// Middle 32 bits of the newest report's NTP timestamp, and when it left.
    reported: Option<(u32, Instant)>,
    newest_sent: Option<Instant>,
    refreshed: Option<Instant>,
    /// Highest sequence number that the viewer says it has.
    received: Option<u16>,
    /// A packet that it asked for did not come again, since the newest refresh.
    lacks_packet: bool,
    full_intra: Option<u8>,
    pace_bytes_per_second: u64,
    retransmitted: u64,
    refused: u64,
    nacks: u64,
    picture_requests: u64,
    refreshes: u64,
    overloads: u64,
    lost: u64,
    jitter_90k: u32,
}

impl std::fmt::Debug for Media {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Media").field("egress", &self.egress).finish_non_exhaustive()
    }
}

impl Peer {
    /// Waits for the viewer's checks.
    pub fn new(now: Instant, config: PeerConfig, certificate: Arc<Certificate>) -> Self {
        let first_sequence = config.media.ssrc.rotate_left(11) as u16;
        Self {
            ice: IceLite::new(now, config.local, config.remote),
            dtls: Box::new(Dtls::new(certificate, config.fingerprints)),
            config: Some(config.media),
            first_sequence,
            media: None,
            connect_by: now + CONNECT_WITHIN,
            outputs: VecDeque::new(),
            handshaking: false,
            media_from: None,
            closed: false,
            dropped: 0,
        }
    }

    /// Other ICE credentials; see [`IceLite::restart`].
    pub fn restart_ice(&mut self, now: Instant, local: IceCredentials, remote: IceCredentials) {
        self.ice.restart(now, local, remote);
    }

    /// Credentials that checks must use.
    pub fn local(&self) -> &IceCredentials {
        self.ice.local()
    }

    /// Where its media goes.
    pub fn path(&self) -> Option<Path> {
        self.ice.path()
    }

    /// True until it is connected: its DTLS is work that may wait.
    pub fn is_connecting(&self) -> bool {
        self.media.is_none()
    }

    /// True once [`PeerOutput::Connected`] was said.
    pub fn takes_media(&self) -> bool {
        self.media.is_some() && self.media_from.is_none()
    }

    /// True once it is over.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// A check came from `from`; see [`IceLite::handle_request`].
    pub fn handle_check(&mut self, now: Instant, from: Path, request: &BindingRequest<'_>) {
        match self.ice.handle_request(now, from, request) {
            Ok(checked) => {
                self.outputs.push_back(PeerOutput::Datagram { to: from, bytes: checked.response });
                if let Some(path) = checked.moved {
                    self.handshaking = true;
                    self.outputs.push_back(PeerOutput::Path(path));
                }
            }
            Err(CheckError::RoleConflict(response) | CheckError::UnknownAttribute(response)) => {
                self.outputs.push_back(PeerOutput::Datagram { to: from, bytes: response });
            }
            Err(CheckError::Username | CheckError::Integrity) => self.dropped += 1,
        }
    }

    /// A DTLS datagram came on its path.
    pub fn handle_dtls(&mut self, now: Instant, datagram: &[u8]) {
        self.dtls.handle_datagram(now, datagram);
        self.after_dtls(now);
    }

    /// An SRTCP packet came on its path; it is opened in place.
    pub fn handle_rtcp(&mut self, now: Instant, packet: &mut [u8]) {
        let Some(media) = &mut self.media else {
            self.dropped += 1;
            return;
        };
        let Ok(compound) = media.rtcp_opener.open(packet) else {
            self.dropped += 1;
            return;
        };
        let mut lost = Vec::new();
        for feedback in parse_feedback(compound) {
            let (ssrc, rtx_ssrc) = (media.ssrc(), media.egress.config().rtx.map(|rtx| rtx.ssrc));
            match feedback {
                Feedback::Report(block) if block.ssrc == ssrc => media.on_report(now, &block),
                // Losses of retransmissions are asked for again by their original numbers.
                Feedback::Report(block) if Some(block.ssrc) == rtx_ssrc => {}
                Feedback::Nack { ssrc: of, lost: nacked } if of == ssrc => media.on_nack(nacked, &mut lost),
                Feedback::PictureLoss { ssrc: of } if of == ssrc => {
                    if media.only_waits(now) {
                        media.picture_requests += 1;
                    } else if media.wants_refresh(now) {
                        self.outputs.push_back(PeerOutput::Refresh);
                    }
                }
                Feedback::FullIntra { ssrc: of, command } if of == ssrc => {
                    // The same command again is a repetition (RFC 5104 section 4.3.1.2).
                    if media.full_intra.replace(command) != Some(command) && media.wants_refresh(now) {
                        self.outputs.push_back(PeerOutput::Refresh);
                    }
                }
                Feedback::MaxBitrate { bitrate_bps } => media.congestion.handle_remb(now, bitrate_bps),
                Feedback::Transport(feedback) => media.congestion.handle_transport_feedback(now, &feedback),
                // A receiver has no stream of its own that could end here; DTLS says that it leaves.
                Feedback::Bye { .. } => {}
                Feedback::Report(_)
                | Feedback::Nack { .. }
                | Feedback::PictureLoss { .. }
                | Feedback::FullIntra { .. } => self.dropped += 1,
            }
        }
        if !lost.is_empty() {
            self.outputs.push_back(PeerOutput::Retransmit(lost));
        }
        self.judge(now);
    }

    /// Time passed. `ntp` is the wall clock, 32.32 fixed point, seconds since 1900.
    pub fn handle_timeout(&mut self, now: Instant, ntp: u64) {
        if self.dtls.poll_timeout().is_some_and(|at| now >= at) {
            self.dtls.handle_timeout(now);
            self.after_dtls(now);
        }
        if self.is_connecting() && now >= self.connect_by {
            let reason = match self.ice.path() {
                None => "no connectivity check succeeded within 30 s",
                Some(_) => "the DTLS handshake did not end within 30 s",
            };
            return self.close(reason.to_owned());
        }
        if self.ice.consent_until().is_some_and(|until| now >= until) {
            return self.close("the viewer has not been heard for 30 s".to_owned());
        }
        if self.media_from.is_some_and(|from| now >= from) {
            self.media_from = None;
            self.outputs.push_back(PeerOutput::Connected);
        }
        let to = self.ice.path();
        if let (Some(media), Some(to)) = (&mut self.media, to)
            && now >= media.next_report
        {
            media.next_report = now + REPORT_INTERVAL;
            if media.rtcp_sealer.is_exhausted() {
                return self.close("the session's RTCP indices are used up".to_owned());
            }
            if let Some(bytes) = media.report(now, ntp) {
                self.outputs.push_back(PeerOutput::Datagram { to, bytes });
            }
        }
    }

    /// When to call [`Peer::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let connect_by = self.is_connecting().then_some(self.connect_by);
        let report = self.media.as_ref().map(|media| media.next_report);
        let dtls = self.dtls.poll_timeout();
        [connect_by, self.ice.consent_until(), dtls, self.media_from, report].into_iter().flatten().min()
    }

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<PeerOutput> {
        self.outputs.pop_front()
    }

    /// Says goodbye, for this reason.
    pub fn end(&mut self, reason: String) {
        if let (Some(media), Some(to)) = (&mut self.media, self.ice.path()) {
            let bytes = media.bye();
            self.outputs.push_back(PeerOutput::Datagram { to, bytes });
        }
        self.dtls.close();
        self.send_dtls();
        self.close(reason);
    }

    /// Bytes that the sealed form of `run` takes at the most; `None` before it is connected.
    pub fn sealed_bytes(&self, run: &Run) -> Option<usize> {
        self.media.as_ref().map(|media| media.egress.sealed_bytes(run))
    }

    /// Appends the sealed packets of `run` to `out`, for one send; `None` before it is connected.
    pub fn seal_run(
        &mut self,
        now: Instant,
        run: &Run,
        squeeze: &Squeeze,
        out: &mut BytesMut,
    ) -> Option<Sealed> {
        let media = self.media.as_mut()?;
        let sealed = media.egress.seal_run(now, run, squeeze, out);
        media.newest_sent = Some(now);
        media.sent(now, &sealed);
        Some(sealed)
    }

    /// Runs from now on are of another supply; see [`Egress::cut`].
    pub fn cut(&mut self, supply: u32) {
        if let Some(media) = &mut self.media {
            media.egress.cut(supply);
        }
    }

    /// What [`PeerOutput::Pace`] said last; `None` if nothing yet.
    pub fn pace_bytes_per_second(&self) -> Option<u64> {
        self.media.as_ref().map(|media| media.pace_bytes_per_second).filter(|&pace| pace > 0)
    }

    /// Appends a lost packet once more; see [`Egress::seal_again`]. `packet` is `None` where the history has it not.
    pub fn seal_again(
        &mut self,
        now: Instant,
        lost: &Lost,
        packet: Option<(&[u8], u32)>,
        out: &mut BytesMut,
    ) -> Option<Sealed> {
        let media = self.media.as_mut()?;
        let sealed = packet
            .and_then(|(packet, rtp_timestamp)| media.egress.seal_again(lost, packet, rtp_timestamp, out));
        match &sealed {
            Some(sealed) => {
                media.retransmitted += 1;
                media.sent(now, sealed);
            }
            None => {
                media.refused += 1;
                media.lacks_packet = true;
            }
        }
        sealed
    }

    /// The GOP is on its way once more, as [`PeerOutput::Refresh`] asked.
    pub fn refreshed(&mut self) {
        if let Some(media) = &mut self.media {
            media.refreshes += 1;
        }
    }

    /// Counters.
    pub fn statistics(&self) -> PeerStatistics {
        let path = self.ice.path();
        let statistics = PeerStatistics {
            state: match (&self.media, self.handshaking) {
                (Some(_), _) => PeerState::Connected,
                (None, true) => PeerState::Handshaking,
                (None, false) => PeerState::Checking,
            },
            transport: path.map(|path| match path {
                Path::Udp(_) => "udp",
                Path::Tcp { .. } => "tcp",
            }),
            dropped: self.dropped + self.dtls.dropped(),
            ..PeerStatistics::default()
        };
        let Some(media) = &self.media else { return statistics };
        PeerStatistics {
            srtp_profile: Some(media.profile),
            packets_sent: media.egress.packets(),
            bytes_sent: media.egress.bytes(),
            packets_retransmitted: media.retransmitted,
            retransmissions_refused: media.refused,
            nacks: media.nacks,
            picture_requests: media.picture_requests,
            refreshes: media.refreshes,
            overloads: media.overloads,
            packets_skipped: media.egress.skipped_packets(),
            packets_lost: media.lost,
            jitter: Duration::from_micros(u64::from(media.jitter_90k) * 100 / 9),
            congestion: media.congestion.statistics(),
            ..statistics
        }
    }

    fn after_dtls(&mut self, now: Instant) {
        self.send_dtls();
        while let Some(event) = self.dtls.poll_event() {
            match event {
                DtlsEvent::Connected(keys) => {
                    let Some(config) = self.config.take() else { continue };
                    self.media = Some(Box::new(Media::new(now, config, &keys, self.first_sequence)));
                    self.media_from = Some(now + SETTLE);
                    self.judge(now);
                }
                DtlsEvent::Closed => self.close("the viewer closed the session".to_owned()),
                DtlsEvent::Failed(reason) => self.close(format!("DTLS failed: {reason}")),
            }
        }
    }

    fn send_dtls(&mut self) {
        while let Some(bytes) = self.dtls.poll_datagram() {
            if let Some(to) = self.ice.path() {
                self.outputs.push_back(PeerOutput::Datagram { to, bytes });
            }
        }
    }

    /// Tells what the estimate has come to.
    fn judge(&mut self, now: Instant) {
        let Some(media) = &mut self.media else { return };
        if media.congestion.poll_overload(now) {
            media.overloads += 1;
            self.outputs.push_back(PeerOutput::Overloaded(media.congestion.resume_at()));
        }
        let pace = media.congestion.pacing_rate_bps() / 8;
        let told = media.pace_bytes_per_second;
        if pace.abs_diff(told) as f64 > told as f64 * PACE_CHANGE {
            media.pace_bytes_per_second = pace;
            self.outputs.push_back(PeerOutput::Pace(pace));
        }
    }

    fn close(&mut self, reason: String) {
        if !std::mem::replace(&mut self.closed, true) {
            self.outputs.push_back(PeerOutput::Closed(reason));
        }
    }
}

impl Media {
    fn new(now: Instant, config: MediaConfig, keys: &srtp::SrtpKeys, first_sequence: u16) -> Self {
        let (rtp_sealer, rtcp_sealer, rtcp_opener) = srtp::session(keys);
        Self {
            egress: Egress::new(config, rtp_sealer, first_sequence),
            rtcp_sealer,
            rtcp_opener,
            profile: keys.profile,
            congestion: Congestion::new(now),
            next_report: now + REPORT_INTERVAL / 4,
            reported: None,
            newest_sent: None,
            refreshed: None,
            received: None,
            lacks_packet: false,
            full_intra: None,
            pace_bytes_per_second: 0,
            retransmitted: 0,
            refused: 0,
            nacks: 0,
            picture_requests: 0,
            refreshes: 0,
            overloads: 0,
            lost: 0,
            jitter_90k: 0,
        }
    }

    fn ssrc(&self) -> u32 {
        self.egress.config().ssrc
    }

    fn sent(&mut self, now: Instant, sealed: &Sealed) {
        self.congestion.handle_sent(now, sealed.transport_sequence, sealed.packets, sealed.segment_bytes);
    }

    fn on_report(&mut self, now: Instant, block: &ReceptionBlock) {
        self.received = Some(block.highest_sequence as u16);
        self.lost = u64::try_from(block.cumulative_lost).unwrap_or(0);
        self.jitter_90k = block.jitter;
        // RFC 3550 section 6.4.1: what passed since our report, less the time that it lay at the receiver.
        let round_trip = self.reported.filter(|(middle, _)| *middle == block.last_sender_report);
        let round_trip = round_trip.and_then(|(_, at)| {
            let lay = Duration::from_secs_f64(f64::from(block.delay_since_last_sender_report) / 65_536.0);
            now.saturating_duration_since(at).checked_sub(lay)
        });
        self.congestion.handle_report(now, block, round_trip);
    }

    fn on_nack(&mut self, nacked: Nacked<'_>, lost: &mut Vec<Lost>) {
        self.nacks += 1;
        for sequence in nacked.iter() {
            match self.egress.lost(sequence) {
                Some(packet) if lost.len() < MAX_RETRANSMISSIONS => lost.push(packet),
                _ => {
                    self.refused += 1;
                    self.lacks_packet = true;
                }
            }
        }
    }

    /// Browsers ask for a keyframe also when no picture came for three seconds, as in a pause. Who has all that was sent would see the
    /// same GOP run by once more, and ask again.
    fn only_waits(&self, now: Instant) -> bool {
        let silent = self.newest_sent.is_some_and(|sent| now.saturating_duration_since(sent) >= SILENCE);
        silent
            && !self.lacks_packet
            && self.received.is_some()
            && self.received == self.egress.newest_sequence()
    }

    fn wants_refresh(&mut self, now: Instant) -> bool {
        self.picture_requests += 1;
        let due = self.refreshed.is_none_or(|last| now >= last + REFRESH_INTERVAL);
        if due {
            self.refreshed = Some(now);
            self.lacks_packet = false;
        }
        due
    }

    /// A sender report, once anything was sent.
    fn report(&mut self, now: Instant, ntp: u64) -> Option<Bytes> {
        let since = now.saturating_duration_since(self.newest_sent?);
        self.reported = Some(((ntp >> 16) as u32, now));
        let ticks_90k = (since.as_micros() * 9 / 100) as u32;
        let info = SenderInfo {
            ssrc: self.ssrc(),
            ntp,
            rtp_timestamp: self.egress.newest_rtp_timestamp().wrapping_add(ticks_90k),
            packets: self.egress.packets() as u32,
            octets: self.egress.payload_bytes() as u32,
        };
        let mut plain = Vec::new();
        write_sender_report(&info, &self.egress.config().cname, &mut plain);
        Some(self.seal_rtcp(&plain))
    }

    fn bye(&mut self) -> Bytes {
        let mut plain = Vec::new();
        write_bye(self.ssrc(), &self.egress.config().cname, &mut plain);
        self.seal_rtcp(&plain)
    }

    fn seal_rtcp(&mut self, plain: &[u8]) -> Bytes {
        let mut sealed = BytesMut::with_capacity(plain.len() + 32);
        self.rtcp_sealer.seal(plain, &mut sealed);
        sealed.freeze()
    }
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

#[cfg(test)]
mod tests {
    use lanecast_packet::{RunWriter, WriterConfig};
    use smallvec::SmallVec;

    use super::*;

    fn credentials(ufrag: &str) -> IceCredentials {
        IceCredentials { ufrag: ufrag.to_owned(), password: "p".repeat(24) }
    }

    fn peer(now: Instant) -> Peer {
        let config = PeerConfig {
            local: credentials("server"),
            remote: credentials("viewer"),
            fingerprints: vec![Fingerprint { algorithm: "sha-256".to_owned(), bytes: vec![0; 32] }],
            candidates: Vec::new(),
            media: MediaConfig {
                payload_type: 96,
                ssrc: 1,
                rtx: None,
                transport_cc: None,
                cname: "cname".to_owned(),
            },
        };
        Peer::new(now, config, Arc::new(Certificate::generate().unwrap()))
    }

    #[test]
    fn who_never_completes_is_gone_after_thirty_seconds() {
        let start = Instant::now();
        let mut peer = peer(start);
        let mut now = start;
        while let Some(at) = peer.poll_timeout() {
            assert!(at > now || at == start, "time goes on");
            now = at;
            peer.handle_timeout(now, 0);
        }
        assert_eq!(now, start + CONNECT_WITHIN);
        assert!(peer.is_closed());
        let reason = std::iter::from_fn(|| peer.poll_output())
            .find_map(|output| if let PeerOutput::Closed(reason) = output { Some(reason) } else { None });
        assert!(reason.is_some_and(|reason| reason.contains("connectivity check")));
    }

    /// A viewer that was sent packets 100 to 102.
    fn media(now: Instant) -> Media {
        let master = srtp::MasterKey { key: [7; 16], salt: SmallVec::from_slice(&[9; 12]) };
        let keys =
            srtp::SrtpKeys { profile: SrtpProfile::AeadAes128Gcm, local: master.clone(), remote: master };
        let config = MediaConfig {
            payload_type: 96,
            ssrc: 1,
            rtx: None,
            transport_cc: None,
            cname: "cname".to_owned(),
        };
        let mut media = Media::new(now, config, &keys, 100);
        let mut writer = RunWriter::new(WriterConfig { ssrc: 1, payload_type: 96, first_packet: 0 });
        writer.begin_access_unit(0, true);
        (0..3).for_each(|_| writer.packet(100, |out| out.extend_from_slice(&[0; 100])));
        writer.end_access_unit();
        media.egress.seal_run(now, &writer.poll_run().unwrap(), &Squeeze::default(), &mut BytesMut::new());
        media.newest_sent = Some(now);
        media
    }

    fn report(highest_sequence: u32) -> ReceptionBlock {
        ReceptionBlock {
            ssrc: 1,
            fraction_lost: 0,
            cumulative_lost: 0,
            highest_sequence,
            jitter: 0,
            last_sender_report: 0,
            delay_since_last_sender_report: 0,
        }
    }

    #[test]
    fn who_has_everything_and_waits_is_not_sent_it_again() {
        let start = Instant::now();
        let paused = start + SILENCE;
        let mut media = media(start);
        assert!(!media.only_waits(paused), "nobody knows what it has");
        media.on_report(start, &report(101));
        assert!(!media.only_waits(paused), "the last packet got lost");
        media.on_report(start, &report(1 << 16 | 102));
        assert!(media.only_waits(paused));
        assert!(!media.only_waits(start + SILENCE / 2), "it could not decode what came just now");
        media.lacks_packet = true;
        assert!(!media.only_waits(paused), "something did not come again");
        assert!(media.wants_refresh(paused));
        assert!(media.only_waits(paused + SILENCE), "that was mended");
    }

    #[test]
    fn what_strangers_send_before_the_handshake_is_counted_and_answered_by_nothing() {
        let now = Instant::now();
        let mut peer = peer(now);
        for length in [1, 8, 12, 60, 1500] {
            peer.handle_rtcp(now, &mut vec![0x80; length]);
            peer.handle_dtls(now, &vec![22; length]);
        }
        assert!(peer.poll_output().is_none());
        assert!(peer.statistics().dropped >= 10, "{:?}", peer.statistics());
        assert_eq!(peer.statistics().state, PeerState::Checking);
    }
}
