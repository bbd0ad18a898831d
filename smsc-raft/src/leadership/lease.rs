//! The lease of a leader and the token that proves it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::token::ReleaseToken;

/// An instant of this host's `CLOCK_MONOTONIC`, in nanoseconds.
///
/// The same clock in every process of the host, so the daemon and the guard can speak of one deadline. It runs on
/// while a process is stopped. It may stand still while a virtual machine is paused: what may be acknowledged is
/// therefore decided by the Raft term, never by this clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoTime(u64);

impl MonoTime {
    /// The instant now.
    #[must_use]
    pub fn now() -> Self {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
            .expect("Linux has had CLOCK_MONOTONIC since before any kernel this runs on");
        let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec()).unwrap_or(0);
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    /// The instant `nanos` nanoseconds after the clock's zero.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's zero.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for MonoTime {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for MonoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// What the holder of an address is told about its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEvent {
    /// The lease is about to last until this deadline: told before anybody can see it.
    Extending(MonoTime),
    /// The lease is over for good.
    Ended,
}

type Observer = Box<dyn Fn(LeaseEvent) + Send + Sync>;

/// Not granted yet: no heartbeat of this term has been confirmed by a quorum.
const UNGRANTED: u64 = 0;
/// Ended; no extension brings it back.
const ENDED: u64 = u64::MAX;

/// The lease of one term's leader: until when it may act without asking its quorum again.
///
/// Made, extended and ended by the consensus layer alone. The deadline is counted from the *sending* time of a
/// heartbeat that a quorum confirmed, plus the lease. A lease that has run out stays ended: between its deadline and
/// a late confirmation the guard may have taken the address and told the peers so, and this term cannot take that
/// back. The leader then steps down and stands for a new term.
pub struct Lease {
    term: u64,
    deadline: AtomicU64,
    /// Whether it was ended on purpose and did not run out.
    given_up: AtomicBool,
    /// Whether it is extended no further and ended by its holder, not by the loss of leadership.
    left: AtomicBool,
    token: ReleaseToken,
    /// Held while the deadline moves, so that an observer hears the events in the order in which they take effect.
    observer: Mutex<Option<Observer>>,
}

impl Lease {
    /// The lease of the leader of `term`, not granted until the first [`extend`](Self::extend), with a fresh secret
    /// for its release certificate.
    #[must_use]
    pub fn new(term: u64) -> Arc<Self> {
        Arc::new(Self {
            term,
            deadline: AtomicU64::new(UNGRANTED),
            given_up: AtomicBool::new(false),
            left: AtomicBool::new(false),
            token: ReleaseToken::random(),
            observer: Mutex::new(None),
        })
    }

    /// The Raft term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// What the peers must be told before the address is claimed, so that they can check a certificate of this term.
    #[must_use]
    pub fn release_token_hash(&self) -> [u8; 32] {
        self.token.hash()
    }

    /// The secret of this term, for the guard.
    #[must_use]
    pub fn token(&self) -> &ReleaseToken {
        &self.token
    }

    /// Moves the deadline to `deadline`; an earlier one than now known is ignored. Returns whether the lease is alive:
    /// `false` says it had run out or was ended, and that the leader must step down.
    ///
    /// The guard hears of the new deadline before it counts here, so it never acts while the daemon believes itself
    /// valid. Costs one non-blocking send.
    pub fn extend(&self, deadline: MonoTime) -> bool {
        let observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.deadline.load(Ordering::Acquire);
        if current == ENDED {
            return false;
        }
        let now = MonoTime::now().as_nanos();
        if current != UNGRANTED && now >= current {
            self.deadline.store(ENDED, Ordering::Release);
            if let Some(tell) = observer.as_ref() {
                tell(LeaseEvent::Ended);
            }
            return false;
        }
        if self.left.load(Ordering::Acquire) {
            return true;
        }
        if deadline.as_nanos() > current && deadline.as_nanos() < ENDED {
            if let Some(tell) = observer.as_ref() {
                tell(LeaseEvent::Extending(deadline));
            }
            self.deadline.store(deadline.as_nanos(), Ordering::Release);
        }
        true
    }

