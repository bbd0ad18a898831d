//! Holding the address: the thread that renews its life as long as the lease lasts, and gives it back.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use smsc_raft::leadership::{Leadership, MonoTime};
use tokio::sync::watch;

use super::announce::AnnounceSchedule;
use super::certificate::ReleaseCertificate;
use super::error::HaError;
use super::floating_ip::{Binding, Inner, MacAddress};
use super::takedown::TakenDown;
use super::tickle::TickleRun;

/// A takedown that fails is tried again this often before the kernel's own expiry has to do it.
const TAKE_DOWN_RETRIES: u32 = 10;
const TAKE_DOWN_RETRY_GAP: Duration = Duration::from_millis(20);
/// How often at most a foreign claim of the address is answered (RFC 5227 section 2.4 is even slower; a client that
/// follows the wrong host is without service).
const DEFEND_INTERVAL: Duration = Duration::from_secs(1);

/// Whether the address is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldState {
    /// It is on this host and announced.
    Held,
    /// It is gone without having been released; the node stops serving.
    Lost(LossReason),
    /// It was released as asked.
    Released,
}

/// Why an address was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// The lease ended or ran out.
    LeaseEnded,
    /// The guard took the address away while this process stood still.
    TakenByGuard,
    /// Somebody removed the address, or the kernel dropped it because it could not be renewed.
    AddressGone,
}

/// Proof that the address is off this host and its connections are destroyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// What was removed at the end.
    pub taken_down: TakenDown,
    certificate: ReleaseCertificate,
}

impl Released {
    /// What the peers may be shown, so that they need not wait out the lease.
    #[must_use]
    pub fn certificate(&self) -> &ReleaseCertificate {
        &self.certificate
    }
}

/// The addresses, held for one term. Dropping it releases them.
pub struct IpHold {
    inner: Arc<Inner>,
    wake: Sender<Wake>,
    state: watch::Receiver<HoldState>,
    thread: Option<JoinHandle<Result<Released, HaError>>>,
    conflicts: Vec<(IpAddr, [u8; 6])>,
    term: u64,
}

impl IpHold {
    /// The term it is held for.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Whether the address is held at this moment.
    #[must_use]
    pub fn state(&self) -> HoldState {
        *self.state.borrow()
    }

    /// The state as it changes, to be awaited.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<HoldState> {
        self.state.clone()
    }

    /// Which of the addresses another host said it had when they were claimed, and that host's hardware address.
    #[must_use]
    pub fn conflicts(&self) -> &[(IpAddr, [u8; 6])] {
        &self.conflicts
    }

    /// Makes the clients that the former owner served at `server` (a floating address and its port) reconnect now.
    /// In loopback mode there is nothing to do: their connections ended with the former owner's process.
    ///
    /// # Errors
    /// [`HaError::Kernel`] if no thread can be started.
    pub fn tickle(
        &self,
        server: SocketAddr,
        clients: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<TickleRun, HaError> {
        match &self.inner.tickler {
            Some(tickler) => tickler.run(server, clients).map_err(|error| HaError::kernel("start a thread", error)),
            None => Ok(TickleRun::idle()),
        }
    }

    /// Gives the addresses back: off the host first, then their connections destroyed, then both verified, then the
    /// guard is told to let go. Blocks a few milliseconds. If the hold was lost before, the result is that of the
    /// release that followed the loss.
    ///
    /// # Errors
    /// [`HaError::NotReleased`] or [`HaError::Kernel`] if something is left; the guard goes on trying then, and the
    /// kernel drops the address when its life ends.
    pub fn release(mut self) -> Result<Released, HaError> {
        self.finish().expect("the thread is joined here or in drop, and release takes the hold")
    }

    fn finish(&mut self) -> Option<Result<Released, HaError>> {
        let thread = self.thread.take()?;
        // Failing means that the thread has given the address back already.
        let _ = self.wake.send(Wake::Release);
        Some(thread.join().unwrap_or_else(|_| {
            Err(HaError::NotReleased { what: "an address whose renewing thread failed".to_owned() })
        }))
    }
}

impl Drop for IpHold {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.finish() {
            tracing::error!(term = self.term, %error, "the floating IP was not released");
        }
    }
}

