//! The two readings of time, which do not mix.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use super::civil::Civil;

const MILLIS_PER_DAY: u64 = 86_400_000;

/// An instant in UTC: milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
///
/// Arithmetic saturates at the ends of the range, so that no peer's validity period can overflow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(u64);

impl WallTime {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: WallTime = WallTime(0);
    /// The latest instant that can be held; serves as "never".
    pub const MAX: WallTime = WallTime(u64::MAX);

    /// The instant `millis` milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        WallTime(millis)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This instant moved later by `duration`, whole milliseconds, at most [`WallTime::MAX`].
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        WallTime(self.0.saturating_add(whole_millis(duration)))
    }

    /// This instant moved earlier by `duration`, whole milliseconds, at least [`WallTime::EPOCH`].
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        WallTime(self.0.saturating_sub(whole_millis(duration)))
    }

    /// How long after `earlier` this instant is; zero if it is not after it.
    #[must_use]
    pub fn saturating_since(self, earlier: WallTime) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Days since the epoch and milliseconds within the day.
    pub(super) fn day_and_millis(self) -> (i64, i64) {
        // Both quotient and remainder are far below i64::MAX.
        ((self.0 / MILLIS_PER_DAY) as i64, (self.0 % MILLIS_PER_DAY) as i64)
    }

    /// The inverse of [`WallTime::day_and_millis`]: `None` before the epoch, [`WallTime::MAX`] past the range.
    pub(super) fn from_day_and_millis(day: i64, millis: i64) -> Option<Self> {
        let total = i128::from(day) * i128::from(MILLIS_PER_DAY) + i128::from(millis);
        if total < 0 {
            return None;
        }
        Some(WallTime(u64::try_from(total).unwrap_or(u64::MAX)))
    }
}

/// ISO 8601 in UTC with milliseconds, as in `2026-11-21T02:52:49.120Z`.
impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = Civil::from_wall(*self, 0);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            c.year, c.month, c.day, c.hour, c.minute, c.second, c.milli
        )
    }
}

impl Add<Duration> for WallTime {
    type Output = WallTime;

    fn add(self, duration: Duration) -> WallTime {
        self.saturating_add(duration)
    }
}

impl Sub<Duration> for WallTime {
    type Output = WallTime;

    fn sub(self, duration: Duration) -> WallTime {
        self.saturating_sub(duration)
    }
}

/// A reading of a clock that never goes back: nanoseconds since an arbitrary start, the same for one process.
///
/// It means nothing to another process or after a restart and is therefore never stored or sent. Arithmetic saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoTime(u64);

impl MonoTime {
    /// The start of the clock.
    pub const ZERO: MonoTime = MonoTime(0);
    /// The latest reading (584 years after the start); serves as "no deadline".
    pub const MAX: MonoTime = MonoTime(u64::MAX);

    /// The reading `nanos` nanoseconds after the start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        MonoTime(nanos)
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This reading moved later by `duration`, at most [`MonoTime::MAX`].
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        MonoTime(self.0.saturating_add(whole_nanos(duration)))
    }

    /// This reading moved earlier by `duration`, at least [`MonoTime::ZERO`].
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        MonoTime(self.0.saturating_sub(whole_nanos(duration)))
    }

    /// How long after `earlier` this reading is; zero if it is not after it.
    #[must_use]
    pub fn saturating_since(self, earlier: MonoTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for MonoTime {
    type Output = MonoTime;

    fn add(self, duration: Duration) -> MonoTime {
        self.saturating_add(duration)
    }
}

impl Sub<Duration> for MonoTime {
    type Output = MonoTime;

    fn sub(self, duration: Duration) -> MonoTime {
        self.saturating_sub(duration)
    }
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn whole_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(WallTime::MAX + Duration::MAX, WallTime::MAX);
        assert_eq!(WallTime::from_millis(5) - Duration::from_secs(1), WallTime::EPOCH);
        assert_eq!(MonoTime::MAX + Duration::from_nanos(1), MonoTime::MAX);
        assert_eq!(MonoTime::ZERO - Duration::MAX, MonoTime::ZERO);
        assert_eq!(MonoTime::ZERO.saturating_since(MonoTime::MAX), Duration::ZERO);
        assert_eq!(WallTime::from_millis(1_500).saturating_since(WallTime::EPOCH), Duration::from_millis(1_500));
    }

    #[test]
    fn wall_time_is_shown_as_utc() {
        assert_eq!(WallTime::EPOCH.to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(WallTime::from_millis(951_827_696_789).to_string(), "2000-02-29T12:34:56.789Z");
        // The far end has no reader, but must not panic.
        assert!(WallTime::MAX.to_string().ends_with('Z'));
    }
}
