//! Simulated handsets: numbers that take messages, refuse them, or are out of reach for a while.
//!
//! Always there for laptops, tests and drills. Pure: the driver hands in messages and the time, and takes out results,
//! alerts and answers. What a number remembers is bounded; a node that takes over derives it from the queue's record.
//! Chance is drawn from a seed with the message and its attempt: the same again gives the same.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use smol_str::SmolStr;
use smsc_proto::types::NetworkErrorCode;
use smsc_raft::model::handset_range::Behaviour;
use smsc_raft::model::{ErrorClass, HandsetRange, Message};

use super::receipt::error_of;
use super::retry::scramble;

/// MAP's unknownSubscriber, which stands for a number that fails for good (3GPP TS 29.002).
const UNKNOWN_SUBSCRIBER: u16 = 1;
/// MAP's absentSubscriber, which stands for a number out of reach (3GPP TS 29.002).
const ABSENT_SUBSCRIBER: u16 = 27;
/// MAP's subscriberBusyForMT-SMS (3GPP TS 29.002).
const SUBSCRIBER_BUSY: u16 = 31;
/// MAP's sm-DeliveryFailure, whose usual cause is a full memory (3GPP TS 29.002).
const DELIVERY_FAILURE: u16 = 32;
/// Draws are in thousandths.
const PERMILLE: u64 = 1_000;

/// How a delivery to a handset ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandsetResult {
    /// The handset has it.
    Delivered,
    /// Not delivered, for now or for good.
    Failed {
        /// Why.
        class: ErrorClass,
        /// network_error_code as the records keep it.
        error: u32,
    },
}

impl HandsetResult {
    fn failed(class: ErrorClass, code: u16, range: Option<&HandsetRange>) -> Self {
        let usual = error_of(NetworkErrorCode { network_type: NetworkErrorCode::GSM, error_code: code });
        // The operator's code stands for what the behaviour does, not for what chance does.
        let error = match range.map_or(0, |range| range.error) {
            0 => usual,
            code if code >> 16 == 0 => u32::from(NetworkErrorCode::GSM) << 16 | code,
            code => code,
        };
        Self::Failed { class, error }
    }
}

/// What a handset reports.
#[derive(Clone, Debug, PartialEq)]
pub enum HandsetEvent {
    /// The delivery of this message has ended.
    Done {
        /// The message.
        id: u64,
        /// How.
        result: HandsetResult,
    },
    /// A number that was out of reach can be reached again.
    Reachable {
        /// The number.
        number: SmolStr,
    },
    /// A handset that took this message answers it.
    Answer {
        /// The handset's number.
        number: SmolStr,
        /// What it answers.
        message: Arc<Message>,
    },
}

/// When a number was first tried in vain.
#[derive(Clone, Copy, Debug)]
struct Absence {
    since_ms: u64,
    /// Tells this absence from a forgotten one of the same number in the order of forgetting.
    stamp: u64,
    /// The alert of its end is set, or was given.
    alerted: bool,
}

/// All simulated handsets of a node.
#[derive(Debug)]
pub struct Handsets {
    /// Results and alerts by the time they come; the second part keeps the order within a millisecond.
    pending: BTreeMap<(u64, u64), HandsetEvent>,
    absences: HashMap<SmolStr, Absence>,
    /// Numbers in the order in which their absence was noticed, the first to be forgotten in front.
    oldest: VecDeque<(SmolStr, u64)>,
    remembered_max: usize,
    alerts: usize,
    stamp: u64,
    seed: u64,
}

impl Handsets {
    /// Handsets that remember at most so many numbers. A number beyond is tried on the retry schedule alone, and one
    /// that is forgotten may be absent a second time.
    pub fn new(remembered_max: usize, seed: u64) -> Self {
        Self {
            pending: BTreeMap::new(),
            absences: HashMap::new(),
            oldest: VecDeque::new(),
            remembered_max: remembered_max.max(1),
            alerts: 0,
            stamp: 0,
            seed,
        }
    }

