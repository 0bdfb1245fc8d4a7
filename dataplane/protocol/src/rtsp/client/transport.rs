//! `Transport` and `Session` headers (RFC 2326 sections 12.39 and 12.37), and who may send us datagrams.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Over what a track comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// Interleaved in the RTSP connection.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Value of `Transport` in SETUP over the RTSP connection.
pub(super) const REQUEST_TCP: &str = "RTP/AVP/TCP;unicast;interleaved=0-1";

/// Value of `Transport` in SETUP over UDP, to `rtp_port` and the one above.
pub(super) fn request_udp(rtp_port: u16) -> String {
    format!("RTP/AVP;unicast;client_port={rtp_port}-{}", rtp_port.saturating_add(1))
}

/// What a camera's `Transport` says; what is malformed in it is as if it were not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TransportReply {
    /// It names the lower transport TCP.
    pub(super) tcp: bool,
    /// Channels of RTP and RTCP.
    pub(super) interleaved: Option<[u8; 2]>,
    /// Ports of RTP and RTCP.
    pub(super) server_port: Option<[u16; 2]>,
    /// Where media comes from, if not from the RTSP server.
    pub(super) source: Option<IpAddr>,
}

impl TransportReply {
    pub(super) fn parse(value: &str) -> Self {
        let first = split_unquoted(value, ',').next().unwrap_or_default();
        let mut reply = Self::default();
        for (position, part) in split_unquoted(first, ';').map(str::trim).enumerate() {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                protocol if position == 0 => reply.tcp = protocol.ends_with("/tcp"),
                "interleaved" => reply.interleaved = pair(value, |first: u8| first.wrapping_add(1)),
                "server_port" => {
                    reply.server_port =
                        pair(value, |first: u16| first.wrapping_add(1)).filter(|ports| !ports.contains(&0));
                }
                "source" => reply.source = value.trim().parse().ok().filter(is_usable),
                _ => {}
            }
        }
        reply
    }

    /// The transport that was agreed on when `asked` was asked for.
    pub(super) fn agreed(&self, asked: Transport) -> Transport {
        match asked {
            Transport::Udp if self.tcp || self.interleaved.is_some() && self.server_port.is_none() => {
                Transport::Tcp
            }
            Transport::Tcp if !self.tcp && self.interleaved.is_none() && self.server_port.is_some() => {
                Transport::Udp
            }
            asked => asked,
        }
    }
}

/// Splits where no quotes are open; where they are never closed, they do not count.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let has_quotes = text.matches('"').count().is_multiple_of(2);
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"' && has_quotes;
        c == separator && !quoted
    })
}

/// `a-b`, `a` or `a-`.
fn pair<T: std::str::FromStr + Copy>(value: &str, next: impl Fn(T) -> T) -> Option<[T; 2]> {
    let (first, second) = value.split_once('-').unwrap_or((value, ""));
    let first = first.trim().parse().ok()?;
    Some([first, second.trim().parse().unwrap_or_else(|_| next(first))])
}

fn is_usable(address: &IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

/// What a camera's `Session` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionReply {
    pub(super) id: String,
    /// Where the camera tells one.
    pub(super) timeout: Option<Duration>,
}

impl SessionReply {
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split(';').map(str::trim);
        let id = parts.next().filter(|id| !id.is_empty())?.to_owned();
        let seconds = parts
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))
            .and_then(|(_, seconds)| seconds.trim().trim_matches('"').trim().parse::<u64>().ok())
            .filter(|seconds| *seconds > 0);
        let timeout = seconds.map(|seconds| Duration::from_secs(seconds).min(SESSION_TIMEOUT_MAX));
        Some(Self { id, timeout })
    }
}

/// Who may send us media over UDP, and where our datagrams go.
#[derive(Clone, Debug)]
pub(super) struct UdpPeer {
    camera: IpAddr,
    source: Option<IpAddr>,
    rtp: Option<SocketAddr>,
    rtcp: Option<SocketAddr>,
}

impl UdpPeer {
    /// As the camera at `camera` said in `reply`.
    pub(super) fn new(camera: IpAddr, reply: &TransportReply) -> Self {
        let ip = reply.source.unwrap_or(camera);
        let address = |port: u16| SocketAddr::new(ip, port);
        let ports = reply.server_port;
        Self {
            camera,
            source: reply.source,
            rtp: ports.map(|ports| address(ports[0])),
            rtcp: ports.map(|ports| address(ports[1])),
        }
    }

    /// Where RTP comes from and RTCP goes, once both are known.
    pub(super) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.rtp.zip(self.rtcp)
    }

    /// A datagram may come from any port of the camera, but not from elsewhere.
    pub(super) fn admits(&self, from: SocketAddr) -> bool {
        let ip = from.ip().to_canonical();
        ip == self.camera.to_canonical() || self.source.is_some_and(|source| source.to_canonical() == ip)
    }

    /// RTP came: the addresses, if they were not known and now are.
    pub(super) fn learn(&mut self, from: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
        if self.rtp.is_some() {
            return None;
        }
        self.rtp = Some(from);
        let above = SocketAddr::new(from.ip(), from.port().saturating_add(1));
        let rtcp = *self.rtcp.get_or_insert(above);
        Some((from, rtcp))
    }
}

