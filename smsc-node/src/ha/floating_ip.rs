//! The floating IP: what is opened at start, and the claim.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smsc_raft::leadership::{Leadership, LeaseEvent, MonoTime, ReleaseToken};

use super::bell::{Bell, Wake};
use super::certificate::ReleaseCertificate;
use super::data_path::{DataPathLease, Dropped};
use super::error::HaError;
use super::guard::keep::Keeper;
use super::guard::{self, Claim, Guard, GuardCommand};
use super::hold::{Holder, IpHold};
use super::link::{LinkPort, wait_any_readable};
use super::netlink::{AddressTable, LinkEvents, LinkInfo};
use super::preflight::{check_addresses, check_capabilities, find_link, remove_leftovers};
use super::relay::Relay;
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
    /// How long a claim waits for another host to say that it still has the address. Zero, as usual, asks as well and
    /// hears the answer while the address is held already: whoever answers does not stop a claim.
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

/// Whether the kernel itself silences the addresses when the lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataPathState {
    /// The filters stand; with what they dropped so far.
    Active(Dropped),
    /// Loopback mode: there are no packets to filter.
    NotNeeded,
    /// They could not be attached: why, and what to do. Daemon, guard and the kernel's lifetime guard the address.
    Missing(String),
}

/// Another host that was heard to use one of the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The address.
    pub address: IpAddr,
    /// The other host's hardware address.
    pub other: [u8; 6],
    /// When it was last heard.
    pub heard_at: MonoTime,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.address, MacAddress(self.other))
    }
}

/// What the claim and the hold share.
pub(super) struct Inner {
    pub(super) config: FloatingIpConfig,
    pub(super) bindings: Vec<Binding>,
    pub(super) tickler: Option<Arc<Tickler>>,
    pub(super) link_events: Option<LinkEvents>,
    /// For looking only; what changes addresses has a table of its own.
    links: Option<Mutex<AddressTable>>,
    data_path: Mutex<Result<Option<Arc<DataPathLease>>, String>>,
    takedown: Option<Mutex<Takedown>>,
    guard: Mutex<Option<Arc<Guard>>>,
    /// Hands the guard the sockets of sessions; none in loopback mode, where nothing is announced and nobody tickled.
    keeper: Option<Keeper>,
    peers: Mutex<Vec<SocketAddr>>,
    /// Hosts of the clients that this hold told about the takeover.
    clients: Mutex<BTreeSet<IpAddr>>,
    conflict: Mutex<Option<Conflict>>,
    conflicts_heard: AtomicU64,
    /// The term that holds, or [`NOT_HELD`].
    held: AtomicU64,
    /// When it was last made sure that nothing of the addresses is on this host, CLOCK_MONOTONIC nanoseconds, or [`NEVER`]
    /// since they were last added.
    cleared_at: AtomicU64,
}

/// How long a host that was heard to use an address is talked about: longer than from one announcement, which asks for
/// others, to the next.
const CONFLICT_MEMORY: Duration = Duration::from_secs(45);

