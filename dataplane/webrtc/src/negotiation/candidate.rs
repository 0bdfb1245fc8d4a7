//! `a=candidate` (RFC 8839 section 5.1; ICE-TCP: RFC 6544): ours as text, the viewer's out of text.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// One of our candidates (RFC 8839 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where.
    pub address: SocketAddr,
    /// How it came to be known.
    pub kind: CandidateKind,
}

/// Kinds of candidates, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateKind {
    /// An interface's address, or a public address that the operator configured.
    Host,
    /// What a STUN server saw; the related address is left out (privacy: RFC 8839 section 5.1 allows 0.0.0.0).
    ServerReflexive,
    /// ICE-TCP, passive (RFC 6544).
    TcpPassive,
}

/// A viewer's candidate; only UDP with an address counts (mDNS names are skipped).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteCandidate {
    /// Where.
    pub address: SocketAddr,
}

impl CandidateKind {
    /// RFC 8445 section 5.1.2.1: 126 for host, 100 for server-reflexive; TCP below both (RFC 6544 section 4.2).
    fn type_preference(self) -> u32 {
        match self {
            Self::Host => 126,
            Self::ServerReflexive => 100,
            Self::TcpPassive => 90,
        }
    }

    /// Another for each place in the list, the first best.
    fn local_preference(self, place: usize) -> u32 {
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        match self {
            Self::Host | Self::ServerReflexive => 0xffff_u32.saturating_sub(place),
            // RFC 6544 section 4.2: three bits of direction, 4 for passive, above thirteen of ours.
            Self::TcpPassive => 4 << 13 | 0x1fff_u32.saturating_sub(place),
        }
    }
}

/// The lines of all our candidates, and the one that says that there are no more.
pub(super) fn write_candidates(out: &mut String, candidates: &[Candidate]) {
    for place in 0..candidates.len() {
        out.push_str(&format!("a={}\r\n", Placed { candidates, place }));
    }
    out.push_str("a=end-of-candidates\r\n");
}

/// The one for `c=` and the port of `m=` (RFC 8839 section 4.2.1.2): UDP, host before others, IPv4 before IPv6.
pub(super) fn default_candidate(candidates: &[Candidate]) -> Option<SocketAddr> {
    let udp = candidates.iter().filter(|it| it.kind != CandidateKind::TcpPassive);
    udp.min_by_key(|it| (it.kind != CandidateKind::Host, it.address.is_ipv6())).map(|it| it.address)
}

/// A candidate at its place in the list.
struct Placed<'a> {
    candidates: &'a [Candidate],
    place: usize,
}

impl Placed<'_> {
    /// RFC 8445 section 5.1.1.3: the same for candidates of one kind and address, another for all else.
    fn foundation(&self) -> usize {
        let this = self.candidates[self.place];
        let same = |it: &Candidate| it.kind == this.kind && it.address.ip() == this.address.ip();
        self.candidates.iter().position(same).unwrap_or(self.place) + 1
    }

    /// RFC 8445 section 5.1.2.1, for component 1.
    fn priority(&self) -> u32 {
        let kind = self.candidates[self.place].kind;
        kind.type_preference() << 24 | kind.local_preference(self.place) << 8 | 255
    }
}

impl fmt::Display for Placed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Candidate { address, kind } = self.candidates[self.place];
        let transport = if kind == CandidateKind::TcpPassive { "tcp" } else { "udp" };
        let (foundation, priority) = (self.foundation(), self.priority());
        let (ip, port) = (address.ip(), address.port());
        write!(f, "candidate:{foundation} 1 {transport} {priority} {ip} {port} typ ")?;
        match kind {
            CandidateKind::Host => f.write_str("host"),
            CandidateKind::ServerReflexive if address.is_ipv6() => f.write_str("srflx raddr :: rport 9"),
            CandidateKind::ServerReflexive => f.write_str("srflx raddr 0.0.0.0 rport 9"),
            CandidateKind::TcpPassive => f.write_str("host tcptype passive"),
        }
    }
}

impl RemoteCandidate {
    /// Reads the value of `a=candidate:`; `None` for what we have no use for: TCP, other components than RTP's, names,
    /// addresses that we could not send to, and what cannot be read (RFC 8839 section 5.1: ignored).
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut fields = value.split_ascii_whitespace();
        let (_foundation, component, transport) = (fields.next()?, fields.next()?, fields.next()?);
        let (_priority, ip, port) = (fields.next()?, fields.next()?, fields.next()?);
        if component != "1" || !transport.eq_ignore_ascii_case("udp") || fields.next()? != "typ" {
            return None;
        }
        let ip = ip.parse::<IpAddr>().ok()?.to_canonical();
        let port = port.parse().ok().filter(|port| *port != 0)?;
        is_reachable(ip).then(|| Self { address: SocketAddr::new(ip, port) })
    }
}