    /// A delivery begins; [`Handsets::poll`] tells its end, [`HandsetRange::delay_ms`] later.
    ///
    /// `failing_since_ms` is that of the number's queue, 0 when its last attempt did not fail. `None` as range: the
    /// operator removed it while the message waited; that counts as out of reach.
    pub fn deliver(
        &mut self,
        now_ms: u64,
        message: &Arc<Message>,
        number: &SmolStr,
        range: Option<&HandsetRange>,
        failing_since_ms: u64,
    ) {
        let draw = |salt: u64| scramble(self.seed ^ scramble(message.id ^ u64::from(message.attempts) << 48) ^ salt);
        let (fate, pace) = (draw(1) % PERMILLE, draw(2));
        let at_ms = now_ms.saturating_add(range.map_or(0, |range| delay(range, pace)));
        let result = match range {
            None => HandsetResult::failed(ErrorClass::Absent, ABSENT_SUBSCRIBER, None),
            Some(range) => self.attempt(now_ms, number, range, failing_since_ms, fate),
        };
        let id = message.id;
        self.push(at_ms, HandsetEvent::Done { id, result });
        if result == HandsetResult::Delivered && range.is_some_and(|range| range.echo) {
            let answer = HandsetEvent::Answer { number: number.clone(), message: message.clone() };
            self.push(at_ms, answer);
        }
    }

    fn attempt(
        &mut self,
        now_ms: u64,
        number: &SmolStr,
        range: &HandsetRange,
        failing_since_ms: u64,
        fate: u64,
    ) -> HandsetResult {
        let absent = || HandsetResult::failed(ErrorClass::Absent, ABSENT_SUBSCRIBER, Some(range));
        if range.behaviour() == Behaviour::Fail {
            return HandsetResult::failed(ErrorClass::Permanent, UNKNOWN_SUBSCRIBER, Some(range));
        }
        if self.out_of_reach(now_ms, number, range, failing_since_ms) {
            return absent();
        }
        let mut bound = 0;
        let mut drawn = |permille: u32| {
            bound += u64::from(permille);
            fate < bound
        };
        if drawn(range.absent_permille) {
            HandsetResult::failed(ErrorClass::Absent, ABSENT_SUBSCRIBER, None)
        } else if drawn(range.busy_permille) {
            HandsetResult::failed(ErrorClass::Busy, SUBSCRIBER_BUSY, None)
        } else if drawn(range.memory_full_permille) {
            HandsetResult::failed(ErrorClass::MemoryFull, DELIVERY_FAILURE, None)
        } else if drawn(range.fail_permille) {
            HandsetResult::failed(ErrorClass::Permanent, UNKNOWN_SUBSCRIBER, None)
        } else {
            HandsetResult::Delivered
        }
    }

    /// Whether a number cannot be reached now. Of one that comes back at a known time the alert is set.
    fn out_of_reach(&mut self, now_ms: u64, number: &SmolStr, range: &HandsetRange, failing_since_ms: u64) -> bool {
        if range.off {
            // It is remembered, without an end, so that switching on finds it.
            if self.absences.get(number).is_some_and(|absence| absence.alerted) {
                self.forget(number);
            }
            self.absent_since(now_ms, number, u64::MAX, failing_since_ms);
            return true;
        }
        if let Some(back_ms) = window_end(now_ms, number, range) {
            self.forget(number);
            self.absent_since(now_ms, number, back_ms.saturating_sub(now_ms), 0);
            return true;
        }
        if range.behaviour() != Behaviour::Absent {
            return false;
        }
        let absent_ms = u64::from(range.absent_ms);
        let since_ms = self.absent_since(now_ms, number, absent_ms, failing_since_ms);
        since_ms.saturating_add(absent_ms) > now_ms
    }

    /// A number that was tried in vain, perhaps under another leader, is waited for: [`HandsetEvent::Reachable`] comes
    /// at the time at which it would have come there. When that is over it comes only if it is to, `at_once`.
    pub fn watch(&mut self, now_ms: u64, number: &SmolStr, range: &HandsetRange, failing_since_ms: u64, at_once: bool) {
        let there = failing_since_ms > 0 && !self.out_of_reach(now_ms, number, range, failing_since_ms);
        // One that fails for good is never there.
        if there && at_once && range.behaviour() != Behaviour::Fail {
            self.alert(now_ms, number.clone());
        }
    }

