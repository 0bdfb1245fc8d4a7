//! Answers to the offers of real clients are files in the tree; and whatever is made of such an offer, by leaving out,
//! doubling and mixing its lines, gets a whole answer or a sentence.

#![allow(clippy::unwrap_used, reason = "the functions here are tests, too")]

use std::path::PathBuf;

use lanecast_protocol::codec::Codec;
use lanecast_webrtc::ice::IceCredentials;
use lanecast_webrtc::negotiation::{
    Candidate, CandidateKind, Fingerprint, LocalDescription, Negotiated, NegotiationError, Offer,
    StreamMedia, write_answer,
};
use proptest::prelude::*;
use sdp_types::{Media, Session};

const CHROMIUM_VIDEO: &str = include_str!("data/offers/chromium_156_video.sdp");
const CHROMIUM_AUDIO_VIDEO: &str = include_str!("data/offers/chromium_156_audio_video.sdp");
const CHROMIUM_ALL: &str = include_str!("data/offers/chromium_156_video_audio_data.sdp");
const AIORTC: &str = include_str!("data/offers/aiortc_1.16_audio_video.sdp");
const GSTREAMER: &str = include_str!("data/offers/gstreamer_1.22_h264.sdp");
const GSTREAMER_BOTH: &str = include_str!("data/offers/gstreamer_1.22_h264_h265.sdp");
const FIREFOX_LIKE: &str = include_str!("data/offers/firefox_like_max_bundle.sdp");
const SAFARI_LIKE: &str = include_str!("data/offers/safari_like.sdp");

const OFFERS: [&str; 8] = [
    CHROMIUM_VIDEO,
    CHROMIUM_AUDIO_VIDEO,
    CHROMIUM_ALL,
    AIORTC,
    GSTREAMER,
    GSTREAMER_BOTH,
    FIREFOX_LIKE,
    SAFARI_LIKE,
];

const HIGH: StreamMedia = StreamMedia { codec: Codec::H264, profile_level_id: Some([0x64, 0, 0x28]) };
const MAIN: StreamMedia = StreamMedia { codec: Codec::H264, profile_level_id: Some([0x4d, 0x40, 0x1f]) };
const H264: StreamMedia = StreamMedia { codec: Codec::H264, profile_level_id: None };
const H265: StreamMedia = StreamMedia { codec: Codec::H265, profile_level_id: None };

fn answer(offer: &Offer, negotiated: &Negotiated) -> String {
    let candidate = |kind, address: &str| Candidate { kind, address: address.parse().unwrap() };
    write_answer(
        offer,
        negotiated,
        &LocalDescription {
            session_number: 42,
            ice: &IceCredentials {
                ufrag: "local123".to_owned(),
                password: "0123456789abcdefghijklmn".to_owned(),
            },
            fingerprint: &Fingerprint { algorithm: "sha-256".to_owned(), bytes: (0..32).collect() },
            candidates: &[
                candidate(CandidateKind::Host, "[2001:db8::1]:5001"),
                candidate(CandidateKind::Host, "192.0.2.1:5001"),
                candidate(CandidateKind::ServerReflexive, "198.51.100.1:61001"),
                candidate(CandidateKind::TcpPassive, "192.0.2.1:8443"),
            ],
            ssrc: 1_111_111_111,
            rtx_ssrc: 2_222_222_222,
            cname: "cname-of-a-session",
        },
    )
}

fn negotiate(offer: &str, media: StreamMedia) -> Result<Negotiated, NegotiationError> {
    Offer::parse(offer).unwrap().negotiate(media)
}

/// Write the files anew with `LANECAST_BLESS=1 cargo test -p lanecast-webrtc --test negotiation`.
#[test]
fn answers_are_those_that_are_checked_in() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/answers");
    let mut changed = vec![];
    for (name, offer, media) in [
        ("chromium_156_video_high", CHROMIUM_VIDEO, HIGH),
        ("chromium_156_audio_video_main", CHROMIUM_AUDIO_VIDEO, MAIN),
        ("chromium_156_video_audio_data_unknown", CHROMIUM_ALL, H264),
        ("aiortc_1.16_audio_video_high", AIORTC, HIGH),
        ("gstreamer_1.22_h264_high", GSTREAMER, HIGH),
        ("gstreamer_1.22_h264_h265_h265", GSTREAMER_BOTH, H265),
        ("firefox_like_max_bundle_high", FIREFOX_LIKE, HIGH),
        ("safari_like_high", SAFARI_LIKE, HIGH),
        ("safari_like_h265", SAFARI_LIKE, H265),
    ] {
        let offer = Offer::parse(offer).unwrap();
        let now = answer(&offer, &offer.negotiate(media).unwrap());
        let path = folder.join(format!("{name}.sdp"));
        if std::env::var_os("LANECAST_BLESS").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
        if let Some(difference) = checked_in.lines().zip(now.lines()).find(|(before, after)| before != after)
        {
            changed.push(format!("{name}: {difference:?}"));
        } else if checked_in != now {
            changed.push(format!("{name}: another length"));
        }
    }
    assert!(changed.is_empty(), "if these should change, run with LANECAST_BLESS=1:\n{}", changed.join("\n"));
}

