//! Our candidates in an answer: where the shard of a stream can be reached (RFC 8445 section 5.1.1, RFC 6544).
//!
//! Public addresses of the settings first, then the interfaces', then what a STUN server saw, then ICE-TCP.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lanecast_webrtc::negotiation::{Candidate, CandidateKind};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use tokio::time::Instant;
use tracing::warn;

/// Where the sockets listen, as the settings and the system have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Address of the shards' UDP sockets.
    pub udp_bind: IpAddr,
    /// Address and port of ICE-TCP; `None`: off.
    pub tcp: Option<SocketAddr>,
    /// Addresses that the world has for ours.
    pub public_addresses: Vec<IpAddr>,
}

/// Makes candidates.
#[derive(Debug)]
pub struct Candidates {
    listening: Listening,
    interfaces: Mutex<Option<(Instant, Vec<IpAddr>)>>,
}

impl Candidates {
    /// For sockets that listen there.
    pub fn new(listening: Listening) -> Self {
        Self { listening, interfaces: Mutex::new(None) }
    }

    /// All candidates of a shard for a client that came from this address, best first.
    pub fn of_shard(
        &self,
        udp_port: u16,
        reflexive: Option<SocketAddr>,
        client: Option<IpAddr>,
    ) -> Vec<Candidate> {
        candidates(&self.listening, &self.interface_addresses(), udp_port, reflexive, client)
    }

    /// The addresses of the interfaces that are up, not older than [`INTERFACES_AGE_MAX`].
    fn interface_addresses(&self) -> Vec<IpAddr> {
        let mut kept = self.interfaces.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.as_ref() {
            Some((read, addresses)) if read.elapsed() < INTERFACES_AGE_MAX => addresses.clone(),
            _ => {
                let addresses = read_interfaces();
                *kept = Some((Instant::now(), addresses.clone()));
                addresses
            }
        }
    }
}

fn candidates(
    listening: &Listening,
    interfaces: &[IpAddr],
    udp_port: u16,
    reflexive: Option<SocketAddr>,
    client: Option<IpAddr>,
) -> Vec<Candidate> {
    let mut found = Vec::new();
    let udp = addresses(listening, listening.udp_bind, interfaces, client);
    found.extend(udp.into_iter().map(|ip| (SocketAddr::new(ip, udp_port), CandidateKind::Host)));
    found.extend(reflexive.map(|address| (address, CandidateKind::ServerReflexive)));
    if let Some(bound) = listening.tcp {
        let tcp = addresses(listening, bound.ip(), interfaces, client);
        found
            .extend(tcp.into_iter().map(|ip| (SocketAddr::new(ip, bound.port()), CandidateKind::TcpPassive)));
    }
    found.into_iter().map(|(address, kind)| Candidate { address, kind }).collect()
}

/// Addresses at which a socket with this bind address can be reached, best first, none twice.
fn addresses(
    listening: &Listening,
    bind: IpAddr,
    interfaces: &[IpAddr],
    client: Option<IpAddr>,
) -> Vec<IpAddr> {
    let local: Vec<IpAddr> = match bind.is_unspecified() {
        true => interfaces.iter().copied().filter(|ip| takes(bind, *ip)).collect(),
        false => vec![bind],
    };
    let (mut loopback, hosts): (Vec<_>, Vec<_>) = local.into_iter().partition(IpAddr::is_loopback);
    let mut all: Vec<IpAddr> = listening.public_addresses.clone();
    all.extend(hosts.into_iter().filter(|ip| is_usable(*ip)));
    if let Some(client) = client.filter(IpAddr::is_loopback) {
        loopback.sort_by_key(|ip| ip.is_ipv4() != client.is_ipv4());
        all.splice(0..0, loopback);
    } else if all.is_empty() {
        all = loopback;
    }
    let mut seen = Vec::new();
    all.retain(|ip| {
        !seen.contains(ip) && {
            seen.push(*ip);
            true
        }
    });
    all.truncate(ADDRESSES_MAX);
    all
}

/// An unspecified IPv6 address is dual-stack.
fn takes(unspecified: IpAddr, ip: IpAddr) -> bool {
    unspecified.is_ipv6() || ip.is_ipv4()
}

/// A link-local IPv6 address means nothing without its scope, and SDP has no place for that.
fn is_usable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => !ip.is_unspecified(),
        IpAddr::V6(v6) => {
            !v6.is_unicast_link_local() && !v6.is_unspecified() && v6.to_ipv4_mapped().is_none()
        }
    }
}

