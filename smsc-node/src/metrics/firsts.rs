//! When ESMEs first came back after a takeover.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::now_us;

/// The times of the first bind and the first acknowledged submission since this node leads: microseconds since 1970, 0
/// while there was none.
#[derive(Debug, Default)]
pub struct Firsts {
    bound_at_us: AtomicU64,
    acknowledged_at_us: AtomicU64,
}

impl Firsts {
    /// Begins anew: this node is about to serve.
    pub fn reset(&self) {
        self.bound_at_us.store(0, Ordering::Relaxed);
        self.acknowledged_at_us.store(0, Ordering::Relaxed);
    }

    /// An ESME is bound. Costs nothing but a look for all but the first.
    pub fn bound(&self) {
        note(&self.bound_at_us, now_us);
    }

    /// A submission is acknowledged. Costs nothing but a look for all but the first.
    pub fn acknowledged(&self) {
        note(&self.acknowledged_at_us, now_us);
    }

    /// When the first ESME was bound.
    pub fn bound_at_us(&self) -> u64 {
        self.bound_at_us.load(Ordering::Relaxed)
    }

    /// When the first submission was acknowledged.
    pub fn acknowledged_at_us(&self) -> u64 {
        self.acknowledged_at_us.load(Ordering::Relaxed)
    }
}

fn note(at_us: &AtomicU64, now_us: impl FnOnce() -> u64) {
    if at_us.load(Ordering::Relaxed) == 0 {
        // Another may have been first meanwhile.
        let _ = at_us.compare_exchange(0, now_us(), Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_counts_until_it_begins_anew() {
        let firsts = Firsts::default();
        assert_eq!((firsts.bound_at_us(), firsts.acknowledged_at_us()), (0, 0));
        firsts.bound();
        let bound_at_us = firsts.bound_at_us();
        note(&firsts.bound_at_us, || unreachable!("not the first"));
        note(&firsts.acknowledged_at_us, || 9);
        assert!(bound_at_us > 0);
        assert_eq!((firsts.bound_at_us(), firsts.acknowledged_at_us()), (bound_at_us, 9));
        firsts.reset();
        firsts.acknowledged();
        assert_eq!(firsts.bound_at_us(), 0);
        assert!(firsts.acknowledged_at_us() >= bound_at_us, "a second note of the new term");
    }
}
