//! The floating IP: what is opened at start, and the claim.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smsc_raft::leadership::{Leadership, LeaseEvent, ReleaseToken};

use super::certificate::ReleaseCertificate;
use super::error::HaError;
use super::guard::{Claim, Guard, GuardCommand};
use super::hold::{Holder, IpHold, Wake};
use super::link::LinkPort;
use super::netlink::LinkInfo;
use super::preflight::{check_addresses, check_capabilities, find_link, remove_leftovers};
use super::takedown::{Takedown, TakenDown};
use super::tickle::Tickler;

/// How an address is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatingMode {
    /// By adding it to an interface: needs CAP_NET_ADMIN and CAP_NET_RAW.
    Netlink,
    /// For one machine without privileges: the address is one of loopback's (127.0.0.100, say), which are always
    /// there. Whoever listens on it holds it, so claim and release change nothing but keep their order.
    Loopback,
}

/// One address that moves between the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatingAddress {
    /// The address.
    pub address: IpAddr,
    /// Its prefix length. 32 (IPv6: 128) is right unless the address must bring its own subnet: an address inside the
    /// host's own prefix would go whenever the host's address goes.
    pub prefix_len: u8,
    /// The interface that gets it, on this node. Not used in loopback mode.
    pub interface: String,
}

/// What [`FloatingIp::open`] needs to know.
#[derive(Clone, Debug)]
pub struct FloatingIpConfig {
    /// How the addresses are held.
    pub mode: FloatingMode,
    /// The addresses; they move together.
    pub addresses: Vec<FloatingAddress>,
    /// How long the kernel keeps an address that nobody renews: the last line of defence. Whole seconds, at least 1;
    /// 2 is usual.
    pub valid_lft_s: u32,
    /// How often the daemon renews that life; several times within it. 300 ms is usual.
    pub renew_interval: Duration,
    /// How long a claim waits for another host to say that it still has the address. 10 to 20 ms; zero asks nobody.
    pub probe_wait: Duration,
    /// The cluster, as written in release certificates.
    pub cluster_id: u64,
    /// This node, as written in release certificates.
    pub node_id: u64,
    /// Where the peers listen for release certificates.
    pub peers: Vec<SocketAddr>,
    /// How the guard is started.
    pub guard: GuardCommand,
}

/// One address with its interface's index and packet sockets.
pub(super) struct Binding {
    pub(super) address: FloatingAddress,
    pub(super) link_index: u32,
    pub(super) port: LinkPort,
}

/// What the claim and the hold share.
pub(super) struct Inner {
    pub(super) config: FloatingIpConfig,
    pub(super) bindings: Vec<Binding>,
    pub(super) tickler: Option<Arc<Tickler>>,
    takedown: Option<Mutex<Takedown>>,
    guard: Mutex<Option<Arc<Guard>>>,
    peers: Mutex<Vec<SocketAddr>>,
    /// The term that holds, or [`NOT_HELD`].
    held: AtomicU64,
}

/// Raft's terms begin at 1.
const NOT_HELD: u64 = 0;

/// The addresses of the cluster, as this node may hold them.
///
/// Opened once at start, so that a claim opens no socket and starts no process.
pub struct FloatingIp {
    inner: Arc<Inner>,
}

