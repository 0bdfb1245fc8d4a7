//! What a run says at the end: JSON for programs, a table for people, and whether it was good.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clock::Moment;
use crate::continuity::Counts;
use crate::drops::HostDrops;
use crate::peer::report::Peers;
use crate::process::Usage;
use crate::reception::Start;
use crate::session::Transport;
use crate::viewer::{Fate, Meters, Outcome, new_histogram};

/// All that a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// What was asked for.
    pub run: Run,
    /// How many sessions came how far.
    pub sessions: Sessions,
    /// Failed sessions by cause.
    pub errors: BTreeMap<String, u64>,
    /// What the server did against the contract, by sessions that saw it.
    pub breaches: BTreeMap<&'static str, u64>,
    /// Counts of all sessions over their whole lives.
    pub totals: Counts,
    /// The steady state.
    pub window: Window,
    /// How the sessions differ.
    pub per_viewer: PerViewer,
    /// Loss that is the receiver's own.
    pub receiver: ReceiverLoss,
    /// Waits.
    pub timings: Timings,
    /// What only WebRTC viewers have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Peers>,
    /// What only viewers that leave live have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeks: Option<Seeks>,
    /// This process, over its whole life.
    pub process: Usage,
    /// Lost, repeated or broken packets and breaches: what a strict run must not have.
    pub faults: u64,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// The server.
    pub url: String,
    /// The stream.
    pub stream: String,
    /// The client's revision.
    pub revision: u8,
    /// How RTP was to come.
    pub transport: Transport,
    /// How many viewers.
    pub viewers: u32,
    /// In how many threads.
    pub threads: u32,
    /// Sockets shared by viewers; none where each has its own.
    pub shared_sockets: Option<usize>,
    /// The camera sends B-frames: timestamps may go back.
    pub b_frames: bool,
}

/// How many sessions came how far.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sessions {
    /// Got a first packet.
    pub joined: u64,
    /// Could not begin, or ended before they were told to.
    pub failed: u64,
    /// Never got a packet.
    pub never_got_a_packet: u64,
    /// Began with parameter sets and a whole random access point.
    pub started_at_random_access: u64,
    /// Began otherwise.
    pub started_otherwise: u64,
    /// Fell back to binary frames.
    pub fell_back: u64,
    /// Got `error` messages.
    pub error_messages: u64,
}

/// The steady state, from the line `steady` to the line `done`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Window {
    /// Its length.
    pub seconds: f64,
    /// Counts in it.
    pub counts: Counts,
    /// Packets received a second.
    pub packets_per_second: f64,
    /// Bits received a second, RTP headers included.
    pub bits_per_second: f64,
    /// What this process used in it.
    pub process: Usage,
    /// What the process named by `--cpu-of` used in it.
    pub observed: Option<Observed>,
    /// What the host dropped in it.
    pub host_drops: HostDrops,
}

/// Another process in the window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Observed {
    /// Which.
    pub pid: u32,
    /// What it used.
    pub usage: Usage,
    /// Its CPU time per packet that all viewers received, µs.
    pub cpu_us_per_packet: f64,
}

/// How the sessions differ.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PerViewer {
    /// Packets of a session.
    pub packets: Spread,
    /// Lost packets of a session.
    pub lost: Spread,
    /// Packets of a session in the window.
    pub window_packets: Spread,
    /// Lost packets of a session in the window.
    pub window_lost: Spread,
}

/// Least, middle, most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: u64,
    /// The middle.
    pub median: u64,
    /// The most.
    pub max: u64,
}

/// Loss that is the receiver's own.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ReceiverLoss {
    /// Buffers that the media sockets dropped; with `UDP_GRO` one may hold many packets.
    pub socket_drops: u64,
    /// Lost packets of viewers whose socket dropped: they may be the receiver's own.
    pub lost_behind_drops: u64,
    /// Lost packets of viewers whose socket dropped nothing: they were not sent, or lost on the way.
    pub lost_otherwise: u64,
    /// What the host dropped over the whole run, of all its sockets.
    pub host_drops: HostDrops,
}