/// Raft's terms begin at 1.
const NOT_HELD: u64 = 0;
/// See [`Inner::cleared_at`].
const NEVER: u64 = 0;
/// How long that is relied on: for an election, and not for what somebody may do by hand meanwhile.
const CLEARED_MEMORY: Duration = Duration::from_secs(1);

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
        let (mut takedown, mut tickler, mut links, mut link_events) = (None, None, None, None);
        let mut data_path = Ok(None);
        if config.mode == FloatingMode::Netlink {
            check_capabilities()?;
            let kernel = |error| HaError::kernel("open a netlink socket", error);
            let mut table = Takedown::open()?;
            let found = config.addresses.iter().map(|address| find_link(table.addresses(), &address.interface));
            let found = found.collect::<Result<Vec<_>, _>>()?;
            // Before anything else: should an earlier run have left an address here, it falls silent now.
            data_path = attach_data_path(&config, &found).map(Some);
            remove_leftovers(&mut table, &config.addresses)?;
            for (address, link) in config.addresses.iter().zip(&found) {
                let port = LinkPort::open(&address.interface, address.address)?;
                bindings.push(Binding { address: address.clone(), link_index: link.index, port });
            }
            takedown = Some(Mutex::new(table));
            tickler = Some(Arc::new(Tickler::open()?));
            links = Some(Mutex::new(AddressTable::open().map_err(kernel)?));
            link_events = Some(LinkEvents::open().map_err(kernel)?);
        }
        let guard = Guard::spawn(&config.guard, guard::START_WITHIN)?;
        let keeper = (config.mode == FloatingMode::Netlink).then(Keeper::start).transpose();
        let keeper = keeper.map_err(|error| HaError::kernel("start a thread", error))?;
        if let Some(keeper) = &keeper {
            keeper.connect(guard.sockets());
        }
        let inner = Inner {
            keeper,
            peers: Mutex::new(config.peers.clone()),
            config,
            bindings,
            tickler,
            link_events,
            links,
            data_path: Mutex::new(data_path),
            takedown,
            guard: Mutex::new(Some(Arc::new(guard))),
            clients: Mutex::default(),
            conflict: Mutex::new(None),
            conflicts_heard: AtomicU64::new(0),
            held: AtomicU64::new(NOT_HELD),
            cleared_at: AtomicU64::new(NEVER),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes everything ready to take the addresses for `leadership`, short of taking them: what an earlier hold left is
    /// cleared away, unless that was done within the last second, and the guard stands ready. The peers must know
    /// [`release_token_hash`](smsc_raft::leadership::Lease::release_token_hash) of its lease beforehand. For while the
    /// leader before still holds them.
    ///
    /// Blocks for about two milliseconds.
    ///
    /// # Errors
    /// [`HaError::NotLeader`] if the lease is over, [`HaError::StillHeld`] if an earlier hold was not released,
    /// [`HaError::NoCarrier`] if clients could not reach this node, [`HaError::Guard`] if no guard stands ready,
    /// [`HaError::NotReleased`] if connections of an earlier hold would not die, [`HaError::Kernel`] as it says. Nothing
    /// is left on the host then.
    pub fn prepare(&self, leadership: &Leadership) -> Result<Prepared, HaError> {
        let term = leadership.term;
        self.inner
            .held
            .compare_exchange(NOT_HELD, term, Ordering::AcqRel, Ordering::Acquire)
            .map_err(|term| HaError::StillHeld { term })?;
        self.inner.prepare(leadership).inspect_err(|_| self.inner.set_not_held())
    }

    /// [Prepares](Self::prepare) and [claims](Prepared::claim).
    ///
    /// # Errors
    /// Those of both.
    pub fn claim(&self, leadership: &Leadership) -> Result<IpHold, HaError> {
        self.prepare(leadership)?.claim()
    }

    /// What the peers may be shown once the lease of `leadership` has been ended on purpose and this node holds nothing:
    /// it makes sure that nothing of the addresses is on this host.
    ///
    /// # Errors
    /// [`HaError::StillHeld`] while this node holds them or the lease may be taken up again, [`HaError::NotReleased`] and
    /// [`HaError::Kernel`] if it is not certain that they are off.
    pub fn certify(&self, leadership: &Leadership) -> Result<ReleaseCertificate, HaError> {
        let lease = leadership.lease();
        if let Some(term) = self.held_by_term() {
            return Err(HaError::StillHeld { term });
        }
        if !lease.is_given_up() || lease.deadline().is_some() {
            return Err(HaError::StillHeld { term: leadership.term });
        }
        self.inner.take_down()?;
        Ok(self.inner.certificate(leadership.term, lease.token().clone()))
    }

    /// Whether [`clear_ahead`](Self::clear_ahead) would have anything to do.
    #[must_use]
    pub fn may_clear_ahead(&self) -> bool {
        self.held_by_term().is_none() && !self.inner.is_cleared()
    }

    /// Clears away beforehand what an earlier hold may have left, for a claim within the next second, unless the addresses
    /// are held. Blocks for some milliseconds.
    pub fn clear_ahead(&self) {
        if let Err(error) = self.inner.clear_ahead() {
            // Preparing a claim tries it again, and has whom to tell.
            tracing::debug!(%error, "nothing was cleared ahead of a claim");
        }
    }

    /// What keeps requests to connect that come while this node hands over; none in loopback mode. Blocks for some
    /// milliseconds.
    ///
    /// # Errors
    /// [`HaError::NoInterface`], [`HaError::Kernel`] if no packet socket can be had.
    pub fn relay(&self) -> Result<Option<Relay>, HaError> {
        let addresses = self.inner.bindings.iter().map(|binding| &binding.address);
        let needed = self.inner.config.mode == FloatingMode::Netlink;
        needed.then(|| Relay::open(addresses.map(|at| (at.address, at.interface.as_str())))).transpose()
    }

    /// Keeps the sockets of sessions open beyond the daemon's death; none in loopback mode.
    #[must_use]
    pub fn keeper(&self) -> Option<Keeper> {
        self.inner.keeper.clone()
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
        self.inner.peers()
    }

    /// The term that holds the addresses on this node at this moment.
    #[must_use]
    pub fn held_by_term(&self) -> Option<u64> {
        Some(self.inner.held.load(Ordering::Acquire)).filter(|term| *term != NOT_HELD)
    }

    /// Whether the kernel itself silences the addresses when the lease ends.
    #[must_use]
    pub fn data_path(&self) -> DataPathState {
        match &*self.inner.lock_data_path() {
            Ok(Some(data_path)) => DataPathState::Active(data_path.dropped()),
            Ok(None) => DataPathState::NotNeeded,
            Err(why) => DataPathState::Missing(why.clone()),
        }
    }

    /// Another host that uses one of the addresses, if one was heard lately while this node held it.
    #[must_use]
    pub fn conflict(&self) -> Option<Conflict> {
        let conflict = *self.inner.conflict.lock().unwrap_or_else(PoisonError::into_inner);
        conflict.filter(|conflict| MonoTime::now().since(conflict.heard_at) < CONFLICT_MEMORY)
    }

    /// How often another host was heard to use one of the addresses since the start.
    #[must_use]
    pub fn conflicts_heard(&self) -> u64 {
        self.inner.conflicts_heard.load(Ordering::Relaxed)
    }

    /// The first interface of an address by which no client would reach this node now: down, without carrier, or gone.
    /// Some tens of microseconds.
    #[must_use]
    pub fn interface_without_carrier(&self) -> Option<String> {
        self.inner.interface_without_carrier()
    }

    /// Takes the filters of the data path off when the addresses are certain to be gone from this host; for the end of
    /// the process.
    ///
    /// # Errors
    /// [`HaError::StillHeld`], [`HaError::NotReleased`] or [`HaError::Kernel`]; the filters stay then and keep the
    /// addresses silent here.
    pub fn close(&self) -> Result<(), HaError> {
        if let Some(term) = self.held_by_term() {
            return Err(HaError::StillHeld { term });
        }
        self.inner.take_down()?;
        match &*self.inner.lock_data_path() {
            Ok(Some(data_path)) => {
                data_path.detach().map_err(|error| HaError::kernel("take off the filter of the data path", error))
            }
            _ => Ok(()),
        }
    }

    /// The guard's process id, if there is a guard.
    #[must_use]
    pub fn guard_pid(&self) -> Option<u32> {
        self.inner.guard().map(|guard| guard.pid())
    }
}

