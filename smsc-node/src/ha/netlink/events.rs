//! Being told when something about a link changes, instead of asking.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::NetlinkAddr;
use socket2::{Domain, Protocol, Socket, Type};

use super::{AF_NETLINK, NETLINK_ROUTE};

/// RTMGRP_LINK of linux/rtnetlink.h.
const GROUP_LINK: u32 = 1;

/// Becomes readable when a link went up or down, changed its hardware address, came or went.
///
/// What happened is not read from the messages, which may be lost, but looked up: see
/// [`AddressTable::link`](super::AddressTable::link).
pub struct LinkEvents {
    socket: Socket,
}

impl LinkEvents {
    /// Listens to the kernel; needs no privilege.
    ///
    /// # Errors
    /// The system's, if no socket can be had.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_ROUTE)))?;
        nix::sys::socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUP_LINK))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Reads away all that waits. Returns whether there was anything.
    pub fn take(&self) -> bool {
        let mut buffer = [0; 4096];
        let mut any = false;
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return any,
                // ENOBUFS: more happened than the queue holds. That, too, is a reason to look.
                Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32) => any = true,
                Err(_) => return true,
            }
        }
    }
}

impl AsFd for LinkEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
