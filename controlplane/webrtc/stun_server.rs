//! Keeps the shards' idea of the STUN server: its name is looked up at the start and now and then.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lanecast_shard::Command;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::StunServer;
use crate::control_plane::{ControlPlane, look_up};
use crate::http::told;

/// Looks the server up again and again and tells the shards where it is, until the server is told to stop.
pub async fn follow_stun_server(control: Arc<ControlPlane>, server: StunServer, udp_bind: IpAddr) {
    let mut stopping = control.stopping();
    tokio::select! {
        () = told(&mut stopping) => {}
        () = follow(&control, &server, udp_bind) => {}
    }
}

async fn follow(control: &ControlPlane, server: &StunServer, udp_bind: IpAddr) {
    let mut known = None;
    loop {
        let found = find(server, udp_bind).await;
        // A name that cannot be found now is no reason to forget where it was.
        if found.is_some() && found != known && tell(control, found).await {
            info!(host = server.host, address = ?found, "the STUN server");
            known = found;
        }
        sleep(if found.is_some() && found == known { LOOK_UP_PERIOD } else { RETRY_PERIOD }).await;
    }
}

async fn find(server: &StunServer, udp_bind: IpAddr) -> Option<SocketAddr> {
    match look_up(&server.host, server.port).await {
        Ok(addresses) => reachable(&addresses, udp_bind),
        Err(reason) => {
            warn!(host = server.host, reason, "the STUN server cannot be found");
            None
        }
    }
}

/// True if every shard that lives took it.
async fn tell(control: &ControlPlane, address: Option<SocketAddr>) -> bool {
    let mut all = true;
    for shard in control.living_shards() {
        all &= shard.deliver(Command::UseStunServer { address }).await.is_ok();
    }
    all
}

/// The first address that the shards' sockets can send to, IPv4 before IPv6: it is IPv4 that has NATs.
fn reachable(addresses: &[SocketAddr], udp_bind: IpAddr) -> Option<SocketAddr> {
    let takes_v6 = udp_bind.is_ipv6();
    let takes_v4 = udp_bind.is_ipv4() || udp_bind.is_unspecified();
    let v4 = addresses.iter().find(|address| takes_v4 && address.is_ipv4());
    v4.or_else(|| addresses.iter().find(|address| takes_v6 && address.is_ipv6())).copied()
}

/// A public server's address may move, but not every minute.
const LOOK_UP_PERIOD: Duration = Duration::from_secs(600);
/// A server that started before its network has it soon after.
const RETRY_PERIOD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_is_one_that_the_sockets_have() {
        let addresses: Vec<SocketAddr> =
            ["[2001:db8::1]:3478", "192.0.2.1:3478"].iter().map(|text| text.parse().unwrap()).collect();
        let of = |bind: &str| reachable(&addresses, bind.parse().unwrap());
        assert_eq!(of("::"), Some(addresses[1]));
        assert_eq!(of("0.0.0.0"), Some(addresses[1]));
        assert_eq!(of("2001:db8::2"), Some(addresses[0]));
        assert_eq!(reachable(&addresses[..1], "0.0.0.0".parse().unwrap()), None);
    }
}
