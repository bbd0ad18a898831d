//! ARP frames for Ethernet and IPv4 (RFC 826, RFC 5227).

use std::net::Ipv4Addr;

/// Ethernet's type for ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;

const BROADCAST: [u8; 6] = [0xff; 6];
const OPERATION_REQUEST: u16 = 1;
const OPERATION_REPLY: u16 = 2;
/// Hardware type Ethernet, protocol type IPv4, and their address lengths.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ETHERNET_HEADER_LEN: usize = 14;
const FRAME_LEN: usize = ETHERNET_HEADER_LEN + 28;
/// Where the sender's protocol address is.
const SENDER_AT: usize = ETHERNET_HEADER_LEN + 14;

/// An ARP announcement as a request (RFC 5227 section 2.3): sender and target are both the address.
#[must_use]
pub fn announcement_request(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    frame(OPERATION_REQUEST, mac, address, [0; 6], address)
}

/// An ARP announcement as a broadcast reply. The target hardware address is our own: Linux ignores the form with all
/// ones while its entry is less than a second old.
#[must_use]
pub fn announcement_reply(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    frame(OPERATION_REPLY, mac, address, mac, address)
}

/// An ARP probe (RFC 5227 section 2.1.1): who has the address, asked without claiming it, so it moves no cache.
#[must_use]
pub fn probe(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    frame(OPERATION_REQUEST, mac, Ipv4Addr::UNSPECIFIED, [0; 6], address)
}

/// A question from the address to one neighbour: where are you? Linux takes the asker's address down even if it did not
/// know it, and the answer shows that the neighbour has heard.
#[must_use]
pub fn question(mac: [u8; 6], address: Ipv4Addr, neighbour: Ipv4Addr) -> Vec<u8> {
    frame(OPERATION_REQUEST, mac, address, [0; 6], neighbour)
}

/// The hardware address of another host that this frame shows to use `address`, or to be probing for it.
///
/// `None` for frames of our own `mac`, about other addresses, or that are no ARP.
#[must_use]
pub fn foreign_claim(bytes: &[u8], mac: [u8; 6], address: Ipv4Addr) -> Option<[u8; 6]> {
    let ethertype = u16::from_be_bytes(bytes.get(12..14)?.try_into().ok()?);
    let arp = bytes.get(ETHERNET_HEADER_LEN..FRAME_LEN)?;
    if ethertype != ETHERTYPE_ARP || arp[..6] != ETHERNET_IPV4 {
        return None;
    }
    let sender_mac: [u8; 6] = arp[8..14].try_into().ok()?;
    let (sender, target) = (&arp[14..18], &arp[24..28]);
    let octets = address.octets();
    let is_probe = arp[7] == 1 && sender == [0; 4] && target == octets;
    (sender_mac != mac && (sender == octets || is_probe)).then_some(sender_mac)
}

/// The same without the probes: hosts that have the address already.
#[must_use]
pub fn foreign_owner(bytes: &[u8], mac: [u8; 6], address: Ipv4Addr) -> Option<[u8; 6]> {
    let sender = bytes.get(SENDER_AT..SENDER_AT + 4)?;
    foreign_claim(bytes, mac, address).filter(|_| sender == address.octets())
}

fn frame(operation: u16, mac: [u8; 6], sender: Ipv4Addr, target_mac: [u8; 6], target: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_LEN);
    frame.extend_from_slice(&BROADCAST);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&ETHERTYPE_ARP.to_be_bytes());
    frame.extend_from_slice(&ETHERNET_IPV4);
    frame.extend_from_slice(&operation.to_be_bytes());
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&sender.octets());
    frame.extend_from_slice(&target_mac);
    frame.extend_from_slice(&target.octets());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 75, 0, 100);

    #[test]
    fn the_reply_form_carries_our_own_hardware_address_as_target() {
        let frame = announcement_reply(MAC, ADDRESS);
        let expected = [
            255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 2, // reply
            2, 0, 0, 0, 0, 1, 10, 75, 0, 100, // sender
            2, 0, 0, 0, 0, 1, 10, 75, 0, 100, // target
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn announcements_and_probes_of_others_are_claims_and_our_own_are_not() {
        for build in [announcement_request, announcement_reply, probe] {
            assert_eq!(foreign_claim(&build(OTHER, ADDRESS), MAC, ADDRESS), Some(OTHER));
            assert_eq!(foreign_claim(&build(MAC, ADDRESS), MAC, ADDRESS), None);
            let owns = build(OTHER, ADDRESS) != probe(OTHER, ADDRESS);
            assert_eq!(foreign_owner(&build(OTHER, ADDRESS), MAC, ADDRESS), owns.then_some(OTHER));
            assert_eq!(foreign_claim(&build(OTHER, Ipv4Addr::new(10, 75, 0, 9)), MAC, ADDRESS), None);
        }
    }

    #[test]
    fn a_question_names_the_asker_and_the_asked() {
        let frame = question(MAC, ADDRESS, Ipv4Addr::new(10, 75, 0, 4));
        assert_eq!(
            frame[14..42],
            [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 75, 0, 100, 0, 0, 0, 0, 0, 0, 10, 75, 0, 4]
        );
        assert_eq!(foreign_claim(&frame, OTHER, ADDRESS), Some(MAC), "whoever asks from the address claims it");
    }

    #[test]
    fn a_client_asking_for_the_address_claims_nothing() {
        let question = frame(OPERATION_REQUEST, OTHER, Ipv4Addr::new(10, 75, 0, 4), [0; 6], ADDRESS);
        assert_eq!(foreign_claim(&question, MAC, ADDRESS), None);
    }

    #[test]
    fn short_frames_are_ignored_and_padding_is_allowed() {
        let mut bytes = announcement_request(OTHER, ADDRESS);
        for cut in 0..bytes.len() {
            assert_eq!(foreign_claim(&bytes[..cut], MAC, ADDRESS), None);
        }
        bytes.resize(60, 0);
        assert_eq!(foreign_claim(&bytes, MAC, ADDRESS), Some(OTHER));
    }
}
