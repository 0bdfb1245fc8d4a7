//! Random schedules of pictures, failures and timeouts.

use proptest::prelude::*;

use super::super::*;
use super::rig::{Answer, Rig, sets};

#[derive(Clone, Copy, Debug)]
enum Step {
    Gop { pictures: u8, interval_ms: u8, reordered: bool, len: u16 },
    Unit { random_access: bool, shown_ms: i16 },
    Wild { random_access: bool, timestamp_90k: u32 },
    Pass { ms: u16 },
    Outage { ms: u16 },
    RestartCamera,
    ParameterSets { kind: u8 },
    SetClock { ms: i32 },
    Opens(Answer),
    Writes(Answer),
    Syncs(Answer),
    AnswerAll,
    LoseNewest,
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        4 => Just(Answer::Well),
        1 => Just(Answer::Error),
        1 => Just(Answer::Short),
        2 => Just(Answer::Later),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1..60_u8, 1..200_u8, any::<bool>(), 9..2000_u16)
            .prop_map(|(pictures, interval_ms, reordered, len)| Step::Gop { pictures, interval_ms, reordered, len }),
        4 => (any::<bool>(), -1500..1500_i16)
            .prop_map(|(random_access, shown_ms)| Step::Unit { random_access, shown_ms }),
        1 => (any::<bool>(), any::<u32>())
            .prop_map(|(random_access, timestamp_90k)| Step::Wild { random_access, timestamp_90k }),
        3 => (0..3000_u16).prop_map(|ms| Step::Pass { ms }),
        1 => (0..40_000_u16).prop_map(|ms| Step::Outage { ms }),
        1 => Just(Step::RestartCamera),
        1 => (0..3_u8).prop_map(|kind| Step::ParameterSets { kind }),
        1 => (-4_000_000..4_000_000).prop_map(|ms| Step::SetClock { ms }),
        2 => answer().prop_map(Step::Opens),
        3 => answer().prop_map(Step::Writes),
        2 => answer().prop_map(Step::Syncs),
        3 => Just(Step::AnswerAll),
        1 => Just(Step::LoseNewest),
    ]
}

fn take(rig: &mut Rig, step: Step) {
    match step {
        Step::Gop { pictures, interval_ms, reordered, len } => {
            let (first_ms, interval_ms) = (rig.at_ms(), i64::from(interval_ms));
            rig.picture_len = len.into();
            for n in 0..i64::from(pictures) {
                // I0 P2 B1 P4 B3
                let place = if !reordered || n == 0 { n } else { n + if n % 2 == 1 { 1 } else { -1 } };
                rig.unit(n == 0, first_ms + place * interval_ms);
                rig.pass(interval_ms as u64);
            }
        }
        Step::Unit { random_access, shown_ms } => rig.unit(random_access, rig.at_ms() + i64::from(shown_ms)),
        Step::Wild { random_access, timestamp_90k } => rig.unit_at(random_access, timestamp_90k),
        Step::Pass { ms } => rig.pass(ms.into()),
        Step::Outage { ms } => {
            rig.number += 1;
            rig.pass(ms.into());
            rig.restart_camera();
        }
        Step::RestartCamera => rig.restart_camera(),
        Step::ParameterSets { kind } => rig.parameter_sets = sets(kind.into()),
        Step::SetClock { ms } => rig.step_ms = ms.into(),
        Step::Opens(answer) => rig.opens = answer,
        Step::Writes(answer) => rig.writes = answer,
        Step::Syncs(answer) => rig.syncs = answer,
        Step::AnswerAll => rig.answer_all(),
        Step::LoseNewest => {
            if let Some(segment) = rig.files.keys().next_back().copied() {
                rig.lose(segment);
            }
        }
    }
}

const QUEUE_BYTES_MAX: usize = 100_000;

proptest! {
    #[test]
    fn whatever_happens_files_are_sound_memory_is_bounded_and_it_ends(
        steps in prop::collection::vec(step(), 1..80),
        end in answer(),
    ) {
        let config = RecorderConfig {
            queue_bytes_max: QUEUE_BYTES_MAX,
            segment: Duration::from_secs(10),
            ..RecorderConfig::default()
        };
        let mut rig = Rig::with(config);
        for step in steps {
            take(&mut rig, step);
            // One fragment of two seconds at the most, which has two thousand pictures of 2000 bytes.
            prop_assert!(rig.recorder.statistics().queued_bytes <= (QUEUE_BYTES_MAX + 4096 * 2004) as u64);
        }
        (rig.opens, rig.writes, rig.syncs) = (end, end, end);
        rig.stop();
        rig.pass(5000);
        prop_assert!(rig.recorder.is_over());
        prop_assert_eq!(rig.recorder.statistics().queued_bytes, 0);
        rig.waiting.clear();
        rig.answer_all();
        prop_assert_eq!(rig.closed.len(), rig.files.len(), "each file is closed, once");
        rig.assert_sound();
    }

    #[test]
    fn when_all_is_well_again_it_records_again(steps in prop::collection::vec(step(), 1..40)) {
        let mut rig = Rig::with(RecorderConfig { queue_bytes_max: QUEUE_BYTES_MAX, ..RecorderConfig::default() });
        for step in steps {
            take(&mut rig, step);
        }
        (rig.opens, rig.writes, rig.syncs) = (Answer::Well, Answer::Well, Answer::Well);
        (rig.picture_len, rig.parameter_sets) = (100, sets(0));
        rig.answer_all();
        rig.pass(20_000);
        rig.restart_camera();
        let first = rig.number;
        rig.run(12_000, 1000);
        prop_assert_eq!(rig.status(), &RecordingStatus::Recording);
        rig.stop();
        let numbers = rig.numbers();
        prop_assert!((first..rig.number).all(|number| numbers.contains(&number)), "every picture since");
        rig.assert_sound();
    }
}
