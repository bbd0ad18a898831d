//! TCP sockets by local address: list and destroy (sock_diag(7), linux/inet_diag.h).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{NETLINK_SOCK_DIAG, NetlinkSocket};
use crate::ha::checksum::IPPROTO_TCP;

/// The older request for a list. It alone is answered for both families in one walk through the kernel's table, which
/// takes milliseconds on a large host.
const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DESTROY: u16 = 21;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Every TCP state but CLOSE (7) and LISTEN (10): a listener belongs to its program and carries no connection.
const STATES_CONNECTED: u32 = 0xfff & !(1 << 7) & !(1 << 10);
/// Where inet_diag_msg keeps its inet_diag_sockid, and how long that is.
const SOCKET_ID_AT: usize = 4;
const SOCKET_ID_LEN: usize = 48;

/// One socket in the kernel's words: family and inet_diag_sockid, handed back as it came.
struct SocketEntry {
    family: u8,
    id: [u8; SOCKET_ID_LEN],
}

impl SocketEntry {
    fn parse(body: &[u8]) -> Option<Self> {
        let family = *body.first()?;
        let id = body.get(SOCKET_ID_AT..SOCKET_ID_AT + SOCKET_ID_LEN)?.try_into().ok()?;
        Some(Self { family, id })
    }

    /// The address the socket is bound to; an IPv4 connection of a dual-stack listener counts as IPv4.
    fn local(&self) -> Option<IpAddr> {
        match self.family {
            AF_INET => <[u8; 4]>::try_from(&self.id[4..8]).ok().map(|octets| Ipv4Addr::from(octets).into()),
            AF_INET6 => <[u8; 16]>::try_from(&self.id[4..20]).ok().map(|octets| Ipv6Addr::from(octets).to_canonical()),
            _ => None,
        }
    }
}

/// The TCP connections of this host (of the network namespace of the thread that opened it).
pub struct SocketTable {
    socket: NetlinkSocket,
}

impl SocketTable {
    /// Opens a netlink socket to the kernel; needs no privilege, destroying sockets does (CAP_NET_ADMIN).
    ///
    /// # Errors
    /// The system's, if no socket can be had.
    pub fn open() -> io::Result<Self> {
        NetlinkSocket::open(NETLINK_SOCK_DIAG).map(|socket| Self { socket })
    }

    /// How many connections (any state but LISTEN) are bound to `address` locally.
    ///
    /// # Errors
    /// The kernel's.
    pub fn count(&mut self, address: IpAddr) -> io::Result<usize> {
        self.bound_to(&[address]).map(|sockets| sockets.len())
    }

    /// Destroys every connection bound to one of `addresses` locally and returns how many there were, in one walk through
    /// the kernel's table. Their programs find them reset. Done after the addresses are off, so that nothing of what they
    /// had buffered leaves this host.
    ///
    /// # Errors
    /// The kernel's: EPERM without CAP_NET_ADMIN, EOPNOTSUPP if it was built without INET_DIAG_DESTROY.
    pub fn destroy(&mut self, addresses: &[IpAddr]) -> io::Result<usize> {
        let sockets = self.bound_to(addresses)?;
        for socket in &sockets {
            let body = request_body(socket.family, 0, &socket.id);
            match self.socket.request(SOCK_DESTROY, 0, &body, |_, _| {}) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(sockets.len())
    }

    fn bound_to(&mut self, addresses: &[IpAddr]) -> io::Result<Vec<SocketEntry>> {
        // An IPv4 connection may sit on an IPv6 socket.
        self.socket.dump(TCPDIAG_GETSOCK, &list_body(STATES_CONNECTED), |_, body| {
            SocketEntry::parse(body).filter(|socket| socket.local().is_some_and(|local| addresses.contains(&local)))
        })
    }
}

/// inet_diag_req, for every family.
fn list_body(states: u32) -> Vec<u8> {
    let mut body = vec![0; SOCKET_ID_AT + SOCKET_ID_LEN];
    body.extend_from_slice(&states.to_ne_bytes());
    body.extend_from_slice(&0_u32.to_ne_bytes());
    body
}

/// inet_diag_req_v2.
fn request_body(family: u8, states: u32, id: &[u8; SOCKET_ID_LEN]) -> Vec<u8> {
    let mut body = vec![family, IPPROTO_TCP, 0, 0];
    body.extend_from_slice(&states.to_ne_bytes());
    body.extend_from_slice(id);
    body
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_are_counted_by_local_address_and_listeners_are_not() {
        let listener = TcpListener::bind("127.99.98.97:0").expect("loopback takes any 127/8 address");
        let address = listener.local_addr().expect("bound above");
        let mut table = SocketTable::open().expect("netlink needs no privilege");
        assert_eq!(table.count(address.ip()).expect("dump"), 0);
        let _client = TcpStream::connect(address).expect("the listener is there");
        let _server = listener.accept().expect("connected above");
        assert_eq!(table.count(address.ip()).expect("dump"), 1);
    }

    #[test]
    fn a_dual_stack_socket_counts_as_ipv4() {
        let listener = TcpListener::bind("[::]:0").expect("IPv6 is on");
        let port = listener.local_addr().expect("bound above").port();
        let _client = TcpStream::connect(("127.99.98.96", port)).expect("the listener is there");
        let _server = listener.accept().expect("connected above");
        let mut table = SocketTable::open().expect("netlink needs no privilege");
        assert_eq!(table.count("127.99.98.96".parse().expect("literal")).expect("dump"), 1);
    }

    #[test]
    fn a_short_message_is_no_socket() {
        assert!(SocketEntry::parse(&[AF_INET; 51]).is_none());
        assert!(SocketEntry::parse(&[AF_INET; 52]).is_some());
    }
}