/// RFC 2326 section 12.37.
pub(super) const SESSION_TIMEOUT: Duration = Duration::from_secs(60);
/// Longer promises are not believed: a dead session should not be kept for hours by hope.
const SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_cameras_write_in_transport() {
        let parse = TransportReply::parse;
        let tcp = parse("RTP/AVP/TCP;unicast;interleaved=2-3;ssrc=0x6f7c");
        assert_eq!((tcp.tcp, tcp.interleaved), (true, Some([2, 3])));
        assert_eq!(parse("RTP/AVP/TCP;unicast;interleaved=1-0").interleaved, Some([1, 0]));
        assert_eq!(parse("RTP/AVP/TCP; interleaved=4").interleaved, Some([4, 5]));
        assert_eq!(parse("RTP/AVP/TCP;interleaved=900-901").interleaved, None);
        let udp = parse("RTP/AVP;unicast;client_port=5000-5001; server_port=6000-6001;source=192.0.2.9");
        assert_eq!(udp.server_port, Some([6000, 6001]));
        assert_eq!(udp.source, Some("192.0.2.9".parse().unwrap()));
        let foreign = parse(
            "rtp/avp/tcp ; mode=\"PLAY,RECORD\";x=\"a;interleaved=1-2\"; INTERLEAVED = 6 - 7 ;, RTP/AVP;client_port=1",
        );
        assert_eq!((foreign.tcp, foreign.interleaved), (true, Some([6, 7])));
        assert_eq!(parse("RTP/AVP/TCP;mode=\"PLAY;interleaved=2-3").interleaved, Some([2, 3]));
        assert_eq!(parse("RTP/AVP;server_port=40000-40001,ssrc=1").server_port, Some([40000, 40001]));
        for broken in [
            "",
            ";;;",
            "RTP/AVP;server_port=",
            "RTP/AVP;server_port=0-0;source=cam",
            "RTP/AVP;source=0.0.0.0",
        ] {
            assert_eq!(parse(broken), TransportReply::default(), "{broken}");
        }
    }

    #[test]
    fn believes_the_reply_more_than_the_question() {
        let agreed = |asked, value| TransportReply::parse(value).agreed(asked);
        assert_eq!(agreed(Transport::Tcp, ""), Transport::Tcp);
        assert_eq!(agreed(Transport::Udp, "RTP/AVP;unicast"), Transport::Udp);
        assert_eq!(agreed(Transport::Tcp, "RTP/AVP;unicast;interleaved=0-1"), Transport::Tcp);
        assert_eq!(agreed(Transport::Tcp, "RTP/AVP;server_port=1000-1001"), Transport::Udp);
        assert_eq!(agreed(Transport::Udp, "RTP/AVP/TCP;interleaved=0-1"), Transport::Tcp);
    }

    #[test]
    fn reads_session_id_and_timeout() {
        let parse = |value| {
            SessionReply::parse(value).map(|reply| (reply.id, reply.timeout.map(|timeout| timeout.as_secs())))
        };
        assert_eq!(parse("12345678"), Some(("12345678".into(), None)));
        assert_eq!(parse("a ;timeout=10"), Some(("a".into(), Some(10))));
        assert_eq!(parse("a; Timeout = 30 ;x"), Some(("a".into(), Some(30))));
        assert_eq!(parse("a;timeout=\"15\""), Some(("a".into(), Some(15))));
        assert_eq!(parse("a;timeout=0"), Some(("a".into(), None)));
        assert_eq!(parse("a;timeout=18446744073709551615"), Some(("a".into(), Some(600))));
        assert_eq!(parse(";timeout=10"), None);
    }

    #[test]
    fn admits_the_camera_and_its_source_only() {
        let reply = TransportReply::parse("RTP/AVP;server_port=6000-6001;source=192.0.2.9");
        let mut peer = UdpPeer::new("192.0.2.7".parse().unwrap(), &reply);
        let admits = |peer: &UdpPeer, from: &str| peer.admits(from.parse().unwrap());
        assert!(admits(&peer, "192.0.2.9:6000") && admits(&peer, "192.0.2.7:1"));
        assert!(admits(&peer, "[::ffff:192.0.2.9]:6000"));
        assert!(!admits(&peer, "192.0.2.8:6000"));
        assert_eq!(peer.addresses().map(|(rtp, rtcp)| (rtp.port(), rtcp.port())), Some((6000, 6001)));
        assert_eq!(peer.learn("192.0.2.9:7000".parse().unwrap()), None);
    }

    #[test]
    fn learns_the_peer_that_the_reply_did_not_name() {
        let mut peer = UdpPeer::new("192.0.2.7".parse().unwrap(), &TransportReply::default());
        assert_eq!(peer.addresses(), None);
        let learnt = peer.learn("192.0.2.7:7000".parse().unwrap()).unwrap();
        assert_eq!((learnt.0.port(), learnt.1.port()), (7000, 7001));
    }
}