    /// The ranges have changed: a number that was switched off when it was tried reports when it is in reach again.
    pub fn changed<'a>(&mut self, now_ms: u64, range_of: impl Fn(&str) -> Option<&'a HandsetRange>) {
        let back = |(number, absence): (&SmolStr, &Absence)| {
            let range = range_of(number).filter(|range| !range.off && !absence.alerted)?;
            let absent_ms = if range.behaviour() == Behaviour::Absent { u64::from(range.absent_ms) } else { 0 };
            let back_ms = absence.since_ms.saturating_add(absent_ms).max(now_ms);
            Some((window_end(back_ms, number, range).unwrap_or(back_ms), number.clone()))
        };
        let mut back: Vec<_> = self.absences.iter().filter_map(back).collect();
        back.sort_unstable();
        for (at_ms, number) in back {
            if let Some(absence) = self.absences.get_mut(&number) {
                absence.alerted = true;
            }
            self.alert(at_ms, number);
        }
    }

    /// The next thing that a handset reports until `now_ms`.
    pub fn poll(&mut self, now_ms: u64) -> Option<HandsetEvent> {
        let first = self.pending.first_entry()?;
        if first.key().0 > now_ms {
            return None;
        }
        let event = first.remove();
        if matches!(event, HandsetEvent::Reachable { .. }) {
            self.alerts -= 1;
        }
        Some(event)
    }

    /// When [`Handsets::poll`] has something to tell, UTC milliseconds.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.pending.first_key_value().map(|(key, _)| key.0)
    }

    /// When the number's absence began: as it is remembered, else as the queue tells, else now. One that is noticed for
    /// the first time ends after `absent_ms`, with an alert.
    fn absent_since(&mut self, now_ms: u64, number: &SmolStr, absent_ms: u64, failing_since_ms: u64) -> u64 {
        if let Some(absence) = self.absences.get(number) {
            return absence.since_ms;
        }
        let since_ms = if failing_since_ms > 0 { failing_since_ms } else { now_ms };
        while self.absences.len() >= self.remembered_max || self.oldest.len() >= 2 * self.remembered_max {
            let Some((forgotten, stamp)) = self.oldest.pop_front() else { break };
            if self.absences.get(&forgotten).is_some_and(|absence| absence.stamp == stamp) {
                self.absences.remove(&forgotten);
            }
        }
        self.stamp += 1;
        let back_at_ms = since_ms.saturating_add(absent_ms);
        let alerted = back_at_ms < u64::MAX;
        self.absences.insert(number.clone(), Absence { since_ms, stamp: self.stamp, alerted });
        self.oldest.push_back((number.clone(), self.stamp));
        if alerted && back_at_ms > now_ms {
            self.alert(back_at_ms, number.clone());
        }
        since_ms
    }

    fn forget(&mut self, number: &str) {
        self.absences.remove(number);
    }

    fn alert(&mut self, at_ms: u64, number: SmolStr) {
        if self.alerts < self.remembered_max {
            self.alerts += 1;
            self.push(at_ms, HandsetEvent::Reachable { number });
        }
    }

    fn push(&mut self, at_ms: u64, event: HandsetEvent) {
        self.stamp += 1;
        self.pending.insert((at_ms, self.stamp), event);
    }
}

fn delay(range: &HandsetRange, pace: u64) -> u64 {
    let longer = u64::from(range.delay_max_ms.saturating_sub(range.delay_ms));
    u64::from(range.delay_ms) + pace % (longer + 1)
}

