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
