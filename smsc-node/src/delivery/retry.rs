//! When a failed attempt is repeated.

/// Delays used when the operator's settings name none: from seconds for a phone in a tunnel to an hour for one that is
/// switched off. Milliseconds.
pub const RETRY_DELAYS_DEFAULT_MS: [u64; 8] =
    [5_000, 30_000, 120_000, 600_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000];

/// A delay is moved by up to this part of itself, in either direction, so that what failed together does not come back
/// together.
const JITTER_PARTS: u64 = 10;

/// The operator's schedule of attempts with a seed for its jitter.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    delays_ms: Vec<u64>,
    seed: u64,
}

impl RetryPolicy {
    /// A policy of these delays in milliseconds, the last one repeated; [`RETRY_DELAYS_DEFAULT_MS`] when there are none.
    pub fn new(delays_ms: &[u64], seed: u64) -> Self {
        let delays_ms = if delays_ms.is_empty() { &RETRY_DELAYS_DEFAULT_MS[..] } else { delays_ms };
        Self { delays_ms: delays_ms.to_vec(), seed }
    }

    /// When to try again, UTC milliseconds: `failures` attempts have failed in a row before the one at `now_ms`.
    ///
    /// `id` is the message's; equal arguments give equal times. Later than `now_ms`, always.
    pub fn next_ms(&self, now_ms: u64, failures: u32, id: u64) -> u64 {
        let last = self.delays_ms.len() - 1;
        let step = usize::try_from(failures).map_or(last, |failures| failures.min(last));
        let delay = self.delays_ms[step].max(1);
        let spread = delay / JITTER_PARTS;
        let jitter = scramble(self.seed ^ id.rotate_left(32) ^ u64::from(failures)) % (2 * spread + 1);
        now_ms.saturating_add((delay - spread).saturating_add(jitter))
    }
}

/// The finalizer of splitmix64: every bit of the input moves every bit of the output.
fn scramble(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_delay_repeats() {
        let policy = RetryPolicy::new(&[1_000, 60_000], 1);
        for failures in [1, 2, 100, u32::MAX] {
            let delay = policy.next_ms(0, failures, 9);
            assert!((54_000..=66_000).contains(&delay), "{delay}");
        }
        assert!((900..=1_100).contains(&policy.next_ms(0, 0, 9)));
    }

    #[test]
    fn without_settings_the_default_applies() {
        let policy = RetryPolicy::new(&[], 1);
        assert!((4_500..=5_500).contains(&policy.next_ms(0, 0, 1)));
    }

    proptest! {
        #[test]
        fn always_later_and_repeatable(
            delays in prop::collection::vec(any::<u64>(), 0..5),
            seed: u64, now in 0..u64::MAX / 4, failures: u32, id: u64,
        ) {
            let delays: Vec<_> = delays.into_iter().map(|delay| delay / 4).collect();
            let policy = RetryPolicy::new(&delays, seed);
            let next = policy.next_ms(now, failures, id);
            prop_assert!(next > now);
            prop_assert_eq!(next, policy.next_ms(now, failures, id));
        }
    }
}
