//! What is looked at before anything is opened: whether the addresses can float, whether this process may move them,
//! and whether an earlier run left one behind.

use super::error::HaError;
use super::floating_ip::{FloatingAddress, FloatingMode};
use super::netlink::{AddressTable, LinkInfo};
use super::takedown::{Takedown, TakenDown};

/// The interface of an address.
pub(super) fn find_link(table: &mut AddressTable, interface: &str) -> Result<LinkInfo, HaError> {
    let link = table.link(interface).map_err(|_| HaError::NoInterface { interface: interface.to_owned() })?;
    if link.mac.is_none() {
        tracing::warn!(interface, "no Ethernet interface: neighbours will not be told when the floating IP moves here");
    }
    Ok(link)
}

/// Takes the addresses off this host, which holds none of them at start.
pub(super) fn remove_leftovers(table: &mut Takedown, addresses: &[FloatingAddress]) -> Result<(), HaError> {
    for FloatingAddress { address, .. } in addresses {
        let removed = table.take_down(&[*address])?;
        if removed != TakenDown::default() {
            tracing::warn!(
                %address,
                entries = removed.addresses,
                connections = removed.sockets,
                "the floating IP was on this host from an earlier run; removed it"
            );
        }
    }
    Ok(())
}

/// Refuses addresses that cannot float, with the reason.
pub(super) fn check_addresses(mode: FloatingMode, addresses: &[FloatingAddress]) -> Result<(), HaError> {
    if addresses.is_empty() {
        return Err(HaError::NoAddress);
    }
    for FloatingAddress { address, prefix_len, .. } in addresses {
        let refuse = |why| Err(HaError::Address { address: *address, prefix_len: *prefix_len, why });
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if *prefix_len == 0 || *prefix_len > bits {
            return refuse("the prefix length is 1 to 32 (IPv6: 128); write 32 (IPv6: 128)");
        }
        if address.is_unspecified() || address.is_multicast() {
            return refuse("it is no address of a host; write one that is free in the nodes' network");
        }
        match (mode, address.is_loopback()) {
            (FloatingMode::Netlink, true) => {
                return refuse("it lies on loopback; use the loopback mode for it");
            }
            (FloatingMode::Loopback, false) => {
                return refuse("the loopback mode needs an address of loopback, 127.0.0.100 for example");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Bits of linux/capability.h.
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW")];

/// Refuses to go on without the capabilities that moving an address takes.
pub(super) fn check_capabilities() -> Result<(), HaError> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|error| HaError::kernel("read /proc/self/status", error))?;
    let missing = missing_capabilities(&status);
    if missing.is_empty() { Ok(()) } else { Err(HaError::Capability { missing: missing.join(" ") }) }
}

fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    CAPABILITIES.iter().filter(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mode: FloatingMode, address: &str, prefix_len: u8) -> Result<(), HaError> {
        let address = address.parse().expect("literal");
        check_addresses(mode, &[FloatingAddress { address, prefix_len, interface: "eth0".to_owned() }])
    }

    #[test]
    fn addresses_that_cannot_float_are_refused_with_the_reason() {
        let refused = [
            (FloatingMode::Netlink, "127.0.0.100", 32, "loopback mode"),
            (FloatingMode::Loopback, "10.75.0.100", 32, "127.0.0.100"),
            (FloatingMode::Netlink, "0.0.0.0", 32, "free in the nodes' network"),
            (FloatingMode::Netlink, "224.0.0.1", 32, "free in the nodes' network"),
            (FloatingMode::Netlink, "10.75.0.100", 33, "write 32"),
            (FloatingMode::Netlink, "fd00::64", 0, "128"),
        ];
        for (mode, address, prefix_len, word) in refused {
            let error = check(mode, address, prefix_len).expect_err(address).to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(check(FloatingMode::Netlink, "10.75.0.100", 32).is_ok());
        assert!(check(FloatingMode::Loopback, "127.0.0.100", 8).is_ok());
    }

    #[test]
    fn missing_capabilities_are_named_as_systemd_spells_them() {
        assert_eq!(missing_capabilities("CapEff:\t0000000000000000\n"), ["CAP_NET_ADMIN", "CAP_NET_RAW"]);
        assert_eq!(missing_capabilities("CapEff:\t0000000000001000\n"), ["CAP_NET_RAW"]);
        assert!(missing_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n").is_empty());
    }
}
