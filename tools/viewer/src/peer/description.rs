//! Session descriptions (RFC 8866) as WebRTC has them (RFC 9429): an offer like Chromium's to receive one video, the
//! answer to a server's offer, and what a light peer needs to know of the server's description.
//!
//! The full peer writes and reads its own.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use crate::nal::Codec;
use crate::peer::ice::Credentials;

/// What a local description says of the viewer.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    /// Its ICE credentials.
    pub credentials: &'a Credentials,
    /// `sha-256 AB:CD:…` of its certificate.
    pub fingerprint: &'a str,
    /// What it can decode.
    pub codecs: &'a [Codec],
}

/// What a remote description says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// ICE credentials.
    pub credentials: Credentials,
    /// `a=fingerprint`, in lower case.
    pub fingerprint: String,
    /// Who begins the DTLS handshake.
    pub setup: Setup,
    /// UDP candidates of the video with a literal address, in their order.
    pub candidates: Vec<SocketAddr>,
    /// Payload types of the video's codecs.
    pub payload_types: Vec<(u8, Codec)>,
    /// Payload types of retransmissions, each with the one that it repeats.
    pub retransmissions: Vec<(u8, u8)>,
    /// The id of the transport-wide sequence number extension.
    pub transport_cc: Option<u8>,
    /// Retransmissions may be asked for.
    pub nack: bool,
}

/// `a=setup` (RFC 8842).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Setup {
    /// Either side may begin.
    #[default]
    ActivePassive,
    /// The one who says so begins.
    Active,
    /// The other begins.
    Passive,
}

impl Local<'_> {
    /// An offer to receive one video, as Chromium makes it but for other codecs.
    pub fn offer(&self) -> String {
        let formats: Vec<_> = FORMATS.iter().filter(|format| self.codecs.contains(&format.codec)).collect();
        let mut sdp = self.head("0");
        let list: Vec<_> = formats.iter().flat_map(|format| [format.payload_type, format.rtx]).collect();
        media_line(&mut sdp, 9, &list);
        self.transport(&mut sdp, "actpass");
        line(&mut sdp, "a=mid:0");
        for (id, uri) in (1..).zip(EXTENSIONS) {
            line(&mut sdp, &format!("a=extmap:{id} {uri}"));
        }
        line(&mut sdp, "a=recvonly");
        line(&mut sdp, "a=rtcp-mux");
        line(&mut sdp, "a=rtcp-rsize");
        for format in formats {
            format.write(&mut sdp);
        }
        sdp
    }

    /// The answer to a server's offer, and what that offer said.
    ///
    /// # Errors
    /// What the offer lacks.
    pub fn answer(&self, offer: &str) -> Result<(String, Remote), String> {
        let remote = Remote::parse(offer)?;
        let sections = sections(offer);
        let chosen = chosen_section(&sections).ok_or("sdp: no video")?;
        let mid = attribute(chosen, "mid").unwrap_or("0");
        let mut sdp = self.head(mid);
        let setup = if remote.setup == Setup::Active { "passive" } else { "active" };
        for section in &sections[1..] {
            if section.as_ptr() != chosen.as_ptr() {
                reject(&mut sdp, section);
                continue;
            }
            let accepted: Vec<_> =
                remote.payload_types.iter().filter(|(_, codec)| self.codecs.contains(codec)).collect();
            if accepted.is_empty() {
                return Err("sdp: no codec in common".into());
            }
            let rtx_of =
                |payload_type| remote.retransmissions.iter().filter(move |(_, apt)| *apt == payload_type);
            let list: Vec<u8> = accepted
                .iter()
                .flat_map(|(payload_type, _)| {
                    [*payload_type].into_iter().chain(rtx_of(*payload_type).map(|(rtx, _)| *rtx))
                })
                .collect();
            media_line(&mut sdp, 9, &list);
            self.transport(&mut sdp, setup);
            line(&mut sdp, &format!("a=mid:{mid}"));
            if let Some(id) = remote.transport_cc {
                line(&mut sdp, &format!("a=extmap:{id} {TRANSPORT_CC}"));
            }
            line(&mut sdp, "a=recvonly");
            line(&mut sdp, "a=rtcp-mux");
            line(&mut sdp, "a=rtcp-rsize");
            for payload_type in list {
                echo_format(&mut sdp, section, payload_type);
            }
        }
        Ok((sdp, remote))
    }

    fn head(&self, mid: &str) -> String {
        let mut sdp = String::with_capacity(4096);
        line(&mut sdp, "v=0");
        line(&mut sdp, "o=- 4611731400430051336 2 IN IP4 127.0.0.1");
        line(&mut sdp, "s=-");
        line(&mut sdp, "t=0 0");
        line(&mut sdp, &format!("a=group:BUNDLE {mid}"));
        line(&mut sdp, "a=extmap-allow-mixed");
        line(&mut sdp, "a=msid-semantic: WMS");
        sdp
    }

    fn transport(&self, sdp: &mut String, setup: &str) {
        line(sdp, "c=IN IP4 0.0.0.0");
        line(sdp, "a=rtcp:9 IN IP4 0.0.0.0");
        line(sdp, &format!("a=ice-ufrag:{}", self.credentials.ufrag));
        line(sdp, &format!("a=ice-pwd:{}", self.credentials.password));
        line(sdp, "a=ice-options:trickle");
        line(sdp, &format!("a=fingerprint:{}", self.fingerprint));
        line(sdp, &format!("a=setup:{setup}"));
    }
}

