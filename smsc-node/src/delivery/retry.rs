//! When a failed attempt is repeated: the operator's schedules, by link and class of error.

use std::collections::HashMap;

use smsc_raft::model::{ErrorClass, Message, RetryPolicy, RetrySchedule, Settings};

/// Percent by which a delay is moved in either direction when the operator does not say, so that what failed together
/// does not come back together.
const JITTER_PERCENT_DEFAULT: u32 = 10;
/// The most that it may be moved by. Percent.
pub const JITTER_PERCENT_MAX: u32 = 50;

/// Delays of a class when the operator's settings name none. Milliseconds; the last one repeats.
///
/// From seconds for a phone in a tunnel to hours for one that is switched off. What is busy or congested is so for a
/// moment, memory is freed by a person, and a link that is down says when it is back.
pub fn default_delays_ms(class: ErrorClass) -> &'static [u64] {
    match class {
        ErrorClass::Unknown | ErrorClass::Absent | ErrorClass::Permanent => {
            &[5_000, 30_000, 120_000, 600_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000]
        }
        ErrorClass::Busy => &[10_000, 30_000, 60_000, 120_000, 300_000],
        ErrorClass::MemoryFull => &[60_000, 300_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000],
        ErrorClass::Congestion => &[2_000, 5_000, 10_000, 30_000, 60_000, 300_000],
        ErrorClass::LinkDown => &[1_000, 5_000, 15_000, 30_000, 60_000],
        ErrorClass::SystemFailure => &[30_000, 120_000, 600_000, 1_800_000, 3_600_000],
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another one at this time, UTC milliseconds.
    At(u64),
    /// None: the message is undeliverable.
    Never,
}

/// The operator's policies with a seed for their jitter.
#[derive(Clone, Debug)]
pub struct RetryPolicies {
    /// Of all classes without a schedule of their own; empty for the classes' defaults.
    delays_ms: Vec<u64>,
    of_link: HashMap<String, RetryPolicy>,
    of_all: RetryPolicy,
    seed: u64,
}

impl RetryPolicies {
    /// The policies of the operator's settings. A link without a policy of its own follows the one for all, entirely.
    pub fn new(settings: &Settings, seed: u64) -> Self {
        let mut policies = Self {
            delays_ms: settings.retry_delays_ms.clone(),
            of_link: HashMap::new(),
            of_all: RetryPolicy::default(),
            seed,
        };
        for policy in &settings.retry {
            if policy.link.is_empty() {
                policies.of_all = policy.clone();
            } else {
                policies.of_link.insert(policy.link.clone(), policy.clone());
            }
        }
        policies
    }

    fn policy(&self, link: &str) -> &RetryPolicy {
        self.of_link.get(link).unwrap_or(&self.of_all)
    }

    /// The class that the operator put a link's error in, if any; those for all links count where the link's own say
    /// nothing.
    pub fn class_of(&self, link: &str, error: u32) -> Option<ErrorClass> {
        let mapped = |policy: &RetryPolicy| policy.errors.iter().find(|m| m.error == error).map(|m| m.class());
        mapped(self.policy(link)).or_else(|| mapped(&self.of_all))
    }

    /// What follows an attempt at `link` that failed with `class` at `now_ms`, after `failures` in a row before it.
    ///
    /// Equal arguments give equal times, later than `now_ms` always. A link that is down has no last attempt, for none
    /// was made.
    pub fn next(&self, now_ms: u64, link: &str, class: ErrorClass, failures: u32, message: &Message) -> Next {
        if class == ErrorClass::Permanent {
            return Next::Never;
        }
        let policy = self.policy(link);
        let schedule = policy.schedules.iter().find(|schedule| schedule.class() == class);
        if class != ErrorClass::LinkDown {
            let limits = [policy.attempts_max, schedule.map_or(0, |schedule| schedule.attempts_max)];
            let made = message.attempts.saturating_add(1);
            if limits.into_iter().any(|limit| limit > 0 && made >= limit) {
                return Next::Never;
            }
        }
        let delays_ms = self.delays(schedule, class);
        let last = delays_ms.len() - 1;
        let step = usize::try_from(failures).map_or(last, |failures| failures.min(last));
        let delay_ms = delays_ms[step].max(1);
        let percent = match policy.jitter_percent {
            0 => JITTER_PERCENT_DEFAULT,
            percent => percent.min(JITTER_PERCENT_MAX),
        };
        let spread_ms = (u128::from(delay_ms) * u128::from(percent) / 100) as u64;
        let jitter_ms = scramble(self.seed ^ message.id.rotate_left(32) ^ u64::from(failures)) % (2 * spread_ms + 1);
        Next::At(now_ms.saturating_add((delay_ms - spread_ms).saturating_add(jitter_ms)).max(now_ms.saturating_add(1)))
    }

