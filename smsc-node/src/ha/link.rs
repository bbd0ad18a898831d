//! The packet sockets of one floating address, opened once: opening or closing one costs milliseconds, sending does not.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::LinkAddr;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::error::HaError;
use super::{arp, na};

/// `AF_PACKET` of linux/socket.h.
pub(super) const AF_PACKET: i32 = 17;
/// Longer than any frame that is listened for; the rest of a longer one is cut off unread.
const FRAME_BUFFER_LEN: usize = 128;

/// Sends announcements, questions and probes for one address on its interface, and hears other hosts that use it.
pub struct LinkPort {
    address: IpAddr,
    sender: Socket,
    ear: Socket,
}

impl LinkPort {
    /// Opens both sockets on the interface.
    ///
    /// # Errors
    /// [`HaError::NoInterface`]; [`HaError::Capability`] without CAP_NET_RAW.
    pub fn open(interface: &str, address: IpAddr) -> Result<Self, HaError> {
        let link = link_address(interface)?;
        let open = |protocol: u16, filter: &[SockFilter]| -> io::Result<Socket> {
            let socket =
                Socket::new(Domain::from(AF_PACKET), Type::RAW, Some(Protocol::from(i32::from(protocol.to_be()))))?;
            if !filter.is_empty() {
                socket.attach_filter(filter)?;
            }
            nix::sys::socket::bind(socket.as_raw_fd(), &link)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let kernel = |source| HaError::kernel(format!("open a packet socket on {interface}"), source);
        // Without a protocol nothing is queued on the sender, and the kernel reads each frame's own type.
        let sender = open(0, &[]).map_err(kernel)?;
        let protocol = if address.is_ipv4() { arp::ETHERTYPE_ARP } else { na::ETHERTYPE_IPV6 };
        let ear = open(protocol, &claims_of(address)).map_err(kernel)?;
        Ok(Self { address, sender, ear })
    }

    /// Tells the neighbours that the address is at `mac`: both forms of gratuitous ARP, because some networks heed only
    /// one, or an unsolicited neighbour advertisement.
    ///
    /// # Errors
    /// The system's: ENETDOWN while the interface is down.
    pub fn announce(&self, mac: [u8; 6]) -> io::Result<()> {
        match self.address {
            IpAddr::V4(address) => {
                self.send(&arp::announcement_request(mac, address))?;
                self.send(&arp::announcement_reply(mac, address))
            }
            IpAddr::V6(address) => self.send(&na::unsolicited(mac, address)),
        }
    }

    /// Asks one neighbour from the address where it is, by which it learns where the address is. One of another family
    /// is left out.
    ///
    /// # Errors
    /// The system's: ENETDOWN while the interface is down.
    pub fn ask(&self, mac: [u8; 6], neighbour: IpAddr) -> io::Result<()> {
        match (self.address, neighbour) {
            (IpAddr::V4(address), IpAddr::V4(neighbour)) => self.send(&arp::question(mac, address, neighbour)),
            (IpAddr::V6(address), IpAddr::V6(neighbour)) => self.send(&na::question(mac, address, neighbour)),
            _ => Ok(()),
        }
    }

    /// Asks whether another host uses the address, and does not wait: [`foreign_claims`](Self::foreign_claims) tells.
    ///
    /// # Errors
    /// The system's: ENETDOWN while the interface is down.
    pub fn ask_who_else(&self, mac: [u8; 6]) -> io::Result<()> {
        self.send(&match self.address {
            IpAddr::V4(address) => arp::probe(mac, address),
            IpAddr::V6(address) => na::probe(mac, address),
        })
    }

    /// Forgets what was heard so far: who had the address before it was claimed is no matter.
    ///
    /// # Errors
    /// The system's.
    pub fn forget(&self) -> io::Result<()> {
        while self.receive()?.is_some() {}
        Ok(())
    }

    /// The hosts among those heard since the last call that used the address; reads everything that waits.
    ///
    /// # Errors
    /// The system's.
    pub fn foreign_claims(&self, mac: [u8; 6]) -> io::Result<BTreeSet<[u8; 6]>> {
        self.heard(|frame| match self.address {
            IpAddr::V4(address) => arp::foreign_claim(frame, mac, address),
            IpAddr::V6(address) => na::foreign_claim(frame, mac, address),
        })
    }

    /// The same without those that only asked who has it.
    ///
    /// # Errors
    /// The system's.
    pub fn foreign_owners(&self, mac: [u8; 6]) -> io::Result<BTreeSet<[u8; 6]>> {
        self.heard(|frame| match self.address {
            IpAddr::V4(address) => arp::foreign_owner(frame, mac, address),
            IpAddr::V6(address) => na::foreign_claim(frame, mac, address),
        })
    }

    fn heard(&self, who: impl Fn(&[u8]) -> Option<[u8; 6]>) -> io::Result<BTreeSet<[u8; 6]>> {
        let mut hosts = BTreeSet::new();
        while let Some(frame) = self.receive()? {
            hosts.extend(who(&frame));
        }
        Ok(hosts)
    }

    /// Sends one Ethernet frame as it is.
    ///
    /// # Errors
    /// The system's: ENETDOWN while the interface is down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.sender.send(frame).map(drop)
    }

