//! How many submissions an account may make: a bucket that all its sessions share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use smsc_proto::time::MonoTime;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// How many submissions an account may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run; 0 is without limit.
    pub per_s: u32,
    /// At once; 0 for what one second gives.
    pub burst: u32,
}

/// Parts that a long message may have behind its first: what may come of it when the bucket is empty.
const FURTHER_PARTS_MAX: u64 = 254;

/// One account's bucket: it holds a burst, and fills at the account's rate.
#[derive(Debug, Default)]
pub struct Bucket {
    /// When the bucket would have been full, had nothing been taken since: one submission moves it on by the time that
    /// it costs.
    full_at: Mutex<MonoTime>,
}

impl Bucket {
    /// Takes one submission. Says whether there was one left.
    ///
    /// A further part of a long message (`continues`) is taken on credit, which has to be filled up before another
    /// message begins: a message whose first part was taken is taken whole, and the rate holds all the same.
    pub fn take(&self, rate: Rate, continues: bool, now: MonoTime) -> bool {
        let Some(cost) = NANOS_PER_SECOND.checked_div(u64::from(rate.per_s)) else { return true };
        let burst = match rate.burst {
            0 => NANOS_PER_SECOND,
            burst => u64::from(burst) * cost,
        };
        let credit = if continues { FURTHER_PARTS_MAX * cost } else { 0 };
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let from = full_at.as_nanos().max(now.as_nanos());
        let until = from.saturating_add(cost);
        let left = until <= now.as_nanos().saturating_add(burst + credit);
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

    fn rate(per_s: u32, burst: u32) -> Rate {
        Rate { per_s, burst }
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_the_rate_holds() {
        let bucket = Bucket::default();
        let taken = |ms| (0..100).filter(|_| bucket.take(rate(10, 0), false, at_ms(ms))).count();
        assert_eq!(taken(5_000), 10);
        assert_eq!(taken(5_099), 0);
        assert_eq!(taken(5_100), 1);
        assert_eq!(taken(5_500), 4);
        assert_eq!(taken(60_000), 10);
    }

    #[test]
    fn a_burst_of_its_own_replaces_the_second_s_worth() {
        for (burst, most) in [(1, 1), (50, 50)] {
            let bucket = Bucket::default();
            let taken = |ms| (0..100).filter(|_| bucket.take(rate(10, burst), false, at_ms(ms))).count();
            assert_eq!(taken(5_000), most);
            assert_eq!(taken(5_100), 1);
            assert_eq!(taken(60_000), most);
        }
    }

    #[test]
    fn a_long_message_is_taken_whole_and_paid_for_afterwards() {
        let bucket = Bucket::default();
        let take = |continues, ms| bucket.take(rate(2, 0), continues, at_ms(ms));
        assert!(take(false, 1_000));
        assert!((0..9).all(|_| take(true, 1_000)), "ten parts at two a second");
        assert!(!take(false, 1_000), "the next message waits");
        // Ten parts cost five seconds, of which one was there, and the next message costs half a second.
        assert!(!take(false, 5_400));
        assert!(take(false, 5_500));
    }

    #[test]
    fn credit_has_an_end() {
        let bucket = Bucket::default();
        let taken = (0..1_000).filter(|_| bucket.take(rate(1, 0), true, at_ms(1))).count();
        assert_eq!(taken, 255);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let bucket = Bucket::default();
        assert!((0..1_000).all(|_| bucket.take(rate(0, 5), false, at_ms(1))));
    }

    #[test]
    fn sessions_of_an_account_share_its_bucket() {
        let buckets = Buckets::default();
        assert!(buckets.of("a").take(rate(1, 0), false, at_ms(1)));
        assert!(!buckets.of("a").take(rate(1, 0), false, at_ms(1)));
        assert!(buckets.of("b").take(rate(1, 0), false, at_ms(1)));
    }
}
