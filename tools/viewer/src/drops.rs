//! What the kernel dropped on the receiving side: per socket (`/proc/net/udp`) and per host (`/proc/net/snmp`).
//!
//! A viewer whose socket dropped nothing, and that yet lost packets, was not sent them.

use std::collections::HashMap;
use std::fs;

use serde::Serialize;

/// Drops of each UDP socket, by local port. One drop is one buffer: with `UDP_GRO` that may be many packets.
pub fn by_port() -> HashMap<u16, u64> {
    let mut drops = HashMap::new();
    for file in ["/proc/net/udp", "/proc/net/udp6"] {
        // A host without IPv6 has no udp6.
        for (port, count) in fs::read_to_string(file).unwrap_or_default().lines().filter_map(parse_socket) {
            *drops.entry(port).or_default() += count;
        }
    }
    drops
}

/// The host's counters of what was lost on receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostDrops {
    /// `RcvbufErrors`: a socket's buffer was full.
    pub receive_buffer_errors: u64,
    /// `MemErrors`: the memory of all UDP sockets (`udp_mem`) was used up.
    pub memory_errors: u64,
    /// `NoPorts`: nobody had the port.
    pub no_ports: u64,
}

impl HostDrops {
    /// Reads them.
    pub fn read() -> Self {
        let snmp = fs::read_to_string("/proc/net/snmp").unwrap_or_default();
        let snmp6 = fs::read_to_string("/proc/net/snmp6").unwrap_or_default();
        let count = |name: &str| snmp_count(&snmp, name) + snmp6_count(&snmp6, name);
        Self {
            receive_buffer_errors: count("RcvbufErrors"),
            memory_errors: count("MemErrors"),
            no_ports: count("NoPorts"),
        }
    }

    /// What was added since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            receive_buffer_errors: self.receive_buffer_errors.saturating_sub(earlier.receive_buffer_errors),
            memory_errors: self.memory_errors.saturating_sub(earlier.memory_errors),
            no_ports: self.no_ports.saturating_sub(earlier.no_ports),
        }
    }
}

/// Local port and drops of one line: the second and the last field.
fn parse_socket(line: &str) -> Option<(u16, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((port, fields.next_back()?.parse().ok()?))
}

fn snmp_count(snmp: &str, name: &str) -> u64 {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let place = names.split(' ').position(|field| field == name);
    place.and_then(|place| values.split(' ').nth(place)?.parse().ok()).unwrap_or(0)
}

fn snmp6_count(snmp6: &str, name: &str) -> u64 {
    let mut lines = snmp6.lines().filter_map(|line| line.strip_prefix("Udp6")?.strip_prefix(name));
    lines.next().and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::receive::SocketOptions;
    use std::net::UdpSocket;

    #[test]
    fn a_line_gives_port_and_drops() {
        let line = " 7: 0100007F:1388 00000000:0000 07 0:0 00:0 0 0 0 12345 2 ffff888 42";
        assert_eq!(parse_socket(line), Some((5000, 42)));
        assert_eq!(parse_socket("  sl  local_address rem_address   st drops"), None);
    }

    #[test]
    fn counters_are_found_by_name() {
        let snmp = "Tcp: a b\nTcp: 1 2\nUdp: InDatagrams NoPorts RcvbufErrors\nUdp: 10 20 30\n";
        assert_eq!(snmp_count(snmp, "RcvbufErrors"), 30);
        assert_eq!(snmp_count(snmp, "MemErrors"), 0);
        assert_eq!(snmp6_count("Udp6NoPorts   \t 5\nUdp6RcvbufErrors  6\n", "RcvbufErrors"), 6);
    }

    #[test]
    fn a_socket_that_overflows_is_told_by_its_port() {
        let options = SocketOptions { buffer_bytes: 4096, gro: true, kernel_stamps: false };
        let receiving = options.open(([127, 0, 0, 1], 0).into()).expect("a socket");
        let address = receiving.local_addr().expect("an address");
        let sending = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
        for _ in 0..100 {
            sending.send_to(&[0; 1000], address).expect("sent");
        }
        assert!(by_port().get(&address.port()).is_some_and(|drops| *drops > 0));
    }
}