    fn receive(&self) -> io::Result<Option<[u8; FRAME_BUFFER_LEN]>> {
        let mut frame = [0; FRAME_BUFFER_LEN];
        match (&self.ear).read(&mut frame) {
            Ok(_) => Ok(Some(frame)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Readable when a frame that may be a claim of another host waits.
impl AsFd for LinkPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ear.as_fd()
    }
}

/// The socket's filter (classic BPF, packet(7)), so that nothing else wakes the listener: ARP from the address or
/// probing for it; advertisements of it. Frames of other VLANs are about another network.
fn claims_of(address: IpAddr) -> Vec<SockFilter> {
    const LOAD_WORD: u16 = 0x20;
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_EQ: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT of linux/filter.h.
    const VLAN_TAG_PRESENT: u32 = 0xffff_f000 + 48;
    const WHOLE: u32 = u32::MAX;
    const ARP_SENDER: u32 = 28;
    const ARP_TARGET: u32 = 38;
    const IPV6_NEXT_HEADER: u32 = 20;
    const ICMPV6_TYPE: u32 = 54;
    const ND_TARGET: u32 = 62;

    let step = |code, k| SockFilter::new(code, 0, 0, k);
    // Jumps over so many instructions unless what was loaded is `k`.
    let must_be =
        |k, over: usize| SockFilter::new(JUMP_EQ, 0, u8::try_from(over).expect("a filter of a dozen instructions"), k);
    let (accept, reject) = (step(RETURN, WHOLE), step(RETURN, 0));
    match address {
        IpAddr::V4(address) => {
            let word = u32::from(address);
            vec![
                step(LOAD_WORD, VLAN_TAG_PRESENT),
                must_be(0, 6),
                step(LOAD_WORD, ARP_SENDER),
                SockFilter::new(JUMP_EQ, 3, 0, word),
                must_be(0, 3),
                step(LOAD_WORD, ARP_TARGET),
                must_be(word, 1),
                accept,
                reject,
            ]
        }
        IpAddr::V6(address) => {
            let octets = address.octets();
            let mut checks = vec![
                (LOAD_WORD, VLAN_TAG_PRESENT, 0),
                (LOAD_BYTE, IPV6_NEXT_HEADER, 58),
                (LOAD_BYTE, ICMPV6_TYPE, 136),
            ];
            for (at, word) in (ND_TARGET..).step_by(4).zip(octets.chunks(4)) {
                let word = u32::from_be_bytes(word.try_into().expect("sixteen is four times four"));
                checks.push((LOAD_WORD, at, word));
            }
            let mut filter = Vec::new();
            for (index, (load, at, value)) in checks.iter().enumerate() {
                filter.push(step(*load, *at));
                filter.push(must_be(*value, 2 * (checks.len() - 1 - index) + 1));
            }
            filter.extend([accept, reject]);
            filter
        }
    }
}

/// Waits until `socket` can be read, at most `wait` rounded up to a millisecond. Returns whether it can.
pub(super) fn wait_readable(socket: &impl AsFd, wait: Duration) -> io::Result<bool> {
    wait_any_readable(&[socket.as_fd()], wait)
}

/// Waits until one of `sockets` can be read, at most `wait` rounded up to a millisecond. Returns whether one can.
pub(crate) fn wait_any_readable(sockets: &[BorrowedFd<'_>], wait: Duration) -> io::Result<bool> {
    let millis = i32::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX);
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    let mut watched: Vec<_> = sockets.iter().map(|socket| PollFd::new(*socket, PollFlags::POLLIN)).collect();
    match poll(&mut watched, timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The hardware addresses of all interfaces of this host.
///
/// # Errors
/// The system's.
pub(super) fn own_hardware_addresses() -> io::Result<BTreeSet<[u8; 6]>> {
    Ok(nix::ifaddrs::getifaddrs()?.filter_map(|entry| entry.address?.as_link_addr()?.addr()).collect())
}

/// The link-layer socket address of an interface, as the system lists it.
pub(super) fn link_address(interface: &str) -> Result<LinkAddr, HaError> {
    let mut entries =
        nix::ifaddrs::getifaddrs().map_err(|errno| HaError::kernel("list the interfaces", errno.into()))?;
    entries
        .find_map(|entry| {
            let address = entry.address?.as_link_addr().copied()?;
            (entry.interface_name == interface).then_some(address)
        })
        .ok_or_else(|| HaError::NoInterface { interface: interface.to_owned() })
}

/// The hardware address of an interface that has Ethernet's.
///
/// # Errors
/// [`HaError::NoInterface`], also for one that is no Ethernet.
pub(crate) fn hardware_address(interface: &str) -> Result<[u8; 6], HaError> {
    link_address(interface)?.addr().ok_or_else(|| HaError::NoInterface { interface: interface.to_owned() })
}
