//! Taking addresses off this host for certain: address first, then its sockets, then a look whether both are gone, as far as
//! they could have come back.

use std::net::IpAddr;

use super::error::HaError;
use super::netlink::{AddressTable, SocketTable};

/// A socket may be born (a handshake ending) while the others are destroyed; then they are gone through again.
const SOCKET_ROUNDS_MAX: u32 = 4;

/// What was found and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenDown {
    /// Address entries removed.
    pub addresses: usize,
    /// TCP connections destroyed.
    pub sockets: usize,
}

/// The kernel's tables, opened beforehand, so that taking down allocates no socket.
pub struct Takedown {
    addresses: AddressTable,
    sockets: SocketTable,
}

impl Takedown {
    /// Opens both tables.
    ///
    /// # Errors
    /// [`HaError::Kernel`] if no netlink socket can be had.
    pub fn open() -> Result<Self, HaError> {
        let addresses = AddressTable::open().map_err(|error| HaError::kernel("open a netlink socket", error))?;
        let sockets = SocketTable::open().map_err(|error| HaError::kernel("open a socket-diagnosis socket", error))?;
        Ok(Self { addresses, sockets })
    }

    /// The table of addresses.
    pub fn addresses(&mut self) -> &mut AddressTable {
        &mut self.addresses
    }

    /// Removes every one of `addresses` from every interface, then destroys the connections bound to them. Returns
    /// only once neither is there any more.
    ///
    /// The order matters: what the sockets had buffered, and the resets by which they die, must not leave this host
    /// under an address that is another's by then.
    ///
    /// # Errors
    /// [`HaError::NotReleased`] if something came back; [`HaError::Kernel`] or [`HaError::Capability`] if the kernel
    /// refused. The addresses are taken off as far as possible in any case.
    pub fn take_down(&mut self, addresses: &[IpAddr]) -> Result<TakenDown, HaError> {
        self.take_down_by(addresses, Self::destroy_until_none)
    }

    /// The same where the filter of the data path was closed before. Without the address and without a packet no connection
    /// is born while others are destroyed, so that one walk through the kernel's table is enough, which takes
    /// milliseconds, and there is no second one to look.
    ///
    /// # Errors
    /// As of [`take_down`](Self::take_down), but for connections that came back.
    pub fn take_down_silenced(&mut self, addresses: &[IpAddr]) -> Result<TakenDown, HaError> {
        self.take_down_by(addresses, Self::destroy_sockets)
    }

    fn take_down_by(
        &mut self,
        addresses: &[IpAddr],
        destroy: impl FnOnce(&mut Self, &[IpAddr]) -> Result<usize, HaError>,
    ) -> Result<TakenDown, HaError> {
        let done = TakenDown { addresses: self.take_off(addresses)?, sockets: destroy(self, addresses)? };
        for address in addresses {
            let left = self.addresses.find(*address).map_err(|error| HaError::kernel("list addresses", error))?;
            if !left.is_empty() {
                return Err(HaError::NotReleased { what: format!("the address {address}") });
            }
        }
        Ok(done)
    }

    /// The first step alone: removes every one of `addresses` from every interface, as far as possible. Returns how many
    /// entries there were.
    ///
    /// # Errors
    /// As of [`take_down`](Self::take_down), which has to follow.
    pub fn take_off(&mut self, addresses: &[IpAddr]) -> Result<usize, HaError> {
        let mut removed = 0;
        let mut first_error = None;
        for address in addresses {
            match self.remove_address(*address) {
                Ok(entries) => removed += entries,
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(removed), Err)
    }

    fn remove_address(&mut self, address: IpAddr) -> Result<usize, HaError> {
        let entries = self.addresses.find(address).map_err(|error| HaError::kernel("list addresses", error))?;
        for entry in &entries {
            self.addresses.delete(entry).map_err(|error| HaError::kernel(format!("remove {address}"), error))?;
        }
        Ok(entries.len())
    }

    fn destroy_sockets(&mut self, addresses: &[IpAddr]) -> Result<usize, HaError> {
        self.sockets
            .destroy(addresses)
            .map_err(|error| HaError::kernel(format!("destroy the connections of {}", listed(addresses)), error))
    }

    fn destroy_until_none(&mut self, addresses: &[IpAddr]) -> Result<usize, HaError> {
        let mut destroyed = 0;
        for _ in 0..SOCKET_ROUNDS_MAX {
            let found = self.destroy_sockets(addresses)?;
            if found == 0 {
                return Ok(destroyed);
            }
            destroyed += found;
        }
        for address in addresses {
            let left = self.sockets.count(*address);
            let left = left.map_err(|error| HaError::kernel(format!("list the connections of {address}"), error))?;
            if left > 0 {
                return Err(HaError::NotReleased { what: format!("{left} connections of {address}") });
            }
        }
        Ok(destroyed)
    }
}

fn listed(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}
