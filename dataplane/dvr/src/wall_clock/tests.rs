use std::time::Duration;

use proptest::prelude::*;

use super::*;

const START_UNIX_MS: i64 = 1_790_000_000_000;
const HOUR_MS: i64 = 3_600_000;
const PICTURE_US: i64 = 40_000;

/// A camera of 25 pictures a second, the network behind it, and the system's clock.
struct World {
    wall_clock: WallClock,
    start: Instant,
    rate: u32,
    rtp_first: u32,
    /// The camera's oscillator.
    drift_ppm: i64,
    /// What the system's clock was set by.
    system_step_ms: i64,
    /// What the camera's own clock is wrong by.
    camera_wrong_ms: i64,
    reports: bool,
    jitter_us: i64,
    random: u64,
    /// Real time of the next picture.
    time_us: i64,
    picture: i64,
}

impl World {
    fn new() -> Self {
        Self {
            wall_clock: WallClock::default(),
            start: Instant::now(),
            rate: 90_000,
            rtp_first: u32::MAX - 1_000_000,
            drift_ppm: 0,
            system_step_ms: 0,
            camera_wrong_ms: 0,
            reports: false,
            jitter_us: 0,
            random: 1,
            time_us: 0,
            picture: 0,
        }
    }

    /// Real time of the last picture by the clock on the wall.
    fn true_unix_ms(&self) -> i64 {
        START_UNIX_MS + (self.time_us - PICTURE_US) / 1000
    }

    fn rtp(&self, time_us: i64) -> u32 {
        let camera_us = i128::from(time_us) * i128::from(1_000_000 + self.drift_ppm) / 1_000_000;
        self.rtp_first.wrapping_add((camera_us * i128::from(self.rate) / 1_000_000) as u32)
    }

    fn arrival_us(&mut self) -> i64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let random = (self.random >> 33) as i64;
        let jitter_us = if self.jitter_us == 0 { 0 } else { random % (2 * self.jitter_us) };
        self.time_us + jitter_us
    }

    fn at(&self, time_us: i64) -> (Instant, i64) {
        let now = self.start + Duration::from_micros(time_us as u64);
        (now, START_UNIX_MS + time_us.div_euclid(1000) + self.system_step_ms)
    }

    fn report(&mut self) {
        let (now, system_unix_ms) = self.at(self.time_us);
        let unix_us = START_UNIX_MS * 1000 + self.time_us + self.camera_wrong_ms * 1000;
        let seconds = (unix_us.div_euclid(1_000_000) + NTP_TO_UNIX_SECONDS) as u64;
        let fraction = ((unix_us.rem_euclid(1_000_000) as u64) << 32) / 1_000_000;
        let ntp = (seconds << 32) | fraction;
        let report = SenderReport { ssrc: 1, ntp, rtp_timestamp: self.rtp(self.time_us) };
        self.wall_clock.handle_sender_report(now, system_unix_ms, report);
    }

    fn picture(&mut self) -> Stamp {
        if self.reports && self.picture % 125 == 25 {
            self.report();
        }
        let rtp = self.rtp(self.time_us);
        let arrival_us = self.arrival_us();
        let (now, system_unix_ms) = self.at(arrival_us);
        self.picture += 1;
        self.time_us += PICTURE_US;
        self.wall_clock.stamp(now, system_unix_ms, rtp)
    }

    fn run(&mut self, seconds: i64) -> Vec<Stamp> {
        (0..seconds * 25).map(|_| self.picture()).collect()
    }
}

fn assert_grows(stamps: &[Stamp]) {
    for pair in stamps.windows(2) {
        assert!(pair[0].unix_ms < pair[1].unix_ms, "{pair:?}");
    }
}

#[track_caller]
fn assert_near(a: i64, b: i64, most: i64) {
    assert!((a - b).abs() <= most, "{a} and {b} are {} apart", a - b);
}

#[test]
fn a_perfect_camera_is_stamped_by_its_arrival() {
    let mut world = World::new();
    for n in 0..1000 {
        assert_eq!(world.picture(), Stamp { unix_ms: START_UNIX_MS + 40 * n, jumped: false });
    }
}

#[test]
fn a_drift_of_200_ppm_over_an_hour_keeps_within_100_ms_of_the_wall_clock() {
    for drift_ppm in [-200, 200] {
        for reports in [false, true] {
            let mut world = World { drift_ppm, reports, jitter_us: 50_000, ..World::new() };
            for _ in 0..3600 * 25 {
                let stamp = world.picture();
                assert!(!stamp.jumped);
                assert_near(stamp.unix_ms, world.true_unix_ms(), 100);
            }
            let last = world.picture();
            assert_near(last.unix_ms, world.true_unix_ms(), 20);
        }
    }
}

