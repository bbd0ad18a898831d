//! Links and addresses (rtnetlink(7)).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use smsc_raft::leadership::MonoTime;

use super::{NETLINK_ROUTE, NetlinkSocket, attributes, malformed, push_attribute, read_i32, read_u16, read_u32};

const RTM_GETLINK: u16 = 18;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTMSG_LEN: usize = 12;
/// Where rtmsg keeps the length of the destination's prefix.
const RTMSG_DST_LEN_AT: usize = 1;
/// Where rtmsg keeps the route's type; the types of ways out and of the host's own addresses.
const RTMSG_TYPE_AT: usize = 7;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;

const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFINFOMSG_LEN: usize = 16;
const IFF_LOWER_UP: u32 = 1 << 16;
/// Link types of linux/if_arp.h whose packets have an Ethernet header.
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
const ETHERNET_HEADER_LEN: u8 = 14;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFADDRMSG_LEN: usize = 8;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const SCOPE_GLOBAL: u8 = 0;

/// How long an address may take to become the host's own, usually some tens of microseconds; after that the caller
/// goes on with it as it is.
const SETTLE_MAX: Duration = Duration::from_millis(50);
const SETTLE_POLL: Duration = Duration::from_micros(50);

/// What the kernel writes for a lifetime without end.
const FOREVER: u32 = u32::MAX;

/// How long the kernel keeps an address that nobody renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until somebody removes it.
    Forever,
    /// Whole seconds; the kernel drops the address up to half a second later than that.
    Seconds(u32),
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// The kernel's index, used in all further requests.
    pub index: u32,
    /// The hardware address, if it has one of six bytes that is not zero (loopback and tunnels have none).
    pub mac: Option<[u8; 6]>,
    /// Whether it is up and the carrier is there.
    pub carrier: bool,
    /// The length of the header in front of IP and ARP: 14 for Ethernet, 0 for tunnels that carry bare IP.
    pub header_len: u8,
}

/// An address as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressEntry {
    /// The interface it is on.
    pub link_index: u32,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix_len: u8,
    /// What is left of its life.
    pub lifetime: Lifetime,
}

/// The addresses of this host (of the network namespace of the thread that opened it).
pub struct AddressTable {
    socket: NetlinkSocket,
}

impl AddressTable {
    /// Opens a netlink socket to the kernel; needs no privilege, changing addresses does (CAP_NET_ADMIN).
    ///
    /// # Errors
    /// The system's, if no socket can be had.
    pub fn open() -> io::Result<Self> {
        NetlinkSocket::open(NETLINK_ROUTE).map(|socket| Self { socket })
    }

    /// Looks an interface up by name.
    ///
    /// # Errors
    /// `NotFound` or the kernel's ENODEV if there is none of that name.
    pub fn link(&mut self, name: &str) -> io::Result<LinkInfo> {
        let mut body = vec![0; IFINFOMSG_LEN];
        let mut terminated = name.as_bytes().to_vec();
        terminated.push(0);
        push_attribute(&mut body, IFLA_IFNAME, &terminated);
        let mut link = None;
        self.socket.request(RTM_GETLINK, 0, &body, |kind, body| {
            if kind == RTM_NEWLINK {
                link = parse_link(body);
            }
        })?;
        link.ok_or_else(malformed)
    }

    /// Every interface.
    ///
    /// # Errors
    /// The kernel's.
    pub fn links(&mut self) -> io::Result<Vec<LinkInfo>> {
        self.socket.dump(RTM_GETLINK, &[0; IFINFOMSG_LEN], |kind, body| {
            (kind == RTM_NEWLINK).then(|| parse_link(body)).flatten()
        })
    }

