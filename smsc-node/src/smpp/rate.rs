//! How many submissions an account may make: a bucket that all its sessions share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use smsc_proto::time::MonoTime;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// One account's bucket. It holds what one second gives, so that much may come at once.
#[derive(Debug, Default)]
pub struct Bucket {
    /// When the bucket would have been full, had nothing been taken since: one submission moves it on by the time that
    /// it costs.
    full_at: Mutex<MonoTime>,
}

impl Bucket {
    /// Takes one submission at a rate of `rate_per_s`; 0 is without limit. Says whether there was one left.
    pub fn take(&self, rate_per_s: u32, now: MonoTime) -> bool {
        let Some(cost) = NANOS_PER_SECOND.checked_div(u64::from(rate_per_s)) else { return true };
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let from = full_at.as_nanos().max(now.as_nanos());
        let until = from.saturating_add(cost);
        let left = until <= now.as_nanos().saturating_add(NANOS_PER_SECOND);
        if left {
            *full_at = MonoTime::from_nanos(until);
        }
        left
    }
}

/// The buckets of all accounts.
#[derive(Debug, Default)]
pub struct Buckets {
    by_account: Mutex<HashMap<String, Arc<Bucket>>>,
}

impl Buckets {
    /// The bucket of an account; all its sessions are given the same one.
    pub fn of(&self, system_id: &str) -> Arc<Bucket> {
        let mut by_account = self.by_account.lock().unwrap_or_else(PoisonError::into_inner);
        match by_account.get(system_id) {
            Some(bucket) => bucket.clone(),
            None => by_account.entry(system_id.to_owned()).or_default().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(ms: u64) -> MonoTime {
        MonoTime::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_the_rate_holds() {
        let bucket = Bucket::default();
        let taken = |ms| (0..100).filter(|_| bucket.take(10, at_ms(ms))).count();
        assert_eq!(taken(5_000), 10);
        assert_eq!(taken(5_099), 0);
        assert_eq!(taken(5_100), 1);
        assert_eq!(taken(5_500), 4);
        assert_eq!(taken(60_000), 10);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let bucket = Bucket::default();
        assert!((0..1_000).all(|_| bucket.take(0, at_ms(1))));
    }

    #[test]
    fn sessions_of_an_account_share_its_bucket() {
        let buckets = Buckets::default();
        assert!(buckets.of("a").take(1, at_ms(1)));
        assert!(!buckets.of("a").take(1, at_ms(1)));
        assert!(buckets.of("b").take(1, at_ms(1)));
    }
}