/// Waits of all sessions.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Timings {
    /// From connecting to `init`.
    pub connect_to_init: Percentiles,
    /// From `init` to the first packet.
    pub init_to_first_packet: Percentiles,
    /// From the punch to the first packet.
    pub punch_to_first_packet: Percentiles,
    /// From `init` to the first whole random access point.
    pub init_to_first_picture: Percentiles,
    /// From the punch to the first whole random access point.
    pub punch_to_first_picture: Percentiles,
    /// From the camera's stamp to the kernel's receipt of the access unit's last packet, in the window.
    pub latency_arrived: Percentiles,
    /// From the camera's stamp to this program's read of it, in the window.
    pub latency_read: Percentiles,
    /// From ping to pong.
    pub pong: Percentiles,
}

/// Seeks of all viewers, over the whole run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Seeks {
    /// Requests.
    pub asked: u64,
    /// Those that were agreed to, but whose new supply was not seen: it needs the camera's stamps.
    pub unseen: u64,
    /// The others that failed, by cause.
    pub errors: BTreeMap<String, u64>,
    /// From the request to its answer.
    pub request_to_answer: Percentiles,
    /// From the request to the kernel's receipt of the new supply's first packet.
    pub request_to_first_packet: Percentiles,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Percentiles {
    /// How many there were; the rest is 0 when there were none.
    pub count: u64,
    /// The least.
    pub min_us: f64,
    /// The mean.
    pub mean_us: f64,
    /// The middle.
    pub p50_us: f64,
    /// One in 10 is above.
    pub p90_us: f64,
    /// One in 100 is above.
    pub p99_us: f64,
    /// One in 1000 is above.
    pub p999_us: f64,
    /// The most.
    pub max_us: f64,
}

/// What [`Summary::new`] is made of.
#[derive(Debug)]
pub struct Findings {
    /// What was asked for.
    pub run: Run,
    /// The viewers.
    pub outcomes: Vec<Outcome>,
    /// Why others could not begin.
    pub stillborn: Vec<String>,
    /// The threads' meters.
    pub meters: Vec<Meters>,
    /// Drops by local port, read while the sockets were still open.
    pub drops: HashMap<u16, u64>,
    /// What the host dropped over the whole run.
    pub host_drops: HostDrops,
    /// The window, but for its counts and rates.
    pub window: Window,
}

impl Summary {
    /// Adds everything up.
    pub fn new(findings: Findings) -> Self {
        let Findings { run, outcomes, stillborn, meters, drops, host_drops, mut window } = findings;
        let mut totals = Counts::default();
        for outcome in &outcomes {
            totals += outcome.counts;
            window.counts += outcome.window;
        }
        window.finish();
        let breaches = tally(outcomes.iter().flat_map(|outcome| outcome.breaches.iter().copied()));
        let peers = Peers::of(&outcomes);
        let forged = peers.as_ref().map_or(0, |peers| peers.counts.forged);
        let faults = totals.faults(run.b_frames) + breaches.values().sum::<u64>() + forged;
        let causes = outcomes.iter().filter_map(|outcome| match &outcome.fate {
            Fate::Failed(cause) => Some(cause.clone()),
            Fate::Running => None,
        });
        Self {
            sessions: Sessions::new(&outcomes, stillborn.len()),
            errors: tally(causes.chain(stillborn)),
            breaches,
            totals,
            window,
            per_viewer: PerViewer::new(&outcomes),
            receiver: ReceiverLoss::new(&outcomes, &drops, host_drops),
            timings: Timings::new(&outcomes, &meters),
            peers,
            seeks: Seeks::of(&meters),
            process: Usage::own(),
            faults,
            run,
        }
    }

    /// Whether every session came and stayed.
    pub fn is_complete(&self) -> bool {
        self.sessions.failed == 0 && self.sessions.never_got_a_packet == 0
    }
}

impl Sessions {
    fn new(outcomes: &[Outcome], stillborn: usize) -> Self {
        let count =
            |which: &dyn Fn(&Outcome) -> bool| outcomes.iter().filter(|one| which(one)).count() as u64;
        let joined = count(&|one| one.first_packet.is_some());
        let started_at_random_access = count(&|one| one.start == Some(Start::RandomAccess));
        let stillborn = stillborn as u64;
        Self {
            joined,
            failed: count(&|one| one.fate != Fate::Running) + stillborn,
            never_got_a_packet: outcomes.len() as u64 - joined + stillborn,
            started_at_random_access,
            started_otherwise: count(&|one| {
                one.first_packet.is_some() && one.start != Some(Start::RandomAccess)
            }),
            fell_back: count(&|one| one.milestones.fallback.is_some()),
            error_messages: outcomes.iter().map(|one| one.server_errors).sum(),
        }
    }
}

