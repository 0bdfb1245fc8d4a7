//! What viewers offer.

/// A browser's, as short as it can be: VP8 and H.264, retransmission, transport-wide feedback.
pub const BROWSER: &str = "v=0\r\n\
o=- 4611731400430051336 2 IN IP4 127.0.0.1\r\n\
s=-\r\n\
t=0 0\r\n\
a=group:BUNDLE 0\r\n\
a=extmap-allow-mixed\r\n\
a=msid-semantic: WMS\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103\r\n\
c=IN IP4 0.0.0.0\r\n\
a=rtcp:9 IN IP4 0.0.0.0\r\n\
a=ice-ufrag:vIeW\r\n\
a=ice-pwd:viewersPasswordOf24Chars\r\n\
a=ice-options:trickle\r\n\
a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
a=setup:actpass\r\n\
a=mid:0\r\n\
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
a=recvonly\r\n\
a=rtcp-mux\r\n\
a=rtcp-rsize\r\n\
a=rtpmap:96 VP8/90000\r\n\
a=rtcp-fb:96 nack\r\n\
a=rtpmap:97 rtx/90000\r\n\
a=fmtp:97 apt=96\r\n\
a=rtpmap:102 H264/90000\r\n\
a=rtcp-fb:102 goog-remb\r\n\
a=rtcp-fb:102 transport-cc\r\n\
a=rtcp-fb:102 ccm fir\r\n\
a=rtcp-fb:102 nack\r\n\
a=rtcp-fb:102 nack pli\r\n\
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
a=rtpmap:103 rtx/90000\r\n\
a=fmtp:103 apt=102\r\n\
a=candidate:1 1 udp 2113937151 198.51.100.7 50000 typ host\r\n";

/// A browser's without its line that begins like this.
pub fn without(start: &str) -> String {
    BROWSER.split_inclusive("\r\n").filter(|line| !line.starts_with(start)).collect()
}

/// Video that is not H.264.
pub fn vp8_only() -> String {
    without("a=rtpmap:102").replace(" 96 97 102 103", " 96 97")
}

/// Sound alone.
pub fn audio_only() -> String {
    let (session, _) = BROWSER.split_once("m=video").unwrap();
    let transport = ["a=ice", "a=fingerprint", "a=setup", "a=mid", "a=rtcp-mux", "a=recvonly"];
    let lines =
        BROWSER.split_inclusive("\r\n").filter(|line| transport.iter().any(|start| line.starts_with(start)));
    let audio = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:111 opus/48000/2\r\n";
    format!("{session}{audio}{}", lines.collect::<String>())
}

/// Offers that are refused: what is wrong, status and code.
pub fn refused() -> Vec<(&'static str, String, u16, &'static str)> {
    let candidates = "a=candidate:1 1 udp 2113937151 198.51.100.7 50000 typ host\r\n".repeat(900);
    vec![
        ("empty", String::new(), 400, "invalid_sdp"),
        ("no SDP", "hello".into(), 400, "invalid_sdp"),
        ("JSON", "{\"type\":\"offer\"}".into(), 400, "invalid_sdp"),
        ("audio", audio_only(), 422, "no_video"),
        ("unknown codec", vp8_only(), 422, "codec_not_offered"),
        ("no fingerprint", without("a=fingerprint"), 422, "unsupported_offer"),
        ("no ICE credentials", without("a=ice-"), 422, "unsupported_offer"),
        ("a million bytes", BROWSER.to_owned() + &"a=x\r\n".repeat(20_000), 413, "body_too_large"),
        ("hundreds of candidates", BROWSER.to_owned() + &candidates, 400, "invalid_sdp"),
    ]
}
