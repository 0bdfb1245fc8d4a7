//! The payload types of a section: their codecs (RFC 8866 `rtpmap`, `fmtp`), their feedback (RFC 4585), their
//! retransmission (RFC 4588), and which of them suits a stream best (RFC 6184 section 8.1, RFC 7798 section 7.1).

use std::cmp::Reverse;

use lanecast_protocol::codec::Codec;
use sdp_types::{Attribute, Media};

use super::{NegotiationError, Rtx, StreamMedia, printable};

/// The payload types of one section that are usable beside RTCP on one port, in the order of the offer.
#[derive(Clone, Debug, Default)]
pub(super) struct Formats(Vec<Format>);

/// One payload type.
#[derive(Clone, Debug)]
pub(super) struct Format {
    pub(super) payload_type: u8,
    /// Of `rtpmap`, printable.
    pub(super) name: String,
    clock_rate_hz: u32,
    /// `rtpmap` and `fmtp`, as they stand.
    pub(super) map: String,
    pub(super) parameters: String,
    pub(super) feedback: Feedback,
}

/// Feedback messages of `a=rtcp-fb` that we understand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Feedback {
    pub(super) nack: bool,
    pub(super) pli: bool,
    pub(super) fir: bool,
    pub(super) remb: bool,
    pub(super) transport_cc: bool,
}

impl Formats {
    /// Reads a section; a sentence where it has too many.
    pub(super) fn parse(media: &Media) -> Result<Self, String> {
        let mut formats = Self::default();
        for (count, token) in media.fmt.split_ascii_whitespace().enumerate() {
            if count == PAYLOAD_TYPES_MAX {
                return Err(format!("more than {PAYLOAD_TYPES_MAX} payload types"));
            }
            if let Some(payload_type) = number(token).filter(usable_beside_rtcp)
                && formats.of(payload_type).is_none()
            {
                formats.0.push(Format::unmapped(payload_type));
            }
        }
        let mut all = Feedback::default();
        for attribute in &media.attributes {
            formats.handle_attribute(attribute, &mut all);
        }
        for format in &mut formats.0 {
            format.feedback.join(all);
        }
        formats.0.retain(|format| !format.name.is_empty());
        Ok(formats)
    }

    fn handle_attribute(&mut self, attribute: &Attribute, all: &mut Feedback) {
        let name = attribute.attribute.as_str();
        if !matches!(name, "rtpmap" | "fmtp" | "rtcp-fb") {
            return;
        }
        let value = attribute.value.as_deref().unwrap_or_default().trim();
        let Some((of, rest)) = value.split_once(char::is_whitespace) else { return };
        if name == "rtcp-fb" && of == "*" {
            all.add(rest);
            return;
        }
        let Some(payload_type) = number(of) else { return };
        let Some(format) = self.0.iter_mut().find(|it| it.payload_type == payload_type) else { return };
        match name {
            "rtpmap" if format.name.is_empty() => format.map(rest),
            "fmtp" if format.parameters.is_empty() => rest.trim().clone_into(&mut format.parameters),
            "rtcp-fb" => format.feedback.add(rest),
            _ => {}
        }
    }

    /// The one with this number.
    pub(super) fn of(&self, payload_type: u8) -> Option<&Format> {
        self.0.iter().find(|format| format.payload_type == payload_type)
    }

    /// The first that the offer describes.
    pub(super) fn first(&self) -> Option<&Format> {
        self.0.first()
    }

    /// The one that suits `stream` best.
    pub(super) fn choose(&self, stream: StreamMedia) -> Result<&Format, NegotiationError> {
        let of_codec = || self.0.iter().filter(|format| format.is(stream.codec));
        if of_codec().next().is_none() {
            return Err(NegotiationError::CodecNotOffered {
                stream: shown(stream.codec.rtpmap_name()).to_owned(),
                offered: self.codec_names(),
            });
        }
        let (best, needed) = match stream.codec {
            Codec::H264 => {
                let profile =
                    stream.profile_level_id.map_or(H264Profile::ConstrainedBaseline, H264Profile::of);
                let fitting = of_codec().filter(|format| format.packetization_mode() == 1);
                (fitting.min_by_key(|format| format.h264_rank(profile)), "packetization-mode 1")
            }
            Codec::H265 => {
                let fitting = of_codec().filter(|format| format.is_single_stream());
                (fitting.min_by_key(|format| format.h265_rank()), "tx-mode SRST")
            }
        };
        let codec = shown(stream.codec.rtpmap_name());
        best.ok_or_else(|| {
            NegotiationError::Unsupported(format!("the offer has {codec}, but not with {needed}"))
        })
    }

