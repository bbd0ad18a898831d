//! Connection requests that come while nobody has the address, kept for the next owner.
//!
//! An ESME that is unbound connects again at once, often before the successor has the address; others begin to connect
//! when they please, also while a dead owner's address moves. Nobody can answer them then: refused, they come back when
//! they please; not heard, their kernel tries again only after a second. So the old owner, or its guard, listens for such
//! requests from when it answers no more, and hands them to the new owner as soon as that announces itself: the frame as
//! it came, to the new owner's hardware address. It answers none of them, and the new owner answers the client itself.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use smsc_raft::leadership::MonoTime;
use socket2::{Domain, SockFilter, Socket, Type};

use super::checksum::{self, IPPROTO_TCP};
use super::error::HaError;
use super::link::{AF_PACKET, LinkPort, hardware_address, own_hardware_addresses, wait_any_readable};
use super::tap::hear_everything;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERNET_LEN: usize = 14;
const IPV6_HEADER_LEN: usize = 40;
const TCP_HEADER_LEN: usize = 20;
const TCP_CHECKSUM_AT: usize = 16;

/// Longer than any request to connect, whose headers are at most 60 and 60 octets.
const FRAME_LEN_MAX: usize = 256;
/// Room for some thousand requests.
const RECEIVE_BUFFER: usize = 4 << 20;
/// How long the new owner may take to announce itself, and how long stragglers are passed on: neighbours that have not
/// heard the announcement yet go on sending here.
const PASS_ON_FOR: Duration = Duration::from_millis(500);

/// Keeps and passes on requests to connect to the addresses, on their interfaces.
pub struct Relay {
    ports: Vec<Port>,
}

/// One address.
struct Port {
    address: IpAddr,
    interface: String,
    /// Hears the new owner, and sends to it.
    link: LinkPort,
    /// Hears the requests.
    ear: Socket,
}

impl Relay {
    /// Opens the sockets, which hear nothing yet. Blocks for some milliseconds: opening a packet socket does.
    ///
    /// # Errors
    /// [`HaError::NoInterface`], [`HaError::Kernel`] if a socket cannot be had.
    pub(super) fn open<'a>(addresses: impl IntoIterator<Item = (IpAddr, &'a str)>) -> Result<Self, HaError> {
        let ports = addresses.into_iter().map(|(address, interface)| Port::open(address, interface));
        Ok(Self { ports: ports.collect::<Result<_, _>>()? })
    }

    /// Hears requests from now on, in microseconds.
    ///
    /// # Errors
    /// [`HaError::Kernel`].
    pub fn listen(&self) -> Result<(), HaError> {
        let heard = |port: &Port| port.link.forget().and_then(|()| hear_everything(&port.ear, &port.interface));
        self.ports.iter().try_for_each(heard).map_err(|source| HaError::kernel("listen on a packet socket", source))
    }

    /// Hands what came since it listens, and what still comes, to the host that announces itself as the owner of each
    /// address. To be called once the addresses are off this host. Blocks for half a second, or until `unless` can be
    /// read. Returns how many were passed on.
    pub fn pass_on(&self, unless: Option<BorrowedFd<'_>>) -> usize {
        let over = MonoTime::now() + PASS_ON_FOR;
        // Without these it cannot be told who is another host.
        let Ok(own) = own_hardware_addresses() else { return 0 };
        let macs: Vec<_> = self.ports.iter().map(|port| hardware_address(&port.interface).ok()).collect();
        let mut owners = vec![None; self.ports.len()];
        let mut passed = 0;
        loop {
            for ((port, mac), owner) in self.ports.iter().zip(&macs).zip(&mut owners) {
                let Some(mac) = mac else { continue };
                *owner = port.new_owner(*mac, &own).or(*owner);
                if let Some(owner) = *owner {
                    passed += port.pass_to(owner, *mac);
                }
            }
            let left = over.since(MonoTime::now());
            if left.is_zero() {
                return passed;
            }
            // Requests alone are nothing to wake up for while nobody is known who could answer them.
            let heard = self.ports.iter().zip(&owners).flat_map(|(port, owner)| {
                [Some(port.link.as_fd()), owner.map(|_: [u8; 6]| port.ear.as_fd())].into_iter().flatten()
            });
            if wait_any_readable(&heard.chain(unless).collect::<Vec<_>>(), left).is_err()
                || unless.is_some_and(|other| wait_any_readable(&[other], Duration::ZERO).unwrap_or(true))
            {
                return passed;
            }
        }
    }
}

