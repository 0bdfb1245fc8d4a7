//! How a setting's text becomes its value, or the end of a sentence that says why not. Which settings there are is the
//! business of `settings`.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::{CorsOrigins, LogFormat, StunServer, TcpBind};

pub(super) fn number<T: FromStr + PartialOrd + Display>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> {
    move |text| match text.trim().parse::<T>() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(format!("is no whole number from {} to {}", range.start(), range.end())),
    }
}

/// `off`, or what `parse` takes.
pub(super) fn unless_off<T>(
    parse: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |text| match text.trim() {
        "off" => Ok(None),
        text => parse(text).map(Some).map_err(|reason| format!("{reason}, nor off")),
    }
}

/// Whole seconds within a range.
pub(super) fn seconds_of(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| number(range.clone())(text).map(Duration::from_secs)
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    number(1..=300)(text).map(Duration::from_secs)
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("is neither true nor false".into()),
    }
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| "is no address and port, like 0.0.0.0:8009 or [::]:8009".into())
}

pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    text.trim().parse().map_err(|_| "is no IP address".into())
}

pub(super) fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let parse = |item: &str| match address(item) {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
            Err(format!("holds {ip}, which is nobody's address"))
        }
        Ok(ip) => Ok(ip.to_canonical()),
        Err(_) => Err(format!("holds {item:?}, which is no IP address")),
    };
    let addresses: Vec<IpAddr> = items(text).map(parse).collect::<Result<_, _>>()?;
    match addresses.len() <= PUBLIC_ADDRESSES_MAX {
        true => Ok(addresses),
        false => Err(format!("holds more than {PUBLIC_ADDRESSES_MAX} addresses")),
    }
}

/// Networks, or single addresses. One of IPv6 that holds IPv4 addresses in their mapped form counts as that of IPv4.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let parse = |item: &str| {
        let net = item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
        let net =
            net.map_err(|_| format!("holds {item:?}, which is no network like 169.254.0.0/16"))?.trunc();
        let bits = net.prefix_len().checked_sub(MAPPED_BITS);
        Ok(match (net.addr().to_canonical(), bits) {
            (ip @ IpAddr::V4(_), Some(bits)) if net.addr().is_ipv6() => IpNet::new(ip, bits).unwrap_or(net),
            _ => net,
        })
    };
    let networks: Vec<IpNet> = items(text).map(parse).collect::<Result<_, String>>()?;
    match networks.len() <= NETWORKS_MAX {
        true => Ok(networks),
        false => Err(format!("holds more than {NETWORKS_MAX} networks")),
    }
}

pub(super) fn folders(text: &str) -> Result<Vec<PathBuf>, String> {
    let folders: Vec<PathBuf> = items(text).map(PathBuf::from).collect();
    match folders.iter().find(|folder| !folder.is_absolute()) {
        Some(folder) => Err(format!("holds {}, which is no absolute path", folder.display())),
        None => Ok(folders),
    }
}

pub(super) fn stun_server(text: &str) -> Result<Option<StunServer>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let reason = || "is no host and port, like stun.example.org:3478 or [2001:db8::1]:3478".to_owned();
    let (host, port) = text.strip_prefix("stun:").unwrap_or(text).rsplit_once(':').ok_or_else(reason)?;
    let port = number(1..=u16::MAX)(port).map_err(|_| reason())?;
    // What a URL takes for a host; a bare IPv6 address it does not.
    match url::Host::parse(host) {
        Ok(_) => Ok(Some(StunServer { host: host.to_owned(), port })),
        Err(_) => Err(reason()),
    }
}

pub(super) fn tcp_bind(text: &str) -> Result<TcpBind, String> {
    match text.trim() {
        "auto" => Ok(TcpBind::Auto),
        "off" => Ok(TcpBind::Off),
        text => socket_address(text)
            .map(TcpBind::At)
            .map_err(|_| "is neither an address and port, like 0.0.0.0:5000, nor auto nor off".into()),
    }
}

pub(super) fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map_err(|error| format!("is no log filter: {error}"))?;
    Ok(text.to_owned())
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is neither text nor json".into()),
    }
}

pub(super) fn cors_origins(text: &str) -> Result<CorsOrigins, String> {
    let origins: Vec<&str> = items(text).collect();
    match origins.as_slice() {
        ["*"] => Ok(CorsOrigins::Any),
        ["none"] => Ok(CorsOrigins::Only(Vec::new())),
        origins => origins.iter().map(|text| origin(text)).collect::<Result<_, _>>().map(CorsOrigins::Only),
    }
}

/// What stands between commas.
pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

pub(super) fn origin(text: &str) -> Result<String, String> {
    let origin = Url::parse(text).ok().map(|url| url.origin().ascii_serialization());
    match origin {
        Some(origin) if origin == text.trim_end_matches('/').to_ascii_lowercase() => Ok(origin),
        _ => Err(format!("holds {text:?}, which is no origin like https://example.org")),
    }
}

/// Every address is held against each.
const NETWORKS_MAX: usize = 1024;
/// RFC 4291 section 2.5.5.2: the bits before an IPv4 address.
const MAPPED_BITS: u8 = 96;
/// Every viewer gets them all in its answer.
const PUBLIC_ADDRESSES_MAX: usize = 8;
