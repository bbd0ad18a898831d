//! An address with its prefix length, as a host carries it on an interface.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A host's address and the prefix length of its network, as in `10.75.0.100/32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostNet {
    /// The address; not that of the network.
    pub addr: IpAddr,
    /// 1 to 32 for IPv4, 1 to 128 for IPv6.
    pub prefix_len: u8,
}

impl fmt::Display for HostNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix_len)
    }
}

/// The text is no address with a prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an IP address, with or without a prefix length, as in \"10.75.0.100/32\" or \"fd00::100/128\"")]
pub struct HostNetError;

impl FromStr for HostNet {
    type Err = HostNetError;

    /// Without a prefix length the address stands alone (`/32`, `/128`).
    fn from_str(text: &str) -> Result<Self, HostNetError> {
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) => (addr, Some(prefix)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| HostNetError)?;
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        let prefix_len = match prefix {
            None => longest,
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().map_err(|_| HostNetError)?,
            Some(_) => return Err(HostNetError),
        };
        if (1..=longest).contains(&prefix_len) { Ok(HostNet { addr, prefix_len }) } else { Err(HostNetError) }
    }
}

/// A floating address and where it goes, as in `10.75.0.100/32` or, as ip-address(8) would say it,
/// `10.75.8.100/32 dev eth0.8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloatingNet {
    /// The address.
    pub net: HostNet,
    /// The interface that gets it, a VLAN's perhaps; empty in loopback mode.
    pub interface: String,
}

impl FloatingNet {
    /// Splits the interface off, if the text names one.
    pub(super) fn split(text: &str) -> (&str, Option<&str>) {
        match text.trim().split_once(char::is_whitespace) {
            Some((net, rest)) => match rest.trim_start().strip_prefix("dev") {
                Some(name) if name.starts_with(char::is_whitespace) => (net, Some(name.trim())),
                // No address has a blank in it, so this is refused as one.
                _ => (text, None),
            },
            None => (text.trim(), None),
        }
    }
}

/// Whether `text` is `host:port` with a name or an address and a port from 1; an IPv6 address stands in brackets.
pub(super) fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let port_good = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
    let host_good = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-' || b == b'_')
        }
    };
    host_good && port_good
}

/// Whether `host:port` is certain to stay on this machine.
pub(super) fn is_loopback(host_port: &str) -> bool {
    host_port.parse::<std::net::SocketAddr>().is_ok_and(|addr| addr.ip().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floating_address_may_name_its_interface() {
        for (text, net, interface) in [
            ("10.75.0.100/32", "10.75.0.100/32", None),
            ("10.75.0.100/32 dev eth0.8", "10.75.0.100/32", Some("eth0.8")),
            (" fd00::64  dev  bond0 ", "fd00::64", Some("bond0")),
            ("10.75.0.100 device eth0", "10.75.0.100 device eth0", None),
            ("10.75.0.100 eth0", "10.75.0.100 eth0", None),
        ] {
            assert_eq!(FloatingNet::split(text), (net, interface), "{text}");
        }
    }
}
