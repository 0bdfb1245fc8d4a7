//! A camera's answer to DESCRIBE (RFC 8866, RFC 2326 appendix C): its first video track that we can carry.
//!
//! Cameras write sloppy SDP: it is tried as it came, then reduced to the lines that matter and tried again.
//! What parameter sets mean is not asked here, only whether they are parameter sets.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use sdp_types::{Media, Session};
use url::Url;

use crate::codec::{Codec, Nal, NalClass};

/// Why a description is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Not SDP at all.
    #[error("the camera's SDP cannot be read: {0}")]
    Malformed(String),
    /// No `m=video`.
    #[error("the camera offers no video")]
    NoVideo,
    /// Video, but no codec of ours.
    #[error("the camera's video codec {0} is not supported")]
    UnsupportedCodec(String),
}

/// The video track that we will set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoTrack {
    /// The codec.
    pub codec: Codec,
    /// Payload type of its packets.
    pub payload_type: u8,
    /// No other payload type is described.
    pub is_only_payload_type: bool,
    /// Clock rate in Hz; 90000 but for cameras that err.
    pub clock_rate_hz: u32,
    /// Where SETUP goes.
    pub control: Url,
    /// Parameter sets of `sprop-*`, as NAL units; broken ones are left out.
    pub parameter_sets: Vec<Bytes>,
}

/// What we need of a presentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presentation {
    /// Where PLAY, keepalive and TEARDOWN go (aggregate control).
    pub control: Url,
    /// The video track.
    pub video: VideoTrack,
    /// Further video tracks that we can carry, in case SETUP of the first is refused.
    other_videos: Vec<VideoTrack>,
}

impl Presentation {
    /// Reads `sdp`; relative controls are resolved against `base` (Content-Base, Content-Location or request URL).
    pub fn parse(sdp: &[u8], base: &Url) -> Result<Self, SdpError> {
        let session = parse_session(sdp)?;
        let (mut videos, mut unsupported) = (Vec::new(), None);
        let sections = session.medias.iter().filter(|media| media.media.eq_ignore_ascii_case("video"));
        for media in sections.take(VIDEOS_MAX) {
            match VideoTrack::of_media(media, base) {
                Ok(video) => videos.push(video),
                Err(codec) => unsupported = unsupported.or(Some(codec)),
            }
        }
        let mut videos = videos.into_iter();
        let Some(video) = videos.next() else {
            return Err(unsupported.map_or(SdpError::NoVideo, SdpError::UnsupportedCodec));
        };
        let control = attribute(&session.attributes, "control")
            .map_or_else(|| base.clone(), |control| join_control(base, control));
        Ok(Self { control, video, other_videos: videos.collect() })
    }

    /// Every video track that we can carry, the one to set up first.
    pub fn videos(&self) -> impl Iterator<Item = &VideoTrack> {
        std::iter::once(&self.video).chain(&self.other_videos)
    }

    /// Puts the next video track in the place of the first, and gives that; `None` if there is no other.
    pub fn take_next_video(&mut self) -> Option<VideoTrack> {
        if self.other_videos.is_empty() {
            return None;
        }
        Some(std::mem::replace(&mut self.video, self.other_videos.remove(0)))
    }
}

impl VideoTrack {
    /// The track of an `m=video` section, or the name of the codec that we cannot carry.
    fn of_media(media: &Media, base: &Url) -> Result<Self, String> {
        if media.proto.to_ascii_uppercase().contains("SAVP") {
            return Err(format!("over {}", printable(&media.proto)));
        }
        let mut unsupported = None;
        let formats = media.fmt.split_ascii_whitespace().take(PAYLOAD_TYPES_MAX);
        for payload_type in formats.filter_map(|format| format.parse::<u8>().ok()).filter(|it| *it <= 127) {
            let (name, clock_rate_hz) = encoding(media, payload_type);
            let Some(codec) = codec_of_name(&name) else {
                unsupported = unsupported.or(Some(printable(&name)));
                continue;
            };
            return Ok(Self {
                codec,
                payload_type,
                is_only_payload_type: media.fmt.split_ascii_whitespace().count() == 1,
                clock_rate_hz,
                control: attribute(&media.attributes, "control")
                    .map_or_else(|| base.clone(), |control| join_control(base, control)),
                parameter_sets: parameter_sets(codec, format_parameters(media, payload_type)),
            });
        }
        Err(unsupported.unwrap_or_else(|| "without a payload type".to_owned()))
    }
}

