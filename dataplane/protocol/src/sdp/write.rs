//! The session description of a WSC-RTP session (wire contract section 4).

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::codec::{Codec, ParameterSets};

/// What a description is made from.
#[derive(Clone, Copy, Debug)]
pub struct SessionDescription<'a> {
    /// Number in `o=`: stays for the stream.
    pub source_number: u64,
    /// Version in `o=`: grows with each change.
    pub version: u64,
    /// True for `IP6` in `o=` and `c=`.
    pub ipv6: bool,
    /// Port of `m=`: where RTP will arrive; 0 where the client binds its own.
    pub client_port: u16,
    /// Codec and parameter sets.
    pub parameter_sets: &'a ParameterSets,
}

/// The text, with CRLF line ends.
pub fn write_session(description: &SessionDescription<'_>) -> String {
    let &SessionDescription { source_number, version, ipv6, client_port, parameter_sets } = description;
    let address = if ipv6 { "IP6 ::" } else { "IP4 0.0.0.0" };
    let codec = parameter_sets.codec().rtpmap_name();
    let mut text = format!(
        "v=0\r\n\
         o=- {source_number} {version} IN {address}\r\n\
         s=lanecast\r\n\
         c=IN {address}\r\n\
         t=0 0\r\n\
         m=video {client_port} RTP/AVP {PAYLOAD_TYPE}\r\n\
         a=rtpmap:{PAYLOAD_TYPE} {codec}/90000\r\n"
    );
    let parameters = format_parameters(parameter_sets);
    if !parameters.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, "a=fmtp:{PAYLOAD_TYPE} {parameters}\r\n");
    }
    text.push_str("a=sendonly\r\n");
    text
}

/// `a=fmtp` (RFC 6184 section 8.1, RFC 7798 section 7.1): parameters that we have, in the contract's order.
fn format_parameters(sets: &ParameterSets) -> String {
    let parameters: Vec<String> = match sets.codec() {
        Codec::H264 => [
            Some("packetization-mode=1".to_owned()),
            sets.profile_level_id().map(|id| format!("profile-level-id={id}")),
            sprop("sprop-parameter-sets", sets.sps().chain(sets.pps())),
        ]
        .into_iter()
        .flatten()
        .collect(),
        Codec::H265 => {
            [sprop("sprop-vps", sets.vps()), sprop("sprop-sps", sets.sps()), sprop("sprop-pps", sets.pps())]
                .into_iter()
                .flatten()
                .collect()
        }
    };
    parameters.join(";")
}

/// `name=` and the sets in base64, comma separated; `None` without any.
fn sprop<'a>(name: &str, sets: impl Iterator<Item = &'a Bytes>) -> Option<String> {
    let encoded: Vec<String> = sets.map(|set| STANDARD.encode(set)).collect();
    (!encoded.is_empty()).then(|| format!("{name}={}", encoded.join(",")))
}

/// Wire contract section 5.
const PAYLOAD_TYPE: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Nal;

    fn sets(codec: Codec, nals: &[&'static [u8]]) -> ParameterSets {
        let mut sets = ParameterSets::new(codec);
        for nal in nals {
            assert!(sets.handle_nal(&Nal::from_bytes(Bytes::from_static(nal))));
        }
        sets
    }

    #[test]
    fn h264_names_profile_and_parameter_sets() {
        let parameter_sets = sets(Codec::H264, &[b"\x67\x64\x00\x28\xac\xd9", b"\x68\xeb", b"\x68\x4e"]);
        let text = write_session(&SessionDescription {
            source_number: 7,
            version: 2,
            ipv6: false,
            client_port: 40000,
            parameter_sets: &parameter_sets,
        });
        assert_eq!(
            text,
            "v=0\r\n\
             o=- 7 2 IN IP4 0.0.0.0\r\n\
             s=lanecast\r\n\
             c=IN IP4 0.0.0.0\r\n\
             t=0 0\r\n\
             m=video 40000 RTP/AVP 96\r\n\
             a=rtpmap:96 H264/90000\r\n\
             a=fmtp:96 packetization-mode=1;profile-level-id=640028;sprop-parameter-sets=Z2QAKKzZ,aOs=,aE4=\r\n\
             a=sendonly\r\n"
        );
    }

    #[test]
    fn h265_names_each_kind_of_parameter_set() {
        let sps = b"\x42\x01\x01\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x1e\xa0";
        let parameter_sets = sets(Codec::H265, &[b"\x40\x01\x0c", sps, b"\x44\x01\xc1"]);
        let text = write_session(&SessionDescription {
            source_number: 1,
            version: 1,
            ipv6: true,
            client_port: 0,
            parameter_sets: &parameter_sets,
        });
        assert!(text.contains("o=- 1 1 IN IP6 ::\r\n") && text.contains("\r\nc=IN IP6 ::\r\n"));
        assert!(text.contains("\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\n"));
        assert!(text.contains(
            "\r\na=fmtp:96 sprop-vps=QAEM;sprop-sps=QgEBAWAAAAMAkAAAAwAAAwAeoA==;sprop-pps=RAHB\r\na=sendonly\r\n"
        ));
    }

    #[test]
    fn what_is_not_known_is_not_named() {
        let text = write_session(&SessionDescription {
            source_number: 1,
            version: 1,
            ipv6: false,
            client_port: 0,
            parameter_sets: &ParameterSets::new(Codec::H265),
        });
        assert!(!text.contains("fmtp"));
    }
}