/// Ready to take the addresses. Dropping it takes nothing.
pub struct Prepared {
    inner: Arc<Inner>,
    leadership: Leadership,
    bell: Arc<Bell>,
    guard: Arc<Guard>,
    claimed: bool,
}

impl Prepared {
    /// Adds the addresses with a kernel lifetime and announces them.
    ///
    /// Blocks for [`probe_wait`](FloatingIpConfig::probe_wait) and less than a millisecond. Another host that uses an
    /// address does not stop the claim, because the lease says who is right: it is asked for, logged, answered, and kept
    /// in [`FloatingIp::conflict`].
    ///
    /// # Errors
    /// [`HaError::NotLeader`] if the lease is over, [`HaError::Kernel`] if an address could not be added. Nothing is left
    /// on the host then, or the guard is left to see to it.
    pub fn claim(mut self) -> Result<IpHold, HaError> {
        let (inner, leadership) = (&self.inner, &self.leadership);
        // The wait for the leader before may have been long.
        if self.guard.is_gone() {
            self.guard = inner.arm_guard(leadership)?;
        }
        let conflicts = inner.probe();
        // Only now may packets pass: the address may have been another's until here.
        inner.follow_lease(leadership, &self.guard, &self.bell, inner.data_path_lease());
        let hold = inner
            .add_addresses(leadership)
            // The time between the check before adding and here may be long: the process may have stood still.
            .and_then(|()| if leadership.valid_now() { Ok(()) } else { Err(not_leader(leadership)) })
            .and_then(|()| Holder::start(Arc::clone(inner), leadership.clone(), Arc::clone(&self.bell), conflicts))?;
        self.claimed = true;
        Ok(hold)
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.claimed {
            return;
        }
        let term = self.leadership.term;
        self.leadership.lease().unobserve();
        self.inner.close_data_path();
        // What cannot be taken down is left to the guard, and to the kernel when the address's life ends.
        match self.inner.take_down() {
            Ok(_) => {
                if let Err(error) = self.guard.stand_down(term) {
                    tracing::warn!(term, %error, "the guard was ended instead; another is started for the next claim");
                }
            }
            Err(error) => tracing::error!(term, %error, "the floating IP may still be on this host"),
        }
        self.inner.set_not_held();
    }
}

