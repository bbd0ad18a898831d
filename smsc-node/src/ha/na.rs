//! Neighbour discovery for IPv6 (RFC 4861 sections 4.3, 4.4 and 7.2): announcing, asking, probing.

use std::net::{IpAddr, Ipv6Addr};

use super::checksum;

/// Ethernet's type for IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// The Ethernet group of ff02::1 (RFC 2464 section 7).
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const NEXT_HEADER_ICMPV6: u8 = 58;
/// Receivers drop any other value (section 7.1).
const HOP_LIMIT: u8 = 255;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const FLAG_OVERRIDE: u8 = 0x20;
const OPTION_SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const OPTION_TARGET_LINK_LAYER_ADDRESS: u8 = 2;

const ETHERNET_HEADER_LEN: usize = 14;
const IPV6_HEADER_LEN: usize = 40;
/// Type, code, checksum, flags, target.
const MESSAGE_LEN: usize = 24;

/// The Ethernet frame that tells every node on the link that `address` is at `mac` now, overriding what it knew.
#[must_use]
pub fn unsolicited(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let mut message = message(NEIGHBOUR_ADVERTISEMENT, FLAG_OVERRIDE, address);
    push_link_layer_address(&mut message, OPTION_TARGET_LINK_LAYER_ADDRESS, mac);
    frame(mac, address, ALL_NODES_MAC, ALL_NODES, message)
}

/// A question from the address to one neighbour: where are you? It brings our own hardware address along, which the
/// neighbour takes down, and the answer shows that it has.
#[must_use]
pub fn question(mac: [u8; 6], address: Ipv6Addr, neighbour: Ipv6Addr) -> Vec<u8> {
    let mut message = message(NEIGHBOUR_SOLICITATION, 0, neighbour);
    push_link_layer_address(&mut message, OPTION_SOURCE_LINK_LAYER_ADDRESS, mac);
    let (group_mac, group) = solicited_node(neighbour);
    frame(mac, address, group_mac, group, message)
}

/// A probe as of duplicate address detection (RFC 4862 section 5.4.2): who has the address, asked without claiming it.
#[must_use]
pub fn probe(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let (group_mac, group) = solicited_node(address);
    frame(mac, Ipv6Addr::UNSPECIFIED, group_mac, group, message(NEIGHBOUR_SOLICITATION, 0, address))
}

/// The hardware address of another host that this frame, an advertisement, shows to use `address`.
///
/// `None` for frames of our own `mac`, about other addresses, or that are no advertisement.
#[must_use]
pub fn foreign_claim(bytes: &[u8], mac: [u8; 6], address: Ipv6Addr) -> Option<[u8; 6]> {
    let sender_mac: [u8; 6] = bytes.get(6..12)?.try_into().ok()?;
    let ethertype = u16::from_be_bytes(bytes.get(12..14)?.try_into().ok()?);
    let header = bytes.get(ETHERNET_HEADER_LEN..ETHERNET_HEADER_LEN + IPV6_HEADER_LEN)?;
    let message = bytes.get(ETHERNET_HEADER_LEN + IPV6_HEADER_LEN..)?.get(..MESSAGE_LEN)?;
    let is_advertisement = ethertype == ETHERTYPE_IPV6
        && header[6] == NEXT_HEADER_ICMPV6
        && header[7] == HOP_LIMIT
        && message[0] == NEIGHBOUR_ADVERTISEMENT;
    (is_advertisement && message[8..24] == address.octets() && sender_mac != mac).then_some(sender_mac)
}

/// The group in which whoever has `address` listens (RFC 4291 section 2.7.1), and its Ethernet group.
fn solicited_node(address: Ipv6Addr) -> ([u8; 6], Ipv6Addr) {
    let [.., a, b, c] = address.octets();
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    group[13..].copy_from_slice(&[a, b, c]);
    ([0x33, 0x33, 0xff, a, b, c], Ipv6Addr::from(group))
}

fn message(kind: u8, flags: u8, target: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend_from_slice(&target.octets());
    message
}

fn push_link_layer_address(message: &mut Vec<u8>, option: u8, mac: [u8; 6]) {
    message.extend_from_slice(&[option, 1]);
    message.extend_from_slice(&mac);
}

fn frame(mac: [u8; 6], source: Ipv6Addr, to_mac: [u8; 6], destination: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let sum = checksum::upper_layer(IpAddr::V6(source), IpAddr::V6(destination), NEXT_HEADER_ICMPV6, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let length = u16::try_from(message.len()).expect("at most 32 bytes");
    let mut frame = Vec::with_capacity(ETHERNET_HEADER_LEN + IPV6_HEADER_LEN + message.len());
    frame.extend_from_slice(&to_mac);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&[NEXT_HEADER_ICMPV6, HOP_LIMIT]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&destination.octets());
    frame.extend_from_slice(&message);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn address() -> Ipv6Addr {
        "fd00:75::64".parse().expect("literal")
    }

    fn sum_of(frame: &[u8]) -> u16 {
        let at = |from: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[from..from + 16]).expect("sixteen bytes"));
        checksum::upper_layer(at(22).into(), at(38).into(), NEXT_HEADER_ICMPV6, &frame[54..])
    }

    #[test]
    fn override_is_set_the_hop_limit_is_255_and_the_checksum_holds() {
        let frame = unsolicited(MAC, address());
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(frame[..6], ALL_NODES_MAC);
        assert_eq!(frame[14 + 7], 255);
        let message = &frame[54..];
        assert_eq!(message[0], 136);
        assert_eq!(message[4], 0x20);
        assert_eq!(message[26..], MAC);
        assert_eq!(sum_of(&frame), 0);
    }

    #[test]
    fn questions_and_probes_go_to_the_solicited_nodes_group() {
        let neighbour: Ipv6Addr = "fd00:75::12:3456".parse().expect("literal");
        let asked = question(MAC, address(), neighbour);
        assert_eq!(asked[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(asked[38..54], "ff02::1:ff12:3456".parse::<Ipv6Addr>().expect("literal").octets());
        assert_eq!(asked[22..38], address().octets());
        assert_eq!(sum_of(&asked), 0);
        let probed = probe(MAC, address());
        assert_eq!(probed[22..38], [0; 16]);
        assert_eq!(probed.len(), 14 + 40 + 24, "without the option that would move caches");
        assert_eq!(sum_of(&probed), 0);
    }

    #[test]
    fn advertisements_of_others_are_claims_and_our_own_are_not() {
        let frame = unsolicited(OTHER, address());
        assert_eq!(foreign_claim(&frame, MAC, address()), Some(OTHER));
        assert_eq!(foreign_claim(&frame, OTHER, address()), None);
        assert_eq!(foreign_claim(&frame, MAC, "fd00:75::65".parse().expect("literal")), None);
        assert_eq!(foreign_claim(&question(OTHER, address(), address()), MAC, address()), None);
        for cut in 0..14 + 40 + MESSAGE_LEN {
            assert_eq!(foreign_claim(&frame[..cut], MAC, address()), None);
        }
    }
}
