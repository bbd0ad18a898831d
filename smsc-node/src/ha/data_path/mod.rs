//! The lease in the data path: a filter in the kernel that silences the floating addresses once a deadline has passed.
//!
//! The kernel's own lifetime of an address counts whole seconds, and the guard is a process that a frozen host freezes
//! with the daemon. This filter is neither: on each interface that carries a floating address a program looks at every
//! packet that comes from or goes to one (ARP and neighbour discovery included) and drops it unless CLOCK_MONOTONIC is
//! short of the deadline in its map. The daemon moves the deadline with the lease. When daemon, guard and all stand
//! still, the address falls silent at the end of the lease all the same.
//!
//! The filter outlives the process. The next one replaces it, closed, before it looks at anything else; a node that
//! ends in order takes it off.
//!
//! It is the last wall, not the only one: where the kernel or the service's rights do not allow it, the node works
//! without and says so.

mod asm;
mod bpf;
mod program;

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

use smsc_raft::leadership::MonoTime;

use self::program::{Direction, SLOT_DEADLINE, SLOT_DROPPED_EGRESS, SLOT_DROPPED_INGRESS, SLOTS};
use super::netlink::{AddressTable, FilterEntry, FilterTable, Hook, LinkInfo};

/// A deadline that lies before every moment.
const CLOSED: u64 = 0;

/// Packets that the filter dropped since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// On their way in.
    pub ingress: u64,
    /// On their way out.
    pub egress: u64,
}

/// The filters of this node, attached.
pub struct DataPathLease {
    map: bpf::Map,
    /// The number under which all its filters stand; several nodes may share an interface.
    handle: u32,
    links: Vec<LinkInfo>,
    addresses: Vec<IpAddr>,
    attached: Mutex<Attached>,
}

struct Attached {
    table: FilterTable,
    filters: Vec<FilterEntry>,
}

impl DataPathLease {
    /// Attaches a closed filter for `addresses` to each of `links`, in place of those of an earlier run, and takes
    /// earlier ones off every other interface.
    ///
    /// # Errors
    /// A sentence for the operator: why there is no lease in the data path, and what to do. What was attached is taken
    /// off again, and an earlier run's filters are left as they are.
    pub fn attach(cluster_id: u64, node_id: u64, links: Vec<LinkInfo>, addresses: Vec<IpAddr>) -> Result<Self, String> {
        let handle = handle(cluster_id, node_id);
        let open = || Ok((bpf::Map::create(SLOTS)?, FilterTable::open()?));
        let (map, mut table) = open().map_err(|error| explain(&error))?;
        let mut filters = Vec::new();
        for link in &links {
            if let Err(error) = attach_to(&mut table, link, handle, &addresses, &map, &mut filters) {
                for filter in &filters {
                    // Failing leaves a closed filter where no address is held: it hurts nobody.
                    let _ = table.detach(filter);
                }
                return Err(explain(&error));
            }
        }
        if let Err(error) = take_off_elsewhere(&mut table, handle, &links) {
            tracing::warn!(%error, "could not look for filters of an earlier run on other interfaces");
        }
        Ok(Self { map, handle, links, addresses, attached: Mutex::new(Attached { table, filters }) })
    }

    /// Lets packets pass until `deadline`; a microsecond.
    pub fn open_until(&self, deadline: MonoTime) {
        self.set(deadline.as_nanos());
    }

    /// Lets nothing pass from now on.
    pub fn close(&self) {
        self.set(CLOSED);
    }

    /// What was dropped since the filter was attached.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        let read = |slot| self.map.get(slot).unwrap_or(0);
        Dropped { ingress: read(SLOT_DROPPED_INGRESS), egress: read(SLOT_DROPPED_EGRESS) }
    }

    /// Puts every filter back that is no longer where it was put: somebody may have replaced the interface's qdisc.
    /// Returns whether one was missing. Some tens of microseconds if not.
    ///
    /// # Errors
    /// A sentence for the operator, as of [`attach`](Self::attach).
    pub fn ensure(&self) -> Result<bool, String> {
        let mut attached = self.lock();
        let Attached { table, filters } = &mut *attached;
        let missing = filters.iter().try_fold(false, |missing, filter| {
            let there = table.ours(filter.link_index(), filter.hook(), self.handle)?;
            Ok(missing | !there.contains(filter))
        });
        if !missing.map_err(|error: io::Error| explain(&error))? {
            return Ok(false);
        }
        filters.clear();
        for link in &self.links {
            attach_to(table, link, self.handle, &self.addresses, &self.map, filters)
                .map_err(|error| explain(&error))?;
        }
        Ok(true)
    }

    /// Takes the filters off; for when the addresses are certain to be gone from this host.
    ///
    /// # Errors
    /// The kernel's; what could not be taken off stays, closed.
    pub fn detach(&self) -> io::Result<()> {
        self.close();
        let mut attached = self.lock();
        let Attached { table, filters } = &mut *attached;
        while let Some(filter) = filters.last() {
            table.detach(filter)?;
            filters.pop();
        }
        Ok(())
    }

    fn set(&self, deadline_ns: u64) {
        // The slot is there, so this does not fail; if it does, the filter closes at the deadline it has.
        if let Err(error) = self.map.set(SLOT_DEADLINE, deadline_ns) {
            tracing::error!(%error, "the lease in the data path could not be moved");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Attached> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn attach_to(
    table: &mut FilterTable,
    link: &LinkInfo,
    handle: u32,
    addresses: &[IpAddr],
    map: &bpf::Map,
    filters: &mut Vec<FilterEntry>,
) -> io::Result<()> {
    table.add_hooks(link.index)?;
    for (hook, direction) in [(Hook::Egress, Direction::Egress), (Hook::Ingress, Direction::Ingress)] {
        let instructions = program::build(direction, link.header_len, addresses, map.raw_fd());
        let program = bpf::load_classifier(&instructions)?;
        filters.push(table.attach(link.index, hook, handle, program.as_raw_fd())?);
    }
    Ok(())
}

/// Interfaces that the configuration no longer names.
fn take_off_elsewhere(table: &mut FilterTable, handle: u32, links: &[LinkInfo]) -> io::Result<()> {
    for other in AddressTable::open()?.links()? {
        if links.iter().any(|link| link.index == other.index) {
            continue;
        }
        for hook in Hook::ALL {
            for filter in table.ours(other.index, hook, handle)? {
                table.detach(&filter)?;
            }
        }
    }
    Ok(())
}

/// The number of a node's filters: the same after a restart, another for another node or cluster. The kernel takes any
/// that is not zero.
fn handle(cluster_id: u64, node_id: u64) -> u32 {
    let mixed = (cluster_id ^ node_id.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    u32::try_from(mixed >> 33).expect("31 bits").max(1)
}

fn explain(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return "CAP_BPF is missing: give it with AmbientCapabilities=CAP_BPF in the systemd unit, and allow the system \
                call with SystemCallFilter=bpf"
            .to_owned();
    }
    format!(
        "the kernel refused the filter: {error}; it takes Linux 5.8 or newer with CONFIG_BPF_SYSCALL, \
         CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_clusters_have_filters_of_their_own() {
        let mut seen = std::collections::BTreeSet::new();
        for cluster in [1, 2, 0xcbf2_9ce4_8422_2325, u64::MAX] {
            for node in 1..=255 {
                let handle = handle(cluster, node);
                assert!(handle > 0 && handle < 1 << 31);
                assert!(seen.insert(handle), "cluster {cluster} node {node}");
            }
        }
    }
}