fn not_leader(leadership: &Leadership) -> HaError {
    HaError::NotLeader { term: leadership.term }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.stop();
        }
    }
}

impl Inner {
    fn prepare(self: &Arc<Self>, leadership: &Leadership) -> Result<Prepared, HaError> {
        if !leadership.valid_now() {
            return Err(not_leader(leadership));
        }
        if let Some(interface) = self.interface_without_carrier() {
            return Err(HaError::NoCarrier { interface });
        }
        // Connections of an earlier hold would send what they had buffered as soon as the address is back.
        self.take_down_unless_cleared()?;
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let bell = Arc::new(Bell::new().map_err(|error| HaError::kernel("open a socket pair", error))?);
        let guard = self.arm_guard(leadership)?;
        self.follow_lease(leadership, &guard, &bell, None);
        Ok(Prepared { inner: Arc::clone(self), leadership: leadership.clone(), bell, guard, claimed: false })
    }

    fn add_addresses(&self, leadership: &Leadership) -> Result<(), HaError> {
        let Some(mut takedown) = self.takedown() else {
            return Ok(());
        };
        self.cleared_at.store(NEVER, Ordering::Release);
        for Binding { address, link_index, .. } in &self.bindings {
            if !leadership.valid_now() {
                return Err(not_leader(leadership));
            }
            takedown
                .addresses()
                .add(*link_index, address.address, address.prefix_len, self.config.valid_lft_s)
                .map_err(|error| HaError::kernel(format!("add {} to {}", address.address, address.interface), error))?;
        }
        Ok(())
    }

    /// Asks on every interface at once whether somebody else has its address.
    fn probe(&self) -> Vec<(IpAddr, [u8; 6])> {
        let mut conflicts = Vec::new();
        if self.config.probe_wait.is_zero() {
            return conflicts;
        }
        let mut asked = Vec::new();
        for binding in &self.bindings {
            let Ok(LinkInfo { mac: Some(mac), .. }) = self.link(&binding.address.interface) else {
                continue;
            };
            match binding.port.forget().and_then(|()| binding.port.ask_who_else(mac)) {
                Ok(()) => asked.push((binding, mac)),
                Err(error) => {
                    let address = binding.address.address;
                    tracing::warn!(%address, %error, "could not ask whether another host uses the floating IP");
                }
            }
        }
        let deadline = MonoTime::now() + self.config.probe_wait;
        while !asked.is_empty() {
            asked.retain(|(binding, mac)| {
                let Some(other) = self.rival_on(binding, *mac) else {
                    return true;
                };
                let address = binding.address.address;
                tracing::error!(
                    %address,
                    other = %MacAddress(other),
                    "another host still uses the floating IP; claiming it all the same, because the lease is ours: \
                     switch that host off or remove the address there"
                );
                self.note_conflict(address, other);
                conflicts.push((address, other));
                false
            });
            let left = deadline.since(MonoTime::now());
            let ears: Vec<_> = asked.iter().map(|(binding, _)| binding.port.as_fd()).collect();
            if left.is_zero() || ears.is_empty() || wait_any_readable(&ears, left).is_err() {
                break;
            }
        }
        conflicts
    }