#[test]
fn arrival_jitter_of_50_ms_makes_no_jitter() {
    let mut world = World { jitter_us: 50_000, ..World::new() };
    let stamps = world.run(600);
    assert_grows(&stamps);
    for pair in stamps.windows(2) {
        assert_near(pair[1].unix_ms - pair[0].unix_ms, 40, 1);
    }
}

#[test]
fn timestamps_of_another_rate_wrap_and_go_on() {
    for rate in [1000, 8000, 27_000_000, 90_000] {
        let mut world = World { rate, ..World::new() };
        world.wall_clock.restart(rate);
        let stamps = world.run(600);
        assert_grows(&stamps);
        assert_eq!(stamps.last().unwrap().unix_ms, world.true_unix_ms(), "{rate}");
    }
}

#[test]
fn the_system_clock_an_hour_forward_is_one_jump_and_loses_nothing() {
    let mut world = World { jitter_us: 20_000, ..World::new() };
    let mut stamps = world.run(60);
    world.system_step_ms = HOUR_MS;
    stamps.extend(world.run(60));
    assert_grows(&stamps);
    assert_eq!(stamps.iter().filter(|stamp| stamp.jumped).count(), 1);
    assert!(stamps[60 * 25].jumped, "at once");
    assert_near(stamps.last().unwrap().unix_ms, world.true_unix_ms() + HOUR_MS, 50);
}

#[test]
fn the_system_clock_an_hour_back_never_makes_time_go_back() {
    let mut world = World { jitter_us: 20_000, ..World::new() };
    let mut stamps = world.run(60);
    world.system_step_ms = -HOUR_MS;
    stamps.extend(world.run(600));
    assert_grows(&stamps);
    assert!(stamps.iter().all(|stamp| !stamp.jumped));
    for pair in stamps.windows(2) {
        assert_near(pair[1].unix_ms - pair[0].unix_ms, 40, 1);
    }
    let ahead_ms = stamps.last().unwrap().unix_ms - (world.true_unix_ms() - HOUR_MS);
    assert_near(ahead_ms, HOUR_MS - 600_000 / 200, 100);
}

#[test]
fn a_second_back_is_slewed_away() {
    let mut world = World::new();
    world.run(10);
    world.system_step_ms = -1000;
    assert_grows(&world.run(200));
    assert_near(world.picture().unix_ms, world.true_unix_ms() - 1000, 2);
}

#[test]
fn after_an_hour_back_a_restart_of_the_camera_does_not_go_behind_what_was_recorded() {
    let mut world = World::new();
    let before = world.run(60);
    world.system_step_ms = -HOUR_MS;
    world.time_us += 10_000_000;
    world.wall_clock.restart(90_000);
    world.rtp_first = 7;
    let after = world.run(60);
    assert_grows(&[before, after.clone()].concat());
    assert_near(after[0].unix_ms, START_UNIX_MS + 70_000, 100);
}

#[test]
fn a_restart_takes_the_time_of_day_anew() {
    let mut world = World { jitter_us: 10_000, ..World::new() };
    let mut stamps = world.run(60);
    for outage_us in [100_000, 3_000_000, 60_000_000] {
        world.time_us += outage_us;
        world.rtp_first = world.rtp_first.wrapping_mul(31);
        world.wall_clock.restart(90_000);
        let after = world.run(30);
        assert_eq!(after[0].jumped, outage_us > JUMP_US);
        stamps.extend(after);
        assert_near(stamps.last().unwrap().unix_ms, world.true_unix_ms(), 30);
    }
    assert_grows(&stamps);
}

#[test]
fn an_outage_without_a_restart_is_a_jump() {
    let mut world = World::new();
    world.run(10);
    world.time_us += 20_000_000;
    let stamp = world.picture();
    assert_eq!(stamp, Stamp { unix_ms: world.true_unix_ms(), jumped: true });
    assert!(!world.picture().jumped);
}

#[test]
fn sender_reports_take_the_delay_of_the_network_out() {
    let mut world = World { reports: true, ..World::new() };
    // Everything arrives 300 ms late.
    world.system_step_ms = 300;
    world.report();
    let stamps = world.run(10);
    assert_eq!(stamps[0].unix_ms, START_UNIX_MS);
    assert_eq!(stamps[249].unix_ms, world.true_unix_ms());
}

