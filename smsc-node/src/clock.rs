//! The one place that asks the operating system what time it is.

use std::sync::atomic::{AtomicI64, Ordering};
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

/// By how much a drill has set this process's wall clock.
static WALL_STEP: WallStep = WallStep(AtomicI64::new(0));
/// The farthest that a drill may set it in all.
const WALL_STEP_MS_MAX: i64 = 3_600_000;

/// Milliseconds by which what is told differs from the host's clock.
struct WallStep(AtomicI64);

impl WallStep {
    fn step(&self, by_ms: i64) -> Result<(), String> {
        let stepped = |now: i64| now.checked_add(by_ms).filter(|sum| sum.unsigned_abs() <= WALL_STEP_MS_MAX as u64);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, stepped) {
            Ok(_) => Ok(()),
            Err(now) => Err(format!(
                "the clock differs from the host's by {now} ms already; {by_ms} ms more would pass the limit of \
                 {WALL_STEP_MS_MAX} ms"
            )),
        }
    }

    fn apply(&self, since_epoch: Duration) -> Duration {
        let step_ms = self.0.load(Ordering::Relaxed);
        let step = Duration::from_millis(step_ms.unsigned_abs());
        if step_ms < 0 { since_epoch.saturating_sub(step) } else { since_epoch + step }
    }
}

/// Sets what [`SystemClock::wall`] tells forward or back, on top of earlier steps, until the process ends: what a wrong
/// time server does to a host. For drills.
///
/// # Errors
/// It would then differ from the host's clock by more than an hour; nothing has changed.
pub fn step_wall(by_ms: i64) -> Result<(), String> {
    WALL_STEP.step(by_ms)
}

/// The host's clocks.
///
/// [`Clock::mono`] is CLOCK_MONOTONIC itself, so that the daemon, its guard process and the kernel speak of the same
/// instant. It runs on while the process is stopped and may stand still while a virtual machine is paused.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// Now, for reports that compare what several hosts did: microseconds since 1970, whatever a drill has set this process's
/// clock to.
pub fn now_us() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}

impl Clock for SystemClock {
    fn wall(&self) -> WallTime {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime::EPOCH + WALL_STEP.apply(since_epoch)
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
    fn a_step_goes_both_ways_and_has_a_limit() {
        let step = WallStep(AtomicI64::new(0));
        let now = Duration::from_secs(1_700_000_000);
        step.step(3_000_000).unwrap();
        assert_eq!(step.apply(now), now + Duration::from_secs(3000));
        assert!(step.step(3_000_000).is_err() && step.step(i64::MAX).is_err());
        step.step(-4_000_000).unwrap();
        assert_eq!(step.apply(now), now - Duration::from_secs(1000));
    }

    #[test]
    fn mono_goes_on_and_wall_is_of_this_century() {
        let clock = SystemClock;
        let before = clock.mono();
        assert!(clock.mono() >= before);
        assert!(clock.wall() > WallTime::from_millis(946_684_800_000));
        assert_eq!(clock.until(MonoTime::ZERO), Duration::ZERO);
    }
}
