//! Where the RTP of a `t5rtp` punch may go (wire contract section 3).
//!
//! All addresses are canonical here: an IPv4 address that a dual-stack socket gives as IPv6 is IPv4.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// What a `t5rtp` punch comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    /// Where RTP goes.
    pub(super) address: SocketAddr,
    /// The port that the client listens on, for the SDP.
    pub(super) client_port: u16,
}

impl Destination {
    /// The destination that a punch `from` there asks for, where `peer` is at the other end of the WebSocket.
    /// `None` if it is refused: no port where one is needed, no unicast address, or an address that is not the
    /// peer's while the operator does not allow it.
    pub(super) fn of_punch(
        peer: SocketAddr,
        from: SocketAddr,
        client_port: Option<u16>,
        allow_foreign: bool,
    ) -> Option<Self> {
        let foreign = peer.ip() != from.ip();
        // Behind a proxy on a private address the peer is the proxy; the operator who says so wants the client.
        let to_origin = !is_private(peer.ip()) || foreign && allow_foreign;
        let address = if !to_origin {
            let mut address = peer;
            address.set_port(client_port?);
            address
        } else if !foreign || allow_foreign {
            from
        } else {
            return None;
        };
        is_unicast(address)
            .then_some(Self { address, client_port: client_port.unwrap_or_else(|| address.port()) })
    }
}

/// `address` as IPv4 where it is one; without flow label, and with a scope only where one is needed, so that
/// equal destinations are equal.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match (address, address.ip().to_canonical()) {
        (SocketAddr::V6(v6), IpAddr::V6(ip)) => {
            let scope_id = if ip.is_unicast_link_local() { v6.scope_id() } else { 0 };
            SocketAddrV6::new(ip, v6.port(), 0, scope_id).into()
        }
        (_, ip) => SocketAddr::new(ip, address.port()),
    }
}

/// Can RTP be sent there at all?
pub(super) fn is_unicast(address: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// Loopback, RFC 1918, link-local (RFC 3927, RFC 4291) or unique-local (RFC 4193).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        canonical(text.parse().unwrap())
    }

    fn of(
        peer: &str,
        from: &str,
        client_port: Option<u16>,
        allow_foreign: bool,
    ) -> Option<(SocketAddr, u16)> {
        Destination::of_punch(at(peer), at(from), client_port, allow_foreign)
            .map(|destination| (destination.address, destination.client_port))
    }

    #[test]
    fn a_private_peer_is_sent_to_the_port_it_names() {
        for ip in ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.0.9", "169.254.7.7", "[::1]", "[fd00::1]"]
        {
            let (peer, from) = (format!("{ip}:40000"), format!("{ip}:40001"));
            assert_eq!(of(&peer, &from, Some(6000), false), Some((at(&format!("{ip}:6000")), 6000)), "{ip}");
            assert_eq!(of(&peer, &from, None, false), None, "{ip}: the port is missing");
        }
    }

    #[test]
    fn a_private_peer_may_punch_from_another_address_but_does_not_change_where_rtp_goes() {
        let expected = Some((at("192.168.0.9:6000"), 6000));
        assert_eq!(of("192.168.0.9:40000", "10.0.0.1:1", Some(6000), false), expected);
        assert_eq!(of("192.168.0.9:40000", "203.0.113.1:1", Some(6000), false), expected);
    }

    #[test]
    fn a_link_local_destination_keeps_its_interface() {
        let of_scope =
            |port, scope| SocketAddr::from(SocketAddrV6::new("fe80::1".parse().unwrap(), port, 9, scope));
        let (peer, from) = (canonical(of_scope(40000, 3)), canonical(of_scope(40001, 3)));
        let destination = Destination::of_punch(peer, from, Some(6000), false).unwrap();
        assert_eq!(destination.address, SocketAddrV6::new("fe80::1".parse().unwrap(), 6000, 0, 3).into());
    }

    #[test]
    fn any_other_peer_is_sent_to_where_it_punched_from() {
        for ip in ["203.0.113.5", "100.64.0.1", "[2001:db8::5]"] {
            let (peer, from) = (format!("{ip}:40000"), format!("{ip}:40001"));
            assert_eq!(of(&peer, &from, Some(6000), false), Some((at(&from), 6000)), "{ip}");
            assert_eq!(of(&peer, &from, None, false), Some((at(&from), 40001)), "{ip}");
        }
    }

    #[test]
    fn no_reflection_without_the_operators_word() {
        assert_eq!(of("203.0.113.5:40000", "198.51.100.1:53", Some(6000), false), None);
        assert_eq!(
            of("203.0.113.5:40000", "198.51.100.1:53", Some(6000), true),
            Some((at("198.51.100.1:53"), 6000))
        );
    }

    #[test]
    fn behind_a_proxy_the_operator_can_have_it_sent_to_the_client() {
        let expected = Some((at("203.0.113.5:40001"), 6000));
        assert_eq!(of("127.0.0.1:40000", "203.0.113.5:40001", Some(6000), true), expected);
        assert_eq!(
            of("127.0.0.1:40000", "127.0.0.1:40001", Some(6000), true),
            Some((at("127.0.0.1:6000"), 6000))
        );
    }

    #[test]
    fn ipv4_in_ipv6_is_ipv4() {
        assert_eq!(at("[::ffff:203.0.113.5]:7"), at("203.0.113.5:7"));
        let expected = Some((at("192.168.0.9:6000"), 6000));
        assert_eq!(of("[::ffff:192.168.0.9]:1", "192.168.0.9:2", Some(6000), false), expected);
        let expected = Some((at("203.0.113.5:2"), 2));
        assert_eq!(of("203.0.113.5:1", "[::ffff:203.0.113.5]:2", None, false), expected);
    }

    #[test]
    fn what_is_no_unicast_destination_is_refused() {
        for from in
            ["224.0.0.1:5", "255.255.255.255:5", "0.0.0.0:5", "[ff02::1]:5", "[::]:5", "203.0.113.5:0"]
        {
            assert_eq!(of("203.0.113.5:1", from, Some(6000), true), None, "{from}");
        }
    }
}
