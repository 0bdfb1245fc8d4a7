//! What a viewer's feedback costs: reading its compound packet (`rtcp::parse_feedback`), and the estimate that follows
//! (`congestion::Congestion`) with the runs that were sent since the feedback before.
//!
//! A feedback is one of the ten to twenty a second that a browser sends: a receiver report, a NACK of two packets, and the
//! arrivals of 50 ms of a camera of 4 Mb/s, 22 packets in two runs, of which one in eleven is lost.

mod feed;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lanecast_protocol::rtcp::{Feedback, parse_feedback};
use lanecast_webrtc::congestion::Congestion;
use rtcp_types::prelude::*;
use rtcp_types::{
    CompoundBuilder, Nack, ReceiverReport, ReportBlock, TransportFeedback, Twcc, TwccPacketStatus,
};

const MEDIA: u32 = 7;
const PACKETS: u16 = 22;
const RUN_PACKETS: u16 = 11;
const FEEDBACK_TIME: Duration = Duration::from_millis(50);
/// Ticks of the reference time are 64 ms, so that the arrivals of a GOP of feedbacks fit whole ones.
const FEEDBACKS: u16 = 64;

/// The compound packet about the packets from `first` on, which arrived in feedback time `index`.
fn compound(index: u16) -> Vec<u8> {
    let first = index * PACKETS;
    let start_ticks = u32::from(index) * 200;
    let status = |packet: u16| match packet {
        3 | 14 => TwccPacketStatus::NotReceived,
        // The first is as far behind the reference time as the feedback is.
        0 => TwccPacketStatus::Received { delta: (start_ticks % 256) as i16 },
        RUN_PACKETS => TwccPacketStatus::Received { delta: 96 },
        _ => TwccPacketStatus::Received { delta: 1 },
    };
    let statuses: Vec<_> = (0..PACKETS).map(status).collect();
    let twcc = Twcc::builder(first, start_ticks / 256, index as u8, &statuses, None);
    let nack = Nack::builder().add_rtp_sequence(first + 3).add_rtp_sequence(first + 14);
    let report = ReportBlock::builder(MEDIA).fraction_lost(23).extended_sequence_number(u32::from(first));
    let compound = CompoundBuilder::default()
        .add_packet(ReceiverReport::builder(1).add_report_block(report))
        .add_packet(TransportFeedback::builder(&nack).sender_ssrc(1).media_ssrc(MEDIA))
        .add_packet(TransportFeedback::builder(&twcc).sender_ssrc(1).media_ssrc(MEDIA));
    let Ok(len) = compound.calculate_size() else { panic!("it is well formed") };
    let mut bytes = vec![0; len];
    compound.write_into_unchecked(&mut bytes);
    bytes
}

/// Takes all of it in; packets of transport feedback.
fn take(congestion: &mut Congestion, now: Instant, bytes: &[u8]) -> u64 {
    let mut packets = 0;
    for feedback in parse_feedback(bytes) {
        match feedback {
            Feedback::Report(block) => congestion.handle_report(now, &block, None),
            Feedback::Nack { lost, .. } => lost.iter().for_each(|sequence| {
                black_box(sequence);
            }),
            Feedback::Transport(feedback) => {
                congestion.handle_transport_feedback(now, &feedback);
                packets += u64::from(feedback.packets());
            }
            _ => {}
        }
    }
    packets
}

fn feedback(c: &mut Criterion) {
    let compounds: Vec<_> = (0..FEEDBACKS).map(compound).collect();
    let mut group = c.benchmark_group("feedback");
    group.throughput(Throughput::Elements(u64::from(FEEDBACKS)));
    group.bench_function("read", |b| {
        b.iter(|| {
            for bytes in &compounds {
                for feedback in parse_feedback(bytes) {
                    match feedback {
                        Feedback::Nack { lost, .. } => assert_eq!(black_box(lost.iter().count()), 2),
                        Feedback::Transport(feedback) => assert_eq!(feedback.arrivals().count(), 22),
                        other => drop(black_box(other)),
                    }
                }
            }
        });
    });
    group.bench_function("read, with the estimate", |b| {
        b.iter(|| {
            let mut now = feed::start();
            let mut congestion = Congestion::new(now);
            let mut packets = 0;
            for (bytes, index) in compounds.iter().zip(0..) {
                for run in 0..2 {
                    let first = index * PACKETS + run * RUN_PACKETS;
                    congestion.handle_sent(
                        now + FEEDBACK_TIME / 2 * u32::from(run),
                        first,
                        RUN_PACKETS,
                        1200,
                    );
                }
                now += FEEDBACK_TIME;
                packets += take(&mut congestion, now, bytes);
                black_box(congestion.poll_overload(now));
            }
            assert_eq!(packets, u64::from(FEEDBACKS * PACKETS));
            assert!(congestion.statistics().estimate_bps.is_some_and(|bps| bps > 3_000_000));
        });
    });
    group.finish();
}

criterion_group! { name = benches; config = feed::settings(); targets = feedback }
criterion_main!(benches);
