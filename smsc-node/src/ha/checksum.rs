//! The Internet checksum (RFC 1071) over a pseudo header and a payload.

use std::net::IpAddr;

/// TCP's number in the header of IP.
pub(in crate::ha) const IPPROTO_TCP: u8 = 6;

/// The checksum of `parts` laid end to end; every part but the last has an even length.
pub(super) fn internet(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
        }
        sum = (sum & 0xffff) + (sum >> 16);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits by the loop above")
}

/// The checksum of an upper-layer packet under the pseudo header of its IP version (RFC 9293 3.1, RFC 8200 8.1).
///
/// Both addresses are of one family; `payload` is shorter than 64 KiB.
pub(super) fn upper_layer(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> u16 {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let tail = [0, 0, 0, protocol];
    match (source, destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => internet(&[&from.octets(), &to.octets(), &tail, &length, payload]),
        (from, to) => internet(&[&v6_octets(from), &v6_octets(to), &length, &tail, payload]),
    }
}

fn v6_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_section_3() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(internet(&[&bytes]), !0xddf2);
        assert_eq!(internet(&[&bytes[..4], &bytes[4..]]), !0xddf2);
    }

    #[test]
    fn an_odd_last_byte_is_padded_with_zero() {
        assert_eq!(internet(&[&[0x12, 0x34, 0x56]]), internet(&[&[0x12, 0x34, 0x56, 0x00]]));
    }

    #[test]
    fn a_packet_with_its_checksum_filled_in_sums_to_zero() {
        let (from, to) = ("10.0.0.1".parse().expect("literal"), "10.0.0.2".parse().expect("literal"));
        let mut payload = vec![1, 2, 3, 4, 0, 0, 7, 8];
        let sum = upper_layer(from, to, 6, &payload);
        payload[4..6].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(upper_layer(from, to, 6, &payload), 0);
    }
}
