//! When the address is announced.

use std::time::Duration;

use smsc_raft::leadership::MonoTime;

/// After the claim: at once, then soon again in case a switch was still learning, then past the time (1 s) within
/// which Linux neighbours ignore further replies.
const OPENING_MS: [u64; 8] = [0, 20, 100, 500, 1_600, 2_700, 3_800, 4_900];
/// While held: keeps switch tables and caches that missed everything so far from pointing at the old owner for good.
const REPEAT: Duration = Duration::from_secs(30);

/// The announcements of one hold: 0, 20, 100, 500 ms, then four more 1.1 s apart, then every 30 s.
#[derive(Clone, Debug)]
pub struct AnnounceSchedule {
    begun: MonoTime,
    sent: usize,
}

impl AnnounceSchedule {
    /// A schedule whose first announcement is due at `now`.
    #[must_use]
    pub fn begin(now: MonoTime) -> Self {
        Self { begun: now, sent: 0 }
    }

    /// When the next announcement is due.
    #[must_use]
    pub fn due(&self) -> MonoTime {
        match OPENING_MS.get(self.sent) {
            Some(offset_ms) => self.begun + Duration::from_millis(*offset_ms),
            None => {
                let opening = Duration::from_millis(OPENING_MS[OPENING_MS.len() - 1]);
                let repeats = u32::try_from(self.sent - OPENING_MS.len() + 1).unwrap_or(u32::MAX);
                self.begun + opening + REPEAT.saturating_mul(repeats)
            }
        }
    }

    /// Takes note that an announcement was sent at `now`; any that a late caller missed are skipped, not made up for.
    pub fn sent(&mut self, now: MonoTime) {
        self.sent += 1;
        while self.due() <= now {
            self.sent += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_the_documented_one() {
        let start = MonoTime::from_nanos(5_000_000_000);
        let mut schedule = AnnounceSchedule::begin(start);
        let mut offsets = Vec::new();
        for _ in 0..10 {
            let due = schedule.due();
            offsets.push(due.since(start).as_millis());
            schedule.sent(due);
        }
        assert_eq!(offsets, vec![0, 20, 100, 500, 1600, 2700, 3800, 4900, 34900, 64900]);
    }

    #[test]
    fn a_late_caller_sends_once_and_goes_on_from_there() {
        let start = MonoTime::from_nanos(0);
        let mut schedule = AnnounceSchedule::begin(start);
        schedule.sent(start + Duration::from_millis(510));
        assert_eq!(schedule.due().since(start).as_millis(), 1600);
    }
}