/// One host's address, and not a link-local one: those need an interface that SDP cannot name.
fn is_reachable(ip: IpAddr) -> bool {
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    !(ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) || link_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(kind: CandidateKind, address: &str) -> Candidate {
        Candidate { kind, address: address.parse().unwrap() }
    }

    fn written(candidates: &[Candidate]) -> String {
        let mut out = String::new();
        write_candidates(&mut out, candidates);
        out
    }

    #[test]
    fn priorities_follow_the_list_and_the_kind() {
        let candidates = [
            ours(CandidateKind::Host, "192.0.2.1:5000"),
            ours(CandidateKind::Host, "[2001:db8::1]:5000"),
            ours(CandidateKind::ServerReflexive, "198.51.100.9:61000"),
            ours(CandidateKind::ServerReflexive, "[2001:db8::9]:61000"),
            ours(CandidateKind::TcpPassive, "192.0.2.1:8443"),
            ours(CandidateKind::Host, "192.0.2.1:5001"),
        ];
        assert_eq!(
            written(&candidates),
            "a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\n\
             a=candidate:2 1 udp 2130706175 2001:db8::1 5000 typ host\r\n\
             a=candidate:3 1 udp 1694498303 198.51.100.9 61000 typ srflx raddr 0.0.0.0 rport 9\r\n\
             a=candidate:4 1 udp 1694498047 2001:db8::9 61000 typ srflx raddr :: rport 9\r\n\
             a=candidate:5 1 tcp 1520434175 192.0.2.1 8443 typ host tcptype passive\r\n\
             a=candidate:1 1 udp 2130705151 192.0.2.1 5001 typ host\r\n\
             a=end-of-candidates\r\n"
        );
        let priorities: std::collections::HashSet<u32> =
            (0..candidates.len()).map(|place| Placed { candidates: &candidates, place }.priority()).collect();
        assert_eq!(priorities.len(), candidates.len(), "RFC 8445 section 5.1.2: unique");
    }

    #[test]
    fn the_default_is_a_host_address_of_ipv4_where_there_is_one() {
        let v6 = ours(CandidateKind::Host, "[2001:db8::1]:5000");
        let reflexive = ours(CandidateKind::ServerReflexive, "198.51.100.9:61000");
        let v4 = ours(CandidateKind::Host, "192.0.2.1:5000");
        let tcp = ours(CandidateKind::TcpPassive, "192.0.2.2:8443");
        assert_eq!(default_candidate(&[tcp, reflexive, v6, v4]), Some(v4.address));
        assert_eq!(default_candidate(&[tcp, reflexive, v6]), Some(v6.address));
        assert_eq!(default_candidate(&[tcp, reflexive]), Some(reflexive.address));
        assert_eq!(default_candidate(&[tcp]), None);
    }

    #[test]
    fn reads_udp_with_an_address_and_skips_the_rest() {
        let read = |value: &str| RemoteCandidate::parse(value).map(|it| it.address.to_string());
        assert_eq!(
            read("1 1 UDP 2113937151 192.0.2.7 57739 typ host generation 0 network-cost 999").as_deref(),
            Some("192.0.2.7:57739")
        );
        assert_eq!(
            read("x 1 udp 1 2001:db8::7 9 typ srflx raddr :: rport 9").as_deref(),
            Some("[2001:db8::7]:9")
        );
        assert_eq!(read("x 1 udp 1 ::ffff:192.0.2.7 4000 typ host").as_deref(), Some("192.0.2.7:4000"));
        for skipped in [
            "",
            "1 1 udp 1 192.0.2.7 4000",
            "1 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active",
            "1 2 udp 1 192.0.2.7 4000 typ host",
            "1 1 udp 1 32bdc7f2-c47a-4580-b6df-38ecd8419d30.local 4000 typ host",
            "1 1 udp 1 viewer.example 4000 typ host",
            "1 1 udp 1 192.0.2.7 0 typ host",
            "1 1 udp 1 192.0.2.7 70000 typ host",
            "1 1 udp 1 0.0.0.0 4000 typ host",
            "1 1 udp 1 224.0.0.1 4000 typ host",
            "1 1 udp 1 ff02::1 4000 typ host",
            "1 1 udp 1 fe80::fc:ff:fe00:1 4000 typ host",
            "1 1 udp 1 255.255.255.255 4000 typ host",
        ] {
            assert_eq!(read(skipped), None, "{skipped}");
        }
    }
}
