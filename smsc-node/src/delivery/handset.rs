//! Simulated handsets: numbers that take messages, refuse them, or are out of reach for a while.
//!
//! Always there for laptops, tests and drills. Pure: the driver hands in messages and the time, and takes out results
//! and alerts. What a number remembers is bounded; a node that takes over derives it from the queue's record.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use smsc_proto::types::NetworkErrorCode;
use smsc_raft::model::HandsetRange;
use smsc_raft::model::handset_range::Behaviour;

use super::receipt::error_of;

/// MAP's absentSubscriber, which stands for a number out of reach (3GPP TS 29.002).
const ABSENT: NetworkErrorCode = NetworkErrorCode { network_type: NetworkErrorCode::GSM, error_code: 27 };
/// MAP's unknownSubscriber, which stands for a number that fails for good (3GPP TS 29.002).
const UNKNOWN_SUBSCRIBER: NetworkErrorCode = NetworkErrorCode { network_type: NetworkErrorCode::GSM, error_code: 1 };

/// How a delivery to a handset ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandsetResult {
    /// The handset has it.
    Delivered,
    /// Out of reach: try again.
    Absent {
        /// network_error_code as the records keep it.
        error: u32,
    },
    /// Never deliverable.
    Failed {
        /// network_error_code as the records keep it.
        error: u32,
    },
}

/// What a handset reports.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        number: Arc<str>,
    },
}

/// When a number was first tried in vain.
#[derive(Clone, Copy, Debug)]
struct Absence {
    since_ms: u64,
    /// Tells this absence from a forgotten one of the same number in the order of forgetting.
    stamp: u64,
}

/// All simulated handsets of a node.
#[derive(Debug)]
pub struct Handsets {
    /// Results and alerts by the time they come; the second part keeps the order within a millisecond.
    pending: BTreeMap<(u64, u64), HandsetEvent>,
    absences: HashMap<Arc<str>, Absence>,
    /// Numbers in the order in which their absence was noticed, the first to be forgotten in front.
    oldest: VecDeque<(Arc<str>, u64)>,
    remembered_max: usize,
    alerts: usize,
    stamp: u64,
}

impl Handsets {
    /// Handsets that remember at most so many numbers. A number beyond is tried on the retry schedule alone, and one
    /// that is forgotten may be absent a second time.
    pub fn new(remembered_max: usize) -> Self {
        Self {
            pending: BTreeMap::new(),
            absences: HashMap::new(),
            oldest: VecDeque::new(),
            remembered_max: remembered_max.max(1),
            alerts: 0,
            stamp: 0,
        }
    }

    /// A delivery begins; [`Handsets::poll`] tells its end, [`HandsetRange::delay_ms`] later.
    ///
    /// `failing_since_ms` is that of the number's queue, 0 when its last attempt did not fail. `None` as range: the
    /// operator removed it while the message waited; that counts as out of reach.
    pub fn deliver(&mut self, now_ms: u64, id: u64, number: &str, range: Option<&HandsetRange>, failing_since_ms: u64) {
        let at_ms = now_ms.saturating_add(range.map_or(0, |range| u64::from(range.delay_ms)));
        let result = match range {
            None => HandsetResult::Absent { error: error_of(ABSENT) },
            Some(range) => match range.behaviour() {
                Behaviour::Deliver => HandsetResult::Delivered,
                Behaviour::Fail => HandsetResult::Failed { error: error(range, UNKNOWN_SUBSCRIBER) },
                Behaviour::Absent => {
                    let since_ms = self.absent_since(now_ms, number, range, failing_since_ms);
                    if back_at(since_ms, range) <= now_ms {
                        HandsetResult::Delivered
                    } else {
                        HandsetResult::Absent { error: error(range, ABSENT) }
                    }
                }
            },
        };
        self.push(at_ms, HandsetEvent::Done { id, result });
    }