/// Joins a control URL as cameras mean it (and live555 and FFmpeg do): by appending, also behind a query.
fn join_control(base: &Url, control: &str) -> Url {
    let control = control.trim();
    if control.is_empty() || control == "*" {
        return base.clone();
    }
    if let Some(absolute) = absolute_url(control) {
        return absolute;
    }
    let root = base.path().trim_end_matches('/');
    let below_root = control.strip_prefix(root).filter(|_| !root.is_empty());
    if below_root.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?'])) {
        // A whole path, not one below the base.
        return base.join(control).unwrap_or_else(|_| base.clone());
    }
    if control.starts_with('?') {
        return Url::parse(&format!("{base}{control}")).unwrap_or_else(|_| base.clone());
    }
    let joined = format!("{}/{}", base.as_str().trim_end_matches('/'), control.trim_start_matches('/'));
    Url::parse(&joined).unwrap_or_else(|_| base.clone())
}

/// An absolute RTSP URL, without user info and fragment.
pub(crate) fn absolute_url(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok()?;
    if !matches!(url.scheme(), "rtsp" | "rtsps" | "rtspu") || url.host_str().is_none_or(str::is_empty) {
        return None;
    }
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    Some(url)
}

fn parse_session(sdp: &[u8]) -> Result<Session, SdpError> {
    if let Ok(session) = Session::parse(sdp) {
        return Ok(session);
    }
    Session::parse(reduced(sdp).as_bytes()).map_err(|error| SdpError::Malformed(error.to_string()))
}

/// Only what is needed, in the order and form that RFC 8866 asks for: `m=` sections and `a=` lines.
fn reduced(sdp: &[u8]) -> String {
    let text = String::from_utf8_lossy(sdp);
    let mut out = String::from("v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n");
    let mut usable_section = true;
    for line in text.split(['\r', '\n', '\0']).map(str::trim) {
        if let Some(media) = strip_key(line, 'm') {
            let fields: Vec<&str> = media.split_ascii_whitespace().collect();
            usable_section = fields.len() >= 4;
            if let [kind, _port, proto, formats @ ..] = fields.as_slice()
                && usable_section
            {
                out.push_str(&format!("m={kind} 0 {proto} {}\r\n", formats.join(" ")));
            }
        } else if let Some(attribute) = strip_key(line, 'a')
            && usable_section
        {
            out.push_str(&format!("a={}\r\n", attribute.trim()));
        }
    }
    out
}

fn strip_key(line: &str, key: char) -> Option<&str> {
    line.strip_prefix(key)?.trim_start().strip_prefix('=')
}

fn attribute<'a>(attributes: &'a [sdp_types::Attribute], name: &str) -> Option<&'a str> {
    attributes.iter().find(|a| a.attribute.trim().eq_ignore_ascii_case(name)).and_then(|a| a.value.as_deref())
}

/// Encoding name and clock rate of a payload type: by its `rtpmap`, by its number, or by what `fmtp` looks like.
fn encoding(media: &Media, payload_type: u8) -> (String, u32) {
    if let Some(map) = mapped(media, "rtpmap", payload_type) {
        let mut parts = map.trim().split('/').map(str::trim);
        let name = parts.next().unwrap_or_default().to_owned();
        let clock_rate_hz = parts.next().and_then(|rate| rate.parse().ok()).filter(|rate| *rate > 0);
        return (name, clock_rate_hz.unwrap_or(CLOCK_RATE_HZ));
    }
    let parameters = format_parameters(media, payload_type);
    let name = match payload_type {
        26 => "JPEG".to_owned(),
        31 => "H261".to_owned(),
        32 => "MPV".to_owned(),
        33 => "MP2T".to_owned(),
        34 => "H263".to_owned(),
        _ if parameter(parameters, "sprop-vps").is_some() => "H265".to_owned(),
        _ if parameter(parameters, "sprop-parameter-sets").is_some() => "H264".to_owned(),
        number => format!("of payload type {number}"),
    };
    (name, CLOCK_RATE_HZ)
}