#[test]
fn a_browser_without_h265_is_told_both_sides() {
    let error = negotiate(CHROMIUM_VIDEO, H265).unwrap_err();
    assert_eq!(error.to_string(), "the stream is H.265, the offer has VP8, VP9, H.264, AV1");
}

#[test]
fn what_the_viewer_says_of_itself_is_handed_on() {
    let negotiated = negotiate(AIORTC, HIGH).unwrap();
    assert_eq!(negotiated.ice.ufrag, "fx5c");
    assert_eq!(negotiated.fingerprints.len(), 3);
    let addresses: Vec<String> = negotiated.candidates.iter().map(|it| it.address.to_string()).collect();
    assert_eq!(addresses, ["192.0.2.2:54018", "[2001:db8::2]:49613"]);
    assert!(negotiate(CHROMIUM_VIDEO, HIGH).unwrap().candidates.is_empty(), "mDNS names");
}

#[test]
fn a_bundle_only_section_takes_its_transport_from_the_first_of_the_group() {
    let negotiated = negotiate(FIREFOX_LIKE, HIGH).unwrap();
    assert_eq!((negotiated.section, negotiated.mid.as_str(), negotiated.payload_type), (1, "1", 126));
    assert_eq!(negotiated.ice.ufrag, "0f1e2d3c");
    let alone = FIREFOX_LIKE.replace("a=group:BUNDLE 0 1\r\n", "");
    assert_eq!(
        negotiate(&alone, HIGH),
        Err(NegotiationError::NoVideo),
        "a port of 0 outside a group is a rejection"
    );
}

#[test]
fn transport_cc_needs_the_extension_its_feedback_and_rtx() {
    let of = |offer: &str| negotiate(offer, H264).unwrap().transport_cc;
    assert_eq!(of(FIREFOX_LIKE), Some(7));
    assert_eq!(of(&FIREFOX_LIKE.replace("a=extmap:7 ", "a=extmap:7/recvonly ")), Some(7));
    assert_eq!(of(&FIREFOX_LIKE.replace("a=extmap:7 ", "a=extmap:7/sendonly ")), None);
    assert_eq!(of(&FIREFOX_LIKE.replace("a=extmap:7 ", "a=extmap:15 ")), None);
    assert_eq!(of(&FIREFOX_LIKE.replace("a=rtcp-fb:126 transport-cc\r\n", "")), None);
    assert_eq!(of(&FIREFOX_LIKE.replace("a=fmtp:127 apt=126\r\n", "")), None);
    let wildcard = FIREFOX_LIKE.replace("a=rtcp-fb:126 transport-cc", "a=rtcp-fb:* transport-cc");
    assert_eq!(of(&wildcard), Some(7));
}

#[test]
fn every_thing_that_we_need_is_named_when_it_lacks() {
    let one_section = CHROMIUM_VIDEO;
    let line = |start: &str| one_section.lines().find(|line| line.starts_with(start)).unwrap();
    let without = |start: &str| one_section.replace(&format!("{}\r\n", line(start)), "");
    let refused = |offer: &str| negotiate(offer, H264).unwrap_err().to_string();
    assert!(refused(&without("a=rtcp-mux")).ends_with("no a=rtcp-mux"));
    assert!(refused(&without("a=mid:")).ends_with("no a=mid"));
    assert!(refused(&without("a=fingerprint:")).ends_with("no a=fingerprint"));
    let no_ice = without("a=ice-ufrag:").replace(&format!("{}\r\n", line("a=ice-pwd:")), "");
    assert!(refused(&no_ice).ends_with("no a=ice-ufrag and a=ice-pwd"));
    let weak = one_section.replace(line("a=fingerprint:"), "a=fingerprint:sha-1 AB:CD");
    assert_eq!(refused(&weak), "a=fingerprint of sha-1 only; sha-256 or better is needed");
    let passive = one_section.replace("a=setup:actpass", "a=setup:passive");
    assert_eq!(refused(&passive), "a=setup:passive; the server takes actpass or active");
    let plain = one_section.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP");
    assert_eq!(refused(&plain), "video over RTP/AVP; UDP/TLS/RTP/SAVPF is needed");
    let mode_0 = one_section.replace("packetization-mode=1", "packetization-mode=0");
    assert_eq!(refused(&mode_0), "the offer has H.264, but not with packetization-mode 1");
    for other in ["a=sendonly", "a=inactive"] {
        assert_eq!(refused(&one_section.replace("a=recvonly", other)), NegotiationError::NoVideo.to_string());
    }
    assert_eq!(refused(&one_section.replace("m=video", "m=audio")), NegotiationError::NoVideo.to_string());
}