/// The end of the window in which the number is out of reach now, if it is in one. Each number has windows of its own.
fn window_end(now_ms: u64, number: &str, range: &HandsetRange) -> Option<u64> {
    let (period_ms, window_ms) = (u64::from(range.period_ms), u64::from(range.window_ms));
    if period_ms == 0 || window_ms == 0 {
        return None;
    }
    let phase = number.bytes().fold(0u64, |seed, digit| scramble(seed ^ u64::from(digit))) % period_ms;
    let at_ms = now_ms.wrapping_add(phase) % period_ms;
    (at_ms < window_ms).then(|| now_ms + (window_ms - at_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENT: u32 = 3 << 16 | 27;

    fn range(behaviour: Behaviour) -> HandsetRange {
        let absent_ms = if behaviour == Behaviour::Absent { 7_000 } else { 0 };
        HandsetRange { behaviour: behaviour as i32, absent_ms, delay_ms: 10, ..Default::default() }
    }

    fn deliver(handsets: &mut Handsets, now_ms: u64, id: u64, number: &str, range: &HandsetRange, since_ms: u64) {
        let message = Arc::new(Message { id, ..Default::default() });
        handsets.deliver(now_ms, &message, &SmolStr::from(number), Some(range), since_ms);
    }

    /// Everything that happens until `now_ms`, with the times at which it was due.
    fn run(handsets: &mut Handsets, now_ms: u64) -> Vec<(u64, HandsetEvent)> {
        let mut events = Vec::new();
        while let Some(at_ms) = handsets.next_deadline_ms().filter(|at_ms| *at_ms <= now_ms) {
            events.push((at_ms, handsets.poll(at_ms).unwrap()));
        }
        assert_eq!(handsets.poll(now_ms), None);
        events
    }

    fn done(id: u64, result: HandsetResult) -> HandsetEvent {
        HandsetEvent::Done { id, result }
    }

    fn failed(class: ErrorClass, error: u32) -> HandsetResult {
        HandsetResult::Failed { class, error }
    }

    fn reachable(number: &str) -> HandsetEvent {
        HandsetEvent::Reachable { number: SmolStr::from(number) }
    }

    #[test]
    fn results_come_after_the_delay_of_the_range() {
        let mut handsets = Handsets::new(10, 1);
        deliver(&mut handsets, 100, 1, "1", &range(Behaviour::Deliver), 0);
        deliver(&mut handsets, 100, 2, "2", &range(Behaviour::Fail), 0);
        let refused = failed(ErrorClass::Permanent, 3 << 16 | 1);
        assert_eq!(run(&mut handsets, 109), []);
        assert_eq!(run(&mut handsets, 110), [(110, done(1, HandsetResult::Delivered)), (110, done(2, refused))]);
    }

    #[test]
    fn an_absent_number_comes_back_on_time_and_stays() {
        let mut handsets = Handsets::new(10, 1);
        let range = range(Behaviour::Absent);
        deliver(&mut handsets, 1_000, 1, "1", &range, 0);
        deliver(&mut handsets, 6_000, 2, "1", &range, 1_000);
        let absent = failed(ErrorClass::Absent, ABSENT);
        let events = [(1_010, done(1, absent)), (6_010, done(2, absent)), (8_000, reachable("1"))];
        assert_eq!(run(&mut handsets, 8_000), events);
        deliver(&mut handsets, 8_000, 3, "1", &range, 1_000);
        deliver(&mut handsets, 900_000, 4, "1", &range, 0);
        let delivered = HandsetResult::Delivered;
        assert_eq!(run(&mut handsets, u64::MAX), [(8_010, done(3, delivered)), (900_010, done(4, delivered))]);
    }

    #[test]
    fn a_new_leader_goes_on_from_the_queue() {
        let mut handsets = Handsets::new(10, 1);
        handsets.watch(5_000, &SmolStr::from("1"), &range(Behaviour::Absent), 1_000, false);
        handsets.watch(5_000, &SmolStr::from("2"), &range(Behaviour::Deliver), 1_000, false);
        assert_eq!(run(&mut handsets, u64::MAX), [(8_000, reachable("1"))]);
        let mut late = Handsets::new(10, 1);
        deliver(&mut late, 9_000, 1, "1", &range(Behaviour::Absent), 1_000);
        assert_eq!(run(&mut late, u64::MAX), [(9_010, done(1, HandsetResult::Delivered))]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut handsets = Handsets::new(100, 1);
        let off = HandsetRange { off: true, ..range(Behaviour::Deliver) };
        for number in 0..10_000u64 {
            let range = if number % 2 == 0 { &range(Behaviour::Absent) } else { &off };
            deliver(&mut handsets, number, number, &number.to_string(), range, 0);
            while handsets.poll(number).is_some() {}
            assert!(handsets.absences.len() <= 100 && handsets.oldest.len() <= 200 && handsets.alerts <= 100);
        }
    }

    #[test]
    fn the_operators_error_is_reported() {
        let mut handsets = Handsets::new(10, 1);
        for (error, reported) in [(11, 3 << 16 | 11), (8 << 16 | 2, 8 << 16 | 2)] {
            let range = HandsetRange { error, ..range(Behaviour::Fail) };
            deliver(&mut handsets, 0, 1, "1", &range, 0);
            assert_eq!(run(&mut handsets, 10), [(10, done(1, failed(ErrorClass::Permanent, reported)))]);
        }
    }

    #[test]
    fn what_is_switched_off_reports_when_it_is_switched_on() {
        let mut handsets = Handsets::new(10, 1);
        let on = range(Behaviour::Deliver);
        let off = HandsetRange { off: true, ..on.clone() };
        deliver(&mut handsets, 0, 1, "1", &off, 0);
        assert_eq!(run(&mut handsets, 1_000_000), [(10, done(1, failed(ErrorClass::Absent, ABSENT)))]);
        handsets.changed(1_000_000, |_| Some(&off));
        assert_eq!(run(&mut handsets, 1_000_000), []);
        handsets.changed(1_000_000, |_| Some(&on));
        assert_eq!(run(&mut handsets, 1_000_000), [(1_000_000, reachable("1"))]);
        handsets.changed(1_000_000, |_| Some(&on));
        assert_eq!(run(&mut handsets, u64::MAX), []);
    }

    #[test]
    fn a_number_is_away_in_its_windows_and_says_when_it_is_back() {
        let mut handsets = Handsets::new(10, 1);
        let range = HandsetRange { period_ms: 60_000, window_ms: 20_000, ..range(Behaviour::Deliver) };
        let mut absent = 0;
        for id in 0..600u64 {
            let now_ms = 1_000_000 + id * 100;
            deliver(&mut handsets, now_ms, id, "4917", &range, 0);
            for (at_ms, event) in run(&mut handsets, now_ms + 10) {
                match event {
                    HandsetEvent::Done { result: HandsetResult::Failed { .. }, .. } => absent += 1,
                    HandsetEvent::Reachable { number } => assert_eq!(window_end(at_ms, &number, &range), None),
                    _ => {}
                }
            }
        }
        assert!((198..=202).contains(&absent), "{absent} of 600 fell into the window, a third of the time");
    }

    #[test]
    fn chance_is_as_asked_and_repeatable() {
        let range = HandsetRange {
            absent_permille: 100,
            busy_permille: 200,
            memory_full_permille: 50,
            fail_permille: 25,
            delay_max_ms: 50,
            ..range(Behaviour::Deliver)
        };
        let world = |seed| {
            let mut handsets = Handsets::new(10, seed);
            (0..20_000u64).for_each(|id| deliver(&mut handsets, 0, id, "1", &range, 0));
            run(&mut handsets, u64::MAX)
        };
        let events = world(3);
        assert_eq!(events, world(3));
        let count = |wanted: ErrorClass| {
            let of = |row: &&(u64, HandsetEvent)| matches!(row.1, HandsetEvent::Done { result: HandsetResult::Failed { class, .. }, .. } if class == wanted);
            events.iter().filter(of).count()
        };
        for (class, wanted) in [
            (ErrorClass::Absent, 2_000),
            (ErrorClass::Busy, 4_000),
            (ErrorClass::MemoryFull, 1_000),
            (ErrorClass::Permanent, 500),
        ] {
            assert!(count(class).abs_diff(wanted) < 250, "{class:?}: {} of about {wanted}", count(class));
        }
        assert!(events.iter().all(|row| (10..=50).contains(&row.0)));
    }

    #[test]
    fn an_echo_answers_what_was_delivered() {
        let mut handsets = Handsets::new(10, 1);
        deliver(&mut handsets, 0, 7, "1", &HandsetRange { echo: true, ..range(Behaviour::Deliver) }, 0);
        let events = run(&mut handsets, 10);
        assert!(
            matches!(&events[1].1, HandsetEvent::Answer { message, number } if message.id == 7 && &**number == "1")
        );
        deliver(&mut handsets, 20, 8, "1", &HandsetRange { echo: true, ..range(Behaviour::Fail) }, 0);
        assert_eq!(run(&mut handsets, 100).len(), 1);
    }
}
