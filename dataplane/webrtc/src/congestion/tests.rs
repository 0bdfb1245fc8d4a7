//! Streams over simulated links, in virtual time. Feedback is what a public implementation writes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lanecast_protocol::rtcp::{Feedback, ReceptionBlock, TransportFeedback, parse_feedback};
use proptest::prelude::*;
use rtcp_types::prelude::*;
use rtcp_types::{Twcc, TwccPacketStatus};

use super::*;

const PACKET_BYTES: u64 = 1200;
const TURN_US: u64 = 2_000;
const FEEDBACK_EVERY_US: u64 = 50_000;
const REPORT_EVERY_US: u64 = 1_000_000;

/// A path with a bottleneck: what comes at `rate_bps` waits in a queue of `queue_us`, takes `delay_us`, and `loss` of it
/// is lost at random. All of it is held up, in order, for up to `jitter_us` at times.
#[derive(Clone, Copy)]
struct Link {
    rate_bps: u64,
    queue_us: u64,
    delay_us: u64,
    jitter_us: u64,
    loss: f64,
}

const LAN: Link = Link { rate_bps: 100_000_000, queue_us: 50_000, delay_us: 1_000, jitter_us: 0, loss: 0.0 };

/// 4 Mb/s and a key picture of 1.1 MB each two seconds.
#[derive(Clone, Copy)]
struct Camera {
    picture_bytes: u64,
    key_picture_bytes: u64,
    pictures_per_key: u64,
}

const CAMERA: Camera = Camera { picture_bytes: 20_000, key_picture_bytes: 1_100_000, pictures_per_key: 50 };
const PLAIN: Camera = Camera { picture_bytes: 20_000, key_picture_bytes: 20_000, pictures_per_key: 50 };
const PICTURE_US: u64 = 40_000;

/// What the receiver tells of what it gets.
#[derive(Clone, Copy, PartialEq)]
enum Tells {
    Transport,
    Reports,
}

/// A viewer at the other end of a link.
struct Scene {
    congestion: Congestion,
    start: Instant,
    now_us: u64,
    link: Link,
    camera: Camera,
    tells: Tells,
    /// The receiver's clock at the start, in microseconds.
    receiver_us: u64,
    random: u64,
    link_free_us: u64,
    held_until_us: u64,
    /// Bytes that wait for the pacer, and what it may send.
    waiting: u64,
    credit: f64,
    skipping: bool,
    next: u16,
    /// Packets on their way or lost: number and arrival.
    on_the_way: VecDeque<(u16, Option<u64>)>,
    /// Feedback on its way: when it comes, and its bytes.
    back: VecDeque<(u64, Vec<u8>)>,
    feedback_us: u64,
    report_us: u64,
    report: (u64, u64),
    overloads: Vec<u64>,
    delivered: u64,
    sent: u64,
    estimates: Vec<u64>,
}

