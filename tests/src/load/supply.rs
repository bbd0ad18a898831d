//! How many messages may be sent, and when each is due.

use std::time::Duration;

use tokio::time::Instant;

/// Hands out message numbers to all sessions.
#[derive(Debug)]
pub struct Supply {
    start: Instant,
    interval: Option<Duration>,
    /// Messages that may still be sent; `None` for no limit.
    left: Option<u64>,
    next: u64,
    stopped: bool,
}

impl Supply {
    /// `count` messages (no limit without), the first one due at `start`, then `rate` per second (at once without).
    pub fn new(start: Instant, count: Option<u64>, rate: Option<f64>) -> Self {
        Supply {
            start,
            interval: rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            left: count,
            next: 0,
            stopped: false,
        }
    }

    /// The next message and when it was due, if one is due at `now`.
    pub fn take(&mut self, now: Instant) -> Option<(u64, Instant)> {
        if self.stopped || self.left == Some(0) {
            return None;
        }
        let due = match self.interval {
            None => now,
            Some(interval) => self.start + Duration::from_secs_f64(interval.as_secs_f64() * self.next as f64),
        };
        if due > now {
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.left = self.left.map(|left| left - 1);
        Some((number, due))
    }

    /// Allows one message more, in place of one whose outcome is unknown.
    pub fn replace_one(&mut self) {
        self.left = self.left.map(|left| left + 1);
    }

    /// Gives out nothing more.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether nothing is left to be sent.
    pub fn is_exhausted(&self) -> bool {
        self.stopped || self.left == Some(0)
    }

    /// Messages given out.
    pub fn given_out(&self) -> u64 {
        self.next
    }

    /// Whether messages are due at distances.
    pub fn is_paced(&self) -> bool {
        self.interval.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_up_after_a_stall() {
        let start = Instant::now();
        let mut supply = Supply::new(start, Some(3), Some(1000.0));
        assert_eq!(supply.take(start), Some((0, start)));
        assert_eq!(supply.take(start), None);
        let late = start + Duration::from_millis(5);
        assert_eq!(supply.take(late), Some((1, start + Duration::from_millis(1))));
        assert_eq!(supply.take(late), Some((2, start + Duration::from_millis(2))));
        assert_eq!(supply.take(late), None, "three in all");
        supply.replace_one();
        assert!(!supply.is_exhausted());
        supply.stop();
        assert_eq!(supply.take(late), None);
    }
}