#[test]
fn reports_that_begin_late_are_slewed_to_and_when_they_stop_arrival_is() {
    let mut world = World { system_step_ms: 300, ..World::new() };
    let mut stamps = world.run(60);
    assert_eq!(stamps.last().unwrap().unix_ms, world.true_unix_ms() + 300);
    world.reports = true;
    stamps.extend(world.run(120));
    assert_near(stamps.last().unwrap().unix_ms, world.true_unix_ms(), 2);
    world.reports = false;
    stamps.extend(world.run(100));
    assert_near(stamps.last().unwrap().unix_ms, world.true_unix_ms(), 2);
    stamps.extend(world.run(120));
    assert_near(stamps.last().unwrap().unix_ms, world.true_unix_ms() + 300, 2);
    assert_grows(&stamps);
}

#[test]
fn a_camera_whose_clock_is_a_day_off_is_not_believed() {
    for camera_wrong_ms in [-24 * HOUR_MS, 24 * HOUR_MS, 11_000, -START_UNIX_MS] {
        let mut world = World { camera_wrong_ms, reports: true, ..World::new() };
        world.report();
        for _ in 0..1000 {
            assert_eq!(world.picture().unix_ms, world.true_unix_ms(), "{camera_wrong_ms}");
        }
    }
}

#[test]
fn a_camera_that_sets_its_clock_a_day_off_later_is_not_believed_from_then_on() {
    let mut world = World { reports: true, ..World::new() };
    world.run(60);
    world.camera_wrong_ms = 24 * HOUR_MS;
    for _ in 0..600 * 25 {
        assert_eq!(world.picture().unix_ms, world.true_unix_ms());
    }
}

#[test]
fn reports_in_use_stay_believed_when_the_system_clock_is_set() {
    let mut world = World { reports: true, ..World::new() };
    world.run(60);
    world.system_step_ms = HOUR_MS;
    for _ in 0..600 * 25 {
        assert_eq!(world.picture(), Stamp { unix_ms: world.true_unix_ms(), jumped: false });
    }
}

#[test]
fn a_report_of_the_next_ntp_era_is_read() {
    let just_after_2036_us = 2_085_978_500 * 1_000_000;
    let ntp = (4_u64 << 32) | (1 << 31);
    assert_eq!(ntp_to_unix_us(ntp, just_after_2036_us), 2_085_978_500_500_000);
    let just_before_us = 2_085_978_400 * 1_000_000;
    assert_eq!(ntp_to_unix_us(ntp, just_before_us), 2_085_978_500_500_000);
}

#[test]
fn timestamps_that_stand_still_leave_it_to_arrival() {
    let mut world = World { drift_ppm: -1_000_000, ..World::new() };
    let stamps = world.run(300);
    assert_grows(&stamps);
    assert!(stamps.iter().all(|stamp| !stamp.jumped));
    assert_near(stamps.last().unwrap().unix_ms, world.true_unix_ms(), 5);
}

#[test]
fn timestamps_that_jump_leave_it_to_arrival() {
    let mut world = World::new();
    for n in 0..3000_u32 {
        world.rtp_first = n.wrapping_mul(2_654_435_761);
        let stamp = world.picture();
        assert_near(stamp.unix_ms, world.true_unix_ms(), 5);
        assert!(!stamp.jumped);
    }
}

#[test]
fn timestamps_at_half_or_double_pace_leave_it_to_arrival() {
    for rate in [45_000, 180_000] {
        let mut world = World { rate, ..World::new() };
        world.wall_clock.restart(90_000);
        assert_grows(&world.run(200));
        assert!(world.wall_clock.pace.by_arrival);
        let stamps = world.run(600);
        assert_grows(&stamps);
        assert!(stamps.iter().all(|stamp| !stamp.jumped));
        assert_near(stamps.last().unwrap().unix_ms, world.true_unix_ms(), 15_000);
        // The camera comes to its senses.
        world.rate = 90_000;
        world.run(130);
        assert!(!world.wall_clock.pace.by_arrival);
    }
}

#[test]
fn a_connection_held_up_for_seconds_leaves_the_times_as_they_are() {
    let mut world = World::new();
    world.run(20);
    let held_until_us = world.time_us + 7_000_000;
    while world.time_us < held_until_us {
        let rtp = world.rtp(world.time_us);
        let (now, system_unix_ms) = world.at(held_until_us);
        world.time_us += PICTURE_US;
        let stamp = world.wall_clock.stamp(now, system_unix_ms, rtp);
        assert_eq!(stamp, Stamp { unix_ms: world.true_unix_ms(), jumped: false });
    }
    for _ in 0..1500 {
        assert_eq!(world.picture().unix_ms, world.true_unix_ms());
    }
}