    /// Makes the guard, or a new one if that was lost, ready to undo a claim.
    fn arm_guard(&self, leadership: &Leadership) -> Result<Arc<Guard>, HaError> {
        match self.guard() {
            Some(guard) if guard.arm(&self.guard_claim(leadership)?).is_ok() => Ok(guard),
            _ => {
                tracing::warn!("the guard process was lost; starting another");
                let guard = Arc::new(Guard::spawn(&self.config.guard, guard::REPLACE_WITHIN)?);
                guard.arm(&self.guard_claim(leadership)?)?;
                if let Some(keeper) = &self.keeper {
                    keeper.connect(guard.sockets());
                }
                *self.guard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&guard));
                Ok(guard)
            }
        }
    }

    /// Arms another guard in the place of one that was lost while the addresses are held.
    pub(super) fn replace_guard(&self, leadership: &Leadership, bell: &Arc<Bell>) -> Result<(), HaError> {
        let guard = self.arm_guard(leadership)?;
        self.follow_lease(leadership, &guard, bell, self.data_path_lease());
        Ok(())
    }

    /// Lets the guard, and the filter if one is given, hear of the lease from here on.
    fn follow_lease(
        &self,
        leadership: &Leadership,
        guard: &Arc<Guard>,
        bell: &Arc<Bell>,
        data_path: Option<Arc<DataPathLease>>,
    ) {
        let term = leadership.term;
        let (told, bell) = (Arc::clone(guard), Arc::clone(bell));
        leadership.lease().observe(move |event| match event {
            LeaseEvent::Extending(deadline) => {
                told.extend(term, deadline);
                if let Some(data_path) = &data_path {
                    data_path.open_until(deadline);
                }
            }
            LeaseEvent::Ended => {
                if let Some(data_path) = &data_path {
                    data_path.close();
                }
                bell.ring(Wake::LeaseEnded);
            }
        });
    }

    fn data_path_lease(&self) -> Option<Arc<DataPathLease>> {
        self.lock_data_path().as_ref().ok().cloned().flatten()
    }

    fn guard_claim(&self, leadership: &Leadership) -> Result<Claim, HaError> {
        let lease = leadership.lease();
        let deadline = lease.deadline().ok_or(HaError::NotLeader { term: leadership.term })?;
        // In loopback mode there are no bindings.
        let (addresses, interfaces) =
            self.bindings.iter().map(|binding| (binding.address.address, binding.address.interface.clone())).unzip();
        Ok(Claim {
            term: leadership.term,
            cluster_id: self.config.cluster_id,
            node_id: self.config.node_id,
            token: lease.token().clone(),
            addresses,
            interfaces,
            peers: self.peers(),
            deadline_ns: deadline.as_nanos(),
        })
    }

    pub(super) fn peers(&self) -> Vec<SocketAddr> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the addresses off this host; nothing to do in loopback mode. The filter of the data path is closed, if there
    /// is one.
    pub(super) fn take_down(&self) -> Result<TakenDown, HaError> {
        match self.takedown() {
            Some(takedown) => self.take_down_with(takedown),
            None => Ok(TakenDown::default()),
        }
    }

    fn take_down_with(&self, mut takedown: MutexGuard<'_, Takedown>) -> Result<TakenDown, HaError> {
        let silenced = self.data_path_lease().is_some();
        let addresses = self.addresses();
        let done = if silenced { takedown.take_down_silenced(&addresses) } else { takedown.take_down(&addresses) }?;
        self.cleared_at.store(MonoTime::now().as_nanos(), Ordering::Release);
        Ok(done)
    }

    /// Whether it was made sure within the last [`CLEARED_MEMORY`] that nothing of the addresses is on this host.
    fn is_cleared(&self) -> bool {
        let cleared_at = self.cleared_at.load(Ordering::Acquire);
        cleared_at != NEVER && MonoTime::now().since(MonoTime::from_nanos(cleared_at)) < CLEARED_MEMORY
    }

    fn take_down_unless_cleared(&self) -> Result<(), HaError> {
        match self.takedown() {
            // Whoever clears ahead has it locked meanwhile.
            Some(takedown) if !self.is_cleared() => self.take_down_with(takedown).map(drop),
            _ => Ok(()),
        }
    }

    fn clear_ahead(&self) -> Result<(), HaError> {
        match self.takedown() {
            // A claim marks the addresses as held before it locks this to add them.
            Some(takedown) if self.held.load(Ordering::Acquire) == NOT_HELD && !self.is_cleared() => {
                self.take_down_with(takedown).map(drop)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn takedown(&self) -> Option<MutexGuard<'_, Takedown>> {
        self.takedown.as_ref().map(|takedown| takedown.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The interface as it is now: its hardware address and carrier may change.
    pub(super) fn link(&self, interface: &str) -> io::Result<LinkInfo> {
        self.links()?.link(interface)
    }

    /// To whom a packet for `address` is handed on that interface.
    pub(super) fn next_hop(&self, link_index: u32, address: IpAddr) -> io::Result<Option<IpAddr>> {
        self.links()?.next_hop(link_index, address)
    }

    fn links(&self) -> io::Result<MutexGuard<'_, AddressTable>> {
        let links = self.links.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        Ok(links.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn interface_without_carrier(&self) -> Option<String> {
        let dark = self.bindings.iter().find(|binding| {
            let link = self.link(&binding.address.interface);
            !link.is_ok_and(|link| link.carrier && link.index == binding.link_index)
        });
        dark.map(|binding| binding.address.interface.clone())
    }

    /// Lets nothing of the addresses pass from now on.
    pub(super) fn close_data_path(&self) {
        if let Ok(Some(data_path)) = &*self.lock_data_path() {
            data_path.close();
        }
    }

    /// Puts filters back that somebody has taken off.
    pub(super) fn inspect_data_path(&self) {
        let mut data_path = self.lock_data_path();
        let Ok(Some(lease)) = &*data_path else {
            return;
        };
        match lease.ensure() {
            Ok(false) => {}
            Ok(true) => tracing::warn!("somebody took the filter of the floating IP off its interface; put it back"),
            Err(why) => {
                tracing::error!("no lease in the data path any more: {why}");
                *data_path = Err(why);
            }
        }
    }

    fn lock_data_path(&self) -> MutexGuard<'_, Result<Option<Arc<DataPathLease>>, String>> {
        self.data_path.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn remember_clients(&self, clients: impl Iterator<Item = IpAddr>) {
        let mut known = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(clients.map(|client| client.to_canonical()));
    }

    pub(super) fn clients(&self) -> BTreeSet<IpAddr> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another host that was heard to use the address of `binding`. An interface of this host that lies on the same
    /// network answers for every address of the host and is none.
    pub(super) fn rival_on(&self, binding: &Binding, mac: [u8; 6]) -> Option<[u8; 6]> {
        let mut others = binding.port.foreign_claims(mac).unwrap_or_default();
        if others.is_empty() {
            return None;
        }
        for link in self.links().and_then(|mut links| links.links()).unwrap_or_default() {
            others.retain(|other| link.mac != Some(*other));
        }
        others.pop_first()
    }

    pub(super) fn note_conflict(&self, address: IpAddr, other: [u8; 6]) {
        self.conflicts_heard.fetch_add(1, Ordering::Relaxed);
        let mut conflict = self.conflict.lock().unwrap_or_else(PoisonError::into_inner);
        *conflict = Some(Conflict { address, other, heard_at: MonoTime::now() });
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

/// Attaches the filters; where that is not possible the node works without, and says so once here and then in its status.
fn attach_data_path(config: &FloatingIpConfig, links: &[LinkInfo]) -> Result<Arc<DataPathLease>, String> {
    let addresses: Vec<_> = config.addresses.iter().map(|address| address.address).collect();
    let mut different: Vec<LinkInfo> = Vec::new();
    for link in links {
        if !different.contains(link) {
            different.push(link.clone());
        }
    }
    DataPathLease::attach(config.cluster_id, config.node_id, different, addresses)
        .map(Arc::new)
        .inspect_err(|why| tracing::warn!("no lease in the data path, a frozen host may answer for two seconds: {why}"))
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