impl Remote {
    /// Reads the first video section that is not rejected.
    ///
    /// # Errors
    /// What it lacks.
    pub fn parse(sdp: &str) -> Result<Self, String> {
        let sections = sections(sdp);
        let session = sections.first().copied().unwrap_or_default();
        let media = chosen_section(&sections).ok_or("sdp: no video")?;
        let find = |name| attribute(media, name).or_else(|| attribute(session, name));
        let missing = |name: &str| format!("sdp: no {name}");
        let mut remote = Self {
            credentials: Credentials {
                ufrag: find("ice-ufrag").ok_or_else(|| missing("ice-ufrag"))?.to_owned(),
                password: find("ice-pwd").ok_or_else(|| missing("ice-pwd"))?.to_owned(),
            },
            fingerprint: find("fingerprint").ok_or_else(|| missing("fingerprint"))?.to_ascii_lowercase(),
            setup: match find("setup") {
                Some("active") => Setup::Active,
                Some("passive") => Setup::Passive,
                _ => Setup::ActivePassive,
            },
            candidates: attributes(media, "candidate")
                .filter_map(parse_candidate)
                .take(CANDIDATES_MAX)
                .collect(),
            nack: attributes(media, "rtcp-fb")
                .any(|value| value.split_once(' ').is_some_and(|(_, kind)| kind == "nack")),
            ..Self::default()
        };
        for value in attributes(media, "rtpmap") {
            remote.add_format(media, value);
        }
        remote.transport_cc = attributes(media, "extmap").find_map(|value| {
            let (id, uri) = value.split_once(' ')?;
            (uri.split(' ').next()? == TRANSPORT_CC).then_some(())?;
            id.split('/').next()?.parse().ok()
        });
        if remote.payload_types.is_empty() {
            return Err("sdp: neither H.264 nor H.265".into());
        }
        Ok(remote)
    }

    /// The codec of a payload type.
    pub fn codec(&self, payload_type: u8) -> Option<Codec> {
        self.payload_types.iter().find(|(one, _)| *one == payload_type).map(|(_, codec)| *codec)
    }

    /// The payload type that a retransmission's stands for.
    pub fn repeats(&self, payload_type: u8) -> Option<u8> {
        self.retransmissions.iter().find(|(rtx, _)| *rtx == payload_type).map(|(_, apt)| *apt)
    }

    fn add_format(&mut self, media: &str, rtpmap: &str) {
        let Some((payload_type, encoding)) = rtpmap.split_once(' ') else { return };
        let Ok(number) = payload_type.parse::<u8>() else { return };
        match encoding.split('/').next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "H264" => self.payload_types.push((number, Codec::H264)),
            "H265" => self.payload_types.push((number, Codec::H265)),
            "RTX" => {
                let parameters = attributes(media, "fmtp").find_map(|value| {
                    value.split_once(' ').filter(|(one, _)| *one == payload_type).map(|(_, rest)| rest)
                });
                let apt = parameters.into_iter().flat_map(|rest| rest.split(';'));
                let apt = apt.filter_map(|one| one.trim().strip_prefix("apt=")?.parse().ok()).next();
                self.retransmissions.extend(apt.map(|apt| (number, apt)));
            }
            _ => {}
        }
    }
}

/// A codec of the offer, with its retransmissions.
struct Format {
    codec: Codec,
    payload_type: u8,
    rtx: u8,
    parameters: &'static str,
}

