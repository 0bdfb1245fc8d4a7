//! The UDP destinations of a shard: one slot a viewer, hot in the cache, nothing else in it.

use std::net::SocketAddr;

#[cfg(test)]
use crate::socket::canonical;
use crate::socket::mapped;

/// Sends under way to one destination; a viewer that has more is not sent to.
///
/// A send completes at once unless the device is slower than we are, so this is the depth of its queue:
/// 64 runs are about a second of 4 Mb/s video at 30 pictures a second, in two runs each.
const MAX_IN_FLIGHT: u16 = 64;

/// A destination's slot, as the owner of the viewer chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationId(pub u32);

/// All slots.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) address: libc::sockaddr_in6,
    in_flight: u16,
    generation: u8,
    live: bool,
    segmented: bool,
}

impl Destinations {
    pub(crate) fn set(&mut self, id: DestinationId, address: SocketAddr) {
        let index = id.0 as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::EMPTY);
        }
        let slot = &mut self.slots[index];
        if !slot.live {
            // Completions of the slot's former owner carry the old generation and are not counted here.
            *slot =
                Slot { live: true, generation: slot.generation.wrapping_add(1), in_flight: 0, ..Slot::EMPTY };
        }
        slot.address = sockaddr(address);
        // Another address is another path.
        slot.segmented = true;
    }

    /// False once the path to this destination refused a segmented send.
    pub(crate) fn is_segmented(&self, id: DestinationId) -> bool {
        self.slots.get(id.0 as usize).is_some_and(|slot| slot.segmented)
    }

    /// Packets go to this destination one by one.
    pub(crate) fn turn_segmentation_off(&mut self, id: DestinationId) {
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            slot.segmented = false;
        }
    }

    pub(crate) fn clear(&mut self, id: DestinationId) {
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            slot.live = false;
        }
    }

    #[cfg(test)]
    pub(crate) fn address(&self, id: DestinationId) -> Option<SocketAddr> {
        let slot = self.slots.get(id.0 as usize).filter(|slot| slot.live)?;
        let ip = std::net::Ipv6Addr::from(slot.address.sin6_addr.s6_addr);
        Some(canonical(SocketAddr::new(ip.into(), u16::from_be(slot.address.sin6_port))))
    }

    /// True if it is there and not full.
    pub(crate) fn has_room(&self, id: DestinationId) -> bool {
        self.slots.get(id.0 as usize).is_some_and(|slot| slot.live && slot.in_flight < MAX_IN_FLIGHT)
    }

    /// Takes a place in flight for `sends`: the slot and its generation, or `None` if it is full or not there.
    pub(crate) fn take(&mut self, id: DestinationId, sends: u16) -> Option<(&libc::sockaddr_in6, u8)> {
        let slot =
            self.slots.get_mut(id.0 as usize).filter(|slot| slot.live && slot.in_flight < MAX_IN_FLIGHT)?;
        slot.in_flight += sends;
        Some((&slot.address, slot.generation))
    }

    /// Gives one back; true if the destination is still the one that took it.
    pub(crate) fn give_back(&mut self, id: DestinationId, generation: u8) -> bool {
        match self.slots.get_mut(id.0 as usize) {
            Some(slot) if slot.live && slot.generation == generation => {
                slot.in_flight = slot.in_flight.saturating_sub(1);
                true
            }
            _ => false,
        }
    }
}

impl Slot {
    const EMPTY: Self = Self {
        address: libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as libc::sa_family_t,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
        in_flight: 0,
        generation: 0,
        live: false,
        segmented: true,
    };
}

/// The kernel's form, IPv4 as IPv4-mapped IPv6.
pub(crate) fn sockaddr(address: SocketAddr) -> libc::sockaddr_in6 {
    let mut out = Slot::EMPTY.address;
    let SocketAddr::V6(address) = mapped(address) else { return out };
    out.sin6_port = address.port().to_be();
    out.sin6_addr.s6_addr = address.ip().octets();
    out.sin6_scope_id = address.scope_id();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_with_too_much_in_flight_is_not_sent_to() {
        let mut destinations = Destinations::default();
        let id = DestinationId(3);
        destinations.set(id, "192.0.2.1:9".parse().unwrap());
        for _ in 0..MAX_IN_FLIGHT {
            assert!(destinations.take(id, 1).is_some());
        }
        assert!(destinations.take(id, 1).is_none());
        let generation = destinations.slots[3].generation;
        assert!(destinations.give_back(id, generation));
        assert!(destinations.take(id, 1).is_some());
    }

    #[test]
    fn completions_of_a_former_owner_do_not_count_for_the_next() {
        let mut destinations = Destinations::default();
        let id = DestinationId(0);
        destinations.set(id, "192.0.2.1:9".parse().unwrap());
        let (_, old) = destinations.take(id, 1).unwrap();
        destinations.clear(id);
        assert_eq!(destinations.address(id), None);
        destinations.set(id, "192.0.2.2:9".parse().unwrap());
        assert!(!destinations.give_back(id, old));
        assert_eq!(destinations.address(id), Some("192.0.2.2:9".parse().unwrap()));
    }
}