#[test]
fn the_session_level_counts_for_its_sections() {
    let fingerprint = CHROMIUM_VIDEO.lines().find(|line| line.starts_with("a=fingerprint:")).unwrap();
    let ufrag = CHROMIUM_VIDEO.lines().find(|line| line.starts_with("a=ice-ufrag:")).unwrap();
    let password = CHROMIUM_VIDEO.lines().find(|line| line.starts_with("a=ice-pwd:")).unwrap();
    let lines = format!("{ufrag}\r\n{password}\r\na=setup:active\r\n{fingerprint}\r\n");
    let mut moved = CHROMIUM_VIDEO.replace("a=setup:actpass\r\n", "");
    for line in [fingerprint, ufrag, password] {
        moved = moved.replace(&format!("{line}\r\n"), "");
    }
    let moved = moved.replace("m=video", &format!("{lines}m=video"));
    assert_eq!(negotiate(&moved, HIGH), negotiate(CHROMIUM_VIDEO, HIGH));
}

#[test]
fn the_second_video_section_is_taken_where_the_first_does_not_suit() {
    let (session, section) = CHROMIUM_VIDEO.split_once("m=video").unwrap();
    let first = section.replace("H264", "H263");
    let second = section.replace("a=mid:0", "a=mid:1");
    let offer = format!("{}m=video{first}m=video{second}", session.replace("BUNDLE 0", "BUNDLE 0 1"));
    let parsed = Offer::parse(&offer).unwrap();
    let negotiated = parsed.negotiate(HIGH).unwrap();
    assert_eq!(negotiated.section, 1);
    let text = answer(&parsed, &negotiated);
    assert!(text.contains("a=group:BUNDLE 0 1\r\n"), "{text}");
    check_answer(&offer, &text, &negotiated);
}

/// What RFC 9429 section 5.3.1 asks of every answer.
fn check_answer(offer: &str, answer: &str, negotiated: &Negotiated) {
    let offered = Session::parse(offer.trim().as_bytes()).unwrap();
    let session = Session::parse(answer.as_bytes()).unwrap();
    assert_eq!(session.medias.len(), offered.medias.len());
    let mut bundled = vec![];
    for (index, (section, theirs)) in session.medias.iter().zip(&offered.medias).enumerate() {
        assert_eq!((&section.media, &section.proto), (&theirs.media, &theirs.proto));
        assert_eq!(value(section, "mid"), value(theirs, "mid").map(str::trim));
        let formats: Vec<&str> = theirs.fmt.split_ascii_whitespace().collect();
        assert!(
            section.fmt.split(' ').all(|format| formats.contains(&format)),
            "{} of {formats:?}",
            section.fmt
        );
        if section.port != 0 {
            bundled.push(value(section, "mid").unwrap());
        }
        if index == negotiated.section {
            check_taken(section, theirs, negotiated);
        } else {
            assert!(has(section, "inactive") && !has(section, "ssrc"));
        }
    }
    let carriers: Vec<&Media> = session.medias.iter().filter(|section| has(section, "candidate")).collect();
    assert!(carriers.len() == 1 && carriers[0].port == 5001, "candidates in one open section");
    // The one with the candidates comes first in the group, and every open section is in it.
    bundled.sort_by_key(|mid| value(carriers[0], "mid") != Some(mid));
    let group = session.attributes.iter().find(|it| it.attribute == "group");
    match group.and_then(|it| it.value.as_deref()) {
        Some(group) => assert_eq!(group, format!("BUNDLE {}", bundled.join(" "))),
        None => assert_eq!(bundled.len(), 1),
    }
    assert!(bundled.len() <= 2);
    assert!(session.attributes.iter().any(|it| it.attribute == "ice-lite"));
    assert!(answer.ends_with("\r\n") && answer.lines().all(|line| line.len() < 4200));
}