impl Window {
    fn finish(&mut self) {
        if self.seconds > 0.0 {
            self.packets_per_second = self.counts.packets as f64 / self.seconds;
            self.bits_per_second = self.counts.bytes as f64 * 8.0 / self.seconds;
        }
        if let Some(observed) = &mut self.observed
            && self.counts.packets > 0
        {
            observed.cpu_us_per_packet = observed.usage.cpu_seconds * 1e6 / self.counts.packets as f64;
        }
    }
}

impl PerViewer {
    fn new(outcomes: &[Outcome]) -> Self {
        let spread = |of: &dyn Fn(&Outcome) -> u64| Spread::new(outcomes.iter().map(of).collect());
        Self {
            packets: spread(&|one| one.counts.packets),
            lost: spread(&|one| one.counts.lost),
            window_packets: spread(&|one| one.window.packets),
            window_lost: spread(&|one| one.window.lost),
        }
    }
}

impl Spread {
    fn new(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return Self::default() };
        Self { min, median: values[values.len() / 2], max }
    }
}

impl ReceiverLoss {
    fn new(outcomes: &[Outcome], drops: &HashMap<u16, u64>, host_drops: HostDrops) -> Self {
        let dropped = |port: u16| drops.get(&port).copied().unwrap_or(0);
        let mut ports: Vec<_> = outcomes.iter().map(|one| one.media_port).filter(|port| *port != 0).collect();
        ports.sort_unstable();
        ports.dedup();
        let lost = |behind: bool| {
            let those = outcomes.iter().filter(|one| (dropped(one.media_port) > 0) == behind);
            those.map(|one| one.counts.lost).sum()
        };
        Self {
            socket_drops: ports.into_iter().map(dropped).sum(),
            lost_behind_drops: lost(true),
            lost_otherwise: lost(false),
            host_drops,
        }
    }
}

impl Timings {
    fn new(outcomes: &[Outcome], meters: &[Meters]) -> Self {
        let waits = |wait: &dyn Fn(&Outcome) -> Option<(Moment, Moment)>| {
            let waits = outcomes.iter().filter_map(wait);
            Percentiles::of_waits(waits.map(|(from, to)| to.since(from)))
        };
        let merged = |which: &dyn Fn(&Meters) -> &Histogram<u64>| {
            let mut all = new_histogram();
            for meter in meters {
                all += which(meter);
            }
            Percentiles::of(&all)
        };
        Self {
            connect_to_init: waits(&|one| Some((one.started, one.milestones.init?))),
            init_to_first_packet: waits(&|one| Some((one.milestones.init?, one.first_packet?))),
            punch_to_first_packet: waits(&|one| Some((one.milestones.punch?, one.first_packet?))),
            init_to_first_picture: waits(&|one| Some((one.milestones.init?, one.first_picture?))),
            punch_to_first_picture: waits(&|one| Some((one.milestones.punch?, one.first_picture?))),
            latency_arrived: merged(&|meters| &meters.latency_arrived),
            latency_read: merged(&|meters| &meters.latency_read),
            pong: merged(&|meters| &meters.pong_wait),
        }
    }
}

