//! Unsolicited neighbour advertisement for IPv6 (RFC 4861 sections 4.4 and 7.2.6).

use std::net::{IpAddr, Ipv6Addr};

use super::checksum;

const ETHERTYPE_IPV6: u16 = 0x86dd;
/// The Ethernet group of ff02::1 (RFC 2464 section 7).
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const NEXT_HEADER_ICMPV6: u8 = 58;
/// Receivers drop any other value (section 7.1.2).
const HOP_LIMIT: u8 = 255;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const FLAG_OVERRIDE: u8 = 0x20;
const OPTION_TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// The Ethernet frame that tells every node on the link that `address` is at `mac` now, overriding what it knew.
#[must_use]
pub fn unsolicited(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, FLAG_OVERRIDE, 0, 0, 0];
    message.extend_from_slice(&address.octets());
    message.extend_from_slice(&[OPTION_TARGET_LINK_LAYER_ADDRESS, 1]);
    message.extend_from_slice(&mac);
    let sum = checksum::upper_layer(IpAddr::V6(address), IpAddr::V6(ALL_NODES), NEXT_HEADER_ICMPV6, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let length = u16::try_from(message.len()).expect("32 bytes");
    let mut frame = Vec::with_capacity(14 + 40 + message.len());
    frame.extend_from_slice(&ALL_NODES_MAC);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&[NEXT_HEADER_ICMPV6, HOP_LIMIT]);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&ALL_NODES.octets());
    frame.extend_from_slice(&message);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn override_is_set_the_hop_limit_is_255_and_the_checksum_holds() {
        let address: Ipv6Addr = "fd00:75::64".parse().expect("literal");
        let frame = unsolicited([2, 0, 0, 0, 0, 1], address);
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(frame[..6], ALL_NODES_MAC);
        assert_eq!(frame[14 + 7], 255);
        let message = &frame[54..];
        assert_eq!(message[0], 136);
        assert_eq!(message[4], 0x20);
        assert_eq!(message[26..], [2, 0, 0, 0, 0, 1]);
        let sum = checksum::upper_layer(address.into(), ALL_NODES.into(), NEXT_HEADER_ICMPV6, message);
        assert_eq!(sum, 0);
    }
}
