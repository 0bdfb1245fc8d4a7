//! One full peer that shows what it sees: events as JSON lines, the elementary stream, and what was wrong with either.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::clock::Moment;
use crate::continuity::Form;
use crate::drops::{self, HostDrops};
use crate::elementary::Elementary;
use crate::interrupt::Interrupt;
use crate::peer::Exchange;
use crate::peer::checker::{Checker, CheckerOptions};
use crate::peer::dtls::Profile;
use crate::peer::lossy::Loss;
use crate::peer::reorder::{Admission, Reorder};
use crate::peer::report::{PeerCounts, PeerOutcome};
use crate::peer::tap::Seen;
use crate::process::Usage;
use crate::reception::{Reception, Sight};
use crate::rtp::Packet;
use crate::session::{Milestones, Transport};
use crate::summary::{Findings, Run, Summary, Window};
use crate::viewer::{Fate, Meters, Outcome};

/// What is asked of a watch.
pub struct PeerWatch {
    /// How descriptions are exchanged.
    pub exchange: Arc<dyn Exchange>,
    /// What kind of peer it is.
    pub options: CheckerOptions,
    /// What the summary says of it.
    pub run: Run,
    /// Where the elementary stream goes.
    pub out: Option<Elementary>,
    /// Where events go.
    pub events: Box<dyn Write>,
    /// When to end, beside an interrupt, counted from the beginning.
    pub seconds: Option<Duration>,
    /// The same, in packets received.
    pub packets: Option<u64>,
    /// A peer with no packet after this long has failed.
    pub join_timeout: Duration,
}

/// Runs it to its end, an interrupt, or the session's end.
///
/// # Errors
/// When the peer cannot be made, or what it sees cannot be written. A failed session is in the summary.
pub fn run(watch: PeerWatch, interrupt: &Interrupt) -> Result<Summary> {
    let PeerWatch { exchange, options, run, out, events, seconds, packets, join_timeout } = watch;
    let begin = Moment::now();
    let host_before = HostDrops::read();
    let loss = Arc::clone(&options.loss);
    let mut checker = Checker::new(options).map_err(|cause| anyhow::anyhow!(cause))?;
    let mut session = Session::new(begin, Screen { begin, events, out });
    let until = Until { begin, seconds, packets, join_timeout };
    match exchange.begin(0, &mut checker) {
        Ok(location) => {
            session.negotiated(&checker, location.as_deref())?;
            session.follow(&checker, &until, interrupt)?;
            session.finish(&checker)?;
            if let Some(location) = location
                && let Err(cause) = exchange.end(&location)
            {
                session.screen.tell(json!({"event": "not_ended", "cause": cause}))?;
            }
        }
        Err(cause) => session.fail(cause)?,
    }
    // After the session's DELETE, which finds none that the peer has closed.
    checker.close();
    let window = Window {
        seconds: Moment::now().since(begin).as_secs_f64(),
        process: Usage::own(),
        ..Window::default()
    };
    let outcome = session.outcome(&checker, &loss);
    Ok(Summary::new(Findings {
        run,
        outcomes: vec![outcome],
        stillborn: Vec::new(),
        meters: vec![session.meters],
        drops: drops::by_port(),
        host_drops: HostDrops::read().since(host_before),
        window,
    }))
}

/// When the watch is over.
struct Until {
    begin: Moment,
    seconds: Option<Duration>,
    packets: Option<u64>,
    join_timeout: Duration,
}

/// What the peer's packets and doings are shown on.
struct Screen {
    begin: Moment,
    events: Box<dyn Write>,
    out: Option<Elementary>,
}

impl Screen {
    fn tell(&mut self, event: Value) -> Result<()> {
        let mut line = Map::new();
        line.insert("ms".into(), json!(Moment::now().since(self.begin).as_micros() as f64 / 1e3));
        if let Value::Object(fields) = event {
            line.extend(fields);
        }
        let result = writeln!(self.events, "{}", Value::Object(line)).and_then(|()| self.events.flush());
        result.context("writing events")
    }

    fn write(&mut self, packet: &[u8]) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), |out| out.handle_packet(packet))
    }
}

/// The session, judged.
struct Session {
    screen: Screen,
    reception: Reception,
    reorder: Reorder<Vec<u8>>,
    ssrc: Option<u32>,
    meters: Meters,
    begin: Moment,
    answered: Option<Moment>,
    profile: Option<Profile>,
    fate: Fate,
    repeats: u64,
    /// Packets that came twice though nothing had been asked for.
    duplicates: u64,
    given_up: u64,
    asked_for_picture: Option<Moment>,
    given_up_at_request: u64,
}