impl Seeks {
    fn of(meters: &[Meters]) -> Option<Self> {
        let (mut seeks, mut answer, mut first_packet) = (Self::default(), new_histogram(), new_histogram());
        for meters in meters.iter().map(|meters| &meters.seeks) {
            seeks.asked += meters.asked;
            seeks.unseen += meters.unseen;
            for (cause, count) in &meters.errors {
                *seeks.errors.entry(cause.clone()).or_default() += count;
            }
            answer += &meters.answer;
            first_packet += &meters.first_packet;
        }
        seeks.request_to_answer = Percentiles::of(&answer);
        seeks.request_to_first_packet = Percentiles::of(&first_packet);
        (seeks.asked > 0).then_some(seeks)
    }
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| microseconds(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            min_us: microseconds(histogram.min()),
            mean_us: (histogram.mean() / 10.0).round() / 100.0,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: microseconds(histogram.max()),
        }
    }

    /// Of single waits.
    pub fn of_waits(waits: impl Iterator<Item = Duration>) -> Self {
        let mut histogram = new_histogram();
        for wait in waits {
            histogram.saturating_record(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
        }
        Self::of(&histogram)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, sessions, totals, window, per_viewer, receiver, timings, .. } = self;
        match run.transport {
            Transport::Webrtc => writeln!(f, "{}: {} viewers, WebRTC", run.url, run.viewers)?,
            _ => writeln!(
                f,
                "{} stream {}: {} viewers, revision {}",
                run.url, run.stream, run.viewers, run.revision
            )?,
        }
        writeln!(
            f,
            "sessions   {} joined, {} failed, {} never got a packet, {} began at random access, {} otherwise, {} fell back",
            sessions.joined,
            sessions.failed,
            sessions.never_got_a_packet,
            sessions.started_at_random_access,
            sessions.started_otherwise,
            sessions.fell_back
        )?;
        for (cause, count) in &self.errors {
            writeln!(f, "  failed   {count} × {cause}")?;
        }
        for (what, count) in &self.breaches {
            writeln!(f, "  breach   {count} × {what}")?;
        }
        write_counts(f, "in all", totals)?;
        writeln!(
            f,
            "  a viewer packets {}, lost {}; receiver: {} socket drops, lost behind them {}, lost otherwise {}",
            per_viewer.packets,
            per_viewer.lost,
            receiver.socket_drops,
            receiver.lost_behind_drops,
            receiver.lost_otherwise
        )?;
        write_counts(f, "window", &window.counts)?;
        writeln!(
            f,
            "  {:.2} s, {:.0} packets/s, {:.1} Mb/s; this process {:.2} s of CPU; host: {} buffer, {} memory errors",
            window.seconds,
            window.packets_per_second,
            window.bits_per_second / 1e6,
            window.process.cpu_seconds,
            window.host_drops.receive_buffer_errors,
            window.host_drops.memory_errors
        )?;
        if let Some(observed) = &window.observed {
            writeln!(
                f,
                "  process {}: {:.3} s of CPU, {:.3} µs a packet, {:.1} MB resident",
                observed.pid,
                observed.usage.cpu_seconds,
                observed.cpu_us_per_packet,
                observed.usage.resident_bytes as f64 / 1e6
            )?;
        }
        if let Some(peers) = &self.peers {
            write!(f, "{peers}")?;
        }
        if let Some(seeks) = &self.seeks {
            writeln!(f, "seeks      {} asked, {} not seen", seeks.asked, seeks.unseen)?;
            for (cause, count) in &seeks.errors {
                writeln!(f, "  failed   {count} × {cause}")?;
            }
        }
        writeln!(f, "ms                          p50      p90      p99    p99.9      max    count")?;
        for (name, percentiles) in [
            ("connect to init", &timings.connect_to_init),
            ("init to first packet", &timings.init_to_first_packet),
            ("punch to first packet", &timings.punch_to_first_packet),
            ("init to first picture", &timings.init_to_first_picture),
            ("punch to first picture", &timings.punch_to_first_picture),
            ("latency, arrived", &timings.latency_arrived),
            ("latency, read", &timings.latency_read),
            ("pong", &timings.pong),
        ] {
            if percentiles.count > 0 {
                writeln!(f, "{name:<23}{percentiles}")?;
            }
        }
        for seeks in self.seeks.iter() {
            writeln!(f, "{:<23}{}", "seek to answer", seeks.request_to_answer)?;
            writeln!(f, "{:<23}{}", "seek to first packet", seeks.request_to_first_packet)?;
        }
        for (name, percentiles) in self.peers.iter().flat_map(|peers| peers.timings.named()) {
            writeln!(f, "{name:<23}{percentiles}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for value in [self.p50_us, self.p90_us, self.p99_us, self.p999_us, self.max_us] {
            write!(f, "{:>9.3}", value / 1e3)?;
        }
        write!(f, "{:>9}", self.count)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.min, self.median, self.max)
    }
}