impl Scene {
    fn new(link: Link, camera: Camera, tells: Tells) -> Self {
        let start = Instant::now();
        Self {
            congestion: Congestion::new(start),
            start,
            now_us: 0,
            link,
            camera,
            tells,
            receiver_us: 77_000_000,
            random: 1,
            link_free_us: 0,
            held_until_us: 0,
            waiting: 0,
            credit: 0.0,
            skipping: false,
            next: 65_000,
            on_the_way: VecDeque::new(),
            back: VecDeque::new(),
            feedback_us: 0,
            report_us: 0,
            report: (0, 0),
            overloads: vec![],
            delivered: 0,
            sent: 0,
            estimates: vec![],
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_micros(self.now_us)
    }

    /// In seconds.
    fn overloads(&self) -> Vec<f64> {
        self.overloads.iter().map(|at_us| *at_us as f64 / 1e6).collect()
    }

    fn run(&mut self, seconds: u64) -> &mut Self {
        for _ in 0..seconds * 1_000_000 / TURN_US {
            self.now_us += TURN_US;
            if self.now_us.is_multiple_of(PICTURE_US) {
                self.picture();
            }
            self.pace();
            self.receive();
            self.feed();
            if self.congestion.poll_overload(self.now()) {
                self.overloads.push(self.now_us);
                (self.skipping, self.waiting) = (true, 0);
            }
        }
        self
    }

    fn picture(&mut self) {
        let key = self.now_us / PICTURE_US % self.camera.pictures_per_key == 1;
        let may_resume = self.congestion.resume_at().is_none_or(|at| at <= self.now());
        self.skipping &= !(key && may_resume);
        if !self.skipping {
            self.waiting += if key { self.camera.key_picture_bytes } else { self.camera.picture_bytes };
        }
    }

    fn pace(&mut self) {
        let turn = self.congestion.pacing_rate_bps() as f64 * TURN_US as f64 / 8e6;
        self.credit = (self.credit + turn).min(turn + PACKET_BYTES as f64);
        let packets = (self.credit / PACKET_BYTES as f64) as u64;
        let packets = packets.min(self.waiting.div_ceil(PACKET_BYTES)).min(64);
        self.credit -= (packets * PACKET_BYTES) as f64;
        self.waiting = self.waiting.saturating_sub(packets * PACKET_BYTES);
        if packets > 0 {
            self.congestion.handle_sent(self.now(), self.next, packets as u16, PACKET_BYTES as u16);
        }
        (0..packets).for_each(|_| self.travel());
    }

    /// One packet's way to the receiver.
    fn travel(&mut self) {
        let passes_us = PACKET_BYTES * 8_000_000 / self.link.rate_bps;
        let waits_us = self.link_free_us.saturating_sub(self.now_us);
        let lost = waits_us > self.link.queue_us || self.random() < self.link.loss;
        let arrival_us = (!lost).then(|| {
            self.link_free_us = self.now_us + waits_us + passes_us;
            // Held up at one packet in twenty; the others do not overtake it.
            let held_us = if self.random() < 0.05 { self.random() * self.link.jitter_us as f64 } else { 0.0 };
            self.held_until_us = self.held_until_us.max(self.link_free_us + held_us as u64);
            self.held_until_us + self.link.delay_us
        });
        self.on_the_way.push_back((self.next, arrival_us));
        self.next = self.next.wrapping_add(1);
        self.sent += 1;
    }

    fn random(&mut self) -> f64 {
        // Steele, Lea, Flood: SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The receiver takes what has arrived and tells of it.
    fn receive(&mut self) {
        let transport_due =
            self.tells == Tells::Transport && self.now_us >= self.feedback_us + FEEDBACK_EVERY_US;
        let report_due = self.now_us >= self.report_us + REPORT_EVERY_US;
        if !(transport_due || report_due && self.tells == Tells::Reports) {
            return;
        }
        let arrived = |(_, at_us): &(u16, Option<u64>)| at_us.is_some_and(|at_us| at_us <= self.now_us);
        let count = self.on_the_way.iter().rposition(arrived).map_or(0, |last| last + 1);
        let packets: Vec<_> = self.on_the_way.drain(..count).collect();
        self.delivered += packets.iter().filter(|(_, at_us)| at_us.is_some()).count() as u64;
        self.report.0 += packets.len() as u64;
        self.report.1 += packets.iter().filter(|(_, at_us)| at_us.is_none()).count() as u64;
        if self.tells == Tells::Transport {
            self.feedback_us = self.now_us;
            if !packets.is_empty() {
                let bytes = transport_feedback(&packets, self.receiver_us);
                self.back.push_back((self.now_us + self.link.delay_us, bytes));
            }
        } else {
            self.report_us = self.now_us;
            let (expected, lost) = std::mem::take(&mut self.report);
            let fraction_lost = (lost * 256 / expected.max(1)).min(255) as u8;
            let waits_us = self.link_free_us.saturating_sub(self.now_us);
            let round_trip = Duration::from_micros(2 * self.link.delay_us + waits_us);
            self.congestion.handle_report(self.now(), &report(fraction_lost), Some(round_trip));
            self.estimates.extend(self.congestion.statistics().estimate_bps);
        }
    }

    /// Feedback that has come.
    fn feed(&mut self) {
        while let Some((_, bytes)) = self.back.pop_front_if(|(at_us, _)| *at_us <= self.now_us) {
            let now = self.now();
            for feedback in transports(&bytes) {
                self.congestion.handle_transport_feedback(now, &feedback);
            }
            self.estimates.extend(self.congestion.statistics().estimate_bps);
        }
    }
}

fn report(fraction_lost: u8) -> ReceptionBlock {
    ReceptionBlock {
        ssrc: 1,
        fraction_lost,
        cumulative_lost: 0,
        highest_sequence: 0,
        jitter: 0,
        last_sender_report: 0,
        delay_since_last_sender_report: 0,
    }
}

fn transports(bytes: &[u8]) -> impl Iterator<Item = TransportFeedback<'_>> {
    parse_feedback(bytes).filter_map(|feedback| match feedback {
        Feedback::Transport(feedback) => Some(feedback),
        _ => None,
    })
}

/// As `rtcp-types` writes it: which of the packets came when, by a clock that was at `receiver_us` at the start.
fn transport_feedback(packets: &[(u16, Option<u64>)], receiver_us: u64) -> Vec<u8> {
    let ticks = |at_us: u64| (at_us + receiver_us) / 250;
    let first = packets.iter().find_map(|(_, at_us)| *at_us).unwrap_or(0);
    let reference = ticks(first) / 256;
    let mut before = reference * 256;
    let statuses: Vec<_> = packets
        .iter()
        .map(|(_, at_us)| match at_us {
            Some(at_us) => {
                let delta = ticks(*at_us) as i64 - before as i64;
                before = ticks(*at_us);
                TwccPacketStatus::Received { delta: i16::try_from(delta).unwrap() }
            }
            None => TwccPacketStatus::NotReceived,
        })
        .collect();
    let twcc = Twcc::builder(packets[0].0, reference as u32 & 0xff_ffff, 0, &statuses, None);
    let packet = rtcp_types::TransportFeedback::builder(&twcc).sender_ssrc(1).media_ssrc(2);
    let mut bytes = vec![0; packet.calculate_size().unwrap()];
    packet.write_into_unchecked(&mut bytes);
    bytes
}

#[test]
fn a_viewer_s_estimate_is_a_kilobyte_and_a_half() {
    assert!(size_of::<Congestion>() <= 1600, "{}", size_of::<Congestion>());
}

#[test]
fn a_stream_with_large_key_pictures_is_no_overload_on_a_lan() {
    let mut scene = Scene::new(LAN, CAMERA, Tells::Transport);
    scene.run(60);
    assert_eq!(scene.overloads(), [0.0; 0]);
    assert!(scene.sent - scene.delivered < 200, "{} of {}", scene.delivered, scene.sent);
    assert!(scene.congestion.pacing_rate_bps() >= 100_000_000, "{}", scene.congestion.pacing_rate_bps());
    let statistics = scene.congestion.statistics();
    assert!(statistics.estimate_bps.unwrap() >= 8_000_000 && statistics.loss == 0.0, "{statistics:?}");
}

#[test]
fn a_stream_is_no_overload_where_key_pictures_wait_but_fit() {
    for rate_bps in [12_000_000, 20_000_000, 50_000_000] {
        for tells in [Tells::Transport, Tells::Reports] {
            let link = Link { rate_bps, queue_us: 2_000_000, delay_us: 20_000, ..LAN };
            let mut scene = Scene::new(link, CAMERA, tells);
            scene.run(60);
            assert_eq!(scene.overloads(), [0.0; 0], "{rate_bps}");
            let estimate = scene.congestion.statistics().estimate_bps.unwrap() as f64;
            if tells == Tells::Transport {
                assert!((0.5..1.5).contains(&(estimate / rate_bps as f64)), "{estimate} of {rate_bps}");
            }
        }
    }
}

#[test]
fn jitter_and_a_long_way_are_no_overload() {
    for (delay_us, jitter_us) in [(5_000, 30_000), (5_000, 150_000), (300_000, 50_000)] {
        for camera in [CAMERA, PLAIN] {
            let link = Link { rate_bps: 50_000_000, queue_us: 500_000, delay_us, jitter_us, loss: 0.01 };
            let mut scene = Scene::new(link, camera, Tells::Transport);
            scene.run(60);
            assert_eq!(scene.overloads(), [0.0; 0], "{jitter_us}");
            let estimate = scene.congestion.statistics().estimate_bps.unwrap();
            assert!(estimate >= 4_000_000, "{jitter_us}: {estimate}");
        }
    }
}

#[test]
fn a_path_without_a_queue_teaches_how_fast_a_burst_may_be() {
    let link = Link { rate_bps: 20_000_000, queue_us: 25_000, delay_us: 20_000, ..LAN };
    let mut scene = Scene::new(link, CAMERA, Tells::Transport);
    scene.run(20);
    let (overloads, sent, delivered) = (scene.overloads.len(), scene.sent, scene.delivered);
    scene.run(60);
    assert_eq!(scene.overloads.len(), overloads, "{:?}", scene.overloads());
    let lost = 1.0 - (scene.delivered - delivered) as f64 / (scene.sent - sent) as f64;
    assert!(lost < 0.05, "{lost}");
}

#[test]
fn a_path_that_does_not_carry_the_stream_is_an_overload_again_and_again() {
    for queue_us in [20_000, 200_000, 1_000_000, 10_000_000] {
        for (camera, tells) in
            [(CAMERA, Tells::Transport), (PLAIN, Tells::Transport), (CAMERA, Tells::Reports)]
        {
            let link = Link { rate_bps: 2_000_000, queue_us, delay_us: 20_000, ..LAN };
            let mut scene = Scene::new(link, camera, tells);
            scene.run(120);
            let overloads = scene.overloads();
            let limit = if tells == Tells::Transport { 3.0 } else { 5.0 };
            assert!(overloads[0] < limit, "queue of {queue_us}: {overloads:?}");
            assert!((5..20).contains(&overloads.len()), "queue of {queue_us}: {overloads:?}");
            let last = overloads.len() - 1;
            assert!(overloads[last] - overloads[last - 1] > 15.0, "queue of {queue_us}: {overloads:?}");
        }
    }
}

#[test]
fn when_the_path_recovers_the_stream_comes_back_and_stays() {
    for tells in [Tells::Transport, Tells::Reports] {
        let slow = Link { rate_bps: 2_000_000, queue_us: 500_000, delay_us: 20_000, ..LAN };
        let mut scene = Scene::new(slow, CAMERA, tells);
        scene.run(30);
        assert!(scene.overloads.len() > 2, "{:?}", scene.overloads());
        scene.link = LAN;
        let (overloads, delivered) = (scene.overloads.len(), scene.delivered);
        scene.run(90);
        assert!(scene.overloads.len() <= overloads + 1, "{:?}", scene.overloads());
        assert!(!scene.skipping);
        // All but the last wait.
        let rate_bps = (scene.delivered - delivered) as f64 * PACKET_BYTES as f64 * 8.0 / 90.0;
        assert!(rate_bps > 8.4e6 * 70.0 / 90.0, "{rate_bps}");
        // Another overload waits shorter again.
        scene.link = slow;
        let now = scene.now();
        while scene.overloads.len() <= overloads + 1 && scene.now() < now + Duration::from_secs(20) {
            scene.run(1);
        }
        let wait = scene.congestion.resume_at().unwrap().saturating_duration_since(scene.now());
        assert!(wait < Duration::from_secs(2), "{wait:?}");
    }
}

#[test]
fn random_loss_is_no_overload_and_the_estimate_stays_above_the_stream() {
    for seed in 0..4 {
        for (camera, tells) in
            [(PLAIN, Tells::Transport), (CAMERA, Tells::Transport), (PLAIN, Tells::Reports)]
        {
            let mut scene = Scene::new(Link { loss: 0.05, delay_us: 30_000, ..LAN }, camera, tells);
            scene.random = seed;
            scene.run(10);
            scene.estimates.clear();
            scene.run(120);
            assert_eq!(scene.overloads(), [0.0; 0]);
            let least = scene.estimates.iter().min().unwrap();
            assert!(*least >= 4_000_000, "{least}");
            let loss = scene.congestion.statistics().loss;
            assert!((0.01..0.12).contains(&loss), "{loss}");
        }
    }
}

#[test]
fn the_receiver_s_clock_may_wrap_and_jump() {
    // Ten seconds before the end of 24 bits of 64 ms.
    let mut scene = Scene::new(LAN, CAMERA, Tells::Transport);
    scene.receiver_us = (1 << 24) * 64_000 - 10_000_000;
    scene.run(20);
    let queueing = scene.congestion.statistics().queueing;
    assert!(queueing < Duration::from_millis(60), "{queueing:?}");
    for jump_us in [600_000, 2_000_000, 60_000_000, -700_000, -9_000_000] {
        scene.receiver_us = scene.receiver_us.wrapping_add_signed(jump_us);
        scene.run(10);
        assert_eq!(scene.overloads(), [0.0; 0], "{jump_us}");
        let estimate = scene.congestion.statistics().estimate_bps.unwrap();
        assert!(estimate > 8_000_000, "{jump_us}: {estimate}");
    }
}

#[test]
fn feedback_twice_late_and_of_other_packets_changes_nothing() {
    let mut scene = Scene::new(LAN, CAMERA, Tells::Transport);
    let mut held = vec![];
    for _ in 0..200 {
        for (_, bytes) in scene.back.clone() {
            for feedback in transports(&bytes) {
                scene.congestion.handle_transport_feedback(scene.now(), &feedback);
            }
            held.push(bytes);
        }
        if held.len() > 5 {
            let (now, bytes) = (scene.now(), held.remove(0));
            transports(&bytes)
                .for_each(|feedback| scene.congestion.handle_transport_feedback(now, &feedback));
        }
        let future: Vec<_> = (0..100).map(|ahead| (scene.next.wrapping_add(ahead), None)).collect();
        let bytes = transport_feedback(&future, 5);
        let now = scene.now();
        transports(&bytes).for_each(|feedback| scene.congestion.handle_transport_feedback(now, &feedback));
        for _ in 0..50 {
            scene.now_us += TURN_US;
            if scene.now_us.is_multiple_of(PICTURE_US) {
                scene.picture();
            }
            scene.pace();
            scene.receive();
            assert!(!scene.congestion.poll_overload(scene.now()));
        }
        scene.back.drain(..scene.back.len().saturating_sub(1));
    }
    let statistics = scene.congestion.statistics();
    assert!(statistics.loss < 0.01 && statistics.estimate_bps.unwrap() > 4_000_000, "{statistics:?}");
}

#[test]
fn a_receiver_s_estimate_below_the_stream_for_long_is_an_overload() {
    for (remb_bps, overloaded) in [(2_000_000, true), (6_000_000, false)] {
        let mut scene = Scene::new(LAN, PLAIN, Tells::Reports);
        for second in 0..12 {
            scene.run(1);
            scene.congestion.handle_remb(scene.now(), remb_bps);
            assert_eq!(scene.congestion.statistics().estimate_bps, Some(remb_bps));
            assert!(second > 5 || scene.overloads.is_empty());
        }
        assert_eq!(!scene.overloads.is_empty(), overloaded, "{remb_bps}");
    }
}

#[test]
fn the_pace_is_generous_until_something_is_known() {
    let mut congestion = Congestion::new(Instant::now());
    assert_eq!(congestion.pacing_rate_bps(), 100_000_000);
    assert_eq!(congestion.round_trip(), Duration::from_millis(100));
    assert_eq!(congestion.statistics(), CongestionStatistics::default());
    assert_eq!(congestion.resume_at(), None);
    congestion.handle_report(congestion.epoch, &report(0), Some(Duration::from_millis(7)));
    assert_eq!(congestion.round_trip(), Duration::from_millis(7));
}

#[test]
fn the_round_trip_is_smoothed_and_bounded() {
    let mut congestion = Congestion::new(Instant::now());
    for round_trip in [Duration::from_millis(80), Duration::from_millis(160)] {
        congestion.handle_report(congestion.epoch, &report(0), Some(round_trip));
    }
    assert_eq!(congestion.round_trip(), Duration::from_millis(90));
    congestion.handle_report(congestion.epoch, &report(0), Some(Duration::MAX));
    assert!(congestion.round_trip() < Duration::from_secs(2));
}

/// Anything that may be called.
#[derive(Clone, Debug)]
enum Call {
    Wait(u64),
    Sent(u16, u16, u16),
    Transport(u16, u32, Vec<Option<i16>>),
    Report(u8, Option<u64>),
    Remb(u64),
    Poll,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        4 => (0..200_000u64).prop_map(Call::Wait),
        1 => any::<u64>().prop_map(|wait| Call::Wait(wait >> 10)),
        4 => (0..64u16, 0..100u16, any::<u16>()).prop_map(|(skip, packets, bytes)| Call::Sent(skip, packets, bytes)),
        1 => any::<(u16, u16, u16)>().prop_map(|(skip, packets, bytes)| Call::Sent(skip, packets, bytes)),
        4 => (0..300u16, 0..1u32 << 24, prop::collection::vec(any::<Option<i16>>(), 1..60))
            .prop_map(|(back, reference, deltas)| Call::Transport(back, reference, deltas)),
        4 => (0..300u16, prop::collection::vec(prop::option::weighted(0.9, 0..50i16), 1..60))
            .prop_map(|(back, deltas)| Call::Transport(back, 7, deltas)),
        1 => any::<(u8, Option<u64>)>().prop_map(|(lost, round_trip)| Call::Report(lost, round_trip)),
        1 => any::<u64>().prop_map(Call::Remb),
        2 => Just(Call::Poll),
    ];
    prop::collection::vec(call, 0..300)
}