fn codec_of_name(name: &str) -> Option<Codec> {
    match name.to_ascii_uppercase().as_str() {
        "H264" | "AVC" => Some(Codec::H264),
        "H265" | "HEVC" => Some(Codec::H265),
        _ => None,
    }
}

/// The `fmtp` of a payload type; the section's only one if none names it.
fn format_parameters(media: &Media, payload_type: u8) -> &str {
    mapped(media, "fmtp", payload_type)
        .or_else(|| {
            let mut all = media.attributes.iter().filter(|a| a.attribute.eq_ignore_ascii_case("fmtp"));
            let only = all.next().and_then(|a| a.value.as_deref())?;
            let (_, parameters) = only.trim().split_once(char::is_whitespace)?;
            all.next().is_none().then_some(parameters)
        })
        .unwrap_or_default()
}

/// The value behind the payload type in `a=<name>:<payload type> <value>`.
fn mapped<'a>(media: &'a Media, name: &str, payload_type: u8) -> Option<&'a str> {
    media.attributes.iter().filter(|a| a.attribute.trim().eq_ignore_ascii_case(name)).find_map(|a| {
        let (number, value) = a.value.as_deref()?.trim().split_once(char::is_whitespace)?;
        (number.parse() == Ok(payload_type)).then_some(value)
    })
}

fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

fn parameter_sets(codec: Codec, parameters: &str) -> Vec<Bytes> {
    let names: &[&str] = match codec {
        Codec::H264 => &["sprop-parameter-sets"],
        Codec::H265 => &["sprop-vps", "sprop-sps", "sprop-pps"],
    };
    names
        .iter()
        .filter_map(|name| parameter(parameters, name))
        .flat_map(|list| list.split(','))
        .filter_map(|text| parameter_set(codec, text))
        .take(PARAMETER_SETS_MAX)
        .collect()
}

/// One parameter set out of base64 with or without padding and blanks, and without an Annex B start code.
fn parameter_set(codec: Codec, text: &str) -> Option<Bytes> {
    let compact: String = text.chars().filter(|c| !c.is_whitespace() && *c != '=').collect();
    let engine = if compact.contains(['-', '_']) { &BASE64_URL } else { &BASE64 };
    let mut nal = engine.decode(compact).ok()?;
    for start_code in [&[0, 0, 0, 1][..], &[0, 0, 1]] {
        if nal.starts_with(start_code) {
            nal.drain(..start_code.len());
        }
    }
    let nal = Bytes::from(nal);
    if nal.len() < 2 || Nal::from_bytes(nal.clone()).class(codec) != NalClass::ParameterSet {
        return None;
    }
    Some(nal)
}

/// What of a camera's word may stand in an error: short and printable.
fn printable(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(32).collect()
}