/// What the renewing thread is woken for before its time.
pub(super) enum Wake {
    Release,
    LeaseEnded,
}

/// The renewing thread. It is no task of a runtime: load there must not delay it.
pub(super) struct Holder {
    inner: Arc<Inner>,
    leadership: Leadership,
    woken: Receiver<Wake>,
    /// For the lease, should the guard have to be replaced.
    wake: Sender<Wake>,
    state: watch::Sender<HoldState>,
    announcements: AnnounceSchedule,
    next_renewal: MonoTime,
    next_defence: MonoTime,
    links: Vec<LinkState>,
}

/// What was last seen of the interface of a binding.
#[derive(Clone, Copy, Default)]
struct LinkState {
    mac: Option<[u8; 6]>,
    carrier: bool,
}

impl Holder {
    /// Announces the addresses for the first time and starts the thread.
    ///
    /// # Errors
    /// [`HaError::Kernel`] if no thread can be started.
    pub(super) fn start(
        inner: Arc<Inner>,
        leadership: Leadership,
        wake: Sender<Wake>,
        woken: Receiver<Wake>,
        conflicts: Vec<(IpAddr, [u8; 6])>,
    ) -> Result<IpHold, HaError> {
        let (state, watched) = watch::channel(HoldState::Held);
        let now = MonoTime::now();
        let term = leadership.term;
        let mut holder = Self {
            links: vec![LinkState::default(); inner.bindings.len()],
            next_renewal: now + inner.config.renew_interval,
            next_defence: now,
            announcements: AnnounceSchedule::begin(now),
            inner: Arc::clone(&inner),
            leadership,
            woken,
            wake: wake.clone(),
            state,
        };
        holder.look_at_links();
        for binding in &holder.inner.bindings {
            if let Err(error) = binding.port.forget() {
                tracing::warn!(interface = binding.address.interface, %error, "cannot hear the other hosts");
            }
        }
        holder.announcements = AnnounceSchedule::begin(now);
        holder.announce();
        let thread = thread::Builder::new()
            .name("ha-hold".to_owned())
            .spawn(move || holder.run())
            .map_err(|error| HaError::kernel("start a thread", error))?;
        tracing::info!(term, "holding the floating IP");
        Ok(IpHold { inner, wake, state: watched, thread: Some(thread), conflicts, term })
    }

    fn run(mut self) -> Result<Released, HaError> {
        let end = loop {
            match self.turn() {
                Some(end) => break end,
                None => {
                    let wait = self.next_wake().since(MonoTime::now());
                    match self.woken.recv_timeout(wait) {
                        Ok(Wake::Release) | Err(RecvTimeoutError::Disconnected) => {
                            break HoldState::Released;
                        }
                        Ok(Wake::LeaseEnded) | Err(RecvTimeoutError::Timeout) => {}
                    }
                }
            }
        };
        let released = self.give_back();
        match (&end, &released) {
            (HoldState::Lost(reason), _) => {
                tracing::warn!(term = self.leadership.term, ?reason, "lost the floating IP");
            }
            _ => tracing::info!(term = self.leadership.term, "released the floating IP"),
        }
        if let Err(error) = &released {
            tracing::error!(term = self.leadership.term, %error, "the floating IP may still be on this host");
        }
        self.inner.set_not_held();
        self.state.send_replace(end);
        released
    }

    /// Does what is due; says so if the hold is over.
    fn turn(&mut self) -> Option<HoldState> {
        if !self.leadership.valid_now() {
            return Some(self.lease_over());
        }
        if MonoTime::now() >= self.next_renewal {
            self.next_renewal = MonoTime::now() + self.inner.config.renew_interval;
            if !self.renew() {
                let reason = if self.leadership.valid_now() {
                    HoldState::Lost(LossReason::AddressGone)
                } else {
                    self.lease_over()
                };
                return Some(reason);
            }
            self.look_at_links();
            self.look_after_guard();
            self.defend();
        }
        if MonoTime::now() >= self.announcements.due() {
            self.announce();
        }
        // A thread that stood still inside a renewal finds out here, and the address goes again at once.
        (!self.leadership.valid_now()).then(|| self.lease_over())
    }

