//! The host and port of an RTSP URL.

use std::net::{IpAddr, SocketAddr};

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
        let host = url.host_str().filter(|host| !host.is_empty())?;
        let port = url.port().unwrap_or(RTSP_PORT);
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        Some(match literal {
            Ok(ip) => Self::Literal(SocketAddr::new(ip, port)),
            Err(_) => Self::Name { host: host.to_owned(), port },
        })
    }
}

/// RFC 2326 section 3.2.
const RTSP_PORT: u16 = 554;

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
        assert_eq!(of("rtsp://cam.example:99"), Some(Address::Name { host: "cam.example".into(), port: 99 }));
        assert_eq!(of("rtsp:///x"), None);
    }
}
