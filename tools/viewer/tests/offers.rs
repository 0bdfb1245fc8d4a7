//! The library against a server that makes the offer itself, over a way of its own: no HTTP at all.

#[expect(dead_code, reason = "its WHEP side is for the program's tests")]
mod fake_whep;

use std::sync::Arc;
use std::time::Duration;

use fake_whep::{Traits, offer_session};
use lanecast_viewer::interrupt::Interrupt;
use lanecast_viewer::load::{Load, WindowEnd};
use lanecast_viewer::nal::Codec;
use lanecast_viewer::peer::checker::CheckerOptions;
use lanecast_viewer::peer::dtls::SrtpOffer;
use lanecast_viewer::peer::light::Conduct;
use lanecast_viewer::peer::load::PeerLoad;
use lanecast_viewer::peer::lossy::Loss;
use lanecast_viewer::peer::watch::PeerWatch;
use lanecast_viewer::peer::{self, Descriptions, Exchange};
use lanecast_viewer::receive::SocketOptions;
use lanecast_viewer::session::Transport;
use lanecast_viewer::summary::{Run, Summary};

struct ServerOffers(Traits);

impl Exchange for ServerOffers {
    fn begin(&self, _number: u32, viewer: &mut dyn Descriptions) -> Result<Option<String>, String> {
        let (offer, begin) = offer_session(self.0);
        begin(&viewer.answer(&offer)?);
        Ok(None)
    }

    fn end(&self, _session: &str) -> Result<(), String> {
        unreachable!("there is nothing to end")
    }
}

fn asked(viewers: u32) -> Run {
    Run {
        url: String::new(),
        stream: String::new(),
        revision: 0,
        transport: Transport::Webrtc,
        viewers,
        threads: 1,
        shared_sockets: None,
        b_frames: false,
    }
}

fn is_flawless(summary: &Summary) {
    assert!(summary.is_complete(), "{summary}");
    assert_eq!(summary.faults, 0, "{summary}");
    assert_eq!(summary.sessions.started_otherwise, 0, "{summary}");
}

#[test]
fn a_full_peer_answers_an_offer() {
    let watch = PeerWatch {
        exchange: Arc::new(ServerOffers(Traits { full_ice: true, ..Traits::default() })),
        options: CheckerOptions {
            codecs: vec![Codec::H264],
            srtp: SrtpOffer::Both,
            loss: Arc::new(Loss::new(0.02, 1)),
            buffer_bytes: 1 << 20,
        },
        run: asked(1),
        out: None,
        events: Box::new(std::io::sink()),
        seconds: None,
        packets: Some(500),
        join_timeout: Duration::from_secs(15),
    };
    let interrupt = Interrupt::arm().expect("signals");
    is_flawless(&peer::watch::run(watch, &interrupt).expect("a run"));
}

#[test]
fn light_peers_answer_offers() {
    let load = Load {
        run: asked(3),
        cpus: Vec::new(),
        joins_per_second: 100.0,
        settle: Duration::from_millis(100),
        window: WindowEnd::Packets(500),
        rewinds: false,
        observed_pid: None,
        on_steady: None,
        on_done: None,
        verbose: false,
    };
    let peers = PeerLoad {
        exchange: Arc::new(ServerOffers(Traits { h265: true, ..Traits::default() })),
        signalling_threads: 2,
        srtp: SrtpOffer::Both,
        conduct: Conduct { codecs: vec![Codec::H265], nacks: true, transport_feedback: true, open_every: 8 },
        socket_options: SocketOptions { buffer_bytes: 1 << 20, gro: true, kernel_stamps: true },
        join_timeout: Duration::from_secs(15),
    };
    let interrupt = Interrupt::arm().expect("signals");
    is_flawless(&peer::load::run(load, peers, &interrupt).expect("a run"));
}