    fn lease_over(&self) -> HoldState {
        let taken = self.inner.guard().is_some_and(|guard| guard.has_taken(self.leadership.term));
        HoldState::Lost(if taken { LossReason::TakenByGuard } else { LossReason::LeaseEnded })
    }

    fn next_wake(&self) -> MonoTime {
        let lease_end = self.leadership.lease().deadline().unwrap_or(self.next_renewal);
        self.next_renewal.min(self.announcements.due()).min(lease_end)
    }

    /// Renews the kernel lifetime of every address. Returns whether all of them are still there.
    fn renew(&self) -> bool {
        let Some(mut takedown) = self.inner.takedown() else {
            return true;
        };
        let mut all_there = true;
        for binding in &self.inner.bindings {
            let address = &binding.address;
            let renewed = takedown.addresses().renew(
                binding.link_index,
                address.address,
                address.prefix_len,
                self.inner.config.valid_lft_s,
                || self.leadership.valid_now(),
            );
            match renewed {
                Ok(there) => all_there &= there,
                Err(error) => {
                    // If it stays so, the kernel drops the address and the next renewal finds it gone.
                    tracing::error!(address = %address.address, %error, "could not renew the life of the floating IP");
                }
            }
        }
        all_there
    }

    /// A cable that is back, or a new hardware address, means that the neighbours must be told again from the start.
    fn look_at_links(&mut self) {
        for (binding, state) in self.inner.bindings.iter().zip(&mut self.links) {
            match self.inner.link(&binding.address.interface) {
                Ok(link) => {
                    let changed = link.carrier && (!state.carrier || state.mac != link.mac);
                    *state = LinkState { mac: link.mac, carrier: link.carrier };
                    if changed {
                        self.announcements = AnnounceSchedule::begin(MonoTime::now());
                    }
                }
                Err(error) => {
                    tracing::error!(interface = binding.address.interface, %error, "cannot see the interface");
                }
            }
        }
    }

    fn look_after_guard(&self) {
        if self.inner.guard().is_none()
            && let Err(error) = self.inner.arm_guard(&self.leadership, &self.wake)
        {
            tracing::error!(%error, "holding the floating IP without a guard");
        }
    }

    /// Announces again if another host was heard to use one of the addresses.
    fn defend(&mut self) {
        let now = MonoTime::now();
        for (binding, link) in self.inner.bindings.iter().zip(&self.links) {
            let (IpAddr::V4(address), Some(mac)) = (binding.address.address, link.mac) else {
                continue;
            };
            if let Ok(Some(other)) = binding.port.foreign_claim(mac, address)
                && now >= self.next_defence
            {
                self.next_defence = now + DEFEND_INTERVAL;
                tracing::error!(
                    %address,
                    other = %MacAddress(other),
                    "another host uses the floating IP: switch it off or remove the address there"
                );
                send_announcement(binding, mac);
            }
        }
    }

    fn announce(&mut self) {
        for (binding, link) in self.inner.bindings.iter().zip(&self.links) {
            if let (Some(mac), true) = (link.mac, link.carrier) {
                send_announcement(binding, mac);
            }
        }
        self.announcements.sent(MonoTime::now());
    }

    fn give_back(&self) -> Result<Released, HaError> {
        let term = self.leadership.term;
        let mut retries = 0;
        let taken_down = loop {
            match self.inner.take_down() {
                Err(_) if retries < TAKE_DOWN_RETRIES => {
                    retries += 1;
                    thread::sleep(TAKE_DOWN_RETRY_GAP);
                }
                result => break result,
            }
        };
        self.leadership.lease().unobserve();
        // On failure the guard is not called off: it tries for itself once the lease has passed.
        let taken_down = taken_down?;
        if let Some(guard) = self.inner.guard()
            && let Err(error) = guard.stand_down(term)
        {
            tracing::warn!(term, %error, "the guard was ended instead; another is started for the next claim");
        }
        let lease = self.leadership.lease();
        Ok(Released { taken_down, certificate: self.inner.certificate(term, lease.token().clone()) })
    }
}

fn send_announcement(binding: &Binding, mac: [u8; 6]) {
    let address = binding.address.address;
    if let Err(error) = binding.port.announce(mac, address) {
        tracing::warn!(%address, interface = binding.address.interface, %error, "could not announce the floating IP");
    }
}
