//! What can go wrong with the floating IP, and what the operator does about it.

use std::io;
use std::net::IpAddr;

/// Why an address could not be opened, claimed or released.
#[derive(Debug, thiserror::Error)]
pub enum HaError {
    /// The process may not change addresses or send raw frames.
    #[error(
        "the floating IP needs the capabilities {missing}: run as root, or give them with \
         AmbientCapabilities={missing} in the systemd unit, or use the loopback mode, which needs none"
    )]
    Capability {
        /// The missing ones, separated by blanks, as systemd spells them.
        missing: String,
    },
    /// The configuration names no address at all.
    #[error("no floating IP is configured: name at least one address")]
    NoAddress,
    /// An address that cannot float.
    #[error("{address}/{prefix_len} cannot be a floating IP: {why}")]
    Address {
        /// The address as configured.
        address: IpAddr,
        /// Its prefix length as configured.
        prefix_len: u8,
        /// What is wrong with it and what to write instead.
        why: &'static str,
    },
    /// The interface of an address does not exist.
    #[error(
        "there is no interface {interface} on this host: correct the interface of the floating IP (`ip link` lists them)"
    )]
    NoInterface {
        /// The name that was configured.
        interface: String,
    },
    /// The kernel refused a request.
    #[error("the kernel refused to {doing}: {source}; check that nothing else manages this address or interface")]
    Kernel {
        /// What was being done, as the end of "refused to".
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The address was claimed without a valid lease.
    #[error("the lease of term {term} is not valid, so the floating IP is not claimed: wait for the next election")]
    NotLeader {
        /// The term whose lease it is.
        term: u64,
    },
    /// An earlier hold of this process has not been released.
    #[error("the floating IP is still held by term {term}: release that hold before claiming again")]
    StillHeld {
        /// The term of the earlier hold.
        term: u64,
    },
    /// Clients would not reach this node.
    #[error(
        "the interface {interface} of the floating IP is down, without carrier, or was replaced: plug it in and bring it \
         up; restart the node if it was made anew"
    )]
    NoCarrier {
        /// The interface.
        interface: String,
    },
    /// The address or one of its sockets was still there after it had been taken down.
    #[error(
        "{what} could not be removed from this host: remove it by hand (`ip addr del`, `ss -K`) before another node serves"
    )]
    NotReleased {
        /// What is left.
        what: String,
    },
    /// The guard could not be started or did not answer.
    #[error(
        "the guard process {what}: {source}; without it a dead daemon would keep the address until the kernel drops it"
    )]
    Guard {
        /// What it failed to do.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The socket for release certificates could not be opened or read.
    #[error("cannot receive release certificates on {address}: {source}; choose a free UDP port of this host")]
    ReleaseListener {
        /// The address it was to listen on.
        address: std::net::SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
}

impl HaError {
    /// A kernel refusal; a missing permission becomes [`HaError::Capability`].
    pub(super) fn kernel(doing: impl Into<String>, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::PermissionDenied {
            return Self::Capability { missing: "CAP_NET_ADMIN CAP_NET_RAW".to_owned() };
        }
        Self::Kernel { doing: doing.into(), source }
    }
}
