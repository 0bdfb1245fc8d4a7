//! A viewer's text: as an offer for each kind of stream, and as a fragment.

use std::net::{Ipv4Addr, SocketAddr};

use lanecast_protocol::codec::Codec;
use lanecast_webrtc::ice::IceCredentials;
use lanecast_webrtc::negotiation::{
    Candidate, CandidateKind, Fingerprint, LocalDescription, Offer, StreamMedia, TrickleFragment,
    write_answer,
};

/// An offer that suits gets an answer without a way for the offer's text to add lines to it.
pub fn check(text: &str) {
    let _ = TrickleFragment::parse(text);
    let Ok(offer) = Offer::parse(text) else { return };
    for (codec, profile_level_id) in
        [(Codec::H264, Some([0x64, 0, 0x28])), (Codec::H264, None), (Codec::H265, None)]
    {
        let Ok(negotiated) = offer.negotiate(StreamMedia { codec, profile_level_id }) else { continue };
        let answer = write_answer(
            &offer,
            &negotiated,
            &LocalDescription {
                session_number: 1,
                ice: &IceCredentials { ufrag: "u".repeat(8), password: "p".repeat(24) },
                fingerprint: &Fingerprint { algorithm: "sha-256".to_owned(), bytes: vec![0; 32] },
                candidates: &[Candidate {
                    address: SocketAddr::from((Ipv4Addr::LOCALHOST, 5000)),
                    kind: CandidateKind::Host,
                }],
                ssrc: 1,
                rtx_ssrc: 2,
                cname: "cname",
            },
        );
        Offer::parse(&answer).expect("an answer reads as what it answers");
        assert_eq!(sections(&answer), sections(text));
    }
}

fn sections(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("m=")).count()
}
