//! The packet sockets of one interface, opened once: opening or closing one costs milliseconds, sending does not.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::LinkAddr;
use smsc_raft::leadership::MonoTime;
use socket2::{Domain, Protocol, Socket, Type};

use super::error::HaError;
use super::{arp, na};

/// `AF_PACKET` of linux/socket.h.
const AF_PACKET: i32 = 17;
/// Longer than any ARP frame; the rest of a longer frame is cut off unread.
const FRAME_BUFFER_LEN: usize = 128;

/// Sends announcements and probes on one interface, and hears the ARP frames of others.
pub struct LinkPort {
    sender: Socket,
    arp: Socket,
}

impl LinkPort {
    /// Opens both sockets on the interface.
    ///
    /// # Errors
    /// [`HaError::NoInterface`]; [`HaError::Capability`] without CAP_NET_RAW.
    pub fn open(interface: &str) -> Result<Self, HaError> {
        let address = link_address(interface)?;
        let open = |protocol: u16| -> io::Result<Socket> {
            let socket =
                Socket::new(Domain::from(AF_PACKET), Type::RAW, Some(Protocol::from(i32::from(protocol.to_be()))))?;
            nix::sys::socket::bind(socket.as_raw_fd(), &address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let kernel = |source| HaError::kernel(format!("open a packet socket on {interface}"), source);
        // Without a protocol nothing is queued on the sender, and the kernel reads each frame's own type.
        let sender = open(0).map_err(kernel)?;
        let arp = open(arp::ETHERTYPE_ARP).map_err(kernel)?;
        Ok(Self { sender, arp })
    }

    /// Tells the neighbours that `address` is at `mac`: both forms of gratuitous ARP, because some networks heed only
    /// one, or an unsolicited neighbour advertisement.
    ///
    /// # Errors
    /// The system's: ENETDOWN while the interface is down.
    pub fn announce(&self, mac: [u8; 6], address: IpAddr) -> io::Result<()> {
        match address {
            IpAddr::V4(address) => {
                self.send(&arp::announcement_request(mac, address))?;
                self.send(&arp::announcement_reply(mac, address))
            }
            IpAddr::V6(address) => self.send(&na::unsolicited(mac, address)),
        }
    }

    /// Asks whether another host uses `address`, waits up to `wait`, and returns the first that says so.
    ///
    /// # Errors
    /// The system's: ENETDOWN while the interface is down.
    pub fn probe(&self, mac: [u8; 6], address: Ipv4Addr, wait: Duration) -> io::Result<Option<[u8; 6]>> {
        self.forget()?;
        self.send(&arp::probe(mac, address))?;
        let deadline = MonoTime::now() + wait;
        loop {
            if let Some(claimant) = self.foreign_claim(mac, address)? {
                return Ok(Some(claimant));
            }
            let left = deadline.since(MonoTime::now());
            if left.is_zero() {
                return Ok(None);
            }
            wait_readable(&self.arp, left)?;
        }
    }

    /// Forgets what was heard so far: who had the address before it was claimed is no matter.
    ///
    /// # Errors
    /// The system's.
    pub fn forget(&self) -> io::Result<()> {
        while self.receive()?.is_some() {}
        Ok(())
    }

    /// The first host among those heard since the last call that used `address`; reads everything that waits.
    ///
    /// # Errors
    /// The system's.
    pub fn foreign_claim(&self, mac: [u8; 6], address: Ipv4Addr) -> io::Result<Option<[u8; 6]>> {
        let mut claimant = None;
        while let Some(frame) = self.receive()? {
            claimant = claimant.or_else(|| arp::foreign_claim(&frame, mac, address));
        }
        Ok(claimant)
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
        match (&self.arp).read(&mut frame) {
            Ok(_) => Ok(Some(frame)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Waits until `socket` can be read, at most `wait` rounded up to a millisecond. Returns whether it can.
pub(super) fn wait_readable(socket: &impl AsFd, wait: Duration) -> io::Result<bool> {
    let millis = i32::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX);
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    let mut watched = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match poll(&mut watched, timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The link-layer socket address of an interface, as the system lists it.
fn link_address(interface: &str) -> Result<LinkAddr, HaError> {
    let mut entries =
        nix::ifaddrs::getifaddrs().map_err(|errno| HaError::kernel("list the interfaces", errno.into()))?;
    entries
        .find_map(|entry| {
            let address = entry.address?.as_link_addr().copied()?;
            (entry.interface_name == interface).then_some(address)
        })
        .ok_or_else(|| HaError::NoInterface { interface: interface.to_owned() })
}