fn write_counts(f: &mut fmt::Formatter<'_>, name: &str, counts: &Counts) -> fmt::Result {
    writeln!(
        f,
        "{name:<10} {} packets, {:.1} MB, {} access units; lost {} in {} gaps, {} repeated, {} reordered, {} jumps, \
         {} recovered, {} SSRC changes, {} timestamps back, {} marker faults, {} header faults, {} not RTP",
        counts.packets,
        counts.bytes as f64 / 1e6,
        counts.access_units,
        counts.lost,
        counts.gaps,
        counts.duplicates,
        counts.reordered,
        counts.sequence_jumps,
        counts.recovered,
        counts.ssrc_changes,
        counts.backward_timestamps,
        counts.missing_markers + counts.early_markers,
        counts.other_payload_types + counts.decorated_headers,
        counts.not_rtp
    )
}

/// How often each name comes.
pub fn tally<K: Ord>(names: impl Iterator<Item = K>) -> BTreeMap<K, u64> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn microseconds(ns: u64) -> f64 {
    ns as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::session::Milestones;

    fn outcome(number: u32, packets: u64, lost: u64) -> Outcome {
        Outcome {
            number,
            started: Moment::from_ns(0),
            fate: Fate::Running,
            counts: Counts { packets, lost, ..Counts::default() },
            window: Counts { packets, ..Counts::default() },
            start: (packets > 0).then_some(Start::RandomAccess),
            milestones: Milestones { init: Some(Moment::from_ns(1_000_000)), ..Milestones::default() },
            first_packet: (packets > 0).then_some(Moment::from_ns(3_000_000)),
            first_picture: None,
            transport: Transport::Udp,
            breaches: Vec::new(),
            server_errors: 0,
            media_port: 4000 + number as u16,
            peer: None,
        }
    }

    fn summary(outcomes: Vec<Outcome>, stillborn: Vec<String>, drops: HashMap<u16, u64>) -> Summary {
        Summary::new(Findings {
            run: Run {
                url: "http://h".into(),
                stream: "7".into(),
                revision: 1,
                transport: Transport::Udp,
                viewers: 3,
                threads: 1,
                shared_sockets: None,
                b_frames: false,
            },
            outcomes,
            stillborn,
            meters: vec![Meters::default()],
            drops,
            host_drops: HostDrops::default(),
            window: Window { seconds: 2.0, ..Window::default() },
        })
    }

    #[test]
    fn loss_behind_a_socket_that_dropped_is_told_from_loss_that_is_not_ours() {
        let drops = HashMap::from([(4000, 3), (9999, 8)]);
        let summary = summary(vec![outcome(0, 10, 40), outcome(1, 10, 2)], vec![], drops);
        assert_eq!(summary.receiver.socket_drops, 3);
        assert_eq!(summary.receiver.lost_behind_drops, 40);
        assert_eq!(summary.receiver.lost_otherwise, 2);
        assert_eq!(summary.faults, 42);
    }

    #[test]
    fn who_failed_and_who_never_got_a_packet_is_counted() {
        let mut failed = outcome(1, 0, 0);
        failed.fate = Fate::Failed("no".into());
        let summary =
            summary(vec![outcome(0, 10, 0), failed], vec!["start: no files".into()], HashMap::new());
        assert!(!summary.is_complete());
        assert_eq!(summary.sessions.failed, 2);
        assert_eq!(summary.sessions.never_got_a_packet, 2);
        assert_eq!(summary.sessions.joined, 1);
        assert_eq!(summary.errors.len(), 2);
    }

    #[test]
    fn waits_and_rates_are_of_the_window_and_in_microseconds() {
        let summary = summary(vec![outcome(0, 10, 0), outcome(1, 30, 0)], vec![], HashMap::new());
        assert_eq!(summary.window.packets_per_second, 20.0);
        assert_eq!(summary.timings.init_to_first_packet.count, 2);
        assert!((summary.timings.init_to_first_packet.p50_us - 2000.0).abs() < 2.0);
        assert_eq!(summary.per_viewer.packets, Spread { min: 10, median: 30, max: 30 });
        assert!(summary.to_string().contains("init to first packet"));
    }
}
