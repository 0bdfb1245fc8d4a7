//! Compound packets of a viewer, and what the estimate makes of them: nothing leaves its bounds.
#![no_main]

use std::time::{Duration, Instant};

use lanecast_fuzz::datagrams;
use lanecast_protocol::rtcp::{Feedback, parse_feedback};
use lanecast_webrtc::congestion::Congestion;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let (mut congestion, mut next) = (Congestion::new(now), 0u16);
    for datagram in datagrams(data) {
        let packets = datagram.len() as u16 % 64;
        congestion.handle_sent(now, next, packets, 1200);
        next = next.wrapping_add(packets);
        now += Duration::from_millis(u64::from(packets));
        let mut items = 0;
        for feedback in parse_feedback(&datagram) {
            items += 1;
            match feedback {
                Feedback::Report(block) => {
                    let round_trip = Duration::from_micros(u64::from(block.last_sender_report));
                    congestion.handle_report(now, &block, Some(round_trip));
                }
                Feedback::Nack { lost, .. } => assert!(lost.iter().count() <= datagram.len() / 4 * 17),
                Feedback::MaxBitrate { bitrate_bps } => congestion.handle_remb(now, bitrate_bps),
                Feedback::Transport(feedback) => {
                    assert_eq!(feedback.arrivals().count(), usize::from(feedback.packets()));
                    congestion.handle_transport_feedback(now, &feedback);
                }
                _ => {}
            }
        }
        assert!(items <= datagram.len() / 4);
        congestion.poll_overload(now);
        assert!((20_000_000..=1_000_000_000).contains(&congestion.pacing_rate_bps()));
        assert!(
            congestion.statistics().estimate_bps.is_none_or(|bps| (50_000..=10_000_000_000).contains(&bps))
        );
        assert!((0.0..=1.0).contains(&congestion.statistics().loss));
    }
});