impl Session {
    fn new(begin: Moment, screen: Screen) -> Self {
        Self {
            screen,
            reception: Reception::new(Form::Negotiated),
            reorder: Reorder::default(),
            ssrc: None,
            meters: Meters { recording: true, ..Meters::default() },
            begin,
            answered: None,
            profile: None,
            fate: Fate::Running,
            repeats: 0,
            duplicates: 0,
            given_up: 0,
            asked_for_picture: None,
            given_up_at_request: 0,
        }
    }

    fn negotiated(&mut self, checker: &Checker, location: Option<&str>) -> Result<()> {
        self.answered = Some(Moment::now());
        let remote = checker.record().remote.lock().map(|remote| remote.clone()).unwrap_or_default();
        let remote = remote.unwrap_or_default();
        self.screen.tell(json!({
            "event": "negotiated",
            "location": location,
            "payload_types": remote.payload_types,
            "retransmissions": remote.retransmissions,
            "nack": remote.nack,
            "transport_cc": remote.transport_cc,
            "candidates": remote.candidates,
        }))
    }

    fn follow(&mut self, checker: &Checker, until: &Until, interrupt: &Interrupt) -> Result<()> {
        let mut told = (false, false);
        loop {
            match checker.seen().recv_timeout(LOOK_INTERVAL) {
                Ok(seen) => self.take(checker, seen)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.fail("the peer is gone".into()),
            }
            let now = Moment::now();
            self.play(now)?;
            self.see_to_pictures(checker, now)?;
            if !told.0 && checker.connected().is_some() {
                told.0 = true;
                self.profile = checker.srtp_profile();
                let profile = self.profile.map(|profile| profile.to_string());
                self.screen.tell(json!({"event": "connected", "srtp": profile}))?;
            }
            if !told.1 && self.reception.first_picture().is_some() {
                told.1 = true;
                self.screen.tell(json!({"event": "first_picture", "start": self.reception.start()}))?;
            }
            if let Some(cause) = checker.ended() {
                return self.fail(cause);
            }
            let lived = now.since(until.begin);
            if self.meters.packets == 0 && lived >= until.join_timeout {
                return self.fail(stage(checker).into());
            }
            let long_enough = until.seconds.is_some_and(|seconds| lived >= seconds);
            let enough = until.packets.is_some_and(|packets| self.meters.packets >= packets);
            if long_enough || enough || interrupt.came() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, checker: &Checker, seen: Seen) -> Result<()> {
        let Ok(packet) = Packet::parse(&seen.bytes) else {
            self.reception.handle_foreign();
            return Ok(());
        };
        let (ssrc, sequence_number) = (packet.ssrc(), packet.sequence_number());
        if self.meters.packets == 0 {
            self.screen.tell(
                json!({"event": "first_packet", "ssrc": ssrc, "payload_type": packet.payload_type()}),
            )?;
            let remote = checker.record().remote.lock().ok().and_then(|remote| remote.clone());
            if let Some(codec) = remote.and_then(|remote| remote.codec(packet.payload_type())) {
                self.reception.set_codec(codec);
                if let Some(out) = &mut self.screen.out {
                    out.set_codec(codec);
                }
            }
        }
        if self.ssrc.replace(ssrc).is_some_and(|before| before != ssrc) {
            // Judged as a change by what comes behind the old stream's rest.
            self.drain()?;
            self.reorder = Reorder::default();
            self.screen.tell(json!({"event": "ssrc_change", "ssrc": ssrc}))?;
        }
        self.meters.packets += 1;
        let admission = self.reorder.push(seen.read, sequence_number, seen.bytes);
        if admission == Admission::Stale {
            self.repeats += 1;
            let asked = checker.record().nacked.load(Relaxed) > 0;
            self.duplicates += u64::from(!seen.retransmitted && !asked);
        }
        Ok(())
    }

    fn play(&mut self, now: Moment) -> Result<()> {
        while let Some((read, packet)) = self.reorder.pop(now) {
            self.judge(read, &packet)?;
        }
        let given_up = self.reorder.given_up();
        if given_up != self.given_up {
            let lost = given_up - self.given_up;
            self.given_up = given_up;
            self.screen.tell(json!({"event": "lost", "packets": lost}))?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        let rest: Vec<_> = self.reorder.finish().collect();
        rest.into_iter().try_for_each(|(read, packet)| self.judge(read, &packet))
    }

    fn judge(&mut self, read: Moment, bytes: &[u8]) -> Result<()> {
        let Ok(packet) = Packet::parse(bytes) else { return Ok(()) };
        if packet.payload().is_empty() {
            // Padding alone takes a sequence number, and is of no access unit.
            self.reception.handle_padding(&packet, bytes.len());
            return Ok(());
        }
        let joining = self.reception.first_packet().is_none();
        if let Some(latency) = self.reception.handle_parsed(&packet, bytes.len(), Sight::Clear, None, read) {
            let ns = u64::try_from(latency.read.as_nanos()).unwrap_or(u64::MAX);
            self.meters.latency_read.saturating_record(ns);
        }
        self.meters.joined += u64::from(joining);
        self.screen.write(bytes).context("writing what was received")
    }

    /// As a browser asks: when none has come for a while, and when one cannot be put together any more.
    fn see_to_pictures(&mut self, checker: &Checker, now: Moment) -> Result<()> {
        let Some((ssrc, began)) = self.ssrc.zip(self.reception.first_packet()) else { return Ok(()) };
        let none_yet = self.reception.first_picture().is_none() && now.since(began) >= PICTURE_PATIENCE;
        let broken = self.given_up > self.given_up_at_request;
        let allowed = self.asked_for_picture.is_none_or(|asked| now.since(asked) >= PICTURE_INTERVAL);
        if allowed && (none_yet || broken) {
            self.asked_for_picture = Some(now);
            self.given_up_at_request = self.given_up;
            checker.ask_for_picture(ssrc);
            self.screen.tell(json!({"event": "asked_for_picture"}))?;
        }
        Ok(())
    }

    fn fail(&mut self, cause: String) -> Result<()> {
        self.screen.tell(json!({"event": "end", "cause": cause}))?;
        self.fate = Fate::Failed(cause);
        Ok(())
    }

    fn finish(&mut self, checker: &Checker) -> Result<()> {
        // What is on its way from the tap is received; what is missing then was not waited for.
        while let Ok(seen) = checker.seen().try_recv() {
            self.take(checker, seen)?;
        }
        self.play(Moment::now())?;
        if let Some(out) = &self.screen.out {
            let (units, dropped) = out.counts();
            self.screen.tell(json!({"event": "written", "nal_units": units, "left_out": dropped}))?;
        }
        Ok(())
    }

    fn outcome(&self, checker: &Checker, loss: &Loss) -> Outcome {
        let mut counts = self.reception.counts();
        counts.recovered = self.reorder.recovered();
        counts.duplicates += self.duplicates;
        let record = checker.record();
        Outcome {
            number: 0,
            started: self.begin,
            fate: self.fate.clone(),
            counts,
            window: counts,
            start: self.reception.start(),
            milestones: Milestones::default(),
            first_packet: self.reception.first_packet(),
            first_picture: self.reception.first_picture(),
            transport: Transport::Webrtc,
            breaches: Vec::new(),
            server_errors: 0,
            media_port: 0,
            peer: Some(PeerOutcome {
                answered: self.answered,
                connected: checker.ice_connected(),
                keyed: checker.connected(),
                profile: self.profile,
                counts: PeerCounts {
                    opened: record.rtp.load(Relaxed),
                    forged: 0,
                    retransmissions: record.retransmissions.load(Relaxed),
                    repeats: self.repeats,
                    dropped: loss.dropped(),
                    rtcp_received: record.rtcp.load(Relaxed),
                    nacked: record.nacked.load(Relaxed),
                    picture_losses: record.picture_losses.load(Relaxed),
                    receiver_reports: record.receiver_reports.load(Relaxed),
                    transport_feedback: record.transport_feedback.load(Relaxed),
                },
            }),
        }
    }
}

fn stage(checker: &Checker) -> &'static str {
    match (checker.ice_connected(), checker.connected()) {
        (None, _) => "join: no answer to ICE in time",
        (Some(_), None) => "join: no end of the DTLS handshake in time",
        (Some(_), Some(_)) => "join: no packet in time",
    }
}

const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A picture that has not come after so long has to be asked for.
const PICTURE_PATIENCE: Duration = Duration::from_millis(500);

const PICTURE_INTERVAL: Duration = Duration::from_secs(1);