    /// The retransmission of a payload type.
    pub(super) fn rtx_of(&self, payload_type: u8) -> Option<Rtx> {
        let repairs = |format: &&Format| {
            format.name.eq_ignore_ascii_case("rtx")
                && format.clock_rate_hz == CLOCK_RATE_HZ
                && format.parameter("apt").and_then(|apt| apt.parse().ok()) == Some(payload_type)
        };
        self.0.iter().find(repairs).map(|format| Rtx { payload_type: format.payload_type })
    }

    /// The codecs, once each, without what only repairs.
    fn codec_names(&self) -> String {
        let mut names: Vec<&str> = vec![];
        for format in &self.0 {
            let name = shown(&format.name);
            let repair = ["rtx", "red", "ulpfec", "flexfec", "flexfec-03"]
                .iter()
                .any(|it| it.eq_ignore_ascii_case(name));
            if !repair && !names.contains(&name) && names.len() < CODEC_NAMES_MAX {
                names.push(name);
            }
        }
        if names.is_empty() { "no codec".to_owned() } else { names.join(", ") }
    }
}

impl Format {
    fn unmapped(payload_type: u8) -> Self {
        Self {
            payload_type,
            name: String::new(),
            clock_rate_hz: 0,
            map: String::new(),
            parameters: String::new(),
            feedback: Feedback::default(),
        }
    }

    /// `H264/90000`.
    fn map(&mut self, value: &str) {
        value.trim().clone_into(&mut self.map);
        let mut parts = self.map.split('/');
        self.name = printable(parts.next().unwrap_or_default());
        self.clock_rate_hz = parts.next().and_then(|rate| rate.parse().ok()).unwrap_or_default();
    }