fn read_interfaces() -> Vec<IpAddr> {
    match getifaddrs() {
        Ok(interfaces) => interfaces
            .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
            .filter_map(|interface| ip_of(&interface.address?))
            .collect(),
        Err(error) => {
            warn!(%error, "the interfaces' addresses cannot be read");
            Vec::new()
        }
    }
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// Addresses come and go in seconds at most; a thousand joins a second shall not ask the kernel each.
const INTERFACES_AGE_MAX: Duration = Duration::from_secs(1);
/// A browser pairs every one with each of its own; a machine with hundreds of bridges would drown it.
const ADDRESSES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn listening(udp_bind: &str, tcp: Option<&str>, public: &[&str]) -> Listening {
        Listening {
            udp_bind: ip(udp_bind),
            tcp: tcp.map(|address| address.parse().unwrap()),
            public_addresses: public.iter().map(|text| ip(text)).collect(),
        }
    }

    const INTERFACES: [&str; 6] = ["127.0.0.1", "10.0.0.5", "::1", "fe80::1", "2001:db8::5", "169.254.1.1"];

    fn shown(listening: &Listening, client: Option<&str>) -> Vec<String> {
        let interfaces = INTERFACES.map(ip);
        let reflexive = Some("198.51.100.1:777".parse().unwrap());
        candidates(listening, &interfaces, 5001, reflexive, client.map(ip))
            .into_iter()
            .map(|candidate| {
                let kind = match candidate.kind {
                    CandidateKind::Host => "host",
                    CandidateKind::ServerReflexive => "srflx",
                    CandidateKind::TcpPassive => "tcp",
                };
                format!("{} {kind}", candidate.address)
            })
            .collect()
    }

    #[test]
    fn public_addresses_come_first_and_tcp_last() {
        let listening = listening("::", Some("0.0.0.0:5000"), &["203.0.113.9"]);
        assert_eq!(
            shown(&listening, Some("203.0.113.77")),
            [
                "203.0.113.9:5001 host",
                "10.0.0.5:5001 host",
                "[2001:db8::5]:5001 host",
                "169.254.1.1:5001 host",
                "198.51.100.1:777 srflx",
                "203.0.113.9:5000 tcp",
                "10.0.0.5:5000 tcp",
                "169.254.1.1:5000 tcp",
            ]
        );
    }

    #[test]
    fn a_client_of_this_machine_gets_loopback_first() {
        let listening = listening("::", None, &["203.0.113.9"]);
        assert_eq!(
            shown(&listening, Some("127.0.0.1"))[..3],
            ["127.0.0.1:5001 host", "[::1]:5001 host", "203.0.113.9:5001 host"]
        );
        assert_eq!(shown(&listening, Some("::1"))[..2], ["[::1]:5001 host", "127.0.0.1:5001 host"]);
        assert!(shown(&listening, None).iter().all(|shown| !shown.starts_with("127.")));
    }

    #[test]
    fn loopback_alone_is_better_than_nothing() {
        let listening = listening("0.0.0.0", None, &[]);
        let found =
            candidates(&listening, &[ip("127.0.0.1"), ip("fe80::1")], 5000, None, Some(ip("10.1.1.1")));
        assert_eq!(found.len(), 1);
        assert!(found[0].address.ip().is_loopback());
    }

    #[test]
    fn a_specific_bind_address_is_the_only_one() {
        let listening = listening("10.0.0.5", Some("127.0.0.1:0"), &[]);
        let shown = shown(&listening, None);
        assert_eq!(shown, ["10.0.0.5:5001 host", "198.51.100.1:777 srflx", "127.0.0.1:0 tcp"]);
    }

    #[test]
    fn an_address_is_named_once_and_there_are_not_hundreds() {
        let public = listening("0.0.0.0", None, &["10.0.0.5", "10.0.0.5"]);
        assert_eq!(shown(&public, None).iter().filter(|shown| shown.starts_with("10.0.0.5")).count(), 1);
        let many: Vec<IpAddr> = (0..=255).map(|last| IpAddr::from([172, 17, 0, last])).collect();
        assert_eq!(candidates(&public, &many, 5000, None, None).len(), ADDRESSES_MAX);
    }

    #[test]
    fn this_machine_has_an_address() {
        let found = Candidates::new(listening("::", None, &[])).of_shard(5000, None, Some(ip("127.0.0.1")));
        assert!(found.iter().any(|candidate| candidate.address.ip().is_loopback()), "{found:?}");
    }
}