impl FloatingIp {
    /// Opens the sockets, starts the guard, and removes what an earlier run may have left behind.
    ///
    /// # Errors
    /// [`HaError::Capability`], [`HaError::NoAddress`], [`HaError::Address`], [`HaError::NoInterface`]: the operator
    /// must correct the configuration or the service's rights. [`HaError::Guard`], [`HaError::Kernel`]: as they say.
    pub fn open(config: FloatingIpConfig) -> Result<Self, HaError> {
        check_addresses(config.mode, &config.addresses)?;
        let mut bindings = Vec::new();
        let (mut takedown, mut tickler) = (None, None);
        if config.mode == FloatingMode::Netlink {
            check_capabilities()?;
            let mut table = Takedown::open()?;
            for address in &config.addresses {
                let link = find_link(table.addresses(), &address.interface)?;
                let port = LinkPort::open(&address.interface)?;
                bindings.push(Binding { address: address.clone(), link_index: link.index, port });
            }
            remove_leftovers(&mut table, &config.addresses)?;
            takedown = Some(Mutex::new(table));
            tickler = Some(Arc::new(Tickler::open()?));
        }
        let guard = Guard::spawn(&config.guard)?;
        let inner = Inner {
            peers: Mutex::new(config.peers.clone()),
            config,
            bindings,
            tickler,
            takedown,
            guard: Mutex::new(Some(Arc::new(guard))),
            held: AtomicU64::new(NOT_HELD),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes the addresses for `leadership`: asks whether another host still has one, hands the claim to the guard,
    /// adds the addresses with a kernel lifetime, and announces them. The peers must know
    /// [`release_token_hash`](smsc_raft::leadership::Lease::release_token_hash) of its lease beforehand.
    ///
    /// Blocks for about [`probe_wait`](FloatingIpConfig::probe_wait) and two milliseconds. A host that answers the
    /// probe does not stop the claim, because the lease says who is right; it is logged and kept in
    /// [`IpHold::conflicts`].
    ///
    /// # Errors
    /// [`HaError::NotLeader`] if the lease is over, [`HaError::StillHeld`] if an earlier hold was not released,
    /// [`HaError::Guard`] if no guard stands ready, [`HaError::Kernel`] if an address could not be added. Nothing is
    /// left on the host then.
    pub fn claim(&self, leadership: &Leadership) -> Result<IpHold, HaError> {
        let term = leadership.term;
        self.inner
            .held
            .compare_exchange(NOT_HELD, term, Ordering::AcqRel, Ordering::Acquire)
            .map_err(|term| HaError::StillHeld { term })?;
        self.inner.claim(leadership).inspect_err(|_| self.inner.set_not_held())
    }

    /// Where the peers listen for release certificates, from now on.
    pub fn set_peers(&self, peers: Vec<SocketAddr>) {
        let mut current = self.inner.peers.lock().unwrap_or_else(PoisonError::into_inner);
        *current = peers;
        let term = self.inner.held.load(Ordering::Acquire);
        if term != NOT_HELD
            && let Some(guard) = self.inner.guard()
        {
            guard.tell_peers(term, &current);
        }
    }

    /// Where the peers listen for release certificates.
    #[must_use]
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.inner.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The term that holds the addresses on this node at this moment.
    #[must_use]
    pub fn held_by_term(&self) -> Option<u64> {
        Some(self.inner.held.load(Ordering::Acquire)).filter(|term| *term != NOT_HELD)
    }

    /// The guard's process id, if there is a guard.
    #[must_use]
    pub fn guard_pid(&self) -> Option<u32> {
        self.inner.guard().map(|guard| guard.pid())
    }
}

impl Inner {
    fn claim(self: &Arc<Self>, leadership: &Leadership) -> Result<IpHold, HaError> {
        let not_leader = || HaError::NotLeader { term: leadership.term };
        if !leadership.valid_now() {
            return Err(not_leader());
        }
        // Connections of an earlier hold would send what they had buffered as soon as the address is back.
        self.take_down()?;
        let conflicts = self.probe();
        let (wake, woken) = channel();
        let guard = self.arm_guard(leadership, &wake)?;
        let held = self
            .add_addresses(leadership)
            // The time between the check before adding and here may be long: the process may have stood still.
            .and_then(|()| if leadership.valid_now() { Ok(()) } else { Err(not_leader()) })
            .and_then(|()| Holder::start(Arc::clone(self), leadership.clone(), wake, woken, conflicts));
        if held.is_err() {
            leadership.lease().unobserve();
            self.take_down()?;
            guard.stand_down(leadership.term)?;
        }
        held
    }

    fn add_addresses(&self, leadership: &Leadership) -> Result<(), HaError> {
        let Some(mut takedown) = self.takedown() else {
            return Ok(());
        };
        for Binding { address, link_index, .. } in &self.bindings {
            if !leadership.valid_now() {
                return Err(HaError::NotLeader { term: leadership.term });
            }
            takedown
                .addresses()
                .add(*link_index, address.address, address.prefix_len, self.config.valid_lft_s)
                .map_err(|error| HaError::kernel(format!("add {} to {}", address.address, address.interface), error))?;
        }
        Ok(())
    }

    /// Asks on every interface whether somebody else has its address.
    fn probe(&self) -> Vec<(IpAddr, [u8; 6])> {
        let mut conflicts = Vec::new();
        if self.config.probe_wait.is_zero() {
            return conflicts;
        }
        for binding in &self.bindings {
            let (IpAddr::V4(address), Ok(LinkInfo { mac: Some(mac), .. })) =
                (binding.address.address, self.link(&binding.address.interface))
            else {
                continue;
            };
            match binding.port.probe(mac, address, self.config.probe_wait) {
                Ok(Some(other)) => {
                    tracing::error!(
                        %address,
                        other = %MacAddress(other),
                        "another host still uses the floating IP; claiming it all the same, because the lease is ours: \
                         switch that host off or remove the address there"
                    );
                    conflicts.push((binding.address.address, other));
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%address, %error, "could not ask whether another host uses the floating IP");
                }
            }
        }
        conflicts
    }

    /// Makes the guard, or a new one if that was lost, ready to undo a claim, and lets it hear of the lease from here
    /// on.
    pub(super) fn arm_guard(&self, leadership: &Leadership, wake: &Sender<Wake>) -> Result<Arc<Guard>, HaError> {
        let term = leadership.term;
        let guard = match self.guard() {
            Some(guard) if guard.arm(&self.guard_claim(leadership)?).is_ok() => guard,
            _ => {
                tracing::warn!("the guard process was lost; starting another");
                let guard = Arc::new(Guard::spawn(&self.config.guard)?);
                guard.arm(&self.guard_claim(leadership)?)?;
                *self.guard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&guard));
                guard
            }
        };
        let (told, wake) = (Arc::clone(&guard), wake.clone());
        leadership.lease().observe(move |event| match event {
            LeaseEvent::Extending(deadline) => told.extend(term, deadline),
            LeaseEvent::Ended => {
                // Failing means that the address has been given back.
                let _ = wake.send(Wake::LeaseEnded);
            }
        });
        Ok(guard)
    }

    fn guard_claim(&self, leadership: &Leadership) -> Result<Claim, HaError> {
        let lease = leadership.lease();
        let deadline = lease.deadline().ok_or(HaError::NotLeader { term: leadership.term })?;
        let addresses = match self.config.mode {
            FloatingMode::Netlink => self.addresses(),
            FloatingMode::Loopback => Vec::new(),
        };
        Ok(Claim {
            term: leadership.term,
            cluster_id: self.config.cluster_id,
            node_id: self.config.node_id,
            token: lease.token().clone(),
            addresses,
            peers: self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            deadline_ns: deadline.as_nanos(),
        })
    }

    /// Takes the addresses off this host; nothing to do in loopback mode.
    pub(super) fn take_down(&self) -> Result<TakenDown, HaError> {
        match self.takedown() {
            Some(mut takedown) => takedown.take_down(&self.addresses()),
            None => Ok(TakenDown::default()),
        }
    }

    pub(super) fn takedown(&self) -> Option<MutexGuard<'_, Takedown>> {
        self.takedown.as_ref().map(|takedown| takedown.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The interface as it is now: its hardware address and carrier may change.
    pub(super) fn link(&self, interface: &str) -> io::Result<LinkInfo> {
        self.takedown().ok_or(io::ErrorKind::Unsupported)?.addresses().link(interface)
    }

    pub(super) fn guard(&self) -> Option<Arc<Guard>> {
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().filter(|guard| !guard.is_gone()).cloned()
    }

    pub(super) fn certificate(&self, term: u64, token: ReleaseToken) -> ReleaseCertificate {
        ReleaseCertificate::new(self.config.cluster_id, self.config.node_id, term, token)
    }

    pub(super) fn set_not_held(&self) {
        self.held.store(NOT_HELD, Ordering::Release);
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.config.addresses.iter().map(|address| address.address).collect()
    }
}

/// A hardware address as operators write it.
pub(super) struct MacAddress(pub(super) [u8; 6]);

impl std::fmt::Display for MacAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_that_cannot_be_started_is_an_error_at_open() {
        let address =
            FloatingAddress { address: IpAddr::from([127, 0, 0, 100]), prefix_len: 32, interface: String::new() };
        let config = FloatingIpConfig {
            mode: FloatingMode::Loopback,
            addresses: vec![address],
            valid_lft_s: 2,
            renew_interval: Duration::from_millis(300),
            probe_wait: Duration::ZERO,
            cluster_id: 1,
            node_id: 1,
            peers: Vec::new(),
            guard: GuardCommand { program: "/nonexistent".into(), args: Vec::new() },
        };
        let error = FloatingIp::open(config).err().expect("no such program");
        assert!(matches!(error, HaError::Guard { .. }), "{error}");
    }
}