impl Format {
    fn write(&self, sdp: &mut String) {
        let Self { payload_type, rtx, parameters, .. } = self;
        let name = if self.codec == Codec::H264 { "H264" } else { "H265" };
        line(sdp, &format!("a=rtpmap:{payload_type} {name}/90000"));
        for feedback in ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"] {
            line(sdp, &format!("a=rtcp-fb:{payload_type} {feedback}"));
        }
        line(sdp, &format!("a=fmtp:{payload_type} {parameters}"));
        line(sdp, &format!("a=rtpmap:{rtx} rtx/90000"));
        line(sdp, &format!("a=fmtp:{rtx} apt={payload_type}"));
    }
}

/// What is before the first `m=`, then each `m=` with what belongs to it.
fn sections(sdp: &str) -> Vec<&str> {
    let mut starts: Vec<_> = sdp.match_indices("m=").map(|(at, _)| at).collect();
    starts.retain(|at| *at == 0 || sdp.as_bytes()[at - 1] == b'\n');
    starts.insert(0, 0);
    starts.push(sdp.len());
    starts.windows(2).map(|pair| &sdp[pair[0]..pair[1]]).collect()
}

fn chosen_section<'a>(sections: &[&'a str]) -> Option<&'a str> {
    let is_video = |section: &&&str| {
        let mut fields = section.strip_prefix("m=video ").into_iter().flat_map(|rest| rest.split(' '));
        fields.next().is_some_and(|port| port != "0")
    };
    sections.iter().skip(1).find(is_video).copied()
}

fn attribute<'a>(section: &'a str, name: &'a str) -> Option<&'a str> {
    attributes(section, name).next()
}

fn attributes<'a>(section: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    section.lines().filter_map(move |line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
}

/// `foundation component protocol priority address port typ …` (RFC 8839 section 5.1).
fn parse_candidate(value: &str) -> Option<SocketAddr> {
    let fields: Vec<_> = value.split_ascii_whitespace().collect();
    let [_, "1", protocol, _, address, port, "typ", ..] = fields[..] else { return None };
    if !protocol.eq_ignore_ascii_case("udp") {
        return None;
    }
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, port))
}

fn media_line(sdp: &mut String, port: u16, payload_types: &[u8]) {
    let list: Vec<_> = payload_types.iter().map(u8::to_string).collect();
    line(sdp, &format!("m=video {port} UDP/TLS/RTP/SAVPF {}", list.join(" ")));
}

fn reject(sdp: &mut String, section: &str) {
    let first = section.lines().next().unwrap_or_default();
    let mut fields: Vec<_> = first.split(' ').collect();
    if let Some(port) = fields.get_mut(1) {
        *port = "0";
    }
    line(sdp, &fields.join(" "));
    line(sdp, "c=IN IP4 0.0.0.0");
    if let Some(mid) = attribute(section, "mid") {
        line(sdp, &format!("a=mid:{mid}"));
    }
    line(sdp, "a=inactive");
}

/// The offer's lines of one payload type, as they are.
fn echo_format(sdp: &mut String, section: &str, payload_type: u8) {
    let prefix = payload_type.to_string();
    for name in ["rtpmap", "rtcp-fb", "fmtp"] {
        for value in attributes(section, name) {
            if value.split(' ').next() == Some(&prefix) {
                line(sdp, &format!("a={name}:{value}"));
            }
        }
    }
}

fn line(sdp: &mut String, text: &str) {
    write!(sdp, "{text}\r\n").expect("a String takes every text");
}

const FORMATS: [Format; 4] = [
    Format {
        codec: Codec::H264,
        payload_type: 103,
        rtx: 104,
        parameters: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f",
    },
    Format {
        codec: Codec::H264,
        payload_type: 109,
        rtx: 114,
        parameters: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    },
    Format {
        codec: Codec::H264,
        payload_type: 39,
        rtx: 40,
        parameters: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f",
    },
    Format {
        codec: Codec::H265,
        payload_type: 49,
        rtx: 50,
        parameters: "level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST",
    },
];

const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// Chromium's, in its order: ids from 1.
const EXTENSIONS: [&str; 9] = [
    "urn:ietf:params:rtp-hdrext:toffset",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    "urn:3gpp:video-orientation",
    TRANSPORT_CC,
    "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type",
    "http://www.webrtc.org/experiments/rtp-hdrext/video-timing",
    "http://www.webrtc.org/experiments/rtp-hdrext/color-space",
    "urn:ietf:params:rtp-hdrext:sdes:mid",
];

