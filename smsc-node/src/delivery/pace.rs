//! How submissions are held back when deliveries fall behind.
//!
//! A leader that takes in more than it can deliver would tell ESMEs "accepted" sooner and sooner before it is true for
//! the phone, and would do its work from the disk instead of from memory. So what is late decides what is taken in: first
//! each submission is proposed a little later, which slows down every ESME that works with a window; if that does not
//! do, submissions are refused with ESME_RTHROTTLED.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// As late as this first attempts are at times anyway.
const LAG_USUAL_MS: u64 = 100;
/// When first attempts are as late as this, submissions are refused.
const LAG_MAX_MS: u64 = 2_000;
/// The longest that a submission is held back.
const HOLD_MAX_MS: u64 = 400;
/// How long an observation holds good. By a clock of its own: that of messages may be set.
const KEPT_MS: u64 = 1_000;

/// How late first attempts are: told by the engine, asked by sessions.
#[derive(Debug)]
pub struct Pace {
    began: Instant,
    lag_ms: AtomicU64,
    /// Since `began`, in milliseconds.
    told_at_ms: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { began: Instant::now(), lag_ms: AtomicU64::new(0), told_at_ms: AtomicU64::new(0) }
    }
}

impl Pace {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A first attempt is so late now.
    pub fn tell(&self, lag_ms: u64) {
        self.lag_ms.store(lag_ms, Ordering::Relaxed);
        self.told_at_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// How late they are; 0 unless there was one within the last second. Milliseconds.
    pub fn lag_ms(&self) -> u64 {
        let lag_ms = self.lag_ms.load(Ordering::Relaxed);
        // The clock is read only if it matters.
        let is_old = || self.now_ms().saturating_sub(self.told_at_ms.load(Ordering::Relaxed)) > KEPT_MS;
        if lag_ms > 0 && is_old() { 0 } else { lag_ms }
    }

    /// How long a submission is held back before it is proposed. At most 400 ms.
    pub fn hold_back(&self) -> Duration {
        Duration::from_millis(self.share_of(HOLD_MAX_MS))
    }

    /// Whether submissions are to be refused.
    pub fn overloaded(&self) -> bool {
        self.lag_ms() >= LAG_MAX_MS
    }

    /// How near it is to that: 0 to 100.
    pub fn load_percent(&self) -> u8 {
        u8::try_from(self.share_of(100)).unwrap_or(100)
    }

    /// As much of `whole` as lateness is of the way from what is usual to what is too much.
    fn share_of(&self, whole: u64) -> u64 {
        let over = self.lag_ms().saturating_sub(LAG_USUAL_MS);
        (over * whole / (LAG_MAX_MS - LAG_USUAL_MS)).min(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_deliveries_are_the_longer_submissions_wait_until_they_are_refused() {
        let pace = Pace::default();
        let at = |lag_ms| {
            pace.tell(lag_ms);
            (pace.hold_back().as_millis(), pace.load_percent(), pace.overloaded())
        };
        assert_eq!(at(0), (0, 0, false));
        assert_eq!(at(100), (0, 0, false));
        assert_eq!(at(290), (40, 10, false));
        assert_eq!(at(1_999), (399, 99, false));
        assert_eq!(at(2_000), (400, 100, true));
        assert_eq!(at(60_000), (400, 100, true));
    }

    #[test]
    fn what_was_late_is_forgotten_after_a_second_whatever_the_clock_of_messages_says() {
        let begun = |ago: Duration| Instant::now().checked_sub(ago).expect("this host is up for longer");
        let pace = Pace { began: begun(Duration::from_secs(10)), ..Pace::default() };
        pace.tell(52_000);
        assert!(pace.overloaded());
        let later = Pace { began: begun(Duration::from_millis(11_100)), ..pace };
        assert!(!later.overloaded());
    }
}