/// RFC 6184 and RFC 7798 allow no other.
const CLOCK_RATE_HZ: u32 = 90_000;
/// There are no more; a line of 64 KiB could name some of them thousands of times.
const PAYLOAD_TYPES_MAX: usize = 128;
/// Cameras have a main stream, a sub stream and perhaps a thermal one in a description.
const VIDEOS_MAX: usize = 8;
/// H.264 allows 32 SPS and 256 PPS; a description never needs more than a few.
const PARAMETER_SETS_MAX: usize = 64;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base() -> Url {
        Url::parse("rtsp://192.0.2.7/cam/realmonitor?channel=1&subtype=0/").unwrap()
    }

    fn parse(sdp: &str) -> Result<Presentation, SdpError> {
        Presentation::parse(sdp.as_bytes(), &base())
    }

    const H264: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=Media\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n\
        m=audio 0 RTP/AVP 8\r\na=control:trackID=1\r\n\
        m=video 0 RTP/AVP 96\r\na=control:trackID=0\r\na=rtpmap:96 H264/90000\r\n\
        a=fmtp:96 packetization-mode=1;profile-level-id=64001E;sprop-parameter-sets=Z2QAHqwsaoLA9puCgIKgAAADACAAAAMD0IAA,aO4xshsA\r\n";

    #[test]
    fn takes_the_video_track_and_appends_its_control_behind_the_query() {
        let presentation = parse(H264).unwrap();
        assert_eq!(presentation.control, base());
        let video = presentation.video;
        assert_eq!((video.codec, video.payload_type, video.clock_rate_hz), (Codec::H264, 96, 90_000));
        assert_eq!(video.control.as_str(), "rtsp://192.0.2.7/cam/realmonitor?channel=1&subtype=0/trackID=0");
        assert_eq!(video.parameter_sets.len(), 2);
        assert_eq!(video.parameter_sets[0][0], 0x67);
        assert_eq!(video.parameter_sets[1][0], 0x68);
    }

    #[test]
    fn reads_h265_by_any_of_its_names_with_its_three_parameter_sets() {
        for name in ["H265", "h265", "HEVC", "hevc"] {
            let presentation = parse(&format!(
                "v=0\r\nm=video 0 RTP/AVP 98\r\na=rtpmap:98 {name}/90000 \r\n\
                 a=fmtp:98 sprop-sps=QgEBAWAAAAMAsAAAAwAAAwB7oAPAgBDlja5JMvwCAAADAAIAAAMAMhA=; \
                 sprop-pps=\"RAHA8vA8kA\";sprop-vps=AAAAAUABDAH//wFgAAADALAAAAMAAAMAe6wJ\r\n",
            ))
            .unwrap();
            let types: Vec<u8> =
                presentation.video.parameter_sets.iter().map(|nal| nal[0] >> 1 & 0x3f).collect();
            assert_eq!(types, [32, 33, 34], "{name}");
            assert_eq!(presentation.video.control, base());
        }
    }

    #[test]
    fn names_the_codec_that_it_cannot_carry() {
        let jpeg = "v=0\r\nm=video 0 RTP/AVP 26\r\na=control:track1\r\n";
        assert_eq!(parse(jpeg), Err(SdpError::UnsupportedCodec("JPEG".to_owned())));
        let mpeg4 = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 MP4V-ES/90000\r\n";
        assert_eq!(parse(mpeg4), Err(SdpError::UnsupportedCodec("MP4V-ES".to_owned())));
        assert_eq!(
            parse(mpeg4).unwrap_err().to_string(),
            "the camera's video codec MP4V-ES is not supported"
        );
        assert_eq!(parse("v=0\r\nm=audio 0 RTP/AVP 0\r\n"), Err(SdpError::NoVideo));
    }

    #[test]
    fn takes_a_second_video_track_or_payload_type_when_the_first_is_not_ours() {
        let sdp = "v=0\r\nm=video 0 RTP/AVP 26\r\na=control:jpeg\r\n\
            m=video 0 RTP/AVP 97 96\r\na=control:main\r\na=rtpmap:97 VP8/90000\r\na=rtpmap:96 H264/90000\r\n";
        let video = parse(sdp).unwrap().video;
        assert_eq!(video.payload_type, 96);
        assert!(video.control.as_str().ends_with("/main"));
    }

    #[test]
    fn knows_the_next_video_track_where_the_first_is_of_no_use() {
        let sdp = "v=0\r\nm=video 0 RTP/AVP 96\r\na=control:main\r\na=rtpmap:96 H264/90000\r\n\
            m=video 0 RTP/AVP 26\r\na=control:jpeg\r\n\
            m=video 0 RTP/AVP 97\r\na=control:sub\r\na=rtpmap:97 H265/90000\r\n";
        let mut presentation = parse(sdp).unwrap();
        assert_eq!(presentation.videos().count(), 2);
        assert_eq!(presentation.take_next_video().map(|video| video.codec), Some(Codec::H264));
        assert_eq!((presentation.video.codec, presentation.video.payload_type), (Codec::H265, 97));
        assert_eq!(presentation.take_next_video(), None);
    }

    #[test]
    fn tolerates_what_the_grammar_forbids() {
        for sloppy in [
            "v=0\nm=video  0  RTP/AVP 96\na=rtpmap:96  H264/90000\na=control:t\n",
            "v=0\rm=video 0 RTP/AVP 96\ra=rtpmap:96 H264/90000\ra=control:t\r",
            "\r\nv=1\r\no=broken\r\nnonsense\r\nm=video 99999 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:t\r\n",
            "v=0\r\no=x\r\ns=\u{0}\r\nc=IN\r\nb=AS\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264\r\na=control: t\r\n\0",
            "m=audio\r\na=control:a\r\nm=video 0 RTP/AVP 96\r\na = x\r\na=fmtp:96 sprop-parameter-sets=Z0IAKg==\r\na=control:t",
        ] {
            let video = parse(sloppy).unwrap_or_else(|error| panic!("{sloppy:?}: {error}")).video;
            assert_eq!((video.codec, video.payload_type, video.clock_rate_hz), (Codec::H264, 96, 90_000));
            assert!(video.control.as_str().ends_with("/t"), "{}", video.control);
        }
    }

    #[test]
    fn leaves_broken_parameter_sets_out() {
        let sdp = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
            a=fmtp:96 sprop-parameter-sets=****,,ZQ==,Z0IAKpWoHgCJ+VA,aM48gA=\r\n";
        let kinds: Vec<u8> = parse(sdp).unwrap().video.parameter_sets.iter().map(|nal| nal[0]).collect();
        assert_eq!(kinds, [0x67, 0x68]);
    }

    #[test]
    fn joins_controls_as_cameras_mean_them() {
        let join = |base: &str, control: &str| join_control(&Url::parse(base).unwrap(), control).to_string();
        assert_eq!(join("rtsp://h/live", "track1"), "rtsp://h/live/track1");
        assert_eq!(join("rtsp://h/live/", "track1"), "rtsp://h/live/track1");
        assert_eq!(join("rtsp://h/live/", "/track1"), "rtsp://h/live/track1");
        assert_eq!(join("rtsp://h/live/", "/live/track1"), "rtsp://h/live/track1");
        assert_eq!(join("rtsp://h/live/", "/live"), "rtsp://h/live");
        assert_eq!(join("rtsp://h/live", "/live2/track1"), "rtsp://h/live/live2/track1");
        assert_eq!(join("rtsp://h/live", "?trackID=1"), "rtsp://h/live?trackID=1");
        assert_eq!(join("rtsp://h/live?a=1&b=0/", "trackID=1"), "rtsp://h/live?a=1&b=0/trackID=1");
        assert_eq!(join("rtsp://h/live/", "rtsp://h/live"), "rtsp://h/live");
        assert_eq!(join("rtsp://h/live", "rtsp://h/live/"), "rtsp://h/live/");
        assert_eq!(join("rtsp://h", "track1"), "rtsp://h/track1");
        assert_eq!(join("rtsp://h/live", "*"), "rtsp://h/live");
        assert_eq!(join("rtsp://h/live", "rtsp://10.0.0.1:554/x/"), "rtsp://10.0.0.1:554/x/");
        assert_eq!(join("rtsp://h/live", "rtsp://u:p@10.0.0.1/x"), "rtsp://10.0.0.1/x");
        assert_eq!(join("rtsp://h/live", "trackID=a:b"), "rtsp://h/live/trackID=a:b");
    }

    proptest! {
        #[test]
        fn never_panics(sdp in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Presentation::parse(&sdp, &base());
        }

        #[test]
        fn never_panics_on_almost_sdp(lines in proptest::collection::vec("[vomascb]=[a-zA-Z0-9:;=/ ,*-]{0,40}", 0..20)) {
            let _ = Presentation::parse(lines.join("\r\n").as_bytes(), &base());
        }
    }
}