fn check_taken(section: &Media, theirs: &Media, negotiated: &Negotiated) {
    assert!(section.port == 5001 && has(section, "sendonly") && has(section, "rtcp-mux"));
    assert_eq!(value(section, "setup"), Some("passive"));
    assert_eq!(has(section, "rtcp-rsize"), has(theirs, "rtcp-rsize"));
    assert_eq!(has(section, "extmap"), negotiated.transport_cc.is_some());
    assert_eq!(has(section, "ssrc-group"), negotiated.rtx.is_some());
    let mut types = vec![negotiated.payload_type.to_string()];
    types.extend(negotiated.rtx.map(|rtx| rtx.payload_type.to_string()));
    assert_eq!(section.fmt, types.join(" "));
    assert!(!negotiated.fingerprints.is_empty() && negotiated.candidates.len() <= 64);
}

fn value<'a>(media: &'a Media, name: &str) -> Option<&'a str> {
    media.attributes.iter().find(|it| it.attribute == name)?.value.as_deref()
}

fn has(media: &Media, name: &str) -> bool {
    media.attributes.iter().any(|it| it.attribute == name)
}

/// Negotiates and, where that succeeds, checks the answer; true if it did.
fn answered(offer: &str) -> bool {
    let parsed = match Offer::parse(offer) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert!(error.to_string().len() < 250, "{error}");
            return false;
        }
    };
    let mut any = false;
    for media in [HIGH, MAIN, H264, H265] {
        match parsed.negotiate(media) {
            Ok(negotiated) => {
                check_answer(offer, &answer(&parsed, &negotiated), &negotiated);
                any = true;
            }
            Err(error) => assert!(error.to_string().len() < 1200, "{error}"),
        }
    }
    any
}

#[test]
fn every_offer_is_answered_as_the_standard_asks() {
    for offer in OFFERS {
        assert!(answered(offer));
    }
}

#[test]
fn an_offer_without_any_one_of_its_lines_is_answered_or_refused_with_a_sentence() {
    for offer in OFFERS {
        let lines: Vec<&str> = offer.lines().collect();
        for left_out in 0..lines.len() {
            let rest: Vec<&str> = lines
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != left_out)
                .map(|(_, line)| *line)
                .collect();
            answered(&rest.join("\r\n"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_subset_of_an_offers_lines_is_answered_or_refused(which in 0..OFFERS.len(), keep in proptest::collection::vec(0..10_u8, 320)) {
        let kept = |(line, dice): (&'static str, u8)| (dice > 0).then_some(line);
        let lines: Vec<&str> = OFFERS[which].lines().zip(keep).filter_map(kept).collect();
        answered(&lines.join("\r\n"));
    }

    #[test]
    fn any_order_of_an_offers_lines_is_answered_or_refused(
        which in 0..OFFERS.len(),
        swaps in proptest::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..40),
    ) {
        let mut lines: Vec<&str> = OFFERS[which].lines().collect();
        let count = lines.len();
        for (one, other) in swaps {
            lines.swap(one.index(count), other.index(count));
        }
        answered(&lines.join("\r\n"));
    }

    #[test]
    fn lines_of_several_offers_mixed_are_answered_or_refused(
        picks in proptest::collection::vec((0..OFFERS.len(), any::<prop::sample::Index>()), 0..120),
    ) {
        let mut text = String::from("v=0\r\n");
        for (which, index) in picks {
            let lines: Vec<&str> = OFFERS[which].lines().collect();
            text += &format!("{}\r\n", lines[index.index(lines.len())]);
        }
        answered(&text);
    }

    #[test]
    fn any_byte_of_an_offer_may_be_another(
        which in 0..OFFERS.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), "[ -~\r\n]"), 1..12),
    ) {
        let mut text: Vec<char> = OFFERS[which].chars().collect();
        for (index, other) in edits {
            let index = index.index(text.len());
            text[index] = other.chars().next().unwrap_or(' ');
        }
        answered(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_text_is_refused_without_a_panic(text in "(v=0\r\n)?(\\PC|\r\n){0,300}") {
        answered(&text);
    }
}
