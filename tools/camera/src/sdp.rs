//! The session description of a mount point (RFC 8866; formats by RFC 6184 section 8.1 and RFC 7798 section 7.1).

use std::fmt::Write;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::config::Codec;
use crate::faults::{ControlUrls, Tracks};
use crate::reel::Reel;
use crate::rtp::{PCMU, VIDEO};

/// Last path segment of the video track's control URL.
pub(crate) const VIDEO_CONTROL: &str = "trackID=1";
/// Last path segment of the audio track's control URL.
pub(crate) const AUDIO_CONTROL: &str = "trackID=0";
/// Last path segment of the control URL of a track that is of no use.
pub(crate) const USELESS_CONTROL: &str = "trackID=2";

/// What a session description says.
pub(crate) struct Description<'a> {
    pub name: &'a str,
    pub address: IpAddr,
    pub reel: &'a Reel,
    pub fps_milli: u64,
    pub with_sprop: bool,
    pub with_pps: bool,
    pub with_audio: bool,
    pub tracks: Tracks,
    pub control: ControlUrls,
}

impl Description<'_> {
    pub fn to_text(&self) -> String {
        let (family, unspecified) = if self.address.is_ipv4() { ("IP4", "0.0.0.0") } else { ("IP6", "::") };
        let mut text = format!(
            "v=0\r\no=- 1 1 IN {family} {}\r\ns={}\r\nc=IN {family} {unspecified}\r\nt=0 0\r\n{}a=range:npt=now-\r\n",
            self.address,
            self.name,
            control_line(self.control.presentation.as_deref()),
        );
        if self.with_audio || self.tracks == Tracks::AudioRefused {
            text.push_str(&audio());
        }
        text.push_str(match self.tracks {
            Tracks::MetadataFirst => METADATA,
            Tracks::JpegFirst => JPEG,
            _ => "",
        });
        if self.tracks == Tracks::FirstRefused {
            self.video(&mut text, Some(USELESS_CONTROL)).expect("writing to a String cannot fail");
        }
        self.video(&mut text, self.control.track.as_deref()).expect("writing to a String cannot fail");
        match self.tracks {
            Tracks::AudioLast => text.push_str(&audio()),
            Tracks::TwoVideos => {
                self.video(&mut text, Some(USELESS_CONTROL)).expect("writing to a String cannot fail");
            }
            _ => {}
        }
        text
    }

    fn video(&self, text: &mut String, control: Option<&str>) -> std::fmt::Result {
        let encoding = match self.reel.codec {
            Codec::H264 => "H264",
            Codec::H265 => "H265",
        };
        write!(text, "m=video 0 RTP/AVP {VIDEO}\r\na=rtpmap:{VIDEO} {encoding}/90000\r\n")?;
        let parameters = self.format_parameters();
        if !parameters.is_empty() {
            write!(text, "a=fmtp:{VIDEO} {}\r\n", parameters.join(";"))?;
        }
        let fps = self.fps_milli as f64 / 1000.0;
        write!(text, "a=framerate:{fps}\r\n{}a=recvonly\r\n", control_line(control))
    }

    fn format_parameters(&self) -> Vec<String> {
        let sets = &self.reel.parameter_sets;
        match self.reel.codec {
            Codec::H264 => {
                let mut parameters = vec!["packetization-mode=1".to_owned()];
                if let Some([profile, constraints, level]) =
                    of_type(sets, Codec::H264, 7).first().and_then(|s| s.get(1..4))
                {
                    parameters.push(format!("profile-level-id={profile:02x}{constraints:02x}{level:02x}"));
                }
                if self.with_sprop {
                    let pps = if self.with_pps { of_type(sets, Codec::H264, 8) } else { Vec::new() };
                    let sps = of_type(sets, Codec::H264, 7);
                    parameters.push(format!(
                        "sprop-parameter-sets={},{}",
                        base64_list(&sps),
                        base64_list(&pps)
                    ));
                }
                parameters
            }
            Codec::H265 if self.with_sprop => [("sprop-vps", 32), ("sprop-sps", 33), ("sprop-pps", 34)]
                .into_iter()
                .filter(|&(_, kind)| self.with_pps || kind != 34)
                .map(|(name, kind)| format!("{name}={}", base64_list(&of_type(sets, Codec::H265, kind))))
                .collect(),
            Codec::H265 => Vec::new(),
        }
    }
}

fn control_line(control: Option<&str>) -> String {
    control.map_or_else(String::new, |control| format!("a=control:{control}\r\n"))
}

fn audio() -> String {
    format!(
        "m=audio 0 RTP/AVP {PCMU}\r\na=rtpmap:{PCMU} PCMU/8000\r\na=control:{AUDIO_CONTROL}\r\na=recvonly\r\n"
    )
}

const METADATA: &str = "m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\na=control:trackID=2\r\na=recvonly\r\n";
const JPEG: &str = "m=video 0 RTP/AVP 26\r\na=control:trackID=2\r\na=recvonly\r\n";

fn of_type(sets: &[Bytes], codec: Codec, kind: u8) -> Vec<&Bytes> {
    sets.iter().filter(|set| codec.nal_type(set[0]) == kind).collect()
}

fn base64_list(sets: &[&Bytes]) -> String {
    sets.iter().map(|set| STANDARD.encode(set)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Clip;
    use crate::config::CameraConfig;

    fn text(codec: Codec, with_sprop: bool, with_audio: bool) -> String {
        let reel = Reel::new(&Clip::built_in(codec), &CameraConfig::default());
        let control = crate::faults::Control::default().urls("127.0.0.1", "cam0", VIDEO_CONTROL);
        Description {
            name: "cam0",
            address: [127, 0, 0, 1].into(),
            reel: &reel,
            fps_milli: 25_000,
            with_sprop,
            with_pps: true,
            with_audio,
            tracks: Tracks::Plain,
            control,
        }
        .to_text()
    }

    fn parse(text: &str) -> sdp_types::Session {
        sdp_types::Session::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn h264_is_described_with_its_parameter_sets() {
        let session = parse(&text(Codec::H264, true, false));
        let [video] = &session.medias[..] else { panic!("one track") };
        assert_eq!((video.media.as_str(), video.fmt.as_str()), ("video", "96"));
        let fmtp = video.get_first_attribute_value("fmtp").unwrap().unwrap();
        assert!(
            fmtp.starts_with("96 packetization-mode=1;profile-level-id=42c01e;sprop-parameter-sets=Z0"),
            "{fmtp}"
        );
        assert_eq!(video.get_first_attribute_value("control").unwrap(), Some("trackID=1"));
        assert_eq!(video.get_first_attribute_value("framerate").unwrap(), Some("25"));
    }

    #[test]
    fn h265_is_described_with_three_parameter_sets() {
        let session = parse(&text(Codec::H265, true, false));
        let fmtp = session.medias[0].get_first_attribute_value("fmtp").unwrap().unwrap();
        for name in ["sprop-vps=Q", "sprop-sps=Q", "sprop-pps=R"] {
            assert!(fmtp.contains(name), "{fmtp}");
        }
    }

    #[test]
    fn without_sprop_no_parameter_set_is_told() {
        assert!(!text(Codec::H264, false, false).contains("sprop"));
        assert!(!text(Codec::H265, false, false).contains("fmtp"));
    }

    #[test]
    fn audio_comes_first_if_offered() {
        let session = parse(&text(Codec::H264, true, true));
        let medias: Vec<&str> = session.medias.iter().map(|media| media.media.as_str()).collect();
        assert_eq!(medias, ["audio", "video"]);
    }
}