impl Port {
    fn open(address: IpAddr, interface: &str) -> Result<Self, HaError> {
        let open = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::from(AF_PACKET), Type::RAW, None)?;
            socket.attach_filter(&requests_to(address))?;
            socket.set_nonblocking(true)?;
            // A smaller buffer loses some when thousands come at once: they try again after a second.
            let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
            Ok(socket)
        };
        let ear = open().map_err(|source| HaError::kernel(format!("open a packet socket on {interface}"), source))?;
        Ok(Self { address, interface: interface.to_owned(), link: LinkPort::open(interface, address)?, ear })
    }

    /// Another host that has announced itself since this was asked last.
    fn new_owner(&self, mac: [u8; 6], own: &BTreeSet<[u8; 6]>) -> Option<[u8; 6]> {
        let mut others = self.link.foreign_owners(mac).unwrap_or_default();
        others.retain(|other| !own.contains(other));
        others.pop_first()
    }

    /// Passes on everything that waits; returns how much that was.
    fn pass_to(&self, owner: [u8; 6], mac: [u8; 6]) -> usize {
        let mut passed = 0;
        while let Some((mut frame, length)) = receive(&self.ear) {
            let frame = &mut frame[..length];
            // What the owner itself sends here it does not want back: it would go round in circles.
            let from_owner = frame.get(6..12) == Some(&owner[..]);
            if !from_owner && readdress(frame, owner, mac, self.address) && self.link.send(frame).is_ok() {
                passed += 1;
            }
        }
        passed
    }
}

fn receive(ear: &Socket) -> Option<([u8; FRAME_LEN_MAX], usize)> {
    let mut frame = [0; FRAME_LEN_MAX];
    match (&*ear).read(&mut frame) {
        Ok(length) if length > 0 => Some((frame, length)),
        _ => None,
    }
}