#[test]
fn b_pictures_lie_between_their_neighbours() {
    let start = Instant::now();
    let mut wall_clock = WallClock::default();
    let mut stamps = Vec::new();
    // I0 P3 B1 B2 P6 B4 B5; each is sent once it and those before it are coded.
    for group in 0..500_i64 {
        for (order, picture) in [3, 1, 2].into_iter().enumerate() {
            let shown = 3 * group + picture;
            let sent_ms = 40 * (3 * group + 3 + order as i64);
            let now = start + Duration::from_millis(sent_ms as u64);
            let stamp = wall_clock.stamp(now, START_UNIX_MS + sent_ms, 3600 * shown as u32);
            stamps.push((shown, stamp.unix_ms));
        }
    }
    stamps.sort_unstable();
    for pair in stamps.windows(2) {
        assert_near(pair[1].1 - pair[0].1, 40, 1);
    }
}

#[derive(Clone, Copy, Debug)]
enum Input {
    Unit { elapsed_us: u32, ticks: i32 },
    Restart { rate: u32 },
    Report { ntp: u64, rtp_timestamp: u32 },
    GoodReport { wrong_ms: i16 },
    SystemStep { ms: i64 },
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        20 => (0..100_000_u32, -9000..18_000_i32)
            .prop_map(|(elapsed_us, ticks)| Input::Unit { elapsed_us, ticks }),
        2 => (0..20_000_000_u32, any::<i32>()).prop_map(|(elapsed_us, ticks)| Input::Unit { elapsed_us, ticks }),
        1 => any::<u32>().prop_map(|rate| Input::Restart { rate }),
        1 => (any::<u64>(), any::<u32>())
            .prop_map(|(ntp, rtp_timestamp)| Input::Report { ntp, rtp_timestamp }),
        2 => any::<i16>().prop_map(|wrong_ms| Input::GoodReport { wrong_ms }),
        1 => prop_oneof![any::<i64>(), -HOUR_MS..HOUR_MS].prop_map(|ms| Input::SystemStep { ms }),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_time_goes_back_by_a_b_picture_at_most_and_never_over_a_restart(
        inputs in prop::collection::vec(input(), 1..300),
    ) {
        let start = Instant::now();
        let mut wall_clock = WallClock::default();
        let (mut at_us, mut step_ms, mut rtp) = (0_u64, 0_i64, 0_u32);
        let mut newest: Option<i64> = None;
        let mut restarted = false;
        for input in inputs {
            let now = start + Duration::from_micros(at_us);
            let system = (START_UNIX_MS + at_us as i64 / 1000).saturating_add(step_ms);
            match input {
                Input::Restart { rate } => {
                    restarted = true;
                    wall_clock.restart(rate);
                }
                Input::SystemStep { ms } => step_ms = ms,
                Input::Report { ntp, rtp_timestamp } => {
                    let report = SenderReport { ssrc: 1, ntp, rtp_timestamp };
                    wall_clock.handle_sender_report(now, system, report);
                }
                Input::GoodReport { wrong_ms } => {
                    let seconds = (system / 1000).wrapping_add(NTP_TO_UNIX_SECONDS);
                    let ntp = (seconds.wrapping_add(i64::from(wrong_ms) / 1000) as u64) << 32;
                    let report = SenderReport { ssrc: 1, ntp, rtp_timestamp: rtp };
                    wall_clock.handle_sender_report(now, system, report);
                }
                Input::Unit { elapsed_us, ticks } => {
                    at_us += u64::from(elapsed_us);
                    rtp = rtp.wrapping_add(ticks as u32);
                    let now = start + Duration::from_micros(at_us);
                    let system = (START_UNIX_MS + at_us as i64 / 1000).saturating_add(step_ms);
                    let stamp = wall_clock.stamp(now, system, rtp);
                    if let Some(newest) = newest {
                        prop_assert!(stamp.unix_ms > newest - 1100, "back by {}", newest - stamp.unix_ms);
                        prop_assert!(!restarted || stamp.unix_ms > newest, "behind the restart");
                        prop_assert_eq!(stamp.jumped, stamp.unix_ms > newest + JUMP_US / 1000);
                    }
                    restarted = false;
                    newest = newest.max(Some(stamp.unix_ms));
                }
            }
        }
    }
}
