//! The one place that asks the operating system what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use smsc_proto::time::{MonoTime, WallTime};

/// A source of both kinds of time. Tests bring their own.
pub trait Clock: Send + Sync {
    /// UTC now; may jump when the host's clock is set.
    fn wall(&self) -> WallTime;

    /// A reading that never goes back.
    fn mono(&self) -> MonoTime;

    /// How long until `deadline`; zero if it has passed.
    fn until(&self, deadline: MonoTime) -> Duration {
        deadline.saturating_since(self.mono())
    }
}

/// The host's clocks.
///
/// [`Clock::mono`] is CLOCK_MONOTONIC itself, so that the daemon, its guard process and the kernel speak of the same
/// instant. It runs on while the process is stopped and may stand still while a virtual machine is paused.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> WallTime {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime::EPOCH + since_epoch
    }

    fn mono(&self) -> MonoTime {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux kernel has CLOCK_MONOTONIC");
        let seconds = u64::try_from(now.tv_sec()).expect("CLOCK_MONOTONIC starts at zero");
        let nanos = u64::try_from(now.tv_nsec()).expect("nanoseconds of a second are never negative");
        MonoTime::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mono_goes_on_and_wall_is_of_this_century() {
        let clock = SystemClock;
        let before = clock.mono();
        assert!(clock.mono() >= before);
        assert!(clock.wall() > WallTime::from_millis(946_684_800_000));
        assert_eq!(clock.until(MonoTime::ZERO), Duration::ZERO);
    }
}