    /// Extends the lease no further: leadership is being transferred, and the successor waits for the end of the lease
    /// or the release certificate before it claims the address. Until then the address may stay, so that ESMEs are
    /// without an owner for as short as possible; whoever holds it ends the lease.
    pub fn leave_to_successor(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// Whether the successor waits for this lease.
    #[must_use]
    pub fn is_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// Ends the lease for good: leadership was lost or is being transferred. The address goes at once.
    pub fn end(&self) {
        self.given_up.store(true, Ordering::Release);
        let observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.deadline.swap(ENDED, Ordering::AcqRel) != ENDED
            && let Some(tell) = observer.as_ref()
        {
            tell(LeaseEvent::Ended);
        }
    }

    /// Whether it was ended on purpose: its leader stops, or cannot serve.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// The deadline, if the lease was granted and has not been ended. It may lie in the past.
    #[must_use]
    pub fn deadline(&self) -> Option<MonoTime> {
        match self.deadline.load(Ordering::Acquire) {
            UNGRANTED | ENDED => None,
            nanos => Some(MonoTime(nanos)),
        }
    }

    /// Whether the lease covers `now`.
    #[must_use]
    pub fn valid(&self, now: MonoTime) -> bool {
        self.deadline().is_some_and(|deadline| now < deadline)
    }

    /// Tells `observer` of everything from here on, and first of the deadline as it stands.
    pub fn observe(&self, observer: impl Fn(LeaseEvent) + Send + Sync + 'static) {
        let mut slot = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        match self.deadline.load(Ordering::Acquire) {
            UNGRANTED => {}
            ENDED => observer(LeaseEvent::Ended),
            nanos => observer(LeaseEvent::Extending(MonoTime(nanos))),
        }
        *slot = Some(Box::new(observer));
    }

    /// Tells nobody any more.
    pub fn unobserve(&self) {
        *self.observer.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("term", &self.term).field("deadline", &self.deadline()).finish_non_exhaustive()
    }
}

/// Proof that this node leads: a term and its lease, checked at each use.
///
/// Only the consensus layer makes one, from the lease it keeps. Whoever is handed a `Leadership` may claim the
/// address, answer a submission or deliver, as long as [`valid`](Self::valid) says so.
#[derive(Clone, Debug)]
pub struct Leadership {
    /// The Raft term.
    pub term: u64,
    lease: Arc<Lease>,
}

impl Leadership {
    /// For the consensus layer: the leadership that `lease` backs.
    #[must_use]
    pub fn new(lease: Arc<Lease>) -> Self {
        Self { term: lease.term(), lease }
    }

    /// Whether the lease covers `now`.
    #[must_use]
    pub fn valid(&self, now: MonoTime) -> bool {
        self.lease.valid(now)
    }

    /// Whether the lease covers this instant.
    #[must_use]
    pub fn valid_now(&self) -> bool {
        self.lease.valid(MonoTime::now())
    }

    /// The lease behind it.
    #[must_use]
    pub fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_new_lease_covers_nothing_until_it_is_extended() {
        let lease = Lease::new(3);
        let now = MonoTime::now();
        assert!(!lease.valid(now));
        assert!(lease.extend(now + SECOND));
        let leadership = Leadership::new(lease);
        assert_eq!(leadership.term, 3);
        assert!(leadership.valid(now));
        assert!(!leadership.valid(now + SECOND));
    }

    #[test]
    fn an_earlier_deadline_does_not_shorten_the_lease() {
        let lease = Lease::new(1);
        let now = MonoTime::now();
        assert!(lease.extend(now + SECOND * 2));
        assert!(lease.extend(now + SECOND));
        assert!(lease.valid(now + SECOND));
    }

    #[test]
    fn a_lease_that_ran_out_stays_ended() {
        let lease = Lease::new(1);
        assert!(lease.extend(MonoTime::now() + Duration::from_millis(1)));
        std::thread::sleep(Duration::from_millis(5));
        assert!(!lease.extend(MonoTime::now() + SECOND));
        assert!(!lease.valid(MonoTime::now()));
        assert!(!lease.extend(MonoTime::now() + SECOND));
        assert!(!lease.is_given_up());
    }

    #[test]
    fn a_lease_left_to_the_successor_is_not_extended() {
        let lease = Lease::new(1);
        let now = MonoTime::now();
        assert!(lease.extend(now + SECOND));
        lease.leave_to_successor();
        assert!(lease.extend(now + SECOND * 2));
        assert_eq!(lease.deadline(), Some(now + SECOND));
        lease.end();
        assert!(!lease.valid(now));
    }

    #[test]
    fn an_ended_lease_stays_ended() {
        let lease = Lease::new(1);
        let now = MonoTime::now();
        assert!(lease.extend(now + SECOND));
        lease.end();
        assert!(!lease.valid(now));
        assert!(!lease.extend(now + SECOND * 2));
        assert!(lease.is_given_up());
    }

    #[test]
    fn the_observer_hears_of_a_deadline_before_it_counts() {
        let lease = Lease::new(1);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (told, watched) = (Arc::clone(&seen), Arc::downgrade(&lease));
        lease.observe(move |event| {
            let visible = watched.upgrade().and_then(|lease| lease.deadline());
            told.lock().expect("no test thread panics with it").push((event, visible));
        });
        let deadline = MonoTime::now() + SECOND;
        lease.extend(deadline);
        lease.end();
        let seen = seen.lock().expect("no test thread panics with it");
        assert_eq!(*seen, vec![(LeaseEvent::Extending(deadline), None), (LeaseEvent::Ended, None)]);
    }
}