/// Addresses the frame to `to`, with the checksum that a sender on a virtual link leaves to its hardware. The sender's
/// own hardware address would teach switches that it is here, so ours takes its place. Says whether it is whole.
fn readdress(frame: &mut [u8], to: [u8; 6], own: [u8; 6], address: IpAddr) -> bool {
    let Some((ethernet, packet)) = frame.split_at_mut_checked(ETHERNET_LEN) else { return false };
    ethernet[..6].copy_from_slice(&to);
    ethernet[6..12].copy_from_slice(&own);
    let (client, header, length): (IpAddr, usize, usize) = match address {
        IpAddr::V4(_) => {
            let Some(Ok(client)) = packet.get(12..16).map(<[u8; 4]>::try_from) else { return false };
            let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            (client.into(), usize::from(packet[0] & 0x0f) * 4, length)
        }
        IpAddr::V6(_) => {
            let Some(Ok(client)) = packet.get(8..24).map(<[u8; 16]>::try_from) else { return false };
            let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            (client.into(), IPV6_HEADER_LEN, IPV6_HEADER_LEN + length)
        }
    };
    // What Ethernet pads short frames with is no part of the packet.
    let Some(segment) = packet.get_mut(header..length).filter(|segment| segment.len() >= TCP_HEADER_LEN) else {
        return false;
    };
    segment[TCP_CHECKSUM_AT..TCP_CHECKSUM_AT + 2].fill(0);
    let sum = checksum::upper_layer(client, address, IPPROTO_TCP, segment);
    segment[TCP_CHECKSUM_AT..TCP_CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
    true
}

/// The socket's filter (classic BPF, packet(7)): TCP segments with SYN and without ACK to the address, sent to this
/// host. Frames of other VLANs are about another network.
fn requests_to(address: IpAddr) -> Vec<SockFilter> {
    const LOAD_WORD: u16 = 0x20;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HEADER_LEN: u16 = 0xb1;
    const LOAD_BYTE_BEHIND: u16 = 0x50;
    const AND: u16 = 0x54;
    const JUMP_EQ: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// SKF_AD_OFF with SKF_AD_PKTTYPE and SKF_AD_VLAN_TAG_PRESENT of linux/filter.h.
    const PACKET_TYPE: u32 = 0xffff_f000 + 4;
    const VLAN_TAG_PRESENT: u32 = 0xffff_f000 + 48;
    const PACKET_HOST: u32 = 0;
    const ETHERTYPE_AT: u32 = 12;
    const FRAGMENT_OFFSET: u32 = 0x1fff;
    const SYN_AND_ACK: u32 = 0x12;
    const SYN: u32 = 0x02;
    const FLAGS_AT: u32 = 13;
    const IP: u32 = 14;

    let load = |code, k| vec![SockFilter::new(code, 0, 0, k)];
    let ethertype = if address.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    // Each check: what to load, and what has to come out.
    let mut checks = vec![
        (load(LOAD_BYTE, PACKET_TYPE), PACKET_HOST),
        (load(LOAD_WORD, VLAN_TAG_PRESENT), 0),
        (load(LOAD_HALF, ETHERTYPE_AT), ethertype.into()),
    ];
    let mut flags: Vec<_> = match address {
        IpAddr::V4(address) => {
            let fragment = load(LOAD_HALF, IP + 6).into_iter().chain(load(AND, FRAGMENT_OFFSET)).collect();
            checks.push((load(LOAD_BYTE, IP + 9), IPPROTO_TCP.into()));
            checks.push((fragment, 0));
            checks.push((load(LOAD_WORD, IP + 16), address.into()));
            load(LOAD_HEADER_LEN, IP).into_iter().chain(load(LOAD_BYTE_BEHIND, IP + FLAGS_AT)).collect()
        }
        IpAddr::V6(address) => {
            checks.push((load(LOAD_BYTE, IP + 6), IPPROTO_TCP.into()));
            for (at, word) in (IP + 24..).step_by(4).zip(address.octets().chunks(4)) {
                let word = u32::from_be_bytes(word.try_into().expect("sixteen is four times four"));
                checks.push((load(LOAD_WORD, at), word));
            }
            load(LOAD_BYTE, IP + 40 + FLAGS_AT)
        }
    };
    flags.extend(load(AND, SYN_AND_ACK));
    checks.push((flags, SYN));
    // From the end: how far it is from each check to the instruction that rejects.
    let mut filter = vec![SockFilter::new(RETURN, 0, 0, u32::MAX), SockFilter::new(RETURN, 0, 0, 0)];
    for (loads, value) in checks.into_iter().rev() {
        let over = u8::try_from(filter.len() - 1).expect("a filter of some dozen instructions");
        filter.splice(0..0, loads.into_iter().chain([SockFilter::new(JUMP_EQ, 0, over, value)]));
    }
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const NEW: [u8; 6] = [2, 0, 0, 0, 0, 2];

    #[test]
    fn a_request_is_readdressed_with_a_good_checksum_and_its_padding_left_alone() {
        let (client, vip): (IpAddr, IpAddr) = ([10, 75, 0, 4].into(), [10, 75, 0, 100].into());
        let mut frame = vec![0; ETHERNET_LEN];
        frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, IPPROTO_TCP, 0, 0, 10, 75, 0, 4, 10, 75, 0, 100]);
        frame.extend([0x9c, 0x40, 0x0a, 0xd7, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0xde, 0xad, 0, 0]);
        frame.extend([0xff; 6]);
        assert!(readdress(&mut frame, NEW, OWN, vip));
        assert_eq!((&frame[..6], &frame[6..12]), (&NEW[..], &OWN[..]));
        assert_eq!(checksum::upper_layer(client, vip, IPPROTO_TCP, &frame[34..54]), 0);
        assert_eq!(frame[54..], [0xff; 6]);
        for cut in 0..54 {
            assert!(!readdress(&mut frame.clone()[..cut], NEW, OWN, vip), "{cut}");
        }
    }

    #[test]
    fn an_ipv6_request_is_readdressed_too() {
        let vip: IpAddr = "fd00::64".parse().expect("literal");
        let client: IpAddr = "fd00::4".parse().expect("literal");
        let mut frame = vec![0; ETHERNET_LEN];
        frame.extend([0x60, 0, 0, 0, 0, 20, IPPROTO_TCP, 64]);
        for address in [client, vip] {
            let IpAddr::V6(address) = address else { unreachable!("literals") };
            frame.extend(address.octets());
        }
        frame.extend([0x9c, 0x40, 0x0a, 0xd7, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0xde, 0xad, 0, 0]);
        assert!(readdress(&mut frame, NEW, OWN, vip));
        assert_eq!(checksum::upper_layer(client, vip, IPPROTO_TCP, &frame[54..74]), 0);
    }
}