    /// A queue waits for a number that was tried in vain under another leader: [`HandsetEvent::Reachable`] comes at
    /// the time at which it would have come there.
    pub fn watch(&mut self, now_ms: u64, number: &str, range: &HandsetRange, failing_since_ms: u64) {
        if range.behaviour() == Behaviour::Absent && failing_since_ms > 0 {
            self.absent_since(now_ms, number, range, failing_since_ms);
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

    /// When the number's absence began: as it is remembered, else as the queue tells, else now.
    fn absent_since(&mut self, now_ms: u64, number: &str, range: &HandsetRange, failing_since_ms: u64) -> u64 {
        if let Some(absence) = self.absences.get(number) {
            return absence.since_ms;
        }
        let since_ms = if failing_since_ms > 0 { failing_since_ms } else { now_ms };
        let number: Arc<str> = Arc::from(number);
        while self.absences.len() >= self.remembered_max {
            let Some((forgotten, stamp)) = self.oldest.pop_front() else { break };
            if self.absences.get(&forgotten).is_some_and(|absence| absence.stamp == stamp) {
                self.absences.remove(&forgotten);
            }
        }
        self.stamp += 1;
        self.absences.insert(number.clone(), Absence { since_ms, stamp: self.stamp });
        self.oldest.push_back((number.clone(), self.stamp));
        let back_at_ms = back_at(since_ms, range);
        if back_at_ms > now_ms && self.alerts < self.remembered_max {
            self.alerts += 1;
            self.push(back_at_ms, HandsetEvent::Reachable { number });
        }
        since_ms
    }

    fn push(&mut self, at_ms: u64, event: HandsetEvent) {
        self.stamp += 1;
        self.pending.insert((at_ms, self.stamp), event);
    }
}

fn back_at(since_ms: u64, range: &HandsetRange) -> u64 {
    since_ms.saturating_add(u64::from(range.absent_ms))
}

fn error(range: &HandsetRange, default: NetworkErrorCode) -> u32 {
    match range.error {
        0 => error_of(default),
        code if code >> 16 == 0 => u32::from(NetworkErrorCode::GSM) << 16 | code,
        code => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(behaviour: Behaviour) -> HandsetRange {
        HandsetRange { behaviour: behaviour as i32, absent_ms: 7_000, delay_ms: 10, ..Default::default() }
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

    #[test]
    fn results_come_after_the_delay_of_the_range() {
        let mut handsets = Handsets::new(10);
        handsets.deliver(100, 1, "1", Some(&range(Behaviour::Deliver)), 0);
        handsets.deliver(100, 2, "2", Some(&range(Behaviour::Fail)), 0);
        let failed = HandsetResult::Failed { error: 3 << 16 | 1 };
        assert_eq!(run(&mut handsets, 109), []);
        assert_eq!(run(&mut handsets, 110), [(110, done(1, HandsetResult::Delivered)), (110, done(2, failed))]);
    }

    #[test]
    fn an_absent_number_comes_back_on_time_and_stays() {
        let mut handsets = Handsets::new(10);
        let range = range(Behaviour::Absent);
        handsets.deliver(1_000, 1, "1", Some(&range), 0);
        handsets.deliver(6_000, 2, "1", Some(&range), 1_000);
        let absent = HandsetResult::Absent { error: 3 << 16 | 27 };
        let reachable = HandsetEvent::Reachable { number: Arc::from("1") };
        assert_eq!(run(&mut handsets, 8_000), [(1_010, done(1, absent)), (6_010, done(2, absent)), (8_000, reachable)]);
        handsets.deliver(8_000, 3, "1", Some(&range), 1_000);
        handsets.deliver(900_000, 4, "1", Some(&range), 0);
        let delivered = HandsetResult::Delivered;
        assert_eq!(run(&mut handsets, u64::MAX), [(8_010, done(3, delivered)), (900_010, done(4, delivered))]);
    }

    #[test]
    fn a_new_leader_goes_on_from_the_queue() {
        let mut handsets = Handsets::new(10);
        handsets.watch(5_000, "1", &range(Behaviour::Absent), 1_000);
        handsets.watch(5_000, "2", &range(Behaviour::Deliver), 1_000);
        assert_eq!(run(&mut handsets, u64::MAX), [(8_000, HandsetEvent::Reachable { number: Arc::from("1") })]);
        let mut late = Handsets::new(10);
        late.deliver(9_000, 1, "1", Some(&range(Behaviour::Absent)), 1_000);
        assert_eq!(run(&mut late, u64::MAX), [(9_010, done(1, HandsetResult::Delivered))]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut handsets = Handsets::new(100);
        for number in 0..10_000u64 {
            handsets.deliver(number, number, &number.to_string(), Some(&range(Behaviour::Absent)), 0);
            while handsets.poll(number).is_some() {}
            assert!(handsets.absences.len() <= 100 && handsets.oldest.len() <= 100 && handsets.alerts <= 100);
        }
    }

    #[test]
    fn the_operators_error_is_reported() {
        let mut handsets = Handsets::new(10);
        for (error, reported) in [(11, 3 << 16 | 11), (8 << 16 | 2, 8 << 16 | 2)] {
            let range = HandsetRange { error, ..range(Behaviour::Fail) };
            handsets.deliver(0, 1, "1", Some(&range), 0);
            assert_eq!(run(&mut handsets, 10), [(10, done(1, HandsetResult::Failed { error: reported }))]);
        }
    }
}
