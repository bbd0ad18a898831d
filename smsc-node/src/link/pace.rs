//! How fast a link may submit: the configured rate, and less while its message centre says that it is too much. Pure.
//!
//! A message centre that throttles is left alone for a moment, twice as long each time it says so again, and then given
//! half of what it was given when it complained; from there the rate grows by a tenth every second without complaint.

use std::collections::VecDeque;
use std::time::Duration;

use smsc_proto::time::MonoTime;

/// The first pause after a complaint.
const HOLD_MIN: Duration = Duration::from_millis(200);
/// The longest one.
const HOLD_MAX: Duration = Duration::from_secs(30);
/// Over this time the rate of submissions is measured.
const MEASURED: Duration = Duration::from_secs(1);
/// A rate learned by complaints is given up when it has grown to this.
const LEARNED_MAX: f64 = 10_000.0;
/// Submissions remembered to measure the rate.
const REMEMBERED_MAX: usize = 20_000;

/// See the [module](self).
#[derive(Debug)]
pub struct Pace {
    configured: Option<f64>,
    /// What complaints have taught; `None` while there is no reason to hold back.
    learned: Option<f64>,
    tokens: f64,
    filled_at: MonoTime,
    hold_until: MonoTime,
    hold: Duration,
    grown_at: MonoTime,
    sent: VecDeque<MonoTime>,
}

impl Pace {
    /// At most `rate_per_s` submissions per second, 0 for no limit.
    pub fn new(rate_per_s: u32, now: MonoTime) -> Self {
        let configured = (rate_per_s > 0).then_some(f64::from(rate_per_s));
        Self {
            configured,
            learned: None,
            tokens: 1.0,
            filled_at: now,
            hold_until: MonoTime::ZERO,
            hold: HOLD_MIN,
            grown_at: now,
            sent: VecDeque::new(),
        }
    }

    /// The operator has changed the rate.
    pub fn configure(&mut self, rate_per_s: u32) {
        self.configured = (rate_per_s > 0).then_some(f64::from(rate_per_s));
    }