    /// To whom a packet for `address` is handed on that interface: the address itself if it is on the link, else the
    /// gateway. `None` if the way leads elsewhere, or there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn next_hop(&mut self, link_index: u32, address: IpAddr) -> io::Result<Option<IpAddr>> {
        let mut found = None;
        self.look_up(address, |body| found = parse_route(body).or(found))?;
        Ok(found
            .filter(|route| route.kind == RTN_UNICAST && route.link_index == Some(link_index))
            .map(|route| route.gateway.unwrap_or(address)))
    }

    /// Every address of every interface.
    ///
    /// # Errors
    /// The kernel's.
    pub fn list(&mut self) -> io::Result<Vec<AddressEntry>> {
        let body = [0; IFADDRMSG_LEN];
        self.socket.dump(RTM_GETADDR, &body, |kind, body| if kind == RTM_NEWADDR { parse_address(body) } else { None })
    }

    /// Where `address` is configured at this moment, on whichever interfaces.
    ///
    /// # Errors
    /// The kernel's.
    pub fn find(&mut self, address: IpAddr) -> io::Result<Vec<AddressEntry>> {
        let mut entries = self.list()?;
        entries.retain(|entry| entry.address == address);
        Ok(entries)
    }

    /// Adds an address, or sets the lifetime of one that is there. Returns once it can be used.
    ///
    /// Its prefix gets no route of its own, IPv6 duplicate detection is skipped (it takes a second; the caller probes
    /// in its own way), and IPv6 never picks it as the source of outgoing connections.
    ///
    /// # Errors
    /// The kernel's: EPERM without CAP_NET_ADMIN, ENODEV if the interface is gone.
    pub fn add(&mut self, link_index: u32, address: IpAddr, prefix_len: u8, valid_lft_s: u32) -> io::Result<()> {
        self.set(NLM_F_CREATE | NLM_F_REPLACE, link_index, address, prefix_len, valid_lft_s)?;
        // Even without duplicate detection the kernel makes an IPv6 address its own in a work queue. What arrives
        // before, such as the answer to the question where a client is, is dropped and asked for again a second later.
        let begun = MonoTime::now();
        while !self.is_local(address)? && MonoTime::now().since(begun) < SETTLE_MAX {
            std::thread::sleep(SETTLE_POLL);
        }
        Ok(())
    }

    /// Sets the lifetime of an address that is there. Returns `false`, changing nothing, if it is not.
    ///
    /// The kernel itself would add a missing address even when asked to replace only, so its table is read first.
    /// Between reading and writing lie microseconds; a caller that was frozen exactly there finds out by checking its
    /// lease once more afterwards.
    ///
    /// # Errors
    /// The kernel's.
    pub fn renew(
        &mut self,
        link_index: u32,
        address: IpAddr,
        prefix_len: u8,
        valid_lft_s: u32,
        still_allowed: impl FnOnce() -> bool,
    ) -> io::Result<bool> {
        let present = self.find(address)?.iter().any(|entry| entry.link_index == link_index);
        if !present || !still_allowed() {
            return Ok(false);
        }
        self.set(NLM_F_REPLACE, link_index, address, prefix_len, valid_lft_s)?;
        Ok(true)
    }

    /// Removes one entry; one that is not there any more counts as removed.
    ///
    /// # Errors
    /// The kernel's: EPERM without CAP_NET_ADMIN.
    pub fn delete(&mut self, entry: &AddressEntry) -> io::Result<()> {
        let body = address_body(entry.link_index, entry.address, entry.prefix_len);
        match self.socket.request(RTM_DELADDR, 0, &body, |_, _| {}) {
            Err(error) if is_absent(&error) => Ok(()),
            result => result,
        }
    }

    /// Whether packets to `address` are for this host.
    fn is_local(&mut self, address: IpAddr) -> io::Result<bool> {
        let mut local = false;
        self.look_up(address, |body| local |= body.get(RTMSG_TYPE_AT) == Some(&RTN_LOCAL))?;
        Ok(local)
    }

    /// Asks for the way to `address`; `each` sees nothing if there is none.
    fn look_up(&mut self, address: IpAddr, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let octets = octets(address);
        let mut body = vec![0; RTMSG_LEN];
        body[0] = family(address);
        body[RTMSG_DST_LEN_AT] = if address.is_ipv4() { 32 } else { 128 };
        push_attribute(&mut body, RTA_DST, &octets);
        let looked_up = self.socket.request(RTM_GETROUTE, 0, &body, |kind, body| {
            if kind == RTM_NEWROUTE {
                each(body);
            }
        });
        match looked_up {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    fn set(
        &mut self,
        flags: u16,
        link_index: u32,
        address: IpAddr,
        prefix_len: u8,
        valid_lft_s: u32,
    ) -> io::Result<()> {
        let mut body = address_body(link_index, address, prefix_len);
        let preferred_s = if address.is_ipv6() { 0 } else { valid_lft_s };
        let mut cache_info = Vec::with_capacity(16);
        for word in [preferred_s, valid_lft_s, 0, 0] {
            cache_info.extend_from_slice(&word.to_ne_bytes());
        }
        push_attribute(&mut body, IFA_CACHEINFO, &cache_info);
        let no_detection = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
        push_attribute(&mut body, IFA_FLAGS, &(IFA_F_NOPREFIXROUTE | no_detection).to_ne_bytes());
        self.socket.request(RTM_NEWADDR, flags, &body, |_, _| {})
    }
}

/// EADDRNOTAVAIL: no such address. ENODEV: not even the interface.
fn is_absent(error: &io::Error) -> bool {
    use nix::errno::Errno;
    [Errno::EADDRNOTAVAIL, Errno::ENODEV].iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

fn address_body(link_index: u32, address: IpAddr, prefix_len: u8) -> Vec<u8> {
    let mut body = vec![family(address), prefix_len, 0, SCOPE_GLOBAL];
    body.extend_from_slice(&link_index.to_ne_bytes());
    let octets = octets(address);
    push_attribute(&mut body, IFA_LOCAL, &octets);
    push_attribute(&mut body, IFA_ADDRESS, &octets);
    body
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn parse_link(body: &[u8]) -> Option<LinkInfo> {
    let link_type = read_u16(body, 2)?;
    let index = u32::try_from(read_i32(body, 4)?).ok()?;
    let flags = read_u32(body, 8)?;
    let mac = attributes(body.get(IFINFOMSG_LEN..)?)
        .find(|(kind, _)| *kind == IFLA_ADDRESS)
        .and_then(|(_, payload)| <[u8; 6]>::try_from(payload).ok())
        .filter(|mac| *mac != [0; 6]);
    let header_len = if matches!(link_type, ARPHRD_ETHER | ARPHRD_LOOPBACK) { ETHERNET_HEADER_LEN } else { 0 };
    Some(LinkInfo { index, mac, carrier: flags & IFF_LOWER_UP != 0, header_len })
}

/// What is read of a route.
#[derive(Clone, Copy)]
struct Route {
    kind: u8,
    link_index: Option<u32>,
    gateway: Option<IpAddr>,
}

fn parse_route(body: &[u8]) -> Option<Route> {
    let family = *body.first()?;
    let mut route = Route { kind: *body.get(RTMSG_TYPE_AT)?, link_index: None, gateway: None };
    for (kind, payload) in attributes(body.get(RTMSG_LEN..)?) {
        match kind {
            RTA_OIF => route.link_index = read_u32(payload, 0),
            RTA_GATEWAY => route.gateway = parse_ip(family, payload),
            _ => {}
        }
    }
    Some(route)
}

fn parse_address(body: &[u8]) -> Option<AddressEntry> {
    let (family, prefix_len) = (*body.first()?, *body.get(1)?);
    let link_index = read_u32(body, 4)?;
    let (mut local, mut peer, mut valid_s) = (None, None, FOREVER);
    for (kind, payload) in attributes(body.get(IFADDRMSG_LEN..)?) {
        match kind {
            IFA_LOCAL => local = parse_ip(family, payload),
            IFA_ADDRESS => peer = parse_ip(family, payload),
            IFA_CACHEINFO => valid_s = read_u32(payload, 4)?,
            _ => {}
        }
    }
    let lifetime = if valid_s == FOREVER { Lifetime::Forever } else { Lifetime::Seconds(valid_s) };
    Some(AddressEntry { link_index, address: local.or(peer)?, prefix_len, lifetime })
}

fn parse_ip(family: u8, payload: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => <[u8; 4]>::try_from(payload).ok().map(|octets| Ipv4Addr::from(octets).into()),
        AF_INET6 => <[u8; 16]>::try_from(payload).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_message_parses_back() {
        for address in ["10.75.0.100", "fd00::64"] {
            let address: IpAddr = address.parse().expect("literal");
            let body = address_body(7, address, 32);
            let entry = parse_address(&body).expect("our own message");
            let expected = AddressEntry { link_index: 7, address, prefix_len: 32, lifetime: Lifetime::Forever };
            assert_eq!(entry, expected);
            for cut in 0..8 {
                assert_eq!(parse_address(&body[..cut]), None);
            }
        }
    }

    #[test]
    fn loopback_is_found_and_has_no_hardware_address() {
        let mut table = AddressTable::open().expect("netlink needs no privilege");
        let link = table.link("lo").expect("every network namespace has lo");
        assert_eq!(link.mac, None);
        assert!(table.link("no-such-link0").is_err());
        assert!(table.is_local("127.0.0.100".parse().expect("literal")).expect("looked up"));
        assert!(!table.is_local("192.0.2.1".parse().expect("literal")).expect("looked up"));
    }
}
