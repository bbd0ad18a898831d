//! Telling the neighbours where the address is, and hearing who says otherwise.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use smsc_raft::leadership::MonoTime;

use super::floating_ip::{Binding, Inner, MacAddress};

/// How often at most a foreign claim of an address is answered (RFC 5227 section 2.4 is even slower; a client that
/// follows the wrong host is without service).
const DEFEND_INTERVAL: Duration = Duration::from_secs(1);
/// Neighbours asked one by one with each announcement; the others have the announcement itself.
const ASKED_MAX: usize = 256;
/// Addresses of no network (RFC 5737, RFC 3849): the way to them is the way to the default gateway.
const BEYOND: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// What the links look like together.
pub(super) struct Links {
    /// One came up or has a new hardware address.
    pub(super) changed: bool,
    /// Every interface that carries an address is up, with carrier.
    pub(super) all_up: bool,
}

/// The announcing side of a hold.
pub(super) struct Herald {
    links: Vec<LinkState>,
    /// Neighbours that are asked directly: the gateway, and the way to each client that is known.
    hops: Vec<Vec<IpAddr>>,
    clients_known: usize,
    announced: bool,
}

/// What was last seen of the interface of a binding, and heard on it.
#[derive(Clone, Copy)]
struct LinkState {
    mac: Option<[u8; 6]>,
    carrier: bool,
    /// A host that was heard and has not been answered.
    rival: Option<[u8; 6]>,
    next_defence: MonoTime,
}

impl Herald {
    /// Begins at `now`; what was heard before is forgotten.
    pub(super) fn new(bindings: &[Binding], now: MonoTime) -> Self {
        for binding in bindings {
            if let Err(error) = binding.port.forget() {
                tracing::warn!(interface = binding.address.interface, %error, "cannot hear the other hosts");
            }
        }
        let unseen = LinkState { mac: None, carrier: false, rival: None, next_defence: now };
        Self {
            links: vec![unseen; bindings.len()],
            hops: vec![Vec::new(); bindings.len()],
            clients_known: 0,
            announced: false,
        }
    }

    /// Looks at every interface.
    pub(super) fn look_at_links(&mut self, inner: &Inner) -> Links {
        let mut seen = Links { changed: false, all_up: true };
        for (binding, state) in inner.bindings.iter().zip(&mut self.links) {
            let (mac, carrier) = match inner.link(&binding.address.interface) {
                // An interface of the same name that is another one carries no address of ours.
                Ok(link) => (link.mac, link.carrier && link.index == binding.link_index),
                Err(error) => {
                    tracing::error!(interface = binding.address.interface, %error, "cannot see the interface");
                    (state.mac, false)
                }
            };
            seen.changed |= carrier && (!state.carrier || state.mac != mac);
            seen.all_up &= carrier;
            (state.mac, state.carrier) = (mac, carrier);
        }
        seen
    }

    /// Announces every address, asks the neighbours that are known, and asks whether anybody else has it.
    pub(super) fn announce(&mut self, inner: &Inner) {
        // The first announcement is on the way to serving and waits for nothing.
        if self.announced {
            self.find_hops(inner);
        }
        for ((binding, link), hops) in inner.bindings.iter().zip(&self.links).zip(&self.hops) {
            if let (Some(mac), true) = (link.mac, link.carrier) {
                announce_on(binding, mac);
                for hop in hops {
                    // A neighbour that cannot be asked now is asked again with the next announcement.
                    let _ = binding.port.ask(mac, *hop);
                }
                // Whoever answers is heard by the thread that holds the address.
                let _ = binding.port.ask_who_else(mac);
            }
        }
        self.announced = true;
    }

    /// Answers hosts that were heard to use an address: at once, and then at most once a second.
    pub(super) fn defend(&mut self, inner: &Inner) {
        let now = MonoTime::now();
        for (binding, link) in inner.bindings.iter().zip(&mut self.links) {
            let Some(mac) = link.mac else {
                continue;
            };
            if let Some(rival) = inner.rival_on(binding, mac) {
                inner.note_conflict(binding.address.address, rival);
                link.rival = Some(rival);
            }
            if now < link.next_defence {
                continue;
            }
            if let Some(rival) = link.rival.take() {
                link.next_defence = now + DEFEND_INTERVAL;
                tracing::error!(
                    address = %binding.address.address,
                    other = %MacAddress(rival),
                    "another host uses the floating IP, so an old owner is not fenced: switch it off or remove the \
                     address there"
                );
                announce_on(binding, mac);
            }
        }
    }

    /// When a host that was heard too soon after the last answer is answered.
    pub(super) fn next_defence(&self) -> Option<MonoTime> {
        self.links.iter().filter(|link| link.rival.is_some()).map(|link| link.next_defence).min()
    }

    /// The neighbours by which the known clients and the rest of the world are reached.
    fn find_hops(&mut self, inner: &Inner) {
        let clients = inner.clients();
        if clients.len() == self.clients_known && self.clients_known > 0 {
            return;
        }
        self.clients_known = clients.len();
        for (binding, hops) in inner.bindings.iter().zip(&mut self.hops) {
            let mut found = BTreeSet::new();
            for to in BEYOND.iter().chain(&clients) {
                if to.is_ipv4() != binding.address.address.is_ipv4() || found.len() >= ASKED_MAX {
                    continue;
                }
                if let Ok(Some(hop)) = inner.next_hop(binding.link_index, *to) {
                    found.insert(hop);
                }
            }
            for beyond in BEYOND {
                found.remove(&beyond);
            }
            *hops = found.into_iter().collect();
        }
    }
}

fn announce_on(binding: &Binding, mac: [u8; 6]) {
    if let Err(error) = binding.port.announce(mac) {
        let (address, interface) = (binding.address.address, &binding.address.interface);
        tracing::warn!(%address, interface, %error, "could not announce the floating IP");
    }
}