    /// Submissions per second that are allowed now; `None` for no limit.
    pub fn rate(&self) -> Option<f64> {
        match (self.configured, self.learned) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Until when nothing is submitted because of a complaint.
    pub fn held_until(&self, now: MonoTime) -> Option<MonoTime> {
        (self.hold_until > now).then_some(self.hold_until)
    }

    /// When the right to submit comes, if it is not there already. Without what recovery from complaints may add.
    pub fn ready_at(&self, now: MonoTime) -> Option<MonoTime> {
        if let Some(until) = self.held_until(now) {
            return Some(until);
        }
        let rate = self.rate()?;
        let tokens = self.tokens + now.saturating_since(self.filled_at).as_secs_f64() * rate;
        (tokens < 1.0).then(|| now + Duration::from_secs_f64((1.0 - tokens) / rate) + Duration::from_micros(1))
    }

    /// Takes the right to submit once.
    ///
    /// # Errors
    /// When to ask again.
    pub fn take(&mut self, now: MonoTime) -> Result<(), MonoTime> {
        if let Some(until) = self.held_until(now) {
            return Err(until);
        }
        self.grow(now);
        if let Some(rate) = self.rate() {
            // A tenth of a second of burst: submissions stay even.
            let passed = now.saturating_since(self.filled_at).as_secs_f64();
            self.tokens = (self.tokens + passed * rate).min((rate / 10.0).max(1.0));
            self.filled_at = now;
            if self.tokens < 1.0 {
                return Err(now + Duration::from_secs_f64((1.0 - self.tokens) / rate) + Duration::from_micros(1));
            }
            self.tokens -= 1.0;
        }
        self.sent.push_back(now);
        while self.sent.len() > REMEMBERED_MAX || self.sent.front().is_some_and(|at| *at + MEASURED < now) {
            self.sent.pop_front();
        }
        Ok(())
    }

    /// The message centre took a submission.
    pub fn accepted(&mut self, now: MonoTime) {
        if self.held_until(now).is_none() {
            self.hold = HOLD_MIN;
        }
    }

    /// The message centre complained: ESME_RTHROTTLED or ESME_RMSGQFUL. Complaints about what was under way when it
    /// first did count once.
    pub fn throttled(&mut self, now: MonoTime) {
        if self.held_until(now).is_some() {
            return;
        }
        let recent = self.sent.iter().filter(|at| **at + MEASURED >= now).count() as f64;
        let before = self.rate().map_or(recent, |rate| rate.min(recent.max(1.0)));
        self.learned = Some((before / 2.0).max(1.0));
        self.hold_until = now + self.hold;
        self.hold = (self.hold * 2).min(HOLD_MAX);
        self.grown_at = self.hold_until;
        (self.tokens, self.filled_at) = (1.0, self.hold_until);
    }

    fn grow(&mut self, now: MonoTime) {
        let Some(learned) = self.learned else { return };
        let steps = now.saturating_since(self.grown_at).as_secs_f64();
        if steps < 1.0 {
            return;
        }
        self.grown_at = now;
        let grown = learned * 1.1_f64.powf(steps.min(600.0));
        self.learned = (grown < self.configured.unwrap_or(LEARNED_MAX)).then_some(grown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> MonoTime {
        MonoTime::from_nanos(1) + Duration::from_millis(millis)
    }

    /// Submissions that get through between two times, asked for every millisecond.
    fn through(pace: &mut Pace, from: u64, to: u64) -> usize {
        (from..to).filter(|millis| pace.take(at(*millis)).is_ok()).count()
    }

    #[test]
    fn the_configured_rate_is_kept() {
        let mut pace = Pace::new(50, at(0));
        let sent = through(&mut pace, 0, 10_000);
        assert!((495..=506).contains(&sent), "{sent}");
        assert_eq!(through(&mut Pace::new(0, at(0)), 0, 1_000), 1_000);
    }

    #[test]
    fn it_says_when_to_ask_again() {
        let mut pace = Pace::new(10, at(0));
        assert_eq!(pace.take(at(0)), Ok(()));
        let again = pace.take(at(0)).unwrap_err();
        assert!(again > at(99) && again < at(102), "{again:?}");
        assert_eq!(pace.take(again), Ok(()));
    }

    #[test]
    fn a_complaint_halves_the_rate_and_it_recovers() {
        let mut pace = Pace::new(0, at(0));
        assert_eq!(through(&mut pace, 0, 1_000), 1_000);
        pace.throttled(at(1_000));
        pace.throttled(at(1_001));
        assert_eq!(pace.rate(), Some(500.0));
        assert_eq!(through(&mut pace, 1_000, 1_200), 0);
        let slower = through(&mut pace, 1_200, 2_200);
        assert!((490..=560).contains(&slower), "{slower}");
        // Without further complaints the limit goes.
        through(&mut pace, 2_200, 60_000);
        assert_eq!(pace.rate(), None);
    }

    #[test]
    fn complaints_in_a_row_wait_longer_up_to_a_limit() {
        let mut pace = Pace::new(100, at(0));
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..12 {
            let _ = pace.take(at(now));
            pace.throttled(at(now));
            let until = pace.held_until(at(now)).expect("held");
            waits.push(until.saturating_since(at(now)).as_millis());
            now += u64::try_from(waits[waits.len() - 1]).unwrap() + 1;
        }
        assert_eq!(waits[..3], [200, 400, 800]);
        assert_eq!(waits[11], 30_000);
        assert!(pace.rate().is_some_and(|rate| rate >= 1.0));
        pace.accepted(at(now));
        let _ = pace.take(at(now));
        pace.throttled(at(now));
        assert_eq!(pace.held_until(at(now)), Some(at(now + 200)));
    }
}
