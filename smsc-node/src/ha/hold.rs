//! Holding the address: the thread that renews its life as long as the lease lasts, and gives it back.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use smsc_raft::leadership::{Leadership, MonoTime};
use tokio::sync::watch;

use super::announce::AnnounceSchedule;
use super::bell::{Bell, Wake};
use super::certificate::ReleaseCertificate;
use super::error::HaError;
use super::floating_ip::Inner;
use super::herald::Herald;
use super::link::wait_any_readable;
use super::takedown::TakenDown;
use super::tickle::TickleRun;

/// A takedown that fails is tried again this often before the kernel's own expiry has to do it.
const TAKE_DOWN_RETRIES: u32 = 10;
const TAKE_DOWN_RETRY_GAP: Duration = Duration::from_millis(20);
/// How long an interface may be without carrier before the address is given up: a plug that is moved, a port that is
/// negotiated anew, is shorter.
const CARRIER_GRACE: Duration = Duration::from_millis(50);
/// How often it is looked whether the filters of the data path are where they were put.
const INSPECT_INTERVAL: Duration = Duration::from_secs(10);

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
    /// The interface of an address is down or has no carrier: clients do not reach this node.
    NoCarrier,
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
    bell: Arc<Bell>,
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
        let clients: Vec<_> = clients.into_iter().collect();
        // They are asked directly, too, together with the announcements that follow.
        self.inner.remember_clients(clients.iter().map(SocketAddr::ip));
        match &self.inner.tickler {
            Some(tickler) => tickler.run(server, clients).map_err(|error| HaError::kernel("start a thread", error)),
            None => Ok(TickleRun::idle()),
        }
    }

    /// Tells the neighbours again from the start of the schedule: a network that was divided is whole again, and on the
    /// other side of it nobody has heard the earlier announcements.
    pub fn announce_again(&self) {
        self.bell.ring(Wake::Announce);
    }

    /// Gives the addresses back: silenced by the filter of the data path and off the host first, then their connections
    /// destroyed, then looked that the addresses are gone, then the guard is told to let go. Blocks a few milliseconds. If
    /// the hold was lost before, the result is that of the release that followed the loss.
    ///
    /// # Errors
    /// [`HaError::NotReleased`] or [`HaError::Kernel`] if something is left; the guard goes on trying then, and the
    /// kernel drops the address when its life ends.
    pub fn release(mut self) -> Result<Released, HaError> {
        self.finish().expect("the thread is joined here or in drop, and release takes the hold")
    }

    fn finish(&mut self) -> Option<Result<Released, HaError>> {
        let thread = self.thread.take()?;
        self.bell.ring(Wake::Release);
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

/// The renewing thread. It is no task of a runtime: load there must not delay it.
pub(super) struct Holder {
    inner: Arc<Inner>,
    leadership: Leadership,
    bell: Arc<Bell>,
    state: watch::Sender<HoldState>,
    announcements: AnnounceSchedule,
    herald: Herald,
    next_renewal: MonoTime,
    next_inspection: MonoTime,
    /// Since when an interface has been without carrier.
    dark_since: Option<MonoTime>,
}

impl Holder {
    /// Announces the addresses for the first time and starts the thread.
    ///
    /// # Errors
    /// [`HaError::Kernel`] if no thread can be started.
    pub(super) fn start(
        inner: Arc<Inner>,
        leadership: Leadership,
        bell: Arc<Bell>,
        conflicts: Vec<(IpAddr, [u8; 6])>,
    ) -> Result<IpHold, HaError> {
        let (state, watched) = watch::channel(HoldState::Held);
        let now = MonoTime::now();
        let term = leadership.term;
        let mut holder = Self {
            herald: Herald::new(&inner.bindings, now),
            next_renewal: now + inner.config.renew_interval,
            next_inspection: now + INSPECT_INTERVAL,
            announcements: AnnounceSchedule::begin(now),
            dark_since: None,
            inner: Arc::clone(&inner),
            leadership,
            bell: Arc::clone(&bell),
            state,
        };
        holder.look_at_links();
        holder.announcements = AnnounceSchedule::begin(now);
        holder.announce();
        let thread = thread::Builder::new()
            .name("ha-hold".to_owned())
            .spawn(move || holder.run())
            .map_err(|error| HaError::kernel("start a thread", error))?;
        tracing::info!(term, "holding the floating IP");
        Ok(IpHold { inner, bell, state: watched, thread: Some(thread), conflicts, term })
    }

    fn run(mut self) -> Result<Released, HaError> {
        let end = loop {
            if let Some(end) = self.turn() {
                break end;
            }
            self.wait();
            let wishes = self.bell.take();
            if wishes.contains(&Wake::Release) {
                break HoldState::Released;
            }
            if wishes.contains(&Wake::Announce) {
                self.announcements = AnnounceSchedule::begin(MonoTime::now());
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

    /// Sleeps until something is due, wished, heard from another host or seen on a link.
    fn wait(&self) {
        let mut sockets = vec![self.bell.as_fd()];
        sockets.extend(self.inner.link_events.as_ref().map(AsFd::as_fd));
        sockets.extend(self.inner.bindings.iter().map(|binding| binding.port.as_fd()));
        let wait = self.next_wake().since(MonoTime::now());
        if let Err(error) = wait_any_readable(&sockets, wait) {
            tracing::error!(%error, "cannot wait for what happens on the interfaces");
            thread::sleep(wait.min(TAKE_DOWN_RETRY_GAP));
        }
    }

    /// Does what is due; says so if the hold is over.
    fn turn(&mut self) -> Option<HoldState> {
        if !self.leadership.valid_now() {
            return Some(self.lease_over());
        }
        if self.inner.link_events.as_ref().is_some_and(|events| events.take()) {
            self.look_at_links();
        }
        if MonoTime::now() >= self.next_renewal {
            self.next_renewal = MonoTime::now() + self.inner.config.renew_interval;
            if !self.renew() {
                let reason =
                    if self.leadership.valid_now() { HoldState::Lost(self.why_gone()) } else { self.lease_over() };
                return Some(reason);
            }
            self.look_at_links();
            self.look_after_guard();
        }
        if self.dark_since.is_some_and(|since| MonoTime::now() >= since + CARRIER_GRACE) {
            return Some(HoldState::Lost(LossReason::NoCarrier));
        }
        self.herald.defend(&self.inner);
        if MonoTime::now() >= self.announcements.due() {
            self.announce();
        }
        if MonoTime::now() >= self.next_inspection {
            self.next_inspection = MonoTime::now() + INSPECT_INTERVAL;
            self.inner.inspect_data_path();
        }
        // A thread that stood still inside a renewal finds out here, and the address goes again at once.
        (!self.leadership.valid_now()).then(|| self.lease_over())
    }

    fn lease_over(&self) -> HoldState {
        let taken = self.inner.guard().is_some_and(|guard| guard.has_taken(self.leadership.term));
        HoldState::Lost(if taken { LossReason::TakenByGuard } else { LossReason::LeaseEnded })
    }

    /// An interface that goes down takes its IPv6 addresses with it.
    fn why_gone(&mut self) -> LossReason {
        self.look_at_links();
        if self.dark_since.is_some() { LossReason::NoCarrier } else { LossReason::AddressGone }
    }

    fn next_wake(&self) -> MonoTime {
        let lease_end = self.leadership.lease().deadline().unwrap_or(self.next_renewal);
        let mut next = self.next_renewal.min(self.announcements.due()).min(lease_end);
        if let Some(since) = self.dark_since {
            next = next.min(since + CARRIER_GRACE);
        }
        if let Some(defence) = self.herald.next_defence() {
            next = next.min(defence);
        }
        next
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
        let seen = self.herald.look_at_links(&self.inner);
        if seen.changed {
            self.announcements = AnnounceSchedule::begin(MonoTime::now());
        }
        self.dark_since = if seen.all_up { None } else { self.dark_since.or_else(|| Some(MonoTime::now())) };
    }

    fn look_after_guard(&self) {
        let well = self.inner.guard().is_some_and(|guard| guard.is_well());
        if !well && let Err(error) = self.inner.replace_guard(&self.leadership, &self.bell) {
            tracing::error!(%error, "holding the floating IP without a guard");
        }
    }

    fn announce(&mut self) {
        self.herald.announce(&self.inner);
        self.announcements.sent(MonoTime::now());
    }

    fn give_back(&self) -> Result<Released, HaError> {
        let term = self.leadership.term;
        // The guard hears of no more extensions either: should this take longer than the lease, it does the same beside.
        self.leadership.lease().unobserve();
        self.inner.close_data_path();
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
        // On failure the guard is not called off: it tries for itself once the lease has passed.
        let taken_down = taken_down?;
        let certificate = self.inner.certificate(term, self.leadership.lease().token().clone());
        if let Some(guard) = self.inner.guard()
            && let Err(error) = guard.stand_down(term)
        {
            tracing::warn!(term, %error, "the guard was ended instead; another is started for the next claim");
        }
        Ok(Released { taken_down, certificate })
    }
}
