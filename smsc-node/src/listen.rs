//! Opening the node's ports, with one clear sentence when that fails.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections the kernel keeps for us until we accept them.
const BACKLOG: u32 = 1024;

/// A port could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has the port.
    #[error(
        "cannot listen on {addr} ({key}): the port is in use by another process; stop that process (`ss -ltnp` names it) or change {key}"
    )]
    Busy {
        /// The configuration key that names the port.
        key: &'static str,
        /// The address.
        addr: SocketAddr,
    },
    /// The address is not one of this host's.
    #[error(
        "cannot listen on {addr} ({key}): this host does not have that address; `ip addr` shows those it has; correct {key}"
    )]
    NotOurs {
        /// The configuration key that names the address.
        key: &'static str,
        /// The address.
        addr: SocketAddr,
    },
    /// A port below 1024 without the capability for it.
    #[error(
        "cannot listen on {addr} ({key}): ports below 1024 need CAP_NET_BIND_SERVICE; grant it or choose a higher port in {key}"
    )]
    Privileged {
        /// The configuration key that names the port.
        key: &'static str,
        /// The address.
        addr: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {addr} ({key}): {source}")]
    Other {
        /// The configuration key that names the address.
        key: &'static str,
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl ListenError {
    /// Sorts what the system said about opening `addr`, which `key` of the configuration names.
    #[must_use]
    pub fn new(key: &'static str, addr: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::Busy { key, addr },
            io::ErrorKind::AddrNotAvailable => ListenError::NotOurs { key, addr },
            io::ErrorKind::PermissionDenied => ListenError::Privileged { key, addr },
            _ => ListenError::Other { key, addr, source },
        }
    }
}

/// Listens on `addr`, which `key` of the configuration names. To be called within a tokio runtime.
///
/// # Errors
/// [`ListenError`], one sentence that says what to do.
pub fn listen(key: &'static str, addr: SocketAddr) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restarted node must not wait for connections of its predecessor to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| ListenError::new(key, addr, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_busy_port_is_named_with_its_key() {
        let first = listen("http.listen", SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addr = first.local_addr().unwrap();
        let refused = listen("http.listen", addr).unwrap_err().to_string();
        assert!(refused.contains(&addr.to_string()), "{refused}");
        assert!(refused.contains("in use") && refused.contains("http.listen"), "{refused}");
        assert!(!refused.contains('\n'));
    }

    #[tokio::test]
    async fn an_address_of_another_host_is_told() {
        let refused = listen("raft.listen", "192.0.2.1:7400".parse().unwrap()).unwrap_err();
        assert!(matches!(refused, ListenError::NotOurs { .. }), "{refused}");
    }
}