proptest! {
    #[test]
    fn no_calls_panic_and_all_figures_stay_in_their_bounds(calls in calls()) {
        let start = Instant::now();
        let mut congestion = Congestion::new(start);
        let (mut now, mut next) = (start, 0u16);
        for call in calls {
            match call {
                Call::Wait(us) => now = now.checked_add(Duration::from_micros(us)).unwrap_or(now),
                Call::Sent(skip, packets, bytes) => {
                    congestion.handle_sent(now, next.wrapping_add(skip), packets, bytes);
                    next = next.wrapping_add(skip).wrapping_add(packets);
                }
                Call::Transport(back, reference, deltas) => {
                    let statuses: Vec<_> = deltas.iter().map(|delta| match delta {
                        Some(delta) => TwccPacketStatus::Received { delta: *delta },
                        None => TwccPacketStatus::NotReceived,
                    }).collect();
                    let twcc = Twcc::builder(next.wrapping_sub(back), reference, 0, &statuses, None);
                    let packet = rtcp_types::TransportFeedback::builder(&twcc).sender_ssrc(1).media_ssrc(2);
                    let mut bytes = vec![0; packet.calculate_size().unwrap()];
                    packet.write_into_unchecked(&mut bytes);
                    for feedback in transports(&bytes) {
                        congestion.handle_transport_feedback(now, &feedback);
                    }
                }
                Call::Report(lost, round_trip_us) => {
                    congestion.handle_report(now, &report(lost), round_trip_us.map(Duration::from_micros));
                }
                Call::Remb(bps) => congestion.handle_remb(now, bps),
                Call::Poll => {
                    if congestion.poll_overload(now) {
                        let wait = congestion.resume_at().unwrap().saturating_duration_since(now);
                        prop_assert!(wait <= Duration::from_secs(16));
                        prop_assert!(!congestion.poll_overload(now));
                    }
                }
            }
            let statistics = congestion.statistics();
            prop_assert!(statistics.estimate_bps.is_none_or(|bps| (50_000..=10_000_000_000).contains(&bps)));
            prop_assert!((0.0..=1.0).contains(&statistics.loss));
            prop_assert!((20_000_000..=1_000_000_000).contains(&congestion.pacing_rate_bps()));
            prop_assert!(congestion.round_trip() <= Duration::from_secs(10));
        }
    }
}