    fn delays<'a>(&'a self, schedule: Option<&'a RetrySchedule>, class: ErrorClass) -> &'a [u64] {
        match schedule {
            Some(schedule) if !schedule.delays_ms.is_empty() => &schedule.delays_ms,
            _ if !self.delays_ms.is_empty() => &self.delays_ms,
            _ => default_delays_ms(class),
        }
    }
}

/// The finalizer of splitmix64: every bit of the input moves every bit of the output.
pub(super) fn scramble(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smsc_raft::model::ErrorMapping;

    fn message(id: u64, attempts: u32) -> Message {
        Message { id, attempts, ..Default::default() }
    }

    fn delay(policies: &RetryPolicies, link: &str, class: ErrorClass, failures: u32) -> u64 {
        match policies.next(0, link, class, failures, &message(9, failures)) {
            Next::At(at_ms) => at_ms,
            Next::Never => panic!("no attempt follows"),
        }
    }

    fn schedule(class: ErrorClass, delays_ms: &[u64], attempts_max: u32) -> RetrySchedule {
        RetrySchedule { class: class as i32, delays_ms: delays_ms.to_vec(), attempts_max }
    }

    #[test]
    fn the_last_delay_repeats() {
        let settings = Settings { retry_delays_ms: vec![1_000, 60_000], ..Default::default() };
        let policies = RetryPolicies::new(&settings, 1);
        for failures in [1, 2, 100, u32::MAX - 1] {
            let delay_ms = delay(&policies, "x", ErrorClass::Busy, failures);
            assert!((54_000..=66_000).contains(&delay_ms), "{delay_ms}");
        }
        assert!((900..=1_100).contains(&delay(&policies, "x", ErrorClass::Absent, 0)));
    }

    #[test]
    fn without_settings_each_class_has_its_own_default() {
        let policies = RetryPolicies::new(&Settings::default(), 1);
        assert!((4_500..=5_500).contains(&delay(&policies, "", ErrorClass::Absent, 0)));
        assert!((54_000..=66_000).contains(&delay(&policies, "", ErrorClass::MemoryFull, 0)));
        assert!((900..=1_100).contains(&delay(&policies, "", ErrorClass::LinkDown, 0)));
    }

    #[test]
    fn a_link_has_its_own_schedule_limit_and_errors() {
        let own = RetryPolicy {
            link: "x".to_owned(),
            schedules: vec![schedule(ErrorClass::Busy, &[7_000], 3)],
            errors: vec![ErrorMapping { error: 8 << 16 | 0x14, class: ErrorClass::MemoryFull as i32 }],
            jitter_percent: 1,
            ..Default::default()
        };
        let all = RetryPolicy {
            errors: vec![ErrorMapping { error: 5, class: ErrorClass::Permanent as i32 }],
            attempts_max: 2,
            ..Default::default()
        };
        let policies = RetryPolicies::new(&Settings { retry: vec![own, all], ..Default::default() }, 1);
        assert!((6_930..=7_070).contains(&delay(&policies, "x", ErrorClass::Busy, 0)));
        assert_eq!(policies.next(0, "x", ErrorClass::Busy, 2, &message(1, 2)), Next::Never);
        assert_ne!(policies.next(0, "x", ErrorClass::Absent, 2, &message(1, 2)), Next::Never);
        assert_eq!(policies.next(0, "y", ErrorClass::Absent, 1, &message(1, 1)), Next::Never);
        assert_ne!(policies.next(0, "y", ErrorClass::LinkDown, 9, &message(1, 9)), Next::Never);
        assert_eq!(policies.class_of("x", 8 << 16 | 0x14), Some(ErrorClass::MemoryFull));
        assert_eq!(policies.class_of("x", 5), Some(ErrorClass::Permanent));
        assert_eq!(policies.class_of("y", 8 << 16 | 0x14), None);
    }

    #[test]
    fn what_is_permanent_is_never_tried_again() {
        let policies = RetryPolicies::new(&Settings::default(), 1);
        assert_eq!(policies.next(0, "x", ErrorClass::Permanent, 0, &message(1, 0)), Next::Never);
    }

    proptest! {
        #[test]
        fn always_later_and_repeatable(
            delays in prop::collection::vec(any::<u64>(), 0..5), percent in 0..200u32,
            seed: u64, now in 0..u64::MAX / 4, failures: u32, id: u64,
        ) {
            let retry = vec![RetryPolicy { jitter_percent: percent, ..Default::default() }];
            let retry_delays_ms = delays.into_iter().map(|delay| delay / 4).collect();
            let policies = RetryPolicies::new(&Settings { retry_delays_ms, retry, ..Default::default() }, seed);
            let next = policies.next(now, "x", ErrorClass::Absent, failures, &message(id, 0));
            prop_assert!(matches!(next, Next::At(at_ms) if at_ms > now));
            prop_assert_eq!(next, policies.next(now, "x", ErrorClass::Absent, failures, &message(id, 0)));
        }
    }
}