/// A server has an address for each of its interfaces, not hundreds.
const CANDIDATES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials { ufrag: "ufrag".into(), password: "a-password-of-24-letters".into() }
    }

    fn local<'a>(credentials: &'a Credentials, codecs: &'a [Codec]) -> Local<'a> {
        Local { credentials, fingerprint: "sha-256 AA:BB", codecs }
    }

    #[test]
    fn an_offer_reads_back_as_what_it_says() {
        let credentials = credentials();
        let offer = local(&credentials, &[Codec::H264]).offer();
        let remote = Remote::parse(&offer).expect("an offer");
        assert_eq!(remote.credentials, credentials);
        assert_eq!((remote.setup, remote.transport_cc, remote.nack), (Setup::ActivePassive, Some(4), true));
        assert_eq!(remote.payload_types, [(103, Codec::H264), (109, Codec::H264), (39, Codec::H264)]);
        assert_eq!(remote.repeats(114), Some(109));
        assert!(offer.contains("profile-level-id=42e01f") && !offer.contains("H265"));
        assert!(
            local(&credentials, &[Codec::H265]).offer().contains("m=video 9 UDP/TLS/RTP/SAVPF 49 50\r\n")
        );
    }

    #[test]
    fn candidates_are_taken_if_they_are_udp_and_a_literal_address() {
        let sdp = "v=0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=fingerprint:SHA-256 AA\r\na=ice-lite\r\n\
            m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n\
            m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=setup:passive\r\n\
            a=candidate:1 1 UDP 2130706431 192.0.2.2 5000 typ host\r\n\
            a=candidate:1 1 udp 2130706431 some.local 5000 typ host\r\n\
            a=candidate:1 2 udp 2130706431 192.0.2.2 5001 typ host\r\n\
            a=candidate:2 1 tcp 2130706431 192.0.2.2 9 typ host tcptype passive\r\n\
            a=candidate:3 1 udp 1694498815 2001:db8::1 5002 typ srflx raddr 0.0.0.0 rport 0\r\n\
            a=rtpmap:96 H264/90000\r\n";
        let remote = Remote::parse(sdp).expect("a description");
        let expected: Vec<SocketAddr> =
            ["192.0.2.2:5000", "[2001:db8::1]:5002"].map(|one| one.parse().expect("an address")).into();
        assert_eq!(remote.candidates, expected);
        assert_eq!(
            (remote.setup, remote.fingerprint.as_str(), remote.nack),
            (Setup::Passive, "sha-256 aa", false)
        );
        assert!(Remote::parse(&sdp.replace("m=video 9", "m=video 0")).is_err());
        assert!(Remote::parse(&sdp.replace("a=ice-pwd:p\r\n", "")).is_err());
        assert!(Remote::parse(&sdp.replace("H264", "VP8")).is_err());
    }

    #[test]
    fn a_servers_offer_is_answered_section_by_section() {
        let offer = "v=0\r\na=group:BUNDLE a v\r\n\
            m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:a\r\na=rtpmap:111 opus/48000/2\r\n\
            m=video 9 UDP/TLS/RTP/SAVPF 96 97 98\r\na=mid:v\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=fingerprint:sha-256 AA\r\n\
            a=setup:actpass\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 profile-level-id=42e01f;packetization-mode=1\r\n\
            a=rtcp-fb:96 nack\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:98 VP8/90000\r\n";
        let credentials = credentials();
        let (answer, remote) = local(&credentials, &[Codec::H264]).answer(offer).expect("an answer");
        assert_eq!(remote.repeats(97), Some(96));
        for expected in [
            "m=audio 0 UDP/TLS/RTP/SAVPF 111\r\n",
            "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n",
            "a=setup:active\r\n",
            "a=mid:v\r\n",
        ] {
            assert!(answer.contains(expected), "{expected} in {answer}");
        }
        assert!(local(&credentials, &[Codec::H265]).answer(offer).is_err());
    }

    #[test]
    fn garbage_is_refused_and_survived() {
        for garbage in
            ["", "m=", "m=video", "v=0\r\nm=video 9\r\na=rtpmap\r\na=candidate:\r\n", "\u{fffd}m=video 1 x"]
        {
            assert!(Remote::parse(garbage).is_err());
        }
    }
}
