//! The host and port of an input's URL, and the networks that no input may be in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use url::Url;

/// Where a URL leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A literal address.
    Literal(SocketAddr),
    /// A name to look up.
    Name { host: String, port: u16 },
}

impl Address {
    /// `None` without a host.
    pub(super) fn of(url: &Url) -> Option<Self> {
        let host = bare_host(url)?;
        let port = url.port_or_known_default().unwrap_or(match url.scheme() {
            "rtsps" => RTSPS_PORT,
            _ => RTSP_PORT,
        });
        Some(match host.parse::<IpAddr>() {
            Ok(ip) => Self::Literal(SocketAddr::new(ip, port)),
            Err(_) => Self::Name { host: host.to_owned(), port },
        })
    }
}

/// The host, without the brackets of an IPv6 address: so it stands in a certificate.
pub(super) fn bare_host(url: &Url) -> Option<&str> {
    url.host_str()
        .map(|host| host.trim_start_matches('[').trim_end_matches(']'))
        .filter(|host| !host.is_empty())
}

/// A sentence for the operator if `ip` is in one of these networks.
///
/// An IPv4 address in IPv6 clothes is the IPv4 address, and the unspecified address is this machine, as Linux connects
/// there.
pub(super) fn denial(denied: &[IpNet], ip: IpAddr) -> Option<String> {
    let ip = ip.to_canonical();
    let reached = match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let network = denied.iter().find(|network| network.contains(&ip) || network.contains(&reached))?;
    Some(format!("the address {ip} is in {network}, which source.deny_networks forbids"))
}

/// RFC 2326 section 3.2.
const RTSP_PORT: u16 = 554;
/// RFC 7826 section 4.2.
const RTSPS_PORT: u16 = 322;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_literal_addresses_from_names() {
        let of = |url: &str| Address::of(&Url::parse(url).unwrap());
        let literal = |address: &str| Some(Address::Literal(address.parse().unwrap()));
        assert_eq!(of("rtsp://192.0.2.7/x"), literal("192.0.2.7:554"));
        assert_eq!(of("rtsp://192.0.2.7:8554/x"), literal("192.0.2.7:8554"));
        assert_eq!(of("rtsp://[2001:db8::7]/x"), literal("[2001:db8::7]:554"));
        assert_eq!(of("rtsps://192.0.2.7/x"), literal("192.0.2.7:322"));
        assert_eq!(of("https://192.0.2.7/x"), literal("192.0.2.7:443"));
        assert_eq!(of("rtsp://cam.example:99"), Some(Address::Name { host: "cam.example".into(), port: 99 }));
        assert_eq!(of("rtsp:///x"), None);
        assert_eq!(of("file:///x"), None);
    }

    #[test]
    fn a_denied_network_is_named_whatever_the_address_wears() {
        let denied: Vec<IpNet> =
            ["10.0.0.0/8", "127.0.0.0/8", "::1/128", "fc00::/7"].map(|net| net.parse().unwrap()).into();
        let of = |ip: &str| denial(&denied, ip.parse().unwrap());
        let sentence = "the address 10.1.2.3 is in 10.0.0.0/8, which source.deny_networks forbids";
        assert_eq!(of("10.1.2.3").as_deref(), Some(sentence));
        assert_eq!(of("::ffff:10.1.2.3").as_deref(), Some(sentence));
        for ip in ["127.0.0.1", "0.0.0.0", "::ffff:0.0.0.0", "::", "::1", "fd00::1"] {
            assert!(of(ip).is_some(), "{ip}");
        }
        for ip in ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1"] {
            assert_eq!(of(ip), None);
        }
    }
}