    fn is(&self, codec: Codec) -> bool {
        self.name.eq_ignore_ascii_case(codec.rtpmap_name()) && self.clock_rate_hz == CLOCK_RATE_HZ
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.split(';').find_map(|parameter| {
            let (key, value) = parameter.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The parameters for the answer: what both sides must mean alike, as the offer has it. Parameter sets and limits
    /// of the offerer's own are left out.
    pub(super) fn answer_parameters(&self) -> String {
        let parameters = self.parameters.split(';').map(str::trim).filter(|parameter| {
            let key = parameter.split_once('=').map_or("", |(key, _)| key.trim());
            SYMMETRIC_PARAMETERS.iter().any(|it| it.eq_ignore_ascii_case(key))
        });
        parameters.collect::<Vec<_>>().join(";")
    }

    /// RFC 6184 section 8.1: 0 where it is not given.
    fn packetization_mode(&self) -> u8 {
        self.parameter("packetization-mode").map_or(0, |mode| mode.parse().unwrap_or(u8::MAX))
    }

    /// Smaller suits better: a profile that decodes the stream's, else what every browser decodes; of equals the
    /// highest level.
    fn h264_rank(&self, stream: H264Profile) -> (u8, Reverse<u8>) {
        let offered =
            self.parameter("profile-level-id").map_or(Some(PROFILE_LEVEL_DEFAULT), profile_level_of_hex);
        let Some(offered) = offered else { return (u8::MAX, Reverse(0)) };
        (H264Profile::of(offered).rank_for(stream), Reverse(offered[2]))
    }

    /// RFC 7798 section 7.1: SRST where it is not given.
    fn is_single_stream(&self) -> bool {
        self.parameter("tx-mode").is_none_or(|mode| mode.eq_ignore_ascii_case("SRST"))
    }

    /// Smaller suits better: the Main profile and tier of nearly all cameras, then the highest level.
    fn h265_rank(&self) -> (bool, bool, Reverse<u8>) {
        let number = |name, default| self.parameter(name).and_then(|it| it.parse().ok()).unwrap_or(default);
        (number("profile-id", 1) != 1, number("tier-flag", 0) != 0, Reverse(number("level-id", 93)))
    }
}

impl Feedback {
    /// A message, as it stands behind the payload type.
    fn add(&mut self, message: &str) {
        let mut words = message.split_ascii_whitespace();
        match (words.next().unwrap_or_default(), words.next()) {
            ("nack", None) => self.nack = true,
            ("nack", Some("pli")) => self.pli = true,
            ("ccm", Some("fir")) => self.fir = true,
            ("goog-remb", None) => self.remb = true,
            ("transport-cc", None) => self.transport_cc = true,
            _ => {}
        }
    }

    fn join(&mut self, other: Self) {
        self.nack |= other.nack;
        self.pli |= other.pli;
        self.fir |= other.fir;
        self.remb |= other.remb;
        self.transport_cc |= other.transport_cc;
    }
}

/// H.264 profiles as far as browsers tell them apart (RFC 6184 table 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    /// By its profile_idc.
    Other(u8),
}

impl H264Profile {
    /// By profile_idc and the constraint flags; unused flags are not looked at, because cameras set them freely.
    fn of([profile_idc, constraints, _]: [u8; 3]) -> Self {
        let set = |flag: u8| constraints & 0x80 >> flag != 0;
        match profile_idc {
            0x42 if set(1) => Self::ConstrainedBaseline,
            0x42 => Self::Baseline,
            0x4d if set(0) => Self::ConstrainedBaseline,
            0x4d => Self::Main,
            0x58 if set(0) && set(1) => Self::ConstrainedBaseline,
            0x58 if set(0) => Self::Baseline,
            0x64 if set(4) && set(5) => Self::ConstrainedHigh,
            0x64 => Self::High,
            other => Self::Other(other),
        }
    }

    /// How well a decoder of this profile suits a stream: the same; one that decodes it by the standard; High without
    /// B pictures for High, which viewers get without them anyway; then constrained baseline, because browsers that
    /// offer it decode High all the same; then anything.
    fn rank_for(self, stream: Self) -> u8 {
        use H264Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
        match (stream, self) {
            _ if stream == self => 0,
            (ConstrainedBaseline, Main | ConstrainedHigh | High | Baseline) => 3,
            (Main | ConstrainedHigh, High) => 1,
            (High, ConstrainedHigh) => 1,
            (_, ConstrainedBaseline) => 2,
            _ => 4,
        }
    }
}

/// A payload type, written as everybody writes numbers: without sign and leading zeros.
fn number(text: &str) -> Option<u8> {
    text.parse().ok().filter(|number: &u8| number.to_string() == text)
}

/// RFC 5761 section 4: 64 to 95 look like RTCP on a shared port.
fn usable_beside_rtcp(payload_type: &u8) -> bool {
    matches!(payload_type, 0..=63 | 96..=127)
}

fn profile_level_of_hex(text: &str) -> Option<[u8; 3]> {
    let digits = text.len() == 6 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()?;
    let [_, bytes @ ..] = number.to_be_bytes();
    Some(bytes)
}

/// A codec's name as people write it.
fn shown(name: &str) -> &str {
    match name {
        "H264" => "H.264",
        "H265" => "H.265",
        other => other,
    }
}

/// All video has it.
const CLOCK_RATE_HZ: u32 = 90_000;
/// There are no more numbers.
const PAYLOAD_TYPES_MAX: usize = 128;
/// Enough for a sentence.
const CODEC_NAMES_MAX: usize = 16;
/// Where an offer names none; RFC 6184 section 8.1 says Baseline level 1, and what offers none decodes at least this.
const PROFILE_LEVEL_DEFAULT: [u8; 3] = [0x42, 0xe0, 0x0a];
/// `fmtp` parameters that configure a payload type, and so are the same in offer and answer (RFC 6184 section 8.2.2,
/// RFC 7798 section 7.2.2, and what libwebrtc compares).
const SYMMETRIC_PARAMETERS: [&str; 10] = [
    "level-asymmetry-allowed",
    "packetization-mode",
    "profile-level-id",
    "profile-space",
    "profile-id",
    "tier-flag",
    "level-id",
    "interop-constraints",
    "profile-compatibility-indicator",
    "tx-mode",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A section of these `payload type, rtpmap, fmtp`.
    fn formats(entries: &[(u8, &str, &str)], more: &[&str]) -> Formats {
        let numbers: Vec<String> = entries.iter().map(|(number, ..)| number.to_string()).collect();
        let mut text = format!("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF {}\r\n", numbers.join(" "));
        for (number, map, parameters) in entries {
            text += &format!("a=rtpmap:{number} {map}\r\na=fmtp:{number} {parameters}\r\n");
        }
        text += &more.join("\r\n");
        Formats::parse(&sdp_types::Session::parse(text.as_bytes()).unwrap().medias[0]).unwrap()
    }

    fn chosen(formats: &Formats, profile_level_id: [u8; 3]) -> u8 {
        let stream = StreamMedia { codec: Codec::H264, profile_level_id: Some(profile_level_id) };
        formats.choose(stream).unwrap().payload_type
    }

    const BASELINE: (u8, &str, &str) = (100, "H264/90000", "packetization-mode=1;profile-level-id=42001f");
    const CONSTRAINED: (u8, &str, &str) = (101, "H264/90000", "packetization-mode=1;profile-level-id=42e01f");
    const MAIN: (u8, &str, &str) = (102, "h264/90000", "profile-level-id=4D001F; packetization-mode=1");
    const CONSTRAINED_HIGH: (u8, &str, &str) =
        (103, "H264/90000", "packetization-mode=1;profile-level-id=640c1f");
    const HIGH: (u8, &str, &str) = (104, "H264/90000", "packetization-mode=1;profile-level-id=64001f");
    const HIGH_444: (u8, &str, &str) = (105, "H264/90000", "packetization-mode=1;profile-level-id=f4001f");

    #[test]
    fn the_streams_own_profile_is_taken_where_it_is_offered() {
        let all = formats(&[BASELINE, CONSTRAINED, MAIN, CONSTRAINED_HIGH, HIGH, HIGH_444], &[]);
        assert_eq!(chosen(&all, [0x42, 0x00, 0x28]), 100);
        assert_eq!(chosen(&all, [0x42, 0x40, 0x28]), 101);
        assert_eq!(chosen(&all, [0x42, 0xc0, 0x28]), 101);
        assert_eq!(chosen(&all, [0x4d, 0x00, 0x28]), 102);
        assert_eq!(chosen(&all, [0x4d, 0x40, 0x33]), 102);
        assert_eq!(chosen(&all, [0x4d, 0x80, 0x28]), 101);
        assert_eq!(chosen(&all, [0x64, 0x0c, 0x28]), 103);
        assert_eq!(chosen(&all, [0x64, 0x00, 0x33]), 104);
        assert_eq!(chosen(&all, [0x64, 0x10, 0x33]), 104);
        assert_eq!(chosen(&all, [0xf4, 0x00, 0x28]), 105);
    }

    #[test]
    fn else_one_that_decodes_it_else_constrained_baseline_else_anything() {
        let high = [0x64, 0, 0x28];
        assert_eq!(chosen(&formats(&[BASELINE, CONSTRAINED, MAIN, HIGH_444], &[]), high), 101);
        assert_eq!(chosen(&formats(&[CONSTRAINED, CONSTRAINED_HIGH], &[]), high), 103);
        assert_eq!(chosen(&formats(&[CONSTRAINED, HIGH], &[]), [0x4d, 0, 0x28]), 104);
        assert_eq!(chosen(&formats(&[CONSTRAINED, CONSTRAINED_HIGH], &[]), [0x4d, 0, 0x28]), 101);
        assert_eq!(chosen(&formats(&[BASELINE, MAIN], &[]), high), 100);
        assert_eq!(chosen(&formats(&[HIGH_444, MAIN], &[]), [0x42, 0xe0, 0x1f]), 102);
        assert_eq!(
            chosen(&formats(&[(96, "H264/90000", "packetization-mode=1;profile-level-id=xyz")], &[]), high),
            96
        );
    }

    #[test]
    fn the_highest_level_of_a_profile_is_taken() {
        let low = (96, "H264/90000", "packetization-mode=1;profile-level-id=42e01f");
        let high = (98, "H264/90000", "packetization-mode=1;profile-level-id=42e034");
        assert_eq!(chosen(&formats(&[low, high, CONSTRAINED], &[]), [0x42, 0xe0, 0x1e]), 98);
        assert_eq!(
            chosen(&formats(&[low, CONSTRAINED], &[]), [0x42, 0xe0, 0x1e]),
            96,
            "the offer's order for equals"
        );
    }

    #[test]
    fn an_unknown_profile_counts_as_constrained_baseline() {
        let stream = StreamMedia { codec: Codec::H264, profile_level_id: None };
        assert_eq!(formats(&[HIGH, MAIN, CONSTRAINED], &[]).choose(stream).unwrap().payload_type, 101);
        let unnamed = (96, "H264/90000", "packetization-mode=1");
        assert_eq!(formats(&[HIGH, unnamed], &[]).choose(stream).unwrap().payload_type, 96);
    }

    #[test]
    fn packetization_mode_1_is_needed() {
        let mode_0 = (96, "H264/90000", "profile-level-id=42e01f;packetization-mode=0");
        let unnamed = (97, "H264/90000", "profile-level-id=42e01f");
        let stream = StreamMedia { codec: Codec::H264, profile_level_id: None };
        let error = formats(&[mode_0, unnamed], &[]).choose(stream).unwrap_err();
        assert!(error.to_string().contains("not with packetization-mode 1"), "{error}");
        assert_eq!(chosen(&formats(&[mode_0, unnamed, HIGH], &[]), [0x42, 0xe0, 0x1f]), 104);
    }

    #[test]
    fn names_both_sides_when_the_codec_is_not_offered() {
        let stream = StreamMedia { codec: Codec::H265, profile_level_id: None };
        let vp8 = (96, "VP8/90000", "");
        let rtx = (97, "rtx/90000", "apt=96");
        let error = formats(&[vp8, rtx, CONSTRAINED, HIGH], &[]).choose(stream).unwrap_err();
        assert_eq!(error.to_string(), "the stream is H.265, the offer has VP8, H.264");
        let error = formats(&[rtx], &[]).choose(stream).unwrap_err();
        assert_eq!(error.to_string(), "the stream is H.265, the offer has no codec");
    }

    #[test]
    fn h265_takes_a_single_stream_of_the_main_profile_and_the_highest_level() {
        let stream = StreamMedia { codec: Codec::H265, profile_level_id: None };
        let main_10 = (96, "H265/90000", "level-id=180;profile-id=2;tier-flag=0;tx-mode=SRST");
        let high_tier = (97, "H265/90000", "level-id=180;profile-id=1;tier-flag=1;tx-mode=SRST");
        let main = (98, "H265/90000", "level-id=93;profile-id=1;tier-flag=0;tx-mode=SRST");
        let higher = (99, "H265/90000", "level-id=150");
        let several = (100, "H265/90000", "level-id=180;tx-mode=MRST");
        let choose = |entries: &[_]| formats(entries, &[]).choose(stream).map(|it| it.payload_type);
        assert_eq!(choose(&[main_10, high_tier, main, higher, several]), Ok(99));
        assert_eq!(choose(&[main_10, high_tier, main]), Ok(98));
        assert_eq!(choose(&[main_10, high_tier]), Ok(97));
        assert_eq!(choose(&[main_10]), Ok(96));
        assert!(choose(&[several]).unwrap_err().to_string().contains("SRST"));
    }

    #[test]
    fn the_answer_repeats_what_configures_the_payload_type_and_nothing_else() {
        let offered = "level-asymmetry-allowed=1; packetization-mode=1;profile-level-id=42e01f;max-fs=8160;sprop-parameter-sets=Z0I=,aM4=;x";
        let all = formats(&[(96, "H264/90000", offered)], &[]);
        assert_eq!(
            all.of(96).unwrap().answer_parameters(),
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
        );
    }

    #[test]
    fn feedback_counts_for_its_payload_type_or_for_all() {
        let all = formats(
            &[CONSTRAINED, HIGH],
            &[
                "a=rtcp-fb:101 nack",
                "a=rtcp-fb:101 nack pli",
                "a=rtcp-fb:* ccm fir",
                "a=rtcp-fb:104 nack rpsi",
                "a=rtcp-fb:104 goog-remb",
                "a=rtcp-fb:104 transport-cc",
            ],
        );
        let one = Feedback { nack: true, pli: true, fir: true, ..Feedback::default() };
        assert_eq!(all.of(101).unwrap().feedback, one);
        let other = Feedback { fir: true, remb: true, transport_cc: true, ..Feedback::default() };
        assert_eq!(all.of(104).unwrap().feedback, other);
    }

    #[test]
    fn rtx_is_found_by_apt() {
        let all = formats(
            &[
                CONSTRAINED,
                HIGH,
                (97, "rtx/90000", "apt=104;rtx-time=3000"),
                (98, "RTX/90000", "apt=101"),
                (99, "rtx/8000", "apt=96"),
            ],
            &[],
        );
        assert_eq!(all.rtx_of(101), Some(Rtx { payload_type: 98 }));
        assert_eq!(all.rtx_of(104), Some(Rtx { payload_type: 97 }));
        assert_eq!(all.rtx_of(96), None);
    }

    #[test]
    fn payload_types_that_look_like_rtcp_are_left_out() {
        let all = formats(
            &[(72, "H264/90000", "packetization-mode=1"), (63, "H264/90000", "packetization-mode=1")],
            &[],
        );
        assert!(all.of(72).is_none() && all.of(63).is_some());
    }
}
