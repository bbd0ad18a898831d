//! The bind by which a packet socket begins to hear. A module of its own because it takes unsafe code: the address names
//! a protocol, which no safe interface lets one set.

use std::io;

use nix::libc;
use nix::net::if_::if_nametoindex;
use socket2::{SockAddr, SockAddrStorage, Socket};

use super::link::AF_PACKET;

/// Lets a packet socket that was opened without a protocol hear the frames that come by `interface` from now on: all that
/// its filter lets through, and before any other part of the kernel sees them. Takes microseconds; opening a socket that
/// hears takes milliseconds.
///
/// # Errors
/// The system's.
pub(super) fn hear_everything(socket: &Socket, interface: &str) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: AF_PACKET as libc::sa_family_t,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: if_nametoindex(interface)?.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let init = |storage: *mut SockAddrStorage, length: *mut libc::socklen_t| {
        // SAFETY: `try_init` passes pointers to a storage that is large enough and aligned for every kind of address,
        // and to its length; both are ours alone until this returns.
        unsafe {
            storage.cast::<libc::sockaddr_ll>().write(address);
            length.write(size_of::<libc::sockaddr_ll>() as libc::socklen_t);
        }
        Ok(())
    };
    // SAFETY: `init` writes a whole sockaddr_ll, with the family of that name, and its length.
    let ((), address) = unsafe { SockAddr::try_init(init) }?;
    socket.bind(&address)
}
